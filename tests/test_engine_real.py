"""Patterns of networks that people run, in small: each beside ONNX Runtime, as one native program."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402 (needs onnx)

import separable as sp  # noqa: E402
from separable import _core  # noqa: E402
from separable.engine.graph.ir import Graph, Node, TensorType  # noqa: E402
from separable.engine.program.carried import CarriedAs, carried  # noqa: E402

Array = npt.NDArray[Any]
OFF = 2e-6  # of the largest number of an output
FLOAT, INT64, INT32, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL


class Net:
    """A model as it grows."""

    def __init__(self, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[Any] = []
        self.held: list[Any] = []
        self.inputs: list[Any] = []

    def input(self, name: str, shape: Sequence[int | str], kind: int = FLOAT) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def constant(self, values: Any, dtype: npt.DTypeLike = np.float32) -> str:
        name = f"c{len(self.held)}"
        self.held.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def normal(self, *shape: int, scale: float = 1.0) -> str:
        return self.constant(scale * self.random.standard_normal(shape))

    def weights(self, *shape: int) -> str:
        return self.normal(*shape, scale=float(np.prod(shape[1:])) ** -0.5)

    def node(self, op: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        names = [f"t{len(self.nodes)}{'abc'[n]}" for n in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, names, **attributes))
        return names if outputs > 1 else names[0]

    def model(self, *outputs: str, opset: int = 17) -> Any:
        ends = [onnx.ValueInfoProto(name=name) for name in outputs]
        graph = helper.make_graph(self.nodes, "net", self.inputs, ends, self.held)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
        model.ir_version = 8
        return model


def numbers(*shape: int, seed: int = 1) -> Array:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def agree(
    model: Any, *several: dict[str, Array], off: float = OFF, kinds: Sequence[str] = ()
) -> sp.engine.Program:
    """Compare a program, which holds no part of another runtime, on one and two threads; return it."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    program, other = (sp.engine.load(model, threads=threads) for threads in (1, 2))
    for feeds in several:
        wanted = dict(zip(program.outputs, session.run(list(program.outputs), feeds), strict=True))
        results = [
            found if isinstance(found := one(feeds), dict) else {program.outputs[0]: found}
            for one in (program, other)
        ]
        for name, array in wanted.items():
            found = results[0][name]
            assert (found.dtype, found.shape) == (array.dtype, array.shape)
            scale = max(float(np.abs(array).max(initial=0)), 1e-30)
            assert np.abs(found.astype(np.float64) - array).max(initial=0) <= off * scale, name
            np.testing.assert_array_equal(found, results[1][name])
    shown = [step.kind for step in program.steps({name: feeds[name].shape for name in feeds})]
    assert not any(kind.startswith("ONNX") for kind in shown)
    for kind in kinds:
        assert any(kind in one for one in shown), shown
    return program


# -- recurrent layers ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("target")
@pytest.mark.parametrize("op", ["LSTM", "GRU", "GRU that resets before"])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize(
    ("times", "count", "length", "width"), [(1, 1, 5, 3), (7, 2, 12, 19), (4, 30, 33, 32)]
)
def test_recurrent_layers(op: str, direction: str, times: int, count: int, length: int, width: int) -> None:
    net = Net()
    op, before = op.split()[0], "before" in op
    ways, gates = (2 if direction == "bidirectional" else 1), (4 if op == "LSTM" else 3)
    x = net.input("x", ["times", "batch", length])
    first = [net.input(name, [ways, "batch", width]) for name in ("h", "c")[: 2 if op == "LSTM" else 1]]
    layer = [net.weights(ways, gates * width, length), net.weights(ways, gates * width, width)]
    bias = net.normal(ways, 2 * gates * width)
    more = {
        "direction": direction,
        "hidden_size": width,
        **({"linear_before_reset": 1} if op == "GRU" and not before else {}),
    }
    made = net.node(op, x, *layer, bias, "", *first, outputs=3 if op == "LSTM" else 2, **more)
    turned = net.node("Transpose", made[0], perm=[0, 2, 1, 3])
    rows = net.node("Reshape", turned, net.constant([0, 0, -1], np.int64))
    feeds = {"x": numbers(times, count, length)}
    feeds |= {name: numbers(ways, count, width, seed=2) for name in first}
    agree(net.model(rows, *made), feeds, {name: array[:, :1] for name, array in feeds.items()}, kinds=[op])


def test_an_lstm_without_bias_and_state_in_a_chain_of_two() -> None:
    net = Net()
    x = net.input("x", ["batch", 8, "time"])
    y = net.node("Transpose", x, perm=[2, 0, 1])
    for length in (8, 14):
        y, *_ = net.node(
            "LSTM",
            y,
            net.weights(2, 28, length),
            net.weights(2, 28, 7),
            outputs=3,
            hidden_size=7,
            direction="bidirectional",
        )
        y = net.node("Transpose", y, perm=[0, 2, 1, 3])
        y = net.node("Reshape", y, net.constant([0, 0, -1], np.int64))
    program = agree(net.model(y), {"x": numbers(3, 8, 11)}, {"x": numbers(1, 8, 4)})
    packed = program.weights_bytes
    program({"x": numbers(2, 8, 9)})
    assert program.weights_bytes == packed  # plans of other lengths share them


REFUSED = {
    "activations": ("LSTM", {"activations": ["Relu", "Tanh", "Tanh"]}, 0),
    "layout": ("LSTM", {"clip": 3.0}, 0),
    "peepholes": ("LSTM", {}, 1),
}


@pytest.mark.parametrize("said", REFUSED)
def test_recurrent_layers_of_other_kinds_are_named_and_fall_back(said: str) -> None:
    op, more, peepholes = REFUSED[said]
    net = Net()
    gates = 4 if op == "LSTM" else 3
    x = net.input("x", [5, 2, 6])
    inputs = [x, net.weights(1, gates * 4, 6), net.weights(1, gates * 4, 4)]
    inputs += ["", "", "", "", net.normal(1, 12)] if peepholes else []
    y = net.node(op, *inputs, hidden_size=4, **more)
    model = net.model(y)
    with pytest.raises(sp.engine.UnsupportedOperationsError, match=said):
        sp.engine.load(model)
    feeds = numbers(5, 2, 6)
    wanted = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": feeds})[0]
    np.testing.assert_allclose(sp.engine.load(model, fallback="onnxruntime")(feeds), wanted, atol=1e-6)


@pytest.mark.parametrize("op", ["LSTM", "GRU"])
@pytest.mark.parametrize("wrong", ["W", "R", "B", "initial_h", "hidden_size", "direction"])
def test_weights_of_a_recurrent_layer_that_do_not_fit_are_named(op: str, wrong: str) -> None:
    net = Net()
    gates = 4 * (4 if op == "LSTM" else 3)
    shapes = {"W": [1, gates, 6], "R": [1, gates, 4], "B": [1, 2 * gates], "initial_h": [1, 2, 4]}
    if wrong in shapes:
        shapes[wrong] = [*shapes[wrong][:-1], shapes[wrong][-1] + 1]
    more = {"hidden_size": 5 if wrong == "hidden_size" else 4}
    more |= {"direction": "bidirectional"} if wrong == "direction" else {}
    w, r, b, h = (net.constant(numbers(*shape)) for shape in shapes.values())
    y = net.node(op, net.input("x", [5, 2, 6]), w, r, b, "", h, **more)
    said = f"`{wrong}` of shape" if wrong in shapes else "of shape"
    for fallback in (None, "onnxruntime"):
        with pytest.raises(ValueError, match=said):
            sp.engine.load(net.model(y), fallback=fallback)


# -- truth values and whole numbers -------------------------------------------------------------------


def test_comparisons_choices_and_casts() -> None:
    net = Net()
    a, b = net.input("a", ["n", 3, 7]), net.input("b", [7])
    questions = [net.node(op, a, b) for op in ("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual")]
    both = net.node("And", questions[1], net.node("Not", questions[0]))
    either = net.node("Xor", net.node("Or", both, questions[3]), questions[4])
    chosen = net.node("Where", either, a, net.node("Reciprocal", a))
    as_float = net.node("Cast", either, to=FLOAT)
    truth = net.node("Cast", a, to=BOOL)
    whole = net.node("Cast", truth, to=INT64)
    feeds = {"a": np.round(numbers(2, 3, 7) * 2) / 2, "b": np.round(numbers(7) * 2) / 2}
    feeds["a"][0, 0] = [np.nan, np.inf, -np.inf, 0, -0.0, 1, 2]
    net.node("Identity", a)
    model = net.model(*questions, either, as_float, truth, whole)
    agree(model, feeds)
    program = sp.engine.load(net.model(chosen), threads=1)
    wanted = onnxruntime.InferenceSession(net.model(chosen).SerializeToString()).run(None, feeds)[0]
    np.testing.assert_allclose(
        program(feeds), wanted, rtol=1e-6
    )  # NaN and infinities where nothing is chosen


@pytest.mark.usefixtures("target")
@pytest.mark.parametrize("axis", [0, 1, 2, -1])
@pytest.mark.parametrize("keep", [0, 1])
def test_positions_of_the_largest_and_the_least(axis: int, keep: int) -> None:
    net = Net()
    x = net.input("x", ["n", 5, 37])
    y = [net.node(op, x, axis=axis, keepdims=keep) for op in ("ArgMax", "ArgMin")]
    ties = np.round(numbers(4, 5, 37))
    agree(net.model(*y), {"x": numbers(4, 5, 37)}, {"x": ties})


def test_bytes_become_rows_of_a_matrix() -> None:
    net = Net()
    x = net.input("bytes", ["n", 6], INT32)
    column = net.node("Reshape", x, net.constant([-1, 6, 1], np.int64))
    hot = net.node(
        "Cast", net.node("Equal", column, net.constant(np.arange(9)[None, None], np.int32)), to=FLOAT
    )
    y = net.node("MatMul", hot, net.normal(9, 4))
    far = np.array([[0, 8, 2**31 - 1, -1, 2**24 + 1, 7]], np.int32)
    agree(net.model(y), {"bytes": far}, {"bytes": np.full((3, 6), 5, np.int32)})


def test_whole_numbers_that_float32_may_not_hold_are_exact() -> None:
    far = np.array([0, 2**24 + 1, -(2**30) + 1, 7], np.int32)
    for op in ("Reshape", "Add"):
        net = Net()
        x = net.input("x", [4], INT32)
        y = net.node(op, x, net.constant([2, 2], np.int64) if op == "Reshape" else x)
        np.testing.assert_array_equal(
            sp.engine.load(net.model(y))(far).ravel(), far if op == "Reshape" else 2 * far
        )


def test_double_precision_is_refused_and_not_rounded() -> None:
    net = Net()
    x = net.input("x", [4], TensorProto.DOUBLE)
    model = net.model(net.node("Add", net.node("Relu", x), x))
    with pytest.raises(sp.engine.UnsupportedOperationsError, match="Relu of float64"):
        sp.engine.load(model)


def test_what_is_carried_is_told_by_types_and_operations() -> None:
    types = {"flag": TensorType(np.dtype(bool), (3,)), "far": TensorType(np.dtype(np.int64), (3,))}
    made = {"same": TensorType(np.dtype(bool), (3,)), "sum": TensorType(np.dtype(np.int64), (3,))}
    nodes = (Node("Equal", ("far", "few"), ("same",)), Node("Add", ("far", "far"), ("sum",)))
    graph = Graph("g", types, ("same",), nodes, {"few": np.arange(3)}, {**types, **made})
    assert carried(graph) == {
        "flag": CarriedAs.exact,
        "far": CarriedAs.rounded,
        "few": CarriedAs.exact,
        "same": CarriedAs.exact,
    }


# -- what decides before anything runs -----------------------------------------------------------------


def rates() -> Any:
    """A network that a rate decides about: half of the samples, or all of them."""
    net = Net()
    rate = [net.input("x", ["n", 1, 16]), net.input("sr", [], INT64)][1]
    fast = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"], strides=[2])],
        "fast",
        [],
        [onnx.ValueInfoProto(name="y")],
    )
    cut = helper.make_node("Slice", ["x", "from", "to", "axis"], ["z"])
    ends = [onnx.ValueInfoProto(name="y")]
    slow = helper.make_graph([cut, helper.make_node("Relu", ["z"], ["y"])], "slow", [], ends)
    net.held += [numpy_helper.from_array(np.ones((1, 1, 2), np.float32), "w")]
    net.held += [
        numpy_helper.from_array(np.array([n]), name) for name, n in (("from", 0), ("to", 8), ("axis", 2))
    ]
    is_fast = net.node("Equal", rate, net.constant(16000, np.int64))
    return net.model(net.node("If", is_fast, then_branch=fast, else_branch=slow))


def test_a_whole_number_decides_what_is_planned() -> None:
    model, x = rates(), numbers(2, 1, 16)
    program = sp.engine.load(model, threads=1)
    assert program.depends_on_values
    with pytest.raises(ValueError, match="depends on the values of `sr`; call the program once"):
        program.memory({"x": (2, 1, 16), "sr": ()})
    session = onnxruntime.InferenceSession(model.SerializeToString())
    for rate in (16000, 8000, 16000):
        feeds = {"x": x, "sr": np.array(rate)}
        np.testing.assert_allclose(program(feeds), session.run(None, feeds)[0], atol=1e-6)
    assert program.profile(feeds, repeat=2).steps
    assert program.profile(repeat=2).steps


def test_lengths_without_a_name_need_not_be_alike() -> None:
    net = Net()
    x = net.input("x", ["?", 3, "?", "?"])
    y = net.node("Conv", x, net.weights(8, 3, 3, 3), pads=[1, 1, 1, 1])
    program = agree(net.model(y), {"x": numbers(1, 3, 9, 17)}, {"x": numbers(2, 3, 12, 5)})
    assert program.inputs["x"].shape == ("x.0", 3, "x.2", "x.3")


def test_a_new_length_takes_only_the_passes_that_helped_before() -> None:
    net = Net()
    x = net.input("x", ["n", 3, 16, "width"])
    y = net.node("Relu", net.node("Conv", x, net.weights(8, 3, 3, 3), pads=[1, 1, 1, 1]))
    y = net.node("Reshape", y, net.constant([0, 8, -1], np.int64))
    program = agree(net.model(y), *({"x": numbers(1, 3, 16, width)} for width in (9, 16, 31)))
    assert len(program._memory) == 1


def test_as_many_plans_are_kept_as_are_asked_for() -> None:
    net = Net()
    model = net.model(net.node("Relu", net.input("x", ["n", "width"])))
    program = sp.engine.load(model, plans=3)
    for width in range(2, 9):
        program(numbers(2, width))
    assert len(program._plans) == 3
    with pytest.raises(ValueError, match="`plans=0` is too small"):
        sp.engine.load(model, plans=0)


# -- convolutions --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("target")
@pytest.mark.parametrize(
    ("channels", "made", "height", "width", "pads"),
    [
        (16, 16, 4, 4, (1, 1, 1, 1)),
        (24, 40, 10, 10, (1, 1, 1, 1)),
        (17, 19, 23, 9, (1, 1, 1, 1)),
        (32, 64, 40, 41, (0, 1, 2, 0)),
        (64, 16, 15, 38, (0, 0, 0, 0)),
        (16, 130, 9, 62, (2, 2, 2, 2)),
    ],
)
def test_kernels_of_3_x_3_by_winograds_algorithm(
    channels: int, made: int, height: int, width: int, pads: tuple[int, ...]
) -> None:
    net = Net()
    x = net.input("x", ["n", channels, height, width])
    first = net.node("Relu", net.node("Conv", x, net.weights(channels, channels, 1, 1)))
    y = net.node("Conv", first, net.weights(made, channels, 3, 3), net.normal(made), pads=pads)
    gate = net.node("Mul", y, net.node("Sigmoid", y))
    z = net.node("Conv", gate, net.weights(made, made, 3, 3), pads=[1, 1, 1, 1])
    z = net.node("Relu", net.node("Add", z, gate))
    agree(
        net.model(gate, z),
        {"x": numbers(1, channels, height, width)},
        {"x": numbers(3, channels, height, width)},
        off=4e-6,
    )


def test_convolutions_of_columns_run_as_rows() -> None:
    net = Net()
    x = net.input("x", ["n", 12, 40])
    wide = net.node("Unsqueeze", x, net.constant([3], np.int64))
    y = net.node("Conv", wide, net.weights(20, 12, 5, 1), net.normal(20), pads=[2, 0, 1, 0], strides=[2, 1])
    y = net.node("Relu", y)
    y = net.node("Squeeze", net.node("Conv", y, net.weights(9, 20, 3, 1)), net.constant([3], np.int64))
    agree(net.model(y), {"x": numbers(2, 12, 40)}, kinds=["conv 1 x 5"])


def test_signals_that_go_round_in_a_circle_stay_in_blocks() -> None:
    net = Net()
    x = net.input("x", ["n", 16, 700])
    y = net.node("Relu", net.node("Conv", x, net.weights(32, 16, 1)))
    for step in (1, 4, 64, 300):
        ends = [
            net.node("Slice", y, *(net.constant([n], np.int64) for n in cut))
            for cut in ((-step, 700, 2), (0, step, 2))
        ]
        round_ = net.node("Concat", ends[0], y, ends[1], axis=2)
        y = net.node(
            "Add", net.node("Relu", net.node("Conv", round_, net.weights(32, 32, 3), dilations=[step])), y
        )
    program = agree(net.model(y), {"x": numbers(1, 16, 700)})
    assert sum(step.kind == "to plain" for step in program.steps()) == 1  # the output


@pytest.mark.parametrize("channels", [3, 8, 20])
def test_channels_last_are_read_as_they_lie(channels: int) -> None:
    net = Net()
    x = net.input("x", ["n", 20, 30, channels])
    y = net.node("Transpose", x, perm=[0, 3, 1, 2])
    y = net.node("Conv", y, net.weights(10, channels, 3, 7), pads=[1, 3, 1, 3])
    program = agree(net.model(y), {"x": numbers(2, 20, 30, channels)})
    assert [step.kind for step in program.steps()] == ["conv 3 x 7", "to plain"]


def test_long_rows_are_divided() -> None:
    net = Net()
    x = net.input("x", ["n", 24, "time"])
    y = net.node("Relu", net.node("Conv", x, net.weights(40, 24, 3), net.normal(40), pads=[1, 1]))
    y = net.node("Conv", y, net.weights(24, 40, 5), pads=[8, 8], dilations=[4], strides=[3])
    y = net.node("Conv", y, net.weights(16, 24, 1))
    level = _core.core_info()["caches"]
    _core.assume_caches(1 << 13, 1 << 15, 1 << 17)
    try:
        agree(net.model(y), {"x": numbers(1, 24, 2000)}, {"x": numbers(2, 24, 1001)})
    finally:
        _core.assume_caches(*(level[name] for name in ("l1d", "l2", "l3")))


def test_halves_of_a_tensor_are_written_where_they_are_put_together() -> None:
    net = Net()
    x = net.input("x", ["n", 16, 12, 12])
    whole = net.node("Relu", net.node("Conv", x, net.weights(64, 16, 1, 1)))
    one, other = net.node("Split", whole, net.constant([32, 32], np.int64), outputs=2, axis=1)
    deep = net.node("Relu", net.node("Conv", other, net.weights(32, 32, 3, 3), pads=[1, 1, 1, 1]))
    y = net.node("Conv", net.node("Concat", one, other, deep, axis=1), net.weights(8, 96, 1, 1))
    program = agree(net.model(y), {"x": numbers(1, 16, 12, 12)}, off=4e-6)
    assert not any(step.kind == "copy" for step in program.steps())


def test_many_rows_of_a_large_layer() -> None:
    net = Net()
    x = net.input("x", ["n", 700])
    y = net.node("Gemm", x, net.weights(1001, 700), net.normal(1001), transB=1)
    agree(net.model(y), *({"x": numbers(rows, 700)} for rows in (1, 6, 7, 33)))
