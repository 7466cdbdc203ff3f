"""Eight exercises in the order of a course, each with a check that says what is wrong.

On the command line: ``separable learn``. In a notebook: ``learn.check(3, globals())``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .exercise import Judgement
from .table import exercise

__all__ = ["check"]


def check(number: int, names: Mapping[str, Any]) -> Judgement:
    """Judge the answers to an exercise.

    Parameters
    ----------
    number : int
        Of the exercise, from 1.
    names : mapping of str to object
        The variables and functions that the exercise asks for: ``globals()`` in a notebook.

    Returns
    -------
    Judgement
        What is right, and what is wrong with the rest; `passed` if nothing is.

    Raises
    ------
    ValueError
        If there is no exercise of that number.
    MissingExtraError
        If the exercise needs a package that is not installed.

    Examples
    --------
    >>> from separable import learn
    >>> judgement = learn.check(4, {"free": 656})
    >>> judgement.passed
    False
    >>> print(judgement.findings[0].message)
    656 counts every parameter. One number of each input channel is free: a filter times b and ...
    """
    return exercise(number).judge(names)
