"""What a plan does, step by step, in numbers: for tables and pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from ..._base.types import Array
from ...conv.audits.machine import Machine, this_machine
from .plan import NetworkPlan

__all__ = ["PrecisionRecord", "ProfileRecord", "StepRecord", "step_records"]

_NANO: Final = 1e-6  # milliseconds


@dataclass(frozen=True)
class PrecisionRecord:
    """The precision that a program was asked for, and how far its results are from those in float32.

    Attributes
    ----------
    precision : str
        "int8" or "bf16".
    layers : int
        Convolutions and products that run in it.
    others : tuple of str
        Those that stayed float32, by the tensors that they make.
    inputs : int
        Calls that the error was measured on, and that ranges of "int8" come from.
    error : mapping of str to float
        Of each output: the root of the mean square of the difference, over that of the results in float32.
    largest : mapping of str to float
        Of each output: the largest difference, over the largest result in float32.
    ranges : str
        How those were chosen: "all" of what was met, or with the "least error" of single numbers. "bf16" has
        none.
    unit : str
        What multiplies numbers of "bf16": "amx", "avx512-bf16", or "vectors" of float32 where the processor
        has neither. "int8" has none.
    """

    precision: str
    layers: int
    others: tuple[str, ...]
    inputs: int
    error: Mapping[str, float]
    largest: Mapping[str, float]
    ranges: str
    unit: str = ""


@dataclass(frozen=True)
class StepRecord:
    """One step of a plan.

    Attributes
    ----------
    kind : str
        What it does: "pointwise", "depthwise 3 x 3 /2", or "ONNX Runtime: Loop, If".
    name : str
        The tensor that it makes.
    shape : tuple of int
    notes : tuple of str
        What was fused into it.
    macs : int
        Multiply-adds.
    bytes : int
        What it reads and writes, weights included.
    memory_bytes : int
        What the arena holds while it runs.
    predicted_ms : float
        The time of its arithmetic, or of the memory traffic if no cache held anything, whichever is longer.
    measured_ms : float or None
        The least of several runs; None before `profile`.
    """

    kind: str
    name: str
    shape: tuple[int, ...]
    notes: tuple[str, ...]
    macs: int
    bytes: int
    memory_bytes: int
    predicted_ms: float
    measured_ms: float | None = None

    @property
    def gflops(self) -> float | None:
        """Measured speed in 10^9 floating-point operations per second; two for each multiply-add."""
        return None if not self.measured_ms else 2e-6 * self.macs / self.measured_ms


@dataclass(frozen=True)
class ProfileRecord:
    """Where the time of a network goes.

    Attributes
    ----------
    network : str
    inputs : tuple of (str, tuple of int)
    steps : tuple of StepRecord
    total_ms, median_ms : float
        Least and median time of whole calls.
    repeat : int
        Calls that were timed.
    threads : int
    peak_gflops : float
        Of fused multiply-adds of these threads, as measured.
    memory_bytes : int
        Of one call.
    """

    network: str
    inputs: tuple[tuple[str, tuple[int, ...]], ...]
    steps: tuple[StepRecord, ...]
    total_ms: float
    median_ms: float
    repeat: int
    threads: int
    peak_gflops: float
    memory_bytes: int

    @property
    def macs(self) -> int:
        """Multiply-adds of all steps."""
        return sum(step.macs for step in self.steps)


def step_records(plan: NetworkPlan, threads: int, nanoseconds: Array | None = None) -> tuple[StepRecord, ...]:
    """Return the steps of a plan, with what was measured of each if anything was."""
    machine = this_machine(threads)
    operations = plan.operations
    times: Sequence[float | None] = [None] * len(operations)
    if nanoseconds is not None:
        times = [float(count) * _NANO for count in np.asarray(nanoseconds)]
    return tuple(
        StepRecord(
            operation.kind,
            operation.label,
            operation.shape,
            tuple(operation.notes),
            operation.macs,
            operation.bytes,
            memory,
            _predicted(machine, operation.macs / operation.rate, operation.bytes),
            time,
        )
        for operation, memory, time in zip(operations, _memory(plan), times, strict=True)
    )


def _memory(plan: NetworkPlan) -> list[int]:
    """Return the bytes of the arena that are in use while each operation runs."""
    found = []
    for part in plan.parts:
        buffers = {
            buffer for operation in part.operations for buffer in (*operation.reads, *operation.writes)
        }
        arena = [buffer for buffer in buffers if buffer.base == 0 and buffer.first is not None]
        found += [
            4 * sum(b.size for b in arena if b.first is not None and b.first <= place <= b.last)
            for place in range(len(part.operations))
        ]
    return found


def _predicted(machine: Machine, macs: float, size: int) -> float:
    return machine.roofline_ms(round(macs), size) or 0.0
