"""Convolutions and fully connected layers as native steps."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from .... import _core
from ...._base.types import Array
from ...graph.ir import Node, is_bfloat
from ..builder import Builder, UnsupportedError
from ..chains import is_depthwise, is_pointwise, is_winograd
from ..memory import Blocked, Buffer, Plain
from .recorded import append_step, core_value
from .volumes import image
from .windows import global_pool

__all__ = ["ACTIVATIONS", "conv", "ending", "full", "named_ending"]

# As the core numbers them (`_core.Activation`).
ACTIVATIONS: Final = (
    *("none", "relu", "relu6", "silu", "hard_swish", "gelu", "gelu_tanh"),
    *("sigmoid", "hard_sigmoid", "clip", "leaky_relu", "tanh"),
)


# Pixels of a row of results up to which panels of weights are wider: where rows cannot be taken together.
_SHORT_ROW: Final = 7


def ending(node: Node) -> tuple[int, float, float]:
    """Return the number of a node's activation, and its two parameters."""
    attributes = node.attributes
    name = str(attributes.get("activation", "none"))
    if name not in ACTIVATIONS:
        raise UnsupportedError(f"activation {name!r}")
    return ACTIVATIONS.index(name), *_parameters(name, attributes)


def _parameters(name: str, attributes: Mapping[str, Any]) -> tuple[float, float]:
    if name == "clip":
        return float(attributes["low"]), float(attributes["high"])
    if name == "hard_sigmoid":
        return float(attributes.get("alpha", 1 / 6)), float(attributes.get("beta", 0.5))
    return float(attributes.get("alpha", 0.0)), 0.0


def named_ending(node: Node) -> tuple[str, float, float] | None:
    """Return a node's activation as plain steps take it; None if there is none."""
    name = str(node.attributes.get("activation", "none"))
    return None if name == "none" else (name, *_parameters(name, node.attributes))


def _input(node: Node, number: int) -> str:
    return node.inputs[number] if len(node.inputs) > number else ""


def _bias(builder: Builder, node: Node) -> Array | None:
    name = _input(node, 2)
    return builder.constant(name) if name else None


def _two(values: tuple[int, ...], missing: int) -> tuple[int, int]:
    """Return one number for rows and one for columns, of those of all spatial axes."""
    if len(values) == 1:
        return missing, int(values[0])
    return int(values[-2]), int(values[-1])


@dataclass(eq=False, slots=True)
class _KnownConvolution:
    """What a convolution is, whatever it reads: kept with its node for the plans of other shapes.

    Attributes
    ----------
    weights, bias : ndarray
        Of the node; the weights of a signal have rows.
    own : ndarray
        The weights as the graph has them.
    kind : str
    notes : list of str
    macs : int
        For each number that it makes.
    is_depthwise, is_pointwise : bool
    two : tuple
        Strides, dilations and padding of rows and columns.
    ending : tuple
        Activation, its parameters, and whether a residual is added after it.
    packed : dict
        How the weights are found again, by how they are packed.
    """

    weights: Array
    bias: Array | None
    own: Array
    kind: str
    notes: list[str]
    macs: int
    is_depthwise: bool
    is_pointwise: bool
    two: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
    ending: tuple[int, float, float, bool]
    packed: dict[tuple[object, ...], tuple[object, ...]] = field(default_factory=dict)


def _layer(builder: Builder, node: Node) -> _KnownConvolution:
    own, bias = builder.constant(node.inputs[1]), _bias(builder, node)
    known: _KnownConvolution | None = node.notes.get("layer")
    if known is not None and known.own is own and known.bias is bias:
        return known
    if own.ndim not in (3, 4, 5):
        raise UnsupportedError(f"{own.ndim - 2} spatial axes; expected one to three")
    attributes = node.attributes
    rank = len(attributes["kernel_shape"])
    steps = _two(attributes["strides"], 1), _two(attributes["dilations"], 1)
    known = node.notes["layer"] = _KnownConvolution(
        own[:, :, None, :] if own.ndim == 3 else own,
        bias,
        own,
        _kind(builder, node),
        _notes(node),
        math.prod(own.shape[1:]),
        is_depthwise(node, builder.shape),
        is_pointwise(node),
        (*steps, _two(tuple(attributes["pads"][:rank]), 0)),
        (*ending(node), attributes.get("add", "before") == "after"),
    )
    return known


def conv(builder: Builder, nodes: tuple[Node, ...]) -> None:
    """Append convolutions that run as one step: one, or a chain of them."""
    layers = [_layer(builder, node) for node in nodes]
    first, last = nodes[0], nodes[-1]
    if len(nodes) == 1 and _is_full(builder, first):
        return _full_conv(builder, first)
    winograd = len(nodes) == 1 and is_winograd(first, builder.shape)
    volume = len(builder.shape(first.inputs[0])) == 5
    src = builder.blocked(first.inputs[0]) if winograd and not volume else _source(builder, first, layers[0])
    winograd = winograd and (not volume or _in_tiles(builder, src))
    stages = [
        _stage(builder, node, layer, src if node is first else None, winograd)
        for node, layer in zip(nodes, layers, strict=True)
    ]
    dst = builder.result(last.outputs[0])
    builder.clear_deep(last.outputs[0], dst)
    residual = builder.blocked(_input(last, 3)) if _input(last, 3) else None
    scale = _vector(builder, _input(first, 4)) if _input(first, 4) else None
    wants_means = len(last.outputs) > 1 and bool(last.outputs[1])
    in_store = wants_means and layers[-1].is_depthwise and dst.rank < 5
    means = _means(builder, last) if in_store else None
    sums = _sums(dst) if in_store and len(nodes) > 1 else None

    def add(program: Any) -> None:
        append_step(
            program,
            _core.add_chain,
            _read(program, src, first, dst.shape[0], winograd) if dst.rank == 5 else _image(program, src),
            _image(program, dst),
            [core_value(program, _core.Stage, *stage) for stage in stages],
            None if residual is None else _image(program, residual),
            None if scale is None else scale.address,
            None if means is None else means.address,
            None if sums is None else (sums.base, sums.at),
        )

    others = [held for held in (residual, scale) if held is not None]
    builder.add(
        " > ".join([layer.kind for layer in layers]),
        last.outputs[0],
        [src, *others],
        [dst, *(held for held in (means, sums) if held is not None)],
        add,
        macs=sum(
            layer.macs * math.prod(builder.shape(node.outputs[0]))
            for node, layer in zip(nodes, layers, strict=True)
        ),
        notes=[note for layer in layers for note in layer.notes],
        weights=sum(
            layer.own.nbytes // (1 + is_bfloat(node)) for node, layer in zip(nodes, layers, strict=True)
        ),
    )
    if wants_means and not in_store:
        global_pool(builder, Node("GlobalAveragePool", last.outputs[:1], last.outputs[1:]))


def _in_tiles(builder: Builder, src: Blocked | Plain) -> bool:
    """Whether slices of a volume can be further channels to Winograd's algorithm: whole blocks in a row."""
    if not isinstance(src, Blocked) or src.lanes != builder.lanes:
        return False
    return src.shape[1] % src.lanes == 0 and src.pitches[0] == src.blocks * src.pitches[1]


def _read(program: Any, src: Blocked | Plain, node: Node, slices: int, winograd: bool) -> Any:
    """Return the slices of a volume that results begin to read at, as images of the core."""
    assert isinstance(src, Blocked)
    taps, stride, before = (int(node.attributes[name][0]) for name in ("kernel_shape", "strides", "pads"))
    base, at = src.address
    channels = src.shape[1] * (taps if winograd else 1)
    pitches = (stride * src.pitches[0], *src.pitches[1:], src.lanes)
    place = base, at - before * src.pitches[0]
    return core_value(
        program, _core.Image, *place, (slices, channels, *src.shape[2:]), src.lanes, pitches, src.around
    )


def _image(program: Any, held: Blocked | Plain) -> Any:
    """Return feature maps as the core takes them; those of a plain array are read in its own layout."""
    if isinstance(held, Blocked):
        return image(program, held)
    strides = held.strides
    height, row = (held.shape[2], strides[2]) if len(held.shape) == 4 else (1, 0)
    shape = (held.shape[0], held.shape[1], height, held.shape[-1])
    pixel = _block(held) if shape[3] == 1 and _block(held) > 1 else strides[-1]
    pitches = (strides[0], strides[1], row, pixel)
    return core_value(program, _core.Image, *held.address, shape, _block(held), pitches, (0, 0, 0, 0))


def _block(held: Blocked | Plain) -> int:
    """Return how many channels of a pixel lie together: all of them, where channels come last."""
    if isinstance(held, Blocked):
        return held.lanes
    count, last = held.shape[1], held.strides[-1]
    return count if held.strides[1] == 1 and (held.shape[-1] == 1 or last == count) else 1


def _source(builder: Builder, node: Node, layer: _KnownConvolution) -> Blocked | Plain:
    """Return what a convolution reads: blocks, or an array as it is."""
    name = node.inputs[0]
    if len(builder.shape(name)) == 5:
        few = builder.shape(name)[1] < builder.lanes and not builder.is_blocked(name)
        few = few and not layer.is_depthwise
        return (builder.planes if few else builder.blocked)(name, *builder.zeros_for(node))
    if layer.is_depthwise or builder.is_blocked(name):
        return builder.blocked(name, builder.zeros_for(node)[0] if layer.is_depthwise else (0, 0, 0, 0))
    held = builder.plain(name)
    forwards = all(n == 1 or step > 0 for n, step in zip(held.shape, held.strides, strict=True))
    return held if forwards else builder.plain(name, contiguous=True)


def _stage(
    builder: Builder, node: Node, layer: _KnownConvolution, src: Blocked | Plain | None, winograd: bool
) -> Any:
    """Return what the core's stage is made of; its weights are packed now."""
    size = builder.image_shape(node.outputs[0])[1:]
    depth, slice_ = 1, 0
    if layer.weights.ndim == 5:
        depth = 1 if winograd else layer.weights.shape[2]
        slice_ = node.attributes["dilations"][0] * src.pitches[0] if isinstance(src, Blocked) else 0
    dense = depthwise = bfloats = None
    if is_bfloat(node):
        _, (_, between), _ = layer.two
        bfloats = _packed(builder, node, layer, (between == 1,))
    elif layer.is_depthwise:
        depthwise = _packed(builder, node, layer, ())
    else:
        block = builder.lanes if src is None else _block(src)
        short = size[2] <= _SHORT_ROW and not layer.is_pointwise and not winograd
        dense = _packed(builder, node, layer, (block, short, winograd))
    return (dense, depthwise, size, *layer.two, *layer.ending, depth, slice_, bfloats)


def _packed(builder: Builder, node: Node, layer: _KnownConvolution, how: tuple[Any, ...]) -> Any:
    """Return a layer's weights, packed as the store is told: `how` is all that it does not know of them."""
    store = builder.store
    packed = store.again(layer.packed.get(how))
    if packed is not None:
        return packed
    weights, group = layer.weights, int(node.attributes["group"])
    if weights.ndim == 5:
        weights = _of_slices(builder, weights, how[2:] == (True,))
    if is_bfloat(node):
        packed = store.bfloats(weights, layer.bias, group, *how)
    elif layer.is_depthwise:
        packed = store.depthwise(weights[:, 0], layer.bias)
    else:
        packed = store.conv(weights, layer.bias, group, *how)
    if weights is layer.weights:  # of slices only the store keeps what was packed
        layer.packed[how] = store.latest
    return packed


def _of_slices(builder: Builder, weights: Array, winograd: bool) -> Array:
    """Return the weights of a volume's kernel with its slices below each other, or as further channels."""
    c_out, c_in, depth, high, wide = weights.shape
    if not winograd:
        return weights.reshape(c_out, c_in, depth * high, wide)

    def turned() -> tuple[Array, ...]:
        return (np.ascontiguousarray(weights.transpose(0, 2, 1, 3, 4)).reshape(c_out, -1, high, wide),)

    return builder.store.derived("slices", (weights,), turned)[0]


def _vector(builder: Builder, name: str) -> Blocked:
    """Return one number for each channel, in blocks."""
    if builder.image_shape(name)[2:] != (1, 1):
        raise UnsupportedError(f"a scale of shape {builder.shape(name)}; expected (N, C, 1, 1)")
    return builder.row(name)


def _sums(dst: Blocked) -> Buffer:
    """Return room for the sums of each band of rows: a band has one row at least."""
    return Buffer(dst.shape[0] * dst.shape[2] * dst.blocks * dst.lanes)


def _means(builder: Builder, node: Node) -> Blocked:
    count, channels = builder.shape(node.outputs[1])[:2]
    held = Blocked.fresh((count, channels, 1, 1), builder.lanes, rank=len(builder.shape(node.outputs[1])))
    builder.hold(node.outputs[1], held)
    return held


def _kind(builder: Builder, node: Node) -> str:
    attributes = node.attributes
    if is_bfloat(node):
        return f"bf16 {_kind(builder, node.and_attributes(operands='float32'))}"
    kernel = " x ".join(str(length) for length in attributes["kernel_shape"])
    strides = sorted(set(attributes["strides"]))
    stride = f" /{'x'.join(map(str, strides))}" if strides != [1] else ""
    if is_depthwise(node, builder.shape):
        return f"depthwise {kernel}{stride}"
    if is_pointwise(node):
        return "pointwise"
    groups = f" in {attributes['group']} groups" if attributes["group"] != 1 else ""
    return f"conv {kernel}{stride}{groups}"


def _notes(node: Node) -> list[str]:
    found = []
    if _input(node, 4):
        found.append("scaled")
    if _input(node, 3):
        found.append("+ residual")
    if node.attributes.get("activation", "none") != "none":
        found.append(str(node.attributes["activation"]))
    if len(node.outputs) > 1 and node.outputs[1]:
        found.append("mean")
    return found


# -- fully connected ---------------------------------------------------------------------------------


def _is_full(builder: Builder, node: Node) -> bool:
    """Whether a convolution is a fully connected layer: of one pixel, without a residual."""
    spatial = (*builder.shape(node.inputs[0])[2:], *builder.shape(node.outputs[0])[2:])
    return (
        is_pointwise(node)
        and all(length == 1 for length in spatial)
        and not _input(node, 3)
        and not _input(node, 4)
        and len([name for name in node.outputs if name]) == 1
    )


def _full_conv(builder: Builder, node: Node) -> None:
    weights = builder.constant(node.inputs[1])
    rows = builder.shape(node.inputs[0])[0]
    x = builder.plain(node.inputs[0])
    if is_bfloat(node):
        packed = builder.store.bfloats(weights.reshape(*weights.shape[:2], 1, 1), _bias(builder, node))
    else:
        packed = builder.store.full(weights.reshape(weights.shape[:2]), _bias(builder, node), True)
    builder.row_result(
        node.outputs[0],
        lambda dst: _full(builder, node, packed, rows, (x, x.strides[:2]), (dst, dst.pitches[0])),
    )


def full(builder: Builder, node: Node) -> None:
    """Append a fully connected layer: "Gemm" of a constant matrix, or "MatMul" of one in bfloat16."""
    attributes = node.attributes
    weights, bias = builder.constant(node.inputs[1]), _bias(builder, node)
    alpha, beta = float(attributes.get("alpha", 1.0)), float(attributes.get("beta", 1.0))
    if attributes.get("transA"):
        raise UnsupportedError("transA")
    if alpha != 1.0:
        weights = (weights * np.float32(alpha)).astype(np.float32)
    transposed = bool(attributes.get("transB", 0))
    columns = weights.shape[0 if transposed else 1]
    if bias is not None:
        if bias.size not in (1, columns) or (bias.ndim > 1 and bias.shape[-1] != bias.size):
            raise UnsupportedError(f"a bias of shape {bias.shape}")
        if beta != 1.0 or bias.shape != (columns,):  # else the packed weights are found by it again
            bias = np.broadcast_to((bias * np.float32(beta)).ravel(), (columns,))
    x = builder.plain(node.inputs[0])
    if is_bfloat(node):
        packed = builder.store.bfloats(weights.T if transposed else weights, bias)
        if len(x.shape) != 2 or min(x.strides) < 0:
            x = builder.plain(node.inputs[0], contiguous=True)
    else:
        packed = builder.store.full(weights, bias, transposed)
    dst = builder.plain_result(node.outputs[0])
    rows = math.prod(x.shape[:-1])
    _full(builder, node, packed, rows, (x, x.strides[-2:]), (dst, dst.strides[-2]))


def _full(
    builder: Builder,
    node: Node,
    packed: Any,
    rows: int,
    source: tuple[Plain, tuple[int, ...]],
    target: tuple[Plain | Blocked, int],
) -> None:
    (x, strides), (dst, row) = source, target
    step: Any = _core.add_full
    end: tuple[Any, ...] = (named_ending(node),)
    kind = "fully connected"
    if is_bfloat(node):
        step, kind, end = _core.add_bfloat_full, f"bf16 {kind}", ending(node)

    def add(program: Any) -> None:
        append_step(program, step, packed, rows, x.address, strides, dst.address, row, *end)

    builder.add(
        kind,
        node.outputs[0],
        [x],
        [dst],
        add,
        macs=rows * builder.constant(node.inputs[1]).size,
        notes=_notes(node),
        weights=packed.nbytes,
    )
