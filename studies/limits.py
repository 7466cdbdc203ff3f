"""What one separable layer cannot be: trained to convergence, beside the bound that is proved."""

from __future__ import annotations

import numpy as np
import torch
from matplotlib.figure import Figure
from torch.nn import functional as F

import separable as sp
from docs.drawings.ink import Ink, curves
from studies.study import Numbers, Progress, Study, Verdict, judged, table

LIMITS = "[what one layer cannot be](../theory/limits.md)"
LITERATURE = "the literature"
ORDERS = ("dw-pw", "pw-dw")
EDGES, SHIFTS, CROSS, PAIR = "two edges", "two shifts", "one coloured cross", "two coloured crosses"
IMPOSSIBLE, EXACT = 0.01, 1e-5  # relative l2 error of the best layer that training found


def tasks() -> dict[str, np.ndarray]:
    """Return the dense layers that are asked for."""
    edges = np.zeros((2, 1, 3, 3))
    edges[0, 0] = [[1, 2, 1], [0, 0, 0], [-1, -2, -1]]
    edges[1, 0] = edges[0, 0].T
    shifts = np.zeros((2, 1, 3, 3))
    shifts[0, 0, 0, 1] = shifts[1, 0, 1, 2] = 1
    level = np.zeros((5, 5))
    level[2] = 1
    cross = np.array([[level.T, level], [level, level.T]])
    return {EDGES: edges, SHIFTS: shifts, CROSS: cross[:1], PAIR: cross}


def trained(weights: np.ndarray, order: str, restarts: int) -> float:
    """Return the least relative error that L-BFGS finds, on the input that the bound is about."""
    proof = sp.conv.witness(weights, 1, order)
    x, wanted = (torch.from_numpy(array.copy())[None] for array in (proof.input, proof.output))
    return min(_descend(weights.shape, order, x, wanted, seed) for seed in range(restarts))


def _descend(shape: tuple[int, ...], order: str, x: torch.Tensor, wanted: torch.Tensor, seed: int) -> float:
    numbers = torch.Generator().manual_seed(seed)
    c_out, c_in, *k = shape
    hidden = c_in if order == "dw-pw" else c_out
    filters, mixing = (
        torch.randn(size, generator=numbers, dtype=torch.float64).requires_grad_()
        for size in ((hidden, 1, *k), (c_out, c_in, 1, 1))
    )

    def error() -> torch.Tensor:
        if order == "dw-pw":
            answer = F.conv2d(F.conv2d(x, filters, groups=hidden), mixing)
        else:
            answer = F.conv2d(F.conv2d(x, mixing), filters, groups=hidden)
        return (answer - wanted).square().sum()

    optimiser = torch.optim.LBFGS(
        [filters, mixing],
        max_iter=200,
        tolerance_grad=1e-14,
        tolerance_change=1e-16,
        line_search_fn="strong_wolfe",
    )

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = error()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    return float((error().detach() / wanted.square().sum()).sqrt())


def measure(small: bool, progress: Progress) -> Numbers:
    """Train both orders on each task, and compute the bound."""
    rows = {}
    for name, weights in tasks().items():
        for order in ORDERS:
            progress(f"limits: {name}, {order}")
            bound = sp.conv.witness(weights, 1, order).bound / float(np.linalg.norm(weights))
            rows[f"{name}, {order}"] = {
                "trained": trained(weights, order, 2 if small else 20),
                "bound": bound,
            }
    return {"tasks": rows}


def judge(numbers: Numbers) -> list[Verdict]:
    """Judge which tasks are impossible, and whether training comes to the bound."""
    rows = numbers["tasks"]
    error = {name: row["trained"] for name, row in rows.items()}
    impossible = {name: value > IMPOSSIBLE for name, value in error.items()}
    rule = (
        f"the best of the trained layers is off by more than {IMPOSSIBLE:.0%} (impossible), or by less than "
    )
    rule += f"{EXACT:.0e} (exact), relative l2 on the input of the bound."
    gaps = {name: row["trained"] - row["bound"] for name, row in rows.items()}
    return [
        judged(
            "one separable layer cannot answer to horizontal edges in one output and to vertical ones in "
            "another",
            LITERATURE,
            f"off by {error[f'{EDGES}, dw-pw']:.1%} trained as dw-pw, by {error[f'{EDGES}, pw-dw']:.0e} as "
            "pw-dw",
            rule,
            {
                "depthwise, then pointwise": impossible[f"{EDGES}, dw-pw"],
                "the other order": impossible[f"{EDGES}, pw-dw"],
            },
        ),
        judged(
            "two shifts of one channel are impossible depthwise first, and exact pointwise first",
            LIMITS,
            f"off by {error[f'{SHIFTS}, dw-pw']:.1%} as dw-pw, by {error[f'{SHIFTS}, pw-dw']:.0e} as pw-dw",
            rule,
            {
                "impossible as dw-pw": impossible[f"{SHIFTS}, dw-pw"],
                "exact as pw-dw": error[f"{SHIFTS}, pw-dw"] < EXACT,
            },
        ),
        judged(
            "a red upright line across a blue level one cannot be detected by one layer",
            LITERATURE,
            f"off by {error[f'{CROSS}, dw-pw']:.0e} as dw-pw, {error[f'{CROSS}, pw-dw']:.1%} as pw-dw; "
            "with the "
            f"swapped colours as another output by {error[f'{PAIR}, dw-pw']:.1%} and "
            f"{error[f'{PAIR}, pw-dw']:.1%}",
            rule,
            {
                "one detector, depthwise first": impossible[f"{CROSS}, dw-pw"],
                "one detector pointwise first": impossible[f"{CROSS}, pw-dw"],
                "the pair of swapped colours": impossible[f"{PAIR}, dw-pw"] and impossible[f"{PAIR}, pw-dw"],
            },
            stated="one detector, depthwise first",
        ),
        judged(
            "no layer is nearer than the bound of `sp.conv.witness`, and the best ones reach it",
            LIMITS,
            f"training ends between {min(gaps.values()):.0e} and {max(gaps.values()):.0e} above the bound",
            f"the error of the best trained layer is the bound, to {EXACT:.0e} of the answer.",
            {name: abs(gap) < EXACT for name, gap in gaps.items()},
        ),
    ]


def tables(numbers: Numbers) -> str:
    """Return errors and bounds."""
    rows = [[name, f"{row['trained']:.2%}", f"{row['bound']:.2%}"] for name, row in numbers["tasks"].items()]
    return table(["task, order", "off, trained", "bound"], rows)


def draw(ink: Ink, numbers: Numbers) -> Figure:
    """Draw trained errors upon their bounds."""
    rows = numbers["tasks"]
    figure = Figure(figsize=(5.6, 2.6), layout="constrained")
    axes = curves(figure, ink, "relative error of the answer", "")
    names = list(rows)[::-1]
    axes.plot([rows[name]["bound"] for name in names], range(len(names)), "|", color=ink.minus, markersize=16,
              markeredgewidth=2, label="bound")  # fmt: skip
    axes.plot(
        [rows[name]["trained"] for name in names], range(len(names)), "o", color=ink.plus, label="trained"
    )
    axes.set_yticks(range(len(names)), names)
    axes.legend(frameon=False, labelcolor=ink.text, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


STUDY = Study(
    "limits",
    "What one layer cannot be, trained",
    "have read that some tasks are impossible for a separable layer",
    "both orders trained on four tasks with L-BFGS from twenty starts in float64, beside the bound that "
    "holds for every "
    "layer.",
    measure,
    judge,
    tables,
    draw,
    "The best trained layer of each order, and the bound below which no layer comes",
)
