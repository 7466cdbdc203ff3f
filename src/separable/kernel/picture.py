"""A kernel drawn with matplotlib: the dense kernel, and the taps along each axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from .._base.extras import extra
from .._base.types import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Figure


_SIGNED: Final = "RdBu_r"  # diverging colour map: 0 is white
_TERMS_SHOWN: Final = 6  # maximum terms whose taps are drawn
_CELL: Final = (3.4, 3.2)  # size of a panel, in inches


def draw_kernel(
    dense: Array, terms: Sequence[Sequence[Array]], title: str, figure: Figure | None = None
) -> Figure:
    """Draw a kernel, and the taps of its terms along each axis.

    Parameters
    ----------
    dense : ndarray
        Of more than two axes the plane of the last two through the largest element is shown.
    terms : sequence of sequences of ndarray
    title : str
    figure : Figure, optional
        Drawn into; a new one of pyplot by default.

    Returns
    -------
    Figure

    Raises
    ------
    MissingExtraError
        If matplotlib is not installed.
    """
    if figure is None:
        with extra("plot"):
            from matplotlib import pyplot as plt

        panels = dense.ndim + (dense.ndim > 1)
        figure = plt.figure(figsize=(_CELL[0] * panels, _CELL[1]), layout="constrained")
    ratios = [1.25, *[1.0] * dense.ndim] if dense.ndim > 1 else [1.0]
    panels_of = figure.subplots(1, len(ratios), squeeze=False, width_ratios=ratios)[0]
    figure.suptitle(title, fontsize="medium")
    if dense.ndim > 1:
        _draw_plane(panels_of[0], dense)
    for axis, axes in enumerate(panels_of[-dense.ndim :]):
        _draw_taps(axes, [term[axis] for term in terms], axis)
    if len(terms) > 1:
        more = f"the first {_TERMS_SHOWN} of {len(terms)}" if len(terms) > _TERMS_SHOWN else None
        handles, labels = panels_of[-1].get_legend_handles_labels()
        figure.legend(
            handles, labels, loc="outside right center", frameon=False, fontsize="small", title=more
        )
    return figure


def _draw_plane(axes: Axes, dense: Array) -> None:
    plane = dense
    caption = "dense"
    if dense.ndim > 2:
        peak = np.unravel_index(int(np.abs(dense).argmax()), dense.shape)
        plane = dense[tuple(map(int, peak[:-2]))]
        caption = f"dense, axes {dense.ndim - 2} and {dense.ndim - 1} through the largest"
    limit = float(np.abs(plane).max()) or 1.0
    up, left = plane.shape[0] // 2, plane.shape[1] // 2
    edges = (-left - 0.5, plane.shape[1] - left - 0.5, plane.shape[0] - up - 0.5, -up - 0.5)
    image = axes.imshow(plane, cmap=_SIGNED, vmin=-limit, vmax=limit, extent=edges, interpolation="nearest")
    axes.set_title(caption, fontsize="small")
    axes.locator_params(integer=True)
    axes.figure.colorbar(image, ax=axes, shrink=0.85, format="%.2g")


def _draw_taps(axes: Axes, lines: Sequence[Array], axis: int) -> None:
    for number, taps in enumerate(lines[:_TERMS_SHOWN], 1):
        places = np.arange(taps.size) - taps.size // 2
        axes.plot(places, taps, ".-", markersize=4, linewidth=1, label=f"term {number}")
    axes.axhline(0.0, color="0.6", linewidth=0.6, zorder=0)
    axes.set_title(f"taps along axis {axis}", fontsize="small")
    axes.spines[["top", "right"]].set_visible(False)
    axes.locator_params(axis="x", integer=True)
