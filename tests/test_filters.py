"""The verbs against the dense reference: every mode, taps, dimension, dtype, memory layout and target."""

from __future__ import annotations

import concurrent.futures
import functools
import subprocess
import sys
from collections.abc import Iterator
from unittest import mock

import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given
from hypothesis import strategies as st
from reference import MODES, convolve_dense, correlate_dense, tolerance

import separable as sp
from separable import _core
from separable.filters import cache

METHODS = ("separable", "direct")
DTYPES = (np.float32, np.float64)
CVAL = 1.25


@pytest.fixture(params=_core.core_info()["targets"])
def target(request) -> Iterator[str]:
    """Run the test on each instruction set that this machine has."""
    cache._remembered.cache_clear()  # what was prepared for one target is not run on the next
    _core.force(request.param)
    yield request.param
    _core.force(None)
    cache._remembered.cache_clear()


@functools.cache
def samples(*shape: int) -> np.ndarray:
    """Return noise that float32 holds exactly, so that one reference serves both precisions."""
    x = np.random.default_rng(shape).standard_normal(shape).astype(np.float32).astype(np.float64)
    x.flags.writeable = False
    return x


def taps_of(count: int, kind: str, seed: int = 0) -> np.ndarray:
    taps = np.random.default_rng([count, seed]).uniform(-1, 1, count)
    return {"none": taps, "symmetric": taps + taps[::-1], "antisymmetric": taps - taps[::-1]}[kind]


def kernel_of(taps: tuple[int, ...], kind: str = "none", rank: int = 1) -> sp.SeparableKernel:
    terms = [[taps_of(n, kind, 10 * term + axis) for axis, n in enumerate(taps)] for term in range(rank)]
    return sp.SeparableKernel(terms)


@functools.cache
def expected(shape, taps, kind, rank, mode, origin=0):
    return correlate_dense(samples(*shape), kernel_of(taps, kind, rank).dense(), mode, CVAL, origin)


def check(shape, taps, mode, *, kind="none", rank=1, origin=0, methods=METHODS):
    """Filter noise in both precisions with each method, and compare with the reference."""
    x, kernel = samples(*shape), kernel_of(taps, kind, rank)
    wanted = expected(shape, taps, kind, rank, mode, origin)
    for dtype in DTYPES:
        for method in methods:
            found = sp.correlate(x.astype(dtype), kernel, mode=mode, cval=CVAL, origin=origin, method=method)
            bound = tolerance(dtype, kernel.dense() if method == "direct" else kernel, x, CVAL)
            assert found.dtype == dtype
            np.testing.assert_allclose(
                found, wanted, rtol=0, atol=bound, err_msg=f"{shape} {taps} {mode} {kind} {dtype} {method}"
            )


# ---------------------------------------------------------------- geometry


@pytest.mark.parametrize("kind", ["none", "symmetric", "antisymmetric"])
@pytest.mark.parametrize("mode", MODES)
def test_taps_from_1_to_33(target, mode, kind):
    for n in range(1, 34):
        check((13, 37), (n, 34 - n), mode, kind=kind, methods=("separable",))
    for n in range(1, 34, 4):
        check((13, 37), (n, 34 - n), mode, kind=kind, methods=("direct",))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("shape", "taps"),
    [
        ((70,), (8,)),
        ((1,), (5,)),
        ((9, 53), (4, 7)),
        ((1, 40), (3, 9)),
        ((40, 1), (9, 2)),
        ((6, 7, 35), (5, 3, 9)),
        ((1, 17, 1), (3, 6, 3)),
        ((4, 3, 5, 19), (3, 2, 1, 5)),
        ((2, 3, 4, 3, 17), (2, 1, 3, 2, 3)),
        ((3, 1, 2, 2, 5), (3, 3, 2, 2, 4)),
    ],
)
def test_dimensions_from_1_to_5(target, shape, taps, mode):
    for rank in (1, 3):
        check(shape, taps, mode, rank=rank)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("count", [2, 3, 9, 16, 33])
def test_lengths_around_the_vectors(target, count, mode):
    """From nothing to past three of the widest vectors, along rows and down columns."""
    lengths = [*range(20), 23, 24, 25, 31, 32, 33, 47, 48, 49]
    for length in lengths:
        check((3, length), (1, count), mode, methods=("separable",))
        check((length, 3), (count, 2), mode, methods=("separable",))
        if length % 3 == 0:
            check((3, length), (2, count), mode, methods=("direct",))
    for width in lengths[1:]:
        check((5, width), (count, 1), mode, methods=("separable",))


def test_a_mode_for_each_axis(target):
    for first in MODES:
        for second in MODES:
            for rank in (1, 2):
                check((7, 18), (5, 4), (first, second), rank=rank)
                check((3, 7, 18), (3, 5, 4), (second, first, second), rank=rank)


@pytest.mark.parametrize("taps", [(4, 5), (1, 2), (3, 6)])
def test_every_origin(taps):
    for first in range(-(taps[0] // 2), (taps[0] - 1) // 2 + 1):
        for second in range(-(taps[1] // 2), (taps[1] - 1) // 2 + 1):
            check((7, 20), taps, ("mirror", "constant"), origin=(first, second))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("taps", [(4, 5), (5, 4), (2, 2), (1, 6)])
def test_convolve(taps, mode, method):
    x, kernel = samples(7, 20), kernel_of(taps, rank=2)
    for origin in (0, -1 if taps[0] > 1 else 0, tuple((n - 1) // 2 for n in taps)):
        found = sp.convolve(x, kernel, mode=mode, cval=CVAL, origin=origin, method=method)
        wanted = convolve_dense(x, kernel.dense(), mode, CVAL, origin)
        np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance(np.float64, kernel, x, CVAL))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("verb", ["correlate", "convolve"])
@pytest.mark.parametrize("mode", [*MODES, "grid-mirror", "grid-constant", "grid-wrap"])
def test_scipy_agrees(verb, mode, method):
    x, weights = samples(9, 11), kernel_of((4, 5)).dense()
    for origin in (0, 1, (-2, -1)):
        options = {"mode": mode, "cval": CVAL, "origin": origin}
        found = getattr(sp, verb)(x, weights, method=method, **options)
        wanted = getattr(scipy.ndimage, verb)(x, weights, **options)
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-13)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("axes", [0, 1, 2, -1, (0, 2), (2, 0), (1, 2), (1, 0), (2, 0, 1)])
def test_axes(axes, method):
    x = samples(5, 6, 19)
    chosen = [axis % 3 for axis in np.atleast_1d(axes)]
    taps = (4, 3, 5)[: len(chosen)]
    modes = ("wrap", "constant", "mirror")[: len(chosen)]
    origins = (1, -1, 2)[: len(chosen)]
    kernel = kernel_of(taps, rank=2)
    order = np.argsort(chosen)
    weights = np.expand_dims(kernel.dense().transpose(order), sorted({0, 1, 2} - set(chosen)))
    every = [chosen.index(axis) if axis in chosen else None for axis in range(3)]
    wanted = correlate_dense(
        x,
        weights,
        ["nearest" if n is None else modes[n] for n in every],
        CVAL,
        [0 if n is None else origins[n] for n in every],
    )
    options = {"mode": modes, "cval": CVAL, "origin": origins, "axes": axes, "method": method}
    np.testing.assert_allclose(sp.correlate(x, kernel, **options), wanted, rtol=0, atol=1e-13)
    np.testing.assert_allclose(sp.correlate(x, kernel.dense(), **options), wanted, rtol=0, atol=1e-13)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(0,), (0, 5), (5, 0), (3, 0, 4), (0, 0)])
def test_empty_arrays_stay_empty(shape, method):
    for mode in MODES:
        found = sp.correlate(
            np.empty(shape, np.float32), np.ones((3,) * len(shape)), mode=mode, method=method
        )
        assert found.shape == shape
        assert found.dtype == np.float32
    output = np.empty(shape, np.uint8)
    assert sp.correlate(np.empty(shape), np.ones((3,) * len(shape)), output=output, method=method) is output


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("taps", [(1,), (1, 1), (1, 1, 1)])
def test_a_single_tap_scales(taps, method):
    x = samples(3, 4, 20)[(0,) * (3 - len(taps))]
    for verb in (sp.correlate, sp.convolve):
        np.testing.assert_array_equal(verb(x, np.full(taps, -0.5), method=method), -0.5 * x)
        twice = sp.SeparableKernel([[[2.0]] * len(taps), [[1.0]] * len(taps)])
        np.testing.assert_array_equal(verb(x, twice, method=method), (2.0 ** len(taps) + 1) * x)


@pytest.mark.parametrize("method", METHODS)
def test_a_zero_kernel_gives_zeros(method):
    assert not sp.correlate(samples(5, 30), np.zeros((3, 4)), method=method).any()


@pytest.mark.parametrize(
    ("shape", "taps"),
    [((900, 1700), (9, 12)), ((40, 130, 260), (5, 4, 7)), ((3, 700_001), (1, 9)), ((700_001, 3), (9, 2))],
)
def test_arrays_larger_than_the_caches(target, shape, taps):
    """Tiles, rings and streaming stores, on one thread and on several."""
    x = samples(*shape).astype(np.float32)
    kernel = kernel_of(taps, "symmetric")
    wanted = x.astype(np.float64)
    for axis, line in enumerate(kernel.terms[0]):
        wanted = scipy.ndimage.correlate1d(wanted, line, axis, mode="mirror")
    for threads in (1, 3):
        found = sp.correlate(x, kernel, mode="mirror", method="separable", threads=threads)
        np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance(np.float32, kernel, x))


# ---------------------------------------------------------------- memory


def base(dtype) -> np.ndarray:
    return (samples(6, 5, 40) * 20).astype(dtype)


def unaligned(x: np.ndarray) -> np.ndarray:
    memory = np.zeros(x.nbytes + 1, np.uint8)[1:]
    view = np.ndarray(x.shape, x.dtype, memory)
    view[...] = x
    return view


def record_field(x: np.ndarray) -> np.ndarray:
    """Return a view of one field of packed records: strides that are no multiple of the item."""
    records = np.zeros(x.shape, np.dtype([("tag", "u1"), ("value", x.dtype)]))
    records["value"] = x
    return records["value"]


def frozen(x: np.ndarray) -> np.ndarray:
    x = x.copy()
    x.flags.writeable = False
    return x


LAYOUTS = {
    "contiguous": lambda x: x.copy(),
    "Fortran": np.asfortranarray,
    "reversed": lambda x: x[::-1, ::-1, ::-1].copy()[::-1, ::-1, ::-1],
    "reversed rows": lambda x: x[:, :, ::-1].copy()[:, :, ::-1],
    "every second": lambda x: x.repeat(2, 0).repeat(2, 1).repeat(2, 2)[::2, ::2, ::2],
    "every third, backwards": lambda x: x[:, :, ::-1].repeat(3, 2)[:, :, ::-3],
    "channels last": lambda x: np.stack([x, x + 1, x + 2], -1)[..., 0],
    "transposed": lambda x: x.transpose(1, 2, 0).copy().transpose(2, 0, 1),
    "padded rows": lambda x: np.pad(x, ((0, 0), (0, 0), (1, 2)))[:, :, 1:-2],
    "unaligned": unaligned,
    "record field": record_field,
    "read-only": frozen,
    "other byte order": lambda x: x.astype(x.dtype.newbyteorder()),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64, np.int16])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_layout_of_the_input(target, layout, dtype, method):
    x = LAYOUTS[layout](base(dtype))
    assert np.array_equal(x, base(dtype))
    kernel, before = kernel_of((4, 3, 7), rank=2), x.copy()
    found = sp.correlate(x, kernel, mode="reflect", method=method)
    working = np.result_type(dtype, np.float32) if dtype != np.int16 else np.float32
    assert found.dtype == working
    bound = tolerance(working, kernel, x)
    np.testing.assert_allclose(found, correlate_dense_cached(dtype), rtol=0, atol=bound)
    np.testing.assert_array_equal(x, before)


@functools.cache
def correlate_dense_cached(dtype) -> np.ndarray:
    return correlate_dense(base(dtype), kernel_of((4, 3, 7), rank=2).dense())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
@pytest.mark.parametrize("layout", sorted(set(LAYOUTS) - {"read-only"}))
def test_any_layout_of_the_output(target, layout, dtype, method):
    x, kernel = base(dtype), kernel_of((4, 3, 7), rank=2)
    output = LAYOUTS[layout](np.full_like(x, 7))
    found = sp.correlate(x, kernel, output=output, method=method)
    assert found is output
    np.testing.assert_allclose(
        output, sp.correlate(x, kernel, method=method), rtol=0, atol=tolerance(dtype, kernel, x)
    )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(1, 1, 30), (6, 1, 1), (1, 5, 1), (1, 1, 1)])
def test_broadcast_input(shape, method):
    x = np.broadcast_to(samples(*shape), (6, 5, 30))
    kernel = kernel_of((3, 3, 5))
    np.testing.assert_allclose(
        sp.correlate(x, kernel, method=method),
        sp.correlate(x.copy(), kernel, method=method),
        rtol=0,
        atol=1e-13,
    )


def test_only_the_output_is_written():
    """Elements between and around those of a strided output keep their values."""
    x, kernel = base(np.float32), kernel_of((4, 3, 7))
    room = np.full((16, 14, 125), 7, np.float32)
    output = room[2:14:2, 2:12:2, 3:123:3]
    for method in METHODS:
        sp.correlate(x, kernel, output=output, method=method)
        inside = np.zeros(room.shape, bool)
        inside[2:14:2, 2:12:2, 3:123:3] = True
        assert (room[~inside] == 7).all()
        assert (room[inside] != 7).all()


def test_interleaved_input_and_output_do_not_overlap():
    both = np.zeros((6, 2, 30), np.float32)
    both[:, 0] = samples(6, 30)
    wanted = sp.correlate(both[:, 0].copy(), np.ones((3, 3)))
    sp.correlate(both[:, 0], np.ones((3, 3)), output=both[:, 1])
    np.testing.assert_array_equal(both[:, 1], wanted)


def test_results_are_new_and_aligned():
    x = samples(6, 30).astype(np.float32)
    first, second = sp.correlate(x, [[2.0]]), sp.correlate(x, [[2.0]])
    assert not np.shares_memory(first, second)
    for dtype in (np.float32, np.float64, np.complex64, np.complex128):
        result = sp.correlate(x.astype(dtype), np.ones((3, 3)))
        assert result.flags.c_contiguous
        assert result.flags.writeable
        assert result.ctypes.data % 64 == 0


def test_lists_and_subclasses():
    rows = [[1, 2, 3], [4, 5, 6]]
    wanted = sp.correlate(np.array(rows), [[1.0, 1.0]], mode="nearest")
    assert wanted.dtype == np.float64
    np.testing.assert_array_equal(sp.correlate(rows, [[1, 1]], mode="nearest"), wanted)
    mapped = np.array(rows).view(np.memmap)
    assert type(sp.correlate(mapped, [[1, 1]], mode="nearest")) is np.ndarray
    output = np.zeros((2, 3)).view(np.memmap)
    assert sp.correlate(rows, [[1, 1]], mode="nearest", output=output) is output
    np.testing.assert_array_equal(output, wanted)


# ---------------------------------------------------------------- dtypes


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "dtype", ["?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", ">f4", ">i2", ">f8"]
)
def test_real_dtypes(dtype, method):
    x = (samples(6, 5, 40) * 20).clip(0, 100).astype(dtype)
    kernel = kernel_of((3, 4, 5))
    wide = dtype.lstrip(">") in ("i4", "u4", "i8", "u8", "f8")
    found = sp.correlate(x, kernel, method=method)
    assert found.dtype == (np.float64 if wide else np.float32)
    bound = tolerance(found.dtype, kernel.dense(), x.astype(np.float64))
    np.testing.assert_allclose(found, correlate_dense(x, kernel.dense()), rtol=0, atol=bound)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("cval", [0, 1.5, 1.5 - 2j])
@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
def test_complex_input(dtype, cval, mode, method):
    x = (samples(5, 22) + 1j * samples(22, 5).T).astype(dtype)
    kernel = kernel_of((4, 5), rank=2)
    for view in (x, x[::-1, ::2], x.T.copy().T):
        found = sp.correlate(view, kernel, mode=mode, cval=cval, method=method)
        assert found.dtype == dtype
        wanted = correlate_dense(view, kernel.dense(), mode, cval)
        np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance(dtype, kernel.dense(), view, cval))


@pytest.mark.parametrize("dtype", ["?", "u1", "i2", "u4", "i8", "f2", "f4", "f8", "c8", "c16", ">f4", ">i4"])
@pytest.mark.parametrize("given", [np.uint8, np.float32, np.float64])
def test_output_dtypes(given, dtype):
    x = (abs(samples(6, 40)) * 40).clip(0, 255).astype(given)
    weights = np.outer([1.0, 2, 1], [1.0, 2, 1]) / 16
    exact = correlate_dense(x, weights)
    array = np.full(x.shape, 7, dtype)
    found = sp.correlate(x, weights, output=dtype)
    assert found.dtype == np.dtype(dtype)
    assert sp.correlate(x, weights, output=array) is array
    np.testing.assert_array_equal(array, found)
    if np.dtype(dtype).kind in "iub":
        high = 1 if dtype == "?" else np.iinfo(dtype).max
        np.testing.assert_allclose(found.astype(np.float64), np.rint(exact).clip(0, high), rtol=0, atol=1)
        assert abs(found.astype(np.float64) - exact.clip(0, high)).max() < 0.5001
    else:
        # a double-precision output of float32 input is computed in double precision
        eps = np.finfo(np.dtype(dtype)).eps if given != np.uint8 or dtype in ("f8", "c16", "f2") else 2.0**-23
        np.testing.assert_allclose(found, exact, rtol=0, atol=8 * 255 * eps)


def test_integer_output_rounds_half_to_even_and_saturates():
    x = np.array([1, 3, 5, 300, -300, 255, 0], np.int16)
    found = sp.correlate(x, [0.5], output=np.uint8)
    np.testing.assert_array_equal(found, [0, 2, 2, 150, 0, 128, 0])
    np.testing.assert_array_equal(sp.correlate(x, [2.0], output="int8"), [2, 6, 10, 127, -128, 127, 0])


# ---------------------------------------------------------------- behaviour

SHAPES = st.lists(st.integers(1, 12), min_size=1, max_size=3).map(tuple)


@st.composite
def filters(draw, modes=MODES, odd=False):
    """Draw an input, a kernel of one to three terms and the options of a filter."""
    shape = draw(SHAPES)
    counts = st.integers(0, 3).map(lambda n: 2 * n + 1) if odd else st.integers(1, 7)
    taps = tuple(draw(counts) for _ in shape)
    kernel = kernel_of(taps, draw(st.sampled_from(["none", "symmetric"])), draw(st.integers(1, 3)))
    options = {
        "mode": [draw(st.sampled_from(modes)) for _ in shape],
        "method": draw(st.sampled_from(METHODS)),
    }
    x = np.random.default_rng(draw(st.integers(0, 2**32))).standard_normal(shape)
    return x, kernel, options


@given(filters())
def test_dense_weights_and_their_factors_give_the_same(case):
    x, kernel, options = case
    factored = sp.correlate(x, kernel, **options | {"method": "separable"})
    direct = sp.correlate(x, kernel.dense(), **options | {"method": "direct"})
    chosen = sp.correlate(x, kernel.dense(), tol=1e-12, mode=options["mode"])
    bound = 4 * tolerance(np.float64, kernel, x) + 1e-12 * np.abs(kernel.dense()).sum() * np.abs(x).max()
    np.testing.assert_allclose(factored, direct, rtol=0, atol=bound)
    np.testing.assert_allclose(chosen, direct, rtol=0, atol=bound)


@given(filters(modes=("constant",)))
def test_an_impulse_returns_the_kernel(case):
    _, kernel, options = case
    impulse = np.zeros([2 * n + 1 for n in kernel.shape])
    impulse[kernel.shape] = 1
    window = tuple(slice(n - n // 2, n - n // 2 + n) for n in kernel.shape)
    seen = np.zeros_like(impulse)
    seen[window] = kernel.dense()
    np.testing.assert_allclose(sp.convolve(impulse, kernel, **options), seen, rtol=0, atol=1e-13)
    flipped = np.zeros_like(impulse)
    flipped[tuple(slice(n - (n - 1) // 2, n - (n - 1) // 2 + n) for n in kernel.shape)] = np.flip(
        kernel.dense()
    )
    np.testing.assert_allclose(sp.correlate(impulse, kernel, **options), flipped, rtol=0, atol=1e-13)


@given(filters(), st.floats(-3, 3), st.floats(-3, 3))
def test_filters_are_linear(case, a, b):
    x, kernel, options = case
    y = x[::-1] + 1
    together = sp.correlate(a * x + b * y, kernel, **options)
    apart = a * sp.correlate(x, kernel, **options) + b * sp.correlate(y, kernel, **options)
    bound = 3 * tolerance(np.float64, kernel, np.abs(a * x) + np.abs(b * y))
    np.testing.assert_allclose(together, apart, rtol=0, atol=bound)


@given(filters(modes=("constant", "wrap"), odd=True))
def test_the_adjoint_kernel_is_the_adjoint_filter(case):
    x, kernel, options = case
    y = np.random.default_rng(x.size).standard_normal(x.shape)
    forward = np.vdot(sp.correlate(x, kernel, **options), y)
    backward = np.vdot(x, sp.correlate(y, kernel.adjoint(), **options))
    assert abs(forward - backward) <= 2 * tolerance(np.float64, kernel, x) * np.abs(y).max() * x.size
    np.testing.assert_array_equal(
        sp.convolve(x, kernel, **options), sp.correlate(x, kernel.adjoint(), **options)
    )


@given(filters(), st.sampled_from(DTYPES), st.integers(2, 5))
def test_threads_change_nothing(case, dtype, threads):
    x, kernel, options = case
    x = np.tile(x, 5).astype(dtype)
    with mock.patch("separable.cost.model.THREAD_GRAIN", 1):  # so that small work is divided too
        p = sp.plan(kernel, x.shape, dtype, **options)
    np.testing.assert_array_equal(p(x, threads=threads), p(x, threads=1))


@given(filters())
def test_the_input_is_never_written(case):
    x, kernel, options = case
    before = x.tobytes()
    sp.correlate(x, kernel, **options)
    sp.convolve(x, kernel, output=np.uint8, **options)
    assert x.tobytes() == before


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "kernel", [kernel_of((9, 7), "symmetric"), kernel_of((4, 5), rank=3)], ids=["one", "three"]
)
@pytest.mark.parametrize("method", METHODS)
def test_threads_change_nothing_in_large_arrays(kernel, method, dtype):
    x = samples(700, 801).astype(dtype)
    p = sp.plan(kernel, x.shape, dtype, method=method)
    one = p(x, threads=1)
    for threads in (2, 3, 7):
        np.testing.assert_array_equal(p(x, threads=threads), one)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("taps", [(3, 5), (4, 1), (1, 4), (9, 9)])
def test_a_nan_spoils_its_neighbourhood_alone(target, taps, dtype, method, bad):
    x = samples(40, 90).astype(dtype)
    hurt = x.copy()
    hurt[17, 43] = bad
    kernel = kernel_of(taps)
    clean = sp.correlate(x, kernel, method=method)
    with np.errstate(invalid="ignore"):
        found = sp.correlate(hurt, kernel, method=method)
    spoilt = ~np.isfinite(found)
    reached = np.zeros(x.shape, bool)
    reached[tuple(slice(i - n + 1 + n // 2, i + 1 + n // 2) for i, n in zip((17, 43), taps, strict=True))] = (
        True
    )
    np.testing.assert_array_equal(spoilt, reached)
    np.testing.assert_array_equal(found[~reached], clean[~reached])


def test_many_threads_may_filter_at_once():
    jobs = []
    for n in range(12):
        kernel, shape = kernel_of((3 + n % 5, 5), rank=1 + n % 2), (40 + 30 * n, 300)
        x = samples(*shape).astype(DTYPES[n % 2])
        jobs.append((x, kernel, {"mode": MODES[n % 5], "method": METHODS[n % 2], "threads": 1 + n % 3}))
    wanted = [sp.correlate(x, kernel, **options) for x, kernel, options in jobs]
    with mock.patch("separable.cost.model.THREAD_GRAIN", 1):
        cache._remembered.cache_clear()
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            found = [
                (n, pool.submit(sp.correlate, jobs[n][0], jobs[n][1], **jobs[n][2])) for n in [*range(12)] * 8
            ]
            for n, result in found:
                np.testing.assert_array_equal(result.result(), wanted[n])
        cache._remembered.cache_clear()


def test_one_plan_may_run_on_many_threads():
    p = sp.plan(kernel_of((7, 9)), (500, 600), threads=2)
    inputs = [samples(500, 600).astype(np.float32) * scale for scale in (1, 2, 4, 8)]
    wanted = p(inputs[0])
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for scale, found in zip((1, 2, 4, 8), pool.map(p, inputs), strict=True):
            np.testing.assert_array_equal(found, wanted * scale)


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="this system has no fork")
def test_a_forked_child_filters_too():
    code = """
import os, warnings
import numpy as np, separable as sp
warnings.simplefilter("ignore")  # newer Pythons warn of every fork beside a thread
x = np.random.default_rng(0).standard_normal((900, 900))
k = sp.families.gaussian(2)
wanted = sp.correlate(x, k, threads=2)
children = []
for _ in range(3):
    child = os.fork()
    if child == 0:
        os._exit(0 if np.array_equal(sp.correlate(x, k, threads=2), wanted) else 1)
    children.append(child)
assert np.array_equal(sp.correlate(x, k, threads=2), wanted)
assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# ---------------------------------------------------------------- gaussian, uniform


@pytest.mark.parametrize(
    ("sigma", "options"),
    [
        (2, {}),
        ((1, 0.5, 3), {"mode": "wrap"}),
        ((1, 0, 2), {"mode": ("constant", "wrap", "mirror"), "cval": 3.0}),
        (2, {"truncate": 2.5}),
        (2, {"radius": 3}),
        ((2, 1), {"radius": (3, 0), "axes": (2, 0)}),
        (1.2, {"axes": 1}),
    ],
)
def test_gaussian_is_scipys(sigma, options):
    x = samples(9, 10, 31)
    found = sp.gaussian(x, sigma, **options)
    wanted = scipy.ndimage.gaussian_filter(x, sigma, **options)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-13)
    output = np.zeros(x.shape)
    assert sp.gaussian(x, sigma, output=output, threads=1, **options) is output
    np.testing.assert_array_equal(output, found)


@pytest.mark.parametrize("options", [{"order": 1}, {"order": (0, 1, 2), "mode": "nearest"}])
def test_gaussian_derivatives_are_scipys_where_those_are_right(options):
    x = samples(9, 10, 31)
    found = sp.gaussian(x, 1.5, truncate=8, **options)
    wanted = scipy.ndimage.gaussian_filter(x, 1.5, truncate=8, **options)
    # Samples that are not cut off are off by exp(-2 (pi sigma)**2), which is 1e-19, times powers of 2 pi.
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-11)


@pytest.mark.parametrize(
    ("size", "options"),
    [
        (3, {}),
        ((4, 1, 5), {"mode": "wrap"}),
        (2, {"origin": -1, "mode": ["nearest", "mirror", "constant"], "cval": 2.0}),
        ((5, 3), {"axes": (2, 1), "origin": (1, 0)}),
    ],
)
def test_uniform_is_scipys(size, options):
    x = samples(9, 10, 31)
    found = sp.uniform(x, size, **options)
    np.testing.assert_allclose(found, scipy.ndimage.uniform_filter(x, size, **options), rtol=0, atol=1e-13)
    assert sp.uniform(x.astype(np.uint8), size, output="uint8", **options).dtype == np.uint8


def test_gaussian_and_uniform_refuse_what_does_not_fit():
    x = np.zeros((4, 5))
    with pytest.raises(ValueError, match=r"`sigma=\(1, 2, 3\)` has 3 entries for 2 filtered axes"):
        sp.gaussian(x, (1, 2, 3))
    with pytest.raises(ValueError, match=r"`size=\(3,\)` has 1 entries for 2 filtered axes"):
        sp.uniform(x, (3,))
    with pytest.raises(ValueError, match="sigma"):
        sp.gaussian(x, -1)
    with pytest.raises(ValueError, match="size"):
        sp.uniform(x, 0)
    with pytest.raises(ValueError, match="axis 2 does not exist in 2 dimensions"):
        sp.gaussian(x, 1, axes=2)


@pytest.mark.parametrize("method", ["separable", "direct"])
@pytest.mark.parametrize("cval", [0.0, 1.5])
def test_fortran_order_in_is_fortran_order_out(method: str, cval: float) -> None:
    """The memory order of the input is kept, whichever axis the passes start from."""
    x = np.asfortranarray(np.random.default_rng(5).normal(size=(21, 34, 18)))
    kernel = sp.families.gaussian((1.0, 1.5, 0.5), order=(0, 1, 0), ndim=3)
    weights = kernel.dense()
    for mode in ("reflect", "constant"):
        got = sp.correlate(
            x, kernel if method == "separable" else weights, mode=mode, cval=cval, method=method
        )
        want = correlate_dense(x, weights, mode, cval)
        assert got.flags.f_contiguous
        np.testing.assert_allclose(got, want, rtol=0, atol=tolerance("float64", weights, x, cval))
