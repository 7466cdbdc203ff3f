"""What was measured and what was asked for: plain values, and the verdicts that follow from them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.engine_results import NetworkRecord

SEPARABLE = "separable"
COPY = "copy"
SCIPY = "SciPy"
ONE_THREAD = "one thread"  # metric: how much faster than the same row on one thread
SECONDS = "seconds"  # metric: the time itself
BEST_PEER = "best peer"  # metric: the fastest arrangement of the fastest peer
FMA_PEAK = "FMA peak"  # metric: arithmetic rate over the peak of the threads used
REALISED = "FLOP ratio"  # metric: speed-up over the best dense convolution, over the arithmetic saved
TORCH_CHANNELS_LAST = "torch eager channels_last"
ORT_INSIDE = "ONNX Runtime NCHWc"  # shown, but not a peer of a whole call: no program can pass its arrays
# what columns of peers begin with
LIBRARIES = ("SciPy", "OpenCV", "SimpleITK", "torch", "ONNX Runtime", "OpenVINO", "LiteRT", "ncnn")
IDLE_CORE = 0.93  # share of a core that an undisturbed thread gets at least


@dataclass(frozen=True)
class Measurement:
    """One contender on one work; times in seconds per call."""

    who: str
    variant: str  # which of our own paths, or which layout of a peer; "" where it has one way only
    threads: int
    median: float
    low: float
    high: float
    rounds: int
    cores: float
    difference: float | None  # to the reference; None: no result to compare
    note: str = ""

    @property
    def label(self) -> str:
        """The contender in words."""
        return f"{self.who} {self.variant}".strip()

    @property
    def spread(self) -> float:
        """Interquartile range over the median."""
        return (self.high - self.low) / self.median if self.median else 0.0


@dataclass(frozen=True)
class Target:
    """A promise about one of our rows: at most `bound` (copy, seconds), or at least (all others)."""

    metric: str  # one of the constants above, or the name of a peer
    bound: float
    variant: str
    threads: int = 1

    @property
    def at_most(self) -> bool:
        """Whether `bound` is an upper one."""
        return self.metric in (COPY, SECONDS)


@dataclass(frozen=True)
class Verdict:
    """A target beside what was measured; `value` is None where a contender is missing."""

    target: Target
    value: float | None

    @property
    def met(self) -> bool:
        """Whether the target is reached; what was not measured is not."""
        if self.value is None:
            return False
        return self.value <= self.target.bound if self.target.at_most else self.value >= self.target.bound


@dataclass(frozen=True)
class TimedRecord:
    """All contenders on one work, measured in the same rounds."""

    name: str
    group: str
    title: str
    run: str
    quick: bool
    fma_gflop_s: dict[str, float]  # float32 peak of one core, by variant
    measurements: list[Measurement]
    targets: list[Target]

    def ours(self) -> list[Measurement]:
        """Our rows, in the order they were measured."""
        return [m for m in self.measurements if m.who == SEPARABLE]

    def peers(self) -> list[str]:
        """Names of the other contenders, each once."""
        return list(dict.fromkeys(m.who for m in self.measurements if m.who not in (SEPARABLE, COPY)))

    def disturbed(self) -> list[Measurement]:
        """Return contenders on one thread that did not get a whole core: others were using the machine."""
        if self.quick:
            return []  # too short to tell
        return [m for m in self.measurements if m.threads == 1 and m.cores < IDLE_CORE]

    def value(self, row: Measurement, metric: str) -> float | None:
        """Return `metric` of one of our rows; None where what it needs was not measured."""
        raise NotImplementedError

    def verdicts(self, row: Measurement) -> list[Verdict]:
        """Judge one of our rows."""
        mine = [t for t in self.targets if (t.variant, t.threads) == (row.variant, row.threads)]
        return [Verdict(t, self.value(row, t.metric)) for t in mine]


@dataclass(frozen=True)
class FilterRecord(TimedRecord):
    """A filter: every sample costs the same."""

    dtype: str
    samples: int  # of the output
    macs: float  # per sample, symmetric taps not folded
    stream_gb_s: float  # non-temporal copy on one core, bytes read plus written

    def find(self, who: str, threads: int, variant: str = "") -> Measurement | None:
        """Return the contender's measurement; one with threads none of its own counts for any number."""
        rows = [m for m in self.measurements if m.who == who and (m.variant == variant or who != SEPARABLE)]
        exact = sorted((m for m in rows if m.threads == threads), key=_median)
        if exact:
            return exact[0]
        return rows[0] if who == SCIPY and rows else None

    def value(self, row: Measurement, metric: str) -> float | None:
        """Return `metric` of one of our rows: a ratio of medians, or seconds."""
        if metric == SECONDS:
            return row.median
        if metric == ONE_THREAD:
            other = self.find(SEPARABLE, 1, row.variant)
        else:
            other = self.find(metric, row.threads)
        if other is None:
            return None
        return row.median / other.median if metric == COPY else other.median / row.median

    def stream_ratio(self, row: Measurement) -> float:
        """Our time over the core's own one-core streaming copy of the same bytes."""
        itemsize = {"float32": 4, "float64": 8}[self.dtype]
        return row.median * self.stream_gb_s * 1e9 / (2 * itemsize * self.samples)

    def peak_share(self, row: Measurement) -> float | None:
        """Nominal FLOP rate over the FMA peak of the threads used; folding can lift it above 1."""
        peak = self.fma_gflop_s.get(row.variant)
        if not peak:
            return None
        lanes = {"float32": 1.0, "float64": 0.5}[self.dtype]
        return 2 * self.macs * self.samples / row.median / (peak * 1e9 * lanes * row.threads)


@dataclass(frozen=True)
class ConvRecord(TimedRecord):
    """A depthwise separable block in float32, beside the peers' dense convolution of the same shape."""

    flops: float  # of the block; of a training step where that was measured
    dense_flops: float
    dense: list[Measurement]  # peers on the dense convolution; empty for a training step

    def best(self, threads: int, peer: str = BEST_PEER) -> Measurement | None:
        """Return the fastest measurement of `peer`, a name or label, or of any peer."""
        rows = [m for m in self.measurements if m.threads == threads and m.who != SEPARABLE]
        if peer == BEST_PEER:
            rows = [m for m in rows if m.who != ORT_INSIDE]
        else:
            rows = [m for m in rows if peer in (m.who, m.label)]
        return min(rows, key=_median, default=None)

    def best_dense(self, threads: int) -> Measurement | None:
        """Return the fastest dense convolution of any peer."""
        return min((m for m in self.dense if m.threads == threads), key=_median, default=None)

    def flop_ratio(self) -> float:
        """How much less arithmetic the block takes than the dense convolution."""
        return self.dense_flops / self.flops

    def realised(self, row: Measurement) -> float | None:
        """Time of the best dense convolution over our time."""
        dense = self.best_dense(row.threads)
        return None if dense is None else dense.median / row.median

    def gflop_s(self, row: Measurement) -> float:
        """Arithmetic rate of any contender on the block."""
        return self.flops / row.median / 1e9

    def value(self, row: Measurement, metric: str) -> float | None:
        """Return `metric` of one of our rows."""
        if metric == FMA_PEAK:
            peak = self.fma_gflop_s.get(row.variant)
            return self.gflop_s(row) / (peak * row.threads) if peak else None
        if metric == REALISED:
            realised = self.realised(row)
            return None if realised is None else realised / self.flop_ratio()
        other = self.best(row.threads, metric)
        return None if other is None else other.median / row.median


def _median(measurement: Measurement) -> float:
    return measurement.median


@dataclass(frozen=True)
class Quantity:
    """A single figure, with the bound it was promised to keep (None: none was promised)."""

    label: str
    value: float
    low: float
    high: float
    unit: str
    bound: float | None = None
    note: str = ""

    @property
    def met(self) -> bool:
        """Whether the bound, if any, is kept."""
        return self.bound is None or self.value <= self.bound


@dataclass(frozen=True)
class QuantityRecord:
    """A list of figures that are not times of a filter."""

    name: str
    group: str
    title: str
    run: str
    quick: bool
    quantities: list[Quantity]


@dataclass(frozen=True)
class Ratio:
    """One call of ours beside a peer's, in seconds."""

    function: str
    dtype: str
    shape: tuple[int, ...]
    threads: int
    ours: float
    theirs: float

    @property
    def faster(self) -> float:
        """The peer's time over ours."""
        return self.theirs / self.ours

    @property
    def size(self) -> str:
        """The shape in words: 1024² for (1024, 1024)."""
        if len(self.shape) in (2, 3) and len(set(self.shape)) == 1:
            return f"{self.shape[0]}{'²³'[len(self.shape) - 2]}"
        return " x ".join(map(str, self.shape))


@dataclass(frozen=True)
class RatioRecord:
    """A grid of calls beside the same calls of one peer, and what is promised of all and of large ones."""

    name: str
    group: str
    title: str
    run: str
    quick: bool
    ratios: list[Ratio]
    large: int  # samples from which on `median` is promised
    least: float
    median: float

    def promises(self) -> Iterator[tuple[str, float, float, str]]:
        """Yield what is promised, the value that is asked for, the one measured, and where it was."""
        if self.quick or not self.ratios:
            return
        worst = min(self.ratios, key=lambda ratio: ratio.faster)
        where = f"{worst.function}, {worst.size} {worst.dtype}, {threads(worst.threads)}"
        yield "the smallest ratio", self.least, worst.faster, where
        for count in sorted({ratio.threads for ratio in self.ratios}):
            large = [r.faster for r in self.ratios if math.prod(r.shape) >= self.large and r.threads == count]
            if large:
                name = f"the median from {self.large:,} samples on, {threads(count)}"
                yield name, self.median, statistics.median(large), f"{len(large)} calls"


@dataclass(frozen=True)
class Cell:
    """The time of one way to a row's result, in seconds, and how far from exact that was."""

    column: str
    median: float
    low: float
    high: float
    cores: float
    apart: float | None = None  # the largest error found; None: nothing was compared

    @property
    def of_peer(self) -> bool:
        """Whether another library did it."""
        return self.column.startswith(LIBRARIES)


@dataclass(frozen=True)
class Row:
    """Several ways to one result, measured in the same rounds."""

    label: str
    threads: int
    cells: list[Cell]

    def seconds(self, column: str) -> float | None:
        """Return a column's time; None where it was not measured."""
        return next((cell.median for cell in self.cells if cell.column == column), None)

    def over(self, column: str, base: str) -> float | None:
        """Return the time of `column` over that of `base`; None where one is missing."""
        own, other = self.seconds(column), self.seconds(base)
        return None if own is None or other is None else own / other

    @property
    def spread(self) -> float:
        """The largest interquartile range of the row's times over their median."""
        return max((cell.high - cell.low) / cell.median for cell in self.cells)


@dataclass(frozen=True)
class TableRecord:
    """A table of times, one row for each piece of work, and figures that follow from it."""

    name: str
    group: str
    title: str
    run: str
    quick: bool
    corner: str  # what the rows are
    base: str  # the column beside which the others are seen
    rows: list[Row]
    quantities: list[Quantity]

    def disturbed(self) -> bool:
        """Whether a call on one thread did not get a whole core."""
        cells = [cell for row in self.rows if row.threads == 1 for cell in row.cells]
        return not self.quick and any(cell.cores < IDLE_CORE for cell in cells)


Record = FilterRecord | ConvRecord | QuantityRecord | RatioRecord | TableRecord | NetworkRecord


def not_met(record: Record) -> Iterator[str]:
    """Yield one sentence for every target that `record` misses."""
    if isinstance(record, RatioRecord):
        for name, asked, found, where in record.promises():
            if found < asked:
                yield f"{record.title}: {name} is {found:.2f} ({where}), asked for at least {asked:g}."
        return
    if isinstance(record, NetworkRecord):
        for name, asked, found, who in record.verdicts(SEPARABLE):
            if found < asked:
                yield f"{record.title}, {name}: {found:.2f} x as fast as {who}, asked for at least {asked:g}."
        return
    if isinstance(record, QuantityRecord):
        for q in record.quantities:
            if not q.met:
                yield f"{record.title}: {q.label} is {q.value:.1f} {q.unit}, asked for at most {q.bound:.1f}."
        return
    if isinstance(record, TableRecord):
        for q in record.quantities:
            if not q.met:
                yield f"{record.title}: {q.label} is {q.value:.3g} {q.unit}, asked for at most {q.bound:.3g}."
        return
    for row in record.ours():
        for verdict in record.verdicts(row):
            if not verdict.met:
                yield f"{record.title}, {row.variant}, {threads(row.threads)}: {describe(verdict)}."


def describe(verdict: Verdict) -> str:
    """Say a verdict in words: what was measured, what was asked for."""
    target, value = verdict.target, verdict.value
    sign = "at most" if target.at_most else "at least"
    if value is None:
        return f"{target.metric} was not measured (asked for {sign} {target.bound:g})"
    if target.metric == SECONDS:
        return f"{value * 1e6:.1f} µs, asked for at most {target.bound * 1e6:g} µs"
    if target.metric in (FMA_PEAK, REALISED):
        return f"{value:.0%} of the {target.metric}, asked for {sign} {target.bound:.0%}"
    against = "copy time" if target.metric == COPY else f"as fast as {target.metric}"
    return f"{value:.2f} x {against}, asked for {sign} {target.bound:g}"


def threads(count: int) -> str:
    """Return "1 thread", "2 threads", ..."""
    return f"{count} thread" if count == 1 else f"{count} threads"
