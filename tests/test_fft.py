"""Filters by Fourier transforms: the same results as any other way, to rounding, in blocks of any size."""

from __future__ import annotations

import bisect
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import MODES, continued, correlate_dense, tolerance

import separable as sp
from separable import _core
from separable.arrays.boundaries import Line, sources
from separable.methods.algorithms import overlap_save
from separable.methods.algorithms.overlap_save import FourierJob, Geometry
from separable.methods.fft import best_geometry, fast_length

RNG = np.random.default_rng(3)
DTYPES = ("float32", "float64")
CVAL = 1.25


def bound(dtype, weights, x):
    """Bound the error of transforms: relative to the largest sample, as that of sums is."""
    return 4 * tolerance(dtype, np.abs(weights).sum() * np.ones(32) / 32, x, CVAL)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_lines_continue_as_modes_say(mode, n):
    places = np.arange(-25, 30)
    assert list(sources(places, n, mode)) == [continued(int(i), n, mode) for i in places]


def test_fast_lengths_are_the_next_ones_without_large_factors():
    smooth = sorted({2**a * 3**b * 5**c for a in range(13) for b in range(8) for c in range(6)})
    for n in [*range(1, 600), 1025, 4000, 4001]:
        assert fast_length(n) == smooth[bisect.bisect_left(smooth, n)]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("shape", "taps", "geometry"),
    [
        ((50,), (9,), Geometry((7,), (15,))),
        ((33, 29), (5, 4), Geometry((16, 29), (24, 32))),
        ((33, 29), (5, 4), Geometry((1, 4), (6, 8))),
        ((3, 20, 21), (1, 9, 31), Geometry((2, 9, 21), (2, 18, 54))),
        ((6, 5), (20, 1), Geometry((6, 2), (25, 2))),
    ],
)
def test_blocks_make_no_difference(shape, taps, geometry, dtype, mode):
    x = RNG.standard_normal(shape).astype(np.float32).astype(dtype)
    weights = RNG.standard_normal(taps)
    shifts = [n // 3 for n in taps]
    lines = [Line(n, k, shift, mode) for n, k, shift in zip(shape, taps, shifts, strict=True)]
    job = FourierJob(shape, dtype, weights, lines, CVAL, geometry, unreachable)
    origins = [shift - n // 2 for shift, n in zip(shifts, taps, strict=True)]
    expected = correlate_dense(x, weights, mode, CVAL, origins)
    results = [np.full(shape, 77, dtype) for _ in range(3)]
    for threads, result in enumerate(results, 1):
        job.run(x, result, threads)
    np.testing.assert_allclose(results[0], expected, rtol=0, atol=bound(dtype, weights, x))
    np.testing.assert_array_equal(results[1], results[0])
    np.testing.assert_array_equal(results[2], results[0])
    assert job.scratch_bytes(2) >= job.scratch_bytes(1) > x.itemsize * geometry.samples


def unreachable(block):
    raise AssertionError(f"{block} was finite")


@st.composite
def filters(draw):
    shape = draw(st.lists(st.integers(1, 24), min_size=1, max_size=3))
    axes = draw(st.permutations(range(len(shape))))[: draw(st.integers(1, len(shape)))]
    taps = [draw(st.integers(1, 9)) for _ in axes]
    origin = [draw(st.integers(-(n // 2), (n - 1) // 2)) for n in taps]
    mode = [draw(st.sampled_from(MODES)) for _ in axes]
    seed = draw(st.integers(0, 99))
    rng = np.random.default_rng(seed)
    return rng.standard_normal(shape), rng.standard_normal(taps), {
        "axes": tuple(axes), "origin": tuple(origin), "mode": tuple(mode), "cval": CVAL,
    }  # fmt: skip


@given(filters(), st.booleans(), st.sampled_from([*DTYPES, "complex64", "complex128", "int16", "uint8"]))
def test_transforms_give_what_the_dense_sweep_gives(case, flip, dtype):
    x, weights, options = case
    x = (x * 20).astype(dtype) if np.dtype(dtype).kind in "iu" else x.astype(dtype)
    verb = sp.convolve if flip else sp.correlate
    found, expected = (verb(x, weights, method=method, **options) for method in ("fft", "direct"))
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=0, atol=bound(found.real.dtype, weights, x))


def test_kernels_and_views_and_outputs():
    x = RNG.standard_normal((41, 60))[::-1, ::2]
    kernel = sp.SeparableKernel([[RNG.random(5), RNG.random(7)], [RNG.random(5), RNG.random(7)]])
    before = x.copy()
    out = np.empty((41, 30), np.float32)
    assert sp.correlate(x, kernel, method="fft", output=out) is out
    np.testing.assert_allclose(out, sp.correlate(x, kernel.dense(), method="direct"), rtol=1e-6)
    np.testing.assert_array_equal(x, before)
    whole = sp.correlate(x, kernel, method="fft", output=np.uint8, rounding="truncate", overflow="wrap")
    exact = sp.correlate(x, kernel, method="direct", output=np.uint8, rounding="truncate", overflow="wrap")
    assert np.mean(whole != exact) < 0.01


@pytest.mark.parametrize("rounding", ["nearest", "truncate"])
def test_small_whole_numbers_survive_beside_large_ones(rounding):
    x = np.zeros((200, 200), np.uint16)
    x[:100], x[150:] = 65535, 3
    weights = np.full((11, 11), 1 / 121)
    found = sp.correlate(x, weights, method="fft", output=np.uint16, rounding=rounding)
    assert set(np.unique(found[156:])) == {3}
    assert set(np.unique(found[106:144])) == {0}
    assert set(np.unique(found[:94])) == {65535}


@pytest.mark.parametrize("dtype", [*DTYPES, "complex64"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_stays_in_its_windows(dtype, bad):
    x = RNG.standard_normal((300, 280)).astype(dtype)
    x[100, 50] = bad
    weights = RNG.uniform(1, 2, (21, 19))
    found, expected = (sp.correlate(x, weights, method=method) for method in ("fft", "direct"))
    np.testing.assert_array_equal(np.isfinite(found), np.isfinite(expected))
    assert np.isfinite(found).sum() == (300 * 280 - 21 * 19)
    np.testing.assert_array_equal(found[90:111, 41:60], expected[90:111, 41:60])


def test_sums_that_leave_the_range_on_the_way_are_taken_directly():
    x = np.full((64, 64), 1e37, np.float32)
    weights = np.full((11, 11), 1 / 121)
    np.testing.assert_allclose(sp.correlate(x, weights, method="fft"), x, rtol=1e-5)


@pytest.mark.parametrize("scale", [1e-60, 1e-30, 1e30, 1e60])
@pytest.mark.parametrize("dtype", DTYPES)
def test_weights_of_any_scale(scale, dtype):
    x = RNG.standard_normal((40, 40)) / scale if dtype == "float64" else RNG.standard_normal((40, 40))
    if dtype == "float32" and not 1e-35 < scale < 1e35:
        return
    weights = RNG.standard_normal((9, 9)) * scale
    found = sp.correlate(x.astype(dtype), weights, method="fft")
    np.testing.assert_allclose(
        found, correlate_dense(x.astype(dtype), weights), rtol=0, atol=bound(dtype, weights, x)
    )


def test_masks_take_the_sweep():
    x = RNG.random((30, 30))
    mask = x > 0.2
    p = sp.plan(RNG.random((7, 7)), x.shape, x.dtype, method="fft")
    with pytest.raises(ValueError, match="runs with method='direct', but method is 'fft'"):
        p(x, mask=mask)
    large = RNG.random((61, 61))
    chosen = sp.plan(large, (400, 400), "f8")
    assert chosen.method == "fft"
    wide = RNG.random((400, 400))
    known = wide > 0.1
    np.testing.assert_array_equal(
        chosen(wide, mask=known), sp.correlate(wide, large, mask=known, method="direct")
    )


def test_numpy_serves_where_scipy_is_not_installed(monkeypatch):
    x = RNG.standard_normal((50, 40)).astype(np.float32)
    weights = RNG.standard_normal((9, 9))
    expected = sp.correlate(x, weights, method="fft")
    overlap_save._transforms.cache_clear()
    monkeypatch.setitem(sys.modules, "scipy.fft", None)
    try:
        found = sp.plan(weights, x.shape, method="fft")(x)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=0, atol=bound("float32", weights, x))
    finally:
        overlap_save._transforms.cache_clear()


@pytest.mark.parametrize(
    ("shape", "taps"),
    [((4096, 4096), (65, 65)), ((200, 200, 200), (25, 21, 21)), ((7, 100, 90, 3), (1, 9, 9, 1))],
)
def test_blocks_cover_the_array_and_hold_their_halo(shape, taps):
    rates = sp.plan([1.0, 2.0], (8,)).cost.rates
    geometry, cost = best_geometry(shape, taps, 4, rates)
    for n, step, length, reach in zip(shape, geometry.results, geometry.lengths, taps, strict=True):
        assert 1 <= step <= n
        assert length == (fast_length(step + reach - 1) if reach > 1 else step)
    assert cost.blocks == geometry.blocks(shape)
    # One block for each sample, or one of all 4096 x 4096, would cost many times as much.
    assert 1 <= cost.blocks < np.prod(shape) / 100
    assert cost.blocks > 4 or shape != (4096, 4096)


@pytest.mark.parametrize("target", _core.core_info()["targets"])
def test_every_instruction_set_falls_back_to_its_own_sweep(target):
    x = RNG.standard_normal((40, 50))
    x[20, 20] = np.nan
    weights = RNG.standard_normal((11, 11))
    _core.force(target)
    try:
        found = sp.plan(weights, x.shape, x.dtype, method="fft")(x)
    finally:
        _core.force(None)
    expected = correlate_dense(x, weights)
    np.testing.assert_allclose(found, expected, rtol=0, atol=bound("float64", weights, np.nan_to_num(x)))
