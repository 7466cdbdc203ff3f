"""The verbs: correlate, convolve, gaussian, uniform on Dask arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from ..arrays import arguments
from ..arrays import masks as masking
from ..arrays import output as storing
from ..arrays.decorators import hinting
from ..filters.verbs import box_kernel, count_axes, gaussian_of
from ..kernel.value import SeparableKernel
from .graph import checked_array, filtered

if TYPE_CHECKING:
    import dask.array as da

__all__ = ["convolve", "correlate", "gaussian", "uniform"]


@hinting
def correlate(
    x: da.Array,
    kernel_or_weights: SeparableKernel | npt.ArrayLike,
    *,
    mode: arguments.Mode = "reflect",
    cval: complex = 0.0,
    origin: arguments.Origin = 0,
    axes: arguments.Axes = None,
    output: npt.DTypeLike | None = None,
    tol: float | None = None,
    method: arguments.Method = "auto",
    threads: int | None = None,
    rounding: storing.Rounding = "nearest",
    overflow: storing.Overflow = "saturate",
    mask: Any = None,
    nan: masking.Nan = "propagate",
    channel_axis: int | None = None,
) -> da.Array:
    """Correlate a Dask array with a kernel, chunk by chunk, with the bits of the whole.

    There is one task a chunk, which takes the blocks that its halo reaches, however many: chunks may be of
    any lengths, shorter than the kernel too, and stay as they are.

    Parameters
    ----------
    x : dask.array.Array
        Of blocks of NumPy, with known lengths of chunks.
    kernel_or_weights : SeparableKernel or array_like
        As in `separable.correlate`; no complex weights.
    mode, cval, origin, axes, tol, rounding, overflow, nan, channel_axis : optional
        As in `separable.correlate`. Mode ``"wrap"`` goes around the whole array.
    output : dtype or dtype name, optional
        The dtype of the result.
    method : optional
        As in `separable.correlate`. By default the fastest for the whole array among those by which chunks
        have the bits of the whole: transforms do not, nor sums of cosines, cascades, and shapes of floats by
        running sums.
    threads : int, optional
        Of each task; by default one, where tasks run beside each other.
    mask : dask.array.Array or array_like of bool, optional
        As in `separable.correlate`, with any chunks.

    Returns
    -------
    dask.array.Array
        Of the shape and the chunks of `x`. Computed, it has the bits of
        ``separable.correlate(x.compute(), ...)`` by the method that was chosen.

    Raises
    ------
    ValueError
        As `separable.correlate`; lengths of chunks are unknown; chunks by `method` would have other bits.
    TypeError
        As `separable.correlate`; `x` is no Dask array, or not of blocks of NumPy; `output` is an array.
    MissingExtraError
        Dask is not installed.

    Warns
    -----
    dask.array.PerformanceWarning
        Chunks are so short beside the kernel that the samples are read more than eight times.

    Notes
    -----
    Where results in whole numbers are clipped to what the samples allow, there is a second task a chunk,
    which looks at all samples first.

    Examples
    --------
    >>> import dask.array as da
    >>> import numpy as np
    >>> import separable as sp
    >>> x = da.from_array(np.arange(8.0), chunks=3)
    >>> sp.dask.correlate(x, [1, 2, 3], mode="wrap").compute()
    array([10., 8., 14., 20., 26., 32., 38., 20.])
    """
    source, axes = _source(x, axes, channel_axis, "correlate")
    asked = (mode, cval, origin, axes, tol, method)
    how = (rounding, overflow, mask, nan)
    return filtered(source, kernel_or_weights, asked, output, threads, how, "correlate")


@hinting
def convolve(
    x: da.Array,
    kernel_or_weights: SeparableKernel | npt.ArrayLike,
    *,
    mode: arguments.Mode = "reflect",
    cval: complex = 0.0,
    origin: arguments.Origin = 0,
    axes: arguments.Axes = None,
    output: npt.DTypeLike | None = None,
    tol: float | None = None,
    method: arguments.Method = "auto",
    threads: int | None = None,
    rounding: storing.Rounding = "nearest",
    overflow: storing.Overflow = "saturate",
    mask: Any = None,
    nan: masking.Nan = "propagate",
    channel_axis: int | None = None,
) -> da.Array:
    """Convolve a Dask array with a kernel: correlate it with the kernel flipped along each axis.

    Parameters
    ----------
    x, kernel_or_weights, mode, cval, origin, axes, output, tol, method, threads
        As in `correlate`; positions as in `separable.convolve`.
    rounding, overflow, mask, nan, channel_axis
        As in `correlate`.

    Returns
    -------
    dask.array.Array
        As `correlate`.

    Raises
    ------
    ValueError, TypeError, MissingExtraError
        As `correlate`.

    Examples
    --------
    >>> import dask.array as da
    >>> import numpy as np
    >>> import separable as sp
    >>> x = da.from_array(np.array([0.0, 0.0, 1.0, 0.0, 0.0]), chunks=2)
    >>> sp.dask.convolve(x, [1, 2, 3]).compute()
    array([0., 1., 2., 3., 0.])
    """
    source, axes = _source(x, axes, channel_axis, "convolve")
    asked = (mode, cval, origin, axes, tol, method)
    how = (rounding, overflow, mask, nan)
    return filtered(source, kernel_or_weights, asked, output, threads, how, "convolve", flip=True)


@hinting
def gaussian(
    x: da.Array,
    sigma: float | Sequence[float] | None = None,
    *,
    order: int | Sequence[int] = 0,
    mode: arguments.Mode = "reflect",
    cval: complex = 0.0,
    truncate: float = 4.0,
    radius: int | Sequence[int] | None = None,
    axes: arguments.Axes = None,
    spacing: float | Sequence[float] | None = None,
    output: npt.DTypeLike | None = None,
    tol: float | None = None,
    method: arguments.Method = "auto",
    threads: int | None = None,
    rounding: storing.Rounding = "nearest",
    overflow: storing.Overflow = "saturate",
    mask: Any = None,
    nan: masking.Nan = "propagate",
    channel_axis: int | None = None,
    fwhm: float | Sequence[float] | None = None,
) -> da.Array:
    """Filter a Dask array with a sampled Gaussian or one of its derivatives.

    Parameters
    ----------
    x : dask.array.Array
        As in `correlate`.
    sigma, order, truncate, radius, spacing, fwhm : optional
        As in `separable.gaussian`.
    mode, cval, axes, output, tol, method, threads, rounding, overflow, mask, nan, channel_axis : optional
        As in `correlate`.

    Returns
    -------
    dask.array.Array
        As `correlate`.

    Raises
    ------
    ValueError, TypeError, MissingExtraError
        As `correlate` and `families.gaussian`.

    Examples
    --------
    >>> import dask.array as da
    >>> import numpy as np
    >>> import separable as sp
    >>> scan = np.random.default_rng(0).random((40, 50, 60), np.float32)
    >>> x = da.from_array(scan, chunks=(16, 16, 16))
    >>> smooth = sp.dask.gaussian(x, 2.0)
    >>> smooth.chunks == x.chunks, smooth.dtype
    (True, dtype('float32'))
    >>> bool((smooth.compute() == sp.gaussian(scan, 2.0, method="separable")).all())
    True
    """
    source, axes = _source(x, axes, channel_axis, "gaussian")
    kernel = gaussian_of(count_axes(axes, source.ndim), sigma, fwhm, order, truncate, radius, spacing)
    asked = (mode, cval, 0, axes, tol, method)
    return filtered(source, kernel, asked, output, threads, (rounding, overflow, mask, nan), "gaussian")


@hinting
def uniform(
    x: da.Array,
    size: int | Sequence[int],
    *,
    mode: arguments.Mode = "reflect",
    cval: complex = 0.0,
    origin: arguments.Origin = 0,
    axes: arguments.Axes = None,
    output: npt.DTypeLike | None = None,
    method: arguments.Method = "auto",
    threads: int | None = None,
    rounding: storing.Rounding = "nearest",
    overflow: storing.Overflow = "saturate",
    mask: Any = None,
    nan: masking.Nan = "propagate",
    channel_axis: int | None = None,
) -> da.Array:
    """Replace each sample of a Dask array by the mean of the box around it.

    Parameters
    ----------
    x : dask.array.Array
        As in `correlate`.
    size : int or sequence of int
        As in `separable.uniform`.
    mode, cval, origin, axes, output, method, threads, rounding, overflow, mask, nan, channel_axis : optional
        As in `correlate`.

    Returns
    -------
    dask.array.Array
        As `correlate`.

    Raises
    ------
    ValueError, TypeError, MissingExtraError
        As `correlate` and `families.box`.

    Examples
    --------
    >>> import dask.array as da
    >>> import numpy as np
    >>> import separable as sp
    >>> sp.dask.uniform(da.from_array(np.array([0.0, 0.0, 3.0, 0.0, 0.0]), chunks=2), 3).compute()
    array([0., 1., 1., 1., 0.])
    """
    source, axes = _source(x, axes, channel_axis, "uniform")
    kernel = box_kernel(arguments.wholes("size", size, count_axes(axes, source.ndim)))
    asked = (mode, cval, origin, axes, None, method)
    return filtered(source, kernel, asked, output, threads, (rounding, overflow, mask, nan), "uniform")


def _source(
    x: Any, axes: arguments.Axes, channel_axis: int | None, verb: str
) -> tuple[da.Array, arguments.Axes]:
    """Return the Dask array of an argument, and the axes of it that are filtered."""
    source = checked_array(x, verb)
    if channel_axis is None:
        return source, axes
    return source, arguments.axes_beside(channel_axis, axes, source.ndim)
