"""The engine's native convolutions: every layout, stride and ending, alone and in chains, against float64."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from separable import _core
from separable.engine.program.steps.convolutions import ACTIVATIONS

Floats = npt.NDArray[Any]
TARGETS = _core.core_info()["targets"]
NONE = (0, 0, 0, 0)
ENDINGS = {
    "none": (lambda v: v, (0.0, 0.0)),
    "relu": (lambda v: np.maximum(v, 0), (0.0, 0.0)),
    "relu6": (lambda v: np.clip(v, 0, 6), (0.0, 0.0)),
    "silu": (lambda v: v / (1 + np.exp(-v)), (0.0, 0.0)),
    "hard_swish": (lambda v: v * np.clip(v + 3, 0, 6) / 6, (0.0, 0.0)),
    "sigmoid": (lambda v: 1 / (1 + np.exp(-v)), (0.0, 0.0)),
    "clip": (lambda v: np.clip(v, -1, 2), (-1.0, 2.0)),
    "hard_sigmoid": (lambda v: np.clip(0.2 * v + 0.5, 0, 1), (0.2, 0.5)),
    "leaky_relu": (lambda v: np.where(v > 0, v, 0.1 * v), (0.1, 0.0)),
    "tanh": (np.tanh, (0.0, 0.0)),
}


@pytest.fixture(autouse=True)
def _best_target():
    yield
    _core.force(None)


def lanes() -> int:
    return _core.core_info()["vector_bits"] // 32


@dataclass
class Conv:
    """A convolution of (N, C, H, W) in float64, and the stage of the core that it is compared with."""

    weights: Floats
    bias: Floats
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = NONE
    groups: int = 1
    act: str = "none"
    add_last: bool = False
    short_rows: bool = False
    shape: tuple[int, ...] = field(default=(), init=False)

    @property
    def depthwise(self) -> bool:
        return self.groups == len(self.weights) > 1 and self.weights.shape[1] == 1

    def sums(self, x: Floats) -> Floats:
        top, left, bottom, right = self.pads
        x = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
        kernel = self.weights.shape[2:]
        high, wide = (
            (length - (taps - 1) * dilation - 1) // stride + 1
            for length, taps, dilation, stride in zip(
                x.shape[2:], kernel, self.dilation, self.stride, strict=True
            )
        )
        out = np.zeros((len(x), len(self.weights), max(high, 0), max(wide, 0)))
        if not out.size:
            return out
        step_in, step_out = self.weights.shape[1], len(self.weights) // self.groups
        for g in range(self.groups):
            for u in range(kernel[0]):
                for v in range(kernel[1]):
                    y0, x0 = u * self.dilation[0], v * self.dilation[1]
                    part = x[
                        :,
                        g * step_in : (g + 1) * step_in,
                        y0 : y0 + (high - 1) * self.stride[0] + 1 : self.stride[0],
                        x0 : x0 + (wide - 1) * self.stride[1] + 1 : self.stride[1],
                    ]
                    out[:, g * step_out : (g + 1) * step_out] += np.einsum(
                        "nchw,oc->nohw",
                        part,
                        self.weights[g * step_out : (g + 1) * step_out, :, u, v].astype(float),
                    )
        return out + self.bias[:, None, None]

    def end(self, sums: Floats, residual: Floats | None = None) -> Floats:
        function = ENDINGS[self.act][0]
        if residual is None:
            return function(sums)
        return function(sums) + residual if self.add_last else function(sums + residual)

    def stage(self, shape: tuple[int, ...], block: int) -> Any:
        low, high = ENDINGS[self.act][1]
        packed = (
            (None, _core.DepthwiseWeights(np.ascontiguousarray(self.weights[:, 0]), self.bias))
            if self.depthwise
            else (_core.ConvWeights(self.weights, self.bias, self.groups, block, self.short_rows), None)
        )
        return _core.Stage(
            *packed,
            shape[1:],
            self.stride,
            self.dilation,
            self.pads[:2],
            ACTIVATIONS.index(self.act),
            low,
            high,
            self.add_last,
        )

    def reads_around(self, size: tuple[int, int], out: tuple[int, int]) -> tuple[int, int, int, int]:
        high = [
            max(0, (out[i] - 1) * self.stride[i] + (self.weights.shape[2 + i] - 1) * self.dilation[i] + 1)
            - self.pads[i]
            - size[i]
            for i in range(2)
        ]
        return self.pads[0], self.pads[1], max(0, high[0]), max(0, high[1])


def random_conv(rng: np.random.Generator, channels: int, results: int, kernel=(1, 1), **more: Any) -> Conv:
    groups = more.get("groups", 1)
    fan = channels // groups * kernel[0] * kernel[1]
    weights = (rng.standard_normal((results, channels // groups, *kernel)) / np.sqrt(fan)).astype(np.float32)
    return Conv(weights, rng.standard_normal(results).astype(np.float32), **more)


# -- feature maps in memory


def blocked(base: int, shape: tuple[int, ...], around=NONE) -> tuple[Any, tuple[int, ...]]:
    """Return an image in blocks that fills a memory, and the shape of that memory."""
    n, c, h, w = shape
    top, left, bottom, right = around
    row = (left + w + right) * lanes()
    block = (top + h + bottom) * row
    blocks = -(-c // lanes())
    image = _core.Image(
        base, top * row + left * lanes(), shape, lanes(), (blocks * block, block, row, lanes()), around
    )
    return image, (n, blocks, top + h + bottom, left + w + right, lanes())


def to_blocks(x: Floats, around=NONE) -> Floats:
    """Return feature maps in blocks, with NaN in lanes without a channel: nobody may use them."""
    n, c, h, w = x.shape
    top, left, _, _ = around
    out = np.zeros(blocked(0, x.shape, around)[1], np.float32)
    padded = np.full((n, out.shape[1] * lanes(), h, w), np.nan if around == NONE else 0, np.float32)
    padded[:, :c] = x
    out[:, :, top : top + h, left : left + w] = padded.reshape(n, -1, lanes(), h, w).transpose(0, 1, 3, 4, 2)
    return out


def from_blocks(memory: Floats, shape: tuple[int, ...], around=NONE) -> Floats:
    n, c, h, w = shape
    top, left, _, _ = around
    inside = memory[:, :, top : top + h, left : left + w]
    return inside.transpose(0, 1, 4, 2, 3).reshape(n, -1, h, w)[:, :c]


def check_around(memory: Floats, shape: tuple[int, ...], around) -> None:
    mask = np.ones(memory.shape[2:4], bool)
    mask[around[0] : around[0] + shape[2], around[1] : around[1] + shape[3]] = False
    assert (memory[:, :, mask] == 0).all()


def run(
    convs, x: Floats, layout="blocks", around=NONE, residual=None, scale=None, means=False, assumed=None
) -> Floats:
    """Run convolutions as one chain on 1, 2 and 3 threads; return the results, and the means if asked for."""
    first = convs[0]
    shapes, value = [], x.astype(float)
    for conv in convs:
        value = conv.sums(value)
        shapes.append(value.shape)
    wanted = first.reads_around(x.shape[2:], shapes[0][2:])
    n, c, h, w = x.shape
    if layout == "planar":
        memory, src, block = x, _core.Image(1, 0, x.shape, 1, (c * h * w, h * w, w, 1), NONE), 1
    elif layout == "channels-last":
        memory = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
        src, block = _core.Image(1, 0, x.shape, c, (c * h * w, 0, w * c, c), NONE), c
    else:
        zeros = wanted if layout == "zeros around" else NONE
        memory, block = to_blocks(x, zeros), lanes()
        src = blocked(1, x.shape, zeros)[0]
    inputs, sizes = [memory], [memory.size]
    for extra in (
        None if residual is None else to_blocks(residual),
        None if scale is None else vectors(scale),
    ):
        if extra is not None:
            inputs.append(extra)
            sizes.append(extra.size)
    add = None if residual is None else blocked(2, residual.shape)[0]
    at = None if scale is None else (len(inputs), 0)
    dst, held = blocked(1 + len(inputs), shapes[-1], around)
    y, m = np.empty(held, np.float32), np.empty((n, held[1] * lanes()), np.float32)
    room = n * held[1] * lanes() * shapes[-1][2]
    program = _core.Program(room, sizes, [y.size, m.size])
    stages = [
        conv.stage(shape, block if conv is first else lanes())
        for conv, shape in zip(convs, shapes, strict=True)
    ]
    _core.add_chain(
        program, src, dst, stages, add, at, (2 + len(inputs), 0) if means else None, (0, 0) if means else None
    )
    found = []
    for threads in (1, 2, 3):
        y.fill(7)
        m.fill(7)
        program.run(inputs, [y, m], threads)
        found.append((y.copy(), m.copy()))
    for other in found[1:]:
        np.testing.assert_array_equal(other[0], found[0][0])
        np.testing.assert_array_equal(other[1], found[0][1])
    check_around(y, shapes[-1], around)
    result = from_blocks(y, shapes[-1], around)
    return (result, m[:, : shapes[-1][1]]) if means else result


def vectors(values: Floats) -> Floats:
    out = np.zeros((len(values), -(-values.shape[1] // lanes()) * lanes()), np.float32)
    out[:, : values.shape[1]] = values
    return out


def expected(convs, x: Floats, residual=None, scale=None) -> Floats:
    value = x.astype(float) if scale is None else x * scale.astype(float)[:, :, None, None]
    for conv in convs[:-1]:
        value = conv.end(conv.sums(value))
    return convs[-1].end(convs[-1].sums(value), residual)


def assert_near(found: Floats, wanted: Floats, bound=3e-5) -> None:
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() <= bound * max(1.0, np.abs(wanted).max())


# -- one convolution


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("seed", range(60))
def test_any_convolution_is_that_of_float64(seed, target):
    _core.force(target)
    rng = np.random.default_rng(seed)
    kind = rng.choice(["dense", "dense", "depthwise", "grouped"])
    channels, results = (
        int(rng.choice([1, 3, 5, 16, 17, 24, 32, 70])),
        int(rng.choice([1, 7, 16, 24, 40, 64, 100])),
    )
    groups = 1
    if kind == "grouped":
        groups = int(rng.choice([2, 3, 4]))
        channels, results = (
            groups * int(rng.choice([1, 4, 6, 16, 20])),
            groups * int(rng.choice([1, 3, 8, 16, 24])),
        )
    if kind == "depthwise":
        groups = results = channels = max(channels, 2)
    kernel = (1, 1) if rng.random() < 0.4 else tuple(int(n) for n in rng.choice([1, 2, 3, 5, 7], 2))
    conv = random_conv(
        rng,
        channels,
        results,
        kernel,
        groups=groups,
        stride=tuple(int(n) for n in rng.integers(1, 4, 2)),
        dilation=(1, 1) if rng.random() < 0.7 else (2, 3),
        pads=tuple(int(rng.integers(0, kernel[i % 2])) for i in range(4)),
        act=str(rng.choice(list(ENDINGS))),
        add_last=bool(rng.random() < 0.5),
        short_rows=bool(rng.random() < 0.4),
    )
    count = int(rng.integers(1, 3))
    x = rng.standard_normal((count, channels, int(rng.integers(14, 24)), int(rng.integers(20, 45)))).astype(
        np.float32
    )
    shape = conv.sums(x[:, :channels]).shape
    residual = rng.standard_normal(shape).astype(np.float32) if rng.random() < 0.4 else None
    scale = (
        rng.random((count, channels)).astype(np.float32)
        if kind != "depthwise" and rng.random() < 0.3
        else None
    )
    layout = str(rng.choice(["blocks", "zeros around", "planar", "channels-last"]))
    around = tuple(int(n) for n in rng.integers(0, 3, 4))
    layout = "zeros around" if kind == "depthwise" else layout
    found = run([conv], x, layout, around, residual, scale)
    assert_near(found, expected([conv], x, residual, scale))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("high", "wide"), [(7, 7), (1, 1), (3, 10), (9, 2)])
def test_short_rows_are_computed_together(high, wide, target):
    _core.force(target)
    rng = np.random.default_rng(high)
    conv = random_conv(rng, 33, 50, act="relu")
    x = rng.standard_normal((2, 33, high, wide)).astype(np.float32)
    assert_near(run([conv], x, around=(1, 1, 1, 1)), expected([conv], x))


@pytest.mark.parametrize("act", ENDINGS)
def test_endings_of_extremes_are_what_they_tend_to(act):
    values = np.array([0.0, -0.0, 1e-30, -1e-30, 5.0, -5.0, 40.0, -40.0, 90.0, -90.0, 1e4, -1e4], np.float32)
    x = np.tile(values, 3).reshape(1, 1, 1, -1)
    conv = Conv(np.ones((1, 1, 1, 1), np.float32), np.zeros(1, np.float32), act=act)
    with np.errstate(over="ignore"):
        error = np.abs(run([conv], x) - expected([conv], x))
    assert (error <= 4e-7 * np.maximum(np.abs(x), 1)).all()


@pytest.mark.parametrize("act", ["none", "relu", "relu6", "silu", "hard_swish", "clip", "leaky_relu"])
def test_nan_passes(act):
    x = np.zeros((1, 2, 3, 20), np.float32)
    x[0, 1, 1, 7] = np.nan
    conv = Conv(np.ones((3, 2, 1, 1), np.float32), np.zeros(3, np.float32), act=act)
    found = np.isnan(run([conv], x))
    assert found[:, :, 1, 7].all()
    assert found.sum() == 3


@pytest.mark.parametrize("size", [(13, 21), (7, 7)])
def test_means_are_those_of_the_results(size):
    rng = np.random.default_rng(0)
    conv = random_conv(rng, 40, 40, (3, 3), groups=40, pads=(1, 1, 1, 1), act="silu")
    x = rng.standard_normal((2, 40, *size)).astype(np.float32)
    result, means = run([conv], x, "zeros around", means=True)
    wanted = expected([conv], x)
    assert_near(result, wanted)
    assert_near(means, wanted.mean((2, 3)))


# -- chains


def chain(rng: np.random.Generator, spell: str, channels: int) -> list[Conv]:
    """Return convolutions by letters: p pointwise, d depthwise, s depthwise of stride 2, f full 3 x 3."""
    convs = []
    for letter in spell:
        act = str(rng.choice(["none", "relu", "relu6", "silu", "hard_swish"]))
        if letter == "p":
            results = int(rng.choice([8, 16, 24, 40, 70]))
            convs.append(random_conv(rng, channels, results, act=act))
            channels = results
        elif letter == "f":
            convs.append(random_conv(rng, channels, 24, (3, 3), stride=(2, 2), pads=(1, 1, 1, 1), act=act))
            channels = 24
        else:
            k = int(rng.choice([3, 5]))
            stride = 2 if letter == "s" else 1
            convs.append(
                random_conv(
                    rng,
                    channels,
                    channels,
                    (k, k),
                    groups=channels,
                    stride=(stride, stride),
                    pads=(k // 2, k // 2, k // 2, k // 2),
                    act=act,
                )
            )
    return convs


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("spell", ["pd", "dp", "ps", "pdp", "psp", "fdp", "dpsp", "fdpspdps", "ppd", "dd"])
def test_chains_give_what_their_convolutions_do(spell, target):
    _core.force(target)
    rng = np.random.default_rng(len(spell))
    planar = spell[0] == "f"
    channels = 3 if planar else 18
    convs = chain(rng, spell, channels)
    x = rng.standard_normal((2, channels, 37, 45)).astype(np.float32)
    layout = "planar" if planar else "zeros around"
    assert_near(run(convs, x, layout, around=(1, 2, 0, 1)), expected(convs, x), 1e-4)


@pytest.mark.parametrize("l2", [1 << 14, 1 << 17, 1 << 21])
def test_chains_do_not_depend_on_the_size_of_their_bands(l2):
    rng = np.random.default_rng(1)
    convs = chain(rng, "pdp", 20)
    x = rng.standard_normal((1, 20, 40, 33)).astype(np.float32)
    residual = rng.standard_normal((1, len(convs[-1].weights), 40, 33)).astype(np.float32)
    scale = rng.random((1, 20)).astype(np.float32)
    before = _core.core_info()["caches"]
    _core.assume_caches(1 << 15, l2, 1 << 22)
    try:
        found = run(convs, x, residual=residual, scale=scale)
    finally:
        _core.assume_caches(before["l1d"], before["l2"], before["l3"])
    assert_near(found, expected(convs, x, residual, scale), 1e-4)


@pytest.mark.parametrize("spell", ["pd", "ps", "dpd"])
def test_means_of_chains_are_those_of_their_results(spell):
    rng = np.random.default_rng(2)
    convs = chain(rng, spell, 20)
    x = rng.standard_normal((2, 20, 61, 33)).astype(np.float32)
    result, means = run(convs, x, "zeros around", means=True)
    wanted = expected(convs, x)
    assert_near(result, wanted, 1e-4)
    assert_near(means, wanted.mean((2, 3)), 1e-4)


# -- what is refused


def refused(**changes: Any) -> None:
    rng = np.random.default_rng(0)
    conv = random_conv(rng, 16, 16, (3, 3), pads=(1, 1, 1, 1))
    values = {
        "src": blocked(1, (1, 16, 8, 8))[0],
        "dst": blocked(2, (1, 16, 8, 8))[0],
        "stages": [conv.stage((1, 16, 8, 8), lanes())],
        "add": None,
        "scale": None,
        "means": None,
        "sums": None,
        **changes,
    }
    size = blocked(1, (1, 16, 8, 8))[1]
    program = _core.Program(16, [int(np.prod(size))], [int(np.prod(size))])
    _core.add_chain(program, *values.values())


def test_what_does_not_fit_is_refused():
    refused()
    rng = np.random.default_rng(0)
    wide = random_conv(rng, 32, 16)
    depthwise = random_conv(rng, 16, 16, (3, 3), groups=16, pads=(1, 1, 1, 1))
    for what, changes in {
        "beyond its memory": {"src": blocked(1, (2, 16, 8, 8))[0]},
        "beyond": {"dst": blocked(2, (1, 16, 8, 8), (0, 0, 0, 1))[0]},
        "no such memory": {"dst": blocked(1, (1, 16, 8, 8))[0]},
        "channels": {"stages": [wide.stage((1, 16, 8, 8), lanes())]},
        "zeros": {"stages": [depthwise.stage((1, 16, 8, 8), lanes())]},
        "results": {"stages": [random_conv(rng, 16, 16).stage((1, 16, 8, 9), lanes())]},
        "layout": {"stages": [random_conv(rng, 16, 16).stage((1, 16, 8, 8), 1)]},
        "scale": {"scale": (1, 10**6)},
        "means": {"means": (0, 0)},
        "residual": {"add": blocked(1, (1, 16, 8, 7))[0]},
        "stage": {"stages": []},
    }.items():
        try:
            refused(**changes)
        except ValueError:
            continue
        pytest.fail(f"not refused: {what}")


def test_weights_that_do_not_fit_are_refused():
    one = np.ones((4, 2, 3, 3), np.float32)
    for arguments in (
        (one, None, 3, 16),
        (one, np.ones(3, np.float32), 1, 16),
        (one[..., 0], None, 1, 16),
        (one, None, 1, 0),
    ):
        with pytest.raises((ValueError, TypeError)):
            _core.ConvWeights(
                *(np.ascontiguousarray(a) if isinstance(a, np.ndarray) else a for a in arguments)
            )
    with pytest.raises((ValueError, TypeError)):
        _core.DepthwiseWeights(np.ones((4, 3, 3), np.float32), np.ones(5, np.float32))


@pytest.mark.skipif(len(TARGETS) < 2, reason="one instruction set only")
def test_weights_of_another_instruction_set_are_refused():
    _core.force(TARGETS[0])
    conv = random_conv(np.random.default_rng(0), 4, 4)
    packed = _core.ConvWeights(conv.weights, conv.bias, 1, 4)
    _core.force(TARGETS[-1])
    with pytest.raises(ValueError, match="instruction set"):
        _core.Stage(packed, None, (4, 1, 1), (1, 1), (1, 1), (0, 0), 0, 0.0, 0.0, False)
