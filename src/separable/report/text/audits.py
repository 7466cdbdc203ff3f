"""An audit as a table of plain text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from ..._base.words import html as _html
from ..._base.words.printable import printable
from ..._base.words.quantities import by, tenths
from ...conv.forms.table import MULTIPLIED, is_dense
from .columns import aligned

if TYPE_CHECKING:
    from ...conv.audits.machine import Machine
    from ...conv.audits.records import AuditRecord, Layer
    from ...conv.audits.separability import Separability

# Depth multipliers whose errors have a column.
_MULTIPLIERS: Final = 4

# Kinds of layers that a separable network consists of, and the share of MACs from which on it is one.
_APART: Final = ("depthwise", "pointwise", "separable")
_MOSTLY: Final = 0.8

# Times that the MACs can be divided by: below, the limit itself is news.
_LITTLE: Final = 4.0

# What an audit that saw no data has to say first.
UNKNOWN_ACCURACY: Final = (
    "what accuracy that keeps, weights alone do not tell: `separate` finds out on inputs, without labels"
)

# What the numbers of a layer's weights are.
DISTANCE: Final = (
    "distance: relative l2, from the weights to the nearest in that form; data are kinder to most layers"
)

# What says nothing where a whole column holds it.
_SILENT = {"calls": {"1"}, "groups": {"", "1"}, "stride": {"", "1", "1x1", "1x1x1"}}


class Column(NamedTuple):
    """One column of the table: its heading, what it shows of a layer, and the number behind that, if any."""

    heading: str
    text: Callable[[Layer], str]
    value: Callable[[Layer], float | None] | None = None


def table(audit: AuditRecord) -> str:
    """Return what a model costs: the sums, a line for each layer, the shares of the kinds, the separability.

    Parameters
    ----------
    audit : AuditRecord

    Returns
    -------
    str
    """
    shown = columns(audit)
    parts = [
        f"{printable(audit.model)} on {printable(audit.example)}",
        "; ".join(f"{value} {name}" for name, value in sums(audit)),
        *outlook(audit),
        *remarks(audit),
    ]
    if audit.layers:
        rows = [[column.text(layer) for column in shown] for layer in audit.layers]
        headings = [column.heading for column in shown]
        parts += ["", *aligned(headings, rows, [column.value is not None for column in shown])]
        parts += [
            "",
            *aligned(["kind", "layers", "MACs", "share"], shares(audit), [False, True, True, True]),
        ]
    if audit.separability:
        headings, rows = separabilities(audit.separability)
        parts += ["", *aligned(headings, rows, [False, False, *[True] * (len(headings) - 2)])]
        parts += ["", DISTANCE]
    if audit.refused:
        parts += ["", *refusals(audit)]
    return "\n".join(parts)


def notebook(audit: AuditRecord) -> str:
    """Return the same as HTML for a notebook.

    Parameters
    ----------
    audit : AuditRecord

    Returns
    -------
    str
    """
    shown = columns(audit)
    parts = [
        _html.facts(sums(audit)),
        _html.lines(outlook(audit)),
        _html.lines(map(printable, remarks(audit))),
    ]
    if audit.layers:
        rows = [[column.text(layer) for column in shown] for layer in audit.layers]
        headings = [column.heading for column in shown]
        parts.append(_html.table(headings, rows, [column.value is not None for column in shown]))
        parts.append(
            _html.table(["kind", "layers", "MACs", "share"], shares(audit), [False, True, True, True])
        )
    if audit.separability:
        headings, rows = separabilities(audit.separability)
        parts.append(_html.table(headings, rows, [False, False, *[True] * (len(headings) - 2)]))
        parts.append(_html.lines([DISTANCE]))
    parts.append(_html.lines(refusals(audit)))
    return _html.block(f"{printable(audit.model)} on {printable(audit.example)}", *parts)


def columns(audit: AuditRecord) -> list[Column]:
    """Return the columns that say something about this audit's layers."""
    total = max(audit.macs, 1)
    all_columns = [
        Column("layer", lambda layer: printable(title(layer))),
        Column("kind", lambda layer: layer.kind),
        Column("kernel", lambda layer: by(layer.kernel, "x")),
        Column("stride", lambda layer: by(layer.stride, "x")),
        Column("groups", lambda layer: str(layer.groups) if layer.kernel else "", lambda layer: layer.groups),
        Column("in", lambda layer: ", ".join(by(shape, "x") for shape in layer.inputs)),
        Column("out", lambda layer: by(layer.output, "x")),
        Column("calls", lambda layer: str(layer.calls), lambda layer: layer.calls),
        Column("MACs", lambda layer: f"{layer.macs:,}", lambda layer: layer.macs),
        Column("share", lambda layer: f"{100 * layer.macs / total:.1f} %", lambda layer: layer.macs),
        Column("params", lambda layer: f"{layer.params:,}", lambda layer: layer.params),
        Column("bytes", lambda layer: f"{layer.bytes:,}", lambda layer: layer.bytes),
        Column("roofline ms", lambda layer: milliseconds(layer.roofline_ms), lambda layer: layer.roofline_ms),
        Column("measured ms", lambda layer: milliseconds(layer.measured_ms), lambda layer: layer.measured_ms),
    ]
    return [
        column
        for column in all_columns
        if any(column.text(layer) not in _SILENT.get(column.heading, {""}) for layer in audit.layers)
    ]


def sums(audit: AuditRecord) -> list[tuple[str, str]]:
    """Return names and values of the totals."""
    totals = [
        ("MACs", macs(audit)),
        ("FLOPs", f"{audit.flops:,}" if audit.layers else macs(audit)),
        ("parameters", f"{audit.params:,}"),
        ("bytes moved", f"{audit.bytes:,}"),
    ]
    bounds = [layer.roofline_ms for layer in audit.layers]
    if bounds and None not in bounds:
        totals.append(("ms roofline", milliseconds(sum(filter(None, bounds)))))
    if audit.measured_ms is not None:
        totals.append(("ms measured", milliseconds(audit.measured_ms)))
    return totals


def macs(audit: AuditRecord) -> str:
    """Return the MACs of a model; that they were not counted, where nothing that may multiply was."""
    return f"{audit.macs:,}" if audit.macs or not audit.uncounted else "not counted"


def remarks(audit: AuditRecord) -> list[str]:
    """Return how the counts came about, and what they leave out."""
    said = [audit.remark]
    if audit.machine is not None and audit.layers:
        said.append(_speeds(audit.machine))
    if not audit.layers:
        said.append("no layer multiplies")
    if audit.uncounted:
        said.append(f"NOT counted, and may multiply: {', '.join(map(printable, audit.uncounted))}")
    return said


def _speeds(machine: Machine) -> str:
    """Return what the roofline is made of, and whether something ran faster."""
    plural = "s" * (machine.threads > 1)
    said = f"roofline of {machine.threads} thread{plural}: {_of(machine)}"
    if machine.measured is None:
        return said
    return f"{said}, raised to what layers reached (from caches, perhaps); by itself {_of(machine.measured)}"


def _of(machine: Machine) -> str:
    return f"{machine.peak_flops / 1e9:.0f} GFLOP/s, {machine.bandwidth / 1e9:.0f} GB/s"


def separabilities(layers: Sequence[Separability]) -> tuple[list[str], list[list[str]]]:
    """Return headings and rows: the best form of each layer, and what each depth multiplier leaves.

    Parameters
    ----------
    layers : sequence of Separability

    Returns
    -------
    headings : list of str
    rows : list of list of str
    """
    shown = {
        order: min(_MULTIPLIERS, max((len(layer.errors.get(order, ())) for layer in layers), default=0))
        for order in MULTIPLIED
    }
    headings = ["weights", "nearest at 1/2", "distance"]
    headings += [f"{order} {rank}x" for order in MULTIPLIED for rank in range(1, shown[order] + 1)]
    rows = []
    for layer in layers:
        row = [
            printable(layer.name),
            layer.best,
            tenths(layer.best_error) if not is_dense(layer.best) else "",
        ]
        for order in MULTIPLIED:
            errors = [tenths(error) for error in layer.errors.get(order, ())[: shown[order]]]
            row += errors + [""] * (shown[order] - len(errors))
        rows.append(row)
    return headings, rows


def outlook(audit: AuditRecord) -> list[str]:
    """Return what cheaper forms can reach, and that weights say little about the accuracy which is kept."""
    if not audit.frontier:
        return []
    fewest = max(audit.frontier[0][0], 1)
    share = sum(layer.macs for layer in audit.separability) / max(audit.macs, 1)
    kinds = audit.macs_by_kind
    apart = sum(kinds.get(kind, 0) for kind in _APART) / max(audit.macs, 1)
    most = audit.macs / fewest
    lines = [
        f"{tenths(share)} of the MACs are in layers with cheaper forms"
        + (f", which leave at least {tenths(1 / most)} of all" if most < _LITTLE else "")
    ]
    if apart > _MOSTLY:
        lines.append(
            f"{tenths(apart)} are in depthwise and pointwise layers: it is separable already, expect little "
            "more"
        )
    return [*lines, UNKNOWN_ACCURACY]


def refusals(audit: AuditRecord) -> list[str]:
    """Return a line for each convolution that cannot be converted."""
    return [
        f"not convertible: {refused.operator} `{printable(refused.name)}`: {printable(refused.reason)}"
        for refused in audit.refused
    ]


def title(layer: Layer) -> str:
    """Return a layer's name, with the weight where that is not the module's own."""
    name = layer.name or "(model)"
    weight = layer.weights[0] if layer.weights else ""
    if layer.kind in ("separable", "recurrent") or weight.rpartition(".")[0] == layer.name != "":
        return name
    return f"{name} [{weight.removeprefix(layer.name + '.')}]" if weight else name


def milliseconds(value: float | None) -> str:
    """Return a time with three digits, or nothing."""
    return "" if value is None else f"{value:.3g}" if value < 100 else f"{value:,.0f}"


def shares(audit: AuditRecord) -> list[list[str]]:
    """Return, for each kind, how many layers and how many MACs are of it."""
    total = max(audit.macs, 1)
    return [
        [
            kind,
            str(sum(layer.kind == kind for layer in audit.layers)),
            f"{macs:,}",
            f"{100 * macs / total:.1f} %",
        ]
        for kind, macs in audit.macs_by_kind.items()
    ]
