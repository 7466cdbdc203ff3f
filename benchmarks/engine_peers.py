"""The runtimes that a network's time is compared in: one interface, each in its best settings for one call.

Inputs stand where they are; outputs do where a runtime has a way to say so. What is not installed is left
out, and :func:`missing` says why.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks import engine_networks, libraries
from benchmarks.engine_networks import Network
from benchmarks.results import SEPARABLE

ONNX_RUNTIME = "ONNX Runtime"
OPENVINO = "OpenVINO"
OPENVINO_DEFAULT = "OpenVINO as by default"
LITERT = "LiteRT"
NCNN = "ncnn"
TORCH_COMPILE = "torch.compile"

MOST_COMPILED = 64  # networks of one process, all of which torch counts as versions of one function
CONVERT_SECONDS = 600

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Loaded:
    """A network in a runtime, ready to be called again and again on the same input.

    Attributes
    ----------
    call : callable
        Runs the network once.
    result : callable
        Returns the output of the last call.
    prepare : callable
        What has to be set before a row of calls.
    note : str
        What a reader of the times should know.
    """

    call: Callable[[], object]
    result: Callable[[], Floats]
    prepare: Callable[[], None] = lambda: None
    note: str = ""


Load = Callable[[Path, Floats, int], Loaded]


@dataclass(frozen=True)
class Runner:
    """A runtime.

    Attributes
    ----------
    name : str
    packages : tuple of str
        Modules that it needs.
    package : str
        Whose version counts, as installers name it.
    load : callable
        Of a file made by `engine_networks`, the input and the number of threads.
    float32 : bool
        Whether it computes in float32; others stand beside, and are no peers.
    convert : callable
        Makes its own files for a batch, if it needs any and they are not there.
    """

    name: str
    packages: tuple[str, ...]
    package: str
    load: Load
    float32: bool = True
    convert: Callable[[Path, int], object] = lambda path, batch: None

    def missing(self) -> str:
        """Return why it cannot take part; "" where it can."""
        if self.name == SEPARABLE and not hasattr(_engine(), "load"):
            return f"{self.name}: no engine in this version"
        absent = [name for name in self.packages if not _found(name)]
        if absent:
            return f"{self.name}: {', '.join(absent)} not installed"
        if self.name == TORCH_COMPILE and libraries.cpp_compiler() is None:
            return f"{self.name}: no C++ compiler"
        return ""

    def version(self) -> str:
        """Return the installed version."""
        return importlib.metadata.version(self.package)


def _found(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # of the package around it
        return False


# -- ours


def _engine() -> Any:
    """Import our engine; None where this version has none."""
    return libraries.load("separable.engine")


def _load_ours(path: Path, x: Floats, threads: int) -> Loaded:
    program = _engine().load(path, threads=threads)
    y = np.array(program(x))
    return Loaded(lambda: program(x, out=y), lambda: y)


# -- runtimes that read ONNX


def _load_onnx_runtime(path: Path, x: Floats, threads: int) -> Loaded:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    options.add_free_dimension_override_by_name(engine_networks.BATCH, len(x))
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    given, name = session.get_inputs()[0].name, session.get_outputs()[0].name
    y: Floats = session.run([name], {given: x})[0]
    binding = session.io_binding()
    binding.bind_input(given, "cpu", 0, np.float32, x.shape, x.ctypes.data)
    binding.bind_output(name, "cpu", 0, np.float32, y.shape, y.ctypes.data)
    held = (x, y)  # the binding knows their addresses only

    def call(_held: object = held) -> None:
        session.run_with_iobinding(binding)

    return Loaded(call, lambda: y)


def _openvino(settings: dict[str, Any]) -> Load:
    def load(path: Path, x: Floats, threads: int) -> Loaded:
        import openvino

        core = openvino.Core()
        model = core.read_model(path)
        model.reshape(list(x.shape))
        at_once = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, **settings}
        compiled = core.compile_model(model, "CPU", at_once)
        request = compiled.create_infer_request()
        y = np.empty(tuple(compiled.output(0).shape), np.float32)
        request.set_input_tensor(openvino.Tensor(x, shared_memory=True))
        request.set_output_tensor(openvino.Tensor(y, shared_memory=True))
        precision = compiled.get_property("INFERENCE_PRECISION_HINT")
        return Loaded(request.infer, lambda: y, note=f"computes in {precision.get_type_name()}")

    return load


# -- runtimes with files of their own


def network_of(path: Path) -> tuple[Network, str]:
    """Return the network and the flavour that a file holds."""
    name, flavour, _ = path.name.split(".")
    return engine_networks.named(name), flavour


def _load_litert(path: Path, x: Floats, threads: int) -> Loaded:
    from ai_edge_litert.interpreter import Interpreter

    file = _tflite(path, len(x))
    interpreter = Interpreter(str(file), num_threads=threads)
    interpreter.allocate_tensors()
    (source,), sink = interpreter.get_input_details(), interpreter.get_output_details()[0]
    last = np.ascontiguousarray(np.moveaxis(x, 1, -1)) if x.ndim == 4 else x
    interpreter.set_tensor(source["index"], last)
    view = interpreter.tensor(sink["index"])
    note = "XNNPACK, channels last" if x.ndim == 4 else "XNNPACK"
    return Loaded(interpreter.invoke, lambda: np.array(view()), note=note)


def _load_ncnn(path: Path, x: Floats, threads: int) -> Loaded:
    import ncnn

    file = _ncnn_param(path)
    net = ncnn.Net()
    net.opt.use_vulkan_compute = False
    net.opt.num_threads = threads
    for name in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage"):
        setattr(net.opt, name, False)
    net.load_param(str(file))
    net.load_model(str(file.with_suffix(".bin")))
    inputs = [ncnn.Mat(image) for image in x]
    outputs: list[Any] = [None] * len(x)

    def call() -> None:
        for number, image in enumerate(inputs):
            extractor = net.create_extractor()
            extractor.input("in0", image)
            outputs[number] = extractor.extract("out0")[1]

    note = "allocates its output" + (", one input after the other" if len(x) > 1 else "")
    return Loaded(call, lambda: np.stack([np.array(y) for y in outputs]), note=note)


def _load_compiled(path: Path, x: Floats, threads: int) -> Loaded:
    import torch

    torch.set_num_threads(threads)  # the compiled code is for so many
    net = engine_networks.module(*network_of(path))
    source = torch.from_numpy(x)
    if x.ndim == 4:
        net = net.to(memory_format=torch.channels_last)
        source = source.contiguous(memory_format=torch.channels_last)
    outputs: list[Any] = [None]

    def call() -> None:
        with torch.no_grad():
            outputs[0] = fast(source)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the compiler's own parts are deprecated
        fast: Any = torch.compile(net, dynamic=False, options={"freezing": True})
        with torch._dynamo.config.patch(recompile_limit=MOST_COMPILED):
            call()
    return Loaded(
        call,
        lambda: np.array(outputs[0].numpy()),
        lambda: libraries.set_torch_threads(threads),
        "allocates its output",
    )


def _tflite(path: Path, batch: int) -> Path:
    return _converted("litert", path, batch, ".tflite")


def _ncnn_param(path: Path, _batch: int = 1) -> Path:
    return _converted("ncnn", path, 1, ".ncnn.param")


def _converted(kind: str, path: Path, batch: int, suffix: str) -> Path:
    """Return a network in another runtime's form, made once in a process of its own: converters are large.

    Raises
    ------
    RuntimeError
        If the converter cannot do it; with what it said last.
    """
    target = path.with_name(f"{path.stem}.{batch}{suffix}")
    if not target.exists():
        command = [
            sys.executable,
            "-m",
            "benchmarks.engine_convert",
            kind,
            str(path),
            str(batch),
            str(target),
        ]
        root = Path(__file__).resolve().parents[1]
        done = subprocess.run(
            command, cwd=root, capture_output=True, text=True, timeout=CONVERT_SECONDS, check=False
        )
        if not target.exists():
            said = (done.stderr or done.stdout).strip().splitlines()
            raise RuntimeError(f"{kind} cannot convert {path.name}: {said[-1] if said else done.returncode}")
    return target


RUNNERS = (
    Runner(SEPARABLE, ("separable.engine",), "separable", _load_ours),
    Runner(ONNX_RUNTIME, ("onnxruntime",), "onnxruntime", _load_onnx_runtime),
    Runner(OPENVINO, ("openvino",), "openvino", _openvino({"INFERENCE_PRECISION_HINT": "f32"})),
    Runner(LITERT, ("ai_edge_litert", "litert_torch"), "ai-edge-litert", _load_litert, convert=_tflite),
    Runner(NCNN, ("ncnn", "pnnx"), "ncnn", _load_ncnn, convert=_ncnn_param),
    Runner(TORCH_COMPILE, ("torch",), "torch", _load_compiled),
    Runner(OPENVINO_DEFAULT, ("openvino",), "openvino", _openvino({}), float32=False),
)


def runners(only: tuple[str, ...] = ()) -> list[Runner]:
    """Return the runtimes that are installed; of the peers those whose name begins as one in `only` does."""
    return [
        runner
        for runner in RUNNERS
        if not runner.missing() and (runner.name == SEPARABLE or libraries.chosen(runner.name, only))
    ]


def missing() -> list[str]:
    """Return a line for each runtime that is left out."""
    return [text for runner in RUNNERS if (text := runner.missing())]


@contextlib.contextmanager
def neighbour(core: int) -> Iterator[subprocess.Popen[bytes]]:
    """Keep one core busy with another process meanwhile."""
    code = f"import os\nos.sched_setaffinity(0, {{{core}}})\nprint(flush=True)\nwhile True: pass"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()  # it runs
            time.sleep(0.1)
            yield process
        finally:
            process.kill()


def busy_core() -> int | None:
    """Return the core that a neighbour is put on; None where there is one only, or no way to choose."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return cores[-1] if len(cores) > 1 else None
