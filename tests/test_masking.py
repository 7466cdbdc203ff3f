"""Masks and NaN left out: normalised convolution against its definition, on every instruction set."""

from __future__ import annotations

import numpy as np
import pytest
from reference import MODES, correlate_dense

import separable as sp

METHODS = ("separable", "direct")
CVAL = 2.0


def normalised(x, weights, known, mode):
    """sum(w) * sum(w m x) / sum(w m) with the outside of the array known, NaN where nothing is."""
    sums = correlate_dense(np.where(known, x, 0), weights, mode, CVAL)
    there = correlate_dense(known.astype(float), weights, mode, 1.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(there > 0, sums * weights.sum() / there, np.nan)


def smoothing(taps, seed=0):
    rng = np.random.default_rng(seed)
    return sp.SeparableKernel([[rng.uniform(0.1, 1, n) for n in taps]])


def compare(found, wanted):
    rtol = 3e-5 if found.dtype in (np.float32, np.complex64) else 1e-12
    np.testing.assert_array_equal(np.isnan(found), np.isnan(wanted))
    np.testing.assert_allclose(np.nan_to_num(found), np.nan_to_num(wanted), rtol=rtol, atol=rtol)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("shape", "taps"),
    [
        ((70,), (5,)),
        ((9, 53), (4, 7)),
        ((40, 70), (9, 9)),
        ((9, 53), (1, 7)),
        ((23, 53), (7, 1)),
        ((6, 17, 35), (5, 3, 9)),
        ((6, 17, 35), (5, 1, 9)),
        ((6, 17, 35), (5, 3, 1)),
        ((30, 31, 3), (5, 4, 1)),
        ((3, 4), (9, 9)),
    ],
)
def test_the_definition(target, shape, taps, method, mode):
    kernel = smoothing(taps)
    rng = np.random.default_rng(1)
    full = rng.uniform(1, 200, shape)
    for share, dtype in ((0.01, "f4"), (0.3, "f8"), (0.97, "f4"), (0.5, "u1")):
        known = rng.random(shape) >= share
        x = full.astype(dtype)
        wanted = normalised(x, kernel.dense(), known, mode)
        if dtype != "u1":
            x[~known] = np.nan
            compare(sp.correlate(x, kernel, mode=mode, cval=CVAL, method=method, nan="omit"), wanted)
        found = sp.correlate(x, kernel, mode=mode, cval=CVAL, method=method, mask=known)
        compare(found, wanted)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", ["f4", "f8", "u1", "c8"])
def test_a_mask_that_hides_nothing_changes_no_bit(dtype, method):
    x = np.random.default_rng(2).uniform(0, 200, (40, 300)).astype(dtype)
    for taps in ((9, 9), (3, 3), (1, 5), (5, 1)):
        plain = sp.correlate(x, smoothing(taps), method=method)
        for keywords in ({"mask": np.ones(x.shape, bool)}, {"mask": True}, {"nan": "omit"}):
            np.testing.assert_array_equal(sp.correlate(x, smoothing(taps), method=method, **keywords), plain)
    if dtype == "u1":
        stored = sp.uniform(x, 3, output=dtype, rounding="truncate", method=method)
        again = sp.uniform(x, 3, output=dtype, rounding="truncate", method=method, mask=True)
        np.testing.assert_array_equal(again, stored)


@pytest.mark.parametrize("method", METHODS)
def test_what_lies_out_of_reach_is_that_of_the_plain_filter(method):
    x = np.random.default_rng(3).standard_normal((90, 700)).astype(np.float32)
    kernel = smoothing((9, 9))
    plain = sp.correlate(x, kernel, method=method)
    x[40, 300] = np.nan
    found = sp.correlate(x, kernel, method=method, nan="omit")
    reached = np.zeros(x.shape, bool)
    reached[36:45, 296:305] = True
    np.testing.assert_array_equal(found[~reached], plain[~reached])
    assert np.isfinite(found).all()


def test_layouts_and_broadcast_masks():
    rng = np.random.default_rng(4)
    x, known = rng.uniform(1, 2, (12, 30, 40)), rng.random((12, 30, 40)) > 0.2
    kernel = smoothing((3, 4, 5))
    wanted = normalised(x, kernel.dense(), known, "mirror")
    for turn in (lambda a: np.asfortranarray(a), lambda a: a[::-1, :, ::-1].copy()[::-1, :, ::-1]):
        compare(sp.correlate(turn(x), kernel, mode="mirror", mask=known), wanted)
        compare(sp.correlate(x, kernel, mode="mirror", mask=turn(known)), wanted)
        output = turn(np.zeros(x.shape))
        sp.correlate(x, kernel, mode="mirror", mask=known, output=output)
        compare(output, wanted)
    for mask in (known[0], known[:, :1], known[0, 0]):
        full = np.broadcast_to(mask, x.shape)
        compare(sp.correlate(x, kernel, mask=mask), normalised(x, kernel.dense(), full, "reflect"))


@pytest.mark.parametrize("cval", [0.0, 2.0 + 1.0j])
def test_complex_samples_are_unknown_together(cval):
    rng = np.random.default_rng(5)
    x = rng.uniform(1, 2, (20, 31)) + 1j * rng.uniform(1, 2, (20, 31))
    known = rng.random(x.shape) > 0.1
    kernel = smoothing((3, 5))
    sums = correlate_dense(np.where(known, x, 0), kernel.dense(), "constant", cval)
    there = correlate_dense(known.astype(float), kernel.dense(), "constant", 1.0)
    x[~known] = complex(np.nan, 1)
    found = sp.correlate(x, kernel, mode="constant", cval=cval, nan="omit")
    compare(found, sums * kernel.dense().sum() / there)


@pytest.mark.parametrize("mode", ["reflect", "constant"])
def test_four_axes_and_several_terms(mode):
    rng = np.random.default_rng(6)
    x, known = rng.uniform(1, 2, (4, 5, 6, 19)), rng.random((4, 5, 6, 19)) > 0.2
    kernel = smoothing((3, 2, 3, 5))
    found = sp.correlate(x, kernel, mode=mode, cval=CVAL, mask=known, method="separable")
    compare(found, normalised(x, kernel.dense(), known, mode))
    first, second = smoothing((3, 5)).terms[0], [np.array([0.01, 0.0, -0.01]), np.array([1.0, 0, 0, 0, -1.0])]
    several = sp.SeparableKernel([first, second])
    assert several.dense().min() > 0
    compare(
        sp.correlate(x[0, 0], several, mode=mode, cval=CVAL, mask=known[0, 0]),
        normalised(x[0, 0], several.dense(), known[0, 0], mode),
    )
    with pytest.raises(ValueError, match="this kernel runs with method='direct'"):
        sp.correlate(x[0, 0], several, mask=known[0, 0], method="separable")


def test_large_arrays_on_several_threads():
    rng = np.random.default_rng(7)
    x = rng.uniform(1, 2, (700, 2300)).astype(np.float32)
    known = rng.random(x.shape) > 0.01
    known[200:500, 800:1900] = False
    kernel = smoothing((9, 11))
    values = sp.correlate(np.where(known, x, 0).astype(float), kernel)
    there = sp.correlate(known.astype(float), kernel)
    with np.errstate(invalid="ignore"):
        wanted = np.where(there > 0, values / there, np.nan) * kernel.dense().sum()
    for threads in (1, 3):
        found = sp.correlate(x, kernel, mask=known, threads=threads)
        compare(found, wanted)


@pytest.mark.parametrize("rounding", ["nearest", "truncate"])
def test_integers_where_nothing_is_known_are_0(rounding):
    x = np.full((20, 60), 200, np.uint8)
    mask = np.ones(x.shape, bool)
    mask[5:15, 20:40] = False
    found = sp.uniform(x, 3, output="u1", mask=mask, rounding=rounding)
    inner = np.zeros(x.shape, bool)
    inner[6:14, 21:39] = True
    assert (found[inner] == 0).all()
    assert (found[~inner] == 200).all()


def test_empty_arrays_and_single_samples():
    assert sp.gaussian(np.zeros((0, 4)), 1, nan="omit").shape == (0, 4)
    assert np.isnan(sp.gaussian(np.full((1, 1), np.nan), 1, nan="omit")).all()
    np.testing.assert_array_equal(sp.uniform(np.array([np.nan, 4.0]), 3, nan="omit"), [4, 4])


def test_what_cannot_be_normalised_is_refused():
    x = np.zeros((6, 7), np.float32)
    for keywords in ({"nan": "omit"}, {"mask": True}):
        with pytest.raises(ValueError, match="negative weights: derivatives cannot be normalised"):
            sp.gaussian(x, 1, order=(0, 1), **keywords)
        with pytest.raises(ValueError, match="negative weights"):
            sp.correlate(x, np.diag([1.0, -1.0, 1.0]), **keywords)
        with pytest.raises(ValueError, match="no weight that is not 0"):
            sp.correlate(x, np.zeros((3, 3)), **keywords)
    with pytest.raises(TypeError, match="`mask` has dtype int64; expected bool"):
        sp.gaussian(x, 1, mask=np.ones((6, 7), np.int64))
    with pytest.raises(ValueError, match=r"`mask` has shape \(7, 6\), which does not broadcast"):
        sp.gaussian(x, 1, mask=np.ones((7, 6), bool))
    with pytest.raises(ValueError, match="`nan='skip'` is unknown; expected 'propagate' or 'omit'"):
        sp.gaussian(x, 1, nan="skip")


@pytest.mark.parametrize("method", ["box", "auto"])
def test_boxes_and_approximations_are_normalised_too(method):
    rng = np.random.default_rng(8)
    x = rng.uniform(1, 2, (40, 150))
    known = rng.random(x.shape) > 0.3
    x[~known] = np.nan
    box = sp.uniform(x, (3, 71), nan="omit", method=method)
    compare(box, normalised(np.nan_to_num(x), sp.families.box((3, 71)).dense(), known, "reflect"))
    wide = sp.families.gaussian(30.0, ndim=1)
    assert sp.plan(wide, x.shape, x.dtype, axes=1, tol=1e-3).method == "recursive"
    found = sp.gaussian(x, 30.0, axes=1, tol=1e-3, nan="omit")  # by the taps themselves: little may be known
    compare(found, sp.gaussian(x, 30.0, axes=1, nan="omit"))
    with pytest.raises(ValueError, match="runs with method='separable', but method is 'recursive'"):
        sp.gaussian(x, 30.0, axes=1, method="recursive", nan="omit")
