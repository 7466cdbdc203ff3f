"""Taps as a sum of a few cosines or sines, which one oscillator each filters with, however many taps.

A cosine over a finite window is filtered by a recursion of second order, driven by the samples that
enter and leave the window [1]_. Unlike the recursive filters of Deriche, whose response never ends, the
window is that of the taps: every boundary mode is exact, and the error is the distance between two
lists of numbers, no more.

References
----------
.. [1] K. Sugimoto, S. Kamata, Efficient constant-time Gaussian filtering with sliding DCT/DST-5 and
   dual-domain error minimization, ITE Trans. MTA 3(1), 2015.
.. [2] P. Getreuer, A survey of Gaussian convolution algorithms, IPOL 3, 2013.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from .._base.caches import kept
from .._base.types import FloatArray
from ..kernel.value import SeparableKernel
from .box import too_short
from .method import Ask, Refusal, Way
from .recursions import Cosines, Recursions, equal_taps, recursions

DEFAULT_TOL: Final = 1e-3  # where it is asked for by name alone

MAX_COSINES: Final = 12  # the core's limit

# Frequencies are odd multiples of half the base 2 pi / (stretch * taps). A longer period than the window's
# lets the sum end with the slope that the taps end with; the best one grows with the number of cosines.
_STRETCHES: Final = np.linspace(1.0, 1.8, 17)

# The stretch is chosen on so many samples of a smooth list of taps; the amplitudes are fitted to all.
_SEARCHED: Final = 96

_REWEIGHTINGS: Final = 6  # from least squares towards the least sum of magnitudes


class CosinesMethod:
    """Sums of few cosines along each axis, one oscillator each."""

    name = "recursive"
    about = "as a sum of cosines by oscillators"

    def offer(self, ask: Ask) -> Way | Refusal:
        """Return the fewest cosines within the tolerance."""
        known = ask.known
        if isinstance(known, Recursions) and known.method == self.name:
            return Way.of(self.name, known, known.error, known.cost(ask.setting))
        within = DEFAULT_TOL if ask.tol is None else ask.tol
        form = None if ask.factored is None else recursive_form(ask.factored, within)
        if form is None:
            return Refusal(
                self.name,
                "needs one term with taps that are symmetric or antisymmetric about the middle, and few "
                f"cosines within tol={within:g}",
            )
        return Way.of(self.name, form, form.error, form.cost(ask.setting))

    def reserved(self, ask: Ask) -> str | None:
        """Say that it approximates."""
        return "approximates: only where `tol` is given" if ask.tol is None else too_short(ask)


def recursive_form(kernel: SeparableKernel, tol: float) -> Recursions | None:
    """Return `kernel` as cosines, and boxes where they do, within a relative l1 error of `tol`, or None.

    It has to be one term, with taps that are (anti)symmetric about the middle.
    """
    left = (1 + tol) / (1 + kernel.error.relative_l1)
    if kernel.rank != 1 or left <= 1:
        return None
    scales: list[tuple[float, float]] = []
    waves: list[Cosines | None] = []
    each = left ** (1 / kernel.ndim) - 1
    for taps in kernel.terms[0]:
        scale = equal_taps(taps)
        if scale is None:  # a power of two is left to the end: nothing on the way leaves its range
            power = math.frexp(float(np.abs(taps).sum()))[1]
            fit = fit_cosines(np.ldexp(taps, -power), each)
            if fit is None:
                return None
            waves.append(fit)
            scale = math.ldexp(1.0, power), 1.0
        else:
            waves.append(None)
        scales.append(scale)
    return recursions("recursive", kernel, waves, scales) if any(waves) else None


def fit_cosines(taps: npt.NDArray[Any], tol: float) -> Cosines | None:
    """Return the fewest cosines, or sines, that lie within `tol` of `taps`.

    Parameters
    ----------
    taps : ndarray, shape ``(n,)``
        Symmetric or antisymmetric about the middle, n odd.
    tol : float
        Relative l1 error allowed: ``sum(abs(fit - taps)) <= tol * sum(abs(taps))``.

    Returns
    -------
    Cosines or None
        None where the taps have no such form, or more than 12 cosines would be needed.
    """
    return _fit(np.ascontiguousarray(taps, np.float64).tobytes(), tol)


@kept
def _fit(data: bytes, tol: float) -> Cosines | None:
    taps = np.frombuffer(data)
    odd = bool(np.array_equal(taps, -taps[::-1]))
    if taps.size % 2 == 0 or not (odd or np.array_equal(taps, taps[::-1])) or not taps.any():
        return None
    half = taps[taps.size // 2 :]
    few = np.unique(np.linspace(0, half.size - 1, min(half.size, _SEARCHED)).round().astype(int))
    for count in range(1, MAX_COSINES + 1):
        multiples = (np.arange(count) + 0.5) * (2 * np.pi / taps.size)
        misses = [_miss(_basis(few, multiples / s, odd), half[few], _weights(few))[1] for s in _STRETCHES]
        if min(misses) > 4 * tol:  # on few samples, and before the weights are turned to the l1 error
            continue
        frequency = multiples / _STRETCHES[int(np.argmin(misses))]
        cosines = _refined(half, frequency, odd)
        if cosines.relative_l1 <= tol:
            return cosines
    return None


def _basis(places: npt.NDArray[Any], frequency: FloatArray, odd: bool) -> FloatArray:
    angles = np.multiply.outer(places, frequency)
    cosines: FloatArray = np.sin(angles) if odd else np.cos(angles)
    return cosines


def _weights(places: npt.NDArray[Any]) -> FloatArray:
    """Count how many taps each place of the half stands for: two, the centre one."""
    return np.where(places == 0, 1.0, 2.0)


def _miss(basis: FloatArray, half: FloatArray, weights: FloatArray) -> tuple[FloatArray, float]:
    """Return the least-squares amplitudes and the relative l1 error they leave."""
    roots = np.sqrt(weights)
    amplitude: FloatArray = np.linalg.lstsq(basis * roots[:, None], half * roots, rcond=1e-13)[0].astype(
        float
    )
    return amplitude, float(_relative(basis @ amplitude - half, half, 1))


def _relative(residue: FloatArray, half: FloatArray, power: int) -> float:
    counts = _weights(np.arange(half.size))
    ratio = float((counts * np.abs(residue) ** power).sum()) / float((counts * np.abs(half) ** power).sum())
    return float(ratio ** (1 / power))


def _refined(half: FloatArray, frequency: FloatArray, odd: bool) -> Cosines:
    """Fit amplitudes to all taps, for the least l1 error by weights that follow the residue."""
    places = np.arange(half.size)
    basis, counts = _basis(places, frequency, odd), _weights(places)
    weights, best = counts, (np.inf, np.zeros(frequency.size))
    for _ in range(_REWEIGHTINGS):
        amplitude, error = _miss(basis, half, weights)
        best = min(best, (error, amplitude), key=lambda found: found[0])
        residue = np.abs(basis @ amplitude - half)
        weights = counts / np.maximum(residue, 1e-2 * float(residue.max()) + np.finfo(float).tiny)
    error, amplitude = best
    return Cosines(
        odd,
        tuple(map(float, frequency)),
        tuple(map(float, amplitude)),
        error,
        _relative(basis @ amplitude - half, half, 2),
    )
