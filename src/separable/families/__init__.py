"""Kernels that are known by name: exact terms where there are such, dense weights where there are none.

All are weights for correlation (``separable.correlate``), laid out as `scipy.ndimage` lays out its own:
filtering with `gaussian` or `sobel` gives what ``scipy.ndimage.gaussian_filter`` and
``scipy.ndimage.sobel`` give. Smoothing kernels sum to 1. Lengths are in pixels (samples), axis 0 first;
where a parameter may differ per axis it is one number for all axes or a sequence with one per axis.
Angles are in radians, from the columns' axis (axis 1) towards the rows' (axis 0).
"""

from __future__ import annotations

from typing import NoReturn

from ._edges import farid, prewitt, scharr, sobel
from ._gaussians import (
    difference_of_gaussians,
    gaussian,
    gaussian_derivatives,
    laplacian_of_gaussian,
    rotated_gaussian,
)
from ._optics import airy, confocal_psf, widefield_psf
from ._shapes import disk, motion_blur
from ._smoothers import binomial, box, lanczos, savitzky_golay
from ._steerable import Steerable, steerable
from ._waves import LogGabor, gabor, gabor_pair, log_gabor_bank

__all__ = [
    "LogGabor",
    "Steerable",
    "airy",
    "binomial",
    "box",
    "confocal_psf",
    "difference_of_gaussians",
    "disk",
    "farid",
    "gabor",
    "gabor_pair",
    "gaussian",
    "gaussian_derivatives",
    "lanczos",
    "laplacian_of_gaussian",
    "log_gabor_bank",
    "motion_blur",
    "prewitt",
    "rotated_gaussian",
    "savitzky_golay",
    "scharr",
    "sobel",
    "steerable",
    "widefield_psf",
]


def __dir__() -> list[str]:
    return sorted(__all__)


def __getattr__(name: str) -> NoReturn:
    from .._base.words.messages import close_to  # only an error needs it

    close = None if name.startswith("_") else close_to(name, __all__)
    raise AttributeError(
        f"module {__name__!r} has no attribute {name!r}" + (f". Did you mean {close!r}?" if close else "")
    )
