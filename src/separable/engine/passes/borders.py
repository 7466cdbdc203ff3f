"""Borders of zeros are added by the convolution or pool that reads them."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..graph.ir import Graph, Node
from .draft import Draft
from .known import activation_of, pads_of, rank_of, scalar, whole_numbers

__all__ = ["pads"]


def pads(graph: Graph) -> Graph:
    """Let convolutions and pools add the zeros that a Pad before them adds."""
    draft = Draft.of(graph)
    for node in draft:
        border = _zeros(draft, node) if node.op == "Pad" else None
        if border is None:
            continue
        for reader in tuple(draft.readers(node.outputs[0])):
            better = _padded(draft, reader, node, border)
            if better is not None:
                draft.replace(reader, better)
        draft.drop(draft.unread(node.outputs))
    return draft.finished()


def _zeros(draft: Draft, node: Node) -> tuple[int, ...] | None:
    """Return how many zeros a Pad adds at the low ends, then at the high ends, of the spatial axes."""
    rank = rank_of(draft, node.inputs[0])
    amounts = whole_numbers(draft, node, 1, "pads")
    value = 0.0
    if len(node.inputs) > 2 and node.inputs[2]:
        found = scalar(draft, node.inputs[2], node.inputs[0])
        value = np.nan if found is None else found
    if node.attributes.get("mode", "constant") != "constant" or value != 0 or amounts is None:
        return None
    axes: tuple[int, ...] | None = tuple(range(len(amounts) // 2))
    if len(node.inputs) > 3 and node.inputs[3]:
        axes = whole_numbers(draft, node, 3)
        if axes is None or (rank is None and min(axes, default=0) < 0):
            return None
    else:
        rank = len(amounts) // 2
    if rank is None or axes is None or rank < 3 or min(amounts, default=0) < 0:
        return None
    low, high = [0] * rank, [0] * rank
    for axis, before, behind in zip(axes, amounts, amounts[len(axes) :], strict=False):
        low[axis % rank], high[axis % rank] = before, behind
    return None if any((*low[:2], *high[:2])) else (*low[2:], *high[2:])


def _padded(draft: Draft, reader: Node, pad: Node, border: tuple[int, ...]) -> Node | None:
    """Return a reader of a Pad that adds the zeros itself, or None where it cannot."""
    if reader.op not in ("Conv", "AveragePool", "MaxPool") or reader.inputs[0] != pad.outputs[0]:
        return None
    if pad.outputs[0] in reader.inputs[1:] or len(reader.outputs) > (2 if reader.op == "Conv" else 1):
        return None
    own = pads_of(reader)
    if own is None:
        return None
    both = tuple(first + second for first, second in zip(own, border, strict=True))
    more: dict[str, Any] = {"pads": both}
    if reader.op != "Conv" and reader.attributes.get("ceil_mode", 0):
        return None  # the last window may leave the padded input: those positions count otherwise
    if reader.op == "AveragePool":
        if any(own) and not reader.attributes.get("count_include_pad", 0):
            return None
        more["count_include_pad"] = 1
    if reader.op == "MaxPool" and not (_never_negative(draft, pad.inputs[0]) and _meets(reader, both)):
        return None
    inputs = (pad.inputs[0], *reader.inputs[1:])
    return reader.with_(inputs=inputs).and_attributes(**more)


def _never_negative(draft: Draft, name: str) -> bool:
    """Return whether a tensor is known to hold no negative values: then a zero changes no maximum."""
    node = draft.maker(name)
    if node is None or name != node.outputs[0]:
        return False
    if activation_of(node) != "none":
        after_sum = node.attributes.get("add") == "after" and len(node.inputs) > 3 and node.inputs[3]
        return activation_of(node) in ("relu", "relu6", "sigmoid", "hard_sigmoid") and not after_sum
    if node.op == "Clip":
        low = (
            scalar(draft, node.inputs[1], node.inputs[0]) if len(node.inputs) > 1 and node.inputs[1] else None
        )
        return low is not None and low >= 0
    return node.op in ("Relu", "Sigmoid", "HardSigmoid")


def _meets(pool: Node, border: tuple[int, ...]) -> bool:
    """Return whether each window of a pool holds at least one value of its input."""
    kernel = pool.attributes["kernel_shape"]
    return set(pool.attributes.get("dilations", (1,))) == {1} and all(
        amount < length for amount, length in zip(border, (*kernel, *kernel), strict=True)
    )
