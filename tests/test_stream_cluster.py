"""Slabs on a cluster of Dask: the same result, whoever dies, and what is finished is kept."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import Run

import separable as sp
from separable.stream import cluster as clusters
from separable.stream.cluster import Cluster
from separable.stream.journal import Journal, JournalError, journal_of

dask = pytest.importorskip("dask")
distributed = pytest.importorskip("distributed")
zarr = pytest.importorskip("zarr")

Array = np.ndarray[Any, Any]
KERNEL = sp.families.gaussian([1.0, 1.0, 1.0])
pytestmark = pytest.mark.filterwarnings("default")  # distributed's sockets end when they like


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """Two processes with a thread each, which are started again when they die."""
    settings = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0"}
    with (
        distributed.LocalCluster(processes=True, **settings) as local,
        distributed.Client(local, set_as_default=False) as connected,
    ):
        yield connected


@pytest.fixture(autouse=True)
def long_slabs(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if slabs of a few indices were long."""
    monkeypatch.setattr("separable.stream.slabs._SLAB_BYTES", 1 << 12)
    monkeypatch.setattr("separable.stream.slabs._HALOS", 1)
    monkeypatch.setattr("separable.stream.slabs._LONGER", 1)


def volume(dtype: str = "f4") -> Array:
    return np.random.default_rng(3).integers(0, 900, (96, 24, 20)).astype(dtype)


def stored(x: Array, path: Path) -> Path:
    if path.suffix == ".npy":
        np.save(path, x)
    else:
        zarr.create_array(str(path), data=x, chunks=(8, 24, 20))
    return path


def result_of(path: Path) -> Array:
    return np.load(path) if path.suffix == ".npy" else zarr.open(str(path), mode="r")[:]


def planned(
    tmp_path: Path, suffix: str = ".npy", x: Array | None = None, **asked: Any
) -> tuple[sp.stream.StreamPlan, Path]:
    source = stored(volume() if x is None else x, tmp_path / f"x{suffix}")
    target = tmp_path / f"y{suffix}"
    plan = sp.stream.plan(source, KERNEL, target=target, memory="4GiB", **asked)
    assert plan.units >= 6
    return plan, target


@pytest.mark.parametrize("suffix", [".npy", ".zarr"])
def test_a_worker_that_dies_costs_nothing_but_its_slabs(client: Any, tmp_path: Path, suffix: str) -> None:
    plan, target = planned(tmp_path, suffix, mode="wrap")
    told, killed = list[tuple[int, int]](), list[int]()

    def kill(done: int, total: int) -> None:
        told.append((done, total))
        if done == 1:
            killed.append(next(iter(client.run(os.getpid).values())))
            os.kill(killed[0], signal.SIGKILL)

    plan.run(progress=kill, distributed=client)
    assert killed
    assert told == [(done, plan.units) for done in range(plan.units + 1)]
    expected = sp.correlate(volume(), KERNEL, mode="wrap", method=plan.method)
    np.testing.assert_array_equal(result_of(target), expected)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"x{suffix}", f"y{suffix}"]


def test_a_run_goes_on_where_it_stopped(client: Any, tmp_path: Path) -> None:
    plan, target = planned(tmp_path)

    class Stop(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done == 3:
            raise Stop

    with pytest.raises(Stop):
        plan.run(progress=stop, distributed=client)
    assert journal_of(str(target)).exists()
    assert not target.exists()
    told = list[int]()
    plan.run(progress=lambda done, total: told.append(done), distributed=client.scheduler.address)
    assert told[0] == 3
    np.testing.assert_array_equal(result_of(target), sp.correlate(volume(), KERNEL, method=plan.method))


def test_what_a_cluster_began_goes_on_in_one_process(client: Any, tmp_path: Path) -> None:
    plan, target = planned(tmp_path, ".zarr")

    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        plan.run(progress=stop, distributed=client)
    plan.run()
    np.testing.assert_array_equal(result_of(target), sp.correlate(volume(), KERNEL, method=plan.method))


def test_results_that_all_samples_decide(client: Any, tmp_path: Path) -> None:
    x = volume("f8")
    plan, target = planned(tmp_path, x=x, dtype="i8", rounding="truncate")
    assert plan._storage.clips
    plan.run(distributed=client)
    expected = sp.correlate(x, KERNEL, output="i8", rounding="truncate", method=plan.method)
    np.testing.assert_array_equal(result_of(target), expected)


def test_masks(client: Any, tmp_path: Path) -> None:
    mask = np.random.default_rng(4).random(volume().shape) < 0.8
    known = stored(mask, tmp_path / "known.npy")
    plan, target = planned(tmp_path, mask=known)
    plan.run(distributed=client)
    expected = sp.correlate(volume(), KERNEL, mask=mask, method=plan.method)
    np.testing.assert_array_equal(result_of(target), expected)


def test_places_that_are_not_shared_are_refused(tmp_path: Path) -> None:
    x = volume()
    plan = sp.stream.plan(x, KERNEL, target=tmp_path / "y.npy", memory="4GiB")
    with pytest.raises(ValueError, match=r"`source` is a .*ndarray.*paths that all workers see"):
        plan.run(distributed="tcp://127.0.0.1:1")
    pytest.importorskip("nibabel")
    source = stored(x, tmp_path / "x.npy")
    plan = sp.stream.plan(source, KERNEL, target=np.empty_like(x), memory="4GiB")
    with pytest.raises(ValueError, match="`target` is a "):
        plan.run(distributed="tcp://127.0.0.1:1")
    fortran = stored(np.asfortranarray(x), tmp_path / "f.npy")
    plan = sp.stream.plan(fortran, KERNEL, target=tmp_path / "y.nii.gz", memory="4GiB")
    with pytest.raises(ValueError, match=r"y\.nii\.gz` is written from front to back, by one process"):
        plan.run(distributed="tcp://127.0.0.1:1")


def test_no_cluster(tmp_path: Path) -> None:
    plan, _ = planned(tmp_path)
    with pytest.raises(TypeError, match=r"`distributed` is a int; expected the address"):
        plan.run(distributed=5)
    no_workers = distributed.LocalCluster(n_workers=0, processes=False, dashboard_address=":0")
    with no_workers as empty, pytest.raises(ValueError, match="has no workers"):
        plan.run(distributed=empty.scheduler_address)
    refused = pytest.raises(ConnectionError, match=r"no scheduler of Dask answers at 'tcp://127.0.0.1:1'")
    with dask.config.set({"distributed.comm.timeouts.connect": "1s"}), refused:
        plan.run(distributed="tcp://127.0.0.1:1")


def test_a_worker_with_another_program_is_refused(tmp_path: Path) -> None:
    plan, target = planned(tmp_path)
    with plan._opened(target) as job:
        header = {"source": job.places.source.identity(), **plan._facts(), "unit": plan.unit, "column": None}
        order = clusters.Order(plan._opened, str(target), job.cut, header)
        with pytest.raises(FileNotFoundError, match=r"journal of .* is not there"):
            clusters._check(order, job, "tcp://here")
        journal = Journal(str(target), header, False)
        clusters._check(order, job, "tcp://here")
        journal.close()
        for name, words in (("version", "another version"), ("source", "another source")):
            wrong = order._replace(header=header | {name: "another one"})
            with pytest.raises(JournalError, match=rf"tcp://here has {words}.*other bits"):
                clusters._check(wrong, job, "tcp://here")
    assert isinstance(Cluster("tcp://here", plan._opened), Cluster)


def test_in_a_shell(client: Any, command: Run, tmp_path: Path) -> None:
    source = stored(volume(), tmp_path / "x.npy")
    target = tmp_path / "y.npy"
    done = command(
        ["filter", str(source), str(target), "--gaussian", "1", "--distributed", client.scheduler.address]
    )
    assert (done.code, done.err) == (0, "")
    np.testing.assert_array_equal(np.load(target), sp.correlate(volume(), KERNEL, method="separable"))
    again = command(
        ["filter", str(source), str(target), "--gaussian", "2", "--distributed", "tcp://127.0.0.1:1"]
    )
    assert again.code == 1
    assert "is there already" in again.err
