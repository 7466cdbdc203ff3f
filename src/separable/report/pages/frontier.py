"""A frontier as one page of HTML that needs nothing else: loss over time and MACs, and what layers became."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

from ..._base.words.printable import printable
from ..._base.words.quantities import plural
from ...conv.forms.table import is_dense
from ..text.audits import milliseconds
from ..text.conversions import change, count, fewer, rank_of
from ..text.frontiers import budget, columns, headline, loss, remarks
from .charts import frontier_charts
from .page import Cell, Heading, Row, rendered, short

if TYPE_CHECKING:
    from ...conv.frontiers.records import FrontierRecord, PointRecord

    Frontier = FrontierRecord[Any]

_LITTLE: Final = 0.01  # the loss that the first line of a page goes by
_EXPLAINED: Final = (
    "Diamond: the original. Bars: where the loss of other inputs lies, at 95 %. Hollow: another network is "
    "no slower and loses no more."
)


def page(frontier: Frontier) -> str:
    """Return the page: sums, loss over time and over MACs, and tables that sort.

    Parameters
    ----------
    frontier : FrontierRecord

    Returns
    -------
    str
    """
    points = _points(frontier)
    costs = ["milliseconds", "MACs"] if frontier.original.milliseconds is not None else ["MACs"]
    charts = [(cost, f"Loss over {cost}", _EXPLAINED, False) for cost in costs] if frontier.points else []
    headings, rows = _table(frontier)
    return rendered(
        "frontier.html",
        {
            "charts": _charts(frontier, costs, points) if frontier.points else {},
            "detailed": [],
            "datasets": {
                "points": points,
                "frontier": [point for point in points if not point["dominated"]],
            },
            "details": [],
            "first": 0,
        },
        title=headline(frontier),
        model=printable(frontier.model),
        verdict=_verdict(frontier),
        remarks=remarks(frontier),
        sums=_sums(frontier),
        charts=charts,
        headings=headings,
        rows=rows,
        layers=_layers(frontier),
    )


def _verdict(frontier: Frontier) -> str:
    """Return what one gets at best, in a sentence."""
    if not frontier.points:
        return "It does not pay here."
    best = frontier.best(_LITTLE)
    if best is frontier.original:
        return f"No other network loses {_LITTLE if frontier.metric else change(_LITTLE)} or less."
    gain = f"{fewer(frontier.original.macs, best.macs)} MACs"
    if best.speedup:
        gain = f"{best.speedup:.2f}x as fast"
    return f"{gain} for a loss of {loss(best)} (budget {best.budget:g})"


def _sums(frontier: Frontier) -> list[tuple[str, str, str]]:
    """Return what the original costs."""
    original = frontier.original
    sums = [("MACs of the original", f"{original.macs:,}", ""), ("parameters", f"{original.params:,}", "")]
    if original.milliseconds is not None:
        where = f"{frontier.runtime}, {plural(frontier.batch, 'input')}"
        sums.insert(0, ("ms of the original", milliseconds(original.milliseconds), where))
    if original.score is not None:
        beside = plural(original.score.inputs, "input")
        sums.append((printable(frontier.metric), f"{original.score.before:.4g}", beside))
    return sums


# -- what the script reads -------------------------------------------------------------------------------


def _points(frontier: Frontier) -> list[dict[str, Any]]:
    points = []
    for point in (frontier.original, *frontier.points):
        kind = "original" if point is frontier.original else "dominated" if point.dominated else "point"
        low, high = point.interval or (None, None)
        points.append(
            {
                "what": budget(point, frontier.original),
                "kind": kind,
                "dominated": point.dominated,
                "milliseconds": short(point.milliseconds),
                "MACs": point.macs,
                "loss": short(point.loss),
                "low": short(low),
                "high": short(high),
            }
        )
    return points


def _charts(frontier: Frontier, costs: list[str], points: list[dict[str, Any]]) -> dict[str, Any]:
    numbers = [point[name] for point in points for name in ("loss", "low") if point[name] is not None]
    what = f"drop of {printable(frontier.metric)}" if frontier.metric else "change of the outputs"
    return frontier_charts(costs, what, not frontier.metric, min(numbers) < 0)


# -- the tables ------------------------------------------------------------------------------------------


def _table(frontier: Frontier) -> tuple[list[Heading], list[Row]]:
    names, lines, numbers = columns(frontier)
    headings = [
        Heading(name, number=number or name == "95 % interval")
        for name, number in zip(names, numbers, strict=True)
    ]
    rows = []
    for point, line in zip((frontier.original, *frontier.points), lines, strict=True):
        order = _order(point)
        cells = [
            Cell(text, "n" if heading.number else "", order.get(name))
            for name, text, heading in zip(names, line, headings, strict=True)
        ]
        rows.append(Row("", None, cells))
    return headings, rows


def _order(point: PointRecord) -> dict[str, float]:
    """Return by column what its cells sort by."""
    least = -1.0
    score = point.score
    order: dict[str, float | None] = {
        "ms": point.milliseconds,
        "faster": point.speedup,
        "MACs": point.macs,
        "fewer": -point.macs,
        "params": point.params,
        "loss": least if math.isnan(point.loss) else point.loss,
        "95 % interval": point.interval[0] if point.interval else least,
    }
    if score is not None:
        order[printable(score.metric)] = score.after
    return {
        name: least if value is None or not math.isfinite(value) else value for name, value in order.items()
    }


def _layers(frontier: Frontier) -> tuple[list[Heading], list[Row]] | None:
    """Return the form and the rank of each layer that changes anywhere, for each network."""
    if not frontier.points:
        return None
    headings = [Heading("layer", number=False), Heading("MACs", number=True)]
    headings += [Heading(f"{point.budget:g}", number=False) for point in frontier.points]
    rows = []
    for place, layer in enumerate(frontier.original.report.layers):
        became = [point.report.layers[place] for point in frontier.points]
        if all(is_dense(row.form) for row in became):
            continue
        cells = [Cell(printable(layer.name)), Cell(count(layer.macs_before), "n", layer.macs_before)]
        cells += [Cell(f"{row.form} {rank_of(row)}".rstrip(), f"mark {row.form}") for row in became]
        rows.append(Row("", None, cells))
    return headings, rows
