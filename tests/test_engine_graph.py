"""The graph of a network: read, made static, printed, and refused where it is wrong or promises too much."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import onnx_models as models  # noqa: E402 (needs onnx and onnxruntime)
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from onnx import helper, numpy_helper  # noqa: E402
from onnx.onnx_ml_pb2 import ModelProto, TensorProto  # noqa: E402

from separable.engine.graph.ir import Graph, Node, TensorType  # noqa: E402
from separable.engine.graph.reader import captured_by, graph_of  # noqa: E402
from separable.engine.graph.reference import evaluate  # noqa: E402
from separable.engine.graph.shapes.operands import broadcast  # noqa: E402
from separable.engine.graph.shapes.table import typed  # noqa: E402
from separable.engine.graph.static import static  # noqa: E402
from separable.onnx.model.files import read_model  # noqa: E402
from separable.onnx.model.names import ModelError  # noqa: E402

F32 = np.dtype(np.float32)
INT64 = TensorProto.INT64


def read(model: ModelProto) -> Graph:
    return graph_of(read_model(model))


def made(net: models.Net, *outputs: str) -> Graph:
    """Return the graph of a network that onnx's own shape inference does not look at."""
    ends = [helper.make_tensor_value_info(each, TensorProto.FLOAT, [None]) for each in outputs]
    graph = helper.make_graph(net.nodes, "net", net.inputs, ends, net.weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", net.opset)])
    model.ir_version = models.IR_VERSION
    return read(model)


def image(net: models.Net, *shape: int | str) -> str:
    return net.input("image", shape or ["N", 3, "H", "W"])


def integers(net: models.Net, name: str, *values: int) -> str:
    return net.constant(name, np.array(values, np.int64))


# -- read --------------------------------------------------------------------------------------------


def test_a_network_is_read_with_its_lengths_open() -> None:
    graph = read(models.vgg())
    assert [node.op for node in graph.nodes][:3] == ["Conv", "BatchNormalization", "Relu"]
    assert graph.inputs == {"image": TensorType(F32, ("N", 3, 12, 12))}
    assert graph.nodes[0].attributes == {
        "kernel_shape": (3, 3), "strides": (1, 1), "dilations": (1, 1), "pads": (1, 1, 1, 1), "group": 1
    }  # fmt: skip
    assert set(graph.types) == set(graph.names())
    assert graph.types[graph.outputs[0]] == TensorType(F32, ("N", 5))
    assert all(kind.is_open == ("N" in kind.shape) for kind in graph.types.values())


def test_weights_are_shared_and_not_copied() -> None:
    stored = read_model(models.vgg(width=16))
    graph = graph_of(stored)
    large = [name for name in stored.tensors if name in graph.constants]
    assert large
    for name in large:
        assert np.shares_memory(graph.constants[name], stored.tensors[name])
        assert np.shares_memory(
            static(graph, {"image": (1, 3, 12, 12)}).constants[name], stored.tensors[name]
        )


def test_what_does_nothing_is_gone() -> None:
    net = models.Net()
    x = net.node("Identity", [image(net)])
    x = net.node("Dropout", [x, net.constant("ratio", np.array(0.5, np.float32))])
    net.nodes[-1].output.append("mask")
    net.nodes.append(helper.make_node("MaxPool", [x], ["max", "places"], kernel_shape=[1, 1]))
    x = net.node("Identity", [net.node("Relu", ["max"], "relu")], "end")
    graph = read(net.model(x))
    assert [(node.op, node.inputs, node.outputs) for node in graph.nodes] == [
        ("MaxPool", ("image",), ("max",)),
        ("Relu", ("max",), ("end_out",)),
    ]


def test_outputs_keep_their_names_whatever_they_are() -> None:
    """An input, a constant, one tensor twice, and one that others read."""
    net = models.Net()
    x = net.node("Relu", [image(net, 1, 3, 2, 2)], "r")
    w = net.constant("w", np.ones(3, np.float32))
    names = [net.node("Identity", [each], f"id{n}") for n, each in enumerate(("image", w, x, x))]
    names.append(net.node("Neg", [x], "n"))
    graph = made(net, *names)
    feeds = {"image": np.arange(-6, 6, dtype=np.float32).reshape(1, 3, 2, 2)}
    for each in (graph, static(graph)):
        got = evaluate(each, feeds)
        assert tuple(got) == graph.outputs == tuple(names)
        relu = np.maximum(feeds["image"], 0)
        for found, wanted in zip(got.values(), (feeds["image"], np.ones(3), relu, relu, -relu), strict=True):
            np.testing.assert_array_equal(found, wanted)


def test_defaults_of_inputs_are_constants() -> None:
    model = models.vgg()
    first = model.graph.initializer[0]
    model.graph.input.append(helper.make_tensor_value_info(first.name, TensorProto.FLOAT, list(first.dims)))
    assert list(read(model).inputs) == ["image"]


@pytest.mark.parametrize("opset", [13, 17, 18])
def test_old_forms_are_read_as_the_newest(opset: int) -> None:
    net = models.Net(opset)
    x = image(net, 2, 4, 3, 3)
    if opset < 18:
        mean = net.node("ReduceMean", [x], "mean", axes=[2, 3])
    else:
        mean = net.node("ReduceMean", [x, integers(net, "axes", 2, 3)], "mean")
    more = {"num_outputs": 2} if opset >= 18 else {}
    net.nodes.append(helper.make_node("Split", [mean], ["a", "b"], axis=1, **more))
    graph = read(net.model("a", "b"))
    mean_node, split = graph.nodes
    assert graph.constants[mean_node.inputs[1]].tolist() == [2, 3]
    assert split.attributes == {"axis": 1, "num_outputs": 2}
    assert graph.types["b"].shape == (2, 2, 1, 1)


def test_new_constants_take_no_name_that_is_there() -> None:
    net = models.Net()
    x = image(net, 2, 4, 3, 3)
    net.constant("mean_out.axes", np.full((2, 4, 1, 1), 5, np.float32))
    y = net.node("Add", [net.node("ReduceMean", [x], "mean", axes=[2, 3]), "mean_out.axes"], "sum")
    got = evaluate(static(read(net.model(y))), {"image": np.ones((2, 4, 3, 3))})
    np.testing.assert_array_equal(got[y], np.full((2, 4, 1, 1), 6.0))


def test_functions_are_written_out() -> None:
    net = models.Net(17)
    x = image(net, 1, 3, 4, 4)
    net.nodes.append(helper.make_node("Twice", [x], ["y"], domain="own"))
    body = [helper.make_node("Add", ["a", "a"], ["b"])]
    function = helper.make_function("own", "Twice", ["a"], ["b"], body, [helper.make_opsetid("", 17)])
    ends = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3, 4, 4])]
    model = helper.make_model(
        helper.make_graph(net.nodes, "net", net.inputs, ends),
        functions=[function],
        opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("own", 1)],
    )
    graph = read(model)
    assert [node.op for node in graph.nodes] == ["Add"]


def test_operations_of_others_keep_their_domain_and_are_refused_by_name() -> None:
    net = models.Net()
    net.nodes.append(helper.make_node("Odd", [image(net, 1, 3, 4, 4)], ["y"], domain="my.own"))
    ends = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3, 4, 4])]
    model = helper.make_model(
        helper.make_graph(net.nodes, "net", net.inputs, ends),
        opset_imports=[helper.make_opsetid("", 13), helper.make_opsetid("my.own", 1)],
    )
    graph = read(model)
    assert graph.nodes[0].op == "my.own::Odd"
    for act in (lambda: static(graph), lambda: evaluate(graph, {"image": np.zeros((1, 3, 4, 4))})):
        with pytest.raises(ModelError, match=r"node `y` \(my\.own::Odd\).*not known here"):
            act()


# -- static ------------------------------------------------------------------------------------------


def shuffled(net: models.Net, x: str) -> str:
    """Shuffle channels as PyTorch's exporter writes it for open lengths."""
    shape = net.node("Shape", [x])
    parts = []
    for axis in range(4):
        index = net.constant(f"at{axis}", np.array(axis, np.int64))
        parts.append(net.node("Gather", [shape, index], axis=0))
    half = net.node("Div", [parts[1], net.constant("two", np.array(2, np.int64))])
    zero = integers(net, "zero", 0)
    one = [net.node("Unsqueeze", [each, zero]) for each in (parts[0], half, parts[2], parts[3])]
    lengths = net.node("Concat", [one[0], integers(net, "2", 2), *one[1:]], axis=0)
    x = net.node("Transpose", [net.node("Reshape", [x, lengths])], perm=[0, 2, 1, 3, 4])
    return net.node("Reshape", [x, shape], "end")


def test_lengths_are_computed_when_the_graph_is_made_static() -> None:
    net = models.Net()
    graph = made(net, shuffled(net, image(net, "N", 4, "H", "W")))
    fixed = static(graph, {"image": (2, 4, 5, 3)})
    assert [node.op for node in fixed.nodes] == ["Reshape", "Transpose", "Reshape"]
    assert set(fixed.types) == set(fixed.names())
    assert not any(kind.is_open for kind in fixed.types.values())
    assert len(fixed.constants) == 2
    x = np.random.default_rng(0).standard_normal((2, 4, 5, 3))
    wanted = x.reshape(2, 2, 2, 5, 3).swapaxes(1, 2).reshape(x.shape)
    np.testing.assert_array_equal(evaluate(fixed, {"image": x})["end_out"], wanted)
    np.testing.assert_array_equal(evaluate(graph, {"image": x})["end_out"], wanted)


def test_a_static_graph_is_static() -> None:
    fixed = static(read(models.resnet()), {"image": (1, 3, 12, 12)})
    again = static(fixed)
    assert [str(node) for node in again.nodes] == [str(node) for node in fixed.nodes]
    assert again.types == fixed.types
    assert typed(fixed).types == fixed.types


def test_padding_that_is_asked_for_by_name_is_numbers_once_lengths_are() -> None:
    net = models.Net()
    x = image(net)
    same = net.conv(x, 3, 4, (3, 3), "same", auto_pad="SAME_UPPER")
    half = net.conv(same, 4, 4, (3, 3), "half", auto_pad="SAME_LOWER", strides=[2, 2])
    valid = net.conv(half, 4, 4, (3, 3), "valid", auto_pad="VALID")
    graph = read(net.model(valid))
    assert [node.attributes.get("auto_pad") for node in graph.nodes] == [None, "SAME_LOWER", None]
    assert graph.nodes[0].attributes["pads"] == (1, 1, 1, 1)
    fixed = static(graph, {"image": (1, 3, 8, 9)})
    assert [node.attributes["pads"] for node in fixed.nodes] == [(1, 1, 1, 1), (1, 1, 0, 1), (0, 0, 0, 0)]
    assert fixed.types[half].shape == (1, 4, 4, 5)
    feeds = {"image": np.random.default_rng(0).standard_normal((1, 3, 8, 9)).astype(np.float32)}
    wanted = models.run(net.model(valid), feeds)[0]
    for each in (graph, fixed):
        np.testing.assert_allclose(evaluate(each, feeds)[valid], wanted, 1e-4, 1e-5)


@pytest.mark.parametrize("counted", [0, 1])
@pytest.mark.parametrize("pad", [0, 1])
@pytest.mark.parametrize("operator", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize("size", [6, 7, 8, 9])
def test_pools_that_round_up_are_pools_with_more_padding(
    operator: str, pad: int, counted: int, size: int
) -> None:
    net = models.Net(opset=18)
    more = {"count_include_pad": counted} if operator == "AveragePool" else {}
    x = image(net, 1, 2, size, 9)
    y = net.node(operator, [x], "p", kernel_shape=[3, 3], strides=[2, 3], pads=[pad] * 4, ceil_mode=1, **more)
    model = net.model(y)
    feeds = {"image": np.random.default_rng(0).standard_normal((1, 2, size, 9)).astype(np.float32)}
    fixed = static(read(model))
    assert not any("ceil_mode" in node.attributes for node in fixed.nodes)
    wanted = models.run(model, feeds)[0]
    assert fixed.types[y].shape == wanted.shape
    np.testing.assert_allclose(evaluate(fixed, feeds)[y], wanted, 1e-5, 1e-6)
    np.testing.assert_allclose(evaluate(read(model), feeds)[y], wanted, 1e-5, 1e-6)


def branches(net: models.Net, condition: str, x: str) -> str:
    """Add an If whose branches read what lies outside of them, under names that occur twice."""

    def branch(operator: str, name: str) -> onnx.GraphProto:
        end = helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, None])
        nodes = [helper.make_node(operator, [x], ["inner"]), helper.make_node("Identity", ["inner"], [name])]
        return helper.make_graph(nodes, name, [], [end])

    return net.node("If", [condition], "if", then_branch=branch("Relu", "a"), else_branch=branch("Neg", "b"))


@pytest.mark.parametrize("rows", [1, 2])
def test_a_branch_that_lengths_choose_is_part_of_the_graph(rows: int) -> None:
    net = models.Net()
    x = net.node("Abs", [image(net, "N", 3)], "abs")
    size = net.node("Gather", [net.node("Shape", [x]), net.constant("first", np.array(0))])
    condition = net.node("Equal", [size, net.constant("one", np.array(1))])
    y = net.node("Exp", [branches(net, condition, x)], "exp")
    graph = made(net, y)
    assert captured_by(graph.nodes[4].attributes["then_branch"]) == ["abs_out"]
    assert graph.nodes[4].inputs[1:] == ("abs_out",)
    fixed = static(graph, {"image": (rows, 3)})
    assert [node.op for node in fixed.nodes] == ["Abs", "Relu" if rows == 1 else "Neg", "Exp"]
    x_ = np.random.default_rng(0).standard_normal((rows, 3))
    wanted = np.exp(np.abs(x_) if rows == 1 else -np.abs(x_))
    for each in (graph, fixed):
        np.testing.assert_allclose(evaluate(each, {"image": x_})[y], wanted)


def test_a_branch_that_is_an_output() -> None:
    net = models.Net()
    condition = net.constant("yes", np.array(True))
    y = branches(net, condition, image(net, 2, 3))
    fixed = static(made(net, y))
    assert [node.op for node in fixed.nodes] == ["Relu", "Identity"]
    assert list(evaluate(fixed, {"image": -np.ones((2, 3))})) == [y]


def test_a_branch_that_is_chosen_when_the_model_runs() -> None:
    net = models.Net()
    x = image(net, 2, 3)
    net.inputs.append(helper.make_tensor_value_info("yes", TensorProto.BOOL, []))
    y = branches(net, "yes", x)
    fixed = static(made(net, y))
    assert fixed.types[y].shape == (2, 3)
    values = np.full((2, 3), -2.0)
    for yes, wanted in ((True, 0), (False, 2)):
        assert (evaluate(fixed, {"image": values, "yes": np.array(yes)})[y] == wanted).all()


# -- errors ------------------------------------------------------------------------------------------


def mismatched(net: models.Net) -> str:
    return net.node("Add", [image(net), net.constant("c", np.ones((1, 5, 1, 1), np.float32))], "sum")


def wrong_channels(net: models.Net) -> str:
    return net.conv(image(net), 4, 4, (3, 3), "c")


def too_wide(net: models.Net) -> str:
    return net.conv(image(net), 3, 4, (9, 9), "c")


def by_data(net: models.Net) -> str:
    x = image(net)
    most = net.node("Cast", [net.node("ReduceMax", [x], keepdims=0)], to=INT64)
    most = net.node("Reshape", [most, integers(net, "l", 1)])
    return net.node("Expand", [net.constant("c", np.ones(1, np.float32)), most], "e")


def no_reshape(net: models.Net) -> str:
    return net.node("Reshape", [image(net), integers(net, "l", 7, -1)], "r")


def wrong_slice(net: models.Net) -> str:
    args = [integers(net, name, value) for name, value in (("s", 0), ("e", 1), ("a", 9))]
    return net.node("Slice", [image(net), *args], "s")


def counting(net: models.Net) -> str:
    body = [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Relu", ["v"], ["w"])]
    kinds = (("i", INT64), ("go", TensorProto.BOOL), ("v", TensorProto.FLOAT))
    ends = (("on", TensorProto.BOOL), ("w", TensorProto.FLOAT))
    graph = helper.make_graph(
        body,
        "body",
        [
            helper.make_tensor_value_info(name, kind, [None] * 4 if name == "v" else [])
            for name, kind in kinds
        ],
        [helper.make_tensor_value_info(name, kind, [None] * 4 if name == "w" else []) for name, kind in ends],
    )
    turns = net.constant("turns", np.array(3, np.int64))
    return net.node("Loop", [turns, "", image(net)], "loop", body=graph)


SHAPE = (1, 3, 4, 4)
WRONG: dict[str, tuple[Callable[[models.Net], str], str]] = {
    "shapes that do not broadcast": (
        mismatched,
        r"node `sum_out` \(Add\): shapes \(.*, 3, .*\) and \(1, 5, 1, 1\) do not broadcast",
    ),
    "channels": (wrong_channels, r"node `c_out` \(Conv\): weights of shape \(4, 4, 3, 3\) in 1 group"),
    "a window that is too long": (too_wide, r"`c_out` \(Conv\): a window of 9 pixels is longer than axis 2"),
    "a shape that data decide": (by_data, r"`e_out` \(Expand\) has no shape before the model runs: .* `resh"),
    "a reshape that does not fit": (no_reshape, r"`r_out` \(Reshape\): an input of shape .* \(7, -1\)"),
    "an axis that is not there": (wrong_slice, r"`s_out` \(Slice\): axis 9 lies outside of 4 axes"),
    "a loop": (counting, r"`loop_out` \(Loop\): loops are not known here"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said_with_the_node(case: str) -> None:
    make, message = WRONG[case]
    net = models.Net()
    with pytest.raises(ModelError, match=message):
        static(made(net, make(net)), {"image": SHAPE})


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({}, r"input `image` has the open length `N`; give its shape"),
        ({"image": (1, 3, 12)}, r"input `image` has shape \('N', 3, 12, 12\); got \(1, 3, 12\)"),
        ({"image": (1, 4, 12, 12)}, r"input `image` has shape .*; got \(1, 4, 12, 12\)"),
        ({"image": (-1, 3, 12, 12)}, r"input `image` has a negative length"),
        ({"picture": (1, 3, 12, 12)}, r"it has no input `picture`; expected `image`"),
    ],
)
def test_shapes_that_do_not_fit_the_inputs(shapes: dict[str, tuple[int, ...]], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        static(read(models.vgg()), shapes)


def test_one_name_is_one_length() -> None:
    net = models.Net()
    a, b = net.input("a", ["N", 3]), net.input("b", ["N", 3])
    graph = read(net.model(net.node("Add", [a, b])))
    with pytest.raises(ModelError, match="length `N` is 1 in `a` and 2 in `b`"):
        static(graph, {"a": (1, 3), "b": (2, 3)})
    assert static(graph, {"a": (2, 3), "b": (2, 3)}).types[graph.outputs[0]].shape == (2, 3)


def test_an_input_of_a_type_that_numpy_has_not_is_refused() -> None:
    net = models.Net()
    y = net.node("Relu", [image(net)])
    net.inputs[0].type.tensor_type.elem_type = TensorProto.BFLOAT16
    with pytest.raises(ModelError, match="input `image` is no tensor of a known type and number of axes"):
        made(net, y)


def test_norms_in_training_are_refused() -> None:
    net = models.Net(15)
    x = image(net, 1, 3, 4, 4)
    y = net.norm(x, 3, "norm", training_mode=1)
    net.nodes[-1].output.extend(["mean", "variance"])
    with pytest.raises(ModelError, match=r"\(BatchNormalization\) is in training mode"):
        made(net, y)


# -- what promises too much --------------------------------------------------------------------------

HUGE = 2**21


def of_lengths(net: models.Net) -> str:
    return net.node("ConstantOfShape", [integers(net, "l", 1, 1, HUGE, HUGE)], "h")


def expanded(net: models.Net) -> str:
    return net.node(
        "Expand", [net.constant("c", np.ones(1, np.float32)), integers(net, "l", HUGE, HUGE)], "h"
    )


def tiled(net: models.Net) -> str:
    c = net.constant("c", np.ones((2, 2), np.float32))
    return net.node("Tile", [c, integers(net, "l", HUGE, HUGE)], "h")


def ranged(net: models.Net) -> str:
    ends = [
        net.constant(name, np.array(each, np.int64)) for name, each in zip("abc", (0, 2**60, 1), strict=True)
    ]
    return net.node("Cast", [net.node("Range", ends, "h")], to=1)


def padded(net: models.Net) -> str:
    c = net.constant("c", np.ones((2, 2), np.float32))
    return net.node("Pad", [c, integers(net, "l", 0, 0, HUGE, HUGE)], "h")


def multiplied(net: models.Net) -> str:
    """Add two vectors, neither of them large, to a matrix that is."""
    a = net.node("ConstantOfShape", [integers(net, "a", HUGE, 1)])
    return net.node("Add", [a, net.node("ConstantOfShape", [integers(net, "b", HUGE)])], "h")


def piled(net: models.Net) -> str:
    """Make more and more tensors, none of which is too large by itself."""
    parts = [
        net.node("ConstantOfShape", [integers(net, f"l{n}", 2**40 + n)], f"h{n}" if n else "h")
        for n in range(3)
    ]
    return net.node("Concat", parts, axis=0)


@pytest.mark.parametrize("make", [of_lengths, expanded, tiled, ranged, padded, multiplied, piled])
def test_constants_that_would_not_fit_are_never_made(make: Callable[[models.Net], str]) -> None:
    net = models.Net()
    y = net.node("Add", [image(net, 1), make(net)], "sum")
    graph = made(net, y)
    before = time.perf_counter()
    with pytest.raises(ModelError, match=r"tensor `h\w*_out` of shape .* takes .* but this machine has"):
        static(graph)
    assert time.perf_counter() - before < 5


def test_huge_tensors_that_nobody_makes_cost_nothing() -> None:
    """Their types are known; whoever runs the graph asks for the memory."""
    net = models.Net()
    y = net.node("Expand", [image(net, 1), integers(net, "l", HUGE, HUGE)], "h")
    assert static(made(net, y)).types[y].shape == (HUGE, HUGE)


@pytest.mark.parametrize("field", ["strides", "dilations", "kernel_shape", "pads"])
def test_windows_that_make_no_sense(field: str) -> None:
    net = models.Net()
    values = {"strides": [0, 1], "dilations": [-1, 1], "kernel_shape": [2, 2], "pads": [1, 1]}[field]
    y = net.conv(image(net), 3, 4, (3, 3), "c", **{field: values})
    with pytest.raises(ModelError, match=rf"`c_out` \(Conv\): {field}"):
        made(net, y)


# -- printed -----------------------------------------------------------------------------------------


def test_a_graph_prints_a_line_a_node() -> None:
    net = models.Net()
    x = net.conv(image(net), 3, 4, (3, 3), "c", strides=[2, 2], pads=[1, 1, 1, 1], bias=False)
    x = net.node("LeakyRelu", [x], "act", alpha=0.25)
    text = str(read(net.model(net.node("Reshape", [x, integers(net, "l", 0, -1)], "end"))))
    assert text.splitlines() == [
        "net: 3 nodes, 2 constants (448 B)",
        "  input image: float32 N x 3 x H x W",
        "  c_out = Conv(image, c.w) pads=[1 1 1 1] strides=[2 2] kernel_shape=[3 3]: "
        "float32 N x 4 x c_out.2 x c_out.3",
        "  act_out = LeakyRelu(c_out) alpha=0.25: float32 N x 4 x c_out.2 x c_out.3",
        "  end_out = Reshape(act_out, l): float32 N x end_out.1",
        "  outputs end_out",
    ]
    assert (
        str(Node("If", ("c",), ("y",), {"then_branch": read(models.vgg())}))
        == "y = If(c) then_branch=[<12 nodes>]"
    )
    assert str(TensorType(F32, ())) == "float32 scalar"
    assert len(str(Node("Odd", ("", "x"), ("", "y"), {"text": "x" * 500, "many": tuple(range(99))}))) < 100


# -- properties --------------------------------------------------------------------------------------

LENGTHS = st.lists(st.sampled_from([1, 1, 2, 3, "N", "M"]), max_size=4)


@settings(max_examples=200, deadline=None)
@given(LENGTHS, LENGTHS, st.sampled_from([1, 2, 3]), st.sampled_from([1, 2, 3]))
def test_open_lengths_broadcast_as_numbers_do(a: list[Any], b: list[Any], n: int, m: int) -> None:
    """Whatever the names come to, what was said of them is true."""
    numbers = [tuple({"N": n, "M": m}.get(each, each) for each in shape) for shape in (a, b)]
    try:
        wanted = np.broadcast_shapes(*numbers)
    except ValueError:
        return
    found = broadcast([tuple(a), tuple(b)])
    assert len(found) == len(wanted)
    known = {"N": n, "M": m}
    for length, number in zip(found, wanted, strict=True):
        assert length is None or known.get(length, length) == number


@st.composite
def networks(draw: st.DrawFn) -> tuple[ModelProto, tuple[int, ...]]:
    """Draw a small network of layers that keep their rank, with branches that meet again."""
    net = models.Net(18, seed=draw(st.integers(0, 99)))
    channels = draw(st.sampled_from([2, 4, 6]))
    x = net.input("image", ["N", channels, "H", "W"])
    last = x
    for number in range(draw(st.integers(1, 5))):
        kind = draw(st.sampled_from(["conv", "depthwise", "norm", "act", "pool", "mean", "add", "concat"]))
        if kind == "conv":
            wide, k = draw(st.sampled_from([2, 4, 6])), draw(st.sampled_from([1, 3]))
            pad = draw(st.sampled_from(["SAME_UPPER", "SAME_LOWER"]))
            step = draw(st.sampled_from([1, 2]))
            last = net.conv(last, channels, wide, (k, k), f"c{number}", auto_pad=pad, strides=[step] * 2)
            channels = wide
        elif kind == "depthwise":
            pads = [1, 1, 1, 1]
            last = net.conv(last, channels, channels, (3, 3), f"d{number}", group=channels, pads=pads)
        elif kind == "norm":
            last = net.norm(last, channels, f"n{number}")
        elif kind == "act":
            last = net.node(
                draw(st.sampled_from(["Relu", "Sigmoid", "HardSwish", "Tanh", "Softplus"])), [last]
            )
        elif kind == "pool":
            operator = draw(st.sampled_from(["MaxPool", "AveragePool"]))
            last = net.node(operator, [last], kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)
        elif kind == "mean":
            last = net.node("Mul", [last, net.node("GlobalAveragePool", [last])])
        elif kind == "add":
            last = net.node("Add", [last, net.node("Neg", [net.node("Abs", [last])])])
        else:
            last, channels = net.node("Concat", [last, last], axis=1), 2 * channels
    shape = (draw(st.integers(1, 2)), net.inputs[0].type.tensor_type.shape.dim[1].dim_value, 9, 11)
    return net.model(last), shape


@settings(max_examples=80, deadline=None)
@given(networks())
def test_random_networks_mean_what_onnx_runtime_says(drawn: tuple[ModelProto, tuple[int, ...]]) -> None:
    model, shape = drawn
    feeds = {"image": np.random.default_rng(1).standard_normal(shape).astype(np.float32)}
    wanted = models.run(model, feeds)[0]
    graph = read(model)
    fixed = static(graph, {"image": shape})
    (got,) = evaluate(fixed, feeds).values()
    assert fixed.types[fixed.outputs[0]].shape == wanted.shape
    np.testing.assert_allclose(got, wanted, 1e-3, 1e-4)
    np.testing.assert_allclose(*evaluate(graph, feeds).values(), got, 1e-12, 1e-12)
    for name, kind in graph.types.items():
        if name in fixed.types:
            assert len(kind.shape) == len(fixed.types[name].shape)
            assert all(
                isinstance(a, str) or a == b for a, b in zip(kind.shape, fixed.types[name].shape, strict=True)
            )


def calls_to_read(count: int, width: int) -> int:
    """Return how often Python calls a function while a chain of convolutions is read and made static."""
    net = models.Net()
    x = image(net, 1, width, 8, 8)
    for number in range(count):
        x = net.conv(x, width, width, (3, 3), f"c{number}", pads=[1] * 4, bias=False)
    stored = read_model(net.model(x))
    static(graph_of(stored))
    calls = 0

    def watch(_: Any, event: str, __: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(watch)
    try:
        static(graph_of(stored))
    finally:
        sys.setprofile(None)
    return calls


def test_reading_takes_milliseconds() -> None:
    """A call takes less than 0.1 us: 300 of them a node are 4 ms for 150 nodes, however large the weights."""
    few, many, wide = calls_to_read(20, 8), calls_to_read(120, 8), calls_to_read(20, 64)
    assert (many - few) / 100 < 300
    assert abs(wide - few) < 200


def test_names_say_no_more_than_letters() -> None:
    """What a file calls a tensor is no part of a line of its own."""
    graph = read(models.vgg())
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", str(graph))
    assert numpy_helper.to_array(numpy_helper.from_array(np.ones(1))).tolist() == [1]
