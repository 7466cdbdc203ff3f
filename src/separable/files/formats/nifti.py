"""NIfTI-1 and NIfTI-2 volumes, .nii and .nii.gz: header, extensions and affine are carried over."""

from __future__ import annotations

import gzip
import io
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ..._base.extras import extra
from ..._base.types import Array
from ..guard import DEFLATE_LIMIT, FileError, check_promise, reading
from ..image import Image, arranged, check_dtype, check_samples, size_text, with_z, without_samples
from ..orientation import axes_placed
from ..target import replacing

if TYPE_CHECKING:
    import nibabel as nib

SUFFIXES = (".nii", ".nii.gz")
KIND = "NIfTI"

# The dimensions of the standard: x, y, z, time, and three without a name.
_AXES = "XYZTUVW"
_MILLIMETRES = {"meter": 1000.0, "mm": 1.0, "micron": 0.001, "unknown": 1.0}
_MAX_NIFTI1 = 32767  # lengths are int16 in NIfTI-1, int64 in NIfTI-2
_SCANNER = 1  # code of an affine to the scanner's millimetres
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
    with reading(path, KIND):
        volume = _opened(path, whole=True)
        data = _samples(volume)
        return replace(_header(volume, data.dtype), data=data)


def describe(path: Path) -> tuple[Image, NiftiSamples]:
    """Return what a NIfTI file says of a volume, without its samples, and how they lie in it.

    Raises
    ------
    FileError
        As `read`, but for volumes larger than memory.
    """
    with reading(path, KIND):
        volume = _opened(path, whole=False)
        proxy: Any = volume.dataobj
        stored = volume.get_data_dtype()
        if _is_plain(proxy):
            dtype, scale = stored.newbyteorder("="), None
        else:
            dtype, scale = _scaled_dtype(stored), (proxy.slope, proxy.inter)
        if proxy.offset < 0:
            raise FileError(f"`{path}` is damaged: its samples would begin at byte {proxy.offset}.")
        return _header(volume, dtype), NiftiSamples(proxy.offset, stored, dtype, scale)


def _opened(path: Path, *, whole: bool) -> nib.Nifti1Image:
    """Return the volume of a file that is as long as its header says."""
    with extra("files"):
        import nibabel as nib

    volume = nib.load(path, mmap=False)
    if not isinstance(volume, nib.Nifti1Image):
        raise FileError(f"`{path}` is a {type(volume).__name__}, not a NIfTI-1 or NIfTI-2 volume.")
    dtype = volume.get_data_dtype()
    if dtype.kind not in "biufc":
        raise FileError(f"`{path}` holds {dtype} (RGB?), not numbers; split its colours into volumes first.")
    if not volume.shape or 0 in volume.shape:
        raise FileError(f"`{path}` holds an empty volume ({size_text(volume.shape)}).")
    ratio = DEFLATE_LIMIT if path.suffix.lower() == ".gz" else 1
    check_promise(path, volume.shape, dtype, ratio, whole=whole)
    return volume


def _header(volume: nib.Nifti1Image, dtype: np.dtype[Any]) -> Image:
    import nibabel as nib

    spacing = _spacing(volume, nib.affines.voxel_sizes(volume.affine))
    carried = _Carried(type(volume), volume.affine, volume.header)
    shape = tuple(int(n) for n in volume.shape)
    affine = _placed(volume)
    return without_samples(shape, dtype, _AXES[: len(shape)], spacing, carried=carried, affine=affine)


def _placed(volume: nib.Nifti1Image) -> Array | None:
    """Return the affine in millimetres; None where the header does not say that it has one."""
    header: Any = volume.header
    affine = np.asarray(volume.affine)
    if not (header["sform_code"] or header["qform_code"]) or not np.isfinite(affine).all():
        return None
    unit = _MILLIMETRES.get(header.get_xyzt_units()[0], 1.0)
    return np.asarray(np.diag([unit, unit, unit, 1.0]) @ affine)


def _is_plain(proxy: Any) -> bool:
    return bool((proxy.slope, proxy.inter) == (1, 0))


def _scaled_dtype(stored: np.dtype[Any]) -> np.dtype[Any]:
    return np.dtype(np.float32 if stored.itemsize <= 2 else np.float64)


def _samples(volume: nib.Nifti1Image) -> Array:
    proxy: Any = volume.dataobj
    if _is_plain(proxy):
        return np.asarray(proxy.get_unscaled())
    return np.asarray(proxy, dtype=_scaled_dtype(volume.get_data_dtype()))


@dataclass(frozen=True)
class NiftiSamples:
    """How the samples of a volume lie in a NIfTI file.

    Attributes
    ----------
    offset : int
        The byte at which they begin, once the file is decompressed.
    stored, dtype : dtype
        Of the samples in the file, with their byte order, and of those that are read.
    scale : (float, float) or None
        Slope and intercept.
    """

    offset: int
    stored: np.dtype[Any]
    dtype: np.dtype[Any]
    scale: tuple[float, float] | None

    def scaled(self, part: Array) -> Array:
        """Return samples of the file with slope and intercept: to the last bit as `read` gives them."""
        from nibabel.volumeutils import apply_read_scaling

        # As nibabel's ArrayProxy takes both for an array of a dtype that is asked for.
        numbers = [np.asanyarray(number) for number in self.scale or (1.0, 0.0)]
        slope, inter = (  # arrays of no axes
            number.astype(self.dtype) if np.can_cast(number, self.dtype) else number for number in numbers
        )
        values: Array = apply_read_scaling(part, cast("Any", slope), cast("Any", inter))
        return values.astype(np.promote_types(values.dtype, self.dtype), copy=False).astype(self.dtype)


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
    check_dtype(dtype.char in _DTYPES, dtype, "NIfTI", path)
    return ()


def write(path: Path, image: Image) -> None:
    """Write a volume; from a NIfTI volume, with its header, extensions and affine."""
    stored = _made(_volume(image, path), image.data.dtype)
    with replacing(path) as draft, draft.open("wb") as file:
        if path.suffix.lower() == ".gz":  # compressed as nibabel does it, without a time or a name inside
            with gzip.GzipFile("", "wb", _GZIP_LEVEL, file, mtime=0) as packed:
                stored.to_stream(packed)
        else:
            stored.to_stream(file)


def head(image: Image, dtype: np.dtype[Any], path: Path) -> tuple[bytes, np.dtype[Any]]:
    """Return all that `write` puts before the samples of a volume, and the dtype in which these follow.

    Parameters
    ----------
    image : Image
        Without samples, or with them.
    dtype : dtype
        Of the samples that are to be.
    path : Path
        For errors.

    Raises
    ------
    FileError
        As `check`; a NIfTI-1 header does not hold such a volume.
    """
    check(image, dtype, path)
    with reading(path, KIND):
        stored = _made(_volume(image, path), dtype)
        stored.update_header()
        header: Any = stored.header
        header.set_slope_inter(1.0, 0.0)
        content = io.BytesIO()
        header.write_to(content)
        start = int(header.get_data_offset())
        return content.getvalue().ljust(start, b"\0"), dtype.newbyteorder(header.endianness)


def disk_order(image: Image, path: Path) -> tuple[int, ...]:
    """Return the axes of an image from the fastest to the slowest in a NIfTI file."""
    ndim = image.data.ndim
    if set(image.axes) == {"Q"}:
        return tuple(range(ndim))
    axes = with_z(image).axes
    _volume(image, path)
    return tuple(sorted(range(ndim), key=lambda axis: _AXES.index(axes[axis])))


def _made(volume: Image, dtype: np.dtype[Any]) -> nib.Nifti1Image:
    """Return nibabel's image of a volume that will be stored in `dtype`."""
    with extra("files"):
        import nibabel as nib

    if isinstance(volume.carried, _Carried):
        kind, affine, header = volume.carried.kind, volume.carried.affine, volume.carried.header
    else:
        kind = nib.Nifti2Image if max(volume.data.shape) > _MAX_NIFTI1 else nib.Nifti1Image
        placed, header = axes_placed(volume), None
        affine = np.diag([*_known(volume.spacing), 1.0]) if placed is None else placed
    stored = kind(volume.data, affine, header, dtype=dtype)
    if header is None and axes_placed(volume) is not None:
        stored.set_qform(affine, _SCANNER)
        stored.set_sform(affine, _SCANNER)
    if header is None and any(volume.spacing):
        stored.header.set_xyzt_units("mm")
    return stored


def _volume(image: Image, path: Path) -> Image:
    if set(image.axes) == {"Q"} and image.data.ndim <= len(_AXES):
        return replace(image, axes=_AXES[: image.data.ndim])
    return arranged(with_z(image), _AXES, f"`{path}`: a NIfTI file holds volumes of space and time")


def _known(spacing: tuple[float | None, ...]) -> list[float]:
    return [step or 1.0 for step in (*spacing, None, None, None)[:3]]
