"""Operations of 8-bit numbers as native steps: sums of products of whole numbers are exact."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from .... import _core
from ...graph.ir import Node
from ..builder import Builder, UnsupportedError
from ..levels import SIGN, LevelNumbers, LevelTensor
from ..memory import Blocked, Buffer, Held, Plain
from .elements import everywhere, on_each
from .recorded import append_step

__all__ = [
    "BYTES",
    "QUANTISED",
    "add",
    "dequantize",
    "dynamic_quantize",
    "is_signed",
    "numbers_of",
    "padded_inputs",
    "quantize",
]

BYTES: Final = (np.dtype(np.uint8), np.dtype(np.int8))
QUANTISED: Final = (
    *("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"),
    *("QLinearConv", "QLinearMatMul", "QLinearAdd", "ConvInteger", "MatMulInteger"),
)
_OF_ROWS: Final = ("QLinearMatMul", "MatMulInteger")  # they sum over the last axis of what they read


# -- between floats and levels -----------------------------------------------------------------------


def quantize(builder: Builder, node: Node) -> None:
    """Append QuantizeLinear."""
    x, scale = node.inputs[:2]
    zero = node.inputs[2] if len(node.inputs) > 2 else ""
    out = node.outputs[0]
    kind = builder.graph.types[out].dtype
    _no_blocks(node)
    if _is_one(builder, scale) and kind in BYTES:
        target = _place(builder, out)
        source = builder.blocked(x) if builder.is_blocked(x) else builder.plain(x)
        numbers = numbers_of(builder, scale, zero, target.is_signed)
        builder.map_levels("quantise", out, source, target, numbers)
        return builder.hold_levels(out, target)
    if kind.itemsize > 2:
        raise UnsupportedError(f"levels of {kind}")
    shape, axis = builder.shape(out), int(node.attributes.get("axis", 1))
    info = np.iinfo(kind)
    target_floats, inner = builder.plain_result(out), builder.scratch(shape)
    on_each(
        builder,
        out,
        "div",
        (builder.plain(x), _spread(builder, scale, shape, axis)),
        inner,
        ("round", 0.0, 0.0),
    )
    ends = ("clip", float(info.min), float(info.max))
    shift = _spread(builder, zero, shape, axis) if zero else everywhere(builder, 0.0, shape)
    on_each(builder, out, "add", (inner, shift), target_floats, ends)


def dequantize(builder: Builder, node: Node) -> None:
    """Append DequantizeLinear."""
    x, scale = node.inputs[:2]
    zero = node.inputs[2] if len(node.inputs) > 2 else ""
    out = node.outputs[0]
    shape, axis = builder.shape(out), int(node.attributes.get("axis", 1))
    _no_blocks(node)
    levels = next(iter(builder.held_levels(x)), None)
    if levels is not None and _is_one(builder, scale):
        target: Held
        if len(shape) in (3, 4):
            target = builder.result(out)
            builder.clear_around(out, target)
        else:
            target = builder.plain_result(out)
        return builder.map_levels(
            "dequantise", out, levels, target, numbers_of(builder, scale, zero, levels.is_signed)
        )
    inner = builder.plain(x)
    if zero:
        less = builder.scratch(shape)
        on_each(builder, out, "sub", (inner, _spread(builder, zero, shape, axis)), less)
        inner = less
    on_each(builder, out, "mul", (inner, _spread(builder, scale, shape, axis)), builder.plain_result(out))


def dynamic_quantize(builder: Builder, node: Node) -> None:
    """Append DynamicQuantizeLinear: levels of the range that the numbers turn out to have."""
    x = node.inputs[0]
    out, scale, zero = node.outputs
    source: Held = (
        builder.blocked(x) if builder.is_blocked(x) and _has_no_rest(builder, x) else builder.plain(x)
    )
    lengths = source.lengths if isinstance(source, Blocked) else source.shape
    ends = [builder.scratch((1,)), builder.scratch((1,))]
    for name, end in zip(("min", "max"), ends, strict=True):
        _reduced(builder, out, name, lengths, source, end)
    made = [builder.plain_result(name) for name in (scale, zero)]

    def emit(program: Any) -> None:
        append_step(
            program, _core.add_level_range, ends[0].address, ends[1].address, made[0].address, made[1].address
        )

    builder.add("range of levels", scale, ends, made, emit)
    target = _place(builder, out)
    builder.map_levels("quantise", out, source, target, LevelNumbers(made[1], made[0]))
    builder.hold_levels(out, target)


def _has_no_rest(builder: Builder, name: str) -> bool:
    return builder.image_shape(name)[1] % builder.lanes == 0


def _reduced(
    builder: Builder, out: str, name: str, lengths: tuple[int, ...], source: Held, end: Plain
) -> None:
    axes = list(range(len(lengths)))

    def emit(program: Any) -> None:
        strides = (0,) * len(lengths)
        append_step(
            program,
            _core.add_reduce,
            name,
            lengths,
            axes,
            source.address,
            source.strides,
            end.address,
            strides,
        )

    builder.add(f"reduce {name}", out, [source], [end], emit)


def _place(builder: Builder, name: str) -> LevelTensor:
    """Return where a tensor of levels is written, in the layout of what reads it first."""
    shape, is_signed = builder.shape(name), builder.graph.types[name].dtype == np.int8
    reader = next((node for node in builder.graph.nodes if name in node.inputs[:1]), None)
    if len(shape) > 2 and not (reader is not None and reader.op in _OF_ROWS):
        return LevelTensor.channels_last(shape, is_signed)
    return LevelTensor.rows(shape if shape else (1,), is_signed)


def _no_blocks(node: Node) -> None:
    if node.attributes.get("block_size"):
        raise UnsupportedError("scales of blocks")


def _is_one(builder: Builder, name: str) -> bool:
    return math.prod(builder.shape(name)) == 1


def numbers_of(builder: Builder, scale: str, zero: str, is_signed: bool) -> LevelNumbers:
    """Return scale and zero of a tensor in memory; those of signed numbers are constants."""
    shift = SIGN if is_signed else 0
    held: Plain | Buffer
    if not zero:
        held = builder.number(shift)
    elif builder.is_constant(zero):
        held = builder.number(float(builder.constant(zero).ravel()[0]) + shift)
    elif is_signed:
        raise UnsupportedError("a zero of signed numbers that is computed")
    else:
        held = builder.plain(zero)
    if not scale:
        return LevelNumbers(held)
    if builder.is_constant(scale):
        return LevelNumbers(held, builder.number(float(builder.constant(scale).ravel()[0])))
    return LevelNumbers(held, builder.plain(scale))


def _spread(builder: Builder, name: str, shape: tuple[int, ...], axis: int) -> Plain:
    """Return one number for all, or those of an axis, as they are read for a whole tensor."""
    held = builder.plain(name)
    if math.prod(held.shape) == 1:
        return Plain(held.buffer, shape, (0,) * len(shape), held.offset)
    if len(held.shape) != 1 or held.shape[0] != shape[axis]:
        raise UnsupportedError(f"scales of shape {held.shape}")
    strides = tuple(held.strides[0] if n == axis % len(shape) else 0 for n in range(len(shape)))
    return Plain(held.buffer, shape, strides, held.offset)


def add(builder: Builder, node: Node) -> None:
    """Append the sum of two tensors of levels, as levels."""
    a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = padded_inputs(node, 8)
    out = node.outputs[0]
    if not builder.shape(a) == builder.shape(b) == builder.shape(out):
        raise UnsupportedError("operands of several shapes")
    target = _place(builder, out)
    sides = [builder.levels(name, target.like(is_signed(builder, name))) for name in (a, b)]
    numbers = [
        numbers_of(builder, scale, zero, side.is_signed)
        for scale, zero, side in (
            (a_scale, a_zero, sides[0]),
            (b_scale, b_zero, sides[1]),
            (y_scale, y_zero, target),
        )
    ]
    size = 4 * target.buffer.size

    def emit(program: Any) -> None:
        append_step(
            program,
            _core.add_levels,
            size,
            sides[0].address,
            sides[1].address,
            target.address,
            *(one.at for one in numbers),
        )

    reads = [held for one in numbers for held in one.reads]
    builder.add("add levels", out, [*sides, *reads], [target], emit)
    builder.hold_levels(out, target)


def padded_inputs(node: Node, count: int) -> list[str]:
    """Return the inputs of a node, and "" for those that are absent, so many in all."""
    return [*node.inputs, *("" for _ in range(count))][:count]


def is_signed(builder: Builder, name: str) -> bool:
    """Whether a tensor is of signed bytes."""
    kinds = {**builder.graph.inputs, **builder.graph.types}
    return bool(kinds[name].dtype == np.int8)
