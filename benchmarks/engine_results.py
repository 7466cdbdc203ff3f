"""What was measured of a whole network, and the verdicts that follow from it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

ALLOWED = 0.85  # of what the machine allows is asked where that is less than the ratio asked


@dataclass(frozen=True)
class NetworkTime:
    """One runtime on one network; times in seconds per call."""

    who: str
    batch: int
    threads: int
    minimum: float
    median: float
    high: float  # 75th percentile
    rounds: int
    cores: float
    load: float  # seconds from the file to the first result
    difference: float  # to ONNX Runtime's output, over the largest of that
    float32: bool  # others stand beside and are no peers
    fma_gflop_s: float  # float32 peak of one core in the same minute
    stream_gb_s: float  # copy on one core in the same minute
    note: str = ""


@dataclass(frozen=True)
class NetworkRecord:
    """A network in all runtimes; those of the same batch and threads were measured in the same rounds."""

    name: str
    group: str
    title: str
    run: str
    quick: bool
    macs: float  # of one input
    weight_bytes: int
    cache_bytes: int  # of the last level
    asked: float | None  # as how many times as fast as the best float32 peer
    left_out: list[str]
    times: list[NetworkTime]

    def settings(self) -> list[tuple[int, int]]:
        """Return the batches and threads that were measured."""
        return list(dict.fromkeys((time.batch, time.threads) for time in self.times))

    def find(self, who: str, batch: int, threads: int) -> NetworkTime | None:
        """Return the time of one runtime; None where it was not measured."""
        found = (t for t in self.times if (t.who, t.batch, t.threads) == (who, batch, threads))
        return next(found, None)

    def best_peer(self, batch: int, threads: int, ours: str) -> NetworkTime | None:
        """Return the peer in float32 with the least minimum."""
        peers = [t for t in self.times if (t.batch, t.threads) == (batch, threads)]
        exact = [t for t in peers if t.float32 and t.who != ours]
        return min(exact, key=lambda time: time.minimum, default=None)

    def share(self, time: NetworkTime) -> float:
        """Return the arithmetic rate over the FMA peak of the threads used."""
        return self._arithmetic(time) / time.minimum

    def bound(self, time: NetworkTime) -> float:
        """Return the least seconds the machine allows: multiply-adds at the peak, or weights from memory."""
        memory = self.weight_bytes / (time.stream_gb_s * 1e9) if self.weight_bytes > self.cache_bytes else 0.0
        return max(self._arithmetic(time), memory)

    def _arithmetic(self, time: NetworkTime) -> float:
        return 2 * self.macs * time.batch / (time.fma_gflop_s * 1e9 * time.threads)

    def faster(self, batch: int, threads: int, ours: str) -> tuple[NetworkTime, float] | None:
        """Return the best peer, and its minimum over ours."""
        own, best = self.find(ours, batch, threads), self.best_peer(batch, threads, ours)
        return None if own is None or best is None else (best, best.minimum / own.minimum)

    def verdicts(self, ours: str) -> Iterator[tuple[str, float, float, str]]:
        """Yield what is promised, the ratio that is asked for, the one measured, and beside whom."""
        if self.quick or self.asked is None:
            return
        for batch, threads in self.settings():
            found = self.faster(batch, threads, ours)
            if found is not None:
                best, ratio = found
                asked = min(self.asked, ALLOWED * best.minimum / self.bound(best))
                cores = "1 thread" if threads == 1 else f"{threads} threads"
                yield f"batch {batch}, {cores}", asked, ratio, best.who

    def disturbed(self, idle: float) -> bool:
        """Whether a call on one thread did not get a whole core."""
        return not self.quick and any(t.threads == 1 and t.cores < idle for t in self.times)
