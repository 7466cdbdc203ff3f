"""Times of layers and models in the engine and in ONNX Runtime, and conversions that go by them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_models as models
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_models import Array

import separable as sp
from separable.conv.conversion.fit import Fitter
from separable.conv.conversion.goal import RUNTIMES
from separable.conv.forms.layer import ConvLayer, Replacement
from separable.onnx.conversion.rewrite import conv_nodes
from separable.onnx.conversion.times import LayerTimes, _network, _node_of, clock_of
from separable.onnx.model.files import Stored, read_model
from separable.onnx.model.runtime import interleaved_ms, layer_ms


def layer(c_out: int, c_in: int, sizes: tuple[int, ...], kernel: int = 3) -> ConvLayer:
    weights = np.random.default_rng(0).standard_normal((c_out, c_in, *[kernel] * len(sizes)))
    padding = ((kernel // 2,) * 2,) * len(sizes)
    return ConvLayer("layer", weights, np.ones(c_out), padding=padding, sizes=sizes)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_more_work_takes_more_time(runtime: str) -> None:
    times = LayerTimes(clock_of(runtime, 1), 1)
    small, large = layer(16, 16, (8, 8)), layer(128, 128, (28, 28))
    assert 0 < times.milliseconds(small, None, False) < times.milliseconds(large, None, False) / 5
    cheaper = Fitter(large).replacement("dw-pw", 1)
    assert times.milliseconds(large, cheaper, False) < times.milliseconds(large, None, False)
    linear = layer(32, 64, (1,), 1)
    assert times.milliseconds(linear, Fitter(linear).replacement("low-rank", 4), True) > 0


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_times_are_those_at_one_pace(runtime: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is slow from some moment on seems as fast as before."""
    clock = clock_of.__wrapped__(runtime, 1)
    part = conv_nodes(Replacement("dense", 0, (one := layer(64, 64, (14, 14)),), 0.0), _node_of(one, False))
    feeds = {"x": np.ones((1, 64, 14, 14), np.float32)}
    first = [clock.alone(part, feeds), *clock.at_one_pace([part], feeds)]
    slow = 1e6  # times: nothing that is measured is so uncertain
    monkeypatch.setattr("separable.onnx.conversion.times.layer_ms", lambda *given: slow * layer_ms(*given))
    monkeypatch.setattr(
        "separable.onnx.conversion.times.interleaved_ms",
        lambda *given: [slow * time for time in interleaved_ms(*given)],
    )
    later = clock.at_one_pace([part], feeds)
    assert later[0] == pytest.approx(first[1], rel=5)
    assert clock.together([part], feeds)[0] > 1e3 * later[0]
    if runtime == "onnxruntime":
        assert clock.alone(part, feeds) == pytest.approx(first[0], rel=5)


def test_the_pace_is_that_of_a_reference_in_the_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside large models it finds the caches full of them, and their times would seem a slow moment's."""
    clock = clock_of.__wrapped__("engine", 1)
    one = layer(64, 64, (14, 14))
    part = conv_nodes(Replacement("dense", 0, (one,), 0.0), _node_of(one, False))

    def interleaved(sessions: list[object], *given: object) -> list[float]:
        """One that runs behind itself, or alone, takes 1 ms, the others 3."""
        before = sessions[-1:] + sessions[:-1]
        return [1.0 if b is s else 3.0 for b, s in zip(before, sessions, strict=True)]

    monkeypatch.setattr("separable.onnx.conversion.times.interleaved_ms", interleaved)
    clock.alone(part, feeds := {"x": np.ones((1, 64, 14, 14), np.float32)})
    assert clock.at_one_pace([part, part], feeds) == [3.0, 3.0]


def test_a_convolution_by_itself_runs_as_it_does_within_a_network() -> None:
    """Winograd's algorithm reads blocks of channels: a layer that is timed alone reads them too."""
    one = layer(64, 64, (28, 28))
    part = conv_nodes(Replacement("dense", 0, (one,), 0.0), _node_of(one, False))
    x = np.random.default_rng(0).standard_normal((1, 64, 28, 28)).astype(np.float32)
    network = _network(part, {"x": x}, 1)
    kinds = [step.kind for step in network.measured({"x": x}, 1).steps]
    assert kinds[-3:] == ["to blocks", "conv 3 x 3", "to plain"]
    np.testing.assert_allclose(network(x), one(x.astype(np.float64)), rtol=0, atol=1e-3)


class CountingClock:
    """Says that a convolution of 3 x 3 taps takes 3 ms, one with fewer taps 1; counts what it was asked."""

    name = "a clock"

    def __init__(self) -> None:
        self.asked = 0
        self.batches: list[int] = []

    def alone(self, part: Stored, feeds: Mapping[str, Array]) -> float:
        self.asked += 1
        self.batches.append(len(next(iter(feeds.values()))))
        return self._of(part)

    def together(
        self, parts: Sequence[Stored], feeds: Mapping[str, Array], seconds: float | None = None
    ) -> list[float]:
        self.batches.append(len(next(iter(feeds.values()))))
        return [self._of(part) for part in parts]

    def at_one_pace(
        self, parts: Sequence[Stored], feeds: Mapping[str, Array], seconds: float | None = None
    ) -> list[float]:
        return self.together(parts, feeds, seconds)

    def _of(self, part: Stored) -> float:
        shapes = {tensor.name: tuple(tensor.dims) for tensor in part.proto.graph.initializer}
        taps = [shapes[node.input[1]][2:] for node in part.proto.graph.node if node.op_type == "Conv"]
        return sum(3.0 if kernel == (3, 3) else 0.5 for kernel in taps)


def test_equal_layers_are_timed_once() -> None:
    clock = CountingClock()
    times = LayerTimes(clock, 4)
    first, second = layer(16, 16, (8, 8)), layer(16, 16, (8, 8))
    assert times.milliseconds(first, None, False) == times.milliseconds(second, None, False) == 3.0
    assert clock.asked == 1
    times.milliseconds(layer(16, 16, (9, 8)), None, False)
    times.milliseconds(first, Fitter(first).replacement("low-rank", 4), False)
    assert (clock.asked, clock.batches) == (3, [4, 4, 4])


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> CountingClock:
    counting = CountingClock()
    monkeypatch.setattr("separable.onnx.conversion.separate.clock_of", lambda runtime, threads: counting)
    return counting


def images(count: int) -> Array:
    x = np.random.default_rng(1).standard_normal((count, 3, 12, 12))
    return sum(np.roll(x, n, axis) for axis in (2, 3) for n in range(4)).astype(np.float32)


def test_by_time_is_the_default_and_the_loss_is_kept_to(clock: CountingClock) -> None:
    model = models.vgg(width=16)
    result = sp.onnx.separate(model, images(64), max_loss=0.3, threads=1, batch=2)
    report = result.report
    assert (report.by, report.max_loss, report.runtime, report.batch) == ("time", 0.3, "a clock", 2)
    assert set(clock.batches) == {2}
    assert 0 < report.output_change <= 0.3
    assert report.milliseconds_after < report.milliseconds_before
    assert any(
        row.milliseconds_after < row.milliseconds_before for row in report.layers if row.milliseconds_before
    )
    stricter = sp.onnx.separate(model, images(64), max_loss=1e-9, threads=1).report
    assert stricter.output_change <= 1e-9
    assert stricter.milliseconds_after >= report.milliseconds_after


def test_forms_of_a_layer_are_timed_in_turn_against_one_run_of_it(
    clock: CountingClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = []
    plain = clock.at_one_pace
    monkeypatch.setattr(
        clock, "at_one_pace", lambda parts, *rest: (runs.append(len(parts)), plain(parts, *rest))[1]
    )
    report = sp.onnx.separate(models.vgg(width=24), images(48), 0.9, threads=1).report
    # Each layer by itself, with the least rank of each of four forms, and with the others of what is faster.
    assert max(runs) == 5
    assert len(runs) <= 3 * len(report.layers)


def test_a_budget_of_time_is_of_the_whole_model(clock: CountingClock) -> None:
    model = models.vgg(width=16)
    with pytest.raises(
        ValueError, match=r"`budget=0.01` of the time cannot be met: the cheapest forms leave"
    ):
        sp.onnx.separate(model, images(32), 0.01, threads=1)
    report = sp.onnx.separate(model, images(32), 0.7, threads=1).report
    assert report.milliseconds_after <= 0.7 * report.milliseconds_before + 1e-9


class MoodyClock(CountingClock):
    """The same on a machine that is now and then slow for the time of a comparison."""

    def together(
        self, parts: Sequence[Stored], feeds: Mapping[str, Array], seconds: float | None = None
    ) -> list[float]:
        mood = (1.0, 1.0, 9.0)[len(self.batches) % 3]
        return [mood * time for time in super().together(parts, feeds, seconds)]


def test_moments_when_all_is_slow_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    costs = []
    for clock in (CountingClock(), MoodyClock()):
        monkeypatch.setattr("separable.onnx.conversion.separate.clock_of", lambda *_, made=clock: made)
        images = np.random.default_rng(0).standard_normal((24, 3, 12, 12)).astype(np.float32)
        rows = sp.onnx.separate(models.vgg(), images, 0.9, never_slower=False, progress=False).report.layers
        costs.append([[option.cost for option in row.options] for row in rows])
    assert sum(map(len, costs[0])) == 9
    np.testing.assert_allclose(np.concatenate(costs[1]), np.concatenate(costs[0]))


def test_ranks_fill_whole_blocks_of_channels(clock: CountingClock) -> None:
    report = sp.onnx.separate(models.vgg(width=24), images(48), 0.9, threads=1).report
    ranks = {o.rank for row in report.layers for o in row.options if o.form in ("spatial", "low-rank")}
    assert ranks
    assert all(rank % 16 == 0 or rank in (4, 8) for rank in ranks)


@pytest.mark.parametrize("metric", ["accuracy", None])
def test_the_metric_may_drop_by_max_loss(clock: CountingClock, metric: str | None) -> None:
    model, x = models.vgg(width=16), images(64)
    labels = models.run(model, {"image": x})[0].argmax(axis=1)
    scored = {"metric": metric, "labels": labels} if metric else {}
    report = sp.onnx.separate(model, x, max_loss=0.26, threads=1, **scored).report
    if metric:
        assert report.score is not None
        assert report.score.drop <= 0.26
    else:
        assert report.output_change <= 0.26


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_model_in_both_runtimes(runtime: str) -> None:
    stored = read_model(models.resnet(width=8))
    x = {"image": images(2)}
    one, two = clock_of(runtime, 1).together([stored, stored], x, 0.05)
    assert 0.2 < one / two < 5


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_lengths_that_the_model_computes_elsewhere(runtime: str) -> None:
    """As in PP-OCRv4: a Reshape behind a convolution takes its shape from that of the model's input."""
    rng = np.random.default_rng(0)
    weights = numpy_helper.from_array(rng.standard_normal((32, 16, 3, 3)).astype(np.float32), "w")
    indices = numpy_helper.from_array(np.array([0], np.int64), "first")
    rest = numpy_helper.from_array(np.array([-1], np.int64), "rest")
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "first"], ["count"]),
        helper.make_node("Concat", ["count", "rest"], ["wanted"], axis=0),
        helper.make_node("Conv", ["x", "w"], ["seen"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("Reshape", ["seen", "wanted"], ["y"]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 16, 12, 12])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", "M"])
    graph = helper.make_graph(nodes, "net", [x], [y], [weights, indices, rest])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    inputs = rng.standard_normal((16, 16, 12, 12)).astype(np.float32)
    done = sp.onnx.separate(
        model, inputs, budget=0.99, runtime=runtime, threads=1, never_slower=False, progress=False
    )
    (row,) = done.report.layers
    assert row.form != "dense"
    assert row.milliseconds_after is not None
    assert row.milliseconds_before is not None
    assert row.milliseconds_after < row.milliseconds_before
