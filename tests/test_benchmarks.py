"""Every benchmark runs at tiny size, and the report says what was measured."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

import separable
from benchmarks import __main__ as command
from benchmarks import cases, filters, libraries, machine, memory, peers, store, timing, works
from benchmarks.render import duration, render
from benchmarks.results import (
    COPY,
    ONE_THREAD,
    SCIPY,
    SECONDS,
    SEPARABLE,
    FilterRecord,
    Measurement,
    Quantity,
    QuantityRecord,
    Target,
    not_met,
)

ONCE = timing.Effort(rounds=1, seconds=0.0, min_rounds=1)
FACTS = {
    "date": "today",
    "cpu": "a processor",
    "cores": 2,
    "caches": {"L1d": "32K"},
    "load": "0.00",
    "system": "here",
    "target": "v4",
    "compiler": "one",
    "fma_gflop_s": {"v4": 200.0},
    "stream_gb_s": 30.0,
    "versions": {"Python": "3"},
}


@pytest.fixture(autouse=True)
def known_peaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measuring the machine's peaks takes longer than all else at tiny size."""
    monkeypatch.setattr(machine, "stream_gb_s", lambda: 30.0)
    monkeypatch.setattr(machine, "fma_gflop_s", lambda target: 100.0)


def test_peaks_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    target = separable.core_info()["target"]
    assert machine.stream_gb_s() > 0
    assert machine.fma_gflop_s(separable.core_info()["targets"][0]) > 0
    assert separable.core_info()["target"] == target


@pytest.mark.parametrize("name", command.benchmarks())
def test_runs_and_survives_storage(name: str, tmp_path: Path) -> None:
    only = ("SciPy",) if name == "import" else ()  # importing torch anew takes seconds
    record = command.benchmarks()[name](command.Settings("run", True, ONCE, only))
    kept = store.EMPTY.merged("run", FACTS, record)
    store.save(tmp_path / "results.json", kept)
    assert store.load(tmp_path / "results.json") == kept
    assert f"`{name}` {record.title}" in render(kept, "")
    if isinstance(record, FilterRecord):
        assert {m.threads for m in record.ours()} <= {1, 2}
        assert all(m.median > 0 and m.rounds == 1 for m in record.measurements)
        assert all(m.difference is not None for m in record.measurements if m.who != COPY)


def test_every_installed_peer_takes_part() -> None:
    work = next(w for w in cases.works() if w.name == "2d-9")
    record = filters.measure(work, "run", quick=True, effort=ONCE)
    expected = {SCIPY}
    expected |= {peers.OPENCV, peers.OPENCV_BLUR} if libraries.load("cv2") else set()
    expected |= {peers.ITK_GAUSSIAN, peers.ITK_RECURSIVE} if libraries.load("SimpleITK") else set()
    expected |= {peers.TORCH} if libraries.load("torch") else set()
    assert set(record.peers()) == expected
    assert set(filters.measure(work, "run", True, ONCE, only=("scipy",)).peers()) == {SCIPY}


def test_targets_name_rows_that_exist() -> None:
    for work in cases.works():
        for target in work.targets:
            assert target.variant in {variant.label for variant in work.variants}
            assert target.threads in work.threads


def test_libraries_are_left_as_they_were() -> None:
    cv2 = pytest.importorskip("cv2")
    before, target = cv2.getNumThreads(), separable.core_info()["target"]
    cv2.setNumThreads(1)
    try:
        work = next(w for w in cases.works() if w.name == "2d-9")
        filters.measure(work, "run", quick=True, effort=ONCE, only=("OpenCV",))
        assert cv2.getNumThreads() == 1
        assert separable.core_info()["target"] == target
    finally:
        cv2.setNumThreads(before)


def _idle(x: np.ndarray, kernel: object, output: np.ndarray, **_: object) -> np.ndarray:
    return output


def _close(x: np.ndarray, kernel: object, output: np.ndarray, **_: object) -> np.ndarray:
    output[...] = ndimage.gaussian_filter(x, cases.GAUSSIANS[9][0] * 1.001)
    return output


@pytest.mark.parametrize("correlate", [_idle, _close])
def test_other_work_is_refused(
    correlate: Callable[..., np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(separable, "correlate", correlate)
    assert command.main(["2d-9", "--quick", "--peers", "SciPy", "--output", str(tmp_path)]) == 1
    assert "2d-9: separable native differs from SciPy by" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_single_benchmarks_are_merged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = iter(("first", "second"))
    monkeypatch.setattr(command.time, "strftime", lambda form: next(runs) if "T" in form else "today")
    common = ["--quick", "--peers", "SciPy", "--output", str(tmp_path)]
    assert command.main(["call", "2d-9", *common]) == 0
    assert command.main(["2d-?", *common]) == 0
    kept = store.load(tmp_path / "results.json")
    assert {name: record.run for name, record in kept.records.items()} == {
        "2d-9": "second",
        "call": "first",
    }
    assert list(kept.records) == ["2d-9", "call"]  # in the order of the report
    page = (tmp_path / "RESULTS.md").read_text(encoding="utf-8")
    assert "## Machine (run first)" in page
    assert "## Machine (run second)" in page
    (tmp_path / "RESULTS.md").unlink()
    assert command.main(["--render", "--output", str(tmp_path)]) == 0
    assert (tmp_path / "RESULTS.md").read_text(encoding="utf-8") == page


def test_quick_runs_do_not_touch_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "HERE", tmp_path)
    assert command.main(["call", "--quick", "--peers", "SciPy"]) == 0
    assert not list(tmp_path.iterdir())


def test_wrong_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["2d-9", "nothing-*"]) == 2
    assert "nothing is named 'nothing-*'" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stop:
        command.main(["--rounds", "0"])
    assert stop.value.code == 2
    assert command.main(["--list"]) == 0
    assert "3d-512-25\n" in capsys.readouterr().out


def test_report_is_a_rendering_of_the_stored_results() -> None:
    results = command.HERE / command.RESULTS
    if not results.exists():
        pytest.skip("nothing has been measured yet")
    notes = (command.HERE / command.NOTES).read_text(encoding="utf-8")
    page = (command.HERE / command.PAGE).read_text(encoding="utf-8")
    assert page == render(store.load(results), notes), "run `python -m benchmarks --render`"


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "RESULTS.md"
    page.write_text("old", encoding="utf-8")

    def refuse(self: Path, target: Path) -> None:
        raise OSError("no space")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OSError, match="no space"):
        store.replace_text(page, "new")
    assert page.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [page]


def test_unknown_schema_is_named(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps({"schema": 99}), encoding="utf-8")
    with pytest.raises(ValueError, match="schema 99, expected 1"):
        store.load(path)


# -- timing


def test_rounds_interleave_and_slow_contenders_join_some() -> None:
    calls: list[str] = []

    def watch(name: str, estimate: float) -> timing.Stopwatch:
        return timing.Stopwatch(
            lambda: calls.append(name.lower()), lambda: calls.append(name), estimate=estimate
        )

    slow = timing.SLOW_CALL_SECONDS
    watches = [watch("A", slow), watch("B", slow), watch("C", 6 * slow)]
    timing.interleave(watches, timing.Effort(rounds=4, seconds=8 * slow, min_rounds=1))
    once = ["a", "A", "b", "B"]
    assert calls == [*once * 3, *once, "c", "C"]
    assert [len(w.samples) for w in watches] == [4, 4, 1]


def test_quick_calls_are_batched_and_warmed() -> None:
    count = 0

    def call() -> None:
        nonlocal count
        count += 1

    watch = timing.Stopwatch(lambda: None, call, estimate=timing.MIN_SAMPLE_SECONDS / 10)
    watch.visit()
    assert count == 1 + 10
    assert len(watch.samples) == 1


@pytest.mark.parametrize(
    ("seconds", "rounds"), [(1e-3, 15), (0.1, 7), (1.0, 3), (3.0, 2), (5.0, 1), (60.0, 1)]
)
def test_slow_contenders_get_fewer_rounds(seconds: float, rounds: int) -> None:
    watch = timing.Stopwatch(lambda: None, lambda: None, estimate=seconds)
    assert watch.rounds(timing.Effort()) == rounds


# -- results and report


def _measurement(who: str, median: float, variant: str = "", threads: int = 1) -> Measurement:
    return Measurement(who, variant, threads, median, median, median * 1.1, 5, float(threads), 1e-7)


def _record(*targets: Target) -> FilterRecord:
    measurements = [
        _measurement(SEPARABLE, 2e-3, "native"),
        _measurement(SEPARABLE, 1e-3, "native", threads=2),
        _measurement(COPY, 1e-3),
        _measurement(COPY, 1e-3, threads=2),
        _measurement("OpenCV", 8e-3),
        _measurement(SCIPY, 0.1),
    ]
    return FilterRecord(
        name="work",
        group="group",
        title="a title",
        dtype="float32",
        samples=10**6,
        macs=10,
        run="run",
        quick=False,
        stream_gb_s=8.0,
        fma_gflop_s={"native": 100.0},
        measurements=measurements,
        targets=list(targets),
    )


@pytest.mark.parametrize(
    ("target", "value", "met"),
    [
        (Target(COPY, 2.0, "native"), 2.0, True),
        (Target(COPY, 1.9, "native"), 2.0, False),
        (Target("OpenCV", 4.0, "native"), 4.0, True),
        (Target("OpenCV", 4.1, "native"), 4.0, False),
        (Target("OpenCV", 1.0, "native", threads=2), None, False),  # measured on one thread only
        (Target(SCIPY, 100.0, "native", threads=2), 100.0, True),  # which has no threads
        (Target(ONE_THREAD, 1.8, "native", threads=2), 2.0, True),
        (Target(ONE_THREAD, 2.1, "native", threads=2), 2.0, False),
        (Target(SECONDS, 2e-3, "native"), 2e-3, True),
        (Target(SECONDS, 1e-3, "native"), 2e-3, False),
    ],
)
def test_verdicts(target: Target, value: float | None, met: bool) -> None:
    record = _record(target)
    row = record.find(SEPARABLE, target.threads, "native")
    assert row is not None
    (verdict,) = record.verdicts(row)
    assert verdict.value == (None if value is None else pytest.approx(value))
    assert verdict.met is met
    assert len(list(not_met(record))) == (not met)
    page = render(store.EMPTY.merged("run", FACTS, record), "## Notes\n\nby hand\n")
    assert ("**not met**" in page) is not met
    assert ("Every target above is met." in page) is met
    assert "\n## Notes\n\nby hand\n" in page


def test_shares_of_copy_and_peak() -> None:
    record = _record()
    one, two = record.ours()
    assert record.stream_ratio(one) == pytest.approx(2.0)  # 8 MB at 8 GB/s take 1 ms
    assert record.peak_share(one) == pytest.approx(0.1)  # 20 MFLOP in 2 ms, of 100 GFLOP/s
    assert record.peak_share(two) == pytest.approx(0.1)
    wide = dataclasses.replace(record, dtype="float64")
    assert wide.stream_ratio(one) == pytest.approx(1.0)
    assert wide.peak_share(one) == pytest.approx(0.2)


def test_quantities_are_judged() -> None:
    figures = [Quantity("small", 1.0, 1.0, 1.0, "ms", 2.0), Quantity("large", 3.0, 3.0, 3.0, "ms", 2.0)]
    record = QuantityRecord("figures", "Figures", "Some figures", "run", False, figures)
    assert list(not_met(record)) == ["Some figures: large is 3.0 ms, asked for at most 2.0."]


def test_a_busy_machine_is_reported() -> None:
    record = _record()
    assert "## Disturbed" not in render(store.EMPTY.merged("run", FACTS, record), "")
    starved = dataclasses.replace(record.measurements[0], cores=0.5)
    disturbed = dataclasses.replace(record, measurements=[starved, *record.measurements[1:]])
    assert "used the machine during `work`" in render(store.EMPTY.merged("run", FACTS, disturbed), "")


def test_durations_read_well() -> None:
    assert [duration(s) for s in (9.87e-6, 1.5e-3, 0.25, 3.0)] == ["9.9 µs", "1.5 ms", "250 ms", "3.00 s"]


# -- what is compared


def test_difference_leaves_margins_out_and_lets_nan_through() -> None:
    reference = np.zeros((6, 6))
    result = np.zeros((6, 6))
    result[0, 3], result[3, 3] = 5.0, 0.25
    assert works.difference(result, reference, ()) == 5.0
    assert works.difference(result, reference, (1, 1)) == 0.25
    result[4, 3] = np.nan
    assert math.isnan(works.difference(result, reference, (1, 1)))
    with pytest.raises(ValueError, match="expected"):
        works.difference(result[1:], reference, ())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_arrays_are_aligned(dtype: str) -> None:
    array = works.aligned((3, 5), dtype)
    assert array.ctypes.data % 64 == 0
    assert (array.shape, array.dtype) == ((3, 5), np.dtype(dtype))
    assert array.flags.c_contiguous


@pytest.mark.parametrize("taps", cases.GAUSSIANS)
def test_simpleitk_uses_as_many_taps(taps: int) -> None:
    sitk = libraries.load("SimpleITK")
    if sitk is None:
        pytest.skip("SimpleITK is not installed")
    sigma, radius = cases.GAUSSIANS[taps]
    impulse = np.zeros((65, 65))
    impulse[32, 32] = 1.0
    image = sitk.GetImageFromArray(impulse)
    smooth = sitk.DiscreteGaussian(image, sigma**2, 1000, peers._itk_error(sigma, radius), False)
    assert np.count_nonzero(sitk.GetArrayFromImage(smooth)[32]) == taps


def test_peak_memory_sees_what_a_call_takes() -> None:
    ballast = np.ones(128 * memory.MIB, np.uint8)  # a large parent must not hide its child's memory
    output, extra = memory.peak(memory.Call((64, 256, 256), 9, who="SciPy"))
    assert output == 16 * memory.MIB
    assert output <= extra < 2 * output
    del ballast
