"""Which convolutions run as one step, so that what lies between them never leaves the cache."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Final

from ... import _core
from ..graph.ir import Graph, Node

__all__ = ["chains", "is_depthwise", "is_pointwise"]

# Of the L2 cache: what is larger than that between two convolutions stays there in rings of rows instead.
_SHARE: Final = 0.5
_FLOAT: Final = 4  # bytes


def is_depthwise(node: Node, shape: Callable[[str], tuple[int, ...]]) -> bool:
    """Whether a convolution filters each channel by itself, into one result."""
    weights = shape(node.inputs[1])
    return int(node.attributes["group"]) == weights[0] > 1 and weights[1] == 1


def is_pointwise(node: Node) -> bool:
    """Whether a convolution has one tap, a stride of 1 and no padding."""
    attributes = node.attributes
    return (
        all(length == 1 for length in (*attributes["kernel_shape"], *attributes["strides"]))
        and not any(attributes["pads"])
        and attributes["group"] == 1
    )


def chains(graph: Graph) -> list[tuple[Node, ...]]:
    """Return groups of two or three convolutions that run as one step each.

    Parameters
    ----------
    graph : Graph
        Static.

    Returns
    -------
    list of tuple of Node
        In running order. Pointwise convolutions before a depthwise one, it, and the pointwise one behind it
        are put together where what lies between them is large.
    """
    return list(_Search(graph).groups())


class _Search:
    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._readers = graph.consumers()
        self._producer = graph.producers()
        self._limit = _SHARE * _core.core_info()["caches"]["l2"]
        self._taken: set[int] = set()

    def groups(self) -> Iterator[tuple[Node, ...]]:
        for node in self._graph.nodes:
            if node.op != "Conv" or id(node) in self._taken or not self._filters_apart(node):
                continue
            group = (*self._before(node), node, *self._behind(node))
            if len(group) > 1:
                self._taken.update(map(id, group))
                yield group

    def _shape(self, name: str) -> tuple[int, ...]:
        constants = self._graph.constants
        if name in constants:
            return constants[name].shape
        return tuple(int(length) for length in self._graph.types[name].shape)

    def _filters_apart(self, node: Node) -> bool:
        shape = self._shape(node.outputs[0])
        return len(shape) == 4 and shape[2] > 1 and is_depthwise(node, self._shape)

    def _is_large(self, name: str) -> bool:
        return math.prod(self._shape(name)[1:]) * _FLOAT > self._limit

    def _is_only_for(self, name: str, node: Node) -> bool:
        """Whether a tensor is read by one node alone, as what it filters."""
        readers = self._readers.get(name, [])
        return (
            len(readers) == 1
            and readers[0] is node
            and node.inputs[0] == name
            and name not in self._graph.outputs
        )

    def _before(self, node: Node) -> Iterator[Node]:
        name = node.inputs[0]
        producer = self._producer.get(name)
        if producer is None or producer.op != "Conv" or id(producer) in self._taken:
            return
        plain = len([one for one in producer.outputs if one]) == 1 and not _input(producer, 3)
        if (
            plain
            and producer.attributes["group"] == 1
            and self._is_only_for(name, node)
            and self._is_large(name)
        ):
            yield producer

    def _behind(self, node: Node) -> Iterator[Node]:
        name = node.outputs[0]
        if len([one for one in node.outputs if one]) > 1 or _input(node, 3):
            return
        for reader in self._readers.get(name, [])[:1]:
            fits = reader.op == "Conv" and is_pointwise(reader) and not _input(reader, 4)
            alone = len([one for one in reader.outputs if one]) == 1
            if fits and alone and self._is_only_for(name, reader) and self._is_large(name):
                yield reader


def _input(node: Node, number: int) -> str:
    return node.inputs[number] if len(node.inputs) > number else ""
