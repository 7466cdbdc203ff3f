"""The engine's convolutions in cache over the FMA peak of the same minute, on every instruction set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.results import Quantity, QuantityRecord
from benchmarks.timing import Effort
from separable import _core

NAME = "engine-kernels"
BOUND = 1 / 0.85  # of the time that the peak allows: 85 % of it
ROUNDS_A_SAMPLE = 8  # calls in a row, of which the fastest counts: other processes come and go
RELU = 1
WITHOUT_FMA = ("v2", "base")  # nothing was promised for these


@dataclass(frozen=True)
class Work:
    """One convolution of maps of `size` x `size` pixels: pointwise, dense or depthwise."""

    kind: str
    channels: int
    results: int
    size: int
    kernel: int = 1
    stride: int = 1
    bound: float | None = None

    @property
    def label(self) -> str:
        """What a reader is told."""
        stride = f" /{self.stride}" if self.stride > 1 else ""
        what = self.kind if self.kernel == 1 else f"{self.kind} {self.kernel} x {self.kernel}{stride}"
        between = "" if self.kind == "depthwise" else f" -> {self.results}"
        return f"{what}, {self.channels}{between} channels, {self.size} x {self.size}"

    @property
    def macs(self) -> int:
        """Multiply-adds."""
        each = self.kernel**2 * (1 if self.kind == "depthwise" else self.channels)
        return (self.size // self.stride) ** 2 * self.results * each


WORKS = (
    *(Work("pointwise", c, c, 14, bound=BOUND) for c in (128, 256, 512)),
    Work("pointwise", 960, 160, 7, bound=BOUND),
    Work("pointwise", 160, 960, 7, bound=BOUND),
    Work("pointwise", 96, 576, 14),
    Work("pointwise", 24, 144, 28),
    Work("pointwise", 16, 96, 28),
    Work("pointwise", 144, 24, 28),
    Work("depthwise", 64, 64, 28, 3),
    Work("depthwise", 64, 64, 28, 3, 2),
    Work("depthwise", 64, 64, 28, 5),
    Work("dense", 64, 64, 28, 3),
    Work("dense", 64, 128, 28, 3, 2),
)


def measure(
    run: str,
    quick: bool = False,
    effort: Effort | None = None,
    only: tuple[str, ...] = (),
    progress: Callable[[str], None] = lambda text: None,
) -> QuantityRecord:
    """Return times over those of the FMA peak; rounds are interleaved over works and instruction sets."""
    del only  # no peers
    effort = effort or Effort()
    targets = _core.core_info()["targets"][-1:] if quick else _core.core_info()["targets"]
    samples: dict[str, list[float]] = {}
    try:
        for number in range(effort.rounds):
            progress(f"{NAME}: round {number + 1} of {effort.rounds}")
            for target in targets:
                _core.force(target)
                for work in WORKS[:2] if quick else WORKS:
                    label = f"{target}: {work.label}"
                    samples.setdefault(label, []).append(_over_peak(work))
    finally:
        _core.force(None)
    bounds = {
        f"{target}: {work.label}": work.bound
        for target in targets
        if target not in WITHOUT_FMA and not quick
        for work in WORKS
    }
    quantities = [_quantity(label, values, bounds.get(label)) for label, values in samples.items()]
    title = "The engine's convolutions in cache, one thread: time over that of the FMA peak"
    return QuantityRecord(NAME, "Whole networks", title, run, quick, quantities)


def _over_peak(work: Work) -> float:
    program = _program(work)
    times = np.zeros(1, np.int64)
    best = np.inf
    for _ in range(ROUNDS_A_SAMPLE):
        program.run([], [], 1, times)
        best = min(best, float(times[0]))
    return best * _core.measure("fma") / (2 * work.macs)


def _program(work: Work) -> Any:
    """Return a program of one step, between two places of its arena."""
    lanes = _core.core_info()["vector_bits"] // 32
    rng = np.random.default_rng(0)
    edge = work.kernel // 2
    size, out = work.size, work.size // work.stride

    def image(at: int, channels: int, length: int, around: int) -> tuple[Any, int]:
        row = (length + 2 * around) * lanes
        block = (length + 2 * around) * row
        pitches = (-(-channels // lanes) * block, block, row, lanes)
        start = at + around * row + around * lanes
        return _core.Image(0, start, (1, channels, length, length), lanes, pitches, (around,) * 4), pitches[0]

    src, end = image(0, work.channels, size, edge)
    dst, more = image(end, work.results, out, 0)
    bias = np.zeros(work.results, np.float32)
    packed: tuple[Any, Any]
    if work.kind == "depthwise":
        weights = rng.standard_normal((work.channels, work.kernel, work.kernel)).astype(np.float32)
        packed = (None, _core.DepthwiseWeights(weights, bias))
    else:
        shape = (work.results, work.channels, work.kernel, work.kernel)
        packed = (_core.ConvWeights(rng.standard_normal(shape).astype(np.float32), bias, 1, lanes), None)
    stage = _core.Stage(
        packed[0],
        packed[1],
        (work.results, out, out),
        (work.stride, work.stride),
        (1, 1),
        (edge, edge),
        RELU,
        0.0,
        0.0,
        False,
    )
    program = _core.Program(end + more, [], [])
    _core.add_chain(program, src, dst, [stage])
    return program


def _quantity(label: str, samples: list[float], bound: float | None) -> Quantity:
    least, median, high = (float(value) for value in np.percentile(samples, (0, 50, 75)))
    return Quantity(label, least, least, high, "x", bound, f"median {median:.2f}, {len(samples)} rounds")
