"""Models in the engine and in other runtimes, on this machine."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from onnx.onnx_ml_pb2 import ModelProto

from ... import __version__
from ...arrays import arguments
from ...conv.audits.machine import kernel_target, processor
from ...conv.conversion.goal import count
from ...conv.conversion.network import Progress
from ...onnx.model.lengths import Hints
from ...onnx.model.names import ModelError
from ...report.benches import Bench
from ...report.progress import shown
from ..times.clock import REST
from ..times.records import BenchMachine, FailedModel, ModelTimes
from .measures import measured
from .request import BenchRequest, chosen, sources_of, thread_counts
from .runtimes import ENGINE, REFERENCE, Runtime
from .subjects import groups_of, reason_of, subjects_of

__all__ = ["Bench", "bench"]


def bench(
    models: str | os.PathLike[str] | ModelProto | Sequence[str | os.PathLike[str] | ModelProto],
    shapes: Hints | None = None,
    *,
    batch: int = 1,
    threads: int | Sequence[int] | None = 1,
    runtimes: Sequence[str] | None = None,
    rounds: int = 20,
    fallback: Literal["onnxruntime"] | None = None,
    times_only: bool = False,
    rest: float = REST,
    progress: bool | Progress | None = None,
) -> Bench:
    """Measure models in the engine and in the other runtimes that are installed, on this machine.

    All are loaded in one process and called in turn, on random inputs and in float32. Then each is loaded in
    processes of its own, for the time to the first result and the memory.

    Parameters
    ----------
    models : path-like or ModelProto, or sequence of these
    shapes : str, sequence, or mapping, optional
        What the models leave open, as for `load`.
    batch : int, optional
        Length of an open first axis.
    threads : int or sequence of int, optional
        Of each runtime; None: all cores that the process may use.
    runtimes : sequence of str, optional
        Of "engine", "onnxruntime" and "openvino"; all that are installed by default.
    rounds : int, optional
        In each round every runtime is called once; up to ten times where a call takes less than two
        milliseconds. Each call is a sample.
    fallback : {"onnxruntime"}, optional
        What runs the operations that the engine does not.
    times_only : bool, optional
        Leave out the processes that load time and memory are measured in.
    rest : float, optional
        Seconds before the calls of each round: threads of other runtimes go on polling for some time.
    progress : bool or callable, optional
        Show how far it is on stderr. By default where that is a terminal, or once it took two seconds. Or
        what is called with steps done, steps in all, and the present step.

    Returns
    -------
    Bench
        Print it, or write it with `to_html` or `to_json`. A model that cannot be read or run is in `failed`,
        with the reason.

    Raises
    ------
    FileError, TypeError, ValueError
        If an argument is none, or nothing could be measured of any model.

    Examples
    --------
    >>> from importlib.resources import files
    >>> import separable as sp
    >>> path = files("separable") / "demo" / "textures.onnx"  # a small network that comes with the package
    >>> done = sp.engine.bench(str(path), batch=4, rounds=3, times_only=True)
    >>> [timed.runtime for timed in done.models[0].times][:2]
    ['separable', 'ONNX Runtime']
    >>> ours = done.models[0].times[0]
    >>> 0 < ours.least_ms <= ours.median_ms, ours.error < 1e-4, ours.memory_bytes
    (True, True, None)
    """
    sources = sources_of(models)
    asked, missing = chosen(runtimes, fallback)
    setting = BenchRequest(
        shapes,
        count(batch, "batch"),
        thread_counts(threads),
        asked,
        count(rounds, "rounds"),
        fallback,
        rest,
        times_only,
    )
    done: list[ModelTimes] = []
    failed: dict[int, tuple[str, Exception]] = {}
    with shown(progress) as show:
        groups = groups_of(subjects_of(sources, setting, failed, show), setting)
        for group in groups:
            done += measured(group, setting, failed, show)
    if not done:
        _refuse(failed)
    apart = "models were not timed together: side by side they take too much memory"
    return Bench(
        tuple(done),
        _machine(asked),
        setting.rounds,
        setting.batch,
        1e3 * rest,
        f"{REFERENCE} with optimisations off",
        missing,
        tuple(FailedModel(name, reason_of(name, error)) for _, (name, error) in sorted(failed.items())),
        (apart,) if len(groups) > 1 else (),
    )


def _refuse(failed: Mapping[int, tuple[str, Exception]]) -> None:
    """Raise what is wrong with the only model, or with all of them."""
    reasons = [f"{reason_of(name, error)}." for name, error in failed.values()]
    first = next(error for _, error in failed.values())
    if len(failed) > 1:
        raise ValueError("\n".join(reasons)) from first
    if type(first) in (ValueError, TypeError, ModelError):
        raise type(first)(reasons[0]) from first
    raise first


def _machine(runtimes: Sequence[Runtime]) -> BenchMachine:
    versions = {"Python": platform.python_version(), "NumPy": np.__version__, ENGINE: __version__}
    versions |= {runtime.name: runtime.version for runtime in runtimes}
    return BenchMachine(processor(), arguments.usable_cores(), kernel_target(), versions)
