"""Kernels of the compiled core that wider tests do not reach on every instruction set, each against NumPy."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from separable import _core

MODE, ROUNDING, OVERFLOW, ACTIVATION = _core.Mode, _core.Rounding, _core.Overflow, _core.Activation
LAYER_ACTIVATIONS = [act for act in ACTIVATION if act <= ACTIVATION.gelu_tanh]  # the others are the engine's
INTEGERS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
DTYPES = ("bool", *INTEGERS, "float32", "float64")
STORED = list(itertools.product(ROUNDING, OVERFLOW))


def stored(values: np.ndarray, dtype: str, rounding: _core.Rounding, overflow: _core.Overflow) -> np.ndarray:
    """Return float64 values as jobs store them; those of integers lie within 64 bits."""
    if dtype.startswith("float"):
        return values.astype(dtype)
    whole = np.rint(values) if rounding is ROUNDING.nearest else np.trunc(values)
    if dtype == "bool":
        return whole > 0 if overflow is OVERFLOW.saturate else whole != 0
    if overflow is OVERFLOW.wrap:
        return whole.astype(np.int64).astype(dtype)
    limits = np.iinfo(dtype)
    return np.array([min(max(int(v), limits.min), limits.max) for v in whole.ravel()], dtype).reshape(
        whole.shape
    )


# ---------------------------------------------------------------- boxes and cosines


@pytest.mark.parametrize("layout", ["rows", "lines", "strided"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_boxes_read_and_store_every_dtype(target, dtype, layout):
    """Lines side by side in memory, one after the other, and neither."""
    axis, step = (0, 1) if layout == "rows" else (1, 1 if layout == "lines" else 2)
    room = np.random.default_rng(0).integers(0, 2 if dtype == "bool" else 90, (45, 43 * step)).astype(dtype)
    x = room[:, ::step]
    padded = np.pad(x.astype(float), [(2, 2) if n == axis else (0, 0) for n in range(2)], "symmetric")
    sums = sum(np.moveaxis(np.moveaxis(padded, axis, 0)[k : k + x.shape[axis]], 0, axis) for k in range(5))
    for factor, divisor in ((1.0, 1.0), (-1.0, 2.0)):
        made = _core.BoxAndCosinesJob(
            x.shape, [(axis, 5, 2, MODE.reflect, False, [], [])], 0.0, factor, divisor
        )
        for rounding, overflow in STORED:
            y = np.zeros(room.shape, dtype)[:, ::step]
            made.run(x, y, 1, rounding, overflow)
            wanted = stored(sums * factor / divisor, dtype, rounding, overflow)
            np.testing.assert_array_equal(y, wanted, err_msg=f"{factor} {rounding!r} {overflow!r}")


@pytest.mark.parametrize("lines", [16, 64, 70])
@pytest.mark.parametrize("axis", [0, 1])
def test_boxes_of_floats_by_way_of_panels(target, axis, lines):
    x = (
        np.random.default_rng(1)
        .integers(-99, 99, (90, lines) if axis == 0 else (lines, 90))
        .astype(np.float32)
    )
    y = np.empty_like(x)
    _core.BoxAndCosinesJob(x.shape, [(axis, 7, 3, MODE.wrap, False, [], [])], 0.0, 1.0, 1.0).run(x, y, 1)
    np.testing.assert_array_equal(y, sum(np.roll(x, k, axis) for k in range(-3, 4)))


def test_integers_past_every_range_wrap_to_zero(target):
    x = np.array([np.nan, np.inf, -np.inf, 1e30, 3.0])
    for dtype in INTEGERS:
        y = np.full(5, 1, dtype)
        made = _core.BoxAndCosinesJob((5,), [(0, 1, 0, MODE.reflect, False, [], [])], 0.0, 1.0, 1.0)
        made.run(x, y, 1, ROUNDING.nearest, OVERFLOW.wrap)
        assert y.tolist() == [0, 0, 0, 0, 3]


@pytest.mark.parametrize("odd", [False, True])
@pytest.mark.parametrize("count", range(1, 13))
def test_every_count_of_cosines(target, count, odd):
    rng = np.random.default_rng(count)
    frequencies, amplitudes = rng.uniform(0.05, 1.5, count), rng.uniform(-1, 1, count)
    radius = 6
    k = np.arange(-radius, radius + 1)
    weights = (np.sin if odd else np.cos)(np.outer(k, frequencies)) @ amplitudes
    x, y = rng.standard_normal((70, 21)), np.empty((70, 21))
    passes = [(0, 2 * radius + 1, radius, MODE.wrap, odd, list(frequencies), list(amplitudes))]
    _core.BoxAndCosinesJob(x.shape, passes, 0.0, 1.0, 1.0).run(x, y, 1)
    wanted = sum(w * np.roll(x, -n, 0) for n, w in zip(k, weights, strict=True))
    np.testing.assert_allclose(y, wanted, rtol=0, atol=1e-11)


# ---------------------------------------------------------------- casts


@pytest.mark.parametrize("bounds", [(-math.inf, math.inf), (-3.0, 60.0), (2.0, math.inf)])
@pytest.mark.parametrize("divisor", [1.0, 3.0])
@pytest.mark.parametrize("computed", ["float32", "float64"])
def test_every_dtype_is_read_divided_bounded_and_stored(target, computed, divisor, bounds):
    dtypes = [d for d in DTYPES if computed == "float64" or np.dtype(d).itemsize <= 2] + ["float32"]
    made = _core.TermsJob((301,), computed, [(0, 0, MODE.reflect, [np.ones(1)])], [(0, 0)], 0.0)
    samples = np.random.default_rng(3).integers(-500, 500, 301)
    for given, dtype in itertools.product(dtypes, dtypes):
        x = (abs(samples) if given == "uint64" else samples).astype(given)
        values = x.astype(computed) / np.dtype(computed).type(divisor)
        for rounding, overflow in STORED:
            y = np.zeros(301, dtype)
            made.run(x, y, 1, rounding, overflow, 0.0, divisor, *bounds)
            kept = values if dtype.startswith("float") else values.clip(*bounds)
            wanted = stored(kept.astype(np.float64), dtype, rounding, overflow)
            np.testing.assert_array_equal(y, wanted, err_msg=f"{given} {dtype} {rounding!r} {overflow!r}")


# ---------------------------------------------------------------- sums of weights


@pytest.mark.parametrize("fold", [1, -1, 0])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dense_columns_that_fold(target, dtype, fold):
    """Symmetric and antisymmetric columns of each length, over blocks of rows and what is left of them."""
    rng = np.random.default_rng(8)
    for taps, rows, columns in itertools.product(range(4, 10), (3, 8, 11, 17), (5, 17, 70, 150)):
        weights = rng.uniform(-1, 1, (taps, 3))
        weights += fold * weights[::-1]
        x = rng.uniform(-1, 1, (rows, columns)).astype(dtype)
        y = np.empty_like(x)
        modes = (MODE.constant, MODE.constant)
        _core.DirectJob(x.shape, dtype, weights, (taps // 2, 1), modes, 0.0).run(x, y, 1)
        padded = np.pad(x.astype(float), ((taps // 2, taps), (1, 1)))
        wanted = sum(
            weights[i, j] * padded[i : i + rows, j : j + columns] for i in range(taps) for j in range(3)
        )
        close(y, wanted, dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sums_of_terms_over_the_smallest_arrays(target, dtype):
    rng = np.random.default_rng(9)
    rows, columns = rng.uniform(-1, 1, (2, 3)), rng.uniform(-1, 1, (2, 3))
    for shape in itertools.product(range(1, 10), range(1, 4)):
        x = rng.uniform(-1, 1, shape).astype(dtype)
        y = np.empty_like(x)
        passes = [(1, 1, MODE.constant, list(columns)), (0, 1, MODE.constant, list(rows))]
        _core.TermsJob(shape, dtype, passes, [(0, 0, 0), (0, 1, 1)], 0.0).run(x, y, 1)
        padded, dense = np.pad(x.astype(float), 1), rows.T @ columns
        wanted = sum(
            dense[i, j] * padded[i : i + shape[0], j : j + shape[1]] for i in range(3) for j in range(3)
        )
        close(y, wanted, dtype)


# ---------------------------------------------------------------- layers


def activated(z: np.ndarray, act: _core.Activation) -> np.ndarray:
    erf = np.vectorize(math.erf, otypes=[float])
    return {
        ACTIVATION.none: lambda: z,
        ACTIVATION.relu: lambda: np.maximum(z, 0),
        ACTIVATION.relu6: lambda: np.clip(z, 0, 6),
        ACTIVATION.silu: lambda: z / (1 + np.exp(-z)),
        ACTIVATION.hard_swish: lambda: z * np.clip(z + 3, 0, 6) / 6,
        ACTIVATION.gelu: lambda: z / 2 * (1 + erf(z / math.sqrt(2))),
        ACTIVATION.gelu_tanh: lambda: z / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3))),
    }[act]()


def slope(z: np.ndarray, act: _core.Activation) -> np.ndarray:
    return (activated(z + 1e-6, act) - activated(z - 1e-6, act)) / 2e-6


def depthwise(x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    padded = np.pad(x, ((0, 0), (1, 1), (0, 0)))
    return sum(weights[:, k] * padded[:, k : k + x.shape[1]] for k in range(3))


def close(found: np.ndarray, wanted: np.ndarray, dtype: str, slack: float = 1.0) -> None:
    limit = slack * (1e-5 if dtype == "float32" else 1e-12) * max(1.0, np.abs(wanted).max())
    assert np.abs(found - wanted).max() <= limit


def fused(dtype: str):
    return _core.FusedJob32 if dtype == "float32" else _core.FusedJob64


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_pointwise_of_every_width_and_count_of_pixels(target, dtype, residual):
    rng = np.random.default_rng(4)
    for out in (*range(1, 36), 40, 48, 50, 64):
        d, p, b = (rng.uniform(-1, 1, shape).astype(dtype) for shape in ((5, 3), (out, 5), (out,)))
        made = fused(dtype)(False, 1, (3,), (1,), (1,), MODE.constant, 0, 0, d, p, None, b)
        for pixels in range(1, 16):
            x, r = (rng.uniform(-1, 1, (1, pixels, n)).astype(dtype) for n in (5, out))
            y = np.empty_like(r)
            made.run(x, y, r if residual else None, (1,), 1)
            wanted = depthwise(x.astype(float), d.astype(float)) @ p.T.astype(float) + b
            close(y, wanted + r if residual else wanted, dtype)


CHANNELS = [(1, 1), (2, 3), (3, 2), (5, 8), (9, 5), (8, 20), (16, 16), (17, 40), (36, 33)]


@pytest.mark.parametrize("pointwise_first", [False, True])
@pytest.mark.parametrize("act", LAYER_ACTIVATIONS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_activations_in_slices_of_every_width(target, dtype, act, pointwise_first):
    rng = np.random.default_rng(10)
    for channels, out in CHANNELS:
        mid = out if pointwise_first else channels
        shapes = ((1, 23, channels), (1, 23, out), (mid, 3), (out, channels))
        x, residual, d, p = given = [rng.uniform(-3, 3, shape).astype(dtype) for shape in shapes]
        made = fused(dtype)(pointwise_first, 1, (3,), (1,), (1,), MODE.constant, act, act, d, p, None, None)
        y = np.empty_like(residual)
        made.run(x, y, residual, (1,), 1)
        x, residual, d, p = (a.astype(float) for a in given)
        if pointwise_first:
            wanted = activated(depthwise(activated(x @ p.T, act), d), act)
        else:
            wanted = activated(activated(depthwise(x, d), act) @ p.T, act)
        close(y, wanted + residual, dtype)


@pytest.mark.parametrize("act", LAYER_ACTIVATIONS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gradients_of_a_depthwise_convolution_and_a_pointwise_one(target, dtype, act):
    rng = np.random.default_rng(5)
    for channels, out in CHANNELS:
        shapes = ((2, 23, channels), (2, 23, out), (channels, 3), (out, channels), (channels,), (out,))
        x, grad, d, p, db, b = given = [rng.uniform(-1, 1, shape).astype(dtype) for shape in shapes]
        made = fused(dtype)(False, 1, (3,), (1,), (1,), MODE.constant, act, 0, d, p, db, b)
        found = [np.zeros_like(a) for a in (x, d, p, db, b)]
        made.gradients(x, grad, None, *found, (1,), 2)
        x, grad, d, p, db, b = (a.astype(float) for a in given)
        z = depthwise(x, d) + db
        between = (grad @ p) * slope(z, act)
        padded = np.pad(x, ((0, 0), (1, 1), (0, 0)))
        wanted = (
            depthwise(between, d[:, ::-1]),
            np.stack([(between * padded[:, k : k + 23]).sum((0, 1)) for k in range(3)], -1),
            np.einsum("nlo,nlc->oc", grad, activated(z, act)),
            between.sum((0, 1)),
            grad.sum((0, 1)),
        )
        for mine, theirs in zip(found, wanted, strict=True):
            close(mine, theirs, dtype, 3.0 if dtype == "float32" else 1e4)  # slopes are differences


@pytest.mark.parametrize("act", LAYER_ACTIVATIONS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gradients_of_a_pointwise_convolution_and_a_depthwise_one(target, dtype, act):
    rng = np.random.default_rng(6)
    for given_channels, channels in CHANNELS:
        shapes = (
            (2, 23, given_channels),
            (2, 23, channels),
            (channels, 3),
            (channels, given_channels),
            (channels,),
        )
        x, grad, d, p, b = given = [rng.uniform(-1, 1, shape).astype(dtype) for shape in shapes]
        made = fused(dtype)(True, 1, (3,), (1,), (1,), MODE.constant, 0, act, d, p, None, b)
        found = [np.zeros_like(a) for a in (x, d, p, b, b)]
        made.gradients(x, grad, None, *found, (1,), 2)
        x, grad, d, p, b = (a.astype(float) for a in given)
        z = x @ p.T + b
        between = depthwise(grad, d[:, ::-1]) * slope(z, act)
        padded = np.pad(activated(z, act), ((0, 0), (1, 1), (0, 0)))
        wanted = (
            between @ p,
            np.stack([(grad * padded[:, k : k + 23]).sum((0, 1)) for k in range(3)], -1),
            np.einsum("nlc,nli->ci", between, x),
            between.sum((0, 1)),
        )
        for mine, theirs in zip((*found[:3], found[4]), wanted, strict=True):
            close(mine, theirs, dtype, 3.0 if dtype == "float32" else 1e4)  # slopes are differences


@pytest.mark.parametrize("act", [ACTIVATION.relu, ACTIVATION.relu6])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gradients_behind_a_clamp(target, dtype, act):
    rng = np.random.default_rng(7)
    for channels, out in CHANNELS:
        shapes = ((2, 23, channels), (2, 23, out), (channels, 3), (out, channels))
        x, grad, d, p = given = [rng.uniform(-4, 4, shape).astype(dtype) for shape in shapes]
        made = fused(dtype)(False, 1, (3,), (1,), (1,), MODE.constant, 0, act, d, p, None, None)
        y, x_grad = np.empty_like(grad), np.zeros_like(x)
        made.run(x, y, None, (1,), 1)
        made.gradients(x, grad, y, x_grad, None, None, None, None, (1,), 1)
        x, grad, d, p = (a.astype(float) for a in given)
        inside = (y > 0) & ((y < 6) | (act is ACTIVATION.relu))
        close(x_grad, depthwise((grad * inside) @ p, d[:, ::-1]), dtype)
