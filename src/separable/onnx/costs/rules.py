"""What the nodes of a graph multiply: the same integers as `separable.nn.audit` has of the same layers."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import onnx
from onnx.onnx_ml_pb2 import ModelProto, NodeProto

from ..._base.types import Array
from ...conv.audits.records import Layer, Shape
from ..model.files import Stored, with_open_weights
from ..model.graph import GraphIndex, attributes, is_standard, nodes_within
from ..model.names import ModelError
from ..model.runtime import shapes_of
from ..model.sizes import check_fits

__all__ = ["Counted", "check_memory", "count", "dtypes_of", "may_multiply", "parameters"]

# Parts of names that say that an operator multiplies: one that has no rule is reported as not counted.
_TELLTALE: Final = re.compile(r"conv|gemm|matmul|einsum|lstm|gru|rnn|attention|bilinear", re.IGNORECASE)

# Inputs that hold what training measured: they are no parameters.
_STATISTICS: Final = {"BatchNormalization": (3, 4)}


@dataclass(frozen=True)
class Counted:
    """What a model multiplies on one input.

    Attributes
    ----------
    layers : tuple of Layer
        In running order.
    nodes : tuple of int
        The place of each layer's node in the graph.
    params : int
        All parameters of the model, shared ones once.
    uncounted : tuple of str
        Operators that may multiply, and that no rule covers.
    inferred : bool
        Whether shapes alone sufficed; else the model was run.
    """

    layers: tuple[Layer, ...]
    nodes: tuple[int, ...]
    params: int
    uncounted: tuple[str, ...]
    inferred: bool


@dataclass(frozen=True)
class _NodeProduct:
    """What one node multiplies."""

    kind: str
    macs: int
    adds: int
    inputs: tuple[str, ...]
    weights: tuple[str, ...]
    kernel: Shape = ()
    stride: Shape = ()
    dilation: Shape = ()
    groups: int = 1


_Shapes: TypeAlias = Mapping[str, Shape]
_Rule: TypeAlias = Callable[[GraphIndex, NodeProto, _Shapes], _NodeProduct]


def may_multiply(node: NodeProto) -> bool:
    """Return whether a node multiplies, by its rule or by its name."""
    return _rule(node) is not None or bool(_TELLTALE.search(node.op_type))


def _rule(node: NodeProto) -> _Rule | None:
    known = is_standard(node) or node.op_type in _CONTRIBUTED
    return _RULES.get(node.op_type) if known else None


def count(stored: Stored, feeds: Mapping[str, Array], threads: int | None = None) -> Counted:
    """Count the main graph of a model on an input; `bodies` counts what stands in subgraphs as well.

    Parameters
    ----------
    stored : Stored
    feeds : mapping of str to ndarray
        The input; only its shapes matter, unless those within the model depend on its values.
    threads : int, optional
        Of ONNX Runtime, where shapes cannot be inferred and the model has to run.

    Returns
    -------
    Counted
    """
    graph = GraphIndex(stored)
    ruled = [(n, node, rule) for n, node in enumerate(graph.nodes) if (rule := _rule(node)) is not None]
    places, nodes = [n for n, _, _ in ruled], [node for _, node, _ in ruled]
    wanted = list(dict.fromkeys(name for node in nodes for name in (*node.input, *node.output) if name))
    shapes, types = _inferred(stored, feeds)
    missing = [name for name in wanted if name not in shapes]
    if missing:
        _check_tensors(shapes, types)
        shapes.update(shapes_of(stored, missing, feeds, threads))
    for name in wanted:
        if min(shapes[name], default=0) < 0:
            raise ModelError(
                f"tensor `{name}` comes out with shape {shapes[name]}: what it is made of is too small for "
                "the layer that makes it. Give larger inputs, or export the model again."
            )
    used: set[str] = set()
    layers = tuple(
        _layer(graph, node, rule(graph, node, shapes), shapes, types, used) for _, node, rule in ruled
    )
    return Counted(layers, tuple(places), parameters(graph), tuple(_uncounted(stored, graph)), not missing)


def _layer(
    graph: GraphIndex,
    node: NodeProto,
    product: _NodeProduct,
    shapes: _Shapes,
    types: Mapping[str, str],
    used: set[str],
) -> Layer:
    output = node.output[0]
    dtype = types.get(output, "float32")
    sources = list(dict.fromkeys(map(graph.origin, product.weights)))
    params = sum(math.prod(shapes[name]) for name in product.weights if graph.origin(name) not in used)
    used.update(sources)
    moved = (*product.inputs, *product.weights, output)
    return Layer(
        name=node.name or output,
        kind=product.kind,
        operator=node.op_type,
        weights=tuple(sources),
        kernel=product.kernel,
        stride=product.stride,
        dilation=product.dilation,
        groups=product.groups,
        dtype=dtype,
        inputs=tuple(shapes[name] for name in product.inputs),
        output=shapes[output],
        calls=1,
        macs=product.macs,
        flops=2 * product.macs + product.adds,
        params=params,
        bytes=sum(math.prod(shapes[name]) * np.dtype(types.get(name, dtype)).itemsize for name in moved),
        roofline_ms=None,
        measured_ms=None,
    )


def check_memory(stored: Stored, feeds: Mapping[str, Array]) -> None:
    """Refuse a model that asks for more memory than this machine has when it runs, as far as its shapes tell.

    Parameters
    ----------
    stored : Stored
    feeds : mapping of str to ndarray
        The input; without it, what follows from constants alone is looked at.

    Raises
    ------
    ModelError
    """
    _check_tensors(*_inferred(stored, feeds))


def _check_tensors(shapes: Mapping[str, Shape], types: Mapping[str, str]) -> None:
    for name, shape in shapes.items():
        count = math.prod(shape) * np.dtype(types.get(name, "float32")).itemsize
        check_fits(f"tensor `{name}`", shape, count)


def dtypes_of(stored: Stored) -> dict[str, str]:
    """Return the dtypes of a model's tensors, as far as they can be inferred.

    Parameters
    ----------
    stored : Stored

    Returns
    -------
    dict of str to str
    """
    return _inferred(stored, {})[1]


# -- shapes ------------------------------------------------------------------------------------------


def _inferred(stored: Stored, feeds: Mapping[str, Array]) -> tuple[dict[str, Shape], dict[str, str]]:
    """Return the shapes that follow from those of the inputs, and the dtypes; not all may be found."""
    model = with_open_weights(stored)
    for given in model.graph.input:
        if given.name in feeds:
            dims = given.type.tensor_type.shape
            dims.Clear()
            for length in feeds[given.name].shape:
                dims.dim.add(dim_value=length)
    # What was said of the general case would be merged with what holds for this input.
    del model.graph.value_info[:]
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    # Where inference stops at what it cannot tell, the shapes that it found remain.
    with suppress(onnx.shape_inference.InferenceError):
        model = onnx.shape_inference.infer_shapes(model, data_prop=True)
    return _declared(model)


def _declared(model: ModelProto) -> tuple[dict[str, Shape], dict[str, str]]:
    shapes: dict[str, Shape] = {}
    types: dict[str, str] = {}
    graph = model.graph
    for info in (*graph.input, *graph.value_info, *graph.output):
        kind = info.type.tensor_type
        if kind.elem_type:
            types[info.name] = _dtype(kind.elem_type)
        dims = kind.shape.dim
        if kind.HasField("shape") and all(dim.HasField("dim_value") for dim in dims):
            shapes[info.name] = tuple(dim.dim_value for dim in dims)
    for tensor in graph.initializer:
        shapes[tensor.name], types[tensor.name] = tuple(tensor.dims), _dtype(tensor.data_type)
    return shapes, types


def _dtype(element: int) -> str:
    return str(onnx.helper.tensor_dtype_to_np_dtype(element))


# -- rules -------------------------------------------------------------------------------------------


def _convolution(graph: GraphIndex, node: NodeProto, shapes: _Shapes) -> _NodeProduct:
    """Every output (transposed: every input) meets each weight of its group once, padding included."""
    given = attributes(node)
    x, weight, *bias = (name for name in node.input if name)
    transposed = node.op_type == "ConvTranspose"
    kernel = shapes[weight][2:]
    groups = given["group"].i if "group" in given else 1
    size = math.prod(shapes[node.output[0]])
    return _NodeProduct(
        kind=_kind(kernel, groups, (shapes[x][1], shapes[node.output[0]][1]), transposed),
        macs=(math.prod(shapes[x]) if transposed else size) * math.prod(shapes[weight][1:]),
        adds=size if bias else 0,
        inputs=(x,),
        weights=(weight, *bias),
        kernel=kernel,
        stride=tuple(given["strides"].ints) if "strides" in given else (1,) * len(kernel),
        dilation=tuple(given["dilations"].ints) if "dilations" in given else (1,) * len(kernel),
        groups=groups,
    )


def _kind(kernel: Shape, groups: int, channels: tuple[int, int], transposed: bool) -> str:
    if transposed:
        return "transposed"
    if groups > 1:
        return "depthwise" if groups in channels else "grouped"
    return "conv" if math.prod(kernel) > 1 else "pointwise"


def _gemm(graph: GraphIndex, node: NodeProto, shapes: _Shapes) -> _NodeProduct:
    given = attributes(node)
    a, b, *added = (name for name in node.input if name)
    length = shapes[a][0 if "transA" in given and given["transA"].i else 1]
    size = math.prod(shapes[node.output[0]])
    if "beta" in given and given["beta"].f == 0:
        added = []
    return _product_of_matrices(graph, (a, b), added, size * length, size if added else 0)


def _matmul(graph: GraphIndex, node: NodeProto, shapes: _Shapes) -> _NodeProduct:
    a, b = node.input
    size = math.prod(shapes[node.output[0]])
    # Exporters write a linear layer as MatMul, then Add of its bias.
    added = _bias_behind(graph, node, shapes[b][-1])
    return _product_of_matrices(graph, (a, b), added, size * shapes[a][-1], size if added else 0)


def _bias_behind(graph: GraphIndex, node: NodeProto, width: int) -> list[str]:
    reader = graph.only_reader(node.output[0])
    if reader is None or graph.nodes[reader].op_type != "Add" or not any(map(graph.is_constant, node.input)):
        return []
    return [name for name in graph.nodes[reader].input if graph.shape_of_constant(name) == (width,)]


def _product_of_matrices(
    graph: GraphIndex, factors: tuple[str, str], added: Sequence[str], macs: int, adds: int
) -> _NodeProduct:
    weights = [name for name in factors if graph.is_constant(name)]
    inputs = [name for name in factors if name not in weights]
    return _NodeProduct(
        kind="linear" if weights else "matmul",
        macs=macs,
        adds=adds,
        inputs=(*inputs, *(name for name in added if not graph.is_constant(name))),
        weights=(*weights, *(name for name in added if graph.is_constant(name))),
    )


def _recurrent(graph: GraphIndex, node: NodeProto, shapes: _Shapes) -> _NodeProduct:
    """Every step of every sequence meets each weight of W and R, of both directions, once."""
    x, *rest = node.input
    named = dict(zip(("w", "r", "b", "lengths", "h", "c", "peepholes"), rest, strict=False))
    weights = [named[key] for key in ("w", "r", "b") if named.get(key)]
    steps = math.prod(shapes[x][:-1])
    matrices = sum(math.prod(shapes[named[key]]) for key in ("w", "r"))
    return _NodeProduct(
        kind="recurrent",
        macs=steps * matrices,
        adds=steps * math.prod(shapes[named["b"]]) if named.get("b") else 0,
        inputs=(x, *(named[key] for key in ("h", "c") if named.get(key))),
        weights=tuple(weights),
    )


def _in_integers(rule: _Rule, places: Sequence[int]) -> _Rule:
    """Return the rule of an operator in eight bits, whose factors lie in these places of its inputs."""

    def ruled(graph: GraphIndex, node: NodeProto, shapes: _Shapes) -> _NodeProduct:
        plain = NodeProto()
        plain.CopyFrom(node)
        del plain.input[:]
        plain.input.extend(node.input[place] for place in places if place < len(node.input))
        return rule(graph, plain, shapes)

    return ruled


def _einsum(graph: GraphIndex, node: NodeProto, shapes: _Shapes) -> _NodeProduct:
    """Every combination of all indices is one product, of three factors and more as well."""
    terms = attributes(node)["equation"].s.decode().replace(" ", "").split("->")[0].split(",")
    lengths: dict[object, int] = {}
    for term, name in zip(terms, node.input, strict=True):
        before, dots, behind = term.partition("...")
        shape = shapes[name]
        for place, index in enumerate(before):
            lengths[index] = max(lengths.get(index, 1), shape[place])
        for place, index in enumerate(reversed(behind), 1):
            lengths[index] = max(lengths.get(index, 1), shape[-place])
        inner = shape[len(before) : len(shape) - len(behind)] if dots else ()
        for place, length in enumerate(reversed(inner)):
            lengths["...", place] = max(lengths.get(("...", place), 1), length)
    macs = math.prod(lengths.values()) if len(terms) > 1 else 0
    weights = [name for name in node.input if graph.is_constant(name)]
    inputs = [name for name in node.input if name not in weights]
    return _NodeProduct("linear" if weights else "matmul", macs, 0, tuple(inputs), tuple(weights))


_RULES: Final[Mapping[str, _Rule]] = {
    "Conv": _convolution,
    "ConvTranspose": _convolution,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Einsum": _einsum,
    "LSTM": _recurrent,
    "GRU": _recurrent,
    "RNN": _recurrent,
    "DynamicQuantizeLSTM": _recurrent,
    "ConvInteger": _in_integers(_convolution, (0, 1)),
    "QLinearConv": _in_integers(_convolution, (0, 3, 8)),
    "MatMulInteger": _in_integers(_matmul, (0, 1)),
    "QLinearMatMul": _in_integers(_matmul, (0, 3)),
    "FusedConv": _in_integers(_convolution, (0, 1, 2)),
}

# Operators of ONNX Runtime's own, that its optimised models hold.
_CONTRIBUTED: Final = {"DynamicQuantizeLSTM", "FusedConv"}


# -- what no rule covers, and what is a parameter ----------------------------------------------------


def _uncounted(stored: Stored, graph: GraphIndex) -> Iterator[str]:
    operators: dict[str, None] = {}
    for node in graph.nodes:
        if _TELLTALE.search(node.op_type) and _rule(node) is None:
            operators[node.op_type] = None
    for function in stored.proto.functions:
        for node in function.node:
            if _TELLTALE.search(node.op_type):
                operators[f"{node.op_type} within {function.name}"] = None
    yield from operators


def parameters(graph: GraphIndex) -> int:
    """Count what training set: floating constants that nodes read, but no scalars and no statistics."""
    sizes: dict[str, int] = {}
    within = [inner for node in graph.nodes for inner in nodes_within(node)]
    for node in (*graph.nodes, *within):
        for place, name in enumerate(node.input):
            if name and place not in _STATISTICS.get(node.op_type, ()) and graph.is_float_constant(name):
                shape = graph.shape_of_constant(name)
                if shape:
                    sizes[graph.source(name)] = math.prod(shape)
    return sum(sizes.values())
