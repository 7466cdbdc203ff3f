"""A network whose convolutions and products multiply numbers of bfloat16, and add them up in float32."""

from __future__ import annotations

from typing import Final

import numpy as np

from ..graph.ir import Graph, Node

__all__ = ["in_bfloats"]

_FLOAT: Final = np.dtype(np.float32)


def in_bfloats(graph: Graph) -> tuple[Graph, int, tuple[str, ...]]:
    """Return a graph in which weights, and the samples that they are multiplied by, are rounded to bfloat16.

    Parameters
    ----------
    graph : Graph
        Simplified.

    Returns
    -------
    graph : Graph
        Its tensors are float32 as before: nodes say how operands are read.
    count : int
        Convolutions and products that do.
    others : tuple of str
        Those that stay float32, by the tensors that they make: depthwise convolutions, where every product
        would be rounded for the sake of a few sums, and what has no constant weights.
    """
    nodes: list[Node] = []
    count = 0
    others = []
    for node in graph.nodes:
        if node.op in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
            if _is_able(graph, node):
                node = node.and_attributes(operands="bf16")
                count += 1
            else:
                others.append(node.outputs[0])
        nodes.append(node)
    return graph.with_(nodes=tuple(nodes)), count, tuple(others)


def _is_able(graph: Graph, node: Node) -> bool:
    weights = graph.constants.get(node.inputs[1])
    x = graph.types.get(node.inputs[0]) or graph.inputs.get(node.inputs[0])
    if weights is None or weights.dtype != _FLOAT or not weights.size:
        return False
    if x is None or x.dtype != _FLOAT or node.inputs[0] in graph.constants:
        return False
    if "Conv" in node.op:
        return weights.ndim in (3, 4, 5) and (
            int(node.attributes.get("group", 1)) == 1 or weights.shape[1] > 1
        )
    return weights.ndim == 2 and len(x.shape) >= 2 and not node.attributes.get("transA")
