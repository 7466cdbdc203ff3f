"""Fewer multiplications at the same error: terms that share lines are fitted again and the least one dropped.

A kernel of three axes is written as a graph: a few lines along the first axis, a few along the last, and for
some pairs of them a line along the middle axis. A staged decomposition is a graph in which every line of one
side has one partner, a Tucker decomposition one in which all are partners, and what is cheapest lies between.

References
----------
.. [1] B. Hassibi, D. G. Stork, Second order derivatives for network pruning: optimal brain surgeon,
   NIPS 5, 1992: what dropping a coefficient costs in least squares when the others are fitted again.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from ..._base.types import FloatArray
from ..effort import Effort, svd_work
from ..forms import Form, Indices, relative_l1
from .least_squares import fitted, grouped, least_l1

_TRIALS: Final = 4  # terms that are tried before a form counts as pruned
_SHARE: Final = 24  # one in so many terms is dropped at once at first
_SWEEPS: Final = 8
_ROUNDS: Final = 10
_CLOSE: Final = 1.25  # reweighting is tried where the error is this close


def pruned(tensor: FloatArray, form: Form, tol: float, effort: Effort | None = None) -> Form:
    """Return a form within `tol` that takes as few multiplications as dropping term after term reaches.

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
    some = form.count // _SHARE
    while some > 1 and effort.takes(_choosing_work(form)):  # many at once as long as that goes
        trial = _within(tensor, form.without(_dispensable(form)[:some]), tol, norm, effort)
        if trial is None:
            some //= 2
        else:
            form = trial
    while form.count > 2 and effort.takes(_choosing_work(form)):  # single terms are looked for elsewhere
        trials = (
            _within(tensor, form.without(term), tol, norm, effort) for term in _dispensable(form)[:_TRIALS]
        )
        trial = next((each for each in trials if each is not None), None)
        if trial is None:
            break
        form = trial
    return form


def _within(tensor: FloatArray, form: Form, tol: float, norm: float, effort: Effort) -> Form | None:
    """Return the form fitted so that it is within `tol`, or None."""
    form = fitted(tensor, form, _SWEEPS, effort=effort)
    error = relative_l1(tensor, form)
    if error > tol and error < _CLOSE * tol:
        form = least_l1(tensor, form, tol * norm, _ROUNDS, effort)
        error = relative_l1(tensor, form)
    return form if error <= tol else None


def _choosing_work(form: Form) -> float:
    """Return what it takes to rank the terms."""
    others = form.lines[0].shape[1] * form.lines[-1].shape[1]
    return float(form.count**2 * others) + svd_work(form.count, form.count)


def _dispensable(form: Form) -> Indices:
    """List the terms whose loss costs the least squared error for each multiplication saved, best first."""
    atoms = grouped(form, form.free)
    inverse = np.linalg.pinv(atoms @ atoms.T, hermitian=True)
    own = np.square(form.lines[form.free]).sum(axis=1)
    increase = own / np.maximum(np.diag(inverse), 1e-300)
    saved = np.full(form.count, float(form.shape[form.free]))
    for axis in (0, form.free + 1):
        alone = np.bincount(form.index[axis])[form.index[axis]] == 1
        saved += np.where(alone, form.shape[axis], 0)
    ranking: Indices = np.argsort(increase / saved, kind="stable")
    return ranking
