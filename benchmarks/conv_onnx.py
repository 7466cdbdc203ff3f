"""The peers that run ONNX graphs, each in the arrangements worth trying: ONNX Runtime and OpenVINO.

Both read the same graph: Conv and Relu nodes in NCHW. Inputs and outputs are bound to memory that stands.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import libraries
from benchmarks.conv_works import ConvJob
from benchmarks.peers import Contender
from benchmarks.results import ORT_INSIDE
from benchmarks.works import Array, aligned

ONNX_RUNTIME = "ONNX Runtime"
OPENVINO = "OpenVINO"

OPSET, IR_VERSION = 17, 8  # old enough for every release in use
NCHWC = "com.microsoft.nchwc"  # the domain of ONNX Runtime's operators on blocked channels
LAYOUTS = {3: "NCW", 4: "NCHW", 5: "NCDHW"}


def graph(job: ConvJob) -> bytes:
    """Return the job as a serialised ONNX model from ``x`` to ``y``, shapes fixed, in NCHW."""
    onnx = libraries.load("onnx")
    nodes, weights, source = [], [], "x"
    for number, conv in enumerate(job.convs):
        names = (f"weights{number}", f"bias{number}")
        for name, values in zip(names, (conv.weights, conv.bias), strict=True):
            weights.append(onnx.numpy_helper.from_array(values, name))
        attributes = {
            "group": conv.groups,
            "kernel_shape": conv.kernel,
            "strides": conv.stride,
            "dilations": conv.dilation,
            "pads": (*conv.padding, *conv.padding),
        }
        sink = "y" if number == len(job.convs) - 1 else f"between{number}"
        nodes.append(onnx.helper.make_node("Conv", [source, *names], [f"conv{number}"], **attributes))
        nodes.append(onnx.helper.make_node("Relu", [f"conv{number}"], [sink]))
        source = sink
    ends = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, values.shape)
        for name, values in (("x", job.x_first), ("y", job.out_first))
    ]
    model = onnx.helper.make_model(
        onnx.helper.make_graph(nodes, "block", ends[:1], ends[1:], weights),
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    serialised: bytes = model.SerializeToString()
    return serialised


def onnx_runtime(job: ConvJob, threads: Sequence[int]) -> list[Contender]:
    """ONNX Runtime with its blocked layout (NCHWc) inside the graph, and without it."""
    ort = libraries.load("onnxruntime")
    if ort is None or libraries.load("onnx") is None:
        return []
    level, layout = ort.GraphOptimizationLevel, LAYOUTS[job.x.ndim]
    model = graph(job)
    found = []
    for name, optimisation, note in (
        (layout, level.ORT_ENABLE_EXTENDED, "all optimisations but those of the layout"),
        (
            f"{layout}, NCHWc inside",
            level.ORT_ENABLE_ALL,
            "all optimisations, as by default; reorders both ends",
        ),
    ):
        for n in threads:
            call = _bound(_session(ort, model, n, optimisation), job.x_first, job.out_first)
            found.append(
                Contender(
                    ONNX_RUNTIME, n, libraries.settle, call, lambda: _last(job.out_first), name, note=note
                )
            )
    return found


def onnx_runtime_inside(job: ConvJob, threads: Sequence[int]) -> list[Contender]:
    """ONNX Runtime as within a network: its own optimised graph, without the reorders at both ends.

    Its arrays have the channels in blocks, a layout that it has no public name for.
    """
    ort = libraries.load("onnxruntime")
    if ort is None or libraries.load("onnx") is None or job.x_first.ndim != 4:
        return []
    model = _without_reorders(ort, job)
    if model is None:
        return []
    level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    for block in (16, 8):  # channels per block: as many as a vector has lanes
        if job.x.shape[-1] % block or job.reference.shape[-1] % block:
            continue
        x, y = (_blocked(values, block) for values in (job.x, np.zeros_like(job.reference)))
        _bound(_session(ort, model, 1, level), x, y)()
        if np.abs(_unblocked(y, block) - job.reference).max() <= job.tolerance:
            break
    else:
        return []
    note = "channels in blocks, no reorder at the ends; not counted as a peer"
    return [
        Contender(
            ORT_INSIDE,
            n,
            libraries.settle,
            _bound(_session(ort, model, n, level), x, y),
            lambda: _unblocked(y, block),
            note=note,
        )
        for n in threads
    ]


def openvino(job: ConvJob, threads: Sequence[int]) -> list[Contender]:
    """OpenVINO on channels first, and on channels last by its preprocessing step."""
    library = libraries.load("openvino")
    if library is None or libraries.load("onnx") is None:
        return []
    core, serialised = library.Core(), graph(job)
    found = []
    for last in (False, True):
        x, y = (job.x, job.out) if last else (job.x_first, job.out_first)
        layout = LAYOUTS[x.ndim]
        model = core.read_model(serialised)
        if last:
            model = _channels_last(library, model, layout)
        for n in threads:
            settings = {
                "INFERENCE_NUM_THREADS": n,
                "NUM_STREAMS": 1,
                "PERFORMANCE_HINT": "LATENCY",
                "INFERENCE_PRECISION_HINT": "f32",
            }
            request = core.compile_model(model, "CPU", settings).create_infer_request()
            request.set_input_tensor(library.Tensor(x, shared_memory=True))
            request.set_output_tensor(library.Tensor(y, shared_memory=True))
            result = (lambda: job.out) if last else (lambda: _last(job.out_first))
            name = f"N{layout[2:]}C" if last else layout
            found.append(Contender(OPENVINO, n, libraries.settle, request.infer, result, name))
    return found


def _session(ort: Any, model: bytes, threads: int, level: Any, save_as: Path | None = None) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = level
    options.log_severity_level = 3  # it warns of files that hold optimised graphs
    if save_as is not None:
        options.optimized_model_filepath = str(save_as)
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _bound(session: Any, x: Array, y: Array) -> Callable[[], None]:
    """Return a call of `session` that reads `x` and writes `y` in place."""
    binding = session.io_binding()
    binding.bind_input("x", "cpu", 0, np.float32, x.shape, x.ctypes.data)
    binding.bind_output("y", "cpu", 0, np.float32, y.shape, y.ctypes.data)
    return functools.partial(_run, session, binding, (x, y))


def _run(session: Any, binding: Any, _held: tuple[Array, ...]) -> None:
    """Run `session`; the binding knows the arrays' addresses only, so the caller holds the arrays."""
    session.run_with_iobinding(binding)


def _without_reorders(ort: Any, job: ConvJob) -> bytes | None:
    """Return ONNX Runtime's optimised graph from blocks to blocks; None where it uses no blocks."""
    onnx = libraries.load("onnx")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "optimised.onnx")
        _session(ort, graph(job), 1, ort.GraphOptimizationLevel.ORT_ENABLE_ALL, path)
        model = onnx.load(path)
    first, *middle, last = model.graph.node
    if [n.op_type for n in (first, last)] != ["ReorderInput", "ReorderOutput"]:
        return None
    if any(node.domain != NCHWC for node in middle):
        return None
    del model.graph.node[:]
    model.graph.node.extend(middle)
    middle[0].input[0], middle[-1].output[0] = "x", "y"
    model.graph.node[0].input[0], model.graph.node[-1].output[0] = "x", "y"
    serialised: bytes = model.SerializeToString()
    return serialised


def _blocked(values: Array, block: int) -> Array:
    """Return (N, H, W, C) as (N, C, H, W) in memory ordered (N, C / block, H, W, block)."""
    batch, height, width, channels = values.shape
    result = aligned((batch, channels // block, height, width, block), "float32")
    result[...] = values.reshape(batch, height, width, -1, block).transpose(0, 3, 1, 2, 4)
    return result.reshape(batch, channels, height, width)  # in name only: the graph wants this shape


def _unblocked(values: Array, block: int) -> Array:
    """Return what :func:`_blocked` was given."""
    batch, channels, height, width = values.shape
    blocks = values.reshape(batch, -1, height, width, block)
    return blocks.transpose(0, 2, 3, 1, 4).reshape(batch, height, width, channels)


def _channels_last(library: Any, model: Any, layout: str) -> Any:
    steps = library.preprocess.PrePostProcessor(model)
    for end in (steps.input(), steps.output()):
        end.tensor().set_layout(library.Layout(f"N{layout[2:]}C"))
        end.model().set_layout(library.Layout(layout))
    return steps.build()


def _last(values: Array) -> Array:
    return np.moveaxis(values, 1, -1)
