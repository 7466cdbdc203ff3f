"""Choosing how to run a kernel by what it costs.

Ways are compared by one figure, whatever the threads of a plan or a call. They round differently: chosen for
so many threads, the same filter would give other bits where fewer are free.
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

# Ways are compared by what so few and so many threads are predicted to take.
_THREADS: Final = (1, 4)

# Transforms have to be faster by so much: the other ways round within their windows, and take less memory.
_WORTH: Final = 1.15


def choose(ask: Ask, method: str | None) -> Way:
    """Return the fastest way to run a kernel, or the one that `method` names.

    Raises
    ------
    NotSeparableError
        The kernel errs more than the tolerance already.
    ValueError
        It does not run in the way that `method` names; samples are unknown, and it cannot be normalised.
    """
    _check_error(ask)
    if ask.setting.masked:
        check_weights(ask.kernel)
    choice = _chosen(ask, method)
    if not ask.setting.masked or choice.kernel.by_weights:
        return choice
    # Where terms cancel it is no sum of terms, and where it is little an approximation misses most of it.
    one = isinstance(ask.kernel, SeparableKernel) and ask.kernel.rank == 1
    runs = "separable" if one or choice.method == "recursive" else "direct"
    if method == choice.method:
        raise ValueError(
            f"with `mask` or nan='omit' this kernel runs with method={runs!r}, but method is {method!r}; "
            "leave `method` out."
        )
    return _chosen(ask, runs)


def _chosen(ask: Ask, method: str | None) -> Way:
    if method is None or method == "auto":
        return min(choices(ask), key=weighed)
    found = METHODS[method].offer(ask)
    if isinstance(found, Refusal):
        raise ValueError(f"`method={method!r}` {found.reason}; pass method='auto' for this kernel.")
    return found


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
    """Yield the ways among which the cheapest is taken."""
    for method in METHODS:
        if isinstance(found := considered(ask, method), Way):
            yield found


def considered(ask: Ask, method: str) -> Way | Refusal:
    """Return the way of that name; a refusal says why it is not chosen without being asked for."""
    reason = METHODS[method].reserved(ask)
    return METHODS[method].offer(ask) if reason is None else Refusal(method, reason)


def weighed(choice: Way) -> float:
    """Return what ways are compared by, in seconds: on few threads and on many, transforms dearer.

    By one thread's time alone, transforms of small images, which threads do not share, would be taken where
    four threads sweep in a third of their time; by four threads' time, sweeps where one thread takes three
    times as long. The geometric mean is within 1.6 of the least either way.
    """
    few, many = map(choice.cost.seconds, _THREADS)
    return math.sqrt(few * many) * (_WORTH if choice.method == "fft" else 1.0)
