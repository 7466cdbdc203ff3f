"""What a search for terms may take: counted, so that it ends, and ends alike on every machine."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import separable as sp
from separable.factor.effort import DEFAULT_EFFORT, Effort
from separable.factor.verbs import factored
from separable.kernel import bounds as certificate

SHAPES = [(300, 300), (40, 900), (24, 24, 24), (9, 30, 30), (7, 7, 7, 7), (4, 4, 4, 4, 4)]


def kernel(shape, kind):
    rng = np.random.default_rng(0)
    if kind == "integers":
        return rng.integers(-9, 10, shape).astype(float)
    noise = rng.standard_normal(shape)
    if kind == "noise":
        return noise
    smooth = np.exp(
        -sum(np.square(each - (n - 1) / 2) for each, n in zip(np.indices(shape), shape, strict=True))
    )
    return smooth + 1e-3 * noise


def true_error(weights, found):
    total = np.zeros(weights.shape, np.longdouble)
    for term in found.terms:
        total += certificate.outer([taps.astype(np.longdouble) for taps in term])
    return float(np.abs(weights - total).sum() / np.abs(weights).sum())


@pytest.mark.parametrize("kind", ["noise", "integers", "smooth"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("effort", [1e6, 1e8])
def test_a_search_ends_with_its_effort(shape, kind, effort):
    weights = kernel(shape, kind)
    work = Effort(effort)
    found = factored(weights, 1e-6, None, work)
    # In any case there are one term, its certificate, and a sketch of what is too large to expand.
    assert work.spent <= 2 * effort + 200 * weights.size + 5e6
    assert true_error(weights, found) <= found.error.relative_l1
    assert found.error.relative_l1 <= 1e-6 or work.ended


@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_found_depends_on_the_effort_alone(shape):
    weights = kernel(shape, "smooth")
    first, second = (factored(weights, 1e-6, None, Effort(3e7)) for _ in range(2))
    assert first == second


def test_more_effort_comes_closer():
    weights = kernel((24, 24, 24), "noise")
    errors = [factored(weights, 1e-6, None, Effort(each)).error.relative_l1 for each in (1e7, 1e8, 1e10)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] <= 1e-6 < errors[0]


def test_it_says_so_when_the_effort_ended_first():
    weights = kernel((24, 24, 24), "noise")
    with pytest.warns(
        sp.EffortWarning, match=r"effort=1e\+07 multiplications with a relative l1 error of 0\.\d+, more"
    ):
        found = sp.factor(weights, effort=1e7)
    assert found.error.relative_l1 > 1e-6
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert sp.factor(weights, rank=1, effort=1e7).rank == 1  # what was asked for is found
        assert sp.factor(weights, tol=0.999, effort=1e7).error.relative_l1 <= 0.999


@pytest.mark.parametrize("tol", [1e-6, None, 0])
def test_rounding_is_not_lack_of_effort(tol):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = sp.factor(kernel((12, 12), "noise"), tol=tol)
    assert found.error.relative_l1 < 1e-13


def test_large_kernels_of_few_terms_are_sketched():
    rng = np.random.default_rng(1)
    scales = 0.3 ** np.arange(12)
    left, right = rng.standard_normal((2, 1200, 12))
    weights = (left * scales) @ right.T
    found = sp.factor(weights, tol=1e-6, effort=2e9)  # a singular value decomposition takes 7e9
    assert found.error.relative_l1 <= 1e-6
    assert found.rank <= 12


@pytest.mark.parametrize("effort", ["much", None, 1j])
def test_an_effort_is_a_number(effort):
    with pytest.raises(TypeError, match=r"`effort` is .*; expected a number of multiplications"):
        sp.factor([[1, 2], [3, 4]], effort=effort)


@pytest.mark.parametrize("effort", [0, -1.0, math.nan])
def test_an_effort_is_positive(effort):
    with pytest.raises(ValueError, match=r"`effort` is .*; expected .* > 0"):
        sp.factor([[1, 2], [3, 4]], effort=effort)


def test_how_far_it_is_is_told():
    told = []
    factored(kernel((9, 30, 30), "noise"), 1e-6, None, Effort(DEFAULT_EFFORT, told.append))
    assert told == sorted(told)
    assert 0 < told[-1] <= 1


# -- certificates --------------------------------------------------------------------------------------


@given(st.integers(0, 2**32), st.sampled_from([(60, 70), (12, 20, 18)]), st.integers(-300, 300), st.data())
@settings(max_examples=30, deadline=None)
def test_bounds_in_double_precision_hold_and_are_close(seed, shape, power, data):
    rng = np.random.default_rng(seed)
    terms = [tuple(rng.standard_normal(n) for n in shape) for _ in range(data.draw(st.integers(40, 60)))]
    noise = 10.0 ** data.draw(st.integers(-12, 0))
    total = sum(certificate.outer(term) for term in terms)
    weights = np.ldexp(total + noise * rng.standard_normal(shape), power)
    scaled = [(np.ldexp(first, power), *rest) for first, *rest in terms]
    assert len(terms) * weights.size > certificate._FEW_PRODUCTS
    error = certificate.certified_error(weights, scaled)
    residual = weights - sum(
        certificate.outer([taps.astype(np.longdouble) for taps in each]) for each in scaled
    )
    truth = float(np.abs(residual).sum() / np.abs(weights.astype(np.longdouble)).sum())
    assert truth <= error.relative_l1 <= truth * 1.01 + 1e-15 * len(terms)


# -- plans ---------------------------------------------------------------------------------------------


def test_plans_do_without_terms_that_were_not_found(monkeypatch):
    monkeypatch.setattr("separable.methods.method.DEFAULT_EFFORT", 1e6)
    sp.clear_caches()
    weights = kernel((24, 24, 24), "noise")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plan = sp.plan(weights, (40, 40, 40), "float64")
    assert plan.method in ("direct", "fft")
    assert "the search for them ended too early" in str(plan.explain())
    x = np.random.default_rng(1).random((40, 40, 40))
    exact = sp.correlate(x, weights, method="direct")
    np.testing.assert_allclose(plan(x), exact, atol=1e-9 * np.abs(weights).sum())
    with pytest.raises(ValueError, match=r"`method='separable'` needs terms"):
        sp.plan(weights, (40, 40, 40), method="separable")
    sp.clear_caches()
