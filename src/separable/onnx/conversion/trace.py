"""The convolutions of a graph: each with its attributes and the batch norm behind it, or refused by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from onnx.onnx_ml_pb2 import AttributeProto, NodeProto

from ..._base.types import Array
from ...conv.algebra.geometry import Padding, resolve_padding
from ...conv.audits.records import Refused
from ...conv.forms.layer import ConvLayer
from ..model.files import Stored
from ..model.graph import GraphIndex, attributes, is_standard, nodes_within
from ..model.names import ModelError

__all__ = ["ConvNode", "UnusableError", "find_convolutions"]

# Operators that convolve, and why they stay as they are.
_REFUSED: Final = {
    "ConvTranspose": "a transposed convolution: only plain convolutions are converted",
    "QLinearConv": "quantized: convert the model before it is quantized",
    "ConvInteger": "quantized: convert the model before it is quantized",
    "DeformConv": "its taps move with the input, so they do not separate",
    "FusedConv": "fused by a runtime: convert the model before it is optimised",
}
_AUTO_PADS: Final = ("SAME_UPPER", "SAME_LOWER")
_FARTHEST: Final = 2**31 - 1  # samples that a stride, a dilation or a pad may reach: no input is so long
_DTYPES: Final = ("float16", "float32", "float64")


@dataclass(frozen=True, eq=False)
class ConvNode:
    """A Conv node that can be converted.

    Attributes
    ----------
    name : str
        That of the node, or of what it gives where it has none; no two are alike.
    node : int
        Its place in the graph.
    norm : int or None
        The place of the BatchNormalization that is folded into it.
    reads, gives : str
        The tensors before the convolution, and after the batch norm.
    weights : ndarray, shape ``(C_out, C_in/groups, *k)``, float64
    bias : ndarray, shape ``(C_out,)``, float64, or None
    dtype : str
        Of the node's arithmetic.
    stride, dilation : tuple of int
    pads : tuple of (before, after), or None
        None where `auto_pad` decides, by the size of the input.
    auto_pad : str
    groups : int
    activation : {"relu"} or None
        What alone reads the result.
    beside : str or None
        Where what alone reads the result is a sum with another tensor: that tensor.
    sum_rectified : bool
        Whether what alone reads that sum is a Relu.
    sources : tuple of str
        The tensors that hold the weights, the bias and the batch norm: the same ones are the same layer.
    """

    name: str
    node: int
    norm: int | None
    reads: str
    gives: str
    weights: Array
    bias: Array | None
    dtype: str
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    pads: Padding | None
    auto_pad: str
    groups: int
    activation: str | None
    beside: str | None
    sum_rectified: bool
    sources: tuple[str, ...]

    def padding(self, sizes: tuple[int, ...]) -> Padding:
        """Return the samples of padding (before, after) each axis of an input of these sizes."""
        if self.pads is not None:
            return self.pads
        same = resolve_padding("same", self.weights.shape[2:], self.stride, self.dilation, sizes)
        if self.auto_pad == "SAME_LOWER":
            return tuple((after, before) for before, after in same)
        return same

    def layer(self, sizes: tuple[int, ...], calls: int) -> ConvLayer:
        """Return it as the conversion knows it, for inputs of these sizes.

        Raises
        ------
        ModelError
            If it cannot run on them.
        """
        try:
            return ConvLayer(
                name=self.name,
                weights=self.weights,
                bias=self.bias,
                stride=self.stride,
                padding=self.padding(sizes),
                dilation=self.dilation,
                groups=self.groups,
                sizes=sizes,
                calls=calls,
                activation=self.activation,
            )
        except (TypeError, ValueError) as error:
            kernel = "x".join(map(str, self.weights.shape[2:]))
            raise ModelError(
                f"Conv `{self.name}`, kernel {kernel}, dilation {self.dilation}, padding {self.pads}, does "
                f"not fit an input of size {sizes}. Give larger inputs, or export the model again."
            ) from error


class UnusableError(Exception):
    """Why a Conv node cannot be converted."""


def find_convolutions(stored: Stored) -> tuple[list[ConvNode], list[Refused]]:
    """Return the convolutions of a model that can be converted, in running order, and those that cannot.

    Parameters
    ----------
    stored : Stored

    Returns
    -------
    convolutions : list of ConvNode
    refused : list of Refused
    """
    graph = GraphIndex(stored)
    convolutions: list[ConvNode] = []
    refused = list(_out_of_reach(stored, graph))
    taken: set[str] = set()
    for number, node in enumerate(graph.nodes):
        if node.op_type != "Conv" or not is_standard(node):
            continue
        name = _unique(node.name or node.output[0], taken)
        try:
            convolutions.append(_read(graph, number, name))
        except UnusableError as reason:
            refused.append(Refused(name, "Conv", str(reason)))
    return convolutions, refused


def _out_of_reach(stored: Stored, graph: GraphIndex) -> Iterator[Refused]:
    for node in graph.nodes:
        if node.op_type in _REFUSED:
            yield Refused(node.name or node.output[0], node.op_type, _REFUSED[node.op_type])
        for inner in nodes_within(node):
            if inner.op_type == "Conv" or inner.op_type in _REFUSED:
                where = f"within a subgraph of {node.op_type} `{node.name or node.output[0]}`"
                yield Refused(inner.name or inner.output[0], inner.op_type, where)
    for function in stored.proto.functions:
        for node in function.node:
            if node.op_type == "Conv" or node.op_type in _REFUSED:
                yield Refused(
                    node.name or node.output[0],
                    node.op_type,
                    f"within the function `{function.name}`: inline it first "
                    "(onnx.inliner.inline_local_functions)",
                )


def _unique(name: str, taken: set[str]) -> str:
    unique, number = name, 1
    while unique in taken:
        number += 1
        unique = f"{name}#{number}"
    taken.add(unique)
    return unique


# -- one node ----------------------------------------------------------------------------------------


def _read(graph: GraphIndex, number: int, name: str) -> ConvNode:
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
    if groups < 1 or len(weights) % groups:
        raise UnusableError(f"`group={groups}` does not divide its {len(weights)} output channels")
    auto_pad = given["auto_pad"].s.decode(errors="backslashreplace") if "auto_pad" in given else "NOTSET"
    conv_node = ConvNode(
        name=name,
        node=number,
        norm=None,
        reads=node.input[0],
        gives=node.output[0],
        weights=weights.astype(np.float64),
        bias=_bias(graph, node, len(weights)),
        dtype=weights.dtype.name,
        stride=_ints(given, "strides", (1,) * ndim),
        dilation=_ints(given, "dilations", (1,) * ndim),
        pads=None if auto_pad in _AUTO_PADS else _pads(given, auto_pad, ndim),
        auto_pad=auto_pad,
        groups=groups,
        activation=None,
        beside=None,
        sum_rectified=False,
        sources=tuple(map(graph.source, node.input[1:3])),
    )
    steps = (*conv_node.stride, *conv_node.dilation)
    if (
        len(conv_node.stride) != ndim
        or len(conv_node.dilation) != ndim
        or not 1 <= min(steps) <= max(steps) <= _FARTHEST
    ):
        raise UnusableError(f"its strides {conv_node.stride} or dilations {conv_node.dilation} fit no input")
    conv_node = _with_norm(graph, conv_node)
    if not np.isfinite(conv_node.weights).all() or (
        conv_node.bias is not None and not np.isfinite(conv_node.bias).all()
    ):
        raise UnusableError("its weights hold NaN or infinity")
    reader = graph.only_reader(conv_node.gives)
    operator = graph.nodes[reader].op_type if reader is not None else ""
    if reader is None or operator != "Add":
        return replace(conv_node, activation="relu" if operator == "Relu" else None)
    others = [
        name for name in graph.nodes[reader].input if name != conv_node.gives and not graph.is_constant(name)
    ]
    after = graph.only_reader(graph.nodes[reader].output[0])
    return replace(
        conv_node,
        beside=others[0] if others else None,
        sum_rectified=after is not None and graph.nodes[after].op_type == "Relu",
    )


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


def _ints(given: Mapping[str, AttributeProto], name: str, default: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(given[name].ints) if name in given else default


def _pads(given: Mapping[str, AttributeProto], auto_pad: str, ndim: int) -> Padding:
    if auto_pad not in ("NOTSET", "VALID"):
        raise UnusableError(f"`auto_pad={auto_pad}` is unknown")
    pads = _ints(given, "pads", (0,) * 2 * ndim) if auto_pad == "NOTSET" else (0,) * 2 * ndim
    if len(pads) != 2 * ndim or min(pads) < 0 or max(pads) > _FARTHEST:
        raise UnusableError(f"`pads={pads}` is negative, or does not fit {ndim} spatial axes")
    return tuple(zip(pads[:ndim], pads[ndim:], strict=True))


# -- the batch norm behind it ------------------------------------------------------------------------


def _with_norm(graph: GraphIndex, conv_node: ConvNode) -> ConvNode:
    """Fold the BatchNormalization that alone reads a convolution's result; leave it where that is not so."""
    number = graph.only_reader(conv_node.gives)
    if number is None:
        return conv_node
    norm = graph.nodes[number]
    given = attributes(norm)
    if norm.op_type != "BatchNormalization" or norm.input[0] != conv_node.gives:
        return conv_node
    if ("training_mode" in given and given["training_mode"].i) or any(norm.output[1:]):
        return conv_node
    parts = [graph.constant(name) for name in norm.input[1:5]]
    if any(part is None or part.shape != (len(conv_node.weights),) for part in parts):
        return conv_node
    scale, shift, mean, variance = (np.asarray(part, np.float64) for part in parts)
    epsilon = given["epsilon"].f if "epsilon" in given else 1e-5
    if not np.all(variance + epsilon > 0):
        return conv_node
    factor = scale / np.sqrt(variance + epsilon)
    bias = np.zeros(len(factor)) if conv_node.bias is None else conv_node.bias
    return replace(
        conv_node,
        norm=number,
        gives=norm.output[0],
        weights=conv_node.weights * factor.reshape(-1, *(1,) * (conv_node.weights.ndim - 1)),
        bias=(bias - mean) * factor + shift,
        sources=conv_node.sources + tuple(map(graph.source, norm.input[1:5])),
    )
