"""Columns, where whole slabs do not fit; random cuts of random files have the bits of the verb."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import separable as sp
from separable.stream.chunks import reader
from separable.stream.chunks.codec import ChunkCodec
from separable.stream.chunks.strips import Strips

zarr = pytest.importorskip("zarr")
CASES = int(os.environ.get("SEPARABLE_STREAM_CASES", "12"))
KERNEL = sp.families.gaussian([1.5, 1.0, 1.0])


def test_random_cuts_have_the_bits_of_the_verb() -> None:
    stream_cases = pytest.importorskip("stream_cases")
    assert stream_cases.run(CASES, 0) == []


def volume(path: Path, shape: tuple[int, ...] = (48, 160, 40), **how: Any) -> np.ndarray:
    x = np.random.default_rng(5).random(shape, np.float32)
    zarr.create_array(str(path), data=x, chunks=(16, 16, 16), **how)
    return x


def narrow(plan: sp.stream.StreamPlan, width: int) -> sp.stream.StreamPlan:
    """Return the plan in columns, as if memory were short."""
    return dataclasses.replace(plan, unit=16, width=width, strip_bytes=1)


def test_a_plan_takes_columns_where_slabs_do_not_fit(tmp_path: Path) -> None:
    x = np.zeros((256, 4096, 256), np.float32)
    shape: Any = {"shape": x.shape, "dtype": "f4", "chunks": (64, 64, 64)}
    source = zarr.create_array(str(tmp_path / "x.zarr"), **shape)
    target = tmp_path / "y.zarr"
    slabs = sp.stream.plan(source, KERNEL, target=target, memory="4GiB", threads=2)
    assert slabs.width is not None  # they cost less: there is less memory to touch
    assert slabs.memory < 1 << 30
    z = np.zeros((256, 64, 4096), np.float32)  # no columns: they have chunks of all the second axis
    thin = sp.stream.plan(z, KERNEL, target=target, memory="4GiB", threads=2)
    assert (thin.width, thin.columns, thin.strip_bytes) == (None, 1, 0)
    columns = sp.stream.plan(source, KERNEL, target=target, memory="300MiB", threads=2)
    assert columns.width is not None
    assert columns.width % 64 == 0
    assert columns.columns == -(-4096 // columns.width)
    assert columns.memory <= 300 << 20
    assert columns.bytes_read == x.nbytes  # halo strips are kept
    assert 0 < columns.strip_bytes < x.nbytes // 8
    assert columns.least_memory < 200 << 20 < 64 * x.nbytes // 256  # a layer of chunks
    text = str(columns)
    assert f"columns {columns.columns} of {columns.width} of 4096 along axis 1" in text
    assert "kept on the disk" in text
    assert "layers of chunks" in text
    assert f"parts of {columns.columns} columns" in repr(columns)
    with pytest.raises(ValueError, match=r"columns of 64, in parts of 64 .* at the least"):
        sp.stream.plan(source, KERNEL, target=target, memory="110MiB", threads=2)


def test_files_that_lie_as_they_are_are_read_in_columns_too(tmp_path: Path) -> None:
    x = np.random.default_rng(1).random((20, 600, 500), np.float32)
    kernel = sp.families.gaussian([1.0, 2.0, 1.0])
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "f.npy", np.asfortranarray(x))
    for name, order in (("x", "C"), ("f", "F")):
        paths: Any = tmp_path / f"{name}.npy", kernel
        least = sp.stream.plan(*paths).least_memory
        plan = sp.stream.plan(*paths, target=tmp_path / f"y{name}.npy", memory=least + (4 << 20))
        assert plan.column_axis == 1
        if order == "C":
            assert plan.width is not None
            assert plan.strip_bytes == 0
            assert plan.bytes_read > x.nbytes
            assert "halo strips are read again" in str(plan)
        else:  # its slabs are thin
            assert plan.width is None
            plan = dataclasses.replace(plan, unit=100, width=170)
        plan.run()
        result = np.load(tmp_path / f"y{name}.npy")
        output: Any = np.empty(x.shape, np.float32, "F" if order == "F" else "C")
        expected = sp.correlate(np.load(tmp_path / f"{name}.npy"), kernel, output=output)
        np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("compressors", ["auto", None])
def test_chunks_are_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compressors: Any) -> None:
    x = volume(tmp_path / "x.zarr", compressors=compressors)
    decoded, read, decode, fill = [], [], ChunkCodec.decode, reader.fill_from

    def counted(self: ChunkCodec, data: Any, into: Any) -> None:
        decoded.append(1)
        decode(self, data, into)

    def counted_bytes(handle: int, into: memoryview, place: int) -> int:
        read.append(into.nbytes)
        return fill(handle, into, place)

    monkeypatch.setattr(ChunkCodec, "decode", counted)
    monkeypatch.setattr(reader, "fill_from", counted_bytes)
    stored = sum(path.stat().st_size for path in (tmp_path / "x.zarr" / "c").rglob("*") if path.is_file())
    plan = sp.stream.plan(tmp_path / "x.zarr", KERNEL, target=tmp_path / "y.zarr", memory="4GiB")
    for width in (None, 16, 48):
        decoded.clear()
        read.clear()
        (plan if width is None else narrow(plan, width)).run()
        assert len(decoded) == 3 * 10 * 3
        assert sum(read) == stored
        np.testing.assert_array_equal(
            zarr.open(str(tmp_path / "y.zarr"), mode="r")[:], sp.correlate(x, KERNEL)
        )
        (tmp_path / "y.zarr").rename(tmp_path / f"{width}.zarr")


def test_where_the_disk_has_no_room_for_strips_chunks_are_decoded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("separable.stream.chunks.strips.write_at", full)
    x = volume(tmp_path / "x.zarr")
    narrow(sp.stream.plan(tmp_path / "x.zarr", KERNEL, target=tmp_path / "y.zarr", memory="4GiB"), 32).run()
    np.testing.assert_array_equal(zarr.open(str(tmp_path / "y.zarr"), mode="r")[:], sp.correlate(x, KERNEL))


def test_a_run_goes_on_in_the_columns_of_the_one_before(tmp_path: Path) -> None:
    x = volume(tmp_path / "x.zarr")
    plan = sp.stream.plan(tmp_path / "x.zarr", KERNEL, target=tmp_path / "y.zarr", memory="4GiB")

    def stop(done: int, total: int) -> None:
        if done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        narrow(plan, 32).run(progress=stop)
    counts = []
    plan.run(progress=lambda done, total: counts.append((done, total)))
    assert counts[0][0] in (7, 8, 9)
    assert counts[-1] == (15, 15)
    np.testing.assert_array_equal(zarr.open(str(tmp_path / "y.zarr"), mode="r")[:], sp.correlate(x, KERNEL))


def test_strips(tmp_path: Path) -> None:
    strips = Strips([(0, 20), (12, 40)], 16 * 4 * 4, tmp_path)
    assert strips.first_needed((0, 20), (0, 16)) == 12
    assert strips.first_needed((0, 20), (16, 32)) == 16
    assert strips.first_needed((0, 20), (32, 48)) == 32
    assert strips.first_needed((0, 20), (48, 64)) is None
    assert strips.first_needed((12, 40), (16, 32)) is None
    samples = np.arange(64, dtype=np.float32).reshape(4, 16)
    strips.keep("a", samples[:, 12:], 12)
    assert strips.holds("a")
    kept = strips.take("a", np.empty((4, 16), np.float32), 1, True)
    assert kept is not None
    np.testing.assert_array_equal(kept[0], samples[:, 12:])
    assert kept[1] == 12
    assert not strips.holds("a")
    assert strips.take("a", np.empty((4, 16), np.float32), 1, True) is None
    strips.close()
    assert not list(tmp_path.iterdir())
