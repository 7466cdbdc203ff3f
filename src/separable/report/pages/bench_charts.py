"""Charts of models in several runtimes, as Vega-Lite; colours are names of the style sheet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import altair as alt

__all__ = ["MARKS", "latency_chart", "load_chart", "memory_chart"]

Spec: TypeAlias = dict[str, Any]

# Styles of the page whose colours runtimes have, in their order.
MARKS: Final = ("conv", "depthwise", "pointwise", "linear", "recurrent")
_ROW: Final = 26  # pixels
_FEW_TICKS: Final = 5


def latency_chart(place: int, rows: int, runtimes: Sequence[str], log: bool) -> Spec:
    """Return the chart of all calls of a model: a stroke for each, a line for each runtime and its threads.

    Parameters
    ----------
    place : int
        Of the model: its data sets are "calls" and "rows" with this number.
    rows : int
        How many there are.
    runtimes : sequence of str
        In the order of their colours.
    log : bool
        Whether the times differ so much that the axis is logarithmic.

    Returns
    -------
    dict
    """
    sums, calls = alt.Chart(alt.NamedData(f"rows{place}")), alt.Chart(alt.NamedData(f"calls{place}"))
    scale = alt.Scale(type="log", nice=False, padding=12) if log else alt.Scale(zero=True)
    axis = _numbers(grid=not log)  # whose lines are many on a logarithmic one
    named = "ms of a call, logarithmic" if log else "ms of a call"

    def at(field: str) -> alt.X:
        return alt.X(f"{field}:Q", title=named, scale=scale, axis=axis)

    tooltip = ["row:N", *(alt.Tooltip(f"{name}:Q", format=".4~g") for name in ("least", "p50", "p90", "p99"))]
    span = sums.mark_rule(color="--soft", strokeWidth=1).encode(x=at("least"), x2="p99:Q", y=_rows())
    strokes = calls.mark_tick(thickness=1.5, opacity=0.55, bandSize=16).encode(
        x=at("ms"), y=_rows(), color=_colours(runtimes), tooltip=["row:N", alt.Tooltip("ms:Q", format=".4~g")]
    )
    middle = sums.mark_point(shape="diamond", size=80, filled=True, opacity=1, color="--ink").encode(
        x=at("p50"), y=_rows(), tooltip=tooltip
    )
    return _finished(span + strokes + middle, rows)


def load_chart(place: int, rows: int, runtimes: Sequence[str]) -> Spec:
    """Return the chart of the time to the first result."""
    chart = (
        alt.Chart(alt.NamedData(f"loads{place}"))
        .mark_bar()
        .encode(
            x=alt.X("load:Q", title="ms to the first result", axis=_numbers()),
            y=_rows(),
            color=_colours(runtimes),
            tooltip=["row:N", alt.Tooltip("load:Q", format=".4~g")],
        )
    )
    return _finished(chart, rows)


def memory_chart(place: int, rows: int, runtimes: Sequence[str]) -> Spec:
    """Return the chart of the memory of a process, and what of it was held before the model was read."""
    base = alt.Chart(alt.NamedData(f"memories{place}"))
    tooltip = ["row:N", alt.Tooltip("memory:Q", format=".4~g"), alt.Tooltip("before:Q", format=".4~g")]

    def at(field: str) -> alt.X:
        return alt.X(f"{field}:Q", title="MiB of a process", axis=_numbers())

    whole = base.mark_bar().encode(x=at("memory"), y=_rows(), color=_colours(runtimes), tooltip=tooltip)
    before = base.mark_bar(color="--before").encode(x=at("before"), y=_rows(), tooltip=tooltip)
    return _finished(whole + before, rows)


def _rows() -> alt.Y:
    axis = alt.Axis(labelLimit=140, title="runtime, threads", titlePadding=8)
    return alt.Y("row:N", sort=None, axis=axis)


def _colours(runtimes: Sequence[str]) -> alt.Color:
    marks = [f"--{MARKS[place % len(MARKS)]}" for place in range(len(runtimes))]
    return alt.Color("runtime:N", scale=alt.Scale(domain=list(runtimes), range=marks), legend=None)


def _numbers(grid: bool = True) -> alt.Axis:
    return alt.Axis(format=".3~g", tickCount=_FEW_TICKS, labelOverlap=True, grid=grid)


def _finished(chart: alt.Chart | alt.LayerChart, rows: int) -> Spec:
    spec: Spec = chart.properties(width="container", height=_ROW * rows).to_dict()
    # The page has a configuration of its own, for light and dark; no schema is to be looked up.
    return {key: value for key, value in spec.items() if key not in ("config", "$schema")}
