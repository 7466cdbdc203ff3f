"""Operations of 8-bit numbers as native steps: sums of products of whole numbers are exact."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from .... import _core
from ...._base.types import Array
from ...graph.ir import Node
from ..builder import Builder, UnsupportedError
from ..levels import SIGN, LevelNumbers, Levels
from ..memory import Blocked, Buffer, Held, Plain
from .convolutions import ending

__all__ = [
    "BYTES",
    "QUANTISED",
    "add",
    "conv",
    "conv_integer",
    "dequantize",
    "dynamic_quantize",
    "matmul",
    "matmul_integer",
    "quantize",
]

BYTES: Final = (np.dtype(np.uint8), np.dtype(np.int8))
QUANTISED: Final = (
    *("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"),
    *("QLinearConv", "QLinearMatMul", "QLinearAdd", "ConvInteger", "MatMulInteger"),
)
_OF_ROWS: Final = ("QLinearMatMul", "MatMulInteger")  # they sum over the last axis of what they read
_MOST_AXES: Final = 4


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
        numbers = _numbers(builder, scale, zero, target.is_signed)
        builder.map_levels("quantise", out, source, target, numbers)
        return builder.hold_levels(out, target)
    if kind.itemsize > 2:
        raise UnsupportedError(f"levels of {kind}")
    shape, axis = builder.shape(out), int(node.attributes.get("axis", 1))
    info = np.iinfo(kind)
    target_floats, inner = builder.plain_result(out), builder.scratch(shape)
    _pair(builder, out, "div", (builder.plain(x), _spread(builder, scale, shape, axis)), inner, ("round", 0.0, 0.0))
    ends = ("clip", float(info.min), float(info.max))
    shift = _spread(builder, zero, shape, axis) if zero else _constant(builder, 0.0, shape)
    _pair(builder, out, "add", (inner, shift), target_floats, ends)


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
            "dequantise", out, levels, target, _numbers(builder, scale, zero, levels.is_signed)
        )
    inner = builder.plain(x)
    if zero:
        less = builder.scratch(shape)
        _pair(builder, out, "sub", (inner, _spread(builder, zero, shape, axis)), less, None)
        inner = less
    _pair(builder, out, "mul", (inner, _spread(builder, scale, shape, axis)), builder.plain_result(out), None)


def dynamic_quantize(builder: Builder, node: Node) -> None:
    """Append DynamicQuantizeLinear: levels of the range that the numbers turn out to have."""
    x = node.inputs[0]
    out, scale, zero = node.outputs
    source: Held = builder.blocked(x) if builder.is_blocked(x) and _has_no_rest(builder, x) else builder.plain(x)
    lengths = source.lengths if isinstance(source, Blocked) else source.shape
    ends = [builder.scratch((1,)), builder.scratch((1,))]
    for name, end in zip(("min", "max"), ends, strict=True):
        _reduced(builder, out, name, lengths, source, end)
    made = [builder.plain_result(name) for name in (scale, zero)]

    def emit(program: Any) -> None:
        _core.add_level_range(program, ends[0].address, ends[1].address, made[0].address, made[1].address)

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
        _core.add_reduce(program, name, lengths, axes, source.address, source.strides, end.address, strides)

    builder.add(f"reduce {name}", out, [source], [end], emit)


def _place(builder: Builder, name: str) -> Levels:
    """Return where a tensor of levels is written, in the layout of what reads it first."""
    shape, is_signed = builder.shape(name), builder.graph.types[name].dtype == np.int8
    reader = next((node for node in builder.graph.nodes if name in node.inputs[:1]), None)
    if len(shape) > 2 and not (reader is not None and reader.op in _OF_ROWS):
        return Levels.channels_last(shape, is_signed)
    return Levels.rows(shape if shape else (1,), is_signed)


def _no_blocks(node: Node) -> None:
    if node.attributes.get("block_size"):
        raise UnsupportedError("scales of blocks")


def _is_one(builder: Builder, name: str) -> bool:
    return math.prod(builder.shape(name)) == 1


def _numbers(builder: Builder, scale: str, zero: str, is_signed: bool) -> LevelNumbers:
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


def _constant(builder: Builder, value: float, shape: tuple[int, ...]) -> Plain:
    return Plain(builder.number(value), shape, (0,) * len(shape))


def _pair(
    builder: Builder,
    out: str,
    operation: str,
    sides: tuple[Plain, Plain],
    target: Plain,
    after: tuple[str, float, float] | None,
) -> None:
    a, b = sides

    def emit(program: Any) -> None:
        _core.add_elementwise(
            program,
            operation,
            target.shape,
            a.address,
            a.strides,
            b.address,
            b.strides,
            target.address,
            target.strides,
            after,
        )

    builder.add(operation, out, [a, b], [target], emit)


# -- sums of products --------------------------------------------------------------------------------


def conv(builder: Builder, node: Node) -> None:
    """Append QLinearConv; without a scale of the result its results are floats."""
    names = _padded(node, 13)
    x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, bias, shift = names[:10]
    weights = _less_zero(builder, w, w_zero, 0)
    scales = _per_channel(builder, w_scale, len(weights), np.float32)
    floats = builder.constant(shift) if shift else None
    is_known = bool(bias) and builder.is_constant(bias)
    whole = builder.constant(bias) if is_known else None
    more = builder.plain(bias, contiguous=True) if bias and not is_known else None
    source = builder.levels(x, Levels.channels_last(_images(builder, x), _is_signed(builder, x)))
    given = _numbers(builder, x_scale, x_zero, source.is_signed)
    packed = _packed(builder, node, weights, source.pitch, (whole, scales, floats))
    stored = "floats" if not y_scale else "levels"
    added = (names[10], names[11], names[12])
    _convolve(builder, node, source, packed, given, stored, (y_scale, y_zero), more, added)


def conv_integer(builder: Builder, node: Node) -> None:
    """Append ConvInteger: sums of 32 bits."""
    x, w, x_zero, w_zero = _padded(node, 4)
    weights = _less_zero(builder, w, w_zero, 0)
    source = builder.levels(x, Levels.channels_last(_images(builder, x), _is_signed(builder, x)))
    packed = _packed(builder, node, weights, source.pitch, (None, None, None))
    given = _numbers(builder, "", x_zero, source.is_signed)
    _convolve(builder, node, source, packed, given, "whole", ("", ""))


def matmul(builder: Builder, node: Node) -> None:
    """Append QLinearMatMul with a constant matrix; without a scale of the result its results are floats."""
    a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero, bias, shift = _padded(node, 10)
    weights = _less_zero(builder, b, b_zero, 1)
    columns = weights.shape[-1]
    scales = _per_channel(builder, b_scale, columns, np.float32)
    floats = _per_channel(builder, shift, columns, np.float32) if shift else None
    whole = _per_channel(builder, bias, columns, np.int32) if bias else None
    stored = "floats" if not y_scale else "levels"
    _multiply(builder, node, weights, (whole, scales, floats), (a_scale, a_zero), stored, (y_scale, y_zero))


def matmul_integer(builder: Builder, node: Node) -> None:
    """Append MatMulInteger with a constant matrix: sums of 32 bits."""
    _, b, a_zero, b_zero = _padded(node, 4)
    weights = _less_zero(builder, b, b_zero, 1)
    _multiply(builder, node, weights, (None, None, None), ("", a_zero), "whole", ("", ""))


def add(builder: Builder, node: Node) -> None:
    """Append the sum of two tensors of levels, as levels."""
    a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = _padded(node, 8)
    out = node.outputs[0]
    if not builder.shape(a) == builder.shape(b) == builder.shape(out):
        raise UnsupportedError("operands of several shapes")
    target = _place(builder, out)
    sides = []
    for name in (a, b):
        is_signed = _is_signed(builder, name)
        sides.append(builder.levels(name, Levels(target.buffer, target.shape, target.strides, target.pitch, is_signed)
                                    if any(h.strides == target.strides for h in builder.held_levels(name))
                                    else target.like(is_signed)))
    numbers = [
        _numbers(builder, scale, zero, side.is_signed)
        for scale, zero, side in ((a_scale, a_zero, sides[0]), (b_scale, b_zero, sides[1]), (y_scale, y_zero, target))
    ]
    size = 4 * target.buffer.size

    def emit(program: Any) -> None:
        _core.add_levels(
            program, size, sides[0].address, sides[1].address, target.address, *(one.at for one in numbers)
        )

    reads = [held for one in numbers for held in one.reads]
    builder.add("add levels", out, [*sides, *reads], [target], emit)
    builder.hold_levels(out, target)


def _padded(node: Node, count: int) -> list[str]:
    return [*node.inputs, *("" for _ in range(count))][:count]


def _is_signed(builder: Builder, name: str) -> bool:
    kinds = {**builder.graph.inputs, **builder.graph.types}
    return bool(kinds[name].dtype == np.int8)


def _images(builder: Builder, name: str) -> tuple[int, ...]:
    shape = builder.shape(name)
    if not 3 <= len(shape) <= _MOST_AXES:
        raise UnsupportedError(f"{len(shape) - 2} spatial axes; expected one or two")
    return shape


def _less_zero(builder: Builder, name: str, zero: str, axis: int) -> Array:
    """Return constant weights less their zeros, of one each for the axis of what they make."""
    weights = builder.constant(name)
    if not zero or not builder.constant(zero).any():
        return builder.store.derived("whole", (weights,), lambda: (weights.astype(np.int16),))[0]
    zeros = builder.constant(zero)

    def make() -> tuple[Array, ...]:
        shape = [1] * weights.ndim
        if zeros.size > 1:
            shape[0 if axis == 0 else -1] = -1
        return (weights.astype(np.int16) - zeros.astype(np.int16).reshape(shape),)

    return builder.store.derived("whole", (weights, zeros), make)[0]


def _per_channel(builder: Builder, name: str, channels: int, dtype: Any) -> Array:
    """Return a number for each channel, of one for all or of as many."""
    values = builder.constant(name)
    if values.size not in (1, channels):
        raise UnsupportedError(f"{values.size} numbers for {channels} channels")
    kind = f"{np.dtype(dtype)} of {channels} channels"
    return builder.store.derived(
        kind, (values,), lambda: (np.array(np.broadcast_to(values.ravel(), (channels,)), dtype),)
    )[0]


_Numbers = tuple["Array | None", "Array | None", "Array | None"]  # bias, scales, shift


def _packed(builder: Builder, node: Node, weights: Array, pitch: int, numbers: _Numbers) -> Any:
    if weights.ndim == 3:
        weights = weights[:, :, None, :]
    return builder.store.integers(weights, int(node.attributes.get("group", 1)), pitch, numbers)


def _two(values: Sequence[int], missing: int) -> tuple[int, int]:
    if len(values) == 1:
        return missing, int(values[0])
    return int(values[0]), int(values[1])


def _convolve(
    builder: Builder,
    node: Node,
    source: Levels,
    packed: Any,
    given: LevelNumbers,
    stored: str,
    made: tuple[str, str],
    more: Plain | None = None,
    added: tuple[str, str, str] = ("", "", ""),
) -> None:
    out, written = node.outputs[0], node.attributes
    count, _, height, width = builder.image_shape(node.inputs[0])
    _, channels, rows, columns = builder.image_shape(out)
    rank = len(written["kernel_shape"])
    group = int(written.get("group", 1))
    target: Held | Levels
    if stored == "levels":
        target = Levels.channels_last(builder.shape(out), builder.graph.types[out].dtype == np.int8)
        pitches = (rows * columns * target.pitch, 0, columns * target.pitch, target.pitch)
        builder.hold_levels(out, target)
    elif group == 1 or group == channels or channels // group % builder.lanes == 0:
        target = builder.result(out)
        builder.clear_around(out, target)
        pitches = (*target.pitches, target.lanes)
    else:
        target = _channels_last(builder.shape(out))
        builder.hold(out, target)
        pitches = (rows * columns * channels, builder.lanes, columns * channels, channels)
    geometry = (
        *_two(written["strides"], 1),
        *_two(written["dilations"], 1),
        *_two(written["pads"][:rank], 0),
    )
    kernel = " x ".join(map(str, written["kernel_shape"]))
    what = "depthwise" if group == channels > 1 else "conv"
    results = (stored, target, (count, rows, columns), pitches, isinstance(target, Blocked))
    macs = count * channels * rows * columns * packed.taps
    _step(builder, node, f"8-bit {what} {kernel}", (source, (count, height, width)), packed, results, geometry, given, made, macs, more, _residual(builder, added))


def _residual(builder: Builder, added: tuple[str, str, str]) -> tuple[Levels, LevelNumbers] | None:
    """Return levels that are added to results, and what they stand for."""
    name, scale, zero = added
    if not name:
        return None
    held = builder.levels(name, Levels.channels_last(builder.shape(name), _is_signed(builder, name)))
    return held, _numbers(builder, scale, zero, held.is_signed)


def _multiply(
    builder: Builder,
    node: Node,
    weights: Array,
    numbers: _Numbers,
    given: tuple[str, str],
    stored: str,
    made: tuple[str, str],
) -> None:
    a, out = node.inputs[0], node.outputs[0]
    if weights.ndim != 2:
        raise UnsupportedError("a product of other arrays than rows and a constant matrix")
    shape, wide = builder.shape(a), builder.shape(out)
    if not shape or len(wide) != len(shape):
        raise UnsupportedError("a product of vectors")
    source = builder.levels(a, Levels.rows(shape, _is_signed(builder, a)))
    packed = builder.store.integers(weights.T[:, :, None, None], 1, source.pitch, numbers)
    rows, columns = math.prod(shape[:-1]), wide[-1]
    target: Plain | Levels
    if stored == "levels":
        target = Levels.rows(wide, builder.graph.types[out].dtype == np.int8)
        builder.hold_levels(out, target)
        pitches = (target.pitch, 0, target.pitch, target.pitch)
    else:
        target = builder.plain_result(out)
        pitches = (columns, builder.lanes, columns, columns)
    results = (stored, target, (rows, 1, 1), pitches, False)
    numbers_of_x = _numbers(builder, *given, source.is_signed)
    macs = rows * columns * shape[-1]
    _step(builder, node, "8-bit fully connected", (source, (rows, 1, 1)), packed, results, (1, 1, 1, 1, 0, 0), numbers_of_x, made, macs)


def _channels_last(shape: tuple[int, ...]) -> Plain:
    """Return a place for floats, the channels of a pixel next to each other."""
    spatial = math.prod(shape[2:])
    inner = [shape[1] * math.prod(shape[axis + 1 :]) for axis in range(2, len(shape))]
    return Plain(Buffer(math.prod(shape)), shape, (shape[1] * spatial, 1, *inner))


def _step(
    builder: Builder,
    node: Node,
    kind: str,
    source: tuple[Levels, tuple[int, int, int]],
    packed: Any,
    results: tuple[str, Held | Levels, tuple[int, int, int], tuple[int, ...], bool],
    geometry: tuple[int, ...],
    given: LevelNumbers,
    made: tuple[str, str],
    macs: int,
    more: Plain | None = None,
    residual: tuple[Levels, LevelNumbers] | None = None,
) -> None:
    levels, shape = source
    stored, target, made_shape, pitches, whole_blocks = results
    of_results = _numbers(builder, *made, target.is_signed) if isinstance(target, Levels) else None
    act = ending(node)

    def emit(program: Any) -> None:
        _core.add_integer_conv(
            program,
            packed.weights,
            levels.address,
            shape,
            (stored, target.address, made_shape, pitches, whole_blocks),
            geometry,
            given.at,
            None if of_results is None else of_results.at,
            act,
            None if more is None else more.address,
            None if residual is None else (residual[0].address, residual[0].pitch, residual[1].at),
        )

    others: list[Held | Levels | Buffer] = [] if residual is None else [residual[0], *residual[1].reads]
    others += [*given.reads, *([] if more is None else [more]), *([] if of_results is None else of_results.reads)]
    name = str(node.attributes.get("activation", "none"))
    builder.add(
        kind,
        node.outputs[0],
        [levels, *others],
        [target],
        emit,
        macs=macs,
        notes=[*([] if residual is None else ["+ residual"]), *([] if name == "none" else [name])],
        weights=packed.weights.nbytes,
    )
