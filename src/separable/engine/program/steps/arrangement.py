"""Operations that only move elements: views where they can be, copies where they must."""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import mul
from typing import Any

import numpy as np

from .... import _core
from ...._base.types import Array
from ...graph.ir import Graph, Node
from ...recorded.tape import applied
from ..builder import Builder, UnsupportedError
from ..memory import Blocked, Plain
from .recorded import append_step

__all__ = [
    "concat",
    "depth_to_space",
    "expand",
    "gather",
    "interleave",
    "interleavings",
    "pad",
    "reshape",
    "slice_",
    "space_to_depth",
    "split",
    "transpose",
]


def reshape(builder: Builder, node: Node) -> None:
    """Give a tensor another shape: no step, unless it lies with gaps."""
    name, out = node.inputs[0], node.outputs[0]
    shape = builder.shape(out)
    blocked = next((held for held in builder.held(name) if isinstance(held, Blocked)), None)
    if blocked is not None and blocked.is_row and shape[:2] == blocked.shape[:2] and len(shape) < 5:
        rows = (blocked.pitches[0], 1, *(1 for _ in shape[2:]))
        builder.hold(out, Plain(blocked.buffer, shape, rows, blocked.offset))
        if len(shape) > 2:
            builder.hold(out, blocked)
        return
    view = None if blocked is None else blocked.reshaped(shape)
    if view is not None and not any(isinstance(held, Plain) for held in builder.held(name)):
        builder.hold(out, view)
        return
    source = builder.plain(name, contiguous=True)
    builder.hold(
        out, Plain(source.buffer, shape, Plain.contiguous(source.buffer, shape).strides, source.offset)
    )


def transpose(builder: Builder, node: Node) -> None:
    """Exchange axes: a view."""
    source = builder.plain(node.inputs[0])
    order = node.attributes.get("perm") or tuple(range(len(source.shape)))[::-1]
    builder.hold(
        node.outputs[0],
        Plain(
            source.buffer,
            tuple(source.shape[axis] for axis in order),
            tuple(source.strides[axis] for axis in order),
            source.offset,
        ),
    )


def expand(builder: Builder, node: Node) -> None:
    """Repeat a tensor along axes of length 1: a view."""
    source = builder.plain(node.inputs[0])
    shape = builder.shape(node.outputs[0])
    strides = (
        *(0 for _ in range(len(shape) - len(source.shape))),
        *(0 if length == 1 else stride for length, stride in zip(source.shape, source.strides, strict=True)),
    )
    builder.hold(node.outputs[0], Plain(source.buffer, shape, strides, source.offset))


def concat(builder: Builder, node: Node) -> None:
    """Put tensors one behind the other: those that were written in place already are left alone."""
    out = node.outputs[0]
    axis = int(node.attributes["axis"]) % len(builder.shape(out))
    if any(isinstance(held, Blocked) for held in builder.held(out)):
        return _concat_blocks(builder, node)
    in_blocks = axis == 1 and len(builder.shape(out)) in (3, 4, 5)
    if in_blocks and _mostly_blocked(builder, node.inputs):
        sizes = [builder.shape(name)[1] for name in node.inputs]
        if all(size % builder.lanes == 0 for size in sizes[:-1]):
            builder.clear_around(out, builder.result(out))
            return _concat_blocks(builder, node)
    if axis > 1 and len(builder.shape(out)) in (3, 4) and all(map(builder.is_blocked, node.inputs)):
        return _concat_maps(builder, node, axis)
    target = builder.plain_result(out)
    first = 0
    for name in node.inputs:
        shape = builder.shape(name)
        if math.prod(shape):
            offset = target.offset + first * target.strides[axis]
            part = Plain(target.buffer, shape, target.strides, offset)
            builder.copy(name, builder.plain(name), part)
        first += shape[axis]


def _mostly_blocked(builder: Builder, names: Sequence[str]) -> bool:
    """Whether half of what is put together, or more, lies in blocks."""
    sizes = [math.prod(builder.shape(name)) for name in names]
    held = sum(size for name, size in zip(names, sizes, strict=True) if builder.is_blocked(name))
    return 2 * held >= sum(sizes) and not any(map(builder.is_constant, names))


def _concat_maps(builder: Builder, node: Node, axis: int) -> None:
    """Put maps beside or below each other, in blocks."""
    out = node.outputs[0]
    target = builder.result(out)
    builder.clear_around(out, target)
    down = axis == 2 and len(builder.shape(out)) == 4
    first = 0
    for name in node.inputs:
        source = builder.blocked(name)
        rows, pixels = source.shape[2:]
        builder.copy(name, source, target.box((first, 0) if down else (0, first), (rows, pixels)))
        first += rows if down else pixels


def _concat_blocks(builder: Builder, node: Node) -> None:
    whole = next(held for held in builder.held(node.outputs[0]) if isinstance(held, Blocked))
    first = 0
    for name in node.inputs:
        channels = builder.shape(name)[1]
        part = whole.channels(first, channels)
        there = any(
            isinstance(held, Blocked) and held.buffer is whole.buffer and held.offset == part.offset
            for held in builder.held(name)
        )
        if not there:
            source = next((held for held in builder.held(name) if isinstance(held, Blocked)), None)
            builder.copy(name, builder.plain(name) if source is None else source, part)
        first += channels


def split(builder: Builder, node: Node) -> None:
    """Cut a tensor into parts along an axis: views."""
    name = node.inputs[0]
    axis = int(node.attributes.get("axis", 0)) % len(builder.shape(name))
    first = 0
    for out in node.outputs:
        length = builder.shape(out)[axis]
        _part(builder, name, out, {axis: (first, 1)})
        first += length


def slice_(builder: Builder, node: Node) -> None:
    """Cut a box out of a tensor: a view, unless it goes backwards."""
    name, out = node.inputs[0], node.outputs[0]
    starts, _ends, *rest = (builder.constant(given).ravel() if given else None for given in node.inputs[1:])
    assert starts is not None
    shape = builder.shape(name)
    axes = rest[0] if rest and rest[0] is not None else np.arange(starts.size)
    steps = rest[1] if len(rest) > 1 and rest[1] is not None else np.ones(starts.size, np.int64)
    cuts = {}
    for start, axis, step in zip(starts.tolist(), axes.tolist(), steps.tolist(), strict=True):
        length = shape[axis % len(shape)]
        begin = start + length if start < 0 else start
        begin = min(max(begin, 0), length - 1 if step < 0 else length)
        cuts[axis % len(shape)] = (begin, step)
    _part(builder, name, out, cuts)


def _part(builder: Builder, name: str, out: str, cuts: dict[int, tuple[int, int]]) -> None:
    """Hold a box of a tensor as another: `cuts` has the first index and the step of each axis."""
    shape = builder.shape(out)
    if 0 in shape:
        raise UnsupportedError("an empty tensor")
    unit = all(step == 1 for _, step in cuts.values())
    if unit and 0 not in cuts and builder.is_blocked(name) and len(shape) in (3, 4, 5):
        first = cuts.get(1, (0, 1))[0]
        whole = builder.blocked(name)
        # Lanes behind the last channel hold others: nobody reads them, but a depthwise filter's mean may.
        if first % builder.lanes == 0:
            part = whole.channels(first, shape[1])
            if len(shape) == 5 and 2 in cuts:
                part = part.slices(cuts[2][0], shape[2])
            if set(cuts) - {1, 2} or (2 in cuts and len(shape) < 5):
                axes = (len(shape) - 2, len(shape) - 1) if len(shape) > 3 else (-1, 2)
                down, along = (cuts.get(axis, (0, 1))[0] for axis in axes)
                part = part.box((down, along), builder.image_shape(out)[2:])
            builder.hold(out, part)
            return
    source = builder.plain(name)
    offset = source.offset + sum(first * source.strides[axis] for axis, (first, _) in cuts.items())
    strides = tuple(stride * cuts.get(axis, (0, 1))[1] for axis, stride in enumerate(source.strides))
    builder.hold(out, Plain(source.buffer, shape, strides, offset))


def pad(builder: Builder, node: Node) -> None:
    """Surround a tensor with a constant."""
    mode = str(node.attributes.get("mode", "constant"))
    name, out = node.inputs[0], node.outputs[0]
    shape = builder.shape(name)
    rank = len(shape)
    pads = builder.constant(node.inputs[1]).ravel().tolist()
    if len(node.inputs) > 3 and node.inputs[3]:
        axes = [int(axis) % rank for axis in builder.constant(node.inputs[3]).ravel()]
        low = {axis: pads[i] for i, axis in enumerate(axes)}
        high = {axis: pads[len(axes) + i] for i, axis in enumerate(axes)}
    else:
        low, high = dict(enumerate(pads[:rank])), dict(enumerate(pads[rank:]))
    if mode == "constant":
        given = node.inputs[2] if len(node.inputs) > 2 else ""
        value = float(builder.constant(given).ravel()[0]) if given else 0.0
        return _pad_constant(builder, name, out, [low.get(axis, 0) for axis in range(rank)], value)
    _pad_sources(builder, name, out, mode, (low, high))


def _pad_constant(builder: Builder, name: str, out: str, low: list[int], value: float) -> None:
    source, target = builder.plain(name), builder.plain_result(out)
    builder.add(
        "fill",
        out,
        [],
        [target],
        lambda program: append_step(
            program, _core.add_fill, value, target.shape, target.address, target.strides
        ),
    )
    kept, source_at, target_at = [], source.offset, target.offset
    for axis, (before, after) in enumerate(zip(source.shape, target.shape, strict=True)):
        first = max(0, -low[axis])  # negative: cut off
        to = max(0, low[axis])
        kept.append(min(before - first, after - to))
        source_at += first * source.strides[axis]
        target_at += to * target.strides[axis]
    if min(kept) <= 0:
        return
    shape = tuple(kept)
    builder.copy(
        out,
        Plain(source.buffer, shape, source.strides, source_at),
        Plain(target.buffer, shape, target.strides, target_at),
    )


def _pad_sources(
    builder: Builder, name: str, out: str, mode: str, ends: tuple[dict[int, int], dict[int, int]]
) -> None:
    """Continue a tensor beyond its ends, axis by axis, by samples of its own."""
    low, high = ends
    source = builder.plain(name)
    shape = builder.shape(out)
    axes = [axis for axis in range(len(shape)) if low.get(axis, 0) or high.get(axis, 0)]
    kinds = {"reflect": "reflect", "edge": "edge", "wrap": "wrap"}
    if mode not in kinds or min([*low.values(), *high.values()]) < 0:
        raise UnsupportedError(f"mode {mode!r}")
    for number, axis in enumerate(axes):
        index = applied(_continued, source.shape[axis], low.get(axis, 0), high.get(axis, 0), kinds[mode])
        made_shape = list(source.shape)
        made_shape[axis] = index.size
        made = builder.plain_result(out) if number == len(axes) - 1 else builder.scratch(tuple(made_shape))
        _taken(builder, out, source, made, axis, index)
        source = made
    if not axes:
        builder.hold(out, source)


def _continued(length: int, before: int, behind: int, mode: str) -> Array:
    return np.pad(np.arange(length), (before, behind), mode=mode)  # type: ignore[call-overload,no-any-return]


def _taken(builder: Builder, out: str, source: Plain, made: Plain, axis: int, index: Any) -> None:
    table, ones = applied(_whole_samples, index)

    def add(program: Any) -> None:
        append_step(
            program,
            _core.add_line_weights,
            source.shape,
            axis,
            table,
            ones,
            source.address,
            source.strides,
            made.address,
            made.strides,
        )

    builder.add("pad", out, [source], [made], add)


def _whole_samples(index: Array) -> tuple[Array, Array]:
    return np.ascontiguousarray(index[:, None], np.int64), np.ones((index.size, 1), np.float32)


def gather(builder: Builder, node: Node) -> None:
    """Take elements along an axis by known numbers."""
    name, out = node.inputs[0], node.outputs[0]
    index = builder.constant(node.inputs[1])
    source = builder.plain(name)
    axis = int(node.attributes.get("axis", 0)) % len(source.shape)
    chosen = applied(_from_front, index, source.shape[axis])
    if chosen.ndim == 0:
        keep = [number for number in range(len(source.shape)) if number != axis]
        builder.hold(
            out,
            Plain(
                source.buffer,
                tuple(source.shape[number] for number in keep),
                tuple(source.strides[number] for number in keep),
                source.offset + chosen.item() * source.strides[axis],
            ),
        )
        return
    target = builder.plain_result(out)
    flat = (*source.shape[:axis], chosen.size, *source.shape[axis + 1 :])
    _taken(builder, out, source, Plain.contiguous(target.buffer, flat), axis, chosen.ravel())


def _from_front(index: Array, length: int) -> Array:
    """Return the places along an axis, those from its end counted from its front."""
    return np.where(index < 0, index + length, index).astype(np.int64)


def depth_to_space(builder: Builder, node: Node) -> None:
    """Move channels into squares of pixels."""
    side, own = int(node.attributes["blocksize"]), str(node.attributes.get("mode", "DCR"))
    if own == "DCR" and interleave(builder, node.inputs[0], node.outputs[0], (side, side)):
        return
    source = builder.plain(node.inputs[0], contiguous=True)
    count, channels, height, width = source.shape
    size = int(node.attributes["blocksize"])
    rest = channels // size**2
    crd = str(node.attributes.get("mode", "DCR")) == "CRD"
    split_shape = (
        (count, rest, size, size, height, width) if crd else (count, size, size, rest, height, width)
    )
    order = (0, 1, 4, 2, 5, 3) if crd else (0, 3, 4, 1, 5, 2)
    _rearranged(builder, node.outputs[0], source, split_shape, order)


def interleavings(graph: Graph) -> dict[int, tuple[Node, Node, tuple[int, ...]]]:
    """Return what a transposed convolution puts between each other, by the last of three nodes.

    A Reshape, a Transpose and a Reshape make (N, C, L s, ..) of (N, s.. C, L..): the first two of them, and
    the strides s.
    """
    makers = {node.outputs[0]: node for node in graph.nodes if node.op in ("Reshape", "Transpose")}
    triples = []
    for node in makers.values():
        turned = makers.get(node.inputs[0])
        first = None if turned is None else makers.get(turned.inputs[0])
        if turned is not None and first is not None:
            triples.append((node, turned, first))
    readers = graph.consumers() if triples else {}
    phases = {}
    for node, turned, first in triples:
        if (first.op, turned.op, node.op) != ("Reshape", "Transpose", "Reshape"):
            continue
        between = (first.outputs[0], turned.outputs[0])
        if any(len(readers[name]) > 1 or name in graph.outputs for name in between):
            continue
        whole: Any = graph.types[node.outputs[0]].shape
        apart: Any = graph.types[between[0]].shape
        rank = len(whole) - 2
        pairs = tuple(place for axis in range(rank) for place in (2 + rank + axis, 1 + axis))
        if len(apart) != 2 + 2 * rank or tuple(turned.attributes.get("perm", ())) != (0, 1 + rank, *pairs):
            continue
        strides = apart[1 : 1 + rank]
        lengths = (n * stride for n, stride in zip(apart[2 + rank :], strides, strict=True))
        if whole == (apart[0], apart[1 + rank], *lengths):
            phases[id(node)] = first, turned, strides
    return phases


def interleave(builder: Builder, name: str, out: str, strides: tuple[int, ...]) -> bool:
    """Append the copies that put phases of whole blocks between each other; False where they are none."""
    channels = builder.shape(out)[1]
    if channels % builder.lanes or not builder.is_blocked(name) or len(builder.shape(out)) not in (3, 4, 5):
        return False
    source, target = builder.blocked(name), builder.result(out)
    builder.clear_around(out, target)
    steps = (*(1 for _ in range(3 - len(strides))), *strides)
    to = (target.pitches[0], target.pitches[2], target.lanes)
    wide = (steps[0] * to[0], target.pitches[1], steps[1] * to[1], steps[2] * to[2], 1)
    parts = [
        (source.channels(number * channels, channels), sum(map(mul, phase, to)))
        for number, phase in enumerate(np.ndindex(*steps))
    ]

    def add(program: Any) -> None:
        base, at = target.address
        for part, shift in parts:
            append_step(
                program, _core.add_copy, part.lengths, part.address, part.strides, (base, at + shift), wide
            )

    builder.add("phases", out, [source], [target], add)
    return True


def space_to_depth(builder: Builder, node: Node) -> None:
    """Move squares of pixels into channels."""
    source = builder.plain(node.inputs[0], contiguous=True)
    count, channels, height, width = source.shape
    size = int(node.attributes["blocksize"])
    split_shape = (count, channels, height // size, size, width // size, size)
    crd = str(node.attributes.get("mode", "DCR")) == "CRD"
    _rearranged(
        builder, node.outputs[0], source, split_shape, (0, 1, 3, 5, 2, 4) if crd else (0, 3, 5, 1, 2, 4)
    )


def _rearranged(
    builder: Builder, out: str, source: Plain, shape: tuple[int, ...], order: tuple[int, ...]
) -> None:
    """Copy a tensor of other axes in another order of them."""
    strides = Plain.contiguous(source.buffer, shape).strides
    turned = Plain(
        source.buffer,
        tuple(shape[axis] for axis in order),
        tuple(strides[axis] for axis in order),
        source.offset,
    )
    target = builder.plain_result(out)
    builder.copy(out, turned, Plain.contiguous(target.buffer, turned.shape))
