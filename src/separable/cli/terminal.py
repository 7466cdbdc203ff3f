"""What a verb does to the terminal: one line per error, an exit code, a progress bar.

Names of files, nodes and inputs come from outside: they are never read as markup or control codes.
`plain_console` makes every console of the command line, so that no table or message has to think of it.
"""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, ParamSpec, TypeAlias

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from .. import files
from .._base.errors import NotSeparableError
from .._base.extras import MissingExtraError, extra
from .._base.words.printable import printable
from ..files.target import check_target
from ..stream.journal import JournalError

P = ParamSpec("P")
Show: TypeAlias = Callable[[str, int, int], None]

# Arguments of the library that carry an option's value -> the option.
_OPTIONS: Final = (
    {
        name: f"--{name}"
        for name in (
            *("axes", "cval", "dtype", "mode", "order", "origin", "rank", "threads", "tol", "truncate"),
            *("budget", "budgets", "by", "calibration", "forms", "memory", "skip"),
            *("isotropic", "levels", "reduction"),
        )
    }
    | {"size": "--box", "batch_size": "--batch-size", "shapes": "--shape"}
    | {name: f"--{name}" for name in ("batch", "rounds", "fallback", "runtimes")}
)
_NAME: Final = f"({'|'.join(_OPTIONS)})"

_SILENCE: Final = 2.0  # seconds after which a run without a terminal reports its phases
_BAR: Final = 24  # characters: 60 columns hold percentage, time and a name beside it


def plain_console(*, stderr: bool = False) -> Console:
    """Return a console that prints text as it is: square brackets are no markup, colons no emoji."""
    return Console(stderr=stderr, markup=False, emoji=False)


def say(text: str, *, stderr: bool = False, style: str | None = None) -> None:
    """Print one unwrapped line, for grep; line breaks and control characters are shown, not sent."""
    plain_console(stderr=stderr).print(Text(printable(text), style=style or ""), soft_wrap=True)


def exits(verb: Callable[P, None]) -> Callable[P, None]:
    """Turn what a verb raises into one line on stderr and an exit code."""

    @functools.wraps(verb)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            verb(*args, **kwargs)
        except KeyboardInterrupt:
            raise _failure("interrupted.", 130) from None
        except BrokenPipeError:  # the reader of our output went away: typer leaves quietly
            raise
        except Exception as error:
            message = failure_of(error)
            if message is None:
                raise
            ours = isinstance(error, (ValueError, TypeError)) and not isinstance(error, NotSeparableError)
            raise _failure(message, 2 if ours else 1) from error

    return run


def failure_of(error: Exception) -> str | None:
    """Return an error as the command line words it; None for a bug, which keeps its traceback."""
    if isinstance(error, (MissingExtraError, files.FileError)):
        return str(error)
    if isinstance(error, JournalError):
        return as_typed(str(error))
    if isinstance(error, MemoryError):
        return f"not enough memory. {error}".rstrip()
    if isinstance(error, (ValueError, TypeError)):
        return as_typed(str(error))
    return str(error) if isinstance(error, OSError) else None


def as_typed(message: str) -> str:
    """Return an error of the library with options for its arguments: ``--rank 6`` for ``rank=6``."""

    def option(match: re.Match[str]) -> str:
        return f"`{_OPTIONS[match[1]]}`"

    def option_and_value(match: re.Match[str]) -> str:
        return f"`{_OPTIONS[match[1]]} {re.sub(r'[^-+.,:/%A-Za-z0-9_]', '', match[2]).rstrip(',')}`"

    message = re.sub(rf"`{_NAME}(?:\[[^]`]*\])*=([^`]*)`", option_and_value, message)
    message = re.sub(rf"`{_NAME}(?:\[[^]`]*\])*`", option, message)
    message = re.sub(r"\b(rank|tol)=(?=\d)", r"--\1 ", message)
    message = re.sub(r"\bfallback='(\w+)'", r"--fallback \1", message)
    message = re.sub(r"\b(resume)='(\w+)'", r"--\1 \2", message)
    message = re.sub(r"\bshapes='([^']*)'", r"--shape \1", message)
    return re.sub(r"\b([Rr]aise) tol\b", r"\1 --tol", message)


@contextmanager
def typed(option: str, *names: str) -> Iterator[None]:
    """Name the option in the block's errors about `names`, the library's arguments that carry its value."""
    try:
        yield
    except (ValueError, TypeError) as error:
        argument = rf"`({'|'.join(names)})(\[\d+\])?(=[^`]*)?`"
        raise type(error)(re.sub(argument, f"`{option}`", str(error))) from error


@contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Name the source of weights, a file or a call of a family, in the block's errors about them.

    Raises
    ------
    FileError
    """
    try:
        yield
    except (ValueError, TypeError) as error:
        if not re.match("`weights|kernel (weights|of shape)", str(error)):  # not about the weights
            raise
        raise files.FileError(f"`{path}`: {as_typed(str(error))}") from error


def check_page(page: Path | None, *others: Path) -> None:
    """Refuse a page that cannot be written, before any work is done for it.

    Raises
    ------
    FileError
        If its place cannot be written to, or is that of another file of this run.
    MissingExtraError
        If what draws it is not installed.
    """
    if page is None:
        return
    with extra("report"):
        from ..report.pages import page as pages  # noqa: F401
    check_target(page)
    if any(same_file(page, other) for other in others):
        raise files.FileError(f"`--html {page}` is the model's own place; give the page another name.")


def same_file(path: Path, other: Path) -> bool:
    """Whether two paths lead to one place, whatever links are on the way."""
    return path.resolve() == other.resolve() or (path.exists() and other.exists() and path.samefile(other))


@contextmanager
def naming_model(model: Path) -> Iterator[None]:
    """Name the model's file and the option ``--calibration`` in the block's errors about them.

    Raises
    ------
    FileError
    """
    try:
        yield
    except files.FileError as error:
        # A folder may be called `calibration` too: only messages about the argument are reworded.
        message = re.sub("^`calibration`(?= (is|has|holds|gives) )", "`--calibration`", str(error))
        raise files.FileError(message) from error
    except ValueError as error:
        if not str(error).startswith("`path_or_model`"):
            raise
        raise files.FileError(str(error).replace("`path_or_model`", f"`{model}`", 1)) from error


def one_line(message: str) -> str:
    """Return an error as it is printed: one line, ``separable: <what>``."""
    folded = re.sub(r"\s*\n\s*", "; ", message.strip())
    return f"separable: {printable(folded)}"


def _failure(message: str, code: int) -> typer.Exit:
    say(one_line(message), stderr=True, style="red")
    return typer.Exit(code)


def pace(size: float, done: int, left: int, seconds: float) -> str:
    """Return how fast a run is and what time is left, to follow its phase: ``, 120 MB/s, 2:30 left``.

    Parameters
    ----------
    size : float
        Bytes of a step.
    done, left : int
        Steps that took the time, and those to come.
    seconds : float
        The time.

    Returns
    -------
    str
        Empty before the first step is done.
    """
    if not done or seconds <= 0:
        return ""
    minutes, rest = divmod(round(seconds / done * left), 60)
    hours, minutes = divmod(minutes, 60)
    clock = f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
    return f", {size * done / seconds / 1e6:.3g} MB/s, {clock} left"


class _Percent(ProgressColumn):
    """How much is done, where that is known."""

    def render(self, task: Task) -> Text:
        return Text("" if task.total is None else f"{task.percentage:3.0f} %")


@contextmanager
def progress(
    wanted: bool, *, remaining: bool = False, lines: bool = False, tenths: bool = False
) -> Iterator[Show]:
    """Show a bar on stderr while the block runs, if that is a terminal.

    Parameters
    ----------
    wanted : bool
        False hides it on a terminal too.
    remaining : bool, optional
        Show the time that is left, not the time that has passed.
    lines : bool, optional
        Where stderr is no terminal, print a line for each phase, once a run has taken two seconds: what is
        done sooner, or refused, leaves nothing in a log but its errors.
    tenths : bool, optional
        Print also a line for each tenth of a phase, as a log of hours should have them.

    Yields
    ------
    callable
        Called with (phase, steps done, steps in all); 0 in all where it is not known.
    """
    console = plain_console(stderr=True)
    if wanted and lines and not console.is_terminal:
        phases = _Phases(tenths)
        try:
            yield phases.show
        finally:
            phases.end()
        return
    clock = TimeRemainingColumn() if remaining else TimeElapsedColumn()
    columns = (BarColumn(_BAR), _Percent(), clock, TextColumn("{task.description}", markup=False))
    hidden = not (wanted and console.is_terminal)
    with Progress(*columns, console=console, transient=True, disable=hidden) as bar:
        task = bar.add_task("", total=None)

        def show(phase: str, done: int, total: int) -> None:
            bar.tasks[0].total = total or None  # update() takes None for "as it was"
            bar.update(task, description=printable(phase), completed=done)

        yield show


class _Phases:
    """A line on stderr for each phase of a run that takes its time, and for each tenth of it if wanted."""

    def __init__(self, tenths: bool) -> None:
        self._tenths, self._tenth = tenths, -1
        self._phase = self._said = ""
        self._speaks = False
        self._lock = threading.Lock()
        self._timer = threading.Timer(_SILENCE, self._begin)
        self._timer.daemon = True
        self._timer.start()

    def show(self, phase: str, done: int, total: int) -> None:
        with self._lock:
            if not (self._tenths and total):
                self._phase = phase
            elif (tenth := 10 * done // total) != self._tenth:
                self._tenth, self._phase = tenth, f"{10 * tenth} %, {phase}"
            self._say()

    def end(self) -> None:
        self._timer.cancel()
        with self._lock:
            self._phase = self._said

    def _begin(self) -> None:
        with self._lock:
            self._speaks = True
            self._say()

    def _say(self) -> None:
        if self._speaks and self._phase != self._said:
            self._said = self._phase
            say(self._phase, stderr=True)
