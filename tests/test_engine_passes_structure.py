"""Residuals, squeeze-excite and orders of channels: what convolutions take over, and what they must not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from engine_nets import GraphNet, assert_same, checked, data, ops

from separable.engine.graph.ir import Graph, Node
from separable.engine.graph.reference import evaluate
from separable.engine.graph.static import static
from separable.engine.passes import simplified
from separable.engine.passes.channels import channel_orders
from separable.engine.passes.draft import Draft
from separable.engine.passes.known import channels_of, is_pooled, rank_of
from separable.engine.passes.residuals import residuals
from separable.engine.passes.squeeze_excite import gate_sums, means, scales

Build = Callable[[GraphNet], Graph]


def applied(graph: Graph, **activations: str) -> Graph:
    """Return a graph with activations applied by the nodes that make these tensors."""
    return graph.with_(
        nodes=tuple(
            node.and_attributes(activation=activations[node.outputs[0]])
            if node.outputs[0] in activations
            else node
            for node in graph.nodes
        )
    )


# -- residuals ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("swapped", [False, True])
def test_a_convolution_adds_what_was_there_before(swapped: bool) -> None:
    net = GraphNet()
    x = net.input(2, 4, 6, 6)
    operands = (net.conv(x, 4, 4), x)
    (conv,) = checked(residuals, net.graph(net.node("Add", *operands[:: -1 if swapped else 1]))).nodes
    assert conv.inputs[3:] == ("x",)
    assert conv.attributes["add"] == "before"


@pytest.mark.parametrize(
    ("own", "of_sum", "add"),
    [
        ("none", "none", "before"),
        ("none", "relu", "before"),
        ("silu", "none", "after"),
        ("silu", "relu", None),
    ],
)
def test_sums_before_and_after_activations(own: str, of_sum: str, add: str | None) -> None:
    net = GraphNet()
    y = net.conv(net.input(2, 4, 6, 6), 4, 4)
    total = net.node("Add", y, "x")
    graph = applied(net.graph(total), **{y: own, total: of_sum})
    new = checked(residuals, graph)
    if add is None:
        assert new is graph
    else:
        (conv,) = new.nodes
        assert (conv.attributes["add"], {own, of_sum} - {"none"}) == (
            add,
            {conv.attributes["activation"]} - {"none"},
        )


def test_the_later_of_two_convolutions_adds() -> None:
    net = GraphNet()
    x = net.input(2, 4, 6, 6)
    first, second = net.conv(x, 4, 4), net.conv(x, 4, 4, 1)
    for operands in ((first, second), (second, first)):
        graph = net.graph(net.node("Add", *operands))
        new = checked(residuals, graph)
        assert ops(new) == ["Conv", "Conv"]
        assert new.nodes[1].inputs[3] == first


def test_a_convolution_moves_behind_what_it_adds() -> None:
    net = GraphNet()
    x = net.input(2, 4, 6, 6)
    early, late = net.conv(x, 4, 4), net.node("Sigmoid", net.node("Neg", x))
    new = checked(residuals, net.graph(net.node("Add", early, late)))
    assert ops(new) == ["Neg", "Sigmoid", "Conv"]


def test_a_tower_of_residual_blocks() -> None:
    net = GraphNet()
    x = net.conv(net.input("N", 3, 9, 9), 3, 4)
    for _ in range(4):
        x = net.node("Relu", net.node("Add", net.conv(net.node("Relu", net.conv(x, 4, 4)), 4, 4), x))
    for graph in (net.graph(x, typed=False), static(net.graph(x, typed=False), {"x": (2, 3, 9, 9)})):
        new = checked(simplified, graph)
        if graph.types.keys() == {"x"}:  # nothing is known of a sum's operands
            assert ops(new).count("Add+relu") == 4
        else:
            assert ops(new) == ["Conv", *("Conv+relu",) * 8]


def sum_of_itself(net: GraphNet) -> Graph:
    y = net.conv(net.input(2, 4, 6, 6), 4, 4)
    return net.graph(net.node("Add", y, y))


def read_twice(net: GraphNet) -> Graph:
    y = net.conv(net.input(2, 4, 6, 6), 4, 4)
    return net.graph(net.node("Add", y, "x"), net.node("Neg", y))


def given_to_callers(net: GraphNet) -> Graph:
    y = net.conv(net.input(2, 4, 6, 6), 4, 4)
    return net.graph(net.node("Add", y, "x"), y)


def broadcast_batch(net: GraphNet) -> Graph:
    y = net.conv(net.input(1, 4, 6, 6), 4, 4)
    return net.graph(net.node("Add", y, net.input(2, 4, 6, 6, name="z")))


def broadcast_image(net: GraphNet) -> Graph:
    y = net.conv(net.input(2, 4, 6, 6), 4, 4)
    return net.graph(net.node("Add", y, net.node("GlobalAveragePool", "x")))


def of_unknown_shape(net: GraphNet) -> Graph:
    y = net.conv(net.input("N", 4, 6, 6), 4, 4)
    return net.graph(net.node("Add", y, "x"), typed=False)


@pytest.mark.parametrize(
    "build",
    [sum_of_itself, read_twice, given_to_callers, broadcast_batch, broadcast_image, of_unknown_shape],
)
def test_sums_that_are_left(build: Build) -> None:
    graph = build(GraphNet())
    assert residuals(graph) is graph


# -- squeeze-excite ----------------------------------------------------------------------------------


def gated(net: GraphNet, x: str, channels: int, **forms: Any) -> str:
    """Return a tensor times what squeeze-excite makes of it."""
    if forms.get("reduced"):
        mean = net.node("ReduceMean", x, net.integers(*forms["reduced"]), keepdims=1)
    else:
        mean = net.node("GlobalAveragePool", x)
    hidden = net.node("Relu", net.conv(mean, channels, 2, 1))
    gate = net.node("Sigmoid", net.conv(hidden, 2, channels, 1))
    return str(net.node("Mul", *((gate, x) if forms.get("swapped") else (x, gate))))


@pytest.mark.parametrize("open_batch", [False, True])
@pytest.mark.parametrize(
    "forms", [{}, {"swapped": True}, {"reduced": (2, 3)}, {"reduced": (-1, -2)}], ids=repr
)
def test_a_block_of_squeeze_excite(forms: dict[str, Any], open_batch: bool) -> None:
    net = GraphNet()
    x = net.node("Relu", net.conv(net.input("N" if open_batch else 2, 4, 6, 6), 4, 4, group=4))
    y = net.conv(gated(net, x, 4, **forms), 4, 5, 1)
    new = checked(simplified, net.graph(y, typed=not open_batch))
    assert ops(new) == ["Conv+relu", "Conv+relu", "Conv+sigmoid", "Conv"]
    depthwise, _, excite, projection = new.nodes
    assert len(depthwise.outputs) == 2
    assert new.nodes[1].inputs[0] == depthwise.outputs[1]
    assert projection.inputs[:1] + projection.inputs[3:] == (depthwise.outputs[0], "", excite.outputs[0])
    if open_batch:
        whole = static(new, {"x": (2, 4, 6, 6)})
        assert_same(evaluate(whole, data(whole)), evaluate(new, data(new)))


def test_means_are_taken_once_and_dropped_axes_are_a_flatten() -> None:
    net = GraphNet()
    y = net.conv(net.input(2, 3, 6, 6), 3, 4)
    mean = net.node("GlobalAveragePool", y)
    rows = [net.node("ReduceMean", y, net.integers(2, 3), keepdims=0) for _ in range(2)]
    same = net.node("ReduceMean", y, net.integers(2, 3))
    new = checked(means, net.graph(net.node("Neg", mean), *rows, same, net.node("Neg", y)))
    assert sorted(ops(new)) == ["Conv", "Flatten", "Flatten", "Identity", "Neg", "Neg"]
    assert new.nodes[0].outputs == (y, mean)


def other_axes(net: GraphNet) -> Graph:
    return net.graph(net.node("ReduceMean", net.conv(net.input(2, 3, 6, 6), 3, 4), net.integers(1, 2)))


def all_axes(net: GraphNet) -> Graph:
    return net.graph(net.node("ReduceMean", net.conv(net.input(2, 3, 6, 6), 3, 4)))


def of_no_convolution(net: GraphNet) -> Graph:
    return net.graph(net.node("GlobalAveragePool", net.node("Tanh", net.conv(net.input(2, 3, 6, 6), 3, 4))))


@pytest.mark.parametrize("build", [other_axes, all_axes, of_no_convolution])
def test_other_means_stay(build: Build) -> None:
    graph = build(GraphNet())
    assert means(graph) is graph


def test_nothing_is_added_or_applied_behind_a_mean() -> None:
    net = GraphNet()
    y = net.conv(net.input(2, 4, 6, 6), 4, 4)
    mean = net.node("GlobalAveragePool", y)
    outputs = net.node("Add", y, "x"), net.node("Neg", mean)
    graph = checked(simplified, net.graph(*outputs))
    assert ops(graph) == ["Conv", "Add", "Neg"]


def test_all_convolutions_that_read_a_scaled_tensor_scale_it() -> None:
    net = GraphNet()
    x = net.node("Relu", net.conv(net.input(2, 4, 6, 6), 4, 4))
    scaled = gated(net, x, 4)
    outputs = net.conv(scaled, 4, 5), net.conv(scaled, 4, 3, 1), net.node("Neg", x)
    new = checked(scales, net.graph(*outputs))
    assert "Mul" not in ops(new)


@pytest.mark.parametrize("swapped", [False, True])
def test_a_tensor_plus_its_product_with_a_gate_is_one_product(swapped: bool) -> None:
    net = GraphNet()
    x = net.node("Tanh", net.input(2, 4, 6, 6))
    operands = (x, gated(net, x, 4, swapped=swapped))
    total = net.node("Add", *operands[:: -1 if swapped else 1])
    graph = applied(net.graph(net.node("Neg", total)), **{total: "relu"})
    new = checked(gate_sums, graph)
    assert ops(new)[-3:] == ["Add", "Mul+relu", "Neg"]
    assert new.types[new.nodes[-3].outputs[0]].shape == (2, 4, 1, 1)


def another_tensor(net: GraphNet) -> Graph:
    x = net.node("Tanh", net.input(2, 4, 6, 6))
    return net.graph(net.node("Add", "x", gated(net, x, 4)))


def product_read_twice(net: GraphNet) -> Graph:
    x = net.node("Tanh", net.input(2, 4, 6, 6))
    y = gated(net, x, 4)
    return net.graph(net.node("Add", x, y), net.node("Neg", y))


def gate_of_all_places(net: GraphNet) -> Graph:
    x = net.input(2, 4, 6, 6)
    return net.graph(net.node("Add", x, net.node("Mul", x, net.node("Sigmoid", x))))


@pytest.mark.parametrize("build", [another_tensor, product_read_twice, gate_of_all_places])
def test_other_sums_of_products_stay(build: Build) -> None:
    graph = build(GraphNet())
    assert gate_sums(graph) is graph


def grouped_reader(net: GraphNet) -> str:
    return net.conv(gated(net, net.input(2, 4, 6, 6), 4), 4, 4, group=2)


def another_reader(net: GraphNet) -> str:
    scaled = gated(net, net.input(2, 4, 6, 6), 4)
    return str(net.node("Concat", net.conv(scaled, 4, 4), scaled, axis=1))


def gate_of_one_sample(net: GraphNet) -> str:
    gate = net.node("GlobalAveragePool", net.input(1, 4, 6, 6, name="z"))
    return net.conv(net.node("Mul", net.input(2, 4, 6, 6), gate), 4, 4)


def gate_of_one_channel(net: GraphNet) -> str:
    gate = net.node("GlobalAveragePool", net.input(2, 1, 6, 6, name="z"))
    return net.conv(net.node("Mul", net.input(2, 4, 6, 6), gate), 4, 4)


def gate_of_places(net: GraphNet) -> str:
    gate = net.node("Sigmoid", net.conv(net.input(2, 4, 6, 6), 4, 4, 1))
    return net.conv(net.node("Mul", "x", gate), 4, 4)


SCALED = [grouped_reader, another_reader, gate_of_one_sample, gate_of_one_channel, gate_of_places]


@pytest.mark.parametrize("build", SCALED)
def test_products_that_are_left(build: Callable[[GraphNet], str]) -> None:
    net = GraphNet()
    graph = net.graph(build(net))
    assert scales(graph) is graph


def test_a_scaled_tensor_that_callers_get_or_that_is_added_stays() -> None:
    net = GraphNet()
    scaled = gated(net, net.input(2, 4, 6, 6), 4)
    y = net.conv(scaled, 4, 4)
    graph = net.graph(y, scaled)
    assert scales(graph) is graph
    graph = residuals(net.graph(net.node("Add", y, scaled)))
    assert graph.nodes[-1].inputs[3] == scaled
    assert scales(graph) is graph


def test_an_open_batch_of_another_input_is_not_taken_for_the_same() -> None:
    net = GraphNet()
    gate = net.node("GlobalAveragePool", net.conv(net.input("M", 4, 6, 6, name="z"), 4, 4))
    y = net.conv(net.node("Mul", net.node("Relu", net.conv(net.input("N", 4, 6, 6), 4, 4)), gate), 4, 4)
    graph = net.graph(y, typed=False)
    assert scales(graph) is graph


# -- orders of channels ------------------------------------------------------------------------------


def shuffled(net: GraphNet, x: str, groups: int, channels: int, *spatial: int) -> str:
    each = channels // groups
    x = net.node("Reshape", x, net.integers(2, groups, each, *spatial))
    x = net.node("Transpose", x, perm=(0, 2, 1, *range(3, 3 + len(spatial))))
    return str(net.node("Reshape", x, net.integers(2, -1, *spatial)))


@pytest.mark.parametrize("groups", [2, 3])
def test_a_shuffle_goes_into_the_input_channels_behind_it(groups: int) -> None:
    net = GraphNet()
    y = shuffled(net, net.input(2, 6, 4, 4), groups, 6, 4, 4)
    graph = net.graph(net.conv(y, 6, 5), net.conv(y, 6, 3, 1))
    assert ops(checked(channel_orders, graph)) == ["Conv", "Conv"]


def test_a_shuffle_goes_into_the_output_channels_before_it() -> None:
    net = GraphNet()
    y = net.conv(net.input(2, 3, 4, 4), 3, 6)
    y = net.node("Tanh", shuffled(net, y, 3, 6, 4, 4))
    graph = applied(net.graph(y), **{net.nodes[0].outputs[0]: "relu"})
    assert ops(checked(channel_orders, graph)) == ["Conv+relu", "Tanh"]


def test_an_open_batch_is_followed() -> None:
    net = GraphNet()
    x = net.node("Reshape", net.input("N", 6, 4, 4), net.integers(-1, 2, 3, 4, 4))
    x = net.node("Transpose", x, perm=(0, 2, 1, 3, 4))
    x = net.node("Reshape", x, net.integers(-1, 6, 4, 4))
    assert ops(checked(channel_orders, net.graph(net.conv(x, 6, 5), typed=False))) == ["Conv"]


def test_other_orders_and_groups() -> None:
    for order, group, taken in (
        ((3, 1, 0, 2), 1, True),
        ((-1, 0, 1, 2), 1, True),
        ((1, 0, 3, 2), 2, True),
        ((2, 3, 0, 1), 2, False),
        ((0, 0, 1, 2), 1, False),
    ):
        for behind in (True, False):
            net = GraphNet()
            x = net.input(2, 4, 5, 5)
            x = x if behind else net.conv(x, 4, 4, group=group)
            y = net.node("Gather", x, net.integers(*order), axis=1)
            y = net.conv(y, 4, 6, group=group) if behind else net.node("Tanh", y)
            new = checked(channel_orders, net.graph(y))
            assert ("Gather" not in ops(new)) == taken, (order, group, behind)


def shuffle_given_to_callers(net: GraphNet) -> Graph:
    y = shuffled(net, net.input(2, 6, 4, 4), 2, 6, 4, 4)
    return net.graph(net.conv(y, 6, 5), y)


def shuffle_between_groups(net: GraphNet) -> Graph:
    y = net.conv(net.input(2, 6, 4, 4), 6, 6, 1, group=2)
    return net.graph(net.conv(shuffled(net, y, 2, 6, 4, 4), 6, 6, group=6))


def shuffle_of_a_residual(net: GraphNet) -> Graph:
    y = net.node("Add", net.conv(net.input(2, 6, 4, 4), 6, 6), "x")
    return residuals(net.graph(net.node("Tanh", shuffled(net, y, 2, 6, 4, 4))))


def shuffle_of_what_others_read(net: GraphNet) -> Graph:
    y = net.conv(net.input(2, 6, 4, 4), 6, 6)
    return net.graph(net.node("Tanh", shuffled(net, y, 2, 6, 4, 4)), net.node("Neg", y))


def other_transpose(net: GraphNet) -> Graph:
    x = net.node("Reshape", net.input(2, 4, 2, 2), net.integers(2, 2, 2, 2, 2))
    x = net.node("Transpose", x, perm=(0, 2, 1, 4, 3))
    return net.graph(net.conv(net.node("Reshape", x, net.integers(2, 4, 2, 2)), 4, 5))


SHUFFLED = [
    shuffle_given_to_callers,
    shuffle_between_groups,
    shuffle_of_a_residual,
    shuffle_of_what_others_read,
]


@pytest.mark.parametrize("build", SHUFFLED)
def test_of_a_shuffle_that_no_convolution_takes_a_gather_is_left(build: Build) -> None:
    graph = build(GraphNet())
    new = checked(channel_orders, graph)
    assert len(new.nodes) == len(graph.nodes) - 2
    assert "Gather" in ops(new)
    for conv in new.nodes:
        assert conv.op != "Conv" or conv.inputs[1] in graph.constants


def test_other_turns_are_no_shuffles() -> None:
    graph = other_transpose(GraphNet())
    assert channel_orders(graph) is graph


def test_shuffles_in_sequence_are_one() -> None:
    net = GraphNet()
    y = shuffled(net, shuffled(net, net.input(2, 6, 4, 4), 2, 6, 4, 4), 2, 6, 4, 4)
    new = checked(channel_orders, net.graph(net.node("Tanh", y)))
    assert ops(new) == ["Gather", "Tanh"]
    behind = GraphNet()
    y = shuffled(behind, shuffled(behind, behind.input(2, 6, 4, 4), 2, 6, 4, 4), 3, 6, 4, 4)
    assert ops(simplified(behind.graph(behind.conv(y, 6, 5)))) == ["Conv"]


# -- what they ask -----------------------------------------------------------------------------------


def test_what_is_known_without_types() -> None:
    net = GraphNet()
    y = net.node("MaxPool", net.node("Relu", net.conv(net.input("N", 3, 6, 6), 3, 5)), kernel_shape=(2, 2))
    pooled = net.conv(net.node("GlobalAveragePool", y), 5, 7, 1)
    draft = Draft(net.graph(pooled, net.node("Custom", y), typed=False))
    assert (rank_of(draft, y), channels_of(draft, y), is_pooled(draft, y)) == (4, 5, False)
    assert (rank_of(draft, pooled), channels_of(draft, pooled), is_pooled(draft, pooled)) == (4, 7, True)
    custom = net.nodes[-1].outputs[0]
    assert (rank_of(draft, custom), channels_of(draft, custom), is_pooled(draft, custom)) == (
        None,
        None,
        False,
    )


def test_a_draft_knows_makers_and_readers_while_it_changes() -> None:
    net = GraphNet()
    x = net.input(2, 3)
    first = net.node("Neg", x)
    second = net.node("Add", first, first)
    graph = net.graph(second)
    draft = Draft(graph)
    assert draft.finished() is graph
    assert draft.only_reader(first) is None
    (neg, add) = draft
    draft.replace(neg, Node("Abs", (x,), neg.outputs), Node("Exp", (first,), ("more",)))
    assert [node.op for node in draft] == ["Abs", "Exp", "Add"]
    assert [node.op for node in reversed(draft)] == ["Add", "Exp", "Abs"]
    draft.redirect(first, x)
    assert add not in list(draft)
    assert [node.inputs for node in draft] == [(x,), (x,), (x, x)]
    assert draft.new_name("x") == "x_2"
    assert draft.add_constant("x", np.ones(1)) == "x_3"
