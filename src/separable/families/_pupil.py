"""What a lens makes of a point: scalar diffraction, an integral over the pupil for every place."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from ..kernel import Array
from ._parameters import check_length, check_positive, check_real

ComplexArray: TypeAlias = npt.NDArray[np.complex128]

Radial: TypeAlias = Callable[[Array], Array]  # radii, shape (n,) -> values, shape (n, heights)

_Values = TypeVar("_Values", Array, ComplexArray)

_BLOCK: Final = 1 << 14  # places to evaluate at a time: what holds them stays within some megabytes

# The first zero of the Bessel function J1, and the diameter of the first dark ring in wavelengths / NA.
FIRST_ZERO: Final = 3.8317059702075125
AIRY_UNIT: Final = FIRST_ZERO / math.pi


@dataclass(frozen=True)
class Media:
    """What lies between the point and the objective: (thickness, index) of what should not be there."""

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

    def path(self, s: Array, z: Array) -> ComplexArray:
        """Return the optical path at pupil places s and heights z, shape ``(s, z)``.

        It is complex beyond total reflection: the wave fades.
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


def light(lens: Lens, reach: float, heights: Array) -> Radial:
    """Return the intensity up to a distance `reach` from the axis, at all heights; not normalised."""
    s, weights = _quadrature(lens, reach, heights)
    phases = np.exp(1j * lens.wavenumber * lens.path(s, heights)) * (weights * s)[:, np.newaxis]

    def amplitude(radii: Array) -> ComplexArray:
        waves = np.empty((radii.size, s.size), np.complex128)
        waves[:] = bessel(0, lens.wavenumber * np.multiply.outer(radii, s))
        field: ComplexArray = waves @ phases
        return field

    field = _everywhere(amplitude, reach, lens.wavenumber * lens.aperture)

    def squared(radii: Array) -> Array:
        values = field(radii)
        found: Array = np.square(values.real) + np.square(values.imag)
        return found

    return squared


def through_pinhole(lens: Lens, hole: float, reach: float, heights: Array) -> Radial:
    """Return `light` averaged over a round hole of radius `hole`; the work grows with its square."""
    if hole == 0.0:
        return light(lens, reach, heights)
    source = light(lens, reach + hole, heights)
    band = 2 * lens.wavenumber * lens.aperture  # twice the amplitude's
    # Polar coordinates in the hole; its far half mirrors the near one.
    x, w = np.polynomial.legendre.leggauss(_length(band * hole) // 2)
    q = hole * (x + 1) / 2
    turns = _length(band * hole) // 2
    sideways = np.multiply.outer(q, np.cos((np.arange(turns) + 0.5) * (math.pi / turns)))
    shares = np.repeat(w * q / (hole * turns), turns)

    def averaged(radii: Array) -> Array:
        found = []
        for r in radii:
            squares = r * r + np.square(q)[:, np.newaxis] - 2 * r * sideways
            found.append(shares @ source(np.sqrt(np.maximum(squares, 0.0)).ravel()))
        return np.array(found)

    through = _everywhere(averaged, reach, band)
    return lambda radii: np.maximum(through(radii), 0.0)


def bessel(order: int, x: Array) -> Array:
    """Return J0 or J1 by the trapezoidal rule on Bessel's integral, which converges geometrically."""
    count = math.ceil(_length(float(np.abs(x).max())) / 4)
    total = np.zeros_like(x)
    for turn in (np.arange(count) + 0.5) * (math.pi / (2 * count)):
        sine = math.sin(turn)
        total += np.cos(x * sine) if order == 0 else np.sin(x * sine) * sine
    return total / count


def _quadrature(lens: Lens, reach: float, heights: Array) -> tuple[Array, Array]:
    """Return places s in the pupil, 0 to NA, and the weights of Gauss's rule at them."""
    critical = sorted({index for _, index in lens.media.extra if index < lens.aperture})
    edges = [0.0, *critical, lens.aperture]
    ends = lens.path(np.array(edges), heights[[0, -1]]).real
    swing = lens.wavenumber * (float(np.ptp(ends, axis=0).max()) + lens.aperture * reach)
    x, w = np.polynomial.legendre.leggauss(_length(swing))
    t = (x + 1) / 2
    s, weights = [], []
    for start, stop in itertools.pairwise(edges):
        # t**2 (3 - 2 t) flattens the square roots at a path's ends, so that Gauss's rule converges.
        s.append(start + (stop - start) * t**2 * (3 - 2 * t))
        weights.append((stop - start) * 3 * t * (1 - t) * w)
    return np.concatenate(s), np.concatenate(weights)


def _everywhere(
    function: Callable[[Array], _Values], reach: float, band: float
) -> Callable[[Array], _Values]:
    """Return an even function of the radius, without frequencies above `band`, from few of its values.

    Chebyshev polynomials of the squared radius give it, up to `reach`, to rounding.
    """
    reach = max(reach, float(np.finfo(np.float64).tiny))
    count = math.ceil(_length(band * reach) / 2)
    nodes = np.cos((np.arange(count) + 0.5) * (math.pi / count))
    basis = np.polynomial.chebyshev.chebvander(nodes, count - 1) * (2 / count)
    basis[:, 0] /= 2
    series = basis.T @ function(reach * np.sqrt((1 + nodes) / 2))

    def evaluated(radii: Array) -> _Values:
        places = 2 * np.square(radii / reach) - 1
        blocks = np.array_split(places, math.ceil(places.size / _BLOCK))
        parts = [np.polynomial.chebyshev.chebvander(block, count - 1) @ series for block in blocks]
        found: _Values = np.concatenate(parts)
        return found

    return evaluated


def _length(band: float) -> int:
    """Return how many terms a series for ``exp(i band x)`` on [-1, 1] needs to be right to rounding.

    Its coefficients are Bessel functions at `band`; they vanish once their order is above it by some
    times its third root.
    """
    return math.ceil(band + 12 * float(band ** (1 / 3))) + 32
