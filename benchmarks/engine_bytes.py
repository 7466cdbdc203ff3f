"""Whole networks in eight bits: ours beside ONNX Runtime's and OpenVINO's, of one file and by our scales."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks import engine_peers, machine
from benchmarks.engine_latency import GROUP, Progress
from benchmarks.engine_networks import Floats
from benchmarks.engine_peers import Runner
from benchmarks.engine_precisions import NETWORKS, beside_ours, calibration, compared, ours_in
from benchmarks.quantiser import quantise
from benchmarks.results import SEPARABLE, Quantity, Row, TableRecord
from benchmarks.timing import Effort

NAME: Final = "engine-int8"
PRECISION: Final = "int8"
OURS: Final = f"{SEPARABLE}, {PRECISION}"
OURS_QDQ: Final = f"{SEPARABLE}, QDQ"
ALL: Final = (*NETWORKS, "resnet-18")
CALLS: Final = 8  # inputs that scales come from
ASKED: Final = 1.0  # times as long as ONNX Runtime at most


def measure(
    run: str,
    quick: bool = False,
    effort: Effort | None = None,
    only: tuple[str, ...] = (),
    progress: Progress = lambda text: None,
) -> TableRecord:
    """Measure each network on one thread, all runtimes interleaved, with errors against float32.

    ONNX Runtime's quantiser writes one file with QDQ of each network, which all runtimes take as it is; ours
    makes eight bits of the float32 file as well (``precision="int8"``), from the same inputs.

    Raises
    ------
    WrongResultError
        If a runtime in float32 computes something else than ONNX Runtime.
    """
    rows, agreed = compared(NAME, PRECISION, ALL, _runners(only), quick, effort, progress)
    title = "Networks in eight bits, one thread (least times; QDQ: files that ONNX Runtime quantised)"
    figures = [*_figures(rows, quick), *agreed]
    return TableRecord(NAME, GROUP, title, run, quick, "network", SEPARABLE, rows, figures)


def _runners(only: tuple[str, ...]) -> list[Runner]:
    """Return ONNX Runtime in float32, which others are compared with, ours, and all of them in eight bits."""
    chosen = beside_ours(only, engine_peers.OPENVINO_DEFAULT)
    quantised = [
        dataclasses.replace(runner, name=_qdq(runner.name), load=_of_file(runner), float32=False)
        for runner in chosen
    ]
    return [*chosen[:2], ours_in(PRECISION, CALLS), *quantised]


def _qdq(name: str) -> str:
    return f"{name.partition(' as by')[0]}, QDQ"


def _of_file(runner: Runner) -> engine_peers.Load:
    """Return what loads the file with QDQ of a network instead."""
    return lambda path, x, threads: runner.load(_quantised(path, x), x, threads)


def _quantised(path: Path, x: Floats) -> Path:
    """Return the file with QDQ of a network, made once: seven bits of weights where VNNI is absent."""
    vnni = machine.has_vnni()
    target = path.with_name(f"{path.stem}.qdq{8 if vnni else 7}.onnx")
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            given, made = Path(folder) / path.name, Path(folder) / target.name
            given.write_bytes(path.read_bytes())
            inputs = np.concatenate(calibration(x, CALLS))
            quantise(given, made, inputs, per_channel=True, reduce_range=not vnni, batch=1)
            made.replace(target)
    return target


def _figures(rows: list[Row], quick: bool) -> list[Quantity]:
    """Return for each network how many times as long as ONNX Runtime ours takes in eight bits, and errors."""
    figures = []
    asked = None if quick else ASKED
    theirs = _qdq(engine_peers.ONNX_RUNTIME)
    for row in rows:
        cells = {cell.column: cell for cell in row.cells}
        for ours in (OURS_QDQ, OURS):
            if ours in cells and theirs in cells:
                ratio = cells[ours].median / cells[theirs].median
                label = f"{ours} over {theirs}, {row.label}"
                figures.append(Quantity(label, ratio, ratio, ratio, "x", asked))
        for name, cell in cells.items():
            if name not in (SEPARABLE, engine_peers.ONNX_RUNTIME) and cell.apart is not None:
                error = 100 * cell.apart
                label = f"error of {name}, {row.label}"
                figures.append(Quantity(label, error, error, error, "% of the largest output"))
    return figures
