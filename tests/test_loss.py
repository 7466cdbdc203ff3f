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
from separable.conv.conversion.loss import HeldOut, OutputChange
from separable.conv.conversion.records import ConversionReport, ConvertedLayer
from separable.conv.forms.table import CHEAPER
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
    assert change.value == pytest.approx(0.01 / scores.var(axis=0).mean(), rel=1e-9)


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
        assert words in dict(conversion_rows(report_of(change), (None, None)))["loss"]
    chosen = dict(conversion_rows(report_of(0.02, measured=("logits",)), (None, None)))["loss"]
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


def test_torch_labels_are_said_to_be_unmeasured() -> None:
    torch = pytest.importorskip("torch")

    import separable as sp

    class Labels(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 8, 3)

        def forward(self, x: Any) -> Any:
            return self.conv(x).mean((2, 3)).argmax(1)

    torch.manual_seed(0)
    done = sp.nn.separate(Labels().eval(), torch.randn(16, 3, 8, 8), rank=1)
    assert math.isnan(done.report.output_change)
    assert "not measured" in str(done.report)
    assert "0 of their variance" not in str(done.report)
