"""Programs of one native step of the engine, run and compared: for the tests of the core's steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from separable import _core

TARGETS = _core.core_info()["targets"]
GUARD = 67  # elements before and after what a step may write: more than a vector, and an odd number of them
UNTOUCHED = 7.0
EPS = float(np.finfo(np.float32).eps)


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


def sigmoid(x: np.ndarray) -> np.ndarray:
    return np.exp(-np.logaddexp(0, -x))
