"""Which convolutions run as one step, so that what lies between them never leaves the cache."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Final

from ... import _core
from ..graph.ir import Graph, Node, is_bfloat

__all__ = ["chains", "is_depthwise", "is_pointwise", "is_winograd"]

# Of the L2 cache: what is larger than that between two convolutions stays there in rings of rows instead.
_SHARE: Final = 0.35
# And the weights of a chain, which every band of rows reads again.
_WEIGHT_SHARE: Final = 0.25
_FLOAT: Final = 4  # bytes
_MOST_FILTERS: Final = 2  # depthwise ones of a chain: threads compute the rows between their bands twice

# Winograd's convolution takes four times the memory for weights: of no layer more than that, in bytes.
_MOST_PRODUCTS: Final = 20 << 20
_TILE: Final = 4  # pixels of a tile of its results, along each axis
_LEAST_SAVED: Final = 2.2  # times as many multiplications otherwise, borders of incomplete tiles included
_LEAST_CHANNELS: Final = 16  # read and made: of fewer, transforms take longer than products


def is_depthwise(node: Node, shape: Callable[[str], tuple[int, ...]]) -> bool:
    """Whether a convolution filters each channel by itself, into one result."""
    weights = shape(node.inputs[1])
    return int(node.attributes["group"]) == weights[0] > 1 and weights[1] == 1


def is_pointwise(node: Node) -> bool:
    """Whether a convolution has one tap, a stride of 1 and no padding."""
    known = node.notes.get("pointwise")
    if known is None:
        attributes = node.attributes
        known = node.notes["pointwise"] = (
            all(length == 1 for length in (*attributes["kernel_shape"], *attributes["strides"]))
            and not any(attributes["pads"])
            and attributes["group"] == 1
        )
    return bool(known)


def is_winograd(node: Node, shape: Callable[[str], tuple[int, ...]]) -> bool:
    """Whether Winograd's algorithm computes a convolution of blocks in less time than its sums take."""
    attributes, weights = node.attributes, shape(node.inputs[1])
    if weights[-2:] != (3, 3) or len(weights) < 4 or _input(node, 4) or is_bfloat(node):
        return False
    if {*attributes["strides"], *attributes["dilations"], attributes["group"]} != {1}:
        return False
    if min(weights[:2]) < _LEAST_CHANNELS:
        return False
    height, width = shape(node.outputs[0])[-2:]
    tiles = -(-height // _TILE) * -(-width // _TILE)
    products = 36 * math.prod(weights[:-2]) * _FLOAT
    return bool(products <= _MOST_PRODUCTS and 9 * height * width >= _LEAST_SAVED * 36 * tiles)


def chains(graph: Graph, shape: Callable[[str], tuple[int, ...]] | None = None) -> list[tuple[Node, ...]]:
    """Return groups of convolutions that run as one step each.

    Parameters
    ----------
    graph : Graph
        Static.
    shape : callable, optional
        Tells the shapes of its tensors.

    Returns
    -------
    list of tuple of Node
        In running order. A convolution, and the depthwise and pointwise ones behind it, as long as what lies
        between them is large and read by nobody else.
    """
    return list(_Search(graph, shape or graph.shapes()).groups())


class _Search:
    def __init__(self, graph: Graph, shape: Callable[[str], tuple[int, ...]]) -> None:
        self._graph, self._shape = graph, shape
        self._readers = graph.consumers()
        self._producer = graph.producers()
        cache = _core.core_info()["caches"]["l2"]
        self._limit, self._weight_limit = _SHARE * cache, _WEIGHT_SHARE * cache
        self._taken: set[int] = set()

    def groups(self) -> Iterator[tuple[Node, ...]]:
        for node in self._graph.nodes:
            if node.op != "Conv" or id(node) in self._taken or len(self._shape(node.outputs[0])) < 4:
                continue
            if node.attributes["group"] != 1 and not self._filters_apart(node):
                continue
            if is_winograd(node, self._shape):
                continue
            group = [node]
            weights = self._weight_bytes(node)
            while (following := self._behind(group[-1])) is not None:
                if sum(map(self._filters_apart, (*group, following))) > _MOST_FILTERS:
                    break
                weights += self._weight_bytes(following)
                if weights > self._weight_limit:
                    break
                group.append(following)
            if len(group) > 1:
                self._taken.update(map(id, group))
                yield tuple(group)

    def _filters_apart(self, node: Node) -> bool:
        shape = self._shape(node.outputs[0])
        return len(shape) in (4, 5) and shape[-2] > 1 and is_depthwise(node, self._shape)

    def _weight_bytes(self, node: Node) -> int:
        return math.prod(self._shape(node.inputs[1])) * _FLOAT

    def _is_large(self, name: str) -> bool:
        return bool(math.prod(self._shape(name)[1:]) * _FLOAT > self._limit)

    def _is_ring(self, node: Node) -> bool:
        """Whether what a convolution reads may lie in a ring of rows, which is of one slice of a volume."""
        return is_pointwise(node) or (len(self._shape(node.outputs[0])) == 4 and self._filters_apart(node))

    def _is_only_for(self, name: str, node: Node) -> bool:
        """Whether a tensor is read by one node alone, as what it filters."""
        readers = self._readers.get(name, [])
        return (
            len(readers) == 1
            and readers[0] is node
            and node.inputs[0] == name
            and name not in self._graph.outputs
        )

    def _behind(self, node: Node) -> Node | None:
        """Return the convolution that alone reads what another gives, if they belong together."""
        name = node.outputs[0]
        if len([one for one in node.outputs if one]) > 1 or _input(node, 3) or not self._is_large(name):
            return None
        for reader in self._readers.get(name, [])[:1]:
            fits = reader.op == "Conv" and self._is_ring(reader)
            if fits and not _input(reader, 4) and self._is_only_for(name, reader):
                return reader
        return None


def _input(node: Node, number: int) -> str:
    return node.inputs[number] if len(node.inputs) > number else ""
