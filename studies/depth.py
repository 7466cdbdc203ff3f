"""Early against late layers of trained networks: which of them lose less as separable layers."""

from __future__ import annotations

import statistics

import numpy as np
from matplotlib.figure import Figure

import separable as sp
from docs.drawings.ink import Ink, curves
from studies.networks import SEEDS, Trained, convolutions, trained
from studies.study import FOLKLORE, Numbers, Progress, Study, Verdict, judged, table

NETS = ("vgg", "residual")
WEIGHTS, DATA = "by its weights", "fitted to data"
CLEAR = 0.5  # rank correlation with depth from which on an order is one


def measure(small: bool, progress: Progress) -> Numbers:
    """Replace one layer at a time by its separable form of rank 1."""
    nets: dict[str, list[list[Numbers]]] = {}
    for name in NETS[:1] if small else NETS:
        nets[name] = []
        for seed in range(1 if small else SEEDS):
            progress(f"depth: training {name}, seed {seed}")
            case = trained(name, seed, small)
            layers = list(convolutions(case.net))
            rows = []
            for layer in layers:
                progress(f"depth: {name}, seed {seed}, {layer}")
                rows.append(_alone(case, layer))
            nets[name].append(rows)
    return {"nets": nets}


def _alone(case: Trained, layer: str) -> Numbers:
    """Return what it costs to replace one layer: of its weights, and of the network's outputs."""
    conv = convolutions(case.net)[layer]
    error = sp.conv.decompose(conv.weight.detach().numpy(), 1)[2].relative_l2
    others = [name for name in convolutions(case.net) if name != layer]
    done = sp.nn.separate(case.net, case.inputs, rank=1, forms=["dw-pw"], skip=others)
    return {
        "layer": layer,
        "shape": f"{conv.in_channels} to {conv.out_channels}",
        WEIGHTS: error,
        DATA: float(done.report.output_change),
        "points": case.accuracy(case.net) - case.accuracy(done.model),
    }


def correlation(values: list[float]) -> float:
    """Return the rank correlation (Spearman's) of values with their place."""
    ranks = np.argsort(np.argsort(values))
    return float(np.corrcoef(ranks, np.arange(len(values)))[0, 1])


def judge(numbers: Numbers) -> list[Verdict]:
    """Judge whether losses grow with depth."""
    found = {}
    for skipped, words in ((0, "all layers"), (1, "without the first")):
        for name, runs in numbers["nets"].items():
            for how in (WEIGHTS, DATA):
                found[f"{name} {how} ({words})"] = statistics.mean(
                    correlation([row[how] for row in rows[skipped:]]) for rows in runs
                )
    whole = [rows for runs in numbers["nets"].values() for rows in runs]
    first = [rows[0][DATA] for rows in whole]
    later = [row[DATA] for rows in whole for row in rows[1:]]
    return [
        judged(
            "early layers separate with less loss than late ones",
            FOLKLORE,
            "rank correlation of loss and depth "
            + ", ".join(f"{_range(found, how)} {how}" for how in (WEIGHTS, DATA))
            + " (1: each later layer loses more)",
            f"Spearman's correlation of a layer's loss with its depth is {CLEAR} or more, in the mean of "
            "the seeds.",
            {name: value >= CLEAR for name, value in found.items()},
        ),
        judged(
            "the first layer, of few input channels, is the one to leave dense",
            "MobileNets and Xception, which do",
            f"it changes the outputs by {statistics.median(first):.1%} of their variance, the others by "
            f"{statistics.median(later):.2%} (medians, fitted to data)",
            "replaced alone it changes the outputs more than the median of the others does, in all nets "
            "and seeds.",
            {
                name: all(rows[0][DATA] > statistics.median(row[DATA] for row in rows[1:]) for rows in runs)
                for name, runs in numbers["nets"].items()
            },
        ),
    ]


def _range(found: dict[str, float], how: str) -> str:
    values = [value for name, value in found.items() if how in name]
    return f"{min(values):+.2f} to {max(values):+.2f}"


def tables(numbers: Numbers) -> str:
    """Return the losses layer by layer, means over the seeds."""
    rows = []
    for name, runs in numbers["nets"].items():
        for layers in zip(*runs, strict=True):
            means = {key: statistics.mean(row[key] for row in layers) for key in (WEIGHTS, DATA, "points")}
            rows.append([
                f"{name}, {layers[0]['layer']}", layers[0]["shape"], f"{means[WEIGHTS]:.0%}",
                f"{means[DATA]:.2%}", f"{means['points']:+.1f}",
            ])  # fmt: skip
    heads = ["layer", "channels", "weights are off by", "outputs change by", "points lost"]
    return "One layer replaced, the others as they were; means over the seeds:\n\n" + table(heads, rows)


def draw(ink: Ink, numbers: Numbers) -> Figure:
    """Draw losses over depth."""
    figure = Figure(figsize=(6.0, 2.4), layout="constrained")
    ways = ((WEIGHTS, "relative error of the weights"), (DATA, "change of the outputs"))
    for place, (how, words) in enumerate(ways):
        axes = curves(figure, ink, "layer, from the input", words, 120 + place + 1)
        for colour, (name, runs) in zip(ink.others, numbers["nets"].items(), strict=False):
            values = np.array([[row[how] for row in rows] for rows in runs])
            depth = np.arange(1, values.shape[1] + 1)
            axes.plot(depth, values.mean(axis=0), "o-", markersize=3, color=colour, label=name)
            axes.fill_between(depth, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.2, lw=0)
        axes.set_yscale("log" if how == DATA else "linear")
    axes.legend(frameon=False, labelcolor=ink.text)
    return figure


STUDY = Study(
    "depth",
    "Early layers against late ones",
    "have to choose which layers of a network to convert",
    "what one layer alone loses as a separable one of rank 1, for every 3x3 layer of two networks trained "
    "on textures, "
    f"{SEEDS} seeds, from the weights and fitted to unlabelled data.",
    measure,
    judge,
    tables,
    draw,
    "What one layer loses when it alone becomes separable, over its depth: mean and range of the seeds",
)
