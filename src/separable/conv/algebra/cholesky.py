"""Symmetric positive definite systems: factored once, solved as often as asked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from ..._base.types import RealArray

__all__ = ["Cholesky"]

# Rows of a block: factored by LAPACK; all else is products of matrices, which run at full speed.
_BLOCK: Final = 128

# Rows of a corner of a block that is inverted by LAPACK.
_CORNER: Final = 32

# What is added to the diagonal, as a fraction of it and at least of its mean, where rounding has left a pivot
# below zero: that of the matrix itself, or of sums that it was made from in single precision.
_JITTERS: Final = (0.0, 1e-14, 1e-12, 1e-10, 1e-8, 1e-6, 1e-4)

# In single precision the factor itself is off by about the rows times the rounding unit, which can be more
# than any of these: a layer of 256 channels at 2 x 2, of 2,304 rows and 172 patches. Then in double.
_LAST: Final = 1e-3


class Cholesky:
    """The factor L of a matrix ``A = L L'``, by blocks [1]_.

    NumPy solves by LU decomposition, which takes twice the operations, and anew for each right side.

    Parameters
    ----------
    matrix : ndarray, shape ``(n, n)``
        Symmetric, positive definite but for rounding. Only the lower half is read.

    Raises
    ------
    numpy.linalg.LinAlgError
        If it is far from positive definite.

    References
    ----------
    .. [1] G. Golub, C. Van Loan, Matrix Computations, 4th ed., 2013, section 4.2.9.
    """

    def __init__(self, matrix: RealArray) -> None:
        kept = np.result_type(matrix, np.float32)  # whatever it takes: callers mix it with the matrix
        for dtype, jitter in _attempts(kept):
            try:
                lower, inverses = _factored(matrix, dtype, jitter)
            except np.linalg.LinAlgError:
                continue
            self._lower = lower.astype(kept, copy=False)
            self._inverses = [inverse.astype(kept, copy=False) for inverse in inverses]
            return
        raise np.linalg.LinAlgError("the matrix is not positive definite.")

    def forward(self, right: RealArray) -> RealArray:
        """Return ``L^-1 right``; row k depends on the first k rows and columns of the matrix alone.

        Parameters
        ----------
        right : ndarray, shape ``(n, m)``

        Returns
        -------
        ndarray, shape ``(n, m)``
        """
        solved = np.empty_like(right, dtype=self._lower.dtype)
        for start, inverse in zip(range(0, len(right), _BLOCK), self._inverses, strict=True):
            rows = slice(start, start + _BLOCK)
            solved[rows] = inverse @ (right[rows] - self._lower[rows, :start] @ solved[:start])
        return solved

    def backward(self, right: RealArray) -> RealArray:
        """Return ``L'^-1 right``, shape ``(n, m)``."""
        solved = np.empty_like(right, dtype=self._lower.dtype)
        starts = range(0, len(right), _BLOCK)
        for start, inverse in zip(reversed(starts), reversed(self._inverses), strict=True):
            rows, after = slice(start, start + _BLOCK), start + _BLOCK
            solved[rows] = inverse.T @ (right[rows] - self._lower[after:, rows].T @ solved[after:])
        return solved

    def solve(self, right: RealArray) -> RealArray:
        """Return ``A^-1 right``.

        Parameters
        ----------
        right : ndarray, shape ``(n, m)`` or ``(n,)``

        Returns
        -------
        ndarray
            Of the same shape.
        """
        columns = right.reshape(len(right), -1)
        return self.backward(self.forward(columns)).reshape(right.shape)


def _attempts(dtype: np.dtype[Any]) -> Iterator[tuple[Any, float]]:
    """Yield the precisions and the fractions with which to factor, in turn."""
    yield from ((dtype, jitter) for jitter in _JITTERS)
    if dtype == np.float32:
        yield from ((np.float64, jitter) for jitter in (*_JITTERS, _LAST))


def _factored(matrix: RealArray, dtype: Any, jitter: float) -> tuple[RealArray, list[RealArray]]:
    """Return the factor, its upper half left undefined, and the inverses of its diagonal blocks."""
    lower, inverses = np.array(matrix, dtype), []
    if jitter:
        diagonal = np.diagonal(lower).copy()
        lower[np.diag_indices_from(lower)] += jitter * np.maximum(diagonal, diagonal.mean())
    for start in range(0, len(lower), _BLOCK):
        rows, after = slice(start, start + _BLOCK), start + _BLOCK
        if start:
            lower[start:, rows] -= lower[start:, :start] @ lower[rows, :start].T
        corner = np.linalg.cholesky(lower[rows, rows])
        inverse = _inverse(corner)
        lower[rows, rows] = corner
        lower[after:, rows] = lower[after:, rows] @ inverse.T
        inverses.append(inverse)
    return lower, inverses


def _inverse(lower: RealArray) -> RealArray:
    """Return the inverse of a lower triangular matrix: its corners', and from them ever larger ones."""
    size = len(lower)
    if size % _CORNER or (size // _CORNER) & (size // _CORNER - 1):
        return np.asarray(np.linalg.inv(lower))
    inverse = np.zeros_like(lower)
    corners = [slice(start, start + _CORNER) for start in range(0, size, _CORNER)]
    for rows, corner in zip(corners, np.linalg.inv(np.stack([lower[r, r] for r in corners])), strict=True):
        inverse[rows, rows] = corner
    width = _CORNER
    while width < size:
        for start in range(0, size, 2 * width):
            upper, under = slice(start, start + width), slice(start + width, start + 2 * width)
            inverse[under, upper] = -inverse[under, under] @ lower[under, upper] @ inverse[upper, upper]
        width *= 2
    return inverse
