"""The choice of the cheapest method for a kernel.

Methods are compared by one figure, whatever the threads of a plan or a call. They round differently: a choice
that depended on the number of threads would change the bits of results.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

from .._base.errors import NotSeparableError
from ..arrays.masks import check_weights
from ..kernel.value import SeparableKernel
from ..methods import METHODS
from ..methods.method import Ask, Refusal, Way

# Numbers of threads whose predicted times are compared.
_THREADS: Final = (1, 4)


def choose(ask: Ask, method: str | None) -> Way:
    """Return the cheapest way to run a kernel, or that of the named method.

    Raises
    ------
    NotSeparableError
        The error of the kernel given exceeds the tolerance.
    ValueError
        The named method does not run the kernel; samples are unknown, and sums cannot be normalised.
    """
    _check_error(ask)
    if ask.setting.masked:
        check_weights(ask.kernel)
    choice = _chosen(ask, method)
    if not ask.setting.masked or choice.kernel.by_weights:
        return choice
    # Over few known samples, terms that cancel are inaccurate, and approximations miss most of the sum.
    one = isinstance(ask.kernel, SeparableKernel) and ask.kernel.rank == 1
    runs = "separable" if one or choice.terms == 1 else "direct"
    if method == choice.method:
        raise ValueError(
            f"with `mask` or nan='omit' this kernel runs with method={runs!r}, but method is {method!r}; "
            "leave `method` out."
        )
    return _chosen(ask, runs)


def _chosen(ask: Ask, method: str | None) -> Way:
    if method is None or method == "auto":
        return min(choices(ask), key=weighed)
    offer = METHODS[method].offer(ask)
    if isinstance(offer, Refusal):
        raise ValueError(f"`method={method!r}` {offer.reason}; pass method='auto' for this kernel.")
    reason = _in_parts(ask, offer)
    if reason is not None:
        raise ValueError(
            f"`method={method!r}` {reason}: parts of an array would not have the bits of the whole; pass "
            "method='auto'."
        )
    return offer


def _check_error(ask: Ask) -> None:
    kernel, tol = ask.kernel, ask.tol
    if not isinstance(kernel, SeparableKernel) or tol is None or kernel.error.relative_l1 <= tol:
        return
    raise NotSeparableError(
        f"this SeparableKernel has a relative l1 error of {kernel.error.relative_l1:.2g} > tol {tol:g}. "
        "Raise tol, or factor the dense weights with more terms.",
        relative_l1=kernel.error.relative_l1,
        tol=tol,
        rank=kernel.rank,
    )


def choices(ask: Ask) -> Iterator[Way]:
    """Yield the ways among which the cheapest is chosen."""
    for method in METHODS:
        if isinstance(way := considered(ask, method), Way):
            yield way


def considered(ask: Ask, method: str) -> Way | Refusal:
    """Return a method's way; a refusal says why it is not chosen unless it is named."""
    reason = METHODS[method].reserved(ask)
    if reason is not None:
        return Refusal(method, reason)
    way = METHODS[method].offer(ask)
    reason = None if isinstance(way, Refusal) else _in_parts(ask, way)
    return way if reason is None else Refusal(method, reason)


def _in_parts(ask: Ask, way: Way) -> str | None:
    """Return why a way is not for arrays in parts; None for arrays as wholes."""
    return way.kernel.differs_in_parts(ask.setting) if ask.setting.parted else None


def weighed(choice: Way) -> float:
    """Return the criterion in seconds: the geometric mean of both predicted times, transforms times 1.15.

    The time of one thread alone would choose transforms of small images, which threads do not share, where
    four threads sweep in a third of the time; that of four threads, sweeps where one thread takes three times
    as long. The geometric mean is within a factor of 1.6 of the least time either way.
    """
    few, many = map(choice.cost.seconds, _THREADS)
    return math.sqrt(few * many) * choice.kernel.handicap
