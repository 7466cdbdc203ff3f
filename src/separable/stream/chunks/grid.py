"""Which chunks a part of an array touches."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

from ...arrays.boundaries import Interval

Index = tuple[int, ...]


class Touch(NamedTuple):
    """A chunk that a box touches: its number along each axis; what they share, in either of them."""

    number: Index
    in_box: tuple[slice, ...]
    in_chunk: tuple[slice, ...]


def touched(box: tuple[Interval, ...], chunks: tuple[int, ...]) -> Iterator[Touch]:
    """Yield the chunks of these lengths that a box touches, the last axis first."""
    axes = [list(_along(interval, chunk)) for interval, chunk in zip(box, chunks, strict=True)]
    for places in itertools.product(*axes):
        index, in_box, in_chunk = zip(*places, strict=True) if places else ((), (), ())
        yield Touch(tuple(index), tuple(in_box), tuple(in_chunk))


def _along(interval: Interval, chunk: int) -> Iterator[tuple[int, slice, slice]]:
    begin, end = interval
    for number in range(begin // chunk, -(-end // chunk)):
        start = number * chunk
        first, last = max(begin, start), min(end, start + chunk)
        yield number, slice(first - begin, last - begin), slice(first - start, last - start)
