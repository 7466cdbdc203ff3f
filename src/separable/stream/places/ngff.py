"""What arrays of zarr and HDF5 say of their axes: names, and the distance of neighbouring samples.

Read are OME-Zarr 0.4 and 0.5 (the group above an array), the names of dimensions of zarr, and of HDF5 the
attribute ``element_size_um`` that Fiji and ilastik write.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from ...files.image import Image, without_samples

# Units of length, by the names of UDUNITS-2 that OME-NGFF takes and by their signs, in millimetres.
_MILLIMETRES: Final = (
    {"angstrom": 1e-7, "nanometer": 1e-6, "micrometer": 1e-3, "millimeter": 1.0, "centimeter": 10.0}
    | {"meter": 1e3, "micron": 1e-3, "nm": 1e-6, "um": 1e-3, "µm": 1e-3, "μm": 1e-3}
    | {"mm": 1.0, "cm": 10.0, "m": 1e3}
)
_LETTERS: Final = {"x": "X", "y": "Y", "z": "Z", "t": "T", "time": "T", "c": "C", "channel": "C"}
_GROUPS: Final = ("zarr.json", ".zattrs")


def zarr_header(array: Any, path: Path) -> Image:
    """Return what is known of an array of zarr in a folder."""
    shape, dtype = tuple(int(n) for n in array.shape), array.dtype
    for group in path.parents:
        for content in _attributes(group):
            known = _multiscale(content, group, path, len(shape))
            if known is not None:
                return without_samples(shape, dtype, *known)
        if not any((group / name).exists() for name in (*_GROUPS, ".zgroup")):
            break
    names = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS")
    return without_samples(shape, dtype, _letters(names, len(shape)))


def hdf_header(data_set: Any) -> Image:
    """Return what is known of a data set of HDF5."""
    shape = tuple(int(n) for n in data_set.shape)
    sizes = data_set.attrs.get("element_size_um")
    numbers = sizes.tolist() if hasattr(sizes, "tolist") else sizes
    steps = _positive(numbers, len(shape))
    spacing = () if steps is None else tuple(step * _MILLIMETRES["um"] for step in steps)
    return without_samples(shape, data_set.dtype, spacing=spacing)


def _attributes(group: Path) -> Iterator[dict[str, Any]]:
    """Yield the attributes of a group of either format; what cannot be read says nothing."""
    for name in _GROUPS:
        try:
            content = json.loads((group / name).read_bytes())
        except (OSError, ValueError):
            continue
        if name == "zarr.json":
            content = content.get("attributes") if isinstance(content, dict) else None
        if isinstance(content, dict):
            inner = content.get("ome", content)
            yield inner if isinstance(inner, dict) else {}


def _multiscale(
    content: dict[str, Any], group: Path, path: Path, ndim: int
) -> tuple[str, tuple[float | None, ...]] | None:
    """Return letters and spacing of an array that is one level of an OME-Zarr picture; None if it is none."""
    for picture in _dicts(content.get("multiscales")):
        axes = _dicts(picture.get("axes"))
        for level in _dicts(picture.get("datasets")):
            if len(axes) != ndim or group / str(level.get("path")) != path:
                continue
            units = [_MILLIMETRES.get(str(axis.get("unit"))) for axis in axes]
            steps = _scale(level.get("coordinateTransformations"), ndim)
            more = _scale(picture.get("coordinateTransformations"), ndim) or (1.0,) * ndim
            spacing: list[float | None] = [None] * ndim
            for number, unit in enumerate(units):
                if steps is not None and unit is not None:
                    spacing[number] = steps[number] * more[number] * unit
            return "".join(map(_letter, axes)), tuple(spacing)
    return None


def _letter(axis: dict[str, Any]) -> str:
    kind = {"time": "T", "channel": "C"}.get(str(axis.get("type")), "Q")
    return _LETTERS.get(str(axis.get("name")).lower(), kind)


def _letters(names: Any, ndim: int) -> str:
    """Return a letter for each dimension that is named; none where two would share one."""
    if not isinstance(names, (list, tuple)) or len(names) != ndim:
        return ""
    letters = [_LETTERS.get(str(name).lower(), "Q") for name in names]
    named = [letter for letter in letters if letter != "Q"]
    return "".join(letters) if len(set(named)) == len(named) else ""


def _scale(transformations: Any, ndim: int) -> Sequence[float] | None:
    for item in _dicts(transformations):
        if item.get("type") == "scale":
            return _positive(item.get("scale"), ndim)
    return None


def _positive(numbers: Any, count: int) -> Sequence[float] | None:
    """Return so many positive numbers; None for anything else that a file may hold."""
    if not isinstance(numbers, list) or len(numbers) != count:
        return None
    kept = [float(n) for n in numbers if isinstance(n, (int, float)) and not isinstance(n, bool)]
    return kept if len(kept) == count and all(0 < n < math.inf for n in kept) else None


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
