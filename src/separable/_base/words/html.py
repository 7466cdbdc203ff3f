"""Values as HTML for notebooks: tables and pictures, in the colours of the page."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np

from ..types import Array
from . import quantities

# Colours of positive and negative values, legible on light and dark pages.
_COLOURS: Final = ("#3182bd", "#e6750c")
_FAINT: Final = 0.02  # share of the largest value below which no element is drawn
_CELLS: Final = 24  # maximum cells of the longer side of a picture; larger kernels are averaged by blocks
_SIDE: Final = 132  # pixels of the longer side of a picture
_TALL: Final = 420  # maximum height of a long table, in pixels, before it scrolls
_LONG: Final = 16  # rows from which a table is long
_INHERITS: Final = "border-collapse:collapse;font-size:inherit;color:inherit"


def block(title: str, *parts: str) -> str:
    """Return a title and the elements below it, as one element."""
    head = f'<div style="font-weight:600;margin-bottom:.3em">{html.escape(title)}</div>'
    return f'<div style="overflow-x:auto;padding:1px;line-height:1.4">{head}{"".join(parts)}</div>'


def lines(texts: Iterable[str]) -> str:
    """Return lines of text below each other."""
    return "".join(f"<div>{html.escape(text)}</div>" for text in texts)


def facts(rows: Iterable[tuple[str, str]]) -> str:
    """Return a list of labels and values."""
    style = 'style="text-align:left;padding:.1em .8em .1em 0;vertical-align:top;border:none;background:none'
    cells = (
        f'<tr style="background:none"><th {style};opacity:.7;font-weight:400">{html.escape(label)}</th>'
        f'<td {style};white-space:normal">{html.escape(text)}</td></tr>'
        for label, text in rows
    )
    return f'<table style="{_INHERITS};border:none;margin:.2em 0">{"".join(cells)}</table>'


def table(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    numbers: Sequence[bool],
    marked: Sequence[int] = (),
) -> str:
    """Return a table; a row that is shorter ends in one cell across the rest of the columns.

    Parameters
    ----------
    headings : sequence of str
    rows : sequence of sequence of str
    numbers : sequence of bool
        For each column whether it is set to the right.
    marked : sequence of int, optional
        Rows in bold.
    """
    sides = ["right" if number else "left" for number in numbers]
    head = "".join(
        f'<th style="text-align:{side};padding:.1em .6em;font-weight:400;opacity:.7">{html.escape(text)}</th>'
        for text, side in zip(headings, sides, strict=True)
    )
    body = []
    for place, row in enumerate(rows):
        cells = []
        for n, text in enumerate(row):
            rest = len(headings) - n if n == len(row) - 1 else 1
            span = f' colspan="{rest}"' if rest > 1 else ""
            side = "left" if rest > 1 else sides[n]
            style = f"text-align:{side};padding:.1em .6em;white-space:{'normal' if rest > 1 else 'nowrap'}"
            cells.append(f'<td{span} style="{style}">{html.escape(text)}</td>')
        weight = ' style="font-weight:600"' if place in marked else ""
        body.append(f"<tr{weight}>{''.join(cells)}</tr>")
    scrolls = f"max-height:{_TALL}px;overflow:auto;" if len(rows) > _LONG else ""
    ruled = '<tr style="border-bottom:1px solid currentColor">'
    return (
        f'<div style="{scrolls}margin:.3em 0"><table style="{_INHERITS};margin:0">'
        f"<thead>{ruled}{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def side_by_side(pictures: Iterable[tuple[str, str]]) -> str:
    """Return pictures with a caption below each."""
    figures = (
        '<div style="display:inline-block;vertical-align:bottom;margin:.4em 1em .2em 0;text-align:center">'
        f'{picture}<div style="opacity:.7;font-size:85%">{html.escape(caption)}</div></div>'
        for caption, picture in pictures
    )
    return f"<div>{''.join(figures)}</div>"


def plane(values: Array) -> str:
    """Return a picture of an array of two axes: blue above zero, orange below, clear at zero."""
    cells = _means(np.asarray(values, np.float64))
    rows, columns = cells.shape
    step = _SIDE / max(rows, columns, 3)
    shares = cells / (np.abs(cells).max() or 1.0)
    groups = []
    for colour, sign in zip(_COLOURS, (1, -1), strict=True):
        where = np.argwhere(sign * shares > _FAINT)
        squares = "".join(
            f'<rect x="{x}" y="{y}" width="1" height="1" fill-opacity="{abs(shares[y, x]):.2g}"/>'
            for y, x in where.tolist()
        )
        groups.append(f'<g fill="{colour}">{squares}</g>' if squares else "")
    return _svg(columns, rows, step, "kernel", "".join(groups))


def stems(values: Array) -> str:
    """Return a picture of taps along one axis: bars from the line of zero."""
    taps = _means(np.asarray(values, np.float64)[np.newaxis], 4 * _CELLS)[0]
    shares = taps / (np.abs(taps).max() or 1.0)
    top, bottom = max(0.0, float(shares.max())), max(0.0, float(-shares.min()))
    height = 10 * max(top + bottom, 0.1)
    bars = "".join(
        f'<rect x="{n + 0.1:.4g}" y="{10 * (top - max(share, 0)):.4g}" width=".8" '
        f'height="{10 * abs(share):.4g}" fill="{_COLOURS[int(share < 0)]}"/>'
        for n, share in enumerate(shares.tolist())
        if abs(share) > 1e-3
    )
    zero = (
        f'<path d="M0 {10 * top:.4g}H{taps.size}" stroke="currentColor" stroke-opacity=".6" '
        'vector-effect="non-scaling-stroke"/>'
    )
    wide = max(_SIDE, min(4 * taps.size, 2 * _SIDE))
    return _svg(taps.size, height, wide / taps.size, "taps", zero + bars, tall=_SIDE / 2 * height / 10)


def _svg(width: float, height: float, step: float, label: str, inside: str, tall: float | None = None) -> str:
    size = f'width="{width * step:.4g}" height="{height * step if tall is None else tall:.4g}"'
    return (
        f'<svg role="img" aria-label="{label}" {size} '
        f'viewBox="0 0 {width:.4g} {height:.4g}" preserveAspectRatio="none" shape-rendering="crispEdges" '
        f'style="outline:1px solid rgba(128,128,128,.35)">{inside}</svg>'
    )


def _means(values: Array, most: int = _CELLS) -> Array:
    """Return the array, or means of its blocks where it has more places than a picture shows."""
    for axis in (0, 1):
        length = values.shape[axis]
        if length > most:
            ends = np.unique(np.linspace(0, length, most + 1).astype(int))
            sums = np.add.reduceat(values, ends[:-1], axis=axis)
            shape = [1, 1]
            shape[axis] = -1
            values = sums / np.diff(ends).reshape(shape)
    return values


def by(shape: Sequence[int]) -> str:
    """Return the size of a kernel as people write it: ``31 x 31``, ``9 taps``."""
    return quantities.by(shape) if len(shape) > 1 else quantities.plural(shape[0], "tap")


def largest_plane(values: Array) -> Array:
    """Return the plane of the last two axes through the largest element."""
    if values.ndim <= 2:
        return values
    peak = np.unravel_index(int(np.abs(values).argmax()), values.shape)
    chosen: Array = values[tuple(map(int, peak[:-2]))]
    return chosen


def ratio(dense: int, macs: int) -> str:
    """Return how many times fewer multiplications, or nothing."""
    return f", {dense / macs:.3g}x fewer" if 0 < macs < dense and math.isfinite(dense / macs) else ""
