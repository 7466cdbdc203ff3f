"""Plans of other shapes: what they reuse of each other changes nothing about them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("onnx")

from engine_nets import GraphNet
from engine_random import random_graph

from separable.engine.graph.ir import Graph, Node, TensorType
from separable.engine.graph.shapes.table import output_types, with_attributes
from separable.engine.graph.shapes.usual import USUAL
from separable.engine.graph.static import static
from separable.engine.network.compiled import CompiledNetwork
from separable.engine.passes import simplified
from separable.onnx.model.names import ModelError

Array = npt.NDArray[Any]


def opened(graph: Graph) -> Graph:
    """Return a graph whose input has an open batch, and open lengths."""
    (name, kind), *_ = graph.inputs.items()
    shape = tuple(length if axis == 1 else f"n{axis}" for axis, length in enumerate(kind.shape))
    return graph.with_(inputs={name: TensorType(kind.dtype, shape)})


def outputs(program: CompiledNetwork, x: Array) -> dict[str, Array]:
    found = program(x)
    return found if isinstance(found, dict) else {program.outputs[0]: found}


def larger(graph: Graph) -> list[tuple[int, ...]]:
    """Return shapes of inputs that differ in their lengths and in the batch."""
    channels, *lengths = map(int, graph.inputs["x"].shape[1:])
    longer = ((0, 0), (0, 8), (4, 0), (9, 17), (0, 0))
    sizes = [[n + more for n, more in zip(lengths, mores[-len(lengths) :], strict=True)] for mores in longer]
    return [(number % 2 + 1, channels, *size) for number, size in enumerate(sizes)]


@pytest.mark.parametrize("part", range(4))
def test_a_plan_among_others_is_the_plan_alone(part: int) -> None:
    """Bit for bit: programs that made other plans before, and forgot them, give what fresh ones give."""
    tried = 0
    for seed in range(part, 60, 4):
        graph = opened(random_graph(seed))
        many = CompiledNetwork(graph, simplified(graph), plans=2)
        for shape in larger(random_graph(seed)):
            x = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
            fresh = opened(random_graph(seed))
            alone = CompiledNetwork(fresh, simplified(fresh))
            try:
                wanted = outputs(alone, x)
            except (ModelError, ValueError) as error:
                with pytest.raises(type(error)):
                    many(x)
                continue
            tried += 1
            for name, values in outputs(many, x).items():
                np.testing.assert_array_equal(values, wanted[name])
            steps, others = many.steps({"x": shape}), alone.steps({"x": shape})
            assert [(step.kind, step.name, step.shape, step.notes, step.macs) for step in steps] == [
                (step.kind, step.name, step.shape, step.notes, step.macs) for step in others
            ]
            assert many.memory({"x": shape}) == alone.memory({"x": shape})
    assert tried > 20


# -- usual types -------------------------------------------------------------------------------------


def by_the_rules(node: Node, given: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
    values = [None] * len(given)
    return output_types(with_attributes(node, given, values), given, values)


def test_usual_types_are_those_of_the_rules() -> None:
    told = 0
    for seed in range(60):
        graph = random_graph(seed)
        for shape in larger(graph):
            try:
                made = static(opened(graph), {"x": shape})
            except ModelError:
                continue
            for node in made.nodes:
                if node.op in USUAL:
                    given = [made.types.get(name) for name in node.inputs]
                    found = USUAL[node.op](node, given)
                    told += found is not None
                    assert found is None or found == by_the_rules(node, given)
    assert told > 1000


WINDOW = {"kernel_shape": (3, 3), "strides": (2, 1), "dilations": (1, 2), "pads": (1, 0, 1, 2)}


@pytest.mark.parametrize(
    ("op", "attributes", "shapes"),
    [
        ("Conv", {**WINDOW, "group": 1}, [(1, 4, 2, 2), (8, 4, 3, 3)]),  # shorter than a window
        ("Conv", {**WINDOW, "group": 1}, [(1, 3, 9, 9), (8, 4, 3, 3)]),
        ("Conv", {**WINDOW, "group": 3}, [(1, 12, 9, 9), (8, 4, 3, 3)]),
        ("Conv", {**WINDOW, "group": 1}, [(1, 4, 9, 9), (8, 4, 3, 3), (7,)]),
        ("Conv", {**WINDOW, "group": 1}, [(1, 4, 9), (8, 4, 3, 3)]),
        ("MaxPool", {**WINDOW, "ceil_mode": 1}, [(1, 4, 9, 9)]),
        ("MaxPool", WINDOW, [(1, 4, 1, 1)]),
        ("MaxPool", {"kernel_shape": (3, 3)}, [(1, 4, 9, 9)]),
        ("Add", {}, [(1, 4, 9, 9), (1, 4, 9, 8)]),
        ("Add", {}, [(1, 4, 9, 1), (1, 4, 1, 9)]),
        ("Sum", {}, [(1, 4), (1, 4), (1, 4)]),
        ("Concat", {"axis": 2}, [(1, 4), (1, 4)]),
        ("Concat", {"axis": 1}, [(1, 4), (2, 4)]),
        ("Concat", {"axis": -1}, [(1, 4), (1, 4, 1)]),
    ],
)
def test_what_is_not_usual_is_left_to_the_rules(
    op: str, attributes: dict[str, Any], shapes: list[tuple[int, ...]]
) -> None:
    names = tuple(f"x{number}" for number in range(len(shapes)))
    given = [TensorType(np.dtype(np.float32), shape) for shape in shapes]
    for _ in range(2):  # with and without what is kept of the first time
        node = Node(op, names, ("y",), attributes)
        assert USUAL[op](node, given) is None
        assert USUAL[op](node, given) is None


def test_known_numbers_are_folded_again_for_other_lengths() -> None:
    net = GraphNet()
    x = net.input("N", "C", "W")
    shape = net.node("Shape", x)
    width = net.node("Slice", shape, net.integers(2), net.integers(3))
    half = net.node("Div", width, net.integers(2))
    goal = net.node("Concat", net.integers(1), half, net.integers(-1), axis=0)
    graph = net.graph(net.node("Reshape", x, goal), typed=False)
    for width_ in (4, 10, 6, 10):
        made = static(graph, {"x": (2, 3, width_)})
        assert made.types[graph.outputs[0]].shape == (1, width_ // 2, 12)
    with pytest.raises(ModelError):
        static(graph, {"x": (1, 1, 5)})  # into two rows
