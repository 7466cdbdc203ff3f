"""The time of whole networks, ours beside other runtimes', quiet and with a neighbour on one of the cores."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks import conv_torch, engine_networks, engine_peers, libraries, machine
from benchmarks.engine_networks import NETWORKS, Floats, Network
from benchmarks.engine_peers import Loaded, Runner
from benchmarks.engine_results import NetworkRecord, NetworkTime
from benchmarks.filters import WrongResultError
from benchmarks.results import SEPARABLE, Cell, Quantity, Row, TableRecord
from benchmarks.timing import SLOW_CALL_SECONDS, Effort, Stopwatch, interleave

Progress = Callable[[str], None]

GROUP = "Whole networks"
BUSY = "engine-busy"
BATCHES, THREADS = (1, 8), (1, 2)
REST_SECONDS = 60e-3  # before each sample: idle threads of some runtimes poll for up to 40 ms
WARM_SECONDS = 3e-3  # of calls after the rest, which let caches cool and the clock fall
OFF, OURS_OFF = 1e-3, 1e-4  # of the largest output: what a peer, and what ours may be away from ONNX Runtime
GROWTH = 1.5  # asked: at most this many times as long with a busy neighbour
QUICK = "ds-cnn-s"
QUICK_PEERS = (engine_peers.ONNX_RUNTIME, engine_peers.OPENVINO)  # the others convert or compile for seconds


@dataclass
class Running:
    """A runtime that has loaded a network, and the watch on it."""

    runner: Runner
    loaded: Loaded
    watch: Stopwatch
    load: float
    difference: float


def measure(
    network: Network,
    run: str,
    quick: bool = False,
    effort: Effort | None = None,
    only: tuple[str, ...] = (),
    progress: Progress = lambda text: None,
) -> NetworkRecord:
    """Measure a network with each batch and each number of threads, all runtimes interleaved.

    Parameters
    ----------
    only
        Beginnings of peers' names to measure; empty: all of them. ONNX Runtime is always there: the outputs
        of the others are compared with its.

    Raises
    ------
    WrongResultError
        If a runtime in float32 computes something else.
    """
    name, shown = f"engine-{network.name}", network
    left_out = [] if quick else engine_peers.missing()
    times: list[NetworkTime] = []
    macs, weights = 0, 0
    if can_be_built():
        shown = engine_networks.named(QUICK) if quick else network
        macs, weights = engine_networks.macs(shown), engine_networks.path(shown).stat().st_size
        for batch in BATCHES[:1] if quick else BATCHES:
            for threads in _threads(quick):
                label = f"{name}, batch {batch}, {threads} threads"
                found, failed = _timed(
                    shown, batch, threads, effort or Effort(), peers(quick, only), label, progress
                )
                times += found
                left_out += [text for text in failed if text not in left_out]
    else:
        left_out = ["all: the networks are built by torch, onnxscript and onnx, and compared in onnxruntime"]
    return NetworkRecord(
        name=name,
        group=GROUP,
        title=shown.title,
        run=run,
        quick=quick,
        macs=macs,
        weight_bytes=weights,
        cache_bytes=_last_cache(),
        asked=None if quick else network.times,
        left_out=left_out,
        times=times,
    )


def busy(
    run: str,
    quick: bool = False,
    effort: Effort | None = None,
    only: tuple[str, ...] = (),
    progress: Progress = lambda text: None,
) -> TableRecord:
    """Measure one input on two threads, first quiet, then with another process on one of the cores."""
    core = engine_peers.busy_core()
    rows: list[Row] = []
    if can_be_built() and core is not None:
        networks = [engine_networks.named(QUICK)] if quick else NETWORKS
        for network in networks:
            progress(f"{BUSY}: {network.title}")
            rows += _beside_neighbour(network, core, effort or Effort(), peers(quick, only))
    title = "One input on two threads, quiet and with another process on one of two cores (medians)"
    columns = dict.fromkeys(cell.column for row in rows for cell in row.cells)
    quantities = [each for column in columns for each in _growth(column, rows)]
    base = SEPARABLE if SEPARABLE in columns else engine_peers.ONNX_RUNTIME
    return TableRecord(BUSY, GROUP, title, run, quick, "network", base, rows, quantities)


def can_be_built() -> bool:
    """Return whether the networks can be made and compared."""
    needed = ("torch", "onnx", "onnxscript", "onnxruntime")
    return all(libraries.load(library) is not None for library in needed)


def _threads(quick: bool) -> tuple[int, ...]:
    cores = machine.usable_cores()
    return THREADS[:1] if quick else tuple(count for count in THREADS if count <= cores)


def peers(quick: bool, only: tuple[str, ...]) -> list[Runner]:
    """Return ONNX Runtime, whose outputs the others' are compared with, then the chosen ones."""
    found = engine_peers.runners((*only, engine_peers.ONNX_RUNTIME) if only else ())
    if quick:
        found = [runner for runner in found if runner.name in (SEPARABLE, *QUICK_PEERS)]
    return sorted(found, key=lambda runner: runner.name != engine_peers.ONNX_RUNTIME)


def _last_cache() -> int:
    """Return the bytes of the last level of cache; 0 where the kernel does not tell."""
    units = {"K": 2**10, "M": 2**20, "G": 2**30}
    sizes = list(machine.caches().values())
    return int(sizes[-1][:-1]) * units[sizes[-1][-1]] if sizes and sizes[-1][-1] in units else 0


def _timed(
    network: Network,
    batch: int,
    threads: int,
    effort: Effort,
    runners: Sequence[Runner],
    label: str,
    progress: Progress,
) -> tuple[list[NetworkTime], list[str]]:
    """Return the times of one setting, and a line for each runtime that cannot load the network."""
    with restored():
        progress(f"{label}: loading")
        path, x = engine_networks.path(network), engine_networks.sample(network, batch)
        running, failed = loaded_in(runners, path, x, threads)
        speeds = [_speeds()]  # before and after the rounds: other work on the machine lowers one
        watches = [each.watch for each in running]
        interleave(watches, effort, lambda n, of: progress(f"{label}: round {n} of {of}"))
        speeds.append(_speeds())
        peak, stream = (max(pair) for pair in zip(*speeds, strict=True))
        return [_time(each, batch, threads, peak, stream) for each in running], failed


@contextlib.contextmanager
def restored() -> Iterator[None]:
    """Put threads back as they were, and forget what was compiled."""
    with libraries.threads_restored(), conv_torch.freed_memory_kept():
        try:
            yield
        finally:
            conv_torch.forget_compiled()


def _speeds() -> tuple[float, float]:
    return machine.fma_gflop_s(None), machine.stream_gb_s()


def loaded_in(
    runners: Sequence[Runner], path: Path, x: Floats, threads: int
) -> tuple[list[Running], list[str]]:
    """Return the runtimes that have loaded a network, and a line for each that cannot.

    Parameters
    ----------
    runners
        The first one's output is what the others' are compared with.

    Raises
    ------
    WrongResultError
        If a runtime in float32 computes something else.
    """
    running: list[Running] = []
    failed = []
    reference: Floats | None = None
    for runner in runners:
        try:
            runner.convert(path, len(x))
            start = time.perf_counter()
            loaded = runner.load(path, x, threads)
            loaded.prepare()
            loaded.call()
            load = time.perf_counter() - start
            watch = Stopwatch(_rested(loaded), loaded.call)
            watch.first()
        except Exception as error:  # whatever a runtime raises for what it cannot do
            failed.append(f"{runner.name}: {type(error).__name__}: {str(error).splitlines()[0][:200]}")
            continue
        y = loaded.result()
        reference = y.copy() if reference is None else reference
        difference = _difference(path.name, runner, y, reference)
        running.append(Running(runner, loaded, watch, load, difference))
    return running, failed


def row_of(network: Network, runners: Sequence[Runner], effort: Effort) -> Row:
    """Return the least times of one input on one thread, all runtimes interleaved, and how far each is off.

    The first runner's output is what the others' are compared with.
    """
    path, x = engine_networks.path(network), engine_networks.sample(network, 1)
    with restored():
        running, _ = loaded_in(runners, path, x, 1)
        interleave([one.watch for one in running], effort)
        return Row(
            network.title, 1, [least_cell(one.runner.name, one.watch, one.difference) for one in running]
        )


def least_cell(name: str, watch: Stopwatch, apart: float = 0.0) -> Cell:
    """Return the least time that a watch has seen, with how far the result is off (0: not told)."""
    timing = watch.timing()
    return Cell(name, min(watch.samples), timing.low, timing.high, round(timing.cores, 2), apart or None)


def _difference(network: str, runner: Runner, y: Floats, reference: Floats) -> float:
    if y.shape != reference.shape:
        raise WrongResultError(f"{network}: {runner.name} returns {y.shape}, not {reference.shape}")
    found = float(np.abs(y - reference).max() / np.abs(reference).max())
    allowed = OURS_OFF if runner.name == SEPARABLE else OFF
    if runner.float32 and not found <= allowed:  # written so that NaN does not pass
        raise WrongResultError(
            f"{network}: {runner.name} is {found:.1e} of the largest output away from ONNX Runtime, "
            f"more than {allowed:g}"
        )
    return found


def _rested(loaded: Loaded) -> Callable[[], None]:
    """Return what lets other runtimes' threads fall asleep, then calls this one until it is warm again."""
    quick = True

    def prepare() -> None:
        nonlocal quick
        loaded.prepare()
        time.sleep(REST_SECONDS)
        start = time.perf_counter()
        while quick and time.perf_counter() - start < WARM_SECONDS:
            loaded.call()
            quick = time.perf_counter() - start < SLOW_CALL_SECONDS  # a slow call needs no warmth

    return prepare


def _time(each: Running, batch: int, threads: int, peak: float, stream: float) -> NetworkTime:
    timing = each.watch.timing()
    return NetworkTime(
        who=each.runner.name,
        batch=batch,
        threads=threads,
        minimum=min(each.watch.samples),
        median=timing.median,
        high=timing.high,
        rounds=timing.rounds,
        cores=round(timing.cores, 2),
        load=each.load,
        difference=each.difference,
        float32=each.runner.float32,
        fma_gflop_s=peak,
        stream_gb_s=stream,
        note=", ".join(filter(None, (each.runner.version(), each.loaded.note))),
    )


# -- a busy neighbour


def _beside_neighbour(network: Network, core: int, effort: Effort, runners: Sequence[Runner]) -> list[Row]:
    runners = [runner for runner in runners if runner.float32]
    with restored():
        path, x = engine_networks.path(network), engine_networks.sample(network, 1)
        running, _ = loaded_in(runners, path, x, 2)
        rows = [_row(f"{network.title}, quiet", running, effort)]
        for each in running:
            each.watch = Stopwatch(_rested(each.loaded), each.loaded.call)
        with engine_peers.neighbour(core):
            for each in running:
                each.watch.first()
            rows.append(_row(f"{network.title}, busy", running, effort))
    return rows


def _row(label: str, running: Sequence[Running], effort: Effort) -> Row:
    interleave([each.watch for each in running], effort)
    cells = []
    for each in running:
        timing = each.watch.timing()
        cores = round(timing.cores, 2)
        cells.append(
            Cell(each.runner.name, timing.median, timing.low, timing.high, cores, each.difference or None)
        )
    return Row(label, 2, cells)


def _growth(column: str, rows: Sequence[Row]) -> list[Quantity]:
    """Return how many times as long calls take beside the neighbour: each of ours, one figure of a peer."""
    found = {}
    for quiet, loud in zip(rows[::2], rows[1::2], strict=True):
        before, after = quiet.seconds(column), loud.seconds(column)
        if before is not None and after is not None:
            found[quiet.label.removesuffix(", quiet")] = after / before
    if column == SEPARABLE:
        return [Quantity(f"ours, {title}", r, r, r, "x quiet", GROWTH) for title, r in found.items()]
    ratios = list(found.values())
    middle, low, high = float(np.median(ratios)), min(ratios), max(ratios)
    return [Quantity(column, middle, low, high, "x quiet", note="median of the networks")]
