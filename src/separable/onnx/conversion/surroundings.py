"""The part of a model around a convolution that its time depends on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import onnx
from onnx.onnx_ml_pb2 import ModelProto

from ..._base.types import Array
from ..model.files import Stored
from ..model.graph import GraphIndex, is_standard, reads
from .nodes import ConvNode

__all__ = ["around", "holding", "lengths_among", "signature"]

# What ONNX Runtime fuses with a convolution, or runs on the blocks of channels that it keeps between
# convolutions. Beside any other node a result is put back into the plain order.
_IN_BLOCKS: Final = frozenset(
    [
        *("Add", "AveragePool", "BatchNormalization", "Clip", "Concat", "GlobalAveragePool", "GlobalMaxPool"),
        *(
            "HardSigmoid",
            "Identity",
            "LeakyRelu",
            "MaxPool",
            "Mul",
            "Relu",
            "Resize",
            "Sigmoid",
            "Sum",
            "Tanh",
        ),
    ]
)

# Nodes that are walked through to the next convolution, at most.
_REACH: Final = 12


def around(graph: GraphIndex, conv_node: ConvNode) -> tuple[list[str], list[str]]:
    """Return the borders of the part of a model from the convolutions before one to those behind it.

    Parameters
    ----------
    graph : GraphIndex
        Of the model that it was found in.
    conv_node : ConvNode

    Returns
    -------
    inputs, outputs : list of str
        The tensors that the part reads and does not make, constants left out, and those that it ends in.
    """
    own = set(conv_node.places)
    behind: set[int] = set()
    ahead = list(graph.readers.get(conv_node.gives, []))
    while ahead and len(behind) < _REACH:
        number = ahead.pop(0)
        behind.add(number)
        if _passes(graph, number):
            readers = [
                neighbour for name in graph.nodes[number].output for neighbour in graph.readers.get(name, [])
            ]
            ahead += [neighbour for neighbour in readers if neighbour not in behind]
    before: set[int] = set()
    back = sorted(own | {number for number in behind if _passes(graph, number)})
    while back and len(before) < _REACH:
        makers = {graph.maker[name] for name in reads(graph.nodes[back.pop()]) if name in graph.maker}
        new = makers - own - behind - before
        before |= new
        back += [number for number in sorted(new) if _passes(graph, number)]
    nodes = [graph.nodes[number] for number in sorted(own | before | behind)]
    made = {name for node in nodes for name in node.output if name}
    read = {name for node in nodes for name in reads(node)}
    given = {
        *graph.maker,
        *(neighbour.name for neighbour in graph.inputs),
    }  # subgraphs read what they make themselves
    inputs = sorted(name for name in read & given - made if not graph.is_constant(name))
    return inputs, sorted(made - read)


def _passes(graph: GraphIndex, number: int) -> bool:
    node = graph.nodes[number]
    return node.op_type in _IN_BLOCKS and is_standard(node)


def lengths_among(graph: GraphIndex, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Return what a part of a model reads as lengths of axes: whole numbers that the model itself computes.

    The whole model can be planned for them, as they follow from the shapes of its inputs. The part cannot
    unless it holds them.

    Parameters
    ----------
    graph : GraphIndex
        Of the model.
    feeds : mapping of str to ndarray
        What the inputs of the part hold.

    Returns
    -------
    dict of str to ndarray
    """
    return {
        name: values
        for name, values in feeds.items()
        if name in graph.maker and values.ndim <= 1 and values.dtype.kind in "iu"
    }


def holding(part: Stored, values: Mapping[str, Array]) -> Stored:
    """Return a part of a model that holds some of its inputs as constants.

    Parameters
    ----------
    part : Stored
    values : mapping of str to ndarray

    Returns
    -------
    Stored
    """
    model = ModelProto()
    model.CopyFrom(part.proto)
    inputs = [entry for entry in part.proto.graph.input if entry.name not in values]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    read = {name for node in model.graph.node for name in reads(node)}
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(array, name) for name, array in values.items() if name in read
    )
    return Stored(model, part.tensors)


def signature(part: Stored, feeds: Mapping[str, Array]) -> tuple[object, ...]:
    """Return what the time of a part of a model depends on: nodes, shapes and how they hang together.

    Parameters
    ----------
    part : Stored
    feeds : mapping of str to ndarray
        What its inputs hold.

    Returns
    -------
    tuple
        The same for parts that differ in names and values only.
    """
    numbers: dict[str, int] = {}

    def number(name: str) -> int:
        return numbers.setdefault(name, len(numbers))

    graph = part.proto.graph
    inputs = [
        (number(entry.name), feeds[entry.name].shape, feeds[entry.name].dtype.str) for entry in graph.input
    ]
    nodes = [
        (
            node.op_type,
            tuple(number(name) for name in node.input),
            tuple(number(name) for name in node.output),
            tuple(sorted(entry.SerializeToString(deterministic=True) for entry in node.attribute)),
        )
        for node in graph.node
    ]
    shapes = sorted((number(entry.name), tuple(entry.dims), entry.data_type) for entry in graph.initializer)
    return (*inputs, *nodes, *shapes, *(number(entry.name) for entry in graph.output))
