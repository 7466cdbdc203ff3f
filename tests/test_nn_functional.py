"""The torch operator: the same numbers as two convolutions, exact derivatives, packed weights never stale."""

from __future__ import annotations

import doctest
import gc
import itertools
import os
import threading
import weakref

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch.autograd import gradcheck, gradgradcheck  # noqa: E402
from torch.nn import functional as F  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from separable._base.caches import LIMIT, Budget, budget  # noqa: E402
from separable.nn import functional, loaders  # noqa: E402
from separable.nn.functional import depthwise_separable  # noqa: E402
from separable.nn.layers import modules as layers  # noqa: E402
from separable.nn.layers import operator as _operator  # noqa: E402
from separable.nn.layers import packed as _packed  # noqa: E402
from separable.nn.layers.activations import FUNCTIONS  # noqa: E402
from separable.nn.layers.packed import Options, PackedConvs, PairWeights  # noqa: E402

ORDERS = ("dw-pw", "pw-dw")
MODES = ("zeros", "reflect", "replicate", "circular")
CONVS = (F.conv1d, F.conv2d, F.conv3d)
ACTIVATIONS = (None, *FUNCTIONS)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)
    _packed.packed_convs.clear()


def weights(ndim, order, multiplier=1, inputs=4, outputs=5, dtype=torch.float32, taps=(3, 2, 3)):
    kernel = taps[:ndim]
    if order == "dw-pw":
        shapes = (inputs * multiplier, 1, *kernel), (outputs, inputs * multiplier)
    else:
        shapes = (outputs, multiplier, *kernel), (outputs * multiplier, inputs)
    biases = (shapes[0][0],), (shapes[1][0],)
    return [torch.randn(shape, dtype=dtype) for shape in (*shapes, *biases)]


def by_torch(
    x,
    depthwise,
    pointwise,
    depthwise_bias,
    bias,
    *,
    order="dw-pw",
    padding=0,
    padding_mode="zeros",
    **options,
):
    """The two convolutions, with the padding written out."""
    names = options.pop("depthwise_activation", None), options.pop("activation", None)
    residual = options.pop("residual", None)
    first, second = (FUNCTIONS.get(name, lambda y: y) for name in names)
    conv = CONVS[x.dim() - 3]
    sides = [padding] * 2 * (x.dim() - 2) if isinstance(padding, int) else padding
    mode = "constant" if padding_mode == "zeros" else padding_mode
    mix = pointwise.reshape(*pointwise.shape[:2], *[1] * (x.dim() - 2))

    def spread(y, groups):
        return first(conv(F.pad(y, sides, mode=mode), depthwise, depthwise_bias, groups=groups, **options))

    def mixed(y):
        return second(conv(y, mix, bias))

    y = mixed(spread(x, x.shape[1])) if order == "dw-pw" else spread(mixed(x), depthwise.shape[0])
    return y if residual is None else y + residual


def assert_close(got, want, tolerance=1e-5):
    assert got.shape == want.shape
    assert got.dtype == want.dtype
    got, want = got.detach(), want.detach()
    assert float((got - want).abs().max()) <= tolerance * max(1.0, float(want.abs().max()))


# --- values -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_the_same_numbers_as_two_convolutions(ndim, order):
    x = torch.randn(2, 4, *(9, 8, 7)[:ndim], dtype=torch.float64)
    names = itertools.cycle(itertools.product(ACTIVATIONS, ACTIVATIONS))
    for multiplier, stride, dilation, padding, mode in itertools.product(
        (1, 3), (1, (2, 1, 3)[:ndim]), (1, (2, 1, 2)[:ndim]), (0, 2), MODES
    ):
        tensors = weights(ndim, order, multiplier, dtype=torch.float64)
        between, last = next(names)
        options = {
            "order": order,
            "stride": stride,
            "dilation": dilation,
            "padding": padding,
            "padding_mode": mode,
            "depthwise_activation": between,
            "activation": last,
        }
        want = by_torch(x, *tensors, **options)
        options["residual"] = torch.randn_like(want)
        assert_close(depthwise_separable(x, *tensors, **options), want + options["residual"], 1e-12)


def test_padding_by_name_and_by_side():
    x, tensors = torch.randn(1, 4, 9, 8), weights(2, "dw-pw")
    same = depthwise_separable(x, *tensors, padding="same", stride=2)
    assert same.shape == (1, 5, 5, 4)
    # 9 and 8 samples, stride 2, taps (3, 2): one before and one after; none.
    assert_close(same, by_torch(x, *tensors, padding=[0, 0, 1, 1], stride=2))
    sides = depthwise_separable(x, *tensors, padding=((2, 0), (0, 1)))
    assert_close(sides, by_torch(x, *tensors, padding=[0, 1, 2, 0]))
    assert_close(depthwise_separable(x, *tensors, padding="valid"), by_torch(x, *tensors))


def test_weights_with_ones_at_the_end_and_without_biases():
    x, (depthwise, pointwise, _, bias) = torch.randn(2, 4, 9, 8), weights(2, "dw-pw")
    want = by_torch(x, depthwise, pointwise, None, None)
    assert_close(depthwise_separable(x, depthwise, pointwise[:, :, None, None]), want)
    assert_close(depthwise_separable(x, depthwise, pointwise, bias=bias), want + bias[:, None, None])


@pytest.mark.parametrize("shape", [(0, 4, 9, 8), (1, 4, 3, 2), (3, 4, 3, 8)])
def test_empty_batches_and_single_outputs(shape):
    x, tensors = torch.randn(shape, requires_grad=True), weights(2, "dw-pw")
    y = depthwise_separable(x, *[t.requires_grad_() for t in tensors])
    assert y.shape == by_torch(x, *tensors).shape
    y.sum().backward()
    assert x.grad.shape == shape
    assert all(t.grad.shape == t.shape for t in tensors)
    if not shape[0]:
        assert not any(t.grad.any() for t in tensors)


def test_what_is_not_plain_float_memory_runs_as_two_convolutions():
    x, tensors = torch.randn(2, 4, 9, 8), weights(2, "dw-pw")
    want = depthwise_separable(x, *tensors, depthwise_activation="relu")
    low = depthwise_separable(x.bfloat16(), *[t.bfloat16() for t in tensors], depthwise_activation="relu")
    assert low.dtype == torch.bfloat16
    assert_close(low.float(), want, 0.05)
    with torch.autocast("cpu", torch.bfloat16):
        assert depthwise_separable(x, *tensors).dtype == torch.bfloat16
    meta = depthwise_separable(x.to("meta"), *[t.to("meta") for t in tensors])
    assert (meta.device.type, meta.shape) == ("meta", want.shape)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_the_memory_format_follows_the_input(ndim, order):
    tensors = weights(ndim, order)
    x = torch.randn(2, 4, *(9, 8, 7)[:ndim])
    inside = x.movedim(1, -1).contiguous().movedim(-1, 1)
    assert depthwise_separable(x, *tensors, order=order).is_contiguous()
    y = depthwise_separable(inside, *tensors, order=order)
    assert y.movedim(1, -1).is_contiguous()
    assert_close(y, by_torch(x, *tensors, order=order))
    if ndim == 2:  # torch's depthwise conv3d knows no channels-last memory
        assert y.stride() == by_torch(inside, *tensors, order=order).stride()
    # Crops, steps and repeats of either kind are read as they are.
    for view in (
        x[:, :, 1:-1],
        inside[:, :, 1:-1],
        inside[:, :, ::2],
        x[:1].expand(3, *x.shape[1:]),
        x.flip(2),
    ):
        assert_close(depthwise_separable(view, *tensors, order=order), by_torch(view, *tensors, order=order))


def test_weights_in_any_memory_format():
    for order in ORDERS:
        depthwise, pointwise, *biases = weights(2, order, 2)
        x = torch.randn(2, 4, 9, 8)
        turned = depthwise.to(memory_format=torch.channels_last), pointwise.t().contiguous().t()
        assert_close(
            depthwise_separable(x, *turned, *biases, order=order),
            by_torch(x, depthwise, pointwise, *biases, order=order),
        )


def test_the_examples_in_the_docstrings():
    for module in (functional, layers, loaders):
        found = doctest.testmod(module)
        assert found.attempted
        assert not found.failed


# --- refusals ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"x": torch.zeros(4, 9)}, ValueError, r"`x` has shape \(4, 9\); expected \(N, C_in, \*spatial\)"),
        ({"x": np.zeros((1, 4, 9, 8))}, TypeError, "`x` is ndarray; expected a tensor"),
        ({"depthwise": None}, TypeError, "`depthwise` is NoneType"),
        (
            {"pointwise": torch.zeros(5, 4).double()},
            TypeError,
            r"`pointwise` is torch\.float64 on cpu, but `x` is",
        ),
        ({"bias": torch.zeros(5, device="meta")}, TypeError, "`bias` is torch.float32 on meta"),
        (
            {"depthwise": torch.zeros(4, 1, 3)},
            ValueError,
            "`depthwise` has shape .* but `x` has 2 spatial axes",
        ),
        ({"depthwise": torch.zeros(6, 1, 3, 3)}, ValueError, r"expected \(4\*T, 1, \*k\)"),
        ({"depthwise": torch.zeros(4, 2, 3, 3)}, ValueError, r"pass order='pw-dw'"),
        ({"pointwise": torch.zeros(5, 6)}, ValueError, r"expected \(C_out, 4\)"),
        ({"pointwise": torch.zeros(5, 4, 3, 1)}, ValueError, "ones at the end"),
        ({"order": "pw-dw", "pointwise": torch.zeros(5, 3)}, ValueError, r"expected \(C_out\*T, 4\)"),
        ({"order": "pw-dw"}, ValueError, r"with C_out\*T = 5"),
        ({"bias": torch.zeros(4)}, ValueError, r"`bias` has shape \(4,\); expected \(5,\)"),
        ({"depthwise_bias": torch.zeros(4, 1)}, ValueError, r"`depthwise_bias` has shape \(4, 1\)"),
        ({"residual": torch.zeros(1, 5, 9, 8)}, ValueError, r"`residual` has shape .* has \(1, 5, 7, 6\)"),
        ({"order": "both"}, ValueError, "`order='both'` is unknown"),
        ({"padding_mode": "mirror"}, ValueError, "`padding_mode='mirror'` is unknown"),
        ({"activation": "relu7"}, ValueError, "`activation='relu7'`.*Did you mean 'relu"),
        ({"stride": 0}, ValueError, "`stride=0` is too small"),
        ({"dilation": (1, 2, 3)}, ValueError, "has 3 entries for 2 spatial axes"),
        ({"dilation": 5}, ValueError, "reach over 11"),
        ({"padding": -1}, ValueError, "`padding=-1` is too small"),
    ],
)
def test_wrong_arguments_are_named(change, error, match):
    good = {
        "x": torch.zeros(1, 4, 9, 8),
        "depthwise": torch.zeros(4, 1, 3, 3),
        "pointwise": torch.zeros(5, 4),
    }
    with pytest.raises(error, match=match):
        depthwise_separable(**{**good, **change})


# --- derivatives ------------------------------------------------------------------------------------

GRADIENT_CASES = [
    {"ndim": 1, "taps": (5,), "stride": 2, "padding": 2, "depthwise_activation": "gelu"},
    {
        "ndim": 1,
        "multiplier": 2,
        "dilation": 2,
        "padding_mode": "circular",
        "padding": 1,
        "activation": "silu",
    },
    {"ndim": 2, "padding": 1, "depthwise_activation": "relu", "activation": "relu6"},
    {"ndim": 2, "multiplier": 3, "stride": (2, 1), "dilation": (1, 2), "depthwise_activation": "silu"},
    {"ndim": 2, "padding": "same", "padding_mode": "reflect", "depthwise_activation": "hard_swish"},
    {"ndim": 2, "padding": ((1, 0), (0, 2)), "stride": 2, "activation": "gelu_tanh"},
    {
        "ndim": 2,
        "padding": 2,
        "padding_mode": "replicate",
        "depthwise_activation": "relu6",
        "activation": "gelu",
    },
    {"ndim": 3, "padding": 1, "stride": (1, 2, 1), "depthwise_activation": "gelu_tanh"},
    {"ndim": 3, "multiplier": 2, "taps": (2, 1, 2), "dilation": 2, "padding": (0, 0, 1)},
]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("case", GRADIENT_CASES, ids=str)
def test_derivatives_are_exact(case, order):
    options = dict(case)
    ndim = options.pop("ndim")
    shape = {key: options.pop(key) for key in ("multiplier", "taps") if key in options}
    tensors = weights(ndim, order, inputs=2, outputs=3, dtype=torch.float64, **shape)
    x = torch.randn(2 if ndim < 3 else 1, 2, *(5, 4, 3)[:ndim], dtype=torch.float64)
    inputs = [t.requires_grad_() for t in (x, *tensors)]
    # Kinks stay away from the points where slopes are compared.
    assert gradcheck(lambda *given: depthwise_separable(*given, order=order, **options), inputs, atol=1e-7)


@pytest.mark.parametrize("order", ORDERS)
def test_derivatives_with_a_residual_and_without_biases(order):
    depthwise, pointwise, *_ = weights(2, order, dtype=torch.float64)
    x = torch.randn(1, 4, 5, 4, dtype=torch.float64)
    residual = torch.randn(1, 5, 3, 3, dtype=torch.float64)
    inputs = [t.requires_grad_() for t in (x, depthwise, pointwise, residual)]

    def run(x, depthwise, pointwise, residual):
        return depthwise_separable(x, depthwise, pointwise, residual=residual, order=order, activation="silu")

    assert gradcheck(run, inputs)


@pytest.mark.parametrize("order", ORDERS)
def test_second_derivatives_are_exact(order):
    tensors = weights(1, order, inputs=2, outputs=2, dtype=torch.float64, taps=(2,))
    x = torch.randn(1, 2, 4, dtype=torch.float64)
    inputs = [t.requires_grad_() for t in (x, *tensors)]
    assert gradgradcheck(
        lambda *given: depthwise_separable(*given, order=order, depthwise_activation="silu"), inputs
    )


def test_a_tensor_given_twice_has_both_derivatives():
    x = torch.randn(2, 5, 6, 6, dtype=torch.float64, requires_grad=True)
    depthwise, pointwise, *_ = weights(2, "dw-pw", inputs=5, dtype=torch.float64, taps=(3, 3))
    shared = torch.randn(5, dtype=torch.float64, requires_grad=True)
    for create in (False, True):
        y = depthwise_separable(x, depthwise, pointwise, shared, shared, depthwise_activation="silu")
        (slope,) = torch.autograd.grad(y.square().sum(), shared, create_graph=create)
        z = by_torch(x, depthwise, pointwise, shared, shared, depthwise_activation="silu")
        assert_close(slope, torch.autograd.grad(z.square().sum(), shared)[0], 1e-10)


def test_the_operator_itself_differentiates_its_last_activation():
    x, tensors = torch.randn(2, 4, 6, 6, requires_grad=True), weights(2, "dw-pw")
    options = Options("dw-pw", (1, 1), ((1, 1), (0, 0)), (1, 1), "zeros", "relu", "silu")
    y = _operator._call(x, *tensors, None, options)
    z = by_torch(x, *tensors, padding=[0, 0, 1, 1], depthwise_activation="relu", activation="silu")
    assert_close(y, z)
    assert_close(*(torch.autograd.grad(out.square().sum(), x)[0] for out in (y, z)))


def test_gradients_of_other_layouts():
    x, tensors = torch.randn(2, 4, 8, 8), weights(2, "dw-pw")
    for given in (x, x.to(memory_format=torch.channels_last)):
        slopes = []
        for run in (depthwise_separable, by_torch):
            leaf = given.clone().requires_grad_()
            run(leaf, *tensors).sum().backward()  # the gradient is one number, expanded
            slopes.append(leaf.grad)
        assert_close(*slopes)
        assert slopes[0].stride() == given.stride()


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_the_result_may_be_written_to(ndim):
    """Autograd lets nobody write to a view that an operator returns: the format must be no view."""
    depthwise, pointwise, *_ = weights(ndim, "dw-pw", taps=(3, 3, 3))
    values = torch.randn(2, 4, *(5,) * ndim)
    outside = values.movedim(1, -1).contiguous().movedim(-1, 1)
    found = []
    for given in (values, outside):
        parameters = [w.clone().requires_grad_() for w in (depthwise, pointwise)]
        y = depthwise_separable(given, *parameters, padding=1)
        assert y.movedim(1, -1).is_contiguous() == (given is outside)
        y.relu_().square().sum().backward()
        found.append([p.grad for p in parameters])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


# --- what torch asks of an operator -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("ndim", "order", "inside"),
    [(1, "dw-pw", True), (2, "dw-pw", False), (2, "pw-dw", True), (3, "pw-dw", False)],
)
def test_opcheck(ndim, order, inside):
    tensors = [t.requires_grad_() for t in weights(ndim, order, 2)]
    x = torch.randn(2, 4, *(5, 4, 4)[:ndim])
    if inside:
        x = x.movedim(1, -1).contiguous().movedim(-1, 1)
    numbers = ([2] * ndim, [1, 0] * ndim, [1] * ndim, "zeros", order, "silu", None)
    if order == "pw-dw":
        numbers = (*numbers[:-2], None, "silu")
    operator = torch.ops.separable.depthwise_separable.default
    torch.library.opcheck(operator, (x.requires_grad_(), *tensors, None, *numbers))
    y = operator(x, *tensors, None, *numbers)
    backward = torch.ops.separable.depthwise_separable_backward.default
    plain = [t.detach() for t in (x, *tensors)]
    given = (torch.ones_like(y).detach(), None, *plain)
    for needs in itertools.product((True, False), repeat=2):
        found = backward(*given, *numbers, *needs)
        shapes = [
            t.shape if need else (0,) for t, need in zip(plain, (needs[0], *[needs[1]] * 4), strict=True)
        ]
        assert [g.shape for g in found] == shapes
        torch.library.opcheck(
            backward, (*given, *numbers, *needs), test_utils=("test_schema", "test_faketensor")
        )


@pytest.mark.parametrize("activation", ["relu", "relu6"])
def test_a_last_clamp_is_differentiated_inside(activation):
    tensors = [t.requires_grad_() for t in weights(2, "dw-pw", 2)]
    x = (3 * torch.randn(2, 4, 9, 8)).requires_grad_()
    operator = torch.ops.separable.depthwise_separable.default
    numbers = ([1] * 2, [1, 1] * 2, [1] * 2, "zeros", "dw-pw", "silu", activation)
    y = operator(x, *tensors, None, *numbers)
    assert "separable" in type(y.grad_fn).__name__.lower()
    upstream = torch.randn_like(y)
    got = torch.autograd.grad(y, (x, *tensors), upstream)
    plain = operator(x, *tensors, None, *numbers[:-1], None)
    clamped = torch.nn.functional.relu(plain) if activation == "relu" else torch.nn.functional.relu6(plain)
    expected = torch.autograd.grad(clamped, (x, *tensors), upstream)
    for mine, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(mine, theirs)


def test_compiled_forward_and_backward():
    torch._dynamo.reset()
    tensors = [t.requires_grad_() for t in weights(2, "dw-pw")]

    def run(x):
        return depthwise_separable(
            x * 2, *tensors, padding=1, depthwise_activation="relu", activation="gelu"
        ).sin()

    compiled = torch.compile(run, fullgraph=True, backend="aot_eager")
    x = torch.randn(2, 4, 8, 8).to(memory_format=torch.channels_last)
    slopes = [torch.autograd.grad(f(x).sum(), tensors) for f in (run, compiled)]
    for eager, graph in zip(*slopes, strict=True):
        assert_close(graph, eager)


@pytest.mark.parametrize("order", ORDERS)
def test_flops_are_counted_as_of_two_convolutions(order):
    tensors = [t.requires_grad_() for t in weights(2, order, 2)]
    x = torch.randn(2, 4, 9, 8, requires_grad=True)
    with FlopCounterMode(display=False) as forward:
        y = depthwise_separable(x, *tensors, order=order, stride=2)
    with FlopCounterMode(display=False) as plain:
        by_torch(x, *tensors, order=order, stride=2)
    assert forward.get_total_flops() == plain.get_total_flops() > 0
    with FlopCounterMode(display=False) as backward:
        y.sum().backward()
    assert backward.get_total_flops() == 2 * plain.get_total_flops()


# --- packed weights ---------------------------------------------------------------------------------


def packed(limit=LIMIT):
    options = Options("dw-pw", (1,), ((0, 0),), (1,), "zeros", None, None)
    rng = np.random.default_rng(0)

    def layer(inputs=4, outputs=5):
        shapes = ((inputs, 1, 3), (outputs, inputs))
        return PairWeights(*(rng.standard_normal(shape) for shape in shapes), None, None)

    return PackedConvs(Budget(limit)), options, layer


def test_weights_are_packed_once():
    convs, options, layer = packed()
    first, second = layer(), layer()
    op = convs.get(first, options)
    assert convs.get(second, options) is not op
    assert convs.get(PairWeights(*(None if a is None else a.copy() for a in first)), options) is op
    assert convs.get(first, options._replace(stride=(2,))) is not op
    assert len(convs) == 3


def test_any_change_of_the_weights_is_seen():
    x = torch.randn(1, 4, 20)
    tensors = weights(1, "dw-pw", inputs=4, outputs=64, taps=(33,))
    for tensor, place in itertools.product(tensors, (0, 1, -1)):
        before = depthwise_separable(x, *tensors, padding=16)
        tensor.data.view(-1)[place] += 1  # behind the back of torch's version counter
        after = depthwise_separable(x, *tensors, padding=16)
        assert not torch.equal(before, after)
        assert_close(after, by_torch(x, *tensors, padding=16))


def test_memory_is_bounded():
    convs, options, layer = packed(limit=2000)
    convs.get(layer(), options)
    size = convs.bytes  # operators keep two copies, and a note
    assert size > 2 * sum(a.nbytes for a in layer()[:2])
    for _ in range(20):
        convs.get(layer(), options)
        assert convs.bytes <= 2000
    assert len(convs) == 2000 // size == convs.bytes // size
    kept = len(convs)
    convs.get(layer(100, 100), options)  # larger than all there is: used, not kept
    assert (len(convs), convs.bytes) == (kept, kept * size)
    convs.clear()
    assert (len(convs), convs.bytes) == (0, 0)


def test_what_was_used_last_is_kept():
    convs, options, layer = packed()
    convs.get(layer(), options)
    convs, options, layer = packed(limit=3 * convs.bytes)
    layers = [layer() for _ in range(4)]
    ops = [convs.get(each, options) for each in layers[:3]]
    assert convs.get(layers[0], options) is ops[0]
    convs.get(layers[3], options)
    assert convs.get(layers[0], options) is ops[0]
    assert convs.get(layers[1], options) is not ops[1]


def test_frozen_weights_stay_packed():
    x, tensors = torch.randn(2, 4, 9, 8, requires_grad=True), weights(2, "dw-pw")
    for _ in range(2):
        depthwise_separable(x, *tensors).sum().backward()
    assert len(_packed.packed_convs) == 1


def test_training_leaves_no_old_weights_behind():
    x, tensors = torch.randn(2, 4, 9, 8), [t.requires_grad_() for t in weights(2, "dw-pw")]
    for _ in range(5):
        depthwise_separable(x, *tensors).sum().backward()
        with torch.no_grad():
            for tensor in tensors:
                tensor -= 0.1 * tensor.grad
    assert len(_packed.packed_convs) == 0


def test_tensors_are_not_kept_alive():
    x, tensors = torch.randn(2, 4, 9, 8), weights(2, "dw-pw")
    depthwise_separable(x, *tensors)
    assert len(_packed.packed_convs) == 1
    watched = [weakref.ref(t) for t in (x, *tensors)]
    del x, tensors
    gc.collect()
    assert [ref() for ref in watched] == [None] * 5


def test_many_threads_share_the_packed_weights():
    x, layers = torch.randn(1, 4, 9, 8), [weights(2, "dw-pw") for _ in range(4)]
    wants = [by_torch(x, *tensors) for tensors in layers]
    wrong = []

    def work():
        for _ in range(30):
            for tensors, want in zip(layers, wants, strict=True):
                got = depthwise_separable(x, *tensors)
                if not torch.allclose(got, want, atol=1e-4):
                    wrong.append(got)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(_packed.packed_convs) == 4


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_while_the_cache_is_busy():
    x, tensors = torch.randn(1, 4, 9, 8), weights(2, "dw-pw")
    want = depthwise_separable(x, *tensors)
    with budget._lock:
        child = os.fork()
        if child == 0:
            os._exit(0 if torch.equal(depthwise_separable(x, *tensors), want) else 1)
    assert os.waitpid(child, 0)[1] == 0
