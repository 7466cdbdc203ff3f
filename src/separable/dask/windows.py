"""What a task reads: the parts of neighbouring chunks that make a chunk with its halo."""

from __future__ import annotations

import itertools
import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._base.types import Array
from ..arrays.boundaries import Interval, Line


@dataclass(frozen=True, slots=True)
class Stretch:
    """One axis of a window: positions that are read, those that are written, and where samples come from.

    Attributes
    ----------
    read, written : (int, int)
        Half-open intervals of positions; in mode wrap they count on beyond the ends.
    chunks : tuple of int
        The chunks that hold the samples, in the order of positions. One may be there several times.
    cuts : tuple of (int, int)
        The interval that is taken of each.
    lengths : tuple of int
        The length of each.
    """

    read: Interval
    written: Interval
    chunks: tuple[int, ...]
    cuts: tuple[Interval, ...]
    lengths: tuple[int, ...]

    @property
    def length(self) -> int:
        """The number of positions that are read."""
        return self.read[1] - self.read[0]


def stretches(line: Line, chunks: Sequence[int]) -> list[Stretch]:
    """Return the stretch of each chunk of an axis with these lengths of chunks."""
    starts = [0, *itertools.accumulate(chunks)]
    written = itertools.pairwise(starts)
    return [
        _stretch(line.read_for(places) if places[0] < places[1] else places, places, starts)
        for places in written
    ]


def _stretch(read: Interval, written: Interval, starts: Sequence[int]) -> Stretch:
    chunks, cuts, lengths = [], [], []
    place = read[0]
    while place < read[1]:
        index = place % starts[-1]
        chunk = bisect_right(starts, index) - 1
        first, end = starts[chunk], starts[chunk + 1]
        taken = min(end - index, read[1] - place)
        chunks.append(chunk)
        cuts.append((index - first, index - first + taken))
        lengths.append(end - first)
        place += taken
    return Stretch(read, written, tuple(chunks), tuple(cuts), tuple(lengths))


def followed(stretch: Stretch, chunks: Sequence[int]) -> Stretch:
    """Return the same positions of an array with other chunks: of a mask, say."""
    return _stretch(stretch.read, stretch.written, [0, *itertools.accumulate(chunks)])


def held(stretch: Stretch, chunks: Sequence[int]) -> Stretch:
    """Return the one position of an axis along which an array, of these chunks, is repeated."""
    place = (0, min(stretch.length, 1))
    return _stretch(place, place, [0, *itertools.accumulate(chunks)])


@dataclass(frozen=True, slots=True)
class ChunkWindow:
    """A chunk with its halo: a stretch along each axis."""

    stretches: tuple[Stretch, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of what is read."""
        return tuple(stretch.length for stretch in self.stretches)

    @property
    def starts(self) -> tuple[int, ...]:
        """The position of its first sample."""
        return tuple(stretch.read[0] for stretch in self.stretches)

    @property
    def places(self) -> tuple[Interval, ...]:
        """The positions of the chunk."""
        return tuple(stretch.written for stretch in self.stretches)

    @property
    def written(self) -> tuple[slice, ...]:
        """Where the chunk lies in it."""
        starts = zip(self.places, self.starts, strict=True)
        return tuple(slice(begin - start, end - start) for (begin, end), start in starts)

    def chunks(self) -> Iterator[tuple[int, ...]]:
        """Yield the indices of the chunks that it reads, as `assembled` takes their blocks."""
        return itertools.product(*(stretch.chunks for stretch in self.stretches))

    def assembled(self, blocks: Sequence[Any], dtype: np.dtype[Any], name: str = "x") -> Array:
        """Return the samples of the window from the blocks of its chunks.

        Raises
        ------
        ValueError
            A block is not of the shape and dtype that the array says.
        """
        whole = len(blocks) == 1 and self.shape == tuple(stretch.lengths[0] for stretch in self.stretches)
        lengths = itertools.product(*(stretch.lengths for stretch in self.stretches))
        if whole:
            return _checked(blocks[0], next(lengths), dtype, name)
        samples = np.empty(self.shape, dtype)
        cuts = itertools.product(*(_moves(stretch) for stretch in self.stretches))
        for block, shape, moves in zip(blocks, lengths, cuts, strict=True):
            into, taken = zip(*moves, strict=True)
            samples[into] = _checked(block, shape, dtype, name)[taken]
        return samples


def _moves(stretch: Stretch) -> list[tuple[slice, slice]]:
    """Return where the part of each chunk goes, and which part that is."""
    ends = itertools.accumulate(end - begin for begin, end in stretch.cuts)
    return [
        (slice(end - (cut[1] - cut[0]), end), slice(*cut))
        for end, cut in zip(ends, stretch.cuts, strict=True)
    ]


def _checked(block: Any, shape: tuple[int, ...], dtype: np.dtype[Any], name: str) -> Array:
    array = np.asarray(block)
    if array.shape != shape or array.dtype != dtype:
        raise ValueError(
            f"a block of `{name}` has shape {array.shape} and dtype {array.dtype}, where its Dask array says "
            f"{shape} and {dtype}; correct the function that makes it, or its meta."
        )
    return array


def read_share(windows: Sequence[Sequence[Stretch]], shape: Sequence[int]) -> float:
    """Return how many times as many samples as the array has are read in all."""
    along = [
        sum(stretch.length for stretch in axis) / max(n, 1) for axis, n in zip(windows, shape, strict=True)
    ]
    return math.prod(along)
