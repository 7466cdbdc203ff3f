"""Transposed convolutions as convolutions of their phases: the same numbers, no products with zeros."""

from __future__ import annotations

import math
from typing import Any

import pytest

pytest.importorskip("onnx")

from engine_nets import GraphNet, checked, ops
from hypothesis import given, settings
from hypothesis import strategies as st

from separable.engine.graph.ir import Graph
from separable.engine.passes import simplified
from separable.engine.passes.transposed import transposed


def graph_of(lengths: tuple[int, ...], channels: tuple[int, int], group: int = 1, **more: Any) -> Graph:
    """Return a network of one transposed convolution; `channels` are those of a group."""
    net, (c_in, c_out) = GraphNet(0), channels
    x = net.input(2, c_in * group, *lengths)
    weights = net.normal(c_in * group, c_out, *more["kernel_shape"])
    return net.graph(net.node("ConvTranspose", x, weights, net.normal(c_out * group), group=group, **more))


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_transposed_convolution(data: st.DataObject) -> None:
    rank = data.draw(st.integers(1, 3))

    def numbers(low: int, high: int, count: int = rank) -> tuple[int, ...]:
        return tuple(data.draw(st.lists(st.integers(low, high), min_size=count, max_size=count)))

    most = 6 - rank
    kernel, strides, dilations, lengths = numbers(1, most), numbers(1, 4), numbers(1, 3), numbers(1, most)
    more = tuple(data.draw(st.integers(0, max(s, d) - 1)) for s, d in zip(strides, dilations, strict=True))
    whole = [
        (n - 1) * s + (k - 1) * d + 1 + m
        for n, s, k, d, m in zip(lengths, strides, kernel, dilations, more, strict=True)
    ]
    low = tuple(data.draw(st.integers(0, min(4, (n - 1) // 2))) for n in whole)
    high = tuple(data.draw(st.integers(0, min(4, (n - 1) // 2))) for n in whole)
    graph = graph_of(
        lengths,
        (data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3))),
        data.draw(st.integers(1, 2)),
        kernel_shape=kernel,
        strides=strides,
        dilations=dilations,
        pads=(*low, *high),
        output_padding=more,
    )
    new = checked(transposed, graph)
    assert "ConvTranspose" not in ops(new)


def test_a_stride_of_two_multiplies_by_no_zeros() -> None:
    graph = graph_of((8, 8), (4, 6), kernel_shape=(4, 4), strides=(2, 2), pads=(1, 1, 1, 1))
    new = checked(transposed, graph)
    assert ops(new) == ["Conv", "DepthToSpace", "Slice"]
    weights = new.constants[new.nodes[0].inputs[1]]
    assert weights.shape == (24, 4, 2, 2)
    assert math.prod(weights.shape) == 4 * 6 * 4 * 4


def test_two_by_two_is_pointwise_and_a_stride_of_one_a_convolution() -> None:
    assert ops(checked(transposed, graph_of((5, 5), (3, 2), kernel_shape=(2, 2), strides=(2, 2)))) == [
        "Conv",
        "DepthToSpace",
    ]
    (node,) = checked(transposed, graph_of((5, 5), (3, 2), kernel_shape=(3, 3))).nodes
    assert node.op == "Conv"
    assert node.attributes["pads"] == (2, 2, 2, 2)


def test_activations_and_norms_go_with_it() -> None:
    net = GraphNet(0)
    x = net.input(1, 4, 6, 6)
    y = net.node("ConvTranspose", x, net.normal(4, 3, 2, 2), kernel_shape=(2, 2), strides=(2, 2))
    graph = net.graph(net.node("Relu", net.norm(y, 3)))
    assert ops(checked(simplified, graph)) == ["Conv+relu", "DepthToSpace"]


def test_what_is_not_known_stays() -> None:
    net = GraphNet(0)
    x = net.input("n", 4, "h", 6)
    y = net.node("ConvTranspose", x, net.normal(4, 3, 2, 2), kernel_shape=(2, 2))
    graph = net.graph(y, typed=False)
    assert transposed(graph) is graph
