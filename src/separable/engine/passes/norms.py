"""Scales and shifts of channels become part of the convolution beside them."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np

from ..._base.types import Array, FloatArray
from ..graph.ir import Graph, Node
from .draft import Draft
from .known import (
    channels_of,
    group_of,
    is_bare,
    pads_nothing,
    rank_of,
    real_constant,
)
from .patterns import is_sixth, slope_and_offset

__all__ = ["norms_after", "norms_alone", "norms_before"]

_HOSTS: Final = ("Conv", "ConvTranspose", "Gemm", "MatMul")


class _Affine(NamedTuple):
    """y = scale * x + shift, each one number or one a channel."""

    x: str
    scale: FloatArray
    shift: FloatArray


@np.errstate(all="ignore")  # what overflows stays as it is
def norms_after(graph: Graph) -> Graph:
    """Put scales and shifts of a convolution's result into its weights and bias.

    They are BatchNormalization, depthwise 1x1 convolutions, and Add, Sub, Mul, Div with one constant or one a
    channel, behind Conv, ConvTranspose, Gemm or MatMul whose result nothing else reads. Computed in float64,
    stored in the dtype of the weights. Of a HardSigmoid of another slope than 1/6, a Clip is left.
    """
    draft = Draft.of(graph)
    for node in draft:
        for x in node.inputs if node.op in _READ and len(node.outputs) == 1 else ():
            host = draft.maker(x)
            if host is None or host.op not in _HOSTS or not is_bare(host):
                continue
            if draft.only_reader(x) is node and (better := _absorbed(draft, host, node)) is not None:
                draft.replace(node, *_left(draft, node, better))
                draft.replace(host, better)
                break
    return draft.finished()


@np.errstate(all="ignore")  # what overflows stays as it is
def norms_before(graph: Graph) -> Graph:
    """Put scales and shifts of what a convolution alone reads into its weights and bias.

    A shift only where the convolution pads nothing: its zeros would have to be shifted, too.
    """
    draft = Draft.of(graph)
    for node in reversed(draft):
        taken = node.op in _STEPS and is_bare(node)
        conv = draft.only_reader(node.outputs[0]) if taken else None
        if conv is None or conv.op != "Conv" or conv.inputs[0] != node.outputs[0]:
            continue
        rank = rank_of(draft, conv.inputs[1])
        affine = None if rank is None else _affine(draft, node, rank, 1)
        if affine is None or (rank_of(draft, affine.x) != rank and not _adds_no_axis(draft, node)):
            continue
        if (better := _fed(draft, conv, affine)) is not None:
            draft.replace(node)
            draft.replace(conv, better)
    return draft.finished()


@np.errstate(all="ignore")  # what overflows stays as it is
def norms_alone(graph: Graph) -> Graph:
    """Turn each BatchNormalization that is left into a depthwise 1x1 convolution.

    So does a scale and a shift of channels in sequence. A norm of another rank than three to five becomes Mul
    and Add; one of unknown rank stays.
    """
    draft = Draft.of(graph)
    for node in draft:
        norm = node.op == "BatchNormalization"
        rank = rank_of(draft, node.outputs[0]) if node.op in _STEPS else None
        affine = None if rank is None else _normalised(draft, node) if norm else _pair(draft, node, rank)
        if rank is None or affine is None:
            continue
        new = _stand_alone(draft, node, affine, rank)
        if new:
            draft.replace(node, *new)
            draft.drop(draft.unread(node.inputs))
    return draft.finished()


def _pair(draft: Draft, node: Node, rank: int) -> _Affine | None:
    """Return two steps of scale and shift that no convolution took as one, a number for each channel."""
    second = _affine(draft, node, rank, 1) if rank in (3, 4, 5) and len(node.outputs) == 1 else None
    earlier = draft.maker(second.x) if second is not None and draft.only_reader(second.x) else None
    if second is None or earlier is None or earlier.op not in _STEPS or not is_bare(earlier):
        return None
    first = _affine(draft, earlier, rank, 1)
    channels = None if first is None else channels_of(draft, first.x)
    if first is None or channels is None or rank_of(draft, first.x) != rank:
        return None
    lengths = {len(array) for array in (*first[1:], *second[1:])}
    # Of three axes, the second holds positions as often as channels: constants of channels tell.
    if not lengths <= {1, channels} or (rank == 3 and lengths == {1}):
        return None
    scale, shift = first.scale * second.scale, first.shift * second.scale + second.shift
    return _Affine(first.x, np.broadcast_to(scale, channels), np.broadcast_to(shift, channels))


def _stand_alone(draft: Draft, node: Node, affine: _Affine, rank: int) -> tuple[Node, ...]:
    """Return a scale and a shift of channels as operations of their own; none if a value overflows."""
    earlier = draft.maker(node.inputs[0]) or draft.maker(node.inputs[-1]) or node
    given = [real_constant(draft, name) for name in (*node.inputs, *earlier.inputs)]
    dtypes = [values.dtype for values in given if values is not None]
    scale, shift = (_stored(values, dtypes[0]) if dtypes else None for values in affine[1:])
    if scale is None or shift is None:
        return ()
    after = _after(node)
    lane = (len(scale), *(1,) * (rank - 2))
    result = node.outputs[0]
    if rank in (3, 4, 5):
        weights = draft.add_constant(f"{result}/weights", scale.reshape(lane[0], 1, *lane[1:]))
        bias = draft.add_constant(f"{result}/bias", shift)
        attributes = {**_pointwise(rank - 2), "group": lane[0], **after}
        return (Node("Conv", (affine.x, weights, bias), node.outputs, attributes),)
    scaled = draft.new_name(f"{result}/scaled")
    draft.set_type(scaled, draft.type_of(result))
    first = draft.add_constant(f"{result}/scale", scale.reshape(lane))
    second = draft.add_constant(f"{result}/shift", shift.reshape(lane))
    mul = Node("Mul", (affine.x, first), (scaled,))
    return mul, Node("Add", (scaled, second), node.outputs, after)


_STEPS: Final = frozenset({"Add", "BatchNormalization", "Conv", "Div", "Mul", "Neg", "Sub"})
_READ: Final = _STEPS | {"HardSigmoid"}
# Attributes that tell an activation.
_APPLIED: Final = ("activation", "low", "high", "alpha")


def _left(draft: Draft, node: Node, host: Node) -> tuple[Node, ...]:
    """Return what is left of a node whose scale and shift a convolution took: the bounds of a HardSigmoid."""
    if node.op != "HardSigmoid":
        return ()
    draft.set_type(host.outputs[0], draft.type_of(node.outputs[0]))
    weights = draft.constant(host.inputs[1])
    assert weights is not None
    bounds = [
        draft.add_constant(f"{node.outputs[0]}/{end}", np.array(value, weights.dtype))
        for end, value in (("low", 0), ("high", 1))
    ]
    return (Node("Clip", (*host.outputs, *bounds), node.outputs),)


def _after(node: Node) -> dict[str, Any]:
    """Return the attributes that tell what a node applies to its result."""
    return {name: node.attributes[name] for name in _APPLIED if name in node.attributes}


def _add(draft: Draft, old: str, values: Array) -> str:
    return draft.add_constant(f"{old}/folded", values)


def _pointwise(axes: int) -> dict[str, Any]:
    ones = (1,) * axes
    return {"kernel_shape": ones, "strides": ones, "dilations": ones, "pads": (0,) * (2 * axes)}


def _affine(draft: Draft, node: Node, rank: int, axis: int) -> _Affine | None:
    """Return a node as scale and shift along one axis of its operand, which has `rank` axes."""
    one, zero = np.ones(1), np.zeros(1)
    if node.op == "Neg":
        return _Affine(node.inputs[0], -one, zero)
    if node.op == "HardSigmoid":
        alpha, beta = slope_and_offset(node)
        return None if is_sixth(alpha, beta) else _Affine(node.inputs[0], alpha * one, beta * one)
    if node.op == "BatchNormalization":
        return _normalised(draft, node)
    if node.op == "Conv":
        return _depthwise(draft, node)
    for place in (1, 0):
        other, x = node.inputs[place], node.inputs[1 - place]
        values = real_constant(draft, other)
        along = None if values is None else _along(values, rank, axis)
        if along is None or (node.op == "Div" and place == 0) or draft.constant(x) is not None:
            continue
        if node.op in ("Add", "Sub"):
            sign = one if node.op == "Add" or place == 1 else -one
            return _Affine(x, sign, -along if node.op == "Sub" and place == 1 else along)
        scale = along if node.op == "Mul" else 1 / along
        return _Affine(x, scale, zero) if np.isfinite(scale).all() else None
    return None


def _depthwise(draft: Draft, conv: Node) -> _Affine | None:
    """Return a depthwise 1x1 convolution as scale and shift."""
    weights = real_constant(draft, conv.inputs[1])
    biased = len(conv.inputs) > 2 and bool(conv.inputs[2])
    bias = real_constant(draft, conv.inputs[2]) if biased else None
    if weights is None or (biased and bias is None) or any(conv.inputs[3:]) or len(conv.outputs) > 1:
        return None
    if weights.size != len(weights) or group_of(conv) != len(weights) or not pads_nothing(conv):
        return None
    if set(conv.attributes.get("strides", (1,))) != {1}:
        return None
    scale = weights.astype(np.float64).ravel()
    return _Affine(conv.inputs[0], scale, np.zeros(1) if bias is None else bias.astype(np.float64))


def _adds_no_axis(draft: Draft, node: Node) -> bool:
    """Return whether no constant beside an operand of unknown rank could give it further axes."""
    constants = (draft.constant(name) for name in node.inputs)
    return all(values is None or values.ndim < 2 for values in constants)


def _normalised(draft: Draft, node: Node) -> _Affine | None:
    """Return a BatchNormalization as scale and shift."""
    found = [real_constant(draft, name) for name in node.inputs[1:5]]
    if len(node.outputs) > 1 or node.attributes.get("training_mode", 0):
        return None
    gain, offset, mean, variance = (None if array is None else array.astype(np.float64) for array in found)
    if gain is None or offset is None or mean is None or variance is None:
        return None
    scale = gain / np.sqrt(variance + float(node.attributes.get("epsilon", 1e-5)))
    shift = offset - mean * scale
    finite = np.isfinite(scale + shift).all()
    return _Affine(node.inputs[0], scale, shift) if finite else None


def _along(values: Array, rank: int, axis: int) -> FloatArray | None:
    """Return a constant that varies along one axis only of an operand of `rank` axes; None for others."""
    if values.ndim > rank:
        return None
    shape = (1,) * (rank - values.ndim) + values.shape
    varying = values.size == shape[axis]
    return values.astype(np.float64).ravel() if varying else None


def _absorbed(draft: Draft, host: Node, node: Node) -> Node | None:
    """Return a convolution or product that scales and shifts its result itself."""
    weights = real_constant(draft, host.inputs[1])
    bias = real_constant(draft, host.inputs[2]) if len(host.inputs) > 2 and host.inputs[2] else None
    if weights is None or (bias is None and len(host.inputs) > 2 and host.inputs[2]):
        return None
    rank = rank_of(draft, host.outputs[0])
    if host.op == "MatMul":
        # Constants of one axis need no rank: they lie along the last.
        rank = 1 if rank is None else rank
    elif host.op == "Gemm" and not _plain_gemm(host, bias):
        return None
    affine = None if rank is None else _affine(draft, node, rank, 1 if "Conv" in host.op else rank - 1)
    spread = None if affine is None else _outputs(host, weights)
    if affine is None or spread is None:
        return None
    channels, shape = spread
    if len(affine.scale) not in (1, channels) or len(affine.shift) not in (1, channels):
        return None
    shifted = bool(affine.shift.any())
    # A MatMul has no bias, and its columns lie along the last axis: those of a norm along the second.
    if host.op == "MatMul" and (shifted or weights.ndim != 2 or node.op in ("BatchNormalization", "Conv")):
        return None
    inputs = list(host.inputs)
    if (affine.scale != 1).any():
        scale = np.broadcast_to(affine.scale, channels).reshape(shape)
        scaled = _times(_grouped(host, weights), scale)
        if scaled is None:
            return None
        inputs[1] = _add(draft, host.inputs[1], scaled.reshape(weights.shape))
    if shifted or (bias is not None and inputs[1] != host.inputs[1]):
        start = np.zeros(channels) if bias is None else np.broadcast_to(bias.astype(np.float64), channels)
        total = _stored(start * affine.scale + affine.shift, weights.dtype)
        if total is None:
            return None
        inputs[2:3] = [_add(draft, inputs[2] if bias is not None else f"{host.outputs[0]}/bias", total)]
    outputs = (draft.new_name(f"{host.outputs[0]}/scaled"),) if node.op == "HardSigmoid" else node.outputs
    after = {} if node.op == "HardSigmoid" else _after(node)
    if "alpha" in after and "Conv" not in host.op:  # a Gemm has another `alpha`
        return None
    return host.with_(inputs=tuple(inputs), outputs=outputs).and_attributes(**after)


def _plain_gemm(host: Node, bias: Array | None) -> bool:
    """Return whether a Gemm multiplies by weights and adds a bias, one a column."""
    factors = {host.attributes.get("alpha", 1.0), host.attributes.get("beta", 1.0)}
    return factors == {1.0} and (bias is None or bias.ndim < 2)


def _outputs(host: Node, weights: Array) -> tuple[int, tuple[int, ...]] | None:
    """Return the channels that weights make, and the shape of one number for each beside `_grouped`."""
    if host.op == "Conv":
        return len(weights), (len(weights), *(1,) * (weights.ndim - 1))
    if host.op == "ConvTranspose":
        groups = group_of(host)
        return weights.shape[1] * groups, (groups, 1, weights.shape[1], *(1,) * (weights.ndim - 2))
    if host.op == "Gemm" and host.attributes.get("transB", 0):
        return weights.shape[0], (weights.shape[0], 1)
    return weights.shape[-1], (weights.shape[-1],)


def _grouped(host: Node, weights: Array) -> Array:
    if host.op != "ConvTranspose":
        return weights
    return weights.reshape(group_of(host), -1, *weights.shape[1:])


def _times(weights: Array, scale: FloatArray) -> Array | None:
    """Return weights times scale, in float64 inside and without a copy in float64; None if that overflows."""
    product = np.empty_like(weights)
    np.multiply(weights, scale, out=product, dtype=np.float64, casting="same_kind")
    return product if np.isfinite(product).all() else None


def _stored(values: FloatArray, dtype: np.dtype[Any]) -> Array | None:
    """Return values in the dtype of the weights; None if that overflows."""
    stored: Array = values.astype(dtype)
    return stored if np.isfinite(stored).all() else None


def _fed(draft: Draft, conv: Node, affine: _Affine) -> Node | None:
    """Return a convolution that scales and shifts what it reads itself."""
    weights = real_constant(draft, conv.inputs[1])
    biased = len(conv.inputs) > 2 and bool(conv.inputs[2])
    bias = real_constant(draft, conv.inputs[2]) if biased else None
    shifted = bool(affine.shift.any())
    scaled_by_another = len(conv.inputs) > 4 and bool(conv.inputs[4])
    if weights is None or (biased and bias is None):
        return None
    if shifted and (not pads_nothing(conv) or scaled_by_another):
        return None
    groups = group_of(conv)
    channels = weights.shape[1] * groups
    varying = max(len(affine.scale), len(affine.shift))
    if varying not in (1, channels) or (varying > 1 and channels_of(draft, affine.x) != channels):
        return None
    inputs = [affine.x, *conv.inputs[1:]]
    apart = weights.reshape(groups, -1, *weights.shape[1:])
    lane = (groups, 1, weights.shape[1], *(1,) * (weights.ndim - 2))
    if shifted:
        shift = np.broadcast_to(affine.shift, channels).reshape(lane)
        more = (apart * shift).reshape(len(weights), -1).sum(axis=1)
        total = _stored(more if bias is None else more + bias, weights.dtype)
        if total is None:
            return None
        inputs[2:3] = [_add(draft, conv.inputs[2] if bias is not None else f"{conv.outputs[0]}/bias", total)]
    if (affine.scale != 1).any():
        scale = np.broadcast_to(affine.scale, channels).reshape(lane)
        scaled = _times(apart, scale)
        if scaled is None:
            return None
        inputs[1] = _add(draft, conv.inputs[1], scaled.reshape(weights.shape))
    return conv.with_(inputs=tuple(inputs))
