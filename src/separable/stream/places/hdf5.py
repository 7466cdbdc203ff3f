"""Data sets of HDF5: read as h5py slices them, written as one contiguous block."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..._base.extras import extra
from ...files.guard import reading
from .arrays import ArraySource
from .flat import FlatTarget, Layout
from .ngff import hdf_header

SUFFIXES = (".h5", ".hdf5")
_DEFAULT = "data"
_KIND = "HDF5"


def split(path: Path) -> tuple[Path, str] | None:
    """Return the file and the name of the data set ("": none) of a path such as ``scan.h5/raw``, or None."""
    for place in (path, *path.parents):
        if place.suffix.lower() in SUFFIXES:
            return place, "" if place == path else path.relative_to(place).as_posix()
    return None


class HdfSource(ArraySource):
    """A data set of a file."""

    def __init__(self, path: Path, name: str) -> None:
        with extra("volumes"):
            import h5py
        with reading(path, _KIND):
            self._file = h5py.File(path, "r")
        self._path = path
        try:
            data_set = self._data_set(h5py, path, name)
            super().__init__(data_set, f"`{path}`", hdf_header(data_set))
        except BaseException:
            self._file.close()
            raise

    def _data_set(self, h5py: Any, path: Path, name: str) -> Any:
        names: list[str] = []
        self._file.visititems(
            lambda key, item: names.append(key) if isinstance(item, h5py.Dataset) and item.ndim else None
        )
        if not name and len(names) == 1:
            name = names[0]
        if name not in names:
            listed = ", ".join(f"'{path}/{known}'" for known in names[:8]) or "none"
            raise ValueError(
                f"`{path}` has no data set {name!r}; it has {listed}."
                if name
                else f"`{path}` has {len(names)} data sets, so that one must be named: {listed}."
            )
        return self._file[name]

    def read(self, begin: int, end: int, into: Any) -> None:
        """Read a part, in place along the first axis; FileError where a chunk is damaged."""
        with reading(self._path, _KIND):
            if self.order == "C":
                self.array.read_direct(into, np.s_[begin:end])
            else:
                super().read(begin, end, into)

    def identity(self) -> str:
        """Return where it lies, the file's size and the time of its last change."""
        state = self._path.stat()
        return f"{self._path.resolve()} {self.array.name} {state.st_size} {state.st_mtime_ns}"

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def hdf_target(path: Path, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> FlatTarget:
    """Return the target of a data set in a new file: its samples lie in one block, written directly."""
    with extra("volumes"):
        import h5py

    key = (name or _DEFAULT).encode()

    def prepare(draft: Path) -> None:
        layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        layout.set_layout(h5py.h5d.CONTIGUOUS)
        layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        with h5py.File(draft, "w") as file:
            groups = h5py.h5p.create(h5py.h5p.LINK_CREATE)
            groups.set_create_intermediate_group(True)
            space, kind = h5py.h5s.create_simple(shape), h5py.h5t.py_create(dtype, logical=True)
            h5py.h5d.create(file.id, key, kind, space, dcpl=layout, lcpl=groups)

    def locate(draft: Path) -> int:
        with h5py.File(draft, "r") as file:
            return int(h5py.h5d.open(file.id, key).get_offset())

    return FlatTarget(path, Layout(shape, "C", dtype, dtype), prepare, locate)
