"""Integer kernels as sums of outer products of small integer taps, exactly.

The rows of an integer matrix K span a lattice. A basis B of it, of as many vectors as the rank, gives K = C B
in integers; a reduced basis keeps them small.

References
----------
.. [1] A. K. Lenstra, H. W. Lenstra, L. Lovasz, Factoring polynomials with rational coefficients,
   Mathematische Annalen 261, 1982.
.. [2] M. Pohst, A modification of the LLL reduction algorithm, J. Symbolic Computation 4, 1987:
   generators that are linearly dependent.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from ..._base.types import FloatArray
from ..effort import CALL, Effort
from ..forms import Form
from ..parity import centre_parity, parity
from .single import integers_of

Integers: TypeAlias = npt.NDArray[np.int64]

# Maximum integer weight or tap: products in the checks stay within int64.
_LARGEST: Final = 1 << 20
# Maximum denominator of the weights over the smallest one; all up to it are tried.
_DENOMINATORS: Final = 720
_ROUNDING: Final = 4 * float(np.finfo(np.float64).eps)  # relative tolerance of whole multiples
_LOVASZ: Final = 0.75  # the parameter delta of LLL
_QR: Final = 3.0  # cost of a multiplication in the QR factorisation of a step, in those of a matrix product
_VECTOR: Final = 2e4  # cost of a vector of a step, handled in Python, in the same unit
_STEPS: Final = 4000  # maximum steps of a reduction; a basis that takes more has no small taps


class Whole(NamedTuple):
    """Weights as ``integers * scale``."""

    integers: Integers
    scale: float
    exact: bool  # the scale is a power of two, and no weight was rounded


def whole(dense: FloatArray) -> Whole | None:
    """Return weights as integers times one number, up to the rounding of each, or None."""
    integers = integers_of(dense, _LARGEST.bit_length())
    if integers is not None and int(np.abs(integers[0]).max()) <= _LARGEST:
        return Whole(integers[0], math.ldexp(1.0, integers[1]), True)
    values = np.unique(np.abs(dense[dense != 0]))
    if values[0] < values[-1] / _LARGEST:
        return None
    denominator = _denominator(values / values[0])
    multiples = np.rint(values / values[0] * denominator)
    if denominator == 0 or multiples[-1] > _LARGEST:
        return None
    units = values / multiples
    exact = [unit for unit in units if np.array_equal(unit * multiples, values)]
    scale = float(exact[0] if exact else units[-1])
    binary = bool(exact) and math.frexp(scale)[0] == 0.5
    return Whole(np.rint(dense / scale).astype(np.int64), scale, binary)


def _denominator(ratios: FloatArray) -> int:
    """Return the least integer whose products with all ratios are whole, up to rounding; 0 if none is."""
    candidates = np.arange(1, _DENOMINATORS + 1)
    for ratio in ratios:
        multiples = ratio * candidates
        candidates = candidates[np.abs(multiples - np.rint(multiples)) <= _ROUNDING * multiples]
        if not candidates.size:
            return 0
    return int(candidates[0])


def integer_form(integers: Integers, most: int, effort: Effort | None = None) -> Form | None:
    """Return a form with integer lines (or halves) whose sum is `integers` exactly; None where none is found.

    Parameters
    ----------
    integers : ndarray of int64, shape ``(n0, n1, ...)``, two axes or more
    most : int
        The maximum number of terms.
    effort : Effort, optional
        The search ends when it is spent.
    """
    effort = effort or Effort()
    forms = [
        form
        for axis in range(integers.ndim)
        if (form := _split(integers, axis, most, effort)) is not None and form.count <= most
    ]
    return min(forms, key=lambda form: (form.macs, form.amplification()), default=None)


def _split(integers: Integers, axis: int, most: int, effort: Effort) -> Form | None:
    """Return a form with one axis split off; kernels even or odd through their centre are split by parity."""
    turned = np.moveaxis(integers, axis, 0)
    dense = turned.astype(np.float64)
    if not centre_parity(dense) or parity(dense, (0,)):
        return _terms(turned, axis, most, 1.0, effort)
    mirrored = np.flip(turned, 0)
    parts = [_terms(part, axis, most, 0.5, effort) for part in (turned + mirrored, turned - mirrored)]
    one, other = parts
    return one.extended(other) if one is not None and other is not None else None


def _terms(turned: Integers, axis: int, most: int, scale: float, effort: Effort) -> Form | None:
    """Return a form of `turned` times `scale`, with its first axis at place `axis`."""
    matrix = turned.reshape(len(turned), -1)
    factors = rank_factors(matrix, most, effort)
    if factors is None:
        return None
    columns, rows = factors
    total: Form | None = None
    for column, row in zip(columns.T, rows, strict=True):
        remaining = row.reshape(turned.shape[1:])
        if remaining.ndim == 1:
            lines, index = [remaining[np.newaxis].astype(np.float64)], [np.zeros(1, np.intp)]
        else:
            inner = integer_form(remaining, most, effort)
            if inner is None:
                return None
            lines, index = list(inner.lines), list(inner.index)
        lines.insert(axis, column[np.newaxis] * scale)
        index.insert(axis, np.zeros(len(index[0]), np.intp))
        form = Form.of(lines, index)
        total = form if total is None else total.extended(form)
        if total.count > most:
            return None
    return total


def rank_factors(
    matrix: Integers, most: int, effort: Effort | None = None
) -> tuple[Integers, Integers] | None:
    """Return integer C (m, r) and B (r, n) with ``C @ B == matrix`` and r its rank; None if r > `most`.

    From the lattice of the rows or of the columns, whichever product has the smaller terms.
    """
    effort = effort or Effort()
    rows, columns = _by_rows(matrix, most, effort), _by_rows(matrix.T, most, effort)
    pairs = [] if rows is None else [rows]
    pairs += [] if columns is None else [(columns[1].T, columns[0].T)]
    return min(
        pairs, key=lambda pair: int(np.abs(pair[0]).sum(axis=0) @ np.abs(pair[1]).sum(axis=1)), default=None
    )


def _by_rows(matrix: Integers, most: int, effort: Effort) -> tuple[Integers, Integers] | None:
    basis = _reduced(matrix, most, effort)
    if basis is None:
        return None
    solved, *_ = np.linalg.lstsq(basis.T.astype(np.float64), matrix.T.astype(np.float64), rcond=None)
    columns = np.rint(solved.T)
    if np.abs(columns).max() > _LARGEST or np.abs(basis).max() > _LARGEST:
        return None
    exact = columns.astype(np.int64)
    return (exact, basis) if np.array_equal(exact @ basis, matrix) else None


def _reduced(matrix: Integers, most: int, effort: Effort) -> Integers | None:
    """Return a reduced basis of the lattice that the rows span."""
    rows = np.unique(matrix[matrix.any(axis=1)], axis=0)
    order = np.argsort(np.square(rows.astype(np.float64)).sum(axis=1), kind="stable")
    basis: list[Integers] = []
    steps = _STEPS
    for row in rows[order]:
        basis, steps = _inserted([*basis, row], steps, effort)
        if steps <= 0 or len(basis) > most:
            return None
    return np.array(basis)


def _inserted(basis: list[Integers], steps: int, effort: Effort) -> tuple[list[Integers], int]:
    """Return the reduced basis after appending its last vector, without zeros, and the steps left.

    In floating point; the result is checked in integers.
    """
    k = len(basis) - 1
    while k < len(basis) and steps > 0:
        if not effort.takes(_QR * (k + 1) ** 2 * basis[k].size + _VECTOR * (k + 1) + CALL / 4):
            return basis, 0
        steps -= 1
        triangle = _triangle(basis[: k + 1])
        for j in range(k - 1, -1, -1):
            multiple = round(float(triangle[j, k] / triangle[j, j])) if triangle[j, j] else 0
            if multiple:
                basis[k] = basis[k] - multiple * basis[j]
                triangle[:, k] -= multiple * triangle[:, j]
        if not basis[k].any():
            del basis[k]
            k = max(0, k - 1)
        elif k == 0 or _in_order(triangle, k):
            k += 1
        else:
            basis[k - 1], basis[k] = basis[k], basis[k - 1]
            k -= 1
    return basis, steps


def _triangle(vectors: list[Integers]) -> FloatArray:
    """Return the coefficients of the vectors in their orthonormal basis (the factor R of QR)."""
    return np.asarray(np.linalg.qr(np.array(vectors, np.float64).T, mode="r"), np.float64)


def _in_order(triangle: FloatArray, k: int) -> bool:
    """Return whether vectors k - 1 and k satisfy the Lovasz condition."""
    orthogonal = triangle[k, k] if k < len(triangle) else 0.0
    above, before = float(triangle[k - 1, k]), float(triangle[k - 1, k - 1])
    return math.hypot(float(orthogonal), above) ** 2 >= _LOVASZ * before**2
