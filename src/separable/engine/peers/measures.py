"""Models of a group in all runtimes: timed in turn, compared, and loaded in processes of their own."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
from onnx.onnx_ml_pb2 import ModelProto

from ..._base.words.quantities import plural
from ...conv.audits.differences import largest_difference
from ...conv.conversion.network import Progress
from ...onnx.model.names import ModelError
from ..times.clock import Samples, interleaved
from ..times.records import ModelTimes, RuntimeTimes
from .alone import Alone, AloneError, alone
from .request import BenchRequest
from .runtimes import ENGINE
from .subjects import Subject

__all__ = ["measured"]

_PROCESSES: Final = 3  # of each row: the least of the load times, the most of the memory
_UNBOUNDED: Final = "its outputs have other shapes, or are NaN or infinite elsewhere, than the reference's"

Key: TypeAlias = tuple[int, int, str]  # place of a model, threads, runtime


def measured(
    group: dict[int, Subject],
    setting: BenchRequest,
    failed: dict[int, tuple[str, Exception]],
    show: Progress,
) -> list[ModelTimes]:
    """Load the models of a group in all runtimes, time them in turn, and each in processes of its own."""
    _load(group, setting, show)
    for place, subject in list(group.items()):
        if not subject.ready:
            failed[place] = subject.name, ModelError("; ".join(text.rstrip(".") for text in subject.left_out))
            del group[place]
    calls: dict[Key, Callable[[], object]] = {
        (place, *row): ready.call for place, subject in group.items() for row, ready in subject.ready.items()
    }
    if not calls:
        return []
    samples = interleaved(
        calls,
        setting.rounds,
        rest=setting.rest,
        alike=lambda key: key[0],
        progress=lambda done, total: show(done, total, "timing in turn"),
    )
    errors = {
        (place, *row): largest_difference(list(ready.outputs().values()), subject.wanted)
        for place, subject in group.items()
        for row, ready in subject.ready.items()
        if subject.wanted is not None
    }
    for subject in group.values():
        subject.ready.clear()  # before others ask for memory
    calls.clear()
    loads = {} if setting.times_only else _loads(group, list(samples.seconds), setting, show)
    return [
        _model_times(subject, place, threads, samples, errors, loads, setting)
        for place, subject in group.items()
        for threads in setting.threads
        if any(key[:2] == (place, threads) for key in samples.seconds)
    ]


def _load(group: Mapping[int, Subject], setting: BenchRequest, show: Progress) -> None:
    steps = list(itertools.product(group.values(), setting.threads, setting.runtimes))
    for number, (subject, threads, runtime) in enumerate(steps):
        show(number, len(steps), f"loading {subject.name}: {runtime.name}, {plural(threads, 'thread')}")
        try:
            ready = runtime.ready(subject.source, subject.feeds, threads)
        except ModelError as error:
            subject.left_out[str(error)] = None
            continue
        subject.ready[threads, runtime.key] = ready
        if ready.program is not None:
            subject.macs = sum(step.macs for step in ready.program.steps())


def _loads(
    group: Mapping[int, Subject], keys: Sequence[Key], setting: BenchRequest, show: Progress
) -> dict[Key, Alone | AloneError]:
    """Return for each row what processes of its own say, or why they do not."""
    answers: dict[Key, Alone | AloneError] = {}
    with tempfile.TemporaryDirectory() as name:
        files = {place: _files(subject, Path(name, str(place))) for place, subject in group.items()}
        for number, key in enumerate(keys):
            place, threads, runtime = key
            show(number, len(keys), f"memory and load time: {group[place].name}")
            model, inputs = files[place]
            try:
                runs = [alone(runtime, model, inputs, threads, setting.fallback) for _ in range(_PROCESSES)]
            except AloneError as error:
                answers[key] = error
                continue
            most = max(runs, key=lambda run: run.memory_bytes or 0)
            answers[key] = replace(most, load_ms=min(run.load_ms for run in runs))
    return answers


def _files(subject: Subject, folder: Path) -> tuple[Path, dict[str, Path]]:
    """Write what a process reads: the inputs, and a model that is no file yet."""
    folder.mkdir()
    inputs = {}
    for number, (name, array) in enumerate(subject.feeds.items()):
        inputs[name] = folder / f"{number}.npy"
        np.save(inputs[name], array, allow_pickle=False)
    if not isinstance(subject.source, ModelProto):
        return Path(subject.source).absolute(), inputs
    model = folder / "model.onnx"
    model.write_bytes(subject.source.SerializeToString())
    return model, inputs


def _model_times(
    subject: Subject,
    place: int,
    threads: int,
    samples: Samples[Key],
    errors: Mapping[Key, float],
    loads: Mapping[Key, Alone | AloneError],
    setting: BenchRequest,
) -> ModelTimes:
    rows = []
    for runtime in setting.runtimes:
        key = place, threads, runtime.key
        if key in samples.seconds:
            taken = tuple(1e3 * second for second in samples.seconds[key])
            error, notes = errors.get(key), subject.notes
            row = RuntimeTimes(runtime.name, runtime.version, taken, error=error, notes=notes)
            rows.append(_with_load(row, loads.get(key)))
    return ModelTimes(
        subject.name,
        {name: array.shape for name, array in subject.feeds.items()},
        threads,
        subject.macs,
        threads * samples.peak / 1e9,
        samples.copy / 1e9,
        tuple(rows),
        tuple(subject.left_out),
        ENGINE,
    )


def _with_load(row: RuntimeTimes, load: Alone | AloneError | None) -> RuntimeTimes:
    notes = list(row.notes)
    if row.error is not None and not np.isfinite(row.error):
        notes.append(_UNBOUNDED)
    if isinstance(load, AloneError):
        notes.append(f"memory and load time not measured: {load}")
    if not isinstance(load, Alone):
        return replace(row, notes=tuple(notes))
    if load.memory_bytes is None:
        notes.append("memory not measured: this system does not tell")
    return replace(
        row,
        load_ms=load.load_ms,
        memory_bytes=load.memory_bytes,
        before_bytes=load.before_bytes,
        notes=tuple(notes),
    )
