"""The engine's pools, means and products against NumPy in float64, and steps that are refused."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from engine_core import (
    REDUCTIONS,
    TARGETS,
    UNTOUCHED,
    assert_close,
    elements,
    image_of,
    in_blocks,
    numbers,
    ran,
    sigmoid,
    strides_of,
)

from separable import _core


@pytest.fixture(autouse=True, params=TARGETS)
def target(request) -> Iterator[str]:
    _core.force(request.param)
    yield request.param
    _core.force(None)


@pytest.fixture
def small_caches() -> Iterator[None]:
    known = _core.core_info()["caches"]
    _core.assume_caches(1 << 11, 1 << 12, 1 << 13)
    yield
    _core.assume_caches(*(known[level] for level in ("l1d", "l2", "l3")))


# ---------------------------------------------------------------- images


def pooled(x, kind, kernel, stride, dilation, pads, size, count_padding) -> np.ndarray:
    """Pool (N, C, H, W) as ONNX defines it, one window at a time."""
    result = np.zeros((*x.shape[:2], *size))
    for y, column in np.ndindex(*size):
        taps, counted = [], 1
        for axis, o in enumerate((y, column)):
            places = o * stride[axis] - pads[axis] + np.arange(kernel[axis]) * dilation[axis]
            length = x.shape[2 + axis]
            real = (places >= 0) & (places < length)
            padded = places < length + pads[axis + 2]
            taps.append(places[real])
            counted *= (padded if count_padding else real).sum()
        samples = x[:, :, taps[0]][..., taps[1]].reshape(*x.shape[:2], -1)
        result[:, :, y, column] = samples.max(-1) if kind == "max" else samples.sum(-1) / counted
    return result


POOLS = [
    ((2, 2), (2, 2), (1, 1), (0, 0, 0, 0)),
    ((3, 3), (2, 2), (1, 1), (1, 1, 1, 1)),
    ((3, 2), (1, 3), (2, 1), (2, 0, 1, 1)),
    ((1, 5), (1, 1), (1, 1), (0, 2, 0, 2)),
    ((5, 5), (1, 1), (1, 1), (2, 2, 2, 2)),
]


@pytest.mark.parametrize(("kind", "count_padding"), [("max", False), ("average", False), ("average", True)])
@pytest.mark.parametrize(("kernel", "stride", "dilation", "pads"), POOLS)
@pytest.mark.parametrize(("channels", "block"), [(33, 16), (7, 4), (16, 8), (3, 1), (21, 21)])
def test_pools_as_onnx_defines_them(kind, count_padding, kernel, stride, dilation, pads, channels, block):
    x = numbers(2, channels, 9, 17)
    for more in (0, 1):  # 1: ceil_mode, one row and one column of windows more that begin inside
        size = [
            (x.shape[2 + i] + pads[i] + pads[i + 2] - (kernel[i] - 1) * dilation[i] - 1) // stride[i]
            + 1
            + more
            for i in range(2)
        ]
        if any((size[i] - 1) * stride[i] >= x.shape[2 + i] + pads[i] for i in range(2)):
            continue
        expected = pooled(x.astype(np.float64), kind, kernel, stride, dilation, pads, size, count_padding)
        for around, inside in (((0, 0, 0, 0), (0, 0, 0, 0)), ((1, 2, 0, 3), (2, 1, 1, 0))):
            blocked = in_blocks(x, block, inside)

            def add(program, at, around=around, inside=inside, size=size):
                src, _ = image_of((1, 0), x.shape, block, inside)
                dst, _ = image_of(at, (2, channels, *size), block, around)
                _core.add_pool(program, kind, src, dst, kernel, stride, dilation, pads, count_padding)

            wanted = in_blocks(expected, block, around).ravel()
            given = ran(add, [blocked], wanted.size)
            held = ~np.isnan(wanted)
            assert_close(given[held], wanted[held], 4, 1)


def test_maxima_pass_on_what_is_no_number():
    x = numbers(1, 16, 5, 5)
    x[0, 3, 2, 2] = np.nan

    def add(program, at):
        src, dst = image_of((1, 0), x.shape, 16)[0], image_of(at, (1, 16, 3, 3), 16)[0]
        _core.add_pool(program, "max", src, dst, [3, 3], [1, 1], [1, 1], [0, 0, 0, 0])

    given = ran(add, [in_blocks(x, 16)], 9 * 16).reshape(3, 3, 16)
    assert np.isnan(given[..., 3]).all()
    assert np.isfinite(np.delete(given, 3, 2)).all()


@pytest.mark.parametrize("reduction", ["mean", "max"])
@pytest.mark.parametrize("pixels", [(7, 7), (1, 1), (2, 33), (56, 56)])
@pytest.mark.parametrize(("channels", "block"), [(33, 16), (7, 4), (3, 1), (290, 290)])
def test_means_of_channels(reduction, pixels, channels, block):
    x = numbers(2, channels, *pixels)
    for inside in ((0, 0, 0, 0), (1, 2, 0, 1)):

        def add(program, at, inside=inside):
            src, _ = image_of((1, 0), x.shape, block, inside)
            _core.add_mean(program, src, at, [3, 6], reduction)

        blocked = in_blocks(x, block, inside)
        last = 3 + 6 * (channels - 1) + 1
        expected = REDUCTIONS[reduction](x.astype(np.float64), axis=(2, 3))
        given = ran(add, [blocked], last)
        for n in range(2):
            assert_close(given[3 * n :: 6][:channels], expected[n], 8, 1)


# ---------------------------------------------------------------- products


@pytest.mark.parametrize("rows", [1, 2, 7, 17, 64, 100])
@pytest.mark.parametrize(("inner", "columns"), [(1, 1), (33, 24), (300, 65), (17, 200), (1024, 100)])
@pytest.mark.parametrize("transposed", [False, True])
def test_full_layers(rows, inner, columns, transposed):
    x, w, bias = numbers(rows, inner), numbers(inner, columns, seed=1), numbers(columns, seed=2)
    packed = _core.FullWeights(np.ascontiguousarray(w.T).T if transposed else w, bias)
    stored = _core.FullWeights(np.ascontiguousarray(w.T), bias, transposed=True)
    assert (packed.inner, packed.columns) == (stored.inner, stored.columns) == (inner, columns)
    assert packed.nbytes >= 4 * (inner + 1) * columns

    def add(program, at):
        weights = stored if transposed else packed
        _core.add_full(program, weights, rows, (1, 0), [inner, 1], at, columns + 5, ("relu", 0, 0))

    given = ran(add, [x], rows * (columns + 5) - 5)
    given = np.append(given, np.full(5, UNTOUCHED)).reshape(rows, columns + 5)
    expected = np.maximum(x.astype(np.float64) @ w + bias, 0)
    assert_close(given[:, :columns].astype(np.float32), expected, 10, 4 * math.sqrt(inner))
    assert (given[:, columns:] == UNTOUCHED).all()


@pytest.mark.parametrize(
    ("rows", "inner", "columns"), [(1, 700, 1003), (3, 1024, 70), (9, 333, 200), (4, 50, 64), (2, 17, 1000)]
)
@pytest.mark.parametrize("contiguous", [True, False])
def test_large_full_layers_are_read_as_they_lie(rows, inner, columns, contiguous, small_caches):
    """Weights (outputs, inputs) that no cache holds are not packed; the array is kept alive."""
    x, w, bias = numbers(rows, inner), numbers(columns, inner, seed=1), numbers(columns, seed=2)
    expected = np.tanh(x.astype(np.float64) @ w.T + bias)
    weights = _core.FullWeights(w.copy(), bias, transposed=True)
    assert weights.nbytes <= 4 * (columns + 64) + 64
    lines, strides = (x, [inner, 1]) if contiguous else (np.ascontiguousarray(x.T), [1, rows])

    def add(program, at):
        _core.add_full(program, weights, rows, (1, 0), strides, at, columns, ("tanh", 0, 0))

    assert_close(ran(add, [lines], rows * columns), expected.ravel(), 16, 4 * math.sqrt(inner))


def test_full_layers_read_columns_and_share_weights():
    x, w = numbers(70, 5), numbers(70, 40, seed=1)
    weights = _core.FullWeights(w)

    def add(program, at):
        _core.add_full(program, weights, 5, (1, 0), [1, 5], at, 40, ("sigmoid", 0, 0))

    for _ in range(2):
        expected = sigmoid(x.T.astype(np.float64) @ w)
        assert_close(ran(add, [x], 200), expected.ravel(), 16, 4)


@pytest.mark.parametrize(
    ("rows", "inner", "columns"), [(1, 64, 128), (7, 17, 33), (49, 32, 49), (197, 300, 65), (800, 5, 2)]
)
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_products_of_arrays(rows, inner, columns, order):
    """Batches are broadcast, and either array may lie transposed."""
    a = numbers(2, 3, *(rows, inner)[:: 1 if order == (0, 1) else -1])
    b = numbers(3, *(inner, columns)[:: 1 if order == (0, 1) else -1], seed=1)
    left, right = (x if order == (0, 1) else x.swapaxes(-1, -2) for x in (a, b))
    right = np.broadcast_to(right, (2, 3, inner, columns))

    def add(program, at):
        strides = elements(left), elements(right), strides_of([2, 3, rows, columns])
        _core.add_matmul(
            program, [2, 3], rows, inner, columns, (1, 0), strides[0], (2, 0), strides[1], at, strides[2]
        )

    expected = left.astype(np.float64) @ right
    assert_close(ran(add, [a, b], expected.size), expected.ravel(), 4, 4 * math.sqrt(inner))


# ---------------------------------------------------------------- what is refused


def refusals() -> dict[str, Callable[[_core.Program], None]]:
    """Steps beyond a program's memory: arena 100 elements, input 50, output 60, constant 9."""
    weights = _core.FullWeights(numbers(10, 7))
    pixels, index = [1, 4, 3, 3], np.array([[0], [9]])
    return {
        "copy reads beyond": lambda p: _core.add_copy(p, [51], (1, 0), [1], (0, 0), [1]),
        "copy reads before": lambda p: _core.add_copy(p, [5], (1, 3), [-1], (0, 0), [1]),
        "copy reads before the place": lambda p: _core.add_copy(p, [5], (1, -1), [1], (0, 0), [1]),
        "copy writes beyond": lambda p: _core.add_copy(p, [50], (1, 0), [1], (0, 51), [1]),
        "copy writes to an input": lambda p: _core.add_copy(p, [5], (0, 0), [1], (1, 0), [1]),
        "copy writes to a constant": lambda p: _core.add_copy(p, [5], (0, 0), [1], (3, 0), [1]),
        "copy knows no such memory": lambda p: _core.add_copy(p, [5], (4, 0), [1], (0, 0), [1]),
        "copy of a negative length": lambda p: _core.add_copy(p, [-5], (1, 0), [1], (0, 0), [1]),
        "copy with a stride too few": lambda p: _core.add_copy(p, [5, 2], (1, 0), [1], (0, 0), [2, 1]),
        "copy onto itself": lambda p: _core.add_copy(p, [5, 2], (1, 0), [2, 1], (0, 0), [1, 1]),
        "copy of overflowing strides": lambda p: _core.add_copy(
            p, [3, 3], (1, 0), [2**62] * 2, (0, 0), [3, 1]
        ),
        "copy of nine axes": lambda p: _core.add_copy(p, [1] * 9, (1, 0), [1] * 9, (0, 0), [1] * 9),
        "fill beyond": lambda p: _core.add_fill(p, 0.0, [61], (2, 0), [1]),
        "unknown operation": lambda p: _core.add_elementwise(
            p, "mod", [5], (1, 0), [1], (1, 0), [1], (0, 0), [1]
        ),
        "operand missing": lambda p: _core.add_elementwise(
            p, "add", [5], (1, 0), [1], None, None, (0, 0), [1]
        ),
        "operand beyond": lambda p: _core.add_elementwise(
            p, "add", [10], (1, 0), [1], (3, 0), [1], (0, 0), [1]
        ),
        "unknown function": lambda p: _core.add_elementwise(
            p, "first", [5], (1, 0), [1], None, None, (0, 0), [1], ("sin", 0, 0)
        ),
        "reduction along no axis": lambda p: _core.add_reduce(p, "sum", [5], [1], (1, 0), [1], (0, 0), [1]),
        "reduction of nothing": lambda p: _core.add_reduce(p, "max", [0], [0], (1, 0), [1], (0, 0), [1]),
        "softmax along no axis": lambda p: _core.add_softmax(p, [5], -1, (1, 0), [1], (0, 0), [1]),
        "weights beyond the axis": lambda p: _core.add_line_weights(
            p, [9], 0, index, np.ones((2, 1), np.float32), (1, 0), [1], (0, 0), [1]
        ),
        "weights of another shape": lambda p: _core.add_line_weights(
            p, [9], 0, index, np.ones((2, 2), np.float32), (1, 0), [1], (0, 0), [1]
        ),
        "pool beyond": lambda p: _core.add_pool(
            p,
            "max",
            image_of((1, 20), pixels, 4)[0],
            image_of((0, 0), pixels, 4)[0],
            [1, 1],
            [1, 1],
            [1, 1],
            [0] * 4,
        ),
        "pool of no stride": lambda p: _core.add_pool(
            p,
            "max",
            image_of((1, 0), pixels, 4)[0],
            image_of((0, 0), pixels, 4)[0],
            [1, 1],
            [0, 1],
            [1, 1],
            [0] * 4,
        ),
        "pool of other channels": lambda p: _core.add_pool(
            p,
            "max",
            image_of((1, 0), [1, 3, 3, 3], 4)[0],
            image_of((0, 0), pixels, 4)[0],
            [1] * 2,
            [1] * 2,
            [1] * 2,
            [0] * 4,
        ),
        "mean beyond": lambda p: _core.add_mean(p, image_of((1, 0), pixels, 4)[0], (2, 58), [4, 1]),
        "full beyond": lambda p: _core.add_full(p, weights, 6, (1, 0), [10, 1], (0, 0), 7),
        "full onto itself": lambda p: _core.add_full(p, weights, 5, (1, 0), [10, 1], (0, 0), 6),
        "product beyond": lambda p: _core.add_matmul(
            p, [], 5, 5, 5, (1, 26), [5, 1], (1, 0), [5, 1], (0, 0), [5, 1]
        ),
        "product of columns apart": lambda p: _core.add_matmul(
            p, [], 2, 2, 2, (1, 0), [2, 1], (1, 0), [2, 1], (0, 0), [1, 2]
        ),
    }


@pytest.mark.parametrize("what", [*refusals()])
def test_steps_beyond_their_memory_are_refused(what):
    program = _core.Program(100, [50], [60])
    assert program.constant(np.zeros(9, np.float32)) == 3
    with pytest.raises(ValueError, match=r"."):
        refusals()[what](program)
    assert len(program) == 0


def test_arrays_without_elements():
    program = _core.Program(0, [0], [0])
    _core.add_copy(program, [0, 5], (1, 0), [5, 1], (2, 0), [5, 1])
    _core.add_elementwise(program, "add", [0], (1, 0), [1], (1, 0), [0], (2, 0), [1], ("exp", 0, 0))
    _core.add_softmax(program, [0, 5], 1, (1, 0), [5, 1], (2, 0), [5, 1])
    _core.add_full(program, _core.FullWeights(numbers(5, 3)), 0, (1, 0), [5, 1], (2, 0), 3)
    program.run([np.empty(0, np.float32)], [np.empty(0, np.float32)], 2)


def test_a_product_of_no_terms_is_its_bias():
    weights = _core.FullWeights(np.empty((0, 5), np.float32), np.arange(5, dtype=np.float32))

    def add(program, at):
        _core.add_full(program, weights, 2, (1, 0), [0, 1], at, 5)

    assert np.array_equal(ran(add, [np.empty(0, np.float32)], 10).reshape(2, 5), [np.arange(5)] * 2)
