"""Convert a trained network."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from ... import onnx
from .. import material
from ..answers import Answers
from ..exercise import Exercise

BUDGET: Final = 0.25
# Squared change of the outputs over their variance, on other squares: 0.003 where all 128 inputs calibrated,
# 0.03 with 8 of them, 9 with white noise (this network, this budget).
MUCH: Final = 0.02


def answers(given: Answers) -> None:
    """Judge the conversion by what its report says, and by what it gives for other inputs."""
    model = material.network()
    result = given.given("result")
    if result is not None:
        given.judge("result", _result_fault(result, model))
    if not isinstance(result, onnx.Separation):
        for name in ("macs_before", "macs_after", "change"):
            given.wrong(name, "that follows from `result`, which comes first.")
        return
    report = result.report
    before, after, change = report.macs_before, report.macs_after, report.output_change
    given.number(
        "macs_before",
        before,
        [(after, "those are of the converted network."), (2 * before, "those are FLOPs: two for each MAC.")],
    )
    given.number(
        "macs_after",
        after,
        [
            (before, "those are of the original."),
            (after / before, "that is the fraction which is left; asked are the MACs."),
            (BUDGET * before, "that is the budget; the conversion may take less. The report says."),
        ],
    )
    given.number(
        "change",
        change,
        [
            (100 * change, "that is in per cent; asked is the fraction."),
            (math.sqrt(change), "that is the root; asked is the *squared* change over the variance."),
            (1 - change, "that is what is kept; asked is what has changed."),
        ],
        tolerance=1e-6,
    )


def _result_fault(result: Any, model: Any) -> str | None:
    """Return what is wrong with a conversion."""
    if not isinstance(result, onnx.Separation):
        return f"the result of sp.onnx.separate is asked for, and this is a {type(result).__name__}."
    report, counted = result.report, onnx.audit(model).macs
    if report.macs_before != counted:
        return (
            f"it is of another network: MODEL has {counted:,} MACs, and this one had {report.macs_before:,}."
        )
    left = report.macs_after / report.macs_before
    if left > 1.02 * BUDGET + 0.01:
        return (
            f"{left:.0%} of the MACs are left, and {BUDGET:.0%} are asked for: pass budget={BUDGET}, "
            'by="macs" (by itself '
            "the budget is of the time), and never_slower=False, as layers that do not pay here are put back."
        )
    x = material.squares(128, seed=1)
    wanted, got = material.reference(model, x), material.reference(result.model, x)
    change = float(np.square(got - wanted).mean() / np.square(wanted - wanted.mean(axis=0)).mean())
    if change > MUCH:
        return (
            f"on other squares its outputs change by {change:.0%} of their variance, much more than they "
            "need to: "
            "calibrate on all of INPUTS, which are what the network will see."
        )
    return None


EXERCISE = Exercise(
    7,
    "conversion",
    "Convert a network",
    f"""\
MODEL is a small trained network of dense convolutions, as an ONNX model; it tells textures apart, squares
of 20 x 20 pixels. INPUTS are 128 squares, without labels.

Convert it, so that a quarter of its MACs is left: `sp.onnx.separate` with `budget={BUDGET}`, `by="macs"`
and `never_slower=False` (otherwise layers that are no faster on your machine are put back, and more is
left).

Then read in the report, `print(result.report)`, how many MACs the network took before and takes after,
and by how much its outputs change: the squared change over the variance, a fraction.
""",
    """\
import separable as sp
from separable.learn import material

MODEL = material.network()
INPUTS = material.squares(128, seed=0)

result = ...
macs_before = ...
macs_after = ...
change = ...
""",
    """\
`result.report` has `macs_before`, `macs_after` and `output_change`. That change was measured on one in
eight of the inputs, which nothing was fitted to.
""",
    f"""\
import separable as sp
from separable.learn import material

MODEL = material.network()
INPUTS = material.squares(128, seed=0)

result = sp.onnx.separate(MODEL, INPUTS, budget={BUDGET}, by="macs", never_slower=False)
macs_before = result.report.macs_before
macs_after = result.report.macs_after
change = result.report.output_change
""",
    answers,
    needs="onnx",
)
