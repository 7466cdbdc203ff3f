"""Running models, and parts of them, in ONNX Runtime on the CPU."""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

import numpy as np
import onnx
import onnxruntime
from onnx.onnx_ml_pb2 import ModelProto, NodeProto, ValueInfoProto

from ..._base.types import Array
from .files import Stored, keep
from .graph import GraphIndex, pruned, reads
from .names import ModelError, in_short

__all__ = [
    "Session",
    "TimedModel",
    "alone",
    "giving",
    "interleaved_ms",
    "layer_ms",
    "median_ms",
    "runnable",
    "shapes_of",
]

_SILENT: Final = 4  # ONNX Runtime's log levels: what is an error is raised, and need not be told twice

# Timed runs whose median is reported: as many as take this many seconds together, between these bounds, after
# the warm-up runs.
_TIMED_SECONDS: Final = 0.03
_FEWEST_RUNS: Final = 5
_MOST_RUNS: Final = 200
_WARM_UP: Final = 2

_FINE_CLOCK: Final = 1e-6  # seconds; some systems count a thread's time in ticks of 16 ms


class TimedModel(Protocol):
    """A model that is ready to run, in whatever runtime, on some threads."""

    threads: int | None

    def __call__(self, feeds: Mapping[str, Array]) -> Any:
        """Run it on its inputs by name."""


class Session:
    """A model ready to run.

    Parameters
    ----------
    stored : Stored
    threads : int, optional
        Default: ONNX Runtime's own choice.
    profile : str, optional
        Where a profile of the runs is to be written: how its file's name begins.
    optimised : bool, optional
        Whether nodes may be fused and folded; without it each gives what it gives alone, to the last bit.
    arena : bool, optional
        Whether memory of a run is kept for the next one, and more of it than was needed: faster where runs
        are short.

    Raises
    ------
    ModelError
        If ONNX Runtime refuses the model.
    """

    def __init__(
        self,
        stored: Stored,
        threads: int | None = None,
        profile: str | None = None,
        *,
        optimised: bool = True,
        arena: bool = True,
    ) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _SILENT
        options.enable_cpu_mem_arena = arena
        if not optimised:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        if profile is not None:
            options.enable_profiling = True
            options.profile_file_prefix = profile
        if threads is not None:
            options.intra_op_num_threads = threads
        # The session reads these arrays where they lie; they must live as long as it does.
        self._weights = {
            name: onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array))
            for name, array in stored.tensors.items()
        }
        if self._weights:
            options.add_external_initializers(list(self._weights), list(self._weights.values()))
        try:
            self._session = onnxruntime.InferenceSession(
                stored.proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime's exceptions have no common class
            raise ModelError(_refusal(error)) from error
        self.threads = threads
        self._inputs = [entry.name for entry in self._session.get_inputs()]
        self.outputs: list[str] = [entry.name for entry in self._session.get_outputs()]

    def __call__(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run it; inputs that it does not have are left out."""
        given = {name: feeds[name] for name in self._inputs if name in feeds}
        try:
            results = self._session.run(None, given)
        except Exception as error:
            shapes = ", ".join(f"{name} {array.shape} {array.dtype}" for name, array in given.items())
            raise ModelError(
                f"ONNX Runtime cannot run it on {shapes}: {in_short(error).rstrip('.')}. Pass inputs that "
                "the model takes, or export it again."
            ) from error
        return dict(zip(self.outputs, results, strict=True))

    def profile(self) -> list[dict[str, Any]]:
        """Return what happened since the session was made; it takes no more notes afterwards."""
        with open(self._session.end_profiling(), encoding="utf-8") as file:
            events: list[dict[str, Any]] = json.load(file)
        return events


def _refusal(error: Exception) -> str:
    """Return what ONNX Runtime says against a model, and what can be done."""
    said = in_short(error)
    fix = "export it again, or make it load there first: onnxruntime.InferenceSession(path)."
    if "NOT_IMPLEMENTED" in said or "IR version" in said or "opset" in said:
        fix = "install a newer onnxruntime, or export the model in float32 or for an older operator set."
    return f"ONNX Runtime {onnxruntime.__version__} refuses it: {said.rstrip('.')}. To go on, {fix}"


def runnable(stored: Stored, threads: int | None = None) -> Stored:
    """Return the model as this ONNX Runtime accepts it: a format that is too new is declared an older one.

    The version of the format says nothing about the operators: those have their own.

    Parameters
    ----------
    stored : Stored
    threads : int, optional

    Returns
    -------
    Stored

    Raises
    ------
    ModelError
        If ONNX Runtime refuses the model for another reason.
    """
    try:
        Session(stored, threads)
    except ModelError as refusal:
        least = onnx.helper.find_min_ir_version_for(list(stored.proto.opset_import), ignore_unknown=True)
        if "IR version" not in str(refusal) or stored.proto.ir_version <= least:
            raise
        model = ModelProto()
        model.CopyFrom(stored.proto)
        model.ir_version = least
        older = Stored(model, stored.tensors, stored.external)
        Session(older, threads)
        return older
    return stored


def giving(stored: Stored, outputs: Sequence[str], known: Mapping[str, Array] | None = None) -> Stored:
    """Return the part of a model that makes some tensors.

    Parameters
    ----------
    stored : Stored
    outputs : sequence of str
        Tensors that nodes make.
    known : mapping of str to ndarray, optional
        Tensors that are given from outside, as inputs of the part, instead of being made in it.

    Returns
    -------
    Stored
    """
    old, given = stored.proto, known or {}
    model = ModelProto(ir_version=old.ir_version, opset_import=old.opset_import, functions=old.functions)
    graph = model.graph
    graph.name = old.graph.name
    graph.node.extend(pruned(old, outputs, given))
    made = {name for node in graph.node for name in node.output}
    needed = {name for node in graph.node for name in reads(node)} - made
    inputs = {entry.name: entry for entry in old.graph.input}
    for name in sorted(needed):
        if name in given and name not in inputs:
            element = onnx.helper.np_dtype_to_tensor_dtype(given[name].dtype)
            # Of a tensor without a number of axes ONNX Runtime takes what is computed from its shape to be
            # empty.
            axes = [None] * np.ndim(given[name])
            graph.input.append(onnx.helper.make_tensor_value_info(name, element, axes))
        elif name in inputs:
            graph.input.append(inputs[name])
    graph.initializer.extend(entry for entry in old.graph.initializer if entry.name in needed)
    graph.sparse_initializer.extend(
        entry for entry in old.graph.sparse_initializer if entry.values.name in needed
    )
    declared = {entry.name: entry for entry in old.graph.output}
    graph.output.extend(declared.get(name, ValueInfoProto(name=name)) for name in outputs)
    return Stored(model, {name: array for name, array in stored.tensors.items() if name in needed})


def alone(stored: Stored, graph: GraphIndex, node: NodeProto, dtype: str) -> tuple[Stored, list[str]]:
    """Return a model of one node, its constants inside, and the names of its inputs.

    Parameters
    ----------
    stored : Stored
    graph : GraphIndex
        Of that model.
    node : NodeProto
    dtype : str
        Of the inputs.

    Returns
    -------
    part : Stored
    inputs : list of str
        What the node reads and is no constant, in its order.
    """
    model = ModelProto(ir_version=stored.proto.ir_version, opset_import=stored.proto.opset_import)
    model.graph.name = "alone"
    model.graph.node.append(node)
    tensors: dict[str, Array] = {}
    inputs = []
    for name in dict.fromkeys(name for name in node.input if name):
        values = graph.constant(name)
        if values is not None:
            keep(model, tensors, name, values)
        else:
            inputs.append(name)
            element = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
            model.graph.input.append(onnx.helper.make_tensor_value_info(name, element, None))
    model.graph.output.append(ValueInfoProto(name=node.output[0]))
    return Stored(model, tensors), inputs


def shapes_of(
    stored: Stored, names: Sequence[str], feeds: Mapping[str, Array], threads: int | None = None
) -> dict[str, tuple[int, ...]]:
    """Return the shapes that tensors have when the model runs on an input.

    Parameters
    ----------
    stored : Stored
    names : sequence of str
        Tensors that nodes make.
    feeds : mapping of str to ndarray
    threads : int, optional

    Returns
    -------
    dict of str to tuple of int
    """
    model = ModelProto()
    model.CopyFrom(stored.proto)
    asked = {f"{name}/shape asked": name for name in names}
    model.graph.node.extend(onnx.helper.make_node("Shape", [name], [shape]) for shape, name in asked.items())
    shapes = Session(giving(Stored(model, stored.tensors), list(asked)), threads)(feeds)
    return {asked[shape]: tuple(map(int, value)) for shape, value in shapes.items()}


def layer_ms(part: Stored, feeds: Mapping[str, Array], threads: int | None = None) -> float:
    """Return the least milliseconds that a part of a model takes within the whole.

    ONNX Runtime keeps activations in blocks of channels between convolutions; reordering them on the way in
    and out of a part that runs alone is no cost of the part: it is taken off by the profile, as is the call
    itself. The least of the runs counts: whatever disturbs a run adds to it, and parts are compared that were
    not timed at the same moment.

    Parameters
    ----------
    part : Stored
    feeds : mapping of str to ndarray
    threads : int, optional

    Returns
    -------
    float
    """
    with tempfile.TemporaryDirectory() as folder:
        session = Session(part, threads, profile=os.path.join(folder, "times"))
        seconds = _run_for_a_while(lambda: _timed(session, feeds))
        profiled = _profiled_ms(session.profile())[-len(seconds) :]
    return min(profiled or [1e3 * second for second in seconds])


def _profiled_ms(events: Sequence[Mapping[str, Any]]) -> list[float]:
    """Return the milliseconds of each run in a profile, without those of reordering."""
    times = []
    reordering = 0.0
    for event in events:
        if event.get("args", {}).get("op_name", "").startswith("Reorder"):
            reordering += event["dur"]
        elif event.get("name") == "SequentialExecutor::Execute":
            times.append((event["dur"] - reordering) / 1e3)
            reordering = 0.0
    return times


def _run_for_a_while(run: Callable[[], float]) -> list[float]:
    """Return the seconds of runs, after some that warm up."""
    for _ in range(_WARM_UP):
        run()
    seconds: list[float] = []
    while len(seconds) < _FEWEST_RUNS or (sum(seconds) < _TIMED_SECONDS and len(seconds) < _MOST_RUNS):
        seconds.append(run())
    return seconds


def median_ms(session: Session, feeds: Mapping[str, Array]) -> float:
    """Return the median milliseconds of a run.

    Parameters
    ----------
    session : Session
    feeds : mapping of str to ndarray

    Returns
    -------
    float
    """
    return 1e3 * statistics.median(_run_for_a_while(lambda: _timed(session, feeds)))


def interleaved_ms(
    sessions: Sequence[TimedModel], feeds: Mapping[str, Array], seconds: float | None = None
) -> list[float]:
    """Return the least milliseconds of several models, run in turn so that none has the better moments.

    Parameters
    ----------
    sessions : sequence of TimedModel
    feeds : mapping of str to ndarray
    seconds : float, optional
        What all runs take together, if they are neither too few nor too many. By default 0.3.

    Returns
    -------
    list of float
    """
    enough = 10 * _TIMED_SECONDS if seconds is None else seconds
    taken: list[list[float]] = [[] for _ in sessions]
    for _ in range(_WARM_UP):
        for session in sessions:
            session(feeds)
    while len(taken[0]) < 2 * _FEWEST_RUNS or (sum(map(sum, taken)) < enough and len(taken[0]) < _MOST_RUNS):
        for session, times in zip(sessions, taken, strict=True):
            times.append(_timed(session, feeds))
    return [1e3 * min(times) for times in taken]


def _timed(session: TimedModel, feeds: Mapping[str, Any]) -> float:
    # One thread is this one: its own time is not that of others which run meanwhile.
    alone = session.threads == 1 and time.get_clock_info("thread_time").resolution <= _FINE_CLOCK
    clock = time.thread_time if alone else time.perf_counter
    start = clock()
    session(feeds)
    return clock() - start
