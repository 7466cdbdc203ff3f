"""Pruning of forms of three axes: the least important term is dropped and the others fitted again.

A kernel of three axes is a bipartite graph: lines along the first axis, lines along the last, and for some
pairs of them a line along the middle axis. In a staged decomposition every line of one side has one partner,
in a Tucker decomposition all lines are partners; the cheapest form lies between.

References
----------
.. [1] B. Hassibi, D. G. Stork, Second order derivatives for network pruning: optimal brain surgeon,
   NIPS 5, 1992: the increase of the squared error when a coefficient is dropped and the others fitted again.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from ..._base.types import FloatArray
from ..effort import Effort, svd_work
from ..forms import Form, Indices, relative_l1
from .least_squares import fitted, grouped, least_l1

_TRIALS: Final = 4  # single terms tried before a form counts as pruned
_SHARE: Final = 24  # terms per term that is dropped in the first step
_SWEEPS: Final = 8  # sweeps of least squares after each step
_ROUNDS: Final = 10  # maximum rounds of reweighting
_CLOSE: Final = 1.25  # error in tolerances up to which reweighting is tried


def pruned(tensor: FloatArray, form: Form, tol: float, effort: Effort | None = None) -> Form:
    """Return a form within `tol` of fewer multiplications, by dropping term after term.

    Parameters
    ----------
    tensor : ndarray, three axes
    form : Form
        Within `tol`, or soon after fitting.
    tol : float
        Relative l1 error allowed.
    effort : Effort, optional
        No term is dropped once it is spent.
    """
    effort = effort or Effort()
    form = fitted(tensor, form, _SWEEPS, effort=effort)
    norm = float(np.abs(tensor).sum())
    count = form.count // _SHARE
    while count > 1 and effort.takes(
        _choosing_work(form)
    ):  # several at once, halved when the error is too large
        trial = _within(tensor, form.without(_dispensable(form)[:count]), tol, norm, effort)
        if trial is None:
            count //= 2
        else:
            form = trial
    while form.count > 2 and effort.takes(_choosing_work(form)):  # forms of one term are searched elsewhere
        trials = (
            _within(tensor, form.without(term), tol, norm, effort) for term in _dispensable(form)[:_TRIALS]
        )
        trial = next((candidate for candidate in trials if candidate is not None), None)
        if trial is None:
            break
        form = trial
    return form


def _within(tensor: FloatArray, form: Form, tol: float, norm: float, effort: Effort) -> Form | None:
    """Return the fitted form if it is within `tol`, else None."""
    form = fitted(tensor, form, _SWEEPS, effort=effort)
    error = relative_l1(tensor, form)
    if error > tol and error < _CLOSE * tol:
        form = least_l1(tensor, form, tol * norm, _ROUNDS, effort)
        error = relative_l1(tensor, form)
    return form if error <= tol else None


def _choosing_work(form: Form) -> float:
    """Return the work of ranking the terms."""
    others = form.lines[0].shape[1] * form.lines[-1].shape[1]
    return float(form.count**2 * others) + svd_work(form.count, form.count)


def _dispensable(form: Form) -> Indices:
    """Return the terms ordered by the squared error that dropping them adds per multiplication saved."""
    atoms = grouped(form, form.free)
    inverse = np.linalg.pinv(atoms @ atoms.T, hermitian=True)
    energies = np.square(form.lines[form.free]).sum(axis=1)
    increase = energies / np.maximum(np.diag(inverse), 1e-300)
    saved = np.full(form.count, float(form.shape[form.free]))
    for axis in (0, form.free + 1):
        alone = np.bincount(form.index[axis])[form.index[axis]] == 1
        saved += np.where(alone, form.shape[axis], 0)
    ranking: Indices = np.argsort(increase / saved, kind="stable")
    return ranking
