"""MetaImage volumes, .mha and .mhd, as ITK writes them: spacing, directions and origin are carried over."""

from __future__ import annotations

import math
import re
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from ..._base.types import Array
from ..guard import FileError, reading
from ..image import Image, arranged, check_dtype, check_samples, with_z, without_samples
from ..orientation import affine_of, axes_placed, lengths_of, lps_of
from ..target import replacing
from .raw import Packing, RawSamples, data_file, header_text, numbers_text

SUFFIXES = (".mha", ".mhd")
KIND = "MetaImage"

_HEADER_ONLY: Final = ".mhd"
_AXES: Final = "SCXYZT"  # the order in which axes are written, the fastest first
_END: Final = rb"(?m)^[ \t]*ElementDataFile[ \t]*=[^\n]*(\n|\Z)"
_LINE: Final = re.compile(r"\s*(\w+)\s*=\s*(.*?)\s*")
_LOCAL: Final = "LOCAL"
_TYPES: Final = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4",
    "MET_UINT": "u4", "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8", "MET_FLOAT": "f4", "MET_DOUBLE": "f8",
}  # fmt: skip
_NAMES: Final = {np.dtype(kind).name: name for name, kind in _TYPES.items()}
_LONGS: Final = {"MET_LONG": "i", "MET_ULONG": "u"}  # of 4 bytes or of 8, as the machine had it
_LEVEL: Final = 1  # of compression, as of NIfTI
_MOST_AXES: Final = 10
_ORIGINS: Final = ("Offset", "Position", "Origin")
_MATRICES: Final = ("TransformMatrix", "Orientation", "Rotation")

# Entries that are made anew: how samples lie in the file, and what no longer holds.
_BUILT: Final = {
    *("ObjectType", "NDims", "DimSize", "BinaryData", "BinaryDataByteOrderMSB", "ElementByteOrderMSB"),
    *("CompressedData", "CompressedDataSize", "HeaderSize", "ElementNumberOfChannels", "ElementType"),
    *("ElementDataFile", "ElementMin", "ElementMax", "SequenceID"),
}


@dataclass(frozen=True)
class _Carried:
    lines: tuple[str, ...]
    packed: bool


def read(path: Path) -> Image:
    """Return a MetaImage volume in its stored order, the first axis the fastest."""
    header, samples = describe(path, whole=True)
    with reading(path, KIND):
        return replace(header, data=samples.read())


def describe(path: Path, *, whole: bool = False) -> tuple[Image, RawSamples]:
    """Return what a MetaImage file says of a volume, without its samples, and where these lie.

    Raises
    ------
    FileError
        It is damaged, or what it holds is not read; with `whole` also where it does not fit into memory.
    """
    with reading(path, KIND):
        text, end = header_text(path, _END)
        entries = _entries(path, text)
        samples = _samples(path, entries, end)
        samples.check(whole=whole)
        return _header(path, entries, samples), samples


def _entries(path: Path, text: bytes) -> dict[str, str]:
    entries: dict[str, str] = {}
    for line in text.decode("latin-1").splitlines():
        match = _LINE.fullmatch(line)
        if match is None:
            if line.strip():
                raise FileError(
                    f"`{path}` is not a readable {KIND} file: its line {line[:40]!r} has no entry."
                )
            continue
        if match[1] in entries:
            raise FileError(f"`{path}` is damaged: its header has `{match[1]}` twice.")
        entries[match[1]] = match[2]
    for name in ("NDims", "DimSize", "ElementType", "ElementDataFile"):
        if name not in entries:
            raise FileError(f"`{path}` is not a readable {KIND} file: its header has no `{name}`.")
    if entries.get("ObjectType", "Image") != "Image":
        raise FileError(f"`{path}` holds a {entries['ObjectType']}, not an image.")
    return entries


def _samples(path: Path, entries: dict[str, str], end: int) -> RawSamples:
    sizes = tuple(int(n) for n in entries["DimSize"].split())
    if len(sizes) != int(entries["NDims"]) or not 0 < len(sizes) <= _MOST_AXES or min(sizes) < 0:
        raise FileError(f"`{path}` is damaged: it has {entries['NDims']} axes, and sizes {sizes}.")
    channels = int(entries.get("ElementNumberOfChannels", "1"))
    if channels < 1:
        raise FileError(f"`{path}` is damaged: it has {channels} channels.")
    shape = sizes if channels == 1 else (channels, *sizes)
    if not _is_true(entries.get("BinaryData", "True")):
        raise FileError(f"`{path}` has its samples as text, which is not read; write it again as binary.")
    name = entries["ElementDataFile"]
    holder = path if name.upper() == _LOCAL else data_file(path, name)
    packing: Packing = "zlib" if _is_true(entries.get("CompressedData", "False")) else ""
    stored = _stored(path, entries, math.prod(shape), packing, holder)
    offset, skip = end if holder == path else 0, int(entries.get("HeaderSize", "0"))
    if skip == -1 and not packing:
        offset = holder.stat().st_size - math.prod(shape) * stored.itemsize
    elif skip > 0 and holder != path:
        offset = skip
    return RawSamples(holder, offset, stored, shape, packing)


def _stored(path: Path, entries: dict[str, str], count: int, packing: Packing, holder: Path) -> np.dtype[Any]:
    name = entries["ElementType"].removesuffix("_ARRAY")
    kind = _TYPES.get(name)
    if name in _LONGS:  # MetaIO counts 4; what ITK wrote on Linux for years has 8
        room = holder.stat().st_size
        if packing:
            raise FileError(f"`{path}` has compressed samples of {name}, of 4 bytes or of 8; rewrite it.")
        kind = f"{_LONGS[name]}{8 if room >= 8 * count else 4}"
    if kind is None:
        raise FileError(f"`{path}` holds samples of {name}, which are not read.")
    order = entries.get("BinaryDataByteOrderMSB", entries.get("ElementByteOrderMSB", "False"))
    return np.dtype((">" if _is_true(order) else "<") + kind)


def _is_true(word: str) -> bool:
    return word[:1].upper() in ("T", "1", "Y")


def _header(path: Path, entries: dict[str, str], samples: RawSamples) -> Image:
    ndim = int(entries["NDims"])
    channels = len(samples.shape) > ndim
    letters = "C" * channels + "XYZTUVWKLM"[:ndim]
    steps = _numbers(entries.get("ElementSpacing", entries.get("ElementSize", "")), ndim)
    known = () if steps is None else tuple(step if 0 < step < math.inf else None for step in steps)
    spacing = (None,) * channels + (known or (None,) * ndim)
    spacing = tuple(step if letter in "XYZ" else None for step, letter in zip(spacing, letters, strict=True))
    lines = tuple(f"{name} = {value}" for name, value in entries.items() if name not in _BUILT)
    carried = _Carried(lines, samples.packing != "")
    affine = _affine(entries, ndim, known)
    return without_samples(samples.shape, samples.dtype, letters, spacing, carried=carried, affine=affine)


def _affine(entries: dict[str, str], ndim: int, steps: tuple[float | None, ...]) -> Array | None:
    """Return the affine that ITK sees: rows of the matrix are the directions of the axes, in LPS."""
    origin = next((entries[name] for name in _ORIGINS if name in entries), None)
    matrix = next((entries[name] for name in _MATRICES if name in entries), None)
    place = None if origin is None else _numbers(origin, ndim)
    turned = None if matrix is None else _numbers(matrix, ndim * ndim)
    if ndim < 3 or place is None or turned is None or not steps or None in steps[:3]:
        return None
    rows = np.array(turned).reshape(ndim, ndim)[:3, :3]
    return affine_of(np.array(place[:3]), rows.T * np.array(steps[:3], float))


def _numbers(text: str, count: int) -> tuple[float, ...] | None:
    numbers = tuple(float(word) for word in text.split())
    return numbers if len(numbers) == count else None


def check(image: Image, dtype: np.dtype[Any], path: Path) -> tuple[str, ...]:
    """Refuse what a MetaImage file cannot hold.

    Raises
    ------
    FileError
        It is a header alone; the axes or the dtype are none of MetaImage's.
    """
    if path.suffix.lower() == _HEADER_ONLY:
        raise FileError(f"`{path}`: header and samples are written as one file; write .mha.")
    check_samples(image, "MetaImage file", path)
    _volume(image, path)
    check_dtype(dtype.name in _NAMES, dtype, "MetaImage", path)
    return ()


def write(path: Path, image: Image) -> None:
    """Write a volume; from a MetaImage file, with its entries, and compressed if it was."""
    check(image, image.data.dtype, path)
    stored = image.data.dtype.newbyteorder("<")
    samples = np.asfortranarray(_volume(image, path).data.astype(stored, copy=False)).ravel(order="K")
    content = samples.view(np.uint8).data
    packed = zlib.compress(content, _LEVEL) if is_packed(image) else None
    begin, _ = head(image, image.data.dtype, path, None if packed is None else len(packed))
    with replacing(path) as draft, draft.open("wb") as file:
        file.write(begin)
        file.write(content if packed is None else packed)


def head(
    image: Image, dtype: np.dtype[Any], path: Path, packed: int | None = None
) -> tuple[bytes, np.dtype[Any]]:
    """Return all that `write` puts before the samples of a volume, and the dtype in which these follow.

    Parameters
    ----------
    image : Image
    dtype : dtype
    path : Path
    packed : int, optional
        Bytes of the samples, if they are compressed.

    Raises
    ------
    FileError
        As `check`.
    """
    check(image, dtype, path)
    volume = _volume(image, path)
    first = volume.axes[:1] in ("S", "C")
    shape = volume.data.shape[first:]
    own = image.carried.lines if isinstance(image.carried, _Carried) else _said(volume, len(shape))
    size = [] if packed is None else [f"CompressedDataSize = {packed}"]
    lines = [
        "ObjectType = Image",
        f"NDims = {len(shape)}",
        "BinaryData = True",
        "BinaryDataByteOrderMSB = False",
        f"CompressedData = {packed is not None}",
        *size,
        *own,
        f"DimSize = {' '.join(map(str, shape))}",
        *([f"ElementNumberOfChannels = {volume.data.shape[0]}"] if first else []),
        f"ElementType = {_NAMES[dtype.name]}",
        "ElementDataFile = LOCAL",
    ]
    return ("\n".join(lines) + "\n").encode("latin-1", "ignore"), dtype.newbyteorder("<")


def is_packed(image: Image) -> bool:
    """Return whether an image comes from a MetaImage file of compressed samples."""
    return isinstance(image.carried, _Carried) and image.carried.packed


def disk_order(image: Image, path: Path) -> tuple[int, ...]:
    """Return the axes of an image from the fastest to the slowest in a MetaImage file."""
    if isinstance(image.carried, _Carried) or set(image.axes) == {"Q"}:
        return tuple(range(image.data.ndim))
    volume = _volume(image, path)
    return tuple(with_z(image).axes.index(letter) for letter in volume.axes)


def _said(volume: Image, ndim: int) -> list[str]:
    """Return the entries that say where a volume of another format lies."""
    affine = axes_placed(volume)
    steps = [step or 1.0 for step in volume.spacing[volume.data.ndim - ndim :]]
    matrix, origin = np.eye(ndim), np.zeros(ndim)
    if affine is not None:
        place, columns = lps_of(affine)
        lengths = lengths_of(columns)
        origin[:3], steps[:3] = place, lengths
        matrix[:3, :3] = (columns / lengths).T
    anatomy = ["AnatomicalOrientation = RAI"] if affine is not None else []
    return [
        f"TransformMatrix = {numbers_text(matrix)}",
        f"Offset = {numbers_text(origin)}",
        f"CenterOfRotation = {numbers_text(np.zeros(ndim))}",
        *anatomy,
        f"ElementSpacing = {numbers_text(steps)}",
    ]


def _volume(image: Image, path: Path) -> Image:
    if isinstance(image.carried, _Carried):
        return image
    if set(image.axes) == {"Q"} and image.data.ndim <= 3:
        return replace(image, axes="XYZ"[: image.data.ndim])
    named = with_z(image)
    volume = arranged(named, _AXES, f"`{path}`: a MetaImage file holds volumes of space, time and channels")
    if volume.axes[:2] == "SC":
        raise FileError(f"`{path}`: a MetaImage file holds colours or channels, not both; write .npy.")
    return volume
