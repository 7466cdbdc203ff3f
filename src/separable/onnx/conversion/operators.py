"""One node of each operator that is converted, read as a layer; or why it cannot be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
from onnx.onnx_ml_pb2 import AttributeProto, NodeProto

from ..._base.types import Array
from ...conv.algebra.geometry import Padding
from ...conv.forms.transposed import turned
from ..model.graph import GraphIndex, attributes
from .nodes import AUTO_PADS, ConvNode, Crop, Factor, Shape

__all__ = ["READ", "UnusableError"]

_FARTHEST: Final = 2**31 - 1  # samples that a stride, a dilation or a pad may reach: no input is so long
_DTYPES: Final = ("float16", "float32", "float64")


class UnusableError(Exception):
    """Why a node cannot be converted."""


def _convolution(graph: GraphIndex, number: int, name: str) -> ConvNode:
    node = graph.nodes[number]
    if graph.is_constant(node.input[0]):
        raise UnusableError("its input is a constant: fold constants first")
    weights = _weights(graph, node.input[1])
    ndim = weights.ndim - 2
    given = attributes(node)
    kernel = tuple(weights.shape[2:])
    if ndim < 1 or weights.size == 0 or _ints(given, "kernel_shape", kernel) != kernel:
        raise UnusableError(f"its weights have shape {weights.shape}, which does not fit `kernel_shape`")
    groups = int(given["group"].i) if "group" in given else 1
    transposed = node.op_type == "ConvTranspose"
    if groups < 1 or len(weights) % groups:
        ends = "input" if transposed else "output"
        raise UnusableError(f"`group={groups}` does not divide its {len(weights)} {ends} channels")
    dense = turned(weights, groups) if transposed else weights.astype(np.float64)
    stride, dilation = (_ints(given, key, (1,) * ndim) for key in ("strides", "dilations"))
    steps = (*stride, *dilation)
    if len(stride) != ndim or len(dilation) != ndim or not 1 <= min(steps) <= max(steps) <= _FARTHEST:
        raise UnusableError(f"its strides {stride} or dilations {dilation} fit no input")
    auto_pad = given["auto_pad"].s.decode(errors="backslashreplace") if "auto_pad" in given else "NOTSET"
    crop = _crop(given, ndim) if transposed else None
    by_size = auto_pad in AUTO_PADS or (crop is not None and crop.output_shape is not None)
    read = ConvNode(
        name=name,
        operator=node.op_type,
        node=number,
        folded=(),
        reads=node.input[0],
        gives=node.output[0],
        weights=dense,
        bias=_bias(graph, node, len(dense)),
        dtype=weights.dtype.name,
        sources=tuple(map(graph.origin, filter(None, node.input[1:3]))),
        stride=stride,
        dilation=dilation,
        pads=None if by_size else _pads(given, auto_pad, ndim),
        auto_pad=auto_pad,
        groups=groups,
        crop=crop,
    )
    if transposed and not by_size:
        try:
            read.padding(())
        except ValueError as reason:
            raise UnusableError(str(reason)) from reason
    return read


def _crop(given: Mapping[str, AttributeProto], ndim: int) -> Crop:
    more = _ints(given, "output_padding", (0,) * ndim)
    asked = _ints(given, "output_shape", ())
    if len(more) != ndim or not 0 <= min(more) <= max(more) <= _FARTHEST:
        raise UnusableError(f"`output_padding={more}` is negative, or does not fit {ndim} spatial axes")
    if not asked:
        return Crop(more)
    if len(asked) < ndim or not 1 <= min(asked[-ndim:]) <= max(asked[-ndim:]) <= _FARTHEST:
        raise UnusableError(f"`output_shape={asked}` does not fit {ndim} spatial axes")
    return Crop(more, asked[-ndim:])


def _gemm(graph: GraphIndex, number: int, name: str) -> ConvNode:
    node = graph.nodes[number]
    given = attributes(node)
    flags = {key: key in given and bool(given[key].i) for key in ("transA", "transB")}
    alpha, beta = (float(given[key].f) if key in given else 1.0 for key in ("alpha", "beta"))
    if graph.is_constant(node.input[0]):
        raise UnusableError("its first factor is a constant, not its second")
    weights = _matrix(graph, node.input[1])
    rows = weights.astype(np.float64) if flags["transB"] else weights.T.astype(np.float64)
    bias: Array | None = None
    has_bias = len(node.input) > 2 and bool(node.input[2]) and beta != 0
    if has_bias:
        added = graph.constant(node.input[2])
        if added is None:
            raise UnusableError("its bias is computed, or an input of the model: fold constants first")
        if added.size not in (1, len(rows)) or added.ndim > 2 or added.shape[:-1] not in ((), (1,)):
            raise UnusableError(f"what it adds has shape {added.shape}; expected one number for each output")
        bias = beta * np.broadcast_to(added.astype(np.float64).reshape(-1), (len(rows),))
    return _product(
        graph, number, name, node.input[0], alpha * rows, bias, weights, Factor(turned=flags["transA"])
    )


def _matmul(graph: GraphIndex, number: int, name: str) -> ConvNode:
    node = graph.nodes[number]
    first = graph.is_constant(node.input[0])
    weights = _matrix(graph, node.input[0 if first else 1])
    rows = weights.astype(np.float64) if first else weights.T.astype(np.float64)
    reads = node.input[1 if first else 0]
    return _product(graph, number, name, reads, rows, None, weights, Factor(constant_first=first))


def _product(
    graph: GraphIndex,
    number: int,
    name: str,
    reads: str,
    rows: Array,
    bias: Array | None,
    weights: Array,
    factor: Factor,
) -> ConvNode:
    node = graph.nodes[number]
    return ConvNode(
        name=name,
        operator=node.op_type,
        node=number,
        folded=(),
        reads=reads,
        gives=node.output[0],
        weights=np.ascontiguousarray(rows)[:, :, np.newaxis],
        bias=bias,
        dtype=weights.dtype.name,
        sources=tuple(graph.origin(given) for given in node.input if given and graph.is_constant(given)),
        factor=factor,
    )


READ: Final[Mapping[str, Callable[[GraphIndex, int, str], ConvNode]]] = {
    "Conv": _convolution,
    "ConvTranspose": _convolution,
    "Gemm": _gemm,
    "MatMul": _matmul,
}


# -- weights and attributes --------------------------------------------------------------------------


def _matrix(graph: GraphIndex, name: str) -> Array:
    weights = _weights(graph, name)
    if weights.ndim != 2 or not weights.size:
        what = "a vector" if weights.ndim == 1 else f"of shape {weights.shape}"
        raise UnusableError(f"its weights are {what}; expected a matrix")
    return weights


def _weights(graph: GraphIndex, name: str) -> Array:
    weights = graph.constant(name)
    if weights is not None:
        if weights.dtype.name not in _DTYPES:
            raise UnusableError(f"its weights are {weights.dtype.name}; expected {', '.join(_DTYPES)}")
        return weights
    source = graph.source(name)
    if source not in graph.maker:
        raise UnusableError("its weights are an input of the model")
    maker = graph.nodes[graph.maker[source]]
    if maker.op_type == "Constant":
        raise UnusableError(f"its weights are a list; expected {', '.join(_DTYPES)}")
    what = f"{maker.op_type} `{maker.name or source}`"
    if maker.op_type == "DequantizeLinear":
        raise UnusableError(
            f"its weights come out of {what}: quantized; convert the model before it is quantized"
        )
    raise UnusableError(f"its weights are computed by {what}: fold constants first")


def _bias(graph: GraphIndex, node: NodeProto, c_out: int) -> Array | None:
    if len(node.input) < 3 or not node.input[2]:
        return None
    bias = graph.constant(node.input[2])
    if bias is None:
        raise UnusableError("its bias is computed, or an input of the model: fold constants first")
    if bias.shape != (c_out,):
        raise UnusableError(f"its bias has shape {bias.shape}; expected {(c_out,)}")
    return bias.astype(np.float64)


def _ints(given: Mapping[str, AttributeProto], name: str, default: Shape) -> Shape:
    return tuple(given[name].ints) if name in given else default


def _pads(given: Mapping[str, AttributeProto], auto_pad: str, ndim: int) -> Padding:
    if auto_pad not in ("NOTSET", "VALID"):
        raise UnusableError(f"`auto_pad={auto_pad}` is unknown")
    pads = _ints(given, "pads", (0,) * 2 * ndim) if auto_pad == "NOTSET" else (0,) * 2 * ndim
    if len(pads) != 2 * ndim or min(pads) < 0 or max(pads) > _FARTHEST:
        raise UnusableError(f"`pads={pads}` is negative, or does not fit {ndim} spatial axes")
    return tuple(zip(pads[:ndim], pads[ndim:], strict=True))
