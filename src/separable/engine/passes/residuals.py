"""Sums of a convolution's result and another tensor: the convolution adds what was computed before."""

from __future__ import annotations

from ..graph.ir import Graph, Node
from .draft import Draft
from .known import activation_of, same_shape

__all__ = ["residuals"]


def residuals(graph: Graph) -> Graph:
    """Let a convolution whose result only an Add reads add the other operand.

    Both must be known to have one shape. Of two convolutions, the one that runs later adds; one whose other
    operand is made later moves behind it.
    """
    draft = Draft.of(graph)
    for node in draft:
        if node.op != "Add" or len(node.outputs) != 1 or not same_shape(draft, *node.inputs):
            continue
        candidates = []
        for name, other in (node.inputs, node.inputs[::-1]):
            conv = draft.maker(name)
            if conv is not None and _adds(draft, conv, node) and draft.constant(other) is None:
                candidates.append((draft.place(conv), conv, other))
        if candidates:
            place, conv, other = max(candidates, key=lambda candidate: candidate[0])
            made = draft.maker(other)
            late = made is not None and draft.place(made) >= place
            draft.replace(conv, _sum(conv, node, other), at=node if late else conv)
            draft.replace(node)
    return draft.finished()


def _adds(draft: Draft, conv: Node, node: Node) -> bool:
    """Return whether a convolution can do what an Add does: no second sum, mean or activation."""
    return (
        conv.op == "Conv"
        and len(conv.outputs) == 1
        and not (len(conv.inputs) > 3 and conv.inputs[3])
        and "none" in (activation_of(conv), activation_of(node))
        and draft.only_reader(conv.outputs[0]) is node
    )


def _sum(conv: Node, node: Node, other: str) -> Node:
    """Return a convolution that adds a tensor before the activation of the sum, or after its own."""
    inputs = (*conv.inputs, "", "", "")[:5]
    add = "before" if activation_of(conv) == "none" else "after"
    applied = {
        name: node.attributes[name]
        for name in ("activation", "low", "high", "alpha", "beta")
        if add == "before" and name in node.attributes
    }
    new = conv.with_(inputs=(*inputs[:3], other, *inputs[4:]) if inputs[4] else (*inputs[:3], other))
    return new.with_(outputs=node.outputs).and_attributes(**applied, add=add)
