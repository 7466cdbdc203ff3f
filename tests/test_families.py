"""Closed forms: against SciPy, scikit-image and OpenCV, against their formulas, and against factor."""

from __future__ import annotations

import math
import re
import runpy
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from reference import correlate_dense
from scipy import ndimage
from scipy.signal import savgol_coeffs
from skimage.filters import difference_of_gaussians, farid_h, farid_v, gabor_kernel
from skimage.morphology import disk as skimage_disk

from separable import families
from separable.factor import factor, is_separable
from separable.kernel.value import ErrorBounds, SeparableKernel

VOLUME = np.random.default_rng(0).standard_normal((14, 13, 9))


def assert_same_filter(kernel, expected, mode="reflect"):
    got = correlate_dense(VOLUME, kernel.dense(), mode)
    np.testing.assert_allclose(got, expected, rtol=0, atol=2e-14 * max(1, np.abs(expected).max()))


# -- Gaussians ------------------------------------------------------------------------------------------


def test_gaussian_is_scipys():
    sigma = (1.2, 0.9, 1.5)
    k = families.gaussian(sigma, truncate=3.0)
    assert (k.rank, k.error) == (1, ErrorBounds())
    assert_same_filter(k, ndimage.gaussian_filter(VOLUME, sigma, truncate=3.0))


@pytest.mark.parametrize("order", [1, 2, (0, 1, 0), (1, 0, 2), (0, 2, 1)])
def test_gaussian_derivatives_come_close_to_scipys(order):
    sigma = (1.2, 0.9, 1.5)
    k = families.gaussian(sigma, order=order)
    expected = ndimage.gaussian_filter(VOLUME, sigma, order=order)
    got = correlate_dense(VOLUME, k.dense(), "reflect")
    np.testing.assert_allclose(got, expected, rtol=0, atol=5e-3 * np.abs(expected).max())


@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.4, 7.0])
def test_gaussian_taps_are_scipys(sigma):
    (taps,) = families.gaussian(sigma, ndim=1).terms[0]
    impulse = np.zeros(2 * taps.size + 1)
    impulse[taps.size] = 1.0
    response = ndimage.gaussian_filter1d(impulse, sigma, mode="constant")
    centre = slice(taps.size - taps.size // 2, taps.size + taps.size // 2 + 1)
    np.testing.assert_allclose(taps, response[centre], rtol=1e-13, atol=1e-15 * np.abs(taps).max())
    np.testing.assert_array_equal(taps, taps[::-1])


def test_gaussian_of_a_ramp_is_its_slope():
    ramp = 3.0 * np.arange(40.0)
    k = families.gaussian(2.0, order=1, ndim=1)
    np.testing.assert_allclose(correlate_dense(ramp, k.dense())[15:25], 3.0, rtol=1e-14)


def test_gaussian_radius_and_truncate():
    assert families.gaussian((1.0, 2.0)).shape == (9, 17)
    assert families.gaussian(1.0, truncate=2.6).shape == (7, 7)
    assert families.gaussian(1.0, radius=5).shape == (11, 11)
    assert families.gaussian(1.0, radius=(0, 2, 3)).shape == (1, 5, 7)
    expected = ndimage.gaussian_filter(VOLUME, 1.1, radius=(1, 2, 3))
    assert_same_filter(families.gaussian(1.1, radius=(1, 2, 3)), expected)


def test_gaussian_leaves_axes_without_sigma_alone():
    k = families.gaussian((1.0, 0.0, 2.0))
    assert k.shape == (9, 1, 17)
    assert_same_filter(k, ndimage.gaussian_filter(VOLUME, (1.0, 0.0, 2.0)))
    np.testing.assert_array_equal(families.gaussian(0, ndim=3).dense(), np.ones((1, 1, 1)))


def test_number_of_axes_comes_from_ndim_or_a_sequence_or_is_two():
    assert families.gaussian(1.0).ndim == 2
    assert families.gaussian(np.float32(1.0)).ndim == 2
    assert families.gaussian(1.0, ndim=4).ndim == 4
    assert families.gaussian(np.array([1.0, 2.0, 1.0])).ndim == 3
    assert families.gaussian(1.0, order=(0, 0, 1)).ndim == 3
    assert families.box(3).ndim == families.binomial(3).ndim == 2
    assert families.box((3, 4, 5)).shape == (3, 4, 5)


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_laplacian_of_gaussian_comes_close_to_scipys_with_one_term_per_axis(ndim):
    sigma = (1.0, 1.3, 0.8)[:ndim]
    k = families.laplacian_of_gaussian(sigma)
    assert k.rank == ndim
    expected = ndimage.gaussian_laplace(VOLUME, (*sigma, 0, 0)[:ndim], axes=tuple(range(ndim)))
    wide = np.reshape(k.dense(), k.shape + (1,) * (3 - ndim))
    np.testing.assert_allclose(
        correlate_dense(VOLUME, wide), expected, rtol=0, atol=2e-3 * np.abs(expected).max()
    )
    assert families.laplacian_of_gaussian(1.0, radius=3, ndim=ndim).shape == (7,) * ndim


@pytest.mark.parametrize(("low", "high"), [(0.8, 1.7), ((0.5, 1.0, 0.7), (1.0, 1.0, 2.0)), (1.1, None)])
def test_difference_of_gaussians_is_skimages(low, high):
    k = families.difference_of_gaussians(low, high, ndim=3)
    assert k.rank == 2
    assert_same_filter(k, difference_of_gaussians(VOLUME, low, high), mode="nearest")


# -- integers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3, 5, (4, 1, 3)])
def test_box_is_scipys_uniform_filter(size):
    assert_same_filter(families.box(size, 3), ndimage.uniform_filter(VOLUME, size))


def test_binomial():
    np.testing.assert_array_equal(families.binomial(3, 1).dense(), np.array([1, 2, 1]) / 4)
    np.testing.assert_array_equal(families.binomial((5, 2)).terms[0][0], np.array([1, 4, 6, 4, 1]) / 16)
    (taps,) = families.binomial(501, 1).terms[0]  # beyond the range of float64 without care
    assert taps.sum() == pytest.approx(1.0, rel=1e-13)
    x = np.arange(-250, 251)
    assert (taps * x**2).sum() == pytest.approx(125.0, rel=1e-12)  # the variance


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -3])
def test_sobel_and_prewitt_are_scipys(axis):
    assert_same_filter(families.sobel(axis, 3), ndimage.sobel(VOLUME, axis))
    assert_same_filter(families.prewitt(axis, 3), ndimage.prewitt(VOLUME, axis))


def test_edge_kernels_of_opencv():
    image = np.ascontiguousarray(VOLUME[:, :, 0])
    for axis in (0, 1):
        steps = (int(axis == 1), int(axis == 0))  # OpenCV counts x first
        expected = cv2.Scharr(image, -1, *steps, borderType=cv2.BORDER_REFLECT)
        got = correlate_dense(image, families.scharr(axis).dense())
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12)


def test_farid_is_skimages():
    image = np.ascontiguousarray(VOLUME[:, :, 0])
    for axis, expected in ((0, farid_h(image)), (1, farid_v(image))):  # theirs is convolved
        np.testing.assert_allclose(
            correlate_dense(image, families.farid(axis).dense()), expected, rtol=0, atol=1e-14
        )
    ramp = np.arange(-2.0, 3)[:, np.newaxis]
    assert (families.farid(0).dense() * ramp).sum() == pytest.approx(0.9918, abs=1e-4)


@pytest.mark.parametrize(
    ("family", "gain"), [(families.sobel, 4), (families.prewitt, 3), (families.scharr, 16)]
)
def test_gain_of_edge_kernels(family, gain):
    for ndim in (1, 2, 3):
        k = family(0, ndim)
        ramp = np.arange(-1.0, 2).reshape(-1, *[1] * (ndim - 1))
        assert (k.dense() * ramp).sum() == 2 * gain ** (ndim - 1)
        assert k.rank == 1
    assert family() == family(1, 2)


# -- Gabor ----------------------------------------------------------------------------------------------

ANGLES = [0.0, 0.3, math.pi / 6, math.pi / 4, math.pi / 2, 2.0, math.pi, -math.pi / 2, 5 * math.pi]


@pytest.mark.parametrize("phase", [0.0, 0.7, -math.pi / 2])
@pytest.mark.parametrize("theta", ANGLES)
def test_gabor_is_its_formula_with_two_terms(theta, phase):
    sigma = (2.0, 3.0)
    k = families.gabor(0.13, theta, sigma=sigma, phase=phase, radius=(9, 12))
    y, x = np.meshgrid(np.arange(-9, 10), np.arange(-12, 13), indexing="ij")
    envelope = np.exp(-(y**2) / 8 - x**2 / 18) / (2 * math.pi * 6)
    wave = np.cos(2 * math.pi * 0.13 * (x * math.cos(theta) + y * math.sin(theta)) + phase)
    np.testing.assert_allclose(k.dense(), envelope * wave, rtol=0, atol=1e-16)  # its peak is 0.027
    along_an_axis = abs(math.sin(2 * theta)) < 1e-9
    assert k.rank == (1 if along_an_axis else 2)


@pytest.mark.parametrize("theta", [0.0, 0.4, 1.9])
def test_gabor_is_skimages(theta):
    expected = gabor_kernel(0.15, theta, sigma_x=3, sigma_y=3, offset=0.4).real
    k = families.gabor(0.15, theta, sigma=3, phase=0.4, radius=[n // 2 for n in expected.shape])
    np.testing.assert_allclose(k.dense(), expected, rtol=0, atol=1e-17)
    expected = gabor_kernel(0.15, theta, bandwidth=1.5).real
    k = families.gabor(0.15, theta, bandwidth=1.5, radius=[n // 2 for n in expected.shape])
    np.testing.assert_allclose(k.dense(), expected, rtol=0, atol=1e-17)


@pytest.mark.parametrize("theta", ANGLES)
def test_gabor_pair_is_one_complex_wave_that_shares_its_passes(theta):
    even, odd = families.gabor_pair(0.13, theta, sigma=(2.0, 3.0))
    assert even == families.gabor(0.13, theta, sigma=(2.0, 3.0))
    assert odd == families.gabor(0.13, theta, sigma=(2.0, 3.0), phase=-math.pi / 2)
    y, x = np.ogrid[-8:9, -12:13]
    envelope = np.exp(-(y**2) / 8 - x**2 / 18) / (12 * math.pi)
    wave = envelope * np.exp(2j * math.pi * 0.13 * (x * math.cos(theta) + y * math.sin(theta)))
    np.testing.assert_allclose(even.dense() + 1j * odd.dense(), wave, rtol=0, atol=1e-16)
    np.testing.assert_array_equal(even.dense(), even.dense()[::-1, ::-1])
    np.testing.assert_array_equal(odd.dense(), -odd.dense()[::-1, ::-1])
    if even.rank == 2:
        along_rows = {taps[1].tobytes() for taps in (*even.terms, *odd.terms)}
        assert len(along_rows) == 2


# -- log-Gabor ------------------------------------------------------------------------------------------


def test_log_gabor_bank_answers_as_its_formula_says():
    bank = families.log_gabor_bank(3, 6)
    assert len(bank) == 18
    n = 255
    fy, fx = np.meshgrid(np.fft.fftfreq(n), np.fft.fftfreq(n), indexing="ij")
    for each in bank:
        r = each.even.shape[0] // 2
        padded = np.zeros((n, n), complex)
        padded[: 2 * r + 1, : 2 * r + 1] = each.even + 1j * each.odd
        response = np.fft.fft2(np.roll(padded, (-r, -r), (0, 1)))
        radial = np.hypot(fy, fx)
        radial[0, 0] = 1e-9
        off = np.angle(np.exp(1j * (np.arctan2(fy, fx) - each.theta)))
        octaves = np.log2(radial / each.frequency)
        # Half as much an octave to either side, and at an angle of u sqrt(2 ln 2).
        expected = 2.0 ** -(octaves**2) * np.exp(-(off**2) / 2 / (math.pi / 9) ** 2)
        expected /= 1 + (radial / 0.45) ** 30
        assert np.abs(response - expected).max() < 0.08 * expected.max()
        peak = np.unravel_index(np.abs(response).argmax(), response.shape)
        assert math.hypot(fy[peak], fx[peak]) == pytest.approx(each.frequency, rel=0.2)


def test_log_gabor_kernels_are_even_and_odd_and_blind_to_constants():
    for each in families.log_gabor_bank(2, 3):
        np.testing.assert_array_equal(each.even, each.even[::-1, ::-1])
        np.testing.assert_array_equal(each.odd, -each.odd[::-1, ::-1])
        assert abs(each.even.sum()) < 1e-15
        assert abs(each.odd.sum()) < 1e-15
    scales = [each.frequency for each in families.log_gabor_bank(3, 1, wavelength=4, ratio=2)]
    np.testing.assert_allclose(scales, [1 / 4, 1 / 8, 1 / 16])


# -- polynomials and windows ----------------------------------------------------------------------------


def fitted_exactly(size, degree, order):
    """The normal equations of the fit, solved in fractions."""
    places = [Fraction(x) for x in range(-(size // 2), size // 2 + 1)]
    moments = [sum(x**power for x in places) for power in range(2 * degree + 1)]
    rows = [[*moments[i : i + degree + 1], Fraction(i == order)] for i in range(degree + 1)]
    for c in range(degree + 1):
        pivot = next(r for r in range(c, degree + 1) if rows[r][c])
        rows[c], rows[pivot] = rows[pivot], rows[c]
        rows[c] = [v / rows[c][c] for v in rows[c]]
        for r in range(degree + 1):
            if r != c:
                rows[r] = [v - rows[r][c] * w for v, w in zip(rows[r], rows[c], strict=True)]
    taps = [sum(row[-1] * x**i for i, row in enumerate(rows)) for x in places]
    return np.array([float(math.factorial(order) * tap) for tap in taps])


@pytest.mark.parametrize("order", [0, 1, 2])
@pytest.mark.parametrize(("size", "degree"), [(1, 0), (5, 2), (5, 4), (11, 4), (31, 9), (101, 20)])
def test_savitzky_golay_is_scipys_and_right_where_scipys_is_not(size, degree, order):
    k = families.savitzky_golay(size, degree, order=order, spacing=0.5, ndim=1)
    if order > degree:
        assert not k.dense().any()
        return
    exact = fitted_exactly(size, degree, order) * 2**order
    np.testing.assert_allclose(k.dense(), exact, rtol=0, atol=4e-15 * np.abs(exact).max())
    np.testing.assert_array_equal(k.dense(), (-1) ** order * k.dense()[::-1])
    if degree < 9:  # SciPy's powers of the place are too near to each other from there on
        expected = savgol_coeffs(size, degree, deriv=order, delta=0.5, use="dot")
        np.testing.assert_allclose(k.dense(), expected, rtol=0, atol=1e-12 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("size", "degree", "order"), [((9, 7), 4, (0, 1)), ((5, 7, 5), 3, (0, 0, 0)), ((5, 5), 2, (1, 1))]
)
def test_savitzky_golay_reads_the_derivatives_of_any_polynomial(size, degree, order):
    k = families.savitzky_golay(size, degree, order=order)
    grid = np.meshgrid(*(np.arange(-(n // 2), n // 2 + 1.0) for n in size), indexing="ij")
    powers = [p for p in np.ndindex(*[degree + 1] * len(size)) if sum(p) <= degree]
    for power in powers:
        monomial = math.prod(g**p for g, p in zip(grid, power, strict=True))
        expected = math.prod(map(math.factorial, order)) if power == order else 0.0
        assert (k.dense() * monomial).sum() == pytest.approx(expected, abs=1e-11)
    design = np.stack(
        [math.prod(g**p for g, p in zip(grid, power, strict=True)).ravel() for power in powers], 1
    )
    row = np.linalg.pinv(design)[powers.index(order)] * math.prod(map(math.factorial, order))
    np.testing.assert_allclose(k.dense().ravel(), row, rtol=0, atol=1e-13)  # of those, the shortest


@pytest.mark.parametrize("degree", range(6))
def test_savitzky_golay_has_the_fewest_terms(degree):
    k = families.savitzky_golay(13, degree)
    assert k.rank == degree // 2 + 1
    assert factor(k.dense(), tol=1e-12).rank == k.rank


def test_lanczos_passes_what_is_slow_and_stops_what_is_fast():
    for scale, lobes in ((2.0, 2), (3.0, 3), (2.5, 4)):
        (taps,) = families.lanczos(scale, lobes, ndim=1).terms[0]
        x = np.arange(taps.size) - taps.size // 2
        formula = np.sinc(x / scale) * np.sinc(x / scale / lobes)
        np.testing.assert_allclose(taps, formula / formula.sum(), rtol=1e-13)
        gain = [abs((taps * np.cos(2 * math.pi * f * x)).sum()) for f in (0.0, 0.25 / scale, 0.9 / scale)]
        assert gain[0] == pytest.approx(1, abs=1e-14)
        assert gain[1] > 0.9
        assert gain[2] < 0.03
    np.testing.assert_allclose(families.lanczos(ndim=1).dense(), [0, 0, 1, 0, 0], atol=1e-16)


def test_lanczos_shift_interpolates():
    x = np.arange(60.0)
    wave = np.cos(0.3 * x)
    moved = correlate_dense(wave, families.lanczos(shift=0.4, lobes=4, ndim=1).dense())
    np.testing.assert_allclose(moved[10:50], np.cos(0.3 * (x + 0.4))[10:50], atol=0.01)


# -- shapes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("radius", [0.3, 0.5, 1.0, 2.4, 6.5, 12.0])
def test_antialiased_disk_is_the_area_of_each_pixel(radius):
    weights = families.disk(radius, antialias=True)
    half = weights.shape[0] // 2
    assert half == max(0, math.ceil(radius - 0.5))
    fine = (np.arange(400) + 0.5) / 400 - 0.5
    places = np.arange(-half, half + 1)[:, np.newaxis] + fine
    heights = np.sqrt(np.maximum(radius**2 - places**2, 0.0))  # of the disk, above the middle
    rows = np.arange(-half, half + 1)
    covered = [
        np.clip(np.minimum(heights, y + 0.5) - np.maximum(-heights, y - 0.5), 0, None).mean(1) for y in rows
    ]
    np.testing.assert_allclose(
        weights, np.array(covered) / (math.pi * radius**2), rtol=0, atol=2e-4 * weights.max()
    )
    np.testing.assert_array_equal(weights, weights.T)
    np.testing.assert_array_equal(weights, weights[::-1])
    assert weights.sum() == pytest.approx(1, abs=1e-14)


def test_motion_blur_is_the_way_in_each_pixel():
    np.testing.assert_allclose(families.motion_blur(5), np.full((1, 5), 0.2))
    np.testing.assert_allclose(families.motion_blur(2, math.pi / 2), [[0.25], [0.5], [0.25]])
    np.testing.assert_allclose(families.motion_blur(3 * math.sqrt(2), math.pi / 4), np.eye(3) / 3, atol=1e-15)
    np.testing.assert_array_equal(families.motion_blur(0.0, 1.0), [[1.0]])
    for length, angle in ((7.3, 0.4), (11.0, 2.2), (0.7, -0.3)):
        weights = families.motion_blur(length, angle)
        t = (np.arange(200_000) + 0.5) / 200_000 * length - length / 2
        half = np.array(weights.shape)[:, np.newaxis] // 2
        rows, columns = np.rint(t * np.array([[math.sin(angle)], [math.cos(angle)]])).astype(int) + half
        counted = np.zeros(weights.shape)
        np.add.at(counted, (rows, columns), 1 / t.size)
        np.testing.assert_allclose(weights, counted, rtol=0, atol=1e-4)


# -- against factor ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kernel",
    [
        families.gaussian(2.0),
        families.gaussian((1.0, 2.0), order=(1, 2)),
        families.laplacian_of_gaussian(2.0),
        families.difference_of_gaussians(1.0, 2.0),
        families.gabor(0.1, math.pi / 6),
        families.gabor(0.1, math.pi / 2),
        families.box((4, 5)),
        families.binomial(5, 3),
        families.scharr(0, 3),
        families.farid(1),
        families.lanczos(2.0),
        families.savitzky_golay(9, 4),
        families.steerable(2.0, 3).at(0.4),
        families.gabor_pair(0.1, 0.5)[1],
    ],
    ids=lambda k: f"{k.shape}",
)
def test_closed_forms_have_the_fewest_terms(kernel):
    found = factor(kernel.dense())
    assert found.rank == kernel.rank
    np.testing.assert_allclose(found.dense(), kernel.dense(), rtol=0, atol=1e-15 * kernel.norm_l1)


@pytest.mark.parametrize("radius", [0, 1, 2.5, 5, 12])
def test_disk_is_dense_and_does_not_separate(radius):
    weights = families.disk(radius)
    assert weights.sum() == pytest.approx(1.0, rel=1e-14)
    if isinstance(radius, int):
        expected = skimage_disk(radius)
        np.testing.assert_array_equal(weights, expected / expected.sum())
    row_lengths = len({int(n) for n in np.count_nonzero(weights, axis=1)})
    assert factor(weights).rank == row_lengths
    assert is_separable(weights) is (row_lengths == 1)


# -- bad input --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: families.gaussian(-1.0), ValueError, r"`sigma` is -1; expected a number >= 0"),
        (lambda: families.gaussian((1.0, math.nan)), ValueError, r"`sigma\[1\]` is nan; expected a finite"),
        (lambda: families.gaussian("wide"), TypeError, r"`sigma` is 'wide'; expected a number"),
        (lambda: families.gaussian(np.ones((2, 2))), TypeError, r"`sigma` is array"),
        (lambda: families.gaussian(1.0, order=-1), ValueError, r"`order` is -1; expected an integer >= 0"),
        (lambda: families.gaussian(1.0, order=1.0), TypeError, r"`order` is 1.0; expected an integer"),
        (lambda: families.gaussian((1, 0), order=(0, 1)), ValueError, r"`order\[1\]` is 1 with sigma\[1\]=0"),
        (lambda: families.gaussian(1.0, truncate=0), ValueError, r"`truncate` is 0; expected a number > 0"),
        (lambda: families.gaussian(1.0, radius=-2), ValueError, r"`radius` is -2"),
        (lambda: families.gaussian(1e9), ValueError, r"`sigma\[0\]` = 1e\+09 asks for more than .* pixels"),
        (lambda: families.gaussian(1.0, radius=2**40), ValueError, r"asks for more than"),
        (
            lambda: families.gaussian((1, 1), order=(0, 2), radius=(0, 1)),
            ValueError,
            r"`radius` is 1 along axis 1, where the order is 2; expected 2 or more",
        ),
        (lambda: families.laplacian_of_gaussian(1.0, radius=1), ValueError, r"`radius` is 1 along axis 0"),
        (lambda: families.gaussian(), TypeError, r"takes one of `sigma` and `fwhm`; got neither"),
        (lambda: families.gaussian(1, fwhm=2), TypeError, r"got sigma=1 and fwhm=2"),
        (lambda: families.gaussian(fwhm=(2, -1)), ValueError, r"`fwhm\[1\]` is -1; expected a number >= 0"),
        (lambda: families.gaussian(fwhm="wide"), TypeError, r"`fwhm` is 'wide'; expected a number"),
        (lambda: families.gaussian((1, 2), order=(0, 1, 2)), ValueError, r"sigma: 2, order: 3"),
        (lambda: families.gaussian((1, 2), ndim=3), ValueError, r"ndim: 3, sigma: 2"),
        (lambda: families.gaussian(1.0, ndim=9), ValueError, r"`ndim` asks for 9 axes; expected 1 to 8"),
        (lambda: families.gaussian([]), ValueError, r"`sigma` asks for 0 axes"),
        (lambda: families.laplacian_of_gaussian(0.0), ValueError, r"`sigma` is 0; expected a number > 0"),
        (lambda: families.difference_of_gaussians(2.0, 1.0), ValueError, r"above high_sigma\[0\]=1; swap"),
        (lambda: families.box(0), ValueError, r"`size` is 0; expected an integer from 1"),
        (lambda: families.box(3.0), TypeError, r"`size` is 3.0; expected an integer"),
        (lambda: families.binomial((3, 0)), ValueError, r"`size\[1\]` is 0"),
        (lambda: families.sobel(2, 2), ValueError, r"`axis` is 2; expected -2 to 1 with ndim=2"),
        (lambda: families.sobel("x"), TypeError, r"`axis` is 'x'; expected an integer"),
        (lambda: families.gabor(0.0), ValueError, r"`frequency` is 0; expected a number > 0"),
        (lambda: families.gabor(0.1, math.inf), ValueError, r"`theta` is inf"),
        (lambda: families.gabor(0.1, sigma=(1, 0)), ValueError, r"`sigma\[1\]` is 0; expected a number > 0"),
        (lambda: families.gabor(0.1, sigma=(1, 1, 1)), ValueError, r"`sigma` has 3 elements"),
        (lambda: families.farid(2), ValueError, r"`axis` is 2; expected -2 to 1"),
        (
            lambda: families.savitzky_golay(4, 2),
            ValueError,
            r"`size\[0\]` is 4; expected an odd number above",
        ),
        (lambda: families.savitzky_golay(5, 5), ValueError, r"above degree=5"),
        (lambda: families.lanczos(0.5), ValueError, r"`scale\[0\]` is 0.5; expected 1 or more"),
        (lambda: families.lanczos(1e9), ValueError, r"at most 16777216 taps"),
        (lambda: families.log_gabor_bank(wavelength=1), ValueError, r"`wavelength` is 1; expected"),
        (lambda: families.log_gabor_bank(ratio=1), ValueError, r"`ratio` is 1; expected"),
        (lambda: families.log_gabor_bank(40), ValueError, r"scale 7 has taps on \d+ pixels around"),
        (lambda: families.motion_blur(-1), ValueError, r"`length` is -1"),
        (lambda: families.motion_blur(1e9, 0.3), ValueError, r"at most 16777216 elements"),
        (lambda: families.disk(1e6, antialias=True), ValueError, r"at most 16777216 elements"),
        (lambda: families.disk(-1), ValueError, r"`radius` is -1"),
        (lambda: families.disk(1e6), ValueError, r"at most 16777216 elements"),
    ],
)
def test_bad_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_all_families_return_kernels():
    made = [families.gaussian(1.0), families.box(3), families.sobel(), families.gabor(0.1, 0.3)]
    assert all(isinstance(k, SeparableKernel) for k in made)


def test_every_family_has_its_line_and_picture_in_the_docs():
    docs = Path(__file__).resolve().parents[1] / "docs"
    page = (docs / "filters" / "kernels.md").read_text(encoding="utf-8")
    names = {name for name in families.__all__ if name.islower()}
    assert set(re.findall(r"^\| `(\w+)\(.*\(\.\./pictures/\1\.png\) \|$", page, flags=re.MULTILINE)) == names
    assert {path.stem for path in (docs / "pictures").glob("*.png")} == names


def test_the_pictures_can_be_drawn_again(tmp_path):
    pytest.importorskip("matplotlib")
    script = runpy.run_path(str(Path(__file__).resolve().parents[1] / "docs" / "pictures" / "draw.py"))
    drawn = script["pictures"]()
    assert set(drawn) == {name for name in families.__all__ if name.islower()}
    for name in ("gaussian", "gabor_pair", "airy"):  # taps, several kernels, singular values
        script["draw"](tmp_path / f"{name}.png", drawn[name])
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
