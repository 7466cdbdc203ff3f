"""Samples that lie behind a header, or in a file of their own: as they are, compressed, or as text."""

from __future__ import annotations

import bz2
import gzip
import io
import math
import os
import re
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, Literal, TypeAlias, cast

import numpy as np

from ..._base.types import Array
from ..guard import DEFLATE_LIMIT, FileError, check_promise

Packing: TypeAlias = Literal["", "gzip", "zlib", "bzip2", "text"]

_RATIOS: Final[dict[Packing, int | None]] = {
    "": 1, "gzip": DEFLATE_LIMIT, "zlib": DEFLATE_LIMIT, "bzip2": None, "text": None
}  # fmt: skip
_BLOCK: Final = 1 << 16  # compressed bytes that are read at a time
_LONGEST_HEADER: Final = 1 << 20  # bytes


@dataclass(frozen=True)
class RawSamples:
    """Where samples lie, the first axis the fastest.

    Attributes
    ----------
    path : Path
        Of the file that holds them.
    offset : int
        The byte at which they begin, compressed or not.
    stored : dtype
        With their byte order.
    shape : tuple of int
    packing : {"", "gzip", "zlib", "bzip2", "text"}
    """

    path: Path
    offset: int
    stored: np.dtype[Any]
    shape: tuple[int, ...]
    packing: Packing = ""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the samples that are read, native."""
        return self.stored.newbyteorder("=")

    def check(self, *, whole: bool) -> None:
        """Refuse samples that their file, or this machine, cannot hold.

        Raises
        ------
        FileError
        """
        if not self.shape or 0 in self.shape:
            raise FileError(f"`{self.path}` holds an empty volume ({' x '.join(map(str, self.shape))}).")
        check_promise(self.path, self.shape, self.stored, _RATIOS[self.packing], whole=whole)
        size, held = math.prod(self.shape), self.path.stat().st_size
        if self.packing == "text" and 2 * size - 1 > held:  # a digit and a space
            raise FileError(f"`{self.path}` is cut short: {size} numbers take more than {held} bytes.")
        least = size * self.stored.itemsize if self.packing == "" else 1
        if not 0 <= self.offset <= held - least:
            raise FileError(
                f"`{self.path}` is damaged or cut short: its samples would lie from byte {self.offset} to "
                f"{self.offset + least}, and the file has {held}."
            )

    def opened(self) -> IO[bytes]:
        """Return a stream of the samples' bytes."""
        file = self.path.open("rb")
        file.seek(self.offset)
        if self.packing == "gzip":
            return cast("IO[bytes]", _Closing(gzip.GzipFile(fileobj=file, mode="rb"), file))
        if self.packing == "bzip2":
            return cast("IO[bytes]", _Closing(bz2.BZ2File(file), file))
        return cast("IO[bytes]", _Inflated(file)) if self.packing == "zlib" else file

    def read(self) -> Array:
        """Return all samples; FileError where the file ends before they do."""
        with self.opened() as stream:
            if self.packing == "text":
                return self._numbers(stream.read())
            array = np.empty(math.prod(self.shape), self.stored)
            left = memoryview(array.view(np.uint8))  # type: ignore[arg-type, unused-ignore]
            while left.nbytes:
                count = cast("io.RawIOBase", stream).readinto(left)
                if not count:
                    raise FileError(
                        f"`{self.path}` is cut short: it ends before its array of shape {self.shape} does."
                    )
                left = left[count:]
            if self.packing:
                stream.read(1)  # behind the last byte the check sum is looked at
        return array.astype(self.dtype, copy=False).reshape(self.shape, order="F")

    def _numbers(self, text: bytes) -> Array:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # text that is no number
            numbers = np.fromstring(text.decode("ascii"), self.dtype, sep=" ")
        if numbers.size != math.prod(self.shape):
            raise FileError(f"`{self.path}` holds {numbers.size} numbers; its header says {self.shape}.")
        return numbers.reshape(self.shape, order="F")


class _Closing(io.RawIOBase):
    """A stream that decompresses a file, and closes it."""

    def __init__(self, inner: Any, file: IO[bytes]) -> None:
        self._inner, self._file = inner, file

    def readable(self) -> bool:
        return True

    def readinto(self, into: Any) -> int:
        return int(self._inner.readinto(into))

    def close(self) -> None:
        if not self.closed:
            self._inner.close()
            self._file.close()
        super().close()


class _Inflated(io.RawIOBase):
    """A stream of zlib, decompressed no farther than it is read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._state = file, zlib.decompressobj()

    def readable(self) -> bool:
        return True

    def readinto(self, into: Any) -> int:
        left = memoryview(into).cast("B")
        while left.nbytes and not self._state.eof:
            given = self._state.unconsumed_tail or self._file.read(_BLOCK)
            part = self._state.decompress(given, left.nbytes)
            if not part and not given:
                raise EOFError("its compressed samples end before their end is marked")
            if part:
                left[: len(part)] = part
                return len(part)
        return 0

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


def header_text(path: Path, end: bytes) -> tuple[bytes, int]:
    """Return the header of a file up to what ends it, by a regular expression, and how long it is with that.

    Without an end it is all of the file.

    Raises
    ------
    FileError
        It is longer than any header.
    """
    with path.open("rb") as file:
        content = file.read(_LONGEST_HEADER)
        whole = not file.read(1)
    match = re.search(end, content)
    if match is None and not whole:
        raise FileError(f"`{path}` is damaged: its header does not end within {_LONGEST_HEADER} bytes.")
    return (content, len(content)) if match is None else (content[: match.end()], match.end())


def data_file(header: Path, name: str) -> Path:
    """Return the file of its own that a header names for its samples; it lies beside the header.

    Raises
    ------
    FileError
        There is none, it lies elsewhere, or there are several.
    """
    if not name or "%" in name or name.split()[0] == "LIST":
        raise FileError(f"`{header}` has its samples in several files, {name!r}; make one of them first.")
    if os.path.basename(name) != name or "\\" in name or name in (".", ".."):
        raise FileError(f"`{header}` has its samples in {name!r}; expected a file in the same folder.")
    path = header.with_name(name)
    if not path.is_file():
        raise FileError(f"`{header}` has its samples in `{path}`, which does not exist.")
    return path


def numbers_text(numbers: Any) -> str:
    """Return numbers as a header has them, with all their digits."""
    return " ".join(f"{float(number):.17g}" for number in np.asarray(numbers).ravel())
