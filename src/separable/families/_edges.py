"""First derivatives, smoothed along the other axes."""

from __future__ import annotations

from typing import Final, SupportsIndex

from ..kernel.value import SeparableKernel
from ._parameters import axis_count, check_integer

# Table 1 of the paper, with the further decimals of its authors' programs, as scikit-image has them.
_FARID_SMOOTH: Final = (
    *(0.0376593171958126, 0.249153396177344, 0.426374573253687),
    *(0.249153396177344, 0.0376593171958126),
)
_FARID_DERIVATIVE: Final = (-0.109603762960254, -0.276690988455557, 0.0, 0.276690988455557, 0.109603762960254)


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

    Examples
    --------
    >>> import separable as sp
    >>> sp.families.sobel().dense()
    array([[-1.,  0.,  1.],
           [-2.,  0.,  2.],
           [-1.,  0.,  1.]])
    >>> sp.families.sobel(axis=0, ndim=3).shape
    (3, 3, 3)
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

    Examples
    --------
    >>> import separable as sp
    >>> sp.families.prewitt(axis=0).dense()
    array([[-1., -1., -1.],
           [ 0.,  0.,  0.],
           [ 1.,  1.,  1.]])
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

    Examples
    --------
    >>> import separable as sp
    >>> sp.families.scharr().dense()
    array([[ -3.,   0.,   3.],
           [-10.,   0.,  10.],
           [ -3.,   0.,   3.]])
    """
    return _edge(axis, ndim, (3, 10, 3))


def farid(axis: SupportsIndex = -1, ndim: SupportsIndex = 2) -> SeparableKernel:
    """Return the derivative along one axis by the 5-tap pair of Farid and Simoncelli: one term.

    Parameters
    ----------
    axis, ndim
        As for :func:`sobel`.

    Returns
    -------
    SeparableKernel
        Rank 1, 5 taps per axis: the filters of ``skimage.filters.farid_h`` and ``farid_v``. Smoothing
        and derivative are designed together, so that the direction of the gradient hardly depends on the
        edge's angle [1]_. A ramp of slope 1 gives 0.992.

    Raises
    ------
    TypeError, ValueError
        If `axis` is not one of `ndim` axes.

    References
    ----------
    .. [1] H. Farid, E. P. Simoncelli, Differentiation of discrete multidimensional signals, IEEE Trans.
       Image Processing 13, 2004, table 1.

    Examples
    --------
    >>> import numpy as np
    >>> import separable as sp
    >>> ramp = np.tile(np.arange(9.0), (9, 1))
    >>> float(sp.correlate(ramp, sp.families.farid())[4, 4].round(3))
    0.992
    """
    return _edge(axis, ndim, _FARID_SMOOTH, _FARID_DERIVATIVE)


def _edge(
    axis: SupportsIndex,
    ndim: SupportsIndex,
    smooth: tuple[float, ...],
    derivative: tuple[float, ...] = (-1, 0, 1),
) -> SeparableKernel:
    count = axis_count(ndim)
    place = check_integer("axis", axis)
    if not -count <= place < count:
        raise ValueError(f"`axis` is {place}; expected {-count} to {count - 1} with ndim={count}.")
    return SeparableKernel([[derivative if a == place % count else smooth for a in range(count)]])
