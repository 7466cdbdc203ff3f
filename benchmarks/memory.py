"""Peak memory of one call on a volume, measured in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.results import Quantity, QuantityRecord

MIB = 2**20
CHILD = Path(__file__).with_name("_peak_memory.py")


@dataclass(frozen=True)
class Call:
    """One call: `who` filters an array of `shape`, `dtype` and memory `layout` with `taps` taps per axis."""

    shape: tuple[int, ...]
    taps: int
    dtype: str = "float32"
    layout: str = "contiguous"  # or "transposed"
    threads: int = 2
    who: str = "separable"

    def label(self) -> str:
        """Say the call in words."""
        size = " x ".join(map(str, self.shape))
        layout = "" if self.layout == "contiguous" else f" {self.layout}"
        return f"{self.who}, {size} {self.dtype}{layout}, {self.taps} taps"


def measure(run: str, quick: bool, progress: Callable[[str], None] = lambda text: None) -> QuantityRecord:
    """Return the memory each call takes beyond its input, against its promise."""
    calls = _calls(((40, 48, 56),) if quick else ((256, 256, 256), (384, 512, 512)))
    quantities = []
    for call in calls:
        progress(f"memory: {call.label()}")
        quantities.append(_quantity(call))
    title = "Peak memory of a 3-D call beyond its input (output included)"
    return QuantityRecord("memory", "Memory", title, run, quick, quantities)


def _calls(shapes: tuple[tuple[int, ...], ...]) -> list[Call]:
    calls = [Call(shape, taps) for shape in shapes for taps in (9, 25)]
    first = shapes[0]
    calls.append(Call(first, 9, dtype="float64"))
    calls.append(Call(first, 9, dtype="uint8"))
    calls.append(Call(first, 9, layout="transposed"))
    calls.append(Call(first, 9, who="SciPy"))
    return calls


def _quantity(call: Call) -> Quantity:
    output, extra = peak(call)
    bound = (1.05 * output + 64 * MIB) / MIB if call.who == "separable" else None
    note = f"the output alone is {output / MIB:.1f} MiB"
    return Quantity(call.label(), extra / MIB, extra / MIB, extra / MIB, "MiB", bound, note)


def peak(call: Call) -> tuple[int, int]:
    """Run `call` in a new process; return the bytes of its output and the peak beyond what stood before."""
    done = subprocess.run(
        [sys.executable, str(CHILD), json.dumps(call.__dict__)], check=True, capture_output=True, text=True
    )
    output, extra = json.loads(done.stdout)
    return int(output), int(extra)
