"""Which source and which target an argument names."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from . import hdf5, npy, zarrs
from .arrays import ArraySource, ArrayTarget
from .place import StreamSource, StreamTarget

_PATHS = "a path that ends in .npy, .zarr, .h5 or .hdf5 (scan.h5/name for one of several data sets)"


def is_path(value: object) -> TypeGuard[str | os.PathLike[str]]:
    """Return whether an argument is a path, and no array."""
    return isinstance(value, (str, os.PathLike))


def _looks_like_array(value: Any) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype") and hasattr(value, "__getitem__")


def _suffix(path: Path) -> str:
    if hdf5.split(path):
        return ".h5"
    return ".zarr" if any(place.suffix == ".zarr" for place in (path, *path.parents)) else path.suffix.lower()


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
    if not source.shape or 0 in source.shape:
        source.close()
        raise ValueError(f"`{name}` has shape {source.shape}; expected at least one sample.")
    if source.dtype.kind not in "biufc":
        source.close()
        raise TypeError(f"`{name}` has dtype {source.dtype}; expected real or complex numbers.")
    return source


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
    raise ValueError(f"`{name}={str(path)!r}` has no ending that is known; expected {_PATHS}.")


def open_target(value: Any, shape: tuple[int, ...], dtype: np.dtype[Any], like: StreamSource) -> StreamTarget:
    """Return the target that an argument names, for an array of `shape` and `dtype` chunked as the source is.

    Raises
    ------
    ValueError
        It is a path without a known ending; an array of another shape or dtype.
    TypeError
        It is no path, and no array.
    FileNotFoundError
        There is no such folder.
    """
    if not is_path(value):
        if not _looks_like_array(value) or not hasattr(value, "__setitem__"):
            raise TypeError(
                f"`target` is of type {type(value).__name__}; expected {_PATHS}, or an array with shape, "
                "dtype and assignment to slices."
            )
        return ArrayTarget(value, shape, dtype)
    path = Path(value)
    named = hdf5.split(path)
    if not (named[0] if named else path).absolute().parent.is_dir():
        raise FileNotFoundError(f"`target={str(path)!r}`: there is no such folder; make it first.")
    if named:
        return hdf5.hdf_target(*named, shape, dtype)
    if path.suffix.lower() == ".zarr":
        return zarrs.ZarrTarget(path, shape, dtype, getattr(like, "array", None))
    if path.suffix.lower() == ".npy":
        return npy.npy_target(path, shape, dtype)
    raise ValueError(f"`target={str(path)!r}` has no ending that is known; expected {_PATHS}.")
