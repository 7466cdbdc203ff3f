"""Lengths that note on a tape what is done to them.

Whoever asks for the number itself, as an index or as a key, makes it one that has to be the same.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any, Final, Protocol

import numpy as np

__all__ = ["Notes", "TapeNumber", "larger"]

_Binary = Callable[[Any, Any], Any]


class Notes(Protocol):
    """What a tape does for its numbers."""

    def noted(self, function: Callable[..., Any], *arguments: Any, late: bool = True) -> Any:
        """Return what a function makes of values, as the result of an entry."""

    def of_two(self, function: Callable[..., Any], one: Any, other: Any) -> Any:
        """Return the number that a function makes of two."""

    def check(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Return what a function makes of values; for others it has to be the same."""


# What leaves a number as it is, on its right, and on both sides.
_NOTHING: Final[dict[_Binary, int]] = {operator.sub: 0, operator.floordiv: 1}
_NEITHER: Final[dict[_Binary, int]] = {operator.add: 0, operator.mul: 1}


def _operand(value: object) -> Any:
    """Return a value as an operand, a number of NumPy's as Python's; None where it is none."""
    kind = type(value)
    if kind is TapeNumber or kind is int or kind is float or kind is bool:
        return value
    return value.item() if isinstance(value, (np.integer, np.floating)) else None


def _arithmetic(function: _Binary) -> tuple[Any, Any]:
    """Return the methods for a number on the left of an operand, and on its right."""
    neither = _NEITHER.get(function)

    def of_two(nothing: int | None, is_left: bool) -> Any:
        def method(self: TapeNumber, other: object) -> Any:
            operand = _operand(other)
            if operand is None:
                return NotImplemented
            if type(operand) is int and operand == nothing:
                return self
            return self.tape.of_two(function, *((self, operand) if is_left else (operand, self)))

        return method

    return of_two(_NOTHING.get(function, neither), True), of_two(neither, False)


def _asked(function: _Binary) -> Any:
    def method(self: TapeNumber, other: object) -> Any:
        if other is self:
            return bool(function(0, 0))
        operand = _operand(other)
        if operand is None:
            return NotImplemented
        return self.tape.check(function, self, operand)

    return method


def _of_one(function: Callable[[Any], Any]) -> Any:
    def method(self: TapeNumber) -> Any:
        return self.tape.noted(function, self, late=False)

    return method


class TapeNumber:
    """A number that was given to a tape, or computed of such.

    Parameters
    ----------
    tape : Notes
    place : int
        Of its entry.
    value : int or float
        For the lengths that it was noted with.
    """

    __slots__ = ("place", "tape", "value")

    def __init__(self, tape: Notes, place: int, value: Any) -> None:
        self.tape, self.place, self.value = tape, place, value

    @property  # type: ignore[misc]
    def __class__(self) -> type:  # who asks if a length is a number, or the name of an open one, is told
        return int if type(self.value) is int else float

    __add__, __radd__ = _arithmetic(operator.add)
    __sub__, __rsub__ = _arithmetic(operator.sub)
    __mul__, __rmul__ = _arithmetic(operator.mul)
    __floordiv__, __rfloordiv__ = _arithmetic(operator.floordiv)
    __mod__, __rmod__ = _arithmetic(operator.mod)
    __truediv__, __rtruediv__ = _arithmetic(operator.truediv)
    __neg__, __abs__ = _of_one(operator.neg), _of_one(operator.abs)
    __floor__, __ceil__ = _of_one(math.floor), _of_one(math.ceil)
    __eq__, __ne__ = _asked(operator.eq), _asked(operator.ne)
    __lt__, __le__ = _asked(operator.lt), _asked(operator.le)
    __gt__, __ge__ = _asked(operator.gt), _asked(operator.ge)

    def __divmod__(self, other: Any) -> tuple[Any, Any]:
        return self // other, self % other

    def __bool__(self) -> bool:
        return bool(self.tape.check(bool, self))

    def _same(self) -> Any:
        """Return the number itself: all is noted for this one alone."""
        self.tape.check(operator.pos, self)
        return self.value

    def __index__(self) -> int:
        return operator.index(self._same())

    def __int__(self) -> int:
        return int(self._same())

    def __float__(self) -> float:
        return float(self._same())

    def __hash__(self) -> int:
        return hash(self._same())

    def __str__(self) -> str:
        return str(self._same())

    def __format__(self, how: str) -> str:
        return format(self._same(), how)

    def __repr__(self) -> str:
        return f"<{self.value!r}>"


def larger(one: Any, other: Any) -> Any:
    """Return the larger of two numbers, whichever that is for other lengths."""
    for number in (one, other):
        if type(number) is TapeNumber:
            return one if one is other else number.tape.of_two(max, one, other)
    return max(one, other)
