"""A picture of what networks see in a mosaic of textures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt

from ..._base.extras import extra

_COLOURS = ("#e08a1e", "#5b9c4b", "#0b6fb8")
_INCHES, _DPI = (11.0, 4.6), 110
_COLUMNS = 3


def mosaic_page(
    path: Path, photo: npt.NDArray[Any], maps: Mapping[str, npt.NDArray[Any]], classes: Sequence[str]
) -> None:
    """Draw a mosaic and which texture is where, as several see it, as a PNG.

    Parameters
    ----------
    path : Path
        Written to.
    photo : ndarray, shape ``(height, width)``
    maps : mapping of str to ndarray of int, shape ``(height, width)``
        By caption.
    classes : sequence of str
        What the integers stand for; three at most.
    """
    with extra("demo"):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.colors import ListedColormap
        from matplotlib.figure import Figure
        from matplotlib.patches import Patch

    figure = Figure(figsize=_INCHES, dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    rows = -(-(1 + len(maps)) // _COLUMNS)
    panels = figure.subplots(rows, _COLUMNS, squeeze=False).ravel()
    for axes in panels:
        axes.set_axis_off()
    panels[0].imshow(photo, cmap="gray", interpolation="nearest")
    panels[0].set_title("held-out textures", fontsize=10)
    colours = ListedColormap(_COLOURS[: len(classes)])
    for axes, (caption, labels) in zip(panels[1:], maps.items(), strict=False):
        axes.imshow(labels, cmap=colours, vmin=-0.5, vmax=len(classes) - 0.5, interpolation="nearest")
        axes.set_title(caption, fontsize=10)
    patches = [Patch(color=colour, label=name) for colour, name in zip(_COLOURS, classes, strict=False)]
    panels[-1].legend(handles=patches, loc="center", frameon=False, fontsize=12)
    figure.savefig(path, format="png")
