"""NumPy's .npy: an array, without a word about its axes; and .npz, several of them by name."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..._base.types import Array
from ..guard import DEFLATE_LIMIT, FileError, check_promise, human_bytes, reading
from ..image import Image, unnamed
from ..target import replacing

SUFFIXES = (".npy",)

_LONGEST_HEADER = 10_000  # bytes; NumPy refuses more as unsafe (max_header_size); arrays of numbers take 118


def read(path: Path) -> Image:
    """Return the array of numbers in a .npy file; objects are never unpickled."""
    with reading(path, "NumPy .npy"), path.open("rb") as file:
        shape, dtype = _header(file, path)
        if dtype.hasobject or dtype.kind not in "biufc":
            raise FileError(f"`{path}` holds {dtype}, not numbers (bool, integer, float or complex).")
        check_promise(path, shape, dtype, ratio=1)
        file.seek(0)
        return unnamed(np.lib.format.read_array(file, allow_pickle=False))


def read_archive(path: Path) -> dict[str, Array]:
    """Return the arrays of a .npz file by name; none is allocated that the file cannot hold."""
    with reading(path, "NumPy .npz"), zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            with archive.open(member) as stream:
                version = np.lib.format.read_magic(stream)
                header = (
                    np.lib.format.read_array_header_1_0(stream)
                    if version == (1, 0)
                    else np.lib.format.read_array_header_2_0(stream)
                )
            check_promise(path, header[0], header[2], ratio=DEFLATE_LIMIT)
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}


def check(image: Image, dtype: np.dtype[Any], path: Path) -> tuple[str, ...]:
    """Accept every array: .npy holds any shape and any dtype of numbers."""
    return ()


def write(path: Path, image: Image) -> None:
    """Write the array; .npy holds nothing else."""
    with replacing(path) as draft, draft.open("wb") as file:
        np.lib.format.write_array(file, image.data, allow_pickle=False)


def _header(file: BinaryIO, path: Path) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    form = "<H" if version == (1, 0) else "<I"
    start = file.tell()
    length = int.from_bytes(file.read(struct.calcsize(form)), "little")
    if length > _LONGEST_HEADER:  # NumPy would allocate it first
        raise FileError(
            f"`{path}` is damaged: it says that its header has {human_bytes(length)}; expected at most "
            f"{human_bytes(_LONGEST_HEADER)}, of a file of {human_bytes(path.stat().st_size)}."
        )
    file.seek(start)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    else:
        shape, _, dtype = np.lib.format.read_array_header_2_0(file)
    return shape, dtype
