"""Sums of few terms that share nothing, of three axes or more: canonical polyadic decompositions.

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

_FIRST_SWEEPS: Final = 15
_SWEEPS: Final = 60
_HOPEFUL: Final = 2.5  # sweeps go on where the error is within this factor of what is asked for
_ROUNDS: Final = 20
_CLOSE: Final = 1.25
_STARTS: Final = 3

# Multiplications that all fits together may take: about a second.
_WORK: Final = 2e9
_WORK_PER_WEIGHT: Final = 3e5  # small kernels run fast as they are


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
        What the fits may take.
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

    From the number of terms below which no sum reaches `tol` upwards. Starts are the leading terms of the
    expansions, and the fit with fewer terms and the largest lines of what it leaves.
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
        # Far from the goal larger steps: errors fall by a factor per term at best.
        count += 1 if error < 4 * tol else max(1, count // 4)
    return None


def _starts(tensor: FloatArray, expansions: Sequence[Expansion], count: int) -> list[Form]:
    """Return the best few starts for sums of `count` terms, the best first."""
    starts = [_leading(each, count) for each in expansions if len(each.weights) >= count]
    if _unmixed(tensor):
        pencils = [from_pencil(tensor, axis, count) for axis in range(tensor.ndim)]
        starts += [form for form in pencils if form is not None]
    return sorted(starts, key=lambda form: _squares(tensor, form))[:_STARTS]


def _unmixed(tensor: FloatArray) -> bool:
    """Tell whether terms have the kernel's symmetries by themselves: none through its centre alone."""
    return not centre_parity(tensor) or all(parity(tensor, (axis,)) for axis in range(tensor.ndim))


def _squares(tensor: FloatArray, form: Form) -> float:
    return float(np.square(tensor - form.dense()).sum())


def _leading(expansion: Expansion, count: int) -> Form:
    """Return the leading terms of an expansion, each with lines of its own."""
    lines = [lines[:count] for lines in expansion.taps]
    lines[-2] = lines[-2] * expansion.weights[:count, np.newaxis]
    place = np.arange(len(lines[0]))
    return Form(tuple(lines), (place,) * len(lines))


def _grown(tensor: FloatArray, form: Form, count: int) -> Form:
    """Return the form with more terms: the largest lines of what it leaves, one after the other."""
    while form.count < count:
        rest = tensor - form.dense()
        pivot = np.unravel_index(int(np.argmax(np.abs(rest))), rest.shape)
        lines = []
        for axis in range(rest.ndim):
            through = tuple(slice(None) if a == axis else int(i) for a, i in enumerate(pivot))
            line = rest[through][np.newaxis] / (rest[pivot] if axis else 1.0)
            lines.append(with_parity(line, (1,), parity(tensor, (axis,))))
        place = np.zeros(1, np.intp)
        form = form.extended(Form(tuple(lines), (place,) * rest.ndim))
    return form


def _least_rank(tensor: FloatArray, axis: int, allowed: float) -> int:
    """Return the rank below which no sum is that close, because the l1 norm is no less than the l2 norm."""
    unfolded = np.moveaxis(tensor, axis, 0).reshape(tensor.shape[axis], -1)
    values = np.linalg.svd(unfolded, compute_uv=False)
    tails = np.sqrt(np.cumsum(np.square(values[::-1]))[::-1])
    return int(np.count_nonzero(tails > allowed * (1 + 1e-9) + 1e-15 * math.sqrt(tensor.size)))
