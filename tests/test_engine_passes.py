"""All passes over whole networks: random ones, and the patterns of those that people run."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from engine_nets import GraphNet, assert_same, assert_sound, checked, data, ops

from separable.engine.graph.ir import Graph
from separable.engine.graph.reference import evaluate
from separable.engine.graph.static import static
from separable.engine.passes import PASSES, simplified, trace
from separable.onnx.model.names import ModelError

GRAPHS = 200


class RandomNet(GraphNet):
    """A network of steps drawn at random; what a step reads, others may read as well."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.tensors: list[tuple[str, int, int]] = []  # name, channels, length of both spatial axes
        self.keep(self.input("N", 4, 6, 6), 4, 6)

    def one(self, count: int) -> int:
        return int(self.random.integers(count))

    def keep(self, name: str, channels: int, length: int) -> None:
        self.tensors.append((name, channels, length))

    def drawn(self) -> tuple[str, int, int]:
        """Return a tensor, mostly one of the last."""
        recent = self.tensors[-3:] if self.one(4) else self.tensors
        return recent[self.one(len(recent))]

    def step(self) -> None:
        steps = (
            *(self.convolution, self.convolution, self.convolution, self.arithmetic, self.arithmetic),
            *(self.norm_of, self.activation, self.activation, self.activation, self.residual, self.residual),
            *(self.gate, self.border, self.shuffle, self.pool, self.nothing, self.joined, self.again),
        )
        steps[self.one(len(steps))]()

    def convolution(self) -> None:
        x, channels, length = self.drawn()
        group = (1, 1, 1, 2, channels)[self.one(5)]
        made = (4, 8, channels)[self.one(3)]
        made = channels if made % group else made
        kernel = (1, 3)[self.one(2)]
        pad = self.one(2) if kernel == 3 and length > 2 else kernel // 2
        if length + 2 * pad < kernel:
            return
        y = self.conv(x, channels, made, kernel, group=group, pad=pad, bias=bool(self.one(2)))
        self.keep(y, made, length + 2 * pad - kernel + 1)

    def arithmetic(self) -> None:
        x, channels, length = self.drawn()
        shape = ((), (1,), (channels, 1, 1), (1, channels, 1, 1), (length,))[self.one(5)]
        values = self.constant(self.random.uniform(0.5, 2, shape) * (-1) ** self.one(2))
        op = ("Add", "Sub", "Mul", "Div")[self.one(4)]
        inputs = (values, x) if self.one(3) == 0 and op != "Div" else (x, values)
        self.keep(self.node(op, *inputs), channels, length)

    def norm_of(self) -> None:
        x, channels, length = self.drawn()
        self.keep(self.norm(x, channels), channels, length)

    def activation(self) -> None:
        x, channels, length = self.drawn()
        one, three, six = (self.constant(value) for value in (1, 3, 6))
        zero, half = self.constant(0), self.constant(0.5)
        ways: list[Callable[[], str]] = [
            lambda: self.node("Relu", x),
            lambda: self.node("Clip", x, zero, six),
            lambda: self.node("Clip", x, self.constant(-0.5), ""),
            lambda: self.node("Min", self.node("Max", x, zero), six),
            lambda: self.node("Mul", x, self.node("Sigmoid", x)),
            lambda: self.node("Div", self.node("Mul", x, self.clipped(x, three, zero, six)), six),
            lambda: self.node("Mul", self.node("Div", self.clipped(x, three, zero, six), six), x),
            lambda: self.node("Div", self.clipped(x, three, zero, six), six),
            lambda: self.node("HardSigmoid", x),
            lambda: self.node("LeakyRelu", x, alpha=0.25),
            lambda: self.node("PRelu", x, self.constant(np.full((channels, 1, 1), 0.125))),
            lambda: self.node(
                "Mul",
                self.node("Mul", x, half),
                self.node("Add", self.node("Erf", self.node("Mul", x, self.constant(0.5**0.5))), one),
            ),
            lambda: self.node("Tanh", x),
            lambda: self.node("Sigmoid", x),
        ]
        self.keep(ways[self.one(len(ways))](), channels, length)

    def clipped(self, x: str, three: str, zero: str, six: str) -> str:
        return str(self.node("Clip", self.node("Add", x, three), zero, six))

    def residual(self) -> None:
        x, channels, length = self.drawn()
        alike = [each for each in self.tensors if each[1:] == (channels, length)]
        other = alike[self.one(len(alike))][0]
        op = ("Add", "Add", "Sum")[self.one(3)]
        self.keep(self.node(op, *((x, other) if self.one(2) else (other, x))), channels, length)

    def gate(self) -> None:
        x, channels, length = self.drawn()
        if self.one(2):
            mean = self.node("GlobalAveragePool", x)
        else:
            mean = self.node("ReduceMean", x, self.integers(2, 3), keepdims=1)
        hidden = self.node("Relu", self.conv(mean, channels, 4, 1))
        gate = self.node("Sigmoid", self.conv(hidden, 4, channels, 1))
        y = self.node("Mul", *((x, gate) if self.one(2) else (gate, x)))
        y = self.node("Add", y, x) if self.one(3) == 0 else y
        self.keep(y, channels, length)
        if self.one(2):
            self.keep(self.conv(y, channels, 4, 1), 4, length)

    def border(self) -> None:
        x, channels, length = self.drawn()
        if length < 8:
            y = self.node("Pad", x, self.integers(0, 0, 1, 0, 0, 0, 0, 1))
            self.keep(y, channels, length + 1)

    def shuffle(self) -> None:
        x, channels, length = self.drawn()
        if self.one(2):
            y = self.node("Gather", x, self.integers(*self.random.permutation(channels)), axis=1)
        else:
            y = self.node("Reshape", x, self.integers(-1, 2, channels // 2, length, length))
            y = self.node("Transpose", y, perm=(0, 2, 1, 3, 4))
            y = self.node("Reshape", y, self.integers(-1, channels, length, length))
        self.keep(y, channels, length)

    def pool(self) -> None:
        x, channels, length = self.drawn()
        if length > 3:
            op = ("AveragePool", "MaxPool")[self.one(2)]
            y = self.node(op, x, kernel_shape=(2, 2), strides=(1, 1), pads=(0, self.one(2), 0, 0))
            if self.nodes[-1].attributes["pads"][1] == 0:
                self.keep(y, channels, length - 1)

    def nothing(self) -> None:
        x, channels, length = self.drawn()
        y = self.node("Transpose", self.node("Transpose", x, perm=(0, 2, 3, 1)), perm=(0, 3, 1, 2))
        self.keep(y if self.one(2) else self.node("Identity", x), channels, length)

    def again(self) -> None:
        """Do once more what made a tensor."""
        name, channels, length = self.drawn()
        node = next((node for node in self.nodes if name in node.outputs), None)
        if node is not None:
            self.keep(self.node(node.op, *node.inputs, **node.attributes), channels, length)

    def joined(self) -> None:
        x, channels, length = self.drawn()
        alike = [each for each in self.tensors if each[2] == length and each[1] + channels <= 12]
        if alike:
            other, more, _ = alike[self.one(len(alike))]
            self.keep(self.node("Concat", x, other, axis=1), channels + more, length)


def random_graph(seed: int, typed: bool) -> Graph:
    net = RandomNet(seed)
    for _ in range(4 + seed % 16):
        net.step()
    made = [name for name, _, _ in net.tensors[1:]] or [net.node("Relu", "x")]
    outputs = [made[-1], *(name for name in made[:-1] if net.one(8) == 0)]
    graph = net.graph(*dict.fromkeys(outputs), typed=False)
    return static(graph, {"x": (2, 4, 6, 6)}) if typed else graph


@pytest.mark.parametrize("seed", range(GRAPHS))
def test_random_networks_mean_the_same(seed: int) -> None:
    graph = random_graph(seed, typed=bool(seed % 3))
    x = data(graph)
    wanted = evaluate(graph, x)
    new = simplified(graph)
    assert_sound(new)
    assert (new.outputs, new.inputs) == (graph.outputs, graph.inputs)
    try:
        assert_same(evaluate(new, x), wanted, 1e-6)
    except AssertionError as error:
        for name, step in trace(graph):
            try:
                assert_same(evaluate(step, x), wanted, 1e-6)
            except AssertionError:
                raise AssertionError(f"first wrong after `{name}`") from error
        raise
    assert simplified(new) is new
    lengths = {name: values.shape for name, values in x.items()}
    assert_same(evaluate(static(new, lengths), x), wanted, 1e-6)


def test_types_of_a_rewritten_network_are_those_it_has() -> None:
    for seed in range(1, 60, 3):
        new = simplified(random_graph(seed, typed=True))
        tensors = evaluate(new, data(new), all_tensors=True)
        for node in new.nodes:
            for name in filter(None, node.outputs):
                assert new.types[name].shape == tensors[name].shape, (seed, node)


def test_random_networks_draw_on_every_pass() -> None:
    seen = {name for seed in range(0, 120, 2) for name, _ in trace(random_graph(seed, typed=True))}
    levels = {"contributed", "sums_of_levels", "scaled_sums"}  # of quantised networks
    elsewhere = {"dead", "layer_norms", "products", "transposed", *levels}
    assert {"given", *(each.__name__ for each in PASSES)} - seen <= elsewhere


# -- networks that people run ------------------------------------------------------------------------


def batch_normed(net: GraphNet, x: str, *widths: int, **more: Any) -> str:
    return net.norm(net.conv(x, *widths, bias=False, **more), widths[1])


def hard_swish(net: GraphNet, x: str) -> str:
    gate = net.node("Clip", net.node("Add", x, net.constant(3)), net.constant(0), net.constant(6))
    return str(net.node("Div", net.node("Mul", x, gate), net.constant(6)))


def inverted_residual(net: GraphNet, x: str, channels: int, wide: int) -> str:
    y = net.node("Clip", batch_normed(net, x, channels, wide, 1), net.constant(0), net.constant(6))
    y = batch_normed(net, y, wide, wide, group=wide)
    y = net.node("Clip", y, net.constant(0), net.constant(6))
    return str(net.node("Add", x, batch_normed(net, y, wide, channels, 1)))


def test_mobilenet_v2_is_its_convolutions() -> None:
    net = GraphNet()
    x = net.node("Clip", batch_normed(net, net.input("N", 3, 9, 9), 3, 4), net.constant(0), net.constant(6))
    for _ in range(3):
        x = inverted_residual(net, x, 4, 8)
    x = net.node("Reshape", net.node("GlobalAveragePool", x), net.integers(-1, 4))
    x = net.node("Add", net.node("MatMul", x, net.normal(4, 10)), net.normal(10))
    graph = static(net.graph(x, typed=False), {"x": (2, 3, 9, 9)})
    new = checked(simplified, graph)
    assert ops(new) == ["Conv+relu6", *("Conv+relu6", "Conv+relu6", "Conv") * 3, "Flatten", "Gemm"]
    assert len(new.nodes[-3].outputs) == 2


def test_mobilenet_v3_is_its_convolutions() -> None:
    net = GraphNet()
    x = hard_swish(net, batch_normed(net, net.input(2, 3, 9, 9), 3, 4))
    y = hard_swish(net, batch_normed(net, x, 4, 8, 1))
    y = hard_swish(net, batch_normed(net, y, 8, 8, group=8))
    mean = net.node("ReduceMean", y, net.integers(2, 3), keepdims=1)
    gate = net.conv(net.node("Relu", net.conv(mean, 8, 2, 1)), 2, 8, 1)
    gate = net.node("Clip", net.node("Add", gate, net.constant(3)), net.constant(0), net.constant(6))
    y = net.node("Mul", y, net.node("Div", gate, net.constant(6)))
    y = net.node("Add", batch_normed(net, y, 8, 4, 1), x)
    new = checked(simplified, net.graph(y), rtol=1e-7)
    assert ops(new) == [
        *("Conv+hard_swish",) * 3,
        *("Conv+relu", "Conv+hard_sigmoid", "Conv"),
    ]
    assert new.nodes[-1].inputs[3:] == (new.nodes[0].outputs[0], new.nodes[4].outputs[0])


def test_a_residual_network_is_its_convolutions() -> None:
    net = GraphNet()
    x = net.node("Pad", net.input(2, 3, 9, 9), net.integers(0, 0, 1, 1, 0, 0, 1, 1))
    x = net.node("Relu", batch_normed(net, x, 3, 4, pad=0))
    for _ in range(2):
        y = net.node("Relu", batch_normed(net, x, 4, 4))
        shortcut = batch_normed(net, x, 4, 4, 1)
        x = net.node("Relu", net.node("Add", batch_normed(net, y, 4, 4), shortcut))
    new = checked(simplified, net.graph(x))
    assert ops(new) == ["Conv+relu", *("Conv+relu", "Conv", "Conv+relu") * 2]


def test_a_dense_network_keeps_norms_of_what_is_joined() -> None:
    net = GraphNet()
    x = net.conv(net.input(2, 3, 9, 9), 3, 4)
    y = net.conv(net.node("Relu", net.norm(x, 4)), 4, 4)
    y = net.node("Concat", x, y, axis=1)
    new = checked(simplified, net.graph(net.conv(net.node("Relu", net.norm(y, 8)), 8, 4)))
    assert ops(new) == ["Conv", "Conv+relu", "Conv", "Concat", "Conv+relu", "Conv"]


def test_a_long_network_takes_a_moment() -> None:
    net = GraphNet(dtype=np.float32)
    x = net.conv(net.input(1, 3, 9, 9), 3, 8)
    while len(net.nodes) < 300:
        x = inverted_residual(net, x, 8, 16)
    graph = net.graph(x)
    best = np.inf
    for _ in range(3):
        start = time.perf_counter()
        new = simplified(graph)
        best = min(best, time.perf_counter() - start)
    assert len(new.nodes) == 3 * (len(graph.nodes) // 9) + 1
    assert best < 1.0  # some 40 ms on a quiet machine


def test_nodes_that_do_not_take_what_they_are_given_are_one_kind_of_error() -> None:
    for op, inputs in (("Mul", ("x",)), ("Div", ("x",)), ("Relu", ()), ("Conv", ("x",))):
        net = GraphNet()
        net.input(2, 3, 6, 6)
        graph = net.graph(net.node("Add", net.node(op, *inputs), net.normal(3, 1, 1)), typed=False)
        with pytest.raises(ModelError, match="does not take what it is given"):
            simplified(graph)


def test_a_trace_names_the_passes_that_changed_something() -> None:
    net = GraphNet()
    graph = net.graph(net.node("Relu", batch_normed(net, net.input(2, 3, 9, 9), 3, 4)))
    steps = list(trace(graph))
    assert [name for name, _ in steps] == ["given", "norms_after", "activations_applied"]
    assert [len(step.nodes) for _, step in steps] == [3, 2, 1]
    assert simplified(steps[-1][1]) is steps[-1][1]
    nothing = static(Graph("none", graph.inputs, ("x",), (), {}))
    assert simplified(nothing) is nothing
