"""What is known of a tensor without running anything: rank, channels, length one, plain nodes, scalars."""

from __future__ import annotations

from typing import Final

import numpy as np

from ..._base.types import Array
from ..graph.ir import Node, Shape
from ..graph.shapes.operands import integers_of
from .draft import Draft

__all__ = [
    "activation_of",
    "axes_of",
    "channels_of",
    "group_of",
    "is_bare",
    "is_pooled",
    "pads_nothing",
    "pads_of",
    "rank_of",
    "real_constant",
    "same_shape",
    "scalar",
    "shape_of",
    "whole_numbers",
]

# Operations of one tensor whose result has its shape.
_UNARY: Final = """
    Abs BatchNormalization Cast Ceil Clip Dropout Elu Erf Exp Floor Gelu HardSigmoid HardSwish Identity
    InstanceNormalization LeakyRelu Log LogSoftmax Mish Neg PRelu Reciprocal Relu Round Selu Sigmoid Softmax
    Softplus Sqrt Swish Tanh
"""
UNARY: Final = frozenset(_UNARY.split())
# Those that change the spatial lengths alone.
SPATIAL: Final = frozenset({"AveragePool", "GlobalAveragePool", "GlobalMaxPool", "MaxPool"})


def activation_of(node: Node) -> str:
    """Return the name of the activation that a node applies to its result; "none" by default."""
    return str(node.attributes.get("activation", "none"))


def is_bare(node: Node) -> bool:
    """Return whether a node does what ONNX says of it and nothing more: one result, nothing applied to it."""
    return (
        len(node.outputs) == 1
        and activation_of(node) == "none"
        and not (node.op == "Conv" and len(node.inputs) > 3 and node.inputs[3])
    )


def group_of(node: Node) -> int:
    """Return the number of groups of a convolution."""
    return int(node.attributes.get("group", 1))


def pads_of(node: Node) -> tuple[int, ...] | None:
    """Return how much a convolution or pool pads; None while that depends on open lengths."""
    if node.attributes.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return None
    found = node.attributes.get("pads")
    return None if found is None else tuple(found)


def pads_nothing(node: Node) -> bool:
    """Return whether a convolution or pool is known to pad nothing."""
    return not any(pads_of(node) or (1,))


def rank_of(draft: Draft, name: str) -> int | None:
    """Return the number of a tensor's axes, or None where it is not known."""
    while True:
        kind = draft.type_of(name)
        if kind is not None:
            return len(kind.shape)
        node = draft.maker(name)
        if node is None:
            return None
        if node.op in ("Conv", "ConvTranspose"):
            weights = draft.type_of(node.inputs[1])
            return None if weights is None else len(weights.shape)
        if node.op == "Gemm":
            return 2
        if node.op not in UNARY | SPATIAL:
            return None
        name = node.inputs[0]


def channels_of(draft: Draft, name: str) -> int | None:
    """Return the length of a tensor's second axis, or None where it is open or not known."""
    while True:
        kind = draft.type_of(name)
        if kind is not None and len(kind.shape) > 1 and isinstance(kind.shape[1], int):
            return kind.shape[1]
        node = draft.maker(name)
        if node is None:
            return None
        if node.op == "Conv":
            weights = draft.constant(node.inputs[1])
            return None if weights is None else len(weights)
        if node.op not in UNARY | SPATIAL:
            return None
        name = node.inputs[0]


def shape_of(draft: Draft, name: str) -> Shape | None:
    """Return a shape all of whose lengths have a value or a name; None otherwise."""
    kind = draft.type_of(name)
    return kind.shape if kind is not None and "" not in kind.shape else None


def same_shape(draft: Draft, first: str, second: str) -> bool:
    """Return whether two tensors are known to have one shape: nothing is broadcast between them."""
    shape = shape_of(draft, first)
    return shape is not None and shape == shape_of(draft, second)


def is_pooled(draft: Draft, name: str) -> bool:
    """Return whether each spatial axis of a tensor is known to have length one."""
    while True:
        shape = shape_of(draft, name)
        if shape is not None and len(shape) > 2 and all(length == 1 for length in shape[2:]):
            return True
        node = draft.maker(name)
        if node is None:
            return False
        if node.op == "GlobalAveragePool" or (node.op == "Conv" and name in node.outputs[1:]):
            return True
        if node.op == "Conv":
            weights = draft.type_of(node.inputs[1])
            if weights is None or set(weights.shape[2:]) != {1} or not pads_nothing(node):
                return False
        elif node.op not in UNARY:
            return False
        name = node.inputs[0]


def real_constant(draft: Draft, name: str) -> Array | None:
    """Return the values of a constant in floating point, or None."""
    values = draft.constant(name)
    return values if values is not None and values.dtype.kind == "f" else None


def scalar(draft: Draft, name: str, beside: str) -> float | None:
    """Return the one value of a constant that gives its operand no further axis; None for all else.

    Parameters
    ----------
    draft : Draft
    name : str
    beside : str
        The other operand.
    """
    values = real_constant(draft, name)
    if values is None or values.size != 1:
        return None
    if values.ndim > 1:
        rank = rank_of(draft, beside)
        if rank is None or values.ndim > rank:
            return None
    return float(values.reshape(()))


def whole_numbers(draft: Draft, node: Node, place: int, attribute: str = "") -> tuple[int, ...] | None:
    """Return what a node reads as a list of numbers, as an input or as an attribute; None if not constant."""
    if attribute and attribute in node.attributes:
        return tuple(int(value) for value in np.ravel(node.attributes[attribute]))
    values = draft.constant(node.inputs[place]) if len(node.inputs) > place else None
    return None if values is None else tuple(integers_of(values))


def axes_of(draft: Draft, node: Node, rank: int) -> tuple[int, ...] | None:
    """Return the axes that a node works on, sorted and from zero; None where they are not known."""
    axes = whole_numbers(draft, node, 1, "axes")
    return None if axes is None else tuple(sorted(axis % rank for axis in axes))
