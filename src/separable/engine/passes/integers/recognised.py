"""Sums of products of levels: found where a network turns levels into numbers, and sums into levels."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from ...._base.types import Array
from ...graph.ir import Graph, Node, TensorType
from ..draft import Draft
from ..known import is_bare

__all__ = ["scaled_sums", "sums_of_levels"]

_BYTES: Final = (np.dtype(np.uint8), np.dtype(np.int8))
_SUMS: Final = {"ConvInteger": "QLinearConv", "MatMulInteger": "QLinearMatMul"}


def sums_of_levels(graph: Graph) -> Graph:
    """Write convolutions, products and sums of numbers that levels stand for as those of the levels.

    DequantizeLinear -> Conv, Gemm, MatMul -> an activation -> QuantizeLinear is one QLinearConv or
    QLinearMatMul, which makes floats where nothing turns its result into levels; Add is QLinearAdd.
    """
    if not any(node.op == "DequantizeLinear" for node in graph.nodes):
        return graph
    draft = Draft.of(graph)
    for node in draft:
        if node.op in ("Conv", "Gemm", "MatMul") and is_bare(node):
            _product(draft, node)
        elif node.op == "Add" and is_bare(node):
            _sum(draft, node)
    return draft.finished()


def _levels(draft: Draft, name: str) -> tuple[str, str, str] | None:
    """Return levels, scale and zero of a tensor that is made of bytes by one scale; None of all others."""
    node = draft.maker(name)
    if node is None or node.op != "DequantizeLinear" or node.attributes.get("block_size"):
        return None
    x, scale, zero = [*node.inputs, ""][:3]
    kind, width = draft.type_of(x), draft.type_of(scale)
    if kind is None or kind.dtype not in _BYTES or width is None or width.dtype != np.float32:
        return None
    values = draft.constant(zero) if zero else None
    known = not zero or values is not None or kind.dtype == np.uint8
    one = all(length == 1 for length in width.shape)
    if not zero:
        zero = draft.add_constant(f"{x}.zero", np.zeros((), kind.dtype))
    return (x, scale, zero) if one and known and draft.constant(x) is None else None


def _weights(draft: Draft, name: str, axis: int) -> tuple[str, str, str] | None:
    """Return constant levels with scales along one axis, and zeros."""
    node = draft.maker(name)
    if node is None or node.op != "DequantizeLinear" or node.attributes.get("block_size"):
        return None
    x, scale, zero = [*node.inputs, ""][:3]
    weights, scales = draft.constant(x), draft.constant(scale)
    zeros = draft.constant(zero) if zero else None
    if weights is None or weights.dtype not in _BYTES or scales is None or scales.dtype != np.float32:
        return None
    if zero and zeros is None:
        return None
    along = int(node.attributes.get("axis", 1)) % weights.ndim
    if scales.size > 1 and (scales.ndim != 1 or along != axis % weights.ndim):
        return None
    return x, scale, zero or draft.add_constant(f"{x}.zero", np.zeros((), weights.dtype))


def _bias(draft: Draft, name: str, scales: tuple[str, str]) -> tuple[str, str] | None:
    """Return a bias as a whole number in units of both scales, and as a float: one of them, or neither."""
    if not name:
        return "", ""
    node = draft.maker(name)
    if node is None:
        values = draft.constant(name)
        return None if values is None or values.dtype != np.float32 else ("", name)
    if node.op != "DequantizeLinear":
        return None
    x, scale, zero = [*node.inputs, ""][:3]
    whole, unit = draft.constant(x), draft.constant(scale)
    zeros = draft.constant(zero) if zero else np.zeros(1)
    if whole is None or unit is None or zeros is None or zeros.any():
        return None
    given, weights = draft.constant(scales[0]), draft.constant(scales[1])
    if whole.dtype == np.int32 and given is not None and weights is not None:
        expected = np.float32(given.ravel()[0]) * weights.ravel()
        if unit.size in (1, expected.size) and np.allclose(unit.ravel(), expected, rtol=1e-5):
            return x, ""
    real = (whole.astype(np.float64) * unit.astype(np.float64)).astype(np.float32)
    return "", draft.add_constant(f"{name}.real", real)


def _product(draft: Draft, node: Node) -> None:
    is_conv = node.op == "Conv"
    written = node.attributes
    if node.op == "Gemm" and (
        written.get("transA")
        or float(written.get("alpha", 1.0)) != 1.0
        or float(written.get("beta", 1.0)) != 1.0
    ):
        return
    turned = node.op == "Gemm" and bool(written.get("transB"))
    given = _levels(draft, node.inputs[0])
    weights = None if given is None else _weights(draft, node.inputs[1], 0 if is_conv or turned else -1)
    if given is None or weights is None:
        return
    values = draft.constant(weights[0])
    kind = draft.type_of(node.inputs[0])
    if (
        values is None
        or kind is None
        or values.ndim not in ((3, 4) if is_conv else (2,))
        or len(kind.shape) < 2
    ):
        return
    bias = _bias(draft, node.inputs[2] if len(node.inputs) > 2 else "", (given[1], weights[1]))
    if bias is None or any(name and not _is_flat(draft, name) for name in bias):
        return
    if turned:
        weights = (draft.add_constant(f"{weights[0]}.T", values.T), *weights[1:])
    dropped = [node]
    last, ended, made = _ending(draft, node)
    if last is not node:
        dropped = _between(draft, node, last)
    inputs = (*given, *weights, *made, *bias)
    own = {name: value for name, value in written.items() if is_conv}
    new = Node(
        "QLinearConv" if is_conv else "QLinearMatMul", _trimmed(inputs), last.outputs, {**own, **ended}
    )
    draft.replace(last, new)
    draft.drop(reversed([other for other in dropped if other is not last]))


def _is_flat(draft: Draft, name: str) -> bool:
    """Whether a constant holds one number, or one for each column."""
    values = draft.constant(name)
    return values is not None and (values.ndim < 2 or values.shape[-1] == values.size)


def _trimmed(names: tuple[str, ...]) -> tuple[str, ...]:
    kept = list(names)
    while kept and not kept[-1]:
        kept.pop()
    return tuple(kept)


def _between(draft: Draft, first: Node, last: Node) -> list[Node]:
    """Return the nodes from one to another, each of which alone reads the one before."""
    nodes = [first]
    while nodes[-1] is not last:
        after = draft.only_reader(nodes[-1].outputs[0])
        assert after is not None
        nodes.append(after)
    return nodes


def _ending(draft: Draft, node: Node) -> tuple[Node, dict[str, Any], tuple[str, str]]:
    """Return the last node of a sum of products, what it applies, and scale and zero of what it makes."""
    after = draft.only_reader(node.outputs[0])
    ended = None if after is None else _activation(draft, after)
    last = node
    if after is not None and ended is not None:
        last, after = after, draft.only_reader(after.outputs[0])
    made = None if after is None else _made(draft, after)
    if after is None or made is None:
        return (last, ended, ("", "")) if ended is not None else (node, {}, ("", ""))
    if ended is not None and _is_free(draft, ended, *made):
        ended = {}
    return after, ended or {}, made


def _activation(draft: Draft, node: Node) -> dict[str, Any] | None:
    """Return an activation as an attribute; None where a node is none that a sum can end with."""
    if node.op == "Relu" and is_bare(node):
        return {"activation": "relu"}
    if node.op == "Clip" and is_bare(node):
        ends = [draft.constant(name) if name else None for name in [*node.inputs, "", ""][1:3]]
        names = [*node.inputs, "", ""][1:3]
        if any(name and end is None for name, end in zip(names, ends, strict=True)):
            return None
        low, high = (
            float(end.ravel()[0]) if end is not None else limit
            for end, limit in zip(ends, (-np.inf, np.inf), strict=True)
        )
        return {"activation": "clip", "low": low, "high": high}
    return None


def _made(draft: Draft, node: Node) -> tuple[str, str] | None:
    """Return scale and zero of a node that turns floats into bytes by one scale."""
    if node.op != "QuantizeLinear" or node.attributes.get("block_size"):
        return None
    kind, scale = draft.type_of(node.outputs[0]), draft.constant(node.inputs[1])
    if (
        kind is None
        or kind.dtype not in _BYTES
        or scale is None
        or scale.size != 1
        or scale.dtype != np.float32
    ):
        return None
    zero = node.inputs[2] if len(node.inputs) > 2 else ""
    if zero:
        return None if draft.constant(zero) is None else (node.inputs[1], zero)
    return node.inputs[1], draft.add_constant(f"{node.outputs[0]}.zero", np.zeros((), kind.dtype))


def _is_free(draft: Draft, ended: dict[str, Any], scale: str, zero: str) -> bool:
    """Whether levels end where an activation does, so that rounding to them applies it."""
    unit, at = draft.constant(scale), draft.constant(zero)
    assert unit is not None
    assert at is not None
    info, width, middle = np.iinfo(at.dtype), float(unit.ravel()[0]), int(at.ravel()[0])
    low = 0.0 if ended["activation"] == "relu" else float(ended["low"])
    high = np.inf if ended["activation"] == "relu" else float(ended["high"])
    # A number that is cut off becomes the level of the end, or would have become that of the last level.
    return _level(low / width, middle, info) <= info.min and _level(high / width, middle, info) >= info.max


def _level(number: float, zero: int, info: np.iinfo[Any]) -> float:
    return float(np.clip(np.round(number) + zero, info.min, info.max))


def _sum(draft: Draft, node: Node) -> None:
    sides = [_levels(draft, name) for name in node.inputs]
    after = draft.only_reader(node.outputs[0])
    ended = None if after is None else _activation(draft, after)
    last = after
    if after is not None and ended is not None:
        last = draft.only_reader(after.outputs[0])
    made = None if last is None else _made(draft, last)
    if last is None or made is None or (ended is not None and not _is_free(draft, ended, *made)):
        return
    shapes = [None if side is None else draft.type_of(side[0]) for side in sides]
    if None in sides or None in shapes or shapes[0].shape != shapes[1].shape:  # type: ignore[union-attr]
        return
    inner = _between(draft, node, last)
    inputs = (*(name for side in sides if side is not None for name in side), *made)
    draft.replace(last, Node("QLinearAdd", inputs, last.outputs))
    draft.drop(reversed(inner[:-1]))


# -- sums of 32 bits that are scaled -----------------------------------------------------------------


def scaled_sums(graph: Graph) -> Graph:
    """Write ConvInteger or MatMulInteger -> Cast -> Mul by scales -> Add of a bias as one operation."""
    if not any(node.op in _SUMS for node in graph.nodes):
        return graph
    draft = Draft.of(graph)
    for node in draft:
        if node.op in _SUMS:
            _scaled(draft, node)
    return draft.finished()


def _scaled(draft: Draft, node: Node) -> None:
    cast = draft.only_reader(node.outputs[0])
    more, added = "", None
    if cast is not None and cast.op == "Add" and is_bare(cast):
        more, added = _added(draft, node, cast), cast
        cast = draft.only_reader(cast.outputs[0]) if more else None
    product = None if cast is None or cast.op != "Cast" else draft.only_reader(cast.outputs[0])
    x, w, x_zero, w_zero = [*node.inputs, "", ""][:4]
    kind, weights = draft.type_of(x), draft.constant(w)
    if cast is None or product is None or product.op != "Mul" or not is_bare(product):
        return
    if kind is None or weights is None or weights.ndim not in ((3, 4) if node.op == "ConvInteger" else (2,)):
        return
    if len(kind.shape) < 2:
        return
    if draft.type_of(cast.outputs[0]) != TensorType(np.dtype(np.float32), _shape(draft, node)):
        return
    scale = product.inputs[1 - product.inputs.index(cast.outputs[0])]
    scales = _both_scales(draft, scale, weights, node.op == "ConvInteger")
    if scales is None:
        return
    if not x_zero:
        x_zero = draft.add_constant(f"{x}.zero", np.zeros((), kind.dtype))
    if not w_zero:
        w_zero = draft.add_constant(f"{w}.zero", np.zeros((), weights.dtype))
    inputs = (x, scales[0], x_zero, w, scales[1], w_zero, *(("", "", more) if more else ()))
    # It stands where the scale is known: at the product.
    new = Node(_SUMS[node.op], inputs, product.outputs, dict(node.attributes))
    draft.replace(product, new)
    draft.drop([cast] if added is None else [cast, added])
    if not more:
        _with_bias(draft, new, weights)


def _added(draft: Draft, node: Node, add: Node) -> str:
    """Return floats that are whole numbers, which are added to sums as such: of each channel one."""
    name = next((other for other in add.inputs if other != node.outputs[0]), "")
    maker = draft.maker(name)
    weights = draft.constant(node.inputs[1])
    if weights is None:
        return ""
    if node.op == "ConvInteger":  # one number for each channel, spread over its map
        shape = draft.constant(maker.inputs[1]) if maker is not None and maker.op == "Reshape" else None
        ones = [1] * (weights.ndim - 2)
        if maker is None or shape is None or shape.tolist() not in ([1, -1, *ones], [1, len(weights), *ones]):
            return ""
        maker = draft.maker(maker.inputs[0])
    if maker is None or maker.op != "Cast":
        return ""
    real, kind = draft.maker(maker.inputs[0]), draft.type_of(maker.inputs[0])
    is_whole = real is not None and real.op in ("Floor", "Ceil", "Round") and is_bare(real)
    channels = weights.shape[0 if node.op == "ConvInteger" else -1]
    fits = kind is not None and kind.dtype == np.float32 and kind.shape == (channels,)
    return maker.inputs[0] if is_whole and fits else ""


def _shape(draft: Draft, node: Node) -> Any:
    kind = draft.type_of(node.outputs[0])
    return None if kind is None else kind.shape


def _both_scales(draft: Draft, name: str, weights: Array, is_conv: bool) -> tuple[str, str] | None:
    """Return the scale of what is read and those of weights, whose product a tensor is."""
    channels = weights.shape[0 if is_conv else -1]
    maker = draft.maker(name)
    if maker is not None and maker.op == "Mul" and is_bare(maker):
        for one, other in (maker.inputs, maker.inputs[::-1]):
            values, kind = draft.constant(other), draft.type_of(one)
            if values is None or kind is None or any(length != 1 for length in kind.shape):
                continue
            if values.size == 1 or (values.size == channels and _is_along(values, weights, is_conv)):
                return one, other if values.ndim < 2 else draft.add_constant(f"{other}.flat", values.ravel())
    kind = draft.type_of(name)
    if kind is None or any(length != 1 for length in kind.shape):
        return None
    return name, draft.add_constant(f"{name}.one", np.ones((), np.float32))


def _is_along(values: Array, weights: Array, is_conv: bool) -> bool:
    """Whether numbers broadcast along the channels of results."""
    behind = weights.ndim - 2 if is_conv else 0
    return bool(values.ndim > behind and values.shape[values.ndim - behind - 1] == values.size)


def _with_bias(draft: Draft, node: Node, weights: Array) -> None:
    """Take in the constant that is added to each channel of a result."""
    after = draft.only_reader(node.outputs[0])
    if after is None or after.op != "Add" or not is_bare(after):
        return
    name = next((other for other in after.inputs if other != node.outputs[0]), "")
    values = draft.constant(name)
    is_conv = node.op == "QLinearConv"
    channels = weights.shape[0 if is_conv else -1]
    if values is None or values.dtype != np.float32 or values.size != channels:
        return
    if not _is_along(values, weights, is_conv) or values.ndim > weights.ndim:
        return
    flat = name if values.ndim == 1 else draft.add_constant(f"{name}.flat", values.ravel())
    draft.replace(after, node.with_(inputs=(*node.inputs, "", "", "", flat), outputs=after.outputs))
    draft.drop([node])
