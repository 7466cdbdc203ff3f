"""Kernels that do not factor, to a relative error of 1e-3, beside what others have for them."""

from __future__ import annotations

import math

import numpy as np

from benchmarks import peers
from benchmarks.results import SCIPY, Target
from benchmarks.works import Taps, Variant, Work

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
    """Return a widefield point spread function: NA 1.2 in water, 520 nm, voxels of 200 x 100 x 100 nm."""
    from separable.families import widefield_psf

    optics = {"wavelength": 0.52, "numerical_aperture": 1.2, "immersion_index": 1.33}
    return np.asarray(widefield_psf((25, 21, 21), (0.2, 0.1, 0.1), **optics))
