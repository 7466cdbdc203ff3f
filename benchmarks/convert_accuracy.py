"""Accuracy of converted networks on pictures that nobody has trained on or calibrated with."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from benchmarks import libraries
from benchmarks.results import Quantity, QuantityRecord

SETS = ("digits", "faces", "textures")
NETWORKS = ("vgg", "residual")
SEEDS = 3
COUNTS = (16, 64, 256, 1024)

# Points that may be lost: with one term, with two, and with one eighth left and distillation.
LOST = {1: 1.0, 2: 0.2}
LOST_DISTILLED = 0.2
PASSES = 60


def measure(
    data: str,
    run: str,
    quick: bool,
    progress: Callable[[str], None] = lambda text: None,
) -> QuantityRecord:
    """Train networks on one set of pictures with several seeds, convert them, and count what is lost."""
    quantities: list[Quantity] = []
    missing = [name for name in ("torch", "sklearn", "skimage") if libraries.load(name) is None]
    if not missing:
        study = libraries.example("convert_all")
        for network in NETWORKS[: 1 if quick else None]:
            quantities += _of_network(study, data, network, quick, progress)
    title = (
        f"Conversion without labels, {data}: points of held-out accuracy lost, mean and range over the seeds"
    )
    return QuantityRecord(f"convert-{data}", "Conversion", title, run, quick, quantities)


def _of_network(
    study: Any, data: str, network: str, quick: bool, progress: Callable[[str], None]
) -> Iterator[Quantity]:
    cases = []
    for seed in range(1 if quick else SEEDS):
        progress(f"convert-{data}: training {network}, seed {seed}")
        cases.append(study.case_of(data, network, seed, epochs=1 if quick else 12))
    for rank, most in list(LOST.items())[: 1 if quick else None]:
        progress(f"convert-{data}: {network}, T = {rank}")
        times, found = study.at_rank(cases, rank)
        dense, free, refit, ours = (list(column) for column in zip(*found, strict=True))
        note = (
            f"{_rate(dense)} % dense, {_rate(ours)} % ours, {_rate(free)} % SVD without data, "
            f"{_rate(refit)} % with P refitted"
        )
        yield _lost(f"{network}, {times} fewer MACs (those of T = {rank})", dense, ours, most, note)
    if quick:
        return
    progress(f"convert-{data}: {network}, distilled")
    _, found = study.at_an_eighth(cases, PASSES)
    dense, *_, ours = (list(column) for column in zip(*found, strict=True))
    note = f"{_rate(ours)} %, {PASSES} passes without labels"
    yield _lost(f"{network}, 8.0x fewer MACs, distilled", dense, ours, LOST_DISTILLED, note)
    if network == NETWORKS[0]:
        for count in (count for count in COUNTS if count <= len(cases[0].inputs)):
            progress(f"convert-{data}: {network}, {count} inputs")
            rates = [study.with_inputs(case, count) for case in cases]
            yield _lost(
                f"{network}, T = 1, calibrated on {count} inputs", dense, rates, None, f"{_rate(rates)} %"
            )


def _lost(
    label: str, dense: Sequence[float], ours: Sequence[float], most: float | None, note: str
) -> Quantity:
    points = [before - after for before, after in zip(dense, ours, strict=True)]
    return Quantity(label, statistics.mean(points), min(points), max(points), "points", most, note)


def _rate(rates: Sequence[float]) -> str:
    return f"{statistics.mean(rates):.1f}"
