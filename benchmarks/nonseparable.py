"""Kernels that do not factor, to a relative error of 1e-3, beside what others have for them."""

from __future__ import annotations

import math

import numpy as np

from benchmarks import peers
from benchmarks.results import SCIPY, Target
from benchmarks.works import Array, Taps, Variant, Work

GROUP = "Kernels that do not factor, relative error 1e-3"
TOL = 1e-3
FASTER = 3.0  # than every peer

AUTO = Variant("auto", style="plan")


def works() -> list[Work]:
    """Return the works, in the order they are reported."""
    image, volume = (2048, 2048), (96, 128, 128)
    return [
        _work("disk-25", "disk of radius 12", image, (90, 80), disk()),
        _work("tilted-31", "Gaussian 5:2 at 30 degrees, 31 x 31", image, (90, 80), tilted_gaussian()),
        _work("psf-25-21-21", "widefield point spread function, 25 x 21 x 21", volume, (14, 16, 18), psf()),
    ]


def _work(name: str, kind: str, shape: tuple[int, ...], quick_shape: tuple[int, ...], weights: Taps) -> Work:
    others = [SCIPY, peers.SCIPY_FFT, peers.TORCH, *([peers.OPENCV_DIRECT] if weights.ndim == 2 else [])]
    return Work(
        name=name,
        group=GROUP,
        kind=kind,
        shape=shape,
        quick_shape=quick_shape,
        weights=weights / np.abs(weights).sum(),
        variants=(AUTO,),
        targets=tuple(Target(peer, FASTER, AUTO.label, threads) for threads in (1, 2) for peer in others),
        tol=TOL,
    )


def disk() -> Taps:
    """Return the disk ``x**2 + y**2 < 12**2``, shape (25, 25)."""
    y, x = np.mgrid[-12:13, -12:13]
    return np.asarray((x**2 + y**2 < 12**2).astype(np.float64))


def tilted_gaussian() -> Taps:
    """Return a Gaussian with standard deviations 5 and 2, the long one at 30 degrees, shape (31, 31)."""
    y, x = np.mgrid[-15:16, -15:16]
    cos, sin = math.cos(math.pi / 6), math.sin(math.pi / 6)
    return np.asarray(np.exp(-0.5 * (((cos * x + sin * y) / 5) ** 2 + ((cos * y - sin * x) / 2) ** 2)))


def psf() -> Taps:
    """Return the scalar Debye point spread function of a widefield microscope, shape (25, 21, 21).

    NA 1.2 in water (1.33), 520 nm; voxels of 200 x 100 x 100 nm. The square of
    ``integral J0(k NA r t) exp(i k z sqrt(n**2 - (NA t)**2)) t dt`` over t from 0 to 1 [1]_.

    References
    ----------
    .. [1] M. Gu, Advanced Optical Imaging Theory, Springer 2000, chapter 6.
    """
    aperture, index, wave = 1.2, 1.33, 2 * math.pi / 0.52
    z, y, x = np.meshgrid(np.arange(-12, 13) * 0.2, *[np.arange(-10, 11) * 0.1] * 2, indexing="ij")
    radius, inverse = np.unique(np.hypot(y, x), return_inverse=True)
    t = (np.arange(400) + 0.5) / 400
    rings = _bessel(wave * aperture * np.multiply.outer(radius, t)) * t
    depths = np.exp(1j * wave * np.multiply.outer(z[:, 0, 0], np.sqrt(index**2 - (aperture * t) ** 2)))
    field = (depths @ rings.T)[:, inverse.reshape(z.shape)[0]]
    return np.asarray(np.abs(field) ** 2)


def _bessel(values: Array) -> Array:
    """Return the Bessel function J0: the mean of ``cos(values * sin(angle))``."""
    angles = (np.arange(128) + 0.5) * (math.pi / 128)
    return np.asarray(sum(np.cos(values * math.sin(angle)) for angle in angles) / angles.size)
