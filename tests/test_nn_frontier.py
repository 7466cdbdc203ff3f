"""Frontiers of torch networks: each point is what `separate` gives, timed as a whole, its model at hand."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402 (needs torch)

import separable as sp  # noqa: E402
from separable.nn.conversion.times import WholeTimes  # noqa: E402
from separable.nn.frontiers.frontier import FrontierPoint, frontier  # noqa: E402

IN_TORCH = {"by": "macs", "runtime": "torch", "progress": False}


def net(norm: bool = True) -> nn.Module:
    torch.manual_seed(0)
    convs = [nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 24, 3, padding=1), nn.Conv2d(24, 8, 3)]
    layers = [convs[0], *([nn.BatchNorm2d(16)] if norm else []), nn.ReLU(), convs[1], nn.ReLU(), convs[2]]
    return nn.Sequential(*layers).eval()


def inputs(count: int = 40) -> torch.Tensor:
    return torch.randn(count, 3, 10, 10, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def found():
    return frontier(net(), inputs(), [0.3, 0.6, 0.001], **IN_TORCH)


def test_each_point_is_what_separate_gives(found):
    assert [point.budget for point in found.points] == [0.6, 0.3]
    assert [left.budget for left in found.left_out] == [0.001]
    assert isinstance(found.original, FrontierPoint)
    assert (found.model, found.by, found.runtime, found.batch) == ("Sequential", "macs", "torch", 1)
    x = inputs(4)
    for point in found.points:
        alone = sp.nn.separate(net(), inputs(), point.budget, by="macs", progress=False)
        torch.testing.assert_close(point.model(x), alone.model(x))
        assert point.report.layers == alone.report.layers
        assert (point.loss, point.interval) == (alone.report.output_change, alone.report.interval)
        assert point.macs == alone.report.macs_after
        assert point.milliseconds is not None
        assert point.speedup == point.report.milliseconds_before / point.milliseconds


def test_models_are_made_once_and_are_their_own(found):
    first, second = found.points
    assert first.model is first.model
    x = inputs(4)
    before = second.model(x)
    with torch.no_grad():
        for parameter in first.model.parameters():
            parameter.zero_()
    torch.testing.assert_close(second.model(x), before)
    torch.testing.assert_close(found.original.model(x), net()(x), rtol=1e-4, atol=1e-5)


def test_the_original_is_left_alone_and_models_keep_its_mode():
    model = net().train()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    done = frontier(model, inputs(), [0.5], **IN_TORCH)
    assert model.training
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(module.training for module in done.points[0].model.modules())
    kept = frontier(model, inputs(), [0.5], keep_norms=True, **IN_TORCH)
    assert any(isinstance(module, nn.BatchNorm2d) for module in kept.points[0].model.modules())


def test_with_a_metric_its_drop_is_the_loss():
    labels = np.arange(40) % 8

    def hits(outputs, targets):
        return float((outputs.mean((2, 3)).argmax(1) == targets).mean())

    done = frontier(net(), inputs(), [0.3], metric=hits, labels=labels, **IN_TORCH)
    (point,) = done.points
    assert done.metric == "hits"
    assert point.loss == point.score.drop == point.score.before - point.score.after
    assert done.original.score.before == done.original.score.after == point.score.before
    assert "hits" in str(done).splitlines()[2]


def test_by_time_what_is_slower_as_a_whole_is_left_out(monkeypatch):
    monkeypatch.setattr(WholeTimes, "of", lambda self, models: [1.0 + n for n in range(len(models))])
    done = frontier(net(), inputs(), [0.9], runtime="torch", progress=False)
    assert not done.points
    assert "it does not pay here" in str(done)
    assert done.best(1.0) is done.original
    slower = frontier(net(), inputs(), [0.5], **IN_TORCH)  # by MACs it is what was asked for
    assert [point.dominated for point in slower.points] == [True]
    assert "0.5 *" in str(slower)


def test_times_that_fail_leave_the_losses(monkeypatch):
    def fails(self, models):
        self.failure = "the network as a whole was not timed: no runtime"
        return None

    monkeypatch.setattr(WholeTimes, "of", fails)
    done = frontier(net(), inputs(), [0.5], **IN_TORCH)
    assert done.points[0].milliseconds is None
    assert done.points[0].loss > 0
    assert "not timed: no runtime" in str(done)
    assert "loss over MACs" in str(done)


def test_it_prints_within_80_columns(found):
    lines = str(found).splitlines()
    assert max(map(len, lines)) < 80
    assert lines[0] == "Sequential: loss over time in torch, 1 input"
    assert [line.split()[0] for line in lines[4:7]] == ["original", "0.6", "0.3"]
    assert "left out 0.001: the cheapest forms leave" in str(found)
    assert repr(found) == "<Frontier of Sequential: budgets 0.6, 0.3>"
    assert repr(found.points[0]).startswith("<FrontierPoint budget=0.6: loss ")
    assert "<table" in found._repr_html_()


def test_wrong_arguments_are_refused_before_anything_runs():
    for options, message in [
        ({"budgets": []}, "`budgets` is empty"),
        ({"budgets": [2]}, r"`budgets\[0\]=2` is not a fraction"),
        ({"by": "joules"}, "`by='joules'` is unknown"),
        ({"runtime": "abacus"}, "`runtime='abacus'` is unknown"),
        ({"labels": [1]}, "`labels` is given and `metric` is not"),
    ]:
        with pytest.raises(ValueError, match=message):
            frontier(net(), None, **options)
    with pytest.raises(TypeError, match="`calibration`"):
        frontier(net(), None, [0.5])
