"""Whole numbers keep their level: constants stay constants, white stays white, flat parts stay flat."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from reference import MODES, correlate_dense

import separable as sp
import separable.ndimage as ndi
from separable import _core

INTEGERS = ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8")
STORED = [(r, o) for r in ("nearest", "truncate") for o in ("saturate", "wrap")]


def values_of(dtype: np.dtype[Any]) -> st.SearchStrategy[int]:
    """Draw levels up to 2**53 and the ends of a dtype."""
    info = np.iinfo(dtype)
    low, high = max(int(info.min), -(2**53)), min(int(info.max), 2**53)
    near = st.sampled_from([low, low + 1, high - 1, high, 0, 1, int(info.max)])
    return st.one_of(near, st.integers(low, high))


def shapes() -> st.SearchStrategy[tuple[int, ...]]:
    return st.sampled_from([(1,), (70,), (400,), (9, 33), (24, 40), (5, 7, 18)])


@st.composite
def constants(draw: st.DrawFn) -> tuple[np.ndarray, dict[str, Any]]:
    """Draw an image of one level, perhaps with holes, and how its filter is stored."""
    dtype = np.dtype(draw(st.sampled_from(INTEGERS)))
    shape = draw(shapes())
    x = np.full(shape, draw(values_of(dtype)), dtype)
    rounding, overflow = draw(st.sampled_from(STORED))
    given = {"rounding": rounding, "overflow": overflow, "mode": draw(st.sampled_from(MODES))}
    if given["mode"] == "constant":
        given["cval"] = int(x.flat[0])
    if draw(st.booleans()):
        given["mask"] = np.random.default_rng(draw(st.integers(0, 9))).random(shape) > draw(
            st.sampled_from([0.02, 0.5])
        )
        given["mask"].flat[0] = True
    return x, given


def sigmas(x: np.ndarray) -> st.SearchStrategy[float]:
    """Draw widths: the wider, the fewer axes there are."""
    widest = {1: 1e4, 2: 300.0, 3: 80.0}[x.ndim]
    return st.floats(np.log(0.2), np.log(widest)).map(lambda power: float(np.exp(power)))


def check(found: np.ndarray, x: np.ndarray, given: dict[str, Any]) -> None:
    """Where nothing is known in reach there is a 0; everything else has the level of `x`."""
    assert found.dtype == x.dtype
    wrong = found != x
    if "mask" in given:
        wrong &= found != 0
    assert not wrong.any(), (x.flat[0], found[wrong][0])


@settings(max_examples=150, deadline=None)
@given(constants(), st.data())
def test_gaussians_keep_a_constant(case, data) -> None:
    x, given = case
    sigma = data.draw(sigmas(x))
    wide = ["separable", "auto"] + ["direct"] * (sigma**x.ndim < 40)
    method = data.draw(st.sampled_from(wide))
    check(sp.gaussian(x, sigma, output=x.dtype, method=method, **given), x, given)
    check(ndi.gaussian_filter(x, sigma, **given), x, given)


@settings(max_examples=60, deadline=None)
@given(constants(), st.data())
def test_approximations_keep_a_constant(case, data) -> None:
    x, given = case
    given.pop("mask", None)
    sigma, tol = data.draw(sigmas(x)), data.draw(st.sampled_from([1e-2, 1e-3, 1e-5]))
    check(sp.gaussian(x, sigma, output=x.dtype, tol=tol, **given), x, given)
    check(ndi.gaussian_filter(x, sigma, tol=tol, **given), x, given)


@settings(max_examples=60, deadline=None)
@given(constants(), st.data())
def test_means_keep_a_constant(case, data) -> None:
    x, given = case
    size = data.draw(st.integers(1, {1: 3000, 2: 200, 3: 60}[x.ndim]))
    method = data.draw(st.sampled_from(["auto", "box", "separable"])) if size > 1 else "auto"
    check(sp.uniform(x, size, output=x.dtype, method=method, **given), x, given)
    check(ndi.uniform_filter(x, size, **given), x, given)


def normalised_weights(shape: tuple[int, ...], seed: int, negative: bool) -> np.ndarray:
    """Random weights that sum to 1, some of them below 0 if asked for."""
    weights = np.random.default_rng(seed).uniform(-0.4 if negative else 0.0, 1.0, shape)
    return weights / weights.sum()


@settings(max_examples=60, deadline=None)
@given(constants(), st.booleans(), st.integers(0, 5), st.sampled_from(["auto", "direct", "fft"]))
def test_weights_that_sum_to_1_keep_a_constant(case, negative, seed, method) -> None:
    x, given = case
    weights = normalised_weights({1: (301,), 2: (9, 12), 3: (3, 4, 5)}[x.ndim], seed, negative)
    if negative or method == "fft":
        given.pop("mask", None)
    check(sp.correlate(x, weights, output=x.dtype, method=method, **given), x, given)
    check(ndi.correlate(x, weights, **given), x, given)


@example("u2", 116.0, (64, 64), 65535)
@example("u2", 254.0, (300,), 65535)
@example("u2", 79.0, (16, 16, 16), 65535)
@example("u2", 150.0, (64, 64), 60000)
@example("i2", 200.0, (64, 64), -32768)
@example("i2", 200.0, (64, 64), 32767)
@example("i8", 3.0, (20, 20), 2**63 - 1)
@example("u8", 3.0, (20, 20), 2**64 - 1)
@example("i8", 2.0, (30,), -(2**63))
@settings(max_examples=1)
@given(st.just("u2"), st.just(10.0), st.just((8, 8)), st.just(65535))
def test_white_stays_white(dtype, sigma, shape, level) -> None:
    x = np.full(shape, level, dtype)
    np.testing.assert_array_equal(ndi.gaussian_filter(x, sigma), x)
    for rounding, overflow in STORED:
        found = sp.gaussian(x, sigma, output=dtype, rounding=rounding, overflow=overflow)
        np.testing.assert_array_equal(found, x)


def test_floats_that_are_stored_in_integers_keep_a_constant(target) -> None:
    for dtype in ("f4", "f8"):
        for level in (65535, 60000, 1, 0):
            x = np.full((40, 41), level, dtype)
            for sigma in (0.5, 3, 40, 150):
                np.testing.assert_array_equal(ndi.gaussian_filter(x, sigma, output=np.uint16), level)
                for tol in (None, 1e-3):
                    for rounding, overflow in STORED:
                        found = sp.gaussian(
                            x, sigma, tol=tol, output="u2", rounding=rounding, overflow=overflow
                        )
                        np.testing.assert_array_equal(found, level)
    line = np.full(5000, 65535, np.uint16)
    taps = np.hanning(3003)[1:-1]
    np.testing.assert_array_equal(ndi.correlate1d(line, taps / taps.sum()), line)
    weights = normalised_weights((45, 45), 0, False)
    white = np.full((60, 60), 65535, np.uint16)
    np.testing.assert_array_equal(ndi.convolve(white, weights), white)


def test_other_layouts_and_byte_orders() -> None:
    """Results that take another way into the array: copies, strides, float16 in, several kernels at once."""
    x = np.full((64, 65), 65535, np.uint16)
    for out in (
        np.empty(x.shape, ">u2"),
        np.empty((128, 130), "u2")[::2, ::-2],
        np.empty(x.shape, "u2", "F"),
    ):
        for keywords in ({}, {"tol": 1e-3}, {"mask": np.arange(65) % 7 > 0}):
            sp.gaussian(x, 150.0, output=out, rounding="truncate", overflow="wrap", **keywords)
            np.testing.assert_array_equal(out, x)
            sp.gaussian(x.astype(x.dtype.newbyteorder()), 20.0, output=out, **keywords)
            np.testing.assert_array_equal(out, x)
    half = np.full((20, 30), 2048, np.float16)
    np.testing.assert_array_equal(sp.gaussian(half, 90.0, output="u2", rounding="truncate"), 2048)
    kernels = [sp.families.gaussian(s, radius=90) for s in (20.0, 30.0, 40.0)]
    for dtype in ("u2", "i8"):
        bank = sp.plan(kernels, x.shape, dtype)
        for rounding, overflow in STORED:
            found = bank(x.astype(dtype), output=dtype, rounding=rounding, overflow=overflow)
            np.testing.assert_array_equal(found, np.broadcast_to(x, found.shape))


@pytest.mark.parametrize("sigma", [2.0, 12.0, 40.0])
def test_flat_parts_keep_their_level_beside_others(target, sigma) -> None:
    """Of an image with an edge all that is far from it stays, in every dtype and way of storing."""
    reach = int(4 * sigma + 0.5)
    for dtype in ("u1", "u2", "i2", "i4"):
        info = np.iinfo(dtype)
        levels = (int(info.max), int(info.max) // 3)
        x = np.repeat(np.array([levels], dtype), 2 * reach + 3, axis=1)[[0] * 40]
        for keywords in ({}, {"mask": np.arange(40)[:, None] % 9 > 0}):
            for rounding, overflow in STORED:
                found = sp.gaussian(x, sigma, output=dtype, rounding=rounding, overflow=overflow, **keywords)
                far = np.r_[0 : reach + 2, -reach - 2 : 0]
                np.testing.assert_array_equal(found[:, far], x[:, far])


def test_truncation_moves_nothing_else() -> None:
    """Values that are no whole numbers, nor within rounding of one, are cut off where they are."""
    x = np.random.default_rng(0).integers(0, 65536, (50, 60)).astype("u2")
    for sigma in (0.7, 3.0, 30.0):
        exact = correlate_dense(x, sp.families.gaussian(sigma).dense()) if sigma < 4 else None
        if exact is None:
            exact = sp.gaussian(x.astype(float), sigma)
        for found in (ndi.gaussian_filter(x, sigma), sp.gaussian(x, sigma, output="u2", rounding="truncate")):
            sure = exact - np.floor(exact) < 0.75
            np.testing.assert_array_equal(found[sure], np.floor(exact[sure]))
            assert (found - np.floor(exact) <= 1).all()
        wide = sp.gaussian(x.astype("i4"), sigma, output="i4", rounding="truncate")
        assert (wide == np.floor(exact)).mean() > 0.999


def test_no_result_leaves_what_the_samples_allow() -> None:
    """The clamp: weights below 0 let results leave the samples, but by no more than they say."""
    rng = np.random.default_rng(1)
    x = rng.integers(-(2**62), 2**62, (40, 50))
    weights = normalised_weights((5, 6), 2, True)
    low, high = weights[weights < 0].sum(), weights[weights > 0].sum()
    found = sp.correlate(x, weights, output="i8").astype(float)
    least, most = float(x.min()), float(x.max())
    assert found.min() >= high * least + low * most - 2**11
    assert found.max() <= high * most + low * least + 2**11
    exact = correlate_dense(x, weights)
    assert np.abs(found - exact).max() <= 2**14
    assert (
        sp.correlate(np.full((9, 9), 2**53 - 1), [[0, -1, 0], [-1, 5, -1], [0, -1, 0]], output="i8")
        == 2**53 - 1
    ).all()
    assert not sp.gaussian(
        np.full((30, 31), 2**52), 2.0, order=(1, 0), output="i8", rounding="truncate"
    ).any()


@pytest.mark.parametrize("dtype", [*INTEGERS, "?", "f4", "f8"])
def test_the_range_of_an_array(target, dtype) -> None:
    rng = np.random.default_rng(3)
    x = (rng.integers(0, 100, (7, 9, 1200)) if dtype != "?" else rng.random((7, 9, 1200)) > 0.5).astype(dtype)
    if dtype[0] == "f":
        x[3, 4, 5] = np.nan
    known = rng.random(x.shape) > 0.3
    for turn in (
        lambda a: a,
        lambda a: a[::-1, :, ::3],
        lambda a: a.transpose(2, 0, 1),
        lambda a: a[:, :1, :1],
    ):
        part, mask = turn(x), turn(known)
        for threads in (1, 3):
            assert _core.extent(part.shape, part, threads) == (np.nanmin(part), np.nanmax(part))
            wanted = part[mask]
            found = _core.extent(part.shape, part, threads, mask)
            assert found == (np.nanmin(wanted), np.nanmax(wanted))
    nothing = _core.extent((3,), np.zeros(3, dtype), 1, np.zeros(3, bool))
    assert nothing == (np.inf, -np.inf)


@pytest.mark.parametrize("level", [2**63 - 1, -(2**63), 2**53 + 1])
def test_long_doubles_are_integers_of_64_bits(level) -> None:
    if np.finfo(np.longdouble).nmant < 63:
        pytest.skip("long double is float64")
    x = np.full((6, 40), level, np.longdouble)
    for rounding, overflow in STORED:
        found = ndi.gaussian_filter(x, 1.5, output=np.int64, rounding=rounding, overflow=overflow)
        assert (found == level).all()
