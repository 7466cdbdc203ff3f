"""Interleaved timing of several contenders that do the same work."""

from __future__ import annotations

import contextlib
import gc
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

MIN_SAMPLE_SECONDS = 2e-3  # shorter calls are batched up to this, so that the clock's grain does not show
SLOW_CALL_SECONDS = 0.25  # from here on cold caches and sleeping threads no longer matter
MIN_ROUNDS = 3  # what a median needs
MOST_SECONDS = 8.0  # a contender that takes longer for these rounds gets fewer


@dataclass(frozen=True)
class Effort:
    """How long to measure: interleaved rounds, and the seconds one contender may take in all."""

    rounds: int = 15
    seconds: float = 1.5
    min_rounds: int = MIN_ROUNDS


@dataclass(frozen=True)
class Timing:
    """The samples of one contender, in seconds per call."""

    median: float
    low: float  # 25th percentile
    high: float  # 75th percentile
    rounds: int
    cores: float  # processor seconds per wall-clock second: shows who did not keep to its threads


@dataclass
class Stopwatch:
    """Samples of one callable, taken a few calls at a time."""

    prepare: Callable[[], None]
    call: Callable[[], object]
    samples: list[float] = field(default_factory=list)
    estimate: float = math.nan  # seconds of one warm call
    _wall: float = 0.0
    _processor: float = 0.0

    def first(self) -> None:
        """Call once; a slow call is a sample already, a quick one only warms up and gives an estimate."""
        self.prepare()
        self.estimate = self._run(1)
        if self.estimate >= SLOW_CALL_SECONDS:
            self.samples.append(self.estimate)
            return
        self.estimate = self._run(1)  # the first call may have paid for imports, plans or page faults
        self._wall = self._processor = 0.0

    def visit(self) -> None:
        """Take one sample. Quick calls are preceded by an unmeasured one, which wakes this peer's threads."""
        self.prepare()
        if self.estimate < SLOW_CALL_SECONDS:
            self.call()
        calls = max(1, math.ceil(MIN_SAMPLE_SECONDS / max(self.estimate, 1e-9)))
        self.samples.append(self._run(calls) / calls)

    def rounds(self, effort: Effort) -> int:
        """How many samples this callable can afford."""
        visit = max(2 * self.estimate, MIN_SAMPLE_SECONDS)
        affordable = min(effort.rounds, int(effort.seconds / visit))
        least = min(effort.min_rounds, int(MOST_SECONDS / max(self.estimate, MIN_SAMPLE_SECONDS)))
        return max(affordable, least, 1)

    def timing(self) -> Timing:
        """Summarise the samples."""
        low, median, high = np.percentile(self.samples, (25, 50, 75))
        return Timing(
            median=float(median),
            low=float(low),
            high=float(high),
            rounds=len(self.samples),
            cores=self._processor / self._wall if self._wall else 0.0,
        )

    def _run(self, calls: int) -> float:
        call = self.call
        processor, start = time.process_time(), time.perf_counter()
        for _ in range(calls):
            call()
        wall = time.perf_counter() - start
        self._wall += wall
        self._processor += time.process_time() - processor
        return wall


def interleave(
    watches: Sequence[Stopwatch], effort: Effort, progress: Callable[[int, int], None] | None = None
) -> None:
    """Sample all ``watches`` in rounds A B C A B C ..., slow ones in only some of the rounds.

    Each watch must have seen :meth:`Stopwatch.first`.
    """
    wanted = [max(0, watch.rounds(effort) - len(watch.samples)) for watch in watches]
    rounds = max(wanted, default=0)
    with _no_garbage_collection():
        for number in range(rounds):
            if progress is not None:
                progress(number + 1, rounds)
            for watch, share in zip(watches, wanted, strict=True):
                # spreads `share` visits evenly over all rounds
                if (number + 1) * share // rounds > number * share // rounds:
                    watch.visit()


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    enabled = gc.isenabled()
    gc.collect(1)  # what is young: all of a large process takes longer than what is timed
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
