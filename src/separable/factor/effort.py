"""How much a search may take: work that is counted, not timed, so that what it finds depends on no load."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

# Told the share of the work that is spent, from 0 to 1.
Report: TypeAlias = Callable[[float], None]

# Multiplications, as those of a product of matrices in float64: 2 to 5 seconds on one core of 2024.
DEFAULT_EFFORT: Final = 1e10

# What else takes time, in those (measured on one core with AVX-512, NumPy 2): a singular value decomposition
# for each of its m * n * min(m, n), a product in long double, taps that become a kernel, a call of NumPy.
_SVD: Final = 4.0
_LONG_DOUBLE: Final = 4.0
_TAPS: Final = 1e5
CALL: Final = 3e5


class Effort:
    """What a search may still spend.

    Parameters
    ----------
    allowed : float
        Multiplications; infinite by default.
    report : callable, optional
        Told how far they are spent.

    Attributes
    ----------
    spent : float
        Multiplications so far.
    ended : bool
        Whether something was left out because it would have taken more than is left.
    """

    __slots__ = ("_report", "allowed", "ended", "spent")

    def __init__(self, allowed: float = math.inf, report: Report | None = None) -> None:
        self.allowed, self.spent, self.ended = allowed, 0.0, False
        self._report = report

    @property
    def left(self) -> float:
        """Multiplications that may still be spent."""
        return max(0.0, self.allowed - self.spent)

    def spend(self, work: float) -> None:
        """Count work that is done in any case."""
        self.spent += work
        if self._report is not None and math.isfinite(self.allowed):
            self._report(min(1.0, self.spent / self.allowed))

    def takes(self, work: float) -> bool:
        """Count work and return True; False, and nothing counted, where it is more than is left."""
        if work > self.left:
            self.ended = True
            return False
        self.spend(work)
        return True

    def part(self, share: float) -> Effort:
        """Return a share of what is left as an effort of its own; `join` counts what it spent."""
        return Effort(share * self.left)

    def join(self, part: Effort) -> None:
        """Count what a part spent."""
        self.ended |= part.ended
        self.spend(part.spent)


def svd_work(rows: int, columns: int) -> float:
    """Return what a singular value decomposition takes."""
    return _SVD * rows * columns * min(rows, columns) + CALL


def certificate_work(size: int, ndim: int, rank: int) -> float:
    """Return what it takes to make a kernel of terms and to certify its distance from dense weights."""
    return rank * (_LONG_DOUBLE * size + _TAPS * ndim) + CALL


def certified_rank(size: int, ndim: int, work: float) -> int:
    """Return how many terms can be certified with so much work, at least 1."""
    return max(1, int((work - CALL) / certificate_work(size, ndim, 1))) if math.isfinite(work) else size


def sweep_work(shape: Sequence[int], count: int) -> float:
    """Return what a sweep of alternating least squares with `count` terms takes over a kernel."""
    size = math.prod(shape)
    return sum(4.0 * size * count + count**2 * (size / n + count) + CALL for n in shape)


def weighted_sweep_work(shape: Sequence[int], count: int) -> float:
    """Return what a sweep takes in which every sample has a weight: normal equations for every row."""
    size = math.prod(shape)
    return sum(4.0 * size * count + count**2 * (size + n * count) + CALL for n in shape)
