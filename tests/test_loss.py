"""A loss is what was measured: nothing is said to be 0 that nobody looked at, whatever the outputs hold."""

from __future__ import annotations

import itertools
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conv_layers import inputs_of

from separable.conv import ConvLayer, convert
from separable.conv.conversion.records import ConversionReport, ConvertedLayer
from separable.conv.forms.table import CHEAPER
from separable.conv.scores.loss import HeldOut, OutputChange
from separable.report.conversions import SeparationReport

Array = np.ndarray[Any, Any]


def change_of(pairs: list[tuple[Array, Array]], count: int | None = None) -> float:
    held = HeldOut([len(before) if before.ndim else 1 for before, _ in pairs] if count is None else [count])
    change = OutputChange(held)
    for number, (before, after) in enumerate(pairs):
        change.add(number, "y", before, after)
    return change.value


# -- sums --------------------------------------------------------------------------------------------------


def test_what_is_measured_is_the_mean_squared_change_over_the_variance() -> None:
    rng = np.random.default_rng(0)
    before = rng.standard_normal((6, 5))
    after = before + 0.1 * rng.standard_normal((6, 5))
    assert change_of([(before, after)]) == pytest.approx(
        np.square(after - before).mean() / before.var(axis=0).mean(), rel=1e-12
    )
    assert change_of([(before, before)]) == 0.0


def test_nothing_measured_is_not_zero() -> None:
    constant = np.ones((6, 5))
    assert math.isnan(OutputChange(HeldOut([6])).value)  # no output at all
    assert math.isnan(change_of([(constant, constant)]))  # none that varies
    assert change_of([(constant, 2 * constant)]) == math.inf
    assert math.isnan(change_of([(np.zeros((0, 5)), np.zeros((0, 5)))], 6))


def test_outputs_of_another_shape_cannot_be_compared() -> None:
    """As detectors give: as many rows as they find."""
    rng = np.random.default_rng(0)
    boxes, fewer = rng.standard_normal((6, 4)), rng.standard_normal((5, 4))
    assert math.isnan(change_of([(boxes, boxes + 1), (boxes, fewer)]))
    change = OutputChange(HeldOut([6]))
    scores = rng.standard_normal((6, 3))
    change.add(0, "boxes", boxes, fewer)
    change.add(0, "scores", scores, scores + 0.1)
    constant = np.ones((6, 2))
    change.add(0, "flags", constant, constant + 1)  # has no variance to be a fraction of
    assert change.value == pytest.approx(0.01 / scores.var(axis=0).mean(), rel=1e-9)
    assert [output.reason for output in change.loss.outputs] == [
        "its shape changes, from (6, 4) to (5, 4)",
        "",
        "it changes, and does not vary",
    ]


def test_what_is_not_finite_is_left_out() -> None:
    """Such as the logarithm of a probability of 0; if it becomes infinite, that is a change."""
    rng = np.random.default_rng(0)
    before = rng.standard_normal((6, 5))
    before[:, 1] = -np.inf
    after = before + 0.1
    rest = [0, 2, 3, 4]
    assert change_of([(before, after)]) == pytest.approx(0.01 / before[:, rest].var(axis=0).mean(), rel=1e-9)
    after[3, 3] = np.nan
    assert change_of([(before, after)]) == math.inf


# -- reports -----------------------------------------------------------------------------------------------


def report_of(change: float, **options: Any) -> SeparationReport:
    row = ConvertedLayer("conv", "dw-pw", 1, 1000, 100, 90, 20, 0.25)
    stayed = ConvertedLayer("next", "dense", 0, 1000, 1000, 90, 90, math.nan, "no form is cheaper")
    return SeparationReport("macs", 0.5, (row, stayed), change, held_out=3, **options)


@pytest.mark.parametrize("kind", [ConversionReport, SeparationReport])
@pytest.mark.parametrize(
    ("change", "words"),
    [(math.nan, "not measured"), (math.inf, "do not vary"), (0.02, "of their variance|2.0e-02")],
)
def test_reports_say_what_was_not_measured(kind: Any, change: float, words: str, tmp_path: Path) -> None:
    whole = report_of(change)
    report = kind(whole.by, whole.budget, whole.layers, change, held_out=3)
    assert re.search(words, str(report))
    assert not re.search(r"\b0 of their variance|\bnan\b", str(report))
    told = json.loads(report.to_json(), parse_constant=lambda name: pytest.fail(name))
    assert told["output_change"] == (change if math.isfinite(change) else None)
    assert [row["error"] for row in told["layers"]] == [0.25, None]
    if kind is SeparationReport and all(map(pytest.importorskip, ("altair", "jinja2", "vl_convert"))):
        report.to_html(tmp_path / "page.html")
        text = (tmp_path / "page.html").read_text(encoding="utf-8")
        assert re.search(words.split("|")[0], text)
        assert "NaN" not in re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)


def test_the_command_line_says_it_too() -> None:
    pytest.importorskip("rich")
    from separable.cli.model_tables import conversion_rows

    for change, words in ((math.nan, "not measured"), (math.inf, "do not vary"), (0.02, "2 % of their")):
        assert words in dict(conversion_rows(report_of(change)))["loss"]
    chosen = dict(conversion_rows(report_of(0.02, measured=("logits",))))["loss"]
    assert "of logits, which the outputs are chosen by" in chosen


# -- all that can be asked for ---------------------------------------------------------------------------


class Chain:
    """Convolutions one after the other, whose outputs hold whole numbers if `labels`."""

    def __init__(self, labels: bool = False) -> None:
        rng = np.random.default_rng(0)
        self.layers = [
            ConvLayer(f"c{n}", rng.standard_normal((6, c_in, 3, 3)), padding=((1, 1), (1, 1)), sizes=(5, 5))
            for n, c_in in enumerate((4, 6, 6))
        ]
        self.x, self.labels = inputs_of(rng, self.layers[0], 16), labels
        self._held = HeldOut([16])
        self.held_out = self._held.count

    def walk(self, replaced: Any) -> Any:
        x = self.x
        for index, layer in enumerate(self.layers):
            y = replaced.get(index, layer)(x)
            yield x, y
            x = y

    def samples(self, index: int, replaced: Any) -> Any:
        now, then = (next(itertools.islice(self.walk(r), index, None)) for r in (replaced, {}))
        rows = self._held.fitted(0, 16)
        yield now[0][rows], then[1][rows]

    def output_change(self, replaced: Any) -> float:
        if not replaced:
            return 0.0
        change = OutputChange(self._held)
        if not self.labels:
            old, new = ([*self.walk(r)][-1][1] for r in ({}, replaced))
            change.add(0, 0, old, new)
        return change.value

    def milliseconds(self, index: int, replacement: Any) -> float:
        return float((self.layers[index] if replacement is None else replacement).macs)


@pytest.mark.parametrize("labels", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        *({"rank": rank, "forms": (form,)} for rank in (1, "full") for form in CHEAPER),
        *({"budget": 0.6, "by": by, "rounds": 1} for by in ("macs", "params", "latency")),
        {"budget": 1.0, "rounds": 0},
    ],
    ids=str,
)
def test_every_report_can_be_read(options: dict[str, Any], labels: bool) -> None:
    report = convert(Chain(labels), **options).report
    for each in (report, SeparationReport.of(report)):
        assert str(each).count("\n") > 3
        assert "None" not in str(each)
        assert repr(each)
        json.loads(each.to_json(), parse_constant=lambda name: pytest.fail(name))
    changed = any(row.form != "dense" for row in report.layers)
    assert math.isnan(report.output_change) == (labels and changed)
    if "rank" in options:
        assert "budget" not in str(report)


def test_layers_that_stay_behind_those_that_changed_were_not_measured() -> None:
    net = Chain()
    net.layers[2] = ConvLayer("c2", np.ones((2, 6, 1, 1)), sizes=(5, 5))  # has no bias, and no cheaper form
    rows = convert(net, rank=1, forms=("dw-pw",)).report.layers
    assert rows[2].form == "dense"
    assert math.isnan(rows[2].error)
    assert all(row.error > 0 for row in rows[:2])
    net.layers[0] = ConvLayer("c0", np.ones((6, 4, 1, 1)), sizes=(5, 5))
    assert convert(net, rank=1, forms=("dw-pw",)).report.layers[0].error == 0.0  # it reads what it read


# -- networks whose outputs are no numbers to compare --------------------------------------------------------


def test_onnx_labels_are_judged_by_what_they_are_chosen_by(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    import onnx_models as models

    import separable as sp

    def net(*, last: str) -> Any:
        graph = models.Net()
        x = graph.input("x", ["N", 3, 8, 8])
        x = graph.node("Relu", [graph.conv(x, 3, 6, (3, 3), "one")])
        logits = graph.node("Flatten", [graph.conv(x, 6, 5, (6, 6), "two")], "logits")
        if last == "logits":
            return graph.model(logits)
        node = graph.node("ArgMax", [logits], "label", axis=1, keepdims=0)
        model = graph.model(logits)
        end = models.helper.make_tensor_value_info(node, models.onnx.TensorProto.INT64, ["N"])
        model.graph.output[0].CopyFrom(end)
        return model

    x = np.random.default_rng(0).standard_normal((24, 3, 8, 8)).astype(np.float32)
    options: dict[str, Any] = {"rank": 1, "forms": ("dw-pw",), "threads": 1}
    by_label, by_logits = (sp.onnx.separate(net(last=last), x, **options) for last in ("label", "logits"))
    assert by_label.report.output_change == pytest.approx(by_logits.report.output_change, rel=1e-6)
    assert by_label.report.output_change > 0.01
    assert by_label.report.measured == ("logits_out",)
    assert by_logits.report.measured == ()
    assert "logits_out, which the outputs are chosen by" in str(by_label.report)


def small_torch_net(outputs: Any) -> Any:
    torch = pytest.importorskip("torch")

    class Small(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 8, 3)

        def forward(self, x: Any) -> Any:
            return outputs(self.conv(x).mean((2, 3)), x)

    torch.manual_seed(0)
    return Small().eval(), torch.randn(64, 3, 8, 8)


def torch_loss(outputs: Any) -> Any:
    import separable as sp

    net, x = small_torch_net(outputs)
    return sp.nn.separate(net, x, rank=1, forms=("dw-pw",)).report


@pytest.mark.parametrize(
    ("outputs", "operator"),
    [
        (lambda y, x: y.argmax(1), "argmax"),
        (lambda y, x: y.argmax(1).float().unsqueeze(1), "argmax"),
        (lambda y, x: y > 0, "gt"),
        (lambda y, x: y.topk(3).indices, "topk"),
        (lambda y, x: y.int(), "_to_copy"),
    ],
    ids=["argmax", "cast", "greater", "topk", "int"],
)
def test_torch_labels_are_judged_by_what_they_are_chosen_by(outputs: Any, operator: str) -> None:
    """A network that gives labels loses what the same network loses that gives its scores."""
    chosen, scores = torch_loss(outputs), torch_loss(lambda y, x: y)
    assert chosen.output_change == pytest.approx(scores.output_change, rel=1e-5)
    assert chosen.measured == (f"the input of {operator}",)
    assert scores.measured == ()
    assert f"of the input of {operator}, which the outputs are chosen by" in str(chosen)


def test_torch_labels_of_unknown_origin_are_judged_by_those_that_change() -> None:
    def outside(y: Any, x: Any) -> Any:
        import torch

        return torch.tensor(y.numpy().argmax(1))

    report = torch_loss(outside)
    assert 0 < report.output_change <= 1
    assert report.output_change * 8 == int(report.output_change * 8)  # of 8 inputs held out
    assert [output.unit for output in report.outputs] == ["elements"]
    assert re.search(r"outputs change by \d+ % of their elements", str(report))


def test_torch_outputs_that_no_convolution_reaches_hide_nothing() -> None:
    """An output of large numbers that pass through would make any loss look like none."""
    torch = pytest.importorskip("torch")
    beside = torch_loss(
        lambda y, x: {"scores": y, "sizes": 1e3 * x.sum((1, 2, 3)), "count": torch.ones(len(x))}
    )
    alone = torch_loss(lambda y, x: y)
    assert beside.output_change == pytest.approx(alone.output_change, rel=1e-5)
    assert [output.name for output in beside.outputs] == ["scores"]


def test_outputs_of_small_numbers_are_not_hidden_by_large_ones() -> None:
    """A probability beside a recurrent state: what is consumed is the probability."""
    rng = np.random.default_rng(0)
    state, probability = 1e3 * rng.standard_normal((16, 64)), 1e-3 * rng.standard_normal((16, 1))
    change = OutputChange(HeldOut([16]))
    change.add(0, "state", state, state + 1.0)
    change.add(0, "probability", probability, np.zeros_like(probability))
    loss = change.loss
    assert loss.outputs[0].change < 1e-4
    assert loss.outputs[1].change > 0.1
    assert loss.change == pytest.approx(sum(output.change for output in loss.outputs) / 2)


def test_mixed_outputs_weigh_alike() -> None:
    report = torch_loss(lambda y, x: (y, (5 * y[:, :3]).argmax(1)))
    scores, chosen = (output.change for output in report.outputs)
    assert scores > 0
    assert chosen > 0
    assert report.output_change == pytest.approx((scores + chosen) / 2, rel=1e-9)
    assert "the input of argmax, for 1" in str(report)
    assert "(mean of 2, each counting alike)" in str(report)


def test_a_network_that_stays_is_said_to_give_what_it_gave() -> None:
    pytest.importorskip("torch")

    import separable as sp

    net, x = small_torch_net(lambda y, x: y)
    report = sp.nn.separate(net, x, by="macs", budget=1.0).report
    assert not report.changed
    assert "outputs as before: no layer is replaced" in str(report)
    assert " 0 of" not in str(report)


def onnx_net(outputs: list[tuple[str, str, list[int | str]]], nodes: Any) -> Any:
    """Two convolutions that make `scores` (N, 5), nodes behind, and outputs by name, type and shape."""
    pytest.importorskip("onnxruntime")
    import onnx
    import onnx_models as models

    graph = models.Net()
    x = graph.input("x", ["N", 3, 8, 8])
    x = graph.node("Relu", [graph.conv(x, 3, 6, (3, 3), "one")])
    graph.node("Flatten", [graph.conv(x, 6, 5, (6, 6), "two")], "scores")
    nodes(graph)
    model = graph.model("scores_out")
    del model.graph.output[:]
    for name, kind, shape in outputs:
        element = getattr(onnx.TensorProto, kind)
        model.graph.output.append(models.helper.make_tensor_value_info(name, element, shape))
    return model


def onnx_loss(*args: Any) -> Any:
    import separable as sp

    x = np.random.default_rng(0).standard_normal((64, 3, 8, 8)).astype(np.float32)
    return sp.onnx.separate(onnx_net(*args), x, rank=1, forms=("dw-pw",), threads=1).report


def test_onnx_outputs_of_every_kind_are_judged_by_floats() -> None:
    def choose(graph: Any) -> None:
        label = graph.node("ArgMax", ["scores_out"], "label", axis=1, keepdims=0)
        graph.node("Cast", [label], "cast", to=1)
        graph.node("Greater", ["scores_out", graph.constant("zero", np.float32(0))], "flags")
        graph.node("Softmax", ["scores_out"], "soft", axis=1)
        graph.node("ReduceSum", [graph.node("Mul", ["x", "big"]), "axes"], "sizes", keepdims=0)
        graph.constant("big", np.float32(1e3))
        graph.constant("axes", np.array([1, 2, 3]))

    scores = [("scores_out", "FLOAT", ["N", 5])]
    alone = onnx_loss(scores, lambda graph: None)
    for output in (
        ("cast_out", "FLOAT", ["N"]),
        ("flags_out", "BOOL", ["N", 5]),
        ("label_out", "INT64", ["N"]),
    ):
        chosen = onnx_loss([output], choose)
        assert chosen.output_change == pytest.approx(alone.output_change, rel=1e-6)
        assert chosen.measured == ("scores_out",)
    mixed = onnx_loss([("soft_out", "FLOAT", ["N", 5]), ("label_out", "INT64", ["N"])], choose)
    soft, chosen = (output.change for output in mixed.outputs)
    assert chosen == pytest.approx(alone.output_change, rel=1e-6)
    assert mixed.output_change == pytest.approx((soft + chosen) / 2, rel=1e-9)
    beside = onnx_loss([*scores, ("sizes_out", "FLOAT", ["N"])], choose)
    assert beside.output_change == pytest.approx(alone.output_change, rel=1e-9)


def test_parts_of_an_onnx_output_are_judged_by_themselves_where_some_are_much_larger() -> None:
    """Scores from 0 to 1 would not show beside boxes in pixels."""

    def join(loud: float) -> Any:
        def joined(graph: Any) -> None:
            boxes = graph.node("Mul", ["scores_out", graph.constant("loud", np.float32(loud))], "boxes")
            both = graph.node(
                "Concat", [boxes, graph.node("Sigmoid", ["scores_out"], "soft")], "both", axis=1
            )
            graph.node("Transpose", [both], "turned", perm=[1, 0])

        return joined

    output = [("turned_out", "FLOAT", [10, "N"])]
    apart, together = (onnx_loss(output, join(loud)) for loud in (1e3, 0.2))
    assert (apart.measured, together.measured) == (("boxes_out", "soft_out"), ())
    assert apart.output_change == pytest.approx(np.mean([part.change for part in apart.outputs]), rel=1e-9)
    alone = onnx_loss([("scores_out", "FLOAT", ["N", 5])], lambda graph: None)
    assert apart.outputs[0].change == pytest.approx(alone.output_change, rel=1e-4)


def test_onnx_outputs_whose_length_depends_on_values_are_judged_by_what_is_selected() -> None:
    def select(graph: Any) -> None:
        flags = graph.node("Greater", ["scores_out", graph.constant("zero", np.float32(0))], "flags")
        graph.node("NonZero", [flags], "places")

    selected = onnx_loss([("places_out", "INT64", [2, "K"])], select)
    alone = onnx_loss([("scores_out", "FLOAT", ["N", 5])], lambda graph: None)
    assert selected.output_change == pytest.approx(alone.output_change, rel=1e-6)


# -- how sure a loss is --------------------------------------------------------------------------------------


def test_the_interval_holds_the_loss_of_all_inputs() -> None:
    """Nineteen times of twenty, that is: from eight inputs each, of a population whose loss is known."""
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(200):
        before = rng.standard_normal((64, 50))
        size = rng.gamma(4.0, 0.25, (64, 1))  # some inputs suffer more than others; 1 on average
        after = before + np.sqrt(0.05 * size) * rng.standard_normal((64, 50))
        change = OutputChange(HeldOut([64]))
        change.add(0, "y", before, after)
        loss = change.loss
        assert loss.inputs == 8
        assert loss.interval is not None
        hits += loss.interval[0] <= 0.05 <= loss.interval[1]
    assert hits >= 180


def test_an_interval_of_labels_that_all_stay_is_not_empty() -> None:
    labels = np.arange(64) % 5
    change = OutputChange(HeldOut([64]))
    change.add(0, "y", labels, labels.copy())
    assert change.loss.change == 0.0
    assert change.loss.interval == (0.0, pytest.approx(3 / 8))
    one = OutputChange(HeldOut([1]))
    one.add(0, "y", np.arange(3.0)[None], np.arange(3.0)[None] + 1)
    assert one.loss.interval is None  # one input says nothing of others


def test_changed_labels_are_counted_by_elements() -> None:
    rng = np.random.default_rng(0)
    before = rng.integers(0, 3, (16, 10))
    after = before.copy()
    after[7, :4] += 1  # the held-out inputs are the eighth and the sixteenth
    after[3] += 1
    assert change_of([(before, after)]) == pytest.approx(4 / 20)
    flags = before > 1
    assert change_of([(flags, ~flags)]) == 1.0
