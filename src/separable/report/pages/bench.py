"""Models in several runtimes as one page of HTML that needs nothing else: calls, load times, memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ..._base.words.printable import printable
from ..._base.words.quantities import by, plural, times
from ..text.audits import milliseconds
from ..text.benches import calls, columns, machine, remarks
from ..text.conversions import count
from .bench_charts import MARKS, latency_chart, load_chart, memory_chart
from .page import Cell, Heading, Row, rendered, short

if TYPE_CHECKING:
    from ...engine.times.records import BenchRecord, ModelTimes, RuntimeTimes

_FAR: Final = 8.0  # times as long as the shortest: from there on an axis of times is logarithmic
_MIB: Final = 2.0**20


class _Section(NamedTuple):
    """What is shown of one model: its name, sentences, and charts."""

    name: str
    said: list[str]
    charts: list[tuple[str, str, str, bool]]


def page(bench: BenchRecord) -> str:
    """Return the page: for each model all calls, load times and memory, and one table that sorts.

    Parameters
    ----------
    bench : BenchRecord

    Returns
    -------
    str
    """
    runtimes = list(dict.fromkeys(timed.runtime for model in bench.models for timed in model.times))
    charts: dict[str, Any] = {}
    datasets: dict[str, list[dict[str, Any]]] = {}
    sections = []
    for place, models in enumerate(_by_model(bench)):
        drawn = _drawn(place, models, runtimes, datasets)
        charts |= {name: spec for name, spec, *_ in drawn}
        shown = [(name, title, text, wide) for name, _, title, text, wide in drawn]
        sections.append(_Section(printable(models[0].model), _sentences(models), shown))
    headings, rows = _table(bench, runtimes)
    only = sections[0].name if len(sections) == 1 else ""
    title = f"{only or plural(len(sections), 'model')} in {plural(len(runtimes), 'runtime')}"
    return rendered(
        "bench.html",
        {"charts": charts, "detailed": [], "datasets": datasets, "details": [], "first": 0},
        title=title,
        machine=machine(bench),
        sums=_sums(bench),
        sections=sections,
        headings=headings,
        rows=rows,
        failed=[printable(model.reason) for model in bench.failed],
        remarks=[row for row in remarks(bench) if row[0] != "failed"],
    )


def _by_model(bench: BenchRecord) -> list[list[ModelTimes]]:
    """Return the times of each model, with all numbers of threads; two models may bear one name."""
    groups: list[list[ModelTimes]] = []
    for model in bench.models:
        last = groups[-1] if groups else []
        if last and last[0].model == model.model and model.threads not in [other.threads for other in last]:
            last.append(model)
        else:
            groups.append([model])
    return groups


def _sums(bench: BenchRecord) -> list[tuple[str, str, str]]:
    if not bench.models:
        return []
    peak = max(model.peak_gflops / model.threads for model in bench.models)
    copy = max(model.copy_gbs for model in bench.models)
    return [
        ("fused multiply-adds of a thread", f"{peak:.0f}", "GFLOP/s"),
        ("copied by a thread", f"{copy:.1f}", "GB/s"),
        ("calls of each", calls(bench).removesuffix(" calls"), plural(bench.rounds, "round")),
    ]


def _sentences(models: Sequence[ModelTimes]) -> list[str]:
    """Return what is run, and who is fastest with each number of threads."""
    first = models[0]
    shapes = ", ".join(f"{printable(name)} {by(shape)}" for name, shape in first.inputs.items())
    said = [shapes if first.macs is None else f"{shapes}; {count(first.macs)} MACs"]
    for model in models:
        best, *others = sorted(model.times, key=lambda timed: timed.least_ms)
        least = f"{best.runtime} takes {milliseconds(best.least_ms)} ms at least"
        ratios = [f"{timed.runtime} {times(timed.least_ms / best.least_ms)} as long" for timed in others]
        said.append(f"{plural(model.threads, 'thread')}: {'; '.join([least, *ratios])}")
    return said


# -- charts ------------------------------------------------------------------------------------------


def _drawn(
    place: int,
    models: Sequence[ModelTimes],
    runtimes: Sequence[str],
    datasets: dict[str, list[dict[str, Any]]],
) -> list[tuple[str, Any, str, str, bool]]:
    """Return the charts of a model: name, what is drawn, title, text, whether it is wide; add their data."""
    lines = [
        ({"row": f"{timed.runtime}, {model.threads}", "runtime": timed.runtime}, timed)
        for model in models
        for timed in model.times
    ]
    datasets[f"calls{place}"] = [
        line | {"ms": short(ms)} for line, timed in lines for ms in timed.milliseconds
    ]
    datasets[f"rows{place}"] = [line | _quantiles(timed) for line, timed in lines]
    datasets[f"loads{place}"] = loads = [
        line | {"load": short(timed.load_ms)} for line, timed in lines if timed.load_ms is not None
    ]
    datasets[f"memories{place}"] = memories = [
        line | {"memory": short(timed.memory_bytes / _MIB), "before": short((timed.before_bytes or 0) / _MIB)}
        for line, timed in lines
        if timed.memory_bytes is not None
    ]
    ends = [end for _, timed in lines for end in (timed.least_ms, max(timed.milliseconds))]
    log = max(ends) > _FAR * min(ends) > 0
    drawn = [
        (
            f"latency{place}",
            latency_chart(place, len(lines), runtimes, log),
            "Calls",
            "Each stroke is a call, the diamond their median, the line from the least to what 99 % kept to.",
            True,
        )
    ]
    if loads:
        text = "From the file to the first result, in a process of its own. Not measured: left out."
        drawn.append((f"load{place}", load_chart(place, len(loads), runtimes), "Load time", text, False))
    if memories:
        text = "The most that a process held, load included; grey: before the model was read."
        drawn.append((f"memory{place}", memory_chart(place, len(memories), runtimes), "Memory", text, False))
    return drawn


def _quantiles(timed: RuntimeTimes) -> dict[str, float | None]:
    shares = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
    return {"least": short(timed.least_ms)} | {
        name: short(timed.quantile_ms(share)) for name, share in shares.items()
    }


# -- the table ---------------------------------------------------------------------------------------


def _table(bench: BenchRecord, runtimes: Sequence[str]) -> tuple[list[Heading], list[Row]]:
    shown = columns(bench)
    headings = [
        Heading("model", number=False),
        Heading("runtime", number=False),
        Heading("threads", number=True),
        *(Heading(column.heading, number=True) for column in shown),
    ]
    rows = []
    for model in bench.models:
        for timed in model.times:
            numbers = [column.value(model, timed) for column in shown]
            texts = [column.cell(model, timed) for column in shown]
            cells = [
                Cell(printable(model.model)),
                Cell(timed.runtime, "mark"),
                Cell(str(model.threads), "n", model.threads),
                *(
                    Cell(text, "n", -1 if number is None else short(number))
                    for text, number in zip(texts, numbers, strict=True)
                ),
            ]
            rows.append(Row(MARKS[runtimes.index(timed.runtime) % len(MARKS)], None, cells))
    return headings, rows
