"""Command line: ``python -m studies [NAMES...] [--small] [--render] [--list] [--output DIR]``."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from benchmarks import machine
from benchmarks.store import replace_text
from studies import pages, store
from studies.processes import measured, measured_together
from studies.studies import STUDIES
from studies.study import Study

ROOT: Final = Path(__file__).resolve().parents[1]
RESULTS: Final = ROOT / "studies" / "results"
PAGES: Final = ROOT / "docs" / "studies"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is named (default: all), print and keep it; 2 for a wrong argument."""
    options = _parse(arguments)
    if options.list:
        print("\n".join(f"{name:14}{study.title}" for name, study in STUDIES.items()))
        return 0
    for name in options.names:
        if name not in STUDIES:
            print(
                f"studies: nothing is named {name!r}; expected one of {', '.join(STUDIES)}.", file=sys.stderr
            )
            return 2
    results = RESULTS if options.output is None else options.output / "results"
    target = PAGES if options.output is None else options.output
    # What measures less than a verdict needs goes into no page but one that was asked for.
    keep = options.output is not None or not options.small
    start = time.monotonic()
    for name, run in () if options.render else _runs(options.names or list(STUDIES), options.small):
        _tell(STUDIES[name], run)
        if keep:  # after each one: a run that is cut short keeps what it has
            _keep(name, run, results)
    if keep:
        write_pages(results, target)
    if not options.render:
        print(f"{time.monotonic() - start:.0f} s in all")
    return 0


def _runs(names: Sequence[str], small: bool) -> Iterator[tuple[str, store.Run]]:
    """Yield what studies measure: those of times alone, then one of the others on each core.

    What took longest before comes first, so that no core is idle in the end.
    """
    alone = [name for name in names if STUDIES[name].timed]
    others = [name for name in names if not STUDIES[name].timed]
    processes = min(machine.usable_cores(), len(others))
    if processes < 2:
        alone, others = [*alone, *others], []
    for name in alone:
        yield name, measured(name, small)
    if others:
        others.sort(key=lambda name: -_seconds_before(name))
        yield from measured_together(others, small, processes)


def _seconds_before(name: str) -> float:
    """Return how long a study took where it took longest."""
    return max((run.seconds for run in store.load(RESULTS / f"{name}.json").values()), default=0.0)


def _tell(study: Study, run: store.Run) -> None:
    size = ", small: to see how, not for a verdict" if run.small else ""
    print(f"{study.title} ({study.name}, {run.seconds:.1f} s{size})")
    for verdict in study.judge(run.numbers):
        print(f"  claim:   {verdict.claim}\n  number:  {verdict.number}\n  verdict: {verdict}\n", flush=True)


def _keep(name: str, run: store.Run, results: Path) -> None:
    file = results / f"{name}.json"
    kept = {key: old for key, old in store.load(file).items() if key != run.machine}
    store.save(file, {**kept, run.machine: run})


def write_pages(results: Path, target: Path) -> None:
    """Write the pages and figures of all studies that have results, and their index."""
    found = []
    for study in STUDIES.values():
        runs = store.load(results / f"{study.name}.json")
        if runs:
            pages.draw(study, list(runs.values())[-1], target / "pictures")
            pages.write(study, runs, target)
            found.append((study, runs))
    replace_text(target / "index.md", pages.index(found))


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m studies", description="Measure what is claimed of separable convolution."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="studies to run (default: all)")
    parser.add_argument("--small", action="store_true", help="seconds each, to see how; not kept")
    parser.add_argument("--render", action="store_true", help="make pages and figures of what is stored")
    parser.add_argument("--list", action="store_true", help="print the names")
    parser.add_argument("--output", type=Path, metavar="DIR", help="keep results and pages there")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
