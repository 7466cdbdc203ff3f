"""``separable calibrate``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from ...calibrate import Fit, calibrate
from ...cost import model as costs
from ...files.target import check_target
from ...report.text import tables
from ..terminal import plain_console, progress


def run(out: Path | None, every: bool, as_json: bool) -> None:
    """Measure this machine, keep its rates, and say how well they predict what was measured."""
    file = costs.cache_file() if out is None else out
    if out is not None:
        check_target(out)
    with progress(not as_json, remaining=True, lines=True) as show:
        fits = calibrate(file, every, lambda done, of: show("measuring", done, of))
    if as_json:
        print(json.dumps({"file": str(file), "rates": _facts(fits)}))
        return
    console = plain_console()
    console.print(_table(fits))
    console.print(tables.facts([("kept in", str(file))]))


def _facts(fits: dict[str, dict[str, Fit]]) -> dict[str, Any]:
    return {
        target: {
            dtype: {"rates": fit.rates, "filters": len(fit.errors), "median_error": _middle(fit)}
            for dtype, fit in by_dtype.items()
        }
        for target, by_dtype in fits.items()
    }


def _table(fits: dict[str, dict[str, Fit]]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("rates", "dtype", "filters timed", "predicted within", "nine of ten"):
        table.add_column(heading, justify="left" if heading in ("rates", "dtype") else "right")
    for target, by_dtype in fits.items():
        for dtype, fit in by_dtype.items():
            nine = float(np.percentile(np.abs(fit.errors), 90))
            row = (target, dtype, str(len(fit.errors)), f"{_middle(fit):.0%}", f"{nine:.0%}")
            table.add_row(*row)
            target = ""
    return table


def _middle(fit: Fit) -> float:
    """Return the median of the relative errors."""
    return float(np.median(np.abs(fit.errors)))
