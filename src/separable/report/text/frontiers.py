"""What a network loses over what it costs, as plain text."""

from __future__ import annotations

import math
import textwrap
from typing import Any, Final

from ..._base.words import html as _html
from ..._base.words.printable import printable
from ..._base.words.quantities import plural
from ...conv.conversion.goal import COST_WORDS
from ...conv.frontiers.records import FrontierRecord, PointRecord
from .audits import milliseconds
from .columns import aligned
from .conversions import change, count, unit

__all__ = ["budget", "columns", "headline", "interval", "loss", "notebook", "remarks", "table"]

_WIDE: Final = 79  # characters of a line
_METRIC: Final = 12  # characters of a metric's name at the head of a column
_MARK: Final = "*"


def table(frontier: FrontierRecord[Any]) -> str:
    """Return a line for each network, then what the loss is, and what was left out.

    Parameters
    ----------
    frontier : FrontierRecord

    Returns
    -------
    str
    """
    lines = [*_folded(headline(frontier)), "", *aligned(*columns(frontier)), ""]
    return "\n".join([*lines, *(line for remark in remarks(frontier) for line in _folded(remark))])


def notebook(frontier: FrontierRecord[Any]) -> str:
    """Return the same as HTML for a notebook.

    Parameters
    ----------
    frontier : FrontierRecord

    Returns
    -------
    str
    """
    parts = (_html.table(*columns(frontier)), _html.lines(remarks(frontier)))
    return _html.block(headline(frontier), *parts)


def headline(frontier: FrontierRecord[Any]) -> str:
    """Return what it is of, in one line."""
    name = printable(frontier.model) or "a network"
    if frontier.original.milliseconds is None:
        return f"{name}: loss over MACs; times were not measured"
    return f"{name}: loss over time in {frontier.runtime}, {plural(frontier.batch, 'input')}"


def columns(frontier: FrontierRecord[Any]) -> tuple[list[str], list[list[str]], list[bool]]:
    """Return headings, a row for each network, and which columns are numbers."""
    timed = frontier.original.milliseconds is not None
    judged = frontier.metric
    headings = ["budget", *(["ms", "faster", "MACs"] if timed else ["MACs", "fewer"]), "params"]
    headings += [printable(judged)[:_METRIC], "loss"] if judged else ["loss"]
    rows = [
        _row(point, frontier.original, timed, bool(judged)) for point in (frontier.original, *frontier.points)
    ]
    numbers = [False, *[True] * (len(headings) - 1), False]
    return [*headings, "95 % interval"], rows, numbers


def _row(point: PointRecord, original: PointRecord, timed: bool, judged: bool) -> list[str]:
    first = point is original
    speedup = "" if first or point.speedup is None else f"{point.speedup:.2f}x"
    fewer = "" if first or not point.macs else f"{original.macs / point.macs:.1f}x"
    macs = count(point.macs)
    return [
        budget(point, original) + (f" {_MARK}" if point.dominated else ""),
        *([milliseconds(point.milliseconds), speedup, macs] if timed else [macs, fewer]),
        count(point.params),
        *(["" if point.score is None else f"{point.score.after:.4g}"] if judged else []),
        "" if first else loss(point),
        "" if first else interval(point),
    ]


def budget(point: PointRecord, original: PointRecord) -> str:
    """Return what a network is called: its budget, or the original."""
    return "original" if point is original else f"{point.budget:g}"


def loss(point: PointRecord) -> str:
    """Return what a network loses; "-" where that was not measured."""
    if math.isnan(point.loss):
        return "-"
    return change(point.loss) if point.score is None else f"{point.loss:.2g}"


def interval(point: PointRecord) -> str:
    """Return where its loss on other inputs lies; nothing where that cannot be told."""
    if point.interval is None:
        return ""
    low, high = (change(end) if point.score is None else f"{end:.2g}" for end in point.interval)
    return f"{low} to {high}"


def remarks(frontier: FrontierRecord[Any]) -> list[str]:
    """Return what the loss is of, what a mark means, what was left out and why, and notes."""
    said = [_loss_of(frontier)] if frontier.points else []
    if any(point.dominated for point in (frontier.original, *frontier.points)):
        cost = "takes no longer" if frontier.original.milliseconds is not None else "costs no more"
        said.append(f"{_MARK} another one {cost} and loses no more")
    said += [
        f"{point.budget:g}: {point.report.unmeasured}"
        for point in frontier.points
        if point.score is None and point.report.unmeasured
    ]
    if not frontier.points:
        said.append("it does not pay here: none of the budgets gives another network")
    reasons: dict[str, list[str]] = {}
    for left in frontier.left_out:
        reasons.setdefault(left.reason, []).append(f"{left.budget:g}")
    said += [f"left out {', '.join(budgets)}: {reason}" for reason, budgets in reasons.items()]
    return [*said, *map(printable, frontier.notes)]


def _loss_of(frontier: FrontierRecord[Any]) -> str:
    """Return what the loss is and which inputs it was measured on, in words."""
    point = frontier.points[0]
    of = f"budget: of the {COST_WORDS[frontier.by]}; loss: "
    if point.score is None:
        return f"{of}change of the outputs, {unit(point.report)}, on {point.report.measured_on}"
    against = "the original's outputs" if point.score.targets == "outputs" else "labels"
    where = " left out of the fit" if point.score.held_out else ", which it was fitted to"
    inputs = plural(point.score.inputs, "input")
    return f"{of}by how much {printable(frontier.metric)} got worse, against {against}, on {inputs}{where}"


def _folded(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDE, subsequent_indent="  ", break_on_hyphens=False)
