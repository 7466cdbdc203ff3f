"""Filters of whole numbers: the limit of exact arithmetic, and means as sums that are divided once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from .._base.types import Array
from ..kernel.value import SeparableKernel

# Largest magnitude of an integer by its dtype's char; precomputed, as every call looks one up.
_LARGEST: Final = {"?": 1.0} | {
    char: float(max(int(np.iinfo(char).max), -int(np.iinfo(char).min))) for char in "bBhHiIlLqQ"
}


def exact_limit(kernel: SeparableKernel | Array, dtype: np.dtype[Any]) -> float:
    """Return the largest magnitude of whole numbers that `kernel` filters in `dtype` without any rounding.

    Taps are whole numbers times a power of two: every partial sum is a multiple of the smallest such power
    and at most the sum of magnitudes, so it is exact while their ratio fits the significand. 0: not even 1.
    """
    kernel_terms: Sequence[Sequence[Array]] = (
        kernel.terms if isinstance(kernel, SeparableKernel) else [[kernel]]
    )
    terms = [term for term in kernel_terms if all(taps.any() for taps in term)]
    significand = 2.0 ** (np.finfo(dtype).nmant + 1)
    if not terms:
        return significand
    # Exponents apart from the sums, so that the scale of the kernel neither over- nor underflows.
    powers = [[math.frexp(float(np.abs(taps).max()))[1] for taps in term] for term in terms]
    unit = min(sum(map(_unit, term)) for term in terms)
    if max(map(sum, powers)) - unit > 2 * np.finfo(np.float64).nmant:
        return 0.0
    total = sum(
        math.ldexp(math.prod(map(_sum, term, exponents)), sum(exponents) - unit)
        for term, exponents in zip(terms, powers, strict=True)
    )
    return float(math.floor(significand / total))


def _sum(taps: Array, power: int) -> float:
    return float(np.abs(np.ldexp(taps, -power)).sum())


def _unit(taps: Array) -> int:
    """Return the exponent of the largest power of two that divides every tap."""
    mantissa, exponent = np.frexp(taps[taps != 0])
    significands = np.ldexp(mantissa, 53).astype(np.int64)
    lowest = np.frexp((significands & -significands).astype(np.float64))[1] - 1  # the lowest bit set
    return int((lowest + exponent - 53).min())


def summing(kernel: SeparableKernel) -> tuple[SeparableKernel, float] | None:
    """Return a box mean as a kernel of ones and its divisor; None for other kernels."""
    if kernel.rank != 1 or kernel.error.l1 != 0:
        return None
    if any(taps[0] <= 0 or (taps != taps[0]).any() for taps in kernel.terms[0]):
        return None
    weight = math.prod(float(taps[0]) for taps in kernel.terms[0])
    if kernel.size == 1 or abs(weight * kernel.size - 1) > 4 * kernel.ndim * np.finfo(np.float64).eps:
        return None
    return SeparableKernel([[np.ones(n) for n in kernel.shape]]), float(kernel.size)


def largest(dtype: np.dtype[Any]) -> float:
    """Return the largest magnitude that an integer `dtype` holds; infinity for other dtypes."""
    return _LARGEST.get(dtype.char, math.inf)
