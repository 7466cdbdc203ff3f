"""Kernels that turn: rotated Gaussians and steerable derivatives, against their formulas and each other."""

from __future__ import annotations

import math

import numpy as np
import pytest
from reference import correlate_dense

import separable as sp
from separable import families

ANGLES = [0.0, 0.3, math.pi / 6, math.pi / 4, math.pi / 2, 2.0, math.pi, -1.1]


def turn(axis: np.ndarray, angle: float) -> np.ndarray:
    """Rotation about an axis, by Rodrigues' formula."""
    x, y, z = axis / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross


# -- rotated Gaussians ----------------------------------------------------------------------------------


@pytest.mark.parametrize("angle", ANGLES)
def test_rotated_gaussian_is_its_formula(angle):
    weights = families.rotated_gaussian((5.0, 2.0), angle, radius=(15, 12))
    y, x = np.ogrid[-15:16, -12:13]
    long = y * math.cos(angle) - x * math.sin(angle)  # the Gaussian's axis 0
    wide = y * math.sin(angle) + x * math.cos(angle)
    expected = np.exp(-(long**2) / 50 - wide**2 / 8)
    np.testing.assert_allclose(weights, expected / expected.sum(), rtol=1e-12)
    np.testing.assert_array_equal(weights, weights[::-1, ::-1])


def test_rotated_gaussian_has_its_covariance():
    turned = turn(np.array([1.0, 2.0, 0.5]), 0.8)
    sigma = np.array([2.0, 1.2, 3.0])
    weights = families.rotated_gaussian(sigma, turned, truncate=6)
    places = np.stack([g - n // 2 for g, n in zip(np.indices(weights.shape), weights.shape, strict=True)])
    covariance = np.einsum("aijk,bijk,ijk->ab", places, places, weights)
    np.testing.assert_allclose(covariance, turned @ np.diag(sigma**2) @ turned.T, atol=1e-4)


@pytest.mark.parametrize("order", [0, (0, 1), (2, 0), (1, 1)])
def test_rotated_gaussian_that_stands_upright_is_the_gaussian(order):
    upright = families.gaussian((1.5, 2.0), order=order)
    turned = families.rotated_gaussian((1.5, 2.0), 0.0, order=order)
    np.testing.assert_allclose(turned, upright.dense(), rtol=0, atol=1e-15)
    # A quarter turn brings axis 1 to where axis 0 was, and axis 0 to axis 1 backwards.
    quarter = families.rotated_gaussian((1.5, 2.0), math.pi / 2, order=order)
    np.testing.assert_allclose(quarter, upright.dense().T[:, ::-1], rtol=0, atol=1e-15)
    matrix = families.rotated_gaussian((1.5, 2.0), np.eye(2), order=order)
    np.testing.assert_array_equal(matrix, turned)


@pytest.mark.parametrize(
    ("sigma", "angle"), [((5.0, 2.0), math.pi / 6), ((4.0, 1.5), 0.9), ((3.0, 2.0), 0.4)]
)
def test_singular_values_of_a_rotated_gaussian_fall_as_mehler_says(sigma, angle):
    weights = families.rotated_gaussian(sigma, angle, truncate=7)
    turned = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    (a, b), (_, c) = turned @ np.diag(np.array(sigma) ** -2.0) @ turned.T
    q = abs(b) / math.sqrt(a * c)
    ratio = q / (1 + math.sqrt(1 - q * q))
    values = np.linalg.svd(weights, compute_uv=False)[:8]
    np.testing.assert_allclose(values[1:] / values[:-1], ratio, rtol=1e-3)


# -- steerable derivatives --------------------------------------------------------------------------------


@pytest.mark.parametrize("order", range(5))
@pytest.mark.parametrize("angle", ANGLES)
def test_steered_is_rotated(order, angle):
    steered = families.steerable(2.0, order).at(angle)
    rotated = families.rotated_gaussian((2.0, 2.0), angle, order=(0, order))
    np.testing.assert_allclose(steered.dense(), rotated, rtol=0, atol=1e-16 * 3**order)
    on_an_axis = abs(math.sin(2 * angle)) < 1e-9
    assert steered.rank == (1 if on_an_axis else order + 1)


def test_steered_in_three_dimensions():
    family = families.steerable(1.2, 2, ndim=3)
    assert len(family.basis) == 6
    direction = np.array([0.3, -1.0, 0.7])
    along = direction / np.linalg.norm(direction)
    other = np.cross(along, [1.0, 0, 0])
    other /= np.linalg.norm(other)
    frame = np.stack([along, other, np.cross(along, other)], axis=1)
    expected = families.rotated_gaussian((1.2,) * 3, frame, order=(2, 0, 0), radius=5)
    np.testing.assert_allclose(family.at(direction).dense(), expected, rtol=0, atol=1e-16)
    np.testing.assert_allclose(family.at(-3 * direction).dense(), expected, rtol=0, atol=1e-16)
    assert family.weights(np.stack([direction] * 4)).shape == (6, 4)


def test_weights_mix_the_basis_in_each_pixel():
    image = np.random.default_rng(0).standard_normal((20, 22))
    family = families.steerable(1.5, 2)
    angles = np.random.default_rng(1).uniform(-4, 4, image.shape)
    filtered = np.stack([sp.correlate(image, kernel) for kernel in family.basis])
    mixed = (family.weights(angles) * filtered).sum(axis=0)
    for place in ((3, 4), (10, 0), (19, 21)):
        whole = correlate_dense(image, family.at(angles[place]).dense())
        assert mixed[place] == pytest.approx(whole[place], abs=1e-12)


@pytest.mark.parametrize(("ndim", "directions"), [(2, ANGLES), (3, [(1, 2, 3), (3, 1, 1), (-1, 1, 2)])])
def test_directions_share_all_passes_but_the_first_axis(ndim, directions):
    family = families.steerable(1.0, 3, ndim=ndim)
    terms = [term for direction in directions for term in family.at(direction).terms]
    for axis in range(1, ndim):
        assert len({term[axis].tobytes() for term in terms}) == 4


def test_an_edge_is_strongest_across_itself():
    y, x = np.mgrid[-20:21, -20:21]
    angle = 0.6
    edge = np.tanh((x * math.cos(angle) + y * math.sin(angle)) / 2)
    family = families.steerable(2.0, 1)
    centre = np.array([(edge[12:29, 12:29] * kernel.dense()).sum() for kernel in family.basis])
    tried = np.linspace(-math.pi, math.pi, 721)
    assert tried[np.argmax(family.weights(tried).T @ centre)] == pytest.approx(angle, abs=0.01)


def test_gaussian_derivatives_share_their_taps():
    jet = families.gaussian_derivatives((1.0, 2.0, 1.5), 2)
    assert len(jet) == 10
    assert [sum(orders) for orders in jet] == [0] + 3 * [1] + 6 * [2]
    for orders, kernel in jet.items():
        assert kernel == families.gaussian((1.0, 2.0, 1.5), order=orders)
    for axis in range(3):
        assert len({kernel.terms[0][axis].tobytes() for kernel in jet.values()}) == 3


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: families.rotated_gaussian((1, 2, 3), 0.3), ValueError, "an angle with 3 axes"),
        (
            lambda: families.rotated_gaussian((1, 2), np.eye(3)),
            ValueError,
            r"shape \(3, 3\); expected \(2, 2\)",
        ),
        (lambda: families.rotated_gaussian((1, 2), 2 * np.eye(2)), ValueError, "is not orthogonal"),
        (lambda: families.rotated_gaussian((1, 2), math.nan), TypeError, "`rotation` is nan"),
        (lambda: families.rotated_gaussian((1, 0), 0.1), ValueError, r"`sigma\[1\]` is 0"),
        (lambda: families.rotated_gaussian((1000, 1000), 0.1), ValueError, "at most 16777216 elements"),
        (lambda: families.steerable(0.0), ValueError, "`sigma` is 0; expected a number > 0"),
        (lambda: families.steerable(1.0, -1), ValueError, "`order` is -1"),
        (lambda: families.steerable(1.0).at([0.0, 1.0]), ValueError, "expected one direction"),
        (lambda: families.steerable(1.0, ndim=3).at(0.3), ValueError, "vectors of 3 components"),
        (lambda: families.steerable(1.0, ndim=3).at((0, 0, 0)), ValueError, "zero vector"),
        (lambda: families.steerable(1.0).at("up"), TypeError, "`direction` is 'up'"),
    ],
)
def test_bad_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
