"""Arrays that lie as they are in a file, from some byte on: .npy, NIfTI, TIFF, blocks of HDF5."""

from __future__ import annotations

import errno
import math
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from ..._base.atomic import give_place
from ..._base.types import Array
from ..._base.words.quantities import in_bytes
from ...arrays.boundaries import Interval
from ...files.guard import FileError
from ...files.image import Image, without_samples
from ..parts import Chore, Region, alone
from ..system.offsets import BINARY, fill_from, write_at
from .place import Order, as_lying

_BLOCK: Final = 1 << 20  # samples that are converted at a time
_PIECE: Final = 8 << 20  # bytes that one task reads or writes at the least


def draft_of(path: Path) -> Path:
    """Return where a target lies until it is finished."""
    return path.with_name(f"{path.name}.part")


@dataclass(frozen=True)
class Layout:
    """How an array lies in its file.

    Attributes
    ----------
    shape : tuple of int
        Of the array.
    order : {"C", "F"}
    stored : dtype
        Of the samples in the file, with their byte order.
    dtype : dtype
        Of the samples that are read, native.
    offset : int
        The byte at which they begin.
    scaled : callable, optional
        Makes samples of `dtype` of those of `stored`; by default they are the same numbers.
    """

    shape: tuple[int, ...]
    order: Order
    stored: np.dtype[Any]
    dtype: np.dtype[Any]
    offset: int = 0
    scaled: Callable[[Array], Array] | None = None

    @property
    def row(self) -> int:
        """Bytes in the file for one index of the slowest axis."""
        return math.prod(as_lying(self.shape, self.order)[1:]) * self.stored.itemsize

    @property
    def pieces(self) -> tuple[int, int]:
        """Indices of the next axis, and bytes in the file for one of them."""
        lying = as_lying(self.shape, self.order)
        count = lying[1] if len(lying) > 1 else 1
        return count, self.row // max(count, 1)

    def place(self, part: Region) -> tuple[int, int, int]:
        """Return where a part begins behind the offset, its bytes for one index, and how far these lie apart.

        Where a part has all indices of the next axis it lies in one piece.
        """
        first = part.columns or (0, self.pieces[0])
        begin = part.rows[0] * self.row + first[0] * self.pieces[1]
        return begin, (first[1] - first[0]) * self.pieces[1], self.row

    def rows_of(self, part: Region) -> Iterator[Interval]:
        """Yield intervals of the slowest axis that are worth a task each."""
        step = max(1, _PIECE // max(self.place(part)[1], 1))
        for begin in range(*part.rows, step):
            yield begin, min(begin + step, part.rows[1])

    @property
    def as_is(self) -> bool:
        """Whether samples are read as they are stored."""
        return self.scaled is None and self.stored == self.dtype

    @property
    def codec_bytes(self) -> int:
        """Memory taken by conversion."""
        return 0 if self.as_is else 3 * _BLOCK * max(self.stored.itemsize, self.dtype.itemsize)

    def fill(self, into: Array, read: Callable[[memoryview], None]) -> None:
        """Fill an array with samples; `read` fills memory with the bytes that follow in the file."""
        samples = into.reshape(-1)
        if self.as_is:
            read(bytes_of(samples))
            return
        block = np.empty(min(_BLOCK, len(samples)), self.stored)
        for begin in range(0, len(samples), _BLOCK):
            part = block[: min(_BLOCK, len(samples) - begin)]
            read(bytes_of(part))
            samples[begin : begin + len(part)] = part if self.scaled is None else self.scaled(part)

    def blocks(self, values: Array) -> Iterator[memoryview]:
        """Yield the bytes in which values are stored."""
        samples = np.ascontiguousarray(values).reshape(-1)
        if self.as_is:
            yield bytes_of(samples)
            return
        for begin in range(0, len(samples), _BLOCK):
            yield bytes_of(samples[begin : begin + _BLOCK].astype(self.stored))


def bytes_of(samples: Array) -> memoryview:
    """Return the memory of a contiguous array."""
    return memoryview(samples.view(np.uint8))  # type: ignore[arg-type, unused-ignore]


class FileSource:
    """What sources of one file share: it lies in one order, and is known by its place and last change."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    order: Order
    _path: Path

    def turn(self, order: Order, why: str) -> None:
        """Raise ValueError where it lies in another order: each part would be spread over all of the file."""
        if order == self.order or len(self.shape) < 2:
            return
        own, other = ("first", "last") if self.order == "C" else ("last", "first")
        raise ValueError(
            f"{self.name} lies in slabs along its {own} axis, and {why} in slabs along the {other}; "
            "a .zarr is read and written along either."
        )

    def identity(self) -> str:
        """Return where it lies, its size and the time of its last change."""
        state = self._state()
        array = f"{self.shape} {self.dtype.str}"
        return f"{os.path.realpath(self._path)} {state.st_size} {state.st_mtime_ns} {array}"

    def _state(self) -> os.stat_result:
        return self._path.stat()


class FlatSource(FileSource):
    """An array in a file, read without a mapping: mapped pages count as memory."""

    remark = ""
    forward = keeps = False
    rows = columns = 1

    def __init__(self, path: Path, layout: Layout, header: Image | None = None) -> None:
        self.name, self.shape, self.dtype = f"`{path}`", layout.shape, layout.dtype
        self.order = layout.order
        self.header = without_samples(layout.shape, layout.dtype) if header is None else header
        self.codec_bytes, self.thread_bytes = 0, layout.codec_bytes
        self._path, self._layout, self._handle = path, layout, -1
        self._handle = os.open(path, os.O_RDONLY | BINARY)
        size = math.prod(layout.shape) * layout.stored.itemsize
        held = os.fstat(self._handle).st_size
        if not 0 <= layout.offset <= held - size:
            self.close()
            raise FileError(
                f"{self.name} is damaged or cut short: its array of shape {self.shape} would lie from byte "
                f"{layout.offset} to {layout.offset + size}, and the file has {held}."
            )

    def read(self, begin: int, end: int, into: Array) -> None:
        """Read a part; FileError where the file ends too early."""
        self._read(Region((begin, end)), into)

    def _read(self, part: Region, into: Array) -> None:
        begin, width, apart = self._layout.place(part)
        place = self._layout.offset + begin

        def read(into: memoryview) -> None:
            nonlocal place
            if fill_from(self._handle, into, place) < into.nbytes:
                raise FileError(
                    f"{self.name} is cut short: it ends before the array of shape {self.shape} does."
                )
            place += into.nbytes

        if width == apart and into.flags.c_contiguous:  # not within a column that is wider, in mode wrap
            self._layout.fill(into, read)
            return
        for number, row in enumerate(into):
            place = self._layout.offset + begin + number * apart
            self._layout.fill(row, read)

    def pieces(self, part: Region, into: Array) -> list[Chore]:
        """Return the tasks that read a part."""
        first = part.rows[0]
        return [
            alone(partial(self._read, part._replace(rows=rows), into[rows[0] - first : rows[1] - first]))
            for rows in self._layout.rows_of(part)
        ]

    def foresee(self, part: Region) -> None:
        """Do nothing: the system reads ahead in a file."""

    def keep(self, reads: Sequence[Interval], folder: Path) -> None:
        """Do nothing: what columns share is read again, and nothing is decoded."""

    def _state(self) -> os.stat_result:
        return os.fstat(self._handle)

    def close(self) -> None:
        """Close the file."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


class FlatTarget:
    """An array in a file beside the target, which gets the target's name when all is written.

    Parameters
    ----------
    path : Path
    layout : Layout
        Its offset is not used.
    prepare : callable
        Given the draft's path, writes all but the samples.
    locate : callable
        Given the draft's path, returns at which byte the samples begin.
    notes : tuple of str, optional
    """

    remark = ""
    rows = columns = 1
    in_order = False

    def __init__(
        self,
        path: Path,
        layout: Layout,
        prepare: Callable[[Path], None],
        locate: Callable[[Path], int],
        notes: tuple[str, ...] = (),
    ) -> None:
        self.name = f"`{path}`"
        self.path: str | None = str(path)
        self.order, self.notes = layout.order, notes
        self.codec_bytes, self.thread_bytes = 0, layout.codec_bytes
        self._path, self._draft, self._layout = path, draft_of(path), layout
        self._prepare, self._locate = prepare, locate
        self._bytes = math.prod(layout.shape) * layout.stored.itemsize
        self._handle, self._offset = -1, 0

    def exists(self) -> bool:
        """Return whether the target is there."""
        return self._path.exists()

    def begin(self, resumed: bool) -> None:
        """Write the header, unless a file is there that has it."""
        if not (resumed and self._draft.exists()):
            check_room(self._path, self._bytes)
            self._prepare(self._draft)
        self.join()
        if not resumed and os.fstat(self._handle).st_size < self._offset + self._bytes:
            os.ftruncate(self._handle, self._offset + self._bytes)
        os.fsync(self._handle)

    def join(self) -> None:
        """Open the draft that is there."""
        self._offset = self._locate(self._draft)
        self._handle = os.open(self._draft, os.O_RDWR | BINARY)

    def write(self, begin: int, values: Array) -> None:
        """Write a part."""
        self._write(Region((begin, begin + len(values))), values)

    def _write(self, part: Region, values: Array) -> None:
        begin, width, apart = self._layout.place(part)
        for number, row in enumerate([values] if width == apart else values):
            place = self._offset + begin + number * apart
            for block in self._layout.blocks(row):
                write_at(self._handle, block, place)
                place += block.nbytes

    def pieces(self, part: Region, values: Array) -> list[Chore]:
        """Return the tasks that write a part."""
        first = part.rows[0]
        return [
            alone(partial(self._write, part._replace(rows=rows), values[rows[0] - first : rows[1] - first]))
            for rows in self._layout.rows_of(part)
        ]

    def synced(self, begin: int, end: int) -> int:
        """Return the bytes of a part, which are on the disk."""
        return self.synced_part(Region((begin, end)))

    def stored(self, begin: int, end: int) -> int:
        """Return the bytes of a part that lie within the file."""
        return self.stored_part(Region((begin, end)))

    def synced_part(self, part: Region) -> int:
        """Return the bytes of a part, which are on the disk."""
        os.fdatasync(self._handle) if hasattr(os, "fdatasync") else os.fsync(self._handle)
        return self.stored_part(part)

    def stored_part(self, part: Region) -> int:
        """Return the bytes of a part that lie within the file."""
        begin, width, apart = self._layout.place(part)
        there = os.fstat(self._handle).st_size - self._offset - begin
        whole, rest = divmod(max(there, 0), apart)
        return min(whole * width + min(rest, width), (part.rows[1] - part.rows[0]) * width)

    def finish(self) -> None:
        """Give the file its name."""
        os.fsync(self._handle)
        self.close()  # Windows renames no open file
        give_place(self._draft, self._path)

    def close(self) -> None:
        """Close the file."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


def check_room(path: Path, size: int) -> None:
    """Refuse a target that its disk has no room for.

    Raises
    ------
    OSError
    """
    room = shutil.disk_usage(path.parent).free
    if room < size:
        raise OSError(
            errno.ENOSPC,
            f"the result takes {in_bytes(size)}, and its disk has {in_bytes(room)} free; write elsewhere, or "
            "pass a smaller dtype",
            str(path),
        )
