"""What a kernel is made of: its singular spectrum, and what less error costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from ..._base.words.quantities import percent, times
from ...factor import DEFAULT_EFFORT, Effort, factored
from ...kernel.value import SeparableKernel

# Tolerances at which a kernel is factored for its curve, coarse to fine.
TOLERANCES: Final = (0.3, 0.1, 0.03, 0.01, 3e-3, 1e-3, 1e-4, 1e-5, 1e-6)

_ROUNDING: Final = float(np.finfo(np.float64).eps)

_VALUES_SHOWN: Final = 8  # singular values of an axis that fit a narrow terminal


@dataclass(frozen=True)
class Anatomy:
    """A kernel taken apart.

    Attributes
    ----------
    spectra : sequence of ndarray
        Singular values of the kernel unfolded along each axis, over the largest; one for both axes of a
        kernel that has two, which are the same.
    curve : sequence of SeparableKernel
        The kernel at several tolerances, fewest MACs first.
    """

    spectra: Sequence[npt.NDArray[np.float64]]
    curve: Sequence[SeparableKernel]


def anatomy(weights: npt.NDArray[Any]) -> Anatomy:
    """Take a kernel apart.

    Parameters
    ----------
    weights : ndarray
        Real and finite.

    Raises
    ------
    TypeError, ValueError
        As `separable.factor`.
    """
    dense = np.asarray(weights, np.float64)
    curve: list[SeparableKernel] = []
    for tol in TOLERANCES:
        if curve and curve[-1].error.relative_l1 <= tol:
            continue
        curve.append(factored(weights, tol, None, Effort(DEFAULT_EFFORT)))
    return Anatomy(_spectra(dense / (np.abs(dense).max() or 1.0)), curve)


def _spectra(dense: npt.NDArray[np.float64]) -> list[npt.NDArray[np.float64]]:
    axes = range(dense.ndim if dense.ndim > 2 else 1)
    spectra = []
    for axis in axes:
        unfolded = np.moveaxis(dense, axis, 0).reshape(dense.shape[axis], -1)
        if unfolded.shape[1] > unfolded.shape[0]:  # the same values, from a small triangle
            unfolded = np.asarray(np.linalg.qr(unfolded.T, mode="r"))
        values = np.linalg.svd(unfolded, compute_uv=False)
        spectra.append(values / (values[0] or 1.0))
    return spectra


def tables(parts: Anatomy, chosen: SeparableKernel) -> Group:
    """Return the spectrum and the curve as tables, at most 50 characters wide."""
    heading = Text("Singular values, over the largest", style="table.title")
    return Group(Text(), heading, _spectrum_table(parts.spectra), Text(), curve_table(parts.curve, chosen))


def _spectrum_table(spectra: Sequence[npt.NDArray[np.float64]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("no.", justify="right")
    for axis in range(len(spectra)):
        table.add_column(f"axis {axis}" if len(spectra) > 1 else "value", justify="right", no_wrap=True)
    above = max(int(np.count_nonzero(values > _ROUNDING)) for values in spectra)
    for number in _numbers(min(above + 1, max(map(len, spectra)))):
        row = [_value(values[number - 1]) if number <= len(values) else "" for values in spectra]
        table.add_row(str(number), *row)
    return table


def _value(value: float) -> str:
    return f"{value:.2g}" if value > _ROUNDING else "rounding"


def _numbers(longest: int) -> list[int]:
    """Return which singular values to show: the first ones, then ever fewer, and the last."""
    if longest <= _VALUES_SHOWN:
        return list(range(1, longest + 1))
    spread = np.geomspace(1, longest, _VALUES_SHOWN).round().astype(int).tolist()
    return sorted({1, 2, 3, *spread})


def curve_table(curve: Sequence[SeparableKernel], chosen: SeparableKernel) -> Table:
    """Return what less and less error costs; the kernel's own line is marked."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title="What an error costs", title_justify="left")
    for heading in ("rel. l1", "terms", "MACs", "vs dense"):
        table.add_column(heading, justify="right", no_wrap=True)
    for kernel in curve:
        table.add_row(
            percent(kernel.error.relative_l1),
            str(kernel.rank),
            str(kernel.macs),
            times(kernel.size / kernel.macs),
            style="bold" if kernel == chosen else None,
        )
    return table
