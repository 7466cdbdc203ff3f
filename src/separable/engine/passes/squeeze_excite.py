"""Squeeze-excite: means taken where a convolution stores, scales applied where the next one reads."""

from __future__ import annotations

import numpy as np

from ..graph.ir import Graph, Node, TensorType
from .draft import Draft
from .known import axes_of, channels_of, group_of, is_bare, is_pooled, rank_of, shape_of

__all__ = ["gate_sums", "means", "scales"]


def means(graph: Graph) -> Graph:
    """Let a convolution give the mean of its result over the spatial axes as a second output.

    GlobalAveragePool and ReduceMean take it, whoever else reads the result. A ReduceMean that drops the axes
    becomes a Flatten of the mean.
    """
    draft = Draft.of(graph)
    for node in draft:
        if not is_bare(node) or node.op not in ("GlobalAveragePool", "ReduceMean"):
            continue
        x = node.inputs[0]
        conv, rank = draft.maker(x), rank_of(draft, x)
        if conv is None or conv.op != "Conv" or rank is None or conv.outputs[0] != x:
            continue
        kept = node.op == "GlobalAveragePool" or bool(node.attributes.get("keepdims", 1))
        if node.op == "ReduceMean" and axes_of(draft, node, rank) != tuple(range(2, rank)):
            continue
        mean = conv.outputs[1] if len(conv.outputs) > 1 else ""
        if kept and not mean:
            draft.replace(node)
            draft.replace(conv, conv.with_(outputs=(x, *node.outputs)))
            continue
        mean = mean or _second_output(draft, conv, rank)
        if not kept:
            draft.replace(node, Node("Flatten", (mean,), node.outputs, {"axis": 1}))
        elif draft.is_output(node.outputs[0]):
            draft.replace(node, Node("Identity", (mean,), node.outputs))
        else:
            draft.redirect(node.outputs[0], mean)
            draft.replace(node)
    return draft.finished()


def _second_output(draft: Draft, conv: Node, rank: int) -> str:
    """Give a convolution a second output, and return its name."""
    x = conv.outputs[0]
    mean = draft.new_name(f"{x}/mean")
    kind = draft.type_of(x)
    if kind is not None:
        draft.set_type(mean, TensorType(kind.dtype, (*kind.shape[:2], *(1,) * (rank - 2))))
    draft.replace(conv, conv.with_(outputs=(x, mean)))
    return mean


def gate_sums(graph: Graph) -> Graph:
    """Write a tensor plus itself times a gate as the tensor times (gate + 1): the sum is over means alone."""
    draft = Draft.of(graph)
    for node in draft:
        for x, product in (node.inputs, node.inputs[::-1]) if node.op == "Add" else ():
            mul = draft.maker(product)
            if mul is None or mul.op != "Mul" or not is_bare(mul) or draft.only_reader(product) is not node:
                continue
            gate = mul.inputs[1] if mul.inputs[0] == x else mul.inputs[0]
            kind = draft.type_of(gate)
            if x not in mul.inputs or kind is None or not _gates(draft, x, gate):
                continue
            more = draft.new_name(f"{gate}/more")
            draft.set_type(more, kind)
            one = draft.add_constant(f"{gate}/one", np.ones((), kind.dtype))
            draft.replace(mul, Node("Add", (gate, one), (more,)))
            draft.replace(node, node.with_(op="Mul", inputs=(x, more)))
            break
    return draft.finished()


def scales(graph: Graph) -> Graph:
    """Let convolutions multiply what they read by one number a channel, in place of a Mul.

    All readers of the product are convolutions of one group. Zeros that they pad stay zeros.
    """
    draft = Draft.of(graph)
    for node in draft:
        if node.op != "Mul" or not is_bare(node) or draft.is_output(node.outputs[0]):
            continue
        product = node.outputs[0]
        readers = tuple(draft.readers(product))
        gated = next((pair for pair in (node.inputs, node.inputs[::-1]) if _gates(draft, *pair)), None)
        if gated is None or not readers or not all(_scales(reader, product) for reader in readers):
            continue
        for conv in readers:
            inputs = (*conv.inputs, "", "")[:4]
            draft.replace(conv, conv.with_(inputs=(gated[0], *inputs[1:], gated[1])))
        draft.replace(node)
    return draft.finished()


def _scales(conv: Node, name: str) -> bool:
    """Return whether a convolution can scale a tensor that it reads."""
    return (
        conv.op == "Conv"
        and group_of(conv) == 1
        and conv.inputs[0] == name
        and name not in conv.inputs[1:]
        and not (len(conv.inputs) > 4 and conv.inputs[4])
    )


def _gates(draft: Draft, x: str, gate: str) -> bool:
    """Return whether a tensor is known to hold one number for each sample and channel of another."""
    if draft.constant(gate) is not None or draft.constant(x) is not None or not is_pooled(draft, gate):
        return False
    rank, channels = rank_of(draft, x), channels_of(draft, x)
    if rank not in (3, 4) or rank_of(draft, gate) != rank:
        return False
    if channels is None or channels_of(draft, gate) != channels:
        return False
    shapes = shape_of(draft, x), shape_of(draft, gate)
    if shapes[0] is not None and shapes[1] is not None:
        return shapes[0][0] == shapes[1][0]
    return _squeezed(draft, gate) == x


def _squeezed(draft: Draft, gate: str) -> str | None:
    """Return the tensor whose mean a gate is computed of, step by step, each of one operand."""
    while True:
        node = draft.maker(gate)
        if node is None:
            return None
        if node.op == "GlobalAveragePool":
            return node.inputs[0]
        if gate in node.outputs[1:]:
            return node.outputs[0] if node.op == "Conv" else None
        if node.op == "Conv" and len(node.inputs) > 3 and node.inputs[3]:
            return None
        gate = node.inputs[0]
        if node.op not in ("Conv", "Clip", "HardSigmoid", "HardSwish", "Relu", "Sigmoid", "Swish", "Tanh"):
            return None
