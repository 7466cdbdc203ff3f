"""What reports show."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy.typing as npt

from ..factor import DEFAULT_EFFORT, DEFAULT_TOL, Effort, factored, within
from ..factor.effort import Report
from ..kernel.value import SeparableKernel

# The ranks that are tried on a kernel that does not separate: close where the error falls fastest.
OFFERED_RANKS = (1, 2, 3, 4, 6, 8, 12, 16, 24)


@dataclass(frozen=True)
class Comparison:
    """One work, done by several libraries with one thread each.

    Attributes
    ----------
    work : str
    seconds : mapping of str to float
        Median time of each library, from interleaved runs that write into arrays made before.
    difference : float
        Largest difference of this package's result from SciPy's; the samples lie in 0..1.
    """

    work: str
    seconds: Mapping[str, float]
    difference: float


@dataclass(frozen=True)
class Study:
    """One kernel from dense weights to terms.

    Attributes
    ----------
    name : str
    weights : ndarray
    found : SeparableKernel
    offers : sequence of SeparableKernel
        The kernel at several ranks, from 1; empty if it separates.
    ended : float, optional
        The effort that ended before `found` was as close as it was asked to be.
    """

    name: str
    weights: npt.NDArray[Any]
    found: SeparableKernel
    offers: Sequence[SeparableKernel]
    ended: float | None = None

    @property
    def single(self) -> SeparableKernel:
        """The kernel's best single term."""
        return self.offers[0] if self.offers else self.found

    @property
    def separates(self) -> bool:
        """Whether one term is enough, as `separable.is_separable` has it."""
        return _is_exact(self.single)


def study(
    name: str,
    weights: npt.NDArray[Any],
    tol: float | Literal["noise"] | None = None,
    rank: int | None = None,
    *,
    effort: float = DEFAULT_EFFORT,
    report: Callable[[int], Report] = lambda number: lambda share: None,
) -> Study:
    """Factor a kernel, and at several other ranks too if one term is not enough.

    Parameters
    ----------
    name : str
    weights : ndarray
    tol, rank, effort : optional
        As in `separable.factor`; each number of terms has an effort of its own.
    report : callable, optional
        Given the number of a search, from 1, returns what is told how much of its effort is spent.

    Raises
    ------
    NotSeparableError, TypeError, ValueError
        As `separable.factor`.
    """
    work = Effort(effort, report(1))
    kernel = factored(weights, tol, rank, work)
    missed = work.ended and not within(kernel, tol, rank)
    offers: list[SeparableKernel] = []
    for number, offered in enumerate(sorted({*OFFERED_RANKS, kernel.rank}), start=2):
        again = Effort(effort, report(number))
        offers.append(kernel if offered == kernel.rank else factored(weights, None, offered, again))
        if _is_exact(offers[-1]) or offers[-1].rank < offered:
            break
    return Study(name, weights, kernel, offers if len(offers) > 1 else [], effort if missed else None)


def _is_exact(kernel: SeparableKernel) -> bool:
    return kernel.error.relative_l1 <= DEFAULT_TOL
