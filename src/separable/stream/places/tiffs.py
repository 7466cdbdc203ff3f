"""TIFF stacks: from the file itself where samples lie as they are, else page by page; written as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..._base.types import Array
from ...files.formats import tiff
from ...files.image import Image
from ...files.names import named_as
from .arrays import layers
from .flat import FileSource, FlatSource, FlatTarget, Layout
from .niftis import lying
from .place import Order, StreamSource


def tiff_source(path: Path) -> StreamSource:
    """Return the image series of a file; FileError where it is damaged."""
    pages = tiff.TiffPages(path)
    header = pages.header
    if pages.offset is None:
        return TiffSource(path, pages)
    pages.close()
    layout = Layout(header.data.shape, "C", pages.stored, header.data.dtype, pages.offset)
    return FlatSource(path, layout, header)


class TiffSource(FileSource):
    """A stack that is decoded page by page."""

    remark = ", decoded page by page"
    forward = False
    order: Order = "C"

    def __init__(self, path: Path, pages: tiff.TiffPages) -> None:
        self.name, self.header = f"`{path}`", pages.header
        self.shape, self.dtype = pages.header.data.shape, pages.header.data.dtype
        self.rows = 1 if pages.pages else self.shape[0]
        self.codec_bytes = 3 * pages.page_bytes
        self._path, self._pages = path, pages

    def read(self, begin: int, end: int, into: Array) -> None:
        """Decode a part; FileError where a page is damaged."""
        for part, first, last in layers(begin, end, self.rows):
            self._pages.read(first, last, into[part])

    def close(self) -> None:
        """Close the file."""
        self._pages.close()


def tiff_target(path: Path, dtype: np.dtype[Any], header: Image) -> FlatTarget:
    """Return the target of a file that is to be, with what `header` says of the source.

    Raises
    ------
    FileError
        A TIFF does not hold such an image; its axes lie in another order, which takes all of it.
    """
    made = tiff.lay_out(named_as(header, path), dtype, path)
    order = lying(made.axes[::-1], path)
    layout = Layout(header.data.shape, order, dtype, dtype)
    return FlatTarget(path, layout, made.prepare, made.locate, made.notes)
