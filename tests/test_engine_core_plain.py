"""The engine's plain native steps against NumPy in float64, on every instruction set of this machine."""

from __future__ import annotations

import itertools
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
    numbers,
    ran,
    sigmoid,
    strides_of,
    window,
)

from separable import _core


@pytest.fixture(autouse=True, params=TARGETS)
def target(request) -> Iterator[str]:
    _core.force(request.param)
    yield request.param
    _core.force(None)


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
            ulps = 8 + math.sqrt(x.size) if reduction == "prod" else 12
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
