"""The rows of the widget that say along which axes a layer is filtered, and how wide."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from .._base.extras import extra
from .axes import LayerAxis
from .recipe import BOX, odd

with extra("napari"):
    from qtpy.QtCore import Qt, Signal
    from qtpy.QtWidgets import QCheckBox, QDoubleSpinBox, QGridLayout, QLabel, QSizePolicy, QWidget

_SAMPLES = 2  # sigma until the user says otherwise


class _AxisRow:
    """One axis: whether it is filtered, how wide, and how many samples that is."""

    def __init__(self, axis: LayerAxis, is_on: bool) -> None:
        self.axis = axis
        self.box = QCheckBox(axis.name)
        self.box.setToolTip(
            f"Filter along {axis.name}: {axis.length} samples of {axis.spacing:g} {axis.unit}"
        )
        self.box.setChecked(is_on)
        self.width = QDoubleSpinBox()
        self.width.setSuffix(f" {axis.unit}" if axis.unit else " px")
        self.width.setKeyboardTracking(False)
        self.width.setMinimumWidth(70)
        self.width.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.note = QLabel()
        self.note.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)

    def set_range(self, finest: float, longest: float) -> None:
        """Let widths be of up to `longest`, in steps of half a sample of the `finest` axis."""
        self.width.setDecimals(min(max(2, 2 - math.floor(math.log10(finest))), 12))
        self.width.setSingleStep(float(f"{finest / 2:.1g}"))
        self.width.setRange(0.0, longest)

    def tell(self, kind: str) -> None:
        """Say how many samples the width is."""
        width, spacing = self.width.value(), self.axis.spacing
        self.width.setEnabled(self.box.isChecked())
        self.note.setEnabled(self.box.isChecked())
        if kind == BOX:
            self.note.setText(f"{odd(width, spacing)} px")
        else:
            self.note.setText("" if not self.axis.unit and spacing == 1 else f"{width / spacing:.3g} px")


class AxisFields(QWidget):  # type: ignore[misc, unused-ignore]
    """A row for each axis of a layer, and whether those of one unit share a width.

    Parameters
    ----------
    parent : QWidget, optional
    """

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._rows: list[_AxisRow] = []
        self._kind = ""
        self._quiet = False
        self.shared = QCheckBox("Same width along all axes")
        self.shared.setChecked(True)
        self.shared.setToolTip("Axes of one unit get the same width, however far apart their samples lie.")
        self.shared.toggled.connect(self._on_shared)
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setColumnStretch(1, 1)

    @property
    def axes(self) -> tuple[LayerAxis, ...]:
        """The axes that have a row."""
        return tuple(row.axis for row in self._rows)

    def set_axes(self, axes: Sequence[LayerAxis], on: Sequence[int]) -> None:
        """Show rows for these axes; widths stay where the axes are the same.

        Parameters
        ----------
        axes : sequence of LayerAxis
        on : sequence of int
            The indices of those that are ticked.
        """
        if tuple(axes) == self.axes:
            return
        for row in self._rows:
            for part in (row.box, row.width, row.note):
                self._grid.removeWidget(part)
                part.deleteLater()
        with self._quietly():
            self._rows = [_AxisRow(axis, axis.index in on) for axis in axes]
            for line, row in enumerate(self._rows):
                self._grid.addWidget(row.box, line, 0)
                self._grid.addWidget(row.width, line, 1)
                self._grid.addWidget(row.note, line, 2)
                alike = [other for other in axes if other.unit == row.axis.unit]
                ticked = [other for other in alike if other.index in on] or alike
                row.set_range(
                    min(other.spacing for other in alike),
                    max(other.length * other.spacing for other in alike),
                )
                row.width.setValue(float(f"{_SAMPLES * min(other.spacing for other in ticked):.2g}"))
                row.box.toggled.connect(self._on_change)
                row.width.valueChanged.connect(lambda _, row=row: self._on_width(row))
            self._grid.addWidget(self.shared, len(self._rows), 0, 1, 3)
        self._on_change()

    def set_kind(self, kind: str) -> None:
        """Say in the words of a filter what the widths are."""
        self._kind = kind
        what = "Size of the box" if kind == BOX else "Standard deviation of the Gaussian"
        for row in self._rows:
            row.width.setToolTip(f"{what} along {row.axis.name}; 0 leaves the axis as it is.")
            row.tell(kind)

    def chosen(self) -> tuple[tuple[LayerAxis, ...], tuple[float, ...]]:
        """Return the axes that are filtered, and the width along each."""
        rows = [row for row in self._rows if row.box.isChecked() and row.width.value() > 0]
        return tuple(row.axis for row in rows), tuple(row.width.value() for row in rows)

    def set_width(self, index: int, width: float) -> None:
        """Set the width along one axis of the layer, as if it was typed."""
        self._rows[index].width.setValue(width)

    def set_on(self, index: int, is_on: bool) -> None:
        """Tick the box of one axis of the layer, or untick it."""
        self._rows[index].box.setChecked(is_on)

    @contextmanager
    def _quietly(self) -> Iterator[None]:
        self._quiet = True
        try:
            yield
        finally:
            self._quiet = False

    def _on_width(self, changed: _AxisRow) -> None:
        if self._quiet:
            return
        if self.shared.isChecked():
            self._share(changed)
        self._on_change()

    def _share(self, first: _AxisRow) -> None:
        with self._quietly():
            for row in self._rows:
                if row.axis.unit == first.axis.unit:
                    row.width.setValue(first.width.value())

    def _on_shared(self, is_on: bool) -> None:
        for unit in {row.axis.unit for row in self._rows} if is_on else ():
            alike = [row for row in self._rows if row.axis.unit == unit]
            self._share(next((row for row in alike if row.box.isChecked()), alike[0]))
        self._on_change()

    def _on_change(self, *_: Any) -> None:
        if self._quiet:
            return
        self.set_kind(self._kind)
        self.changed.emit()
