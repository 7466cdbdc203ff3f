"""Kernels that run in a time that does not depend on their size: running sums and oscillators.

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

from .._core import BoxAndCosinesJob
from ..arrays.boundaries import CODES
from ..cost import model as costs
from ..cost.model import PredictedCost
from ..kernel.scale import GAIN
from ..kernel.value import ErrorBounds, SeparableKernel
from .method import Job, Runnable, Setting
from .sequence import SequenceJob

# What the core takes: axis, taps, shift, mode, odd, frequencies, amplitudes.
Pass: TypeAlias = tuple[int, int, int, int, bool, list[float], list[float]]

# Taps count as equal, and as a mean, within the rounding of what made them.
_ROUNDING: Final = 8 * float(np.finfo(np.float64).eps)

# Cost per sample of one pass, in nanoseconds of one AVX-512 core (Zen 4): 256x256 and 1024x1024 float32, 3 to
# 513 taps, 4 to 8 cosines; within a third where arrays do not fit the cache.
_BOX_COST: Final = 0.65
_WAVES_COST: Final = 0.6
_WAVE_COST: Final = 0.14
_SCATTERED_COST: Final = 7.0  # beside these, where lines neither are rows nor lie side by side

# Before its first result a line costs as much as so many more results for each tap.
_BOX_START: Final = 1.0
_WAVES_START: Final = 0.6

_LANES: Final = 16  # lines are filtered side by side; fewer take as long
_ADJACENT: Final = 8  # as the core counts them


class Cosines(NamedTuple):
    """The taps ``sum_m amplitude[m] * cos(frequency[m] * k)``, |k| <= radius; sines where `odd`.

    `relative_l1` and `relative_l2` are the distances from the taps they stand for, relative to those.
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
    waves: tuple[Cosines | None, ...]
    factor: float
    divisor: float
    error: ErrorBounds

    @property
    def terms(self) -> int:
        """One."""
        return 1

    @property
    def divides(self) -> bool:
        """They do."""
        return True

    @property
    def by_weights(self) -> bool:
        """Whether all of it are boxes: where little is known, an approximation misses most of it."""
        return not self.approximate

    @property
    def approximate(self) -> bool:
        """Whether there are cosines."""
        return any(self.waves)

    @property
    def macs(self) -> int:
        """Additions and multiplications per sample: three for a box, three for each cosine."""
        return sum(
            3 * len(waves.frequency) if waves else 3
            for n, waves in zip(self.taps, self.waves, strict=True)
            if n > 1
        )

    def summed_in(self, setting: Setting) -> np.dtype[Any]:
        """Return float64: what goes in and out of a window leaves rounding errors in the sum."""
        return np.dtype(np.float64)

    def exact_limit(self, dtype: np.dtype[Any]) -> float:
        """Return the largest magnitude of whole numbers that boxes sum without rounding, in float64."""
        whole = not self.approximate and math.frexp(abs(self.factor))[0] == 0.5  # a power of two
        return 2.0**53 / math.prod(self.taps) if whole else 0.0

    def noise(self, setting: Setting, unit: float, norm: float) -> float:
        """Bound the rounding errors on samples of 1: of sums, and of oscillators until they are set anew."""
        return (2 * sum(self.taps) + 1000 * self.approximate + 8) * unit * norm

    def job(self, setting: Setting, shape: tuple[int, ...], dtype: str, cval: float) -> Job:
        """Prepare a pass for each axis."""
        passes = self.passes(setting.axes, setting.shifts, [CODES[mode] for mode in setting.modes])
        job = BoxAndCosinesJob(shape, passes, cval, self.factor, self.divisor)
        # Its passes leave their results in the array they filter into: in float64 next to float32's ends.
        double = setting.double or (dtype == "float32" and self.gain > GAIN)
        return SequenceJob.of_one(shape, "float64", job) if double else job

    @property
    def gain(self) -> int:
        """A power of two near the largest gain."""
        ones = math.prod(n for n, waves in zip(self.taps, self.waves, strict=True) if not waves)
        return math.frexp(self.factor)[1] + math.frexp(ones / self.divisor)[1]

    def flipped(self) -> Recursions:
        """Return the form of the kernel flipped along every axis: sines change their sign."""
        turned = [
            w._replace(amplitude=tuple(-a for a in w.amplitude)) if w and w.odd else w for w in self.waves
        ]
        return replace(self, waves=tuple(turned))

    def cost(self, setting: Setting) -> PredictedCost:
        """Return what it takes."""
        each = self._nanoseconds(setting.real_shape, setting.axes)
        passes = sum(n > 1 for n in setting.taps)
        counts = costs.of_running(each, passes, setting.samples, setting.rates)
        return costs.of_call(counts, setting.samples, setting.rates)

    def _nanoseconds(self, shape: Sequence[int], axes: Sequence[int]) -> float:
        """Return nanoseconds per sample on an array of `shape`."""
        samples, total = math.prod(shape), 0.0
        for axis, n, waves in zip(axes, self.taps, self.waves, strict=True):
            if n == 1 or samples == 0:
                continue
            each, start = _BOX_COST, _BOX_START
            if waves:
                each, start = _WAVES_COST + _WAVE_COST * len(waves.frequency), _WAVES_START
            if axis != len(shape) - 1 and shape[-1] < _ADJACENT:
                each += _SCATTERED_COST
            total += each * (1 + start * n / shape[axis]) * max(1.0, _LANES * shape[axis] / samples)
        return total

    def passes(self, axes: Sequence[int], shifts: Sequence[int], modes: Sequence[int]) -> list[Pass]:
        """List what the core runs; axes with one tap only scale."""
        found: list[Pass] = []
        for axis, n, shift, mode, waves in zip(axes, self.taps, shifts, modes, self.waves, strict=True):
            if waves:
                found.append((axis, n, shift, mode, waves.odd, list(waves.frequency), list(waves.amplitude)))
            elif n > 1:
                found.append((axis, n, shift, mode, False, [], []))
        return found


def equal_taps(taps: npt.NDArray[Any]) -> tuple[float, float] | None:
    """Return the factor and divisor that make `taps` of a box of ones, or None; a mean is a division."""
    value = float(taps[0])
    if value == 0 or float(np.abs(taps - value).max()) > _ROUNDING * abs(value):
        return None
    return (1.0, float(taps.size)) if abs(value * taps.size - 1) <= _ROUNDING else (value, 1.0)


def recursions(
    method: str,
    kernel: SeparableKernel,
    waves: Sequence[Cosines | None],
    scales: Sequence[tuple[float, float]],
) -> Recursions:
    """Return a kernel of one term by cosines or a box, a factor and a divisor for each axis."""
    own = kernel.error
    l1 = (1 + own.relative_l1) * math.prod(1 + w.relative_l1 for w in waves if w) - 1
    l2 = (1 + own.relative_l2) * math.prod(1 + w.relative_l2 for w in waves if w) - 1
    added = max(0.0, l1 - own.relative_l1) * kernel.norm_l1
    error = ErrorBounds(own.l1 + added, l1, l2) if any(waves) else own
    factor, divisor = (_product([pair[n] for pair in scales]) for n in (0, 1))
    return Recursions(method, kernel.shape, tuple(waves), factor, divisor, error)


def _product(values: Sequence[float]) -> float:
    """Return a product that stays in range where its factors cancel."""
    mantissas, powers = zip(*map(math.frexp, values), strict=True)
    return math.ldexp(math.prod(mantissas), sum(powers))
