"""What a whole model multiplies, the bodies of If, Loop and Scan included."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import numpy as np
import onnx
from onnx.onnx_ml_pb2 import GraphProto, ModelProto, NodeProto

from ..._base.types import Array
from ..._base.words.printable import printable
from ...conv.audits.records import Layer
from ..model.files import Stored, keep
from ..model.graph import GraphIndex, attributes, is_standard, nodes_within, reads
from ..model.names import ModelError, in_short
from ..model.runtime import Session, giving
from .rules import count, may_multiply, parameters

__all__ = ["WholeCount", "count_whole"]

_BODIES: Final = ("If", "Loop", "Scan")


@dataclass(frozen=True)
class WholeCount:
    """What a model multiplies on one input.

    Attributes
    ----------
    layers : tuple of Layer
        Those of the main graph in running order, then those within bodies.
    nodes : tuple of int
        The place of each layer's node in the main graph; -1 within a body.
    params : int
        All parameters of the model, shared ones once.
    uncounted : tuple of str
        Operators that may multiply, and that no rule covers.
    inferred : bool
        Whether shapes alone sufficed; else the model was run.
    notes : tuple of str
        What was counted of each body.
    """

    layers: tuple[Layer, ...]
    nodes: tuple[int, ...]
    params: int
    uncounted: tuple[str, ...]
    inferred: bool
    notes: tuple[str, ...] = ()


def count_whole(stored: Stored, feeds: Mapping[str, Array], threads: int | None = None) -> WholeCount:
    """Count a model on an input, with what stands in the bodies of If, Loop and Scan.

    Of an If the larger branch counts, whichever is taken on this input. The body of a Loop counts as often as
    it says that it runs at most, that of a Scan as often as its sequence is long.

    Parameters
    ----------
    stored : Stored
    feeds : mapping of str to ndarray
        The input; only its shapes matter, unless those within the model depend on its values.
    threads : int, optional
        Of ONNX Runtime, where shapes cannot be inferred and the model has to run.

    Returns
    -------
    WholeCount
    """
    counted = count(stored, feeds, threads)
    graph = GraphIndex(stored)
    layers, nodes = list(counted.layers), list(counted.nodes)
    uncounted = list(counted.uncounted)
    notes: list[str] = []
    inferred = counted.inferred
    own = sum(_own_parameters(stored, body) for node in graph.nodes for _, body in _bodies(node))
    for node in graph.nodes:
        if node.op_type not in _BODIES or not is_standard(node) or not _computes(node):
            continue
        inner = _within(stored, graph, node, feeds, threads)
        layers += inner.layers
        nodes += [-1] * len(inner.layers)
        uncounted += inner.uncounted
        notes += inner.notes
        inferred = inferred and inner.inferred
    params = counted.params + own
    return WholeCount(
        tuple(layers), tuple(nodes), params, tuple(dict.fromkeys(uncounted)), inferred, tuple(notes)
    )


def _own_parameters(stored: Stored, body: GraphProto) -> int:
    """Return the parameters that are written in a body, and in those within it."""
    model = ModelProto(opset_import=stored.proto.opset_import)
    model.graph.node.extend(body.node)
    model.graph.initializer.extend(body.initializer)
    deeper = sum(_own_parameters(stored, inner) for node in body.node for _, inner in _bodies(node))
    return parameters(GraphIndex(Stored(model, {}))) + deeper


def _computes(node: NodeProto) -> bool:
    return any(may_multiply(inner) for inner in nodes_within(node))


class _Body(NamedTuple):
    """A subgraph as a model by itself, and what it is given."""

    stored: Stored
    feeds: dict[str, Array]


def _within(
    stored: Stored, graph: GraphIndex, node: NodeProto, feeds: Mapping[str, Array], threads: int | None
) -> WholeCount:
    """Return what the bodies of a node multiply."""
    label = printable(node.name or node.output[0])
    counts: dict[str, WholeCount] = {}
    failed: dict[str, str] = {}
    for name, body in _bodies(node):
        try:
            model = _as_model(stored, graph, node, body, feeds, threads)
            counts[name] = count_whole(model.stored, model.feeds, threads)
        except ModelError as error:  # such as a branch for inputs of another size
            failed[name] = in_short(error)
    if not counts:
        why = "; ".join(failed.values())
        left = [
            f"{inner.op_type} within {node.op_type}" for inner in nodes_within(node) if may_multiply(inner)
        ]
        return WholeCount((), (), 0, tuple(dict.fromkeys(left)), True, (f"{node.op_type} `{label}`: {why}",))
    chosen = max(counts, key=lambda name: sum(layer.macs for layer in counts[name].layers))
    times, said = _times(graph, node, feeds, stored, threads)
    note = f"{node.op_type} `{label}`: {said}"
    if node.op_type == "If":
        sums = {name: sum(layer.macs for layer in part.layers) for name, part in counts.items()}
        others = [f"{name} has {macs:,}" for name, macs in sums.items() if name != chosen]
        others += [f"{name} does not run on this input" for name in failed]
        note = (
            f"If `{label}`: the larger branch counts, {chosen} ({sums[chosen]:,} MACs; {', '.join(others)})"
        )
    part = counts[chosen]
    layers = tuple(_repeated(_renamed(layer, label), times) for layer in part.layers)
    within = tuple(
        name if " within " in name else f"{name} within {node.op_type}"
        for whole in counts.values()
        for name in whole.uncounted
    )
    notes = (*([note] if layers else []), *part.notes)
    return WholeCount(layers, (), 0, within, all(c.inferred for c in counts.values()), notes)


def _bodies(node: NodeProto) -> Iterator[tuple[str, GraphProto]]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.name, attribute.g


def _as_model(
    stored: Stored,
    graph: GraphIndex,
    node: NodeProto,
    body: GraphProto,
    feeds: Mapping[str, Array],
    threads: int | None,
) -> _Body:
    """Return a body as a model: what it reads from around it are its inputs, or constants in it."""
    model = ModelProto(
        ir_version=stored.proto.ir_version,
        opset_import=stored.proto.opset_import,
        functions=stored.proto.functions,
    )
    model.graph.name = body.name
    model.graph.node.extend(body.node)
    model.graph.initializer.extend(body.initializer)
    own = {name for inner in body.node for name in inner.output}
    own |= {tensor.name for tensor in (*body.initializer, *body.input)}
    around = {name for inner in body.node for name in reads(inner)} | {output.name for output in body.output}
    tensors: dict[str, Array] = {}
    given = []
    # What nested bodies make for themselves is read as well; what exists out here is read from here.
    outside = {*graph.maker, *(entry.name for entry in graph.inputs)}
    for name in sorted(around - own):
        values = graph.constant(name)
        if values is not None:
            keep(model, tensors, name, values)
        elif name in outside:
            given.append(name)
    bound = _bound(node, body)
    held = _values(stored, [*given, *(source for source, _ in bound.values() if source)], feeds, threads)
    inside = {name: held[name] for name in given}
    for name, (source, first) in bound.items():
        values = held[source] if source else np.asarray(first)
        inside[name] = np.take(values, 0, axis=first) if source and first is not None else values
    for name, values in inside.items():
        element = onnx.helper.np_dtype_to_tensor_dtype(values.dtype)
        model.graph.input.append(onnx.helper.make_tensor_value_info(name, element, values.shape))
    model.graph.output.extend(body.output)
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    return _Body(Stored(model, tensors), inside)


def _bound(node: NodeProto, body: GraphProto) -> dict[str, tuple[str, int | None]]:
    """Return what each input of a body is: a tensor around it, and the axis that it is an entry of, if any.

    Without a tensor the value itself: the number of the turn, and whether to go on.
    """
    names = [entry.name for entry in body.input]
    if node.op_type == "Loop":
        carried = zip(names[2:], node.input[2:], strict=False)
        return {names[0]: ("", 0), names[1]: ("", True), **{name: (source, None) for name, source in carried}}
    if node.op_type == "Scan":
        sequences, axes = _sequences(node)
        first = len(node.input) - sequences
        return {
            name: (source, None if place < first else axes[place - first])
            for place, (name, source) in enumerate(zip(names, node.input, strict=True))
        }
    return {}


def _sequences(node: NodeProto) -> tuple[int, Sequence[int]]:
    """Return how many inputs of a Scan are sequences, and along which axis each of them runs."""
    given = attributes(node)
    number = int(given["num_scan_inputs"].i)
    axes = given["scan_input_axes"].ints if "scan_input_axes" in given else [0] * number
    return number, axes


def _values(
    stored: Stored, names: Sequence[str], feeds: Mapping[str, Array], threads: int | None
) -> dict[str, Array]:
    """Return what tensors hold on an input."""
    graph = GraphIndex(stored)
    known = {name: feeds[name] for name in names if name in feeds}
    for name in names:
        values = None if name in known else graph.constant(name)
        if values is not None:
            known[name] = values
    missing = [name for name in dict.fromkeys(names) if name not in known]
    if missing:
        known |= Session(giving(stored, missing), threads)(feeds)
    for name in names:
        if not isinstance(known[name], np.ndarray):
            raise ModelError(f"`{name}` is no tensor, but a sequence")
    return known


def _times(
    graph: GraphIndex, node: NodeProto, feeds: Mapping[str, Array], stored: Stored, threads: int | None
) -> tuple[int, str]:
    """Return how often a body runs, and that in words."""
    if node.op_type == "Scan":
        sequences, axes = _sequences(node)
        source = node.input[len(node.input) - sequences]
        length = int(_values(stored, [source], feeds, threads)[source].shape[axes[0]])
        return length, f"its body counts {length} times, once for each entry of its sequence"
    if node.op_type == "Loop":
        most = graph.constant(node.input[0]) if node.input[0] else None
        if most is None or int(most.reshape(-1)[0]) >= np.iinfo(np.int32).max:
            return 1, "its body counts once: how often it runs depends on values"
        turns = int(most.reshape(-1)[0])
        return turns, f"its body counts {turns} times, as often as it runs at most"
    return 1, ""


def _renamed(layer: Layer, owner: str) -> Layer:
    return layer if layer.name.startswith(owner) else replace(layer, name=f"{owner}/{layer.name}")


def _repeated(layer: Layer, times: int) -> Layer:
    """Return a layer that runs so many times as often."""
    if times == 1:
        return layer
    sums = {name: times * getattr(layer, name) for name in ("calls", "macs", "flops", "bytes")}
    return replace(layer, **sums)
