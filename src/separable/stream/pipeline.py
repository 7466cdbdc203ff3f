"""A run: slabs are read, filtered and written; each by a thread of its own where they overlap."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from .._base.atomic import explained
from .._base.types import Array
from .._base.words.quantities import in_bytes
from ..arrays.boundaries import Interval
from ..arrays.masks import known_of
from ..filters.core import extent_of, new_array
from ..filters.plan import Plan, core_info
from . import slabs
from .journal import FinishedUnit, Journal, JournalError, journal_of
from .places.place import StreamSource, StreamTarget, as_array
from .slabs import Cut, Traits
from .window import SlabWindow

Progress = Callable[[int, int], object]


class OpenFilter(NamedTuple):
    """A filter with its source and its target open."""

    plan: Plan
    source: StreamSource
    target: StreamTarget
    mask: StreamSource | None
    storage: Any
    traits: Traits
    cut: Cut
    memory: int  # that may be taken
    threads: int | None


# Filters and writes units elsewhere, and records each; called with the progress and the units done before.
Runner: TypeAlias = Callable[[OpenFilter, Journal, list[Interval], "Progress | None", int], None]


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
            run_units(job, job.traits.units(job.cut.unit), lambda unit: None, progress)
            job.target.finish()
        else:
            _run_with_journal(job, path, facts, resume, progress, runner)


def program() -> dict[str, str]:
    """Return what results depend on beside the filter: a version, and the core of a machine."""
    info = core_info()
    return {
        "version": _version(),
        "instruction set": f"{info['target']}, L2 {info['caches']['l2']}, L3 {info['caches']['l3']}",
    }


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("separable")
    except PackageNotFoundError:
        return "unknown"


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
    header = {"source": job.source.identity(), **facts, "unit": job.cut.unit}
    if job.mask is not None:
        header["mask"] = job.mask.identity()
    journal = Journal(path, header, resume)
    try:
        _run_journalled(job, journal, progress, runner)
    finally:
        journal.close()


def _run_journalled(
    job: OpenFilter, journal: Journal, progress: Progress | None, runner: Runner | None
) -> None:
    """Filter the units that the journal does not list, and record each when it is on the disk."""
    job = _as_begun(job, int(journal.header["unit"]))
    units = job.traits.units(job.cut.unit)
    if job.target.exists():  # killed between the renaming and the end of the journal
        if len({(unit.begin, unit.end) for unit in journal.units} & set(units)) < len(units):
            raise FileExistsError(f"`{job.target.path}` is there already; remove it, or write elsewhere.")
        journal.remove()
        return
    job.target.begin(bool(journal.units))
    there = [unit for unit in journal.units if job.target.stored(unit.begin, unit.end) == unit.stored]
    if len(there) < len(journal.units):
        journal.forget(there)
    done = {(unit.begin, unit.end) for unit in there}

    left = [unit for unit in units if unit not in done]
    if runner is None:
        run_units(job, left, lambda unit: journal.append(finished(job, unit)), progress, len(done))
    else:
        runner(job, journal, left, progress, len(done))
    job.target.finish()
    journal.remove()


def finished(job: OpenFilter, unit: Interval) -> FinishedUnit:
    """Return the record of a unit that was written, once it is on the disk."""
    return FinishedUnit(*unit, job.target.synced(*unit))


def _as_begun(job: OpenFilter, unit: int) -> OpenFilter:
    """Return the filter in slabs as long as those that are finished; JournalError if they take too much."""
    if unit == job.cut.unit:
        return job
    cuts = [slabs.cut(job.plan, job.traits, unit, overlapped) for overlapped in (True, False)]
    for cut in cuts:
        if cut.memory <= job.memory:
            return job._replace(cut=cut)
    raise JournalError(
        f"`{job.target.path}` was begun in slabs of {unit}, which take {in_bytes(cuts[-1].memory)}; "
        "pass that much `memory`, or resume='never' to begin anew."
    )


def run_units(
    job: OpenFilter,
    units: list[Interval],
    record: Callable[[Interval], None],
    progress: Progress | None,
    done: int = 0,
    extent: tuple[float, float] | None = None,
) -> None:
    """Filter and write units; `record` is called with each when it is written.

    `extent` is that of all samples, where results depend on it: it is looked for if it is not given.
    """
    if not units:
        return
    if job.storage.clips and extent is None:
        extent = extent_over(job, job.traits.units(job.cut.unit))
    slabs_of = _Slabs(job, units)
    total = done + len(units)
    tell(progress, done, total)
    with _threads(2 if job.cut.overlapped else 0) as threads:
        written: Future[None] | None = None
        for number, (places, first, samples, mask) in enumerate(slabs_of.read(threads)):
            output = slabs_of.output(number)[: len(samples)]
            _filter(job, first, samples, output, mask, extent)
            result = output[places[0] - first : places[1] - first]
            if written is not None:
                written.result()
                tell(progress, done + number, total)
            written = threads(_write, job.target, places, result, record)
        if written is not None:
            written.result()
            tell(progress, total, total)


def _filter(
    job: OpenFilter,
    first: int,
    samples: Array,
    output: Array,
    mask: Array | None,
    extent: tuple[float, float] | None,
) -> None:
    """Filter a slab, as it lies: the plan sees the array's axes in their own order, as the verb does."""
    storage, order = job.storage, job.traits.order
    plan = job.traits.part(job.plan, len(samples), first, extent)
    x, result = as_array(samples, order), as_array(output, order)
    known = None if mask is None else as_array(mask, order)
    how = {"rounding": storage.rounding, "overflow": storage.overflow}
    plan(x, result, job.threads, mask=known, nan=storage.nan, **how)


def _write(target: StreamTarget, places: Interval, values: Array, record: Callable[[Interval], None]) -> None:
    target.write(places[0], values)
    record(places)


def tell(progress: Progress | None, done: int, total: int) -> None:
    """Say how many units of how many are done, if somebody listens."""
    if progress is not None:
        progress(done, total)


class _Slabs:
    """The slabs of a source with their halos, one after the other, the next one read ahead."""

    def __init__(self, job: OpenFilter, units: list[Interval]) -> None:
        traits, overlapped = job.traits, job.cut.overlapped
        self._units, self._line = units, traits.line
        self._ahead = overlapped
        self._windows = [SlabWindow(job.source, slabs.held(traits, units, overlapped))]
        if job.mask is not None:
            self._windows.append(SlabWindow(job.mask, slabs.held(traits, units, overlapped, job.mask.rows)))
        longest = slabs.longest(traits, units)
        dtype, across = job.storage.dtype, traits.shape[1:]
        self._outputs = [_memory((longest, *across), dtype) for _ in range(1 + overlapped)]

    def output(self, number: int) -> Array:
        """Return the array for the results of a slab: not that of the one before, which is being written."""
        return self._outputs[number % len(self._outputs)]

    def read(self, threads: _Submit) -> Iterator[tuple[Interval, int, Array, Array | None]]:
        """Yield each unit, the first index of its slab with halo, samples and mask."""
        coming: Future[None] | None = None
        reads = [self._line.read_for(places) for places in self._units]
        for number, (places, (first, last)) in enumerate(zip(self._units, reads, strict=True)):
            if coming is not None:
                coming.result()
            for window in self._windows:
                window.move(first)
                window.fill(last)
            following = reads[number + 1] if number + 1 < len(reads) else None
            if self._ahead and following is not None and following[0] <= last:
                coming = threads(self._fill, following[1])
            else:
                coming = None
            samples, *masks = (window.part(first, last) for window in self._windows)
            yield places, first, samples, masks[0] if masks else None
        if coming is not None:
            coming.result()

    def _fill(self, last: int) -> None:
        for window in self._windows:
            window.fill(last)


_Submit = Callable[..., "Future[None]"]


@contextlib.contextmanager
def _threads(count: int) -> Iterator[_Submit]:
    """Yield a function that runs another in one of `count` threads; at once, where there are none."""
    if count == 0:
        yield _at_once
        return
    pool = ThreadPoolExecutor(count, thread_name_prefix="separable-stream")
    try:
        yield pool.submit
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _at_once(function: Callable[..., None], *arguments: Any) -> Future[None]:
    done: Future[None] = Future()
    function(*arguments)
    done.set_result(None)
    return done


def _memory(shape: tuple[int, ...], dtype: Any) -> Array:
    """Return an aligned array of any dtype."""
    import numpy as np

    size = math.prod(shape) * dtype.itemsize
    memory: Array = new_array((size // 4 + 16,), np.dtype(np.float32)).view(np.uint8)[:size].view(dtype)
    return memory.reshape(shape)


def extent_over(job: OpenFilter, units: list[Interval]) -> tuple[float, float]:
    """Return the least and the largest known sample of units of the source, by reading them."""
    low, high = math.inf, -math.inf
    windows = [SlabWindow(job.source, job.cut.unit)]
    if job.mask is not None:
        windows.append(SlabWindow(job.mask, job.cut.unit))
    for begin, end in units:
        for window in windows:
            window.move(begin)
            window.fill(end)
        samples, *masks = (window.part(begin, end) for window in windows)
        known = known_of(samples, masks[0] if masks else None, job.storage.nan, job.plan.outside)
        visible = None if known is None else known.of(samples)
        part = extent_of(samples, job.threads or 1, visible)
        low, high = min(low, part[0]), max(high, part[1])
    return low, high
