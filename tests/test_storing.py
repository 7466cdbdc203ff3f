"""Elements of every dtype, read and written by the compiled filters: rounding, overflow, exact sums."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
import scipy.ndimage
from reference import MODES, correlate_dense

import separable as sp
import separable.ndimage as ndi
from separable.arrays.output import store, storing

METHODS = ("separable", "direct")
INTEGERS = ("?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8")
VALUES = [
    *(0, 0.5, 1.5, 2.5, -0.5, -1.5, -1, -2.75, 0.51, 99.9999, 100, 126.5, 127.5, 128, -128.5, -129, 254.5),
    *(255.5, 256, 257.25, 300, -300, 32767.5, 32768, -32769, 65535.5, 65536, 70000, -70000, 2.0**31),
    *(-(2.0**31), 2.0**31 - 128, 2.0**32, 2.0**32 + 512, 2.0**40 + 2.0**20, -(2.0**40), 2.0**62, 2.0**63),
    *(-(2.0**63), 2.0**64, -(2.0**64), 1e30, -1e30, np.inf, -np.inf, np.nan),
]
LAYOUTS = {
    "contiguous": lambda x: x.copy(),
    "Fortran": np.asfortranarray,
    "reversed": lambda x: x[::-1, ::-1, ::-1].copy()[::-1, ::-1, ::-1],
    "every second": lambda x: x.repeat(2, 0).repeat(2, 1).repeat(2, 2)[::2, ::2, ::2],
    "channels last": lambda x: np.stack([x, x, x], -1)[..., 1],
    "transposed": lambda x: x.transpose(1, 2, 0).copy().transpose(2, 0, 1),
}


def stored(value: float, dtype: np.dtype, rounding: str, overflow: str) -> int:
    """Store one number as the documentation says, in Python's integers."""
    low, high = (0, 1) if dtype.kind == "b" else (int(np.iinfo(dtype).min), int(np.iinfo(dtype).max))
    if math.isnan(value):
        return 0
    if math.isinf(value):
        return 0 if overflow == "wrap" else high if value > 0 else low
    whole = round(value) if rounding == "nearest" else math.trunc(value)
    if overflow == "saturate":
        return min(max(whole, low), high)
    if dtype.kind == "b":
        return int(whole != 0)
    return (whole - low) % 2 ** (8 * dtype.itemsize) + low


def error_of(kernel, shape, dtype, method="auto") -> float:
    """Return the relative rounding error that truncation makes up for."""
    return sp.plan(kernel, shape, dtype, method=method)._levels.relative(False)


@pytest.mark.parametrize("overflow", ["saturate", "wrap"])
@pytest.mark.parametrize("rounding", ["nearest", "truncate"])
@pytest.mark.parametrize("work", ["f4", "f8"])
def test_every_way_to_store(target, work, rounding, overflow):
    """The core's casts, and NumPy's for what the core does not write, at every place of a vector."""
    narrow = [name for name in INTEGERS if work == "f8" or np.dtype(name).itemsize <= 2]
    for name in narrow:
        values = np.array(VALUES, work)
        how = storing(rounding, overflow, exact=False, error=error_of([1.0], (1,), work))
        snapped = values + np.clip(values * np.dtype(work).type(how.snap), -0.25, 0.25)
        taken = snapped if rounding == "truncate" else values
        wanted = np.array([stored(float(v), np.dtype(name), rounding, overflow) for v in taken], name)
        for shift in range(0, 40, 3):
            x = np.roll(values, shift)[: 46 - shift]
            found = sp.correlate(x, [1.0], output=name, rounding=rounding, overflow=overflow)
            np.testing.assert_array_equal(found, np.roll(wanted, shift)[: 46 - shift], err_msg=name)
        swapped = np.empty(values.shape, np.dtype(name).newbyteorder())
        store(values.copy(), swapped, how)
        np.testing.assert_array_equal(swapped, wanted, err_msg=name)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers_are_read_as_their_floats_would_be(target, dtype, layout, method):
    """Any dtype in any layout gives to the last bit what its copy in floating point gives."""
    rng = np.random.default_rng(3)
    low, high = (0, 1) if dtype == "?" else (np.iinfo(dtype).min // 2, np.iinfo(dtype).max // 2)
    x = LAYOUTS[layout](rng.integers(low, high, (5, 6, 37), endpoint=True).astype(dtype))
    x.flags.writeable = False
    kernel = sp.SeparableKernel([[rng.uniform(-1, 1, n) for n in (3, 2, 7)] for _ in range(2)])
    working = np.float32 if np.dtype(dtype).itemsize <= 2 else np.float64
    for mode in MODES:
        found = sp.correlate(x, kernel, mode=mode, cval=3, method=method)
        assert found.dtype == working
        np.testing.assert_array_equal(
            found, sp.correlate(x.astype(working), kernel, mode=mode, cval=3, method=method)
        )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("layout", sorted(LAYOUTS))
@pytest.mark.parametrize("dtype", ["?", "u1", "i2", "u4", "i8"])
def test_integers_are_written_into_any_layout(target, dtype, layout, method):
    rng = np.random.default_rng(4)
    working = np.float32 if np.dtype(dtype).itemsize <= 2 else np.float64
    x = rng.uniform(-300, 300, (5, 6, 37)).astype(working)
    output = LAYOUTS[layout](np.full(x.shape, 1, dtype))
    kernel = sp.SeparableKernel([[rng.uniform(-1, 1, n) for n in (3, 2, 7)]])
    for rounding, overflow in (("nearest", "saturate"), ("truncate", "wrap")):
        options = {"method": method, "rounding": rounding, "overflow": overflow}
        assert sp.correlate(x, kernel, output=output, **options) is output
        wanted = np.empty(x.shape, dtype)
        how = storing(rounding, overflow, exact=False, error=error_of(kernel, x.shape, working, method))
        store(sp.correlate(x, kernel, method=method), wanted, how)
        np.testing.assert_array_equal(output, wanted)


@pytest.mark.parametrize(
    ("shape", "taps"),
    [
        ((1,), (3,)),
        ((4, 1), (3, 3)),
        ((1, 70), (5, 9)),
        ((70, 1), (9, 5)),
        ((3, 0, 4), (3, 3, 3)),
        ((9, 10, 3), (3, 3, 1)),
        ((5, 20, 30), (3, 1, 5)),
        ((5, 20, 30), (3, 3, 1)),
        ((4, 5, 6, 19), (3, 3, 3, 3)),
        ((600, 700), (3, 9)),
    ],
)
@pytest.mark.parametrize("method", METHODS)
def test_integers_in_and_out_of_any_shape(shape, taps, method):
    rng = np.random.default_rng(5)
    x = rng.integers(0, 255, shape).astype("u1")
    terms = 2 if len(shape) != 2 else 1
    kernel = sp.SeparableKernel([[rng.uniform(0, 1, n) for n in taps] for _ in range(terms)])
    found = sp.correlate(x, kernel, output="u2", method=method, threads=2)
    np.testing.assert_array_equal(
        found, np.rint(sp.correlate(x, kernel, method=method)).clip(0, 65535).astype("u2")
    )


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "i4"])
def test_exact_sums_are_truncated_as_they_are(dtype):
    """Whole taps on whole numbers: what SciPy stores, wrapped around where it does not fit."""
    rng = np.random.default_rng(6)
    info = np.iinfo(dtype)
    x = rng.integers(info.min, info.max, (40, 50), endpoint=True).astype(dtype)
    if dtype == "i4":
        x //= 8  # what a conversion in C makes of more is not defined
    for weights in ([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]]) / 16):
        for mode in ("reflect", "constant"):
            found = sp.correlate(
                x, weights, output=dtype, rounding="truncate", overflow="wrap", mode=mode, cval=7
            )
            np.testing.assert_array_equal(
                found, scipy.ndimage.correlate(x, weights, output=dtype, mode=mode, cval=7)
            )


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "i4"])
@pytest.mark.parametrize("size", [2, 3, 5, 17])
def test_means_of_whole_numbers_are_exact(dtype, size):
    rng = np.random.default_rng(size)
    info = np.iinfo(dtype)
    x = rng.integers(info.min, info.max, (40, 41), endpoint=True).astype(dtype)
    sums = correlate_dense(x, np.ones((size, size)), "mirror")
    assert (sums == np.rint(sums)).all()
    truncated = sp.uniform(x, size, mode="mirror", output=dtype, rounding="truncate")
    np.testing.assert_array_equal(truncated, np.trunc(sums / size**2))
    nearest = sp.uniform(x, size, mode="mirror", output=dtype)
    np.testing.assert_array_equal(nearest, np.rint(sums / size**2))
    if dtype in ("u1", "i1"):
        wanted = (sums / size**2).astype(np.float32)
        np.testing.assert_array_equal(sp.uniform(x, size, mode="mirror"), wanted)


@pytest.mark.parametrize("dtype", ["u1", "u2", "i4"])
def test_truncation_keeps_a_constant(dtype):
    for sigma in np.arange(0.3, 12, 0.37):
        for value in (1, 100, 255):
            x = np.full((3, 60), value, dtype)
            for axes in (1, (0, 1)):
                found = sp.gaussian(x, sigma, axes=axes, output=dtype, rounding="truncate")
                assert (found == value).all(), (sigma, value)


def test_there_is_one_rounding():
    """A volume of bytes: no bias, and no error beyond half a grey level."""
    x = np.random.default_rng(7).integers(0, 256, (24, 25, 26)).astype("u1")
    exact = correlate_dense(x, sp.families.gaussian((1, 1, 1)).dense())
    error = sp.gaussian(x, 1, output="u1") - exact
    assert abs(error).max() < 0.5 + 1e-4
    assert abs(error.mean()) < 0.01


def test_no_copy_of_the_array_is_made():
    x = np.zeros((2048, 1024), np.uint8)
    output = np.empty_like(x)
    for keywords in ({}, {"mask": np.ones(x.shape, bool)}):
        sp.gaussian(x, 2, output=output, **keywords)
        tracemalloc.start()
        sp.gaussian(x, 2, output=output, **keywords)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < x.nbytes // 16


def test_names_are_checked():
    x = np.zeros((4, 5), np.uint8)
    for name in ("rounding", "overflow"):
        with pytest.raises(ValueError, match=f"`{name}='up'` is unknown; expected '(nearest|saturate)' or"):
            sp.gaussian(x, 1, **{name: "up"})


def test_dtypes_that_the_core_does_not_convert():
    """Half precision, other byte orders and unaligned memory go through a copy, and come out the same."""
    x = np.random.default_rng(8).uniform(0, 255, (20, 30)).astype("f2")
    wanted = sp.gaussian(x.astype("f4"), 1)
    np.testing.assert_array_equal(sp.gaussian(x, 1), wanted)
    np.testing.assert_array_equal(sp.gaussian(x, 1, output="f2"), wanted.astype("f2"))
    found = sp.gaussian(x, 1, output=">u2", rounding="truncate")
    assert found.dtype == np.dtype(">u2")
    np.testing.assert_array_equal(found, sp.gaussian(x, 1, output="u2", rounding="truncate"))
    room = np.zeros(2 * x.size + 1, np.uint8)[1:].view("u2").reshape(x.shape)
    np.testing.assert_array_equal(sp.gaussian(x, 1, output=room), sp.gaussian(x, 1, output="u2"))


# ---------------------------------------------------------------- what else the verbs take


@pytest.mark.parametrize("verb", ["correlate", "convolve"])
@pytest.mark.parametrize("dtype", ["f4", "f8", "c8", "c16", "u1"])
def test_complex_weights_are_scipys(verb, dtype):
    rng = np.random.default_rng(9)
    x = rng.uniform(0, 200, (12, 13)).astype(dtype)
    if np.dtype(dtype).kind == "c":
        x = x + 1j * rng.uniform(0, 200, x.shape).astype(x.real.dtype)
    weights = rng.standard_normal((3, 4)) + 1j * rng.standard_normal((3, 4))
    for mode in ("reflect", "constant"):
        found = getattr(sp, verb)(x, weights, mode=mode, cval=2)
        wanted = getattr(scipy.ndimage, verb)(x.astype(np.complex128), weights, mode=mode, cval=2)
        assert found.dtype == (np.complex64 if dtype in ("f4", "c8", "u1") else np.complex128)
        np.testing.assert_allclose(
            found, wanted, rtol=1e-5, atol=1e-2 if found.dtype == np.complex64 else 1e-9
        )
        output = np.empty(x.shape, np.complex128)
        assert getattr(sp, verb)(x, weights, mode=mode, cval=2, output=output) is output
        np.testing.assert_allclose(output, wanted, rtol=1e-12, atol=1e-9)
    with pytest.raises(TypeError, match="complex"):
        getattr(sp, verb)(x, weights, output=np.float64)
    with pytest.raises(ValueError, match="the weights are complex"):
        getattr(sp, verb)(x, weights, nan="omit")


def test_spacing_is_the_length_of_a_sample():
    x = np.random.default_rng(10).standard_normal((20, 21, 22))
    spacing = (2.0, 0.5, 1.0)
    widths, order = [1.5 / s for s in spacing], (0, 1, 2)
    found = sp.gaussian(x, 1.5, spacing=spacing, order=order)
    wanted = sp.correlate(x, sp.families.gaussian(widths, order=order)) / spacing[1]
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-12)
    found = ndi.gaussian_filter(x, 1.5, spacing=spacing, order=order)
    wanted = scipy.ndimage.gaussian_filter(x, widths, order=order) / spacing[1]
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(sp.gaussian(x, 3.0, spacing=2), sp.gaussian(x, 1.5))
    with pytest.raises(ValueError, match=r"`spacing\[1\]=0.0` is not a length"):
        sp.gaussian(x, 1, spacing=(1, 0, 1))
    with pytest.raises(ValueError, match=r"`spacing=\(1, 2\)` has 2 entries for 3 filtered axes"):
        sp.gaussian(x, 1, spacing=(1, 2))
