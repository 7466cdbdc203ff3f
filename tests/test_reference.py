"""The oracle itself, against scipy.ndimage."""

from __future__ import annotations

import numpy as np
import pytest
from reference import MODES, SYNONYMS, continued, convolve_dense, correlate_dense, tolerance
from scipy import ndimage

CASES = [
    # shape of x, shape of the kernel, origin: odd, even, longer than the axis, length 1, 1-D to 4-D
    ((7,), (3,), 0),
    ((7,), (4,), -1),
    ((4,), (11,), 3),
    ((1,), (5,), 0),
    ((2,), (9,), (-4,)),
    ((6, 5), (3, 4), (1, -2)),
    ((3, 8), (7, 2), 0),
    ((1, 4), (3, 3), 1),
    ((4, 3, 5), (3, 2, 3), (-1, 0, 1)),
    ((2, 3, 2, 3), (3, 1, 2, 2), 0),
]


def integers(shape, seed):
    # Small integers: float64 sums are exact in any order, so the comparison is too.
    return np.random.default_rng(seed).integers(-9, 10, shape).astype(np.float64)


@pytest.mark.parametrize("mode", [*MODES, *SYNONYMS])
@pytest.mark.parametrize(("shape", "taps", "origin"), CASES)
def test_is_scipys_correlate_and_convolve(shape, taps, origin, mode):
    x, weights = integers(shape, 1), integers(taps, 2)
    expected = ndimage.correlate(x, weights, mode=mode, cval=3.0, origin=origin)
    np.testing.assert_array_equal(correlate_dense(x, weights, mode, 3.0, origin), expected)
    if isinstance(origin, int) and all(-(n // 2) <= -origin - (n % 2 == 0) for n in taps):
        expected = ndimage.convolve(x, weights, mode=mode, cval=3.0, origin=origin)
        np.testing.assert_array_equal(convolve_dense(x, weights, mode, 3.0, origin), expected)


@pytest.mark.parametrize("mode", MODES)
def test_modes_per_axis_are_scipys(mode):
    x, a, b = integers((5, 6), 1), integers((4,), 2), integers((9,), 3)
    other = "nearest" if mode != "nearest" else "wrap"
    rows = ndimage.correlate1d(x, a, axis=0, mode=mode)
    expected = ndimage.correlate1d(rows, b, axis=1, mode=other)
    np.testing.assert_array_equal(correlate_dense(x, np.outer(a, b), (mode, other)), expected)


def test_even_convolution_is_scipys_in_each_dimension():
    x, weights = integers((6, 7), 1), integers((4, 3), 2)
    for origin in [(0, 0), (1, -1), (-2, 1)]:
        expected = ndimage.convolve(x, weights, mode="mirror", origin=origin)
        np.testing.assert_array_equal(convolve_dense(x, weights, "mirror", origin=origin), expected)


def test_complex_and_empty_input():
    x = integers((5, 4), 1) + 1j * integers((5, 4), 2)
    weights = integers((3, 3), 3)
    expected = ndimage.correlate(x, weights, mode="constant", cval=1 - 2j)
    np.testing.assert_array_equal(correlate_dense(x, weights, "constant", 1 - 2j), expected)
    assert correlate_dense(np.zeros((0, 3)), weights).shape == (0, 3)


def test_one_sample_continues_to_itself():
    for mode in ("reflect", "nearest", "mirror", "wrap"):
        assert {continued(i, 1, mode) for i in range(-5, 6)} == {0}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_tolerance_holds_and_is_not_idle(dtype):
    rng = np.random.default_rng(5)
    x = rng.standard_normal((40, 40)).astype(dtype)
    taps = rng.standard_normal(9)
    exact = correlate_dense(x, np.outer(taps, taps))
    got = x
    for axis in (0, 1):  # each product and each sum rounded to dtype
        total = np.zeros_like(x)
        padded = np.pad(got, [(4, 4) if a == axis else (0, 0) for a in (0, 1)], mode="symmetric")
        for k, tap in enumerate(taps.astype(dtype)):
            total = total + tap * np.take(padded, np.arange(k, k + 40), axis=axis)
        got = total
    assert got.dtype == dtype
    worst = np.abs(got.astype(np.longdouble) - exact).max()
    separable = tolerance(dtype, [(taps, taps)], x)
    assert 1e-3 * separable < worst < separable < tolerance(dtype, np.outer(taps, taps), x)


def test_tolerance_counts_constant_and_scale():
    weights = np.ones((3, 3))
    assert tolerance("float32", weights, np.zeros(3), cval=5.0) == pytest.approx(
        tolerance("float32", weights, np.full(3, 5.0))
    )
    assert tolerance("float32", weights, [1.0]) == pytest.approx(
        2**29 * tolerance("float64", weights, [1.0]), rel=1e-4
    )
