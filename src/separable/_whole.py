"""Filters of whole numbers: where their arithmetic is exact, and means as sums divided once."""

from __future__ import annotations

import math
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from .kernel import SeparableKernel

Array: TypeAlias = npt.NDArray[Any]

# By the letter of a dtype, which every filter looks up.
_LARGEST: Final = {"?": 1.0} | {
    char: float(max(int(np.iinfo(char).max), -int(np.iinfo(char).min))) for char in "bBhHiIlLqQ"
}


def exact_limit(kernel: SeparableKernel | Array, dtype: np.dtype[Any]) -> float:
    """Return the largest magnitude of whole numbers that `kernel` filters in `dtype` without any rounding.

    Taps are whole numbers times a power of two, so that every partial sum is a multiple of the smallest
    such power and at most the largest sum of magnitudes: exact while that ratio fits the significand. 0
    where not even 1 does.
    """
    terms = kernel.terms if isinstance(kernel, SeparableKernel) else [[np.asarray(kernel)]]
    unit, total = math.inf, 0.0
    for term in terms:
        magnitude = math.prod(float(np.abs(taps).sum()) for taps in term)
        if magnitude == 0:
            continue
        unit = min(unit, math.prod(_unit(taps) for taps in term))
        total += magnitude
    significand = 2.0 ** (np.finfo(dtype).nmant + 1)
    if total == 0:
        return significand
    return math.floor(significand * (unit / total)) if unit > 0 else 0.0


def _unit(taps: Array) -> float:
    """Return the largest power of two that divides every tap."""
    mantissa, exponent = np.frexp(taps[taps != 0])
    whole = np.ldexp(mantissa, 53).astype(np.int64)
    lowest = (whole & -whole).astype(np.float64)  # the lowest bit set
    return float(np.ldexp(lowest, exponent - 53).min())


def summing(kernel: SeparableKernel) -> tuple[SeparableKernel, float] | None:
    """Return a mean's kernel as taps of 1 and the number of samples to divide by; None for other kernels."""
    if kernel.rank != 1 or kernel.error.l1 != 0:
        return None
    if any(taps[0] <= 0 or (taps != taps[0]).any() for taps in kernel.terms[0]):
        return None
    weight = math.prod(float(taps[0]) for taps in kernel.terms[0])
    if kernel.size == 1 or abs(weight * kernel.size - 1) > 4 * kernel.ndim * np.finfo(np.float64).eps:
        return None
    return SeparableKernel([[np.ones(n) for n in kernel.shape]]), float(kernel.size)


def largest(dtype: np.dtype[Any]) -> float:
    """Return the largest magnitude an array of `dtype` can hold; infinity unless they are whole numbers."""
    return _LARGEST.get(dtype.char, math.inf)
