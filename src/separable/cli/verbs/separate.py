"""``separable separate``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, TypeAlias

from ... import onnx
from ...arrays import arguments
from ...conv.conversion.goal import count, goal_of
from ...conv.forms.table import FORMS
from ...report.progress import shown
from ...report.text import tables
from .. import model_tables
from ..networks.calibration_inputs import Data
from ..networks.metric_option import Scoring
from ..networks.targets import check_model_target, check_tensors_target
from ..terminal import check_page, naming_model, plain_console

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
    said = f"--out {out}"
    check_model_target(out, said, model, data, validation, scoring)
    check_page(html, model, out)
    with shown(not quiet) as show, naming_model(model):
        show(0, 0, "reading")
        check_tensors_target(out, said, model)
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


def _notes(goal: Goal, done: onnx.Separation) -> list[str]:
    """Return what the user may not expect of the result."""
    names = [layer.name for layer in done.report.layers]
    return [*model_tables.conversion_notes(done.report), *idle_patterns(goal.skip, names)]


def idle_patterns(skip: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return, in words, which patterns of --skip are the name of no layer."""
    idle = [pattern for pattern in skip if not any(fnmatchcase(name, pattern) for name in names)]
    return [f"--skip {pattern} is the name of no convolution here." for pattern in idle]


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
