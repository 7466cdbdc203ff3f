"""Point-spread functions: SciPy's Bessel functions, brute-force integrals and what physics conserves."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import j0, j1

from separable import families
from separable.families._pupil import bessel

WATER = {"numerical_aperture": 1.2, "immersion_index": 1.33}


@pytest.mark.parametrize(("order", "known"), [(0, j0), (1, j1)])
@pytest.mark.parametrize("most", [0.1, 5.0, 80.0, 900.0])
def test_bessel_functions_are_scipys(order, known, most):
    x = np.linspace(0, most, 501)
    np.testing.assert_allclose(bessel(order, x), known(x), rtol=0, atol=2e-14)


# -- Airy -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ring", [1.0, 3.7, 12.0])
def test_airy_is_its_formula(ring):
    weights = families.airy(ring)
    half = weights.shape[0] // 2
    y, x = np.ogrid[-half : half + 1, -half : half + 1]
    v = np.hypot(y, x) * 3.8317059702075125 / ring
    v[half, half] = 1e-9
    expected = (2 * j1(v) / v) ** 2
    np.testing.assert_allclose(weights, expected / expected.sum(), rtol=0, atol=1e-15)
    np.testing.assert_array_equal(weights, weights[::-1])
    np.testing.assert_array_equal(weights, weights.T)


def test_airy_is_dark_at_its_first_ring_and_holds_the_light_it_should():
    weights = families.airy(10.0, radius=60)
    assert weights[60, 70] < 1e-10 * weights[60, 60]
    # Born & Wolf (8.5.18): 83.8 % inside the first dark ring, 91.0 % inside the second.
    y, x = np.ogrid[-60:61, -60:61]
    v = 3.8317059702075125 * 6
    whole = 1 - j0(v) ** 2 - j1(v) ** 2
    inside = [weights[np.hypot(y, x) <= r].sum() / weights[np.hypot(y, x) <= 60].sum() for r in (10.0, 18.31)]
    np.testing.assert_allclose(np.array(inside) * whole, [0.838, 0.910], atol=0.004)


# -- microscopes ----------------------------------------------------------------------------------------


def brute_force(r, z, wavelength, aperture, immersion, layers=()):
    """Gibson and Lanni's integral by adaptive quadrature."""
    k = 2 * math.pi / wavelength

    def field(s):
        path = z * np.emath.sqrt(immersion**2 - s**2)
        for thickness, index in layers:
            slant = np.emath.sqrt(index**2 - s**2)
            path = path + thickness * (slant - np.sqrt(immersion**2 - s**2) * immersion / index)
        return j0(k * r * s) * np.exp(1j * k * path) * s

    breaks = [index for _, index in layers if index < aperture] or None
    parts = [
        quad(of_part, 0, aperture, limit=2000, points=breaks, epsabs=1e-11, epsrel=1e-11)[0]
        for of_part in (lambda s: field(s).real, lambda s: field(s).imag)
    ]
    return parts[0] ** 2 + parts[1] ** 2


@pytest.mark.parametrize(
    ("extras", "layers"),
    [
        ({}, ()),
        ({"sample_index": 1.40, "depth": 4.0}, ((4.0, 1.40),)),
        ({"sample_index": 1.10, "depth": 1.5}, ((1.5, 1.10),)),  # below the aperture: total reflection
        ({"coverslip_error": -8.0, "coverslip_index": 1.52}, ((-8.0, 1.52),)),
    ],
)
def test_widefield_is_gibson_and_lannis_integral(extras, layers):
    shape, voxel = (7, 9, 11), (0.5, 0.15, 0.1)
    weights = families.widefield_psf(shape, voxel, wavelength=0.52, **WATER, **extras)
    assert weights.shape == shape
    assert weights.sum() == pytest.approx(1, abs=1e-14)
    places = [(3, 4, 5), (3, 4, 6), (0, 0, 0), (6, 2, 9), (1, 4, 5), (5, 8, 1)]
    expected = []
    for i, j, k in places:
        r = math.hypot((j - 4) * voxel[1], (k - 5) * voxel[2])
        expected.append(brute_force(r, (i - 3) * voxel[0], 0.52, 1.2, 1.33, layers))
    got = np.array([weights[place] for place in places])
    scale = expected[0] / got[0]
    np.testing.assert_allclose(got * scale, expected, rtol=0, atol=1e-10 * max(expected))


def test_a_plane_in_focus_is_an_airy_pattern():
    # The pupil of a lens in focus is flat, whatever the aperture: 0.61 wavelength / NA to the first ring.
    plane = families.widefield_psf(
        (31, 31), (0.05, 0.05), wavelength=0.5, numerical_aperture=0.9, immersion_index=1.0
    )
    ring = 3.8317059702075125 / (2 * math.pi * 0.9 / 0.5) / 0.05
    np.testing.assert_allclose(plane, families.airy(ring, radius=15), rtol=0, atol=1e-14)


def test_every_plane_of_a_widefield_psf_holds_the_same_light():
    weights = families.widefield_psf((5, 161, 161), (0.4, 0.1, 0.1), wavelength=0.6, numerical_aperture=0.8)
    planes = weights.sum(axis=(1, 2)) * 5
    np.testing.assert_allclose(planes, 1, atol=0.03)  # what is left falls outside the frame


def test_symmetry_is_exact():
    weights = families.widefield_psf((5, 9, 9), (0.3, 0.1, 0.1), wavelength=0.5, **WATER)
    for axis in range(3):
        np.testing.assert_array_equal(weights, np.flip(weights, axis))
    np.testing.assert_array_equal(weights, weights.transpose(0, 2, 1))
    shifted = families.widefield_psf(
        (5, 9, 9), (0.3, 0.1, 0.1), wavelength=0.5, depth=9, sample_index=1.4, **WATER
    )
    assert abs(shifted - shifted[::-1]).max() > 1e-4
    np.testing.assert_array_equal(shifted, shifted[:, ::-1, ::-1])


def test_a_mismatched_sample_moves_the_focus():
    # Through a thinner medium the light is bent less: oil into water focuses nearer than the stage says.
    weights = families.widefield_psf(
        (61, 3, 3), (0.1, 0.1, 0.1), wavelength=0.52, numerical_aperture=1.3, sample_index=1.33, depth=8.0
    )
    ahead = families.widefield_psf((61, 3, 3), (0.1, 0.1, 0.1), wavelength=0.52, numerical_aperture=1.3)
    assert np.argmax(ahead[:, 1, 1]) == 30
    assert abs(int(np.argmax(weights[:, 1, 1])) - 30) > 3
    assert weights[:, 1, 1].max() / weights.sum() < ahead[:, 1, 1].max() / ahead.sum()


CONFOCAL = {"excitation": 0.488, "emission": 0.52, **WATER}


def test_confocal_without_a_pinhole_is_the_product_of_two_widefields():
    shape, voxel = (9, 11, 11), (0.2, 0.08, 0.08)
    weights = families.confocal_psf(shape, voxel, pinhole=0.0, **CONFOCAL)
    sent = families.widefield_psf(shape, voxel, wavelength=0.488, **WATER)
    seen = families.widefield_psf(shape, voxel, wavelength=0.52, **WATER)
    product = sent * seen
    np.testing.assert_allclose(weights, product / product.sum(), rtol=0, atol=1e-15)


def test_confocal_pinhole_averages_the_emission():
    weights = families.confocal_psf((3, 3, 5), (0.4, 0.1, 0.1), pinhole=1.0, **CONFOCAL)
    hole = 0.61 * 0.52 / 1.2 * (3.8317059702075125 / math.pi / 1.22)
    fine = 0.02
    steps = np.arange(-13, 14) * fine
    inside = np.add.outer(steps**2, steps**2) <= hole**2
    got, expected = [], []
    for plane, row, column in ((1, 1, 2), (1, 1, 4), (0, 1, 2), (2, 0, 0)):
        y, x, z = (row - 1) * 0.1, (column - 2) * 0.1, (plane - 1) * 0.4
        around = np.hypot(*np.meshgrid(y + steps, x + steps, indexing="ij"))[inside]
        distances, counts = np.unique(around.round(12), return_counts=True)
        seen = np.average([brute_force(d, z, 0.52, 1.2, 1.33) for d in distances], weights=counts)
        expected.append(seen * brute_force(math.hypot(y, x), z, 0.488, 1.2, 1.33))
        got.append(weights[plane, row, column])
    np.testing.assert_allclose(np.array(got) / got[0], np.array(expected) / expected[0], rtol=0.02)


def test_a_wide_pinhole_lets_the_illumination_alone_decide():
    shape, voxel = (5, 9, 9), (0.2, 0.08, 0.08)
    wide = families.confocal_psf(shape, voxel, pinhole=12.0, **CONFOCAL)
    sent = families.widefield_psf(shape, voxel, wavelength=0.488, **WATER)
    np.testing.assert_allclose(wide, sent, rtol=0, atol=0.01 * sent.max())


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: families.airy(0), ValueError, "`first_zero` is 0; expected a number > 0"),
        (lambda: families.airy(1e5), ValueError, "at most 16777216 elements"),
        (lambda: families.airy(3, radius=-1), ValueError, "`radius` is -1"),
        (lambda: psf(shape=(4, 5, 5)), ValueError, r"`shape\[0\]` is 4; expected an odd number"),
        (lambda: psf(shape=(5,)), ValueError, r"expected samples along \(z, y, x\) or \(y, x\)"),
        (lambda: psf(shape=5), ValueError, "`shape` is 5"),
        (lambda: psf(shape=(999, 999, 999)), ValueError, "at most 16777216 elements"),
        (lambda: psf(voxel=(1, 1)), ValueError, "`voxel` has 2 elements"),
        (lambda: psf(voxel=(1, 1, 0)), ValueError, r"`voxel\[2\]` is 0"),
        (lambda: psf(wavelength=-1), ValueError, "`wavelength` is -1"),
        (
            lambda: psf(numerical_aperture=1.6),
            ValueError,
            r"is 1.6; expected less than immersion_index=1.515",
        ),
        (lambda: psf(sample_index=0), ValueError, "`sample_index` is 0"),
        (lambda: psf(depth=-1), ValueError, "`depth` is -1"),
        (
            lambda: families.confocal_psf((3, 3, 3), (1, 1, 1), pinhole=-1, **CONFOCAL),
            ValueError,
            "`pinhole` is -1",
        ),
    ],
)
def test_bad_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


def psf(**changed):
    asked = {"shape": (3, 3, 3), "voxel": (1, 1, 1), "wavelength": 0.5, "numerical_aperture": 1.0} | changed
    return families.widefield_psf(asked.pop("shape"), asked.pop("voxel"), **asked)
