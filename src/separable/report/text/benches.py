"""Models in several runtimes, as plain text."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from ..._base.words import html as _html
from ..._base.words.printable import printable
from ..._base.words.quantities import by, in_bytes, plural, times
from ...engine.times.records import QUANTILES, BenchRecord, ModelTimes, RuntimeTimes
from .columns import aligned
from .conversions import count

__all__ = [
    "BenchColumn",
    "calls",
    "columns",
    "error",
    "headline",
    "machine",
    "narrow",
    "notebook",
    "remarks",
    "table",
    "title",
]

_WIDE: Final = 79  # characters of a line
_ABSENT: Final = "-"


class BenchColumn(NamedTuple):
    """A column of the table: its heading, its number for a row (None: not measured), how that is written."""

    heading: str
    value: Callable[[ModelTimes, RuntimeTimes], float | None]
    text: Callable[[float], str]

    def cell(self, model: ModelTimes, timed: RuntimeTimes) -> str:
        """Return what stands in the table."""
        value = self.value(model, timed)
        return _ABSENT if value is None else self.text(value)


def columns(bench: BenchRecord) -> list[BenchColumn]:
    """Return the columns of numbers, without those that were measured of nothing."""
    quantiles = [
        BenchColumn(f"p{100 * share:.0f}", lambda model, timed, share=share: timed.quantile_ms(share), _ms)  # type: ignore[misc]
        for share in QUANTILES
    ]
    everything = [
        BenchColumn("least", lambda model, timed: timed.least_ms, _ms),
        *quantiles,
        BenchColumn("peak", lambda model, timed: model.of_peak(timed), lambda share: f"{100 * share:.0f} %"),
        BenchColumn("ours", lambda model, timed: model.over_ours(timed), times),
        BenchColumn("load", lambda model, timed: timed.load_ms, _ms),
        BenchColumn("memory", lambda model, timed: timed.memory_bytes, lambda size: in_bytes(int(size))),
        BenchColumn("error", lambda model, timed: timed.error, error),
    ]
    rows = [(model, timed) for model in bench.models for timed in model.times]
    return [column for column in everything if any(column.value(*row) is not None for row in rows)]


def error(value: float) -> str:
    """Return a difference of outputs, as a power of ten."""
    return f"{value:.0e}" if value else "0"


def _ms(value: float) -> str:
    """Return milliseconds in five characters, where these hold them."""
    return f"{value:.3f}" if value < 0.1 else f"{value:.3g}" if value < 999.5 else f"{value:.0f}"


def table(bench: BenchRecord) -> str:
    """Return a line for each runtime, below the model and the number of threads, then what the columns are.

    Parameters
    ----------
    bench : BenchRecord

    Returns
    -------
    str
    """
    shown = columns(bench)
    headings = ["runtime", *(column.heading for column in shown)]
    rows = [
        [timed.runtime, *(column.cell(model, timed) for column in shown)]
        for model in bench.models
        for timed in model.times
    ]
    lines = aligned(headings, rows, [False, *[True] * len(shown)])
    parts, place = lines[:2], 2
    for model in bench.models:
        parts += ["", *_folded(title(model)), *lines[place : place + len(model.times)]]
        place += len(model.times)
    return "\n".join([*_folded(headline(bench)), "", *parts, "", *_said(bench)])


def narrow(bench: BenchRecord, width: int) -> str:
    """Return the same for a terminal that the lines of `table` do not fit: numbers below each runtime."""
    parts = [*_folded(headline(bench), width), ""]
    for model in bench.models:
        parts += _folded(title(model), width)
        for timed in model.times:
            cells = [f"{column.heading} {column.cell(model, timed)}" for column in columns(bench)]
            parts += [f"  {timed.runtime}", *_folded(", ".join(cells), width, "    ")]
        parts.append("")
    return "\n".join([*parts, *_said(bench, width)])


def notebook(bench: BenchRecord) -> str:
    """Return the same as HTML for a notebook.

    Parameters
    ----------
    bench : BenchRecord

    Returns
    -------
    str
    """
    shown = columns(bench)
    parts = []
    for model in bench.models:
        rows = [[timed.runtime, *(column.cell(model, timed) for column in shown)] for timed in model.times]
        headings = ["runtime", *(column.heading for column in shown)]
        parts += [_html.lines([title(model)]), _html.table(headings, rows, [False, *[True] * len(shown)])]
    return _html.block(headline(bench), *parts, _html.facts(remarks(bench)))


def headline(bench: BenchRecord) -> str:
    """Return what the times are of, in one line."""
    copy = max((model.copy_gbs for model in bench.models), default=0.0)
    peak = max((model.peak_gflops / model.threads for model in bench.models), default=0.0)
    speeds = f": {peak:.0f} GFLOP/s, copies {copy:.1f} GB/s a thread" if bench.models else ""
    return f"{machine(bench)}{speeds}"


def machine(bench: BenchRecord) -> str:
    """Return the processor, the cores and the instruction set."""
    name = printable(bench.machine.processor)
    return f"{name}, {plural(bench.machine.cores, 'core')}, {bench.machine.target}"


def title(model: ModelTimes) -> str:
    """Return what stands above the rows of a model: its name, its threads, its inputs."""
    shapes = ", ".join(f"{printable(name)} {by(shape)}" for name, shape in model.inputs.items())
    macs = "" if model.macs is None else f"; {count(model.macs)} MACs"
    return f"{printable(model.model)}, {plural(model.threads, 'thread')}: {shapes}{macs}"


def calls(bench: BenchRecord) -> str:
    """Return how many calls times are of."""
    numbers = sorted({len(timed.milliseconds) for model in bench.models for timed in model.times})
    ends = numbers if len(numbers) < 2 else [numbers[0], numbers[-1]]
    return " to ".join(map(str, ends)) + " calls"


def remarks(bench: BenchRecord) -> list[tuple[str, str]]:
    """Return what the columns are, the versions, and all that is missing: labels and texts."""
    said = {
        "least": f"ms of a call; {calls(bench)} of each, in turn in one process, after rests of "
        f"{bench.rest_ms:.0f} ms",
        "p50": "the median; p90, p99: what 90 and 99 % of the calls kept to",
        "peak": "multiply-adds over the least time, of the fastest multiply-adds of as many threads, "
        "measured between the rounds",
        "ours": "how many times as long as separable, by the least times",
        "load": "ms from the file to the first result, in a process of its own",
        "memory": f"the most that such a process held, all of it{_before(bench)}",
        "error": f"largest difference from {bench.reference}, of the largest output",
    }
    shown = {column.heading for column in columns(bench)}
    rows = [(name, text) for name, text in said.items() if name in shown]
    rows.append(("versions", ", ".join(f"{name} {text}" for name, text in bench.machine.versions.items())))
    rows += [("not installed", ", ".join(bench.missing))] if bench.missing else []
    several = len({model.model for model in bench.models}) > 1 or bool(bench.failed)
    for model in bench.models:
        where = f"{printable(model.model)}: " if several else ""
        rows += [("left out", f"{where}{printable(text)}") for text in model.left_out]
        for timed in model.times:
            whose = f"{where}{timed.runtime}, {plural(model.threads, 'thread')}: "
            rows += [("note", f"{whose}{printable(text)}") for text in timed.notes]
    rows += [("failed", printable(model.reason)) for model in bench.failed]
    rows += [("note", text) for text in bench.notes]
    return list(dict.fromkeys(rows))


def _before(bench: BenchRecord) -> str:
    """Return how much of the memory is no model's, where that is known."""
    sizes = [timed.before_bytes for model in bench.models for timed in model.times if timed.before_bytes]
    if not sizes:
        return ""
    ends = dict.fromkeys((in_bytes(min(sizes)), in_bytes(max(sizes))))
    return f"; {' to '.join(ends)} of it before the model was read"


def _said(bench: BenchRecord, width: int = _WIDE) -> list[str]:
    rows = remarks(bench)
    edge = min(max(len(label) for label, _ in rows) + 2, 15)
    lines = []
    for label, text in rows:
        lines += textwrap.wrap(
            f"{label:<{edge}}{text}", width, subsequent_indent=" " * edge, break_on_hyphens=False
        )
    return lines


def _folded(text: str, width: int = _WIDE, indent: str = "") -> Sequence[str]:
    return textwrap.wrap(
        text, width, initial_indent=indent, subsequent_indent=indent or "  ", break_on_hyphens=False
    )
