"""Rows of smaller levels, made of parts of the whole picture by several threads, until they fill chunks."""

from __future__ import annotations

import ctypes
import itertools
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
        self._strip = _strip_lengths(shape, factors)
        strip = _within(levels[0], tuple((0, n) for n in self._strip))
        self._sums = sum_bytes(dtype, factors) if reduction == "mean" and len(levels) > 1 else 0
        self.thread_bytes = 0
        if len(levels) > 1:
            again = math.prod(self._strip) * arrays[0].rows * dtype.itemsize + 2 * arrays[0].chunk_bytes
            made = reduction_bytes([strip, *levels[1:]], dtype, reduction)
            self.thread_bytes = max(made + again, *(array.merge_bytes for array in arrays[1:]))

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
        lefts = (0 if part.columns is None else part.columns[0], *(0,) * len(self._strip))
        return [
            alone(partial(self._take, strip, begin, values[_place(strip.box, lefts)]))
            for strip in self._strips
        ]

    def _take(self, strip: _Strip, begin: int, values: Array) -> None:
        """Take up a part in one strip, after those before it, of a run that is gone on with."""
        step = self._arrays[0].rows
        while strip.place < begin:
            end = min(begin, (strip.place // step + 1) * step)
            strip.take(self._arrays[0].read(((strip.place, end), *strip.box)), self._waiting)
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
                part = Region((waiting.first, last), None if columns is None else waiting.box[0])
                tasks += self._arrays[number].pieces(part, waiting.rows_until(last))
        return tasks

    def _turn_to(self, part: Region) -> None:
        """Begin with the rows that wait before a part, of which all before is on the disk."""
        begin, shape = part.rows[0], self._levels[0].shape
        across = part.box(shape)[1:]
        firsts = [self.written(number, begin) for number in range(1, len(self._levels))]
        starts = (first * level.factors[0] for first, level in zip(firsts, self._levels[1:], strict=True))
        start = min([begin, *starts])
        start -= start % self._levels[-1].factors[0]
        for first, waiting in zip(firsts, self._waiting, strict=True):
            waiting.turn_to(across, first)
        self._strips = []
        pieces = (range(*interval, length) for interval, length in zip(across, self._strip, strict=True))
        for lefts in itertools.product(*pieces):
            ends = (min(left + n, end) for left, n, (_, end) in zip(lefts, self._strip, across, strict=True))
            box = tuple(zip(lefts, ends, strict=True))
            reduction = self._make([_within(level, box) for level in self._levels], self._dtype)
            reduction.begin(start)
            self._strips.append(_Strip(box, reduction, start))

    def written(self, number: int, rows: int) -> int:
        """Return how many rows of a level are written with so many of the whole picture."""
        level = self._levels[number]
        known = self._make.known(level, rows, self._levels[0].shape[0])
        return known if known == level.shape[0] else known - known % self._arrays[number].rows

    def region(self, number: int, part: Region) -> Region:
        """Return which part of a level is written with one of the whole picture."""
        rows = part.rows if not number else tuple(self.written(number, row) for row in part.rows)
        columns = None if part.columns is None else _scaled(part.columns, self._levels[number].factors[1])
        return Region((rows[0], rows[1]), columns)


class _Strip:
    """What one thread takes up: some indices of all axes but the first, and the sums of their rows."""

    def __init__(self, box: tuple[Interval, ...], reduction: Any, place: int) -> None:
        self.box, self._reduction, self.place = box, reduction, place

    def take(self, values: Array, waiting: Sequence[_WaitingRows]) -> None:
        """Make the rows of all levels that are known with these."""
        for number, first, rows in self._reduction.take(values):
            waiting[number - 1].put(first, self.box, rows)
        self.place += len(values)


class _WaitingRows:
    """Rows of a level, in one column of it, that wait for others of their chunks.

    Attributes
    ----------
    level : OmeLevel
    first : int
        Of the rows that wait.
    box : tuple of (int, int)
        Indices of the level's other axes.
    """

    def __init__(self, level: OmeLevel, dtype: np.dtype[Any], chunk: int) -> None:
        self.level, self._dtype, self._chunk = level, dtype, chunk
        self.first = self._known = self._gone = 0
        self.box: tuple[Interval, ...] = ()
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

    def turn_to(self, across: tuple[Interval, ...], first: int) -> None:
        """Let go of all, and wait for rows from that one on, in another column of the whole picture."""
        self.box = self._own(across)
        self.first = self._known = self._gone = first
        self._rows = self._memory[:0].reshape(0, *self._across())

    def _own(self, box: tuple[Interval, ...]) -> tuple[Interval, ...]:
        return tuple(_scaled(own, factor) for own, factor in zip(box, self.level.factors[1:], strict=True))

    def _across(self) -> tuple[int, ...]:
        return tuple(end - begin for begin, end in self.box)

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

    def put(self, first: int, box: tuple[Interval, ...], rows: Array) -> None:
        """Take rows of a strip of the whole picture; those that were written are dropped."""
        rows = rows[max(0, self.first - first) :]
        begin = max(first - self.first, 0)
        place = _place(self._own(box), [left for left, _ in self.box])
        self._rows[(slice(begin, begin + len(rows)), *place[1:])] = rows

    def rows_until(self, last: int) -> Array:
        """Return the rows before that one, which are written now."""
        self._gone = last
        return self._rows[: last - self.first]


def _strip_lengths(shape: tuple[int, ...], factors: tuple[int, ...]) -> tuple[int, ...]:
    """Return how long strips are along all axes but the first: samples of no level are cut in two."""
    lengths, left = [], _STRIP
    for axis in range(
        len(shape) - 1, 0, -1
    ):  # rows of the fastest axis stay whole, if they are not very long
        n, factor = shape[axis], factors[axis]
        length = min(max(left - left % factor, factor), n)
        lengths.append(length)
        left = max(left // length, 1)
    return tuple(lengths[::-1])


def _place(box: tuple[Interval, ...], lefts: Sequence[int]) -> tuple[slice, ...]:
    """Return where a box of all axes but the first lies in an array that begins at these indices."""
    inner = zip(box, lefts, strict=False)
    return (slice(None), *(slice(begin - left, end - left) for (begin, end), left in inner))


def _scaled(interval: Interval, factor: int) -> Interval:
    """Return the indices of a level along an axis: those of the whole picture begin where its own do."""
    return interval[0] // factor, -(-interval[1] // factor)


def _within(level: OmeLevel, box: tuple[Interval, ...]) -> OmeLevel:
    """Return a level of a strip of the whole picture."""
    own = (_scaled(interval, factor) for interval, factor in zip(box, level.factors[1:], strict=True))
    return OmeLevel((level.shape[0], *(end - begin for begin, end in own)), level.factors)
