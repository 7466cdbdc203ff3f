"""Colours for light and dark pages, and the pieces that the drawings share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure


@dataclass(frozen=True)
class Ink:
    """What a drawing is drawn with: the page's ground, text, faint lines, colours of plus, minus, others."""

    name: str
    ground: str
    text: str
    faint: str
    plus: str
    minus: str
    others: tuple[str, ...]


LIGHT: Final = Ink(
    "light",
    "#ffffff",
    "#1d2733",
    "#b9c2cc",
    "#0b6fb8",
    "#c8660a",
    ("#0b6fb8", "#c8660a", "#3f7f31", "#8a4fa3"),
)
DARK: Final = Ink(
    "dark",
    "#14181e",
    "#d9dfe6",
    "#5b6672",
    "#5fb3f2",
    "#f2a552",
    ("#5fb3f2", "#f2a552", "#8fcf7e", "#cf9ae6"),
)


def shades(ink: Ink, values: Any, largest: float | None = None) -> Any:
    """Return an image: weights above 0 in one colour, below in the other, 0 transparent."""
    values = np.asarray(values, float)
    largest = largest or float(np.abs(values).max()) or 1.0
    image = np.zeros((*values.shape, 4))
    image[values >= 0, :3] = to_rgb(ink.plus)
    image[values < 0, :3] = to_rgb(ink.minus)
    image[..., 3] = np.clip(np.abs(values) / largest, 0, 1)
    return image


def plate(axes: Axes, ink: Ink, values: Any, title: str = "", largest: float | None = None) -> None:
    """Draw weights as squares in a frame, with a title above."""
    values = np.atleast_2d(values)
    axes.imshow(shades(ink, values, largest), interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color(ink.faint)
    axes.set_title(title, color=ink.text, fontsize=8)


def sign(axes: Axes, ink: Ink, text: str, size: float = 15) -> None:
    """Write a sign between two plates."""
    axes.axis("off")
    axes.text(
        0.5, 0.5, text, color=ink.text, fontsize=size, ha="center", va="center", transform=axes.transAxes
    )


def curves(figure: Figure, ink: Ink, across: str, up: str, place: Any = 111) -> Axes:
    """Return axes for curves, with names, in the colours of the page."""
    axes = figure.add_subplot(place)
    axes.set_xlabel(across, color=ink.text)
    axes.set_ylabel(up, color=ink.text)
    axes.tick_params(colors=ink.text, which="both")
    axes.grid(color=ink.faint, alpha=0.35, linewidth=0.6)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(ink.faint)
    return axes
