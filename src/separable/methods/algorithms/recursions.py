"""Kernels by recursions, in a time independent of their size: running sums and oscillators.

A box is the difference of two running sums; a cosine over a window is filtered by a recursion of second
order, driven by the samples that enter and leave the window. One job of the core runs both, an axis at a
time.

References
----------
.. [1] M. van Herk, A fast algorithm for local minimum and maximum filters on rectangular and octagonal
   kernels, Pattern Recognition Letters 13(7), 1992.
.. [2] J. Gil, M. Werman, Computing 2-D min, median, and max filters, IEEE PAMI 15(5), 1993.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from ..._core import BoxAndCosinesJob, Mode
from ...cost import model as costs
from ...cost.model import PredictedCost
from ...kernel.scale import GAIN
from ...kernel.value import ErrorBounds, SeparableKernel
from ..method import Job, Runnable, Setting
from .sequence import SequenceJob

# A pass of the core: axis, taps, shift, mode, odd, frequencies, amplitudes.
Pass: TypeAlias = tuple[int, int, int, int, bool, list[float], list[float]]

# Relative tolerance of equal taps, and of the sum of a mean: 8 roundings of float64.
_ROUNDING: Final = 8 * float(np.finfo(np.float64).eps)

# Nanoseconds per sample of one pass: a box, a sum of cosines, each cosine. One AVX-512 core (Zen 4), 256x256
# and 1024x1024 float32, 3 to 513 taps, 4 to 8 cosines; within a third where arrays exceed the caches.
_BOX_COST: Final = 0.65
_COSINES_COST: Final = 0.6
_COSINE_COST: Final = 0.14
_SCATTERED_COST: Final = 7.0  # extra where lines are neither contiguous nor adjacent in memory

# Cost of the warm-up of a line, in results per tap.
_BOX_START: Final = 1.0
_COSINES_START: Final = 0.6

_LANES: Final = 16  # lines filtered in one group of vectors; fewer take as long
_ADJACENT: Final = 8  # minimum contiguous samples for which the core counts lines as adjacent


class Cosines(NamedTuple):
    """The taps ``sum_m amplitude[m] * cos(frequency[m] * k)``, |k| <= radius; sines where `odd`.

    `relative_l1` and `relative_l2` are their relative distances from the taps that they approximate.
    """

    odd: bool
    frequency: tuple[float, ...]
    amplitude: tuple[float, ...]
    relative_l1: float
    relative_l2: float


@dataclass(frozen=True, eq=False, slots=True)
class Recursions(Runnable):
    """A kernel as recursions: along each axis a box (None) or cosines, times ``factor / divisor``."""

    method: str
    taps: tuple[int, ...]
    cosines: tuple[Cosines | None, ...]
    factor: float
    divisor: float
    error: ErrorBounds

    @property
    def terms(self) -> int:
        """Number of separable terms: 1."""
        return 1

    @property
    def divides(self) -> bool:
        """True."""
        return True

    @property
    def by_weights(self) -> bool:
        """Whether there are only boxes: over few known samples the error of an approximation is too large."""
        return not self.approximate

    @property
    def approximate(self) -> bool:
        """Whether there are cosines."""
        return any(self.cosines)

    @property
    def macs(self) -> int:
        """Operations per sample: three per box, three per cosine."""
        return sum(
            3 * len(cosines.frequency) if cosines else 3
            for n, cosines in zip(self.taps, self.cosines, strict=True)
            if n > 1
        )

    def summed_in(self, setting: Setting) -> np.dtype[Any]:
        """Return float64: the rounding errors of a running sum accumulate."""
        return np.dtype(np.float64)

    def differs_in_parts(self, setting: Setting) -> str | None:
        """Return a reason for cosines."""
        return "starts its oscillators at the array's first sample" if self.approximate else None

    def exact_limit(self, dtype: np.dtype[Any]) -> float:
        """Return the largest magnitude of whole numbers that boxes sum without rounding, in float64."""
        exact = not self.approximate and math.frexp(abs(self.factor))[0] == 0.5  # a power of two
        return 2.0**53 / math.prod(self.taps) if exact else 0.0

    def noise(self, setting: Setting, unit: float, norm: float) -> float:
        """Return a bound of the rounding errors on samples of 1: sums, and oscillators up to a restart."""
        return (2 * sum(self.taps) + 1000 * self.approximate + 8) * unit * norm

    def job(self, setting: Setting, shape: tuple[int, ...], dtype: str, cval: float) -> Job:
        """Return the job with one pass per axis."""
        passes = self.passes(setting.axes, setting.shifts, [Mode[mode] for mode in setting.modes])
        place = setting.frame_of(shape), setting.starts_of(shape)
        job = BoxAndCosinesJob(shape, passes, cval, self.factor, self.divisor, *place)
        # Passes store intermediate results in the output array: in float64 near the ends of float32's range.
        double = setting.double or (dtype == "float32" and self.gain > GAIN)
        return SequenceJob.of_one(shape, "float64", job) if double else job

    @property
    def gain(self) -> int:
        """The exponent of a power of two near the largest gain of the kernel."""
        ones = math.prod(n for n, cosines in zip(self.taps, self.cosines, strict=True) if not cosines)
        return math.frexp(self.factor)[1] + math.frexp(ones / self.divisor)[1]

    def flipped(self) -> Recursions:
        """Return the form of the kernel flipped along every axis: sines change their sign."""
        turned = [
            w._replace(amplitude=tuple(-a for a in w.amplitude)) if w and w.odd else w for w in self.cosines
        ]
        return replace(self, cosines=tuple(turned))

    def cost(self, setting: Setting) -> PredictedCost:
        """Return the predicted cost of one call."""
        nanoseconds = self._nanoseconds(setting.real_shape, setting.axes)
        passes = sum(n > 1 for n in setting.taps)
        counts = costs.of_running(nanoseconds, passes, setting.samples, setting.rates)
        return costs.of_call(counts, setting.samples, setting.rates)

    def _nanoseconds(self, shape: Sequence[int], axes: Sequence[int]) -> float:
        """Return nanoseconds per sample on an array of `shape`."""
        samples, total = math.prod(shape), 0.0
        for axis, n, cosines in zip(axes, self.taps, self.cosines, strict=True):
            if n == 1 or samples == 0:
                continue
            per_sample, start = _BOX_COST, _BOX_START
            if cosines:
                per_sample, start = _COSINES_COST + _COSINE_COST * len(cosines.frequency), _COSINES_START
            if axis != len(shape) - 1 and shape[-1] < _ADJACENT:
                per_sample += _SCATTERED_COST
            total += per_sample * (1 + start * n / shape[axis]) * max(1.0, _LANES * shape[axis] / samples)
        return total

    def passes(self, axes: Sequence[int], shifts: Sequence[int], modes: Sequence[int]) -> list[Pass]:
        """Return the passes of the core; axes with one tap take none."""
        passes: list[Pass] = []
        for axis, n, shift, mode, cosines in zip(axes, self.taps, shifts, modes, self.cosines, strict=True):
            if cosines:
                passes.append(
                    (axis, n, shift, mode, cosines.odd, list(cosines.frequency), list(cosines.amplitude))
                )
            elif n > 1:
                passes.append((axis, n, shift, mode, False, [], []))
        return passes


def equal_taps(taps: npt.NDArray[Any]) -> tuple[float, float] | None:
    """Return the factor and divisor that turn ones into `taps`, or None; a mean has factor 1."""
    value = float(taps[0])
    if value == 0 or float(np.abs(taps - value).max()) > _ROUNDING * abs(value):
        return None
    return (1.0, float(taps.size)) if abs(value * taps.size - 1) <= _ROUNDING else (value, 1.0)


def recursions(
    method: str,
    kernel: SeparableKernel,
    cosines: Sequence[Cosines | None],
    scales: Sequence[tuple[float, float]],
) -> Recursions:
    """Return a kernel of one term as recursions: cosines or a box, factor and divisor per axis."""
    kernel_error = kernel.error
    l1 = (1 + kernel_error.relative_l1) * math.prod(1 + w.relative_l1 for w in cosines if w) - 1
    l2 = (1 + kernel_error.relative_l2) * math.prod(1 + w.relative_l2 for w in cosines if w) - 1
    added = max(0.0, l1 - kernel_error.relative_l1) * kernel.norm_l1
    error = ErrorBounds(kernel_error.l1 + added, l1, l2) if any(cosines) else kernel_error
    factor, divisor = (_product([pair[n] for pair in scales]) for n in (0, 1))
    return Recursions(method, kernel.shape, tuple(cosines), factor, divisor, error)


def _product(values: Sequence[float]) -> float:
    """Return a product without intermediate over- or underflow."""
    mantissas, powers = zip(*map(math.frexp, values), strict=True)
    return math.ldexp(math.prod(mantissas), sum(powers))
