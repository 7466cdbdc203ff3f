"""Gaussians, their derivatives, and what is made of them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Final, SupportsIndex

import numpy as np
import numpy.typing as npt

from ..kernel import Array, SeparableKernel, Term
from ._parameters import (
    MAX_TAPS,
    PerAxis,
    PerAxisInt,
    axis_count,
    check_count,
    check_length,
    check_positive,
    check_radii,
    per_axis,
    sine_cosine,
)

# gaussian_filter leaves an axis alone at or below this sigma.
_NO_SIGMA: Final = 1e-15


def gaussian(
    sigma: PerAxis,
    *,
    order: PerAxisInt = 0,
    truncate: float = 4.0,
    radius: PerAxisInt | None = None,
    ndim: SupportsIndex | None = None,
) -> SeparableKernel:
    """Return a sampled Gaussian, or a derivative of it: one term.

    Parameters
    ----------
    sigma : float or sequence of float
        Standard deviation, >= 0, in pixels. An axis with sigma 0 is left alone (one tap, 1).
    order : int or sequence of int, optional
        Order of the derivative along each axis; 0 is the Gaussian itself.
    truncate : float, optional
        The radius is ``int(truncate * sigma + 0.5)``, where `radius` is not given.
    radius : int or sequence of int, optional
        Taps on each side of the centre.
    ndim : int, optional
        Number of axes. Default: the length of whichever argument is a sequence, else 2.

    Returns
    -------
    SeparableKernel
        Rank 1, shape ``(2*radius + 1, ...)``. The Gaussian is normalised to sum 1 after sampling; a
        derivative is the sampled derivative of the continuous Gaussian times the same factor.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range or the sequences disagree in length; a derivative along an axis
        with sigma 0.

    Notes
    -----
    Taps and sign are those of ``scipy.ndimage.gaussian_filter``: a filter with ``order=1`` returns the
    derivative of the smoothed input, so the taps of the correlation are those of the derivative, flipped.
    The derivatives are Hermite polynomials times the Gaussian [1]_.

    References
    ----------
    .. [1] M. Abramowitz, I. A. Stegun, Handbook of Mathematical Functions, 1964, 26.2.31.
    """
    count = axis_count(ndim, sigma=sigma, order=order, radius=radius)
    sigmas = per_axis("sigma", sigma, count, check_length)
    orders = per_axis("order", order, count, check_count)
    radii = check_radii(sigmas, truncate, radius)
    for axis, (s, n) in enumerate(zip(sigmas, orders, strict=True)):
        if n and s <= _NO_SIGMA:
            raise ValueError(
                f"`order[{axis}]` is {n} with sigma[{axis}]={s:g}; expected sigma > 0 to derive."
            )
    return SeparableKernel([[_gaussian_taps(*each) for each in zip(sigmas, orders, radii, strict=True)]])


def laplacian_of_gaussian(
    sigma: PerAxis,
    *,
    truncate: float = 4.0,
    radius: PerAxisInt | None = None,
    ndim: SupportsIndex | None = None,
) -> SeparableKernel:
    """Return the Laplacian of a Gaussian: the sum of the second derivatives, one term per axis.

    Parameters
    ----------
    sigma, truncate, radius, ndim
        As for :func:`gaussian`; sigma > 0.

    Returns
    -------
    SeparableKernel
        Rank `ndim`. The same filter as ``scipy.ndimage.gaussian_laplace`` (negative at the centre).

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range or the sequences disagree in length.

    References
    ----------
    .. [1] D. Marr, E. Hildreth, Theory of edge detection, Proc. R. Soc. Lond. B 207, 1980.
    """
    count = axis_count(ndim, sigma=sigma, radius=radius)
    sigmas = per_axis("sigma", sigma, count, check_positive)
    terms: list[Term] = []
    for axis in range(count):
        order = [2 if other == axis else 0 for other in range(count)]
        terms += gaussian(sigmas, order=order, truncate=truncate, radius=radius).terms
    return SeparableKernel(terms)


def difference_of_gaussians(
    low_sigma: PerAxis,
    high_sigma: PerAxis | None = None,
    *,
    truncate: float = 4.0,
    ndim: SupportsIndex | None = None,
) -> SeparableKernel:
    """Return a narrow minus a wide Gaussian, a band-pass: two terms.

    Parameters
    ----------
    low_sigma, high_sigma : float or sequence of float
        Standard deviations, ``low_sigma <= high_sigma`` on every axis. Default of the second: 1.6 times
        the first, which comes close to the Laplacian of a Gaussian [1]_.
    truncate, ndim
        As for :func:`gaussian`.

    Returns
    -------
    SeparableKernel
        Rank 2, the shape of the wide Gaussian. The same filter as
        ``skimage.filters.difference_of_gaussians``.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range or the sequences disagree in length.

    References
    ----------
    .. [1] D. Marr, E. Hildreth, Theory of edge detection, Proc. R. Soc. Lond. B 207, 1980.
    """
    count = axis_count(ndim, low_sigma=low_sigma, high_sigma=high_sigma)
    low = per_axis("low_sigma", low_sigma, count, check_length)
    high = [1.6 * s for s in low]
    if high_sigma is not None:
        high = per_axis("high_sigma", high_sigma, count, check_length)
    for axis, (narrow, wide) in enumerate(zip(low, high, strict=True)):
        if narrow > wide:
            raise ValueError(
                f"`low_sigma[{axis}]` is {narrow:g}, above high_sigma[{axis}]={wide:g}; swap the two."
            )
    (inner,) = gaussian(low, truncate=truncate).terms
    (outside,) = gaussian(high, truncate=truncate).terms
    padded = [np.pad(a, (b.size - a.size) // 2) for a, b in zip(inner, outside, strict=True)]
    return SeparableKernel([padded, [-outside[0], *outside[1:]]])


def gaussian_derivatives(
    sigma: PerAxis,
    order: SupportsIndex,
    *,
    truncate: float = 4.0,
    radius: PerAxisInt | None = None,
    ndim: SupportsIndex | None = None,
) -> dict[tuple[int, ...], SeparableKernel]:
    """Return a Gaussian and all its partial derivatives up to one order: the local jet.

    Parameters
    ----------
    sigma, truncate, radius, ndim
        As for :func:`gaussian`; sigma > 0.
    order : int
        The highest total order, >= 0.

    Returns
    -------
    dict of tuple of int to SeparableKernel
        By the order along each axis, lowest total order first; each of one term. Kernels of equal order
        along an axis have the same taps along it, bit by bit, so that filtering with several at once
        shares those passes: in 2-D with order 2, three along the rows where six kernels alone take six.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range or the sequences disagree in length.

    References
    ----------
    .. [1] J. J. Koenderink, A. J. van Doorn, Representation of local geometry in the visual system,
       Biological Cybernetics 55, 1987.
    """
    count = axis_count(ndim, sigma=sigma, radius=radius)
    sigmas = per_axis("sigma", sigma, count, check_positive)
    highest = check_count("order", order)
    every = itertools.product(range(highest + 1), repeat=count)
    wanted = sorted(
        (each for each in every if sum(each) <= highest), key=lambda each: (sum(each), each[::-1])
    )
    return {each: gaussian(sigmas, order=each, truncate=truncate, radius=radius) for each in wanted}


def rotated_gaussian(
    sigma: Sequence[float],
    rotation: npt.ArrayLike,
    *,
    order: PerAxisInt = 0,
    truncate: float = 4.0,
    radius: PerAxisInt | None = None,
) -> Array:
    """Return a Gaussian with its axes turned: dense weights, because only an upright one separates.

    Parameters
    ----------
    sigma : sequence of float
        Standard deviation along each of the Gaussian's own axes, > 0, in pixels.
    rotation : float or array_like, shape ``(ndim, ndim)``
        In 2-D the angle in radians by which both axes are turned, from the columns' axis (axis 1)
        towards the rows' (axis 0): the Gaussian's axis 1 then runs along ``(sin, cos)``. With any number of
        axes, an orthogonal matrix whose column b is the direction of the Gaussian's axis b.
    order : int or sequence of int, optional
        Order of the derivative along each of the Gaussian's own axes.
    truncate : float, optional
        The radius along an axis is `truncate` times the standard deviation along it, rounded.
    radius : int or sequence of int, optional
        Taps on each side of the centre, along the array's axes.

    Returns
    -------
    ndarray, shape ``(2*radius + 1, ...)``, float64
        Normalised as :func:`gaussian` is: sum 1, and derivatives times the same factor.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range or the sequences disagree in length.

    Notes
    -----
    With the exponent written ``-(a y**2 + 2 b x y + c x**2) / 2``, Mehler's formula [1]_ is the singular
    value decomposition of the function: the values fall as ``r**k`` with ``r = q / (1 + sqrt(1 - q**2))``,
    ``q = |b| / sqrt(a c)``. So ``log(tol) / log(r)`` terms, about, reach a tolerance, whatever the size: 7
    for sigma (5, 2) at 30 degrees and 1 %. ``separable.factor`` finds them.

    References
    ----------
    .. [1] F. G. Mehler, Ueber die Entwicklung einer Function von beliebig vielen Variablen nach
       Laplaceschen Functionen hoeherer Ordnung, J. reine angew. Math. 66, 1866.
    """
    count = axis_count(None, sigma=sigma)
    sigmas = per_axis("sigma", sigma, count, check_positive)
    orders = per_axis("order", order, count, check_count)
    turned = _rotation(rotation, count)
    spreads = [math.hypot(*(turned[axis] * sigmas)) for axis in range(count)]
    reach = check_radii(spreads, truncate, radius)
    if math.prod(2 * r + 1 for r in reach) > MAX_TAPS:
        raise ValueError(f"`sigma` is {sigma}; expected a kernel of at most {MAX_TAPS} elements.")
    grid = np.ogrid[tuple(slice(-r, r + 1) for r in reach)]
    exponent = np.zeros([2 * r + 1 for r in reach])
    polynomial = np.ones_like(exponent)
    for b, (s, n) in enumerate(zip(sigmas, orders, strict=True)):
        # Summed from pairs that only change sign through the centre: its symmetry is exact.
        along = sum(turned[a, b] * grid[a] for a in range(count)) / s
        exponent = exponent - 0.5 * np.square(along)
        polynomial = polynomial * _hermite(along, n) / s**n
    bell = np.exp(exponent)
    weights: Array = bell / bell.sum() * polynomial
    return weights


def _rotation(rotation: npt.ArrayLike, count: int) -> Array:
    given = np.asarray(rotation)
    if given.dtype.kind not in "biuf" or not np.isfinite(given).all():
        raise TypeError(f"`rotation` is {rotation!r}; expected an angle, or a matrix of finite numbers.")
    if given.ndim == 0:
        if count != 2:
            raise ValueError(
                f"`rotation` is an angle with {count} axes; expected a matrix unless there are 2."
            )
        sine, cosine = sine_cosine(float(given))
        return np.array([[cosine, sine], [-sine, cosine]])
    if given.shape != (count, count):
        raise ValueError(f"`rotation` has shape {given.shape}; expected ({count}, {count}).")
    turned = given.astype(np.float64)
    if not np.allclose(turned.T @ turned, np.eye(count), rtol=0, atol=1e-6):
        raise ValueError("`rotation` is not orthogonal; expected columns of length 1 at right angles.")
    return turned


def _gaussian_taps(sigma: float, order: int, radius: int) -> Array:
    if sigma <= _NO_SIGMA:
        return np.ones(1)
    x = np.arange(-radius, radius + 1)
    taps: Array = np.exp(-0.5 / (sigma * sigma) * x**2)
    taps /= taps.sum()
    # d/dx of He_n(x/s) g(x) is -He_(n+1)(x/s) g(x) / s; flipped for the correlation, every sign is +.
    return taps * _hermite(x / sigma, order) / sigma**order


def _hermite(x: Array, order: int) -> Array:
    """Return the probabilists' Hermite polynomial He_order at x."""
    before, hermite = np.zeros_like(x), np.ones_like(x)
    for n in range(order):
        before, hermite = hermite, x * hermite - n * before
    return hermite
