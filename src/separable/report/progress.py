"""How far a conversion is, on stderr, where somebody looks at it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from separable.conv.network import Progress

__all__ = ["shown"]

_WIDTH: Final = 30
_EVERY: Final = 0.1  # seconds between two pictures


@contextmanager
def shown(wanted: bool | Progress | None) -> Iterator[Progress]:
    """Show a bar with the time that remains while the block runs.

    Parameters
    ----------
    wanted : bool, callable or None
        None: if stderr is a terminal. A callable is told instead.

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
    if not (sys.stderr.isatty() if wanted is None else wanted):
        yield _silent
        return
    try:
        from rich import progress as rich
        from rich.console import Console
    except ModuleNotFoundError:
        yield from _plain()
        return
    columns = (
        rich.BarColumn(),
        rich.TextColumn("{task.completed}/{task.total}"),
        rich.TimeRemainingColumn(),
        rich.TextColumn("{task.description}", markup=False),
    )
    with rich.Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total, step: bar.update(task, completed=done, total=total, description=step)


def _silent(done: int, total: int, step: str) -> None:
    """Say nothing."""


def _plain() -> Iterator[Progress]:
    start = last = time.monotonic()
    began, steps = 0, 0

    def show(done: int, total: int, step: str) -> None:
        nonlocal start, last, began, steps
        now = time.monotonic()
        if total != steps or done < began:  # another kind of step, that takes its own time
            start, began, steps = now, done, total
        if now - last < _EVERY and done < total:
            return
        last = now
        left = f"{(now - start) * (total - done) / (done - began):.0f} s left" if done > began else ""
        filled = _WIDTH * done // max(total, 1)
        line = f"{'#' * filled}{'-' * (_WIDTH - filled)} {done}/{total} {left} {step}"
        sys.stderr.write(f"\r\x1b[K{line[:100]}")
        sys.stderr.flush()

    try:
        yield show
    finally:
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()
