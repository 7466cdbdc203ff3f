"""Metrics: what they say of outputs, how sure that is, and that they never touch the fit."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from separable.conv import Metric, Score, accuracy, character_error_rate
from separable.conv.scores.interval import jackknife, student
from separable.conv.scores.judge import Judge, judge_of
from separable.conv.scores.metrics import metric_of
from separable.conv.scores.records import OutputLoss
from separable.report.text.conversions import score as in_words

rng = np.random.default_rng(0)


@pytest.mark.parametrize("shape", [(8, 5), (8, 5, 4, 4), (8, 5, 7)])
def test_accuracy_is_of_the_class_axis(shape: tuple[int, ...]) -> None:
    scores = rng.standard_normal(shape)
    labels = scores.argmax(1)
    assert accuracy(scores, labels) == 1.0
    assert accuracy(scores, (labels + 1) % 5) == 0.0
    assert accuracy(np.moveaxis(scores, 1, -1), labels) == 1.0
    assert accuracy(labels, labels) == 1.0
    assert accuracy(scores, scores + 1) == 1.0  # as another network's
    assert accuracy(list(scores), list(labels)) == 1.0


def test_accuracy_of_what_are_no_scores_is_refused() -> None:
    with pytest.raises(ValueError, match="one number for each label"):
        accuracy(np.zeros((8, 1)), np.zeros(8, int))
    with pytest.raises(ValueError, match="do not go with labels"):
        accuracy(np.zeros((8, 5)), np.zeros((8, 2), int))
    with pytest.raises(TypeError, match="of one output, and the network has a, b"):
        accuracy({"a": np.zeros(3), "b": np.zeros(3)}, np.zeros(3))


def steps(classes: list[int]) -> Any:
    return np.eye(5)[classes]


def test_character_errors_are_edits_over_the_length() -> None:
    outputs = np.stack([steps([0, 1, 1, 0, 1, 2]), steps([3, 3, 0, 4, 0, 0])])  # 1 1 2, and 3 4
    metric = character_error_rate("abcd")
    assert not metric.larger_is_better
    assert metric(outputs, ["aab", "cd"]) == 0.0
    assert metric(outputs, ["aab", "cdd"]) == pytest.approx(1 / 6)
    assert metric(outputs, ["ab", "xd"]) == pytest.approx(2 / 4)
    assert character_error_rate()(outputs, [[1, 1, 2, -1], [3, 4]]) == 0.0
    assert character_error_rate()(outputs, outputs) == 0.0
    assert character_error_rate("abcd", blank=4)(steps([0, 4, 0, 1])[None], ["aab"]) == 0.0
    with pytest.raises(ValueError, match=r"character_error_rate\(characters\)"):
        metric_of("cer")(outputs, ["aab", "cd"])


def test_metrics_have_names_or_are_functions() -> None:
    assert metric_of("accuracy").name == "accuracy"
    assert metric_of(lambda y, t: 1).larger_is_better
    with pytest.raises(ValueError, match="'accuracy', 'cer'"):
        metric_of("f1")
    with pytest.raises(TypeError, match="expected 'accuracy'"):
        metric_of(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="expected a number"):
        metric_of(lambda y, t: [1, 2])(0, 0)  # type: ignore[arg-type, return-value]
    with pytest.raises(ValueError, match="`labels` is given and `metric` is not"):
        judge_of(None, [1])


def test_a_score_says_which_way_it_got_worse() -> None:
    assert Score("accuracy", 0.9, 0.8).drop == pytest.approx(0.1)
    assert Score("cer", 0.1, 0.3, larger_is_better=False).drop == pytest.approx(0.2)
    assert math.isnan(Score("accuracy", math.nan, 0.8).drop)
    assert "not measured" in in_words(Score("mine", math.nan, 0.5, inputs=8))
    assert OutputLoss("y", "variance", math.nan, "it does not vary").reason


def test_only_scored_inputs_and_their_labels_meet() -> None:
    labels = np.arange(6)
    answers: Any = [
        (3, [1], {"y": np.arange(3)}, {"y": np.arange(3)}),
        (3, [0, 2], {"y": np.arange(3, 6)}, {"y": np.array([3, 4, 0])}),
    ]
    score = Judge(metric_of("accuracy"), labels).score(answers, True)
    assert (score.before, score.after, score.inputs) == (1.0, pytest.approx(2 / 3), 3)
    assert score.drop_interval is not None
    assert score.drop_interval[0] < score.drop < score.drop_interval[1]
    with pytest.raises(ValueError, match="3 entries, and the data 6 inputs"):
        Judge(metric_of("accuracy"), labels[:3]).score(answers, True)
    with pytest.raises(ValueError, match="one by one"):
        Judge(metric_of("accuracy")).score([(3, [0], {"y": np.zeros(7)}, {"y": np.zeros(7)})], True)


def test_outputs_of_several_shapes_come_as_a_list() -> None:
    seen: list[Any] = []

    def metric(outputs: Any, labels: Any) -> float:
        seen.append((outputs, labels))
        return 1.0

    answers: Any = [(1, [0], {"y": np.zeros((1, n, 4))}, {"y": np.zeros((1, n, 4))}) for n in (2, 3)]
    Judge(metric_of(metric), ["one", "two"]).score(answers, True)
    outputs, labels = seen[0]
    assert [one.shape for one in outputs] == [(2, 4), (3, 4)]
    assert labels == ["one", "two"]


def test_intervals_are_those_of_student() -> None:
    values = rng.standard_normal(9)
    wanted = 2.306 * values.std(ddof=1) / 3
    assert student(values) == pytest.approx(wanted, rel=1e-9)
    left = np.array([np.delete(values, n).mean() for n in range(9)])
    assert jackknife(left) == pytest.approx(wanted, rel=1e-9)  # of a mean both are the same
    assert math.isinf(student(values[:1]))
    many = rng.standard_normal(101)
    assert student(many) == pytest.approx(1.984 * many.std(ddof=1) / 101**0.5, rel=1e-3)


# -- conversions with a metric ---------------------------------------------------------------------------


def onnx_net() -> Any:
    pytest.importorskip("onnxruntime")
    import onnx_models as models

    graph = models.Net()
    x = graph.input("x", ["N", 3, 8, 8])
    x = graph.node("Relu", [graph.conv(x, 3, 6, (3, 3), "one")])
    return graph.model(graph.node("Flatten", [graph.conv(x, 6, 5, (6, 6), "two")], "logits"))


def test_onnx_scores_before_and_after() -> None:
    pytest.importorskip("onnxruntime")
    import onnx_models as models

    import separable as sp

    x = rng.standard_normal((64, 3, 8, 8)).astype(np.float32)
    options: dict[str, Any] = {"rank": 1, "forms": ("dw-pw",), "threads": 1}
    labels = models.run(onnx_net(), {"x": x})[0].argmax(1)
    plain = sp.onnx.separate(onnx_net(), x, **options)
    scored = sp.onnx.separate(onnx_net(), x, metric="accuracy", labels=labels, **options)
    score = scored.report.score
    assert score is not None
    assert (score.before, score.inputs, score.held_out, score.targets) == (1.0, 8, True, "labels")
    assert 0 < score.after < 1
    got = models.run(scored.model, {"x": x[7::8]})[0].argmax(1)
    assert score.after == pytest.approx((got == labels[7::8]).mean())
    assert scored.model.SerializeToString() == plain.model.SerializeToString()  # no label touches the fit
    assert "accuracy 1 -> 0." in str(scored.report)
    told = json.loads(scored.report.to_json())["score"]
    assert told["drop"] == pytest.approx(1 - score.after)

    own = sp.onnx.separate(onnx_net(), x[:32], metric="accuracy", validation=x[32:], **options).report
    assert own.score is not None
    assert (own.score.before, own.score.inputs, own.score.targets) == (1.0, 32, "outputs")
    assert "against the original's own outputs" in str(own)


def test_torch_labels_come_with_the_batches_of_a_loader() -> None:
    torch = pytest.importorskip("torch")

    import separable as sp

    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Flatten(), torch.nn.Linear(288, 4)).eval()
    x = torch.randn(64, 3, 8, 8)
    with torch.no_grad():
        y = net(x).argmax(1)
    options: dict[str, Any] = {"rank": 1, "forms": ("dw-pw",), "metric": "accuracy"}
    batches = [(x[n : n + 16], y[n : n + 16]) for n in range(0, 64, 16)]
    with_labels = sp.nn.separate(net, batches, **options).report.score
    given = sp.nn.separate(net, x, labels=y.numpy(), **options).report.score
    assert with_labels is not None
    assert given is not None
    assert with_labels.targets == given.targets == "labels"
    assert (with_labels.before, with_labels.inputs) == (1.0, 8)
    assert with_labels.after == pytest.approx(given.after)
    apart = sp.nn.separate(net, x, validation=batches, **options).report.score
    assert apart is not None
    assert (apart.inputs, apart.held_out) == (64, True)
    error = Metric(lambda outputs, labels: float((outputs.argmax(1) != labels).mean()), "error", False)
    wrong = sp.nn.separate(net, x, labels=y.numpy(), **{**options, "metric": error}).report.score
    assert wrong is not None
    assert (wrong.before, wrong.drop) == (0.0, pytest.approx(given.drop))
    trained = sp.nn.separate(net, x, labels=y.numpy(), distill=2, **options).report.score
    assert trained is not None
    assert trained.before == 1.0
