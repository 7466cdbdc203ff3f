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
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from separable import files
from separable._errors import NotSeparableError
from separable._extras import MissingExtraError

P = ParamSpec("P")

# Arguments of the library that carry an option's value -> the option.
_OPTIONS: Final = {
    name: f"--{name}"
    for name in ("axes", "cval", "dtype", "mode", "order", "origin", "rank", "threads", "tol", "truncate")
} | {"size": "--box"}
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
    return re.sub(r"\b([Rr]aise) tol\b", r"\1 --tol", message)


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


def _failure(message: str, code: int) -> typer.Exit:
    # soft_wrap: an error is one line, for grep; the terminal folds it.
    Console(stderr=True).print(
        f"error: {message}", style="red", markup=False, highlight=False, soft_wrap=True
    )
    return typer.Exit(code)


@contextmanager
def progress(wanted: bool) -> Iterator[Callable[[str, int, int], None]]:
    """Show a bar on stderr while the block runs, if that is a terminal.

    Parameters
    ----------
    wanted : bool
        False hides it on a terminal too.

    Yields
    ------
    callable
        Called with (phase, steps done, steps in all); 0 in all where it is not known.
    """
    console = Console(stderr=True)
    columns = (TextColumn("{task.description:9}"), BarColumn(), TimeElapsedColumn())
    hidden = not (wanted and console.is_terminal)
    with Progress(*columns, console=console, transient=True, disable=hidden) as bar:
        task = bar.add_task("", total=None)

        def show(phase: str, done: int, total: int) -> None:
            bar.update(task, description=phase, completed=done, total=total or None)

        yield show
