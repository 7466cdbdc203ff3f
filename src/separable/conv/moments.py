"""What a layer sees and gives, as sums: all that a fit needs to know of the calibration data."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from .forms import Array
from .geometry import output_shape
from .layer import ConvLayer, padded

__all__ = ["Moments", "patches"]

# Patches are made and multiplied about this many bytes at a time.
_BYTES_AT_ONCE: Final = 1 << 25


def patches(x: Array, layer: ConvLayer) -> Array:
    """Return a view of what each output of a layer reads, padding included.

    Parameters
    ----------
    x : ndarray, shape ``(N, C_in, *sizes)``
    layer : ConvLayer

    Returns
    -------
    ndarray, shape ``(N, C_in, *out_sizes, *k)``, read-only
    """
    filled = padded(x, layer.padding, layer.padding_mode)
    sizes = output_shape(
        filled.shape[2:], layer.kernel, layer.stride, layer.dilation, ((0, 0),) * len(layer.kernel)
    )
    steps = filled.strides[2:]
    strides = (
        *filled.strides[:2],
        *(step * s for step, s in zip(steps, layer.stride, strict=True)),
        *(step * d for step, d in zip(steps, layer.dilation, strict=True)),
    )
    shape = (*filled.shape[:2], *sizes, *layer.kernel)
    return np.lib.stride_tricks.as_strided(filled, shape, strides, writeable=False)


class Moments:
    """Streaming sums over a layer's input patches and wanted outputs, in float64.

    Memory does not depend on how many inputs are added, and neither do the sums on how they are split
    into batches, but for rounding.

    Parameters
    ----------
    layer : ConvLayer
    positions : int, optional
        At most so many output positions of each sample are looked at, evenly spread over them in an
        order that changes from sample to sample; None: all. Neighbouring positions tell much the same.

    Attributes
    ----------
    layer : ConvLayer
    count : int
        Patches added.
    samples : int
        Samples added.
    """

    def __init__(self, layer: ConvLayer, *, positions: int | None = None) -> None:
        if positions is not None and positions < 1:
            raise ValueError(f"`positions={positions}` leaves nothing to look at; expected at least 1, or None.")
        self.layer = layer
        self.count = 0
        self.samples = 0
        self._positions = positions
        size = layer.c_in * layer.taps // layer.groups
        self._products = [np.zeros((size, size)) for _ in range(layer.groups)]
        self._cross = np.zeros((layer.groups, size, layer.c_out // layer.groups))
        self._sum_x = np.zeros((layer.groups, size))
        self._sum_y = np.zeros((layer.groups, layer.c_out // layer.groups))
        self._squares = np.zeros_like(self._sum_y)
        # Sums are taken about the first patch's values: variances of what has a large mean keep their digits.
        self._origin_x: Array | None = None
        self._origin_y: Array | None = None

    def add(self, x: npt.ArrayLike, y: npt.ArrayLike) -> None:
        """Add a batch.

        Parameters
        ----------
        x : array_like, shape ``(N, C_in, *sizes)``
            What the layer reads; sizes may differ from batch to batch.
        y : array_like, shape ``(N, C_out, *out_sizes)``
            What it should give, bias included.

        Raises
        ------
        ValueError
            If a shape does not fit the layer, or a value is NaN or infinite.
        """
        inputs, outputs = np.asarray(x), np.asarray(y)
        sizes = self._checked_sizes(inputs, outputs)
        places = math.prod(sizes)
        row_bytes = 8 * self.layer.c_in * self.layer.taps
        used = places if self._positions is None else min(places, self._positions)
        step = max(1, _BYTES_AT_ONCE // (row_bytes * used))
        for start in range(0, len(inputs), step):
            some = slice(start, start + step)
            self._add(inputs[some].astype(np.float64), outputs[some].astype(np.float64), places, used)

    @property
    def mean_x(self) -> Array:
        """Mean patch, shape ``(C_in*K,)``, channel-major."""
        self._check_count()
        assert self._origin_x is not None
        return (self._origin_x + self._sum_x / self.count).reshape(-1)

    @property
    def mean_y(self) -> Array:
        """Mean output, shape ``(C_out,)``."""
        self._check_count()
        assert self._origin_y is not None
        return (self._origin_y + self._sum_y / self.count).reshape(-1)

    @property
    def covariance(self) -> tuple[Array, ...]:
        """Of the patches, centred: for each group ``(C_in/groups*K, C_in/groups*K)``."""
        self._check_count()
        means = self._sum_x / self.count
        found = []
        for product, mean in zip(self._products, means, strict=True):
            centred = product / self.count
            centred -= np.multiply.outer(mean, mean)
            found.append(centred)
        return tuple(found)

    @property
    def cross(self) -> tuple[Array, ...]:
        """Of patches and outputs, centred: for each group ``(C_in/groups*K, C_out/groups)``."""
        self._check_count()
        shift = np.einsum("gi,go->gio", self._sum_x / self.count, self._sum_y / self.count)
        return tuple(self._cross / self.count - shift)

    @property
    def variance_y(self) -> Array:
        """Of each output channel, shape ``(C_out,)``."""
        self._check_count()
        spread = self._squares / self.count - np.square(self._sum_y / self.count)
        return np.maximum(spread, 0.0).reshape(-1)

    def _checked_sizes(self, x: npt.NDArray[np.generic], y: npt.NDArray[np.generic]) -> tuple[int, ...]:
        layer = self.layer
        if x.ndim != layer.weights.ndim or x.shape[1] != layer.c_in:
            raise ValueError(
                f"`x` has shape {x.shape}; expected (N, {layer.c_in}, *sizes) with {len(layer.kernel)} sizes, "
                f"the input of layer {layer.name!r}."
            )
        sizes = output_shape(x.shape[2:], layer.kernel, layer.stride, layer.dilation, layer.padding)
        if y.shape != (len(x), layer.c_out, *sizes):
            raise ValueError(
                f"`y` has shape {y.shape}; expected {(len(x), layer.c_out, *sizes)}, the output of layer "
                f"{layer.name!r} for an input of shape {x.shape}."
            )
        return sizes

    def _check_count(self) -> None:
        if not self.count:
            raise ValueError(f"layer {self.layer.name!r} has seen no data; call add(x, y) first.")

    def _add(self, x: Array, y: Array, places: int, used: int) -> None:
        if not (np.isfinite(x).all() and np.isfinite(y).all()):
            raise ValueError(
                f"the calibration data make NaN or infinity around layer {self.layer.name!r}; "
                "check the inputs and the network."
            )
        layer, ndim = self.layer, len(self.layer.kernel)
        groups = layer.groups
        seen = patches(x, layer)
        n, channels = seen.shape[:2]
        # (N, places, groups, C_in/groups * K)
        order = (0, *range(2, 2 + ndim), 1, *range(2 + ndim, 2 + 2 * ndim))
        by_place = seen.transpose(order)
        wanted = np.moveaxis(y.reshape(n, layer.c_out, places), 1, 2)
        if used < places:
            chosen = self._chosen(n, places, used)
            index = np.unravel_index(chosen, seen.shape[2 : 2 + ndim])
            by_place = by_place[(np.arange(n)[:, None], *index)]
            wanted = wanted[np.arange(n)[:, None], chosen]
        rows = by_place.reshape(n * used, groups, -1)
        wants = wanted.reshape(n * used, groups, -1)
        if self._origin_x is None:
            self._origin_x, self._origin_y = rows[0].copy(), wants[0].copy()
        rows = rows - self._origin_x
        wants = wants - self._origin_y
        for g in range(groups):
            mine = np.ascontiguousarray(rows[:, g])
            theirs = np.ascontiguousarray(wants[:, g])
            self._products[g] += mine.T @ mine
            self._cross[g] += mine.T @ theirs
        self._sum_x += rows.sum(axis=0)
        self._sum_y += wants.sum(axis=0)
        self._squares += np.square(wants).sum(axis=0)
        self.count += n * used
        self.samples += n
