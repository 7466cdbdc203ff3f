"""TIFF: pictures, stacks of pages, ImageJ and OME volumes, GeoTIFF."""

from __future__ import annotations

import logging
import math
import re
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..._base.extras import extra
from ..._base.types import Array
from ..guard import DEFLATE_LIMIT, FileError, check_promise, reading
from ..image import Image, size_text, without_samples
from .tiff_metadata import (
    DEFLATE,
    NO_COMPRESSION,
    carried,
    compression_name,
    nodata_text,
    nodata_value,
    photometric,
    spacing,
)
from .tiff_output import check, lay_out, write

if TYPE_CHECKING:
    import tifffile

__all__ = ["KIND", "SUFFIXES", "TiffPages", "check", "lay_out", "read", "write"]

SUFFIXES = (".tif", ".tiff")
KIND = "TIFF"
_HEADER = 8  # bytes before what a file holds


def read(path: Path) -> Image:
    """Return the one image series of a TIFF; a stack of equal pages is a volume."""
    with extra("files"):
        import tifffile

    with reading(path, KIND), _no_lost_pages(path), tifffile.TiffFile(path) as file:
        series = _only_series(file, path)
        _check_kind(series, path)
        absent = _check_complete(series, path)
        data = _decoded(series, path)
        header = _header(file, series, absent, path)
    return replace(header, data=data)


class TiffPages:
    """The image series of a TIFF, decoded page by page.

    Attributes
    ----------
    header : Image
        What `read` gives, without samples.
    offset : int or None
        The byte at which all samples begin, if they lie as they are one after the other.
    stored : dtype
        Of these, with their byte order.
    pages : int
        That belong to one index of the first axis; 0 where a page holds several indices.
    page_bytes : int
        Of a decoded page.
    """

    def __init__(self, path: Path) -> None:
        """Open a file; FileError as `read`, but for images larger than memory."""
        with extra("files"):
            import tifffile

        self._path = path
        with ExitStack() as stack:
            with reading(path, KIND), _no_lost_pages(path):
                file = stack.enter_context(tifffile.TiffFile(path))
                self._series = series = _only_series(file, path)
                _check_kind(series, path)
                absent = _check_complete(series, path, whole=False)
                self.header = _header(file, series, absent, path)
                self.offset = series.dataoffset
                self.stored = np.dtype(series.dtype).newbyteorder(file.byteorder)
                self.pages, rest = divmod(len(series.pages), series.shape[0])
                page = math.prod(series.keyframe.shape)
                if rest or self.pages * page != math.prod(series.shape[1:]):
                    self.pages = 0
                self.page_bytes = page * self.stored.itemsize
            self.close = stack.pop_all().close

    def read(self, begin: int, end: int, into: Array) -> None:
        """Decode a part of the first axis; planes that the file says it does not have are 0."""
        with reading(self._path, KIND), _no_lost_pages(self._path):
            if not self.pages:
                into[...] = _decoded(self._series, self._path)[begin:end]
                return
            planes = into.reshape((end - begin) * self.pages, -1)
            pages = list(self._series.pages[begin * self.pages : end * self.pages])
            for plane, page in zip(planes, pages, strict=True):
                plane[...] = 0 if page is None else _plane(page, self._series, self._path)


def _plane(page: Any, series: tifffile.TiffPageSeries, path: Path) -> Array:
    with _naming_the_codec(series.keyframe, path):
        return _as_numbers(page.asarray()).reshape(-1)


def _header(file: tifffile.TiffFile, series: tifffile.TiffPageSeries, absent: int, path: Path) -> Image:
    """Return what a TIFF says beside its samples."""
    said = nodata_text(series.keyframe)
    notes = []
    if absent:
        notes.append(f"`{path}` lacks {absent} of its {len(series.pages)} planes; taken as 0.")
    if said and nodata_value(said) is None:
        notes.append(f"`{path}` calls {said!r} no data, which is no number; all samples are taken as data.")
    dtype = np.dtype(np.uint8) if series.dtype == np.bool_ else np.dtype(series.dtype).newbyteorder("=")
    return without_samples(
        tuple(int(n) for n in series.shape),
        dtype,
        series.axes,
        spacing(file, series),
        colour=_colour(series),
        carried=carried(file, series),
        nodata=nodata_value(said),
        notes=tuple(notes),
    )


def _check_kind(series: tifffile.TiffPageSeries, path: Path) -> None:
    """Refuse what holds no samples that can be filtered."""
    import tifffile

    page = series.keyframe
    if page.photometric == tifffile.PHOTOMETRIC.PALETTE:
        raise FileError(f"`{path}` stores palette indices, which cannot be averaged; convert it to RGB.")
    dtype: np.dtype[Any] | None = series.dtype  # None for what NumPy has no dtype for
    if dtype is None or dtype.kind not in "biufc":
        raise FileError(
            f"`{path}` stores samples of {page.bitspersample} bits in format {page.sampleformat}, which are "
            "not read; convert it to 8, 16, 32 or 64 bits."
        )
    if page.samplesperpixel > 1 and page.planarconfig not in set(tifffile.PLANARCONFIG):
        raise FileError(  # tifffile would leave some of them undecoded
            f"`{path}` is damaged: the {page.samplesperpixel} samples of a pixel lie in way "
            f"{page.planarconfig}, which TIFF does not have."
        )
    if not series.shape or 0 in series.shape:
        raise FileError(f"`{path}` holds an empty image ({size_text(series.shape)}).")


def _decoded(series: tifffile.TiffPageSeries, path: Path) -> Array:
    with _naming_the_codec(series.keyframe, path):
        data = series.asarray()
    if data.size == 0 or data.ndim != len(series.axes):
        raise FileError(
            f"`{path}` is damaged: it says that it holds {size_text(series.shape)} samples, and gives "
            f"{size_text(data.shape)}."
        )
    return _as_numbers(data)


def _as_numbers(data: Any) -> Array:
    """Return decoded samples; of one bit, 0 and 255."""
    return np.where(data, np.uint8(255), np.uint8(0)) if data.dtype == np.bool_ else np.asarray(data)


@contextmanager
def _naming_the_codec(page: tifffile.TiffPage, path: Path) -> Iterator[None]:
    """Say what is missing where the samples of a page cannot be decoded for want of a package."""
    try:
        yield
    except Exception as error:  # which one depends on the codec, and on the version of tifffile
        if "imagecodecs" not in str(error) and not isinstance(error, ImportError):
            raise
        if "packints" in str(error):
            kind = f"stores samples of {page.bitspersample} bits"
        elif "predictor" in str(error).lower():
            kind = "stores differences of floating-point samples (predictor 3)"
        else:
            kind = f"is compressed with {compression_name(page)}"
        raise FileError(
            f"`{path}` {kind}, and what reads that is not installed: pip install imagecodecs"
        ) from error


class _Complaints(logging.Handler):
    """Collects what tifffile logs in this thread about pages that it cannot reach."""

    _LOST = re.compile("TiffPages|corrupted|reshape|does not match")

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.thread = threading.get_ident()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.thread == self.thread and self._LOST.search(text):
            self.texts.append(text)


@contextmanager
def _no_lost_pages(path: Path) -> Iterator[None]:
    """Refuse a file of which tifffile, with a line in its log, would return only the first pages."""
    logger, complaints = logging.getLogger("tifffile"), _Complaints()
    logger.addHandler(complaints)
    try:
        yield
    finally:
        logger.removeHandler(complaints)
    if complaints.texts:
        raise FileError(f"`{path}` is damaged or cut short: tifffile says {complaints.texts[0]}.")


def _only_series(file: tifffile.TiffFile, path: Path) -> tifffile.TiffPageSeries:
    if len(file.series) != 1:
        shapes = ", ".join(size_text(series.shape) for series in file.series)
        raise FileError(f"`{path}` holds {len(file.series)} images ({shapes}); expected one. Split it first.")
    return file.series[0]


def _check_complete(series: tifffile.TiffPageSeries, path: Path, *, whole: bool = True) -> int:
    """Refuse a file that ends before its last page does: tifffile would fill the rest with zeros.

    Returns
    -------
    int
        How many planes the file says that it does not have.
    """
    held, page = path.stat().st_size, series.keyframe
    extents = [(page.dataoffsets, page.databytecounts) for page in series.pages if page is not None]
    # Of a sparse file, some parts are said to be empty.
    sparse = len(extents) < len(series.pages) or any(0 in counts for _, counts in extents)
    ratio = {NO_COMPRESSION: 1, **dict.fromkeys(DEFLATE, DEFLATE_LIMIT)}.get(page.compression)
    least = None if sparse else ratio
    check_promise(path, series.shape, series.dtype, least, page.bitspersample, whole)
    parts = [(start, start + count) for pair in extents for start, count in zip(*pair, strict=True) if count]
    if any(start < _HEADER for start, _ in parts):  # tifffile would read from wherever it is
        raise FileError(f"`{path}` is damaged: its samples would begin within its first {_HEADER} bytes.")
    ends = [end for _, end in parts]
    if ends and max(ends) > held:
        raise FileError(f"`{path}` is cut short: its pages end at byte {max(ends)}, the file at {held}.")
    return len(series.pages) - len(extents)


def _colour(series: tifffile.TiffPageSeries) -> str:
    import tifffile

    page = series.keyframe
    if "S" not in series.axes:
        return "L"
    basic = {"RGB": "RGB", "YCBCR": "YCbCr", "SEPARATED": "CMYK", "MINISBLACK": "L", "MINISWHITE": "L"}
    colour = basic.get(_member_name(tifffile.PHOTOMETRIC, photometric(page)), "")
    extras = [_member_name(tifffile.EXTRASAMPLE, sample) for sample in page.extrasamples]
    if not colour or (colour == "L" and not extras):
        return f"{page.samplesperpixel}-band"
    return colour + {"": "", "UNASSALPHA": "A", "ASSOCALPHA": "a"}.get("".join(extras), f"+{len(extras)}")


def _member_name(members: Any, value: int) -> str:
    try:
        return str(members(value).name)
    except ValueError:
        return "UNKNOWN"
