"""Normalised convolution with separate exponents, where float64 underflows.

The sum of known weights, and that of samples times weights, may be as small as products of several subnormal
floats, while their quotient is of the size of the samples. Slow: every tap is a pass over the array.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np

from .._base.types import Array
from ..arrays.boundaries import OUTSIDE, sources
from ..arrays.masks import Known
from ..kernel.value import SeparableKernel
from ..methods.method import Setting

_NOTHING: Final = -(1 << 28)  # the exponent of 0
_LOST: Final = -2000  # exponent, relative to the largest addend, from which addends are negligible


class _Numbers(NamedTuple):
    """Numbers ``mantissa * 2**exponent``, and the padding constant."""

    mantissa: Array
    exponent: Array
    outside: tuple[complex, int]

    @classmethod
    def of(cls, x: Array, outside: complex) -> _Numbers:
        beyond = _split(np.array([outside]))
        return cls(*_split(x), (beyond[0].item(), int(beyond[1].item())))

    def at(self, places: Sequence[Array]) -> tuple[Array, Array]:
        """Return mantissas and exponents at indices along each axis, which may be `OUTSIDE`."""
        index = np.ix_(*places)
        mantissa, exponent = self.mantissa[index], self.exponent[index]
        for axis, line in enumerate(places):
            beyond = (slice(None),) * axis + (line == OUTSIDE,)
            mantissa[beyond], exponent[beyond] = self.outside
        return mantissa, exponent


def normalised(x: Array, known: Known, kernel: SeparableKernel | Array, setting: Setting) -> Array:
    """Return the mean of the known samples in reach, weighted by `kernel`; NaN where none is.

    Parameters
    ----------
    x : ndarray
    known : Known
        Which samples are known, and whether the padding constant is.
    kernel : SeparableKernel or ndarray
        Weights of at least 0.
    setting : Setting
        Where it is applied.

    Returns
    -------
    ndarray of float64 or complex128, the shape of `x`
    """
    dense = kernel.dense() if isinstance(kernel, SeparableKernel) and kernel.rank > 1 else kernel
    terms = dense.terms[0] if isinstance(dense, SeparableKernel) else (dense,)
    mask = known.of(x)
    precise = np.complex128 if x.dtype.kind == "c" else np.float64
    cval = setting.cval if known.outside else 0.0
    values = _Numbers.of(
        np.where(mask, x, 0).astype(precise), cval if precise is np.complex128 else cval.real
    )
    weights = _Numbers.of(mask.astype(np.float64), float(known.outside))
    positions = iter(range(len(setting.axes)))
    for taps in terms:
        over = [next(positions) for _ in range(taps.ndim)]
        values, weights = (
            _weighed(numbers, np.flip(taps) if setting.flip else taps, over, setting)
            for numbers in (values, weights)
        )
    with np.errstate(invalid="ignore", divide="ignore"):
        quotient = values.mantissa / weights.mantissa
    return _scaled(quotient, np.where(values.exponent == _NOTHING, 0, values.exponent - weights.exponent))


def _split(x: Array) -> tuple[Array, Array]:
    """Return mantissas of magnitude at most 1, and exponents."""
    size = np.maximum(np.abs(x.real), np.abs(x.imag)) if x.dtype.kind == "c" else np.abs(x)
    exponent = np.where(size > 0, np.frexp(size)[1], _NOTHING)
    return _scaled(x, np.where(size > 0, -exponent, 0)), exponent


def _scaled(x: Array, power: Array) -> Array:
    """Return ``x * 2**power``."""
    if x.dtype.kind != "c":
        return np.ldexp(x, power)
    scaled = np.empty(x.shape, x.dtype)
    scaled.real, scaled.imag = np.ldexp(x.real, power), np.ldexp(x.imag, power)
    return scaled


def _weighed(numbers: _Numbers, weights: Array, over: Sequence[int], setting: Setting) -> _Numbers:
    """Return the correlation of `numbers` with `weights` along the filtered axes `over`."""
    factors = _split(weights)
    top = np.full(numbers.mantissa.shape, _NOTHING)
    for _, power, (mantissa, exponent) in _shifted(numbers, factors, over, setting):
        np.maximum(top, np.where(mantissa != 0, exponent + power, _NOTHING), out=top)
    total = np.zeros_like(numbers.mantissa)
    for factor, power, (mantissa, exponent) in _shifted(numbers, factors, over, setting):
        total += _scaled(mantissa * factor, np.clip(exponent + power - top, _LOST, 0))
    mantissa, exponent = _split(total)
    outside = _Numbers.of(np.array([numbers.outside[0] * weights.sum()]), 0.0)
    beyond = outside.mantissa.item(), int(outside.exponent.item()) + numbers.outside[1]
    return _Numbers(mantissa, np.where(mantissa != 0, exponent + top, _NOTHING), beyond)


def _shifted(
    numbers: _Numbers, factors: tuple[Array, Array], over: Sequence[int], setting: Setting
) -> Iterator[tuple[float, int, tuple[Array, Array]]]:
    """Yield mantissa and exponent of each nonzero weight, and the array shifted and padded to it."""
    mantissas, exponents = factors
    shape = numbers.mantissa.shape
    for place in itertools.product(*map(range, mantissas.shape)):
        if mantissas[place] == 0:
            continue
        lines = [np.arange(n) for n in shape]
        for n, k in zip(over, place, strict=True):
            axis = setting.axes[n]
            lines[axis] = sources(lines[axis] + k - setting.shifts[n], shape[axis], setting.modes[n])
        yield float(mantissas[place]), int(exponents[place]), numbers.at(lines)
