"""What is measured of models in several runtimes: times, memory, errors, and on which machine."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from ...conv.conversion.records import json_text

__all__ = ["QUANTILES", "BenchMachine", "BenchRecord", "FailedModel", "ModelTimes", "RuntimeTimes"]

# Of the times of calls, beside the least: what share takes no longer.
QUANTILES: Final = (0.5, 0.9, 0.99)


@dataclass(frozen=True)
class RuntimeTimes:
    """A model in one runtime, with so many threads.

    Attributes
    ----------
    runtime, version : str
    milliseconds : tuple of float
        Of each call.
    load_ms : float or None
        From the file to the first result, in a process of its own; None where it was not measured.
    memory_bytes : int or None
        The most that such a process held at once, all of it.
    before_bytes : int or None
        What it held before it read the model: Python, NumPy, the runtime, the inputs.
    error : float or None
        Largest difference of the outputs from the reference's, relative to the largest of each. Infinity
        where shapes differ, or what is NaN or infinite.
    notes : tuple of str
        What was not measured, and why.
    """

    runtime: str
    version: str
    milliseconds: tuple[float, ...]
    load_ms: float | None = None
    memory_bytes: int | None = None
    before_bytes: int | None = None
    error: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def least_ms(self) -> float:
        """The shortest call."""
        return min(self.milliseconds)

    @property
    def median_ms(self) -> float:
        """The median of all calls."""
        return statistics.median(self.milliseconds)

    def quantile_ms(self, share: float) -> float:
        """Return the time that this share of the calls kept to: one that was measured, or their median.

        Parameters
        ----------
        share : float
            Above 0, up to 1.

        Returns
        -------
        float
        """
        if share == 0.5:
            return self.median_ms
        return sorted(self.milliseconds)[math.ceil(share * len(self.milliseconds)) - 1]


@dataclass(frozen=True)
class ModelTimes:
    """A model in several runtimes, all with so many threads.

    Attributes
    ----------
    model : str
    inputs : mapping of str to tuple of int
    threads : int
    macs : int or None
        Multiply-adds of a call; None where the engine, which counts them, did not run it.
    peak_gflops : float
        Of fused multiply-adds of these threads, measured between the rounds: the most.
    copy_gbs : float
        10^9 bytes per second that one thread reads and writes, before and after the rounds: the most.
    times : tuple of RuntimeTimes
    left_out : tuple of str
        Which runtimes could not run it, and why.
    own : str
        The name of the runtime that the others are compared with, the engine's.
    """

    model: str
    inputs: Mapping[str, tuple[int, ...]]
    threads: int
    macs: int | None
    peak_gflops: float
    copy_gbs: float
    times: tuple[RuntimeTimes, ...]
    left_out: tuple[str, ...] = ()
    own: str = "separable"

    @property
    def best_ms(self) -> float | None:
        """Time of the arithmetic alone, at the peak; None where it is not known."""
        return None if self.macs is None else 2e-6 * self.macs / self.peak_gflops

    @property
    def ours(self) -> RuntimeTimes | None:
        """The engine's times; None where it was not asked for, or did not run the model."""
        return next((timed for timed in self.times if timed.runtime == self.own), None)

    def of_peak(self, times: RuntimeTimes) -> float | None:
        """Return which fraction of the peak a runtime reached, by the multiply-adds of the model."""
        return None if self.best_ms is None else self.best_ms / times.least_ms

    def over_ours(self, times: RuntimeTimes) -> float | None:
        """Return how many times as long as the engine a runtime takes: the least of each."""
        return None if self.ours is None else times.least_ms / self.ours.least_ms

    def as_dict(self) -> dict[str, Any]:
        """Return its figures as plain values, with those that follow from the samples."""
        rows = [
            {
                **asdict(timed),
                "least_ms": timed.least_ms,
                "median_ms": timed.median_ms,
                **{f"p{100 * share:.0f}_ms": timed.quantile_ms(share) for share in QUANTILES[1:]},
                "of_peak": self.of_peak(timed),
                "over_ours": self.over_ours(timed),
            }
            for timed in self.times
        ]
        return {**asdict(self), "inputs": dict(self.inputs), "times": rows}


@dataclass(frozen=True)
class FailedModel:
    """A model that nothing was measured of, and why."""

    model: str
    reason: str


@dataclass(frozen=True)
class BenchMachine:
    """What times are of.

    Attributes
    ----------
    processor : str
    cores : int
        That the process may use.
    target : str
        The instruction set that the engine's kernels are of.
    versions : mapping of str to str
        Of Python, NumPy and the runtimes.
    """

    processor: str
    cores: int
    target: str
    versions: Mapping[str, str]


@dataclass(frozen=True)
class BenchRecord:
    """Models in several runtimes.

    Attributes
    ----------
    models : tuple of ModelTimes
        One for each model and number of threads.
    machine : BenchMachine
    rounds : int
    batch : int
    rest_ms : float
        Before the calls of each round.
    reference : str
        What errors are from.
    missing : tuple of str
        Runtimes that are not installed.
    failed : tuple of FailedModel
    notes : tuple of str
    """

    models: tuple[ModelTimes, ...]
    machine: BenchMachine
    rounds: int
    batch: int
    rest_ms: float
    reference: str
    missing: tuple[str, ...] = ()
    failed: tuple[FailedModel, ...] = ()
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        entries = {name: value for name, value in vars(self).items() if name not in ("models", "failed")}
        return {
            "models": [model.as_dict() for model in self.models],
            "failed": [asdict(model) for model in self.failed],
            **entries,
            "machine": asdict(self.machine),
        }

    def to_json(self) -> str:
        """Return the same as JSON text; what was not measured, and an infinite error, are ``null``."""
        return json_text(self.as_dict(), indent=2)
