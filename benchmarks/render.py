"""The long tables of the stored records, a page a group: nothing is measured and nothing decided here."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from benchmarks.engine_results import NetworkRecord, NetworkTime
from benchmarks.results import (
    COPY,
    FMA_PEAK,
    IDLE_CORE,
    ONE_THREAD,
    REALISED,
    SECONDS,
    SEPARABLE,
    ConvRecord,
    FilterRecord,
    Measurement,
    Quantity,
    QuantityRecord,
    RatioRecord,
    Record,
    Row,
    TableRecord,
    TimedRecord,
    Verdict,
    not_met,
    threads,
)
from benchmarks.store import Store

READING = """Every work is done by all contenders in the same process, in interleaved rounds (A B C A B C
...), with the same number of threads and with outputs preallocated where a library has an argument for it.

- Times are medians; ± is the interquartile range.
- The columns of peers are their time over ours: above 1 we are faster. A peer with several arrangements has
  the time of its fastest; all of them are listed under "Every contender".
"""

READING_FILTERS = """- "x copy" is our time over `np.copyto` of the same array into a preallocated one with as
  many threads, "x stream" over the core's own non-temporal copy on one core.
- "of FMA peak" counts every tap as one multiply-add, although symmetric taps are folded.
- SciPy has no threads, so its one-thread time stands beside any number of ours.
- "difference" is the largest absolute difference to SciPy's result (inputs in [0, 1), kernels of sum 1).
"""

READING_BLOCKS = """- A block is DW k x k + bias + ReLU, PW + bias + ReLU; float32; ours on channels last.
- GFLOP/s and "of FMA peak" count two for every multiply-add, borders as if they were inside.
- "dense" is the fastest dense convolution (+ bias + ReLU) of any peer over our time: the speed-up that
  arrives. "of FLOP ratio" is that over the arithmetic saved.
- "ONNX Runtime NCHWc" is its graph from its own blocked layout to its own blocked layout, as within a
  network. No program can pass such arrays, so no target counts it.
- "difference" is the largest absolute difference to float64 arithmetic, relative (l2) for a training step.
"""

READING_TABLES = """One row for each piece of work, all of its ways in the same rounds; "(1.20 x)" is a time
over that of the column that has none beside it. ± is the largest of the row.
"""

READING_NETWORKS = """Whole networks with random weights, from one ONNX file; the runtimes of a row in the
same rounds, each resting 60 ms before a sample. Times are minima, medians in brackets: on a shared machine
the minimum is the network's, the rest is the neighbours'.

- "x" is a peer's minimum over ours: above 1 we are faster. "asked" is what was promised over the fastest
  peer in float32, or 85 % of what the machine allows where that is less.
- "bound" is the time of all multiply-adds (borders as if they were inside) at the FMA peak of the threads
  used, or of reading the weights where no cache holds them; "of FMA peak" is what ours reach of it.
- OpenVINO as by default computes in bfloat16 where the processor does, so it is no peer.
"""

READINGS: dict[type[Record], str] = {
    FilterRecord: READING + READING_FILTERS,
    ConvRecord: READING + READING_BLOCKS,
    TableRecord: READING_TABLES,
    NetworkRecord: READING_NETWORKS,
}
MACHINES_PAGE = "machines"


def pages(store: Store) -> dict[str, str]:
    """Return the pages of the folder of results by name: one for each group, and one of the machines."""
    groups: dict[str, list[str]] = {}
    for name, runs in store.records.items():
        groups.setdefault(next(iter(runs.values())).group, []).append(name)
    texts = {page_name(group): _page(group, names, store) for group, names in groups.items()}
    return {**texts, MACHINES_PAGE: _machines(store)}


def page_name(group: str) -> str:
    """Return the name of the page of a group: ``small-integers`` for ``Small integers``."""
    return "-".join(re.findall(r"[a-z0-9]+", group.lower()))


def _page(group: str, names: Sequence[str], store: Store) -> str:
    parts = [f"# {group}\n", "Written by `python -m benchmarks`; [all results](../RESULTS.md).\n"]
    kinds = {type(record) for name in names for record in store.records[name].values()}
    parts += [text for kind, text in READINGS.items() if kind in kinds]
    for key, machine in store.machines.items():
        records = [record for record in store.of(key) if record.name in names]
        if records:
            parts += [f"## {machine.cpu}\n", "\n".join([*_group(records), ""])]
            parts += [*_misses(records), *_disturbed(records), *_all_contenders(records)]
    return "\n".join(parts)


def _machines(store: Store) -> str:
    parts = ["# Machines\n", "Written by `python -m benchmarks`; [all results](../RESULTS.md).\n"]
    for machine in store.machines.values():
        caches = ", ".join(f"{name} {size}" for name, size in machine.caches.items())
        rows = [_run(run, facts) for run, facts in machine.runs.items()]
        parts += [f"## {machine.cpu}\n", f"Caches: {caches}.\n", *table(RUN_HEAD, rows), ""]
    return "\n".join(parts)


RUN_HEAD = (
    "run",
    "date",
    "cores usable",
    "load before",
    "FMA peak of one core, float32, GFLOP/s",
    "streaming copy on one core, GB/s",
    "system",
    "core",
    "versions",
)


def _run(run: str, facts: dict[str, Any]) -> tuple[object, ...]:
    peaks = ", ".join(f"{name} {value:.0f}" for name, value in facts["fma_gflop_s"].items())
    versions = ", ".join(f"{name} {value}" for name, value in facts["versions"].items())
    core = f"{facts['target']}, built by {facts['compiler']}"
    beside = (peaks, f"{facts['stream_gb_s']:.1f}", facts["system"], core, versions)
    return (run, facts["date"], facts["cores"], facts["load"], *beside)


def _group(records: Sequence[Record]) -> Iterator[str]:
    filters = [record for record in records if isinstance(record, FilterRecord)]
    if filters:
        yield from _filter_table(filters)
    blocks = [record for record in records if isinstance(record, ConvRecord)]
    if blocks:
        yield from _conv_table(blocks)
    networks = [record for record in records if isinstance(record, NetworkRecord)]
    if networks:
        yield from _network_table(networks)
        yield ""
    for record in records:
        if isinstance(record, QuantityRecord):
            yield f"{_title(record)}\n"
            yield from _quantity_table(record.quantities, _tenths)
        if isinstance(record, RatioRecord):
            yield f"{_title(record)}\n"
            yield from _ratio_tables(record)
        if isinstance(record, TableRecord):
            yield f"{_title(record)}\n"
            yield from _times_table(record)


def _title(record: Record) -> str:
    return f"`{record.name}` {record.title} (run {record.run})"


def _filter_table(records: Sequence[FilterRecord]) -> Iterator[str]:
    peers = list(dict.fromkeys(peer for record in records for peer in record.peers()))
    head = ("work", "path", "threads", "time", "±", "x copy", "x stream", "of FMA peak", *peers)
    rows: list[tuple[object, ...]] = []
    for record in records:
        title = _title(record)
        for row in record.ours():
            rows.append((title, *_filter_cells(record, row, peers)))
            title = ""  # only beside the first of its rows
    return table((*head, "difference", "targets"), rows)


def _filter_cells(record: FilterRecord, row: Measurement, peers: Sequence[str]) -> tuple[object, ...]:
    return (
        row.variant,
        row.threads,
        duration(row.median),
        f"{row.spread:.0%}",
        _number(record.value(row, COPY)),
        _number(record.stream_ratio(row) if row.threads == 1 else None),
        _percent(record.peak_share(row)),
        *(_number(record.value(row, peer)) for peer in peers),
        *_judged(record, row),
    )


def _conv_table(records: Sequence[ConvRecord]) -> Iterator[str]:
    peers = list(dict.fromkeys(peer for record in records for peer in record.peers()))
    dense = any(record.dense for record in records)
    head = ["work", "path", "threads", "time", "±", "GFLOP/s", "of FMA peak", *peers]
    head += ["dense", "of FLOP ratio"] * dense
    rows: list[tuple[object, ...]] = []
    for record in records:
        title = _title(record)
        for row in record.ours():
            realised = (_number(record.realised(row)), _percent(record.value(row, REALISED)))
            rows.append((title, *_conv_cells(record, row, peers), *(realised * dense), *_judged(record, row)))
            title = ""  # only beside the first of its rows
    return table((*head, "difference", "targets"), rows)


def _conv_cells(record: ConvRecord, row: Measurement, peers: Sequence[str]) -> tuple[object, ...]:
    return (
        row.variant,
        row.threads,
        duration(row.median),
        f"{row.spread:.0%}",
        _number(record.gflop_s(row)),
        _percent(record.value(row, FMA_PEAK)),
        *(_number(record.value(row, peer)) for peer in peers),
    )


def _network_table(records: Sequence[NetworkRecord]) -> Iterator[str]:
    peers = dict.fromkeys(time.who for record in records for time in record.times if time.who != SEPARABLE)
    rows: list[tuple[object, ...]] = []
    for record in records:
        title = _title(record)
        judged = {name: (asked, ratio) for name, asked, ratio, _ in record.verdicts(SEPARABLE)}
        for batch, count in record.settings():
            own = record.find(SEPARABLE, batch, count)
            theirs = [record.find(peer, batch, count) for peer in peers]
            some = next(time for time in (own, *theirs) if time is not None)
            asked, found = judged.get(f"batch {batch}, {threads(count)}", (None, 0.0))
            verdict = "none set" if asked is None else f"≥ {asked:.2f}: {_kept(found >= asked)}"
            share = _percent(None if own is None else record.share(own))
            cells = (_least(own), duration(record.bound(some)), share, *(_beside(t, own) for t in theirs))
            rows.append((title, batch, count, *cells, verdict))
            title = ""  # only beside the first of its rows
    head = ("network", "batch", "threads", "ours", "bound", "of FMA peak", *peers, "asked of the best")
    return table(head, rows)


def _kept(met: bool) -> str:
    return "met" if met else "**not met**"


def _least(time: NetworkTime | None) -> str:
    return "" if time is None else f"{duration(time.minimum)} ({duration(time.median)})"


def _beside(time: NetworkTime | None, own: NetworkTime | None) -> str:
    ratio = "" if time is None or own is None else f", {time.minimum / own.minimum:.2f} x"
    return _least(time) + ratio


def _network_contenders(record: NetworkRecord) -> str:
    head = ["runtime", "batch", "threads", "minimum", "median", "rounds", "cores busy", "load and first call"]
    head += ["of FMA peak", "difference", "FMA peak, GFLOP/s", "copy, GB/s", "version, note"]
    rows = [
        (
            *(t.who, t.batch, t.threads, duration(t.minimum), duration(t.median), t.rounds, f"{t.cores:.2f}"),
            *(duration(t.load), _percent(record.share(t)), f"{t.difference:.1e}"),
            *(f"{t.fma_gflop_s:.0f}", f"{t.stream_gb_s:.0f}", t.note),
        )
        for t in record.times
    ]
    size = f"{record.macs / 1e6:.0f} M multiply-adds, {record.weight_bytes / 1e6:.1f} MB"
    summary = f"<details><summary>{record.name}: {record.title}, {size}</summary>\n"
    absent = [f"Left out: {'; '.join(record.left_out)}.\n"] if record.left_out else []
    return "\n".join([summary, *absent, *table(head, rows), "\n</details>\n"])


def _judged(record: TimedRecord, row: Measurement) -> tuple[str, str]:
    return (
        "" if row.difference is None else f"{row.difference:.1e}",
        "; ".join(_verdict(verdict) for verdict in record.verdicts(row)) or "none set",
    )


def _verdict(verdict: Verdict) -> str:
    target = verdict.target
    sign = "≤" if target.at_most else "≥"
    bound = duration(target.bound) if target.metric == SECONDS else f"{target.bound:.3g}"
    if target.metric in (FMA_PEAK, REALISED):
        bound = f"{target.bound:.0%}"
    metric = {SECONDS: "time", ONE_THREAD: "speed-up by threads"}.get(target.metric, target.metric)
    return f"{metric} {sign} {bound}: {'met' if verdict.met else '**not met**'}"


def _quantity_table(
    quantities: Sequence[Quantity], number: Callable[[float], str], between: str = "middle half"
) -> Iterator[str]:
    rows = []
    for q in quantities:
        bound = "none set" if q.bound is None else f"≤ {number(q.bound)}: {'met' if q.met else '**not met**'}"
        spread = f"{number(q.low)} to {number(q.high)}" if q.low < q.high else ""
        rows.append((q.label, f"{number(q.value)} {q.unit}".strip(), spread, bound, q.note))
    return table(("what", "value", between, "target", "note"), rows)


def _times_table(record: TableRecord) -> Iterator[str]:
    columns = list(dict.fromkeys(cell.column for row in record.rows for cell in row.cells))
    yield from table(
        (record.corner, "threads", *columns, "±"),
        (
            (
                row.label,
                row.threads,
                *(_time(row, column, record.base) for column in columns),
                f"{row.spread:.0%}",
            )
            for row in record.rows
        ),
    )
    yield ""
    yield from _quantity_table(record.quantities, _number, "least to most")
    yield ""


def _time(row: Row, column: str, base: str) -> str:
    """Return a time, and in all columns but the base its multiple of the base's."""
    seconds, ratio = row.seconds(column), row.over(column, base)
    if seconds is None:
        return ""
    return duration(seconds) if ratio is None or column == base else f"{duration(seconds)} ({ratio:.2f} x)"


def _ratio_tables(record: RatioRecord) -> Iterator[str]:
    promised = [
        (name, f"{found:.3g}", where, f"≥ {asked:g}: {'met' if found >= asked else '**not met**'}")
        for name, asked, found, where in record.promises()
    ]
    if promised:
        yield from table(("of all calls", "faster", "where", "target"), promised)
    for ndim in sorted({len(ratio.shape) for ratio in record.ratios}):
        ratios = [ratio for ratio in record.ratios if len(ratio.shape) == ndim]
        places = list(dict.fromkeys((ratio.size, ratio.threads) for ratio in ratios))
        found = {(r.function, r.dtype, r.size, r.threads): r.faster for r in ratios}
        yield ""
        yield from table(
            (f"{ndim}-D", "dtype", *(f"{size}, {count} thr." for size, count in places)),
            (
                (function, dtype, *(_number(found.get((function, dtype, *place))) for place in places))
                for function, dtype in dict.fromkeys((r.function, r.dtype) for r in ratios)
            ),
        )
    yield ""


def _misses(records: Iterable[Record]) -> Iterator[str]:
    misses = [f"- {sentence}" for record in records for sentence in not_met(record)]
    if misses:
        yield "\n".join(["### Not met\n", *misses, ""])


def _disturbed(records: Iterable[Record]) -> Iterator[str]:
    names = [f"`{r.name}`" for r in records if isinstance(r, TimedRecord | TableRecord) and r.disturbed()]
    names += [f"`{r.name}`" for r in records if isinstance(r, NetworkRecord) and r.disturbed(IDLE_CORE)]
    if names:
        yield "### Disturbed\n"
        yield f"Other work used the machine during {', '.join(names)}: measure these again.\n"


def _all_contenders(records: Iterable[Record]) -> Iterator[str]:
    timed = [record for record in records if isinstance(record, TimedRecord)]
    if timed:
        yield "### Every contender\n"
        yield from map(_contenders, timed)
    networks = [record for record in records if isinstance(record, NetworkRecord)]
    if networks:
        yield "### Every runtime\n"
        yield from map(_network_contenders, networks)


def _contenders(record: TimedRecord) -> str:
    rows = [_contender(m, m.label) for m in record.measurements]
    peaks = ", ".join(f"{label} {peak:.0f} GFLOP/s" for label, peak in record.fma_gflop_s.items())
    measured = f"FMA peak {peaks}."
    if isinstance(record, FilterRecord):
        measured = f"streaming copy {record.stream_gb_s:.1f} GB/s, {measured}"
    if isinstance(record, ConvRecord):
        rows += [_contender(m, f"dense: {m.label}") for m in record.dense]
    head = ("contender", "threads", "time", "±", "rounds", "cores busy", "difference", "note")
    summary = f"<details><summary>{record.name}: {record.title}</summary>\n"
    return "\n".join([summary, f"Beside it: {measured}", "", *table(head, rows), "\n</details>\n"])


def _contender(m: Measurement, label: str) -> tuple[object, ...]:
    return (
        label,
        m.threads,
        duration(m.median),
        f"{m.spread:.0%}",
        m.rounds,
        f"{m.cores:.2f}",
        "" if m.difference is None else f"{m.difference:.1e}",
        m.note,
    )


def table(head: Iterable[object], rows: Iterable[Iterable[object]]) -> Iterator[str]:
    """Yield the lines of a table."""
    head = list(head)
    yield _line(head)
    yield _line(["---"] * len(head))
    for row in rows:
        yield _line(row)


def _line(cells: Iterable[object]) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}" if value < 100 else f"{value:.0f}"


def _tenths(value: float) -> str:
    return f"{value:.1f}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"


def duration(seconds: float) -> str:
    """Return seconds in the unit that reads best: µs, ms or s."""
    if seconds < 1e-4:
        return f"{seconds * 1e6:.1f} µs"
    return f"{seconds * 1e3:.3g} ms" if seconds < 0.9995 else f"{seconds:.2f} s"
