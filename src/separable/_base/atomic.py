"""Atomic writes: a file is written to a hidden draft, then renamed to its path in one step."""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

if sys.platform != "win32":
    import fcntl

# Names of drafts, where the system has no unnamed files.
_DRAFT: Final = re.compile(r"\.separable-[0-9a-f]{16}\.part")
_REASONS: Final = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file would be larger than the file system, or `ulimit -f`, allows",
    errno.EIO: "the disk reports an error",
    errno.EROFS: "the file system is read-only",
}
_PROBE: Final = bytes(1 << 16)  # written to find the system's error number


class WriteError(OSError):
    """A file that could not be written to its end; the message names it, `errno` says why."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a file to write; move it to `path` if the block succeeds.

    Whatever happens in the block, `path` holds either what it held before or the whole new file, on
    the disk and not only in memory. A symbolic link is followed, and the permissions of a file that
    is replaced are kept; a new one gets those that the umask leaves.

    Where the system has unnamed files (Linux, on most file systems) the block writes to one: a
    process that is killed leaves nothing behind. Elsewhere the file is called ``.separable-*.part``,
    beside `path`; those of processes that are gone are removed by the next write into the folder,
    which logs a warning with their names.

    Parameters
    ----------
    path : Path
        Its folder must be there.

    Yields
    ------
    Path
        An empty file, to be opened for writing. Its name says nothing of `path`, its suffix neither:
        where a writer chooses the format by it, pass the format, or the open file.

    Raises
    ------
    OSError
        If no file can be made in the folder.
    WriteError
        If the disk is full, or fails.
    """
    place = Path(os.path.realpath(path))
    draft = place.with_name(f".separable-{os.urandom(8).hex()}.part")
    handle = -1
    try:
        handle, beside = _unnamed(place.parent) or _named(draft)
        yield beside
        if place.exists():
            shutil.copymode(place, beside)
        if beside.stat().st_size == 0:  # a file called like the draft has it, which nobody will ever see
            raise RuntimeError(f"nothing was written to the file given for `{path}`.")
        os.fsync(handle)
        if beside != draft:
            _give_name(handle, draft)
        if sys.platform == "win32":  # there a file that is open cannot be renamed
            os.close(handle)
            handle = -1
        give_place(draft, place)
    except WriteError:  # of another file, which the block writes within this one
        raise
    except Exception as error:
        named = explained(error, path, handle)
        if named is None:
            raise
        raise named from error
    finally:
        if handle >= 0:
            os.close(handle)
        with suppress(OSError):  # most often it is not there: never named, or in its place
            draft.unlink()


def _unnamed(folder: Path) -> tuple[int, Path] | None:
    """Return an open unnamed file; None where the system or the file system does not support it."""
    if not hasattr(os, "O_TMPFILE"):
        return None
    try:
        handle = os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o666)
    except OSError:  # opening a named file raises if the folder is the cause
        return None
    way = Path(f"/proc/self/fd/{handle}")
    if not way.exists():
        os.close(handle)
        return None
    lock(handle)  # while it has a draft's name, before the final renaming
    return handle, way


def _named(draft: Path) -> tuple[int, Path]:
    """Return a named draft, locked while this process lives; remove abandoned drafts first."""
    _clear(draft.parent)
    while True:
        handle = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
        # Between the two calls another process may have found it without a lock, and removed it.
        if lock(handle) and os.fstat(handle).st_nlink:
            return handle, draft
        os.close(handle)


def lock(handle: int) -> bool:
    """Return whether the file could be locked; True where the file system has no locks."""
    if sys.platform == "win32":  # there a file that is open cannot be removed, which serves as well
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _clear(folder: Path) -> None:
    """Remove the drafts of ended processes, and log their names."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in [item for item in entries if _DRAFT.fullmatch(item.name)]:
            with suppress(OSError):
                _remove_abandoned(Path(entry.path))


def _remove_abandoned(draft: Path) -> None:
    if sys.platform != "win32":
        handle = os.open(draft, os.O_RDWR | os.O_NOFOLLOW)
        try:
            held = os.fstat(handle)
            if not stat.S_ISREG(held.st_mode) or held.st_uid != os.geteuid():
                return
            # Not `lock`, which is True without locks: the owner would then be unknown.
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            draft.unlink()
        finally:
            os.close(handle)
    else:
        draft.unlink()
    import logging  # which is rarely needed

    logging.getLogger("separable").warning(
        "removed `%s`: a process that was killed had left it behind.", draft
    )


def _give_name(handle: int, draft: Path) -> None:
    """Give an unnamed file a draft's name: a link cannot replace another file, a renaming can."""
    folder = os.open(draft.parent, os.O_RDONLY | os.O_DIRECTORY)
    way = f"/proc/self/fd/{handle}"
    try:
        # Only with a folder descriptor does Python let the system follow the link in /proc.
        os.link(way, draft.name, dst_dir_fd=folder, follow_symlinks=True)
    except OSError:  # an overlay file system may open but not link unnamed files: copy the data
        other, _ = _named(draft)
        try:
            shutil.copyfile(way, draft)
            shutil.copymode(way, draft)
            os.fsync(other)
        finally:
            os.close(other)
    finally:
        os.close(folder)


def give_place(draft: Path, place: Path) -> None:
    """Give a draft, a file or a folder that is on the disk, its name for good."""
    os.replace(draft, place)
    sync_folder(place.parent)


def sync_folder(folder: Path) -> None:
    """Synchronise the folder, so that the new name is on the disk, where the system allows."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def explained(error: Exception, path: Path, handle: int = -1) -> WriteError | None:
    """Return a disk's error with file, reason and fix; None for any other error."""
    cause: BaseException | None = error
    seen: set[int] = set()
    while cause is not None and not isinstance(cause, OSError) and id(cause) not in seen:
        seen.add(id(cause))
        cause = cause.__cause__ or cause.__context__
    if not isinstance(cause, OSError):
        return None
    number = cause.errno or _what_a_write_says(handle)
    if number not in _REASONS:
        return None
    fix = "write elsewhere" if number == errno.EROFS else "free some space, or write elsewhere"
    named = WriteError(f"`{path}` cannot be written: {_REASONS[number]} ({os.strerror(number)}); {fix}.")
    named.errno = number
    return named


def _what_a_write_says(handle: int) -> int | None:
    """Return the system's error number, by a trial write: encoders report short writes without it."""
    try:
        os.lseek(handle, 0, os.SEEK_END)
        if os.write(handle, _PROBE) < len(_PROBE):  # written in part: the next write fails
            os.write(handle, _PROBE)
    except OSError as error:
        return error.errno
    return None
