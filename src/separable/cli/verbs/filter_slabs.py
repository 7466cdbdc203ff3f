"""``separable filter`` of volumes larger than memory: slab by slab, resumed where a run stopped."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import typer

from ... import files
from ..._base.words.quantities import by, in_bytes, in_seconds, plural
from ...report.text import tables
from ...stream import verbs as stream
from ...stream.journal import journal_of
from ...stream.ome.geometry import Pyramid
from ...stream.places import table
from ...stream.stream_plan import Resume, StreamPlan
from ..inputs import FileJob
from ..kernel_options import Granted, Wish, grant, whole_numbers
from ..terminal import Show, one_line, pace, plain_console, progress, same_file, say, typed
from .filter import Place, filter_facts, filter_rows, naming_what_is_unknown

_UNFILTERED: Final = Granted(np.ones(1), "none: samples stay as they are")
_MEMORY: Final = "1GiB"  # unless --memory says it


@dataclass(frozen=True)
class Slabs:
    """How a volume is cut, whether a run is gone on with, who filters, and what levels are made, as typed."""

    memory: str | None = None
    resume: Resume = "auto"
    distributed: str | None = None
    levels: Pyramid | None = None  # of the picture that is written

    def serve(self, paths: Sequence[Path], out: Path | None) -> bool:
        """Return whether files are filtered slab by slab: memory was typed, or a path is of a volume.

        Raises
        ------
        ValueError
            If something was typed that goes with slabs alone, and they are not.
        """
        if self.memory is not None or self.distributed is not None:
            return True
        if any(map(table.in_slabs_alone, [*paths, *([out] if out else [])])):
            return True
        if self.resume != "auto":
            raise ValueError("`--resume` goes with --memory, or with a .zarr or .h5; pass one of them.")
        return False


@dataclass(frozen=True)
class _Outcome:
    """What was filtered, with what, how, and how long it took."""

    job: FileJob
    image: files.Image  # without samples
    granted: Granted | None  # None: samples stay as they are
    plan: StreamPlan
    place: Place
    seconds: float = 0.0
    filtered: int = 0  # slabs: others were there
    slabs: int = 0  # in all, as the run was begun

    @property
    def rate(self) -> float:
        """Bytes of the source per second."""
        return self.plan.bytes_read * self.filtered / max(self.slabs, 1) / max(self.seconds, 1e-9)

    @property
    def slabs_text(self) -> str:
        """The slabs, as people read them."""
        plan = self.plan
        length = f"{plan.shape[plan.axis]}" + (f" along axis {plan.axis}" if plan.axis else "")
        text = f"{self.slabs}" + (
            f" of {plan.unit} of {length}" if self.slabs == plan.units else f" of {length}"
        )
        if plan.width is not None:
            text += f", in {plan.columns} columns of {plan.width} along axis {plan.column_axis}"
        if any(plan.halo):
            text += ", with {} before and {} behind".format(*plan.halo)
        left = self.slabs - self.filtered
        return text + (f"; {left} of them were there" if left else "")


def run(
    paths: Sequence[Path],
    out: Path | None,
    wish: Wish | None,
    place: Place,
    slabs: Slabs,
    *,
    as_json: bool,
    quiet: bool,
) -> None:
    """Filter a volume slab by slab and print how.

    Raises
    ------
    ValueError, TypeError
        For what is wrong, or does not go with slabs.
    OSError, JournalError
        If the target is there, another process writes it, or it was begun otherwise.
    typer.Exit
        With 130, if it was interrupted from the keyboard.
    """
    job = _job(paths, out)
    if wish is not None:
        wish.check()
    place.check()
    if place.given_nodata is not None:
        raise ValueError("`--nodata` does not go with slabs (--memory); pass a --mask, or --nodata none.")
    with progress(not quiet, lines=True, tenths=True) as show, _naming_paths():
        show("planning", 0, 0)
        image = _header(job, place)
        axes = place.filtered_axes(image, job.source)
        granted = None if wish is None else grant(wish, image, axes, job.source)
        with typed("--mask", "mask"), naming_what_is_unknown(place, image), _naming_paths():
            plan = _planned(job, image, axes, granted, wish, place, slabs)
        outcome = _run(_Outcome(job, image, granted, plan, place), slabs, show)
    if as_json:
        print(json.dumps(_facts(outcome)))
    elif not quiet:
        plain_console().print(tables.facts(_rows(outcome)))


def _job(paths: Sequence[Path], out: Path | None) -> FileJob:
    """Return source and target; both are given by name."""
    several = len(paths) + (out is not None) != 2 or (out is not None and out.is_dir())
    if several and (out is None or not table.in_slabs_alone(out)):
        raise ValueError("slab by slab (--memory, .zarr, .h5) one volume is filtered at a time; pass IN OUT.")
    if len(paths) + (out is not None) != 2:
        raise ValueError(f"{len(paths)} files with -o {out}; pass IN OUT.")
    job = FileJob(paths[0], paths[1] if out is None else out)
    if same_file(job.source, job.target):
        raise files.FileError(
            f"`{job.target}` is the input, which slabs are read from; give OUT another name."
        )
    return job


def _header(job: FileJob, place: Place) -> files.Image:
    """Return what the source says of itself, with axes as the target names them."""
    opened = table.open_source(job.source)
    try:
        image = place.named(opened.header, job)
    finally:
        opened.close()
    if image.alpha:
        raise files.FileError(
            f"`{job.source}` has opacity, by which colours are weighted in memory alone; leave out --memory."
        )
    if image.nodata is not None and place.nodata is None:
        raise files.FileError(
            f"`{job.source}` has a no-data value, {image.nodata:g}, which slabs do not leave out; leave out "
            "--memory, or pass --nodata none to take all samples as they are."
        )
    return image


def _planned(
    job: FileJob,
    image: files.Image,
    axes: tuple[int, ...],
    granted: Granted | None,
    wish: Wish | None,
    place: Place,
    slabs: Slabs,
) -> StreamPlan:
    origin, modes = whole_numbers("--origin", place.origin), place.mode.split(",")
    mode: Any = modes if len(modes) > 1 else place.mode
    levels = slabs.levels or Pyramid()
    smaller = None if levels.levels is None else levels.levels - 1
    return stream.plan(
        job.source,
        None if granted is None else granted.kernel,
        target=job.target,
        memory=slabs.memory or _MEMORY,
        mode=mode,
        cval=place.cval,
        origin=origin if len(origin) > 1 else origin[0],
        axes=axes,
        dtype=place.stored_dtype(image) if granted else place.given_dtype,
        mask=place.mask,
        nan=place.nan,
        tol=wish.tol if wish and wish.rank is None else None,
        threads=place.threads,
        pyramid=smaller,
        reduction=levels.reduction,
        isotropic=levels.isotropic,
    )


def _run(outcome: _Outcome, slabs: Slabs, show: Show) -> _Outcome:
    """Filter; say where it stopped where Ctrl-C stops it."""
    plan, began = outcome.plan, time.perf_counter()
    first, last, of = -1, 0, plan.units

    def tell(done: int, total: int) -> None:
        nonlocal first, last, of
        first, last, of = done if first < 0 else first, done, total
        now = pace(plan.bytes_read / total, done - first, total - done, time.perf_counter() - began)
        show(f"filtering{now}", done, total)

    try:
        plan.run(resume=slabs.resume, progress=tell, distributed=slabs.distributed)
    except KeyboardInterrupt:
        said = f"interrupted after {last} of {plural(of, 'slab')}"
        kept = journal_of(str(outcome.job.target))
        on = f"run the same again to go on from there ({kept.name} says what is finished)"
        text = f"{said}; {on if kept.exists() else 'nothing is kept'}."
        say(one_line(text), stderr=True, style="red")
        raise typer.Exit(130) from None
    seconds = time.perf_counter() - began
    return replace(outcome, seconds=seconds, filtered=last - max(first, 0), slabs=of)


@contextmanager
def _naming_paths() -> Iterator[None]:
    """Name files in errors as they were typed, not by the library's arguments that carry them."""
    try:
        yield
    except (ValueError, FileNotFoundError) as error:
        text = re.sub(r"`(?:source|target|mask)='([^']*)'`", r"`\1`", str(error))
        if text == str(error):
            raise
        kind = files.FileError if isinstance(error, FileNotFoundError) else type(error)
        raise kind(text) from error


def _rows(outcome: _Outcome) -> list[tuple[str, str]]:
    image, stream_plan = outcome.image, outcome.plan
    plan = stream_plan.filter_plan
    threads = plural(outcome.place.threads or plan.threads, "thread")
    granted = outcome.granted or _UNFILTERED
    rows = filter_rows(outcome.job, image, stream_plan.dtype, granted, plan, plan.axes)
    if outcome.granted is None:
        del rows[3:]  # axes and method
    elif stream_plan.passed_over:
        rows[-1] = ("how", f"{rows[-1][1]} ({stream_plan.passed_over})")
    if len(stream_plan.levels) > 1:
        rows.append(("levels", ", ".join(by(shape, "x") for shape in stream_plan.levels)))
    rows += [
        ("slabs", outcome.slabs_text),
        ("memory", f"{in_bytes(stream_plan.memory)} of {in_bytes(stream_plan.memory_limit)}"),
        ("time", f"{in_seconds(outcome.seconds)}, {outcome.rate / 1e6:.3g} MB/s, {threads}"),
    ]
    return rows + [("note", note) for note in (*image.notes, *stream_plan.notes)]


def _facts(outcome: _Outcome) -> dict[str, Any]:
    image, place, stream_plan = outcome.image, outcome.place, outcome.plan
    plan = stream_plan.filter_plan
    granted = outcome.granted or _UNFILTERED
    shared = filter_facts(outcome.job, image, stream_plan.dtype, granted, plan, plan.axes, place)
    return shared | {
        "passed_over": stream_plan.passed_over,
        "levels": stream_plan.levels,
        "threads": place.threads or plan.threads,
        "slabs": outcome.slabs,
        "slabs_filtered": outcome.filtered,
        "slab": stream_plan.unit,
        "slab_axis": stream_plan.axis,
        "columns": stream_plan.columns,
        "column": stream_plan.width,
        "column_axis": stream_plan.column_axis,
        "strip_bytes": stream_plan.strip_bytes,
        "memory_bytes": stream_plan.memory,
        "memory_limit_bytes": stream_plan.memory_limit,
        "least_memory_bytes": stream_plan.least_memory,
        "bytes_read": stream_plan.bytes_read,
        "bytes_written": stream_plan.bytes_written,
        "seconds": outcome.seconds,
        "notes": [*image.notes, *stream_plan.notes],
    }
