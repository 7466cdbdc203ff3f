"""Kernels of rank one: from the lines through the largest element, exact for integers, or fitted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ..._base.types import FloatArray
from ...kernel.bounds import certified_error, outer
from ...kernel.value import SeparableKernel, Term
from ..forms import Form
from ..parity import centre_parity, parity

_EPS: Final = float(np.finfo(np.float64).eps)

# Maximum sweeps of alternating least squares, which gains a constant factor per sweep: a kernel that needs
# more is far from rank one.
_SWEEPS: Final = 64


def certified(dense: FloatArray, terms: Sequence[Term]) -> SeparableKernel:
    """Return the terms as a kernel with the certified error against the dense one."""
    return SeparableKernel(terms, error=certified_error(dense, terms))


def fibres(values: npt.NDArray[Any]) -> tuple[tuple[int, ...], list[npt.NDArray[Any]]]:
    """Return the index of the largest magnitude and, for each axis, the line of values through it."""
    pivot = tuple(int(i) for i in np.unravel_index(int(np.argmax(np.abs(values))), values.shape))
    lines = []
    for axis in range(values.ndim):
        through: tuple[int | slice, ...] = (*pivot[:axis], slice(None), *pivot[axis + 1 :])
        lines.append(values[through])
    return pivot, lines


def integer_rank_one(dense: FloatArray) -> SeparableKernel | None:
    """Return the exact factors with integer taps of integers times a power of two, or None."""
    scaled_integers = integers_of(dense, 62)
    if scaled_integers is None:
        return None
    integers, lowest = scaled_integers
    pivot, lines = fibres(integers)
    taps = [line // np.gcd.reduce(line) for line in lines]
    taps = [line * np.sign(line[i]) for line, i in zip(taps, pivot, strict=True)]
    factor_out, remainder = divmod(
        int(integers[pivot]), math.prod(int(line[i]) for line, i in zip(taps, pivot, strict=True))
    )
    # No product overflows: no element of the outer product exceeds that at the pivot.
    if remainder or not np.array_equal(outer([taps[0] * factor_out, *taps[1:]]), integers):
        return None
    first = np.ldexp((taps[0] * factor_out).astype(np.float64), lowest)
    return SeparableKernel([tamed([first, *(line.astype(np.float64) for line in taps[1:])])])


def integers_of(dense: FloatArray, bits: int) -> tuple[npt.NDArray[np.int64], int] | None:
    """Return weights as integers below ``2**bits`` times a power of two, and its exponent, or None.

    The integers have no factor of two in common.
    """
    # A float64 is an odd number of at most 53 bits times a power of two; the smallest such power is the unit.
    mantissas, exponents = np.frexp(dense[dense != 0])
    significands = np.ldexp(mantissas, 53).astype(np.int64)
    lowest = int((exponents - 53 + np.frexp((significands & -significands).astype(np.float64))[1] - 1).min())
    if int(exponents.max()) - lowest > bits:
        return None
    return np.ldexp(dense, -lowest).astype(np.int64), lowest


def tamed(taps: list[FloatArray]) -> list[FloatArray]:
    """Return taps with powers of two moved to axis 0 from lines beyond float32's integers."""
    first, *others = taps
    for i, line in enumerate(others):
        shift = math.frexp(float(np.abs(line).max()))[1]
        if shift > 24:  # bits of float32's significand
            others[i] = np.ldexp(line, -shift)
            first = np.ldexp(first, shift)
    return [first, *others]


def cross_rank_one(dense: FloatArray) -> SeparableKernel:
    """Return the outer product of the lines through the largest element, divided by it."""
    pivot, (first, *others) = fibres(dense)
    return certified(dense, [(first, *(line / dense[pivot] for line in others))])


def refined(dense: FloatArray, scaled: FloatArray, exponent: int, start: Term) -> SeparableKernel:
    """Return the rank-one kernel of alternating least squares from `start`."""
    peaked = [line / np.abs(line).max() for line in start]
    taps = [line / np.linalg.norm(line) for line in peaked]
    parities = [parity(line, (0,)) for line in start]
    if not (all(parities) and centre_parity(scaled)):
        parities = [parity(scaled, (axis,)) for axis in range(scaled.ndim)]
    norm = 0.0
    for _ in range(_SWEEPS):
        before = norm
        for axis in range(scaled.ndim):
            line = _contracted(scaled, taps, axis)
            if parities[axis]:
                line = (line + parities[axis] * line[::-1]) / 2
            norm = float(np.linalg.norm(line))
            if norm == 0.0:  # `start` is orthogonal to the kernel
                return certified(dense, [start])
            taps[axis] = line / norm
        if norm <= before * (1 + _EPS):
            break
    place = np.zeros(1, np.intp)
    form = Form(tuple(line[np.newaxis] for line in (taps[0] * norm, *taps[1:])), (place,) * len(taps))
    return certified(dense, form.terms(exponent))


def _contracted(tensor: FloatArray, taps: list[FloatArray], kept: int) -> FloatArray:
    """Return the tensor times all taps but one axis's, shape ``(n_kept,)``."""
    for axis in reversed(range(tensor.ndim)):
        if axis != kept:
            tensor = np.tensordot(tensor, taps[axis], axes=(axis, 0))
    return tensor
