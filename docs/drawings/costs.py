"""What separability saves, and where it does not."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.figure import Figure

import separable as sp

from .ink import Ink, curves


def terms_and_tolerance(ink: Ink) -> Figure:
    """Draw how many terms kernels of 31 x 31 take, by the error that is allowed."""
    rng = np.random.default_rng(0)
    smooth = sp.families.gaussian(4.0, radius=15).dense()
    noisy = smooth + 0.01 * smooth.max() * rng.standard_normal(smooth.shape)
    kernels = {
        "Gaussian": smooth,
        "disk": sp.families.disk(15),
        "tilted Gaussian": sp.families.rotated_gaussian((5, 2), math.pi / 6, radius=15),
        "Gaussian and 1 % noise": noisy,
    }
    tolerances = 10.0 ** np.arange(-1, -6.5, -0.5)
    figure = Figure(figsize=(5.6, 2.4), layout="constrained")
    axes = curves(figure, ink, "relative l1 error allowed", "terms needed")
    for colour, (name, kernel) in zip(ink.others, kernels.items(), strict=True):
        ranks = [sp.factor(kernel, float(tol)).rank for tol in tolerances]
        axes.step(tolerances, ranks, where="mid", color=colour, label=name)
    axes.axhline(15.5, color=ink.text, linestyle=":", linewidth=1)
    axes.text(9e-2, 16.2, "as many products as the dense kernel", color=ink.text, fontsize=8)
    axes.set_xscale("log")
    axes.invert_xaxis()
    axes.legend(frameon=False, labelcolor=ink.text, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def ratio(ink: Ink) -> Figure:
    """Draw how many times fewer products a depthwise separable layer takes, by its output channels."""
    outputs = np.unique(np.geomspace(1, 1024, 60).astype(int))
    figure = Figure(figsize=(5.6, 2.4), layout="constrained")
    axes = curves(figure, ink, "output channels", "times fewer products")
    for colour, k in zip(ink.others, (3, 5, 7), strict=False):
        axes.plot(
            outputs, [sp.conv.cost.speedup(int(c), k) for c in outputs], color=colour, label=f"{k} × {k} taps"
        )
        axes.axhline(k * k, color=colour, linestyle=":", linewidth=1)
    axes.axhline(1, color=ink.text, linewidth=0.8)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.set_xticks([1, 4, 16, 64, 256, 1024], ["1", "4", "16", "64", "256", "1024"])
    axes.set_yticks([1, 2, 4, 8, 16, 32], ["1", "2", "4", "8", "16", "32"])
    axes.legend(frameon=False, labelcolor=ink.text, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def roofline(ink: Ink) -> Figure:
    """Draw the speed that memory allows to one layer in three ways: 100 GFLOP/s, 5 GB/s."""
    peak, bandwidth = 100e9, 5e9
    cost = sp.conv.cost
    ways = {
        "dense": cost.standard(128, 128, 3, (56, 56)),
        "separable, in two calls": cost.depthwise_separable(128, 128, 3, (56, 56)),
        "separable, fused": cost.depthwise_separable(128, 128, 3, (56, 56), fused=True),
    }
    figure = Figure(figsize=(5.6, 2.4), layout="constrained")
    axes = curves(figure, ink, "floating-point operations for each byte of memory traffic", "GFLOP/s at most")
    intensity = np.geomspace(2, 512, 100)
    axes.plot(intensity, np.minimum(peak, bandwidth * intensity) / 1e9, color=ink.text)
    for colour, (name, work) in zip(ink.others, ways.items(), strict=False):
        seconds = work.seconds(peak, bandwidth)
        label = f"{name}: {work.macs / 1e6:.0f} M products, {1e3 * seconds:.1f} ms at best"
        axes.plot(work.intensity, work.flops / seconds / 1e9, "o", markersize=9, color=colour, label=label)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.set_xticks([2, 8, 32, 128, 512], ["2", "8", "32", "128", "512"])
    axes.set_yticks([12.5, 25, 50, 100], ["12.5", "25", "50", "100"])
    axes.legend(frameon=False, labelcolor=ink.text, loc="lower right")
    return figure
