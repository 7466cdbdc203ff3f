"""``separable filter``."""

from __future__ import annotations

import functools
import itertools
import json
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import typer

from ... import Plan, SeparableKernel, files
from ..._base.progress import following
from ..._base.words.quantities import by, in_seconds, plural
from ...arrays import arguments
from ...report.text import tables
from ..inputs import FileJob, jobs
from ..kernel_options import Granted, Wish, grant, whole_numbers
from ..terminal import Show, failure_of, one_line, plain_console, progress, say

_STEPS: Final = 1000  # steps of the progress bar


@dataclass(frozen=True)
class Place:
    """Where a kernel is applied, what is unknown there, and what comes out, as typed."""

    axes: str | None
    mode: str
    cval: float
    origin: str
    dtype: str | None
    threads: int | None
    mask: Path | None = None
    nan: Literal["propagate", "omit"] = "propagate"
    nodata: str | None = None

    def check(self) -> None:
        """Refuse what is wrong whatever the image is.

        Raises
        ------
        ValueError
        """
        if self.axes is not None:
            whole_numbers("--axes", self.axes)
        whole_numbers("--origin", self.origin)
        modes = self.mode.split(",")
        arguments.boundary_modes(modes, tuple(range(len(modes))))
        arguments.thread_count(self.threads)
        _ = self.given_dtype, self.given_nodata

    @functools.cached_property
    def given_dtype(self) -> np.dtype[Any] | None:
        """The dtype of the result, if one was typed."""
        if self.dtype is None:
            return None
        try:
            return np.dtype(self.dtype)
        except TypeError:
            raise ValueError(
                f"`--dtype {self.dtype}` is no dtype; expected one such as uint8, int16 or float32."
            ) from None

    @functools.cached_property
    def given_nodata(self) -> float | None:
        """The value typed for unknown samples; None for `none`, or if none was typed."""
        if self.nodata is None or self.nodata == "none":
            return None
        try:
            return float(self.nodata)
        except ValueError:
            raise ValueError(
                f"`--nodata {self.nodata}` is no number; expected one, nan, or none for no such value."
            ) from None

    @functools.cached_property
    def mask_samples(self) -> files.Image | None:
        """The image of --mask, read once for all images."""
        return None if self.mask is None else files.read(self.mask)

    def filtered_axes(self, image: files.Image, source: Path) -> tuple[int, ...]:
        """Return the axes to filter: those typed, or those of space."""
        if self.axes is None:
            return image.spatial
        return self.typed_axes(image.data.ndim, source) or ()

    def typed_axes(self, ndim: int, source: Path) -> tuple[int, ...] | None:
        """Return the axes that were typed, counted from the front; None if none were."""
        if self.axes is None:
            return None
        axes = whole_numbers("--axes", self.axes)
        if not all(-ndim <= axis < ndim for axis in axes):
            raise ValueError(f"`--axes {self.axes}`: `{source}` has {ndim} axes, 0 to {ndim - 1}.")
        return tuple(axis % ndim for axis in axes)

    def stored_dtype(self, image: files.Image) -> np.dtype[Any]:
        """Return the dtype of the result: the one typed, or the image's own."""
        return self.given_dtype or files.result_dtype(image.data.dtype)

    def named(self, image: files.Image, job: FileJob) -> files.Image:
        """Return an image as it is filtered: with axes as the target names them, and no-data as typed."""
        image = files.named_as(image, job.target, self.typed_axes(image.data.ndim, job.source))
        return image if self.nodata is None else replace(image, nodata=self.given_nodata)

    def setting(self, image: files.Image, source: Path, tol: float | None) -> files.FilterOptions:
        """Return the arguments of the filter."""
        origin = whole_numbers("--origin", self.origin)
        modes = self.mode.split(",")
        mask = None
        if self.mask_samples is not None:
            mask = files.fitted_mask(self.mask_samples.data, image, f"--mask {self.mask}", str(source))
        return files.FilterOptions(
            axes=self.filtered_axes(image, source),
            mode=modes if len(modes) > 1 else self.mode,
            cval=self.cval,
            origin=origin if len(origin) > 1 else origin[0],
            tol=tol,
            threads=self.threads,
            mask=mask,
            nan=self.nan,
        )


@dataclass(frozen=True)
class Outcome:
    """What was filtered, with what, how, and how long each part took in seconds."""

    job: FileJob
    image: files.Image
    result: files.Image
    axes: tuple[int, ...]
    granted: Granted
    plan: Plan
    place: Place
    seconds: dict[str, float]
    told: tuple[str, ...]  # notes that were printed before the work

    @property
    def notes(self) -> list[str]:
        """What the user may not expect of the result."""
        kernel, stored = self.granted.kernel, self.result.data.dtype
        gain = kernel.norm_l1 if isinstance(kernel, SeparableKernel) else float(np.abs(kernel).sum())
        said = list(self.result.notes)
        # A derivative is negative as often as positive; 1 % excludes rounding errors.
        if stored.kind == "u" and files.weight_sum(kernel) < 0.01 * gain:
            kept = "--dtype float32 into .tif, .npy or .nii keeps it"
            said.append(f"the result goes below 0, where {stored.name} saturates; {kept}.")
        return said


def run(
    paths: Sequence[Path], out: Path | None, wish: Wish, place: Place, *, as_json: bool, quiet: bool
) -> None:
    """Filter files and print how.

    Raises
    ------
    ValueError
        For what is wrong whatever the files hold: before one is read or a target is made.
    typer.Exit
        With 1, if there are several files and one could not be filtered: it is named, the others are done.
    """
    work = jobs(paths, out)  # what can be refused without reading is refused first
    wish.check()
    place.check()
    _ = place.mask_samples
    with progress(not quiet, lines=True) as show:
        if not work.several:
            outcomes: list[Outcome | _Failed] = [_filter(work.jobs[0], wish, place, show, quiet)]
        else:
            work.make_directory()
            outcomes = [
                _attempted(job, wish, place, _numbered(show, job, number, len(work.jobs)), quiet)
                for number, job in enumerate(work.jobs, start=1)
            ]
    if as_json:
        facts = [_facts(outcome) if isinstance(outcome, Outcome) else outcome.facts() for outcome in outcomes]
        print(json.dumps({"output": str(out), "files": facts} if work.several else facts[0]))
    elif not quiet:
        done = [outcome for outcome in outcomes if isinstance(outcome, Outcome)]
        rows = _list_rows(done) if work.several else _rows(done[0])
        plain_console().print(tables.facts(rows))
    if any(isinstance(outcome, _Failed) for outcome in outcomes):
        raise typer.Exit(1)


@dataclass(frozen=True)
class _Failed:
    """A file among several that could not be filtered."""

    job: FileJob
    error: str

    def facts(self) -> dict[str, Any]:
        return {"input": str(self.job.source), "output": None, "error": self.error}


def _attempted(job: FileJob, wish: Wish, place: Place, show: Show, quiet: bool) -> Outcome | _Failed:
    """Filter one of several files; say what is wrong with it, and leave the others to go on."""
    try:
        return _filter(job, wish, place, show, quiet)
    except Exception as error:
        message = failure_of(error)
        if message is None:
            raise
        text = message if str(job.source) in message else f"`{job.source}`: {message}"
        say(one_line(text), stderr=True, style="red")
        return _Failed(job, text)


def _numbered(show: Show, job: FileJob, number: int, count: int) -> Show:
    return lambda phase, done, total: show(f"{phase} {job.source.name}, {number} of {count}", done, total)


def _filter(job: FileJob, wish: Wish, place: Place, show: Show, quiet: bool) -> Outcome:
    times = [time.perf_counter()]
    show("reading", 0, 0)
    read = files.read(job.source)
    times.append(time.perf_counter())
    image = place.named(read, job)
    told = _colour_notes(read, image, job)
    if told and place.axes is None and not quiet:
        say(f"note: {told[0]}", stderr=True)
    stored = place.stored_dtype(image)
    lost = files.check_storable(image, stored, job.target)
    axes = place.filtered_axes(image, job.source)
    granted = grant(wish, image, axes, job.source)
    setting = place.setting(image, job.source, wish.tol if wish.rank is None else None)

    show("filtering", 0, 0)

    def show_share(fraction: float) -> None:
        show("filtering", round(_STEPS * fraction), _STEPS)

    with naming_what_is_unknown(place, image), following(show_share) as frames:
        result, plan = files.filtered(image, granted.kernel, setting, stored, frames)
    times.append(time.perf_counter())
    show("writing", 0, 0)
    files.write(job.target, result)
    result = replace(result, notes=(*result.notes, *lost))
    times.append(time.perf_counter())
    laps = [after - before for before, after in itertools.pairwise(times)]
    seconds = dict(zip(("read", "filter", "write"), laps, strict=True))
    told = told if place.axes is None else ()
    return Outcome(job, image, result, axes, granted, plan, place, seconds, told)


def _colour_notes(read: files.Image, image: files.Image, job: FileJob) -> tuple[str, ...]:
    if read.axes == image.axes or "S" not in image.axes:
        return ()
    count, suffix = image.data.shape[2], job.target.suffix
    return (
        f"the last axis of `{job.source}`, of length {count}, is colour in a {suffix}, and colours are "
        "filtered each on their own; --axes 0,1,2 filters across them.",
    )


@contextmanager
def naming_what_is_unknown(place: Place, image: files.Image) -> Iterator[None]:
    """Name what made samples unknown, as it was typed, where a kernel cannot be used without them."""
    try:
        yield
    except ValueError as error:
        if place.mask is not None:
            why = f"`--mask {place.mask}`"
        elif image.nodata is not None:
            why = f"the no-data value {image.nodata:g} (--nodata none takes all samples as they are)"
        else:
            why = "`--nan omit`"
        message = str(error).replace("`mask` or nan='omit'", why)
        if message == str(error):
            raise
        raise ValueError(message) from error


def _how(plan: Plan) -> str:
    """Return how a plan runs: its method, by name."""
    terms = f", {plural(plan.terms, 'term')}" if plan.terms else ""
    return f"{plan.method}{terms}"


def filter_rows(
    job: FileJob,
    image: files.Image,
    stored: np.dtype[Any],
    granted: Granted,
    plan: Plan,
    axes: tuple[int, ...],
) -> list[tuple[str, str]]:
    """Return what is printed of a filter of a file, in memory or slab by slab: all but memory and time."""
    names = ", ".join(map(image.axis_text, axes))
    return [
        ("in", f"{job.source}, {by(image.data.shape)} {image.data.dtype.name}"),
        ("out", f"{job.target}, {stored.name}"),
        ("kernel", granted.text),
        ("axes", f"{names}; mode {', '.join(dict.fromkeys(plan.modes))}"),
        ("how", f"{_how(plan)}, {tables.saving(plan.macs, plan.dense_macs)}"),
    ]


def _rows(outcome: Outcome) -> list[tuple[str, str]]:
    laps = ", ".join(f"{name} {in_seconds(seconds)}" for name, seconds in outcome.seconds.items())
    stored, plan = outcome.result.data.dtype, outcome.plan
    rows = filter_rows(outcome.job, outcome.image, stored, outcome.granted, plan, outcome.axes)
    rows.append(("time", f"{laps}, {plural(plan.threads, 'thread')}"))
    return rows + [("note", note) for note in outcome.notes]


def _list_rows(outcomes: Sequence[Outcome]) -> list[tuple[str, str]]:
    """Return a row for each of several files, and one for the kernel where it changes."""
    rows, kernel = [], ""
    for outcome in outcomes:
        if outcome.granted.text != kernel:
            kernel = outcome.granted.text
            rows.append(("kernel", kernel))
        size = f"{by(outcome.image.data.shape)} {outcome.result.data.dtype.name}"
        seconds = in_seconds(sum(outcome.seconds.values()))
        rows.append(("out", f"{outcome.job.target}, {size}, {_how(outcome.plan)}, {seconds}"))
        rows += [("note", note) for note in outcome.notes]
    return rows


def filter_facts(
    job: FileJob,
    image: files.Image,
    stored: np.dtype[Any],
    granted: Granted,
    plan: Plan,
    axes: tuple[int, ...],
    place: Place,
) -> dict[str, Any]:
    """Return what `--json` says of a filter of a file, in memory or slab by slab: all but memory and time."""
    return {
        "input": str(job.source),
        "output": str(job.target),
        "shape": image.data.shape,
        "axes": image.axis_names,
        "spacing_mm": image.spacing,
        "dtype": image.data.dtype.name,
        "output_dtype": stored.name,
        "nan": place.nan,
        "mask": None if place.mask is None else str(place.mask),
        "filtered_axes": axes,
        "kernel": granted.text,
        "kernel_shape": plan.taps,
        "sigma_px": granted.sigma,
        "modes": plan.modes,
        "method": plan.method,
        "terms": plan.terms,
        "macs": plan.macs,
        "dense_macs": plan.dense_macs,
        "relative_l1": plan.error.relative_l1,
    }


def _facts(outcome: Outcome) -> dict[str, Any]:
    image, plan, stored = outcome.image, outcome.plan, outcome.result.data.dtype
    shared = filter_facts(outcome.job, image, stored, outcome.granted, plan, outcome.axes, outcome.place)
    return shared | {
        "nodata": "nan" if image.nodata is not None and math.isnan(image.nodata) else image.nodata,
        "threads": plan.threads,
        "scratch_bytes": plan.scratch_bytes,
        "seconds": outcome.seconds,
        "notes": [*outcome.told, *outcome.notes],
    }
