"""One row of a table of times: several ways to one result, interleaved, each looked at before it is timed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.filters import WrongResultError
from benchmarks.results import Cell, Row
from benchmarks.timing import Effort, Stopwatch, interleave
from benchmarks.works import Array, Taps

POISON = 77  # stands in the output before a first call: one that does nothing must not pass
PLACES = 16  # rows, and columns, on which results are compared with plain sums


@dataclass(frozen=True)
class Way:
    """Something to time that writes to the shared output.

    `apart` returns how far what stands there is from the exact result, and None where nothing is claimed;
    more than `most` is another piece of work.
    """

    column: str
    call: Callable[[], object]
    apart: Callable[[], float | None]
    most: float
    prepare: Callable[[], None] = lambda: None


def timed(label: str, threads: int, out: Array, ways: Sequence[Way], effort: Effort) -> Row:
    """Time `ways`, all of which write to `out`, in the same rounds.

    Raises
    ------
    WrongResultError
        If a way is farther from the exact result than it may be.
    """
    watches = [Stopwatch(way.prepare, way.call) for way in ways]
    found = []
    for way, watch in zip(ways, watches, strict=True):
        out.fill(POISON)
        watch.first()
        found.append(apart := way.apart())
        if apart is not None and not apart <= way.most:  # written so that NaN does not pass
            raise WrongResultError(f"{label}, {way.column}: {apart:g} off, more than {way.most:g}")
    interleave(watches, effort)
    cells = []
    for way, watch, apart in zip(ways, watches, found, strict=True):
        t = watch.timing()
        cells.append(Cell(way.column, t.median, t.low, t.high, round(t.cores, 2), apart))
    return Row(label, threads, cells)


def places(size: int) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    """Return the rows (or columns) of an axis that are looked at, its ends among them."""
    return np.unique(np.linspace(0, size - 1, PLACES).round().astype(np.intp))


def window_sums(x: Array, taps: Taps) -> Taps:
    """Return the correlation of a square `x` with `taps` along both axes, mode reflect, at all `places`.

    Plain matrix products in float64, shape ``(places, places)``: no slower for long taps than for short.
    """
    count, radius, rows = len(x), len(taps) // 2, places(len(x))
    operator = np.zeros((len(rows), count))
    for number, row in enumerate(rows):
        reached = np.arange(row - radius, row + radius + 1) % (2 * count)
        np.add.at(operator[number], np.minimum(reached, 2 * count - 1 - reached), taps)
    return np.asarray(operator @ x @ operator.T)


def at_places(out: Array) -> Taps:
    """Return what a way computed at the same places, in float64."""
    return out[np.ix_(*map(places, out.shape))].astype(np.float64)
