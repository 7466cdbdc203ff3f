"""Reading and writing at a byte, and what a run asks of a system, where the calls of POSIX are missing."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import separable as sp
from separable.stream.journal import FinishedUnit, Journal, JournalError
from separable.stream.system import memory, offsets

POSIX = ("preadv", "pread", "pwrite", "fdatasync")


@pytest.fixture(params=[0, 1, 4], ids=["as here", "no preadv", "none of POSIX"])
def missing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in POSIX[: request.param]:
        monkeypatch.delattr(os, name, raising=False)


@pytest.mark.usefixtures("missing")
def test_bytes_are_read_and_written_at_their_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offsets, "_COPIED", 5)
    monkeypatch.setattr(offsets, "_LARGEST", 7)
    handle = os.open(tmp_path / "a", os.O_RDWR | os.O_CREAT | offsets.BINARY)
    offsets.write_at(handle, b"hello, world and all", 3)
    into = bytearray(30)
    assert offsets.fill_from(handle, memoryview(into), 4) == 19
    assert into[:19] == b"ello, world and all"
    assert offsets.read_at(handle, memoryview(into), 99) == 0
    os.close(handle)


@pytest.mark.usefixtures("missing")
def test_a_stream_runs(tmp_path: Path) -> None:
    x = np.random.default_rng(0).random((20, 8, 8), np.float32)
    kernel = sp.families.gaussian([1.0, 1.0, 1.0])
    np.save(tmp_path / "x.npy", x)
    sp.stream.filter(tmp_path / "x.npy", tmp_path / "y.npy", kernel)
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), sp.correlate(x, kernel))
    pytest.importorskip("zarr")
    sp.stream.filter(tmp_path / "x.npy", tmp_path / "y.zarr", kernel)
    sp.stream.filter(tmp_path / "y.zarr", tmp_path / "z.npy", np.ones((1, 1, 1)))
    np.testing.assert_array_equal(np.load(tmp_path / "z.npy"), sp.correlate(x, kernel))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.npy", "y.npy", "y.zarr", "z.npy"]


def test_the_memory_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    here = memory.resident()
    assert 10 << 20 < here < 1 << 40
    monkeypatch.setattr(memory, "_STATM", Path("/no/such/file"))
    if sys.platform != "win32":
        assert memory.resident() >= here // 2
    monkeypatch.setitem(sys.modules, "resource", None)
    monkeypatch.setattr(sys, "platform", "win32")
    assert memory.resident() > 10 << 20


def test_a_journal_where_files_are_locked_by_msvcrt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = set[int]()

    def locking(handle: int, mode: int, count: int) -> None:
        inode = os.fstat(handle).st_ino
        if inode in held:
            raise OSError("locked")
        held.add(inode)

    monkeypatch.setitem(sys.modules, "msvcrt", SimpleNamespace(locking=locking, LK_NBLCK=2))
    monkeypatch.setattr(sys, "platform", "win32")
    target = str(tmp_path / "y.npy")
    journal = Journal(target, {"unit": 1}, True)
    with pytest.raises(JournalError, match="is being written by process"):
        Journal(target, {"unit": 1}, True)
    journal.append(FinishedUnit(0, 1, 4))
    journal.remove()
    assert not list(tmp_path.iterdir())
