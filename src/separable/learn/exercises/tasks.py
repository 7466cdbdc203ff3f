"""Tasks that separate, and tasks that do not."""

from __future__ import annotations

import numpy as np

from ..._base.types import Array
from ...conv import witness
from ..answers import Answers
from ..exercise import Exercise

_LINE = np.zeros((5, 5))
_LINE[2] = 1
_EDGE = np.array([[1.0, 2.0, 1.0], [0.0, 0.0, 0.0], [-1.0, -2.0, -1.0]])
TASKS: dict[str, Array] = {
    "two edges": np.stack([_EDGE, _EDGE.T])[:, None],
    "three strengths": np.multiply.outer([1.0, -2.0, 0.5], _EDGE)[:, None],
    "one coloured cross": np.stack([_LINE.T, _LINE])[None],
    "two coloured crosses": np.array([[_LINE.T, _LINE], [_LINE, _LINE.T]]),
}
_WHY = {
    "two edges": "it does not: the only input has one filter, and both outputs are multiples of it.",
    "three strengths": "it does: the outputs are multiples of one filtered input, as mixing makes them.",
    "one coloured cross": "it does, whatever is said of it: with one output each input needs but one filter.",
    "two coloured crosses": "it does not: each input has to be filtered in two ways, for two outputs.",
}


def answers(given: Answers) -> None:
    """Judge which tasks separate, the least error, and the terms that it takes."""
    separates = given.given("separates")
    if separates is not None:
        for name, weights in TASKS.items():
            _one_task(given, separates, name, witness(weights, 1).bound == 0)
    weights = TASKS["two edges"]
    bound, norm = witness(weights, 1).bound, float(np.linalg.norm(weights))
    given.number(
        "least_error",
        bound / norm,
        [
            (bound, "that is the norm of the difference; divide it by the norm of the answer."),
            ((bound / norm) ** 2, "that is the part of the squares; take the root."),
            (1 - bound / norm, "that is what is right; asked is what is wrong."),
            (100 * bound / norm, "a fraction is asked for, not per cent."),
            (0.0, "that is the other order, pointwise first: it has one filter for each *output*."),
        ],
        tolerance=5e-3,
    )
    given.number(
        "terms",
        2,
        [
            (1, "one filter for each input is what it fails with."),
            (4, "fewer are enough: each input needs two filters."),
        ],
    )


def _one_task(given: Answers, separates: object, name: str, right: bool) -> None:
    key = f"separates[{name!r}]"
    value = separates.get(name, ...) if isinstance(separates, dict) else ...
    if not isinstance(value, (bool, np.bool_)):
        given.wrong(key, "say True or False.")
    else:
        given.judge(key, None if bool(value) is right else _WHY[name])


EXERCISE = Exercise(
    6,
    "tasks",
    "A task that separates, and one that does not",
    """\
Each of these dense layers is a task, its weights (outputs, inputs, height, width):

- *two edges*: one input; horizontal edges in one output, vertical ones in another.
- *three strengths*: one input; the same edges in three outputs, in other strengths.
- *one coloured cross*: two inputs, red and blue; one output that looks for an upright red line across a
  level blue one.
- *two coloured crosses*: that output, and one that looks for the same with the colours swapped.

Which of them can a depthwise separable layer (one filter for each input, then a pointwise convolution) do
exactly?

For *two edges*: how far is the nearest separable layer from it, as a fraction of the norm of the weights?
And how many filters for each input (terms) do *two coloured crosses* take, to be exact?
""",
    """\
import numpy as np

import separable as sp

EDGE = np.array([[1, 2, 1], [0, 0, 0], [-1, -2, -1]])
LINE = np.zeros((5, 5))
LINE[2] = 1
TASKS = {
    "two edges": np.stack([EDGE, EDGE.T])[:, None],
    "three strengths": np.multiply.outer([1, -2, 0.5], EDGE)[:, None],
    "one coloured cross": np.stack([LINE.T, LINE])[None],
    "two coloured crosses": np.array([[LINE.T, LINE], [LINE, LINE.T]]),
}

separates = {  # True or False
    "two edges": ...,
    "three strengths": ...,
    "one coloured cross": ...,
    "two coloured crosses": ...,
}
least_error = ...
terms = ...
""",
    """\
For each input channel, write the kernels of all outputs as rows of a matrix: one filter is enough exactly
if its rank is one. `sp.conv.witness(weights, rank=1)` proves it either way, and its `bound` is what the
nearest layer is off by.
""",
    """\
import numpy as np

import separable as sp

separates = {
    "two edges": False,
    "three strengths": True,
    "one coloured cross": True,
    "two coloured crosses": False,
}
edge = np.array([[1, 2, 1], [0, 0, 0], [-1, -2, -1]])
edges = np.stack([edge, edge.T])[:, None]
least_error = sp.conv.witness(edges, rank=1).bound / np.linalg.norm(edges)
terms = 2
""",
    answers,
)
