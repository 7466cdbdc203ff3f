"""Arrays that lie as they are in a file, from some byte on: .npy, NIfTI, TIFF, blocks of HDF5."""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from ..._base.atomic import sync_folder
from ..._base.types import Array
from ..._base.words.quantities import in_bytes
from ...files.guard import FileError
from ...files.image import Image, without_samples
from .place import Order, as_lying

_BLOCK: Final = 1 << 20  # samples that are converted at a time
_LARGEST: Final = 1 << 30  # bytes of a call of the system


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
    forward = False
    rows = 1

    def __init__(self, path: Path, layout: Layout, header: Image | None = None) -> None:
        self.name, self.shape, self.dtype = f"`{path}`", layout.shape, layout.dtype
        self.order = layout.order
        self.header = without_samples(layout.shape, layout.dtype) if header is None else header
        self.codec_bytes = layout.codec_bytes
        self._path, self._layout, self._handle = path, layout, -1
        self._handle = os.open(path, os.O_RDONLY)
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
        place = self._layout.offset + begin * self._layout.row

        def read(left: memoryview) -> None:
            nonlocal place
            while left.nbytes:
                count = os.preadv(self._handle, [left[:_LARGEST]], place)
                if count == 0:
                    raise FileError(
                        f"{self.name} is cut short: it ends before the array of shape {self.shape} does."
                    )
                left, place = left[count:], place + count

        self._layout.fill(into, read)

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
    rows = 1

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
        self.order, self.codec_bytes, self.notes = layout.order, layout.codec_bytes, notes
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
        self._handle = os.open(self._draft, os.O_RDWR)

    def write(self, begin: int, values: Array) -> None:
        """Write a part."""
        place = self._offset + begin * self._layout.row
        for left in self._layout.blocks(values):
            while left.nbytes:
                count = os.pwrite(self._handle, left[:_LARGEST], place)
                left, place = left[count:], place + count

    def synced(self, begin: int, end: int) -> int:
        """Return the bytes of a part, which are on the disk."""
        os.fdatasync(self._handle) if hasattr(os, "fdatasync") else os.fsync(self._handle)
        return self.stored(begin, end)

    def stored(self, begin: int, end: int) -> int:
        """Return the bytes of a part that lie within the file."""
        there = os.fstat(self._handle).st_size - self._offset - begin * self._layout.row
        return max(0, min((end - begin) * self._layout.row, there))

    def finish(self) -> None:
        """Give the file its name."""
        os.fsync(self._handle)
        os.replace(self._draft, self._path)
        sync_folder(self._path.parent)

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
    free = os.statvfs(path.parent)
    room = free.f_bavail * free.f_frsize
    if room < size:
        raise OSError(
            errno.ENOSPC,
            f"the result takes {in_bytes(size)}, and its disk has {in_bytes(room)} free; write elsewhere, or "
            "pass a smaller dtype",
            str(path),
        )
