"""Passes over a torch network: what depends on what, and what is computed for what is asked."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import separable as sp  # noqa: E402
from separable.conv import fit  # noqa: E402
from separable.nn.conversion.network import TorchNetwork  # noqa: E402
from tests.test_nn_separate import BIG, built, network_of  # noqa: E402


def test_what_a_residual_network_depends_on() -> None:
    model, x = built("resnet")
    network, seen, _ = network_of(model, x)
    names = [conv.name for conv in seen.convs]
    demands = network._demands
    assert demands is not None
    stem, first, second = (names.index(name) for name in ("0", "3.conv1", "3.conv2"))
    assert demands.reads[stem] == set()
    assert demands.reads[first] == {stem}
    assert demands.reads[second] == {first}
    assert demands.beside[second] == {names.index("3.downsample.0")}  # it runs later
    assert all(place > source for place, sources in enumerate(demands.reads) for source in sources)


class Steered(nn.Module):
    """Takes its way by a number that it computes."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.one(x)
        return self.two(y if float(y.mean()) > -100 else -y)


def test_a_model_that_looks_at_its_numbers_runs_as_a_whole() -> None:
    model, x = Steered().eval(), torch.randn(16, 3, 8, 8)
    network, _, _ = network_of(model, x)
    assert network._demands is None
    assert sp.nn.separate(model, x, 0.5, by="macs").report.macs_after > 0


@pytest.mark.parametrize("memory", [0, BIG])
def test_a_walk_computes_each_convolution_about_once(memory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Layer after layer of a chain: what was computed for one is where the next goes on."""
    layers: list[nn.Module] = [nn.Conv2d(3, 8, 3, padding=1)]
    for _ in range(7):
        layers += [nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1)]
    model, x = nn.Sequential(*layers).eval(), torch.randn(16, 3, 8, 8)
    network, _, _ = network_of(model, x, memory)
    assert network._demands is not None
    computed = []
    plain = TorchNetwork._computed

    def counted(self, index, *rest):
        computed.append(index)
        return plain(self, index, *rest)

    monkeypatch.setattr(TorchNetwork, "_computed", counted)
    replaced = {}
    for index, layer in enumerate(network.layers):
        list(network.samples(index, dict(replaced)))
        replaced[index] = fit(layer, None, "dw-pw", 1)
    count = len(network.layers)
    # The original and the converted network once each, and all over again for each layer without memory.
    assert len(computed) <= 2 * count if memory else len(computed) >= count * (count - 1)


def test_losses_run_on_what_is_held_out_alone() -> None:
    model, x = built("resnet")
    x = x.repeat(128 // len(x), 1, 1, 1)
    network, seen, _ = network_of(model, x)
    rows = []
    seen.convs[0].module.register_forward_pre_hook(lambda module, args: rows.append(len(args[0])))
    replaced = {1: fit(network.layers[1], None, "dw-pw", 1)}
    network.output_change(replaced)
    rows.clear()
    network.output_change(replaced)
    assert sum(rows) <= network.held_out
    whole = sum(rows)
    rows.clear()
    network.output_change({1: fit(network.layers[1], None, "dw-pw", 2)}, 1)
    assert 0 < sum(rows) < whole  # and on no more of that than is asked for


class Heard(nn.Module):
    """Notes whether what it is given holds numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.blank: list[bool] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.blank.append(x.is_meta)
        return torch.relu(x)


def test_what_nobody_needs_is_not_computed_between_convolutions_either(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("separable.nn.conversion.network._CHEAP", 0.0)
    heard = [Heard() for _ in range(3)]
    layers: list[nn.Module] = [nn.Conv2d(3, 4, 3)]
    for one in heard:
        layers += [one, nn.Conv2d(4, 4, 3)]
    model, x = nn.Sequential(*layers).eval(), torch.randn(16, 3, 12, 12)
    network, _, _ = network_of(model, x, BIG)
    first = {index: list(network.samples(index, {})) for index in range(4)}
    for one in heard:
        one.blank.clear()
    again = list(network.samples(3, {}))
    assert all(heard[0].blank)
    assert all(heard[1].blank)
    assert not any(heard[2].blank)
    for old, new in zip(first[3], again, strict=True):
        assert all((a == b).all() for a, b in zip(old, new, strict=True))


class Floored(nn.Module):
    """Looks at its numbers only to choose a floor, which not-a-number does not reach."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.one(x)
        return self.two(torch.where(y > 0, torch.ones_like(y), torch.zeros_like(y)))


def test_what_is_read_through_a_comparison_is_computed() -> None:
    model, x = Floored().eval(), torch.randn(16, 3, 8, 8)
    network, _, _ = network_of(model, x, BIG)
    read = [x for _ in range(2) for x, *_ in network.samples(1, {})]
    assert {float(value) for sample in read for value in sample.flat} == {0.0, 1.0}
