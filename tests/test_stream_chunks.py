"""Chunks and shards of zarr, decoded and encoded by threads of ours; the budget that these share."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import separable as sp
from separable.files.guard import FileError
from separable.stream.budget import ThreadBudget
from separable.stream.chunks.ahead import ReadAhead
from separable.stream.chunks.codec import codec_of
from separable.stream.chunks.grid import touched
from separable.stream.parts import Region, alone

zarr = pytest.importorskip("zarr")
KERNEL = sp.families.gaussian([1.0, 1.0])


def picture() -> np.ndarray:
    return np.random.default_rng(2).integers(0, 99, (50, 40)).astype(np.float32)


def codecs() -> list[dict[str, Any]]:
    from zarr.codecs import BloscCodec, Crc32cCodec, GzipCodec, ShardingCodec, ZstdCodec

    shards: Any = {
        "chunks": (16, 16),
        "serializer": ShardingCodec(chunk_shape=(8, 8), index_location="start"),
        "compressors": None,
    }
    return [
        {"compressors": GzipCodec()},
        {"compressors": BloscCodec(shuffle="bitshuffle")},
        {"compressors": [ZstdCodec(checksum=True), Crc32cCodec()]},
        {"compressors": None, "dtype": ">f4"},
        {"shards": (16, 24)},
        {"shards": (16, 8), "compressors": Crc32cCodec()},
        shards,
        {"fill_value": 7.0, "chunk_key_encoding": {"name": "v2", "separator": "."}},
        {"zarr_format": 2, "order": "F"},
        {"zarr_format": 2, "compressors": None, "fill_value": None},
    ]


@pytest.mark.parametrize("how", codecs(), ids=str)
def test_what_zarr_writes_is_read_and_what_is_written_zarr_reads(tmp_path: Path, how: dict[str, Any]) -> None:
    x = picture()
    x[:8, :8] = 7.0  # a chunk that may not be stored
    how = {"dtype": "f4", "chunks": (8, 8), **how}
    source = zarr.create_array(str(tmp_path / "x.zarr"), shape=x.shape, **how)
    source[:] = x
    assert codec_of(source) is not None
    sp.stream.filter(source, tmp_path / "y.zarr", np.ones((1, 1)))
    result = zarr.open(str(tmp_path / "y.zarr"), mode="r")
    np.testing.assert_array_equal(result[:], x)
    assert result.chunks == source.chunks
    assert result.shards == source.shards


def test_codecs_that_are_not_known_are_left_to_zarr(tmp_path: Path) -> None:
    from zarr.codecs import TransposeCodec

    x = picture()
    how: Any = {"chunks": (8, 8), "filters": TransposeCodec(order=(1, 0))}
    source = zarr.create_array(str(tmp_path / "x.zarr"), data=x, **how)
    target = zarr.create_array(str(tmp_path / "y.zarr"), shape=x.shape, dtype="f4", **how)
    assert codec_of(source) is None
    sp.stream.filter(tmp_path / "x.zarr", target, KERNEL)
    np.testing.assert_array_equal(target[:], sp.correlate(x, KERNEL))


def test_chunks_of_zeros_are_not_stored(tmp_path: Path) -> None:
    x = np.zeros((32, 32), np.float32)
    x[0, 0] = 1.0
    zarr.create_array(str(tmp_path / "x.zarr"), data=x, chunks=(8, 8), shards=(16, 16))
    zarr.create_array(str(tmp_path / "z.zarr"), data=x, chunks=(8, 8))
    for name, count in (("x", 1), ("z", 1)):
        sp.stream.filter(tmp_path / f"{name}.zarr", tmp_path / f"y{name}.zarr", np.ones((1, 1)))
        files = [path for path in (tmp_path / f"y{name}.zarr" / "c").rglob("*") if path.is_file()]
        assert len(files) == count


@pytest.mark.parametrize("shards", [None, (16, 16)])
def test_a_damaged_chunk_is_named(tmp_path: Path, shards: Any) -> None:
    zarr.create_array(str(tmp_path / "x.zarr"), data=picture(), chunks=(8, 8), shards=shards)
    path = next(path for path in (tmp_path / "x.zarr" / "c").rglob("*") if path.is_file())
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(FileError, match=r"x\.zarr` is not a readable zarr file"):
        sp.stream.filter(tmp_path / "x.zarr", tmp_path / "y.zarr", KERNEL)


def test_no_setting_of_the_process_is_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from numcodecs import blosc

    before = zarr.config.to_dict() if hasattr(zarr.config, "to_dict") else dict(zarr.config.config)
    threads = blosc.use_threads, blosc.get_nthreads()
    decoders = set()
    decode = blosc.Blosc.decode

    def watched(self: Any, buf: Any, out: Any = None) -> Any:
        decoders.add(threading.current_thread().name.split("_")[0])
        return decode(self, buf, out)

    monkeypatch.setattr(blosc.Blosc, "decode", watched)
    zarr.create_array(
        str(tmp_path / "x.zarr"), data=picture(), chunks=(8, 8), compressors=zarr.codecs.BloscCodec()
    )
    sp.stream.filter(tmp_path / "x.zarr", tmp_path / "y.zarr", KERNEL, threads=2)
    assert decoders == {"separable-stream"}
    assert (blosc.use_threads, blosc.get_nthreads()) == threads
    assert before == (zarr.config.to_dict() if hasattr(zarr.config, "to_dict") else dict(zarr.config.config))


def test_tasks_and_filters_share_one_number_of_threads() -> None:
    budget, lock, working, most = ThreadBudget(3), threading.Lock(), 0, 0

    def work(count: int = 1) -> None:
        nonlocal working, most
        with lock:
            working += count
            most = max(most, working)
        time.sleep(0.002)
        with lock:
            working -= count

    batch = budget.start([alone(work)] * 30)
    for _ in range(5):
        with budget.most() as threads:
            assert 1 <= threads <= 3
            work(threads)
    batch.wait()
    with budget.most() as threads:
        assert threads == 3  # all are free again
    assert most == 3
    budget.close()


def test_a_failed_task_stops_those_that_were_not_begun() -> None:
    budget, done = ThreadBudget(1), []

    def fail() -> None:
        raise KeyError("here")

    batch = budget.start(
        [alone(lambda: done.append(1)), alone(fail), *[alone(lambda: time.sleep(0.01))] * 50]
    )
    with pytest.raises(KeyError, match="here"):
        batch.wait()
    with budget.most() as threads:
        assert threads == 1
    budget.close()
    assert done == [1]


def test_reading_ahead_is_bounded_and_in_order() -> None:
    read = list[int]()

    def slow(key: int) -> int:
        read.append(key)
        return -key

    ahead = ReadAhead(slow, 3)
    ahead.expect(range(10))
    time.sleep(0.05)
    assert sorted(read) == [0, 1, 2]
    assert [ahead.get(key) for key in range(10)] == [-key for key in range(10)]
    assert ahead.get(77) == -77  # what was not expected is read now
    assert sorted(read) == [*range(10), 77]
    ahead.close()


def test_the_grid_of_a_box() -> None:
    places = list(touched(((3, 9), (0, 4)), (4, 4)))
    assert [place.number for place in places] == [(0, 0), (1, 0), (2, 0)]
    assert places[0].in_box == (slice(0, 1), slice(0, 4))
    assert places[0].in_chunk == (slice(3, 4), slice(0, 4))
    assert places[2].in_chunk == (slice(0, 1), slice(0, 4))
    assert Region((1, 2), (3, 4)).box((9, 9, 9)) == ((1, 2), (3, 4), (0, 9))
    assert Region((1, 2)).within(1, 0) == (slice(0, 1),)
