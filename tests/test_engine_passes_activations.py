"""Activations: every way in which exporters write them, and what only looks alike."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from engine_nets import GraphNet, assert_same, checked, data, ops

from separable.engine.graph.ir import Graph
from separable.engine.graph.reference import evaluate
from separable.engine.graph.static import static
from separable.engine.passes import simplified
from separable.engine.passes.activations import activations_applied, activations_recognised
from separable.engine.passes.layer_norms import layer_norms
from separable.engine.passes.patterns import chain, close, factors, polynomial

Build = Callable[[GraphNet, str], str]

# ONNX keeps slopes and other attributes in float32.
near = functools.partial(checked, rtol=1e-6)


def either(net: GraphNet, op: str, first: str, second: str, swapped: bool) -> str:
    return str(net.node(op, *((second, first) if swapped else (first, second))))


def hard_swishes() -> Iterator[Build]:
    """Add 3, Clip 0 to 6, Mul by x, divided by 6: at every place, in every order of operands."""
    for where, swapped, over, minimum in itertools.product(
        ("gate", "x", "product"), (False, True), (False, True), (False, True)
    ):

        def build(
            net: GraphNet,
            x: str,
            where: str = where,
            swapped: bool = swapped,
            over: bool = over,
            minimum: bool = minimum,
        ) -> str:
            def sixth(name: str) -> str:
                if over:
                    return str(net.node("Div", name, net.constant(6)))
                return either(net, "Mul", name, net.constant(1 / 6), swapped)

            gate = either(net, "Add", x, net.constant([3]), swapped)
            if minimum:
                gate = net.node("Min", net.node("Relu", gate), net.constant(6))
            else:
                gate = net.node("Clip", gate, net.constant(0), net.constant(6))
            gate = sixth(gate) if where == "gate" else gate
            y = either(net, "Mul", sixth(x) if where == "x" else x, gate, swapped)
            return sixth(y) if where == "product" else y

        yield build


def by_hard_sigmoid(net: GraphNet, x: str) -> str:
    return str(net.node("Mul", net.node("HardSigmoid", x, alpha=1 / 6, beta=0.5), x))


def by_hard_sigmoid_inside(net: GraphNet, x: str) -> str:
    inner = net.node("Add", net.node("Mul", x, net.constant(np.float32(1 / 6))), net.constant(0.5))
    return str(net.node("Mul", x, net.node("Clip", inner, net.constant(0), net.constant(1))))


@pytest.mark.parametrize("build", [*hard_swishes(), by_hard_sigmoid, by_hard_sigmoid_inside])
def test_hard_swish_in_every_order(build: Build) -> None:
    net = GraphNet()
    graph = net.graph(build(net, net.input(2, 3, 5)))
    assert ops(near(activations_recognised, graph)) == ["HardSwish"]


def gelus() -> Iterator[Build]:
    """Div by the root of two, Erf, Add 1, times x and one half: at every place, in every order."""
    for where, swapped, over in itertools.product(("x", "gate", "product"), (False, True), (False, True)):

        def build(
            net: GraphNet, x: str, where: str = where, swapped: bool = swapped, over: bool = over
        ) -> str:
            def half(name: str) -> str:
                return either(net, "Mul", name, net.constant([0.5]), swapped)

            if over:
                inner = net.node("Div", x, net.constant(math.sqrt(2)))
            else:
                inner = either(net, "Mul", x, net.constant(math.sqrt(0.5)), swapped)
            gate = either(net, "Add", net.node("Erf", inner), net.constant(1), swapped)
            gate = half(gate) if where == "gate" else gate
            y = either(net, "Mul", half(x) if where == "x" else x, gate, swapped)
            return half(y) if where == "product" else y

        yield build


def by_halves(net: GraphNet, x: str) -> str:
    gate = net.node("Erf", net.node("Div", x, net.constant(np.float32(math.sqrt(2)))))
    gate = net.node("Add", net.node("Mul", gate, net.constant(0.5)), net.constant(0.5))
    return str(net.node("Mul", gate, x))


@pytest.mark.parametrize("build", [*gelus(), by_halves])
def test_gelu_in_every_order(build: Build) -> None:
    net = GraphNet()
    new = near(activations_recognised, net.graph(build(net, net.input(2, 3, 5))))
    assert ops(new) == ["Gelu"]
    assert new.nodes[0].attributes["approximate"] == "none"


@pytest.mark.parametrize("cube", ["pow", "products", "factored"])
def test_gelu_by_tanh(cube: str) -> None:
    net = GraphNet()
    x = net.input(2, 3, 5)
    root, small = net.constant(math.sqrt(2 / math.pi)), net.constant(0.044715)
    if cube == "factored":
        line = net.node("Add", net.node("Mul", net.node("Mul", x, x), small), net.constant(1))
        inner = net.node("Mul", x, line)
    else:
        power = net.node("Pow", x, net.constant(3))
        power = net.node("Mul", net.node("Mul", x, x), x) if cube == "products" else power
        inner = net.node("Add", x, net.node("Mul", small, power))
    gate = net.node("Add", net.constant(1), net.node("Tanh", net.node("Mul", root, inner)))
    y = net.node("Mul", net.node("Mul", net.constant(0.5), x), gate)
    new = near(activations_recognised, net.graph(y))
    assert ops(new) == ["Gelu"]
    assert new.nodes[0].attributes["approximate"] == "tanh"


@pytest.mark.parametrize("swapped", [False, True])
def test_swish_and_mish(swapped: bool) -> None:
    for alpha in (1.0, 1.702):
        net = GraphNet()
        x = net.input(2, 3, 5)
        inner = x if alpha == 1 else net.node("Mul", x, net.constant(alpha))
        y = either(net, "Mul", x, net.node("Sigmoid", inner), swapped)
        (swish,) = near(activations_recognised, net.graph(y)).nodes
        assert (swish.op, swish.attributes) == ("Swish", {"alpha": alpha})
    net = GraphNet()
    x = net.input(2, 3, 5)
    y = either(net, "Mul", x, net.node("Tanh", net.node("Softplus", x)), swapped)
    assert ops(near(activations_recognised, net.graph(y))) == ["Mish"]


def test_clips_of_all_kinds() -> None:
    ways: dict[str, tuple[list[tuple[str, list[float]]], list[str]]] = {
        "max": ([("Max", [0])], ["Relu"]),
        "clip from below": ([("Clip", [0])], ["Relu"]),
        "max, min": ([("Max", [-1]), ("Min", [1])], ["Clip"]),
        "min, max": ([("Min", [1]), ("Max", [-1])], ["Clip"]),
        "relu, relu": ([("Relu", []), ("Relu", [])], ["Relu"]),
        "relu, clip": ([("Relu", []), ("Clip", [-1, 0.5])], ["Clip"]),
        "apart": ([("Clip", [1, 2]), ("Clip", [-1, 0])], ["Clip"]),
        "line": ([("Mul", [0.3]), ("Add", [0.4]), ("Clip", [0, 1])], ["HardSigmoid"]),
        "sixth": ([("Add", [3]), ("Clip", [0, 6]), ("Div", [6])], ["HardSigmoid"]),
    }
    for steps, wanted in ways.values():
        net = GraphNet()
        y = net.input(2, 3, 5)
        for op, values in steps:
            y = net.node(op, y, *map(net.constant, values))
        assert ops(near(activations_recognised, net.graph(y))) == wanted


def test_a_slope_for_all_channels() -> None:
    net = GraphNet()
    graph = net.graph(net.node("PRelu", net.input(2, 3, 5), net.constant([[0.25]] * 3)))
    (leaky,) = near(activations_recognised, graph).nodes
    assert (leaky.op, leaky.attributes) == ("LeakyRelu", {"alpha": 0.25})
    net = GraphNet()
    graph = net.graph(net.node("PRelu", net.input(2, 3, 5), net.constant([[0.25], [0.5], [0.25]])))
    assert activations_recognised(graph) is graph


def another_x(net: GraphNet) -> Graph:
    return net.graph(net.node("Mul", net.input(2, 3), net.node("Sigmoid", net.input(2, 3, name="z"))))


def gate_given_to_callers(net: GraphNet) -> Graph:
    gate = net.node("Sigmoid", net.input(2, 3))
    return net.graph(gate, net.node("Mul", "x", gate))


def gate_read_twice(net: GraphNet) -> Graph:
    gate = net.node("Sigmoid", net.input(2, 3))
    return net.graph(net.node("Mul", "x", gate), net.node("Neg", gate))


def squared_gate(net: GraphNet) -> Graph:
    gate = net.node("Sigmoid", net.input(2, 3))
    return net.graph(net.node("Mul", gate, gate))


def other_constants(net: GraphNet) -> Graph:
    gate = net.node(
        "Clip", net.node("Add", net.input(2, 3), net.constant(3)), net.constant(0), net.constant(5)
    )
    return net.graph(net.node("Mul", "x", gate))


def constants_of_channels(net: GraphNet) -> Graph:
    gate = net.node("Sigmoid", net.node("Mul", net.input(2, 3), net.constant([1, 1, 2])))
    return net.graph(net.node("Mul", "x", gate))


def further_axes(net: GraphNet) -> Graph:
    gate = net.node("Add", net.input(2, 3), net.constant([[[3]]]))
    gate = net.node("Clip", gate, net.constant(0), net.constant(6))
    return net.graph(net.node("Div", net.node("Mul", "x", gate), net.constant(6)))


def crossed_bounds(net: GraphNet) -> Graph:
    y = net.node("Clip", net.input(2, 3), net.constant(2), net.constant(1))
    return net.graph(net.node("Clip", y, net.constant(0), net.constant(3)))


def computed_bound(net: GraphNet) -> Graph:
    return net.graph(net.node("Max", net.input(2, 3), net.input(2, 3, name="z")))


ALIKE = [
    *(another_x, gate_given_to_callers, gate_read_twice, squared_gate, other_constants),
    *(constants_of_channels, further_axes, crossed_bounds, computed_bound),
]


@pytest.mark.parametrize("build", ALIKE)
def test_what_looks_alike_stays(build: Callable[[GraphNet], Graph]) -> None:
    graph = build(GraphNet())
    assert activations_recognised(graph) is graph


@pytest.mark.parametrize(
    ("op", "constants", "attributes", "told"),
    [
        ("Relu", (), {}, {"activation": "relu"}),
        ("Clip", (0, 6), {}, {"activation": "relu6"}),
        ("Clip", (-1, 2), {}, {"activation": "clip", "low": -1.0, "high": 2.0}),
        ("Swish", (), {}, {"activation": "silu"}),
        ("HardSwish", (), {}, {"activation": "hard_swish"}),
        ("Gelu", (), {}, {"activation": "gelu"}),
        ("Gelu", (), {"approximate": "tanh"}, {"activation": "gelu_tanh"}),
        ("Sigmoid", (), {}, {"activation": "sigmoid"}),
        ("HardSigmoid", (), {"alpha": 1 / 6}, {"activation": "hard_sigmoid"}),
        ("LeakyRelu", (), {"alpha": 0.5}, {"activation": "leaky_relu", "alpha": 0.5}),
    ],
)
def test_a_convolution_applies_what_follows(
    op: str, constants: tuple[float, ...], attributes: dict[str, object], told: dict[str, object]
) -> None:
    net = GraphNet()
    y = net.conv(net.input(2, 3, 6, 6), 3, 5)
    graph = net.graph(net.node(op, y, *map(net.constant, constants), **attributes))
    (conv,) = near(activations_applied, graph).nodes
    assert told.items() <= conv.attributes.items()


def test_others_apply_activations_too_but_no_slopes() -> None:
    def hosts(net: GraphNet) -> Iterator[str]:
        x, z = net.input(4, 4), net.input(4, 4, name="z")
        yield from (net.node(op, x, z) for op in ("Add", "Mul", "MatMul", "Gemm"))
        yield net.norm(x, 4)

    for number in range(5):
        for op, taken in (("Relu", True), ("LeakyRelu", False)):
            net = GraphNet()
            y = list(hosts(net))[number]
            new = near(activations_applied, net.graph(net.node(op, y)))
            assert (len(new.nodes) == 1) == taken


def test_nothing_is_applied_twice_or_where_others_read() -> None:
    net = GraphNet()
    y = net.conv(net.input(2, 3, 6, 6), 3, 5)
    first = net.node("Relu", y)
    assert ops(near(activations_applied, net.graph(net.node("Sigmoid", first)))) == ["Conv+relu", "Sigmoid"]
    for outputs in ((first, y), (first, net.node("Neg", y))):
        graph = net.graph(*outputs)
        assert activations_applied(graph) is graph
    for op in ("Tanh", "Mish", "Elu"):
        other = GraphNet()
        graph = other.graph(other.node(op, other.conv(other.input(2, 3, 6, 6), 3, 5)))
        assert activations_applied(graph) is graph


def test_not_a_number_stays_one() -> None:
    """In every form that a pass writes, of everything that it reads."""
    builds = [*hard_swishes(), *gelus(), by_halves, by_hard_sigmoid]
    for build in builds:
        net = GraphNet()
        y = net.conv(net.input(1, 1, 4), 1, 1, 1, axes=1)
        graph = net.graph(build(net, y))
        x = {"x": np.array([[[np.nan, 1.0, -2.0, 3.0]]])}
        new = simplified(graph)
        assert len(new.nodes) == 1
        assert_same(evaluate(new, x), evaluate(graph, x), 1e-6)


def normalised(net: GraphNet, x: str, **forms: object) -> str:
    """Return a tensor after layer normalisation as exporters write it out."""
    axes = net.integers(forms.get("axis", -1))  # type: ignore[arg-type]
    centred = net.node("Sub", x, net.node("ReduceMean", x, axes))
    if forms.get("product"):
        square = net.node("Mul", centred, centred)
    else:
        square = net.node("Pow", centred, net.constant(2))
    variance = net.node("ReduceMean", square, axes)
    y = net.node("Div", centred, net.node("Sqrt", net.node("Add", variance, net.constant(1e-3))))
    if forms.get("weights", True):
        y = net.node("Mul", net.normal(5), y)
    return str(net.node("Add", y, net.normal(5)) if forms.get("bias", True) else y)


@pytest.mark.parametrize(
    "forms", [{}, {"product": True}, {"axis": 2}, {"bias": False}, {"weights": False}], ids=repr
)
def test_layer_normalisation_is_one_node(forms: dict[str, object]) -> None:
    net = GraphNet()
    x = net.node("Tanh", net.input("N", 3, 5))
    graph = net.graph(net.node("Neg", normalised(net, x, **forms)), x, typed=False)
    types = {**graph.types, x: graph.inputs["x"]}
    new = near(layer_norms, graph.with_(types=types))
    assert ops(new) == ["Tanh", "LayerNormalization", "Neg"]
    assert ops(static(new, {"x": (2, 3, 5)})) == ops(new)


def test_other_normalisations_stay() -> None:
    net = GraphNet()
    graph = net.graph(normalised(net, net.input(2, 5, 5), axis=1))
    assert layer_norms(graph) is graph
    net = GraphNet()
    y = normalised(net, net.input(2, 3, 5))
    graph = net.graph(y, net.nodes[1].outputs[0])  # callers get what is centred
    assert layer_norms(graph) is graph
    for shape, forms in (((2, 3, "D"), {"weights": False}), ((2, 5, "D"), {"axis": 1})):
        net = GraphNet()
        graph = net.graph(normalised(net, net.input(*shape), **forms), typed=False)
        assert layer_norms(graph) is graph


def test_weights_tell_the_length_of_a_layer_normalisation() -> None:
    net = GraphNet()
    graph = net.graph(normalised(net, net.input(2, 3, "D")), typed=False)
    net = GraphNet()
    x = net.node("Reshape", net.input(30, name="x"), net.input(3, name="shape"))
    of_any_rank = net.graph(normalised(net, x), typed=False)
    for given in (graph, of_any_rank):
        assert "LayerNormalization" in ops(layer_norms(given))
    net = GraphNet()
    x = net.node("Reshape", net.input(30, name="x"), net.input(3, name="shape"))
    along_two = net.graph(normalised(net, x, axis=2), typed=False)  # which may not be the last axis
    assert layer_norms(along_two) is along_two


def test_expressions_are_read_as_products_lines_and_polynomials() -> None:
    from separable.engine.passes.draft import Draft

    net = GraphNet()
    x, z = net.input(2, 3), net.input(2, 3, name="z")
    two = net.node(
        "Mul", net.node("Div", x, net.constant(4)), net.node("Neg", net.node("Mul", z, net.constant(2)))
    )
    line = net.node("Sub", net.constant(1), net.node("Mul", net.constant(3), x))
    cube = net.node("Sub", net.node("Pow", x, net.constant(3)), net.node("Mul", x, net.constant(2)))
    fourth = net.node("Mul", net.node("Pow", x, net.constant(3)), x)
    graph = net.graph(*(net.node("Abs", each) for each in (two, line, cube, fourth)))
    draft = Draft(graph)
    assert factors(draft, two) == (-0.5, [x, z])
    assert chain(draft, line) == (x, -3.0, 1.0)
    assert chain(draft, x) == (x, 1.0, 0.0)
    assert polynomial(draft, cube, x) == {3: 1.0, 1: -2.0}
    assert polynomial(draft, fourth, x) is None
    assert polynomial(draft, two, x) is None
    assert close(np.float32(1 / 6), 1 / 6)
    assert not close(0.1667, 1 / 6)
    assert_same(evaluate(graph, data(graph)), evaluate(graph, data(graph)))
