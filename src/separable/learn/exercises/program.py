"""Run a network."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from ... import engine
from .. import material
from ..answers import Answers, number_fault, shape_of
from ..exercise import Exercise

# What a call of the check takes: the first one prepares, others are disturbed, as on any machine.
FIRST, QUIET, DISTURBED = 0.2, 0.02, 0.06  # seconds
CLOSE: Final = 1e-4


def answers(given: Answers) -> None:
    """Judge the program, how far it is from the reference, and a function that times calls."""
    program = given.given("program")
    x = material.squares(32, seed=2)
    wanted = material.reference(material.network(), x)
    if program is not None:
        given.judge("program", _program_fault(program, x, wanted))
    value = given.given("difference")
    if value is not None:
        given.judge("difference", _difference_fault(value, float(np.abs(wanted).max())))
    function = given.function("milliseconds")
    if function is not None:
        given.judge("milliseconds", _timing_fault(function))


def _program_fault(program: Any, x: Any, wanted: Any) -> str | None:
    if not isinstance(program, engine.Program):
        return f"what sp.engine.load returns is asked for, and this is a {type(program).__name__}."
    got = np.asarray(program(x))
    if got.shape != wanted.shape or np.abs(got - wanted).max() > CLOSE * np.abs(wanted).max():
        return "it gives something else than MODEL: load MODEL itself."
    return None


def _difference_fault(value: Any, largest: float) -> str | None:
    """Return what is wrong with a relative difference, that of rounding, which depends on the machine."""
    if shape_of(value) != ():
        return "one number is asked for: the largest of all differences."
    fault = number_fault(value, 0.0, [])
    if fault is not None and not fault.endswith(("more.", "less.")):
        return fault
    if float(value) < 0:
        return "it is below 0: take absolute values before the largest."
    if float(value) > CLOSE:
        return (
            f"{float(value):.2g} is more than rounding: compare both on the same X, element by element, "
            "and divide by the "
            f"largest output ({largest:.1f}), not by each one."
        )
    return None


def _timing_fault(function: Callable[[Any], Any]) -> str | None:
    """Time a call of known length, the first one longer, every third disturbed."""
    calls: list[float] = []

    def call() -> None:
        seconds = FIRST if not calls else DISTURBED if len(calls) % 3 == 0 else QUIET
        calls.append(seconds)
        time.sleep(seconds)

    got = function(call)
    fault = "it returns nothing yet." if got is None or got is ... else number_fault(got, 0.0, [])
    if fault is not None and not fault.endswith(("more.", "less.")):
        return fault
    if len(calls) < 5:
        return f"it made {len(calls)} calls; one in three is disturbed here: make 10 or more."
    milliseconds = float(got)
    if 0.9 * QUIET <= milliseconds <= 1.1 * FIRST * len(calls) and milliseconds < 1000 * QUIET / 4:
        return f"{milliseconds:.3g} are seconds; milliseconds are asked for."
    if milliseconds > 900 * sum(calls):
        return "that is the time of all calls together; one is asked for."
    mean = 1000 * sum(calls) / len(calls)
    if milliseconds > 1000 * QUIET * 1.5:
        return (
            f"{milliseconds:.0f} ms; a quiet call takes {1000 * QUIET:.0f}. The mean ({mean:.0f} here) "
            "counts the first "
            "call, which prepares, and what disturbs the others: take the least."
        )
    if milliseconds < 900 * QUIET:
        return f"{milliseconds:.3g} ms is less than any call took ({1000 * QUIET:.0f} ms)."
    return None


EXERCISE = Exercise(
    8,
    "program",
    "Run it",
    """\
`sp.engine.load(MODEL)` makes one native program of a network; `program(X)` runs it.

Load MODEL, and compare it with ONNX Runtime, `material.reference(MODEL, X)`: the largest absolute
difference, divided by the largest absolute output of the reference.

Then write `milliseconds(call)`, which calls `call()` a number of times and returns how long one call
takes *when nothing disturbs it*, in milliseconds. The first call may prepare something, and other
programs run on your machine too. With it you can time `program(X)`, and the network that you converted.
""",
    """\
import time

import numpy as np

import separable as sp
from separable.learn import material

MODEL = material.network()
X = material.squares(64, seed=3)

program = ...
difference = ...


def milliseconds(call):
    return ...


# print(milliseconds(lambda: program(X)), "ms for 64 squares")
""",
    """\
`time.perf_counter()` before and after each call, 10 or more times. Which of the times was not disturbed?
The least one.
""",
    """\
import time

import numpy as np

import separable as sp
from separable.learn import material

MODEL = material.network()
X = material.squares(64, seed=3)

program = sp.engine.load(MODEL)
wanted = material.reference(MODEL, X)
difference = np.abs(program(X) - wanted).max() / np.abs(wanted).max()


def milliseconds(call):
    times = []
    for _ in range(10):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return 1000 * min(times)
""",
    answers,
    needs="onnx",
)
