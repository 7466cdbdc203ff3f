"""The engine's plain native steps against NumPy in float64, on every instruction set of this machine."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from separable import _core

TARGETS = _core.core_info()["targets"]
GUARD = 67  # elements before and after what a step may write: more than a vector, and an odd number of them
UNTOUCHED = 7.0
EPS = float(np.finfo(np.float32).eps)
LENGTHS = (1, 2, 7, 17, 33)


@pytest.fixture(autouse=True, params=TARGETS)
def target(request) -> Iterator[str]:
    _core.force(request.param)
    yield request.param
    _core.force(None)


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def strides_of(shape: Sequence[int]) -> list[int]:
    """Strides of a C-contiguous array, in elements."""
    return [math.prod(shape[i + 1 :]) for i in range(len(shape))]


def elements(array: np.ndarray) -> list[int]:
    return [stride // array.itemsize for stride in array.strides]


def window(view: np.ndarray, base: np.ndarray) -> int:
    """Return the element of `base` at which its view begins."""
    first = view.__array_interface__["data"][0] - base.__array_interface__["data"][0]
    return first // base.itemsize


def ran(
    add: Callable[[_core.Program, tuple[int, int]], None],
    inputs: Sequence[np.ndarray],
    size: int,
    arena: int = 0,
) -> np.ndarray:
    """Run one step on one to three threads, which give the same bits; nothing around its results changes."""
    program = _core.Program(arena, [x.size for x in inputs], [size + 2 * GUARD])
    add(program, (len(inputs) + 1, GUARD))
    assert len(program) == 1
    results = []
    for threads in (1, 2, 3):
        result = np.full(size + 2 * GUARD, UNTOUCHED, np.float32)
        program.run([np.ascontiguousarray(x) for x in inputs], [result], threads)
        results.append(result)
    assert all(np.array_equal(results[0].view(np.int32), other.view(np.int32)) for other in results[1:])
    assert (results[0][:GUARD] == UNTOUCHED).all()
    assert (results[0][GUARD + size :] == UNTOUCHED).all()
    return results[0][GUARD : GUARD + size]


def assert_close(result: np.ndarray, expected: np.ndarray, ulps: float, least: float = 0.0) -> None:
    """Compare within so many units of the last place of float32; NaN and infinities have to agree."""
    with np.errstate(over="ignore"):
        rounded = expected.astype(np.float32)
    finite = np.isfinite(rounded)
    assert np.array_equal(result[~finite], rounded[~finite], equal_nan=True)
    assert np.isfinite(result[finite]).all()
    error = np.abs(result[finite].astype(np.float64) - expected[finite])
    allowed = ulps * EPS * np.maximum(np.abs(expected[finite]), least) + np.finfo(np.float32).tiny
    assert (error <= allowed).all(), float((error / allowed).max())


# ---------------------------------------------------------------- copies


def views(x: np.ndarray) -> Iterator[np.ndarray]:
    """Yield what exporters make of an array: transposes, slices, broadcasts, depth to space."""
    for order in itertools.permutations(range(x.ndim)):
        yield x.transpose(order)
    yield x[..., ::-1]
    yield x[::-1, :, 1:, ::2]
    yield x[:, -1:, ::-3]
    yield np.broadcast_to(x[:, :1], (x.shape[0], 5, *x.shape[2:]))
    yield np.broadcast_to(x[..., :1], x.shape)
    yield np.lib.stride_tricks.as_strided(x, (2, 3, 2), (4, 8, 4))


@pytest.mark.parametrize("shape", [(1, 1, 2, 7), (2, 3, 7, 17), (2, 33, 17, 7), (1, 64, 40, 65)])
def test_copies_have_any_strides(shape):
    x = numbers(*shape)
    for view in views(x):
        lengths, size = list(view.shape), view.size

        def add(program, at, view=view, lengths=lengths):
            place = (1, window(view, x)) if view.size else (1, 0)
            _core.add_copy(program, lengths, place, elements(view), at, strides_of(lengths))

        assert np.array_equal(ran(add, [x], size), np.ascontiguousarray(view).ravel())


@pytest.mark.parametrize(("channels", "pixels"), [(32, 1), (48, 49), (16, 1600)])
@pytest.mark.parametrize("lanes", [4, 8, 16])
def test_copies_change_layouts(channels, pixels, lanes):
    """From NCHW to blocks of channels, and back to NHWC with room between its pixels."""
    x = numbers(2, channels, pixels)
    blocks, lengths = channels // lanes, [2, channels // lanes, pixels, lanes]

    def to_blocks(program, at):
        strides = [channels * pixels, lanes * pixels, 1, pixels]
        _core.add_copy(program, lengths, (1, 0), strides, at, strides_of(lengths))

    blocked = ran(to_blocks, [x], x.size)
    expected = x.reshape(2, blocks, lanes, pixels).transpose(0, 1, 3, 2)
    assert np.array_equal(blocked, np.ascontiguousarray(expected).ravel())

    def to_pixels(program, at):
        pitch = channels + 3
        _core.add_copy(program, lengths, (1, 0), strides_of(lengths), at, [pixels * pitch, lanes, pitch, 1])

    back = ran(to_pixels, [blocked], 2 * pixels * (channels + 3)).reshape(2, pixels, -1)
    assert np.array_equal(back[..., :channels], x.transpose(0, 2, 1))
    assert (back[..., channels:] == UNTOUCHED).all()


def test_fills_are_boxes():
    expected = np.full((3, 17, 40), UNTOUCHED, np.float32)
    expected[1:, 2:9, 3:37] = -2.5

    def add(program, at):
        _core.add_fill(program, -2.5, [2, 7, 34], (at[0], at[1] + 17 * 40 + 2 * 40 + 3), [17 * 40, 40, 1])

    assert np.array_equal(ran(add, [], expected.size), expected.ravel())

    def every_third(program, at):
        _core.add_fill(program, 4.0, [9], at, [3])

    assert (ran(every_third, [], 27).reshape(9, 3) == [4.0, UNTOUCHED, UNTOUCHED]).all()


# ---------------------------------------------------------------- elementwise operations

OPERATIONS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "pow": np.power,
    "min": np.minimum,
    "max": np.maximum,
    "prelu": lambda a, b: np.where(a < 0, a * b, a),
}


def elementwise(program, at, operation, a, b, shape, after=None):
    """Add a step on the inputs 1 and 2, which are broadcast to `shape`."""
    wide = [np.broadcast_to(x, shape) for x in (a, b)]
    strides = [elements(x) for x in wide]
    _core.add_elementwise(
        program, operation, list(shape), (1, 0), strides[0], (2, 0), strides[1], at, strides_of(shape), after
    )


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((33,), (33,)),
        ((2, 7, 17), (7, 1)),
        ((2, 7, 17), (17,)),
        ((2, 7, 17), (1, 1, 1)),
        ((1, 17), (7, 1)),
        ((2, 3, 49, 16), (2, 3, 1, 16)),
        ((3, 1, 5000), (3, 2, 1)),
        ((2, 1, 3, 1, 2, 7), (1, 2, 3, 1, 1, 7)),
    ],
)
def test_operations_broadcast(operation, first, second):
    a, b = numbers(*first), numbers(*second, seed=1)
    if operation == "pow":
        a = np.abs(a)
    shape = np.broadcast_shapes(first, second)
    expected = OPERATIONS[operation](a.astype(np.float64), b.astype(np.float64))
    result = ran(lambda program, at: elementwise(program, at, operation, a, b, shape), [a, b], expected.size)
    assert_close(result, expected.ravel(), 1)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_operations_pass_on_what_is_no_number(operation):
    special = np.array([np.nan, np.inf, -np.inf, 0.0, 1.0, -1.0, 2.5], np.float32)
    a, b = (np.ascontiguousarray(x).ravel() for x in np.meshgrid(special, special))
    with np.errstate(all="ignore"):
        expected = OPERATIONS[operation](a, b)
    result = ran(lambda program, at: elementwise(program, at, operation, a, b, a.shape), [a, b], a.size)
    assert_close(result, expected, 1)


@pytest.mark.parametrize("exponent", [2.0, 0.5, 3.0, -1.0])
def test_powers_by_one_number(exponent):
    a, b = np.abs(numbers(7, 33)), np.float32([exponent])
    result = ran(lambda program, at: elementwise(program, at, "pow", a, b, a.shape), [a, b], a.size)
    assert_close(result, a.ravel().astype(np.float64) ** exponent, 1)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return np.exp(-np.logaddexp(0, -x))


def erf(x: np.ndarray) -> np.ndarray:
    return np.vectorize(math.erf)(x)


# name: function of float64, alpha, beta, units of the last place, size below which errors count as absolute
Case = tuple[Callable[[np.ndarray], np.ndarray], float, float, float, float]
FUNCTIONS: dict[str, Case] = {
    "none": (lambda x: x, 0, 0, 0, 0),
    "relu": (lambda x: np.maximum(x, 0), 0, 0, 0, 0),
    "relu6": (lambda x: np.clip(x, 0, 6), 0, 0, 0, 0),
    "clip": (lambda x: np.clip(x, -0.5, 1.25), -0.5, 1.25, 0, 0),
    "leaky_relu": (lambda x: np.where(x < 0, 0.125 * x, x), 0.125, 0, 1, 0),
    "thresholded_relu": (lambda x: np.where(x <= 1, 0 * np.sign(x), x), 1, 0, 0, 0),
    "neg": (np.negative, 0, 0, 0, 0),
    "abs": (np.abs, 0, 0, 0, 0),
    "sign": (np.sign, 0, 0, 0, 0),
    "sqrt": (np.sqrt, 0, 0, 1, 0),
    "reciprocal": (lambda x: 1 / x, 0, 0, 1, 0),
    "square": (np.square, 0, 0, 1, 0),
    "floor": (np.floor, 0, 0, 0, 0),
    "ceil": (np.ceil, 0, 0, 0, 0),
    "round": (np.round, 0, 0, 0, 0),
    "exp": (np.exp, 0, 0, 2, 0),
    "log": (np.log, 0, 0, 2, 0),
    "erf": (erf, 0, 0, 4, 0),
    "tanh": (np.tanh, 0, 0, 4, 0),
    "sigmoid": (sigmoid, 0, 0, 4, 0),
    "softplus": (lambda x: np.logaddexp(0, x), 0, 0, 4, 0),
    "softsign": (lambda x: x / (1 + np.abs(x)), 0, 0, 2, 0),
    "mish": (lambda x: x * np.tanh(np.logaddexp(0, x)), 0, 0, 6, 0),
    "elu": (lambda x: np.where(x < 0, 0.75 * np.expm1(x), x), 0.75, 0, 3, 0),
    "selu": (lambda x: 1.0625 * np.where(x < 0, 1.625 * np.expm1(x), x), 1.625, 1.0625, 4, 0),
    "hard_sigmoid": (lambda x: np.clip(0.125 * x + 0.5, 0, 1), 0.125, 0.5, 1, 0),
    "silu": (lambda x: x * sigmoid(x), 0, 0, 5, 0),
    "hard_swish": (lambda x: x * np.clip(x + 3, 0, 6) / 6, 0, 0, 3, 1),
    "gelu": (lambda x: 0.5 * x * (1 + erf(x / math.sqrt(2))), 0, 0, 4, 4),
    "gelu_tanh": (
        lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
        0,
        0,
        4,
        4,
    ),
}


def unary(program, at, name, alpha, beta, size):
    _core.add_elementwise(program, "first", [size], (1, 0), [1], None, None, at, [1], (name, alpha, beta))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_accurate(name):
    function, alpha, beta, ulps, least = FUNCTIONS[name]
    spread = numbers(2000).astype(np.float64)
    x = np.concatenate([spread, 8 * spread, 1e-3 * spread, np.arange(-20, 20, 0.5), [1e9, -1e9]]).astype(
        np.float32
    )
    if name in ("sqrt", "log"):
        x = np.abs(x)
    if name in ("reciprocal", "log"):
        x = x[x != 0]
    if name == "silu":
        x = x[np.abs(x) < 100]  # beyond, 1e-38 * x stands for 0
    with np.errstate(over="ignore", under="ignore"):
        expected = function(x.astype(np.float64))
    result = ran(lambda program, at: unary(program, at, name, alpha, beta, x.size), [x], x.size)
    assert_close(result, expected, ulps, least)


@pytest.mark.parametrize("name", [*FUNCTIONS])
def test_functions_pass_on_what_is_no_number(name):
    function, alpha, beta, _, _ = FUNCTIONS[name]
    x = np.tile(np.array([np.nan, np.inf, -np.inf, 0.0], np.float32), 9)
    with np.errstate(all="ignore"):
        expected = function(x.astype(np.float64))
    if name in ("mish", "silu", "gelu", "gelu_tanh", "hard_swish", "softsign", "thresholded_relu"):
        x, expected = (
            x[~np.isinf(x)],
            expected[~np.isinf(x)],
        )  # inf / inf or 0 * inf: their formulas are no limits
    result = ran(lambda program, at: unary(program, at, name, alpha, beta, x.size), [x], x.size)
    assert_close(result, expected, 4)


@pytest.mark.parametrize("name", ["relu", "clip", "leaky_relu", "sigmoid", "mish"])
@pytest.mark.parametrize("shape", [(1, 7), (5, 33), (3, 2, 4100)])
def test_functions_follow_operations(name, shape):
    function, alpha, beta, ulps, _ = FUNCTIONS[name]
    a, b = numbers(*shape), numbers(shape[0], *[1] * (len(shape) - 1), seed=1)
    expected = function((a + b).astype(np.float64))

    def add(program, at):
        elementwise(program, at, "add", a, b, shape, (name, alpha, beta))

    assert_close(ran(add, [a, b], a.size), expected.ravel(), ulps)


def test_operations_have_any_strides():
    a, b = numbers(5, 14, 9), numbers(9, 5, 7, seed=1)
    left, right = a[:, ::2], b.transpose(1, 2, 0)[:, ::-1]

    def add(program, at):
        lengths = [5, 7, 9]
        places = (1, window(left, a)), (2, window(right, b))
        strides = elements(left), elements(right)
        _core.add_elementwise(
            program,
            "mul",
            lengths,
            places[0],
            strides[0],
            places[1],
            strides[1],
            at,
            [140, 20, 2],
            ("relu6", 0, 0),
        )

    result = ran(add, [a, b], 700).reshape(5, 7, 10, 2)
    assert np.array_equal(result[..., :9, 0], np.clip(left * right, 0, 6))
    assert (result[..., 1] == UNTOUCHED).all()


def test_operations_work_in_place():
    x, program = numbers(3, 700), _core.Program(2100, [2100], [2100])
    _core.add_copy(program, [2100], (1, 0), [1], (0, 0), [1])
    _core.add_elementwise(program, "add", [2100], (0, 0), [1], (0, 0), [1], (0, 0), [1], ("tanh", 0, 0))
    _core.add_softmax(program, [3, 700], 1, (0, 0), [700, 1], (0, 0), [700, 1])
    _core.add_copy(program, [2100], (0, 0), [1], (2, 0), [1])
    result = np.empty_like(x)
    program.run([x], [result], 2)
    e = np.exp(np.tanh(2 * x.astype(np.float64)))
    assert_close(result, e / e.sum(1, keepdims=True), 16)


# ---------------------------------------------------------------- reductions, softmax, weighted sums

REDUCTIONS: dict[str, Callable[..., np.ndarray]] = {
    "sum": np.sum,
    "mean": np.mean,
    "max": np.max,
    "min": np.min,
    "prod": np.prod,
    "l1": lambda x, axis: np.abs(x).sum(axis),
    "l2": lambda x, axis: np.sqrt(np.square(x).sum(axis)),
    "sum_square": lambda x, axis: np.square(x).sum(axis),
}


def reduced(x: np.ndarray, view: np.ndarray, reduction: str, axes: tuple[int, ...]) -> np.ndarray:
    kept = [1 if axis in axes else n for axis, n in enumerate(view.shape)]

    def add(program, at):
        place = (1, window(view, x))
        _core.add_reduce(
            program, reduction, list(view.shape), list(axes), place, elements(view), at, strides_of(kept)
        )

    return ran(add, [x], math.prod(kept))


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shape", [(2, 7, 17, 33), (1, 33, 2, 1), (3, 70, 1, 16), (1, 2, 300, 67)])
def test_reductions_take_any_axes(reduction, shape):
    x = numbers(*shape)
    if reduction == "prod":
        x = np.exp(x / 50)
    for axes in [(3,), (1,), (2, 3), (0, 2), (0, 1, 2, 3), (0, 3)]:
        for view in (x, x.transpose(2, 3, 1, 0)):
            expected = REDUCTIONS[reduction](view.astype(np.float64), axis=axes).ravel()
            terms = np.abs(view.astype(np.float64)).sum(axes).max()
            ulps = 40 if reduction == "prod" else 12
            result = reduced(x, view, reduction, axes)
            assert_close(result, expected, ulps, 0.1 * terms if reduction in ("sum", "mean") else 0)


def test_long_sums_are_accurate():
    x = np.full((1, 3_000_000), 0.1, np.float32)
    for view, axes in ((x, (1,)), (x.reshape(-1, 2), (0,))):
        expected = view.astype(np.float64).sum(axes).ravel()
        assert_close(reduced(x, view, "sum", axes), expected, 64)


@pytest.mark.parametrize("reduction", ["max", "min", "sum"])
def test_reductions_pass_on_what_is_no_number(reduction):
    x = numbers(7, 70)
    x[2, 3], x[3, 60], x[4, 69] = np.nan, np.inf, -np.inf
    for axes in ((0,), (1,)):
        assert_close(reduced(x, x, reduction, axes), REDUCTIONS[reduction](x, axis=axes), 64)


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("shape", [(7, 1, 33), (2, 17, 40), (1, 1, 1000), (33, 2, 7), (1, 21, 1030)])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_softmax_along_any_axis(log, shape, axis):
    x = 30 * numbers(*shape)
    shifted = x.astype(np.float64) - x.max(axis, keepdims=True)
    total = np.exp(shifted).sum(axis, keepdims=True)
    expected = shifted - np.log(total) if log else np.exp(shifted) / total
    for order in ((0, 1, 2), (2, 0, 1)):
        view, result_view = x.transpose(order), expected.transpose(order)
        turned = order.index(axis)

        def add(program, at, view=view, turned=turned):
            lengths = list(view.shape)
            _core.add_softmax(program, lengths, turned, (1, 0), elements(view), at, strides_of(lengths), log)

        allowed = (4, 64) if log else (100, 0)  # a shift of 60 is known to 60 units of the last place of 1
        assert_close(ran(add, [x], x.size), np.ascontiguousarray(result_view).ravel(), *allowed)


def test_softmax_of_what_is_no_number():
    x = numbers(4, 33)
    x[0, 3], x[1, 32], x[2, :20], x[3, :] = np.nan, np.inf, -np.inf, -np.inf
    with np.errstate(all="ignore"):
        e = np.exp(x.astype(np.float64) - x.max(1, keepdims=True))
        expected = e / e.sum(1, keepdims=True)

    def add(program, at):
        _core.add_softmax(program, [4, 33], 1, (1, 0), [33, 1], at, [33, 1])

    assert_close(ran(add, [x], x.size), expected.ravel(), 16)


@pytest.mark.parametrize("shape", [(2, 3, 7, 17), (1, 5, 33, 16), (3, 1, 2, 1030)])
@pytest.mark.parametrize("axis", [1, 2, 3])
@pytest.mark.parametrize(("results", "taps"), [(1, 1), (14, 2), (33, 4), (200, 3)])
def test_weighted_sums_along_an_axis(shape, axis, results, taps):
    x, generator = numbers(*shape), np.random.default_rng(results)
    index = generator.integers(0, shape[axis], (results, taps))
    weights = generator.standard_normal((results, taps)).astype(np.float32)
    lengths = [*shape[:axis], results, *shape[axis + 1 :]]

    def add(program, at):
        strides = strides_of(shape), strides_of(lengths)
        _core.add_line_weights(program, list(shape), axis, index, weights, (1, 0), strides[0], at, strides[1])

    samples = np.moveaxis(x.astype(np.float64), axis, -1)[..., index]
    expected = np.moveaxis((samples * weights).sum(-1), -1, axis)
    assert_close(ran(add, [x], expected.size), np.ascontiguousarray(expected).ravel(), 2, 8)


# ---------------------------------------------------------------- images


def image_of(
    at: tuple[int, int], shape: Sequence[int], block: int, around: Sequence[int] = (0, 0, 0, 0)
) -> Any:
    """Return an image in blocks with room around it, and the shape of its memory."""
    batch, channels, height, width = shape
    top, left, bottom, right = around
    memory = (batch, -(-channels // block), height + top + bottom, width + left + right, block)
    pitches = strides_of(memory)[:4]
    first = at[1] + top * pitches[2] + left * pitches[3]
    return _core.Image(at[0], first, list(shape), block, pitches, list(around)), memory


def in_blocks(x: np.ndarray, block: int, around: Sequence[int] = (0, 0, 0, 0)) -> np.ndarray:
    """Lay (N, C, H, W) out as `image_of` has it; zeros lie around it, and NaN in lanes without a channel."""
    batch, channels, height, width = x.shape
    top, left, bottom, right = around
    blocks = -(-channels // block)
    filled = np.full((batch, blocks * block, height, width), np.nan, x.dtype)
    filled[:, :channels] = x
    split = filled.reshape(batch, blocks, block, height, width).transpose(0, 1, 3, 4, 2)
    return np.ascontiguousarray(np.pad(split, ((0, 0), (0, 0), (top, bottom), (left, right), (0, 0))))


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
    assert_close(given[:, :columns].astype(np.float32), expected, 4, 4 * math.sqrt(inner))
    assert (given[:, columns:] == UNTOUCHED).all()


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
