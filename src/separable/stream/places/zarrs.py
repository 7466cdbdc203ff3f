"""Arrays of zarr, format 2 and 3: read from anywhere zarr reads, written into a folder."""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..._base.atomic import sync_folder
from ..._base.extras import extra
from ..._base.types import Array
from ...files.guard import reading
from .arrays import ArraySource, codec_bytes, thickness
from .flat import draft_of
from .ngff import zarr_header
from .place import Order, as_array

_LARGEST_CHUNK = 1 << 20  # samples of a chunk, where the source has none
_METADATA = ("zarr.json", ".zarray")
_KIND = "zarr"


def zarr_source(path: Path) -> ZarrSource:
    """Return the array in a folder; ValueError where it holds a group, FileError where it is damaged."""
    with extra("volumes"):
        import zarr
    with reading(path, _KIND):
        opened = zarr.open(str(path), mode="r")
    if not hasattr(opened, "shape"):
        names = sorted(name for name, _ in opened.arrays())
        fix = f"pass '{path}/{names[0]}'" if names else "it has no arrays"
        raise ValueError(f"`{path}` is a group of zarr, not an array; {fix}.")
    return ZarrSource(opened, path)


class ZarrSource(ArraySource):
    """An array of zarr."""

    def __init__(self, array: Any, path: Path) -> None:
        super().__init__(array, f"`{path}`", zarr_header(array, path))
        self._path = path

    def read(self, begin: int, end: int, into: Array) -> None:
        """Read a part, along the first axis decoded in place; FileError where a chunk is damaged."""
        from zarr.buffer.cpu import NDBuffer

        lent: Any = into
        with reading(self._path, _KIND):
            if self.order == "C":
                self.array.get_basic_selection(slice(begin, end), out=NDBuffer(lent))
            else:
                super().read(begin, end, into)

    def identity(self) -> str:
        """Return where it lies, its metadata, and count, sizes and the last change of its files."""
        meta = hashlib.sha256()
        for name in _METADATA:
            if (self._path / name).exists():
                meta.update((self._path / name).read_bytes())
        count = size = newest = 0
        for state in _states(str(self._path)):
            count, size, newest = count + 1, size + state.st_size, max(newest, state.st_mtime_ns)
        return f"{os.path.realpath(self._path)} {meta.hexdigest()} {count} {size} {newest}"


class ZarrTarget:
    """An array of zarr in a folder beside the target, which gets the target's name when all is written."""

    remark = ""
    notes: tuple[str, ...] = ()

    def __init__(
        self, path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], like: Any, order: Order
    ) -> None:
        with extra("volumes"):
            import zarr  # noqa: F401
        self.name = f"`{path}`"
        self.path: str | None = str(path)
        self._path, self._draft = path, draft_of(path)
        self._shape, self._dtype = shape, dtype
        shards: Any = getattr(like, "shards", None)
        chunks: Any = getattr(like, "chunks", None)
        fits = chunks and len(chunks) == len(shape) and not isinstance(chunks[0], (tuple, list))
        self._chunks = tuple(map(int, chunks)) if fits else _chunks(shape)
        self._shards = tuple(map(int, shards)) if fits and shards else None
        # Format 2 has codecs of its own.
        followed = fits and getattr(getattr(like, "metadata", None), "zarr_format", 2) == 3
        self._compressors = like.compressors if followed else "auto"
        self._names = like.metadata.dimension_names if followed and like.shape == shape else None
        self._array: Any = None
        grid = _Grid(shape, dtype, self._chunks, self._shards)
        self.order = order
        self.rows, self.codec_bytes = thickness(grid, order), codec_bytes(grid, order)

    def exists(self) -> bool:
        """Return whether the target is there."""
        return self._path.exists()

    def begin(self, resumed: bool) -> None:
        """Make the draft's folder; open it where it is there with its metadata."""
        import zarr

        if resumed and (self._draft / "zarr.json").exists():
            for left in self._draft.rglob("*.partial"):  # by a process that was killed
                left.unlink()
            self.join()
            return
        if self._draft.exists():
            shutil.rmtree(self._draft)
        codecs: Any = self._compressors
        self._array = zarr.create_array(
            str(self._draft),
            shape=self._shape,
            dtype=self._dtype,
            chunks=self._chunks,
            shards=self._shards,
            compressors=codecs,
            dimension_names=self._names,
        )

    def join(self) -> None:
        """Open the draft that is there."""
        import zarr

        self._array = zarr.open(str(self._draft), mode="r+")

    def write(self, begin: int, values: Array) -> None:
        """Write whole chunks, or shards."""
        if self.order == "C":
            self._array[begin : begin + len(values)] = values
        else:
            self._array[..., begin : begin + len(values)] = as_array(values, self.order)

    def synced(self, begin: int, end: int) -> int:
        """Return the bytes of the chunks of a part, once they are on the disk."""
        folders = set()
        for path in self._files(begin, end):
            handle = os.open(path, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
            folders.add(os.path.dirname(path))
        for folder in folders:
            sync_folder(Path(folder))
        return self.stored(begin, end)

    def stored(self, begin: int, end: int) -> int:
        """Return the bytes of the chunks of a part."""
        return sum(os.stat(path).st_size for path in self._files(begin, end))

    def _files(self, begin: int, end: int) -> Iterator[str]:
        """Yield the files of the chunks of a part; chunks of zeros have none."""
        own = range(begin // self.rows, -(-end // self.rows))
        stored = self._shards or self._chunks
        grid = [range(-(-n // chunk)) for n, chunk in zip(self._shape, stored, strict=True)]
        grid[0 if self.order == "C" else -1] = own
        root = os.path.join(self._draft, "c")
        for chunk in itertools.product(*grid):
            place = os.path.join(root, *map(str, chunk))
            if os.path.exists(place):
                yield place

    def finish(self) -> None:
        """Give the folder its name."""
        sync_folder(self._draft)
        os.rename(self._draft, self._path)
        sync_folder(self._path.parent)

    def close(self) -> None:
        """Do nothing: files are closed after each chunk."""


class _Grid:
    """Chunks and shards of an array that is to be."""

    def __init__(
        self,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        chunks: tuple[int, ...],
        shards: tuple[int, ...] | None,
    ) -> None:
        self.shape, self.dtype, self.chunks, self.shards = shape, dtype, chunks, shards


def _chunks(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return chunks that are about as long along all axes."""
    side = max(1, round(_LARGEST_CHUNK ** (1 / max(len(shape), 1))))
    return tuple(max(1, min(n, side)) for n in shape)


def _states(folder: str) -> Iterator[os.stat_result]:
    for place, _, names in os.walk(folder):
        for name in names:
            yield os.stat(os.path.join(place, name))


def local_array(array: Any) -> ZarrSource | None:
    """Return the source of a zarr array whose files lie in a folder; None for all else."""
    if type(array).__module__.split(".")[0] != "zarr" or not hasattr(array, "shape"):
        return None
    root = getattr(array.store, "root", None)
    return None if root is None else ZarrSource(array, Path(root) / array.path)
