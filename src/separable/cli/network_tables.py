"""What networks give, and how long they take in several runtimes, as terminal tables; at any width."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from .._base.types import Array
from .._base.words.printable import printable
from .._base.words.quantities import by, plural, tenths, times
from ..report.text.audits import milliseconds
from ..report.text.conversions import count
from ..report.text.tables import facts

if TYPE_CHECKING:
    from ..engine.loader import Profile

__all__ = [
    "facts",
    "largest",
    "output_facts",
    "output_rows",
    "profiled",
    "runtimes",
]

_TOP: Final = 5  # values of a sample that are shown
_MOST_SAMPLES: Final = 10


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
