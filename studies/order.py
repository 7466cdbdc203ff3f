"""Depthwise first or pointwise first: on trained weights, in conversions, and trained from the beginning."""

from __future__ import annotations

import statistics
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

import separable as sp
from benchmarks import libraries
from docs.drawings.ink import Ink, curves
from studies.networks import SEEDS, convolutions, pictures, replaced, trained
from studies.rank import DATA, WEIGHTS, converted
from studies.study import Numbers, Progress, Study, Verdict, judged, table

BSCONV = "[Blueprint separable convolutions](https://arxiv.org/abs/2003.13549)"
ORDERS = ("dw-pw", "pw-dw")
KEPT, SCRATCH = "weights kept by one term", "trained from the beginning"
MEASURES = (KEPT, WEIGHTS, DATA, SCRATCH)
STRIDES = ((64, 128, 3, 56), (128, 256, 3, 28))


def measure(small: bool, progress: Progress) -> Numbers:
    """Compare the orders on networks of textures, and count strided layers."""
    found: dict[str, dict[str, list[float]]] = {key: {order: [] for order in ORDERS} for key in MEASURES}
    dense = []
    for seed in range(1 if small else SEEDS):
        case = trained("vgg", seed, small)
        dense.append(case.accuracy(case.net))
        for order in ORDERS:
            progress(f"order: {order}, seed {seed}")
            found[KEPT][order].append(_kept(case.net, order))
            for how in (WEIGHTS, DATA):
                found[how][order].append(case.accuracy(converted(case, 1, how, order)))
            found[SCRATCH][order].append(case.accuracy(_from_scratch(order, seed, small)))
    return {"found": found, "dense": dense, "strided": [_strided(*shape) for shape in STRIDES]}


def _kept(net: torch.nn.Module, order: str) -> float:
    """Return how much of the squares of the weights one term of each slice keeps, in per cent."""
    parts = []
    for conv in list(convolutions(net).values())[1:]:
        values = sp.conv.slice_spectrum(conv.weight.detach().numpy(), order) ** 2
        parts.append(float(values[:, 0].sum() / values.sum()))
    return 100 * statistics.mean(parts)


def _from_scratch(order: str, seed: int, small: bool) -> torch.nn.Module:
    """Return the same network with separable layers but the first, trained as the dense one was."""
    data, networks = pictures(seed, small), libraries.example("networks")
    torch.manual_seed(seed)
    net = networks.vgg(data.classes, first=2)
    pairs = {
        name: sp.nn.DepthwiseSeparableConv2d(
            conv.in_channels, conv.out_channels, 3, conv.stride, 1, bias=False, order=order
        )
        for name, conv in list(convolutions(net).items())[1:]
    }
    made: Any = networks.train(replaced(net, pairs), data, 1 if small else 12)
    return made  # type: ignore[no-any-return]


def _strided(c_in: int, c_out: int, k: int, size: int) -> Numbers:
    """Return the MACs of a layer of stride 2 in both orders."""
    macs = {
        order: sp.conv.cost.depthwise_separable(c_in, c_out, k, (size, size), order=order, stride=2).macs
        for order in ORDERS
    }
    first = sp.conv.cost.pointwise(c_in, c_out, (size, size)).macs
    last = sp.conv.cost.pointwise(c_in, c_out, (size // 2, size // 2)).macs
    return {"shape": f"{c_in} to {c_out}, {k}x{k}", "macs": macs, "pointwise": first / last}


def judge(numbers: Numbers) -> list[Verdict]:
    """Judge the orders by what was measured, and what strides cost."""
    means = {
        key: {order: statistics.mean(values) for order, values in row.items()}
        for key, row in numbers["found"].items()
    }
    strided = numbers["strided"]
    return [
        judged(
            "pointwise first is the better order, as filters of one output are alike",
            BSCONV,
            "; ".join(
                f"{key}: {row['pw-dw']:.1f} % against {row['dw-pw']:.1f} %" for key, row in means.items()
            ),
            "it is larger for pw-dw than for dw-pw with every seed.",
            {
                key: all(ours > theirs for ours, theirs in zip(row["pw-dw"], row["dw-pw"], strict=True))
                for key, row in numbers["found"].items()
            },
        ),
        judged(
            "with stride 2, pointwise first takes four times as many multiplications in its 1x1 convolution",
            "arithmetic",
            "; ".join(
                f"{row['shape']}: {row['pointwise']:.0f} times there, "
                f"{row['macs']['pw-dw'] / row['macs']['dw-pw']:.1f} "
                "times in all"
                for row in strided
            ),
            "the ratio of the counted multiplications is four.",
            {row["shape"]: row["pointwise"] == 4 for row in strided},
        ),
    ]


def tables(numbers: Numbers) -> str:
    """Return means and ranges by order."""
    rows = []
    for key, row in numbers["found"].items():
        cells = [
            f"{statistics.mean(row[order]):.1f} ({min(row[order]):.1f} to {max(row[order]):.1f})"
            for order in ORDERS
        ]
        rows.append([key, *cells])
    heads = ["in %", *ORDERS]
    dense = f"{statistics.mean(numbers['dense']):.1f}"
    return (
        f"Means and ranges over the seeds; accuracies are held out, the dense network's is {dense} %:\n\n"
        + table(heads, rows)
    )


def draw(ink: Ink, numbers: Numbers) -> Figure:
    """Draw both orders for each measure."""
    figure = Figure(figsize=(5.6, 2.2), layout="constrained")
    axes = curves(figure, ink, "%", "")
    for shift, colour, order in zip((0.12, -0.12), (ink.plus, ink.minus), ORDERS, strict=True):
        for place, key in enumerate(MEASURES[::-1]):
            values = numbers["found"][key][order]
            axes.plot([min(values), max(values)], [place + shift] * 2, color=colour, linewidth=2)
            label = order if place == 0 else None
            axes.plot([np.mean(values)], [place + shift], "o", color=colour, markersize=5, label=label)
    axes.set_yticks(range(len(MEASURES)), MEASURES[::-1])
    axes.legend(frameon=False, labelcolor=ink.text, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


STUDY = Study(
    "order",
    "Depthwise first, or pointwise first",
    "have to choose an order of the two convolutions",
    "how much of trained weights one term keeps in each order, and the accuracy of a network on textures "
    "converted in "
    f"each order or trained in it, {SEEDS} seeds.",
    measure,
    judge,
    tables,
    draw,
    "What each order keeps of trained weights, and the accuracies that it comes to: mean and range of the "
    "seeds",
)
