"""Kernels that have no exact factors in few terms, and how a plain decomposition would write the 3-D ones."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.special import j1

Array: TypeAlias = npt.NDArray[np.float64]

ROWS, COLUMNS = np.meshgrid(np.arange(-15.0, 16), np.arange(-15.0, 16), indexing="ij")
SQUARES = ROWS**2 + COLUMNS**2


@dataclass(frozen=True)
class Case:
    """A 31 x 31 kernel, and the terms that are allowed at relative l1 errors of 3e-2, 1e-2, 1e-3 and 1e-6."""

    name: str
    weights: Array
    terms: tuple[int, int, int, int]


def flat_kernels() -> list[Case]:
    """Return the kernels of two axes."""
    gaussian = np.exp(-SQUARES / 18)
    wave = COLUMNS * math.cos(math.pi / 6) + ROWS * math.sin(math.pi / 6)
    wide = np.exp(-SQUARES / (2 * 3.5**2))
    noise = np.random.default_rng(0).standard_normal(wide.shape)
    return [
        Case("Gaussian, sigma 3", gaussian, (1, 1, 1, 1)),
        Case("Laplacian of Gaussian, sigma 4", (SQUARES - 32) * np.exp(-SQUARES / 32), (2, 2, 2, 2)),
        Case("Gabor at 30 degrees", np.exp(-SQUARES / 32) * np.cos(0.8 * wave), (2, 2, 2, 2)),
        Case("Airy, first dark ring at 6", _airy(), (3, 4, 6, 8)),
        Case("5:2 Gaussian at 45 degrees", _rotated(), (5, 7, 10, 17)),
        Case("disk, x² + y² < 12²", (SQUARES < 144).astype(np.float64), (6, 7, 7, 7)),
        Case("Gaussian, sigma 3.5, + 1 % noise", wide + 0.01 * noise, (13, 22, 29, 31)),
    ]


def _airy() -> Array:
    q = np.sqrt(SQUARES) * 3.8317 / 6
    amplitude: Array = np.divide(2 * j1(q), q, out=np.ones_like(q), where=q > 0)
    return amplitude**2


def _rotated() -> Array:
    along, across = (ROWS + COLUMNS) / math.sqrt(2), (ROWS - COLUMNS) / math.sqrt(2)
    kernel: Array = np.exp(-(along**2) / 50 - across**2 / 8)
    return kernel


def widefield(shape: tuple[int, int, int] = (25, 21, 21)) -> Array:
    """Return a widefield point spread function: NA 1.2 in oil, 520 nm, voxels of 250 x 110 x 110 nm."""
    from separable.families import widefield_psf

    optics = {"wavelength": 0.52, "numerical_aperture": 1.2, "immersion_index": 1.515}
    return widefield_psf(shape, (0.25, 0.11, 0.11), **optics)


def plain_macs(weights: Array, tol: float) -> int:
    """Return the multiplications of the cheapest plain staged SVD within `tol`.

    z against xy in R terms, and each of those R planes in as many terms as any other.
    """
    left, values, planes = np.linalg.svd(weights.reshape(len(weights), -1), full_matrices=False)
    inner = [np.linalg.svd(plane.reshape(weights.shape[1:])) for plane in planes]
    norm, most = np.abs(weights).sum(), min(weights.shape[1:])
    best = weights.size
    for count in range(1, most + 1):
        total = np.zeros_like(weights)
        for stages in range(1, len(values) + 1):
            macs = stages * weights.shape[0] + stages * count * sum(weights.shape[1:])
            if macs >= best:
                break
            u, s, v = inner[stages - 1]
            plane = (u[:, :count] * s[:count]) @ v[:count]
            total += values[stages - 1] * np.multiply.outer(left[:, stages - 1], plane)
            if np.abs(total - weights).sum() <= tol * norm:
                best = macs
    return int(best)
