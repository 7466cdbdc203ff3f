"""Derivatives of Gaussians are right on polynomials up to their order, however narrow the Gaussian is."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from command_line import Run
from hypothesis import given, settings
from hypothesis import strategies as st

import separable as sp
from separable import families
from separable import ndimage as ndi
from separable.families._gaussians import sampled_taps

scipy_ndimage = pytest.importorskip("scipy.ndimage")

SIGMAS = st.one_of(st.sampled_from([1e-9, 1e-3, 0.05, 0.056, 0.3, 0.5]), st.floats(1e-3, 12))


def moment(taps: Any, power: int) -> Fraction:
    """What a correlation with taps gives on x**power / power!, exactly."""
    radius = len(taps) // 2
    sums = sum(Fraction(float(tap)) * (x - radius) ** power for x, tap in enumerate(taps))
    return sums / math.factorial(power)


def slack(taps: Any, power: int) -> float:
    """The rounding of the taps themselves: each is some units of its last place off."""
    places = np.abs(np.arange(len(taps)) - len(taps) // 2.0)
    return float(8 * np.finfo(float).eps * (np.abs(taps) * places**power).sum() / math.factorial(power))


def assert_derives(taps: Any, order: int) -> None:
    for power in range(order + 1):
        assert abs(float(moment(taps, power) - (power == order))) <= slack(taps, power), power
    np.testing.assert_array_equal(taps, (-1) ** order * taps[::-1])


@settings(deadline=None, max_examples=150)
@given(SIGMAS, st.integers(1, 8), st.floats(0.5, 8))
def test_moments_are_right_for_every_sigma(sigma: float, order: int, truncate: float) -> None:
    (taps,) = families.gaussian(sigma, order=order, truncate=truncate, ndim=1).terms[0]
    assert len(taps) // 2 == max(order, int(truncate * sigma + 0.5))
    assert_derives(taps, order)


@settings(deadline=None, max_examples=50)
@given(SIGMAS, st.integers(1, 8), st.integers(0, 40))
def test_moments_are_right_for_every_radius(sigma: float, order: int, more: int) -> None:
    (taps,) = families.gaussian(sigma, order=order, radius=order + more, ndim=1).terms[0]
    assert len(taps) == 2 * (order + more) + 1
    assert_derives(taps, order)


@pytest.mark.parametrize("order", [12, 15, 20])
@pytest.mark.parametrize("sigma", [1e-9, 0.07, 0.4, 3.0])
def test_high_orders(sigma: float, order: int) -> None:
    (taps,) = families.gaussian(sigma, order=order, ndim=1).terms[0]
    assert_derives(taps, order)


def central_difference(order: int) -> Any:
    """[1, -2, 1] as often as it goes in, and [-1, 0, 1] / 2 once for what is left."""
    taps = np.ones(1)
    for _ in range(order // 2):
        taps = np.convolve(taps, [1, -2, 1])
    return np.convolve(taps, [-0.5, 0, 0.5]) if order % 2 else taps


@pytest.mark.parametrize("order", range(1, 9))
def test_narrow_ones_are_central_differences(order: int) -> None:
    expected = central_difference(order)
    wide = np.pad(expected, order - len(expected) // 2)
    errors = []
    for sigma in (0.3, 0.2, 0.15, 0.1, 0.05, 1e-6, 1e-15, 1e-200):
        (taps,) = families.gaussian(sigma, order=order, ndim=1).terms[0]
        errors.append(np.abs(taps - wide).max() / np.abs(wide).max())
    assert all(later <= sooner + 1e-15 for sooner, later in itertools.pairwise(errors))
    assert errors[-4] < 1e-15


# Relative to the largest tap; samples that end at 4 sigma miss moments by more, the higher the order.
@pytest.mark.parametrize(("order", "allowed"), [(1, 4e-4), (2, 1.7e-3), (3, 0.02), (4, 0.026)])
@pytest.mark.parametrize("sigma", [0.75, 0.8, 0.9, 1.0, 1.4, 2.0, 3.3, 5.0, 9.0, 40.0])
def test_they_come_close_to_samples(sigma: float, order: int, allowed: float) -> None:
    (taps,) = families.gaussian(sigma, order=order, ndim=1).terms[0]
    samples = sampled_taps(sigma, order, len(taps) // 2)
    assert np.abs(taps - samples).max() <= allowed * np.abs(samples).max()


@pytest.mark.parametrize("order", range(1, 9))
def test_samples_that_are_right_stay_as_they_are(order: int) -> None:
    (taps,) = families.gaussian(3.0, order=order, truncate=11, ndim=1).terms[0]
    samples = sampled_taps(3.0, order, len(taps) // 2)
    np.testing.assert_allclose(taps, samples, rtol=0, atol=1e-12 * np.abs(samples).max())


# -- families that are made of them -----------------------------------------------------------------------

JETS = [(1e-17, 1e-3), (0.05, 0.2), (0.3, 2.0), (1.3, 0.6)]


def derivative_at_the_centre(weights: Any, powers: tuple[int, ...]) -> float:
    places = np.meshgrid(*(np.arange(n) - n // 2.0 for n in weights.shape), indexing="ij")
    monomial = math.prod(at**n for at, n in zip(places, powers, strict=True))
    return float((weights * monomial).sum()) / math.prod(map(math.factorial, powers))


def all_powers(order: int, ndim: int) -> list[tuple[int, ...]]:
    return [each for each in itertools.product(range(order + 1), repeat=ndim) if sum(each) <= order]


@pytest.mark.parametrize("sigma", [1e-18, 0.01, 0.3, 0.6, 1.0, (0.2, 1.5, 0.7)])
def test_laplacian_of_gaussian(sigma: Any) -> None:
    weights = families.laplacian_of_gaussian(sigma, ndim=3).dense()
    for powers in all_powers(2, 3):
        expected = 1.0 if max(powers) == 2 else 0.0
        assert derivative_at_the_centre(weights, powers) == pytest.approx(expected, abs=1e-13)


@pytest.mark.parametrize("sigma", JETS)
def test_the_local_jet_shares_shapes_and_taps(sigma: Any) -> None:
    jet = families.gaussian_derivatives(sigma, 4)
    assert len({kernel.shape for kernel in jet.values()}) == 1
    for axis in range(2):
        assert len({kernel.terms[0][axis].tobytes() for kernel in jet.values()}) == 5
    for orders, kernel in jet.items():
        for powers in all_powers(sum(orders), 2):
            if orders != (0, 0):
                got = derivative_at_the_centre(kernel.dense(), powers)
                assert got == pytest.approx(float(powers == orders), abs=1e-11)


def directional(powers: tuple[int, ...], frame: Any, orders: tuple[int, ...]) -> float:
    """The derivative of a monomial over its factorials, along the columns of `frame`."""
    polynomial = {powers: 1.0}
    for b, order in enumerate(orders):
        for _ in range(order):
            further: dict[tuple[int, ...], float] = {}
            for each, factor in polynomial.items():
                for a, n in enumerate(each):
                    if n:
                        less = (*each[:a], n - 1, *each[a + 1 :])
                        further[less] = further.get(less, 0.0) + factor * n * frame[a, b]
            polynomial = further
    at_the_centre = polynomial.get((0,) * len(powers), 0.0)
    return at_the_centre / math.prod(map(math.factorial, powers))


@pytest.mark.parametrize("sigma", [(0.05, 0.05), (0.4, 3.0), (2.0, 2.0), (5.0, 0.5), (1.0, 2.5)])
@pytest.mark.parametrize("angle", [0.0, 0.5, math.pi / 4, 2.0])
@pytest.mark.parametrize("orders", [(0, 1), (1, 1), (2, 0), (0, 3), (2, 2)])
def test_turned_gaussians(sigma: Any, angle: float, orders: tuple[int, int]) -> None:
    weights = families.rotated_gaussian(sigma, angle, order=orders)
    frame = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    for powers in all_powers(sum(orders), 2):
        expected = directional(powers, frame, orders) if sum(powers) == sum(orders) else 0.0
        assert derivative_at_the_centre(weights, powers) == pytest.approx(expected, abs=1e-10)
    np.testing.assert_array_equal(weights, (-1) ** sum(orders) * weights[::-1, ::-1])


def test_turned_gaussians_come_close_to_samples() -> None:
    for orders in ((0, 1), (1, 0), (2, 0), (1, 1)):
        got = families.rotated_gaussian((3.0, 1.5), 0.4, order=orders)
        y, x = np.indices(got.shape) - np.array(got.shape).reshape(2, 1, 1) // 2.0
        long = (y * math.cos(0.4) - x * math.sin(0.4)) / 3.0
        wide = (y * math.sin(0.4) + x * math.cos(0.4)) / 1.5
        bell = np.exp(-(long**2 + wide**2) / 2)
        hermite = {0: lambda t: 1.0, 1: lambda t: t, 2: lambda t: t * t - 1}
        samples = bell / bell.sum() * hermite[orders[0]](long) / 3.0 ** orders[0]
        samples = samples * hermite[orders[1]](wide) / 1.5 ** orders[1]
        assert np.abs(got - samples).max() < 2e-3 * np.abs(samples).max()


@pytest.mark.parametrize("sigma", [0.05, 0.3, 0.7, 2.0])
@pytest.mark.parametrize("angle", [0.0, 0.6, 2.2])
def test_steered_is_turned_at_any_width(sigma: float, angle: float) -> None:
    for order in (1, 2, 3):
        steered = families.steerable(sigma, order).at(angle).dense()
        turned = families.rotated_gaussian((sigma, sigma), angle, order=(0, order))
        reach = [(n - m) // 2 for n, m in zip(steered.shape, turned.shape, strict=True)]
        # Upright ones are as small as they may be: what lies farther out is next to nothing.
        np.testing.assert_allclose(steered, np.pad(turned, [(n, n) for n in reach]), rtol=0, atol=2e-9)


# -- filters ----------------------------------------------------------------------------------------------


def test_a_parabola_in_millimetres() -> None:
    z = 3.0 * np.arange(-20.0, 21)
    for sigma in (0.01, 0.5, 1.0, 2.0, 9.0):
        inside = slice(20 - 4, 20 + 5)
        curved = sp.gaussian(z**2 / 2, sigma, spacing=3.0, order=2)
        np.testing.assert_allclose(curved[inside], 1.0, rtol=1e-9)
        sloped = sp.gaussian(2.5 * z + 7, sigma, spacing=3.0, order=1)
        np.testing.assert_allclose(sloped[inside], 2.5, rtol=1e-12)
        assert np.abs(sp.gaussian(np.full(41, 1000.0), sigma, spacing=3.0, order=2)).max() < 1e-9


def test_scipys_samples_stay_in_the_drop_in() -> None:
    x = np.random.default_rng(3).standard_normal((9, 40))
    for sigma in (0.3, 0.5, 0.7, 1.2):
        for order in (1, 2, 3):
            expected = scipy_ndimage.gaussian_filter1d(x, sigma, order=order)
            np.testing.assert_allclose(ndi.gaussian_filter1d(x, sigma, order=order), expected, atol=1e-11)
        expected = scipy_ndimage.gaussian_laplace(x, sigma)
        np.testing.assert_allclose(ndi.gaussian_laplace(x, sigma), expected, atol=1e-11)
    impulse = np.zeros(61)
    impulse[30] = 1
    for sigma, order in itertools.product((0.3, 0.8, 2.5), (0, 1, 2, 5)):
        expected = scipy_ndimage.gaussian_filter1d(impulse, sigma, order=order, mode="constant")
        taps = sampled_taps(sigma, order, 30)[::-1]
        reach = int(4 * sigma + 0.5)
        inside = slice(30 - reach, 31 + reach)
        scale = sampled_taps(sigma, 0, 30).sum() / sampled_taps(sigma, 0, 30)[inside].sum()
        np.testing.assert_allclose(
            scale * taps[inside], expected[inside], atol=1e-13 * np.abs(expected).max()
        )


@pytest.mark.parametrize("log", ["1", "0.2", "2"])
def test_the_command_line_on_thick_slices(log: str, command: Run) -> None:
    pytest.importorskip("typer")
    nibabel = pytest.importorskip("nibabel")
    z = 3.0 * np.arange(14.0)
    volume = np.broadcast_to(1000.0 + z**2 / 2, (12, 12, 14))
    nibabel.save(nibabel.Nifti1Image(volume, np.diag([0.8, 0.8, 3.0, 1.0])), "parabola.nii")
    done = command(["filter", "parabola.nii", "log.nii", "--log", log, "--unit", "mm"])
    assert done.code == 0, done.err
    # Away from the ends, where the parabola is continued as its mirror image.
    np.testing.assert_allclose(nibabel.load("log.nii").get_fdata()[..., 4:-4], 1.0, rtol=1e-9)
    nibabel.save(
        nibabel.Nifti1Image(np.full((12, 12, 14), 1000.0), np.diag([0.8, 0.8, 3.0, 1.0])), "flat.nii"
    )
    done = command(["filter", "flat.nii", "log.nii", "--log", log, "--unit", "mm"])
    assert done.code == 0, done.err
    assert np.abs(nibabel.load("log.nii").get_fdata()).max() < 1e-9
