"""What a conversion did, as plain text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from ..._base.words import html as _html
from ..._base.words.printable import printable
from ..._base.words.quantities import plural
from ...conv.conversion.records import ConversionReport, ConvertedLayer
from ...conv.forms.table import is_dense
from ...conv.scores.records import Score
from .columns import aligned

__all__ = [
    "by_output",
    "change",
    "count",
    "fewer",
    "in_short",
    "loss",
    "notebook",
    "rank_of",
    "reasons",
    "score",
    "table",
    "unit",
]

_OUTPUTS: Final = 8  # of a network that have a line each
_WIDE: Final = 79  # characters; a table that is wider has a line for each name


def table(report: ConversionReport) -> str:
    """Return what a conversion did: sums, the loss, a line for each layer that changed, why others did not.

    Parameters
    ----------
    report : ConversionReport

    Returns
    -------
    str
    """
    sums = _sums(report)
    lines = aligned(["", "", "", ""], [row[:4] for row in sums], [False, True, False, True])[2:]
    lines = [f"{line}  {ratio}" for line, (*_, ratio) in zip(lines, sums, strict=True)]
    lines += [f"  {remark}" if remark.startswith("(") else remark for remark in _remarks(report)]
    changed = [layer for layer in report.layers if not is_dense(layer.form)]
    lines += ["", *_table(changed)] if changed else []
    for reason, names in reasons(report.layers).items():
        lines += ["", f"stayed dense: {reason}", *(f"  {name}" for name in names)]
    return "\n".join(lines)


def notebook(report: ConversionReport) -> str:
    """Return the same as HTML for a notebook.

    Parameters
    ----------
    report : ConversionReport

    Returns
    -------
    str
    """
    parts = [
        _html.table(["", "before", "", "after", ""], _sums(report), [False, True, False, True, False]),
        _html.lines(_remarks(report)),
    ]
    changed = [layer for layer in report.layers if not is_dense(layer.form)]
    if changed:
        parts.append(_html.table(*_rows(changed)))
    dense = (
        (f"stayed dense: {reason}", ", ".join(names)) for reason, names in reasons(report.layers).items()
    )
    return _html.block("Conversion to separable form", *parts, _html.facts(dense))


def in_short(name: str, report: ConversionReport) -> str:
    """Return one line on what became of a model of a name."""
    costs = f"{report.macs_before} MACs to {report.macs_after}"
    measured = "not measured" if math.isnan(report.output_change) else f"{report.output_change:.2e}"
    return f"<Separation of {name}: {costs}, output change {measured}>"


def _sums(report: ConversionReport) -> list[list[str]]:
    """Return what MACs and parameters were and are, in words."""
    counts = {
        "MACs": (report.macs_before, report.macs_after),
        "parameters": (report.params_before, report.params_after),
    }
    return [
        [name, f"{before:,}", "->", f"{after:,}", fewer(before, after)]
        for name, (before, after) in counts.items()
    ]


def _remarks(report: ConversionReport) -> list[str]:
    """Return the loss and what it was measured on, or why it was not, what was asked for, and notes."""
    said = [f"outputs: {report.unmeasured}"] if report.unmeasured else [loss(report)]
    if report.changed and not report.unmeasured:
        said += [f"({report.measured_on})", *(f"({line})" for line in by_output(report))]
    said += [] if report.score is None else [score(report.score)]
    return [*said, *([report.aim] if report.aim else []), *report.notes]


def reasons(layers: Sequence[ConvertedLayer]) -> dict[str, list[str]]:
    """Return why layers stayed dense, and the names of those that each reason is for."""
    names: dict[str, list[str]] = {}
    for layer in layers:
        if is_dense(layer.form):
            names.setdefault(printable(layer.reason), []).append(printable(layer.name))
    return names


def rank_of(layer: ConvertedLayer) -> str:
    """Return a layer's rank in words: ``2``, or ``0..3`` where channels have ranks of their own."""
    if is_dense(layer.form):
        return ""
    if isinstance(layer.rank, int):
        return str(layer.rank)
    least, most = min(layer.rank), max(layer.rank)
    return str(least) if least == most else f"{least}..{most}"


def loss(report: ConversionReport) -> str:
    """Return by how much the outputs change, in words, where that was measured."""
    if not report.changed:
        return "outputs as before: no layer is replaced"
    said = f"outputs change by {change(report.output_change)} {unit(report)}"
    if report.interval is None:
        return said
    low, high = map(change, report.interval)
    return f"{said}, 95 % interval {low} to {high}"


def unit(report: ConversionReport) -> str:
    """Return what the change of the outputs is a fraction of, in words."""
    measured = [output for output in report.outputs if not output.reason]
    units = list(dict.fromkeys(output.unit for output in measured)) or ["variance"]
    said = f"of their {' or '.join(units)}"
    return said if len(measured) < 2 else f"{said} (mean of {len(measured)}, each counting alike)"


def by_output(report: ConversionReport) -> list[str]:
    """Return the change of each output in words, where there are several."""
    if len(report.outputs) < 2:
        return []
    lines = [
        f"{printable(output.name)}: {output.reason or f'{change(output.change)} of its {output.unit}'}"
        for output in report.outputs[:_OUTPUTS]
    ]
    more = len(report.outputs) - len(lines)
    return [*lines, *([f"and {more} outputs more"] if more else [])]


def score(measured: Score) -> str:
    """Return what a metric said before and after, in words."""
    if math.isnan(measured.drop):
        return (
            f"{printable(measured.metric)}: not measured, it gave {measured.before:g} and {measured.after:g}"
        )
    said = f"{printable(measured.metric)} {measured.before:.4g} -> {measured.after:.4g}"
    against = " against the original's own outputs" if measured.targets == "outputs" else ""
    where = plural(measured.inputs, "input")
    where += " left out of the fit" if measured.held_out else ", which it was fitted to"
    said += f"{against} ({where}"
    if measured.drop_interval is not None:
        low, high = measured.drop_interval
        said += f"; worse by {measured.drop:.2g}, 95 % interval {low:.2g} to {high:.2g}"
    elif not measured.drop:
        said += "; no difference seen"
    return f"{said})"


def change(error: float) -> str:
    """Return a mean squared change over a variance: ``1.3 %``; nothing where it was not measured."""
    if math.isnan(error):
        return ""
    if not 1e-4 <= error < 10:
        return "0" if error == 0 else f"{error:.1e}"
    return f"{100 * error:.0f} %" if error >= 0.1 else f"{100 * error:.2g} %"


def fewer(before: float, after: float) -> str:
    """Return a saving in words: ``8.0x fewer``."""
    return f"{before / after:.1f}x fewer" if 0 < after < before else "no fewer"


def count(number: float) -> str:
    """Return a count with three digits: ``73.7k``."""
    for scale, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= 0.9995 * scale:
            return f"{number / scale:.3g}{unit}"
    return f"{number:.3g}"


def _table(layers: Sequence[ConvertedLayer]) -> list[str]:
    """Return a line for each layer, or two where a line would be long."""
    headings, rows, numbers = _rows(layers)
    lines = aligned(headings, rows, numbers)
    if max(map(len, lines)) <= _WIDE:
        return lines
    lines = aligned(headings[1:], [row[1:] for row in rows], numbers[1:])
    named = [text for row, line in zip(rows, lines[2:], strict=True) for text in (row[0], f"  {line}")]
    return [f"  {lines[0]}", f"  {lines[1]}", *named]


def _rows(layers: Sequence[ConvertedLayer]) -> tuple[list[str], list[list[str]], list[bool]]:
    """Return headings, a row for each layer, and which columns are numbers."""
    timed = any(layer.milliseconds_after is not None for layer in layers)
    headings = ["layer", "form", "rank", "MACs", "now", *(["ms", "now"] if timed else []), "error"]
    rows = [
        [
            printable(layer.name),
            layer.form,
            rank_of(layer),
            count(layer.macs_before),
            count(layer.macs_after),
            *([_ms(layer.milliseconds_before), _ms(layer.milliseconds_after)] if timed else []),
            change(layer.error),
        ]
        for layer in layers
    ]
    numbers = [False, False, *[True] * (len(headings) - 2)]
    return headings, rows, numbers


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"
