"""Models of older operator sets, rewritten for a later one by onnx's version converter.

The converter gets each node by itself, with inputs of its own, all in one graph: no weights pass through it,
names cannot clash with those that it makes, and whatever it cannot do has the name of a node.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Final

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.onnx_ml_pb2 import GraphProto, ModelProto, NodeProto, TensorProto, TypeProto

from ..._base.types import Array
from .names import ModelError, in_short

__all__ = ["KNOWN_OPSET", "OLDEST_OPSET", "opset_of", "rewritten", "upgraded"]

OLDEST_OPSET: Final = 7
KNOWN_OPSET: Final = 13  # what everything here knows; models of newer ones stay as they are

_STANDARD: Final = ("", "ai.onnx")
_IR_VERSION: Final = 8  # of the file format: any that the converter knows

# What later sets changed in these is which types they take; their subgraphs are rewritten by themselves.
_ALIKE: Final = frozenset({"Constant", "If", "Loop", "Scan"})
_OLDEST_SCAN: Final = 9

# Up to here resizing began at the corner of the first sample, which later sets have as one mode of several.
_CORNERS: Final = 10


def opset_of(model: ModelProto) -> int | None:
    """Return the version of ONNX's own operator set that a model uses; None if it names none.

    Parameters
    ----------
    model : ModelProto

    Returns
    -------
    int or None
    """
    versions = {opset.domain: opset.version for opset in model.opset_import}
    return versions.get("", versions.get("ai.onnx"))


def rewritten(version: int) -> str:
    """Return in words that a model was upgraded from a version."""
    return f"written for operator set {version}, rewritten for {KNOWN_OPSET}"


def upgraded(model: ModelProto, typed: ModelProto) -> ModelProto:
    """Return a model of an older operator set as one of set 13, which gives the same results.

    Parameters
    ----------
    model : ModelProto
        Of set 7 or later; large initializers need not hold their data.
    typed : ModelProto
        The same model as shape inference takes it.

    Returns
    -------
    ModelProto
        With the same names of inputs, outputs, nodes and tensors, and more of the latter.

    Raises
    ------
    ModelError
        If a node cannot be rewritten; it is named.
    """
    version = opset_of(model) or KNOWN_OPSET
    if model.functions:
        raise ModelError(
            f"it has functions of its own and uses operator set {version}; inline them first "
            "(onnx.inliner.inline_local_functions), or export it for set 13 or newer."
        )
    result = ModelProto()
    result.CopyFrom(model)
    nodes = list(_changing(result.graph, version))
    _rewrite(result.graph, version, iter(_rewritten(nodes, version, _Facts(typed))))
    for opset in result.opset_import:
        if opset.domain in _STANDARD:
            opset.version = KNOWN_OPSET
    _own_initializers(result)
    return result


def _own_initializers(model: ModelProto) -> None:
    """Declare the file format that goes with the operator set.

    Before its version 4 all initializers were inputs too, without being any; from then on such inputs are
    defaults that a caller may replace, and that nothing can be folded into.
    """
    if model.ir_version < 4:
        values = {tensor.name for tensor in model.graph.initializer}
        inputs = [info for info in model.graph.input if info.name not in values]
        del model.graph.input[:]
        model.graph.input.extend(inputs)
    least = helper.find_min_ir_version_for([helper.make_opsetid("", KNOWN_OPSET)])
    model.ir_version = max(model.ir_version, least)


# -- which nodes -------------------------------------------------------------------------------------


def _changing(graph: GraphProto, version: int) -> Iterator[NodeProto]:
    """Yield the nodes that a later set may write in another way: those of inner graphs first."""
    for node in graph.node:
        for inner in _graphs_of(node):
            yield from _changing(inner, version)
    yield from (node for node in graph.node if _changes(node, version))


def _rewrite(graph: GraphProto, version: int, new: Iterator[Sequence[NodeProto]]) -> None:
    """Put new nodes in the place of those that change, in the same order."""
    for node in graph.node:
        for inner in _graphs_of(node):
            _rewrite(inner, version, new)
    if any(_changes(node, version) for node in graph.node):
        nodes = [
            one for node in graph.node for one in (next(new) if _changes(node, version) else [_copied(node)])
        ]
        del graph.node[:]
        graph.node.extend(nodes)


def _graphs_of(node: NodeProto) -> Iterator[GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _changes(node: NodeProto, version: int) -> bool:
    if node.domain not in _STANDARD:
        return False
    if node.op_type == "Scan" and version < _OLDEST_SCAN:
        raise ModelError(_refusal(node, version, "later sets have another operator of that name"))
    return node.op_type not in _ALIKE and _schema(node.op_type, version) != _schema(node.op_type, KNOWN_OPSET)


@functools.cache
def _schema(operator: str, version: int) -> int:
    """Return the operator set in which an operator was last changed, up to a version; 0 if there is none."""
    with suppress(onnx.defs.SchemaError):
        return int(onnx.defs.get_schema(operator, version).since_version)
    return 0


def _copied(node: NodeProto) -> NodeProto:
    copy = NodeProto()
    copy.CopyFrom(node)
    return copy


def _refusal(node: NodeProto, version: int, reason: str) -> str:
    return (
        f"{node.op_type} `{node.name or next(iter(node.output), '')}` of operator set {version} cannot be "
        f"rewritten for set {KNOWN_OPSET}: {reason}; export the model again with opset_version={KNOWN_OPSET} "
        "or newer."
    )


# -- the nodes, rewritten ----------------------------------------------------------------------------


class _Facts:
    """What is known of the tensors of a model, those of inner graphs included.

    Parameters
    ----------
    typed : ModelProto
        As shape inference takes it.

    Attributes
    ----------
    types : dict of str to TypeProto
    constants : dict of str to TensorProto
    """

    def __init__(self, typed: ModelProto) -> None:
        # Where inference stops at what it cannot tell, the types that it found remain.
        with suppress(onnx.shape_inference.InferenceError):
            typed = onnx.shape_inference.infer_shapes(typed)
        self.types: dict[str, TypeProto] = {}
        self.constants: dict[str, TensorProto] = {}
        self._taken: set[str] = set()
        self._look_at(typed.graph)

    def _look_at(self, graph: GraphProto) -> None:
        self.types |= {info.name: info.type for info in (*graph.input, *graph.value_info, *graph.output)}
        for tensor in graph.initializer:
            self.constants[tensor.name] = tensor
            self.types[tensor.name] = helper.make_tensor_type_proto(tensor.data_type, tensor.dims)
        self._taken.update(self.types)
        for node in graph.node:
            self._taken.update(node.output)
            if node.op_type == "Constant":
                for attribute in node.attribute:
                    if attribute.name == "value":
                        self.constants[node.output[0]] = attribute.t
            for inner in _graphs_of(node):
                self._look_at(inner)

    def new_name(self, wanted: str) -> str:
        """Return a name that no tensor has."""
        name, number = wanted, 1
        while name in self._taken:
            number += 1
            name = f"{wanted}_{number}"
        self._taken.add(name)
        return name

    def element(self, name: str) -> int:
        """Return the type of a tensor's elements: float32 where it is not known."""
        return self.types[name].tensor_type.elem_type if name in self.types else TensorProto.FLOAT


def _rewritten(nodes: Sequence[NodeProto], version: int, facts: _Facts) -> list[list[NodeProto]]:
    """Return what takes the place of each node."""
    try:
        converted = _converted(list(enumerate(nodes)), version, facts)
    except RuntimeError as error:
        for node in {_kind(node): node for node in nodes[::-1]}.values():
            try:
                _converted([(0, node)], version, facts)
            except RuntimeError as reason:
                said = in_short(reason).rpartition("failed: ")[2].rstrip(".")
                raise ModelError(_refusal(node, version, said)) from reason
        raise ModelError(
            f"its operator set {version} cannot be rewritten as {KNOWN_OPSET}: {in_short(error)}"
        ) from error
    groups = _grouped(converted, nodes)
    return [
        _in_place_of(node, version, number, group, facts)
        for number, (node, group) in enumerate(zip(nodes, groups, strict=True))
    ]


def _kind(node: NodeProto) -> tuple[object, ...]:
    """Return what it depends on whether a node can be converted."""
    given = sorted(attribute.SerializeToString(deterministic=True) for attribute in node.attribute)
    return (node.op_type, *map(bool, node.input), None, *map(bool, node.output), None, *given)


def _converted(nodes: Sequence[tuple[int, NodeProto]], version: int, facts: _Facts) -> ModelProto:
    """Return what onnx's converter makes of nodes that have nothing to do with each other.

    Input j of node n is "in.n.j" there, its outputs are "out.n.j", and the node itself is "node.n".
    """
    graph = GraphProto(name="nodes")
    for number, node in nodes:
        alone = _copied(node)
        alone.name, alone.domain = f"node.{number}", ""
        alone.op_type = _STAND_INS.get(node.op_type, node.op_type)
        for place, name in enumerate(node.input):
            if name:
                alone.input[place] = f"in.{number}.{place}"
                kind = facts.types.get(name)
                if kind is None or not kind.tensor_type.elem_type:
                    kind = helper.make_tensor_type_proto(TensorProto.FLOAT, None)
                graph.input.add(name=alone.input[place]).type.CopyFrom(kind)
        for place, name in enumerate(node.output):
            if name:
                alone.output[place] = f"out.{number}.{place}"
                graph.output.append(
                    helper.make_tensor_value_info(alone.output[place], TensorProto.FLOAT, None)
                )
        graph.node.append(alone)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)])
    model.ir_version = _IR_VERSION
    return onnx.version_converter.convert_version(model, KNOWN_OPSET)


def _grouped(converted: ModelProto, nodes: Sequence[NodeProto]) -> list[list[NodeProto]]:
    """Return the nodes that each node became, in running order; initializers as Constant nodes."""
    groups: list[list[NodeProto]] = [[] for _ in nodes]
    owner = {
        f"out.{number}.{place}": number
        for number, node in enumerate(nodes)
        for place in range(len(node.output))
    }
    given = {info.name for info in converted.graph.input}
    values = [
        helper.make_node("Constant", [], [tensor.name], value=tensor)
        for tensor in converted.graph.initializer
    ]
    for node in [*values, *converted.graph.node][::-1]:
        number = next((owner[name] for name in node.output if name in owner), None)
        if number is not None:
            groups[number].insert(0, node)
            owner |= {name: number for name in node.input if name and name not in given}
    return groups


def _in_place_of(
    old: NodeProto, version: int, number: int, group: Sequence[NodeProto], facts: _Facts
) -> list[NodeProto]:
    """Return the nodes of a group under the names of the model."""
    names = {f"in.{number}.{place}": name for place, name in enumerate(old.input)}
    names |= {f"out.{number}.{place}": name for place, name in enumerate(old.output)}
    main = next((node for node in group if node.name == f"node.{number}"), group[-1])
    stem = next(filter(None, old.output))
    for node in group:
        for name in filter(None, node.output):
            if name not in names:
                names[name] = facts.new_name(f"{stem}/{node.op_type.lower()}")
    for node in group:
        node.name = ""
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    main.name, main.doc_string = old.name, old.doc_string
    main.metadata_props.extend(old.metadata_props)
    _correct(old, version, main, group, facts)
    return list(group)


# -- where the converter is wrong --------------------------------------------------------------------


# Hardmax began to look along one axis when Softmax did, but the converter knows that of the latter alone.
_STAND_INS: Final[Mapping[str, str]] = {"Hardmax": "Softmax"}


def _correct(
    old: NodeProto, version: int, main: NodeProto, group: Sequence[NodeProto], facts: _Facts
) -> None:
    """Change a group where onnx's converter writes something else than the old operator meant."""
    for node in group:
        if old.op_type in _STAND_INS and node.op_type == _STAND_INS[old.op_type]:
            node.op_type = old.op_type
    if old.op_type in ("Resize", "Upsample") and version <= _CORNERS:
        main.attribute.append(helper.make_attribute("coordinate_transformation_mode", "asymmetric"))
        modes = [attribute.s for attribute in old.attribute if attribute.name == "mode"]
        if modes in ([], [b"nearest"]):
            main.attribute.append(helper.make_attribute("nearest_mode", _nearest(old, version, facts)))
    if old.op_type in (
        "Clip",
        "Pad",
    ):  # bounds and fill are written as float32, whatever they are compared with
        dtype = helper.tensor_dtype_to_np_dtype(facts.element(old.input[0]))
        for node in group:
            value = node.attribute[0].t if node.op_type == "Constant" else None
            if value is not None and value.data_type == TensorProto.FLOAT:
                with np.errstate(over="ignore"):
                    value.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(value).astype(dtype)))


def _nearest(node: NodeProto, version: int, facts: _Facts) -> str:
    """Return which sample is the nearest: ONNX Runtime takes the next one where an image becomes smaller."""
    scales: Array = np.ones(1)
    for attribute in node.attribute:
        if attribute.name == "scales":
            scales = np.array(attribute.floats)
    if len(node.input) > 1 and node.input[1] in facts.constants:
        scales = numpy_helper.to_array(facts.constants[node.input[1]])
    if np.any(scales < 1) and np.any(scales > 1):
        raise ModelError(_refusal(node, version, "it makes some axes longer and others shorter"))
    return "ceil" if np.any(scales < 1) else "floor"
