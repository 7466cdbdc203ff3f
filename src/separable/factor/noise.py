"""The noise in a measured kernel, estimated from its singular values.

The singular values of a smooth kernel fall fast; those of independent noise of equal variance follow the
Marchenko-Pastur law. Half of the values or more are noise, so their median gives its deviation [1]_; values
above the law's edge are removed as signal, and the median is computed again.

References
----------
.. [1] M. Gavish, D. L. Donoho, The optimal hard threshold for singular values is 4/sqrt(3),
   IEEE Trans. Information Theory 60(8), 2014.
"""

from __future__ import annotations

import functools
import math
from typing import Final, NamedTuple

import numpy as np

from .._base.types import FloatArray

_FEWEST: Final = 6  # minimum singular values for a median
_ROUNDS: Final = 8  # maximum rounds of removing signal
_GRID: Final = 4000  # points of the quadrature of the Marchenko-Pastur density
_ROUNDING: Final = 1e-13  # tolerance of symmetry, relative to the largest weight
_NAMED: Final = "crop less of the kernel, or give `tol` as a number"


class Noise(NamedTuple):
    """Noise in a kernel, both figures over the kernel's l1 norm.

    Attributes
    ----------
    level : float
        The expected l1 norm of the noise, if normally distributed.
    floor : float
        The l1 norm of the kernel's residual without its significant singular vectors along all axes. Below
        the level, because those contain some noise too.
    """

    level: float
    floor: float


def noise_of(dense: FloatArray) -> Noise:
    """Return the estimated noise in a kernel.

    Parameters
    ----------
    dense : ndarray, float64, no axis of length 1

    Returns
    -------
    Noise
        From the unfolding with the smallest estimate: signal only increases the others.

    Raises
    ------
    ValueError
        If no unfolding has six rows and columns or more that symmetry does not repeat.
    """
    norm = float(np.abs(dense).sum())
    if norm == 0.0:
        return Noise(0.0, 0.0)
    part = _distinct(dense)
    shapes = {axis: (n, part.size // n) for axis, n in enumerate(part.shape)}
    usable = [axis for axis, shape in shapes.items() if dense.ndim > 1 and min(shape) >= _FEWEST]
    if not usable:
        raise ValueError(
            f"`tol='noise'` needs {_FEWEST} or more different rows and columns of weights, got shape "
            f"{dense.shape}; {_NAMED}."
        )
    values: dict[int, FloatArray] = {
        axis: np.asarray(np.linalg.svd(_unfolded(part, axis), compute_uv=False)) for axis in usable
    }
    deviation = min(_deviation(values[axis], shapes[axis]) for axis in usable)
    level = deviation * math.sqrt(2 / math.pi) * dense.size / norm
    signal = dense
    for axis in usable:
        significant = int(np.count_nonzero(values[axis] > deviation * _edge(shapes[axis])))
        signal = _projected(signal, axis, significant)
    return Noise(level, float(np.abs(dense - signal).sum()) / norm)


def _unfolded(tensor: FloatArray, axis: int) -> FloatArray:
    return np.moveaxis(tensor, axis, 0).reshape(tensor.shape[axis], -1)


def _edge(shape: tuple[int, int]) -> float:
    """Return the largest singular value of noise of deviation 1."""
    return math.sqrt(shape[0]) + math.sqrt(shape[1])


def _projected(tensor: FloatArray, axis: int, count: int) -> FloatArray:
    """Return the tensor projected on its `count` leading singular vectors along an axis."""
    left = np.linalg.svd(_unfolded(tensor, axis), full_matrices=False)[0][:, :count]
    along = np.tensordot(left @ left.T, tensor, axes=(1, axis))
    return np.moveaxis(along, 0, axis)


def _distinct(dense: FloatArray) -> FloatArray:
    """Return the part of a kernel that symmetry does not repeat: only its noise is independent."""
    part = dense
    for axis in range(dense.ndim):
        if _mirrored(dense, (axis,)):
            half = (dense.shape[axis] + 1) // 2
            part = np.take(part, range(half), axis)
    if part is dense and _mirrored(dense, tuple(range(dense.ndim))):
        part = dense[: (len(dense) + 1) // 2]
    return part


def _mirrored(dense: FloatArray, axes: tuple[int, ...]) -> bool:
    """Return whether a kernel is even or odd along axes, up to rounding."""
    flipped = np.flip(dense, axes)
    nearest = min(float(np.abs(dense - flipped).max()), float(np.abs(dense + flipped).max()))
    return nearest <= _ROUNDING * float(np.abs(dense).max())


def _deviation(values: FloatArray, shape: tuple[int, int]) -> float:
    """Return the standard deviation of the noise in a matrix with these singular values."""
    rows, columns = sorted(shape)
    signal, deviation = 0, 0.0
    for _ in range(_ROUNDS):
        m, n = rows - signal, columns - signal
        deviation = float(np.median(values[signal:])) / math.sqrt(n * _median(m / n))
        above = min(int(np.count_nonzero(values > deviation * _edge((m, n)))), rows // 2)
        if above <= signal:
            break
        signal = above
    return deviation


@functools.lru_cache(maxsize=64)
def _median(ratio: float) -> float:
    """Return the median of the Marchenko-Pastur law of squared singular values over the longer side."""
    low, high = (1 - math.sqrt(ratio)) ** 2, (1 + math.sqrt(ratio)) ** 2
    # The density's square roots at both edges vanish under t = mid - half * cos(phi).
    angles = (np.arange(_GRID) + 0.5) * math.pi / _GRID
    half = (high - low) / 2
    points = (low + high) / 2 - half * np.cos(angles)
    shares = np.cumsum(np.square(half * np.sin(angles)) / points)
    return float(points[np.searchsorted(shares, shares[-1] / 2)])
