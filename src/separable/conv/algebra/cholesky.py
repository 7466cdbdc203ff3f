"""Symmetric positive definite systems: factored once, solved as often as asked for."""

from __future__ import annotations

from typing import Final

import numpy as np

from ..._base.types import FloatArray

__all__ = ["Cholesky"]

# Rows of a block: factored by LAPACK; all else is products of matrices, which run at full speed.
_BLOCK: Final = 128

# What is added to the diagonal, relative to its mean, where rounding has left a pivot below zero.
_JITTERS: Final = (0.0, 1e-14, 1e-12, 1e-10, 1e-8)


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

    def __init__(self, matrix: FloatArray) -> None:
        mean = float(np.trace(matrix)) / max(len(matrix), 1)
        for jitter in _JITTERS:
            try:
                self._lower, self._inverses = _factored(matrix, jitter * mean)
            except np.linalg.LinAlgError:
                continue
            return
        raise np.linalg.LinAlgError("the matrix is not positive definite.")

    def forward(self, right: FloatArray) -> FloatArray:
        """Return ``L^-1 right``; row k depends on the first k rows and columns of the matrix alone.

        Parameters
        ----------
        right : ndarray, shape ``(n, m)``

        Returns
        -------
        ndarray, shape ``(n, m)``
        """
        solved = np.empty_like(right, dtype=np.float64)
        for start, inverse in zip(range(0, len(right), _BLOCK), self._inverses, strict=True):
            rows = slice(start, start + _BLOCK)
            solved[rows] = inverse @ (right[rows] - self._lower[rows, :start] @ solved[:start])
        return solved

    def backward(self, right: FloatArray) -> FloatArray:
        """Return ``L'^-1 right``, shape ``(n, m)``."""
        solved = np.empty_like(right, dtype=np.float64)
        starts = range(0, len(right), _BLOCK)
        for start, inverse in zip(reversed(starts), reversed(self._inverses), strict=True):
            rows, after = slice(start, start + _BLOCK), start + _BLOCK
            solved[rows] = inverse.T @ (right[rows] - self._lower[after:, rows].T @ solved[after:])
        return solved

    def solve(self, right: FloatArray) -> FloatArray:
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


def _factored(matrix: FloatArray, jitter: float) -> tuple[FloatArray, list[FloatArray]]:
    """Return the factor, its upper half left undefined, and the inverses of its diagonal blocks."""
    lower, inverses = np.array(matrix, np.float64), []
    if jitter:
        lower[np.diag_indices_from(lower)] += jitter
    for start in range(0, len(lower), _BLOCK):
        rows, after = slice(start, start + _BLOCK), start + _BLOCK
        if start:
            lower[start:, rows] -= lower[start:, :start] @ lower[rows, :start].T
        corner = np.linalg.cholesky(lower[rows, rows])
        inverse = np.asarray(np.linalg.inv(corner), np.float64)
        lower[rows, rows] = corner
        lower[after:, rows] = lower[after:, rows] @ inverse.T
        inverses.append(inverse)
    return lower, inverses
