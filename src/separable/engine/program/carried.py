"""Tensors of other types that are computed with all the same: truth values and whole numbers, as float32."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final

import numpy as np

from ..graph.ir import Graph, Node, TensorType

__all__ = ["MOVES", "CarriedAs", "carried"]

# Every whole number up to here is one of float32's.
_WHOLE: Final = 2**24

_COMPARISONS: Final = ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")
_LOGIC: Final = ("And", "Or", "Xor", "Not")
MOVES: Final = frozenset(
    (
        "Reshape",
        "Flatten",
        "Squeeze",
        "Unsqueeze",
        "Transpose",
        "Expand",
        "Concat",
        "Split",
        "Slice",
        "Gather",
        "MaxPool",
    )
)
_LEVELS: Final = ("QuantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul", "QLinearAdd")
_SUMS: Final = ("ConvInteger", "MatMulInteger")


class CarriedAs(Enum):
    """How much of a tensor of another type float32 holds."""

    exact = "exact"
    rounded = "rounded"  # whole numbers beyond 2^24: enough to compare them with smaller ones, and to cast
    whole = "whole"  # not at all: its memory holds whole numbers of 32 bits, to be moved, or cast to float32


def carried(graph: Graph) -> Mapping[str, CarriedAs]:
    """Return the tensors of other types that native steps compute with.

    Parameters
    ----------
    graph : Graph
        Static.

    Returns
    -------
    mapping of str to CarriedAs
        Inputs and results; of constants, those whose numbers float32 has.
    """
    held: dict[str, CarriedAs] = {}
    for name, kind in graph.inputs.items():
        if kind.dtype.kind in "iub":
            small = kind.dtype.kind == "b" or kind.dtype.itemsize <= 2
            held[name] = CarriedAs.exact if small else CarriedAs.rounded
    for name, array in graph.constants.items():
        if array.dtype.kind in "iub" and (not array.size or np.abs(array.astype(np.float64)).max() <= _WHOLE):
            held[name] = CarriedAs.exact
    for node in graph.nodes:
        how = _of(node, graph, held)
        if how is not None:
            held.update(
                (name, how) for name in node.outputs if name and graph.types[name].dtype != np.float32
            )
    return held


def _of(node: Node, graph: Graph, held: Mapping[str, CarriedAs]) -> CarriedAs | None:
    """Return how results of a node are held; None where they are not."""
    if node.op in _LEVELS:
        small = all(graph.types[name].dtype.itemsize <= 2 for name in node.outputs[:1])
        return CarriedAs.exact if small else None
    if node.op in _SUMS:
        return CarriedAs.whole
    given = [_held(name, graph, held) for name in node.inputs if name]
    if CarriedAs.whole in given and (node.op not in MOVES or node.op == "MaxPool"):
        return None
    if node.op in _COMPARISONS:
        loose = [name for name in node.inputs if held.get(name) is CarriedAs.rounded]
        others = [name for name in node.inputs if name not in loose]
        if None in given or (loose and any(name not in graph.constants for name in others)):
            return None
        return CarriedAs.exact if len(loose) < 2 else None
    if node.op in _LOGIC:
        return CarriedAs.exact if all(how is CarriedAs.exact for how in given) else None
    if node.op in ("ArgMax", "ArgMin"):
        shape = graph.types[node.inputs[0]].shape
        fits = not node.attributes.get("select_last_index") and int(max(shape, default=1)) <= _WHOLE
        return CarriedAs.exact if given == ["float"] and fits else None
    if node.op == "Cast":
        return _cast(node, graph.types[node.outputs[0]], given[0])
    if node.op == "Where":
        whole = given[0] is CarriedAs.exact and given[1:] == [CarriedAs.exact, CarriedAs.exact]
        return CarriedAs.exact if whole else None
    if node.op in MOVES:
        return given[0] if isinstance(given[0], CarriedAs) and _agree(node, given) else None
    return None


def _agree(node: Node, given: list[CarriedAs | str | None]) -> bool:
    return node.op != "Concat" or len(set(given)) == 1


def _cast(node: Node, kind: TensorType, given: CarriedAs | str | None) -> CarriedAs | None:
    if given is None:
        return None
    if kind.dtype.kind == "b":
        return CarriedAs.exact
    wide = kind.dtype.kind in "iu" and kind.dtype.itemsize >= 4
    return CarriedAs.exact if wide and given is CarriedAs.exact else None


def _held(name: str, graph: Graph, held: Mapping[str, CarriedAs]) -> CarriedAs | str | None:
    if name in held:
        return held[name]
    kind = graph.types.get(name) or graph.inputs.get(name)
    array = graph.constants.get(name)
    dtype = array.dtype if array is not None else None if kind is None else kind.dtype
    return "float" if dtype == np.float32 else None
