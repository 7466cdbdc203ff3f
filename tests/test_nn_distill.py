"""What data and training add to a conversion, on a trained network: nearer, resumable, never worse."""

from __future__ import annotations

import copy
import math
import re

import pytest

import separable as sp
from separable.conv.conversion.fit import fit

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from separable.nn.conversion import distill as _distilling  # noqa: E402
from separable.nn.conversion.calibration import TorchCalibration  # noqa: E402
from separable.nn.conversion.fold_norms import fold_norms  # noqa: E402
from separable.nn.conversion.network import TorchNetwork  # noqa: E402
from separable.nn.conversion.separate import Assembly  # noqa: E402
from separable.nn.conversion.trace import trace  # noqa: E402
from separable.nn.model.model_copy import prepared  # noqa: E402
from separable.nn.model.outcomes import floats_of  # noqa: E402
from tests.small_networks import lived_in, step  # noqa: E402

# One term everywhere but in the first layer, and no search: what these tests look at comes after it.
THIN = {"rank": 1, "forms": ["dw-pw"], "skip": ["0"]}


@pytest.fixture(scope="module")
def trained():
    """A small network that tells gratings apart, inputs of it, and held-out ones."""
    torch.manual_seed(1)
    places = torch.arange(12) / 12

    def gratings(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        kinds = torch.randint(6, (count,))
        angle, phase = kinds * math.pi / 6, 6.3 * torch.rand(count)
        along = torch.cos(angle)[:, None, None] * places[:, None] + torch.sin(angle)[:, None, None] * places
        x = torch.sin(20 * along + phase[:, None, None]) + 0.7 * torch.randn(count, 12, 12)
        return x[:, None], kinds

    body = [*step(1, 12), *step(12, 24), *step(24, 24, stride=2), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    net = nn.Sequential(*body, nn.Linear(24, 6))
    x, y = gratings(1000)
    optimiser = torch.optim.Adam(net.parameters(), 5e-3)
    for _ in range(5):
        for some in torch.randperm(len(x)).split(50):
            loss = F.cross_entropy(net(x[some]), y[some])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return net.eval(), x[:256], *gratings(300)


@pytest.fixture(scope="module")
def plain(trained):
    model, inputs, _, _ = trained
    return sp.nn.separate(model, inputs, **THIN)


def answers(model, x):
    with torch.no_grad():
        return floats_of(model(x))


def distance(got, wanted):
    return max(float((a - b).norm() / b.norm()) for a, b in zip(got, wanted, strict=True))


def accuracy(model, x, y):
    return float((answers(model, x)[0].argmax(1) == y).float().mean())


def is_same(one, other) -> bool:
    """Return whether two modules hold the same numbers, bit for bit."""
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def interrupted_after(monkeypatch, steps: int) -> None:
    """Press Ctrl-C at a step of the optimiser."""
    left = iter(range(steps))

    def stepped(self, *args, _step=torch.optim.Adam.step, **options):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return _step(self, *args, **options)

    monkeypatch.setattr(torch.optim.Adam, "step", stepped)


def data_free(model, x, rank):
    """Return what prior work gives: a truncated SVD of every layer but the first."""
    work = prepared(model)
    call = ((x[:1],), {})
    fold_norms(work, trace(work, call))
    seen = trace(work, call)
    network = TorchNetwork(work, seen, TorchCalibration(work, x, 1 << 30), 1 << 30)
    places = [place for place, layer in enumerate(network.layers) if place and layer.taps > 1]
    names = tuple(conv.name for conv in seen.convs)
    return Assembly(work, names, {}, {}).model(
        {p: fit(network.layers[p], None, "dw-pw", rank) for p in places}
    )


def test_data_do_what_weights_alone_cannot(trained, plain):
    model, inputs, x, y = trained
    free = data_free(model, inputs, 1)
    assert plain.report.macs_after == sp.nn.audit(free, x[:1]).macs
    dense, aware = accuracy(model, x, y), accuracy(plain.model, x, y)
    assert dense > 0.9
    assert aware > dense - 0.05
    assert aware > accuracy(free, x, y) + 0.1
    wanted = answers(model, x)
    assert distance(answers(plain.model, x), wanted) < 0.5 * distance(answers(free, x), wanted)


@pytest.mark.parametrize("options", [{}, {"keep_norms": True}])
def test_distillation_comes_nearer(trained, plain, options):
    model, inputs, x, _ = trained
    better = sp.nn.separate(model, inputs, distill=4, **THIN, **options)
    assert better.report.output_change < 0.8 * plain.report.output_change
    wanted = answers(model, x)
    assert distance(answers(better.model, x), wanted) < distance(answers(plain.model, x), wanted)
    assert all(p.requires_grad and p.grad is None for p in better.model.parameters())


def _batches(*inputs):
    calls = [((some,), {}) for some in inputs]
    numbers = torch.Generator().manual_seed(1)
    return torch.cat([call[0][0] for call in _distilling._shuffled(calls, numbers)])


def test_batches_hold_mixed_inputs():
    x = torch.randn(100, 2, 3)
    seen = _batches(x[:60], x[60:])
    given = {tuple(row.flatten().tolist()) for row in x}
    mixed = [row.flatten() for row in seen if tuple(row.flatten().tolist()) not in given]
    assert seen.shape == x.shape
    assert 40 <= len(mixed) <= 50  # half of each batch
    flat = x.flatten(1)
    lines = flat[:, None] - flat[None]
    for row in mixed[:5]:  # each lies between two of the inputs
        shares = ((row - flat) * lines).sum(2) / lines.square().sum(2).clamp_min(1e-9)
        between = flat + shares[:, :, None].clamp(0, 1) * lines
        assert (between - row).norm(dim=2).min() < 1e-5
    indices = torch.randint(1000, (100, 4))  # between whole numbers there is nothing
    assert torch.equal(_batches(indices).sort(dim=0)[0], indices.sort(dim=0)[0])


def test_the_time_is_bounded(trained, plain):
    model, inputs, _, _ = trained
    bounded = sp.nn.separate(model, inputs, distill=10**6, distill_seconds=0.5, **THIN)
    assert bounded.report.output_change < plain.report.output_change


def test_distillation_never_ends_worse(trained, plain, monkeypatch):
    model, inputs, _, _ = trained
    monkeypatch.setattr(_distilling, "RATE", 30.0)
    assert is_same(sp.nn.separate(model, inputs, distill=1, **THIN).model, plain.model)


def test_ctrl_c_keeps_the_best_so_far(trained, plain, monkeypatch):
    model, inputs, _, _ = trained
    interrupted_after(monkeypatch, 10)
    stopped = sp.nn.separate(model, inputs, distill=100, **THIN)
    assert stopped.report.output_change < plain.report.output_change
    assert not is_same(stopped.model, plain.model)


def test_ctrl_c_leaves_the_model_alone(trained, monkeypatch):
    model, inputs, _, _ = trained
    before = copy.deepcopy(model)

    def interrupted(self, *args):
        raise KeyboardInterrupt

    monkeypatch.setattr(TorchNetwork, "output_change", interrupted)
    with pytest.raises(KeyboardInterrupt):
        sp.nn.separate(model, inputs[:64], **THIN)
    assert is_same(model, before)
    assert not any("forward" in vars(module) for module in model.modules())


@pytest.fixture(scope="module")
def whole(trained):
    model, inputs, _, _ = trained
    return sp.nn.separate(model, inputs, distill=3, **THIN)


@pytest.mark.parametrize("steps", [2, 6])  # within the first pass, and within the second
def test_a_run_that_was_cut_short_goes_on(trained, plain, whole, tmp_path, monkeypatch, steps):
    model, inputs, _, _ = trained
    path = tmp_path / "run.ckpt"
    with monkeypatch.context() as patch:
        interrupted_after(patch, steps)
        stopped = sp.nn.separate(model, inputs, distill=3, checkpoint=path, **THIN)
    assert not is_same(stopped.model, whole.model)
    with monkeypatch.context() as patch:  # what was converted is not converted again
        patch.setattr("separable.nn.conversion.separate.ConversionRun", None)
        resumed = sp.nn.separate(model, inputs, distill=3, checkpoint=path, **THIN)
    assert is_same(resumed.model, whole.model)
    assert resumed.report.to_json() == whole.report.to_json()
    assert resumed.report.output_change < plain.report.output_change
    done = path.read_bytes()
    again = sp.nn.separate(model, inputs, distill=3, checkpoint=str(path), **THIN)
    assert is_same(again.model, whole.model)
    assert path.read_bytes() == done
    assert [file.name for file in tmp_path.iterdir()] == ["run.ckpt"]


def test_a_checkpoint_keeps_every_form(trained, tmp_path):
    model, inputs, _, _ = trained
    one, two = (
        sp.nn.separate(
            model, inputs[:64], 0.6, by="macs", distill=1, checkpoint=tmp_path / "run.ckpt", keep_norms=True
        )
        for _ in range(2)
    )
    assert is_same(one.model, two.model)
    assert one.report == two.report
    assert one.report.frontier == two.report.frontier != ()
    assert [row.options for row in one.report.layers] == [row.options for row in two.report.layers]


def test_checkpoints_of_something_else_are_refused(trained, tmp_path):
    model, inputs, _, _ = trained
    path = tmp_path / "run.ckpt"
    some = inputs[:64]
    sp.nn.separate(model, some, distill=1, checkpoint=path, **THIN)
    other = copy.deepcopy(model)
    with torch.no_grad():
        other[3].weight[0, 0, 0, 0] += 1e-3
    for net, data, options, words in [
        (other, some, {}, "of another model"),
        (model, some.flip(0), {}, "of other calibration data.*must not shuffle"),
        (model, inputs[:65], {}, "of other calibration data"),
        (model, some, {"distill": 2}, "with distill=1, and this is one with distill=2"),
        (model, some, {"rank": 2}, "with rank=1, and this is one with rank=2"),
    ]:
        with pytest.raises(ValueError, match=re.escape(str(path)) + f".*{words}"):
            sp.nn.separate(net, data, **{"distill": 1, "checkpoint": path, **THIN, **options})
    for junk in (b"junk", b""):
        path.write_bytes(junk)
        with pytest.raises(ValueError, match="damaged or no checkpoint"):
            sp.nn.separate(model, some, distill=1, checkpoint=path, **THIN)
    torch.save({"weights": torch.ones(3)}, path)
    with pytest.raises(ValueError, match="no checkpoint of this version"):
        sp.nn.separate(model, some, distill=1, checkpoint=path, **THIN)
    with pytest.raises(FileNotFoundError, match="is no folder"):
        sp.nn.separate(model, some, distill=1, checkpoint=tmp_path / "none" / "run.ckpt", **THIN)


def test_a_write_that_fails_leaves_the_file_before_it(trained, tmp_path, monkeypatch):
    model, inputs, _, _ = trained
    path = tmp_path / "run.ckpt"
    sp.nn.separate(model, inputs[:64], distill=1, checkpoint=path, **THIN)
    path.rename(tmp_path / "kept.ckpt")

    def full(held, stream, _save=torch.save):
        stream.write(b"half of ")
        raise OSError("no space left")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="no space"):
        sp.nn.separate(model, inputs[:64], distill=1, checkpoint=path, **THIN)
    assert [file.name for file in tmp_path.iterdir()] == ["kept.ckpt"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"distill": -1}, "`distill=-1` is no number of passes"),
        ({"distill": 2.5}, r"`distill=2\.5` is no number"),
        ({"checkpoint": "run.ckpt"}, "`checkpoint` is of a distillation.*pass distill=20"),
        ({"distill_seconds": 3}, "`distill_seconds` is of a distillation"),
        ({"distill": 2, "distill_seconds": 0}, "`distill_seconds=0` is no time"),
    ],
)
def test_arguments_that_are_refused(trained, options, words):
    model, inputs, _, _ = trained
    with pytest.raises(ValueError, match=words):
        sp.nn.separate(model, inputs, **THIN, **options)


def test_a_model_without_gradients_is_refused():
    class Answering(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 6, 3)

        @torch.no_grad()
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(x)

    x = torch.randn(8, 3, 6, 6)
    with pytest.raises(ValueError, match=r"`model` gives outputs without any.*leave `distill` out"):
        sp.nn.separate(Answering().eval(), x, rank=1, distill=1)


def test_what_was_frozen_is_trained_while_it_is_new(trained, plain):
    model, inputs, _, _ = trained
    frozen = copy.deepcopy(model).requires_grad_(False)
    result = sp.nn.separate(frozen, inputs, distill=2, **THIN)
    assert result.report.output_change < plain.report.output_change
    assert not any(parameter.requires_grad for parameter in result.model.parameters())
    assert torch.equal(result.model[-1].weight, model[-1].weight)  # the others stay


@pytest.mark.parametrize("around", [torch.no_grad, torch.inference_mode])
def test_it_trains_wherever_it_is_called(trained, plain, around):
    model, inputs, _, _ = trained
    with around():
        result = sp.nn.separate(model, inputs.clone(), distill=2, **THIN)
    assert result.report.output_change < plain.report.output_change
    assert all(parameter.requires_grad for parameter in result.model.parameters())
    result.model(inputs[:2]).sum().backward()


def test_channels_last_and_rectifiers_in_place():
    layers = [*step(3, 8), *step(8, 8), nn.Conv2d(8, 4, 3)]
    model = lived_in(nn.Sequential(*layers)).eval().to(memory_format=torch.channels_last)
    x = torch.randn(32, 3, 8, 8).to(memory_format=torch.channels_last)
    for form in ("dw-pw", "pw-dw", "spatial", "low-rank"):
        done = sp.nn.separate(model, x, rank=2, forms=[form], distill=1).model
        assert done(x).is_contiguous(memory_format=torch.channels_last)
        weights = [p for p in done.parameters() if p.dim() == 4]
        assert all(p.is_contiguous(memory_format=torch.channels_last) for p in weights)


def test_batches_of_several_sizes_and_several_outputs():
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, dict]:
            y = self.a(x)
            return y, {"b": self.b(F.relu(y))}

    torch.manual_seed(0)
    model = Two().eval()
    batches = [torch.randn(2, 3, 8 + n, 9) for n in range(10)]
    plain = sp.nn.separate(model, batches, rank=1, forms=["dw-pw"])
    better = sp.nn.separate(model, batches, rank=1, forms=["dw-pw"], distill=3)
    assert better.report.output_change <= plain.report.output_change


def test_a_loop_of_ones_own(trained):
    """What docs/networks/convert.md shows: labels, norms in training mode, an optimiser of one's own."""
    model, inputs, x, y = trained
    labels = answers(model, inputs)[0].argmax(1)
    student = sp.nn.separate(model, inputs, keep_norms=True, **THIN).model
    before = F.cross_entropy(student(inputs), labels).item()
    norms = copy.deepcopy([module for module in student if isinstance(module, nn.BatchNorm2d)])
    optimiser = torch.optim.AdamW(student.parameters(), lr=1e-3)
    student.train()
    for _ in range(2):
        for some in torch.randperm(len(inputs)).split(32):
            loss = F.cross_entropy(student(inputs[some]), labels[some])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    student.eval()
    assert F.cross_entropy(student(inputs), labels).item() < before
    assert accuracy(student, x, y) > accuracy(model, x, y) - 0.03
    after = [module for module in student if isinstance(module, nn.BatchNorm2d)]
    assert all(not torch.equal(a.running_mean, b.running_mean) for a, b in zip(after, norms, strict=True))
