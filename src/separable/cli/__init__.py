"""The ``separable`` command: where it starts, and what it exits with.

Exit codes: 0 done, 1 it failed while running, 2 wrong usage or a bad input, 130 interrupted.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from .._base.extras import MissingExtraError, extra


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command with `arguments` (default: those of the process) and exit."""
    # A terminated process leaves nothing half-written behind: SystemExit runs the clean-up.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with extra("cli"):
            from .app import command
    except MissingExtraError as missing:
        print(f"separable: {missing}", file=sys.stderr)
        sys.exit(1)
    sys.exit(command(arguments))
