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
_BLOCK_ELEMENTS: Final = 1 << 22  # maximum elements of the outer products of a block of terms

# Multiplications of a sketched singular vector per element of the matrix, and the oversampling of the sketch.
_SKETCHED: Final = 12.0
_SURPLUS: Final = 8

# Maximum axes for which every order of splitting is tried: 12 orders of 4 axes, but 20,160 of 8.
_ALL_ORDERS_NDIM: Final = 4


@dataclass(frozen=True)
class Expansion:
    """Orthogonal rank-one terms of one array: weights (R,), descending; unit taps (R, n) per axis."""

    weights: FloatArray
    taps: tuple[FloatArray, ...]

    def partial(self, start: int, stop: int) -> FloatArray:
        """Return the dense sum of terms `start` to `stop`."""
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
    """Return the bytes of the first, largest SVD: parity parts, factors and LAPACK's gesdd workspace."""
    m, n = shape[0], math.prod(shape[1:])
    k = min(m, n)
    return 8 * (4 * m * n + m * k + k * n + 4 * k * k + 7 * k)


def largest_svd(shape: tuple[int, ...]) -> int:
    """Return the maximum bytes of an SVD of a kernel, over all orders of its axes."""
    return max(svd_bytes([shape[axis] for axis in order]) for order in orders(len(shape)))


def expand(tensor: FloatArray, order: tuple[int, ...], effort: Effort | None = None) -> Expansion:
    """Return the terms of splitting off the axes in this order, by descending weight.

    Where `effort` ends before, only those computed by then: presumably the leading ones.
    """
    turned = np.transpose(tensor, order)
    weights, taps = staged(turned, 0.0, effort or Effort())
    ranking = np.argsort(-weights, kind="stable")
    by_axis = dict(zip(order, taps, strict=True))
    return Expansion(weights[ranking], tuple(by_axis[axis][ranking] for axis in range(tensor.ndim)))


def staged(tensor: FloatArray, floor: float, effort: Effort) -> tuple[FloatArray, list[FloatArray]]:
    """Return weights (R,) and unit taps (R, n) per axis of the terms of SVDs, axis after axis.

    The first axis is split off by an SVD, then each right vector likewise. Terms not above `floor` are
    rounding errors and left out; 0.0 asks for the floor of this tensor.
    """
    left, values, right = _affordable_svd(tensor, effort)
    floor = floor or float(values.max()) * _EPS * max(tensor.shape)
    kept = values > floor
    left, values, right = left[kept], values[kept], right[kept]
    if tensor.ndim == 2:
        return values, [left, right]
    split: dict[int, tuple[FloatArray, list[FloatArray]]] = {}
    for place in map(int, np.argsort(-values, kind="stable")):
        right_tensor = right[place]
        if split and effort.left < svd_work(len(right_tensor), right_tensor.size // len(right_tensor)):
            effort.ended = True
            break
        split[place] = staged(right_tensor, floor / float(values[place]), effort)
    weights, taps = [], []
    for place, (inner_weights, inner_taps) in sorted(split.items()):
        weights.append(values[place] * inner_weights)
        taps.append([np.broadcast_to(left[place], (len(inner_weights), len(tensor))), *inner_taps])
    return np.concatenate(weights), [np.concatenate(lines) for lines in zip(*taps, strict=True)]


def _affordable_svd(tensor: FloatArray, effort: Effort) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return `parity_svd` of the tensor, or only the leading vectors that `effort` allows."""
    rows, columns = len(tensor), tensor.size // len(tensor)
    if effort.takes(svd_work(rows, columns)):
        return parity_svd(tensor)
    count = max(1, int(effort.left / (_SKETCHED * rows * columns)) - _SURPLUS)
    effort.spend(_SKETCHED * rows * columns * (count + _SURPLUS))
    return parity_svd(tensor, count)


def parity_svd(tensor: FloatArray, count: int | None = None) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the SVD of the first axis against the others, whose vectors have the tensor's symmetries.

    Filters run symmetric and antisymmetric taps in half the multiplications, but only exact ones, and
    an SVD returns them with rounding, or mixed where singular values coincide. A tensor that is even or
    odd through its centre is the sum of its parts even and odd along axis 0, whose row spaces are
    orthogonal: their SVDs together are one of the tensor.

    Parameters
    ----------
    tensor : ndarray, two axes or more
    count : int, optional
        Number of leading vectors of each part, which are then sketched.

    Returns
    -------
    left (r, n0), values (r,), right (r, *rest)
        Values not sorted.
    """
    other_axes = tuple(range(1, tensor.ndim))
    sign_of_axis = parity(tensor, (0,))
    centre = centre_parity(tensor)
    if sign_of_axis:
        parts = [(tensor, sign_of_axis)]
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
        rights.append(with_parity(right, other_axes, sign * centre))
    right = np.concatenate(rights)
    for axis in other_axes:
        right = with_parity(right, (axis,), parity(tensor, (axis,)))
    return np.concatenate(lefts), np.concatenate(values), right


def _sketched(matrix: FloatArray, count: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the leading singular vectors by a randomised SVD with two power iterations.

    N. Halko, P. G. Martinsson, J. A. Tropp, Finding structure with randomness, SIAM Review 53(2), 2011,
    algorithms 4.4 and 5.1. The seed is the same in every call.
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
    """Return the terms as a form that shares the lines of one singular vector."""
    if len(expansion.taps) == 2:
        weighted = expansion.taps[0] * expansion.weights[:, np.newaxis]
        return Form((weighted, expansion.taps[1]), (np.arange(len(weighted)),) * 2)
    lines, index = [], []
    for taps in expansion.taps:
        distinct, inverse = np.unique(taps, axis=0, return_inverse=True)
        lines.append(distinct)
        index.append(inverse.ravel())
    form = Form.of(lines, index)
    free = form.lines[form.free] * expansion.weights[:, np.newaxis]
    return Form((*form.lines[: form.free], free, form.lines[-1]), form.index)


def paired(tensor: FloatArray) -> Form:
    """Return the Tucker decomposition of three axes along the first and the last.

    It has all pairs of their singular vectors, each with taps along the middle axis.
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
    """Return orthogonal terms of three axes ordered by energy per added multiplication, greedily."""
    energy = np.square(form.lines[form.free]).sum(axis=1)
    costs = [lines.shape[1] for lines in form.lines]
    used = [np.zeros(len(lines), bool) for lines in form.lines]
    remaining = np.ones(form.count, bool)
    ranking = np.empty(form.count, np.intp)
    for place in range(form.count):
        added = costs[1] + sum(
            np.where(used[axis][form.index[axis]], 0, costs[axis]) for axis in (0, form.free + 1)
        )
        term = int(np.argmax(np.where(remaining, energy / added, -1.0)))
        ranking[place] = term
        remaining[term] = False
        for axis in (0, 2):
            used[axis][form.index[axis][term]] = True
    return ranking
