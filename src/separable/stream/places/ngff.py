"""What arrays of zarr and HDF5 say of their axes: names, and the distance of neighbouring samples.

Read are OME-Zarr 0.4 and 0.5 (the group above an array), the names of dimensions of zarr, and of HDF5 the
attribute ``element_size_um`` that Fiji and ilastik write.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from ...files.image import Image, without_samples
from ..ome.metadata import OmeAxis, OmePicture, rendering_of

# Units of length, by the names of UDUNITS-2 that OME-NGFF takes and by their signs, in millimetres.
_MILLIMETRES: Final = (
    {"angstrom": 1e-7, "nanometer": 1e-6, "micrometer": 1e-3, "millimeter": 1.0, "centimeter": 10.0}
    | {"meter": 1e3, "micron": 1e-3, "nm": 1e-6, "um": 1e-3, "µm": 1e-3, "μm": 1e-3}
    | {"mm": 1.0, "cm": 10.0, "m": 1e3}
)
_LETTERS: Final = {"x": "X", "y": "Y", "z": "Z", "t": "T", "time": "T", "c": "C", "channel": "C"}
_LARGEST: Final = 1e300  # distances beyond which a file means none
_GROUPS: Final = ("zarr.json", ".zattrs")


def zarr_header(array: Any, path: Path) -> Image:
    """Return what is known of an array of zarr in a folder."""
    shape, dtype = tuple(int(n) for n in array.shape), array.dtype
    for group in path.parents:
        for content in _attributes(group):
            known = _multiscale(content, group, path, shape)
            if known is not None:
                letters, spacing, picture = known
                return without_samples(shape, dtype, letters, spacing, carried=picture)
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


def full_resolution(group: Path) -> Path | None:
    """Return where the largest level of an OME-Zarr picture lies; None where a group holds none."""
    for content in _attributes(group):
        for picture in _dicts(content.get("multiscales")):
            for level in _dicts(picture.get("datasets")):
                place = Path(str(level.get("path")))
                if not place.is_absolute() and ".." not in place.parts:
                    return group / place
    return None


def _multiscale(
    content: dict[str, Any], group: Path, path: Path, shape: tuple[int, ...]
) -> tuple[str, tuple[float | None, ...], OmePicture | None] | None:
    """Return letters, spacing and what else is known of an array; None if it is no level of a picture."""
    ndim = len(shape)
    for picture in _dicts(content.get("multiscales")):
        axes, levels = _dicts(picture.get("axes")), _dicts(picture.get("datasets"))
        for number, level in enumerate(levels):
            if len(axes) != ndim or group / str(level.get("path")) != path:
                continue
            place = _place(level.get("coordinateTransformations"), ndim)
            more = _place(picture.get("coordinateTransformations"), ndim) or ((1.0,) * ndim, (0.0,) * ndim)
            letters = "".join(map(_letter, axes))
            if place is None:
                return letters, (None,) * ndim, None
            scale = tuple(step * factor for step, factor in zip(place[0], more[0], strict=True))
            moved = zip(place[1], *more, strict=True)
            units = [_MILLIMETRES.get(str(axis.get("unit"))) for axis in axes]
            spacing = tuple(
                None if unit is None else step * unit for step, unit in zip(scale, units, strict=True)
            )
            known = OmePicture(
                tuple(map(_axis, axes)),
                scale,
                tuple(start * factor + offset for start, factor, offset in moved),
                name if isinstance(name := picture.get("name"), str) else "",
                len(levels) - number,
                rendering_of(content.get("omero"), _channels(axes, shape)),
            )
            return letters, spacing, known
    return None


def _axis(axis: dict[str, Any]) -> OmeAxis:
    name, unit = str(axis.get("name")), axis.get("unit")
    kind = axis.get("type") or {"t": "time", "c": "channel"}.get(name, "space")
    return OmeAxis(name, str(kind), unit if isinstance(unit, str) else "")


def _channels(axes: list[dict[str, Any]], shape: tuple[int, ...]) -> int:
    kinds = [_axis(axis).kind for axis in axes]
    return shape[kinds.index("channel")] if "channel" in kinds else 1


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


def _place(transformations: Any, ndim: int) -> tuple[Sequence[float], Sequence[float]] | None:
    """Return scale and translation; None where there is no scale."""
    scale: Sequence[float] | None = None
    translation: Sequence[float] = (0.0,) * ndim
    for item in _dicts(transformations):
        if item.get("type") == "scale":
            scale = _positive(item.get("scale"), ndim)
        elif item.get("type") == "translation":
            translation = _finite(item.get("translation"), ndim) or translation
    return None if scale is None else (scale, translation)


def _positive(numbers: Any, count: int) -> Sequence[float] | None:
    """Return so many positive numbers; None for anything else that a file may hold."""
    kept = _finite(numbers, count)
    return kept if kept is not None and min(kept, default=1.0) > 0 else None


def _finite(numbers: Any, count: int) -> Sequence[float] | None:
    if not isinstance(numbers, list) or len(numbers) != count:
        return None
    plain = [n for n in numbers if isinstance(n, (int, float)) and not isinstance(n, bool)]
    kept = [float(n) for n in plain if abs(n) < _LARGEST]  # NaN is not
    return kept if len(kept) == count else None


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
