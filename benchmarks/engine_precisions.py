"""What benchmarks of networks in fewer bits share: the networks, ours in a precision, classes that stay."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks import engine_networks, engine_peers, libraries
from benchmarks.convert_time import photographs
from benchmarks.engine_latency import Progress, can_be_built, row_of
from benchmarks.engine_networks import Floats, Network
from benchmarks.engine_peers import Loaded, Runner
from benchmarks.results import SEPARABLE, Quantity, Row
from benchmarks.timing import Effort

NETWORKS: Final = ("mobilenet-v1", "mobilenet-v2", "mobilenet-v3", "efficientnet-b0", "resnet-50")
QUICK: Final = "ds-cnn-s"
PHOTOGRAPHS: Final = 1000  # on which classes are compared
QUICK_INPUTS: Final = 20
BATCH: Final = 100  # photographs that are cut at a time
CALLS: Final = 4  # inputs that calibrate where classes are compared


def compared(
    name: str,
    precision: str,
    networks: Sequence[str],
    runners: Sequence[Runner],
    quick: bool,
    effort: Effort | None,
    progress: Progress,
) -> tuple[list[Row], list[Quantity]]:
    """Return the times of each network, and on how many inputs ours in a precision keeps the class."""
    rows: list[Row] = []
    agreed: list[Quantity] = []
    if can_be_built():
        for one in (QUICK,) if quick else networks:
            progress(f"{name}: {one}")
            network = engine_networks.named(one)
            rows.append(row_of(network, runners, effort or Effort()))
            agreed.append(_same_class(network, precision, QUICK_INPUTS if quick else PHOTOGRAPHS))
    return rows, agreed


def beside_ours(only: tuple[str, ...], *others: str) -> list[Runner]:
    """Return ONNX Runtime, which others are compared with, ours in float32, and others that are chosen."""
    names = (engine_peers.ONNX_RUNTIME, SEPARABLE, *others)
    there = {runner.name: runner for runner in engine_peers.runners((*only, names[0]) if only else ())}
    return [there[name] for name in names if name in there]


def ours_in(precision: str, calls: int) -> Runner:
    """Return ours in a precision, calibrated on so many random inputs."""

    def load(path: Path, x: Floats, threads: int) -> Loaded:
        engine: Any = libraries.load("separable.engine")
        program = engine.load(path, threads=threads, precision=precision, calibration=calibration(x, calls))
        y = np.array(program(x))
        return Loaded(lambda: program(x, out=y), lambda: y)

    return Runner(f"{SEPARABLE}, {precision}", ("separable.engine",), "separable", load, float32=False)


def calibration(x: Floats, calls: int) -> list[Floats]:
    """Return random inputs of so many calls, of the shape of one."""
    return list(np.random.default_rng(1).standard_normal((calls, *x.shape)).astype(np.float32))


def _same_class(network: Network, precision: str, count: int) -> Quantity:
    """Return on how many of some inputs the class is that of float32: photographs where it reads pictures."""
    path = engine_networks.path(network)
    load: Any = libraries.load("separable.engine").load
    exact = load(path, threads=1)
    calls = list(_inputs(network, CALLS, seed=count))
    program = load(path, threads=1, precision=precision, calibration=calls)
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
