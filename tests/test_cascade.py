"""Two kernels in sequence: what is found, that the bound holds, and that borders are those of one filter."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import MODES, correlate_dense

import separable as sp
from separable.methods.algorithms.cascade_search import find_cascade


def ridge(n: int, along: float, across: float, angle: float) -> np.ndarray:
    """Return a rotated Gaussian of n x n samples."""
    y, x = np.mgrid[-(n // 2) : n // 2 + 1, -(n // 2) : n // 2 + 1]
    u = x * math.cos(angle) + y * math.sin(angle)
    v = y * math.cos(angle) - x * math.sin(angle)
    weights = np.exp(-0.5 * ((u / along) ** 2 + (v / across) ** 2))
    return weights / weights.sum()


def written_out(cascade) -> np.ndarray:
    """Return the kernel of a cascade by its definition: the full convolution."""
    smooth, sparse = cascade.smooth.dense(), cascade.sparse
    total = np.zeros([a + b - 1 for a, b in zip(smooth.shape, sparse.shape, strict=True)])
    for place in np.argwhere(sparse):
        part = tuple(slice(at, at + n) for at, n in zip(place, smooth.shape, strict=True))
        total[part] += sparse[tuple(place)] * smooth
    return total


@pytest.mark.parametrize("angle", [0.3, 1.2])
@pytest.mark.parametrize(("tol", "fewer"), [(3e-2, 5), (1e-2, 4), (1e-3, 2)])
def test_ridges_take_a_fraction_of_what_terms_take(angle, tol, fewer):
    weights = ridge(31, 4, 2, angle)
    found = find_cascade(weights, tol)
    assert found is not None
    assert found.macs * fewer <= sp.factor(weights, tol).macs
    distance = np.abs(written_out(found) - weights).sum()
    assert distance <= found.error.l1 * (1 + 1e-12)
    assert found.error.relative_l1 <= tol


@settings(max_examples=8)
@given(
    st.floats(1.5, 4),
    st.floats(1.1, 2.5),
    st.floats(0, math.pi),
    st.floats(-100, 100),
    st.sampled_from([1e-2, 5e-2]),
)
def test_the_bound_is_never_below_the_distance(along, across, angle, decade, tol):
    weights = ridge(15, along, across, angle) * 10.0**decade
    weights[2:4, 5:9] *= 0.5  # without symmetry
    found = find_cascade(weights, tol)
    if found is None:
        return
    assert np.abs(written_out(found) - weights).sum() <= found.error.l1 * (1 + 1e-12)
    assert found.error.relative_l1 <= tol


@pytest.mark.parametrize("weights", [np.ones((9, 1)), np.zeros((9, 9)), np.eye(15), np.ones(9)])
def test_what_is_not_smooth_along_two_axes_has_none(weights):
    assert find_cascade(weights, 1e-2) is None


def test_symmetries_are_kept():
    odd = ridge(25, 4, 2, 0.6) * np.linspace(-1, 1, 25)[:, np.newaxis]
    odd -= np.flip(odd)
    for weights, sign in ((ridge(25, 4, 2, 0.6), 1), (odd, -1)):
        exact = (weights + sign * np.flip(weights)) / 2
        found = find_cascade(exact, 5e-2)
        assert found is not None
        np.testing.assert_array_equal(found.sparse, sign * np.flip(found.sparse))


def test_a_blob_along_three_axes():
    z, y, x = np.mgrid[-6:7, -6:7, -6:7]
    weights = np.exp(-0.5 * ((x - 0.8 * y) ** 2 / 4 + y**2 / 6 + (z - 0.5 * x) ** 2 / 3))
    found = find_cascade(weights, 5e-2)
    assert found is not None
    assert found.macs < sp.factor(weights, 5e-2).macs
    assert np.abs(written_out(found) - weights).sum() <= found.error.l1


# ---------------------------------------------------------------- run


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("origin", [0, (2, -10), (-10, 10)])
@pytest.mark.parametrize("verb", [sp.correlate, sp.convolve])
def test_borders_are_those_of_one_filter(verb, mode, origin):
    weights = ridge(21, 3, 1.6, 0.5)
    weights[:3] *= 0.7
    x = np.random.default_rng(3).uniform(-1, 1, (40, 33))
    kernel = written_out(find_cascade(weights, 1e-2))
    found = verb(x, weights, mode=mode, cval=2.0, origin=origin, tol=1e-2, method="cascade")
    wanted = verb(x, kernel, mode=mode, cval=2.0, origin=origin, method="direct")
    assert np.abs(found - wanted).max() < 1e-13
    if verb is sp.correlate and origin == 0:
        assert np.abs(found - correlate_dense(x, kernel, mode=mode, cval=2.0)).max() < 1e-12


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32", "float64", "complex64"])
def test_dtypes(dtype):
    weights = ridge(21, 3, 1.6, 0.5)
    x = (np.random.default_rng(4).uniform(0, 200, (3, 50, 41))).astype(dtype)
    for mode in ("reflect", "nearest"):
        found = sp.correlate(x, weights, axes=(1, 2), mode=mode, tol=1e-2, method="cascade")
        wanted = sp.correlate(x, weights, axes=(1, 2), mode=mode, method="direct")
        assert found.dtype == wanted.dtype
        whole = np.dtype(dtype).kind in "iu"
        assert np.abs(found.astype(complex) - wanted).max() <= 1e-2 * np.abs(x).max() + whole


def test_a_mask_is_taken_care_of_without_it():
    weights, x = ridge(21, 3, 1.6, 0.5), np.random.default_rng(5).uniform(0, 1, (60, 60))
    x[20, 20] = np.nan
    plan = sp.plan(weights, x.shape, "float64", tol=1e-2)
    assert np.isfinite(plan(x, nan="omit")).all()


def test_plans_search_where_that_pays_and_verbs_do_not():
    weights = ridge(31, 5, 2, 0.5)
    large = sp.plan(weights, (1500, 1500), tol=1e-2)
    assert large.method == "cascade"
    assert large.error.relative_l1 <= 1e-2
    assert sp.plan(weights, (1500, 1500)).method != "cascade"
    assert sp.plan(weights, (100, 100), tol=1e-2).method != "cascade"
    assert "search" in str(sp.plan(weights, (100, 100), tol=1e-2).explain())
    with pytest.raises(ValueError, match="smooth"):
        sp.plan(np.eye(15), (100, 100), tol=1e-2, method="cascade")


@pytest.mark.parametrize("mode", MODES)
def test_the_adjoint(mode):
    weights = ridge(21, 3, 1.6, 0.5)
    weights[:3] *= 0.7
    plan = sp.plan(weights, (37, 44), "float64", mode=mode, tol=1e-2, method="cascade", origin=(3, -2))
    rng = np.random.default_rng(6)
    x, y = rng.standard_normal((2, 37, 44))
    assert abs((plan(x) * y).sum() - (x * plan.adjoint()(y)).sum()) < 1e-11
