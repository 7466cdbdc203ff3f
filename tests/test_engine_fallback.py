"""What the engine does not run: named all at once, or run by ONNX Runtime where a caller says so."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from engine_nets import GraphNet  # noqa: E402 (needs onnx)
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

import separable as sp  # noqa: E402
from separable.engine.graph.ir import Node, TensorType  # noqa: E402
from separable.engine.graph.reference import evaluate  # noqa: E402
from separable.engine.graph.static import is_known  # noqa: E402
from separable.engine.network.apart import taken_apart  # noqa: E402
from separable.engine.network.fallback import ForeignPart, parts, types_in_runtime  # noqa: E402
from separable.engine.passes import simplified  # noqa: E402
from separable.engine.program.lower import NATIVE, may_be_native  # noqa: E402
from separable.engine.program.weights import WeightStore  # noqa: E402

Array = npt.NDArray[Any]
RNG = np.random.default_rng(0)


def normal(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def model_of(nodes: list[Any], inputs: dict[str, list[Any]], outputs: list[str], **weights: Array) -> Any:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()]
    held = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    results = [onnx.ValueInfoProto(name=name) for name in outputs]
    graph = helper.make_graph(nodes, "mixed", ends, results, held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 8
    return model


def mixed_model() -> Any:
    """Native, foreign for its kind, native, foreign for its type; and an output from the middle."""
    pads = {"pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], **pads),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("CumSum", ["r", "axis"], ["s"]),
        helper.make_node("Conv", ["s", "v", "b"], ["d"], **pads),
        helper.make_node("ArgMax", ["d"], ["i"], axis=1, select_last_index=1),
        helper.make_node("Cast", ["i"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["f", "r"], ["y"]),
        helper.make_node("Hardmax", ["s"], ["h"], axis=1),
    ]
    weights = {"w": normal(8, 3, 3, 3), "v": normal(4, 8, 3, 3), "b": normal(4)}
    return model_of(nodes, {"x": ["n", 3, 9, 7]}, ["y", "i", "h"], axis=np.array(2), **weights)


def by_runtime(model: Any, feeds: dict[str, Array]) -> dict[str, Array]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_outputs()]
    return dict(zip(names, session.run(None, feeds), strict=True))


def test_all_that_is_not_supported_is_named_at_once() -> None:
    with pytest.raises(sp.engine.UnsupportedOperationsError) as caught:
        sp.engine.load(mixed_model())
    assert caught.value.operations == (
        "CumSum (`s`)",
        "ArgMax of int64 (`i`)",
        "Cast of int64 (`f`)",
        "Hardmax (`h`)",
    )
    said = str(caught.value)
    assert said.startswith("`path_or_model` holds operations that the engine does not run: CumSum (`s`);")
    assert "fallback='onnxruntime'" in said


def test_attributes_that_are_not_supported_are_named_beside_kinds() -> None:
    cut = {"mode": "linear", "coordinate_transformation_mode": "tf_crop_and_resize"}
    nodes = [
        helper.make_node("Resize", ["x", "roi", "scales"], ["a"], **cut),
        helper.make_node("Hardmax", ["a"], ["b"], axis=1),
        helper.make_node("MaxPool", ["b"], ["c", "where"], kernel_shape=[2, 2]),
        helper.make_node("Hardmax", ["c"], ["y"], axis=1),
    ]
    weights = {"roi": np.float32([0, 0, 0, 0, 1, 1, 1, 1]), "scales": np.float32([1, 1, 2, 2])}
    model = model_of(nodes, {"x": [1, 2, 6, 6]}, ["y", "where"], **weights)
    with pytest.raises(sp.engine.UnsupportedOperationsError) as caught:
        sp.engine.load(model)
    kinds = [each.partition(" (`")[0] for each in caught.value.operations]
    assert set(kinds) == {
        "Hardmax",
        "MaxPool of int64",
        "Resize: antialias or tf_crop_and_resize",
    }
    assert "Hardmax (`b` and 1 more)" in caught.value.operations


def test_the_rest_runs_in_onnx_runtime_and_is_announced() -> None:
    model = mixed_model()
    program = sp.engine.load(model, fallback="onnxruntime", threads=1)
    for batch in (1, 3):
        x = normal(batch, 3, 9, 7)
        wanted = by_runtime(model, {"x": x})
        found = program(x)
        assert list(found) == list(wanted)
        for name, values in wanted.items():
            assert found[name].dtype == values.dtype
            np.testing.assert_allclose(found[name], values, rtol=0, atol=1e-4 * np.abs(values).max())
    text = str(program)
    assert "ONNX Runtime: CumSum, Hardmax" in text
    assert "ONNX Runtime: ArgMax, Cast" in text
    assert "conv 3 x 3" in text
    profile = program.profile(x, repeat=3)
    assert sum("ONNX Runtime" in step.kind for step in profile.steps) == 2
    out = {name: np.empty_like(values) for name, values in wanted.items()}
    program(x, out=out)
    np.testing.assert_array_equal(out["i"], wanted["i"])


def loop_model() -> Any:
    """A loop whose body reads a weight and a tensor from outside, behind a convolution."""
    body = helper.make_graph(
        [
            helper.make_node("Mul", ["state", "factor"], ["scaled"]),
            helper.make_node("Add", ["scaled", "c"], ["next"]),
            helper.make_node("Identity", ["going"], ["go"]),
            helper.make_node("Identity", ["next"], ["kept"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, None),
            helper.make_tensor_value_info("kept", TensorProto.FLOAT, None),
        ],
    )
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("Loop", ["turns", "", "c"], ["last", "all"], body=body),
        helper.make_node("Relu", ["last"], ["y"]),
    ]
    weights = {"w": normal(4, 3, 1, 1), "factor": np.float32(0.5), "turns": np.array(3)}
    return model_of(nodes, {"x": [1, 3, 5, 5]}, ["y", "all"], **weights)


def test_loops_run_there_and_what_they_take_from_outside_goes_with_them() -> None:
    model = loop_model()
    with pytest.raises(sp.engine.UnsupportedOperationsError, match=r"run: Loop \(`last`\)"):
        sp.engine.load(model)
    program = sp.engine.load(model, fallback="onnxruntime")
    assert "ONNX Runtime: Loop" in str(program)
    x = normal(1, 3, 5, 5)
    for name, values in by_runtime(model, {"x": x}).items():
        np.testing.assert_allclose(program(x)[name], values, rtol=0, atol=1e-5 * np.abs(values).max())


def test_operations_of_other_domains_are_named() -> None:
    node = helper.make_node("Strange", ["x"], ["y"], domain="org.example")
    model = model_of([node], {"x": [2, 3]}, ["y"])
    model.opset_import.append(helper.make_opsetid("org.example", 1))
    with pytest.raises(sp.engine.UnsupportedOperationsError, match=r"org\.example::Strange \(`y`\)"):
        sp.engine.load(model)
    with pytest.raises(ValueError, match=r"ONNX Runtime .* refuses it"):
        sp.engine.load(model, fallback="onnxruntime")


def test_shapes_that_depend_on_values_are_an_error_and_no_wrong_result() -> None:
    model = model_of([helper.make_node("Unique", ["x"], ["y"])], {"x": [6]}, ["y"])
    program = sp.engine.load(model, fallback="onnxruntime")
    np.testing.assert_array_equal(program(np.ones(6, np.float32)), [1])
    with pytest.raises(ValueError, match=r"`path_or_model`: tensor `y` has shape \(6,\), and \(1,\) was"):
        program(np.arange(6, dtype=np.float32))


# -- how networks are divided ------------------------------------------------------------------------


def test_what_passes_joined_is_taken_apart() -> None:
    net = GraphNet(0, np.float32)
    x = net.input(2, 8, 6, 6)
    maps = net.node("HardSwish", net.conv(x, 8, 8))
    gate = net.node("Sigmoid", net.conv(net.node("GlobalAveragePool", maps), 8, 8, 1))
    y = net.conv(net.node("Mul", maps, gate), 8, 8, 1)
    graph = simplified(
        net.graph(net.node("Clip", net.node("Add", y, x), net.constant(0.0), net.constant(3.0)))
    )
    assert any(len(node.inputs) > 3 for node in graph.nodes)
    chosen = {node.outputs[0] for node in graph.nodes}
    apart = taken_apart(graph, chosen)
    assert all(len(node.inputs) < 4 and "activation" not in node.attributes for node in apart.nodes)
    assert {node.op for node in apart.nodes} >= {"Conv", "HardSwish", "Mul", "Add", "Clip"}
    data = {"x": normal(2, 8, 6, 6)}
    (wanted,), (found,) = evaluate(graph, data).values(), evaluate(apart, data).values()
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6)
    assert taken_apart(apart, set(chosen)).nodes == apart.nodes


def test_parts_take_turns_and_as_many_nodes_as_are_ready() -> None:
    net = GraphNet(0, np.float32)
    x = net.input(1, 4, 6, 6)
    first = net.node("Hardmax", net.node("Relu", x), axis=1)
    second = net.node("Hardmax", net.node("Abs", x), axis=1)
    graph = net.graph(net.node("Add", first, second))
    found = parts(graph, WeightStore(), 1)
    assert [isinstance(part, ForeignPart) for part in found] == [False, True, False]
    assert found[1].operations[0].kind == "ONNX Runtime: 2 Hardmax"
    assert found[1].memory_bytes(1) == 0


def test_types_of_what_is_not_known() -> None:
    node = Node("Unique", ("x",), ("y", "", "", "count"), {"sorted": 1})
    kinds = types_in_runtime(node, [TensorType(np.dtype(np.float32), (4,))], [None])
    assert [str(kind) for kind in kinds] == ["float32 1", "float32 scalar", "float32 scalar", "int64 1"]
    assert not is_known("Unique")
    assert is_known("Conv")
    assert not may_be_native("CumSum")
    assert may_be_native("Shape")
    assert all(map(may_be_native, NATIVE))
