"""Which operations make each column of their results from a few columns of their operands."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from ..._base.types import Array
from ..graph.ir import Graph, Node
from ..graph.shapes.windows import reach
from ..program.steps.elements import BINARY, REDUCTIONS, UNARY
from .extents import Extent, NotLocalError, Reach

__all__ = ["LocalRule", "View", "local_rule", "piece_of"]

_SAME: Final = Reach()
_END: Final = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class LocalRule:
    """What a node does along time.

    Attributes
    ----------
    axis : int
        Of time, in its results.
    reads : mapping of str to Reach
        Of its operands that have columns.
    """

    axis: int
    reads: Mapping[str, Reach]


@dataclass(frozen=True, eq=False)
class View:
    """A static graph, and what is known of its tensors along time.

    Attributes
    ----------
    graph : Graph
    shape : callable
    extents : dict of str to Extent
        Of the tensors that have columns.
    """

    graph: Graph
    shape: Callable[[str], tuple[int, ...]]
    extents: dict[str, Extent]

    def constant(self, node: Node, place: int) -> Array | None:
        """Return an operand that has to be a constant; None where it is absent."""
        name = _operand(node, place)
        if not name:
            return None
        if name not in self.graph.constants:
            raise NotLocalError(f"`{name}` is computed")
        return self.graph.constants[name]

    def extent(self, node: Node, place: int = 0) -> Extent:
        """Return the extent of an operand that has to have columns."""
        name = _operand(node, place)
        if name not in self.extents:
            raise NotLocalError(f"`{name}` has no columns")
        return self.extents[name]


_Rule = Callable[[View, Node], LocalRule]


def local_rule(view: View, node: Node) -> LocalRule:
    """Return what a node does along time.

    Parameters
    ----------
    view : View
        Its operands' extents are known.
    node : Node

    Returns
    -------
    LocalRule

    Raises
    ------
    NotLocalError
        If its columns depend on all columns, or nothing is known of that.
    """
    if node.op in _MIXING:
        raise _mixes(view.extent(node).axis)
    if node.op not in _RULES:
        raise NotLocalError("it is not known to be local along time")
    return _RULES[node.op](view, node)


def _operand(node: Node, place: int) -> str:
    return node.inputs[place] if len(node.inputs) > place else ""


def _mixes(axis: int) -> NotLocalError:
    return NotLocalError(f"it mixes all columns of axis {axis}")


# -- windows -----------------------------------------------------------------------------------------


def _conv(view: View, node: Node) -> LocalRule:
    x = view.extent(node)
    axis = _window_axis(view, node, x)
    if len(node.outputs) > 1 and node.outputs[1]:
        raise NotLocalError("its mean over all columns is summed up while it is stored")
    view.constant(node, 1)
    view.constant(node, 2)
    reads = {node.inputs[0]: _windowed(node, axis)}
    if _operand(node, 4) and _operand(node, 4) not in view.graph.constants:
        raise NotLocalError(f"it is scaled by `{node.inputs[4]}`, which depends on all columns")
    if _operand(node, 3):
        residual = view.extent(node, 3)
        if residual.axis != x.axis or node.inputs[3] in reads:
            raise NotLocalError("what is added to it lies along another axis")
        reads[node.inputs[3]] = _SAME
    return LocalRule(x.axis, reads)


def _pool(view: View, node: Node) -> LocalRule:
    x = view.extent(node)
    axis = _window_axis(view, node, x)
    if node.attributes.keys() & {"beyond", "ceil_mode", "auto_pad"}:
        raise NotLocalError("its last window ends beyond the padding that counts")
    return LocalRule(x.axis, {node.inputs[0]: _windowed(node, axis)})


def _global_pool(view: View, node: Node) -> LocalRule:
    x = view.extent(node)
    if x.axis > 1:
        raise _mixes(x.axis)
    return LocalRule(x.axis, {node.inputs[0]: _SAME})


def _window_axis(view: View, node: Node, x: Extent) -> int:
    rank = len(view.shape(node.inputs[0]))
    if x.axis < 2:
        raise _mixes(x.axis)
    if rank > 4:
        raise NotLocalError("it goes over three axes")
    return x.axis - 2


def _windowed(node: Node, axis: int) -> Reach:
    attributes = node.attributes
    return Reach(reach(attributes, axis), int(attributes["strides"][axis]), int(attributes["pads"][axis]))


def _padded(view: View, node: Node) -> tuple[list[int], list[int]]:
    """Return what a Pad adds to the low and to the high end of each axis."""
    rank = len(view.shape(node.inputs[0]))
    given = view.constant(node, 1)
    assert given is not None
    pads = [int(count) for count in given.ravel()]
    axes = view.constant(node, 3)
    where = range(rank) if axes is None else [int(axis) % rank for axis in axes.ravel()]
    low, high = [0] * rank, [0] * rank
    for place, axis in enumerate(where):
        low[axis], high[axis] = pads[place], pads[len(where) + place]
    return low, high


def _pad(view: View, node: Node) -> LocalRule:
    x = view.extent(node)
    low, high = _padded(view, node)
    view.constant(node, 2)
    mode = str(node.attributes.get("mode", "constant"))
    if mode != "constant" and (low[x.axis] or high[x.axis]):
        raise NotLocalError(f"it continues the window by {mode!r}")
    return LocalRule(x.axis, {node.inputs[0]: Reach(before=low[x.axis])})


def _sliced(view: View, node: Node) -> dict[int, tuple[int, int, int]]:
    """Return start, end and step of the axes that a Slice cuts."""
    starts, ends, axes, steps = (view.constant(node, place) for place in range(1, 5))
    assert starts is not None
    assert ends is not None
    shape = view.shape(node.inputs[0])
    where = range(starts.size) if axes is None else [int(axis) % len(shape) for axis in axes.ravel()]
    strides = [1] * starts.size if steps is None else [int(step) for step in steps.ravel()]
    cuts = zip(starts.ravel().tolist(), ends.ravel().tolist(), strides, strict=True)
    return dict(zip(where, cuts, strict=True))


def _slice(view: View, node: Node) -> LocalRule:
    x = view.extent(node)
    start, _, step = _sliced(view, node).get(x.axis, (0, 0, 1))
    if step < 1:
        raise NotLocalError("it turns the columns around")
    start = max(start + x.length, 0) if start < 0 else min(start, x.length)
    return LocalRule(x.axis, {node.inputs[0]: Reach(1, step, -start)})


# -- elements ----------------------------------------------------------------------------------------


def _elements(view: View, node: Node) -> LocalRule:
    shape = view.shape(node.outputs[0])
    reads: dict[str, Reach] = {}
    axes = set()
    for name in filter(None, node.inputs):
        if name in view.extents:
            reads[name] = _SAME
            axes.add(view.extents[name].axis + len(shape) - len(view.shape(name)))
    if len(axes) != 1:
        raise NotLocalError("its operands have their columns along two axes")
    (axis,) = axes
    for name in filter(None, node.inputs):
        own = view.shape(name)
        place = axis - (len(shape) - len(own))
        if name not in reads and place >= 0 and own[place] != 1:
            raise NotLocalError(f"`{name}` has a number of its own for each column of the window")
    return LocalRule(axis, reads)


def _joined(view: View, node: Node) -> LocalRule:
    rank = len(view.shape(node.outputs[0]))
    extents = [view.extent(node, place) for place in range(len(node.inputs))]
    axis = extents[0].axis
    if int(node.attributes["axis"]) % rank == axis:
        raise NotLocalError("it puts columns behind columns")
    if any(extent.axis != axis for extent in extents):
        raise NotLocalError("its operands have their columns along two axes")
    return LocalRule(axis, dict.fromkeys(node.inputs, _SAME))


def _split(view: View, node: Node) -> LocalRule:
    x = view.extent(node)
    if int(node.attributes.get("axis", 0)) % len(view.shape(node.inputs[0])) == x.axis:
        raise NotLocalError("it divides the window")
    return LocalRule(x.axis, {node.inputs[0]: _SAME})


def _gather(view: View, node: Node) -> LocalRule:
    x, index = view.extent(node), view.constant(node, 1)
    assert index is not None
    axis = int(node.attributes.get("axis", 0)) % len(view.shape(node.inputs[0]))
    if axis == x.axis:
        raise NotLocalError("it picks columns of the window")
    return LocalRule(x.axis + (index.ndim - 1) * (axis < x.axis), {node.inputs[0]: _SAME})


def _softmax(view: View, node: Node) -> LocalRule:
    x = view.extent(node)
    if int(node.attributes.get("axis", -1)) % len(view.shape(node.inputs[0])) == x.axis:
        raise _mixes(x.axis)
    return LocalRule(x.axis, {node.inputs[0]: _SAME})


def _reduction(view: View, node: Node) -> LocalRule:
    x, axes = view.extent(node), view.constant(node, 1)
    rank = len(view.shape(node.inputs[0]))
    chosen = (
        {int(axis) % rank for axis in axes.ravel()} if axes is not None and axes.size else set(range(rank))
    )
    if x.axis in chosen:
        raise _mixes(x.axis)
    gone = 0 if node.attributes.get("keepdims", 1) else sum(axis < x.axis for axis in chosen)
    return LocalRule(x.axis - gone, {node.inputs[0]: _SAME})


def _matmul(view: View, node: Node) -> LocalRule:
    x, weights = view.extent(node), view.constant(node, 1)
    rank = len(view.shape(node.inputs[0]))
    if x.axis == rank - 1:
        raise _mixes(x.axis)
    if weights is None or weights.ndim != 2 or len(node.inputs) > 2:
        raise NotLocalError("it multiplies by more than one matrix")
    return LocalRule(x.axis, {node.inputs[0]: _SAME})


# -- layout ------------------------------------------------------------------------------------------


def _transpose(view: View, node: Node) -> LocalRule:
    x = view.extent(node)
    order = node.attributes.get("perm") or tuple(range(len(view.shape(node.inputs[0]))))[::-1]
    return LocalRule(list(order).index(x.axis), {node.inputs[0]: _SAME})


def _reshape(view: View, node: Node) -> LocalRule:
    x = view.extent(node)
    before, after = view.shape(node.inputs[0]), view.shape(node.outputs[0])
    size = math.prod(before[: x.axis])
    for axis, length in enumerate(after):
        if length == x.length and math.prod(after[:axis]) == size:
            return LocalRule(axis, {node.inputs[0]: _SAME})
    raise NotLocalError("it joins the axis of time with another one")


_MIXING: Final = frozenset(("Gemm", "LSTM", "GRU"))

_RULES: Final[Mapping[str, _Rule]] = {
    "Conv": _conv,
    **dict.fromkeys(("MaxPool", "AveragePool"), _pool),
    **dict.fromkeys(("GlobalAveragePool", "GlobalMaxPool"), _global_pool),
    "Pad": _pad,
    "Slice": _slice,
    **dict.fromkeys((*UNARY, *BINARY, "Clip", "Gelu", "Swish", "Sum"), _elements),
    "Concat": _joined,
    "Split": _split,
    "Gather": _gather,
    **dict.fromkeys(("Softmax", "LogSoftmax"), _softmax),
    **dict.fromkeys(REDUCTIONS, _reduction),
    "MatMul": _matmul,
    "Transpose": _transpose,
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), _reshape),
}


# -- some columns of what a node makes ---------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _PieceCut:
    """What is known of some columns that are to be made.

    Attributes
    ----------
    rule : LocalRule
    count : int
        Columns.
    ends : tuple of int
        Of padding, before the columns that are read and behind them.
    constant : callable
        Adds a constant and returns its name.
    """

    rule: LocalRule
    count: int
    ends: tuple[int, int]
    constant: Callable[[Array], str]


def piece_of(
    view: View,
    node: Node,
    rule: LocalRule,
    count: int,
    ends: tuple[int, int],
    constant: Callable[[Array], str],
) -> Node:
    """Return a node that makes some columns, of just those columns that these read.

    Parameters
    ----------
    view : View
    node : Node
        With its own operands and results.
    rule : LocalRule
    count : int
        Columns to be made.
    ends : tuple of int
        Of padding, before the columns that are read and behind them.
    constant : callable
        Adds a constant to the graph and returns its name.

    Returns
    -------
    Node
        With the operands and results of `node`, which the caller gives other names.
    """
    cut = _PIECES.get(node.op)
    return node if cut is None else cut(view, node, _PieceCut(rule, count, ends, constant))


def _window_piece(view: View, node: Node, cut: _PieceCut) -> Node:
    axis = view.extents[node.inputs[0]].axis - 2
    pads = list(node.attributes["pads"])
    pads[axis], pads[axis + len(pads) // 2] = cut.ends
    made = node.and_attributes(pads=tuple(pads))
    return made.and_attributes(of_columns=1) if node.op == "Conv" else made


def _pad_piece(view: View, node: Node, cut: _PieceCut) -> Node:
    low, high = _padded(view, node)
    low[cut.rule.axis], high[cut.rule.axis] = cut.ends
    if not any((*low, *high)):
        return _cut_along(node, cut, {cut.rule.axis: (0, _END, 1)})
    value = _operand(node, 2)
    pads = cut.constant(np.array((*low, *high), np.int64))
    return node.with_(inputs=(node.inputs[0], pads, *((value,) if value else ())))


def _slice_piece(view: View, node: Node, cut: _PieceCut) -> Node:
    cuts = _sliced(view, node)
    if cut.rule.axis in cuts:
        cuts[cut.rule.axis] = (0, _END, cuts[cut.rule.axis][2])
    return _cut_along(node, cut, cuts)


def _cut_along(node: Node, cut: _PieceCut, cuts: Mapping[int, tuple[int, int, int]]) -> Node:
    columns: Sequence[Sequence[int]] = [*zip(*cuts.values(), strict=True)]
    lists = (columns[0], columns[1], list(cuts), columns[2])
    names = [cut.constant(np.array(numbers, np.int64)) for numbers in lists]
    return node.with_(op="Slice", inputs=(node.inputs[0], *names), attributes={})


def _reshape_piece(view: View, node: Node, cut: _PieceCut) -> Node:
    shape = list(view.shape(node.outputs[0]))
    shape[cut.rule.axis] = cut.count
    name = cut.constant(np.array(shape, np.int64))
    return node.with_(op="Reshape", inputs=(node.inputs[0], name), attributes={})


_PIECES: Final[Mapping[str, Callable[[View, Node, _PieceCut], Node]]] = {
    **dict.fromkeys(("Conv", "MaxPool", "AveragePool"), _window_piece),
    "Pad": _pad_piece,
    "Slice": _slice_piece,
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), _reshape_piece),
}
