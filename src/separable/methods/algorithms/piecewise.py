"""Kernels that are piecewise constant along an axis: disks, rings, lines, any filled shape.

Summation by parts turns a correlation into a sum of the differences of adjacent weights times running sums of
the samples. Equal neighbours have difference 0: a disk of radius 12 takes 50 additions instead of 441.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Final

import numpy as np

from ..._base.types import Array
from ..._core import DifferencesJob, Mode
from ...cost import model as costs
from ...kernel.value import ErrorBounds, SeparableKernel
from ..method import Ask, Runnable, Setting, Way

_ROUNDING: Final = 8 * float(np.finfo(np.float64).eps)  # relative tolerance of equal weights: 8 roundings
_UNIT_ROUNDOFF: Final = 2.0**-53

_MOST_WEIGHTS: Final = 2**20  # maximum size of a kernel that is examined
_LEVELS: Final = 256  # maximum distinct magnitudes of weights
_MULTIPLES: Final = 24  # largest denominator tried to make the weights, over the smallest, whole numbers
_LARGEST_WHOLE: Final = 2**20  # largest whole weight: with larger ones sums of few samples are inexact

# Maximum samples of a running sum, `kLongestSum` in the core, and the multiple to which tiles are rounded up.
_LONGEST_SUM: Final = 2048
_TILE_ROUNDING: Final = 16

# Whole numbers of up to 16 bits, and floats in fixed point with magnitudes of up to 2**22, are summed modulo
# 2**32, which is exact while every result fits 32 bits.
_WORD: Final = 2.0**31
_LARGEST_SMALL: Final = 65535.0
_LARGEST_MULTIPLE: Final = 2.0**22

# Nanoseconds per sample of a sweep, and of each difference, in 32-bit words and in floats. One AVX-512 core;
# disks of radius 3 to 50 on 256x1024 arrays, balls of radius 2 to 6 on 20x48x128 arrays; within 25 %.
_WORDS_COST: Final = (0.6, 0.034)
_FLOATS_COST: Final = (0.9, 0.068)


@dataclass(frozen=True, eq=False, slots=True)
class PiecewiseForm(Runnable):
    """A kernel as ``weights / divisor``, and the axis with the fewest differences of weights."""

    weights: Array
    axis: int
    divisor: float
    differences: int
    exact: bool  # the weights are whole numbers, and sums are divided once
    error: ErrorBounds  # of the kernel
    fixed_point: bool = False  # floats are rounded to fixed point before they are summed

    @property
    def divides(self) -> bool:
        """True."""
        return True

    @property
    def approximate(self) -> bool:
        """Whether floats are rounded to fixed point before they are summed."""
        return self.fixed_point

    @property
    def macs(self) -> int:
        """Operations per sample: one for the running sum, one per difference."""
        return self.differences + 1

    @property
    def _growth(self) -> float:
        """The largest intermediate magnitude over that of the samples."""
        jumps = float(np.abs(_differences(self.weights, self.axis)).sum())
        return jumps * _longest_sum(self.weights.shape[self.axis])

    def exact_limit(self, dtype: np.dtype[Any]) -> float:
        """Return the largest magnitude of whole numbers that are filtered without rounding.

        0 where weights are not whole, or the divisor is itself rounded.
        """
        divides = self.divisor.is_integer() or math.frexp(self.divisor)[0] == 0.5
        return math.floor(2.0**53 / self._growth) if self.exact and divides else 0.0

    @property
    def error_on_floats(self) -> ErrorBounds:
        """The error plus that of rounding, for samples that are not whole numbers.

        In float64 each of n additions rounds by ``2**-53`` of a sum of at most n samples, and so do the
        products and the sums of differences (Higham, Accuracy and Stability of Numerical Algorithms, section
        4.2), in both parts of complex samples. In fixed point only the samples are rounded.
        """
        norm = float(np.abs(self.weights).sum())
        if self.fixed_point:
            relative = 1 / min(_WORD / norm - 1, _LARGEST_MULTIPLE)
        else:
            steps = _longest_sum(self.weights.shape[self.axis]) + self.differences + 4
            rounding = steps * _UNIT_ROUNDOFF / (1 - steps * _UNIT_ROUNDOFF)
            relative = math.sqrt(2) * self._growth / norm * rounding
        kernel_error = self.error
        return ErrorBounds(
            kernel_error.l1 + relative * norm / self.divisor,
            kernel_error.relative_l1 + relative,
            kernel_error.relative_l2,
        )

    def flipped(self) -> PiecewiseForm:
        """Return the form of the kernel flipped along every axis."""
        return replace(self, weights=np.ascontiguousarray(np.flip(self.weights)))

    def fits_words(self, dtype: np.dtype[Any]) -> bool:
        """Return whether whole numbers filtered in `dtype` are summed in 32-bit words, in half the time."""
        norm = float(np.abs(self.weights).sum())
        return self.exact and dtype.char == "f" and norm * _LARGEST_SMALL < _WORD

    def within(self, tol: float | None, dtype: np.dtype[Any]) -> PiecewiseForm:
        """Return the fixed-point form if it filters floats of `dtype` within `tol`, else this one."""
        jumps = np.abs(_differences(self.weights, self.axis))
        words = np.all(np.rint(jumps) == jumps) and float(jumps.max()) <= _LARGEST_MULTIPLE
        if tol is None or dtype.char != "f" or not words or 2 * np.abs(self.weights).sum() > _WORD:
            return self
        fixed = replace(self, fixed_point=True)
        return fixed if fixed.error_on_floats.relative_l1 <= tol else self

    def summed_in(self, setting: Setting) -> np.dtype[Any]:
        """Return float64; 32-bit words, where they are used, are as exact."""
        return np.dtype(np.float64)

    def differs_in_parts(self, setting: Setting) -> str | None:
        """Return a reason for floats: sums start at tiles, or have the scale of the largest sample."""
        if setting.whole and self.exact:
            return None
        return "sums floats from the tiles' first samples on, or in a fixed point that the samples decide"

    def nanoseconds(self, *, words: bool = False) -> float:
        """Return nanoseconds per sample; `words`: of whole numbers summed in 32-bit words."""
        sweep, per_difference = _WORDS_COST if words or self.fixed_point else _FLOATS_COST
        return sweep + per_difference * self.differences

    def noise(self, setting: Setting, unit: float, norm: float) -> float:
        """Return a bound of the rounding errors on samples of 1, as in `error_on_floats`."""
        return (self.error_on_floats.relative_l1 - self.error.relative_l1) * norm

    def job(self, setting: Setting, shape: tuple[int, ...], dtype: str, cval: float) -> DifferencesJob:
        """Return the job that sums differences of weights times running sums."""
        lines = setting.lines(len(shape))
        weights = np.ascontiguousarray(self.weights.transpose(np.argsort(setting.axes)))
        shifts, codes = tuple(line.shift for line in lines), tuple(Mode[line.mode] for line in lines)
        lengths = [line.taps for line in lines]
        along = setting.axes[self.axis]
        return DifferencesJob(
            shape, weights.reshape(lengths), along, shifts, codes, cval, self.divisor, self.fixed_point
        )


def filled(form: PiecewiseForm, ask: Ask) -> Way:
    """Return the way that runs a form: in fixed point where that filters floats within the tolerance."""
    setting = ask.setting
    exact = setting.whole and form.exact
    if not exact:
        form = form.within(ask.tol, setting.dtype)
    error = form.error if exact else form.error_on_floats
    words = exact and form.fits_words(setting.dtype)
    counts = {"running": form.nanoseconds(words=words), "distant": float(setting.distant)}
    return Way.of("box", form, error, costs.of_call(counts, setting.samples, setting.rates))


def piecewise_form(kernel: SeparableKernel | Array) -> PiecewiseForm | None:
    """Return the piecewise constant form of `kernel`; None where no fewer differences than weights remain.

    Weights count as equal, and as multiples of each other, within 8 roundings of float64.
    """
    axes = [axis for axis, n in enumerate(kernel.shape) if n > 1]
    if not axes or math.prod(kernel.shape) > _MOST_WEIGHTS:
        return None
    dense = np.asarray(kernel.dense() if isinstance(kernel, SeparableKernel) else kernel, np.float64)
    negligible = _ROUNDING * float(np.abs(dense).max())
    if all(
        np.count_nonzero(np.abs(_differences(dense, a)) > negligible) >= np.count_nonzero(dense) for a in axes
    ):
        return None  # most kernels: decided without sorting
    weights = _levelled(dense)
    if weights is None:
        return None
    count, axis = min((int(np.count_nonzero(_differences(weights, axis))), -axis) for axis in axes)
    if count >= np.count_nonzero(weights):
        return None
    error = kernel.error if isinstance(kernel, SeparableKernel) else ErrorBounds()
    fraction = _whole(weights)
    scaled, divisor = fraction or (weights, 1.0)
    return PiecewiseForm(scaled, -axis, divisor, count, fraction is not None, error)


def _differences(weights: Array, axis: int) -> Array:
    zeros = np.zeros_like(weights.take([0], axis))
    return np.diff(np.concatenate([zeros, weights, zeros], axis), axis=axis)


def _longest_sum(taps: int) -> int:
    """Return the maximum samples of a running sum, for a kernel of `taps` along its axis."""
    return max(_LONGEST_SUM, 3 * taps) + _TILE_ROUNDING


def _levelled(weights: Array) -> Array | None:
    """Return `weights` with magnitudes equal within rounding made equal; None if too many are distinct."""
    values, places = np.unique(np.abs(weights), return_inverse=True)
    starts = np.diff(values, prepend=-1.0) > _ROUNDING * values
    levels = values[starts][np.cumsum(starts) - 1]
    if values[-1] == 0 or np.count_nonzero(starts) > _LEVELS or np.any(values - levels > _ROUNDING * levels):
        return None
    levelled: Array = np.copysign(levels[places.reshape(weights.shape)], weights)
    return levelled


def _whole(weights: Array) -> tuple[Array, float] | None:
    """Return whole numbers and the divisor that gives `weights`, or None.

    The divisor is whole unless the weights are multiples of an irrational number.
    """
    smallest = float(np.abs(weights[weights != 0]).min())
    ratios = weights / smallest
    for count in range(1, _MULTIPLES + 1):
        multiples = np.rint(ratios * count)
        if np.all(np.abs(ratios * count - multiples) <= _ROUNDING * np.abs(multiples)):
            break
    else:
        return None
    largest = float(np.abs(multiples).max())
    if largest > _LARGEST_WHOLE or smallest < 2 * _MULTIPLES * np.finfo(np.float64).tiny:
        return None
    divisor = count / smallest
    if abs(divisor - round(divisor)) <= _ROUNDING * divisor:
        return multiples, float(round(divisor))
    unit = Fraction(1 / divisor).limit_denominator(_LARGEST_WHOLE)
    if abs(unit * divisor - 1) <= _ROUNDING and unit.numerator * largest <= _LARGEST_WHOLE:
        return multiples * unit.numerator, float(unit.denominator)
    return multiples, divisor
