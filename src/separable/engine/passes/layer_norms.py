"""Layer normalisation, recognised in the arithmetic that exporters write."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..graph.ir import Graph, Node
from .draft import Draft
from .known import axes_of, is_bare, real_constant, scalar, shape_of, whole_numbers

__all__ = ["layer_norms"]


class _Core(NamedTuple):
    """What is left of a tensor after its mean, divided by its deviation along the last axis.

    Its length is None where it is open: weights tell it then.
    """

    x: str
    epsilon: float
    length: int | None


def layer_norms(graph: Graph) -> Graph:
    """Write (x - mean) / sqrt(variance + epsilon), times weights and plus bias where given, as one node.

    It is LayerNormalization over the last axis. What lies inside the pattern is read by nothing else. While
    the length of that axis is open, weights tell it: a call in which it is 1 then, where all results are the
    bias, is an error.
    """
    draft = Draft.of(graph)
    for node in draft:
        core = _core(draft, node) if node.op == "Div" and is_bare(node) else None
        if core is None:
            continue
        last, weights = _step(draft, node, "Mul", core.length)
        length = core.length
        if length is None:
            values = draft.constant(weights)
            if values is None:
                continue
            length = values.size
        last, bias = _step(draft, last, "Add", length)
        if not weights:
            kind = draft.type_of(core.x)
            dtype = np.dtype(np.float32) if kind is None else kind.dtype
            weights = draft.add_constant(f"{last.outputs[0]}/ones", np.ones(length, dtype))
        inputs = (core.x, weights, *([bias] if bias else []))
        new = Node("LayerNormalization", inputs, last.outputs, {"axis": -1, "epsilon": core.epsilon})
        draft.replace(last, new)
        draft.drop(draft.unread(last.inputs))
    return draft.finished()


def _core(draft: Draft, node: Node) -> _Core | None:
    """Return what a division normalises, or None."""
    centred, deviation = node.inputs
    minus, root = draft.maker(centred), _inside(draft, deviation, "Sqrt")
    total = None if root is None else _inside(draft, root.inputs[0], "Add")
    if minus is None or minus.op != "Sub" or not is_bare(minus) or total is None:
        return None
    variance, epsilon = total.inputs
    if draft.constant(variance) is not None:
        variance, epsilon = epsilon, variance
    small = scalar(draft, epsilon, variance)
    x, mean = minus.inputs
    shape = shape_of(draft, x)
    length = shape[-1] if shape else None
    square = draft.maker(variance)
    square = None if square is None else draft.maker(square.inputs[0])
    if small is None or shape == () or square is None:
        return None
    rank = None if shape is None else len(shape)
    means = ((mean, x), (variance, square.outputs[0]))
    if not all(_is_mean(draft, name, of, rank) for name, of in means) or not _squares(draft, square, centred):
        return None
    alone = draft.only_reader(square.outputs[0]) is not None and not draft.is_output(centred)
    if not alone or any(reader not in (node, square) for reader in draft.readers(centred)):
        return None
    return _Core(x, small, length if isinstance(length, int) else None)


def _inside(draft: Draft, name: str, op: str) -> Node | None:
    """Return the node of an operation whose result only the pattern reads."""
    node = draft.maker(name)
    fits = node is not None and node.op == op and is_bare(node) and draft.only_reader(name) is not None
    return node if fits else None


def _is_mean(draft: Draft, mean: str, x: str, rank: int | None) -> bool:
    """Return whether only the pattern reads the mean of a tensor along its last axis."""
    node = _inside(draft, mean, "ReduceMean")
    if node is None or node.inputs[0] != x or not node.attributes.get("keepdims", 1):
        return False
    if rank is None:
        return whole_numbers(draft, node, 1, "axes") == (-1,)
    return axes_of(draft, node, rank) == (rank - 1,)


def _squares(draft: Draft, node: Node, x: str) -> bool:
    """Return whether a node squares a tensor."""
    if not is_bare(node) or node.inputs[0] != x:
        return False
    return (node.op == "Mul" and node.inputs[1] == x) or (
        node.op == "Pow" and scalar(draft, node.inputs[1], x) == 2.0
    )


def _step(draft: Draft, node: Node, op: str, length: int | None) -> tuple[Node, str]:
    """Return the product or sum with one constant for each feature that follows, and that constant's name."""
    result = node.outputs[0]
    after = draft.only_reader(result)
    if after is None or after.op != op or not is_bare(after):
        return node, ""
    other = after.inputs[1] if after.inputs[0] == result else after.inputs[0]
    values = real_constant(draft, other)
    if values is None or values.ndim != 1:
        return node, ""
    fits = values.size == length if length is not None else values.size > 1
    return (after, other) if fits else (node, "")
