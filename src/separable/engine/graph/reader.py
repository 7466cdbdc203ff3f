"""From a model as it is stored to a graph: typed attributes, and one form for all operator sets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from onnx import numpy_helper
from onnx.onnx_ml_pb2 import (
    AttributeProto,
    GraphProto,
    NodeProto,
    SparseTensorProto,
    ValueInfoProto,
)

from ..._base.types import Array
from ...onnx.model.files import Stored
from ...onnx.model.graph import reads
from ...onnx.model.lengths import name_of_length
from ...onnx.model.names import ModelError
from .elements import DTYPES
from .ir import Graph, Node, TensorType
from .newest import in_newest_form
from .shapes.table import typed

__all__ = ["captured_by", "graph_of"]

_STANDARD: Final = ("", "ai.onnx")
_OPTIONAL_OUTPUTS: Final = ("Dropout", "LayerNormalization", "MaxPool")  # all but their first


def graph_of(stored: Stored, name: str = "") -> Graph:
    """Return the graph of a model.

    Parameters
    ----------
    stored : Stored
        Of operator set 13 or newer.
    name : str, optional
        What the graph is called; the model's own name by default.

    Returns
    -------
    Graph
        Constants, Identity and Dropout nodes are gone. Operations have the form of ONNX's newest operator
        set; those of other domains are called `domain::operation`. A node that holds graphs (If, Loop, Scan)
        has them as attributes, reads as its last inputs what they take from outside, and says in its
        attribute `captured` what they call it. Types are those that are known while lengths are open. The
        constants share the memory of `stored`.

    Raises
    ------
    ModelError
        If a node cannot work on what it is given, or holds what has no meaning here.
    """
    model = stored.proto
    if model.functions:
        from onnx import inliner

        model = inliner.inline_local_functions(model)
    opset = next(imported.version for imported in model.opset_import if imported.domain in _STANDARD)
    read = _Reader(opset, stored.tensors)
    read.graph(model.graph)
    outputs = tuple(entry.name for entry in model.graph.output)
    graph = Graph(
        name or model.graph.name,
        _inputs(model.graph, read.constants),
        outputs,
        read.with_outputs(outputs),
        read.constants,
    )
    return typed(graph)


@dataclass
class _Reader:
    """One graph of a model, while it is read."""

    opset: int
    tensors: Mapping[str, Array] = field(default_factory=dict)
    constants: dict[str, Array] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    same: dict[str, str] = field(default_factory=dict)  # what a tensor that is another one is called
    wanted: set[str] = field(default_factory=set)  # what is read, here or in graphs within nodes

    def graph(self, graph: GraphProto) -> None:
        self.wanted = {name for node in graph.node for name in reads(node)}
        self.wanted.update(entry.name for entry in graph.output)
        for tensor in graph.initializer:
            found = self.tensors.get(tensor.name)
            self.constants[tensor.name] = numpy_helper.to_array(tensor) if found is None else found
        for sparse in graph.sparse_initializer:
            self.constants[sparse.values.name] = _dense(sparse)
        for node in graph.node:
            self.node(node)

    def node(self, proto: NodeProto) -> None:
        standard = proto.domain in _STANDARD
        op = proto.op_type if standard else f"{proto.domain}::{proto.op_type}"
        inputs = [self.same.get(name, name) for name in proto.input]
        if op == "Constant":
            self.constants[proto.output[0]] = _constant(proto)
            return
        if op == "Identity" or (op == "Dropout" and self._does_nothing(proto)):
            self.same[proto.output[0]] = inputs[0]
            return
        written = {attribute.name: self.attribute(attribute) for attribute in proto.attribute}
        graphs = [value for value in written.values() if isinstance(value, Graph)]
        if graphs:
            captured = tuple(dict.fromkeys(name for graph in graphs for name in captured_by(graph)))
            written["captured"] = captured
            inputs += [self.same.get(name, name) for name in captured]
        node = Node(op, tuple(inputs), self._outputs(op, proto.output), written)
        if standard:
            node, more = in_newest_form(node, self.opset, self.wanted)
            self.constants.update(more)
        self.nodes.append(node)

    def _does_nothing(self, dropout: NodeProto) -> bool:
        """Whether a Dropout passes its input on, and nobody asks what it left out."""
        training = self.constants.get(dropout.input[2]) if len(dropout.input) > 2 else None
        mode = len(dropout.input) > 2 and dropout.input[2] and (training is None or bool(training.any()))
        return not mode and self.wanted.isdisjoint(dropout.output[1:])

    def _outputs(self, op: str, names: Sequence[str]) -> tuple[str, ...]:
        """Return the outputs of a node without those that nobody reads and that it need not have."""
        kept = list(names)
        while op in _OPTIONAL_OUTPUTS and len(kept) > 1 and kept[-1] not in self.wanted:
            kept.pop()
        return tuple(kept)

    def attribute(self, attribute: AttributeProto) -> Any:
        kind = attribute.type
        if kind == AttributeProto.INT:
            return attribute.i
        if kind == AttributeProto.INTS:
            return tuple(attribute.ints)
        if kind == AttributeProto.FLOAT:
            return attribute.f
        if kind == AttributeProto.FLOATS:
            return tuple(attribute.floats)
        if kind == AttributeProto.STRING:
            return attribute.s.decode("utf-8", "backslashreplace")
        if kind == AttributeProto.STRINGS:
            return tuple(text.decode("utf-8", "backslashreplace") for text in attribute.strings)
        if kind == AttributeProto.TENSOR:
            return numpy_helper.to_array(attribute.t)
        if kind == AttributeProto.GRAPH:
            return self.inner(attribute.g)
        shown = AttributeProto.AttributeType.Name(kind)
        raise ModelError(f"attribute `{attribute.name}` is of type {shown}, which has no meaning here.")

    def inner(self, graph: GraphProto) -> Graph:
        """Return a graph that a node holds. Its outputs are known by their places: no name need stay."""
        read = _Reader(self.opset)
        read.graph(graph)
        outputs = tuple(read.same.get(entry.name, entry.name) for entry in graph.output)
        inputs = _inputs(graph, read.constants, strict=False)
        return Graph(graph.name, inputs, outputs, tuple(read.nodes), read.constants)

    def with_outputs(self, outputs: Iterable[str]) -> tuple[Node, ...]:
        """Return the nodes, so that what a caller gets has the names that he knows."""
        made = {name for node in self.nodes for name in node.outputs}
        names: dict[str, str] = {}
        extra = []
        for output in outputs:
            source = self.same.get(output, output)
            if source == output:
                continue
            if source in self.constants:
                self.constants[output] = self.constants[source]
            elif source in made and source not in names and source not in outputs:
                names[source] = output
            else:
                extra.append(Node("Identity", (names.get(source, source),), (output,)))
        return (*(_renamed(node, names) for node in self.nodes), *extra)


def _renamed(node: Node, names: Mapping[str, str]) -> Node:
    """Return a node with other names for its tensors."""
    if not any(name in names for name in (*node.inputs, *node.outputs)):
        return node
    inputs = tuple(names.get(name, name) for name in node.inputs)
    return node.with_(inputs=inputs, outputs=tuple(names.get(name, name) for name in node.outputs))


def captured_by(graph: Graph) -> list[str]:
    """Return what a graph within a node takes from outside, in order."""
    own = set(graph.names())
    read = [name for node in graph.nodes for name in node.inputs]
    return [name for name in dict.fromkeys((*read, *graph.outputs)) if name and name not in own]


def _inputs(graph: GraphProto, constants: Mapping[str, Array], strict: bool = True) -> dict[str, TensorType]:
    types = {}
    for entry in graph.input:
        if entry.name in constants:
            continue
        found = _type(entry)
        if found is None:
            if strict:
                raise ModelError(f"input `{entry.name}` is no tensor of a known type and number of axes.")
            element = entry.type.tensor_type.elem_type  # in graphs within nodes the shape may be missing
            found = TensorType(DTYPES.get(element, np.dtype(object)), ())
        types[entry.name] = found
    return types


def _type(info: ValueInfoProto) -> TensorType | None:
    kind = info.type.tensor_type
    if not info.type.HasField("tensor_type") or not kind.HasField("shape"):
        return None
    if kind.elem_type not in DTYPES:
        return None
    shape = tuple(
        dim.dim_value
        if dim.HasField("dim_value") and dim.dim_value >= 0
        else name_of_length(info.name, axis, dim.dim_param)
        for axis, dim in enumerate(kind.shape.dim)
    )
    return TensorType(DTYPES[kind.elem_type], shape)


def _constant(node: NodeProto) -> Array:
    for attribute in node.attribute:
        name = attribute.name
        if name == "value":
            return numpy_helper.to_array(attribute.t)
        if name == "sparse_value":
            return _dense(attribute.sparse_tensor)
        if name == "value_float":
            return np.array(attribute.f, np.float32)
        if name == "value_floats":
            return np.array(attribute.floats, np.float32)
        if name == "value_int":
            return np.array(attribute.i, np.int64)
        if name == "value_ints":
            return np.array(attribute.ints, np.int64)
        if name in ("value_string", "value_strings"):
            texts = [attribute.s] if name == "value_string" else list(attribute.strings)
            array: Array = np.array([text.decode("utf-8", "backslashreplace") for text in texts], object)
            return array[0:1].reshape(()) if name == "value_string" else array
    raise ModelError(f"node `{node.output[0]}` (Constant) holds no value.")


def _dense(sparse: SparseTensorProto) -> Array:
    """Return a sparse tensor written out; its size was checked when it was read."""
    values, indices = numpy_helper.to_array(sparse.values), numpy_helper.to_array(sparse.indices)
    dense: Array = np.zeros(tuple(sparse.dims), values.dtype)
    if indices.ndim == 2:
        dense[tuple(indices.T)] = values
    else:
        dense.reshape(-1)[indices] = values
    return dense
