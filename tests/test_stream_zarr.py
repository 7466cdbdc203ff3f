"""Sources and targets of zarr and HDF5."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import separable as sp

zarr = pytest.importorskip("zarr")
KERNEL = sp.families.gaussian([1.5, 1.0, 1.0])


def volume() -> np.ndarray:
    return np.random.default_rng(3).random((70, 30, 30), np.float32)


@pytest.mark.parametrize("form", [2, 3])
@pytest.mark.parametrize("shards", [None, (32, 32, 32)])
def test_zarr(tmp_path: Path, form: int, shards: Any) -> None:
    if form == 2 and shards:
        pytest.skip("format 2 has no shards")
    x, path = volume(), str(tmp_path / "x.zarr")
    made = zarr.create_array(
        path, shape=x.shape, dtype=x.dtype, chunks=(16, 16, 16), shards=shards, zarr_format=form
    )
    made[:] = x
    expected = sp.correlate(x, KERNEL)
    for number, source in enumerate((path, zarr.open(path, mode="r"))):
        target = tmp_path / f"y{number}.zarr"
        sp.stream.filter(source, target, KERNEL)
        result = zarr.open(str(target), mode="r")
        np.testing.assert_array_equal(result[:], expected)
        assert (result.chunks, result.shards) == ((16, 16, 16), shards)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.zarr", "y0.zarr", "y1.zarr"]


def test_what_is_not_compressed_stays_so(tmp_path: Path) -> None:
    zarr.create_array(str(tmp_path / "x.zarr"), data=volume(), chunks=(20, 30, 30), compressors=None)
    sp.stream.filter(tmp_path / "x.zarr", tmp_path / "y.zarr", KERNEL)
    assert zarr.open(str(tmp_path / "y.zarr"), mode="r").compressors == ()


def test_slabs_end_where_chunks_do(tmp_path: Path) -> None:
    x = volume()
    target = zarr.create_array(str(tmp_path / "y.zarr"), shape=x.shape, dtype="uint16", chunks=(24, 8, 8))
    least = sp.stream.plan(x, KERNEL, target=target, dtype="uint16").least_memory
    plan = sp.stream.plan(x * 1000, KERNEL, target=target, dtype="uint16", memory=least + (30 << 10))
    assert plan.unit in (24, 48)
    plan.run()
    np.testing.assert_array_equal(target[:], sp.correlate(x * 1000, KERNEL, output="uint16"))


def test_a_group_is_refused_with_the_names_of_its_arrays(tmp_path: Path) -> None:
    group = zarr.open_group(str(tmp_path / "g.zarr"), mode="w")
    group.create_array("raw", shape=(3, 3, 3), dtype="f4")
    with pytest.raises(ValueError, match=r"is a group of zarr.*g.zarr/raw"):
        sp.stream.plan(tmp_path / "g.zarr", KERNEL)
    assert sp.stream.plan(tmp_path / "g.zarr" / "raw", KERNEL).shape == (3, 3, 3)


def test_hdf5(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    x = volume()
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("scan/raw", data=x, chunks=(16, 16, 16), compression="gzip")
        file["other"] = x[:5]
    with pytest.raises(ValueError, match="2 data sets"):
        sp.stream.plan(tmp_path / "x.h5", KERNEL)
    with pytest.raises(ValueError, match="no data set 'none'"):
        sp.stream.plan(tmp_path / "x.h5" / "none", KERNEL)
    sp.stream.filter(tmp_path / "x.h5" / "scan/raw", tmp_path / "y.h5" / "a" / "b", KERNEL)
    with h5py.File(tmp_path / "y.h5") as file:
        np.testing.assert_array_equal(file["a/b"][:], sp.correlate(x, KERNEL))
    sp.stream.filter(tmp_path / "y.h5", tmp_path / "z.hdf5", KERNEL, dtype="float64")
    with h5py.File(tmp_path / "z.hdf5") as file:
        assert file["data"].dtype == np.float64
