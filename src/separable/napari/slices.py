"""The slice of a layer that the viewer shows, filtered as the whole layer would be."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from .._base.types import Array
from ..arrays.boundaries import Interval, Line
from .job import FilterJob, is_lazy
from .recipe import LayerRecipe

# Samples that a preview reads at most, those of neighbouring slices included: 256 MiB in float32, such as 16
# slices of 2048 x 2048.
_MOST: Final = 1 << 26


class Look(NamedTuple):
    """What a viewer shows of a layer, and what is asked of it.

    Attributes
    ----------
    recipe : LayerRecipe
    levels : tuple of arrays
        Of the layer; the largest first.
    level : int
        The one that is shown.
    shown : tuple of int
        Axes that are shown.
    point : tuple of float
        The place of the slice along each axis, in samples of the largest level.
    view : tuple of (int, int)
        What of each axis is within the window, in samples of the shown level.
    previews : bool
        Whether the slice is to be filtered.
    """

    recipe: LayerRecipe
    levels: tuple[Any, ...]
    level: int
    shown: tuple[int, ...]
    point: tuple[float, ...]
    view: tuple[Interval, ...]
    previews: bool


class Sight(NamedTuple):
    """What there is to see.

    Attributes
    ----------
    plan : str
        How the layer would be filtered.
    values : ndarray or None
        The filtered slice, with as many axes as the layer; None where there is none.
    corner : tuple of float
        Its first sample, in samples of the largest level.
    step : tuple of float
        The length of its samples, in those of the largest level.
    cropped : bool
        Whether it is a part of the slice.
    """

    plan: str
    values: Array | None
    corner: tuple[float, ...]
    step: tuple[float, ...]
    cropped: bool


def sight(look: Look) -> Sight:
    """Plan the filter of a layer, and filter the slice that is shown.

    Raises
    ------
    ValueError, TypeError
        As the verbs.
    """
    whole = look.levels[0]
    job = FilterJob(look.recipe, whole.shape, np.dtype(whole.dtype))
    several = len(look.levels) > 1
    lazily = several or is_lazy(whole, job.dtype)
    plan = f"{_named(str(job), look)}\n{_runs(lazily, several)}, {job.dtype.name}"
    nothing = Sight(plan, None, (), (), False)
    if not look.previews:
        return nothing
    level = look.levels[look.level]
    if look.level:
        recipe = look.recipe.on_level(whole.shape, level.shape)
        job = FilterJob(recipe, level.shape, np.dtype(level.dtype))
    step = tuple(n / own for n, own in zip(whole.shape, level.shape, strict=True))
    places = _places(job.lines, level.shape, look, step)
    if places is None:
        return nothing
    values = job.part(level, places)
    corner = tuple(begin * length for (begin, _), length in zip(places, step, strict=True))
    return Sight(
        plan, values, corner, step, any(places[axis] != (0, level.shape[axis]) for axis in look.shown)
    )


def limits_of(values: Array) -> tuple[float, float] | None:
    """Return the least and the largest of finite floats, as limits of contrast; None: there are none."""
    finite = np.isfinite(values)
    low = float(values.min(where=finite, initial=np.inf))
    high = float(values.max(where=finite, initial=-np.inf))
    if low > high:
        return None
    return low, high if low < high else low + 1


def _named(plan: str, look: Look) -> str:
    """Return the text of a plan with the names of the layer's axes."""
    names = {f"axis {axis.index}": axis.name for axis in look.recipe.axes}
    lines = re.compile(r"^  (axis \d+)", flags=re.MULTILINE)
    width = max(len(names.get(name, name)) for name in lines.findall(plan))
    return lines.sub(lambda line: f"  {names.get(line[1], line[1]):{width}}", plan)


def _runs(lazily: bool, several: bool) -> str:
    if not lazily:
        return "in memory"
    return "lazily by Dask" + (", each level of the layer" if several else "")


def _places(
    lines: Sequence[Line], shape: Sequence[int], look: Look, step: Sequence[float]
) -> tuple[Interval, ...] | None:
    """Return the interval of each axis that is previewed; None where the slice is not of the layer."""
    places: list[Interval] = [(0, n) for n in shape]
    for axis, place in enumerate(look.point):
        if axis not in look.shown:
            index = round(place / step[axis])
            if not 0 <= index < shape[axis]:
                return None
            places[axis] = index, index + 1
    if _read(lines, places) > _MOST:
        for axis in look.shown:
            places[axis] = _within(look.view[axis], shape[axis])
    for _ in range(500):  # parts of all axes come to nothing long before
        if _read(lines, places) <= _MOST:
            break
        axis = max(look.shown, key=lambda axis: places[axis][1] - places[axis][0])
        begin, end = places[axis]
        cut = -(-(end - begin) // 16)
        places[axis] = begin + cut, max(end - cut, begin + cut + 1)
    return tuple(places)


def _within(view: Interval, n: int) -> Interval:
    begin, end = max(view[0], 0), min(view[1] + 1, n)
    return (begin, end) if begin < end else (0, n)


def _read(lines: Sequence[Line], places: Sequence[Interval]) -> int:
    """Return how many samples results at these places are made of."""
    reads = (line.read_for(place) for line, place in zip(lines, places, strict=True))
    return math.prod(end - begin for begin, end in reads)
