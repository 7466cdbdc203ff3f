"""A network whose convolutions and products are of 8-bit numbers: weights by channel, samples by tensor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from ..._base.types import Array
from ..graph.ir import Graph, Node, free
from ..graph.shapes.table import typed
from .ranges import Range

__all__ = ["apart", "candidates", "in_eight_bits", "tensors"]

_FLOAT: Final = np.dtype(np.float32)
_MOST: Final = 127  # of a weight: one level is left out, so that zero lies in the middle
# Of two neighbours, so that two products of theirs with bytes hold in 16 bits: processors without
# instructions for four products compute faster then. Scales grow by a fifth or so, and rounding errors too.
_PAIR: Final = 128
_FREE: Final = ("none", "relu", "relu6")  # what levels that begin at zero do anyway


def apart(graph: Graph) -> Graph:
    """Return a graph in which what convolutions multiply their samples by is a product of its own.

    Its range is that of what becomes levels.
    """
    nodes: list[Node] = []
    taken = set(graph.names())
    for node in graph.nodes:
        scale = _input(node, 4) if node.op == "Conv" else ""
        if scale:
            name = free(f"{node.outputs[0]}.scaled", taken)
            taken.add(name)
            nodes.append(Node("Mul", (node.inputs[0], scale), (name,)))
            inputs = [name, *node.inputs[1:4]]
            while not inputs[-1]:
                inputs.pop()
            node = node.with_(inputs=tuple(inputs))
        nodes.append(node)
    return graph if len(nodes) == len(graph.nodes) else typed(graph.with_(nodes=tuple(nodes)))


def candidates(graph: Graph) -> tuple[list[Node], list[Node]]:
    """Return the convolutions and products that may run in eight bits, and those that may not."""
    able: list[Node] = []
    others: list[Node] = []
    for node in graph.nodes:
        if node.op in ("Conv", "Gemm", "MatMul"):
            (able if _is_able(graph, node) else others).append(node)
    return able, others


def _is_able(graph: Graph, node: Node) -> bool:
    weights = graph.constants.get(node.inputs[1])
    x = graph.types.get(node.inputs[0]) or graph.inputs.get(node.inputs[0])
    if weights is None or weights.dtype != _FLOAT or not weights.size or not np.isfinite(weights).all():
        return False
    if x is None or x.dtype != _FLOAT or node.inputs[0] in graph.constants:
        return False
    bias = _input(node, 2)
    known = not bias or (bias in graph.constants and graph.constants[bias].dtype == _FLOAT)
    if node.op == "Conv":
        late = _input(node, 3) and node.attributes.get("add", "before") == "after"
        return known and weights.ndim in (3, 4) and not _input(node, 4) and not late
    written = node.attributes
    if weights.ndim != 2 or len(x.shape) < 2:
        return False
    one = float(written.get("alpha", 1.0)) == float(written.get("beta", 1.0)) == 1.0
    columns = weights.shape[0 if written.get("transB") else 1]
    fits = not bias or (
        known and graph.constants[bias].size in (1, columns) and graph.constants[bias].ndim < 3
    )
    return one and not written.get("transA") and fits


def _input(node: Node, place: int) -> str:
    return node.inputs[place] if len(node.inputs) > place else ""


def tensors(graph: Graph, chosen: list[Node]) -> Iterator[str]:
    """Yield the tensors whose ranges are asked for: what the chosen nodes read and make."""
    for node in chosen:
        yield node.inputs[0]
        yield from filter(None, [_input(node, 3) if node.op == "Conv" else ""])
        yield node.outputs[0]


def in_eight_bits(graph: Graph, chosen: list[Node], ranges: Mapping[str, Range], *, narrowed: bool) -> Graph:
    """Return a graph in which some convolutions and products are of 8-bit numbers.

    Parameters
    ----------
    graph : Graph
        Simplified.
    chosen : list of Node
        Of `candidates`.
    ranges : mapping of str to Range
        Of their `tensors`.
    narrowed : bool
        Whether ranges are those of the least error, not of all that was met.

    Returns
    -------
    Graph
        What only such nodes read is made as levels; what others read too is made of them.
    """
    draft = _Quantised(graph, {id(node) for node in chosen}, ranges, narrowed)
    for node in graph.nodes:
        draft.add(node)
    return typed(graph.with_(nodes=tuple(draft.nodes), constants=draft.constants))


@dataclass
class _Quantised:
    """The graph so far."""

    graph: Graph
    chosen: set[int]
    ranges: Mapping[str, Range]
    narrowed: bool
    nodes: list[Node] = field(default_factory=list)
    constants: dict[str, Array] = field(default_factory=dict)
    levels: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.constants.update(self.graph.constants)
        self.taken.update(self.graph.names())
        self.readers = self.graph.consumers()

    def add(self, node: Node) -> None:
        """Add a node, in eight bits if it is chosen."""
        if id(node) in self.chosen:
            self._add_chosen(node)
        else:
            self.nodes.append(node)

    def name(self, wanted: str) -> str:
        """Return a new name."""
        name = free(wanted, self.taken)
        self.taken.add(name)
        return name

    def constant(self, wanted: str, values: Array) -> str:
        """Add a constant."""
        name = self.name(wanted)
        self.constants[name] = values
        return name

    def numbers(self, tensor: str) -> tuple[str, str]:
        """Add scale and zero of a tensor."""
        scale, zero = self.ranges[tensor].levels(self.narrowed)
        return self.constant(f"{tensor}.scale", np.array(scale)), self.constant(
            f"{tensor}.zero", np.array(zero)
        )

    def levels_of(self, tensor: str) -> tuple[str, str, str]:
        """Return a tensor as levels, with scale and zero; what makes levels of it is added if need be."""
        if tensor not in self.levels:
            scale, zero = self.numbers(tensor)
            made = self.name(f"{tensor}.levels")
            self.nodes.append(Node("QuantizeLinear", (tensor, scale, zero), (made,)))
            self.levels[tensor] = made, scale, zero
        return self.levels[tensor]

    def _reads_levels(self, node: Node, tensor: str) -> bool:
        """Whether a node reads a tensor as levels, in each place."""
        if id(node) not in self.chosen:
            return False
        residual = _input(node, 3) if node.op == "Conv" else ""
        return node.inputs.count(tensor) == (node.inputs[0] == tensor) + (residual == tensor)

    def _add_chosen(self, node: Node) -> None:
        is_conv = node.op == "Conv"
        out, residual = node.outputs[0], _input(node, 3) if is_conv else ""
        means = node.outputs[1] if is_conv and len(node.outputs) > 1 else ""
        x = self.levels_of(node.inputs[0])
        added = self.levels_of(residual) if residual else ()
        weights = self.graph.constants[node.inputs[1]]
        turned = bool(node.attributes.get("transB"))
        along = 0 if is_conv or turned else 1
        w = self._weights(node.inputs[1], weights, along)
        if turned:
            self.constants[w[0]] = np.ascontiguousarray(self.constants[w[0]].T)
        readers = self.readers.get(out, [])
        as_levels = any(self._reads_levels(reader, out) for reader in readers) or bool(residual)
        others = (
            bool(means)
            or out in self.graph.outputs
            or not all(self._reads_levels(reader, out) for reader in readers)
        )
        bias = self._bias(_input(node, 2), x[1], w[1], out, weights.shape[along])
        made: tuple[str, str] = self.numbers(out) if as_levels else ("", "")
        name = self.name(f"{out}.levels") if as_levels else out
        attributes = dict(node.attributes) if is_conv else {}
        attributes.pop("add", None)
        act = str(node.attributes.get("activation", "none"))
        attributes.update(
            (key, node.attributes[key])
            for key in ("activation", "alpha", "low", "high")
            if key in node.attributes
        )
        # Levels that begin at zero cut off what is below; what was never met above is cut off as well.
        if as_levels and act in _FREE and (act == "none" or not self.constants[made[1]].any()):
            attributes.pop("activation", None)
        inputs = [*x, *w, *made, bias, "", *added]
        while not inputs[-1]:
            inputs.pop()
        self.nodes.append(
            Node("QLinearConv" if is_conv else "QLinearMatMul", tuple(inputs), (name,), attributes)
        )
        if as_levels:
            self.levels[out] = name, *made
            if others:
                self.nodes.append(Node("DequantizeLinear", (name, *made), (out,)))
        if means:
            self.nodes.append(Node("GlobalAveragePool", (out,), (means,)))

    def _weights(self, name: str, weights: Array, along: int) -> tuple[str, str, str]:
        made = np.moveaxis(weights, along, 0).astype(np.float64)
        largest = np.abs(made).reshape(len(made), -1).max(axis=1) / _MOST
        if made.shape[1] > 1:
            largest = np.maximum(largest, _pair_sums(made) / (_PAIR - 1))
        scales = np.where(largest > 0, largest, 1.0).astype(np.float32)
        scales = np.maximum(scales, np.finfo(np.float32).tiny)
        shape = [1] * weights.ndim
        shape[along] = -1
        levels = np.round(weights / scales.reshape(shape).astype(np.float64))
        bytes_ = np.clip(levels, -_MOST, _MOST).astype(np.int8)
        return (
            self.constant(f"{name}.levels", bytes_),
            self.constant(f"{name}.scales", scales),
            self.constant(f"{name}.zero", np.zeros((), np.int8)),
        )

    def _bias(self, name: str, x_scale: str, w_scales: str, out: str, channels: int) -> str:
        """Return a bias in units of both scales, in which sums are."""
        if not name:
            return ""
        unit = self.constants[x_scale].astype(np.float64) * self.constants[w_scales].astype(np.float64)
        values = np.broadcast_to(self.graph.constants[name].ravel().astype(np.float64), (channels,))
        most = np.iinfo(np.int32).max // 2  # of a channel whose weights are all zero, or nearly
        whole = np.clip(np.round(values / unit), -most, most).astype(np.int32)
        return self.constant(f"{out}.bias", whole)


def _pair_sums(weights: Array) -> Array:
    """Return for each channel that is made the largest sum of two neighbours of one sign, by size."""
    made, read = weights.shape[:2]
    even = np.zeros((made, read + read % 2, *weights.shape[2:]))
    even[:, :read] = weights
    pairs = even.reshape(made, -1, 2, *weights.shape[2:])
    sums = np.maximum(np.maximum(pairs, 0).sum(2), -np.minimum(pairs, 0).sum(2))
    return np.asarray(sums.reshape(made, -1).max(axis=1))
