"""Means, polynomial fits and windows: smoothing with taps in closed form."""

from __future__ import annotations

import itertools
import math
from typing import SupportsIndex

import numpy as np

from .._base.types import FloatArray
from ..kernel.value import SeparableKernel
from ._parameters import (
    MAX_TAPS,
    PerAxis,
    PerAxisInt,
    axis_count,
    check_count,
    check_positive,
    check_real,
    check_size,
    per_axis,
)


def box(size: PerAxisInt, ndim: SupportsIndex | None = None) -> SeparableKernel:
    """Return the mean over a box: one term.

    Parameters
    ----------
    size : int or sequence of int
        Edge lengths, >= 1. An even box has its centre at element ``size // 2``.
    ndim : int, optional
        Number of axes. Default: the length of `size`, else 2.

    Returns
    -------
    SeparableKernel
        Rank 1, taps ``1 / size``: the filter ``scipy.ndimage.uniform_filter``.

    Raises
    ------
    TypeError, ValueError
        If `size` is not a positive integer, or does not agree with `ndim`.

    Examples
    --------
    >>> import separable as sp
    >>> box = sp.families.box((3, 5))
    >>> box.shape, box.macs, box.size
    ((3, 5), 8, 15)
    >>> sp.correlate([0.0, 0.0, 3.0, 0.0, 0.0], sp.families.box(3, ndim=1))
    array([0., 1., 1., 1., 0.])
    """
    sizes = per_axis("size", size, axis_count(ndim, size=size), check_size)
    return SeparableKernel([[np.full(n, 1 / n) for n in sizes]])


def binomial(size: PerAxisInt, ndim: SupportsIndex | None = None) -> SeparableKernel:
    """Return binomial smoothing, the integers' Gaussian: one term.

    Parameters
    ----------
    size : int or sequence of int
        Taps per axis, >= 1: 3 is [1, 2, 1] / 4, 5 is [1, 4, 6, 4, 1] / 16.
    ndim : int, optional
        Number of axes. Default: the length of `size`, else 2.

    Returns
    -------
    SeparableKernel
        Rank 1. The variance along an axis is ``(size - 1) / 4``.

    Raises
    ------
    TypeError, ValueError
        If `size` is not a positive integer, or does not agree with `ndim`.

    References
    ----------
    .. [1] B. Jaehne, Digital Image Processing, 6th ed., Springer 2005, section 11.4.

    Examples
    --------
    >>> import separable as sp
    >>> sp.families.binomial(3).dense() * 16
    array([[1., 2., 1.],
           [2., 4., 2.],
           [1., 2., 1.]])
    """
    sizes = per_axis("size", size, axis_count(ndim, size=size), check_size)
    return SeparableKernel([[[math.comb(n - 1, k) / 2 ** (n - 1) for k in range(n)] for n in sizes]])


def savitzky_golay(
    size: PerAxisInt,
    degree: SupportsIndex,
    *,
    order: PerAxisInt = 0,
    spacing: PerAxis = 1.0,
    ndim: SupportsIndex | None = None,
) -> SeparableKernel:
    """Return the least-squares fit of a polynomial, read at the centre: a few terms, exactly.

    Parameters
    ----------
    size : int or sequence of int
        Taps per axis, odd.
    degree : int
        The highest total degree of the polynomial's monomials, below every size.
    order : int or sequence of int, optional
        Order of the derivative along each axis, of the fitted polynomial at the centre.
    spacing : float or sequence of float, optional
        Distance of neighbouring samples, > 0, in whose unit derivatives are taken.
    ndim : int, optional
        Number of axes. Default: the length of whichever argument is a sequence, else 2.

    Returns
    -------
    SeparableKernel
        In 1-D the taps of ``scipy.signal.savgol_coeffs(size, degree, order, spacing, use="dot")``. In 2-D
        ``degree // 2 + 1`` terms where no derivative is taken; a zero kernel of one term where `order`
        exceeds `degree`.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range or the sequences disagree in length.

    Notes
    -----
    With the polynomials P_i orthonormal on the taps' places, the weights are the sum over all
    ``i + j <= degree`` of ``g_i(y) g_j(x)``, ``g_i(y) = P_i(y) P_i(0)`` (its derivative at 0 for an
    `order`) [1]_. Every second g is zero, and the sum over j is taken first.

    References
    ----------
    .. [1] P. A. Gorry, General least-squares smoothing and differentiation by the convolution
       (Savitzky-Golay) method, Analytical Chemistry 62, 1990.
    .. [2] A. Savitzky, M. J. E. Golay, Smoothing and differentiation of data by simplified least squares
       procedures, Analytical Chemistry 36, 1964.

    Examples
    --------
    >>> import numpy as np
    >>> import separable as sp
    >>> kernel = sp.families.savitzky_golay(7, degree=2)
    >>> kernel.rank, kernel.size
    (2, 49)
    >>> rows, columns = np.mgrid[:20, :20]
    >>> parabola = rows**2 - 3.0 * rows * columns
    >>> bool(np.allclose(sp.correlate(parabola, kernel)[3:-3, 3:-3], parabola[3:-3, 3:-3]))
    True
    """
    count = axis_count(ndim, size=size, order=order, spacing=spacing)
    sizes = per_axis("size", size, count, check_size)
    orders = per_axis("order", order, count, check_count)
    steps = per_axis("spacing", spacing, count, check_positive)
    highest = check_count("degree", degree)
    for axis, n in enumerate(sizes):
        if n % 2 == 0 or n <= highest:
            raise ValueError(f"`size[{axis}]` is {n}; expected an odd number above degree={highest}.")
    if sum(orders) > highest:
        return SeparableKernel([[np.zeros(n) for n in sizes]])
    parts = [_fit_parts(n, highest, d, h) for n, d, h in zip(sizes, orders, steps, strict=True)]
    # Odd polynomials are 0 at the centre, and below the derivative's order there is nothing to derive.
    leading = itertools.product(*(range(d, highest + 1, 2) for d in orders[:-1]))
    terms = []
    for degrees in leading:
        left = highest - sum(degrees)
        if left >= orders[-1]:
            taps = [parts[axis][i] for axis, i in enumerate(degrees)]
            terms.append([*taps, parts[-1][orders[-1] : left + 1 : 2].sum(axis=0)])
    return SeparableKernel(terms)


def _fit_parts(size: int, degree: int, order: int, spacing: float) -> FloatArray:
    """Return ``P_i(x) P_i^(order)(0)`` for each degree i, shape ``(degree + 1, size)``."""
    half = max(size // 2, 1)
    x = np.arange(-(size // 2), size // 2 + 1) / half
    orthonormal, triangle = np.linalg.qr(np.polynomial.legendre.legvander(x, degree))
    signs = (-1.0) ** np.arange(degree + 1)
    parted = (orthonormal + signs * orthonormal[::-1]) / 2  # exactly even or odd, as without rounding
    derivative = np.polynomial.legendre.legder(np.eye(degree + 1), order, axis=0)
    at_centre = np.polynomial.legendre.legval(0.0, derivative)
    slopes = np.linalg.solve(triangle.T, at_centre) / (half * spacing) ** order
    return np.ascontiguousarray((parted * slopes).T)


def lanczos(
    scale: PerAxis = 1.0,
    lobes: SupportsIndex = 3,
    *,
    shift: PerAxis = 0.0,
    ndim: SupportsIndex | None = None,
) -> SeparableKernel:
    """Return Lanczos' windowed sinc, a low-pass with a sharp edge: one term.

    Parameters
    ----------
    scale : float or sequence of float, optional
        Factor by which the image will be downsampled, >= 1: frequencies above ``0.5 / scale`` are stopped.
    lobes : int, optional
        Zeros of the sinc on each side, >= 1: 2 or 3 for images. The more, the sharper the edge and the
        longer the ringing.
    shift : float or sequence of float, optional
        The place that is read, in samples from the centre: with ``scale=1`` interpolation half-way between
        two samples for 0.5.
    ndim : int, optional
        Number of axes. Default: the length of whichever argument is a sequence, else 2.

    Returns
    -------
    SeparableKernel
        Rank 1. ``sinc(x) sinc(x / lobes)`` at ``x = (k - shift) / scale``, normalised to sum 1 after
        sampling [1]_.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range or the sequences disagree in length.

    References
    ----------
    .. [1] C. E. Duchon, Lanczos filtering in one and two dimensions, J. Applied Meteorology 18, 1979.
    .. [2] K. Turkowski, Filters for common resampling tasks, in: Graphics Gems, 1990.

    Examples
    --------
    >>> import numpy as np
    >>> import separable as sp
    >>> kernel = sp.families.lanczos(scale=2)
    >>> kernel.rank, kernel.shape
    (1, (11, 11))
    >>> half = sp.correlate(np.random.default_rng(0).random((64, 64)), kernel)[::2, ::2]
    >>> half.shape
    (32, 32)
    """
    count = axis_count(ndim, scale=scale, shift=shift)
    scales = per_axis("scale", scale, count, check_positive)
    shifts = per_axis("shift", shift, count, check_real)
    zeros = check_size("lobes", lobes)
    taps = []
    for axis, (s, place) in enumerate(zip(scales, shifts, strict=True)):
        reach = zeros * s + abs(place)
        if s < 1 or reach > MAX_TAPS // 2:
            raise ValueError(f"`scale[{axis}]` is {s:g}; expected 1 or more, and at most {MAX_TAPS} taps.")
        most = math.ceil(reach) - 1
        x = (np.arange(-most, most + 1) - place) / s
        line = np.where(np.abs(x) < zeros, np.sinc(x) * np.sinc(x / zeros), 0.0)
        taps.append(line / line.sum())
    return SeparableKernel([taps])
