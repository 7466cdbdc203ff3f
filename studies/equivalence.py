"""A separable layer is a dense layer of a special kind: which, and with how many degrees of freedom."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch.nn import functional as F

import separable as sp
from docs.drawings.ink import Ink, curves
from studies.study import Numbers, Progress, Study, Verdict, judged, table

XCEPTION = "[Xception](https://arxiv.org/abs/1610.02357)"
ALGEBRA = "[the algebra](../networks/conv.md)"
SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "strided": {"stride": 2},
    "padded": {"padding": 1},
    "dilated": {"dilation": 2},
}
EXACT = 1e-12  # relative, in float64


def measure(small: bool, progress: Progress) -> Numbers:
    """Compare pairs of convolutions with the dense ones of their products, and count free directions."""
    rng = np.random.default_rng(0)
    trials = 3 if small else 25
    worst = dict.fromkeys(SETTINGS, 0.0)
    flat = slices = scaled = 0.0
    for number in range(trials):
        progress(f"equivalence: {number} of {trials}")
        c_in, c_out = (int(n) for n in rng.integers(2, 24, 2))
        depthwise, pointwise = rng.standard_normal((c_in, 1, 3, 3)), rng.standard_normal((c_out, c_in))
        dense = pointwise[:, :, None, None] * depthwise[None, :, 0]
        for name, setting in SETTINGS.items():
            worst[name] = max(worst[name], _difference(rng, depthwise, pointwise, dense, setting))
        product = np.stack([np.kron(pointwise[:, i], depthwise[i].ravel()) for i in range(c_in)], axis=1)
        flat = max(flat, _far(product, np.moveaxis(dense, 1, -1).reshape(-1, c_in)))
        values = [np.linalg.svd(dense[:, i].reshape(c_out, 9), compute_uv=False) for i in range(c_in)]
        slices = max(slices, *(float(value[1] / value[0]) for value in values if len(value) > 1))
        by = rng.uniform(0.1, 10, c_in)
        again = sp.conv.compose(depthwise * by[:, None, None, None], pointwise / by)
        scaled = max(scaled, _far(again, dense))
    progress("equivalence: degrees of freedom")
    return {
        "trials": trials,
        "differences": worst,
        "khatri_rao": flat,
        "second_singular_value": slices,
        "scaled": scaled,
        "freedom": [_freedom(rng, *shape) for shape in _shapes(rng, 4 if small else 24)],
    }


def _difference(
    rng: np.random.Generator,
    depthwise: np.ndarray,
    pointwise: np.ndarray,
    dense: np.ndarray,
    setting: dict[str, Any],
) -> float:
    """Return how far the two convolutions, run by torch, are from the dense one."""
    x, d, p, w = (
        torch.from_numpy(array)
        for array in (rng.standard_normal((2, len(depthwise), 13, 12)), depthwise, pointwise, dense)
    )
    both = F.conv2d(F.conv2d(x, d, groups=len(depthwise), **setting), p[:, :, None, None])
    return _far(both.numpy(), F.conv2d(x, w, **setting).numpy())


def _far(got: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.abs(got - wanted).max() / np.abs(wanted).max())


def _shapes(rng: np.random.Generator, count: int) -> list[tuple[int, int, int]]:
    return [(int(i), int(o), int(k)) for i, o, k in zip(*rng.integers(2, 8, (3, count)), strict=True)]


def _freedom(rng: np.random.Generator, c_in: int, c_out: int, taps: int) -> dict[str, int]:
    """Return the parameters, and the directions in which a step of theirs changes the layer."""
    depthwise, pointwise = rng.standard_normal((c_in, taps)), rng.standard_normal((c_out, c_in))
    columns = []
    for i, t in np.ndindex(c_in, taps):  # the derivative by D[i, t], then by P[o, i]
        step = np.zeros((c_out, c_in, taps))
        step[:, i, t] = pointwise[:, i]
        columns.append(step.ravel())
    for o, i in np.ndindex(c_out, c_in):
        step = np.zeros((c_out, c_in, taps))
        step[o, i] = depthwise[i]
        columns.append(step.ravel())
    free = int(np.linalg.matrix_rank(np.stack(columns)))
    return {"c_in": c_in, "c_out": c_out, "taps": taps, "params": len(columns), "free": free}


def judge(numbers: Numbers) -> list[Verdict]:
    """Judge the equality, the Khatri-Rao product, and the degrees of freedom."""
    worst, freedom = numbers["differences"], numbers["freedom"]
    right = sum(row["free"] == row["params"] - row["c_in"] for row in freedom)
    return [
        judged(
            "a depthwise separable layer is the dense layer with W[o, i] = P[o, i] D[i]",
            XCEPTION,
            f"{numbers['trials']} layers differ by {max(worst.values()):.0e} at most, in float64",
            f"the two convolutions and the dense one, run by torch, differ by less than {EXACT:.0e} of the "
            "largest "
            "result.",
            {name: value < EXACT for name, value in worst.items()},
        ),
        judged(
            "each input channel's C_out x K slice has rank one, and the flat weights are the Khatri-Rao "
            "product of P "
            "and D",
            ALGEBRA,
            f"the second singular value is {numbers['second_singular_value']:.0e} of the first; the "
            "product is off by "
            f"{numbers['khatri_rao']:.0e}",
            f"both are below {EXACT:.0e}.",
            {"rank": numbers["second_singular_value"] < EXACT, "product": numbers["khatri_rao"] < EXACT},
        ),
        judged(
            "a filter times b and its mixing vector over b are the same layer",
            ALGEBRA,
            f"the layers differ by {numbers['scaled']:.0e}",
            f"below {EXACT:.0e}, for random factors of all channels.",
            {"all channels": numbers["scaled"] < EXACT},
        ),
        judged(
            "a separable layer has as many degrees of freedom as parameters less input channels",
            ALGEBRA,
            f"{right} of {len(freedom)} layers",
            "the numerical rank of the Jacobian of (D, P) -> W at a random point is params - C_in.",
            {"all shapes": right == len(freedom)},
        ),
    ]


def tables(numbers: Numbers) -> str:
    """Return the degrees of freedom of some shapes."""
    rows = [
        [f"{row['c_in']} to {row['c_out']}, {row['taps']} taps", str(row["params"]), str(row["free"])]
        for row in numbers["freedom"][:8]
    ]
    return table(["layer", "parameters", "rank of the Jacobian"], rows)


def draw(ink: Ink, numbers: Numbers) -> Figure:
    """Draw free directions over parameters less input channels."""
    figure = Figure(figsize=(4.2, 2.6), layout="constrained")
    axes = curves(figure, ink, "parameters - C_in", "rank of the Jacobian")
    told = [row["params"] - row["c_in"] for row in numbers["freedom"]]
    axes.plot([0, max(told)], [0, max(told)], color=ink.faint)
    axes.plot(told, [row["free"] for row in numbers["freedom"]], "o", color=ink.plus, markersize=4)
    return figure


STUDY = Study(
    "equivalence",
    "A separable layer as a dense one",
    "want to know what a separable layer is, among all layers",
    "the results of pairs of convolutions beside the dense convolution of their products, and the rank of "
    "the Jacobian "
    "of what the parameters make.",
    measure,
    judge,
    tables,
    draw,
    "Directions in which a layer can be changed, over parameters less input channels; a dot is a layer",
)
