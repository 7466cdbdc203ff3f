"""Weights and modules of others become layers that compute the same."""

from __future__ import annotations

import importlib
import itertools

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from separable.nn import (  # noqa: E402
    DepthwiseSeparableConv1d,
    DepthwiseSeparableConv2d,
    depthwise_from_keras,
    from_sequential,
    from_timm,
    separable_from_keras,
)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def keras_depthwise(x, kernel, stride, dilation):
    """What Keras' DepthwiseConv does with padding "valid": x (N, *spatial, C), kernel (*k, C, M)."""
    *taps, inputs, multiplier = kernel.shape
    sizes = [
        (n - (k - 1) * d - 1) // s + 1
        for n, k, s, d in zip(x.shape[1:-1], taps, stride, dilation, strict=True)
    ]
    y = np.zeros((len(x), *sizes, inputs * multiplier))
    for place in itertools.product(*map(range, taps)):
        window = tuple(
            slice(p * d, p * d + (n - 1) * s + 1, s)
            for p, d, n, s in zip(place, dilation, sizes, stride, strict=True)
        )
        seen = x[(slice(None), *window)]
        for c, m in itertools.product(range(inputs), range(multiplier)):
            y[..., c * multiplier + m] += kernel[place][c, m] * seen[..., c]
    return y


def run(layer, x):
    """Pass channels-last arrays through a layer that takes channels first."""
    with torch.no_grad():
        return layer(torch.from_numpy(x).movedim(-1, 1)).movedim(1, -1).numpy()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("taps", [(5,), (3, 2)])
def test_keras_separable_conv(taps, bias):
    rng = np.random.default_rng(0)
    ndim = len(taps)
    for multiplier, stride, dilation in itertools.product((1, 3), (1, 2), (1, 2)):
        weights = [
            rng.standard_normal((*taps, 4, multiplier)),
            rng.standard_normal((*[1] * ndim, 4 * multiplier, 6)),
            rng.standard_normal(6),
        ]
        x = rng.standard_normal((2, *(12, 11)[:ndim], 4))
        layer = separable_from_keras(weights[: 2 + bias], stride=stride, dilation=dilation, activation="relu")
        mixed = keras_depthwise(x, weights[0], [stride] * ndim, [dilation] * ndim) @ weights[1].reshape(-1, 6)
        want = np.maximum(mixed + weights[2] if bias else mixed, 0)
        np.testing.assert_allclose(run(layer, x), want, atol=1e-12)
        assert isinstance(layer, (DepthwiseSeparableConv1d, DepthwiseSeparableConv2d)[ndim - 1])


@pytest.mark.parametrize("taps", [(5,), (3, 2)])
def test_keras_depthwise_conv(taps):
    rng = np.random.default_rng(0)
    ndim = len(taps)
    kernel, bias = rng.standard_normal((*taps, 4, 3)), rng.standard_normal(12)
    x = rng.standard_normal((2, *(12, 11)[:ndim], 4))
    want = keras_depthwise(x, kernel, [2] * ndim, [1] * ndim) + bias
    np.testing.assert_allclose(run(depthwise_from_keras([kernel, bias], stride=2), x), want, atol=1e-12)
    padded = np.pad(x, ((0, 0), *[(1, 1)] * ndim, (0, 0)))
    want = keras_depthwise(padded, kernel, [1] * ndim, [1] * ndim)
    np.testing.assert_allclose(run(depthwise_from_keras([kernel], padding=1), x), want, atol=1e-12)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
def test_keras_padding_same():
    rng = np.random.default_rng(0)
    weights = [rng.standard_normal((3, 2, 4, 1)), rng.standard_normal((1, 1, 4, 6))]
    x = rng.standard_normal((2, 9, 8, 4))
    padded = np.pad(x, ((0, 0), (1, 1), (0, 1), (0, 0)))  # the extra sample comes after
    want = keras_depthwise(padded, weights[0], (1, 1), (1, 1)) @ weights[1][0, 0]
    np.testing.assert_allclose(run(separable_from_keras(weights, padding="same"), x), want, atol=1e-12)


@pytest.mark.parametrize(
    ("weights", "options", "match"),
    [
        ([np.ones((3, 3, 4, 1))], {}, "`weights` holds 1 arrays; expected 2, or 3 with a bias"),
        ([np.ones((3, 3)), np.ones((1, 1))], {}, r"`weights\[0\]` has shape \(3, 3\)"),
        (
            [np.ones((3, 3, 4, 2)), np.ones((1, 1, 4, 6))],
            {},
            r"`weights\[1\]` has shape .* expected \(1, 1, 8\)",
        ),
        (
            [np.ones((3, 3, 4, 1)), np.ones((1, 1, 4, 6)), np.ones(5)],
            {},
            r"`weights\[2\]`, the bias, .* \(6,\)",
        ),
        (
            [np.ones((3, 3, 4, 1)), np.ones((1, 1, 4, 6))],
            {"padding": "same", "stride": 2},
            "Keras pads by the size of the input",
        ),
    ],
)
def test_keras_weights_that_do_not_fit(weights, options, match):
    with pytest.raises(ValueError, match=match):
        separable_from_keras(weights, **options)


# --- modules ----------------------------------------------------------------------------------------


def with_statistics(module):
    """Give every batch norm something to do."""
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            nn.init.normal_(part.running_mean)
            nn.init.uniform_(part.running_var, 0.5, 2)
            if part.affine:
                nn.init.normal_(part.weight)
                nn.init.normal_(part.bias)
    return module


def assert_same(module, layer, x, tolerance=1e-5):
    for mode in (False, True):
        module.train(mode)
        layer.train(mode)
        with torch.no_grad():
            want, got = module(x), layer(x)
        assert float((got - want).abs().max()) <= tolerance * float(want.abs().max())


SEQUENCES = {
    "the idiom": lambda: nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Conv2d(8, 16, 1)),
    "multiplier": lambda: nn.Sequential(
        nn.Conv2d(8, 24, (3, 5), stride=2, groups=8, bias=False), nn.Conv2d(24, 16, 1, groups=2)
    ),
    "MobileNet": lambda: nn.Sequential(
        nn.Sequential(
            nn.Conv2d(8, 8, 3, 2, 1, groups=8, bias=False), nn.BatchNorm2d(8), nn.ReLU6(inplace=True)
        ),
        nn.Sequential(nn.Conv2d(8, 16, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU6(inplace=True)),
    ),
    "pointwise first": lambda: nn.Sequential(
        nn.Conv2d(8, 32, 1),
        nn.GELU(),
        nn.Conv2d(32, 16, 3, padding="same", padding_mode="reflect", groups=16),
    ),
    "identities": lambda: nn.Sequential(
        nn.Identity(),
        nn.Conv2d(8, 8, 3, groups=8),
        nn.Identity(),
        nn.Tanh(),
        nn.Conv2d(8, 16, 1),
        nn.GroupNorm(4, 16),
    ),
}


@pytest.mark.parametrize("name", SEQUENCES)
def test_sequences(name):
    module = with_statistics(SEQUENCES[name]())
    layer = from_sequential(module)
    assert isinstance(layer, DepthwiseSeparableConv2d)
    assert layer.order == ("pw-dw" if name == "pointwise first" else "dw-pw")
    assert layer.training
    assert_same(module, layer, torch.randn(2, 8, 12, 11))
    assert not {p.data_ptr() for p in module.parameters()} & {p.data_ptr() for p in layer.parameters()}


def test_sequences_of_signals_and_volumes():
    signal = nn.Sequential(nn.Conv1d(4, 8, 5, groups=4), nn.ReLU(), nn.Conv1d(8, 6, 1)).eval()
    volume = nn.Sequential(nn.Conv3d(4, 4, 3, groups=4), nn.Conv3d(4, 6, 1)).double()
    assert not from_sequential(signal).training
    assert_same(signal, from_sequential(signal), torch.randn(2, 4, 20))
    assert_same(volume, from_sequential(volume), torch.randn(2, 4, 5, 6, 7, dtype=torch.float64))


class Doubled(nn.Sequential):
    def forward(self, x):
        return 2 * super().forward(x)


class SamePadded(nn.Conv2d):
    def forward(self, x):
        return super().forward(nn.functional.pad(x, (1, 1, 1, 1)))


DEPTHWISE, POINTWISE = nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 16, 1)


@pytest.mark.parametrize(
    ("module", "error", "match"),
    [
        (nn.Sequential(DEPTHWISE), ValueError, "holds 1 convolutions"),
        (nn.Sequential(DEPTHWISE, POINTWISE, nn.Conv2d(16, 8, 1)), ValueError, "holds 3 convolutions"),
        (nn.Sequential(nn.ReLU(), DEPTHWISE, POINTWISE), ValueError, "begins with ReLU"),
        (nn.Sequential(nn.Conv2d(8, 8, 3), POINTWISE), ValueError, "no depthwise and pointwise pair"),
        (nn.Sequential(DEPTHWISE, nn.Conv2d(8, 16, 1, stride=2)), ValueError, "1x1 kernel, stride 1"),
        (
            nn.Sequential(DEPTHWISE, nn.ReLU(), nn.BatchNorm2d(8), POINTWISE),
            ValueError,
            "BatchNorm2d follows ReLU",
        ),
        (nn.Sequential(DEPTHWISE, nn.MaxPool2d(2), POINTWISE), TypeError, "`module` holds MaxPool2d"),
        (nn.Sequential(DEPTHWISE, nn.Dropout(), POINTWISE), TypeError, "`module` holds Dropout"),
        (nn.Sequential(SamePadded(8, 8, 3, groups=8), POINTWISE), TypeError, "SamePadded does not convolve"),
        (Doubled(DEPTHWISE, POINTWISE), ValueError, "Doubled does something else"),
        ("conv", TypeError, "`module` is str"),
    ],
)
def test_other_modules_are_refused(module, error, match):
    with pytest.raises(error, match=match):
        from_sequential(module)


# --- timm -------------------------------------------------------------------------------------------


LIBRARIES = []  # torch forgets the operators of a library that nobody holds


@pytest.fixture(scope="module")
def timm():
    # timm imports torchvision; a build of it for another torch lacks its operators, which are not used here.
    try:
        import torchvision  # noqa: F401
    except ModuleNotFoundError:
        pass
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        LIBRARIES.append(library)
    return pytest.importorskip("timm")


def timm_modules(timm):
    from timm.layers import SeparableConv2d, SeparableConvNormAct

    # timm.models.xception is the function of that name; the module has to be asked for.
    names = ("_efficientnet_blocks", "xception", "xception_aligned", "cspnext")
    blocks, xception, aligned, cspnext = (importlib.import_module(f"timm.models.{name}") for name in names)
    yield SeparableConv2d(8, 16, 3, stride=2, bias=True)
    yield SeparableConvNormAct(8, 16, 5, channel_multiplier=2.0, act_layer=nn.SiLU)
    yield SeparableConvNormAct(8, 16, 3, apply_act=False)
    yield blocks.DepthwiseSeparableConv(8, 16, act_layer=nn.Hardswish, pw_act=True)
    yield blocks.DepthwiseSeparableConv(8, 8, 5, act_layer=nn.ReLU6)
    yield xception.SeparableConv2d(8, 16, 3, 2, 1)
    yield aligned.SeparableConv2d(8, 16)
    yield cspnext.DepthwiseSeparableConv(8, 16, 5)


@pytest.mark.parametrize("case", range(8))
def test_timm_modules(timm, case):
    module = with_statistics(list(timm_modules(timm))[case])
    layer = from_timm(module)
    assert isinstance(layer, DepthwiseSeparableConv2d)
    assert layer.residual == (case == 4)
    assert_same(module, layer, torch.randn(2, 8, 12, 11))


def test_timm_blocks_inside_a_network(timm):
    network = timm.create_model("mobilenetv1_100", pretrained=False).eval()
    with_statistics(network)
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        want = network(x)
    replaced = 0
    for stage in network.blocks:
        for name, block in stage.named_children():
            setattr(stage, name, from_timm(block))
            replaced += 1
    assert replaced == 13
    with torch.no_grad():
        got = network(x)
    assert float((got - want).abs().max()) <= 1e-4 * float(want.abs().max())


def test_timm_modules_with_more_inside_are_refused(timm):
    from timm.layers import SqueezeExcite
    from timm.models._efficientnet_blocks import DepthwiseSeparableConv
    from timm.models.xception_aligned import PreSeparableConv2d

    with pytest.raises(ValueError, match="convolutions; expected a depthwise and a pointwise one"):
        from_timm(DepthwiseSeparableConv(8, 16, se_layer=SqueezeExcite))
    with pytest.raises(TypeError, match="DropPath"):
        from_timm(DepthwiseSeparableConv(8, 8, drop_path_rate=0.1))
    with pytest.raises(TypeError, match="Conv2dSame does not convolve as torch's own"):
        from_timm(DepthwiseSeparableConv(8, 16, stride=2, pad_type="same"))
    with pytest.raises(ValueError, match="begins with"):
        from_timm(PreSeparableConv2d(8, 16))
