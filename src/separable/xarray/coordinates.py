"""What belongs to dimensions: arguments by name, and the length of a sample along each coordinate."""

from __future__ import annotations

import datetime as dt
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from .._base.words.messages import shown

if TYPE_CHECKING:
    import xarray as xr

# Largest distance of a coordinate from an even one, in samples: those in float32 and in few digits are even.
_UNEVEN: Final = 1e-3


class CoordinateStep(NamedTuple):
    """How a coordinate goes on from sample to sample.

    Attributes
    ----------
    length : float
        In its units; of times, in seconds. 1 where there is no coordinate, or a single sample.
    descends : bool
    times : bool
    """

    length: float
    descends: bool
    times: bool


def filtered_dims(array: xr.DataArray, dims: Any, *by_name: Any) -> tuple[Hashable, ...]:
    """Return the dimensions to filter: those given, or the keys of the first mapping, or all.

    Raises
    ------
    ValueError
        The array has no such dimension, or one is given twice.
    """
    if dims is None:
        mapping = next((value for value in by_name if isinstance(value, Mapping)), None)
        dims = array.dims if mapping is None else tuple(mapping)
    chosen = (dims,) if isinstance(dims, str) or not isinstance(dims, Sequence) else tuple(dims)
    for dim in chosen:
        if dim not in array.dims:
            raise ValueError(f"`dims`: the array has no dimension {dim!r}; it has {array.dims}.")
    if len(set(chosen)) < len(chosen) or not chosen:
        raise ValueError(f"`dims={shown(dims)}` names {'one twice' if chosen else 'none'}.")
    return chosen


def for_each(name: str, value: Any, dims: tuple[Hashable, ...]) -> Any:
    """Return an argument that may be a mapping as a tuple with an entry for each dimension.

    Raises
    ------
    ValueError
        A dimension is missing, or is not filtered.
    """
    if not isinstance(value, Mapping):
        return value
    if set(value) != set(dims):
        raise ValueError(
            f"`{name}={shown(dict(value))}` is for {tuple(value)}, but the filtered dimensions are {dims}; "
            "pass an entry for each, or one value for all."
        )
    return tuple(value[dim] for dim in dims)


def step_of(array: xr.DataArray, dim: Hashable) -> CoordinateStep:
    """Return the step of a dimension's coordinate.

    Raises
    ------
    ValueError
        It is not even, or not of numbers or times.
    """
    coordinate = array.coords.get(dim)
    if coordinate is None or coordinate.size < 2:
        times = coordinate is not None and coordinate.dtype.kind in "mM"
        return CoordinateStep(1.0, False, times)
    values = np.asarray(coordinate.values)
    times = values.dtype.kind in "mM"
    if values.dtype.kind not in "iufmM":
        raise ValueError(
            f"the coordinate {dim!r} has dtype {values.dtype}, which has no lengths; leave it out to filter "
            f"in samples: array.drop_vars({dim!r})."
        )
    unit = np.timedelta64(1, "s") if times else 1.0
    places = (values - values[0]) / unit if times else values.astype(np.float64) - float(values[0])
    step = float(places[-1]) / (len(places) - 1)
    distance = np.abs(places - step * np.arange(len(places))).max()
    if not distance <= _UNEVEN * abs(step) or step == 0:
        steps = np.diff(places)
        between = f"from {steps.min():.6g} to {steps.max():.6g}" + (" seconds" if times else "")
        raise ValueError(
            f"the coordinate {dim!r} is not even: its steps are {between}, so that a width in its units is "
            "none in samples. Interpolate first (array.interp), or leave it out to filter in samples: "
            f"array.drop_vars({dim!r})."
        )
    return CoordinateStep(abs(step), step < 0, times)


def in_units(name: str, value: Any, dims: tuple[Hashable, ...], steps: Sequence[CoordinateStep]) -> Any:
    """Return widths as numbers, those along times in seconds; None stays.

    Raises
    ------
    TypeError
        A width along times is no duration, or one along numbers is.
    """
    if value is None or not any(step.times or _is_duration(v) for step, v in _paired(value, steps)):
        return value
    widths = []
    for dim, (step, width) in zip(dims, _paired(value, steps), strict=True):
        if step.times != _is_duration(width):
            expected = "times: pass a duration such as '3h'" if step.times else "no times: pass a number"
            raise TypeError(f"`{name}={shown(width)}` for {dim!r}, whose coordinate holds {expected}.")
        widths.append(_seconds(width) if step.times else width)
    return tuple(widths)


def _paired(value: Any, steps: Sequence[CoordinateStep]) -> list[tuple[CoordinateStep, Any]]:
    listed = value if isinstance(value, (tuple, list)) and len(value) == len(steps) else (value,) * len(steps)
    return list(zip(steps, listed, strict=True))


def _is_duration(value: Any) -> bool:
    return isinstance(value, (str, dt.timedelta, np.timedelta64))


def _seconds(duration: Any) -> float:
    import pandas as pd  # comes with xarray

    return float(pd.Timedelta(duration).total_seconds())
