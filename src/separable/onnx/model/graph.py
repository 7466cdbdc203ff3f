"""Who makes and who reads each tensor of a graph, and which tensors are constants."""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Iterator
from typing import Final

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.onnx_ml_pb2 import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto

from ..._base.types import Array
from .constants import FOLDED, value_of
from .files import Stored
from .opsets import KNOWN_OPSET, opset_of

__all__ = ["GraphIndex", "attributes", "is_standard", "nodes_within", "pruned", "reads"]

_STANDARD: Final = ("", "ai.onnx")
_FLOATS: Final = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16)


class GraphIndex:
    """A read-only index of a model's main graph.

    Parameters
    ----------
    stored : Stored
    """

    def __init__(self, stored: Stored) -> None:
        self._stored = stored
        graph = stored.proto.graph
        self.nodes: list[NodeProto] = list(graph.node)
        self.inputs = list(graph.input)
        self.outputs = {entry.name for entry in graph.output}
        self._initializers = {entry.name: entry for entry in graph.initializer}
        self.maker: dict[str, int] = {}
        self.readers: dict[str, list[int]] = {}
        self._folded: dict[str, Array | None] = {}  # values of computed constants, as far as asked for
        self._computed: set[str] = set()
        for number, node in enumerate(self.nodes):
            for name in node.output:
                if name:
                    self.maker[name] = number
            for name in dict.fromkeys(reads(node)):
                self.readers.setdefault(name, []).append(number)
            if node.op_type in FOLDED and is_standard(node) and all(map(self.is_constant, node.input)):
                self._computed.update(node.output[:1])

    @property
    def opset(self) -> int:
        """The version of ONNX's own operator set."""
        return opset_of(self._stored.proto) or KNOWN_OPSET

    def given(self) -> list[ValueInfoProto]:
        """Return the inputs that a caller has to give: those without a default."""
        return [info for info in self.inputs if info.name not in self._initializers]

    def only_reader(self, name: str) -> int | None:
        """Return the one node that reads a tensor; None if there are others, or it is an output."""
        readers = self.readers.get(name, [])
        return readers[0] if len(readers) == 1 and name not in self.outputs else None

    def source(self, name: str) -> str:
        """Return the tensor that a name stands for, behind any Identity nodes."""
        while name in self.maker:
            node = self.nodes[self.maker[name]]
            if node.op_type != "Identity" or not is_standard(node):
                break
            name = node.input[0]
        return name

    def constant(self, name: str) -> Array | None:
        """Return the values of an initializer, of a Constant node, or of what is computed from such alone.

        Only what turns, reshapes, scales or casts is computed (see `FOLDED`). None if a tensor is neither.
        """
        name = self.source(name)
        if name not in self._computed:
            return self._written(name)
        if name not in self._folded:
            values: dict[str, Array | None] = {}
            for number in self._chain(name):
                node = self.nodes[number]
                inputs = [
                    values[given] if given in values else self._written(self.source(given))
                    for given in node.input
                ]
                known = [array for array in inputs if array is not None]
                values[node.output[0]] = (
                    value_of(node, known, self.opset) if len(known) == len(inputs) else None
                )
            self._folded[name] = values[name]
        return self._folded[name]

    def _chain(self, name: str) -> list[int]:
        """Return the nodes that a computed constant comes out of, in running order."""
        found: set[int] = set()
        ahead = [name]
        while ahead:
            name = ahead.pop()
            if name in self._computed and self.maker[name] not in found:
                found.add(self.maker[name])
                ahead += self.nodes[self.maker[name]].input
        return sorted(found)

    def origin(self, name: str) -> str:
        """Return the written constant that a constant is computed from: the largest of several."""
        name = self.source(name)
        if name not in self._computed:
            return name
        given = [given for number in self._chain(name) for given in self.nodes[number].input]
        written = [self.source(name) for name in given if name not in self._computed]
        return max(written, key=lambda name: math.prod(self.shape_of_constant(name) or ()))

    def _written(self, name: str) -> Array | None:
        if name in self._stored.tensors:
            return self._stored.tensors[name]
        if name in self._initializers:
            return numpy_helper.to_array(self._initializers[name])
        if name not in self.maker:
            return None
        node = self.nodes[self.maker[name]]
        if node.op_type != "Constant" or not is_standard(node):
            return None
        return next(filter(lambda array: array is not None, map(_listed, node.attribute)), None)

    def is_constant(self, name: str) -> bool:
        """Whether a tensor's values are written in the model, or computed from such alone."""
        name = self.source(name)
        if name in self._initializers or name in self._computed:
            return True
        return name in self.maker and self.nodes[self.maker[name]].op_type == "Constant"

    def is_float_constant(self, name: str) -> bool:
        """Whether a tensor is a constant of a floating type that is written in the model."""
        source = self.source(name)
        if source in self._initializers:
            return self._initializers[source].data_type in _FLOATS
        values = self._written(source)
        return values is not None and onnx.helper.np_dtype_to_tensor_dtype(values.dtype) in _FLOATS

    def shape_of_constant(self, name: str) -> tuple[int, ...] | None:
        """Return the shape of a constant, without its values; None if a tensor is none."""
        name = self.source(name)
        if name in self._initializers:
            return tuple(self._initializers[name].dims)
        values = self.constant(name)
        return None if values is None else tuple(values.shape)


def _listed(attribute: AttributeProto) -> Array | None:
    """Return the values that an attribute of a Constant node holds; None if they are no numbers."""
    if attribute.name == "value":
        return numpy_helper.to_array(attribute.t)
    if attribute.name in ("value_float", "value_floats"):
        return np.array(attribute.f if attribute.name == "value_float" else attribute.floats, np.float32)
    if attribute.name in ("value_int", "value_ints"):
        return np.array(attribute.i if attribute.name == "value_int" else attribute.ints, np.int64)
    return None


def is_standard(node: NodeProto) -> bool:
    """Whether a node's operator is ONNX's own."""
    return node.domain in _STANDARD


def attributes(node: NodeProto) -> dict[str, AttributeProto]:
    """Return a node's attributes by name."""
    return {attribute.name: attribute for attribute in node.attribute}


def reads(node: NodeProto) -> Iterator[str]:
    """Return the tensors that a node reads, in its subgraphs too."""
    yield from (name for name in node.input if name)
    for attribute in node.attribute:
        for graph in _graphs(attribute):
            yield from _reads_of(graph)


def nodes_within(node: NodeProto) -> Iterator[NodeProto]:
    """Return all nodes of the subgraphs that a node holds (If, Loop, Scan), at any depth."""
    for attribute in node.attribute:
        for graph in _graphs(attribute):
            for inner in graph.node:
                yield inner
                yield from nodes_within(inner)


def _graphs(attribute: AttributeProto) -> Iterator[GraphProto]:
    if attribute.HasField("g"):
        yield attribute.g
    yield from attribute.graphs


def _reads_of(graph: GraphProto) -> Iterator[str]:
    """Return every name that a subgraph mentions as read; some may be its own."""
    for node in graph.node:
        yield from reads(node)
    yield from (output.name for output in graph.output)


def pruned(model: ModelProto, outputs: Iterable[str], known: Container[str] = ()) -> list[NodeProto]:
    """Return the nodes that some tensors depend on, in running order.

    Parameters
    ----------
    model : ModelProto
    outputs : iterable of str
    known : container of str, optional
        Tensors that are given: what makes them is left out.

    Returns
    -------
    list of NodeProto
    """
    wanted = set(outputs)
    kept = []
    for node in reversed(model.graph.node):
        if any(name in wanted and name not in known for name in node.output):
            kept.append(node)
            wanted.update(reads(node))
    return kept[::-1]
