"""``separable factor``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Console

from separable import SeparableKernel, files
from separable.report import tables
from separable.report.values import Study, study

from .terminal import naming


def run(path: Path, tol: float | None, rank: int | None, as_json: bool) -> None:
    """Factor the kernel in a file and print what came of it."""
    weights = files.read(path).data
    with naming(path):
        done = study(str(path), weights, tol, rank)
    if as_json:
        print(json.dumps(facts(done)))
    else:
        Console().print(tables.factorisation(done))


def facts(done: Study) -> dict[str, Any]:
    """Return a factorisation as plain values."""
    found = done.found
    return {
        "kernel": done.name,
        "shape": found.shape,
        "dtype": done.weights.dtype.name,
        "separable": done.separates,
        "dense_macs": found.size,
        **_cost_and_error(found),
        "terms": [[taps.tolist() for taps in term] for term in found.terms],
        "offers": [_cost_and_error(kernel) for kernel in done.offers],
    }


def _cost_and_error(kernel: SeparableKernel) -> dict[str, Any]:
    return {
        "rank": kernel.rank,
        "macs": kernel.macs,
        "l1": kernel.error.l1,
        "relative_l1": kernel.error.relative_l1,
        "relative_l2": kernel.error.relative_l2,
    }
