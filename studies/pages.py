"""The pages of the studies, made of what is stored: text, and figures for light and dark."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import matplotlib as mpl

from benchmarks.store import replace_text
from docs.drawings.ink import DARK, LIGHT
from studies.store import Run
from studies.study import AS_STATED, RULE, Study, Verdict

MARKS: Final = {"holds": "**holds**", "holds when": "**holds when**", "fails here": "**fails here**"}


def draw(study: Study, run: Run, folder: Path) -> None:
    """Write NAME-light.svg and NAME-dark.svg of a study's figure, their grounds transparent."""
    folder.mkdir(parents=True, exist_ok=True)
    for ink in (LIGHT, DARK):
        # A salt of its own keeps the files the same from run to run.
        with mpl.rc_context({"svg.hashsalt": study.name, "font.size": 8.0}):
            figure = study.draw(ink, run.numbers)
            file = folder / f"{study.name}-{ink.name}.svg"
            figure.savefig(
                file, transparent=True, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type"))
            )
        # What is left is the figure: nothing that points elsewhere but the names of its namespaces.
        replace_text(file, re.sub(r"<!DOCTYPE[^>]*>\s*", "", file.read_text(encoding="utf-8")))


def write(study: Study, runs: dict[str, Run], folder: Path) -> None:
    """Write a study's page."""
    replace_text(folder / f"{study.name}.md", page(study, runs))


def page(study: Study, runs: dict[str, Run]) -> str:
    """Return a study's page: what is claimed, measured and found, and the figure, of the newest run."""
    newest = list(runs.values())[-1]
    verdicts = study.judge(newest.numbers)
    main = verdicts[0]
    first = (
        f"For those who {study.reader}. The claim is that {main.claim} (source: {main.source}). Measured: "
        f"{study.measured} Our number: {main.number}. Verdict: {_marked(main)}."
    )
    pieces = [f"# {study.title}", first]
    if len(verdicts) > 1:
        pieces.append("## What is claimed, and what came of it\n\n" + _verdicts(verdicts))
    pieces += [_figure(study), study.tables(newest.numbers), _rules(verdicts), _runs(study, runs)]
    return "\n\n".join(pieces) + "\n"


def _marked(verdict: Verdict) -> str:
    if verdict.condition.startswith(AS_STATED):
        return verdict.condition.replace(AS_STATED, f"**{AS_STATED}**", 1)
    return f"{MARKS[verdict.outcome]}{f' {verdict.condition}' if verdict.condition else ''}"


def _verdicts(verdicts: list[Verdict]) -> str:
    rows = [
        f"| {_capital(verdict.claim)} ({verdict.source}) | {verdict.number} | {_marked(verdict)} |"
        for verdict in verdicts
    ]
    return "\n".join(["| claim | our number | verdict |", "| --- | --- | --- |", *rows])


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _figure(study: Study) -> str:
    pictures = [
        f"```{{image}} pictures/{study.name}-{ink}.svg\n:class: drawing only-{ink}\n:alt: "
        f"{study.caption}\n```"
        for ink in ("light", "dark")
    ]
    return "\n".join([*pictures, "", f"*{study.caption}.*"])


def _rules(verdicts: list[Verdict]) -> str:
    lines = [f"- {_capital(verdict.claim)}: {verdict.rule}" for verdict in verdicts]
    return "\n".join([f"## How it was judged\n\nA verdict is computed from the numbers. {RULE}\n", *lines])


def _runs(study: Study, runs: dict[str, Run]) -> str:
    rows = [
        f"| {run.cpu} | {run.date} | {_took(run)} | {run.load} | {_versions(run)} | {_outcomes(study, run)} |"
        for run in runs.values()
    ]
    head = [
        "| processor | run | took | load before | versions | verdicts |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    told = (
        "Times depend on the machine: each kind of processor has its run, and a load above 1 spoils them."
        if study.timed
        else ""
    )
    again = f"Figures and text are those of the last row. `python -m studies {study.name}` measures anew."
    return "\n".join(["## Where it was measured\n", *head, *rows, "", f"{told} {again}".strip()])


def _took(run: Run) -> str:
    if run.processor_seconds is None:
        return f"{run.seconds:.0f} s"
    return f"{run.seconds:.0f} s, {run.processor_seconds:.0f} s of processors"


def _versions(run: Run) -> str:
    return ", ".join(f"{name} {number}" for name, number in run.versions.items())


def _outcomes(study: Study, run: Run) -> str:
    return ", ".join(verdict.outcome for verdict in study.judge(run.numbers))


HEAD: Final = """# Studies

For those who have read what separable convolution saves, learns and cannot do, and want to know what is
true: each claim with its source, what we measured, and a verdict that is computed from the numbers by a
stated rule. Where a claim fails here, it says so.

`make studies` measures all of it again, in about half an hour on two cores that have nothing else to do;
`python -m studies NAME --small` runs one in seconds, to see how.
"""


def index(found: list[tuple[Study, dict[str, Run]]]) -> str:
    """Return the page that lists all claims and verdicts."""
    rows = []
    for study, runs in found:
        verdicts = study.judge(list(runs.values())[-1].numbers)
        for number, verdict in enumerate(verdicts):
            link = f"[{study.title}]({study.name}.md)" if number == 0 else ""
            rows.append(f"| {link} | {_capital(verdict.claim)} | {verdict.number} | {_marked(verdict)} |")
    table = ["| study | claim | our number | verdict |", "| --- | --- | --- | --- |", *rows]
    names = "\n".join(study.name for study, _ in found)
    return "\n".join([HEAD, *table, "", "```{toctree}\n:hidden:\n", names, "```"]) + "\n"
