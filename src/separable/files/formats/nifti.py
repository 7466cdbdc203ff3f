"""NIfTI-1 and NIfTI-2 volumes, .nii and .nii.gz: header, extensions and affine are carried over."""

from __future__ import annotations

import gzip
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..._base.extras import extra
from ..._base.types import Array
from ..guard import DEFLATE_LIMIT, FileError, check_promise, reading
from ..image import Image, arranged, check_samples, size_text
from ..target import replacing

if TYPE_CHECKING:
    import nibabel as nib

SUFFIXES = (".nii", ".nii.gz")

# The dimensions of the standard: x, y, z, time, and three without a name.
_AXES = "XYZTUVW"
_MILLIMETRES = {"meter": 1000.0, "mm": 1.0, "micron": 0.001, "unknown": 1.0}
_MAX_NIFTI1 = 32767  # lengths are int16 in NIfTI-1, int64 in NIfTI-2
_GZIP_LEVEL = 1  # nibabel's default: a scanner's noise hardly compresses at any level
_DTYPES = frozenset(["b", "B", "h", "H", "i", "I", "l", "L", "q", "Q", "f", "d", "F", "D"])


@dataclass(frozen=True)
class _Carried:
    kind: type[nib.Nifti1Image]
    affine: Array
    header: nib.Nifti1Header


def read(path: Path) -> Image:
    """Return a NIfTI volume in its stored order (x, y, z[, t]).

    Samples with a slope or an intercept are scaled and returned as float32 (float64 if they are
    stored in more than 16 bits); without, they come as they are stored.
    """
    with extra("files"):
        import nibabel as nib

    with reading(path, "NIfTI"):
        volume = nib.load(path, mmap=False)
        if not isinstance(volume, nib.Nifti1Image):
            raise FileError(f"`{path}` is a {type(volume).__name__}, not a NIfTI-1 or NIfTI-2 volume.")
        dtype = volume.get_data_dtype()
        if dtype.kind not in "biufc":
            raise FileError(
                f"`{path}` holds {dtype} (RGB?), not numbers; split its colours into volumes first."
            )
        if not volume.shape or 0 in volume.shape:
            raise FileError(f"`{path}` holds an empty volume ({size_text(volume.shape)}).")
        check_promise(path, volume.shape, dtype, DEFLATE_LIMIT if path.suffix.lower() == ".gz" else 1)
        data = _samples(volume)
        spacing = _spacing(volume, nib.affines.voxel_sizes(volume.affine))
    carried = _Carried(type(volume), volume.affine, volume.header)
    return Image(data, _AXES[: data.ndim], spacing, carried=carried)


def _samples(volume: nib.Nifti1Image) -> Array:
    stored: np.dtype[Any] = volume.get_data_dtype()
    proxy: Any = volume.dataobj
    if (proxy.slope, proxy.inter) == (1, 0):
        return np.asarray(proxy.get_unscaled())
    return np.asarray(proxy, dtype=np.float32 if stored.itemsize <= 2 else np.float64)


def _spacing(volume: nib.Nifti1Image, voxel: Array) -> tuple[float | None, ...]:
    unit = _MILLIMETRES.get(volume.header.get_xyzt_units()[0], 1.0)
    known = [float(size) * unit if size > 0 and math.isfinite(size) else None for size in voxel]
    return tuple((known + [None] * 4)[: len(volume.shape)])


def check(image: Image, dtype: np.dtype[Any], path: Path) -> tuple[str, ...]:
    """Refuse what a NIfTI file cannot hold.

    Raises
    ------
    FileError
        If the image has colours, or if its dtype is not one of the standard's.
    """
    check_samples(image, "NIfTI file", path)
    _volume(image, path)
    if dtype.char not in _DTYPES:
        other = "uint8" if dtype == np.bool_ else "float32"
        raise FileError(f"`{path}`: NIfTI has no {dtype.name}; pass --dtype {other}.")
    return ()


def write(path: Path, image: Image) -> None:
    """Write a volume; from a NIfTI volume, with its header, extensions and affine."""
    with extra("files"):
        import nibabel as nib

    volume = _volume(image, path)
    if isinstance(volume.carried, _Carried):
        kind, affine, header = volume.carried.kind, volume.carried.affine, volume.carried.header
    else:
        kind = nib.Nifti2Image if max(volume.data.shape) > _MAX_NIFTI1 else nib.Nifti1Image
        affine, header = np.diag([*_known(volume.spacing), 1.0]), None
    stored = kind(volume.data, affine, header, dtype=volume.data.dtype)
    if header is None and any(volume.spacing):
        stored.header.set_xyzt_units("mm")
    with replacing(path) as draft, draft.open("wb") as file:
        if path.suffix.lower() == ".gz":  # compressed as nibabel does it, without a time or a name inside
            with gzip.GzipFile("", "wb", _GZIP_LEVEL, file, mtime=0) as packed:
                stored.to_stream(packed)
        else:
            stored.to_stream(file)


def _volume(image: Image, path: Path) -> Image:
    if set(image.axes) == {"Q"} and image.data.ndim <= len(_AXES):
        return replace(image, axes=_AXES[: image.data.ndim])
    pages = next((letter for letter in "QI" if letter in image.axes and "Z" not in image.axes), "")
    named = replace(image, axes=image.axes.replace(pages, "Z")) if pages else image
    return arranged(named, _AXES, f"`{path}`: a NIfTI file holds volumes of space and time")


def _known(spacing: tuple[float | None, ...]) -> list[float]:
    return [step or 1.0 for step in (*spacing, None, None, None)[:3]]
