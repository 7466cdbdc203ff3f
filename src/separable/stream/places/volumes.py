"""Volumes of NRRD, MetaImage and DICOM, along their last axis; from the file itself where samples lie so."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from ..._base.types import Array
from ...files.formats import dicom, metaimage, nrrd
from ...files.formats.raw import RawSamples
from ...files.guard import FileError
from ...files.image import Image
from .flat import FileSource, FlatSource, FlatTarget, Layout
from .niftis import lying
from .pipe import PipeSource
from .place import Order, StreamSource, StreamTarget

NRRD, METAIMAGE, DICOM = nrrd.SUFFIXES, metaimage.SUFFIXES, dicom.SUFFIXES
_PLAIN = "its samples are not compressed, so that a run that was stopped can go on."


def volume_source(path: Path) -> StreamSource:
    """Return the volume of a file or a folder; FileError where it is damaged."""
    suffix = path.suffix.lower()
    if path.is_dir() or suffix in DICOM:
        return DicomSource(path)
    if suffix in NRRD:
        return _source(path, *nrrd.describe(path), nrrd.KIND)
    return _source(path, *metaimage.describe(path), metaimage.KIND)


def _source(path: Path, header: Image, samples: RawSamples, kind: str) -> StreamSource:
    layout = Layout(samples.shape, "F", samples.stored, samples.dtype, samples.offset)
    if samples.packing == "text":
        raise FileError(f"`{path}` has its samples as text, which is read in one go; leave out `memory`.")
    if samples.packing == "":
        return FlatSource(samples.path, layout, header)
    packed = Layout(samples.shape, "F", samples.stored, samples.dtype)
    return PipeSource(samples.path, packed, header, kind, samples.opened)


def volume_target(path: Path, dtype: np.dtype[Any], header: Image) -> StreamTarget:
    """Return the target of a file that is to be, with what `header` says of the source.

    Raises
    ------
    FileError
        Its format does not hold such a volume; its axes lie in another order, which takes all of it.
    """
    form = nrrd if path.suffix.lower() in NRRD else metaimage
    begin, stored = form.head(header, dtype, path)
    order = lying(form.disk_order(header, path), path)
    layout = Layout(header.data.shape, order, stored, dtype)

    def prepare(draft: Path) -> None:
        draft.write_bytes(begin)

    notes = (_PLAIN,) if form.is_packed(header) else ()
    return FlatTarget(path, layout, prepare, lambda draft: len(begin), notes)


class DicomSource(FileSource):
    """A series of DICOM, decoded slice by slice."""

    remark = ", decoded slice by slice"
    forward = False
    order: Order = "F"
    rows = 1

    def __init__(self, path: Path) -> None:
        self.header, self._slices = dicom.describe(path)
        self.name, self._path = f"`{path}`", path
        self.shape, self.dtype = self._slices.shape, self._slices.dtype
        self.codec_bytes = (
            3 * self.shape[0] * self.shape[1] * 8
        )  # a slice as stored, in float64, as it is read

    def read(self, begin: int, end: int, into: Array) -> None:
        """Decode slices; FileError where one is damaged."""
        for number in range(begin, end):
            into[number - begin] = self._slices.read(number)

    def identity(self) -> str:
        """Return where its files lie, their count, sizes and last change."""
        states = [os.stat(path) for path in self._slices.paths]
        size, newest = sum(state.st_size for state in states), max(state.st_mtime_ns for state in states)
        return f"{os.path.realpath(self._path)} {self.shape} {self.dtype.str} {len(states)} {size} {newest}"

    def close(self) -> None:
        """Do nothing: files are closed after each slice."""
