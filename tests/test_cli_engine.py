"""The verbs of the engine, run and bench: results, exit codes, messages, and tables that fit."""

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
PIL = pytest.importorskip("PIL.Image")

import onnx_models as models  # noqa: E402 (needs onnx and onnxruntime)
from onnx import TensorProto, helper  # noqa: E402

import separable as sp  # noqa: E402
from separable.cli.network_tables import largest, output_facts  # noqa: E402
from separable.cli.networks.network_inputs import GivenFiles  # noqa: E402
from separable.engine.peers import request, side_by_side  # noqa: E402
from separable.engine.peers.runtimes import ReadyModel, Runtime  # noqa: E402

Array = np.ndarray[Any, Any]


@pytest.fixture
def run(command: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command line in a folder with models and inputs, in a terminal of 80 columns, without rests."""
    defaults = {**side_by_side.bench.__kwdefaults__, "rest": 0.0}
    monkeypatch.setattr(side_by_side.bench, "__kwdefaults__", defaults)
    onnx.save(models.vgg(width=16), "vgg.onnx")
    onnx.save(sum_and_product(), "two.onnx")
    np.save("x.npy", inputs(3))
    for name in ("a", "b"):
        np.save(f"{name}.npy", np.full((2, 3), ord(name), np.float32))
    return lambda line: command(line.split())


def inputs(count: int) -> Array:
    return np.random.default_rng(0).standard_normal((count, 3, 12, 12)).astype(np.float32)


def sum_and_product(batch: int | str = "batch") -> onnx.ModelProto:
    nodes = [helper.make_node(op, ["a", "b"], [op.lower()]) for op in ("Add", "Mul")]
    value = helper.make_tensor_value_info
    given = [value(name, TensorProto.FLOAT, [batch, 3]) for name in ("a", "b")]
    gives = [value(name, TensorProto.FLOAT, [batch, 3]) for name in ("add", "mul")]
    graph = helper.make_graph(nodes, "two", given, gives)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def names() -> list[str]:
    return sorted(path.name for path in Path.cwd().iterdir())


# -- run ---------------------------------------------------------------------------------------------


def test_run_writes_what_the_program_gives(run: Run) -> None:
    want = sp.engine.load("vgg.onnx")(inputs(3))
    done = run("run vgg.onnx x.npy -o y.npy")
    assert (done.code, done.err) == (0, "")
    assert np.array_equal(np.load("y.npy"), want)
    assert "y.npy" in done.out
    assert "3 x 5 float32" in done.out
    assert run("run vgg.onnx image=x.npy --threads 2 -o y.npz").code == 0
    with np.load("y.npz") as arrays:
        assert np.array_equal(arrays["head_out"], want)


def test_run_prints_the_largest_values_of_each_sample(run: Run) -> None:
    scores = sp.engine.load("vgg.onnx")(inputs(3))
    done = run("run vgg.onnx x.npy")
    assert done.code == 0
    for row in scores:
        order = np.argsort(-row)
        assert "  ".join(f"{place}: {row[place]:.4g}" for place in order) in done.out
    facts = json.loads(run("run vgg.onnx x.npy --json").out)
    assert facts["outputs"]["head_out"]["shape"] == [3, 5]
    assert [row[0][0] for row in facts["outputs"]["head_out"]["top"]] == scores.argmax(axis=1).tolist()
    assert (facts["inputs"], facts["output"], facts["page"]) == (["x.npy"], None, None)


def test_run_takes_several_inputs_by_name(run: Run) -> None:
    np.savez("both.npz", b=np.load("b.npy"), a=np.load("a.npy"))
    for line in ("a=a.npy b=b.npy", "b=b.npy a=a.npy", "both.npz"):
        assert run(f"run two.onnx {line} -o y.npz").code == 0
        with np.load("y.npz") as arrays:
            assert (arrays["add"] == ord("a") + ord("b")).all()
            assert (arrays["mul"] == ord("a") * ord("b")).all()
    done = run("run two.onnx a.npy b.npy")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "name each file, such as a=a.npy" in done.err.replace("a=x.npy", "a=a.npy")
    assert "`c`" in run("run two.onnx a=a.npy c=b.npy").err
    assert "given twice" in run("run two.onnx a=a.npy a=b.npy").err
    assert "one array" in run("run two.onnx both.npz -o y.npy").err


def test_run_takes_one_sample_other_floats_and_more_than_a_fixed_batch(run: Run) -> None:
    want = sp.engine.load("vgg.onnx")(inputs(3))
    np.save("one.npy", inputs(3)[0].astype(np.float64))
    assert run("run vgg.onnx one.npy -o y.npy").code == 0
    np.testing.assert_allclose(np.load("y.npy"), want[:1], rtol=0, atol=1e-5)
    onnx.save(sum_and_product(batch=1), "fixed.onnx")
    assert run("run fixed.onnx a=a.npy b=b.npy -o y.npz").code == 0
    with np.load("y.npz") as arrays:
        assert arrays["add"].shape == (2, 3)


def test_run_takes_pictures(run: Run) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (2, 12, 12, 3), dtype=np.uint8)
    for number, picture in enumerate(colours):
        PIL.fromarray(picture).save(f"{number}.png")
    done = run("run vgg.onnx 0.png 1.png --mean 0.5 --std 0.25 -o y.npy")
    assert (done.code, done.err) == (0, "")
    x = ((colours / np.float32(255) - 0.5) / 0.25).transpose(0, 3, 1, 2)
    want = sp.engine.load("vgg.onnx")(np.ascontiguousarray(x, np.float32))
    np.testing.assert_allclose(np.load("y.npy"), want, rtol=0, atol=1e-4 * np.abs(want).max())
    assert "pass --mean and --std" in run("run vgg.onnx 0.png").err
    assert "cannot be mixed" in run("run vgg.onnx 0.png x.npy --mean 0 --std 1").err
    assert "`--mean` goes with pictures" in run("run vgg.onnx x.npy --mean 0").err


def test_pictures_have_the_size_that_is_said(run: Run) -> None:
    net = models.Net()
    x = net.input("x", ["n", 3, "height", "width"])
    y = net.node("GlobalAveragePool", [x], "pool")
    graph = helper.make_graph(
        net.nodes, "mean", net.inputs, [helper.make_tensor_value_info(y, TensorProto.FLOAT, None)]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, "mean.onnx")
    for number, size in enumerate([(8, 12), (10, 16)]):
        PIL.new("RGB", size, (51, 102, 204)).save(f"{number}.png")
    done = run("run mean.onnx 0.png 1.png --mean 0 --std 1")
    assert (done.code, "--shape" in done.err) == (2, True)
    assert run("run mean.onnx 0.png 1.png --mean 0 --std 1 --shape height=6,width=9 -o y.npy").code == 0
    np.testing.assert_allclose(np.load("y.npy")[:, :, 0, 0], [[0.2, 0.4, 0.8]] * 2, atol=1e-6)


def test_run_profiles_and_writes_a_page(run: Run) -> None:
    pytest.importorskip("altair")
    done = run("run vgg.onnx x.npy --profile --html page.html")
    assert (done.code, done.err) == (0, "")
    assert "of peak" in done.out
    assert "page.html" in done.out
    assert "conv 3 x 3" in Path("page.html").read_text(encoding="utf-8")
    facts = json.loads(run("run vgg.onnx x.npy --profile --json").out)
    assert facts["profile"]["steps"][0]["macs"] > 0


@pytest.mark.parametrize("columns", [50, 80, 200])
def test_a_profile_fits(run: Run, monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    done = run("run vgg.onnx x.npy --profile")
    assert done.code == 0
    assert max(map(len, done.out.splitlines())) <= columns
    assert done.out.count("conv 3 x 3") == 3
    assert done.out.count(" %") >= 5


@pytest.mark.parametrize("precision", ["int8", "bf16"])
def test_run_in_fewer_bits_says_its_error(run: Run, precision: str) -> None:
    """Several inputs of a file are several calibration calls where the model takes one at a time."""
    np.save("calls.npy", inputs(4))
    code, out, _ = run(f"run vgg.onnx x.npy --precision {precision} --calibration calls.npy")
    assert code == 0
    assert f"{precision}:" in out
    assert "against float32" in " ".join(out.split())
    code, out, _ = run(f"run vgg.onnx x.npy -o y.npy --precision {precision} --calibration calls.npy --json")
    assert code == 0
    record = json.loads(out)["precision"]
    assert record["precision"] == precision
    expected = sp.engine.load("vgg.onnx")(inputs(3))
    assert np.linalg.norm(np.load("y.npy") - expected) < 0.1 * np.linalg.norm(expected)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("run vgg.onnx x.npy --precision int8", "needs `--calibration`"),
        ("run vgg.onnx x.npy --precision bf16", "needs `--calibration`"),
        ("run vgg.onnx x.npy --calibration x.npy", "belongs to `--precision int8`"),
        ("run vgg.onnx x.npy --precision int8 --calibration none.npy", "none.npy"),
        ("run vgg.onnx x.npy -o x2.npy --precision int4 --calibration x.npy", "int4"),
    ],
)
def test_a_precision_goes_with_calibration(run: Run, line: str, said: str) -> None:
    code, _, error = run(line)
    assert code
    assert said in " ".join(error.split())


def test_run_hands_over_what_the_engine_does_not_run_only_if_asked(run: Run) -> None:
    net = models.Net()
    x = net.input("x", ["n", 4])
    y = net.node("Det", [net.node("Reshape", [x, net.constant("s", np.array([-1, 2, 2]))])], "det")
    graph = helper.make_graph(
        net.nodes, "det", net.inputs, [helper.make_tensor_value_info(y, TensorProto.FLOAT, None)], net.weights
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), "det.onnx")
    np.save("m.npy", np.array([[1, 2, 3, 4]], np.float32))
    done = run("run det.onnx m.npy")
    assert done.code == 2
    assert "Det" in done.err
    assert "--fallback onnxruntime" in done.err
    assert run("run det.onnx m.npy --fallback onnxruntime -o y.npy").code == 0
    np.testing.assert_allclose(np.load("y.npy"), [-2], atol=1e-6)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("run vgg.onnx nothing.npy", "`nothing.npy` does not exist"),
        ("run nothing.onnx x.npy", "`nothing.onnx`"),
        ("run vgg.onnx a.npy", "input `image` has"),
        ("run vgg.onnx x.npy -o x.npy", "`--out x.npy` is an input"),
        ("run vgg.onnx x.npy -o y.png", "expected .npy"),
        ("run vgg.onnx x.npy -o missing/y.npy", "does not exist"),
        ("run vgg.onnx x.npy --threads 0", "`--threads 0`"),
        ("run vgg.onnx x.npy --shape nonsense=3", "nonsense"),
        ("run vgg.onnx vgg.onnx", "expected .npy"),
        ("run vgg.onnx", "IN... is missing"),
        ("bench", "MODEL.onnx... is missing"),
        ("bench vgg.onnx nothing.onnx", "`nothing.onnx`"),
        ("bench vgg.onnx --threads 0", "`--threads 0`"),
        ("bench vgg.onnx --threads one", "`--threads one`"),
        ("bench vgg.onnx --rounds 0", "`--rounds 0`"),
        ("bench vgg.onnx --batch 0", "`--batch 0`"),
        ("bench vgg.onnx --runtimes engin", "Did you mean 'engine'?"),
        ("bench vgg.onnx --runtimes litert", "expected some of 'engine', 'onnxruntime', 'openvino'"),
        ("bench vgg.onnx --html missing/page.html", "does not exist"),
        ("bench vgg.onnx --html vgg.onnx", "`--html vgg.onnx` is the model's own place"),
        ("bench vgg.onnx --times-only --shape nonsense=3", "`vgg.onnx`"),
        ("bench vgg.onnx --times-only --batch 4 --shape image:1,3,12,12", "`vgg.onnx`"),
        ("bench x.npy --times-only", "`x.npy`"),
    ],
)
def test_what_is_wrong_is_one_line(run: Run, line: str, said: str) -> None:
    before = names()
    done = run(line)
    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert done.err.count("\n") == 1
    assert names() == before


# -- bench -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [40, 60, 80, 200])
def test_bench_compares_models_and_threads_in_one_table(
    run: Run, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    done = run("bench vgg.onnx two.onnx --threads 1,2 --rounds 1 --batch 2 --times-only")
    assert (done.code, done.err) == (0, "")
    assert max(map(len, done.out.splitlines())) <= columns
    for words in ("vgg.onnx, 1 thread: image 2 x 3 x 12 x 12", "two.onnx, 2 threads", "not installed", "p90"):
        assert words in " ".join(done.out.split())
    assert done.out.count("\nONNX Runtime" if columns >= 80 else "\n  ONNX Runtime") == 4
    assert "load" not in done.out


def test_bench_in_json_holds_what_was_measured(run: Run) -> None:
    done = run("bench vgg.onnx two.onnx --threads 1,2 --rounds 2 --batch 2 --json --times-only")
    facts = json.loads(done.out)
    models = facts["models"]
    assert [(each["model"], each["threads"]) for each in models] == [
        ("vgg.onnx", 1),
        ("vgg.onnx", 2),
        ("two.onnx", 1),
        ("two.onnx", 2),
    ]
    assert models[0]["inputs"] == {"image": [2, 3, 12, 12]}
    ours, peer, *_ = models[0]["times"]
    assert (ours["runtime"], peer["runtime"]) == ("separable", "ONNX Runtime")
    assert 0 < ours["least_ms"] <= ours["median_ms"] <= ours["p90_ms"] <= ours["p99_ms"]
    assert len(ours["milliseconds"]) == len(peer["milliseconds"]) >= 2
    assert ours["error"] < 1e-4
    assert peer["over_ours"] == pytest.approx(peer["least_ms"] / ours["least_ms"])
    assert (ours["load_ms"], ours["memory_bytes"]) == (None, None)
    assert (facts["page"], facts["failed"], facts["batch"], facts["rounds"]) == (None, [], 2, 2)
    assert facts["machine"]["versions"]["ONNX Runtime"] == peer["version"]


def test_bench_measures_memory_and_load_time_and_writes_a_page(run: Run) -> None:
    pytest.importorskip("altair")
    done = run("bench vgg.onnx --rounds 1 --html page.html --json")
    assert (done.code, done.err) == (0, "")
    facts = json.loads(done.out)
    for row in facts["models"][0]["times"]:
        assert row["notes"] == []
        assert row["load_ms"] > 0
        assert row["memory_bytes"] > row["before_bytes"] > 1e6
    page = Path("page.html").read_text(encoding="utf-8")
    assert "MiB of a process" in page
    assert facts["page"] == "page.html"


def test_bench_takes_the_runtimes_that_are_asked_for(run: Run) -> None:
    done = run("bench vgg.onnx --runtimes onnxruntime,engine --rounds 1 --times-only --json")
    assert [row["runtime"] for row in json.loads(done.out)["models"][0]["times"]] == [
        "ONNX Runtime",
        "separable",
    ]
    done = run("bench vgg.onnx --runtimes onnxruntime --rounds 1 --times-only --json")
    (row,) = json.loads(done.out)["models"][0]["times"]
    assert (row["over_ours"], row["of_peak"]) == (None, None)


def test_one_bad_model_does_not_lose_the_others(run: Run) -> None:
    Path("bad.onnx").write_bytes(b"no model")
    done = run("bench bad.onnx vgg.onnx --rounds 1 --times-only")
    assert done.code == 1
    assert "vgg.onnx, 1 thread" in done.out
    assert done.err.startswith("separable: `bad.onnx`")
    assert done.err.count("\n") == 1
    facts = json.loads(run("bench bad.onnx vgg.onnx --rounds 1 --times-only --json").out)
    assert [each["model"] for each in facts["models"]] == ["vgg.onnx"]
    assert [each["model"] for each in facts["failed"]] == ["bad.onnx"]
    done = run("bench bad.onnx bad.onnx --rounds 1 --times-only")
    assert (done.code, done.out) == (2, "")


def test_bench_leaves_out_what_is_not_there_and_says_so(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> ReadyModel:
        raise OSError("no such luck")

    others = (
        Runtime("missing", "Missing", "no_such_module", refuse),
        Runtime("refusing", "Refusing", "onnx", refuse),
    )
    monkeypatch.setattr(request, "RUNTIMES", others)
    done = run("bench vgg.onnx --rounds 1 --times-only")
    assert done.code == 0
    said = " ".join(done.out.split())
    assert "not installed Missing" in said
    assert "Refusing refuses it: no such luck" in said
    done = run("bench vgg.onnx --rounds 1 --times-only --runtimes refusing")
    assert (done.code, done.out) == (2, "")
    assert done.err == "separable: `vgg.onnx`: Refusing refuses it: no such luck.\n"
    assert "Missing is not installed" in run("bench vgg.onnx --runtimes missing").err


def test_a_batch_that_the_model_does_not_take_is_refused(run: Run) -> None:
    onnx.save(sum_and_product(batch=1), "fixed.onnx")
    done = run("bench fixed.onnx --batch 4")
    assert done.code == 2
    assert "`--batch 4`" in done.err
    assert "`fixed.onnx`" in done.err


def test_only_rows_of_scores_are_ranked() -> None:
    assert largest("y", np.zeros((2, 3, 4), np.float32)) is None
    assert largest("y", np.zeros((2, 1), np.float32)) is None
    assert "top" not in output_facts(np.zeros((4,), np.float32))
    many = largest("y", np.arange(60, dtype=np.float32).reshape(20, 3))
    assert many is not None
    assert many.row_count == 11


def test_a_file_whose_name_has_an_equals_sign_is_a_file(tmp_path: Path) -> None:
    odd = tmp_path / "a=b.npy"
    np.save(odd, np.ones(3))
    assert GivenFiles((str(odd),)).paths == (odd,)
    assert GivenFiles(("a=b.npy",)).paths == (Path("b.npy"),)
