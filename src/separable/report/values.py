"""What reports show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy.typing as npt

from separable.factor import DEFAULT_TOL, factor
from separable.kernel import SeparableKernel

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
    """

    name: str
    weights: npt.NDArray[Any]
    found: SeparableKernel
    offers: Sequence[SeparableKernel]

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
) -> Study:
    """Factor a kernel, and at several other ranks too if one term is not enough.

    Parameters
    ----------
    name : str
    weights : ndarray
    tol, rank : optional
        As in `separable.factor`.

    Raises
    ------
    NotSeparableError, TypeError, ValueError
        As `separable.factor`.
    """
    found = factor(weights, tol=tol, rank=rank)
    offers: list[SeparableKernel] = []
    for offered in sorted({*OFFERED_RANKS, found.rank}):
        offers.append(found if offered == found.rank else factor(weights, rank=offered))
        if _is_exact(offers[-1]) or offers[-1].rank < offered:
            break
    return Study(name, weights, found, offers if len(offers) > 1 else [])


def _is_exact(kernel: SeparableKernel) -> bool:
    return kernel.error.relative_l1 <= DEFAULT_TOL
