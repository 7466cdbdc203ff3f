"""Runs that are killed, torn or refused: what is finished is kept; the result is that of a run in one go."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stream_kills

import separable as sp
from separable.stream.journal import FinishedUnit, Journal, journal_of
from separable.stream.parts import Region
from separable.stream.places import flat

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="locks and signals of POSIX")
KERNEL = sp.families.gaussian([2.0, 1.0, 1.0])
KILLS = int(os.environ.get("SEPARABLE_KILLS", "3"))

# Runs the filter on slabs of 4; says how many are done; slowly, so that it can be killed.
_RUN = """
import dataclasses, sys, time
import separable as sp
source, target, pause = sys.argv[1], sys.argv[2], float(sys.argv[3])
kernel = sp.families.gaussian([2.0, 1.0, 1.0])
plan = sp.stream.plan(source, kernel, target=target, memory="4GiB")
plan = dataclasses.replace(plan, unit=8, overlapped=True)
def tell(done, of):
    print(done, of, flush=True)
    time.sleep(pause)
plan.run(progress=tell)
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).random((160, 24, 24), np.float32))
    return tmp_path / "x.npy"


def start(source: Path, target: Path, pause: float = 0.01) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", _RUN, str(source), str(target), str(pause)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def complete(source: Path, target: Path) -> str:
    """Run to the end; return what was printed."""
    with start(source, target, 0.0) as running:
        out, errors = running.communicate(timeout=60)
    assert running.returncode == 0, errors
    return out


def units_of(target: Path) -> int:
    journal = journal_of(str(target))
    if not journal.exists():
        return -1
    content = journal.read_bytes()
    return content.count(b"unit") - content.count(b'"unit"')


def assert_whole(source: Path, target: Path) -> None:
    result = np.load(target) if target.suffix == ".npy" else opened(target)
    np.testing.assert_array_equal(result, sp.correlate(np.load(source), KERNEL))
    assert not journal_of(str(target)).exists()
    assert not flat.draft_of(target).exists()


def opened(target: Path) -> np.ndarray:
    zarr = pytest.importorskip("zarr")
    whole: np.ndarray = zarr.open(str(target), mode="r")[:]
    return whole


@pytest.mark.parametrize(("suffix", "width"), [(".npy", None), (".zarr", 8), (".ome.zarr", 8)])
def test_killed_at_random_moments(tmp_path: Path, suffix: str, width: int | None) -> None:
    if suffix != ".npy":
        pytest.importorskip("zarr")
    said = stream_kills.check(KILLS, suffix, width, tmp_path, seed=KILLS)
    assert f"{KILLS} kills" in said  # at most two units repeated after each


@pytest.mark.parametrize("bytes_", [0, 13, 32])
def test_killed_within_the_append_of_a_record(source: Path, tmp_path: Path, bytes_: int) -> None:
    target = tmp_path / "y.npy"
    running = stream_kills.launched(source, target, None, (3, bytes_), 0.0)
    begun, recorded, finished = stream_kills.ended(running, target)
    assert not finished
    assert recorded == 3 + (bytes_ == 32)
    assert begun - recorded <= 2
    complete(source, target)
    assert_whole(source, target)


def test_interrupted_from_the_keyboard(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "y.npy"
    running = start(source, target, 0.05)
    assert running.stdout is not None
    for _ in range(3):
        running.stdout.readline()
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=30)
    assert running.returncode != 0
    assert "KeyboardInterrupt" in errors
    assert units_of(target) >= 2
    complete(source, target)
    assert_whole(source, target)


def begun(source: Path, target: Path, slabs: int = 3) -> int:
    """Kill a run after some slabs; return how many it finished."""
    running = start(source, target, 0.05)
    assert running.stdout is not None
    for _ in range(slabs):
        running.stdout.readline()
    running.kill()
    running.communicate()
    return units_of(target)


@pytest.mark.parametrize("cut", [1, 17, 31])
def test_a_torn_record_is_dropped(source: Path, tmp_path: Path, cut: int) -> None:
    target = tmp_path / "y.npy"
    done = begun(source, target)
    journal = journal_of(str(target))
    os.truncate(journal, journal.stat().st_size - cut)
    out = complete(source, target)
    assert int(out.split()[0]) in (done - 1, done)
    assert_whole(source, target)


def test_a_record_with_a_wrong_bit_ends_the_journal(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "y.npy"
    begun(source, target)
    journal = journal_of(str(target))
    content = bytearray(journal.read_bytes())
    content[-20] ^= 1
    journal.write_bytes(content)
    complete(source, target)
    assert_whole(source, target)


def test_a_torn_header_begins_anew(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "y.npy"
    begun(source, target)
    os.truncate(journal_of(str(target)), 140)
    complete(source, target)
    assert_whole(source, target)


def test_another_source_or_kernel_is_refused_by_name(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "y.npy"
    begun(source, target)
    with pytest.raises(sp.stream.JournalError, match=r"was begun with another kernel.*resume='never'"):
        sp.stream.filter(source, target, sp.families.gaussian([2.0, 1.0, 1.1]))
    with pytest.raises(sp.stream.JournalError, match="another dtype"):
        sp.stream.filter(source, target, KERNEL, dtype="float64")
    with pytest.raises(sp.stream.JournalError, match="another setting"):
        sp.stream.filter(source, target, KERNEL, mode="wrap")
    x = np.load(source)
    x[0] += 1
    np.save(source, x)
    os.utime(source, ns=(1, 1))
    with pytest.raises(sp.stream.JournalError, match="another source"):
        sp.stream.filter(source, target, KERNEL)
    sp.stream.plan(source, KERNEL, target=target).run(resume="never")
    assert_whole(source, target)


def test_two_writers_are_locked_out(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "y.npy"
    running = start(source, target, 0.3)
    assert running.stdout is not None
    running.stdout.readline()
    with pytest.raises(sp.stream.JournalError, match=f"is being written by process {running.pid} on "):
        sp.stream.filter(source, target, KERNEL)
    running.kill()
    running.communicate()
    sp.stream.filter(source, target, KERNEL)
    assert_whole(source, target)


def test_killed_between_the_renaming_and_the_end_of_the_journal(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "y.npy"

    def stop(self: Journal) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Journal, "remove", stop)
        with pytest.raises(KeyboardInterrupt):
            sp.stream.filter(source, target, KERNEL)
    assert target.exists()
    sp.stream.filter(source, target, KERNEL)
    assert_whole(source, target)


def test_a_full_disk_keeps_what_is_finished(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, write = tmp_path / "y.npy", flat.FlatTarget._write

    def full(self: flat.FlatTarget, part: Region, values: Any) -> None:
        if part.rows[0] >= 80:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(self, part, values)

    monkeypatch.setattr(flat.FlatTarget, "_write", full)
    running = begun(source, target)
    with pytest.raises(OSError, match="the disk is full"):
        sp.stream.filter(source, target, KERNEL)
    assert units_of(target) >= max(running, 9)
    monkeypatch.setattr(flat.FlatTarget, "_write", write)
    sp.stream.filter(source, target, KERNEL)
    assert_whole(source, target)


def test_a_unit_that_lost_its_bytes_is_written_again(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "y.npy"
    begun(source, target)
    os.truncate(flat.draft_of(target), 5 * 24 * 24 * 4)
    sp.stream.filter(source, target, KERNEL)
    assert_whole(source, target)


def test_slabs_are_as_long_as_those_that_are_finished(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "y.npy"
    done = begun(source, target)
    plan = sp.stream.plan(source, KERNEL, target=target, memory="4GiB")
    assert plan.unit != 8
    counts = []
    plan.run(progress=lambda now, total: counts.append((now, total)))
    assert counts[0][0] >= done
    assert counts[-1] == (20, 20)
    assert_whole(source, target)


def test_longer_slabs_than_memory_allows_are_refused(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "y.npy"
    plan = sp.stream.plan(source, KERNEL, target=target, memory="4GiB")
    small = sp.stream.plan(source, KERNEL, target=target, memory=plan.least_memory + (64 << 10))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Journal, "append", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            plan.run()
    assert plan.unit == 160
    with pytest.raises(sp.stream.JournalError, match="was begun in slabs of 160, which take"):
        small.run()


def test_records(tmp_path: Path) -> None:
    target = str(tmp_path / "y.npy")
    journal = Journal(target, {"source": "a", "unit": 3}, True)
    journal.append(FinishedUnit(0, 3, 99))
    journal.close()
    again = Journal(target, {"source": "a", "unit": 5}, True)
    assert again.units == [FinishedUnit(0, 3, 99)]
    assert again.header["unit"] == 3  # as it was begun
    again.close()
