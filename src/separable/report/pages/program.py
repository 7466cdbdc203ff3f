"""A program of the engine as one page of HTML that needs nothing else: steps, times, memory, and passes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from ..._base.words.printable import printable
from ..._base.words.quantities import by, in_bytes, plural
from ..text.programs import facts_of, what
from .charts import audit_charts
from .page import Cell, Heading, Row, rendered, short

if TYPE_CHECKING:
    from ...engine.network.compiled import CompiledNetwork
    from ...engine.network.records import StepRecord

# Colours of the page's style sheet, by what a step's kind holds; the first that fits.
_STYLES: Final = (
    (">", "separable"),
    ("depthwise", "depthwise"),
    ("pointwise", "pointwise"),
    ("groups", "grouped"),
    ("conv", "conv"),
    ("fully connected", "linear"),
    ("matmul", "matmul"),
    ("ONNX Runtime", "recurrent"),
)
_OTHERS: Final = "attention"  # pools, copies, and what is done to each element
_LEGEND: Final = {
    "separable": "convolutions in one step",
    "grouped": "grouped convolution",
    "linear": "fully connected",
    "recurrent": "ONNX Runtime",
    _OTHERS: "other steps",
}
_LONGEST: Final = 2000  # lines of a graph that are shown


def page(program: CompiledNetwork, shapes: Any = None) -> str:
    """Return the page.

    Parameters
    ----------
    program : CompiledNetwork
    shapes : mapping of str to tuple of int, or tuple of int, optional
        Of the inputs; by default those used last.

    Returns
    -------
    str
    """
    steps, plan = program.steps(shapes), program.plan_for(shapes)
    name = printable(program.name) or "network"
    measures = _measures(steps)
    layers = [
        {"place": place, "layer": f"{place + 1} {printable(step.name)}", "kind": style(step)}
        | {heading: short(values[place]) for heading, values in measures.items()}
        for place, step in enumerate(steps)
    ]
    text = "Each bar is a step, in running order. Memory is what the arena holds while it runs."
    charts = [("costs", "Step by step", text, True)] if steps else []
    return rendered(
        "program.html",
        {
            "charts": audit_charts(list(measures), 0, []) if steps else {},
            "detailed": [],
            "datasets": {"layers": layers},
            "details": [],
            "first": 0,
        },
        title=f"{name}: {plural(len(steps), 'step')}",
        model=name,
        remarks=[(text, "") for text in facts_of(program, plan)],
        sums=_sums(program, steps, plan.memory_bytes),
        kinds=_kinds(steps),
        charts=charts,
        headings=_headings(steps),
        rows=[_row(place, step, steps) for place, step in enumerate(steps)],
        passes=_passes(program, shapes),
    )


def style(step: StepRecord) -> str:
    """Return the style of the page whose colour a step has."""
    return next((name for part, name in _STYLES if part in step.kind), _OTHERS)


def _time(step: StepRecord) -> float:
    return step.predicted_ms if step.measured_ms is None else step.measured_ms


def _measures(steps: Sequence[StepRecord]) -> dict[str, list[float | None]]:
    measures: dict[str, list[float | None]] = {}
    if any(step.measured_ms is not None for step in steps):
        measures["measured us"] = [1e3 * (step.measured_ms or 0.0) for step in steps]
    measures["predicted us"] = [1e3 * step.predicted_ms for step in steps]
    measures["MACs"] = [step.macs for step in steps]
    measures["bytes"] = [step.bytes for step in steps]
    measures["memory"] = [step.memory_bytes for step in steps]
    return measures


def _sums(program: CompiledNetwork, steps: Sequence[StepRecord], memory: int) -> list[tuple[str, str, str]]:
    measured = any(step.measured_ms is not None for step in steps)
    beside = "measured" if measured else "predicted"
    return [
        ("nodes read", f"{program.nodes_read:,}", ""),
        ("steps", f"{len(steps):,}", ""),
        ("MACs", f"{sum(step.macs for step in steps):,}", ""),
        ("ms", f"{sum(map(_time, steps)):.3f}", beside),
        ("weights", in_bytes(program.weights_bytes), ""),
        ("memory of a call", in_bytes(memory), ""),
    ]


def _kinds(steps: Sequence[StepRecord]) -> list[tuple[str, float, str]]:
    """Return a style, a share of the time in per cent, and words for each kind of step."""
    total = sum(map(_time, steps))
    shares: dict[str, float] = {}
    for step in steps:
        shares[style(step)] = shares.get(style(step), 0.0) + 100 * _time(step) / (total or 1.0)
    return [
        (kind, share, f"{_LEGEND.get(kind, kind)} {share:.1f} %, {share * total / 100:.3f} ms")
        for kind, share in shares.items()
        if share
    ]


def _headings(steps: Sequence[StepRecord]) -> list[Heading]:
    texts = ["", "step", "tensor", "fused", "out"]
    numbers = ["MACs", "bytes", "predicted ms"]
    if any(step.measured_ms is not None for step in steps):
        numbers += ["ms", "GFLOP/s"]
    return [
        Heading("number", number=True),
        *(Heading(text, number=False) for text in texts[1:]),
        *(Heading(text, number=True) for text in numbers),
        Heading("", number=False),
    ]


def _row(place: int, step: StepRecord, steps: Sequence[StepRecord]) -> Row:
    longest = max(map(_time, steps)) or 1.0
    cells = [
        Cell(f"{place + 1}", "n", place + 1),
        Cell(printable(step.kind), "mark"),
        Cell(printable(step.name)),
        Cell(printable(what(step))),
        Cell(by(step.shape)),
        Cell(f"{step.macs:,}", "n", step.macs),
        Cell(f"{step.bytes:,}", "n", step.bytes),
        Cell(f"{step.predicted_ms:.3f}", "n", step.predicted_ms),
    ]
    if any(step.measured_ms is not None for step in steps):
        speed = step.gflops or 0.0
        cells.append(Cell(f"{_time(step):.3f}", "n", _time(step)))
        cells.append(Cell(f"{speed:.1f}" if step.macs else "", "n", speed))
    cells.append(Cell("", bar=100 * _time(step) / longest))
    return Row(style(step), None, cells)


def _passes(program: CompiledNetwork, shapes: Any) -> list[tuple[str, str, str]]:
    """Return the graph before the first pass and after each: a name, how many nodes it has, and its text."""
    found = []
    for name, graph in program.trace(shapes):
        lines = str(graph).splitlines()
        if len(lines) > _LONGEST:
            lines = [*lines[:_LONGEST], f"... {len(lines) - _LONGEST} more lines"]
        text = "\n".join(map(printable, lines))
        found.append((name.replace("_", " "), plural(len(graph.nodes), "node"), text))
    return found
