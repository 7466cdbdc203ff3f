"""Networks as terminal tables: what an audit counted, what a conversion did; at any width."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from .._base.words.printable import printable
from .._base.words.quantities import in_seconds, percent, plural, tenths, times
from ..conv.audits.records import AuditRecord, Layer
from ..conv.audits.separability import Separability
from ..conv.conversion.records import ConversionReport, ConvertedLayer
from ..conv.forms.table import MULTIPLIED, is_dense
from ..report.text.audits import macs as counted_macs
from ..report.text.audits import milliseconds, outlook
from ..report.text.conversions import by_output, change, count, fewer, loss, rank_of, reasons, score

__all__ = [
    "audit_layers",
    "audit_rows",
    "conversion_layers",
    "conversion_notes",
    "conversion_rows",
    "versions",
]

_WIDE: Final = 74  # characters that a row needs
_ROOMY: Final = 100  # from here on there is room for kernels and more ranks
_SMALLEST_SHARE: Final = 5e-4  # of the MACs: less is 0.0 %
_RANKS_SHOWN: Final = {False: 3, True: 6}


# -- audit -------------------------------------------------------------------------------------------


def audit_rows(audit: AuditRecord) -> list[tuple[str, str]]:
    """Return what a whole model costs, as labels and values."""
    shares = {kind: macs / max(audit.macs, 1) for kind, macs in audit.macs_by_kind.items()}
    kinds = [f"{kind} {tenths(share)}" for kind, share in shares.items() if share >= _SMALLEST_SHARE]
    rows = [
        ("model", f"{printable(audit.model)} on {printable(audit.example)}"),
        ("MACs", f"{counted_macs(audit)} ({audit.flops:,} FLOPs)" if audit.layers else counted_macs(audit)),
        *([("of these", ", ".join(kinds))] if kinds else []),
        *(("" if number else "outlook", line) for number, line in enumerate(outlook(audit))),
        ("params", f"{audit.params:,}"),
        ("memory", f"{audit.bytes:,} bytes moved"),
    ]
    bounds = [layer.roofline_ms for layer in audit.layers]
    if bounds and None not in bounds and audit.machine is not None:
        threads = plural(audit.machine.threads, "thread")
        raised = "; as fast as layers ran here" if audit.machine.measured is not None else ""
        total = in_seconds(sum(filter(None, bounds)) / 1e3)
        rows.append(("roofline", f"{total}, {threads}, memory included{raised}"))
    if audit.measured_ms is not None:
        rows.append(("measured", in_seconds(audit.measured_ms / 1e3)))
    rows.append(("how", audit.remark))
    if audit.uncounted:
        rows.append(("left out", f"{', '.join(map(printable, audit.uncounted))}: not counted, may multiply"))
    return rows


def audit_layers(audit: AuditRecord, separability: Iterable[Separability], width: int) -> RenderableType:
    """Return a row for each layer, or a few lines where the terminal is narrow."""
    known = {judged.name: judged for judged in separability}
    if not audit.layers:
        return Text("no layer multiplies")
    if width < _WIDE:
        return _narrow_audit(audit.layers, known)
    return _wide_audit(audit.layers, known, roomy=width >= _ROOMY)


def _wide_audit(layers: Sequence[Layer], known: Mapping[str, Separability], *, roomy: bool) -> Table:
    timed = any(layer.measured_ms is not None for layer in layers)
    ranks = _RANKS_SHOWN[roomy] if known else 0
    headings = ["MACs", "params", *(["ms"] if timed else []), *(["best"] if known else [])]
    table = _table("layer", "kind", *headings, *(f"{rank}x" for rank in range(1, ranks + 1)))
    for layer in layers:
        judged = known.get(layer.name)
        errors = _errors(judged)[:ranks] if judged else ()
        table.add_row(
            Text(printable(layer.name)),
            _kind(layer) if roomy else layer.kind,
            count(layer.macs),
            count(layer.params),
            *([milliseconds(layer.measured_ms)] if timed else []),
            *([judged.best if judged else ""] if known else []),
            *map(percent, errors),
        )
    return table


def _narrow_audit(layers: Sequence[Layer], known: Mapping[str, Separability]) -> Group:
    parts: list[RenderableType] = []
    for layer in layers:
        parts.append(Text(printable(layer.name), style="bold", overflow="fold"))
        time = f", {milliseconds(layer.measured_ms)} ms" if layer.measured_ms is not None else ""
        cost = f"{count(layer.macs)} MACs, {count(layer.params)} params{time}"
        parts.append(Text(f"  {_kind(layer)}, {cost}"))
        judged = known.get(layer.name)
        if judged:
            errors = _errors(judged)[: _RANKS_SHOWN[False]]
            shown = (f"{rank}x {tenths(error)}" for rank, error in enumerate(errors, 1))
            parts.append(Text("  " + ", ".join([f"best {judged.best}", *shown])))
    return Group(*parts)


def _errors(judged: Separability) -> Sequence[float]:
    """Return the errors at depth multiplier 1, 2, ..., in the order whose error at 1 is smaller."""
    orders = [judged.errors[order] for order in MULTIPLIED if judged.errors.get(order)]
    return min(orders, key=lambda errors: errors[0], default=())


def _kind(layer: Layer) -> str:
    return f"{layer.kind} {'x'.join(map(str, layer.kernel))}".rstrip()


# -- conversion --------------------------------------------------------------------------------------


def conversion_rows(report: ConversionReport) -> list[tuple[str, str]]:
    """Return what a conversion did to the whole model, as labels and values."""
    before, after = report.milliseconds_before, report.milliseconds_after
    changed = sum(not is_dense(layer.form) for layer in report.layers)
    rows = [
        ("layers", f"{changed} of {len(report.layers)} layers in separable form"),
        ("MACs", _saving(report.macs_before, report.macs_after)),
        ("params", _saving(report.params_before, report.params_after)),
    ]
    if before is not None and after is not None:
        speed = f"{times(before / after)} as fast" if after > 0 else "too short to measure"
        spent = f"{in_seconds(before / 1e3)} -> {in_seconds(after / 1e3)}"
        rows.append(("time", f"{spent}, {speed} ({report.runtime}, {plural(report.batch, 'input')})"))
    if report.score is not None:
        rows.append(("metric", score(report.score)))
    measured = report.changed and not report.unmeasured
    rows.append(
        ("loss", report.unmeasured or loss(report) + (f" ({report.measured_on})" if measured else ""))
    )
    return [*rows, *(("", line) for line in by_output(report))]


def conversion_notes(report: ConversionReport) -> list[str]:
    """Return what the user may not expect."""
    sums = {
        "macs": (report.macs_before, report.macs_after),
        "params": (report.params_before, report.params_after),
    }
    before, after = sums.get(report.by, (0, 0))
    if before and report.budget is not None and after > report.budget * before * (1 + 1e-9):
        return [
            f"{percent(after / before)} is left, over the budget of {percent(report.budget)}: "
            "layers that do not pay here were put back; --allow-slower keeps them.",
            *report.notes,
        ]
    return [*report.notes]


def _saving(before: int, after: int) -> str:
    return f"{before:,} -> {after:,}, {fewer(before, after)} (convolutions)"


def conversion_layers(report: ConversionReport, width: int) -> RenderableType:
    """Return a row for each layer that changed, or a few lines; then what stayed dense, and why."""
    changed = [layer for layer in report.layers if not is_dense(layer.form)]
    parts: list[RenderableType] = []
    if changed:
        parts.append(_wide_conversion(changed) if width >= _WIDE else _narrow_conversion(changed))
    dense = reasons(report.layers)
    if dense and changed:
        parts.append("")
    if dense:
        parts.append(Text("Stayed dense", style="bold"))
    for reason, names in dense.items():
        parts.append(Padding(Text(", ".join(names), overflow="fold"), (0, 0, 0, 2)))
        parts.append(Padding(Text(reason, style="dim"), (0, 0, 0, 4)))
    return Group(*parts)


def _wide_conversion(layers: Sequence[ConvertedLayer]) -> Table:
    timed = any(layer.milliseconds_after is not None for layer in layers)
    table = _table("layer", "form", "rank", "MACs", "now", *(["ms", "now"] if timed else []), "error")
    for layer in layers:
        times = (layer.milliseconds_before, layer.milliseconds_after)
        table.add_row(
            Text(printable(layer.name)),
            layer.form,
            rank_of(layer),
            count(layer.macs_before),
            count(layer.macs_after),
            *(map(milliseconds, times) if timed else ()),
            change(layer.error),
        )
    return table


def _narrow_conversion(layers: Sequence[ConvertedLayer]) -> Group:
    parts: list[RenderableType] = []
    for layer in layers:
        parts.append(Text(printable(layer.name), style="bold", overflow="fold"))
        cost = f"{count(layer.macs_before)} -> {count(layer.macs_after)} MACs"
        parts.append(
            Text(f"  {layer.form} {rank_of(layer)}, {cost}, error {change(layer.error) or 'not measured'}")
        )
    return Group(*parts)


# -- the same network in several forms -----------------------------------------------------------------


def versions(models: Mapping[str, tuple[float, int, int, float]]) -> Table:
    """Return accuracy, MACs, parameters and time side by side.

    Parameters
    ----------
    models : mapping of str to (float, int, int, float)
        By form, the original first: accuracy as a fraction, MACs, parameters, seconds.
    """
    table = _table("", "right", "MACs", "params", "ms", "faster")
    first = next(iter(models.values()))[-1]
    for name, (accuracy, macs, params, seconds) in models.items():
        cells = (tenths(accuracy), count(macs), count(params), milliseconds(1e3 * seconds))
        table.add_row(name, *cells, times(first / seconds) if seconds != first else "")
    return table


# -- numbers -----------------------------------------------------------------------------------------


def _table(name: str, kind: str, *numbers: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(name, overflow="fold")
    table.add_column(kind, no_wrap=True)
    for heading in numbers:
        table.add_column(heading, justify="left" if heading == "best" else "right", no_wrap=True)
    return table
