"""The exercises, in the order of the course."""

from __future__ import annotations

from typing import Final

from .exercise import Exercise
from .exercises import (
    break_even,
    conversion,
    freedom,
    kernel_factors,
    khatri_rao,
    layer_cost,
    program,
    tasks,
)

EXERCISES: Final[tuple[Exercise, ...]] = tuple(
    module.EXERCISE
    for module in (
        layer_cost,
        kernel_factors,
        khatri_rao,
        freedom,
        break_even,
        tasks,
        conversion,
        program,
    )
)


def exercise(number: int) -> Exercise:
    """Return an exercise by its number.

    Raises
    ------
    ValueError
        If there is none of that number.
    """
    if not 1 <= number <= len(EXERCISES):
        raise ValueError(f"there is no exercise {number}; expected a number from 1 to {len(EXERCISES)}.")
    return EXERCISES[number - 1]
