"""Parts of arrays, as they lie, and the work of reading and writing them in pieces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ..arrays.boundaries import Interval


class Region(NamedTuple):
    """A part of an array: indices of its slowest axis, and of the next one (None: all of them)."""

    rows: Interval
    columns: Interval | None = None

    def box(self, shape: tuple[int, ...]) -> tuple[Interval, ...]:
        """Return the interval along each axis of an array of this shape, from the slowest on."""
        whole = [(0, n) for n in shape]
        whole[0] = self.rows
        if self.columns is not None:
            whole[1] = self.columns
        return tuple(whole)

    def within(self, first: int, left: int) -> tuple[slice, ...]:
        """Return where it lies in an array that begins at these indices."""
        rows = slice(self.rows[0] - first, self.rows[1] - first)
        if self.columns is None:
            return (rows,)
        return rows, slice(self.columns[0] - left, self.columns[1] - left)


def _nothing() -> None:
    return None


class Chore(NamedTuple):
    """A piece of work for one thread, and what it waits for before: a disk, while another thread may work.

    `work` is called with what `wait` returns.
    """

    work: Callable[[Any], object]
    wait: Callable[[], Any] = _nothing


def alone(work: Callable[[], object]) -> Chore:
    """Return a task that waits for nothing."""
    return Chore(lambda _: work())
