"""What a verb does to the terminal: one line per error, an exit code, a progress bar."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, ParamSpec

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from separable import files
from separable._errors import NotSeparableError
from separable._extras import MissingExtraError, extra
from separable._text import printable
from separable.files.target import check_target

P = ParamSpec("P")

# Arguments of the library that carry an option's value -> the option.
_OPTIONS: Final = {
    name: f"--{name}"
    for name in (
        *("axes", "cval", "dtype", "mode", "order", "origin", "rank", "threads", "tol", "truncate"),
        *("budget", "by", "calibration", "forms", "skip"),
    )
} | {"size": "--box", "batch_size": "--batch-size", "shapes": "--shape"}
_NAME: Final = f"({'|'.join(_OPTIONS)})"


def exits(verb: Callable[P, None]) -> Callable[P, None]:
    """Turn what a verb raises into one line on stderr and an exit code."""

    @functools.wraps(verb)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            verb(*args, **kwargs)
        except KeyboardInterrupt:
            raise _failure("interrupted.", 130) from None
        except NotSeparableError as error:
            raise _failure(as_typed(str(error)), 1) from error
        except MissingExtraError as error:
            raise _failure(str(error), 1) from error
        except MemoryError as error:
            raise _failure(f"not enough memory. {error}".rstrip(), 1) from error
        except files.FileError as error:
            raise _failure(str(error), 2) from error
        except (ValueError, TypeError) as error:
            raise _failure(as_typed(str(error)), 2) from error
        except BrokenPipeError:  # the reader of our output went away: typer leaves quietly
            raise
        except OSError as error:
            raise _failure(str(error), 1) from error

    return run


def as_typed(message: str) -> str:
    """Return an error of the library with options for its arguments: ``--rank 6`` for ``rank=6``."""

    def option(found: re.Match[str]) -> str:
        return f"`{_OPTIONS[found[1]]}`"

    def option_and_value(found: re.Match[str]) -> str:
        return f"`{_OPTIONS[found[1]]} {re.sub(r'[^-+.,:/%A-Za-z0-9_]', '', found[2]).rstrip(',')}`"

    message = re.sub(rf"`{_NAME}(?:\[\d+\])?=([^`]*)`", option_and_value, message)
    message = re.sub(rf"`{_NAME}(?:\[\d+\])?`", option, message)
    message = re.sub(r"\b(rank|tol)=(?=\d)", r"--\1 ", message)
    message = re.sub(r"\bshapes=\{'([^']*)': \(([\d, ]*)\)\}", _shape_as_typed, message)
    return re.sub(r"\b([Rr]aise) tol\b", r"\1 --tol", message)


def _shape_as_typed(found: re.Match[str]) -> str:
    return f"--shape {found[1]}={found[2].replace(' ', '')}"


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Name the file where the block says that something is wrong with weights, which are from it.

    Raises
    ------
    FileError
    """
    try:
        yield
    except (ValueError, TypeError) as error:
        if not re.match("`weights|kernel (weights|of shape)", str(error)):  # what is at fault comes first
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
        from separable.report import pages  # noqa: F401
    check_target(page)
    if any(same_file(page, other) for other in others):
        raise files.FileError(f"`--html {page}` is the model's own place; give the page another name.")


def same_file(path: Path, other: Path) -> bool:
    """Whether two paths lead to one place, whatever links are on the way."""
    return path.resolve() == other.resolve() or (path.exists() and other.exists() and path.samefile(other))


@contextmanager
def naming_model(model: Path) -> Iterator[None]:
    """Name the model's file, and the option that the data came by, in what the block says is wrong with them.

    Raises
    ------
    FileError
    """
    try:
        yield
    except files.FileError as error:
        # A folder may be named so as well: only where the argument is what the message is about.
        message = re.sub("^`calibration`(?= (is|has|holds|gives) )", "`--calibration`", str(error))
        raise files.FileError(message) from error
    except ValueError as error:
        if not str(error).startswith("`path_or_model`"):
            raise
        raise files.FileError(str(error).replace("`path_or_model`", f"`{model}`", 1)) from error


def _failure(message: str, code: int) -> typer.Exit:
    # An error is one line, for grep; the terminal folds it (soft_wrap). Names in it may come from a file.
    message = printable(re.sub(r"\s*\n\s*", "; ", message.strip()))
    Console(stderr=True).print(
        f"error: {message}", style="red", markup=False, emoji=False, highlight=False, soft_wrap=True
    )
    return typer.Exit(code)


@contextmanager
def progress(wanted: bool, *, remaining: bool = False) -> Iterator[Callable[[str, int, int], None]]:
    """Show a bar on stderr while the block runs, if that is a terminal.

    Parameters
    ----------
    wanted : bool
        False hides it on a terminal too.
    remaining : bool, optional
        Show the time that is left, not the time that has passed.

    Yields
    ------
    callable
        Called with (phase, steps done, steps in all); 0 in all where it is not known.
    """
    console = Console(stderr=True)
    clock = TimeRemainingColumn() if remaining else TimeElapsedColumn()
    columns = (BarColumn(), clock, TextColumn("{task.description}", markup=False))
    hidden = not (wanted and console.is_terminal)
    with Progress(*columns, console=console, transient=True, disable=hidden) as bar:
        task = bar.add_task("", total=None)

        def show(phase: str, done: int, total: int) -> None:
            bar.update(task, description=phase, completed=done, total=total or None)

        yield show
