"""What is finished of a target: a journal beside it, by which a run that was killed goes on where it was.

It holds an owner, a header that says of what the target is made, and one checked record of 32 bytes for each
unit whose samples are on the disk. A record that was torn is dropped with all that follow.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import sys
import zlib
from pathlib import Path
from typing import Any, Final, NamedTuple

from .._base.atomic import lock, sync_folder
from .system.offsets import BINARY, fill_from, write_at

_MAGIC: Final = b"separable journal 1\n".ljust(32, b"\0")
_OWNER: Final = 96  # bytes of the process and the machine that write
_LENGTHS: Final = struct.Struct("<II")  # of the header, and its check sum
_RECORD: Final = struct.Struct("<4sQQQ")  # tag, first and last index, bytes on the disk; then the check sum
_SIZE: Final = 32
_TAG: Final = b"unit"
CUTS: Final = ("unit", "column")  # of headers: how a run is cut, which those that follow take on
_BEYOND: Final = 1 << 30  # a byte of the file
_START: Final = len(_MAGIC) + _OWNER + _LENGTHS.size


class JournalError(RuntimeError):
    """A target that another process writes, or whose journal is of another job.

    Examples
    --------
    >>> import separable as sp
    >>> issubclass(sp.stream.JournalError, RuntimeError)
    True
    """


class FinishedUnit(NamedTuple):
    """A finished part of the target: half-open indices of the axis that is cut, and its bytes on the disk."""

    begin: int
    end: int
    stored: int


def journal_of(target: str) -> Path:
    """Return where the journal of a target lies."""
    path = Path(target)
    return path.with_name(f"{path.name}.journal")


def header_of(target: str) -> dict[str, Any] | None:
    """Return what the journal of a target, which another process holds, says; None where there is none."""
    try:
        return _header(journal_of(target).read_bytes())
    except FileNotFoundError:
        return None


class Journal:
    """The journal of a target, locked while this process holds it.

    Parameters
    ----------
    target : str
        The path of the target.
    header : dict
        What the target is made of: texts and numbers by names.
    resume : bool
        Whether what is there is kept.

    Attributes
    ----------
    units : list of FinishedUnit
        Those that are finished.
    header : dict

    Raises
    ------
    JournalError
        Another process holds it; the journal that is there is of another source, kernel or program.
    """

    def __init__(self, target: str, header: dict[str, Any], resume: bool) -> None:
        self.path, self.header, self.units = journal_of(target), header, list[FinishedUnit]()
        self._handle = _locked(self.path, target)
        try:
            content = _content(self._handle)
            stored = _header(content) if resume else None
            if stored is None:
                self._end = self._begin(header)
            else:
                _check(target, stored, header)
                self.header = stored
                self._end = self._read(content)
            write_at(self._handle, _owner(), len(_MAGIC))
        except BaseException:
            self.close()
            raise

    def _begin(self, header: dict[str, Any]) -> int:
        """Write a new journal; return its length."""
        text = json.dumps(header, sort_keys=True).encode()
        head = _MAGIC + _owner() + _LENGTHS.pack(len(text), zlib.crc32(text)) + text
        os.ftruncate(self._handle, 0)
        write_at(self._handle, head, 0)
        os.fsync(self._handle)
        sync_folder(self.path.parent)
        return len(head)

    def _read(self, content: bytes) -> int:
        """Read the records up to the first that is torn; return where that is."""
        place: int = _START + _LENGTHS.unpack_from(content, _START - _LENGTHS.size)[0]
        while place + _SIZE <= len(content):
            body, sum_ = content[place : place + _SIZE - 4], content[place + _SIZE - 4 : place + _SIZE]
            tag, *numbers = _RECORD.unpack(body)
            if tag != _TAG or zlib.crc32(body) != int.from_bytes(sum_, "little"):
                break
            self.units.append(FinishedUnit(*numbers))
            place += _SIZE
        return place

    def append(self, unit: FinishedUnit) -> None:
        """Record a finished unit, on the disk when this returns."""
        body = _RECORD.pack(_TAG, *unit)
        write_at(self._handle, body + zlib.crc32(body).to_bytes(4, "little"), self._end)
        os.fsync(self._handle)
        self._end += _SIZE
        self.units.append(unit)

    def forget(self, units: list[FinishedUnit]) -> None:
        """Keep only `units`."""
        self._end = self._begin(self.header)
        self.units = []
        for unit in units:
            self.append(unit)

    def remove(self) -> None:
        """Remove the journal of a target that is finished."""
        if sys.platform == "win32":  # there a file that is open cannot be removed
            self.close()
        self.path.unlink(missing_ok=True)
        sync_folder(self.path.parent)
        self.close()

    def close(self) -> None:
        """Close the file, and give up the lock."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


def _locked(path: Path, target: str) -> int:
    """Return the open journal, locked; JournalError where another process holds it."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | BINARY, 0o666)
        if not _lock(handle):
            name = bytearray(_OWNER)
            fill_from(handle, memoryview(name), len(_MAGIC))
            owner = name.rstrip(b"\0 ").decode(errors="replace")
            os.close(handle)
            raise JournalError(
                f"`{target}` is being written by {owner or 'another process'}; wait for it, or write "
                "elsewhere."
            )
        if os.fstat(handle).st_nlink:  # else it was finished and removed between the two calls
            return handle
        os.close(handle)


def _lock(handle: int) -> bool:
    """Return whether nobody else writes; on Windows by a lock of one byte that no journal reaches."""
    if sys.platform == "win32":
        import msvcrt

        os.lseek(handle, _BEYOND, os.SEEK_SET)
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
    return lock(handle)


def _content(handle: int) -> bytes:
    content = bytearray(os.fstat(handle).st_size)
    return bytes(content[: fill_from(handle, memoryview(content), 0)])


def _header(content: bytes) -> dict[str, Any] | None:
    """Return the header; None where there is none, or a torn one, after which nothing was written."""
    if len(content) < _START or not content.startswith(_MAGIC):
        return None
    length, sum_ = _LENGTHS.unpack_from(content, _START - _LENGTHS.size)
    text = content[_START : _START + length]
    if len(text) < length or zlib.crc32(text) != sum_:
        return None
    header: dict[str, Any] = json.loads(text)
    return header


def _check(target: str, stored: dict[str, Any], header: dict[str, Any]) -> None:
    """Raise JournalError where what is finished is not part of what is asked for."""
    different = [name for name in header if name not in CUTS and stored.get(name) != header[name]]
    if different:
        name = different[0]
        raise JournalError(
            f"`{target}` was begun with another {name} ({stored.get(name)!s:.200}; now {header[name]!s:.200})"
            "; pass resume='never' to begin anew, or write elsewhere."
        )


def _owner() -> bytes:
    return f"process {os.getpid()} on {socket.gethostname()}"[:_OWNER].encode()[:_OWNER].ljust(_OWNER)
