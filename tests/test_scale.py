"""Kernels and samples of every magnitude: results, errors and choices do not depend on the scale."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import correlate_dense, tolerance

import separable as sp
from separable.factor import complex_parts

Array = npt.NDArray[Any]

ROWS, COLUMNS = np.mgrid[-6:7, -6:7]
DISK = (ROWS**2 + COLUMNS**2 < 36).astype(float)
NOISE = np.random.default_rng(0).standard_normal((11, 10))
TILTED = sp.families.rotated_gaussian((3, 1.6), 0.5, radius=10)
BINOMIAL = np.multiply.outer([1.0, 2, 1], [1.0, 2, 1])

# A kernel, the way it runs, and the tolerance that this way asks for.
WAYS = {
    "separable": (BINOMIAL, "separable", None),
    "terms": (NOISE, "separable", None),
    "direct": (NOISE, "direct", None),
    "fft": (NOISE, "fft", None),
    "box": (np.ones((5, 9)), "box", None),
    "shape": (DISK, "box", None),
    "recursive": (sp.families.gaussian(4.0, ndim=2).dense(), "recursive", 1e-3),
    "cascade": (TILTED, "cascade", 1e-2),
    "auto": (BINOMIAL, "auto", None),
}
DTYPES = ("f4", "f8", "c8", "c16")
# Of samples, 0.7 of which are drawn (two that share a tap are added before they are multiplied), and results.
ENDS = {"f": (1e-44, 2.4e38, 1e-28, 1e34), "d": (1e-300, 1e300, 1e-290, 1e290)}


def samples(dtype: str, largest: float, seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    x = rng.uniform(-0.7, 0.7, (2, 24, 27))
    if np.dtype(dtype).kind == "c":
        return ((x[0] + 1j * x[1]) * largest).astype(dtype)
    return (x[0] * largest).astype(dtype)


def scaled(kernel: Any, factor: float) -> Any:
    """Return the kernel times a number; of terms along their first axis."""
    if not isinstance(kernel, sp.SeparableKernel):
        return kernel * factor
    return sp.SeparableKernel([[term[0] * factor, *term[1:]] for term in kernel.terms])


def assert_right(found: Array, x: Array, weights: Array, dtype: str, extra: float = 0.0, **how: Any) -> None:
    assert np.isfinite(found).all()
    expected = correlate_dense(x, weights, **how)
    assert np.abs(found - expected).max() <= tolerance(dtype, weights, x) + extra * float(np.abs(x).max())


@st.composite
def magnitudes(draw: st.DrawFn, dtype: str) -> tuple[float, float]:
    """Draw the largest sample, and the sum of magnitudes of a kernel that leaves results in range."""
    low, high, least, most = ENDS[np.dtype(dtype).char.lower()]
    sample = 10 ** draw(st.floats(math.log10(low), math.log10(high)))
    result = 10 ** draw(st.floats(math.log10(least), math.log10(most)))
    norm = result / sample if 1e-300 * sample < result < 1e300 * sample else 1.0
    return sample, norm


@pytest.mark.parametrize("way", WAYS)
@settings(max_examples=25)
@given(data=st.data())
def test_every_way_at_every_magnitude(way: str, data: st.DataObject) -> None:
    kernel, method, tol = WAYS[way]
    dtype = data.draw(st.sampled_from(DTYPES))
    sample, norm = data.draw(magnitudes(dtype))
    mode = data.draw(st.sampled_from(("reflect", "constant", "nearest")))
    weights = kernel / np.abs(kernel).sum() * norm
    x = samples(dtype, sample)
    plan = sp.plan(weights, x.shape, dtype, tol=tol, method=method, mode=mode)
    assert_right(plan(x), x, weights, dtype, plan.error.l1, mode=mode)


@pytest.mark.parametrize("dtype", ["f4", "c8"])
def test_samples_beyond_half_the_largest_number_give_their_result_or_an_infinity(dtype: str) -> None:
    weights = BINOMIAL / 16
    for method in ("separable", "direct", "auto"):
        plan = sp.plan(weights, (24, 27), dtype, method=method)
        x = samples(dtype, 2.4e38)
        assert_right(plan(x), x, weights, dtype)
        x = samples(dtype, 4.8e38)
        with np.errstate(all="ignore"):
            result, expected = plan(x), correlate_dense(x, weights)
        beyond = ~np.isfinite(result)
        assert np.abs(np.where(beyond, 0, result - expected)).max() <= tolerance(dtype, weights, x)


@pytest.mark.parametrize(("scale", "sample"), [(1e-46, 1e30), (1e38, 1e-30), (1e60, 1e-45), (1e-60, 3e38)])
def test_verbs_classes_and_the_drop_in(scale: float, sample: float) -> None:
    kernel = BINOMIAL * scale
    x = samples("f4", sample)
    found = [
        sp.correlate(x, kernel),
        sp.correlate(x, sp.factor(kernel)),
        sp.convolve(x, kernel),
        sp.ndimage.correlate(x, kernel),
        sp.ndimage.correlate1d(sp.ndimage.correlate1d(x, np.array([1.0, 2, 1]) * scale, 0), [1.0, 2, 1], 1),
        sp.plan([kernel, kernel * 3], x.shape)(x)[0],
        sp.plan([kernel, np.ones((3, 3))], x.shape)(x)[0],
        sp.plan(kernel, x.shape).adjoint().adjoint()(x),
        sp.correlate(x, kernel, mask=np.ones(x.shape, bool)),
    ]
    for each in found:
        assert each.dtype == np.float32
        assert_right(each, x, kernel, "f4")
    plan = sp.plan(NOISE * scale, x.shape, mode="wrap")
    there, back = plan(x).astype(np.longdouble), plan.adjoint()(x).astype(np.longdouble)
    assert abs((there * x).sum() - (x * back).sum()) <= 1e-5 * np.abs(there * x).sum()


@pytest.mark.parametrize(
    ("scale", "sample"), [(1e-46, 1e30), (1e38, 1e-30), (1e-300, 1e300), (1e305, 1e-299)]
)
@pytest.mark.parametrize("kind", ["f", "c"])
def test_complex_weights(kind: str, scale: float, sample: float) -> None:
    dtype = f"{kind}{(4 if sample < 1e38 and scale < 1e39 else 8) * (1 + (kind == 'c'))}"
    gabor = np.multiply.outer(np.exp(1j * np.arange(5)), np.exp(-0.5j * np.arange(-3, 4))) * scale
    x = samples(dtype, sample)
    found = sp.correlate(x, gabor)
    expected = correlate_dense(x, gabor.real) - 1j * correlate_dense(x, gabor.imag)
    assert np.abs(found - expected).max() <= 4 * tolerance(dtype, np.abs(gabor), x)


def test_kernels_of_one_bank_may_differ_by_many_powers() -> None:
    x = samples("f4", 1.0)
    jet = [sp.families.gaussian(1.5, order=order) for order in ((0, 0), (1, 0), (0, 1))]
    kernels = [scaled(kernel, factor) for factor in (1e18, 1e-25, 1e-40, 1.0) for kernel in jet]
    for kernel, result in zip(kernels, sp.plan(kernels, x.shape)(x), strict=True):
        assert_right(result, x, kernel.dense(), "f4")


def test_what_is_unknown_is_left_out_at_every_scale() -> None:
    x = samples("f4", 1.0)
    x[3, 4] = x[10:13, 9:12] = np.nan
    wanted = sp.correlate(x, BINOMIAL, nan="omit")
    for scale, sample in ((1e-46, 1e30), (1e38, 1e-30)):
        found = sp.correlate(x * np.float32(sample), BINOMIAL * scale, nan="omit")
        np.testing.assert_allclose(found / (scale * sample), wanted, rtol=1e-5, atol=1e-6)


@settings(max_examples=60)
@given(st.integers(-60, 50), st.sampled_from(["separable", "direct"]), st.integers(0, 20))
def test_errors_are_those_of_what_runs(decade: int, method: Any, seed: int) -> None:
    """An impulse shows the taps: none is lost that the error does not count."""
    rng = np.random.default_rng(seed)
    weights = rng.standard_normal((5, 7)) * 10.0 ** rng.uniform(-50, 0, (5, 7))
    if method == "separable":
        weights = np.multiply.outer(weights[0], weights[1] * 1e-3)
    weights = weights / np.abs(weights).sum() * 10.0**decade
    plan = sp.plan(weights, (15, 15), method=method, mode="constant")
    impulse = np.zeros((15, 15), np.float32)
    power = max(-120, min(120, -math.frexp(10.0**decade)[1]))
    impulse[7, 7] = 2.0**power
    shape = tuple(slice(7 - n // 2, 7 - n // 2 + n) for n in weights.shape)
    runs = np.ldexp(np.flip(plan(impulse).astype(np.longdouble)[shape]), -power)
    stored = 2.0**-24 * np.abs(weights).sum() + weights.size * 2.0**-150 * 2.0**-power  # the results
    assert np.abs(runs - weights).sum() <= plan.error.l1 + 2 * stored
    assert plan.error.relative_l1 < 3e-7


@pytest.mark.parametrize("small", [1e-40, 1e-44, 1e-50])
def test_taps_that_vanish_are_counted(small: float) -> None:
    weights = np.array([[1.0, small], [0.0, 1.0]])
    error = sp.plan(weights, (9, 9), method="direct").error
    assert abs(float(np.float32(small)) - small) <= error.l1 <= small * (1 + 1e-9)
    kernel = sp.SeparableKernel([[[1.0, small], [1.0, 1.0]]])
    assert 0 < sp.plan(kernel, (9, 9), method="separable").error.l1 < 1e-37


def test_a_large_kernel_out_of_balance_is_swept_too() -> None:
    taps = np.hanning(203)[1:-1]
    skewed = sp.SeparableKernel([[taps * 1e60, taps * 1e-60]])
    error = sp.plan(skewed, (30, 30), method="direct").error
    assert 0 < error.relative_l1 < 1e-7


# ---------------------------------------------------------------- invariance


def kernels() -> dict[str, Any]:
    rng = np.random.default_rng(1)
    z, y, x = np.mgrid[-3:4, -3:4, -3:4]
    return {
        "rank one": BINOMIAL,
        "integers": rng.integers(-9, 10, (6, 7)).astype(float),
        "even": 2.0 * rng.integers(-9, 10, (5, 6)),
        "few levels": rng.choice([1021.0, 1033.0, 1039.0], (6, 7)),
        "disk": DISK,
        "noise": NOISE,
        "smooth": np.exp(-(ROWS**2 + ROWS * COLUMNS + 2 * COLUMNS**2) / 12.0),
        "volume": np.exp(-(z**2 + y**2 + x**2) / 6.0 - z * y / 9.0)[1:-1, 1:-1, 1:-1],
        "line": rng.random(9),
        "gaussian": sp.families.gaussian(12.0, ndim=2),
        "laplacian": sp.families.laplacian_of_gaussian(2.0, ndim=2),
        "box": sp.families.box((15, 15)),
    }


KERNELS = kernels()
POWERS = st.integers(-960, 960)
FACTORS = st.floats(-295, 295).map(lambda power: 10.0**power)


@pytest.mark.parametrize("name", [name for name, k in KERNELS.items() if isinstance(k, np.ndarray)])
@settings(max_examples=6)
@given(power=POWERS, factor=FACTORS, tol=st.sampled_from([None, 1e-2]))
def test_factors(name: str, power: int, factor: float, tol: float | None) -> None:
    weights = KERNELS[name]
    one, other, near = (sp.factor(w, tol) for w in (weights, np.ldexp(weights, power), weights * factor))
    assert (one.rank, one.macs) == (other.rank, other.macs) == (near.rank, near.macs)
    np.testing.assert_array_equal(np.ldexp(one.dense(), power), other.dense())
    assert one.error.relative_l1 == other.error.relative_l1
    assert one.error.relative_l2 == other.error.relative_l2
    assert math.ldexp(one.error.l1, power) == pytest.approx(other.error.l1, rel=1e-12)
    assert near.error.relative_l1 == pytest.approx(one.error.relative_l1, rel=1e-6, abs=1e-9)
    distance = np.abs(weights.astype(np.longdouble) * factor - near.dense()).sum()
    assert distance <= near.error.l1 + 2.0**-52 * np.abs(weights).sum() * factor
    for own in (None, 1e-2, 0.9):
        answers = {sp.is_separable(w, own) for w in (weights, np.ldexp(weights, power), weights * factor)}
        assert len(answers) == 1


@pytest.mark.parametrize("name", KERNELS)
@settings(max_examples=10)
@given(
    power=POWERS,
    factor=FACTORS,
    dtype=st.sampled_from(["f4", "f8", "c8", "u1"]),
    side=st.sampled_from([40, 600]),
    tol=st.sampled_from([None, 1e-3]),
)
def test_plans(name: str, power: int, factor: float, dtype: str, side: int, tol: float | None) -> None:
    kernel = KERNELS[name]
    shape = (side,) * kernel.ndim if kernel.ndim < 3 else (side // 10,) * 3
    one, other, near = (
        sp.plan(scaled(kernel, by), shape, dtype, tol=tol) for by in (1.0, math.ldexp(1.0, power), factor)
    )
    assert (one.method, one.terms, one.macs) == (other.method, other.terms, other.macs)
    # Out of the range of float32 taps are not rounded to it.
    assert other.error.relative_l1 == pytest.approx(one.error.relative_l1, rel=1e-9, abs=2e-7)
    if dtype == "f8":  # but for the taps of means, which are rounded so that ones stay ones
        assert other.error.relative_l1 == pytest.approx(one.error.relative_l1, rel=0, abs=4e-15)
    if dtype != "u1":  # whether sums of whole numbers are exact is a matter of the weights' digits
        assert (one.method, one.terms, one.macs) == (near.method, near.terms, near.macs)
        assert near.error.relative_l1 == pytest.approx(one.error.relative_l1, rel=1e-6, abs=2e-7)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("power", [-900, -98, 70, 900])
def test_results(way: str, power: int) -> None:
    kernel, method, tol = WAYS[way]
    x = samples("f8", 1.0)
    one = sp.correlate(x, kernel, method=method, tol=tol)
    other = sp.correlate(x, np.ldexp(kernel, power), method=method, tol=tol)
    np.testing.assert_array_equal(np.ldexp(one, power), other)


@pytest.mark.parametrize("power", [-900, -100, -20, 30, 80, 900])
def test_whole_numbers_are_as_exact(power: int) -> None:
    for weights in (DISK, np.ones((9, 9)), BINOMIAL):
        one, other = (sp.plan(w, (60, 70), "u1") for w in (weights, np.ldexp(weights, power)))
        assert one.method == other.method
        assert other._exact_limit >= one._exact_limit > 0


def test_parts_of_outer_products_are_found_at_every_scale() -> None:
    gabor = np.multiply.outer(np.exp(1j * np.arange(5)), np.exp(-0.5j * np.arange(-3, 4)))
    uneven = gabor + 0.1 * np.random.default_rng(2).standard_normal(gabor.shape)
    for scale in (1e-305, 1e-150, 1.0, 1e150, 1e307):
        parts = complex_parts(gabor * scale)
        assert parts is not None
        real, imaginary = parts
        np.testing.assert_allclose(real.dense() / scale, gabor.real, atol=1e-12)
        np.testing.assert_allclose(imaginary.dense() / scale, gabor.imag, atol=1e-12)
        assert complex_parts(uneven * scale) is None
