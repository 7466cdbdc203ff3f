"""A kernel taken apart, as a picture: itself, its terms, what they leave, and what they cost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

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
_TERMS_SHOWN: Final = 16
_LEAST_ERROR: Final = 1e-8  # rounding would take half of the axis


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

    figure = Figure(figsize=_INCHES, dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    rows: npt.NDArray[Any] = np.asarray(figure.subfigures(2, 3, wspace=0.04, hspace=0.04))
    kernel = study.found
    # Rounding is beyond what a picture shows, and a kernel of any scale is drawn alike.
    scale = float(np.abs(study.weights).max()) or 1.0
    dense = study.weights / scale
    rebuilt = kernel.dense() / scale
    _draw_values(rows[0, 0], dense, f"kernel, {by(kernel.shape)}: {kernel.size} MACs")
    count = plural(kernel.rank, "term")
    _draw_values(rows[0, 1], rebuilt, f"{count}: {kernel.macs} MACs")
    _draw_values(rows[0, 2], dense - rebuilt, f"residual: {percent(kernel.error.relative_l1)} (relative l1)")
    _draw_spectra(rows[1, 0].subplots(), parts.spectra)
    _draw_terms(rows[1, 1], kernel)
    _draw_curve(rows[1, 2].subplots(), parts.curve, kernel)
    figure.savefig(path, format=form)


def _draw_values(figure: SubFigure, values: Array, caption: str) -> None:
    """Draw a kernel: a line, a plane, or for more axes the planes through its largest element."""
    figure.suptitle(caption, fontsize=11)
    if values.ndim == 1:
        axes = figure.subplots()
        axes.stem(np.arange(values.size) - values.size // 2, values, basefmt=" ", markerfmt=".")
        _plain(axes)
        return
    limit = float(np.abs(values).max()) or 1.0
    planes = _planes(values)
    grid = figure.subplots(
        len(planes), 1, squeeze=False, height_ratios=[plane.shape[0] for plane, _ in planes]
    )
    for axes, (plane, label) in zip(grid[:, 0], planes, strict=True):
        image = axes.imshow(plane, cmap=_SIGNED, vmin=-limit, vmax=limit)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_ylabel(label, fontsize=9)
    figure.colorbar(image, ax=grid.ravel().tolist(), shrink=0.8, format="%.2g")


def _planes(values: Array) -> list[tuple[Array, str]]:
    if values.ndim == 2:
        return [(values, "")]
    peak = np.unravel_index(int(np.abs(values).argmax()), values.shape)
    planes = []
    for axis in range(values.ndim - 2, max(values.ndim - 4, -1), -1):
        chosen: tuple[int | slice, ...] = tuple(
            slice(None) if a in (axis, values.ndim - 1) else int(i) for a, i in enumerate(peak)
        )
        planes.append((values[chosen], f"axes {axis}, {values.ndim - 1}"))
    return planes


def _draw_spectra(axes: Axes, spectra: Sequence[Array]) -> None:
    for axis, values in enumerate(spectra):
        shown = np.maximum(values, 1e-18)
        label = f"axis {axis} against the rest"
        axes.semilogy(np.arange(1, shown.size + 1), shown, ".-", color=_COLOURS[axis % 4], label=label)
    axes.set_title("singular values, over the largest", fontsize=11)
    axes.set_xlabel("number")
    if len(spectra) > 1:
        axes.legend(frameon=False, loc="upper right")
    axes.set_ylim(bottom=max(axes.get_ylim()[0], 1e-18))
    axes.grid(alpha=0.3)
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
        axes.set_yticks(range(1, len(shown) + 1))
    panels[0].set_ylabel("term")


def _draw_curve(axes: Axes, curve: Sequence[SeparableKernel], chosen: SeparableKernel) -> None:
    with extra("plot"):
        from matplotlib.ticker import LogLocator, NullLocator

    errors = [max(kernel.error.relative_l1, _LEAST_ERROR) for kernel in curve]
    axes.loglog([kernel.macs for kernel in curve], errors, ".-", color=_COLOURS[0])
    own = max(chosen.error.relative_l1, _LEAST_ERROR)
    axes.loglog(chosen.macs, own, "o", color=_COLOURS[1], label="this one")
    axes.axvline(chosen.size, color=_COLOURS[3], linestyle="--", label="dense")
    axes.set_title("error against cost", fontsize=11)
    axes.set_xlabel("MACs per sample")
    least = f"; {_LEAST_ERROR:g}: or less" if min(*errors, own) == _LEAST_ERROR else ""
    axes.set_ylabel(f"relative l1 error, certified{least}")
    axes.legend(frameon=False)
    axes.grid(alpha=0.3)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    _plain(axes)


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
