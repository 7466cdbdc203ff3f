"""Shapes: the blur of defocus and of motion."""

from __future__ import annotations

import math

import numpy as np

from .._base.types import FloatArray
from ._parameters import MAX_TAPS, check_length, check_real, sine_cosine


def disk(radius: float, *, antialias: bool = False) -> FloatArray:
    """Return the mean over a disk (a camera's defocus): dense weights, because a disk does not separate.

    Its rank is the number of different row lengths, 9 at radius 12 (as many as its boxes, if it is written
    as a sum of rectangles): ``separable.factor(disk(12))`` finds those terms.

    Parameters
    ----------
    radius : float
        In pixels, >= 0.
    antialias : bool, optional
        False: pixels count whose centre is at most `radius` from the middle one, as in
        ``skimage.morphology.disk``, and all of them alike. True: each pixel by the area of it that the disk
        covers, so that the kernel follows the radius smoothly; its rank is larger, its tail of small terms
        long.

    Returns
    -------
    ndarray, float64
        Sum 1. Shape ``(2*floor(radius) + 1,) * 2``; with `antialias` every pixel that the disk touches.

    Raises
    ------
    TypeError, ValueError
        If `radius` is negative, not finite, or would give a kernel of more than 2**24 elements.

    Examples
    --------
    >>> import separable as sp
    >>> disk = sp.families.disk(2)
    >>> (disk * 13).round(12)
    array([[0., 0., 1., 0., 0.],
           [0., 1., 1., 1., 0.],
           [1., 1., 1., 1., 1.],
           [0., 1., 1., 1., 0.],
           [0., 0., 1., 0., 0.]])
    >>> sp.factor(disk).rank
    3
    """
    reach = check_length("radius", radius)
    if (2 * math.floor(reach) + 3) ** 2 > MAX_TAPS:
        raise ValueError(f"`radius` is {radius}; expected a disk of at most {MAX_TAPS} elements.")
    if antialias:
        return _covered(reach)
    squares = np.square(np.arange(-math.floor(reach), math.floor(reach) + 1.0))
    inside = np.add.outer(squares, squares) <= reach * reach
    weights: FloatArray = inside / float(np.count_nonzero(inside))
    return weights


def motion_blur(length: float, angle: float = 0.0) -> FloatArray:
    """Return the trace of a point that moves evenly along a straight line while the shutter is open.

    Parameters
    ----------
    length : float
        Of the way, in pixels, >= 0.
    angle : float, optional
        Its direction, radians from the columns' axis (axis 1) towards the rows' (axis 0).

    Returns
    -------
    ndarray, float64
        Sum 1: the length of the line that lies in each pixel. One term along an axis, where it is a box with
        what is left of the length at its ends; at any other angle the rank is close to the number of rows
        or columns, whichever are fewer.

    Raises
    ------
    TypeError, ValueError
        If an argument is not finite, `length` is negative or would give more than 2**24 elements.

    References
    ----------
    .. [1] M. Sondhi, Image restoration: the removal of spatially invariant degradations, Proc. IEEE 60, 1972.

    Examples
    --------
    >>> import separable as sp
    >>> sp.families.motion_blur(3).round(3)
    array([[0.333, 0.333, 0.333]])
    >>> tilted = sp.families.motion_blur(9, angle=0.5)
    >>> tilted.shape, sp.factor(tilted).rank
    ((5, 9), 5)
    """
    half = check_length("length", length) / 2
    slopes = [float(part) for part in sine_cosine(check_real("angle", angle))]
    # A pixel that is touched by rounding alone does not count.
    least = 16 * float(np.finfo(np.float64).eps) * half
    reach = [max(0, math.ceil(half * abs(slope) - 0.5 - least)) for slope in slopes]
    if math.prod(2 * r + 1 for r in reach) > MAX_TAPS:
        raise ValueError(f"`length` is {length}; expected a line of at most {MAX_TAPS} elements.")
    if half == 0.0:
        return np.ones((1, 1))
    # Where along the line a pixel's band is entered and left, for each axis; the line is in both at once.
    enter, leave = np.full([2 * r + 1 for r in reach], -half), np.full([2 * r + 1 for r in reach], half)
    for axis, (r, slope) in enumerate(zip(reach, slopes, strict=True)):
        if slope == 0.0:
            continue
        middle = np.arange(-r, r + 1.0) / slope
        width = 0.5 / abs(slope)
        shape = (-1, 1) if axis == 0 else (1, -1)
        enter = np.maximum(enter, (middle - width).reshape(shape))
        leave = np.minimum(leave, (middle + width).reshape(shape))
    inside = np.where(leave - enter > least, leave - enter, 0.0)
    weights: FloatArray = inside / inside.sum()
    return weights


def _covered(radius: float) -> FloatArray:
    """Return the area of each pixel in a disk about the middle one, normalised."""
    if radius == 0.0:
        return np.ones((1, 1))
    most = max(0, math.ceil(radius - 0.5))
    edges = np.concatenate([[0.0], np.arange(most + 1) + 0.5])
    quadrant = _quadrant(edges[:, np.newaxis], edges, radius)
    areas = np.diff(np.diff(quadrant, axis=0), axis=1)
    areas = (areas + areas.T) / 2  # exactly symmetric; rounding may leave negative areas
    areas = np.maximum(areas, 0.0)
    # The middle row and column are half pixels here.
    areas[0] *= 2
    areas[:, 0] *= 2
    half = np.concatenate([areas[:0:-1], areas])
    disk = np.concatenate([half[:, :0:-1], half], axis=1)
    weights: FloatArray = disk / disk.sum()
    return weights


def _quadrant(y: FloatArray, x: FloatArray, radius: float) -> FloatArray:
    """Return the area of ``[0, x] x [0, y]`` within a disk about 0."""
    y, x = np.minimum(y, radius), np.minimum(x, radius)
    # Up to `start` the disk is higher than y; beyond, its edge is the ceiling.
    start = np.minimum(np.sqrt(radius**2 - y**2), x)

    def below_the_edge(u: FloatArray) -> FloatArray:
        height = np.sqrt(np.maximum(radius**2 - u**2, 0.0))
        area: FloatArray = 0.5 * (u * height + radius**2 * np.arcsin(u / radius))
        return area

    area: FloatArray = start * y + below_the_edge(x) - below_the_edge(start)
    return area
