"""The metadata of a TIFF: voxel size, no-data value, and all that is written again."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from xml.etree import ElementTree as ET

import numpy as np

if TYPE_CHECKING:
    import tifffile

NO_COMPRESSION: Final = 1
DEFLATE: Final = (8, 32946)  # two codes of one algorithm: the registered and an older one
_JPEG: Final = (6, 7, 33007, 34892)  # whose decoders turn YCbCr into RGB
_YCBCR, _MINISBLACK, _RGB = 6, 1, 2
_COLOUR_PROFILE: Final = 34675
GDAL_NODATA: Final = 42113
_MICROMETRES = {"nm": 1e-3, "um": 1.0, "µm": 1.0, "μm": 1.0, "\\u00B5m": 1.0, "micron": 1.0, "microns": 1.0,
                "mm": 1e3, "cm": 1e4, "m": 1e6, "inch": 25400.0}  # fmt: skip
_TAG_UNITS: Final = {2: 25.4, 3: 10.0}  # millimetres, of inch and centimetre; no other unit is a length
_SCREEN: Final = 72  # pixels an inch that programs write who know nothing; ImageJ takes them as no size, too
_ON_THE_GROUND: Final = (33550, 34264)  # tags of GeoTIFF: resolution is that of a print of the map

# Tags that can be copied: names, date, orientation, people and rights, XMP, IPTC, Photoshop's and
# Micro-Manager's; those that place a picture on the earth (GeoTIFF 1.1, annex), and GDAL's metadata.
_COPIED: Final = (
    *(269, 271, 272, 274, 285, 306, 315, 316, 33432, 700, 33723, 34377, 51123),
    *(33550, 33922, 34264, 34735, 34736, 34737, 42112),
)
# Tags of how the samples lie in the file, of what is carried in another way (description, resolution, colour
# profile, ImageJ's), or of what no longer holds (smallest and largest sample, the software that wrote it).
_BUILT: Final = {
    *range(254, 260), *range(262, 267), *(270, 273, *range(277, 285), 288, 289, 296, 297, 301, 305, 317),
    *(320, *range(322, 326), 330, *range(338, 342), 347, *range(512, 522), *range(529, 533)),
    *(32995, 32996, 32997, 32998, 34675, 50838, 50839, GDAL_NODATA),
}  # fmt: skip
# Entries of ImageJ's description that tifffile writes itself.
_COUNTED: Final = {
    "ImageJ",
    "SCIFIO",
    "images",
    "channels",
    "slices",
    "frames",
    "hyperstack",
    "axes",
    "shape",
}
_OME_TYPES: Final = {name: name for name in ("int8", "int16", "int32", "uint8", "uint16", "uint32")} | {
    "float32": "float",
    "float64": "double",
    "complex64": "complex",
    "complex128": "double-complex",
}
# Lengths of tiles that are kept: smaller ones are slow, larger ones mostly padding.
_TILES: Final = range(64, 1025)


@dataclass(frozen=True)
class Carried:
    """The properties with which a TIFF is written again.

    Attributes
    ----------
    flavour : {"imagej", "ome", ""}
        Whose metadata the file has; "" for a TIFF that has only tags.
    samples : dict
        How tifffile is to store the samples.
    optional : dict
        What else it may be given: the name of its argument -> value.
    tags : tuple
        Further tags, as tifffile takes them.
    metadata : dict
        ImageJ's, or those of tifffile itself.
    xml : str
        OME's.
    frame_interval : float or None
        Seconds.
    nodata : str
        GDAL's value for what is no data, as it is written.
    losses : tuple of str
        What a TIFF written from this one will not hold.
    """

    flavour: str
    samples: dict[str, Any]
    optional: dict[str, Any] = field(default_factory=dict)
    tags: tuple[tuple[Any, ...], ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)
    xml: str = ""
    frame_interval: float | None = None
    nodata: str = ""
    losses: tuple[str, ...] = ()


def carried(file: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> Carried:
    """Return the metadata of a TIFF, in the form in which it is written again."""
    losses: list[str] = []
    optional: dict[str, Any] = {}
    page = series.keyframe
    samples: dict[str, Any] = {"photometric": _known_photometric(page, losses)}
    if page.compression != NO_COMPRESSION:
        samples["compression"] = "zlib"  # the one lossless compression that tifffile writes by itself
        if page.compression not in DEFLATE:
            losses.append(f"its {compression_name(page)} compression becomes Deflate, which is lossless.")
    if "S" in series.axes:
        samples |= {"planarconfig": page.planarconfig, "extrasamples": page.extrasamples or None}
    tile = page.tile or ()
    if len(tile) == 2 and all(side in _TILES and side % 16 == 0 for side in tile):
        optional["tile"] = tile
    optional |= _resolution(page, losses)
    profile = page.tags.get(_COLOUR_PROFILE)
    if profile is not None:
        optional["iccprofile"] = profile.value
    if page.bitspersample not in (1, 8, 16, 32, 64, 128):
        losses.append(f"its samples of {page.bitspersample} bits become {series.dtype.itemsize * 8} bits.")
    smaller = max(len(series.levels) - 1, len(page.subifds or ()))
    if smaller:
        what = "smaller image is" if smaller == 1 else f"{smaller} smaller images are"
        losses.append(f"its {what} not kept.")
    tags = tuple(_tags(page, losses))
    nodata = nodata_text(page)
    if file.is_imagej:
        known = file.imagej_metadata or {}
        metadata = {key: _escaped(value) for key, value in known.items() if key not in _COUNTED}
        interval = _frame_interval(known)
        return Carried("imagej", samples, optional, tags, metadata, "", interval, nodata, tuple(losses))
    if file.is_ome:
        xml = file.ome_metadata or ""
        return Carried("ome", samples, optional, tags, {}, xml, None, nodata, tuple(losses))
    metadata = {}
    if file.is_shaped:
        known = (file.shaped_metadata or ({},))[0]
        metadata = {key: value for key, value in known.items() if key not in ("axes", "shape", "truncated")}
    elif page.description:
        optional["description"] = page.description.encode("utf-8", "surrogateescape")
    return Carried("", samples, optional, tags, metadata, nodata=nodata, losses=tuple(losses))


def compression_name(page: tifffile.TiffPage) -> str:
    """Return the name of a page's compression, or its number."""
    import tifffile

    try:
        return tifffile.COMPRESSION(page.compression).name
    except ValueError:
        return str(page.compression)


def photometric(page: tifffile.TiffPage) -> int:
    """Return how the decoded samples of a page are to be understood."""
    if page.photometric == _YCBCR and page.compression in _JPEG:
        return _RGB  # the decoder has converted it
    return int(page.photometric)


def _known_photometric(page: tifffile.TiffPage, losses: list[str]) -> int:
    import tifffile

    code = photometric(page)
    if code in set(tifffile.PHOTOMETRIC):
        return code
    losses.append(f"its photometric interpretation {code} is unknown and becomes grey, with black at 0.")
    return _MINISBLACK


def _resolution(page: tifffile.TiffPage, losses: list[str]) -> dict[str, Any]:
    import tifffile

    if "XResolution" not in page.tags or "YResolution" not in page.tags:
        return {}
    values = [page.tags[name].value for name in ("XResolution", "YResolution")]
    if not all(map(_is_ratio, values)):
        x, y = (" / ".join(map(str, value)) if isinstance(value, tuple) else value for value in values)
        losses.append(f"its resolution of {x} by {y} is no number and not kept.")
        return {}
    try:
        unit = tifffile.RESUNIT(page.resolutionunit)
    except ValueError:
        losses.append(f"its unit of resolution {page.resolutionunit} is unknown and not kept.")
        unit = tifffile.RESUNIT.NONE
    return {"resolution": tuple(values), "resolutionunit": unit}


def _is_ratio(value: Any) -> bool:
    rational = isinstance(value, tuple) and len(value) == 2 and all(isinstance(part, int) for part in value)
    return rational and value[0] >= 0 and value[1] > 0


def _tags(page: tifffile.TiffPage, losses: list[str]) -> Iterator[tuple[Any, ...]]:
    lost = []
    for tag in page.tags:
        if tag.code in _COPIED:
            value = tag.value.encode() if isinstance(tag.value, str) else tag.value
            yield tag.code, int(tag.dtype), tag.count, value, True
        elif tag.code not in _BUILT:
            name = tag.name
            lost.append(str(tag.code) if name == str(tag.code) else f"{name} ({tag.code})")
    if lost:
        shown = ", ".join(lost[:5]) + f" and {len(lost) - 5} more" * (len(lost) > 5)
        losses.append(f"its tag{'s' * (len(lost) > 1)} {shown} {'are' if len(lost) > 1 else 'is'} not kept.")


def nodata_text(page: tifffile.TiffPage) -> str:
    """Return the text of GDAL's no-data tag; empty where there is none."""
    tag = page.tags.get(GDAL_NODATA)
    return str(tag.value).strip("\0 ") if tag is not None else ""


def nodata_value(text: str) -> float | None:
    """Return the number in GDAL's no-data tag; None where there is none."""
    try:
        return float(text)
    except ValueError:
        return None


def _escaped(value: Any) -> Any:
    """Return a line of ImageJ's description, which is ASCII: ImageJ writes other characters as Java does."""
    if not isinstance(value, str) or value.isascii() or "\n" in value:
        return value
    units = np.frombuffer(value.encode("utf-16-le", "surrogatepass"), "<u2")
    return "".join(chr(unit) if unit < 128 else f"\\u{unit:04X}" for unit in units)


def _frame_interval(metadata: dict[str, Any]) -> float | None:
    interval, rate = number(metadata.get("finterval")), number(metadata.get("fps"))
    return interval or (1.0 / rate if rate else None)


# -- voxel sizes -------------------------------------------------------------------------------------


def spacing(file: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> tuple[float | None, ...]:
    """Return millimetres per axis, from ImageJ's or OME's metadata, or from the tags of a plain TIFF."""
    steps: dict[str, float] = {}
    if file.is_imagej and file.imagej_metadata:
        steps = _imagej_steps(file.imagej_metadata, series.keyframe)
    elif file.is_ome and file.ome_metadata:
        steps = _ome_steps(file.ome_metadata)
    else:
        steps = _tagged_steps(series.keyframe)
    return tuple(steps[letter] if steps.get(letter, 0.0) > 0.0 else None for letter in series.axes)


def number(value: Any) -> float:
    """Return a number from a file; 0 where it is not a finite number."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return 0.0
    return number if math.isfinite(number) else 0.0


def _imagej_steps(metadata: dict[str, Any], page: tifffile.TiffPage) -> dict[str, float]:
    if "unit" not in metadata:
        return _tagged_steps(page)
    unit = _MICROMETRES.get(str(metadata["unit"]))
    if unit is None:
        return {}
    ratios = {letter: step * unit / 1e3 for letter, step in _ratios(page).items()}
    return {"Z": number(metadata.get("spacing")) * unit / 1e3, **ratios}


def _ratios(page: tifffile.TiffPage) -> dict[str, float]:
    """Return the width and the height of a pixel in the unit of the resolution, where it is a number."""
    steps = {}
    for letter, name in (("X", "XResolution"), ("Y", "YResolution")):
        ratio: Any = page.tags[name].value if name in page.tags else None
        if _is_ratio(ratio) and ratio[0]:
            steps[letter] = ratio[1] / ratio[0]
    return steps


def _tagged_steps(page: tifffile.TiffPage) -> dict[str, float]:
    """Return what tags say in inch or centimetre; 1 and 72 an inch are what programs write for nothing."""
    unit = page.tags.get("ResolutionUnit")
    per, steps = _TAG_UNITS.get(unit.value if unit is not None else 0), _ratios(page)
    says_nothing = set(steps.values()) <= ({1.0, 1 / _SCREEN} if per == _TAG_UNITS[2] else {1.0})
    if per is None or says_nothing or any(tag in page.tags for tag in _ON_THE_GROUND):
        return {}
    return {letter: step * per for letter, step in steps.items()}


def _ome_steps(xml: str) -> dict[str, float]:
    steps: dict[str, float] = {}
    for element in ET.fromstring(xml).iter():
        if _local(element) == "Pixels":
            for letter in "XYZ":
                unit = _MICROMETRES.get(element.get(f"PhysicalSize{letter}Unit", "µm"), 0.0)
                steps[letter] = number(element.get(f"PhysicalSize{letter}")) * unit / 1e3
            break
    return steps


# -- OME ---------------------------------------------------------------------------------------------


def ome_type(dtype: np.dtype[Any]) -> str | None:
    """Return OME's name of a dtype; None where it has none."""
    return _OME_TYPES.get(dtype.name)


def ome_sizes(axes: str, steps: Sequence[float | None], interval: float | None) -> dict[str, Any]:
    """Return voxel size in micrometres and frame interval in seconds as tifffile writes them for OME."""
    known = {letter: step for letter, step in zip(axes, steps, strict=True) if step and letter in "XYZ"}
    sizes: dict[str, Any] = {f"PhysicalSize{letter}": step * 1e3 for letter, step in known.items()}
    return sizes | ({"TimeIncrement": interval, "TimeIncrementUnit": "s"} if interval else {})


def rewritten_ome(xml: str, axes: str, dtype: np.dtype[Any], pages: int) -> str | None:
    """Return OME's metadata for a file of the same image in other samples; None where there can be none.

    All of it stays (channels, times, positions, instrument, annotations) but for how the planes lie in
    the file, and the file's own UUID.

    Parameters
    ----------
    xml : str
    axes : str
        Of the image as it is written.
    dtype : dtype
        Of its samples.
    pages : int
        How many planes are written.
    """
    root = ET.fromstring(xml)
    images = [element for element in root.iter() if _local(element) == "Image"]
    pixels = [element for element in root.iter() if _local(element) == "Pixels"]
    kind = ome_type(dtype)
    if len(images) != 1 or len(pixels) != 1 or kind is None or not set(axes) <= set("TZCYXS"):
        return None
    (pixels_element,) = pixels
    if pixels_element.get("Type") != kind:
        pixels_element.attrib.pop("SignificantBits", None)
    order = "XY" + "".join(letter for letter in reversed(axes) if letter in "CZT")
    order += "".join(letter for letter in "CZT" if letter not in order)
    said = {"Type": kind, "DimensionOrder": order, "BigEndian": str(sys.byteorder == "big").lower()}
    said["Interleaved"] = str(axes.endswith("S")).lower()
    for key, value in said.items():
        if key in pixels_element.attrib or key in ("Type", "DimensionOrder"):
            pixels_element.set(key, value)
    for element in [
        child for child in pixels_element if _local(child) in ("TiffData", "BinData", "MetadataOnly")
    ]:
        pixels_element.remove(element)
    space = pixels_element.tag[: -len("Pixels")]
    data = ET.Element(f"{space}TiffData", {"IFD": "0", "PlaneCount": str(pages)})
    pixels_element.insert(sum(_local(child) == "Channel" for child in pixels_element), data)
    root.attrib.pop("UUID", None)
    text = ET.tostring(root, encoding="unicode")
    # The root's namespace comes first, and a default namespace is what some readers want.
    text = text.replace("<ns0:", "<").replace("</ns0:", "</").replace(" xmlns:ns0=", " xmlns=", 1)
    return '<?xml version="1.0" encoding="UTF-8"?>' + text


def _local(element: ET.Element) -> str:
    return str(element.tag).rpartition("}")[2]
