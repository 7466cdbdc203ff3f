"""Conversion of models: exact at full rank for every build, the model untouched, the budget kept."""

from __future__ import annotations

import copy
import io
import json
import math
import pickle
import warnings

import numpy as np
import pytest

import separable as sp
from separable.conv import Activation
from separable.conv.conversion.fit import fit
from separable.conv.forms.layer import Replacement
from separable.conv.forms.table import FORMS

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402
from torch.nn.utils import parametrizations, prune  # noqa: E402
from torch.utils.data import DataLoader, TensorDataset  # noqa: E402

from separable.nn.conversion.calibration import TorchCalibration  # noqa: E402
from separable.nn.conversion.fold_norms import fold_norms  # noqa: E402
from separable.nn.conversion.network import TorchNetwork  # noqa: E402
from separable.nn.conversion.rewrite import module_for  # noqa: E402
from separable.nn.conversion.separate import Assembly  # noqa: E402
from separable.nn.conversion.trace import trace  # noqa: E402
from separable.nn.model.model_copy import prepared  # noqa: E402
from separable.nn.model.outcomes import floats_of  # noqa: E402
from separable.report.progress import shown  # noqa: E402
from tests.small_networks import built, lived_in, step, vgg  # noqa: E402

# torch's own word on one of the cases: SAME padding of an even kernel costs it a copy.
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")

PAIRED = [form for form in FORMS if form != "dense"]
BIG = 1 << 30


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def answers(model, x):
    with torch.no_grad():
        return floats_of(model(x))


def distance(got, wanted):
    """Return the relative Euclidean distance of outputs, the worst of them."""
    pairs = zip(got, wanted, strict=True)
    return max(float((a - b).double().norm() / b.double().norm()) for a, b in pairs)


def network_of(model, x, memory=BIG, **options):
    """Return a model as the conversion sees it, its trace and its folded norms."""
    work = prepared(model)
    call = ((x[:1],), {})
    folds = fold_norms(work, trace(work, call))
    seen = trace(work, call)
    return (
        TorchNetwork(work, seen, TorchCalibration(work, options.get("data", x), memory), memory),
        seen,
        folds,
    )


def replaced_by(network: TorchNetwork, form: str) -> dict[int, Replacement]:
    """Return every layer that has the form, in it, exactly."""
    ranks = {place: FORMS[form].full_rank(layer) for place, layer in enumerate(network.layers)}
    return {place: fit(network.layers[place], None, form, rank) for place, rank in ranks.items() if rank}


def convs_of(model: nn.Module) -> dict[str, nn.Module]:
    kinds = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
    return {name: module for name, module in model.named_modules() if isinstance(module, kinds)}


def reasons(result) -> dict[str, str]:
    return {row.name: row.reason for row in result.report.layers}


# -- exact at full rank ------------------------------------------------------------------------------


def test_a_norm_that_silences_a_channel_is_kept():
    model = lived_in(nn.Sequential(*step(3, 8), *step(8, 6))).eval()
    with torch.no_grad():
        model[4].weight[2] = 0.0
    x = torch.randn(4, 3, 9, 9)
    network, seen, folds = network_of(model, x)
    names = tuple(conv.name for conv in seen.convs)
    assembly = Assembly(prepared(model), names, {fold.conv: fold for fold in folds}, {})
    converted = assembly.model(replaced_by(network, "dw-pw"))
    assert distance(answers(converted, x), answers(model, x)) < 1e-4


def test_forms_become_the_layers_of_this_package():
    conv = nn.Conv2d(8, 8, 3, padding=1)
    layer = network_of(nn.Sequential(conv), torch.randn(2, 8, 9, 9))[0].layers[0]
    kinds = {form: type(module_for(fit(layer, None, form, 2), conv)).__name__ for form in PAIRED}
    assert kinds == {
        "dw-pw": "DepthwiseSeparableConv2d",
        "pw-dw": "DepthwiseSeparableConv2d",
        "spatial": "SpatiallySeparableConv2d",
        "low-rank": "Sequential",
    }


# -- what the conversion sees ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["resnet", "unet", "atrous", "densenet"])
def test_folding_is_exact(name):
    model, x = built(name)
    model, x = model.double(), x.double()
    network, _, folds = network_of(model, x)
    assert distance(answers(network._model, x), answers(model, x)) < 1e-13
    behind = {"resnet": 7, "unet": 3, "atrous": 1, "densenet": 3}
    assert len(folds) == behind[name]


class NormAct(nn.BatchNorm2d):
    """A norm with its activation inside, as timm has."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.drop, self.act = nn.Identity(), nn.SiLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(self.drop(super().forward(x)))


class Doubling(NormAct):
    """One that does something else as well."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(x)


def test_norms_with_an_activation_inside():
    layers = [nn.Conv2d(3, 4, 3), NormAct(4), nn.Conv2d(4, 4, 3), Doubling(4)]
    model, x = lived_in(nn.Sequential(*layers)).eval(), torch.randn(2, 3, 9, 9)
    network, _, folds = network_of(model, x)
    assert [fold.norm for fold in folds] == ["1"]
    assert distance(answers(network._model, x), answers(model, x)) < 1e-6


class TwoReaders(nn.Module):
    """A convolution whose output is read before its norm as well, and one whose norm serves two."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.one, self.two, self.both = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        z = self.norm(y) + y
        return self.both(self.one(z)) + self.both(self.two(z))


def test_norms_that_others_need_are_not_folded():
    model, x = lived_in(TwoReaders()).eval(), torch.randn(2, 3, 8, 8)
    network, seen, folds = network_of(model, x)
    assert folds == ()
    assert [conv.name for conv in seen.convs] == ["conv", "one", "two"]
    assert distance(answers(network._model, x), answers(model, x)) == 0


def test_rectifiers_are_seen_only_where_they_alone_read_the_output():
    model, x = built("resnet")
    network = network_of(model, x)[0]
    layers = {layer.name: layer.activation for layer in network.layers}
    assert layers["0"] == layers["3.conv1"] == layers["4.conv1"] == Activation("relu")
    summed = {layer.name for layer in network.layers if layer.summed}
    assert summed == {"3.conv2", "3.downsample.0", "4.conv2", "4.downsample.0"}
    assert {layers[name] for name in summed} == {Activation("relu")}
    assert layers["7"] is None


def hooked(model: nn.Module, modules: list[nn.Module], batches: list[torch.Tensor]):
    """Return inputs and outputs of modules for each batch, by ordinary hooks."""
    seen: dict[int, list] = {id(module): [] for module in modules}
    handles = [
        module.register_forward_hook(lambda m, i, o: seen[id(m)].append((i[0].clone(), o.clone())))
        for module in modules
    ]
    for batch in batches:
        answers(model, batch)
    for handle in handles:
        handle.remove()
    return [seen[id(module)] for module in modules]


@pytest.mark.parametrize("memory", [0, 60_000, BIG])
@pytest.mark.parametrize("name", ["resnet", "unet", "densenet"])
def test_samples_are_what_hooks_see(name, memory):
    model, x = built(name)
    batches = list(x.split(3))
    network, seen, _ = network_of(model, x, memory, data=batches)
    before = hooked(network._model, [conv.module for conv in seen.convs], batches)
    replaced: dict[int, Replacement] = {}
    for place, layer in enumerate(network.layers):
        converted = converted_of(network, seen, replaced)
        (now,) = hooked(converted, [dict(converted.named_modules())[layer.name]], batches)
        pairs = list(network.samples(place, replaced))
        rows = np.arange(len(x)) % 8 != 7  # each eighth input is held out
        want_x = torch.cat([read for read, _ in now]).numpy()[rows]
        want_y = torch.cat([gave for _, gave in before[place]]).numpy()[rows]
        got_x, got_y = (np.concatenate(each) for each in list(zip(*pairs, strict=True))[:2])
        np.testing.assert_allclose(got_x.reshape(want_x.shape), want_x, atol=1e-5)
        if not seen.convs[place].is_summed:
            np.testing.assert_allclose(got_y.reshape(want_y.shape), want_y, atol=1e-5)
        if layer.taps > 1 and layer.groups == 1:
            replaced[place] = fit(layer, None, "dw-pw", 1)
    assert network.held_out == 1
    wanted, got = answers(model, x), answers(converted_of(network, seen, replaced), x)
    spreads = [float((b - b.mean(0)).square().sum()) / len(x) for b in wanted]
    changes = [float((a - b)[7:8].square().sum()) for a, b in zip(got, wanted, strict=True)]
    losses = [change / spread for change, spread in zip(changes, spreads, strict=True)]
    assert math.isclose(network.output_change(replaced), sum(losses) / len(losses), rel_tol=1e-3)


@pytest.mark.parametrize("memory", [0, BIG])
def test_branches_that_are_added_make_up_for_each_other(memory):
    model, x = built("resnet")
    network, seen, _ = network_of(model, x, memory)
    replaced = {place: fit(network.layers[place], None, "dw-pw", 1) for place in (0, 1)}
    converted = converted_of(network, seen, replaced)
    names = ["3.conv2", "3.downsample.0"]
    own, other = hooked(network._model, [dict(network._model.named_modules())[name] for name in names], [x])
    _, now = hooked(converted, [dict(converted.named_modules())[name] for name in names], [x])
    grown = now[0][1] - other[0][1]
    assert grown.abs().max() > 0.1
    place = [conv.name for conv in seen.convs].index("3.conv2")
    ((_, y, floor),) = network.samples(place, replaced)
    rows = np.arange(len(x)) % 8 != 7
    np.testing.assert_allclose(y, (own[0][1] - grown).numpy()[rows], atol=1e-5)
    np.testing.assert_allclose(floor, -now[0][1].numpy()[rows], atol=1e-5)
    unet = network_of(*built("unet"))[0]
    assert all(len(sample) == 2 for place in range(len(unet.layers)) for sample in unet.samples(place, {}))


def converted_of(network, seen, replaced) -> nn.Module:
    return Assembly(network.model, tuple(conv.name for conv in seen.convs), {}, {}).model(replaced)


def test_a_layer_that_overwrites_its_input_is_seen_before():
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Conv2d(4, 4, 3), nn.ReLU(inplace=True)
    ).eval()
    network, _, _ = network_of(model, torch.randn(5, 3, 9, 9))
    ((_, y),) = network.samples(0, {})
    ((x, _),) = network.samples(1, {})
    assert y.min() < 0
    np.testing.assert_array_equal(x, np.maximum(y, 0))


class Recurrent(nn.Module):
    """One convolution that is run three times, under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.again = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.same = self.again

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.first(x))
        for _ in range(2):
            y = y + F.relu(self.again(y))
        return self.same(y)


def test_a_shared_layer_is_converted_once():
    model, x = Recurrent().eval(), torch.randn(16, 3, 8, 8)
    network, _, _ = network_of(model, x)
    assert [layer.calls for layer in network.layers] == [1, 3]
    assert len(list(network.samples(1, {}))) == 3
    result = sp.nn.separate(model, x, 0.5, by="macs")
    assert type(result.model.again) is not nn.Conv2d
    assert result.model.same is result.model.again
    assert result.report.macs_before == sp.nn.audit(model, x[:1]).macs
    assert result.report.macs_after == sp.nn.audit(result.model, x[:1]).macs


def test_a_layer_on_several_sizes_counts_all_of_them():
    class Pyramid(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Conv2d(8, 8, 3, padding=1)

        def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
            return [self.head(x), self.head(F.avg_pool2d(x, 2))]

    model, x = Pyramid().eval(), torch.randn(8, 8, 8, 8)
    network, _, _ = network_of(model, x)
    assert {x.shape[2:] for x, _ in network.samples(0, {})} == {(8, 8), (4, 4)}
    assert sp.nn.separate(model, x, 0.5, by="macs").report.macs_after <= 0.5 * sp.nn.audit(model, x[:1]).macs


# -- models as they come -----------------------------------------------------------------------------


def all_of(model: nn.Module) -> dict[str, bytes]:
    """Return everything that a model holds, bit for bit."""
    held = {}
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        gradient = None if tensor.grad is None else tensor.grad.numpy().tobytes()
        held[name] = (tensor.detach().numpy().tobytes(), tensor.stride(), tensor.requires_grad, gradient)
    for name, module in model.named_modules():
        hooks = [*module._forward_hooks.values(), *module._forward_pre_hooks.values()]
        held[f"{name}."] = (type(module), module.training, list(map(id, hooks)), sorted(vars(module)))
    return held


@pytest.mark.parametrize("training", [False, True])
def test_the_model_is_left_as_it_was(training):
    model, x = built("resnet")
    model[2].register_buffer("steps", torch.ones(3), persistent=False)
    model[2].register_forward_hook(lambda *ignored: None)
    model[0].weight.requires_grad_(False)
    model.train()(x).sum().backward()
    model.train(training)
    model[3].bn1.eval()
    before, inputs, numbers = all_of(model), x.clone(), torch.get_rng_state()
    result = sp.nn.separate(model, x, rank=2, distill=1)
    assert all_of(model) == before
    assert torch.equal(x, inputs)
    assert torch.equal(torch.get_rng_state(), numbers)
    assert result.model.training == training
    assert {module.training for module in result.model[4].modules()} == {training}
    assert not result.model[3].bn1.training
    assert all(parameter.grad is None for parameter in result.model.parameters())
    assert len(result.model[2]._forward_hooks) == 1
    assert not any(parameter.requires_grad for parameter in result.model[0].parameters())
    assert all(parameter.requires_grad for parameter in result.model[3].parameters())


@pytest.mark.parametrize("padding", ["same", "valid", 2, (1, 2)])
@pytest.mark.parametrize("mode", ["zeros", "circular", "reflect", "replicate"])
def test_every_padding(mode, padding):
    conv = nn.Conv2d(3, 6, (4, 3), padding=padding, padding_mode=mode, dilation=(1, 2))
    model, x = nn.Sequential(conv, nn.ReLU(inplace=True)).eval(), torch.randn(2, 3, 9, 10)
    for form in PAIRED:
        done = sp.nn.separate(model, x, rank="full", forms=[form]).model
        assert type(done[0]) is not nn.Conv2d
        assert distance(answers(done, x), answers(model, x)) < 1e-5


def test_models_that_were_compiled_or_traced():
    model, x = built("resnet")
    wanted = answers(model, x)
    inner = nn.Sequential(*model[:3])
    for dressed in (
        torch.compile(model, backend="eager"),
        nn.Sequential(torch.compile(inner, backend="eager"), *model[3:]),
        torch.fx.symbolic_trace(model),
    ):
        result = sp.nn.separate(dressed, x, rank="full")
        assert all(row.form != "dense" for row in result.report.layers)
        assert not any(isinstance(module, torch._dynamo.OptimizedModule) for module in result.model.modules())
        assert distance(answers(result.model, x), wanted) < 1e-5


def test_layers_that_only_training_sees():
    layers = [nn.Conv2d(3, 8, 3), nn.Dropout2d(0.5), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Dropout(0.3)]
    model, x = nn.Sequential(*layers).train(), torch.randn(1, 3, 9, 9)
    done = sp.nn.separate(model, x, rank="full").model
    assert done.training
    assert distance(answers(done.eval(), x), answers(model.eval(), x)) < 1e-5


def test_norms_before_and_after_other_layers():
    layers = [nn.Linear(9, 9), nn.BatchNorm2d(3), nn.Conv2d(3, 8, 3), nn.ReLU(), nn.BatchNorm2d(8)]
    layers += [nn.Conv2d(8, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(100, 5)]
    model, x = lived_in(nn.Sequential(*layers)).eval(), torch.randn(4, 3, 9, 9)
    done = sp.nn.separate(model, x, rank="full").model
    assert [type(done[place]) for place in (1, 4, 6)] == [nn.BatchNorm2d, nn.BatchNorm2d, nn.Identity]
    assert distance(answers(done, x), answers(model, x)) < 1e-5


def test_the_result_compiles():
    model, x = built("vgg")
    done = sp.nn.separate(model, x, rank=2).model
    compiled = torch.compile(done, backend="aot_eager", fullgraph=True)
    assert distance(answers(compiled, x), answers(done, x)) < 1e-6


def test_the_result_is_a_plain_module(tmp_path):
    model, x = built("resnet")
    done = sp.nn.separate(model, x, 0.4, by="macs", forms=["dw-pw", "pw-dw"]).model
    assert any(isinstance(module, sp.nn.DepthwiseSeparableConv2d) for module in done.modules())
    wanted = answers(done, x)
    assert distance(answers(copy.deepcopy(done), x), wanted) == 0
    assert distance(answers(pickle.loads(pickle.dumps(done)), x), wanted) == 0
    buffer = io.BytesIO()
    torch.save(done.state_dict(), buffer)
    buffer.seek(0)
    other = copy.deepcopy(done)
    for parameter in other.parameters():
        nn.init.zeros_(parameter)
    other.load_state_dict(torch.load(buffer))
    assert distance(answers(other, x), wanted) == 0
    exported = torch.export.export(done, (x,)).module()
    assert distance(answers(exported, x), wanted) < 1e-5


def test_the_result_trains():
    model, x = built("vgg")
    done = sp.nn.separate(model.train(), x, rank=2, keep_norms=True).model
    assert all(parameter.requires_grad for parameter in done.parameters())
    optimiser = torch.optim.SGD(done.parameters(), 0.01)
    goal = torch.randn(8, 5)
    losses = []
    for _ in range(5):
        loss = F.mse_loss(done(x), goal)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert all(parameter.grad is not None for parameter in done.parameters())
    assert losses[-1] < losses[0]


def test_the_result_runs_in_onnx_runtime(tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model, x = built("vgg")
    done = sp.nn.separate(model, x, rank=2).model
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(done, (x,), tmp_path / "net.onnx", dynamo=True, verbose=False)
    session = runtime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    assert distance([torch.from_numpy(got)], answers(done, x)) < 1e-4


def weight_normed(conv: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return nn.utils.weight_norm(conv)


@pytest.mark.parametrize(
    "dress",
    [
        parametrizations.weight_norm,
        parametrizations.spectral_norm,
        weight_normed,
        nn.utils.spectral_norm,
        lambda conv: prune.random_unstructured(conv, "weight", amount=0.3),
    ],
)
def test_weights_that_are_computed_become_plain(dress):
    model = nn.Sequential(dress(nn.Conv2d(6, 8, 3)), nn.ReLU(), nn.Conv2d(8, 8, 3)).eval()
    x = torch.randn(8, 6, 9, 9)
    answers(model, x)  # leaves a computed weight behind, which deepcopy refuses
    network, seen, _ = network_of(model, x)
    assert [conv.name for conv in seen.convs] == ["0", "2"]
    assert distance(answers(network._model, x), answers(model, x)) < 1e-6
    done = sp.nn.separate(model, x, rank=2).model
    assert {name.rpartition(".")[2] for name in done.state_dict()} == {"weight", "bias"}
    answers(model, x)  # and the model still has what it computes its weights with


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtypes_are_kept(dtype):
    model, x = built("vgg")
    result = sp.nn.separate(model.to(dtype), x, rank=2)
    assert {parameter.dtype for parameter in result.model.parameters()} == {dtype}


def test_a_model_that_is_one_convolution():
    conv, x = nn.Conv2d(8, 16, 3).eval(), torch.randn(16, 8, 9, 9)
    result = sp.nn.separate(conv, x, 0.5, by="macs")
    assert not isinstance(result.model, nn.Conv2d)
    assert result.model(x).shape == (16, 16, 7, 7)


# -- what is refused ---------------------------------------------------------------------------------


class Own(nn.Conv2d):
    """A convolution with a forward of its own."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) * 2


class Assorted(nn.Module):
    """One convolution that can be converted, and one of every kind that cannot."""

    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.Conv2d(6, 6, 3, padding=1)
        self.up = nn.ConvTranspose2d(6, 6, 3, padding=1)
        self.own = Own(6, 6, 3, padding=1)
        self.hooked = nn.Conv2d(6, 6, 3, padding=1)
        self.hooked.register_forward_hook(lambda module, inputs, output: output + 1)
        self.tied, self.twin = nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.twin.weight = self.tied.weight
        self.read = nn.Conv2d(6, 6, 3, padding=1)
        self.idle = nn.Conv2d(6, 6, 3, padding=1)
        self.ours = sp.nn.DepthwiseSeparableConv2d(6, 6, 3, padding=1)
        self.free = nn.Parameter(torch.randn(6, 6, 3, 3) / 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in (self.fine, self.up, self.own, self.hooked, self.tied, self.twin, self.read, self.ours):
            x = layer(x, output_size=x.shape[-2:]) if layer is self.up else layer(x)
        return F.conv2d(x, self.free) + F.conv2d(x, self.read.weight)


def test_what_is_not_converted_is_listed():
    model, x = Assorted().eval(), torch.randn(16, 6, 8, 8)
    result = sp.nn.separate(model, x, 0.9, by="macs")
    said = reasons(result)
    for name, words in {
        "up": "given more than its input",
        "own": "computes otherwise",
        "hooked": "hooks",
        "tied": "shares its weight with twin",
        "twin": "shares its weight with tied",
        "read": "its weight is read",
        "idle": "did not run",
        "ours.conv_dw": "separable already",
        "ours.conv_pw": "separable already",
        "(model)": "called as a function",
    }.items():
        assert words in said[name], name
        assert name in str(result.report)
    assert said["fine"] == ""
    assert result.report.macs_before == sp.nn.audit(model, x[:1]).macs
    assert (
        result.report.macs_after == sp.nn.audit(result.model, x[:1]).macs <= 0.9 * result.report.macs_before
    )
    assert result.model.up.weight.shape == model.up.weight.shape


class Asking(nn.Module):
    """Asks its convolutions for what they are, as transformers do."""

    def __init__(self) -> None:
        super().__init__()
        self.strided, self.typed, self.biased = (nn.Conv1d(4, 4, 3, 2, 2) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert x.shape[-1] == 16 * self.strided.stride[0]
        y = self.typed(self.strided(x).to(self.typed.weight.dtype))
        return self.biased(y) if self.biased.bias is not None else y


@pytest.mark.parametrize("form", ["dw-pw", "low-rank"])
def test_layers_that_are_asked_for_what_they_are(form):
    model, x = Asking().eval(), torch.randn(4, 4, 32)
    result = sp.nn.separate(model, x, rank="full", forms=[form])
    said = reasons(result)
    assert said["strided"] == ""
    assert said["typed"] == "its weight is read by the model itself, too"
    assert said["biased"] == "its bias is read by the model itself, too"
    assert distance(answers(result.model, x), answers(model, x)) < 1e-5
    assert type(model.typed) is type(result.model.typed) is nn.Conv1d


def test_layers_may_be_skipped():
    model, x = built("resnet")
    result = sp.nn.separate(model, x, 0.6, by="macs", skip=["0", "*.downsample.0"])
    assert isinstance(result.model[0], nn.Conv2d)
    assert {name for name, reason in reasons(result).items() if "skip" in reason} == {
        "0",
        "3.downsample.0",
        "4.downsample.0",
    }
    with pytest.raises(ValueError, match=r"'3\.conv9', which is the name of no.*Did you mean '3\.conv"):
        sp.nn.separate(model, x, 0.6, by="macs", skip=["3.conv9"])


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda m: m.half(), ValueError, r"`0\.weight` in float16.*model\.float\(\)"),
        (lambda m: m.bfloat16(), ValueError, r"`0\.weight` in bfloat16"),
        (lambda m: m.to("meta"), ValueError, "'meta' and holds no weights"),
        (lambda m: vgg, TypeError, "expected a torch.nn.Module"),
        (lambda m: nn.DataParallel(m), TypeError, r"pass model\.module"),
        (lambda m: nn.Sequential(nn.LazyConv2d(4, 3)), ValueError, "lazy module"),
        (lambda m: nn.ReLU(), ValueError, "no layer that can be converted"),
        (
            lambda m: nn.Sequential(nn.ConvTranspose2d(3, 4, 3, padding=3)),
            ValueError,
            r"0: it cuts off \(3, 3\) samples, more than its taps reach over \(2\)",
        ),
    ],
)
def test_models_that_are_refused(change, error, words):
    model, x = built("vgg")
    with pytest.raises(error, match=words):
        sp.nn.separate(change(model), x)


def test_scripted_models_are_refused():
    model, x = built("vgg")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        scripted = torch.jit.trace(model, x)
    with pytest.raises(TypeError, match="pass the module it was made of"):
        sp.nn.separate(scripted, x)


def test_calibration_that_is_refused():
    model, x = built("vgg")
    for data, error, words in [
        ((batch for batch in x.split(4)), TypeError, "read only once.*list"),
        (TensorDataset(x), TypeError, "DataLoader"),
        (7, TypeError, "`calibration` is a int"),
        ("data", TypeError, "`calibration` is a str"),
        ([], ValueError, "no batch"),
        (x[:0], ValueError, "no batch"),
        (x * float("nan"), ValueError, "NaN or infinity"),
        (x[:, :2], ValueError, r"does not run on `calibration` \(\(8, 2, 12, 12\) float32\)"),
        ([7], TypeError, "a batch of `calibration` is a int"),
        ([{"wrong": x}], ValueError, "keys .'wrong'.*takes .'input'"),
    ]:
        with pytest.raises(error, match=words):
            sp.nn.separate(model, data)


# -- calibration data --------------------------------------------------------------------------------


def test_every_kind_of_calibration_data_gives_the_same():
    model, x = built("vgg")
    x = torch.randn(12, 3, 12, 12)
    labels = torch.arange(12)
    wanted = answers(sp.nn.separate(model, x, rank=2).model, x)
    for data in (
        x.numpy(),
        x.double(),
        list(x.split(5)),
        [(batch, None) for batch in x.split(5)],
        DataLoader(TensorDataset(x, labels), batch_size=5),
        {"input": x},
        [{"input": batch, "labels": 3} for batch in x.split(5)],
    ):
        # Batches of other sizes round otherwise, which descents on twelve random inputs amplify.
        assert distance(answers(sp.nn.separate(model, data, rank=2).model, x), wanted) < 5e-3


def test_several_inputs_and_keywords():
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(4, 8, 3), nn.Conv2d(4, 8, 3)

        def forward(self, x: torch.Tensor, other: torch.Tensor) -> tuple[torch.Tensor, dict]:
            return self.a(x), {"b": self.b(other)}

    model, x = Two().eval(), torch.randn(16, 2, 4, 9, 9)
    pairs = [(a, b) for a, b in zip(x[:, 0].split(4), x[:, 1].split(4), strict=True)]
    one = sp.nn.separate(model, pairs, 0.5, by="macs")
    two = sp.nn.separate(model, {"x": x[:, 0], "other": x[:, 1]}, 0.5, by="macs")
    assert one.report.macs_after == two.report.macs_after <= 0.5 * one.report.macs_before
    assert math.isclose(one.report.output_change, two.report.output_change, rel_tol=1e-3)


def test_data_that_come_in_another_order_each_time():
    model, x = built("vgg")
    loader = DataLoader(TensorDataset(x), batch_size=2, shuffle=True)
    network, seen, _ = network_of(model, x, 0, data=loader)
    assert not network._calibration.repeats
    new = {0: fit(network.layers[0], None, "dw-pw", 1)}
    dense = dict(network._model.named_modules())[seen.convs[1].name]
    for x_now, y_then in network.samples(1, new):
        assert x_now.shape[0] == y_then.shape[0] in (1, 2)
        correlated = np.corrcoef(dense(torch.from_numpy(x_now)).detach().numpy().ravel(), y_then.ravel())[
            0, 1
        ]
        assert correlated > 0.5
    assert network.output_change({}) == 0.0


# -- a rank instead of a budget ------------------------------------------------------------------------


def test_a_rank_for_all():
    model, x = built("resnet")
    result = sp.nn.separate(model, x, 1e-9, rank=2, forms=["spatial", "low-rank"], skip=["0"])
    rows = {row.name: (row.form, row.rank) for row in result.report.layers}
    assert rows.pop("0") == ("dense", 0)
    assert rows == {
        "3.conv1": ("spatial", 2),
        "3.conv2": ("spatial", 2),
        "3.downsample.0": ("low-rank", 2),
        "4.conv1": ("spatial", 2),
        "4.conv2": ("spatial", 2),
        "4.downsample.0": ("low-rank", 2),
        "7": ("low-rank", 2),
    }
    assert result.report.budget is None
    assert "budget" not in str(result.report)
    assert result.report.macs_after == sp.nn.audit(result.model, x[:1]).macs
    for rank, error in (("all", ValueError), (0, ValueError), (1.5, TypeError)):
        with pytest.raises(error, match=f"`rank={rank!r}`"):
            sp.nn.separate(model, x, rank=rank)


# -- the budget, the data, and what is shown ---------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "by", "budget"),
    [
        ("resnet", "macs", 0.3),
        ("unet", "params", 0.7),
        ("signals", "macs", 0.7),
        ("signals", "params", 0.3),
    ],
)
def test_the_budget_is_kept_and_the_counts_are_those_of_the_audit(name, by, budget):
    model, x = built(name)
    result = sp.nn.separate(model, x, budget, by)
    rows = result.report.layers
    before = sum(getattr(row, f"{by}_before") for row in rows)
    after = sum(getattr(row, f"{by}_after") for row in rows)
    assert after <= budget * before
    assert result.report.macs_before == sp.nn.audit(model, x[:1]).macs
    assert result.report.macs_after == sp.nn.audit(result.model, x[:1]).macs
    parsed = json.loads(result.report.to_json())
    assert parsed["macs_after"] == result.report.macs_after


def test_latency_is_measured():
    model, x = built("vgg")
    network, _, _ = network_of(model, x)
    new = fit(network.layers[2], None, "dw-pw", 1)
    assert network.milliseconds(2, None) > 0
    assert network.milliseconds(2, new) > 0


def test_progress_is_shown_to_those_who_look(capsys, monkeypatch):
    model, x = built("vgg")
    sp.nn.separate(model, x, rank=1, distill=1)
    assert capsys.readouterr() == ("", "")
    sp.nn.separate(model, x, rank=1, distill=1, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.split(",")[0] for line in err.splitlines()] == ["fitting", "distilling"]
    monkeypatch.setattr(__import__("sys").stderr, "isatty", lambda: True)
    monkeypatch.setitem(__import__("sys").modules, "rich.console", None)
    monkeypatch.setattr("separable.report.progress._EVERY", 0)
    sp.nn.separate(model, x, rank=1, distill=2, progress=True)
    bar = capsys.readouterr().err
    assert "s left" in bar
    assert "distilling" in bar
    assert bar.endswith("\r\x1b[K")


def test_the_time_that_remains_is_that_of_the_present_kind_of_step(capsys, monkeypatch):
    clock = iter([0.0, 0.0, 10.0, 10.0, 12.0])
    monkeypatch.setattr("separable.report.progress.time.monotonic", lambda: next(clock))
    monkeypatch.setitem(__import__("sys").modules, "rich.console", None)
    monkeypatch.setattr(__import__("sys").stderr, "isatty", lambda: True)
    with shown(True) as show:
        show(0, 4, "fitting")
        show(2, 4, "fitting")
        show(0, 100, "distilling")
        show(10, 100, "distilling")
    lines = capsys.readouterr().err.split("\r\x1b[K")
    assert "2/4 10 s left fitting" in lines[1]
    assert "10/100 18 s left distilling" in lines[-2]


def test_rows_come_as_the_layers_run():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 16, 3), nn.Conv2d(16, 4, 1)
    ).eval()
    done = sp.nn.separate(net, torch.randn(16, 3, 12, 12), 0.9, by="macs", skip=["0"])
    assert [row.name for row in done.report.layers] == ["0", "1", "2", "3"]
