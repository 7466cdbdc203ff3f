"""A model timed in several runtimes at once, in turn, and what they give compared."""

from __future__ import annotations

import gc
import math
import os
import statistics
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Literal, TypeVar

from onnx.onnx_ml_pb2 import ModelProto

from ..._base.types import Array
from ...arrays import arguments
from ...conv.audits.differences import largest_difference
from ...conv.audits.machine import fma_peak
from ...conv.conversion.goal import count
from ..model.agreement import random_inputs
from ..model.files import read_model
from ..model.graph import GraphIndex
from ..model.lengths import Hints, input_shapes
from ..model.names import ModelError, naming
from .runtimes import ENGINE, RUNTIMES, ReadyModel, engine_runtime

__all__ = ["ModelTimes", "RuntimeTimes", "compare", "interleaved"]

K = TypeVar("K", bound=Hashable)

# Threads of other runtimes go on polling for some time after a call, and slow down whoever runs next.
REST: Final = 0.06  # seconds
_SAMPLE: Final = 2e-3  # seconds: shorter calls are timed several at a time


@dataclass(frozen=True)
class RuntimeTimes:
    """Times of a model in one runtime.

    Attributes
    ----------
    runtime, version : str
    least_ms, median_ms : float
        Of a call.
    difference : float or None
        Largest difference of the outputs from the first other runtime's, relative to the largest output of
        each; None for that runtime itself, or where there is none.
    """

    runtime: str
    version: str
    least_ms: float
    median_ms: float
    difference: float | None = None


@dataclass(frozen=True)
class ModelTimes:
    """A model timed side by side.

    Attributes
    ----------
    inputs : mapping of str to tuple of int
    threads : int
    macs : int
        Multiply-adds of a call.
    peak_gflops : float
        Of fused multiply-adds of these threads, measured between the rounds: the most.
    times : tuple of RuntimeTimes
        The engine's first.
    refused : tuple of str
        Which runtimes could not run it, and why.
    """

    inputs: Mapping[str, tuple[int, ...]]
    threads: int
    macs: int
    peak_gflops: float
    times: tuple[RuntimeTimes, ...]
    refused: tuple[str, ...] = ()

    @property
    def best_ms(self) -> float:
        """Time of the arithmetic alone, at the peak."""
        return 2e-6 * self.macs / self.peak_gflops

    def of_peak(self, times: RuntimeTimes) -> float:
        """Return which fraction of the peak a runtime reached, by the multiply-adds of the model."""
        return self.best_ms / times.least_ms

    def over_ours(self, times: RuntimeTimes) -> float:
        """Return how many times as long as the engine a runtime takes: the least of each."""
        return times.least_ms / self.times[0].least_ms


def compare(
    path_or_model: str | os.PathLike[str] | ModelProto,
    shapes: Hints | None = None,
    *,
    batch: int = 1,
    threads: int = 1,
    rounds: int = 20,
    fallback: Literal["onnxruntime"] | None = None,
    rest: float = REST,
    feeds: Mapping[str, Array] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> ModelTimes:
    """Time a model in the engine and in the other runtimes that are installed, in one process and in turn.

    Parameters
    ----------
    path_or_model : path-like or ModelProto
    shapes : str, sequence, or mapping, optional
        What the model leaves open, as for `separable.engine.load`.
    batch : int, optional
        Length of an open first axis.
    threads : int, optional
        Of each runtime.
    rounds : int, optional
        Samples of each.
    fallback : {"onnxruntime"}, optional
        What runs the operations that the engine does not.
    rest : float, optional
        Seconds before each sample.
    feeds : mapping of str to ndarray, optional
        The inputs; random ones by default.
    progress : callable, optional
        Called with (rounds done, rounds in all).

    Returns
    -------
    ModelTimes

    Raises
    ------
    FileError, ValueError, TypeError
        If the model cannot be read, or the engine does not run it.
    """
    rounds, batch = count(rounds, "rounds"), count(batch, "batch")
    threads = arguments.thread_count(threads)
    with naming(path_or_model):
        inputs = dict(feeds) if feeds is not None else _random(path_or_model, shapes, batch)
    engine = engine_runtime(fallback)
    ours = engine.load(path_or_model, inputs, threads)
    assert ours.program is not None  # it is the engine's
    ready, versions, refused = {ENGINE: ours}, {ENGINE: engine.version}, []
    for runtime in RUNTIMES:
        if not runtime.installed:
            refused.append(f"{runtime.name} is not installed")
            continue
        try:
            ready[runtime.name] = runtime.ready(path_or_model, inputs, threads)
            versions[runtime.name] = runtime.version
        except ModelError as error:
            refused.append(str(error))
    seconds, peak = interleaved(
        {name: runtime.call for name, runtime in ready.items()}, rounds, threads, rest=rest, progress=progress
    )
    apart = _differences(ready)
    return ModelTimes(
        {name: array.shape for name, array in inputs.items()},
        threads,
        sum(step.macs for step in ours.program.steps()),
        peak / 1e9,
        tuple(
            RuntimeTimes(
                name, versions[name], 1e3 * min(taken), 1e3 * statistics.median(taken), apart.get(name)
            )
            for name, taken in seconds.items()
        ),
        tuple(refused),
    )


def _random(
    path_or_model: str | os.PathLike[str] | ModelProto, shapes: Hints | None, batch: int
) -> dict[str, Array]:
    stored = read_model(path_or_model)
    lengths = input_shapes(GraphIndex(stored).given(), shapes, batch=batch)
    if batch != 1 and not any(shape[:1] == (batch,) for shape in lengths.values()):
        raise ValueError(
            f"`batch={batch}`, but no input of the model has a first axis of that length to give."
        )
    return random_inputs(stored, lengths)


# -- time --------------------------------------------------------------------------------------------


def interleaved(
    calls: Mapping[K, Callable[[], object]],
    rounds: int,
    threads: int = 1,
    *,
    rest: float = REST,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[dict[K, list[float]], float]:
    """Time calls in turn, so that none has the better moments.

    Parameters
    ----------
    calls : mapping of hashable to callable
        Each has run before.
    rounds : int
    threads : int, optional
        That the peak is of.
    rest : float, optional
        Seconds before each sample.
    progress : callable, optional
        Called with (rounds done, rounds in all).

    Returns
    -------
    seconds : dict of hashable to list of float
        Of a call, one for each round.
    peak : float
        The most FLOPs per second of fused multiply-adds between the rounds.
    """
    repeats = {name: math.ceil(_SAMPLE / max(_timed(call, 1), 1e-9)) for name, call in calls.items()}
    taken: dict[K, list[float]] = {name: [] for name in calls}
    peak = 0.0
    with _no_collection():
        for number in range(rounds):
            progress(number, rounds)
            peak = max(peak, fma_peak(threads))
            for name, call in calls.items():
                time.sleep(rest)
                call()  # wakes up its threads
                taken[name].append(_timed(call, repeats[name]) / repeats[name])
    return taken, peak


def _timed(call: Callable[[], object], repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return time.perf_counter() - start


@contextmanager
def _no_collection() -> Iterator[None]:
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


# -- agreement ---------------------------------------------------------------------------------------


def _differences(ready: Mapping[str, ReadyModel]) -> dict[str, float]:
    """Return how far each runtime's outputs are from those of the first other one."""
    reference, *_ = *(name for name in ready if name != ENGINE), ""
    if not reference:
        return {}
    want = list(ready[reference].outputs().values())
    return {
        name: largest_difference(list(runtime.outputs().values()), want)
        for name, runtime in ready.items()
        if name != reference
    }
