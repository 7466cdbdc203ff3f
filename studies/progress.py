"""What a study is doing, on stderr."""

from __future__ import annotations

import sys
import time
from typing import Final

QUIET: Final = 15.0  # seconds between two lines of progress, where there is no terminal


class ShownProgress:
    """Shows what is done: on a terminal in one line that changes, else a line now and then."""

    def __init__(self) -> None:
        self._next = 0.0

    def __call__(self, text: str) -> None:
        """Show the present stage."""
        if sys.stderr.isatty():
            print(f"\r{text[:79]:79}", end="\r", file=sys.stderr, flush=True)
        elif text and time.monotonic() >= self._next:
            print(text, file=sys.stderr, flush=True)
            self._next = time.monotonic() + QUIET
