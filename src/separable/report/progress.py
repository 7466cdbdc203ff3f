"""How far a conversion is, on stderr, where somebody looks at it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from .._base.words.printable import printable
from ..conv.conversion.network import Progress

if TYPE_CHECKING:
    from rich.progress import ProgressColumn, Task
    from rich.text import Text

__all__ = ["Pace", "shown"]

_WIDTH: Final = 30
_EVERY: Final = 0.1  # seconds between two pictures
_SILENCE: Final = 2.0  # seconds before a run that nobody asked about says what it does in a log


class Pace:
    """Tells the time that remains, by how long the steps done so far took."""

    def __init__(self) -> None:
        self._start, self._began = 0.0, 0
        self._now, self._done, self._total = 0.0, 0, 0

    def note(self, now: float, done: int, total: int) -> None:
        """Take note of the steps done and those in all, at a time in seconds from any point on."""
        if total != self._total or done < self._began:  # another kind of step, that takes its own time
            self._start, self._began = now, done
        self._now, self._done, self._total = now, done, total

    @property
    def remaining(self) -> float | None:
        """Seconds from the latest note on; None if they are not known."""
        steps = self._done - self._began
        return (self._now - self._start) * (self._total - self._done) / steps if steps > 0 else None


@contextmanager
def shown(wanted: bool | Progress | None) -> Iterator[Progress]:
    """Show how far the block is on stderr: a bar on a terminal, a line for each stage elsewhere.

    The bar tells the time that remains where that is known.

    Parameters
    ----------
    wanted : bool, callable or None
        None: on a terminal, and elsewhere once the block has taken two seconds. A callable is told instead.

    Yields
    ------
    callable
        Called with steps done, steps in all, and the present step.

    Raises
    ------
    TypeError
        If `wanted` is none of these.
    """
    if wanted is not None and not isinstance(wanted, bool):
        if not callable(wanted):
            raise TypeError(
                f"`progress={wanted!r}` is a {type(wanted).__name__}; expected True, False, None, or a "
                "callable that takes steps done, steps in all, and the present step."
            )
        yield wanted
        return
    if wanted is False:
        yield _silent
        return
    silence = _SILENCE if wanted is None else 0.0
    try:
        from rich import progress as rich
        from rich.console import Console
    except ModuleNotFoundError:
        if sys.stderr.isatty():
            yield from _plain()
        else:
            yield _lines(silence)
        return
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines(silence)
        return
    columns = (
        rich.BarColumn(),
        *_counts(pace := Pace()),
        rich.TextColumn("{task.description}", markup=False),
    )
    with rich.Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=None)

        def show(done: int, total: int, step: str) -> None:
            if not total:
                bar.tasks[0].total = None  # which `update` takes for no news
            pace.note(time.monotonic(), done, total)
            bar.update(task, completed=done, total=total or None, description=printable(step))

        yield show


def _counts(pace: Pace) -> list[ProgressColumn]:
    """Return columns with the steps and the time that remains, each empty as long as nobody knows."""
    from rich.progress import ProgressColumn
    from rich.text import Text

    class Steps(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text() if task.total is None else Text(f"{task.completed:.0f}/{task.total:.0f}")

    class Remaining(ProgressColumn):
        def render(self, task: Task) -> Text:
            left = pace.remaining
            return Text("" if left is None else str(timedelta(seconds=round(left))), "progress.remaining")

    return [Steps(), Remaining()]


def _lines(silence: float) -> Progress:
    """Return what writes a line for each stage, after so many seconds: where it begins, and what it does."""
    last: tuple[str, int] | None = None
    begin = time.monotonic() + silence

    def show(done: int, total: int, step: str) -> None:
        nonlocal last
        stage = step.partition(" ")[0].rstrip(":"), total
        if stage != last and (done < total or not total) and time.monotonic() >= begin:
            last = stage
            place = f", step {done + 1} of {total}" if total else ""
            sys.stderr.write(f"{printable(stage[0])}{place}\n")
            sys.stderr.flush()

    return show


def _silent(done: int, total: int, step: str) -> None:
    """Say nothing."""


def _plain() -> Iterator[Progress]:
    pace, last = Pace(), time.monotonic()

    def show(done: int, total: int, step: str) -> None:
        nonlocal last
        now = time.monotonic()
        pace.note(now, done, total)
        if now - last < _EVERY and done < total:
            return
        last = now
        left = "" if pace.remaining is None else f"{pace.remaining:.0f} s left"
        filled = _WIDTH * done // max(total, 1)
        line = f"{'#' * filled}{'-' * (_WIDTH - filled)} {done}/{total} {left} {printable(step)}"
        sys.stderr.write(f"\r\x1b[K{line[:100]}")
        sys.stderr.flush()

    try:
        yield show
    finally:
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()
