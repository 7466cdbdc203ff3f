"""The image of a point by a lens: scalar diffraction, an integral over the pupil for every position."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from .._base.types import FloatArray
from ._parameters import MAX_TAPS, check_length, check_positive, check_real

ComplexArray: TypeAlias = npt.NDArray[np.complex128]

Radial: TypeAlias = Callable[[FloatArray], FloatArray]  # radii, shape (n,) -> values, shape (n, heights)

_Values = TypeVar("_Values", FloatArray, ComplexArray)

_TRIED: Final = 1025  # angles at which the slope of a phase is sampled
_BLOCK: Final = 1 << 14  # positions evaluated at a time: a few megabytes

# The first zero of the Bessel function J1, and the diameter of the first dark ring in wavelengths / NA.
FIRST_ZERO: Final = 3.8317059702075125
AIRY_UNIT: Final = FIRST_ZERO / math.pi


@dataclass(frozen=True)
class Media:
    """The media between point and objective: immersion index, and (thickness, index) of unwanted layers."""

    immersion: float
    extra: tuple[tuple[float, float], ...]

    @classmethod
    def checked(
        cls,
        immersion_index: float,
        sample_index: float | None,
        depth: float,
        coverslip_error: float,
        coverslip_index: float,
    ) -> Media:
        immersion = check_positive("immersion_index", immersion_index)
        sample = immersion if sample_index is None else check_positive("sample_index", sample_index)
        layers = [
            (check_length("depth", depth), sample),
            (
                check_real("coverslip_error", coverslip_error),
                check_positive("coverslip_index", coverslip_index),
            ),
        ]
        return cls(immersion, tuple(layer for layer in layers if layer[0] and layer[1] != immersion))

    @property
    def aberrated(self) -> bool:
        return bool(self.extra)


@dataclass(frozen=True)
class Lens:
    wavelength: float
    aperture: float
    media: Media

    @classmethod
    def checked(cls, name: str, wavelength: float, aperture: float, media: Media) -> Lens:
        length = check_positive(name, wavelength)
        size = check_positive("numerical_aperture", aperture)
        if size >= media.immersion:
            raise ValueError(
                f"`numerical_aperture` is {size:g}; expected less than immersion_index={media.immersion:g}."
            )
        return cls(length, size, media)

    @property
    def wavenumber(self) -> float:
        return 2 * math.pi / self.wavelength

    def path(self, s: FloatArray, z: FloatArray) -> ComplexArray:
        """Return the optical path at pupil places s and heights z, shape ``(s, z)``.

        It is complex beyond total reflection: the wave is evanescent.
        """

        def slant(index: float) -> ComplexArray:
            root: ComplexArray = np.sqrt((index**2 - s**2).astype(np.complex128))
            return root

        immersion = self.media.immersion
        fixed = np.zeros(s.shape, np.complex128)
        for thickness, index in self.media.extra:
            fixed += thickness * (slant(index) - slant(immersion) * (immersion / index))
        path: ComplexArray = slant(immersion)[:, np.newaxis] * z + fixed[:, np.newaxis]
        return path


def light(lens: Lens, reach: float, heights: FloatArray) -> Radial:
    """Return the intensity up to a distance `reach` from the axis, at all heights; not normalised."""
    s, weights = _quadrature(lens, reach, heights)
    phases = np.exp(1j * lens.wavenumber * lens.path(s, heights)) * (weights * s)[:, np.newaxis]

    def amplitude(radii: FloatArray) -> ComplexArray:
        waves = np.empty((radii.size, s.size), np.complex128)
        waves[:] = bessel(lens.wavenumber * np.multiply.outer(radii, s))
        field: ComplexArray = waves @ phases
        return field

    field = everywhere(amplitude, reach, lens.wavenumber * lens.aperture)

    def squared(radii: FloatArray) -> FloatArray:
        values = field(radii)
        intensity: FloatArray = np.square(values.real) + np.square(values.imag)
        return intensity

    return squared


def through_pinhole(lens: Lens, hole: float, reach: float, heights: FloatArray) -> Radial:
    """Return `light` averaged over a round hole of radius `hole`; the work grows with its square."""
    if hole == 0.0:
        return light(lens, reach, heights)
    source = light(lens, reach + hole, heights)
    band = 2 * lens.wavenumber * lens.aperture  # twice the amplitude's
    # Polar coordinates in the hole; its far half mirrors the near one.
    x, w = fejer(_length(band * hole) // 2)
    q = hole * (x + 1) / 2
    turns = q.size
    sideways = np.multiply.outer(q, np.cos((np.arange(turns) + 0.5) * (math.pi / turns)))
    shares = np.repeat(w * q / (hole * turns), turns)

    def averaged(radii: FloatArray) -> FloatArray:
        averages = []
        for r in radii:
            squares = r * r + np.square(q)[:, np.newaxis] - 2 * r * sideways
            averages.append(shares @ source(np.sqrt(np.maximum(squares, 0.0)).ravel()))
        return np.array(averages)

    through = everywhere(averaged, reach, band)
    return lambda radii: np.maximum(through(radii), 0.0)


def bessel(x: FloatArray) -> FloatArray:
    """Return the Bessel function J0."""
    return _mean_wave(x, lambda turn: 1.0)


def jinc(x: FloatArray) -> FloatArray:
    """Return ``2 J1(x) / x``, 1 at 0."""
    return _mean_wave(x, lambda turn: 2 * math.cos(turn) ** 2)


def _mean_wave(x: FloatArray, weight: Callable[[float], float]) -> FloatArray:
    """Return the mean of ``weight(t) cos(x sin(t))`` over a circle: Poisson's integral of Bessel functions.

    The trapezoidal rule converges geometrically; by symmetry a quarter of the circle suffices.
    """
    count = math.ceil(_length(float(np.abs(x).max(initial=0.0))) / 4)
    total = np.zeros_like(x)
    for turn in ((np.arange(count) + 0.5) * (math.pi / (2 * count))).tolist():
        total += weight(turn) * np.cos(x * math.sin(turn))
    return total / count


def _quadrature(lens: Lens, reach: float, heights: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return places s in the pupil, 0 to NA, and the weights of a quadrature over them."""
    critical = sorted({index for _, index in lens.media.extra if index < lens.aperture})
    places, weights = [], []
    for start, stop in itertools.pairwise([0.0, *critical, lens.aperture]):
        # With the rule's variable written as a cosine, the wave is a Fourier series in its angle, as long as
        # the steepest slope of its phase demands: that of the first or the last plane.
        s, _ = _flattened(np.cos(np.linspace(math.pi, 0, _TRIED)), start, stop)
        steps = np.abs(np.diff(lens.path(s, heights[[0, -1]]), axis=0)).max(axis=1) + reach * np.diff(s)
        band = lens.wavenumber * float(steps.max()) * (_TRIED - 1) / math.pi
        count = min(_length(band), MAX_TAPS)
        if count * max(heights.size, _length(lens.wavenumber * lens.aperture * reach)) > MAX_TAPS:
            raise ValueError(
                f"`shape` times `voxel` is {lens.wavenumber * reach / math.pi:.3g} wavelengths across and "
                f"{lens.wavenumber * np.ptp(heights) / 2 / math.pi:.3g} high; all lengths are in one unit."
            )
        x, w = fejer(count)
        s, slope = _flattened(x, start, stop)
        places.append(s)
        weights.append(w * slope)
    return np.concatenate(places), np.concatenate(weights)


def _flattened(x: FloatArray, start: float, stop: float) -> tuple[FloatArray, FloatArray]:
    """Return places from `start` to `stop` for x from -1 to 1, and their derivative.

    The map is flat at its ends: square roots with which a path may begin or end become smooth there, and the
    quadrature converges fast.
    """
    t = (x + 1) / 2
    return start + (stop - start) * t**2 * (3 - 2 * t), (stop - start) * 3 * t * (1 - t)


def fejer(count: int) -> tuple[FloatArray, FloatArray]:
    """Return nodes and weights of Fejer's first rule on [-1, 1], ascending.

    As accurate as Gauss's rule for waves, and needs no eigenvalues.

    References
    ----------
    .. [1] J. Waldvogel, Fast construction of the Fejer and Clenshaw-Curtis quadrature rules, BIT 46, 2006.
    """
    odd = np.arange(1, count, 2)
    even = np.arange(count - odd.size)
    series = np.zeros(count + 1, np.complex128)
    series[: even.size] = 2 * np.exp(1j * math.pi * even / count) / (1 - 4.0 * even**2)
    weights: FloatArray = np.fft.ifft(series[:-1] + np.conj(series[:0:-1])).real
    return -np.cos((np.arange(count) + 0.5) * (math.pi / count)), weights


def everywhere(
    function: Callable[[FloatArray], _Values], reach: float, band: float
) -> Callable[[FloatArray], _Values]:
    """Return an even function of the radius, without frequencies above `band`, from few of its values.

    Chebyshev polynomials of the squared radius give it, up to `reach`, to rounding.
    """
    reach = max(reach, float(np.finfo(np.float64).tiny))
    count = math.ceil(_length(band * reach) / 2)
    angles = (np.arange(count) + 0.5) * (math.pi / count)
    basis = np.cos(np.multiply.outer(angles, np.arange(count))) * (2 / count)
    basis[:, 0] /= 2
    series = basis.T @ function(reach * np.cos(angles / 2))

    def evaluated(radii: FloatArray) -> _Values:
        places = 2 * np.square(radii / reach) - 1
        blocks = np.array_split(places, math.ceil(places.size / _BLOCK))
        parts = [np.polynomial.chebyshev.chebvander(block, count - 1) @ series for block in blocks]
        values: _Values = np.concatenate(parts)
        return values

    return evaluated


def _length(band: float) -> int:
    """Return how many terms a series for ``exp(i band x)`` on [-1, 1] needs to be right to rounding.

    Its coefficients are Bessel functions at `band`; they vanish once their order is above it by a few
    times its cube root.
    """
    return math.ceil(band + 12 * float(band ** (1 / 3))) + 32
