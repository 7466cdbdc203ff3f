"""Arrays that are computed of lengths, and note on a tape what is done to them.

Whoever asks for the array itself makes it one that has to be the same.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ..._base.types import Array
from .numbers import Notes, TapeNumber

__all__ = ["TapeArray", "of_elements", "whole_numbers"]

_Binary = Callable[[Any, Any], Any]


def _known(function: _Binary) -> Any:
    def method(self: TapeArray, other: object) -> Any:
        return function(np.asarray(self), other)

    return method


class TapeArray:
    """An array that was computed of numbers of a tape.

    Its dtype and the number of its axes have to stay; its lengths are numbers of the tape, and so are the
    elements of a list.

    Parameters
    ----------
    tape : Notes
    place : int
        Of its entry.
    value : ndarray
        For the lengths that it was noted with.
    elements : tuple, optional
        Numbers, of the tape or not, that it holds: the array is of this shape then.
    """

    __slots__ = ("dtype", "elements", "ndim", "place", "tape", "value")

    def __init__(
        self, tape: Notes, place: int, value: Array, elements: tuple[Any, ...] | None = None
    ) -> None:
        self.tape, self.place, self.value, self.elements = tape, place, value, elements
        self.dtype, self.ndim = value.dtype, value.ndim
        if elements is None:
            tape.check(_form, self)

    @property
    def shape(self) -> tuple[Any, ...]:
        """Its lengths."""
        if self.elements is not None or not self.ndim:
            return self.value.shape
        made: tuple[Any, ...] = self.tape.noted(np.shape, self, late=False)
        return made

    @property
    def size(self) -> Any:
        """The number of its elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> Any:
        """Bytes of its elements."""
        return self.size * self.dtype.itemsize

    def tolist(self) -> Any:
        """Return its elements, of a line at most; there have to be as many of them."""
        if self.ndim > 1:
            return self._same().tolist()
        if self.elements is not None:
            return list(self.elements) if self.ndim else self.elements[0]
        made = self.tape.noted(_listed, self, late=False)
        return made if self.ndim == 0 else list(made)

    def item(self) -> Any:
        """Return its only element."""
        if self.elements is not None and len(self.elements) == 1:
            return self.elements[0]
        return self.tolist() if self.ndim == 0 else self.tape.noted(_item, self, late=False)

    def ravel(self) -> Any:
        """Return its elements in a line."""
        return self if self.ndim == 1 else self.reshape(-1)

    def reshape(self, *shape: Any) -> Any:
        """Return it with another shape."""
        (shape,) = shape if len(shape) == 1 and isinstance(shape[0], tuple) else (shape,)
        if self.elements is not None and all(type(length) is int for length in shape):
            return _assembled(self.tape, self.dtype, self.value.reshape(shape).shape, self.elements)
        return self.tape.noted(_reshaped, self, *shape)

    __hash__ = None  # type: ignore[assignment]  # as arrays have none
    __add__, __sub__, __mul__ = _known(operator.add), _known(operator.sub), _known(operator.mul)
    __eq__, __ne__ = _known(operator.eq), _known(operator.ne)
    __lt__, __le__, __gt__, __ge__ = map(_known, (operator.lt, operator.le, operator.gt, operator.ge))

    def __bool__(self) -> bool:
        return bool(self._same())

    def __len__(self) -> int:
        return operator.index(self.shape[0])

    def __iter__(self) -> Iterator[Any]:
        return iter(self.tolist())

    def _same(self) -> Array:
        """Return the array itself: all is noted for this one alone."""
        self.tape.check(_frozen, self)
        return self.value

    def __array__(self, dtype: Any = None, copy: Any = None) -> Array:
        del copy
        return np.array(self._same(), dtype)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._same(), name)

    def __getitem__(self, key: Any) -> Any:
        return self._same()[key]

    def __repr__(self) -> str:
        return f"<{self.value!r}>"


def whole_numbers(*values: Any) -> Any:
    """Return numbers as an array of int64."""
    for value in values:
        if type(value) is TapeNumber:
            return _assembled(value.tape, np.dtype(np.int64), (len(values),), values)
    return np.array(values, np.int64)


def of_elements(function: Callable[[list[Any]], Any], values: Sequence[Any]) -> Any:
    """Return what a function that moves, adds or multiplies numbers makes of arrays, number by number.

    Parameters
    ----------
    function : callable
        From arrays to an array of numbers of the first one's dtype.
    values : sequence of ndarray, TapeArray or None

    Returns
    -------
    ndarray or TapeArray or None
        None where there are arrays of which not all numbers are known one by one.
    """
    held: list[Any] = []
    tape = None
    for value in values:
        if type(value) is TapeArray:
            if value.elements is None or value.dtype.kind != "i":
                return None
            tape = value.tape
            numbers = np.empty(len(value.elements), object)
            numbers[:] = value.elements
            held.append(numbers.reshape(value.value.shape))
        elif value is not None and value.dtype.kind != "i":
            return None
        else:
            held.append(value)
    try:
        made = np.asarray(function(held))
    except TypeError:  # NumPy takes no such numbers there
        return None
    elements = tuple(made.ravel().tolist())
    dtype = values[0].dtype
    if not any(type(element) is TapeNumber for element in elements):
        return made.astype(dtype)
    return _assembled(tape, dtype, made.shape, elements)


def _assembled(tape: Any, dtype: np.dtype[Any], shape: tuple[int, ...], elements: tuple[Any, ...]) -> Any:
    place = tape.entry(_of_numbers, dtype, shape, *elements)
    return TapeArray(tape, place, tape.values[place], elements)


def _of_numbers(dtype: np.dtype[Any], shape: tuple[int, ...], *elements: int) -> Array:
    return np.array(elements, dtype).reshape(shape)


def _form(array: Array) -> tuple[str, int]:
    return array.dtype.str, array.ndim


def _frozen(array: Array) -> tuple[tuple[int, ...], bytes]:
    return array.shape, array.tobytes()


def _listed(array: Array) -> Any:
    return array.tolist()


def _item(array: Array) -> Any:
    return array.item()


def _reshaped(array: Array, *shape: int) -> Array:
    return array.reshape(shape)
