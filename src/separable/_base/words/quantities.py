"""Counts, sizes, times and shares as people write them: one rule for all messages, tables and pages."""

from __future__ import annotations

import math
from collections.abc import Sequence


def plural(count: int, noun: str) -> str:
    """Return the count and the noun: 1 term, 2 terms."""
    return f"{count} {noun}{'s' * (count != 1)}"


def percent(fraction: float) -> str:
    """Return a fraction as per cent, or as a power of ten where that is shorter."""
    return f"{fraction:.3g}" if fraction < 1e-4 or not math.isfinite(fraction) else f"{100 * fraction:.3g} %"


def tenths(fraction: float) -> str:
    """Return a fraction as per cent with one decimal, for columns: ``12.3 %``."""
    return f"{100 * fraction:.1f} %"


def in_seconds(time: float) -> str:
    """Return a time with three digits, in the unit that reads best."""
    for factor, unit in ((1e6, "us"), (1e3, "ms")):
        if time * factor < 999.5:
            return f"{time * factor:.3g} {unit}"
    return f"{time:.3g} s"


def in_bytes(count: int) -> str:
    """Return a size with three digits, in the unit that reads best."""
    size, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB"):
        if size < 999.5:
            break
        size, unit = size / 1024, larger
    return f"{size:.3g} {unit}"


def times(ratio: float) -> str:
    """Return a ratio such as ``8.5x``; three digits, whole from 100 on."""
    return f"{ratio:.0f}x" if ratio >= 99.95 else f"{ratio:.3g}x"


def by(sizes: Sequence[float], between: str = " x ") -> str:
    """Return sizes as people write them: ``31 x 31``."""
    return between.join(f"{size:.4g}" if size % 1 else f"{size:.0f}" for size in sizes)
