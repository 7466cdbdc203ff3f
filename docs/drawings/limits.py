"""What one separable layer cannot be: asked, answered, and what is left."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

import separable as sp

from .ink import Ink, plate


def _rows(ink: Ink, weights: Any, order: str, names: list[str]) -> Figure:
    """Draw the kernels asked for, those of the nearest layer of rank 1, and the difference."""
    depthwise, pointwise, error = sp.conv.decompose(weights, 1, order)
    nearest = sp.conv.compose(depthwise, pointwise, order)
    columns = weights.shape[0] * weights.shape[1]
    figure = Figure(figsize=(5.6, 3.7 if columns == 2 else 3.4), layout="constrained")
    rows = [("asked", weights), ("nearest layer", nearest), ("left over", weights - nearest)]
    axes = figure.subplots(3, columns, squeeze=False)
    largest = float(np.abs(weights).max())
    for row, (label, kernels) in enumerate(rows):
        for column, kernel in enumerate(kernels.reshape(columns, *kernels.shape[2:])):
            plate(axes[row, column], ink, kernel, names[column] if row == 0 else "", largest)
        axes[row, 0].set_ylabel(label, color=ink.text)
    bound = sp.conv.witness(weights, 1, order).bound / float(np.linalg.norm(weights))
    words = f"no {order} layer of rank 1 comes nearer than {bound:.0%}; this one: {error.relative_l2:.0%}"
    figure.supxlabel(words, color=ink.text, fontsize=8)
    return figure


def impossible(ink: Ink) -> Figure:
    """Draw horizontal edges for one output and vertical ones for another, of one input channel."""
    edges = np.zeros((2, 1, 3, 3))
    edges[0, 0] = [[1, 2, 1], [0, 0, 0], [-1, -2, -1]]
    edges[1, 0] = edges[0, 0].T
    return _rows(ink, edges, "dw-pw", ["output 0: horizontal edges", "output 1: vertical edges"])


def crossing(ink: Ink) -> Figure:
    """Draw a red upright line across a blue level one, and the same with the colours swapped."""
    level = np.zeros((5, 5))
    level[2] = 1
    lines = np.array([[level.T, level], [level, level.T]])
    names = ["output 0, red", "output 0, blue", "output 1, red", "output 1, blue"]
    return _rows(ink, lines, "dw-pw", names)
