"""Waves under an envelope: Gabor and log-Gabor kernels."""

from __future__ import annotations

import math
from typing import NamedTuple, SupportsIndex

import numpy as np

from .._base.types import FloatArray
from ..kernel.value import SeparableKernel
from ._parameters import (
    MAX_TAPS,
    PerAxis,
    PerAxisInt,
    check_length,
    check_positive,
    check_radii,
    check_real,
    check_size,
    per_axis,
    sine_cosine,
)


def gabor(
    frequency: float,
    theta: float = 0.0,
    *,
    sigma: PerAxis | None = None,
    bandwidth: float = 1.0,
    phase: float = 0.0,
    truncate: float = 4.0,
    radius: PerAxisInt | None = None,
) -> SeparableKernel:
    """Return a two-dimensional Gabor kernel, a plane wave under a Gaussian: two terms at any angle.

    With row y and column x from the centre, the weight is ::

        exp(-y**2 / (2 sigma[0]**2) - x**2 / (2 sigma[1]**2)) / (2 pi sigma[0] sigma[1])
            * cos(2 pi frequency (x cos(theta) + y sin(theta)) + phase)

    Parameters
    ----------
    frequency : float
        Cycles per pixel, > 0.
    theta : float, optional
        Direction of the wave, radians from the columns' axis (axis 1) towards the rows' (axis 0).
    sigma : float or two floats, optional
        Standard deviation of the envelope along axis 0 and axis 1, > 0. Default: from `bandwidth`.
    bandwidth : float, optional
        Half-response bandwidth in octaves, > 0; read where `sigma` is not given [1]_.
    phase : float, optional
        Radians; 0 is even about the centre, ``-pi/2`` odd.
    truncate, radius
        As for :func:`gaussian`.

    Returns
    -------
    SeparableKernel
        Rank 2, because ``cos(a + b) = cos a cos b - sin a sin b``; rank 1 where the wave runs along an
        axis. The real part of ``skimage.filters.gabor_kernel`` with ``offset=phase``, where the envelope
        is not rotated. It does not sum to 0: an even Gabor passes some of a constant.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range.

    References
    ----------
    .. [1] N. Petkov, P. Kruizinga, Computational models of visual neurons specialised in the detection
       of periodic and aperiodic oriented visual stimuli, Biological Cybernetics 76, 1997.

    Examples
    --------
    >>> import separable as sp
    >>> tilted, upright = sp.families.gabor(0.15, theta=0.5), sp.families.gabor(0.15)
    >>> tilted.rank, upright.rank
    (2, 1)
    """
    wave = _Wave(frequency, theta, sigma, bandwidth, truncate, radius)
    return wave.kernel(check_real("phase", phase))


def gabor_pair(
    frequency: float,
    theta: float = 0.0,
    *,
    sigma: PerAxis | None = None,
    bandwidth: float = 1.0,
    truncate: float = 4.0,
    radius: PerAxisInt | None = None,
) -> tuple[SeparableKernel, SeparableKernel]:
    """Return the two parts of a complex Gabor kernel: even and odd, a quarter of a wave apart.

    With the results e and o of filtering with the two, ``sqrt(e**2 + o**2)`` is the local amplitude of the
    wave and ``arctan2(o, e)`` its phase.

    Parameters
    ----------
    frequency, theta, sigma, bandwidth, truncate, radius
        As for :func:`gabor`.

    Returns
    -------
    even, odd : SeparableKernel
        `gabor` with phase 0 and with phase -pi/2. A complex wave separates, ``exp(i(a + b)) = exp(ia)
        exp(ib)``, so the two share their taps along axis 1, bit by bit: filtered together they take two
        passes along it and four along axis 0.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range.

    References
    ----------
    .. [1] J. G. Daugman, Uncertainty relation for resolution in space, spatial frequency, and orientation
       optimized by two-dimensional visual cortical filters, J. Optical Society of America A 2, 1985.

    Examples
    --------
    >>> import numpy as np
    >>> import separable as sp
    >>> even, odd = sp.families.gabor_pair(0.125, theta=0.4)
    >>> rows, columns = np.mgrid[:96, :96]
    >>> wave = np.cos(2 * np.pi * 0.125 * (columns * np.cos(0.4) + rows * np.sin(0.4)))
    >>> amplitude = np.hypot(sp.correlate(wave, even), sp.correlate(wave, odd))[20:-20, 20:-20]
    >>> bool(np.ptp(amplitude) < 0.01 * amplitude.mean())  # the same everywhere: the wave itself is gone
    True
    """
    wave = _Wave(frequency, theta, sigma, bandwidth, truncate, radius)
    return wave.kernel(0.0), wave.kernel(-math.pi / 2)


class _Wave:
    """A complex wave under its envelope: an outer product of one complex line per axis."""

    def __init__(
        self,
        frequency: float,
        theta: float,
        sigma: PerAxis | None,
        bandwidth: float,
        truncate: float,
        radius: PerAxisInt | None,
    ) -> None:
        wave = 2 * math.pi * check_positive("frequency", frequency)
        slope_y, slope_x = map(float, sine_cosine(check_real("theta", theta)))
        if sigma is None:
            octaves = 2.0 ** check_positive("bandwidth", bandwidth)
            sigma = math.sqrt(2 * math.log(2)) * (octaves + 1) / (octaves - 1) / wave
        lengths = per_axis("sigma", sigma, 2, check_length)
        sigmas = [check_positive(f"sigma[{axis}]", s) for axis, s in enumerate(lengths)]
        y, x = (np.arange(-r, r + 1.0) for r in check_radii(sigmas, truncate, radius))
        rows, self._columns = (np.exp(-0.5 * (d / s) ** 2) for d, s in zip((y, x), sigmas, strict=True))
        self._rows = rows / (2 * math.pi * sigmas[0] * sigmas[1])
        self._along_y, self._along_x = wave * slope_y * y, wave * slope_x * x

    def kernel(self, phase: float) -> SeparableKernel:
        """Return the real part of the wave times ``exp(i phase)``."""
        sine, cosine = map(float, sine_cosine(phase))
        a, b = self._along_y, self._along_x
        # A shifted wave from one at rest, so that even and odd taps are exactly even and odd.
        in_phase = cosine * np.cos(a) - sine * np.sin(a)
        ahead = sine * np.cos(a) + cosine * np.sin(a)
        if not b.any():
            return SeparableKernel([[self._rows * in_phase, self._columns]])
        if not a.any():
            return SeparableKernel([[self._rows, self._columns * (cosine * np.cos(b) - sine * np.sin(b))]])
        return SeparableKernel(
            [
                [self._rows * in_phase, self._columns * np.cos(b)],
                [-self._rows * ahead, self._columns * np.sin(b)],
            ]
        )


class LogGabor(NamedTuple):
    """One pair of a log-Gabor bank: dense weights, and what they answer to.

    Attributes
    ----------
    even, odd : ndarray, shape ``(2*radius + 1, 2*radius + 1)``, float64
        For lines and for edges; with their results e and o, ``sqrt(e**2 + o**2)`` is the local amplitude.
    frequency : float
        Cycles per pixel.
    theta : float
        Direction of the wave, radians from axis 1 towards axis 0.

    Examples
    --------
    >>> import numpy as np
    >>> import separable as sp
    >>> bank = sp.families.log_gabor_bank(scales=2, orientations=4)
    >>> pair = bank[0]
    >>> round(pair.frequency, 3), pair.theta, pair.even.shape == pair.odd.shape
    (0.333, 0.0, True)
    >>> image = np.random.default_rng(0).random((64, 64))
    >>> even, odd = sp.correlate(image, pair.even), sp.correlate(image, pair.odd)
    >>> amplitude = np.hypot(even, odd)
    """

    even: FloatArray
    odd: FloatArray
    frequency: float
    theta: float


def log_gabor_bank(
    scales: SupportsIndex = 4,
    orientations: SupportsIndex = 6,
    *,
    wavelength: float = 3.0,
    ratio: float = 2.1,
    bandwidth: float = 2.0,
    truncate: float = 4.0,
) -> tuple[LogGabor, ...]:
    """Return log-Gabor kernels of several scales and directions: dense pairs without a response to constants.

    Parameters
    ----------
    scales, orientations : int, optional
        Numbers of them, >= 1; the directions divide half a turn evenly.
    wavelength : float, optional
        Of the finest scale, in pixels, >= 2.
    ratio : float, optional
        Of the wavelengths of neighbouring scales, > 1.
    bandwidth : float, optional
        Half-response bandwidth in octaves, > 0: 1 to 3 are usual [1]_.
    truncate : float, optional
        The radius in standard deviations of the Gaussian that has the response's width.

    Returns
    -------
    tuple of LogGabor
        Scale by scale from the finest, and in each direction by direction from 0.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range, or a kernel would reach more than 500 pixels.

    Notes
    -----
    The response of ``even + i odd`` at frequency f and angle t from the wave's is ::

        exp(-ln(f / frequency)**2 / (2 s**2)) * exp(-t**2 / (2 u**2)) / (1 + (f / 0.45)**30)

    with ``s = bandwidth * sqrt(ln(2) / 8)``, hence 1/2 at half the bandwidth to either side, and ``u = pi /
    orientations / 1.5`` [2]_; the last factor keeps the corners beyond Nyquist's frequency out. There is no
    closed form in space: the weights are its inverse Fourier transform on a grid four times as wide as the
    kernel, cut at the radius. The response to constants that the cut leaves is removed from the even part, by
    subtracting a multiple of the amplitude.

    References
    ----------
    .. [1] D. J. Field, Relations between the statistics of natural images and the response properties of
       cortical cells, J. Optical Society of America A 4, 1987.
    .. [2] P. Kovesi, Image features from phase congruency, Videre 1 (3), 1999.

    Examples
    --------
    >>> import numpy as np
    >>> import separable as sp
    >>> bank = sp.families.log_gabor_bank(scales=3, orientations=4)
    >>> len(bank), [round(1 / pair.frequency, 1) for pair in bank[::4]]
    (12, [3.0, 6.3, 13.2])
    >>> bool(all(abs(pair.even.sum()) < 1e-12 for pair in bank))  # blind to constants
    True
    """
    levels, turns = check_size("scales", scales), check_size("orientations", orientations)
    first, step = check_positive("wavelength", wavelength), check_positive("ratio", ratio)
    if first < 2 or step <= 1:
        wrong = f"`wavelength` is {first:g}" if first < 2 else f"`ratio` is {step:g}"
        raise ValueError(f"{wrong}; expected a wavelength of at least 2 pixels and a ratio above 1.")
    width = check_positive("bandwidth", bandwidth) * math.sqrt(math.log(2) / 8)
    spread = math.pi / turns / 1.5
    cut = check_positive("truncate", truncate)
    frequencies = [1 / (first * step**level) for level in range(levels)]
    radii = [cut / (2 * math.pi * frequency * min(width, spread)) for frequency in frequencies]
    for level, reach in enumerate(radii):
        if not (8 * reach + 5) ** 2 <= MAX_TAPS:
            raise ValueError(
                f"scale {level} has taps on {reach:.3g} pixels around; lower scales, ratio or truncate."
            )
    bank = []
    for frequency, reach in zip(frequencies, radii, strict=True):
        for turn in range(turns):
            theta = math.pi * turn / turns
            even, odd = _log_gabor(frequency, theta, width, spread, math.ceil(reach))
            bank.append(LogGabor(even, odd, frequency, theta))
    return tuple(bank)


def _log_gabor(
    frequency: float, theta: float, width: float, spread: float, radius: int
) -> tuple[FloatArray, FloatArray]:
    grid = np.fft.fftfreq(8 * radius + 5)  # odd: no frequency is its own negative
    fy, fx = grid[:, np.newaxis], grid
    radial = np.hypot(fy, fx)
    radial[0, 0] = 1.0
    angle = np.arctan2(fy, fx) - theta
    angle = np.abs(np.arctan2(np.sin(angle), np.cos(angle)))
    response = np.exp(-0.5 * (np.log(radial / frequency) / width) ** 2 - 0.5 * (angle / spread) ** 2)
    response /= 1 + (radial / 0.45) ** 30
    response[0, 0] = 0.0
    spatial = np.fft.fftshift(np.fft.ifft2(response))
    middle = grid.size // 2
    inside = slice(middle - radius, middle + radius + 1)
    weights = spatial[inside, inside]
    mirrored = weights[::-1, ::-1]
    even, odd = (weights.real + mirrored.real) / 2, (weights.imag - mirrored.imag) / 2
    amplitude = np.abs(even + 1j * odd)
    return even - amplitude * (even.sum() / amplitude.sum()), odd
