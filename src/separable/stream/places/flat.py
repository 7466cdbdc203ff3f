"""Arrays that lie as they are in a file, from some byte on: .npy, and contiguous data sets of HDF5."""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..._base.atomic import sync_folder
from ..._base.types import Array
from ..._base.words.quantities import in_bytes


def draft_of(path: Path) -> Path:
    """Return where a target lies until it is finished."""
    return path.with_name(f"{path.name}.part")


class FlatSource:
    """An array in a file, in C order, read without a mapping: mapped pages count as memory."""

    rows = 1
    codec_bytes = 0

    def __init__(self, path: Path, offset: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.name, self.shape, self.dtype = f"`{path}`", shape, dtype
        self._path, self._offset = path, offset
        self._row = math.prod(shape[1:]) * dtype.itemsize
        self._handle = os.open(path, os.O_RDONLY)

    def read(self, begin: int, end: int, into: Array) -> None:
        """Read a part; EOFError where the file ends too early."""
        left = memoryview(into.reshape(-1).view(np.uint8))  # type: ignore[arg-type, unused-ignore]
        place = self._offset + begin * self._row
        while left.nbytes:
            count = os.preadv(self._handle, [left[: 1 << 30]], place)
            if count == 0:
                raise EOFError(
                    f"{self.name} ends before the array of shape {self.shape} does: it was cut short."
                )
            left, place = left[count:], place + count

    def identity(self) -> str:
        """Return where it lies, its size and the time of its last change."""
        state = os.fstat(self._handle)
        array = f"{self.shape} {self.dtype.str}"
        return f"{os.path.realpath(self._path)} {state.st_size} {state.st_mtime_ns} {array}"

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
    shape : tuple of int
    dtype : dtype
    prepare : callable
        Given the draft's path, writes all but the samples.
    locate : callable
        Given the draft's path, returns at which byte the samples begin.
    """

    rows = 1
    codec_bytes = 0

    def __init__(
        self,
        path: Path,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        prepare: Callable[[Path], None],
        locate: Callable[[Path], int],
    ) -> None:
        self.name = f"`{path}`"
        self.path: str | None = str(path)
        self._path, self._draft = path, draft_of(path)
        self._prepare, self._locate = prepare, locate
        self._row = math.prod(shape[1:]) * dtype.itemsize
        self._bytes = shape[0] * self._row
        self._handle, self._offset = -1, 0

    def exists(self) -> bool:
        """Return whether the target is there."""
        return self._path.exists()

    def begin(self, resumed: bool) -> None:
        """Write the header, unless a file is there that has it."""
        if not (resumed and self._draft.exists()):
            free = os.statvfs(self._path.parent)
            room = free.f_bavail * free.f_frsize
            if room < self._bytes:
                raise OSError(
                    errno.ENOSPC,
                    f"the result takes {in_bytes(self._bytes)}, and its disk has {in_bytes(room)} free; "
                    "write elsewhere, or pass a smaller dtype",
                    str(self._path),
                )
            self._prepare(self._draft)
        self._offset = self._locate(self._draft)
        self._handle = os.open(self._draft, os.O_RDWR)
        if not resumed and os.fstat(self._handle).st_size < self._offset + self._bytes:
            os.ftruncate(self._handle, self._offset + self._bytes)
        os.fsync(self._handle)

    def write(self, begin: int, values: Array) -> None:
        """Write a part."""
        left = memoryview(np.ascontiguousarray(values).reshape(-1).view(np.uint8))  # type: ignore[arg-type, unused-ignore]
        place = self._offset + begin * self._row
        while left.nbytes:
            count = os.pwrite(self._handle, left[: 1 << 30], place)
            left, place = left[count:], place + count

    def synced(self, begin: int, end: int) -> int:
        """Return the bytes of a part, which are on the disk."""
        os.fdatasync(self._handle) if hasattr(os, "fdatasync") else os.fsync(self._handle)
        return self.stored(begin, end)

    def stored(self, begin: int, end: int) -> int:
        """Return the bytes of a part that lie within the file."""
        there = os.fstat(self._handle).st_size - self._offset - begin * self._row
        return max(0, min((end - begin) * self._row, there))

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
