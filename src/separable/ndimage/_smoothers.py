"""Gaussians and boxes."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from .._base.types import Array
from ..arrays.masks import Nan
from ..arrays.output import Overflow, Rounding
from . import _arguments as arguments
from ._arguments import Output, remembered
from ._gaussian import Gaussian, steps_of
from ._repeated import repeated
from ._run import Step, chain, how_to


@repeated
def gaussian_filter(
    input: npt.ArrayLike,
    sigma: Any,
    order: Any = 0,
    output: Output = None,
    mode: Any = "reflect",
    cval: complex = 0.0,
    truncate: float = 4.0,
    *,
    radius: Any = None,
    axes: Any = None,
    spacing: Any = None,
    rounding: Rounding = "truncate",
    overflow: Overflow = "wrap",
    tol: float | None = None,
    threads: int | None = None,
    mask: npt.ArrayLike | None = None,
    nan: Nan = "propagate",
) -> Array:
    """Filter with a Gaussian or one of its derivatives: `scipy.ndimage.gaussian_filter`.

    Parameters
    ----------
    input : array_like
        As in `correlate`.
    sigma : float or sequence of float
        Standard deviation in samples, for all filtered axes or for each; 0 leaves an axis alone.
    order : int or sequence of int, optional
        Order of the derivative along all filtered axes or each; 0 smooths. The taps are SciPy's, samples of
        the derivative, which are off where sigma is below 0.7: `separable.gaussian` corrects them.
    output, cval, rounding, overflow, threads, mask, nan
        As in `correlate`.
    mode : str or sequence of str, optional
        As in `correlate`, for all filtered axes or for each.
    truncate : float, optional
        The kernel ends at ``int(truncate * sigma + 0.5)`` samples from its centre.
    radius : int or sequence of int, optional
        Where it ends, instead of by `truncate`.
    axes : int or tuple of int, optional
        The axes to filter; all by default. Sequences go by its order.
    spacing : float or sequence of float, optional
        Length of a sample along all filtered axes or each, in the units of `sigma`: a voxel's edge in
        millimetres, say. Derivatives are then taken by those units too.
    tol : float, optional
        Relative l1 error allowed, as in `separable.gaussian`.

    Returns
    -------
    ndarray
        The shape of the input; `output` itself where that is an array.

    Raises
    ------
    RuntimeError, ValueError, TypeError
        As SciPy; what raises a RuntimeError there is a ValueError as well.

    Examples
    --------
    >>> import numpy as np, separable.ndimage as ndi
    >>> ndi.gaussian_filter(np.arange(0, 50, 2).reshape(5, 5), sigma=1)
    array([[ 5,  6,  8, 10, 11],
           [11, 12, 14, 16, 17],
           [20, 22, 24, 25, 27],
           [30, 31, 33, 35, 36],
           [36, 37, 39, 41, 42]])
    """
    how = how_to(rounding, overflow, threads, mask, nan)
    x = arguments.samples(input)
    cval = arguments.one_cval(cval, x)
    target = arguments.target(output, x, is_complex=x.dtype.kind == "c")
    steps = _gaussian_steps(x.ndim, axes, sigma, order, mode, cval, truncate, radius, spacing, tol)
    return chain(steps, x, target, how)


@repeated
def gaussian_filter1d(
    input: npt.ArrayLike,
    sigma: float,
    axis: int = -1,
    order: int = 0,
    output: Output = None,
    mode: str = "reflect",
    cval: complex = 0.0,
    truncate: float = 4.0,
    *,
    radius: int | None = None,
    spacing: float | None = None,
    rounding: Rounding = "truncate",
    overflow: Overflow = "wrap",
    tol: float | None = None,
    threads: int | None = None,
    mask: npt.ArrayLike | None = None,
    nan: Nan = "propagate",
) -> Array:
    """Filter with a Gaussian along one axis: `scipy.ndimage.gaussian_filter1d`.

    Parameters
    ----------
    input, output, mode, cval, rounding, overflow, threads, mask, nan
        As in `correlate`.
    sigma : float
        Standard deviation in samples.
    axis : int, optional
        The axis to filter.
    order : int, optional
        Order of the derivative; 0 smooths.
    truncate, radius, spacing, tol : optional
        As in `gaussian_filter`.

    Returns
    -------
    ndarray
        The shape of the input; `output` itself where that is an array.

    Raises
    ------
    RuntimeError, ValueError, TypeError
        As `gaussian_filter`.

    Examples
    --------
    >>> import numpy as np
    >>> import separable.ndimage as ndi
    >>> ndi.gaussian_filter1d([0.0, 0.0, 1.0, 0.0, 0.0], sigma=0.5).round(3)
    array([0.   , 0.106, 0.787, 0.106, 0.   ])
    """
    how = how_to(rounding, overflow, threads, mask, nan)
    x = arguments.samples(input)
    cval = arguments.one_cval(cval, x)
    target = arguments.target(output, x, is_complex=x.dtype.kind == "c", promote=True)
    steps = _gaussian_line(x.ndim, axis, sigma, order, mode, cval, truncate, radius, spacing, tol)
    return chain(steps, x, target, how)


@repeated
def uniform_filter(
    input: npt.ArrayLike,
    size: Any = 3,
    output: Output = None,
    mode: Any = "reflect",
    cval: complex = 0.0,
    origin: Any = 0,
    *,
    axes: Any = None,
    rounding: Rounding = "truncate",
    overflow: Overflow = "wrap",
    threads: int | None = None,
    mask: npt.ArrayLike | None = None,
    nan: Nan = "propagate",
) -> Array:
    """Replace each sample by the mean of the box around it: `scipy.ndimage.uniform_filter`.

    Parameters
    ----------
    input, output, cval, rounding, overflow, threads, mask, nan
        As in `correlate`.
    size : int or sequence of int, optional
        Length of the box in samples, for all filtered axes or for each; an axis where it is 0 or 1 is
        left alone.
    mode, axes : optional
        As in `gaussian_filter`.
    origin : int or sequence of int, optional
        Moves the box, in samples, along all filtered axes or each.

    Returns
    -------
    ndarray
        The shape of the input; `output` itself where that is an array.

    Raises
    ------
    RuntimeError, ValueError, TypeError
        As SciPy; what raises a RuntimeError there is a ValueError as well.

    Examples
    --------
    >>> import numpy as np
    >>> import separable.ndimage as ndi
    >>> ndi.uniform_filter(np.arange(9.0).reshape(3, 3), size=3)
    array([[1.33333333, 2.        , 2.66666667],
           [3.33333333, 4.        , 4.66666667],
           [5.33333333, 6.        , 6.66666667]])
    """
    how = how_to(rounding, overflow, threads, mask, nan)
    x = arguments.samples(input)
    cval = arguments.one_cval(cval, x)
    target = arguments.target(output, x, is_complex=x.dtype.kind == "c", promote=True)
    return chain(_box_steps(x.ndim, axes, size, origin, mode, cval), x, target, how)


@repeated
def uniform_filter1d(
    input: npt.ArrayLike,
    size: int,
    axis: int = -1,
    output: Output = None,
    mode: str = "reflect",
    cval: complex = 0.0,
    origin: int = 0,
    *,
    rounding: Rounding = "truncate",
    overflow: Overflow = "wrap",
    threads: int | None = None,
    mask: npt.ArrayLike | None = None,
    nan: Nan = "propagate",
) -> Array:
    """Replace each sample by the mean along one axis: `scipy.ndimage.uniform_filter1d`.

    Parameters
    ----------
    input, output, mode, cval, origin, rounding, overflow, threads, mask, nan
        As in `correlate`.
    size : int
        Number of samples, 1 or more.
    axis : int, optional
        The axis to filter.

    Returns
    -------
    ndarray
        The shape of the input; `output` itself where that is an array.

    Raises
    ------
    RuntimeError, ValueError, TypeError
        As `uniform_filter`.

    Examples
    --------
    >>> import numpy as np
    >>> import separable.ndimage as ndi
    >>> ndi.uniform_filter1d([1.0, 2.0, np.nan, 4.0, 5.0], 3, nan="omit")
    array([1.33333333, 1.5       , 3.        , 4.5       , 4.66666667])
    """
    how = how_to(rounding, overflow, threads, mask, nan)
    x = arguments.samples(input)
    cval = arguments.one_cval(cval, x)
    steps = _line_steps(x.ndim, axis, size, origin, mode, cval)
    target = arguments.target(output, x, is_complex=x.dtype.kind == "c", promote=True)
    return chain(steps, x, target, how)


@remembered
def _gaussian_steps(
    ndim: int,
    axes: Any,
    sigma: Any,
    order: Any,
    mode: Any,
    cval: complex,
    truncate: float,
    radius: Any,
    spacing: Any,
    tol: float | None,
) -> tuple[Step, ...]:
    where = arguments.filtered_axes(axes, ndim)
    return steps_of(Gaussian.along(where, sigma, order, mode, truncate, radius, spacing), cval, tol)


@remembered
def _gaussian_line(
    ndim: int,
    axis: Any,
    sigma: float,
    order: Any,
    mode: Any,
    cval: complex,
    truncate: float,
    radius: Any,
    spacing: Any,
    tol: float | None,
) -> tuple[Step, ...]:
    place = arguments.one_axis(axis, ndim)
    return steps_of([Gaussian.of(place, sigma, order, mode, truncate, radius, spacing)], cval, tol)


@remembered
def _box_steps(ndim: int, axes: Any, size: Any, origin: Any, mode: Any, cval: complex) -> tuple[Step, ...]:
    where = arguments.filtered_axes(axes, ndim)
    count = len(where)
    boxes = zip(
        where,
        arguments.each("size", size, count),
        arguments.each("origin", origin, count),
        arguments.modes(mode, count),
        strict=True,
    )
    # SciPy takes any real number for a size, and truncates it.
    sized = [(axis, int(arguments.real("size", length)), at, name) for axis, length, at, name in boxes]
    return _means([box for box in sized if box[1] > 1], cval)


@remembered
def _line_steps(ndim: int, axis: Any, size: Any, origin: Any, mode: Any, cval: complex) -> tuple[Step, ...]:
    place = arguments.one_axis(axis, ndim)
    length = arguments.whole("size", size)
    if length < 1:
        raise arguments.ArgumentError(f"incorrect filter size: `size` is {size}; expected 1 or more.")
    return _means([(place, length, origin, arguments.one_mode(mode))], cval)


def _means(boxes: list[tuple[int, int, int, str]], cval: complex) -> tuple[Step, ...]:
    """Return the steps that average over boxes, each an axis, a length, an origin and a mode."""
    if not boxes:
        return ()
    axes, sizes, given_origins, modes = zip(*boxes, strict=True)
    origins = tuple(map(arguments.check_origin, given_origins, sizes))
    given = {"mode": modes, "cval": cval, "origin": origins, "axes": axes}
    return (Step("uniform", sizes, given),)
