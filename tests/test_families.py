"""Closed forms: against SciPy, scikit-image and OpenCV, against their formulas, and against factor."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from reference import correlate_dense
from scipy import ndimage
from skimage.filters import difference_of_gaussians, gabor_kernel
from skimage.morphology import disk as skimage_disk

from separable import families
from separable.factor import factor, is_separable
from separable.kernel import KernelError, SeparableKernel

VOLUME = np.random.default_rng(0).standard_normal((14, 13, 9))


def assert_same_filter(kernel, expected, mode="reflect"):
    got = correlate_dense(VOLUME, kernel.dense(), mode)
    np.testing.assert_allclose(got, expected, rtol=0, atol=2e-14 * max(1, np.abs(expected).max()))


# -- Gaussians ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [0, 1, 2, 3, 6, (0, 1, 0), (1, 0, 2), (3, 2, 1)])
def test_gaussian_is_scipys(order):
    sigma = (1.2, 0.9, 1.5)
    k = families.gaussian(sigma, order=order, truncate=3.0)
    assert (k.rank, k.error) == (1, KernelError())
    assert_same_filter(k, ndimage.gaussian_filter(VOLUME, sigma, order=order, truncate=3.0))


@pytest.mark.parametrize("order", range(5))
@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.4, 7.0])
def test_gaussian_taps_are_scipys(sigma, order):
    (taps,) = families.gaussian(sigma, order=order, ndim=1).terms[0]
    impulse = np.zeros(2 * taps.size + 1)
    impulse[taps.size] = 1.0
    response = ndimage.gaussian_filter1d(impulse, sigma, order=order, mode="constant")
    centre = slice(taps.size - taps.size // 2, taps.size + taps.size // 2 + 1)
    np.testing.assert_allclose(taps[::-1], response[centre], rtol=1e-13, atol=1e-15 * np.abs(taps).max())
    np.testing.assert_array_equal(taps, (-1) ** order * taps[::-1])


def test_gaussian_of_a_ramp_is_its_slope():
    ramp = 3.0 * np.arange(40.0)
    k = families.gaussian(2.0, order=1, ndim=1)
    np.testing.assert_allclose(correlate_dense(ramp, k.dense())[15:25], 3.0, rtol=1e-3)


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
def test_laplacian_of_gaussian_is_scipys_with_one_term_per_axis(ndim):
    sigma = (1.0, 1.3, 0.8)[:ndim]
    k = families.laplacian_of_gaussian(sigma)
    assert k.rank == ndim
    expected = ndimage.gaussian_laplace(VOLUME, (*sigma, 0, 0)[:ndim], axes=tuple(range(ndim)))
    wide = np.reshape(k.dense(), k.shape + (1,) * (3 - ndim))
    np.testing.assert_allclose(correlate_dense(VOLUME, wide), expected, rtol=0, atol=1e-13)
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
