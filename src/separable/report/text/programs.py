"""Programs of the engine, and their profiles, as tables of plain text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from ..._base.words.printable import printable
from ..._base.words.quantities import by, in_bytes, plural
from .columns import aligned

if TYPE_CHECKING:
    from ...engine.network.compiled import CompiledNetwork
    from ...engine.network.plan import NetworkPlan
    from ...engine.network.records import PrecisionRecord, ProfileRecord, StepRecord

__all__ = ["facts_of", "precision_lines", "profile_table", "program_table", "what"]


def program_table(program: CompiledNetwork) -> str:
    """Return a network as it is run: its inputs and outputs, and a line for each step.

    Parameters
    ----------
    program : CompiledNetwork

    Returns
    -------
    str
        Of the plan that was used last; the inputs alone where no lengths are known yet.
    """
    name = printable(program.name) or "network"
    try:
        plan = program.plan()
    except ValueError:
        inputs = [f"  input {printable(name)}: {kind}" for name, kind in program.inputs.items()]
        outputs = ", ".join(map(printable, program.outputs))
        return "\n".join(
            [
                f"{name}: planned at the first call, for the shapes of its inputs",
                *inputs,
                f"  outputs {outputs}; {plural(program.nodes_read, 'node')} read",
            ]
        )
    steps = program.steps()
    lines = [name, *(f"  {text}" for text in facts_of(program, plan))]
    measured = any(step.measured_ms is not None for step in steps)
    headings = ["step", "fused", "out", "MACs", "bytes", "predicted ms", *(["ms"] if measured else [])]
    rows = [_row(step, measured) for step in steps]
    if rows:
        total = [
            "all",
            "",
            "",
            f"{sum(step.macs for step in steps):,}",
            f"{sum(step.bytes for step in steps):,}",
            _ms(sum(step.predicted_ms for step in steps)),
            *([_ms(sum(step.measured_ms or 0 for step in steps))] if measured else []),
        ]
        numbers = [False, False, False, *[True] * (len(headings) - 3)]
        lines += ["", *aligned(headings, [*rows, total], numbers)]
    return "\n".join(lines)


def facts_of(program: CompiledNetwork, plan: NetworkPlan) -> list[str]:
    """Return the inputs, outputs and sums of a plan, a line each."""
    return [
        *(f"input {printable(name)}: {kind}" for name, kind in plan.inputs.items()),
        *(f"output {printable(name)}: {kind}" for name, kind in plan.outputs.items()),
        f"{plural(program.nodes_read, 'node')} -> {plural(len(plan.operations), 'step')}; "
        f"{plural(program.threads, 'thread')}",
        f"weights {in_bytes(program.weights_bytes)}; memory of a call {in_bytes(plan.memory_bytes)}",
        *([] if program.precision is None else precision_lines(program.precision)),
    ]


# What multiplies numbers of bfloat16.
_UNITS: Final = {"amx": "by AMX", "avx512-bf16": "by AVX512-BF16", "vectors": "as float32"}


def precision_lines(record: PrecisionRecord) -> list[str]:
    """Return what runs in fewer bits, and the error of each output."""
    inputs = plural(record.inputs, "calibration input")
    count = record.layers + len(record.others)
    unit = f", multiplied {_UNITS[record.unit]}" if record.unit else ""
    lines = [f"{record.precision}: {record.layers} of {count} convolutions and products{unit}"]
    lines += [
        f"  error of {printable(name)} against float32 on {inputs}: {100 * error:.2g} % (root mean square), "
        f"at most {100 * record.largest[name]:.2g} % of the largest result"
        for name, error in record.error.items()
    ]
    return lines


def what(step: StepRecord) -> str:
    """Return what was fused into a step, in words."""
    return " ".join(step.notes)


def _row(step: StepRecord, measured: bool) -> list[str]:
    return [
        printable(step.kind),
        printable(what(step)),
        by(step.shape),
        f"{step.macs:,}" if step.macs else "",
        f"{step.bytes:,}",
        _ms(step.predicted_ms),
        *([_ms(step.measured_ms)] if measured else []),
    ]


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def profile_table(profile: ProfileRecord) -> str:
    """Return where the time of a network goes: a line for each step, in running order.

    Parameters
    ----------
    profile : ProfileRecord

    Returns
    -------
    str
    """
    shapes = ", ".join(f"{printable(name)} {by(shape)}" for name, shape in profile.inputs)
    speed = 2e-6 * profile.macs / profile.total_ms if profile.total_ms else 0.0
    lines = [
        f"{printable(profile.network) or 'network'} on {shapes}, {plural(profile.threads, 'thread')}: "
        f"{profile.total_ms:.3f} ms (median {profile.median_ms:.3f}, {plural(profile.repeat, 'call')})",
        f"{profile.macs:,} MACs, {speed:.1f} GFLOP/s, {_percent(speed, profile.peak_gflops)} of the peak of "
        f"{profile.peak_gflops:.0f}; memory of a call {in_bytes(profile.memory_bytes)}",
    ]
    if not profile.steps:
        return "\n".join(lines)
    total = sum(step.measured_ms or 0.0 for step in profile.steps)
    rows = [_timed(step, total, profile.peak_gflops) for step in profile.steps]
    headings = ["step", "fused", "out", "ms", "share", "GFLOP/s", "of peak"]
    return "\n".join([*lines, "", *aligned(headings, rows, [False, False, False, True, True, True, True])])


def _timed(step: StepRecord, total: float, peak: float) -> Sequence[str]:
    time = step.measured_ms or 0.0
    return [
        printable(step.kind),
        printable(what(step)),
        by(step.shape),
        _ms(time),
        _percent(time, total),
        f"{step.gflops:.1f}" if step.macs and step.gflops is not None else "",
        _percent(step.gflops, peak) if step.macs and step.gflops is not None else "",
    ]


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f} %" if whole else ""
