"""Conversions of torch networks by time: in the engine, in ONNX Runtime, in torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import separable as sp

torch = pytest.importorskip("torch")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
from torch import nn  # noqa: E402

from separable.conv.conversion.goal import goal_of  # noqa: E402
from separable.nn.conversion import times  # noqa: E402


def network(width: int = 48) -> nn.Module:
    """Return one whose second convolution is nearly of low rank."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(16 * width, 5),
    ).eval()  # fmt: skip
    with torch.no_grad():
        u, s, v = torch.linalg.svd(net[2].weight.reshape(width, -1), full_matrices=False)
        net[2].weight.copy_(((u[:, :8] * s[:8]) @ v[:8]).reshape(net[2].weight.shape))
    return net


def inputs(count: int = 48) -> Any:
    return torch.from_numpy(np.random.default_rng(0).standard_normal((count, 3, 40, 40)).astype(np.float32))


@pytest.mark.parametrize("runtime", times.RUNTIMES)
def test_the_fastest_that_keeps_to_the_loss(runtime: str) -> None:
    report = sp.nn.separate(network(), inputs(), runtime=runtime, progress=False).report
    assert (report.by, report.max_loss) == ("time", 0.005)
    assert report.output_change <= 0.005
    assert report.macs_after <= report.macs_before
    if report.macs_after < report.macs_before:  # on a busy machine nothing may pay
        assert report.milliseconds_after <= 1.01 * report.milliseconds_before
        assert report.runtime == {"engine": "the engine", "onnxruntime": "ONNX Runtime"}.get(runtime, "torch")


def test_where_the_whole_is_slower_it_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(times.WholeTimes, "of", lambda self, models: [1.0, 2.0][: len(models)])
    net, x = network(), inputs()
    monkeypatch.setattr("separable.nn.conversion.network.TorchNetwork.milliseconds", milliseconds)
    done = sp.nn.separate(net, x, max_loss=0.5, progress=False)
    assert {row.form for row in done.report.layers} == {"dense"}
    assert any(row.reason == "put back: the whole is slower" for row in done.report.layers)
    assert done.report.output_change == 0.0
    assert torch.equal(done.model(x), net(x))


def test_layers_that_are_slower_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those behind them are fitted once more: the loss is that of what is left."""
    monkeypatch.setattr(times.WholeTimes, "of", lambda self, models: [1.0, 1.0][: len(models)])
    monkeypatch.setattr("separable.nn.conversion.network.TorchNetwork.milliseconds", milliseconds)
    slow = {2: "put back: as dw-pw it is slower here (+1.000 ms)"}
    monkeypatch.setattr("separable.nn.conversion.separate.slow_layers", lambda network, replaced: slow)
    done = sp.nn.separate(network(), inputs(), max_loss=0.5, progress=False)
    rows = {row.name: row for row in done.report.layers}
    assert (rows["6"].form, rows["6"].reason) == ("dense", slow[2])
    assert rows["2"].form != "dense"


def milliseconds(self: Any, index: int, replacement: Any) -> float:
    return 3.0 if replacement is None else 1.0 + 0.01 * replacement.rank


def test_a_network_that_cannot_be_exported_says_so() -> None:
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 32, 3)

        def forward(self, x: Any) -> Any:
            y = self.conv(x)
            return y.mean((2, 3)) if float(y.detach().sum()) > -1e30 else y

    clock = times.WholeTimes(None, goal_of(), ((inputs(1),), {}), 1)  # type: ignore[arg-type]
    assert clock.of([Branching()]) is None
    assert clock.failure.startswith("the network as a whole was not timed:")


def test_more_inputs_are_more_of_the_same() -> None:
    call = times._repeated(((inputs(1),), {"mask": torch.ones(1, 2)}), 3)
    assert (call[0][0].shape[0], call[1]["mask"].shape) == (3, (3, 2))
    two = ((inputs(2),), {})
    assert times._repeated(two, 3) is two
