"""Run a learner's file, and say where it stops."""

from __future__ import annotations

import linecache
import re
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .._base.extras import MissingExtraError
from .answers import CallError
from .exercise import Exercise, Judgement


@dataclass(frozen=True)
class Stopped:
    """Where a learner's file raised an exception, or was no Python.

    Attributes
    ----------
    kind, message : str
        Of the exception.
    line : int
        In the file, from 1.
    text : str
        What stands there.
    """

    kind: str
    message: str
    line: int
    text: str


def attempt(exercise: Exercise, file: Path) -> Judgement | Stopped:
    """Run a file and judge the names that it leaves.

    Parameters
    ----------
    exercise : Exercise
    file : Path

    Returns
    -------
    Judgement or Stopped
        A stop if the file, or one of its functions when it was tried, raised an exception.

    Raises
    ------
    KeyboardInterrupt
        If the learner interrupts what does not end.
    MissingExtraError
        If the exercise needs a package that is not installed.
    OSError, UnicodeDecodeError
        If the file cannot be read.
    """
    source = file.read_text(encoding="utf-8")
    linecache.checkcache(str(file))
    names: dict[str, Any] = {"__name__": "__main__", "__file__": str(file)}
    try:
        exec(compile(source, str(file), "exec"), names)  # the learner's own
        return exercise.judge(names)
    except MissingExtraError:
        raise
    except SyntaxError as error:
        line = (error.lineno if error.filename == str(file) else _line(error, file)) or 1
        return Stopped(type(error).__name__, error.msg, line, _text(source, line))
    except CallError as error:
        cause = error.__cause__ or error
        # An exception of the call itself, as of a wrong number of arguments, has no line in the function.
        line = _line(cause, file) or _first_line(source, error.name)
        return Stopped(type(cause).__name__, str(cause), line, _text(source, line))
    except (Exception, SystemExit) as error:
        line = _line(error, file)
        if not line:  # not the learner's: a fault of the check
            raise
        return Stopped(type(error).__name__, str(error), line, _text(source, line))


def _line(error: BaseException, file: Path) -> int:
    """Return the last line of the file that an exception came through; 0 where there is none."""
    frames = traceback.extract_tb(error.__traceback__)
    return next((frame.lineno or 0 for frame in reversed(frames) if frame.filename == str(file)), 0)


def _first_line(source: str, name: str) -> int:
    lines = enumerate(source.splitlines(), 1)
    return next((number for number, text in lines if re.search(rf"\b{name}\b", text) and text[0] != "#"), 1)


def _text(source: str, line: int) -> str:
    lines = source.splitlines()
    return lines[line - 1].strip() if line <= len(lines) else ""
