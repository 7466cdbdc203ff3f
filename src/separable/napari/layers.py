"""Layers of the viewer: what is shown of one, the result of a filter, and the preview on top."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from .._base.extras import extra
from .._base.types import Array
from .recipe import SMOOTHERS, LayerRecipe
from .slices import Look, Sight, limits_of

with extra("napari"):
    from napari.layers import Image

_PLACE: Final = ("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels")
_STYLE: Final = (
    *("colormap", "gamma", "opacity", "blending", "interpolation2d", "interpolation3d", "rendering"),
    "projection_mode",
)
_PREVIEW: Final = "separable-preview"  # in the metadata of layers that are previews


def images_of(viewer: Any) -> list[Any]:
    """Return the image layers that can be filtered: all but previews."""
    return [layer for layer in viewer.layers if isinstance(layer, Image) and not is_preview(layer)]


def is_preview(layer: Any) -> bool:
    """Return whether a layer is a preview of another."""
    return _PREVIEW in layer.metadata


def look_of(viewer: Any, layer: Any, recipe: LayerRecipe, previews: bool) -> Look:
    """Return what a viewer shows of a layer at this moment."""
    levels = tuple(layer.data) if layer.multiscale else (layer.data,)
    beyond = viewer.dims.ndim - layer.ndim
    shown = tuple(sorted(axis - beyond for axis in viewer.dims.displayed if axis >= beyond))
    view = tuple((int(begin), int(end)) for begin, end in np.transpose(layer.corner_pixels))
    level = layer.data_level if layer.multiscale else 0
    return Look(recipe, levels, level, shown, _point(viewer, layer), view, previews)


def _point(viewer: Any, layer: Any) -> tuple[float, ...]:
    """Return where the viewer's sliders stand, in samples of a layer."""
    place = np.array(viewer.dims.point[-layer.ndim :], float)
    units = getattr(viewer.dims, "units", None)  # a viewer of napari 0.6 has none: places are those of layers
    for axis, (own, unit) in enumerate(zip(layer.units, units[-layer.ndim :] if units else (), strict=False)):
        if own != unit and own.dimensionality == unit.dimensionality:
            place[axis] *= (1 * unit).to(own).magnitude
    return tuple(float(number) for number in layer.world_to_data(place))


def result_layer(layer: Any, recipe: LayerRecipe, data: Any, limits: tuple[float, float] | None) -> Any:
    """Return the layer of a result: placed, coloured and described as its source.

    Parameters
    ----------
    layer : napari.layers.Image
        The source.
    recipe : LayerRecipe
    data : array, or list of arrays
        The result; of a layer with several scales their list.
    limits : (float, float), optional
        Of the contrast, where it is not that of the source.
    """
    known = layer.as_layer_data_tuple()[1]
    meta: dict[str, Any] = {key: known[key] for key in (*_PLACE, *_STYLE) if key in known}
    meta |= {"name": f"{layer.name} {recipe.kind}", "rgb": layer.rgb, "multiscale": isinstance(data, list)}
    meta["metadata"] = {**layer.metadata, "separable": str(recipe)}
    if not layer.rgb:
        meta["contrast_limits"] = tuple(layer.contrast_limits) if recipe.kind in SMOOTHERS else limits
    return Image(data, **meta)


class Preview:
    """The layer that shows the filtered slice on top of its source.

    Parameters
    ----------
    viewer : napari.Viewer
    """

    def __init__(self, viewer: Any) -> None:
        self._viewer = viewer
        self._layer: Any = None
        self._source: Any = None

    def show(self, source: Any, recipe: LayerRecipe, seen: Sight) -> None:
        """Show the filtered slice where it lies; remove the layer where there is none."""
        values = seen.values
        if values is None:
            self.remove()
            return
        limits = tuple(source.contrast_limits) if recipe.kind in SMOOTHERS else limits_of(values)
        affine = _affine(source, seen)
        if not self._is_of(source):
            self.remove()
            self._add(source, values, affine, None if source.rgb else limits)
            return
        self._layer.data = values
        self._layer.affine = affine
        if limits is not None and not source.rgb:
            self._layer.contrast_limits_range = limits
            self._layer.contrast_limits = limits

    def remove(self) -> None:
        """Take the layer out of the viewer."""
        layer, self._layer, self._source = self._layer, None, None
        if layer is not None and layer in self._viewer.layers:
            self._viewer.layers.remove(layer)

    def _is_of(self, source: Any) -> bool:
        there = self._layer is not None and self._layer in self._viewer.layers
        return there and source == self._source and self._layer.ndim == source.ndim

    def _add(self, source: Any, values: Array, affine: Array, limits: tuple[float, float] | None) -> None:
        known = source.as_layer_data_tuple()[1]
        style = {key: known[key] for key in _STYLE if key in known}
        style |= {"blending": "translucent_no_depth", "opacity": 1.0}  # covers the source
        named = {"name": f"{source.name} preview", "metadata": {_PREVIEW: True}, "rgb": source.rgb}
        active = self._viewer.layers.selection.active
        self._layer = Image(
            values,
            affine=affine,
            units=source.units,
            contrast_limits=limits,
            multiscale=False,
            **named,
            **style,
        )
        self._source = source
        self._viewer.layers.insert(self._viewer.layers.index(source) + 1, self._layer)
        self._viewer.layers.selection.active = active


def _affine(source: Any, seen: Sight) -> Array:
    """Return the matrix from samples of a slice to the world."""
    n = source.ndim
    origin = np.array(source.data_to_world((0.0,) * n))
    columns = [np.array(source.data_to_world(tuple(row))) - origin for row in np.eye(n)]
    affine = np.eye(n + 1)
    affine[:n, :n] = np.stack(columns, axis=1) * seen.step[:n]
    affine[:n, n] = source.data_to_world(seen.corner[:n])
    return affine
