"""``separable separate``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, TypeAlias

from ... import files, onnx
from ..._base.extras import extra
from ...arrays import arguments
from ...conv.conversion.goal import count, goal_of
from ...conv.forms.table import FORMS
from ...files.guard import reading
from ...files.target import check_target
from ...report.progress import shown
from ...report.text import tables
from .. import model_tables
from ..networks.calibration_inputs import Data
from ..networks.metric_option import Scoring
from ..terminal import check_page, naming_model, plain_console, same_file

FixedRank: TypeAlias = int | Literal["full"] | None


@dataclass(frozen=True)
class Goal:
    """What is wanted of the result, as typed."""

    budget: float | None
    max_loss: float | None
    by: str
    runtime: str | None
    batch: int
    forms: str | None
    rank: str | None
    skip: tuple[str, ...]
    never_slower: bool

    def fixed_rank(self) -> FixedRank:
        """Return the rank that all layers shall have, if one was asked for."""
        if self.rank is None:
            return None
        if self.rank == "full":
            return "full"
        if not self.rank.isdecimal() or int(self.rank) < 1:
            raise ValueError(f"`--rank {self.rank}` is no rank; expected 1, 2, ... or full.")
        return int(self.rank)

    def options(self) -> dict[str, Any]:
        """Return the keyword arguments of `separable.onnx.separate`."""
        rank = self.fixed_rank()
        forms = tuple(FORMS) if self.forms is None else tuple(self.forms.split(","))
        goal_of(self.budget, self.by, self.max_loss, forms, rank, self.runtime, self.batch)
        return {
            **({} if rank is None else {"rank": rank}),
            "budget": self.budget,
            "max_loss": self.max_loss,
            "by": self.by,
            "runtime": self.runtime,
            "batch": self.batch,
            "forms": forms,
            "skip": self.skip,
            "never_slower": self.never_slower,
        }


def run(
    model: Path,
    data: Data,
    goal: Goal,
    out: Path,
    *,
    scoring: Scoring,
    validation: Data | None,
    threads: int | None,
    html: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Convert a model, write it and its page, and print what became of it."""
    options = goal.options()  # what can be refused without reading is refused first
    if data.batch_size is not None:
        options["batch_size"] = count(data.batch_size, "batch_size")
    if threads is not None:
        arguments.thread_count(threads)
    _check_out(out, model, data, validation, scoring)
    check_page(html, model, out)
    with shown(not quiet) as show, naming_model(model):
        show(0, 0, "reading")
        _check_data(out, model)
        options |= scoring.options(model, validation is not None)
        read = data.read(model)
        if validation is not None:
            options["validation"] = validation.read(model).data
        done = onnx.separate(model, read.data, threads=threads, progress=show, **options)
        show(0, 0, "writing")
        done.save(out)
    if html is not None:
        done.report.to_html(html)
    if as_json:
        print(
            json.dumps({**_facts(model, out, html, done), "notes": _notes(goal, done), "beside": read.said})
        )
    elif not quiet:
        _print(model, out, html, goal, done, read.said)


def _check_out(out: Path, model: Path, data: Data, validation: Data | None, scoring: Scoring) -> None:
    """Refuse a target that cannot be written, or that would take the place of what is read."""
    taken = [(model, "the input"), (data.path, "the calibration data")]
    taken += [(path, "an input") for path in data.others.paths]
    taken += [] if validation is None else [(validation.path, "the validation data")]
    taken += [] if scoring.labels is None else [(scoring.labels, "the labels")]
    for path, what in taken:
        if same_file(out, path):
            raise files.FileError(f"`--out {out}` is {what}; give the result another name.")
    check_target(out)


def _check_data(out: Path, model: Path) -> None:
    """Refuse to write the result's data in the place of those of the input."""
    if not model.is_file():
        return
    with extra("onnx"):
        from onnx import load

        from ...onnx.model.files import data_beside
    places = data_beside(out)
    if not places:
        return
    with reading(model, "ONNX"):
        tensors = load(model, load_external_data=False).graph.initializer
    taken = {entry.value for tensor in tensors for entry in tensor.external_data if entry.key == "location"}
    for place in places:
        if any(same_file(place, model.parent / location) for location in taken):
            raise files.FileError(
                f"`--out {out}`: `{place}` holds data of the input; give the result another name."
            )


def _notes(goal: Goal, done: onnx.Separation) -> list[str]:
    """Return what the user may not expect of the result."""
    names = [layer.name for layer in done.report.layers]
    idle = [pattern for pattern in goal.skip if not any(fnmatchcase(name, pattern) for name in names)]
    return [
        *model_tables.conversion_notes(done.report),
        *(f"--skip {pattern} is the name of no convolution here." for pattern in idle),
    ]


def _print(
    model: Path, out: Path, html: Path | None, goal: Goal, done: onnx.Separation, beside: Sequence[str]
) -> None:
    console = plain_console()
    rows = [
        ("in", str(model)),
        *(("beside", line) for line in beside),
        ("out", str(out)),
        *([] if html is None else [("page", str(html))]),
        *model_tables.conversion_rows(done.report),
        *(("note", note) for note in _notes(goal, done)),
    ]
    console.print(
        tables.facts(rows), "", model_tables.conversion_layers(done.report, console.width), sep="\n"
    )


def _facts(model: Path, out: Path, html: Path | None, done: onnx.Separation) -> dict[str, Any]:
    return {
        "input": str(model),
        "output": str(out),
        "page": None if html is None else str(html),
        **json.loads(done.report.to_json()),
    }
