"""The graph of one hop: new columns, columns near the ends of the window, and the head on all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from ..._base.types import Array
from ..graph.ir import Graph, Node, TensorType, free
from ..graph.shapes.table import output_types
from .body import LocalBody, LocalNode, Need
from .local import piece_of

__all__ = ["HopGraph", "Kept", "hop_graph", "ring_order"]

_FLOAT: Final = np.dtype(np.float32)
_LEFT, _RIGHT = "left", "right"


@dataclass(frozen=True, slots=True)
class Kept:
    """Columns of a tensor that a hop reads, and did not compute.

    Attributes
    ----------
    name : str
        The tensor.
    first, end : int
        Columns of the window.
    """

    name: str
    first: int
    end: int


@dataclass(frozen=True, eq=False)
class HopGraph:
    """What one hop computes.

    Attributes
    ----------
    graph : Graph
        Its first outputs are those of the network, then `fresh`.
    reads : tuple of Kept
        Its inputs, in order. Those of the network's input are laid out as that is, all others in the order of
        a ring: time first, channels last.
    fresh : tuple of str
        The tensors of which it gives the new columns, in that order too.
    """

    graph: Graph
    reads: tuple[Kept, ...]
    fresh: tuple[str, ...]


def ring_order(axis: int, rank: int) -> tuple[int, ...]:
    """Return the axes of a tensor in the order in which its columns are kept: time first, channels last."""
    rest = [number for number in range(rank) if number not in (axis, 1)]
    return (axis, *rest, 1) if axis != 1 and rank > 1 else (axis, *rest)


def hop_graph(body: LocalBody) -> HopGraph:
    """Return what a hop computes.

    Parameters
    ----------
    body : LocalBody

    Returns
    -------
    HopGraph
    """
    draft = _HopDraft(body)
    for entry in body.nodes:
        draft.add_pieces(entry)
    for name, need in body.needs.items():
        if need.whole:
            draft.put_together(name, need)
    fresh = tuple(name for name, need in body.needs.items() if need.kept and name != body.source)
    given = [draft.given(name) for name in fresh]
    nodes = (*draft.nodes, *body.head)
    whole = body.view.graph
    used = {name for node in nodes for name in node.inputs}
    graph = Graph(
        whole.name,
        draft.inputs,
        (*dict.fromkeys(whole.outputs), *given),
        nodes,
        {name: array for name, array in draft.constants.items() if name in used},
        draft.types,
    )
    return HopGraph(graph, tuple(draft.reads), fresh)


class _HopDraft:
    """The graph of a hop while it is written."""

    def __init__(self, body: LocalBody) -> None:
        self._body, self._view = body, body.view
        graph = body.view.graph
        self.constants: dict[str, Array] = dict(graph.constants)
        self.types: dict[str, TensorType] = dict(graph.types)
        self.inputs: dict[str, TensorType] = {}
        self.nodes: list[Node] = []
        self.reads: list[Kept] = []
        self._taken = set(graph.names())
        self._kept: dict[Kept, str] = {}
        # What is computed of a tensor, by side: its name, and its first and last column.
        self._made: dict[tuple[str, str], tuple[str, int, int]] = {}

    def add_pieces(self, entry: LocalNode) -> None:
        """Add what makes the columns of a node near the low end, and the new ones."""
        out = next(filter(None, entry.node.outputs))
        need = self._body.needs[out]
        if need.left:
            self._piece(entry, _LEFT, 0, need.left)
        self._piece(entry, _RIGHT, self._body.known(out), max(need.right, self._view.extents[out].high))

    def _piece(self, entry: LocalNode, side: str, first: int, end: int) -> None:
        node, rule = entry.node, entry.rule
        names, ends = {}, (0, 0)
        for name, reach in rule.reads.items():
            low, high = reach.columns(first, end)
            length = self._view.extents[name].length
            before, behind = max(0, -low), max(0, high - length)
            if name == node.inputs[0]:
                ends = before, behind
            names[name] = self._columns(name, side, max(low, 0), min(high, length))
        made = piece_of(self._view, node, rule, end - first, ends, self._constant)
        outputs = tuple(self._new(f"{name}@{side}") if name else "" for name in node.outputs)
        self._add(made.with_(inputs=tuple(names.get(name, name) for name in made.inputs), outputs=outputs))
        for name, own in zip(node.outputs, outputs, strict=True):
            if name:
                self._made[name, side] = own, first, end

    def _columns(self, name: str, side: str, first: int, end: int) -> str:
        """Return the name of some columns of a tensor, put together from where they are."""
        if name == self._body.source:
            return self._from_kept(name, first, end)
        parts: list[str] = []
        low, known = self._view.extents[name].low, self._body.known(name)
        if side == _LEFT and first < low:
            parts.append(self._of_made(name, _LEFT, first, min(end, low)))
        kept = max(first, low), min(end, known)
        if kept[0] < kept[1]:
            parts.append(self._from_kept(name, *kept))
        if end > known:
            parts.append(self._of_made(name, _RIGHT, max(first, known), end))
        return self._joined(name, parts)

    def put_together(self, name: str, need: Need) -> None:
        """Add a whole tensor of the body: for the head, or a caller."""
        extent = self._view.extents[name]
        if name == self._body.source:
            self._from_kept(name, 0, extent.length)
            return
        parts = [self._of_made(name, _LEFT, 0, extent.low)] if need.left else []
        parts.append(self._from_kept(name, extent.low, self._body.known(name)))
        parts.append(self._of_made(name, _RIGHT, self._body.known(name), extent.length))
        self._add(Node("Concat", tuple(parts), (name,), {"axis": extent.axis}))

    def given(self, name: str) -> str:
        """Return the new columns of a tensor as they are kept."""
        extent = self._view.extents[name]
        fresh = self._of_made(name, _RIGHT, self._body.known(name), extent.high)
        order = ring_order(extent.axis, len(self._view.shape(name)))
        return self._turned(fresh, order, f"{name}@fresh")

    def _from_kept(self, name: str, first: int, end: int) -> str:
        key = Kept(name, first, end)
        if key in self._kept:
            return self._kept[key]
        extent, shape = self._view.extents[name], list(self._view.shape(name))
        shape[extent.axis] = end - first
        whole = name == self._body.source and end - first == extent.length
        given = name if whole else self._new(f"{name}@{first}:{end}")
        self.reads.append(key)
        made = given
        if name == self._body.source:
            self._input(given, shape)
        else:
            order = ring_order(extent.axis, len(shape))
            self._input(given, [shape[axis] for axis in order])
            made = self._turned(given, tuple(int(place) for place in np.argsort(order)), f"{given}+")
        self._kept[key] = made
        return made

    def _input(self, name: str, shape: Sequence[int]) -> None:
        self.inputs[name] = self.types[name] = TensorType(_FLOAT, tuple(shape))

    def _turned(self, name: str, order: tuple[int, ...], wanted: str) -> str:
        made = self._new(wanted)
        self._add(Node("Transpose", (name,), (made,), {"perm": order}))
        return made

    def _of_made(self, name: str, side: str, first: int, end: int) -> str:
        """Return some of the columns that were computed on one side."""
        own, begin, stop = self._made[name, side]
        if (first, end) == (begin, stop):
            return own
        made = self._new(f"{name}@{side}:{first}:{end}")
        axis = self._view.extents[name].axis
        numbers = [self._constant(np.array([value])) for value in (first - begin, end - begin, axis)]
        self._add(Node("Slice", (own, *numbers), (made,)))
        return made

    def _joined(self, name: str, parts: Sequence[str]) -> str:
        if len(parts) == 1:
            return parts[0]
        made = self._new(f"{name}@joined")
        self._add(Node("Concat", tuple(parts), (made,), {"axis": self._view.extents[name].axis}))
        return made

    def _add(self, node: Node) -> None:
        values = [self.constants.get(name) for name in node.inputs]
        kinds = [self._kind(name) for name in node.inputs]
        self.types.update(zip(node.outputs, output_types(node, kinds, values), strict=True))
        self.nodes.append(node)

    def _kind(self, name: str) -> TensorType | None:
        array = self.constants.get(name)
        return self.types.get(name) if array is None else TensorType(array.dtype, array.shape)

    def _constant(self, array: Array) -> str:
        name = self._new("columns")
        self.constants[name] = array
        return name

    def _new(self, wanted: str) -> str:
        name = free(wanted, self._taken)
        self._taken.add(name)
        return name
