"""The gallery: each page runs at its small size, alone and from anywhere, and shows what it says."""

from __future__ import annotations

import ast
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "examples" / "gallery"
SCRIPTS = sorted(FOLDER.glob("*.py"))
TRAIN = ROOT / "examples" / "train"

Left = Mapping[str, Any]


def blur_sharpen_edges(left: Left) -> None:
    assert set(left["times"]) == {"blur", "sharpen", "gradient"}
    assert left["kernel"].rank == 2
    assert max(left["off"].values()) < 1e-6
    assert left["slopes"][0] == pytest.approx(1, abs=1e-9)


def defocus(left: Left) -> None:
    assert len(left["pictures"]) == 5
    assert left["worst"] < 1e-3  # six terms are exact
    assert np.abs(left["runs"]["separable"]() - left["truth"]).max() < 1e-3


def scipy_code(left: Left) -> None:
    np.testing.assert_allclose(left["after"], left["before"], atol=1e-3)


def vessel_directions(left: Left) -> None:
    assert left["missed"] > 0
    assert left["basis"].macs < left["bank"].macs < left["macs"][-1]
    assert left["response"].shape == left["angle"].shape == left["green"].shape


def texture_filter_bank(left: Left) -> None:
    assert left["plan"].macs < left["dense_macs"] / 10
    assert left["right"] > 0.7  # of three classes
    assert left["worst"] < 1e-5


def smooth_mri(left: Left) -> None:
    volume, head = left["volume"], left["head"]
    rim = head & (left["plain"] < 0.8 * left["masked"])
    assert rim.any()  # where only the mask keeps it bright
    assert np.abs(left["runs"]["separable"]() - left["truth"])[head].max() < 1e-2
    assert np.isfinite(left["mended"]).all()
    assert left["smooth"].shape == volume.shape


def deconvolve_a_stack(left: Left) -> None:
    assert left["left"] == pytest.approx(left["right"], rel=1e-4)
    assert left["kernel"].macs < left["kernel"].size
    assert left["likely"](left["expected"]) < left["before"]
    seen, estimate = (left["distance"](left["results"][name]) for name in ("image", "separable"))
    assert estimate < seen


def run_a_network(left: Left) -> None:
    assert left["difference"] < 1e-4
    assert left["right"] > 0.9
    assert len(left["profile"].steps) == 7


def replace_one_layer(left: Left) -> None:
    errors = list(left["errors"].values())
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.05 < errors[0]


def accuracy_and_milliseconds(left: Left) -> None:
    dense, converted, by_weights = left["rights"].values()
    assert dense > 0.95
    assert converted > dense - 0.03 > by_weights + 0.1


def mobile_networks(left: Left) -> None:
    assert left["worst"] < 1e-4
    assert left["profile"].macs == sum(macs for _, macs, _ in left["kinds"].values())


def segment_surfaces(left: Left) -> None:
    assert left["macs"]["separable"] < left["macs"]["dense"] / 3
    assert left["difference"] < 1e-4
    for name, classes in left["told"].items():
        assert classes.shape == left["scenes"].test_y.shape, name
        whole = left["ious"][name].nan_to_num(1)
        assert bool(((whole >= 0) & (whole <= 1)).all())


def segment_mri(left: Left) -> None:
    assert left["audits"]["separable"].macs < left["audits"]["dense"].macs / 3
    assert left["difference"] < 1e-3
    assert left["changed"][left["REACH"]] == 0  # blocks that overlap by what a voxel depends on
    assert float(left["dice"](left["truth"]).mean()) == 1


def keyword_spotting(left: Left) -> None:
    assert left["difference"] < 1e-4
    assert set(left["factors"]) == {
        (name, runtime)
        for name in ("DS-CNN, log-mel", "1-D, samples")
        for runtime in ("engine", "ONNX Runtime", "stream")
    }
    for name in ("DS-CNN, log-mel", "1-D, samples"):
        streamed, whole = (left["results"][name, runtime][0][0] for runtime in ("stream", "engine"))
        np.testing.assert_allclose(streamed, whole, atol=1e-5)
    # The ring gives in a stream what the whole second gives at once.
    frames = left["Ring"](49, 20)
    for frame in left["log_mel"](left["sound"][: left["RATE"]]):
        frames.write(frame)
    whole = left["log_mel"](left["sound"][: left["RATE"]])
    np.testing.assert_array_equal(frames.read(), whole)
    for number, (begin, end, word) in enumerate(left["spans"]):
        assert 0 <= begin < end <= left["length"], (number, word)


def line_follower(left: Left) -> None:
    assert set(left["drives"]) == {
        (period, name) for period in ("long", "between", "short") for name in ("dense", "separable")
    }
    assert left["result"].report.macs_after < 0.16 * left["result"].report.macs_before
    # On the line itself nothing is to be steered, and a step to the side is seen at once.
    world = left["to_drive"]
    place, heading = world.points[0], world.headings[0]
    aside = place + 5 * np.array([-np.sin(heading), np.cos(heading)])
    assert world.error(place) == 0
    assert world.line_ahead(place, heading) - world.line_ahead(aside, heading) == pytest.approx(5, abs=0.5)


CHECKS: dict[str, Callable[[Left], None]] = {
    check.__name__: check
    for check in (
        blur_sharpen_edges, defocus, scipy_code, vessel_directions, texture_filter_bank, smooth_mri,
        deconvolve_a_stack, run_a_network, mobile_networks, replace_one_layer, accuracy_and_milliseconds,
        segment_surfaces, segment_mri, keyword_spotting, line_follower,
    )
}  # fmt: skip


def test_every_page_has_its_check_and_its_place() -> None:
    names = {script.stem for script in SCRIPTS}
    assert names == set(CHECKS)
    order = runpy.run_path(str(ROOT / "docs" / "order.py"))
    assert sorted(order["PAGES"]) == sorted(names)
    key = order["GalleryOrder"](str(FOLDER))
    assert sorted(("line_follower.py", "defocus.py", "another.py"), key=key) == [
        "another.py",
        "defocus.py",
        "line_follower.py",
    ]


def imported(script: Path) -> set[str]:
    """The packages that a script imports as it starts, by modules of examples/train too."""
    tree = ast.parse(script.read_text(encoding="utf-8"))
    names = [alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in tree.body if isinstance(node, ast.ImportFrom) and node.module]
    packages: set[str] = set()
    for name in {name.partition(".")[0] for name in names}:
        beside = TRAIN / f"{name}.py"
        packages |= imported(beside) if beside.exists() else {name}
    return packages


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_page_runs_and_shows_what_it_says(
    script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = imported(script)
    for package in sorted(wanted) + ["onnxscript"] * ("torch" in wanted):
        pytest.importorskip(package)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.setenv("SEPARABLE_SMALL", "1")
    monkeypatch.chdir(tmp_path)
    from matplotlib import pyplot as plt

    try:
        CHECKS[script.stem](runpy.run_path(str(script), run_name="__main__"))
        assert plt.get_fignums()
        for number in plt.get_fignums():
            plt.figure(number).canvas.draw()
    finally:
        plt.close("all")
    assert capsys.readouterr().out.strip()
    assert list(tmp_path.iterdir()) == []  # nothing is left behind


def test_a_page_runs_as_a_script_from_anywhere(tmp_path: Path) -> None:
    for package in ("matplotlib", "skimage", "scipy"):
        pytest.importorskip(package)
    done = subprocess.run(
        [sys.executable, str(FOLDER / "scipy_code.py")],
        cwd=tmp_path,
        env=os.environ | {"MPLBACKEND": "agg", "SEPARABLE_SMALL": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "largest difference" in done.stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_page_says_whom_it_is_for_and_has_one_small_size(script: Path) -> None:
    text = script.read_text(encoding="utf-8")
    first = (ast.get_docstring(ast.parse(text)) or "").split("\n\n")[1]
    assert first.startswith("For people who "), first
    assert "you get" in first.replace("\n", " ")
    if script.stem != "line_follower":
        assert 'SMALL = "SEPARABLE_SMALL" in os.environ  # a part of the data, as the tests take' in text
    assert text.count("SEPARABLE_SMALL") == 1
    assert not re.search(r"urlopen|requests|download|pooch", text)
