"""Lengths as typed, ``2``, ``2um`` or ``4,1,1um``, and how many samples of an image they are."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from .. import files

# Units of length, and how many make a millimetre; px does not depend on the voxel size.
_PER_MM: Final = {"nm": 1e6, "um": 1e3, "mm": 1.0, "cm": 0.1, "m": 1e-3}
_PX: Final = "px"
_ALIASES: Final = (
    dict.fromkeys(("µm", "μm", "micron", "microns", "micrometer", "micrometers", "micrometre"), "um")
    | {"nanometer": "nm", "nanometre": "nm", "millimeter": "mm", "millimetre": "mm", "pixel": _PX}
    | {"pixels": _PX, "samples": _PX, "voxels": _PX}
)
_LENGTH: Final = re.compile(r"([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|[-+]?(?:inf|nan))\s*([^\d\s.,]*)")


class Lengths(NamedTuple):
    """Numbers, and the one unit that they are in."""

    values: tuple[float, ...]
    unit: str


def lengths(option: str, text: str, unit: str = _PX, count: int | None = None) -> Lengths:
    """Return the lengths that an option was given; one is repeated `count` times.

    Units may stand behind the numbers: those that have none are in the unit of the others, or in `unit`.

    Raises
    ------
    ValueError
        They are no lengths, in units that are unknown or said twice, or of another number than `count`.
    """
    what = "a width" if option == "--fwhm" else "a standard deviation"
    parts = [_LENGTH.fullmatch(part.strip()) for part in text.split(",")]
    if not all(parts):
        raise ValueError(
            f"`{option} {text}` is not a number, or several with commas, such as 1.5 or 2,1,1um."
        )
    numbers = [float(part[1]) for part in parts if part]
    if not all(0 <= number < math.inf for number in numbers):
        raise ValueError(f"`{option} {text}`: {what} is a number >= 0, such as 1.5 or 2um.")
    typed = [_known(option, text, part[2]) for part in parts if part]
    own = next((name for name in reversed(typed) if name), unit)
    said = {name for name in typed if name}
    if unit not in (_PX, own) or (len(said) > 1 and ("" in typed or _PX in said)):
        other = f" and `--unit {unit}`" if unit not in (_PX, own) else ""
        raise ValueError(f"`{option} {text}`{other} say several units; name one, or one for each number.")
    values = tuple(
        number if name in ("", own) else number / _PER_MM[name] * _PER_MM[own]
        for number, name in zip(numbers, typed, strict=True)
    )
    if count is not None and len(values) != count:
        if len(values) > 1:
            raise ValueError(
                f"`{option} {text}` has {len(values)} numbers for {count} filtered axes; pass 1 or {count}."
            )
        values *= count
    return Lengths(values, own)


def _known(option: str, text: str, name: str) -> str:
    unit = _ALIASES.get(name, name)
    if unit and unit != _PX and unit not in _PER_MM:
        raise ValueError(
            f"`{option} {text}`: `{name}` is no unit of length; expected one of {', '.join(_PER_MM)}, or "
            "none for samples."
        )
    return unit


def steps(typed: str, unit: str, image: files.Image, axes: Sequence[int], source: Path) -> tuple[float, ...]:
    """Return the distance of neighbouring samples along each axis, in a unit.

    Parameters
    ----------
    typed : str
        The option that asked for the unit, as it was typed.
    unit : str
    image : Image
    axes : sequence of int
    source : Path
        Where the image is from.

    Raises
    ------
    ValueError
        The image does not say it.
    """
    if unit == _PX:
        return (1.0,) * len(axes)
    distances = [image.spacing[axis] for axis in axes]
    known = [step * _PER_MM[unit] for step in distances if step is not None]
    if len(known) < len(distances):
        raise ValueError(
            f"`{typed}` needs a voxel size, and `{source}` states none for axis "
            f"{axes[distances.index(None)]} (NIfTI, TIFF, ImageJ, OME TIFF and OME-Zarr do, in "
            f"{', '.join(_PER_MM)}); pass pixels, without a unit."
        )
    return tuple(known)
