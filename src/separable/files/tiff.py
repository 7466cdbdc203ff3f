"""TIFF: pictures, stacks of pages, ImageJ and OME volumes, GeoTIFF."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import numpy as np

from separable._extras import extra

from .guard import FileError, check_promise, reading
from .image import Image, arranged, size_text
from .target import replacing

if TYPE_CHECKING:
    import tifffile

SUFFIXES = (".tif", ".tiff")

_AXES = "TZCYXS"  # the order ImageJ wants
_MICROMETRES = {"nm": 1e-3, "um": 1.0, "µm": 1.0, "μm": 1.0, "\\u00B5m": 1.0, "micron": 1.0, "microns": 1.0,
                "mm": 1e3, "cm": 1e4, "m": 1e6}  # fmt: skip
_IMAGEJ_DTYPES = ("uint8", "uint16", "float32")
# Tags that place a picture on the earth (GeoTIFF 1.1, annex) and GDAL's metadata and no-data value.
_GEO_TAGS = (33550, 33922, 34264, 34735, 34736, 34737, 42112, 42113)
_NO_COMPRESSION = 1


@dataclass(frozen=True)
class _Carried:
    flavour: str  # "imagej", "ome", or "" for what has only tags
    options: dict[str, Any]
    metadata: dict[str, Any] = field(default_factory=dict)


def read(path: Path) -> Image:
    """Return the one image series of a TIFF; a stack of equal pages is a volume."""
    with extra("files"):
        import tifffile

    with reading(path, "TIFF"), _no_lost_pages(path), tifffile.TiffFile(path) as file:
        series = _only_series(file, path)
        page = series.keyframe
        if page.photometric == tifffile.PHOTOMETRIC.PALETTE:
            raise FileError(f"`{path}` stores palette indices, which cannot be averaged; convert it to RGB.")
        _check_complete(series, path)
        try:
            data = series.asarray()
        except (KeyError, ValueError) as error:  # which of them depends on the version of tifffile
            if "imagecodecs" in str(error):
                raise FileError(
                    f"`{path}` cannot be read: {error.args[0]}: pip install imagecodecs"
                ) from error
            raise
        axes, spacing = series.axes, _spacing(file, series)
        colour, carried = _colour(series), _carried(file, series)
    if data.dtype == np.bool_:
        data = np.where(data, np.uint8(255), np.uint8(0))
    return Image(data, axes, spacing, colour, carried)


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


def _check_complete(series: tifffile.TiffPageSeries, path: Path) -> None:
    """Refuse a file that ends before its last page does: tifffile would fill the rest with zeros."""
    held = path.stat().st_size
    plain = series.keyframe.compression == _NO_COMPRESSION
    check_promise(path, series.shape, series.dtype, ratio=1 if plain else None)
    extents = ((page.dataoffsets, page.databytecounts) for page in series.pages if page is not None)
    ends = [start + count for pair in extents for start, count in zip(*pair, strict=True)]
    if ends and max(ends) > held:
        raise FileError(f"`{path}` is cut short: its pages end at byte {max(ends)}, the file at {held}.")


def _colour(series: tifffile.TiffPageSeries) -> str:
    import tifffile

    page = series.keyframe
    if "S" not in series.axes:
        return "L"
    basic = {"RGB": "RGB", "YCBCR": "RGB", "SEPARATED": "CMYK", "MINISBLACK": "L", "MINISWHITE": "L"}
    colour = basic.get(tifffile.PHOTOMETRIC(page.photometric).name, "")
    extras = [tifffile.EXTRASAMPLE(sample).name for sample in page.extrasamples]
    if not colour or (colour == "L" and not extras):
        return f"{page.samplesperpixel}-band"
    return colour + {"": "", "UNASSALPHA": "A", "ASSOCALPHA": "a"}.get("".join(extras), f"+{len(extras)}")


def _spacing(file: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> tuple[float | None, ...]:
    """Return millimetres per axis, from ImageJ's or OME's metadata; a print resolution says nothing."""
    steps: dict[str, float] = {}
    if file.is_imagej and file.imagej_metadata:
        steps = _imagej_steps(file.imagej_metadata, series.keyframe)
    elif file.is_ome and file.ome_metadata:
        steps = _ome_steps(file.ome_metadata)
    return tuple(steps[letter] if steps.get(letter, 0.0) > 0.0 else None for letter in series.axes)


def _imagej_steps(metadata: dict[str, Any], page: tifffile.TiffPage) -> dict[str, float]:
    unit = _MICROMETRES.get(str(metadata.get("unit", "")))
    if unit is None:
        return {}
    steps = {"Z": float(metadata.get("spacing", 0.0)) * unit / 1e3}
    for letter, tag in (("X", "XResolution"), ("Y", "YResolution")):
        per_step, count = page.tags[tag].value if tag in page.tags else (0, 1)
        steps[letter] = count / per_step * unit / 1e3 if per_step else 0.0
    return steps


def _ome_steps(xml: str) -> dict[str, float]:
    steps = {}
    for element in ET.fromstring(xml).iter():
        if element.tag.endswith("}Pixels"):
            for letter in "XYZ":
                unit = _MICROMETRES.get(element.get(f"PhysicalSize{letter}Unit", "µm"), 0.0)
                steps[letter] = float(element.get(f"PhysicalSize{letter}", 0.0)) * unit / 1e3
            break
    return steps


def _carried(file: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> _Carried:
    page = series.keyframe
    options: dict[str, Any] = {"photometric": page.photometric}
    if page.compression != _NO_COMPRESSION:
        options["compression"] = "zlib"  # the one lossless compression that tifffile writes by itself
    if "S" in series.axes:
        options |= {"planarconfig": page.planarconfig, "extrasamples": page.extrasamples or None}
    if "XResolution" in page.tags and "YResolution" in page.tags:
        options["resolution"] = (page.tags["XResolution"].value, page.tags["YResolution"].value)
        options["resolutionunit"] = page.resolutionunit
    if page.iccprofile:
        options["iccprofile"] = page.iccprofile
    geo = [page.tags[code] for code in _GEO_TAGS if code in page.tags]
    options["extratags"] = [(tag.code, tag.dtype, tag.count, tag.value, True) for tag in geo]
    if file.is_imagej:
        known = file.imagej_metadata or {}
        kept = ("spacing", "unit", "finterval", "fps", "Info", "Labels", "Ranges", "LUTs", "mode", "loop")
        return _Carried("imagej", options, {key: known[key] for key in kept if key in known})
    if file.is_ome:
        return _Carried("ome", options, _ome_sizes(_spacing(file, series), series.axes))
    if not file.is_shaped and page.description:
        options["description"] = page.description
    return _Carried("", options)


def _ome_sizes(spacing: tuple[float | None, ...], axes: str) -> dict[str, Any]:
    known = {letter: step for letter, step in zip(axes, spacing, strict=True) if step}
    return {f"PhysicalSize{letter}": step * 1e3 for letter, step in known.items()}


def check(image: Image, dtype: np.dtype[Any], path: Path) -> None:
    """Refuse what a TIFF cannot hold.

    Raises
    ------
    FileError
        If the axes are not those of a picture or a stack.
    """
    _stack(image)


def write(path: Path, image: Image) -> None:
    """Write a picture or a stack; from a TIFF, with its resolution, profile, geo tags and voxel size."""
    with extra("files"):
        import tifffile

    stack = _stack(image)
    carried = stack.carried if isinstance(stack.carried, _Carried) else _Carried("", _plain(stack))
    flavour, options = carried.flavour, dict(carried.options)
    if "compression" in options and stack.data.dtype.kind in "iu" and stack.data.dtype.itemsize <= 4:
        options["predictor"] = True  # differences of neighbours; for floats that takes imagecodecs
    if flavour == "imagej" and stack.data.dtype.name not in _IMAGEJ_DTYPES:
        flavour = ""
    if "description" in options:
        options["metadata"] = None
    else:
        options["metadata"] = {"axes": stack.axes, **(carried.metadata if flavour else {})}
    with (
        replacing(path) as draft,
        draft.open("w+b") as stream,
        tifffile.TiffWriter(stream, imagej=flavour == "imagej", ome=flavour == "ome") as file,
    ):
        file.write(stack.data, **options)


def _plain(stack: Image) -> dict[str, Any]:
    if "S" not in stack.axes:
        return {"photometric": "minisblack"}
    extras = {"RGBA": ["unassalpha"], "LA": ["unassalpha"]}.get(stack.colour)
    base = {"C": "separated", "R": "rgb"}.get(stack.colour[:1], "minisblack")
    return {"photometric": base, "planarconfig": "contig", "extrasamples": extras}


def _stack(image: Image) -> Image:
    if isinstance(image.carried, _Carried):
        return image
    if set(image.axes) == {"Q"}:
        picture = image.data.ndim == 3 and image.data.shape[2] in (3, 4) and image.data.dtype.itemsize <= 2
        names = "YXS" if picture else {1: "X", 2: "YX", 3: "ZYX"}.get(image.data.ndim)
        if names is None:
            raise FileError(
                f"a TIFF holds pages, not {size_text(image.data.shape)} unnamed samples; write .npy."
            )
        colour = {3: "RGB", 4: "RGBA"}[image.data.shape[2]] if picture else "L"
        return replace(image, axes=names, colour=colour)
    return arranged(image, _AXES, "a TIFF holds pages of x, y, z, time and colour")
