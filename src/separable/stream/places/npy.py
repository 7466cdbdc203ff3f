"""NumPy's .npy files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from .arrays import ArraySource
from .flat import FlatSource, FlatTarget
from .place import StreamSource


def npy_source(path: Path) -> StreamSource:
    """Return the array of a file; where it is in Fortran order, by slices of a mapping."""
    mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    return memmap_source(mapped) or ArraySource(mapped, f"`{path}`")


def memmap_source(array: Any) -> StreamSource | None:
    """Return the file behind a whole memory map in C order; None where there is no such file."""
    if type(array) is not np.memmap or not array.flags.c_contiguous or not array.dtype.isnative:
        return None
    if isinstance(array.base, np.ndarray) or array.filename is None or array.ndim == 0:  # a part of another
        return None
    return FlatSource(Path(array.filename), array.offset, array.shape, array.dtype)


def npy_target(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> FlatTarget:
    """Return the target of a file that is to be."""

    def prepare(draft: Path) -> None:
        header = {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        with open(draft, "wb") as file:
            npy.write_array_header_2_0(file, header)

    def locate(draft: Path) -> int:
        with open(draft, "rb") as file:
            npy.read_magic(file)
            npy.read_array_header_2_0(file)
            return file.tell()

    return FlatTarget(path, shape, dtype, prepare, locate)
