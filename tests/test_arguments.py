"""Arguments: what is accepted, and for what is not, the message that names it."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided

import separable as sp
from separable.arrays import arguments
from separable.arrays.output import store

X = np.zeros((6, 7), np.float32)
K = np.ones((5, 3))
HALF = np.zeros((12, 7), np.float32)
READ_ONLY = np.zeros((6, 7), np.float32)
READ_ONLY.flags.writeable = False
LONG = np.dtype(np.longdouble).name
OFF = sp.SeparableKernel([[[1.0, 2.0, 1.0], [1.0, 2.0, 1.0]]], error=sp.KernelError(0.5, 0.1, 0.1))

# fmt: off
ERRORS = [
    # x
    (X.astype(np.longdouble), K, {}, TypeError,
     f"dtype {LONG} is wider than float64, the widest the core computes in; pass x.astype(float)."),
    (X.astype(object), K, {}, TypeError,
     "dtype object does not hold numbers; expected bool, integer, float or complex."),
    (np.ma.masked_array(X), K, {}, TypeError, "`x` is a masked array"),
    # kernel
    (X, np.ones(3), {}, ValueError,
     "kernel of shape (3,) has 1 axes, but `axes=None` filters 2 of an array of shape (6, 7); "
     "pass a kernel with one axis for each, or name the axes."),
    (X, np.ones((3, 3, 3)), {"axes": (0, 1)}, ValueError, "has 3 axes, but `axes=(0, 1)` filters 2"),
    (np.float32(1), np.ones(3), {}, ValueError, "but `axes=None` filters 0 of an array of shape ()"),
    (X, [[1.0, np.nan]], {}, ValueError, "kernel weights hold NaN or infinity; expected finite numbers."),
    (X, [[np.inf]], {"method": "direct"}, ValueError, "kernel weights hold NaN or infinity"),
    (X, [["a"]], {}, TypeError, "kernel weights have dtype <U1; expected real numbers."),
    (X, [[None]], {}, TypeError, "kernel weights have dtype object; expected real numbers."),
    (X, np.ones((0, 3)), {}, ValueError,
     "kernel of shape (0, 3) holds no taps; expected at least one on each axis."),
    (X, 2.0, {}, ValueError, "kernel of shape () holds no taps"),
    # mode
    (X, K, {"mode": "refelct"}, ValueError,
     "`mode='refelct'` is not a boundary mode; expected one of 'reflect', 'constant', 'nearest', 'mirror', "
     "'wrap', 'grid-mirror', 'grid-constant', 'grid-wrap'. Did you mean 'reflect'?"),
    (X, K, {"mode": ("wrap", None)}, ValueError, "`mode=None` is not a boundary mode"),
    (X, K, {"mode": 3}, ValueError, "`mode=3` has 1 entries for 2 filtered axes (0, 1)"),
    (X, K, {"mode": ["wrap"]}, ValueError,
     "has 1 entries for 2 filtered axes (0, 1); pass one value, or one per axis."),
    (X, K, {"mode": [["wrap"], "wrap"]}, ValueError, "`mode=['wrap']` is not a boundary mode"),
    # cval
    (X, K, {"cval": 1j}, TypeError, "`cval=1j` is complex, but the array is float32; pass a real cval."),
    (X, K, {"cval": "0"}, TypeError, "`cval='0'` is not a number; pass one such as 0.0."),
    (X, K, {"cval": None}, TypeError, "`cval=None` is not a number;"),
    (X, K, {"cval": [1.0]}, TypeError, "`cval=[1.0]` is not a number;"),
    # origin
    (X, K, {"origin": (0, 3)}, ValueError, "`origin[1]=3` lies outside axis 1's 3 taps (allowed -1..1)."),
    (X, K, {"origin": 2}, ValueError, "`origin=2` lies outside axis 1's 3 taps (allowed -1..1)."),
    (X, np.ones((4, 4)), {"origin": 2}, ValueError,
     "`origin=2` lies outside axis 0's 4 taps (allowed -2..1)."),
    (X, np.ones(4), {"origin": -3, "axes": 1}, ValueError,
     "`origin=-3` lies outside axis 1's 4 taps (allowed -2..1)."),
    (X, K, {"origin": 0.5}, TypeError, "`origin=0.5` is not a whole number or a sequence of them."),
    (X, K, {"origin": None}, TypeError, "`origin=None` is not a whole number"),
    (X, K, {"origin": (0, 0, 0)}, ValueError, "`origin=(0, 0, 0)` has 3 entries for 2 filtered axes (0, 1)"),
    # axes
    (X, K, {"axes": (0, 2)}, ValueError, "`axes=(0, 2)`: axis 2 does not exist in 2 dimensions."),
    (X, K, {"axes": (1, -1)}, ValueError, "`axes=(1, -1)` names an axis twice."),
    (X, K, {"axes": ("y", "x")}, TypeError,
     "`axes=('y', 'x')` is not a whole number or a sequence of them."),
    # output
    (X, K, {"output": np.zeros((7, 6))}, ValueError,
     "`output` has shape (7, 6), but the result has shape (6, 7)."),
    (X, K, {"output": READ_ONLY}, ValueError,
     "`output` is read-only; pass a writeable array, or a dtype to get a new one."),
    (X, K, {"output": X}, ValueError,
     "`output` shares memory with `x`, which would be overwritten while it is still read; "
     "pass another array, or leave `output` out."),
    (HALF[:6], K, {"output": HALF[5:11]}, ValueError, "`output` shares memory with `x`"),
    (X, K, {"output": as_strided(np.zeros(7, np.float32), (6, 7), (0, 4))}, ValueError,
     "`output` stores several elements in one place (a stride is 0); pass a full array."),
    (X, K, {"output": "float33"}, TypeError,
     "`output='float33'` is neither an array, nor a dtype, nor the name of one (pass a NumPy array to write "
     "into, or for example output='float32')."),
    (X, K, {"output": np.longdouble}, TypeError,
     f"`output` has dtype {LONG}; expected bool, an integer, float16, float32, float64, complex64 or "
     "complex128."),
    (X, K, {"output": object}, TypeError, "`output` has dtype object"),
    (X + 1j, K, {"output": np.float64}, TypeError,
     "`output` is float64, but the result is complex128; pass output='complex128', or filter x.real and "
     "x.imag apart."),
    # tol, method, threads
    (X, K, {"tol": -1e-3}, ValueError,
     "`tol=-0.001` is not a relative l1 error; expected a number >= 0, such as 1e-3."),
    (X, K, {"tol": np.nan}, ValueError, "`tol=nan` is not a relative l1 error"),
    (X, K, {"tol": "small"}, TypeError, "`tol='small'` is not a number; expected one such as 1e-3."),
    (X, OFF, {"tol": 0.01}, sp.NotSeparableError,
     "this SeparableKernel has a relative l1 error of 0.1 > tol 0.01. Raise tol, or factor the dense weights "
     "with more terms."),
    (X, K, {"method": "fourier"}, ValueError,
     "`method='fourier'` is unknown; expected one of 'auto', 'separable', 'direct', 'box', 'recursive', "
     "'cascade', 'fft'."),
    (X, K, {"threads": 0}, ValueError,
     "`threads=0` is too few; expected at least 1; leave it out for all cores."),
    (X, K, {"threads": 1.5}, TypeError, "`threads=1.5` is not a whole number."),
]
# fmt: on


@pytest.mark.parametrize("verb", [sp.correlate, sp.convolve])
@pytest.mark.parametrize(("x", "kernel", "options", "error", "message"), ERRORS)
def test_errors(verb, x, kernel, options, error, message):
    with pytest.raises(error, match=re.escape(message)):
        verb(x, kernel, **options)


@pytest.mark.parametrize(
    ("shape", "error", "message"),
    [
        ((1 << 40, 1 << 40), ValueError,
         f"`shape=({1 << 40}, {1 << 40})` of float32 needs more bytes than can be addressed."),
        ((1 << 62, 0), ValueError, "needs more bytes than can be addressed"),
        ((3, -1), ValueError, "`shape=(3, -1)` holds a negative length."),
        ((3, 1.5), TypeError, "`shape=(3, 1.5)` is not a whole number or a sequence of them."),
        ("ab", TypeError, "`shape='ab'` is not a whole number or a sequence of them."),
    ],
)  # fmt: skip
def test_shape_errors(shape, error, message):
    with pytest.raises(error, match=re.escape(message)):
        sp.plan(K, shape)


def test_a_broadcast_array_too_large_for_its_result_is_refused():
    huge = np.broadcast_to(np.uint8(1), (1 << 31, 1 << 31))
    with pytest.raises(ValueError, match="needs more bytes than can be addressed"):
        sp.correlate(huge, K)


@pytest.mark.parametrize(
    ("names", "same"),
    [
        ({"mode": "grid-mirror"}, {"mode": "reflect"}),
        ({"mode": "grid-wrap"}, {"mode": "wrap"}),
        ({"mode": "grid-constant", "cval": 2}, {"mode": "constant", "cval": 2.0}),
        ({"mode": ["wrap", "nearest"]}, {"mode": ("wrap", "nearest")}),
        ({"origin": np.array([1, -1])}, {"origin": (1, -1)}),
        ({"origin": np.array(1)}, {"origin": 1}),
        ({"axes": [-1, 0]}, {"axes": (1, 0)}),
        ({"cval": np.float32(3), "mode": "constant"}, {"cval": 3, "mode": "constant"}),
        ({"threads": np.int64(2)}, {"threads": 2}),
        ({"tol": 0}, {"tol": None}),
        ({"output": np.dtype("f8")}, {"output": "float64"}),
    ],
)
def test_different_spellings_of_one_argument(names, same):
    x = np.random.default_rng(1).standard_normal((6, 7)).astype(np.float32)
    kernel = np.outer([1.0, 2, 3, 4, 5], [3.0, -1, 2])
    np.testing.assert_array_equal(sp.correlate(x, kernel, **names), sp.correlate(x, kernel, **same))


@pytest.mark.parametrize(
    ("dtypes", "working"),
    [
        ("? i1 u1 i2 u2 f2 f4 >f4 >i2", "f4"),
        ("i4 u4 i8 u8 f8 >f8 >u4", "f8"),
        ("c8 >c8", "c8"),
        ("c16 >c16", "c16"),
    ],
)
def test_working_dtype(dtypes, working):
    for name in dtypes.split():
        found = arguments.working_dtype(np.dtype(name))
        assert found == np.dtype(working)
        assert found.isnative


@pytest.mark.parametrize("work", [np.float32, np.float64])
@pytest.mark.parametrize("dtype", ["?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", ">i4"])
def test_store_rounds_to_even_and_saturates(work, dtype):
    low, high = (0, 1) if dtype == "?" else (int(np.iinfo(dtype).min), int(np.iinfo(dtype).max))
    values = np.array([0.5, 1.5, -0.5, 0.2, -1e30, 1e30, np.inf, -np.inf, np.nan, 0.51], work)
    expected = [0, min(2, high), 0, 0, low, high, high, low, 0, 1]
    output = np.empty(values.shape, dtype)
    store(values, output)
    np.testing.assert_array_equal(output, np.array(expected, output.dtype))


@pytest.mark.parametrize("dtype", ["i4", "u4", "i8", "u8"])
def test_store_keeps_the_largest_float_below_the_largest_integer(dtype):
    below = np.nextafter(np.float64(np.iinfo(dtype).max), 0)
    output = np.empty(1, dtype)
    store(np.array([below]), output)
    assert int(output[0]) == round(float(below))


@pytest.mark.parametrize(
    ("value", "expected"),
    [("3", "3"), (" 2 ", "2"), ("", None), ("0", "error"), ("two", "error"), ("-1", "error")],
)
def test_the_environment_sets_the_default_number_of_threads(value, expected):
    code = (
        f"import os; os.environ['SEPARABLE_NUM_THREADS'] = {value!r}\n"
        "from separable.arrays import arguments\n"
        "try: print(arguments.thread_count(None))\n"
        "except ValueError as error: print('error', error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    if expected == "error":
        assert f"SEPARABLE_NUM_THREADS={value!r} is not a whole number >= 1." in done.stdout
    elif expected is None:
        assert int(done.stdout) >= 1
    else:
        assert done.stdout.strip() == expected
