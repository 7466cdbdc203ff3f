"""Views of tensors, which no step makes: expanded, reversed, turned, cut; read by every kind of step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")

from engine_nets import GraphNet

from separable.engine.graph.reference import evaluate
from separable.engine.network.compiled import CompiledNetwork
from separable.engine.passes import simplified

CHANNELS, HEIGHT, WIDTH = 20, 9, 7
LAST = 1 << 40

Make = Callable[[GraphNet, str], str]


def cut(net: GraphNet, x: str, *axes: tuple[int, int, int, int]) -> str:
    """Slice: start, end, axis and step of each."""
    return str(net.node("Slice", x, *(net.integers(*each) for each in zip(*axes, strict=True))))


def blocks(net: GraphNet, x: str) -> str:
    """Make feature maps in blocks of channels."""
    return str(net.node("MaxPool", x, kernel_shape=(1, 1), strides=(1, 1), pads=(0, 0, 0, 0)))


# Each makes (n, CHANNELS, HEIGHT, WIDTH) of an input of the shape beside it.
VIEWS: dict[str, tuple[tuple[int, ...], Make]] = {
    "plain": ((20, 9, 7), lambda net, x: x),
    "one pixel expanded": ((20, 1, 1), lambda net, x: net.node("Expand", x, net.integers(1, 20, 9, 7))),
    "columns expanded": ((20, 9, 1), lambda net, x: net.node("Expand", x, net.integers(1, 20, 9, 7))),
    "rows expanded": ((20, 1, 7), lambda net, x: net.node("Expand", x, net.integers(1, 20, 9, 7))),
    "channels expanded": ((1, 9, 7), lambda net, x: net.node("Expand", x, net.integers(1, 20, 9, 7))),
    "all expanded": ((1, 1, 1), lambda net, x: net.node("Expand", x, net.integers(1, 20, 9, 7))),
    "rows reversed": ((20, 9, 7), lambda net, x: cut(net, x, (-1, -LAST, 2, -1))),
    "columns reversed": ((20, 9, 7), lambda net, x: cut(net, x, (-1, -LAST, 3, -1))),
    "channels reversed": ((20, 9, 7), lambda net, x: cut(net, x, (-1, -LAST, 1, -1))),
    "every second": ((20, 18, 20), lambda net, x: cut(net, x, (1, LAST, 2, 2), (0, LAST, 3, 3))),
    "a box": ((23, 11, 12), lambda net, x: cut(net, x, (2, 22, 1, 1), (1, 10, 2, 1), (3, 10, 3, 1))),
    "channels at the end": ((9, 7, 20), lambda net, x: net.node("Transpose", x, perm=(0, 3, 1, 2))),
    "turned": ((20, 7, 9), lambda net, x: net.node("Transpose", x, perm=(0, 1, 3, 2))),
    "blocks": ((20, 9, 7), blocks),
    "blocks turned": ((20, 7, 9), lambda net, x: net.node("Transpose", blocks(net, x), perm=(0, 1, 3, 2))),
    "first blocks": ((40, 9, 7), lambda net, x: cut(net, blocks(net, x), (0, 20, 1, 1))),
    "later blocks": ((40, 9, 7), lambda net, x: cut(net, blocks(net, x), (16, 36, 1, 1))),
    "blocks of one pixel": (
        (20, 1, 1),
        lambda net, x: net.node("Expand", net.conv(x, 20, 20, 1), net.integers(1, 20, 9, 7)),
    ),
}

READERS: dict[str, Make] = {
    "dense": lambda net, x: net.conv(x, 20, 8),
    "pointwise": lambda net, x: net.conv(x, 20, 24, 1),
    "few channels": lambda net, x: net.conv(x, 20, 3, 5),
    "grouped": lambda net, x: net.conv(x, 20, 20, group=4),
    "stride": lambda net, x: net.conv(x, 20, 8, stride=2),
    "depthwise": lambda net, x: net.conv(x, 20, 20, group=20),
    "pool": lambda net, x: net.node("AveragePool", x, kernel_shape=(2, 2)),
    "mean": lambda net, x: net.node("GlobalAveragePool", x),
    "sum": lambda net, x: net.node("ReduceSum", x, net.integers(1, 3), keepdims=0),
    "softmax": lambda net, x: net.node("Softmax", x, axis=1),
    "function": lambda net, x: net.node("Erf", x),
    "twice": lambda net, x: net.node("Add", x, net.node("Sigmoid", x)),
    "constant": lambda net, x: net.node("Mul", x, net.normal(20, 1, 7)),
    "resize": lambda net, x: net.node("Resize", x, "", net.constant(np.float32([1, 1, 2, 2])), mode="linear"),
    "pad": lambda net, x: net.node("Pad", x, net.integers(0, 0, 1, 2, 0, 1, 0, 1), mode="reflect"),
    "concat": lambda net, x: net.node("Concat", x, net.node("Relu", x), axis=1),
    "reshape": lambda net, x: net.node("Neg", net.node("Reshape", x, net.integers(0, 4, 5, 63))),
    "product": lambda net, x: net.node("MatMul", x, net.node("Transpose", x, perm=(0, 1, 3, 2))),
    "weights": lambda net, x: net.node("MatMul", x, net.normal(7, 5)),
    "connected": lambda net, x: net.node("Gemm", net.node("Flatten", x, axis=1), net.normal(1260, 3)),
    "gather": lambda net, x: net.node("Gather", x, net.integers(3, 0, 3), axis=2),
    "space": lambda net, x: net.node("DepthToSpace", x, blocksize=2),
    "output": lambda net, x: net.node("Identity", x),
}


@pytest.mark.parametrize("view", VIEWS)
def test_every_step_reads_every_view(view: str) -> None:
    (shape, make), wrong = VIEWS[view], []
    data: Any = np.random.default_rng(1).standard_normal((2, *shape)).astype(np.float32)
    for name, reader in READERS.items():
        net = GraphNet(2, np.float32)
        graph = net.graph(reader(net, make(net, net.input("n", *shape))), typed=False)
        (wanted,) = evaluate(graph, {"x": data.astype(np.float64)}).values()
        try:
            found = CompiledNetwork(graph, simplified(graph), threads=2)(data)
        except ValueError as error:
            wrong.append(f"{name}: {error}")
            continue
        away = np.abs(found - wanted).max() / np.abs(wanted).max()
        wrong += [] if found.shape == wanted.shape and away < 1e-5 else [f"{name}: {away:.1e}"]
    assert not wrong, "\n".join(wrong)
