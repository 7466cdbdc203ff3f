"""The graph of a network: a small typed form that passes rewrite and programs are made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..._base.types import Array

__all__ = ["Graph", "Node", "Shape", "TensorType"]

# Lengths of the axes: a number, or the name of an open length.
Shape = tuple[int | str, ...]


@dataclass(frozen=True, slots=True)
class TensorType:
    """What is known of a tensor before it is computed.

    Attributes
    ----------
    dtype : dtype
    shape : tuple of int or str
        In ONNX's order of axes (N, C, *spatial); a name where a length is open.
    """

    dtype: np.dtype[Any]
    shape: Shape

    @property
    def is_open(self) -> bool:
        """Whether a length is open."""
        return any(isinstance(length, str) for length in self.shape)


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """One operation.

    Attributes
    ----------
    op : str
        A name of ONNX's operator set, with ONNX's meaning; "Conv" may have more attributes and inputs (see
        below).
    inputs, outputs : tuple of str
        Names of tensors; "" for an optional one that is absent.
    attributes : mapping of str to object
        int, float, str, tuples of them or ndarray: those that the model wrote, and for "Conv" and pools all
        of them, in full: `kernel_shape`, `strides`, `dilations`, `pads` (low ends, then high ends), `group`.

    Notes
    -----
    "Conv" as passes write it: inputs x, weights, bias, residual, scale (the last two "" where absent), and

        y = conv(x * scale) + bias;    y = activation(y + residual) or activation(y) + residual

    with attributes `activation` (a name of `separable.nn`'s activations, "none" by default, or "sigmoid",
    "hard_sigmoid", "clip" with `low` and `high`, "leaky_relu" with `alpha`) and `add` ("before" or
    "after" the activation). `scale` is (N, C, 1, ...): squeeze-excite. A second output is the mean of y over
    the spatial axes, (N, C, 1, ...).
    "Add", "Mul", "BatchNormalization", "Gemm" and the others that stand alone may have `activation` too.
    """

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)

    def with_(self, **changes: Any) -> Node:
        """Return the node with other fields."""
        return replace(self, **changes)

    def and_attributes(self, **more: Any) -> Node:
        """Return the node with more, or other, attributes."""
        return replace(self, attributes={**self.attributes, **more})


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """A network, or a part of one, as a list of operations in running order.

    Attributes
    ----------
    name : str
    inputs : mapping of str to TensorType
        What a caller gives, in order.
    outputs : tuple of str
        What a caller gets, in order.
    nodes : tuple of Node
    constants : mapping of str to ndarray
    types : mapping of str to TensorType
        Of every tensor whose type is known; of all of them once the lengths of the inputs are.
    """

    name: str
    inputs: Mapping[str, TensorType]
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    constants: Mapping[str, Array]
    types: Mapping[str, TensorType] = field(default_factory=dict)

    def with_(self, **changes: Any) -> Graph:
        """Return the graph with other fields."""
        return replace(self, **changes)

    def producers(self) -> dict[str, Node]:
        """Return the node that makes each tensor."""
        return {name: node for node in self.nodes for name in node.outputs if name}

    def consumers(self) -> dict[str, list[Node]]:
        """Return the nodes that read each tensor, one entry for each time."""
        readers: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in node.inputs:
                if name:
                    readers.setdefault(name, []).append(node)
        return readers

    def names(self) -> Iterator[str]:
        """Return the names of all tensors."""
        yield from self.inputs
        yield from self.constants
        for node in self.nodes:
            yield from (name for name in node.outputs if name)
