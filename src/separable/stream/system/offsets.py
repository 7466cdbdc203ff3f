"""Files read and written at a given byte: by calls of POSIX, or by seeking under a lock."""

from __future__ import annotations

import os
import threading
from typing import Final

BINARY: Final = getattr(os, "O_BINARY", 0)  # Windows would translate line ends
_LARGEST: Final = 1 << 30  # bytes of a call of the system
_COPIED: Final = 1 << 22  # bytes that are copied at a time, where the system does not read into memory

_seeking = threading.Lock()  # an open file has one place, whoever reads it


def read_at(handle: int, into: memoryview, place: int) -> int:
    """Read bytes from `place` on into memory, as many as one call gives; return how many: 0 at the end."""
    into = into[:_LARGEST]
    if hasattr(os, "preadv"):
        return os.preadv(handle, [into], place)
    if hasattr(os, "pread"):
        data = os.pread(handle, min(into.nbytes, _COPIED), place)
    else:
        with _seeking:
            os.lseek(handle, place, os.SEEK_SET)
            data = os.read(handle, min(into.nbytes, _COPIED))
    into[: len(data)] = data
    return len(data)


def fill_from(handle: int, into: memoryview, place: int) -> int:
    """Read bytes from `place` on until the memory is full, or the file ends; return how many."""
    done = 0
    while done < into.nbytes:
        count = read_at(handle, into[done:], place + done)
        if count == 0:
            break
        done += count
    return done


def write_at(handle: int, data: bytes | memoryview, place: int) -> None:
    """Write all bytes from `place` on."""
    left = memoryview(data)
    while left.nbytes:
        part = left[:_LARGEST]
        if hasattr(os, "pwrite"):
            count = os.pwrite(handle, part, place)
        else:
            with _seeking:
                os.lseek(handle, place, os.SEEK_SET)
                count = os.write(handle, part)
        left, place = left[count:], place + count
