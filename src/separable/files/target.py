"""Targets that are never half-written: the file appears under its name once it is whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from .._base import atomic as _atomic
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
    """Give the block a file to write; put it at `path` if the block succeeds.

    As `separable._base.atomic.replacing`, which states the guarantees; the block is given an open file's
    path, without a suffix.

    Raises
    ------
    FileError
        If no file can be made there.
    WriteError
        If the disk is full, or fails.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from separable import files
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = Path(folder.name) / "photo.npy"
    >>> np.save(path, np.arange(12.0).reshape(3, 4))
    >>> with files.replacing(path) as part:
    ...     with part.open("wb") as stream:
    ...         np.save(stream, np.zeros(3))
    >>> np.load(path).shape
    (3,)
    >>> folder.cleanup()
    """
    with ExitStack() as stack:
        try:
            draft = stack.enter_context(_atomic.replacing(path))
        except OSError as error:
            raise FileError(f"`{path}` cannot be written: {error.strerror or error}.") from error
        yield draft


def _place(path: Path) -> Path:
    return Path(os.path.realpath(path))
