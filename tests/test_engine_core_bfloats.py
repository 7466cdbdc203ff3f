"""The core's convolutions and products of bfloat16: every edge of a tile, bit for bit in the order of AMX."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from engine_bfloats import HALF_ULP, Products, bfloat, unit
from engine_core import image_of, in_blocks, numbers, ran
from test_engine_core_convolutions import Conv, random_conv

from separable import _core
from separable.engine.program.steps.convolutions import ACTIVATIONS

__all__ = ["unit"]

Array = np.ndarray
SAME_BITS = ("vectors", "amx")  # VDPBF16PS adds up in another order


def lanes() -> int:
    return int(_core.core_info()["vector_bits"]) // 32


def stage_of(conv: Conv, shape: Sequence[int], depth: int = 1, slice_: int = 0) -> Any:
    weights = _core.BfloatWeights(conv.weights, conv.bias, conv.groups, conv.dilation[1] == 1)
    act, limits = ACTIVATIONS.index(conv.act), (-1.0, 2.0) if conv.act == "clip" else (0.0, 0.0)
    return _core.Stage(
        *(None, None, shape[1:], conv.stride, conv.dilation, conv.pads[:2], act, *limits, conv.add_last),
        depth,
        slice_,
        weights,
    )


def laid_out(x: Array, block: int, around: Sequence[int] = (0, 0, 0, 0)) -> tuple[Any, Array]:
    """Return images of (N, C, H, W) as the first input of a program, and its memory."""
    held = in_blocks(x, block, around)
    return image_of((1, 0), x.shape, block, around)[0], held


def result_of(
    conv: Conv,
    x: Array,
    block: int,
    residual: Array | None = None,
    scale: Array | None = None,
    around: Sequence[int] = (0, 0, 0, 0),
) -> Array:
    """Return what the core makes of (N, C, H, W) in blocks of so many channels, perhaps with zeros around."""
    shape = (len(x), len(conv.weights), *Products(conv, x).size)
    src, held = laid_out(x, block)
    inputs = [held]
    if residual is not None:
        inputs.append(in_blocks(residual, lanes()))
    if scale is not None:
        inputs.append(in_blocks(scale, lanes()))
    size = in_blocks(np.zeros(shape, np.float32), lanes(), around).size

    def add(program: Any, place: Any) -> None:
        added = None if residual is None else image_of((2, 0), shape, lanes())[0]
        _core.add_chain(
            program,
            src,
            image_of(place, shape, lanes(), around)[0],
            [stage_of(conv, shape)],
            added,
            None if scale is None else (len(inputs), 0),
        )

    made = ran(add, inputs, size)
    blocks, (top, left, bottom, right) = -(-shape[1] // lanes()), around
    maps = made.reshape(shape[0], blocks, shape[2] + top + bottom, shape[3] + left + right, lanes())
    high, wide = maps.shape[2] - bottom, maps.shape[3] - right
    rim = maps.copy()
    rim[:, :, top:high, left:wide] = 0
    assert not rim.any()
    inside = maps[:, :, top:high, left:wide].transpose(0, 1, 4, 2, 3)
    return inside.reshape(shape[0], -1, *shape[2:])[:, : shape[1]]


def check(conv: Conv, x: Array, name: str, *results: Array, residual: Array | None = None) -> None:
    """Compare each with sums of bfloat16 in float64, and bit for bit with those in the order of the tiles."""
    products = Products(conv, x)
    bias = conv.bias[:, None, None]
    exact, sizes = products.exact()
    added = 0 if residual is None else residual
    allowed = (products.terms + 3) * HALF_ULP * (sizes + np.abs(bias) + np.abs(added))
    expected = conv.end(exact + bias, None if residual is None else residual.astype(float))
    for got in results:
        if conv.act in ("none", "relu", "clip"):
            assert (np.abs(got - expected) <= allowed + np.finfo(np.float32).tiny).all()
        else:
            assert np.allclose(got, expected, rtol=2e-6, atol=2e-6)
    if name in SAME_BITS and conv.act in ("none", "relu"):
        wanted = conv.end(products.sums() + bias, residual)
        assert all(np.array_equal(got, wanted) for got in results)


CHANNELS = [
    (1, 1),
    (3, 5),
    (7, 16),
    (8, 17),
    (16, 32),
    (17, 33),
    (31, 8),
    (33, 48),
    (40, 31),
    (64, 65),
    (100, 3),
]


@pytest.mark.parametrize(("c_in", "c_out"), CHANNELS)
def test_pointwise_of_all_counts_of_channels(unit: str, c_in: int, c_out: int) -> None:
    random = np.random.default_rng([c_in, c_out])
    for size in ((1, 1), (1, 5), (3, 1), (5, 7), (4, 9), (1, 33)):
        conv = random_conv(random, c_in, c_out)
        x = numbers(2, c_in, *size, seed=3)
        check(conv, x, unit, *(result_of(conv, x, block) for block in (lanes(), 1, c_in)))


CASES = {
    "3 x 3": ((3, 3), {"pads": (1, 1, 1, 1)}),
    "3 x 3, stride 2": ((3, 3), {"pads": (1, 1, 1, 1), "stride": (2, 2)}),
    "1 x 1, stride 2": ((1, 1), {"stride": (2, 2)}),
    "1 x 1, stride 3 and padding": ((1, 1), {"stride": (3, 2), "pads": (1, 2, 2, 1)}),
    "a line of 5 taps": ((1, 5), {"pads": (0, 2, 0, 2)}),
    "a column of 4 taps": ((4, 1), {"pads": (1, 0, 2, 0)}),
    "dilated": ((3, 3), {"dilation": (2, 3), "pads": (2, 3, 2, 3)}),
    "dilated beyond the image": ((1, 3), {"dilation": (1, 12), "pads": (0, 12, 0, 12)}),
    "7 x 7, stride 2": ((7, 7), {"stride": (2, 2), "pads": (3, 3, 3, 3)}),
    "no padding": ((2, 3), {}),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("c_in", "c_out"), [(3, 20), (8, 16), (20, 6), (33, 40)])
def test_kernels_of_several_taps(unit: str, case: str, c_in: int, c_out: int) -> None:
    kernel, more = CASES[case]
    conv = random_conv(np.random.default_rng(len(case)), c_in, c_out, kernel, act="relu", **more)
    for size in ((9, 8), (7, 19)):
        x = numbers(1, c_in, *size, seed=4)
        check(conv, x, unit, *(result_of(conv, x, block) for block in (lanes(), 1, c_in)))


@pytest.mark.parametrize(
    ("c_in", "c_out", "groups"), [(8, 8, 2), (96, 48, 2), (64, 64, 8), (120, 60, 3), (12, 24, 3)]
)
def test_groups(unit: str, c_in: int, c_out: int, groups: int) -> None:
    for kernel, pads in (((1, 1), (0, 0, 0, 0)), ((3, 3), (1, 1, 1, 1))):
        conv = random_conv(np.random.default_rng(groups), c_in, c_out, kernel, groups=groups, pads=pads)
        x = numbers(1, c_in, 5, 6, seed=5)
        check(conv, x, unit, result_of(conv, x, lanes()))


@pytest.mark.parametrize("act", ["none", "relu", "relu6", "clip", "silu", "hard_swish", "sigmoid"])
def test_endings_and_residuals(unit: str, act: str) -> None:
    for add_last in (False, True):
        conv = random_conv(np.random.default_rng(7), 24, 35, (1, 1), act=act, add_last=add_last)
        x = numbers(2, 24, 6, 7, seed=6)
        residual = numbers(2, 35, 6, 7, seed=7)
        check(conv, x, unit, result_of(conv, x, lanes()))
        inside = result_of(conv, x, lanes(), residual)
        check(
            conv,
            x,
            unit,
            inside,
            result_of(conv, x, lanes(), residual, around=(1, 2, 0, 1)),
            residual=residual,
        )


def test_samples_are_scaled_before_they_are_rounded(unit: str) -> None:
    conv, x = random_conv(np.random.default_rng(8), 20, 33), numbers(2, 20, 4, 5, seed=8)
    scale = np.abs(numbers(2, 20, 1, 1, seed=9))
    check(conv, x * scale, unit, result_of(conv, x, lanes(), scale=scale))


def test_bands_of_rows_and_of_columns_give_the_same_bits(unit: str) -> None:
    """Caches so small that a row is divided, and so large that all rows are one band."""
    conv = random_conv(np.random.default_rng(9), 40, 40, (3, 3), pads=(1, 1, 1, 1), stride=(1, 2))
    one = random_conv(np.random.default_rng(10), 40, 40)
    x, caches = numbers(1, 40, 4, 400, seed=10), _core.core_info()["caches"]
    try:
        results = []
        for l2 in (1 << 12, 1 << 16, 1 << 24):
            _core.assume_caches(caches["l1d"], l2, caches["l3"])
            results.append((result_of(conv, x, lanes()), result_of(one, x, lanes(), around=(0, 1, 0, 1))))
    finally:
        _core.assume_caches(caches["l1d"], caches["l2"], caches["l3"])
    check(conv, x, unit, results[0][0])
    for got in results:
        assert np.array_equal(got[0], results[0][0])
        assert np.array_equal(got[1], results[0][1])


def test_rounding(unit: str) -> None:
    """Ties go to the even number, NaN and infinities stay, denormal numbers are zero: samples and weights."""
    ties = np.array([0x3F808000, 0x3F818000, 0x3F808001, 0x3F807FFF, 0xBF818000], np.uint32).view(np.float32)
    large = np.float32([3.3895e38, 3.4e38, -3.4e38, np.inf, -np.inf, np.nan, 0.0, -0.0])
    small = np.float32([1e-38, 1.1754944e-38, -1.17e-38, 1e-45, -1e-45, 2.0**-126])
    quiet = np.array([0x7F800001, 0xFFC00001, 0x7FBFFFFF], np.uint32).view(np.float32)
    given = np.concatenate([ties, large, small, quiet])
    one = Conv(np.ones((1, 1, 1, 1), np.float32), np.zeros(1, np.float32))
    x = given.reshape(1, 1, 1, -1)
    wanted = bfloat(given)
    assert np.array_equal(result_of(one, x, 1).ravel(), wanted, equal_nan=True)
    wide = Conv(np.eye(len(given), dtype=np.float32)[:, :, None, None], np.zeros(len(given), np.float32))
    for value, expected in zip(given, wanted, strict=True):  # packed by vectors, one channel at a time
        x = np.zeros((1, len(given), 1, 1), np.float32)
        x[0, 3] = value
        got = result_of(wide, x, lanes()).ravel()
        assert np.array_equal(got[3], expected, equal_nan=True)
        assert np.isnan(np.delete(got, 3)).all() == (not np.isfinite(expected))  # zero times infinity
        conv = Conv(np.full((1, 1, 1, 1), value), np.zeros(1, np.float32))
        got = result_of(conv, np.ones((1, 1, 1, 1), np.float32), 1).ravel()[0]
        assert np.array_equal(got, expected, equal_nan=True)


def test_not_a_number_stays_in_the_windows_that_read_it(unit: str) -> None:
    for kernel, pads, c_in in (
        ((3, 3), (1, 1, 1, 1), 3),
        ((3, 3), (1, 1, 1, 1), 24),
        ((1, 1), (0, 0, 0, 0), 33),
    ):
        conv = random_conv(np.random.default_rng(11), c_in, 20, kernel, pads=pads)
        x = numbers(1, c_in, 9, 11, seed=11)
        x[0, c_in // 2, 4, 5] = np.nan
        got, reach = result_of(conv, x, lanes()), kernel[0] // 2
        bad = np.zeros((9, 11), bool)
        bad[4 - reach : 5 + reach, 5 - reach : 6 + reach] = True
        assert (np.isnan(got) == bad).all()


def test_slices_of_volumes(unit: str) -> None:
    """A kernel of 3 x 3 x 3 reads three slices, which follow each other as images."""
    c_in, c_out, depth, high, wide = 10, 18, 5, 4, 6
    weights = numbers(c_out, c_in, 3, 3, 3, seed=12) / 16
    bias, x = numbers(c_out, seed=12), numbers(depth, c_in, high, wide, seed=13)
    around = (1, 1, 1, 1)
    held = in_blocks(x, lanes(), around)
    shape = (depth - 2, c_out, high, wide)
    conv = Conv(weights.reshape(c_out, c_in, 9, 3), bias, pads=around)
    src, _ = image_of((1, 0), x.shape, lanes(), around)
    src = _core.Image(
        1,
        (wide + 2 + 1) * lanes(),
        (depth - 2, *x.shape[1:]),
        lanes(),
        (held[0].size, held[0, 0].size, (wide + 2) * lanes(), lanes()),
        around,
    )
    size = in_blocks(np.zeros(shape, np.float32), lanes()).size

    def add(program: Any, place: Any) -> None:
        stage = stage_of(conv, shape, 3, held[0].size)
        _core.add_chain(program, src, image_of(place, shape, lanes())[0], [stage])

    made = ran(add, [held], size).reshape(shape[0], -1, high, wide, lanes())
    got = made.transpose(0, 1, 4, 2, 3).reshape(shape[0], -1, high, wide)[:, :c_out]
    padded = np.pad(bfloat(x), ((0, 0), (0, 0), (1, 1), (1, 1))).astype(float)
    expected = np.zeros(shape)
    for d in range(3):
        for v in range(3):
            for u in range(3):
                part = padded[d : d + shape[0], :, v : v + high, u : u + wide]
                expected += np.einsum("nchw,oc->nohw", part, bfloat(weights)[:, :, d, v, u].astype(float))
    assert np.allclose(got, expected + bias[:, None, None], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "names", ["expand filter project", "filter project", "filter project filter", "project filter"]
)
@pytest.mark.parametrize("channels", [20, 72])
def test_chains_of_depthwise_and_pointwise_convolutions(unit: str, names: str, channels: int) -> None:
    """What lies between is a ring of rows, or packed as it is made; bits are those of one after the other."""
    random = np.random.default_rng(13)
    x = numbers(1, channels, 23, 17, seed=14)
    convs, shapes, maps = [], [x.shape], [x]
    for number, name in enumerate(names.split()):
        count, size = shapes[-1][1], shapes[-1][2:]
        if name == "filter":
            stride = 2 - number % 2
            more = {"groups": count, "pads": (1, 1, 1, 1), "stride": (stride, stride), "act": "relu6"}
            convs.append(random_conv(random, count, count, (3, 3), **more))
            shapes.append((1, count, *(-(-length // stride) for length in size)))
            maps.append(depthwise(convs[-1], maps[-1], shapes[-1]))
        else:
            made = 2 * count if name == "expand" else 24
            convs.append(random_conv(random, count, made, act="relu6" if name == "expand" else "none"))
            shapes.append((1, made, *size))
            maps.append(result_of(convs[-1], maps[-1], lanes()))
    caches = _core.core_info()["caches"]
    around = convs[0].reads_around(x.shape[2:], shapes[1][2:])
    src, held = laid_out(x, lanes(), around)
    size = in_blocks(np.zeros(shapes[-1], np.float32), lanes(), (0, 2, 1, 0)).size

    def add(program: Any, place: Any) -> None:
        stages = [
            conv.stage(shape, lanes()) if conv.depthwise else stage_of(conv, shape)
            for conv, shape in zip(convs, shapes[1:], strict=True)
        ]
        _core.add_chain(program, src, image_of(place, shapes[-1], lanes(), (0, 2, 1, 0))[0], stages)

    for l2 in (1 << 13, 1 << 22):
        _core.assume_caches(caches["l1d"], l2, caches["l3"])
        try:
            made = ran(add, [held], size).reshape(1, -1, shapes[-1][2] + 1, shapes[-1][3] + 2, lanes())
        finally:
            _core.assume_caches(caches["l1d"], caches["l2"], caches["l3"])
        inside = made[:, :, :-1, 2:].transpose(0, 1, 4, 2, 3)
        assert np.array_equal(inside.reshape(1, -1, *shapes[-1][2:])[:, : shapes[-1][1]], maps[-1])


def depthwise(conv: Conv, x: Array, shape: Sequence[int]) -> Array:
    src, held = laid_out(x, lanes(), conv.reads_around(x.shape[2:], tuple(shape[2:])))

    def add(program: Any, place: Any) -> None:
        _core.add_chain(program, src, image_of(place, shape, lanes())[0], [conv.stage(tuple(shape), lanes())])

    made = ran(add, [held], in_blocks(np.zeros(shape, np.float32), lanes()).size)
    maps = made.reshape(shape[0], -1, *shape[2:], lanes()).transpose(0, 1, 4, 2, 3)
    return maps.reshape(shape[0], -1, *shape[2:])[:, : shape[1]]


@pytest.mark.parametrize(
    ("rows", "inner", "columns"), [(1, 1, 1), (1, 70, 33), (5, 32, 16), (33, 100, 7), (64, 48, 96)]
)
def test_products_with_a_matrix(unit: str, rows: int, inner: int, columns: int) -> None:
    """Rows at any distance, of neighbouring or of distant elements; nothing beside the results is written."""
    matrix, bias = (
        numbers(inner, columns, seed=15) / np.sqrt(inner, dtype=np.float32),
        numbers(columns, seed=16),
    )
    conv = Conv(np.ascontiguousarray(matrix.T)[:, :, None, None], bias, act="relu")
    x = numbers(rows, inner, seed=17)
    maps = x.T.reshape(1, inner, rows, 1)
    weights = _core.BfloatWeights(conv.weights, bias, 1, False)
    for memory, strides in ((x, (inner, 1)), (np.ascontiguousarray(x.T), (1, rows))):
        for gap in (0, 3):

            def add(program: Any, place: Any, strides: Any = strides, pitch: int = columns + gap) -> None:
                _core.add_bfloat_full(program, weights, rows, (1, 0), strides, place, pitch, 1, 0.0, 0.0)

            made = ran(add, [memory], rows * (columns + gap)).reshape(rows, -1)
            assert (made[:, columns:] == 7.0).all()
            check(conv, maps, unit, made[:, :columns].T.reshape(1, columns, rows, 1))


def test_bad_settings_are_refused(unit: str) -> None:
    weights = numbers(4, 6, 3, 3)
    joined = _core.BfloatWeights(weights, None, 1, True)
    program = _core.Program(0, [1000], [1000])
    for match, call in {
        "C_out": lambda: _core.BfloatWeights(weights[0], None, 1, True),
        "divide": lambda: _core.BfloatWeights(weights, None, 3, True),
        "another length": lambda: _core.BfloatWeights(weights, numbers(3), 1, True),
        "too many taps": lambda: _core.BfloatWeights(numbers(1, 1, 1, 600), None, 1, True),
        "neighbours": lambda: _core.Stage(
            None, None, (4, 5, 5), (1, 1), (1, 2), (0, 0), 0, 0.0, 0.0, False, 1, 0, joined
        ),
        "one tap": lambda: _core.add_bfloat_full(program, joined, 1, (1, 0), (6, 1), (2, 0), 4, 0, 0.0, 0.0),
    }.items():
        with pytest.raises(ValueError, match=match):
            call()
    matrix = _core.BfloatWeights(numbers(4, 6, 1, 1), None, 1, False)
    usual = {"rows": 3, "x": (1, 0), "x_strides": (6, 1), "dst": (2, 0), "dst_row": 4, "act": 0}
    for match, change in (
        ("beyond", {"rows": 400}),
        ("out of range", {"x_strides": (-6, 1)}),
        ("on top", {"dst_row": 2}),
        ("no such activation", {"act": 99}),
        ("one row", {"rows": 0}),
        ("beyond", {"dst": (1, 0)}),
    ):
        with pytest.raises(ValueError, match=match):
            _core.add_bfloat_full(program, matrix, *{**usual, **change}.values(), 0.0, 0.0)
    with pytest.raises(ValueError, match="no such unit"):
        _core.force_matrix_unit("abacus")
