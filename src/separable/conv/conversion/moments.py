"""What a layer reads and should give, as sums: all that a fit needs to know of the calibration data."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from ..._base.types import FloatArray, RealArray
from ..._base.workers import Workers
from ..forms.layer import ConvLayer
from ..forms.outputs import of_outputs, outputs_of
from ..scores.loss import Values

__all__ = ["Excerpt", "Means", "MomentSums", "Moments", "bytes_of_sums", "patches"]

# Patches are made and multiplied about this many bytes at a time.
_BYTES_AT_ONCE: Final = 1 << 25

# Entries of a patch from which on their products are made in single precision, each divided by about its
# size: half the time and memory. Fewer entries take little of either. Patches wait until they have so many
# bytes: to add their products to the sums takes as long as to multiply a few of them.
_SINGLE: Final = 512
_WAITING: Final = 1 << 24

# Rows of a covariance that are made at once.
_ROWS_AT_ONCE: Final = 512


def patches(x: Values, layer: ConvLayer) -> Values:
    """Return a view of what each output of a layer reads, padding included.

    Parameters
    ----------
    x : ndarray, shape ``(N, C_in, *sizes)``
    layer : ConvLayer

    Returns
    -------
    ndarray, shape ``(N, C_in, *out_sizes, *k)``, read-only
    """
    filled, sizes = layer.filled(x), layer.sizes_for(x.shape[2:])
    steps = filled.strides[2:]
    strides = (
        *filled.strides[:2],
        *(step * s for step, s in zip(steps, layer.stride, strict=True)),
        *(step * d for step, d in zip(steps, layer.dilation, strict=True)),
    )
    shape = (*filled.shape[:2], *sizes, *layer.kernel)
    return np.lib.stride_tricks.as_strided(filled, shape, strides, writeable=False)


@dataclass(frozen=True, eq=False)
class Excerpt:
    """Some patches as they came, in float32.

    Attributes
    ----------
    x : ndarray, shape ``(N, C_in*K)``
        Patches, channel-major.
    y : ndarray, shape ``(N, C_out)``
        The outputs that are wanted.
    floor : ndarray, shape ``(N, C_out)``
        Where the activation has its zero: below it all outputs of a rectifier are alike.
    """

    x: npt.NDArray[np.float32]
    y: npt.NDArray[np.float32]
    floor: npt.NDArray[np.float32]

    @property
    def nbytes(self) -> int:
        """Memory taken."""
        return self.x.nbytes + self.y.nbytes + self.floor.nbytes


def bytes_of_sums(unknowns: int) -> int:
    """Return the memory that sums over patches take: the products of their entries, and what waits."""
    return unknowns**2 * 4 + _WAITING if unknowns >= _SINGLE else unknowns**2 * 8


class Means(NamedTuple):
    """What is left of sums when their products are not needed any more.

    Attributes
    ----------
    x : ndarray, shape ``(C_in*K,)``
        Mean patch, channel-major.
    y, variance_y : ndarray, shape ``(C_out,)``
        Mean and variance of the outputs.
    """

    x: FloatArray
    y: FloatArray
    variance_y: FloatArray


class MomentSums:
    """Sums over patches and wanted outputs, about an origin, and the moments that they amount to.

    Parameters
    ----------
    layer : ConvLayer
    """

    def __init__(self, layer: ConvLayer) -> None:
        groups, size = layer.groups, layer.c_in * layer.taps // layer.groups
        self.count = 0
        self._single = size >= _SINGLE
        dtype = np.float32 if self._single else np.float64
        self._products = [np.zeros((size, size), dtype) for _ in range(groups)]
        self._cross = np.zeros((groups, size, layer.c_out // groups))
        self._sum_x = np.zeros((groups, size))
        self._sum_y = np.zeros((groups, layer.c_out // groups))
        self._squares = np.zeros_like(self._sum_y)
        # Variances of what has a large mean keep their digits if sums are taken about a patch's values.
        self._origin_x, self._origin_y = np.zeros_like(self._sum_x), np.zeros_like(self._sum_y)
        self._scale_x, self._scale_y = np.ones_like(self._sum_x), np.ones_like(self._sum_y)
        # Patches and outputs that are still to be multiplied, in single precision.
        self._waiting: list[tuple[Values, Values]] = []

    def start(self, rows: Values, wants: Values) -> None:
        """Set the origin and the scale: of some patches, shape ``(n, groups, size)``, and outputs."""
        self._origin_x, self._origin_y = rows[0].astype(np.float64), wants[0].astype(np.float64)
        if self._single:
            # The rounding of products is that of entries of about the same size.
            self._scale_x, self._scale_y = _spread(rows - self._origin_x), _spread(wants - self._origin_y)

    def add(self, rows: Values, wants: Values) -> None:
        """Add patches, shape ``(n, groups, size)``, and outputs."""
        # In single precision differences from a patch are as exact as the patches, which came in it.
        read, wanted = self._centred(rows, self._origin_x), self._centred(wants, self._origin_y)
        self._sum_x += read.sum(axis=0, dtype=np.float64)
        self._sum_y += wanted.sum(axis=0, dtype=np.float64)
        self._squares += np.square(wanted, dtype=np.float64).sum(axis=0)
        self.count += len(rows)
        if not self._single:
            # Products in float32 leave covariances of few patches with eigenvalues below zero, beyond the
            # ridge.
            self._multiply(read, wanted)
            return
        read /= self._scale_x.astype(read.dtype)
        wanted /= self._scale_y.astype(read.dtype)
        self._waiting.append((read, wanted))
        if sum(read.nbytes for read, _ in self._waiting) >= _WAITING:
            self._multiply_waiting()

    def _centred(self, values: Values, origin: FloatArray) -> Values:
        """Return the differences from the origin in the precision of the products."""
        dtype = np.float32 if self._single else np.float64
        return np.subtract(values, origin, dtype=dtype, casting="same_kind")

    def _multiply_waiting(self) -> None:
        if self._waiting:
            read, wanted = (np.concatenate(parts) for parts in zip(*self._waiting, strict=True))
            self._waiting = []
            self._multiply(read, wanted)

    def _multiply(self, read: Values, wanted: Values) -> None:
        for g, product in enumerate(self._products):
            mine = np.ascontiguousarray(read[:, g])
            product += mine.T @ mine
            self._cross[g] += mine.T @ wanted[:, g]

    def __add__(self, other: MomentSums) -> MomentSums:
        self._multiply_waiting()
        other._multiply_waiting()
        total = object.__new__(MomentSums)
        vars(total).update(vars(self))
        total._waiting = []
        total.count = self.count + other.count
        total._products = [a + b for a, b in zip(self._products, other._products, strict=True)]
        for name in ("_cross", "_sum_x", "_sum_y", "_squares"):
            setattr(total, name, getattr(self, name) + getattr(other, name))
        return total

    @property
    def means(self) -> Means:
        """The means, and the variances of the outputs, without the products of patches."""
        return Means(self.mean_x, self.mean_y, self.variance_y)

    @property
    def mean_x(self) -> FloatArray:
        """Mean patch, shape ``(C_in*K,)``, channel-major."""
        return (self._origin_x + self._sum_x / self.count).reshape(-1)

    @property
    def mean_y(self) -> FloatArray:
        """Mean output, shape ``(C_out,)``."""
        return (self._origin_y + self._sum_y / self.count).reshape(-1)

    @property
    def spread_x(self) -> float:
        """About the standard deviation of the entries of a patch, of those of which products are scaled."""
        return float(np.sqrt(np.square(self._scale_x).mean()))

    @property
    def covariance(self) -> tuple[RealArray, ...]:
        """Of the patches, centred: for each group ``(C_in/groups*K, C_in/groups*K)``."""
        return self.covariances(np.float64)

    def covariances(self, dtype: npt.DTypeLike) -> tuple[RealArray, ...]:
        """Return the same as numbers of a type."""
        self._multiply_waiting()
        means = self._sum_x / self.count
        covariances = []
        for product, mean, scale in zip(self._products, means, self._scale_x, strict=True):
            centred = np.empty(product.shape, dtype)
            for start in range(0, len(product), _ROWS_AT_ONCE):  # nothing else of the size of `centred`
                rows = slice(start, start + _ROWS_AT_ONCE)
                wide = product[rows] * (scale[rows, np.newaxis] * (scale / self.count))
                centred[rows] = wide - np.multiply.outer(mean[rows], mean)
            covariances.append(centred)
        return tuple(covariances)

    @property
    def cross(self) -> tuple[FloatArray, ...]:
        """Of patches and outputs, centred: for each group ``(C_in/groups*K, C_out/groups)``."""
        self._multiply_waiting()
        shift = np.einsum("gi,go->gio", self._sum_x / self.count, self._sum_y / self.count)
        scale = np.einsum("gi,go->gio", self._scale_x, self._scale_y) / self.count
        return tuple(self._cross * scale - shift)

    @property
    def variance_y(self) -> FloatArray:
        """Of each output channel, shape ``(C_out,)``."""
        spread = self._squares / self.count - np.square(self._sum_y / self.count)
        return np.maximum(spread, 0.0).reshape(-1)


def _spread(values: FloatArray) -> FloatArray:
    """Return about the size of each entry, at least that of a hundredth of all."""
    sizes: FloatArray = np.sqrt(np.square(values).mean(axis=0))
    least = 0.01 * float(np.sqrt(np.square(sizes).mean()))
    return np.maximum(sizes, least) if least > 0 else np.ones_like(sizes)


class Moments:
    """Streaming sums over a layer's input patches and wanted outputs: float64, float32 of many unknowns.

    Memory does not depend on how many inputs are added, and neither do the sums on how they are split
    into batches, but for rounding.

    Parameters
    ----------
    layer : ConvLayer
    positions : int, optional
        Look at this many output positions of each sample, spread over them at random; None: at all.
        Neighbouring positions tell much the same.
    keep : int, optional
        Bytes of patches and outputs to keep as they are, in :attr:`excerpt`: as many whole samples as fit.
    workers : Workers, optional
        Threads that sums are made on.

    Attributes
    ----------
    layer : ConvLayer
    fitted : ConvLayer
        What a fit writes anew: the layer, or that of its outputs where it reads too many channels.
    samples : int
        Samples added.

    Raises
    ------
    ValueError
        If `positions` is below 1.

    Examples
    --------
    >>> import numpy as np
    >>> import separable as sp
    >>> rng = np.random.default_rng(0)
    >>> weights = rng.standard_normal((8, 4, 3, 3))
    >>> layer = sp.conv.ConvLayer("conv", weights, padding=((1, 1), (1, 1)), sizes=(10, 10))
    >>> moments = sp.conv.Moments(layer)
    >>> for batch in rng.standard_normal((3, 16, 4, 10, 10)):
    ...     moments.add(batch, layer(batch))  # what it reads, and what it should give
    >>> moments.samples
    48
    >>> one, two = (sp.conv.fit(layer, moments, "dw-pw", rank) for rank in (1, 2))
    >>> two.error < one.error
    True
    """

    def __init__(
        self,
        layer: ConvLayer,
        *,
        positions: int | None = None,
        keep: int = 0,
        workers: Workers | None = None,
    ) -> None:
        if positions is not None and positions < 1:
            raise ValueError(
                f"`positions={positions}` leaves nothing to look at; expected at least 1, or None."
            )
        self.layer, self.fitted = layer, of_outputs(layer) or layer
        self.samples = 0
        self._positions = positions
        self._halves = (MomentSums(self.fitted), MomentSums(self.fitted))
        self._keep = keep
        self._workers = workers or Workers()
        self._kept: dict[int, Excerpt] = {}
        self._kept_bytes = 0
        self._every = 1

    def add(self, x: npt.ArrayLike, y: npt.ArrayLike, floor: npt.ArrayLike | None = None) -> None:
        """Add a batch.

        Parameters
        ----------
        x : array_like, shape ``(N, C_in, *sizes)``
            What the layer reads; sizes may differ from batch to batch.
        y : array_like, shape ``(N, C_out, *out_sizes)``
            What it should give, bias included.
        floor : array_like, shape ``(N, C_out, *out_sizes)``, optional
            Where the activation that reads them has its zero, a rectifier if the layer names none: that reads
            the outputs less this. Default: 0 where an activation alone reads the layer.

        Raises
        ------
        ValueError
            If a shape does not fit the layer, or a value is NaN or infinite.
        """
        inputs, outputs = np.asarray(x), np.asarray(y)
        floors = None if floor is None else np.asarray(floor)
        sizes = self._checked_sizes(inputs, outputs, floors)
        places = math.prod(sizes)
        used = places if self._positions is None else min(places, self._positions)
        spread = math.prod(inputs.shape[2:]) * math.prod(self.layer.input_dilation)
        step = max(1, _BYTES_AT_ONCE // (8 * self.layer.c_in * max(self.layer.taps * used, spread)))
        for start in range(0, len(inputs), step):
            some = slice(start, start + step)
            self._add(inputs[some], outputs[some], None if floors is None else floors[some], used)

    @property
    def excerpt(self) -> Excerpt | None:
        """Some of the samples as they came, None where none were kept."""
        kept = list(self._kept.values())
        if not kept:
            return None
        return Excerpt(
            *(np.concatenate([getattr(excerpt, name) for excerpt in kept]) for name in ("x", "y", "floor"))
        )

    @property
    def count(self) -> int:
        """Patches added."""
        return sum(half.count for half in self._halves)

    def take_excerpt(self) -> Excerpt | None:
        """Return :attr:`excerpt`, and forget it."""
        excerpt, self._kept = self.excerpt, {}
        return excerpt

    def take_total(self) -> MomentSums:
        """Return :attr:`total`, and forget it and the halves: of 4,608 unknowns they take 250 MiB."""
        total = self.total
        self._halves = (MomentSums(self.fitted), MomentSums(self.fitted))
        del self.total
        return total

    @property
    def halves(self) -> tuple[MomentSums, MomentSums]:
        """The sums over every other sample, and over the rest."""
        return self._halves

    @cached_property
    def total(self) -> MomentSums:
        """The sums over all samples.

        Raises
        ------
        ValueError
            If nothing was added.
        """
        if not self.count:
            raise ValueError(f"layer {self.layer.name!r} has seen no data; call add(x, y) first.")
        first, second = self._halves
        return first + second

    def _checked_sizes(
        self, x: npt.NDArray[Any], y: npt.NDArray[Any], floor: npt.NDArray[Any] | None
    ) -> tuple[int, ...]:
        layer = self.layer
        if x.ndim != layer.weights.ndim or x.shape[1] != layer.c_in:
            raise ValueError(
                f"`x` has shape {x.shape}; expected (N, {layer.c_in}, *sizes) of {len(layer.kernel)} sizes, "
                f"the input of layer {layer.name!r}."
            )
        sizes = layer.sizes_for(x.shape[2:])
        expected = (len(x), layer.c_out, *sizes)
        for name, array in (("y", y), ("floor", y if floor is None else floor)):
            if array.shape != expected:
                raise ValueError(
                    f"`{name}` has shape {array.shape}; expected {expected}, the output of layer "
                    f"{layer.name!r} for an input of shape {x.shape}."
                )
        return sizes

    def _add(self, x: Values, y: Values, floor: Values | None, used: int) -> None:
        if not (np.isfinite(x).all() and np.isfinite(y).all()):
            raise ValueError(
                f"the calibration data make NaN or infinity around layer {self.layer.name!r}; "
                "check the inputs and the network."
            )
        seen = patches(x if self.fitted is self.layer else outputs_of(self.layer, x), self.fitted)
        chosen = self._chosen(len(x), math.prod(y.shape[2:]), used)
        rows, wants = _at_places(seen, y.ndim - 2, chosen), _at_places(y, y.ndim - 2, chosen)
        low = None if floor is None else _at_places(floor, y.ndim - 2, chosen)
        groups = self.layer.groups
        self._keep_some(rows, wants, low)
        rows, wants = (values.reshape(len(x), used, groups, -1) for values in (rows, wants))
        if not self.count:
            for half in self._halves:
                half.start(rows.reshape(-1, *rows.shape[2:]), wants.reshape(-1, *wants.shape[2:]))
        odd = (self.samples + np.arange(len(x))) % 2 == 1

        def add(half: int) -> None:
            mine, given = rows[odd == bool(half)], wants[odd == bool(half)]
            self._halves[half].add(*(v.reshape(-1, groups, v.shape[-1]) for v in (mine, given)))

        self._workers.map(add, range(2))
        self.samples += len(x)
        vars(self).pop("total", None)

    def _chosen(self, samples: int, places: int, used: int) -> npt.NDArray[np.intp]:
        """Return the places to look at, one at random in each of `used` runs of them, (samples, used)."""
        if used == places:
            return np.broadcast_to(np.arange(places), (samples, places))
        numbers = [np.random.default_rng(self.samples + n).random(used) for n in range(samples)]
        return ((np.arange(used) + np.stack(numbers)) * (places / used)).astype(np.intp)

    def _keep_some(self, rows: Values, wants: Values, floor: Values | None) -> None:
        if not self._keep or (floor is None and (self.layer.activation is None or self.layer.summed)):
            return
        for n in range(len(rows)):
            index = self.samples + n
            if index % self._every:
                continue
            low = np.zeros(wants[n].shape) if floor is None else floor[n]
            kept = Excerpt(*(values.astype(np.float32) for values in (rows[n], wants[n], low)))
            self._kept[index] = kept
            self._kept_bytes += kept.nbytes
            while len(self._kept) > 1 and self._kept_bytes > self._keep:
                self._every *= 2
                self._kept = {i: excerpt for i, excerpt in self._kept.items() if i % self._every == 0}
                self._kept_bytes = sum(excerpt.nbytes for excerpt in self._kept.values())


def _at_places(values: Values, ndim: int, chosen: npt.NDArray[np.intp]) -> Values:
    """Return what stands at some places of (N, C, *sizes, *more) as a new array (N, places, C*more)."""
    samples, sizes = len(values), values.shape[2 : 2 + ndim]
    order = (0, *range(2, 2 + ndim), 1, *range(2 + ndim, values.ndim))
    by_place = values.transpose(order)
    if chosen.shape[1] == math.prod(sizes):
        gathered = by_place.copy()
    else:
        gathered = by_place[(np.arange(samples)[:, np.newaxis], *np.unravel_index(chosen, sizes))]
    return gathered.reshape(samples, chosen.shape[1], -1)
