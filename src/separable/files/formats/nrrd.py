"""NRRD volumes, .nrrd and .nhdr: spacing, directions, origin and other fields are carried over."""

from __future__ import annotations

import gzip
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from ..._base.extras import extra
from ..._base.types import Array
from ..guard import FileError, reading
from ..image import Image, arranged, check_dtype, check_samples, with_z, without_samples
from ..orientation import affine_of, axes_placed, lps_of
from ..target import replacing
from .raw import Packing, RawSamples, data_file, header_text, numbers_text

SUFFIXES = (".nrrd", ".nhdr")
KIND = "NRRD"

_HEADER_ONLY: Final = ".nhdr"
_AXES: Final = "SXYZTC"  # the order in which axes are written, the fastest first
_END: Final = rb"\r?\n\r?\n"
_GZIP_LEVEL: Final = 1  # as of NIfTI: a scanner's noise hardly compresses at any level
_PACKINGS: Final[dict[str, Packing]] = {
    "raw": "", "gzip": "gzip", "gz": "gzip", "bzip2": "bzip2", "bz2": "bzip2",
    "text": "text", "txt": "text", "ascii": "text",
}  # fmt: skip
_TYPES: Final = {
    **dict.fromkeys(("signed char", "int8", "int8_t"), "i1"),
    **dict.fromkeys(("uchar", "unsigned char", "uint8", "uint8_t"), "u1"),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int", "int16", "int16_t"), "i2"),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"), "u2"),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t"), "i4"),
    **dict.fromkeys(("uint", "unsigned int", "uint32", "uint32_t"), "u4"),
    **dict.fromkeys(("longlong", "long long", "long long int", "signed long long"), "i8"),
    **dict.fromkeys(("signed long long int", "int64", "int64_t"), "i8"),
    **dict.fromkeys(("ulonglong", "unsigned long long", "unsigned long long int"), "u8"),
    **dict.fromkeys(("uint64", "uint64_t"), "u8"),
    "float": "f4",
    "double": "f8",
}
_NAMES: Final = {"float32": "float", "float64": "double"} | {
    name: name for size in (8, 16, 32, 64) for name in (f"int{size}", f"uint{size}")
}
_MOST_AXES: Final = 16

# Signs with which axes of the world go towards right, front and top.
_SPACES: Final = {
    "right-anterior-superior": (1, 1, 1), "ras": (1, 1, 1),
    "left-anterior-superior": (-1, 1, 1), "las": (-1, 1, 1),
    "left-posterior-superior": (-1, -1, 1), "lps": (-1, -1, 1),
}  # fmt: skip
_MILLIMETRES: Final = {
    "mm": 1.0, "um": 1e-3, "µm": 1e-3, "micron": 1e-3, "microns": 1e-3, "nm": 1e-6, "cm": 10.0, "m": 1e3
}  # fmt: skip
_COLOURS: Final = {"RGB-color": "RGB", "RGBA-color": "RGBA"}
_KINDS: Final = {"S": "RGB-color", "T": "time", "C": "list"}

# Fields that are made anew: how samples lie in the file, and what no longer holds.
_BUILT: Final = {
    *("type", "dimension", "sizes", "encoding", "endian", "data file", "datafile", "line skip", "lineskip"),
    *("byte skip", "byteskip", "block size", "blocksize", "min", "max", "old min", "oldmin", "old max"),
    *("oldmax", "number"),
}


@dataclass(frozen=True)
class _Carried:
    lines: tuple[str, ...]
    packing: Packing


def read(path: Path) -> Image:
    """Return a NRRD volume in its stored order, the first axis the fastest."""
    header, samples = describe(path, whole=True)
    with reading(path, KIND):
        return replace(header, data=samples.read())


def describe(path: Path, *, whole: bool = False) -> tuple[Image, RawSamples]:
    """Return what a NRRD file says of a volume, without its samples, and where these lie.

    Raises
    ------
    FileError
        It is damaged, or what it holds is not read; with `whole` also where it does not fit into memory.
    """
    with extra("files"):
        import nrrd
    with reading(path, KIND):
        text, end = header_text(path, _END)
        fields: dict[str, Any] = nrrd.read_header(text.splitlines(keepends=True))
        samples = _samples(path, fields, end)
        samples.check(whole=whole)
        return _header(fields, text, samples), samples


def _samples(path: Path, fields: dict[str, Any], end: int) -> RawSamples:
    for name in ("type", "dimension", "sizes", "encoding"):
        if name not in fields:
            raise FileError(f"`{path}` is damaged: its header has no field `{name}`.")
    sizes = tuple(int(n) for n in fields["sizes"])
    if len(sizes) != fields["dimension"] or not 0 < len(sizes) <= _MOST_AXES:
        raise FileError(f"`{path}` is damaged: it has {fields['dimension']} axes, and sizes {sizes}.")
    name, encoding = str(fields["type"]), str(fields["encoding"]).lower()
    if name not in _TYPES:
        raise FileError(f"`{path}` holds samples of type {name!r}, which are no numbers.")
    if encoding not in _PACKINGS:
        raise FileError(f"`{path}` has encoding {encoding!r}; expected one of {', '.join(_PACKINGS)}.")
    kind, packing = _TYPES[name], _PACKINGS[encoding]
    order = fields.get("endian", sys.byteorder if kind[1] == "1" or packing == "text" else None)
    if order not in ("little", "big"):
        raise FileError(f"`{path}` is damaged: its field `endian` is {order!r}; expected little or big.")
    stored = np.dtype(("<" if order == "little" else ">") + kind)
    apart = fields.get("data file", fields.get("datafile"))
    holder = path if apart is None else data_file(path, str(apart))
    skip = fields.get("byte skip", fields.get("byteskip", 0))
    if fields.get("line skip", fields.get("lineskip", 0)) or (skip and packing):
        raise FileError(
            f"`{path}` skips lines, or bytes that are compressed, before its samples; rewrite it."
        )
    offset = end if apart is None else 0
    if skip == -1:
        offset = holder.stat().st_size - math.prod(sizes) * stored.itemsize
    elif skip:
        offset += skip
    return RawSamples(holder, offset, stored, sizes, packing)


def _header(fields: dict[str, Any], text: bytes, samples: RawSamples) -> Image:
    """Return what a header says beside the samples."""
    ndim = len(samples.shape)
    directions = _rows(fields.get("space directions"), ndim)
    kinds = [str(kind) for kind in fields.get("kinds", ())]
    kinds = kinds if len(kinds) == ndim else [""] * ndim
    letters = _letters(kinds, [bool(np.isfinite(row).all()) for row in directions] if directions else None)
    colour = ""
    if "S" in letters:
        colour = _COLOURS[kinds[letters.index("S")]]
        if samples.shape[letters.index("S")] != len(colour):
            letters, colour = letters.replace("S", "C"), ""
    spacing, affine = _spacing(fields, ndim), None
    if directions:
        unit = _unit((fields.get("space units") or ["mm"])[0])
        steps = [float(np.sqrt(np.sum(np.square(row)))) * unit for row in directions]
        spacing = tuple(step if 0 < step < math.inf else None for step in steps)
        affine = _affine(fields, directions, letters, unit)
    lines = _kept(text)
    carried = _Carried(lines, samples.packing)
    return without_samples(
        samples.shape, samples.dtype, letters, spacing, colour=colour, carried=carried, affine=affine
    )


def _rows(value: Any, ndim: int) -> list[Array] | None:
    """Return a vector for each axis, NaN for none; None where there are none."""
    if value is None or len(value) != ndim:
        return None
    rows = [np.asarray([math.nan] if row is None else row, float).ravel() for row in value]
    return rows if any(np.isfinite(row).all() for row in rows) else None


def _letters(kinds: Sequence[str], spatial: list[bool] | None) -> str:
    if spatial is None:
        domain = [kind in ("domain", "space") for kind in kinds]
        spatial = domain if any(domain) else [kind in ("", "???", "none") for kind in kinds]
    left, letters = list("XYZ"), ""
    for kind, is_space in zip(kinds, spatial, strict=True):
        if is_space and left:
            letters += left.pop(0)
        elif kind in _COLOURS and "S" not in letters:
            letters += "S"
        else:
            letters += "T" if kind == "time" and "T" not in letters else "C"
    return letters


def _spacing(fields: dict[str, Any], ndim: int) -> tuple[float | None, ...]:
    steps, units = fields.get("spacings", ()), fields.get("units", ())
    if len(steps) != ndim:
        return (None,) * ndim
    units = units if len(units) == ndim else ["mm"] * ndim
    lengths = [float(step) * _unit(unit) for step, unit in zip(steps, units, strict=True)]
    return tuple(length if 0 < length < math.inf else None for length in lengths)


def _unit(name: str) -> float:
    return _MILLIMETRES.get(str(name).strip('" '), 1.0)


def _affine(fields: dict[str, Any], directions: list[Array], letters: str, unit: float) -> Array | None:
    signs = _SPACES.get(str(fields.get("space", "")).lower().removesuffix("-time"))
    origin = np.asarray(fields.get("space origin", (0.0, 0.0, 0.0)), float)
    columns = [directions[letters.index(letter)] for letter in "XYZ" if letter in letters]
    if signs is None or len(columns) != 3 or any(len(column) != 3 for column in (*columns, origin)):
        return None
    return affine_of(origin * unit, np.array(columns).T * unit, np.diag(signs).astype(float))


def _kept(text: bytes) -> tuple[str, ...]:
    """Return the lines of a header that are written again."""
    lines = [line.strip() for line in text.decode("ascii", "ignore").splitlines()[1:]]
    return tuple(
        line
        for line in lines
        if line and line[0] != "#" and (":=" in line or line.split(":")[0].strip() not in _BUILT)
    )


def check(image: Image, dtype: np.dtype[Any], path: Path) -> tuple[str, ...]:
    """Refuse what a NRRD file cannot hold.

    Raises
    ------
    FileError
        It is a header alone; the axes or the dtype are none of NRRD's.
    """
    if path.suffix.lower() == _HEADER_ONLY:
        raise FileError(f"`{path}`: header and samples are written as one file; write .nrrd.")
    check_samples(image, "NRRD file", path)
    _volume(image, path)
    check_dtype(dtype.name in _NAMES, dtype, "NRRD", path)
    return ()


def write(path: Path, image: Image) -> None:
    """Write a volume; from a NRRD file, with its fields, and compressed if it was."""
    packed = is_packed(image)
    begin, stored = head(image, image.data.dtype, path, packed=packed)
    samples = np.asfortranarray(_volume(image, path).data.astype(stored, copy=False)).ravel(order="K")
    with replacing(path) as draft, draft.open("wb") as file:
        file.write(begin)
        if packed:
            with gzip.GzipFile("", "wb", _GZIP_LEVEL, file, mtime=0) as stream:
                stream.write(samples.view(np.uint8).data)
        else:
            file.write(samples.view(np.uint8).data)


def head(
    image: Image, dtype: np.dtype[Any], path: Path, *, packed: bool = False
) -> tuple[bytes, np.dtype[Any]]:
    """Return all that `write` puts before the samples of a volume, and the dtype in which these follow.

    Raises
    ------
    FileError
        As `check`.
    """
    check(image, dtype, path)
    volume, stored = _volume(image, path), dtype.newbyteorder("<")
    lines = [
        "NRRD0005",
        f"type: {_NAMES[dtype.name]}",
        f"dimension: {volume.data.ndim}",
        f"sizes: {' '.join(map(str, volume.data.shape))}",
        f"encoding: {'gzip' if packed else 'raw'}",
        *(["endian: little"] if dtype.itemsize > 1 else []),
        *(image.carried.lines if isinstance(image.carried, _Carried) else _said(volume)),
    ]
    return ("\n".join(lines) + "\n\n").encode("ascii", "ignore"), stored


def is_packed(image: Image) -> bool:
    """Return whether an image comes from a NRRD file of compressed samples."""
    return isinstance(image.carried, _Carried) and image.carried.packing not in ("", "text")


def disk_order(image: Image, path: Path) -> tuple[int, ...]:
    """Return the axes of an image from the fastest to the slowest in a NRRD file."""
    if isinstance(image.carried, _Carried) or set(image.axes) == {"Q"}:
        return tuple(range(image.data.ndim))
    volume = _volume(image, path)
    return tuple(with_z(image).axes.index(letter) for letter in volume.axes)


def _said(volume: Image) -> list[str]:
    """Return the fields that say where a volume of another format lies."""
    affine, letters = axes_placed(volume), volume.axes
    kinds = " ".join(_KINDS.get(letter, "domain") for letter in letters)
    if volume.colour == "RGBA":
        kinds = kinds.replace("RGB-color", "RGBA-color")
    if affine is None:
        steps = [step or math.nan for step in volume.spacing]
        if not any(volume.spacing):
            return [f"kinds: {kinds}"]
        units = " ".join('"mm"' if step else '""' for step in volume.spacing)
        return [f"kinds: {kinds}", f"spacings: {' '.join(map(repr, steps))}", f"units: {units}"]
    origin, columns = lps_of(affine)
    vectors = [
        f"({numbers_text(columns[:, 'XYZ'.index(letter)]).replace(' ', ',')})" if letter in "XYZ" else "none"
        for letter in letters
    ]
    return [
        "space: left-posterior-superior",
        f"space directions: {' '.join(vectors)}",
        f"space origin: ({numbers_text(origin).replace(' ', ',')})",
        f"kinds: {kinds}",
    ]


def _volume(image: Image, path: Path) -> Image:
    if isinstance(image.carried, _Carried):
        return image
    if set(image.axes) == {"Q"} and image.data.ndim <= 3:
        return replace(image, axes="XYZ"[: image.data.ndim])
    return arranged(with_z(image), _AXES, f"`{path}`: a NRRD file holds volumes of space, time and channels")
