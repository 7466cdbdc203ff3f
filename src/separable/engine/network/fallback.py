"""What the engine does not run, in ONNX Runtime: a network as parts in turn, native ones and others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import numpy as np
import onnx
from onnx import helper
from onnx.onnx_ml_pb2 import GraphProto, ModelProto, NodeProto, ValueInfoProto

from ..._base.types import Array
from ...onnx.model.files import Stored, keep
from ...onnx.model.names import ModelError
from ...onnx.model.runtime import Session, runnable
from ..graph.ir import Graph, Node, TensorType
from ..program.lower import lowered
from ..program.weights import WeightStore
from .apart import taken_apart
from .division import divided
from .parts import PlanPart, WholePart

__all__ = ["ForeignPart", "parts", "types_in_runtime"]

# The operator set in which graphs are written, where no operation is newer.
_OPSET: Final = 21


def parts(graph: Graph, store: WeightStore, threads: int) -> list[PlanPart]:
    """Return a graph as parts in running order: native as far as there are native steps.

    Parameters
    ----------
    graph : Graph
        Static and simplified; it reads and gives what is computed.
    store : WeightStore
    threads : int

    Returns
    -------
    list of PlanPart

    Raises
    ------
    ModelError
        If ONNX Runtime does not run the rest either.
    """
    missing = lowered(graph, store)[1]
    return divided(graph, store, missing, lambda part: ForeignPart(part, threads), taken_apart)


class ForeignPart(WholePart):
    """Operations that ONNX Runtime runs.

    Parameters
    ----------
    graph : Graph
        Static; of ONNX's own nodes.
    threads : int
    """

    runner = "ONNX Runtime"

    def __init__(self, graph: Graph, threads: int) -> None:
        super().__init__(graph)
        self._session = Session(runnable(_exported(graph), threads), threads)

    def results(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        """Return the outputs."""
        return self._session(inputs)


def types_in_runtime(
    node: Node, given: Sequence[TensorType | None], values: Sequence[Array | None]
) -> tuple[TensorType, ...]:
    """Return the types of what an operation makes, by running it on numbers that say nothing.

    Where these decide the shapes after all, running the network ends in an error.
    """
    known = dict(zip(node.inputs, values, strict=True))
    constants = {name: value for name, value in known.items() if name and value is not None}
    types = dict(zip(node.inputs, given, strict=True))
    inputs = {
        name: kind for name, kind in types.items() if name and kind is not None and name not in constants
    }
    graph = Graph("part", inputs, tuple(filter(None, node.outputs)), (node,), constants)
    session = Session(runnable(_exported(graph)))
    made = session({name: _anything(kind) for name, kind in inputs.items()})
    absent = TensorType(np.dtype(np.float32), ())
    found = []
    for name in node.outputs:
        array = made.get(name)
        if name and not isinstance(array, np.ndarray):
            raise ModelError(f"node `{node.outputs[0]}` ({node.op}) makes something other than arrays.")
        if array is not None and not array.size and all(0 not in kind.shape for kind in inputs.values()):
            raise ModelError(
                f"node `{node.outputs[0]}` ({node.op}) makes something whose shape depends on what is "
                "computed; only shapes that follow from those of the inputs are known."
            )
        found.append(absent if array is None else TensorType(array.dtype, array.shape))
    return tuple(found)


def _anything(kind: TensorType) -> Array:
    shape = tuple(int(length) for length in kind.shape)
    return np.zeros(shape, kind.dtype) if kind.dtype.kind == "f" else np.ones(shape, kind.dtype)


# -- a graph as a model of ONNX ----------------------------------------------------------------------


def _exported(graph: Graph) -> Stored:
    """Return a static graph as a model."""
    model = ModelProto()
    tensors: dict[str, Array] = {}
    own = {node.op for node in _every(graph.nodes) if "::" not in node.op}
    opset = max([_OPSET, *map(_first_opset, own)])
    domains = {node.op.partition("::")[0] for node in _every(graph.nodes) if "::" in node.op}
    imports = [
        helper.make_opsetid("", opset),
        *(helper.make_opsetid(domain, 1) for domain in sorted(domains)),
    ]
    model.CopyFrom(helper.make_model(_graph_proto(graph), opset_imports=imports))
    model.ir_version = helper.find_min_ir_version_for(imports, ignore_unknown=True)
    for name, array in graph.constants.items():
        keep(model, tensors, name, array)
    return Stored(model, tensors)


def _every(nodes: Sequence[Node]) -> Iterator[Node]:
    for node in nodes:
        yield node
        for value in node.attributes.values():
            if isinstance(value, Graph):
                yield from _every(value.nodes)


def _first_opset(op: str) -> int:
    """Return the oldest operator set, from `_OPSET` on, that has an operation."""
    try:
        onnx.defs.get_schema(op, _OPSET)
    except onnx.defs.SchemaError:
        return int(onnx.defs.get_schema(op).since_version)
    return _OPSET


def _graph_proto(graph: Graph) -> GraphProto:
    types = {**graph.types, **graph.inputs}
    inputs, outputs = (
        [_declared(name, types.get(name)) for name in side] for side in (graph.inputs, graph.outputs)
    )
    nodes = [_node_proto(node) for node in graph.nodes]
    return helper.make_graph(nodes, graph.name or "part", inputs, outputs)


def _declared(name: str, kind: TensorType | None) -> ValueInfoProto:
    if kind is None:
        return ValueInfoProto(name=name)
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(kind.dtype), list(kind.shape))


def _node_proto(node: Node) -> NodeProto:
    domain, _, op = node.op.rpartition("::")
    captured = tuple(node.attributes.get("captured", ()))
    inputs = node.inputs[: len(node.inputs) - len(captured)]
    outside = dict(zip(captured, node.inputs[len(inputs) :], strict=True))
    attributes = {}
    for name, value in node.attributes.items():
        if isinstance(value, Graph):
            attributes[name] = _inner(
                value, outside, f"{node.outputs[0]}.{name}", scalars=2 if op == "Loop" else 0
            )
        elif isinstance(value, np.ndarray):
            attributes[name] = onnx.numpy_helper.from_array(value)
        elif name not in ("captured", "beyond"):
            attributes[name] = value
    return helper.make_node(op, inputs, node.outputs, domain=domain, **attributes)


def _inner(graph: Graph, outside: dict[str, str], prefix: str, scalars: int) -> GraphProto:
    """Return a graph within a node: what it captures is called as outside, all else by names of its own.

    So many of its first inputs have no axes; of the others those may be unknown.
    """
    names = {name: f"{prefix}.{name}" for name in graph.names()}
    names.update(outside)
    names[""] = ""
    inner = Graph(
        graph.name,
        {names[name]: kind for name, kind in graph.inputs.items()},
        (),
        tuple(
            node.with_(
                inputs=tuple(names[name] for name in node.inputs),
                outputs=tuple(names[name] for name in node.outputs),
            )
            for node in graph.nodes
        ),
        {},
    )
    proto = _graph_proto(inner)
    for place, entry in enumerate(proto.input):
        if not entry.type.tensor_type.shape.dim and place >= scalars:  # it may not be known here
            entry.type.tensor_type.ClearField("shape")
    for name, array in graph.constants.items():
        proto.initializer.append(onnx.numpy_helper.from_array(np.asarray(array, order="C"), names[name]))
    made = {name for node in graph.nodes for name in node.outputs}
    for place, name in enumerate(graph.outputs):
        own = names[name]
        if name not in made or name in graph.outputs[:place]:  # each result is computed, and once
            own = f"{prefix}.{place}"
            proto.node.append(helper.make_node("Identity", [names[name]], [own]))
        proto.output.append(_declared(own, None))
    return proto
