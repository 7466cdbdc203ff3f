"""The axes of an image layer that can be filtered: their names, and the length of a sample in their units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

# Words by which microscopists label what is not space, and what is.
_NOT_SPACE: Final = {"t", "time", "c", "ch", "channel", "channels", "s", "stage", "position"}
_SPACE: Final = {"z", "y", "x", "depth"}
_COUNTED: Final = {"pixel", "dimensionless", ""}  # units of layers that have none


@dataclass(frozen=True)
class LayerAxis:
    """An axis of a layer's data.

    Attributes
    ----------
    index : int
        Of the data.
    name : str
    length : int
        Samples along it.
    spacing : float
        The length of a sample in the layer's units.
    unit : str
        As it is written behind a number; "" where samples are counted.
    quantity : str
        What the unit measures, such as ``"[length]"``; "" where samples are counted.
    """

    index: int
    name: str
    length: int
    spacing: float
    unit: str
    quantity: str


def axes_of(layer: Any) -> tuple[LayerAxis, ...]:
    """Return the axes of an image layer, without that of its colours.

    Parameters
    ----------
    layer : napari.layers.Image
    """
    shape = full_data(layer).shape[: layer.ndim]
    units = getattr(layer, "units", None) or ("pixel",) * layer.ndim
    labels = getattr(layer, "axis_labels", None) or tuple(map(str, range(-layer.ndim, 0)))
    along = zip(shape, labels, layer.scale, units, strict=True)
    return tuple(
        LayerAxis(index, _name(str(label), index), length, abs(float(scale)), *_unit(unit))
        for index, (length, label, scale, unit) in enumerate(along)
    )


def full_data(layer: Any) -> Any:
    """Return the array of a layer; of one with several scales the largest."""
    return layer.data[0] if layer.multiscale else layer.data


def usual(axes: Sequence[LayerAxis], shown: Sequence[int]) -> tuple[int, ...]:
    """Return the axes to filter until the user says otherwise: those shown, and others that are of space.

    Parameters
    ----------
    axes : sequence of LayerAxis
    shown : sequence of int
        The axes of the data that the viewer shows.
    """
    return tuple(
        axis.index for axis in axes if axis.length > 1 and (axis.index in shown or _is_of_space(axis))
    )


def _is_of_space(axis: LayerAxis) -> bool:
    label = axis.name.lower()
    return label not in _NOT_SPACE and (label in _SPACE or axis.quantity == "[length]")


def _name(label: str, index: int) -> str:
    """Return the label of an axis; napari's own, such as "-2", says nothing to most users."""
    return f"axis {index}" if label.lstrip("-").isdigit() else label


def _unit(unit: Any) -> tuple[str, str]:
    """Return how a unit is written, and what it measures; both empty where samples are counted."""
    if str(unit) in _COUNTED:
        return "", ""
    return format(unit, "~P") or str(unit), str(getattr(unit, "dimensionality", ""))
