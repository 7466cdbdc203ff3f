"""Derivatives: Sobel and Prewitt, Laplace and the gradient's magnitude, also by callables of the caller."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import families
from .._base.types import Array
from ..arrays.boundaries import is_padded
from ..arrays.output import Overflow, Rounding
from ..kernel.value import SeparableKernel
from . import _arguments as arguments
from ._arguments import Output, Target, remembered
from ._gaussian import Gaussian, pads_its_passes, product, steps_of
from ._parts import accumulator, length, parts_of, total
from ._repeated import outward, repeated
from ._run import How, Step, chain, copied, finish, how_to


@repeated
def sobel(
    input: npt.ArrayLike,
    axis: int = -1,
    output: Output = None,
    mode: Any = "reflect",
    cval: complex = 0.0,
    *,
    rounding: Rounding = "truncate",
    overflow: Overflow = "wrap",
    threads: int | None = None,
) -> Array:
    """Derive along one axis, smooth by [1, 2, 1] along the others: `scipy.ndimage.sobel`.

    Parameters
    ----------
    input, output, cval, rounding, overflow, threads
        As in `correlate`.
    axis : int, optional
        The axis of the derivative.
    mode : str or sequence of str, optional
        As in `correlate`, for all axes or for each.

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
    >>> edge = np.array([[0, 200, 10]], dtype=np.uint8)
    >>> ndi.sobel(edge, output=np.int16)
    array([[ 800,   40, -760]], dtype=int16)
    >>> ndi.sobel(edge, overflow="saturate")  # SciPy wraps around, and so does the default
    array([[255,  40,   0]], dtype=uint8)
    """
    how = how_to(rounding, overflow, threads)
    return _edges(families.sobel, input, axis, output, mode, cval, how)


@repeated
def prewitt(
    input: npt.ArrayLike,
    axis: int = -1,
    output: Output = None,
    mode: Any = "reflect",
    cval: complex = 0.0,
    *,
    rounding: Rounding = "truncate",
    overflow: Overflow = "wrap",
    threads: int | None = None,
) -> Array:
    """Derive along one axis, smooth by [1, 1, 1] along the others: `scipy.ndimage.prewitt`.

    Parameters
    ----------
    input, axis, output, mode, cval, rounding, overflow, threads
        As in `sobel`.

    Returns
    -------
    ndarray
        The shape of the input; `output` itself where that is an array.

    Raises
    ------
    RuntimeError, ValueError, TypeError
        As `sobel`.

    Examples
    --------
    >>> import numpy as np
    >>> import separable.ndimage as ndi
    >>> ramp = np.tile(np.arange(5.0), (5, 1))
    >>> ndi.prewitt(ramp)[2]
    array([3., 6., 6., 6., 3.])
    """
    how = how_to(rounding, overflow, threads)
    return _edges(families.prewitt, input, axis, output, mode, cval, how)


@repeated
def laplace(
    input: npt.ArrayLike,
    output: Output = None,
    mode: Any = "reflect",
    cval: complex = 0.0,
    *,
    axes: Any = None,
    rounding: Rounding = "truncate",
    overflow: Overflow = "wrap",
    threads: int | None = None,
) -> Array:
    """Sum the second differences along the axes: `scipy.ndimage.laplace`.

    Parameters
    ----------
    input, output, cval, rounding, overflow, threads
        As in `correlate`.
    mode, axes : optional
        As in `gaussian_filter`.

    Returns
    -------
    ndarray
        The shape of the input; `output` itself where that is an array.

    Raises
    ------
    RuntimeError, ValueError, TypeError
        As `sobel`.

    Examples
    --------
    >>> import numpy as np
    >>> import separable.ndimage as ndi
    >>> ndi.laplace(np.square(np.arange(8.0)))[1:-1]
    array([2., 2., 2., 2., 2., 2.])
    """
    how = how_to(rounding, overflow, threads)
    x = arguments.samples(input)
    cval = arguments.one_cval(cval, x)
    target = arguments.target(output, x, is_complex=x.dtype.kind == "c")
    return chain(_second_differences(x.ndim, axes, mode, cval), x, target, how)


@repeated
def gaussian_laplace(
    input: npt.ArrayLike,
    sigma: Any,
    output: Output = None,
    mode: Any = "reflect",
    cval: complex = 0.0,
    *,
    axes: Any = None,
    rounding: Rounding = "truncate",
    overflow: Overflow = "wrap",
    threads: int | None = None,
    spacing: Any = None,
    **kwargs: Any,
) -> Array:
    """Sum the second derivatives of a Gaussian along the axes: `scipy.ndimage.gaussian_laplace`.

    Parameters
    ----------
    input, output, cval, rounding, overflow, threads
        As in `correlate`.
    sigma : float or sequence of float
        Standard deviation in samples, for all filtered axes or for each. The taps are SciPy's, samples of the
        derivatives, which are off where sigma is below 0.7: `separable.families` corrects them.
    mode : str or sequence of str, optional
        As in `correlate`; of several, each is the mode of one axis's second derivative, smoothed in that
        same mode along all axes.
    axes : int or tuple of int, optional
        The axes to derive and to smooth along; all by default.
    spacing : optional
        As in `gaussian_filter`.
    **kwargs
        `truncate` and `radius`, as in `gaussian_filter`.

    Returns
    -------
    ndarray
        The shape of the input; `output` itself where that is an array.

    Raises
    ------
    RuntimeError, ValueError, TypeError
        As `sobel`.

    Examples
    --------
    >>> import numpy as np
    >>> import separable.ndimage as ndi
    >>> spot = np.zeros((33, 33))
    >>> spot[16, 16] = 1
    >>> answer = ndi.gaussian_laplace(spot, sigma=2)
    >>> tuple(int(place) for place in np.unravel_index(answer.argmin(), answer.shape))
    (16, 16)
    """
    how = how_to(rounding, overflow, threads)
    x = arguments.samples(input)
    cval = arguments.one_cval(cval, x)
    target = arguments.target(output, x, is_complex=x.dtype.kind == "c")
    parts = _laplacian(x.ndim, axes, sigma, mode, cval, spacing, *_reach(**kwargs))
    if len(parts) <= 1:
        return chain(parts[0] if parts else (), x, target, how)
    return finish(total(parts_of(parts, x, target, how)), target, how)


@outward
def gaussian_gradient_magnitude(
    input: npt.ArrayLike,
    sigma: Any,
    output: Output = None,
    mode: Any = "reflect",
    cval: complex = 0.0,
    *,
    axes: Any = None,
    rounding: Rounding = "truncate",
    overflow: Overflow = "wrap",
    threads: int | None = None,
    spacing: Any = None,
    **kwargs: Any,
) -> Array:
    """Return the length of the gradient of a Gaussian: `scipy.ndimage.gaussian_gradient_magnitude`.

    Parameters
    ----------
    input, sigma, output, mode, cval, axes, rounding, overflow, threads, spacing, **kwargs
        As in `gaussian_laplace`, for first derivatives.

    Returns
    -------
    ndarray
        The shape of the input; `output` itself where that is an array.

    Raises
    ------
    RuntimeError, ValueError, TypeError
        As `sobel`.

    Examples
    --------
    >>> import numpy as np
    >>> import separable.ndimage as ndi
    >>> step = np.zeros((32, 32))
    >>> step[:, 16:] = 1
    >>> edge = ndi.gaussian_gradient_magnitude(step, sigma=2)
    >>> int(edge[16].argmax()), bool(edge[16, 0] < 1e-9)
    (15, True)
    """
    how = how_to(rounding, overflow, threads)
    x = arguments.samples(input)
    cval = arguments.one_cval(cval, x)
    target = arguments.target(output, x, is_complex=x.dtype.kind == "c")
    parts = _gradient(x.ndim, axes, sigma, mode, cval, spacing, *_reach(**kwargs))
    if not parts:
        return copied(x, target, how)
    return finish(length(parts_of(parts, x, target, how), len(parts)), target, how)


@outward
def generic_laplace(
    input: npt.ArrayLike,
    derivative2: Callable[..., Any],
    output: Output = None,
    mode: Any = "reflect",
    cval: complex = 0.0,
    extra_arguments: Sequence[Any] = (),
    extra_keywords: Mapping[str, Any] | None = None,
    *,
    axes: Any = None,
    rounding: Rounding = "truncate",
    overflow: Overflow = "wrap",
) -> Array:
    """Sum the caller's second derivatives along the axes: `scipy.ndimage.generic_laplace`.

    Parameters
    ----------
    input, output, mode, cval
        As in `gaussian_filter`; passed on.
    derivative2 : callable
        Called as ``derivative2(input, axis, output, mode, cval, *extra_arguments, **extra_keywords)``; stores
        into `output` where that is an array and returns the result where it is a dtype. Where the result
        of the whole is to be integers, `output` is a float array, and the sum is rounded once.
    extra_arguments, extra_keywords : optional
        Further arguments of `derivative2`.
    axes : int or tuple of int, optional
        The axes to derive along; all by default.
    rounding, overflow : optional
        As in `correlate`.

    Returns
    -------
    ndarray
        The shape of the input; `output` itself where that is an array.

    Raises
    ------
    RuntimeError, ValueError, TypeError
        As `sobel`.

    Examples
    --------
    >>> import numpy as np
    >>> import separable.ndimage as ndi
    >>> def second(input, axis, output, mode, cval):
    ...     return ndi.correlate1d(input, [1, -2, 1], axis, output, mode, cval)
    >>> bowl = np.square(np.arange(8.0))
    >>> ndi.generic_laplace(bowl, second)[1:-1]
    array([2., 2., 2., 2., 2., 2.])
    """
    how = how_to(rounding, overflow)
    x = arguments.samples(input)
    target = arguments.target(output, x, is_complex=False)
    parts, count = _of_the_caller(derivative2, x, axes, target, mode, cval, extra_arguments, extra_keywords)
    return finish(total(parts), target, how) if count else copied(x, target, how)


@outward
def generic_gradient_magnitude(
    input: npt.ArrayLike,
    derivative: Callable[..., Any],
    output: Output = None,
    mode: Any = "reflect",
    cval: complex = 0.0,
    extra_arguments: Sequence[Any] = (),
    extra_keywords: Mapping[str, Any] | None = None,
    *,
    axes: Any = None,
    rounding: Rounding = "truncate",
    overflow: Overflow = "wrap",
) -> Array:
    """Return the length of the caller's gradient: `scipy.ndimage.generic_gradient_magnitude`.

    Parameters
    ----------
    input, output, mode, cval, extra_arguments, extra_keywords, axes, rounding, overflow
        As in `generic_laplace`.
    derivative : callable
        Called as `derivative2` there, for first derivatives.

    Returns
    -------
    ndarray
        The shape of the input; `output` itself where that is an array.

    Raises
    ------
    RuntimeError, ValueError, TypeError
        As `sobel`.

    Examples
    --------
    >>> import numpy as np
    >>> import separable.ndimage as ndi
    >>> slope = np.tile(3.0 * np.arange(8), (8, 1))
    >>> ndi.generic_gradient_magnitude(slope, ndi.sobel)[4, 1:7] / 8
    array([3., 3., 3., 3., 3., 3.])
    """
    how = how_to(rounding, overflow)
    x = arguments.samples(input)
    target = arguments.target(output, x, is_complex=False)
    parts, count = _of_the_caller(derivative, x, axes, target, mode, cval, extra_arguments, extra_keywords)
    return finish(length(parts, count), target, how) if count else copied(x, target, how)


def _of_the_caller(
    derivative: Callable[..., Any],
    x: Array,
    axes: Any,
    target: Target,
    mode: Any,
    cval: complex,
    extra_arguments: Sequence[Any],
    extra_keywords: Mapping[str, Any] | None,
) -> tuple[Iterator[Array], int]:
    """Return the derivatives along each axis, the first in the accumulator; and their number."""
    where = arguments.filtered_axes(axes, x.ndim)
    names = arguments.each("mode", mode, len(where))

    def derivatives() -> Iterator[Array]:
        first = accumulator(x, target)
        for number, (axis, name) in enumerate(zip(where, names, strict=True)):
            output = first.dtype if number else first
            values = derivative(x, axis, output, name, cval, *extra_arguments, **(extra_keywords or {}))
            yield values if number else first

    return derivatives(), len(where)


def _edges(
    family: Callable[[int, int], SeparableKernel],
    input: npt.ArrayLike,
    axis: int,
    output: Output,
    mode: Any,
    cval: complex,
    how: How,
) -> Array:
    x = arguments.samples(input)
    cval = arguments.one_cval(cval, x)
    steps = _edge_steps(family, x.ndim, axis, mode, cval)
    target = arguments.target(output, x, is_complex=x.dtype.kind == "c")
    return chain(steps, x, target, how)


@remembered
def _edge_steps(
    family: Callable[[int, int], SeparableKernel], ndim: int, axis: Any, mode: Any, cval: complex
) -> tuple[Step, ...]:
    place = arguments.one_axis(axis, ndim)
    modes = arguments.modes(mode, ndim)
    kernel = family(place, ndim)
    others = [other for other in range(ndim) if other != place]
    if cval == 0 or not any(is_padded(modes[other]) for other in others):
        return (Step("correlate", kernel, {"mode": modes, "cval": cval}),)
    # As for derivatives of Gaussians: SciPy pads the result of every pass with `cval`.
    return tuple(
        Step("correlate", kernel.terms[0][at], {"axes": (at,), "mode": modes[at], "cval": cval})
        for at in [place, *others]
    )


@remembered
def _second_differences(ndim: int, axes: Any, mode: Any, cval: complex) -> tuple[Step, ...]:
    """Return the step that sums the second differences [1, -2, 1] along each axis."""
    where = arguments.filtered_axes(axes, ndim)
    names = arguments.modes(mode, len(where))
    if not where:
        return ()
    count = len(where)
    weights = np.zeros((3,) * count)
    centre = (1,) * count
    weights[centre] = -2 * count
    for axis in range(count):
        for end in (0, 2):
            weights[(*centre[:axis], end, *centre[axis + 1 :])] = 1
    return (Step("correlate", weights, {"mode": names, "cval": cval, "axes": where, "method": "direct"}),)


def _reach(truncate: float = 4.0, *, radius: Any = None) -> tuple[float, Any]:
    """Return the further keywords of a Gaussian's derivatives."""
    return truncate, radius


@remembered
def _gradient(
    ndim: int, axes: Any, sigma: Any, mode: Any, cval: complex, spacing: Any, truncate: float, radius: Any
) -> tuple[tuple[Step, ...], ...]:
    parts = _derivatives(1, ndim, axes, sigma, mode, spacing, truncate, radius)
    return tuple(steps_of(part, cval) for part in parts)


@remembered
def _laplacian(
    ndim: int, axes: Any, sigma: Any, mode: Any, cval: complex, spacing: Any, truncate: float, radius: Any
) -> tuple[tuple[Step, ...], ...]:
    """Return the steps of each second derivative, or of one kernel that is their sum."""
    parts = _derivatives(2, ndim, axes, sigma, mode, spacing, truncate, radius)
    one_mode = len({kernel.mode for part in parts for kernel in part}) == 1
    if not one_mode or any(pads_its_passes(part, cval) for part in parts):
        return tuple(steps_of(part, cval) for part in parts)
    kernel = SeparableKernel([term for part in parts for term in product(part).terms])
    where = tuple(kernel.axis for kernel in parts[0])
    return ((Step("correlate", kernel, {"mode": parts[0][0].mode, "cval": cval, "axes": where}),),)


def _derivatives(
    order: int, ndim: int, axes: Any, sigma: Any, mode: Any, spacing: Any, truncate: float, radius: Any
) -> list[list[Gaussian]]:
    """Return for each axis the Gaussians that derive along it and smooth along the others."""
    where = arguments.filtered_axes(axes, ndim)
    orders = [[order * (other == axis) for other in where] for axis in where]
    return [
        Gaussian.along(where, sigma, axis_orders, name, truncate, radius, spacing)
        for axis_orders, name in zip(orders, arguments.modes(mode, len(where)), strict=True)
    ]
