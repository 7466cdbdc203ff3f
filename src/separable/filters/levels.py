"""Filters of integers: bounds of rounding errors where an image is constant, and of results.

In constant regions a filter gives the value times the sum of the weights, up to rounding errors. Stored in
integers, the level is kept if those errors are below a fraction of a step: in float32, in float64, or by
clipping results to the bounds implied by the samples.
"""

from __future__ import annotations

import functools
import math
from typing import Any, Final, NamedTuple

import numpy as np

from .._base.types import Array
from ..arrays import exact as whole
from ..arrays.output import Bounds, Rounding, check_names, integer_range
from ..kernel.value import SeparableKernel, Term
from ..methods.method import Runnable, Setting, Weights

# Maximum rounding error in constant regions, in integer steps; truncation snaps other values by as much.
_LIMIT: Final = {"nearest": 1 / 4, "truncate": 1 / 8}

# Maximum weights of a kernel of several terms whose dense form is computed to find its negative weights.
_WRITTEN_OUT: Final = 1 << 16

# By bytes of the dtype.
_UNIT_ROUNDOFF: Final = {4: 2.0**-24, 8: 2.0**-53}

# Negative exponent of the smallest sums and weights, relative to 1, that are certain to have lost no bits to
# underflow; by bytes of the dtype.
_SMALL: Final = {4: 100, 8: 950}

# Ratio of l1 norm to sum of the weights above which a kernel counts as a difference (a derivative).
_CANCELS: Final = 16.0

# Fractional bits to which a sum of weights is rounded, where that is within the rounding of the weights.
_BITS: Final = 8


class Floors(NamedTuple):
    """The thresholds below which normalised results may have lost bits to underflow."""

    least: float  # of the sum of known weights; 0 where it cannot be that small
    small: float  # of the sum of samples times weights


class Levels(NamedTuple):
    """Sums of a kernel's weights, and the rounding errors of the form in which it runs.

    Attributes
    ----------
    total, norm, negative : float
        The sum of the weights; the l1 norm; the sum of the magnitudes of negative weights, or more.
    least : float
        The smallest magnitude of a nonzero weight, or less.
    noise : float
        Bound of the rounding errors on an array of ones.
    unit : float
        The unit roundoff of the dtype that the plan computes in.
    wide : bool
        Sums are accumulated in float64, whatever the plan computes in.
    approximate : bool
        The kernel that runs differs from the one given.
    """

    total: float
    norm: float
    negative: float
    least: float
    noise: float
    unit: float
    wide: bool
    approximate: bool

    def error(self, source: np.dtype[Any], output: np.dtype[Any], masked: bool) -> float:
        """Return a bound of the rounding errors in constant regions of integers, in steps of the output.

        Parameters
        ----------
        source, output : dtype
            Of the samples, and of the integers that are stored.
        masked : bool
            Results are normalised: divided by the known weights.
        """
        most, last = whole.largest(source), float(max(map(abs, integer_range(output))))
        if not math.isfinite(most):  # floats: as large as can be stored
            most = last / (self._share or 1.0)
        elif self.total:
            most = min(most, last / abs(self.total))
        magnitude = most * self.norm
        if not math.isfinite(magnitude) or magnitude == 0:
            return math.inf if magnitude else 0.0
        noise = self._normalised if masked else self.noise
        # Errors are those at the largest sums: half an ULP there.
        return noise * most * 2.0 ** math.floor(math.log2(magnitude)) / magnitude

    def relative(self, masked: bool) -> float:
        """Return the bound of the rounding errors in constant regions, relative to results there."""
        return (self._normalised if masked else self.noise) / (self._share or 1.0)

    @property
    def _share(self) -> float:
        """The gain in constant regions or, for derivatives, where it is about 0, the l1 norm."""
        return abs(self.total) if abs(self.total) * _CANCELS >= self.norm else self.norm

    @property
    def _normalised(self) -> float:
        # The sum of known weights rounds as the other sum; a quotient and a product round as well.
        return 2 * self.noise + 4 * self.unit * self.norm

    def bounds(self, outside: float | None, masked: bool) -> Bounds:
        """Return the bounds of results; `outside` is the padding constant, None where samples pad."""
        return Bounds(self.total, 0.0 if masked else self.negative, outside)

    def floors(self, item: int) -> Floors:
        """Return the thresholds of weak normalised results in floats of `item` bytes."""
        small = 2.0 ** -_SMALL[item] * max(1.0, abs(self.total))
        return Floors(0.0 if self.least >= small else small, small)


class Verdict(NamedTuple):
    """How results stored in integers are computed and stored."""

    exact: bool  # there is no rounding error
    double: bool  # in float64, where the plan is for float32
    bounded: bool  # clipped to the bounds implied by the samples
    error: float  # relative rounding error of values that are not exact


@functools.lru_cache(maxsize=1024)
def verdict(
    levels: Levels,
    exact_limit: float,
    divided: bool,
    source: np.dtype[Any],
    output: np.dtype[Any],
    masked: bool,
    rounding: Rounding,
) -> Verdict:
    """Return how to filter samples of `source` so that integers of `output` keep constant levels.

    Parameters
    ----------
    levels : Levels
    exact_limit : float
        Largest magnitude of whole numbers that are filtered without rounding.
    divided : bool
        The jobs give sums that are divided when they are stored.
    source, output : dtype
    masked : bool
        Results are normalised.
    rounding : {"nearest", "truncate"}
    """
    if rounding not in _LIMIT:
        check_names(rounding, "saturate")
    exact = whole.largest(source) <= exact_limit
    if exact and not masked:
        return Verdict(True, False, False, 0.0)
    coarse = levels.error(source, output, masked) > _LIMIT[rounding]
    # Sums of a mean that float32 rounds are computed in float64: divided once, they are correctly rounded.
    double = (coarse or (divided and not exact)) and not (levels.wide or levels.approximate)
    return Verdict(exact, double, levels.approximate or coarse, levels.relative(masked))


def levels_of(kernel: Weights, form: Runnable, setting: Setting, divisor: float) -> Levels:
    """Return the `Levels` of a kernel in the form in which it runs.

    Parameters
    ----------
    kernel : SeparableKernel or ndarray
        The kernel given.
    form : Runnable
    setting : Setting
    divisor : float
        Divides the sums that the jobs give.
    """
    setting = setting._replace(
        dtype=np.promote_types(setting.dtype, setting.computed)
    )  # the dtype of the accumulators
    item = setting.item
    double = item == 8 or form.summed_in(setting).itemsize == 8
    total, norm, negative, least = sums_of(kernel)
    noise = form.noise(setting, _UNIT_ROUNDOFF[8 if double else 4], norm * divisor) / divisor
    return Levels(total, norm, negative, least, noise, _UNIT_ROUNDOFF[item], double, form.approximate)


def sums_of(kernel: SeparableKernel | Array) -> tuple[float, float, float, float]:
    """Return `total`, `norm`, `negative` and `least` of `Levels`."""
    if isinstance(kernel, SeparableKernel) and (kernel.rank == 1 or kernel.size > _WRITTEN_OUT):
        sums = [_sums_of_term(term) for term in kernel.terms]
        positive, negative = sum(p for p, _, _ in sums), sum(n for _, n, _ in sums)
        least = min(small for _, _, small in sums) if kernel.rank == 1 else 0.0
    else:
        dense = kernel.dense() if isinstance(kernel, SeparableKernel) else kernel
        positive, negative = float(dense.sum(where=dense > 0)), -float(dense.sum(where=dense < 0))
        least = float(np.abs(dense).min(where=dense != 0, initial=math.inf))
    norm = positive + negative
    return _in_few_bits(positive - negative, norm, kernel.size), norm, negative, least


def _sums_of_term(term: Term) -> tuple[float, float, float]:
    """Return the sums of positive and of negative weights, and the smallest nonzero one, in magnitude."""
    positive, negative, least = 1.0, 0.0, 1.0
    for taps in term:
        above, below = math.fsum(taps[taps > 0]), -math.fsum(taps[taps < 0])
        positive, negative = positive * above + negative * below, positive * below + negative * above
        least *= float(np.abs(taps).min(where=taps != 0, initial=math.inf))
    return positive, negative, least


def _in_few_bits(total: float, norm: float, weights: int) -> float:
    """Return a sum of weights, rounded to few bits where it differs only by the rounding of the weights."""
    rounded = math.ldexp(round(math.ldexp(total, _BITS)), -_BITS) if abs(total) < 2.0**40 else total
    return rounded if abs(rounded - total) <= (weights + 8) * _UNIT_ROUNDOFF[8] * norm else total
