"""`precision="bf16"`: never by itself, its error stated, what it rounds, and what stays float32."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

from engine_bfloats import unit  # noqa: E402 (needs onnx)
from engine_eight_bits import LayerNet, apart, images, model_of, squeezed  # noqa: E402

import separable as sp  # noqa: E402
from separable import _core  # noqa: E402
from separable.engine.graph.reader import graph_of  # noqa: E402
from separable.engine.graph.reference import evaluate  # noqa: E402
from separable.engine.passes import simplified  # noqa: E402
from separable.engine.precision.bfloats import in_bfloats  # noqa: E402
from separable.onnx.model.files import read_model  # noqa: E402

__all__ = ["unit"]

ROUNDING = 2.0**-9  # of one number to bfloat16, at most, over the number


def classified(net: LayerNet, x: str, channels: int) -> Any:
    y = net.node("Flatten", net.node("GlobalAveragePool", x))
    weights = net.constant(net.random.standard_normal((channels, 10)) / np.sqrt(channels))
    y = net.node("Gemm", y, weights, net.constant(net.random.standard_normal(10)))
    return model_of(net.nodes, {"x": images(1)[0]}, net.constants, (y,), opset=17)


def mobile_net() -> Any:
    """Return inverted residuals as in MobileNetV2, strides of 2 included."""
    net = LayerNet(5)
    x, c_in = net.conv("x", 3, 16, 3, stride=2, act="Clip"), 16
    for c_out, stride in ((16, 1), (24, 2), (24, 1), (40, 2), (40, 1)):
        y = net.conv(x, c_in, 4 * c_in, 1, act="Clip")
        y = net.conv(y, 4 * c_in, 4 * c_in, 3, group=4 * c_in, stride=stride, act="Clip")
        y = net.conv(y, 4 * c_in, c_out, 1)
        x = net.node("Add", x, y) if stride == 1 and c_in == c_out else y
        c_in = c_out
    return classified(net, net.conv(x, c_in, 96, 1, act="Clip"), 96)


def res_net() -> Any:
    """Return residuals of dense convolutions, one of them a bottleneck in groups."""
    net = LayerNet(6)
    x, c_in = net.conv("x", 3, 24, 7, stride=2, act="Relu"), 24
    for c_out, stride in ((24, 1), (40, 2), (40, 1), (64, 2)):
        y = net.conv(x, c_in, c_out, 3, stride=stride, act="Relu")
        y = net.conv(y, c_out, c_out, 3)
        short = x if stride == 1 and c_in == c_out else net.conv(x, c_in, c_out, 1, stride=stride)
        x, c_in = net.node("Relu", net.node("Add", y, short)), c_out
    y = net.conv(net.conv(x, 64, 32, 1, act="Relu"), 32, 32, 3, group=4, act="Relu")
    x = net.node("Relu", net.node("Add", x, net.conv(y, 32, 64, 1)))
    return classified(net, x, 64)


NETWORKS = {"mobile": (mobile_net, 18, 5), "residual": (res_net, 15, 0)}  # layers, depthwise ones


def test_programs_are_float32_unless_asked() -> None:
    program = sp.engine.load(mobile_net())
    assert program.precision is None
    assert "bf16" not in str(program)


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_lose_what_rounding_costs(unit: str, name: str) -> None:
    """The error stated is the one that is there, a few roundings; 98 of 100 inputs keep their class."""
    make, layers, depthwise = NETWORKS[name]
    model, calls = make(), images(4)
    program, exact = sp.engine.load(model, precision="bf16", calibration=calls), sp.engine.load(model)
    record = program.precision
    assert record is not None
    assert (record.precision, record.layers, len(record.others)) == ("bf16", layers - depthwise, depthwise)
    assert (record.inputs, record.ranges) == (4, "")
    assert sum("bf16" in step.kind for step in program.steps()) == layers - depthwise
    (output,) = program.outputs
    mine, theirs = (np.stack([run(x) for x in calls]) for run in (program, exact))
    assert np.isclose(record.error[output], apart(mine, theirs), rtol=1e-3)
    assert np.isclose(record.largest[output], np.abs(mine - theirs).max() / np.abs(theirs).max(), rtol=1e-3)
    assert 0 < record.error[output] < 4 * ROUNDING
    text = str(program)
    how = {"amx": "by AMX", "avx512-bf16": "by AVX512-BF16", "vectors": "as float32"}[unit]
    assert f"bf16: {layers - depthwise} of {layers} convolutions and products, multiplied {how}" in text
    assert record.unit == unit
    said = re.search(r"error of (\S+) against float32 on 4 calibration inputs: ([\d.]+) %", text)
    assert said is not None
    assert np.isclose(float(said[2]), 100 * record.error[output], rtol=0.06)
    new = images(100, seed=5)
    best = [(program(x).argmax(), exact(x).argmax()) for x in new]
    assert sum(a == b for a, b in best) >= 98
    two = sp.engine.load(model, precision="bf16", calibration=calls, threads=2)
    one = sp.engine.load(model, precision="bf16", calibration=calls, threads=1)
    assert all(np.array_equal(one(x), two(x)) for x in new[:5])


def test_graphs_of_bfloats_mean_what_runs(unit: str) -> None:
    """A sum that differs in its last bit may round to the other neighbour, and so change what follows."""
    for make in (mobile_net, res_net):
        model, calls = make(), images(2)
        graph, _, _ = in_bfloats(simplified(graph_of(read_model(model))))
        program = sp.engine.load(model, precision="bf16", calibration=calls)
        (name,) = graph.outputs
        meant, given = evaluate(graph, {"x": calls[0]})[name], program(calls[0])
        assert program.precision is not None
        assert apart(given, meant) < 1.5 * program.precision.error[name]


def test_chains_give_the_bits_of_their_parts(unit: str) -> None:
    """Maps that no cache holds are not stored between a depthwise convolution and the one behind it."""
    x = np.random.default_rng(2).standard_normal((1, 3, 160, 160)).astype(np.float32)
    net = LayerNet(8)
    y = net.conv("x", 3, 16, 3, stride=2, act="Clip")
    y = net.conv(y, 16, 16, 3, group=16, act="Clip")
    y = net.conv(net.conv(y, 16, 40, 1), 40, 160, 1, act="Relu")
    y = net.conv(net.conv(y, 160, 160, 5, group=160, stride=2, act="Relu"), 160, 30, 1)
    model, caches = model_of(net.nodes, {"x": x}, net.constants, (y,), opset=17), _core.core_info()["caches"]
    results, kinds = [], []
    try:
        for l2 in (1 << 19, 1 << 30):
            _core.assume_caches(caches["l1d"], l2, caches["l3"])
            for threads in (1, 2):
                program = sp.engine.load(model, precision="bf16", calibration=x, threads=threads)
                results.append(program(x))
                kinds.append([step.kind for step in program.steps()])
    finally:
        _core.assume_caches(caches["l1d"], caches["l2"], caches["l3"])
    assert any("depthwise 5 x 5 /2 > bf16 pointwise" in kind for kind in kinds[0])
    assert not any(">" in kind for kind in kinds[-1])
    assert all(np.array_equal(results[0], other) for other in results[1:])


def layer(op: str, x: np.ndarray, weights: np.ndarray, **attributes: Any) -> Any:
    """Return a model of one layer, with a bias."""
    random = np.random.default_rng(1)
    made = weights.shape[0 if op == "Conv" or attributes.get("transB") else 1] * (
        attributes.get("group", 1) if op == "ConvTranspose" else 1
    )
    bias = random.standard_normal(made).astype(np.float32)
    inputs, constants = ["x", "w"], {"w": weights}
    if op != "MatMul":
        inputs, constants = [*inputs, "b"], {**constants, "b": bias}
    return model_of([(op, inputs, ["y"], attributes)], {"x": x}, constants)


def random_of(*shape: int) -> np.ndarray:
    return np.random.default_rng(list(shape)).standard_normal(shape).astype(np.float32)


LAYERS = {
    "one axis": ("Conv", (2, 20, 37), (24, 20, 5), {"pads": [2, 2], "strides": [2]}),
    "one axis, dilated": ("Conv", (1, 40, 600), (33, 40, 3), {"pads": [50, 50], "dilations": [50]}),
    "two axes in groups": ("Conv", (3, 24, 9, 7), (36, 8, 3, 3), {"group": 3, "pads": [1, 1, 1, 1]}),
    "a column": ("Conv", (1, 24, 30, 1), (16, 24, 3, 1), {"pads": [1, 0, 1, 0]}),
    "transposed": ("ConvTranspose", (1, 20, 6, 7), (20, 12, 4, 4), {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
    "transposed in groups": ("ConvTranspose", (1, 12, 9), (12, 5, 3), {"strides": [2], "group": 3}),
    "three axes": ("Conv", (1, 12, 6, 7, 8), (20, 12, 3, 3, 3), {"pads": [1] * 6}),
    "three axes, few channels, strides": ("Conv", (2, 3, 7, 8, 9), (20, 3, 3, 3, 3), {"strides": [2, 2, 2]}),
    "one pixel": ("Conv", (5, 70, 1, 1), (33, 70, 1, 1), {}),
    "matrix": ("Gemm", (7, 33), (33, 18), {}),
    "matrix, transposed, scaled": ("Gemm", (7, 33), (18, 33), {"transB": 1, "alpha": 0.5, "beta": 2.0}),
    "matrices": ("MatMul", (2, 5, 40), (40, 24), {}),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_are_sums_of_rounded_numbers(unit: str, name: str) -> None:
    op, shape, weights, attributes = LAYERS[name]
    x = random_of(*shape)
    model = layer(op, x, random_of(*weights), **attributes)
    program = sp.engine.load(model, precision="bf16", calibration=x)
    assert program.precision is not None
    assert program.precision.layers == 1
    assert any(step.kind.startswith("bf16") for step in program.steps())
    graph, _, _ = in_bfloats(simplified(graph_of(read_model(model))))
    assert np.allclose(program(x), evaluate(graph, {"x": x})["y"], rtol=1e-5, atol=1e-5)
    assert 0 < apart(program(x), sp.engine.load(model)(x)) < 2 * ROUNDING
    two = sp.engine.load(model, precision="bf16", calibration=x, threads=2)
    assert np.array_equal(program(x), two(x))


def test_scales_of_squeeze_excite_are_applied_as_samples_are_read(unit: str) -> None:
    model, calls = squeezed(), images(3)
    program = sp.engine.load(model, precision="bf16", calibration=calls)
    assert program.precision is not None
    assert (program.precision.layers, len(program.precision.others)) == (4, 1)
    steps = [step for step in program.steps() if "scaled" in step.notes]
    assert len(steps) == 1
    assert steps[0].kind == "bf16 pointwise"
    graph, _, _ = in_bfloats(simplified(graph_of(read_model(model))))
    (name,) = graph.outputs
    meant = evaluate(graph, {"x": calls[0]})[name]
    assert np.abs(program(calls[0]) - meant).max() < ROUNDING * np.abs(meant).max()


def test_what_stays_float32_is_named() -> None:
    """A product of two computed tensors has no weights, and depthwise convolutions few sums."""
    nodes = [
        ("Conv", ["x", "d"], ["c"], {"group": 5, "kernel_shape": [3], "pads": [1, 1]}),
        ("MatMul", ["c", "w"], ["a"], {}),
        ("Transpose", ["a"], ["b"], {"perm": [0, 2, 1]}),
        ("MatMul", ["a", "b"], ["y"], {}),
    ]
    x = random_of(2, 5, 6)
    model = model_of(nodes, {"x": x}, {"w": random_of(6, 7), "d": random_of(10, 1, 3)[:5]})
    program = sp.engine.load(model, precision="bf16", calibration=x)
    assert program.precision is not None
    assert (program.precision.layers, program.precision.others) == (1, ("c", "y"))
    assert "bf16: 1 of 3 convolutions and products" in str(program)


def test_numbers_that_are_not_finite_pass_through(unit: str) -> None:
    x = random_of(1, 40, 6, 6)
    x[0, 3, 2, 2], x[0, 3, 4, 4] = np.nan, np.inf
    weights = np.abs(random_of(24, 40, 1, 1))
    model = layer("Conv", x, weights)
    y = sp.engine.load(model, precision="bf16", calibration=random_of(*x.shape))(x)
    assert np.isnan(y[0, :, 2, 2]).all()
    assert (y[0, :, 4, 4] == np.inf).all()
    rest = np.ones((6, 6), bool)
    rest[2, 2] = rest[4, 4] = False
    assert np.isfinite(y[:, :, rest]).all()


def test_open_lengths() -> None:
    model = layer("Conv", random_of(1, 4, 9), random_of(5, 4, 3), pads=[1, 1])
    for entry in (model.graph.input[0], model.graph.output[0]):
        entry.type.tensor_type.shape.dim[2].dim_param = "length"
    del model.graph.value_info[:]
    program = sp.engine.load(model, precision="bf16", calibration=random_of(1, 4, 9))
    wide = random_of(1, 4, 31)
    assert apart(program(wide), sp.engine.load(model)(wide)) < 2 * ROUNDING


def test_parts_of_another_runtime_stay_what_they_are() -> None:
    pytest.importorskip("onnxruntime")
    nodes = [
        ("Conv", ["x", "w"], ["a"], {"kernel_shape": [1, 1]}),
        ("Hardmax", ["a"], ["b"], {"axis": 1}),
        ("Conv", ["b", "v"], ["y"], {"kernel_shape": [1, 1]}),
    ]
    x = random_of(1, 6, 4, 4)
    model = model_of(nodes, {"x": x}, {"w": random_of(8, 6, 1, 1), "v": random_of(5, 8, 1, 1)})
    program = sp.engine.load(model, precision="bf16", calibration=x, fallback="onnxruntime")
    assert program.precision is not None
    assert program.precision.layers == 2
    assert apart(program(x), sp.engine.load(model, fallback="onnxruntime")(x)) < 2 * ROUNDING


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"precision": "bf16"}, "'bf16'` needs `calibration`"),
        ({"calibration": images(1)}, "belongs to precision='int8' and 'bf16'"),
        ({"precision": "fp16", "calibration": images(1)}, "expected one of 'float32', 'int8', 'bf16'"),
        ({"precision": "bf16", "calibration": []}, "holds no inputs"),
        ({"precision": "bf16", "calibration": np.zeros((1, 4, 32, 32), np.float32)}, "has shape"),
        ({"precision": "bf16", "calibration": {"y": images(1)[0]}}, "names `y`"),
        ({"precision": "bf16", "calibration": np.full((1, 3, 32, 32), np.nan, np.float32)}, "not finite"),
    ],
)
def test_bad_settings_are_refused(settings: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        sp.engine.load(mobile_net(), **settings)
