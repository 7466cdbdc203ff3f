"""Output types of what networks mostly consist of: told at once, where nothing about a node is unusual.

A network is planned for many shapes. What the rules of `table` find out of attributes and weights each time
is kept with the node here. They give the same types, and the errors (`tests/test_engine_plans.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from ..ir import Node, Shape, TensorType
from .elementwise import BROADCAST, SAME
from .windows import is_full, reach

__all__ = ["USUAL"]

_Types = Sequence["TensorType | None"]
_Rule = Callable[[Node, _Types], "tuple[TensorType, ...] | None"]


def _same(node: Node, given: _Types) -> tuple[TensorType, ...] | None:
    first = given[0]
    return None if first is None or len(node.outputs) != 1 else (first,)


def _pair(node: Node, given: _Types) -> tuple[TensorType, ...] | None:
    """Return the type of the operand that the other one broadcasts to."""
    if len(given) != 2 or len(node.outputs) != 1:
        return None
    one, other = given
    if one is None or other is None or one.dtype != other.dtype:
        return None
    if one.shape == other.shape or _fits(other.shape, one.shape):
        return (one,)
    return (other,) if _fits(one.shape, other.shape) else None


def _fits(small: Shape, large: Shape) -> bool:
    beyond = len(large) - len(small)
    if beyond < 0:
        return False
    return all(length in (1, large[beyond + axis]) for axis, length in enumerate(small))


def _joined(node: Node, given: _Types) -> tuple[TensorType, ...] | None:
    """Return the type of tensors one behind the other that differ along that axis alone."""
    first, axis = given[0], node.attributes.get("axis")
    if first is None or axis is None or len(node.outputs) != 1:
        return None
    if not -len(first.shape) <= axis < len(first.shape):
        return None
    axis %= len(first.shape)
    before, behind, total = first.shape[:axis], first.shape[axis + 1 :], 0
    for kind in given:
        if kind is None or kind.dtype != first.dtype or len(kind.shape) != len(first.shape):
            return None
        if kind.shape[:axis] != before or kind.shape[axis + 1 :] != behind:
            return None
        total += kind.shape[axis]  # a number, as all lengths are here
    return (TensorType(first.dtype, (*before, total, *behind)),)


def _means(node: Node, given: _Types) -> tuple[TensorType, ...] | None:
    x = given[0]
    if x is None or len(x.shape) < 3 or len(node.outputs) != 1:
        return None
    return (TensorType(x.dtype, (*x.shape[:2], *(1 for _ in x.shape[2:]))),)


class _KnownWindow(NamedTuple):
    """What is known of a convolution, or a pool, before its input is.

    Attributes
    ----------
    weights : tuple of int
        Their shape; empty for a pool.
    read, made : int
        Channels; 0 for a pool, which leaves them as they are.
    axes : tuple of (int, int)
        Of each: the padding less what a window reaches, and the stride.
    """

    weights: Shape
    read: int
    made: int
    axes: tuple[tuple[int, int], ...]


def _convolution(node: Node, given: _Types) -> tuple[TensorType, ...] | None:
    if len(given) < 2 or given[0] is None or given[1] is None:
        return None
    x, weights, others = given[0], given[1], given[2:]
    known = node.notes.get("window")
    if known is None or known.weights != weights.shape:
        known = node.notes["window"] = _of_weights(node, weights.shape)
    dtype, shape = x.dtype, x.shape
    if len(shape) != len(known.axes) + 2 or shape[1] != known.read or weights.dtype != dtype:
        return None
    if others and any(kind is not None and kind.dtype != dtype for kind in others):
        return None
    if others and others[0] is not None and others[0].shape != (known.made,):
        return None
    made = _slid(shape, known.axes)
    if made is None:
        return None
    own = TensorType(dtype, (shape[0], known.made, *made))
    if len(node.outputs) == 1:
        return (own,)
    return own, TensorType(dtype, (shape[0], known.made, *(1 for _ in made)))


def _of_weights(node: Node, weights: Shape) -> _KnownWindow:
    """Return what weights say; without axes where the general rule has something to say."""
    group, rank = node.attributes.get("group", 1), len(weights) - 2
    unusual = _KnownWindow(weights, 0, 0, ())
    if rank < 1 or not all(isinstance(length, int) for length in weights) or len(node.outputs) > 2:
        return unusual
    if group < 1 or weights[0] % group or not is_full(node, weights[2:], rank):  # type: ignore[arg-type]
        return unusual
    return _KnownWindow(weights, weights[1] * group, weights[0], _axes(node, rank))  # type: ignore[arg-type]


def _axes(node: Node, rank: int) -> tuple[tuple[int, int], ...]:
    written = node.attributes
    pads, strides = written["pads"], written["strides"]
    return tuple(
        (pads[axis] + pads[axis + rank] - reach(written, axis), strides[axis]) for axis in range(rank)
    )


def _slid(shape: Shape, axes: tuple[tuple[int, int], ...]) -> tuple[int, ...] | None:
    """Return the spatial lengths that windows leave; None where one is longer than what it reads."""
    made = []
    for length, (more, stride) in zip(shape[2:], axes, strict=True):
        beyond = length + more  # type: ignore[operator]  # a number, as all lengths are here
        if beyond < 0:
            return None
        made.append(beyond // stride + 1)
    return tuple(made)


def _pool(node: Node, given: _Types) -> tuple[TensorType, ...] | None:
    x, written = given[0], node.attributes
    if x is None or len(node.outputs) != 1:
        return None
    known = node.notes.get("window")
    if known is None:
        kernel = written.get("kernel_shape", ())
        usual = len(kernel) > 0 and is_full(node, tuple(kernel), len(kernel)) and "beyond" not in written
        axes = _axes(node, len(kernel)) if usual and math.prod(kernel) > 0 else ()
        known = node.notes["window"] = _KnownWindow((), 0, 0, axes)
    if not known.axes or len(x.shape) != len(known.axes) + 2:
        return None
    made = _slid(x.shape, known.axes)
    return None if made is None else (TensorType(x.dtype, (*x.shape[:2], *made)),)


# A rule answers None where the general one has to be asked.
USUAL: Final[Mapping[str, _Rule]] = {
    **dict.fromkeys(SAME, _same),
    **dict.fromkeys(BROADCAST, _pair),
    "Concat": _joined,
    "Conv": _convolution,
    **dict.fromkeys(("MaxPool", "AveragePool"), _pool),
    **dict.fromkeys(("GlobalAveragePool", "GlobalMaxPool"), _means),
}
