"""What an operation makes of its inputs' types: one table of rules for all that is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final

from ...._base.types import Array
from ....onnx.model.names import ModelError
from ..ir import Graph, Node, TensorType
from . import elementwise, layout, quantised, reductions, windows
from .operands import Kind, Operands, ShapeError, UnknownError

__all__ = ["KNOWN", "named", "output_types", "typed", "with_attributes"]

_RULES: Final[Mapping[str, Callable[[Operands], list[Kind]]]] = {
    **elementwise.RULES,
    **windows.RULES,
    **reductions.RULES,
    **layout.RULES,
    **quantised.RULES,
}

KNOWN: Final = frozenset(_RULES)


def named(node: Node) -> str:
    """Return what a node is called in errors."""
    first = next((name for name in node.outputs if name), "")
    return f"node `{first}` ({node.op})"


def with_attributes(node: Node, types: Sequence[TensorType | None], values: Sequence[Array | None]) -> Node:
    """Return a convolution or pool with its attributes in full, as far as they are known; others as they are.

    Parameters
    ----------
    node : Node
    types, values : sequence
        As for :func:`output_types`.

    Returns
    -------
    Node

    Raises
    ------
    ModelError
    """
    if node.op not in windows.WINDOWED:
        return node
    try:
        return windows.in_full(Operands(node, tuple(types), tuple(values)))
    except ShapeError as error:
        raise ModelError(f"{named(node)}: {error}.") from error


def output_types(
    node: Node, types: Sequence[TensorType | None], values: Sequence[Array | None]
) -> tuple[TensorType, ...]:
    """Return the types of a node's outputs.

    Parameters
    ----------
    node : Node
        Of an operation in `KNOWN`, its attributes in full as far as that goes.
    types : sequence of TensorType or None
        Of its inputs, one each; None for those that are absent.
    values : sequence of ndarray or None
        Of its inputs that are constant.

    Returns
    -------
    tuple of TensorType
        One for each output. A length of which nothing is known has the name `output.axis`.

    Raises
    ------
    ModelError
        If the operation does not take such inputs.
    UnknownError
        If they depend on values that are not known.
    """
    try:
        kinds = _RULES[node.op](Operands(node, tuple(types), tuple(values)))
    except ShapeError as error:
        raise ModelError(f"{named(node)}: {error}.") from error
    except UnknownError:
        raise
    except (ArithmeticError, IndexError, LookupError, TypeError, ValueError) as error:
        raise ModelError(f"{named(node)} is malformed: {type(error).__name__}: {error}") from error
    if len(node.outputs) > len(kinds):
        raise ModelError(f"{named(node)} has {len(node.outputs)} outputs; expected at most {len(kinds)}.")
    found = []
    for name, (dtype, lengths) in zip(node.outputs, kinds, strict=False):
        if None in lengths:
            lengths = tuple(f"{name}.{n}" if length is None else length for n, length in enumerate(lengths))
        found.append(TensorType(dtype, lengths))  # type: ignore[arg-type]  # of which none is None now
    return tuple(found)


def typed(graph: Graph) -> Graph:
    """Return a graph with all types that are known while lengths are open.

    Parameters
    ----------
    graph : Graph
        What types it has does not count.

    Returns
    -------
    Graph
        Its convolutions and pools have their attributes in full, as far as these are known.

    Raises
    ------
    ModelError
        If an operation does not take its inputs.
    """
    constants = graph.constants
    types = dict(graph.inputs)
    for name, array in constants.items():
        types[name] = TensorType(array.dtype, array.shape)
    nodes = []
    for node in graph.nodes:
        given = [types.get(name) for name in node.inputs]
        lacks = any(name and kind is None for name, kind in zip(node.inputs, given, strict=True))
        if node.op in KNOWN and not lacks:
            values = [constants.get(name) for name in node.inputs]
            with suppress(UnknownError):
                node = with_attributes(node, given, values)
                types.update(zip(node.outputs, output_types(node, given, values), strict=True))
        nodes.append(node)
    types.pop("", None)
    return graph.with_(nodes=tuple(nodes), types=types)
