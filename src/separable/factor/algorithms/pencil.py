"""Sums of terms by eigenvectors of a matrix pencil: algebraic if exact, else a start for fitting.

References
----------
.. [1] S. E. Leurgans, R. T. Ross, R. B. Abel, A decomposition for three-way arrays,
   SIAM J. Matrix Anal. Appl. 14(4), 1993.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..._base.types import FloatArray
from ..forms import Form
from ..parity import parity, with_parity


def from_pencil(tensor: FloatArray, axis: int, count: int) -> Form | None:
    """Return a sum of `count` terms whose lines along `axis` are eigenvectors, or None.

    The slices of a sum of terms are simultaneously diagonal in the lines along two axes. These lines are the
    eigenvectors of the quotient of two mixtures of slices, those of the leading singular vectors along the
    other axes. Each line is completed by the leading term of its least-squares solution.

    Parameters
    ----------
    tensor : ndarray, three axes or more
    axis : int
    count : int
        At most the length of `axis` and of one other.
    """
    shape = tensor.shape
    partner = max((a for a in range(tensor.ndim) if a != axis), key=lambda a: shape[a])
    if count > min(shape[axis], shape[partner]):
        return None
    matrix = np.moveaxis(tensor, axis, 0).reshape(shape[axis], -1)
    slices = np.moveaxis(tensor, (axis, partner), (0, 1)).reshape(shape[axis], shape[partner], -1)
    left = np.linalg.svd(matrix, full_matrices=False)[0][:, :count]
    right = np.linalg.svd(np.moveaxis(slices, 1, 0).reshape(shape[partner], -1), full_matrices=False)[0]
    core = np.einsum("ai,abk,bj->ijk", left, slices, right[:, :count], optimize=True)
    mixtures = np.linalg.svd(core.reshape(count * count, -1), full_matrices=False)[2][:2]
    if len(mixtures) < 2:
        return None
    one, other = (core @ mixture for mixture in mixtures)
    try:
        with np.errstate(all="ignore"):  # a singular pencil gives non-finite lines, rejected below
            vectors = np.linalg.eig(np.linalg.solve(one.T, other.T).T)[1]
    except np.linalg.LinAlgError:
        return None
    lines = with_parity((left @ _real(vectors)).T, (1,), parity(tensor, (axis,)))
    factors, *_ = np.linalg.lstsq(lines.T, matrix, rcond=None)
    others = [n for a, n in enumerate(shape) if a != axis]
    completed = [_strongest(factor.reshape(others), tensor, axis) for factor in factors]
    columns = [np.stack(axis_lines) for axis_lines in zip(*completed, strict=True)]
    columns.insert(axis, lines)
    place = np.arange(count)
    form = Form(tuple(columns), (place,) * tensor.ndim)
    return form if all(np.isfinite(column).all() for column in columns) else None


def _real(vectors: npt.NDArray[Any]) -> FloatArray:
    """Return real columns of the same span: conjugate pairs become real and imaginary part."""
    real = vectors.real.astype(np.float64)
    pairs = np.flatnonzero(np.any(vectors.imag != 0, axis=0))
    real[:, pairs[1::2]] = vectors.imag[:, pairs[::2]]
    return real


def _strongest(rest: FloatArray, tensor: FloatArray, axis: int) -> list[FloatArray]:
    """Return lines, one per axis of `rest`, whose outer product approximates its leading term."""
    axes = [a for a in range(tensor.ndim) if a != axis]
    lines: list[FloatArray] = []
    weight = rest
    for place, along in enumerate(axes):
        unfolded = np.moveaxis(rest, place, 0).reshape(rest.shape[place], -1)
        line = np.linalg.svd(unfolded, full_matrices=False)[0][:, 0]
        lines.append(with_parity(line, (0,), parity(tensor, (along,))))
        weight = np.tensordot(lines[-1], weight, axes=(0, 0))
    lines[-1] = lines[-1] * float(weight)
    return lines
