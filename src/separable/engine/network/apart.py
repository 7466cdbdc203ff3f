"""What passes put into one node, as nodes of ONNX again: another runtime knows no others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from ..._base.types import Array
from ..graph.ir import Graph, Node, TensorType, free

__all__ = ["taken_apart"]

_OURS: Final = ("activation", "add", "low", "high", "alpha", "beta")


def taken_apart(graph: Graph, chosen: set[str]) -> Graph:
    """Return a graph in which some nodes are ONNX's own.

    Parameters
    ----------
    graph : Graph
        Static.
    chosen : set of str
        First outputs of the nodes.

    Returns
    -------
    Graph
        The activations, residuals, scales and means of these nodes are nodes of their own; the operation
        itself makes a tensor of another name then, which is put into `chosen` in its place.
    """
    draft = _Apart(graph)
    for node in graph.nodes:
        if node.outputs[0] in chosen and _is_ours(node):
            chosen.remove(node.outputs[0])
            chosen.add(draft.add_apart(node))
        else:
            draft.nodes.append(node)
    return graph.with_(nodes=tuple(draft.nodes), constants=draft.constants, types=draft.types)


def _is_ours(node: Node) -> bool:
    if node.op == "Conv" and (len(node.inputs) > 3 or len(node.outputs) > 1):
        return True
    written = node.attributes
    return ("activation" in written or "operands" in written) and node.op not in ("GRU", "LSTM", "RNN")


class _Apart:
    def __init__(self, graph: Graph) -> None:
        self.nodes: list[Node] = []
        self.constants = dict(graph.constants)
        self.types = dict(graph.types)
        self._taken = set(graph.names())

    def add_apart(self, node: Node) -> str:
        """Add the nodes that one stands for; return what the operation itself makes."""
        written = node.attributes
        out, inputs = node.outputs[0], list(node.inputs)
        steps: list[Callable[[str, str], Node]] = []
        name = str(written.get("activation", "none"))
        if name != "none":
            steps.append(lambda x, y: self._activation(name, written, x, y))
        if node.op == "Conv":
            residual, scale = [*inputs, "", "", "", ""][3:5]
            inputs = inputs[:3]
            if residual:
                place = len(steps) if written.get("add", "before") == "after" else 0
                steps.insert(place, lambda x, y: Node("Add", (x, residual), (y,)))
            if scale:
                scaled = self._tensor(f"{out}.scaled", self.types[inputs[0]])
                self.nodes.append(Node("Mul", (inputs[0], scale), (scaled,)))
                inputs[0] = scaled
        kept = {key: value for key, value in written.items() if key not in _OURS or name == "none"}
        kept.pop("operands", None)  # another runtime multiplies in float32
        own = out if not steps else self._tensor(f"{out}.alone", self.types[out])
        outputs = (own,) if node.op == "Conv" else (own, *node.outputs[1:])
        self.nodes.append(Node(node.op, tuple(inputs), outputs, kept))
        x = own
        for number, step in enumerate(steps):
            last = number == len(steps) - 1
            y = out if last else self._tensor(f"{out}.{number}", self.types[out])
            self.nodes.append(step(x, y))
            x = y
        if node.op == "Conv" and len(node.outputs) > 1 and node.outputs[1]:
            self.nodes.append(Node("GlobalAveragePool", (out,), (node.outputs[1],)))
        return own

    def _activation(self, name: str, written: Mapping[str, Any], x: str, y: str) -> Node:
        if name in ("relu6", "clip"):
            low, high = (0.0, 6.0) if name == "relu6" else (written["low"], written["high"])
            ends = [self._constant(f"{y}.{what}", value) for what, value in (("low", low), ("high", high))]
            return Node("Clip", (x, *ends), (y,))
        op, attributes = _OPERATIONS[name]
        own = {key: float(written[key]) for key in attributes if key in written}
        return Node(op, (x,), (y,), {**attributes, **own})

    def _tensor(self, wanted: str, kind: TensorType) -> str:
        name = free(wanted, self._taken)
        self._taken.add(name)
        self.types[name] = kind
        return name

    def _constant(self, wanted: str, value: float) -> str:
        array: Array = np.array(value, np.float32)
        name = self._tensor(wanted, TensorType(array.dtype, ()))
        self.constants[name] = array
        return name


# Activations as passes call them: ONNX's operation, and the attributes that it has here.
_OPERATIONS: Final[Mapping[str, tuple[str, dict[str, Any]]]] = {
    "relu": ("Relu", {}),
    "silu": ("Swish", {}),
    "hard_swish": ("HardSwish", {}),
    "gelu": ("Gelu", {}),
    "gelu_tanh": ("Gelu", {"approximate": "tanh"}),
    "sigmoid": ("Sigmoid", {}),
    "hard_sigmoid": ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}),
    "leaky_relu": ("LeakyRelu", {"alpha": 0.01}),
    "tanh": ("Tanh", {}),
}
