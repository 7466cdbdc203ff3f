"""The fused operator against two convolutions in sequence, for every instruction set."""

from __future__ import annotations

import copy
import math
import pickle
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import dense_conv

import separable as sp
from separable import _core
from separable.conv import FusedConv
from separable.conv.algebra.geometry import resolve_padding
from separable.conv.layers.arguments import ACTIVATIONS, PADDING_MODES

TARGETS = _core.core_info()["targets"]
_erf = np.vectorize(math.erf, otypes=[float])


@contextmanager
def forced(name: str) -> Iterator[None]:
    """Operators made inside are packed for the instruction set `name`."""
    _core.force(name)
    try:
        yield
    finally:
        _core.force(None)


@pytest.fixture(params=TARGETS)
def target(request: pytest.FixtureRequest) -> Iterator[str]:
    with forced(request.param):
        yield request.param


def activated(z: np.ndarray, name: str | None) -> np.ndarray:
    if name is None:
        return z
    return {
        "relu": lambda: np.maximum(z, 0),
        "relu6": lambda: np.clip(z, 0, 6),
        "silu": lambda: z / (1 + np.exp(-z)),
        "hard_swish": lambda: z * np.clip(z + 3, 0, 6) / 6,
        "gelu": lambda: z / 2 * (1 + _erf(z / math.sqrt(2))),
        "gelu_tanh": lambda: z / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3))),
    }[name]()


class Case(NamedTuple):
    """One operator and its input."""

    x: np.ndarray
    depthwise: np.ndarray
    pointwise: np.ndarray
    depthwise_bias: np.ndarray | None
    bias: np.ndarray | None
    options: dict[str, Any]

    def make(self, **more: Any) -> FusedConv:
        given = {"depthwise_bias": self.depthwise_bias, "bias": self.bias, **self.options, **more}
        return FusedConv(self.depthwise, self.pointwise, **given)

    def expected(self) -> np.ndarray:
        """Two convolutions in float64, channels last."""
        o, x = self.options, np.moveaxis(self.x, -1, 1).astype(np.float64)
        kernel, ndim = self.depthwise.shape[2:], self.x.ndim - 2
        pads = resolve_padding(o["padding"], kernel, o["stride"], o["dilation"], x.shape[2:])
        numpy_mode = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}
        matrix = self.pointwise.reshape(*self.pointwise.shape[:2], *[1] * ndim)

        def depthwise(z: np.ndarray) -> np.ndarray:
            z = np.pad(z, [(0, 0), (0, 0), *pads], numpy_mode[o["padding_mode"]])
            groups = len(self.depthwise) if o["order"] == "pw-dw" else z.shape[1]
            y = dense_conv(z, self.depthwise, o["stride"], 0, o["dilation"], groups)
            return activated(y + along(self.depthwise_bias, ndim), o["depthwise_activation"])

        def pointwise(z: np.ndarray) -> np.ndarray:
            return activated(dense_conv(z, matrix) + along(self.bias, ndim), o["activation"])

        y = pointwise(depthwise(x)) if o["order"] == "dw-pw" else depthwise(pointwise(x))
        return np.moveaxis(y, 1, -1)


def along(bias: np.ndarray | None, ndim: int) -> np.ndarray | float:
    return 0.0 if bias is None else bias.astype(np.float64).reshape(-1, *[1] * ndim)


CHANNELS = [1, 2, 3, 5, 8, 12, 16, 17, 24, 31, 33, 48]


@st.composite
def cases(draw: st.DrawFn, dtype: str | None = None, last_activation: bool = True) -> Case:
    ndim = draw(st.integers(1, 3))
    order, rank = draw(st.sampled_from(["dw-pw", "pw-dw"])), draw(st.integers(1, 3))
    c_in, c_out = draw(st.sampled_from(CHANNELS)), draw(st.sampled_from(CHANNELS))

    def each(low: int, high: int) -> tuple[int, ...]:
        return tuple(draw(st.integers(low, high)) for _ in range(ndim))

    sizes, kernel, stride, dilation = each(1, (40, 14, 7)[ndim - 1]), each(1, 4), each(1, 3), each(1, 2)
    mode = draw(st.sampled_from(list(PADDING_MODES)))
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    most = [{"reflect": n - 1, "circular": n}.get(mode, r) for n, r in zip(sizes, reach, strict=True)]
    padding = tuple((draw(st.integers(0, min(m, 5))), draw(st.integers(0, min(m, 5)))) for m in most)
    # room for the taps, whatever was drawn
    sizes = tuple(max(n, r - sum(p)) for n, r, p in zip(sizes, reach, padding, strict=True))
    dtype = dtype or draw(st.sampled_from(["float32", "float64"]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    mid = rank * (c_in if order == "dw-pw" else c_out)
    shapes = ((mid, 1), (c_out, mid)) if order == "dw-pw" else ((c_out, rank), (mid, c_in))

    def some(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(dtype)

    inner, last = draw(st.sampled_from(ACTIVATIONS)), draw(st.sampled_from(ACTIVATIONS))
    if not last_activation:
        last = None
    names = (
        ("depthwise_activation", "activation") if order == "dw-pw" else ("activation", "depthwise_activation")
    )
    return Case(
        some(draw(st.integers(1, 3)), *sizes, c_in),
        some(*shapes[0], *kernel) / math.sqrt(math.prod(kernel)),
        some(*shapes[1]) / math.sqrt(shapes[1][1]),
        some(shapes[0][0]) if draw(st.booleans()) else None,
        some(shapes[1][0]) if draw(st.booleans()) else None,
        {
            "order": order,
            "stride": stride,
            "padding": padding,
            "dilation": dilation,
            "padding_mode": mode,
            names[0]: inner,
            names[1]: last,
        },
    )


def assert_close(got: np.ndarray, expected: np.ndarray, what: str = "") -> None:
    # Weights and inputs are of order one, sums have at most some hundred products.
    tolerance = 2e-5 if got.dtype == np.float32 else 1e-12
    assert got.shape == expected.shape
    if expected.size:
        assert np.abs(got - expected).max() <= tolerance * max(1.0, np.abs(expected).max()), what


# ---------------------------------------------------------------- the result


@given(name=st.sampled_from(TARGETS), case=cases(), threads=st.integers(1, 3))
@settings(max_examples=250)
def test_it_equals_two_convolutions(name, case, threads):
    with forced(name):
        assert_close(case.make()(case.x, threads=threads), case.expected())


@pytest.mark.parametrize("c_in", range(1, 35))
def test_every_number_of_channels(target, c_in):
    rng = np.random.default_rng(c_in)
    c_out = 36 - c_in
    x = rng.standard_normal((2, 6, 7, c_in)).astype("f4")
    options = {
        "order": "dw-pw",
        "stride": (1, 1),
        "padding": "same",
        "dilation": (1, 1),
        "padding_mode": "zeros",
    }
    case = Case(
        x,
        rng.standard_normal((c_in, 1, 3, 3)).astype("f4") / 3,
        rng.standard_normal((c_out, c_in)).astype("f4") / math.sqrt(c_in),
        None,
        rng.standard_normal(c_out).astype("f4"),
        {**options, "depthwise_activation": "relu", "activation": None},
    )
    assert_close(case.make()(x), case.expected())


# Larger than one tile: strips, rings and stretches of tiles meet their borders.
@pytest.mark.parametrize("order", ["dw-pw", "pw-dw"])
@pytest.mark.parametrize(
    ("sizes", "kernel", "stride", "dilation"),
    [
        ((61, 70), (3, 3), (1, 1), (1, 1)),
        ((9, 700), (3, 5), (1, 1), (1, 3)),
        ((50, 300), (5, 4), (2, 3), (1, 2)),
        ((3000,), (15,), (1,), (2,)),
        ((1500,), (4,), (3,), (1,)),
        ((20, 17, 21), (3, 3, 3), (1, 1, 1), (1, 1, 1)),
        ((11, 12, 90), (3, 2, 5), (2, 1, 1), (1, 2, 1)),
    ],
)
def test_many_tiles(order, sizes, kernel, stride, dilation):
    rng = np.random.default_rng(7)
    c_in, c_out = 20, 37
    mid = c_in if order == "dw-pw" else c_out
    x = rng.standard_normal((2, *sizes, c_in)).astype("f4")
    case = Case(
        x,
        rng.standard_normal((mid, 1, *kernel)).astype("f4") / math.sqrt(math.prod(kernel)),
        rng.standard_normal((c_out, c_in)).astype("f4") / math.sqrt(c_in),
        rng.standard_normal(mid).astype("f4"),
        rng.standard_normal(c_out).astype("f4"),
        {
            "order": order,
            "stride": stride,
            "padding": "same",
            "dilation": dilation,
            "padding_mode": "zeros",
            "depthwise_activation": "relu" if order == "dw-pw" else None,
            "activation": None if order == "dw-pw" else "relu",
        },
    )
    expected = case.expected()
    results = [case.make()(x, threads=threads) for threads in (1, 2, 5)]
    assert_close(results[0], expected)
    assert all(np.array_equal(results[0], result) for result in results[1:])


def test_results_larger_than_the_cache():
    rng = np.random.default_rng(3)
    pixels = int(_core.core_info()["caches"]["l3"] or 32 << 20) // (4 * 64) // 3
    x = rng.standard_normal((1, pixels, 16)).astype("f4")
    d, p = rng.standard_normal((16, 1, 3)).astype("f4"), rng.standard_normal((64, 16)).astype("f4")
    got = FusedConv(d, p)(x)
    padded = np.pad(x[0], ((1, 1), (0, 0)))
    mid = sum(d[:, 0, k] * padded[k : k + pixels] for k in range(3))
    assert np.abs(got[0] - mid @ p.T).max() < 1e-3


@pytest.mark.parametrize("name", ACTIVATIONS[1:])
@pytest.mark.parametrize("where", ["depthwise_activation", "activation"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_activations_over_their_range(target, name, where, dtype):
    x = np.concatenate([np.linspace(-120, 120, 997), np.linspace(-9, 9, 998)]).astype(dtype)
    one = np.ones((1, 1, 1), dtype)
    got = FusedConv(one, one[:, 0], **{where: name})(x[None, :, None])[0, :, 0]
    with np.errstate(over="ignore"):
        expected = activated(x.astype(np.float64), name)
    unit = 4 * float(np.finfo(dtype).eps)
    assert np.abs(got - expected).max() <= unit * 120
    near = np.abs(x) < 9
    assert np.abs(got - expected)[near].max() <= 2 * unit * 9


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_nan_stays_and_infinity_is_no_nan_where_it_need_not_be(target, name):
    x = np.array([np.nan, np.inf, 1.0], "f4")[None, :, None]
    one = np.ones((1, 1, 1), "f4")
    got = FusedConv(one, one[:, 0], activation=name)(x)[0, :, 0]
    assert np.isnan(got[0])
    assert got[1] == (6 if name == "relu6" else np.inf)
    assert np.isfinite(got[2])


def test_nan_reaches_only_what_reads_it(target):
    x = np.zeros((1, 12, 11, 7), "f4")
    x[0, 5, 6, 3] = np.nan
    op = FusedConv(np.ones((7, 1, 3, 3), "f4"), np.eye(7, dtype="f4"))
    hit = np.argwhere(np.isnan(op(x)[0]))
    # a pointwise product mixes channels, so NaN fills all of them, but only around the pixel
    assert {(y, x) for y, x, _ in hit} == {(y, x) for y in (4, 5, 6) for x in (5, 6, 7)}


# ---------------------------------------------------------------- arrays


def example(dtype="float32", n=2):
    rng = np.random.default_rng(0)
    d = rng.standard_normal((12, 1, 3, 3)).astype(dtype)
    p = rng.standard_normal((20, 12)).astype(dtype)
    return rng.standard_normal((n, 9, 10, 12)).astype(dtype), FusedConv(
        d, p, bias=np.ones(20), activation="relu"
    )


def test_any_memory_that_holds_the_pixels():
    x, op = example()
    expected = op(x)
    wide = np.zeros((2, 9, 20, 16), "f4")
    wide[:, :, ::2, 2:14] = x
    mirrored = np.ascontiguousarray(x[:, ::-1])[:, ::-1]
    read_only = x.copy()
    read_only.flags.writeable = False
    swapped = x.astype(x.dtype.newbyteorder())
    channels_first = np.ascontiguousarray(np.moveaxis(x, -1, 1)).transpose(0, 2, 3, 1)
    for same in (
        wide[:, :, ::2, 2:14],
        mirrored,
        read_only,
        swapped,
        channels_first,
        x.astype("f8"),
        x.tolist(),
    ):
        assert np.array_equal(op(same), expected)
    assert np.array_equal(op(np.broadcast_to(x[:1], x.shape)), np.broadcast_to(op(x[:1]), expected.shape))


def test_where_the_result_goes():
    x, op = example()
    expected = op(x)
    out = np.full((2, 9, 10, 20), np.nan, "f4")
    assert op(x, out=out) is out
    assert np.array_equal(out, expected)
    wide = np.full((2, 9, 10, 31), 7, "f4")
    op(x, out=wide[..., 4:24])
    assert np.array_equal(wide[..., 4:24], expected)
    assert (wide[..., :4] == 7).all()
    assert (wide[..., 24:] == 7).all()
    assert op(x).ctypes.data % 64 == 0


@pytest.mark.parametrize("order", ["dw-pw", "pw-dw"])
@pytest.mark.parametrize("c_out", [3, 20, 32])
def test_the_residual_is_added_last(target, order, c_out):
    rng = np.random.default_rng(1)
    mid = 12 if order == "dw-pw" else c_out
    op = FusedConv(
        rng.standard_normal((mid, 1, 3, 3)).astype("f4"),
        rng.standard_normal((c_out, 12)).astype("f4"),
        order=order,
        depthwise_activation="silu",
        activation="relu",
    )
    x = rng.standard_normal((2, 9, 10, 12)).astype("f4")
    extra = rng.standard_normal((2, 9, 10, c_out)).astype("f4")
    expected = op(x) + extra
    assert np.array_equal(op(x, residual=extra), expected)
    turned = np.ascontiguousarray(extra.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1)
    assert np.array_equal(op(x, residual=turned), expected)


def test_nothing_in_nothing_out():
    _, op = example()
    x = np.zeros((0, 9, 10, 12), "f4")
    assert op(x).shape == (0, 9, 10, 20)
    linear = FusedConv(np.ones((12, 1, 3, 3)), np.ones((20, 12)))
    found = linear.gradients(x, np.zeros((0, 9, 10, 20), "f4"))
    assert found.x.shape == x.shape
    assert not found.depthwise.any()
    with pytest.raises(ValueError, match="axis 0 has 0 samples"):
        op(np.zeros((2, 0, 10, 12), "f4"))


def test_an_operator_may_run_in_many_threads():
    x, op = example()
    expected, found = op(x), []

    def work() -> None:
        found.extend(np.array_equal(op(x, threads=2), expected) for _ in range(20))

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert found == [True] * 80


def test_it_can_be_copied_and_sent():
    x, op = example("float64")
    for twin in (pickle.loads(pickle.dumps(op)), copy.deepcopy(op)):
        assert np.array_equal(twin(x), op(x))
        assert repr(twin) == repr(op)


def test_an_operator_knows_its_weights():
    d, p = np.full((4, 1, 3), np.nan, "f4"), np.ones((2, 4), "f4")
    op = FusedConv(d, p)
    assert op.matches(d, p)
    assert op.matches(d, np.asfortranarray(p))
    assert not op.matches(d, p * 2)
    assert not op.matches(d, p.astype("f8"))
    assert not op.matches(d, p, bias=np.zeros(2, "f4"))


def test_the_weights_are_the_operators_own():
    d, p = np.ones((4, 1, 3), "f4"), np.ones((2, 4), "f4")
    op = FusedConv(d, p)
    d[:] = p[:] = 0
    assert op(np.ones((1, 5, 4), "f4"))[0, 2, 0] == 12


def test_a_depth_multiplier_is_read_from_the_input_or_given():
    d, p = np.ones((6, 1, 3), "f4"), np.ones((2, 6), "f4")
    assert FusedConv(d, p)(np.ones((1, 5, 3), "f4")).shape == (1, 5, 2)
    with pytest.raises(ValueError, match="has 2 channels on its last axis; expected 3"):
        FusedConv(d, p, depth_multiplier=2)(np.ones((1, 5, 2), "f4"))
    with pytest.raises(ValueError, match="`depth_multiplier=4` does not divide the 6"):
        FusedConv(d, p, depth_multiplier=4)


def test_macs_and_shapes():
    op = FusedConv(np.ones((192, 1, 3, 3), "f4"), np.ones((384, 192), "f4"), stride=2)
    assert op.output_shape((1, 15, 16, 192)) == (1, 8, 8, 384)
    assert op.macs((1, 15, 16, 192)) == 64 * 192 * (9 + 384)
    back = FusedConv(np.ones((384, 1, 3, 3), "f4"), np.ones((384, 192), "f4"), order="pw-dw", stride=2)
    assert back.macs((1, 15, 16, 192)) == 240 * 192 * 384 + 64 * 384 * 9


def test_the_same_in_one_call():
    x, _ = example()
    d, p = np.ones((12, 1, 3, 3), "f4"), np.ones((20, 12), "f4")
    got = sp.conv.depthwise_separable(x, d, p, stride=2, activation="relu")
    assert np.array_equal(got, FusedConv(d, p, stride=2, activation="relu")(x))


# ---------------------------------------------------------------- gradients


@given(
    name=st.sampled_from(TARGETS),
    case=cases(dtype="float64", last_activation=False),
    threads=st.integers(1, 3),
)
@settings(max_examples=150)
def test_gradients_are_directional_derivatives(name, case, threads):
    with forced(name):
        op = case.make()
    rng = np.random.default_rng(0)
    upstream = rng.standard_normal(op.output_shape(case.x.shape))
    found = op.gradients(case.x, upstream, threads=threads)
    parts = {"x": case.x, "depthwise": case.depthwise, "pointwise": case.pointwise}
    parts |= {"depthwise_bias": case.depthwise_bias, "bias": case.bias}
    for name, value in parts.items():
        if value is None:
            continue
        gradient = getattr(found, name).reshape(value.shape)
        direction = rng.standard_normal(value.shape)

        def loss(step, name=name, value=value, direction=direction):
            moved = case._replace(**{name: value + step * direction})
            return float((upstream * moved.make()(moved.x)).sum())

        # ReLU's kinks make differences wrong where one is crossed: small steps, and the best of both sides
        sides = [(-h, 0.0) for h in (1e-6, 1e-8)] + [(0.0, h) for h in (1e-6, 1e-8)]
        slopes = [(loss(b) - loss(a)) / (b - a) for a, b in [(-1e-6, 1e-6), (-1e-8, 1e-8), *sides]]
        exact = float((gradient * direction).sum())
        scale = np.linalg.norm(gradient) * np.linalg.norm(direction) + np.abs(upstream).sum() * 1e-2
        assert min(abs(slope - exact) for slope in slopes) <= 1e-4 * scale, name


@given(case=cases(last_activation=False))
def test_gradients_do_not_depend_on_threads(case):
    op = case.make()
    upstream = np.ones(op.output_shape(case.x.shape), op.dtype)
    one, three = (op.gradients(case.x, upstream, threads=n) for n in (1, 3))
    assert all(np.array_equal(a, b) for a, b in zip(one, three, strict=True))


@pytest.mark.parametrize("order", ["dw-pw", "pw-dw"])
@pytest.mark.parametrize("n", [1, 3, 20])
def test_gradients_of_many_tiles_agree_between_precisions(target, order, n):
    rng = np.random.default_rng(5)
    mid = 18 if order == "dw-pw" else 21
    d, p = rng.standard_normal((mid, 1, 3, 3)), rng.standard_normal((21, 18))
    inner = {"depthwise_activation" if order == "dw-pw" else "activation": "relu"}
    x, upstream = rng.standard_normal((n, 40, 70, 18)), rng.standard_normal((n, 20, 35, 21))
    wide, narrow = (FusedConv(d, p, order=order, stride=2, dtype=t, **inner) for t in ("f8", "f4"))
    for name, a, b in zip(
        wide.gradients(x, upstream)._fields,
        wide.gradients(x, upstream),
        narrow.gradients(x, upstream),
        strict=True,
    ):
        assert np.abs(a - b).max() <= 3e-4 * np.abs(a).max(), name


@pytest.mark.parametrize("name", ["relu", "relu6"])
@pytest.mark.parametrize("c_out", [3, 20])
def test_a_last_clamp_is_known_from_the_output(target, name, c_out):
    rng = np.random.default_rng(2)
    x = rng.standard_normal((2, 30, 21, 12))
    weights = rng.standard_normal((12, 1, 3, 3)), rng.standard_normal((c_out, 12))
    clamped, plain = FusedConv(*weights, activation=name), FusedConv(*weights)
    y, upstream = clamped(x), rng.standard_normal((2, 30, 21, c_out))
    passed = (y > 0) & ((y < 6) | (name == "relu"))
    got, expected = clamped.gradients(x, upstream, output=y), plain.gradients(x, upstream * passed)
    for mine, theirs in zip(got, expected, strict=True):
        assert np.abs(mine - theirs).max() <= 1e-12 * np.abs(theirs).max()


def test_only_the_gradients_that_are_asked_for():
    x, _ = example()
    op = FusedConv(np.ones((12, 1, 3, 3)), np.ones((20, 12)))
    upstream = np.ones((2, 9, 10, 20), "f4")
    both = op.gradients(x, upstream)
    assert np.array_equal(op.gradients(x, upstream, needs_weights=False).x, both.x)
    weights = op.gradients(x, upstream, needs_x=False)
    assert weights.x is None
    assert all(np.array_equal(a, b) for a, b in zip(weights[1:], both[1:], strict=True))


# ---------------------------------------------------------------- errors

D, P = np.ones((4, 1, 3, 3), "f4"), np.ones((2, 4), "f4")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FusedConv(D[..., 0, 0], P), "`depthwise` has shape"),
        (lambda: FusedConv(D[:0], P), "`depthwise` has shape"),
        (lambda: FusedConv(D, P[:, :3]), "do not fit"),
        (lambda: FusedConv(D, P, order="pw-dw"), "reads 4"),
        (lambda: FusedConv(D, P, order="pd"), "`order='pd'` is unknown"),
        (lambda: FusedConv(D, P, activation="tanh"), "`activation='tanh'` is unknown"),
        (lambda: FusedConv(D, P, padding_mode="wrap"), "`padding_mode='wrap'` is unknown"),
        (lambda: FusedConv(D, P, bias=np.ones(3)), r"`bias` is float64 \(3,\)"),
        (lambda: FusedConv(D, P, stride=0), "`stride=0` is too small"),
        (lambda: FusedConv(D, P, padding=-1), "`padding=-1` is too small"),
        (lambda: FusedConv(D, P, dilation=(1, 1, 1)), "3 entries for 2 spatial axes"),
        (lambda: FusedConv(D, P)(np.ones((5, 5, 4))), "spatial axes"),
        (lambda: FusedConv(D, P)(np.ones((1, 5, 5, 3))), "has 3 channels"),
        (lambda: FusedConv(D, P, padding=0)(np.ones((1, 2, 5, 4))), "reach over 3"),
        (lambda: FusedConv(D, P, padding=5, padding_mode="reflect")(np.ones((1, 5, 5, 4))), "at most 4"),
        (
            lambda: FusedConv(D, P)(np.ones((1, 5, 5, 4)), out=np.ones((1, 5, 5, 3), "f4")),
            "expected a float32",
        ),
        (lambda: FusedConv(D, P)(np.ones((1, 5, 5, 4)), out=np.ones((1, 5, 5, 2))), "expected a float32"),
        (
            lambda: FusedConv(D, P)(np.ones((1, 5, 5, 4)), residual=np.ones((1, 5, 5, 4))),
            "`residual` has shape",
        ),
        (lambda: FusedConv(D, P)(np.ones((1, 5, 5, 4)), threads=0), "`threads=0`"),
        (lambda: FusedConv(D, P).gradients(np.ones((1, 5, 5, 4)), np.ones((1, 5, 5, 4))), "`grad` has shape"),
        (
            lambda: FusedConv(D, P, activation="relu").gradients(
                np.ones((1, 5, 5, 4)), np.ones((1, 5, 5, 2))
            ),
            "activation is 'relu'",
        ),
    ],
)
def test_errors_say_what_is_wrong(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    "make",
    [
        lambda: FusedConv(D.astype(complex), P),
        lambda: FusedConv(D, P, dtype="float16"),
        lambda: FusedConv(D, P)(np.ones((1, 5, 5, 4), complex)),
        lambda: FusedConv(D, P, stride=1.5),
    ],
)
def test_kinds_of_numbers_that_are_refused(make):
    with pytest.raises(TypeError):
        make()


def test_the_result_may_not_lie_in_the_input():
    x = np.ones((1, 5, 5, 4), "f4")
    op = FusedConv(D, np.ones((4, 4), "f4"))
    with pytest.raises(ValueError, match="`out` shares memory with `x`"):
        op(x, out=x)
    out = np.ones((1, 5, 5, 4), "f4")
    with pytest.raises(ValueError, match="`out` shares memory with `residual`"):
        op(x, residual=out, out=out)


def test_the_core_checks_what_memory_safety_needs():
    d, p = np.ones((4, 9), "f4"), np.ones((2, 4), "f4")

    def job(kernel=(3, 3), depthwise=d, pointwise=p, multiplier=1, act=0, mode=1, first=False, bias=None):
        ones = (1,) * len(kernel)
        return _core.FusedJob32(
            first, multiplier, kernel, ones, ones, mode, act, 0, depthwise, pointwise, None, bias
        )

    x, y = np.zeros((1, 5, 5, 4), "f4"), np.zeros((1, 5, 5, 2), "f4")
    job().run(x, y, None, (1, 1), 1)
    for wrong in (
        {"kernel": (3, 2)},
        {"kernel": (0, 9)},
        {"pointwise": np.ones((2, 3), "f4")},
        {"multiplier": 3},
        {"act": 9},
        {"mode": 7},
        {"first": True, "mode": 3},
        {"bias": np.ones(3, "f4")},
    ):
        with pytest.raises(ValueError):
            job(**wrong)
    with pytest.raises(ValueError):
        job().run(x[..., :3], y, None, (1, 1), 1)
    with pytest.raises(ValueError):
        job().run(x, np.zeros((2, 5, 5, 2), "f4"), None, (1, 1), 1)
    with pytest.raises(ValueError):
        job().run(x, y, np.zeros((1, 5, 10, 2), "f4")[:, :, ::2], (1, 1), 1)
    with pytest.raises(ValueError):
        job().run(x, y, None, (-1, 1), 1)
    with pytest.raises(TypeError):
        job().run(x.astype("f8"), y, None, (1, 1), 1)
    with pytest.raises(ValueError):
        job().gradients(x, y, y, None, None, None, None, None, (1, 1), 1)
    with pytest.raises(ValueError):
        job().gradients(x, y, None, x[:, :4].copy(), None, None, None, None, (1, 1), 1)
    with pytest.raises(ValueError):
        job().gradients(x, y, None, None, d[:3].copy(), p, np.zeros(4, "f4"), np.zeros(2, "f4"), (1, 1), 1)
