"""Fitting the lines of a form: alternating least squares, and least absolute deviations by reweighting.

References
----------
.. [1] T. G. Kolda, B. W. Bader, Tensor decompositions and applications, SIAM Review 51(3), 2009, section 3.4.
.. [2] P. W. Holland, R. E. Welsch, Robust regression using iteratively reweighted least-squares,
   Communications in Statistics A6, 1977.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from ..._base.types import FloatArray
from ..effort import Effort, sweep_work, weighted_sweep_work
from ..forms import Form, signs_of

# Regularisation, relative to the mean squared norm of atoms, against collinear ones.
_RIDGE: Final = 1e-13

# Rounds without a gain of 1 % after which reweighting stops.
_PATIENCE: Final = 6
_GAIN: Final = 0.99


def fitted(
    tensor: FloatArray, form: Form, sweeps: int, gain: float = 1e-4, effort: Effort | None = None
) -> Form:
    """Return the form after `sweeps` rounds of alternating least squares, fewer where little is gained.

    Parameters
    ----------
    tensor : ndarray, shape ``form.shape``
    form : Form
        The start.
    sweeps : int
    gain : float
        Rounds end when the squared error falls by less than this share.
    effort : Effort, optional
        Rounds also end when it is spent.
    """
    effort = effort or Effort()
    signs, unfolded = signs_of(form, tensor), _unfoldings(tensor)
    before = np.inf
    for _ in range(sweeps):
        if not effort.takes(sweep_work(tensor.shape, form.count)):
            break
        for axis in range(tensor.ndim):
            form = _updated(form, axis, unfolded[axis], signs[axis])
        after = float(np.square(tensor - form.dense()).sum())
        if after >= before * (1 - gain):
            break
        before = after
    return form


def least_l1(tensor: FloatArray, form: Form, goal: float, rounds: int, effort: Effort | None = None) -> Form:
    """Return a form of smaller l1 error, by iteratively reweighted least squares.

    Parameters
    ----------
    tensor : ndarray, shape ``form.shape``
    form : Form
        The start; the result is never worse.
    goal : float
        The absolute l1 error at which rounds end.
    rounds : int
        The maximum number.
    effort : Effort, optional
        Rounds also end when it is spent.
    """
    effort = effort or Effort()
    signs, unfolded = signs_of(form, tensor), _unfoldings(tensor)
    residual = np.abs(tensor - form.dense())
    best, least, waited = form, float(residual.sum()), 0
    floor = float(residual.mean())
    for _ in range(rounds):
        if least <= goal or waited >= _PATIENCE or floor == 0.0:
            break
        if not effort.takes(weighted_sweep_work(tensor.shape, form.count)):
            break
        weights = _unfoldings(floor / np.maximum(residual, floor))
        for axis in range(tensor.ndim):
            form = _updated(form, axis, unfolded[axis], signs[axis], weights[axis])
        residual = np.abs(tensor - form.dense())
        error = float(residual.sum())
        waited = 0 if error < _GAIN * least else waited + 1
        if error < least:
            best, least = form, error
        floor = max(0.7 * floor, 1e-3 * float(residual.mean()))
    return best


def _unfoldings(tensor: FloatArray) -> list[FloatArray]:
    return [np.moveaxis(tensor, a, 0).reshape(tensor.shape[a], -1) for a in range(tensor.ndim)]


def _updated(
    form: Form, axis: int, unfolded: FloatArray, signs: FloatArray | None, weights: FloatArray | None = None
) -> Form:
    """Return the form with least-squares lines along one axis, all others fixed."""
    atoms = grouped(form, axis)
    norms = np.linalg.norm(atoms, axis=1)
    norms[norms == 0] = 1.0
    atoms = atoms / norms[:, np.newaxis]
    if weights is None:
        solved = solve(atoms @ atoms.T, atoms @ unfolded.T)
    else:
        heavy = weights[:, np.newaxis, :] * atoms if atoms.size * len(weights) < 1 << 21 else None
        if heavy is not None:
            grams, sides = heavy @ atoms.T, heavy @ unfolded[:, :, np.newaxis]
            solved = solve(grams, sides)[:, :, 0].T
        else:
            columns = []
            for row, weight in zip(unfolded, weights, strict=True):
                weighted = atoms * weight
                columns.append(solve(weighted @ atoms.T, weighted @ row[:, np.newaxis]))
            solved = np.concatenate(columns, axis=1)
    lines = solved / norms[:, np.newaxis]
    if signs is not None:
        wanted = signs[:, np.newaxis]
        lines = np.where(wanted != 0, (lines + wanted * lines[:, ::-1]) / 2, lines)
    return _balanced(form, axis, lines)


def grouped(form: Form, axis: int) -> FloatArray:
    """Return the atoms that lines along `axis` multiply, shape ``(L, size / n_axis)``."""
    products = form.products(axis)
    if axis == form.free:
        return products
    places = np.zeros((len(form.lines[axis]), form.count))
    places[form.index[axis], np.arange(form.count)] = 1.0
    atoms: FloatArray = places @ products
    return atoms


def solve(gram: FloatArray, sides: FloatArray) -> FloatArray:
    """Return the solution of normal equations, of one matrix or a stack; atoms have unit norm."""
    size = gram.shape[-1]
    ridge = _RIDGE * np.trace(gram, axis1=-2, axis2=-1) / size
    solution: FloatArray = np.linalg.solve(gram + np.multiply.outer(ridge + 1e-300, np.eye(size)), sides)
    return solution


def _balanced(form: Form, axis: int, lines: FloatArray) -> Form:
    """Return the form with new lines along `axis`; their norms go to the axis where no line is shared."""
    new = list(form.lines)
    if axis != form.free:
        norms = np.linalg.norm(lines, axis=1)
        norms[norms == 0] = 1.0
        lines = lines / norms[:, np.newaxis]
        new[form.free] = new[form.free] * norms[form.index[axis]][:, np.newaxis]
    new[axis] = lines
    return Form(tuple(new), form.index)
