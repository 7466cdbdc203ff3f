"""Sums of terms by singular value decompositions, one axis split off after the other."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from ..._base.types import FloatArray
from ..effort import Effort, svd_work
from ..forms import Form, Indices
from ..parity import centre_parity, line_parities, parity, with_parity

_EPS: Final = float(np.finfo(np.float64).eps)
_BLOCK_ELEMENTS: Final = 1 << 22

# What a leading vector of a matrix takes for each of its elements, and how many more are sketched.
_SKETCHED: Final = 12.0
_SURPLUS: Final = 8

# Up to four axes every order of splitting is tried (12 of them); 8 axes would have 20,160.
_ALL_ORDERS_NDIM: Final = 4


@dataclass(frozen=True)
class Expansion:
    """Orthogonal rank-one terms of one array: weights (R,), descending; unit taps (R, n) per axis."""

    weights: FloatArray
    taps: tuple[FloatArray, ...]

    def partial(self, start: int, stop: int) -> FloatArray:
        """Return the sum of terms `start` to `stop`, written out."""
        shape = tuple(lines.shape[1] for lines in self.taps)
        total = np.zeros((shape[0], math.prod(shape[1:])))
        step = max(1, _BLOCK_ELEMENTS // total.shape[1])
        for begin in range(start, stop, step):
            block = slice(begin, min(begin + step, stop))
            right = np.ones((block.stop - begin, 1))
            for lines in self.taps[1:]:
                right = (right[:, :, np.newaxis] * lines[block, np.newaxis, :]).reshape(len(right), -1)
            total += (self.weights[block, np.newaxis] * self.taps[0][block]).T @ right
        return total.reshape(shape)


def orders(ndim: int) -> list[tuple[int, ...]]:
    """Return the orders in which the axes are split off; the last two axes are one SVD, in either order."""
    if ndim <= _ALL_ORDERS_NDIM:
        return [order for order in itertools.permutations(range(ndim)) if order[-2] < order[-1]]
    axes = list(range(ndim))
    return [(axis, *axes[:axis], *axes[axis + 1 :]) for axis in axes]


def svd_bytes(shape: Sequence[int]) -> int:
    """Memory of the first and largest SVD: the parity parts, factors and LAPACK's gesdd workspace."""
    m, n = shape[0], math.prod(shape[1:])
    k = min(m, n)
    return 8 * (4 * m * n + m * k + k * n + 4 * k * k + 7 * k)


def largest_svd(shape: tuple[int, ...]) -> int:
    """Return the memory in bytes that the SVDs of a kernel take at most."""
    return max(svd_bytes([shape[axis] for axis in order]) for order in orders(len(shape)))


def expand(tensor: FloatArray, order: tuple[int, ...], effort: Effort | None = None) -> Expansion:
    """Return the terms that come of splitting off axes in this order, heaviest first.

    Where `effort` ends before, those that it reaches: the leading ones, as far as one sees.
    """
    turned = np.transpose(tensor, order)
    weights, taps = staged(turned, 0.0, effort or Effort())
    ranking = np.argsort(-weights, kind="stable")
    by_axis = dict(zip(order, taps, strict=True))
    return Expansion(weights[ranking], tuple(by_axis[axis][ranking] for axis in range(tensor.ndim)))


def staged(tensor: FloatArray, floor: float, effort: Effort) -> tuple[FloatArray, list[FloatArray]]:
    """Split off the first axis by an SVD, then treat each of its right vectors alike.

    Returns the weights (R,) of the terms and their unit taps (R, n) per axis. Terms not above `floor`
    are rounding noise and left out; 0.0 asks for the floor of this tensor.
    """
    left, values, right = _affordable_svd(tensor, effort)
    floor = floor or float(values.max()) * _EPS * max(tensor.shape)
    kept = values > floor
    left, values, right = left[kept], values[kept], right[kept]
    if tensor.ndim == 2:
        return values, [left, right]
    split: dict[int, tuple[FloatArray, list[FloatArray]]] = {}
    for place in map(int, np.argsort(-values, kind="stable")):
        rest = right[place]
        if split and effort.left < svd_work(len(rest), rest.size // len(rest)):
            effort.ended = True
            break
        split[place] = staged(rest, floor / float(values[place]), effort)
    weights, taps = [], []
    for place, (inner_weights, inner_taps) in sorted(split.items()):
        weights.append(values[place] * inner_weights)
        taps.append([np.broadcast_to(left[place], (len(inner_weights), len(tensor))), *inner_taps])
    return np.concatenate(weights), [np.concatenate(lines) for lines in zip(*taps, strict=True)]


def _affordable_svd(tensor: FloatArray, effort: Effort) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return `parity_svd` of the tensor: whole, or the leading vectors that `effort` pays for."""
    rows, columns = len(tensor), tensor.size // len(tensor)
    if effort.takes(svd_work(rows, columns)):
        return parity_svd(tensor)
    count = max(1, int(effort.left / (_SKETCHED * rows * columns)) - _SURPLUS)
    effort.spend(_SKETCHED * rows * columns * (count + _SURPLUS))
    return parity_svd(tensor, count)


def parity_svd(tensor: FloatArray, count: int | None = None) -> tuple[FloatArray, FloatArray, FloatArray]:
    """SVD of the first axis against the rest, with singular vectors of the tensor's own symmetries.

    Filters run symmetric and antisymmetric taps in half the multiplications, but only exact ones, and
    an SVD returns them with rounding, or mixed where singular values coincide. A tensor that is even or
    odd through its centre is the sum of its parts even and odd along axis 0, whose row spaces are
    orthogonal: their SVDs together are one of the tensor.

    Parameters
    ----------
    tensor : ndarray, two axes or more
    count : int, optional
        How many leading vectors are enough, of each part: they are sketched.

    Returns
    -------
    left (r, n0), values (r,), right (r, *rest)
        Values not sorted.
    """
    rest = tuple(range(1, tensor.ndim))
    own = parity(tensor, (0,))
    centre = centre_parity(tensor)
    if own:
        parts = [(tensor, own)]
    elif centre:
        mirrored = np.flip(tensor, 0)
        parts = [((tensor + mirrored) / 2, 1), ((tensor - mirrored) / 2, -1)]
    else:
        parts = [(tensor, 0)]
    lefts, values, rights = [], [], []
    for part, sign in parts:
        matrix = part.reshape(len(tensor), -1)
        u, s, vt = np.linalg.svd(matrix, full_matrices=False) if count is None else _sketched(matrix, count)
        lefts.append(with_parity(u.T, (1,), sign))
        values.append(s)
        right = vt.reshape(-1, *tensor.shape[1:])
        rights.append(with_parity(right, rest, sign * centre))
    right = np.concatenate(rights)
    for axis in rest:
        right = with_parity(right, (axis,), parity(tensor, (axis,)))
    return np.concatenate(lefts), np.concatenate(values), right


def _sketched(matrix: FloatArray, count: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the leading singular vectors from random mixtures of columns, iterated twice.

    N. Halko, P. G. Martinsson, J. A. Tropp, Finding structure with randomness, SIAM Review 53(2), 2011,
    algorithms 4.4 and 5.1. The mixtures are the same in every call.
    """
    wanted = min(count + _SURPLUS, *matrix.shape)
    mixed = matrix @ np.random.default_rng(0).standard_normal((matrix.shape[1], wanted))
    for _ in range(2):
        rows = np.linalg.qr(matrix.T @ np.linalg.qr(mixed)[0])[0]
        mixed = matrix @ rows
    basis = np.linalg.qr(mixed)[0]
    left, values, right = np.linalg.svd(basis.T @ matrix, full_matrices=False)
    return (basis @ left)[:, :count], values[:count], right[:count]


def as_form(expansion: Expansion) -> Form:
    """Return the terms as a form: lines that came from one singular vector are shared."""
    if len(expansion.taps) == 2:
        weighted = expansion.taps[0] * expansion.weights[:, np.newaxis]
        return Form((weighted, expansion.taps[1]), (np.arange(len(weighted)),) * 2)
    lines, index = [], []
    for each in expansion.taps:
        distinct, inverse = np.unique(each, axis=0, return_inverse=True)
        lines.append(distinct)
        index.append(inverse.ravel())
    form = Form.of(lines, index)
    free = form.lines[form.free] * expansion.weights[:, np.newaxis]
    return Form((*form.lines[: form.free], free, form.lines[-1]), form.index)


def paired(tensor: FloatArray) -> Form:
    """Return the Tucker decomposition of three axes in which the middle one stays whole.

    All pairs of singular vectors along the first and the last axis, each with its taps between them.
    """
    first = parity_svd(tensor)[0]
    last = parity_svd(np.moveaxis(tensor, -1, 0))[0]
    between = np.einsum("ai,ijk,ck->acj", first, tensor, last, optimize=True)
    centre = centre_parity(tensor)
    signs = centre * np.multiply.outer(line_parities(first), line_parities(last))
    signs = np.where(signs == 0, parity(tensor, (1,)), signs)[..., np.newaxis]
    between = np.where(signs != 0, (between + signs * between[..., ::-1]) / 2, between)
    one, other = np.indices(between.shape[:2]).reshape(2, -1)
    free = between.reshape(-1, tensor.shape[1])
    return Form.of((first, free, last), (one, np.arange(len(free)), other))


def cheapest_first(form: Form) -> Indices:
    """Order orthogonal terms of three axes: the most energy for each multiplication they add come first."""
    energy = np.square(form.lines[form.free]).sum(axis=1)
    costs = [lines.shape[1] for lines in form.lines]
    used = [np.zeros(len(lines), bool) for lines in form.lines]
    left = np.ones(form.count, bool)
    ranking = np.empty(form.count, np.intp)
    for place in range(form.count):
        added = costs[1] + sum(
            np.where(used[axis][form.index[axis]], 0, costs[axis]) for axis in (0, form.free + 1)
        )
        term = int(np.argmax(np.where(left, energy / added, -1.0)))
        ranking[place] = term
        left[term] = False
        for axis in (0, 2):
            used[axis][form.index[axis][term]] = True
    return ranking
