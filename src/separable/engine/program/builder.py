"""What lowering a graph keeps: where each tensor lies, the operations so far, and layouts on demand."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ... import _core
from ..._base.types import Array
from ..graph.ir import Graph, Node
from ..recorded.numbers import larger
from ..recorded.tape import applied
from .carried import CarriedAs, carried
from .chains import is_pointwise
from .levels import SIGN, LevelNumbers, LevelTensor
from .memory import Blocked, Buffer, Held, Plain
from .operations import Operation
from .steps.recorded import append_step
from .weights import WeightStore

__all__ = ["Builder", "UnsupportedError", "around_of", "deep_of"]


class UnsupportedError(Exception):
    """An operation has no native step; the message says what of it."""


class Builder:
    """Operations of one program, in running order.

    Parameters
    ----------
    graph : Graph
        Static.
    store : WeightStore
    around : mapping of str to tuple of int
        Zeros that the consumers of a tensor want around it.
    places : mapping of str to (str, int)
        Tensors that are written where a concatenation wants them: its output, and their first channel there.
    deep : mapping of str to tuple of int, optional
        Slices of zeros that they want around a volume.
    shape : callable, optional
        Tells the shapes of its tensors.

    Attributes
    ----------
    shape : callable
        Returns the shape of a tensor by its name.
    lanes : int
        Channels of a block.
    operations : list of Operation
    constants : list of (Buffer, ndarray)
        Arrays that operations read; each is a memory of its own.
    """

    def __init__(
        self,
        graph: Graph,
        store: WeightStore,
        around: Mapping[str, tuple[int, int, int, int]],
        places: Mapping[str, tuple[str, int]],
        deep: Mapping[str, tuple[int, int]] | None = None,
        shape: Callable[[str], tuple[int, ...]] | None = None,
    ) -> None:
        self.graph, self.store = graph, store
        self.lanes: int = _core.core_info()["vector_bits"] // 32
        self.operations: list[Operation] = []
        self.constants: list[tuple[Buffer, Array]] = []
        self._around, self._places, self._deep = around, places, deep or {}
        self._planes: dict[str, list[Blocked]] = {}
        self._held: dict[str, list[Held]] = {}
        self.shape: Callable[[str], tuple[int, ...]] = shape or graph.shapes()
        self._levels: dict[str, list[LevelTensor]] = {}
        self._numbers: dict[float, Buffer] = {}
        self._carried: Mapping[str, CarriedAs] | None = None

    # -- tensors -----------------------------------------------------------------------------------------

    def image_shape(self, name: str) -> tuple[int, int, int, int]:
        """Return the shape of a tensor of feature maps as (N, C, H, W); of a volume, slices are images."""
        shape = self.shape(name)
        if len(shape) == 3:
            return shape[0], shape[1], 1, shape[2]
        if len(shape) == 2:
            return shape[0], shape[1], 1, 1
        if len(shape) == 5:
            if shape[0] != 1:
                raise UnsupportedError("several volumes at once")
            return shape[2], shape[1], shape[3], shape[4]
        if len(shape) != 4:
            raise UnsupportedError(f"{len(shape)} axes; expected (N, C) and one to three spatial ones")
        return shape[0], shape[1], shape[2], shape[3]

    def hold(self, name: str, held: Held) -> None:
        """Note where a tensor lies; it may lie in several places."""
        self._held.setdefault(name, []).append(held)

    def held(self, name: str) -> Sequence[Held]:
        """Return all places where a tensor lies."""
        return self._held.get(name, ())

    def is_constant(self, name: str) -> bool:
        """Whether a tensor is known."""
        return name in self.graph.constants

    def constant(self, name: str) -> Array:
        """Return a tensor that has to be a constant."""
        if name not in self.graph.constants:
            raise UnsupportedError(f"`{name}` is computed; expected a constant")
        return self.graph.constants[name]

    def is_blocked(self, name: str) -> bool:
        """Whether a tensor lies in blocks."""
        return any(isinstance(held, Blocked) for held in self._held.get(name, ()))

    def memory_of(self, array: Array) -> Buffer:
        """Return the memory of a constant array."""
        array = applied(_floats, array)
        buffer = Buffer(
            array.size, base=-1 - len(self.constants)
        )  # its number follows from those of the others
        self.constants.append((buffer, array))
        return buffer

    # -- layouts -----------------------------------------------------------------------------------------

    def plain(self, name: str, contiguous: bool = False) -> Plain:
        """Return a tensor as an array with strides, which is made from blocks if need be."""
        found = [held for held in self.held(name) if isinstance(held, Plain)]
        for held in found:
            if held.is_contiguous or not contiguous:
                return held
        if not found and self.is_constant(name):
            held = Plain.contiguous(self.memory_of(self.graph.constants[name]), self.shape(name))
            self.hold(name, held)
            return held
        shape = self.shape(name)
        for blocked in self.held(name):
            if isinstance(blocked, Blocked) and blocked.is_row:
                rows = (blocked.pitches[0], 1, *(1 for _ in shape[2:]))
                flat = Plain(blocked.buffer, shape, rows, blocked.offset)
                if flat.is_contiguous or not contiguous:
                    return flat
        result = Plain.contiguous(Buffer(math.prod(shape)), shape)
        source = found[0] if found else next((h for h in self.held(name) if isinstance(h, Blocked)), None)
        self._fill(name, source, result)
        self.hold(name, result)
        return result

    def blocked(
        self, name: str, around: tuple[int, int, int, int] = (0, 0, 0, 0), deep: tuple[int, int] = (0, 0)
    ) -> Blocked:
        """Return a tensor in blocks with at least so many zeros around it, made from an array if need be."""
        for held in self.held(name):
            if isinstance(held, Blocked) and held.has_around(around, deep):
                return held
        if self.is_constant(name):
            raise UnsupportedError(f"`{name}` is a constant where feature maps are expected")
        target = self._copied(name, self.lanes, around, deep)
        self.hold(name, target)
        return target

    def planes(self, name: str, around: tuple[int, int, int, int], deep: tuple[int, int]) -> Blocked:
        """Return a volume of few channels as planes of one channel each, with zeros around them."""
        known = self._planes.setdefault(name, [])
        for held in known:
            if held.has_around(around, deep):
                return held
        known.append(self._copied(name, 1, around, deep))
        return known[-1]

    def _copied(
        self, name: str, lanes: int, around: tuple[int, int, int, int], deep: tuple[int, int]
    ) -> Blocked:
        wanted, further = self._around.get(name, (0, 0, 0, 0)), self._deep.get(name, (0, 0))
        target = Blocked.fresh(
            self.image_shape(name),
            lanes,
            tuple(map(larger, around, wanted)),
            len(self.shape(name)),
            (larger(deep[0], further[0]), larger(deep[1], further[1])),
        )
        self.clear_around(name, target)
        self._fill(name, next(iter(self.held(name)), None), target)
        return target

    def _fill(self, name: str, source: Held | None, target: Held) -> None:
        """Write a tensor to another place, from where it lies: as floats, or else as levels."""
        if source is not None:
            return self.copy(name, source, target)
        levels = self._levels[name][0]
        self.map_levels("dequantise", name, levels, target, self.itself(levels.is_signed))

    def row(self, name: str) -> Blocked:
        """Return a tensor of one pixel so that its channels, and its images, follow each other."""
        for held in self.held(name):
            if isinstance(held, Blocked) and held.is_row and held.pitches[0] == held.blocks * held.lanes:
                return held
        source = self.blocked(name)
        target = Blocked.fresh(source.shape, self.lanes, rank=source.rank)
        self.copy(name, source, target)
        self.hold(name, target)
        return target

    def row_result(self, name: str, write: Callable[[Blocked], None]) -> None:
        """Let a tensor of one pixel be written in a row, and put it where it belongs if that is elsewhere."""
        target = self.result(name)
        if target.is_row:
            self.clear_around(name, target)
            write(target)
            return
        row = Blocked.fresh(target.shape, self.lanes, rank=target.rank)
        write(row)
        self.clear_around(name, target)
        self.copy(name, row, target)

    def zeros_for(self, node: Node) -> tuple[tuple[int, int, int, int], tuple[int, int]]:
        """Return the zeros around its input that a convolution reads, and the slices of them."""
        return around_of(node, self.shape), deep_of(node, self.shape)

    def result(self, name: str) -> Blocked:
        """Return the place in blocks of a tensor that is about to be computed."""
        if name in self._places:
            whole, first = self._places[name]
            target = next((held for held in self.held(whole) if isinstance(held, Blocked)), None)
            if target is None:
                target = Blocked.fresh(
                    self.image_shape(whole),
                    self.lanes,
                    self._around.get(whole, (0, 0, 0, 0)),
                    len(self.shape(whole)),
                    self._deep.get(whole, (0, 0)),
                )
                self.hold(whole, target)
            part = target.channels(first, self.image_shape(name)[1])
            self.hold(name, part)
            return part
        around = self._around.get(name, (0, 0, 0, 0))
        fresh = Blocked.fresh(
            self.image_shape(name), self.lanes, around, len(self.shape(name)), self._deep.get(name, (0, 0))
        )
        self.hold(name, fresh)
        return fresh

    def plain_result(self, name: str) -> Plain:
        """Return the place of an array that is about to be computed."""
        fresh = Plain.contiguous(Buffer(math.prod(self.shape(name))), self.shape(name))
        self.hold(name, fresh)
        return fresh

    def pretend(self, names: Sequence[str]) -> None:
        """Say of tensors that nothing makes that they lie somewhere, so that what reads them can be tried."""
        for name in names:
            if name and name not in self._held and name not in self._levels:
                self.plain_result(name)

    def scratch(self, shape: tuple[int, ...]) -> Plain:
        """Return the place of an array that only the next operations read."""
        return Plain.contiguous(Buffer(math.prod(shape)), shape)

    # -- levels ------------------------------------------------------------------------------------------

    def number(self, value: float) -> Buffer:
        """Return the memory of a number."""
        if value not in self._numbers:
            self._numbers[value] = self.memory_of(np.array([value], np.float32))
        return self._numbers[value]

    def is_whole(self, name: str) -> bool:
        """Whether the memory of a tensor holds whole numbers of 32 bits."""
        if self._carried is None:
            self._carried = carried(self.graph)
        return self._carried.get(name) is CarriedAs.whole

    def itself(self, is_signed: bool) -> LevelNumbers:
        """Return the numbers of levels that stand for themselves."""
        return LevelNumbers(self.number(SIGN if is_signed else 0))

    def hold_levels(self, name: str, levels: LevelTensor) -> None:
        """Note where a tensor lies as levels."""
        self._levels.setdefault(name, []).append(levels)

    def held_levels(self, name: str) -> Sequence[LevelTensor]:
        """Return all places where a tensor lies as levels."""
        return self._levels.get(name, ())

    def levels(self, name: str, wanted: LevelTensor) -> LevelTensor:
        """Return a tensor of whole numbers as levels in a certain layout, made from floats if need be."""
        for held in self.held_levels(name):
            if held.strides == wanted.strides:
                return held
        source = self.held(name)[0] if self.held(name) else self.plain(name)
        self.map_levels("quantise", name, source, wanted, self.itself(wanted.is_signed))
        self.hold_levels(name, wanted)
        return wanted

    def map_levels(
        self,
        kind: str,
        name: str,
        source: Held | LevelTensor,
        target: Held | LevelTensor,
        numbers: LevelNumbers | None,
    ) -> None:
        """Append what turns floats into levels, levels into floats, or whole numbers into floats."""
        pairs = _boxes(source, target)
        sizes = [4 if isinstance(side, LevelTensor) else 1 for side in (source, target)]

        def emit(program: Any) -> None:
            for lengths, shift, strides, other_shift, other_strides in pairs:
                at, to = source.address, target.address
                append_step(
                    program,
                    _core.add_level_map,
                    kind,
                    lengths,
                    (at[0], at[1] + shift // sizes[0]),
                    strides,
                    (to[0], to[1] + other_shift // sizes[1]),
                    other_strides,
                    None if numbers is None else numbers.at,
                )

        what = {"quantise": "to levels", "dequantise": "from levels", "floats": "to floats"}[kind]
        self.add(what, name, [source, *([] if numbers is None else numbers.reads)], [target], emit)

    # -- operations --------------------------------------------------------------------------------------

    def add(
        self,
        kind: str,
        label: str,
        reads: Sequence[Held | LevelTensor | Buffer],
        writes: Sequence[Held | LevelTensor | Buffer],
        add: Callable[[Any], None],
        **more: Any,
    ) -> Operation:
        """Append an operation."""
        shape = self.shape(label) if label in self.graph.types else ()
        read, written, step = _buffers(reads), _buffers(writes), len(self.operations)
        operation = Operation(kind, label, shape, read, written, add, **more)
        for buffer in read:
            buffer.used(step)
        for buffer in written:
            buffer.used(step)
        self.operations.append(operation)
        return operation

    def copy(self, name: str, source: Held, target: Held) -> None:
        """Append the copy of a tensor to another place, in another layout if need be."""
        pairs = _boxes(source, target)

        def emit(program: Any) -> None:
            for lengths, shift, strides, other_shift, other_strides in pairs:
                at, to = source.address, target.address
                append_step(
                    program,
                    _core.add_copy,
                    lengths,
                    (at[0], at[1] + shift),
                    strides,
                    (to[0], to[1] + other_shift),
                    other_strides,
                )

        kind = (
            "copy"
            if type(source) is type(target)
            else "to blocks"
            if isinstance(target, Blocked)
            else "to plain"
        )
        self.add(kind, name, [source], [target], emit)

    def clear_around(self, name: str, target: Blocked) -> None:
        """Append the zeros around feature maps, for operations that do not write them themselves."""
        self.clear_deep(name, target)
        top, left, bottom, right = target.around
        if not any(target.around):
            return
        count, _, height, width = target.shape
        row, lanes = target.pitches[2], target.lanes
        wide = left + width + right
        boxes = [
            (-top * row - left * lanes, top, wide),
            (height * row - left * lanes, bottom, wide),
            (-left * lanes, height, left),
            (width * lanes, height, right),
        ]

        def emit(program: Any) -> None:
            base, at = target.address
            for shift, rows, pixels in boxes:
                if rows and pixels:
                    lengths = (count, target.blocks, rows, pixels * lanes)
                    append_step(
                        program, _core.add_fill, 0.0, lengths, (base, at + shift), (*target.pitches, 1)
                    )

        self.add("zeros around", name, [], [target], emit)

    def clear_deep(self, name: str, target: Blocked) -> None:
        """Append the slices of zeros before and behind a volume."""
        if not any(target.deep):
            return
        (front, back), (top, left, bottom, right) = target.deep, target.around
        count, _, height, width = target.shape
        image, block, row = target.pitches
        corner = -top * row - left * target.lanes
        wide = (left + width + right) * target.lanes

        def emit(program: Any) -> None:
            base, at = target.address
            for first, slices in ((-front, front), (count, back)):
                if slices:
                    lengths = (slices, target.blocks, top + height + bottom, wide)
                    place = base, at + first * image + corner
                    append_step(program, _core.add_fill, 0.0, lengths, place, (image, block, row, 1))

        self.add("zeros around", name, [], [target], emit)


def _floats(array: Array) -> Array:
    return np.ascontiguousarray(array, np.float32)


def _buffers(tensors: Sequence[Held | LevelTensor | Buffer]) -> list[Buffer]:
    found = [tensor if isinstance(tensor, Buffer) else tensor.buffer for tensor in tensors]
    return found if len(found) < 2 else list(dict.fromkeys(found))


_Pair = tuple[tuple[int, ...], int, tuple[int, ...], int, tuple[int, ...]]


def _boxes(source: Held | LevelTensor, target: Held | LevelTensor) -> list[_Pair]:
    """Return the boxes that one is copied to the other by: lengths, and offset and strides of both sides.

    Arrays are one box. Feature maps in blocks are two: whole blocks, and the channels of the last one; axes:
    image, block, lane, row, pixel.
    """
    if not isinstance(source, Blocked) and not isinstance(target, Blocked):
        return [(source.shape, 0, source.strides, 0, target.strides)]
    blocked = target if isinstance(target, Blocked) else source
    assert isinstance(blocked, Blocked)
    count, channels, height, width = blocked.shape
    lanes = blocked.lanes

    def side(held: Held | LevelTensor) -> tuple[int, int, int, int, int]:
        if isinstance(held, Blocked):
            return (held.pitches[0], held.pitches[1], 1, held.pitches[2], held.lanes)
        rows, columns = {
            2: (0, 0),
            3: (0, held.strides[-1]),
            4: (held.strides[-2], held.strides[-1]),
            5: (held.strides[-2], held.strides[-1]),
        }[len(held.shape)]
        return (
            held.strides[2 if len(held.shape) == 5 else 0],
            held.strides[1] * lanes,
            held.strides[1],
            rows,
            columns,
        )

    here, there = side(source), side(target)
    whole, rest = divmod(channels, lanes)
    pairs: list[_Pair] = []
    if whole:
        pairs.append(((count, whole, lanes, height, width), 0, here, 0, there))
    if rest:
        pairs.append(((count, 1, rest, height, width), whole * here[1], here, whole * there[1], there))
    return pairs


def around_of(node: Node, shapes: Callable[[str], tuple[int, ...]]) -> tuple[int, int, int, int]:
    """Return the zeros above, left, below and right of its input that a convolution reads.

    Parameters
    ----------
    node : Node
        "Conv" of one to three spatial axes.
    shapes : callable
        The shape of a tensor by its name.

    Returns
    -------
    tuple of int
        As many as it reads: fewer than it pads where the stride leaves some out.
    """
    low, high = _ends(node, shapes)
    if len(low) == 1:
        return 0, low[0], 0, high[0]
    return low[-2], low[-1], high[-2], high[-1]


def deep_of(node: Node, shapes: Callable[[str], tuple[int, ...]]) -> tuple[int, int]:
    """Return the slices of zeros before and behind its input that a convolution of a volume reads."""
    low, high = _ends(node, shapes)
    return (low[0], high[0]) if len(low) == 3 else (0, 0)


def _ends(node: Node, shapes: Callable[[str], tuple[int, ...]]) -> tuple[list[int], list[int]]:
    known = node.notes.get("ends")
    if known is None:
        known = node.notes["ends"] = _reaches(node)
    low, reaches, strides, one_tap = known
    if one_tap:
        return low, low
    size = shapes(node.inputs[0])[2:]
    out = shapes(node.outputs[0])[2:]
    high = [
        larger(0, (count - 1) * stride + reach - length)
        for count, stride, reach, length in zip(out, strides, reaches, size, strict=True)
    ]
    return low, high


def _reaches(node: Node) -> tuple[list[int], list[int], tuple[int, ...], bool]:
    """Return the padding of low ends, how far beyond it windows reach, strides, and if one tap is all."""
    kernel, strides = node.attributes["kernel_shape"], node.attributes["strides"]
    dilations, pads = node.attributes["dilations"], node.attributes["pads"]
    low = [int(pad) for pad in pads[: len(kernel)]]
    reaches = [(kernel[i] - 1) * dilations[i] + 1 - low[i] for i in range(len(kernel))]
    return low, reaches, strides, is_pointwise(node)
