"""Measuring what filters cost on this machine, once: the rates that plans choose by.

Some two hundred filters of many kinds and sizes are timed on one thread, and the rates of `cost.model` are
fitted to the times. CPU time is measured, not wall-clock time, so that other work on the machine disturbs
little.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

import numpy as np

from ._base.types import Array
from ._core import core_info, force
from .arrays.arguments import Method
from .cost import model as costs
from .families import rotated_gaussian
from .filters.plan import Plan, plan
from .kernel.value import SeparableKernel

Progress: TypeAlias = Callable[[int, int], None]

DTYPES: Final = ("float32", "float64")

ROUNDS: Final = 5  # readings per filter; the least counts
_LEAST: Final = 1e-3  # minimum seconds of one reading: shorter calls are repeated

# Maximum work of one filter, in taps or weights times samples: longer runs add no information.
_MOST_WORK: Final = 4e8


class Case(NamedTuple):
    """One filter to time: a kernel, the shape of an array, and the way to run it."""

    kernel: SeparableKernel | Array
    shape: tuple[int, ...]
    method: Method
    tol: float | None = None


class Fit(NamedTuple):
    """Fitted rates, the timed cases, and the relative error of each predicted time."""

    rates: dict[str, float]
    cases: list[Case]
    nanoseconds: list[float]
    errors: list[float]


def calibrate(
    file: Path | None = None,
    every_target: bool = False,
    progress: Progress = lambda done, of: None,
) -> dict[str, dict[str, Fit]]:
    """Measure this machine and keep its rates.

    Parameters
    ----------
    file : Path, optional
        Where to write; in the user's cache directory by default.
    every_target : bool, optional
        Measure all instruction sets that the machine has, not only the one that filters use.
    progress : callable, optional
        Called with the number of readings taken, and their total.

    Returns
    -------
    dict of dict of Fit
        By instruction set and dtype.
    """
    work, info = cases(), core_info()
    targets = info["targets"] if every_target else [info["target"]]
    total = len(targets) * len(DTYPES) * ROUNDS * len(work)
    steps = itertools.count(1)
    fits_of: dict[str, dict[str, Fit]] = {}
    try:
        for target in targets:
            force(target)
            fits_of[target] = {
                dtype: measured(dtype, work, lambda: progress(next(steps), total)) for dtype in DTYPES
            }
    finally:
        force(None if info["target"] == info["targets"][-1] else info["target"])
    rates = {target: {dtype: fit.rates for dtype, fit in fits.items()} for target, fits in fits_of.items()}
    file = costs.cache_file() if file is None else file
    costs.save(file, {**costs.load(file), **rates})
    return fits_of


def cases() -> list[Case]:
    """Return the filters to time."""
    return [case for case in (*_swept(), *_in_sequence(), *_transformed()) if _work(case) <= _MOST_WORK]


def _swept() -> Iterator[Case]:
    """Yield passes and dense sweeps of all kinds: few and many taps, folded or not, in L3 and beyond."""
    rng = np.random.default_rng(1)
    shapes = [(20, 20), (64, 64), (256, 256), (1000, 1000), (3000, 3000), (64, 64, 64), (200, 200, 200)]
    for shape, n, folds in itertools.product(shapes, (3, 5, 13, 31, 65), (True, False)):
        for rank in (1, 3, 8):
            if rank == 1 or (n > 5 and rank == 3) or math.prod(shape) < 1e5:
                terms = [[_taps(rng, n, folds) for _ in shape] for _ in range(rank)]
                yield Case(SeparableKernel(terms), shape, "separable")
        for axis in range(len(shape)) if n in (3, 31) else ():
            alone = [_taps(rng, n, folds) if a == axis else np.ones(1) for a in range(len(shape))]
            yield Case(SeparableKernel([alone]), shape, "separable")
    for shape, n, folds in itertools.product(shapes, (3, 5, 7, 11, 25), (True, False)):
        weights = rng.random((n,) * len(shape))
        yield Case(weights + np.flip(weights, -2) if folds else weights, shape, "direct")
    for shape, n in itertools.product(shapes[2:], (15, 61)):
        yield Case(SeparableKernel([[np.full(n, 1 / n) for _ in shape]]), shape, "box")


def _in_sequence() -> Iterator[Case]:
    """Yield cascades, in cache and beyond L3: only they have an array between two filters."""
    ridge = rotated_gaussian((4.0, 1.6), 0.5)  # its cascade is found in a tenth of a second
    for shape in ((256, 256), (1000, 1000), (3000, 3000)):
        yield Case(ridge, shape, "cascade", 1e-2)


def _transformed() -> Iterator[Case]:
    rng = np.random.default_rng(2)
    shapes = [
        (64, 64),
        (300, 300),
        (1024, 1024),
        (2200, 2200),
        (50, 50, 50),
        (128, 128, 128),
        (200, 200, 200),
    ]
    for shape, n in itertools.product(shapes, (9, 31, 65)):
        if n ** len(shape) < math.prod(shape):
            yield Case(rng.random((n,) * len(shape)), shape, "fft")


def _taps(rng: np.random.Generator, n: int, folds: bool) -> Array:
    taps = rng.random(n)
    return taps + taps[::-1] if folds else taps


def _work(case: Case) -> float:
    kernel, samples = case.kernel, math.prod(case.shape)
    if isinstance(kernel, SeparableKernel):
        return float(samples * (kernel.macs if case.method == "separable" else 3))
    return float(samples * (kernel.size if case.method == "direct" else 30))


def measured(dtype: str, work: Sequence[Case], step: Callable[[], None] = lambda: None) -> Fit:
    """Time filters of one dtype in rounds, and return the rates fitted to the least times."""
    plans = [
        plan(case.kernel, case.shape, dtype, method=case.method, threads=1, tol=case.tol) for case in work
    ]
    most = max(math.prod(case.shape) for case in work)
    memory = np.random.default_rng(0).random(most).astype(dtype), np.zeros(most, dtype)
    best = [math.inf] * len(work)
    for _ in range(ROUNDS):
        for n, made in enumerate(plans):
            x, out = (line[: math.prod(made.shape)].reshape(made.shape) for line in memory)
            best[n] = min(best[n], _reading(made, x, out))
            step()
    counts = [made.cost.counts for made in plans]
    rates = costs.fit(counts, best, costs.RATES)
    errors = [
        sum(count * rates[name] for name, count in row.items()) / least - 1
        for row, least in zip(counts, best, strict=True)
    ]
    return Fit(rates, list(work), best, errors)


def _reading(made: Plan, x: Array, out: Array) -> float:
    """Return the nanoseconds of CPU time of one call."""
    start = time.perf_counter()
    made(x, out)
    calls = max(1, math.ceil(_LEAST / max(time.perf_counter() - start, 1e-7)))
    begin = time.process_time_ns()
    for _ in range(calls):
        made(x, out)
    return (time.process_time_ns() - begin) / calls
