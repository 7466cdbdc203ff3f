"""Weights behind nodes that turn, scale, reshape or cast them: read as what a layer multiplies by."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import onnx_models as models  # noqa: E402 (needs onnx and onnxruntime)
from onnx import ModelProto, TensorProto, helper, numpy_helper  # noqa: E402

import separable as sp  # noqa: E402
from separable.onnx.conversion.trace import find_layers  # noqa: E402
from separable.onnx.model.constants import FOLDED, value_of  # noqa: E402
from separable.onnx.model.files import read_model  # noqa: E402
from separable.onnx.model.graph import GraphIndex  # noqa: E402

Array = models.Array
RNG = np.random.default_rng(3)
WEIGHTS = (RNG.standard_normal((8, 4, 3, 3)) / 6).astype(np.float32)


def chain(way: str) -> tuple[dict[str, Array], list[Any], Array]:
    """Constants, the nodes that make `w` of them, and what it comes to."""
    node = helper.make_node
    turned = np.ascontiguousarray(WEIGHTS.transpose(2, 3, 1, 0))
    half = WEIGHTS.astype(np.float16)
    scale = np.linspace(0.5, 2, 8, dtype=np.float32).reshape(8, 1, 1, 1)
    if way == "Transpose":  # as tf2onnx writes it
        return {"hwio": turned}, [node("Transpose", ["hwio"], ["w"], perm=[3, 2, 0, 1])], WEIGHTS
    if way == "Cast":  # as PyTorch writes a model in half precision that computes in single
        return {"half": half}, [node("Cast", ["half"], ["w"], to=TensorProto.FLOAT)], half.astype(np.float32)
    if way == "Mul":
        return {"v": WEIGHTS, "scale": scale}, [node("Mul", ["v", "scale"], ["w"])], WEIGHTS * scale
    if way == "Reshape":
        flat = {"flat": WEIGHTS.reshape(8, -1), "lengths": np.array([0, 4, 3, -1])}
        return flat, [node("Reshape", ["flat", "lengths"], ["w"])], WEIGHTS
    if way == "Unsqueeze":
        given = {"v": WEIGHTS[..., :1, :1].reshape(8, 4, 1), "axes": np.array([3])}
        return given, [node("Unsqueeze", ["v", "axes"], ["w"])], WEIGHTS[..., :1, :1]
    if way == "Squeeze":
        given = {"v": WEIGHTS[np.newaxis], "axes": np.array([0])}
        return given, [node("Squeeze", ["v", "axes"], ["w"])], WEIGHTS
    assert way == "all of them"
    nodes = [
        node("Constant", [], ["c"], value=numpy_helper.from_array(turned.astype(np.float16))),
        node("Cast", ["c"], ["single"], to=TensorProto.FLOAT),
        node("Identity", ["single"], ["same"]),
        node("Transpose", ["same"], ["t"], perm=[3, 2, 0, 1]),
        node("Mul", ["t", "scale"], ["w"]),
    ]
    return {"scale": scale}, nodes, half.astype(np.float32) * scale


WAYS = ["Transpose", "Cast", "Mul", "Reshape", "Unsqueeze", "Squeeze", "all of them"]


def network(way: str) -> ModelProto:
    """A convolution whose weights are made by a chain, one that is plain, and a sum that ends them."""
    constants, nodes, weights = chain(way)
    net = models.Net()
    x = net.input("x", ["N", 4, 8, 8])
    for name, values in constants.items():
        net.constant(name, values)
    net.nodes += nodes
    y = net.node("Conv", [x, "w"], "made", pads=[k // 2 for k in weights.shape[2:]] * 2)
    return net.model(net.conv(net.node("Relu", [y]), 8, 8, (3, 3), "plain", pads=[1] * 4))


@pytest.mark.parametrize("way", WAYS)
def test_values_are_those_that_onnx_runtime_computes(way: str) -> None:
    model = network(way)
    graph = GraphIndex(read_model(model))
    assert graph.is_constant("w")
    model.graph.output.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, None))
    feeds = {"x": np.zeros((1, 4, 8, 8), np.float32)}
    found = graph.constant("w")
    assert found is not None
    assert found.dtype == np.float32
    assert np.array_equal(found, models.run(model, feeds)[1])
    assert np.array_equal(found, chain(way)[2])


@pytest.mark.parametrize("way", WAYS)
def test_such_layers_are_counted_and_converted(way: str) -> None:
    model = network(way)
    weights = chain(way)[2]
    a = sp.onnx.audit(model)
    assert not a.refused
    assert [layer.name for layer in a.layers] == ["made", "plain"]
    assert [layer.params for layer in a.layers] == [weights.size, 8 * 8 * 9 + 8]
    assert a.layers[0].macs == weights.size * 64
    x = RNG.standard_normal((32, 4, 8, 8)).astype(np.float32)
    done = sp.onnx.separate(model, x, rank="full", threads=1)
    names = {tensor.name for tensor in done.model.graph.initializer}
    assert not names & {*chain(way)[0], "w"}
    assert not {name for node in done.model.graph.node for name in node.output} & {"w", "t", "same", "c"}
    assert np.allclose(models.run(done.model, {"x": x})[0], models.run(model, {"x": x})[0], atol=1e-4)


@pytest.mark.parametrize("way", WAYS)
def test_what_is_not_converted_stays_as_it_was(way: str) -> None:
    model = network(way)
    x = RNG.standard_normal((32, 4, 8, 8)).astype(np.float32)
    new = sp.onnx.separate(model, x, rank=1, skip=["made"], threads=1).model.graph
    kept = {node.name: node for node in new.node}
    assert kept["made"] == next(node for node in model.graph.node if node.name == "made")
    made = [node for node in model.graph.node if node in chain(way)[1]]
    assert made
    assert all(node in new.node for node in made)
    assert {*chain(way)[0]} <= {tensor.name for tensor in new.initializer}


def test_turned_matrices_are_weights_of_linear_layers() -> None:
    """Two layers that share one matrix, each turned for itself, have its parameters once."""
    net = models.Net()
    x = net.input("x", ["N", 16])
    matrix = net.constant("matrix", net.normal(16, 16))
    for name in ("first", "second"):
        turned = net.node("Transpose", [matrix], f"{name}.t", perm=[1, 0])
        x = net.node("MatMul", [x, turned], name)
    a = sp.onnx.audit(net.model(x), measure=True, threads=1)
    assert [layer.kind for layer in a.layers] == ["linear", "linear"]
    assert [layer.params for layer in a.layers] == [256, 0]
    assert [layer.weights for layer in a.layers] == [("matrix",)] * 2
    assert a.params == 256


def test_norms_and_biases_are_read_behind_casts() -> None:
    plain = models.vgg()
    turned = ModelProto()
    turned.CopyFrom(plain)
    for tensor in turned.graph.initializer:
        half = numpy_helper.to_array(tensor).astype(np.float16)
        tensor.CopyFrom(numpy_helper.from_array(half, f"{tensor.name}.half"))
        name = tensor.name.removesuffix(".half")
        turned.graph.node.insert(0, helper.make_node("Cast", [tensor.name], [name], to=TensorProto.FLOAT))
    found, refused = find_layers(read_model(turned))
    wanted, _ = find_layers(read_model(plain))
    assert not refused
    for mine, its in zip(found, wanted, strict=True):
        assert len(mine.folded) == len(its.folded) == (mine.operator == "Conv")
        assert mine.bias is not None
        assert its.bias is not None
        assert np.allclose(mine.weights, its.weights, atol=1e-2)
        assert np.allclose(mine.bias, its.bias, atol=1e-2)


def test_what_depends_on_an_input_or_is_quantized_is_no_constant() -> None:
    net = models.Net()
    x = net.input("x", [8, 4, 3, 3])
    net.constant("scale", np.float32(2))
    twice = net.node("Mul", [x, "scale"], "twice")
    net.constant("q", np.ones((8, 4, 3, 3), np.int8))
    wide = net.node("DequantizeLinear", ["q", "scale"], "dq")
    turned = net.node("Transpose", [wide], "turned", perm=[1, 0, 2, 3])
    graph = GraphIndex(read_model(net.model(twice, turned)))
    for name in (twice, wide, turned):
        assert not graph.is_constant(name)
        assert graph.constant(name) is None


def test_products_larger_than_their_factors_are_not_made() -> None:
    """A small file may ask for any amount of memory by them."""
    node = helper.make_node("Mul", ["a", "b"], ["y"])
    column, row = np.ones((2**20, 1), np.float32), np.ones((1, 2**20), np.float32)
    assert value_of(node, [column, row], 13) is None
    assert value_of(node, [column, row[:, :1]], 13) is not None
    net = models.Net()
    x = net.input("x", ["N", 64, 4, 4])
    for name, values in (("a", np.ones((64, 1, 1, 1))), ("b", np.ones((1, 64, 1, 1)))):
        net.constant(name, values.astype(np.float32))
    made = net.node("Mul", ["a", "b"], "outer")
    model = net.model(net.node("Conv", [x, made], "conv"))
    (refused,) = find_layers(read_model(model))[1]
    assert refused.reason == "its weights are computed by Mul `outer`: fold constants first"


def test_lists_of_numbers_are_constants_too() -> None:
    """Constant nodes may hold them in place of a tensor: here lengths, a place and a factor."""
    net = models.Net()
    x = net.input("x", ["N", 4, 8, 8])
    flat = net.constant("flat", WEIGHTS.reshape(8, -1))
    lengths = net.node("Constant", [], "lengths", value_ints=[8, 4, -1])
    axis = net.node("Constant", [], "axis", value_ints=[3])
    half = net.node("Constant", [], "half", value_float=0.5)
    made = net.node("Unsqueeze", [net.node("Reshape", [flat, lengths]), axis])
    made = net.node("Mul", [made, half], "scaled")
    graph = GraphIndex(read_model(net.model(net.node("Conv", [x, made], "conv"))))
    found = graph.constant(made)
    assert found is not None
    assert np.array_equal(found, WEIGHTS.reshape(8, 4, 9, 1) / 2)
    assert graph.shape_of_constant(axis) == (1,)


def test_a_long_chain_is_followed() -> None:
    net = models.Net()
    x = net.input("x", ["N", 4])
    name = net.constant("matrix", net.normal(4, 4))
    for _ in range(2000):
        name = net.node("Transpose", [name], perm=[1, 0])
    graph = GraphIndex(read_model(net.model(net.node("MatMul", [x, name], "layer"))))
    assert np.array_equal(graph.constant(name) - graph.constant("matrix"), np.zeros((4, 4)))  # type: ignore[operator]


def test_nonsense_has_no_value() -> None:
    node = helper.make_node("Reshape", ["a", "b"], ["y"])
    assert value_of(node, [np.ones(4, np.float32), np.array([3])], 13) is None
    assert value_of(helper.make_node("Cast", ["a"], ["y"], to=TensorProto.STRING), [np.ones(2)], 13) is None
    assert "DequantizeLinear" not in FOLDED
