"""What does nothing, twice or back and forth goes; what is written in many ways is written in one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from engine_nets import GraphNet, checked, ops

from separable.engine.graph.ir import Graph
from separable.engine.passes.plain import dead, duplicates, layouts, nothing_done, pooled, products, sums

Build = Callable[[GraphNet], Graph]


def test_what_nobody_reads_goes() -> None:
    net = GraphNet()
    x = net.input(2, 3, 4, 4)
    y = net.node("Relu", x)
    net.node("Add", net.node("Neg", y), net.normal(3, 1, 1))
    net.normal(100)
    graph = net.graph(y, typed=False)
    new = checked(dead, graph)
    assert ops(new) == ["Relu"]
    assert not new.constants
    unread = graph.with_(nodes=graph.nodes[:1])
    assert not dead(unread).constants


@pytest.mark.parametrize("typed", [False, True])
def test_the_same_is_computed_once(typed: bool) -> None:
    net = GraphNet()
    x = net.input(2, 3, 4, 4)
    first, second, third = (net.node("Add", x, net.constant(value)) for value in (3, 3, 4))
    tops = net.node("Relu", first), net.node("Relu", second), net.node("Relu", third)
    y = net.node("Concat", *tops, axis=1)
    new = checked(duplicates, net.graph(y, typed=typed))
    assert ops(new) == ["Add", "Add", "Relu", "Relu", "Concat"]


def test_what_differs_in_an_attribute_or_is_an_output_stays() -> None:
    net = GraphNet()
    x = net.input(2, 3, 4, 4)
    one, other = net.node("LeakyRelu", x, alpha=0.1), net.node("LeakyRelu", x, alpha=0.2)
    given = net.node("LeakyRelu", x, alpha=0.1)
    graph = net.graph(net.node("Add", one, other), given)
    assert duplicates(graph) is graph
    drawn = GraphNet()
    y = [drawn.node("RandomNormalLike", drawn.input(2, 3)) for _ in range(2)]
    graph = drawn.graph(drawn.node("Add", *y), typed=False)
    assert duplicates(graph) is graph


def test_operations_that_do_nothing_go() -> None:
    net = GraphNet()
    x = net.node("Identity", net.input(2, 3, 4, 4))
    x = net.node("Dropout", net.node("Relu", x), net.constant(0.5), net.constant(False, bool))
    x = net.node("Pad", x, net.integers(*(0,) * 8))
    x = net.node("Concat", net.node("Transpose", x, perm=(0, 1, 2, 3)), axis=0)
    x = net.node("Reshape", x, net.integers(2, 3, 4, 4))
    x = net.node("Cast", x, to=11)
    graph = net.graph(net.node("Identity", x))
    new = checked(nothing_done, graph)
    assert ops(new) == ["Relu"]
    assert new.nodes[0].outputs == graph.outputs


def test_names_that_callers_know_stay() -> None:
    net = GraphNet()
    x = net.input(2, 3)
    y = net.node("Relu", x)
    graph = net.graph(net.node("Identity", x), y, net.node("Identity", y))
    assert nothing_done(graph) is graph
    read = GraphNet()
    y = read.node("Relu", read.input(2, 3))
    new = checked(nothing_done, read.graph(read.node("Neg", y), read.node("Identity", y), typed=False))
    assert ops(new) == ["Relu", "Neg"]


def test_what_does_something_stays() -> None:
    def training(net: GraphNet) -> Graph:
        y = net.node("Dropout", net.input(2, 3), net.constant(0.5), net.constant(True, bool))
        return net.graph(y, typed=False)

    def masked(net: GraphNet) -> Graph:
        return net.graph(*net.node("Dropout", net.input(2, 3), outputs=2))

    def cast(net: GraphNet) -> Graph:
        return net.graph(net.node("Cast", net.input(2, 3), to=7))

    def square(net: GraphNet) -> Graph:
        return net.graph(net.node("Transpose", net.input(3, 3), perm=(1, 0)))

    for build in (training, masked, cast, square):
        graph = build(GraphNet())
        assert nothing_done(graph) is graph


def test_reshapes_and_transposes_in_sequence_are_one_or_none() -> None:
    net = GraphNet()
    x = net.input(2, 3, 4, 5)
    back = net.node("Transpose", net.node("Transpose", x, perm=(0, 2, 3, 1)), perm=(0, 3, 1, 2))
    once = net.node("Transpose", net.node("Transpose", x, perm=(0, 2, 3, 1)), perm=(0, 2, 1, 3))
    flat = net.node("Reshape", net.node("Flatten", x), net.integers(6, -1))
    wide = net.node("Squeeze", net.node("Unsqueeze", x, net.integers(1)), net.integers(-4))
    outputs = [net.node("Neg", each) for each in (back, once, flat, wide)]
    for typed in (True, False):
        new = checked(layouts, net.graph(*outputs, typed=typed))
        assert sorted(ops(new)) == ["Neg"] * 4 + ["Reshape", "Transpose"]
        assert new.producers()[outputs[0]].inputs == ("x",)


def copied_length(net: GraphNet) -> Graph:
    """A zero copies the length of the tensor just before it."""
    x = net.node("Reshape", net.input(2, 3, 4), net.integers(6, 4))
    return net.graph(net.node("Reshape", x, net.integers(0, 2, 2)))


def other_axes(net: GraphNet) -> Graph:
    x = net.node("Unsqueeze", net.input(1, 3), net.integers(2))
    return net.graph(net.node("Squeeze", x, net.integers(0)))


def of_unknown_rank(net: GraphNet) -> Graph:
    x = net.node("Unsqueeze", net.node("Custom", net.input(2, 3)), net.integers(-1))
    return net.graph(net.node("Squeeze", x, net.integers(2)), typed=False)


@pytest.mark.parametrize("build", [copied_length, other_axes, of_unknown_rank])
def test_layouts_that_are_left(build: Build) -> None:
    graph = build(GraphNet())
    assert layouts(graph) is graph


def test_a_pool_over_everything_is_a_global_one() -> None:
    net = GraphNet()
    x = net.input(2, 3, 4, 4)
    outputs = (
        net.node("AveragePool", x, kernel_shape=(4, 4)),
        net.node("ReduceMean", x, net.integers(-2, -1)),
        net.node("AveragePool", x, kernel_shape=(2, 4)),
        net.node("AveragePool", x, kernel_shape=(4, 4), pads=(0, 0, 1, 1)),
        net.node("ReduceMean", x, net.integers(2)),
        net.node("ReduceMean", net.input(2, 3, 4, name="rows"), net.integers(2)),
    )
    pools = ["GlobalAveragePool"] * 2 + ["AveragePool"] * 2 + ["ReduceMean"] * 2
    assert ops(checked(pooled, net.graph(*outputs))) == pools


@pytest.mark.parametrize("form", [(2, 3), (0, -1), (0, 3), (-1, 3), (2, -1), None])
def test_rows_of_a_pool_are_a_flatten(form: tuple[int, ...] | None) -> None:
    for batch in (2, "N"):
        net = GraphNet()
        x = net.node("GlobalAveragePool", net.input(batch, 3, 4, 4))
        if form is None:
            y = net.node("Squeeze", x, net.integers(-1, 2))
        else:
            y = net.node("Reshape", x, net.integers(*form))
        new = checked(pooled, net.graph(y, typed=batch == 2))
        proven = batch == 2 or form is None or form[0] != 2
        assert ops(new)[1:] == ["Flatten" if proven else "Reshape"]


def image(net: GraphNet) -> Graph:
    return net.graph(net.node("Reshape", net.input(2, 3, 4, 4), net.integers(2, -1)))


def mixed(net: GraphNet) -> Graph:
    pool = net.node("GlobalAveragePool", net.input(2, 4, 3, 3))
    return net.graph(
        net.node("Reshape", pool, net.integers(4, 2)), net.node("Squeeze", pool, net.integers(3))
    )


@pytest.mark.parametrize("build", [image, mixed])
def test_other_reshapes_stay(build: Build) -> None:
    graph = build(GraphNet())
    assert pooled(graph) is graph


def test_a_sum_of_two_is_an_add_and_one_of_one_is_nothing() -> None:
    net = GraphNet()
    x, z = net.input(2, 3), net.input(2, 3, name="z")
    y = net.node("Sum", net.node("Sum", x), z)
    graph = net.graph(net.node("Sum", y, x, z))
    assert ops(checked(sums, checked(nothing_done, graph))) == ["Add", "Sum"]


@pytest.mark.parametrize("turned", [0, 1])
@pytest.mark.parametrize("factors", [{}, {"alpha": 0.5}, {"beta": 2.0}, {"alpha": 2.0, "beta": 0.0}])
@pytest.mark.parametrize("bias", [None, (), (1,), (5,), (1, 5), (1, 1)])
def test_gemm_has_one_form(turned: int, factors: dict[str, float], bias: tuple[int, ...] | None) -> None:
    net = GraphNet()
    weights = net.normal(*((5, 4) if turned else (4, 5)))
    more = () if bias is None else (net.normal(*bias),)
    y = net.node("Gemm", net.input(3, 4), weights, *more, transB=turned, transA=0, **factors)
    (gemm,) = checked(products, net.graph(y)).nodes
    assert gemm.attributes == {"transB": 1}


def test_weights_are_turned_without_a_copy() -> None:
    net = GraphNet()
    graph = net.graph(net.node("MatMul", net.input(3, 4), net.normal(4, 5)))
    new = checked(products, graph)
    assert ops(new) == ["Gemm"]
    turned = new.constants[new.nodes[0].inputs[1]]
    assert np.shares_memory(turned, next(iter(graph.constants.values())))


def computed_weights(net: GraphNet) -> Graph:
    return net.graph(net.node("Gemm", net.input(3, 4), net.input(4, 5, name="z")))


def turned_operand(net: GraphNet) -> Graph:
    return net.graph(net.node("Gemm", net.input(4, 3), net.normal(4, 5), transA=1))


def bias_of_rows(net: GraphNet) -> Graph:
    return net.graph(net.node("Gemm", net.input(5, 4), net.normal(4, 5), net.normal(5, 1)))


def many_matrices(net: GraphNet) -> Graph:
    return net.graph(net.node("MatMul", net.input(2, 3, 4), net.normal(4, 5)))


@pytest.mark.parametrize("build", [computed_weights, turned_operand, bias_of_rows, many_matrices])
def test_other_products_stay(build: Build) -> None:
    graph = build(GraphNet())
    assert products(graph) is graph
