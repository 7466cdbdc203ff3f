"""Plans: what they choose, what they say, and that they stay what they are."""

from __future__ import annotations

import copy
import dataclasses
import os
import pickle

import numpy as np
import pytest

import separable as sp
from separable.filters.cache import cached_plan
from separable.filters.request import Request

RNG = np.random.default_rng(2)
BINOMIAL = np.outer([1.0, 4, 6, 4, 1], [1.0, 2, 1])
SMOOTH = np.outer(np.hanning(13)[1:-1], np.hanning(11)[1:-1])
NOISE = RNG.standard_normal((9, 9))


def request(**changes):
    given = {
        "shape": (20, 30), "dtype": np.dtype("f4"), "mode": "reflect", "cval": 0.0, "origin": 0, "axes": None,
        "tol": None, "method": "auto", "flip": False,
    }  # fmt: skip
    return Request(**(given | changes))


def test_a_factoring_kernel_runs_as_passes():
    p = sp.plan(SMOOTH, (200, 300))
    assert (p.method, p.terms, p.macs, p.dense_macs) == ("separable", 1, 20, 99)
    assert (p.shape, p.dtype, p.axes, p.taps, p.modes) == (
        (200, 300),
        np.float32,
        (0, 1),
        (11, 9),
        ("reflect",) * 2,
    )
    assert 0 < p.error.relative_l1 < 1.2e-7  # of taps rounded to float32
    assert sp.plan(SMOOTH, (200, 300), "float64").error.relative_l1 < 1e-15


def test_a_kernel_that_does_not_factor_runs_directly():
    p = sp.plan(NOISE, (20, 30))
    assert (p.method, p.terms, p.macs, p.dense_macs) == ("direct", 0, 81, 81)
    assert 0 < p.error.relative_l1 < 6e-8
    assert sp.plan(NOISE, (20, 30), "float64").error == sp.ErrorBounds()


def test_a_kernel_that_nearly_factors_runs_as_passes_within_tol():
    weights = np.outer(np.hanning(15), np.hanning(15)) + 1e-4 * RNG.standard_normal((15, 15))
    p = sp.plan(weights, (20, 30), tol=0.01)
    assert (p.method, p.terms) == ("separable", 1)
    assert 1e-5 < p.error.relative_l1 <= 0.01
    assert sp.plan(weights, (20, 30)).method == "direct"


def test_few_weights_are_cheaper_than_many_terms():
    unit = np.eye(5)
    diagonal = sp.SeparableKernel([[row, row] for row in unit])
    for kernel in (unit, diagonal):
        p = sp.plan(kernel, (20, 30))
        assert (p.method, p.terms, p.macs, p.dense_macs) == ("direct", 0, 5, 25)
    forced = sp.plan(diagonal, (20, 30), method="separable")
    assert (forced.method, forced.terms, forced.macs) == ("separable", 5, 50)


@pytest.mark.parametrize("method", ["separable", "direct"])
@pytest.mark.parametrize("kernel", [BINOMIAL, sp.factor(BINOMIAL)], ids=["weights", "kernel"])
def test_the_method_can_be_named(method, kernel):
    x = RNG.standard_normal((20, 30))
    p = sp.plan(kernel, x.shape, x.dtype, method=method)
    assert p.method == method
    np.testing.assert_allclose(p(x), sp.plan(kernel, x.shape, x.dtype)(x), rtol=1e-13, atol=1e-12)


def test_the_direct_form_of_an_inexact_kernel_keeps_its_error():
    error = sp.ErrorBounds(0.5, 0.125, 0.1)
    kernel = sp.SeparableKernel([[[1.0, 2, 1], [1.0, 2, 1]]], error=error)
    assert sp.plan(kernel, (20, 30), method="direct").error == error
    assert sp.plan(kernel, (20, 30), tol=0.125, method="separable").error == error


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_a_mean_of_any_size_maps_ones_to_no_more_than_one(dtype):
    """Images in [0, 1] stay there; a disk of 317 equal weights was corrected in vain, six times."""
    for radius in np.arange(1, 14, 0.5):
        disk = sp.families.disk(radius)
        for weights in (disk, disk / disk.sum()):
            ones = sp.correlate(np.ones((40, 70), dtype), weights, method="direct")
            assert ones.max() <= 1, radius
            # Sums of equal numbers in a row are rounded in one direction.
            assert ones.min() >= 1 - np.count_nonzero(disk) * np.finfo(dtype).eps, radius


def test_explain_tells_the_errors_that_plans_have():
    for weights in (sp.families.disk(10), BINOMIAL / BINOMIAL.sum(), NOISE):
        for dtype in ("u1", "f4", "f8"):
            for candidate in sp.plan(weights, (300, 300), dtype).explain().candidates:
                if candidate.error is not None:
                    plan = sp.plan(weights, (300, 300), dtype, method=candidate.method)
                    assert candidate.error == plan.error, (candidate.method, dtype)


def test_print_reads_like_a_plan():
    p = sp.plan(BINOMIAL, (20, 30), mode=("wrap", "nearest"), method="separable", threads=1)
    lines = str(p).splitlines()
    assert lines[0] == "5x3 kernel on (20, 30) float32: separable, 1 term"
    assert lines[1].split()[:5] == ["axis", "1", "3", "taps", "nearest"]
    assert lines[2].split()[:5] == ["axis", "0", "5", "taps", "wrap"]
    assert lines[1].split()[5:] == lines[2].split()[5:] == ["symmetric"]
    assert lines[3] == "  8 MACs per sample, dense 15, 1.88x fewer"
    assert lines[4].startswith("  kernel's relative l1 error at most ")
    assert lines[5].startswith("  1 thread, scratch ")
    assert lines[5].endswith(f", {sp.core_info()['target']}")
    assert repr(p) == "<Plan separable, shape (20, 30), float32, 8 MACs per sample>"
    assert str(sp.plan(NOISE, (20, 30))).startswith("9x9 kernel on (20, 30) float32: direct\n")


def test_print_of_a_plan_for_an_empty_array():
    assert str(sp.plan(BINOMIAL, (0, 30), method="separable")).startswith(
        "5x3 kernel on (0, 30) float32: separable, 1 term\n"
    )


def test_a_plan_is_frozen():
    p = sp.plan(BINOMIAL, (20, 30))
    with pytest.raises(dataclasses.FrozenInstanceError):
        p.threads = 4
    assert copy.copy(p) is p
    assert copy.deepcopy(p) is p


@pytest.mark.parametrize("kernel", [BINOMIAL, NOISE, sp.factor(BINOMIAL)], ids=["factors", "dense", "kernel"])
def test_a_plan_survives_pickling(kernel):
    x = RNG.standard_normal((20, 30))
    p = sp.plan(kernel, x.shape, "f8", mode=["wrap", "constant"], cval=2, origin=(1, 0), threads=1)
    again = pickle.loads(pickle.dumps(p))
    assert str(again) == str(p)
    np.testing.assert_array_equal(again(x), p(x))


def test_a_plan_does_not_follow_its_arguments():
    weights = BINOMIAL.copy()
    modes = ["wrap", "wrap"]
    x = RNG.standard_normal((20, 30))
    for method in ("separable", "direct"):
        p = sp.plan(weights, x.shape, "f8", mode=modes, method=method)
        expected = p(x)
        weights[:] = 7.0
        modes[:] = ["nearest", "mirror"]
        np.testing.assert_array_equal(p(x), expected)
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(p))(x), expected)
        weights[:] = BINOMIAL
        modes[:] = ["wrap", "wrap"]


def test_calls_are_checked_against_the_plan():
    p = sp.plan(BINOMIAL, (20, 30))
    with pytest.raises(ValueError, match=r"`x` has shape \(30, 20\), but the plan is for \(20, 30\)"):
        p(np.zeros((30, 20), np.float32))
    with pytest.raises(
        TypeError, match=r"`x` is int32, which is filtered in float64, but the plan is for float32"
    ):
        p(np.zeros((20, 30), np.int32))
    with pytest.raises(ValueError, match=r"`threads=0` is too few"):
        p(np.zeros((20, 30), np.float32), threads=0)
    with pytest.raises(TypeError, match="masked array"):
        p(np.ma.zeros((20, 30), np.float32))


def test_a_plan_takes_every_dtype_it_computes_for():
    ramp = np.arange(600).reshape(20, 30) % 200
    p = sp.plan(BINOMIAL, (20, 30), "uint8")
    assert p.dtype == np.float32
    expected = p(ramp.astype(np.float32))
    for dtype in ("u1", "i2", ">f4", "f2"):
        np.testing.assert_array_equal(p(ramp.astype(dtype)), expected)
    np.testing.assert_array_equal(p((ramp % 2).astype(bool)), p((ramp % 2).astype(np.float32)))
    double = sp.plan(BINOMIAL, (20, 30), "float64")
    np.testing.assert_array_equal(double(ramp.astype(np.float32)), double(ramp.astype(np.int64)))


@pytest.mark.parametrize("dtype", [object, "U3", "M8[s]", np.longdouble, "V4"])
def test_a_plan_for_what_holds_no_numbers_is_refused(dtype):
    with pytest.raises(TypeError, match=r"does not hold numbers|wider than float64"):
        sp.plan(BINOMIAL, (20, 30), dtype)


def test_threads_are_capped_by_the_work():
    assert sp.plan(BINOMIAL, (20, 30), threads=64).threads == 1
    big = sp.plan(BINOMIAL, (4096, 4096), threads=3)
    assert big.threads == 3
    assert sp.plan(BINOMIAL, (4096, 4096), threads=1).threads == 1
    assert big.scratch_bytes >= sp.plan(BINOMIAL, (4096, 4096), threads=1).scratch_bytes


def test_threads_are_capped_by_the_machine():
    many = sp.plan(BINOMIAL, (1 << 15, 1 << 15), threads=10**6)
    assert many.threads == max(64, os.cpu_count() or 1)


def test_planning_takes_no_memory_for_the_array():
    p = sp.plan(BINOMIAL, (1 << 20, 1 << 20))
    assert p.scratch_bytes < 1 << 30


def test_repeated_filters_find_their_plan():
    kernel = sp.factor(BINOMIAL)
    first = cached_plan(kernel, request())
    assert cached_plan(kernel, request()) is first
    assert cached_plan(sp.factor(BINOMIAL), request()) is first
    assert cached_plan(kernel, request(mode=["reflect", "wrap"])) is cached_plan(
        kernel, request(mode=("reflect", "wrap"))
    )
    assert cached_plan(kernel, request(flip=True)) is not first
    assert cached_plan(BINOMIAL, request()) is cached_plan(BINOMIAL.copy(), request())
    assert cached_plan(BINOMIAL.tolist(), request()) is cached_plan(BINOMIAL, request())
    assert cached_plan(BINOMIAL.T.copy().T, request()) is cached_plan(BINOMIAL, request())
    assert cached_plan(BINOMIAL, request()) is not cached_plan(BINOMIAL.astype(np.float32) + 1, request())


def test_large_dense_weights_are_not_kept():
    weights = np.ones((1, 20000))
    wide = request(shape=(64, 30000))
    assert cached_plan(weights, wide) is not cached_plan(weights, wide)
    assert cached_plan(weights, wide).method == "box"


@pytest.mark.parametrize("scale", [1e-60, 1e60, 1e-300, 1e300])
@pytest.mark.parametrize("mode", ["reflect", "constant"])
def test_taps_out_of_balance_stay_in_the_range_of_float32(scale, mode):
    taps = np.array([1.0, 2.0, -1.0])
    x = RNG.standard_normal((12, 13)).astype(np.float32)
    skewed = sp.SeparableKernel([[taps * scale, taps / scale], [taps / scale, taps * scale]])
    balanced = sp.SeparableKernel([[taps, taps], [taps, taps]])
    found = sp.correlate(x, skewed, mode=mode, cval=3, method="separable")
    expected = sp.correlate(x, balanced, mode=mode, cval=3, method="separable")
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    with_single = sp.SeparableKernel([[taps * scale, taps, [1 / scale]]])
    np.testing.assert_allclose(
        sp.correlate(x[..., None], with_single, mode=mode, cval=3, method="separable")[..., 0],
        expected / 2,
        rtol=1e-5,
        atol=1e-5,
    )
