"""The budget of a search: multiplications, counted and not timed, so that results do not depend on load."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

# Called with the spent share of the effort, from 0 to 1.
Report: TypeAlias = Callable[[float], None]

# Multiplications, at the speed of a float64 matrix product: 2 to 5 seconds on one core of 2024.
DEFAULT_EFFORT: Final = 1e10

# Cost of other operations in such multiplications, measured on one core with AVX-512 and NumPy 2: an SVD per
# m * n * min(m, n), a product in long double, an array of taps checked for a kernel, a call of NumPy.
_SVD: Final = 4.0
_LONG_DOUBLE: Final = 4.0
_TAPS: Final = 1e5
CALL: Final = 3e5


class Effort:
    """The effort of a search: what is allowed and what is spent.

    Parameters
    ----------
    allowed : float
        Multiplications; infinite by default.
    report : callable, optional
        Called with the spent share.

    Attributes
    ----------
    spent : float
        Multiplications so far.
    ended : bool
        Whether a step was skipped because it would have exceeded the effort.
    """

    __slots__ = ("_report", "allowed", "ended", "spent")

    def __init__(self, allowed: float = math.inf, report: Report | None = None) -> None:
        self.allowed, self.spent, self.ended = allowed, 0.0, False
        self._report = report

    @property
    def left(self) -> float:
        """Multiplications left to spend."""
        return max(0.0, self.allowed - self.spent)

    def spend(self, work: float) -> None:
        """Count work that is done whether or not it exceeds the effort."""
        self.spent += work
        if self._report is not None and math.isfinite(self.allowed):
            self._report(min(1.0, self.spent / self.allowed))

    def takes(self, work: float) -> bool:
        """Count work and return True; return False, and count nothing, if it exceeds what is left."""
        if work > self.left:
            self.ended = True
            return False
        self.spend(work)
        return True

    def part(self, share: float) -> Effort:
        """Return a share of what is left as a separate effort; `join` counts its spending."""
        return Effort(share * self.left)

    def join(self, part: Effort) -> None:
        """Count the spending of a part."""
        self.ended |= part.ended
        self.spend(part.spent)


def svd_work(rows: int, columns: int) -> float:
    """Return the work of a singular value decomposition."""
    return _SVD * rows * columns * min(rows, columns) + CALL


def certificate_work(size: int, ndim: int, rank: int) -> float:
    """Return the work of making a kernel of terms and certifying its distance from dense weights."""
    return rank * (_LONG_DOUBLE * size + _TAPS * ndim) + CALL


def certified_rank(size: int, ndim: int, work: float) -> int:
    """Return the number of terms that `work` can certify, at least 1."""
    return max(1, int((work - CALL) / certificate_work(size, ndim, 1))) if math.isfinite(work) else size


def sweep_work(shape: Sequence[int], count: int) -> float:
    """Return the work of a sweep of alternating least squares with `count` terms."""
    size = math.prod(shape)
    return sum(4.0 * size * count + count**2 * (size / n + count) + CALL for n in shape)


def weighted_sweep_work(shape: Sequence[int], count: int) -> float:
    """Return the work of a sweep of weighted least squares: normal equations for every row."""
    size = math.prod(shape)
    return sum(4.0 * size * count + count**2 * (size + n * count) + CALL for n in shape)
