"""The core's sums of products of bytes: what it refuses, and residuals of any pitch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from engine_core import TARGETS, ran

from separable import _core
from separable.engine.program.packed_integers import packed_integers

NONE = np.zeros(0, np.int32)
MORE = (NONE, NONE, NONE, NONE.astype(np.int8))


@pytest.fixture(autouse=True, params=TARGETS)
def target(request: pytest.FixtureRequest) -> Iterator[str]:
    _core.force(request.param)
    yield request.param
    _core.force(None)


def pointwise(c_in: int = 8, c_out: int = 5, most: int = 255) -> tuple[Any, np.ndarray]:
    weights = np.random.default_rng(c_in).integers(-most, most + 1, (c_out, c_in, 1, 1)).astype(np.int16)
    return packed_integers(weights, 1, c_in, (None, None, None)).weights, weights[:, :, 0, 0]


def bytes_of(array: np.ndarray) -> np.ndarray:
    """Return bytes as the elements of a memory of float32."""
    return np.frombuffer(array.astype(np.uint8).tobytes(), np.float32)


def settings(weights: Any, **changes: Any) -> dict[str, Any]:
    """Return the arguments of a pointwise step: 3 x 4 pixels of 8 channels, 5 results of 32 bits each."""
    usual = {
        "weights": weights,
        "src": (1, 0),
        "shape": (1, 3, 4),
        "results": ("whole", (3, 67), (1, 3, 4), (60, _core.core_info()["vector_bits"] // 32, 20, 5), False),
        "geometry": (1, 1, 1, 1, 0, 0),
        "given": ((2, 0), None),
        "made": None,
        "act": (0, 0.0, 0.0),
    }
    return {**usual, **changes}


def test_sums_are_exact_for_weights_of_nine_bits() -> None:
    """Half of all neighbours have sums of products beyond 16 bits."""
    random = np.random.default_rng(1)
    for c_in, c_out in ((8, 5), (64, 40), (128, 17)):
        weights, plain = pointwise(c_in, c_out)
        x = random.integers(0, 256, (12, c_in)).astype(np.uint8)
        lanes = _core.core_info()["vector_bits"] // 32
        pitches = (12 * c_out, lanes, 4 * c_out, c_out)

        def add(program: Any, place: Any, held: Any = weights, at: Any = pitches) -> None:
            results = ("whole", place, (1, 3, 4), at, False)
            _core.add_integer_conv(program, **settings(held, results=results))

        given = ran(add, [bytes_of(x), np.float32([77.0])], 12 * c_out)
        expected = (x.astype(np.int64) - 77) @ plain.T.astype(np.int64)
        assert np.array_equal(given.view(np.int32).reshape(12, c_out), expected)


def test_residuals_are_added_before_levels_are_made() -> None:
    random = np.random.default_rng(2)
    weights, plain = pointwise(8, 5, 60)
    x, added = (random.integers(0, 256, (12, n)).astype(np.uint8) for n in (8, 12))
    numbers = np.float32([3.0, 0.5, 9.0, 2.0, 20.0, 1.5])

    def add(program: Any, place: Any) -> None:
        results = ("levels", place, (1, 3, 4), (96, 0, 32, 8), False)
        base = 2
        _core.add_integer_conv(
            program,
            **settings(
                weights,
                results=results,
                given=((base, 0), (base, 1)),
                made=((base, 2), (base, 3)),
                residual=((3, 0), 12, ((base, 4), (base, 5))),
            ),
        )

    given = ran(add, [bytes_of(x), numbers, bytes_of(added)], 24)
    sums = (x.astype(np.int64) - 3) @ plain.T.astype(np.int64)
    y = sums * 0.5 + (added[:, :5].astype(np.float64) - 20) * 1.5
    expected = np.clip(np.round(y / 2) + 9, 0, 255)
    made = np.frombuffer(given.tobytes(), np.uint8).reshape(12, 8)
    assert np.array_equal(made[:, :5], expected)


@pytest.mark.parametrize("channels", [5, 10, 19, 37, 53])
def test_depthwise_sums_end_with_their_last_block(channels: int) -> None:
    """Two vectors of channels are computed at once; one of them may not be there."""
    random = np.random.default_rng(channels)
    lanes = _core.core_info()["vector_bits"] // 32
    pitch, blocks = -(-channels // 4) * 4, -(-channels // lanes)
    weights = random.integers(-255, 256, (channels, 1, 3, 1)).astype(np.int16)
    packed = packed_integers(weights, channels, pitch, (None, None, None)).weights
    x = np.zeros((5, 6, pitch), np.uint8)
    x[..., :channels] = random.integers(0, 256, (5, 6, channels))

    def add(program: Any, place: Any) -> None:
        results = ("whole", place, (1, 3, 6), (blocks * 18 * lanes, 18 * lanes, 6 * lanes, lanes), True)
        _core.add_integer_conv(program, **settings(packed, shape=(1, 5, 6), results=results))

    given = ran(add, [bytes_of(x), np.float32([9.0])], blocks * 18 * lanes)
    less = x[..., :channels].astype(np.int64) - 9
    expected = sum(less[k : k + 3] * weights[:, 0, k, 0] for k in range(3))
    made = given.view(np.int32).reshape(blocks, 3, 6, lanes).transpose(1, 2, 0, 3).reshape(3, 6, -1)
    assert np.array_equal(made[..., :channels], expected)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"src": (1, 1)}, "reaches beyond"),
        ({"shape": (1, 3, 5)}, "reaches beyond"),
        ({"shape": (2, 3, 2)}, "number of images"),
        ({"shape": (0, 3, 4)}, "out of range"),
        ({"shape": (1, 3)}, "number of lengths"),
        ({"results": ("whole", (3, 200), (1, 3, 4), (60, 16, 20, 5), False)}, "reaches beyond"),
        ({"results": ("whole", (1, 0), (1, 3, 4), (60, 16, 20, 5), False)}, "reaches beyond"),
        ({"results": ("bits", (3, 67), (1, 3, 4), (60, 8, 20, 5), False)}, "no such results"),
        ({"results": ("levels", (3, 67), (1, 3, 4), (60, 0, 20, 5), False)}, "levels have a zero"),
        (
            {"results": ("levels", (3, 67), (1, 3, 4), (60, 0, 20, 4), False), "made": ((2, 0), None)},
            "on top",
        ),
        ({"geometry": (0, 1, 1, 1, 0, 0)}, "stride or a dilation"),
        ({"geometry": (1, 1, 1, 1, -1, 0)}, "out of range"),
        ({"geometry": (2**30, 2**30, 2**30, 2**30, 0, 0)}, "larger than any memory"),
        ({"given": ((2, 1), None)}, "reaches beyond"),
        ({"made": ((2, 0), None)}, "levels have a zero"),
        ({"act": (99, 0.0, 0.0)}, "no such activation"),
        ({"more": (2, 0)}, "reaches beyond"),
        ({"residual": ((1, 0), 8, ((2, 0), None))}, "residuals"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], match: str) -> None:
    weights, _ = pointwise()
    lanes = _core.core_info()["vector_bits"] // 32
    if "results" in changes:  # one vector of channels after the other
        name, place, shape, (image, block, row, pixel), whole = changes["results"]
        pitches = (image, lanes if block else 0, row, pixel)
        changes = {**changes, "results": (name, place, shape, pitches, whole)}
    program = _core.Program(0, [24, 1], [60 + 2 * 67])
    with pytest.raises(ValueError, match=match):
        _core.add_integer_conv(program, **settings(weights, **changes))
    assert len(program) == 0


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"packed": np.zeros(4, np.int8)}, "another size"),
        ({"bias": np.zeros(4, np.int32)}, "a number for each channel"),
        ({"scale": np.zeros(6, np.float32)}, "a number for each channel"),
        ({"pitch": 6}, "multiple of 4"),
        ({"pitch": 4}, "multiple of 4"),
        ({"shape": (8, 5, 3, 1, 1)}, "do not divide"),
        ({"shape": (8, 5, 1, 1)}, "number of lengths"),
        ({"depthwise": True}, "one channel for each group"),
        ({"more": (np.ones(2, np.int32), *MORE[1:])}, "number of panels"),
        ({"more": (np.ones(1, np.int32), *MORE[1:])}, "number of quads"),
    ],
    ids=str,
)
def test_weights_that_do_not_fit_are_refused(changes: dict[str, Any], match: str) -> None:
    lanes = _core.core_info()["vector_bits"] // 32
    panels = -(-5 // (2 * lanes))
    size = 8 * lanes * (sum(2 if 5 - panel * 2 * lanes > lanes else 1 for panel in range(panels)))
    usual = {
        "packed": np.zeros(size, np.int8),
        "more": (np.zeros(panels, np.int32), *MORE[1:]),
        "bias": np.zeros(5, np.int32),
        "sums": np.zeros(5, np.int32),
        "scale": np.zeros(5, np.float32),
        "shift": None,
        "shape": (8, 5, 1, 1, 1),
        "depthwise": False,
        "pitch": 8,
    }
    assert _core.IntegerWeights(**usual).nbytes > 0
    with pytest.raises(ValueError, match=match):
        _core.IntegerWeights(**{**usual, **changes})


def test_level_maps_are_checked() -> None:
    program = _core.Program(8, [8, 2], [8])
    good = ((8,), (1, 0), (1,), (3, 0), (1,), ((2, 0), (2, 1)))
    _core.add_level_map(program, "quantise", *good)
    for kind, changed, match in (
        ("quantise", {0: (33,)}, "reaches beyond"),
        ("dequantise", {0: (9,)}, "reaches beyond"),
        ("dequantise", {2: (-1,)}, "not negative"),
        ("floats", {}, "zero and a scale"),
        ("quantise", {5: None}, "zero and a scale"),
        ("rounded", {}, "no such operation"),
        ("quantise", {4: (0,)}, "on top"),
    ):
        arguments = list(good)
        for place, value in changed.items():
            arguments[place] = value
        with pytest.raises(ValueError, match=match):
            _core.add_level_map(program, kind, *arguments)
    with pytest.raises(ValueError, match="reaches beyond"):
        _core.add_levels(program, 33, (1, 0), (1, 0), (3, 0), *[((2, 0), None)] * 3)
    with pytest.raises(ValueError, match="reaches beyond"):
        _core.add_level_range(program, (1, 0), (1, 1), (2, 0), (0, 1))
