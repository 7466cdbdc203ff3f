"""How an array is cut into slabs: which are written, what is held for each, and what that takes in memory."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..arrays.boundaries import Interval, Line
from ..filters.plan import Plan
from .places.place import Order, StreamSource, StreamTarget, as_lying
from .window import aligned

# Bytes of a slab beyond which a larger one gains nothing, unless its halo is long.
_SLAB_BYTES = 64 << 20
_HALOS = 6  # a slab is as long as so many halos, where memory allows: they are filtered twice

# What a process takes beyond what it had when the plan was made: stacks of threads, what allocators keep.
_SPARE = 24 << 20


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

    @classmethod
    def of(
        cls,
        plan: Plan,
        source: StreamSource,
        target: StreamTarget | None,
        mask: StreamSource | None,
        stored: np.dtype[Any],
    ) -> Traits:
        """Return the traits of a filter from `source` to `target`, stored as `stored`."""
        return cls(
            as_lying(source.shape, source.order),
            source.order,
            as_lying(tuple(plan.lines), source.order)[0],
            source.rows,
            1 if target is None else target.rows,
            source.dtype.itemsize,
            stored.itemsize,
            0 if mask is None else mask.rows,
            plan.copied_bytes(source.dtype, stored),
            (
                max(source.codec_bytes, 0 if mask is None else mask.codec_bytes),
                0 if target is None else target.codec_bytes,
            ),
        )

    @property
    def across(self) -> int:
        """Samples for one index of the slowest axis."""
        return math.prod(self.shape[1:])

    def part(self, plan: Plan, length: int, first: int, extent: tuple[float, float] | None = None) -> Plan:
        """Return the plan of a slab of so many indices, from `first` on."""
        shape = as_lying((length, *self.shape[1:]), self.order)
        return plan.part(shape, as_lying((first, *(0,) * (len(shape) - 1)), self.order), extent)

    def units(self, unit: int) -> list[Interval]:
        """Return the slabs of `unit` indices that are written one after the other."""
        n = self.shape[0]
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
    overlapped: bool
    held: int  # indices of the source in memory
    memory: int  # bytes, with the interpreter


def held(traits: Traits, units: list[Interval], overlapped: bool, rows: int | None = None) -> int:
    """Return how many indices of a source are in memory at most."""
    most, rows = 0, rows or traits.source_rows
    reads = [traits.line.read_for(places) for places in units]
    for number, (first, last) in enumerate(reads):
        if overlapped and number + 1 < len(reads) and reads[number + 1][0] <= last:
            last = reads[number + 1][1]
        if last < traits.line.n:
            last = min(aligned(last, rows), traits.line.n)
        most = max(most, last - first)
    return most


def longest(traits: Traits, units: list[Interval]) -> int:
    """Return the indices of the longest slab with its halo."""
    return max(last - first for first, last in map(traits.line.read_for, units))


def cut(plan: Plan, traits: Traits, unit: int, overlapped: bool) -> Cut:
    """Return a cut with the memory that it is predicted to take."""
    units = traits.units(unit)
    rows, slab = held(traits, units, overlapped), longest(traits, units)
    scratch = traits.part(plan, slab, 0).scratch_bytes
    taken = rows * traits.source_item + slab * (traits.target_item * (1 + overlapped) + traits.copied)
    if traits.mask_rows:
        taken += held(traits, units, overlapped, traits.mask_rows)
    codecs = sum(traits.codecs) if overlapped else max(traits.codecs)
    return Cut(unit, overlapped, rows, taken * traits.across + scratch + codecs + resident() + _SPARE)


def chosen(plan: Plan, traits: Traits, memory: int) -> Cut | None:
    """Return the cut into the longest slabs that pay within `memory`; None where not even the least fits."""
    for overlapped in (True, False):
        fits = None
        for unit in lengths(traits):
            attempt = cut(plan, traits, unit, overlapped)
            if attempt.memory > memory:
                break
            fits = attempt
        if fits is not None:
            return fits
    return None


def least(plan: Plan, traits: Traits) -> Cut:
    """Return the cut that takes the least memory."""
    return cut(plan, traits, next(lengths(traits)), False)


def lengths(traits: Traits) -> Iterator[int]:
    """Yield the lengths of slabs that are tried, in ascending order."""
    n, halo = traits.shape[0], traits.line.taps - 1
    most = max(_SLAB_BYTES // max(traits.across * traits.source_item, 1), _HALOS * halo, 1)
    unit = aligned(traits.thinnest, traits.target_rows)
    while True:
        yield min(unit, n)
        if unit >= min(n, most):
            return
        unit = unit + traits.target_rows if unit < 8 * traits.target_rows else unit * 2
        if unit > traits.source_rows and traits.source_rows % traits.target_rows == 0:
            unit = aligned(unit, traits.source_rows)


def bytes_read(traits: Traits, units: list[Interval]) -> int:
    """Return the bytes of the source that are read in all; chunks that are decoded twice count twice."""
    total, last = 0, None
    for first, end in map(traits.line.read_for, units):
        begin = first if last is None else max(last, first)
        if end > begin:
            end = min(aligned(end, traits.source_rows), traits.line.n) if 0 <= end < traits.line.n else end
            total += end - begin
            last = end
    return total * traits.across * traits.source_item


def resident() -> int:
    """Return the bytes of memory that this process has now."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        import resource

        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024
    import mmap

    return pages * mmap.PAGESIZE
