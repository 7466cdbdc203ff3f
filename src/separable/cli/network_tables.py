"""What networks give, and how long they take in several runtimes, as terminal tables; at any width."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from .._base.types import Array
from .._base.words.printable import printable
from .._base.words.quantities import by, percent, plural, tenths, times
from ..report.text.audits import milliseconds
from ..report.text.conversions import count
from ..report.text.tables import facts

if TYPE_CHECKING:
    from ..engine.loader import Profile
    from ..onnx.audits.side_by_side import ModelTimes, RuntimeTimes

__all__ = [
    "facts",
    "largest",
    "output_facts",
    "output_rows",
    "profiled",
    "runtimes",
    "side_by_side",
    "side_by_side_notes",
]

_TOP: Final = 5  # values of a sample that are shown
_MOST_SAMPLES: Final = 10
_WIDE: Final = 74  # characters that a row of times needs


# -- what a network gives ----------------------------------------------------------------------------


def output_rows(results: dict[str, Array]) -> list[tuple[str, str]]:
    """Return the shape, dtype and range of each output."""
    return [(name, _described(array)) for name, array in results.items()]


def _described(array: Array) -> str:
    text = f"{by(array.shape) or 'one number'} {array.dtype}"
    if not array.size or array.dtype.kind not in "fiu":
        return text
    return f"{text}, {array.min():.4g} to {array.max():.4g}, mean {array.mean(dtype=np.float64):.4g}"


def output_facts(array: Array) -> dict[str, Any]:
    """Return the shape and the dtype of an output, and the largest values of each sample, for JSON."""
    found: dict[str, Any] = {"shape": list(array.shape), "dtype": str(array.dtype)}
    if _is_scores(array):
        found["top"] = [[[int(place), float(row[place])] for place in _largest_places(row)] for row in array]
    return found


def largest(name: str, array: Array) -> Table | None:
    """Return the largest values of each sample, where an output holds a row of them for each.

    Parameters
    ----------
    name : str
    array : ndarray

    Returns
    -------
    Table or None
    """
    if not _is_scores(array):
        return None
    shown = min(_TOP, array.shape[1])
    table = Table(
        box=box.SIMPLE_HEAD, pad_edge=False, title=f"Largest of {printable(name)}", title_justify="left"
    )
    table.add_column("sample", justify="right")
    table.add_column("place: value" if shown == 1 else "places: values")
    for number, row in enumerate(array[:_MOST_SAMPLES]):
        places = _largest_places(row)
        table.add_row(str(number), "  ".join(f"{place}: {row[place]:.4g}" for place in places))
    if len(array) > _MOST_SAMPLES:
        table.add_row("...", f"{plural(len(array) - _MOST_SAMPLES, 'more sample')}; -o keeps all")
    return table


def _is_scores(array: Array) -> bool:
    return array.ndim == 2 and array.dtype.kind in "fiu" and array.shape[1] > 1


def _largest_places(row: Array) -> list[int]:
    return [int(place) for place in np.argsort(-row, kind="stable")[:_TOP]]


# -- where the time goes -----------------------------------------------------------------------------


def profiled(profile: Profile, width: int) -> RenderableType:
    """Return a profile: as it prints itself where that fits, else without shapes, long names folded."""
    text = str(profile)
    head, _, rows = text.partition("\n\n")
    if max(map(len, rows.splitlines()), default=0) <= width:
        return Text(text)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("step", overflow="fold")
    for heading in ("ms", "share", "of peak"):
        table.add_column(heading, justify="right", no_wrap=True)
    whole = sum(step.measured_ms or 0.0 for step in profile.steps)
    for step in profile.steps:
        taken = step.measured_ms or 0.0
        speed = step.gflops if step.macs else None
        table.add_row(
            Text(printable(" ".join((step.kind, *step.notes)))),
            f"{taken:.3f}",
            tenths(taken / whole) if whole else "",
            tenths(speed / profile.peak_gflops) if speed else "",
        )
    return Group(Text(head), table)


# -- times -------------------------------------------------------------------------------------------


def side_by_side(done: Sequence[tuple[str, ModelTimes]], width: int) -> RenderableType:
    """Return the times of models in several runtimes: a row for each, or a line where there is less room.

    Parameters
    ----------
    done : sequence of (str, ModelTimes)
    width : int
        Of the terminal, in characters.
    """
    return _wide_times(done) if width >= _WIDE else _narrow_times(done)


def _wide_times(done: Sequence[tuple[str, ModelTimes]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("network", overflow="fold")
    for heading in ("threads", "runtime", "ms", "median", "of peak", "over ours", "differs"):
        table.add_column(heading, justify="left" if heading == "runtime" else "right", no_wrap=True)
    for name, model in done:
        for number, timed in enumerate(model.times):
            table.add_row(
                Text(printable(name) if number == 0 else ""),
                str(model.threads) if number == 0 else "",
                timed.runtime,
                milliseconds(timed.least_ms),
                milliseconds(timed.median_ms),
                percent(round(model.of_peak(timed), 3)),
                _ratio(model, timed),
                _apart(timed),
                end_section=number == len(model.times) - 1,
            )
    return table


def _narrow_times(done: Sequence[tuple[str, ModelTimes]]) -> Table:
    grid = Table.grid(padding=(0, 1))
    grid.add_column(overflow="fold")
    for name, model in done:
        grid.add_row(Text(f"{printable(name)}, {plural(model.threads, 'thread')}", style="bold"))
        lines = Table.grid(padding=(0, 2))
        for column in range(5):
            lines.add_column(justify="right" if column else "left", no_wrap=True)
        for timed in model.times:
            lines.add_row(
                f"  {timed.runtime}",
                f"{milliseconds(timed.least_ms)} ms",
                f"({milliseconds(timed.median_ms)})",
                percent(round(model.of_peak(timed), 3)),
                _ratio(model, timed),
            )
        grid.add_row(lines)
    return grid


def _work(model: ModelTimes) -> str:
    shapes = ", ".join(f"{name} {by(shape)}" for name, shape in model.inputs.items())
    return f"{shapes}: {count(model.macs)} MACs"


def _ratio(model: ModelTimes, timed: RuntimeTimes) -> Text:
    if timed is model.times[0]:
        return Text()
    ratio = model.over_ours(timed)
    return Text(times(ratio), style="green" if ratio >= 1 else "yellow")


def _apart(timed: RuntimeTimes) -> str:
    return "" if timed.difference is None else f"{timed.difference:.0e}"


def side_by_side_notes(done: Sequence[tuple[str, ModelTimes]]) -> list[tuple[str, str]]:
    """Return what a reader of the times has to know: versions, the machine's peak, and what is missing."""
    versions = dict.fromkeys(f"{timed.runtime} {timed.version}" for _, model in done for timed in model.times)
    peaks: dict[int, float] = {}
    for _, model in done:
        peaks[model.threads] = max(peaks.get(model.threads, 0.0), model.peak_gflops)
    refused = dict.fromkeys(
        said if said.endswith("installed") else f"{name}: {said}"
        for name, model in done
        for said in model.refused
    )
    reference = next((timed.runtime for _, model in done for timed in model.times[1:]), None)
    works = dict.fromkeys((printable(name), _work(model)) for name, model in done)
    rows = [
        *((name, work) for name, work in works),
        ("versions", ", ".join(versions)),
        *(
            ("peak", f"{peak:.0f} GFLOP/s, {plural(n, 'thread')}: fused multiply-adds")
            for n, peak in peaks.items()
        ),
        ("ms", "the least, and the median, of runs in turn in one process"),
        ("over ours", "how many times as long as separable: the least of each"),
    ]
    if reference is not None:
        rows.append(("differs", f"from {reference}, relative to its largest output"))
    return [*rows, *(("left out", said) for said in refused)]


def runtimes(seconds: Mapping[str, Mapping[str, float]], macs: Mapping[str, int]) -> Table:
    """Return a network in two forms and in some runtimes, and what the second form saves in each.

    Parameters
    ----------
    seconds : mapping of str to mapping of str to float
        By form, the costly one first, and runtime, the own one last.
    macs : mapping of str to int
        By form.
    """
    names = list(next(iter(seconds.values())))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("")
    for heading in ("MACs", *(f"{name} ms" for name in names), "ratio"):
        table.add_column(heading, justify="right")
    for number, (form, taken) in enumerate(seconds.items()):
        times_ms = [milliseconds(1e3 * taken[name]) for name in names]
        ratio = times(taken[names[0]] / taken[names[-1]])
        table.add_row(form, count(macs[form]), *times_ms, ratio, end_section=number == len(seconds) - 1)
    first, *_, last = seconds
    saved = [times(seconds[first][name] / seconds[last][name]) for name in names]
    table.add_row("saved", times(macs[first] / macs[last]), *saved, "", style="bold")
    return table
