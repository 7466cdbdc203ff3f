"""Pictures: what the demo saw, on one page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..._base.extras import extra
from ..._base.types import Array
from ..._base.words.quantities import in_seconds, percent
from ...kernel.value import SeparableKernel
from ..values import Comparison, Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure
    from matplotlib.image import AxesImage


_COLOURS = ("#0b6fb8", "#9aa0a6", "#e08a1e", "#5b9c4b")
_SIGNED = "RdBu_r"
_INCHES, _DPI = (13.0, 17.5), 110
_MARGIN = 0.12  # inches around each part
_ROUNDING = 1e-8  # relative l1: what a picture of a residual would show of less is noise of float32


def check_available() -> None:
    """Raise MissingExtraError if pictures cannot be drawn."""
    with extra("demo"):
        import matplotlib as mpl  # noqa: F401


def demo_page(
    path: Path,
    photos: Mapping[str, Array],
    volumes: Mapping[str, Array],
    studies: Sequence[Study],
    comparisons: Sequence[Comparison],
) -> None:
    """Draw the demo's page as a PNG.

    Parameters
    ----------
    path : Path
        Written to.
    photos : mapping of str to ndarray, shape ``(rows, columns, 3)``
        By caption; integers are shown as they are, floats as signed values.
    volumes : mapping of str to ndarray, shape ``(x, y, z)``
        By caption; shown with the grey scale of the first.
    studies : sequence of Study
    comparisons : sequence of Comparison
    """
    with extra("demo"):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.layout_engine import ConstrainedLayoutEngine

    roomy = ConstrainedLayoutEngine(w_pad=_MARGIN, h_pad=_MARGIN)
    figure = Figure(figsize=_INCHES, dpi=_DPI, layout=roomy)
    FigureCanvasAgg(figure)
    heights = (3.4, 2.9, 2.9 * len(studies), 4.2)
    rows: npt.NDArray[Any] = np.asarray(figure.subfigures(4, 1, height_ratios=heights))
    _draw_photos(rows[0], photos)
    _draw_volumes(rows[1], volumes)
    _draw_studies(rows[2], studies)
    _draw_times(rows[3], comparisons)
    figure.savefig(path, format="png")


def _draw_photos(figure: SubFigure, photos: Mapping[str, Array]) -> None:
    for axes, (caption, photo) in zip(figure.subplots(1, len(photos)), photos.items(), strict=True):
        if photo.dtype.kind == "f":
            _draw_signed(axes, photo.mean(axis=2))
        else:
            axes.imshow(photo)
        _caption(axes, caption)


def _draw_volumes(figure: SubFigure, volumes: Mapping[str, Array]) -> None:
    bright = max(float(np.percentile(next(iter(volumes.values())), 99.5)), 1e-30)
    for part, (caption, volume) in zip(_split(figure, len(volumes)), volumes.items(), strict=True):
        slabs = [np.take(volume, length // 2, axis=axis).T for axis, length in enumerate(volume.shape)]
        widths = [slab.shape[1] for slab in slabs]  # one scale for all three
        for axes, slab in zip(part.subplots(1, 3, width_ratios=widths), slabs, strict=True):
            axes.imshow(slab, cmap="gray", vmin=0, vmax=bright, origin="lower")
            _caption(axes, "")
        part.suptitle(caption, fontsize=10)


def _split(figure: SubFigure, columns: int) -> Array:
    return np.asarray(figure.subfigures(1, columns, wspace=0.05))


def _draw_studies(figure: SubFigure, studies: Sequence[Study]) -> None:
    panels: npt.NDArray[np.object_] = figure.subplots(len(studies), 4, squeeze=False)
    for row, study in zip(panels, studies, strict=True):
        best = study.single
        limit = float(np.abs(study.weights).max())
        _draw_signed(row[0], study.weights, limit)
        _caption(row[0], study.name)
        _draw_signed(row[1], best.dense(), limit)
        _caption(row[1], "its best single term")
        _draw_residual(row[2], study.weights - best.dense(), best.error.relative_l1, limit)
        if study.offers:
            _draw_errors(row[3], study.offers, study.found.size)
        else:
            _draw_taps(row[3], study.found)


def _draw_taps(axes: Axes, kernel: SeparableKernel) -> None:
    for axis, taps in enumerate(kernel.terms[0]):
        place = np.arange(taps.size) - taps.size // 2
        axes.plot(place, taps / np.abs(taps).max(), ".-", color=_COLOURS[axis], label=f"axis {axis}")
    axes.set_title(f"It separates: {kernel.macs} MACs, not {kernel.size}", fontsize=10)
    axes.set_xlabel("tap")
    axes.set_ylabel("taps, scaled to 1")
    axes.legend(frameon=False, loc="upper right")
    _plain(axes)


def _draw_errors(axes: Axes, offers: Sequence[SeparableKernel], dense_macs: int) -> None:
    ranks = [kernel.rank for kernel in offers]
    shown = [100 * kernel.error.relative_l1 for kernel in offers]
    axes.plot(ranks, shown, "o-", color=_COLOURS[0])
    for kernel, height in zip(offers, shown, strict=True):
        axes.annotate(
            f"{kernel.macs}", (kernel.rank, height), xytext=(4, 5), textcoords="offset points", fontsize=8
        )
    axes.set_title(f"Error, and MACs (dense {dense_macs})", fontsize=10)
    axes.set_xlabel("terms")
    axes.set_ylabel("relative l1 error, %")
    axes.set_xticks(ranks)
    axes.margins(x=0.12, y=0.15)
    _plain(axes)


def _draw_times(figure: SubFigure, comparisons: Sequence[Comparison]) -> None:
    """Draw times as points: a logarithmic axis has no zero that bars could begin at."""
    axes = figure.subplots()
    names = list(dict.fromkeys(name for comparison in comparisons for name in comparison.seconds))
    apart = 0.72 / len(names)
    for n, name in enumerate(names):
        done = [
            (place + (n - (len(names) - 1) / 2) * apart, comparison.seconds[name])
            for place, comparison in enumerate(comparisons)
            if name in comparison.seconds
        ]
        places, seconds = zip(*done, strict=True)
        axes.plot([1e3 * time for time in seconds], places, "o", color=_COLOURS[n], label=name)
        for place, time in done:
            axes.annotate(
                in_seconds(time), (1e3 * time, place), (7, -3), textcoords="offset points", fontsize=8
            )
    for place in range(1, len(comparisons)):
        axes.axhline(place - 0.5, color=_COLOURS[1], linewidth=0.5)
    axes.set_yticks(range(len(comparisons)), [comparison.work for comparison in comparisons])
    axes.set_ylim(len(comparisons) - 0.5, -0.5)
    axes.set_xscale("log")
    axes.margins(x=0.12)
    axes.grid(axis="x", alpha=0.3)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("milliseconds, one thread each, median (logarithmic)")
    axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=len(names))
    _plain(axes)


def _draw_residual(axes: Axes, residual: Array, relative: float, limit: float) -> None:
    """Draw what a term leaves on a scale of its own, which is shown; rounding alone on the kernel's."""
    exact = relative < _ROUNDING
    image = _draw_signed(axes, residual, limit if exact else None)
    left = "rounding alone" if exact else f"{percent(relative)} (rel. l1)"
    _caption(axes, f"what that leaves: {left}")
    axes.figure.colorbar(image, ax=axes, shrink=0.8, format="%.2g")


def _draw_signed(axes: Axes, values: Array, limit: float | None = None) -> AxesImage:
    bound = float(np.abs(values).max()) if limit is None else limit
    return axes.imshow(values, cmap=_SIGNED, vmin=-bound, vmax=bound)


def _caption(axes: Axes, text: str) -> None:
    axes.set_title(text, fontsize=10)
    axes.set_axis_off()


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
