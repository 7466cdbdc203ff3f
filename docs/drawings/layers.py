"""Layers of networks: the kernels of a dense and of a depthwise separable one, and their slices."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure, SubFigure

import separable as sp

from .ink import Ink, plate, sign

CHANNELS, OUTPUTS = 3, 4


def _layer() -> tuple[Any, Any, Any]:
    """Three filters that the eye tells apart, a mixing of them, and the dense kernel of both."""
    vertical = np.array([[1.0, 0, -1], [2, 0, -2], [1, 0, -1]]) / 2
    point = np.array([[0.0, -1, 0], [-1, 4, -1], [0, -1, 0]]) / 4
    depthwise = np.stack([vertical, vertical.T, point])[:, None]
    pointwise = np.array([[1.0, 0.3, -0.6], [-0.8, 1.0, 0.4], [0.4, -0.7, 1.0], [0.7, 0.6, -0.3]])
    return depthwise, pointwise, sp.conv.compose(depthwise, pointwise)


def _grid(figure: SubFigure, ink: Ink, kernels: Any, title: str) -> None:
    rows, columns = kernels.shape[:2]
    largest = float(np.abs(kernels).max())
    axes = figure.subplots(rows, columns, squeeze=False)
    for row in range(rows):
        for column in range(columns):
            plate(axes[row, column], ink, kernels[row, column], largest=largest)
    figure.suptitle(title, color=ink.text, fontsize=8)


def dense_and_separable(ink: Ink) -> Figure:
    """Draw the dense kernels, of which every column is one filter, scaled: mixing times filters."""
    depthwise, pointwise, dense = _layer()
    figure = Figure(figsize=(5.6, 2.6), layout="constrained")
    parts: Any = figure.subfigures(1, 5, width_ratios=[3.2, 0.5, 2.4, 0.5, 3.2])
    left, equal, middle, times, right = parts
    _grid(left, ink, dense, f"dense: {dense.size} weights\n(outputs × inputs)")
    sign(equal.subplots(), ink, "=")
    axes = middle.subplots()
    plate(axes, ink, pointwise)
    for (row, column), value in np.ndenumerate(pointwise):
        colour = ink.ground if abs(value) > 0.55 else ink.text
        axes.text(column, row, f"{value:.1f}", ha="center", va="center", fontsize=8, color=colour)
    middle.suptitle(f"pointwise: {pointwise.size}\n(how the inputs are mixed)", color=ink.text, fontsize=8)
    sign(times.subplots(), ink, "·")
    _grid(
        right,
        ink,
        depthwise.transpose(1, 0, 2, 3),
        f"depthwise: {depthwise.size}\n(one filter for each input)",
    )
    return figure


def slices(ink: Ink) -> Figure:
    """Draw the slices of the inputs, each a mixing vector times a filter, and the Khatri-Rao product."""
    depthwise, pointwise, dense = _layer()
    product = sp.conv.khatri_rao(depthwise, pointwise)
    figure = Figure(figsize=(5.6, 2.9), layout="constrained")
    halves: Any = figure.subfigures(1, 2, width_ratios=[5, 2])
    left, right = halves
    axes = left.subplots(CHANNELS, 5, width_ratios=[9, 1.2, 1.2, 1.2, 9])
    largest = float(np.abs(dense).max())
    for channel in range(CHANNELS):
        first = channel == 0
        piece = dense[:, channel].reshape(OUTPUTS, 9)
        plate(axes[channel, 0], ink, piece, "slice: outputs × taps" if first else "", largest)
        axes[channel, 0].set_ylabel(f"input {channel}", color=ink.text)
        sign(axes[channel, 1], ink, "=")
        plate(axes[channel, 2], ink, pointwise[:, channel][:, None], "mixing" if first else "", 1.0)
        sign(axes[channel, 3], ink, "×")
        plate(
            axes[channel, 4], ink, depthwise[channel].reshape(1, 9), "its filter, flat" if first else "", 1.0
        )
    flat = right.subplots()
    plate(flat, ink, product, "all inputs side by side:\nthe Khatri-Rao product", largest)
    flat.set_aspect(0.25)
    flat.set_xlabel("3 inputs", color=ink.text)
    flat.set_ylabel("4 outputs × 9 taps", color=ink.text)
    return figure
