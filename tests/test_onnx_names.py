"""Names come from files that anyone may have made: they are text, and never markup or a reason to fail."""

from __future__ import annotations

import json
import subprocess
import sys
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
from separable.onnx.naming import legible  # noqa: E402
from separable.report.tables import facts  # noqa: E402

NOT_UTF8 = b"c\xffnv1"
MARKUP = ("[/]", "[red]c", "[link=x]", "\x1b[2J", "a\nb", "</script><b>", "\u202egnp")


def images(count: int = 16) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).standard_normal((count, 3, 12, 12)).astype(np.float32)


def with_bytes(model: ModelProto, old: str, new: bytes) -> bytes:
    """Return a model's file in which a name is other bytes, of the same number."""
    assert len(old) == len(new)
    return model.SerializeToString().replace(old.encode(), new)


# -- bytes that are no text ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["conv1", "conv1.w", "image", "relu5_out", "norm1", "by hand", "net"])
def test_names_that_are_not_utf8_have_escapes(name: str, tmp_path: Path) -> None:
    """Of nodes, tensors, inputs, outputs, producers and graphs: read in one place, the same everywhere."""
    path = tmp_path / "model.onnx"
    path.write_bytes(with_bytes(models.vgg(width=4), name, name[:1].encode() + b"\xff" + name[2:].encode()))
    escaped = f"{name[0]}\\xff{name[2:]}"
    audit, sound = sp.onnx.audit(path), sp.onnx.audit(models.vgg(width=4))
    assert (audit.macs, audit.params) == (sound.macs, sound.params)
    assert str(audit)
    done = sp.onnx.separate(path, images(), budget=0.7, threads=1, never_slower=False)
    assert done.report.macs_after <= 0.7 * done.report.macs_before
    done.save(tmp_path / "out.onnx")
    models.check(onnx.load(tmp_path / "out.onnx"))
    written = str(onnx.load(tmp_path / "out.onnx")) + audit.to_json() + str(audit)
    assert escaped in written.replace("\\\\", "\\")


def test_names_that_differ_go_on_to_differ() -> None:
    model = models.vgg(width=4)
    model.graph.node[0].name, model.graph.node[1].name = "a?", r"a\xff"
    model.graph.node[2].name = "b?"
    whole = with_bytes(model, "a?", b"a\xff").replace(b"b?", b"b\xfe")
    read = legible(ModelProto.FromString(whole))
    names = [node.name for node in read.graph.node][:3]
    assert names[1:] == [r"a\xff", r"b\xfe"]
    assert len(set(names)) == 3
    sound = models.vgg()
    assert legible(sound) is sound


def test_a_model_in_memory_is_left_as_it_was() -> None:
    model = ModelProto.FromString(with_bytes(models.vgg(width=4), "conv1", NOT_UTF8))
    before = model.SerializeToString()
    assert any(layer.name == r"c\xffnv1" for layer in sp.onnx.audit(model).layers)
    assert model.SerializeToString() == before


def test_attributes_that_are_not_utf8_are_refused_by_name(tmp_path: Path) -> None:
    net = models.Net()
    x = net.input("x", ["N", 4, 8, 8])
    model = net.model(net.conv(x, 4, 4, (3, 3), "conv", auto_pad="SAME_UPPER"))
    path = tmp_path / "odd.onnx"
    path.write_bytes(with_bytes(model, "SAME_UPPER", b"\xff" * 10))
    with pytest.raises(sp.files.FileError, match="odd.onnx"):
        sp.onnx.audit(path)


# -- markup ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MARKUP)
def test_names_are_no_markup_on_the_command_line(command: Run, name: str) -> None:
    model = models.vgg(width=16)
    model.graph.name = name
    for node in model.graph.node:
        node.name = f"{name}{node.name}"
    onnx.save(model, "m.onnx")
    np.save("x.npy", images(24))
    for line in (
        ["audit", "m.onnx", "--html", "page.html"],
        ["separate", "m.onnx", "--calibration", "x.npy", "-o", "o.onnx", "--budget", "0.5", "--allow-slower"],
    ):
        done = command(line)
        assert done.code == 0, done.err
        assert "\x1b" not in done.out + done.err
        assert "Traceback" not in done.err
        shown = "".join(done.out.split()).replace("\\\\", "\\")
        assert "".join(f"{name}conv0".encode("unicode_escape").decode().split()) in shown.replace(
            "│", ""
        ) or (repr(f"{name}conv0")[1:-1].replace(" ", "") in shown)
    assert "</script><b>" not in Path("page.html").read_text(encoding="utf-8")
    facts_ = json.loads(command(["audit", "m.onnx", "--json"]).out)
    assert facts_["model"] == name


@pytest.mark.parametrize("name", ["scan[/].onnx", "[red]m.onnx", "a:smile:b.onnx"])
def test_file_names_are_no_markup(command: Run, name: str) -> None:
    onnx.save(models.vgg(width=16), name)
    np.save("x[bold].npy", images(24))
    out = f"o{name}"
    done = command(
        ["separate", name, "--calibration", "x[bold].npy", "-o", out, "--budget", "0.5", "--allow-slower"]
    )
    assert done.code == 0, done.err
    assert f" {name}" in done.out
    assert out in done.out
    assert Path(out).exists()
    refused = command(["audit", f"no{name}"])
    assert (refused.code, refused.err) == (2, f"error: `no{name}` does not exist.\n")


def test_labels_and_values_are_text() -> None:
    from rich.console import Console

    console = Console(width=80)
    with console.capture() as seen:
        console.print(facts([("model", "[/][red]x[/red]\x1b[2J \udcff :smile:")]))
    assert r"[/][red]x[/red]\x1b[2J \udcff :smile:" in seen.get()


def test_progress_shows_names_as_they_are(tmp_path: Path) -> None:
    """In a process of its own, whose stderr is a pipe."""
    model = models.vgg(width=4)
    for node in model.graph.node:
        node.name = f"[/]\x1b[2J{node.name}"
    onnx.save(model, tmp_path / "m.onnx")
    np.save(tmp_path / "x.npy", images())
    line = ["separate", "m.onnx", "--calibration", "x.npy", "-o", "o.onnx", "--rank", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "separable", *line], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stderr + done.stdout
    assert done.stderr.splitlines() == ["reading", "fitting, step 1 of 3", "writing"]
