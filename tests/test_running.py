"""Running sums: boxes are exact, cosines keep their bound, at every border, on every instruction set."""

from __future__ import annotations

import pickle
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from reference import MODES, continued, correlate_dense

import separable as sp
from separable import _core, families
from separable.methods.box import box_form
from separable.methods.cosines import MAX_COSINES, fit_cosines, recursive_form

Array = npt.NDArray[Any]
CODES = {name: code for code, name in enumerate(MODES)}


def box_sums(x: Array, taps: tuple[int, ...], shifts: tuple[int, ...], mode: str, cval: float) -> Array:
    """Sum windows in long double, x continued as `mode` says."""
    tables = [
        np.array([continued(i - s, n, mode) for i in range(n + t - 1)])
        for n, t, s in zip(x.shape, taps, shifts, strict=True)
    ]
    padded = x.astype(np.longdouble)[np.ix_(*tables)]
    for axis, table in enumerate(tables):
        padded[(slice(None),) * axis + (np.flatnonzero(table < 0),)] = cval
    for axis, t in enumerate(taps):
        padded = np.lib.stride_tricks.sliding_window_view(padded, t, axis).sum(-1)
    return padded


def boxes(shape: tuple[int, ...], taps: tuple[int, ...], shifts: tuple[int, ...], mode: str, cval: float):
    each = zip(range(len(shape)), taps, shifts, strict=True)
    return _core.BoxAndCosinesJob(
        shape, [(a, n, s, CODES[mode], False, [], []) for a, n, s in each], cval, 1.0, 1.0
    )


SHAPES = [(1,), (2,), (37,), (33, 70), (70, 33), (5, 4, 37), (20, 9, 3), (3, 1, 40), (2, 3, 4, 5), (1, 300)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_sums_of_integers_are_exact_at_every_border(target: str, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(7)
    for mode in MODES:
        for most in (4, 50):
            taps = tuple(int(n) for n in rng.integers(1, most, len(shape)))
            shifts = tuple(int(rng.integers(0, n)) for n in taps)
            x = rng.integers(-(2**20), 2**20, shape).astype(np.float64)
            want = box_sums(x, taps, shifts, mode, 3.0)
            got = np.empty(shape)
            boxes(shape, taps, shifts, mode, 3.0).run(x, got, 1)
            assert np.array_equal(got, want)
            small = (x / 2**10).astype(np.int16).astype(np.float32)  # sums below 2**24 times a power of two
            got32 = np.empty(shape, np.float32)
            boxes(shape, taps, shifts, mode, 3.0).run(small, got32, 2)
            exact = box_sums(small, taps, shifts, mode, 3.0)
            assert np.abs(got32 - exact).max() <= len(shape) * 2.0**-24 * np.abs(exact).max()


@pytest.mark.parametrize("layout", ["reversed", "fortran", "every other", "moved axes"])
def test_any_strides(target: str, layout: str) -> None:
    rng = np.random.default_rng(3)
    shapes = {
        "reversed": lambda a: a[::-1, ::-1],
        "fortran": lambda a: np.asfortranarray(a),
        "every other": lambda a: np.repeat(np.repeat(a, 2, 0), 2, 1)[::2, ::2],
        "moved axes": lambda a: np.ascontiguousarray(np.moveaxis(a, 0, -1)).transpose(2, 0, 1),
    }
    base = rng.integers(0, 255, (40, 19, 33))
    for dtype in (np.uint8, np.float32, np.float64):
        x = shapes[layout](base.astype(dtype))
        out = shapes[layout](np.zeros(base.shape))
        boxes(x.shape, (5, 2, 17), (2, 1, 0), "mirror", 0.0).run(x, out, 1)
        assert np.array_equal(out, box_sums(x, (5, 2, 17), (2, 1, 0), "mirror", 0.0))
        assert np.array_equal(x, shapes[layout](base.astype(dtype)))


def test_every_item_is_read_and_stored_exactly() -> None:
    rng = np.random.default_rng(5)
    for code in "?bBhHiIqQfd":
        dtype = np.dtype(code)
        high = 1 if code == "?" else 100
        x = rng.integers(0, high + 1, (21, 34)).astype(dtype)
        sums = box_sums(x, (3, 5), (1, 2), "nearest", 0.0)
        job = _core.BoxAndCosinesJob(
            (21, 34), [(0, 3, 1, 2, False, [], []), (1, 5, 2, 2, False, [], [])], 0.0, 1.0, 15.0
        )
        for truncate in (False, True):
            got = np.empty(x.shape, dtype)
            job.run(x, got, 1, truncate, False)
            mean = [Fraction(int(s), 15) for s in sums.ravel()]
            whole = [int(m) if truncate else round(m) for m in mean]
            want = np.array(mean, float).astype(dtype) if dtype.kind == "f" else np.array(whole).astype(dtype)
            assert np.array_equal(got.ravel(), want if code != "?" else np.array(whole) > 0), (code, truncate)


def test_integers_saturate_or_wrap() -> None:
    x = np.array([200, 100, -100, -200, 30], np.int16)
    job = _core.BoxAndCosinesJob((5,), [(0, 1, 0, 0, False, [], [])], 0.0, 1.0, 1.0)
    for dtype, saturated in ((np.int8, [127, 100, -100, -128, 30]), (np.uint8, [200, 100, 0, 0, 30])):
        got = np.empty(5, dtype)
        job.run(x, got, 1)
        assert got.tolist() == saturated
        job.run(x, got, 1, False, True)
        assert np.array_equal(got, x.astype(dtype))


@pytest.mark.parametrize("size", [3, 4, 15, 40])
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_a_window_knows_only_its_own_samples(target: str, size: int, value: float) -> None:
    rng = np.random.default_rng(1)
    x = rng.integers(0, 1000, (60, 70)).astype(np.float32)
    clean = sp.uniform(x, size, method="box")
    x[30, 35] = value
    out = sp.uniform(x, size, method="box")
    hit = sp.correlate((x == x[30, 35]) | np.isnan(x), np.ones((size, size)), method="direct") > 0
    assert np.array_equal(out[~hit], clean[~hit])
    assert not np.isfinite(out[hit]).any() or value == 1e30


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_uniform_is_the_rounded_mean(dtype: type) -> None:
    rng = np.random.default_rng(2)
    x = rng.standard_normal((50, 41)).astype(dtype)
    for size in (2, 9, 33, 120):
        for mode in MODES:
            for origin in (0, -(size // 2), (size - 1) // 2):
                got = sp.uniform(x, size, mode=mode, cval=0.5, origin=origin, method="box")
                shift = size // 2 + origin
                want = box_sums(x, (size, size), (shift, shift), mode, 0.5) / size**2
                # two roundings of the sums and one of the mean, and in float64 those of the additions
                steps = 3 + (2 * 64 if dtype is np.float64 else 0)
                assert np.abs(got - want).max() <= steps * np.finfo(dtype).eps / 2 * np.abs(x).max()


def test_a_constant_stays_what_it_is() -> None:
    for value in (0.1, 1 / 3, 1e-30, 1e37):
        x = np.full((64, 65), value, np.float32)
        for size in (7, 51, 200):
            assert np.array_equal(sp.uniform(x, size, method="box"), x)


def realised(form: Any, order: int, n: int) -> Array:
    """Filter an impulse in the middle of a line: the taps that really run, and what follows them."""
    x = np.zeros(n)
    x[n // 2] = 1
    passes = form.passes((0,), (form.taps[0] // 2,), (1,))
    out = np.empty(n)
    _core.BoxAndCosinesJob((n,), passes, 0.0, form.factor, form.divisor).run(x, out, 1)
    return out[::-1]


@pytest.mark.parametrize("sigma", [0.7, 2, 9.5, 60])
@pytest.mark.parametrize("order", [0, 1, 2])
def test_the_response_to_an_impulse_lies_within_the_stated_error(sigma: float, order: int) -> None:
    for tol in (1e-3, 1e-5):
        kernel = families.gaussian(sigma, order=order, ndim=1)
        taps = kernel.terms[0][0]
        form = recursive_form(kernel, tol)
        assert form is not None
        assert form.error.relative_l1 <= tol
        n = 2 * taps.size + 4001
        want = np.zeros(n)
        want[n // 2 - taps.size // 2 : n // 2 + taps.size // 2 + 1] = taps
        off = np.abs(realised(form, order, n) - want).sum()
        norm = np.abs(taps).sum()
        assert off <= (form.error.relative_l1 + 1e-9) * norm
        assert off <= form.error.l1 + 1e-9 * norm


def inputs(shape: tuple[int, ...], taps: Array) -> dict[str, Array]:
    rng = np.random.default_rng(0)
    signs = np.resize(np.where(taps < 0, -1.0, 1.0), shape[-1])
    return {
        "constant": np.ones(shape),
        "step": np.broadcast_to(np.arange(shape[-1]) >= shape[-1] // 2, shape).astype(float),
        "random": rng.uniform(-1, 1, shape),
        "signs": np.broadcast_to(signs, shape).copy(),
        "alternating": np.broadcast_to((-1.0) ** np.arange(shape[-1]), shape).copy(),
    }


@pytest.mark.parametrize("shape", [(1,), (3,), (40,), (9, 50), (60, 5), (6, 7, 20)], ids=str)
def test_results_keep_the_bound_at_every_border(target: str, shape: tuple[int, ...]) -> None:
    """Sigma up to four times the length of the line, which then repeats or mirrors many times."""
    for mode in MODES:
        for sigma, order, tol in ((2.0, 1, 1e-5), (5.0, 2, 1e-3), (25.0, 0, 1e-5)):
            kernel = families.gaussian(sigma, order=[order, *[0] * (len(shape) - 1)], ndim=len(shape))
            norm = np.prod([np.abs(taps).sum() for taps in kernel.terms[0]])
            for name, x in inputs(shape, kernel.terms[0][0]).items():
                exact = sp.correlate(x, kernel, mode=mode, cval=-0.5, method="separable")
                p = sp.plan(kernel, shape, "float64", mode=mode, cval=-0.5, tol=tol, method="recursive")
                assert p.error.relative_l1 <= tol
                bound = p.error.relative_l1 * norm * max(np.abs(x).max(), 0.5)
                assert np.abs(p(x) - exact).max() <= bound + 1e-10 * norm, (mode, sigma, name)


def test_float32_adds_its_own_rounding_only() -> None:
    x = np.random.default_rng(0).uniform(-1, 1, (200, 90)).astype(np.float32)
    kernel = families.gaussian((12, 7))
    exact = correlate_dense(x[:, :1].astype(float), families.gaussian((12, 0)).dense())
    narrow = families.gaussian((12, 0))
    p = sp.plan(narrow, (200, 1), tol=1e-5, method="recursive")
    assert np.abs(p(x[:, :1]) - exact).max() <= p.error.relative_l1 + 2.0**-23
    p32, p64 = (sp.plan(kernel, x.shape, d, tol=1e-5, method="recursive") for d in ("float32", "float64"))
    assert np.abs(p32(x) - p64(x.astype(float))).max() <= 2 * 2.0**-24


def test_oscillators_do_not_drift() -> None:
    """Restarts keep rounding errors where they are on a line of any length."""
    x = np.random.default_rng(0).uniform(-1, 1, 200_000)
    kernel = families.gaussian(100.0, ndim=1)
    p = sp.plan(kernel, x.shape, "float64", tol=1e-3, method="recursive")
    form = recursive_form(kernel, 1e-3)
    assert form is not None
    cosines = form.cosines[0]
    assert cosines is not None
    k = np.arange(-400, 401)
    taps = np.cos(np.multiply.outer(k, cosines.frequency)) @ np.array(cosines.amplitude)
    same = sp.correlate(x, taps, method="separable")
    assert np.abs(p(x) - same).max() < 1e-11


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_reaches_its_window_and_no_further(value: float) -> None:
    x = np.random.default_rng(4).standard_normal((5, 90))
    clean = sp.gaussian(x, 3, axes=1, tol=1e-3, method="recursive")
    x[2, 40] = value
    out = sp.gaussian(x, 3, axes=1, tol=1e-3, method="recursive")
    hit = np.zeros(x.shape, bool)
    hit[2, 40 - 12 : 40 + 13] = True
    assert np.array_equal(np.isnan(out), hit)
    assert np.abs(out - clean)[~hit].max() < 0.01 * np.abs(x[np.isfinite(x)]).max()
    edge = x.copy()
    edge[2, 40], edge[1, 0] = 0, value
    reach = np.isnan(sp.gaussian(edge, 3, axes=1, tol=1e-3, method="recursive", mode="wrap"))
    assert np.flatnonzero(reach[1]).tolist() == [*range(13), *range(90 - 12, 90)]


def test_threads_give_the_same_results() -> None:
    x = np.random.default_rng(6).standard_normal((300, 257)).astype(np.float32)
    for filtered in (
        lambda threads: sp.uniform(x, 31, method="box", threads=threads),
        lambda threads: sp.gaussian(x, 20, tol=1e-3, method="recursive", threads=threads),
    ):
        assert np.array_equal(filtered(1), filtered(2))
        assert np.array_equal(filtered(1), filtered(3))


def test_convolution_flips() -> None:
    x = np.random.default_rng(8).standard_normal((40, 60))
    kernel = families.gaussian(6, order=(1, 0))
    exact = sp.convolve(x, kernel, method="separable")
    assert np.abs(sp.convolve(x, kernel, tol=1e-5, method="recursive") - exact).max() < 1e-4
    even = np.full((4, 6), 1 / 24)
    assert np.allclose(
        sp.convolve(x, even, method="box"), sp.convolve(x, even, method="direct"), rtol=0, atol=1e-14
    )
    moved: dict[str, Any] = {"origin": (3, -2), "tol": 1e-5}
    near = sp.correlate(x, kernel, method="recursive", **moved) - sp.correlate(
        x, kernel, method="separable", **moved
    )
    assert np.abs(near).max() < 1e-4


def test_complex_arrays_and_boxes_of_any_height() -> None:
    x = np.random.default_rng(9).standard_normal((30, 40, 2)).view(complex)[..., 0]
    want = sp.correlate(x, np.full((3, 11), -0.5), method="direct", mode="constant", cval=1 + 2j)
    got = sp.correlate(x, np.full((3, 11), -0.5), method="box", mode="constant", cval=1 + 2j)
    assert np.abs(got - want).max() < 1e-12
    one = sp.correlate(x, np.full((1, 9), 2.0), method="box")
    assert np.allclose(one, sp.correlate(x, np.full((1, 9), 2.0), method="direct"), rtol=0, atol=1e-12)


def test_forms_are_refused_by_name() -> None:
    x = np.zeros((30, 30))
    with pytest.raises(ValueError, match="equal taps"):
        sp.gaussian(x, 3, method="box")
    with pytest.raises(ValueError, match="symmetric"):
        sp.correlate(x, np.arange(81.0).reshape(9, 9) ** 2 + 1, method="recursive")
    assert box_form(families.gaussian(3)) is None
    assert recursive_form(families.box(9), 1e-3) is None  # boxes need no cosines
    assert fit_cosines(np.arange(1.0, 8.0), 1e-3) is None
    assert fit_cosines(np.resize([1.0, -2.0, 0.5, -2.0], 101), 1e-6) is None
    short = fit_cosines(families.gaussian(2, ndim=1).terms[0][0], 1e-12)
    assert short is None or len(short.frequency) <= MAX_COSINES


def test_the_plan_chooses_and_says() -> None:
    wide, narrow = families.gaussian(40), families.gaussian(1)
    assert sp.plan(wide, (512, 512)).method == "separable"  # never an approximation unasked
    p = sp.plan(wide, (512, 512), tol=1e-3)
    assert p.method == "recursive"
    assert 0 < p.error.relative_l1 <= 1e-3
    assert p.macs < 40
    assert "recursive" in str(p)
    assert f"{p.error.relative_l1:.2g}" in str(p)
    assert sp.plan(narrow, (512, 512), tol=1e-3).method == "separable"
    assert sp.plan(wide, (512, 512), tol=1e-13).method == "separable"
    box = sp.plan(families.box(201), (512, 512))
    assert (box.method, box.error.l1) == ("box", 0.0)
    assert sp.plan(families.box(3), (512, 512)).method == "separable"
    x = np.random.default_rng(0).random((512, 512), dtype=np.float32)
    for made in (p, box):
        assert np.array_equal(pickle.loads(pickle.dumps(made))(x), made(x))
        assert made.scratch_bytes > 0


def test_costs_prefer_running_sums_only_on_enough_lines() -> None:
    kernel = families.box(101, ndim=1)
    assert sp.plan(kernel, (1000,)).method == "separable"
    assert sp.plan(kernel, (1000, 1000), axes=0).method == "box"


def test_bands_join(target: str) -> None:
    """Rows so long that the first axis is filtered band by band, the last band shorter than the others."""
    x = np.random.default_rng(1).integers(0, 1000, (47, 90_000)).astype(np.float32)
    scratch = sp.plan(families.box((5, 3)), x.shape, method="box").scratch_bytes
    assert scratch < x.size * 8 / 2  # or this is no test of bands
    got = sp.correlate(x, np.ones((5, 3)), mode="mirror", method="box")
    rows = [
        [continued(i - 2, 47, "mirror") for i in range(51)],
        [continued(i - 1, 90_000, "mirror") for i in range(90_002)],
    ]
    padded = x[np.ix_(*rows)]
    want = sum(padded[i : i + 47, j : j + 90_000] for i in range(5) for j in range(3))
    assert np.array_equal(got, want)
