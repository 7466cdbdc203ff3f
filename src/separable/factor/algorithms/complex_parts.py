"""Complex kernels of rank one, such as Gabor's: real and imaginary part in terms that share passes."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ..._base.types import FloatArray
from ...kernel.value import SeparableKernel, Term
from .single import certified, fibres

_WITHIN: Final = 1e-12  # relative l1 error up to which a complex kernel counts as rank one: rounding


def complex_parts(weights: npt.NDArray[Any]) -> tuple[SeparableKernel, SeparableKernel] | None:
    """Return a complex outer product of 1-D taps as two sums of real terms.

    A product of two complex numbers takes four real ones, so that each part has ``2**(n - 1)`` terms along n
    axes; but there are only two arrays of taps along the last axis, and both parts share these passes.

    Parameters
    ----------
    weights : ndarray of complex numbers, two or three axes longer than one

    Returns
    -------
    real, imaginary : SeparableKernel
        Or None where the weights are no outer product, or one of their parts is 0.
    """
    dense = np.asarray(weights, np.complex128)
    long_axes = sum(n > 1 for n in dense.shape)
    if not 2 <= long_axes <= 3 or not np.isfinite(dense).all() or not (dense.real.any() and dense.imag.any()):
        return None
    power = math.frexp(float(max(np.abs(dense.real).max(), np.abs(dense.imag).max())))[1]
    scaled = _times(dense, -power)
    pivot, lines = fibres(scaled)
    lines = [lines[0], *(line / scaled[pivot] for line in lines[1:])]
    product = lines[0]
    for line in lines[1:]:
        product = np.multiply.outer(product, line)
    if np.abs(product - scaled).sum() > _WITHIN * np.abs(scaled).sum():
        return None
    real, imaginary = _expanded([_times(lines[0], power), *lines[1:]])
    return certified(np.array(dense.real), real), certified(np.array(dense.imag), imaginary)


def _times(values: npt.NDArray[np.complex128], power: int) -> npt.NDArray[np.complex128]:
    """Return ``values * 2**power``; ``2**power`` may be out of range."""
    return np.asarray(np.ldexp(values.real, power) + 1j * np.ldexp(values.imag, power))


def _expanded(lines: list[npt.NDArray[np.complex128]]) -> tuple[list[Term], list[Term]]:
    """Return the real and imaginary terms of the product, multiplied out from the last axis."""
    *outer, last = lines
    real: list[Term] = [(_part(last.real),)]
    imaginary: list[Term] = [(_part(last.imag),)]
    for line in reversed(outer):
        plain, turned = _part(line.real), _part(line.imag)
        if not turned.any():
            real, imaginary = [(plain, *t) for t in real], [(plain, *t) for t in imaginary]
            continue
        real, imaginary = (
            [(plain, *t) for t in real] + [(-turned, *t) for t in imaginary],
            [(plain, *t) for t in imaginary] + [(turned, *t) for t in real],
        )
    return _without_zeros(real), _without_zeros(imaginary)


def _part(values: FloatArray) -> FloatArray:
    return np.ascontiguousarray(values, np.float64)


def _without_zeros(terms: list[Term]) -> list[Term]:
    return [term for term in terms if all(taps.any() for taps in term)] or terms[:1]
