"""ONNX's own cases for every operation that networks of images use: read, made static, folded, evaluated."""

from __future__ import annotations

import importlib
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

onnx = pytest.importorskip("onnx")

from onnx import numpy_helper  # noqa: E402 (needs onnx)
from onnx.onnx_ml_pb2 import ModelProto, NodeProto, TensorProto  # noqa: E402

from separable.engine.graph.elements import DTYPES  # noqa: E402
from separable.engine.graph.ir import Graph  # noqa: E402
from separable.engine.graph.newest import in_newest_form  # noqa: E402
from separable.engine.graph.reader import graph_of  # noqa: E402
from separable.engine.graph.reference import evaluate  # noqa: E402
from separable.engine.graph.shapes import (  # noqa: E402
    elementwise,
    layout,
    operands,
    quantised,
    reductions,
    windows,
)
from separable.engine.graph.shapes.table import KNOWN  # noqa: E402
from separable.engine.graph.static import static  # noqa: E402
from separable.engine.graph.values import VALUES  # noqa: E402
from separable.onnx.model.files import read_model  # noqa: E402

Array = npt.NDArray[Any]

OPERATIONS = frozenset(
    """
    Conv ConvTranspose BatchNormalization InstanceNormalization LayerNormalization Gemm MatMul MaxPool
    AveragePool GlobalAveragePool GlobalMaxPool ReduceMean ReduceSum ReduceMax ReduceMin Add Sub Mul Div
    Pow Sqrt Exp Log Abs Neg Min Max Relu LeakyRelu PRelu Elu Selu Clip Sigmoid HardSigmoid HardSwish
    Softplus Mish Tanh Erf Gelu Swish Reciprocal Floor Ceil Round Identity Dropout Cast Reshape Flatten
    Transpose Squeeze Unsqueeze Concat Split Slice Pad Resize Upsample Expand Tile Gather DepthToSpace
    SpaceToDepth Softmax LogSoftmax ArgMax Shape Size Constant ConstantOfShape Range Where Equal Not
    Greater Less If Loop Mod And Or Xor LessOrEqual GreaterOrEqual ArgMin GatherElements GatherND NonZero
    TopK OneHot ReduceProd ReduceL1 ReduceL2 ReduceSumSquare LpPool GridSample Sum Mean Sign Hardmax
    Softsign Celu ThresholdedRelu
    """.split()  # noqa: SIM905
)

# Modules of onnx that are called otherwise than the operation.
ELSEWHERE = {
    "And": "and_",
    "BatchNormalization": "batch_normalization",
    "GreaterOrEqual": "greater_or_equal",
    "If": "if_",
    "InstanceNormalization": "instance_normalization",
    "LessOrEqual": "less_or_equal",
    "Not": "not_",
    "Or": "or_",
    "Range": "rangeop",
    "Xor": "xor",
}

# What is not run, and how many cases at most that may be.
SKIPPED = {
    "an element type that NumPy has not": 58,
    "sequences or optional values": 6,
    "a loop": 4,
    "random numbers": 4,
    "training": 2,
}

# Inputs that say how, not what: constants in every network.
SAYING = {"roi", "scales", "sizes", "start", "limit", "delta", "pads", "depth", "k"}

TOLERANCES = {"float16": (2e-3, 1e-2), "float32": (1e-3, 1e-5), "float64": (1e-6, 1e-7)}


def array(value: Any) -> Array:
    return numpy_helper.to_array(value) if isinstance(value, TensorProto) else np.asarray(value)


def nodes_of(nodes: Any) -> Iterator[NodeProto]:
    for node in nodes:
        yield node
        for attribute in node.attribute:
            yield from nodes_of(attribute.g.node)


@pytest.fixture(scope="module")
def cases() -> list[Any]:
    """Return the cases of all operations above, and of what functions of ONNX expand to."""
    state = np.random.get_state()  # noqa: NPY002 (onnx's cases seed it)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case import node

        for name in sorted(OPERATIONS):
            importlib.import_module(f"{node.__name__}.{ELSEWHERE.get(name, name.lower())}")
    np.random.set_state(state)  # noqa: NPY002
    collected = node._NodeTestCases
    own = {case.name for case in collected if {each.op_type for each in case.model.graph.node} <= OPERATIONS}
    return [case for case in collected if case.name.partition("_expanded")[0] in own and case.name in own]


def upgraded(model: ModelProto) -> ModelProto:
    if next(each.version for each in model.opset_import if not each.domain) >= 13:
        return model
    newer = onnx.version_converter.convert_version(model, 13)
    newer.ir_version = 8  # from 4 on, an initializer need not be an input
    return newer


def reason_to_skip(model: ModelProto) -> str:
    ends = [*model.graph.input, *model.graph.output]
    if not all(end.type.HasField("tensor_type") for end in ends):
        return "sequences or optional values"
    inner = list(nodes_of(model.graph.node))
    casts = [a.i for each in inner if each.op_type == "Cast" for a in each.attribute if a.name == "to"]
    if {*(end.type.tensor_type.elem_type for end in ends), *casts} - set(DTYPES):
        return "an element type that NumPy has not"
    ops = {each.op_type for each in inner}
    if "Loop" in ops:
        return "a loop"
    if "Optional" in ops or "SequenceConstruct" in ops:
        return "sequences or optional values"
    if any(a.name == "training_mode" and a.i for each in inner for a in each.attribute):
        return "training"
    if model.graph.name.startswith("test_training_dropout") and "zero_ratio" not in model.graph.name:
        return "random numbers"
    return ""


def with_constants(model: ModelProto, feeds: dict[str, Array], names: set[str]) -> ModelProto:
    changed = ModelProto()
    changed.CopyFrom(model)
    kept = [each for each in changed.graph.input if each.name not in names]
    del changed.graph.input[:]
    changed.graph.input.extend(kept)
    changed.graph.initializer.extend(numpy_helper.from_array(feeds[name], name) for name in names)
    return changed


def with_open_lengths(model: ModelProto) -> ModelProto:
    changed = ModelProto()
    changed.CopyFrom(model)
    for entry in changed.graph.input:
        for axis, length in enumerate(entry.type.tensor_type.shape.dim):
            length.dim_param = f"{entry.name}_{axis}"
    return changed


def said(model: ModelProto, feeds: dict[str, Array]) -> set[str]:
    """Return the inputs that are constants in a network, if any others are left."""
    found = {name for n, name in enumerate(feeds) if (n and feeds[name].dtype == np.int64) or name in SAYING}
    first = model.graph.node[0].op_type
    return set(feeds) if first in ("ConstantOfShape", "NonZero") else found


def check_values(got: Array, wanted: Array, name: str) -> None:
    assert got.shape == wanted.shape
    if wanted.dtype == object:
        assert (got == wanted).all()
        return
    relative, absolute = TOLERANCES.get(wanted.dtype.name, (0, 0))
    np.testing.assert_allclose(got, wanted, relative, absolute, err_msg=name)


def check_types(graph: Graph, results: dict[str, Array], all_known: bool) -> None:
    """Check every type that a graph claims against what was computed."""
    for name, kind in graph.types.items():
        if name not in results:
            continue
        found = results[name]
        assert kind.dtype == found.dtype, name
        assert len(kind.shape) == found.ndim, name
        pairs = zip(kind.shape, found.shape, strict=True)
        assert all(one == other or (isinstance(one, str) and not all_known) for one, other in pairs), name
    assert not all_known or set(results) <= set(graph.types)


def run_case(model: ModelProto, feeds: dict[str, Array], wanted: list[Array], name: str) -> None:
    model = with_constants(model, feeds, said(model, feeds))
    graph = graph_of(read_model(model))
    fixed = static(graph, {each: feeds[each].shape for each in graph.inputs})  # a length of 0 counts as open
    tensors = evaluate(fixed, feeds, None, all_tensors=True)
    check_types(fixed, tensors, all_known=True)
    raised = evaluate(fixed, feeds)
    for output, values in zip(fixed.outputs, wanted, strict=False):
        check_values(tensors[output], values, name)
        if values.dtype != object:
            check_values(raised[output], values, name)
    opened = graph_of(read_model(with_open_lengths(model)))
    shapes = {each: feeds[each].shape for each in opened.inputs}
    closed = static(opened, shapes)
    assert {each: closed.types[each] for each in closed.outputs} == {
        each: fixed.types[each] for each in fixed.outputs
    }
    check_types(opened, evaluate(opened, feeds, None, all_tensors=True), all_known=False)
    check_values(evaluate(closed, feeds, None)[closed.outputs[0]], wanted[0], name)


def run_folded(model: ModelProto, feeds: dict[str, Array], wanted: list[Array], name: str) -> None:
    """Everything is constant: nothing is left to run."""
    graph = static(graph_of(read_model(with_constants(model, feeds, set(feeds)))))
    if sum(values.size for values in (*feeds.values(), *wanted)) < 2**10:  # more, and it may take too long
        assert not graph.nodes
    if graph.nodes:
        return
    for output, values in zip(graph.outputs, wanted, strict=False):
        check_values(graph.constants[output], values, name)
        assert graph.constants[output].dtype == values.dtype


def test_cases_of_onnx(cases: list[Any]) -> None:
    skipped: Counter[str] = Counter()
    ran: Counter[str] = Counter()
    wrong = {}
    for case in cases:
        model = upgraded(case.model)
        reason = reason_to_skip(model)
        if reason:
            skipped[reason] += 1
            continue
        inputs, outputs = case.data_sets[0]
        feeds = {each.name: array(v) for each, v in zip(model.graph.input, inputs, strict=True)}
        wanted = [array(value) for value in outputs]
        try:
            run_case(model, feeds, wanted, case.name)
            ops = {each.op_type for each in model.graph.node}
            if ops <= KNOWN | {"Constant", "If"} and "Dropout" not in ops:
                run_folded(model, feeds, wanted, case.name)
            ran.update(ops)
        except Exception as error:
            wrong[case.name] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    assert not wrong, "\n".join(f"{name}: {why}" for name, why in wrong.items())
    assert set(skipped) <= set(SKIPPED)
    assert not {reason: n for reason, n in skipped.items() if n > SKIPPED[reason]}
    assert len(cases) - skipped.total() > 700
    assert (
        not OPERATIONS - set(ran) - {"Loop", "Upsample"}
    )  # which newer operator sets have not, or no graph here


FOLDERS = Path(onnx.__file__).parent / "backend" / "test" / "data" / "pytorch-converted"


def data_of(folder: Path, which: str) -> list[Array]:
    found = []
    for number in range(len(list(folder.glob(f"{which}_*.pb")))):
        tensor = TensorProto()
        tensor.ParseFromString((folder / f"{which}_{number}.pb").read_bytes())
        found.append(numpy_helper.to_array(tensor))
    return found


def test_layers_converted_from_pytorch() -> None:
    """Groups, depth, dilation, one to three axes: what ONNX's own cases leave out."""
    names = [folder for folder in sorted(FOLDERS.iterdir()) if "onv" in folder.name or "Pool" in folder.name]
    assert len(names) >= 28
    for folder in names:
        graph = graph_of(read_model(upgraded(onnx.load(folder / "model.onnx"))))
        data = folder / "test_data_set_0"
        feeds = dict(zip(graph.inputs, data_of(data, "input"), strict=False))
        fixed = static(graph)
        got = evaluate(fixed, feeds, all_tensors=True)
        assert {name: kind.shape for name, kind in fixed.types.items()} == {
            name: values.shape for name, values in got.items()
        }
        for output, wanted in zip(fixed.outputs, data_of(data, "output"), strict=True):
            np.testing.assert_allclose(got[output], wanted, 1e-3, 1e-5, err_msg=folder.name)


def test_every_operation_has_a_rule_and_each_rule_one_home() -> None:
    tables = [module.RULES for module in (elementwise, windows, reductions, layout, quantised)]
    assert sum(map(len, tables)) == len(KNOWN)
    assert set(VALUES) <= KNOWN
    kept = {"Constant", "If", "Loop", "Upsample", "GridSample"}
    assert not OPERATIONS - kept - KNOWN
    assert issubclass(operands.ShapeError, ValueError)
    assert callable(in_newest_form)
