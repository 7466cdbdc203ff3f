"""The options of the verbs: how each is written and what its help says."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer


class Unit(str, Enum):
    """What a standard deviation is measured in."""

    px = "px"
    mm = "mm"


def _option(metavar: str | None, text: str, panel: str | None = None) -> Any:
    return typer.Option(metavar=metavar, help=text, rich_help_panel=panel)


_KERNEL, _TUNING, _PLACE = "Kernel (one of)", "Kernel, in detail", "Where and how"

# filter: which kernel
Gaussian: TypeAlias = Annotated[str | None, _option("S[,S..]", "Gaussian of standard deviation S.", _KERNEL)]
Box: TypeAlias = Annotated[str | None, _option("N[,N..]", "Mean over N samples.", _KERNEL)]
Sobel: TypeAlias = Annotated[int | None, _option("AXIS", "Edges: the derivative along an axis.", _KERNEL)]
Log: TypeAlias = Annotated[str | None, _option("S[,S..]", "Laplacian of Gaussian.", _KERNEL)]
Unsharp: TypeAlias = Annotated[str | None, _option("S[,S..]", "Sharpen what is finer than S.", _KERNEL)]
Kernel: TypeAlias = Annotated[Path | None, _option("K.npy", "Dense weights from a file.", _KERNEL)]

# filter: what belongs to one kernel or another
SigmaUnit: TypeAlias = Annotated[Unit, _option(None, "Of S; mm goes by the voxel size.", _TUNING)]
Order: TypeAlias = Annotated[str, _option("D[,D..]", "--gaussian: derivative along each axis.", _TUNING)]
Truncate: TypeAlias = Annotated[float, _option("T", "Cut Gaussians at T standard deviations.", _TUNING)]
Amount: TypeAlias = Annotated[float, _option("A", "--unsharp: its strength.", _TUNING)]
KernelRank: TypeAlias = Annotated[int | None, _option("R", "--kernel: the most terms allowed.", _TUNING)]
KernelTol: TypeAlias = Annotated[float | None, _option("T", "--kernel: relative l1 error allowed.", _TUNING)]

# filter: where it is applied
Axes: TypeAlias = Annotated[
    str | None, _option("A[,A..]", "Axes to filter. [dim]\\[default: space; not colour, not time][/]", _PLACE)
]
Mode: TypeAlias = Annotated[
    str, _option("M[,M..]", "Beyond the border: reflect, constant, nearest, mirror or wrap.", _PLACE)
]
Cval: TypeAlias = Annotated[float, _option("V", "The value beyond the border in mode constant.", _PLACE)]
Origin: TypeAlias = Annotated[str, _option("N[,N..]", "Shift of the kernel's centre.", _PLACE)]

# filter: what comes out
Dtype: TypeAlias = Annotated[
    str | None, _option("NAME", "Of OUT; integers round and saturate. [dim]\\[default: as IN][/]", _PLACE)
]
Threads: TypeAlias = Annotated[
    int | None, _option("N", "Threads at most. [dim]\\[default: all cores][/]", _PLACE)
]
Quiet: TypeAlias = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]

# factor
Tol: TypeAlias = Annotated[float | None, _option("T", "Relative l1 error allowed. [dim]\\[default: 1e-6][/]")]
Rank: TypeAlias = Annotated[int | None, _option("R", "The most terms allowed.")]

# every verb
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print one JSON object, no table.")]
