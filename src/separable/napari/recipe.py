"""What a user asks for: a filter, how wide it is in the layer's units, and what is beyond the ends."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from ..filters.verbs import box_kernel, gaussian_of
from ..kernel.value import SeparableKernel
from .axes import LayerAxis

GAUSSIAN: Final = "Gaussian"
BOX: Final = "Box (mean)"
GRADIENT: Final = "Gradient magnitude"
LAPLACE: Final = "Laplacian of Gaussian"
FILTERS: Final = (GAUSSIAN, BOX, GRADIENT, LAPLACE)
SMOOTHERS: Final = (GAUSSIAN, BOX)  # whose results have the range of the samples

_TRUNCATE: Final = 4.0  # as the verbs have it


@dataclass(frozen=True)
class LayerRecipe:
    """A filter along some axes of a layer.

    Attributes
    ----------
    kind : str
        One of `FILTERS`.
    axes : tuple of LayerAxis
        Those that are filtered.
    widths : tuple of float
        Sigma, or of a box its size, along each of them, in its unit.
    mode : str
        What is beyond the ends.
    keeps_dtype : bool
        Whether results have the dtype of the layer; those of derivatives never do.
    """

    kind: str
    axes: tuple[LayerAxis, ...]
    widths: tuple[float, ...]
    mode: str = "reflect"
    keeps_dtype: bool = True

    def check(self, rgb: bool) -> None:
        """Raise ValueError with the fix where this cannot be done.

        Parameters
        ----------
        rgb : bool
            Whether the layer holds colours.
        """
        if not self.axes:
            raise ValueError("No axis is filtered: tick one, and give it a width above 0.")
        if rgb and self.kind not in SMOOTHERS:
            raise ValueError(
                f"{self.kind} of colours is no colour: split the layer first (right click, Split RGB)."
            )
        units = {axis.quantity for axis in self.axes}
        if len(units) > 1 and self.kind not in SMOOTHERS:
            named = ", ".join(f"{axis.name} in {axis.unit or 'samples'}" for axis in self.axes)
            raise ValueError(
                f"{self.kind} adds up derivatives by different quantities ({named}): untick one."
            )

    def kernels(self) -> tuple[SeparableKernel, ...]:
        """Return the kernel; of a gradient that along each axis, whose results are added up in squares."""
        spacing = tuple(axis.spacing for axis in self.axes)
        if self.kind == BOX:
            return (box_kernel(tuple(map(odd, self.widths, spacing))),)
        if self.kind == GAUSSIAN:
            return (self._gaussian(spacing, (0,) * len(spacing)),)
        order = 1 if self.kind == GRADIENT else 2
        along = tuple(
            self._gaussian(spacing, tuple(order * (n == axis) for n in range(len(spacing))))
            for axis in range(len(spacing))
        )
        if self.kind == GRADIENT:
            return along
        return (_sum(along),)

    def _gaussian(self, spacing: tuple[float, ...], order: tuple[int, ...]) -> SeparableKernel:
        return gaussian_of(len(spacing), self.widths, None, order, _TRUNCATE, None, spacing)

    def on_level(self, whole: Sequence[int], level: Sequence[int]) -> LayerRecipe:
        """Return the same filter for a smaller level of the layer, whose samples are longer.

        Parameters
        ----------
        whole, level : tuple of int
            The shapes of the largest level and of this one.
        """
        times = [whole[axis.index] / level[axis.index] for axis in self.axes]
        axes = tuple(
            replace(axis, length=level[axis.index], spacing=axis.spacing * more)
            for axis, more in zip(self.axes, times, strict=True)
        )
        return replace(self, axes=axes)

    def stored(self, samples: np.dtype[Any]) -> np.dtype[Any] | None:
        """Return the dtype that results are stored in; None: that which is computed in."""
        keeps = self.keeps_dtype and self.kind in SMOOTHERS and samples.kind in "iuf"
        return samples if keeps else None

    def __str__(self) -> str:
        along = zip(self.axes, self.widths, strict=True)
        widths = ", ".join(f"{axis.name} {width:g}{axis.unit and ' '}{axis.unit}" for axis, width in along)
        return f"{self.kind}, {widths}, {self.mode}"


def _sum(kernels: Sequence[SeparableKernel]) -> SeparableKernel:
    """Return the sum of kernels of one term each; derivatives of a narrow Gaussian are longer than it is."""
    terms = [kernel.terms[0] for kernel in kernels]
    lengths = [max(taps.size for taps in along) for along in zip(*terms, strict=True)]
    padded = [
        [np.pad(taps, (n - taps.size) // 2) for taps, n in zip(term, lengths, strict=True)] for term in terms
    ]
    return SeparableKernel(padded)


def odd(width: float, spacing: float) -> int:
    """Return the odd number of samples nearest to a length: an even box would move the image."""
    return 2 * max(0, math.floor(width / spacing / 2)) + 1
