"""The method "fft": overlap-save by Fourier transforms, for large kernels that do not factor."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from .._base.types import Array
from ..arrays.exact import exact_limit
from ..cost import model as costs
from ..cost.model import PredictedCost, Rates
from .algorithms.overlap_save import FourierJob, Geometry
from .direct import DirectForm
from .method import Ask, Refusal, Runnable, Setting, Way, Weights

# Maximum block geometries compared, from one block to one sample a block: 16 per axis in a volume.
_COMPARED: Final = 4096

# Cost factor of a single block: threads share its transforms, but not the steps between them.
_LONELY: Final = 1.1

# Minimum weights for which transforms are considered: below, they are at least twice as slow on every machine
# measured.
FEW_WEIGHTS: Final = 100

# Largest whole number (of 8 bits) up to which exact sums are preferred to transforms.
_LEVELS: Final = 255.0


@dataclass(frozen=True, eq=False, slots=True)
class FourierForm(Runnable):
    """A kernel for transforms: its weights, and the geometry of the blocks."""

    kernel: Weights
    geometry: Geometry

    @property
    def handicap(self) -> float:
        """Return 1.15: the other ways round within their windows, and take less memory."""
        return 1.15

    @property
    def macs(self) -> int:
        """Multiply-accumulates per sample: half of ``5 n log2(n) + 3 n`` operations on n staged samples."""
        geometry = self.geometry
        operations = geometry.samples * (5 * math.log2(max(geometry.samples, 2)) + 3)
        return max(1, round(operations / 2 / math.prod(geometry.results)))

    def differs_in_parts(self, setting: Setting) -> str | None:
        """Return a reason: each sample of a block rounds all of its results."""
        return "rounds by blocks of the whole array"

    def flipped(self) -> FourierForm:
        """Return the form of the kernel flipped along every axis."""
        return replace(self, kernel=DirectForm(self.kernel).flipped().kernel)

    def summed_in(self, setting: Setting) -> np.dtype[Any]:
        """Return float64 for whole numbers, else the dtype computed in.

        A transform rounds relative to the largest sample of its block: too coarse in float32 for small ones.
        """
        return np.dtype(np.float64) if setting.whole else setting.computed

    def noise(self, setting: Setting, unit: float, norm: float) -> float:
        """Return a bound of the rounding errors of a transform, its inverse and the spectrum.

        N. J. Higham, Accuracy and Stability of Numerical Algorithms, section 24.1.
        """
        samples = self.geometry.samples
        return 8 * math.log2(samples + 2) * math.sqrt(samples) * unit * norm

    def job(self, setting: Setting, shape: tuple[int, ...], dtype: str, cval: float) -> FourierJob:
        """Prepare the transforms, and a dense sweep for blocks with infinities or NaN."""
        dtype = "float64" if setting.whole else dtype  # as `offer` planned them
        axes = len(setting.axes)
        inside = setting._replace(shifts=(0,) * axes, modes=("constant",) * axes)
        swept = DirectForm(self.kernel)
        return FourierJob(
            shape,
            dtype,
            swept.laid_out(setting, len(shape)),
            setting.lines(len(shape)),
            cval,
            self.geometry.leading(len(shape)),
            lambda block: swept.job(inside, block, dtype, 0.0),
            as_summed=setting.as_summed,
        )


class FourierMethod:
    """Overlap-save by fast Fourier transforms: any kernel, every boundary mode."""

    name = "fft"
    about = "by Fourier transforms"

    def offer(self, ask: Ask) -> Way | Refusal:
        """Return the transforms with the cheapest block geometry."""
        setting = ask.setting
        if setting.samples == 0:
            return Refusal(self.name, "needs an array with samples")
        summed = setting._replace(dtype=np.dtype(np.float64)) if setting.whole else setting
        taps = [line.taps for line in setting.lines(len(setting.real_shape))]
        geometry, cost = best_geometry(setting.real_shape, taps, summed.item, summed.rates)
        return Way.of(self.name, FourierForm(ask.kernel, geometry), ask.error, cost)

    def reserved(self, ask: Ask) -> str | None:
        """Return a reason for few weights, which never pay, and for whole numbers whose sums are exact."""
        if ask.nonzero < FEW_WEIGHTS:
            return f"pays from {FEW_WEIGHTS} weights on"
        if ask.setting.whole and exact_limit(ask.kernel, ask.setting.dtype) >= _LEVELS:
            return "rounds, where sums of these whole numbers are exact"
        return None


def best_geometry(
    shape: Sequence[int], taps: Sequence[int], item: int, rates: Rates
) -> tuple[Geometry, PredictedCost]:
    """Return the cheapest block geometry, and its cost.

    Parameters
    ----------
    shape : sequence of int
        Of the array; at least one sample.
    taps : sequence of int
        The kernel's extent along each axis; 1 where it is not filtered.
    item : int
        Bytes of a sample.
    rates : Rates
        Of the machine.
    """
    over = [axis for axis, n in enumerate(taps) if n > 1] or [len(shape) - 1]
    most = round(_COMPARED ** (1 / len(shape)))
    options = [
        _cuts(n, reach, axis in over, most) for axis, (n, reach) in enumerate(zip(shape, taps, strict=True))
    ]
    # All combinations, one per column: results, lengths and blocks of each axis.
    chosen = np.indices([option.shape[1] for option in options]).reshape(len(options), -1)
    results, lengths, blocks = np.stack(
        [option[:, column] for option, column in zip(options, chosen, strict=True)], axis=1
    )
    counts = costs.of_block(lengths.prod(axis=0), lengths[over].prod(axis=0), len(over), item, rates)
    number = blocks.prod(axis=0)
    best = int(np.argmin(rates.cost(counts) * number * np.where(number == 1, _LONELY, 1.0)))
    geometry = Geometry(tuple(map(int, results[:, best])), tuple(map(int, lengths[:, best])))
    parts = int(number[best])
    totals = {name: float(count[best]) * parts for name, count in counts.items()}
    return geometry, PredictedCost({"call": 1.0, **totals}, rates, parts)


def _cuts(n: int, taps: int, transformed: bool, most: int) -> Array:
    """Return candidate cuts of an axis, one per column: results per block, staged length, blocks."""
    counts = np.unique(np.rint(np.geomspace(1, n, min(n, most))).astype(int))
    results = np.unique(-(-n // counts))[::-1]
    lengths = [fast_length(int(step) + taps - 1) if transformed else int(step) for step in results]
    return np.array([results, lengths, -(-n // results)])


@functools.lru_cache(maxsize=1024)
def fast_length(n: int) -> int:
    """Return the smallest length >= n whose only prime factors are 2, 3 and 5."""
    best = 1 << max(n - 1, 0).bit_length()
    five = 1
    while five < best:
        three = five
        while three < best:
            two = three << max(-(-n // three) - 1, 0).bit_length()
            best = min(best, two)
            three *= 3
        five *= 5
    return best
