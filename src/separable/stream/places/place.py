"""The protocols of sources and targets, which are read and written in parts along their slowest axis.

In C order that is the first axis, in Fortran order, in which NIfTI lies, the last. Parts of an array in
Fortran order are handed on with their axes reversed, as they lie on the disk; `as_array` turns them back.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias, TypeVar, runtime_checkable

import numpy as np

from ..._base.types import Array
from ...arrays.boundaries import Interval
from ...files.image import Image
from ..parts import Chore, Region, alone

T = TypeVar("T")
Order: TypeAlias = Literal["C", "F"]


def as_lying(axes: tuple[T, ...], order: Order) -> tuple[T, ...]:
    """Return what belongs to each axis, such as lengths, from the slowest to the fastest; and back again."""
    return axes if order == "C" else axes[::-1]


def as_array(part: Array, order: Order) -> Array:
    """Return a view of a part, as it lies, with the array's axes in their order."""
    return part if order == "C" else part.T


class StreamSource(Protocol):
    """An array that is read in parts along its slowest axis.

    Attributes
    ----------
    name : str
        As messages call it.
    remark : str
        What plans say of it beside its name, such as that it is read in one go.
    shape : tuple of int
    dtype : dtype
    order : {"C", "F"}
        Whether parts are along the first axis, or along the last.
    forward : bool
        It is read from front to back alone; going back begins anew.
    rows : int
        Indices of that axis that are decoded together: a part that ends between is decoded twice.
    codec_bytes : int
        Memory taken by decoding, beside the array that is read into.
    header : Image
        What is known beside the samples, such as axes and spacing; no samples.
    """

    name: str
    remark: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    order: Order
    forward: bool
    rows: int
    codec_bytes: int
    header: Image

    def turn(self, order: Order, why: str) -> None:
        """Be read in another order from now on; ValueError, with `why` it is asked, where it cannot be."""

    def read(self, begin: int, end: int, into: Array) -> None:
        """Read the part from `begin` to `end` into a C-contiguous array, as it lies."""

    def identity(self) -> str:
        """Return a text that changes when the source does."""

    def close(self) -> None:
        """Close what was opened."""


class StreamTarget(Protocol):
    """An array that is written in parts along its slowest axis.

    Attributes
    ----------
    name : str
        As messages call it.
    remark : str
        What plans say of it beside its name, such as that it is not resumed.
    order : {"C", "F"}
        Whether parts are along the first axis of the result, or along its last.
    rows : int
        Indices of that axis that are encoded together: parts end at multiples of it, or at the end.
    codec_bytes : int
        Memory taken by encoding, beside the array that is written.
    path : str or None
        Where the finished target appears; None where it is not resumed, and no journal is kept.
    in_order : bool
        Parts are written from the front to the back: those behind one that is missing are written again.
    notes : tuple of str
        What it does not hold of what the source says.
    """

    name: str
    remark: str
    order: Order
    rows: int
    codec_bytes: int
    path: str | None
    in_order: bool
    notes: tuple[str, ...]

    def exists(self) -> bool:
        """Return whether the finished target is there."""

    def begin(self, resumed: bool) -> None:
        """Make the draft, or, where a run is gone on with, open the one that is there."""

    def write(self, begin: int, values: Array) -> None:
        """Write a part, as it lies, whose first index is `begin`."""

    def synced(self, begin: int, end: int) -> int:
        """Return the bytes that a written part takes, once they are on the disk."""

    def stored(self, begin: int, end: int) -> int:
        """Return the bytes that a part takes on the disk now."""

    def finish(self) -> None:
        """Give the draft its name: the target appears, whole."""

    def close(self) -> None:
        """Close what was opened."""


@runtime_checkable
class PartedSource(Protocol):
    """What a source has beside, where several threads read it, and columns of it: parts of the next axis too.

    Attributes
    ----------
    columns : int
        Indices of that axis that are decoded together.
    keeps : bool
        What was decoded for a column and is needed for the next one is kept: no chunk is decoded twice.
    thread_bytes : int
        Memory taken by each thread that decodes, beside `codec_bytes`.
    """

    columns: int
    keeps: bool
    thread_bytes: int

    def pieces(self, part: Region, into: Array) -> list[Chore]:
        """Return the tasks that read a part into an array, as it lies."""

    def foresee(self, part: Region) -> None:
        """Begin to read what `pieces` will be asked for next, as far as there is room."""

    def keep(self, reads: Sequence[Interval], folder: Path) -> None:
        """Keep what is decoded for a column and needed for the next one; each reads one of `reads`."""


@runtime_checkable
class PartedTarget(Protocol):
    """What a target has beside, where several threads write it, and columns: parts of the next axis too.

    Attributes
    ----------
    columns : int
        Indices of that axis that are encoded together.
    thread_bytes : int
        Memory taken by each thread that encodes, beside `codec_bytes`.
    """

    columns: int
    thread_bytes: int

    def pieces(self, part: Region, values: Array) -> list[Chore]:
        """Return the tasks that write a part, as it lies."""

    def synced_part(self, part: Region) -> int:
        """Return the bytes that a written part takes, once they are on the disk."""

    def stored_part(self, part: Region) -> int:
        """Return the bytes that a part takes on the disk now."""


@runtime_checkable
class LevelledTarget(Protocol):
    """A target that keeps more than what it is given: smaller levels of a picture."""

    def waiting_bytes(self, rows: int, columns: int | None) -> int:
        """Return the memory of what waits, where parts of so many rows, and columns, are written."""

    def following(self) -> list[Chore]:
        """Return the tasks that are left when those that write a part are done."""


@runtime_checkable
class SharedTarget(Protocol):
    """A target whose parts several processes write at a time."""

    def join(self) -> None:
        """Open the draft that another process has made."""


def parted_source(source: object) -> PartedSource | None:
    """Return a source if several threads read it, and columns of it."""
    return source if isinstance(source, PartedSource) else None


def parted_target(target: object) -> PartedTarget | None:
    """Return a target if several threads write it, and columns of it."""
    return target if isinstance(target, PartedTarget) else None


def levelled_target(target: object) -> LevelledTarget | None:
    """Return a target if it keeps smaller levels too."""
    return target if isinstance(target, LevelledTarget) else None


def read_tasks(source: StreamSource, part: Region, into: Array) -> list[Chore]:
    """Return the tasks that read a part of a source: one, where it is read in one go."""
    if isinstance(source, PartedSource):
        return source.pieces(part, into)
    return [alone(lambda: source.read(*part.rows, into))]


def write_tasks(target: StreamTarget, part: Region, values: Array) -> list[Chore]:
    """Return the tasks that write a part of a target: one, where it is written in one go."""
    if isinstance(target, PartedTarget):
        return target.pieces(part, values)
    return [alone(lambda: target.write(part.rows[0], values))]


def tasks_behind(target: StreamTarget) -> list[Chore]:
    """Return the tasks that follow when those of `write_tasks` are done."""
    levelled = levelled_target(target)
    return [] if levelled is None else levelled.following()


def synced(target: StreamTarget, part: Region) -> int:
    """Return the bytes that a written part takes, once they are on the disk."""
    return target.synced_part(part) if isinstance(target, PartedTarget) else target.synced(*part.rows)


def stored(target: StreamTarget, part: Region) -> int:
    """Return the bytes that a part takes on the disk now."""
    return target.stored_part(part) if isinstance(target, PartedTarget) else target.stored(*part.rows)


def all_of(tasks: Sequence[Chore]) -> None:
    """Do all tasks, one after the other."""
    for task in tasks:
        task.work(task.wait())
