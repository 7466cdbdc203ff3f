"""Gaussians of Dask arrays: tasks a chunk, processor time, mode wrap; beside dask-image and `map_overlap`."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import separable as sp
from benchmarks import libraries
from benchmarks.results import Quantity, QuantityRecord
from benchmarks.works import Array

NAME = "dask-arrays"
SIGMA, TRUNCATE, ROUNDS = 2.0, 4.0, 5
MOST_TASKS = 2.0  # a chunk, with the one that makes it
TOLERANCE = 1e-5  # of samples in [0, 1)
_Filter = Callable[[Any, str], Any]


def measure(run: str, quick: bool, progress: Callable[[str], None] = lambda text: None) -> QuantityRecord:
    """Return tasks a chunk, processor seconds and wrong results of each way."""
    import dask.array as da
    from scipy import ndimage

    side, chunk, rounds = (48, 16, 1) if quick else (384, 64, ROUNDS)
    scan = np.random.default_rng(0).random((side,) * 3, dtype=np.float32)
    x = da.from_array(scan, chunks=(chunk,) * 3)
    ways = _ways()
    quantities = [_tasks(who, way(x, "reflect"), x) for who, way in ways.items()]
    seconds: dict[str, list[float]] = {who: [] for who in ways}
    for number in range(rounds):
        for who, way in ways.items():
            progress(f"{NAME}: {who}, round {number + 1} of {rounds}")
            seconds[who].append(_processor_seconds(way(x, "reflect")))
    quantities += [_seconds(who, taken, f"{side}^3 in chunks of {chunk}^3") for who, taken in seconds.items()]
    small = scan[:48, :48, :48]
    expected = ndimage.gaussian_filter(small.astype(float), SIGMA, mode="wrap", truncate=TRUNCATE)
    for who, way in ways.items():
        result = way(da.from_array(small, chunks=(16,) * 3), "wrap").compute(scheduler="synchronous")
        quantities.append(_wrong(who, result, expected))
    title = f"Gaussian of sigma {SIGMA:g} on a Dask array of float32"
    return QuantityRecord(NAME, "Arrays of Dask", title, run, quick, quantities)


def _ways() -> dict[str, _Filter]:
    """Return the ways to filter, by who does it: those that are installed."""
    ways: dict[str, _Filter] = {
        "separable.dask": lambda x, mode: sp.dask.gaussian(x, SIGMA, mode=mode, threads=1)
    }
    depth = int(TRUNCATE * SIGMA + 0.5)

    def overlapped(x: Any, mode: str) -> Any:
        boundary = {"reflect": "reflect", "wrap": "periodic"}[mode]
        call = {"depth": depth, "boundary": boundary, "meta": np.empty((0,) * 3, np.float32)}
        return x.map_overlap(sp.gaussian, sigma=SIGMA, threads=1, **call)

    ways["map_overlap of separable"] = overlapped
    peer: Any = libraries.load("dask_image.ndfilters")
    if peer is not None:
        ways["dask-image"] = lambda x, mode: peer.gaussian_filter(x, SIGMA, mode=mode, truncate=TRUNCATE)
    return ways


def _tasks(who: str, result: Any, x: Any) -> Quantity:
    """Return the tasks of a graph as it is computed, for each chunk."""
    from dask.base import optimize

    (optimised,) = optimize(result)
    count = len(dict(optimised.__dask_graph__())) / x.npartitions
    bound = MOST_TASKS if who == "separable.dask" else None
    return Quantity(f"tasks a chunk, {who}", count, count, count, "tasks", bound)


def _processor_seconds(result: Any) -> float:
    import dask.array as da

    target = np.empty(result.shape, result.dtype)
    began = time.process_time()
    da.store(result, target, scheduler="synchronous", lock=False)
    return time.process_time() - began


def _seconds(who: str, taken: list[float], label: str) -> Quantity:
    median = statistics.median(taken)
    return Quantity(f"processor time, {label}, {who}", median, min(taken), max(taken), "s")


def _wrong(who: str, result: Array, expected: Array) -> Quantity:
    """Return the share of samples that are not those of SciPy in mode wrap, in per cent."""
    share = 100 * float((np.abs(result - expected) > TOLERANCE).mean())
    bound = 0.0 if who == "separable.dask" else None
    return Quantity(f"wrong samples in mode wrap, {who}", share, share, share, "%", bound)
