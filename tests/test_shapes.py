"""Shapes: differences over running sums are exact in whole numbers, bounded in floats, and forget NaN."""

from __future__ import annotations

import copy
import pickle
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import MODES, convolve_dense, correlate_dense

import separable as sp
from separable import _core
from separable.filters.planner import choose
from separable.methods.algorithms.piecewise import PiecewiseForm, piecewise_form
from separable.methods.method import Ask, Setting

Array = npt.NDArray[Any]
CODES = {name: code for code, name in enumerate(MODES)}
SMALL, LARGE = "?bBhH", "iIqQfd"  # summed modulo 2**32, and in float64


def disk(radius: float, ndim: int = 2) -> Array:
    edge = int(radius)
    squares = np.meshgrid(*[np.arange(-edge, edge + 1) ** 2] * ndim, indexing="ij")
    return (sum(squares) <= radius**2).astype(float)


def form_of(kernel: Any) -> PiecewiseForm:
    form = piecewise_form(kernel)
    assert form is not None
    return form


def job_of(shape: tuple[int, ...], weights: Array, axis: int, shifts: tuple[int, ...], mode: str) -> Any:
    return _core.DifferencesJob(shape, weights, axis, shifts, (CODES[mode],) * len(shape), -3.0, 1.0)


SHAPES = [
    (1,),
    (40,),
    (300,),
    (7, 9),
    (33, 70),
    (70, 33),
    (1, 90),
    (90, 2),
    (4, 50, 60),
    (20, 9, 3),
    (2, 3, 20, 52),
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_whole_numbers_are_summed_exactly_at_every_border(target: str, shape: tuple[int, ...]) -> None:
    """Kernels longer than the array too, along every axis, items of every kind, few and many levels."""
    rng = np.random.default_rng(len(shape) * 1000 + shape[-1])
    for turn, mode in enumerate(MODES):
        for axis in range(len(shape)):
            most = (50, 12, 6, 4)[len(shape) - 1]
            taps = tuple(int(n) for n in rng.integers(1 + (np.arange(len(shape)) == axis), most))
            shifts = tuple(int(rng.integers(0, n)) for n in taps)
            weights = rng.integers(-1 - turn, 2 + turn, taps) * rng.integers(0, 2, taps).astype(float)
            job = job_of(shape, weights, axis, shifts, mode)
            origin = [shift - n // 2 for shift, n in zip(shifts, taps, strict=True)]
            for items in (SMALL, LARGE):
                dtype = np.dtype(items[int(rng.integers(len(items)))])
                low, high = (0, 2) if dtype.kind == "b" else (0 if dtype.kind == "u" else -100, 101)
                x = rng.integers(low, high, shape).astype(dtype)
                want = correlate_dense(x.astype(float), weights, mode, -3.0, origin)
                for threads in (1, 3):
                    got = np.full(shape, np.nan)
                    job.run(x, got, threads)
                    assert np.array_equal(got, want), (mode, axis, taps, dtype)


@pytest.mark.parametrize("layout", ["reversed", "fortran", "every other", "moved axes"])
def test_any_strides(target: str, layout: str) -> None:
    shapes = {
        "reversed": lambda a: a[::-1, ::-1],
        "fortran": np.asfortranarray,
        "every other": lambda a: np.repeat(np.repeat(a, 2, 0), 2, 1)[::2, ::2],
        "moved axes": lambda a: np.ascontiguousarray(np.moveaxis(a, 0, -1)).transpose(2, 0, 1),
    }
    base = np.random.default_rng(3).integers(0, 255, (40, 19, 33))
    weights = disk(3, 3)
    want = correlate_dense(base.astype(float), weights, "mirror")
    for dtype in (np.uint8, np.int32, np.float64):
        for axis in range(3):
            x, out = (
                shapes[layout](np.zeros_like(base, dtype)),
                shapes[layout](np.zeros(base.shape, np.float32)),
            )
            x[...] = base
            job_of(x.shape, weights, axis, (3, 3, 3), "mirror").run(x, out, 1)
            assert np.array_equal(out, want)
            assert np.array_equal(x, base)


def test_pixels_of_several_channels(target: str) -> None:
    x = np.random.default_rng(4).integers(0, 255, (30, 37, 3), np.uint8)
    want = correlate_dense(x.astype(float), disk(4)[..., None])
    for given_ in (x, x.astype(float)):
        got = sp.correlate(given_, disk(4), axes=(0, 1), method="box", output="float64")
        assert np.array_equal(got, want)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "uint32"])
def test_the_largest_numbers(target: str, dtype: str) -> None:
    """Where results leave 32 bits, and where they nearly do."""
    weights = disk(12)
    x = np.full((27, 75), np.iinfo(dtype).max, dtype)
    x[::7, ::11] = np.iinfo(dtype).min
    for scale in (1.0, 70.0, 75.0, 400.0, 50000.0):  # 2**31 / (441 * 65535) is 74.3
        if form_of(weights * scale).exact_limit(np.dtype(float)) < np.iinfo(dtype).max:
            continue
        want = correlate_dense(x.astype(float), weights * scale)
        assert np.array_equal(sp.correlate(x, weights * scale, method="box", output="float64"), want), scale
    beyond = sp.correlate(x, weights, method="box", mode="constant", cval=2.0**23, output="float64")
    assert np.array_equal(beyond, correlate_dense(x.astype(float), weights, "constant", 2.0**23))


def test_means_are_divided_once() -> None:
    x = np.random.default_rng(5).integers(0, 256, (40, 50)).astype(np.uint8)
    weights = disk(5)
    sums = correlate_dense(x.astype(float), weights)
    means = [Fraction(int(value), int(weights.sum())) for value in sums.ravel()]
    kernel = weights / weights.sum()
    plan = sp.plan(kernel, x.shape, "uint8", method="box")
    for dtype in (np.uint8, np.int16, np.int32):
        source = x.astype(dtype)
        nearest = sp.correlate(source, kernel, method="box", output=dtype)
        assert nearest.ravel().tolist() == [round(mean) for mean in means]
        down = sp.correlate(source, kernel, method="box", output=dtype, rounding="truncate")
        assert down.ravel().tolist() == [int(mean) for mean in means]
    exact = np.array([float(mean) for mean in means]).reshape(x.shape)
    assert np.array_equal(sp.correlate(x, kernel, method="box", output="float64"), exact)
    assert np.array_equal(plan(x), exact.astype(np.float32))


RING = disk(4) - np.pad(disk(1), 3)
STEEP = np.tri(9, 4)  # fewer differences down its columns


@pytest.mark.parametrize("weights", [disk(4), RING, STEEP], ids=["disk", "ring", "steep"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_stays_in_its_windows(target: str, weights: Array, value: float) -> None:
    assert form_of(weights).axis == (0 if weights is STEEP else 1)
    x = np.random.default_rng(6).integers(0, 1000, (70, 300)).astype(float)
    clean = sp.correlate(x, weights, method="box")
    x[30, 100] = x[33, 0] = x[69, 299] = value
    got = sp.correlate(x, weights, method="box")
    hit = sp.correlate(~np.isfinite(x), weights, method="direct", output="int64") > 0
    assert np.array_equal(got[~hit], clean[~hit])
    assert np.array_equal(np.isnan(got) if np.isnan(value) else got == value, hit)
    x[33, 7] = -value
    hit = sp.correlate(~np.isfinite(x), weights, method="direct", output="int64") > 0
    assert np.array_equal(np.isfinite(sp.correlate(x, weights, method="box")), ~hit)


def test_volumes_forget_too(target: str) -> None:
    x = np.random.default_rng(7).integers(0, 99, (25, 20, 70)).astype(float)
    ball = disk(3, 3)
    clean = correlate_dense(x, ball)
    x[12, 10, 30] = np.nan
    got = sp.correlate(x, ball, method="box")
    hit = sp.correlate(np.isnan(x), ball, method="direct", output="int64") > 0
    assert np.array_equal(np.where(hit, 0, got), np.where(hit, 0, clean))
    assert np.isnan(got[hit]).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_threads_give_the_same_results(dtype: str) -> None:
    rng = np.random.default_rng(8)
    for weights in (disk(6), np.tri(30, 4), disk(3, 3)):
        x = rng.standard_normal((400, 150) if weights.ndim == 2 else (40, 50, 60)).astype(dtype)
        x[tuple(n // 2 for n in x.shape)] = np.nan
        one, *others = (sp.correlate(x, weights, method="box", threads=threads) for threads in (1, 2, 3))
        assert all(np.array_equal(one, other, equal_nan=True) for other in others)


@pytest.mark.parametrize("items", ["random", "signs", "one", "tiny", "huge"])
def test_fixed_point_stays_within_the_stated_error(target: str, items: str) -> None:
    rng = np.random.default_rng(12)
    for weights in (
        disk(3) / 29,
        disk(12),
        np.tri(40, 7) - 3 * np.tri(40, 7, -20),
        disk(3, 3),
        disk(9) * 100,
    ):
        shape = (60, 75) if weights.ndim == 2 else (20, 18, 30)
        x = {
            "random": rng.uniform(-1, 1, shape),
            "signs": np.resize(np.sign(weights.ravel()), shape) * 0.7,
            "one": np.full(shape, 1 - 2.0**-24),
            "tiny": rng.uniform(-1, 1, shape) * 1e-29,
            "huge": rng.uniform(-1, 1, shape) * 1e30,
        }[items].astype(np.float32)
        for mode, cval in (("mirror", 0.0), ("constant", -2.5 * float(x.flat[0]))):
            p = sp.plan(weights, shape, tol=1e-2, mode=mode, cval=cval, method="box")
            assert 2.0**-22 <= p.error.relative_l1 < 1e-3
            want = correlate_dense(x, weights, mode, cval)
            largest = max(float(np.abs(x).max()), abs(cval))
            rounded = 1.01 * 2.0**-24 * np.abs(want)  # the result is float32
            assert np.all(np.abs(p(x) - want) <= p.error.l1 * largest + rounded)
            assert np.array_equal(p(x, threads=2), p(x, threads=1))


def test_fixed_point_is_left_where_it_cannot_be(target: str) -> None:
    """What is not finite, what has no scale in float32, and what is exact anyway."""
    weights = disk(6)
    p = sp.plan(weights, (60, 70), tol=1e-5, method="box")
    assert p.error.relative_l1 == 2.0**-22
    x = np.random.default_rng(13).standard_normal((60, 70)).astype(np.float32)
    x[5, 6], x[50, 60] = np.nan, -np.inf
    assert np.array_equal(p(x), sp.correlate(x, weights, method="box"), equal_nan=True)
    for nothing in (np.zeros((60, 70), np.float32), np.full((60, 70), 1e-38, np.float32)):
        assert np.array_equal(p(nothing), sp.correlate(nothing, weights, method="box"))
    whole = np.random.default_rng(14).integers(0, 65536, (60, 70)).astype(np.uint16)
    assert np.array_equal(p(whole, "float64"), correlate_dense(whole.astype(float), weights))
    finite = np.nan_to_num(x, posinf=1, neginf=1)
    strided = np.repeat(np.repeat(finite, 2, 0), 3, 1)[::-2, ::3]
    assert np.array_equal(p(strided), p(np.ascontiguousarray(strided)))
    assert not np.array_equal(p(finite), sp.correlate(finite, weights, method="box"))
    assert sp.plan(weights, (60, 70), "float64", tol=1e-5, method="box").error.relative_l1 < 1e-9


@given(st.integers(0, 2**32 - 1))
def test_floats_stay_within_the_stated_error(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape, taps = tuple(rng.integers(1, 80, 2)), tuple(rng.integers(2, 14, 2))
    weights = np.repeat(rng.uniform(-1, 1, (taps[0], 4)), 4, 1)[:, : taps[1]]
    form = piecewise_form(weights)
    if form is None:
        return
    x = rng.uniform(-1, 1, shape) * 10.0 ** rng.integers(-3, 4, shape)
    mode = MODES[int(rng.integers(5))]
    plan = sp.plan(weights, shape, "float64", mode=mode, method="box")
    assert plan.error == form.error_on_floats
    off = np.abs(plan(x) - correlate_dense(x, weights, mode)).max()
    assert off <= plan.error.l1 * np.abs(x).max()


@pytest.mark.parametrize("scale", [1.0, -2.0, 1 / 441, 0.3, 7.0, 1e-30, 2.0**100, np.pi])
def test_weights_are_whole_numbers_over_a_divisor(scale: float) -> None:
    form = form_of(disk(12) * scale)
    assert form.differences == 50
    assert np.array_equal(form.weights, np.rint(form.weights))
    assert np.abs(form.weights / form.divisor - disk(12) * scale).max() <= 2.0**-51 * abs(scale)
    assert form.exact
    assert (form.exact_limit(np.dtype(float)) > 2**31) == (scale != np.pi)


def test_the_axis_with_fewer_differences() -> None:
    line = np.eye(31)[:, np.arange(31) // 8]  # four columns wide at any height, eight of them a step
    assert (form_of(line).axis, form_of(line.T).axis) == (1, 0)
    assert form_of(np.array([3.0, 3.0, 3.0, 1.0, 1.0])).differences == 3
    steps = form_of(np.array([[2.0, 2.0, 2.0, 3.0], [2.0, 2.0, 2.0, 3.0]]))
    assert steps.weights.tolist() == [[2, 2, 2, 3], [2, 2, 2, 3]]
    nearly = form_of(np.array([0.1 + 0.2, 0.3, 0.3, 0.3, 0.6]))  # equal within rounding
    assert (nearly.differences, nearly.weights.tolist()) == (3, [3, 3, 3, 3, 6])


def test_no_shapes() -> None:
    for weights in (np.zeros((5, 5)), np.ones((1, 1)), np.eye(7), np.random.default_rng(0).random((9, 9))):
        assert piecewise_form(weights) is None
    with pytest.raises(ValueError, match="equal their neighbours"):
        sp.correlate(np.ones((30, 30)), np.arange(81.0).reshape(9, 9) ** 2, method="box")


def test_weights_that_are_no_multiples_are_bounded_only() -> None:
    form = form_of(np.repeat([[1.0, np.sqrt(2)], [np.pi, 0.1]], 6, 1))
    assert (form.exact, form.divisor, form.exact_limit(np.dtype(float))) == (False, 1.0, 0.0)


def test_convolution_flips_and_origins_move() -> None:
    x = np.random.default_rng(9).integers(0, 255, (40, 60)).astype(np.uint8)
    for weights in (np.tri(9, 6), np.tri(6, 11)[:, ::-1]):
        for origin in (0, (2, -3), (-3, 2)):
            want = convolve_dense(x, weights, "nearest", origin=origin)
            got = sp.convolve(x, weights, mode="nearest", origin=origin, method="box", output="float64")
            assert np.array_equal(got, want)


def test_complex_arrays_and_chosen_axes() -> None:
    rng = np.random.default_rng(10)
    z = rng.integers(-50, 50, (20, 30, 2)).astype(float).view(complex)[..., 0]
    want = correlate_dense(z, disk(3), "constant", 1 + 2j)
    assert np.array_equal(sp.correlate(z, disk(3), method="box", mode="constant", cval=1 + 2j), want)
    x = rng.integers(0, 255, (12, 7, 33)).astype(np.uint16)
    got = sp.correlate(x, np.tri(5, 4), axes=(2, 0), method="box", output="float64")
    assert np.array_equal(got, correlate_dense(x.astype(float), np.tri(5, 4).T[:, None]))


def test_unknown_samples_are_filtered_directly() -> None:
    x = np.random.default_rng(11).integers(0, 255, (50, 60)).astype(np.uint8)
    known = x > 9
    kernel = disk(8)
    assert sp.plan(kernel, x.shape, "uint8", method="box").terms == 0
    got = sp.correlate(x, kernel, mask=known)
    assert np.allclose(got, sp.correlate(x, kernel, mask=known, method="direct"), rtol=1e-6)
    with pytest.raises(ValueError, match="leave `method` out"):
        sp.correlate(x, kernel, mask=known, method="box")


def chosen(weights: Array, dtype: str, tol: float | None, whole: bool) -> str:
    shape = (512, 512)
    middle = tuple(n // 2 for n in weights.shape)
    setting = Setting(shape, np.dtype(dtype), (0, 1), weights.shape, middle, ("reflect",) * 2, 0.0, whole)
    return choose(Ask(weights, tol, setting), "auto").method


def test_the_plan_chooses_and_says() -> None:
    """Unasked where nothing is rounded; in floats within a tolerance only."""
    weights = disk(12) / 441
    assert chosen(weights, "float32", None, whole=True) == "box"
    assert chosen(weights, "float64", None, whole=True) == "box"
    assert chosen(weights, "float32", None, whole=False) != "box"
    assert chosen(weights, "float32", 1e-6, whole=False) == "box"
    assert chosen(weights, "float32", 1e-14, whole=False) != "box"
    uneven = np.random.default_rng(0).uniform(1, 2, (25, 25))
    assert chosen(weights * uneven, "float32", 1e-6, whole=True) != "box"
    assert chosen(disk(1), "float32", None, whole=True) != "box"
    p = sp.plan(weights, (300, 301), tol=1e-6)
    assert (p.method, p.terms, p.macs, p.dense_macs) == ("box", 0, 51, 625)
    assert p.error.relative_l1 == 2.0**-22
    assert p.scratch_bytes > 0
    x = np.random.default_rng(0).random((300, 301), dtype=np.float32)
    assert np.array_equal(pickle.loads(pickle.dumps(p))(x), p(x))
    p = sp.plan(weights, (300, 301), tol=1e-7, method="box")
    assert 0 < p.error.relative_l1 < 1e-9
    assert np.abs(p(x) - correlate_dense(x, weights)).max() <= 2.0**-24  # less than sums in float32


def test_costs_rise_with_the_differences() -> None:
    small, large = form_of(disk(5)), form_of(disk(25))
    for words in (False, True):
        assert small.nanoseconds(words=words) < large.nanoseconds(words=words)
    assert large.nanoseconds(words=True) < large.nanoseconds()
    assert large.fits_words(np.dtype(np.float32))
    assert not form_of(disk(25) * 100).fits_words(np.dtype(np.float32))
    assert copy.copy(large).flipped().weights.flags.c_contiguous


def test_a_job_refuses_what_it_cannot_do() -> None:
    weights = disk(2)
    for bad in (
        {"axis": 2},
        {"axis": -1},
        {"shifts": (2, 5)},
        {"modes": (0,)},
        {"weights": np.ones((5, 1))},
        {"modes": (0, 7)},
    ):
        told = {"weights": weights, "axis": 1, "shifts": (2, 2), "modes": (0, 0)} | bad
        with pytest.raises(ValueError, match=r"axis|axes|shift|mode"):
            _core.DifferencesJob(
                (9, 9), told["weights"], told["axis"], told["shifts"], told["modes"], 0.0, 1.0
            )
    job = job_of((9, 9), weights, 1, (2, 2), "wrap")
    with pytest.raises(TypeError, match="another shape"):
        job.run(np.ones((9, 8)), np.empty((9, 9)), 1)
    empty = job_of((0, 9), weights, 1, (2, 2), "wrap")
    empty.run(np.ones((0, 9)), np.empty((0, 9)), 1)
    assert empty.scratch_bytes(1) == 0
