"""Pictures: what is written lies on them, axes have names, and a logarithmic axis has no bars."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import separable as sp
from separable.report.pictures import anatomy, images, mosaics
from separable.report.text.anatomy import anatomy as take_apart
from separable.report.values import Comparison, study

figures = pytest.importorskip("matplotlib.figure")

EDGE = sp.families.gaussian((2.0, 2.0), order=(0, 1)).dense()
DISK = sp.families.disk(6.0)
VOLUME = sp.families.gaussian((1.0, 1.5, 2.0)).dense()
LINE = np.array([1.0, 4.0, 6.0, 4.0, 1.0])


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures that are saved."""
    saved: list[Any] = []
    write = figures.Figure.savefig

    def savefig(self: Any, *arguments: Any, **options: Any) -> None:
        saved.append(self)
        write(self, *arguments, **options)

    monkeypatch.setattr(figures.Figure, "savefig", savefig)
    return saved


def of_kernel(weights: Any, folder: Path, drawn: list[Any], tol: float | None = None) -> Any:
    done = study("kernel", weights, tol)
    anatomy.anatomy_page(folder / "kernel.png", done, take_apart(weights), "png")
    return drawn[-1]


def of_demo(folder: Path, drawn: list[Any]) -> Any:
    rng = np.random.default_rng(0)
    photo = rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)
    photos = {"photograph": photo, "edges": photo - 128.0, "another": photo, "the last": photo}
    volumes = {"MRI": rng.random((9, 11, 7)), "Gaussian, sigma 2 mm": rng.random((9, 11, 7))}
    comparisons = [
        Comparison("photo 512x512x3, Gaussian 25x25", {"separable": 1e-3, "SciPy": 1e-2, "OpenCV": 2e-3}, 0),
        Comparison("MRI, tiled 264x328x200, Gaussian 9x9x9", {"separable": 1e-4, "SciPy": 2.0}, 0),
    ]
    studies = (study("edge kernel", EDGE), study("defocus disk", DISK))
    images.demo_page(folder / "demo.png", photos, volumes, studies, comparisons)
    return drawn[-1]


def texts(figure: Any) -> list[str]:
    return [text.get_text() for text in figure.findobj(figures.mpl.text.Text) if text.get_visible()]


def has_margin(path: Path, pixels: int) -> bool:
    """Whether nothing is drawn within some pixels of the edges."""
    ink = np.asarray(pytest.importorskip("PIL.Image").open(path).convert("L")) < 250
    inner = ink.copy()
    inner[pixels:-pixels, pixels:-pixels] = False
    return bool(ink.any() and not inner.any())


def panel(figure: Any, title: str) -> Any:
    """The one panel whose title, or whose figure's, begins so."""
    (match,) = [axes for axes in figure.axes if axes.get_title().startswith(title)]
    return match


def colour_bars(figure: Any) -> list[Any]:
    return [axes for axes in figure.axes if axes.get_label() == "<colorbar>"]


@pytest.mark.parametrize("weights", [EDGE, DISK, VOLUME, LINE], ids=["edge", "disk", "volume", "line"])
def test_a_kernel_has_names_on_all_axes(weights: Any, tmp_path: Path, drawn: list[Any]) -> None:
    figure = of_kernel(weights, tmp_path, drawn)
    assert has_margin(tmp_path / "kernel.png", 6)
    planes = [axes for axes in figure.axes if axes not in colour_bars(figure)]
    assert [axes.get_title() for axes in planes if not axes.get_xlabel()] == []
    assert {"axis 0"} <= {axes.get_xlabel() for axes in planes} | {axes.get_ylabel() for axes in planes}
    # Taps are counted in whole numbers.
    for axes in planes:
        if axes.get_xlabel().startswith(("axis", "number")):
            assert all(tick == round(tick) for tick in axes.get_xticks())


def test_what_is_exact_is_drawn_as_exact(tmp_path: Path, drawn: list[Any]) -> None:
    figure = of_kernel(DISK, tmp_path, drawn)
    curve = panel(figure, "error against cost")
    labels = [label.get_text() for label in curve.get_yticklabels()]
    assert labels[-1] == "exact"
    floor = curve.get_yticks()[-1]
    line, point = curve.get_lines()[:2]
    assert line.get_ydata()[-1] == point.get_ydata()[0] == floor
    assert min(line.get_ydata()[:-1]) > 5 * floor > 1e-4  # a decade below the smallest error that there is
    assert "residual: rounding alone" in texts(figure)


def test_an_approximate_kernel_keeps_its_error(tmp_path: Path, drawn: list[Any]) -> None:
    figure = of_kernel(DISK, tmp_path, drawn, 0.1)
    kernel = sp.factor(DISK, tol=0.1)
    point = panel(figure, "error against cost").get_lines()[1]
    assert point.get_ydata()[0] == pytest.approx(kernel.error.relative_l1)
    assert not [text for text in texts(figure) if "rounding alone" in text]


def test_the_page_of_the_demo_has_room_for_what_is_written(tmp_path: Path, drawn: list[Any]) -> None:
    of_demo(tmp_path, drawn)
    assert has_margin(tmp_path / "demo.png", 6)


def test_times_are_points_on_a_logarithmic_axis(tmp_path: Path, drawn: list[Any]) -> None:
    figure = of_demo(tmp_path, drawn)
    (times,) = [axes for axes in figure.axes if axes.get_xlabel().startswith("milliseconds")]
    assert times.get_xscale() == "log"
    assert times.patches == [] or len(times.patches) == 0  # no bars: they would begin nowhere
    points = {
        line.get_label(): list(line.get_xdata()) for line in times.get_lines() if line.get_marker() == "o"
    }
    assert points == {"separable": [1.0, 0.1], "SciPy": [10.0, 2000.0], "OpenCV": [2.0]}


def test_residuals_have_a_scale_that_is_shown(tmp_path: Path, drawn: list[Any]) -> None:
    figure = of_demo(tmp_path, drawn)
    assert len(colour_bars(figure)) == 2
    exact, disk = (axes for axes in figure.axes if axes.get_title().startswith("what that leaves"))
    assert exact.get_title() == "what that leaves: rounding alone"
    left = DISK - study("disk", DISK).single.dense()
    assert disk.get_images()[0].get_clim()[1] == pytest.approx(np.abs(left).max())
    assert exact.get_images()[0].get_clim()[1] == pytest.approx(np.abs(EDGE).max())


def test_a_mosaic_has_room_for_what_is_written(tmp_path: Path, drawn: list[Any]) -> None:
    photo, labels = np.zeros((20, 40)), np.zeros((20, 40), int)
    maps = {f"dense, accuracy 98.{n} %, of 600 squares": labels for n in range(3)}
    mosaics.mosaic_page(tmp_path / "mosaic.png", photo, maps, ("brick", "grass", "gravel"))
    assert has_margin(tmp_path / "mosaic.png", 2)
