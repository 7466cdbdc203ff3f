"""Derivatives exact on polynomials: sampled weights with the smallest correction that makes them so."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping

import numpy as np

from .._base.types import FloatArray


def with_moments(
    target: FloatArray, window: FloatArray, derivative: Mapping[tuple[int, ...], float]
) -> FloatArray:
    """Return the weights nearest to `target` that differentiate every polynomial up to their order exactly.

    Parameters
    ----------
    target : ndarray
        Odd lengths. Even through the centre for an even order, odd for an odd one; so is the result, bit by
        bit.
    window : ndarray
        How far each weight may change relative to the others; same shape, largest at the centre.
    derivative : mapping of tuple of int to float
        The derivative as a polynomial in those along the axes: a coefficient for each tuple of orders; all
        tuples have one sum, the order.

    Returns
    -------
    ndarray
        Of all weights ``w`` with ``sum(w * p) == derivative of p at the centre`` for polynomials p up to the
        order, those with the least ``sum(((w - target) / window)**2)``.

    Notes
    -----
    The least change is the window's square times a polynomial [1]_. Along an axis the polynomials are
    ``x (x**2 - 1) (x**2 - 4) ...``, which vanish on the inner samples: where the window falls steeply the
    matrix is all but triangular, and with its rows sorted by size each weight is right to its own
    precision [2]_.

    References
    ----------
    .. [1] W. K. Liu, S. Jun, Y. F. Zhang, Reproducing kernel particle methods, Int. J. Numerical Methods in
       Fluids 20, 1995 (kernels corrected by their window times a polynomial).
    .. [2] A. J. Cox, N. J. Higham, Stability of Householder QR factorization for weighted least squares
       problems, in: Numerical Analysis 1997, Longman 1998.
    """
    order = sum(next(iter(derivative)))
    centre = target.size // 2
    half = centre + (order % 2 == 0)  # an odd derivative is 0 at the centre
    targets = target.ravel()[:half]
    rows = np.argsort(-window.ravel()[:half], kind="stable")
    root = window.ravel()[:half][rows]
    twice = np.where(rows == centre, 1.0, math.sqrt(2.0))  # a row represents a sample and its mirror image
    powers = [
        exponents
        for total in range(order % 2, order + 1, 2)
        for exponents in itertools.product(range(total + 1), repeat=target.ndim)
        if sum(exponents) == total
    ]
    places = np.unravel_index(rows, target.shape)
    factors = [
        [_factorial_power(at - n // 2, power) for power in range(order + 1)]
        for at, n in zip(places, target.shape, strict=True)
    ]
    matrix = np.stack(
        [
            math.prod((line[n] for line, n in zip(factors, exponents, strict=True)), start=root * twice)
            for exponents in powers
        ],
        axis=1,
    )
    scale = np.abs(matrix).max(axis=0)
    matrix /= scale
    moments = [derivative.get(exps, 0.0) * math.prod(map(math.factorial, exps)) for exps in powers] / scale
    basis, triangle = np.linalg.qr(matrix)
    changed = np.divide(targets[rows] * twice, root, out=np.zeros(half), where=root > 0)
    for _ in range(2):  # the second pass corrects the rounding of the first
        changed += basis @ np.linalg.solve(triangle.T, moments - matrix.T @ changed)
    weights = np.zeros(target.size)
    weights[rows] = root * changed / twice
    weights[centre + 1 :] = (1 - 2 * (order % 2)) * weights[:centre][::-1]
    return weights.reshape(target.shape)


def _factorial_power(x: FloatArray, power: int) -> FloatArray:
    """Return a polynomial ``x**power + ...`` of lower powers that vanishes on the inner integers."""
    squares = np.square(x.astype(np.float64))
    value = x.astype(np.float64) if power % 2 else np.ones(x.shape)
    for inner in range(power % 2, power // 2 + power % 2):
        value = value * (squares - inner * inner)
    return value
