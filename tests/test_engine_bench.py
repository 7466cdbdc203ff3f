"""Models beside other runtimes: quantiles, ratios, what was not measured, groups, processes, tables."""

from __future__ import annotations

import json
import math
import pickle
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import onnx_models as models  # noqa: E402 (needs onnx and onnxruntime)

import separable as sp  # noqa: E402
from separable.conv.audits.machine import copy_speed, kernel_target, processor  # noqa: E402
from separable.engine.peers import alone as processes  # noqa: E402
from separable.engine.peers import request, runtimes, subjects  # noqa: E402
from separable.engine.peers.side_by_side import bench  # noqa: E402
from separable.engine.times import clock  # noqa: E402
from separable.engine.times.records import (  # noqa: E402
    BenchMachine,
    FailedModel,
    ModelTimes,
    RuntimeTimes,
)
from separable.report.benches import Bench  # noqa: E402
from separable.report.text.benches import narrow  # noqa: E402

HOSTILE = "folder/" * 8 + "[bold]\x1b[2Jnet\u202ework.onnx"
QUICK: dict[str, Any] = {"rounds": 1, "rest": 0.0, "times_only": True, "progress": False}


def record(*rows: RuntimeTimes, name: str = "net.onnx") -> Bench:
    """Return a bench of one model with one and with two threads."""
    machine = BenchMachine("Some Processor (family 6)", 2, "x86-64-v4", {"Python": "3.11", "separable": "1"})
    each = ModelTimes(name, {"x": (1, 3, 224, 224)}, 1, 150_000_000, 300.0, 12.5, rows, ("Third refuses it",))
    both = (each, replace(each, threads=2, peak_gflops=600.0))
    failed = (FailedModel("bad.onnx", "`bad.onnx` is damaged"),)
    return Bench(both, machine, 10, 1, 60.0, "the reference", ("OpenVINO",), failed)


OURS = RuntimeTimes("separable", "1", (2.0, 3.0, 4.0), 12.0, 50 << 20, 40 << 20, 1e-6)
PEER = RuntimeTimes("ONNX Runtime", "1.31.1", (5.0, 6.0, 7.0), 20.0, 60 << 20, 42 << 20, 0.0)


# -- records -----------------------------------------------------------------------------------------


def test_quantiles_are_calls_that_were_measured() -> None:
    calls = tuple(float(n) for n in range(200, 0, -1))
    timed = RuntimeTimes("separable", "1", calls)
    assert (timed.least_ms, timed.median_ms) == (1.0, 100.5)
    assert [timed.quantile_ms(share) for share in (0.5, 0.9, 0.99, 1.0)] == [100.5, 180.0, 198.0, 200.0]
    assert [timed.quantile_ms(share) for share in (0.9, 0.99)] == [
        np.percentile(calls, q, method="inverted_cdf") for q in (90, 99)
    ]
    assert replace(timed, milliseconds=(3.0,)).quantile_ms(0.99) == 3.0


def test_ratios_and_shares_of_the_peak() -> None:
    one, two = record(OURS, PEER).models
    assert one.best_ms == pytest.approx(1.0)
    assert [one.of_peak(timed) for timed in one.times] == pytest.approx([0.5, 0.2])
    assert [two.of_peak(timed) for timed in two.times] == pytest.approx([0.25, 0.1])
    assert [one.over_ours(timed) for timed in one.times] == pytest.approx([1.0, 2.5])
    alone = replace(one, times=(PEER,), macs=None)
    assert (alone.ours, alone.over_ours(PEER), alone.of_peak(PEER), alone.best_ms) == (None,) * 4


def test_what_was_not_measured_is_no_zero() -> None:
    row = RuntimeTimes("separable", "1", (2.0,))
    bare = record(row)
    facts = json.loads(bare.to_json())["models"][0]["times"][0]
    assert [facts[name] for name in ("load_ms", "memory_bytes", "before_bytes", "error")] == [None] * 4
    text = str(bare)
    assert not {"load", "memory", "error"} & set(text.split("\n\n")[1].split())
    some = str(record(row, PEER))
    line = next(line for line in some.splitlines() if line.startswith("separable "))
    assert line.split()[-3:] == ["-", "-", "-"]
    assert "\n0 " not in text
    infinite = record(replace(OURS, error=math.inf))
    assert json.loads(infinite.to_json())["models"][0]["times"][0]["error"] is None
    assert " inf\n" in str(infinite)


def test_a_bench_is_a_value() -> None:
    b = record(OURS, PEER)
    assert pickle.loads(pickle.dumps(b)) == b
    assert repr(b) == "<Bench of net.onnx>"
    facts = json.loads(b.to_json())
    assert facts["machine"]["processor"] == b.machine.processor
    assert facts["failed"] == [{"model": "bad.onnx", "reason": "`bad.onnx` is damaged"}]
    assert facts["models"][0]["times"][1]["milliseconds"] == [5.0, 6.0, 7.0]
    assert facts["models"][0]["times"][1]["p99_ms"] == 7.0


# -- tables ------------------------------------------------------------------------------------------


def test_the_table_fits_eighty_columns_and_holds_the_numbers() -> None:
    slow = replace(PEER, milliseconds=(5123.4, 61234.5), load_ms=10_234.0, memory_bytes=1023 << 20)
    fast = replace(OURS, milliseconds=(0.0213, 0.0314))
    for b in (record(OURS, PEER), record(fast), record(slow), record(OURS, PEER, name=HOSTILE)):
        lines = str(b).splitlines()
        assert max(map(len, lines)) <= 80
        assert all(line.isprintable() for line in lines)
    lines = str(record(OURS, PEER)).splitlines()
    row = next(line.split() for line in lines if line.startswith("ONNX Runtime"))
    assert row == ["ONNX", "Runtime", "5", "6", "7", "7", "20", "%", "2.5x", "20", "60", "MiB", "0"]
    said = " ".join(" ".join(lines).split())
    for words in (
        "Some Processor (family 6), 2 cores, x86-64-v4: 300 GFLOP/s, copies 12.5 GB/s a thread",
        "net.onnx, 1 thread: x 1 x 3 x 224 x 224; 150M MACs",
        "3 calls of each",
        "40 MiB to 42 MiB of it before the model was read",
        "not installed OpenVINO",
        "left out net.onnx: Third refuses it",
        "failed `bad.onnx` is damaged",
    ):
        assert words in said


@pytest.mark.parametrize("columns", [30, 40, 60])
def test_the_table_of_a_narrow_terminal(columns: int) -> None:
    text = narrow(record(OURS, PEER, name=HOSTILE), columns)
    assert max(map(len, text.splitlines())) <= columns
    assert all(line.isprintable() for line in text.splitlines())
    said = " ".join(text.split())
    assert "separable least 2, p50 3, p90 4, p99 4, peak 50 %, ours 1x, load 12, memory 50 MiB" in said


def test_a_notebook_shows_the_same() -> None:
    shown = record(OURS, PEER, name=HOSTILE)._repr_html_()
    assert "2.5x" in shown
    assert "50 MiB" in shown
    assert "\x1b" not in shown


# -- measuring ---------------------------------------------------------------------------------------


def test_calls_that_are_compared_have_as_many_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "fma_peak", lambda: 5.0)
    monkeypatch.setattr(clock, "copy_speed", lambda: 7.0)
    order: list[str] = []
    rounds: list[tuple[int, int]] = []

    def call(name: str, seconds: float) -> Any:
        def run() -> None:
            order.append(name)
            time.sleep(seconds)

        return run

    calls = {"a slow": call("a slow", 4e-3), "a fast": call("a fast", 0.0), "b": call("b", 0.0)}
    taken = clock.interleaved(
        calls, 2, rest=0.0, alike=lambda key: key[0], progress=lambda *steps: rounds.append(steps)
    )
    assert {key: len(samples) for key, samples in taken.seconds.items()} == {
        "a slow": 2,
        "a fast": 2,
        "b": 20,
    }
    assert min(taken.seconds["a slow"]) >= 4e-3
    assert (taken.peak, taken.copy) == (5.0, 7.0)
    assert rounds == [(0, 2), (1, 2)]
    turns = [name for place, name in enumerate(order) if order[place - 1 : place] != [name]]
    assert turns == ["a slow", "a fast", "b"] * 3


def test_bench_takes_models_in_memory_and_files(tmp_path: Path) -> None:
    onnx.save(models.vgg(width=16), tmp_path / "vgg.onnx")
    done = bench([tmp_path / "vgg.onnx", models.vgg(width=16)], threads=[2, 1, 2], batch=2, **QUICK)
    assert [model.threads for model in done.models] == [2, 1, 2, 1]
    assert done.models[0].model == str(tmp_path / "vgg.onnx")
    for model in done.models:
        assert model.inputs == {"image": (2, 3, 12, 12)}
        assert model.macs == done.models[0].macs > 0
        assert model.peak_gflops > 0 < model.copy_gbs
        assert [timed.runtime for timed in model.times][:2] == ["separable", "ONNX Runtime"]
        assert all(timed.error is not None and timed.error < 1e-4 for timed in model.times)
        assert all(timed.memory_bytes is None for timed in model.times)
    assert done.machine.target == kernel_target()
    assert done.machine.processor == processor() != ""


def test_memory_and_load_time_are_those_of_processes_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("onnxruntime.py").write_text("raise SystemExit('read from the present folder')", encoding="utf-8")
    ballast = np.ones(200 << 20, np.uint8)  # of this process, which is none of theirs
    done = bench(models.vgg(width=16), **{**QUICK, "times_only": False})
    for timed in done.models[0].times:
        assert timed.notes == ()
        assert timed.load_ms is not None
        assert timed.load_ms > 0
        if sys.platform == "linux":
            assert timed.memory_bytes is not None
            assert timed.before_bytes is not None
            assert 10 << 20 < timed.before_bytes < timed.memory_bytes < ballast.nbytes
    assert list(tmp_path.iterdir()) == [tmp_path / "onnxruntime.py"]


def test_a_process_that_fails_is_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tmp_path / "vgg.onnx"
    onnx.save(models.vgg(width=16), model)
    with pytest.raises(processes.AloneError, match="image"):
        processes.alone("onnxruntime", model, {}, 1)
    monkeypatch.setattr(processes, "_CODE", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    if sys.platform != "win32":
        with pytest.raises(processes.AloneError, match=f"signal {int(signal.SIGKILL)}"):
            processes.alone("engine", model, {}, 1)
    monkeypatch.setattr(processes, "_CODE", "print('no answer')")
    done = bench(model, **{**QUICK, "times_only": False})
    for timed in done.models[0].times:
        assert (timed.load_ms, timed.memory_bytes) == (None, None)
        assert timed.notes == ("memory and load time not measured: a process of its own gave no answer",)
    assert "not measured: a process of its own gave no answer" in " ".join(str(done).split())
    monkeypatch.setattr(processes, "_CODE", "import time; time.sleep(60)")
    monkeypatch.setattr(processes, "_SECONDS", 0.2)
    with pytest.raises(processes.AloneError, match="took more than"):
        processes.alone("engine", model, {}, 1)


def test_peak_memory_grows_with_what_is_held() -> None:
    code = "from separable.engine.peers.alone import peak_memory; a = peak_memory(); b = b'1' * (50 << 20); "
    done = subprocess.run(
        [sys.executable, "-c", f"{code}print(peak_memory() - a)"], capture_output=True, text=True, check=True
    )
    assert 45 << 20 < int(done.stdout) < 80 << 20
    assert copy_speed() > 1e8


def test_models_that_memory_does_not_hold_together_are_timed_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subjects, "physical_memory", lambda: 1)
    done = bench([models.vgg(width=16)] * 2, runtimes=["engine"], **QUICK)
    assert len(done.models) == 2
    assert done.notes == ("models were not timed together: side by side they take too much memory",)
    monkeypatch.setattr(subjects, "physical_memory", lambda: None)
    assert bench([models.vgg(width=16)] * 2, runtimes=["engine"], **QUICK).notes == ()


def test_what_the_engine_does_not_run_is_measured_in_the_others() -> None:
    text = """<ir_version: 10, opset_import: ["": 21]>
        net (float[1, 4, 8, 8] x) => (float[1, 4, 8, 8] y) { y = Hardmax(x) }"""
    model = onnx.parser.parse_model(text)
    done = bench(model, **QUICK)
    (times,) = done.models
    assert "separable" not in [timed.runtime for timed in times.times]
    assert (times.macs, times.over_ours(times.times[0])) == (None, None)
    assert "separable refuses it" in times.left_out[0]
    assert "Hardmax" in str(done)
    with pytest.raises(ValueError, match=r"separable refuses it.*Hardmax"):
        bench(model, runtimes=["engine"], **QUICK)
    both = bench(model, fallback="onnxruntime", **QUICK)
    assert both.models[0].times[0].runtime == "separable"


def test_results_that_differ_without_bound_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = np.full((1, 5), np.nan, np.float32)

    def wrong(*_: object) -> runtimes.ReadyModel:
        return runtimes.ReadyModel(lambda: None, lambda: {"head_out": nothing})

    monkeypatch.setattr(request, "RUNTIMES", (runtimes.Runtime("wrong", "Wrong", "onnx", wrong),))
    (times,) = bench(models.vgg(width=16), runtimes=["wrong"], **QUICK).models
    assert times.times[0].error == math.inf
    assert "NaN or infinite" in times.times[0].notes[0]


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"models": []}, ValueError, "`models` is empty"),
        ({"models": 3}, TypeError, "`models` is int"),
        ({"threads": []}, ValueError, "`threads` is empty"),
        ({"threads": 0}, ValueError, "`threads=0`"),
        ({"threads": [1, "2"]}, TypeError, "`threads='2'`"),
        ({"runtimes": []}, ValueError, "`runtimes` is empty"),
        ({"runtimes": "engine"}, TypeError, "no sequence of names"),
        ({"runtimes": ["onnxruntim"]}, ValueError, "Did you mean 'onnxruntime'"),
        ({"rounds": 0}, ValueError, "`rounds=0`"),
        ({"batch": True}, TypeError, "`batch=True`"),
        ({"fallback": "torch"}, ValueError, "`fallback='torch'`"),
        ({"shapes": "height=3"}, ValueError, "height"),
        ({"progress": 3}, TypeError, "`progress=3`"),
    ],
)
def test_what_is_no_argument_is_refused(options: dict[str, Any], error: type[Exception], said: str) -> None:
    given = {"models": models.vgg(width=16), **QUICK, **options}
    with pytest.raises(error, match=said):
        bench(given.pop("models"), **given)


def test_an_interrupt_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def interrupted(done: int, total: int, step: str) -> None:
        if step.startswith("memory"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench(models.vgg(width=16), **{**QUICK, "times_only": False, "progress": interrupted})
    assert not list(tmp_path.iterdir())


def test_progress_names_stages() -> None:
    stages: list[str] = []
    bench(models.vgg(width=16), **{**QUICK, "progress": lambda done, total, step: stages.append(step)})
    assert [stage.split()[0] for stage in dict.fromkeys(stages)][:2] == ["reading", "loading"]
    assert stages[-1] == "timing in turn"


def test_the_public_names() -> None:
    assert sp.engine.bench is bench
    assert sp.engine.Bench is Bench
