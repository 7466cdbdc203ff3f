"""Scales, shifts and zero borders beside convolutions: folded where that is exact, and only there."""

from __future__ import annotations

import numpy as np
import pytest
from engine_nets import GraphNet, checked, ops

from separable.engine.graph.ir import Graph
from separable.engine.passes.borders import pads
from separable.engine.passes.norms import norms_after, norms_alone, norms_before


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("group", [1, 2, 4])
@pytest.mark.parametrize("axes", [1, 2])
def test_a_norm_goes_into_the_convolution_before_it(bias: bool, group: int, axes: int) -> None:
    net = GraphNet()
    x = net.input(2, 4, *(6,) * axes)
    graph = net.graph(net.norm(net.conv(x, 4, 8, bias=bias, group=group, axes=axes), 8))
    new = checked(norms_after, graph)
    assert ops(new) == ["Conv"]
    assert len(new.constants) == 2


CONSTANTS = {"one": (), "ones": (1, 1, 1), "vector": (5, 1, 1), "row": (1, 5, 1, 1)}
STEPS = [("Mul", 0), ("Mul", 1), ("Add", 0), ("Add", 1), ("Sub", 0), ("Sub", 1), ("Div", 1)]


@pytest.mark.parametrize("shape", CONSTANTS.values(), ids=CONSTANTS)
@pytest.mark.parametrize(("op", "place"), STEPS)
def test_arithmetic_with_constants_goes_into_the_convolution(
    op: str, place: int, shape: tuple[int, ...]
) -> None:
    net = GraphNet()
    inputs = [net.conv(net.input(2, 3, 6, 6), 3, 5), net.conv("x", 3, 5)]
    inputs[place] = net.normal(*shape)
    graph = net.graph(net.node(op, *inputs))
    assert ops(checked(norms_after, graph)) == ["Conv"]


def test_a_chain_goes_in_whole_and_weights_that_only_shift_stay_themselves() -> None:
    net = GraphNet()
    y = net.conv(net.input(2, 3, 6, 6), 3, 5)
    weights = net.constants[net.nodes[0].inputs[1]]
    for op in ("Mul", "Add", "Div", "Sub", "Mul"):
        y = net.node(op, y, net.normal(5, 1, 1))
    graph = net.graph(net.node("Neg", net.norm(y, 5)))
    assert ops(checked(norms_after, graph)) == ["Conv"]
    shifted = GraphNet()
    y = shifted.conv(shifted.input(2, 3, 6, 6), 3, 5, bias=False)
    graph = shifted.graph(shifted.node("Add", shifted.normal(5, 1, 1), y))
    new = checked(norms_after, graph)
    assert new.constants[new.nodes[0].inputs[1]] is graph.constants[graph.nodes[0].inputs[1]]
    assert weights.shape == (5, 3, 3, 3)


@pytest.mark.parametrize("group", [1, 2])
def test_transposed_convolutions_and_products_take_them_too(group: int) -> None:
    net = GraphNet()
    weights = net.normal(4, 6 // group, 2, 2)
    y = net.node("ConvTranspose", net.input(2, 4, 3, 3), weights, net.normal(6), strides=(2, 2), group=group)
    assert ops(checked(norms_after, net.graph(net.norm(y, 6)))) == ["ConvTranspose"]
    rows = GraphNet()
    y = rows.node("Gemm", rows.input(3, 4), rows.normal(5, 4), rows.normal(5), transB=1)
    assert ops(checked(norms_after, rows.graph(rows.norm(y, 5)))) == ["Gemm"]
    product = GraphNet()
    y = product.node("MatMul", product.input(2, 3, 4), product.normal(4, 5))
    y = product.node("Mul", y, product.normal(5))
    assert ops(checked(norms_after, product.graph(product.node("Add", y, product.normal(5))))) == [
        "MatMul",
        "Add",
    ]


def twice_read(net: GraphNet) -> Graph:
    y = net.conv(net.input(2, 3, 6, 6), 3, 5)
    return net.graph(net.norm(y, 5), net.node("Relu", y))


def intermediate(net: GraphNet) -> Graph:
    y = net.conv(net.input(2, 3, 6, 6), 3, 5)
    return net.graph(y, net.norm(y, 5))


def more_channels(net: GraphNet) -> Graph:
    """One channel times five constants makes five channels."""
    return net.graph(net.node("Mul", net.conv(net.input(2, 3, 6, 6), 3, 1), net.normal(5, 1, 1)))


def more_axes(net: GraphNet) -> Graph:
    return net.graph(net.node("Mul", net.conv(net.input(2, 3, 6, 6), 3, 5), net.normal(1, 1, 1, 1, 1)))


def along_another_axis(net: GraphNet) -> Graph:
    return net.graph(net.node("Mul", net.conv(net.input(2, 3, 5, 5), 3, 5), net.normal(5)))


def after_activation(net: GraphNet) -> Graph:
    graph = net.graph(net.norm(net.conv(net.input(2, 3, 6, 6), 3, 5), 5))
    return graph.with_(nodes=(graph.nodes[0].and_attributes(activation="relu"), *graph.nodes[1:]))


def constant_over_result(net: GraphNet) -> Graph:
    return net.graph(net.node("Div", net.normal(5, 1, 1), net.conv(net.input(2, 3, 6, 6), 3, 5)))


def by_zero(net: GraphNet) -> Graph:
    return net.graph(net.node("Div", net.conv(net.input(2, 3, 6, 6), 3, 5), net.constant(0)))


def norm_of_the_second_axis(net: GraphNet) -> Graph:
    y = net.node("MatMul", net.input(2, 5, 4), net.normal(4, 5))
    return net.graph(net.norm(y, 5))


KEPT = [
    *(twice_read, intermediate, more_channels, more_axes, along_another_axis, after_activation),
    *(constant_over_result, by_zero, norm_of_the_second_axis),
]


@pytest.mark.parametrize("build", KEPT)
def test_what_would_change_the_meaning_stays(build: object) -> None:
    graph = build(GraphNet())  # type: ignore[operator]
    assert norms_after(graph) is graph


def test_weights_that_would_overflow_stay() -> None:
    net = GraphNet(dtype=np.float32)
    y = net.conv(net.input(1, 3, 6, 6), 3, 5)
    graph = net.graph(net.node("Mul", y, net.constant(3e38)))
    assert norms_after(graph) is graph


def test_a_hard_sigmoid_of_another_slope_leaves_its_bounds() -> None:
    net = GraphNet()
    gate = net.node("HardSigmoid", net.conv(net.input(2, 3, 1, 1), 3, 5, 1), alpha=0.25, beta=0.5)
    assert ops(checked(norms_after, net.graph(gate))) == ["Conv", "Clip"]
    sixth = GraphNet()
    gate = sixth.node("HardSigmoid", sixth.conv(sixth.input(2, 3, 1, 1), 3, 5, 1), alpha=1 / 6)
    graph = sixth.graph(gate)
    assert norms_after(graph) is graph


@pytest.mark.parametrize("group", [1, 2])
@pytest.mark.parametrize("bias", [True, False])
def test_scales_and_shifts_go_into_the_convolution_behind_them(group: int, bias: bool) -> None:
    net = GraphNet()
    x = net.node("Add", net.node("Mul", net.input(2, 4, 6, 6), net.normal(4, 1, 1)), net.normal(4, 1, 1))
    y = net.conv(net.norm(x, 4), 4, 6, group=group, bias=bias, pad=0)
    assert ops(checked(norms_before, net.graph(y))) == ["Conv"]


def test_before_zeros_only_scales_go_in() -> None:
    net = GraphNet()
    x = net.node("Div", net.node("Sub", net.input(2, 4, 6, 6), net.normal(4, 1, 1)), net.constant(0.2))
    new = checked(norms_before, net.graph(net.conv(x, 4, 6)))
    assert ops(new) == ["Sub", "Conv"]
    norm = GraphNet()
    graph = norm.graph(norm.conv(norm.norm(norm.input(2, 4, 6, 6), 4), 4, 6))
    assert norms_before(graph) is graph


def spread_before(net: GraphNet) -> Graph:
    """One channel of x becomes four."""
    return net.graph(net.conv(net.node("Mul", net.input(2, 1, 6, 6), net.normal(4, 1, 1)), 4, 6))


def raised_before(net: GraphNet) -> Graph:
    return net.graph(net.conv(net.node("Mul", net.input(4, 6, 6), net.normal(1, 1, 1, 1)), 4, 6))


def read_by_two(net: GraphNet) -> Graph:
    x = net.node("Mul", net.input(2, 4, 6, 6), net.normal(4, 1, 1))
    return net.graph(net.conv(x, 4, 6), net.conv(x, 4, 6))


def given_to_callers(net: GraphNet) -> Graph:
    x = net.node("Mul", net.input(2, 4, 6, 6), net.normal(4, 1, 1))
    return net.graph(x, net.conv(x, 4, 6))


@pytest.mark.parametrize("build", [spread_before, raised_before, read_by_two, given_to_callers])
def test_what_others_read_or_broadcasting_makes_stays(build: object) -> None:
    graph = build(GraphNet())  # type: ignore[operator]
    assert norms_before(graph) is graph


@pytest.mark.parametrize("bias", [True, False])
def test_a_depthwise_convolution_of_one_tap_is_a_scale_and_a_shift(bias: bool) -> None:
    net = GraphNet()
    y = net.conv(net.conv(net.input(2, 3, 6, 6), 3, 4), 4, 4, 1, group=4, bias=bias)
    graph = net.graph(y)
    assert ops(checked(norms_after, graph)) == ["Conv"]
    before = GraphNet()
    y = before.conv(before.input(2, 4, 6, 6), 4, 4, 1, group=4, bias=bias)
    assert ops(checked(norms_before, before.graph(before.conv(y, 4, 5, pad=0)))) == ["Conv"]
    for more in ({"group": 4, "stride": 2}, {"group": 4, "pad": 1}, {"group": 2}):
        other = GraphNet()
        y = other.conv(other.conv(other.input(2, 3, 6, 6), 3, 4), 4, 4, 1, **more)
        graph = other.graph(y)
        assert norms_after(graph) is graph


def test_norms_that_stand_alone_become_depthwise_convolutions() -> None:
    for axes in (1, 2, 3):
        net = GraphNet()
        graph = net.graph(net.norm(net.input(2, 4, *(5,) * axes), 4))
        (conv,) = checked(norms_alone, graph).nodes
        assert conv.op == "Conv"
        assert conv.attributes["group"] == 4
        assert set(conv.attributes["kernel_shape"]) == {1}
    for shape in ((2, 4), (2, 4, 3, 3, 3, 2)):
        net = GraphNet()
        assert ops(checked(norms_alone, net.graph(net.norm(net.input(*shape), 4)))) == ["Mul", "Add"]


def test_a_scale_and_a_shift_in_sequence_become_one_depthwise_convolution() -> None:
    for first, second in ((("Mul", ()), ("Add", ())), (("Sub", (4, 1, 1)), ("Div", (1, 4, 1, 1)))):
        net = GraphNet()
        y = net.node("Relu", net.input(2, 4, 5, 5))
        for op, shape in (first, second):
            y = net.node(op, y, net.normal(*shape))
        graph = net.graph(net.conv(y, 4, 5))
        *before, step, conv = graph.nodes
        graph = graph.with_(nodes=(*before, step.and_attributes(activation="relu"), conv))
        assert ops(checked(norms_alone, graph)) == ["Relu", "Conv+relu", "Conv"]


def one_step(net: GraphNet) -> Graph:
    return net.graph(net.node("Mul", net.input(2, 4, 5, 5), net.normal(4, 1, 1)))


def step_read_twice(net: GraphNet) -> Graph:
    y = net.node("Mul", net.input(2, 4, 5, 5), net.normal(4, 1, 1))
    return net.graph(net.node("Add", y, net.normal(4, 1, 1)), net.node("Tanh", y))


def steps_that_make_channels(net: GraphNet) -> Graph:
    y = net.node("Mul", net.input(2, 1, 5, 5), net.normal(4, 1, 1))
    return net.graph(net.node("Add", y, net.normal(4, 1, 1)))


def steps_along_rows(net: GraphNet) -> Graph:
    y = net.node("Mul", net.input(2, 4, 4), net.normal(4))
    return net.graph(net.node("Add", y, net.normal(4)))


def steps_of_three_axes(net: GraphNet) -> Graph:
    y = net.node("Mul", net.input(2, 4, 5), net.constant(2))
    return net.graph(net.node("Add", y, net.constant(3)))


@pytest.mark.parametrize(
    "build", [one_step, step_read_twice, steps_that_make_channels, steps_along_rows, steps_of_three_axes]
)
def test_other_steps_stay(build: object) -> None:
    graph = build(GraphNet())  # type: ignore[operator]
    assert norms_alone(graph) is graph


def test_a_slope_is_kept_where_it_can_be_told() -> None:
    def scaled(net: GraphNet, y: str, channels: int) -> Graph:
        graph = net.graph(net.conv(y, channels, channels, 1, group=channels))
        *before, step = graph.nodes
        return graph.with_(nodes=(*before, step.and_attributes(activation="leaky_relu", alpha=0.25)))

    net = GraphNet()
    (conv,) = checked(norms_after, scaled(net, net.conv(net.input(2, 3, 6, 6), 3, 5), 5)).nodes
    assert conv.attributes["alpha"] == 0.25
    pair = GraphNet()
    y = pair.node("Mul", pair.input(2, 5, 6, 6), pair.normal(5, 1, 1))
    (conv,) = checked(norms_alone, scaled(pair, y, 5)).nodes
    assert conv.attributes["alpha"] == 0.25


def test_an_activation_of_what_is_folded_is_kept() -> None:
    net = GraphNet()
    y = net.conv(net.input(2, 3, 6, 6), 3, 5)
    graph = net.graph(net.node("Add", y, net.normal(5, 1, 1)))
    conv, step = graph.nodes
    graph = graph.with_(nodes=(conv, step.and_attributes(activation="clip", low=0.0, high=1.0)))
    (conv,) = checked(norms_after, graph).nodes
    assert (conv.attributes["activation"], conv.attributes["high"]) == ("clip", 1.0)


def test_a_norm_of_unknown_rank_stays() -> None:
    net = GraphNet()
    graph = net.graph(net.norm(net.node("Custom", net.input(2, 4, 5, 5)), 4), typed=False)
    assert norms_alone(graph) is graph


@pytest.mark.parametrize("form", ["whole", "axes", "negative axes"])
def test_zeros_around_an_image_go_into_the_convolution(form: str) -> None:
    net = GraphNet()
    x = net.input(2, 3, 6, 6)
    amounts = (0, 0, 0, 1, 0, 0, 1, 2) if form == "whole" else (0, 1, 1, 2)
    more = {"whole": (), "axes": ("", net.integers(2, 3)), "negative axes": ("", net.integers(-2, -1))}[form]
    x = net.node("Pad", x, net.integers(*amounts), *more, mode="constant")
    (conv,) = checked(pads, net.graph(net.conv(x, 3, 5))).nodes
    assert conv.attributes["pads"] == (1, 2, 2, 3)


def test_pools_take_zeros_where_these_count_the_same() -> None:
    around = (0, 0, 1, 1, 0, 0, 1, 1)
    pool = {"kernel_shape": (3, 3), "strides": (2, 2)}
    for more, taken in (
        ({}, True),
        ({"pads": (1, 1, 1, 1), "count_include_pad": 1}, True),
        ({"pads": (1, 1, 1, 1)}, False),
    ):
        net = GraphNet()
        x = net.node("Pad", net.input(2, 3, 6, 6), net.integers(*around))
        graph = net.graph(net.node("AveragePool", x, **pool, **more))
        new = checked(pads, graph)
        assert ops(new) == (["AveragePool"] if taken else ["Pad", "AveragePool"])
    for relu, around_low in ((True, 1), (True, 3), (False, 1)):
        net = GraphNet()
        x = net.input(2, 3, 6, 6)
        x = net.node("Relu", x) if relu else x
        x = net.node("Pad", x, net.integers(0, 0, around_low, 1, 0, 0, 1, 1))
        new = checked(pads, net.graph(net.node("MaxPool", x, **pool)))
        assert ("Pad" in ops(new)) == (not relu or around_low == 3)


def reflected(net: GraphNet) -> str:
    x = net.input(2, 3, 6, 6)
    return str(net.node("Pad", x, net.integers(0, 0, 1, 1, 0, 0, 1, 1), mode="reflect"))


def of_ones(net: GraphNet) -> str:
    x = net.input(2, 3, 6, 6)
    return str(net.node("Pad", x, net.integers(0, 0, 1, 1, 0, 0, 1, 1), net.constant(1)))


def of_channels(net: GraphNet) -> str:
    return str(net.node("Pad", net.input(2, 2, 6, 6), net.integers(0, 0, 0, 0, 0, 1, 0, 0)))


def cut(net: GraphNet) -> str:
    return str(net.node("Pad", net.input(2, 3, 6, 6), net.integers(0, 0, -1, 0, 0, 0, 0, 1)))


@pytest.mark.parametrize("build", [reflected, of_ones, of_channels, cut])
def test_other_borders_stay(build: object) -> None:
    net = GraphNet()
    graph = net.graph(net.conv(build(net), 3, 5))  # type: ignore[operator]
    assert pads(graph) is graph


def test_a_border_that_others_read_stays_for_them() -> None:
    net = GraphNet()
    x = net.node("Pad", net.input(2, 3, 6, 6), net.integers(0, 0, 1, 1, 0, 0, 1, 1))
    new = checked(pads, net.graph(net.conv(x, 3, 5), net.node("Sigmoid", x)))
    assert sorted(ops(new)) == ["Conv", "Pad", "Sigmoid"]
    assert new.producers()[new.outputs[0]].inputs[0] == "x"
