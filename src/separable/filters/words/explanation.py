"""Why a plan runs by its method: the predicted cost of every method, or what rules it out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from ..._base.words import html as _html
from ..._base.words.quantities import by, in_bytes, in_seconds, plural
from ...kernel.value import ErrorBounds
from ...methods import METHODS
from ...methods.method import Ask, Refusal
from ..core import prepare
from ..planner import considered, weighed

_COMPARED: Final = "compared: geometric mean of 1 and 4 threads, transforms 15 % more, on any threads"


class Candidate(NamedTuple):
    """One method for a kernel; where it does not apply, `reason` says why and the other figures are None.

    Attributes
    ----------
    method : str
    reason : str
        Empty for a method that may be chosen.
    seconds : float or None
        Predicted time of one call.
    error : ErrorBounds or None
        Of the kernel that would run.
    terms, macs : int or None
        As a plan's.
    scratch_bytes : int or None
        Scratch memory beside the arrays.
    compared : float or None
        The criterion, in seconds: the geometric mean of the times predicted for 1 and for 4 threads, 15 %
        longer for transforms. It does not depend on the threads of the plan.
    """

    method: str
    reason: str = ""
    seconds: float | None = None
    error: ErrorBounds | None = None
    terms: int | None = None
    macs: int | None = None
    scratch_bytes: int | None = None
    compared: float | None = None


@dataclass(frozen=True, slots=True, repr=False)
class Explanation:
    """The methods for a kernel, in the order in which they are chosen; print it to read them.

    Attributes
    ----------
    method : str
        The method that the plan runs.
    candidates : tuple of Candidate
        Those that may be chosen, sorted by `compared`: the first is chosen unless another is named. Then the
        others.
    threads : int
        The number that the predicted times are for.
    source : str
        The source of the rates that predict the times.
    title : str
        Kernel, shape and dtype in words.
    """

    method: str
    candidates: tuple[Candidate, ...]
    threads: int
    source: str
    title: str

    def __str__(self) -> str:
        names = max(len(candidate.method) for candidate in self.candidates)
        head = ("predicted", "compared", "error", "memory", "")
        figures = [_figures(candidate) for candidate in self.candidates]
        widths = [max(len(row[n]) for row in (head, *figures) if row) for n in range(4)]
        lines = [f"{self.title}, {plural(self.threads, 'thread')}", _line("", "method", names, head, widths)]
        for candidate, row in zip(self.candidates, figures, strict=True):
            mark = "*" if candidate.method == self.method else ""
            if row:
                lines.append(_line(mark, candidate.method, names, row, widths))
            else:
                lines.append(f"  {mark:1} {candidate.method:{names}}  {candidate.reason}")
        return "\n".join([*lines, f"  {_COMPARED}", f"  rates {self.source}"])

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        rows = [(item.method, *(_figures(item) or (item.reason,))) for item in self.candidates]
        chosen = [n for n, item in enumerate(self.candidates) if item.method == self.method]
        numbers = (False, True, True, True, True, False)
        return _html.block(
            f"{self.title}, {plural(self.threads, 'thread')}: {self.method}",
            _html.table(("method", "predicted", "compared", "error", "memory", ""), rows, numbers, chosen),
            _html.lines([_COMPARED, f"rates {self.source}"]),
        )


def explain(ask: Ask, method: str, threads: int) -> Explanation:
    """Return the explanation of a plan that runs by `method`, with every other method as a candidate."""
    ranked = [_candidate(ask, name, name == method, threads) for name in METHODS]
    candidates = [candidate for _, candidate in sorted(ranked, key=lambda pair: pair[0])]
    setting = ask.setting
    title = f"{by(setting.taps, 'x')} kernel on {setting.shape} {setting.dtype.name}"
    return Explanation(method, tuple(candidates), threads, setting.rates.source, title)


def _candidate(ask: Ask, method: str, named: bool, threads: int) -> tuple[float, Candidate]:
    """Return a method's criterion and its candidate."""
    # A named method runs even where it would not be chosen.
    choice = METHODS[method].offer(ask) if named else considered(ask, method)
    if isinstance(choice, Refusal):
        return math.inf, Candidate(method, choice.reason)
    setting = ask.setting
    form, _, error = choice.kernel.settled(ask.kernel, setting, choice.error)  # as it would run
    jobs = () if setting.samples == 0 else prepare(form, setting)
    scratch = max((job.scratch_bytes(threads) for job in jobs), default=0)
    measure = weighed(choice)
    return measure, Candidate(
        method,
        "",
        choice.cost.seconds(threads),
        form.error_in(setting.computed, setting.axes, error),
        choice.terms,
        choice.macs,
        scratch,
        measure,
    )


def _figures(candidate: Candidate) -> tuple[str, ...] | None:
    """Return times, error, memory and operations as text; None for a method that does not run."""
    _, _, seconds, error, terms, macs, scratch, compared = candidate
    if seconds is None or error is None or scratch is None or compared is None:
        return None
    told = f"{plural(terms, 'term')}, " if terms else ""
    return (
        in_seconds(seconds),
        in_seconds(compared),
        f"{error.relative_l1:.1g}",
        in_bytes(scratch),
        f"{told}{macs} MACs per sample",
    )


def _line(mark: str, name: str, names: int, row: Sequence[str], widths: Sequence[int]) -> str:
    *figures, note = row
    cells = "  ".join(figure.rjust(width) for figure, width in zip(figures, widths, strict=True))
    return f"  {mark:1} {name:{names}}  {cells}  {note}".rstrip()
