"""Names come from files that anyone may have made: they are text, and never markup or a reason to fail."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import Run

pytest.importorskip("typer")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import onnx_models as models  # noqa: E402 (needs onnx and onnxruntime)
from onnx import ModelProto  # noqa: E402

import separable as sp  # noqa: E402
from separable.onnx.model.names import _texts, legible  # noqa: E402
from separable.report.progress import shown  # noqa: E402
from separable.report.text.tables import facts  # noqa: E402

MARKUP = ("[/]", "[red]c", "\x1b[2J", "a\nb", "</script><b>", "\u202egnp")
AT_ONCE: dict[str, Any] = {"rank": 1, "forms": ("dw-pw",), "threads": 1}


def net(**names: str) -> ModelProto:
    """Return a small model with names of all kinds, such as `names` says."""
    graph = models.Net()
    x = graph.input(names.get("input", "image"), ["N", 3, 8, 8])
    x = graph.node("Relu", [graph.conv(x, 3, 6, (3, 3), names.get("node", "conv0"), pads=[1] * 4)], "relu")
    model = graph.model(graph.conv(x, 6, 6, (3, 3), "conv1"), name=names.get("graph", "thing"))
    model.producer_name = names.get("producer", "maker")
    return model


def images(count: int = 8) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).standard_normal((count, 3, 8, 8)).astype(np.float32)


def with_bytes(model: ModelProto, old: str, new: bytes) -> bytes:
    """Return a model's file in which a name is other bytes, of the same number."""
    assert len(old) == len(new)
    return model.SerializeToString().replace(old.encode(), new)


def backslashes(text: str) -> str:
    return text.replace("\\\\", "\\")


# -- bytes that are no text ----------------------------------------------------------------------------


def test_every_text_of_a_model_is_looked_at() -> None:
    model = net()
    model.doc_string = "the model"
    model.metadata_props.add(key="a key", value="a value")
    model.graph.node[0].doc_string = "the node"
    model.graph.node[0].metadata_props.add(key="node key", value="node value")
    tensor = model.graph.initializer[0]
    tensor.doc_string = "the tensor"
    tensor.external_data.add(key="a place", value="somewhere")
    inner = model.graph.node.add(op_type="If", name="branches").attribute.add(name="then_branch")
    inner.g.node.add(op_type="Inner", name="within", input=["something"])
    texts = {str(value) for _, _, value in _texts(model) if value}
    assert len(texts) > 25
    assert legible(model) is model
    for text in texts:
        damaged = ModelProto.FromString(with_bytes(model, text, f"\xff{text[1:]}".encode("latin-1")))
        assert legible(damaged) is not damaged, text


@pytest.mark.parametrize("name", ["conv1", "conv1.w", "image", "relu_out", "maker", "thing"])
def test_names_that_are_not_utf8_have_escapes(name: str, tmp_path: Path) -> None:
    """Of nodes, tensors, inputs, outputs, producers and graphs: read in one place, the same everywhere."""
    path = tmp_path / "model.onnx"
    path.write_bytes(with_bytes(net(), name, f"{name[0]}\xff{name[2:]}".encode("latin-1")))
    escaped = f"{name[0]}\\xff{name[2:]}"
    audit, sound = sp.onnx.audit(path), sp.onnx.audit(net())
    assert (audit.macs, audit.params) == (sound.macs, sound.params)
    done = sp.onnx.separate(path, images(), **AT_ONCE)
    done.save(tmp_path / "out.onnx")
    models.check(onnx.load(tmp_path / "out.onnx"))
    written = f"{onnx.load(tmp_path / 'out.onnx')}{audit}{audit.to_json()}{done.report}"
    assert escaped in backslashes(written)


def test_names_that_differ_go_on_to_differ() -> None:
    model = net()
    model.graph.node[0].name, model.graph.node[1].name, model.graph.node[2].name = "a?", r"a\xff", "b?"
    whole = with_bytes(model, "a?", b"a\xff").replace(b"b?", b"b\xfe")
    names = [node.name for node in legible(ModelProto.FromString(whole)).graph.node]
    assert names[1:] == [r"a\xff", r"b\xfe"]
    assert len(set(names)) == 3
    sound = net()
    assert legible(sound) is sound


def test_a_model_in_memory_is_left_as_it_was() -> None:
    model = ModelProto.FromString(with_bytes(net(), "conv1", b"c\xffnv1"))
    before = model.SerializeToString()
    assert any(layer.name == r"c\xffnv1" for layer in sp.onnx.audit(model).layers)
    assert model.SerializeToString() == before


def test_attributes_that_are_not_utf8_are_told_with_escapes(tmp_path: Path) -> None:
    graph = models.Net()
    x = graph.input("x", ["N", 4, 8, 8])
    model = graph.model(graph.conv(x, 4, 4, (3, 3), "conv", auto_pad="SAME_UPPER"))
    path = tmp_path / "odd.onnx"
    path.write_bytes(with_bytes(model, "SAME_UPPER", b"\xff" * 10))
    (refused,) = sp.onnx.audit(path).refused
    escaped = r"\xff" * 10
    assert refused.reason == f"`auto_pad={escaped}` is unknown"
    with pytest.raises(ValueError, match=r"odd\.onnx"):
        sp.onnx.separate(path, np.zeros((8, 4, 8, 8), np.float32))


# -- markup ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MARKUP)
def test_names_are_no_markup(command: Run, name: str) -> None:
    onnx.save(net(graph=name, node=f"{name}c", input=f"{name}i"), "m.onnx")
    np.save("x.npy", images())
    shown_as = "".join(each if each.isprintable() else repr(each)[1:-1] for each in name)
    for line in (
        ["audit", "m.onnx", "--html", "page.html"],
        [
            "separate",
            "m.onnx",
            "--calibration",
            "x.npy",
            "-o",
            "o.onnx",
            "--rank",
            "1",
            "--html",
            "page.html",
        ],
    ):
        done = command(line)
        assert done.code == 0, done.err
        assert "\x1b" not in done.out + done.err
        assert f"{shown_as}c" in "".join(done.out.split())
        assert "</script><b>" not in Path("page.html").read_text(encoding="utf-8")
    told = json.loads(command(["audit", "m.onnx", "--json"]).out)
    assert (told["model"], told["layers"][0]["name"]) == ("m", f"{name}c")  # of a file its name
    inside = sp.onnx.audit(onnx.load("m.onnx"))
    assert inside.model == name
    assert "\x1b" not in repr(inside) + str(inside)
    inside.to_html("page.html")
    assert "</script><b>" not in Path("page.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["scan[/].onnx", "[red]m.onnx", "a:smile:b.onnx"])
def test_file_names_are_no_markup(command: Run, name: str) -> None:
    for folder in (Path(name).parent, Path(f"o{name}").parent):
        folder.mkdir(exist_ok=True)
    onnx.save(net(), name)
    np.save("x[bold].npy", images())
    done = command(["separate", name, "--calibration", "x[bold].npy", "-o", f"o{name}", "--rank", "1"])
    assert done.code == 0, done.err
    assert f" {name}" in done.out
    assert f"o{name}" in done.out
    assert Path(f"o{name}").exists()
    refused = command(["audit", f"no{name}"])
    assert (refused.code, refused.err) == (2, f"separable: `no{name}` does not exist.\n")


def test_labels_and_values_are_text() -> None:
    from rich.console import Console

    console = Console(width=80)
    with console.capture() as seen:
        console.print(facts([("model", "[/][red]x[/red]\x1b[2J \udcff :smile:")]))
    assert r"[/][red]x[/red]\x1b[2J \udcff :smile:" in seen.get()


def test_steps_are_text(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for terminal in (False, True):
        if terminal:
            monkeypatch.setenv("FORCE_COLOR", "1")
            monkeypatch.setenv("COLUMNS", "120")
        with shown(True) as show:
            show(0, 3, "[/][red]fit\x1b[2J conv")
        assert r"[/][red]fit\x1b[2J" in capsys.readouterr().err
