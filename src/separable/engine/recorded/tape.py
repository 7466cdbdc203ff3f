"""What was computed of some lengths, in order, and what was asked of them: done again for others.

Code that computes with lengths runs once with numbers that write down what is done to them (`numbers`, and
`arrays` of them). All that such a number decides, a comparison above all, becomes a check: what was noted
holds for other lengths where all checks come out the same, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from operator import getitem, itemgetter
from typing import Any, Final

import numpy as np

from .arrays import TapeArray
from .numbers import TapeNumber

__all__ = ["DifferentError", "Tape", "TapeEntry", "applied"]

_Function = Callable[..., Any]
_Getter = Callable[[list[Any]], tuple[Any, ...]]

# Constants that are one where they are equal; others are one where they are the same object.
_PLAIN: Final = frozenset((int, bool, str, bytes, type(None)))
_AT_ONCE: Final = 32  # checks


class DifferentError(Exception):
    """What was noted does not hold for these numbers."""


class Tape:
    """What is computed of lengths, in order: each entry a function of entries before it.

    Attributes
    ----------
    values : list
        Of the entries, for the lengths that it was noted with.
    """

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._made: list[tuple[_Function | None, tuple[int, ...]] | None] = []  # None: given, or constant
        self._places: dict[tuple[Any, ...], int] = {}  # of constants
        self._results: dict[tuple[Any, ...], int] = {}
        self._wrapped: dict[int, Any] = {}
        self._constants: set[int] = set()
        self._given: dict[int, None] = {}
        self._checks: dict[int, Any] = {}  # entries that have to be what they were
        self._late: set[int] = set()  # entries that are made only where all checks before them hold
        self._needed: set[int] = set()  # what is done, not only computed
        self._is_full = False

    # -- entries -----------------------------------------------------------------------------------------

    def length(self, value: int) -> TapeNumber:
        """Return a number that will be given."""
        place = self._enter(None, value)
        self._given[place] = None
        return self._number(place)

    def place(self, value: Any) -> int:
        """Return the entry of a value: computed, or constant."""
        kind = type(value)
        if kind is TapeNumber or kind is TapeArray or kind is TapeEntry:
            if self._is_full:
                raise RuntimeError("a length outlived the plan that it was noted for; please report it.")
            place: int = value.place
            return place
        if kind is int:
            known = self._places.get((int, value))
            return self._constant((int, value), value) if known is None else known
        if kind is tuple or kind is list:
            places = tuple([self.place(part) for part in value])
            if self._constants.issuperset(places):
                return self._constant(("tuple", places), tuple(value))
            return self._computed(None, places)
        if kind is float:
            return self._constant((float, value.hex()), value)
        return self._constant((kind, value) if kind in _PLAIN else (object, id(value)), value)

    def noted(self, function: _Function, *arguments: Any, late: bool = True) -> Any:
        """Return what a function without side effects makes of values, as the result of an entry.

        Parameters
        ----------
        function : callable
        *arguments : object
        late : bool, optional
            Whether it may be called only where all checks before it hold.
        """
        places = tuple([self.place(value) for value in arguments])
        if self._constants.issuperset(places):
            return function(*[self.values[place] for place in places])
        place = self._computed(function, places)
        if late:
            self._late.add(place)
        return self.wrapped(place)

    def of_two(self, function: _Function, one: Any, other: Any) -> TapeNumber:
        """Return the number that a function makes of two, of which one is on the tape."""
        key = (function, self.place(one), self.place(other))
        place = self._results.get(key)
        if place is None:
            values = self.values
            place = self._enter((function, key[1:]), function(values[key[1]], values[key[2]]))
            self._results[key] = place
        return self._number(place)

    def entry(self, function: _Function, *arguments: Any) -> int:
        """Return the entry of what a function without side effects makes of values."""
        return self._computed(function, tuple([self.place(value) for value in arguments]))

    def done(self, function: _Function, *arguments: Any) -> Any:
        """Call a function for what it does, now and each time; return the entry of its result."""
        places = tuple([self.place(value) for value in arguments])
        place = self._enter((function, places), function(*(self.values[place] for place in places)))
        self._needed.add(place)
        self._late.add(place)
        return self.wrapped(place)

    def check(self, function: _Function, *arguments: Any) -> Any:
        """Return what a function makes of values; for others it has to be the same."""
        place = self._computed(function, tuple([self.place(value) for value in arguments]))
        return self._checks.setdefault(place, self.values[place])

    def wrapped(self, place: int) -> Any:
        """Return the value of an entry as something that notes what is done to it."""
        known = self._wrapped.get(place)
        if known is None:
            value, made_of = self.values[place], self._made[place]
            if isinstance(value, (tuple, list)):
                made: Any = [
                    self.wrapped(self._computed(getitem, (place, self.place(number))))
                    for number in range(len(value))
                ]
                if made_of is None or made_of[0] is not np.shape:  # which has as many as its array has axes
                    self.check(len, TapeEntry(self, place))
                known = tuple(made)
            elif isinstance(value, np.ndarray):
                known = TapeArray(self, place, value)
            else:
                known = self._number(place) if type(value) in (int, float) else TapeEntry(self, place)
            self._wrapped[place] = known
        return known

    def _number(self, place: int) -> TapeNumber:
        number: TapeNumber | None = self._wrapped.get(place)
        if number is None:
            number = self._wrapped[place] = TapeNumber(self, place, self.values[place])
        return number

    def _constant(self, key: tuple[Any, ...], value: Any) -> int:
        place = self._places.get(key)
        if place is None:
            place = self._places[key] = self._enter(None, value)
            self._constants.add(place)
        return place

    def _computed(self, function: _Function | None, places: tuple[int, ...]) -> int:
        key = (function, *places)
        place = self._results.get(key)
        if place is None:
            held = [self.values[place] for place in places]
            place = self._enter((function, places), tuple(held) if function is None else function(*held))
            self._results[key] = place
        return place

    def _enter(self, made: tuple[_Function | None, tuple[int, ...]] | None, value: Any) -> int:
        self._made.append(made)
        self.values.append(value)
        return len(self.values) - 1

    # -- again -------------------------------------------------------------------------------------------

    def again(self, result: Any) -> Callable[[Sequence[int]], Any]:
        """Return what does it all for other lengths, and returns the value of an entry: the tape is full.

        Parameters
        ----------
        result : object
            Of entries of this tape.

        Returns
        -------
        callable
            It takes the given numbers in their order, and raises `DifferentError`, or what a function raises,
            where what was noted does not hold for them.
        """
        last = self.place(result)
        self._is_full = True
        used = self._used([last, *self._needed, *self._checks])
        code, given = self._code(used), tuple(self._given)
        empty: list[Any] = [None] * (len(self.values) + 1)  # one more, of checks
        for place in self._constants & used:
            empty[place] = self.values[place]

        def run(numbers: Sequence[int]) -> Any:
            values = empty.copy()
            for place, number in zip(given, numbers, strict=True):
                values[place] = number
            for place, function, arguments in code:
                if function is None:
                    values[place] = arguments(values)
                else:
                    values[place] = function(*arguments(values))
            return values[last]

        return run

    def _used(self, ends: Iterable[int]) -> set[int]:
        """Return some entries, and those that they depend on."""
        used: set[int] = set()
        ahead = list(ends)
        while ahead:
            place = ahead.pop()
            if place not in used:
                used.add(place)
                made = self._made[place]
                if made is not None:
                    ahead += made[1]
        return used

    def _code(self, used: set[int]) -> list[tuple[int, _Function | None, _Getter]]:
        """Return the entries that are computed, and between them the checks of those before.

        Checks that wait for nothing late come first, with what they ask: they tell soon where nothing holds.
        """
        code: list[tuple[int, _Function | None, _Getter]] = []
        asked: list[int] = []

        def checked() -> None:
            if asked:
                wanted = tuple([self._checks[place] for place in asked])
                code.append((len(self.values), _required(wanted), _all_of(tuple(asked))))
                asked.clear()

        def computed(place: int, function: _Function | None, places: tuple[int, ...]) -> None:
            code.append((place, function, _all_of(places)))
            if place in self._checks:
                asked.append(place)

        made = [(place, *how) for place, how in enumerate(self._made) if how is not None and place in used]
        waiting: set[int] = set()
        for place, _, places in made:
            if place in self._late or not waiting.isdisjoint(places):
                waiting.add(place)
        soon = self._used(self._checks.keys() - waiting)
        for place, function, places in made:
            if place in soon:
                computed(place, function, places)
                if len(asked) == _AT_ONCE:
                    checked()
        checked()
        for place, function, places in made:
            if place in self._late:
                checked()
            if place not in soon:
                computed(place, function, places)
        checked()
        return code


class TapeEntry:
    """A value that is nothing but handed on.

    Parameters
    ----------
    tape : Tape
    place : int
    """

    __slots__ = ("place", "tape")

    def __init__(self, tape: Tape, place: int) -> None:
        self.tape, self.place = tape, place

    @property
    def value(self) -> Any:
        """What it is for the lengths that it was noted with."""
        return self.tape.values[self.place]


def applied(function: _Function, *arguments: Any) -> Any:
    """Return what a function without side effects makes of values: noted where one of them is on a tape.

    Parameters
    ----------
    function : callable
    *arguments : object
        Numbers and arrays, and what is constant.
    """
    for value in arguments:
        kind = type(value)
        if kind is TapeNumber or kind is TapeArray:
            return value.tape.noted(function, *arguments)
    return function(*arguments)


def _required(wanted: tuple[Any, ...]) -> _Function:
    def compare(*held: Any) -> None:
        if held != wanted:
            raise DifferentError

    return compare


def _all_of(places: tuple[int, ...]) -> _Getter:
    if len(places) == 1:
        (place,) = places
        return lambda values: (values[place],)
    return itemgetter(*places) if places else lambda values: ()
