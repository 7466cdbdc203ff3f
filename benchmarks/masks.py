"""What normalising by known samples costs: Gaussians of images with holes beside the plain filter."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from benchmarks import machine
from benchmarks.results import Quantity, Row, TableRecord
from benchmarks.tables import Way, at_places, timed, window_sums
from benchmarks.timing import Effort
from benchmarks.works import Array, Taps, aligned, gaussian_taps

SIGMAS = (1, 2, 4)
SIZES = (1024, 4096)
THREADS = (1, 2)
EFFORT = Effort(rounds=11, seconds=0.8)
PLAIN = "plain"
MOST = 2.0  # times the plain filter
MISSING = 0.01  # share of scattered samples
TOLERANCE = 1e-5  # of inputs in [0, 1): float32 sums of up to 66 taps, divided by such sums


def measure(run: str, quick: bool, progress: Callable[[str], None] = lambda text: None) -> TableRecord:
    """Time Gaussians of float32 images of which all, most or some samples are known."""
    rows: list[Row] = []
    for size in (64,) if quick else SIZES:
        x, out = (
            np.random.default_rng(17).random((size, size), dtype=np.float32),
            aligned((size,) * 2, "float32"),
        )
        for sigma in SIGMAS:
            for threads in THREADS[: machine.usable_cores()]:
                label = f"{size} x {size} float32, sigma {sigma}"
                progress(f"masks: {label}, {threads} threads")
                ways = list(_ways(x, out, sigma, threads))
                rows.append(timed(label, threads, out, ways, Effort(1, 0.0, 1) if quick else EFFORT))
    title = "Gaussians normalised by what is known, as times and as multiples of the plain filter's"
    quantities = list(_over_plain(rows, quick))
    return TableRecord("masks", "Masks", title, run, quick, "image", PLAIN, rows, quantities)


def _holes(size: int) -> dict[str, tuple[Array, bool]]:
    """Return which samples are known, and whether NaN says so, by column."""
    scattered = np.random.default_rng(19).random((size, size)) >= MISSING
    blob = np.ones((size, size), bool)
    y, x = np.ogrid[:size, :size]
    blob[(y - size // 2) ** 2 + (x - size // 3) ** 2 <= (size // 6) ** 2] = False
    known = np.ones((size, size), bool)
    return {
        "1 % NaN": (scattered, True),
        "1 % masked": (scattered, False),
        "a blob masked": (blob, False),
        "mask, all known": (known, False),
        "nan=omit, no NaN": (known, True),
    }


def _ways(x: Array, out: Array, sigma: int, threads: int) -> Iterator[Way]:
    import separable

    taps = gaussian_taps(sigma, int(4 * sigma + 0.5))

    def way(column: str, source: Array, exact: Taps, **given: Any) -> Way:
        call = functools.partial(separable.gaussian, source, sigma, output=out, threads=threads, **given)
        return Way(column, call, lambda: _apart(at_places(out), exact), TOLERANCE)

    yield way(PLAIN, x, window_sums(x, taps))
    for column, (known, by_nan) in _holes(len(x)).items():
        reached = window_sums(known, taps)
        with np.errstate(invalid="ignore"):  # NaN where nothing is known
            exact = window_sums(np.where(known, x, 0), taps) / np.where(reached > 0, reached, np.nan)
        if by_nan:
            yield way(column, np.where(known, x, np.float32(np.nan)), exact, nan="omit")
        else:
            yield way(column, x, exact, mask=known)


def _apart(found: Taps, exact: Taps) -> float:
    if not np.array_equal(np.isnan(found), np.isnan(exact)):
        return float("inf")
    return float(np.nanmax(np.abs(found - exact)))


def _over_plain(rows: list[Row], quick: bool) -> Iterator[Quantity]:
    """Yield the largest multiple of the plain filter's time in each column."""
    for column in (cell.column for cell in rows[0].cells if cell.column != PLAIN):
        ratios = [(row.over(column, PLAIN) or 0.0, f"{row.label}, {row.threads} thr.") for row in rows]
        worst, where = max(ratios)
        lowest, highest = min(ratios)[0], worst
        yield Quantity(
            f"{column}, over the plain filter", worst, lowest, highest, "x", None if quick else MOST, where
        )
