"""Nodes behind a layer that are folded into it: a batch norm, factors and addends of its channels."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from ..._base.types import Array
from ..model.graph import GraphIndex, attributes, is_standard
from .nodes import ConvNode

__all__ = ["with_folds"]

# Nodes that are folded into one layer, at most.
_MOST: Final = 4

_DTYPES: Final = ("float16", "float32", "float64")


def with_folds(graph: GraphIndex, node: ConvNode) -> ConvNode:
    """Return a node with what alone reads its result folded in, as long as that is one linear step more.

    Parameters
    ----------
    graph : GraphIndex
    node : ConvNode

    Returns
    -------
    ConvNode
    """
    for _ in range(_MOST):
        number = graph.only_reader(node.gives)
        step = None if number is None else _step(graph, node, number)
        if step is None or number is None:
            break
        scale, shift, sources = step
        bias = np.zeros(len(scale)) if node.bias is None else node.bias
        node = replace(
            node,
            folded=(*node.folded, number),
            gives=graph.nodes[number].output[0],
            weights=node.weights * scale.reshape(-1, *(1,) * (node.weights.ndim - 1)),
            bias=bias * scale + shift,
            sources=(*node.sources, *sources),
        )
    return node


def _step(graph: GraphIndex, node: ConvNode, number: int) -> tuple[Array, Array, tuple[str, ...]] | None:
    """Return scale and shift of each channel that a node amounts to, and what holds them; or None."""
    after = graph.nodes[number]
    if not is_standard(after):
        return None
    if after.op_type == "BatchNormalization":
        return None if node.operator == "MatMul" else _norm(graph, node, number)
    if after.op_type not in ("Add", "Sub", "Mul", "Div") or len(after.input) != 2:
        return None
    first = after.input[0] == node.gives
    name = after.input[1 if first else 0]
    if name == node.gives or (after.op_type in ("Sub", "Div") and not first):
        return None
    values = _of_channels(graph, node, name)
    if values is None:
        return None
    ones, zeros = np.ones_like(values), np.zeros_like(values)
    with np.errstate(all="ignore"):
        scale, shift = {
            "Add": (ones, values),
            "Sub": (ones, -values),
            "Mul": (values, zeros),
            "Div": (1 / values, zeros),
        }[after.op_type]
    return (scale, shift, (graph.origin(name),)) if np.isfinite(scale).all() else None


def _of_channels(graph: GraphIndex, node: ConvNode, name: str) -> Array | None:
    """Return a constant as a number for each output channel, in float64; None if it is none."""
    constant = graph.constant(name) if graph.is_constant(name) else None
    if constant is None or constant.dtype.name not in _DTYPES:
        return None
    count, kernel = len(node.weights), node.weights.ndim - 2
    if constant.size == 1 and constant.ndim <= 1:
        return np.full(count, float(constant.reshape(())), np.float64)
    if node.factor is None:
        axes = (1, count, *(1,) * kernel)
        fits = constant.ndim <= len(axes) and (1,) * (len(axes) - constant.ndim) + constant.shape == axes
    elif node.factor.constant_first:
        fits = constant.shape == (count, 1)
    else:
        fits = constant.shape == (count,)
    return constant.astype(np.float64).reshape(-1) if fits else None


def _norm(graph: GraphIndex, node: ConvNode, number: int) -> tuple[Array, Array, tuple[str, ...]] | None:
    norm = graph.nodes[number]
    given = attributes(norm)
    if norm.input[0] != node.gives:
        return None
    if ("training_mode" in given and given["training_mode"].i) or any(norm.output[1:]):
        return None
    parts = [graph.constant(name) for name in norm.input[1:5]]
    if any(part is None or part.shape != (len(node.weights),) for part in parts):
        return None
    scale, shift, mean, variance = (np.asarray(part, np.float64) for part in parts)
    epsilon = given["epsilon"].f if "epsilon" in given else 1e-5
    if not np.all(variance + epsilon > 0):
        return None
    factor = scale / np.sqrt(variance + epsilon)
    return factor, shift - mean * factor, tuple(map(graph.origin, norm.input[1:5]))
