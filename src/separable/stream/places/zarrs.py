"""Arrays of zarr, format 2 and 3: read from anywhere zarr reads, written into a folder."""

from __future__ import annotations

import hashlib
import math
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..._base.atomic import give_place, sync_folder
from ..._base.extras import extra
from ..._base.types import Array
from ...arrays.boundaries import Interval
from ...files.guard import reading
from ..chunks.grid import touched
from ..chunks.reader import KIND, reader_of
from ..chunks.writer import DRAFT, ChunkFiles, ChunkWriter, writer_of
from ..parts import Chore, Region
from .arrays import ArraySource, ArrayTarget, thickness
from .flat import draft_of
from .ngff import full_resolution, zarr_header
from .place import Order, all_of, as_array, as_lying

_LARGEST_CHUNK = 1 << 20  # samples of a chunk, where the source has none
_METADATA = ("zarr.json", ".zarray")


def zarr_source(path: Path) -> ZarrSource:
    """Return the array in a folder, or the largest level of an OME-Zarr picture.

    Raises
    ------
    ValueError
        It holds a group of something else.
    FileError
        It is damaged.
    """
    with extra("volumes"):
        import zarr
    place = path
    with reading(path, KIND):
        opened = zarr.open(str(path), mode="r")
        if not hasattr(opened, "shape") and (level := full_resolution(path)) is not None:
            place, opened = level, zarr.open(str(level), mode="r")
    if not hasattr(opened, "shape"):
        names = sorted(name for name, _ in opened.members())
        fix = f"pass '{place}/{names[0]}'" if names else "it has no arrays"
        raise ValueError(f"`{place}` is a group of zarr, not an array; {fix}.")
    return ZarrSource(opened, place)


class ZarrSource(ArraySource):
    """An array of zarr."""

    def __init__(self, array: Any, path: Path) -> None:
        super().__init__(array, f"`{path}`", zarr_header(array, path))
        self._path, self._reader = path, reader_of(array, path)
        self._measure()

    def _measure(self) -> None:
        """Take on what our own reader takes: chunks of shards one by one, where zarr decodes whole shards."""
        if self._reader is None:
            return
        self.keeps = True
        chunks = as_lying(tuple(int(n) for n in self.array.chunks), self.order)
        lengths = as_lying(self.shape, self.order)
        self.rows, self.columns = min(chunks[0], lengths[0]), min((*chunks[1:2], *lengths[1:2]), default=1)
        self.codec_bytes, self.thread_bytes = self._reader.ahead_bytes, self._reader.thread_bytes

    def turn(self, order: Order, why: str) -> None:
        """Be read along another axis."""
        super().turn(order, why)
        self._measure()

    def read(self, begin: int, end: int, into: Array) -> None:
        """Read a part; FileError where a chunk is damaged."""
        all_of(self.pieces(Region((begin, end)), into))

    def pieces(self, part: Region, into: Array) -> list[Chore]:
        """Return the tasks that read a part, one for each chunk."""
        if self._reader is None:
            return super().pieces(part, into)
        return self._reader.pieces(self._box(part), as_array(into, self.order))

    def _copy(self, box: tuple[Interval, ...], into: Array) -> None:
        with reading(self._path, KIND):
            super()._copy(box, into)

    def _box(self, part: Region) -> tuple[Interval, ...]:
        return as_lying(part.box(as_lying(self.shape, self.order)), self.order)

    def foresee(self, part: Region) -> None:
        """Begin to read the bytes of a part's chunks."""
        if self._reader is not None:
            self._reader.foresee(self._box(part))

    def keep(self, reads: Sequence[Interval], folder: Path) -> None:
        """Keep decoded what a column and the next one need."""
        if self._reader is not None:
            self._reader.keep(reads, 1 if self.order == "C" else len(self.shape) - 2, folder)

    def close(self) -> None:
        """End what reads ahead."""
        if self._reader is not None:
            self._reader.close()

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


class ZarrForm(NamedTuple):
    """How an array of zarr is stored.

    Attributes
    ----------
    chunks, shards
        Lengths; None for no shards.
    compressors
        As `zarr.create_array` takes them.
    names : sequence of str or None
        Of the dimensions.
    """

    chunks: tuple[int, ...]
    shards: tuple[int, ...] | None = None
    compressors: Any = "auto"
    names: Any = None

    @classmethod
    def like(cls, array: Any, shape: tuple[int, ...]) -> ZarrForm:
        """Return the form of another array, as far as one of `shape` may have it."""
        shards: Any = getattr(array, "shards", None)
        chunks: Any = getattr(array, "chunks", None)
        if not chunks or len(chunks) != len(shape) or isinstance(chunks[0], (tuple, list)):
            return cls(_chunks(shape))
        # Format 2 has codecs of its own.
        followed = getattr(getattr(array, "metadata", None), "zarr_format", 2) == 3
        return cls(
            tuple(map(int, chunks)),
            tuple(map(int, shards)) if shards else None,
            array.compressors if followed else "auto",
            array.metadata.dimension_names if followed and array.shape == shape else None,
        )


class ZarrTarget:
    """An array of zarr in a folder beside the target, which gets the target's name when all is written."""

    remark = ""
    in_order = False
    notes: tuple[str, ...] = ()

    def __init__(
        self,
        path: Path,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        form: ZarrForm,
        order: Order,
        draft: Path | None = None,
    ) -> None:
        with extra("volumes"):
            import zarr  # noqa: F401
        self.name = f"`{path}`"
        self.path: str | None = str(path)
        self._path, self._draft = path, draft or draft_of(path)
        self._shape, self._dtype, self._form = shape, dtype, form
        self._array: Any = None
        grid = _Grid(shape, dtype, form.chunks, form.shards)
        self.order = order
        self.rows, self.codec_bytes = thickness(grid, order), 0
        self.columns, self.thread_bytes = thickness(grid, order, 1), grid.thread_bytes
        self.merge_bytes = grid.thread_bytes + 2 * grid.file_bytes  # where a part of a file is written
        self.chunk_bytes = math.prod(form.chunks) * dtype.itemsize
        self._files: ChunkFiles | None = None
        self._writer: ChunkWriter | None = None

    def exists(self) -> bool:
        """Return whether the target is there."""
        return self._path.exists()

    def begin(self, resumed: bool) -> None:
        """Make the draft's folder; open it where it is there with its metadata."""
        import zarr

        if resumed and (self._draft / "zarr.json").exists():
            for left in self._draft.rglob(f"*{DRAFT}"):  # by a process that was killed
                left.unlink()
            self.join()
            return
        if self._draft.exists():
            shutil.rmtree(self._draft)
        form = self._form
        self._open(
            zarr.create_array(
                str(self._draft),
                shape=self._shape,
                dtype=self._dtype,
                chunks=form.chunks,
                shards=form.shards,
                compressors=form.compressors,
                dimension_names=form.names,
            )
        )

    def join(self) -> None:
        """Open the draft that is there."""
        import zarr

        self._open(zarr.open(str(self._draft), mode="r+"))

    def _open(self, array: Any) -> None:
        self._array, self._files = array, ChunkFiles(array, self._draft)
        self._writer = writer_of(array, self._files)

    def write(self, begin: int, values: Array) -> None:
        """Write whole chunks, or shards."""
        all_of(self.pieces(Region((begin, begin + len(values))), values))

    def pieces(self, part: Region, values: Array) -> list[Chore]:
        """Return the tasks that write a part, one for each chunk or shard."""
        box = self._box(part)
        if self._writer is None:  # codecs that zarr alone knows
            return ArrayTarget(self._array, self._shape, self._dtype, self.order).pieces(part, values)
        return self._writer.pieces(box, as_array(values, self.order))

    def _box(self, part: Region) -> tuple[Interval, ...]:
        return as_lying(part.box(as_lying(self._shape, self.order)), self.order)

    def read(self, lying: tuple[Interval, ...]) -> Array:
        """Return a box that was written, as it lies."""
        box = as_lying(lying, self.order)
        samples = np.empty(tuple(end - begin for begin, end in box), self._dtype)
        for touch in touched(box, self._form.chunks):  # one chunk at a time: zarr would decode ten
            places = zip(box, touch.in_box, strict=True)
            key = tuple(slice(begin + own.start, begin + own.stop) for (begin, _), own in places)
            samples[touch.in_box] = self._array[key]
        return as_array(samples, self.order)

    def complete(self, part: Region) -> Region:
        """Return a part with those of its chunks, along the next axis, that end within it."""
        if part.columns is None:
            return part
        begin, end = part.columns
        if end < as_lying(self._shape, self.order)[1]:
            end -= end % self.columns
        return Region(part.rows, (begin - begin % self.columns, end))

    def synced(self, begin: int, end: int) -> int:
        """Return the bytes of the chunks of a part, once they are on the disk."""
        return self.synced_part(Region((begin, end)))

    def stored(self, begin: int, end: int) -> int:
        """Return the bytes of the chunks of a part."""
        return self.stored_part(Region((begin, end)))

    def synced_part(self, part: Region) -> int:
        """Return the bytes of the chunks of a part, once they are on the disk."""
        return 0 if self._files is None else self._files.synced(self._box(part))

    def stored_part(self, part: Region) -> int:
        """Return the bytes of the chunks of a part."""
        return 0 if self._files is None else self._files.stored(self._box(part))

    def finish(self) -> None:
        """Give the folder its name."""
        sync_folder(self._draft)
        give_place(self._draft, self._path)

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

    @property
    def thread_bytes(self) -> int:
        """Memory that a thread takes to encode: a chunk, its bytes twice, and a shard's."""
        return 3 * math.prod(self.chunks) * self.dtype.itemsize + (self.file_bytes if self.shards else 0)

    @property
    def file_bytes(self) -> int:
        """Bytes of the samples in a file: of a chunk, or a shard."""
        return math.prod(self.shards or self.chunks) * self.dtype.itemsize


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
    folder = _folder(array)
    return None if folder is None else ZarrSource(array, folder)


def local_target(
    array: Any, shape: tuple[int, ...], dtype: np.dtype[Any], order: Order
) -> ZarrArrayTarget | None:
    """Return the target of a zarr array whose files lie in a folder; None for all else."""
    folder = _folder(array)
    if folder is None or getattr(array, "read_only", False):
        return None
    return ZarrArrayTarget(array, shape, dtype, order, folder)


class ZarrArrayTarget(ArrayTarget):
    """An array of zarr that is there, encoded by threads of ours."""

    def __init__(
        self, array: Any, shape: tuple[int, ...], dtype: np.dtype[Any], order: Order, folder: Path
    ) -> None:
        super().__init__(array, shape, dtype, order)
        self._files = ChunkFiles(array, folder)
        self._writer = writer_of(array, self._files)
        if self._writer is not None:
            grid = _Grid(shape, dtype, tuple(array.chunks), getattr(array, "shards", None))
            self.codec_bytes, self.thread_bytes = 0, grid.thread_bytes

    def pieces(self, part: Region, values: Array) -> list[Chore]:
        """Return the tasks that write a part, one for each chunk or shard."""
        box = as_lying(part.box(as_lying(tuple(self.array.shape), self.order)), self.order)
        if self._writer is None or not self._files.whole(box):
            return super().pieces(part, values)
        return self._writer.pieces(box, as_array(values, self.order))


def _folder(array: Any) -> Path | None:
    """Return the folder of a zarr array; None where it has none, or is of another library."""
    if type(array).__module__.split(".")[0] != "zarr" or not hasattr(array, "shape"):
        return None
    root = getattr(array.store, "root", None)
    return None if root is None else Path(root) / array.path
