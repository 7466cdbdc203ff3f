"""What a graph means: windows against PyTorch, what passes add against plain NumPy, and precision."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

onnx = pytest.importorskip("onnx")
torch = pytest.importorskip("torch")

from hypothesis import assume, given, settings  # noqa: E402 (needs onnx and torch)
from hypothesis import strategies as st  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from separable.engine.graph.ir import Graph, Node, TensorType  # noqa: E402
from separable.engine.graph.reference import evaluate, run_node  # noqa: E402
from separable.engine.graph.reference_windows import WINDOWS  # noqa: E402
from separable.engine.graph.shapes.table import output_types, typed, with_attributes  # noqa: E402
from separable.engine.graph.static import static  # noqa: E402
from separable.onnx.model.names import ModelError  # noqa: E402

Array = npt.NDArray[Any]
RNG = np.random.default_rng(0)


def types_of(inputs: list[Array | None]) -> list[TensorType | None]:
    return [None if each is None else TensorType(each.dtype, each.shape) for each in inputs]


def checked(node: Node, inputs: list[Array | None]) -> list[Array]:
    """Return what a node makes, after its shapes were foretold."""
    node = with_attributes(node, types_of(inputs), inputs)
    results = run_node(node, inputs)
    foretold = output_types(node, types_of(inputs), inputs)
    assert [(kind.shape, kind.dtype) for kind in foretold] == [(each.shape, each.dtype) for each in results]
    return results


def named_inputs(inputs: list[Array | None]) -> tuple[str, ...]:
    return tuple("" if each is None else f"i{number}" for number, each in enumerate(inputs))


@st.composite
def windows(draw: st.DrawFn) -> dict[str, Any]:
    rank = draw(st.integers(1, 3))

    def several(least: int, most: int) -> tuple[int, ...]:
        return tuple(draw(st.integers(least, most)) for _ in range(rank))

    return {
        "kernel_shape": several(1, 3),
        "strides": several(1, 3),
        "dilations": several(1, 2),
        "pads": several(0, 2) * 2,
        "lengths": several(2, 7),
        "group": draw(st.sampled_from([1, 2])),
        "ceil_mode": draw(st.integers(0, 1)),
    }


def reach(drawn: dict[str, Any]) -> list[int]:
    return [(k - 1) * d + 1 for k, d in zip(drawn["kernel_shape"], drawn["dilations"], strict=True)]


def fits(drawn: dict[str, Any]) -> bool:
    sizes = zip(drawn["lengths"], drawn["pads"], reach(drawn), strict=False)
    return all(length + 2 * pad >= window for length, pad, window in sizes)


def written(drawn: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: drawn[name] for name in ("kernel_shape", "strides", "dilations", "pads", *names)}


def as_torch(drawn: dict[str, Any]) -> dict[str, Any]:
    rank = len(drawn["lengths"])
    return {"stride": drawn["strides"], "padding": drawn["pads"][:rank], "dilation": drawn["dilations"]}


@settings(max_examples=60, deadline=None)
@given(windows())
def test_convolutions_are_those_of_pytorch(drawn: dict[str, Any]) -> None:
    assume(fits(drawn))
    rank, group = len(drawn["lengths"]), drawn["group"]
    x = RNG.standard_normal((2, 4, *drawn["lengths"]))
    weights, bias = RNG.standard_normal((6, 4 // group, *drawn["kernel_shape"])), RNG.standard_normal(6)
    node = Node("Conv", ("x", "w", "b"), ("y",), written(drawn, "group"))
    convolve = (F.conv1d, F.conv2d, F.conv3d)[rank - 1]
    wanted = convolve(*map(torch.from_numpy, (x, weights, bias)), **as_torch(drawn), groups=group)
    np.testing.assert_allclose(checked(node, [x, weights, bias])[0], wanted, 1e-12, 1e-12)


@settings(max_examples=60, deadline=None)
@given(windows(), st.integers(0, 1))
def test_transposed_convolutions_are_those_of_pytorch(drawn: dict[str, Any], more: int) -> None:
    rank, group = len(drawn["lengths"]), drawn["group"]
    extra = tuple(min(more, max(s, d) - 1) for s, d in zip(drawn["strides"], drawn["dilations"], strict=True))
    sizes = zip(drawn["lengths"], drawn["strides"], reach(drawn), drawn["pads"], extra, strict=False)
    assume(all((n - 1) * s + k + e - 2 * p >= 1 for n, s, k, p, e in sizes))
    x = RNG.standard_normal((2, 4, *drawn["lengths"]))
    weights = RNG.standard_normal((4, 3, *drawn["kernel_shape"]))
    node = Node("ConvTranspose", ("x", "w"), ("y",), {**written(drawn, "group"), "output_padding": extra})
    convolve = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[rank - 1]
    options = {**as_torch(drawn), "groups": group, "output_padding": extra}
    wanted = convolve(torch.from_numpy(x), torch.from_numpy(weights), **options)
    np.testing.assert_allclose(checked(node, [x, weights])[0], wanted, 1e-12, 1e-12)


@settings(max_examples=60, deadline=None)
@given(windows())
def test_pools_are_those_of_pytorch(drawn: dict[str, Any]) -> None:
    rank = len(drawn["lengths"])
    assume(
        fits(drawn) and all(2 * p <= k for p, k in zip(drawn["pads"], drawn["kernel_shape"], strict=False))
    )
    x = RNG.standard_normal((2, 4, *drawn["lengths"]))
    node = Node("MaxPool", ("x",), ("y", "at"), written(drawn, "ceil_mode"))
    pool = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[rank - 1]
    options = {**as_torch(drawn), "ceil_mode": bool(drawn["ceil_mode"]), "return_indices": True}
    wanted, places = pool(torch.from_numpy(x), drawn["kernel_shape"], **options)
    values, found = checked(node, [x])
    np.testing.assert_array_equal(values, wanted)
    np.testing.assert_array_equal(x.ravel()[found], values)  # ONNX counts through the whole tensor
    np.testing.assert_array_equal(found % math.prod(drawn["lengths"]), places)


@settings(max_examples=60, deadline=None)
@given(windows(), st.integers(0, 1))
def test_means_over_windows_are_those_of_pytorch(drawn: dict[str, Any], counted: int) -> None:
    drawn["dilations"] = (1,) * len(drawn["lengths"])
    # PyTorch wants a window within the bare input in three axes.
    assume(all(length >= k for length, k in zip(drawn["lengths"], drawn["kernel_shape"], strict=True)))
    assume(
        fits(drawn) and all(2 * p <= k for p, k in zip(drawn["pads"], drawn["kernel_shape"], strict=False))
    )
    x = RNG.standard_normal((2, 3, *drawn["lengths"]))
    node = Node("AveragePool", ("x",), ("y",), {**written(drawn, "ceil_mode"), "count_include_pad": counted})
    pool = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[len(drawn["lengths"]) - 1]
    options = {"stride": drawn["strides"], "padding": drawn["pads"][: len(drawn["lengths"])]}
    options |= {"ceil_mode": bool(drawn["ceil_mode"]), "count_include_pad": bool(counted)}
    wanted = pool(torch.from_numpy(x), drawn["kernel_shape"], **options)
    graph = Graph("", {"x": TensorType(x.dtype, x.shape)}, ("y",), (node,), {})
    for each in (graph, static(graph)):
        np.testing.assert_allclose(evaluate(each, {"x": x})["y"], wanted, 1e-12, 1e-12)
    assert static(graph).types["y"].shape == tuple(wanted.shape)


# -- what passes write -------------------------------------------------------------------------------

ACTIVATIONS = {
    "none": lambda x: x,
    "relu": F.relu,
    "relu6": F.relu6,
    "silu": F.silu,
    "hard_swish": F.hardswish,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "sigmoid": torch.sigmoid,
    "hard_sigmoid": F.hardsigmoid,
    "tanh": torch.tanh,
    "clip": lambda x: torch.clip(x, -0.5, 1.5),
    "leaky_relu": lambda x: F.leaky_relu(x, 0.1),
}
PARAMETERS = {"clip": {"low": -0.5, "high": 1.5}, "leaky_relu": {"alpha": 0.1}}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_those_of_pytorch(name: str) -> None:
    """On a convolution, and on an operation that stands alone."""
    x = 4 * RNG.standard_normal((1, 2, 3, 4))
    options = {"activation": name, **PARAMETERS.get(name, {})}
    (alone,) = checked(Node("Add", ("x", "y"), ("z",), options), [x, x])
    np.testing.assert_allclose(alone, ACTIVATIONS[name](torch.from_numpy(2 * x)), 1e-12, 1e-12)
    weights = np.eye(2)[..., None, None]
    (conv,) = checked(Node("Conv", ("x", "w"), ("z",), options), [x, weights])
    np.testing.assert_allclose(conv, ACTIVATIONS[name](torch.from_numpy(x)), 1e-12, 1e-12)


def test_an_activation_that_is_not_known() -> None:
    x = np.ones((1, 2, 3, 4))
    with pytest.raises(ModelError, match="activation 'swash' is not known; expected one of relu, "):
        run_node(Node("Add", ("x", "y"), ("z",), {"activation": "swash"}), [x, x])


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("add", ["before", "after", None])
@pytest.mark.parametrize("scaled", [False, True])
def test_what_a_convolution_takes_with_it(biased: bool, add: str | None, scaled: bool) -> None:
    x, weights = RNG.standard_normal((2, 4, 5, 6)), RNG.standard_normal((4, 2, 3, 3))
    bias = RNG.standard_normal(4) if biased else None
    residual = RNG.standard_normal(x.shape) if add else None
    scale = RNG.random((2, 4, 1, 1)) if scaled else None
    inputs = [x, weights, bias, residual, scale]
    options = {"pads": (1, 1, 1, 1), "group": 2, "activation": "relu", **({"add": add} if add else {})}
    y, mean = checked(Node("Conv", named_inputs(inputs), ("y", "mean"), options), inputs)
    into = torch.from_numpy(x * (1 if scale is None else scale))
    wanted = F.conv2d(into, torch.from_numpy(weights), padding=1, groups=2).numpy()
    wanted = wanted + (bias.reshape(-1, 1, 1) if bias is not None else 0)
    if add == "before":
        wanted = wanted + residual
    wanted = np.maximum(wanted, 0)
    if add == "after":
        wanted = wanted + residual
    np.testing.assert_allclose(y, wanted, 1e-12, 1e-12)
    np.testing.assert_allclose(mean, wanted.mean((2, 3), keepdims=True), 1e-12, 1e-12)


def test_what_passes_write_is_typed_and_static() -> None:
    """An open graph after passes: names of lengths go through residuals, scales and means."""
    kind = TensorType(np.dtype(np.float32), ("N", 4, 5, 6))
    inputs = {"x": kind, "r": kind, "s": TensorType(kind.dtype, ("N", 4, 1, 1))}
    weights = np.ones((4, 4, 3, 3), np.float32)
    node = Node("Conv", ("x", "w", "", "r", "s"), ("y", "m"), {"pads": (1, 1, 1, 1), "activation": "silu"})
    graph = typed(Graph("", inputs, ("y", "m"), (node,), {"w": weights}))
    assert graph.types["y"] == kind
    assert graph.types["m"].shape == ("N", 4, 1, 1)
    assert "pads=[1 1 1 1] activation=silu" in str(graph)
    fixed = static(graph, {"x": (2, 4, 5, 6), "r": (2, 4, 5, 6), "s": (2, 4, 1, 1)})
    feeds = {name: RNG.random(each.shape) for name, each in fixed.inputs.items()}
    got = evaluate(fixed, feeds)
    assert {name: each.shape for name, each in got.items()} == {
        name: fixed.types[name].shape for name in fixed.outputs
    }


# -- precision and errors ----------------------------------------------------------------------------


def test_everything_floats_in_the_precision_that_was_asked_for() -> None:
    single = TensorType(np.dtype(np.float32), (3,))
    nodes = (
        Node("Cast", ("x",), ("half",), {"to": 10}),
        Node("Mul", ("half", "third"), ("y",)),
        Node("Cast", ("y",), ("whole",), {"to": 7}),
        Node("ConstantOfShape", ("three",), ("ones",), {"value": np.ones(1, np.float32)}),
        Node("Add", ("y", "ones"), ("z",)),
    )
    third = np.array(1 / 3, np.float16)
    constants = {"third": third, "three": np.array([3], np.int64)}
    graph = Graph("", {"x": single}, ("z", "whole"), nodes, constants)
    x = np.array([1, 1e-9, 70000], np.float32)
    tensors = evaluate(graph, {"x": x}, all_tensors=True)
    assert {name: str(each.dtype) for name, each in tensors.items()} == {
        **dict.fromkeys(("x", "third", "half", "y", "ones", "z"), "float64"),
        **dict.fromkeys(("three", "whole"), "int64"),
    }
    np.testing.assert_array_equal(tensors["z"], x.astype(np.float64) * np.float64(third) + 1)
    as_written = evaluate(graph.with_(nodes=nodes[:2], outputs=("y",)), {"x": x[:2]}, None)
    assert as_written["y"].dtype == np.float16
    assert str(evaluate(graph, {"x": x}, np.float32)["z"].dtype) == "float32"


def test_missing_inputs_and_nodes_that_cannot_be_computed() -> None:
    kind = TensorType(np.dtype(np.float32), (2, 3))
    graph = Graph("", {"x": kind, "y": kind}, ("z",), (Node("MatMul", ("x", "y"), ("z",)),), {})
    x = np.ones((2, 3))
    with pytest.raises(ValueError, match="input `y` is missing; got `x`"):
        evaluate(graph, {"x": x})
    with pytest.raises(ModelError, match=r"node `z` \(MatMul\) cannot be computed: \w+Error: "):
        evaluate(graph, {"x": x, "y": x})


def test_loops_count_carry_and_collect() -> None:
    """The oracle runs what the engine does not."""
    scalar = TensorType(np.dtype(np.int64), ())
    body = Graph(
        "body",
        {"turn": scalar, "go": TensorType(np.dtype(bool), ()), "total": scalar},
        ("on", "sum", "sum"),
        (Node("Add", ("total", "outside"), ("sum",)), Node("Less", ("sum", "limit"), ("on",))),
        {"limit": np.array(20)},
    )
    loop = Node(
        "Loop", ("most", "", "first", "step"), ("last", "all"), {"body": body, "captured": ("outside",)}
    )
    constants = {"first": np.array(1)}
    graph = Graph("", {"most": scalar, "step": scalar}, ("last", "all"), (loop,), constants)
    for most, rows in ((3, [8, 15, 22]), (2, [8, 15]), (9, [8, 15, 22])):
        got = evaluate(graph, {"most": np.array(most), "step": np.array(7)})
        assert got["all"].tolist() == rows
        assert got["last"] == rows[-1]


def test_windows_are_the_ones_that_shapes_know() -> None:
    assert set(WINDOWS) == {"Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool"}
