"""The verbs: correlate, convolve, gaussian, uniform. Each makes a plan, or finds it made, and runs it."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from . import _arguments as arguments
from . import families
from .kernel import SeparableKernel
from .plan import Request, cached_plan

Array: TypeAlias = npt.NDArray[Any]


def correlate(
    x: npt.ArrayLike,
    kernel_or_weights: SeparableKernel | npt.ArrayLike,
    *,
    mode: arguments.Mode = "reflect",
    cval: complex = 0.0,
    origin: arguments.Origin = 0,
    axes: arguments.Axes = None,
    output: arguments.Output = None,
    tol: float | None = None,
    method: arguments.Method = "auto",
    threads: int | None = None,
) -> Array:
    """Correlate `x` with a kernel: ``out[i] = sum_k w[k] x[i + k - n // 2 - origin]``.

    Shapes, boundary modes and origins mean what they mean in `scipy.ndimage.correlate`.

    Parameters
    ----------
    x : array_like
        Any number of dimensions, any strides; never written to. Computed in, and returned as:
        bool, 8- and 16-bit integers, float16 and float32 in float32; 32- and 64-bit integers and
        float64 in float64; complex64 and complex128 as they are.
    kernel_or_weights : SeparableKernel or array_like
        The kernel, with one axis for each filtered axis. Dense weights are real; they are factored
        first where that pays.
    mode : str or sequence of str, optional
        What `x` is beyond its ends, for all filtered axes or for each: ``"reflect"``
        (d c b a | a b c d | d c b a), ``"mirror"`` (d c b | a b c d | c b a), ``"nearest"``,
        ``"wrap"`` or ``"constant"`` (`cval`). ``"grid-mirror"``, ``"grid-wrap"`` and
        ``"grid-constant"`` are other names of the first and the last two.
    cval : float or complex, optional
        The value beyond the ends in mode ``"constant"``.
    origin : int or sequence of int, optional
        Moves the kernel's centre, in samples, for all filtered axes or for each:
        from ``-(n // 2)`` to ``(n - 1) // 2`` with n taps.
    axes : int or sequence of int, optional
        The axes to filter, in the order of the kernel's axes; all by default.
    output : ndarray, dtype or dtype name, optional
        An array of the shape of `x` to write into (it is returned, and must not share memory with
        `x`), or the dtype of the result. Integers are rounded to the nearest (halves to even) and
        saturated. A double-precision output makes the computation double-precision.
    tol : float, optional
        Relative l1 error allowed when dense weights are factored, 1e-6 by default: the result is
        then off by at most ``tol * sum(abs(weights)) * max(abs(x))``.
    method : {"auto", "separable", "direct"}, optional
        How to run: as a sum of separable terms, as one dense sweep, or the cheaper of the two.
    threads : int, optional
        Threads to use at most; by default SEPARABLE_NUM_THREADS, or all cores. The result does not
        depend on it.

    Returns
    -------
    ndarray
        The shape of `x`; `output` itself where that is an array.

    Raises
    ------
    ValueError
        An argument is out of its range, shapes do not fit, `output` overlaps `x`.
    TypeError
        A dtype that holds no real or complex numbers or is wider than float64; complex weights.

    Notes
    -----
    Sums are kept in the dtype computed in. With float32 the result is off from the exact one by at
    most ``(n + p) * 2**-24 * s * max(abs(x))`` to first order: n taps in the longest chain of
    passes, p passes and terms, and s the sum over terms of the products of ``sum(abs(taps))`` (for one
    term that is ``sum(abs(weights))``). For float64 the factor is ``2**-53``.

    Examples
    --------
    >>> import numpy as np, separable as sp
    >>> sp.correlate(np.array([0.0, 0.0, 1.0, 0.0, 0.0]), [1, 2, 3])
    array([0., 3., 2., 1., 0.])
    """
    return _filter(x, kernel_or_weights, mode, cval, origin, axes, output, tol, method, threads, False)


def convolve(
    x: npt.ArrayLike,
    kernel_or_weights: SeparableKernel | npt.ArrayLike,
    *,
    mode: arguments.Mode = "reflect",
    cval: complex = 0.0,
    origin: arguments.Origin = 0,
    axes: arguments.Axes = None,
    output: arguments.Output = None,
    tol: float | None = None,
    method: arguments.Method = "auto",
    threads: int | None = None,
) -> Array:
    """Convolve `x` with a kernel: correlate it with the kernel flipped along each axis.

    As `scipy.ndimage.convolve`: ``out[i] = sum_k w[k] x[i - k + n // 2 + origin]``, so that a single
    1 in `x` becomes a copy of the kernel centred on it, for even n too.

    Parameters
    ----------
    x, kernel_or_weights, mode, cval, origin, axes, output, tol, method, threads
        As in `correlate`.

    Returns
    -------
    ndarray
        The shape of `x`; `output` itself where that is an array.

    Raises
    ------
    ValueError, TypeError
        As `correlate`.

    Examples
    --------
    >>> import numpy as np, separable as sp
    >>> sp.convolve(np.array([0.0, 0.0, 1.0, 0.0, 0.0]), [1, 2, 3])
    array([0., 1., 2., 3., 0.])
    """
    return _filter(x, kernel_or_weights, mode, cval, origin, axes, output, tol, method, threads, True)


def _filter(
    x: npt.ArrayLike,
    kernel_or_weights: SeparableKernel | npt.ArrayLike,
    mode: arguments.Mode,
    cval: complex,
    origin: arguments.Origin,
    axes: arguments.Axes,
    output: arguments.Output,
    tol: float | None,
    method: str,
    threads: int | None,
    flip: bool,
) -> Array:
    source = x if type(x) is np.ndarray else arguments.input_array(x)
    dtype = arguments.working_dtype(source.dtype)
    if output is not None:
        dtype = arguments.promoted_dtype(dtype, output)
    request = Request(source.shape, dtype, mode, cval, origin, axes, tol, method, flip)
    return cached_plan(kernel_or_weights, request)(source, output, threads)


def gaussian(
    x: npt.ArrayLike,
    sigma: float | Sequence[float],
    *,
    order: int | Sequence[int] = 0,
    mode: arguments.Mode = "reflect",
    cval: complex = 0.0,
    truncate: float = 4.0,
    radius: int | Sequence[int] | None = None,
    axes: arguments.Axes = None,
    output: arguments.Output = None,
    threads: int | None = None,
) -> Array:
    """Filter `x` with a sampled Gaussian or one of its derivatives.

    Parameters
    ----------
    x : array_like
        As in `correlate`.
    sigma : float or sequence of float
        Standard deviation in samples, for all filtered axes or for each.
    order : int or sequence of int, optional
        Order of the derivative along all filtered axes or each; 0 smooths.
    mode, cval : optional
        As in `correlate`.
    truncate : float, optional
        The kernel ends at ``int(truncate * sigma + 0.5)`` samples from its centre.
    radius : int or sequence of int, optional
        Where it ends, instead of by `truncate`.
    axes, output, threads : optional
        As in `correlate`.

    Returns
    -------
    ndarray
        The shape of `x`; `output` itself where that is an array.

    Raises
    ------
    ValueError, TypeError
        As `correlate` and `families.gaussian`.

    Examples
    --------
    >>> import numpy as np, separable as sp
    >>> sp.gaussian(np.array([0.0, 0.0, 1.0, 0.0, 0.0]), 1, radius=1).round(3)
    array([0.   , 0.274, 0.452, 0.274, 0.   ])
    """
    source = x if type(x) is np.ndarray else arguments.input_array(x)
    count = len(arguments.filtered_axes(axes, source.ndim))
    kernel = _gaussian_kernel(
        _each("sigma", sigma, count),
        _each("order", order, count),
        truncate,
        None if radius is None else _each("radius", radius, count),
    )
    return _filter(source, kernel, mode, cval, 0, axes, output, None, "auto", threads, False)


@functools.lru_cache(maxsize=256)
def _gaussian_kernel(
    sigma: tuple[float, ...], order: tuple[int, ...], truncate: float, radius: tuple[int, ...] | None
) -> SeparableKernel:
    return families.gaussian(sigma, order=order, truncate=truncate, radius=radius)


def uniform(
    x: npt.ArrayLike,
    size: int | Sequence[int],
    *,
    mode: arguments.Mode = "reflect",
    cval: complex = 0.0,
    origin: arguments.Origin = 0,
    axes: arguments.Axes = None,
    output: arguments.Output = None,
    threads: int | None = None,
) -> Array:
    """Replace each sample by the mean of the box around it.

    Parameters
    ----------
    x : array_like
        As in `correlate`.
    size : int or sequence of int
        Length of the box in samples, along all filtered axes or each; an even box reaches one
        sample further back than forward.
    mode, cval, origin, axes, output, threads : optional
        As in `correlate`.

    Returns
    -------
    ndarray
        The shape of `x`; `output` itself where that is an array.

    Raises
    ------
    ValueError, TypeError
        As `correlate` and `families.box`.

    Examples
    --------
    >>> import numpy as np, separable as sp
    >>> sp.uniform(np.array([0.0, 0.0, 3.0, 0.0, 0.0]), 3)
    array([0., 1., 1., 1., 0.])
    """
    source = x if type(x) is np.ndarray else arguments.input_array(x)
    count = len(arguments.filtered_axes(axes, source.ndim))
    kernel = _box_kernel(_each("size", size, count))
    return _filter(source, kernel, mode, cval, origin, axes, output, None, "auto", threads, False)


@functools.lru_cache(maxsize=256)
def _box_kernel(size: tuple[int, ...]) -> SeparableKernel:
    return families.box(size)


def _each(name: str, value: Any, count: int) -> tuple[Any, ...]:
    """Return one value for each filtered axis."""
    if isinstance(value, (int, float)) or not np.iterable(value):  # the first answers in a tenth of the time
        return (value,) * count
    given = tuple(value)
    if len(given) != count:
        raise ValueError(f"`{name}={value!r}` has {len(given)} entries for {count} filtered axes.")
    if any(isinstance(entry, (list, np.ndarray)) for entry in given):
        raise ValueError(f"`{name}={value!r}` is nested; expected one number for each filtered axis.")
    return given
