"""The model counter: published integers, what other counters miss, and that a model is left as it was."""

from __future__ import annotations

import copy
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import models
import pytest
import torch
from models import image, on_meta
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations
from torch.nn.utils.rnn import pack_sequence

from separable.conv.audits.separability import separability
from separable.conv.forms.layer import ConvLayer
from separable.nn import DepthwiseSeparableConv2d, audit

# Published counts: convolutions and fully connected layers; parameters with the affine part of batch norms.
PUBLISHED = [
    ("MobileNetV1", models.mobilenet_v1, (), 224, 568_740_352, 4_231_976),
    ("MobileNetV1 0.75", models.mobilenet_v1, (0.75,), 224, 325_400_448, 2_585_560),
    ("MobileNetV1 0.5", models.mobilenet_v1, (0.5,), 224, 149_497_088, 1_331_592),
    ("MobileNetV1 0.25", models.mobilenet_v1, (0.25,), 224, 41_030_272, 470_072),
    ("MobileNetV1 at 192", models.mobilenet_v1, (), 192, 418_121_728, 4_231_976),
    ("MobileNetV1 at 160", models.mobilenet_v1, (), 160, 290_675_200, 4_231_976),
    ("MobileNetV1 at 128", models.mobilenet_v1, (), 128, 186_400_768, 4_231_976),
    ("MobileNetV1 dense", models.mobilenet_v1, (1.0, True), 224, 4_867_293_184, 29_282_120),
    ("MobileNetV2", models.mobilenet_v2, (), 224, 300_774_272, 3_504_872),
    ("MobileNetV3 large", models.mobilenet_v3, ("large",), 224, 216_589_760, 5_483_032),
    ("MobileNetV3 small", models.mobilenet_v3, ("small",), 224, 56_510_400, 2_542_856),
    ("Xception", models.xception, (), 299, 8_357_403_496, 22_855_952),
    ("EfficientNet-B0", models.efficientnet, (0,), 224, 385_814_752, 5_288_548),
    ("EfficientNet-B1", models.efficientnet, (1,), 240, 686_802_832, 7_794_184),
    ("EfficientNet-B2", models.efficientnet, (2,), 260, 993_561_872, 9_109_994),
    ("EfficientNet-B3", models.efficientnet, (3,), 300, 1_827_141_392, 12_233_232),
    ("EfficientNet-B4", models.efficientnet, (4,), 380, 4_393_771_024, 19_341_616),
    ("EfficientNet-B5", models.efficientnet, (5,), 456, 10_266_384_752, 30_389_784),
    ("EfficientNet-B6", models.efficientnet, (6,), 528, 19_067_593_536, 43_040_704),
    ("EfficientNet-B7", models.efficientnet, (7,), 600, 37_745_884_192, 66_347_960),
]
# Size of DS-CNN -> MACs, parameters, and what Hello Edge prints (its table 3): millions of operations, KB.
HELLO_EDGE = {
    "S": (2_656_768, 22_604, 5.4, 38.6),
    "M": (9_816_384, 135_032, 19.8, 189.2),
    "L": (28_327_812, 410_700, 56.9, 497.6),
}


class Calling(nn.Module):
    """A model that is a function of itself and its input."""

    def __init__(self, function: Callable[..., Any], **parts: nn.Module | nn.Parameter | Tensor) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *arguments: Any, **options: Any) -> Any:
        return self.function(self, *arguments, **options)


def weight(*shape: int) -> nn.Parameter:
    generator = torch.Generator().manual_seed(0)
    return nn.Parameter(torch.randn(shape, generator=generator))


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


# --- published counts ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "arguments", "size", "macs", "params"),
    [row[1:] for row in PUBLISHED],
    ids=[row[0] for row in PUBLISHED],
)
def test_published_counts(
    build: Callable[..., nn.Module], arguments: tuple[Any, ...], size: int, macs: int, params: int
) -> None:
    a = audit(on_meta(build, *arguments), image(size))
    assert (a.macs, a.params) == (macs, params)
    assert a.macs == sum(layer.macs for layer in a.layers) == sum(a.macs_by_kind.values())
    assert a.uncounted == ()


@pytest.mark.parametrize("size", HELLO_EDGE)
def test_hello_edge(size: str) -> None:
    macs, params, million_ops, kilobytes = HELLO_EDGE[size]
    a = audit(on_meta(models.ds_cnn, size), (1, 1, 49, 10))
    assert (a.macs, a.params) == (macs, params)
    adds = sum(math.prod(layer.output) for layer in a.layers)
    assert a.flops == 2 * macs + adds
    assert round(a.flops / 1e6, 1) == million_ops
    # 8-bit weights, and the largest input and output that exist at once.
    maps = max(math.prod(layer.inputs[0]) + math.prod(layer.output) for layer in a.layers)
    assert round((params + maps) / 1e3, 1) == kilobytes


@pytest.mark.parametrize(
    ("name", "size", "macs", "params"),
    [
        ("mobilenetv1_100", 224, 568_740_352, 4_231_976),
        ("mobilenetv3_small_100", 224, 56_510_400, 2_542_856),
        ("tf_efficientnet_b0", 224, 385_814_752, 5_288_548),
        ("legacy_xception", 299, 8_357_403_496, 22_855_952),
    ],
)
def test_published_counts_of_timm(name: str, size: int, macs: int, params: int) -> None:
    try:
        timm = pytest.importorskip("timm")
    except RuntimeError as broken:
        pytest.skip(f"torchvision was built for another torch: {broken}")
    with torch.device("meta"):
        model = timm.create_model(name)
    a = audit(model, image(size))
    assert (a.macs, a.params) == (macs, params)


# --- one layer ----------------------------------------------------------------------------------------

LAYERS = [
    # module, input, kind, MACs, bias additions
    (nn.Conv2d(64, 128, 3, padding=1, bias=False), (1, 64, 5, 7), "conv", 73_728 * 35, 0),
    (nn.Conv1d(8, 6, 5, 2, groups=2), (3, 8, 21), "grouped", 3 * 9 * 6 * 4 * 5, 3 * 9 * 6),
    (nn.Conv1d(8, 16, 3, dilation=2, groups=8), (1, 8, 20), "depthwise", 16 * 16 * 3, 16 * 16),
    (nn.Conv1d(16, 8, 3, groups=8), (1, 16, 20), "depthwise", 18 * 8 * 2 * 3, 18 * 8),
    (nn.Conv3d(4, 6, (1, 2, 3)), (2, 4, 3, 4, 5), "conv", 2 * 27 * 6 * 4 * 6, 2 * 27 * 6),
    (nn.Conv3d(4, 6, 1), (2, 4, 3, 4, 5), "pointwise", 2 * 60 * 6 * 4, 2 * 60 * 6),
    (
        nn.Conv2d(4, 6, 2, padding="same", padding_mode="reflect"),
        (1, 4, 5, 5),
        "conv",
        25 * 6 * 4 * 4,
        25 * 6,
    ),
    (nn.Conv2d(4, 6, 3), (4, 6, 6), "conv", 16 * 6 * 36, 16 * 6),  # no batch
    (nn.ConvTranspose1d(4, 6, 3, 2), (2, 4, 7), "transposed", 2 * 7 * 4 * 6 * 3, 2 * 15 * 6),
    (nn.ConvTranspose2d(4, 6, 3, 2, 1, 1, groups=2), (1, 4, 5, 5), "transposed", 25 * 4 * 3 * 9, 100 * 6),
    (nn.ConvTranspose3d(4, 4, 2, bias=False), (1, 4, 3, 3, 3), "transposed", 27 * 16 * 8, 0),
    (nn.Linear(5, 7), (2, 3, 5), "linear", 6 * 35, 6 * 7),
    (nn.Linear(5, 7, bias=False), (5,), "linear", 35, 0),
    (nn.GRU(8, 6), (5, 2, 8), "recurrent", 10 * 18 * (8 + 6), 10 * 36),
    (nn.LSTM(8, 6, 2, bidirectional=True), (5, 2, 8), "recurrent", 10 * 48 * (14 + 18), 10 * 192),
]


@pytest.mark.parametrize("measure", [False, True], ids=["fake", "real"])
@pytest.mark.parametrize(
    ("module", "shape", "kind", "macs", "adds"), LAYERS, ids=[f"{n}-{row[2]}" for n, row in enumerate(LAYERS)]
)
def test_one_layer(
    module: nn.Module, shape: tuple[int, ...], kind: str, macs: int, adds: int, measure: bool
) -> None:
    a = audit(module, shape, measure=measure, runs=1)
    (layer,) = a.layers
    assert (layer.name, layer.kind, layer.calls) == ("", kind, 1)
    assert (layer.macs, layer.flops) == (macs, 2 * macs + adds) == (a.macs, a.flops)
    assert layer.params == a.params == sum(each.numel() for each in module.parameters())
    out = module(torch.zeros(shape))
    out = out[0] if isinstance(out, tuple) else out
    assert layer.output == tuple(out.shape)
    assert layer.bytes == 4 * (math.prod(layer.inputs[0]) + layer.params + out.numel())
    assert (layer.measured_ms is not None) == measure == (a.measured_ms is not None)
    assert layer.roofline_ms is not None
    assert layer.roofline_ms > 0


def test_geometry_of_a_convolution() -> None:
    (layer,) = audit(nn.Conv2d(6, 9, (3, 5), (2, 1), (4, 0), (1, 2), groups=3), (2, 6, 9, 20)).layers
    assert (layer.kernel, layer.stride, layer.dilation, layer.groups) == ((3, 5), (2, 1), (1, 2), 3)
    assert (layer.inputs, layer.output) == (((2, 6, 9, 20),), (2, 9, 8, 12))
    assert (layer.operator, layer.dtype, layer.weights) == ("conv2d", "float32", ("weight", "bias"))


@pytest.mark.parametrize("measure", [False, True], ids=["two convs", "fused"])
@pytest.mark.parametrize("order", ["dw-pw", "pw-dw"])
def test_our_own_layers(order: str, measure: bool) -> None:
    layer = DepthwiseSeparableConv2d(
        6, 10, 3, stride=2, padding=1, depth_multiplier=2, order=order, norm=nn.BatchNorm2d, activation="relu"
    )
    model = nn.Sequential(layer).eval()
    a = audit(model, (2, 6, 9, 8), measure=measure, runs=1)
    inner = 12 if order == "dw-pw" else 20
    mixed = 20 if order == "dw-pw" else 72  # samples of the pointwise convolution
    assert a.macs == 2 * (inner * 9 * 20 + mixed * inner * (10 if order == "dw-pw" else 6))
    norm = 2 * inner
    assert sum(each.params for each in a.layers) == a.params - norm
    names = {(each.name, each.kind) for each in a.layers}
    apart = {("0.conv_dw", "depthwise"), ("0.conv_pw", "pointwise")}
    assert names == ({("0", "separable")} if measure else apart)


# --- what others miss -----------------------------------------------------------------------------------


def test_functional_convolutions_at_the_root() -> None:
    # Counters that hook modules give 0 here, and one that skips the root does so for a lone Conv2d too.
    def forward(self: Any, x: Tensor) -> Tensor:
        y = F.conv2d(x, self.first, self.shift, padding=1)
        y = torch.einsum("bchw,oc->bohw", y, self.mix)
        return F.linear(y.mean((2, 3)), self.last) @ self.last

    model = Calling(forward, first=weight(4, 3, 3, 3), shift=weight(4), mix=weight(5, 4), last=weight(7, 5))
    a = audit(model, (2, 3, 8, 8))
    found = [(layer.kind, layer.weights, layer.macs, layer.params) for layer in a.layers]
    assert found == [
        ("conv", ("first", "shift"), 2 * 64 * 108, 112),
        ("linear", ("mix",), 2 * 64 * 20, 20),
        ("linear", ("last",), 2 * 35, 35),
        ("linear", ("last",), 2 * 35, 0),
    ]
    assert a.flops == 2 * a.macs + 2 * 4 * 64
    assert {layer.name for layer in a.layers} == {""}


def test_shared_modules_and_weights_count_each_call_and_each_parameter_once() -> None:
    conv, other = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1, bias=False)
    other.weight = conv.weight
    model = nn.Sequential(conv, nn.ReLU(), conv, nn.MaxPool2d(2), conv, other)
    a = audit(model, (1, 4, 8, 8))
    found = [(layer.name, layer.calls, layer.macs, layer.params) for layer in a.layers]
    assert found == [("0", 2, 2 * 64 * 144, 148), ("0", 1, 16 * 144, 0), ("5", 1, 16 * 144, 0)]
    assert a.params == 148


def test_modules_in_lists_and_dicts_have_their_names() -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        for conv in self.stages:
            x = conv(x)
        return self.heads["a"](x.flatten(1))

    stages = nn.ModuleList([nn.Conv2d(3, 4, 3), nn.Sequential(nn.Conv2d(4, 2, 1))])
    model = Calling(
        forward, stages=stages, heads=nn.ModuleDict({"a": nn.Linear(72, 2), "b": nn.Linear(72, 3)})
    )
    a = audit(model, (1, 3, 8, 8))
    assert [layer.name for layer in a.layers] == ["stages.0", "stages.1.0", "heads.a"]
    unused = 72 * 3 + 3
    assert a.params == sum(layer.params for layer in a.layers) + unused
    for layer in a.layers:
        assert model.get_submodule(layer.name).weight.numel() <= layer.params


def test_compiled_scripted_and_hand_written_code_is_seen() -> None:
    class Doubling(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor, w: Tensor) -> Tensor:
            return F.conv2d(x, w) * 2

    compiled = torch.compile(nn.Sequential(nn.Conv2d(3, 4, 3)), backend="eager")
    (layer,) = audit(nn.Sequential(compiled), (1, 3, 8, 8)).layers
    assert (layer.name, layer.weights[0], layer.macs) == ("0.0", "0.0.weight", 36 * 108)
    (layer,) = audit(
        Calling(lambda self, x: Doubling.apply(x, self.w), w=weight(4, 3, 3, 3)), (1, 3, 8, 8)
    ).layers
    assert (layer.weights, layer.macs) == (("w",), 36 * 108)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore:.*torch.jit:DeprecationWarning")
def test_scripted_modules_are_seen_and_their_statistics_kept() -> None:
    inner = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).train()
    traced = torch.jit.trace(inner, torch.ones(2, 3, 8, 8), check_trace=False)
    for model in (nn.Sequential(torch.jit.script(inner)), nn.Sequential(traced)):
        before = state(model)
        (layer,) = audit(model, (1, 3, 8, 8)).layers
        assert (layer.weights, layer.macs, layer.params) == (("0.0.weight", "0.0.bias"), 36 * 108, 112)
        for name, tensor in model.state_dict().items():
            assert torch.equal(tensor, before[name]), name


@pytest.mark.parametrize("wrap", [parametrizations.weight_norm, parametrizations.spectral_norm])
def test_computed_weights_belong_to_the_layer_that_uses_them(wrap: Callable[[nn.Module], nn.Module]) -> None:
    model = nn.Sequential(wrap(nn.Conv1d(4, 6, 3)))
    a = audit(model, (1, 4, 10))
    conv = a.layers[-1]
    assert (conv.name, conv.kind, conv.macs) == ("0", "conv", 8 * 72)
    assert sum(layer.params for layer in a.layers) == a.params


# --- products of activations --------------------------------------------------------------------------


@pytest.mark.parametrize("fused", [True, False])
def test_attention_has_its_own_kind_and_is_in_the_sum(fused: bool) -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).view(2, 10, 3, 4, 8).permute(2, 0, 3, 1, 4)
        if fused:
            return F.scaled_dot_product_attention(q, k, v)
        return torch.matmul((q @ k.mT).softmax(-1), v)

    a = audit(Calling(forward, qkv=nn.Linear(32, 96)), (2, 10, 32))
    products = 2 * (2 * 4 * 10 * 10 * 8)
    assert a.macs_by_kind == {"linear": 20 * 32 * 96, "attention" if fused else "matmul": products}
    assert a.macs == 20 * 32 * 96 + products


def test_multihead_attention_hides_nothing_behind_its_fast_path() -> None:
    x = torch.zeros(2, 5, 8)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    fast = torch.backends.mha.get_fastpath_enabled()
    a = audit(layer, x)
    assert a.macs_by_kind == {"linear": 10 * (4 * 64 + 2 * 128), "attention": 2 * 2 * 2 * 25 * 4}
    assert torch.backends.mha.get_fastpath_enabled() == fast
    # Query, keys and values of one tensor are projected by one product, of real tensors as of fake ones.
    attention = nn.MultiheadAttention(8, 2, batch_first=True)
    kinds = [
        [each.macs for each in audit(attention, (x, x, x), measure=m, runs=1).layers] for m in (False, True)
    ]
    assert kinds[0] == kinds[1]


PRODUCTS = [
    (lambda a, b, c: torch.addmm(c, a, b), (3, 4), (4, 5), (3, 5), 60, 15),
    (lambda a, b, c: torch.addmm(c, a, b, beta=0), (3, 4), (4, 5), (3, 5), 60, 0),
    (lambda a, b, c: torch.baddbmm(c, a, b), (2, 3, 4), (2, 4, 5), (2, 3, 5), 120, 30),
    (lambda a, b, c: torch.addbmm(c, a, b), (2, 3, 4), (2, 4, 5), (3, 5), 120, 15),
    (lambda a, b, c: torch.addmv(c, a, b), (3, 4), (4,), (3,), 12, 3),
    (lambda a, b, c: a @ b, (7, 1, 3, 4), (2, 4, 5), (1,), 14 * 60, 0),
    (lambda a, b, c: torch.tensordot(a, b, 2), (3, 4, 5), (4, 5, 6), (1,), 3 * 20 * 6, 0),
    (lambda a, b, c: torch.dot(a, b), (9,), (9,), (1,), 9, 0),
    (lambda a, b, c: c.addmm_(a, b), (3, 4), (4, 5), (3, 5), 60, 15),
    (lambda a, b, c: torch.mm(a, b, out=c), (3, 4), (4, 5), (3, 5), 60, 0),
]


@pytest.mark.parametrize(("function", "a", "b", "c", "macs", "adds"), PRODUCTS)
def test_products_of_matrices(
    function: Callable[..., Tensor],
    a: tuple[int, ...],
    b: tuple[int, ...],
    c: tuple[int, ...],
    macs: int,
    adds: int,
) -> None:
    model = Calling(lambda self, *tensors: function(*tensors))
    found = audit(model, (torch.ones(a), torch.ones(b), torch.ones(c)))
    assert "fake" in found.remark.partition("because")[0]
    assert (found.macs, found.flops, found.params) == (macs, 2 * macs + adds, 0)
    assert set(found.macs_by_kind) == {"matmul"}


def test_what_no_rule_covers_is_named() -> None:
    a = audit(nn.Bilinear(4, 5, 6), (torch.zeros(2, 4), torch.zeros(2, 5)))
    assert a.uncounted == ("aten._trilinear",)
    assert "NOT counted, and may multiply: aten._trilinear" in str(a)


# --- nothing is left behind -----------------------------------------------------------------------------


class Writing(nn.Module):
    """A model that writes wherever it can."""

    def __init__(self, fail: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.5)
        self.register_buffer("steps", torch.zeros(()))
        self.plain = torch.zeros(2)
        self.seen: list[Tensor] = []
        self.fail = fail

    def forward(self, x: Tensor) -> Tensor:
        self.steps += 1
        self.plain.add_(1)
        self.last = self.drop(self.norm(self.conv(x)))
        self.seen.append(self.last)
        self.norm.extra = torch.rand(3)
        if self.fail:
            raise ArithmeticError("this model always fails")
        return self.last


@pytest.mark.parametrize("fail", [False, True], ids=["runs", "fails"])
@pytest.mark.parametrize("measure", [False, True], ids=["fake", "real"])
def test_the_model_is_left_as_it_was(measure: bool, fail: bool) -> None:
    model = Writing(fail).train()
    model.drop.eval()
    hook = model.conv.register_forward_hook(lambda *_: None)
    before, attributes = state(model), {name: copy.copy(vars(each)) for name, each in model.named_modules()}
    holders = [id(each) for module in model.modules() for each in vars(module).values()]
    x, seed = torch.ones(2, 3, 8, 8), torch.get_rng_state()
    if fail:
        with pytest.raises(ValueError, match="this model always fails") as caught:
            audit(model, x, measure=measure, runs=2)
        assert isinstance(caught.value.__cause__, ArithmeticError)
    else:
        assert audit(model, x, measure=measure, runs=2).macs == 2 * 36 * 108
    assert {name: vars(each).keys() for name, each in model.named_modules()} == {
        name: each.keys() for name, each in attributes.items()
    }
    assert holders == [id(each) for module in model.modules() for each in vars(module).values()]
    assert [module.training for module in model.modules()] == [True, True, True, False]
    assert len(model.conv._forward_hooks) == 1
    assert not model.norm._forward_hooks
    assert not model.norm._forward_pre_hooks
    assert model.seen == []
    assert torch.equal(model.plain, torch.zeros(2))
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert torch.equal(x, torch.ones(2, 3, 8, 8))
    assert torch.equal(torch.get_rng_state(), seed)
    assert torch.is_grad_enabled()
    hook.remove()


def test_the_model_trains_after_an_audit() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.LSTM(6, 5))
    model[2] = nn.Flatten()
    audit(model, (2, 3, 8, 8), measure=True, runs=1)
    model(torch.ones(2, 3, 8, 8)).sum().backward()
    assert model[0].weight.grad is not None


# --- ways to run ------------------------------------------------------------------------------------------


def test_examples() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 2, dtype=torch.float64)

        def forward(self, x: Tensor, scale: Tensor | None = None, times: int = 1) -> Tensor:
            return self.linear(x).repeat(1, times) if scale is None else self.linear(x * scale)

    model, x = Two(), torch.zeros(3, 4, dtype=torch.float64)
    for example in (x, (x,), [x], {"x": x}, (x, x), {"x": x, "scale": x}, (3, 4), [3, 4], x.shape):
        a = audit(model, example)
        assert a.macs == 3 * 8
        assert a.layers[0].dtype == "float64"
    assert audit(model, {"x": x, "times": 3}).example == "x=(3, 4) float64, times=3"
    assert audit(on_meta(Two), x).macs == 24


def test_large_models_take_no_memory() -> None:
    model = on_meta(nn.Linear, 10**7, 10**7)
    assert audit(model, (10**6, 10**7)).macs == 10**20


def test_real_tensors_where_fake_ones_do_not_do() -> None:
    model = Calling(
        lambda self, x: self.a(x) if float(x.sum()) > 0 else self.b(x), a=nn.Linear(3, 4), b=nn.Linear(3, 5)
    )
    a = audit(model, torch.ones(2, 3))
    assert [layer.name for layer in a.layers] == ["a"]
    assert re.match(r"run on real tensors, because fake ones failed \(DataDependent\w+: ", a.remark)
    packed = audit(nn.GRU(8, 6), (pack_sequence([torch.ones(5, 8), torch.ones(3, 8)]),))
    assert packed.macs == 8 * 18 * 14


@pytest.mark.parametrize("measure", [False, True], ids=["fake", "real"])
def test_the_surrounding_modes_do_not_matter(measure: bool) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1))
    for mode in (torch.inference_mode(), torch.no_grad(), torch.autocast("cpu"), torch.device("meta")):
        with mode:
            a = audit(model, torch.ones(1, 3, 8, 8, device="cpu"), measure=measure, runs=1)
        assert [(layer.macs, layer.params) for layer in a.layers] == [(36 * 108, 112), (36 * 16, 20)]
        assert {layer.dtype for layer in a.layers} == {
            "bfloat16" if isinstance(mode, torch.autocast) else "float32"
        }


def test_a_forward_that_takes_derivatives() -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        with torch.enable_grad():
            x = x.detach().requires_grad_(True)
            return torch.autograd.grad(self.linear(x).sum(), x)[0]

    a = audit(Calling(forward, linear=nn.Linear(3, 4)), torch.ones(2, 3))
    assert [(layer.macs, layer.kind) for layer in a.layers] == [(24, "linear"), (24, "linear")]
    assert "autograd" in a.remark


def test_measuring_has_a_time_for_each_layer() -> None:
    a = audit(models.mobilenet_v1(0.25), image(64), measure=True, runs=2)
    classifier = 256_000  # the rest has as many MACs as there are pixels
    assert a.macs == (41_030_272 - classifier) * 64**2 // 224**2 + classifier
    times = [layer.measured_ms for layer in a.layers]
    assert len(times) == 28
    assert all(time is not None and time > 0 for time in times)
    assert a.measured_ms is not None
    assert a.measured_ms > 0


def test_a_roofline_is_the_longer_of_computing_and_moving() -> None:
    a = audit(nn.Sequential(nn.Conv2d(32, 64, 3), nn.Conv2d(64, 64, 3, groups=64)).double(), (1, 32, 20, 20))
    assert a.machine is not None
    for layer in a.layers:
        moving = layer.bytes / a.machine.bandwidth
        computing = 2 * 2 * layer.macs / a.machine.peak_flops  # float64 has half of float32's lanes
        assert layer.roofline_ms == pytest.approx(1e3 * max(moving, computing))
    half = audit(nn.Linear(3, 4, dtype=torch.bfloat16), (2, 3))
    assert half.layers[0].roofline_ms is None
    assert audit(on_meta(nn.Linear, 3, 4), (2, 3)).machine is None


# --- errors ---------------------------------------------------------------------------------------------


def test_errors() -> None:
    linear = nn.Linear(3, 4)
    with pytest.raises(TypeError, match=r"`model` is a function; expected a torch.nn.Module"):
        audit(F.relu, (1, 3))
    with pytest.raises(TypeError, match=r"`model` is the class Linear; pass an instance: Linear\(...\)."):
        audit(nn.Linear, (1, 3))
    with pytest.raises(TypeError, match=r"`example` is a str; expected a tensor, a tuple of arguments"):
        audit(linear, "photo.png")
    with pytest.raises(ValueError, match=r"`example=\(-1, 3\)` is no shape"):
        audit(linear, (-1, 3))
    with pytest.raises(ValueError, match=r"`runs=0` is too small"):
        audit(linear, (1, 3), runs=0)
    with pytest.raises(ValueError, match=r"`weight`, which has no shape yet .*; run the model once first"):
        audit(nn.LazyLinear(4), (1, 3))
    with pytest.raises(ValueError, match=r"meta device and holds no numbers"):
        audit(on_meta(nn.Linear, 3, 4), (1, 3), measure=True)
    with pytest.raises(
        ValueError,
        match=r"`model` \(Linear\) does not run on `example` \(\(2, 5\) float32\): RuntimeError: mat1",
    ) as caught:
        audit(linear, (2, 5))
    assert isinstance(caught.value.__cause__, RuntimeError)
    with pytest.raises(ValueError, match="takes 2 positional arguments but 3 were given"):
        audit(linear, (torch.ones(3), torch.ones(3)))


def test_a_model_without_layers_is_no_error(tmp_path: Path) -> None:
    a = audit(nn.Sequential(nn.ReLU(), nn.BatchNorm1d(3)), (2, 3))
    assert (a.macs, a.flops, a.bytes, a.params, a.layers) == (0, 0, 0, 6, ())
    assert "no layer multiplies" in str(a)
    a.to_html(tmp_path / "page.html")
    assert "no layer multiplies" in (tmp_path / "page.html").read_text(encoding="utf-8")


# --- reports --------------------------------------------------------------------------------------------


def test_the_table_is_read_by_people() -> None:
    conv = nn.Conv2d(3, 8, 3, padding=1)
    model = Calling(
        lambda self, x: F.linear(self.conv(x).mean((2, 3)), self.w), conv=nn.Sequential(conv), w=weight(2, 8)
    )
    lines = str(audit(model, (1, 3, 10, 10))).splitlines()
    assert lines[0] == "Calling on (1, 3, 10, 10) float32"
    assert lines[1].startswith("21,616 MACs; 44,032 FLOPs; 240 parameters; 5,400 bytes moved")
    heading = next(line for line in lines if line.startswith("layer "))
    assert "calls" not in heading  # nothing is called twice
    assert "measured" not in heading
    rows = [line.split() for line in lines if re.match(r"conv\.0|\(model\)", line)]
    assert rows[0][:6] == ["conv.0", "conv", "3x3", "1x3x10x10", "1x8x10x10", "21,600"]
    assert rows[1][:6] == ["(model)", "[w]", "linear", "1x8", "1x2", "16"]
    assert repr(audit(conv, (1, 3, 10, 10))) == "<Audit of Conv2d: 21600 MACs, 224 parameters, 1 layers>"


def test_json_holds_everything() -> None:
    a = audit(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, groups=8)), (1, 3, 10, 10))
    told = json.loads(a.to_json())
    assert {key: told[key] for key in ("macs", "flops", "params", "bytes")} == {
        "macs": a.macs,
        "flops": a.flops,
        "params": a.params,
        "bytes": a.bytes,
    }
    assert told["macs_by_kind"] == a.macs_by_kind
    assert [layer["kernel"] for layer in told["layers"]] == [[3, 3], [3, 3]]
    assert told["layers"][1]["kind"] == "depthwise"


def test_the_page_is_written(tmp_path: Path) -> None:
    class Odd(nn.Sequential):
        pass

    Odd.__name__ = "<b>&Odd</b>"
    model = Odd(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, groups=8))
    a = audit(model, (1, 3, 10, 10), measure=True, runs=1)
    path = tmp_path / "audit.html"
    path.write_text("old", encoding="utf-8")
    a.to_html(path)
    text = path.read_text(encoding="utf-8")
    assert "&lt;b&gt;&amp;Odd&lt;/b&gt;" in text
    assert "<b>" not in text.partition("<script")[0]
    assert all(f'<button type="button">{layer.name}</button>' in text for layer in a.layers)
    assert '"measured ms":' in text


# --- separability ---------------------------------------------------------------------------------------


def test_separability_is_that_of_the_weights() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=2, padding=1),
        nn.Conv2d(16, 16, 3, dilation=2, groups=2),
        nn.Conv2d(16, 16, 3, groups=16),
        nn.Conv2d(16, 12, 1),
        nn.Flatten(),
        nn.Linear(12 * 16, 4),
    ).double()
    a = audit(model, (2, 3, 20, 20))
    assert [each.name for each in a.separability] == ["0", "1", "3"]
    for each, layer in zip(a.separability, (a.layers[0], a.layers[1], a.layers[3]), strict=True):
        assert each.macs == layer.macs
        conv = model.get_submodule(each.name)
        weights = conv.weight.detach().numpy()
        padding = ((conv.padding[0],) * 2,) * 2
        wanted = separability(
            ConvLayer(each.name, weights, None, conv.stride, padding, conv.dilation, conv.groups,
                      sizes=layer.inputs[0][2:], calls=2)
        )  # fmt: skip
        assert each == wanted
    assert a.frontier[-1] == (a.macs, 0.0)
    told = json.loads(a.to_json())
    assert told["separability"][0]["errors"]["dw-pw"] == list(a.separability[0].errors["dw-pw"])
    assert told["frontier"][-1] == [a.macs, 0.0]
    assert "of the MACs are in layers with cheaper forms" in str(a)


def test_separability_of_a_module_on_several_sizes_is_one() -> None:
    conv = nn.Conv2d(4, 4, 3, padding=1)
    a = audit(nn.Sequential(conv, conv, nn.MaxPool2d(2), conv), (1, 4, 8, 8))
    (found,) = a.separability
    assert (found.name, found.macs) == ("0", a.macs)


@pytest.mark.parametrize("training", [False, True])
def test_separability_of_computed_weights(training: bool) -> None:
    conv = parametrizations.spectral_norm(nn.Conv2d(4, 6, 3)).train(training)
    before = state(conv)
    (found,) = audit(conv, (1, 4, 8, 8)).separability
    for name, tensor in conv.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    weights = conv.eval().weight.detach().double().numpy()
    wanted = separability(ConvLayer("", weights, sizes=(8, 8)))
    assert wanted is not None
    for form, errors in wanted.errors.items():
        assert found.errors[form] == pytest.approx(errors)


def test_what_is_not_judged_and_what_is_not_converted() -> None:
    model = Calling(
        lambda self, x: self.up(F.conv2d(self.zero(self.nan(x)), self.w)),
        up=nn.ConvTranspose2d(5, 3, 2),
        zero=nn.Conv2d(4, 4, 3),
        nan=nn.Conv2d(3, 4, 3),
        w=weight(5, 4, 3, 3),
    )
    nn.init.zeros_(model.zero.weight)
    nn.init.constant_(model.nan.weight, math.nan)
    a = audit(model, (1, 3, 12, 12))
    assert [each.name for each in a.separability] == ["(model) [w]", "up"]
    assert [(each.name, each.reason.partition(":")[0]) for each in a.refused] == [
        ("(model) [w]", "called as a function"),
    ]
    assert "not convertible: conv2d `(model) [w]`: called as a function" in str(a)
    called = audit(Calling(lambda self, x: F.conv_transpose2d(x, self.w), w=weight(3, 4, 2, 2)), (1, 3, 5, 5))
    assert (called.separability, [each.name for each in called.refused]) == ((), ["(model) [w]"])
    assert audit(on_meta(nn.Conv2d, 3, 4, 3), (1, 3, 8, 8)).separability == ()


def test_half_precision_has_a_separability() -> None:
    conv = nn.Conv2d(4, 6, 3)
    (whole,) = audit(conv, (1, 4, 8, 8)).separability
    (half,) = audit(conv.half(), (1, 4, 8, 8)).separability
    assert half.errors["dw-pw"] == pytest.approx(whole.errors["dw-pw"], abs=1e-2)
