"""Chunks of an array of zarr, read ahead, and decoded in pieces of work."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..._base.types import Array
from ...arrays.boundaries import Interval
from ...files.guard import reading
from ..parts import Chore
from ..system.offsets import BINARY, fill_from
from .ahead import Buffers, LentBytes, ReadAhead, depth_for
from .codec import ChunkCodec, codec_of
from .grid import Index, Touch, touched
from .shard import ShardIndices, layout_of
from .strips import Strips

KIND = "zarr"
_LARGER = 1 << 16  # than a chunk, by which bytes may be that do not compress


class ChunkReader:
    """The chunks of an array in a folder, decoded by `codec`.

    Attributes
    ----------
    ahead_bytes : int
        Memory taken by what is read ahead.
    thread_bytes : int
        Memory taken by each thread that decodes.
    """

    def __init__(
        self, folder: Path, codec: ChunkCodec, indices: ShardIndices | None, key: Callable[[Index], str]
    ) -> None:
        self._folder, self._codec, self._indices, self._key = folder, codec, indices, key
        depth = depth_for(codec.nbytes)
        self._buffers = Buffers(codec.nbytes + codec.nbytes // 64 + _LARGER)
        self._ahead = ReadAhead(self._fetch, depth)
        self._memory = threading.local()
        self._strips: Strips | None = None
        self._axis = 0
        self.ahead_bytes = (depth + 1) * codec.nbytes
        self.thread_bytes = codec.nbytes * (3 if len(codec.stages) > 1 else 2)

    def keep(self, reads: Sequence[Interval], axis: int, folder: Path) -> None:
        """Keep what the next of several columns along an axis needs, in a file in `folder`."""
        self._strips, self._axis = Strips(reads, self._codec.nbytes, folder), axis

    def foresee(self, box: tuple[Interval, ...]) -> None:
        """Begin to read the chunks that a box touches."""
        indices = (touch.number for touch in touched(box, self._codec.shape))
        self._ahead.expect(index for index in indices if not self._kept(index))

    def _kept(self, index: Index) -> bool:
        return self._strips is not None and self._strips.holds(index)

    def pieces(self, box: tuple[Interval, ...], into: Array) -> list[Chore]:
        """Return the tasks that fill an array with a box: one a chunk."""
        self.foresee(box)
        tasks = []
        for touch in touched(box, self._codec.shape):
            out = into[touch.in_box]
            columns = box[self._axis]
            if self._kept(touch.number) and not self._ahead.expects(touch.number):
                tasks.append(Chore(partial(self._restore, touch, out, columns)))
            else:
                if self._strips is not None and self._first_needed(touch, columns) is not None:
                    self._strips.expect(touch.number)
                wait = partial(self._ahead.get, touch.number)
                tasks.append(Chore(partial(self._place, touch, out, columns), wait))
        return tasks

    def _fetch(self, index: Index) -> LentBytes | None:
        """Return the bytes of a chunk; None where it is not stored."""
        file, place, size = index, 0, -1
        with reading(self._folder, KIND):
            if self._indices is not None:
                known = self._indices.place_of(index)
                if known is None:
                    return None
                file, place, size = known
            try:
                handle = self.open_file(file)
            except FileNotFoundError:
                return None
            try:
                if size < 0:
                    size = os.fstat(handle).st_size
                held = self._buffers.take(size)
                if fill_from(handle, held.data, place) < size:
                    raise ValueError(f"chunk {index} is cut short")
            finally:
                os.close(handle)
        return held

    def open_file(self, index: Index) -> int:
        """Return the open file of a chunk, or of a shard."""
        return os.open(self._folder / self._key(index), os.O_RDONLY | BINARY)

    def _place(self, touch: Touch, out: Array, columns: Interval, held: LentBytes | None) -> None:
        """Decode a chunk and copy what is asked for."""
        if held is None:  # nothing is kept of it
            out[...] = self._codec.filled()
            return
        codec = self._codec
        keep = None if self._strips is None else self._first_needed(touch, columns)
        whole = out.shape == codec.shape and out.flags.c_contiguous and out.dtype == codec.stored
        chunk = out if whole and codec.order == "C" else self._chunk()
        with reading(self._folder, KIND):
            try:
                codec.decode(held.data, chunk)
            finally:
                self._buffers.give_back(held)
        if chunk is not out:
            np.copyto(out, chunk[touch.in_chunk], casting="equiv")
        if keep is not None and self._strips is not None:
            self._strips.keep(touch.number, chunk[self._from(keep)], keep)

    def _restore(self, touch: Touch, out: Array, columns: Interval, _: None) -> None:
        """Copy what is asked for from what is kept."""
        strips: Any = self._strips  # which `pieces` asked
        last = self._first_needed(touch, columns) is None
        kept = strips.take(touch.number, self._kept_memory(), self._axis, last)
        own = touch.in_chunk[self._axis]
        if kept is None or own.start < kept[1]:  # mode wrap may ask for more
            self._place(touch, out, columns, self._fetch(touch.number))
            return
        samples, first = kept
        places = list(touch.in_chunk)
        places[self._axis] = slice(own.start - first, own.stop - first)
        np.copyto(out, samples[tuple(places)], casting="equiv")

    def _first_needed(self, touch: Touch, columns: Interval) -> int | None:
        """Return from which of its own indices on the next column needs a chunk; None where it does not."""
        length = self._codec.shape[self._axis]
        start = touch.number[self._axis] * length
        strips: Any = self._strips
        first = strips.first_needed(columns, (start, start + length))
        return None if first is None else int(first) - start

    def _from(self, first: int) -> tuple[slice, ...]:
        return (*(slice(None),) * self._axis, slice(first, None))

    def _chunk(self) -> Array:
        """Return this thread's memory for a decoded chunk."""
        chunk: Array | None = getattr(self._memory, "chunk", None)
        if chunk is None:
            chunk = self._memory.chunk = self._codec.empty()
        return chunk

    def _kept_memory(self) -> Array:
        chunk = self._chunk()
        return chunk if self._codec.order == "C" else chunk.T.reshape(self._codec.shape)

    def close(self) -> None:
        """End the threads that read ahead, and drop what is kept."""
        self._ahead.close()
        if self._strips is not None:
            self._strips.close()
            self._strips = None


def reader_of(array: Any, folder: Path) -> ChunkReader | None:
    """Return the reader of an array of zarr in a folder; None where zarr itself has to decode it."""
    known = codec_of(array)
    if known is None:
        return None
    codec, shards = known
    key: Callable[[Index], str] = array.metadata.encode_chunk_key
    if shards is None:
        return ChunkReader(folder, codec, None, key)
    counts = tuple(int(s) // c for s, c in zip(array.shards, codec.shape, strict=True))
    layout = layout_of(shards, counts)
    if layout is None:
        return None
    indices = ShardIndices(layout, lambda index: os.open(folder / key(index), os.O_RDONLY | BINARY))
    return ChunkReader(folder, codec, indices, key)
