"""What does nothing, is done twice or is undone at once; and one way to write what can be written in many."""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import Any, Final

import numpy as np

from ..._base.types import Array
from ..graph.ir import Graph, Node
from .draft import Draft
from .known import (
    activation_of,
    axes_of,
    channels_of,
    is_bare,
    is_pooled,
    pads_nothing,
    rank_of,
    real_constant,
    same_shape,
    shape_of,
    whole_numbers,
)

__all__ = ["dead", "duplicates", "layouts", "nothing_done", "pooled", "products", "sums"]


def dead(graph: Graph) -> Graph:
    """Drop nodes of which nothing is read, and constants that nothing reads."""
    draft = Draft.of(graph)
    draft.drop([node for node in graph.nodes if not any(_is_read(draft, name) for name in node.outputs)])
    finished = draft.finished()
    read = {name for node in finished.nodes for name in node.inputs} | set(graph.outputs)
    if finished.constants.keys() <= read:
        return finished
    constants = {name: values for name, values in finished.constants.items() if name in read}
    gone = finished.constants.keys() - read
    return finished.with_(
        constants=constants, types={name: kind for name, kind in finished.types.items() if name not in gone}
    )


def _is_read(draft: Draft, name: str) -> bool:
    return bool(draft.readers(name)) or draft.is_output(name)


def duplicates(graph: Graph) -> Graph:
    """Compute what several nodes compute alike once: same operation, tensors, small constants, attributes."""
    draft = Draft.of(graph)
    seen: dict[Hashable, list[Node]] = {}
    values = {name: _value(name, array) for name, array in graph.constants.items()}
    for node in draft:
        key = (node.op, len(node.outputs), *(values.get(name, name) for name in node.inputs))
        alike = seen.setdefault(key, [])
        first = next((earlier for earlier in alike if _told(earlier) == _told(node)), None)
        if first is None:
            alike.append(node)
        if first is None or node.op in _RANDOM or any(map(draft.is_output, node.outputs)):
            continue
        for name, same in zip(node.outputs, first.outputs, strict=True):
            if bool(name) == bool(same):
                draft.redirect(name, same)
        draft.drop(draft.unread(node.outputs))
    return draft.finished()


_RANDOM: Final = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)
_SMALL: Final = 64  # values: constants up to here are compared, larger ones by name


def _value(name: str, values: Array) -> Hashable:
    return name if values.size > _SMALL else _frozen(values)


def _told(node: Node) -> Hashable:
    return tuple(sorted((name, _frozen(value)) for name, value in node.attributes.items()))


def _frozen(value: Any) -> Hashable:
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    return type(value).__name__, value if isinstance(value, Hashable) else repr(value)


def nothing_done(graph: Graph) -> Graph:
    """Drop operations that hand on what they read: Identity, Dropout, Cast to the same, a Pad of nothing."""
    draft = Draft.of(graph)
    for node in draft:
        if node.op in _IDLE and activation_of(node) == "none" and _hands_on(draft, node):
            _skip(draft, node)
    return draft.finished()


_IDLE: Final = frozenset(
    {
        *("Cast", "Concat", "Dropout", "Expand", "Flatten", "Identity", "Pad", "Reshape", "Squeeze"),
        *("Sum", "Transpose", "Unsqueeze"),
    }
)


def _hands_on(draft: Draft, node: Node) -> bool:
    x = node.inputs[0]
    if any(_is_read(draft, name) for name in node.outputs[1:]):
        return False
    if node.op == "Identity":
        return True
    if node.op == "Dropout":
        training = draft.constant(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else np.zeros(1)
        return training is not None and not training.any()
    if node.op == "Cast":
        kinds = draft.type_of(x), draft.type_of(node.outputs[0])
        return kinds[0] is not None and kinds[1] is not None and kinds[0].dtype == kinds[1].dtype
    if node.op in ("Pad", "Transpose", "Concat", "Sum"):
        amounts = whole_numbers(draft, node, 1, "pads") if node.op == "Pad" else None
        perm = tuple(node.attributes.get("perm", (1, 0)))
        return {
            "Pad": amounts is not None and not any(amounts),
            "Transpose": perm == tuple(range(len(perm))),
            "Concat": len(node.inputs) == 1,
            "Sum": len(node.inputs) == 1,
        }[node.op]
    return same_shape(draft, x, node.outputs[0])


def _skip(draft: Draft, node: Node) -> None:
    """Let all that read the result of a node read its operand; what callers get keeps its name."""
    x, name = node.inputs[0], node.outputs[0]
    if not draft.is_output(name):
        draft.redirect(name, x)
        draft.replace(node)
        return
    maker = draft.maker(x)
    if maker is None or draft.is_output(x):
        return
    draft.replace(node)
    outputs = tuple(name if output == x else output for output in maker.outputs)
    draft.replace(maker, maker.with_(outputs=outputs))
    draft.redirect(x, name)


def layouts(graph: Graph) -> Graph:
    """Join Reshape, Flatten, Squeeze, Unsqueeze and Transpose that follow each other, or cancel them."""
    draft = Draft.of(graph)
    for node in draft:
        earlier = draft.maker(node.inputs[0]) if node.inputs and is_bare(node) else None
        if earlier is None or not is_bare(earlier):
            continue
        new: Node | None = None
        if node.op == earlier.op == "Transpose":
            new = _turned(node, earlier)
        elif node.op == "Reshape" and earlier.op in _RESHAPES:
            target = whole_numbers(draft, node, 1)
            if target is not None and (0 not in target or node.attributes.get("allowzero", 0)):
                new = node.with_(inputs=(earlier.inputs[0], *node.inputs[1:]))
        elif {node.op, earlier.op} == {"Squeeze", "Unsqueeze"} and _undoes(draft, node, earlier):
            new = Node("Identity", earlier.inputs[:1], node.outputs)
        if new is None:
            continue
        draft.replace(node, new)
        draft.drop(draft.unread(node.inputs))
        if new.op == "Identity":
            _skip(draft, new)
    return draft.finished()


_RESHAPES: Final = ("Flatten", "Reshape", "Squeeze", "Unsqueeze")


def _turned(node: Node, earlier: Node) -> Node | None:
    first, second = (tuple(step.attributes.get("perm", ())) for step in (earlier, node))
    if len(first) != len(second) or not first:
        return None
    perm = tuple(first[axis] for axis in second)
    if perm == tuple(range(len(perm))):
        return Node("Identity", earlier.inputs, node.outputs)
    return Node("Transpose", earlier.inputs, node.outputs, {"perm": perm})


def _undoes(draft: Draft, node: Node, earlier: Node) -> bool:
    """Return whether axes that were added are taken away again, or the other way round."""
    rank = rank_of(draft, earlier.inputs[0])
    first, second = (whole_numbers(draft, step, 1, "axes") for step in (earlier, node))
    if rank is None or not first or not second:
        return False
    wider = rank + len(first) if earlier.op == "Unsqueeze" else rank
    return axes_of(draft, earlier, wider) == axes_of(draft, node, wider)


def pooled(graph: Graph) -> Graph:
    """Write pools over everything as GlobalAveragePool, and what makes rows of their results as Flatten."""
    draft = Draft.of(graph)
    for node in draft:
        new: Node | None = None
        if node.op == "AveragePool" and is_bare(node):
            new = _over_all(draft, node)
        elif node.op == "ReduceMean" and is_bare(node) and node.attributes.get("keepdims", 1):
            rank = rank_of(draft, node.inputs[0])
            # Of three axes, the last holds features as often as positions.
            if rank is not None and rank > 3 and axes_of(draft, node, rank) == tuple(range(2, rank)):
                new = Node("GlobalAveragePool", node.inputs[:1], node.outputs)
        elif node.op in ("Reshape", "Squeeze") and _makes_rows(draft, node):
            new = Node("Flatten", node.inputs[:1], node.outputs, {"axis": 1})
        if new is not None:
            draft.replace(node, new)
    return draft.finished()


def _over_all(draft: Draft, node: Node) -> Node | None:
    shape = shape_of(draft, node.inputs[0])
    whole = shape is not None and shape[2:] == tuple(node.attributes["kernel_shape"]) and pads_nothing(node)
    return (
        Node("GlobalAveragePool", node.inputs, node.outputs)
        if whole and set(node.attributes.get("dilations", (1,))) == {1}
        else None
    )


def _makes_rows(draft: Draft, node: Node) -> bool:
    """Return whether (N, C, 1, ...) becomes (N, C)."""
    x = node.inputs[0]
    rank = rank_of(draft, x)
    if rank is None or rank < 3 or not is_pooled(draft, x):
        return False
    if node.op == "Squeeze":
        return axes_of(draft, node, rank) == tuple(range(2, rank))
    before, after = shape_of(draft, x), shape_of(draft, node.outputs[0])
    if before is not None and after is not None:
        return before[:2] == after
    target = whole_numbers(draft, node, 1)
    if target is None or len(target) != 2 or node.attributes.get("allowzero", 0):
        return False
    channels = channels_of(draft, x)
    same = target[1] == channels and channels is not None
    return (target[0] == 0 and (target[1] in (0, -1) or same)) or (target[0] == -1 and same)


def sums(graph: Graph) -> Graph:
    """Write a Sum of two tensors as Add."""
    draft = Draft.of(graph)
    for node in draft:
        if node.op == "Sum" and len(node.inputs) == 2:
            draft.replace(node, node.with_(op="Add"))
    return draft.finished()


def products(graph: Graph) -> Graph:
    """Write products of a matrix with constant weights as x times weights transposed, plus one bias a column.

    That is Gemm with transB = 1 and none of its other attributes. A MatMul becomes one where its operand is
    known to be a matrix.
    """
    draft = Draft.of(graph)
    for node in draft:
        if node.op not in ("Gemm", "MatMul"):
            continue
        weights = real_constant(draft, node.inputs[1])
        if weights is None or weights.ndim != 2:
            continue
        new = _gemm(draft, node, weights) if node.op == "Gemm" else _matmul(draft, node, weights)
        if new is not None:
            draft.replace(node, new)
    return draft.finished()


def _applied(node: Node) -> dict[str, Any]:
    kept = ("activation", "low", "high", "operands")
    return {name: node.attributes[name] for name in kept if name in node.attributes}


def _matmul(draft: Draft, node: Node, weights: Array) -> Node | None:
    if rank_of(draft, node.inputs[0]) != 2 or node.attributes.keys() & {"alpha", "beta"}:
        return None
    turned = draft.add_constant(f"{node.inputs[1]}/transposed", weights.T)
    return Node("Gemm", (node.inputs[0], turned), node.outputs, {**_applied(node), "transB": 1})


def _gemm(draft: Draft, node: Node, weights: Array) -> Node | None:
    """Return a Gemm in its normal form; None where it is, or has no constant bias of one number a column."""
    told = node.attributes
    alpha, beta = float(told.get("alpha", 1.0)), float(told.get("beta", 1.0))
    normal = {**_applied(node), "transB": 1}
    biased = len(node.inputs) > 2 and bool(node.inputs[2])
    bias = real_constant(draft, node.inputs[2]) if biased else None
    if told.get("transA", 0) or (biased and bias is None):
        return None
    columns = weights.shape[0 if told.get("transB", 0) else 1]
    if bias is not None and (bias.size not in (1, columns) or math.prod(bias.shape[:-1]) != 1):
        return None
    inputs = list(node.inputs[:2])
    if alpha != 1.0 or not told.get("transB", 0):
        right = weights if told.get("transB", 0) else weights.T
        scaled = right if alpha == 1.0 else (right * np.float64(alpha)).astype(weights.dtype)
        inputs[1] = draft.add_constant(f"{node.inputs[1]}/transposed", scaled)
    if bias is not None and beta != 0:
        if beta == 1.0 and bias.shape == (columns,):
            inputs.append(node.inputs[2])
        else:
            row = np.broadcast_to(bias.astype(np.float64).ravel() * beta, columns).astype(weights.dtype)
            inputs.append(draft.add_constant(f"{node.inputs[2]}/row", row))
    same = tuple(inputs) == tuple(name for name in node.inputs if name) and told.keys() == normal.keys()
    return None if same else Node("Gemm", tuple(inputs), node.outputs, normal)
