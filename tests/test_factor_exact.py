"""Integers and integers times one number: exact sums of outer products of small integers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import separable
from separable.factor import factor
from separable.factor.algorithms.exact import integer_form, rank_factors, whole
from separable.kernel.value import ErrorBounds

ROWS, COLUMNS = np.mgrid[-12:13, -12:13]
DISK = (ROWS**2 + COLUMNS**2 < 144).astype(np.int64)


def spread(kernel):
    """Return the sum of the terms' l1 norms over that of the kernel: 1 where nothing cancels."""
    terms = sum(np.prod([np.abs(taps).sum() for taps in term]) for term in kernel.terms)
    return float(terms / np.abs(kernel.dense()).sum())


@given(st.integers(1, 4), st.integers(0, 2**32))
@settings(max_examples=40)
def test_products_of_integers_come_apart_exactly(rank, seed):
    rng = np.random.default_rng(seed)
    matrix = rng.integers(-5, 6, (9, rank)) @ rng.integers(-5, 6, (rank, 11))
    true_rank = np.linalg.matrix_rank(matrix)
    if true_rank == 0:
        return
    factors = rank_factors(matrix, 9)
    assert factors is not None
    columns, rows = factors
    np.testing.assert_array_equal(columns @ rows, matrix)
    assert columns.shape[1] == true_rank


@given(
    hnp.arrays(np.int64, hnp.array_shapes(min_dims=2, max_dims=4, max_side=4), elements=st.integers(-9, 9))
)
@settings(max_examples=60)
def test_forms_of_integers_are_exact(weights):
    if not weights.any():
        return
    form = integer_form(weights, 64)
    assert form is not None
    np.testing.assert_array_equal(form.dense(), weights)
    assert all(np.array_equal(2 * lines, np.rint(2 * lines)) for lines in form.lines)


def test_a_disk_comes_apart_into_boxes_that_do_not_overlap():
    k = factor(DISK)
    assert (k.rank, k.error) == (7, ErrorBounds())
    assert {float(tap) for term in k.terms for taps in term for tap in taps} == {0.0, 1.0}
    assert spread(k) == 1.0


@pytest.mark.parametrize("scale", [1 / 441, -3.0, 0.1, 2.0**-900, 1e30, 1e-30])
def test_integers_times_one_number(scale):
    k = factor(DISK * scale)
    assert k.rank == 7
    assert k.error.relative_l1 < 1e-15
    for rows, columns in k.terms:  # one of them is zeros and ones times a power of two
        assert any(len(np.unique(np.abs(taps[taps != 0]))) == 1 for taps in (rows, columns))
    if np.frexp(abs(scale))[0] == 0.5:
        assert k.error == ErrorBounds()


@pytest.mark.parametrize("denominator", [7, 36, 360])
def test_rational_weights(denominator):
    rng = np.random.default_rng(0)
    integers = rng.integers(-4, 5, (7, 2)) @ rng.integers(-4, 5, (2, 6))
    found = whole(integers / denominator)
    assert found is not None
    ratio = (
        integers.ravel()[np.argmax(np.abs(integers))] / found.integers.ravel()[np.argmax(np.abs(integers))]
    )
    np.testing.assert_array_equal(found.integers * ratio, integers)
    np.testing.assert_allclose(found.integers * found.scale, integers / denominator, rtol=1e-15)


def test_what_is_no_integer_is_said_not_to_be():
    rng = np.random.default_rng(1)
    assert whole(rng.standard_normal((5, 5))) is None
    assert whole(np.array([[1.0, 1e-300]])) is None
    assert whole(np.array([[1.0, 1 + 1e-9]])) is None
    nearly = whole(np.array([[1.0, 1 - 2.0**-53]]))  # one, rounded: integers, but not exactly
    assert nearly is None or not nearly.exact


@pytest.mark.parametrize("dtype", [np.uint8, np.int16])
@pytest.mark.parametrize("name", ["disk", "ring", "pyramid", "ball"])
def test_integer_images_are_filtered_without_a_mismatch(name, dtype):
    rng = np.random.default_rng(2)
    grid = np.arange(-3, 4) ** 2
    weights = {
        "disk": DISK,
        "ring": DISK * (ROWS**2 + COLUMNS**2 > 80),
        "pyramid": np.maximum(0, 16 - abs(ROWS) - abs(COLUMNS)),
        "ball": (np.add.outer(grid, np.add.outer(grid, grid)) <= 9).astype(np.int64),
    }[name]
    shape = (40, 45) if weights.ndim == 2 else (12, 14, 13)
    info = np.iinfo(dtype)
    x = rng.integers(info.min, info.max, shape, dtype, endpoint=True)
    k = factor(weights)
    assert k.error == ErrorBounds()
    padded = np.pad(x.astype(np.int64), [(n // 2, n // 2) for n in weights.shape], mode="symmetric")
    windows = np.lib.stride_tricks.sliding_window_view(padded, weights.shape)
    expected = np.einsum(
        windows, [*range(2 * x.ndim)], weights, [*range(x.ndim, 2 * x.ndim)], [*range(x.ndim)]
    )
    found = separable.correlate(x, k, method="separable", output="float64")
    np.testing.assert_array_equal(found, expected)


def test_symmetry_through_the_centre_is_kept():
    weights = (abs(ROWS + 2 * COLUMNS) < 4).astype(np.int64)
    k = factor(weights)
    assert k.error == ErrorBounds()
    for rows, columns in k.terms:
        assert np.array_equal(rows, rows[::-1]) or np.array_equal(rows, -rows[::-1])
        assert np.array_equal(columns, columns[::-1]) or np.array_equal(columns, -columns[::-1])


def test_fewer_terms_win_over_exact_ones():
    rng = np.random.default_rng(3)
    weights = np.rint(1e4 * np.outer(1 + rng.random(9), 1 + rng.random(9)))
    assert factor(weights, tol=1e-3).rank == 1
    assert factor(weights, tol=0).error == ErrorBounds()
