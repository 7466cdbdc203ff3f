"""OME-Zarr pictures as targets: levels are made of slabs while these are in memory, metadata come last."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from ..._base.atomic import give_place, sync_folder
from ..._base.extras import extra
from ..._base.types import Array
from ...files.image import Image
from ..places.flat import draft_of
from ..places.place import Order, as_lying
from ..places.zarrs import ZarrForm, ZarrTarget
from .geometry import OmeLevel, Pyramid, levels_of
from .metadata import OmePicture, picture_of
from .reduction import LevelMeans, LevelSamples, reduction_bytes

SUFFIX: Final = ".ome.zarr"
_LARGEST_CHUNK: Final = 1 << 20  # samples of a chunk, where the source has none: 64 along three axes
_GROUP: Final = "zarr.json"


def ome_target(
    path: Path, dtype: np.dtype[Any], header: Image, like: Any, order: Order, pyramid: Pyramid
) -> OmeTarget:
    """Return the target of a picture in a folder that is to be, with what `header` says of the source.

    Named axes of a source in Fortran order come in the opposite order, as OME-NGFF wants them: z, y, x.

    Parameters
    ----------
    path : Path
    dtype : dtype
    header : Image
        Without samples.
    like : array of zarr, or None
        Whose chunks, shards and codecs it gets.
    order : {"C", "F"}
        Of the source.
    pyramid : Pyramid

    Raises
    ------
    FileError
        OME-NGFF has no such picture.
    ValueError
        There are not so many levels.
    """
    with extra("volumes"):
        import zarr  # noqa: F401
    picture, turned = picture_of(header, path, order == "F")
    shape, spacing, stored = header.data.shape, header.spacing, order
    if turned:
        shape, spacing, stored = shape[::-1], spacing[::-1], "C"
    spatial = tuple(axis for axis, known in enumerate(picture.axes) if known.kind == "space")
    follows = not turned and len(getattr(like, "chunks", None) or ()) == len(shape)
    form = ZarrForm.like(like, shape) if follows else ZarrForm(_chunks(shape, spatial))
    form = form._replace(names=tuple(axis.name for axis in picture.axes))
    levels = levels_of(shape, spatial, spacing, form.chunks, pyramid)
    return OmeTarget(path, dtype, picture, levels, form, (order, stored), pyramid)


class OmeTarget:
    """A picture in a folder beside the target, which gets the target's name when all is written.

    Rows come in order. Those of a smaller level wait in memory until they fill a row of chunks; a run that is
    gone on with makes them again of what is on the disk.

    Attributes
    ----------
    picture : OmePicture
    levels : tuple of OmeLevel
        As they lie in the arrays.
    pyramid : Pyramid
    """

    remark = ""
    in_order = True

    def __init__(
        self,
        path: Path,
        dtype: np.dtype[Any],
        picture: OmePicture,
        levels: tuple[OmeLevel, ...],
        form: ZarrForm,
        orders: tuple[Order, Order],
        pyramid: Pyramid,
    ) -> None:
        self.name = f"`{path}`"
        self.path: str | None = str(path)
        self.picture, self.levels, self.pyramid = picture, levels, pyramid
        self._path, self._draft, self._dtype = path, draft_of(path), dtype
        self.order = orders[0]
        self._arrays = [
            ZarrTarget(path, level.shape, dtype, _clipped(form, level.shape), orders[1], self._draft / str(n))
            for n, level in enumerate(levels)
        ]
        self._lying = [OmeLevel(*(as_lying(part, orders[1]) for part in level)) for level in levels]
        self.rows = self._arrays[0].rows
        make = LevelSamples if pyramid.reduction == "sample" else LevelMeans
        self._reduction = make(self._lying, dtype)
        whole = self._arrays[0]
        self.codec_bytes = whole.codec_bytes + whole.thread_bytes + self._level_bytes()
        self._place = 0  # rows of the whole picture that were taken up
        self._waiting: list[Array] = []
        self._first = [0] * len(levels)  # of the rows that wait
        self._count = [0] * len(levels)  # of these
        self.notes = self._notes()

    def _level_bytes(self) -> int:
        """Return the memory that smaller levels take: rows that wait, sums, and rows that are read again."""
        if len(self.levels) == 1:
            return 0
        item = self._dtype.itemsize
        waiting = sum(
            array.rows * math.prod(level.shape[1:])
            for array, level in zip(self._arrays[1:], self._lying[1:], strict=True)
        )
        again = self.rows * math.prod(self._lying[0].shape[1:])
        sums = reduction_bytes(self._lying, self._dtype, self.pyramid.reduction)
        return (waiting + again) * item + sums

    def _notes(self) -> tuple[str, ...]:
        lost = self.picture.levels - len(self.levels)
        if len(self.levels) > 1 or lost < 1:
            return ()
        what = "smaller level is" if lost == 1 else f"{lost} smaller levels are"
        return (f"the source's {what} not kept; `pyramid` makes them anew.",)

    @property
    def made(self) -> str:
        """What the levels are, as a journal compares it."""
        return f"{self.pyramid.reduction} {[level.factors for level in self.levels]}"

    def exists(self) -> bool:
        """Return whether the target is there."""
        return self._path.exists()

    def begin(self, resumed: bool) -> None:
        """Make the draft's folder with its arrays; open them where they are there."""
        if not resumed and self._draft.exists():
            shutil.rmtree(self._draft)
        self._draft.mkdir(exist_ok=True)
        for array in self._arrays:
            array.begin(resumed)
        self._waiting = [
            np.empty((array.rows if number else 0, *level.shape[1:]), self._dtype)
            for number, (array, level) in enumerate(zip(self._arrays, self._lying, strict=True))
        ]

    def write(self, begin: int, values: Array) -> None:
        """Write rows of the whole picture, and of smaller levels what is complete with them."""
        if begin != self._place:
            self._take_up(begin)
        self._arrays[0].write(begin, values)
        self._reduce(values)

    def _reduce(self, values: Array) -> None:
        self._place += len(values)
        for number, first, rows in self._reduction.take(values):
            written = self._first[number] + self._count[number]
            self._put(number, rows[max(0, written - first) :])

    def _put(self, number: int, rows: Array) -> None:
        """Let rows of a level wait for others of their chunks, and write these where they are complete."""
        waiting, length = self._waiting[number], self._lying[number].shape[0]
        while len(rows):
            count = self._count[number]
            taken = min(len(rows), len(waiting) - count)
            waiting[count : count + taken] = rows[:taken]
            rows, count = rows[taken:], count + taken
            if count == len(waiting) or self._first[number] + count == length:
                self._arrays[number].write(self._first[number], waiting[:count])
                self._first[number], count = self._first[number] + count, 0
            self._count[number] = count

    def _take_up(self, begin: int) -> None:
        """Make the rows that wait again, of the rows before `begin`, which are on the disk."""
        self._first = [self._written(number, begin) for number in range(len(self.levels))]
        self._count = [0] * len(self.levels)
        needed = zip(self._first[1:], self._lying[1:], strict=True)
        start = min([begin, *(first * level.factors[0] for first, level in needed)])
        start -= start % self._lying[-1].factors[0]
        self._place = start
        self._reduction.begin(start)
        while self._place < begin:
            end = min(begin, (self._place // self.rows + 1) * self.rows)
            self._reduce(self._arrays[0].read(self._place, end))

    def _written(self, number: int, rows: int) -> int:
        """Return how many rows of a level are written with so many of the whole picture."""
        level, whole = self._lying[number], self._lying[0].shape[0]
        complete = level.complete(rows, whole)
        return complete if complete == level.shape[0] else complete - complete % self._arrays[number].rows

    def _parts(self, begin: int, end: int) -> Iterator[tuple[ZarrTarget, int, int]]:
        """Yield the arrays that are written to with a part of the whole picture, and which rows."""
        for number, array in enumerate(self._arrays):
            first, last = (begin, end) if not number else (self._written(number, n) for n in (begin, end))
            if last > first:
                yield array, first, last

    def synced(self, begin: int, end: int) -> int:
        """Return the bytes of the chunks that are written with a part, once they are on the disk."""
        return sum(array.synced(first, last) for array, first, last in self._parts(begin, end))

    def stored(self, begin: int, end: int) -> int:
        """Return the bytes of these chunks."""
        return sum(array.stored(first, last) for array, first, last in self._parts(begin, end))

    def finish(self) -> None:
        """Write what the picture is, and give the folder its name."""
        attributes = self.picture.attributes(self.levels, self.pyramid.reduction)
        group = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
        with (self._draft / _GROUP).open("w", encoding="utf-8") as file:
            json.dump(group, file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        sync_folder(self._draft)
        give_place(self._draft, self._path)

    def close(self) -> None:
        """Do nothing: files are closed after each chunk."""


def _clipped(form: ZarrForm, shape: tuple[int, ...]) -> ZarrForm:
    """Return the form of a level: no chunk is longer than the level, and shards hold no more than it has."""
    chunks = tuple(min(chunk, n) for chunk, n in zip(form.chunks, shape, strict=True))
    if form.shards is None:
        return form._replace(chunks=chunks)
    counts = [shard // chunk for shard, chunk in zip(form.shards, form.chunks, strict=True)]
    lengths = zip(counts, chunks, shape, strict=True)
    return form._replace(
        chunks=chunks, shards=tuple(min(count, -(-n // chunk)) * chunk for count, chunk, n in lengths)
    )


def _chunks(shape: Sequence[int], spatial: Sequence[int]) -> tuple[int, ...]:
    """Return chunks as long along all axes of space, by a power of two, and of one index along others."""
    side = 2 ** int(math.log2(_LARGEST_CHUNK) / max(len(spatial), 1))
    return tuple(max(1, min(n, side)) if axis in spatial else 1 for axis, n in enumerate(shape))
