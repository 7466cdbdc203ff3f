"""Arrays in a stream of gzip, read and written in one go from front to back."""

from __future__ import annotations

import gzip
import io
import math
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Final, cast

import numpy as np

from ..._base.atomic import give_place, lock
from ..._base.types import Array
from ...files.guard import FileError, reading
from ...files.image import Image
from ..journal import JournalError
from .flat import FileSource, Layout, bytes_of, check_room, draft_of
from .place import as_lying

_LEVEL: Final = 1  # as `separable.files` writes: a scanner's noise hardly compresses at any level
_BUFFERS: Final = 4 << 20  # bytes that gzip and its buffers take
_SHRINKS: Final = 1032  # RFC 1951: by that factor at the most, so that the least room is known


class PipeSource(FileSource):
    """An array in a compressed file; what lies behind is reached by reading from the front again."""

    remark = ", decompressed from front to back"
    forward = True
    rows = 1

    def __init__(
        self,
        path: Path,
        layout: Layout,
        header: Image,
        kind: str,
        opened: Callable[[], IO[bytes]] | None = None,
    ) -> None:
        self.name, self.shape, self.dtype = f"`{path}`", layout.shape, layout.dtype
        self.order, self.header = layout.order, header
        self.codec_bytes = layout.codec_bytes + _BUFFERS
        self._path, self._layout, self._kind = path, layout, kind
        self._opened = opened or self._unpacked
        self._stream: IO[bytes] | None = None
        self._place = 0  # bytes of the stream that were read

    def read(self, begin: int, end: int, into: Array) -> None:
        """Read a part, and what lies before it; FileError where the file is damaged or ends too early."""
        place = self._layout.offset + begin * self._layout.row
        with reading(self._path, self._kind):
            if self._stream is None or place < self._place:
                self.close()
                self._stream, self._place = self._opened(), 0
            skipped = bytes_of(np.empty(min(place - self._place, 1 << 20), np.uint8))
            while self._place < place:
                self._fill(skipped[: place - self._place])
            self._layout.fill(into, self._fill)
            if end == as_lying(self.shape, self.order)[0]:
                self._stream.read(1)  # behind the last byte the check sum is looked at

    def _unpacked(self) -> IO[bytes]:
        return cast("IO[bytes]", gzip.GzipFile(self._path, "rb"))

    def _fill(self, left: memoryview) -> None:
        stream = cast("io.RawIOBase", self._stream)
        while left.nbytes:
            count = stream.readinto(left)
            if not count:
                raise FileError(
                    f"{self.name} is cut short: it ends before the array of shape {self.shape} does."
                )
            left, self._place = left[count:], self._place + count

    def close(self) -> None:
        """Close the file."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None


class PipeTarget:
    """An array in a compressed file beside the target, which gets the target's name when all is written.

    It is written in one go: a run that was stopped begins anew. What an error or Ctrl-C leaves is removed.
    """

    path: str | None = None
    remark = ", compressed in one go and not resumed"
    rows = 1
    in_order = True

    def __init__(self, path: Path, layout: Layout, head: bytes, notes: tuple[str, ...] = ()) -> None:
        self.name, self.order, self.notes = f"`{path}`", layout.order, notes
        self.codec_bytes = layout.codec_bytes + _BUFFERS
        self._path, self._draft, self._layout, self._head = path, draft_of(path), layout, head
        self._file: IO[bytes] | None = None
        self._stream: gzip.GzipFile | None = None

    def exists(self) -> bool:
        """Return whether the target is there."""
        return self._path.exists()

    def begin(self, resumed: bool) -> None:
        """Begin a draft; JournalError where there is one: of another process, or that is to be kept."""
        there = self._draft.exists()
        file = open(self._draft, "r+b" if there else "x+b")  # noqa: SIM115
        reason = ""
        if not lock(file.fileno()):
            reason = "is being written by another process; wait for it, or write elsewhere."
        elif there and resumed:
            reason = (
                "was begun by a run that was killed, and what is compressed in one go does not go on; "
                "pass resume='never' to begin anew, or write a file that is not compressed."
            )
        if reason:
            file.close()
            raise JournalError(f"{self.name} {reason}")
        self._file = file
        file.truncate(0)
        check_room(self._path, math.prod(self._layout.shape) * self._layout.stored.itemsize // _SHRINKS)
        self._stream = gzip.GzipFile("", "wb", _LEVEL, file, mtime=0)
        self._stream.write(self._head)

    def write(self, begin: int, values: Array) -> None:
        """Compress a part, which follows the last one."""
        stream = cast("gzip.GzipFile", self._stream)
        for block in self._layout.blocks(values):
            stream.write(block)

    def synced(self, begin: int, end: int) -> int:
        """Return 0: nothing is kept of a run that was stopped."""
        return 0

    def stored(self, begin: int, end: int) -> int:
        """Return 0."""
        return 0

    def finish(self) -> None:
        """Give the file its name."""
        file = cast("IO[bytes]", self._file)
        cast("gzip.GzipFile", self._stream).close()
        file.flush()
        os.fsync(file.fileno())
        if sys.platform == "win32":  # there a file that is open cannot be renamed
            file.close()
        give_place(self._draft, self._path)
        file.close()
        self._file = self._stream = None

    def close(self) -> None:
        """Remove the draft of a target that was not finished."""
        if self._file is not None:
            with suppress(OSError):  # a full disk, say
                cast("gzip.GzipFile", self._stream or self._file).close()
            if sys.platform == "win32":
                self._file.close()
            self._draft.unlink(missing_ok=True)
            self._file.close()
            self._file = self._stream = None
