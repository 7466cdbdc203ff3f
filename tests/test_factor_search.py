"""Ways to write kernels of several axes, and the least absolute error: cheaper than an SVD, and certified."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.factoring_kernels import flat_kernels, plain_macs, widefield
from separable.factor import factor
from separable.factor.algorithms.elimination import pruned
from separable.factor.algorithms.least_squares import fitted, least_l1
from separable.factor.algorithms.pencil import from_pencil
from separable.factor.algorithms.polyadic import fewest_terms
from separable.factor.algorithms.staged import as_form, cheapest_first, expand, orders, paired
from separable.factor.forms import Form, relative_l1
from separable.factor.parity import line_parities
from separable.kernel.value import SeparableKernel

PSF = widefield((13, 11, 11))


def random_form(rng, shape, lines, count):
    """Return a form with `lines` lines along the first and the last axis, in random pairs."""
    pairs = rng.choice(lines[0] * lines[1], count, replace=False)
    index = [pairs // lines[1], np.arange(count), pairs % lines[1]]
    sizes = (lines[0], count, lines[1])
    return Form.of([rng.standard_normal(each) for each in zip(sizes, shape, strict=True)], index)


# -- forms -------------------------------------------------------------------------------------------


@given(st.integers(0, 2**32), st.integers(1, 3), st.integers(1, 4), st.data())
@settings(max_examples=40)
def test_macs_are_those_of_the_kernel(seed, first, last, data):
    rng = np.random.default_rng(seed)
    form = random_form(rng, (5, 4, 6), (first, last), data.draw(st.integers(1, first * last)))
    kernel = SeparableKernel(form.terms(0))
    assert kernel.macs == form.macs == Form.of_terms(kernel.terms).macs
    np.testing.assert_allclose(kernel.dense(), form.dense(), atol=1e-12)
    np.testing.assert_allclose(np.ldexp(SeparableKernel(form.terms(7)).dense(), -7), form.dense(), atol=1e-12)
    first_taps = {term[0].tobytes() for term in kernel.terms}
    assert len(first_taps) == len(form.lines[0])


@pytest.mark.parametrize("shape", [(6, 5), (3, 4, 2, 3)])
def test_macs_of_forms_that_share_nothing(shape):
    rng = np.random.default_rng(0)
    place = np.arange(3)
    form = Form.of([rng.standard_normal((3, n)) for n in shape], [place] * len(shape))
    assert form.macs == 3 * sum(shape) == SeparableKernel(form.terms(0)).macs


def test_decompositions_are_the_tensor():
    for order in orders(3):
        np.testing.assert_allclose(as_form(expand(PSF, order)).dense(), PSF, atol=1e-13)
    np.testing.assert_allclose(paired(PSF).dense(), PSF, atol=1e-13)


def test_the_cheapest_terms_come_first():
    form = paired(PSF)
    ranking = cheapest_first(form)
    assert sorted(ranking) == list(range(form.count))
    macs = [form.select(ranking[: n + 1]).macs for n in range(form.count)]
    energy = np.square(form.lines[1]).sum(axis=1)[ranking]
    assert energy[0] == energy.max()
    assert np.diff(macs).min() >= PSF.shape[1]


# -- fitting -----------------------------------------------------------------------------------------


def test_fitting_never_raises_the_squared_error():
    rng = np.random.default_rng(1)
    tensor = rng.standard_normal((6, 5, 7))
    form = random_form(rng, tensor.shape, (2, 3), 4)
    errors = [np.square(tensor - form.dense()).sum()]
    for _ in range(5):
        form = fitted(tensor, form, 1)
        errors.append(np.square(tensor - form.dense()).sum())
    assert errors == sorted(errors, reverse=True)


def test_fitting_finds_what_is_there():
    rng = np.random.default_rng(2)
    truth = random_form(rng, (6, 5, 7), (2, 2), 3)
    start = Form(tuple(lines + 0.1 * rng.standard_normal(lines.shape) for lines in truth.lines), truth.index)
    assert relative_l1(truth.dense(), fitted(truth.dense(), start, 400, gain=0.0)) < 1e-6


def test_least_absolute_error_shrugs_off_outliers():
    # One sample in fifty is wild: least squares follow it, least absolute deviations find the kernel.
    rng = np.random.default_rng(3)
    clean = np.outer(1 + rng.random(12), 1 + rng.random(15))
    wild = clean.copy()
    wild.flat[rng.choice(clean.size, 4, replace=False)] += 10
    start = as_form(expand(wild, (0, 1))).select([0])
    robust = least_l1(wild, start, 0.0, 200)
    assert relative_l1(clean, robust) < 0.02 * relative_l1(clean, start)
    assert relative_l1(wild, robust) < relative_l1(wild, start)


def test_the_least_absolute_error_is_never_worse_than_the_start():
    tensor = np.random.default_rng(4).standard_normal((7, 8))
    start = as_form(expand(tensor, (0, 1))).select(slice(3))
    assert relative_l1(tensor, least_l1(tensor, start, 0.0, 30)) <= relative_l1(tensor, start)


@pytest.mark.parametrize("parts", [2, 3])
def test_least_absolute_errors_save_terms(parts):
    """Terms that an SVD needs: see the table of test_factor."""
    case = {2: flat_kernels()[4], 3: flat_kernels()[5]}[parts]  # rotated Gaussian, disk
    tol = {2: 1e-3, 3: 3e-2}[parts]
    k = factor(case.weights, tol=tol)
    values = as_form(expand(case.weights, (0, 1))).select(slice(k.rank))
    assert k.error.relative_l1 <= tol < relative_l1(case.weights, values)
    for rows, columns in k.terms:  # and stay what filters fold
        assert line_parities(np.array([rows, columns])).prod() == 1


# -- pruning and sums of three axes ------------------------------------------------------------------


def test_pruned_forms_are_within_the_tolerance_and_cheaper():
    tol = 0.02
    form = paired(PSF)
    ranking = cheapest_first(form)
    start = next(
        part for n in range(1, form.count) if relative_l1(PSF, part := form.select(ranking[:n])) <= tol
    )
    found = pruned(PSF, start, tol)
    assert relative_l1(PSF, found) <= tol
    assert found.macs < start.macs


@pytest.mark.parametrize("weights", [PSF, PSF**2], ids=["widefield", "confocal"])
@pytest.mark.parametrize("tol", [3e-2, 1e-2])
def test_point_spread_functions_beat_the_plain_staged_svd(weights, tol):
    k = factor(weights, tol=tol)
    assert k.error.relative_l1 <= tol
    assert k.macs < 0.85 * plain_macs(weights, tol)
    for _, rows, columns in k.terms:
        assert line_parities(np.array([rows, columns])).all()


def test_a_sum_that_shares_nothing_is_found():
    # A staged SVD of three terms in general position has up to nine.
    rng = np.random.default_rng(5)
    weights = SeparableKernel([[1 + rng.random(n) for n in (9, 10, 11)] for _ in range(3)]).dense()
    k = factor(weights)
    assert (k.rank, k.macs) == (3, 3 * 30)
    assert k.error.relative_l1 < 1e-10
    assert factor(weights, rank=3).error.relative_l1 < 1e-10
    expansions = [expand(weights, order) for order in orders(3)]
    assert fewest_terms(weights, expansions, 1e-6, 3 * 30) is None  # not for less


@pytest.mark.parametrize("shape", [(6, 7, 5), (3, 8, 4), (4, 5, 3, 6)])
@pytest.mark.parametrize("noise", [0.0, 1e-3])
def test_eigenvectors_tell_the_terms(shape, noise):
    rng = np.random.default_rng(6)
    weights = SeparableKernel([[rng.standard_normal(n) for n in shape] for _ in range(3)]).dense()
    disturbed = weights + noise * np.abs(weights).max() * rng.standard_normal(shape)
    forms = [from_pencil(disturbed, axis, 3) for axis in range(len(shape))]
    errors = [relative_l1(weights, form) for form in forms if form is not None]
    assert min(errors) < (0.1 if noise else 1e-10)
    assert from_pencil(disturbed, 0, shape[0] + 1) is None


def test_a_pencil_with_complex_eigenvalues_starts_something_finite():
    # Slices that rotate: no real line is an eigenvector of them.
    weights = np.stack([np.eye(2), [[0.0, -1.0], [1.0, 0.0]]], axis=-1)
    form = from_pencil(weights, 0, 2)
    assert form is not None
    assert all(np.isfinite(lines).all() for lines in form.lines)
    assert relative_l1(weights, fitted(weights, form, 20)) < 1


def test_terms_do_not_cancel_beyond_float32():
    # Close to a derivative: two huge terms of opposite sign come arbitrarily near to a sum of rank 3.
    x = np.linspace(-1, 1, 9)
    a, b = np.exp(-4 * x**2), np.exp(-4 * x**2) * (16 * x**2 - 2)
    lines = [(b, a, a), (a, b, a), (a, a, b)]
    weights = SeparableKernel(lines).dense()
    for tol in (1e-2, 1e-4, 1e-6):
        k = factor(weights, tol=tol)
        terms = sum(math.prod(np.abs(taps).sum() for taps in term) for term in k.terms)
        assert terms <= max(16, tol * 2**20) * np.abs(weights).sum()
        assert k.error.relative_l1 <= tol


def test_a_limit_and_a_tolerance_keep_both():
    k = factor(PSF, tol=0.03)
    limited = factor(PSF, tol=0.03, rank=k.rank)
    assert limited == k
