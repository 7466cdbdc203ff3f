"""The widget: a filter of an image layer, its preview, its plan, and the layer that it makes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from .._base.extras import extra
from ..arrays.boundaries import CANONICAL
from .axes import axes_of, full_data, usual
from .events import Links
from .fields import AxisFields
from .layers import Preview, images_of, look_of, result_layer
from .recipe import BOX, FILTERS, SMOOTHERS, LayerRecipe
from .run import LayerResult, steps
from .slices import Look, Sight, sight

with extra("napari"):
    from napari.qt.threading import create_worker
    from qtpy.QtCore import Qt, QTimer
    from qtpy.QtGui import QFontDatabase
    from qtpy.QtWidgets import (
        QCheckBox,
        QComboBox,
        QFormLayout,
        QHBoxLayout,
        QLabel,
        QPlainTextEdit,
        QProgressBar,
        QPushButton,
        QVBoxLayout,
        QWidget,
    )
    from superqt.utils import create_worker as create_quiet_worker  # which napari's list of tasks leaves out

_DELAY: Final = 150  # milliseconds after the last change until the preview is made
_PART_OF_SLICE: Final = "The preview is a part of the slice, which is large: zoom in to move it."
_BEYOND: Final = {
    "reflect": "d c b a | a b c d | d c b a",
    "constant": "0 0 0 0 | a b c d | 0 0 0 0",
    "nearest": "a a a a | a b c d | d d d d",
    "mirror": "d c b | a b c d | c b a",
    "wrap": "a b c d | a b c d | a b c d",
}


class FilterWidget(QWidget):  # type: ignore[misc, unused-ignore]
    """Filter an image layer along its axes.

    Parameters
    ----------
    napari_viewer : napari.Viewer
    """

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__()
        self._viewer = napari_viewer
        self._preview = Preview(napari_viewer)
        self._layers: list[Any] = []
        self._links = Links()  # to the viewer,
        self._named = Links()  # to the layers that are listed,
        self._followed = Links()  # and to the chosen one
        self._looker: Any = None  # the worker that plans and previews
        self._runner: Any = None
        self._asked: tuple[Any, Look]  # layer and look that it is at
        self._filtered: tuple[Any, LayerRecipe]  # layer and recipe that Run is at
        self._again = False
        self._cropped = False
        self._make_fields()
        self._lay_out()
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_DELAY)
        self._timer.timeout.connect(self._start_look)
        self._connect()
        self._list_layers()

    def _make_fields(self) -> None:
        self.layer_box, self.filter_box, self.mode_box = QComboBox(), QComboBox(), QComboBox()
        for box in (self.layer_box, self.filter_box, self.mode_box):  # long names are no reason to be wide
            box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
            box.setMinimumContentsLength(8)
        self.filter_box.addItems(FILTERS)
        self.fields = AxisFields()
        self.mode_box.addItems(CANONICAL)
        for row, mode in enumerate(CANONICAL):
            self.mode_box.setItemData(row, _BEYOND[mode], Qt.ItemDataRole.ToolTipRole)
        self.mode_box.setToolTip("What the image is taken to be beyond its ends.")
        self.keep_box = QCheckBox("Keep the dtype")
        self.keep_box.setChecked(True)
        self.preview_box = QCheckBox("Preview the slice shown")
        self.preview_box.setToolTip("Shows the filtered slice on top of the layer, as Run will make it.")
        self.plan_text = QPlainTextEdit()
        self.plan_text.setReadOnly(True)
        self.plan_text.setFont(QFontDatabase.systemFont(QFontDatabase.SystemFont.FixedFont))
        self.plan_text.setLineWrapMode(QPlainTextEdit.LineWrapMode.NoWrap)
        self.plan_text.setMinimumHeight(90)
        self.plan_text.setPlaceholderText("How the layer will be filtered")
        self.message = QLabel()
        self.message.setWordWrap(True)
        self.message.setStyleSheet("color: #e0504a")  # readable on napari's dark and light themes
        self.progress = QProgressBar()
        self.run_button = QPushButton("Run")
        self.run_button.setToolTip("Filter the whole layer into a new one.")
        self.cancel_button = QPushButton("Cancel")
        for part in (self.message, self.progress, self.cancel_button):
            part.hide()

    def _lay_out(self) -> None:
        form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.setRowWrapPolicy(QFormLayout.RowWrapPolicy.WrapLongRows)
        self.width_label = QLabel()
        form.addRow("Layer", self.layer_box)
        form.addRow("Filter", self.filter_box)
        form.addRow(self.width_label)
        form.addRow(self.fields)
        form.addRow("Border", self.mode_box)
        buttons = QHBoxLayout()
        buttons.addWidget(self.run_button)
        buttons.addWidget(self.cancel_button)
        column = QVBoxLayout(self)
        column.addLayout(form)
        for part in (self.keep_box, self.preview_box, self.plan_text, self.message, self.progress):
            column.addWidget(part)
        column.setStretchFactor(self.plan_text, 1)
        column.addLayout(buttons)

    def _connect(self) -> None:
        self.layer_box.currentIndexChanged.connect(self._on_layer)
        self.filter_box.currentTextChanged.connect(self._on_filter)
        self.fields.changed.connect(self._on_change)
        self.mode_box.currentTextChanged.connect(self._on_change)
        self.keep_box.toggled.connect(self._on_change)
        self.preview_box.toggled.connect(self._on_preview)
        self.run_button.clicked.connect(self._start_run)
        self.cancel_button.clicked.connect(self._cancel)
        viewer, links = self._viewer, self._links
        layers, dims = viewer.layers.events, viewer.dims.events
        camera = getattr(viewer, "scene", viewer).camera.events  # napari 0.9 moved it
        links.add((layers.inserted, layers.removed), self._list_layers)
        links.add((dims.point, dims.order, dims.ndisplay), self._on_slice)
        links.add((camera.center, camera.zoom), self._on_view)
        for links in (self._links, self._named, self._followed):
            self.destroyed.connect(links.clear)

    @property
    def layer(self) -> Any:
        """The chosen layer; None where there is none."""
        row = self.layer_box.currentIndex()
        return self._layers[row] if 0 <= row < len(self._layers) else None

    @property
    def recipe(self) -> LayerRecipe:
        """What is asked for."""
        axes, widths = self.fields.chosen()
        kept = self.keep_box.isChecked() or (self.layer is not None and self.layer.rgb)
        return LayerRecipe(self.filter_box.currentText(), axes, widths, self.mode_box.currentText(), kept)

    def _list_layers(self, *_: Any) -> None:
        """Show the image layers; the chosen one stays, or the active one is taken."""
        layers, chosen = images_of(self._viewer), self.layer
        names = [layer.name for layer in layers]
        if layers == self._layers and names == [self.layer_box.itemText(n) for n in range(len(layers))]:
            return
        self._named.clear()
        self._named.add([layer.events.name for layer in layers], self._list_layers)
        if chosen not in layers:
            active = self._viewer.layers.selection.active
            chosen = active if active in layers else (layers[-1] if layers else None)
        self.layer_box.blockSignals(True)
        self.layer_box.clear()
        self.layer_box.addItems(names)
        self._layers = layers
        if chosen is not None:
            self.layer_box.setCurrentIndex(layers.index(chosen))
        self.layer_box.blockSignals(False)
        self._on_layer()

    def _on_layer(self, *_: Any) -> None:
        """Follow another layer."""
        self._followed.clear()
        layer = self.layer
        self.run_button.setEnabled(layer is not None and self._runner is None)
        if layer is None:
            self._preview.remove()
            self.fields.set_axes((), ())
            self.plan_text.clear()
            self._say("There is no image layer: open an image, or add one.")
            return
        events = layer.events
        self._followed.add((events.data, events.scale, events.units, events.axis_labels), self._on_axes)
        self._on_axes()

    def _on_axes(self, *_: Any) -> None:
        """Show the axes of the layer as they are now."""
        axes = axes_of(self.layer)
        beyond = self._viewer.dims.ndim - self.layer.ndim
        self.keep_box.setText(f"Keep {full_data(self.layer).dtype}")
        self.layer_box.setToolTip(self.layer.name)
        self.fields.set_axes(axes, usual(axes, [axis - beyond for axis in self._viewer.dims.displayed]))
        self._on_filter()

    def _on_filter(self, *_: Any) -> None:
        kind = self.filter_box.currentText()
        units = {axis.unit for axis in self.fields.axes if axis.unit}
        self.width_label.setText("Size" if kind == BOX else "Sigma")
        self.width_label.setToolTip(
            f"In the layer's units ({', '.join(sorted(units))})" if units else "In pixels"
        )
        reason = self._why_not_kept(kind)
        self.keep_box.setEnabled(not reason)
        self.keep_box.setToolTip(reason)
        self.fields.set_kind(kind)
        self._on_change()

    def _why_not_kept(self, kind: str) -> str:
        """Return why there is no choice of a dtype; empty where there is one."""
        if kind not in SMOOTHERS:
            return "Derivatives have signs and fractions: they are floats."
        if self.layer is None:
            return "There is no layer."
        if self.layer.rgb:
            return "Colours keep their dtype."
        return "" if full_data(self.layer).dtype.kind in "iuf" else "Means of truth values are floats."

    def _on_preview(self, is_on: bool) -> None:
        if not is_on:
            self._preview.remove()
        self._on_change()

    def _on_slice(self, *_: Any) -> None:
        if self.preview_box.isChecked():
            self._on_change()

    def _on_view(self, *_: Any) -> None:
        """Preview what the camera shows, where that is a part of the slice."""
        layer = self.layer
        if layer is not None and (self._cropped or layer.multiscale):
            self._on_slice()

    def _on_change(self, *_: Any) -> None:
        """Look again, as soon as nothing has changed for a moment."""
        self._timer.start()

    def _look(self) -> Look | None:
        """Return what is to be seen; None, with the reason in the widget, where that cannot be."""
        layer = self.layer
        if layer is None:
            return None
        try:
            self.recipe.check(layer.rgb)
            return look_of(self._viewer, layer, self.recipe, self.preview_box.isChecked())
        except (ValueError, TypeError) as error:
            self._on_error(error)
            return None

    def _start_look(self) -> None:
        if self._looker is not None or self._runner is not None:
            self._again = True
            return
        look = self._look() if self.isVisible() else None
        if look is None:
            return
        # Bound methods: Qt lets go of them when the widget is gone before its workers are.
        self._asked = self.layer, look
        told = {"returned": self._on_sight, "errored": self._on_error, "finished": self._on_looked}
        self._looker = create_quiet_worker(sight, look, _connect=told, _ignore_errors=True)

    def _on_sight(self, seen: Sight) -> None:
        layer, look = self._asked
        if layer != self.layer or look.recipe != self.recipe:
            return  # of what was asked for before
        self._cropped = seen.cropped
        self.plan_text.setPlainText(seen.plan)
        self._say(_PART_OF_SLICE if seen.cropped else "")
        if self.preview_box.isChecked() and look.previews and self.isVisible():
            self._attempt(lambda: self._preview.show(layer, look.recipe, seen))

    def _on_looked(self) -> None:
        self._looker = None
        self._look_again()

    def _look_again(self) -> None:
        """Look at what has changed meanwhile."""
        if self._again and self._looker is None:
            self._again = False
            self._start_look()

    def _start_run(self) -> None:
        look = self._look()
        if look is None or self._runner is not None:
            return
        self._say("")
        self._show_running(True)
        self._filtered = self.layer, look.recipe
        told = {"yielded": self._on_step, "returned": self._on_outcome, "errored": self._on_error}
        told |= {"aborted": self._on_abort, "finished": self._on_ran}
        self._runner = create_worker(steps, look, _connect=told, _ignore_errors=True)
        self.destroyed.connect(self._runner.quit)

    def _cancel(self) -> None:
        if self._runner is not None:
            self.cancel_button.setEnabled(False)
            self._runner.quit()

    def _on_step(self, share: float) -> None:
        self.progress.setRange(0, 100)
        self.progress.setValue(round(100 * share))

    def _on_abort(self) -> None:
        self._say("Cancelled.")

    def _on_outcome(self, outcome: LayerResult) -> None:
        self.preview_box.setChecked(False)  # the result shows it
        self._attempt(lambda: self._add(outcome))

    def _add(self, outcome: LayerResult) -> None:
        layer, recipe = self._filtered
        made = result_layer(layer, recipe, outcome.data, outcome.limits)
        layers = self._viewer.layers
        layers.insert(layers.index(layer) + 1 if layer in layers else len(layers), made)

    def _attempt(self, add: Callable[[], None]) -> None:
        """Add a layer, of which napari computes a slice where it is lazy; say what goes wrong."""
        try:
            add()
        except Exception as error:  # of whatever the samples come from
            self._on_error(error)

    def _on_ran(self) -> None:
        self._runner = None
        self._show_running(False)
        self._look_again()

    def _show_running(self, is_running: bool) -> None:
        self.progress.setRange(0, 0)  # busy, until the first part is done
        self.progress.setVisible(is_running)
        self.cancel_button.setVisible(is_running)
        self.cancel_button.setEnabled(is_running)
        self.run_button.setEnabled(not is_running and self.layer is not None)

    def _on_error(self, error: Exception) -> None:
        self._preview.remove()
        self.plan_text.clear()
        named = isinstance(error, (ValueError, TypeError, MemoryError, ImportError))
        self._say(str(error) if named and str(error) else f"{type(error).__name__}: {error}")

    def _say(self, text: str) -> None:
        self.message.setText(text)
        self.message.setVisible(bool(text))

    def hideEvent(self, event: Any) -> None:
        """Take the preview away with the widget."""
        self._preview.remove()
        super().hideEvent(event)

    def showEvent(self, event: Any) -> None:
        """Show the preview again."""
        self._on_change()
        super().showEvent(event)
