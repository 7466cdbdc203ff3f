"""Which source and which target an argument names."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from ...files.guard import check_readable
from ..ome.geometry import Pyramid
from ..ome.target import SUFFIX, ome_target
from . import hdf5, niftis, npy, tiffs, volumes, zarrs
from .arrays import ArraySource, ArrayTarget, MaskSource
from .place import StreamSource, StreamTarget

_PATHS = (
    "a path that ends in .npy, .zarr, .h5, .hdf5 (scan.h5/name for one of several data sets), .nii, .nii.gz, "
    ".tif, .tiff, .nrrd, .mha, or as a source .nhdr, .mhd or a folder of DICOM"
)
_LEVELS = "smaller levels go into OME-Zarr; expected a target that ends in .ome.zarr, or in .zarr"
_TIFF = (".tif", ".tiff")


def is_path(value: object) -> TypeGuard[str | os.PathLike[str]]:
    """Return whether an argument is a path, and no array."""
    return isinstance(value, (str, os.PathLike))


def _looks_like_array(value: Any) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype") and hasattr(value, "__getitem__")


def _suffix(path: Path) -> str:
    if hdf5.split(path):
        return ".h5"
    if any(place.suffix == ".zarr" for place in (path, *path.parents)):
        return ".zarr"
    return ".nii" if path.name.lower().endswith(niftis.PACKED) else path.suffix.lower()


def open_source(value: Any, name: str = "source") -> StreamSource:
    """Return the source that an argument names.

    Raises
    ------
    ValueError
        It is a path without a known ending, or holds no axis.
    TypeError
        It is no path, and no array.
    FileNotFoundError
        There is no such file.
    """
    source = _from_path(Path(value), name) if is_path(value) else _from_array(value, name)
    label = source.name if is_path(value) else f"`{name}`"
    if not source.shape or 0 in source.shape:
        source.close()
        raise ValueError(f"{label} has shape {source.shape}; expected at least one sample.")
    if source.dtype.kind not in "biufc":
        source.close()
        raise TypeError(f"{label} has dtype {source.dtype}; expected real or complex numbers.")
    return source


def open_mask(value: Any, shape: tuple[int, ...]) -> StreamSource:
    """Return the source of a mask for samples of `shape`.

    Raises
    ------
    ValueError
        It has another shape, or is neither of bool nor of bytes.
    TypeError, FileNotFoundError
        As `open_source`.
    """
    source = open_source(value, "mask")
    if source.shape != shape or source.dtype not in (np.bool_, np.uint8, np.int8):
        source.close()
        raise ValueError(
            f"`mask` has shape {source.shape} and dtype {source.dtype}; expected {shape} and bool or uint8, "
            "True or not 0 where the source is known."
        )
    return MaskSource(source)


def in_slabs_alone(path: Path) -> bool:
    """Return whether a path is read and written by streams, and not by `separable.files`."""
    return _suffix(path) in (".h5", ".zarr")


def _from_array(value: Any, name: str) -> StreamSource:
    if not _looks_like_array(value):
        raise TypeError(
            f"`{name}` is of type {type(value).__name__}; expected {_PATHS}, or an array with shape, dtype "
            "and slicing."
        )
    return npy.memmap_source(value) or zarrs.local_array(value) or ArraySource(value)


def _from_path(path: Path, name: str) -> StreamSource:
    suffix = _suffix(path)
    named = hdf5.split(path)
    if not (named[0] if named else path).exists():
        raise FileNotFoundError(f"`{name}={str(path)!r}`: there is no such file.")
    if named:
        return hdf5.HdfSource(*named)
    if suffix == ".zarr":
        return zarrs.zarr_source(path)
    if suffix == ".npy":
        return npy.npy_source(path)
    if suffix == ".nii" or suffix in _TIFF:
        check_readable(path)
        return niftis.nifti_source(path) if suffix == ".nii" else tiffs.tiff_source(path)
    if path.is_dir() or suffix in (*volumes.NRRD, *volumes.METAIMAGE, *volumes.DICOM):
        return volumes.volume_source(path)
    raise ValueError(f"`{name}={str(path)!r}` has no ending that is known; expected {_PATHS}.")


def open_target(
    value: Any,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    like: StreamSource,
    pyramid: Pyramid | None = None,
) -> StreamTarget:
    """Return the target that an argument names, for an array of `shape` and `dtype` chunked as the source is.

    With a `pyramid` it is an OME-Zarr picture of so many levels.

    Raises
    ------
    ValueError
        It is a path without a known ending; an array of another shape or dtype; it cannot have levels.
    TypeError
        It is no path, and no array.
    FileNotFoundError
        There is no such folder.
    """
    if pyramid is not None and not (is_path(value) and Path(value).suffix.lower() == ".zarr"):
        name = f"`target={str(value)!r}`" if is_path(value) else f"`target` is of type {type(value).__name__}"
        raise ValueError(f"{name}: {_LEVELS}.")
    if not is_path(value):
        if not _looks_like_array(value) or not hasattr(value, "__setitem__"):
            raise TypeError(
                f"`target` is of type {type(value).__name__}; expected {_PATHS}, or an array with shape, "
                "dtype and assignment to slices."
            )
        local = zarrs.local_target(value, shape, dtype, like.order)
        return local or ArrayTarget(value, shape, dtype, like.order)
    path = Path(value)
    suffix, named = _suffix(path), hdf5.split(path)
    if not (named[0] if named else path).absolute().parent.is_dir():
        raise FileNotFoundError(f"`target={str(path)!r}`: there is no such folder; make it first.")
    if named:
        return hdf5.hdf_target(*named, shape, dtype)
    if pyramid is not None or path.name.lower().endswith(SUFFIX):
        array = getattr(like, "array", None)
        return ome_target(path, dtype, like.header, array, like.order, pyramid or Pyramid())
    if path.suffix.lower() == ".zarr":
        form = zarrs.ZarrForm.like(getattr(like, "array", None), shape)
        return zarrs.ZarrTarget(path, shape, dtype, form, like.order)
    if suffix == ".npy":
        return npy.npy_target(path, shape, dtype, like.order)
    if suffix == ".nii":
        return niftis.nifti_target(path, dtype, like.header)
    if suffix in (*volumes.NRRD, *volumes.METAIMAGE):
        return volumes.volume_target(path, dtype, like.header)
    if suffix in _TIFF:
        return tiffs.tiff_target(path, dtype, like.header)
    raise ValueError(f"`target={str(path)!r}` has no ending that is known; expected {_PATHS}.")


def open_places(
    source: Any, target: Any, mask: Any, dtype: np.dtype[Any], pyramid: Pyramid | None = None
) -> tuple[StreamSource, StreamTarget | None, StreamSource | None]:
    """Return source, target and mask, which are read and written along one axis; None for none.

    The axis is that of the source, unless the target can only be written along another.

    Raises
    ------
    ValueError, TypeError, FileNotFoundError
        As `open_source`, `open_mask` and `open_target`; source or mask are not read along that axis.
    """
    with ExitStack() as opened:
        read = open_source(source)
        opened.callback(read.close)
        place = None if target is None else open_target(target, read.shape, dtype, read, pyramid)
        if place is not None and place.order != read.order:
            read.turn(place.order, f"{place.name} is written")
        known = None if mask is None else open_mask(mask, read.shape)
        if known is not None:
            opened.callback(known.close)
            if known.order != read.order:
                known.turn(read.order, f"{read.name} is read")
        opened.pop_all()
    return read, place, known
