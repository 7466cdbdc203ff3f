"""A run: parts are read, filtered and written by one number of threads, steps beside each other."""

from __future__ import annotations

import contextlib
import math
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from .. import __version__
from .._base.atomic import explained
from .._base.types import Array
from .._base.words.quantities import in_bytes
from ..arrays.masks import known_of
from ..filters.core import extent_of
from ..filters.plan import Plan, core_info
from . import slabs
from .budget import Batch, ThreadBudget
from .journal import FinishedUnit, Journal, JournalError, journal_of
from .parts import Region
from .places.place import PartedSource, StreamTarget, as_array, stored, synced, tasks_behind, write_tasks
from .slabs import Cut, Places, Traits
from .window import SlabWindow, aligned_memory

Progress = Callable[[int, int], object]


class OpenFilter(NamedTuple):
    """A filter with its source and its target open."""

    plan: Plan
    places: Places
    target: StreamTarget
    storage: Any
    traits: Traits
    cut: Cut
    memory: int  # that may be taken


# Filters and writes units elsewhere, and records each; called with the progress and the units done before.
Runner: TypeAlias = Callable[[OpenFilter, Journal, list[Region], "Progress | None", int], None]


def run_job(
    job: OpenFilter,
    facts: dict[str, Any],
    resume: bool,
    progress: Progress | None,
    runner: Runner | None = None,
) -> None:
    """Filter all of the source, or what an earlier run left; the target appears at the end.

    `runner` is for targets with a journal.

    Raises
    ------
    FileExistsError
        The target is there, and no journal of it.
    """
    path = job.target.path
    if job.target.exists() and (path is None or not journal_of(path).exists()):
        raise FileExistsError(f"{job.target.name} is there already; remove it, or write elsewhere.")
    with _explaining(job.target):
        if path is None:
            job.target.begin(resume)
            run_units(job, job.traits.units(job.cut), lambda unit: None, progress)
            job.target.finish()
        else:
            _run_with_journal(job, path, facts, resume, progress, runner)


def program() -> dict[str, str]:
    """Return what results depend on beside the filter: a version, and the core of a machine."""
    info = core_info()
    return {
        "version": __version__,
        "instruction set": f"{info['target']}, L2 {info['caches']['l2']}, L3 {info['caches']['l3']}",
    }


@contextlib.contextmanager
def _explaining(target: StreamTarget) -> Iterator[None]:
    """Name the target, reason and fix where the disk is full, or fails."""
    try:
        yield
    except Exception as error:
        reason = explained(error, Path(target.name.strip("`")))
        if reason is None:
            raise
        raise reason from error


def _run_with_journal(
    job: OpenFilter,
    path: str,
    facts: dict[str, Any],
    resume: bool,
    progress: Progress | None,
    runner: Runner | None,
) -> None:
    """Filter what the journal does not list, and remove it at the end."""
    header = {"source": job.places.source.identity(), **facts, "unit": job.cut.unit, "column": job.cut.width}
    if job.places.mask is not None:
        header["mask"] = job.places.mask.identity()
    journal = Journal(path, header, resume)
    try:
        _run_journalled(job, journal, progress, runner)
    finally:
        journal.close()


def _run_journalled(
    job: OpenFilter, journal: Journal, progress: Progress | None, runner: Runner | None
) -> None:
    """Filter the units that the journal does not list, and record each when it is on the disk."""
    job = _as_begun(job, int(journal.header["unit"]), journal.header.get("column"))
    units = {_places(job, unit): unit for unit in job.traits.units(job.cut)}
    if job.target.exists():  # killed between the renaming and the end of the journal
        if len({(unit.begin, unit.end) for unit in journal.units} & units.keys()) < len(units):
            raise FileExistsError(f"`{job.target.path}` is there already; remove it, or write elsewhere.")
        journal.remove()
        return
    job.target.begin(bool(journal.units))
    there = _still_there(job.target, journal.units, units)
    if len(there) < len(journal.units):
        journal.forget(there)
    done = {(unit.begin, unit.end) for unit in there}

    left = [unit for places, unit in units.items() if places not in done]
    if runner is None:
        run_units(job, left, lambda unit: journal.append(finished(job, unit)), progress, len(done))
    else:
        runner(job, journal, left, progress, len(done))
    job.target.finish()
    journal.remove()


def finished(job: OpenFilter, unit: Region) -> FinishedUnit:
    """Return the record of a unit that was written, once it is on the disk."""
    return FinishedUnit(*_places(job, unit), synced(job.target, unit))


def _still_there(
    target: StreamTarget, listed: list[FinishedUnit], units: dict[tuple[int, int], Region]
) -> list[FinishedUnit]:
    """Return the units of an earlier run that need not be written again."""
    there: list[FinishedUnit] = []
    in_turn = list(units)
    for unit in listed:
        part = units.get((unit.begin, unit.end))
        follows = not target.in_order or in_turn[len(there) :][:1] == [(unit.begin, unit.end)]
        if part is not None and follows and stored(target, part) == unit.stored:
            there.append(unit)
    return there


def _places(job: OpenFilter, unit: Region) -> tuple[int, int]:
    """Return the indices of a unit in a journal, which counts on from column to column."""
    (begin, end), n = unit.rows, job.traits.shape[0]
    before = 0 if unit.columns is None else unit.columns[0] * n
    return before + begin, before + end


def _as_begun(job: OpenFilter, unit: int, width: int | None) -> OpenFilter:
    """Return the filter in slabs, or columns, like the finished ones; JournalError if they take too much."""
    if (unit, width) == (job.cut.unit, job.cut.width):
        return job
    cuts = [slabs.cut(job.plan, job.traits, unit, overlapped, width) for overlapped in (True, False)]
    for cut in cuts:
        if cut.memory <= job.memory:
            return job._replace(cut=cut)
    raise JournalError(
        f"`{job.target.path}` was begun in {_called(unit, width)}, which take {in_bytes(cuts[-1].memory)}; "
        "pass that much `memory`, or resume='never' to begin anew."
    )


def _called(unit: int, width: int | None) -> str:
    return f"slabs of {unit}" if width is None else f"columns of {width}, in parts of {unit}"


def run_units(
    job: OpenFilter,
    units: list[Region],
    record: Callable[[Region], None],
    progress: Progress | None,
    done: int = 0,
    extent: tuple[float, float] | None = None,
) -> None:
    """Filter and write units; `record` is called with each when it is written.

    `extent` is that of all samples, where results depend on it: it is looked for if it is not given. While
    one is filtered, the one before may be on its way to the disk, and no other: a run that is killed repeats
    two at most.
    """
    if not units:
        return
    total = done + len(units)
    tell(progress, done, total)
    if job.storage.clips and extent is None:
        extent = extent_over(job, job.traits.units(job.cut))
    with (
        _threads(job.places.threads) as (budget, behind),
        contextlib.closing(_Slabs(job, units, budget)) as slabs_of,
    ):
        written: Future[None] | None = None
        for number, slab in enumerate(slabs_of.read()):
            output = slabs_of.output(number, slab)
            _filter(job, slab, output, extent, budget)
            result = output[slab.unit.within(slab.read.rows[0], (slab.read.columns or (0, 0))[0])]
            if written is not None:
                written.result()
                tell(progress, done + number, total)
            if job.cut.overlapped:
                written = behind.submit(_write, job.target, slab.unit, result, record, budget)
            else:
                _put(job.target, slab.unit, result, budget)
                written = behind.submit(record, slab.unit)
        if written is not None:
            written.result()
            tell(progress, total, total)


@contextlib.contextmanager
def _threads(count: int) -> Iterator[tuple[ThreadBudget, ThreadPoolExecutor]]:
    """Yield the threads that work, and one that waits for results to be on the disk."""
    budget, behind = ThreadBudget(count), ThreadPoolExecutor(1, thread_name_prefix="separable-behind")
    try:
        yield budget, behind
    finally:
        behind.shutdown(wait=True, cancel_futures=True)
        budget.close()


class _Slab(NamedTuple):
    """What is in memory for a unit: the part that was read, its samples, and which of them are known."""

    unit: Region
    read: Region
    samples: Array
    mask: Array | None


def _filter(
    job: OpenFilter,
    slab: _Slab,
    output: Array,
    extent: tuple[float, float] | None,
    budget: ThreadBudget,
) -> None:
    """Filter a slab, as it lies: the plan sees the array's axes in their own order, as the verb does."""
    storage, order = job.storage, job.traits.order
    plan = job.traits.part(job.plan, slab.samples.shape, slab.read, extent)
    x, result = as_array(slab.samples, order), as_array(output, order)
    known = None if slab.mask is None else as_array(slab.mask, order)
    if storage.copied and x.dtype == result.dtype:
        result[...] = x
        return
    how = {"rounding": storage.rounding, "overflow": storage.overflow}
    with budget.most() as threads:
        plan(x, result, threads, mask=known, nan=storage.nan, **how)


def _write(
    target: StreamTarget,
    unit: Region,
    values: Array,
    record: Callable[[Region], None],
    budget: ThreadBudget,
) -> None:
    _put(target, unit, values, budget)
    record(unit)


def _put(target: StreamTarget, unit: Region, values: Array, budget: ThreadBudget) -> None:
    budget.start(write_tasks(target, unit, values)).wait()
    budget.start(tasks_behind(target)).wait()


def tell(progress: Progress | None, done: int, total: int) -> None:
    """Say how many units of how many are done, if somebody listens."""
    if progress is not None:
        progress(done, total)


class _Slabs:
    """The slabs of a source with their halos, one after the other, the next one read ahead."""

    def __init__(self, job: OpenFilter, units: list[Region], budget: ThreadBudget) -> None:
        traits, self._ahead = job.traits, job.cut.overlapped
        self._budget, self._coming = budget, Batch([])
        self._units, self._reads = units, [traits.read_for(unit) for unit in units]
        self._windows = _windows(job, units)
        width = slabs.widest(traits, units)
        size = slabs.longest(traits, units) * traits.across(width)
        self._outputs = [aligned_memory(size, job.storage.dtype) for _ in range(1 + self._ahead)]
        columns = slabs.column_reads(traits, units)
        if len(columns) > 1 and job.cut.strips:
            path = job.target.path
            folder = Path(tempfile.gettempdir()) if path is None else Path(path).absolute().parent
            for source in job.places.sources:
                if isinstance(source, PartedSource):
                    source.keep(columns, folder)

    def output(self, number: int, slab: _Slab) -> Array:
        """Return the array for the results of a slab: not that of the one before, which is being written."""
        return slabs.block(self._outputs[number % len(self._outputs)], slab.samples.shape)

    def read(self) -> Iterator[_Slab]:
        """Yield what is in memory for each unit."""
        for number, (unit, read) in enumerate(zip(self._units, self._reads, strict=True)):
            self._coming.wait()
            for window in self._windows:
                window.move(read.rows[0], read.columns)
            self._begin(number)
            self._coming.wait()
            following = self._reads[number + 1] if number + 1 < len(self._reads) else None
            joined = following is not None and following.columns == read.columns
            if self._ahead and joined and following is not None and following.rows[0] <= read.rows[1]:
                self._begin(number + 1)
            samples, *masks = (window.part(*read.rows) for window in self._windows)
            yield _Slab(unit, read, samples, masks[0] if masks else None)

    def _begin(self, number: int) -> None:
        """Begin to read what a unit lacks, and to read ahead what comes then."""
        last = self._reads[number].rows[1]
        tasks = [task for window in self._windows for task in window.fill(last)]
        self._coming = self._budget.start(tasks)
        if tasks and number + 1 < len(self._reads):
            columns, (first, last) = self._reads[number + 1].columns, self._reads[number + 1].rows
            for window in self._windows:
                window.foresee(columns, first, last)

    def close(self) -> None:
        """Drop what is still being read."""
        self._coming.cancel()


def _windows(job: OpenFilter, units: list[Region]) -> list[SlabWindow]:
    """Return the windows of source and mask, for units with their halos."""
    traits, overlapped = job.traits, job.cut.overlapped
    width = slabs.widest(traits, units)
    return [
        SlabWindow(source, slabs.held(traits, units, overlapped, source.rows), width)
        for source in job.places.sources
    ]


def extent_over(job: OpenFilter, units: list[Region]) -> tuple[float, float]:
    """Return the least and the largest known sample of units of the source, by reading them."""
    with _threads(job.places.threads) as (budget, _):
        return _extent(job, units, budget)


def _extent(job: OpenFilter, units: list[Region], budget: ThreadBudget) -> tuple[float, float]:
    low, high = math.inf, -math.inf
    windows = _windows(job, units)
    for unit in units:
        tasks = []
        for window in windows:
            window.move(unit.rows[0], unit.columns)
            tasks += window.fill(unit.rows[1])
        budget.start(tasks).wait()
        samples, *masks = (window.part(*unit.rows) for window in windows)
        known = known_of(samples, masks[0] if masks else None, job.storage.nan, job.plan.outside)
        visible = None if known is None else known.of(samples)
        with budget.most() as threads:
            part = extent_of(samples, threads, visible)
        low, high = min(low, part[0]), max(high, part[1])
    return low, high
