"""From a static graph to operations: one function for each kind of node."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from ... import _core
from ..._base.types import Array
from ..graph.ir import Graph, Node, is_bfloat
from ..graph.values import VALUES
from ..recorded.numbers import larger
from .builder import Builder, UnsupportedError, around_of, deep_of
from .carried import MOVES, CarriedAs, carried
from .chains import chains
from .memory import Buffer, Plain
from .native_forms import FORMS
from .operations import Operation
from .steps import (
    arrangement,
    convolutions,
    elements,
    integer_products,
    logic,
    quantised,
    recurrent,
    volumes,
    windows,
)
from .weights import WeightStore

__all__ = [
    "NATIVE",
    "Lowered",
    "builder_lanes",
    "lowered",
    "matrix_unit",
    "may_be_native",
    "target",
    "unsupported",
]

_Lower = Callable[[Builder, Node], None]


def _conv(builder: Builder, node: Node) -> None:
    convolutions.conv(builder, (node,))


def _matmul(builder: Builder, node: Node) -> None:
    (convolutions.full if is_bfloat(node) else elements.matmul)(builder, node)


# What has native steps, by ONNX's name.
NATIVE: Final[Mapping[str, _Lower]] = {
    "Conv": _conv,
    "Gemm": convolutions.full,
    "MatMul": _matmul,
    **dict.fromkeys(elements.BINARY, elements.binary),
    "Sum": elements.variadic,
    **dict.fromkeys((*elements.UNARY, "Clip", "Gelu", "Swish"), elements.unary),
    **dict.fromkeys(elements.REDUCTIONS, elements.reduction),
    **dict.fromkeys(("Softmax", "LogSoftmax"), elements.softmax),
    **dict.fromkeys(("MaxPool", "AveragePool"), windows.pool),
    **dict.fromkeys(("GlobalAveragePool", "GlobalMaxPool"), windows.global_pool),
    "Resize": windows.resize,
    **dict.fromkeys(("LSTM", "GRU"), recurrent.recurrent),
    **dict.fromkeys(("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"), logic.compare),
    **dict.fromkeys(("And", "Or", "Xor"), logic.connect),
    "Not": logic.negate,
    "Where": logic.where,
    "Cast": logic.cast,
    **dict.fromkeys(("ArgMax", "ArgMin"), logic.position),
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), arrangement.reshape),
    "Transpose": arrangement.transpose,
    "Expand": arrangement.expand,
    "Concat": arrangement.concat,
    "Split": arrangement.split,
    "Slice": arrangement.slice_,
    "Pad": arrangement.pad,
    "Gather": arrangement.gather,
    "DepthToSpace": arrangement.depth_to_space,
    "SpaceToDepth": arrangement.space_to_depth,
    "QuantizeLinear": quantised.quantize,
    "DequantizeLinear": quantised.dequantize,
    "DynamicQuantizeLinear": quantised.dynamic_quantize,
    "QLinearConv": integer_products.conv,
    "QLinearMatMul": integer_products.matmul,
    "QLinearAdd": quantised.add,
    "ConvInteger": integer_products.conv_integer,
    "MatMulInteger": integer_products.matmul_integer,
}


@dataclass(frozen=True, eq=False)
class Lowered:
    """Operations of a static graph, and the memories that they read and write.

    Attributes
    ----------
    operations : list of Operation
    inputs, outputs : list of Buffer
        In the graph's order.
    constants : list of (Buffer, ndarray)
    """

    operations: list[Operation]
    inputs: list[Buffer]
    outputs: list[Buffer]
    constants: list[tuple[Buffer, Array]]


# Passes turn these into what has native steps.
_TURNED: Final = frozenset({"BatchNormalization", "ConvTranspose", "Dropout", "If", "Shape", "Size"})


def may_be_native(op: str) -> bool:
    """Return whether nodes of an operation may have native steps, or be gone once all shapes are known."""
    return op in NATIVE or op in FORMS or op in VALUES or op in _TURNED


# Of these all operands may be of another type, and must be what float32 holds.
_TRUTHS: Final = frozenset(
    (
        *("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"),
        "And",
        "Or",
        "Xor",
        "Not",
        "Where",
        "Cast",
    )
)
_FLOATS: Final = {np.dtype(np.float32)}
_CARRIES: Final = _TRUTHS | MOVES | {"ArgMax", "ArgMin", *quantised.QUANTISED}


def _dtype(graph: Graph, name: str) -> np.dtype[Any] | None:
    """Return the type of a tensor's elements; None where there is none."""
    if name in graph.constants:
        return graph.constants[name].dtype
    kind = graph.types.get(name) or graph.inputs.get(name)
    return None if kind is None else kind.dtype


def unsupported(graph: Graph) -> list[tuple[Node, str]]:
    """Return the nodes of a graph that have no native step by their kind or dtype, with what is wrong."""
    made = [graph.types[name] for node in graph.nodes for name in node.outputs if name]
    if {kind.dtype for kind in (*graph.inputs.values(), *made)} <= _FLOATS:
        return [(node, node.op) for node in graph.nodes if node.op not in NATIVE]
    found = []
    held = carried(graph)
    loose = {name for name, how in held.items() if how is CarriedAs.rounded and name in graph.outputs}
    for node in graph.nodes:
        read = node.inputs if node.op in _TRUTHS else node.inputs[:1]
        others = [
            str(kind)
            for name in (*read, *node.outputs)
            if (kind := _dtype(graph, name)) is not None  # NumPy takes None for float64
            and kind != np.float32
            and (name not in held or name in loose or node.op not in _CARRIES)
        ]
        if node.op not in NATIVE and not (others and node.op in FORMS):
            found.append((node, f"{node.op}"))
        elif others:
            found.append((node, f"{node.op} of {others[0]}"))
    return found


def lowered(graph: Graph, store: WeightStore) -> tuple[Lowered, list[tuple[Node, str]]]:
    """Return the operations of a static graph, and what has no native step.

    Parameters
    ----------
    graph : Graph
        Static, its types all known.
    store : WeightStore
        Holds the packed weights, and those that were not packed yet from now on.

    Returns
    -------
    lowered : Lowered
        Of no use if anything is missing.
    missing : list of (Node, str)
    """
    graph = volumes.one_by_one(graph)
    missing = unsupported(graph)
    shape = graph.shapes()
    around, deep = _zeros_around(graph, shape)
    phases = arrangement.interleavings(graph)
    builder = Builder(graph, store, around, _concatenations(graph, builder_lanes(), phases), deep, shape)
    inputs = _inputs(builder)
    groups = {id(group[-1]): group for group in chains(graph, shape)}
    inside = {id(node) for group in groups.values() for node in group[:-1]}
    inside |= {id(node) for first, turned, _ in phases.values() for node in (first, turned)}
    bad = {id(node) for node, _ in missing}
    for node in graph.nodes:
        if id(node) in inside:
            continue
        try:
            if id(node) in groups:
                convolutions.conv(builder, groups[id(node)])
            elif id(node) in phases:
                _interleaved(builder, node, *phases[id(node)])
            elif id(node) not in bad:
                NATIVE[node.op](builder, node)
        except UnsupportedError as error:
            missing.append((node, f"{node.op}: {error}"))
        builder.pretend(node.outputs)  # where something is missing, to see what else is
    outputs = [] if missing else _outputs(builder)
    return Lowered(builder.operations, inputs, outputs, builder.constants), missing


def _interleaved(builder: Builder, node: Node, first: Node, turned: Node, strides: tuple[int, ...]) -> None:
    if arrangement.interleave(builder, first.inputs[0], node.outputs[0], strides):
        return
    for step in (first, turned, node):
        NATIVE[step.op](builder, step)


def target() -> str:
    """Return the instruction set in use: weights are packed, and steps chosen, for it."""
    return _core.target()


def matrix_unit() -> str:
    """Return what multiplies numbers of bfloat16 on this machine: "amx", "avx512-bf16" or "vectors"."""
    return _core.matrix_unit()


def builder_lanes() -> int:
    """Return the channels of a block on this machine."""
    return int(_core.core_info()["vector_bits"]) // 32


def _inputs(builder: Builder) -> list[Buffer]:
    buffers = []
    for number, name in enumerate(builder.graph.inputs):
        shape = builder.shape(name)
        held = Plain.contiguous(Buffer(math.prod(shape), base=1 + number), shape)
        builder.hold(name, held)
        buffers.append(held.buffer)
    return buffers


def _outputs(builder: Builder) -> list[Buffer]:
    """Copy what the graph gives to where a caller wants it; an operation that can write there does."""
    first = 1 + len(builder.graph.inputs)
    buffers = []
    for number, name in enumerate(builder.graph.outputs):
        shape = builder.shape(name)
        target = Plain.contiguous(Buffer(math.prod(shape), base=first + number), shape)
        buffers.append(target.buffer)
        held = builder.plain(name)
        if (
            held.is_contiguous
            and held.buffer.base == 0
            and held.buffer.size == target.buffer.size
            and _is_last(builder, held, name)
        ):
            held.buffer.base = first + number
            buffers[-1] = held.buffer
        else:
            builder.copy(name, held, target)
    return buffers


def _is_last(builder: Builder, held: Plain, name: str) -> bool:
    """Whether a tensor may lie in a caller's memory: no other output lies there."""
    return all(
        other == name or all(place.buffer is not held.buffer for place in builder.held(other))
        for other in builder.graph.outputs
    )


def _zeros_around(
    graph: Graph, shape: Callable[[str], tuple[int, ...]]
) -> tuple[dict[str, tuple[int, int, int, int]], dict[str, tuple[int, int]]]:
    """Return for each tensor the zeros around it that the convolutions of several taps read, and slices."""
    found: dict[str, tuple[int, int, int, int]] = {}
    deep: dict[str, tuple[int, int]] = {}
    for node in graph.nodes:
        if node.op != "Conv" or len(shape(node.outputs[0])) not in (3, 4, 5):
            continue
        slices = deep_of(node, shape) if len(shape(node.outputs[0])) == 5 else (0, 0)
        if any(slices):
            known = deep.get(node.inputs[0], (0, 0))
            deep[node.inputs[0]] = larger(known[0], slices[0]), larger(known[1], slices[1])
        around = around_of(node, shape)
        if any(around):
            have = found.get(node.inputs[0], (0, 0, 0, 0))
            found[node.inputs[0]] = tuple(map(larger, have, around))
    return found, deep


def _concatenations(graph: Graph, lanes: int, phases: Collection[int]) -> dict[str, tuple[str, int]]:
    """Return the tensors that are written where a concatenation wants them, and their first channel there."""
    made_in_blocks = {"Conv", "MaxPool", "AveragePool", "Resize"}

    def in_blocks(maker: Node | None, size: int) -> bool:
        if maker is None or maker.op in made_in_blocks:
            return maker is not None
        together = maker.op == "DepthToSpace" and maker.attributes.get("mode", "DCR") == "DCR"
        return (together or id(maker) in phases) and size % lanes == 0

    producers = graph.producers()
    found: dict[str, tuple[str, int]] = {}
    for node in graph.nodes:
        out = node.outputs[0]
        if node.op != "Concat" or len(graph.types[out].shape) not in (3, 4, 5):
            continue
        if int(node.attributes["axis"]) % len(graph.types[out].shape) != 1:
            continue
        if any(name in graph.constants for name in node.inputs):
            continue
        sizes: list[Any] = [graph.types[name].shape[1] for name in node.inputs]
        fits = all(size % lanes == 0 for size in sizes[:-1]) and len(set(node.inputs)) == len(node.inputs)
        names = [_halved(producers, node.inputs, place) for place in range(len(node.inputs))]
        makers = [(producers.get(name), size) for name, size in zip(names, sizes, strict=True) if name]
        if not fits or not all(in_blocks(*pair) for pair in makers):
            continue
        first = 0
        for name, size in zip(names, sizes, strict=True):
            if name and name not in found and name not in graph.outputs:
                found[name] = (out, first)
            first += size
    return found


def _halved(producers: Mapping[str, Node], names: Sequence[str], place: int) -> str:
    """Return a tensor of a concatenation; of all parts of a Split in sequence, what was split, once."""
    maker = producers.get(names[place])
    if maker is None or maker.op != "Split" or int(maker.attributes.get("axis", 0)) != 1:
        return names[place]
    parts = maker.outputs
    first = place - parts.index(names[place])
    if first < 0 or tuple(names[first : first + len(parts)]) != parts:
        return names[place]
    return maker.inputs[0] if first == place else ""
