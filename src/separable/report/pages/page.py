"""Pages of HTML that need nothing else: what all of them share."""

from __future__ import annotations

import base64
import functools
import hashlib
import math
import os
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import altair as alt
import vl_convert
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ...files.target import replacing

__all__ = ["Cell", "Heading", "Row", "axis_labels", "rendered", "short", "write"]


_LABEL = 21  # characters of a name on an axis


class Heading(NamedTuple):
    """The head of a column; "" for one of bars, which has none."""

    text: str
    number: bool


class Cell(NamedTuple):
    """A cell of a table: its text and style, what it sorts by, or the length of its bar in per cent."""

    text: str
    style: str = ""
    sort: float | None = None
    bar: float | None = None


class Row(NamedTuple):
    """A row of a table: the style whose colour it has, and the place of the layer that it opens."""

    style: str
    place: int | None
    cells: Sequence[Cell]


def axis_labels(names: Sequence[str]) -> list[str]:
    """Return names for an axis: the end of each, which tells them apart; no two alike.

    A last part that few share out among many, such as an operator's name, is left out.

    Parameters
    ----------
    names : sequence of str

    Returns
    -------
    list of str
    """
    seen: dict[str, int] = {}
    labels = []
    ends = {name.rpartition("/")[2] for name in names}
    for name in names:
        if len(ends) < len(names) / 2:  # they tell the operator, not the layer
            name = name.rpartition("/")[0] or name
        label = name if len(name) <= _LABEL else f"\N{HORIZONTAL ELLIPSIS}{name[1 - _LABEL :]}"
        seen[label] = seen.get(label, 0) + 1
        labels.append(label if seen[label] == 1 else f"{label} ({seen[label]})")
    return labels


def rendered(template: str, data: Mapping[str, Any], **values: Any) -> str:
    """Return a page: its template, filled, with style, scripts and data inside.

    Parameters
    ----------
    template : str
        Name of a file beside this one.
    data : mapping
        What the page's script reads; JSON.
    **values
        What the template shows. Text is escaped.

    Returns
    -------
    str
    """
    scripts = [_charts_script(), _file("page.js")]
    return (
        _templates()
        .get_template(template)
        .render(
            style=Markup(_file("page.css")),
            scripts=[Markup(script) for script in scripts],
            # Nothing is loaded, and no script runs but these two, whatever a name may hold. Vega compiles the
            # expressions of its charts.
            policy=f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
            f"script-src 'unsafe-eval' {' '.join(map(_hash, scripts))}",
            data=data,
            **values,
        )
    )


def short(value: int | float | None) -> float | None:
    """Return a count as it is, another number with five digits; None for what JSON has no word for."""
    if isinstance(value, int):
        return value
    return None if value is None or not math.isfinite(value) else float(f"{value:.5g}")


def write(text: str, path: str | os.PathLike[str]) -> None:
    """Write a page; the file appears when it is complete.

    Parameters
    ----------
    text : str
    path : path-like

    Raises
    ------
    FileError
        If it cannot be written.
    """
    with replacing(Path(path)) as beside:
        beside.write_text(text, encoding="utf-8")


@functools.cache
def _templates() -> Environment:
    loader = PackageLoader("separable.report", "pages")
    templates = Environment(autoescape=True, loader=loader, undefined=StrictUndefined, trim_blocks=True)
    templates.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    return templates


@functools.cache
def _charts_script() -> str:
    """Return Vega, Vega-Lite and Vega-Embed of the version that Altair writes for, as one script."""
    version = ".".join(alt.SCHEMA_VERSION.split(".")[:2])
    bundle = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", version)
    return bundle.replace(
        "</script", r"<\/script"
    )  # in a string or a pattern, where alone it may stand: the same


def _file(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
