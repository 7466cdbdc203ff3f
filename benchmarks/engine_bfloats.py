"""Whole networks in bfloat16: ours beside our float32 and OpenVINO, whose default that is where it pays."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks import engine_networks, engine_peers, libraries
from benchmarks.convert_time import photographs
from benchmarks.engine_latency import GROUP, Progress, can_be_built, row_of
from benchmarks.engine_networks import Floats, Network
from benchmarks.engine_peers import Loaded, Runner
from benchmarks.results import SEPARABLE, Quantity, Row, TableRecord
from benchmarks.timing import Effort

NAME: Final = "engine-bf16"
OURS: Final = f"{SEPARABLE}, bf16"
NETWORKS: Final = ("mobilenet-v1", "mobilenet-v2", "mobilenet-v3", "efficientnet-b0", "resnet-50")
QUICK: Final = "ds-cnn-s"
QUICK_INPUTS: Final = 20
BATCH: Final = 100  # photographs that are cut at a time
CALLS: Final = 4  # inputs that the error is measured on
PHOTOGRAPHS: Final = 1000  # on which classes are compared
UNITS: Final = {
    "amx": "on AMX",
    "avx512-bf16": "on AVX512-BF16",
    "vectors": "open: this processor has neither AMX nor AVX512-BF16, products run in float32",
}


def measure(
    run: str,
    quick: bool = False,
    effort: Effort | None = None,
    only: tuple[str, ...] = (),
    progress: Progress = lambda text: None,
) -> TableRecord:
    """Measure each network on one thread, all runtimes interleaved; print what multiplies, and errors.

    Raises
    ------
    WrongResultError
        If a runtime in float32 computes something else than ONNX Runtime.
    """
    rows: list[Row] = []
    agreed: list[Quantity] = []
    if can_be_built():
        for name in (QUICK,) if quick else NETWORKS:
            progress(f"{NAME}: {name}")
            network = engine_networks.named(name)
            rows.append(row_of(network, _runners(only), effort or Effort()))
            agreed.append(same_class(network, "bf16", QUICK_INPUTS if quick else PHOTOGRAPHS))
    title = f"Networks in bfloat16, one thread (least times; {UNITS[unit()]})"
    return TableRecord(NAME, GROUP, title, run, quick, "network", SEPARABLE, rows, [*_figures(rows), *agreed])


def same_class(network: Network, precision: str, count: int) -> Quantity:
    """Return on how many of some inputs the class is that of float32: photographs where it reads pictures."""
    path = engine_networks.path(network)
    load: Any = libraries.load("separable.engine").load
    exact = load(path, threads=1)
    calibration = list(_inputs(network, CALLS, seed=count))
    program = load(path, threads=1, precision=precision, calibration=calibration)
    same = sum(int(exact(x).argmax() == program(x).argmax()) for x in _inputs(network, count))
    value = 100 * same / count
    return Quantity(
        f"same class as float32, {precision}, {network.title}", value, value, value, f"% of {count} inputs"
    )


def _inputs(network: Network, count: int, seed: int = 0) -> Iterator[Floats]:
    """Yield inputs, a batch of one each."""
    pictures = network.shape[0] == 3 and libraries.load("skimage") is not None
    for start in range(0, count, BATCH):
        size = min(count - start, BATCH)
        if pictures:
            yield from photographs(size, network.shape[1], seed=seed + start)[:, np.newaxis]
        else:
            rng = np.random.default_rng(seed + start)
            yield from rng.standard_normal((size, 1, *network.shape)).astype(np.float32)


def unit() -> str:
    """Return what multiplies numbers of bfloat16 on this processor."""
    return str(libraries.load("separable._core").matrix_unit())


def _runners(only: tuple[str, ...]) -> list[Runner]:
    """Return ONNX Runtime, which others are compared with, ours in both precisions, and OpenVINO in both."""
    names = (engine_peers.ONNX_RUNTIME, SEPARABLE, engine_peers.OPENVINO, engine_peers.OPENVINO_DEFAULT)
    there = {runner.name: runner for runner in engine_peers.runners((*only, names[0]) if only else ())}
    ours = Runner(OURS, ("separable.engine",), "separable", _load, float32=False)
    chosen = [there[name] for name in names if name in there]
    return [*chosen[:2], ours, *chosen[2:]]


def _load(path: Path, x: Floats, threads: int) -> Loaded:
    calls = list(np.random.default_rng(1).standard_normal((CALLS, *x.shape)).astype(np.float32))
    load: Any = libraries.load("separable.engine").load
    program = load(path, threads=threads, precision="bf16", calibration=calls)
    y = np.array(program(x))
    return Loaded(lambda: program(x, out=y), lambda: y)


def _figures(rows: list[Row]) -> list[Quantity]:
    """Return for each network how many times as long OpenVINO's default takes, and the error of ours."""
    figures = []
    for row in rows:
        cells = {cell.column: cell for cell in row.cells}
        ours, theirs = cells.get(OURS), cells.get(engine_peers.OPENVINO_DEFAULT)
        if ours is not None and theirs is not None:
            ratio = theirs.median / ours.median
            note = UNITS[unit()]
            figures.append(
                Quantity(f"OpenVINO as by default, {row.label}", ratio, ratio, ratio, "x ours", note=note)
            )
        if ours is not None and ours.apart is not None:
            error = 100 * ours.apart
            figures.append(
                Quantity(f"error of ours, {row.label}", error, error, error, "% of the largest output")
            )
    return figures
