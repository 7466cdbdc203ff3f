"""Networks that people run, out of published packages: ours beside the runtimes that read ONNX files.

LiteRT, ncnn and torch read no such files; their converters start from torch modules.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np

from benchmarks import engine_files, engine_peers, libraries
from benchmarks.engine_files import Array
from benchmarks.engine_latency import GROUP, REST_SECONDS, Progress, least_cell, restored
from benchmarks.filters import WrongResultError
from benchmarks.results import SEPARABLE, Quantity, Row, TableRecord
from benchmarks.timing import Effort, Stopwatch, interleave

NAME: Final = "engine-real"
MEDIAN, WORST = 1 / 1.2, 1 / 0.8  # of the best peer's time: what is asked of the median, and of each network
OFF: Final = 1e-4  # of the largest output, beside ONNX Runtime without optimisations
# Or so many times what its own optimisations change: some outputs are near zero, some sums are of many terms.
OWN: Final = 2.0
QUICK: Final = "speech-sequence"

Outputs = dict[str, Array]


@dataclass(frozen=True)
class Loaded:
    """A network in a runtime."""

    call: Callable[[], object]
    result: Callable[[], Outputs]


Load = Callable[[Path, dict[str, Array], int], Loaded]


def measure(
    run: str,
    quick: bool = False,
    effort: Effort | None = None,
    only: tuple[str, ...] = (),
    progress: Progress = lambda text: None,
) -> TableRecord:
    """Measure the first case of each network on one thread, all runtimes interleaved.

    Raises
    ------
    WrongResultError
        If an output is further away from ONNX Runtime's than is allowed.
    """
    rows: list[Row] = []
    if libraries.load("onnxruntime") is not None and libraries.load("onnx") is not None:
        networks = [engine_files.named(QUICK)] if quick else list(engine_files.NETWORKS)
        if quick:
            networks = [network for network in networks if network.is_here()]
        for network in networks:
            progress(f"{NAME}: {network.title}")
            rows.append(row(network, 0, effort or Effort(), runtimes(only)))
    title = "Networks out of published packages, one thread (least times)"
    return TableRecord(NAME, GROUP, title, run, quick, "network", SEPARABLE, rows, _ratios(rows))


def runtimes(only: tuple[str, ...]) -> dict[str, Load]:
    """Return ours, and those of the others that are chosen and installed."""
    found = {SEPARABLE: _ours, engine_peers.ONNX_RUNTIME: _onnx_runtime, engine_peers.OPENVINO: _openvino}
    return {
        name: load
        for name, load in found.items()
        if name == SEPARABLE
        or (libraries.chosen(name, only) and libraries.load(name.replace(" ", "").lower()) is not None)
    }


class Measured(Protocol):
    """A network that is measured."""

    @property
    def title(self) -> str:
        """What it is called."""

    def path(self) -> Path:
        """Return its file."""

    def sample(self, case: int) -> dict[str, Array]:
        """Return inputs of one call."""


def row(network: Measured, case: int, effort: Effort, loads: dict[str, Load]) -> Row:
    """Return the times of a network in some runtimes."""
    path, feeds = network.path(), network.sample(case)
    wanted, allowed = reference(path, feeds)
    with restored():
        loaded = {name: one for name, load in loads.items() if (one := _loaded(name, load, path, feeds))}
        watches = {name: Stopwatch(_rested(one), one.call) for name, one in loaded.items()}
        for watch in watches.values():
            watch.first()
        apart = {name: difference(one.result(), wanted) for name, one in loaded.items()}
        if not apart[SEPARABLE] <= allowed:  # written so that NaN does not pass
            raise WrongResultError(
                f"{network.title}: ours is {apart[SEPARABLE]:.1e} of the largest output away from theirs"
            )
        interleave(list(watches.values()), effort)
    cells = [least_cell(name, watch, apart[name]) for name, watch in watches.items()]
    shapes = ", ".join(" x ".join(map(str, array.shape)) for array in feeds.values() if array.ndim)
    return Row(f"{network.title}, {shapes}", 1, cells)


def _loaded(name: str, load: Load, path: Path, feeds: dict[str, Array]) -> Loaded | None:
    """Return a network in a runtime; None where OpenVINO, which need not read everything, cannot read it."""
    try:
        return load(path, feeds, 1)
    except RuntimeError:
        if name != engine_peers.OPENVINO:
            raise
        return None


def _rested(loaded: Loaded) -> Callable[[], None]:
    """Return what lets other runtimes' threads fall asleep, then warms the caches."""

    def prepare() -> None:
        time.sleep(REST_SECONDS)
        loaded.call()

    return prepare


def reference(path: Path, feeds: dict[str, Array]) -> tuple[Outputs, float]:
    """Return what ONNX Runtime gives without optimisations, and how far from that others may be."""
    wanted = _onnx_runtime(path, feeds, 1, optimised=False).result()
    own = difference(_onnx_runtime(path, feeds, 1).result(), wanted)
    return wanted, max(OFF, OWN * own)


def difference(found: Outputs, wanted: Outputs) -> float:
    """Return the largest error of any output, over the largest number of that output."""
    worst = 0.0
    for name, array in wanted.items():
        if found[name].shape != array.shape:
            raise WrongResultError(f"output {name} has shape {found[name].shape}; expected {array.shape}")
        scale = max(float(np.abs(array).max(initial=0)), 1e-30)
        worst = max(worst, float(np.abs(found[name].astype(np.float64) - array).max(initial=0)) / scale)
    return worst


# -- runtimes


def _ours(path: Path, feeds: dict[str, Array], threads: int) -> Loaded:
    program = libraries.load("separable.engine").load(path, threads=threads)
    found = program(feeds)
    results = found if isinstance(found, dict) else {program.outputs[0]: found}
    return Loaded(lambda: program(feeds, out=results), lambda: results)


def _onnx_runtime(path: Path, feeds: dict[str, Array], threads: int, optimised: bool = True) -> Loaded:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    levels = ort.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimised else levels.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_outputs()]
    results: list[Any] = session.run(names, feeds)

    def call() -> None:
        results[:] = session.run(names, feeds)

    return Loaded(call, lambda: dict(zip(names, results, strict=True)))


def _openvino(path: Path, feeds: dict[str, Array], threads: int) -> Loaded:
    import openvino

    core = openvino.Core()
    model = core.read_model(path)
    model.reshape({name: list(array.shape) for name, array in feeds.items()})
    settings = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    for name, array in feeds.items():
        request.set_tensor(name, openvino.Tensor(array, shared_memory=True))
    names = [output.get_any_name() for output in model.outputs]
    return Loaded(request.infer, lambda: {name: np.array(request.get_tensor(name).data) for name in names})


# -- verdicts


def _ratios(rows: Sequence[Row]) -> list[Quantity]:
    """Return our time over the best peer's: of each convolutional network, and their median."""
    found = {}
    titles = {network.title for network in engine_files.NETWORKS if network.convolutional}
    for one in rows:
        ratio = over_best_peer(one)
        if ratio is not None and any(one.label.startswith(title) for title in titles):
            found[one.label] = ratio
    if not found:
        return []
    ratios = list(found.values())
    middle = float(np.median(ratios))
    note = "of the convolutional ones, beside the best of the others"
    each = [ratio_of(label, ratio) for label, ratio in found.items()]
    return [Quantity("ours, median", middle, min(ratios), max(ratios), "x the time", MEDIAN, note), *each]


def over_best_peer(row: Row) -> float | None:
    """Return our time over the best peer's; None where one of them is missing."""
    ours, peers = row.seconds(SEPARABLE), [cell.median for cell in row.cells if cell.of_peer]
    return ours / min(peers) if ours is not None and peers else None


def ratio_of(label: str, ratio: float) -> Quantity:
    """Return one network's ratio as it is stored."""
    return Quantity(f"ours, {label}", ratio, ratio, ratio, "x the time", WORST)
