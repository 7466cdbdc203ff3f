"""The drawings of the pages in docs/theory, made when the site is built, for light and for dark pages."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import matplotlib as mpl
from matplotlib.figure import Figure

from . import costs, layers, limits, spatial
from .ink import DARK, LIGHT, Ink

DRAWINGS: Final[dict[str, Callable[[Ink], Figure]]] = {
    "outer-product": spatial.outer_product,
    "sum-of-terms": spatial.sum_of_terms,
    "cascade": spatial.cascade,
    "dense-and-separable": layers.dense_and_separable,
    "slices": layers.slices,
    "impossible": limits.impossible,
    "crossing": limits.crossing,
    "terms-and-tolerance": costs.terms_and_tolerance,
    "ratio": costs.ratio,
    "roofline": costs.roofline,
}

NOTHING: Final = dict.fromkeys(("Date", "Creator", "Format", "Type"))  # in the files about themselves


def draw(folder: Path, names: Iterable[str] = DRAWINGS) -> None:
    """Write NAME-light.svg and NAME-dark.svg of drawings, their grounds transparent."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        for ink in (LIGHT, DARK):
            # A salt of its own keeps the files the same from build to build.
            with mpl.rc_context({"svg.hashsalt": name, "font.size": 8.0}):
                figure = DRAWINGS[name](ink)
                figure.savefig(folder / f"{name}-{ink.name}.svg", transparent=True, metadata=NOTHING)
