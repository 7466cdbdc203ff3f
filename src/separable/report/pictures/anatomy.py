"""A kernel taken apart, as a picture: itself, its terms, what they leave, and what they cost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import numpy.typing as npt

from ..._base.extras import extra
from ..._base.types import Array
from ..._base.words.quantities import by, percent, plural
from ...kernel.value import SeparableKernel
from ..text.anatomy import Anatomy
from ..values import Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure


_COLOURS: Final = ("#0b6fb8", "#e08a1e", "#5b9c4b", "#9aa0a6")
_SIGNED: Final = "RdBu_r"
_INCHES, _DPI = (12.0, 7.6), 110
_MARGIN: Final = 0.08  # inches around each part
_TERMS_SHOWN: Final = 16
_LEAST_ERROR: Final = 1e-8  # less is rounding, of float32 at the most
_LEAST_VALUE: Final = 1e-18
_ROUNDING: Final = 2.0**-52  # of the largest singular value, in float64


def check_available() -> None:
    """Raise MissingExtraError if pictures cannot be drawn."""
    with extra("plot"):
        import matplotlib as mpl  # noqa: F401


def anatomy_page(path: Path, study: Study, parts: Anatomy, form: str) -> None:
    """Draw a kernel, its reconstruction, residual, spectrum, terms and curve.

    Parameters
    ----------
    path : Path
        Written to.
    study : Study
    parts : Anatomy
    form : {"png", "svg", "pdf"}
        Its format.

    Raises
    ------
    MissingExtraError
        If matplotlib is not installed.
    """
    with extra("plot"):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.layout_engine import ConstrainedLayoutEngine

    roomy = ConstrainedLayoutEngine(w_pad=_MARGIN, h_pad=_MARGIN)
    figure = Figure(figsize=_INCHES, dpi=_DPI, layout=roomy)
    FigureCanvasAgg(figure)
    rows: npt.NDArray[Any] = np.asarray(figure.subfigures(2, 3, wspace=0.04, hspace=0.04))
    kernel = study.found
    # Rounding is beyond what a picture shows, and a kernel of any scale is drawn alike.
    scale = float(np.abs(study.weights).max()) or 1.0
    dense = study.weights / scale
    rebuilt = kernel.dense() / scale
    exact = kernel.error.relative_l1 < _LEAST_ERROR
    left = "rounding alone" if exact else f"{percent(kernel.error.relative_l1)} (relative l1)"
    _draw_values(rows[0, 0], dense, f"kernel, {by(kernel.shape)}: {kernel.size} MACs")
    _draw_values(rows[0, 1], rebuilt, f"{plural(kernel.rank, 'term')}: {kernel.macs} MACs")
    _draw_values(rows[0, 2], dense - rebuilt, f"residual: {left}", limit=1.0 if exact else None)
    _draw_spectra(rows[1, 0].subplots(), parts.spectra)
    _draw_terms(rows[1, 1], kernel)
    _draw_curve(rows[1, 2].subplots(), parts.curve, kernel)
    figure.savefig(path, format=form)


def _draw_values(figure: SubFigure, values: Array, caption: str, limit: float | None = None) -> None:
    """Draw a kernel: a line, a plane, or for more axes the planes through its largest element."""
    figure.suptitle(caption, fontsize=11)
    bound = limit or float(np.abs(values).max()) or 1.0
    if values.ndim == 1:
        axes = figure.subplots()
        axes.stem(np.arange(values.size) - values.size // 2, values, basefmt=" ", markerfmt=".")
        axes.set_xlabel("axis 0")
        axes.set_ylabel("weight, over the largest")
        if limit:
            axes.set_ylim(-1.05 * bound, 1.05 * bound)
        _plain(axes)
        return
    planes = _planes(values)
    grid = figure.subplots(
        len(planes), 1, squeeze=False, height_ratios=[plane.shape[0] for plane, _ in planes]
    )
    for axes, (plane, (down, across)) in zip(grid[:, 0], planes, strict=True):
        reach = [length // 2 for length in plane.shape]
        right, below = (n - half - 0.5 for n, half in zip(plane.shape, reach, strict=True))
        edges = (-reach[1] - 0.5, right, below, -reach[0] - 0.5)
        image = axes.imshow(plane, cmap=_SIGNED, vmin=-bound, vmax=bound, extent=edges)
        axes.set_ylabel(f"axis {down}")
        axes.set_xlabel(f"axis {across}")
        _few_whole_ticks(axes)
    figure.colorbar(image, ax=grid.ravel().tolist(), shrink=0.8, format="%.2g")


def _planes(values: Array) -> list[tuple[Array, tuple[int, int]]]:
    """Return planes and the axes that they lie along."""
    if values.ndim == 2:
        return [(values, (0, 1))]
    peak = np.unravel_index(int(np.abs(values).argmax()), values.shape)
    planes = []
    for axis in range(values.ndim - 2, max(values.ndim - 4, -1), -1):
        chosen: tuple[int | slice, ...] = tuple(
            slice(None) if a in (axis, values.ndim - 1) else int(i) for a, i in enumerate(peak)
        )
        planes.append((values[chosen], (axis, values.ndim - 1)))
    return planes


def _draw_spectra(axes: Axes, spectra: Sequence[Array]) -> None:
    for axis, values in enumerate(spectra):
        shown = np.maximum(values, _LEAST_VALUE)
        label = f"axis {axis} against the rest"
        axes.semilogy(np.arange(1, shown.size + 1), shown, ".-", color=_COLOURS[axis % 4], label=label)
    axes.set_title("singular values, over the largest", fontsize=11)
    axes.set_xlabel("number")
    axes.set_ylabel("singular value")
    axes.set_ylim(max(min(axes.get_ylim()[0], 0.5), _LEAST_VALUE), 2)
    if axes.get_ylim()[0] < _ROUNDING:
        axes.axhspan(axes.get_ylim()[0], _ROUNDING, color=_COLOURS[3], alpha=0.2, label="rounding")
    if len(axes.get_legend_handles_labels()[1]) > 1:
        axes.legend(frameon=False, loc="upper right")
    axes.grid(alpha=0.3)
    axes.set_xlim(0.5, max(map(len, spectra)) + 0.5)
    axes.locator_params(axis="x", integer=True, min_n_ticks=1)
    _plain(axes)


def _draw_terms(figure: SubFigure, kernel: SeparableKernel) -> None:
    shown = kernel.terms[:_TERMS_SHOWN]
    more = f", the first {len(shown)} of {kernel.rank}" if kernel.rank > len(shown) else ""
    figure.suptitle(f"taps of each term, scaled to 1{more}", fontsize=11)
    panels = figure.subplots(1, kernel.ndim, squeeze=False, sharey=True)[0]
    for axis, axes in enumerate(panels):
        lines = np.array([term[axis] for term in shown])
        most = np.abs(lines).max(axis=1, keepdims=True)
        scaled = lines / np.where(most > 0, most, 1)
        reach = kernel.shape[axis] // 2
        edges = (-reach - 0.5, kernel.shape[axis] - reach - 0.5, len(shown) + 0.5, 0.5)
        axes.imshow(
            scaled, cmap=_SIGNED, vmin=-1, vmax=1, aspect="auto", extent=edges, interpolation="nearest"
        )
        axes.set_xlabel(f"axis {axis}")
        _few_whole_ticks(axes, "x")
        axes.set_yticks(range(1, len(shown) + 1))
    panels[0].set_ylabel("term")


def _draw_curve(axes: Axes, curve: Sequence[SeparableKernel], chosen: SeparableKernel) -> None:
    with extra("plot"):
        from matplotlib.ticker import LogLocator, NullLocator

    floor, errors = _above_rounding([kernel.error.relative_l1 for kernel in (*curve, chosen)])
    axes.loglog([kernel.macs for kernel in curve], errors[:-1], ".-", color=_COLOURS[0])
    axes.loglog(chosen.macs, errors[-1], "o", color=_COLOURS[1], label="this one")
    axes.axvline(chosen.size, color=_COLOURS[3], linestyle="--", label="dense")
    axes.set_title("error against cost", fontsize=11)
    axes.set_xlabel("MACs per sample")
    axes.set_ylabel("relative l1 error, certified")
    axes.set_ylim(floor / 2, 2)
    decades = 10.0 ** np.arange(0, np.log10(floor) + 0.5, -1)
    axes.set_yticks([*decades, floor], [*(f"{100 * decade:g} %" for decade in decades), "exact"])
    axes.yaxis.set_minor_locator(NullLocator())
    axes.legend(frameon=False)
    axes.grid(alpha=0.3)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    _plain(axes)


def _above_rounding(errors: Sequence[float]) -> tuple[float, list[float]]:
    """Return a floor a decade below what is drawn, and errors, with what is exact but for rounding on it."""
    least = min((error for error in errors if error >= _LEAST_ERROR), default=0.1)
    floor = 10.0 ** (np.floor(np.log10(min(least, 0.1))) - 1)
    return floor, [error if error >= _LEAST_ERROR else floor for error in errors]


def _few_whole_ticks(axes: Axes, which: Literal["x", "both"] = "both") -> None:
    """Let taps be counted in whole numbers, as many as have room in a small panel."""
    axes.locator_params(axis=which, integer=True, nbins=4, min_n_ticks=1)


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
