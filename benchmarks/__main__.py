"""Command line: ``python -m benchmarks [names...] [--quick]``."""

from __future__ import annotations

import argparse
import fnmatch
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import (
    conv_blocks,
    conv_memory,
    conv_training,
    convert_accuracy,
    convert_architectures,
    convert_int8,
    convert_latency,
    convert_time,
    dask_arrays,
    engine_bfloats,
    engine_bytes,
    engine_converted,
    engine_kernels,
    engine_latency,
    engine_lengths,
    engine_real,
    engine_streams,
    engine_volumes,
    factoring,
    filters,
    imports,
    integers,
    machine,
    masks,
    memory,
    ndimage,
    nonseparable,
    regret,
    running,
    store,
    streams,
    summary,
)
from benchmarks.cases import works
from benchmarks.conv_cases import conv_works, training_works
from benchmarks.conv_works import ConvWork
from benchmarks.engine_networks import NETWORKS, Network
from benchmarks.render import pages
from benchmarks.results import Record
from benchmarks.timing import MIN_ROUNDS, Effort
from benchmarks.works import Work

HERE = Path(__file__).parent
RESULTS, PAGE = "results", "RESULTS.md"


@dataclass(frozen=True)
class Settings:
    """What all benchmarks of one run share."""

    run: str
    quick: bool
    effort: Effort
    peers: tuple[str, ...]


Benchmark = Callable[[Settings], Record]


def benchmarks() -> dict[str, Benchmark]:
    """Return every benchmark by name, in the order of the report."""

    def of(work: Work) -> Benchmark:
        return lambda s: filters.measure(work, s.run, s.quick, s.effort, s.peers, _progress)

    def block(work: ConvWork) -> Benchmark:
        return lambda s: conv_blocks.measure(work, s.run, s.quick, s.effort, s.peers, _progress)

    def accuracy(data: str) -> Benchmark:
        return lambda s: convert_accuracy.measure(data, s.run, s.quick, _progress)

    def network(each: Network) -> Benchmark:
        return lambda s: engine_latency.measure(each, s.run, s.quick, s.effort, s.peers, _progress)

    def training(work: ConvWork) -> Benchmark:
        return lambda s: conv_training.measure(work, s.run, s.quick, s.effort, s.peers, _progress)

    return {
        **{work.name: of(work) for work in works()},
        **{work.name: of(work) for work in nonseparable.works()},
        "regret": lambda s: regret.measure(s.run, s.quick, _progress),
        **{work.name: block(work) for work in conv_works()},
        **{work.name: training(work) for work in training_works()},
        "ndimage": lambda s: ndimage.measure(s.run, s.quick, _progress),
        "factoring": lambda s: factoring.measure(s.run, s.quick, _progress),
        "integers": lambda s: integers.measure(s.run, s.quick, _progress),
        "masks": lambda s: masks.measure(s.run, s.quick, _progress),
        "boxes": lambda s: running.boxes(s.run, s.quick, _progress),
        "wide-gaussians": lambda s: running.gaussians(s.run, s.quick, _progress),
        "memory": lambda s: memory.measure(s.run, s.quick, _progress),
        dask_arrays.NAME: lambda s: dask_arrays.measure(s.run, s.quick, _progress),
        "conv-memory": lambda s: conv_memory.measure(s.run, s.quick, s.peers, _progress),
        streams.NAME: lambda s: streams.measure(s.run, s.quick, s.effort.rounds, s.peers, _progress),
        **{f"convert-{data}": accuracy(data) for data in convert_accuracy.SETS},
        convert_architectures.NAME: lambda s: convert_architectures.measure(s.run, s.quick, _progress),
        "convert-latency": lambda s: convert_latency.measure(s.run, s.quick, _progress),
        convert_time.NAME: lambda s: convert_time.measure(s.run, s.quick, _progress),
        "convert-int8": lambda s: convert_int8.measure(s.run, s.quick, _progress),
        **{f"engine-{each.name}": network(each) for each in NETWORKS},
        engine_converted.NAME: lambda s: engine_converted.measure(
            s.run, s.quick, s.effort, s.peers, _progress
        ),
        engine_bfloats.NAME: lambda s: engine_bfloats.measure(s.run, s.quick, s.effort, s.peers, _progress),
        engine_bytes.NAME: lambda s: engine_bytes.measure(s.run, s.quick, s.effort, s.peers, _progress),
        engine_kernels.NAME: lambda s: engine_kernels.measure(s.run, s.quick, s.effort, s.peers, _progress),
        engine_lengths.NAME: lambda s: engine_lengths.measure(s.run, s.quick, _progress),
        engine_real.NAME: lambda s: engine_real.measure(s.run, s.quick, s.effort, s.peers, _progress),
        engine_streams.NAME: lambda s: engine_streams.measure(s.run, s.quick, s.effort, s.peers, _progress),
        engine_volumes.NAME: lambda s: engine_volumes.measure(s.run, s.quick, s.effort, s.peers, _progress),
        engine_latency.BUSY: lambda s: engine_latency.busy(s.run, s.quick, s.effort, s.peers, _progress),
        "import": lambda s: imports.measure(s.run, s.quick, s.effort, s.peers, _progress),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is named, print and store it; 1 if a result was wrong, 2 for a wrong argument."""
    options = _parse(arguments)
    everything = benchmarks()
    folder = options.output or HERE
    if options.list:
        print("\n".join(everything))
        return 0
    if options.render:
        _write(folder, store.load(folder / RESULTS, list(everything)))
        return 0
    for pattern in options.names:
        if not fnmatch.filter(everything, pattern):
            print(f"benchmarks: nothing is named {pattern!r}; --list shows the names.", file=sys.stderr)
            return 2
    patterns = options.names or ["*"]
    names = [name for name in everything if any(fnmatch.fnmatchcase(name, p) for p in patterns)]
    # what measures less than the report needs does not go into it
    keep = options.output or not (options.quick or options.peers)
    return _run({name: everything[name] for name in names}, options, folder if keep else None)


def _run(chosen: dict[str, Benchmark], options: argparse.Namespace, folder: Path | None) -> int:
    effort = Effort(options.rounds, options.seconds, min(MIN_ROUNDS, options.rounds))
    settings = Settings(time.strftime("%Y%m%dT%H%M%S"), options.quick, effort, tuple(options.peers))
    facts, measured, failures = machine.facts(), store.EMPTY, 0
    results = store.EMPTY if folder is None else store.load(folder / RESULTS, list(benchmarks()))
    for name, benchmark in chosen.items():
        try:
            record = _timed(name, benchmark, settings)
        except filters.WrongResultError as error:
            print(f"benchmarks: {error}", file=sys.stderr)
            failures += 1
            continue
        measured = measured.merged(settings.run, facts, record)
        if folder is not None:  # after each one: a run that is cut short keeps what it has
            results = results.merged(settings.run, facts, record).ordered(list(benchmarks()))
            _write(folder, results)
    print("\n".join([*pages(measured).values(), summary.summary(measured)]))
    return 1 if failures else 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure against SciPy, OpenCV, SimpleITK, torch, ONNX Runtime, OpenVINO, LiteRT and "
        "ncnn; store and render the results.",
    )
    parser.add_argument(
        "names", nargs="*", help="benchmarks to run, patterns allowed ('2d-*'); all by default"
    )
    parser.add_argument("--list", action="store_true", help="print the names and stop")
    parser.add_argument("--render", action="store_true", help=f"only render the pages from {RESULTS}/")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that everything runs")
    parser.add_argument("--rounds", type=int, help="interleaved rounds (15; quick: 1)")
    parser.add_argument("--seconds", type=float, default=1.5, help="time per contender and work (1.5)")
    parser.add_argument(
        "--peers", action="append", default=[], help="only peers whose name begins so; may be repeated"
    )
    parser.add_argument(
        "--output",
        type=Path,
        help=f"folder of {RESULTS}/ and {PAGE}; by default benchmarks/, and nothing is stored "
        "with --quick or --peers, which measure less than the report needs",
    )
    options = parser.parse_args(arguments)
    if options.rounds is None:
        options.rounds = 1 if options.quick else Effort().rounds
    if options.rounds < 1:
        parser.error(f"`--rounds={options.rounds}` measures nothing; give 1 or more.")
    return options


def _timed(name: str, benchmark: Benchmark, settings: Settings) -> Record:
    start = time.perf_counter()
    record = benchmark(settings)
    _progress("")
    print(f"{name}: {time.perf_counter() - start:.1f} s", file=sys.stderr)
    return record


def _write(folder: Path, results: store.Store) -> None:
    store.save(folder / RESULTS, results)
    texts = rendered(results)
    for name, text in texts.items():
        store.replace_text(folder / name, text)
    for path in (folder / RESULTS).glob("*.md"):
        if f"{RESULTS}/{path.name}" not in texts:
            path.unlink()


def rendered(results: store.Store) -> dict[str, str]:
    """Return every page by its file name."""
    long = {f"{RESULTS}/{name}.md": text for name, text in pages(results).items()}
    return {PAGE: summary.summary(results), **long}


def _progress(text: str) -> None:
    if sys.stderr.isatty():  # one line, overwritten, where somebody is watching
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
