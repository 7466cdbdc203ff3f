"""What integers ask of a filter: bounds of its rounding errors where an image is flat, and of its results.

Where an image is flat its filter gives the same value times the sum of the weights, up to rounding errors.
Stored in integers it keeps its level where those errors are bounded by a fraction of a step: in float32, in
float64, or within the bounds of what the samples allow.
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

# Errors of flat parts up to so much of a level are rounded away; truncation moves other values by as much.
_LIMIT: Final = {"nearest": 1 / 4, "truncate": 1 / 8}

# Terms are written out to tell the weights below 0, up to so many.
_WRITTEN_OUT: Final = 1 << 16

_UNIT_ROUNDOFF: Final = {4: 2.0**-24, 8: 2.0**-53}

# Sums and weights larger than two to the power of minus this, which leaves them all their bits, are not weak.
_SMALL: Final = {4: 100, 8: 950}

# Weights whose sum is smaller than that of their magnitudes by such a factor are differences.
_CANCELS: Final = 16.0

# A sum of weights is a number of a few bits where that is within the rounding of the weights.
_BITS: Final = 8


class Floors(NamedTuple):
    """Below what a result that is normalised may have lost something to underflow, as the core takes it."""

    least: float  # of the weights that are known; 0 where they cannot be that small
    small: float  # of the sum


class Levels(NamedTuple):
    """Sums of a kernel's weights, and the rounding errors of a way to run it.

    Attributes
    ----------
    total, norm, negative : float
        The sum of the weights; of their magnitudes; of the magnitudes of those below 0, or more.
    least : float
        The smallest magnitude of a weight that is not 0, or less.
    noise : float
        Bound of the rounding errors on an array that is 1 everywhere.
    unit : float
        The unit roundoff of what the plan computes in.
    wide : bool
        They are those of float64, whatever the plan computes in.
    approximate : bool
        The kernel that runs is not the one given.
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
        """Return a bound of the rounding errors where arrays of integers are flat, in levels of the output.

        Parameters
        ----------
        source, output : dtype
            Of the samples, and of the integers that are stored.
        masked : bool
            Results are normalised: divided by what is known.
        """
        most, last = whole.largest(source), float(max(map(abs, integer_range(output))))
        if not math.isfinite(most):  # floats: no larger than what can be stored of them
            most = last / (self._share or 1.0)
        elif self.total:
            most = min(most, last / abs(self.total))
        magnitude = most * self.norm
        if not math.isfinite(magnitude) or magnitude == 0:
            return math.inf if magnitude else 0.0
        noise = self._normalised if masked else self.noise
        # Roundings are those of the largest sums: half a unit in their last place.
        return noise * most * 2.0 ** math.floor(math.log2(magnitude)) / magnitude

    def relative(self, masked: bool) -> float:
        """Return the bound of the rounding errors of flat parts, relative to their values."""
        return (self._normalised if masked else self.noise) / (self._share or 1.0)

    @property
    def _share(self) -> float:
        """What flat parts are multiplied by; derivatives make 0 of them, and other values of others."""
        return abs(self.total) if abs(self.total) * _CANCELS >= self.norm else self.norm

    @property
    def _normalised(self) -> float:
        # The known weights round as the sum does, and so do a quotient and a product.
        return 2 * self.noise + 4 * self.unit * self.norm

    def bounds(self, outside: float | None, masked: bool) -> Bounds:
        """Return what results lie within; `outside` is what stands beyond the ends, None where samples do."""
        return Bounds(self.total, 0.0 if masked else self.negative, outside)

    def floors(self, item: int) -> Floors:
        """Return below what a normalised result is weak, in floats of `item` bytes."""
        small = 2.0 ** -_SMALL[item] * max(1.0, abs(self.total))
        return Floors(0.0 if self.least >= small else small, small)


class Verdict(NamedTuple):
    """How integers are to be computed and stored."""

    exact: bool  # there is no rounding error
    double: bool  # in float64, where the plan is for float32
    bounded: bool  # within what the samples allow
    error: float  # of values that are not exact, relative to them


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
    """Say what samples of `source` take to keep their levels in integers of `output`.

    Parameters
    ----------
    levels : Levels
    exact_limit : float
        Whole numbers of up to this magnitude are filtered without rounding.
    divided : bool
        The filter gives sums that are divided once, as they are stored.
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
    # Sums of a mean that leave float32 are taken in float64: divided, they are exact to the last bit.
    double = (coarse or (divided and not exact)) and not (levels.wide or levels.approximate)
    return Verdict(exact, double, levels.approximate or coarse, levels.relative(masked))


def levels_of(kernel: Weights, form: Runnable, setting: Setting, divisor: float) -> Levels:
    """Return the `Levels` of a kernel in the form in which it runs.

    Parameters
    ----------
    kernel : SeparableKernel or ndarray
        As it was given.
    form : Runnable
    setting : Setting
        Where it runs.
    divisor : float
        What the sums that run are divided by.
    """
    setting = setting._replace(dtype=np.promote_types(setting.dtype, setting.computed))  # as it is summed
    item = setting.item
    wide = item == 8 or form.summed_in(setting).itemsize == 8
    total, norm, negative, least = sums_of(kernel)
    noise = form.noise(setting, _UNIT_ROUNDOFF[8 if wide else 4], norm * divisor) / divisor
    return Levels(total, norm, negative, least, noise, _UNIT_ROUNDOFF[item], wide, form.approximate)


def sums_of(kernel: SeparableKernel | Array) -> tuple[float, float, float, float]:
    """Return total, norm, negative and least of the weights, as `Levels` has them."""
    if isinstance(kernel, SeparableKernel) and (kernel.rank == 1 or kernel.size > _WRITTEN_OUT):
        each = [_sums_of_term(term) for term in kernel.terms]
        positive, negative = sum(p for p, _, _ in each), sum(n for _, n, _ in each)
        least = min(small for _, _, small in each) if kernel.rank == 1 else 0.0
    else:
        dense = kernel.dense() if isinstance(kernel, SeparableKernel) else kernel
        positive, negative = float(dense.sum(where=dense > 0)), -float(dense.sum(where=dense < 0))
        least = float(np.abs(dense).min(where=dense != 0, initial=math.inf))
    norm = positive + negative
    return _in_few_bits(positive - negative, norm, kernel.size), norm, negative, least


def _sums_of_term(term: Term) -> tuple[float, float, float]:
    """Return the sums of the weights above 0 and, in magnitude, below; and the smallest magnitude but 0."""
    positive, negative, least = 1.0, 0.0, 1.0
    for taps in term:
        above, below = math.fsum(taps[taps > 0]), -math.fsum(taps[taps < 0])
        positive, negative = positive * above + negative * below, positive * below + negative * above
        least *= float(np.abs(taps).min(where=taps != 0, initial=math.inf))
    return positive, negative, least


def _in_few_bits(total: float, norm: float, weights: int) -> float:
    """Return a sum of weights without what the rounding of the weights left in it."""
    few = math.ldexp(round(math.ldexp(total, _BITS)), -_BITS) if abs(total) < 2.0**40 else total
    return few if abs(few - total) <= (weights + 8) * _UNIT_ROUNDOFF[8] * norm else total
