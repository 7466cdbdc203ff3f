"""The widget of the plugin of napari, without a screen: layers, fields, preview, plan, Run, Cancel, errors.

Most of it runs beside napari's model of a viewer, which needs no OpenGL.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import separable as sp

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
pytest.importorskip("napari", reason="napari is not installed: make test-napari brings it")
pytest.importorskip("pytestqt", reason="pytest-qt is not installed: make test-napari brings it")

from napari.components import ViewerModel
from napari.layers import Image

from separable.napari import layers as own_layers
from separable.napari import widget as own_widget
from separable.napari.recipe import BOX, GAUSSIAN, GRADIENT, LAPLACE
from separable.napari.widget import FilterWidget

pytestmark = pytest.mark.filterwarnings("default")  # those of napari and Qt are not ours

VALUES = np.random.default_rng(0).integers(0, 60000, (12, 50, 60)).astype("u2")
SPACING, SHIFT = (2.0, 0.5, 0.5), (10.0, -3.0, 4.0)
MICRONS = ("um",) * 3


def scan(values: Any = VALUES, **changes: Any) -> Image:
    known: dict[str, Any] = {"name": "scan", "scale": SPACING, "translate": SHIFT, "units": MICRONS}
    known |= {"axis_labels": ("z", "y", "x"), "colormap": "green", "metadata": {"dye": "DAPI"}}
    return Image(values, **known | changes)


class Bench:
    """A viewer with the widget, and how to wait for it."""

    def __init__(self, qtbot: Any, *layers: Image) -> None:
        from napari.utils._proxies import PublicOnlyProxy  # what napari gives to plugins

        self.qtbot = qtbot
        self.viewer = ViewerModel()
        for layer in layers:
            self.viewer.add_layer(layer)
        self.widget: Any = FilterWidget(PublicOnlyProxy(self.viewer))
        qtbot.addWidget(self.widget)
        self.widget.show()

    def until(self, condition: Callable[[], Any]) -> None:
        self.qtbot.waitUntil(lambda: bool(condition()), timeout=20000)

    def settle(self) -> None:
        """Wait until nothing is looked at or filtered."""
        widget = self.widget
        self.until(lambda: not widget._timer.isActive() and widget._looker is None and widget._runner is None)

    @property
    def preview(self) -> Any:
        return next((layer for layer in self.viewer.layers if own_layers.is_preview(layer)), None)

    def run(self) -> Any:
        """Filter, and return the new layer."""
        before = list(self.viewer.layers)
        self.widget.run_button.click()
        self.until(lambda: self.widget._runner is None)
        return next((layer for layer in self.viewer.layers if layer not in before), None)


@pytest.fixture
def bench(qtbot: Any) -> Bench:
    return Bench(qtbot, scan())


def test_the_manifest_is_valid_and_comes_with_the_package() -> None:
    from npe2 import PluginManifest

    manifest = PluginManifest.from_file(Path(own_widget.__file__).with_name("napari.yaml"))
    manifest.validate_imports()
    assert manifest.name == "separable"
    installed = PluginManifest.from_distribution("separable") if is_installed() else manifest
    assert installed.contributions == manifest.contributions


def is_installed() -> bool:
    from importlib.metadata import entry_points

    return bool(entry_points(group="napari.manifest", name="separable"))


def test_run_adds_a_layer_that_lies_and_looks_like_its_source(bench: Bench) -> None:
    bench.widget.fields.set_width(0, 3.0)
    made = bench.run()
    assert_array_equal(made.data, sp.gaussian(VALUES, 3.0, spacing=SPACING, output="u2", method="separable"))
    source = bench.viewer.layers["scan"]
    for name in ("scale", "translate", "rotate", "shear"):
        assert_array_equal(getattr(made, name), getattr(source, name))
    assert (made.units, made.axis_labels, made.colormap.name) == (source.units, source.axis_labels, "green")
    assert made.contrast_limits == source.contrast_limits
    assert made.metadata == {"dye": "DAPI", "separable": "Gaussian, z 3 µm, y 3 µm, x 3 µm, reflect"}
    assert made.name == "scan Gaussian"
    assert bench.widget.layer == source  # for the next try
    assert not bench.widget.message.isVisible()
    assert bench.widget.run_button.isEnabled()


def test_fields_are_the_axes_in_the_layer_s_units(bench: Bench) -> None:
    fields = bench.widget.fields
    assert [row.box.text() for row in fields._rows] == ["z", "y", "x"]
    assert [row.width.suffix() for row in fields._rows] == [" µm"] * 3
    assert fields.chosen()[1] == (1.0, 1.0, 1.0)  # two samples of the finest axis
    assert [row.note.text() for row in fields._rows] == ["0.5 px", "2 px", "2 px"]
    fields.set_width(1, 4.0)
    assert fields.chosen()[1] == (4.0, 4.0, 4.0)
    fields.shared.setChecked(False)
    fields.set_width(0, 2.0)
    fields.set_width(2, 0.0)
    assert [axis.name for axis in fields.chosen()[0]] == ["z", "y"]
    assert fields.chosen()[1] == (2.0, 4.0)
    bench.widget.filter_box.setCurrentText(BOX)
    assert [row.note.text() for row in fields._rows] == ["1 px", "9 px", "1 px"]
    fields.shared.setChecked(True)
    assert fields.chosen()[1] == (2.0, 2.0, 2.0)
    bench.viewer.layers["scan"].scale = (1.0, 0.25, 0.25)
    assert [axis.spacing for axis in fields.axes] == [1.0, 0.25, 0.25]


def test_time_is_left_alone(qtbot: Any) -> None:
    bench = Bench(qtbot, scan(units=("s", "um", "um"), axis_labels=("t", "y", "x")))
    assert [axis.name for axis in bench.widget.fields.chosen()[0]] == ["y", "x"]
    made = bench.run()
    expected = sp.gaussian(VALUES, 2.0, axes=(1, 2), output="u2", method="separable")
    assert_array_equal(made.data, expected)
    bench.widget.fields.set_width(0, 5.0)  # seconds: those of the others are micrometres
    assert bench.widget.fields._rows[1].width.value() == 1.0


def test_the_plan_is_printed(bench: Bench) -> None:
    bench.until(lambda: "17 taps" in bench.widget.plan_text.toPlainText())
    text = bench.widget.plan_text.toPlainText()
    assert text.startswith("5x17x17 kernel on (12, 50, 60) float32")
    assert text.endswith("in memory, uint16")
    bench.widget.filter_box.setCurrentText(GRADIENT)
    bench.until(lambda: "3 kernels" in bench.widget.plan_text.toPlainText())
    assert not bench.widget.keep_box.isEnabled()


def test_the_preview_follows_the_slider_and_the_fields_and_goes_when_switched_off(bench: Bench) -> None:
    widget, viewer = bench.widget, bench.viewer
    widget.keep_box.setChecked(False)
    viewer.dims.set_point(0, 10.0 + 2 * 4)
    widget.preview_box.setChecked(True)
    bench.until(lambda: bench.preview)
    whole = sp.gaussian(VALUES, 1.0, spacing=SPACING, method="separable")
    assert_array_equal(bench.preview.data, whole[4:5])
    assert_array_equal(bench.preview.data_to_world((0, 0, 0)), np.add(SHIFT, (8, 0, 0)))
    assert bench.preview.units == viewer.layers["scan"].units
    assert widget.layer_box.count() == 1  # previews are not filtered
    assert viewer.layers.selection.active == viewer.layers["scan"]
    viewer.dims.set_point(0, 10.0 + 2 * 7)
    bench.until(lambda: (bench.preview.data == whole[7:8]).all())
    assert_array_equal(bench.preview.data_to_world((0, 2, 3)), np.add(SHIFT, (14, 1.0, 1.5)))
    widget.fields.set_width(1, 2.0)
    wider = sp.gaussian(VALUES, 2.0, spacing=SPACING, method="separable")
    bench.until(lambda: (bench.preview.data == wider[7:8]).all())
    viewer.dims.order = (1, 0, 2)
    bench.until(lambda: bench.preview.data.shape == (12, 1, 60))
    widget.preview_box.setChecked(False)
    assert bench.preview is None
    bench.settle()
    assert bench.preview is None
    assert [layer.name for layer in viewer.layers] == ["scan"]


def test_the_preview_goes_with_the_widget_its_layer_and_with_run(bench: Bench) -> None:
    widget = bench.widget
    widget.preview_box.setChecked(True)
    bench.until(lambda: bench.preview)
    widget.hide()
    assert bench.preview is None
    bench.viewer.dims.set_point(0, 14.0)
    bench.settle()
    assert bench.preview is None
    widget.show()
    bench.until(lambda: bench.preview)
    bench.run()
    assert bench.preview is None
    assert not widget.preview_box.isChecked()
    widget.preview_box.setChecked(True)
    bench.until(lambda: bench.preview)
    bench.viewer.layers.clear()
    bench.settle()
    assert len(bench.viewer.layers) == 0
    assert "no image layer" in widget.message.text()
    assert not widget.run_button.isEnabled()


def test_a_preview_that_the_user_deletes_does_no_harm(bench: Bench) -> None:
    bench.widget.preview_box.setChecked(True)
    bench.until(lambda: bench.preview)
    bench.viewer.layers.remove(bench.preview)
    bench.widget.fields.set_width(0, 2.0)
    bench.until(lambda: bench.preview)


def test_a_preview_lies_on_its_source_also_where_that_is_turned_or_in_other_units(qtbot: Any) -> None:
    turned = scan(rotate=30, scale=(2.0, -0.5, 0.5))
    bench = Bench(qtbot, scan(name="other", units=("nm",) * 3, scale=(2000, 500, 500)), turned)
    bench.widget.layer_box.setCurrentText("scan")
    bench.widget.preview_box.setChecked(True)
    units = getattr(bench.viewer.dims, "units", None)
    nanometres = 1000 if units and f"{units[0]:~P}" == "nm" else 1
    bench.viewer.dims.set_point(0, nanometres * (10.0 + 2 * 5))
    bench.until(lambda: bench.preview)
    bench.settle()
    assert_array_equal(bench.preview.data.shape, (1, 50, 60))
    corners = [(0, 0, 0), (0, 49, 0), (0, 49, 59)]
    there = [bench.preview.data_to_world(corner) for corner in corners]
    expected = [turned.data_to_world(np.add(corner, (5, 0, 0))) for corner in corners]
    np.testing.assert_allclose(there, expected)


def test_colours_stay_colours(qtbot: Any) -> None:
    photo = np.random.default_rng(1).integers(0, 256, (40, 50, 3)).astype("u1")
    bench = Bench(qtbot, Image(photo, name="photo", rgb=True))
    bench.widget.preview_box.setChecked(True)
    bench.until(lambda: bench.preview)
    assert bench.preview.rgb
    made = bench.run()
    assert made.rgb
    assert not bench.widget.keep_box.isEnabled()
    assert_array_equal(made.data, sp.gaussian(photo, 2.0, channel_axis=-1, output="u1"))
    bench.widget.filter_box.setCurrentText(LAPLACE)
    bench.until(lambda: "split the layer first" in bench.widget.message.text())


def test_arrays_of_dask_stay_lazy(qtbot: Any) -> None:
    da = pytest.importorskip("dask.array")
    bench = Bench(qtbot, scan(da.from_array(VALUES, chunks=(4, 50, 60)), contrast_limits=(0, 60000)))
    bench.until(lambda: "lazily by Dask" in bench.widget.plan_text.toPlainText())
    made = bench.run()
    assert isinstance(made.data, da.Array)
    assert made.data.chunks == ((4, 4, 4), (50,), (60,))
    assert_array_equal(
        made.data.compute(), sp.gaussian(VALUES, 1.0, spacing=SPACING, output="u2", method="separable")
    )
    bench.widget.filter_box.setCurrentText(LAPLACE)
    assert isinstance(bench.run().data, da.Array)


def test_layers_of_zarr_go_through_dask(qtbot: Any, tmp_path: Path) -> None:
    da, zarr = pytest.importorskip("dask.array"), pytest.importorskip("zarr")
    stored = zarr.create_array(tmp_path / "scan.zarr", shape=VALUES.shape, chunks=(4, 32, 32), dtype="u2")
    stored[:] = VALUES
    made = Bench(qtbot, scan(stored, contrast_limits=(0, 60000))).run()
    assert isinstance(made.data, da.Array)
    assert_array_equal(
        made.data.compute(), sp.gaussian(VALUES, 1.0, spacing=SPACING, output="u2", method="separable")
    )


def test_layers_with_several_scales(qtbot: Any) -> None:
    levels = [VALUES, VALUES[:, ::2, ::2]]
    bench = Bench(qtbot, scan(levels, multiscale=True))
    bench.widget.preview_box.setChecked(True)
    bench.until(lambda: bench.preview)
    level = bench.viewer.layers["scan"].data_level
    assert bench.preview.data.shape == (1, *levels[level].shape[1:])
    far = bench.preview.data_to_world((0, 10, 10))
    np.testing.assert_allclose(
        far[1:], bench.viewer.layers["scan"].data_to_world((0, 10 * 2**level, 10 * 2**level))[1:]
    )
    made = bench.run()
    assert made.multiscale
    assert [part.shape for part in made.data] == [part.shape for part in levels]


def test_errors_are_shown_in_the_widget(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    widget = bench.widget
    for index in range(3):
        widget.fields.set_on(index, False)
    widget.preview_box.setChecked(True)
    bench.until(lambda: "No axis is filtered" in widget.message.text())
    assert widget.message.isVisible()
    assert bench.run() is None
    widget.fields.set_on(1, True)
    bench.until(lambda: not widget.message.isVisible())

    def refuses(look: Any) -> Any:
        raise ValueError("`sigma` is odd")

    bench.until(lambda: bench.preview)
    with monkeypatch.context() as during:
        during.setattr(own_widget, "sight", refuses)
        widget.filter_box.setCurrentText(LAPLACE)
        bench.until(lambda: widget.message.text() == "`sigma` is odd")
    assert bench.preview is None
    assert widget.plan_text.toPlainText() == ""

    def fails(look: Any) -> Any:
        yield 0.5
        raise MemoryError("of 3 GiB")

    widget.fields.set_width(1, 1.0)
    bench.settle()
    monkeypatch.setattr(own_widget, "steps", fails)
    assert bench.run() is None
    assert "of 3 GiB" in widget.message.text()
    assert widget.run_button.isEnabled()
    assert not widget.progress.isVisible()
    da = pytest.importorskip("dask.array")

    def breaks(block: Any) -> Any:
        raise OSError("the disk is gone")

    broken = da.from_array(VALUES).map_blocks(breaks, dtype="u2", meta=np.empty((0, 0, 0), "u2"))
    monkeypatch.undo()
    monkeypatch.setattr(own_widget, "result_layer", lambda *_: broken.compute(scheduler="synchronous"))
    assert bench.run() is None
    assert widget.message.text() == "OSError: the disk is gone"


def test_the_window_stays_alive_while_a_slice_is_filtered(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, go = threading.Event(), threading.Event()
    looks = []
    sight = own_widget.sight

    def slow(look: Any) -> Any:
        looks.append(look)
        running.set()
        assert go.wait(20)
        return sight(look)

    bench.settle()
    monkeypatch.setattr(own_widget, "sight", slow)
    bench.widget.preview_box.setChecked(True)
    bench.until(running.is_set)
    for step in range(10):  # meanwhile the slider moves: one look follows, of the last place
        bench.viewer.dims.set_point(0, 10.0 + 2 * step)
        bench.qtbot.wait(20)
    bench.qtbot.wait(300)
    assert len(looks) == 1
    go.set()
    bench.settle()
    assert len(looks) == 2
    assert looks[1].point[0] == 9
    assert bench.preview.data_to_world((0, 0, 0))[0] == 28.0


def test_run_tells_how_far_it_is_and_can_be_cancelled(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def slow(look: Any) -> Any:
        for step in range(1000):
            time.sleep(0.01)
            seen.append(step)
            yield step / 1000

    bench.settle()
    monkeypatch.setattr(own_widget, "steps", slow)
    bench.widget.run_button.click()
    assert bench.widget.cancel_button.isVisible()
    assert not bench.widget.run_button.isEnabled()
    bench.until(lambda: bench.widget.progress.value() >= 2)
    bench.widget.cancel_button.click()
    bench.until(lambda: bench.widget._runner is None)
    assert len(seen) < 900
    assert bench.widget.message.text() == "Cancelled."
    assert not bench.widget.cancel_button.isVisible()
    assert [layer.name for layer in bench.viewer.layers] == ["scan"]


def test_layers_come_and_go_and_are_renamed(bench: Bench) -> None:
    box = bench.widget.layer_box
    bench.viewer.add_layer(
        scan(
            VALUES[0],
            name="flat",
            scale=(1, 1),
            translate=(0, 0),
            units=("pixel",) * 2,
            axis_labels=("y", "x"),
        )
    )
    bench.viewer.add_labels(VALUES[0].astype(int), name="cells")
    assert [box.itemText(n) for n in range(box.count())] == ["scan", "flat"]
    assert box.currentText() == "scan"
    bench.viewer.layers["scan"].name = "volume"
    assert box.itemText(0) == "volume"
    box.setCurrentIndex(1)
    assert [axis.name for axis in bench.widget.fields.axes] == ["y", "x"]
    bench.viewer.layers.remove("flat")
    assert box.currentText() == "volume"
    bench.viewer.layers["volume"].data = VALUES[:6, :20]
    assert [axis.length for axis in bench.widget.fields.axes] == [6, 20, 60]


def test_it_fits_into_a_narrow_dock(bench: Bench) -> None:
    assert bench.widget.minimumSizeHint().width() <= 240
    bench.viewer.layers["scan"].name = "a name of a layer that is longer than any dock is wide " * 3
    bench.widget.filter_box.setCurrentText(LAPLACE)
    bench.settle()
    assert bench.widget.minimumSizeHint().width() <= 240
    assert bench.widget.grab().width() > 0


def test_a_widget_that_is_gone_listens_no_more(qtbot: Any) -> None:
    viewer = ViewerModel()
    viewer.add_layer(scan())
    widget = FilterWidget(viewer)
    before = len(viewer.dims.events.point.callbacks)
    widget.deleteLater()
    qtbot.wait(50)
    assert len(viewer.dims.events.point.callbacks) == before - 1
    viewer.add_layer(scan(name="later"))
    viewer.layers["scan"].scale = (1, 1, 1)


def test_napari_opens_it_by_the_name_of_the_plugin(make_napari_viewer_proxy: Any) -> None:
    if not is_installed():
        pytest.skip("separable is not installed, so that napari does not find it")
    viewer = make_napari_viewer_proxy()
    _, widget = viewer.window.add_plugin_dock_widget("separable")
    assert type(widget).__name__ == "FilterWidget"
    assert widget.filter_box.currentText() == GAUSSIAN
