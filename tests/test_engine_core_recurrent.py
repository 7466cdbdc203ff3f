"""The core's recurrent layers, truth values and positions against NumPy in float64, and what it refuses."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from engine_core import TARGETS, assert_close, numbers, ran, sigmoid

from separable import _core


@pytest.fixture(autouse=True, params=TARGETS)
def target(request: pytest.FixtureRequest) -> Iterator[str]:
    _core.force(request.param)
    yield request.param
    _core.force(None)


def lstm(gates: np.ndarray, weights: np.ndarray, state: np.ndarray, cell: np.ndarray) -> np.ndarray:
    """Return the state of all times, for sums of the input (times, batch, 4 * width): gates i, o, f, c."""
    results = []
    for x in gates:
        i, o, f, c = np.split(x + state @ weights, 4, axis=-1)
        cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(c)
        state = sigmoid(o) * np.tanh(cell)
        results.append(state)
    return np.stack(results)


def gru_before(gates: np.ndarray, weights: np.ndarray, _: np.ndarray, state: np.ndarray) -> np.ndarray:
    results, width = [], state.shape[-1]
    for x in gates:
        update, reset = np.split(sigmoid(x[:, : 2 * width] + state @ weights[:, : 2 * width]), 2, axis=-1)
        fresh = np.tanh(x[:, 2 * width :] + (reset * state) @ weights[:, 2 * width :])
        state = (1 - update) * fresh + update * state
        results.append(state)
    return np.stack(results)


def gru(gates: np.ndarray, weights: np.ndarray, bias: np.ndarray, state: np.ndarray) -> np.ndarray:
    results = []
    for x in gates:
        z, r, h = zip(np.split(x, 3, axis=-1), np.split(state @ weights + bias, 3, axis=-1), strict=True)
        update, reset = sigmoid(z[0] + z[1]), sigmoid(r[0] + r[1])
        state = (1 - update) * np.tanh(h[0] + reset * h[1]) + update * state
        results.append(state)
    return np.stack(results)


@pytest.mark.parametrize(("times", "count", "width"), [(1, 1, 1), (6, 3, 17), (4, 25, 8), (3, 50, 33)])
@pytest.mark.parametrize("kind", ["lstm", "gru", "gru_before"])
def test_two_directions_at_once(kind: str, times: int, count: int, width: int) -> None:
    many = 4 if kind == "lstm" else 3
    shape = (2, times, count, many * width)
    gates, weights = numbers(*shape), numbers(2, width, many * width, seed=1) / np.float32(width**0.5)
    state, cell, bias = (numbers(2, count, width, seed=n) for n in (2, 3, 4))
    bias = bias[:, 0, :].repeat(many, 1)[:, : many * width]
    parts = (0, 2 * width, None) if kind == "gru_before" else (0, None)
    packed = [
        [
            _core.FullWeights(np.ascontiguousarray(w[:, i:j]), b if kind == "gru" else None)
            for i, j in pairwise(parts)
        ]
        for w, b in zip(weights, bias, strict=True)
    ]
    each = times * count * many * width

    def add(program: Any, at: tuple[int, int]) -> None:
        base, first = at
        told = [
            (
                bool(n),
                packed[n],
                ((1, n * each), (count * many * width, many * width)),
                ((base, first + n * width), (count * 2 * width, 2 * width)),
                ((2, n * count * width), (3, n * count * width) if kind == "lstm" else None),
                (None, None),
            )
            for n in (0, 1)
        ]
        _core.add_recurrent(program, kind, times, count, width, told)

    found = ran(add, [gates, state, cell], times * count * 2 * width).reshape(times, count, 2, width)
    for n in (0, 1):
        x, h, c, w = (array[n].astype(np.float64) for array in (gates, state, cell, weights))
        x = x[::-1] if n else x
        cell_of = gru if kind == "gru" else gru_before
        wanted = lstm(x, w, h, c) if kind == "lstm" else cell_of(x, w, bias[n].astype(np.float64), h)
        assert_close(found[:, :, n], wanted[::-1] if n else wanted, 200, least=1.0)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_positions_count_numbers_that_are_none_as_the_best(axis: int) -> None:
    x = np.round(numbers(5, 6, 19) * 2)
    x[1, 2, 3] = x[4, 2, 3] = np.nan
    kept = [1 if n == axis else length for n, length in enumerate(x.shape)]
    strides = [kept[1] * kept[2], kept[2], 1]
    for name, function in (("argmax", np.argmax), ("argmin", np.argmin)):

        def add(program: Any, at: tuple[int, int], name: str = name) -> None:
            _core.add_reduce(program, name, x.shape, [axis], (1, 0), [6 * 19, 19, 1], at, strides)

        found = ran(add, [x], int(np.prod(kept)))
        np.testing.assert_array_equal(found, function(x, axis).ravel())


def test_choices_take_nothing_from_what_is_not_chosen() -> None:
    truth = np.array([1, 0, 2, 0, -1, 0, 1, 0, 1], np.float32)
    x = np.array([1, np.nan, 3, np.inf, 5, -np.inf, np.nan, 8, 9], np.float32)

    def add(program: Any, at: tuple[int, int], name: str) -> None:
        _core.add_elementwise(program, name, [9], (1, 0), [1], (2, 0), [1], at, [1])

    for name, chosen in (("where", truth != 0), ("unless", truth == 0)):
        found = ran(lambda program, at, name=name: add(program, at, name), [truth, x], 9)
        np.testing.assert_array_equal(found, np.where(chosen, x, 0))


def test_layers_that_do_not_fit_are_refused() -> None:
    packed = _core.FullWeights(numbers(4, 16))
    lines, ends = ((1, 0), (32, 16)), (None, None)
    for changes in (
        {"kind": "rnn"},
        {"width": 5},
        {"times": 0},
        {"times": 4},
        {"kind": "gru"},
        {"kind": "gru_before"},
        {"parts": 2},
        {"parts": 0},
        {"dst": ((1, 0), (8, 4))},
        {"dst": ((2, 0), (0, 4))},
        {"first": ((1, 90), None)},
    ):
        told = {"kind": "lstm", "times": 3, "width": 4, "dst": ((2, 0), (8, 4)), "first": ends, **changes}
        program = _core.Program(0, [96], [24])
        with pytest.raises(ValueError, match=r"."):
            _core.add_recurrent(
                program, told["kind"], told["times"], 2, told["width"],
                [(False, [packed] * told.get("parts", 1), lines, told["dst"], told["first"], ends)],
            )  # fmt: skip
        assert len(program) == 0


def test_winograds_weights_are_of_3_x_3_taps_and_stand_alone() -> None:
    for shape, groups in (((16, 16, 5, 5), 1), ((16, 8, 3, 3), 2)):
        with pytest.raises(ValueError, match="3 x 3 taps in one group"):
            _core.ConvWeights(numbers(*shape), None, groups, 16, False, True)
    lanes = _core.core_info()["vector_bits"] // 32
    packed = _core.ConvWeights(numbers(16, 16, 3, 3), None, 1, lanes, False, True)
    image = _core.Image(1, 0, (1, 16, 8, 8), lanes, (16 * 64, 64 * lanes, 8 * lanes, lanes), (0, 0, 0, 0))
    made = _core.Image(2, 0, (1, 16, 4, 4), lanes, (16 * 16, 16 * lanes, 4 * lanes, lanes), (0, 0, 0, 0))
    program = _core.Program(0, [16 * 64], [16 * 16])
    stage = _core.Stage(packed, None, (16, 4, 4), (2, 2), (1, 1), (1, 1), 0, 0.0, 0.0, False)
    with pytest.raises(ValueError, match="neighbouring pixels"):
        _core.add_chain(program, image, made, [stage])
