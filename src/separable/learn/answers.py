"""A learner's names, asked one by one: each is right, or it is said what is wrong with it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np

from .._base.types import Array


@dataclass(frozen=True)
class Finding:
    """Whether one answer is right; `message` says what is wrong with it."""

    name: str
    right: bool
    message: str = ""


class CallError(Exception):
    """A learner's function raised an exception, its cause, when it was tried."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} raised an exception when it was tried.")
        self.name = name


class Answers:
    """What a learner gave, and the findings about it so far."""

    def __init__(self, names: Mapping[str, Any]) -> None:
        self._names = names
        self.findings: list[Finding] = []

    def right(self, name: str) -> None:
        """Note that an answer is right."""
        self.findings.append(Finding(name, True))

    def wrong(self, name: str, message: str) -> None:
        """Note what is wrong with an answer."""
        self.findings.append(Finding(name, False, message))

    def judge(self, name: str, message: str | None) -> None:
        """Note an answer: right if there is nothing to say."""
        self.findings.append(Finding(name, message is None, message or ""))

    def given(self, name: str) -> Any:
        """Return what was given; None where there is nothing yet, which is noted."""
        value = self._names.get(name, ...)
        if value is None or value is ...:
            missing = name not in self._names
            self.wrong(
                name,
                "there is no such name; the exercise asks for it."
                if missing
                else "it is still empty; put your answer in its place.",
            )
            return None
        return value

    def function(self, name: str) -> Callable[..., Any] | None:
        """Return a function that was given; None where it is none, which is noted.

        What the function raises is a `CallError` for the caller.
        """
        value = self.given(name)
        if value is None:
            return None
        if not callable(value):
            self.wrong(name, f"a function is asked for, and this is a {type(value).__name__}.")
            return None

        def call(*arguments: Any) -> Any:
            try:
                return value(*arguments)
            except Exception as error:
                raise CallError(name) from error

        return call

    def number(
        self, name: str, wanted: float, mistakes: Iterable[tuple[float, str]], tolerance: float = 1e-9
    ) -> None:
        """Judge a number.

        Parameters
        ----------
        name : str
        wanted : float
            What is right.
        mistakes : iterable of (float, str)
            What comes out of a typical mistake, and what to say to it.
        tolerance : float, optional
            Relative; larger where rounded numbers count as right.
        """
        value = self.given(name)
        if value is not None:
            self.judge(name, number_fault(value, wanted, mistakes, tolerance))

    def array(self, name: str, shape: tuple[int, ...]) -> Array | None:
        """Return an array of numbers of a shape; None where it is none, which is noted."""
        value = self.given(name)
        if value is None:
            return None
        fault = array_fault(value, shape)
        if fault is not None:
            self.wrong(name, fault)
            return None
        return np.asarray(value, float)


def number_fault(
    value: Any, wanted: float, mistakes: Iterable[tuple[float, str]], tolerance: float = 1e-9
) -> str | None:
    """Return what is wrong with a number, None if nothing is; arguments as for `Answers.number`."""
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value.item()
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, Real):
        return f"a number is asked for, and this is a {type(value).__name__}."
    try:
        number = float(value)
    except OverflowError:
        return "it is far too large."
    if math.isclose(number, wanted, rel_tol=tolerance):
        return None
    for mistaken, message in mistakes:
        if math.isclose(number, mistaken, rel_tol=tolerance):
            return message
    way = "more" if number < wanted else "less"
    return f"{value} is not it; it should be {way}." if math.isfinite(number) else f"{value} is no answer."


def shape_of(value: Any) -> tuple[int, ...] | None:
    """Return the shape of an array, or of nested lists; None where there is none."""
    try:
        return tuple(np.shape(value))
    except (TypeError, ValueError):
        return None


def array_fault(value: Any, shape: tuple[int, ...]) -> str | None:
    """Return what keeps a value from being an array of numbers of a shape; None if nothing does."""
    try:
        array = np.asarray(value, float)
    except (TypeError, ValueError, OverflowError):
        return f"an array of numbers is asked for, and this is a {type(value).__name__}."
    if array.shape != shape:
        return f"its shape is {array.shape}, and {shape} is asked for."
    return None if np.isfinite(array).all() else "it holds numbers that are not finite."
