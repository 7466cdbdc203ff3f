"""The slab of a source that is in memory: read once from front to back, its halo kept from slab to slab."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from .._base.types import Array
from ..arrays.boundaries import Interval
from ..filters.core import new_array
from .parts import Chore, Region, alone
from .places.place import PartedSource, StreamSource, all_of, as_lying, read_tasks


class SlabWindow:
    """So many indices of a source's slowest axis, which counts on around it: index n is index 0.

    Parameters
    ----------
    source : StreamSource
    rows : int
        Indices that it holds at most.
    width : int, optional
        Indices of the next axis that it holds at most, where it holds a column; this axis counts on as well.

    Attributes
    ----------
    columns : (int, int) or None
        The column that it holds; None where it holds whole slabs.
    first, last : int
        The interval that it holds.
    """

    def __init__(self, source: StreamSource, rows: int, width: int | None = None) -> None:
        self._shape = as_lying(source.shape, source.order)
        self._source, self._n, self._rows = source, self._shape[0], rows
        lengths = (rows, *self._shape[1:]) if width is None else (rows, width, *self._shape[2:])
        self._memory = aligned_memory(math.prod(lengths), source.dtype)
        self._turn_to(None if width is None else (0, width))

    def _turn_to(self, columns: Interval | None) -> None:
        """Let go of everything, and hold a column from now on."""
        self.columns, self.first, self.last = columns, 0, 0
        across = self._shape[1:] if columns is None else (columns[1] - columns[0], *self._shape[2:])
        count = self._rows * math.prod(across)
        self._buffer: Array = self._memory[:count].reshape(self._rows, *across)

    def move(self, first: int, columns: Interval | None) -> None:
        """Let go of all before `first`, and of everything in another column, or not read up to there."""
        if columns != self.columns:
            self._turn_to(columns)
        if first > self.last or first < self.first:
            self.first = self.last = first
            return
        kept, gone = self.last - first, first - self.first
        if gone and kept:  # NumPy would copy it first: both overlap
            start, row = self._buffer.ctypes.data, self._buffer.strides[0]
            ctypes.memmove(start, start + gone * row, kept * row)
        self.first = first

    def fill(self, last: int) -> list[Chore]:
        """Return the tasks that read up to `last`, and on to the end of its chunks if there is room."""
        tasks = list[Chore]()
        for at, rows in self._spans(self.last, self.first, last):
            place = at - self.first
            into = self._buffer[place : place + rows[1] - rows[0]]
            for left, columns in self._segments(self.columns):
                part = into if columns is None else into[:, left : left + columns[1] - columns[0]]
                tasks += read_tasks(self._source, Region(rows, columns), part)
            self.last = at + rows[1] - rows[0]
        if isinstance(self._source, PartedSource) or len(tasks) < 2:
            return tasks
        return [alone(lambda: all_of(tasks))]  # it is read by one thread at a time

    def foresee(self, columns: Interval | None, first: int, last: int) -> None:
        """Have the source begin to read what `fill` asks for next, in this column or in another one."""
        if not isinstance(self._source, PartedSource):
            return
        follows = columns == self.columns and self.first <= first <= self.last
        for _, rows in self._spans(self.last if follows else first, first, last):
            for _, segment in self._segments(columns):
                self._source.foresee(Region(rows, segment))

    def _spans(self, at: int, first: int, last: int) -> Iterator[tuple[int, Interval]]:
        """Yield what is to be read: where it begins, and the interval of the source."""
        while at < last:
            begin = at % self._n
            end = min(begin + last - at, self._n)
            if 0 <= at < self._n:
                end = min(aligned(end, self._source.rows), self._n)
                end = min(end, begin + self._rows - (at - first))
            yield at, (begin, end)
            at += end - begin

    def _segments(self, columns: Interval | None) -> Iterator[tuple[int, Interval | None]]:
        """Yield where each part of a column lies in it, and the interval of the source."""
        if columns is None:
            yield 0, None
            return
        at, n = columns[0], self._shape[1]
        while at < columns[1]:
            begin = at % n
            end = min(begin + columns[1] - at, n)
            yield at - columns[0], (begin, end)
            at += end - begin

    def part(self, first: int, last: int) -> Array:
        """Return what it holds from `first` to `last`, as it lies, read-only."""
        part = self._buffer[first - self.first : last - self.first]
        part.flags.writeable = False
        return part


def aligned_memory(size: int, dtype: np.dtype[Any]) -> Array:
    """Return memory for so many samples of any dtype, aligned as vector code likes it."""
    count = size * dtype.itemsize
    memory: Array = new_array((count // 4 + 16,), np.dtype(np.float32)).view(np.uint8)
    return memory[:count].view(dtype)


def aligned(index: int, rows: int) -> int:
    """Return the next multiple of `rows`."""
    return -(-index // rows) * rows
