"""The layers of a graph that can be converted, with what reads them; and why the others cannot."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import numpy as np
from onnx.onnx_ml_pb2 import NodeProto

from ...conv.audits.records import Refused
from ..model.activations import activation_behind
from ..model.files import Stored
from ..model.graph import GraphIndex, is_standard, nodes_within
from .folds import with_folds
from .nodes import ConvNode
from .operators import READ, UnusableError

__all__ = ["find_layers"]

# Operators that multiply by weights, and why they stay as they are.
_QUANTIZED: Final = "quantized: convert the model before it is quantized"
_FUSED: Final = "fused by a runtime: convert the model before it is optimised"
_REFUSED: Final = {
    "QLinearConv": _QUANTIZED,
    "ConvInteger": _QUANTIZED,
    "QLinearMatMul": _QUANTIZED,
    "MatMulInteger": _QUANTIZED,
    "QGemm": _QUANTIZED,
    "MatMulNBits": _QUANTIZED,
    "DeformConv": "its taps move with the input, so they do not separate",
    "FusedConv": _FUSED,
    "FusedGemm": _FUSED,
    "FusedMatMul": _FUSED,
}

# Operators that mostly multiply by weights, wherever they stand.
_ALWAYS: Final = ("Conv", "ConvTranspose", "Gemm")


def find_layers(stored: Stored) -> tuple[list[ConvNode], list[Refused]]:
    """Return the layers of a model that can be converted, in running order, and those that cannot.

    A product of two tensors that are both computed is no layer, and in neither list.

    Parameters
    ----------
    stored : Stored

    Returns
    -------
    layers : list of ConvNode
    refused : list of Refused
    """
    graph = GraphIndex(stored)
    layers: list[ConvNode] = []
    refused = list(_out_of_reach(stored, graph))
    taken: set[str] = set()
    for number, node in enumerate(graph.nodes):
        if node.op_type not in READ or not is_standard(node) or not _has_weights(graph, node):
            continue
        name = _unique(node.name or node.output[0], taken)
        try:
            layers.append(_read(graph, number, name))
        except UnusableError as reason:
            refused.append(Refused(name, node.op_type, str(reason)))
    return layers, refused


def _has_weights(graph: GraphIndex, node: NodeProto) -> bool:
    """Return whether a node multiplies by weights: of two matrices, whether one is constant."""
    if node.op_type in ("Conv", "ConvTranspose"):
        return True
    constant = [graph.is_constant(name) or _dequantized(graph, name) for name in node.input[:2]]
    return sum(constant) == 1


def _dequantized(graph: GraphIndex, name: str) -> bool:
    """Return whether a tensor is a constant that was quantized."""
    source = graph.source(name)
    maker = graph.nodes[graph.maker[source]] if source in graph.maker else None
    return maker is not None and maker.op_type == "DequantizeLinear" and graph.is_constant(maker.input[0])


def _out_of_reach(stored: Stored, graph: GraphIndex) -> Iterator[Refused]:
    for node in graph.nodes:
        if node.op_type in _REFUSED:
            yield Refused(node.name or node.output[0], node.op_type, _REFUSED[node.op_type])
        for inner in nodes_within(node):
            if inner.op_type in _ALWAYS or inner.op_type in _REFUSED:
                where = f"within a subgraph of {node.op_type} `{node.name or node.output[0]}`"
                yield Refused(inner.name or inner.output[0], inner.op_type, where)
    for function in stored.proto.functions:
        for node in function.node:
            if node.op_type in _ALWAYS or node.op_type in _REFUSED:
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


def _read(graph: GraphIndex, number: int, name: str) -> ConvNode:
    node = with_folds(graph, READ[graph.nodes[number].op_type](graph, number, name))
    bias = node.bias
    if not np.isfinite(node.weights).all() or (bias is not None and not np.isfinite(bias).all()):
        raise UnusableError("its weights hold NaN or infinity")
    reader = graph.only_reader(node.gives)
    beside = None
    if reader is not None and graph.nodes[reader].op_type == "Add" and is_standard(graph.nodes[reader]):
        others = [given for given in graph.nodes[reader].input if given != node.gives]
        beside = next((given for given in others if not graph.is_constant(given)), None)
    read = node.gives if beside is None or reader is None else graph.nodes[reader].output[0]
    activation, read_by = activation_behind(graph, read, node.channels)
    return replace(node, beside=beside, activation=activation, read_by=read_by)
