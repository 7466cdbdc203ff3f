"""An audit as one page of HTML that needs nothing else: no network, no other file."""

from __future__ import annotations

from html import escape
from importlib.resources import files
from string import Template
from typing import TYPE_CHECKING

from ._audit_table import Column, columns, remarks, sums

if TYPE_CHECKING:
    from .counting import Audit, Layer


def page(audit: Audit) -> str:
    """Return the page: the sums, the share of each kind, and a table of layers that sorts by any column.

    Parameters
    ----------
    audit : Audit

    Returns
    -------
    str
    """
    template = Template(files(__package__).joinpath("audit.html").read_text(encoding="utf-8"))
    said = [(f"on {audit.example}", ""), *((text, "") for text in remarks(audit))]
    if audit.uncounted:
        said[-1] = (said[-1][0], ' class="warn"')
    return template.substitute(
        title=escape(f"{audit.model}: {audit.macs:,} MACs"),
        model=escape(audit.model),
        remarks="\n".join(f"<p{style}>{escape(text)}</p>" for text, style in said),
        sums="".join(
            f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in sums(audit)
        ),
        kinds=_kinds(audit),
        layers=_layers(audit),
    )


def _kinds(audit: Audit) -> str:
    """Return one bar of all MACs, and what its colours mean."""
    if not audit.macs:
        return ""
    shares = {kind: 100 * macs / audit.macs for kind, macs in audit.macs_by_kind.items()}
    bar = "".join(
        f'<span class="{kind}" style="width:{share:.3f}%" title="{kind} {share:.1f} %"></span>'
        for kind, share in shares.items()
    )
    legend = "".join(
        f'<li class="{kind}">{kind} {share:.1f} %, {audit.macs_by_kind[kind]:,} MACs</li>'
        for kind, share in shares.items()
    )
    return f'<div class="whole" aria-hidden="true">{bar}</div>\n<ul class="legend">{legend}</ul>'


def _layers(audit: Audit) -> str:
    if not audit.layers:
        return ""
    shown = columns(audit)
    most = max(layer.macs for layer in audit.layers)
    headings = "".join(
        f'<th scope="col"{_number(column)}><button type="button">{escape(column.heading)}</button></th>'
        + ('<th aria-hidden="true"></th>' if column.heading == "MACs" else "")
        for column in shown
    )
    rows = "\n".join(_row(layer, shown, most) for layer in audit.layers)
    return (
        f'<div class="scroll"><table>\n<thead><tr>{headings}</tr></thead>\n'
        f"<tbody>\n{rows}\n</tbody>\n</table></div>"
    )


def _row(layer: Layer, shown: list[Column], most: int) -> str:
    cells = []
    for column in shown:
        mark = ' class="kind"' if column.heading == "kind" else _number(column)
        value = column.value(layer) if column.value else None
        sort = "" if column.value is None else f' data-value="{-1 if value is None else value}"'
        cells.append(f"<td{mark}{sort}>{escape(column.text(layer))}</td>")
        if column.heading == "MACs":
            width = 100 * layer.macs / max(most, 1)
            cells.append(f'<td class="bar"><span style="width:{width:.2f}%"></span></td>')
    return f'<tr class="{layer.kind}">{"".join(cells)}</tr>'


def _number(column: Column) -> str:
    return ' class="n"' if column.value else ""
