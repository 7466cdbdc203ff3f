"""Gaussians, their derivatives, and kernels composed of them."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any, Final, SupportsIndex

import numpy as np
import numpy.typing as npt

from .._base.types import FloatArray
from ..kernel.value import SeparableKernel, Term
from ._moments import with_moments
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

# Sigma, in samples, up to which gaussian_filter leaves an axis unfiltered.
_NO_SIGMA: Final = 1e-15

# Full width at half maximum of a Gaussian in standard deviations: 2 sqrt(2 ln 2).
_FWHM: Final = 2 * math.sqrt(2 * math.log(2))

# Sigma of the Gaussian envelope of the corrections to a derivative, relative to the derivative's own: of 1.5
# to 4, the value that changes the largest tap of orders 1 and 2 least.
_WIDER: Final = 2.0

# Sigma, in samples, below which derivatives are central differences to the last bit of float64.
_LEAST_SIGMA: Final = 0.056

# Minimum sigma, in samples, along rotated axes: samples off these axes do not resolve narrower Gaussians.
_LEAST_TURNED: Final = 0.3


def gaussian(
    sigma: PerAxis | None = None,
    *,
    order: PerAxisInt = 0,
    truncate: float = 4.0,
    radius: PerAxisInt | None = None,
    ndim: SupportsIndex | None = None,
    fwhm: PerAxis | None = None,
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
        Taps on each side of the centre, at least the order of a derivative.
    ndim : int, optional
        Number of axes. Default: the length of whichever argument is a sequence, else 2.
    fwhm : float or sequence of float, optional
        Full width at half maximum in pixels, instead of `sigma`: ``2 * sqrt(2 * log(2))`` times as much.

    Returns
    -------
    SeparableKernel
        Rank 1, shape ``(2*radius + 1, ...)``. The Gaussian is normalised to sum 1 after sampling. A
        derivative of order n gives 1 on ``x**n / n!`` and 0 on lower powers of x, for every sigma; its radius
        is n or more.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range or the sequences disagree in length; a derivative along an axis
        with sigma 0, or of a higher order than `radius`; both or neither of `sigma` and `fwhm`.

    Notes
    -----
    Sign and scale are those of ``scipy.ndimage.gaussian_filter``: a filter with ``order=1`` returns the
    derivative of the smoothed input, so the taps of the correlation are those of the derivative, flipped.
    Derivatives are Hermite polynomials times the Gaussian [1]_, sampled, which is all that SciPy takes.
    Sampled from a narrow Gaussian, or from one cut off early, they are not exact on polynomials: here the
    taps get the least correction that makes them so, a polynomial times a Gaussian of twice the width. With
    `truncate` 4 and sigma 0.75 or more, orders 1 and 2 change by up to 4e-4 and 1.7e-3 of their largest tap,
    order 4 by 3 %; less where `truncate` is more. Towards sigma 0 derivatives become central differences:
    below half a pixel, where samples say little, the sampled part fades out.

    References
    ----------
    .. [1] M. Abramowitz, I. A. Stegun, Handbook of Mathematical Functions, 1964, 26.2.31.

    Examples
    --------
    >>> import numpy as np
    >>> import separable as sp
    >>> kernel = sp.families.gaussian(2.0)
    >>> kernel.shape, kernel.macs, kernel.size
    ((17, 17), 34, 289)
    >>> slope = sp.families.gaussian(1.0, order=(0, 1))
    >>> ramp = np.tile(np.arange(20.0), (20, 1))
    >>> float(sp.correlate(ramp, slope)[10, 10].round(12))
    1.0
    """
    sigma = width_of(sigma, fwhm)
    count = axis_count(ndim, sigma=sigma, order=order, radius=radius)
    sigmas = per_axis("sigma", sigma, count, check_length)
    orders = per_axis("order", order, count, check_count)
    for axis, (s, n) in enumerate(zip(sigmas, orders, strict=True)):
        if n and s <= 0:
            raise ValueError(
                f"`order[{axis}]` is {n} with sigma[{axis}]={s:g}; expected sigma > 0 to derive."
            )
    radii = _reach(sigmas, orders, truncate, radius)
    return SeparableKernel([[_gaussian_taps(s, n, r) for s, n, r in zip(sigmas, orders, radii, strict=True)]])


def width_of(sigma: PerAxis | None, fwhm: PerAxis | None) -> PerAxis:
    """Return the standard deviation, given as `sigma` or as the full width at half maximum."""
    if (sigma is None) == (fwhm is None):
        got = "neither" if sigma is None else f"sigma={sigma!r} and fwhm={fwhm!r}"
        raise TypeError(
            f"a Gaussian takes one of `sigma` and `fwhm`; got {got}. The full width at half maximum is "
            "2.355 sigma."
        )
    if sigma is not None:
        return sigma
    given: Any = fwhm
    if isinstance(given, str) or not np.iterable(given):  # a string is refused as a whole
        return check_length("fwhm", given) / _FWHM
    return [check_length(f"fwhm[{axis}]", width) / _FWHM for axis, width in enumerate(given)]


def _smoothing(sigmas: list[float]) -> list[float]:
    """Return sigmas that leave no axis unfiltered, with one tap where its derivatives have more."""
    return [max(s, 2 * _NO_SIGMA) for s in sigmas]


def _reach(
    sigmas: list[float], orders: Sequence[int], truncate: float, radius: PerAxisInt | None
) -> list[int]:
    """Return the radius along each axis, where a derivative of that order is taken along it."""
    radii = check_radii(sigmas, truncate, radius)
    for axis, (r, n) in enumerate(zip(radii, orders, strict=True)):
        if radius is not None and r < n:
            raise ValueError(
                f"`radius` is {r} along axis {axis}, where the order is {n}; "
                f"expected {n} or more, or leave it out."
            )
    return [max(r, n) for r, n in zip(radii, orders, strict=True)]


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
        Rank `ndim`, negative at the centre. A constant gives 0 and ``x**2 / 2`` gives 1, whatever sigma is;
        otherwise ``scipy.ndimage.gaussian_laplace`` (see :func:`gaussian`).

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range or the sequences disagree in length.

    References
    ----------
    .. [1] D. Marr, E. Hildreth, Theory of edge detection, Proc. R. Soc. Lond. B 207, 1980.

    Examples
    --------
    >>> import numpy as np
    >>> import separable as sp
    >>> kernel = sp.families.laplacian_of_gaussian(2.0)
    >>> kernel.rank
    2
    >>> rows, columns = np.mgrid[-20:21, -20:21]
    >>> bowl = (rows**2 + columns**2) / 2.0
    >>> float(sp.correlate(bowl, kernel)[20, 20].round(9))
    2.0
    """
    count = axis_count(ndim, sigma=sigma, radius=radius)
    sigmas = _smoothing(per_axis("sigma", sigma, count, check_positive))
    radii = _reach(sigmas, [2] * count, truncate, radius)
    terms: list[Term] = []
    for axis in range(count):
        order = [2 if other == axis else 0 for other in range(count)]
        terms += gaussian(sigmas, order=order, radius=radii).terms
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

    Examples
    --------
    >>> import numpy as np
    >>> import separable as sp
    >>> band = sp.families.difference_of_gaussians(1.0, 1.6)
    >>> band.rank
    2
    >>> bool(np.abs(sp.correlate(np.ones((9, 9)), band)).max() < 1e-12)  # blind to constants
    True
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

    Examples
    --------
    >>> import separable as sp
    >>> jet = sp.families.gaussian_derivatives(1.5, order=2)
    >>> list(jet)
    [(0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2)]
    >>> bank = sp.plan(list(jet.values()), (512, 512))
    >>> bank.macs < sum(kernel.macs for kernel in jet.values())  # equal passes run once
    True
    """
    count = axis_count(ndim, sigma=sigma, radius=radius)
    sigmas = _smoothing(per_axis("sigma", sigma, count, check_positive))
    highest = check_count("order", order)
    radii = _reach(sigmas, [highest] * count, truncate, radius)
    every = itertools.product(range(highest + 1), repeat=count)
    wanted = sorted(
        (orders for orders in every if sum(orders) <= highest), key=lambda orders: (sum(orders), orders[::-1])
    )
    return {orders: gaussian(sigmas, order=orders, radius=radii) for orders in wanted}


def rotated_gaussian(
    sigma: Sequence[float],
    rotation: npt.ArrayLike,
    *,
    order: PerAxisInt = 0,
    truncate: float = 4.0,
    radius: PerAxisInt | None = None,
) -> FloatArray:
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
        Taps on each side of the centre, along the array's axes; at least the order.

    Returns
    -------
    ndarray, shape ``(2*radius + 1, ...)``, float64
        As :func:`gaussian`: the sum is 1, and derivatives are right on polynomials up to their order.

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

    Examples
    --------
    >>> import numpy as np
    >>> import separable as sp
    >>> tilted = sp.families.rotated_gaussian((5, 2), np.pi / 6)
    >>> sp.is_separable(tilted), sp.factor(tilted, tol=0.01).rank
    (False, 6)
    >>> sp.is_separable(sp.families.rotated_gaussian((5, 2), 0.0))
    True
    """
    count = axis_count(None, sigma=sigma)
    sigmas = per_axis("sigma", sigma, count, check_positive)
    orders = per_axis("order", order, count, check_count)
    turned = _rotation(rotation, count)
    spreads = [math.hypot(*(turned[axis] * sigmas)) for axis in range(count)]
    derivative = _along_the_array(turned, orders)
    highest = [max(partial[axis] for partial in derivative) for axis in range(count)]
    reach = _reach(spreads, highest, truncate, radius)
    if math.prod(2 * r + 1 for r in reach) > MAX_TAPS:
        raise ValueError(f"`sigma` is {sigma}; expected a kernel of at most {MAX_TAPS} elements.")
    if not any(orders):
        return _turned_bell(turned, sigmas, orders, reach)
    covariance = turned @ np.diag(np.square(sigmas)) @ turned.T
    off = covariance - np.diag(np.diag(covariance))
    if (np.abs(off) <= 1e-12 * np.multiply.outer(spreads, spreads)).all():  # a product: round, or upright
        terms = [
            [_gaussian_taps(*along) for along in zip(spreads, partial, reach, strict=True)]
            for partial in derivative
        ]
        products = (functools.reduce(np.multiply.outer, taps) for taps in terms)
        parts = [factor * product for factor, product in zip(derivative.values(), products, strict=True)]
        weights: FloatArray = np.sum(parts, axis=0)
        return weights
    widths = [max(s, _LEAST_TURNED) for s in sigmas]
    fading = math.prod(min(1.0, 2 * s) ** n for s, n in zip(widths, orders, strict=True))
    target = _turned_bell(turned, widths, orders, reach)
    window = _turned_bell(turned, [math.sqrt(2.0) * _WIDER * s for s in widths], [0] * count, reach)
    return with_moments(fading * target, window / window.max(), derivative)


def _turned_bell(
    turned: FloatArray, sigmas: Sequence[float], orders: Sequence[int], reach: Sequence[int]
) -> FloatArray:
    """Return samples of a Gaussian with its axes turned, or of its derivative along those."""
    count = len(reach)
    grid = np.ogrid[tuple(slice(-r, r + 1) for r in reach)]
    exponent = np.zeros([2 * r + 1 for r in reach])
    polynomial = np.ones_like(exponent)
    for b, (s, n) in enumerate(zip(sigmas, orders, strict=True)):
        # Summed from pairs that only change sign through the centre: its symmetry is exact.
        along = sum(turned[a, b] * grid[a] for a in range(count)) / s
        exponent = exponent - 0.5 * np.square(along)
        polynomial = polynomial * _hermite(along, n) / s**n
    bell = np.exp(exponent)
    weights: FloatArray = bell / bell.sum() * polynomial
    return weights


def _along_the_array(turned: FloatArray, orders: Sequence[int]) -> dict[tuple[int, ...], float]:
    """Return a derivative along rotated axes as coefficients of those along the array's axes."""
    axes = range(len(orders))
    coefficients = {tuple(0 for _ in axes): 1.0}
    for b, order in enumerate(orders):
        for _ in range(order):
            further: dict[tuple[int, ...], float] = {}
            for axis_orders, factor in coefficients.items():
                for a in axes:
                    if turned[a, b]:
                        more = tuple(n + (axis == a) for axis, n in enumerate(axis_orders))
                        further[more] = further.get(more, 0.0) + factor * float(turned[a, b])
            coefficients = further
    return coefficients


def _rotation(rotation: npt.ArrayLike, count: int) -> FloatArray:
    array = np.asarray(rotation)
    if array.dtype.kind not in "biuf" or not np.isfinite(array).all():
        raise TypeError(f"`rotation` is {rotation!r}; expected an angle, or a matrix of finite numbers.")
    if array.ndim == 0:
        if count != 2:
            raise ValueError(
                f"`rotation` is an angle with {count} axes; expected a matrix unless there are 2."
            )
        sine, cosine = sine_cosine(float(array))
        return np.array([[cosine, sine], [-sine, cosine]])
    if array.shape != (count, count):
        raise ValueError(f"`rotation` has shape {array.shape}; expected ({count}, {count}).")
    turned = array.astype(np.float64)
    if not np.allclose(turned.T @ turned, np.eye(count), rtol=0, atol=1e-6):
        raise ValueError("`rotation` is not orthogonal; expected columns of length 1 at right angles.")
    return turned


def _gaussian_taps(sigma: float, order: int, radius: int) -> FloatArray:
    if not order:
        return np.ones(1) if sigma <= _NO_SIGMA else sampled_taps(sigma, 0, radius)
    width = max(sigma, _least_sigma(order))
    target = sampled_taps(width, order, radius) * min(1.0, 2 * width) ** order
    window = np.exp(-0.25 / (_WIDER * width) ** 2 * np.arange(-radius, radius + 1.0) ** 2)
    return with_moments(target, window, {(order,): 1.0})


def _least_sigma(order: int) -> float:
    # With high orders, the outermost weights must not underflow.
    return max(_LEAST_SIGMA, order / 170)


def sampled_taps(sigma: float, order: int, radius: int) -> FloatArray:
    """Return samples of a Gaussian or of its derivative: SciPy's taps, to rounding.

    A derivative's moments are off where sigma is small or the radius is, see :func:`gaussian`.
    """
    x = np.arange(-radius, radius + 1)
    taps: FloatArray = np.exp(-0.5 / (sigma * sigma) * x**2)
    taps /= taps.sum()
    # d/dx of He_n(x/s) g(x) is -He_(n+1)(x/s) g(x) / s; flipped for the correlation, every sign is +.
    return taps * _hermite(x / sigma, order) / sigma**order


def _hermite(x: FloatArray, order: int) -> FloatArray:
    """Return the probabilists' Hermite polynomial He_order at x."""
    before, hermite = np.zeros_like(x), np.ones_like(x)
    for n in range(order):
        before, hermite = hermite, x * hermite - n * before
    return hermite
