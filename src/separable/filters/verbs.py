"""The verbs: correlate, convolve, gaussian, uniform. Each runs a plan from the cache."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from .. import families
from .._base.caches import kept
from .._base.types import Array
from ..arrays import arguments
from ..arrays import masks as masking
from ..arrays import output as storing
from ..arrays.boundaries import is_padded
from ..arrays.decorators import verb
from ..families._gaussians import width_of
from ..kernel.value import SeparableKernel
from .bank import Bank
from .cache import DenseKey, cached_plan, parts_plan
from .core import pairs_of
from .plan import CACHED_WEIGHTS
from .request import Request

# mode, cval, origin, axes, tol, method, whether to flip the kernel; and rounding, overflow, mask, nan
_Asked: TypeAlias = tuple[
    arguments.Mode, complex, arguments.Origin, arguments.Axes, float | None, arguments.Method, bool
]
_new: Final = tuple.__new__
_Stored: TypeAlias = tuple[storing.Rounding, storing.Overflow, npt.ArrayLike | None, masking.Nan]


@verb
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
    rounding: storing.Rounding = "nearest",
    overflow: storing.Overflow = "saturate",
    mask: npt.ArrayLike | None = None,
    nan: masking.Nan = "propagate",
    channel_axis: int | None = None,
) -> Array:
    """Correlate `x` with a kernel: ``out[i] = sum_k w[k] x[i + k - n // 2 - origin]``.

    Shapes, boundary modes and origins mean what they mean in `scipy.ndimage.correlate`.

    Parameters
    ----------
    x : array_like
        Any number of dimensions, any strides; never written to. All axes are filtered; a colour image
        takes ``channel_axis=-1``. Computed in, and returned as:
        bool, 8- and 16-bit integers, float16 and float32 in float32; 32- and 64-bit integers and
        float64 in float64; complex64 and complex128 as they are.
    kernel_or_weights : SeparableKernel or array_like
        The kernel, with one axis for each filtered axis. Dense weights are factored first where that
        pays. Complex ones are conjugated, as `scipy.ndimage.correlate` does, and filter by parts.
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
        `x`), or the dtype of the result. A double-precision output makes the computation
        double-precision.
    tol : float, optional
        Relative l1 error allowed when dense weights are factored, 1e-6 by default: the result is
        then off by at most ``tol * sum(abs(weights)) * max(abs(x))``.
    method : {"auto", "separable", "direct", "box", "recursive", "cascade", "fft"} or None, optional
        How to run: as a sum of separable terms, as one dense sweep, by running sums (equal taps only),
        as a sum of cosines within `tol` (1e-3 where that is not given), as a short kernel and few weights in
        sequence (within `tol`, too), by Fourier transforms of blocks, or the cheapest of them (`plan` says
        which, and why). Cosines and sequences approximate: they are chosen only where `tol` is given, and
        sequences, which take a search of up to seconds, only by `plan` or by name. Transforms round relative
        to the largest samples of their block, and are not chosen where sums of whole numbers are exact.
        None takes the cheapest whose results are negative, or not 0, only where sums of products can be, as
        long as no `tol` > 0 is given: terms that do not cancel, and transforms with their results mended.
    threads : int, optional
        Threads to use at most; by default SEPARABLE_NUM_THREADS, or all cores, but one in a task of Dask,
        beside which others run. The result does not depend on it.
    rounding : {"nearest", "truncate"}, optional
        How results are stored in integers: rounded to the nearest (halves to the even), or towards 0.
        There is one rounding, at the end. Where the arithmetic is exact (taps that are whole numbers
        times a power of two, on whole numbers whose sums stay below 2**24 in float32 or 2**53 in
        float64) truncation is plain; elsewhere a value that its rounding error may keep from a whole
        number is taken for that. Nothing is moved by more than a quarter: where errors could be larger,
        sums are taken in float64, or kept within what the samples allow. A constant image keeps its value,
        and a flat part of an image its own, with either rounding and whatever overflows.
    overflow : {"saturate", "wrap"}, optional
        What becomes of results outside the range of an integer output: its nearest end, or the value
        modulo ``2**bits``.
    mask : array_like of bool, optional
        Which samples are known, in a shape that broadcasts to that of `x`: where it is False, `x` is
        ignored. Results are sums over the known samples in reach, divided by the sum of their weights and
        multiplied by that of all (normalised convolution), for kernels of weights >= 0. Outside the array
        the mask continues as `x` does; `cval` is known. Where nothing in reach is known the result is
        NaN, in integers 0; where all is, it is that of the plain filter. A kernel that is a sum of several
        terms runs directly.
    nan : {"propagate", "omit"}, optional
        Whether NaN spoils all results in reach, or counts as unknown: in `x`, and as the `cval` of mode
        ``"constant"``, so that what lies outside is left out.
    channel_axis : int, optional
        The axis that holds channels, such as -1 in a colour image of shape ``(rows, columns, 3)``: each
        channel is filtered by itself. The kernel has one axis for each of the others, or for each of `axes`,
        which count all axes of `x` and leave this one out. By default every axis is filtered.

    Returns
    -------
    ndarray
        The shape of `x`; `output` itself where that is an array.

    Raises
    ------
    ValueError
        An argument is out of its range, shapes do not fit, `output` overlaps `x`.
    TypeError
        A dtype that holds no real or complex numbers or is wider than float64; complex results for a
        real `output`.

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
    if channel_axis is not None:
        x = arguments.input_array(x)
        axes = arguments.axes_beside(channel_axis, axes, x.ndim)
    asked = (mode, cval, origin, axes, tol, method, False)
    return _run(x, kernel_or_weights, asked, output, threads, (rounding, overflow, mask, nan))


@verb
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
    rounding: storing.Rounding = "nearest",
    overflow: storing.Overflow = "saturate",
    mask: npt.ArrayLike | None = None,
    nan: masking.Nan = "propagate",
    channel_axis: int | None = None,
) -> Array:
    """Convolve `x` with a kernel: correlate it with the kernel flipped along each axis.

    As `scipy.ndimage.convolve`: ``out[i] = sum_k w[k] x[i - k + n // 2 + origin]``, so that a single
    1 in `x` becomes a copy of the kernel centred on it, for even n too.

    Parameters
    ----------
    x, kernel_or_weights, mode, cval, origin, axes, output, tol, method, threads
        As in `correlate`, but that complex weights are not conjugated.
    rounding, overflow, mask, nan, channel_axis
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
    if channel_axis is not None:
        x = arguments.input_array(x)
        axes = arguments.axes_beside(channel_axis, axes, x.ndim)
    asked = (mode, cval, origin, axes, tol, method, True)
    return _run(x, kernel_or_weights, asked, output, threads, (rounding, overflow, mask, nan))


def _run(
    x: npt.ArrayLike,
    kernel_or_weights: SeparableKernel | npt.ArrayLike,
    asked: _Asked,
    output: arguments.Output,
    threads: int | None,
    stored: _Stored,
) -> Array:
    """Return the array filtered by its plan, from the cache or new."""
    source = x if type(x) is np.ndarray else arguments.input_array(x)
    mode, cval, origin, axes, tol, method, flip = asked
    along = axes is None or type(axes) is int
    if not (along and type(mode) is str and type(cval) is float and type(origin) is int and tol is None):
        asked = (*arguments.plain(mode, cval, origin, axes, tol, source.dtype), method, flip)
    if not isinstance(kernel_or_weights, SeparableKernel):
        if type(kernel_or_weights) is not np.ndarray:
            kernel_or_weights = arguments.input_array(kernel_or_weights, "kernel_or_weights")
        if kernel_or_weights.dtype.kind == "c":
            return _run_parts(source, kernel_or_weights, asked, output, threads, stored)
    rounding, overflow, mask, nan = stored
    dtype, known, integers = arguments.working_dtype(source.dtype), None, None
    if output is not None:
        wanted = arguments.output_dtype(output)
        dtype = arguments.stored_in(dtype, wanted)
        if wanted.kind in "biu":
            integers = source.dtype, wanted, rounding
    if mask is not None or nan != "propagate":
        known = masking.known_of(source, mask, nan, asked[1] if is_padded(asked[0]) else None)
    integer = source.dtype.kind in "biu"
    # `tuple.__new__` takes a third of the time of the NamedTuple's constructor.
    request = _new(Request, (source.shape, dtype, *asked, integer, False, None, known is not None, integers))
    return cached_plan(kernel_or_weights, request).run(source, output, threads, rounding, overflow, known)  # type: ignore[arg-type]


def _run_parts(
    x: Array,
    weights: Array,
    asked: _Asked,
    output: arguments.Output,
    threads: int | None,
    stored: _Stored,
) -> Array:
    """Return the array filtered with complex weights, by real and imaginary part (correlation conjugates)."""
    _, _, mask, nan = stored
    if mask is not None or nan != "propagate":
        raise ValueError(
            "with `mask` or nan='omit' sums are divided by weights >= 0, but the weights are complex; "
            "fill what is unknown, or filter by parts."
        )
    dtype = arguments.working_dtype(x.dtype)
    if output is not None:
        dtype = arguments.promoted_dtype(dtype, output)
    complex_dtype = np.promote_types(dtype, np.complex64)
    result = arguments.output_array(
        complex_dtype if output is None else output, x, x.shape, np.dtype(complex_dtype)
    )
    imaginary = weights.imag if asked[-1] else -weights.imag
    bank = _together(x, weights.real + 1j * imaginary, dtype, asked)
    if bank is not None and dtype.kind == "c":
        first, second = bank(x, None, threads)
        np.add(first, 1j * second, out=result, casting="same_kind")
        return result
    if bank is not None:
        bank(x, np.moveaxis(pairs_of(result), -1, 0), threads)
        return result
    if dtype.kind == "c":
        first = _run(x, weights.real, asked, dtype, threads, stored)
        second = _run(x, imaginary, asked, dtype, threads, stored)
        np.add(first, 1j * second, out=result, casting="same_kind")
    else:
        _run(x, weights.real, asked, result.real, threads, stored)
        _run(x, imaginary, asked, result.imag, threads, stored)
    return result


def _together(x: Array, weights: Array, dtype: np.dtype[Any], asked: _Asked) -> Bank | None:
    """Return the bank of both parts of complex weights; None unless they share passes."""
    if weights.size > CACHED_WEIGHTS:
        return None
    try:
        request = Request(x.shape, dtype, *asked, x.dtype.kind in "biu").hashable()
        return parts_plan(DenseKey(weights.tobytes(), weights.shape, weights.dtype.str), request)
    except TypeError:  # an argument that does not hash raises where the parts are filtered
        return None


@verb
def gaussian(
    x: npt.ArrayLike,
    sigma: float | Sequence[float] | None = None,
    *,
    order: int | Sequence[int] = 0,
    mode: arguments.Mode = "reflect",
    cval: complex = 0.0,
    truncate: float = 4.0,
    radius: int | Sequence[int] | None = None,
    axes: arguments.Axes = None,
    spacing: float | Sequence[float] | None = None,
    output: arguments.Output = None,
    tol: float | None = None,
    method: arguments.Method = "auto",
    threads: int | None = None,
    rounding: storing.Rounding = "nearest",
    overflow: storing.Overflow = "saturate",
    mask: npt.ArrayLike | None = None,
    nan: masking.Nan = "propagate",
    channel_axis: int | None = None,
    fwhm: float | Sequence[float] | None = None,
) -> Array:
    """Filter `x` with a sampled Gaussian or one of its derivatives.

    Along all axes: a colour image of shape ``(rows, columns, 3)`` takes ``channel_axis=-1``.

    Parameters
    ----------
    x : array_like
        As in `correlate`.
    sigma : float or sequence of float
        Standard deviation for all filtered axes or for each, in samples or, with `spacing`, in its units.
    order : int or sequence of int, optional
        Order of the derivative along all filtered axes or each; 0 smooths. A derivative of order n is exact
        on polynomials up to the n-th degree, however small sigma is.
    mode, cval : optional
        As in `correlate`.
    truncate : float, optional
        The kernel ends at ``int(truncate * sigma + 0.5)`` samples from its centre; a derivative's reaches as
        far as its order at least.
    radius : int or sequence of int, optional
        Where it ends in samples, instead of by `truncate`.
    spacing : float or sequence of float, optional
        Length of a sample along all filtered axes or each, in the units of `sigma`: a voxel's edge in
        millimetres, say. Derivatives are then taken by those units too.
    fwhm : float or sequence of float, optional
        Full width at half maximum, instead of `sigma` and as that: ``2 * sqrt(2 * log(2))`` times as much.
    tol : float, optional
        Relative l1 error allowed, such as 1e-3 or 1e-5: the result is then off by at most
        ``tol * sum(abs(weights)) * max(abs(x))``, and wide Gaussians take the time of narrow ones.
        Without it the taps are those of the Gaussian.
    axes, output, method, threads, rounding, overflow, mask, nan, channel_axis : optional
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
    >>> photo = np.zeros((60, 80, 3), np.float32)  # red, green, blue along the last axis
    >>> sp.gaussian(photo, 2, channel_axis=-1).shape
    (60, 80, 3)
    """
    source = x if type(x) is np.ndarray else arguments.input_array(x)
    if channel_axis is not None:
        axes = arguments.axes_beside(channel_axis, axes, source.ndim)
    count = (axes is None and source.ndim) or count_axes(axes, source.ndim)
    kernel = gaussian_of(count, sigma, fwhm, order, truncate, radius, spacing)
    asked = (mode, cval, 0, axes, tol, method, False)
    return _run(source, kernel, asked, output, threads, (rounding, overflow, mask, nan))


def gaussian_of(
    count: int,
    sigma: float | Sequence[float] | None,
    fwhm: float | Sequence[float] | None,
    order: int | Sequence[int],
    truncate: float,
    radius: int | Sequence[int] | None,
    spacing: float | Sequence[float] | None,
) -> SeparableKernel:
    """Return the Gaussian that is asked for along so many axes."""
    if fwhm is not None or sigma is None:
        sigma = width_of(sigma, fwhm)
    return _gaussian_kernel(
        arguments.reals("sigma", sigma, count),
        arguments.wholes("order", order, count),
        truncate if type(truncate) is float else arguments.reals("truncate", truncate, 1)[0],
        None if radius is None else arguments.wholes("radius", radius, count),
        None if spacing is None else arguments.reals("spacing", spacing, count),
    )


@kept
def _gaussian_kernel(
    sigma: tuple[float, ...],
    order: tuple[int, ...],
    truncate: float,
    radius: tuple[int, ...] | None,
    spacing: tuple[float, ...] | None,
) -> SeparableKernel:
    """Return the Gaussian with these entries for each filtered axis."""
    if spacing is None:
        return families.gaussian(sigma, order=order, truncate=truncate, radius=radius)
    for axis, length in enumerate(spacing):
        if not 0 < length < math.inf:
            raise ValueError(f"`spacing[{axis}]={length!r}` is not a length; expected a positive number.")
    samples = tuple(width / length for width, length in zip(sigma, spacing, strict=True))
    kernel = families.gaussian(samples, order=order, truncate=truncate, radius=radius)
    (taps,) = kernel.terms
    scaled = [line / length**n for line, length, n in zip(taps, spacing, order, strict=True)]
    return SeparableKernel([scaled])


@verb
def uniform(
    x: npt.ArrayLike,
    size: int | Sequence[int],
    *,
    mode: arguments.Mode = "reflect",
    cval: complex = 0.0,
    origin: arguments.Origin = 0,
    axes: arguments.Axes = None,
    output: arguments.Output = None,
    method: arguments.Method = "auto",
    threads: int | None = None,
    rounding: storing.Rounding = "nearest",
    overflow: storing.Overflow = "saturate",
    mask: npt.ArrayLike | None = None,
    nan: masking.Nan = "propagate",
    channel_axis: int | None = None,
) -> Array:
    """Replace each sample by the mean of the box around it.

    Along all axes: a colour image of shape ``(rows, columns, 3)`` takes ``channel_axis=-1``.

    Parameters
    ----------
    x : array_like
        As in `correlate`.
    size : int or sequence of int
        Length of the box in samples, along all filtered axes or each; an even box reaches one
        sample further back than forward.
    mode, cval, origin, axes, output, method, threads, rounding, overflow, mask, nan, channel_axis : optional
        As in `correlate`. Whole numbers are summed exactly where the sums fit (see `rounding`), and
        divided once.

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
    if channel_axis is not None:
        axes = arguments.axes_beside(channel_axis, axes, source.ndim)
    count = (axes is None and source.ndim) or count_axes(axes, source.ndim)
    kernel = box_kernel(arguments.wholes("size", size, count))
    asked = (mode, cval, origin, axes, None, method, False)
    return _run(source, kernel, asked, output, threads, (rounding, overflow, mask, nan))


@kept
def box_kernel(size: tuple[int, ...]) -> SeparableKernel:
    """Return the mean over a box."""
    return families.box(size)


def count_axes(axes: arguments.Axes, ndim: int) -> int:
    """Return how many axes are filtered: at least one."""
    count = ndim if axes is None else len(arguments.filtered_axes(axes, ndim))
    if count == 0:
        raise ValueError(
            "`x` has no axes to filter along: it is a single number; expected an array."
            if ndim == 0
            else "`axes=()` names no axis; expected at least one."
        )
    return count
