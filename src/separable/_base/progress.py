"""How far filters that run in this process have come."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from .._core import fraction_done

_EVERY: Final = 0.1  # seconds


@contextmanager
def following(tell: Callable[[float], None]) -> Iterator[Callable[[int, int], None]]:
    """Call `tell` ten times a second, from a thread, with the fraction that is done; it never falls.

    Within a filter it is that of the tiles, blocks or panels of its arrays. Where a filter takes more sweeps
    than it foresees, the fraction stands still until they have come as far.

    Yields
    ------
    callable
        Called with (filters done, filters in all), where there are several.
    """
    lock, ended = threading.Lock(), threading.Event()
    done, total, told = 0, 1, 0.0

    def look(within: float) -> None:
        nonlocal told
        with lock:
            now = (done + within) / total
            if now > told:
                told = now
                tell(told)

    def count(filters: int, of: int) -> None:
        nonlocal done, total
        with lock:
            done, total = filters, max(of, 1)
        look(0.0)

    def watch() -> None:
        while not ended.wait(_EVERY):
            look(fraction_done())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield count
    finally:
        ended.set()
        watcher.join()
