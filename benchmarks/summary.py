"""The first page of the results: one line a benchmark, beside its best peer and what was asked of it."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from benchmarks.engine_results import NetworkRecord
from benchmarks.render import duration, page_name, table
from benchmarks.results import (
    COPY,
    FMA_PEAK,
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
    threads,
)
from benchmarks.store import Machine, Store

INTRODUCTION = """# Results

Written by `python -m benchmarks` (or `make bench`) from [one file a benchmark](results). A name leads to its
long tables, and measures that work anew: `python -m benchmarks 2d-9`. What was tried, and why targets are
not met: [NOTES](NOTES.md). Runs, versions and dates: [machines](results/machines.md).

- **Best peer** is the time of the fastest other library over ours: the same work in the same process and
  rounds, first with one thread, then with two. Above 1 we are faster; **bold** is where a peer is. Over
  several works: the median, and the least to the most. Of several ways of ours a filter counts with the first
  that is listed, a table of works with the fastest.
- **Asked** is what was promised of it: of times over a copy at most, of peers to be so many times as fast.
  **Met** counts all of that, for other paths (AVX2) too, and names what was missed, as it was measured.
"""


@dataclass(frozen=True)
class Peer:
    """How many times as fast as the best peer, with how many threads; over works, the least and the most."""

    name: str
    threads: int
    faster: float
    least: float | None = None
    most: float | None = None
    slower: str = ""  # in how many of them the peer is faster

    def words(self) -> str:
        """Return the ratio, in bold where the peer is faster."""
        if self.least is None or self.most is None:
            return _times(self.faster)
        return f"{_times(self.faster)} ({_times(self.least)} to {_times(self.most)})"


@dataclass(frozen=True)
class Asked:
    """One thing that was promised, in words, and how that came out."""

    promise: str
    met: bool
    found: str


def summary(store: Store) -> str:
    """Return the page."""
    head = ["what", "asked"]
    for machine in store.machines.values():
        head += [f"{machine.cpu}: best peer", "met"]
    rows = [_row(name, store) for name in store.records]
    parts = [INTRODUCTION, *_facts(store.machines.values()), "", *table(head, rows), "", *_slower(store)]
    return "\n".join(parts)


def _facts(machines: Iterable[Machine]) -> Iterator[str]:
    for machine in machines:
        facts = list(machine.runs.values())[-1]
        peaks = max(facts["fma_gflop_s"].values())
        caches = ", ".join(f"{name} {size}" for name, size in machine.caches.items())
        first, last = (pick(each["date"][:10] for each in machine.runs.values()) for pick in (min, max))
        dates = first if first == last else f"{first} to {last}"
        speeds = f"{peaks:.0f} GFLOP/s a core, copies at {facts['stream_gb_s']:.0f} GB/s"
        cores = f"{facts['cores']} core{'s' * (facts['cores'] != 1)}"
        yield f"- {machine.cpu}: {cores}, {caches}; {speeds}; measured {dates}."


def _row(name: str, store: Store) -> list[str]:
    runs = store.records[name]
    newest = max(runs.values(), key=lambda record: record.run)
    link = f"[`{name}`](results/{page_name(newest.group)}.md) {newest.title}"
    cells = [link, _promises(newest)]
    for key in store.machines:
        cells += [_against(runs[key]), _met(runs[key])] if key in runs else ["", ""]
    return cells


def _promises(record: Record) -> str:
    main = dict.fromkeys(each.promise for each in asked(record, main=True))
    if not main:
        return "none set"
    return ", ".join(main) if len(main) <= 4 else f"{len(main)} bounds"


def _met(record: Record) -> str:
    every = list(asked(record))
    if not every:
        return ""
    missed = [each.found for each in every if not each.met]
    if not missed:
        return f"all {len(every)}" if len(every) > 1 else "yes"
    more = f" and {len(missed) - 3} more" if len(missed) > 3 else ""
    return f"**{len(every) - len(missed)} of {len(every)}**: not {', '.join(missed[:3])}{more}"


def _against(record: Record) -> str:
    """Return the best peers in words; of figures that have none, the one nearest to its bound."""
    words: list[str] = []
    before = ""
    for peer in best_peers(record):
        name = "" if peer.name == before else f" {peer.name}"
        count = "" if peer.threads == 1 else f"{threads(peer.threads)}: "
        words.append(f"{count}{peer.words()}{name}")
        before = peer.name
    if isinstance(record, QuantityRecord) and not words:
        nearest = max(_bounded(record), key=_used_up, default=None)
        return "no peer" if nearest is None else f"no peer; {nearest.label}: {_figure(nearest)}"
    return "; ".join(words) or "no peer"


def _slower(store: Store) -> Iterator[str]:
    """Yield what peers do faster than we, on any machine."""
    yield "## Where a peer is faster\n"
    lines = [
        f"- `{name}`, {machine.cpu}, {threads(peer.threads)}: "
        f"{_times(peer.least or peer.faster)} {peer.name}{peer.slower}"
        for name, runs in store.records.items()
        for key, machine in store.machines.items()
        if key in runs
        for peer in best_peers(runs[key])
        if (peer.least or peer.faster) < 1
    ]
    yield from lines or ["Nowhere."]
    yield ""


# -- the best peer


def best_peers(record: Record) -> Iterator[Peer]:
    """Yield the best peer of our first path with each number of threads."""
    if isinstance(record, FilterRecord | ConvRecord):
        for row in _main(record):
            peer = _filter_peer(record, row) if isinstance(record, FilterRecord) else _block_peer(record, row)
            if peer is not None:
                yield peer
    if isinstance(record, TableRecord):
        for count in sorted({row.threads for row in record.rows}):
            yield from _over_works([_row_peer(row) for row in record.rows if row.threads == count], count)
    if isinstance(record, NetworkRecord):
        for batch, count in record.settings():
            found = record.faster(batch, count, SEPARABLE)
            if found is not None and batch == 1:
                yield Peer(found[0].who, count, found[1])
    if isinstance(record, RatioRecord):
        for count in sorted({ratio.threads for ratio in record.ratios}):
            yield from _over_works([("SciPy", r.faster) for r in record.ratios if r.threads == count], count)


def _main(record: TimedRecord) -> list[Measurement]:
    ours = record.ours()
    return [row for row in ours if row.variant == ours[0].variant]


def _filter_peer(record: FilterRecord, row: Measurement) -> Peer | None:
    found = {name: record.value(row, name) for name in record.peers()}
    ratios = {name: ratio for name, ratio in found.items() if ratio is not None}
    best = min(ratios, key=ratios.__getitem__, default=None)
    return None if best is None else Peer(best, row.threads, ratios[best])


def _block_peer(record: ConvRecord, row: Measurement) -> Peer | None:
    best = record.best(row.threads)
    return None if best is None else Peer(best.label, row.threads, best.median / row.median)


def _row_peer(row: Row) -> tuple[str, float] | None:
    """Return the fastest column of another library, and its time over our fastest."""
    peers = [cell for cell in row.cells if cell.of_peer]
    ours = min((cell.median for cell in row.cells if not cell.of_peer), default=None)
    best = min(peers, key=lambda cell: cell.median, default=None)
    return None if ours is None or best is None else (best.column, best.median / ours)


def _over_works(found: Iterable[tuple[str, float] | None], count: int) -> Iterator[Peer]:
    pairs = [pair for pair in found if pair is not None]
    if pairs:
        ratios = [ratio for _, ratio in pairs]
        names = " or ".join(dict.fromkeys(name for name, _ in pairs))
        slower = f", the slowest; behind in {sum(r < 1 for r in ratios)} of {len(ratios)}"
        yield Peer(names, count, statistics.median(ratios), min(ratios), max(ratios), slower)


# -- what was asked


def asked(record: Record, main: bool = False) -> Iterator[Asked]:
    """Yield all that was asked of `record`; `main`: of its first path only."""
    if isinstance(record, QuantityRecord | TableRecord):
        yield from (Asked(_bound(q), q.met, f"{q.label} {_figure(q)}") for q in _bounded(record))
    elif isinstance(record, NetworkRecord):
        for name, least, found, who in record.verdicts(SEPARABLE):
            yield Asked(f"{name}: {least:.2f} x as fast", found >= least, f"{name}: {found:.2f} x {who}")
    elif isinstance(record, RatioRecord):
        for name, bound, found, _ in record.promises():
            yield Asked(f"{name} ≥ {bound:g}", found >= bound, f"{name} {found:.3g}")
    else:
        for row in _main(record) if main else record.ours():
            first = row.variant == record.ours()[0].variant
            path = "" if first else f"{row.variant} "
            for verdict in record.verdicts(row):
                yield Asked(_promise(verdict), verdict.met, f"{path}{_found(verdict)}")


def _bounded(record: QuantityRecord | TableRecord) -> list[Quantity]:
    return [q for q in record.quantities if q.bound is not None]


def _used_up(quantity: Quantity) -> float:
    """Return the figure over its bound; of a bound of zero 1 where it is kept."""
    if quantity.bound:
        return quantity.value / quantity.bound
    return float("inf") if quantity.value > 0 else 1.0


def _bound(quantity: Quantity) -> str:
    return f"{quantity.label} ≤ {quantity.bound:.3g} {quantity.unit}".strip()


def _figure(quantity: Quantity) -> str:
    return f"{quantity.value:.3g} {quantity.unit}".strip()


def _promise(verdict: Verdict) -> str:
    target = verdict.target
    sign = "≤" if target.at_most else "≥"
    return f"{_metric(verdict)} {sign} {_amount(verdict, target.bound)}"


def _found(verdict: Verdict) -> str:
    found = "not measured" if verdict.value is None else _amount(verdict, verdict.value)
    count = "" if verdict.target.threads == 1 else f" ({threads(verdict.target.threads)})"
    return f"{_metric(verdict)} {found}{count}"


def _metric(verdict: Verdict) -> str:
    words = {SECONDS: "time", ONE_THREAD: "speed-up by threads", COPY: "x copy"}
    return words.get(verdict.target.metric, verdict.target.metric)


def _amount(verdict: Verdict, value: float) -> str:
    if verdict.target.metric == SECONDS:
        return duration(value)
    return f"{value:.0%}" if verdict.target.metric in (FMA_PEAK, REALISED) else f"{value:.3g}"


def _times(ratio: float) -> str:
    text = f"{ratio:.2f}x" if ratio < 10 else f"{ratio:.0f}x"
    return f"**{text}**" if ratio < 1 else text
