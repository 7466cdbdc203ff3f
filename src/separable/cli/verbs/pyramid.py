"""``separable pyramid``: an OME-Zarr picture with smaller levels, filtered first if asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ...stream.ome.geometry import Pyramid
from ..kernel_options import Wish
from . import filter_slabs
from .filter import Place
from .filter_slabs import Slabs

_LEAST = 2


def run(
    paths: Sequence[Path],
    wish: Wish,
    place: Place,
    slabs: Slabs,
    levels: Pyramid,
    *,
    as_json: bool,
    quiet: bool,
) -> None:
    """Write a picture with its levels and print how.

    Raises
    ------
    ValueError, TypeError
        For what is wrong, or no picture.
    OSError, JournalError, typer.Exit
        As `filter_slabs.run`.
    """
    if len(paths) != 2:
        raise ValueError(f"expected IN OUT.ome.zarr; got {len(paths)} paths.")
    if levels.levels is not None and levels.levels < _LEAST:
        raise ValueError(
            f"`--levels {levels.levels}` is no number of levels; expected 2 or more (separable filter IN "
            "OUT.ome.zarr writes one)."
        )
    asked = wish if wish.given else None
    whole = replace(slabs, levels=levels)
    filter_slabs.run(paths, None, asked, place, whole, as_json=as_json, quiet=quiet)
