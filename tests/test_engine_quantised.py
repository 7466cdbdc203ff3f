"""Models in eight bits as they are: bit for bit what ONNX says, on every instruction set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

from engine_eight_bits import LayerNet, int_conv, model_of, quantised, rounded  # noqa: E402 (needs onnx)

import separable as sp  # noqa: E402
from separable import _core  # noqa: E402
from separable.engine.graph.reader import graph_of  # noqa: E402
from separable.engine.graph.reference import evaluate  # noqa: E402
from separable.engine.passes import simplified  # noqa: E402
from separable.engine.passes.integers.contributed import contributed  # noqa: E402
from separable.engine.passes.integers.recognised import scaled_sums, sums_of_levels  # noqa: E402
from separable.engine.program.packed_integers import packed_integers  # noqa: E402
from separable.onnx.model.files import read_model  # noqa: E402

Array = np.ndarray


def results(model: Any, feeds: Mapping[str, Array], threads: int = 1) -> list[Array]:
    given = sp.engine.load(model, threads=threads)(dict(feeds))
    return list(given.values()) if isinstance(given, dict) else [given]


def levels(random: np.random.Generator, dtype: Any, *shape: int) -> Array:
    info = np.iinfo(dtype)
    return random.integers(info.min, info.max + 1, shape).astype(dtype)


# c_in, c_out, kernel, stride, groups, padding, dilation
LAYERS = [
    (3, 16, 3, 2, 1, 1, 1),
    (8, 20, 1, 1, 1, 0, 1),
    (64, 33, 1, 2, 1, 0, 1),
    (16, 16, 3, 1, 16, 1, 1),
    (37, 37, 5, 2, 37, 2, 1),
    (12, 24, 3, 1, 3, 1, 1),
    (10, 15, 3, 1, 5, 1, 2),
    (6, 12, 3, 1, 6, 0, 1),
    (6, 3, 3, 1, 3, 1, 1),
    (5, 4, 3, 1, 1, 2, 2),
]


@pytest.mark.parametrize("layer", LAYERS, ids=str)
@pytest.mark.parametrize("x_type", [np.uint8, np.int8])
@pytest.mark.parametrize("w_type", [np.uint8, np.int8])
def test_convolutions_of_levels_are_exact(target: str, layer: Any, x_type: Any, w_type: Any) -> None:
    """Of weights of the full range: what pairs of products do not hold in 16 bits is not cut off."""
    c_in, c_out, kernel, stride, groups, pad, dilation = layer
    random = np.random.default_rng(kernel)
    x, w = (
        levels(random, x_type, 2, c_in, 9, 11),
        levels(random, w_type, c_out, c_in // groups, kernel, kernel),
    )
    x_zero, w_zero = levels(random, x_type, 1)[0], np.array(levels(random, w_type, 1)[0])
    written = {
        "strides": [stride] * 2,
        "pads": [pad] * 4,
        "dilations": [dilation] * 2,
        "group": groups,
    }
    sums = int_conv(x, x_zero, w, w_zero, stride, pad, dilation, groups)
    constants = {"w": w, "xz": np.array(x_zero), "wz": w_zero}
    whole = model_of([("ConvInteger", ["x", "w", "xz", "wz"], ["y"], written)], {"x": x}, constants)
    assert np.array_equal(results(whole, {"x": x})[0], sums)

    scales = random.uniform(1e-4, 1e-3, c_out).astype(np.float32)
    bias = random.integers(-3000, 3000, c_out).astype(np.int32)
    numbers = {
        "xs": np.float32(0.02),
        "ws": scales,
        "ys": np.float32(0.05),
        "yz": np.array(levels(random, x_type, 1)[0]),
        "b": bias,
        "wz": np.full(c_out, w_zero),
    }
    inputs = ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz", "b"]
    byte = model_of([("QLinearConv", inputs, ["y"], written)], {"x": x}, {**constants, **numbers})
    factor = (np.float32(0.02) * scales) / np.float32(0.05)
    y = (sums + bias[:, None, None]).astype(np.float32) * factor[:, None, None]
    for threads in (1, 3):
        assert np.array_equal(results(byte, {"x": x}, threads)[0], rounded(y, numbers["yz"]))


@pytest.mark.parametrize("seed", range(16))
def test_random_convolutions_of_levels(target: str, seed: int) -> None:
    """Sums, levels and floats of one convolution, of any size, on one to three threads."""
    random = np.random.default_rng(seed)
    groups = int(random.choice([1, 2, 3, 0]))  # 0: depthwise
    c_in = int(random.integers(1, 60)) * max(groups, 1)
    c_out = int(random.integers(1, 30)) * groups or c_in
    groups = groups or c_in
    kernel, stride, dilation = (int(random.integers(1, most)) for most in (5, 4, 3))
    pad = int(random.integers(0, 3))
    size = (kernel - 1) * dilation + 1 + random.integers(0, 25, 2)
    x = levels(random, np.uint8, int(random.integers(1, 4)), c_in, *size)
    w = levels(random, np.int8, c_out, c_in // groups, kernel, kernel)
    written = {"strides": [stride] * 2, "pads": [pad] * 4, "dilations": [dilation] * 2, "group": groups}
    nodes = [
        ("ConvInteger", ["x", "w", "xz", "wz"], ["sums"], written),
        ("DequantizeLinear", ["x", "xs", "xz"], ["real"], {}),
        ("DequantizeLinear", ["w", "ws", "zeros"], ["weights"], {"axis": 0}),
        ("Conv", ["real", "weights", "bias"], ["conv"], written),
        ("Relu", ["conv"], ["relu"], {}),
    ]
    zero, w_zero = levels(random, np.uint8, 1)[0], levels(random, np.int8, 1)[0]
    scales = random.uniform(1e-4, 1e-3, c_out).astype(np.float32)
    bias = random.standard_normal(c_out).astype(np.float32)
    constants = {
        "w": w,
        "xz": np.array(zero),
        "wz": np.array(w_zero),
        "zeros": np.full(c_out, w_zero),
        "xs": np.float32(0.02),
        "ws": scales,
        "bias": bias,
    }
    model = model_of(nodes, {"x": x}, constants, outputs=("sums", "relu"))
    sums, relu = results(model, {"x": x}, threads=1 + seed % 3)
    expected = int_conv(x, zero, w, w_zero, stride, pad, dilation, groups)
    assert np.array_equal(sums, expected)
    y = expected.astype(np.float32) * (np.float32(0.02) * scales)[:, None, None]
    assert np.allclose(relu, np.maximum(y + bias[:, None, None], 0), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("a_type", [np.uint8, np.int8])
def test_products_of_levels_are_exact(target: str, a_type: Any) -> None:
    random = np.random.default_rng(5)
    a, b = levels(random, a_type, 2, 5, 43), levels(random, np.int8, 43, 37)
    a_zero, zeros = levels(random, a_type, 1)[0], levels(random, np.int8, 37)
    sums = (a.astype(np.int64) - a_zero) @ (b.astype(np.int64) - zeros)
    constants = {"b": b, "az": np.array(a_zero), "bz": zeros}
    whole = model_of([("MatMulInteger", ["a", "b", "az", "bz"], ["y"], {})], {"a": a}, constants)
    assert np.array_equal(results(whole, {"a": a})[0], sums)

    scales = random.uniform(1e-3, 1e-2, 37).astype(np.float32)
    numbers = {"as": np.float32(0.1), "bs": scales, "ys": np.float32(0.3), "yz": np.array(3, a_type)}
    inputs = ["a", "as", "az", "b", "bs", "bz", "ys", "yz"]
    byte = model_of([("QLinearMatMul", inputs, ["y"], {})], {"a": a}, {**constants, **numbers})
    y = sums.astype(np.float32) * ((np.float32(0.1) * scales) / np.float32(0.3))
    assert np.array_equal(results(byte, {"a": a})[0], rounded(y, numbers["yz"]))


@pytest.mark.parametrize(
    ("dtype", "axis", "opset"),
    [(np.uint8, None, 10), (np.int8, None, 13), (np.uint8, 1, 13), (np.int8, -1, 19), (np.uint16, 1, 21)],
)
def test_levels_and_back(target: str, dtype: Any, axis: int | None, opset: int) -> None:
    """Halves go to the even level, and what is beyond the last one to that."""
    x = np.random.default_rng(1).normal(0, 3, (2, 5, 7, 9)).astype(np.float32)
    x.ravel()[:6] = [0.5, 1.5, -2.5, 1e9, -1e9, 0]
    count = 1 if axis is None else x.shape[axis]
    scale = np.linspace(0.25, 1, count).astype(np.float32) if axis is not None else np.float32(1)
    zero = np.arange(3, 3 + count).astype(dtype) if axis is not None else np.array(3, dtype)
    more = {} if axis is None else {"axis": axis}
    nodes = [
        ("QuantizeLinear", ["x", "s", "z"], ["q"], more),
        ("DequantizeLinear", ["q", "s", "z"], ["y"], more),
    ]
    model = model_of(nodes, {"x": x}, {"s": scale, "z": zero}, outputs=("q", "y"), opset=opset)
    shape = [1] * 4
    if axis is not None:
        shape[axis] = -1
    info, middle = np.iinfo(dtype), zero.reshape(shape).astype(np.float64)
    q = np.clip(np.round(x / scale.reshape(shape)) + middle, info.min, info.max)
    given = results(model, {"x": x})
    assert np.array_equal(given[0], q.astype(dtype))
    assert np.array_equal(given[1], ((q - middle) * scale.reshape(shape)).astype(np.float32))


@pytest.mark.parametrize("shape", [(1, 16, 5, 5), (2, 5, 3), (7, 9)])
def test_dynamic_levels_are_those_of_the_runtime(target: str, shape: tuple[int, ...]) -> None:
    runtime = pytest.importorskip("onnxruntime")
    x = np.random.default_rng(2).normal(1, 3, shape).astype(np.float32)
    for scaled in (x, np.abs(x), -np.abs(x), 0 * x):
        model = model_of(
            [("DynamicQuantizeLinear", ["x"], ["y", "s", "z"], {})], {"x": x}, {}, outputs=("y", "s", "z")
        )
        session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        for mine, theirs in zip(results(model, {"x": scaled}), session.run(None, {"x": scaled}), strict=True):
            assert np.array_equal(mine, theirs)


# -- whole networks ----------------------------------------------------------------------------------


def in_runtime(path: Path, x: Array, *, optimised: bool) -> Array:
    runtime = pytest.importorskip("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    if not optimised:
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])


@pytest.fixture(scope="module")
def network() -> Any:
    return LayerNet(3).network()


X = np.random.default_rng(9).standard_normal((1, 3, 32, 32)).astype(np.float32)


@pytest.mark.parametrize(
    ("form", "settings"),
    [
        ("QDQ", {"activations": "QUInt8", "weights": "QInt8", "per_channel": True}),
        ("QDQ", {"activations": "QInt8", "weights": "QInt8", "per_channel": True}),
        ("QDQ", {"activations": "QUInt8", "weights": "QUInt8"}),
        # of 7 bits: its own sums of pairs are cut off at 16 bits on many processors
        (
            "QOperator",
            {"activations": "QUInt8", "weights": "QInt8", "per_channel": True, "reduce_range": True},
        ),
        ("QOperator", {"activations": "QInt8", "weights": "QInt8", "reduce_range": True}),
    ],
)
def test_networks_are_those_of_the_runtime(
    target: str, network: Any, form: str, settings: Any, tmp_path: Path
) -> None:
    """Which computes numbers between levels one after the other when it optimises nothing."""
    path = quantised(network, tmp_path / "net.onnx", form, **settings)
    program = sp.engine.load(path)
    expected = in_runtime(path, X, optimised=False)
    assert np.array_equal(program(X), expected)
    kinds = [step.kind for step in program.steps()]
    assert sum(kind.startswith("8-bit") for kind in kinds) == 7
    assert not any(kind.startswith(("conv", "pointwise", "depthwise", "fully")) for kind in kinds)
    assert np.array_equal(sp.engine.load(path, threads=2)(X), expected)


def test_optimised_runtimes_agree_where_their_sums_are_not_cut_off(network: Any, tmp_path: Path) -> None:
    """Of 7-bit weights: ONNX Runtime's sums of two products have 16 bits on many processors."""
    path = quantised(
        network, tmp_path / "net.onnx", "QDQ", activations="QUInt8", weights="QInt8", reduce_range=True
    )
    assert np.array_equal(sp.engine.load(path)(X), in_runtime(path, X, optimised=True))


@pytest.mark.parametrize("weights", ["QInt8", "QUInt8"])
def test_dynamic_networks_are_those_of_the_runtime(network: Any, weights: str, tmp_path: Path) -> None:
    path = quantised(network, tmp_path / "net.onnx", "dynamic", weights=weights)
    expected = in_runtime(path, X, optimised=False)
    program = sp.engine.load(path)
    assert np.allclose(program(X), expected, atol=1e-5 * np.abs(expected).max())
    assert sum(step.kind.startswith("8-bit") for step in program.steps()) == 7
    assert not any(step.kind == "to floats" for step in program.steps())


@pytest.mark.parametrize("form", ["QDQ", "QOperator", "dynamic"])
def test_passes_keep_what_a_network_means(network: Any, form: str, tmp_path: Path) -> None:
    path = quantised(network, tmp_path / "net.onnx", form, weights="QInt8", reduce_range=form != "dynamic")
    graph = graph_of(read_model(path))
    if any("::" in node.op for node in graph.nodes):
        graph = contributed(graph)  # what only ONNX Runtime knows
    before = evaluate(graph, {"x": X}, None)
    after = evaluate(simplified(graph), {"x": X}, None)
    (name,) = graph.outputs
    step = 0.02 * np.abs(before[name]).max()  # a level at most, where float32 rounds to another one
    assert np.abs(before[name] - after[name]).max() <= step
    ops = {node.op for node in simplified(graph).nodes}
    assert ops >= {"QLinearConv", "QLinearMatMul"}
    assert ops.isdisjoint({"Conv", "Gemm", "ConvInteger", "MatMulInteger"})


def test_nothing_is_recognised_where_there_is_nothing(network: Any) -> None:
    graph = graph_of(read_model(network))
    for rewrite in (contributed, sums_of_levels, scaled_sums):
        assert rewrite(graph) is graph


def qdq(weights: Array, *, middle: Sequence[Any]) -> Any:
    """Return DQ -> Conv -> ... -> Q of weights that are dequantised."""
    nodes = [
        ("DequantizeLinear", ["x", "s", "z"], ["real"], {}),
        ("DequantizeLinear", ["w", "s", "wz"], ["rw"], {}),
        ("Conv", ["real", "rw"], ["c"], {"kernel_shape": [1, 1]}),
        *middle,
        ("QuantizeLinear", ["m", "s", "yz"], ["y"], {}),
    ]
    x = np.arange(48, dtype=np.uint8).reshape(1, 3, 4, 4)
    constants = {
        "s": np.float32(0.1),
        "z": np.array(3, np.uint8),
        "w": weights,
        "wz": np.zeros((), np.int8),
        "yz": np.zeros((), np.uint8),
        "low": np.float32(0),
        "six": np.float32(0.75),
    }
    return model_of(nodes, {"x": x}, constants), x


def test_activations_that_levels_do_not_apply_stay(target: str) -> None:
    weights = np.array([[5, -3, 2], [-4, 1, 7]], np.int8)[..., None, None]
    plain, x = qdq(weights, middle=[("Relu", ["c"], ["m"], {})])
    cut, _ = qdq(weights, middle=[("Clip", ["c", "low", "six"], ["m"], {})])
    y = int_conv(x, 3, weights, 0, 1, 0, 1, 1).astype(np.float32) * np.float32(0.1) * np.float32(0.1)
    for model, expected, fused in ((plain, np.maximum(y, 0), ""), (cut, np.clip(y, 0, 0.75), "clip")):
        program = sp.engine.load(model)
        assert np.array_equal(program(x), rounded(expected / np.float32(0.1), np.uint8(0)))
        assert [step.notes for step in program.steps() if step.kind.startswith("8-bit")] == [
            (fused,) if fused else ()
        ]


def test_old_dynamic_networks_add_whole_biases() -> None:
    """As ONNX Runtime quantised until 2021: a bias in units of scales that are known when the model runs."""
    runtime = pytest.importorskip("onnxruntime")
    random = np.random.default_rng(4)
    x = random.standard_normal((1, 5, 6, 7)).astype(np.float32)
    nodes = [
        ("DynamicQuantizeLinear", ["x"], ["q", "s", "z"], {}),
        ("Mul", ["s", "ws"], ["unit"], {}),
        ("Div", ["b", "unit"], ["parts"], {}),
        ("Floor", ["parts"], ["floor"], {}),
        ("Cast", ["floor"], ["whole"], {"to": 6}),
        ("ConvInteger", ["q", "w", "z", "wz"], ["sums"], {"kernel_shape": [3, 3]}),
        ("Reshape", ["whole", "shape"], ["spread"], {}),
        ("Add", ["sums", "spread"], ["more"], {}),
        ("Cast", ["more"], ["real"], {"to": 1}),
        ("Mul", ["s", "ws"], ["again"], {}),
        ("Mul", ["real", "again"], ["y"], {}),
    ]
    constants = {
        "ws": np.float32(0.01),
        "b": random.standard_normal(6).astype(np.float32),
        "w": levels(random, np.uint8, 6, 5, 3, 3),
        "wz": np.array(120, np.uint8),
        "shape": np.array([1, -1, 1, 1]),
    }
    model = model_of(nodes, {"x": x}, constants)
    session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    program = sp.engine.load(model)
    assert np.allclose(program(x), session.run(None, {"x": x})[0], rtol=1e-6, atol=1e-6)
    assert not any(step.kind == "to floats" for step in program.steps())


def test_sums_of_32_bits_may_be_moved_and_cast() -> None:
    x = np.random.default_rng(6).integers(0, 256, (1, 300, 4, 4)).astype(np.uint8)
    w = np.full((3, 300, 1, 1), 127, np.int8)
    nodes = [
        ("ConvInteger", ["x", "w"], ["sums"], {}),
        ("Reshape", ["sums", "shape"], ["flat"], {}),
        ("Cast", ["sums"], ["real"], {"to": 1}),
    ]
    model = model_of(nodes, {"x": x}, {"w": w, "shape": np.array([3, 16])}, outputs=("flat", "real"))
    sums = int_conv(x, 0, w, 0, 1, 0, 1, 1)
    flat, real = results(model, {"x": x})
    assert sums.max() > 2**22
    assert np.array_equal(flat, sums.reshape(3, 16))
    assert np.array_equal(real, sums.astype(np.float32))


def test_what_is_not_native_says_so_and_falls_back() -> None:
    pytest.importorskip("onnxruntime")
    random = np.random.default_rng(7)
    a, b = levels(random, np.uint8, 2, 3, 4), levels(random, np.uint8, 2, 4, 5)
    model = model_of([("MatMulInteger", ["a", "b"], ["y"], {})], {"a": a, "b": b}, {})
    with pytest.raises(sp.engine.UnsupportedOperationsError, match="MatMulInteger"):
        sp.engine.load(model)
    given = sp.engine.load(model, fallback="onnxruntime")({"a": a, "b": b})
    assert np.array_equal(given, a.astype(np.int32) @ b.astype(np.int32))


def test_recurrent_layers_of_levels_take_the_weights_that_these_stand_for() -> None:
    """Whose inputs ONNX Runtime rounds as well, and the engine does not."""
    runtime = pytest.importorskip("onnxruntime")
    random = np.random.default_rng(8)
    x = random.standard_normal((7, 2, 6)).astype(np.float32)
    inputs = ["x", "w", "r", "b", "", "", "", "", "ws", "wz", "rs", "rz"]
    constants = {
        "w": random.integers(-60, 60, (1, 6, 20)).astype(np.int8),
        "r": random.integers(-60, 60, (1, 5, 20)).astype(np.int8),
        "b": random.standard_normal((1, 40)).astype(np.float32),
        **{name: np.full(1, 0.01, np.float32) for name in ("ws", "rs")},
        **{name: np.zeros(1, np.int8) for name in ("wz", "rz")},
    }
    model = model_of(
        [("com.microsoft::DynamicQuantizeLSTM", inputs, ["y", "h", "c"], {"hidden_size": 5})],
        {"x": x},
        constants,
    )
    session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    assert np.allclose(sp.engine.load(model)(x), session.run(["y"], {"x": x})[0], atol=0.02)


def test_packed_weights_hold_what_pairs_of_products_do_not() -> None:
    """Weights of a byte and a bit are taken apart until nothing is left."""
    random = np.random.default_rng(11)
    none = (None, None, None)
    small = packed_integers(random.integers(-60, 60, (40, 12, 3, 3)).astype(np.int16), 1, 12, none)
    large = packed_integers(random.integers(-255, 256, (40, 12, 3, 3)).astype(np.int16), 1, 12, none)
    assert small.taps == large.taps == 12 * 9
    assert (large.nbytes > small.nbytes) or not _core.integer_pair_most()
    assert packed_integers(np.ones((8, 1, 3, 3), np.int16), 8, 8, none).is_depthwise
