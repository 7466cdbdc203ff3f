"""Spatially separable kernels: what they save, which kernels are, and what a sum of terms costs otherwise."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.figure import Figure

import separable as sp
from docs.drawings.ink import Ink, curves
from studies.study import FOLKLORE, Numbers, Progress, Study, Verdict, judged, table

BOOKS = "textbooks of image processing"
TOLERANCE = 1e-2  # relative l1 error, at which terms are counted
EXACT = 1e-6  # relative l1 error below which one term is the kernel
SIZE = 31


def named(size: int) -> dict[str, Any]:
    """Return kernels of `size` taps along both axes."""
    radius = size // 2
    centre = np.arange(size) - radius
    y, x = np.meshgrid(centre, centre, indexing="ij")
    scale = radius / 15
    rng = np.random.default_rng(0)
    tilted = (x * math.cos(math.pi / 6) + y * math.sin(math.pi / 6)) / (4 * scale)
    gaussian = np.exp(-(x**2 + y**2) / (2 * (4 * scale) ** 2))
    return {
        "Gaussian": gaussian,
        "box": np.ones((size, size)),
        "Sobel": sp.families.sobel(0).dense(),
        "Laplacian of Gaussian": ((x**2 + y**2) / (4 * scale) ** 2 - 2) * gaussian,
        "Gabor at 30°": gaussian * np.cos(2 * tilted),
        "disk": (x**2 + y**2 < (12 * scale) ** 2).astype(float),
        "tilted Gaussian": sp.families.rotated_gaussian((5 * scale, 2 * scale), math.pi / 6, radius=radius),
        "Gaussian and 1 % noise": gaussian + 0.01 * rng.standard_normal(gaussian.shape),
    }


def measure(small: bool, progress: Progress) -> Numbers:
    """Count multiplications of kernels that separate, and terms of those that do not."""
    rng = np.random.default_rng(1)
    outer = []
    for shape in ((7, 7), (15, 15), (10, 10, 10)):
        taps = [rng.standard_normal(n) for n in shape]
        weights = taps[0]
        for line in taps[1:]:
            weights = np.multiply.outer(weights, line)
        kernel = sp.factor(weights)
        x = rng.standard_normal((40,) * len(shape))
        direct = sp.correlate(x, weights, method="direct")
        change = float(np.abs(sp.correlate(x, kernel) - direct).max() / np.abs(direct).max())
        outer.append({"shape": list(shape), "weights": weights.size, "macs": kernel.macs, "change": change})
    rows = {}
    for name, weights in named(11 if small else SIZE).items():
        progress(f"kernels: {name}")
        kernel, one = sp.factor(weights, tol=TOLERANCE), sp.factor(weights, rank=1)
        rows[name] = {
            "size": weights.size,
            "distance": one.error.relative_l1,
            "terms": kernel.rank,
            "macs": kernel.macs,
        }
    return {"outer": outer, "kernels": rows}


def judge(numbers: Numbers) -> list[Verdict]:
    """Judge the saving, how common separable kernels are, and sums of terms."""
    outer, rows = numbers["outer"], numbers["kernels"]
    saved = ", ".join(f"{_shape(row)}: {row['weights']} to {row['macs']}" for row in outer)
    apart = {name: row["distance"] for name, row in rows.items() if row["distance"] > EXACT}
    nearest = min(apart.values(), default=0.0)
    return [
        judged(
            "a kernel that is an outer product takes the sum of its lengths in multiplications, not their "
            "product",
            BOOKS,
            f"{saved}; results differ by {max(row['change'] for row in outer):.0e} at most",
            "the multiplications counted in the factored kernel are the sum of its lengths, and filtering "
            "with it "
            "gives what the dense kernel gives, to 1e-9 of the largest result.",
            {_shape(row): row["macs"] == sum(row["shape"]) and row["change"] < 1e-9 for row in outer},
        ),
        judged(
            "the kernels that one filters with are separable",
            FOLKLORE,
            f"{len(rows) - len(apart)} of {len(rows)}; the others are off by {nearest:.0%} or more as one "
            "term",
            f"one term is within {EXACT:.0e} of the kernel (relative l1, certified).",
            {name: row["distance"] <= EXACT for name, row in rows.items()},
        ),
        judged(
            f"as a sum of terms any kernel is cheaper, at {TOLERANCE:.0%}",
            FOLKLORE,
            f"{_fewest(rows)} times fewer multiplications to {_most(rows)} times as many",
            "the sum takes fewer multiplications than the dense kernel.",
            {name: row["macs"] < row["size"] for name, row in rows.items()},
        ),
    ]


def _shape(row: Numbers) -> str:
    return "x".join(map(str, row["shape"]))


def _fewest(rows: Numbers) -> str:
    return f"{max(row['size'] / row['macs'] for row in rows.values()):.1f}"


def _most(rows: Numbers) -> str:
    return f"{max(row['macs'] / row['size'] for row in rows.values()):.2f}"


def tables(numbers: Numbers) -> str:
    """Return the kernels and their terms."""
    rows = [
        [name, str(row["size"]), f"{row['distance']:.1%}", str(row["terms"]), str(row["macs"])]
        for name, row in numbers["kernels"].items()
    ]
    return table(
        ["kernel", "weights", "off as one term", f"terms at {TOLERANCE:.0%}", "multiplications"], rows
    )


def draw(ink: Ink, numbers: Numbers) -> Figure:
    """Draw multiplications as a share of those of the dense kernel."""
    rows = numbers["kernels"]
    figure = Figure(figsize=(5.6, 2.6), layout="constrained")
    axes = curves(figure, ink, "multiplications, of the dense kernel's", "")
    names = list(rows)[::-1]
    for place, name in enumerate(names):
        share = rows[name]["macs"] / rows[name]["size"]
        colour = ink.plus if share < 1 else ink.minus
        axes.plot([share], [place], "o", color=colour)
        axes.annotate(f"{share:.2f}", (share, place), (6, -3), textcoords="offset points", color=ink.text)
    axes.axvline(1, color=ink.text, linestyle=":", linewidth=1)
    axes.set_yticks(range(len(names)), names)
    axes.set_xscale("log")
    return figure


STUDY = Study(
    "kernels",
    "Kernels that separate, and kernels that do not",
    "filter images and wonder whether their kernel separates",
    "the multiplications of kernels that are outer products, and for eight usual kernels how far one term "
    "is from "
    f"them and how many terms come within {TOLERANCE:.0%}.",
    measure,
    judge,
    tables,
    draw,
    f"Multiplications of a sum of terms within {TOLERANCE:.0%}, as a share of the dense kernel's",
)
