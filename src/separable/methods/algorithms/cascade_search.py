"""The search for cascades: a small separable kernel, then a sparse one.

A smooth kernel that does not separate (a rotated Gaussian, a point spread function) needs many terms, each
as long as the kernel. But a smoothed image is oversampled: after a short separable kernel K1 the second, K2,
needs weights only at every other sample near the kernel's ridge, ``K ~ K1 * K2``. The taps of K1 and the
weights of K2 are fitted in alternation, and the smallest weights pruned as long as the error allows.

References
----------
.. [1] P. J. Burt, Fast filter transforms for image processing, Computer Graphics and Image Processing 16,
   1981.
.. [2] I. Daubechies, R. DeVore, M. Fornasier, C. S. Guentuerk, Iteratively reweighted least squares
   minimization for sparse recovery, Comm. Pure Appl. Math. 63, 2010.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from ..._base.caches import kept
from ..._base.types import FloatArray
from ...kernel.value import ErrorBounds, SeparableKernel, certified_error

Places: TypeAlias = npt.NDArray[np.intp]

# Candidates for K1: its variance as a share of the largest that the kernel allows, and its radius in standard
# deviations. Determined on rotated Gaussians, Gabor envelopes and point spread functions.
_SHARES: Final = (0.9, 0.75, 0.55)
_REACHES: Final = (2.6, 3.2)

_SPACED: Final = 1.1  # minimum standard deviation of K1, in samples, for weights of K2 at every other sample
_SMOOTHEST: Final = 0.7  # minimum standard deviation, in samples, for which K1 smooths along an axis
_MOST_UNKNOWNS: Final = 900  # maximum free weights of K2, after the symmetries of the kernel
_MOST_ROWS: Final = 6000  # maximum equations, after the symmetries
_MOST_WEIGHTS: Final = 400  # maximum weights of K2

_FIRST_ROUNDS: Final = 6  # alternations of fitting weights and taps before pruning
_ROUNDS: Final = 3  # alternations after each pruning
_LEFT_OUT, _LEFT_OUT_LAST = 0.2, 0.015  # share of weights pruned at a time: first, and last after halving
_MARGIN: Final = 0.99  # share of the tolerance that the fit may use; the certified bound adds rounding
_HOPELESS: Final = 4.0  # error in tolerances above which the fit is given up half-way
_RIDGE: Final = 1e-12  # regularisation, relative to the mean squared norm of the columns


class Cascade(NamedTuple):
    """The convolution ``smooth * sparse``, within `error` of the kernel it approximates and of its shape."""

    smooth: SeparableKernel
    sparse: FloatArray
    error: ErrorBounds

    @property
    def weights(self) -> int:
        """Number of weights in `sparse`."""
        return int(np.count_nonzero(self.sparse))

    @property
    def macs(self) -> int:
        """Multiply-accumulates per sample."""
        return self.smooth.macs + self.weights

    def moved(self, power: int) -> Cascade:
        """Return the same kernel with `smooth` times ``2**power``, and `sparse` divided by it."""
        first, *others = self.smooth.terms[0]
        smooth = SeparableKernel([[np.ldexp(first, power), *others]])
        return self._replace(smooth=smooth, sparse=np.ldexp(self.sparse, -power))


def find_cascade(weights: npt.NDArray[Any], tol: float) -> Cascade | None:
    """Return a short separable kernel and a few weights whose convolution lies within `tol` of a kernel.

    Parameters
    ----------
    weights : ndarray
        The kernel, with at least two axes longer than one.
    tol : float
        Relative l1 error allowed.

    Returns
    -------
    Cascade or None
        The one found with the fewest multiplications; None where the kernel is not smooth enough, or needs
        more than 400 weights. The search takes from a tenth of a second to a few seconds.
    """
    dense = np.ascontiguousarray(weights, np.float64)
    return _find(dense.tobytes(), dense.shape, tol)


@kept
def _find(data: bytes, shape: tuple[int, ...], tol: float) -> Cascade | None:
    dense = np.frombuffer(data).reshape(shape)
    long_axes = [axis for axis, n in enumerate(shape) if n > 1]
    if len(long_axes) < 2 or not dense.any() or tol <= 0:
        return None
    target = dense.reshape([shape[axis] for axis in long_axes])
    peak = math.frexp(float(np.abs(target).max()))[1]
    scaled = np.ldexp(target, -peak)
    fits: list[_Fit] = []
    for spaced in (True, False):
        for share in _SHARES:
            enough = bool(fits)  # narrower smoothing leaves more weights: try one more share only
            for radii, taps, steps in _starts(scaled, share, spaced):
                fit = _Fit(scaled, radii, taps, steps)
                if fit.possible and fit.run(tol):
                    fits.append(fit)
            if enough:
                break
        if fits:
            break
    for fit in sorted(fits, key=lambda fit: fit.macs):
        cascade = _certified(dense, long_axes, fit, peak)
        if cascade.error.relative_l1 <= tol:
            return cascade
    return None


def _certified(dense: FloatArray, long_axes: list[int], fit: _Fit, peak: int) -> Cascade:
    lines = [np.ones(1) for _ in dense.shape]
    for axis, taps in zip(long_axes, fit.taps, strict=True):
        lines[axis] = taps
    room = [n - line.size + 1 for n, line in zip(dense.shape, lines, strict=True)]
    sparse = np.ldexp(fit.sparse(), peak).reshape(room)
    terms = []
    for place in np.argwhere(sparse):
        moved = [np.zeros(n) for n in dense.shape]
        for line, taps, at in zip(moved, lines, place, strict=True):
            line[at : at + taps.size] = taps
        moved[0] *= sparse[tuple(place)]
        terms.append(tuple(moved))
    return Cascade(SeparableKernel([lines]), sparse, certified_error(dense, terms))


def _starts(
    scaled: FloatArray, share: float, spaced: bool
) -> Iterator[tuple[list[int], list[FloatArray], list[int]]]:
    """Yield radii and taps of K1, and the spacing of the weights of K2, along each axis."""
    # Moments of the squared weights, robust to tails and rings; a squared Gaussian has half the variance.
    mass = np.square(scaled) / np.square(scaled).sum()
    places = np.indices(scaled.shape).reshape(scaled.ndim, -1).astype(float)
    centred = places - (places @ mass.ravel())[:, np.newaxis]
    covariance = 2 * (centred * mass.ravel()) @ centred.T + 1e-9 * np.eye(scaled.ndim)
    # Largest covariances of K1 for which that of K2 (the difference) is positive semidefinite: a diagonal one
    # proportional to the conditional variances, and an isotropic one. Which suits a tilted kernel varies.
    inside: FloatArray = 1 / np.diag(np.linalg.inv(covariance))
    roots = np.sqrt(inside)
    inside = inside * np.linalg.eigvalsh(covariance / np.multiply.outer(roots, roots))[0]
    round_one = np.full(scaled.ndim, np.linalg.eigvalsh(covariance)[0])
    seen = set()
    for variances, reach in itertools.product((inside, round_one), _REACHES):
        sigma = np.sqrt(share * variances)
        radii = [
            min(round(reach * s), (n - 3) // 2) if s >= _SMOOTHEST and n > 4 else 0
            for s, n in zip(sigma, scaled.shape, strict=True)
        ]
        steps = [2 if spaced and s >= _SPACED else 1 for s in sigma]
        if not any(radii) or (spaced and max(steps) == 1) or tuple(radii) in seen:
            continue
        seen.add(tuple(radii))
        yield radii, [_bell(s, r) for s, r in zip(sigma, radii, strict=True)], steps


def _bell(sigma: float, radius: int) -> FloatArray:
    taps: FloatArray = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    taps /= taps.sum()
    return taps


class _Fit:
    """Taps and weights fitted to one kernel in alternation; its symmetries reduce the unknowns."""

    def __init__(
        self, scaled: FloatArray, radii: list[int], taps: list[FloatArray], steps: list[int]
    ) -> None:
        self.shape, self.radii, self.taps = scaled.shape, radii, taps
        self.norm = float(np.abs(scaled).sum())
        self.room = tuple(n - 2 * r for n, r in zip(scaled.shape, radii, strict=True))
        flips = _flips(scaled)
        # An orbit has at most one place per flip: reject problems that are too large before building them.
        places = math.prod(len(range(n // 2 % s, n, s)) for n, s in zip(self.room, steps, strict=True))
        few = places <= len(flips) * _MOST_UNKNOWNS
        self.possible = few and scaled.size <= len(flips) * _MOST_ROWS
        if not self.possible:
            return
        rows = _orbits(scaled.shape, flips)[0]
        first, self.members, self.signs = _lattice(self.room, steps, flips)
        self.rows = np.unravel_index(rows, scaled.shape)
        # A row stands for its whole orbit, and is weighted by the orbit's size.
        self.counts = _orbit_sizes(rows, scaled.shape, flips)
        self.target = scaled[self.rows]
        self.possible = len(first) <= _MOST_UNKNOWNS and len(rows) <= _MOST_ROWS
        self.amplitude = np.zeros(len(first))

    @property
    def macs(self) -> int:
        return sum(t.size for t in self.taps if t.size > 1) + int(sum(map(len, self.members)))

    def sparse(self) -> FloatArray:
        """Return K2, shape `room`."""
        weights = np.zeros(math.prod(self.room))
        for amplitude, members, signs in zip(self.amplitude, self.members, self.signs, strict=True):
            weights[members] = amplitude * signs
        return weights.reshape(self.room)

    def run(self, tol: float) -> bool:
        """Fit, then prune the smallest weights as long as the error stays within `tol`; return success."""
        best = self._fitted(_FIRST_ROUNDS, _HOPELESS * tol)
        kept = None
        share = _LEFT_OUT
        while len(self.members) > 1:
            if best[0] <= _MARGIN * tol:
                _, self.taps, self.amplitude = best
                kept = (self.taps, self.amplitude, self.members, self.signs)
            elif kept is None or share <= _LEFT_OUT_LAST:
                break
            else:  # pruned too many at once
                self.taps, self.amplitude, self.members, self.signs = kept
                share /= 2
            count = max(1, int(share * len(self.members)))
            stay = np.sort(np.argsort(-np.abs(self.amplitude), kind="stable")[: len(self.members) - count])
            self.members = [self.members[i] for i in stay]
            self.signs = [self.signs[i] for i in stay]
            best = self._fitted(_ROUNDS, math.inf)
        if kept is None:
            return False
        self.taps, self.amplitude, self.members, self.signs = kept
        return sum(map(len, self.members)) <= _MOST_WEIGHTS

    def _fitted(self, rounds: int, hopeless: float) -> tuple[float, list[FloatArray], FloatArray]:
        """Return the best error, taps and amplitudes of alternating, iteratively reweighted fits [2].

        Stops after half of the rounds where the error is above `hopeless`.
        """
        pull = np.ones(self.target.size)
        best: tuple[float, list[FloatArray], FloatArray] = (math.inf, self.taps, self.amplitude)
        for n in range(rounds):
            self.amplitude, residue = self._solved(self._columns(), pull)
            error = float((self.counts * np.abs(residue)).sum()) / self.norm
            if error < best[0]:
                best = (error, list(self.taps), self.amplitude)
            if 2 * n >= rounds and best[0] > hopeless:
                break
            for axis, radius in enumerate(self.radii):
                if radius:
                    residue = self._refit_taps(axis, pull)
            size = np.abs(residue)
            pull = 1 / np.maximum(size, 2e-2 * float(size.max()) + np.finfo(float).tiny)
        return best

    def _refit_taps(self, axis: int, pull: FloatArray) -> FloatArray:
        """Fit the taps along one axis, the others and the weights fixed; return the residual."""
        radius = self.radii[axis]
        partial = self.sparse()
        for other, taps in enumerate(self.taps):
            if other != axis:
                partial = _spread(partial, taps, other)
        columns = []
        for reach in range(radius + 1):
            pair = np.zeros(2 * radius + 1)
            pair[[radius - reach, radius + reach]] = 1
            columns.append(_spread(partial, pair, axis)[self.rows])
        half, residue = self._solved(np.stack(columns, axis=1), pull)
        full = np.concatenate([half[:0:-1], half])
        total = float(np.abs(full).sum())
        if total > 0:
            self.taps = [full / total if a == axis else t for a, t in enumerate(self.taps)]
        return residue

    def _solved(self, columns: FloatArray, pull: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the least-squares solution, rows weighted by counts and `pull`, and its residual."""
        weighted = columns * (self.counts * pull / pull.mean())[:, np.newaxis]
        gram = columns.T @ weighted
        ridge = _RIDGE * float(np.trace(gram)) / len(gram) + np.finfo(float).tiny
        solution: FloatArray = np.linalg.solve(gram + ridge * np.eye(len(gram)), weighted.T @ self.target)
        return solution, self.target - columns @ solution

    def _columns(self) -> FloatArray:
        """Return the design matrix, shape ``(rows, unknowns)``."""
        members = np.concatenate(self.members)
        product = np.concatenate(self.signs)[np.newaxis, :]
        for axis, at in enumerate(np.unravel_index(members, self.room)):
            line = np.zeros(2 * self.shape[axis])  # indexed by row minus place; 0 outside the taps
            line[: self.taps[axis].size] = self.taps[axis]
            product = product * line[self.rows[axis][:, np.newaxis] - at[np.newaxis, :]]
        starts = np.cumsum([0, *map(len, self.members[:-1])])
        columns: FloatArray = np.add.reduceat(product, starts, axis=1)
        return columns


def _spread(values: FloatArray, taps: FloatArray, axis: int) -> FloatArray:
    """Return the full convolution along one axis."""
    shape = list(values.shape)
    shape[axis] += taps.size - 1
    total = np.zeros(shape)
    for k, tap in enumerate(taps):
        if tap:
            total[(slice(None),) * axis + (slice(k, k + values.shape[axis]),)] += tap * values
    return total


def _flips(scaled: FloatArray) -> list[tuple[tuple[int, ...], int]]:
    """Return the flips (axes, sign) that map the kernel to itself or its negative; the identity is first."""
    axes = range(scaled.ndim)
    symmetries = []
    for count in range(scaled.ndim + 1):
        for flipped in itertools.combinations(axes, count):
            turned = np.flip(scaled, flipped)
            if np.array_equal(scaled, turned):
                symmetries.append((flipped, 1))
            elif np.array_equal(scaled, -turned):
                symmetries.append((flipped, -1))
    return symmetries


def _images(
    places: Places, shape: tuple[int, ...], flips: list[tuple[tuple[int, ...], int]]
) -> npt.NDArray[np.intp]:
    """Return the image of each place under each flip, shape ``(flips, places)``."""
    index = np.unravel_index(places, shape)
    return np.stack(
        [
            np.ravel_multi_index(
                [n - 1 - i if a in flipped else i for a, (n, i) in enumerate(zip(shape, index, strict=True))],
                shape,
            )
            for flipped, _ in flips
        ]
    )


def _orbits(
    shape: tuple[int, ...], flips: list[tuple[tuple[int, ...], int]]
) -> tuple[Places, npt.NDArray[np.intp]]:
    """Return one place of each orbit, and the images of all places."""
    images = _images(np.arange(math.prod(shape)), shape, flips)
    return np.flatnonzero(images.min(axis=0) == images[0]), images


def _orbit_sizes(
    rows: Places, shape: tuple[int, ...], flips: list[tuple[tuple[int, ...], int]]
) -> FloatArray:
    images = np.sort(_images(rows, shape, flips), axis=0)
    sizes: FloatArray = 1.0 + np.count_nonzero(np.diff(images, axis=0), axis=0)
    return sizes


def _lattice(
    room: tuple[int, ...], steps: list[int], flips: list[tuple[tuple[int, ...], int]]
) -> tuple[Places, list[Places], list[FloatArray]]:
    """Return the orbits of places whose distance from the centre is a multiple of `steps`, and their signs.

    Orbits in which a flip maps a place to itself with the opposite sign must be 0, and are left out.
    """
    first, images = _orbits(room, flips)
    signs = np.array([sign for _, sign in flips], float)
    chosen, members, member_signs = [], [], []
    for place in first:
        index = np.unravel_index(place, room)
        if any((i - n // 2) % s for i, n, s in zip(index, room, steps, strict=True)):
            continue
        where, at = np.unique(images[:, place], return_index=True)
        if any(
            s != signs[at[np.searchsorted(where, w)]] for w, s in zip(images[:, place], signs, strict=True)
        ):
            continue
        chosen.append(place)
        members.append(where)
        member_signs.append(signs[at])
    return np.array(chosen, np.intp), members, member_signs
