"""Arrays of any library with a shape, a dtype and slicing."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..._base.types import Array
from ...files.image import Image, without_samples
from .place import Order, StreamSource, as_array

_PARALLEL = 10  # chunks that libraries hold encoded and decoded at a time


def thickness(array: Any, order: Order = "C") -> int:
    """Return how many indices of the slowest axis are stored together: those of a shard, or of a chunk."""
    chunks: Any = getattr(array, "shards", None) or getattr(array, "chunks", None)
    if not chunks:
        return 1
    axis = 0 if order == "C" else -1
    if isinstance(chunks[axis], (tuple, list)):  # Dask's: the lengths of all chunks
        return max(int(n) for n in chunks[axis])
    rows: int = min(int(chunks[axis]), int(array.shape[axis]))
    return max(1, rows)


def codec_bytes(array: Any, order: Order = "C") -> int:
    """Return an estimate of the memory in which chunks are coded."""
    chunks = getattr(array, "shards", None) or getattr(array, "chunks", None)
    if not chunks or isinstance(chunks[0], (tuple, list)):
        return 0
    lengths = [(int(n), int(chunk)) for n, chunk in zip(array.shape, chunks, strict=True)]
    across = lengths[1:] if order == "C" else lengths[:-1]
    count = math.prod(-(-n // chunk) for n, chunk in across)
    samples = math.prod(chunk for _, chunk in lengths)
    taken: int = 2 * min(count, _PARALLEL) * samples * np.dtype(array.dtype).itemsize
    if order == "F":  # a layer of chunks, before it is turned
        taken += thickness(array, order) * math.prod(n for n, _ in across) * np.dtype(array.dtype).itemsize
    return taken


class ArraySource:
    """An array that is sliced."""

    remark = ""
    forward = False
    order: Order = "C"

    def __init__(self, array: Any, name: str | None = None, header: Image | None = None) -> None:
        self.array = array
        self.name = name or f"the {type(array).__name__}"
        self.shape = tuple(int(n) for n in array.shape)
        self.dtype = np.dtype(array.dtype)
        self.rows = thickness(array)
        self.codec_bytes = codec_bytes(array)
        self.header = without_samples(self.shape, self.dtype) if header is None else header

    def read(self, begin: int, end: int, into: Array) -> None:
        """Read a part: one slice along the first axis, or slices of whole chunks along the last."""
        if self.order == "C":
            np.copyto(into, np.asarray(self.array[begin:end]), casting="no")
            return
        for part, first, last in layers(begin, end, self.rows):
            layer = np.asarray(self.array[(..., slice(first, last))])
            np.copyto(into[part], as_array(layer, self.order), casting="no")

    def turn(self, order: Order, why: str) -> None:
        """Be sliced along another axis."""
        self.order, self.rows = order, thickness(self.array, order)
        self.codec_bytes = codec_bytes(self.array, order)

    def identity(self) -> str:
        """Return shape, dtype and the check sums of the first, the middle and the last index."""
        n = self.shape[0]
        sums = [
            zlib.crc32(np.ascontiguousarray(self.array[i : i + 1]).tobytes())
            for i in sorted({0, n // 2, n - 1})
        ]
        return f"{self.shape} {self.dtype.str} {sums}"

    def close(self) -> None:
        """Do nothing: who opened the array closes it."""


def layers(begin: int, end: int, rows: int) -> Iterator[tuple[slice, int, int]]:
    """Yield the layers of chunks of a part: where each lies in it, and its first and last index."""
    first = begin
    while first < end:
        last = min((first // rows + 1) * rows, end)
        yield slice(first - begin, last - begin), first, last
        first = last


class MaskSource:
    """A source of bool, or of bytes that are 0 where a sample is unknown."""

    def __init__(self, source: StreamSource) -> None:
        self._source = source
        self.name, self.remark, self.header = source.name, source.remark, source.header
        self.shape, self.dtype = source.shape, np.dtype(np.bool_)
        self.order, self.forward = source.order, source.forward
        self.rows, self.codec_bytes = source.rows, source.codec_bytes

    def turn(self, order: Order, why: str) -> None:
        """Be read in another order."""
        self._source.turn(order, why)
        self.order, self.rows, self.codec_bytes = order, self._source.rows, self._source.codec_bytes

    def read(self, begin: int, end: int, into: Array) -> None:
        """Read a part."""
        samples = into.view(self._source.dtype)
        self._source.read(begin, end, samples)
        np.not_equal(samples, 0, out=into)

    def identity(self) -> str:
        """Return what the source's own says."""
        return self._source.identity()

    def close(self) -> None:
        """Close the source."""
        self._source.close()


class ArrayTarget:
    """An array that is assigned to in slices; it is not resumed."""

    path: str | None = None
    remark = ""
    notes: tuple[str, ...] = ()

    def __init__(self, array: Any, shape: tuple[int, ...], dtype: np.dtype[Any], order: Order) -> None:
        self.name = f"the {type(array).__name__}"
        if tuple(array.shape) != shape or np.dtype(array.dtype) != dtype:
            raise ValueError(
                f"`target` has shape {tuple(array.shape)} and dtype {np.dtype(array.dtype)}, but the result "
                f"has {shape} and {dtype}; pass an array like that, or dtype='{np.dtype(array.dtype)}'."
            )
        self.array, self.order = array, order
        self.rows, self.codec_bytes = thickness(array, order), codec_bytes(array, order)

    def exists(self) -> bool:
        """Return False: what it holds is to be replaced."""
        return False

    def begin(self, resumed: bool) -> None:
        """Do nothing: it is there."""

    def write(self, begin: int, values: Array) -> None:
        """Assign a part."""
        if self.order == "C":
            self.array[begin : begin + len(values)] = values
        else:
            self.array[(..., slice(begin, begin + len(values)))] = as_array(values, self.order)

    def synced(self, begin: int, end: int) -> int:
        """Return 0: what becomes of it is the array's affair."""
        return 0

    def stored(self, begin: int, end: int) -> int:
        """Return 0."""
        return 0

    def finish(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing: who opened the array closes it."""
