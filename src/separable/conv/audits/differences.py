"""How far the outputs of a network are from those of another way to run it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..._base.types import Array

__all__ = ["largest_difference"]


def largest_difference(given: Sequence[Array], wanted: Sequence[Array]) -> float:
    """Return the largest difference of arrays, relative to the largest number of each.

    Parameters
    ----------
    given, wanted : sequence of ndarray

    Returns
    -------
    float
        Infinity where shapes differ, or what is NaN or infinite.
    """
    if len(given) != len(wanted):
        return math.inf
    return max((_difference(*pair) for pair in zip(given, wanted, strict=True)), default=0.0)


def _difference(given: Array, wanted: Array) -> float:
    if given.shape != wanted.shape:
        return math.inf
    a, b = np.asarray(given, np.float64), np.asarray(wanted, np.float64)
    finite = np.isfinite(b)
    if not np.array_equal(a[~finite], b[~finite], equal_nan=True) or not np.isfinite(a[finite]).all():
        return math.inf
    if not finite.any():
        return 0.0
    apart, most = float(np.abs(a[finite] - b[finite]).max()), float(np.abs(b[finite]).max())
    return apart / most if most else apart
