"""The demo: what it claims is true, and what it writes can be read."""

from __future__ import annotations

import json
import runpy
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import separable as sp
from separable import demo
from separable.cli import main

for module in ("typer", "cv2", "scipy", "skimage", "matplotlib"):
    pytest.importorskip(module)
nib = pytest.importorskip("nibabel")
PIL = pytest.importorskip("PIL.Image")

EXAMPLES = sorted((Path(__file__).resolve().parents[1] / "examples").glob("*.py"))


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """An empty directory, and a demo that does each work once at its small size."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(demo, "REPEATS", 1)
    monkeypatch.setattr(demo, "ROUNDS", (1, 1))
    handler = signal.getsignal(signal.SIGTERM)
    yield tmp_path
    signal.signal(signal.SIGTERM, handler)


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as left:
        main(["demo", *arguments])
    return int(left.value.code or 0)


def test_the_demo_shows_what_it_did(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call() == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "yes, one term is enough" in out
    assert "no, the best single term is 24.6 % away (relative l1)" in out
    for word in ("SciPy", "OpenCV", "2-D only", "MRI", "photo", "separable-demo/demo.png"):
        assert word in out
    assert max(map(len, out.splitlines())) <= 80
    with PIL.open("separable-demo/demo.png") as page:
        assert min(page.size) > 1000
        assert len(np.unique(np.array(page.convert("L")))) > 100


def test_the_files_it_writes_are_the_filtered_data(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--out", "some/where", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    page, photo, volume = facts["written"]
    assert sorted(path.name for path in Path("some/where").iterdir()) == sorted(
        Path(each).name for each in (page, photo, volume)
    )
    before = nib.load(Path(nib.__file__).parent / "tests" / "data" / "anatomical.nii")
    after = nib.load(volume)
    voxels = demo.MRI_SIGMA / nib.affines.voxel_sizes(before.affine)
    smooth = sp.gaussian(np.asanyarray(before.dataobj), tuple(voxels), output="i2")
    assert np.array_equal(np.asanyarray(after.dataobj), smooth)
    assert np.array_equal(after.affine, before.affine)
    with PIL.open(photo) as picture:
        assert picture.size == (512, 512)


def test_json_compares_and_factors(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert [kernel["separable"] for kernel in facts["kernels"]] == [True, False]
    assert len(facts["kernels"][1]["offers"]) > 3
    assert facts["threads"] == 1
    assert len(facts["comparisons"]) == 6
    for each in facts["comparisons"]:
        assert each["difference"] < 1e-5  # float32 against SciPy's float64 sums, samples in 0..1
        assert all(seconds > 0 for seconds in each["seconds"].values())
    three = [each for each in facts["comparisons"] if "OpenCV" in each["seconds"]]
    assert len(three) == 4
    assert set(facts["versions"]) == {"separable", "SciPy", "OpenCV"}


def test_peers_do_the_same_work() -> None:
    """What is timed beside each other gives the same samples: OpenCV's too."""
    x = np.random.default_rng(0).random((40, 50, 3), dtype=np.float32)
    edges = demo.study("edge kernel", demo.edge_weights())
    for _, given, runs in (demo.gaussian_work("photo", x, (3.0, 2.0)), demo.dense_work(edges, x)):
        results: dict[str, Any] = {name: np.empty_like(given) for name in runs}
        for name, filter_into in runs.items():
            filter_into(results[name])
        assert set(results) == {"separable", "SciPy", "OpenCV"}
        for result in results.values():
            assert np.allclose(result, results["SciPy"], rtol=0, atol=1e-6)


def test_the_number_of_threads_of_opencv_is_given_back(here: Path) -> None:
    import cv2

    before = cv2.getNumThreads()
    demo.run(lambda *_: None)
    assert cv2.getNumThreads() == before


@pytest.mark.parametrize("module", ["cv2", "scipy", "matplotlib", "skimage", "nibabel"])
def test_a_missing_peer_is_told_before_any_work(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    assert call() == 1
    assert capsys.readouterr().err == f"error: {module} is not installed: pip install 'separable[demo]'\n"
    assert list(here.iterdir()) == []


def test_an_impossible_directory_is_named(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("taken").touch()
    assert call("--out", "taken/demo") == 2
    assert "`--out taken/demo` cannot be made" in capsys.readouterr().err
    assert call("--out", "taken") == 2
    assert [path.name for path in here.iterdir()] == ["taken"]


def test_there_are_examples() -> None:
    assert EXAMPLES


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_run_and_write_what_they_say(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], path: Path
) -> None:
    monkeypatch.setattr(sys, "argv", [str(path)])
    runpy.run_path(str(path), run_name="__main__")
    written = capsys.readouterr().out.rsplit("wrote ", 1)[1].strip()
    assert [each.name for each in here.iterdir()] == [written]
