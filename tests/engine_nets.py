"""Small networks for tests of the engine: graphs written by hand, in float64 so that equality is exact."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from separable.engine.graph.ir import Graph, Node, TensorType
from separable.engine.graph.reference import evaluate
from separable.engine.graph.static import static

Array = npt.NDArray[Any]


class GraphNet:
    """A graph as it grows; weights are random, and every name says what made it."""

    def __init__(self, seed: int = 0, dtype: npt.DTypeLike = np.float64) -> None:
        self.random = np.random.default_rng(seed)
        self.dtype = np.dtype(dtype)
        self.inputs: dict[str, TensorType] = {}
        self.nodes: list[Node] = []
        self.constants: dict[str, Array] = {}

    def input(self, *shape: int | str, name: str = "x") -> str:
        self.inputs[name] = TensorType(self.dtype, shape)
        return name

    def constant(self, values: Any, dtype: npt.DTypeLike | None = None) -> str:
        name = f"constant{len(self.constants)}"
        self.constants[name] = np.asarray(values, self.dtype if dtype is None else dtype)
        return name

    def integers(self, *values: int) -> str:
        return self.constant(values, np.int64)

    def normal(self, *shape: int) -> str:
        return self.constant(self.random.standard_normal(shape))

    def node(self, op: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        names = tuple(f"{op.lower()}{len(self.nodes)}{'abc'[n] if n else ''}" for n in range(outputs))
        self.nodes.append(Node(op, inputs, names, attributes))
        return names if outputs > 1 else names[0]

    def conv(self, x: str, c_in: int, c_out: int, kernel: int = 3, *, axes: int = 2, **more: Any) -> str:
        group, bias, pad = more.get("group", 1), more.get("bias", True), more.get("pad", kernel // 2)
        weights = self.normal(c_out, c_in // group, *(kernel,) * axes)
        return str(
            self.node(
                *("Conv", x, weights, *([self.normal(c_out)] if bias else [])),
                kernel_shape=(kernel,) * axes,
                strides=(more.get("stride", 1),) * axes,
                dilations=(1,) * axes,
                pads=(pad,) * (2 * axes),
                group=group,
            )
        )

    def norm(self, x: str, channels: int) -> str:
        variance = self.constant(self.random.uniform(0.5, 2, channels))
        others = [self.normal(channels) for _ in range(3)]
        return str(self.node("BatchNormalization", x, *others, variance, epsilon=1e-3))

    def graph(self, *outputs: str, typed: bool = True) -> Graph:
        """Return the graph; typed ones know every shape."""
        graph = Graph("net", self.inputs, outputs, tuple(self.nodes), self.constants, dict(self.inputs))
        return static(graph) if typed else graph


def data(graph: Graph, batch: int = 2) -> dict[str, Array]:
    """Return random inputs; open lengths have that of the batch."""
    random = np.random.default_rng(7)
    return {
        name: random.standard_normal([batch if isinstance(n, str) else n for n in kind.shape])
        for name, kind in graph.inputs.items()
    }


def ops(graph: Graph) -> list[str]:
    """Return what a graph does, with what its nodes apply: "Conv+relu" and so on."""
    return [
        "+".join([node.op, *([node.attributes["activation"]] if "activation" in node.attributes else [])])
        for node in graph.nodes
    ]


def checked(rewrite: Callable[[Graph], Graph], graph: Graph, batch: int = 2, rtol: float = 1e-9) -> Graph:
    """Return the rewritten graph, which must be sound and give what the given one gives."""
    nodes, constants = graph.nodes, dict(graph.constants)
    new = rewrite(graph)
    assert graph.nodes is nodes
    assert all(graph.constants[name] is values for name, values in constants.items())
    assert_sound(new)
    assert (new.outputs, new.inputs) == (graph.outputs, graph.inputs)
    assert_same(evaluate(new, data(graph, batch)), evaluate(graph, data(graph, batch)), rtol)
    assert rewrite(new) is new, "done at once"
    return new


def assert_same(got: Mapping[str, Array], wanted: Mapping[str, Array], rtol: float = 1e-9) -> None:
    assert got.keys() == wanted.keys()
    for name, values in wanted.items():
        scale = max(1.0, float(np.abs(values).max(initial=0)))
        np.testing.assert_allclose(got[name], values, rtol=0, atol=rtol * scale, err_msg=name)
        assert got[name].shape == values.shape


def assert_sound(graph: Graph) -> None:
    """Each tensor is made once, before it is read; types are those of what there is."""
    made = [*graph.inputs, *graph.constants]
    for node in graph.nodes:
        assert not {name for name in node.inputs if name} - set(made), node
        made += [name for name in node.outputs if name]
    assert len(made) == len(set(made))
    assert set(graph.outputs) <= set(made)
    assert set(graph.types) <= set(made)
    for name, values in graph.constants.items():
        if name in graph.types:
            assert (graph.types[name].dtype, graph.types[name].shape) == (values.dtype, values.shape)
