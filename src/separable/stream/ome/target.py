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
from ..parts import Chore, Region
from ..places.flat import draft_of
from ..places.place import Order, all_of, as_lying
from ..places.zarrs import ZarrForm, ZarrTarget
from .geometry import OmeLevel, Pyramid, levels_of
from .metadata import OmePicture, picture_of
from .stack import LevelStack

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

    Parts come in order. Rows of a smaller level wait in memory until they fill a row of chunks; a run that is
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
    codec_bytes = 0

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
        self._path, self._draft = path, draft_of(path)
        self.order = orders[0]
        self._arrays = [
            ZarrTarget(path, level.shape, dtype, _clipped(form, level.shape), orders[1], self._draft / str(n))
            for n, level in enumerate(levels)
        ]
        lying = [OmeLevel(*(as_lying(part, orders[1]) for part in level)) for level in levels]
        self._stack = LevelStack(self._arrays, lying, dtype, pyramid.reduction)
        whole = self._arrays[0]
        self.rows, self.columns = whole.rows, math.lcm(whole.columns, self._stack.columns)
        self.thread_bytes = max(whole.thread_bytes, self._stack.thread_bytes)
        self.notes = self._notes()

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

    def waiting_bytes(self, rows: int, columns: int | None) -> int:
        """Return the memory of smaller levels, where parts of so many rows, and columns, are written."""
        return self._stack.waiting_bytes(rows, columns)

    def write(self, begin: int, values: Array) -> None:
        """Write rows of the whole picture, and of smaller levels what is complete with them."""
        all_of(self.pieces(Region((begin, begin + len(values))), values))
        all_of(self.following())

    def pieces(self, part: Region, values: Array) -> list[Chore]:
        """Return the tasks that make smaller levels of a part, and those that write it, one a chunk."""
        return [*self._stack.pieces(part, values), *self._arrays[0].pieces(part, values)]

    def following(self) -> list[Chore]:
        """Return the tasks that write what is complete of smaller levels, once `pieces` are done."""
        return self._stack.complete()

    def synced(self, begin: int, end: int) -> int:
        """Return the bytes of the chunks that are written with rows, once they are on the disk."""
        return self.synced_part(Region((begin, end)))

    def stored(self, begin: int, end: int) -> int:
        """Return the bytes of these chunks."""
        return self.stored_part(Region((begin, end)))

    def _parts(self, part: Region) -> Iterator[tuple[ZarrTarget, Region]]:
        """Yield the arrays that are written to with a part of the whole picture, and where."""
        for number, array in enumerate(self._arrays):
            own = self._stack.region(number, part)
            if own.rows[1] > own.rows[0]:
                yield array, own

    def synced_part(self, part: Region) -> int:
        """Return the bytes of the chunks that are complete with a part, once all of it is on the disk."""
        for array, own in self._parts(part):
            array.synced_part(own)
        return self.stored_part(part)

    def stored_part(self, part: Region) -> int:
        """Return the bytes of these chunks: those that the next column fills up are still to change."""
        return sum(array.stored_part(array.complete(own)) for array, own in self._parts(part))

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
