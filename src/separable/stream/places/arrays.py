"""Arrays of any library with a shape, a dtype and slicing."""

from __future__ import annotations

import math
import zlib
from typing import Any

import numpy as np

from ..._base.types import Array

_PARALLEL = 10  # chunks that libraries hold encoded and decoded at a time


def thickness(array: Any) -> int:
    """Return how many indices of the first axis are stored together: those of a shard, or of a chunk."""
    chunks: Any = getattr(array, "shards", None) or getattr(array, "chunks", None)
    if not chunks:
        return 1
    first = chunks[0]
    if isinstance(first, (tuple, list)):  # Dask's: the lengths of all chunks
        return max(int(n) for n in first)
    rows: int = min(int(first), int(array.shape[0]))
    return max(1, rows)


def codec_bytes(array: Any) -> int:
    """Return an estimate of the memory in which chunks are coded."""
    chunks = getattr(array, "shards", None) or getattr(array, "chunks", None)
    if not chunks or isinstance(chunks[0], (tuple, list)):
        return 0
    lengths = [(int(n), int(chunk)) for n, chunk in zip(array.shape, chunks, strict=True)]
    count = math.prod(-(-n // chunk) for n, chunk in lengths[1:])
    samples = math.prod(chunk for _, chunk in lengths)
    taken: int = 2 * min(count, _PARALLEL) * samples * np.dtype(array.dtype).itemsize
    return taken


class ArraySource:
    """An array that is sliced."""

    def __init__(self, array: Any, name: str | None = None) -> None:
        self.array = array
        self.name = name or f"the {type(array).__name__}"
        self.shape = tuple(int(n) for n in array.shape)
        self.dtype = np.dtype(array.dtype)
        self.rows = thickness(array)
        self.codec_bytes = codec_bytes(array)

    def read(self, begin: int, end: int, into: Array) -> None:
        """Read a part: one slice along the first axis."""
        np.copyto(into, np.asarray(self.array[begin:end]), casting="no")

    def identity(self) -> str:
        """Return shape, dtype and the check sums of the first, the middle and the last index."""
        n = self.shape[0]
        sums = [
            zlib.crc32(np.ascontiguousarray(self.array[i : i + 1]).tobytes())
            for i in sorted({0, n // 2, n - 1})
        ]
        return f"{self.shape} {self.dtype.str} {sums}"

    def close(self) -> None:
        """Do nothing: who opened the array closes it."""


class ArrayTarget:
    """An array that is assigned to in slices; it is not resumed."""

    path: str | None = None

    def __init__(self, array: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.name = f"the {type(array).__name__}"
        if tuple(array.shape) != shape or np.dtype(array.dtype) != dtype:
            raise ValueError(
                f"`target` has shape {tuple(array.shape)} and dtype {np.dtype(array.dtype)}, but the result "
                f"has {shape} and {dtype}; pass an array like that, or dtype='{np.dtype(array.dtype)}'."
            )
        self.array = array
        self.rows = thickness(array)
        self.codec_bytes = codec_bytes(array)

    def exists(self) -> bool:
        """Return False: what it holds is to be replaced."""
        return False

    def begin(self, resumed: bool) -> None:
        """Do nothing: it is there."""

    def write(self, begin: int, values: Array) -> None:
        """Assign a part."""
        self.array[begin : begin + len(values)] = values

    def synced(self, begin: int, end: int) -> int:
        """Return 0: what becomes of it is the array's affair."""
        return 0

    def stored(self, begin: int, end: int) -> int:
        """Return 0."""
        return 0

    def finish(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing: who opened the array closes it."""
