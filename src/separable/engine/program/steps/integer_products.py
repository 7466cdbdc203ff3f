"""Sums of products of 8-bit numbers as native steps: exact in 32 bits, and what is made of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from .... import _core
from ...._base.types import Array
from ...graph.ir import Node
from ..builder import Builder, UnsupportedError
from ..levels import LevelNumbers, LevelTensor
from ..memory import Blocked, Buffer, Held, Plain
from ..packed_integers import PackedIntegers
from .convolutions import ending
from .quantised import is_signed, numbers_of, padded_inputs
from .recorded import append_step

__all__ = ["conv", "conv_integer", "matmul", "matmul_integer"]

_MOST_AXES: Final = 4
_RATE: Final = (
    2.0  # products of bytes in the time of one of float32, by AVX2; VNNI sums four in one instruction
)


_Numbers = tuple["Array | None", "Array | None", "Array | None"]  # bias, scales, shift


@dataclass(frozen=True)
class _ByteSums:
    """What sums are made of: levels, images of so many rows and pixels; weights; how these meet.

    `more` are whole numbers that are added to the sums, `residual` levels that are added to the results.
    """

    source: LevelTensor
    images: tuple[int, int, int]
    packed: PackedIntegers
    geometry: tuple[int, ...]
    given: LevelNumbers
    more: Plain | None = None
    residual: tuple[LevelTensor, LevelNumbers] | None = None


@dataclass(frozen=True)
class _ByteResults:
    """Where results go: as "levels", "floats" or "whole" numbers; pitches of images, blocks, rows, pixels."""

    stored: str
    target: Held | LevelTensor
    images: tuple[int, int, int]
    pitches: tuple[int, ...]
    numbers: LevelNumbers | None


def conv(builder: Builder, node: Node) -> None:
    """Append QLinearConv; without a scale of the result its results are floats."""
    _, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, bias, shift, *added = padded_inputs(node, 13)
    weights = _less_zero(builder, w, w_zero, 0)
    scales = _per_channel(builder, w_scale, len(weights), np.float32)
    floats = builder.constant(shift) if shift else None
    is_known = bool(bias) and builder.is_constant(bias)
    whole = builder.constant(bias) if is_known else None
    more = builder.plain(bias, contiguous=True) if bias and not is_known else None
    numbers = (whole, scales, floats)
    sums = _images(builder, node, weights, numbers, (x_scale, x_zero), more, _residual(builder, *added))
    _step(
        builder, node, sums, _maps(builder, node, sums, "levels" if y_scale else "floats", (y_scale, y_zero))
    )


def conv_integer(builder: Builder, node: Node) -> None:
    """Append ConvInteger: sums of 32 bits."""
    _, w, x_zero, w_zero = padded_inputs(node, 4)
    sums = _images(builder, node, _less_zero(builder, w, w_zero, 0), (None, None, None), ("", x_zero))
    _step(builder, node, sums, _maps(builder, node, sums, "whole", ("", "")))


def matmul(builder: Builder, node: Node) -> None:
    """Append QLinearMatMul with a constant matrix; without a scale of the result its results are floats."""
    _, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero, bias, shift = padded_inputs(node, 10)
    weights = _less_zero(builder, b, b_zero, 1)
    columns = weights.shape[-1]
    scales = _per_channel(builder, b_scale, columns, np.float32)
    floats = _per_channel(builder, shift, columns, np.float32) if shift else None
    whole = _per_channel(builder, bias, columns, np.int32) if bias else None
    sums = _rows(builder, node, weights, (whole, scales, floats), (a_scale, a_zero))
    stored = "levels" if y_scale else "floats"
    _step(builder, node, sums, _columns(builder, node, sums, stored, (y_scale, y_zero)))


def matmul_integer(builder: Builder, node: Node) -> None:
    """Append MatMulInteger with a constant matrix: sums of 32 bits."""
    _, b, a_zero, b_zero = padded_inputs(node, 4)
    sums = _rows(builder, node, _less_zero(builder, b, b_zero, 1), (None, None, None), ("", a_zero))
    _step(builder, node, sums, _columns(builder, node, sums, "whole", ("", "")))


# -- what is read ------------------------------------------------------------------------------------


def _images(
    builder: Builder,
    node: Node,
    weights: Array,
    numbers: _Numbers,
    given: tuple[str, str],
    more: Plain | None = None,
    residual: tuple[LevelTensor, LevelNumbers] | None = None,
) -> _ByteSums:
    """Return the sums of a convolution."""
    name, written = node.inputs[0], node.attributes
    shape = builder.shape(name)
    if not 3 <= len(shape) <= _MOST_AXES:
        raise UnsupportedError(f"{len(shape) - 2} spatial axes; expected one or two")
    source = builder.levels(name, LevelTensor.channels_last(shape, is_signed(builder, name)))
    if weights.ndim == 3:
        weights = weights[:, :, None, :]
    packed = builder.store.integers(weights, int(written.get("group", 1)), source.pitch, numbers)
    count, _, height, width = builder.image_shape(name)
    geometry = (
        *_two(written["strides"], 1),
        *_two(written["dilations"], 1),
        *_two(written["pads"][: len(written["kernel_shape"])], 0),
    )
    read = numbers_of(builder, *given, source.is_signed)
    return _ByteSums(source, (count, height, width), packed, geometry, read, more, residual)


def _rows(
    builder: Builder, node: Node, weights: Array, numbers: _Numbers, given: tuple[str, str]
) -> _ByteSums:
    """Return the sums of a product of rows and a matrix."""
    name = node.inputs[0]
    shape = builder.shape(name)
    if weights.ndim != 2 or not shape:
        raise UnsupportedError("a product of other arrays than rows and a constant matrix")
    source = builder.levels(name, LevelTensor.rows(shape, is_signed(builder, name)))
    packed = builder.store.integers(weights.T[:, :, None, None], 1, source.pitch, numbers)
    read = numbers_of(builder, *given, source.is_signed)
    return _ByteSums(source, (math.prod(shape[:-1]), 1, 1), packed, (1, 1, 1, 1, 0, 0), read)


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


def _two(values: Sequence[int], missing: int) -> tuple[int, int]:
    if len(values) == 1:
        return missing, int(values[0])
    return int(values[0]), int(values[1])


def _residual(builder: Builder, name: str, scale: str, zero: str) -> tuple[LevelTensor, LevelNumbers] | None:
    """Return levels that are added to results, and what they stand for."""
    if not name:
        return None
    held = builder.levels(name, LevelTensor.channels_last(builder.shape(name), is_signed(builder, name)))
    return held, numbers_of(builder, scale, zero, held.is_signed)


# -- what is made ------------------------------------------------------------------------------------


def _maps(builder: Builder, node: Node, sums: _ByteSums, stored: str, made: tuple[str, str]) -> _ByteResults:
    """Return the place of a convolution's results."""
    out = node.outputs[0]
    shape = builder.shape(out)
    count, channels, rows, columns = builder.image_shape(out)
    images = (count, rows, columns)
    if stored == "levels":
        levels = LevelTensor.channels_last(shape, builder.graph.types[out].dtype == np.int8)
        pitches = (rows * columns * levels.pitch, 0, columns * levels.pitch, levels.pitch)
        builder.hold_levels(out, levels)
        return _ByteResults(stored, levels, images, pitches, numbers_of(builder, *made, levels.is_signed))
    group = 1 if sums.packed.is_depthwise else int(node.attributes.get("group", 1))
    if group == 1 or channels // group % builder.lanes == 0:
        blocked = builder.result(out)
        builder.clear_around(out, blocked)
        return _ByteResults(stored, blocked, images, (*blocked.pitches, blocked.lanes), None)
    plain = _channels_last(shape)  # groups would cut blocks
    builder.hold(out, plain)
    pitches = (rows * columns * channels, builder.lanes, columns * channels, channels)
    return _ByteResults(stored, plain, images, pitches, None)


def _columns(
    builder: Builder, node: Node, sums: _ByteSums, stored: str, made: tuple[str, str]
) -> _ByteResults:
    """Return the place of the results of a product."""
    out = node.outputs[0]
    shape = builder.shape(out)
    if len(shape) != len(builder.shape(node.inputs[0])):
        raise UnsupportedError("a product of vectors")
    if stored != "levels":
        pitches = (shape[-1], builder.lanes, shape[-1], shape[-1])
        return _ByteResults(stored, builder.plain_result(out), sums.images, pitches, None)
    levels = LevelTensor.rows(shape, builder.graph.types[out].dtype == np.int8)
    builder.hold_levels(out, levels)
    pitches = (levels.pitch, 0, levels.pitch, levels.pitch)
    return _ByteResults(stored, levels, sums.images, pitches, numbers_of(builder, *made, levels.is_signed))


def _channels_last(shape: tuple[int, ...]) -> Plain:
    """Return a place for floats, the channels of a pixel next to each other."""
    spatial = math.prod(shape[2:])
    inner = [shape[1] * math.prod(shape[axis + 1 :]) for axis in range(2, len(shape))]
    return Plain(Buffer(math.prod(shape)), shape, (shape[1] * spatial, 1, *inner))


def _step(builder: Builder, node: Node, sums: _ByteSums, results: _ByteResults) -> None:
    act, target, residual, packed = ending(node), results.target, sums.residual, sums.packed

    def emit(program: Any) -> None:
        append_step(
            program,
            _core.add_integer_conv,
            packed.weights,
            sums.source.address,
            sums.images,
            (results.stored, target.address, results.images, results.pitches, isinstance(target, Blocked)),
            sums.geometry,
            sums.given.at,
            None if results.numbers is None else results.numbers.at,
            act,
            None if sums.more is None else sums.more.address,
            None if residual is None else (residual[0].address, residual[0].pitch, residual[1].at),
        )

    reads: list[Held | LevelTensor | Buffer] = [sums.source, *sums.given.reads]
    reads += [] if residual is None else [residual[0], *residual[1].reads]
    reads += [] if sums.more is None else [sums.more]
    reads += [] if results.numbers is None else results.numbers.reads
    name = str(node.attributes.get("activation", "none"))
    out = node.outputs[0]
    builder.add(
        _kind(node, packed),
        out,
        reads,
        [target],
        emit,
        macs=math.prod(builder.shape(out)) * packed.taps,
        notes=[*([] if residual is None else ["+ residual"]), *([] if name == "none" else [name])],
        weights=packed.nbytes,
        rate=1.0 if packed.is_depthwise else _RATE if _core.integer_pair_most() else 2 * _RATE,
    )


def _kind(node: Node, packed: PackedIntegers) -> str:
    if "kernel_shape" not in node.attributes:
        return "8-bit fully connected"
    kernel = " x ".join(map(str, node.attributes["kernel_shape"]))
    return f"8-bit {'depthwise' if packed.is_depthwise else 'conv'} {kernel}"
