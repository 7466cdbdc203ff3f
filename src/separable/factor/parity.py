"""Exact symmetries of kernels and taps: filters fold no others."""

from __future__ import annotations

import numpy as np

from .._base.types import FloatArray


def parity(tensor: FloatArray, axes: tuple[int, ...]) -> int:
    """Return 1 if the tensor is exactly even along the axes, -1 if odd, else 0."""
    mirrored = np.flip(tensor, axes)
    if np.array_equal(tensor, mirrored):
        return 1
    return -1 if np.array_equal(tensor, -mirrored) else 0


def centre_parity(tensor: FloatArray) -> int:
    """Return the parity of a tensor through its centre."""
    return parity(tensor, tuple(range(tensor.ndim)))


def with_parity(vectors: FloatArray, axes: tuple[int, ...], wanted: int) -> FloatArray:
    """Return the even (1) or odd (-1) part of the vectors; the vectors themselves for 0."""
    return (vectors + wanted * np.flip(vectors, axes)) / 2 if wanted else vectors


def line_parities(lines: FloatArray) -> FloatArray:
    """Return the parity of each row, shape ``(R,)``."""
    mirrored = lines[:, ::-1]
    even, odd = (lines == mirrored).all(axis=1), (lines == -mirrored).all(axis=1)
    parities: FloatArray = np.where(even, 1.0, np.where(odd, -1.0, 0.0))
    return parities
