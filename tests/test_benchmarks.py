"""Every benchmark runs at tiny size, and the report says what was measured."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

import separable
from benchmarks import __main__ as command
from benchmarks import (
    cases,
    conv_blocks,
    conv_cases,
    conv_onnx,
    conv_reference,
    conv_torch,
    conv_training,
    conv_works,
    convert_time,
    filters,
    libraries,
    machine,
    memory,
    peers,
    store,
    timing,
    works,
)
from benchmarks.render import duration
from benchmarks.results import (
    BEST_PEER,
    COPY,
    FMA_PEAK,
    ONE_THREAD,
    ORT_INSIDE,
    REALISED,
    SCIPY,
    SECONDS,
    SEPARABLE,
    TORCH_CHANNELS_LAST,
    ConvRecord,
    FilterRecord,
    Measurement,
    Quantity,
    QuantityRecord,
    Target,
    TimedRecord,
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


@pytest.mark.parametrize("name", [name for name in command.benchmarks() if name != convert_time.NAME])
def test_runs_and_survives_storage(name: str, tmp_path: Path) -> None:
    only: tuple[str, ...] = ()
    if name == "import":
        only = ("SciPy",)  # importing torch anew takes seconds
    elif name.startswith("dsc-"):
        only = (conv_onnx.ONNX_RUNTIME, conv_torch.EAGER)  # compiling takes seconds too, and OpenVINO one
        if name in ("dsc-1d", "dsc-3d", "dsc-stride-2"):  # which reads the same models
            only += (conv_onnx.OPENVINO,)
    record = command.benchmarks()[name](command.Settings("run", True, ONCE, only))
    kept = store.EMPTY.merged("run", FACTS, record)
    store.save(tmp_path, kept)
    assert store.load(tmp_path, [name]) == kept
    assert f"`{name}` {record.title}" in _pages(kept)
    if isinstance(record, TimedRecord):
        assert {m.threads for m in record.ours()} <= {1, 2}
        assert all(m.median > 0 and m.rounds == 1 for m in record.measurements)
        assert all(m.difference is not None for m in record.measurements if m.who != COPY)
    if isinstance(record, ConvRecord) and name.startswith("dsc-"):
        assert {m.who for m in record.dense} == set(record.peers()) - {ORT_INSIDE}
        assert all(m.median > 0 and m.difference is not None for m in record.dense)


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
    for work in [*cases.works(), *conv_cases.conv_works(), *conv_cases.training_works()]:
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
    kept = store.load(tmp_path / "results", list(command.benchmarks()))
    (machine,) = kept.machines.values()
    assert {record.name: record.run for record in kept.of(store.machine_key(machine.cpu))} == {
        "2d-9": "second",
        "call": "first",
    }
    assert list(kept.records) == ["2d-9", "call"]  # in the order of the report
    assert list(machine.runs) == ["first", "second"]
    pages = {path: path.read_text(encoding="utf-8") for path in tmp_path.rglob("*.md")}
    assert {path.name for path in pages} == {"RESULTS.md", "2-d.md", "call-overhead.md", "machines.md"}
    for path in pages:
        path.unlink()
    (tmp_path / "results" / "gone.md").touch()  # of benchmarks that are no more
    (tmp_path / "results" / "gone.json").touch()
    assert command.main(["--render", "--output", str(tmp_path)]) == 0
    assert {path: path.read_text(encoding="utf-8") for path in tmp_path.rglob("*.md")} == pages
    assert not list(tmp_path.rglob("gone.*"))


def test_each_machine_keeps_its_newest_run() -> None:
    record, other = _record(), {**FACTS, "cpu": "Another(R) CPU (family 6, model 7)", "caches": {}}
    kept = store.EMPTY.merged("a", FACTS, dataclasses.replace(record, run="a"))
    kept = kept.merged("b", other, dataclasses.replace(record, run="b", title="newest"))
    kept = kept.merged("c", FACTS, dataclasses.replace(record, run="c"))
    assert {key: run.run for key, run in kept.records["work"].items()} == {
        "a": "c",
        "another-6-7": "b",
    }
    assert [list(machine.runs) for machine in kept.machines.values()] == [["c"], ["b"]]
    line = next(line for line in _pages(kept).splitlines() if line.startswith("| [`work`]"))
    assert line.count("4.00x OpenCV; 2 threads: 100x SciPy") == 2  # OpenCV was timed on one thread only
    kept = kept.ordered([])
    assert not kept.records
    assert not kept.machines


def test_numbers_are_kept_as_they_are_stored() -> None:
    record = dataclasses.replace(_record(), stream_gb_s=1 / 3, macs=1234567.0)
    (kept,) = store.EMPTY.merged("run", FACTS, record).records["work"].values()
    assert isinstance(kept, FilterRecord)
    assert (kept.stream_gb_s, kept.macs, kept.samples) == (0.333333, 1234570.0, 10**6)


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
    folder = command.HERE / command.RESULTS
    expected = command.rendered(store.load(folder, list(command.benchmarks())))
    paths = [command.HERE / command.PAGE, *folder.glob("*.md")]
    found = {path.relative_to(command.HERE).as_posix(): path.read_text(encoding="utf-8") for path in paths}
    assert found == expected, "run `python -m benchmarks --render`"


def test_stored_results_are_of_benchmarks_that_exist() -> None:
    names = list(command.benchmarks())
    folder = command.HERE / command.RESULTS
    assert {path.stem for path in folder.glob("*.json")} <= set(names)
    kept = store.load(folder, names)
    runs = {(key, run) for key, machine in kept.machines.items() for run in machine.runs}
    assert runs == {(key, record.run) for key in kept.machines for record in kept.of(key)}


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
    (tmp_path / "call.json").write_text(json.dumps({"schema": 99}), encoding="utf-8")
    with pytest.raises(ValueError, match="schema 99, expected 2"):
        store.load(tmp_path, ["call"])


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


def _pages(kept: store.Store) -> str:
    return "\n".join(command.rendered(kept).values())


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
    page = _pages(store.EMPTY.merged("run", FACTS, record))
    assert ("**not met**" in page) is not met
    assert ("### Not met" in page) is not met
    assert ("| **0 of 1**: not " in page) is not met
    assert ("| yes |" in page) is met


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
    assert "### Disturbed" not in _pages(store.EMPTY.merged("run", FACTS, record))
    starved = dataclasses.replace(record.measurements[0], cores=0.5)
    disturbed = dataclasses.replace(record, measurements=[starved, *record.measurements[1:]])
    assert "used the machine during `work`" in _pages(store.EMPTY.merged("run", FACTS, disturbed))


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


# -- depthwise separable blocks


def _block(name: str = "dsc-32-64-112") -> conv_works.ConvWork:
    return next(w for w in conv_cases.conv_works() if w.name == name)


def test_every_installed_peer_runs_the_block() -> None:
    work = dataclasses.replace(_block(), threads=(1,))
    record = conv_blocks.measure(work, "run", quick=True, effort=ONCE)
    expected = set()
    if libraries.load("onnx"):
        expected |= {conv_onnx.ONNX_RUNTIME} if libraries.load("onnxruntime") else set()
        expected |= {conv_onnx.OPENVINO} if libraries.load("openvino") else set()
    if libraries.load("torch"):
        expected |= {conv_torch.EAGER} | ({conv_torch.COMPILED} if libraries.cpp_compiler() else set())
    assert set(record.peers()) - {ORT_INSIDE} == expected  # blocked channels are not for every processor
    assert {m.who for m in record.dense} == expected
    assert record.flop_ratio() == pytest.approx(1 / (1 / 32 + 1 / 9))


def test_missing_peers_leave_only_their_columns_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libraries, "load", lambda name: separable if name == "separable" else None)
    record = conv_blocks.measure(_block(), "run", quick=True, effort=ONCE)
    assert record.ours()
    assert not record.peers()
    assert not record.dense
    work = conv_cases.training_works()[0]
    assert not conv_training.measure(work, "run", quick=True, effort=ONCE).measurements
    versions = libraries.versions()
    assert {versions[name] for name in ("ONNX", "ONNX Runtime", "OpenVINO", "torch")} == {"not installed"}


class _Idle:
    """An operator that does nothing."""

    def __init__(self, *weights: np.ndarray, **options: Any) -> None:
        self.options = options

    def __call__(self, x: np.ndarray, out: np.ndarray, threads: int) -> None: ...


class _Zero(_Idle):
    """An operator that does other work."""

    def __call__(self, x: np.ndarray, out: np.ndarray, threads: int) -> None:
        out[...] = 0.0


@pytest.mark.parametrize("operator", [_Idle, _Zero])
def test_another_block_is_refused(
    operator: type, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(separable.conv, "FusedConv", operator)
    assert command.main(["dsc-1d", "--quick", "--peers", "none", "--output", str(tmp_path)]) == 1
    assert "dsc-1d: separable native differs from float64 arithmetic by" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_another_training_step_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    if libraries.load("torch") is None:
        pytest.skip("torch is not installed")
    right = conv_training.our_block

    def wrong(torch: Any, convs: tuple[conv_reference.Conv, ...]) -> Any:
        module = right(torch, convs)
        with torch.no_grad():
            module.conv_dw.weight[0] *= 1.5
        return module

    monkeypatch.setattr(conv_training, "our_block", wrong)
    with pytest.raises(filters.WrongResultError, match="train-128-56: separable native differs"):
        conv_training.measure(conv_cases.training_works()[0], "run", True, ONCE, only=("none",))


def test_a_block_is_also_work_in_2d() -> None:
    job = conv_works.make_block(_block("dsc-1d"), quick=True)
    lifted = job.lifted()
    assert lifted.flops == job.flops
    x = lifted.x
    for conv in lifted.convs:
        x = np.maximum(conv_reference.convolve(x, conv), 0)
    assert np.abs(x - lifted.reference).max() <= job.tolerance
    assert np.shares_memory(lifted.out_first, job.out)


@pytest.mark.parametrize(("name", "ratio"), [("dsc-7x7", 32.4), ("dsc-3d", 19.0), ("dsc-1d", 14.2)])
def test_flop_ratio_is_the_textbook_one(name: str, ratio: float) -> None:
    work = _block(name)
    taps = work.kernel ** len(work.sizes)
    assert 1 / (1 / work.c_out + 1 / taps) == pytest.approx(ratio, rel=1e-2)
    block = conv_works.make_block(work, quick=True)
    c_out = block.reference.shape[-1]
    found = conv_works.make_dense(work, block).flops / block.flops
    assert found == pytest.approx(1 / (1 / c_out + 1 / taps))


def _naive(x: np.ndarray, conv: conv_reference.Conv) -> np.ndarray:
    """Sample by sample, channel by channel, from the definition."""
    result = np.zeros(conv.output_shape(x.shape))
    per_group, outputs = conv.weights.shape[1], len(conv.weights) // conv.groups
    for index in np.ndindex(result.shape):
        batch, *at, channel = index
        result[index] = conv.bias[channel]
        for source, *tap in itertools.product(range(per_group), *map(range, conv.kernel)):
            each = zip(at, tap, conv.stride, conv.dilation, conv.padding, strict=True)
            place = tuple(a * s + t * d - p for a, t, s, d, p in each)
            if all(0 <= n < size for n, size in zip(place, x.shape[1:-1], strict=True)):
                group = channel // outputs
                value = x[(batch, *place, group * per_group + source)]
                result[index] += value * conv.weights[(channel, source, *tap)]
    return result


def _conv(
    rng: np.random.Generator, shape: tuple[int, ...], groups: int, **options: Any
) -> conv_reference.Conv:
    bias = rng.standard_normal(shape[0])
    return conv_reference.Conv(rng.standard_normal(shape), bias, groups, **options)


@pytest.mark.parametrize("groups", [1, 3])
def test_reference_is_the_definition(groups: int) -> None:
    rng = np.random.default_rng(5)
    conv = _conv(rng, (3, 3 // groups, 3, 2), groups, stride=(2, 1), dilation=(1, 3), padding=(1, 2))
    x = rng.standard_normal((2, 7, 6, 3))
    np.testing.assert_allclose(conv_reference.convolve(x, conv), _naive(x, conv), rtol=1e-12, atol=1e-12)


def test_reference_gradients_are_difference_quotients() -> None:
    rng = np.random.default_rng(6)
    convs = [
        _conv(rng, (3, 1, 3), 3, stride=(2,), dilation=(2,), padding=(2,)),
        _conv(rng, (4, 3, 1), 1, stride=(1,), dilation=(1,), padding=(0,)),
    ]
    x = rng.standard_normal((2, 9, 3))
    result, gradients = conv_reference.block(x, convs, grad := rng.standard_normal((2, 5, 4)))
    assert result.shape == grad.shape
    arrays = (x, *(array for conv in convs for array in (conv.weights, conv.bias)))
    step = 1e-6
    for array, gradient in zip(arrays, gradients, strict=True):
        direction = rng.standard_normal(array.shape)
        start, ends = array.copy(), []
        for sign in (1, -1):
            array[...] = start + sign * step * direction
            ends.append(float((conv_reference.block(x, convs, grad)[0] * grad).sum()))
        array[...] = start
        assert (ends[0] - ends[1]) / (2 * step) == pytest.approx((gradient * direction).sum(), rel=1e-5)


class _Clock:
    """Time that passes only in sleep; other threads are busy until `busy_until`."""

    def __init__(self, busy_until: float) -> None:
        self.now = 0.0
        self.busy_until = busy_until

    def perf_counter(self) -> float:
        return self.now

    def process_time(self) -> float:
        return min(self.now, self.busy_until)

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize(("busy", "waited"), [(0.0, 0.01), (0.04, 0.05), (9.0, libraries.SETTLE_LIMIT)])
def test_idle_threads_that_poll_are_waited_for(
    busy: float, waited: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = _Clock(busy)
    monkeypatch.setattr(libraries, "time", clock)
    libraries.settle()
    assert clock.now == pytest.approx(waited, abs=libraries.SETTLE_STEP / 2)


def _conv_record(*targets: Target) -> ConvRecord:
    """Return the record of a block that runs at half the peak on one thread."""
    measurements = [
        _measurement(SEPARABLE, 2e-3, "native"),
        _measurement("torch eager", 5e-3, "contiguous"),
        _measurement("torch eager", 4e-3, "channels_last"),
        _measurement("OpenVINO", 3e-3, "NHWC"),
        _measurement("OpenVINO", 1e-3, "NHWC", threads=2),
        _measurement(ORT_INSIDE, 1e-3),
    ]
    return ConvRecord(
        name="block",
        group="blocks",
        title="a block",
        run="run",
        quick=False,
        fma_gflop_s={"native": 100.0},
        measurements=measurements,
        targets=list(targets),
        flops=1e8,
        dense_flops=8e8,
        dense=[_measurement("OpenVINO", 12e-3, "NHWC"), _measurement("torch eager", 13e-3, "contiguous")],
    )


@pytest.mark.parametrize(
    ("metric", "value", "sentence"),
    [
        (BEST_PEER, 1.5, "1.50 x as fast as best peer"),
        ("torch eager", 2.0, "2.00 x as fast as torch eager"),
        (TORCH_CHANNELS_LAST, 2.0, "2.00 x as fast as torch eager channels_last"),
        ("torch eager contiguous", 2.5, "2.50 x as fast as torch eager contiguous"),
        (ORT_INSIDE, 0.5, "0.50 x as fast as ONNX Runtime NCHWc"),
        ("ONNX Runtime", None, "ONNX Runtime was not measured"),
        (FMA_PEAK, 0.5, "50% of the FMA peak"),
        (REALISED, 0.75, "75% of the FLOP ratio"),
    ],
)
def test_verdicts_on_blocks(metric: str, value: float | None, sentence: str) -> None:
    record = _conv_record(Target(metric, 3.0, "native"), Target(metric, 0.99 * (value or 0.0), "native"))
    missed, met = record.verdicts(record.ours()[0])
    assert missed.value == met.value == (None if value is None else pytest.approx(value))
    assert not missed.met
    assert met.met is (value is not None)
    assert next(not_met(record)).startswith(f"a block, native, 1 thread: {sentence}")


def test_blocks_are_rendered() -> None:
    targets = (Target(BEST_PEER, 1.4, "native"), Target(REALISED, 0.9, "native"))
    record = _conv_record(*targets)
    page = _pages(store.EMPTY.merged("run", FACTS, record))
    ours = "| work | path | threads | time | ± | GFLOP/s | of FMA peak"
    head = f"{ours} | torch eager | OpenVINO | ONNX Runtime NCHWc"
    cells = "| native | 1 | 2 ms | 10% | 50 | 50% | 2 | 1.5 | 0.5 | 6 | 75% | 1.0e-07 |"
    assert f"{head} | dense | of FLOP ratio | difference | targets |" in page
    assert (
        f"| `block` a block (run run) {cells} best peer ≥ 1.4: met; FLOP ratio ≥ 90%: **not met** |" in page
    )
    assert "| dense: OpenVINO NHWC | 1 | 12 ms |" in page
    training = dataclasses.replace(record, dense=[])
    page = _pages(store.EMPTY.merged("run", FACTS, training))
    assert training.value(training.ours()[0], REALISED) is None
    assert f"{head} | difference | targets |" in page


def test_a_conversion_is_timed_in_a_process_of_its_own(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("skimage")
    record = convert_time.measure("run", quick=True)
    kept = store.EMPTY.merged("run", FACTS, record)
    store.save(tmp_path, kept)
    assert store.load(tmp_path, [convert_time.NAME]) == kept
    (quantity,) = record.quantities
    assert quantity.label == "four convolutions, 16 inputs"
    assert 0 < quantity.value < 600
    assert "MiB; one pass of the inputs takes" in quantity.note
