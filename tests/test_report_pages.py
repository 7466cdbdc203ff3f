"""The pages of audits and conversions: their data, that nothing else is needed, how a browser shows them."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import separable as sp
from separable._base.extras import MissingExtraError
from separable.conv.audits.records import Layer, Refused
from separable.conv.audits.separability import Separability, separability
from separable.conv.conversion.records import ConvertedLayer, Option
from separable.conv.forms.layer import ConvLayer
from separable.conv.frontiers.records import LeftOut, PointRecord
from separable.conv.scores.records import OutputLoss, Score
from separable.engine.times.records import BenchMachine, FailedModel, ModelTimes, RuntimeTimes
from separable.report.audits import Audit
from separable.report.benches import Bench
from separable.report.conversions import SeparationReport
from separable.report.frontiers import Frontier
from separable.report.paged import Paged

for needed in ("altair", "jinja2", "vl_convert"):
    pytest.importorskip(needed)

OWNED = "<script>document.title='owned'</script>"
NAMES = (
    f"</script>{OWNED}",
    "<img src=x onerror=document.title='owned'>",
    "--ink",
    "{{7*7}}",
    "a'\"\x1b[2J\u202e",
)
LIMIT = 2_000_000  # bytes
KEYS = {"light": 1, "dark": 0}  # Chromium's preferredColorScheme


def layer_of(
    name: str, c_in: int, c_out: int, kernel: tuple[int, ...], seed: int
) -> tuple[Layer, Separability]:
    weights = np.random.default_rng(seed).standard_normal((c_out, c_in, *kernel))
    padding = tuple((k // 2, k // 2) for k in kernel)
    conv = ConvLayer(name, weights, sizes=(12, 12), padding=padding)
    kind = "conv" if conv.taps > 1 else "pointwise"
    shapes = ((1, c_in, 12, 12),), (1, c_out, 12, 12)
    macs, params = conv.macs, conv.params
    costs = (1, macs, 2 * macs, params, 4 * params, 0.01 * (seed + 1), None)
    weight = f"{name}.weight"
    layer = Layer(name, kind, "conv2d", (weight,), kernel, (1, 1), (1, 1), 1, "float32", *shapes, *costs)
    judged = separability(conv)
    assert judged is not None
    return layer, judged


def audit_of(count: int = 6, names: tuple[str, ...] = ()) -> Audit:
    pairs = [
        layer_of(
            names[n % len(names)] + str(n) if names else f"stage{n}.conv",
            3 + n % 5,
            6,
            (3, 3) if n % 3 else (1, 1),
            n,
        )
        for n in range(count)
    ]
    layers, judged = zip(*pairs, strict=True)
    params = sum(layer.params for layer in layers)
    refused = (Refused(names[0] if names else "up", "ConvTranspose", "it is transposed"),)
    return Audit("Net", "(1, 3, 12, 12) float32", layers, params, None, None, (), "counted", judged, refused)


def report_of(count: int = 6, names: tuple[str, ...] = ()) -> SeparationReport:
    layers = []
    for n in range(count):
        name = names[n % len(names)] if names else f"stage{n}.conv"
        options = [Option("dense", 1, 1000.0, 0.0, 0.0)]
        for form in ("dw-pw", "pw-dw", "spatial", "low-rank"):
            options += [
                Option(form, r, 150.0 * r, math.exp(-r - 0.1 * n), 0.3 * math.exp(-r)) for r in (1, 2, 3, 4)
            ]
        row = ConvertedLayer(name, "dw-pw", 1 + n % 3, 1000, 150 * (1 + n % 3), 90, 40, 0.01 * (n + 1), "")
        if n == 2:
            row = replace(
                row, form="dense", rank=0, macs_after=1000, error=0.0, reason=f"{name} does not pay"
            )
        layers.append(replace(row, options=tuple(options)))
    line = tuple((x, 0.2 * (1 - x)) for x in (0.1, 0.2, 0.4, 0.7, 1.0))
    return SeparationReport("macs", 0.4, tuple(layers), 0.021, 0, 0, line)


def frontier_of(count: int = 4, names: tuple[str, ...] = (), score: bool = False) -> Frontier[PointRecord]:
    """Return a frontier of so many networks, of which the last but one is dominated."""

    def report(share: float, loss: float) -> SeparationReport:
        layers = []
        for n in range(3):
            name = names[n % len(names)] if names else f"stage{n}.conv"
            row = ConvertedLayer(name, "dw-pw", n + 1, 1000, int(1000 * share), 90, int(90 * share), loss)
            layers.append(row if share < 1 and n else replace(row, form="dense", rank=0, error=0.0))
        done = SeparationReport(
            "time", share, tuple(layers), loss, held_out=16, interval=(loss / 2, 2 * loss)
        )
        if score:
            drop = (loss - 0.02, loss + 0.02)
            done = replace(done, score=Score("accuracy", 0.9, 0.9 - loss, inputs=40, drop_interval=drop))
        times = {"milliseconds_before": 2.0, "milliseconds_after": 2.0 * share, "runtime": "the engine"}
        return replace(done, model=names[0] if names else "gate", **times)

    reports = [report(1.0, 0.0), *(report(1 / 2**n, 0.003 * 4**n) for n in range(1, count + 1))]
    reports[-2] = replace(reports[-2], milliseconds_after=1.9)
    points = [PointRecord(r.budget or 1.0, r, r is reports[-2]) for r in reports]
    return Frontier(
        points[0], tuple(points[1:]), (LeftOut(0.01, "the cheapest forms leave 0.05 of the time"),)
    )


def bench_of(count: int = 2, names: tuple[str, ...] = ()) -> Bench:
    """Return so many models in two runtimes with one and with two threads; OpenVINO did not start alone."""
    models = []
    for n in range(count):
        name = f"{names[n % len(names)] if names else 'net'}{n}.onnx"
        for threads in (1, 2):
            base = (n + 1) / threads
            calls = tuple(base * (1 + 0.004 * k * k) for k in range(20))
            ours = RuntimeTimes("separable", "1.0", calls, 3.0, 50 << 20, 40 << 20, 1e-6)
            slow = tuple((30.0 if n else 1.5) * call for call in calls)
            note = f"memory and load time not measured: {name}"
            peer = RuntimeTimes("OpenVINO", "2026.4", slow, error=math.inf, notes=(note,))
            refused = (f"ONNX Runtime refuses it: {name}",)
            shapes = {"image": (1, 3, 224, 224)}
            models.append(
                ModelTimes(name, shapes, threads, 20_000_000, 100.0 * threads, 12.5, (ours, peer), refused)
            )
    machine = BenchMachine("Processor", 2, "x86-64-v4", {"Python": "3.11", "separable": "1.0"})
    failed = tuple(FailedModel(f"{name}.onnx", f"`{name}.onnx` is damaged") for name in names[:1])
    reference = "ONNX Runtime with optimisations off"
    return Bench(tuple(models), machine, 20, 1, 60.0, reference, ("LiteRT",), failed)


def page_of(what: Paged, folder: Path) -> Path:
    path = folder / "page.html"
    what.to_html(path)
    return path


def data_of(path: Path) -> dict[str, Any]:
    text = path.read_text(encoding="utf-8")
    (found,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, flags=re.DOTALL)
    return json.loads(found)


class Page(HTMLParser):
    """Collects tags, what would be fetched, handlers, and the cells of the table."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.fetched: list[tuple[str, str | None]] = []
        self.rows: list[list[str]] = []
        self._cell = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        names = ("src", "href", "srcset", "action", "data", "poster", "background")
        self.fetched += [(key, value) for key, value in attrs if key in names or key.startswith("on")]
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self._cell = True

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._cell = False

    def handle_data(self, data: str) -> None:
        if self._cell:
            self.rows[-1][-1] += data


# --- data ---------------------------------------------------------------------------------------------


def test_the_page_of_an_audit_holds_its_numbers(tmp_path: Path) -> None:
    a = audit_of()
    data = data_of(path := page_of(a, tmp_path))
    rows = data["datasets"]["layers"]
    assert [row["layer"] for row in rows] == [layer.name for layer in a.layers]
    assert [row["MACs"] for row in rows] == [layer.macs for layer in a.layers]
    assert [row["roofline ms"] for row in rows] == pytest.approx([layer.roofline_ms for layer in a.layers])
    assert "measured ms" not in rows[0]
    frontier = [(row["cost"] * a.macs, row["error"]) for row in data["datasets"]["frontier"]]
    assert np.allclose(frontier, a.frontier, rtol=1e-4)
    for row in data["datasets"]["errors"]:
        judged = a.separability[row["place"]]
        assert row["error"] == pytest.approx(judged.errors[row["form"]][row["rank"] - 1], rel=1e-4)
    assert [row["form"] for row in data["datasets"]["halves"]] == [each.best for each in a.separability]
    for detail, judged in zip(data["details"], a.separability, strict=True):
        spectrum, curves = detail["data"]["spectrum"]["rows"], detail["data"]["curves"]["rows"]
        assert len(spectrum) == sum(map(len, judged.spectra.values()))
        wanted = [(f, r, m / judged.macs, e) for f, r, m, e in judged.options() if m <= judged.macs]
        assert [row[:2] for row in curves] == [[form, rank] for form, rank, *_ in wanted]
        assert np.allclose([row[2:] for row in curves], [row[2:] for row in wanted], rtol=1e-4)
    heading, *cells = Page(path.read_text(encoding="utf-8")).rows
    assert [row[heading.index("MACs")] for row in cells] == [f"{layer.macs:,}" for layer in a.layers]
    assert [row[heading.index("nearest at 1/2")] for row in cells] == [each.best for each in a.separability]
    assert all(len(row) == len(heading) for row in cells)


def test_the_page_of_a_conversion_holds_its_numbers(tmp_path: Path) -> None:
    r = report_of()
    data = data_of(path := page_of(r, tmp_path))
    rows = data["datasets"]["layers"]
    assert [(row["MACs before"], row["MACs after"]) for row in rows] == [
        (layer.macs_before, layer.macs_after) for layer in r.layers
    ]
    assert [row["reason"] for row in rows] == [layer.reason for layer in r.layers]
    assert np.allclose([tuple(row.values()) for row in data["datasets"]["frontier"]], r.frontier)
    (chosen,) = data["datasets"]["chosen"]
    assert chosen["cost"] == pytest.approx(r.macs_after / r.macs_before, rel=1e-4)
    assert chosen["error"] == r.output_change
    for detail, layer in zip(data["details"], r.layers, strict=True):
        options = detail["data"]["options"]["rows"]
        assert [row[:2] for row in options] == [[option.form, option.rank] for option in layer.options]
        (taken,) = [row for row in options if row[-1]]
        assert taken[0] == layer.form
        assert layer.form == "dense" or taken[1] == layer.rank
    heading, *cells = Page(path.read_text(encoding="utf-8")).rows
    assert [row[heading.index("MACs now")] for row in cells] == [f"{each.macs_after:,}" for each in r.layers]
    assert f"{r.macs_before:,}" in path.read_text(encoding="utf-8")


def test_the_page_of_a_conversion_begins_with_its_name_its_times_and_its_score(tmp_path: Path) -> None:
    score = Score("accuracy", 0.9875, 0.98, inputs=40, drop_interval=(-0.01, 0.03))
    parts = (OutputLoss("scores", "variance", 0.02), OutputLoss("label", "elements", 0.0, "it does not vary"))
    r = replace(
        report_of(), model="gate", milliseconds_before=4.0, milliseconds_after=1.6, runtime="ONNX Runtime"
    )
    text = page_of(replace(r, score=score, outputs=parts, interval=(0.01, 0.03)), tmp_path).read_text("utf-8")
    body = " ".join(re.sub(r"<[^>]*>", " ", text.split("<script")[0]).split())
    assert "<h1>gate</h1>" in text
    assert "4 \N{RIGHTWARDS ARROW} 1.6 2.50x as fast" in body
    assert "0.9875 \N{RIGHTWARDS ARROW} 0.98 40 inputs" in body
    assert "accuracy 0.9875 -&gt; 0.98 (40 inputs left out of the fit; worse by 0.0075, 95 %" in body
    assert "95 % interval 1 % to 3 %" in body
    assert "label: it does not vary" in body
    for missing in (replace(r, score=None), replace(r, score=replace(score, after=math.nan))):
        text = page_of(missing, tmp_path).read_text(encoding="utf-8")
        assert ("not measured" in text) == (missing.score is not None)


def test_the_page_of_a_frontier_holds_its_numbers(tmp_path: Path) -> None:
    f = frontier_of()
    data = data_of(path := page_of(f, tmp_path))
    points = data["datasets"]["points"]
    assert [point["kind"] for point in points] == ["original", "point", "point", "dominated", "point"]
    assert [point["what"] for point in points] == ["original", "0.5", "0.25", "0.125", "0.0625"]
    assert [point["milliseconds"] for point in points] == [2.0, 1.0, 0.5, 1.9, 0.125]
    assert np.allclose(
        [point["loss"] for point in points], [0.0, *(each.loss for each in f.points)], rtol=1e-4
    )
    assert (points[1]["low"], points[1]["high"]) == f.points[0].interval
    assert [point["what"] for point in data["datasets"]["frontier"]] == ["original", "0.5", "0.25", "0.0625"]
    assert list(data["charts"]) == ["milliseconds", "MACs"]
    text = path.read_text(encoding="utf-8")
    rows = Page(text).rows
    assert rows[0][:3] == ["budget", "ms", "faster"]
    assert [row[0] for row in rows[1:6]] == ["original", "0.5", "0.25", "0.125 *", "0.0625"]
    assert rows[6] == ["layer", "MACs", "0.5", "0.25", "0.125", "0.0625"]
    assert rows[7] == ["stage1.conv", "1k", *["dw-pw 2"] * 4]
    assert all(len(row) == len(rows[0]) for row in rows[:6])
    assert "left out 0.01: the cheapest forms leave 0.05 of the time" in text
    assert "No other network loses 1 % or less." in text


def test_the_page_of_a_frontier_by_a_metric_or_without_times(tmp_path: Path) -> None:
    data = data_of(page_of(frontier_of(score=True), tmp_path))
    assert "drop of accuracy" in json.dumps(data["charts"])
    assert "sqrt" not in json.dumps(data["charts"])  # an interval begins below 0
    f = frontier_of()
    points = [
        replace(point, report=replace(point.report, milliseconds_before=None, milliseconds_after=None))
        for point in (f.original, *f.points)
    ]
    points[1] = replace(points[1], report=replace(points[1].report, output_change=math.nan, interval=None))
    data = data_of(page_of(Frontier(points[0], tuple(points[1:])), tmp_path))
    assert list(data["charts"]) == ["MACs"]
    assert data["datasets"]["points"][1]["loss"] is None
    text = str(Frontier(points[0], tuple(points[1:])))
    assert "0.5: not measured: no output varies" in text
    nothing = Frontier(f.original, (), f.left_out)
    assert data_of(page_of(nothing, tmp_path))["charts"] == {}
    assert "It does not pay here." in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_a_frontier_as_text_fits_a_narrow_terminal() -> None:
    for f in (frontier_of(), frontier_of(score=True), frontier_of(names=NAMES)):
        lines = str(f).splitlines()
        assert max(map(len, lines)) <= 80
        assert all(each.isprintable() for each in lines)
        heads = lines[next(n for n, line in enumerate(lines) if line.startswith("budget "))].split()
        assert heads[:5] == ["budget", "ms", "faster", "MACs", "params"]
        assert "* another one takes no longer and loses no more" in lines
    row = next(line.split() for line in str(frontier_of()).splitlines() if line.startswith("0.25"))
    assert row == ["0.25", "0.5", "4.00x", "750", "66", "4.8", "%", "2.4", "%", "to", "9.6", "%"]


def test_the_page_of_an_audit_does_not_frighten(tmp_path: Path) -> None:
    a = audit_of()
    text = page_of(a, tmp_path).read_text(encoding="utf-8")
    for shown in (text.split("<script")[0], str(a)):
        assert "weights lost" not in shown
        assert not re.search(r"\d % lost|lose", shown)
        assert "weights alone do not tell" in " ".join(shown.split())
    assert str(a).index("weights alone do not tell") < str(a).index("layer ")  # it comes first


def test_the_page_of_a_bench_holds_its_numbers(tmp_path: Path) -> None:
    b = bench_of()
    data = data_of(path := page_of(b, tmp_path))
    names = ["latency0", "load0", "memory0", "latency1", "load1", "memory1"]
    assert list(data["charts"]) == names
    rows = data["datasets"]["rows0"]
    assert [row["row"] for row in rows] == [
        "separable, 1",
        "OpenVINO, 1",
        "separable, 2",
        "OpenVINO, 2",
    ]
    ours, peer = b.models[0].times
    assert (rows[0]["least"], rows[0]["p50"]) == (ours.least_ms, pytest.approx(ours.median_ms, rel=1e-4))
    assert rows[1]["p99"] == pytest.approx(peer.quantile_ms(0.99), rel=1e-4)
    assert [row["ms"] for row in data["datasets"]["calls0"][:20]] == pytest.approx(ours.milliseconds)
    assert [row["row"] for row in data["datasets"]["loads0"]] == [
        "separable, 1",
        "separable, 2",
    ]
    assert data["datasets"]["memories0"][0]["memory"] == 50
    assert "logarithmic" not in json.dumps(data["charts"]["latency0"])
    assert "logarithmic" in json.dumps(data["charts"]["latency1"])
    heading, *cells = Page(path.read_text(encoding="utf-8")).rows
    assert len(cells) == 8
    assert all(len(row) == len(heading) for row in cells)
    first, second = (dict(zip(heading, row, strict=True)) for row in cells[:2])
    assert (first["memory"], first["load"], first["error"], first["ours"]) == ("50 MiB", "3", "1e-06", "1x")
    assert (second["memory"], second["load"], second["error"], second["ours"]) == ("-", "-", "inf", "1.5x")
    body = " ".join(re.sub(r"<[^>]*>", " ", path.read_text("utf-8").split("<script")[0]).split())
    assert "1 thread: separable takes 1 ms at least; OpenVINO 1.5x as long" in body
    assert "not installed LiteRT" in body
    assert "ONNX Runtime refuses it" in body


def test_axes_name_layers() -> None:
    from separable.report.pages.page import axis_labels

    assert axis_labels(["stem", "block.0.conv1"]) == ["stem", "block.0.conv1"]
    long = axis_labels([f"/model.{n}/cv{n}/a/very/long/way/conv/Conv" for n in range(4)] + ["a", "a"])
    assert all(len(label) <= 25 for label in long)
    assert len(set(long)) == 6
    exported = axis_labels([f"/layer{n}/Conv" for n in range(5)])
    assert exported == [f"/layer{n}" for n in range(5)]


@pytest.mark.parametrize("by", ["params", "time"])
def test_other_budgets(by: str, tmp_path: Path) -> None:
    r = report_of()
    if by == "time":
        timed = [replace(each, milliseconds_before=2.0, milliseconds_after=0.5) for each in r.layers]
        r = replace(r, layers=tuple(timed))
    r = replace(r, by=by, budget=None, output_change=math.inf, frontier=())
    data = data_of(page_of(r, tmp_path))
    (chosen,) = data["datasets"]["chosen"]
    ratio = r.params_after / r.params_before if by == "params" else 0.25
    assert chosen["cost"] == pytest.approx(ratio, rel=1e-4)
    assert chosen["error"] is None
    assert "frontier" not in data["charts"]
    heading = Page((tmp_path / "page.html").read_text(encoding="utf-8")).rows[0]
    assert ("ms now" in heading) == (by == "time")
    assert (" ms  now " in str(r)) == (by == "time")


def test_both_faces_write_the_page_of_a_conversion(tmp_path: Path) -> None:
    torch, onnx_models = pytest.importorskip("torch"), pytest.importorskip("onnx_models")
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(8, 16, 3), torch.nn.Flatten()
    )
    images = np.random.default_rng(0).standard_normal((24, 3, 12, 12)).astype(np.float32)
    for done in (
        sp.nn.separate(net, torch.from_numpy(images), 0.5, by="macs"),
        sp.onnx.separate(onnx_models.vgg(), images, 0.5, by="macs", never_slower=False),
    ):
        report = done.report
        assert isinstance(report, SeparationReport)
        data = data_of(page_of(report, tmp_path))
        assert [row["layer"] for row in data["datasets"]["layers"]] == [each.name for each in report.layers]
        assert len(data["datasets"]["frontier"]) == len(report.frontier) > 2
        taken = [row for each in data["details"] for row in each["data"]["options"]["rows"] if row[-1]]
        assert len(taken) == sum(len(each.options) > 1 for each in report.layers) > 1


# --- nothing else is needed, and nothing can be brought in --------------------------------------------------


@pytest.mark.parametrize("make", [audit_of, report_of, frontier_of, bench_of])
def test_nothing_is_loaded_and_names_are_only_text(make: Any, tmp_path: Path) -> None:
    text = page_of(make(5, NAMES), tmp_path).read_text(encoding="utf-8")
    page = Page(text)
    assert page.fetched == []
    assert page.tags.count("script") == 3  # data, Vega, the page's own
    assert not {"img", "link", "iframe", "object", "base"} & set(page.tags)
    style = text.partition("<style>")[2].partition("</style>")[0]
    assert not re.search(r"url\(|@import", style)
    assert "default-src 'none'" in unescape(text.partition("<style>")[0])
    assert not {"\x1b", "\u202e"} & set(text)
    assert "49" not in [cell for row in page.rows for cell in row]
    assert OWNED not in text


def test_pages_of_large_models_are_small(tmp_path: Path) -> None:
    path = page_of(audit_of(200), tmp_path)
    assert path.stat().st_size < LIMIT
    path = page_of(report_of(200), tmp_path)
    assert path.stat().st_size < LIMIT


def test_pages_of_nothing(tmp_path: Path) -> None:
    nothing = Audit("Net", "(1, 3)", (), 0, None, None, (), "counted")
    assert data_of(page_of(nothing, tmp_path))["charts"] == {}
    assert "no layer multiplies" in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert data_of(page_of(SeparationReport("macs", 0.5, (), 0.0), tmp_path))["charts"] == {}


def test_a_page_appears_when_it_is_whole(tmp_path: Path) -> None:
    page_of(report_of(), tmp_path)
    assert [each.name for each in tmp_path.iterdir()] == ["page.html"]
    with pytest.raises(ValueError, match="cannot be written"):
        report_of().to_html(tmp_path / "missing" / "page.html")


@pytest.mark.parametrize(("costs", "label"), [((0.005, 0.02), "0.01"), ((5e5, 2e6), "1M")])
def test_axes_tell_times_from_counts(costs: tuple[float, float], label: str) -> None:
    """A hundredth of a millisecond is 0.01, not "10m"; a million MACs is 1M."""
    import vl_convert

    from separable.report.pages.charts import conversion_details

    (chart,) = conversion_details("cost").values()
    rows = [
        {"form": "dw-pw", "rank": rank, "cost": cost, "effect": 0.1, "error": 0.1, "taken": rank == 1}
        for rank, cost in enumerate(costs, 1)
    ]
    drawn = vl_convert.vegalite_to_svg(
        chart | {"width": 400, "datasets": {"options": rows}}, vl_version="6.1"
    )
    labels = re.findall(r"<text[^>]*>([^<]+)</text>", drawn)
    assert label in labels
    assert not [text for text in labels if re.fullmatch(r"[.\d]+[mµn]", text)]


@pytest.mark.parametrize("name", ["altair", "jinja2", "vl_convert"])
def test_a_missing_extra_says_how_to_install_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in [each for each in sys.modules if each.startswith("separable.report.")]:
        if module.startswith("separable.report.pages."):
            monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, name, None)
    for made in (audit_of(1), report_of(1)):
        with pytest.raises(
            MissingExtraError, match=rf"{name} is not installed: pip install 'separable\[report\]'$"
        ):
            made.to_html(tmp_path / "page.html")
    assert not list(tmp_path.iterdir())


# --- as text ------------------------------------------------------------------------------------------------


def test_a_conversion_as_text_fits_a_narrow_terminal() -> None:
    r = report_of()
    lines = str(r).splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].split() == ["MACs", "6,000", "->", "2,350", "2.6x", "fewer"]
    place = lines.index("outputs change by 2.1 % of their variance")
    assert lines[place + 1] == "  (calibration inputs, which it was fitted to)"
    held_out = str(replace(r, held_out=12)).splitlines()
    assert held_out[place + 1] == "  (12 calibration inputs left out of the fit)"
    assert "stayed dense: stage2.conv does not pay" in lines
    row = next(line.split() for line in lines if line.startswith("stage1"))
    assert row == ["stage1.conv", "dw-pw", "2", "1k", "300", "2", "%"]
    long = replace(r, layers=tuple(replace(each, name=f"{'part.' * 20}{each.name}") for each in r.layers))
    lines = str(long).splitlines()
    place = lines.index(f"{'part.' * 20}stage1.conv")
    assert lines[place + 1].split() == row[1:]
    assert "0..2" in str(replace(r, layers=(replace(r.layers[0], rank=(0, 2, 1)),)))


def test_names_do_nothing_to_a_terminal() -> None:
    for text in (str(report_of(5, NAMES)), str(audit_of(5, NAMES))):
        assert all(each.isprintable() or each == "\n" for each in text)
        assert r"\x1b[2J" in text


# --- in a browser -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chromium() -> str:
    names = (os.environ.get("CHROME", ""), "chromium", "chromium-browser", "google-chrome")
    found = next(filter(None, map(shutil.which, filter(None, names))), None)
    if found is None:
        pytest.skip("no Chromium was found; CHROME names one")
    return found


def shown(chromium: str, path: Path, scheme: str, size: tuple[int, int]) -> tuple[str, Path, list[str]]:
    """Open a page without any network; return its DOM, a screenshot, and what the console says."""
    picture = path.with_suffix(".png")
    done = subprocess.run(
        [
            chromium,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--host-resolver-rules=MAP * ~NOTFOUND",
            f"--user-data-dir={path.parent / 'profile'}",
            f"--window-size={size[0]},{size[1]}",
            f"--blink-settings=preferredColorScheme={KEYS[scheme]}",
            "--virtual-time-budget=30000",
            "--enable-logging=stderr",
            "--dump-dom",
            f"--screenshot={picture}",
            path.as_uri(),
        ],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, picture, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def charts_in(dom: str) -> dict[str, int]:
    """Return how many marks each chart has that was drawn."""
    found = {}
    for part in dom.split('<div class="chart')[1:]:
        (name,) = re.findall(r'id="(\w+)"', part)[:1]
        drawing = part.partition("</svg>")[0]
        found[name] = len(re.findall(r'<path[^>]*aria-roledescription="[^"]+"', drawing))
    return found


BENCH = " ".join(f"latency{n} 84 load{n} 2 memory{n} 4" for n in range(5))


@pytest.mark.parametrize(
    ("make", "scheme", "size", "charts"),
    [
        (audit_of, "light", (1300, 1700), "costs 5 errors 3 halves 5 frontier 10 spectrum 9 curves 9"),
        (report_of, "dark", (420, 2400), "layers 10 errors 5 frontier 5 options 17"),
        (frontier_of, "light", (400, 2400), "milliseconds 7 MACs 7"),
        (frontier_of, "dark", (1400, 1500), "milliseconds 7 MACs 7"),
        (bench_of, "light", (400, 3000), BENCH),
        (bench_of, "dark", (1400, 1800), BENCH),
    ],
    ids=[
        *("audit, light and wide", "conversion, dark and narrow"),
        *("frontier, light and narrow", "frontier, dark and wide"),
        *("bench, light and narrow", "bench, dark and wide"),
    ],
)
def test_charts_are_drawn(
    make: Any, scheme: str, size: tuple[int, int], charts: str, chromium: str, tmp_path: Path
) -> None:
    path = page_of(make(5, NAMES), tmp_path)
    dom, picture, console = shown(chromium, path, scheme, size)
    assert console == []
    assert f'data-ready="{scheme}"' in dom
    assert "<title>owned" not in dom
    drawn, words = charts_in(dom), charts.split()
    assert list(drawn) == words[::2]
    assert all(marks >= int(least) for marks, least in zip(drawn.values(), words[1::2], strict=True)), drawn
    image = pytest.importorskip("PIL.Image").open(picture).convert("RGB")
    assert image.size[0] == size[0]
    assert image.getpixel((1, 1)) == {"light": (0xFB, 0xFB, 0xFA), "dark": (0x15, 0x18, 0x1C)}[scheme]
    style = (Path(sys.modules["separable.report.pages"].__path__[0]) / "page.css").read_text(encoding="utf-8")
    accents = re.findall(r"--dw-pw: (#\w+)", style)  # light first, then dark
    assert accents[scheme == "dark"] in dom
    colour = tuple(bytes.fromhex(accents[scheme == "dark"][1:]))
    assert sum(count for count, each in image.getcolors(1 << 24) if each == colour) > 100


CLICKS = """
<script>
const said = {};
addEventListener("error", event => { said.error = event.message; });
const wait = () => new Promise(done => setTimeout(done, 300));
(async () => {
  while (!document.documentElement.dataset.ready) await wait();
  const list = document.getElementById("layer");
  document.querySelectorAll("#costs path[aria-roledescription=bar]")[4].dispatchEvent(
    new MouseEvent("click", { bubbles: true, view: window }));
  await wait();
  said.bar = list.value;
  document.querySelectorAll("tr[data-place]")[2].click();
  await wait();
  said.row = [list.value, document.querySelector("tr.chosen").dataset.place];
  list.value = "3";
  list.dispatchEvent(new Event("change"));
  await wait();
  said.list = document.getElementById("facts").textContent;
  const slider = document.querySelector("#errors input[type=range]");
  const height = () => document.querySelector("#errors .mark-symbol path").getAttribute("transform");
  said.before = height();
  slider.value = "4";
  slider.dispatchEvent(new Event("input", { bubbles: true }));
  await wait();
  said.after = height();
  const heads = [...document.querySelectorAll("th button")];
  heads.find(each => each.textContent === "MACs").click();
  said.sorted = [...document.querySelectorAll("tr[data-place]")].map(row => Number(row.dataset.place));
  document.body.dataset.said = JSON.stringify(said);
})();
</script>
"""


def test_charts_and_tables_answer(chromium: str, tmp_path: Path) -> None:
    a = audit_of()
    path = page_of(a, tmp_path)
    text = path.read_text(encoding="utf-8")
    # The page's policy would not let this script run.
    head, _, tail = re.sub(r"<meta http-equiv.*?>", "", text).rpartition("</body>")
    path.write_text(f"{head}{CLICKS}</body>{tail}", encoding="utf-8")
    dom, _, console = shown(chromium, path, "light", (1300, 1700))
    assert console == []
    (told,) = re.findall(r'data-said="([^"]+)"', dom)
    said = json.loads(unescape(told))
    assert "error" not in said
    assert said["bar"] == "4"
    assert said["row"] == ["2", "2"]
    assert f"MACs{a.layers[3].macs:,}" in said["list"]
    assert said["before"] != said["after"]
    macs = [a.layers[place].macs for place in said["sorted"]]
    assert macs == sorted(macs, reverse=True)


class Missing(Paged):
    """A report whose page needs what is not installed."""

    def _page(self) -> str:
        raise ModuleNotFoundError("No module named 'altair'", name="altair")


def test_a_page_that_cannot_be_drawn_is_not_begun(tmp_path: Path) -> None:
    with pytest.raises(MissingExtraError, match=re.escape("pip install 'separable[report]'")):
        Missing().to_html(tmp_path / "page.html")
    assert not list(tmp_path.iterdir())
