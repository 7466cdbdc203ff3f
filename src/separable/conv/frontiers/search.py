"""From one measuring pass to a network for each budget, each timed as a whole and its loss measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

from ..conversion.allowance import UnmetBudgetError
from ..conversion.goal import COST_WORDS, ConversionGoal
from ..conversion.network import Progress, is_slower
from ..conversion.records import Conversion, ConversionReport
from ..conversion.run import ConversionRun
from ..forms.table import is_dense
from .records import LeftOut, dominated

__all__ = ["Convertible", "Reached", "search"]

# Bytes of parameters of networks that are timed in turn; a runtime holds them two or three times.
_TOGETHER: Final = 1 << 29
_PARAMETER: Final = 4  # bytes of one

# The least budget that can be met is worth a network if it is no more than this fraction of the one before.
_WORTH_IT: Final = 0.95

# The change of the outputs, of their variance, beyond which nobody looks at smaller budgets.
_HOPELESS: Final = 0.5

_SLOWER: Final = "as a whole it is slower ({:.3g} -> {:.3g} ms)"


class Convertible(Protocol):
    """What a frontier asks of a model with its calibration data, whichever framework runs it."""

    @property
    def never_slower(self) -> bool:
        """Whether a conversion that is slower than the original is to be put back."""

    def conversions(self, goals: Sequence[ConversionGoal], progress: Progress) -> ConversionRun:
        """Return what converts it to goals of one cost."""

    def report(self, done: Conversion) -> ConversionReport:
        """Return all that is to be said of a conversion: its loss measured, all layers named."""

    def whole_milliseconds(self, conversions: Sequence[Conversion]) -> Sequence[float] | None:
        """Return times of the original and of each conversion, run in turn; None where that fails."""

    @property
    def runtime(self) -> str:
        """Where times are measured, as people write it."""


@dataclass(frozen=True)
class Reached:
    """A network of a frontier: its budget, its conversion, and what is said of it."""

    budget: float
    conversion: Conversion
    report: ConversionReport
    dominated: bool = False


def search(
    subject: Convertible, goals: Sequence[ConversionGoal], show: Progress, *, by_default: bool = False
) -> tuple[list[Reached], list[LeftOut]]:
    """Convert a network to each goal.

    Parameters
    ----------
    subject : Convertible
    goals : sequence of ConversionGoal
        Budgets of one cost, the largest first.
    show : callable
        Progress.
    by_default : bool, optional
        Whether nobody asked for just these budgets. Where one cannot be met, the least one that can is taken
        then, if that is worth it; and where most is lost, smaller ones are not tried.

    Returns
    -------
    reached : list of Reached
        The original, and a network for each budget; those that are equal once.
    left_out : list of LeftOut
    """
    original, tried, left_out = _converted(subject, goals, show, by_default)
    show(0, 0, "timing")
    whole, times = _times(subject, [done for _, done in tried])
    kept = [(1.0, original, None if whole is None else (whole, whole))]
    for (budget, done), pair in zip(tried, times, strict=True):
        if pair is not None and subject.never_slower and is_slower(*pair):
            left_out.append(LeftOut(budget, _SLOWER.format(*pair)))
        else:
            kept.append((budget, done, pair))
    show(0, 0, "scoring")
    reports = [_timed(subject.report(done), pair, subject.runtime) for _, done, pair in kept]
    reached = [
        Reached(budget, done, report, mark)
        for (budget, done, _), report, mark in zip(kept, reports, dominated(reports), strict=True)
    ]
    return reached, sorted(left_out, key=lambda left: -left.budget)


def _converted(
    subject: Convertible, goals: Sequence[ConversionGoal], show: Progress, by_default: bool
) -> tuple[Conversion, list[tuple[float, Conversion]], list[LeftOut]]:
    """Return the original, what was reached under which budget, and the budgets that give nothing new."""
    kept = _Tried()
    stage = ""

    def tell(done: int, total: int, step: str) -> None:
        show(done, total, f"{stage}{step}")

    with subject.conversions(goals, tell) as run:
        run.measure()
        last, hopeless = _WORTH_IT, ""
        for goal in goals:
            budget = goal.budget or 1.0
            stage = f"budget={budget:g}: "
            if hopeless:
                kept.left_out.append(LeftOut(budget, hopeless))
                run.leave_out()
                continue
            try:
                done = run.reach(goal)
                kept.add(budget, done)
                last = _WORTH_IT * budget
                if by_default and done.report.output_change > _HOPELESS:
                    hopeless = f"not tried: with {budget:g} most of the outputs' variance is lost already"
            except UnmetBudgetError as error:
                slower = "as a whole it is slower: " if error.least > 1 else ""
                reason = f"{slower}the cheapest forms leave {error.least:g} of the {COST_WORDS[goal.by]}"
                kept.left_out.append(LeftOut(budget, reason))
                if by_default and error.least <= last:
                    stage = f"budget={error.least:g}: "
                    kept.add(error.least, run.reach(replace(goal, budget=error.least)))
                last = 0.0
        stage = ""
        original = run.unchanged(goals[0])
        run.end()
    return original, kept.tried, kept.left_out


class _Tried:
    """What was reached under which budget, each network once, and the budgets that gave nothing new."""

    def __init__(self) -> None:
        self.tried: list[tuple[float, Conversion]] = []
        self.left_out: list[LeftOut] = []
        self._seen: dict[tuple[object, ...], float] = {}

    def add(self, budget: float, done: Conversion) -> None:
        ways = tuple((row.form, row.rank) for row in done.report.layers)
        if all(is_dense(row.form) for row in done.report.layers):
            self.left_out.append(LeftOut(budget, _why_nothing(done.report)))
        elif ways in self._seen:
            self.left_out.append(LeftOut(budget, f"the same network as for {self._seen[ways]:g}"))
        else:
            self._seen[ways] = budget
            self.tried.append((budget, done))


def _why_nothing(report: ConversionReport) -> str:
    if any(row.reason.startswith("put back") for row in report.layers):
        return "every layer was put back: none is faster here in another form"
    return "no layer changes"


def _times(
    subject: Convertible, conversions: Sequence[Conversion]
) -> tuple[float | None, list[tuple[float, float] | None]]:
    """Return the least time of the original; and of each conversion the original's beside it, and its own.

    All run in turn, in groups that fit into memory, the original in each.
    """
    groups: list[list[Conversion]] = [[]]
    room = float(_TOGETHER)
    for done in conversions:
        size = _PARAMETER * done.report.params_after
        if groups[-1] and size > room:
            groups.append([])
            room = _TOGETHER
        groups[-1].append(done)
        room -= size
    originals: list[float] = []
    pairs: list[tuple[float, float] | None] = []
    for group in groups:
        taken = subject.whole_milliseconds(group)
        if taken is None:
            return None, [None] * len(conversions)
        originals.append(taken[0])
        pairs += [(taken[0], after) for after in taken[1:]]
    return min(originals), pairs


def _timed(report: ConversionReport, pair: tuple[float, float] | None, runtime: str) -> ConversionReport:
    if pair is None:
        return report
    before, after = pair
    return replace(report, milliseconds_before=before, milliseconds_after=after, runtime=runtime)
