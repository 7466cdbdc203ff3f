"""Nodes taken out of a graph and others put in: each replaced layer becomes a short sequence."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
import onnx
from onnx.onnx_ml_pb2 import ModelProto, NodeProto

from ..._base.types import Array
from ...conv.forms.layer import ConvLayer, Replacement
from ...conv.forms.table import FORMS
from ...conv.forms.transposed import crop_of, turned
from ..model.files import Stored, keep
from ..model.graph import reads
from .nodes import ConvNode

__all__ = ["Change", "changed", "conv_nodes", "geometry", "noted"]

# From this version of the format on, initializers need not be inputs as well.
_OWN_INITIALIZERS: Final = 4

# One layer: the nodes that share its weights, and what takes the place of each.
Change = tuple[Sequence[ConvNode], Replacement]


def changed(stored: Stored, changes: Iterable[Change]) -> Stored:
    """Return a model whose layers run in another form; the given one stays as it is.

    Parameters
    ----------
    stored : Stored
    changes : iterable of (sequence of ConvNode, Replacement)
        As :func:`find_layers` found them in this model.

    Returns
    -------
    Stored
        Of the same inputs, outputs and operator set. What only the removed nodes read is gone as well.
    """
    model = ModelProto()
    model.CopyFrom(stored.proto)
    tensors = dict(stored.tensors)
    names = _Names(model)
    new: dict[int, list[NodeProto]] = {}
    gone: set[int] = set()
    replaced = list(changes)
    for group, replacement in replaced:
        shared: dict[str, str] = {}
        for conv_node in group:
            old = model.graph.node[conv_node.node]
            new[conv_node.node] = list(_sequence(model, tensors, names, conv_node, replacement, old, shared))
            gone |= conv_node.places
    kept = {conv_node.reads for group, _ in replaced for conv_node in group}
    read = (name for number in sorted(gone) for name in model.graph.node[number].input)
    orphans = [name for name in read if name not in kept]
    nodes = [
        node
        for number, old in enumerate(stored.proto.graph.node)
        for node in (new.get(number, []) if number in gone else [old])
    ]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    _drop_unread(model, tensors, orphans)
    model.ir_version = max(model.ir_version, _OWN_INITIALIZERS)
    return Stored(model, tensors, stored.external)


def noted(stored: Stored, line: str) -> Stored:
    """Return the model with a line added to its description."""
    model = ModelProto()
    model.CopyFrom(stored.proto)
    model.doc_string = f"{model.doc_string}\n{line}".lstrip("\n")
    return Stored(model, stored.tensors, stored.external)


class _Names:
    """Names that nothing else in a model has."""

    def __init__(self, model: ModelProto) -> None:
        graph = model.graph
        self._taken = {tensor.name for tensor in (*graph.input, *graph.initializer, *graph.output)}
        for node in graph.node:
            self._taken.update((node.name, *node.output, *reads(node)))

    def new(self, wanted: str) -> str:
        name, number = wanted, 1
        while name in self._taken:
            number += 1
            name = f"{wanted}_{number}"
        self._taken.add(name)
        return name


def _sequence(
    model: ModelProto,
    tensors: dict[str, Array],
    names: _Names,
    conv_node: ConvNode,
    replacement: Replacement,
    old: NodeProto,
    shared: dict[str, str],
) -> Iterator[NodeProto]:
    """Return the nodes that do what a layer did; `shared` holds the names of weights already added."""

    def initializer(label: str, values: Array) -> str:
        if label not in shared:
            shared[label] = names.new(f"{conv_node.name}/{label}")
            keep(model, tensors, shared[label], values)
        return shared[label]

    current = conv_node.reads
    if replacement.channels is not None:
        indices = initializer("channels.indices", np.array(replacement.channels, np.int64))
        gathered = names.new(f"{conv_node.name}/channels_output")
        name = names.new(f"{conv_node.name}/channels")
        yield onnx.helper.make_node("Gather", [current, indices], [gathered], name=name, axis=1)
        current = gathered
    total = ""
    chains = _chains(replacement)
    for place, chain in enumerate(chains):
        seen = current
        for number, (part, conv) in enumerate(chain):
            last = number == len(chain) - 1 and len(chains) == 1
            read, seen = seen, conv_node.gives if last else names.new(f"{conv_node.name}/{part}_output")
            name = names.new(f"{conv_node.name}/{part}") if part else old.name
            prefix = f"{part}." if part else ""
            weights = initializer(f"{prefix}weight", _stored_weights(conv, conv_node))
            bias = None
            if conv.bias is not None:
                bias = initializer(f"{prefix}bias", _stored_bias(conv.bias, conv_node))
            for node in _written(conv, conv_node, [read, weights, bias], seen, name, number == 0, names):
                yield _annotated(node, old)
        if place:
            last = place == len(chains) - 1
            given = conv_node.gives if last else names.new(f"{conv_node.name}/sum{place}_output")
            name = names.new(f"{conv_node.name}/sum{place}")
            yield _annotated(onnx.helper.make_node("Add", [total, seen], [given], name=name), old)
            seen = given
        total = seen


def _stored_weights(conv: ConvLayer, conv_node: ConvNode) -> Array:
    """Return the weights of one part as its operator holds them."""
    weights = conv.weights
    if conv_node.factor is not None:
        weights = weights[:, :, 0]
        if conv_node.operator == "MatMul" and not conv_node.factor.constant_first:
            weights = weights.T
    elif conv.transposed:
        weights = turned(weights, conv.groups)
    return np.ascontiguousarray(weights.astype(conv_node.dtype))


def _stored_bias(bias: Array, conv_node: ConvNode) -> Array:
    rows = bias.astype(conv_node.dtype)
    first = conv_node.factor is not None and conv_node.factor.constant_first
    return rows[:, np.newaxis] if first else rows


def _written(
    conv: ConvLayer,
    conv_node: ConvNode,
    inputs: Sequence[str | None],
    gives: str,
    name: str,
    first: bool,
    names: _Names,
) -> Iterator[NodeProto]:
    """Yield the nodes of one part, which reads a tensor, its weights and its bias, if it has one."""
    make = onnx.helper.make_node
    read = [given for given in inputs if given is not None]
    factor = conv_node.factor
    if factor is None:
        operator, given = (
            ("ConvTranspose", _crop(conv)) if conv.transposed else ("Conv", geometry(conv, conv_node))
        )
        yield make(operator, read, [gives], name=name, **given)
    elif conv_node.operator == "Gemm":
        given = {"transB": 1, **({"transA": 1} if factor.turned and first else {})}
        yield make("Gemm", read, [gives], name=name, **given)
    else:
        x, weights, *bias = read
        product = names.new(f"{name}/product_output") if bias else gives
        yield make("MatMul", [weights, x] if factor.constant_first else [x, weights], [product], name=name)
        if bias:
            yield make("Add", [product, *bias], [gives], name=names.new(f"{name}/bias"))


def _crop(conv: ConvLayer) -> dict[str, Any]:
    """Return the attributes of a ConvTranspose node."""
    crop, more = crop_of(conv)
    before, after = zip(*crop, strict=True)
    given: dict[str, Any] = {
        "kernel_shape": conv.kernel,
        "strides": conv.input_dilation,
        "dilations": conv.dilation,
        "group": conv.groups,
        "pads": (*before, *after),
    }
    return {**given, "output_padding": more} if any(more) else given


def _annotated(node: NodeProto, old: NodeProto) -> NodeProto:
    """Return the node with what was said about the one that it stands for."""
    node.doc_string = old.doc_string
    node.metadata_props.extend(old.metadata_props)
    return node


def _chains(replacement: Replacement) -> list[list[tuple[str, ConvLayer]]]:
    """Return the convolutions of a replacement with their names: one after the other, or chains to be summed.

    The terms of "dw-pw" and "pw-dw" are chains of their own, whose results are summed: ONNX Runtime keeps to
    its blocks of channels where there is one filter for each channel, and adds up within convolutions. With
    several filters for each channel the pair takes 1.3 to 2.4 times as long (28 x 28 to 56 x 56, 32 to 128
    channels, T = 2 and 3, AVX-512).
    """
    form = FORMS[replacement.form]
    chains = form.chains(replacement.convs, replacement.rank)
    numbers = [""] if len(chains) == 1 else [str(number) for number in range(len(chains))]
    parts = form.names(len(replacement.convs))
    return [
        [(f"{part}{number}", conv) for part, conv in zip(parts, chain, strict=True)]
        for number, chain in zip(numbers, chains, strict=True)
    ]


def geometry(conv: ConvLayer, conv_node: ConvNode | None = None) -> dict[str, Any]:
    """Return the attributes of a Conv node.

    Where the original pads by the size of its input (`auto_pad`), and so would this convolution with the same
    result, it does: its input may have another size one day.
    """
    given: dict[str, Any] = {
        "kernel_shape": conv.kernel,
        "strides": conv.stride,
        "dilations": conv.dilation,
        "group": conv.groups,
    }
    by_size = conv_node is not None and conv_node.pads is None and conv_node.crop is None
    if conv_node is not None and by_size and _pads_alike(conv, conv_node):
        return {**given, "auto_pad": conv_node.auto_pad}
    before, after = zip(*conv.padding, strict=True)
    return {**given, "pads": (*before, *after)}


def _pads_alike(conv: ConvLayer, conv_node: ConvNode) -> bool:
    kernel = conv_node.weights.shape[2:]
    same = zip(
        zip(conv.kernel, conv.stride, conv.dilation, strict=True),
        zip(kernel, conv_node.stride, conv_node.dilation, strict=True),
        conv.padding,
        strict=True,
    )
    return all(mine == its or (mine[0] == 1 and padding == (0, 0)) for mine, its, padding in same)


def conv_nodes(replacement: Replacement, conv_node: ConvNode) -> Stored:
    """Return a model that is nothing but a replacement, with one input "x" and one output "y".

    Parameters
    ----------
    replacement : Replacement
    conv_node : ConvNode
        The node that it replaces.

    Returns
    -------
    Stored
    """
    element = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(conv_node.dtype))
    ends = [onnx.helper.make_tensor_value_info(name, element, None) for name in ("x", "y")]
    opset = onnx.helper.make_opsetid("", 13)
    model = onnx.helper.make_model(
        onnx.helper.make_graph([], "layer", ends[:1], ends[1:]), opset_imports=[opset]
    )
    model.ir_version = onnx.helper.find_min_ir_version_for([opset])
    tensors: dict[str, Array] = {}
    alone = replace(conv_node, reads="x", gives="y")
    model.graph.node.extend(_sequence(model, tensors, _Names(model), alone, replacement, NodeProto(), {}))
    return Stored(model, tensors)


def _drop_unread(model: ModelProto, tensors: dict[str, Array], orphans: list[str]) -> None:
    """Drop initializers and Constant nodes that nothing reads any more, and what is said about them."""
    graph = model.graph
    while orphans:
        read = {name for node in graph.node for name in reads(node)} | {entry.name for entry in graph.output}
        unread = {name for name in orphans if name not in read}
        orphans = []
        for node in [node for node in graph.node if unread.intersection(node.output)]:
            if not read.intersection(node.output):
                orphans += node.input
                graph.node.remove(node)
        for holder in (graph.initializer, graph.input):
            for entry in [entry for entry in holder if entry.name in unread]:
                holder.remove(entry)
        for name in unread:
            tensors.pop(name, None)
    made = {name for node in graph.node for name in node.output}
    known = made | {entry.name for entry in (*graph.initializer, *graph.input)}
    for info in [info for info in graph.value_info if info.name not in known]:
        graph.value_info.remove(info)
    for note in [note for note in graph.quantization_annotation if note.tensor_name not in known]:
        graph.quantization_annotation.remove(note)
