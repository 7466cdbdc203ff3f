"""`separable.ndimage`: SciPy's signatures and answers, and the decisions where the two differ."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
import subprocess
import sys
import threading
import types
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import separable as sp
import separable.ndimage as ndi

scipy_ndimage = pytest.importorskip("scipy.ndimage")

NAMES = [name for name in ndi.__all__ if name != "installed"]
OWN = [name for name in NAMES if not name.startswith("generic")]  # without the caller's callables
SMOOTHING = [name for name in OWN if "filter" in name or "correlate" in name or "convolve" in name]
OURS = {"rounding", "overflow", "threads", "tol", "spacing", "mask", "nan", "method"}
MODES = ["reflect", "mirror", "nearest", "wrap", "constant", "grid-mirror", "grid-wrap", "grid-constant"]

# One call of each function that both packages understand.
CALLS: dict[str, tuple[Any, ...]] = {
    "convolve": ([[1, 2, 0], [3, 1, 1]],),
    "convolve1d": ([1, 2, 4, 3],),
    "correlate": ([[1, 2, 0], [3, 1, 1]],),
    "correlate1d": ([1, 2, 4, 3],),
    "gaussian_filter": (1.2,),
    "gaussian_filter1d": (1.2,),
    "gaussian_gradient_magnitude": (1.2,),
    "gaussian_laplace": (1.2,),
    "generic_gradient_magnitude": (scipy_ndimage.sobel,),
    "generic_laplace": (lambda x, axis, *rest: scipy_ndimage.correlate1d(x, [1, -2, 1], axis, *rest),),
    "laplace": (),
    "prewitt": (),
    "sobel": (),
    "uniform_filter": (3,),
    "uniform_filter1d": (3,),
}


def image(dtype: Any = np.float64, shape: tuple[int, ...] = (7, 9), seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    values = rng.random(shape) * 100
    return (values + 1j * rng.random(shape) if np.dtype(dtype).kind == "c" else values).astype(dtype)


def both(name: str, x: Any, *args: Any, **keywords: Any) -> tuple[Any, Any]:
    return getattr(ndi, name)(x, *args, **keywords), getattr(scipy_ndimage, name)(x, *args, **keywords)


@pytest.mark.parametrize("name", NAMES)
def test_signatures_are_scipys_and_a_few_keywords(name: str) -> None:
    ours = inspect.signature(getattr(ndi, name)).parameters
    theirs = inspect.signature(getattr(scipy_ndimage, name)).parameters
    shared = [(p.name, p.kind, p.default) for p in ours.values() if p.name not in OURS]
    assert shared == [(p.name, p.kind, p.default) for p in theirs.values()]
    added = [p for p in ours.values() if p.name in OURS]
    assert {"rounding", "overflow"} <= {p.name for p in added}
    assert all(p.kind is inspect.Parameter.KEYWORD_ONLY for p in added)


def test_every_linear_filter_is_here() -> None:
    assert set(CALLS) == set(NAMES)
    assert sp.ndimage is ndi


def test_examples_in_docstrings() -> None:
    tried = 0
    for module in pkgutil.iter_modules(ndi.__path__, "separable.ndimage."):
        result = doctest.testmod(importlib.import_module(module.name))
        assert result.failed == 0
        tried += result.attempted
    assert tried >= 10


def test_imports_without_scipy() -> None:
    code = (
        "import sys; sys.modules['scipy'] = None; import separable.ndimage as ndi;"
        "print(ndi.sobel([0, 1, 4])); ndi.installed().__enter__()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "[1 4 3]\n"
    assert "pip install 'separable[ndimage]'" in done.stderr


# ---- the same as SciPy -------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", NAMES)
def test_every_function_in_every_mode(name: str, mode: str) -> None:
    ours, theirs = both(name, image(), *CALLS[name], mode=mode, cval=2.5)
    assert ours.dtype == theirs.dtype
    np.testing.assert_allclose(ours, theirs, rtol=1e-13, atol=1e-11)


@pytest.mark.parametrize("dtype", ["u1", "i2", "u4", "i8", "f4", ">f8", ">i4", "c8", "c16"])
@pytest.mark.parametrize(
    "name", ["correlate1d", "convolve", "gaussian_filter1d", "uniform_filter1d", "laplace"]
)
def test_dtypes(name: str, dtype: str) -> None:
    ours, theirs = both(name, image(dtype), *CALLS[name])
    assert ours.dtype == theirs.dtype
    error = np.abs(ours.astype(complex) - theirs)
    bound = 0 if np.dtype(dtype).kind in "iu" else 1e-4
    assert error.max() <= bound


@pytest.mark.parametrize("name", NAMES)
def test_output_dtype_name_and_array(name: str) -> None:
    x = image(np.float32)
    expected = getattr(ndi, name)(x.astype(np.float64), *CALLS[name])
    for output in (np.float64, "float64", np.dtype(float), float):
        got = getattr(ndi, name)(x, *CALLS[name], output=output)
        assert got.dtype == np.float64
        np.testing.assert_allclose(got, expected, rtol=1e-13, atol=1e-11)
    for array in (np.empty(x.shape), np.empty(x.shape[::-1]).T, np.empty((7, 18))[:, ::2]):
        assert getattr(ndi, name)(x, *CALLS[name], output=array) is array
        np.testing.assert_allclose(array, expected, rtol=1e-13, atol=1e-11)


@pytest.mark.parametrize("name", OWN)
def test_output_may_be_the_input(name: str) -> None:
    x = image()
    expected = getattr(ndi, name)(x, *CALLS[name])
    assert getattr(ndi, name)(x, *CALLS[name], output=x) is x
    np.testing.assert_array_equal(x, expected)
    long = image(shape=(9, 9))
    source, target = long[:-2], long[2:]
    expected = getattr(ndi, name)(source.copy(), *CALLS[name])
    np.testing.assert_array_equal(getattr(ndi, name)(source, *CALLS[name], output=target), expected)


@pytest.mark.parametrize("name", NAMES)
def test_the_input_is_only_read(name: str) -> None:
    x = image()
    x.flags.writeable = False
    before = x.copy()
    getattr(ndi, name)(x, *CALLS[name])
    np.testing.assert_array_equal(x, before)


def test_lists_and_scalar_types() -> None:
    assert ndi.correlate1d([2, 8, 0, 4, 1, 9, 9, 0], [1, 3]).tolist() == [8, 26, 8, 12, 7, 28, 36, 9]
    assert ndi.uniform_filter1d([2, 8, 0, 4, 1, 9, 9, 0], size=3).tolist() == [4, 3, 4, 1, 4, 6, 6, 3]
    ours, theirs = both("gaussian_filter", [1, 2, 9], np.float32(1), output=np.float32)
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


@pytest.mark.parametrize("name", ["gaussian_filter", "uniform_filter", "laplace", "gaussian_laplace"])
def test_no_dimensions(name: str) -> None:
    assert getattr(ndi, name)(np.array(3.0), *CALLS[name]) == 3.0
    assert getattr(ndi, name)(image(), *CALLS[name], axes=()).tolist() == image().tolist()
    with pytest.raises(ValueError, match="axis -1 is out of bounds"):
        ndi.sobel(np.array(3.0))
    assert ndi.correlate(np.array(3.0), np.array(2.0)) == 6.0


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(1, 1), (1, 6), (6, 1), (0, 3), (3, 0)])
def test_axes_of_length_one_and_none(name: str, shape: tuple[int, int]) -> None:
    ours, theirs = both(name, image(shape=shape), *CALLS[name], mode="mirror")
    assert ours.shape == shape
    np.testing.assert_allclose(ours, theirs, rtol=1e-13, atol=1e-11)


@pytest.mark.parametrize("mode", MODES)
def test_kernels_longer_than_the_axis(mode: str) -> None:
    taps = np.random.default_rng(1).random(31)
    for length in (1, 2, 5):
        ours, theirs = both("correlate1d", image(shape=(length,)), taps, mode=mode, origin=7)
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)
    ours, theirs = both("gaussian_filter", image(), 40, mode=mode)
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_sequences_for_each_axis() -> None:
    x = image(shape=(6, 7, 8))
    for name, keywords in {
        "gaussian_filter": {"sigma": (1, 2), "order": (0, 1), "radius": (3, 2), "mode": ["wrap", "mirror"]},
        "uniform_filter": {"size": (2, 4), "origin": (-1, 1), "mode": ["wrap", "mirror"]},
        "laplace": {"mode": ["wrap", "mirror"]},
    }.items():
        for axes in ((0, 2), (2, 0), (-1, 1)):
            ours, theirs = both(name, x, **keywords, axes=axes)
            np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-11)
    for name in ("sobel", "prewitt"):
        ours, theirs = both(name, x, 1, mode=["wrap", "mirror", "constant"], cval=3)
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-11)
    for name in ("gaussian_laplace", "gaussian_gradient_magnitude"):
        ours, theirs = both(name, x, (1, 2, 1), mode=["wrap", "mirror", "constant"], cval=3, truncate=3.0)
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-11)


def test_cval_pads_every_pass_as_in_scipy() -> None:
    x = image()
    for name in ("sobel", "gaussian_laplace", "gaussian_gradient_magnitude"):
        ours, theirs = both(name, x, *CALLS[name], mode="constant", cval=1e3)
        np.testing.assert_allclose(ours, theirs, rtol=1e-11)
    ours, theirs = both("gaussian_filter", x, 1, order=(1, 0), mode="constant", cval=1e3)
    np.testing.assert_allclose(ours, theirs, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("dtype", [np.float32, np.complex64, np.complex128])
@pytest.mark.parametrize("name", ["correlate", "convolve", "correlate1d", "convolve1d"])
def test_complex_weights(name: str, dtype: Any) -> None:
    shape = (3, 2) if name in ("correlate", "convolve") else (4,)
    cval = 1.5 if dtype == np.float32 else 1.5 - 2j
    ours, theirs = both(name, image(dtype), image(complex, shape), mode="constant", cval=cval)
    assert ours.dtype == theirs.dtype
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_a_real_dtype_for_a_complex_result_is_promoted_with_a_warning() -> None:
    with pytest.warns(UserWarning, match="promoting specified output dtype to complex") as caught:
        assert ndi.correlate1d(image(complex), [1, 2], output=np.float32).dtype == np.complex64
    assert caught[0].filename == __file__
    with pytest.warns(UserWarning, match="promoting specified output dtype to complex") as caught:
        assert ndi.uniform_filter(image(complex), 2, output=np.float32).dtype == np.complex64
    assert caught[0].filename == __file__


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: ndi.correlate(x, [[1, 2]], mode=["reflect", "wrap"]), RuntimeError, "sequence of modes"),
        (lambda x: ndi.correlate1d(x, [1, 2], mode="bouncy"), RuntimeError, "boundary mode not supported"),
        (lambda x: ndi.correlate1d(x, []), RuntimeError, "no filter weights given"),
        (lambda x: ndi.correlate(x, np.ones(3)), RuntimeError, r"weights.ndim \(1\) must match len"),
        (lambda x: ndi.convolve(x, np.ones((2, 2)), origin=(0, -2)), ValueError, "invalid origin -2"),
        (lambda x: ndi.gaussian_filter(x, (1, 2, 3)), RuntimeError, "has 3 entries for 2 filtered axes"),
        (lambda x: ndi.gaussian_filter(x, 1, radius=1.5), ValueError, "nonnegative integer; got 1.5"),
        (lambda x: ndi.gaussian_filter(x, 1, order=-1), ValueError, "non-negative; got -1"),
        (lambda x: ndi.gaussian_laplace(x, 1, radios=3), TypeError, "radios"),
        (lambda x: ndi.uniform_filter(x, 3, axes=(0, 0)), ValueError, "axes must be unique"),
        (lambda x: ndi.uniform_filter(x, 3, axes=2), ValueError, "2 is out of range"),
        (lambda x: ndi.uniform_filter1d(x, 0), RuntimeError, "incorrect filter size"),
        (lambda x: ndi.laplace(x, output=np.empty(3)), RuntimeError, "output shape not correct"),
        (lambda x: ndi.laplace(x + 1j, output=np.empty(x.shape)), RuntimeError, "must have complex dtype"),
        (lambda x: ndi.laplace(x, output="datetime64[s]"), RuntimeError, "must have numeric dtype"),
        (lambda x: ndi.correlate1d(x, [1j], mode="constant", cval=1j), ValueError, "complex-valued cval"),
        (lambda x: ndi.laplace(x, rounding="up"), ValueError, "rounding='up'"),
        (lambda x: ndi.laplace(x, overflow="no"), ValueError, "overflow='no'"),
        (lambda x: ndi.laplace(x.astype(object)), TypeError, "does not hold numbers"),
        (lambda x: ndi.generic_laplace(x.astype(object), ndi.sobel), TypeError, "does not hold numbers"),
        (lambda x: ndi.laplace(np.ma.masked_array(x)), TypeError, "masked array"),
    ],
)  # fmt: skip
def test_errors(call: Callable[[Any], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(image())


# ---- decisions: where SciPy is wrong (docs/filters/ndimage.md lists them) ---------------------------------


def test_small_taps_are_not_taken_for_symmetric_ones() -> None:
    x = np.array([1.0, 5.0, 7.0, 11.0, 13.0])
    taps = np.array([1.0, 2.0, 5.0])
    expected = scipy_ndimage.correlate1d(x, taps)
    np.testing.assert_allclose(ndi.correlate1d(x, taps * 1e-20), expected * 1e-20, rtol=1e-14)
    assert not np.allclose(scipy_ndimage.correlate1d(x, taps * 1e-20), expected * 1e-20, rtol=1e-3, atol=0)


def test_tiny_weights_count() -> None:
    x = image()
    weights = np.full((3, 3), 1e-17)
    np.testing.assert_allclose(ndi.correlate(x, weights), 9e-17 * ndi.uniform_filter(x, 3), rtol=1e-13)
    assert not scipy_ndimage.correlate(x, weights).any()


def long_double_gaussian(x: Any, sigma: float) -> Any:
    return ndi.gaussian_filter(x.astype(np.longdouble), sigma)


def test_one_rounding_at_the_end() -> None:
    volume = np.random.default_rng(3).integers(0, 256, (24, 24, 24), dtype=np.uint8)
    true = long_double_gaussian(volume, 1.5)
    biases = {
        "scipy": np.mean(scipy_ndimage.gaussian_filter(volume, 1.5) - true),
        "truncate": np.mean(ndi.gaussian_filter(volume, 1.5) - true),
        "nearest": np.mean(ndi.gaussian_filter(volume, 1.5, rounding="nearest") - true),
    }
    assert biases["scipy"] < -1.4
    assert -0.55 < biases["truncate"] < -0.45
    assert abs(biases["nearest"]) < 0.02


def test_a_constant_keeps_its_value() -> None:
    for dtype in (np.uint8, np.int16, np.int32, np.int64):
        for value in (1, 100, 127):
            x = np.full((9, 9), value, dtype)
            for filtered in (
                ndi.gaussian_filter(x, 1.7),
                ndi.uniform_filter(x, 7),
                ndi.gaussian_filter1d(x, 3),
            ):
                assert (filtered == value).all()


def test_derivatives_of_small_integers_wrap_unless_told_otherwise() -> None:
    x = np.array([[0, 200, 10], [0, 200, 10]], np.uint8)
    np.testing.assert_array_equal(ndi.sobel(x), scipy_ndimage.sobel(x))
    assert ndi.sobel(x)[0].tolist() == [800 % 256, 40, -760 % 256]
    assert ndi.sobel(x, overflow="saturate")[0].tolist() == [255, 40, 0]
    assert ndi.sobel(x, output=np.int16)[0].tolist() == [800, 40, -760]
    assert ndi.sobel(x, output=np.float32)[0].tolist() == [800, 40, -760]


def test_rounding_and_saturation_reach_every_filter() -> None:
    x = image(np.uint8)
    for name in OWN:
        exact = getattr(ndi, name)(x, *CALLS[name], output=np.float64)
        nearest = getattr(ndi, name)(x, *CALLS[name], rounding="nearest", overflow="saturate")
        assert nearest.dtype == np.uint8
        off = np.abs(nearest - np.clip(exact, 0, 255))
        assert off.max() <= 0.5 + 1e-4, name


def test_bool() -> None:
    x = np.array([True, True, False, False, False])
    assert ndi.correlate1d(x, [1, 1, 1]).tolist() == [True, True, True, False, False]
    assert ndi.uniform_filter1d(x, 3).tolist() == [True, False, False, False, False]
    assert ndi.uniform_filter1d(x, 3, rounding="nearest").tolist() == [True, True, False, False, False]


@pytest.mark.parametrize("name", OWN)
def test_float16(name: str) -> None:
    x = image(np.float16)
    got = getattr(ndi, name)(x, *CALLS[name])
    assert got.dtype == np.float16
    wide = getattr(ndi, name)(x.astype(np.float64), *CALLS[name])
    np.testing.assert_allclose(got, wide, rtol=2.0**-11, atol=0.05)
    with pytest.raises(RuntimeError):
        getattr(scipy_ndimage, name)(x, *CALLS[name])


LONG_DOUBLE_IS_LONGER = np.finfo(np.longdouble).eps < np.finfo(np.float64).eps


@pytest.mark.skipif(not LONG_DOUBLE_IS_LONGER, reason="long double is float64 here")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", OWN)
def test_long_double(name: str, mode: str) -> None:
    x = image(np.longdouble)
    got = getattr(ndi, name)(x, *CALLS[name], mode=mode, cval=2.5)
    assert got.dtype == np.longdouble
    plain = getattr(ndi, name)(x.astype(np.float64), *CALLS[name], mode=mode, cval=2.5)
    np.testing.assert_allclose(got.astype(np.float64), plain, rtol=1e-13, atol=1e-11)


@pytest.mark.skipif(not LONG_DOUBLE_IS_LONGER, reason="long double is float64 here")
def test_long_double_keeps_its_bits() -> None:
    tiny = np.longdouble(2) ** -60
    x = np.array([1, 1 + tiny, 1, 1, 1], np.longdouble)
    assert (ndi.correlate1d(x, [1, 1, 1]) - 3).tolist() == [tiny, tiny, tiny, 0, 0]
    assert (ndi.convolve(x, [0, 0, 1]) - 1).tolist() == [0, 0, tiny, 0, 0]
    assert ndi.uniform_filter(np.full((3, 3), 1 + tiny), 2)[1, 1] == 1 + tiny
    z = x + np.clongdouble(1j)
    assert (ndi.correlate1d(z, [1j]) == -1j * z).all()
    assert (ndi.gaussian_filter(np.ones(9), 1, output=np.longdouble) - 1 < 1e-15).all()
    assert ndi.laplace(np.arange(4, dtype=np.uint8), output=np.longdouble).tolist() == [1, 0, 0, -1]


def test_gradient_magnitude_smooths_along_the_axes_it_is_given() -> None:
    x = image(shape=(5, 8, 8))
    got = ndi.gaussian_gradient_magnitude(x, (1, 2), axes=(1, 2))
    expected = np.stack([scipy_ndimage.gaussian_gradient_magnitude(part, (1, 2)) for part in x])
    np.testing.assert_allclose(got, expected, rtol=1e-12)


def test_origins_go_by_the_order_of_axes() -> None:
    x = image()
    weights = np.random.default_rng(5).random((3, 5))
    expected = ndi.correlate(x, weights, origin=(1, -2))
    np.testing.assert_array_equal(ndi.correlate(x, weights, origin=(-2, 1), axes=(1, 0)), expected)


def test_sums_of_integers_are_exact() -> None:
    x = np.random.default_rng(6).integers(-1000, 1000, (60, 70), dtype=np.int32)
    disk = sp.families.disk(15) > 0  # of low rank, whose terms are sums of integers or not
    for name in ("correlate", "convolve"):
        ours, theirs = both(name, x, disk)
        np.testing.assert_array_equal(ours, theirs)
        np.testing.assert_array_equal(getattr(ndi, name)(x, disk, rounding="nearest"), theirs)


def test_sums_of_derivatives_are_computed_in_double_beyond_8_bits() -> None:
    x = np.random.default_rng(7).integers(0, 2**16, (60, 70), dtype=np.uint16)
    for mode in ("reflect", ["reflect", "wrap"]):
        for name in ("gaussian_gradient_magnitude", "gaussian_laplace"):
            exact = getattr(ndi, name)(x, 2, mode=mode, output=np.float64)
            got = getattr(ndi, name)(x, 2, mode=mode, output=np.int64)
            np.testing.assert_array_equal(got, np.trunc(exact))
            assert np.abs(exact).max() > 1000
            if mode != "reflect" or "magnitude" in name:  # one kernel needs no sum
                np.testing.assert_array_equal(getattr(ndi, name)(x, 2, mode=mode), got.astype(np.uint16))


def test_sigma_in_millimetres() -> None:
    x = image(shape=(6, 7, 8))
    voxel = (3.0, 0.5, 1.0)
    samples = (2 / 3, 4, 2)
    got = ndi.gaussian_filter(x, 2, spacing=voxel)
    np.testing.assert_allclose(got, ndi.gaussian_filter(x, samples), rtol=1e-12)
    got = ndi.gaussian_filter1d(x, 2, 1, order=2, spacing=0.5)
    np.testing.assert_allclose(got, ndi.gaussian_filter1d(x, 4, 1, order=2) / 0.5**2, rtol=1e-12)
    slopes = [
        ndi.gaussian_filter(x, samples, order=[axis == a for a in range(3)]) / voxel[axis]
        for axis in range(3)
    ]
    got = ndi.gaussian_gradient_magnitude(x, 2, spacing=voxel)
    np.testing.assert_allclose(got, np.sqrt(sum(slope**2 for slope in slopes)), rtol=1e-12)
    bends = [
        ndi.gaussian_filter(x, samples, order=[2 * (axis == a) for a in range(3)]) / voxel[axis] ** 2
        for axis in range(3)
    ]
    for dtype in (np.float64, np.longdouble):
        got = ndi.gaussian_laplace(x.astype(dtype), 2, spacing=voxel)
        np.testing.assert_allclose(got.astype(float), sum(bends), rtol=1e-11, atol=1e-12)
    with pytest.raises(ValueError, match="`spacing` is 0; expected"):
        ndi.gaussian_filter(x, 2, spacing=(1, 0, 1))


def test_infinity_spoils_what_is_in_reach_alone() -> None:
    x = np.zeros(9)
    x[4] = np.inf
    assert np.isinf(ndi.uniform_filter1d(x, 3)).tolist() == [False] * 3 + [True] * 3 + [False] * 3
    assert not np.isfinite(scipy_ndimage.uniform_filter1d(x, 3)[6:]).any()


def test_what_is_refused_and_what_is_not() -> None:
    x = image()
    for value in (np.nan, np.inf):
        with pytest.raises(ValueError, match="NaN or infinity"):
            ndi.correlate1d(x, [1, value])
    with pytest.raises(ValueError, match="8"):
        ndi.gaussian_filter(np.zeros((1,) * 9), 1)
    np.testing.assert_array_equal(ndi.gaussian_filter1d(x, 0), x)
    np.testing.assert_array_equal(ndi.gaussian_filter(x, -1), x)  # as SciPy


def test_products_of_complex_numbers_are_in_the_precision_of_the_output() -> None:
    x, weights = image(np.complex64), image(np.complex128, (3, 3))
    got = ndi.convolve(x, weights, output=np.complex128)
    np.testing.assert_allclose(got, ndi.convolve(x.astype(np.complex128), weights), rtol=1e-14)


def test_a_tolerance_is_kept() -> None:
    x = image(shape=(40, 50))
    for sigma in (1.5, 12.0):
        for tol in (1e-2, 1e-4):
            true = ndi.gaussian_filter(x, sigma)
            assert np.abs(ndi.gaussian_filter(x, sigma, tol=tol) - true).max() <= tol * x.max()
            true = ndi.gaussian_filter1d(x, sigma)
            assert np.abs(ndi.gaussian_filter1d(x, sigma, tol=tol) - true).max() <= tol * x.max()
    with pytest.raises(ValueError, match="`tol=-1`"):
        ndi.gaussian_filter(x, 1, tol=-1)
    dense = sp.families.gaussian(3, radius=7).dense() * (1 + 0.03 * np.random.default_rng(2).random((15, 15)))
    error = np.abs(ndi.correlate(x, dense, tol=0.05) - ndi.correlate(x, dense)).max()
    assert 1e-9 < error <= 0.05 * x.max()


# ---- callables ---------------------------------------------------------------------------------------------


def test_generic_filters_call_back_as_scipy_does() -> None:
    calls: list[tuple[Any, ...]] = []

    def derivative(x: Any, axis: int, output: Any, mode: str, cval: float, *args: Any, **kwargs: Any) -> Any:
        calls.append((axis, output is given, mode, cval, args, kwargs))
        return ndi.sobel(x, axis, output, mode, cval)

    given = np.empty((7, 9))
    ndi.generic_laplace(image(), derivative, given, ["wrap", "mirror"], 3, (1,), {"b": 2})
    assert calls == [(0, True, "wrap", 3, (1,), {"b": 2}), (1, False, "mirror", 3, (1,), {"b": 2})]
    x = image(np.uint8)
    sum_of_floats = sum(ndi.sobel(x, axis, output=float) ** 2 for axis in (0, 1))
    got = ndi.generic_gradient_magnitude(x, ndi.sobel, overflow="saturate")
    np.testing.assert_array_equal(got, np.minimum(np.sqrt(sum_of_floats), 255).astype(np.uint8))
    assert ndi.generic_laplace(x, ndi.sobel, axes=()).tolist() == x.tolist()


# ---- installed ---------------------------------------------------------------------------------------------


@pytest.fixture
def module() -> Any:
    """A module that has imported a filter by name, as existing code does."""
    made = types.ModuleType("written_long_ago")
    exec("from scipy.ndimage import gaussian_filter, sobel as edges\nimport scipy.ndimage", made.__dict__)
    sys.modules[made.__name__] = made
    yield made
    del sys.modules[made.__name__]


def test_installed_replaces_and_restores(module: Any) -> None:
    before = {name: getattr(scipy_ndimage, name) for name in NAMES}
    x = np.array([1, 2, 4], np.float16)  # SciPy refuses it
    with ndi.installed():
        for function in (module.gaussian_filter, scipy_ndimage.gaussian_filter):
            np.testing.assert_array_equal(function(x, 1), ndi.gaussian_filter(x, 1))
        assert module.edges(x).tolist() == [1, 3, 2]
        assert {name for name in NAMES if getattr(scipy_ndimage, name) is before[name]} == set()
        assert inspect.signature(module.edges) == inspect.signature(before["sobel"])
        with ndi.installed():
            assert module.edges(x).tolist() == [1, 3, 2]
        assert module.edges(x).tolist() == [1, 3, 2]
    assert {name: getattr(scipy_ndimage, name) for name in NAMES} == before
    assert (module.gaussian_filter, module.edges) == (before["gaussian_filter"], before["sobel"])


def test_installed_is_a_decorator_and_survives_errors() -> None:
    original = scipy_ndimage.sobel

    @ndi.installed()
    def fails() -> None:
        assert scipy_ndimage.sobel is not original
        raise KeyError

    for _ in range(2):
        with pytest.raises(KeyError):
            fails()
    assert scipy_ndimage.sobel is original


def test_installed_reaches_modules_that_come_and_go_meanwhile(module: Any) -> None:
    original = scipy_ndimage.sobel
    late = types.ModuleType("imported_meanwhile")
    with ndi.installed():
        exec("from scipy.ndimage import sobel", late.__dict__)
        sys.modules[late.__name__] = late
        unloaded = sys.modules.pop(module.__name__)
        assert late.sobel is module.edges is not original
    try:
        assert late.sobel is unloaded.edges is original
    finally:
        del sys.modules[late.__name__]
        sys.modules[module.__name__] = unloaded


def test_installed_leaves_alone_what_others_assigned_meanwhile(module: Any) -> None:
    with ndi.installed():
        module.edges = "something else"
    assert module.edges == "something else"


def test_installed_in_many_threads() -> None:
    original = scipy_ndimage.sobel
    start, seen = threading.Barrier(8), []

    def work() -> None:
        start.wait()
        for _ in range(30):
            with ndi.installed():
                seen.append(scipy_ndimage.sobel is not original)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [True] * 240
    assert scipy_ndimage.sobel is original


def test_what_is_not_taken_here_goes_to_scipy(monkeypatch: pytest.MonkeyPatch) -> None:
    class Foreign:
        def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
            return np.arange(3.0)

    asked: list[tuple[Any, ...]] = []
    original = scipy_ndimage.sobel
    monkeypatch.setattr(scipy_ndimage, "sobel", lambda *args, **kwargs: asked.append((args, kwargs)))
    masked = np.ma.masked_array([1.0, 2.0, 3.0])
    with ndi.installed():
        scipy_ndimage.sobel(Foreign())
        scipy_ndimage.sobel(masked)
        scipy_ndimage.sobel(np.arange(3.0), colour="red")
        scipy_ndimage.sobel(np.arange(3.0), output=np.float32)  # ours
        scipy_ndimage.generic_laplace(np.arange(3.0), original)
        scipy_ndimage.generic_laplace(masked, original)
        with pytest.raises(TypeError, match="colour"):
            scipy_ndimage.generic_laplace(np.arange(3.0), original, colour="red")
        with pytest.raises(RuntimeError, match=r"boundary mode not supported$"):
            scipy_ndimage.gaussian_filter(np.arange(3.0), 1, mode="bouncy")
    assert [args[0] for args, _ in asked[:2]] == [asked[0][0][0], masked]
    assert asked[2][1] == {"colour": "red"}
    assert len(asked) == 3


def test_callables_are_called_once() -> None:
    calls = []

    def fails(*args: Any) -> None:
        calls.append(args)
        raise ValueError("mine")

    with ndi.installed(), pytest.raises(ValueError, match="mine"):
        scipy_ndimage.generic_laplace(np.arange(3.0), fails)
    assert len(calls) == 1


def test_no_warnings() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        x = image(np.uint8)
        x[3, 3] = 255
        for name in NAMES:
            getattr(ndi, name)(x, *CALLS[name])


# ---- unknown samples ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.longdouble])
@pytest.mark.parametrize(
    "name",
    [name for name in OWN if name.endswith("1d") or "correlate" in name or "filter" in name] + ["convolve"],
)
def test_unknown_samples_are_left_out(name: str, dtype: Any) -> None:
    x = image(dtype)
    function = getattr(ndi, name)
    plain = function(x, *CALLS[name], mode="constant", cval=3)
    got = function(x, *CALLS[name], mode="constant", cval=3, mask=np.ones(9, bool))
    np.testing.assert_array_equal(got, plain)
    mask = np.random.default_rng(8).random(x.shape) < 0.6
    ones = np.ones(x.shape, dtype)
    share = function(mask.astype(dtype), *CALLS[name]) / function(ones, *CALLS[name])
    expected = function(np.where(mask, x, 0), *CALLS[name])
    with np.errstate(invalid="ignore"):
        expected /= np.where(share < 1e-6, np.nan, share)
    hidden = np.where(mask, x, np.nan)
    for result in (
        function(x, *CALLS[name], mask=mask),
        function(hidden, *CALLS[name], nan="omit"),
        function(np.where(mask, x, 7), *CALLS[name], mask=mask, nan="omit"),
    ):
        np.testing.assert_allclose(result, expected, rtol=1e-4 if dtype == np.float32 else 1e-12)
    assert np.isnan(function(hidden, *CALLS[name])).sum() > np.isnan(expected).sum()


@pytest.mark.parametrize("name", SMOOTHING)
def test_long_double_leaves_out_what_double_leaves_out(name: str) -> None:
    x = image()
    mask = np.random.default_rng(9).random(x.shape) < 0.6
    call = {"mode": "constant", "cval": 40.0, "mask": mask}
    expected = getattr(ndi, name)(x, *CALLS[name], **call)
    got = getattr(ndi, name)(x.astype(np.longdouble), *CALLS[name], **call)
    np.testing.assert_allclose(got.astype(float), expected, rtol=1e-12)


def test_what_cannot_be_normalised_is_refused() -> None:
    x = image()
    for dtype in (np.float64, np.longdouble):
        with pytest.raises(ValueError, match="derivatives cannot be normalised"):
            ndi.gaussian_filter(x.astype(dtype), 1, order=1, nan="omit")
    with pytest.raises(ValueError, match="complex weights cannot be normalised"):
        ndi.correlate1d(x, [1, 1j], mask=x > 0)
    assert "mask" not in inspect.signature(ndi.sobel).parameters
    unknown = ndi.gaussian_filter(x, 0, mask=x > 50)
    np.testing.assert_array_equal(np.isnan(unknown), x <= 50)
