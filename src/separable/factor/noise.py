"""How much of a measured kernel is noise, from its own singular values.

The singular values of a smooth kernel fall fast; those of noise that is independent from sample to sample
and equally strong everywhere follow the Marchenko-Pastur law. Half of the values or more are noise, so their
median tells its strength [1]_; values above the law's edge are taken out as signal, and the median is taken
again.

References
----------
.. [1] M. Gavish, D. L. Donoho, The optimal hard threshold for singular values is 4/sqrt(3),
   IEEE Trans. Information Theory 60(8), 2014.
"""

from __future__ import annotations

import functools
import math
from typing import Final

import numpy as np

from ..kernel import Array
from .parity import parity

_FEWEST: Final = 6  # singular values that a median is taken of
_ROUNDS: Final = 8
_GRID: Final = 4000
_NAMED: Final = "crop less of the kernel, or give `tol` as a number"


def noise_level(dense: Array) -> float:
    """Estimate the relative l1 norm of the noise in a kernel.

    Parameters
    ----------
    dense : ndarray, float64, no axis of length 1

    Returns
    -------
    float
        The expected ``||noise||_1 / ||dense||_1`` of normally distributed noise. Of all unfoldings the
        smallest estimate: what is no noise only adds to the others.

    Raises
    ------
    ValueError
        If no unfolding has six rows and columns or more.
    """
    part = _distinct(dense)
    matrices = [np.moveaxis(part, axis, 0).reshape(n, -1) for axis, n in enumerate(part.shape)]
    usable = [matrix for matrix in matrices if min(matrix.shape) >= _FEWEST]
    if not usable:
        raise ValueError(
            f"`tol='noise'` needs {_FEWEST} or more different rows and columns of weights, got shape "
            f"{dense.shape}; {_NAMED}."
        )
    norm = float(np.abs(dense).sum())
    if norm == 0.0:
        return 0.0
    deviation = min(map(_deviation, usable))
    return deviation * math.sqrt(2 / math.pi) * dense.size / norm


def _distinct(dense: Array) -> Array:
    """Leave out what symmetry repeats: its noise is not independent."""
    part = dense
    for axis in range(dense.ndim):
        if parity(dense, (axis,)):
            part = part[(*[slice(None)] * axis, slice((dense.shape[axis] + 1) // 2))]
    if part is dense and parity(dense, tuple(range(dense.ndim))):
        part = dense[: (len(dense) + 1) // 2]
    return part


def _deviation(matrix: Array) -> float:
    """Return the standard deviation of the noise in a matrix."""
    values = np.linalg.svd(matrix, compute_uv=False)
    rows, columns = sorted(matrix.shape)
    signal, deviation = 0, 0.0
    for _ in range(_ROUNDS):
        m, n = rows - signal, columns - signal
        deviation = float(np.median(values[signal:])) / math.sqrt(n * _median(m / n))
        edge = deviation * (math.sqrt(m) + math.sqrt(n))
        above = min(int(np.count_nonzero(values > edge)), rows // 2)
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
