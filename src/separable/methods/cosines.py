"""The method "recursive": taps as a sum of a few cosines or sines, one oscillator each.

A cosine over a finite window is filtered by a second-order recursion, driven by the samples that enter and
leave the window [1]_, in a time that does not depend on the number of taps. Unlike Deriche's recursive
filters, the response is finite: every boundary mode is exact, and the only error is that of the fitted taps.

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
from .algorithms.recursions import Cosines, Recursions, equal_taps, recursions
from .box import too_short
from .method import Ask, Refusal, Way

DEFAULT_TOL: Final = 1e-3  # relative l1 error where the method is named without `tol`

MAX_COSINES: Final = 12  # per axis: the core's limit

# Candidates for the period over the number of taps; frequencies are odd multiples of pi / (stretch * taps). A
# period longer than the window lets the sum match the slope of the taps at the ends; the best stretch grows
# with the number of cosines.
_STRETCHES: Final = np.linspace(1.0, 1.8, 17)

# Number of taps on which the stretch is chosen; the amplitudes are then fitted to all taps.
_SEARCHED: Final = 96

_REWEIGHTINGS: Final = 6  # iterations of reweighted least squares towards the least l1 error


class CosinesMethod:
    """A sum of few cosines along each axis, one oscillator each."""

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
        """Return why an approximation is not chosen without `tol`, or for short kernels."""
        return "approximates: only where `tol` is given" if ask.tol is None else too_short(ask)


def recursive_form(kernel: SeparableKernel, tol: float) -> Recursions | None:
    """Return `kernel` as cosines, or boxes along axes of equal taps, within a relative l1 error `tol`.

    None unless it is one term with taps (anti)symmetric about the centre, and few cosines suffice.
    """
    allowed = (1 + tol) / (1 + kernel.error.relative_l1)
    if kernel.rank != 1 or allowed <= 1:
        return None
    scales: list[tuple[float, float]] = []
    cosines: list[Cosines | None] = []
    axis_tol = allowed ** (1 / kernel.ndim) - 1
    for taps in kernel.terms[0]:
        scale = equal_taps(taps)
        if scale is None:  # scale by a power of two, so that nothing over- or underflows
            power = math.frexp(float(np.abs(taps).sum()))[1]
            fit = fit_cosines(np.ldexp(taps, -power), axis_tol)
            if fit is None:
                return None
            cosines.append(fit)
            scale = math.ldexp(1.0, power), 1.0
        else:
            cosines.append(None)
        scales.append(scale)
    return recursions("recursive", kernel, cosines, scales) if any(cosines) else None


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
    sampled = np.unique(np.linspace(0, half.size - 1, min(half.size, _SEARCHED)).round().astype(int))
    for count in range(1, MAX_COSINES + 1):
        multiples = (np.arange(count) + 0.5) * (2 * np.pi / taps.size)
        misses = [
            _miss(_basis(sampled, multiples / s, odd), half[sampled], _weights(sampled))[1]
            for s in _STRETCHES
        ]
        if min(misses) > 4 * tol:  # measured on few taps, before reweighting towards l1
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
    """Return the number of taps that each place of the half represents: two, at the centre one."""
    return np.where(places == 0, 1.0, 2.0)


def _miss(basis: FloatArray, half: FloatArray, weights: FloatArray) -> tuple[FloatArray, float]:
    """Return the least-squares amplitudes and their relative l1 error."""
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
    """Return the cosines fitted to all taps, by least squares reweighted towards the least l1 error."""
    places = np.arange(half.size)
    basis, counts = _basis(places, frequency, odd), _weights(places)
    weights, best = counts, (np.inf, np.zeros(frequency.size))
    for _ in range(_REWEIGHTINGS):
        amplitude, error = _miss(basis, half, weights)
        best = min(best, (error, amplitude), key=lambda fit: fit[0])
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
