"""Parameters and operations by the formulas, beside what torch counts in layers that it has made."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from docs.drawings.ink import Ink, curves
from studies.study import Numbers, Progress, Study, Verdict, judged, table

MOBILENETS = "[MobileNets](https://arxiv.org/abs/1704.04861)"
OUTPUTS = (16, 32, 64, 128, 256, 512, 1024, 4096)
KERNELS = (3, 4, 5, 7)
EXAMPLE = (192, 384, 3)  # C_in, C_out, k of the example that is told most


def counted(c_in: int, c_out: int, k: int, size: tuple[int, int]) -> dict[str, int]:
    """Return what torch counts in a dense layer and in a depthwise separable one, without running them."""
    dense = nn.Conv2d(c_in, c_out, k, bias=False, device="meta")
    depthwise = nn.Conv2d(c_in, c_in, k, groups=c_in, bias=False, device="meta")
    pair = nn.Sequential(depthwise, nn.Conv2d(c_in, c_out, 1, bias=False, device="meta"))
    x = torch.empty(1, c_in, *(n + k - 1 for n in size), device="meta")  # so that `size` pixels come out
    return {
        "dense parameters": _parameters(dense),
        "dense FLOPs": _flops(dense, x),
        "separable parameters": _parameters(pair),
        "separable FLOPs": _flops(pair, x),
    }


def _parameters(layer: nn.Module) -> int:
    return sum(weight.numel() for weight in layer.parameters())


def _flops(layer: nn.Module, x: torch.Tensor) -> int:
    with FlopCounterMode(display=False) as counter:
        layer(x)
    return int(counter.get_total_flops())


def formula(c_in: int, c_out: int, k: int, size: tuple[int, int]) -> dict[str, int]:
    """Return the same by the formulas."""
    pixels = size[0] * size[1]
    dense, pair = k * k * c_in * c_out, k * k * c_in + c_in * c_out
    return {
        "dense parameters": dense,
        "dense FLOPs": 2 * pixels * dense,
        "separable parameters": pair,
        "separable FLOPs": 2 * pixels * pair,
    }


def measure(small: bool, progress: Progress) -> Numbers:
    """Count many layers both ways."""
    rng = np.random.default_rng(0)
    shapes = 20 if small else 300
    equal = dict.fromkeys(formula(1, 1, 1, (1, 1)), 0)
    for number in range(shapes):
        progress(f"formulas: {number} of {shapes}")
        c_in, c_out = (int(n) for n in rng.integers(1, 600, 2))
        k, size = int(rng.integers(1, 8)), tuple(int(n) for n in rng.integers(7, 200, 2))
        told, got = formula(c_in, c_out, k, size), counted(c_in, c_out, k, size)  # type: ignore[arg-type]
        for name in equal:
            equal[name] += told[name] == got[name]
    speedups = {str(k): {str(c): float(1 / _ratio(64, c, k, (14, 14))) for c in OUTPUTS} for k in KERNELS}
    places = [(1, (7, 7)), (3, (224, 160)), (64, (56, 56)), (512, (14, 15))]
    ratios = [_ratio(c_in, EXAMPLE[1], EXAMPLE[2], size) for c_in, size in places]
    return {
        "shapes": shapes,
        "equal": equal,
        "speedups": speedups,
        "ratios": [float(ratio) for ratio in ratios],
        "distinct_ratios": len(set(ratios)),
        "tenfold": {str(k): _tenfold(k, 60 if small else 400) for k in KERNELS},
    }


def _ratio(c_in: int, c_out: int, k: int, size: tuple[int, int]) -> Fraction:
    got = counted(c_in, c_out, k, size)
    return Fraction(got["separable FLOPs"], got["dense FLOPs"])


def _tenfold(k: int, most: int) -> dict[str, Any]:
    """Return from how many outputs on the count falls below a tenth, and how often the rule says the same."""
    below = {c: _ratio(8, c, k, (8, 8)) < Fraction(1, 10) for c in range(1, most)}
    agree = sum(below[c] == (Fraction(1, c) + Fraction(1, k * k) < Fraction(1, 10)) for c in below)
    return {"first": next((c for c in below if below[c]), None), "agree": agree, "checked": len(below)}


def judge(numbers: Numbers) -> list[Verdict]:
    """Judge the formulas, the saving of 8 to 9 times, and the condition for more than ten."""
    shapes, equal = numbers["shapes"], numbers["equal"]
    three, tenfold = numbers["speedups"]["3"], numbers["tenfold"]
    first = {k: row["first"] for k, row in tenfold.items()}
    ratio = numbers["ratios"][0]
    return [
        judged(
            "a dense layer has k² C_in C_out parameters, a separable one k² C_in + C_in C_out, and each "
            "takes "
            "2 H W times as many FLOPs",
            MOBILENETS,
            f"{min(equal.values())} of {shapes} layers, as torch counts them",
            "torch counts, in the parameters that it holds and the operations that it would run, exactly "
            "what the "
            "formula says, in all layers.",
            {name: count == shapes for name, count in equal.items()},
        ),
        judged(
            "the ratio is 1/C_out + 1/k², whatever the image and the input channels",
            MOBILENETS,
            f"{ratio:.4f} for 192 to 384 channels and 3x3, a saving of {1 - ratio:.1%}; "
            f"{numbers['distinct_ratios']} "
            f"value in {len(numbers['ratios'])} sizes",
            "the counted ratios of all sizes are one fraction, and it is the formula's.",
            {
                "one value": numbers["distinct_ratios"] == 1,
                "the formula's": abs(ratio - (1 / EXAMPLE[1] + 1 / EXAMPLE[2] ** 2)) < 1e-5,
            },
        ),
        judged(
            "3x3 layers take 8 to 9 times fewer operations",
            MOBILENETS,
            f"{min(three.values()):.1f} to {max(three.values()):.2f} times, for {OUTPUTS[0]} to "
            f"{OUTPUTS[-1]} outputs",
            "the counted speed-up lies between 8 and 9.",
            {f"C_out = {c}": 8 <= value <= 9 for c, value in three.items()},
        ),
        judged(
            "more than ten times is saved exactly when 1/C_out + 1/k² < 1/10, so never with 3x3",
            "arithmetic",
            "; ".join(f"{k}x{k}: {'never' if c is None else f'from {c} outputs'}" for k, c in first.items()),
            "the count falls below a tenth where the condition says so and nowhere else.",
            {f"{k}x{k}": row["agree"] == row["checked"] for k, row in tenfold.items()},
        ),
    ]


def tables(numbers: Numbers) -> str:
    """Return the speed-ups that were counted."""
    rows = [
        [f"{k} x {k}", *(f"{value:.2f}" for value in row.values())] for k, row in numbers["speedups"].items()
    ]
    return "How many times fewer operations, counted:\n\n" + table(["outputs", *map(str, OUTPUTS)], rows)


def draw(ink: Ink, numbers: Numbers) -> Figure:
    """Draw the speed-ups by output channels."""
    figure = Figure(figsize=(5.6, 2.4), layout="constrained")
    axes = curves(figure, ink, "output channels", "times fewer operations")
    for colour, (k, row) in zip(ink.others, numbers["speedups"].items(), strict=False):
        axes.plot(
            [int(c) for c in row], list(row.values()), "o-", markersize=3, color=colour, label=f"{k} × {k}"
        )
    axes.axhspan(8, 9, color=ink.faint, alpha=0.35)
    axes.axhline(10, color=ink.text, linestyle=":", linewidth=1)
    axes.set_xscale("log", base=2)
    axes.set_xticks(OUTPUTS, [str(c) for c in OUTPUTS])
    axes.legend(frameon=False, labelcolor=ink.text, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


STUDY = Study(
    "formulas",
    "Parameters and operations by the formulas",
    "have seen the formulas and want them checked by somebody who counts",
    "parameters and FLOPs of some hundred layers of random shapes, as torch counts them without knowing "
    "the formulas.",
    measure,
    judge,
    tables,
    draw,
    "How many times fewer operations a separable layer takes, counted; grey: 8 to 9 times, dotted: ten times",
)
