"""Whole conversions of ONNX models: the budget holds, the result is in order, the input is left alone."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_models as models
import pytest
from onnx.onnx_ml_pb2 import ModelProto
from onnx_models import Array, Net

import separable as sp
from separable.conv.conversion.network import CalibratedNetwork
from separable.conv.forms.layer import Replacement
from separable.files.guard import FileError
from separable.onnx.conversion.network import OnnxNetwork
from separable.onnx.conversion.surroundings import around
from separable.onnx.conversion.trace import find_layers
from separable.onnx.model.files import read_model
from separable.onnx.model.graph import GraphIndex


def image(*shape: int) -> Array:
    """Inputs as smooth as images are."""
    x = np.random.default_rng(1).standard_normal(shape)
    for axis in (-1, -2):
        x = x + np.roll(x, 1, axis) + np.roll(x, 2, axis)
    return x.astype(np.float32)


def macs(model: ModelProto) -> int:
    """Multiply-accumulates of all layers, by the auditor."""
    kinds = sp.onnx.audit(model).macs_by_kind
    return sum(
        kinds.get(kind, 0) for kind in ("conv", "depthwise", "pointwise", "grouped", "transposed", "linear")
    )


def change_of(got: Array, wanted: Array) -> float:
    """Of the inputs that are held out, each eighth one, over the variance of all."""
    return float(np.square(got - wanted)[7::8].mean() / np.square(wanted - wanted.mean(axis=0)).mean())


@pytest.mark.parametrize(("build", "by"), [(models.vgg, "params"), (models.resnet, "macs")])
def test_the_budget_holds(build: Callable[..., ModelProto], by: str) -> None:
    model = build(width=12)
    before = model.SerializeToString(deterministic=True)
    x = image(48, 3, 12, 12)
    result = sp.onnx.separate(model, x, budget=0.5, by=by, threads=1, never_slower=False)
    assert model.SerializeToString(deterministic=True) == before
    models.check(result.model)
    report = result.report
    assert (report.macs_before, report.macs_after) == (macs(model), macs(result.model))
    assert getattr(report, f"{by}_after") <= 0.5 * getattr(report, f"{by}_before")
    assert (result.model.producer_name, result.model.opset_import) == (
        model.producer_name,
        model.opset_import,
    )
    assert "separable: " in result.model.doc_string
    got, wanted = (models.run(each, {"image": x})[0] for each in (result.model, model))
    assert report.output_change == pytest.approx(change_of(got, wanted), rel=1e-3)
    assert report.output_change < 0.2
    assert {row.name for row in report.layers} == {
        node.name for node in model.graph.node if node.op_type in ("Conv", "Gemm")
    }
    assert all(row.name in str(report) for row in report.layers)
    assert json.loads(report.to_json())["macs_after"] == report.macs_after
    assert (result.milliseconds_before, result.milliseconds_after) == (None, None)


def test_a_budget_of_everything_changes_nothing() -> None:
    model = models.vgg()
    x = image(16, 3, 12, 12)
    result = sp.onnx.separate(model, x, by="macs", budget=1.0, threads=1, never_slower=False)
    got, wanted = (models.run(each, {"image": x})[0] for each in (result.model, model))
    assert np.abs(got - wanted).max() < 1e-3 * np.abs(wanted).max()


def refusing() -> ModelProto:
    net = Net()
    x = net.input("image", ["N", 8, 10, 10])
    y = net.conv(x, 8, 16, (3, 3), "plain", pads=[1] * 4)
    y = net.conv(y, 16, 16, (3, 3), "left out", pads=[1] * 4)
    net.constant("up.w", net.normal(16, 8, 3, 3))
    return net.model(net.node("ConvTranspose", [y, "up.w"], "up", pads=[3] * 4))


def test_what_stays_has_a_row_and_a_reason() -> None:
    model = refusing()
    result = sp.onnx.separate(
        model, image(16, 8, 10, 10), 0.9, by="macs", skip=["left*"], threads=1, never_slower=False
    )
    rows = {row.name: row for row in result.report.layers}
    running = [node.name for node in model.graph.node]
    assert list(rows) == sorted(rows, key=running.index)  # converted or not
    assert rows["up"].reason.startswith("it cuts off (3, 3) samples")
    assert rows["left out"].reason == "to be skipped"
    for name in ("up", "left out"):
        assert rows[name].form == "dense"
        assert rows[name].macs_after == rows[name].macs_before == 100 * 9 * 16 * (8 if name == "up" else 16)
    assert result.report.macs_before == macs(model)
    assert macs(result.model) == result.report.macs_after <= 0.9 * macs(model)
    names = {node.name for node in result.model.graph.node}
    assert {"up", "left out"} <= names
    with pytest.raises(ValueError, match=r"no layer that can be converted.\n  up: it cuts off"):
        sp.onnx.separate(model, image(16, 8, 10, 10), skip=["*"])


def test_files_in_and_out(tmp_path: Path) -> None:
    path, data = tmp_path / "model.onnx", tmp_path / "data.npz"
    onnx.save(models.vgg(width=16), path, save_as_external_data=True, location="weights", size_threshold=0)
    x = image(24, 3, 12, 12)
    np.savez(data, image=x)
    before = {each.name: each.read_bytes() for each in tmp_path.iterdir()}
    result = sp.onnx.separate(path, data, 0.5, by="macs", forms=["dw-pw"], threads=1, never_slower=False)
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == before
    out = tmp_path / "out"
    out.mkdir()
    result.save(out / "small.onnx")
    assert sorted(each.name for each in out.iterdir()) == ["small.onnx", "small.onnx.data"]
    onnx.checker.check_model(out / "small.onnx", full_check=True)
    got = models.run(str(out / "small.onnx"), {"image": x})[0]
    assert np.array_equal(got, models.run(result.model, {"image": x})[0])
    # Its own changes to the model are what a caller expects to be saved.
    result.model.doc_string = "mine"
    result.save(out / "small.onnx")
    assert onnx.load(out / "small.onnx").doc_string == "mine"
    with pytest.raises(FileError, match="does not exist"):
        result.save(tmp_path / "nowhere" / "small.onnx")


def test_one_file_stays_one_file(tmp_path: Path) -> None:
    result = sp.onnx.separate(
        models.vgg(), image(16, 3, 12, 12), 0.6, by="macs", forms=["dw-pw"], threads=1, never_slower=False
    )
    result.save(tmp_path / "small.onnx")
    assert [each.name for each in tmp_path.iterdir()] == ["small.onnx"]
    assert onnx.load(tmp_path / "small.onnx") == result.model


def test_several_inputs_and_outputs() -> None:
    net = Net()
    left, right = net.input("left", ["N", 8, 9, 9]), net.input("right", ["N", 8, 9, 9])
    a = net.conv(left, 8, 16, (3, 3), "a")
    b = net.conv(right, 8, 16, (3, 3), "b")
    model = net.model(net.node("Add", [a, b], "sum"), b)
    feeds = {"left": image(24, 8, 9, 9), "right": image(24, 8, 9, 9)[::-1]}
    result = sp.onnx.separate(model, feeds, 0.5, by="macs", threads=1, never_slower=False)
    models.check(result.model)
    assert [each.name for each in result.model.graph.output] == [each.name for each in model.graph.output]
    assert macs_of_two(result.model) <= 0.5 * macs_of_two(model)


def macs_of_two(model: ModelProto) -> int:
    return sp.onnx.audit(model, {"left": (1, 8, 9, 9), "right": (1, 8, 9, 9)}).macs


# --- time ---------------------------------------------------------------------------------------------


def clock(monkeypatch: pytest.MonkeyPatch, layers: dict[str, float]) -> list[set[str]]:
    """Let time go by MACs, but for converted layers that take what `layers` says; return what was timed."""
    timed: list[set[str]] = []

    def one(self: OnnxNetwork, index: int, replacement: Replacement | None) -> float:
        layer = self.layers[index]
        return 1.0 if replacement is None else layers.get(layer.name, 0.5)

    def both(self: OnnxNetwork, replaced: dict[int, Replacement]) -> tuple[float, float]:
        timed.append({self.layers[index].name for index in replaced})
        before = float(len(self.layers))
        return before, before + sum(one(self, i, each) - 1.0 for i, each in replaced.items())

    monkeypatch.setattr(OnnxNetwork, "milliseconds", one)
    monkeypatch.setattr(OnnxNetwork, "milliseconds_of", CalibratedNetwork.milliseconds_of)
    monkeypatch.setattr(OnnxNetwork, "whole_milliseconds", both)
    return timed


def test_what_does_not_pay_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    timed = clock(monkeypatch, {"conv1": 4.0})
    model = models.vgg(width=16)
    result = sp.onnx.separate(model, image(24, 3, 12, 12), 0.3, by="macs", forms=["dw-pw"], threads=1)
    assert "conv1" in timed[0]
    assert "conv1" not in timed[-1]
    row = next(row for row in result.report.layers if row.name == "conv1")
    assert row.form == "dense"
    assert "slower in the engine here (+3.000 ms in this layer)" in row.reason
    assert row.macs_after == row.macs_before
    assert result.milliseconds_before == 4.0
    assert result.milliseconds_after is not None
    assert result.milliseconds_after <= 4.0
    assert "conv1" in {node.name for node in result.model.graph.node}
    assert macs(result.model) == result.report.macs_after
    x = image(24, 3, 12, 12)
    got, wanted = (models.run(each, {"image": x})[0] for each in (result.model, model))
    assert result.report.output_change == pytest.approx(change_of(got, wanted), rel=1e-3)


def test_where_nothing_pays_the_original_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    clock(monkeypatch, {f"conv{number}": 2.0 for number in range(3)})
    model = models.vgg(width=16)
    result = sp.onnx.separate(model, image(16, 3, 12, 12), 0.4, by="macs", forms=["dw-pw"], threads=1)
    assert result.report.macs_after == result.report.macs_before
    assert result.report.output_change == 0.0
    assert list(result.model.graph.node) == list(model.graph.node)


def test_by_latency_in_the_runtime() -> None:
    """Real clocks: whatever they say, the result is a model in order that is no slower by their word."""
    model = models.vgg(width=32)
    x = image(16, 3, 12, 12)
    result = sp.onnx.separate(model, x, by="latency", max_loss=0.5, forms=["dw-pw"], threads=1)
    models.check(result.model)
    assert result.milliseconds_before is not None
    assert result.milliseconds_after is not None
    assert result.milliseconds_after <= 1.05 * result.milliseconds_before
    assert all(row.milliseconds_before is not None for row in result.report.layers)


def test_a_prediction_is_the_original_less_what_the_layers_save(monkeypatch: pytest.MonkeyPatch) -> None:
    clock(monkeypatch, {"conv0": 0.9, "conv1": 0.25, "conv2": 0.75, "head": 1.0})
    model, x = models.vgg(), image(4, 3, 12, 12)
    for never_slower in (True, False):
        result = sp.onnx.separate(
            model, x, 0.8, "latency", forms=["dw-pw"], threads=1, never_slower=never_slower
        )
        if never_slower:
            assert result.milliseconds_predicted == result.milliseconds_after
            assert result.milliseconds_predicted is not None
            assert result.milliseconds_predicted < 4.0
        else:
            assert result.milliseconds_predicted is None
    assert (
        sp.onnx.separate(model, x, 0.5, by="macs", forms=["dw-pw"], threads=1).milliseconds_predicted is None
    )


def between(name: str, model: ModelProto) -> tuple[list[str], list[str]]:
    stored = read_model(model)
    found = next(each for each in find_layers(stored)[0] if each.name == name)
    return around(GraphIndex(stored), found)


def test_a_layer_is_timed_from_the_convolutions_before_it_to_those_behind_it() -> None:
    assert between("conv1", models.vgg()) == (["image"], ["conv2_out"])
    # Through sums, to what makes the other branch; a convolution is where it ends, on either side.
    resnet = models.resnet()
    assert between("block0.a", resnet) == (["image"], ["block0.b_out"])
    assert between("block1.b", resnet) == (["relu7_out"], ["pool_out"])
    assert between("stem", resnet) == (
        ["image", "relu3_out"],
        ["block0.a_out", "block1.a_out", "block1.skip_out"],
    )


def test_a_rank_instead_of_a_budget() -> None:
    model, x = models.resnet(), image(16, 3, 12, 12)
    full = sp.onnx.separate(model, x, rank="full", forms=["pw-dw"], threads=1)
    assert {row.name: (row.form, row.rank) for row in full.report.layers} == {
        "stem": ("pw-dw", 3),
        **{f"block{n}.{part}": ("pw-dw", 8 if (n, part) != (1, "b") else 9) for n in (0, 1) for part in "ab"},
        "block1.skip": ("dense", 0),
    }
    got, wanted = (models.run(each, {"image": x})[0] for each in (full.model, model))
    assert np.abs(got - wanted).max() < 1e-4 * np.abs(wanted).max()
    assert (full.milliseconds_before, full.report.budget) == (None, None)
    one = sp.onnx.separate(model, x, rank=1, threads=1)
    assert {row.rank for row in one.report.layers} == {1}
    models.check(one.model)


def test_progress_is_a_callable_a_bar_or_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    model, x = models.vgg(), image(4, 3, 12, 12)
    steps: list[tuple[int, int, str]] = []

    def note(done: int, total: int, step: str) -> None:
        steps.append((done, total, step))

    for progress in (None, False, note, True):
        assert capsys.readouterr().err == ""  # what came before said nothing: stderr is no terminal here
        sp.onnx.separate(model, x, rank=1, threads=1, progress=progress)
    (total,) = {total for _, total, _ in steps}
    assert capsys.readouterr().err == f"fitting, step 1 of {total}\n"
    assert [step for _, _, step in steps] == ["fitting conv0", "fitting conv1", "fitting conv2", "done"]
    assert (steps[0][0], steps[-1][0]) == (0, total)
    with pytest.raises(TypeError, match=r"`progress=3` is a int; expected True, False, None, or a callable"):
        sp.onnx.separate(model, x, rank=1, progress=3)  # type: ignore[arg-type]


# --- what needs no torch ------------------------------------------------------------------------------


def test_torch_is_not_needed(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(models.vgg(), path)
    code = f"""
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "scipy", "rich", "typer", "matplotlib"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Refuse())
import numpy as np
import separable as sp
x = np.ones((4, 3, 12, 12), np.float32)
a = sp.onnx.audit({str(path)!r})
r = sp.onnx.separate({str(path)!r}, x, 0.9, by="macs", threads=1, never_slower=False)
timed = sp.onnx.separate({str(path)!r}, x, threads=1)
print(a.macs, r.report.macs_before)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] == str(sp.onnx.audit(path).macs)


def test_a_missing_runtime_is_said_with_the_way_to_get_it() -> None:
    code = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "onnxruntime":
            raise ModuleNotFoundError("No module named 'onnxruntime'", name="onnxruntime")
sys.meta_path.insert(0, Refuse())
import separable as sp
try:
    sp.onnx.separate
except ImportError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout == "onnxruntime is not installed: pip install 'separable[onnx]'\n", done.stderr


def test_public_names() -> None:
    assert dir(sp.onnx) == sorted(sp.onnx.__all__)
    for name in sp.onnx.__all__:
        assert getattr(sp.onnx, name).__doc__
    with pytest.raises(AttributeError, match="has no attribute 'seperate'"):
        sp.onnx.seperate  # noqa: B018
