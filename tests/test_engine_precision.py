"""`precision="int8"`: never by itself, its error stated, and what it turns into levels."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

from engine_eight_bits import LayerNet, apart, images, model_of, squeezed  # noqa: E402 (needs onnx)

import separable as sp  # noqa: E402
from separable.engine.graph.reader import graph_of  # noqa: E402
from separable.engine.graph.reference import evaluate  # noqa: E402
from separable.engine.passes import simplified  # noqa: E402
from separable.engine.precision.conversion import calls_of, converted  # noqa: E402
from separable.engine.precision.eight_bits import candidates, in_eight_bits, tensors  # noqa: E402
from separable.engine.precision.ranges import Range, ranges_of  # noqa: E402
from separable.onnx.model.files import read_model  # noqa: E402


@pytest.fixture(scope="module")
def network() -> Any:
    return LayerNet(3).network()


def test_programs_are_float32_unless_asked(network: Any) -> None:
    program = sp.engine.load(network)
    assert program.precision is None
    assert "8-bit" not in str(program)
    assert "int8" not in str(program)


def test_the_error_is_the_one_on_the_calibration_inputs(target: str, network: Any) -> None:
    calls = images(4)
    program = sp.engine.load(network, precision="int8", calibration=calls)
    record = program.precision
    assert record is not None
    assert (record.precision, record.layers, record.others, record.inputs) == ("int8", 7, (), 4)
    exact = sp.engine.load(network)
    (name,) = program.outputs
    mine, theirs = (np.stack([run(x) for x in calls]) for run in (program, exact))
    assert np.isclose(record.error[name], apart(mine, theirs), rtol=1e-3)
    assert np.isclose(record.largest[name], np.abs(mine - theirs).max() / np.abs(theirs).max(), rtol=1e-3)
    assert 0 < record.error[name] < 0.05
    text = str(program)
    assert "int8: 7 of 7 convolutions and products" in text
    said = re.search(r"error of (\S+) against float32 on 4 calibration inputs: ([\d.]+) %", text)
    assert said is not None
    assert said[1] == name
    assert np.isclose(float(said[2]), 100 * record.error[name], rtol=0.06)
    new = images(3, seed=5)
    assert apart(np.stack([program(x) for x in new]), np.stack([exact(x) for x in new])) < 0.08


def test_layers_read_and_make_levels(network: Any) -> None:
    program = sp.engine.load(network, precision="int8", calibration=images(2))
    kinds = [step.kind for step in program.steps()]
    assert sum(kind.startswith("8-bit") for kind in kinds) == 7
    assert kinds.count("to levels") == 3  # the input, what was pooled, and its mean
    residual = [step for step in program.steps() if "+ residual" in step.notes]
    assert len(residual) == 1
    assert np.array_equal(
        program(images(1)[0]),
        sp.engine.load(network, precision="int8", calibration=images(2), threads=2)(images(1)[0]),
    )


def test_graphs_in_eight_bits_mean_what_runs(target: str, network: Any) -> None:
    """Whole numbers are exact; float32 rounds to another level than float64 at a tie only."""
    calls = images(2)
    graph, _ = converted(simplified(graph_of(read_model(network))), calls, 1)
    program = sp.engine.load(network, precision="int8", calibration=calls)
    (name,) = graph.outputs
    meant = evaluate(graph, {"x": calls[0]}, None)[name]
    assert np.abs(program(calls[0]) - meant).max() < 0.02 * np.abs(meant).max()


def test_means_and_scales_of_squeeze_excite_are_steps_of_their_own(target: str) -> None:
    model, calls = squeezed(), images(3)
    program = sp.engine.load(model, precision="int8", calibration=calls)
    assert program.precision is not None
    assert program.precision.layers == 5
    assert apart(program(calls[0]), sp.engine.load(model)(calls[0])) < 0.05
    assert any("silu" in step.notes or step.kind == "swish" for step in program.steps())


def test_what_stays_float32_is_named() -> None:
    """A product of two computed tensors has no weights."""
    nodes = [
        ("MatMul", ["x", "w"], ["a"], {}),
        ("Transpose", ["a"], ["b"], {"perm": [0, 2, 1]}),
        ("MatMul", ["a", "b"], ["y"], {}),
    ]
    random = np.random.default_rng(1)
    x = random.standard_normal((2, 5, 6)).astype(np.float32)
    weights = random.standard_normal((6, 7)).astype(np.float32)
    model = model_of(nodes, {"x": x}, {"w": weights})
    program = sp.engine.load(model, precision="int8", calibration=x)
    assert program.precision is not None
    assert (program.precision.layers, program.precision.others) == (1, ("y",))
    assert "int8: 1 of 2 convolutions and products" in str(program)
    assert apart(program(x), sp.engine.load(model)(x)) < 0.03


def test_open_lengths_and_several_inputs() -> None:
    nodes = [
        ("Add", ["a", "b"], ["sum"], {}),
        ("Conv", ["sum", "w"], ["y"], {"kernel_shape": [3], "pads": [1, 1]}),
    ]
    random = np.random.default_rng(2)
    a, b = (random.standard_normal((1, 4, 9)).astype(np.float32) for _ in range(2))
    model = model_of(nodes, {"a": a, "b": b}, {"w": random.standard_normal((5, 4, 3)).astype(np.float32)})
    for entry in model.graph.input:
        entry.type.tensor_type.shape.dim[2].dim_param = "length"
    del model.graph.value_info[:]
    model.graph.output[0].type.tensor_type.shape.dim[2].dim_param = "length"
    program = sp.engine.load(model, precision="int8", calibration={"a": a, "b": b})
    wide = {"a": np.tile(a, (1, 1, 3)), "b": np.tile(b, (1, 1, 3))}
    assert apart(program(wide), sp.engine.load(model)(wide)) < 0.03


def test_quantised_models_stay_as_they_are() -> None:
    x = np.arange(12, dtype=np.uint8).reshape(1, 3, 2, 2)
    model = model_of(
        [("ConvInteger", ["x", "w"], ["y"], {})], {"x": x}, {"w": np.ones((2, 3, 1, 1), np.int8)}
    )
    program = sp.engine.load(model, precision="int8", calibration=x)
    assert program.precision is not None
    assert program.precision.layers == 0
    assert program.precision.error == {"y": 0.0}
    assert np.array_equal(program(x), sp.engine.load(model)(x))


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"precision": "int8"}, "needs `calibration`"),
        ({"calibration": images(1)}, "belongs to precision='int8'"),
        ({"precision": "int4", "calibration": images(1)}, "expected one of 'float32', 'int8'"),
        ({"precision": "int8", "calibration": []}, "holds no inputs"),
        ({"precision": "int8", "calibration": np.zeros((1, 4, 32, 32), np.float32)}, "has shape"),
        ({"precision": "int8", "calibration": {"y": images(1)[0]}}, "names `y`"),
        ({"precision": "int8", "calibration": np.full((1, 3, 32, 32), np.nan, np.float32)}, "not finite"),
    ],
)
def test_bad_settings_are_refused(network: Any, settings: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        sp.engine.load(network, **settings)


# -- ranges ------------------------------------------------------------------------------------------


def test_levels_hold_zero_exactly() -> None:
    for low, high in ((-1.0, 3.0), (0.0, 6.0), (-2.0, 0.0), (0.0, 0.0), (-1e-44, 1e-44)):
        scale, zero = Range(low, high).levels(narrowed=False)
        assert scale > 0
        assert 0 <= int(zero) <= 255
        assert (255 - int(zero)) * float(scale) >= 0.99 * high - float(scale)
    assert Range(0.0, 6.0).levels(narrowed=False)[1] == 0


def test_few_large_numbers_are_cut_off_where_that_leaves_less_error() -> None:
    numbers = np.r_[np.random.default_rng(3).standard_normal(100_000), 30.0].astype(np.float32)
    held = Range()
    held.meets(numbers)
    held.counts_of(numbers)
    errors = []
    for narrowed in (False, True):
        scale, zero = held.levels(narrowed)
        levels = np.clip(np.round(numbers / scale) + int(zero), 0, 255)
        errors.append(float((((levels - int(zero)) * scale - numbers) ** 2).mean()))
    assert errors[1] < errors[0]


def test_pieces(network: Any) -> None:
    graph = simplified(graph_of(read_model(network)))
    chosen, others = candidates(graph)
    assert (len(chosen), others) == (7, [])
    found = ranges_of(graph, tensors(graph, chosen), images(2), 1)
    assert found["x"].low < 0 < found["x"].high
    made = in_eight_bits(graph, chosen, found, narrowed=False)
    assert sum(node.op in ("QLinearConv", "QLinearMatMul") for node in made.nodes) == 7
    weights = [made.constants[node.inputs[3]] for node in made.nodes if node.op == "QLinearConv"]
    for array in weights:  # two neighbours of one sign fit into products of 16 bits
        pairs = array[:, : array.shape[1] // 2 * 2].astype(int).reshape(len(array), -1, 2, *array.shape[2:])
        assert np.maximum(pairs, 0).sum(2).max(initial=0) <= 128
        assert np.minimum(pairs, 0).sum(2).min(initial=0) >= -128
    assert next(iter(calls_of(images(1)[0]))).shape == (1, 3, 32, 32)


@pytest.mark.usefixtures("target")
@pytest.mark.parametrize("precision", ["int8", "bf16"])
def test_sizes_that_vary_have_the_bits_of_programs_made_for_them(precision: str) -> None:
    """Plans made again from recordings pack samples and levels as plans made step by step do."""
    model = LayerNet().network()
    for dim, name in zip(model.graph.input[0].type.tensor_type.shape.dim, "N.HW", strict=True):
        if name != ".":
            dim.dim_param = name
    calibration = images(4)
    program = sp.engine.load(model, precision=precision, calibration=calibration, threads=1)
    random = np.random.default_rng(3)
    sizes = ((1, 32, 32), (1, 40, 36), (2, 40, 44), (1, 56, 24), (3, 30, 50), (1, 64, 72))
    for batch, *lengths in sizes:
        x = random.standard_normal((batch, 3, *lengths)).astype(np.float32)
        fresh = sp.engine.load(model, precision=precision, calibration=calibration, threads=1)
        np.testing.assert_array_equal(program(x), fresh(x))
    assert program._recordings.used >= 1
