"""Targets that are never half-written: the file appears under its name once it is whole."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .guard import FileError


def check_target(path: Path) -> None:
    """Refuse a target that cannot be written, before any work is done for it.

    Raises
    ------
    FileError
        If its directory is missing or not writable, or if it exists and is no writable regular file.
    """
    place = _place(path)
    if not place.parent.is_dir():
        raise FileError(f"`{path}` cannot be written: the directory `{place.parent}` does not exist.")
    if place.exists() and not place.is_file():
        kind = "a directory" if place.is_dir() else "not a regular file"
        raise FileError(f"`{path}` cannot be written: it is {kind}.")
    if not os.access(place.parent, os.W_OK | os.X_OK):
        raise FileError(f"`{path}` cannot be written: no permission to write in `{place.parent}`.")
    if place.exists() and not os.access(place, os.W_OK):
        raise FileError(f"`{path}` cannot be written: it is read-only.")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give the block a file beside `path` to write; rename it to `path` if the block succeeds.

    Whatever happens in the block, `path` holds either what it held before or the whole new file. A
    symbolic link is followed, and the permissions of a file that is replaced are kept.
    """
    place = _place(path)
    # The suffix stays last: writers choose the format by it.
    beside = place.with_name(f".{secrets.token_hex(4)}-{place.name}")
    try:
        os.close(os.open(beside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except OSError as error:
        raise FileError(f"`{path}` cannot be written: {error.strerror or error}.") from error
    try:
        yield beside
        if place.exists():
            shutil.copymode(place, beside)
        os.replace(beside, place)
    finally:
        with suppress(FileNotFoundError):
            beside.unlink()


def _place(path: Path) -> Path:
    return Path(os.path.realpath(path))
