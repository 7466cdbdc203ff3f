"""``separable learn``."""

from __future__ import annotations

import contextlib
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import typer
from rich.markdown import Markdown
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from ... import files
from ..._base.words.printable import printable
from ...learn import notebook
from ...learn.attempt import Stopped, attempt
from ...learn.exercise import Exercise, Judgement
from ...learn.folder import Folder
from ...learn.table import EXERCISES, exercise
from ..terminal import plain_console


@dataclass(frozen=True)
class Wanted:
    """What is wanted of an exercise: at most one of these, else the exercise itself."""

    check: bool
    hint: bool
    solution: bool


def run(number: int | None, wanted: Wanted, folder: Path, notebooks: Path | None, as_json: bool) -> None:
    """List the exercises, show one, or judge the learner's file: exits with 1 if that is not right."""
    asked = [name for name, value in asdict(wanted).items() if value]
    if len(asked) > 1:
        raise ValueError(f"`--{asked[0]}` and `--{asked[1]}` exclude each other; give one of them.")
    if number is None:
        if asked:
            raise ValueError(
                f"`--{asked[0]}` needs the number of an exercise, as in separable learn 3 --{asked[0]}."
            )
        if notebooks is None:
            _list(Folder(folder), as_json)
        else:
            _write_notebooks(notebooks, as_json)
        return
    if notebooks is not None:
        raise ValueError("`--notebooks` writes all exercises; leave out the number.")
    chosen = exercise(number)
    if wanted.check:
        _check(chosen, Folder(folder), as_json)
    elif wanted.hint or wanted.solution:
        _tell(chosen, wanted.solution, as_json)
    else:
        _show(chosen, Folder(folder), as_json)


def _list(folder: Folder, as_json: bool) -> None:
    states = {item.number: folder.state(item) for item in EXERCISES}
    if as_json:
        rows = [
            {"number": item.number, "title": item.title, "state": states[item.number], "needs": item.needs}
            for item in EXERCISES
        ]
        print(json.dumps({"folder": str(folder.path), "exercises": rows}))
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("", "exercise", "needs", "state"):
        table.add_column(heading, justify="right" if not heading else "left")
    for item in EXERCISES:
        state = states[item.number]
        style = "green" if state == "done" else "yellow" if state != "not begun" else "dim"
        table.add_row(
            str(item.number), item.title, f"[{item.needs}]" if item.needs else "", Text(state, style=style)
        )
    following = next((item.number for item in EXERCISES if states[item.number] != "done"), None)
    console = plain_console()
    console.print(table, "", sep="\n")
    console.print(
        "All are done."
        if following is None
        else f"separable learn {following} begins or shows the next one.",
        soft_wrap=True,
    )


def _show(chosen: Exercise, folder: Folder, as_json: bool) -> None:
    new = folder.begin(chosen)
    file = folder.file(chosen)
    if as_json:
        facts = {
            "exercise": chosen.number,
            "title": chosen.title,
            "statement": chosen.statement,
            "needs": chosen.needs,
        }
        print(json.dumps({**facts, "file": str(file), "written": new, "state": folder.state(chosen)}))
        return
    console = plain_console()
    console.print(Text(f"Exercise {chosen.number}: {chosen.title}", style="bold"), "", sep="\n")
    console.print(Markdown(chosen.statement))
    if chosen.needs:
        console.print(f"\nIt takes: pip install 'separable[{chosen.needs}]'", soft_wrap=True)
    place = printable(str(file))
    said = f"Your file: {place}" if new else f"Your file, as you left it: {place}"
    console.print("", said, f"separable learn {chosen.number} --check judges it.", sep="\n", soft_wrap=True)


def _tell(chosen: Exercise, solution: bool, as_json: bool) -> None:
    text = chosen.solution if solution else chosen.hint
    if as_json:
        print(json.dumps({"exercise": chosen.number, "solution" if solution else "hint": text}))
    elif solution:
        plain_console().print(Syntax(text.rstrip(), "python", theme="ansi_dark", background_color="default"))
    else:
        plain_console().print(Markdown(text))


def _check(chosen: Exercise, folder: Folder, as_json: bool) -> None:
    file = folder.file(chosen)
    if not file.is_file():
        raise files.FileError(f"`{file}` is not there: separable learn {chosen.number} writes it.")
    # What the learner's file prints is no part of the JSON.
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        try:
            came = attempt(chosen, file)
        except UnicodeDecodeError as error:
            raise files.FileError(
                f"`{file}` is no text in UTF-8; separable learn --solution shows one."
            ) from error
    passed = isinstance(came, Judgement) and came.passed
    folder.note(chosen, passed)
    if as_json:
        print(json.dumps({"exercise": chosen.number, "file": str(file), "passed": passed, **_facts(came)}))
    else:
        _print(chosen, file, came)
    if not passed:
        raise typer.Exit(1)


def _facts(came: Judgement | Stopped) -> dict[str, object]:
    if isinstance(came, Stopped):
        return {"stopped": asdict(came)}
    return {"answers": [asdict(finding) for finding in came.findings]}


def _print(chosen: Exercise, file: Path, came: Judgement | Stopped) -> None:
    console = plain_console()
    if isinstance(came, Stopped):
        console.print(
            Text(f"{printable(file.name)}, line {came.line}: ", style="bold")
            .append(printable(f"{came.kind}: {came.message}"), style="red")
            .append(f"\n    {printable(came.text)}", style="dim")
        )
        return
    table = Table.grid(padding=(0, 1))
    for finding in came.findings:
        mark = Text("right", style="green") if finding.right else Text("not yet", style="yellow")
        table.add_row(mark, Text(finding.name, style="bold"), printable(finding.message))
    console.print(table)
    if not came.passed:
        console.print(f"A nudge: separable learn {chosen.number} --hint", soft_wrap=True)
    elif chosen.number < len(EXERCISES):
        console.print(
            f"Exercise {chosen.number} is done. Next: separable learn {chosen.number + 1}", soft_wrap=True
        )
    else:
        console.print(f"Exercise {chosen.number} is done, and it was the last one.", soft_wrap=True)


def _write_notebooks(target: Path, as_json: bool) -> None:
    written: list[str] = []
    kept: list[str] = []
    for item in EXERCISES:
        file = notebook.write(item, target)
        (kept if file is None else written).append(f"{item.number:02}_{item.slug}.ipynb")
    if as_json:
        print(json.dumps({"folder": str(target), "written": written, "kept": kept}))
        return
    console = plain_console()
    for words, names in (("written", written), ("left as it was", kept)):
        for name in names:
            console.print(f"{words}: {printable(str(target / name))}", soft_wrap=True)
