"""Output types of products of matrices, of recurrent layers, and of reductions over axes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from .operands import Kind, Length, Lengths, Operands, ShapeError, axis_of, broadcast, one_dtype

__all__ = ["GATES", "RULES"]


def _gemm(given: Operands) -> list[Kind]:
    a, b = given.shape(), given.shape(1)
    if len(a) != 2 or len(b) != 2:
        raise ShapeError(f"inputs of shapes {a} and {b}; expected two matrices")
    a = a[::-1] if given.attribute("transA", 0) else a
    b = b[::-1] if given.attribute("transB", 0) else b
    _check_inner(a[1], b[0], given)
    if given.has(2):
        broadcast([(a[0], b[1]), given.shape(2)])
    return [(one_dtype(given.types), (a[0], b[1]))]


def _check_inner(one: Length, other: Length, given: Operands) -> None:
    if _differ(one, other):
        raise ShapeError(f"matrices of shapes {given.shape()} and {given.shape(1)} do not meet")


def _matmul(given: Operands) -> list[Kind]:
    a, b = given.shape(), given.shape(1)
    if not a or not b:
        raise ShapeError(f"inputs of shapes {a} and {b}; expected an axis at least")
    left = (1, *a) if len(a) == 1 else a
    right = (*b, 1) if len(b) == 1 else b
    _check_inner(left[-1], right[-2], given)
    shape = broadcast([left[:-2], right[:-2]]) if len(left) > 2 or len(right) > 2 else ()
    ends = (*(left[-2:-1] if len(a) > 1 else ()), *(right[-1:] if len(b) > 1 else ()))
    return [(one_dtype(given.types), (*shape, *ends))]


def _recurrent(given: Operands) -> list[Kind]:
    """Results of all times, and the state (and the cell) at the end: (times, directions, batch, width)."""
    x, weights = given.shape(), given.shape(2)
    if len(x) != 3 or len(given.shape(1)) != 3 or len(weights) != 3:
        raise ShapeError(f"inputs of shapes {x}, {given.shape(1)} and {weights}; expected three axes each")
    directions = 2 if given.attribute("direction", "forward") == "bidirectional" else 1
    width = given.attribute("hidden_size", weights[2])
    if given.attribute("layout", 0):
        all_times: Lengths = (x[0], x[1], directions, width)
        end: Lengths = (x[0], directions, width)
    else:
        all_times, end = (x[0], directions, x[1], width), (directions, x[1], width)
    if isinstance(width, int):
        _check_recurrent(given, directions, width, end)
    return [(given.dtype(), all_times), (given.dtype(), end), (given.dtype(), end)]


def _check_recurrent(given: Operands, directions: int, width: int, end: Lengths) -> None:
    """Check the shapes of weights, biases, states and peepholes against the input and the width."""
    gates = GATES[given.node.op] * width
    expected = {
        "W": (directions, gates, given.shape()[2]),
        "R": (directions, gates, width),
        "B": (directions, 2 * gates),
        "initial_h": end,
        "initial_c": end,
        "P": (directions, 3 * width),
    }
    for name, shape in expected.items():
        number = _RECURRENT.index(name)
        if not given.has(number):
            continue
        got = given.shape(number)
        if len(got) != len(shape) or any(map(_differ, got, shape)):
            raise ShapeError(f"`{name}` of shape {got} for inputs of shape {given.shape()}; expected {shape}")


def _differ(one: Length, other: Length) -> bool:
    return isinstance(one, int) and isinstance(other, int) and one != other


def _reduction(given: Operands) -> list[Kind]:
    shape = given.shape()
    axes = given.integers(1) if given.has(1) else []
    if not axes and given.attribute("noop_with_empty_axes", 0):
        return [(given.dtype(), shape)]
    chosen = {axis_of(axis, len(shape)) for axis in axes} if axes else set(range(len(shape)))
    if given.attribute("keepdims", 1):
        return [(given.dtype(), tuple(1 if n in chosen else length for n, length in enumerate(shape)))]
    return [(given.dtype(), tuple(length for n, length in enumerate(shape) if n not in chosen))]


def _position(given: Operands) -> list[Kind]:
    shape = given.shape()
    axis = axis_of(given.attribute("axis", 0), len(shape))
    kept = (1,) if given.attribute("keepdims", 1) else ()
    return [(np.dtype(np.int64), (*shape[:axis], *kept, *shape[axis + 1 :]))]


GATES: Final = {"LSTM": 4, "GRU": 3, "RNN": 1}
_RECURRENT: Final = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")

_REDUCTIONS: Final = """
    ReduceMean ReduceSum ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp
    ReduceSumSquare
"""

RULES: Final[Mapping[str, Callable[[Operands], list[Kind]]]] = {
    "Gemm": _gemm,
    "MatMul": _matmul,
    **dict.fromkeys(("LSTM", "GRU", "RNN"), _recurrent),
    **dict.fromkeys(_REDUCTIONS.split(), _reduction),
    "ArgMax": _position,
    "ArgMin": _position,
}
