"""The graph of a network: a small typed form that passes rewrite and programs are made of."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np

from ..._base.types import Array

__all__ = ["Graph", "Node", "Shape", "TensorType", "free", "is_bfloat"]

# Lengths of the axes: a number, or the name of an open length.
Shape = tuple[int | str, ...]

# Attributes that say nothing: what holds unless something else is written, lists of it included.
_USUAL: Final[Mapping[str, object]] = {
    **dict.fromkeys(("strides", "dilations", "group"), 1),
    **dict.fromkeys(("pads", "output_padding", "allowzero", "ceil_mode", "count_include_pad"), 0),
}
_LONGEST: Final = 48  # characters of an attribute


def is_bfloat(node: Node) -> bool:
    """Return whether the operands of a convolution or product are rounded to bfloat16."""
    return bool(node.attributes.get("operands") == "bf16")


def free(name: str, taken: Container[str]) -> str:
    """Return a name for a new tensor: the one that is wished for, with marks behind it where it is taken."""
    while name in taken:
        name += "'"
    return name


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

    def __str__(self) -> str:
        return f"{self.dtype} {' x '.join(map(str, self.shape)) or 'scalar'}"


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
    notes : dict of str to object
        What whoever plans the node has found out of all this, to be used by the next plan. A changed node
        begins without.

    Notes
    -----
    "Conv" as passes write it: inputs x, weights, bias, residual, scale (the last two "" where absent), and

        y = conv(x * scale) + bias;    y = activation(y + residual) or activation(y) + residual

    with attributes `activation` (a name of `separable.nn`'s activations, "none" by default, or "sigmoid",
    "hard_sigmoid", "clip" with `low` and `high`, "leaky_relu" with `alpha`) and `add` ("before" or
    "after" the activation). `scale` is (N, C, 1, ...): squeeze-excite. A second output is the mean of y over
    the spatial axes, (N, C, 1, ...).
    A "Conv" that makes some columns of a larger tensor has the attribute `of_columns`, 1: of a single pixel
    it sums up in the order in which it does of several.
    "Conv", "ConvTranspose", "Gemm" and "MatMul" have the attribute `operands`, "bf16", where x and weights
    are rounded to bfloat16 before they are multiplied; sums are float32.
    "QLinearConv" and "QLinearMatMul" have more inputs behind the bias, which is whole: a shift of floats that
    is added once sums are scaled, and a residual as levels with scale and zero. Without a scale of the result
    they make float32. "QLinearAdd" has the inputs of ONNX Runtime's: levels, scale and zero of both operands,
    and scale and zero of the result.
    "Add", "Mul", "BatchNormalization", "Gemm" and the others that stand alone may have `activation` too.

    "If", "Loop" and "Scan" hold graphs as attributes. What these take from outside are the last inputs of the
    node, so that it can be renamed; the attribute `captured` holds what the graphs call it, in that order.
    """

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    def with_(self, **changes: Any) -> Node:
        """Return the node with other fields."""
        return replace(self, **changes)

    def and_attributes(self, **more: Any) -> Node:
        """Return the node with more, or other, attributes."""
        return replace(self, attributes={**self.attributes, **more})

    def __str__(self) -> str:
        made = ", ".join(name or "-" for name in self.outputs)
        read = ", ".join(name or "-" for name in self.inputs)
        return " ".join([f"{made} = {self.op}({read})", *self._unusual()])

    def _unusual(self) -> Iterator[str]:
        """Yield the attributes that are not what everyone expects."""
        for name, value in self.attributes.items():
            several = value if isinstance(value, tuple) else (value,)
            if name in _USUAL and all(entry == _USUAL[name] for entry in several):
                continue
            if isinstance(value, Graph):
                shown = f"<{len(value.nodes)} nodes>"
            elif isinstance(value, tuple) and value and all(isinstance(entry, int) for entry in value):
                shown = " ".join(map(str, value)) if len(value) < 12 else f"{len(value)} numbers"
            elif isinstance(value, np.ndarray) and value.size > 1:
                shown = f"{value.dtype} {' x '.join(map(str, value.shape))}"
            else:
                shown = f"{value:g}" if isinstance(value, float) else str(value)
            yield f"{name}=[{shown}]" if " " in shown else f"{name}={shown[:_LONGEST]}"


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
    notes : dict of str to object
        What passes leave to each other.
    """

    name: str
    inputs: Mapping[str, TensorType]
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    constants: Mapping[str, Array]
    types: Mapping[str, TensorType] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

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

    def shapes(self) -> Callable[[str], tuple[int, ...]]:
        """Return what tells the shapes of a static graph's tensors."""
        known: dict[str, Any] = {name: kind.shape for name, kind in self.types.items()}
        known.update((name, array.shape) for name, array in self.constants.items())
        return known.__getitem__  # asked for thousands of times: no function of Python's lies between

    def __str__(self) -> str:
        """Return one line a node, each with the types of what it makes, and the constants in numbers."""
        size = sum(array.nbytes for array in self.constants.values())
        lines = [
            f"{self.name or 'graph'}: {len(self.nodes)} nodes, {len(self.constants)} constants ({size:,} B)"
        ]
        lines += [f"  input {name}: {kind}" for name, kind in self.inputs.items()]
        for node in self.nodes:
            kinds = ", ".join(str(self.types.get(name, "?")) for name in node.outputs if name)
            lines.append(f"  {node}: {kinds}")
        return "\n".join([*lines, f"  outputs {', '.join(self.outputs)}"])
