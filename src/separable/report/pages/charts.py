"""Charts of the pages, as Vega-Lite; colours are names of the style sheet, which light and dark fill in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import altair as alt

from ...conv.forms.table import CHEAPER, FORMS, MULTIPLIED

__all__ = ["audit_charts", "audit_details", "conversion_charts", "conversion_details", "frontier_charts"]

Spec: TypeAlias = dict[str, Any]

_KINDS: Final = (
    "conv",
    "depthwise",
    "pointwise",
    "grouped",
    "transposed",
    "separable",
    "linear",
    "recurrent",
    "matmul",
    "attention",
)

_TALL: Final = 220  # pixels

# Networks of a frontier; those that another one dominates are hollow.
_POINTS: Final = ("original", "point", "dominated")


def audit_charts(measures: Sequence[str], multipliers: int, forms: Sequence[str]) -> dict[str, Spec]:
    """Return the charts of a whole model.

    Parameters
    ----------
    measures : sequence of str
        What of a layer can be shown: fields of the data set "layers".
    multipliers : int
        Depth multipliers 1, 2, ... in the data set "errors"; 0 leaves its chart out.
    forms : sequence of str
        Forms in the data set "halves"; none leaves out all that is of separability.

    Returns
    -------
    dict of str to dict
        Vega-Lite specifications.
    """
    shown = alt.param(
        name="shown", value=measures[0], bind=alt.binding_select(options=list(measures), name="show ")
    )
    costs = (
        alt.Chart(alt.NamedData("layers"))
        .transform_calculate(amount="datum[shown]")
        .mark_bar(cursor="pointer")
        .encode(
            x=_running(),
            y=alt.Y("amount:Q", title=None, axis=_amounts(5)),
            color=alt.Color("kind:N", scale=_scale(_KINDS), legend=None),
            tooltip=["layer:N", "kind:N", *(alt.Tooltip(f"{name}:Q", format=",.3~f") for name in measures)],
        )
        .add_params(shown)
    )
    charts = {"costs": _finished(costs)}
    if multipliers:
        charts["errors"] = _finished(_early_and_late(multipliers))
    if forms:
        charts["halves"] = _finished(_halves(forms))
        charts["frontier"] = _finished(_frontier("distance of the weights"))
    return charts


def _early_and_late(multipliers: int) -> alt.Chart:
    rank = alt.param(
        name="multiplier",
        value=1,
        bind=alt.binding_range(min=1, max=multipliers, step=1, name="depth multiplier "),
    )
    chart: alt.Chart = (
        alt.Chart(alt.NamedData("errors"))
        .transform_filter("datum.rank == multiplier")
        .mark_line(point=alt.OverlayMarkDef(size=45, filled=True), cursor="pointer", strokeWidth=1.5)
        .encode(
            x=_running(),
            y=alt.Y("error:Q", title="distance", axis=_percent(), scale=alt.Scale(domain=[0, 1])),
            color=_colour(MULTIPLIED),
            tooltip=["layer:N", "form:N", "rank:Q", alt.Tooltip("error:Q", format=".2%")],
        )
        .add_params(rank)
    )
    return chart


def _halves(forms: Sequence[str]) -> alt.Chart:
    chart: alt.Chart = (
        alt.Chart(alt.NamedData("halves"))
        .mark_bar(cursor="pointer")
        .encode(
            x=_running(),
            y=alt.Y("error:Q", title="distance", axis=_percent(), scale=alt.Scale(domain=[0, 1])),
            color=_colour(forms),
            tooltip=["layer:N", "form:N", alt.Tooltip("error:Q", format=".2%")],
        )
    )
    return chart


def _frontier(error: str, chosen: bool = False) -> alt.Chart | alt.LayerChart:
    tooltip = [
        alt.Tooltip("cost:Q", title="cost", format=".1%"),
        alt.Tooltip("error:Q", title=error, format=".3~%"),
    ]
    x = alt.X(
        "cost:Q", title="cost, of the original's", scale=alt.Scale(type="log", nice=False), axis=_parts()
    )
    y = alt.Y("error:Q", title=error, axis=_percent(), scale=alt.Scale(type="sqrt" if chosen else "linear"))
    line: alt.Chart = (
        alt.Chart(alt.NamedData("frontier"))
        .mark_line(point=alt.OverlayMarkDef(size=50, filled=True, color="--accent"), color="--accent")
        .encode(x=x, y=y, tooltip=tooltip)
    )
    if not chosen:
        return line
    point: alt.Chart = (
        alt.Chart(alt.NamedData("chosen"))
        .mark_point(size=220, shape="diamond", filled=True, color="--warn", opacity=1)
        .encode(x=x, y=y, tooltip=["what:N", *tooltip])
    )
    return alt.LayerChart(layer=[line, point])


def audit_details() -> dict[str, Spec]:
    """Return the charts of one layer: its spectra, and what each form leaves at which cost."""
    spectrum = (
        alt.Chart(alt.NamedData("spectrum"))
        .mark_bar()
        .encode(
            x=alt.X("term:O", title="term", axis=alt.Axis(labelAngle=0, labelOverlap=True)),
            xOffset=alt.XOffset("form:N", sort=list(MULTIPLIED)),
            y=alt.Y("norm:Q", title="norm, of the layer's", axis=_percent()),
            color=_colour(MULTIPLIED),
            tooltip=["form:N", "term:O", alt.Tooltip("norm:Q", format=".2%")],
        )
    )
    curves = (
        alt.Chart(alt.NamedData("curves"))
        .mark_line(point=alt.OverlayMarkDef(size=40, filled=True))
        .encode(
            x=alt.X("cost:Q", title="MACs, of the layer's", axis=_percent()),
            y=alt.Y("error:Q", title="distance", axis=_percent()),
            color=_colour(CHEAPER),
            tooltip=[
                "form:N",
                "rank:Q",
                alt.Tooltip("cost:Q", format=".2%"),
                alt.Tooltip("error:Q", format=".2%"),
            ],
        )
    )
    return {"spectrum": _finished(spectrum), "curves": _finished(curves)}


def conversion_charts(measures: Sequence[str], forms: Sequence[str]) -> dict[str, Spec]:
    """Return the charts of a whole conversion.

    Parameters
    ----------
    measures : sequence of str
        What of a layer can be shown: the data set "layers" has fields "<measure> before" and "... after".
    forms : sequence of str
        Those that layers are in.

    Returns
    -------
    dict of str to dict
        Vega-Lite specifications.
    """
    shown = alt.param(
        name="shown", value=measures[0], bind=alt.binding_select(options=list(measures), name="show ")
    )
    base = alt.Chart(alt.NamedData("layers")).transform_calculate(
        before="datum[shown + ' before']", after="datum[shown + ' after']"
    )
    tooltip = [
        "layer:N",
        "form:N",
        "rank:N",
        alt.Tooltip("before:Q", format=",.3~f"),
        alt.Tooltip("after:Q", format=",.3~f"),
        alt.Tooltip("error:Q", format=".3~%"),
        "reason:N",
    ]
    axis = _amounts(5)
    before = base.mark_bar(color="--before", cursor="pointer").encode(
        x=_running(), y=alt.Y("before:Q", title=None, axis=axis), tooltip=tooltip
    )
    after = base.mark_bar(cursor="pointer", width=alt.RelativeBandSize(0.6)).encode(
        x=_running(),
        y=alt.Y("after:Q", title=None, axis=axis),
        color=_colour(forms),
        tooltip=tooltip,
    )
    errors = (
        alt.Chart(alt.NamedData("layers"))
        .mark_point(size=60, filled=True, opacity=1, cursor="pointer")
        .encode(
            x=_running(),
            y=alt.Y("error:Q", title="error", axis=_percent(), scale=alt.Scale(type="sqrt")),
            color=_colour(forms),
            tooltip=["layer:N", "form:N", "rank:N", alt.Tooltip("error:Q", format=".3~%")],
        )
    )
    return {
        "layers": _finished((before + after).add_params(shown)),
        "errors": _finished(errors),
        "frontier": _finished(_frontier("change of the outputs", chosen=True)),
    }


def conversion_details(cost: str) -> dict[str, Spec]:
    """Return the chart of one layer: each form and rank that was tried, and the one that was taken.

    Parameters
    ----------
    cost : str
        What the cost is.

    Returns
    -------
    dict of str to dict
    """
    shown = alt.param(
        name="shown",
        value="effect",
        bind=alt.binding_radio(
            options=["effect", "error"],
            labels=["of the network", "of the layer"],
            name="change of the outputs ",
        ),
    )
    base = alt.Chart(alt.NamedData("options")).transform_calculate(amount="datum[shown]")
    x = alt.X("cost:Q", title=cost, axis=_amounts(6))
    y = alt.Y("amount:Q", title="change", axis=_percent(), scale=alt.Scale(type="sqrt"))
    tooltip = [
        "form:N",
        "rank:Q",
        alt.Tooltip("cost:Q", format=",.3~f"),
        alt.Tooltip("error:Q", format=".3~%"),
        alt.Tooltip("effect:Q", format=".3~%"),
    ]
    colour = _colour(tuple(FORMS))
    lines = base.mark_line(point=alt.OverlayMarkDef(size=40, filled=True)).encode(
        x=x, y=y, color=colour, tooltip=tooltip
    )
    taken = (
        base.transform_filter("datum.taken")
        .mark_point(size=260, shape="circle", strokeWidth=2.5, filled=False, opacity=1, color="--ink")
        .encode(x=x, y=y, tooltip=tooltip)
    )
    return {"options": _finished((lines + taken).add_params(shown))}


def frontier_charts(costs: Sequence[str], loss: str, percent: bool, below_zero: bool) -> dict[str, Spec]:
    """Return the charts of a frontier: the loss of each network over what it costs.

    Parameters
    ----------
    costs : sequence of str
        Fields of the data sets "points", with the original and the intervals, and "frontier", of those that
        no other one dominates.
    loss : str
        What the loss is.
    percent : bool
        Whether it is shown in per cent.
    below_zero : bool
        Whether a loss, or the end of an interval, is below 0.

    Returns
    -------
    dict of str to dict
        By cost.
    """
    scale = alt.Scale(type="linear") if below_zero else alt.Scale(type="sqrt", domainMin=0)
    axis = _percent() if percent else alt.Axis(format=".3~g", tickCount=5)
    number = ".3~%" if percent else ".3~g"
    y = alt.Y("loss:Q", title=loss, axis=axis, scale=scale)
    charts = {}
    for cost in costs:
        ticks = _amounts(6)
        x = alt.X(f"{cost}:Q", title=cost, axis=ticks, scale=alt.Scale(zero=True))
        tooltip = [
            "what:N",
            *(alt.Tooltip(f"{name}:Q", format=",.4~g") for name in costs),
            alt.Tooltip("loss:Q", format=number),
            alt.Tooltip("low:Q", title="95 % from", format=number),
            alt.Tooltip("high:Q", title="to", format=number),
        ]
        base = alt.Chart(alt.NamedData("points"))
        line = (
            alt.Chart(alt.NamedData("frontier"))
            .mark_line(color="--accent", strokeWidth=1.5)
            .encode(x=x, y=y, order=alt.Order(f"{cost}:Q"))
        )
        sure = base.mark_rule(color="--soft", strokeWidth=2).encode(x=x, y=alt.Y("low:Q"), y2="high:Q")
        marks = base.mark_point(size=90, opacity=1, strokeWidth=2).encode(
            x=x,
            y=y,
            stroke=alt.Stroke("kind:N", legend=None, scale=_of_kind("--warn", "--accent", "--accent")),
            fill=alt.Fill("kind:N", legend=None, scale=_of_kind("--warn", "--accent", "--card")),
            shape=alt.Shape("kind:N", legend=None, scale=_of_kind("diamond", "circle", "circle")),
            tooltip=tooltip,
        )
        names = base.mark_text(dy=-12, fontSize=11, color="--ink").encode(x=x, y=y, text="what:N")
        charts[cost] = _finished(line + sure + marks + names)
    return charts


def _of_kind(*values: str) -> alt.Scale:
    return alt.Scale(domain=list(_POINTS), range=list(values))


def _running() -> alt.X:
    """Return the axis of layers in running order, by their names; where there is no room, of some of them."""
    axis = alt.Axis(labelAngle=-90, labelOverlap="greedy", labelLimit=130, title="layers, as they run")
    return alt.X("label:N", sort=None, axis=axis)


def _scale(names: Sequence[str]) -> alt.Scale:
    return alt.Scale(domain=list(names), range=[f"--{name}" for name in names])


def _colour(names: Sequence[str]) -> alt.Color:
    """Return the colours of names, with a legend that fits a telephone."""
    legend = alt.Legend(orient="top", title=None, columns=len(names) if len(names) < 5 else 3)
    return alt.Color("form:N", scale=_scale(names), legend=legend)


def _amounts(ticks: int) -> alt.Axis:
    """Return an axis of counts, 2M, or of times, 0.01: an SI prefix below 1 would be taken for a unit."""
    label = "abs(datum.value) < 1 ? format(datum.value, '.3~g') : format(datum.value, '~s')"
    return alt.Axis(labelExpr=label, tickCount=ticks)


def _percent() -> alt.Axis:
    return alt.Axis(format=".3~%", tickCount=5)


def _parts() -> alt.Axis:
    return alt.Axis(
        values=[2.0**-n for n in range(9)],
        labelExpr="datum.value == 1 ? 'all' : '1/' + format(1 / datum.value, '.0f')",
    )


def _finished(chart: alt.Chart | alt.LayerChart) -> Spec:
    spec: Spec = chart.properties(width="container", height=_TALL).to_dict()
    # The page has a configuration of its own, for light and dark; no schema is to be looked up.
    return {key: value for key, value in spec.items() if key not in ("config", "$schema")}
