"""Operations on each element, and along axes, as native steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

import numpy as np

from .... import _core
from ...._base.types import Array
from ...graph.ir import Node
from ...recorded.tape import applied
from ..builder import Builder, UnsupportedError
from ..memory import Blocked, Held, Plain
from .convolutions import named_ending
from .recorded import append_step

__all__ = [
    "BINARY",
    "REDUCTIONS",
    "UNARY",
    "binary",
    "everywhere",
    "matmul",
    "on_each",
    "reduction",
    "softmax",
    "unary",
    "variadic",
]

BINARY: Final[Mapping[str, str]] = {
    "Add": "add",
    "Sub": "sub",
    "Mul": "mul",
    "Div": "div",
    "Pow": "pow",
    "Min": "min",
    "Max": "max",
    "PRelu": "prelu",
}

REDUCTIONS: Final[Mapping[str, str]] = {
    "ReduceSum": "sum",
    "ReduceMean": "mean",
    "ReduceMax": "max",
    "ReduceMin": "min",
    "ReduceProd": "prod",
    "ReduceL1": "l1",
    "ReduceL2": "l2",
    "ReduceSumSquare": "sum_square",
}

_Side: TypeAlias = tuple[Held, tuple[int, ...]]  # an operand, and its strides

_Parameters = Callable[[Mapping[str, Any]], tuple[float, float]]


def _none(_: Mapping[str, Any]) -> tuple[float, float]:
    return 0.0, 0.0


def _alpha(default: float) -> _Parameters:
    return lambda attributes: (float(attributes.get("alpha", default)), 0.0)


def _alpha_beta(attributes: Mapping[str, Any]) -> tuple[float, float]:
    return float(attributes.get("alpha", 0.2)), float(attributes.get("beta", 0.5))


def _alpha_gamma(attributes: Mapping[str, Any]) -> tuple[float, float]:
    alpha, gamma = 1.67326319217681884765625, 1.05070102214813232421875
    return float(attributes.get("alpha", alpha)), float(attributes.get("gamma", gamma))


# ONNX's functions of one number, with their names in the core and their parameters.
UNARY: Final[Mapping[str, tuple[str, _Parameters]]] = {
    **{
        op: (op.lower(), _none)
        for op in ("Relu", "Abs", "Neg", "Sign", "Sqrt", "Reciprocal", "Floor", "Ceil", "Round", "Exp", "Log")
    },
    **{op: (op.lower(), _none) for op in ("Erf", "Tanh", "Sigmoid", "Softplus", "Softsign", "Mish")},
    "LeakyRelu": ("leaky_relu", _alpha(0.01)),
    "ThresholdedRelu": ("thresholded_relu", _alpha(1.0)),
    "Elu": ("elu", _alpha(1.0)),
    "Selu": ("selu", _alpha_gamma),
    "HardSigmoid": ("hard_sigmoid", _alpha_beta),
    "HardSwish": ("hard_swish", _none),
    "Identity": ("none", _none),
}


def _elementwise(
    builder: Builder,
    kind: str,
    out: str,
    operation: str,
    sides: Sequence[_Side],
    target: Held,
    lengths: tuple[int, ...],
    ending: tuple[str, float, float] | None = None,
) -> None:
    """Append what makes each element of one or two others.

    Parameters
    ----------
    builder : Builder
    kind, out : str
        What it is called, and what it makes.
    operation : str
        The core's.
    sides : sequence of (Held, tuple of int)
        One operand, or two, with strides for these lengths.
    target : Held
    lengths : tuple of int
    ending : (str, float, float), optional
        A function of the result, and its parameters.
    """
    (a, a_strides), *others = sides
    b, b_strides = others[0] if others else (None, None)

    def add(program: Any) -> None:
        other = None if b is None else b.address
        append_step(
            program,
            _core.add_elementwise, operation, lengths,
            a.address, a_strides, other, b_strides, target.address, target.strides,
            ending,
        )  # fmt: skip

    builder.add(kind, out, [held for held, _ in sides], [target], add)


def on_each(
    builder: Builder,
    out: str,
    operation: str,
    sides: tuple[Plain, Plain],
    target: Plain,
    ending: tuple[str, float, float] | None = None,
) -> None:
    """Append an operation on two arrays that are read in the shape of the result."""
    kind = operation.replace("_", " ")
    _elementwise(
        builder, kind, out, operation, [(side, side.strides) for side in sides], target, target.shape, ending
    )


def everywhere(builder: Builder, value: float, shape: tuple[int, ...]) -> Plain:
    """Return a number as an array of a shape."""
    return Plain(builder.number(value), shape, (0,) * len(shape))


def unary(builder: Builder, node: Node) -> None:
    """Append a function of each element, in the layout in which the tensor lies."""
    source = _somewhere(builder, node.inputs[0])
    target = _like(builder, node.outputs[0], source)
    side = source, source.strides
    _elementwise(
        builder, node.op.lower(), node.outputs[0], "first", [side], target, _lengths(source),
        _function(builder, node),
    )  # fmt: skip


def _function(builder: Builder, node: Node) -> tuple[str, float, float]:
    attributes = node.attributes
    if node.op == "Clip":
        low, high = (
            float(builder.constant(node.inputs[i]).ravel()[0])
            if len(node.inputs) > i and node.inputs[i]
            else end
            for i, end in ((1, -math.inf), (2, math.inf))
        )
        return "clip", low, high
    if node.op == "Gelu":
        return "gelu_tanh" if attributes.get("approximate") == "tanh" else "gelu", 0.0, 0.0
    if node.op == "Swish":
        if float(attributes.get("alpha", 1.0)) != 1.0:
            raise UnsupportedError("an alpha other than 1")
        return "silu", 0.0, 0.0
    name, parameters = UNARY[node.op]
    return name, *parameters(attributes)


def _somewhere(builder: Builder, name: str) -> Held:
    """Return a tensor where it lies, in blocks if it does."""
    return builder.blocked(name) if builder.is_blocked(name) else builder.plain(name)


def _lengths(held: Held) -> tuple[int, ...]:
    return held.lengths if isinstance(held, Blocked) else held.shape


def _like(builder: Builder, name: str, source: Held) -> Held:
    """Return the place of a result, in the layout of what it is made from, with zeros around it."""
    if isinstance(source, Plain):
        return builder.plain_result(name)
    target = builder.result(name)
    builder.clear_around(name, target)
    return target


def binary(builder: Builder, node: Node) -> None:
    """Append an operation on two tensors, with broadcasting."""
    _pair(builder, BINARY[node.op], node.inputs[0], node.inputs[1], node.outputs[0], node)


def variadic(builder: Builder, node: Node) -> None:
    """Append an operation on any number of tensors: one step for each but the first."""
    operation = {"Sum": "add", "Min": "min", "Max": "max", "Mean": "add"}[node.op]
    if node.op == "Mean" and len(node.inputs) != 1:
        raise UnsupportedError("the mean of several tensors")
    if len(node.inputs) == 1:
        return unary(builder, Node("Identity", node.inputs, node.outputs))
    if len(node.inputs) > 2:
        raise UnsupportedError(f"{len(node.inputs)} operands; expected two")
    _pair(builder, operation, node.inputs[0], node.inputs[1], node.outputs[0], node)


def _pair(builder: Builder, operation: str, one: str, other: str, out: str, node: Node) -> None:
    shape = builder.shape(out)
    blocked = len(shape) in (3, 4, 5) and any(
        builder.is_blocked(name) and builder.shape(name) == shape for name in (one, other)
    )
    operands = [_blocked_operand(builder, name, out) if blocked else None for name in (one, other)]
    if all(operand is not None for operand in operands):
        target: Held = builder.result(out)
        assert isinstance(target, Blocked)
        builder.clear_around(out, target)
        sides = [operand for operand in operands if operand is not None]
        lengths = target.lengths
    else:
        target = builder.plain_result(out)
        sides = [_broadcast(builder.plain(name), shape) for name in (one, other)]
        lengths = shape
    _elementwise(builder, node.op.lower(), out, operation, sides, target, lengths, named_ending(node))


def _broadcast(held: Plain, shape: tuple[int, ...]) -> tuple[Held, tuple[int, ...]]:
    if held.shape == shape and 1 not in shape:
        return held, held.strides
    strides = [0 if length == 1 else stride for length, stride in zip(held.shape, held.strides, strict=True)]
    return held, (*(0,) * (len(shape) - len(strides)), *strides)


def _blocked_operand(builder: Builder, name: str, out: str) -> tuple[Held, tuple[int, ...]] | None:
    """Return an operand with the strides of a result in blocks; None if it cannot be read so."""
    shape = builder.shape(name)
    whole = builder.shape(out)
    if builder.is_constant(name):
        full = (*(1,) * (len(whole) - len(shape)), *shape)
        return _constant_operand(builder, builder.constant(name).reshape(full), whole)
    if len(shape) != len(whole):
        return None
    if shape[1] == 1 and whole[1] != 1:
        return None  # one channel for all: a lane would have to be spread
    held = builder.blocked(name)
    lengths = held.shape
    image, block, row, pixel, lane = held.strides
    return held, (
        image if lengths[0] > 1 else 0,
        block,
        row if lengths[2] > 1 else 0,
        pixel if lengths[3] > 1 else 0,
        lane,
    )


def _constant_operand(builder: Builder, array: Array, whole: tuple[int, ...]) -> tuple[Held, tuple[int, ...]]:
    """Return a constant laid out in blocks, as far as it is not the same everywhere."""
    if array.size == 1:
        return Plain.contiguous(builder.memory_of(array), (1,)), (0, 0, 0, 0, 0)
    laid = applied(_laid, array, builder.lanes, whole[1])
    held = Plain.contiguous(builder.memory_of(laid), laid.shape)
    return held, tuple(
        0 if length == 1 and axis not in (1, 4) else stride
        for axis, (length, stride) in enumerate(zip(held.shape, held.strides, strict=True))
    )


def _laid(array: Array, lanes: int, channels: int) -> Array:
    """Return a constant in blocks of channels: of as many as it has, or all alike."""
    if array.ndim == 3:
        array = array[:, :, None, :]
    elif array.ndim == 5:
        array = array[0].transpose(1, 0, 2, 3)
    if array.shape[1] != channels:
        array = np.broadcast_to(array, (array.shape[0], channels, *array.shape[2:]))
    blocks = -(-channels // lanes)
    padded = np.zeros((array.shape[0], blocks * lanes, *array.shape[2:]), np.float32)
    padded[:, :channels] = array
    return padded.reshape(array.shape[0], blocks, lanes, *array.shape[2:]).transpose(0, 1, 3, 4, 2)


# -- along axes --------------------------------------------------------------------------------------


def softmax(builder: Builder, node: Node) -> None:
    """Append a softmax, or its logarithm, along one axis."""
    source = builder.plain(node.inputs[0])
    target = builder.plain_result(node.outputs[0])
    axis = int(node.attributes.get("axis", -1)) % len(source.shape)
    log = node.op == "LogSoftmax"

    def add(program: Any) -> None:
        append_step(
            program,
            _core.add_softmax,
            source.shape,
            axis,
            source.address,
            source.strides,
            target.address,
            target.strides,
            log,
        )

    builder.add(node.op.lower(), node.outputs[0], [source], [target], add)


def reduction(builder: Builder, node: Node) -> None:
    """Append a sum, a mean, a maximum and the like over some axes."""
    source = builder.plain(node.inputs[0])
    rank = len(source.shape)
    axes = node.attributes.get("axes")
    if len(node.inputs) > 1 and node.inputs[1]:
        axes = tuple(int(axis) for axis in builder.constant(node.inputs[1]).ravel())
    if not axes:
        if node.attributes.get("noop_with_empty_axes"):
            return unary(builder, Node("Identity", node.inputs[:1], node.outputs))
        axes = tuple(range(rank))
    chosen = sorted(int(axis) % rank for axis in axes)
    target = builder.plain_result(node.outputs[0])
    kept = tuple(1 if axis in chosen else length for axis, length in enumerate(source.shape))
    strides = Plain.contiguous(target.buffer, kept).strides

    def add(program: Any) -> None:
        append_step(
            program,
            _core.add_reduce,
            REDUCTIONS[node.op],
            source.shape,
            chosen,
            source.address,
            source.strides,
            target.address,
            strides,
        )

    builder.add(node.op.lower(), node.outputs[0], [source], [target], add)


def matmul(builder: Builder, node: Node) -> None:
    """Append a product of matrices that are both computed."""
    a, b = (builder.plain(name) for name in node.inputs[:2])
    shape = builder.shape(node.outputs[0])
    if len(a.shape) < 2 or len(b.shape) < 2:
        raise UnsupportedError("a vector as an operand")
    batch = shape[:-2]
    target = builder.plain_result(node.outputs[0])
    a_strides = (*_broadcast(Plain(a.buffer, a.shape[:-2], a.strides[:-2]), batch)[1], *a.strides[-2:])
    b_strides = (*_broadcast(Plain(b.buffer, b.shape[:-2], b.strides[:-2]), batch)[1], *b.strides[-2:])
    rows, inner, columns = a.shape[-2], a.shape[-1], b.shape[-1]
    ending = named_ending(node)

    def add(program: Any) -> None:
        append_step(
            program,
            _core.add_matmul,
            batch,
            rows,
            inner,
            columns,
            a.address,
            a_strides,
            b.address,
            b_strides,
            target.address,
            target.strides,
            ending,
        )

    builder.add("matmul", node.outputs[0], [a, b], [target], add, macs=math.prod(shape) * inner)
