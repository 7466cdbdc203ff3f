"""Errors that name damaged files, and checks of sizes in headers before memory is allocated."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from .._base.extras import MissingExtraError

# Deflate cannot shrink by more than 1032:1 (RFC 1951: a match of 258 bytes takes at least 2 bits).
DEFLATE_LIMIT = 1032


class FileError(ValueError):
    """A file that cannot be read, or a target that cannot be written; the message names it.

    Examples
    --------
    >>> from pathlib import Path
    >>> from separable import files
    >>> try:
    ...     files.read(Path("no-such-file.npy"))
    ... except files.FileError as error:
    ...     print(error)
    `no-such-file.npy` ...
    """


@contextmanager
def reading(path: Path, kind: str) -> Iterator[None]:
    """Turn any error of a decoder in the block into a FileError that names the file and its kind."""
    try:
        yield
    except (FileError, MissingExtraError):
        raise
    except MemoryError as error:
        raise MemoryError(f"`{path}` does not fit: {str(error) or 'no room for its samples'}.") from error
    except Exception as error:  # decoders raise anything on a damaged file: KeyError, struct.error, ...
        reason = " ".join(str(error).split()) or type(error).__name__
        raise FileError(f"`{path}` is not a readable {kind} file: {reason.rstrip('.')}.") from error


def check_readable(path: Path) -> None:
    """Refuse what is not a file that can be opened for reading."""
    try:
        with path.open("rb") as file:
            empty = not file.read(1)
    except FileNotFoundError:
        raise FileError(f"`{path}` does not exist.") from None
    except OSError as error:
        raise FileError(f"`{path}` cannot be read: {error.strerror or error}.") from error
    if empty:
        raise FileError(f"`{path}` is empty (0 bytes).")


def check_promise(
    path: Path,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    ratio: int | None,
    bits: int | None = None,
    whole: bool = True,
) -> None:
    """Refuse a header that promises more samples than its file, or this machine, can hold.

    Parameters
    ----------
    path : Path
    shape, dtype
        What the header says.
    ratio : int or None
        The largest factor by which the file's compression can shrink data: 1 without compression, None
        where there is no limit.
    bits : int, optional
        Of one sample in the file, where these are packed.
    whole : bool, optional
        The array is to be in memory as a whole.
    """
    if any(length < 0 for length in shape):
        raise FileError(f"`{path}` is damaged: its header says {shape}, a negative length.")
    promised = math.prod(shape) * dtype.itemsize
    held = path.stat().st_size
    says = f"its header says {' x '.join(map(str, shape))} {dtype.name} ({human_bytes(promised)})"
    stored = promised if bits is None else math.prod(shape) * bits // 8
    if ratio is not None and stored > held * ratio:
        raise FileError(f"`{path}` is damaged or cut short: {says}, but the file has {human_bytes(held)}.")
    memory = physical_memory() if whole else None
    if memory is not None and promised > memory:
        raise FileError(
            f"`{path}` does not fit: {says}, but this machine has {human_bytes(memory)} of memory."
        )


def human_bytes(count: int) -> str:
    """Return a byte count as people write it, such as ``1.5 GiB``."""
    if count < 1024:
        return f"{count} bytes"
    units = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
    power = min((count.bit_length() - 1) // 10, len(units))
    return f"{count / 1024**power:.4g} {units[power - 1]}"


def physical_memory() -> int | None:
    """Return the bytes of memory of this machine; None if unknown."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not every system can say
        return None
