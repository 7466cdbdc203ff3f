"""Operations on levels that ONNX Runtime adds to ONNX, written in ONNX's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from ...graph.ir import Graph, Node, TensorType
from ...graph.shapes.table import typed
from ..draft import Draft

__all__ = ["contributed"]

_DOMAIN: Final = "com.microsoft::"


def contributed(graph: Graph) -> Graph:
    """Write what ONNX Runtime's quantisation calls QLinearAdd, QGemm and so on as ONNX's operations.

    Each is its operation on numbers, between levels that are turned into numbers and back; passes that follow
    find those that have steps of their own.
    """
    if not any(node.op in _FORMS for node in graph.nodes):
        return graph
    draft = Draft.of(graph)
    for node in draft:
        form = _FORMS.get(node.op)
        if form is not None:
            form(draft, node)
    return typed(draft.finished())


def _input(node: Node, place: int) -> str:
    return node.inputs[place] if len(node.inputs) > place else ""


class _Written:
    """What a node is written as, so far."""

    def __init__(self, draft: Draft, node: Node) -> None:
        self.draft, self.node = draft, node
        self.nodes: list[Node] = []

    def real(self, place: int) -> str:
        """Return the numbers that levels stand for; scale and zero follow them among the inputs."""
        x = self.node.inputs[place]
        kind, scale = self.draft.type_of(x), self.draft.type_of(_input(self.node, place + 1))
        y = self.draft.new_name(f"{x}.real")
        if kind is not None and scale is not None:
            self.draft.set_type(y, TensorType(scale.dtype, kind.shape))
        names = (x, _input(self.node, place + 1), _input(self.node, place + 2))
        self.nodes.append(Node("DequantizeLinear", tuple(filter(None, names)), (y,)))
        return y

    def end(self, operation: Callable[[str], Node], place: int) -> None:
        """Add the operation, and what makes levels of its result."""
        y = self.draft.new_name(f"{self.node.outputs[0]}.real")
        self.nodes.append(operation(y))
        names = (y, _input(self.node, place), _input(self.node, place + 1))
        self.nodes.append(Node("QuantizeLinear", tuple(filter(None, names)), self.node.outputs))
        self.draft.replace(self.node, *self.nodes)


def _unary(op: str, *kept: str) -> Callable[[Draft, Node], None]:
    def form(draft: Draft, node: Node) -> None:
        written = _Written(draft, node)
        x = written.real(0)
        own = {name: value for name, value in node.attributes.items() if name in kept}
        written.end(lambda y: Node(op, (x,), (y,), own), 3)

    return form


def _binary(op: str) -> Callable[[Draft, Node], None]:
    def form(draft: Draft, node: Node) -> None:
        written = _Written(draft, node)
        a, b = written.real(0), written.real(3)
        written.end(lambda y: Node(op, (a, b), (y,)), 6)

    return form


def _pool(op: str, *kept: str) -> Callable[[Draft, Node], None]:
    simple = _unary(op, *kept)

    def form(draft: Draft, node: Node) -> None:
        if not node.attributes.get("channels_last"):
            simple(draft, node)

    return form


def _concat(draft: Draft, node: Node) -> None:
    written = _Written(draft, node)
    names = tuple(written.real(place) for place in range(2, len(node.inputs), 3))
    written.end(lambda y: Node("Concat", names, (y,), dict(node.attributes)), 0)


def _gemm(draft: Draft, node: Node) -> None:
    """Write QGemm as QLinearMatMul: its bias is whole, in units of both scales."""
    a, a_scale, a_zero, b, b_scale, b_zero, bias = [*node.inputs, ""][:7]
    weights, offsets = draft.constant(b), draft.constant(bias) if bias else None
    attributes = node.attributes
    one = float(attributes.get("alpha", 1.0)) == 1.0 and not attributes.get("transA")
    if weights is None or not one or (bias and (offsets is None or offsets.dtype.kind != "i")):
        return
    if attributes.get("transB"):
        b = draft.add_constant(f"{b}.T", weights.T)
    made = (_input(node, 7), _input(node, 8))
    inputs = (a, a_scale, a_zero, b, b_scale, b_zero, *made, bias)
    draft.replace(node, Node("QLinearMatMul", inputs, node.outputs))


def _lstm(draft: Draft, node: Node) -> None:
    """Write DynamicQuantizeLSTM as LSTM with the weights that its levels stand for; no input is rounded."""
    names = [*node.inputs, *("" for _ in range(12))][:12]
    inputs = list(names[:8])
    for place, (scale, zero) in zip((1, 2), (names[8:10], names[10:12]), strict=True):
        values = [draft.constant(name) for name in (inputs[place], scale, zero)]
        weights, units, zeros = values
        if weights is None or units is None or weights.ndim != 3:
            return
        # (directions, read, made); scales of a direction, or of each column of it
        real = weights.astype(np.float64)
        if zeros is not None:
            real = real - zeros.astype(np.float64).reshape(len(real) if zeros.size > 1 else 1, 1, -1)
        real = real * units.astype(np.float64).reshape(len(real) if units.size > 1 else 1, 1, -1)
        turned = np.ascontiguousarray(real.transpose(0, 2, 1), np.float32)
        inputs[place] = draft.add_constant(f"{inputs[place]}.real", turned)
    while not inputs[-1]:
        inputs.pop()
    draft.replace(node, Node("LSTM", tuple(inputs), node.outputs, dict(node.attributes)))


_WINDOW: Final = (
    *("kernel_shape", "strides", "pads", "dilations"),
    *("auto_pad", "ceil_mode", "count_include_pad"),
)
_FORMS: Final[Mapping[str, Callable[[Draft, Node], None]]] = {
    f"{_DOMAIN}{op}": form
    for op, form in {
        "QLinearAdd": _binary("Add"),
        "QLinearMul": _binary("Mul"),
        "QLinearSigmoid": _unary("Sigmoid"),
        "QLinearLeakyRelu": _unary("LeakyRelu", "alpha"),
        "QLinearAveragePool": _pool("AveragePool", *_WINDOW),
        "QLinearGlobalAveragePool": _pool("GlobalAveragePool"),
        "QLinearConcat": _concat,
        "QGemm": _gemm,
        "DynamicQuantizeLSTM": _lstm,
        "QuantizeLinear": lambda draft, node: draft.replace(node, node.with_(op="QuantizeLinear")),
        "DequantizeLinear": lambda draft, node: draft.replace(node, node.with_(op="DequantizeLinear")),
    }.items()
}
