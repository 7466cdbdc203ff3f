"""Output types of operations on 8-bit numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from ..elements import DTYPES
from .operands import Kind, Lengths, Operands, ShapeError, broadcast
from .windows import convolved

__all__ = ["RULES"]

_INT32: Final = np.dtype(np.int32)
_FLOAT: Final = np.dtype(np.float32)
_BYTE: Final = np.dtype(np.uint8)


def _quantized(given: Operands) -> list[Kind]:
    """Levels of the zero's type, of the one that the attribute tells, or of bytes."""
    number = given.attribute("output_dtype", 0)
    if number and number not in DTYPES:
        raise ShapeError(f"element type {number} is not known here")
    dtype = DTYPES[number] if number else given.dtype(2) if given.has(2) else _BYTE
    return [(dtype, given.shape())]


def _dynamic(given: Operands) -> list[Kind]:
    return [(_BYTE, given.shape()), (_FLOAT, ()), (_BYTE, ())]


def _made(given: Operands, place: int = 7) -> np.dtype[np.generic]:
    """Return the type of a result's zero; without one it is a float."""
    return given.dtype(place) if given.has(place) else _FLOAT


def _product(first: Lengths, second: Lengths) -> Lengths:
    if not first or not second:
        raise ShapeError(f"a product of shapes {first} and {second}")
    one = first if len(first) > 1 else (1, *first)
    other = second if len(second) > 1 else (*second, 1)
    if isinstance(one[-1], int) and isinstance(other[-2], int) and one[-1] != other[-2]:
        raise ShapeError(f"a product of shapes {first} and {second}")
    rows = one[-2:-1] if len(first) > 1 else ()
    columns = other[-1:] if len(second) > 1 else ()
    return (*broadcast([one[:-2], other[:-2]]), *rows, *columns)


def _sum(given: Operands) -> list[Kind]:
    return [(_made(given), broadcast([given.shape(0), given.shape(3)]))]


RULES: Final[Mapping[str, Callable[[Operands], list[Kind]]]] = {
    "QuantizeLinear": _quantized,
    "DynamicQuantizeLinear": _dynamic,
    "QLinearConv": lambda given: [(_made(given), convolved(given, 3))],
    "ConvInteger": lambda given: [(_INT32, convolved(given))],
    "QLinearMatMul": lambda given: [(_made(given), _product(given.shape(0), given.shape(3)))],
    "MatMulInteger": lambda given: [(_INT32, _product(given.shape(0), given.shape(1)))],
    "QLinearAdd": _sum,
}
