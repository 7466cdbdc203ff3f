"""Break-even, and the condition for more than ten times."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

from ...conv import cost
from ..answers import Answers, number_fault
from ..exercise import Exercise

CASES = ((128, 9), (16, 9), (18, 9), (256, 25), (4, 4))
SIDES = (3, 4, 5, 7)


def answers(given: Answers) -> None:
    """Judge the largest rank that pays, and the fewest outputs that save more than ten times."""
    largest = given.function("largest_rank")
    if largest is not None:
        given.judge("largest_rank", _rank_fault(largest))
    fewest = given.function("fewest_outputs")
    if fewest is not None:
        given.judge("fewest_outputs", _outputs_fault(fewest))


# Mistakes as functions: the one that gives what the learner's gives, case by case, was made.
_RANK_MISTAKES: Final[tuple[tuple[Callable[[int, int], float], str], ...]] = (
    (
        lambda c, k: c * k // (k + c),
        "where both take as many MACs it gives that T: it is the largest T that takes *fewer*.",
    ),
    (lambda c, k: c * k / (k + c), "T is a whole number of terms: round down."),
    (lambda c, k: -(-c * k // (k + c)), "you rounded up: there the separable layer is dearer."),
    (
        lambda c, k: math.isqrt(k) * c // (math.isqrt(k) + c),
        "`taps` is the number of all taps already, 9 for 3 x 3.",
    ),
    (min, "that is the rank which is exact, whatever it costs."),
)
_OUTPUT_MISTAKES: Final[tuple[tuple[Callable[[int], float | None], str], ...]] = (
    (
        lambda k: None if k * k <= 10 else 10 * k * k // (k * k - 10),
        "there it is not more than ten times yet: the next whole number is.",
    ),
    (
        lambda k: None if k * k <= 10 else 10 * k * k / (k * k - 10),
        "a number of channels is whole: round up.",
    ),
    (
        lambda k: None if k * k <= 10 else 11,
        "you left out the filters: 1/C_out + 1/k² has to be below a tenth.",
    ),
)


def _rank_fault(largest: Any) -> str | None:
    """Return what is wrong with a function of (c_out, taps)."""
    given = [largest(*case) for case in CASES]
    if any(value is None or value is ... for value in given):
        return "it returns nothing yet."
    wanted = [(c_out * taps - 1) // (taps + c_out) for c_out, taps in CASES]
    for mistaken, message in _RANK_MISTAKES:
        if _same(given, [mistaken(*case) for case in CASES]) and not _same(given, wanted):
            return message
    for (c_out, taps), value, right in zip(CASES, given, wanted, strict=True):
        fault = number_fault(value, right, [])
        if fault is not None:
            return f"for {c_out} outputs and {taps} taps: {fault}"
    return None


def _outputs_fault(fewest: Any) -> str | None:
    """Return what is wrong with a function of k."""
    given = [fewest(k) for k in SIDES]
    if any(value is ... for value in given):
        return "it returns nothing yet."
    wanted = [next((c for c in range(1, 1000) if cost.more_than(10, c, k)), None) for k in SIDES]
    for mistaken, message in _OUTPUT_MISTAKES:
        if _same(given, [mistaken(k) for k in SIDES]) and not _same(given, wanted):
            return message
    for k, value, right in zip(SIDES, given, wanted, strict=True):
        if right is None:
            if value is not None:
                return (
                    f"for {k} x {k} it gives {value}; even with endlessly many outputs no more than "
                    f"{k * k} times is "
                    "saved: return None."
                )
        elif value is None:
            return (
                f"for {k} x {k} it gives None; but there are {k * k} taps, and 1/{k * k} is less than a "
                "tenth."
            )
        else:
            fault = number_fault(value, right, [])
            if fault is not None:
                return f"for {k} x {k}: {fault}"
    return None


def _same(some: Sequence[Any], others: Sequence[Any]) -> bool:
    return all(
        one is other if one is None or other is None else number_fault(one, other, []) is None
        for one, other in zip(some, others, strict=True)
    )


EXERCISE = Exercise(
    5,
    "break_even",
    "Break-even, and more than ten times",
    """\
With a depth multiplier T every input channel has T filters, and the separable layer takes T * C_in * (K +
C_out) MACs for each pixel, where K is the number of taps (9 for 3 x 3). The dense layer takes K * C_in *
C_out.

Write `largest_rank(c_out, taps)`: the largest T with which the separable layer takes *fewer* MACs than
the dense one.

With T = 1 the ratio of separable to dense is 1/C_out + 1/K. Write `fewest_outputs(k)`: the fewest output
channels with which a layer of k x k taps saves *more* than ten times, or None where no number of channels
does.
""",
    """\
def largest_rank(c_out, taps):
    return ...


def fewest_outputs(k):
    return ...
""",
    """\
T < C_out K / (K + C_out), and T is a whole number: what if the right side is one too? For the second,
1/C_out has to be less than 1/10 - 1/k², which must be above 0. Whole numbers (`//`) make no rounding
errors.
""",
    """\
def largest_rank(c_out, taps):
    return (c_out * taps - 1) // (taps + c_out)


def fewest_outputs(k):
    if k * k <= 10:
        return None
    return 10 * k * k // (k * k - 10) + 1
""",
    answers,
)
