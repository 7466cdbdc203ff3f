"""Filters of whole numbers: where their arithmetic is exact, and means as sums divided once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from .._base.types import Array
from ..kernel.value import SeparableKernel

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
    given: Sequence[Sequence[Array]] = kernel.terms if isinstance(kernel, SeparableKernel) else [[kernel]]
    terms = [term for term in given if all(taps.any() for taps in term)]
    significand = 2.0 ** (np.finfo(dtype).nmant + 1)
    if not terms:
        return significand
    # In powers of two beside the sums, so that the scale of the kernel does not matter.
    powers = [[math.frexp(float(np.abs(taps).max()))[1] for taps in term] for term in terms]
    unit = min(sum(map(_unit, term)) for term in terms)
    if max(map(sum, powers)) - unit > 2 * np.finfo(np.float64).nmant:
        return 0.0
    total = sum(
        math.ldexp(math.prod(map(_sum, term, own)), sum(own) - unit)
        for term, own in zip(terms, powers, strict=True)
    )
    return float(math.floor(significand / total))


def _sum(taps: Array, power: int) -> float:
    return float(np.abs(np.ldexp(taps, -power)).sum())


def _unit(taps: Array) -> int:
    """Return the exponent of the largest power of two that divides every tap."""
    mantissa, exponent = np.frexp(taps[taps != 0])
    whole = np.ldexp(mantissa, 53).astype(np.int64)
    lowest = np.frexp((whole & -whole).astype(np.float64))[1] - 1  # the lowest bit set
    return int((lowest + exponent - 53).min())


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
