"""Runtimes that run one model side by side: the engine, and those of others that are installed.

Each is used as for the least time of one call: inputs stand where they are, outputs are written in place, and
all compute in float32. Nothing is imported before it is asked for: `alone` measures the memory of one.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, Union

import numpy as np

from ... import __version__
from ..._base.types import Array

if TYPE_CHECKING:
    from onnx.onnx_ml_pb2 import ModelProto

    from ..loader import Program

__all__ = ["ENGINE", "REFERENCE", "RUNTIMES", "ReadyModel", "Runtime", "engine_runtime", "reference_outputs"]

Source: TypeAlias = Union[str, os.PathLike[str], "ModelProto"]
Feeds: TypeAlias = Mapping[str, Array]

ENGINE: Final = "separable"
REFERENCE: Final = "ONNX Runtime"  # without optimisations: whom results are compared with

_SILENT: Final = 4  # ONNX Runtime's messages: fatal ones only


@dataclass(frozen=True)
class ReadyModel:
    """A model in a runtime, with inputs that stay.

    Attributes
    ----------
    call : callable
        Runs it once.
    outputs : callable
        Returns what the last call gave, by name.
    program : Program or None
        Where it is the engine.
    """

    call: Callable[[], object]
    outputs: Callable[[], dict[str, Array]]
    program: Program | None = None


@dataclass(frozen=True)
class Runtime:
    """A runtime that may be installed.

    Attributes
    ----------
    key : str
        What a user calls it.
    name : str
        What it is called where people read.
    module : str
        What Python imports.
    load : callable
        Makes a `ReadyModel` of a model, its inputs and a number of threads.
    """

    key: str
    name: str
    module: str
    load: Callable[[Source, Feeds, int], ReadyModel]

    @property
    def installed(self) -> bool:
        """Whether it can be imported."""
        try:
            return importlib.util.find_spec(self.module) is not None
        except ModuleNotFoundError:
            return False

    @property
    def version(self) -> str:
        """Its version, as installers know it."""
        return __version__ if self.name == ENGINE else importlib.metadata.version(self.module)

    def ready(self, source: Source, feeds: Feeds, threads: int) -> ReadyModel:
        """Return a model that has run once.

        Raises
        ------
        ModelError
            If the runtime refuses the model, whatever its own errors are.
        """
        from ...onnx.model.names import ModelError, in_short

        try:
            return self.load(source, feeds, threads)
        except Exception as error:
            raise ModelError(f"{self.name} refuses it: {in_short(error).rstrip('.')}.") from error


def engine_runtime(fallback: Literal["onnxruntime"] | None = None) -> Runtime:
    """Return the engine as one of the runtimes."""

    def load_here(source: Source, feeds: Feeds, threads: int) -> ReadyModel:
        from ..loader import load

        shapes = {name: array.shape for name, array in feeds.items()}
        program = load(source, shapes, threads=threads, fallback=fallback)
        first = program(dict(feeds))
        results = first if isinstance(first, dict) else {program.outputs[0]: first}
        given = dict(feeds)
        return ReadyModel(lambda: program(given, out=results), lambda: results, program)

    return Runtime("engine", ENGINE, "separable.engine.loader", load_here)


def _content(source: Source) -> str | bytes:
    """Return a file's path, or a model as the bytes of a file."""
    return os.fspath(source) if isinstance(source, (str, os.PathLike)) else source.SerializeToString()


def _session(source: Source, threads: int, optimised: bool = True) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = _SILENT
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(_content(source), options, providers=["CPUExecutionProvider"])


def reference_outputs(source: Source, feeds: Feeds) -> dict[str, Array]:
    """Return what ONNX Runtime makes of a model as it stands, no node fused or folded.

    Raises
    ------
    ModelError
        If it refuses the model.
    """
    from ...onnx.model.names import ModelError, in_short

    try:
        session = _session(source, 1, optimised=False)
        names = [entry.name for entry in session.get_outputs()]
        return dict(zip(names, session.run(names, dict(feeds)), strict=True))
    except Exception as error:  # ONNX Runtime's exceptions have no common class
        raise ModelError(f"{REFERENCE} refuses it: {in_short(error).rstrip('.')}.") from error


def _load_onnx_runtime(source: Source, feeds: Feeds, threads: int) -> ReadyModel:
    session = _session(source, threads)
    names = [entry.name for entry in session.get_outputs()]
    first = session.run(names, dict(feeds))
    results: dict[str, Array] = {name: np.array(y) for name, y in zip(names, first, strict=True)}
    binding = session.io_binding()
    for bind, arrays in ((binding.bind_input, feeds), (binding.bind_output, results)):
        for name, array in arrays.items():
            bind(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
    held = dict(feeds)  # the binding knows addresses only

    def call(_held: object = held) -> None:
        session.run_with_iobinding(binding)

    return ReadyModel(call, lambda: results)


def _load_openvino(source: Source, feeds: Feeds, threads: int) -> ReadyModel:
    import openvino

    core = openvino.Core()
    content = _content(source)
    model = core.read_model(content if isinstance(content, bytes) else Path(content))
    model.reshape({name: list(array.shape) for name, array in feeds.items()})
    settings: dict[str, Any] = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "INFERENCE_PRECISION_HINT": "f32",  # its default is bfloat16 where the processor has it
        "PERFORMANCE_HINT": "LATENCY",
    }
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    for name, array in feeds.items():
        request.set_tensor(name, openvino.Tensor(array, shared_memory=True))
    request.infer()
    held = dict(feeds)

    def outputs(_held: object = held) -> dict[str, Array]:
        return {
            port.get_any_name(): np.array(request.get_tensor(port).data) for port in request.model_outputs
        }

    return ReadyModel(request.infer, outputs)


# What a model is compared with.
RUNTIMES: Final = (
    Runtime("onnxruntime", "ONNX Runtime", "onnxruntime", _load_onnx_runtime),
    Runtime("openvino", "OpenVINO", "openvino", _load_openvino),
)
