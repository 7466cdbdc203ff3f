"""Rows of smaller levels, made of parts of the whole picture by several threads, until they fill chunks."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import numpy as np

from ..._base.types import Array
from ...arrays.boundaries import Interval
from ..parts import Chore, Region, alone
from ..places.zarrs import ZarrTarget
from .geometry import OmeLevel, Reduction
from .reduction import BY_NAME, reduction_bytes, sum_bytes

_STRIP: Final = 1 << 15  # samples of a row that one thread takes up at a time: its sums stay in the cache


class LevelStack:
    """The smaller levels of a picture, which is given in slabs, or in columns of parts, in their order.

    A level's rows wait in memory until they fill a row of its chunks. Where a column ends within a chunk, the
    next one fills up the file.

    Parameters
    ----------
    arrays : sequence of ZarrTarget
        Of all levels, the whole picture first.
    levels : sequence of OmeLevel
        As they lie, from the slowest axis on.
    dtype : dtype
    reduction : {"mean", "sample"}

    Attributes
    ----------
    columns : int
        Columns begin at multiples of it: no sample of a level is cut in two.
    thread_bytes : int
        Memory that is taken by each thread that makes levels, or writes them.

    Raises
    ------
    ValueError
        Sums of so many samples are not exact.
    """

    def __init__(
        self,
        arrays: Sequence[ZarrTarget],
        levels: Sequence[OmeLevel],
        dtype: np.dtype[Any],
        reduction: Reduction,
    ) -> None:
        self._arrays, self._levels, self._dtype = arrays, levels, dtype
        self._make = BY_NAME[reduction]
        self._place: tuple[Interval | None, int] | None = None
        self._strips: list[_Strip] = []
        self._waiting = [
            _WaitingRows(level, dtype, array.rows)
            for level, array in zip(levels[1:], arrays[1:], strict=True)
        ]
        factors, shape = levels[-1].factors, levels[0].shape
        self.columns = factors[1] if len(shape) > 1 else 1
        self._width = self._strip_width(shape)
        strip = _within(levels[0], (0, self._width) if len(shape) > 1 else None)
        self._sums = sum_bytes(dtype, factors) if reduction == "mean" and len(levels) > 1 else 0
        self.thread_bytes = 0
        if len(levels) > 1:
            again = math.prod(strip.shape[1:]) * arrays[0].rows * dtype.itemsize + 2 * arrays[0].chunk_bytes
            made = reduction_bytes([strip, *levels[1:]], dtype, reduction)
            self.thread_bytes = max(made + again, *(array.merge_bytes for array in arrays[1:]))

    def _strip_width(self, shape: tuple[int, ...]) -> int:
        if len(shape) < 2:
            return 1
        width = max(_STRIP // max(math.prod(shape[2:]), 1), 1)
        return min(max(width - width % self.columns, self.columns), shape[1])

    def waiting_bytes(self, rows: int, columns: int | None) -> int:
        """Return the memory of rows that wait, where parts of so many rows, and columns, are written."""
        across, taken = self._levels[0].shape[1:], 0
        for waiting in self._waiting:
            taken += waiting.most(rows) * waiting.across(columns)
        if columns is not None:
            across = columns, *across[1:]
        return taken * self._dtype.itemsize + math.prod(across) * self._sums

    def pieces(self, part: Region, values: Array) -> list[Chore]:
        """Return the tasks that make the smaller levels of a part; `complete` writes them."""
        if not self._waiting:
            return []
        begin, end = part.rows
        if self._place != (part.columns, begin):
            self._turn_to(part)
        self._place = part.columns, end
        for waiting in self._waiting:
            waiting.let_go()
            waiting.expect(self._make.known(waiting.level, end, self._levels[0].shape[0]))
        left = 0 if part.columns is None else part.columns[0]
        return [
            alone(partial(self._take, strip, begin, values[_along(strip.columns, left)]))
            for strip in self._strips
        ]

    def _take(self, strip: _Strip, begin: int, values: Array) -> None:
        """Take up a part in one strip, after those before it, of a run that is gone on with."""
        step = self._arrays[0].rows
        while strip.place < begin:
            end = min(begin, (strip.place // step + 1) * step)
            strip.take(self._arrays[0].read(Region((strip.place, end), strip.columns)), self._waiting)
        strip.take(values, self._waiting)

    def complete(self) -> list[Chore]:
        """Return the tasks that write what is complete of smaller levels, once all of `pieces` are done."""
        if not self._waiting or self._place is None:
            return []
        columns, end = self._place
        tasks = []
        for number, waiting in enumerate(self._waiting, 1):
            last = self.written(number, end)
            if last > waiting.first:
                part = Region((waiting.first, last), None if columns is None else waiting.columns)
                tasks += self._arrays[number].pieces(part, waiting.rows_until(last))
        return tasks

    def _turn_to(self, part: Region) -> None:
        """Begin with the rows that wait before a part, of which all before is on the disk."""
        begin, shape = part.rows[0], self._levels[0].shape
        columns = part.columns or ((0, shape[1]) if len(shape) > 1 else None)
        firsts = [self.written(number, begin) for number in range(1, len(self._levels))]
        starts = (first * level.factors[0] for first, level in zip(firsts, self._levels[1:], strict=True))
        start = min([begin, *starts])
        start -= start % self._levels[-1].factors[0]
        for first, waiting in zip(firsts, self._waiting, strict=True):
            waiting.turn_to(columns, first)
        self._strips = []
        for strip in _strips(columns, self._width):
            levels = [_within(level, strip) for level in self._levels]
            reduction = self._make(levels, self._dtype)
            reduction.begin(start)
            self._strips.append(_Strip(strip, reduction, start))

    def written(self, number: int, rows: int) -> int:
        """Return how many rows of a level are written with so many of the whole picture."""
        level = self._levels[number]
        known = self._make.known(level, rows, self._levels[0].shape[0])
        return known if known == level.shape[0] else known - known % self._arrays[number].rows

    def region(self, number: int, part: Region) -> Region:
        """Return which part of a level is written with one of the whole picture."""
        rows = part.rows if not number else tuple(self.written(number, row) for row in part.rows)
        columns = None if part.columns is None else _columns(self._levels[number], part.columns)
        return Region((rows[0], rows[1]), columns)


class _Strip:
    """What one thread takes up: some indices of the second axis, and the sums of their rows."""

    def __init__(self, columns: Interval | None, reduction: Any, place: int) -> None:
        self.columns, self._reduction, self.place = columns, reduction, place

    def take(self, values: Array, waiting: Sequence[_WaitingRows]) -> None:
        """Make the rows of all levels that are known with these."""
        for number, first, rows in self._reduction.take(values):
            waiting[number - 1].put(first, self.columns, rows)
        self.place += len(values)


class _WaitingRows:
    """Rows of a level, in one column of it, that wait for others of their chunks.

    Attributes
    ----------
    level : OmeLevel
    first : int
        Of the rows that wait.
    columns : (int, int) or None
        Those of the level; None where it has one axis.
    """

    def __init__(self, level: OmeLevel, dtype: np.dtype[Any], chunk: int) -> None:
        self.level, self._dtype, self._chunk = level, dtype, chunk
        self.first = self._known = self._gone = 0
        self.columns: Interval | None = None
        self._memory: Array = np.empty(0, dtype)
        self._rows: Array = self._memory

    def across(self, columns: int | None) -> int:
        """Return the samples of a row in a column of so many of the whole picture."""
        lengths = self.level.shape[1:]
        if columns is not None:
            lengths = -(-columns // self.level.factors[1]), *lengths[1:]
        return math.prod(lengths)

    def most(self, rows: int) -> int:
        """Return how many rows wait at the most, where those of the whole picture come in so many."""
        factor = self.level.factors[0]
        new = -(-rows // factor)
        whole = rows % factor == 0 and (new % self._chunk == 0 or self._chunk % new == 0)
        return min(max(self._chunk, new) if whole else self._chunk + new, self.level.shape[0])

    def turn_to(self, columns: Interval | None, first: int) -> None:
        """Let go of all, and wait for rows from that one on, in another column."""
        self.columns = None if columns is None else _columns(self.level, columns)
        self.first = self._known = self._gone = first
        self._rows = self._memory[:0].reshape(0, *self._across())

    def _across(self) -> tuple[int, ...]:
        lengths = self.level.shape[1:]
        return lengths if self.columns is None else (self.columns[1] - self.columns[0], *lengths[1:])

    def let_go(self) -> None:
        """Let go of the rows that were written."""
        kept, gone = self._known - self._gone, self._gone - self.first
        if kept and gone:  # NumPy would copy them first: both overlap
            start, row = self._rows.ctypes.data, self._rows.strides[0]
            ctypes.memmove(start, start + gone * row, kept * row)
        self.first = self._gone

    def expect(self, known: int) -> None:
        """Have room for rows up to that one."""
        self._known = known
        across, held = self._across(), len(self._rows)
        count = known - self.first
        if count <= held:
            return
        size = count * math.prod(across)
        if size > len(self._memory):
            memory = np.empty(size, self._dtype)
            memory[: self._rows.size] = self._rows.reshape(-1)
            self._memory = memory
        self._rows = self._memory[:size].reshape(count, *across)

    def put(self, first: int, columns: Interval | None, rows: Array) -> None:
        """Take rows of some columns of the whole picture; those that were written are dropped."""
        rows = rows[max(0, self.first - first) :]
        begin = max(first - self.first, 0)
        place: tuple[slice, ...] = (slice(begin, begin + len(rows)),)
        if columns is not None and self.columns is not None:
            left, right = _columns(self.level, columns)
            place = (*place, slice(left - self.columns[0], right - self.columns[0]))
        self._rows[place] = rows

    def rows_until(self, last: int) -> Array:
        """Return the rows before that one, which are written now."""
        self._gone = last
        return self._rows[: last - self.first]


def _strips(columns: Interval | None, width: int) -> list[Interval | None]:
    if columns is None:
        return [None]
    return [(left, min(left + width, columns[1])) for left in range(*columns, width)]


def _along(columns: Interval | None, left: int) -> tuple[slice, ...]:
    if columns is None:
        return (slice(None),)
    return slice(None), slice(columns[0] - left, columns[1] - left)


def _columns(level: OmeLevel, columns: Interval) -> Interval:
    """Return the indices of a level's second axis of those of the whole picture, which begin where its do."""
    factor = level.factors[1]
    return columns[0] // factor, -(-columns[1] // factor)


def _within(level: OmeLevel, columns: Interval | None) -> OmeLevel:
    """Return a level of a strip of the whole picture."""
    if columns is None:
        return level
    begin, end = _columns(level, columns)
    return OmeLevel((level.shape[0], end - begin, *level.shape[2:]), level.factors)
