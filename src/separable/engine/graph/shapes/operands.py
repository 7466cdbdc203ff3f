"""What a rule of shapes is given, and the arithmetic of lengths that may be open."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from ...._base.types import Array
from ..ir import Node, TensorType

__all__ = [
    "Kind",
    "Length",
    "Lengths",
    "Operands",
    "ShapeError",
    "UnknownError",
    "axis_of",
    "broadcast",
    "integers_of",
    "one_dtype",
    "plus",
    "product",
]

Length: TypeAlias = "int | str | None"  # None: nothing is known of it
Lengths: TypeAlias = tuple[Length, ...]
Kind: TypeAlias = tuple[np.dtype[Any], Lengths]  # what a rule returns for each output


class ShapeError(ValueError):
    """Shapes that an operation does not take; who knows the node says which one it is."""


class UnknownError(Exception):
    """What a shape depends on is not known yet."""


class Operands(NamedTuple):
    """A node with what is known of its inputs.

    Attributes
    ----------
    node : Node
    types : tuple of TensorType or None
        One an input; None for one that is absent.
    values : tuple of ndarray or None
        Of the inputs that are constant.
    """

    node: Node
    types: tuple[TensorType | None, ...]
    values: tuple[Array | None, ...]

    def has(self, number: int) -> bool:
        """Whether an input is given."""
        return number < len(self.node.inputs) and bool(self.node.inputs[number])

    def type(self, number: int = 0) -> TensorType:
        """Return the type of an input that must be there."""
        found = self.types[number] if number < len(self.types) else None
        if found is None:
            raise ShapeError(f"input {number} is missing")
        return found

    def shape(self, number: int = 0) -> tuple[int | str, ...]:
        """Return the shape of an input that must be there."""
        found = self.types[number] if number < len(self.types) else None
        return self.type(number).shape if found is None else found.shape

    def dtype(self, number: int = 0) -> np.dtype[Any]:
        """Return the dtype of an input that must be there."""
        return self.type(number).dtype

    def value(self, number: int) -> Array:
        """Return the values of an input; they must be constant."""
        found = self.values[number] if number < len(self.values) else None
        if found is None:
            if not self.has(number):
                raise ShapeError(f"input {number} is missing")
            raise UnknownError(f"its shape depends on the values of `{self.node.inputs[number]}`")
        return found

    def integers(self, number: int) -> list[int]:
        """Return the values of an input as a list of int."""
        return integers_of(self.value(number))

    def attribute(self, name: str, default: Any = None) -> Any:
        """Return an attribute, or what stands for it where it is not written."""
        return self.node.attributes.get(name, default)


def axis_of(axis: int, rank: int) -> int:
    """Return an axis counted from the front."""
    if not -rank <= axis < rank:
        raise ShapeError(f"axis {axis} lies outside of {rank} axes")
    return axis % rank


def one_dtype(types: Sequence[TensorType | None]) -> np.dtype[Any]:
    """Return the dtype that all inputs share."""
    dtypes = {kind.dtype for kind in types if kind is not None}
    if len(dtypes) != 1:
        raise ShapeError(f"inputs of types {', '.join(sorted(map(str, dtypes)))}; expected one type")
    return dtypes.pop()


def integers_of(array: Array) -> list[int]:
    """Return the values of an array as a list of int; numbers on a tape stay there."""
    values = array.ravel()
    whole: list[int] = values.tolist() if values.dtype.kind in "iu" else [int(value) for value in values]
    return whole


def broadcast(shapes: Sequence[Sequence[Length]]) -> Lengths:
    """Return the shape that several shapes broadcast to."""
    first = shapes[0]
    if None not in first and (shapes[1] == first if len(shapes) == 2 else shapes.count(first) == len(shapes)):
        return tuple(first)  # most often so, and asked of every Add of a network
    rank = max(map(len, shapes))
    padded = [(1,) * (rank - len(shape)) + tuple(shape) for shape in shapes]
    return tuple(_together(lengths, shapes) for lengths in zip(*padded, strict=True))


def _together(lengths: Sequence[Length], shapes: Sequence[Sequence[Length]]) -> Length:
    several: list[Length] = []
    for length in lengths:
        if length != 1 and length not in several:
            several.append(length)
    numbers = [length for length in several if isinstance(length, int)]
    if len(numbers) > 1:
        shown = " and ".join(str(tuple(shape)) for shape in shapes)
        raise ShapeError(f"shapes {shown} do not broadcast")
    if numbers:
        return numbers[0]  # an open length must be that one, or 1
    if not several:
        return 1
    return several[0] if len(several) == 1 else None


def product(lengths: Sequence[Length]) -> Length:
    """Return a product of lengths; None where it is open, a name where it is one name."""
    numbers = [length for length in lengths if isinstance(length, int)]
    names = [length for length in lengths if not isinstance(length, int)]
    count = math.prod(numbers)
    if not names or count == 0:
        return count
    return names[0] if len(names) == 1 and count == 1 else None


def plus(length: Length, more: int) -> Length:
    """Return a length and a number more; nothing is said of an open one."""
    if isinstance(length, int):
        return length + more
    return length if more == 0 else None
