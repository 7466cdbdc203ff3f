"""An audit as one page of HTML that needs nothing else: no network, no other file."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from ..._base.words.printable import printable
from ..._base.words.quantities import tenths
from ...conv.forms.table import BASELINE, FORMS, is_dense
from ..text.audits import Column, columns, macs, outlook, refusals, remarks, sums, title
from .charts import audit_charts, audit_details
from .page import Cell, Heading, Row, axis_labels, rendered, short

if TYPE_CHECKING:
    from ...conv.audits.records import AuditRecord, Layer
    from ...conv.audits.separability import Separability

# Depth multipliers that the chart of early and late layers goes through.
_MULTIPLIERS = 9


def page(audit: AuditRecord) -> str:
    """Return the page: sums, charts, the details of a layer, and a table of layers that sorts by any column.

    Parameters
    ----------
    audit : AuditRecord

    Returns
    -------
    str
    """
    judged = _judged(audit)
    data, charts = _data(audit, judged), []
    if audit.layers:
        charts.append(("costs", "Where the work is", "Each bar is a layer; a click shows its details.", True))
    if "errors" in data["charts"]:
        charts.append(
            (
                "errors",
                "Early and late layers",
                "How far the weights are from a separable layer of this depth multiplier (relative l2).",
                False,
            )
        )
    if judged:
        charts += [
            (
                "halves",
                "The nearest form at half the MACs",
                "How far the weights are from it (relative l2).",
                False,
            ),
            (
                "frontier",
                "How near cheaper forms are",
                "Of the whole model, forms and ranks allocated exactly: the distance of the weights, its "
                "root mean square over the layers. No measure of accuracy: layers are fitted to what they "
                "read.",
                True,
            ),
        ]
    shown = [column for column in columns(audit) if column.heading != "share"]  # bars show that
    return rendered(
        "audit.html",
        data,
        title=printable(f"{audit.model}: {macs(audit)} MACs"),
        model=printable(audit.model),
        remarks=_remarks(audit),
        sums=[(name, value, "") for name, value in sums(audit)],
        kinds=_kinds(audit),
        charts=charts,
        names=list(enumerate(_names(audit))),
        details=[
            ("spectrum", "Spectra of its slices", "What each term holds, in both orders."),
            ("curves", "How near each form is", "Distance of the weights, relative l2; points are ranks."),
        ],
        headings=_headings(shown, bool(judged)),
        rows=_rows(audit, shown, judged),
        refused=refusals(audit),
    )


def _remarks(audit: AuditRecord) -> list[tuple[str, str]]:
    said = [(text, "head") for text in outlook(audit)]
    said += [(f"on {audit.example}", ""), *((text, "") for text in remarks(audit))]
    if audit.uncounted:
        said[-1] = (said[-1][0], "warn")
    return [(printable(text), style) for text, style in said]


def _judged(audit: AuditRecord) -> dict[int, Separability]:
    """Return the separability of each layer that has one, by the layer's place."""
    known = {layer_judged.name: layer_judged for layer_judged in audit.separability}
    judged = {}
    for place, layer in enumerate(audit.layers):
        layer_judged = known.get(title(layer)) or known.get(layer.name)
        if layer_judged is not None:
            judged[place] = layer_judged
    return judged


def _names(audit: AuditRecord) -> list[str]:
    """Return what layers are called where room is short: with the weight only where names are alike."""
    counts = Counter(layer.name for layer in audit.layers)
    return [
        printable(layer.name if layer.name and counts[layer.name] == 1 else title(layer))
        for layer in audit.layers
    ]


def _kinds(audit: AuditRecord) -> list[tuple[str, float, str]]:
    """Return a style, a share in per cent, and words for each kind of layer."""
    shares = {kind: 100 * macs / max(audit.macs, 1) for kind, macs in audit.macs_by_kind.items()}
    return [
        (kind, share, f"{kind} {share:.1f} %, {audit.macs_by_kind[kind]:,} MACs")
        for kind, share in shares.items()
        if share
    ]


# -- what the script reads -------------------------------------------------------------------------------


def _data(audit: AuditRecord, judged: dict[int, Separability]) -> dict[str, Any]:
    names = _names(audit)
    labels = axis_labels(names)
    measures = _measures(audit)
    most = max((len(judgement.spectra.get(BASELINE, ())) for judgement in judged.values()), default=0)
    multipliers = min(most, _MULTIPLIERS)
    layers = [
        {"place": place, "layer": names[place], "label": labels[place], "kind": layer.kind}
        | {name: short(values[place]) for name, values in measures.items()}
        for place, layer in enumerate(audit.layers)
    ]
    errors = [
        {"place": place, "layer": names[place], "label": labels[place], "form": order, "rank": rank}
        | {"error": short(error)}
        for place, judgement in judged.items()
        for order in judgement.spectra
        for rank, error in enumerate(judgement.errors[order][:multipliers], 1)
    ]
    halves = [
        {"place": place, "layer": names[place], "label": labels[place], "form": judgement.best}
        | {"error": short(judgement.best_error)}
        for place, judgement in judged.items()
    ]
    frontier = [
        {"cost": short(left / max(audit.macs, 1)), "error": short(error)} for left, error in audit.frontier
    ]
    forms = [form for form in FORMS if any(judgement.best == form for judgement in judged.values())]
    details = audit_details()
    charts = audit_charts(list(measures), multipliers, forms) | details if layers else {}
    return {
        "charts": charts,
        "detailed": list(details),
        "datasets": {"layers": layers, "errors": errors, "halves": halves, "frontier": frontier},
        "details": [_detail(layer, judged.get(place)) for place, layer in enumerate(audit.layers)],
        "first": max(judged or range(len(layers)), key=lambda place: audit.layers[place].macs, default=0),
    }


def _measures(audit: AuditRecord) -> dict[str, list[float | None]]:
    """Return what can be shown of each layer: counts, and times where they are known."""
    measures: dict[str, list[float | None]] = {
        "MACs": [layer.macs for layer in audit.layers],
        "parameters": [layer.params for layer in audit.layers],
        "bytes": [layer.bytes for layer in audit.layers],
        "roofline ms": [layer.roofline_ms for layer in audit.layers],
        "measured ms": [layer.measured_ms for layer in audit.layers],
    }
    return {name: values for name, values in measures.items() if any(value is not None for value in values)}


def _detail(layer: Layer, judged: Separability | None) -> dict[str, Any]:
    """Return what is shown of one layer: facts in words, its spectra, and the error of each form and rank."""
    facts = [
        (name, text)
        for name, text in (
            ("kind", layer.kind),
            ("operator", layer.operator),
            ("kernel", "x".join(map(str, layer.kernel))),
            ("stride", "x".join(map(str, layer.stride))),
            ("dilation", "x".join(map(str, layer.dilation))),
            ("groups", str(layer.groups) if layer.kernel else ""),
            ("in", ", ".join("x".join(map(str, shape)) for shape in layer.inputs)),
            ("out", "x".join(map(str, layer.output))),
            ("MACs", f"{layer.macs:,}"),
            ("parameters", f"{layer.params:,}"),
            ("bytes", f"{layer.bytes:,}"),
            ("weights", printable(", ".join(layer.weights))),
        )
        if text
    ]
    spectrum: list[tuple[str, int, float | None]] = []
    curves: list[tuple[str, int, float | None, float | None]] = []
    if judged is not None:
        facts.append(("nearest form at half the MACs", judged.best))
        spectrum = [
            (order, term, short(norm))
            for order, norms in judged.spectra.items()
            for term, norm in enumerate(norms, 1)
        ]
        curves = [
            (form, rank, short(macs / judged.macs), short(error))
            for form, rank, macs, error in judged.options()
            if macs <= judged.macs
        ]
    return {
        "facts": facts,
        "data": {
            "spectrum": {"columns": ["form", "term", "norm"], "rows": spectrum},
            "curves": {"columns": ["form", "rank", "cost", "error"], "rows": curves},
        },
    }


# -- the table -------------------------------------------------------------------------------------------


def _headings(shown: list[Column], separable: bool) -> list[Heading]:
    headings = []
    for column in shown:
        headings.append(Heading(column.heading, column.value is not None))
        if column.heading == "MACs":
            headings.append(Heading("", number=False))
            if separable:
                headings += [Heading("nearest at 1/2", number=False), Heading("distance", number=True)]
    return headings


def _rows(audit: AuditRecord, shown: list[Column], judged: dict[int, Separability]) -> list[Row]:
    most = max((layer.macs for layer in audit.layers), default=0)
    names = _names(audit)
    rows = []
    for place, layer in enumerate(audit.layers):
        cells = []
        for column in shown:
            value = column.value(layer) if column.value else None
            style = "n" if column.value else "mark" if column.heading == "kind" else ""
            sort = None if column.value is None else -1 if value is None else value
            text = names[place] if column.heading == "layer" else column.text(layer)
            cells.append(Cell(text, style, sort))
            if column.heading == "MACs":
                cells.append(Cell("", bar=100 * layer.macs / max(most, 1)))
                cells += _verdict(judged.get(place)) if judged else []
        rows.append(Row(layer.kind, place, cells))
    return rows


def _verdict(judged: Separability | None) -> list[Cell]:
    """Return the best form of a layer, and its error."""
    if judged is None or is_dense(judged.best):
        return [Cell("" if judged is None else judged.best), Cell("", "n", -1)]
    return [Cell(judged.best), Cell(tenths(judged.best_error), "n", judged.best_error)]
