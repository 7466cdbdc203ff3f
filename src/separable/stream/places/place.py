"""The protocols of sources and targets, whose first axis is read and written in parts."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from ..._base.types import Array


class StreamSource(Protocol):
    """An array that is read in parts.

    Attributes
    ----------
    name : str
        As messages call it.
    shape : tuple of int
    dtype : dtype
    rows : int
        Indices of the first axis that are decoded together: a part that ends between is decoded twice.
    codec_bytes : int
        Memory taken by decoding, beside the array that is read into.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    rows: int
    codec_bytes: int

    def read(self, begin: int, end: int, into: Array) -> None:
        """Read the part from `begin` to `end` of the first axis into a C-contiguous array."""

    def identity(self) -> str:
        """Return a text that changes when the source does."""

    def close(self) -> None:
        """Close what was opened."""


class StreamTarget(Protocol):
    """An array that is written in parts.

    Attributes
    ----------
    name : str
        As messages call it.
    rows : int
        Indices of the first axis that are encoded together: parts end at multiples of it, or at the end.
    codec_bytes : int
        Memory taken by encoding, beside the array that is written.
    path : str or None
        Where the finished target appears; None where it is not resumed, for want of a place for a journal.
    """

    name: str
    rows: int
    codec_bytes: int
    path: str | None

    def exists(self) -> bool:
        """Return whether the finished target is there."""

    def begin(self, resumed: bool) -> None:
        """Make the draft, or open the one that is there."""

    def write(self, begin: int, values: Array) -> None:
        """Write a part, whose first index is `begin`."""

    def synced(self, begin: int, end: int) -> int:
        """Return the bytes that a written part takes, once they are on the disk."""

    def stored(self, begin: int, end: int) -> int:
        """Return the bytes that a part takes on the disk now."""

    def finish(self) -> None:
        """Give the draft its name: the target appears, whole."""

    def close(self) -> None:
        """Close what was opened."""
