"""Which activation reads a tensor, told by what it does: exporters write the same function in many ways."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from onnx import helper, numpy_helper
from onnx.onnx_ml_pb2 import ValueInfoProto

from ..._base.types import Array
from ...conv.forms.activation import Activation
from .graph import GraphIndex, is_standard

__all__ = ["activation_behind"]

# Operators of one number after the other, of which exporters make activations.
_ELEMENTWISE: Final = frozenset(
    [
        *("Abs", "Add", "Celu", "Clip", "Div", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid", "HardSwish"),
        *("Identity", "LeakyRelu", "Log", "Max", "Min", "Mish", "Mul", "Neg", "PRelu", "Pow", "Reciprocal"),
        *("Relu", "Selu", "Sigmoid", "Softplus", "Softsign", "Sqrt", "Sub", "Swish", "Tanh"),
    ]
)

# Nodes that an activation is made of, at most: the longest known, GELU by tanh, takes eight.
_LONGEST: Final = 12

# Where functions are compared, and how near they have to be: float32 is all that most models compute in.
_GRID: Final = np.concatenate([np.linspace(-12, 12, 481), [-40.0, 40.0]]).astype(np.float32)
_NEAR: Final = 2e-5

# Without parameters of their own.
_PLAIN: Final = ("relu", "silu", "hard_swish", "gelu", "gelu_tanh", "sigmoid", "tanh")


def activation_behind(
    graph: GraphIndex, name: str, channels: tuple[int, ...]
) -> tuple[Activation | None, str]:
    """Return the activation that alone reads a tensor, or what reads it instead.

    Parameters
    ----------
    graph : GraphIndex
    name : str
    channels : tuple of int
        The shape of one number for each of its channels, such as (8, 1, 1) of images.

    Returns
    -------
    activation : Activation or None
    read_by : str
        Operators; empty where there is an activation, and where nothing reads the tensor.
    """
    slopes = _slopes(graph, name, channels)
    if slopes is not None:
        return slopes, ""
    for nodes, ends_in in _parts(graph, name):
        activation = _named(_values(graph, nodes, name, ends_in))
        if activation is not None:
            return activation, ""
    readers = sorted({graph.nodes[number].op_type for number in graph.readers.get(name, ())})
    return None, ", ".join(readers)


def _slopes(graph: GraphIndex, name: str, channels: tuple[int, ...]) -> Activation | None:
    """Return the leaky rectifier of a PRelu with a slope for each channel, if there are as many."""
    reader = graph.only_reader(name)
    if reader is None or graph.nodes[reader].op_type != "PRelu" or not is_standard(graph.nodes[reader]):
        return None
    slopes = graph.constant(graph.nodes[reader].input[1])
    if (
        slopes is None
        or slopes.size < 2
        or (1,) * (1 + len(channels) - slopes.ndim) + slopes.shape
        not in (
            channels,
            (1, *channels),
        )
    ):
        return None
    return Activation("leaky_relu", tuple(map(float, slopes.flatten())))


def _parts(graph: GraphIndex, name: str) -> Iterator[tuple[list[int], str]]:
    """Yield the nodes of one number after the other behind a tensor, wherever all of its ways meet."""
    made, nodes = [name], list[int]()
    while len(nodes) < _LONGEST and not graph.outputs.intersection(made):
        ahead = sorted(_readers(graph, made) - set(nodes))
        number = next((number for number in ahead if _computable(graph, number, made)), None)
        if number is None:
            return
        nodes.append(number)
        made.append(graph.nodes[number].output[0])
        if _readers(graph, made[:-1]) <= set(nodes):
            yield nodes, made[-1]


def _readers(graph: GraphIndex, names: Sequence[str]) -> set[int]:
    return {number for name in names for number in graph.readers.get(name, ())}


def _computable(graph: GraphIndex, number: int, made: Sequence[str]) -> bool:
    node = graph.nodes[number]
    if node.op_type not in _ELEMENTWISE or not is_standard(node):
        return False
    return all(not given or given in made or _is_number(graph, given) for given in node.input)


def _is_number(graph: GraphIndex, name: str) -> bool:
    shape = graph.shape_of_constant(name) if graph.is_constant(name) else None
    return shape is not None and math.prod(shape) == 1


def _values(graph: GraphIndex, nodes: Sequence[int], name: str, ends_in: str) -> Array | None:
    """Return what some nodes make of the numbers of the grid, by onnx's own reference of the operators."""
    from onnx.reference import ReferenceEvaluator

    copies = [graph.nodes[number] for number in sorted(nodes)]
    read = {given for node in copies for given in node.input if given and graph.is_constant(given)}
    constants = {given: graph.constant(given) for given in sorted(read)}
    if any(value is None or value.dtype.kind != "f" for value in constants.values()):
        return None
    initializers = [
        numpy_helper.from_array(np.asarray(value, np.float32).reshape(()), given)
        for given, value in constants.items()
    ]
    ends = [ValueInfoProto(name=name)], [ValueInfoProto(name=ends_in)]
    alone = helper.make_graph(copies, "activation", ends[0], ends[1], initializers)
    model = helper.make_model(alone, opset_imports=[helper.make_opsetid("", graph.opset)])
    try:
        with np.errstate(all="ignore"):
            (values,) = ReferenceEvaluator(model).run(None, {name: _GRID})
    except Exception:  # what is wrong with a node, a runtime says where it matters
        return None
    array = np.asarray(values)
    return array if array.shape == _GRID.shape and array.dtype == np.float32 else None


def _named(values: Array | None) -> Activation | None:
    """Return the activation that has these values on the grid."""
    if values is None or not np.isfinite(values).all():
        return None
    for activation in _candidates(values.astype(np.float64)):
        wanted = activation(_GRID)
        if np.all(np.abs(values - wanted) <= _NEAR * (1 + np.abs(wanted))):
            return activation
    return None


def _candidates(values: Array) -> Iterator[Activation]:
    """Yield activations that could have such values, their parameters read off them."""
    yield from map(Activation, _PLAIN)
    inner, (far_below, far_above) = values[:-2], values[-2:]
    if math.isclose(far_above, -_GRID[-2], rel_tol=1e-4):
        yield Activation("leaky_relu", (float(inner[0] / _GRID[0]),))
        yield Activation("elu", (-float(far_below),))
    if far_below < far_above:
        low = -math.inf if far_below <= _GRID[-2] else float(far_below)
        high = math.inf if far_above >= _GRID[-1] else float(far_above)
        yield Activation("clip", (low, high))
    steepest = float(np.max(np.diff(inner) / np.diff(_GRID[:-2])))
    if steepest > 0:
        yield Activation("hard_sigmoid", (steepest, float(inner[len(inner) // 2])))
