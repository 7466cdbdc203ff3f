"""Kernels that run in a time that does not depend on their size: running sums and oscillators.

A form says what the compiled core does along each axis, what it costs, and how far the kernel that runs
is from the kernel given.

References
----------
.. [1] M. van Herk, A fast algorithm for local minimum and maximum filters on rectangular and octagonal
   kernels, Pattern Recognition Letters 13(7), 1992.
.. [2] J. Gil, M. Werman, Computing 2-D min, median, and max filters, IEEE PAMI 15(5), 1993.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from ..kernel.value import ErrorBounds, SeparableKernel
from .cosines import Waves, fit_waves

# What the core takes: axis, taps, shift, mode, odd, frequencies, amplitudes.
RunningPass: TypeAlias = tuple[int, int, int, int, bool, list[float], list[float]]

DEFAULT_TOL: Final = 1e-3  # where a recursive filter is asked for by name alone

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
UNIT: Final = 0.0185  # nanoseconds of the unit that plans count in


class RunningForm(NamedTuple):
    """A kernel as running sums: along each axis a box (None) or waves, times ``factor / divisor``."""

    method: str
    taps: tuple[int, ...]
    waves: tuple[Waves | None, ...]
    factor: float
    divisor: float
    error: ErrorBounds

    @property
    def macs(self) -> int:
        """Additions and multiplications per sample: three for a box, three for each cosine."""
        return sum(
            3 * len(waves.frequency) if waves else 3
            for n, waves in zip(self.taps, self.waves, strict=True)
            if n > 1
        )

    @property
    def exact_limit(self) -> float:
        """Largest magnitude of whole numbers that are summed without rounding, which boxes do in float64."""
        whole = self.method == "box" and math.frexp(abs(self.factor))[0] == 0.5  # a power of two
        return 2.0**53 / math.prod(self.taps) if whole else 0.0

    @property
    def gain(self) -> int:
        """A power of two near the largest gain."""
        ones = math.prod(n for n, waves in zip(self.taps, self.waves, strict=True) if not waves)
        return math.frexp(self.factor)[1] + math.frexp(ones / self.divisor)[1]

    def flipped(self) -> RunningForm:
        """Return the form of the kernel flipped along every axis: sines change their sign."""
        turned = [
            w._replace(amplitude=tuple(-a for a in w.amplitude)) if w and w.odd else w for w in self.waves
        ]
        return self._replace(waves=tuple(turned))

    def cost(self, shape: Sequence[int], axes: Sequence[int]) -> float:
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

    def passes(self, axes: Sequence[int], shifts: Sequence[int], modes: Sequence[int]) -> list[RunningPass]:
        """List what the core runs; axes with one tap only scale."""
        found: list[RunningPass] = []
        for axis, n, shift, mode, waves in zip(axes, self.taps, shifts, modes, self.waves, strict=True):
            if waves:
                found.append((axis, n, shift, mode, waves.odd, list(waves.frequency), list(waves.amplitude)))
            elif n > 1:
                found.append((axis, n, shift, mode, False, [], []))
        return found


def box_form(kernel: SeparableKernel) -> RunningForm | None:
    """Return `kernel` as a box: None unless it is one term with equal taps along each axis."""
    if kernel.rank != 1 or kernel.size == 1:
        return None
    scales = [_equal(taps) for taps in kernel.terms[0]]
    if None in scales:
        return None
    return _form("box", kernel, [None] * len(scales), [s for s in scales if s is not None])


def recursive_form(kernel: SeparableKernel, tol: float) -> RunningForm | None:
    """Return `kernel` as waves, and boxes where they do, within a relative l1 error of `tol`, or None.

    It has to be one term, with taps that are (anti)symmetric about the middle.
    """
    left = (1 + tol) / (1 + kernel.error.relative_l1)
    if kernel.rank != 1 or left <= 1:
        return None
    scales: list[tuple[float, float]] = []
    waves: list[Waves | None] = []
    each = left ** (1 / kernel.ndim) - 1
    for taps in kernel.terms[0]:
        scale = _equal(taps)
        if scale is None:  # a power of two is left to the end: nothing on the way leaves its range
            power = math.frexp(float(np.abs(taps).sum()))[1]
            fit = fit_waves(np.ldexp(taps, -power), each)
            if fit is None:
                return None
            waves.append(fit)
            scale = math.ldexp(1.0, power), 1.0
        else:
            waves.append(None)
        scales.append(scale)
    return _form("recursive", kernel, waves, scales) if any(waves) else None


def _equal(taps: npt.NDArray[Any]) -> tuple[float, float] | None:
    """Return the factor and divisor that make `taps` of a box of ones, or None; a mean is a division."""
    value = float(taps[0])
    if value == 0 or float(np.abs(taps - value).max()) > _ROUNDING * abs(value):
        return None
    return (1.0, float(taps.size)) if abs(value * taps.size - 1) <= _ROUNDING else (value, 1.0)


def _form(
    method: str,
    kernel: SeparableKernel,
    waves: Sequence[Waves | None],
    scales: Sequence[tuple[float, float]],
) -> RunningForm:
    own = kernel.error
    l1 = (1 + own.relative_l1) * math.prod(1 + w.relative_l1 for w in waves if w) - 1
    l2 = (1 + own.relative_l2) * math.prod(1 + w.relative_l2 for w in waves if w) - 1
    added = max(0.0, l1 - own.relative_l1) * kernel.norm_l1
    error = ErrorBounds(own.l1 + added, l1, l2) if any(waves) else own
    factor, divisor = (_product([pair[n] for pair in scales]) for n in (0, 1))
    return RunningForm(method, kernel.shape, tuple(waves), factor, divisor, error)


def _product(values: Sequence[float]) -> float:
    """Return a product that stays in range where its factors cancel."""
    mantissas, powers = zip(*map(math.frexp, values), strict=True)
    return math.ldexp(math.prod(mantissas), sum(powers))
