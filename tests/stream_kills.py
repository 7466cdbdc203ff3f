"""Runs that are killed at random moments: nothing finished is lost, and two units at most are repeated.

``python -m tests.stream_kills 30``: so many SIGKILLs, for a target of .npy, one of zarr and a picture of
OME-Zarr with smaller levels, in slabs and in columns; half of them within the append of a record to the
journal, after a random number of its bytes.
"""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

import separable as sp
from separable.stream.journal import journal_of
from separable.stream.places.flat import draft_of

KERNEL = sp.families.gaussian([2.0, 1.0, 1.0])
SHAPE = (160, 24, 24)

# Filters in units of 8; says which is begun; slowly, so that it can be killed. It kills itself within the
# record number `at`, once `bytes_` of it are written, if `at` is not negative.
_RUN = """
import dataclasses, os, signal, sys, time
import separable as sp
from separable.stream import journal, pipeline
source, target, width, at, bytes_, pause = sys.argv[1], sys.argv[2], *map(float, sys.argv[3:])
kernel = sp.families.gaussian([2.0, 1.0, 1.0])
levels = 2 if ".ome" in target else 0
plan = sp.stream.plan(source, kernel, target=target, memory="4GiB", pyramid=levels)
plan = dataclasses.replace(plan, unit=8, overlapped=True)
if width:
    plan = dataclasses.replace(plan, width=int(width), strip_bytes=1)
filter_, write, append, records = pipeline._filter, journal.write_at, journal.Journal.append, 0
def begun(job, slab, *rest):
    print("begun", slab.unit, flush=True)
    filter_(job, slab, *rest)
    time.sleep(pause)
def torn(handle, data, place):
    if len(data) == 32 and records == at:
        write(handle, data[: int(bytes_)], place)
        os.kill(os.getpid(), signal.SIGKILL)
    write(handle, data, place)
def counted(self, unit):
    global records
    append(self, unit)
    records += 1
pipeline._filter, journal.write_at, journal.Journal.append = begun, torn, counted
plan.run()
print("finished", flush=True)
"""


class Outcome(NamedTuple):
    """What a run that was killed, or not, did."""

    begun: int  # units
    recorded: int  # units, in the journal afterwards; -1 if it is not there
    finished: bool


def recorded(target: Path) -> int:
    """Return the whole records of a journal; -1 where there is none."""
    journal = journal_of(str(target))
    if not journal.exists():
        return -1
    content = journal.read_bytes()
    if len(content) < 136:
        return 0
    start = 136 + int.from_bytes(content[128:132], "little")
    return max(0, (len(content) - start) // 32)


def launched(
    source: Path, target: Path, width: int | None, record: tuple[int, int], pause: float
) -> subprocess.Popen[str]:
    """Return the process of a run, which kills itself within a record of the journal, if that is not -1."""
    words = [str(source), str(target), str(width or 0), *map(str, record), str(pause)]
    command = [sys.executable, "-c", _RUN, *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(running: subprocess.Popen[str], target: Path, said: str = "") -> Outcome:
    """Wait for the end of a run; return what it did."""
    rest, errors = running.communicate(timeout=600)
    if running.returncode not in (0, -signal.SIGKILL):
        raise AssertionError(errors)
    said += rest
    return Outcome(said.count("begun"), recorded(target), "finished" in said)


def run(source: Path, target: Path, width: int | None, chance: random.Random) -> Outcome:
    """Run the filter; kill it at a random moment, or within a random record of the journal."""
    if chance.random() < 0.5:
        record = chance.randrange(5), chance.randrange(33)
        return ended(launched(source, target, width, record, 0.0), target)
    running = launched(source, target, width, (-1, 0), 0.02)
    out = running.stdout.readline() if running.stdout else ""  # it has begun
    if out.startswith("begun"):
        time.sleep(chance.uniform(0, 0.3))
    running.send_signal(signal.SIGKILL)
    return ended(running, target, out)


def check(kills: int, suffix: str, width: int | None, folder: Path, seed: int) -> str:
    """Kill runs so often; return what was repeated. AssertionError where more was lost than is promised."""
    chance = random.Random(seed)
    samples = np.random.default_rng(seed).random(SHAPE, np.float32)
    source, target = folder / f"x{suffix[-5:]}", folder / f"y{suffix}"
    if suffix == ".npy":
        np.save(source, samples)
    else:
        import zarr

        zarr.create_array(str(source), data=samples, chunks=(8, 8, 24))
    expected = sp.correlate(samples, KERNEL)
    done, killed, repeated, most = 0, 0, 0, 0
    while killed < kills:
        outcome = run(source, target, width, chance)
        if outcome.finished or target.exists():
            _finish(source, target, width, expected)
            done = 0
            continue
        killed += 1
        if outcome.recorded < 0:  # before there was a journal
            assert done == 0
            continue
        lost = outcome.begun - (outcome.recorded - done)
        assert outcome.recorded >= done, f"{done - outcome.recorded} finished units are lost"
        assert lost <= 2, f"{lost} units are repeated, not two at most"
        done, repeated, most = outcome.recorded, repeated + lost, max(most, lost)
    _finish(source, target, width, expected)
    cut = "slabs" if width is None else f"columns of {width}"
    return f"{suffix}, {cut}: {killed} kills, {repeated} units repeated, {most} after one at most"


def _finish(source: Path, target: Path, width: int | None, expected: np.ndarray) -> None:
    """Finish what is there, check and remove it."""
    if not target.exists() or journal_of(str(target)).exists():
        ended(launched(source, target, width, (-1, 0), 0.0), target)
    if target.suffix == ".npy":
        result = np.load(target)
    else:
        import zarr

        levels = [target / name for name in "012"] if ".ome" in target.name else [target]
        result, *smaller = (zarr.open(str(level), mode="r")[...] for level in levels)
        for level in smaller:
            n = len(expected) // len(level)
            blocks = expected.astype(float).reshape([part for m in level.shape for part in (m, n)])
            np.testing.assert_allclose(level, blocks.mean((1, 3, 5)), rtol=1e-6)
    np.testing.assert_array_equal(result, expected)
    assert not journal_of(str(target)).exists()
    assert not draft_of(target).exists()
    if target.is_dir():
        shutil.rmtree(target)
    else:
        target.unlink()


def main() -> int:
    """Kill as often as the command line says, in each of six ways."""
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    ways = [(suffix, width) for suffix in (".npy", ".zarr", ".ome.zarr") for width in (None, 8)]
    for number, (suffix, width) in enumerate(ways):
        with tempfile.TemporaryDirectory() as folder:
            print(check(-(-(kills - number) // len(ways)), suffix, width, Path(folder), number), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
