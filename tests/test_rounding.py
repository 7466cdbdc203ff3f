"""The errors of float32 plans: never below the distance of the rounded kernel that runs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import separable as sp
from separable.kernel.value import SeparableKernel


def rounded(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float32).astype(np.longdouble)


@given(
    st.lists(st.integers(2, 9), min_size=1, max_size=3),
    st.integers(1, 3),
    st.integers(0, 99),
    st.integers(-8, 5),  # beyond, sums run in float64
)
def test_sums_of_terms(shape, rank, seed, decade):
    rng = np.random.default_rng(seed)
    kernel = SeparableKernel([[rng.standard_normal(n) * 10.0**decade for n in shape] for _ in range(rank)])
    plan = sp.plan(kernel, (12,) * len(shape), method="separable")
    # Taps are scaled by powers of two before they are rounded, which changes no digit of theirs.
    found = SeparableKernel(
        [[rounded(taps * 2.0 ** (-3 * decade)) for taps in term] for term in kernel.terms]
    )
    exact = SeparableKernel([[taps * 2.0 ** (-3 * decade) for taps in term] for term in kernel.terms])
    distance = np.abs(found.dense().astype(np.longdouble) - exact.dense()).sum()
    relative = distance / np.abs(exact.dense()).sum()
    assert relative <= plan.error.relative_l1 * (1 + 1e-6) + 1e-14
    assert plan.error.relative_l1 < 1e-4


@given(st.integers(0, 99), st.integers(-20, 17))
def test_dense_weights(seed, decade):
    weights = np.random.default_rng(seed).standard_normal((5, 7)) * 10.0**decade
    plan = sp.plan(weights, (40, 40), method="direct")
    lost = np.abs(weights - rounded(weights))
    assert lost.sum() <= plan.error.l1
    assert np.sqrt(np.square(lost).sum() / np.square(weights).sum()) <= plan.error.relative_l2 < 1e-7


@pytest.mark.parametrize("method", ["separable", "direct"])
def test_what_float32_holds_loses_nothing(method):
    assert sp.plan(sp.families.sobel(), (40, 40), method=method).error.l1 == 0
    gaussian = sp.families.gaussian(2.0)
    # Of a mean the middle taps give way by units in the last place, so that 1 stays 1.
    assert sp.plan(gaussian, (40, 40), "float64", method=method).error.l1 <= 2e-15
    assert 0 < sp.plan(gaussian, (40, 40), method=method).error.relative_l1 < 2e-7


def test_a_large_kernel_is_not_written_out():
    kernel = sp.families.gaussian((60.0, 60.0, 60.0))  # 481**3 weights
    assert 0 < sp.plan(kernel, (64, 64, 64)).error.relative_l1 < 6e-7


def test_cascades():
    weights = sp.families.rotated_gaussian((3, 1.6), 0.5, radius=10)
    wide = sp.plan(weights, (60, 60), "float64", tol=1e-2, method="cascade").error
    narrow = sp.plan(weights, (60, 60), tol=1e-2, method="cascade").error
    assert wide.relative_l1 < narrow.relative_l1 < wide.relative_l1 + 1e-6
