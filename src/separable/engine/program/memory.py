"""Where tensors lie: buffers of one arena, and the two layouts of a tensor in a buffer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ... import _core
from ...onnx.model.sizes import check_fits
from ..recorded.tape import applied

__all__ = ["Blocked", "Buffer", "Held", "Plain", "assign", "rounded"]


def rounded(count: int, unit: int) -> int:
    """Return the least multiple of a unit that is no less than a count."""
    return -(-count // unit) * unit


@dataclass(eq=False, slots=True)
class Buffer:
    """A stretch of memory.

    Attributes
    ----------
    size : int
        Elements of float32.
    base : int
        0: in the arena, from `at` on once that is assigned; else the number of an input, an output or a
        constant, of which it is the whole.
    first, last : int
        The steps between which it is in use.
    """

    size: int
    base: int = 0
    at: int = 0
    first: int | None = None
    last: int = -1

    def used(self, step: int) -> None:
        """Note that a step reads or writes it: no earlier one than those before."""
        if self.first is None:
            self.first = step
        self.last = step


class Plain(NamedTuple):
    """A tensor as an array with strides: C-contiguous, or a view.

    Attributes
    ----------
    buffer : Buffer
    shape, strides : tuple of int
        Strides in elements.
    offset : int
        Of the first element in the buffer.
    """

    buffer: Buffer
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0

    @classmethod
    def contiguous(cls, buffer: Buffer, shape: Sequence[int]) -> Plain:
        """Return a tensor that fills a buffer in C order."""
        strides, stride = [], 1
        for length in reversed(shape):
            strides.append(stride)
            stride *= length
        return cls(buffer, tuple(shape), tuple(reversed(strides)))

    @property
    def is_contiguous(self) -> bool:
        """Whether elements follow each other in C order, without gaps."""
        expected = 1
        for length, stride in zip(self.shape[::-1], self.strides[::-1], strict=True):
            if length != 1 and stride != expected:
                return False
            expected *= length
        return True

    @property
    def address(self) -> tuple[int, int]:
        """The memory's number, and the place of the first element in it."""
        return self.buffer.base, self.buffer.at + self.offset


class Blocked(NamedTuple):
    """Feature maps in blocks of channels: [image][block][row][pixel][lane], with zeros around them.

    The slices of a volume are images, one after the other.

    Attributes
    ----------
    buffer : Buffer
    shape : tuple of int
        (N, C, H, W); H is 1 for signals, N the number of slices for a volume.
    lanes : int
        Channels of a block.
    pitches : tuple of int
        Elements from image to image, from block to block, from row to row.
    around : tuple of int
        Zeros above, left, below and right of each map, in pixels.
    offset : int
        Of pixel (0, 0) of the first block, in the buffer.
    rank : int
        Of the tensor: 3 for signals (N, C, L), 4 for images, 5 for a volume (1, C, D, H, W).
    deep : tuple of int
        Slices of zeros before and behind a volume.
    """

    buffer: Buffer
    shape: tuple[int, int, int, int]
    lanes: int
    pitches: tuple[int, int, int]
    around: tuple[int, int, int, int]
    offset: int
    rank: int = 4
    deep: tuple[int, int] = (0, 0)

    @classmethod
    def fresh(
        cls,
        shape: tuple[int, int, int, int],
        lanes: int,
        around: tuple[int, int, int, int] = (0, 0, 0, 0),
        rank: int = 4,
        deep: tuple[int, int] = (0, 0),
    ) -> Blocked:
        """Return feature maps in a buffer of their own."""
        count, channels, height, width = shape
        top, left, bottom, right = around
        row = (left + width + right) * lanes
        block = (top + height + bottom) * row
        image = block * -(-channels // lanes)
        buffer = Buffer(image * (deep[0] + count + deep[1]))
        offset = deep[0] * image + top * row + left * lanes
        return cls(buffer, shape, lanes, (image, block, row), around, offset, rank, deep)

    @property
    def blocks(self) -> int:
        """The number of blocks of an image."""
        return -(-self.shape[1] // self.lanes)

    @property
    def is_row(self) -> bool:
        """Whether it is one pixel, and the channels of an image follow each other without a gap."""
        alone = self.rank < 5 or self.shape[0] == 1
        return alone and self.shape[2:] == (1, 1) and (self.pitches[1] == self.lanes or self.blocks == 1)

    @property
    def lengths(self) -> tuple[int, ...]:
        """The shape with the channels as two axes, at the end the lanes."""
        count, _, height, width = self.shape
        return count, self.blocks, height, width, self.lanes

    @property
    def strides(self) -> tuple[int, ...]:
        """The strides of `lengths`, in elements."""
        return (*self.pitches, self.lanes, 1)

    @property
    def address(self) -> tuple[int, int]:
        """The memory's number, and the place of the first element in it."""
        return self.buffer.base, self.buffer.at + self.offset

    def has_around(self, around: Iterable[int], deep: Iterable[int] = (0, 0)) -> bool:
        """Whether there are at least so many zeros around the maps, and slices of them around a volume."""
        wanted = (*around, *deep)
        if not any(wanted):
            return True
        return all(have >= want for have, want in zip((*self.around, *self.deep), wanted, strict=True))

    def box(self, first: tuple[int, int], size: tuple[int, int]) -> Blocked:
        """Return some rows and pixels of each map, from (row, pixel) on; what lies around is not zero."""
        offset = self.offset + first[0] * self.pitches[2] + first[1] * self.lanes
        shape = (*self.shape[:2], *size)
        return Blocked(self.buffer, shape, self.lanes, self.pitches, (0, 0, 0, 0), offset, self.rank)

    def reshaped(self, shape: tuple[int, ...]) -> Blocked | None:
        """Return the maps with axes of one pixel added, dropped or exchanged; None where that is no view."""
        if len(shape) not in (3, 4) or self.rank == 5 or shape[:2] != self.shape[:2]:
            return None
        size = (1, shape[2]) if len(shape) == 3 else (shape[2], shape[3])
        if size == self.shape[2:]:
            return self._replace(rank=len(shape))
        row = self.lanes if self.shape[2] == 1 else self.pitches[2]
        if size != self.shape[:1:-1] or 1 not in size or row != self.lanes:
            return None
        pitches = (*self.pitches[:2], size[1] * self.lanes)
        made = (self.shape[0], self.shape[1], *size)
        return self._replace(shape=made, pitches=pitches, around=(0, 0, 0, 0), rank=len(shape))

    def channels(self, first: int, count: int) -> Blocked:
        """Return some of the channels, from the first one of a block on."""
        shape = (self.shape[0], count, *self.shape[2:])
        offset = self.offset + first // self.lanes * self.pitches[1]
        rest = self.around, offset, self.rank, self.deep
        return Blocked(self.buffer, shape, self.lanes, self.pitches, *rest)

    def slices(self, first: int, count: int) -> Blocked:
        """Return some slices of a volume."""
        offset = self.offset + first * self.pitches[0]
        return self._replace(shape=(count, *self.shape[1:]), offset=offset, deep=(0, 0))


Held = Plain | Blocked


def assign(buffers: Iterable[Buffer]) -> int:
    """Place buffers in one arena: two share memory only if they are never in use at the same time.

    Parameters
    ----------
    buffers : iterable of Buffer
        Those that steps use; what lies elsewhere (a base other than 0) is left out.

    Returns
    -------
    int
        Elements of the arena.

    Raises
    ------
    ModelError
        If this machine cannot hold it.
    """
    placed = list({b: None for b in buffers if b.base == 0 and b.first is not None})
    firsts, lasts = tuple([b.first for b in placed]), tuple([b.last for b in placed])
    places: list[int]
    arena: int
    *places, arena = applied(_places, firsts, lasts, *[b.size for b in placed])
    for buffer, place in zip(placed, places, strict=True):
        buffer.at = place
    return arena


def _places(firsts: tuple[int, ...], lasts: tuple[int, ...], *sizes: int) -> tuple[int, ...]:
    """Return where buffers of some sizes lie, and behind them the elements of the arena."""
    largest = max(sizes, default=0)
    check_fits("the memory of a call, float32", (largest,), 4 * largest)
    made = _core.places_in_arena(sizes, firsts, lasts)
    check_fits("the memory of a call, float32", made[-1:], 4 * made[-1])
    return made
