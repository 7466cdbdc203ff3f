"""What a study is: it measures, judges the numbers by stated rules, and draws them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from matplotlib.figure import Figure

from docs.drawings.ink import Ink

Numbers: TypeAlias = dict[str, Any]  # JSON
Progress: TypeAlias = Callable[[str], None]
Outcome: TypeAlias = Literal["holds", "holds when", "fails here"]

FOLKLORE: Final = "folklore"
FEW: Final = 4  # cases that do not hold are named, where they are no more
AS_STATED: Final = "fails as stated"
RULE: Final = "holds: in all cases. holds when: in those that are named. fails here: in none."


@dataclass(frozen=True)
class Verdict:
    """What came of one claim.

    Attributes
    ----------
    claim : str
        As it is said.
    source : str
        Who says it, as Markdown.
    number : str
        What was measured here, in words.
    rule : str
        When a case counts as holding.
    outcome : {"holds", "holds when", "fails here"}
    condition : str
        Of "holds when": the cases that hold, and those that do not.
    """

    claim: str
    source: str
    number: str
    rule: str
    outcome: Outcome
    condition: str = ""

    def __str__(self) -> str:
        if self.condition.startswith(AS_STATED):
            return self.condition
        return f"{self.outcome}: {self.condition}" if self.condition else self.outcome


def judged(
    claim: str, source: str, number: str, rule: str, cases: Mapping[str, bool], stated: str | None = None
) -> Verdict:
    """Return the verdict that follows from what was measured in each case.

    Parameters
    ----------
    claim, source, number, rule : str
        As in `Verdict`.
    cases : mapping of str to bool
        Whether the claim holds, by its rule, for each case that was measured.
    stated : str, optional
        The case that the claim, as it is said, is about.

    Returns
    -------
    Verdict

    Raises
    ------
    ValueError
        If there is no case: what was not measured has no verdict.
    """
    if not cases:
        raise ValueError(f"no case was measured for the claim {claim!r}: measure at least one.")
    good = [name for name, held in cases.items() if held]
    bad = [name for name, held in cases.items() if not held]
    if not bad:
        return Verdict(claim, source, number, rule, "holds")
    if not good:
        return Verdict(claim, source, number, rule, "fails here")
    if stated in bad:
        others = [name for name in bad if name != stated]
        condition = f"{AS_STATED} ({stated}), holds for {_listed(good)}"
        condition += f", not for {_listed(others)}" if others else ""
    else:
        condition = f"{len(good)} of {len(cases)}: {_listed(good)}"
        condition += f"; not {_listed(bad)}" if len(bad) <= FEW else ""
    return Verdict(claim, source, number, rule, "holds when", condition)


def _listed(names: list[str]) -> str:
    return ", ".join(names)


@dataclass(frozen=True)
class Study:
    """A question about separable convolution, and how it is answered.

    Attributes
    ----------
    name : str
        Of its files.
    title : str
        Of its page.
    reader : str
        Whom the page is for: ends the sentence "For those who ...".
    measured : str
        What is measured, in one sentence.
    measure : callable
        ``measure(small, progress)`` returns the numbers.
    judge : callable
        ``judge(numbers)`` returns a verdict for each claim, the main one first.
    tables : callable
        ``tables(numbers)`` returns the numbers as Markdown.
    draw : callable
        ``draw(ink, numbers)`` returns the figure.
    caption : str
        What the figure shows.
    timed : bool
        Whether the numbers are times: these depend on the machine.
    """

    name: str
    title: str
    reader: str
    measured: str
    measure: Callable[[bool, Progress], Numbers]
    judge: Callable[[Numbers], list[Verdict]]
    tables: Callable[[Numbers], str]
    draw: Callable[[Ink, Numbers], Figure]
    caption: str
    timed: bool = False


def table(headings: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table: the first column to the left, the others to the right."""
    rules = ["---", *["---:"] * (len(headings) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [headings, rules, *rows])
