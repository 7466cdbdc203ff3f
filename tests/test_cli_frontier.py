"""The verb frontier: what it prints, writes and refuses, and that nothing is left half-done."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from command_line import Run

pytest.importorskip("typer")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import onnx_models as models  # noqa: E402 (needs onnx and onnxruntime)

import separable as sp  # noqa: E402

FRONTIER = "frontier vgg.onnx --calibration inputs.npz --by macs --budgets 0.4,0.6,0.01 --allow-slower"


@pytest.fixture
def run(command: Run) -> Run:
    """Run a command line in a folder with a model and data for it, in a terminal of 80 columns."""
    onnx.save(models.vgg(width=16), "vgg.onnx")
    np.savez("inputs.npz", image=np.random.default_rng(0).standard_normal((24, 3, 12, 12)).astype(np.float32))
    return lambda line: command(f"{line} --threads 1".split())


def names() -> list[str]:
    return sorted(str(path) for path in Path().rglob("*") if path.is_file())


def test_it_prints_a_line_for_each_network_and_writes_page_and_models(run: Run) -> None:
    pytest.importorskip("altair")
    done = run(f"{FRONTIER} --html page.html --save new/models --skip stem")
    assert done.code == 0
    stages = [line.split(",")[0] for line in done.err.splitlines()]
    assert stages == ["reading", "measuring", "budget=0.6", "budget=0.4", "timing", "scoring", "writing"]
    lines = done.out.splitlines()
    assert max(map(len, lines)) <= 80
    first = next(place for place, line in enumerate(lines) if line.startswith("original"))
    assert [line.split()[0] for line in lines[first : first + 3]] == ["original", "0.6", "0.4"]
    assert "left out 0.01: the cheapest forms leave" in done.out
    assert "--skip stem is the name of no convolution here." in done.out
    assert names() == [
        *("inputs.npz", "new/models/vgg-0.4.onnx", "new/models/vgg-0.6.onnx"),
        *("page.html", "vgg.onnx"),
    ]
    for budget in ("0.4", "0.6"):
        models.check(onnx.load(f"new/models/vgg-{budget}.onnx"))
    assert sp.onnx.audit("new/models/vgg-0.4.onnx").macs < sp.onnx.audit("new/models/vgg-0.6.onnx").macs


def test_as_json_and_quietly(run: Run) -> None:
    facts = json.loads(run(f"{FRONTIER} --json --save models").out)
    assert [point["budget"] for point in facts["points"]] == [0.6, 0.4]
    assert [point["saved"] for point in facts["points"]] == ["models/vgg-0.6.onnx", "models/vgg-0.4.onnx"]
    assert facts["points"][0]["macs"] <= 0.6 * facts["original"]["macs"]
    assert facts["points"][0]["loss"] < facts["points"][1]["loss"]
    assert facts["points"][0]["milliseconds"] > 0
    assert facts["left_out"][0]["budget"] == 0.01
    assert (facts["input"], facts["page"]) == ("vgg.onnx", None)
    assert run(f"{FRONTIER} -q") == (0, "", "")


def test_on_a_narrow_terminal_a_network_takes_a_few_lines(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    done = run(FRONTIER)
    assert max(map(len, done.out.splitlines())) <= 40
    assert "\n0.6\n  ms " in done.out


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ("--budgets 0.5,0.5", 2, "`--budgets` holds 0.5 twice"),
        ("--budgets 0.5,", 2, "`--budgets 0.5,`: nothing is no number"),
        ("--budgets half", 2, "`--budgets half`: half is no number"),
        ("--budgets 0.5,50", 2, "`--budgets 50.0` is not a fraction of the cost"),
        ("--budgets nan", 2, "`--budgets nan` is not a fraction of the cost"),
        ("--runtime abacus", 2, "`runtime='abacus'` is unknown"),
        ("--labels labels.npy", 2, "`--labels` goes with --metric"),
        ("--save vgg.onnx", 2, "`--save vgg.onnx` is no folder"),
        ("--html no/page.html", 2, "the directory"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_measured(
    run: Run, options: str, code: int, message: str
) -> None:
    before = names()
    done = run(f"frontier vgg.onnx --calibration inputs.npz {options}")
    assert done.code in (1, 2)
    assert message in done.err
    assert "measuring" not in done.err
    assert names() == before


def test_a_model_is_never_written_over_what_is_read(run: Run) -> None:
    Path("vgg.onnx").rename("vgg-0.5.onnx")
    os.symlink("vgg-0.5.onnx", "vgg.onnx")
    done = run("frontier vgg.onnx --calibration inputs.npz --budgets 0.5 --save .")
    assert done.code in (1, 2)
    assert "`--save .` is the input" in done.err


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
@pytest.mark.parametrize("moment", ["fitting", "writing"])
def test_ctrl_c_leaves_nothing_behind(run: Run, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    before = names()

    def stop(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    if moment == "fitting":
        from separable.conv.conversion.fit import Fitter

        monkeypatch.setattr(Fitter, "replacement", stop)
    else:
        monkeypatch.setattr(os, "replace", stop)
    assert run(f"{FRONTIER} --save models").code == 130
    assert names() == before
