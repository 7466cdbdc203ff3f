"""The benchmark of streams runs, at tiny size."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import streams
from benchmarks.memory import MIB

pytest.importorskip("zarr")
pytest.importorskip("resource")


def test_a_stream_stands_beside_its_codecs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "PROMISES", (1024,))
    bench = streams._Bench(tmp_path, "zstd", 1, bounded=False)
    with bench.volume(streams.Size((20, 24, 28), 16)):
        quantities = {q.label: q.value for q in (*bench.beside_codecs(), *bench.with_levels())}
    assert len(quantities) == 10
    assert quantities["zstd, 5 levels within 1024 MiB: CPU time over that without smaller ones"] > 0
    assert all(value > 0 for value in quantities.values())
    assert quantities["zstd, within 1024 MiB: bytes read over those of the source"] == 1
    assert 20 < quantities["zstd, within 1024 MiB: peak memory, with the interpreter"] < 1024 * MIB
    assert not list(tmp_path.iterdir())


def test_the_size_is_a_parameter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEPARABLE_STREAM_SHAPE", "1536x1024x1024")
    assert streams._shape("SHAPE", "1x1x1") == (1536, 1024, 1024)
