"""The verbs on ONNX models, audit and separate: results, exit codes, messages, and nothing left half-done."""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import Run

pytest.importorskip("typer")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
PIL = pytest.importorskip("PIL.Image")

import onnx_models as models  # noqa: E402 (needs onnx and onnxruntime)

import separable as sp  # noqa: E402
from separable.cli.model_tables import conversion_notes, conversion_rows  # noqa: E402
from separable.cli.networks.calibration_inputs import Data  # noqa: E402
from separable.cli.networks.other_inputs import OtherInputs  # noqa: E402
from separable.conv.conversion.records import ConversionReport, ConvertedLayer  # noqa: E402
from separable.report import pages  # noqa: E402

Array = np.ndarray[Any, Any]


@pytest.fixture
def run(command: Run) -> Run:
    """Run a command line in a folder with a model and data for it, in a terminal of 80 columns."""
    onnx.save(models.vgg(width=16), "vgg.onnx")
    np.savez("inputs.npz", image=inputs())
    return lambda line: command(line.split())


def inputs(count: int = 24, channels: int = 3) -> Array:
    return np.random.default_rng(0).standard_normal((count, channels, 12, 12)).astype(np.float32)


def names() -> list[str]:
    return sorted(path.name for path in Path.cwd().iterdir())


SEPARATE = "separate vgg.onnx --calibration inputs.npz --by macs --budget 0.4 --allow-slower --threads 1"


# -- audit -------------------------------------------------------------------------------------------


def test_audit_counts_and_says_how_separable_layers_are(run: Run) -> None:
    done = run("audit vgg.onnx")
    audit = sp.onnx.audit("vgg.onnx")
    assert (done.code, done.err) == (0, "")
    assert f"{audit.macs:,}" in done.out
    assert f"{audit.params:,}" in done.out
    for layer in audit.layers:
        assert layer.name in done.out
    second = next(each for each in audit.separability if each.name == "conv1")
    row = next(line for line in done.out.splitlines() if "conv1" in line)
    nearest = min((second.errors[order] for order in ("dw-pw", "pw-dw")), key=lambda errors: errors[0])
    assert row.split()[-6:] == [word for error in nearest[:3] for word in (f"{100 * error:.1f}", "%")]
    assert second.best in row
    assert "measured" not in done.out
    assert "measured" in run("audit vgg.onnx --measure --threads 1").out


def test_audit_as_json_and_page(run: Run) -> None:
    done = run("audit vgg.onnx --json --html page.html")
    facts = json.loads(done.out)
    audit = json.loads(sp.onnx.audit("vgg.onnx").to_json())
    assert {key: facts[key] for key in ("macs", "params", "separability")} == {
        key: audit[key] for key in ("macs", "params", "separability")
    }
    assert (facts["input"], facts["page"]) == ("vgg.onnx", "page.html")
    assert "conv1" in Path("page.html").read_text(encoding="utf-8")


def test_audit_takes_shapes_by_name_or_alone(run: Run) -> None:
    net = models.Net()
    x = net.input("x", ["N", 3, "H", "W"])
    onnx.save(net.model(net.conv(x, 3, 8, (3, 3), "conv", pads=[1] * 4)), "open.onnx")
    open_lengths = run("audit open.onnx")
    assert open_lengths.code == 2
    assert "--shape x=1,3,224,224" in open_lengths.err
    assert "--shape H=224,W=224" in open_lengths.err
    for shape in ("1,3,20,10", "x=1,3,20,10", "H=20,W=10", "H=20 --shape W=10", "x:1,3,20,10"):
        facts = json.loads(run(f"audit open.onnx --json --shape {shape}").out)
        assert facts["macs"] == 3 * 8 * 9 * 200


def test_audit_lists_what_is_refused(run: Run) -> None:
    net = models.Net()
    x = net.input("x", [1, 4, 8, 8])
    net.constant("w", net.normal(4, 4, 3, 3))
    onnx.save(net.model(net.node("ConvTranspose", [x, "w"], "up", pads=[3] * 4)), "up.onnx")
    done = run("audit up.onnx")
    assert done.code == 0
    assert "stays dense: ConvTranspose up: it cuts off (3, 3) samples" in " ".join(done.out.split())


@pytest.mark.parametrize("columns", [50, 74, 120])
@pytest.mark.parametrize("verb", ["audit vgg.onnx --measure --threads 1", f"{SEPARATE} -o o.onnx"])
def test_tables_fit_the_terminal(run: Run, monkeypatch: pytest.MonkeyPatch, columns: int, verb: str) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    model = onnx.load("vgg.onnx")
    for node in model.graph.node:
        node.name = f"/backbone/layer4/layer4.1/{node.name}/{node.op_type}"
    onnx.save(model, "vgg.onnx")
    done = run(verb)
    assert done.code == 0
    assert max(map(len, done.out.splitlines())) <= columns
    assert "…" not in done.out


def test_names_from_a_file_do_not_steer_the_terminal(run: Run) -> None:
    net = models.Net()
    x = net.input("x", [1, 4, 8, 8])
    onnx.save(net.model(net.conv(x, 4, 4, (3, 3), "\x1b[2J[red]conv")), "odd.onnx")
    done = run("audit odd.onnx")
    assert done.code == 0
    assert "\x1b" not in done.out
    assert "[2J[red]conv" in done.out


# -- separate ----------------------------------------------------------------------------------------


def test_separate_writes_the_model_and_says_what_it_cost(run: Run) -> None:
    done = run(f"{SEPARATE} -o small.onnx --html page.html")
    assert (done.code, done.err.splitlines()[0]) == (0, "reading")
    models.check(onnx.load("small.onnx"))
    before, after = sp.onnx.audit("vgg.onnx"), sp.onnx.audit("small.onnx")
    conv_before, conv_after = (
        sum(layer.macs for layer in audit.layers if layer.operator in ("Conv", "Gemm"))
        for audit in (before, after)
    )
    assert conv_after <= 0.4 * conv_before
    assert f"{conv_before:,} -> {conv_after:,}" in done.out
    old, new = (models.run(name, {"image": inputs()})[0] for name in ("vgg.onnx", "small.onnx"))
    change = np.square(new - old)[7::8].mean() / np.square(old - old.mean(axis=0)).mean()
    shown = done.out.split("change by ")[1].split()
    assert float(shown[0]) / (100 if shown[1] == "%" else 1) == pytest.approx(change, rel=0.05)
    assert "Stayed dense" in done.out
    assert "conv1" in Path("page.html").read_text(encoding="utf-8")


def test_separate_as_json_and_quietly(run: Run) -> None:
    facts = json.loads(run(f"{SEPARATE} -o small.onnx --json").out)
    assert facts["macs_after"] <= 0.4 * facts["macs_before"]
    assert (facts["input"], facts["output"], facts["page"]) == ("vgg.onnx", "small.onnx", None)
    assert {layer["form"] for layer in facts["layers"]} > {"dense"}
    assert facts["milliseconds_after"] is None
    assert run(f"{SEPARATE} -o small.onnx -q") == (0, "", "")


def test_separate_leaves_alone_what_it_is_told_to_and_uses_the_forms_it_may(run: Run) -> None:
    line = (
        f"{SEPARATE} --budget 0.8 -o small.onnx --json --forms dw-pw,pw-dw --skip conv0 --skip *2 --skip stem"
    )
    facts = json.loads(run(line).out)
    forms = {layer["name"]: layer["form"] for layer in facts["layers"]}
    assert facts["notes"] == ["--skip stem is the name of no convolution here."]
    assert forms["conv0"] == forms["conv2"] == "dense"
    assert forms["conv1"] in ("dw-pw", "pw-dw")


def test_separate_at_a_rank_of_ones_own(run: Run) -> None:
    facts = json.loads(run(f"{SEPARATE} -o small.onnx --json --forms dw-pw --rank 2").out)
    assert {layer["rank"] for layer in facts["layers"] if layer["form"] == "dw-pw"} == {2}
    exact = json.loads(run(f"{SEPARATE} -o exact.onnx --json --rank full").out)
    assert exact["output_change"] < 1e-9


def test_separate_times_the_model_and_tells_what_it_put_back(run: Run) -> None:
    line = (
        "separate vgg.onnx --calibration inputs.npz --by macs --budget 0.4 --threads 1 -o small.onnx --json"
    )
    facts = json.loads(run(line).out)
    # Timed with some noise between the two; what does not pay is put back.
    assert 0 < facts["milliseconds_after"] <= 1.5 * facts["milliseconds_before"]


def test_more_than_the_budget_is_noted() -> None:
    row = ConvertedLayer("conv", "dense", 0, 1000, 1000, 90, 90, 0.0, "put back: slower")
    report = ConversionReport("macs", 0.25, (row,), 0.0)
    assert "100 % is left, over the budget of 25 %" in conversion_notes(report)[0]
    assert conversion_notes(replace(report, budget=1.0)) == []
    timed = replace(report, milliseconds_before=2.0, milliseconds_after=1.0, runtime="ONNX Runtime")
    assert "2x as fast (ONNX Runtime, 1 input)" in dict(conversion_rows(timed))["time"]
    assert "time" not in dict(conversion_rows(report))


@pytest.mark.parametrize("kind", ["npy", "folder"])
def test_calibration_comes_as_arrays(run: Run, kind: str) -> None:
    if kind == "npy":
        np.save("data.npy", inputs())
    else:
        Path("data").mkdir()
        for number, each in enumerate(inputs()):
            np.save(f"data/{number:03}.npy", each)
    data = {"npy": "data.npy", "folder": "data"}[kind]
    first = json.loads(run(f"{SEPARATE} -o a.onnx --json").out)
    second = json.loads(run(f"{SEPARATE} -o b.onnx --json --calibration {data} --batch-size 7").out)
    assert second["output_change"] == pytest.approx(first["output_change"], rel=1e-3)


def pictures(folder: str) -> list[tuple[int, int, int]]:
    """Write pictures of which only the middle, of one colour, is within the square; return the colours."""
    Path(folder).mkdir()
    colours = [(250, 40, 0), (0, 90, 180), (128, 128, 128)]
    for number, (colour, size) in enumerate(zip(colours, [(12, 12), (60, 20), (10, 30)], strict=True)):
        picture = PIL.new("RGB", size, (255, 255, 255))
        side = min(size)
        picture.paste(
            colour, ((size[0] - side) // 2, (size[1] - side) // 2, *((size[n] + side) // 2 for n in (0, 1)))
        )
        picture.save(f"{folder}/{number}.png")
    return colours


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_are_scaled_and_cut_to_the_input(run: Run, channels: int) -> None:
    colours = np.array(pictures("photos"), float)
    net = models.Net()
    x = net.input("x", ["N", channels, 12, 12])
    onnx.save(net.model(net.conv(x, channels, 16, (3, 3), "conv")), "net.onnx")
    mean, std = ("0.5,0.4,0.3", "0.2,0.3,0.4") if channels == 3 else ("0.5", "0.2")
    found = Data(Path("photos"), mean, std, None).read(Path("net.onnx")).data
    if channels == 1:
        colours = np.round(colours @ [[0.299], [0.587], [0.114]])  # ITU-R 601, as Pillow has it
    expected = (colours / 255 - np.array(mean.split(","), float)) / np.array(std.split(","), float)
    assert isinstance(found, np.ndarray)
    assert found.shape == (3, channels, 12, 12)
    middle = found[:, :, 3:9, 3:9]  # what is scaled up takes some of its neighbours in at the rim
    assert np.allclose(middle, expected[:, :, None, None], atol=0.03)
    line = f"separate net.onnx --calibration photos --mean {mean} --std {std} -o o.onnx -q --by macs --budget"
    line += " 0.9"
    assert run(line) == (0, "", "")


def test_pictures_go_where_the_channels_lie(run: Run) -> None:
    """Last or second, as floating-point numbers or as they are; of several inputs the one of pictures."""
    colours = np.array(pictures("photos"), float)
    net = models.Net()
    x = net.input("x", ["N", 12, 12, 3])
    turned = net.node("Transpose", [x], "turn", perm=[0, 3, 1, 2])
    onnx.save(net.model(net.conv(turned, 3, 16, (3, 3), "conv")), "last.onnx")
    found = Data(Path("photos"), "0,0,0", "1,1,1", None).read(Path("last.onnx")).data
    assert isinstance(found, np.ndarray)
    assert found.shape == (3, 12, 12, 3)
    assert np.allclose(found[:, 3:9, 3:9], colours[:, None, None] / 255, atol=0.03)
    line = "separate last.onnx --calibration photos --mean 0 --std 1 -o o.onnx -q --allow-slower"
    line += " --by macs --budget 0.9"
    assert run(line) == (0, "", "")
    ran = json.loads(run("run last.onnx photos/0.png photos/1.png --mean 0 --std 1 --json").out)
    assert ran["outputs"]["conv_out"]["shape"] == [2, 16, 10, 10]

    net = models.Net()
    net.dtype = np.dtype("uint8")
    x = net.input("x", ["N", 4, 12, 12])
    net.dtype = np.dtype("float32")
    scale = net.input("scale", ["N", 1, 1, 1])
    floats = net.node("Mul", [net.node("Cast", [x], "cast", to=1), scale])
    onnx.save(net.model(net.conv(floats, 4, 16, (3, 3), "conv")), "bytes.onnx")
    data, said = Data(Path("photos"), None, None, 2, OtherInputs(("scale=2",))).read(Path("bytes.onnx"))
    assert isinstance(data, list)
    assert [batch["x"].shape for batch in data] == [(2, 4, 12, 12), (1, 4, 12, 12)]
    assert data[0]["x"].dtype == np.uint8
    assert np.abs(data[0]["x"][:, :3, 6, 6] - colours[:2]).max() <= 2
    assert np.all(data[1]["scale"] == 2)
    assert said == ["scale: 2, 2 x 1 x 1 x 1"]
    refused = run("separate bytes.onnx --calibration photos --mean 0 --std 1 -o o.onnx")
    assert "takes whole numbers, 0 to 255, as pictures hold them" in refused.err


def test_pictures_take_the_size_that_is_said_where_the_model_takes_any(run: Run) -> None:
    pictures("photos")
    net = models.Net()
    x = net.input("x", ["batch", 3, "height", "width"])
    onnx.save(net.model(net.conv(x, 3, 16, (3, 3), "conv")), "any.onnx")
    line = "separate any.onnx --calibration photos --mean 0 --std 1 --allow-slower -o o.onnx"
    line += " --by macs --budget 0.9"
    told = json.loads(run(f"{line} --shape height=8,width=10 --json").out)
    assert told["macs_before"] == 16 * 27 * 6 * 8
    data = Data(Path("photos"), "0", "1", None, shapes=("height=8,width=10",))
    read = Data(**{**vars(data), "mean": "0,0,0", "std": "1,1,1"}).read(Path("any.onnx")).data
    assert isinstance(read, np.ndarray)
    assert read.shape == (3, 3, 8, 10)
    assert "`--shape` names 'hight'" in run(f"{line} --shape hight=8").err


def recurrent() -> None:
    """A network with state, (layers, batch, width), and a number that says how fast samples come."""
    net = models.Net()
    x = net.input("x", ["batch", 4, 20])
    state = net.input("state", [2, None, 6])
    net.dtype = np.dtype("int64")
    rate = net.input("rate", [])
    net.dtype = np.dtype("float32")
    y = net.conv(x, 4, 6, (5,), "conv", pads=[2, 2])
    mean = net.node("ReduceMean", [y], "mean", axes=[2], keepdims=0)
    kept = net.node("Add", [state, mean], "kept")
    y = net.node("Mul", [kept, net.node("Cast", [rate], "cast", to=1)], "scaled")
    onnx.save(net.model(y), "state.onnx")
    np.save("frames.npy", np.random.default_rng(0).standard_normal((24, 4, 20)).astype(np.float32))


def test_inputs_beside_the_data_are_zeros_or_given(run: Run) -> None:
    recurrent()
    line = "separate state.onnx --calibration frames.npy --by macs --budget 0.9 --allow-slower -o o.onnx"
    done = run(f"{line} --input rate=3")
    assert done.code == 0
    assert "state: zeros, 2 x 16 x 6" in done.out
    assert "rate: 3" in done.out
    np.save("state.npy", np.ones((2, 1, 6), np.float32))
    told = json.loads(run(f"{line} --input rate=3 --input state=state.npy --json").out)
    assert told["beside"] == ["state: state.npy, 2 x 16 x 6", "rate: 3"]
    unmeasured = json.loads(run(f"{line} --json").out)  # of samples that come 0 times a second
    assert unmeasured["output_change"] is None
    assert "not measured" in unmeasured["unmeasured"]

    ran = json.loads(run("run state.onnx frames.npy --input rate=3 --fallback onnxruntime --json").out)
    assert ran["beside"] == ["state: zeros, 2 x 24 x 6", "rate: 3"]
    assert ran["outputs"]["scaled_out"]["shape"] == [2, 24, 6]
    assert "rate: 3" in run("run state.onnx x=frames.npy --input rate=3 --fallback onnxruntime").out
    counted = json.loads(run("audit state.onnx --json --input rate=3").out)
    assert counted["example"].endswith("rate () int64 as given")
    assert counted["macs"] == 4 * 6 * 5 * 20

    for more, message in (
        ("--input rat=3", "`--input rat`: the network has the inputs 'x', 'state', 'rate'"),
        ("--input rate", "expected NAME=FILE.npy, or NAME=NUMBER"),
        ("--input rate=no.npy", "`no.npy` does not exist"),
        ("--input rate=3 --input rate=4", "`--input rate` is given twice"),
        ("--input state=frames.npy", "the network takes float32 (2, 16, 6) here"),
        ("--input x=frames.npy", "it fits none"),
    ):
        refused = run(f"{line} {more}")
        assert (refused.code, message in refused.err) == (2, True), refused.err
    assert (
        "is an input; give the result another name" in run(f"{line} --input state=state.npy -o state.npy").err
    )


def test_results_are_scored_by_a_metric(run: Run) -> None:
    x = inputs()
    labels = models.run("vgg.onnx", {"image": x})[0].argmax(1)
    np.save("labels.npy", labels)
    Path("labels.txt").write_text("\n".join(map(str, labels)), encoding="utf-8")
    Path("scores.py").write_text("def wrong(y, t):\n    return float((y.argmax(1) != t).mean())\n", "utf-8")
    plain = run(f"{SEPARATE} -o plain.onnx --json")
    line = f"{SEPARATE} -o small.onnx --json"
    score = json.loads(run(f"{line} --metric accuracy --labels labels.npy").out)["score"]
    assert (score["metric"], score["before"], score["inputs"], score["held_out"]) == (
        "accuracy",
        1.0,
        3,
        True,
    )
    assert Path("small.onnx").read_bytes() == Path("plain.onnx").read_bytes(), plain.err
    assert json.loads(run(f"{line} --metric accuracy --labels labels.txt").out)["score"] == score
    own = json.loads(run(f"{line} --metric scores.py:wrong --labels labels.txt").out)["score"]
    assert own["after"] == pytest.approx(1 - score["after"])
    np.savez("more.npz", image=inputs(40)[24:])
    apart = json.loads(run(f"{line} --metric accuracy --validation more.npz").out)["score"]
    assert (apart["targets"], apart["inputs"]) == ("outputs", 16)
    assert "accuracy 1 -> " in run(f"{SEPARATE} -o small.onnx --metric accuracy").out
    for more, message in (
        ("--labels labels.npy", "`--labels` goes with --metric"),
        ("--metric f1", "`--metric f1` is no metric; expected accuracy, cer, or MODULE:FUNCTION"),
        ("--metric scores.py:none", "`scores.py` has no function `none`"),
        ("--metric nowhere:none", "there is no module `nowhere` here"),
        ("--metric accuracy --labels vgg.onnx", "expected .npy, or .txt"),
        ("--validation more.npz", "`--validation` goes with --metric"),
    ):
        refused = run(f"{line} {more}")
        assert (refused.code, message in refused.err) == (2, True), refused.err


def test_text_is_scored_by_the_characters_that_the_model_names(run: Run) -> None:
    net = models.Net()
    x = net.input("x", ["N", 3, 8, 12])
    y = net.node("ReduceMean", [net.conv(x, 3, 5, (3, 3), "conv")], "mean", axes=[2], keepdims=0)
    model = net.model(net.node("Transpose", [y], "steps", perm=[0, 2, 1]))
    onnx.helper.set_model_props(model, {"character": "a\nb\nc"})  # a blank before them, a space behind
    onnx.save(model, "text.onnx")
    rng = np.random.default_rng(0)
    np.save("x.npy", rng.standard_normal((16, 3, 8, 12)).astype(np.float32))
    Path("labels.txt").write_text("\n".join(["abc"] * 15 + ["a b"]), encoding="utf-8")
    line = "separate text.onnx --calibration x.npy --allow-slower -o o.onnx --json --metric cer"
    line += " --by macs --budget 0.9"
    score = json.loads(run(f"{line} --labels labels.txt").out)["score"]
    assert (score["larger_is_better"], score["inputs"]) == (False, 2)
    assert score["before"] > 0
    assert (
        "does not say which characters its classes are"
        in run(f"{line.replace('text.onnx', 'vgg.onnx')} --labels labels.txt").err
    )


def test_pictures_say_what_is_missing(run: Run) -> None:
    pictures("photos")
    line = SEPARATE.replace("inputs.npz", "photos") + " -o o.onnx"
    bare = run(line)
    assert bare.code == 2
    assert "pass --mean and --std as the model was trained" in bare.err
    assert "`--std -1`" in run(f"{line} --mean 0 --std=-1").err.replace("`--mean 0 --std -1`", "`--std -1`")
    assert "2 numbers for 3" in run(f"{line} --mean 0,1 --std 1").err
    assert "`--mean` goes with a folder of pictures" in run(f"{SEPARATE} -o o.onnx --mean 0 --std 1").err
    net = models.Net()
    x = net.input("x", ["N", 8, 6, 6])
    onnx.save(net.model(net.conv(x, 8, 8, (3, 3), "conv")), "vgg.onnx")
    refused = run(f"{line} --mean 0 --std 1")
    assert refused.code == 2
    assert "`vgg.onnx` takes x (?, 8, 6, 6)" in refused.err
    assert "o.onnx" not in names()


# -- refusals ----------------------------------------------------------------------------------------


def prepared() -> list[str]:
    np.savez("two.npz", image=inputs(), mask=inputs())
    np.savez("narrow.npz", image=inputs()[..., :9])
    np.savez("nan.npz", image=np.full((4, 3, 12, 12), np.nan, np.float32))
    np.savez("bytes.npz", image=inputs().astype(np.uint8).astype(complex))
    whole = Path("vgg.onnx").read_bytes()
    Path("cut.onnx").write_bytes(whole[: len(whole) // 2])
    Path("empty.onnx").touch()
    Path("text.onnx").write_text("not a model", encoding="utf-8")
    Path("cut.npz").write_bytes(Path("inputs.npz").read_bytes()[:900])
    Path("folder").mkdir()
    net = models.Net()
    x = net.input("x", ["N", 3, 4, 4])
    onnx.save(net.model(net.node("Relu", [x])), "relu.onnx")
    Path("calibration").mkdir()
    return names()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("audit no.onnx", "`no.onnx` does not exist"),
        ("audit cut.onnx", "`cut.onnx`"),
        ("audit empty.onnx", "`empty.onnx` is empty"),
        ("audit text.onnx", "`text.onnx` is not a readable ONNX file"),
        ("audit folder", "`folder` is not a regular file"),
        ("audit vgg.onnx --shape 1,3,9,9", "`--shape` gives input `image` (1, 3, 9, 9); the model takes"),
        ("audit vgg.onnx --shape y=1,3,12,12", "`--shape` names 'y'"),
        ("audit vgg.onnx --shape one", "`--shape one`: 'one' is no length; expected such as"),
        ("audit vgg.onnx --shape 1,3,0,12", "`--shape 0` is too small; expected at least 1"),
        ("audit vgg.onnx --shape 1 --shape 1", "says 'a shape' twice; say it once"),
        ("audit vgg.onnx --shape 1 --shape x=1", "`--shape` gives input `image` (1,); the model takes"),
        ("audit vgg.onnx --threads 0", "`--threads 0` is too few"),
        ("audit vgg.onnx --html no/page.html", "does not exist"),
        ("audit vgg.onnx --html vgg.onnx", "give the page another name"),
        (f"{SEPARATE} -o vgg.onnx", "`--out vgg.onnx` is the input"),
        (f"{SEPARATE} -o ./folder/../vgg.onnx", "is the input"),
        (f"{SEPARATE} -o inputs.npz", "`--out inputs.npz` is the calibration data"),
        (f"{SEPARATE} -o folder", "it is a directory"),
        (f"{SEPARATE} -o no/o.onnx", "does not exist"),
        (f"{SEPARATE} -o o.onnx --html o.onnx", "give the page another name"),
        (f"{SEPARATE}", "--out"),
        ("separate vgg.onnx -o o.onnx", "--calibration"),
        ("separate no.onnx --calibration inputs.npz -o o.onnx", "`no.onnx` does not exist"),
        ("separate relu.onnx --calibration inputs.npz -o o.onnx", "separable: "),
        (f"{SEPARATE} -o o.onnx --calibration no.npz", "`no.npz` does not exist"),
        (f"{SEPARATE} -o o.onnx --calibration cut.npz", "`cut.npz` is not a readable"),
        (f"{SEPARATE} -o o.onnx --calibration folder", "`--calibration` is the folder `folder`"),
        (f"{SEPARATE} -o o.onnx --calibration calibration", "`--calibration` is the folder `calibration`"),
        (f"{SEPARATE} -o o.onnx --calibration vgg.onnx", "`--calibration` is `vgg.onnx`; expected"),
        (f"{SEPARATE} -o o.onnx --calibration two.npz", "`--calibration` has 'image', 'mask'"),
        (f"{SEPARATE} -o o.onnx --calibration narrow.npz", "`--calibration` gives `image` the shape"),
        (f"{SEPARATE} -o o.onnx --calibration nan.npz", "NaN or infinity"),
        (f"{SEPARATE} -o o.onnx --calibration bytes.npz", "as complex128, and the model takes float32"),
        (f"{SEPARATE} -o o.onnx --budget 0.001", "`--budget 0.001` of the macs cannot be met"),
        (f"{SEPARATE} -o o.onnx --budget -1", "`--budget -1.0`"),
        (f"{SEPARATE} -o o.onnx --budget all", "--budget"),
        (f"{SEPARATE} -o o.onnx --forms dw-pw,pwdw", "`--forms` holds 'pwdw'; expected some of"),
        (f"{SEPARATE} -o o.onnx --by seconds", "--by"),
        (f"{SEPARATE} -o o.onnx --rank some", "`--rank some` is no rank; expected 1, 2, ... or full"),
        (f"{SEPARATE} -o o.onnx --rank 0", "`--rank 0` is no rank"),
        (f"{SEPARATE} -o o.onnx --batch-size 0", "`--batch-size 0` is too small"),
        (f"{SEPARATE} -o o.onnx --threads 0", "`--threads 0` is too few"),
        (f"{SEPARATE} -o o.onnx --skip *", "separable: "),
    ],
)
def test_wrong_usage_and_bad_input(run: Run, line: str, message: str) -> None:
    before = prepared()
    done = run(line)
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert "Traceback" not in done.err
    assert "path_or_model" not in done.err
    assert names() == before


def test_what_the_runtime_refuses_is_one_line_with_the_file_and_what_to_do(run: Run) -> None:
    model = models.vgg(width=4)
    model.graph.node[0].op_type, model.graph.node[0].domain = "Odd", "my.own"
    model.opset_import.add(domain="my.own", version=1)
    onnx.save(model, "odd.onnx")
    done = run("separate odd.onnx --calibration inputs.npz -o o.onnx")
    assert done.code == 2
    error = done.err.splitlines()[-1]
    assert error.startswith("separable: `odd.onnx`: ONNX Runtime ")
    assert "Odd" in error
    assert error.endswith("InferenceSession(path).")
    assert done.err.splitlines()[:-1] == ["reading"]


def test_an_error_is_one_line(run: Run) -> None:
    net = models.Net()
    x = net.input("x", ["N", 4, 8, 8])
    net.constant("w", net.normal(4, 4, 3, 3))
    onnx.save(net.model(net.node("ConvTranspose", [x, "w"], "up", pads=[3] * 4)), "up.onnx")
    done = run("separate up.onnx --calibration inputs.npz -o o.onnx")
    assert done.code == 2
    assert [line.split(":")[0] for line in done.err.splitlines()] == ["reading", "separable"]


def test_data_of_the_input_are_not_overwritten(run: Run) -> None:
    model = models.vgg(width=16)
    onnx.save(model, "in.onnx", save_as_external_data=True, location="out.onnx.data", size_threshold=16)
    before = Path("out.onnx.data").read_bytes()
    done = run("separate in.onnx --calibration inputs.npz --by macs --budget 0.4 --allow-slower -o out.onnx")
    assert done.code == 2
    assert "holds data of the input" in done.err
    assert Path("out.onnx.data").read_bytes() == before


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("moment", ["fitting", "writing"])
def test_signals_leave_nothing_behind(
    run: Run, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, code: int, moment: str
) -> None:
    Path("small.onnx").write_bytes(b"precious")
    before = names()

    def stop(*_: object, **__: object) -> None:
        os.kill(os.getpid(), number)

    if moment == "fitting":
        from separable.conv.conversion.fit import Fitter

        monkeypatch.setattr(Fitter, "replacement", stop)
    else:
        monkeypatch.setattr(os, "replace", stop)
    assert run(f"{SEPARATE} -o small.onnx").code == code
    assert names() == before
    assert Path("small.onnx").read_bytes() == b"precious"


def test_a_bar_on_a_terminal_and_lines_elsewhere(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    stages = [line.split(",")[0] for line in run(f"{SEPARATE} -o small.onnx").err.splitlines()]
    shown = ["reading", "measuring", "fitting", "comparing", "writing"]
    assert list(dict.fromkeys(stages)) == shown  # a line for each
    assert len(stages) < 12
    monkeypatch.setenv("FORCE_COLOR", "1")
    seen = run(f"{SEPARATE} -o small.onnx")
    assert "fitting" in seen.err
    assert "fitting" not in seen.out
    assert run(f"{SEPARATE} -o small.onnx -q") == (0, "", "")


def test_without_onnx_it_says_what_to_install(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(sp.onnx, "audit", raising=False)
    monkeypatch.delitem(sys.modules, "separable.onnx.audits.count", raising=False)
    monkeypatch.setitem(sys.modules, "onnx", None)
    done = run("audit vgg.onnx")
    assert (done.code, done.out) == (1, "")
    assert done.err == "separable: onnx is not installed: pip install 'separable[onnx]'\n"


def test_a_page_that_cannot_be_drawn_is_told_before_any_work(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(pages, "page", raising=False)
    monkeypatch.delitem(sys.modules, "separable.report.pages.page", raising=False)
    monkeypatch.setitem(sys.modules, "altair", None)
    before = names()
    done = run(f"{SEPARATE} -o small.onnx --html page.html")
    assert (done.code, done.out) == (1, "")
    assert done.err == "separable: altair is not installed: pip install 'separable[report]'\n"
    assert names() == before
