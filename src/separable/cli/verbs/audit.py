"""``separable audit``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from rich.text import Text

from ... import onnx
from ..._base.words.printable import printable
from ...arrays import arguments
from ...report.text import tables
from .. import model_tables
from ..networks.other_inputs import OtherInputs
from ..terminal import check_page, naming_model, plain_console, progress


def run(
    model: Path,
    shapes: Sequence[str],
    others: OtherInputs,
    *,
    measure: bool,
    threads: int | None,
    html: Path | None,
    as_json: bool,
) -> None:
    """Count a model, print what it costs, and write the page."""
    if threads is not None:
        arguments.thread_count(threads)
    check_page(html, model, *others.paths)
    inputs = others.values()
    with progress(True) as show, naming_model(model):
        show("counting and timing" if measure else "counting", 0, 0)
        audit = onnx.audit(model, list(shapes) or None, measure=measure, threads=threads, inputs=inputs)
    if html is not None:
        audit.to_html(html)
    page = None if html is None else str(html)
    if as_json:
        print(json.dumps({"input": str(model), "page": page, **json.loads(audit.to_json())}))
    else:
        _print(audit, html)


def _print(audit: onnx.Audit, html: Path | None) -> None:
    console = plain_console()
    rows = model_tables.audit_rows(audit)
    if html is not None:
        rows.append(("page", str(html)))
    console.print(
        tables.facts(rows), "", model_tables.audit_layers(audit, audit.separability, console.width), sep="\n"
    )
    notes = [
        Text("stays dense: ", style="yellow").append(
            printable(f"{refused.operator} {refused.name}: {refused.reason}"), style="default"
        )
        for refused in audit.refused
    ]
    if audit.separability:
        said = (
            "1x, 2x, ...: how far the weights are from a depth multiplier's, relative l2. best: the form "
            "that is nearest at half of the MACs. Neither tells the accuracy that is kept."
        )
        notes.append(Text(said, style="dim"))
    if notes:
        console.print("", *notes, sep="\n")
