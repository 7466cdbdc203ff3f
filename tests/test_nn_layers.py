"""The layers: full rank equals the dense convolution, fused equals in sequence; what they survive."""

from __future__ import annotations

import copy
import io
import itertools
import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest

import separable as sp

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn.utils import parametrizations  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from separable.nn import (  # noqa: E402
    DepthwiseSeparableConv1d,
    DepthwiseSeparableConv2d,
    DepthwiseSeparableConv3d,
    DepthwiseSeparableConvTranspose1d,
    DepthwiseSeparableConvTranspose2d,
    DepthwiseSeparableConvTranspose3d,
    SpatiallySeparableConv2d,
    SpatiallySeparableConv3d,
)
from separable.nn.layers.activations import FUNCTIONS, GAINS  # noqa: E402

# torch's own word on one of the cases: SAME padding of an even kernel costs it a copy.
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")

DENSE = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
DENSE_TRANSPOSE = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
LAYERS = (DepthwiseSeparableConv1d, DepthwiseSeparableConv2d, DepthwiseSeparableConv3d)
LAYERS_TRANSPOSE = (
    DepthwiseSeparableConvTranspose1d,
    DepthwiseSeparableConvTranspose2d,
    DepthwiseSeparableConvTranspose3d,
)
SPATIAL = {2: SpatiallySeparableConv2d, 3: SpatiallySeparableConv3d}
MODES = ("zeros", "reflect", "replicate", "circular")
ORDERS = ("dw-pw", "pw-dw")
BLOCK = {
    "bias": False,
    "norm": nn.BatchNorm2d,
    "activation": "relu6",
    "output_norm": nn.BatchNorm2d,
    "output_activation": "silu",
}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def sizes(ndim):
    return (9, 7, 6)[:ndim]


def kernels(ndim):
    return (3, 2, 3)[:ndim]


def assert_close(got, want, tolerance=1e-5):
    assert got.shape == want.shape
    assert got.dtype == want.dtype
    got, want = got.detach(), want.detach()
    assert float((got - want).abs().max()) <= tolerance * max(1.0, float(want.abs().max()))


def arguments(ndim):
    """All combinations of the arguments of a convolution."""
    strides = (1, (2, 1, 3)[:ndim])
    paddings = (0, 1, (1, 0, 2)[:ndim], "same", "valid")
    dilations = (1, (2, 3, 1)[:ndim])
    for stride, padding, dilation, mode, groups, bias in itertools.product(
        strides, paddings, dilations, MODES, (1, 2), (True, False)
    ):
        if padding == "same" and stride != 1:
            continue  # torch refuses it
        yield {
            "stride": stride,
            "padding": padding,
            "dilation": dilation,
            "padding_mode": mode,
            "groups": groups,
            "bias": bias,
        }


def transposed_arguments(ndim):
    strides = (1, 2, (2, 1, 3)[:ndim])
    dilations = (1, (2, 3, 1)[:ndim])
    for stride, padding, extra, dilation, groups, bias in itertools.product(
        strides, (0, 1), (0, 1), dilations, (1, 2), (True, False)
    ):
        if extra and stride != 2:
            continue  # torch refuses an output padding as large as the stride
        yield {
            "stride": stride,
            "padding": padding,
            "output_padding": extra,
            "dilation": dilation,
            "groups": groups,
            "bias": bias,
        }


def same_convolution(a, b):
    names = ("stride", "padding", "dilation", "groups", "padding_mode", "output_padding", "kernel_size")
    assert type(a) is type(b)
    assert [getattr(a, name) for name in names] == [getattr(b, name) for name in names]
    assert (a.bias is None) == (b.bias is None)
    assert_close(a.weight, b.weight, 1e-6)
    if a.bias is not None:
        assert_close(a.bias, b.bias, 1e-6)


# --- the door ---------------------------------------------------------------------------------------


def run_python(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_torch_is_loaded_by_the_first_layer():
    code = "import sys, separable as sp\nassert 'torch' not in sys.modules\n"
    code += "names = dir(sp.nn)\nassert 'torch' not in sys.modules\n"
    code += "assert all(getattr(sp.nn, name) is not None for name in names)\nprint(*names)"
    assert run_python(code).split() == sp.nn.__all__ == sorted(sp.nn.__all__)


def test_without_torch_it_says_what_to_install():
    code = """
import sys
sys.modules["torch"] = None
import separable as sp
try:
    sp.nn.DepthwiseSeparableConv2d
except ImportError as error:
    print(error)
"""
    assert run_python(code) == "torch is not installed: pip install 'separable[nn]'\n"


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"module 'separable\.nn' has no attribute 'DepthwiseConv2d'"):
        sp.nn.DepthwiseConv2d  # noqa: B018


# --- dense and back ---------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_full_rank_equals_the_dense_convolution(ndim, order):
    x = torch.randn(2, 4, *sizes(ndim))
    count = 0
    for options in arguments(ndim):
        dense = DENSE[ndim - 1](4, 6, kernels(ndim), **options)
        layer = LAYERS[ndim - 1].from_dense(dense, order=order)
        with torch.no_grad():
            assert_close(layer(x), dense(x))
        count += 1
    assert count == 288


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_full_rank_equals_the_transposed_convolution(ndim, order):
    x = torch.randn(2, 4, *(5, 4, 3)[:ndim])
    count = 0
    for options in transposed_arguments(ndim):
        dense = DENSE_TRANSPOSE[ndim - 1](4, 6, kernels(ndim), **options)
        layer = LAYERS_TRANSPOSE[ndim - 1].from_dense(dense, order=order)
        with torch.no_grad():
            assert_close(layer(x), dense(x))
        same_convolution(layer.to_dense(), dense)
        count += 1
    assert count == 64


@pytest.mark.parametrize("ndim", [2, 3])
def test_full_rank_equals_the_dense_convolution_axis_by_axis(ndim):
    x = torch.randn(2, 4, *sizes(ndim))
    for options in arguments(ndim):
        dense = DENSE[ndim - 1](4, 6, kernels(ndim), **options)
        layer = SPATIAL[ndim].from_dense(dense)
        with torch.no_grad():
            assert_close(layer(x), dense(x))
        same_convolution(layer.to_dense(), dense)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_to_dense_gives_the_convolution_back(ndim, order):
    for options in arguments(ndim):
        dense = DENSE[ndim - 1](4, 6, kernels(ndim), **options)
        same_convolution(LAYERS[ndim - 1].from_dense(dense, order=order).to_dense(), dense)


@pytest.mark.parametrize("order", ORDERS)
def test_a_smaller_rank_is_the_nearest_layer(order):
    dense = nn.Conv2d(6, 8, 3, groups=2, dtype=torch.float64)
    layer = DepthwiseSeparableConv2d.from_dense(dense, 2, order=order)
    assert layer.depth_multiplier == 2
    error = sp.conv.decompose(dense.weight.detach().numpy(), 2, order, groups=2)[2].relative_l2
    distance = ((layer.to_dense().weight - dense.weight).norm() / dense.weight.norm()).detach()
    assert 0.1 < error < 0.9
    assert float(distance) == pytest.approx(error, rel=1e-9)


def test_a_smaller_rank_axis_by_axis_is_the_nearest_layer():
    dense = nn.Conv2d(6, 8, (5, 3), groups=2, dtype=torch.float64)
    layer = SpatiallySeparableConv2d.from_dense(dense, 4)
    assert layer.mid_channels == (8,)
    weights = dense.weight.detach().reshape(2, 4, 3, 5, 3).permute(0, 2, 3, 1, 4).reshape(2, 15, 12)
    beyond = torch.linalg.svdvals(weights)[:, 4:].norm()
    distance = (layer.to_dense().weight - dense.weight).norm().detach()
    assert float(distance) == pytest.approx(float(beyond), rel=1e-9)


def test_ranks_of_a_volume_are_cut_one_after_the_other():
    dense = nn.Conv3d(3, 4, 3, dtype=torch.float64)
    layer = SpatiallySeparableConv3d.from_dense(dense, (5, 6))
    assert layer.mid_channels == (5, 6)
    first = torch.linalg.svdvals(dense.weight.detach().permute(1, 2, 0, 3, 4).reshape(9, 36))[5:].norm()
    distance = (layer.to_dense().weight - dense.weight).norm().detach()
    assert float(first) < float(distance) < float(dense.weight.detach().norm())
    assert SpatiallySeparableConv3d.from_dense(dense, 100).mid_channels == (9, 12)


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_a_bias_between_moves_to_the_dense_bias(ndim):
    x = torch.randn(2, 4, *sizes(ndim))
    depthwise_first = LAYERS[ndim - 1](4, 6, 3, padding=1, groups=2, depth_multiplier=2, activation="relu")
    pointwise_first = LAYERS[ndim - 1](
        4, 6, 3, padding=1, padding_mode="circular", depth_multiplier=2, order="pw-dw", activation="relu"
    )
    transposed = LAYERS_TRANSPOSE[ndim - 1](4, 6, 3, stride=2, groups=2, activation="relu")
    for layer in (depthwise_first, pointwise_first, transposed):
        layer.activation = None
        first, _ = layer._convs()
        nn.init.normal_(first.bias)
        with torch.no_grad():
            assert_close(layer.to_dense()(x), layer(x))


def test_what_is_no_single_convolution_is_refused():
    for name, options in {
        "activation": {"activation": "relu"},
        "norm": {"norm": nn.BatchNorm2d},
        "output_activation": {"output_activation": nn.ReLU()},
        "output_norm": {"output_norm": nn.BatchNorm2d},
        "residual": {"residual": True, "padding": 1},
    }.items():
        with pytest.raises(ValueError, match=f"`{name}`"):
            DepthwiseSeparableConv2d(4, 4, 3, **options).to_dense()
    layer = DepthwiseSeparableConv2d(4, 4, 3, padding=1, order="pw-dw", activation="relu")
    layer.activation = None
    with pytest.raises(ValueError, match="conv_pw has a bias, and zero padding follows it"):
        layer.to_dense()
    transposed = DepthwiseSeparableConvTranspose2d(4, 4, 3, order="pw-dw", activation="relu")
    transposed.activation = None
    with pytest.raises(ValueError, match="spreads it unevenly"):
        transposed.to_dense()
    spatial = SpatiallySeparableConv2d(4, 4, 3, activation="relu")
    with pytest.raises(ValueError, match="`activation` is ReLU"):
        spatial.to_dense()
    spatial.activation = None
    with pytest.raises(ValueError, match="conv_h has a bias"):
        spatial.to_dense()


def test_from_dense_keeps_what_else_a_convolution_has():
    dense = nn.Conv2d(4, 6, 3, dtype=torch.float64).eval().requires_grad_(False)
    dense.bias.requires_grad_(True)
    for layer in (DepthwiseSeparableConv2d.from_dense(dense), SpatiallySeparableConv2d.from_dense(dense)):
        assert not layer.training
        assert {name for name, p in layer.named_parameters() if p.requires_grad} & {
            "conv_pw.bias",
            "conv_w.bias",
        }
        assert sum(p.requires_grad for p in layer.parameters()) == 1
        assert all(p.dtype == torch.float64 for p in layer.parameters())
    half = DepthwiseSeparableConv2d.from_dense(nn.Conv2d(4, 6, 3, dtype=torch.bfloat16))
    assert half.conv_dw.weight.dtype == half.to_dense().weight.dtype == torch.bfloat16


def test_from_dense_draws_no_random_numbers():
    dense = nn.Conv2d(4, 6, 3)
    state = torch.get_rng_state()
    DepthwiseSeparableConv2d.from_dense(dense)
    SpatiallySeparableConv2d.from_dense(dense)
    assert torch.equal(torch.get_rng_state(), state)


def test_from_dense_refuses_what_it_cannot_read():
    with pytest.raises(TypeError, match=r"`conv` is Conv1d; expected torch\.nn\.Conv2d"):
        DepthwiseSeparableConv2d.from_dense(nn.Conv1d(4, 4, 3))
    with pytest.raises(ValueError, match="meta"):
        DepthwiseSeparableConv2d.from_dense(nn.Conv2d(4, 4, 3, device="meta"))
    with pytest.raises(ValueError, match="`rank=0` is too small"):
        DepthwiseSeparableConv2d.from_dense(nn.Conv2d(4, 4, 3), 0)
    with pytest.raises(ValueError, match="`order='dwpw'` is unknown"):
        DepthwiseSeparableConv2d.from_dense(nn.Conv2d(4, 4, 3), order="dwpw")


# --- construction -----------------------------------------------------------------------------------


def test_arguments_stand_in_the_order_of_torch():
    where = ("cpu", torch.float64)
    dense = nn.Conv2d(4, 6, 3, 2, 1, 2, 2, False, "circular", *where)
    layer = DepthwiseSeparableConv2d(4, 6, 3, 2, 1, 2, 2, False, "circular", *where)
    names = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups")
    for name in (*names, "padding_mode"):
        assert getattr(layer, name) == getattr(dense, name)
    assert layer.conv_pw.bias is layer.conv_dw.bias is None
    assert layer.conv_dw.weight.dtype == torch.float64
    transposed = DepthwiseSeparableConvTranspose2d(4, 6, 3, 2, 1, 1, 2, False, 2, "zeros", *where)
    same = nn.ConvTranspose2d(4, 6, 3, 2, 1, 1, 2, False, 2, "zeros", *where)
    for name in (*names, "output_padding"):
        assert getattr(transposed, name) == getattr(same, name)
    x = torch.randn(1, 4, 5, 5, dtype=torch.float64)
    assert transposed(x).shape == same(x).shape
    assert transposed(x, [12, 12]).shape == same(x, [12, 12]).shape == (1, 6, 12, 12)
    assert SpatiallySeparableConv2d(4, 6, 3, 2, 1, 2, 2, False, "circular", *where).to_dense().stride == (
        2,
        2,
    )


@pytest.mark.parametrize(
    ("order", "dw", "pw"), [("dw-pw", (8, 1, 3, 5), (6, 8, 1, 1)), ("pw-dw", (6, 2, 3, 5), (12, 4, 1, 1))]
)
def test_keys_and_shapes_of_the_state(order, dw, pw):
    layer = DepthwiseSeparableConv2d(4, 6, (3, 5), depth_multiplier=2, order=order)
    state = layer.state_dict()
    last = "conv_pw" if order == "dw-pw" else "conv_dw"
    assert set(state) == {"conv_dw.weight", "conv_pw.weight", f"{last}.bias"}
    assert (state["conv_dw.weight"].shape, state["conv_pw.weight"].shape) == (dw, pw)
    assert layer.depth_multiplier == 2
    assert f"order='{order}'" in repr(layer)


def test_biases_stand_where_they_are_not_in_vain():
    def biased(**options):
        layer = DepthwiseSeparableConv2d(4, 6, 3, **options)
        return layer.conv_dw.bias is not None, layer.conv_pw.bias is not None

    assert biased() == (False, True)
    assert biased(activation="relu") == (True, True)
    assert biased(activation="relu", norm=nn.BatchNorm2d) == (False, True)
    assert biased(activation="relu", bias=False) == (False, False)
    assert biased(order="pw-dw") == (True, False)
    assert SpatiallySeparableConv2d(4, 6, 3).conv_h.bias is None


def test_norms_are_made_for_the_channels_they_follow():
    layer = DepthwiseSeparableConv2d(4, 6, 3, depth_multiplier=3, dtype=torch.float64, **BLOCK)
    assert layer.norm.num_features == 12
    assert layer.output_norm.num_features == 6
    assert layer.norm.weight.dtype == torch.float64
    spatial = SpatiallySeparableConv3d(4, 6, 3, mid_channels=(8, 10), norm=nn.BatchNorm3d)
    assert (spatial.norm_d.num_features, spatial.norm_h.num_features) == (8, 10)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"order": "pwdw"}, ValueError, "`order='pwdw'` is unknown; expected 'dw-pw' or 'pw-dw'"),
        ({"depth_multiplier": 0}, ValueError, "`depth_multiplier=0` is too small"),
        ({"groups": 3}, ValueError, "`in_channels=4` is no multiple of groups=3"),
        (
            {"activation": "rellu"},
            ValueError,
            "`activation='rellu'` is not an activation.*Did you mean 'relu'",
        ),
        ({"output_activation": 3}, TypeError, "`output_activation` is int"),
        ({"norm": nn.BatchNorm2d(4)}, TypeError, "`norm` is the module BatchNorm2d; expected its class"),
        ({"norm": lambda channels: channels}, TypeError, r"`norm\(4\)` is int"),
        ({"residual": True}, ValueError, "`residual=True`.*it needs equal channels, stride 1"),
        ({"residual": True, "padding": 1, "stride": 2}, ValueError, "`residual=True`"),
    ],
)
def test_wrong_arguments_are_named(options, error, match):
    with pytest.raises(error, match=match):
        DepthwiseSeparableConv2d(4, 4, 3, **options)


def test_wrong_channels_between_are_named():
    with pytest.raises(ValueError, match="`mid_channels=5` is no multiple of groups=2"):
        SpatiallySeparableConv2d(4, 4, 3, groups=2, mid_channels=5)


# --- initial weights --------------------------------------------------------------------------------


def test_gains_keep_the_second_moment():
    z = torch.linspace(-12, 12, 400_001, dtype=torch.float64)
    density = torch.exp(-z * z / 2) / (2 * np.pi) ** 0.5 * (z[1] - z[0])
    for name, function in FUNCTIONS.items():
        moment = float((density * function(GAINS[name] * z) ** 2).sum())
        assert moment == pytest.approx(1, abs=1e-8), name


def moment_through(layer, x):
    with torch.no_grad():
        return float(layer(x).square().mean() / x.square().mean())


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"depth_multiplier": 3},
        {"groups": 4},
        {"activation": "relu", "output_activation": "relu"},
        {"activation": "silu"},
        {"norm": nn.BatchNorm2d, "activation": "gelu"},
    ],
    ids=str,
)
def test_initial_weights_keep_the_second_moment(order, options):
    x = torch.randn(4, 64, 16, 16)
    # One draw of the weights is off by about sqrt(2 / number of them): the mean of several is not.
    ratios = [
        moment_through(
            DepthwiseSeparableConv2d(64, 96, 3, padding=1, padding_mode="circular", order=order, **options), x
        )
        for _ in range(4)
    ]
    # The norm sets the variance to 1, and gelu leaves E[gelu(z)^2] = 0.4252 of it for the second one.
    expected = 0.4252 if "norm" in options else 1.0
    assert np.mean(ratios) == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("order", ORDERS)
def test_initial_weights_of_other_layers_keep_the_second_moment(order):
    images, signals, volumes = (
        torch.randn(4, 64, 24, 24),
        torch.randn(4, 64, 400),
        torch.randn(1, 64, 9, 9, 9),
    )
    options = {"order": order, "depth_multiplier": 2}
    around = {"padding": "same", "padding_mode": "circular"}
    cases = [
        (DepthwiseSeparableConv1d(64, 64, 9, **around, **options), signals),
        (DepthwiseSeparableConv3d(64, 64, 3, **around, **options), volumes),
        (DepthwiseSeparableConvTranspose2d(64, 64, 4, stride=2, padding=1, **options), images),
        (DepthwiseSeparableConvTranspose1d(64, 64, 3, stride=3, **options), signals),
    ]
    if order == "dw-pw":
        cases += [
            (SpatiallySeparableConv2d(64, 64, 5, **around, mid_channels=48, activation="relu"), images),
            (SpatiallySeparableConv3d(64, 64, 3, **around), volumes),
        ]
    for layer, x in cases:
        ratios = [moment_through(layer, x)]
        for _ in range(3):
            layer.reset_parameters()
            ratios.append(moment_through(layer, x))
        # A transposed convolution reaches its border with fewer taps.
        assert np.mean(ratios) == pytest.approx(1, rel=0.15), layer


# --- fused and in sequence --------------------------------------------------------------------------


class Operators(TorchDispatchMode):
    """Writes down the operators that run inside."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(function.name())
        return function(*args, **(kwargs or {}))


def is_fused(layer, *inputs):
    with Operators() as seen:
        layer(*inputs)
    return "separable::depthwise_separable" in seen.names


def both_ways(layer, x):
    """Return outputs and gradients, fused and in sequence."""
    results = []
    for run in (layer, layer._in_sequence):
        layer.zero_grad()
        given = x.clone().requires_grad_()
        y = run(given)
        (y * torch.linspace(-1, 1, y.numel(), dtype=y.dtype).reshape(y.shape)).sum().backward()
        found = {name: p.grad for name, p in layer.named_parameters() if p.requires_grad}
        results.append({"y": y.detach(), "x": given.grad, **found})
    return results


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("mode", MODES)
def test_fused_equals_in_sequence(ndim, order, mode):
    norm = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[ndim - 1]
    x = torch.randn(2, 4, *sizes(ndim), dtype=torch.float64)
    for extra in (
        {},
        {"bias": False, "stride": 2, "depth_multiplier": 3, "output_activation": "relu"},
        {"activation": "gelu", "output_activation": "hard_swish", "residual": True},
        {
            "norm": norm,
            "activation": "relu6",
            "output_norm": norm,
            "output_activation": "silu",
            "residual": True,
        },
        {
            "activation": nn.Hardswish,
            "output_norm": lambda c: nn.GroupNorm(2, c),
            "output_activation": torch.tanh,
        },
        {
            "norm": lambda c: norm(c, affine=False),
            "activation": nn.GELU("tanh"),
            "output_activation": torch.relu,
        },
    ):
        layer = LAYERS[ndim - 1](
            4, 4, 3, **{"padding": 1, "padding_mode": mode, "order": order, "dtype": torch.float64, **extra}
        )
        for module in layer.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
                if module.affine:
                    nn.init.normal_(module.weight)
                    nn.init.normal_(module.bias)
        layer.eval()
        assert is_fused(layer, x)
        fused, plain = both_ways(layer, x)
        assert fused.keys() == plain.keys()
        for name, want in plain.items():
            assert_close(fused[name], want, 1e-11)


def test_batch_norm_in_training_runs_in_sequence_and_learns_its_statistics():
    layer = DepthwiseSeparableConv2d(4, 4, 3, padding=1, **BLOCK)
    x = torch.randn(4, 4, 8, 8)
    assert not is_fused(layer, x)
    assert int(layer.norm.num_batches_tracked) == 1
    layer.eval()
    assert is_fused(layer, x)
    only_after = DepthwiseSeparableConv2d(4, 4, 3, padding=1, output_norm=nn.BatchNorm2d)
    assert is_fused(only_after, x)
    assert int(only_after.output_norm.num_batches_tracked) == 1


def test_what_the_operator_does_not_know_runs_in_sequence():
    x = torch.randn(2, 4, 8, 8)
    cases = {
        "groups": DepthwiseSeparableConv2d(4, 4, 3, groups=2),
        "activation": DepthwiseSeparableConv2d(4, 4, 3, activation=torch.tanh),
        "norm": DepthwiseSeparableConv2d(4, 4, 3, norm=lambda c: nn.GroupNorm(2, c)),
    }
    for name, layer in cases.items():
        assert not is_fused(layer, x), name
        assert layer(x).shape == (2, 4, 6, 6)
    layer = DepthwiseSeparableConv2d(4, 4, 3)
    assert is_fused(layer, x)
    assert not is_fused(layer, x[0])
    assert_close(layer(x[0]), layer(x)[0])
    layer.to(torch.bfloat16)
    assert not is_fused(layer, x.bfloat16())
    assert layer(x.bfloat16()).dtype == torch.bfloat16
    assert layer.to("meta")(x.bfloat16().to("meta")).shape == (2, 4, 6, 6)


def test_wrong_inputs_are_refused_as_torch_refuses_them():
    layer = DepthwiseSeparableConv2d(4, 4, 3)
    for x in (torch.randn(2, 5, 8, 8), torch.randn(2, 4, 8, 8, dtype=torch.float64), torch.randn(4)):
        with pytest.raises(RuntimeError):
            layer(x)
    with pytest.raises((RuntimeError, ValueError)):
        layer(torch.randn(2, 4, 2, 8))


def test_hooks_on_the_inner_modules_are_called():
    layer = DepthwiseSeparableConv2d(4, 4, 3, activation="relu")
    x = torch.randn(2, 4, 8, 8)
    want, seen = layer(x), []
    for name in ("conv_dw", "activation", "conv_pw"):
        handle = getattr(layer, name).register_forward_hook(
            lambda module, *_: seen.append(type(module).__name__)
        )
        assert_close(layer(x), want)
        handle.remove()
    assert seen == ["Conv2d", "ReLU", "Conv2d"]
    assert is_fused(layer, x)


def test_a_replaced_convolution_is_used():
    class Doubled(nn.Conv2d):
        def forward(self, x):
            return 2 * super().forward(x)

    layer = DepthwiseSeparableConv2d(4, 4, 3, bias=False)
    x = torch.randn(2, 4, 8, 8)
    want = layer(x)
    other = Doubled(4, 4, 1, bias=False)
    other.load_state_dict(layer.conv_pw.state_dict())
    layer.conv_pw = other
    assert_close(layer(x), 2 * want)


@pytest.mark.parametrize("shape", [(0, 4, 8, 8), (1, 4, 3, 3), (2, 4, 3, 9), (2, 4, 9, 3)])
def test_empty_batches_and_short_axes(shape):
    for order in ORDERS:
        layer = DepthwiseSeparableConv2d(4, 6, 3, order=order)
        fused, plain = both_ways(layer, torch.randn(shape))
        for name, want in plain.items():
            assert_close(fused[name], want) if want.numel() else None
            assert fused[name].shape == want.shape


def test_nan_spreads_as_far_as_the_taps_reach():
    layer = DepthwiseSeparableConv2d(4, 4, 3, padding=1)
    x = torch.randn(1, 4, 9, 9)
    x[0, 1, 4, 4] = float("nan")
    with torch.no_grad():
        assert torch.equal(layer(x).isnan(), layer._in_sequence(x).isnan())


@pytest.mark.parametrize("order", ORDERS)
def test_the_output_has_the_memory_format_of_the_input(order):
    layer = DepthwiseSeparableConv2d(4, 6, 3, padding=1, order=order)
    x = torch.randn(2, 4, 8, 9)
    inside = x.to(memory_format=torch.channels_last)
    assert layer(x).is_contiguous()
    assert layer(inside).is_contiguous(memory_format=torch.channels_last)
    assert_close(layer(inside), layer(x).to(memory_format=torch.channels_last))
    layer.to(memory_format=torch.channels_last)
    assert_close(layer(inside), layer._in_sequence(inside))


# --- survival ---------------------------------------------------------------------------------------


def every_layer():
    yield DepthwiseSeparableConv1d(4, 6, 3, depth_multiplier=2), (2, 4, 9)
    yield DepthwiseSeparableConv2d(4, 6, 3, **BLOCK), (2, 4, 9, 8)
    yield (
        DepthwiseSeparableConv2d(4, 4, 3, padding=1, order="pw-dw", activation=torch.relu, residual=True),
        (2, 4, 9, 8),
    )
    yield DepthwiseSeparableConv3d(4, 6, 3, output_activation="gelu_tanh"), (2, 4, 5, 6, 7)
    yield DepthwiseSeparableConvTranspose2d(4, 6, 3, stride=2), (2, 4, 5, 5)
    yield SpatiallySeparableConv2d(4, 6, 3, norm=nn.BatchNorm2d, activation="relu"), (2, 4, 9, 8)
    yield SpatiallySeparableConv3d(4, 6, 3), (2, 4, 5, 6, 7)


LAYER_CASES = pytest.mark.parametrize("case", range(7))
FEW_CASES = pytest.mark.parametrize("case", [1, 2, 4])  # for what takes seconds


def layer_and_input(case):
    layer, shape = list(every_layer())[case]
    return layer.eval(), torch.randn(shape)


@LAYER_CASES
def test_state_copies_and_files(case):
    layer, x = layer_and_input(case)
    want = layer(x)
    other = layer_and_input(case)[0]
    assert not torch.equal(other(x), want)
    other.load_state_dict(layer.state_dict())
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    for same in (
        other,
        copy.deepcopy(layer),
        pickle.loads(pickle.dumps(layer)),
        torch.load(file, weights_only=False),
    ):
        assert torch.equal(same(x), want)
        assert repr(same) == repr(layer)


@LAYER_CASES
def test_training_reaches_every_parameter(case):
    layer, x = layer_and_input(case)
    layer.train()
    optimizer = torch.optim.SGD(layer.parameters(), 0.05)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = (layer(x) - 1).square().mean()
        loss.backward()
        assert all(p.grad is not None and p.grad.shape == p.shape for p in layer.parameters())
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]


@LAYER_CASES
def test_export_gives_plain_convolutions(case):
    layer, x = layer_and_input(case)
    program = torch.export.export(layer, (x,))
    names = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert any("conv" in name for name in names)
    assert not any("separable" in name for name in names)
    with torch.no_grad():
        assert_close(program.module()(x), layer(x))


@FEW_CASES
def test_onnx_export_runs_elsewhere(case, tmp_path):
    onnx = pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    layer, x = layer_and_input(case)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        torch.onnx.export(layer, (x,), tmp_path / "layer.onnx", dynamo=True, verbose=False)
    model = onnx.load(tmp_path / "layer.onnx")
    kinds = {node.op_type for node in model.graph.node}
    assert kinds & {"Conv", "ConvTranspose"}
    assert {node.domain for node in model.graph.node} <= {"", "ai.onnx"}
    session = runtime.InferenceSession(tmp_path / "layer.onnx", providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    with torch.no_grad():
        assert_close(torch.from_numpy(got), layer(x))


@FEW_CASES
def test_compiled_without_graph_breaks(case):
    layer, x = layer_and_input(case)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch._dynamo.reset()
    with torch.no_grad():
        assert_close(compiled(x), layer(x))
    given = x.clone().requires_grad_()
    compiled(given).sum().backward()
    again = x.clone().requires_grad_()
    layer(again).sum().backward()
    assert_close(given.grad, again.grad)


def test_a_compiled_layer_runs_the_operator_for_any_size():
    layer = DepthwiseSeparableConv2d(4, 6, 3, padding=1, output_activation="relu")
    torch._dynamo.reset()
    graphs = []

    def backend(module, _):
        graphs.append({str(node.target) for node in module.graph.nodes})
        return module.forward

    compiled = torch.compile(layer, fullgraph=True, backend=backend, dynamic=True)
    with torch.no_grad():
        for size in (8, 9, 12):
            x = torch.randn(2, 4, size, size)
            assert_close(compiled(x), layer(x))
    assert len(graphs) == 1
    assert any("depthwise_separable" in name for name in graphs[0])


@LAYER_CASES
def test_traced(case):
    layer, x = layer_and_input(case)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated
        traced = torch.jit.trace(layer, (x,))
    assert "separable::" not in str(traced.inlined_graph)
    with torch.no_grad():
        assert_close(traced(x), layer(x))


def test_symbolic_trace_sees_the_modules():
    layer = DepthwiseSeparableConv2d(4, 6, 3, **BLOCK).eval()
    graph = torch.fx.symbolic_trace(layer)
    called = [node.target for node in graph.graph.nodes if node.op == "call_module"]
    assert called == ["conv_dw", "norm", "activation", "conv_pw", "output_norm", "output_activation"]
    x = torch.randn(2, 4, 8, 8)
    with torch.no_grad():
        assert_close(graph(x), layer(x))


def test_autocast_runs_in_low_precision():
    layer = DepthwiseSeparableConv2d(4, 6, 3)
    x = torch.randn(2, 4, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
        assert not is_fused(layer, x)
    assert y.dtype == torch.bfloat16
    assert_close(y.float(), layer(x), 0.05)
    y.float().sum().backward()
    assert layer.conv_dw.weight.grad.dtype == torch.float32


def test_parametrized_weights_are_used_and_trained():
    layer = DepthwiseSeparableConv2d(4, 6, 3, padding=1)
    parametrizations.weight_norm(layer.conv_pw)
    x = torch.randn(2, 4, 8, 8)
    assert is_fused(layer, x)
    with torch.no_grad():
        layer.conv_pw.parametrizations.weight.original0.mul_(2)
    fused, plain = both_ways(layer, x)
    assert any("original1" in name for name in plain)
    for name, want in plain.items():
        assert_close(fused[name], want)


def test_frozen_parts_get_no_gradient():
    layer = DepthwiseSeparableConv2d(4, 6, 3, activation="relu")
    layer.conv_dw.requires_grad_(False)
    layer(torch.randn(2, 4, 8, 8)).sum().backward()
    assert layer.conv_dw.weight.grad is None
    assert layer.conv_pw.weight.grad is not None
    layer.requires_grad_(False)
    x = torch.randn(2, 4, 8, 8, requires_grad=True)
    layer(x).sum().backward()
    assert x.grad.shape == x.shape


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is:DeprecationWarning")  # forward mode uses it inside
def test_transforms_of_torch_func():
    layer = DepthwiseSeparableConv2d(2, 3, 3, dtype=torch.float64)
    x, t = torch.randn(2, 2, 2, 5, 5, dtype=torch.float64)
    batched = torch.func.vmap(layer)(torch.stack([x, t]))
    assert_close(batched[1], layer(t), 1e-12)
    _, tangent = torch.func.jvp(layer, (x,), (t,))
    assert_close(tangent, layer(t) - layer(torch.zeros_like(t)), 1e-12)
    weights = dict(layer.named_parameters())
    slopes = torch.func.grad(lambda w: torch.func.functional_call(layer, w, (x,)).sum())(weights)
    layer(x).sum().backward()
    for name, parameter in layer.named_parameters():
        assert_close(slopes[name], parameter.grad, 1e-12)


def test_checkpointed():
    from torch.utils.checkpoint import checkpoint

    layer = DepthwiseSeparableConv2d(4, 6, 3, activation="relu")
    x = torch.randn(2, 4, 8, 8, requires_grad=True)
    checkpoint(layer, x, use_reentrant=False).sum().backward()
    slope = x.grad.clone()
    x.grad = None
    layer(x).sum().backward()
    assert_close(slope, x.grad)
