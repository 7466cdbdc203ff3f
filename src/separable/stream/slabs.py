"""How an array is cut into slabs, or columns of parts: what is written together, and what memory it takes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from .._base.types import Array
from ..arrays.boundaries import Interval, Line
from ..filters.plan import Plan
from .parts import Region
from .places.place import (
    Order,
    StreamSource,
    StreamTarget,
    as_lying,
    levelled_target,
    parted_source,
    parted_target,
)
from .system.memory import resident
from .window import aligned

# Bytes of a slab beyond which a larger one gains nothing, unless its halo is long.
_SLAB_BYTES = 64 << 20
_HALOS = (
    4  # a slab is as long as so many halos, where memory allows: they are filtered twice, codecs cost more
)

_MOST_WASTE = 2.0  # samples filtered over samples written, beyond which columns of longer parts are better

# What cuts cost beside filtering, for as many bytes (benchmarks/NOTES.md): memory that is touched for the
# first time, 0.25 on iron and 2 on a virtual machine; samples that are kept on the disk and read back.
_TOUCHED = 0.5
_KEPT = 1.0
_BEGUN = 2 << 20  # bytes that are filtered in the time that a unit takes whatever its size
_LONGER = 2  # times as many halos, where cost decides
_OVERLAP = 1.12  # times the least cost, at which reading, filtering and writing at once is still preferred

# What a process takes beyond what it had when the plan was made: stacks of threads, what allocators keep.
_SPARE = 24 << 20


class Places(NamedTuple):
    """What is open: a source, a target and a mask, and how many threads work for them."""

    source: StreamSource
    target: StreamTarget | None
    mask: StreamSource | None
    threads: int

    @property
    def sources(self) -> list[StreamSource]:
        """The source and the mask."""
        return [self.source] if self.mask is None else [self.source, self.mask]

    @property
    def has_columns(self) -> bool:
        """Whether all are read and written in columns too."""
        if len(self.source.shape) < 2 or (self.target is not None and parted_target(self.target) is None):
            return False
        parted = map(parted_source, self.sources)
        return all(source is not None and source.columns > 0 for source in parted)

    @property
    def codec_bytes(self) -> tuple[int, int]:
        """Memory that is taken by decoding, and by encoding."""
        encoding = 0 if self.target is None else self.target.codec_bytes
        if (target := parted_target(self.target)) is not None:
            encoding += self.threads * target.thread_bytes
        decoding = sum(source.codec_bytes for source in self.sources)
        for source in map(parted_source, self.sources):
            decoding += 0 if source is None else self.threads * source.thread_bytes
        return decoding, encoding


@dataclass(frozen=True)
class Traits:
    """What cuts depend on, of source, target and filter."""

    shape: tuple[int, ...]  # from the slowest axis, along which slabs are cut, to the fastest
    order: Order  # whether the array's axes are these, or these reversed
    line: Line  # of the slowest axis
    source_rows: int
    target_rows: int
    source_item: int
    target_item: int
    mask_rows: int  # 0: there is no mask
    copied: int  # bytes per sample of copies that a filter takes of a slab
    codecs: tuple[int, int]  # bytes of decoding and of encoding
    second: Line | None  # of the next axis, along which columns are cut; None: there are no columns
    source_columns: int  # of the next axis, decoded together
    kept: bool  # what columns share is not decoded twice
    target_columns: int  # encoded together
    waiting: Callable[[int, int | None], int]  # bytes that a target keeps, by rows and columns of units

    @classmethod
    def of(cls, plan: Plan, places: Places, stored: np.dtype[Any]) -> Traits:
        """Return the traits of a filter from a source to a target, stored as `stored`."""
        source, target, mask = places.source, places.target, places.mask
        lines = as_lying(tuple(plan.lines), source.order)
        columned = places.has_columns and _same_bits(plan, mask, source)
        return cls(
            as_lying(source.shape, source.order),
            source.order,
            lines[0],
            source.rows,
            1 if target is None else target.rows,
            source.dtype.itemsize,
            stored.itemsize,
            0 if mask is None else mask.rows,
            plan.copied_bytes(source.dtype, stored),
            places.codec_bytes,
            lines[1] if columned else None,
            0 if (decoded := parted_source(source)) is None else decoded.columns,
            decoded is not None and decoded.keeps,
            1 if (encoded := parted_target(target)) is None else encoded.columns,
            _nothing_waits if (levelled := levelled_target(target)) is None else levelled.waiting_bytes,
        )

    def across(self, columns: int | None = None) -> int:
        """Return the samples for one index of the slowest axis, in a column of so many of the next one."""
        return math.prod(self.shape[1:] if columns is None else (columns, *self.shape[2:]))

    def part(
        self, plan: Plan, lengths: tuple[int, ...], read: Region, extent: tuple[float, float] | None = None
    ) -> Plan:
        """Return the plan of a part of these lengths, which is read."""
        shape = as_lying((*lengths, *self.shape[len(lengths) :]), self.order)
        starts = (read.rows[0], 0 if read.columns is None else read.columns[0], *(0,) * len(shape))
        return plan.part(shape, as_lying(starts[: len(shape)], self.order), extent)

    def read_for(self, unit: Region) -> Region:
        """Return what is read for a unit: in mode wrap, it may lie beyond the ends."""
        rows = self.line.read_for(unit.rows)
        if unit.columns is None or self.second is None:
            return Region(rows)
        return Region(rows, self.second.read_for(unit.columns))

    def units(self, cut: Cut) -> list[Region]:
        """Return what is written together, one after the other: slabs, or columns of parts."""
        rows = self._pieces(self.shape[0], cut.unit)
        if cut.width is None or self.second is None:
            return [Region(interval) for interval in rows]
        columns = self._pieces(self.shape[1], cut.width)
        return [Region(interval, column) for column in columns for interval in rows]

    def _pieces(self, n: int, unit: int) -> list[Interval]:
        cut = [(begin, min(begin + unit, n)) for begin in range(0, n, unit)]
        if len(cut) > 1 and n - cut[-1][0] < self.thinnest:
            cut[-2:] = [(cut[-2][0], n)]
        return cut

    @property
    def thinnest(self) -> int:
        """Indices of the thinnest slab whose axes have an order.

        One index of a volume of 10 x 1 x 49 lies in C order and in Fortran order. The core would take it for
        the former, and sum along its axes in another order than in the whole.
        """
        return 1 if self.order == "C" else 2


class Cut(NamedTuple):
    """A way to cut: indices written together, whether reading, filtering and writing overlap, and bytes."""

    unit: int
    width: int | None  # of a column, along the next axis; None: slabs
    overlapped: bool
    held: int  # indices of the source in memory
    memory: int  # bytes, with the interpreter
    strips: int  # bytes on the disk of what columns share


def _same_bits(plan: Plan, mask: StreamSource | None, source: StreamSource) -> bool:
    """Whether columns have the bits of the whole: not with unknown samples, where they cut lines in two."""
    return len(source.shape) > 2 or not plan.masked


def held(traits: Traits, units: list[Region], overlapped: bool, rows: int | None = None) -> int:
    """Return how many indices of a source are in memory at most."""
    most, rows = 0, rows or traits.source_rows
    reads = [traits.read_for(unit) for unit in units if unit.columns == units[0].columns]
    for number, read in enumerate(reads):
        first, last = read.rows
        if overlapped and number + 1 < len(reads) and reads[number + 1].rows[0] <= last:
            last = reads[number + 1].rows[1]
        if last < traits.line.n:
            last = min(aligned(last, rows), traits.line.n)
        most = max(most, last - first)
    return most


def longest(traits: Traits, units: list[Region]) -> int:
    """Return the indices of the longest slab with its halo."""
    return max(last - first for first, last in (traits.read_for(unit).rows for unit in units))


def widest(traits: Traits, units: list[Region]) -> int | None:
    """Return the indices of the next axis in the widest column with its halo; None without columns."""
    reads = [traits.read_for(unit).columns for unit in units]
    return max((read[1] - read[0] for read in reads if read is not None), default=None)


def column_reads(traits: Traits, units: list[Region]) -> list[Interval]:
    """Return what each column reads of the next axis, one after the other."""
    reads = (traits.read_for(unit).columns for unit in units)
    return list(dict.fromkeys(read for read in reads if read is not None))


def cut(plan: Plan, traits: Traits, unit: int, overlapped: bool, width: int | None = None) -> Cut:
    """Return a cut with the memory that it is predicted to take."""
    units = traits.units(Cut(unit, width, overlapped, 0, 0, 0))
    rows, slab, wide = held(traits, units, overlapped), longest(traits, units), widest(traits, units)
    lengths = (slab,) if wide is None else (slab, wide)
    read = Region((0, slab), None if wide is None else (0, wide))
    scratch = traits.part(plan, lengths, read).scratch_bytes
    taken = rows * traits.source_item + slab * (traits.target_item * (1 + overlapped) + traits.copied)
    if traits.mask_rows:
        taken += held(traits, units, overlapped, traits.mask_rows)
    codecs = sum(traits.codecs) + traits.waiting(*_largest(units))
    memory = taken * traits.across(wide) + scratch + codecs + resident() + _SPARE
    return Cut(unit, width, overlapped, rows, memory, _strip_bytes(traits, units))


def _nothing_waits(rows: int, columns: int | None) -> int:
    return 0


def _largest(units: list[Region]) -> tuple[int, int | None]:
    """Return the rows of the longest unit, and the columns of the widest."""
    columns = (unit.columns for unit in units)
    return (
        max(last - first for first, last in (unit.rows for unit in units)),
        max((right - left for left, right in filter(None, columns)), default=None),
    )


def _strip_bytes(traits: Traits, units: list[Region]) -> int:
    """Return the bytes of the source that two columns share at most, where whole chunks are kept."""
    reads, most = column_reads(traits, units), 0
    if traits.source_columns > 1:
        for before, behind in itertools.pairwise(reads):
            end = min(aligned(before[1], traits.source_columns), traits.shape[1])
            most = max(most, end - behind[0])
    return most * traits.shape[0] * traits.across(1) * traits.source_item if most else 0


def chosen(plan: Plan, traits: Traits, memory: int) -> Cut | None:
    """Return the cut into the longest slabs that pay within `memory`, or into columns.

    Of chunks that are kept for the next column it is the cut that costs least. Else columns are taken where
    no slab fits, and where a slab would mostly be halo. None where not even the least fits.
    """
    if traits.kept and traits.second is not None:
        return _cheapest(plan, traits, memory)
    slab = _longest_that_fits(plan, traits, memory, None)
    if slab is not None and _waste(traits, slab) <= _MOST_WASTE:
        return slab
    columns = (_longest_that_fits(plan, traits, memory, width) for width in widths(traits))
    cuts = [cut for cut in (slab, *columns) if cut is not None]
    return min(cuts, key=lambda cut: _waste(traits, cut), default=None)


def _cheapest(plan: Plan, traits: Traits, memory: int) -> Cut | None:
    fits = [
        attempt
        for width in (None, *widths(traits))
        for unit in lengths(traits, _LONGER, width)
        for overlapped in (True, False)
        if (attempt := cut(plan, traits, unit, overlapped, width)).memory <= memory
    ]
    best = [
        min((one for one in fits if one.overlapped == overlapped), key=partial(_cost, traits), default=None)
        for overlapped in (True, False)
    ]
    side_by_side, in_turn = best
    if side_by_side is None or in_turn is None:
        return side_by_side or in_turn
    return side_by_side if _cost(traits, side_by_side) <= _OVERLAP * _cost(traits, in_turn) else in_turn


def _cost(traits: Traits, cut: Cut) -> float:
    """Return what a cut takes over filtering each sample once."""
    size = traits.shape[0] * traits.across() * traits.source_item
    units = -(-traits.shape[0] // cut.unit) * (1 if cut.width is None else -(-traits.shape[1] // cut.width))
    cost = _waste(traits, cut) + (_TOUCHED * cut.memory + _BEGUN * units) / size
    if cut.width is not None and traits.second is not None:
        cost += _KEPT * (traits.second.shift + traits.source_columns) / cut.width
    return cost


def _longest_that_fits(plan: Plan, traits: Traits, memory: int, width: int | None) -> Cut | None:
    for overlapped in (True, False):
        fits = None
        for unit in lengths(traits):
            attempt = cut(plan, traits, unit, overlapped, width)
            if attempt.memory > memory:
                break
            fits = attempt
        if fits is not None:
            return fits
    return None


def _waste(traits: Traits, cut: Cut) -> float:
    """Return the samples that are filtered over those that are written."""
    waste = (cut.unit + traits.line.taps - 1) / cut.unit
    if cut.width is not None and traits.second is not None:
        waste *= (cut.width + traits.second.taps - 1) / cut.width
    return waste


def least(plan: Plan, traits: Traits) -> Cut:
    """Return the cut that takes the least memory."""
    unit = next(lengths(traits))
    cuts = [cut(plan, traits, unit, False, width) for width in (None, *list(widths(traits))[-1:])]
    return min(cuts, key=lambda attempt: attempt.memory)


def lengths(traits: Traits, times: int = 1, width: int | None = None) -> Iterator[int]:
    """Yield the lengths of slabs, or of parts of columns, that are tried, in ascending order."""
    n, halo = traits.shape[0], traits.line.taps - 1
    most = max(_SLAB_BYTES // max(traits.across(width) * traits.source_item, 1), times * _HALOS * halo, 1)
    unit = aligned(traits.thinnest, traits.target_rows)
    while True:
        yield min(unit, n)
        if unit >= min(n, most):
            return
        unit = unit + traits.target_rows if unit < 8 * traits.target_rows else unit * 2
        if unit > traits.source_rows and traits.source_rows % traits.target_rows == 0:
            unit = aligned(unit, traits.source_rows)


def widths(traits: Traits) -> Iterator[int]:
    """Yield the widths of columns that are tried, in descending order."""
    if traits.second is None:
        return
    n, narrowest = traits.shape[1], aligned(traits.thinnest, traits.target_columns)
    step = math.lcm(narrowest, max(traits.source_columns, 1))
    step, before, count = step if step < n else narrowest, n, 2
    while before > narrowest:
        width = aligned(-(-n // count), step)
        if width < before:
            before = width
            yield width
        if width <= step:
            return
        count += max(1, count // 4)


def bytes_read(traits: Traits, units: list[Region]) -> int:
    """Return the bytes of the source that are read in all; what is decoded or read twice counts twice."""
    rows, last = 0, None
    own = [unit for unit in units if unit.columns == units[0].columns]
    for first, end in (traits.read_for(unit).rows for unit in own):
        begin = first if last is None else max(last, first)
        if end > begin:
            end = min(aligned(end, traits.source_rows), traits.line.n) if 0 <= end < traits.line.n else end
            rows += end - begin
            last = end
    return rows * _columns_read(traits, units) * traits.source_item


def _columns_read(traits: Traits, units: list[Region]) -> int:
    """Return the samples that are read for one index of the slowest axis, in all columns."""
    reads = column_reads(traits, units)
    if not reads:
        return traits.across()
    count, done = 0, 0
    for begin, end in reads:
        if traits.source_columns > 1:  # what was decoded is kept
            begin, end = max(begin, done), min(aligned(end, traits.source_columns), traits.shape[1])
            done = max(done, end)
        count += max(end - begin, 0)
    return count * traits.across(1)


def block(memory: Array, lengths: tuple[int, ...]) -> Array:
    """Return an array of these lengths at the beginning of memory."""
    return memory[: math.prod(lengths)].reshape(lengths)
