"""Import time over NumPy's, each import in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import numpy as np

from benchmarks import libraries
from benchmarks.results import Quantity, QuantityRecord
from benchmarks.timing import Effort

BOUND_MS = 50.0

# NumPy first and outside the measurement; what it prints is milliseconds.
CHILD = """
import time, numpy
start = time.perf_counter()
{statement}
print((time.perf_counter() - start) * 1e3)
"""

FIRST_USE = "import separable; separable.correlate(numpy.ones((64, 64)), numpy.ones((3, 3)))"


PEERS = {"SciPy": "scipy.ndimage", "OpenCV": "cv2", "SimpleITK": "SimpleITK", "torch": "torch"}


def measure(
    run: str,
    quick: bool = False,
    effort: Effort | None = None,
    only: tuple[str, ...] = (),
    progress: Callable[[str], None] = lambda text: None,
) -> QuantityRecord:
    """Return median import times, rounds interleaved over the libraries; `only` names peers to measure."""
    effort = effort or Effort()
    statements = {"import separable": "import separable", "import and first filter": FIRST_USE}
    for title, name in PEERS.items():
        if libraries.load(name) is not None and libraries.chosen(title, only):
            statements[f"import {name}"] = f"import {name}"
    for statement in statements.values():
        _milliseconds(statement)  # compiles byte code and fills the page cache
    samples: dict[str, list[float]] = {label: [] for label in statements}
    for number in range(effort.rounds):
        progress(f"import: round {number + 1} of {effort.rounds}")
        for label, statement in statements.items():
            if "separable" in statement or number < effort.min_rounds:
                samples[label].append(_milliseconds(statement))
    title = "Import time over NumPy's"
    quantities = [_quantity(label, values) for label, values in samples.items()]
    return QuantityRecord("import", "Import time", title, run, quick, quantities)


def _milliseconds(statement: str) -> float:
    program = CHILD.format(statement=statement)
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    return float(done.stdout)


def _quantity(label: str, samples: list[float]) -> Quantity:
    low, median, high = (float(value) for value in np.percentile(samples, (25, 50, 75)))
    bound = BOUND_MS if label == "import separable" else None
    return Quantity(label, median, low, high, "ms", bound, f"{len(samples)} processes")
