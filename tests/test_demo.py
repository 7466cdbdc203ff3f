"""The demo: what it claims is true, and what it writes can be read."""

from __future__ import annotations

import contextlib
import io
import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import separable as sp
from separable.cli import main
from separable.demo import images as filtering
from separable.demo import network as converting
from separable.demo import stopwatch as timing

for module in ("typer", "scipy", "skimage", "matplotlib", "onnxruntime", "altair"):
    pytest.importorskip(module)
nib = pytest.importorskip("nibabel")
PIL = pytest.importorskip("PIL.Image")
cv2 = pytest.importorskip("cv2")
onnx = pytest.importorskip("onnx")

from separable.cli.verbs.demo import DemoRun  # noqa: E402 (needs typer and what is above)


@pytest.fixture(scope="module")
def done() -> Iterator[DemoRun]:
    """What the demo makes, each work done once at its small size; it takes seconds, and serves all tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(filtering, "REPEATS", 1)
        patch.setattr(timing, "ROUNDS", (1, 1))
        patch.setattr(converting, "CALIBRATION", 96)
        patch.setattr(converting, "ROUNDS", 1)
        cv2.setNumThreads(2)
        yield DemoRun(filtering.run(lambda *_: None), converting.run(lambda *_: None))


@contextlib.contextmanager
def at(path: Path, done: DemoRun) -> Iterator[pytest.MonkeyPatch]:
    """Work in an empty directory, with a demo that has done its work already."""
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        patch.setenv("COLUMNS", "80")
        patch.setattr("separable.cli.terminal._SILENCE", 1e6)
        patch.setattr(filtering, "run", lambda show: done.filtered)
        patch.setattr(converting, "run", lambda show: done.converted)
        yield patch
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture
def here(tmp_path: Path, done: DemoRun) -> Iterator[Path]:
    with at(tmp_path, done):
        yield tmp_path


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, done: DemoRun) -> tuple[Path, dict[str, Any]]:
    """Where the demo wrote its files, and the facts that it printed as JSON."""
    path, out = tmp_path_factory.mktemp("demo"), io.StringIO()
    with at(path, done), contextlib.redirect_stdout(out):
        assert call("--out", "some/where", "--json") == 0
    return path, json.loads(out.getvalue())


@pytest.fixture
def converted(done: DemoRun) -> converting.Converted:
    return done.converted


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as left:
        main(["demo", *arguments])
    return int(left.value.code or 0)


@pytest.mark.parametrize("columns", [50, 80])
def test_the_demo_shows_what_it_did(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    assert call() == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "yes, one term is enough" in out
    assert "no, the best single term is 24.6 % away (relative l1)" in " ".join(out.split())
    for word in (
        "SciPy",
        "OpenCV",
        "MRI",
        "photo",
        "data-free",
        "engine ms",
        "saved",
        "separable-demo/demo.png",
    ):
        assert word in out
    assert max(map(len, out.splitlines())) <= columns
    for name, least in (("demo", 1000), ("textures", 400)):
        with PIL.open(f"separable-demo/{name}.png") as page:
            assert min(page.size) > least
            assert len(np.unique(np.array(page.convert("L")))) > 100


def test_the_files_it_writes_are_the_filtered_data(written: tuple[Path, dict[str, Any]]) -> None:
    folder, facts = written
    _, photo, volume, *_ = (folder / name for name in facts["written"])
    found = [path.relative_to(folder).as_posix() for path in (folder / "some" / "where").iterdir()]
    assert sorted(found) == sorted(Path(name).as_posix() for name in facts["written"])
    before = nib.load(Path(nib.__file__).parent / "tests" / "data" / "anatomical.nii")
    after = nib.load(volume)
    voxels = filtering.MRI_SIGMA / nib.affines.voxel_sizes(before.affine)
    data = np.asanyarray(before.dataobj)
    result = np.empty_like(data, "i2")  # in the file's order of memory, in which sums are taken
    smooth = sp.gaussian(data, tuple(voxels), output=result)
    assert np.array_equal(np.asanyarray(after.dataobj), smooth)
    assert np.array_equal(after.affine, before.affine)
    with PIL.open(photo) as picture:
        assert picture.size == (512, 512)


def test_json_compares_and_factors(written: tuple[Path, dict[str, Any]]) -> None:
    _, facts = written
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


def test_the_network_keeps_its_accuracy_where_the_weights_alone_do_not(
    converted: converting.Converted,
) -> None:
    dense, data_free, separable = (
        converted.versions[name] for name in (converting.DENSE, converting.DATA_FREE, converting.SEPARABLE)
    )
    assert converted.squares == 600
    assert dense.accuracy >= 0.98
    assert separable.accuracy >= dense.accuracy - 0.015
    assert data_free.accuracy <= separable.accuracy - 0.2
    assert data_free.macs < dense.macs / 7
    assert separable.macs < dense.macs  # by time, so by the machine and its load: 3 to 5 times fewer at rest
    for each in (dense, separable):  # the mosaic is told apart, but for its seams
        assert (each.labels == converted.truth).mean() > 0.9


def test_both_forms_run_whole_in_the_engine_and_beside_it(
    written: tuple[Path, dict[str, Any]], converted: converting.Converted
) -> None:
    assert list(converted.times) == [converting.DENSE, converting.SEPARABLE]
    for taken in converted.times.values():
        assert list(taken) == [converting.PEER, converting.ENGINE]
        assert all(seconds > 0 for seconds in taken.values())
    folder, facts = written
    assert facts["runtimes"] == converted.times
    squares = converted.held_out[: converting.BATCH]
    for name in ("textures", "textures-separable"):
        path = folder / "some" / "where" / f"{name}.onnx"
        scores = sp.engine.load(path, threads=1)(squares)
        want = converting.runner(onnx.load(path))(squares)
        assert np.abs(scores - want).max() <= 1e-4 * np.abs(want).max()


def test_the_network_that_comes_along_is_small_and_in_order() -> None:
    whole = converting.trained_bytes()
    model = onnx.load_from_string(whole)
    onnx.checker.check_model(model, full_check=True)
    assert [tensor.dims[0] for tensor in model.graph.initializer if len(tensor.dims) == 4] == [
        32,
        48,
        48,
        56,
        64,
    ]
    assert onnx.TensorProto.INT8 not in {tensor.data_type for tensor in model.graph.initializer}
    assert {node.op_type for node in model.graph.node}.isdisjoint({"DequantizeLinear", "QuantizeLinear"})
    assert all(not node.metadata_props and not node.doc_string for node in model.graph.node)


def test_the_network_in_float32_is_the_one_that_the_package_carries() -> None:
    carried = onnx.load(Path(converting.__file__).with_name("textures.onnx"))
    onnx.checker.check_model(carried, full_check=True)
    squares = np.random.default_rng(3).uniform(-0.5, 0.5, (5, 1, 20, 20)).astype(np.float32)
    narrow, wide = (
        converting.runner(model)(squares)
        for model in (carried, onnx.load_from_string(converting.trained_bytes()))
    )
    assert len(carried.SerializeToString()) < 100_000
    np.testing.assert_allclose(wide, narrow, rtol=1e-5, atol=1e-5)


def test_the_files_of_the_network_are_what_was_measured(
    written: tuple[Path, dict[str, Any]], converted: converting.Converted
) -> None:
    folder, facts = written
    folder = folder / "some" / "where"
    for name, form in (("textures", converting.DENSE), ("textures-separable", converting.SEPARABLE)):
        model = onnx.load(folder / f"{name}.onnx")
        assert sp.onnx.audit(model).macs == facts["network"][form]["macs"]
        scores = converting.runner(model)(converted.held_out)
        right = float((scores.argmax(axis=1) == converted.classes).mean())
        assert right == pytest.approx(facts["network"][form]["accuracy"])
    for name in ("audit", "conversion"):
        page = (folder / f"{name}.html").read_text(encoding="utf-8")
        assert "conv3" in page
    assert 0 < facts["output_change"] < 0.05


def test_the_mosaic_and_what_is_calibrated_on_are_apart(converted: converting.Converted) -> None:
    textures = [
        np.asarray(PIL.open(converting.bundled("skimage", f"data/{name}.png")), np.float32) / 255 - 0.5
        for name in converting.CLASSES
    ]
    lower = [photo[len(photo) * 2 // 3 :] for photo in textures]
    for number, photo in enumerate(lower):
        place = converted.truth == number
        assert np.array_equal(converted.mosaic[place], photo[:, : 2 * len(photo)][place])
    for square, which in list(zip(converted.held_out[:, 0], converted.classes, strict=True))[:20]:
        windows = np.lib.stride_tricks.sliding_window_view(lower[which], square.shape)
        assert (windows == square).all(axis=(2, 3)).any()


def test_peers_do_the_same_work() -> None:
    """What is timed beside each other gives the same samples: OpenCV's too."""
    x = np.random.default_rng(0).random((40, 50, 3), dtype=np.float32)
    edges = filtering.study("edge kernel", filtering.edge_weights())
    for _, given, runs in (filtering.gaussian_work("photo", x, (3.0, 2.0)), filtering.dense_work(edges, x)):
        results: dict[str, Any] = {name: np.empty_like(given) for name in runs}
        for name, filter_into in runs.items():
            filter_into(results[name])
        assert set(results) == {"separable", "SciPy", "OpenCV"}
        for result in results.values():
            assert np.allclose(result, results["SciPy"], rtol=0, atol=1e-6)


def test_the_number_of_threads_of_opencv_is_given_back(done: DemoRun) -> None:
    assert cv2.getNumThreads() == 2
    assert len(done.filtered.comparisons) == 6


@pytest.mark.parametrize("module", ["cv2", "scipy", "matplotlib", "skimage", "nibabel", "onnxruntime"])
def test_a_missing_peer_is_told_before_any_work(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    assert call() == 1
    assert capsys.readouterr().err == f"separable: {module} is not installed: pip install 'separable[demo]'\n"
    assert list(here.iterdir()) == []


def test_an_impossible_directory_is_named(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("taken").touch()
    assert call("--out", "taken/demo") == 2
    assert "`--out taken/demo` cannot be made" in capsys.readouterr().err
    assert call("--out", "taken") == 2
    assert [path.name for path in here.iterdir()] == ["taken"]
