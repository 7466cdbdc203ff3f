"""Which networks treat the images of a batch one by one, so that threads may take whole images."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Final

from ...onnx.model.names import ModelError
from ..graph.ir import Graph, Node
from .steps.elements import BINARY, REDUCTIONS, UNARY

__all__ = ["apart", "images_apart"]

# Weights are read again for each image: that takes less than 0.4 of the time of its arithmetic at 12 GB and
# 85 thousand million multiply-adds a second, and they are fetched meanwhile.
_BYTES_A_MAC: Final = 0.4 * 12 / 85

_ALONG_AXES: Final = ("Concat", "Split", "Softmax", "LogSoftmax", "Gather", "Flatten")
_ALWAYS: Final = frozenset(
    (*UNARY, *BINARY, "Clip", "Gelu", "Swish", "Sum", "Conv", "MaxPool", "AveragePool", "GlobalAveragePool")
) | {"GlobalMaxPool", "Resize", "Gemm", "Reshape", "Squeeze", "Unsqueeze", "DepthToSpace", "SpaceToDepth"}


def images_apart(graph: Graph) -> int:
    """Return the number of images that a static graph may be run for one by one; 1 if it is better run whole.

    Parameters
    ----------
    graph : Graph
        Static and simplified, for a whole batch.

    Returns
    -------
    int
    """
    if not graph.inputs:
        return 1
    first, *others = [_shape(graph, name)[:1] for name in (*graph.inputs, *graph.outputs)]
    if any(length != first for length in others):
        return 1
    if not first or first[0] < 2 or any(name in graph.constants for name in graph.outputs):
        return 1
    count = first[0]
    if not all(_is_apart(graph, node, count) for node in graph.nodes):
        return 1
    weights = sum(array.nbytes for array in graph.constants.values())
    return count if weights <= _BYTES_A_MAC * _macs(graph) / count else 1


def apart(whole: Graph, make: Callable[[Mapping[str, tuple[int, ...]]], Graph]) -> tuple[int, Graph]:
    """Return how many images are run one by one, and the graph of one of them; 1 and the whole if none are.

    Parameters
    ----------
    whole : Graph
        Static and simplified, for a whole batch.
    make : callable
        Makes such a graph for other shapes of the inputs.

    Returns
    -------
    images : int
    graph : Graph
    """
    images = images_apart(whole)
    if images == 1:
        return 1, whole
    try:
        one = make({name: (1, *_shape(whole, name)[1:]) for name in whole.inputs})
    except ModelError:  # the model insists on its number of images: in an input, or in a shape that it holds
        return 1, whole
    fits = all(_shape(one, name) == (1, *_shape(whole, name)[1:]) for name in whole.outputs)
    return (images, one) if fits and not set(one.outputs) & set(one.constants) else (1, whole)


def _shape(graph: Graph, name: str) -> tuple[int, ...]:
    if name in graph.constants:
        return graph.constants[name].shape
    return graph.types[name].shape  # type: ignore[return-value]  # numbers all


def _is_apart(graph: Graph, node: Node, count: int) -> bool:
    """Whether a node makes each image of its results from that image of its operands alone."""
    out = _shape(graph, node.outputs[0])
    made = all(_shape(graph, name)[:1] == (count,) for name in node.outputs if name)
    computed = [name for name in node.inputs if name and name not in graph.constants]
    if not made or any(_shape(graph, name)[:1] != (count,) for name in computed):
        return False
    # A constant that holds something for each image would have to be cut.
    whole = [name for name in node.inputs if name in graph.constants and len(_shape(graph, name)) == len(out)]
    if node.op in BINARY and any(_shape(graph, name)[:1] not in ((1,), ()) for name in whole):
        return False
    rank = len(_shape(graph, computed[0])) if computed else 0
    if node.op in _ALONG_AXES:
        return int(node.attributes.get("axis", 1 if node.op == "Flatten" else -1)) % max(rank, 1) != 0
    if node.op == "Transpose":
        return bool(node.attributes.get("perm")) and node.attributes["perm"][0] == 0
    if node.op in REDUCTIONS:
        axes = graph.constants.get(node.inputs[1]) if len(node.inputs) > 1 else None
        return axes is not None and axes.size > 0 and all(int(axis) % rank for axis in axes.ravel())
    return node.op in _ALWAYS


def _macs(graph: Graph) -> int:
    return sum(
        math.prod(_shape(graph, node.outputs[0])) * math.prod(_shape(graph, node.inputs[1])[1:])
        for node in graph.nodes
        if node.op == "Conv"
    )
