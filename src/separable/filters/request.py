"""The gate: a request is checked once, into the setting that its plan keeps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from .._base.words.messages import shown
from ..arrays import arguments
from ..arrays.output import Rounding
from ..cost import model as costs
from ..cost.model import MachineRates
from ..kernel.scale import leaves_float32
from ..methods.method import Setting, Weights

# Lengths of a last axis that most likely holds colours.
_COLOURS = (3, 4)


# dtype of the samples and of the output, and how results are rounded to it
Integers: TypeAlias = tuple[np.dtype[Any], np.dtype[Any], Rounding]


class Request(NamedTuple):
    """The arguments of a filter as they were given, and facts of its arrays."""

    shape: int | Sequence[int]
    dtype: np.dtype[Any]
    mode: arguments.Mode
    cval: complex
    origin: arguments.Origin
    axes: arguments.Axes
    tol: float | None
    method: str | None
    flip: bool  # a convolution
    whole: bool = False  # arrays of whole numbers, whose means are sums divided once
    patient: bool = False  # a plan, for which a search of seconds pays
    machine: MachineRates | None = None  # the rates that decide; None: this machine's
    masked: bool = False  # samples are unknown
    integers: Integers | None = None  # where results are stored as integers

    def hashable(self) -> Request:
        """Return the same request with tuples for lists and arrays."""
        return Request(*map(_frozen, self))


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, (list, tuple, np.ndarray)) else value


def checked(kernel: Weights, request: Request) -> Setting:
    """Return the checked setting of a request.

    Parameters
    ----------
    kernel : SeparableKernel or ndarray
    request : Request

    Raises
    ------
    ValueError, TypeError
        An argument is out of its range, or does not fit the kernel.
    """
    taps = kernel.shape
    shape = arguments.shape_tuple(request.shape, request.dtype)
    axes = arguments.filtered_axes(request.axes, len(shape))
    if len(taps) != len(axes):
        raise ValueError(_mismatch(taps, shape, len(axes), request.axes))
    offsets = arguments.origins(request.origin, axes, taps)
    # A convolution is the correlation with the flipped kernel: taps before the centre are then after it, and
    # of an even number one more is before than after.
    shifts = tuple(
        (n - 1) // 2 - offset if request.flip else n // 2 + offset
        for n, offset in zip(taps, offsets, strict=True)
    )
    modes = arguments.boundary_modes(request.mode, axes)
    return Setting(
        shape,
        request.dtype,
        axes,
        taps,
        shifts,
        modes,
        arguments.constant_value(request.cval, request.dtype),
        request.whole,
        request.patient,
        double=request.dtype.char in "fF" and leaves_float32(kernel),
        machine=costs.machine() if request.machine is None else request.machine,
        # Approximations may have other signs.
        as_summed=request.method is None and not request.tol,
        flip=request.flip,
        masked=request.masked,
    )


def _mismatch(taps: tuple[int, ...], shape: tuple[int, ...], filtered: int, axes: arguments.Axes) -> str:
    colours = axes is None and len(taps) == len(shape) - 1 and shape[-1] in _COLOURS
    fix = "pass a kernel with one axis for each, or name the axes."
    if colours:
        fix = f"pass channel_axis=-1 to filter each of the {shape[-1]} colours by itself, or name the axes."
    return (
        f"kernel of shape {taps} has {len(taps)} axes, but `axes={shown(axes)}` filters "
        f"{filtered} of an array of shape {shape}; {fix}"
    )
