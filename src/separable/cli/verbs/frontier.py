"""``separable frontier``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from ... import files, onnx
from ..._base.words.printable import printable
from ...arrays import arguments
from ...conv.conversion.goal import count
from ...conv.frontiers.budgets import BUDGETS, budgets_of
from ...files.target import check_target
from ...report.progress import shown
from ...report.text import tables
from ...report.text.columns import aligned
from ...report.text.frontiers import columns, headline, remarks
from ..networks.calibration_inputs import Data
from ..networks.metric_option import Scoring
from ..networks.targets import check_model_target, check_tensors_target
from ..terminal import check_page, naming_model, plain_console
from .separate import Goal, idle_patterns


@dataclass(frozen=True)
class FrontierFiles:
    """Where results go, as typed: a page, and a folder for models."""

    html: Path | None
    folder: Path | None

    def model(self, source: Path, budget: float) -> Path:
        """Return where the model of a budget goes."""
        assert self.folder is not None
        return self.folder / f"{source.stem}-{budget:g}.onnx"

    def check(
        self, model: Path, budgets: Sequence[float], data: Data, validation: Data | None, scoring: Scoring
    ) -> None:
        """Refuse places that cannot be written, or where something lies that is read."""
        check_page(self.html, model)
        if self.folder is None:
            return
        said = f"--save {self.folder}"
        if not self.folder.exists():
            above = next(parent for parent in self.folder.absolute().parents if parent.exists())
            check_target(above / self.folder.name)
            return
        if not self.folder.is_dir():
            raise files.FileError(f"`{said}` is no folder; name one, which is made if it is missing.")
        for budget in budgets:
            place = self.model(model, budget)
            check_model_target(place, said, model, data, validation, scoring)
            check_tensors_target(place, said, model)


def run(
    model: Path,
    data: Data,
    budgets: str | None,
    goal: Goal,
    targets: FrontierFiles,
    *,
    scoring: Scoring,
    validation: Data | None,
    threads: int | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Convert a model to each budget, write what is asked for, and print what became of it."""
    wanted = _budgets(budgets)  # what can be refused without reading is refused first
    options = {name: value for name, value in goal.options().items() if name not in ("budget", "max_loss")}
    if data.batch_size is not None:
        options["batch_size"] = count(data.batch_size, "batch_size")
    if threads is not None:
        arguments.thread_count(threads)
    targets.check(model, wanted or BUDGETS, data, validation, scoring)
    with shown(not quiet) as show, naming_model(model):
        show(0, 0, "reading")
        options |= scoring.options(model, validation is not None)
        read = data.read(model)
        if validation is not None:
            options["validation"] = validation.read(model).data
        done = onnx.frontier(model, read.data, wanted, threads=threads, progress=show, **options)
        show(0, 0, "writing")
        saved = _save(done, model, targets)
    if targets.html is not None:
        done.to_html(targets.html)
    notes = idle_patterns(goal.skip, [layer.name for layer in done.original.report.layers])
    if as_json:
        print(json.dumps({**_facts(model, targets.html, saved, done), "notes": notes, "beside": read.said}))
    elif not quiet:
        _print(model, targets.html, saved, done, [*(("beside", line) for line in read.said)], notes)


def _budgets(text: str | None) -> tuple[float, ...] | None:
    """Return what --budgets says; None where nothing is said."""
    if text is None:
        return None
    budgets = []
    for word in text.split(","):
        try:
            budgets.append(float(word))
        except ValueError:
            raise ValueError(
                f"`--budgets {text}`: {word.strip() or 'nothing'} is no number; expected fractions of the "
                "cost, such as 0.5,0.25."
            ) from None
    return budgets_of(budgets)


def _save(done: onnx.Frontier[onnx.FrontierPoint], model: Path, targets: FrontierFiles) -> dict[float, Path]:
    """Write the model of each point."""
    saved: dict[float, Path] = {}
    if targets.folder is None:
        return saved
    try:
        targets.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise files.FileError(f"`--save {targets.folder}` cannot be made: {error.strerror}.") from error
    for point in done.points:
        saved[point.budget] = targets.model(model, point.budget)
        check_target(saved[point.budget])
        point.save(saved[point.budget])
    return saved


def _print(
    model: Path,
    html: Path | None,
    saved: dict[float, Path],
    done: onnx.Frontier[onnx.FrontierPoint],
    beside: Sequence[tuple[str, str]],
    notes: Sequence[str],
) -> None:
    console = plain_console()
    rows = [
        ("in", str(model)),
        *beside,
        *(("saved" if not place else "", str(path)) for place, path in enumerate(saved.values())),
        *([] if html is None else [("page", str(html))]),
        *(("note", note) for note in notes),
    ]
    console.print(tables.facts(rows), "", _table(done, console.width), "", sep="\n")
    for remark in remarks(done):
        console.print(Text(remark, overflow="fold"))


def _table(done: onnx.Frontier[onnx.FrontierPoint], width: int) -> RenderableType:
    """Return a line for each network, or a few where the terminal is narrow."""
    headings, rows, numbers = columns(done)
    lines = aligned(headings, rows, numbers)
    if max(map(len, lines)) > width:
        lines = []
        for name, *cells in rows:
            pairs = zip(headings[1:], cells, strict=True)
            lines += [name, *(f"  {heading} {cell}" for heading, cell in pairs if cell)]
    return Text("\n".join([headline(done), "", *map(printable, lines)]), overflow="fold")


def _facts(
    model: Path, html: Path | None, saved: dict[float, Path], done: onnx.Frontier[onnx.FrontierPoint]
) -> dict[str, Any]:
    told = json.loads(done.to_json())
    for point in told["points"]:
        path = saved.get(point["budget"])
        point["saved"] = None if path is None else str(path)
    return {"input": str(model), "page": None if html is None else str(html), **told}
