"""Whole networks in bfloat16: ours beside our float32 and OpenVINO, whose default that is where it pays."""

from __future__ import annotations

from typing import Final

from benchmarks import engine_peers, libraries
from benchmarks.engine_latency import GROUP, Progress
from benchmarks.engine_peers import Runner
from benchmarks.engine_precisions import NETWORKS, beside_ours, compared, ours_in
from benchmarks.results import SEPARABLE, Quantity, Row, TableRecord
from benchmarks.timing import Effort

NAME: Final = "engine-bf16"
PRECISION: Final = "bf16"
OURS: Final = f"{SEPARABLE}, {PRECISION}"
CALLS: Final = 4  # inputs that the error is measured on
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
    rows, agreed = compared(NAME, PRECISION, NETWORKS, _runners(only), quick, effort, progress)
    title = f"Networks in bfloat16, one thread (least times; {UNITS[unit()]})"
    return TableRecord(NAME, GROUP, title, run, quick, "network", SEPARABLE, rows, [*_figures(rows), *agreed])


def unit() -> str:
    """Return what multiplies numbers of bfloat16 on this processor."""
    return str(libraries.load("separable._core").matrix_unit())


def _runners(only: tuple[str, ...]) -> list[Runner]:
    """Return ONNX Runtime, which others are compared with, ours in both precisions, and OpenVINO in both."""
    chosen = beside_ours(only, engine_peers.OPENVINO, engine_peers.OPENVINO_DEFAULT)
    return [*chosen[:2], ours_in(PRECISION, CALLS), *chosen[2:]]


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
