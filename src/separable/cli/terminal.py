"""What a verb does to the terminal: one line per error, an exit code, a progress bar."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from separable._errors import NotSeparableError
from separable._extras import MissingExtraError

P = ParamSpec("P")


def exits(verb: Callable[P, None]) -> Callable[P, None]:
    """Turn what a verb raises into one line on stderr and an exit code."""

    @functools.wraps(verb)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            verb(*args, **kwargs)
        except KeyboardInterrupt:
            raise _failure("interrupted.", 130) from None
        except (MissingExtraError, NotSeparableError) as error:
            raise _failure(str(error), 1) from error
        except MemoryError as error:
            raise _failure(f"not enough memory. {error}".rstrip(), 1) from error
        except (ValueError, TypeError) as error:
            raise _failure(str(error), 2) from error
        except BrokenPipeError:  # the reader of our output went away: typer leaves quietly
            raise
        except OSError as error:
            raise _failure(str(error), 1) from error

    return run


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
