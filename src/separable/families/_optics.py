"""Point-spread functions of lenses and microscopes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, SupportsIndex

import numpy as np

from .._base.types import FloatArray
from ._parameters import MAX_TAPS, check_count, check_length, check_positive, check_size, per_axis
from ._pupil import AIRY_UNIT, FIRST_ZERO, Lens, Media, Radial, everywhere, jinc, light, through_pinhole

_WIDEST: Final = 20  # maximum pinhole, in Airy units


def airy(first_zero: float, *, radius: SupportsIndex | None = None) -> FloatArray:
    """Return the Airy pattern, what a perfect lens makes of a point: dense weights.

    Parameters
    ----------
    first_zero : float
        Radius of the first dark ring in pixels, > 0: 1.22 times wavelength times f-number, or 0.61 times
        wavelength over numerical aperture, over the pixel's size.
    radius : int, optional
        Taps on each side of the centre. Default: five dark rings, within which lie 96 % of the light.

    Returns
    -------
    ndarray, shape ``(2*radius + 1,) * 2``, float64
        ``(2 J1(v) / v)**2`` at the pixels' centres, normalised to sum 1.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range, or would give a kernel of more than 2**24 elements.

    Notes
    -----
    The rings fall slowly, with the third power of the radius: a share ``J0(v)**2 + J1(v)**2`` of the light,
    ``v = 3.83 radius / first_zero``, lies outside any cut [1]_, and no tolerance of `factor` counts it. It
    does not separate; 3 to 8 terms reach errors from 3 % to 1e-6.

    References
    ----------
    .. [1] M. Born, E. Wolf, Principles of Optics, 7th ed., Cambridge 1999, section 8.5.2.

    Examples
    --------
    >>> import separable as sp
    >>> psf = sp.families.airy(first_zero=4.0)
    >>> psf.shape, round(float(psf.sum()), 12)
    ((37, 37), 1.0)
    >>> sp.is_separable(psf), sp.factor(psf, tol=0.03).rank < 8
    (False, True)
    """
    ring = check_positive("first_zero", first_zero)
    # The zeros of J1 lie pi apart, nearly.
    reach = math.ceil(min(ring * (1 + 4 * math.pi / FIRST_ZERO), MAX_TAPS))
    if radius is not None:
        reach = check_count("radius", radius)
    if (2 * reach + 1) ** 2 > MAX_TAPS:
        raise ValueError(f"the kernel has radius {reach}; expected at most {MAX_TAPS} elements.")
    squares = np.square(np.arange(reach + 1.0))
    v = np.sqrt(np.add.outer(squares, squares)) * (FIRST_ZERO / ring)
    amplitude = everywhere(jinc, float(v[-1, -1]), 1.0)(v.ravel())
    quadrant = np.square(amplitude).reshape(v.shape)
    half = np.concatenate([quadrant[:0:-1], quadrant])
    pattern = np.concatenate([half[:, :0:-1], half], axis=1)
    weights: FloatArray = pattern / pattern.sum()
    return weights


def widefield_psf(
    shape: Sequence[SupportsIndex],
    voxel: Sequence[float],
    *,
    wavelength: float,
    numerical_aperture: float,
    immersion_index: float = 1.515,
    sample_index: float | None = None,
    depth: float = 0.0,
    coverslip_error: float = 0.0,
    coverslip_index: float = 1.5255,
) -> FloatArray:
    """Return the intensity of a point seen by a widefield microscope: dense weights.

    Lengths are in one unit, whichever: micrometres, say.

    Parameters
    ----------
    shape : sequence of int
        Samples along z, y and x, odd; or along y and x, for the plane in focus.
    voxel : sequence of float
        Distance of the samples along each of these axes, > 0.
    wavelength : float
        Of the light that is detected, in vacuum, > 0.
    numerical_aperture : float
        Of the objective, > 0, below `immersion_index`.
    immersion_index : float, optional
        Refractive index of what the objective is immersed in: 1 air, 1.33 water, 1.515 oil.
    sample_index : float, optional
        Refractive index of the sample. Default: as the immersion's, which is Born and Wolf's model [1]_.
    depth : float, optional
        How deep in the sample the point lies, >= 0; it matters where the two indices differ.
    coverslip_error : float, optional
        How much thicker the coverslip is than the objective is designed for.
    coverslip_index : float, optional
        Refractive index of the coverslip.

    Returns
    -------
    ndarray, shape `shape`, float64
        Sum 1, nothing negative, of even symmetry along y and x; along z too where the point is not aberrated.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range.

    Notes
    -----
    Scalar diffraction after Gibson and Lanni [2]_, with the objective as designed but for these parameters.
    With s the place in the pupil, 0 to `numerical_aperture`, and ``q(n) = sqrt(n**2 - s**2)``, the path is ::

        z q(n_i) + depth (q(n_s) - q(n_i) n_i / n_s) + coverslip_error (q(n_g) - q(n_i) n_i / n_g)

    so that z = 0 is the paraxial focus. The integral over the pupil is taken by Fejer's rule, split where
    total reflection begins, to 1e-12 of the peak. The size of a camera's pixel is not in it, nor is
    polarisation, which matters from an aperture of 1. Widefield light does not fade with z: every plane holds
    as much, so that what the shape cuts off along z is no small part.

    It does not separate, nor does any of its planes. ``separable.factor`` parts z from xy first.

    References
    ----------
    .. [1] M. Born, E. Wolf, Principles of Optics, 7th ed., Cambridge 1999, section 8.8.
    .. [2] S. F. Gibson, F. Lanni, Experimental test of an analytical model of aberration in an oil-immersion
       objective lens used in three-dimensional light microscopy, J. Optical Society of America A 9, 1992.

    Examples
    --------
    >>> import separable as sp
    >>> psf = sp.families.widefield_psf(
    ...     (25, 21, 21), (0.25, 0.1, 0.1), wavelength=0.52, numerical_aperture=1.2, immersion_index=1.33
    ... )  # micrometres, water
    >>> psf.shape, round(float(psf.sum()), 12)
    ((25, 21, 21), 1.0)
    >>> sp.is_separable(psf)
    False
    """
    grid = _Grid.checked(shape, voxel)
    media = Media.checked(immersion_index, sample_index, depth, coverslip_error, coverslip_index)
    lens = Lens.checked("wavelength", wavelength, numerical_aperture, media)
    return grid.filled(light(lens, grid.reach, grid.heights(media)), media.aberrated)


def confocal_psf(
    shape: Sequence[SupportsIndex],
    voxel: Sequence[float],
    *,
    excitation: float,
    emission: float,
    numerical_aperture: float,
    pinhole: float = 1.0,
    immersion_index: float = 1.515,
    sample_index: float | None = None,
    depth: float = 0.0,
    coverslip_error: float = 0.0,
    coverslip_index: float = 1.5255,
) -> FloatArray:
    """Return the intensity of a point seen by a confocal microscope: dense weights.

    Parameters
    ----------
    shape, voxel, numerical_aperture
        As for :func:`widefield_psf`.
    excitation, emission : float
        Wavelengths in vacuum, > 0, of the light that is sent and of the light that is detected.
    pinhole : float, optional
        Its diameter in Airy units of the emission, ``1.22 emission / numerical_aperture``, 0 to 20.
    immersion_index, sample_index, depth, coverslip_error, coverslip_index
        As for :func:`widefield_psf`.

    Returns
    -------
    ndarray, shape `shape`, float64
        Sum 1. The illumination times what the pinhole lets through, which is the emission's intensity
        averaged over the pinhole [1]_.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range.

    References
    ----------
    .. [1] T. Wilson, A. R. Carlini, Size of the detector in confocal imaging systems, Optics Letters 12,
       1987.

    Examples
    --------
    >>> import separable as sp
    >>> optics = {"numerical_aperture": 1.2, "immersion_index": 1.33}
    >>> shape, voxel = (15, 15, 15), (0.25, 0.1, 0.1)  # micrometres
    >>> confocal = sp.families.confocal_psf(shape, voxel, excitation=0.488, emission=0.52, **optics)
    >>> widefield = sp.families.widefield_psf(shape, voxel, wavelength=0.52, **optics)
    >>> bool(confocal[0].sum() < 0.2 * widefield[0].sum())  # light from out of focus is kept away
    True
    """
    grid = _Grid.checked(shape, voxel)
    media = Media.checked(immersion_index, sample_index, depth, coverslip_error, coverslip_index)
    sent = Lens.checked("excitation", excitation, numerical_aperture, media)
    seen = Lens.checked("emission", emission, numerical_aperture, media)
    if check_length("pinhole", pinhole) > _WIDEST:
        raise ValueError(f"`pinhole` is {pinhole:g}; expected at most {_WIDEST}: it would hide nothing.")
    hole = float(pinhole) * AIRY_UNIT / 2 * seen.wavelength / seen.aperture
    heights = grid.heights(media)
    illumination = light(sent, grid.reach, heights)
    detection = through_pinhole(seen, hole, grid.reach, heights)
    return grid.filled(lambda radii: illumination(radii) * detection(radii), media.aberrated)


@dataclass(frozen=True)
class _Grid:
    shape: tuple[int, ...]
    voxel: tuple[float, ...]

    @classmethod
    def checked(cls, shape: Sequence[SupportsIndex], voxel: Sequence[float]) -> _Grid:
        count = len(shape) if hasattr(shape, "__len__") else 0
        if count not in (2, 3):
            raise ValueError(f"`shape` is {shape!r}; expected samples along (z, y, x) or (y, x).")
        sizes = per_axis("shape", shape, count, check_size)
        steps = per_axis("voxel", voxel, count, check_positive)
        for axis, n in enumerate(sizes):
            if n % 2 == 0:
                raise ValueError(f"`shape[{axis}]` is {n}; expected an odd number, to have a centre.")
        if math.prod(sizes) > MAX_TAPS:
            raise ValueError(f"`shape` is {tuple(sizes)}; expected at most {MAX_TAPS} elements.")
        return cls(tuple(sizes), tuple(steps))

    def heights(self, media: Media) -> FloatArray:
        """Return the z of the planes to compute: half of them where the others are their mirror images."""
        if len(self.shape) == 2:
            return np.zeros(1)
        half = self.shape[0] // 2
        first = -half if media.aberrated else 0
        return np.arange(first, half + 1.0) * self.voxel[0]

    @property
    def reach(self) -> float:
        """The distance of a corner from the axis."""
        return math.hypot(*(n // 2 * step for n, step in zip(self.shape[-2:], self.voxel[-2:], strict=True)))

    def filled(self, planes: Radial, whole: bool) -> FloatArray:
        """Return the kernel from its planes' values at radii, shape ``(radii, planes)``."""
        along = [
            np.arange(-(n // 2), n // 2 + 1) * step for n, step in zip(self.shape, self.voxel, strict=True)
        ]
        squares, where = np.unique(np.add.outer(along[-2] ** 2, along[-1] ** 2), return_inverse=True)
        values = planes(np.sqrt(squares))[where.ravel()].T.reshape(-1, *self.shape[-2:])
        if not whole:
            values = np.concatenate([values[:0:-1], values])
        weights: FloatArray = (values / values.sum()).reshape(self.shape)
        return weights
