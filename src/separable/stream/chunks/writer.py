"""Chunks and shards of an array of zarr, encoded in pieces of work; each file appears whole."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from ..._base.atomic import sync_folder
from ..._base.types import Array
from ...arrays.boundaries import Interval
from ..parts import Chore, alone
from ..system.offsets import BINARY, write_at
from .codec import ChunkCodec, codec_of
from .grid import Index, Touch, touched
from .shard import ShardLayout, layout_of

DRAFT: Final = ".partial"  # of files of chunks
_WAITING: Final = 8  # files that are brought to the disk at a time: more in one commit of the file system


class ChunkFiles:
    """The files of the chunks, or shards, of an array in a folder."""

    def __init__(self, array: Any, folder: Path) -> None:
        stored: Any = getattr(array, "shards", None) or array.chunks
        self.lengths = tuple(int(n) for n in stored)
        self.shape = tuple(int(n) for n in array.shape)
        self.array, self.folder = array, folder
        self._key: Callable[[Index], str] = array.metadata.encode_chunk_key

    def path(self, index: Index) -> str:
        """Return where a chunk or shard lies."""
        return os.path.join(self.folder, self._key(index))

    def box(self, index: Index) -> tuple[Interval, ...]:
        """Return what of the array lies in a file."""
        return tuple(
            (number * length, min((number + 1) * length, n))
            for number, length, n in zip(index, self.lengths, self.shape, strict=True)
        )

    def whole(self, box: tuple[Interval, ...]) -> bool:
        """Return whether a box ends where chunks, or shards, do: what is encoded is written whole."""
        return all(
            begin % length == 0 and (end % length == 0 or end == n)
            for (begin, end), length, n in zip(box, self.lengths, self.shape, strict=True)
        )

    def paths(self, box: tuple[Interval, ...]) -> Iterator[str]:
        """Yield the files of a box; chunks of zeros have none."""
        for touch in touched(box, self.lengths):
            place = self.path(touch.number)
            if os.path.exists(place):
                yield place

    def synced(self, box: tuple[Interval, ...]) -> int:
        """Return the bytes of the files of a box, once they are on the disk."""
        paths = list(self.paths(box))
        with ThreadPoolExecutor(min(_WAITING, max(len(paths), 1))) as waiting:
            list(waiting.map(_sync_file, paths))
            list(waiting.map(sync_folder, {Path(path).parent for path in paths}))
        return self.stored(box)

    def stored(self, box: tuple[Interval, ...]) -> int:
        """Return the bytes of the files of a box."""
        return sum(os.stat(path).st_size for path in self.paths(box))


class ChunkWriter:
    """Encodes chunks by `codec`, and writes them, or the shards that they lie in."""

    def __init__(self, files: ChunkFiles, codec: ChunkCodec, layout: ShardLayout | None) -> None:
        self._files, self._codec, self._layout = files, codec, layout
        self._memory = threading.local()
        self._made = set[str]()  # folders

    def pieces(self, box: tuple[Interval, ...], values: Array) -> list[Chore]:
        """Return the tasks that write a box: one a file, read before where the box ends within it."""
        tasks = []
        for touch in touched(box, self._files.lengths):
            part = values[touch.in_box]
            own = partial(self._write, touch.number, part)
            if part.shape != tuple(end - begin for begin, end in self._files.box(touch.number)):
                own = partial(self._merge, touch, part)
            tasks.append(alone(own))
        return tasks

    def _merge(self, touch: Touch, values: Array) -> None:
        """Write a part of a file; what else is in it stays, and is on the disk at any moment."""
        box = self._files.box(touch.number)
        whole = np.array(self._files.array[tuple(slice(*interval) for interval in box)])
        whole[touch.in_chunk] = values
        self._write(touch.number, whole, synced=True)

    def _write(self, index: Index, values: Array, synced: bool = False) -> None:
        if self._layout is None:
            data = self._encoded(values)
            parts = None if data is None else [data]
        else:
            box = tuple((0, n) for n in values.shape)
            chunks = touched(box, self._codec.shape)
            parts = self._layout.assembled(
                (chunk.number, _own(self._encoded(values[chunk.in_box]))) for chunk in chunks
            )
        path = self._files.path(index)
        if parts is None:
            if os.path.exists(path):
                os.unlink(path)
            return
        self._save(path, parts, synced)

    def _encoded(self, values: Array) -> Any:
        """Return the bytes of a chunk, filled up where it reaches beyond the end; None for an empty one."""
        codec = self._codec
        as_is = values.dtype == codec.stored and codec.order == "C" and values.flags.c_contiguous
        if as_is and values.shape == codec.shape:
            return codec.encode(values)
        chunk: Array | None = getattr(self._memory, "chunk", None)
        if chunk is None:
            chunk = self._memory.chunk = codec.empty()
        if values.shape != codec.shape:
            chunk[...] = codec.filled()
        np.copyto(chunk[tuple(slice(n) for n in values.shape)], values, casting="equiv")
        return codec.encode(chunk)

    def _save(self, path: str, parts: list[Any], synced: bool) -> None:
        folder = os.path.dirname(path)
        if folder not in self._made:
            os.makedirs(folder, exist_ok=True)
            self._made.add(folder)
        draft = path + DRAFT
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | BINARY, 0o666)
        try:
            place = 0
            for part in parts:
                data = memoryview(part).cast("B")
                write_at(handle, data, place)
                place += data.nbytes
            if synced:
                os.fsync(handle)
        finally:
            os.close(handle)
        os.replace(draft, path)


def writer_of(array: Any, files: ChunkFiles) -> ChunkWriter | None:
    """Return the writer of an array of zarr in a folder; None where zarr itself has to encode it."""
    known = codec_of(array)
    if known is None:
        return None
    codec, shards = known
    if shards is None:
        return ChunkWriter(files, codec, None)
    counts = tuple(s // c for s, c in zip(files.lengths, codec.shape, strict=True))
    layout = layout_of(shards, counts)
    return None if layout is None else ChunkWriter(files, codec, layout)


def _own(data: Any) -> Any:
    """Return bytes that stay when the next chunk is encoded in the same memory."""
    return bytes(data) if isinstance(data, memoryview) else data


def _sync_file(path: str) -> None:
    handle = os.open(path, os.O_RDWR | BINARY)  # Windows syncs only what may be written
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
