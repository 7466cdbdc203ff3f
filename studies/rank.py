"""Rank against accuracy: how many terms a trained network needs, from its weights alone and with data."""

from __future__ import annotations

import statistics

import numpy as np
import torch
from matplotlib.figure import Figure

import separable as sp
from docs.drawings.ink import Ink, curves
from studies.networks import SEEDS, Trained, convolutions, replaced, trained
from studies.study import Numbers, Progress, Study, Verdict, judged, table

DECOUPLING = "[Network Decoupling](https://arxiv.org/abs/1808.05517)"
NETS = ("vgg", "residual")
RANKS = (1, 2, 3, 4, 9)
WEIGHTS, DATA = "from the weights", "fitted to data"
LOST = 1.0  # points that may be lost


def measure(small: bool, progress: Progress) -> Numbers:
    """Convert all 3x3 layers but the first at each rank, in two ways."""
    ranks = (1, 9) if small else RANKS
    nets = {}
    for name in NETS[:1] if small else NETS:
        rows: dict[str, list[list[float]]] = {"dense": [], WEIGHTS: [], DATA: []}
        for seed in range(1 if small else SEEDS):
            case = trained(name, seed, small)
            rows["dense"].append([case.accuracy(case.net)])
            for how in (WEIGHTS, DATA):
                progress(f"rank: {name}, seed {seed}, {how}")
                rows[how].append([case.accuracy(converted(case, rank, how)) for rank in ranks])
        nets[name] = rows
    return {"ranks": list(ranks), "nets": nets}


def converted(case: Trained, rank: int, how: str, order: str = "dw-pw") -> torch.nn.Module:
    """Return the network with T terms for every 3x3 layer but the first."""
    first, *others = convolutions(case.net).items()
    if how == WEIGHTS:
        pairs = {
            name: sp.nn.DepthwiseSeparableConv2d.from_dense(conv, min(rank, 9), order=order)
            for name, conv in others
        }
        return replaced(case.net, pairs)
    done = sp.nn.separate(case.net, case.inputs, rank=rank, forms=[order], skip=[first[0]])
    return done.model


def lost(numbers: Numbers, name: str, how: str) -> dict[int, float]:
    """Return the points that are lost at each rank, means over the seeds."""
    rows = numbers["nets"][name]
    dense = np.array(rows["dense"])
    return dict(zip(numbers["ranks"], (dense - np.array(rows[how])).mean(axis=0).tolist(), strict=True))


def judge(numbers: Numbers) -> list[Verdict]:
    """Judge few terms with and without data, and the exact rank."""
    nets = list(numbers["nets"])
    losses = {how: {name: lost(numbers, name, how) for name in nets} for how in (WEIGHTS, DATA)}
    rule = f"no more than {LOST:.0f} point of held-out accuracy is lost, in the mean of the seeds."

    def cases(how: str) -> dict[str, bool]:
        return {
            f"T = {rank} ({name})": value <= LOST
            for name in nets
            for rank, value in losses[how][name].items()
        }

    def told(how: str) -> str:
        return (
            "; ".join(
                f"{name} loses {', '.join(f'{value:.1f}' for value in losses[how][name].values())} points"
                for name in nets
            )
            + f" at T = {', '.join(map(str, numbers['ranks']))}"
        )

    full = numbers["ranks"][-1]
    return [
        judged(
            "a trained layer is a sum of few separable ones, found from its weights without training, at "
            "little loss",
            DECOUPLING,
            told(WEIGHTS),
            rule,
            cases(WEIGHTS),
        ),
        judged(
            "fitted to unlabelled data, one term is enough",
            "[converting](../networks/convert.md)",
            told(DATA),
            rule,
            {f"T = 1 ({name})": losses[DATA][name][1] <= LOST for name in nets},
        ),
        judged(
            "nine terms are every 3x3 layer, exactly",
            "arithmetic",
            f"accuracy changes by {max(abs(losses[WEIGHTS][name][full]) for name in nets):.2f} points at T "
            f"= {full}",
            "the accuracy from the weights alone changes by less than 0.2 points.",
            {name: abs(losses[WEIGHTS][name][full]) < 0.2 for name in nets},
        ),
    ]


def tables(numbers: Numbers) -> str:
    """Return accuracies by rank."""
    rows = []
    for name, found in numbers["nets"].items():
        dense = f"{statistics.mean(value[0] for value in found['dense']):.1f}"
        for how in (WEIGHTS, DATA):
            means = np.array(found[how]).mean(axis=0)
            rows.append([f"{name}, {how}", dense, *(f"{value:.1f}" for value in means)])
    heads = ["network", "dense", *(f"T = {rank}" for rank in numbers["ranks"])]
    return "Held-out accuracy in %, means over the seeds; chance is 33 %:\n\n" + table(heads, rows)


def draw(ink: Ink, numbers: Numbers) -> Figure:
    """Draw accuracy over rank, mean and range of the seeds."""
    figure = Figure(figsize=(6.0, 2.4), layout="constrained")
    for place, (name, found) in enumerate(numbers["nets"].items()):
        axes = curves(figure, ink, "terms T", "held-out accuracy, %" if place == 0 else "", 120 + place + 1)
        for colour, how in zip((ink.minus, ink.plus), (WEIGHTS, DATA), strict=True):
            values = np.array(found[how])
            axes.plot(numbers["ranks"], values.mean(axis=0), "o-", markersize=3, color=colour, label=how)
            axes.fill_between(
                numbers["ranks"], values.min(axis=0), values.max(axis=0), color=colour, alpha=0.2, lw=0
            )
        axes.axhline(np.mean(found["dense"]), color=ink.text, linestyle=":", linewidth=1)
        axes.set_ylim(20, 102)
        axes.set_title(name, color=ink.text, fontsize=8)
        axes.legend(frameon=False, labelcolor=ink.text, loc="lower right")
    return figure


STUDY = Study(
    "rank",
    "Rank against accuracy",
    "want to know how many terms their network needs",
    f"the accuracy of two networks trained on textures, {SEEDS} seeds, with all 3x3 layers but the first "
    "replaced by T "
    "terms, from the weights alone and fitted to 512 unlabelled inputs, without training.",
    measure,
    judge,
    tables,
    draw,
    "Held-out accuracy over the number of terms, mean and range of the seeds; dotted: the dense network",
)
