"""Draw the pictures of README.md and of docs/filters/kernels.md, here: ``python docs/pictures/draw.py``."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

import separable as sp
from separable import families as f

HERE: Final = Path(__file__).resolve().parent
COLOURS: Final = ("#0b6fb8", "#e08a1e", "#5b9c4b")
HEIGHT, DPI = 1.7, 80

WATER: Final = {"numerical_aperture": 1.2, "immersion_index": 1.33}

Kernel = sp.SeparableKernel | npt.NDArray[Any]


def pictures() -> dict[str, list[tuple[str, Kernel]]]:
    """Return for each family its kernels and what is written above them."""
    jet = f.gaussian_derivatives(3.0, 2)
    edges = f.steerable(3.0, 1)
    bank = f.log_gabor_bank(2, 4)
    shape, voxel = (41, 41, 41), (0.12, 0.05, 0.05)
    oil = f.widefield_psf(shape, voxel, wavelength=0.52, numerical_aperture=1.3, sample_index=1.33, depth=4)
    return {
        "gaussian": [("sigma 3", f.gaussian(3.0))],
        "gaussian_derivatives": [("".join(map(str, orders)), kernel) for orders, kernel in jet.items()],
        "laplacian_of_gaussian": [("sigma 3", f.laplacian_of_gaussian(3.0))],
        "difference_of_gaussians": [("sigma 2, 3.2", f.difference_of_gaussians(2.0))],
        "rotated_gaussian": [("sigma 5, 2; 30 degrees", f.rotated_gaussian((5, 2), math.pi / 6))],
        "box": [("size 7", f.box(7))],
        "binomial": [("size 9", f.binomial(9))],
        "savitzky_golay": [("size 15, degree 4", f.savitzky_golay(15, 4))],
        "lanczos": [("scale 3, 3 lobes", f.lanczos(3.0))],
        "sobel": [("axis 1", f.sobel())],
        "scharr": [("axis 1", f.scharr())],
        "prewitt": [("axis 1", f.prewitt())],
        "farid": [("axis 1", f.farid())],
        "gabor": [("0.12 per pixel, 30 degrees", f.gabor(0.12, math.pi / 6))],
        "gabor_pair": [*zip(("even", "odd"), f.gabor_pair(0.12, math.pi / 6), strict=True)],
        "log_gabor_bank": [(f"{math.degrees(each.theta):.0f}, even", each.even) for each in bank[4:]]
        + [("0, odd", bank[4].odd)],
        "steerable": [(f"{angle} degrees", edges.at(math.radians(angle))) for angle in (0, 30, 60, 90, 120)],
        "disk": [("radius 12", f.disk(12)), ("antialiased", f.disk(12, antialias=True))],
        "motion_blur": [("length 15, 25 degrees", f.motion_blur(15, math.radians(25)))],
        "airy": [("first ring at 5", f.airy(5.0, radius=15))],
        "widefield_psf": [
            *planes(f.widefield_psf(shape, voxel, wavelength=0.52, **WATER)),
            ("zx, oil, 4 um deep in water", np.sqrt(oil[:, 20])),
        ],
        "confocal_psf": planes(f.confocal_psf(shape, voxel, excitation=0.488, emission=0.52, **WATER)),
    }


def planes(volume: npt.NDArray[Any]) -> list[tuple[str, Kernel]]:
    """Return the planes through the middle; light of a thousandth still shows by its square root."""
    middle = volume.shape[0] // 2
    return [("yx, square root", np.sqrt(volume[middle])), ("zx, square root", np.sqrt(volume[:, middle]))]


def draw(path: Path, kernels: Sequence[tuple[str, Kernel]]) -> None:
    """Draw kernels side by side; beside a single one, its taps or its singular values."""
    alone = len(kernels) == 1
    panels = 2 if alone else len(kernels)
    figure = Figure(figsize=((1.35 if panels > 3 else 1.8) * panels, HEIGHT), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, panels)
    for panel, (caption, kernel) in zip(axes, kernels, strict=False):
        dense = kernel.dense() if isinstance(kernel, sp.SeparableKernel) else kernel
        limit = np.abs(dense).max()
        panel.imshow(dense, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
        panel.set_title(caption, fontsize=7)
        panel.set_axis_off()
    if alone:
        draw_factors(axes[1], kernels[0][1])
    figure.savefig(path, metadata={"Software": None})  # the same bytes whichever version draws them


def draw_factors(axes: Any, kernel: Kernel) -> None:
    """Draw the taps of one term, or the singular values of several."""
    axes.tick_params(labelsize=6)
    axes.spines[["top", "right"]].set_visible(False)
    if isinstance(kernel, sp.SeparableKernel) and kernel.rank == 1:
        for axis, taps in enumerate(kernel.terms[0]):
            place = np.arange(taps.size) - taps.size // 2
            style = ".-" if axis else "o"  # often the two are the same
            axes.plot(
                place,
                taps,
                style,
                color=COLOURS[axis],
                label=f"axis {axis}",
                linewidth=0.8,
                markersize=5 - 2 * axis,
            )
        low, high = axes.get_ylim()
        axes.set_ylim(min(low, 0), high)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.set_title("taps", fontsize=7)
        axes.legend(fontsize=6, frameon=False)
        return
    dense = kernel.dense() if isinstance(kernel, sp.SeparableKernel) else kernel
    values = np.linalg.svd(dense, compute_uv=False)
    shown = values[values > 1e-15 * values[0]] / values[0]
    axes.plot(np.arange(1, shown.size + 1), shown, ".-", color=COLOURS[0], markersize=4, linewidth=0.8)
    if shown[-1] < 0.01:
        axes.set_yscale("log")
    else:
        axes.set_ylim(0, 1.05)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_title("singular values", fontsize=7)


if __name__ == "__main__":
    for name, kernels in pictures().items():
        draw(HERE / f"{name}.png", kernels)
    sys.path.insert(0, str(HERE.parent))
    import drawings

    drawings.draw(HERE, ["outer-product"])
