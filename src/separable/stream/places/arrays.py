"""Arrays of any library with a shape, a dtype and slicing."""

from __future__ import annotations

import math
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..._base.types import Array
from ...arrays.boundaries import Interval
from ...files.image import Image, without_samples
from ..chunks.grid import touched
from ..parts import Chore, Region, alone
from .place import Order, PartedSource, StreamSource, all_of, as_array, as_lying, read_tasks

_PARALLEL = 10  # chunks that libraries hold encoded and decoded at a time


def thickness(array: Any, order: Order = "C", number: int = 0) -> int:
    """Return how many indices of the slowest axis (`number` 0) are stored together, in a shard or a chunk."""
    chunks: Any = getattr(array, "shards", None) or getattr(array, "chunks", None)
    if not chunks or number >= len(chunks):
        return 1
    axis = number if order == "C" else -1 - number
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
    forward = keeps = False
    order: Order = "C"

    def __init__(self, array: Any, name: str | None = None, header: Image | None = None) -> None:
        self.array = array
        self.name = name or f"the {type(array).__name__}"
        self.shape = tuple(int(n) for n in array.shape)
        self.dtype = np.dtype(array.dtype)
        self.rows = thickness(array)
        self.columns = thickness(array, "C", 1)
        self.codec_bytes, self.thread_bytes = codec_bytes(array), 0
        self._one = threading.Lock()  # libraries need not bear two readers
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
        self.columns = thickness(self.array, order, 1)
        self.codec_bytes = codec_bytes(self.array, order)

    def pieces(self, part: Region, into: Array) -> list[Chore]:
        """Return the tasks that read a part: one slice, or of zarr one for each chunk.

        So no more threads of zarr's own work than tasks run: each waits for one.
        """
        shape = as_lying(self.shape, self.order)
        if not _is_zarr(self.array):
            if part.columns is None:
                return [alone(partial(self._alone, self.read, *part.rows, into))]
            return [alone(partial(self._alone, self._copy, part.box(shape), into))]
        box, out = as_lying(part.box(shape), self.order), as_array(into, self.order)
        chunks = tuple(int(n) for n in self.array.chunks)
        tasks = []
        for touch in touched(box, chunks):
            inner = [
                (begin + piece.start, begin + piece.stop)
                for (begin, _), piece in zip(box, touch.in_box, strict=True)
            ]
            lying = as_lying(tuple(inner), self.order)
            tasks.append(alone(partial(self._copy, lying, as_array(out[touch.in_box], self.order))))
        return tasks

    def _alone(self, read: Callable[..., None], *where: Any) -> None:
        with self._one:
            read(*where)

    def _copy(self, box: tuple[Interval, ...], into: Array) -> None:
        """Copy a slice, given as it lies."""
        key = as_lying(tuple(slice(*interval) for interval in box), self.order)
        np.copyto(into, as_array(np.asarray(self.array[key]), self.order), casting="no")

    def foresee(self, part: Region) -> None:
        """Do nothing: reading ahead is the library's affair."""

    def keep(self, reads: Sequence[Interval], folder: Path) -> None:
        """Do nothing: what columns share is sliced again."""

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
        self._learn()

    def _learn(self) -> None:
        """Take on how the source is read."""
        source = self._source
        self.order, self.rows, self.codec_bytes = source.order, source.rows, source.codec_bytes
        self.columns, self.keeps, self.thread_bytes = 0, False, 0  # it has no columns
        if isinstance(source, PartedSource):
            self.columns, self.keeps, self.thread_bytes = source.columns, source.keeps, source.thread_bytes

    def turn(self, order: Order, why: str) -> None:
        """Be read in another order."""
        self._source.turn(order, why)
        self._learn()

    def read(self, begin: int, end: int, into: Array) -> None:
        """Read a part."""
        samples = into.view(self._source.dtype)
        self._source.read(begin, end, samples)
        np.not_equal(samples, 0, out=into)

    def pieces(self, part: Region, into: Array) -> list[Chore]:
        """Return the tasks that read a part: one for each chunk of the axis that columns are cut along."""
        samples = into.view(self._source.dtype)
        if self._source.dtype == np.bool_:
            return read_tasks(self._source, part, samples)
        if part.columns is None and (into.ndim == 1 or not self.columns):
            return [alone(partial(self._known, part, samples))]
        begin, end = part.columns or (0, into.shape[1])
        step = max(self.columns, 1 << 20 if self.columns == 1 else 1)
        tasks = []
        for touch in touched((part.rows, (begin, end)), (part.rows[1], step)):
            first = begin + touch.in_box[1].start
            inner = Region(part.rows, (first, begin + touch.in_box[1].stop))
            tasks.append(alone(partial(self._known, inner, samples[:, touch.in_box[1]])))
        return tasks

    def _known(self, part: Region, samples: Array) -> None:
        all_of(read_tasks(self._source, part, samples))
        np.not_equal(samples, 0, out=samples.view(np.bool_))

    def foresee(self, part: Region) -> None:
        """Tell the source."""
        if isinstance(self._source, PartedSource):
            self._source.foresee(part)

    def keep(self, reads: Sequence[Interval], folder: Path) -> None:
        """Tell the source."""
        if isinstance(self._source, PartedSource):
            self._source.keep(reads, folder)

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
    in_order = False
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
        self.columns, self.thread_bytes = thickness(array, order, 1), 0

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

    def pieces(self, part: Region, values: Array) -> list[Chore]:
        """Return the tasks that assign a part: one, or of zarr one for each chunk or shard."""
        box = as_lying(part.box(as_lying(tuple(self.array.shape), self.order)), self.order)
        result, array = as_array(values, self.order), self.array

        def assign(first: tuple[int, ...], part_of: Array) -> None:
            places = zip(first, part_of.shape, strict=True)
            array[tuple(slice(start, start + n) for start, n in places)] = part_of

        if not _is_zarr(array):
            if part.columns is None:
                return [alone(partial(self.write, part.rows[0], values))]
            return [alone(partial(assign, tuple(begin for begin, _ in box), result))]
        stored = tuple(int(n) for n in getattr(array, "shards", None) or array.chunks)
        return [
            alone(
                partial(
                    assign,
                    tuple(begin + piece.start for (begin, _), piece in zip(box, touch.in_box, strict=True)),
                    result[touch.in_box],
                )
            )
            for touch in touched(box, stored)
        ]

    def synced_part(self, part: Region) -> int:
        """Return 0: what becomes of it is the array's affair."""
        return 0

    def stored_part(self, part: Region) -> int:
        """Return 0."""
        return 0

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


def _is_zarr(array: Any) -> bool:
    return type(array).__module__.split(".")[0] == "zarr" and hasattr(array, "metadata")
