"""``separable filter``."""

from __future__ import annotations

import functools
import itertools
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from separable import Plan, SeparableKernel, files
from separable.report import tables

from .terminal import progress
from .wish import Granted, Wish, grant, whole_numbers


@dataclass(frozen=True)
class Place:
    """Where a kernel is applied and what comes out, as typed."""

    axes: str | None
    mode: str
    cval: float
    origin: str
    dtype: str | None
    threads: int | None

    def filtered_axes(self, image: files.Image) -> tuple[int, ...]:
        """Return the axes to filter: those typed, or those of space."""
        if self.axes is None:
            return image.spatial
        ndim = image.data.ndim
        axes = whole_numbers("--axes", self.axes)
        if not all(-ndim <= axis < ndim for axis in axes):
            raise ValueError(f"`--axes {self.axes}`: `{image.axes}` has {ndim} axes, 0 to {ndim - 1}.")
        return tuple(axis % ndim for axis in axes)

    def stored_dtype(self, image: files.Image) -> np.dtype[Any]:
        """Return the dtype of the result: the one typed, or the image's own."""
        if self.dtype is None:
            return files.result_dtype(image.data.dtype)
        try:
            return np.dtype(self.dtype)
        except TypeError:
            raise ValueError(
                f"`--dtype {self.dtype}` is no dtype; expected one such as uint8, int16 or float32."
            ) from None

    def setting(self, axes: tuple[int, ...], tol: float | None) -> files.Setting:
        """Return the arguments of the filter."""
        origin = whole_numbers("--origin", self.origin)
        modes = self.mode.split(",")
        return files.Setting(
            axes=axes,
            mode=modes if len(modes) > 1 else self.mode,
            cval=self.cval,
            origin=origin if len(origin) > 1 else origin[0],
            tol=tol,
            threads=self.threads,
        )


@dataclass(frozen=True)
class Outcome:
    """What was filtered, with what, how, and how long each part took in seconds."""

    image: files.Image
    result: files.Image
    axes: tuple[int, ...]
    granted: Granted
    plan: Plan
    seconds: dict[str, float]

    @property
    def notes(self) -> list[str]:
        """What the user may not expect of the result."""
        kernel, stored = self.granted.kernel, self.result.data.dtype
        gain = kernel.norm_l1 if isinstance(kernel, SeparableKernel) else float(np.abs(kernel).sum())
        # A derivative is below zero as often as above; 1 % keeps rounding out of the question.
        if stored.kind == "u" and files.weight_sum(kernel) < 0.01 * gain:
            kept = "--dtype float32 into .tif, .npy or .nii keeps it"
            return [f"the result goes below 0, where {stored.name} saturates; {kept}."]
        return []


def run(source: Path, target: Path, wish: Wish, place: Place, *, as_json: bool, quiet: bool) -> None:
    """Filter `source` into `target` and print how."""
    wish.name()  # what can be refused without reading is refused first
    files.check_target(target)
    outcome = _filter(source, target, wish, place, hide=quiet)
    if as_json:
        print(json.dumps({"input": str(source), "output": str(target), **_facts(outcome)}))
    elif not quiet:
        Console().print(tables.facts(_rows(source, target, outcome)))


def _filter(source: Path, target: Path, wish: Wish, place: Place, hide: bool) -> Outcome:
    times = [time.perf_counter()]
    with progress(not hide) as show:
        show("reading", 0, 0)
        image = files.read(source)
        times.append(time.perf_counter())
        stored = place.stored_dtype(image)
        files.check_storable(image, stored, target)
        axes = place.filtered_axes(image)
        granted = grant(wish, image, axes, source)
        setting = place.setting(axes, wish.tol if wish.rank is None else None)
        show_frames = functools.partial(show, "filtering")
        result, plan = files.filtered(image, granted.kernel, setting, stored, show_frames)
        times.append(time.perf_counter())
        show("writing", 0, 0)
        files.write(target, result)
        times.append(time.perf_counter())
    laps = [after - before for before, after in itertools.pairwise(times)]
    seconds = dict(zip(("read", "filter", "write"), laps, strict=True))
    return Outcome(image, result, axes, granted, plan, seconds)


def _rows(source: Path, target: Path, outcome: Outcome) -> list[tuple[str, str]]:
    image, result, plan = outcome.image, outcome.result, outcome.plan
    how = f"separable, {plan.terms} term{'s' * (plan.terms > 1)}" if plan.terms else "direct"
    axes = ", ".join(map(image.axis_text, outcome.axes))
    laps = ", ".join(f"{name} {tables.duration(seconds)}" for name, seconds in outcome.seconds.items())
    rows = [
        ("in", f"{source}, {tables.by(image.data.shape)} {image.data.dtype.name}"),
        ("out", f"{target}, {result.data.dtype.name}"),
        ("kernel", outcome.granted.text),
        ("axes", f"{axes}; mode {', '.join(dict.fromkeys(plan.modes))}"),
        ("how", f"{how}, {tables.saving(plan.macs, plan.dense_macs)}"),
        ("time", f"{laps}, {plan.threads} thread{'s' * (plan.threads > 1)}"),
    ]
    return rows + [("note", note) for note in outcome.notes]


def _facts(outcome: Outcome) -> dict[str, Any]:
    image, plan = outcome.image, outcome.plan
    return {
        "shape": image.data.shape,
        "axes": image.axes,
        "spacing_mm": image.spacing,
        "dtype": image.data.dtype.name,
        "output_dtype": outcome.result.data.dtype.name,
        "filtered_axes": outcome.axes,
        "kernel": outcome.granted.text,
        "kernel_shape": plan.taps,
        "sigma_px": outcome.granted.sigma,
        "modes": plan.modes,
        "method": plan.method,
        "terms": plan.terms,
        "macs": plan.macs,
        "dense_macs": plan.dense_macs,
        "relative_l1": plan.error.relative_l1,
        "threads": plan.threads,
        "scratch_bytes": plan.scratch_bytes,
        "seconds": outcome.seconds,
        "notes": outcome.notes,
    }
