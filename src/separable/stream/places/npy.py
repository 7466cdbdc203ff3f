"""NumPy's .npy: read from the file itself, in the order in which it lies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from ...files.guard import reading
from .arrays import ArraySource
from .flat import FlatSource, FlatTarget, Layout
from .place import Order, StreamSource


def npy_source(path: Path) -> StreamSource:
    """Return the array of a file; FileError where it is damaged."""
    with reading(path, "NumPy .npy"):
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    return memmap_source(mapped) or ArraySource(mapped, f"`{path}`")


def memmap_source(array: Any) -> StreamSource | None:
    """Return the file behind a whole memory map, in C or in Fortran order; None where there is none."""
    if type(array) is not np.memmap or array.filename is None or array.ndim == 0:
        return None
    if isinstance(array.base, np.ndarray):  # a part of another
        return None
    if not (array.flags.c_contiguous or array.flags.f_contiguous):
        return None
    order: Order = "C" if array.flags.c_contiguous else "F"
    native = array.dtype.newbyteorder("=")
    layout = Layout(array.shape, order, array.dtype, native, array.offset)
    return FlatSource(Path(array.filename), layout)


def npy_target(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], order: Order) -> FlatTarget:
    """Return the target of a file that is to be."""

    def prepare(draft: Path) -> None:
        header = {"descr": npy.dtype_to_descr(dtype), "fortran_order": order == "F", "shape": shape}
        with open(draft, "wb") as file:
            npy.write_array_header_2_0(file, header)

    def locate(draft: Path) -> int:
        with open(draft, "rb") as file:
            npy.read_magic(file)
            npy.read_array_header_2_0(file)
            return file.tell()

    return FlatTarget(path, Layout(shape, order, dtype, dtype), prepare, locate)
