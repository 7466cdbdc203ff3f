"""What users of SciPy rely on and direct sums keep: signs, zeros and the range of samples, by any way."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import separable as sp
import separable.ndimage as ndi
from separable import _core
from separable.arrays.boundaries import Line
from separable.factor import factor
from separable.filters.plan import Request, build
from separable.kernel.means import as_run
from separable.kernel.signs import terms_keep
from separable.methods import fft as fourier
from separable.methods.algorithms import overlap_save
from separable.methods.algorithms.overlap_save import FourierJob, Geometry

RNG = np.random.default_rng(11)
DTYPES = ("float32", "float64")
ROWS, COLUMNS = np.mgrid[-15:16, -15:16]
RADII = ROWS**2 + COLUMNS**2
WEIGHTS = {
    "noise": RNG.random((31, 31)),
    "wide wings": 1 / (1.0 + RADII) ** 2,
    "disk": (RADII < 200).astype(float),
    "two Gaussians": np.exp(-RADII / 8) + 0.1 * np.exp(-RADII / 80),
    "oblique": np.exp(-((COLUMNS + 0.5 * ROWS) ** 2) / 20 - (ROWS - 0.5 * COLUMNS) ** 2 / 80),
    "negative": -RNG.random((31, 31)),
    "signed": RNG.standard_normal((31, 31)),
    "of 120 taps": RNG.random((1, 120)),
}


def stars(shape, dtype):
    """A dark sky with few stars, as it is to be convolved with the point spread function of a telescope."""
    x = np.zeros(shape, dtype)
    x.ravel()[RNG.integers(0, x.size, 12)] = 10.0 ** RNG.uniform(-2, 5, 12)
    return x


def images(shape, dtype):
    scan = np.zeros(shape, dtype)
    scan[40:60, 30:100] = RNG.random((20, 70)) + 1e-6
    return {
        "stars": stars(shape, dtype),
        "scan": scan,
        "negative": -stars(shape, dtype),
        "noise": RNG.random(shape).astype(dtype),
        "nothing": np.zeros(shape, dtype),
        "signed": RNG.standard_normal(shape).astype(dtype) * (RNG.random(shape) < 1e-3),
    }


def sums_of(x, weights):
    """Return sums of products in float64 by matrix multiplication, x continued as mode "reflect" does."""
    pads = [((n - 1) // 2, n // 2) for n in weights.shape]
    padded = np.pad(x.astype(float), pads, mode="symmetric")
    return np.tensordot(np.lib.stride_tricks.sliding_window_view(padded, weights.shape), weights, x.ndim)


def assert_as_summed(result, x, weights):
    """Compare signs and zeros with those of sums of products, which one of magnitudes bounds."""
    flipped = np.flip(weights)
    reached = sums_of(x != 0, (flipped != 0).astype(float)) > 0.5
    assert not result[~reached].any()
    low, high = x.min() >= 0, x.max() <= 0
    if (low or high) and (weights.min() >= 0 or weights.max() <= 0):
        sign = (1 if low else -1) * (1 if weights.min() >= 0 else -1)
        assert (sign * result >= 0).all()
        sums = sums_of(np.abs(x), np.abs(flipped))
        there = reached & (sums > 1e-30)
        assert (result[there] != 0).all()
        assert np.all(np.abs(np.abs(result) - sums) <= 3e-6 * sums.max())


@pytest.mark.parametrize("few", [0, 4096])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", WEIGHTS)
def test_transforms_keep_signs_and_zeros(name, dtype, few, monkeypatch):
    monkeypatch.setattr(overlap_save, "_FEW_WEIGHTS", few)  # also where zeros are found by transforms
    weights = WEIGHTS[name]
    shape = (70, 140)
    for x in images(shape, dtype).values():
        job = transforms(weights, shape, dtype)
        result = np.full(shape, 7, dtype)
        job.run(x, result, 2)
        assert_as_summed(result, x, weights)
        again = np.empty_like(result)
        job.run(x, again, 1)
        np.testing.assert_array_equal(again, result)


def transforms(weights, shape, dtype):
    """Return a job in several blocks, with the plan's own dense sweep for what is too small."""
    request = Request(shape, np.dtype(dtype), "reflect", 0.0, 0, None, None, None, True)
    job = build(weights, request._replace(method="fft"))._jobs[0]
    assert isinstance(job, FourierJob)
    lines = [Line(n, taps, (taps - 1) // 2, "reflect") for n, taps in zip(shape, weights.shape, strict=True)]
    flipped = np.ascontiguousarray(np.flip(weights))
    rows, columns = (n - 1 for n in weights.shape)
    geometry = Geometry((40, 140), (fourier.fast_length(40 + rows), fourier.fast_length(140 + columns)))
    return FourierJob(shape, dtype, flipped, lines, 0.0, geometry, job._exact, as_summed=True)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", WEIGHTS)
@pytest.mark.parametrize("shape", [(70, 140), (200, 190)])
def test_the_drop_in_keeps_signs_and_zeros(name, dtype, shape):
    weights, found = WEIGHTS[name], images(shape, dtype)
    for x in (found["stars"], found["scan"], found["signed"]):
        assert_as_summed(ndi.convolve(x, weights), x, weights)


def test_ways_that_do_not_are_there_on_request():
    x, weights = stars((240, 250), np.float32), WEIGHTS["oblique"] / WEIGHTS["oblique"].sum()
    by_transforms = ndi.convolve(x, weights, method="fft")
    assert (by_transforms < 0).any()
    np.testing.assert_array_equal(by_transforms, sp.convolve(x, weights, method="fft"))
    np.testing.assert_array_equal(
        ndi.convolve(x, weights, method="auto"), sp.convolve(x, weights, tol=0, method="auto")
    )
    for function, kernel in [
        (ndi.correlate, weights),
        (ndi.correlate1d, weights[9]),
        (ndi.convolve1d, weights[9]),
    ]:
        np.testing.assert_allclose(
            function(x, kernel, method="direct"), function(x, kernel), atol=1e-6 * float(x.max())
        )
        with pytest.raises(ValueError, match="expected one of"):
            function(x, kernel, method="quick")
    with pytest.raises(ValueError, match="expected one of"):
        ndi.convolve(x.astype(np.longdouble), weights, method="quick")


def test_terms_that_cancel_are_taken_on_request_only():
    two = WEIGHTS["two Gaussians"]
    request = Request((200, 200), np.dtype("float32"), "reflect", 0.0, 0, None, 0.0, None, False)
    assert build(two, request).method != "separable"
    assert build(two, request._replace(method="auto")).method == "separable"
    assert build(two, request._replace(tol=1e-3)).terms  # a tolerance is a request as well
    assert "cancel" in str(build(two, request).explain())
    cross = np.zeros((21, 21))
    cross[10] += 1
    cross[:, 10] += 1
    assert terms_keep(factor(cross, rank=2), cross) == (
        min(t.min() for k in factor(cross, rank=2).terms for t in k) >= 0
    )
    laplacian = np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0.0]])
    assert terms_keep(sp.SeparableKernel([[[1, -2, 1], [0, 1, 0]], [[0, 1, 0], [1, -2, 1]]]), laplacian)
    assert not terms_keep(
        sp.SeparableKernel([[[1, 1], [1, 1]], [[-1, 0], [1, 0]]]), np.array([[0, 1], [1, 1.0]])
    )


def test_terms_along_one_axis_are_one():
    taps = np.array([0.0, 1, 2, 1, 0])
    kernel = sp.SeparableKernel([[2 * taps], [-taps]])
    assert terms_keep(kernel, kernel)
    x = stars((50, 60), np.float64)
    result = sp.correlate(x, kernel, axes=1, method=None)
    np.testing.assert_array_equal(result, sp.correlate(x, [taps], method=None))


def test_nan_stays_where_it_is_in_reach():
    x = RNG.random((300, 300))
    x[150, 150] = np.nan
    spoilt = np.isnan(ndi.convolve(x, WEIGHTS["noise"]))
    assert spoilt.sum() == 31 * 31
    assert spoilt[135:166, 135:166].all()


# --- the range of the samples -----------------------------------------------------------------------


@pytest.fixture(params=["v2", "v4", "neon"])
def target(request):
    try:
        _core.force(request.param)
    except ValueError:
        pytest.skip(f"this machine has no {request.param}")
    sp.clear_caches()
    yield request.param
    _core.force(None)
    sp.clear_caches()


SHAPES = ((203,), (41, 52), (12, 13, 37))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_means_of_ones_are_ones(shape, dtype, target):
    ones = np.ones(shape, dtype)
    for sigma, mode in [
        (0.4, "wrap"),
        (1.0, "constant"),
        (1.3, "reflect"),
        (2.0, "constant"),
        (3.7, "constant"),
    ]:
        filtered = ndi.gaussian_filter(ones, sigma, mode=mode, cval=1.0)
        np.testing.assert_array_equal(filtered, ones, err_msg=f"sigma {sigma}, {mode}")
    for size in (2, 3, 4, 5, 6, 7, 8, 12, 33):
        means = ndi.uniform_filter(ones, size)
        assert 1 - 8 * np.finfo(dtype).eps <= means.min() <= means.max() <= 1, size


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count", [2, 3, 8, 13, 40])
def test_means_stay_in_range(count, dtype, target):
    taps = RNG.random(count)
    taps /= taps.sum()
    product = np.multiply.outer(RNG.random(count), RNG.random(5))
    product /= product.sum()
    noise = RNG.random((min(count, 7), 5))
    noise /= noise.sum()
    for low in (0.0, -1.0):
        x = np.where(RNG.random((60, 300)) < 0.5, dtype_of(low, dtype), dtype_of(1, dtype))
        x[20:50, 100:200] = 1
        for mode in ("constant", "mirror"):
            for filtered in (
                ndi.convolve1d(x, taps, axis=0, mode=mode, cval=1.0),
                ndi.correlate1d(x, taps, mode=mode, cval=1.0),
                ndi.convolve(x, product, mode=mode, cval=1.0, method="separable"),
                ndi.convolve(x, noise, mode=mode, cval=1.0, method="direct"),
                sp.gaussian(x, count / 6, mode=mode, cval=1.0),
            ):
                assert low <= filtered.min()
                assert filtered.max() <= 1


def dtype_of(value, dtype):
    return np.dtype(dtype).type(value)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_transforms_of_means_stay_between_the_samples(data):
    low = data.draw(st.floats(-300, 300, width=32))
    high = data.draw(st.floats(low, 400, width=32))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    x = rng.uniform(low, high, (90, 80)).astype(np.float32).clip(np.float32(low), np.float32(high))
    x[10:70, 10:60] = high
    weights = rng.random((21, 21))
    request = Request(x.shape, x.dtype, "reflect", 0.0, 0, None, None, None, False)
    plan = build(weights / weights.sum(), request)
    filtered = transforms(weights / weights.sum(), (70, 140), "float32")
    big = np.resize(x, (70, 140))
    result = np.empty_like(big)
    filtered.run(big, result, 1)
    assert x.min() <= result.min() <= result.max() <= x.max()
    assert plan.method in ("direct", "fft")


@pytest.mark.parametrize("dtype", DTYPES)
def test_taps_move_by_little(dtype):
    unit = float(np.finfo(dtype).eps) / 2
    lines = [sp.families.gaussian((sigma,)).terms[0][0] for sigma in (0.3, 1, 2, 3.7, 8, 25, 116)]
    for count in (2, 3, 5, 8, 13, 40, 200):
        noise = RNG.random(count)
        lines += [noise / noise.sum(), np.full(count, 1 / count)]
    for taps in lines:
        (running,) = as_run([taps], dtype)
        rounded = running.astype(dtype)
        assert np.abs(rounded - taps).sum() <= 4 * unit * np.sqrt(taps.size)
        assert np.array_equal(rounded, rounded[::-1]) == np.array_equal(taps, taps[::-1])
        assert np.array_equal(running.astype(dtype), as_run([running], dtype)[0].astype(dtype))
    derivative = sp.families.gaussian((2.0,), order=(1,)).terms[0][0]
    assert as_run([derivative], dtype)[0] is derivative
