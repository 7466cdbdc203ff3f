"""Filters with a kernel that the caller gives: correlate, convolve, and both along one axis."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .._base.caches import kept
from .._base.types import Array
from ..arrays.arguments import Method, input_array
from ..arrays.masks import Nan
from ..arrays.output import Overflow, Rounding
from ..factor import factor
from . import _arguments as arguments
from ._arguments import Output, Target, remembered
from ._repeated import repeated
from ._run import How, Step, Verb, complex_weights, copied, how_to, run


@repeated
def correlate(
    input: npt.ArrayLike,
    weights: npt.ArrayLike,
    output: Output = None,
    mode: str = "reflect",
    cval: complex = 0.0,
    origin: Any = 0,
    *,
    axes: Any = None,
    rounding: Rounding = "truncate",
    overflow: Overflow = "wrap",
    tol: float = 0.0,
    threads: int | None = None,
    mask: npt.ArrayLike | None = None,
    nan: Nan = "propagate",
    method: Method = None,
) -> Array:
    """Correlate an array with a kernel: `scipy.ndimage.correlate`.

    Parameters
    ----------
    input : array_like
        Real or complex, any dtype of numbers, any number of dimensions; never written to, unless
        it is the output as well.
    weights : array_like
        The kernel, with one axis for each filtered axis. Complex weights are conjugated.
    output : ndarray or dtype, optional
        Where to store the result (it may overlap the input), or its dtype: that of the input by default.
    mode : str, optional
        What the input is beyond its ends: ``"reflect"``, ``"mirror"``, ``"nearest"``, ``"wrap"``,
        ``"constant"`` or a synonym that starts with ``"grid-"``.
    cval : scalar, optional
        The value beyond the ends in mode ``"constant"``.
    origin : int or sequence of int, optional
        Moves the kernel's centre, in samples.
    axes : int or tuple of int, optional
        The axes to filter; all by default. As in SciPy the kernel's axes go to them in ascending
        order, and an origin to the axis at its own place.
    rounding : {"truncate", "nearest"}, optional
        How values are stored as integers: towards zero as SciPy does, or halves to even.
    overflow : {"wrap", "saturate"}, optional
        What becomes of values outside an integer's range: modulo ``2**bits`` as in SciPy, or its ends.
    tol : float, optional
        Relative l1 error allowed when the weights are factored; 0 allows rounding errors alone.
    threads : int, optional
        Threads to use at most; all cores by default. The result does not depend on it.
    mask : array_like of bool, optional
        Which samples are known, in a shape that broadcasts to that of the input. Results are sums over the
        known samples in reach, divided by the sum of their weights and multiplied by that of all; NaN, and 0
        in integers, where none is known. The weights must be >= 0.
    nan : {"propagate", "omit"}, optional
        Whether NaN spoils every result in reach, or counts as unknown.
    method : {None, "auto", "separable", "direct", "box", "recursive", "cascade", "fft"}, optional
        How to run. By default the fastest way whose results are negative, or not 0, only where sums of
        products can be, as SciPy's are, unless a `tol` > 0 is given; ``"auto"`` takes the fastest, and the
        others are those of `separable.correlate`.

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
    >>> import separable.ndimage as ndi
    >>> ndi.correlate([2, 8, 0, 4, 1, 9, 9, 0], [1, 3])
    array([ 8, 26,  8, 12,  7, 28, 36,  9])
    """
    how = how_to(rounding, overflow, threads, mask, nan, method)
    x, taps, is_complex = _operands("correlate", input, weights)
    target = arguments.target(output, x, is_complex=is_complex, promote=True)
    return _filtered("correlate", x, taps, target, mode, cval, origin, axes, tol, how)


@repeated
def convolve(
    input: npt.ArrayLike,
    weights: npt.ArrayLike,
    output: Output = None,
    mode: str = "reflect",
    cval: complex = 0.0,
    origin: Any = 0,
    *,
    axes: Any = None,
    rounding: Rounding = "truncate",
    overflow: Overflow = "wrap",
    tol: float = 0.0,
    threads: int | None = None,
    mask: npt.ArrayLike | None = None,
    nan: Nan = "propagate",
    method: Method = None,
) -> Array:
    """Convolve an array with a kernel: `scipy.ndimage.convolve`.

    Parameters
    ----------
    input, weights, output, mode, cval, origin, axes, rounding, overflow, tol, threads, mask, nan, method
        As in `correlate`; complex weights are not conjugated.

    Returns
    -------
    ndarray
        The shape of the input; `output` itself where that is an array.

    Raises
    ------
    RuntimeError, ValueError, TypeError
        As `correlate`.

    Examples
    --------
    >>> import separable.ndimage as ndi
    >>> ndi.convolve([2, 8, 0, 4, 1, 9, 9, 0], [1, 3])
    array([14, 24,  4, 13, 12, 36, 27,  0])
    """
    how = how_to(rounding, overflow, threads, mask, nan, method)
    x, taps, is_complex = _operands("convolve", input, weights)
    target = arguments.target(output, x, is_complex=is_complex, promote=True)
    return _filtered("convolve", x, taps, target, mode, cval, origin, axes, tol, how)


@repeated
def correlate1d(
    input: npt.ArrayLike,
    weights: npt.ArrayLike,
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
    method: Method = None,
) -> Array:
    """Correlate an array with taps along one axis: `scipy.ndimage.correlate1d`.

    Parameters
    ----------
    input : array_like
        As in `correlate`.
    weights : array_like
        The taps, 1-D. Complex taps are conjugated.
    axis : int, optional
        The axis to filter.
    output, mode, cval, origin, rounding, overflow, threads, mask, nan, method
        As in `correlate`.

    Returns
    -------
    ndarray
        The shape of the input; `output` itself where that is an array.

    Raises
    ------
    RuntimeError, ValueError, TypeError
        As `correlate`.

    Examples
    --------
    >>> import numpy as np
    >>> import separable.ndimage as ndi
    >>> ndi.correlate1d([0.0, 0.0, 1.0, 0.0, 0.0], [1, 2, 3])
    array([0., 3., 2., 1., 0.])
    >>> ndi.correlate1d(np.eye(3), [1, 1, 1], axis=0, mode="constant")
    array([[1., 1., 0.],
           [1., 1., 1.],
           [0., 1., 1.]])
    """
    how = how_to(rounding, overflow, threads, mask, nan, method)
    x, taps, is_complex = _operands("correlate", input, weights)
    target = arguments.target(output, x, is_complex=is_complex, promote=True)
    return _filtered_line("correlate", x, taps, target, mode, cval, origin, axis, how)


@repeated
def convolve1d(
    input: npt.ArrayLike,
    weights: npt.ArrayLike,
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
    method: Method = None,
) -> Array:
    """Convolve an array with taps along one axis: `scipy.ndimage.convolve1d`.

    Parameters
    ----------
    input, weights, axis, output, mode, cval, origin, rounding, overflow, threads, mask, nan, method
        As in `correlate1d`; complex taps are not conjugated.

    Returns
    -------
    ndarray
        The shape of the input; `output` itself where that is an array.

    Raises
    ------
    RuntimeError, ValueError, TypeError
        As `correlate`.

    Examples
    --------
    >>> import numpy as np
    >>> import separable.ndimage as ndi
    >>> ndi.convolve1d([0.0, 0.0, 1.0, 0.0, 0.0], [1, 2, 3])
    array([0., 1., 2., 3., 0.])
    """
    how = how_to(rounding, overflow, threads, mask, nan, method)
    x, taps, is_complex = _operands("convolve", input, weights)
    target = arguments.target(output, x, is_complex=is_complex, promote=True)
    return _filtered_line("convolve", x, taps, target, mode, cval, origin, axis, how)


def _operands(verb: Verb, input: npt.ArrayLike, weights: npt.ArrayLike) -> tuple[Array, Array, bool]:
    """Return samples, weights (a correlation conjugates them), and whether the result is complex."""
    taps = weights if type(weights) is np.ndarray else input_array(weights, "weights")
    if verb == "correlate" and taps.dtype.kind == "c":
        taps = taps.conj()
    x = arguments.samples(input)
    return x, taps, "c" in x.dtype.kind + taps.dtype.kind


def _filtered(
    verb: Verb,
    x: Array,
    weights: Array,
    target: Target,
    mode: str,
    cval: complex,
    origin: Any,
    axes: Any,
    tol: float,
    how: How,
) -> Array:
    if 0 in weights.shape:
        raise arguments.ArgumentError(
            f"`weights` has shape {weights.shape}; expected one on each axis or more."
        )
    cval = _cval(cval, x, weights)
    given = _given(x.ndim, axes, weights.shape, origin, mode, cval, tol)
    if not weights.ndim:
        return copied(np.asarray(x * weights), target, how)
    chosen = how["method"] in (None, "auto")
    if (
        chosen
        and target.dtype.kind in "biu"
        and how["rounding"] == "truncate"
        and not _factors_exactly(weights)
    ):
        how = {**how, "method": "direct"}
    return _either(Step(verb, weights, given), x, target, how)


@remembered
def _given(
    ndim: int, axes: Any, shape: tuple[int, ...], origin: Any, mode: Any, cval: complex, tol: float
) -> dict[str, Any]:
    """Return the keywords of a verb for a kernel whose axes are the filtered ones in ascending order."""
    where = arguments.filtered_axes(axes, ndim)
    if len(shape) != len(where):
        raise arguments.ArgumentError(f"weights.ndim ({len(shape)}) must match len(axes) ({len(where)}).")
    places = dict(zip(where, arguments.each("origin", origin, len(where)), strict=True))
    ascending = tuple(sorted(where))
    origins = tuple(
        arguments.check_origin(places[axis], taps) for axis, taps in zip(ascending, shape, strict=True)
    )
    name = arguments.one_mode(mode)
    return {"mode": name, "cval": cval, "tol": tol, "origin": origins, "axes": ascending}


def _filtered_line(
    verb: Verb,
    x: Array,
    weights: Array,
    target: Target,
    mode: str,
    cval: complex,
    origin: int,
    axis: int,
    how: How,
) -> Array:
    if weights.ndim != 1 or weights.size == 0:
        raise arguments.ArgumentError(
            f"no filter weights given: `weights` has shape {weights.shape}; expected 1-D taps, one or more."
        )
    cval = _cval(cval, x, weights)
    given = _given_line(x.ndim, axis, weights.size, origin, mode, cval)
    return _either(Step(verb, weights, given), x, target, how)


@remembered
def _given_line(ndim: int, axis: Any, taps: int, origin: Any, mode: Any, cval: complex) -> dict[str, Any]:
    place, at = arguments.one_axis(axis, ndim), arguments.check_origin(origin, taps)
    return {"mode": arguments.one_mode(mode), "cval": cval, "axes": (place,), "origin": (at,)}


def _cval(cval: Any, x: Array, weights: Array) -> complex:
    if weights.dtype.kind == "c" and x.dtype.kind != "c" and np.iscomplexobj(cval):
        raise ValueError("Cannot provide a complex-valued cval when the input is real.")
    return arguments.one_cval(cval, x)


def _either(step: Step, x: Array, target: Target, how: How) -> Array:
    """Return the result of a step with real or complex weights."""
    if step.kernel.dtype.kind != "c":
        return run(step, x, target, how)
    return complex_weights(step, x, target, how)


def _factors_exactly(weights: Array) -> bool:
    """Return whether the factored taps are exact, or the sums are rounded anyway.

    A sum of integers times integer weights is an integer; computed through inexact taps it may come out a
    little smaller, which truncation would turn into one less.
    """
    if weights.ndim < 2 or weights.dtype.kind == "c" or not np.array_equal(weights, np.rint(weights)):
        return True
    return _has_integer_taps(weights.astype(np.float64).tobytes(), weights.shape)


@kept
def _has_integer_taps(data: bytes, shape: tuple[int, ...]) -> bool:
    kernel = factor(np.frombuffer(data).reshape(shape), tol=0)
    return kernel.rank == 1 and kernel.error.l1 == 0
