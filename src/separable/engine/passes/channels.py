"""Channel shuffles, and other constant orders of channels, become an order of the weights beside them."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ..._base.types import Array
from ..graph.ir import Graph, Node, Shape
from .draft import Draft
from .known import channels_of, group_of, is_bare, rank_of, real_constant, shape_of, whole_numbers

__all__ = ["channel_orders"]

_Order = tuple[int, ...]


class _Shuffle(NamedTuple):
    """Channel j of the result is channel `order[j]` of x."""

    x: str
    order: _Order


def channel_orders(graph: Graph) -> Graph:
    """Put orders of channels into the weights of the convolutions beside them.

    A shuffle (Reshape, Transpose, Reshape) or a Gather of all channels goes into the input channels of all
    that read it, or into the output channels of the convolution before it, where that is exact: all groups
    stay together. What is left of a shuffle is one Gather, and of orders in sequence as well.
    """
    draft = Draft.of(graph)
    for node in draft:
        shuffle = _shuffle(draft, node) if is_bare(node) and node.op in ("Gather", "Reshape") else None
        if shuffle is None:
            continue
        kept = draft.is_output(node.outputs[0])
        if not kept and (_read_in_order(draft, node, shuffle) or _made_in_order(draft, node, shuffle)):
            draft.drop([node])
            continue
        joined = _joined(draft, shuffle)
        if node.op == "Gather" and joined is None:
            continue
        x, order = shuffle if joined is None else joined
        indices = draft.add_constant(f"{node.outputs[0]}/order", np.array(order, np.int64))
        draft.replace(node, Node("Gather", (x, indices), node.outputs, {"axis": 1}))
        draft.drop(draft.unread(node.inputs))
    return draft.finished()


def _joined(draft: Draft, shuffle: _Shuffle) -> _Shuffle | None:
    """Return two orders of channels in sequence as one; None where there is no other before."""
    earlier = draft.maker(shuffle.x)
    first = _shuffle(draft, earlier) if earlier is not None and earlier.op == "Gather" else None
    return None if first is None else _Shuffle(first.x, tuple(first.order[index] for index in shuffle.order))


def _shuffle(draft: Draft, node: Node) -> _Shuffle | None:
    """Return an order of channels that ends at a node, or None."""
    if node.op == "Gather":
        order = whole_numbers(draft, node, 1)
        count, rank = channels_of(draft, node.inputs[0]), rank_of(draft, node.inputs[0])
        indices = draft.constant(node.inputs[1])
        if order is None or count is None or rank is None or rank < 3 or indices is None or indices.ndim != 1:
            return None
        if int(node.attributes.get("axis", 0)) % rank != 1:
            return None
        order = tuple(index % count for index in order if -count <= index < count)
        return _Shuffle(node.inputs[0], order) if sorted(order) == list(range(count)) else None
    turned = draft.maker(node.inputs[0])
    apart = draft.maker(turned.inputs[0]) if turned is not None and turned.op == "Transpose" else None
    if turned is None or apart is None or apart.op != "Reshape":
        return None
    if not (draft.only_reader(node.inputs[0]) and draft.only_reader(turned.inputs[0])):
        return None
    x = apart.inputs[0]
    before, between, after = (shape_of(draft, name) for name in (x, apart.outputs[0], node.outputs[0]))
    if before is None or len(before) < 3:
        return None
    between = between or _reshaped(draft, apart, before)
    after = after or _reshaped(draft, node, before)
    if between is None or after != before or len(between) != len(before) + 1:
        return None
    groups, per_group = between[1:3]
    if not isinstance(groups, int) or not isinstance(per_group, int) or groups * per_group != before[1]:
        return None
    perm = tuple(turned.attributes.get("perm", ()))
    if perm != (0, 2, 1, *range(3, len(between))) or (before[0], *before[2:]) != (between[0], *between[3:]):
        return None
    return _Shuffle(x, tuple(np.arange(groups * per_group).reshape(groups, per_group).T.ravel().tolist()))


def _reshaped(draft: Draft, node: Node, given: Shape) -> Shape | None:
    """Return the shape that a Reshape of given lengths gives, where its one open length is the same.

    Of an open length, only the first axis is followed: that of the samples.
    """
    target = whole_numbers(draft, node, 1)
    rest = given[1:]
    if target is None or len(target) < 2 or (node.attributes.get("allowzero", 0) and 0 in target):
        return None
    if not all(isinstance(length, int) for length in rest) or min(target[1:]) < 1:
        return None
    same = math.prod(int(length) for length in rest) == math.prod(target[1:])
    return (given[0], *target[1:]) if same and target[0] in (0, -1, given[0]) else None


def _read_in_order(draft: Draft, node: Node, shuffle: _Shuffle) -> bool:
    """Let all that read a shuffled tensor read the one before it; return whether they can."""
    name = node.outputs[0]
    readers = tuple(dict.fromkeys(draft.readers(name)))
    back = np.argsort(np.array(shuffle.order))
    new = []
    for conv in readers:
        weights = real_constant(draft, conv.inputs[1]) if conv.op == "Conv" else None
        scaled = len(conv.inputs) > 4 and bool(conv.inputs[4])
        if weights is None or scaled or conv.inputs[0] != name or name in conv.inputs[1:]:
            return False
        groups = group_of(conv)
        if not _stays(shuffle.order, groups):
            return False
        per_group = weights.shape[1]
        inside = (back.reshape(groups, per_group) % per_group).repeat(len(weights) // groups, axis=0)
        new.append(np.take_along_axis(weights, inside.reshape(*inside.shape, *(1,) * (weights.ndim - 2)), 1))
    for conv, weights in zip(readers, new, strict=True):
        changed = draft.add_constant(f"{conv.inputs[1]}/ordered", weights)
        draft.replace(conv, conv.with_(inputs=(shuffle.x, changed, *conv.inputs[2:])))
    return bool(readers)


def _made_in_order(draft: Draft, node: Node, shuffle: _Shuffle) -> bool:
    """Let the convolution before a shuffle make its channels in that order; return whether it can."""
    conv = draft.maker(shuffle.x)
    if conv is None or conv.op != "Conv" or len(conv.outputs) > 1 or draft.only_reader(shuffle.x) is None:
        return False
    weights = real_constant(draft, conv.inputs[1])
    biased = len(conv.inputs) > 2 and bool(conv.inputs[2])
    bias = real_constant(draft, conv.inputs[2]) if biased else None
    residual = len(conv.inputs) > 3 and bool(conv.inputs[3])
    if weights is None or (biased and bias is None) or residual:
        return False
    if not _stays(shuffle.order, group_of(conv)):
        return False
    inputs = list(conv.inputs)
    for place, values in ((1, weights), (2, bias)):
        if values is not None:
            ordered: Array = values[list(shuffle.order)]
            inputs[place] = draft.add_constant(f"{conv.inputs[place]}/ordered", ordered)
    draft.replace(conv, conv.with_(inputs=tuple(inputs)))
    draft.redirect(node.outputs[0], shuffle.x)
    return True


def _stays(order: _Order, groups: int) -> bool:
    """Return whether an order of channels leaves each of them in its group."""
    per_group = len(order) // groups
    return all(index // per_group == place // per_group for place, index in enumerate(order))
