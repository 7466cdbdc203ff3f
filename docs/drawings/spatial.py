"""Kernels of images: one outer product, sums of several, and two kernels in sequence."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.figure import Figure

import separable as sp
from separable.methods.algorithms.cascade_search import find_cascade

from .ink import Ink, plate, sign


def outer_product(ink: Ink) -> Figure:
    """Draw a Gaussian of 7 x 7 as a column times a row: 49 products become 14."""
    column, row = sp.families.gaussian(1.4, radius=3).terms[0]
    figure = Figure(figsize=(5.6, 1.8), layout="constrained")
    axes = figure.subplots(1, 5, width_ratios=[7, 1.5, 1.2, 1.5, 7])
    plate(axes[0], ink, np.outer(column, row), "kernel: 49 products a pixel")
    sign(axes[1], ink, "=")
    plate(axes[2], ink, column[:, None], "column: 7")
    sign(axes[3], ink, "×")
    plate(axes[4], ink, row, "row: 7")
    return figure


def sum_of_terms(ink: Ink) -> Figure:
    """Draw a disk, what one, three and seven terms make of it, and the certified errors of these."""
    disk = sp.families.disk(12)
    figure = Figure(figsize=(5.6, 1.8), layout="constrained")
    axes = figure.subplots(1, 4)
    plate(axes[0], ink, disk, f"disk: {disk.size} weights")
    for panel, rank in zip(axes[1:], (1, 3, 7), strict=True):
        kernel = sp.factor(disk, rank=rank)
        title = (
            f"{rank} term{'s' * (rank > 1)}: {kernel.macs} products\noff by {kernel.error.relative_l1:.1%}"
        )
        plate(panel, ink, kernel.dense(), title, float(disk.max()))
    return figure


def cascade(ink: Ink) -> Figure:
    """Draw a tilted Gaussian as a short separable kernel, and few weights over what that made."""
    kernel = sp.families.rotated_gaussian((5, 2), math.pi / 6)
    parts = find_cascade(kernel, 1e-2)
    assert parts is not None
    weights = int(np.count_nonzero(parts.sparse))
    figure = Figure(figsize=(5.6, 1.9), layout="constrained")
    axes = figure.subplots(1, 5, width_ratios=[6, 0.8, 4, 0.8, 5])
    plate(axes[0], ink, kernel, f"tilted Gaussian: {kernel.size} weights")
    sign(axes[1], ink, "≈")
    plate(axes[2], ink, parts.smooth.dense(), f"one term: {parts.smooth.macs}")
    sign(axes[3], ink, "∗")
    plate(axes[4], ink, parts.sparse, f"few weights: {weights}")
    return figure
