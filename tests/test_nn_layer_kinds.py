"""Transposed and linear layers and what reads them, converted: exact at full rank, and from data."""

from __future__ import annotations

import copy
import io
import warnings

import numpy as np
import pytest

import separable as sp
from separable.conv import Activation
from separable.conv.forms.table import CHEAPER

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from separable.nn.conversion.kinds import outputs_first  # noqa: E402
from separable.nn.conversion.trace import trace  # noqa: E402
from separable.nn.model.activations import activation_in  # noqa: E402
from separable.nn.model.model_copy import prepared  # noqa: E402
from tests.small_networks import lived_in  # noqa: E402


def forms_of(result) -> dict[str, str]:
    return {row.name: row.form for row in result.report.layers}


def reasons(result) -> dict[str, str]:
    return {row.name: row.reason for row in result.report.layers}


def distance(model, other, x) -> float:
    with torch.no_grad():
        return float((model(x) - other(x)).abs().max())


class Tokens(nn.Module):
    """Linear layers over an axis of positions, one of them with a branch beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = (
            nn.Linear(12, 20),
            nn.Linear(20, 12, bias=False),
            nn.Linear(12, 5),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head((x + self.second(F.gelu(self.first(x)))).mean(1))


TRANSPOSED = [
    (nn.ConvTranspose1d(6, 8, 4, 2, 1), (6, 9)),
    (nn.ConvTranspose1d(6, 8, 3, 3, 1, output_padding=2, groups=2, dilation=2), (6, 7)),
    (nn.ConvTranspose2d(6, 8, 2, 2), (6, 5, 6)),
    (nn.ConvTranspose2d(6, 4, 3, 2, 1, output_padding=1, bias=False), (6, 5, 6)),
    (nn.ConvTranspose2d(6, 9, (3, 1), (1, 2), (0, 0), groups=3), (6, 5, 6)),
    (nn.ConvTranspose3d(4, 6, 2, 2), (4, 3, 4, 3)),
]


@pytest.mark.parametrize("form", CHEAPER)
@pytest.mark.parametrize("place", range(len(TRANSPOSED)))
def test_a_transposed_layer_at_full_rank_says_the_same(place, form):
    layer, shape = TRANSPOSED[place]
    model = nn.Sequential(copy.deepcopy(layer), nn.ReLU()).double().eval()
    x = torch.randn(8, *shape, dtype=torch.float64)
    result = sp.nn.separate(model, x, rank="full", forms=[form])
    assert distance(result.model, model, x) < 1e-10
    assert result.report.macs_before == sp.nn.audit(model, x[:1]).macs
    assert result.report.macs_after == sp.nn.audit(result.model, x[:1]).macs
    if forms_of(result)["0"] != "dense":
        assert type(result.model[0]) is not type(layer)
    pair = isinstance(result.model[0], sp.nn.DepthwiseSeparableConvTranspose2d)
    assert pair == (form in ("dw-pw", "pw-dw") and len(shape) == 3)


@pytest.mark.parametrize("groups", [1, 3])
def test_a_norm_behind_a_transposed_layer_is_folded(groups):
    layers = [nn.ConvTranspose2d(6, 9, 3, 2, 1, groups=groups), nn.BatchNorm2d(9), nn.ReLU()]
    model = lived_in(nn.Sequential(*layers)).double().eval()
    x = torch.randn(8, 6, 5, 5, dtype=torch.float64)
    for keep in (False, True):
        result = sp.nn.separate(model, x, rank="full", forms=["low-rank"], keep_norms=keep)
        assert distance(result.model, model, x) < 1e-10
        assert isinstance(result.model[1], nn.BatchNorm2d if keep else nn.Identity)
    weights = layers[0].weight
    assert torch.equal(outputs_first(outputs_first(weights, layers[0]), layers[0]), weights)


@pytest.mark.parametrize("shape", [(8, 7), (8, 5, 7), (8, 2, 3, 7)])
def test_a_linear_layer_at_full_rank_says_the_same(shape):
    model = nn.Sequential(nn.Linear(7, 6), nn.ReLU(), nn.Linear(6, 4, bias=False)).double().eval()
    x = torch.randn(*shape, dtype=torch.float64)
    result = sp.nn.separate(model, x, rank="full", forms=["low-rank"])
    assert forms_of(result) == {"0": "low-rank", "2": "low-rank"}
    assert distance(result.model, model, x) < 1e-12
    assert [type(part) for part in result.model[0]] == [nn.Linear, nn.Linear]
    assert (result.model[0].in_features, result.model[0].out_features) == (7, 6)
    assert result.report.macs_before == sp.nn.audit(model, x[:1]).macs
    assert result.report.macs_after == sp.nn.audit(result.model, x[:1]).macs


def test_a_norm_behind_a_linear_layer_is_folded_where_it_is_of_its_channels():
    flat = lived_in(nn.Sequential(nn.Linear(7, 6), nn.BatchNorm1d(6))).double().eval()
    x = torch.randn(16, 7, dtype=torch.float64)
    result = sp.nn.separate(flat, x, rank="full", forms=["low-rank"])
    assert isinstance(result.model[1], nn.Identity)
    assert distance(result.model, flat, x) < 1e-12
    square = lived_in(nn.Sequential(nn.Linear(7, 6), nn.BatchNorm1d(6))).double().eval()
    x = torch.randn(16, 6, 7, dtype=torch.float64)  # axis 1, of the norm, is that of positions
    result = sp.nn.separate(square, x, rank="full", forms=["low-rank"])
    assert isinstance(result.model[1], nn.BatchNorm1d)
    assert distance(result.model, square, x) < 1e-12


def low_rank_inputs(count: int, channels: int, rank: int, *sizes: int) -> torch.Tensor:
    basis = torch.randn(channels, rank, dtype=torch.float64)
    code = torch.randn(count, rank, *sizes, dtype=torch.float64)
    x = torch.einsum("cr,nr...->nc...", basis, code)
    return (x + 0.05 * torch.randn(count, channels, *sizes, dtype=torch.float64)).float()


@pytest.mark.parametrize("kind", ["linear", "tokens", "1x1", "transposed"])
def test_a_low_rank_fit_sees_what_the_layer_reads(kind):
    """Inputs of rank 4: a split of rank 4 made by weights alone errs, one that knows the inputs does not."""
    torch.manual_seed(0)
    layer, x = {
        "linear": (nn.Linear(24, 20), low_rank_inputs(256, 24, 4)),
        "tokens": (nn.Linear(24, 20), low_rank_inputs(64, 24, 4, 6).movedim(1, -1)),
        "1x1": (nn.Conv2d(24, 20, 1), low_rank_inputs(32, 24, 4, 6, 5)),
        "transposed": (nn.ConvTranspose2d(24, 20, 2, 2), low_rank_inputs(32, 24, 4, 6, 5)),
    }[kind]
    model = nn.Sequential(layer).eval()
    result = sp.nn.separate(model, x, 0.4, by="macs", forms=["low-rank"])
    assert forms_of(result) == {"0": "low-rank"}
    assert result.report.output_change < 0.01
    weights = outputs_first(layer.weight.detach(), layer).flatten(1)
    by_input = weights if kind != "transposed" else layer.weight.detach().flatten(1)
    values = torch.linalg.svdvals(by_input)
    assert float(values[4:].square().sum() / values.square().sum()) > 0.3  # what weights alone would lose


@pytest.mark.parametrize("memory", [0, 1 << 30])
def test_a_network_of_linear_layers(memory):
    torch.manual_seed(1)
    model = Tokens().eval()
    x = low_rank_inputs(64, 12, 4, 9).movedim(1, -1).contiguous()
    result = sp.nn.separate(model, x, 0.6, by="macs", memory=memory)
    assert result.report.macs_after <= 0.6 * result.report.macs_before
    assert result.report.macs_after == sp.nn.audit(result.model, x[:1]).macs
    assert result.report.output_change < 0.05
    rows = {row.name: row.activation for row in result.report.layers}
    assert rows == {"first": "gelu", "second": "none: mean", "head": ""}


def test_the_result_is_saved_exported_and_run(tmp_path):
    torch.manual_seed(2)
    model = nn.Sequential(
        nn.ConvTranspose2d(8, 6, 2, 2), nn.SiLU(), nn.Conv2d(6, 6, 1), nn.Flatten(), nn.Linear(600, 10)
    ).eval()
    x = low_rank_inputs(24, 8, 3, 5, 5)
    done = sp.nn.separate(model, x, 0.7, by="macs").model
    buffer = io.BytesIO()
    torch.save(done.state_dict(), buffer)
    buffer.seek(0)
    other = copy.deepcopy(done)
    for parameter in other.parameters():
        nn.init.zeros_(parameter)
    other.load_state_dict(torch.load(buffer))
    assert distance(other, done, x) == 0
    assert distance(torch.export.export(done, (x,)).module(), done, x) < 1e-5
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(done, (x,), tmp_path / "net.onnx", dynamo=True, verbose=False)
    session = runtime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    np.testing.assert_allclose(got, done(x).detach().numpy(), atol=1e-4)


class Untreated(nn.Module):
    """Linear layers of every kind that stays."""

    def __init__(self) -> None:
        super().__init__()
        self.plain, self.tied, self.twin = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.twin.weight = self.tied.weight
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.words, self.back = nn.Embedding(30, 8), nn.Linear(8, 30, bias=False)
        self.back.weight = self.words.weight
        self.free = nn.Parameter(torch.randn(8, 8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.twin(self.tied(self.plain(x) + self.words(torch.arange(5))))
        x = self.attention(x, x, x, need_weights=False)[0]
        return self.back(F.linear(x, self.free))


def test_linear_layers_that_stay_are_named():
    torch.manual_seed(3)
    model, x = Untreated().eval(), torch.randn(16, 5, 8)
    result = sp.nn.separate(model, x, 0.8, by="macs")
    said = reasons(result)
    assert said["tied"] == "it shares its weight with twin"
    assert said["twin"] == "it shares its weight with tied"
    assert "attention" in said["attention.out_proj"]
    assert "words" in said["back"]
    # What cannot be converted is no part of the budget, where it is no convolution; it counts all the same.
    assert result.report.macs_before == sp.nn.audit(model, x[:1]).macs
    with pytest.raises(ValueError, match="plain: linear, and `rank` is a depth multiplier"):
        sp.nn.separate(model, x, rank=2)
    assert forms_of(sp.nn.separate(model, x, rank=2, forms=["low-rank"]))["plain"] == "low-rank"


class Gated(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.sigmoid(x)


class Called(nn.Module):
    """A function as a module."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


def prelu(count: int) -> nn.Module:
    layer = nn.PReLU(count)
    nn.init.uniform_(layer.weight, 0.1, 0.3)
    return layer


MODULES = {
    "relu": (nn.ReLU(), Activation("relu")),
    "in place": (nn.ReLU(inplace=True), Activation("relu")),
    "relu6": (nn.ReLU6(), Activation("clip", (0, 6))),
    "hardtanh": (nn.Hardtanh(-2, 1), Activation("clip", (-2, 1))),
    "clamp": (Called(lambda x: x.clamp(min=0)), Activation("relu")),
    "clamp both": (Called(lambda x: torch.clamp(x, -1, 2)), Activation("clip", (-1, 2))),
    "leaky": (nn.LeakyReLU(0.2), Activation("leaky_relu", (0.2,))),
    "elu": (nn.ELU(0.5), Activation("elu", (0.5,))),
    "silu": (nn.SiLU(), Activation("silu")),
    "silu by hand": (Gated(), Activation("silu")),
    "hard swish": (nn.Hardswish(), Activation("hard_swish")),
    "gelu": (nn.GELU(), Activation("gelu")),
    "gelu tanh": (Called(lambda x: F.gelu(x, approximate="tanh")), Activation("gelu_tanh")),
    "sigmoid": (nn.Sigmoid(), Activation("sigmoid")),
    "hard sigmoid": (nn.Hardsigmoid(), Activation("hard_sigmoid", (1 / 6, 0.5))),
    "tanh": (nn.Tanh(), Activation("tanh")),
    "selu": (nn.SELU(), None),
    "mish": (nn.Mish(), None),
    "gate of another": (Called(lambda x: torch.sigmoid(x) * x.flip(1)), None),
}


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("layer", [nn.Conv2d(6, 6, 3), nn.Linear(8, 8), nn.ConvTranspose2d(6, 6, 2)])
def test_activations_are_known(layer, name):
    module, expected = MODULES[name]
    (seen,) = trace(prepared(nn.Sequential(layer, module)), ((torch.randn(2, 6, 8, 8),), {})).convs
    assert seen.activation == expected
    assert bool(seen.read_by) == (expected is None)
    model = prepared(nn.Sequential(layer, nn.Identity(), module, nn.Identity()))
    assert trace(model, ((torch.randn(2, 6, 8, 8),), {})).convs[0].activation == expected


@pytest.mark.parametrize("count", [1, 6])
def test_slopes_of_a_prelu_are_its_own(count):
    module = prelu(count)
    (seen,) = trace(
        prepared(nn.Sequential(nn.Conv2d(3, 6, 3), module)), ((torch.randn(2, 3, 8, 8),), {})
    ).convs
    assert seen.activation.name == "leaky_relu"
    np.testing.assert_allclose(seen.activation.parameters, module.weight.detach().numpy(), rtol=1e-6)


class Branches(nn.Module):
    """One convolution read by an activation and more, one in a sum behind which one stands."""

    def __init__(self) -> None:
        super().__init__()
        self.twice, self.summed, self.other = (nn.Conv2d(6, 6, 3, padding=1) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.twice(x)
        y = F.silu(y) + y.mean()
        return F.hardswish(self.summed(y) + y) + F.relu(self.other(x)) + F.relu6(self.other(y))


def test_an_activation_counts_where_it_alone_reads():
    seen = {conv.name: conv for conv in trace(prepared(Branches()), ((torch.randn(2, 6, 8, 8),), {})).convs}
    assert seen["twice"].activation is None
    assert seen["twice"].read_by == "mean, silu"
    assert seen["summed"].is_summed
    assert seen["summed"].activation == Activation("hard_swish")
    assert seen["other"].activation is None
    samples = sp.nn.separate(Branches().eval(), torch.randn(16, 6, 8, 8), 0.6, by="macs").report.layers
    assert {row.name: row.activation for row in samples} == {
        "twice": "none: mean, silu",
        "summed": "hard_swish",
        "other": "none: hardtanh, relu",
    }


def test_what_a_fit_gains_by_knowing_the_activation():
    """The same network with a SiLU that is seen, and with one that hides behind a product."""
    torch.manual_seed(5)
    convs = nn.Conv2d(6, 12, 3, padding=1), nn.Conv2d(12, 12, 3, padding=1)
    with torch.no_grad():
        for conv in convs:
            conv.weight *= 3
    x = F.avg_pool2d(torch.randn(64, 6, 18, 18), 3, 1)
    changes = []
    for act in (nn.SiLU(), Called(lambda y: y * torch.sigmoid(y * 1.0))):
        model = nn.Sequential(convs[0], nn.ReLU(), convs[1], act).eval()
        result = sp.nn.separate(model, x, rank=1, forms=["dw-pw"])
        changes.append(result.report.output_change)
    assert changes[0] < 0.98 * changes[1]


def test_an_operator_without_a_rule_is_no_activation():
    overload = torch.ops.aten.softplus.default
    assert activation_in(overload, (torch.ones(2),), {}, lambda tensor: None) is None
    ends = (torch.ones(2), torch.zeros(2), None)
    assert activation_in(torch.ops.aten.clamp.Tensor, ends, {}, lambda tensor: None) is None


def test_a_weight_norm_on_any_kind_of_layer_is_taken_off():
    from torch.nn.utils import parametrizations

    def dressed(layer):
        return parametrizations.weight_norm(layer)

    model = nn.Sequential(
        dressed(nn.ConvTranspose1d(6, 8, 4, 2, 1)), nn.ELU(), nn.Flatten(), dressed(nn.Linear(144, 5))
    ).double()
    x = torch.randn(8, 6, 9, dtype=torch.float64)
    result = sp.nn.separate(model.eval(), x, rank="full", forms=["low-rank"])
    assert set(forms_of(result).values()) == {"low-rank"}
    assert distance(result.model, model, x) < 1e-10
