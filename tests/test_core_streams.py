"""Results larger than the caches are stored around them, and are the same, on every instruction set.

The core is told how large the caches are, so that arrays need not be large.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from separable import _core

CACHES = _core.core_info()["caches"]
SMALL = {"l1d": 16 << 10, "l2": 64 << 10, "l3": 128 << 10}
LARGE = {"l1d": 32 << 10, "l2": 64 << 10, "l3": 1 << 40}  # tiles are cut alike: they depend on the L2 cache
REFLECT = _core.Mode.reflect


@pytest.fixture(params=_core.core_info()["targets"])
def target(request) -> Iterator[str]:
    _core.force(request.param)
    yield request.param
    _core.force(None)
    _core.assume_caches(**CACHES)


def noise(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    x = np.random.default_rng(len(shape)).uniform(0, 200, shape)
    return x.astype(dtype)


def terms(shape: tuple[int, ...], axes: tuple[int, ...], dtype: str, outputs: int = 1) -> _core.TermsJob:
    taps = [np.array([0.1, 0.2, 0.3, 0.25, 0.15]), np.array([0.25, 0.5, 0.25, 0.0, 0.0])]
    passes = [(axis, 2, REFLECT, taps[:outputs]) for axis in axes]
    return _core.TermsJob(shape, dtype, passes, [(n, *[n] * len(axes)) for n in range(outputs)], 0.0)


def direct(shape: tuple[int, ...], dtype: str) -> _core.DirectJob:
    weights = np.random.default_rng(0).uniform(0, 1, (5,) * len(shape))
    weights /= weights.sum()
    return _core.DirectJob(shape, dtype, weights, (2,) * len(shape), (REFLECT,) * len(shape), 0.0)


def differences(shape: tuple[int, ...], axis: int) -> _core.DifferencesJob:
    disk = np.hypot(*np.ogrid[-4:5, -4:5]) <= 4.2
    return _core.DifferencesJob(shape, disk.astype(float), axis, (4, 4), (REFLECT,) * 2, 0.0, disk.sum())


PLANE, VOLUME = (301, 256), (18, 60, 72)
JOBS: dict[str, Callable[[str], tuple[Any, tuple[int, ...]]]] = {
    "rows": lambda dtype: (terms(PLANE, (1,), dtype), PLANE),
    "columns": lambda dtype: (terms(PLANE, (0,), dtype), PLANE),
    "plane": lambda dtype: (terms(PLANE, (1, 0), dtype), PLANE),
    "volume": lambda dtype: (terms(VOLUME, (2, 1, 0), dtype), VOLUME),
    "bank": lambda dtype: (terms(PLANE, (1, 0), dtype, outputs=2), (2, *PLANE)),
    "dense plane": lambda dtype: (direct(PLANE, dtype), PLANE),
    "dense volume": lambda dtype: (direct(VOLUME, dtype), VOLUME),
    "disk along rows": lambda dtype: (differences(PLANE, 1), PLANE),
    "disk along columns": lambda dtype: (differences(PLANE, 0), PLANE),
}


def misaligned(shape: tuple[int, ...], dtype: str, offset: int) -> np.ndarray:
    """Return an array that starts `offset` elements after a cache line, full of what no result is."""
    item, count = np.dtype(dtype).itemsize, int(np.prod(shape))
    room = np.zeros((count + offset) * item + 64, np.uint8)
    start = -room.ctypes.data % 64 + offset * item
    array = room[start : start + count * item].view(dtype).reshape(shape)
    array[...] = 77
    return array


def run(made: Any, src: np.ndarray, dst: np.ndarray, caches: dict[str, int], *told: Any) -> np.ndarray:
    _core.assume_caches(**caches)
    made.run(src, dst, 2, *told)
    return dst


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("stored", ["float32", "float64", "uint8", "int16"])
@pytest.mark.parametrize("name", JOBS)
def test_what_is_stored_around_the_caches(target, name, stored, offset):
    dtype = "float64" if stored == "float64" else "float32"
    made, shape = JOBS[name](dtype)
    src = noise(shape[1:] if name == "bank" else shape, "uint8" if stored == "uint8" else dtype)
    wanted = run(made, src, misaligned(shape, stored, 0), LARGE)
    assert len(np.unique(wanted)) > 20
    np.testing.assert_array_equal(run(made, src, misaligned(shape, stored, offset), SMALL), wanted)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["plane", "volume", "dense plane"])
def test_what_is_normalised_on_its_way(target, name, dtype):
    made, shape = JOBS[name](dtype)
    src, mask = noise(shape, dtype), np.random.default_rng(1).random(shape) < 0.9
    mask[: len(mask) // 2] = True
    told = (0, 0, 0.0, 1.0, -np.inf, np.inf, mask, False, False)
    wanted = run(made, src, misaligned(shape, dtype, 0), LARGE, *told)
    assert (run(made, src, misaligned(shape, dtype, 0), LARGE) != wanted).any()
    for offset in (0, 1):
        np.testing.assert_array_equal(run(made, src, misaligned(shape, dtype, offset), SMALL, *told), wanted)


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_layers_that_store_around_the_caches(target, dtype, residual):
    rng = np.random.default_rng(2)
    make = _core.FusedJob32 if dtype == "float32" else _core.FusedJob64
    depthwise, pointwise = (rng.standard_normal(shape).astype(dtype) for shape in ((16, 9), (64, 16)))
    x, other = (rng.standard_normal((1, 40, 41, n)).astype(dtype) for n in (16, 64))
    weights = (depthwise, pointwise, None, None)
    made = make(False, 1, (3, 3), (1, 1), (1, 1), 1, 0, _core.Activation.relu, *weights)
    results = []
    for caches in (LARGE, SMALL):
        _core.assume_caches(**caches)
        results.append(misaligned((1, 40, 41, 64), dtype, 0))
        made.run(x, results[-1], other if residual else None, (1, 1), 2)
    np.testing.assert_array_equal(*results)
    padded = np.pad(x[0], ((1, 1), (1, 1), (0, 0)))
    taps = [(i, j, depthwise[:, 3 * i + j]) for i in range(3) for j in range(3)]
    mid = functools.reduce(np.add, (w * padded[i : i + 40, j : j + 41] for i, j, w in taps))
    wanted = np.maximum(mid @ pointwise.T, 0) + (other[0] if residual else 0)
    assert np.abs(results[0][0] - wanted).max() < (1e-3 if dtype == "float32" else 1e-11)


def test_peaks_are_measured_on_every_instruction_set(target):
    assert _core.measure("fma") > 0
    assert _core.measure("stream") > 0
