"""A conversion as one page of HTML that needs nothing else: before and after, and what else was possible."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

from ..._base.words.printable import printable
from ..._base.words.quantities import plural
from ...conv.forms.table import FORMS, is_dense
from ..text.conversions import by_output, change, fewer, rank_of, reasons, score, unit
from .charts import conversion_charts, conversion_details
from .page import Cell, Heading, Row, axis_labels, rendered, short

if TYPE_CHECKING:
    from ...conv.conversion.records import ConversionReport, ConvertedLayer
    from ...conv.scores.records import Score

# What a budget is of, in words.
_COSTS: Final = {"macs": "MACs", "params": "parameters", "time": "milliseconds"}


def page(report: ConversionReport) -> str:
    """Return the page: sums before and after, charts, the details of a layer, and a table that sorts.

    Parameters
    ----------
    report : ConversionReport

    Returns
    -------
    str
    """
    charts = []
    if report.layers:
        charts += [
            (
                "layers",
                "Before and after",
                "Behind, what each layer cost; in front, what it costs now. A click shows its details.",
                True,
            ),
            (
                "errors",
                "What each layer lost",
                "Mean squared error of its output, over the output's variance.",
                not report.frontier,
            ),
        ]
    if report.frontier:
        charts.append(
            (
                "frontier",
                "What other budgets would come to",
                "Line: the change of the outputs that is expected. Diamond: this conversion, as measured.",
                False,
            )
        )
    changed = sum(not is_dense(layer.form) for layer in report.layers)
    return rendered(
        "conversion.html",
        _data(report),
        title=printable(
            f"{report.model or 'Conversion'}: {fewer(report.macs_before, report.macs_after)} MACs"
        ),
        model=printable(report.model),
        remarks=[
            f"{changed} of {len(report.layers)} layers in separable form",
            *([report.aim] if report.aim else []),
            *([] if report.score is None else [score(report.score)]),
            *by_output(report),
            *map(printable, report.notes),
        ],
        sums=_sums(report),
        forms=_forms(report),
        charts=charts,
        names=[(place, printable(layer.name)) for place, layer in enumerate(report.layers)],
        details=[
            (
                "options",
                "What it could have been",
                "Each form and rank that was tried, on the calibration data; a ring marks what was taken.",
            )
        ],
        headings=_headings(report),
        rows=_rows(report),
        reasons=[(reason, len(names)) for reason, names in reasons(report.layers).items()],
    )


def _sums(report: ConversionReport) -> list[tuple[str, str, str]]:
    sums = [
        (
            "MACs",
            f"{report.macs_before:,} \N{RIGHTWARDS ARROW} {report.macs_after:,}",
            fewer(report.macs_before, report.macs_after),
        ),
        (
            "parameters",
            f"{report.params_before:,} \N{RIGHTWARDS ARROW} {report.params_after:,}",
            fewer(report.params_before, report.params_after),
        ),
    ]
    if report.milliseconds_before and report.milliseconds_after:
        sums.append(_times(f"ms, {report.runtime}", report.milliseconds_before, report.milliseconds_after))
    before, after = _milliseconds(report)
    if before and after:
        sums.append(_times("ms of the layers", before, after))
    if report.score is not None:
        sums.append(_score(report.score))
    return [*sums, _change(report)]


def _times(name: str, before: float, after: float) -> tuple[str, str, str]:
    return name, f"{before:.3g} \N{RIGHTWARDS ARROW} {after:.3g}", f"{before / after:.2f}x as fast"


def _score(measured: Score) -> tuple[str, str, str]:
    if math.isnan(measured.drop):
        return printable(measured.metric), "\N{EN DASH}", "not measured"
    text = f"{measured.before:.4g} \N{RIGHTWARDS ARROW} {measured.after:.4g}"
    return printable(measured.metric), text, f"{plural(measured.inputs, 'input')}"


def _change(report: ConversionReport) -> tuple[str, str, str]:
    """Return the change of the outputs: a name, the number, and what it is of."""
    name = "change of the outputs"
    if report.unmeasured or not report.changed:
        return name, "\N{EN DASH}", report.unmeasured or "no layer is replaced: outputs as before"
    words = [unit(report), report.measured_on]
    if report.interval is not None:
        low, high = map(change, report.interval)
        words.insert(1, f"95 % interval {low} to {high}")
    return name, change(report.output_change), "; ".join(words)


def _milliseconds(report: ConversionReport) -> tuple[float, float]:
    """Return what the layers took and take, where that was measured."""
    return (
        sum(layer.milliseconds_before or 0.0 for layer in report.layers),
        sum(layer.milliseconds_after or 0.0 for layer in report.layers),
    )


def _forms(report: ConversionReport) -> list[tuple[str, float, str]]:
    """Return a style, a share in per cent, and words for each form, by the MACs that are left in it."""
    left: dict[str, int] = {}
    for layer in report.layers:
        left[layer.form] = left.get(layer.form, 0) + layer.macs_after
    whole = max(sum(left.values()), 1)
    counts = {form: sum(layer.form == form for layer in report.layers) for form in left}
    shares = {form: 100 * macs / whole for form, macs in sorted(left.items(), key=lambda item: -item[1])}
    return [
        (
            form,
            share,
            f"{form}: {plural(counts[form], 'layer')}, {share:.1f} % of what is left",
        )
        for form, share in shares.items()
    ]


# -- what the script reads -------------------------------------------------------------------------------


def _data(report: ConversionReport) -> dict[str, Any]:
    measures = ["MACs", "parameters"]
    if any(layer.milliseconds_after is not None for layer in report.layers):
        measures.append("milliseconds")
    forms = [form for form in FORMS if any(layer.form == form for layer in report.layers)]
    charts = conversion_charts(measures, forms)
    if not report.frontier:
        del charts["frontier"]
    details = conversion_details(_COSTS[report.by])
    sizes = range(len(report.layers))
    labels = axis_labels([printable(layer.name) for layer in report.layers])
    return {
        "charts": charts | details if report.layers else {},
        "detailed": list(details),
        "datasets": {
            "layers": [
                {"label": labels[place], **_told(place, layer)} for place, layer in enumerate(report.layers)
            ],
            "frontier": [{"cost": short(cost), "error": short(error)} for cost, error in report.frontier],
            "chosen": [_chosen(report)],
        },
        "details": [_detail(layer) for layer in report.layers],
        "first": max(sizes, key=lambda place: _saved(report.layers[place]), default=0),
    }


def _saved(layer: ConvertedLayer) -> int:
    return layer.macs_before - layer.macs_after


def _told(place: int, layer: ConvertedLayer) -> dict[str, Any]:
    return {
        "place": place,
        "layer": printable(layer.name),
        "form": layer.form,
        "rank": rank_of(layer),
        "MACs before": layer.macs_before,
        "MACs after": layer.macs_after,
        "parameters before": layer.params_before,
        "parameters after": layer.params_after,
        "milliseconds before": short(layer.milliseconds_before),
        "milliseconds after": short(layer.milliseconds_after),
        "error": short(layer.error),
        "reason": printable(layer.reason),
    }


def _chosen(report: ConversionReport) -> dict[str, Any]:
    """Return where it came out: what is left of the convolutions' cost, and the measured change."""
    layers = report.layers
    before, after = {
        "macs": (sum(layer.macs_before for layer in layers), sum(layer.macs_after for layer in layers)),
        "params": (sum(layer.params_before for layer in layers), sum(layer.params_after for layer in layers)),
        "time": _milliseconds(report),
    }[report.by]
    return {
        "what": "this conversion",
        "cost": short(after / before) if before else None,
        "error": short(report.output_change) if report.changed else None,
    }


def _detail(layer: ConvertedLayer) -> dict[str, Any]:
    """Return what is shown of one layer: facts in words, and everything that was tried."""
    facts = [
        ("form", f"{layer.form} {rank_of(layer)}".rstrip()),
        ("MACs", f"{layer.macs_before:,} \N{RIGHTWARDS ARROW} {layer.macs_after:,}"),
        ("parameters", f"{layer.params_before:,} \N{RIGHTWARDS ARROW} {layer.params_after:,}"),
        *([] if math.isnan(layer.error) else [("error", change(layer.error))]),
    ]
    if layer.milliseconds_before is not None and layer.milliseconds_after is not None:
        times = f"{layer.milliseconds_before:.3g} \N{RIGHTWARDS ARROW} {layer.milliseconds_after:.3g}"
        facts.append(("milliseconds", times))
    if layer.reason:
        facts.append(("stayed dense", printable(layer.reason)))
    rows = [
        (
            option.form,
            option.rank,
            short(option.cost),
            short(option.error),
            short(option.effect),
            option.form == layer.form and (is_dense(option.form) or option.rank == layer.rank),
        )
        for option in layer.options
    ]
    columns = ["form", "rank", "cost", "error", "effect", "taken"]
    return {"facts": facts, "data": {"options": {"columns": columns, "rows": rows if len(rows) > 1 else []}}}


# -- the table -------------------------------------------------------------------------------------------


def _headings(report: ConversionReport) -> list[Heading]:
    timed = any(layer.milliseconds_after is not None for layer in report.layers)
    headings = [Heading("layer", number=False), Heading("form", number=False), Heading("rank", number=True)]
    headings += [Heading(name, number=True) for name in ("MACs", "MACs now")]
    headings += [Heading("", number=False)]
    headings += [Heading(name, number=True) for name in ("parameters", "parameters now")]
    if timed:
        headings += [Heading(name, number=True) for name in ("ms", "ms now")]
    return [*headings, Heading("error", number=True), Heading("why it stayed dense", number=False)]


def _rows(report: ConversionReport) -> list[Row]:
    timed = any(layer.milliseconds_after is not None for layer in report.layers)
    rows = []
    for place, layer in enumerate(report.layers):
        ranks = (layer.rank,) if isinstance(layer.rank, int) else layer.rank
        cells = [
            Cell(printable(layer.name)),
            Cell(layer.form, "mark"),
            Cell(rank_of(layer), "n", sum(ranks) / max(len(ranks), 1)),
            Cell(f"{layer.macs_before:,}", "n", layer.macs_before),
            Cell(f"{layer.macs_after:,}", "n", layer.macs_after),
            Cell("", bar=100 * layer.macs_after / max(layer.macs_before, 1)),
            Cell(f"{layer.params_before:,}", "n", layer.params_before),
            Cell(f"{layer.params_after:,}", "n", layer.params_after),
        ]
        if timed:
            times = (layer.milliseconds_before, layer.milliseconds_after)
            cells += [Cell("", "n", -1) if ms is None else Cell(f"{ms:.3g}", "n", ms) for ms in times]
        sort = -1 if math.isnan(layer.error) else layer.error
        cells += [Cell(change(layer.error), "n", sort), Cell(printable(layer.reason), "text")]
        rows.append(Row(layer.form, place, cells))
    return rows
