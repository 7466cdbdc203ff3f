"""The slab of a source that is in memory: read once from front to back, its halo kept from slab to slab."""

from __future__ import annotations

import ctypes
import math

import numpy as np

from .._base.types import Array
from ..filters.core import new_array
from .places.place import StreamSource, as_lying


class SlabWindow:
    """So many indices of a source's slowest axis, which counts on around it: index n is index 0.

    Parameters
    ----------
    source : StreamSource
    rows : int
        Indices that it holds at most.
    """

    def __init__(self, source: StreamSource, rows: int) -> None:
        shape = as_lying(source.shape, source.order)
        self._source, self._n = source, shape[0]
        self._row = math.prod(shape[1:]) * source.dtype.itemsize
        memory = new_array((rows * self._row // 4 + 16,), np.dtype(np.float32)).view(np.uint8)
        self._buffer: Array = memory[: rows * self._row].view(source.dtype).reshape(rows, *shape[1:])
        self.first = self.last = 0  # what it holds

    def move(self, first: int) -> None:
        """Let go of all before `first`, and of everything where that was not read up to there."""
        if first > self.last or first < self.first:
            self.first = self.last = first
            return
        kept, gone = self.last - first, first - self.first
        if gone and kept:  # NumPy would copy it first: both overlap
            start = self._buffer.ctypes.data
            ctypes.memmove(start, start + gone * self._row, kept * self._row)
        self.first = first

    def fill(self, last: int) -> None:
        """Read up to `last`, and on to where the source's chunks end as far as there is room."""
        while self.last < last:
            begin = self.last % self._n
            end = min(begin + last - self.last, self._n)
            if 0 <= self.last < self._n:
                end = min(aligned(end, self._source.rows), self._n)
                end = min(end, begin + len(self._buffer) - (self.last - self.first))
            place = self.last - self.first
            self._source.read(begin, end, self._buffer[place : place + end - begin])
            self.last += end - begin

    def part(self, first: int, last: int) -> Array:
        """Return what it holds from `first` to `last`, as it lies, read-only."""
        part = self._buffer[first - self.first : last - self.first]
        part.flags.writeable = False
        return part


def aligned(index: int, rows: int) -> int:
    """Return the next multiple of `rows`."""
    return -(-index // rows) * rows
