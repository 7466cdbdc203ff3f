"""What a length costs that a network has not seen before: real networks, lengths from call to call."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

import numpy as np

from benchmarks import engine_files, libraries
from benchmarks.engine_latency import GROUP, Progress
from benchmarks.results import Quantity, QuantityRecord

NAME: Final = "engine-lengths"
MOST: Final = 5.0  # ms of a processor that a new length may take, where lengths of its kind were seen
SEED: Final = 0

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Lengths:
    """A network, and how its inputs differ from call to call.

    Attributes
    ----------
    network : str
        Of `engine_files`.
    axes : tuple of int
        Of its first input, those whose lengths differ.
    low, high, step : int
        The least length, what all are below, and what they differ by.
    """

    network: str
    axes: tuple[int, ...]
    low: int
    high: int
    step: int

    def shapes(self, count: int) -> list[Shapes]:
        """Return shapes of so many calls, no two the same."""
        rng = np.random.default_rng(SEED)
        (name, shape), *_ = engine_files.named(self.network).cases[0].items()
        choices = range(self.low, self.high, self.step)
        drawn: dict[tuple[int, ...], None] = {}
        while len(drawn) < min(count, len(choices) ** len(self.axes)):
            chosen = list(shape)
            for axis in self.axes:
                chosen[axis] = int(rng.choice(choices))
            drawn[tuple(chosen)] = None
        return [{name: lengths} for lengths in drawn]


LENGTHS: Final = (
    Lengths("ocr-reading", (3,), 64, 960, 8),
    Lengths("ocr-detection", (2, 3), 320, 736, 32),
    Lengths("captcha-reading", (3,), 64, 320, 4),
    Lengths("yolov8n", (2, 3), 192, 640, 32),
    Lengths("crnn", (0,), 1, 65, 1),
)
COUNT: Final = 60  # new lengths of each network


def measure(
    run: str, quick: bool = False, progress: Progress = lambda text: None, count: int | None = None
) -> QuantityRecord:
    """Measure what a new length takes: the least and the quartiles, and the most of those of a new kind."""
    quantities: list[Quantity] = []
    if libraries.load("onnx") is not None:
        for lengths in LENGTHS:
            network = engine_files.named(lengths.network)
            if quick and not network.is_here():
                continue
            progress(f"{NAME}: {network.title}")
            quantities += figures(lengths, count or (8 if quick else COUNT))
    title = "What a new length of an input takes, before it runs (time of one processor)"
    return QuantityRecord(NAME, GROUP, title, run, quick, quantities)


def figures(lengths: Lengths, count: int) -> list[Quantity]:
    """Return what new lengths of a network take: the first two, which find out what differs, are left out."""
    network = engine_files.named(lengths.network)
    program = libraries.load("separable.engine").load(network.path(), threads=1)
    again: list[float] = []
    noted: list[float] = []
    for shapes in lengths.shapes(count):
        before = program._recordings.made
        start = time.thread_time()
        program.memory(shapes)  # plans, and does not run
        spent = 1e3 * (time.thread_time() - start)
        (noted if program._recordings.made > before else again).append(spent)
    again = again[1:]  # but for the very first
    low, high = (float(np.quantile(again, part)) for part in (0.25, 0.75))
    note = f"{len(noted)} of {count} lengths of a new kind took up to {max(noted, default=0):.0f} ms"
    return [Quantity(network.title, min(again), low, high, "ms", MOST, note)]
