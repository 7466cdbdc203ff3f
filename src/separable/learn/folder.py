"""The learner's folder: a file for each exercise, and a note of what has passed."""

from __future__ import annotations

import hashlib
import json
import re
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias

from .._base.atomic import replacing
from ..files import FileError
from .exercise import Exercise

State: TypeAlias = Literal["not begun", "begun", "done", "changed since it was done"]

_WIDTH: Final = 100
_NOTE: Final = "progress.json"


@dataclass(frozen=True)
class Folder:
    """Where a learner works.

    Attributes
    ----------
    path : Path
        Made with the first file.
    """

    path: Path

    def file(self, exercise: Exercise) -> Path:
        """Return where the learner's file of an exercise is, or will be."""
        return self.path / f"{exercise.number:02}_{exercise.slug}.py"

    def begin(self, exercise: Exercise) -> bool:
        """Write the starting code of an exercise, unless the file is there; return whether it was written.

        Raises
        ------
        FileError
            If the folder or the file cannot be made.
        """
        file = self.file(exercise)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with file.open("x", encoding="utf-8") as stream:
                stream.write(as_script(exercise))
        except FileExistsError:
            if not self.path.is_dir():
                raise FileError(f"`{self.path}` is no folder; name another one with `--folder`.") from None
            return False
        except OSError as error:
            raise FileError(f"`{file}` cannot be written: {error.strerror}.") from error
        return True

    def state(self, exercise: Exercise) -> State:
        """Return how far the learner is with an exercise."""
        file = self.file(exercise)
        if not file.exists():
            return "not begun"
        passed = self._passed().get(str(exercise.number))
        if passed is None:
            return "begun"
        return "done" if passed == _digest(file) else "changed since it was done"

    def note(self, exercise: Exercise, passed: bool) -> None:
        """Remember that the file, as it is now, passes or no longer does."""
        notes = self._passed()
        if passed:
            notes[str(exercise.number)] = _digest(self.file(exercise))
        else:
            notes.pop(str(exercise.number), None)
        with replacing(self.path / _NOTE) as beside:
            beside.write_text(json.dumps({"passed": notes}, indent=1) + "\n", encoding="utf-8")

    def _passed(self) -> dict[str, str]:
        note = self.path / _NOTE
        if not note.exists():
            return {}
        try:
            passed = json.loads(note.read_text(encoding="utf-8"))["passed"]
            if not isinstance(passed, dict):
                raise TypeError
            return {str(number): str(digest) for number, digest in passed.items()}
        except (ValueError, KeyError, TypeError) as error:
            raise FileError(
                f"`{note}` is no note of progress; delete it, and check the exercises again."
            ) from error


def as_script(exercise: Exercise) -> str:
    """Return the file that a learner begins with: the statement as a comment, then the starting code."""
    lines = [f"Exercise {exercise.number}: {exercise.title}", ""]
    for paragraph in exercise.statement.strip().split("\n\n"):
        for part in re.split(r"\n(?=- )", paragraph):
            lines += textwrap.wrap(part, _WIDTH, subsequent_indent="  " if part.startswith("- ") else "") or [
                ""
            ]
        lines.append("")
    lines.append(f"separable learn {exercise.number} --check judges this file, --hint gives a nudge.")
    comment = "\n".join(f"# {line}".rstrip() for line in lines)
    return f"{comment}\n\n{exercise.start}"


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16]
