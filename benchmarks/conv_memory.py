"""Peak memory of one training step, in a process of its own: what recomputing, not storing, saves."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks import conv_torch, libraries
from benchmarks.memory import MIB
from benchmarks.results import SEPARABLE, Quantity, QuantityRecord

CHILD = "benchmarks._conv_peak_memory"
ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Training:
    """One training step of `depth` equal blocks in sequence, 3 taps per axis."""

    channels: int
    sizes: tuple[int, ...]
    batch: int
    depth: int
    who: str  # SEPARABLE, or torch's own layers

    def label(self) -> str:
        """Say the step in words."""
        size = " x ".join(map(str, self.sizes))
        blocks = "1 block" if self.depth == 1 else f"{self.depth} blocks"
        return f"{self.who}, {blocks}, {self.batch} x {size}, {self.channels} channels"


def measure(
    run: str,
    quick: bool,
    only: tuple[str, ...] = (),
    progress: Callable[[str], None] = lambda text: None,
) -> QuantityRecord:
    """Return the memory each training step takes beyond weights and input."""
    quantities = []
    for step in _steps(quick, only):
        progress(f"conv-memory: {step.label()}")
        result, extra = peak(step)
        note = f"the result of one block is {result / MIB:.1f} MiB"
        mib = extra / MIB
        quantities.append(Quantity(step.label(), mib, mib, mib, "MiB", None, note))
    title = "Peak memory of a training step beyond weights and input (gradients included)"
    return QuantityRecord("conv-memory", "Memory", title, run, quick, quantities)


def peak(step: Training) -> tuple[int, int]:
    """Run `step` in a new process; return the bytes of a block's result and the peak beyond those before."""
    command = [sys.executable, "-m", CHILD, json.dumps(asdict(step))]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    result, extra = json.loads(done.stdout)
    return int(result), int(extra)


def _steps(quick: bool, only: tuple[str, ...]) -> list[Training]:
    if libraries.load("torch") is None:
        return []
    shapes = [
        (128, (56, 56), 8, 1),
        (128, (56, 56), 8, 8),
        (64, (64, 64, 64), 1, 1),
        (64, (64, 64, 64), 1, 4),
    ]
    if quick:
        shapes = [(32, (14, 11), 2, 2)]
    peers = [conv_torch.EAGER] if libraries.chosen(conv_torch.EAGER, only) else []
    return [Training(*shape, who) for shape in shapes for who in (SEPARABLE, *peers)]
