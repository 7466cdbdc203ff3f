"""The exercises as notebooks, made of the same statements and starting code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .exercise import Exercise


def notebook(exercise: Exercise, *, solved: bool = False) -> dict[str, Any]:
    """Return an exercise as a notebook of format 4.5.

    Parameters
    ----------
    exercise : Exercise
    solved : bool, optional
        With the solution in the place of the starting code.

    Returns
    -------
    dict
        As it is written to JSON.
    """
    needs = f"\nIt takes `pip install 'separable[{exercise.needs}]'`.\n" if exercise.needs else ""
    code = exercise.solution if solved else exercise.start
    cells = [
        _text(f"# Exercise {exercise.number}: {exercise.title}\n\n{exercise.statement}{needs}", "statement"),
        _code(code, "answer"),
        _code(f"from separable import learn\n\nlearn.check({exercise.number}, globals())", "check"),
        _text(f"<details><summary>A hint</summary>\n\n{exercise.hint}\n</details>", "hint"),
    ]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {
        "cells": cells,
        "metadata": {"kernelspec": kernel, "language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def write(exercise: Exercise, folder: Path, *, again: bool = False) -> Path | None:
    """Write an exercise as a notebook into a folder; return its path, None where one was left as it is.

    Parameters
    ----------
    exercise : Exercise
    folder : Path
        Made if it is missing.
    again : bool, optional
        Replace what is there; by default it is left as it is.

    Returns
    -------
    Path or None

    Raises
    ------
    OSError
        If it cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{exercise.number:02}_{exercise.slug}.ipynb"
    try:
        with file.open("w" if again else "x", encoding="utf-8") as stream:
            stream.write(json.dumps(notebook(exercise), indent=1, ensure_ascii=False) + "\n")
    except FileExistsError:
        return None
    return file


def _lines(text: str) -> list[str]:
    return text.strip().splitlines(keepends=True)


def _text(text: str, name: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "id": name, "metadata": {}, "source": _lines(text)}


def _code(text: str, name: str) -> dict[str, Any]:
    empty: dict[str, Any] = {"execution_count": None, "outputs": []}
    return {"cell_type": "code", "id": name, "metadata": {}, **empty, "source": _lines(text)}
