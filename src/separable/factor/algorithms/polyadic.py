"""Canonical polyadic decompositions: few terms of three axes or more that share no lines.

References
----------
.. [1] J. D. Carroll, J.-J. Chang, Analysis of individual differences in multidimensional scaling via an
   N-way generalization of Eckart-Young decomposition, Psychometrika 35, 1970.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from ..._base.types import FloatArray
from ..effort import Effort, svd_work, sweep_work
from ..forms import Form, relative_l1
from ..parity import centre_parity, parity, with_parity
from .least_squares import fitted, least_l1
from .pencil import from_pencil
from .staged import Expansion

_FIRST_SWEEPS: Final = 15  # sweeps from each start
_SWEEPS: Final = 60  # sweeps from the best of these fits
_HOPEFUL: Final = 2.5  # error in tolerances up to which the best fit is continued
_ROUNDS: Final = 20  # maximum rounds of reweighting
_CLOSE: Final = 1.25  # error in tolerances up to which reweighting is tried
_STARTS: Final = 3  # maximum starts for a number of terms

# Maximum multiplications of all fits: about a second; and per weight, as small kernels are fast anyway.
_WORK: Final = 2e9
_WORK_PER_WEIGHT: Final = 3e5


def best_sum(
    tensor: FloatArray, expansions: Sequence[Expansion], count: int, effort: Effort | None = None
) -> Form:
    """Return the sum of `count` terms with the least squared error that is found.

    Parameters
    ----------
    tensor : ndarray, three axes or more
    expansions : sequence of Expansion
        Their leading terms are the starts; the result is never worse than they are.
    count : int
    effort : Effort, optional
        The effort of the fits.
    """
    effort = effort or Effort()
    starts = _starts(tensor, expansions, count)
    if len(starts) * _SWEEPS * sweep_work(tensor.shape, count) > _WORK:
        return starts[0]
    fits = [fitted(tensor, form, _SWEEPS, effort=effort) for form in starts]
    return min([*starts, *fits], key=lambda form: _squares(tensor, form))


def fewest_terms(
    tensor: FloatArray, expansions: Sequence[Expansion], tol: float, macs: int, effort: Effort | None = None
) -> Form | None:
    """Return a sum of few terms within `tol` that takes less than `macs` multiplications, or None.

    Tries numbers of terms upwards from a lower bound for `tol`. Starts are the leading terms of the
    expansions, and the fit with fewer terms extended by lines of its residual.
    """
    effort = effort or Effort()
    if not effort.takes(sum(svd_work(n, tensor.size // n) for n in tensor.shape)):
        return None
    norm = float(np.abs(tensor).sum())
    work = min(_WORK, _WORK_PER_WEIGHT * tensor.size)
    count = max(2, *(_least_rank(tensor, axis, tol * norm) for axis in range(tensor.ndim)))
    best: Form | None = None
    while count * sum(tensor.shape) < macs:
        sweep = sweep_work(tensor.shape, count)
        if effort.left < sweep:
            effort.ended = True
            break
        work -= _STARTS * _FIRST_SWEEPS * sweep
        starts = _starts(tensor, expansions, count) if work >= 0 else []
        if not starts:
            break
        if best is not None and _unmixed(tensor):
            starts.append(_grown(tensor, best, count))
        fits = [fitted(tensor, form, _FIRST_SWEEPS, effort=effort) for form in starts]
        best = min(fits, key=lambda form: _squares(tensor, form))
        error = relative_l1(tensor, best)
        if tol < error < _HOPEFUL * tol:
            work -= _SWEEPS * sweep
            best = fitted(tensor, best, _SWEEPS, effort=effort)
            error = relative_l1(tensor, best)
        if tol < error < _CLOSE * tol:
            best = least_l1(tensor, best, tol * norm, _ROUNDS, effort)
            error = relative_l1(tensor, best)
        if error <= tol:
            return best
        # Larger steps far from the tolerance: at best, errors fall by a factor per term.
        count += 1 if error < 4 * tol else max(1, count // 4)
    return None


def _starts(tensor: FloatArray, expansions: Sequence[Expansion], count: int) -> list[Form]:
    """Return the best `_STARTS` starts for sums of `count` terms, the best first."""
    starts = [_leading(item, count) for item in expansions if len(item.weights) >= count]
    if _unmixed(tensor):
        pencils = [from_pencil(tensor, axis, count) for axis in range(tensor.ndim)]
        starts += [form for form in pencils if form is not None]
    return sorted(starts, key=lambda form: _squares(tensor, form))[:_STARTS]


def _unmixed(tensor: FloatArray) -> bool:
    """Return whether single terms have the kernel's symmetries: none is through its centre only."""
    return not centre_parity(tensor) or all(parity(tensor, (axis,)) for axis in range(tensor.ndim))


def _squares(tensor: FloatArray, form: Form) -> float:
    return float(np.square(tensor - form.dense()).sum())


def _leading(expansion: Expansion, count: int) -> Form:
    """Return the leading terms of an expansion, without shared lines."""
    lines = [lines[:count] for lines in expansion.taps]
    lines[-2] = lines[-2] * expansion.weights[:count, np.newaxis]
    place = np.arange(len(lines[0]))
    return Form(tuple(lines), (place,) * len(lines))


def _grown(tensor: FloatArray, form: Form, count: int) -> Form:
    """Return the form extended to `count` terms by lines through the largest element of its residual."""
    while form.count < count:
        residual = tensor - form.dense()
        pivot = np.unravel_index(int(np.argmax(np.abs(residual))), residual.shape)
        lines = []
        for axis in range(residual.ndim):
            through = tuple(slice(None) if a == axis else int(i) for a, i in enumerate(pivot))
            line = residual[through][np.newaxis] / (residual[pivot] if axis else 1.0)
            lines.append(with_parity(line, (1,), parity(tensor, (axis,))))
        place = np.zeros(1, np.intp)
        form = form.extended(Form(tuple(lines), (place,) * residual.ndim))
    return form


def _least_rank(tensor: FloatArray, axis: int, allowed: float) -> int:
    """Return a lower bound of the rank for an l1 error `allowed`, from the l2 error, which is not larger."""
    unfolded = np.moveaxis(tensor, axis, 0).reshape(tensor.shape[axis], -1)
    values = np.linalg.svd(unfolded, compute_uv=False)
    tails = np.sqrt(np.cumsum(np.square(values[::-1]))[::-1])
    return int(np.count_nonzero(tails > allowed * (1 + 1e-9) + 1e-15 * math.sqrt(tensor.size)))
