"""Converted networks in the engine beside the dense ones in the best runtime: saved MACs as saved time.

The networks of `engine_networks` have random weights, of which a conversion loses much. How long they take
does not depend on that. The demo's network is a trained one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import separable as sp
from benchmarks import engine_networks, engine_peers, libraries
from benchmarks.convert_time import photographs
from benchmarks.engine_latency import GROUP, Progress, Running, can_be_built, loaded_in, peers, restored
from benchmarks.engine_networks import Floats
from benchmarks.engine_peers import Runner
from benchmarks.results import SEPARABLE, Quantity, QuantityRecord
from benchmarks.timing import Effort, interleave
from separable.conv.forms.table import CHEAPER
from separable.demo import network as demo

NAME = "engine-converted"
DEMO = "demo"
ASKED = 1 / 0.8  # at most so many times the MACs that are left may be the time that is left
THREADS = (1, 2)


@dataclass(frozen=True)
class Work:
    """A network, the fraction of its time that it is converted to, inputs of a call and of the fit, forms."""

    name: str
    title: str
    budget: float
    batch: int
    inputs: int
    forms: tuple[str, ...] = CHEAPER


WORKS = (
    Work("resnet-18", "ResNet-18, 224 x 224", 0.2, 1, 16),
    Work(
        "vgg16", "VGG16, 224 x 224", 0.25, 1, 16, ("spatial", "low-rank")
    ),  # of the others a fit takes minutes
    Work(DEMO, "the demo's network, 64 squares", 0.45, demo.BATCH, demo.CALIBRATION),
)
QUICK = Work(DEMO, "the demo's network, 4 squares", 0.6, 4, 32)


def measure(
    run: str,
    quick: bool = False,
    effort: Effort | None = None,
    only: tuple[str, ...] = (),
    progress: Progress = lambda text: None,
) -> QuantityRecord:
    """Measure each dense network in each runtime, and the converted one in the engine and ONNX Runtime."""
    quantities: list[Quantity] = []
    if can_be_built() and libraries.load("skimage") is not None:
        for work in (QUICK,) if quick else WORKS:
            progress(f"{NAME}: {work.title}, conversion")
            dense, converted = files(work)
            for threads in THREADS[:1] if quick else THREADS:
                progress(f"{NAME}: {work.title}, {threads} threads")
                quantities.append(
                    _compared(work, dense, converted, threads, effort or Effort(), peers(quick, only))
                )
    title = (
        "Time saved by a conversion, the converted network in the engine, the dense one in the best runtime"
    )
    return QuantityRecord(NAME, GROUP, title, run, quick, quantities)


def files(work: Work) -> tuple[Path, Path]:
    """Return the files of a network and of what becomes of it, which are made if they are not there yet."""
    if work.name == DEMO:
        dense = engine_networks.kept(f"{DEMO}.onnx", lambda file: file.write_bytes(demo.trained_bytes()))
    else:
        dense = engine_networks.path(engine_networks.named(work.name))

    def convert(file: Path) -> None:
        inputs, forms = _inputs(work, work.inputs), work.forms
        done = sp.onnx.separate(dense, inputs, work.budget, by="time", forms=forms, threads=1, progress=False)
        done.save(file)

    return dense, engine_networks.kept(f"{work.name}.{work.budget:g}.{work.inputs}.converted.onnx", convert)


def _inputs(work: Work, count: int) -> Floats:
    if work.name == DEMO:
        return demo.calibration()[:count]
    return photographs(count, engine_networks.named(work.name).shape[1])


def _compared(
    work: Work, dense: Path, converted: Path, threads: int, effort: Effort, runners: Sequence[Runner]
) -> Quantity:
    """Return how much of the saved MACs is lost on the way to saved time."""
    x = _inputs(work, work.batch)
    both = [runner for runner in runners if runner.name in (SEPARABLE, engine_peers.ONNX_RUNTIME)]
    with restored():
        before, _ = loaded_in([runner for runner in runners if runner.float32], dense, x, threads)
        after, _ = loaded_in(both, converted, x, threads)
        interleave([one.watch for one in (*before, *after)], effort)
    best = min((one for one in before if one.runner.name != SEPARABLE), key=_least)
    ours, theirs = (_named(after, name) for name in (SEPARABLE, engine_peers.ONNX_RUNTIME))
    fewer = sp.onnx.audit(dense).macs / sp.onnx.audit(converted).macs
    faster = _least(best) / _least(ours)
    dense_ms, ours_ms, theirs_ms = (1e3 * _least(one) for one in (_named(before, SEPARABLE), ours, theirs))
    note = (
        f"{fewer:.2f}x fewer MACs, {faster:.2f}x faster: dense in {best.runner.name} "
        f"{1e3 * _least(best):.3g} ms, in the engine {dense_ms:.3g}; "
        f"converted {ours_ms:.3g}, in ONNX Runtime {theirs_ms:.3g}"
    )
    label = f"{work.title}, {threads} thread{'s' if threads > 1 else ''}: MACs saved over time saved"
    lost = fewer / faster
    return Quantity(label, lost, lost, lost, "x", ASKED, note)


def _named(running: Sequence[Running], name: str) -> Running:
    return next(one for one in running if one.runner.name == name)


def _least(one: Running) -> float:
    return min(one.watch.samples)
