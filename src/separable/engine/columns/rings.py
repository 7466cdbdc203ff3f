"""What is kept of a window: columns in memories that new ones are written behind, so that none is moved."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..._base.types import Array
from .body import LocalBody
from .pieces import HopGraph, Kept, ring_order

__all__ = ["Rings", "columns_of"]

_MOST_PHASES = 64  # hops after which what is kept moves to the front of its memory, at most


def columns_of(array: Array, axis: int, first: int, end: int) -> Array:
    """Return some columns along an axis, as a view."""
    return array[(slice(None),) * axis + (slice(first, end),)]


@dataclass(frozen=True, slots=True)
class _Ring:
    """The columns of one tensor.

    Attributes
    ----------
    array : ndarray
        Several windows of them, one behind the other, along `axis`.
    axis : int
    first, high : int
        Columns of the window: those that are kept, and the end of those that a hop adds.
    fresh : int
        Columns that it adds.
    """

    array: Array
    axis: int
    first: int
    high: int
    fresh: int

    def view(self, phase: int, first: int, end: int) -> Array:
        """Return columns of the window, once so many hops were made."""
        shift = phase * self.fresh - self.first
        return columns_of(self.array, self.axis, first + shift, end + shift)

    def new(self, phase: int) -> Array:
        """Return the place of the columns that a hop adds."""
        return self.view(phase, self.high - self.fresh, self.high)

    def rewind(self, phases: int) -> None:
        """Move what is kept to the front, after the last hop that there is room for."""
        self.view(0, self.first, self.high - self.fresh)[...] = self.view(
            phases - 1, self.first + self.fresh, self.high
        )


class Rings:
    """All columns that hops read again.

    Parameters
    ----------
    body : LocalBody
    hop : HopGraph

    Attributes
    ----------
    nbytes : int
    """

    def __init__(self, body: LocalBody, hop: HopGraph) -> None:
        extents, shape = body.view.extents, body.view.shape
        source = extents[body.source]
        self._phases = max(1, min(_MOST_PHASES, -(-source.length // body.hop)))
        self._phase = 0
        self._input = self._ring(shape(body.source), source.axis, 0, source.length, body.hop)
        self._inner: dict[str, _Ring] = {}
        self._orders: dict[str, tuple[int, ...]] = {}
        for name in hop.fresh:
            extent = extents[name]
            order = self._orders[name] = ring_order(extent.axis, len(shape(name)))
            first = min(kept[0] for kept in body.needs[name].kept)
            lengths = [shape(name)[axis] for axis in order]
            self._inner[name] = self._ring(lengths, 0, first, extent.high, extent.fresh(body.hop))
        self._axes = {name: extents[name].axis for name in hop.fresh}
        self._copied: list[tuple[Array, int, int]] = []
        reads = [self._read(body.source, kept) for kept in hop.reads]
        phases = range(self._phases)
        self._reads = [[view(phase) for view in reads] for phase in phases]
        self._writes = [[ring.new(phase) for ring in self._inner.values()] for phase in phases]
        self._entries = [self._input.new(phase) for phase in phases]

    def _ring(self, shape: Sequence[int], axis: int, first: int, high: int, fresh: int) -> _Ring:
        lengths = list(shape)
        lengths[axis] = (self._phases - 1) * fresh + high - first
        return _Ring(np.zeros(lengths, np.float32), axis, first, high, fresh)

    def _read(self, source: str, kept: Kept) -> Callable[[int], Array]:
        """Return what tells where a hop reads some columns: in place, or in a copy where that has gaps."""
        if kept.name != source:
            ring = self._inner[kept.name]
            return lambda phase: ring.view(phase, kept.first, kept.end)
        view = self._input.view(0, kept.first, kept.end)
        if view.flags.c_contiguous:
            return lambda phase: self._input.view(phase, kept.first, kept.end)
        copy = np.empty(view.shape, np.float32)
        self._copied.append((copy, kept.first, kept.end))
        return lambda _: copy

    @property
    def nbytes(self) -> int:
        """Bytes of all memories."""
        return self._input.array.nbytes + sum(ring.array.nbytes for ring in self._inner.values())

    def fill(self, window: Array, tensors: Callable[[str], Array]) -> None:
        """Keep what there is of a whole window.

        Parameters
        ----------
        window : ndarray
            The input.
        tensors : callable
            Returns a tensor of the network by its name, as computed for that window.
        """
        self._phase = 0
        fresh, length = self._input.fresh, self._input.high
        self._input.view(0, 0, length - fresh)[...] = columns_of(window, self._input.axis, fresh, length)
        for name, ring in self._inner.items():
            columns = columns_of(tensors(name), self._axes[name], ring.first + ring.fresh, ring.high)
            ring.view(0, ring.first, ring.high - ring.fresh)[...] = columns.transpose(self._orders[name])

    def enter(self, frames: Array) -> tuple[list[Array], list[Array]]:
        """Take new columns of the input; return what the hop reads, and where it writes what is new."""
        phase = self._phase
        self._entries[phase][...] = frames
        for copy, first, end in self._copied:
            copy[...] = self._input.view(phase, first, end)
        return self._reads[phase], self._writes[phase]

    def leave(self) -> None:
        """Go on to the next hop: what this one wrote is kept."""
        self._phase += 1
        if self._phase == self._phases:
            for ring in (self._input, *self._inner.values()):
                ring.rewind(self._phases)
            self._phase = 0
