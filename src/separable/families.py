"""Kernels whose factors are known in closed form: exact terms, no SVD.

All are weights for correlation (``separable.correlate``), laid out as `scipy.ndimage` lays out its own:
filtering with `gaussian` or `sobel` gives what ``scipy.ndimage.gaussian_filter`` and
``scipy.ndimage.sobel`` give. Smoothing kernels sum to 1. Lengths are in pixels (samples), axis 0 first;
where a parameter may differ per axis it is one number for all axes or a sequence with one per axis.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, Final, SupportsIndex, TypeAlias, TypeVar

import numpy as np

from .kernel import MAX_NDIM, Array, SeparableKernel, Term

PerAxis: TypeAlias = float | Sequence[float]
PerAxisInt: TypeAlias = SupportsIndex | Sequence[SupportsIndex]

_T = TypeVar("_T")

# More taps than any filter: a wrong unit (sigma in nanometres) should be named before memory is taken.
_MAX_TAPS: Final = 1 << 24

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
    count = _axis_count(ndim, sigma=sigma, order=order, radius=radius)
    sigmas = _per_axis("sigma", sigma, count, _length)
    orders = _per_axis("order", order, count, _count)
    radii = _radii(sigmas, truncate, radius)
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
    count = _axis_count(ndim, sigma=sigma, radius=radius)
    sigmas = _per_axis("sigma", sigma, count, _positive)
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
    count = _axis_count(ndim, low_sigma=low_sigma, high_sigma=high_sigma)
    low = _per_axis("low_sigma", low_sigma, count, _length)
    high = [1.6 * s for s in low]
    if high_sigma is not None:
        high = _per_axis("high_sigma", high_sigma, count, _length)
    for axis, (narrow, wide) in enumerate(zip(low, high, strict=True)):
        if narrow > wide:
            raise ValueError(
                f"`low_sigma[{axis}]` is {narrow:g}, above high_sigma[{axis}]={wide:g}; swap the two."
            )
    (inner,) = gaussian(low, truncate=truncate).terms
    (outside,) = gaussian(high, truncate=truncate).terms
    padded = [np.pad(a, (b.size - a.size) // 2) for a, b in zip(inner, outside, strict=True)]
    return SeparableKernel([padded, [-outside[0], *outside[1:]]])


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
    """
    sizes = _per_axis("size", size, _axis_count(ndim, size=size), _size)
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
    """
    sizes = _per_axis("size", size, _axis_count(ndim, size=size), _size)
    return SeparableKernel([[[math.comb(n - 1, k) / 2 ** (n - 1) for k in range(n)] for n in sizes]])


def sobel(axis: SupportsIndex = -1, ndim: SupportsIndex = 2) -> SeparableKernel:
    """Return the derivative along one axis, smoothed by [1, 2, 1] along the others: one term.

    Parameters
    ----------
    axis : int, optional
        Axis of the derivative.
    ndim : int, optional
        Number of axes.

    Returns
    -------
    SeparableKernel
        Rank 1, 3 taps per axis, integers: the filter ``scipy.ndimage.sobel``. A ramp of slope 1 gives
        ``2 * 4**(ndim - 1)``.

    Raises
    ------
    TypeError, ValueError
        If `axis` is not one of `ndim` axes.

    References
    ----------
    .. [1] I. Sobel, History and definition of the Sobel operator, 2014.
    """
    return _edge(axis, ndim, (1, 2, 1))


def prewitt(axis: SupportsIndex = -1, ndim: SupportsIndex = 2) -> SeparableKernel:
    """Return the derivative along one axis, smoothed by [1, 1, 1] along the others: one term.

    Parameters
    ----------
    axis, ndim
        As for :func:`sobel`.

    Returns
    -------
    SeparableKernel
        Rank 1, 3 taps per axis, integers: the filter ``scipy.ndimage.prewitt``. A ramp of slope 1 gives
        ``2 * 3**(ndim - 1)``.

    Raises
    ------
    TypeError, ValueError
        If `axis` is not one of `ndim` axes.

    References
    ----------
    .. [1] J. M. S. Prewitt, Object enhancement and extraction, in: Picture Processing and
       Psychopictorics, 1970.
    """
    return _edge(axis, ndim, (1, 1, 1))


def scharr(axis: SupportsIndex = -1, ndim: SupportsIndex = 2) -> SeparableKernel:
    """Return the derivative along one axis, smoothed by [3, 10, 3] along the others: one term.

    Parameters
    ----------
    axis, ndim
        As for :func:`sobel`.

    Returns
    -------
    SeparableKernel
        Rank 1, 3 taps per axis, integers (OpenCV's ``Scharr``). A ramp of slope 1 gives
        ``2 * 16**(ndim - 1)``. The direction of its gradient depends least on the edge's angle [1]_.

    Raises
    ------
    TypeError, ValueError
        If `axis` is not one of `ndim` axes.

    References
    ----------
    .. [1] H. Scharr, Optimal operators in digital image processing, thesis, Heidelberg 2000.
    """
    return _edge(axis, ndim, (3, 10, 3))


def gabor(
    frequency: float,
    theta: float = 0.0,
    *,
    sigma: PerAxis | None = None,
    bandwidth: float = 1.0,
    phase: float = 0.0,
    truncate: float = 4.0,
    radius: PerAxisInt | None = None,
) -> SeparableKernel:
    """Return a two-dimensional Gabor kernel, a plane wave under a Gaussian: two terms at any angle.

    With row y and column x from the centre, the weight is ::

        exp(-y**2 / (2 sigma[0]**2) - x**2 / (2 sigma[1]**2)) / (2 pi sigma[0] sigma[1])
            * cos(2 pi frequency (x cos(theta) + y sin(theta)) + phase)

    Parameters
    ----------
    frequency : float
        Cycles per pixel, > 0.
    theta : float, optional
        Direction of the wave, radians from the columns' axis (axis 1) towards the rows' (axis 0).
    sigma : float or two floats, optional
        Standard deviation of the envelope along axis 0 and axis 1, > 0. Default: from `bandwidth`.
    bandwidth : float, optional
        Half-response bandwidth in octaves, > 0; read where `sigma` is not given [1]_.
    phase : float, optional
        Radians; 0 is even about the centre, ``-pi/2`` odd.
    truncate, radius
        As for :func:`gaussian`.

    Returns
    -------
    SeparableKernel
        Rank 2, because ``cos(a + b) = cos a cos b - sin a sin b``; rank 1 where the wave runs along an
        axis. The real part of ``skimage.filters.gabor_kernel`` with ``offset=phase``, where the envelope
        is not rotated. It does not sum to 0: an even Gabor passes some of a constant.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range.

    References
    ----------
    .. [1] N. Petkov, P. Kruizinga, Computational models of visual neurons specialised in the detection
       of periodic and aperiodic oriented visual stimuli, Biological Cybernetics 76, 1997.
    """
    wave = _positive("frequency", frequency)
    angle, shift = _real("theta", theta), _real("phase", phase)
    if sigma is None:
        octaves = 2.0 ** _positive("bandwidth", bandwidth)
        sigma = math.sqrt(math.log(2) / 2) / math.pi * (octaves + 1) / (octaves - 1) / wave
    sigmas = [_positive(f"sigma[{a}]", s) for a, s in enumerate(_per_axis("sigma", sigma, 2, _length))]
    y, x = (np.arange(-r, r + 1.0) for r in _radii(sigmas, truncate, radius))
    rows, columns = (np.exp(-0.5 * (d / s) ** 2) for d, s in zip((y, x), sigmas, strict=True))
    rows /= 2 * math.pi * sigmas[0] * sigmas[1]
    slope_y, slope_x = _direction(angle)
    if slope_y == 0.0:
        return SeparableKernel([[rows, columns * np.cos(2 * math.pi * wave * slope_x * x + shift)]])
    a = 2 * math.pi * wave * slope_y * y + shift
    if slope_x == 0.0:
        return SeparableKernel([[rows * np.cos(a), columns]])
    b = 2 * math.pi * wave * slope_x * x
    return SeparableKernel(
        [[rows * np.cos(a), columns * np.cos(b)], [-rows * np.sin(a), columns * np.sin(b)]]
    )


def disk(radius: float) -> Array:
    """Return the mean over a disk (a camera's defocus): dense weights, because a disk does not separate.

    Its rank is the number of different row lengths, 9 at radius 12: ``separable.factor(disk(12))`` finds
    those terms exactly.

    Parameters
    ----------
    radius : float
        In pixels, >= 0. Pixels count whose centre is at most so far from the middle one, as in
        ``skimage.morphology.disk``.

    Returns
    -------
    ndarray, shape ``(2*floor(radius) + 1,) * 2``, float64
        Sum 1.

    Raises
    ------
    TypeError, ValueError
        If `radius` is negative, not finite, or would give a kernel of more than 2**24 elements.
    """
    reach = _length("radius", radius)
    if (2 * math.floor(reach) + 1) ** 2 > _MAX_TAPS:
        raise ValueError(f"`radius` is {radius}; expected a disk of at most {_MAX_TAPS} elements.")
    squares = np.square(np.arange(-math.floor(reach), math.floor(reach) + 1.0))
    inside = np.add.outer(squares, squares) <= reach * reach
    weights: Array = inside / float(np.count_nonzero(inside))
    return weights


def _gaussian_taps(sigma: float, order: int, radius: int) -> Array:
    if sigma <= _NO_SIGMA:
        return np.ones(1)
    x = np.arange(-radius, radius + 1)
    taps: Array = np.exp(-0.5 / (sigma * sigma) * x**2)
    taps /= taps.sum()
    # d/dx of He_n(x/s) g(x) is -He_(n+1)(x/s) g(x) / s; flipped for the correlation, every sign is +.
    before, hermite = np.zeros(x.size), np.ones(x.size)
    for n in range(order):
        before, hermite = hermite, x / sigma * hermite - n * before
    return taps * hermite / sigma**order


def _edge(axis: SupportsIndex, ndim: SupportsIndex, smooth: tuple[int, ...]) -> SeparableKernel:
    count = _axis_count(ndim)
    place = _integer("axis", axis)
    if not -count <= place < count:
        raise ValueError(f"`axis` is {place}; expected {-count} to {count - 1} with ndim={count}.")
    return SeparableKernel([[(-1, 0, 1) if a == place % count else smooth for a in range(count)]])


def _direction(angle: float) -> tuple[float, float]:
    """Sine and cosine, exactly 0 at quarter turns, which no float64 angle but 0 hits."""
    sine, cosine = math.sin(angle), math.cos(angle)
    close = 4 * float(np.finfo(np.float64).eps) * max(1.0, abs(angle))
    return (0.0 if abs(sine) < close else sine), (0.0 if abs(cosine) < close else cosine)


def _radii(sigmas: list[float], truncate: float, radius: PerAxisInt | None) -> list[int]:
    if radius is None:
        reach = _positive("truncate", truncate)
        radii = [int(min(reach * sigma + 0.5, _MAX_TAPS)) for sigma in sigmas]
    else:
        radii = _per_axis("radius", radius, len(sigmas), _count)
    for axis, (r, sigma) in enumerate(zip(radii, sigmas, strict=True)):
        if 2 * r + 1 > _MAX_TAPS:
            raise ValueError(
                f"`sigma[{axis}]` = {sigma:g} asks for more than {_MAX_TAPS} taps; sigma is in pixels: "
                "divide a length by the pixel's size, or pass a smaller radius."
            )
    return radii


def _axis_count(ndim: SupportsIndex | None, **arguments: object) -> int:
    """Return the number of axes that `ndim` and the arguments that are sequences agree on; default 2."""
    lengths = {name: len(value) for name, value in arguments.items() if _is_sequence(value)}  # type: ignore[arg-type]
    if ndim is not None:
        lengths = {"ndim": _integer("ndim", ndim), **lengths}
    if len(set(lengths.values())) > 1:
        said = ", ".join(f"{name}: {n}" for name, n in lengths.items())
        raise ValueError(f"the number of axes differs ({said}); expected one number, or one per axis.")
    count = next(iter(lengths.values()), 2)
    if not 1 <= count <= MAX_NDIM:
        raise ValueError(f"`{next(iter(lengths))}` asks for {count} axes; expected 1 to {MAX_NDIM}.")
    return count


def _per_axis(name: str, value: Any, count: int, check: Callable[[str, Any], _T]) -> list[_T]:
    if not _is_sequence(value):
        return [check(name, value)] * count
    if len(value) != count:
        raise ValueError(
            f"`{name}` has {len(value)} elements; expected one number, or one for each of {count} axes."
        )
    return [check(f"{name}[{axis}]", each) for axis, each in enumerate(value)]


def _is_sequence(value: object) -> bool:
    return hasattr(value, "__len__") and not isinstance(value, str) and getattr(value, "ndim", 1) == 1


def _real(name: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"`{name}` is {value!r}; expected a number.") from None
    if not math.isfinite(number):
        raise ValueError(f"`{name}` is {number}; expected a finite number.")
    return number


def _length(name: str, value: Any) -> float:
    number = _real(name, value)
    if number < 0:
        raise ValueError(f"`{name}` is {number:g}; expected a number >= 0.")
    return number


def _positive(name: str, value: Any) -> float:
    number = _real(name, value)
    if number <= 0:
        raise ValueError(f"`{name}` is {number:g}; expected a number > 0.")
    return number


def _integer(name: str, value: Any) -> int:
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"`{name}` is {value!r}; expected an integer.") from None


def _count(name: str, value: Any) -> int:
    number = _integer(name, value)
    if number < 0:
        raise ValueError(f"`{name}` is {number}; expected an integer >= 0.")
    return number


def _size(name: str, value: Any) -> int:
    number = _integer(name, value)
    if not 1 <= number <= _MAX_TAPS:
        raise ValueError(f"`{name}` is {number}; expected an integer from 1 to {_MAX_TAPS}.")
    return number
