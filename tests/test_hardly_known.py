"""Images of which little is known, or far away, or tiny: normalised to rounding, never infinite."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import MODES, continued

import separable as sp
import separable.ndimage as ndi
from separable import _core


def logarithmic(x, known, terms, mode="reflect", cval=0.0, outside=True):
    """The mean of what is known in reach, by logarithms of weights: nothing underflows. Slow."""
    result = np.full(x.shape, np.nan, np.result_type(x, np.float64))
    total = math.prod(float(taps.sum()) for taps in terms)
    with np.errstate(divide="ignore"):
        logs = [np.log(taps) for taps in terms]
    for place in np.ndindex(x.shape):
        weights, samples = [], []
        for k in itertools.product(*(range(len(taps)) for taps in terms)):
            at = [
                continued(i + j - len(t) // 2, n, mode)
                for i, j, t, n in zip(place, k, terms, x.shape, strict=True)
            ]
            padded = -1 in at
            if outside if padded else known[tuple(at)]:
                weights.append(sum(float(log[j]) for log, j in zip(logs, k, strict=True)))
                samples.append(cval if padded else x[tuple(at)])
        if weights and max(weights) > -np.inf:
            shares = np.exp(np.array(weights) - max(weights))
            result[place] = total * (shares / shares.sum() * np.array(samples)).sum()
    return result


def spoilt(shape, count, level, dtype, seed=0):
    x = np.full(shape, level, dtype)
    places = np.random.default_rng(seed).choice(x.size, count, replace=False)
    known = np.ones(x.size, bool)
    known[places] = False
    return x, known.reshape(shape)


@pytest.mark.parametrize(("shape", "count", "sigma"), [((512, 512), 20, 80.0), ((64, 64), 1, 150.0)])
def test_holes_are_no_zeros(target, shape, count, sigma) -> None:
    """A constant stays what it is within the rounding of two plain filters, one divided by the other."""
    x, known = spoilt(shape, count, 1000, np.float32)
    quotient = sp.gaussian(np.where(known, x, np.float32(0)), sigma) / sp.gaussian(known.astype("f4"), sigma)
    found = sp.gaussian(np.where(known, x, np.float32(np.nan)), sigma, nan="omit")
    assert np.abs(found - 1000).max() <= 1.5 * np.abs(quotient - 1000).max()
    other = np.where(known, x, np.float32(1e6))
    np.testing.assert_array_equal(sp.gaussian(other, sigma, mask=known), found)


def test_a_large_dense_kernel() -> None:
    weights = np.random.default_rng(4).random((101, 101))
    weights /= weights.sum()
    x, known = spoilt((130, 140), 20, 1000, np.float32)
    found = sp.correlate(x, weights, mask=known)
    assert np.abs(found - 1000).max() <= 2e-3


@pytest.mark.parametrize("rounding", ["nearest", "truncate"])
def test_integers_beside_holes(rounding) -> None:
    for shape, sigma in (((512, 512), 80.0), ((64, 64), 150.0), ((3000,), 700.0)):
        x, known = spoilt(shape, 20, 60000, np.uint16)
        for overflow in ("saturate", "wrap"):
            found = sp.gaussian(x, sigma, mask=known, output="u2", rounding=rounding, overflow=overflow)
            np.testing.assert_array_equal(found, x)
        np.testing.assert_array_equal(ndi.gaussian_filter(x, sigma, mask=known), x)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([(300,), (40, 70), (70, 900), (9, 20, 40)]),
    st.integers(1, 40),
    st.booleans(),
    st.sampled_from(MODES),
    st.sampled_from(["separable", "direct"]),
    st.sampled_from(["f4", "f8", "u1", "c8"]),
    st.integers(0, 3),
    st.sampled_from(_core.core_info()["targets"]),
)
def test_what_is_all_known_in_reach_is_that_of_the_plain_filter(
    shape, taps, symmetric, mode, method, dtype, seed, target
) -> None:
    """To the last bit, whatever is unknown elsewhere, in any row and tile."""
    if method == "direct":
        taps = min(taps, {1: 40, 2: 9, 3: 4}[len(shape)])
    rng = np.random.default_rng(seed)
    lines = [rng.uniform(1e-3, 1, min(taps, 2 * n)) for n in shape]
    kernel = sp.SeparableKernel([[line + line[::-1] if symmetric else line for line in lines]])
    x = rng.uniform(1, 200, shape).astype(dtype)
    known = np.ones(shape, bool)
    for _ in range(3):
        known[tuple(rng.integers(0, n) for n in shape)] = False
    ones = sp.SeparableKernel([[np.ones(line.size) for line in lines]])
    reached = sp.correlate((~known).astype(float), ones, mode=mode, method="direct") > 0
    _core.force(target)
    try:
        plain = sp.correlate(x, kernel, mode=mode, cval=2.0, method=method)
        found = sp.correlate(x, kernel, mode=mode, cval=2.0, method=method, mask=known)
        again = sp.correlate(x, kernel, mode=mode, cval=2.0, method=method, mask=known, threads=2)
    finally:
        _core.force(None)
    np.testing.assert_array_equal(found[~reached], plain[~reached])
    np.testing.assert_array_equal(found, again)


@pytest.mark.parametrize("dtype", ["f4", "f8", "c8", "c16"])
@pytest.mark.parametrize("size", [1.0, 1e-30, 1e-36, 1e30])
def test_one_known_sample_is_the_result_wherever_it_reaches(dtype, size) -> None:
    x = np.full((41, 45), np.nan, dtype)
    x[20, 20] = 3 * size * (1 + 2j if dtype[0] == "c" else 1)
    for truncate in (4, 10, 30):
        found = sp.gaussian(x, 1.0, truncate=truncate, mode="nearest", nan="omit")
        there = np.zeros(x.shape, bool)
        reach = slice(max(20 - truncate, 0), 21 + truncate)
        there[reach, reach] = True
        np.testing.assert_allclose(found[there], x[20, 20], rtol=1e-5)
        assert np.isnan(found[~there]).all()


def test_a_volume_with_weights_that_no_float_holds() -> None:
    x = np.full((34, 35, 36), np.nan, np.float32)
    x[2, 3, 4] = 7
    found = sp.gaussian(x, 1.0, truncate=30, mode="constant", cval=np.nan, nan="omit")
    there = np.zeros(x.shape, bool)
    there[:33, :34, :35] = True
    np.testing.assert_allclose(found[there], 7, rtol=1e-6)
    assert np.isnan(found[~there]).all()
    stored = sp.gaussian(np.nan_to_num(x), 1.0, truncate=30, mask=x == x, output="i2", mode="wrap")
    assert (stored == 7).all()


@settings(max_examples=15, deadline=None)
@given(
    st.integers(0, 100),
    st.sampled_from(MODES),
    st.sampled_from(["f4", "f8"]),
    st.sampled_from([1.0, 1e-30]),
    st.sampled_from([4.0, 12.0]),
    st.sampled_from(["separable", "direct"]),
)
def test_few_samples_far_away(seed, mode, dtype, size, truncate, method) -> None:
    """Against logarithms of the weights, for samples of both signs and any distance."""
    rng = np.random.default_rng(seed)
    x = (size * rng.uniform(1, 2, (8, 11))).astype(dtype)
    known = rng.random(x.shape) > 0.96
    kernel = sp.families.gaussian((0.5, 0.8), truncate=truncate)
    found = sp.correlate(x, kernel, mode=mode, cval=1.5 * size, mask=known, method=method)
    wanted = logarithmic(x, known, kernel.terms[0], mode, 1.5 * size)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(wanted))
    np.testing.assert_allclose(found, wanted, rtol=2e-5 if dtype == "f4" else 1e-12)


def test_zeros_are_no_underflow() -> None:
    """A background of zeros stays at today's speed: nothing is done again for it, and it is 0."""
    x = np.zeros((60, 300), np.float32)
    x[:, 280:] = 5
    known = np.zeros(x.shape, bool)
    known[:, ::40] = True
    found = sp.gaussian(x, 8.0, mask=known)
    assert not found[:, :200].any()
    wanted = sp.gaussian(x.astype(float), 8.0, mask=known)
    np.testing.assert_allclose(found, wanted, atol=1e-5)


# ---------------------------------------------------------------- a constant beyond the ends that is unknown


def padded_away(x, known, kernel, total):
    sums = sp.correlate(np.where(known, x, 0), kernel, mode="constant", method="separable")
    there = sp.correlate(known.astype(float), kernel, mode="constant", method="separable")
    with np.errstate(invalid="ignore"):
        return np.where(there > 0, sums * total / there, np.nan)


@pytest.mark.parametrize("method", ["separable", "direct", "auto"])
@pytest.mark.parametrize(
    ("shape", "taps"),
    [
        ((70,), (5,)),
        ((9, 53), (4, 7)),
        ((40, 70), (9, 9)),
        ((23, 53), (7, 1)),
        ((6, 17, 35), (5, 3, 9)),
        ((3, 4), (9, 9)),
    ],
)
def test_nothing_lies_beyond_the_ends(target, shape, taps, method) -> None:
    rng = np.random.default_rng(7)
    kernel = sp.SeparableKernel([[rng.uniform(0.1, 1, n) for n in taps]])
    total = float(kernel.dense().sum())
    full = rng.uniform(1, 200, shape)
    for share, dtype in ((0.0, "f8"), (0.3, "f4"), (0.0, "u1"), (0.3, "i4")):
        x, known = full.astype(dtype), rng.random(shape) >= share
        mask = {"mask": known} if share else {}
        found = sp.correlate(x, kernel, mode="constant", cval=np.nan, nan="omit", method=method, **mask)
        rtol = 3e-5 if found.dtype == np.float32 else 1e-12
        np.testing.assert_allclose(found, padded_away(x, known, kernel, total), rtol=rtol)
    flat = np.full(shape, 9, "u1")
    kept = sp.correlate(
        flat, np.ones(taps) / math.prod(taps), mode="constant", cval=np.nan, nan="omit", output="u1"
    )
    np.testing.assert_array_equal(kept, flat)


def test_every_way_leaves_out_what_is_beyond_the_ends() -> None:
    x = np.random.default_rng(8).uniform(1, 2, (4, 5, 6, 19))
    ones = np.ones(x.shape, bool)
    away = {"mode": "constant", "cval": np.nan, "nan": "omit"}
    kernel = sp.SeparableKernel([[np.linspace(1, 2, n) for n in (3, 2, 3, 5)]])
    wanted = padded_away(x, ones, kernel, float(kernel.dense().sum()))
    np.testing.assert_allclose(sp.correlate(x, kernel, **away), wanted, rtol=1e-12)  # four axes
    box = sp.families.box((3, 41), ndim=2)
    flat = x[0, 0]
    wanted = padded_away(flat, ones[0, 0], box, 1.0)
    for method in ("auto", "box", "separable", "direct"):
        np.testing.assert_allclose(sp.uniform(flat, (3, 41), method=method, **away), wanted, rtol=1e-12)
    np.testing.assert_allclose(ndi.uniform_filter(flat, (3, 41), **away), wanted, rtol=1e-12)
    wide = ndi.uniform_filter(flat.astype(np.longdouble), (3, 41), **away)
    np.testing.assert_allclose(wide.astype(float), wanted, rtol=1e-12)
    together = flat * (1 + 2j)
    found = sp.uniform(together, (3, 41), mode="constant", cval=complex(np.nan, 0), nan="omit")
    np.testing.assert_allclose(found, wanted * (1 + 2j), rtol=1e-12)
    plan = sp.plan(box, flat.shape, "float64", mode="constant", cval=np.nan)
    np.testing.assert_allclose(plan(flat, nan="omit"), wanted, rtol=1e-12)
    assert np.isnan(plan(flat)[0]).all()  # NaN that is not left out is a number like others


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_more_axes_than_one_sweep_takes(dtype) -> None:
    """Four filtered axes, with holes and with weights that float32 does not hold."""
    x = np.full((5, 6, 7, 40), np.nan, dtype)
    x[2, 3, 3, 20] = 1e-30
    found = sp.gaussian(x, (0.3, 0.3, 0.3, 1.0), truncate=12.0, nan="omit", mode="constant")
    assert found[2, 3, 3, 20] == pytest.approx(1e-30, rel=1e-5)
    known = sp.gaussian(x, (0.3, 0.3, 0.3, 1.0), truncate=12.0, nan="omit", mode="constant", cval=np.nan)
    np.testing.assert_allclose(known[:, :, :, 8:33], 1e-30, rtol=1e-5)
    full = np.random.default_rng(9).uniform(1, 2, x.shape).astype(dtype)
    plain = sp.gaussian(full, 1.0)
    mask = np.ones(x.shape, bool)
    np.testing.assert_array_equal(sp.gaussian(full, 1.0, mask=mask), plain)
    mask[0, 0, 0, 0] = False
    far = sp.gaussian(full, 1.0, mask=mask)[..., 9:]
    np.testing.assert_array_equal(far, plain[..., 9:])
