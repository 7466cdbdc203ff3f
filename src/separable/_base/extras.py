"""What to say when an optional dependency is not installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, TypeAlias

Extra: TypeAlias = Literal[
    "cli", "compile", "dask", "demo", "dicom", "files", "napari", "ndimage", "nn", "onnx", "plot", "report",
    "volumes", "xarray",
]  # fmt: skip


class MissingExtraError(ImportError):
    """An optional dependency is missing; the message holds the command that installs it."""


@contextmanager
def extra(name: Extra) -> Iterator[None]:
    """Turn the failing import of an optional dependency into the command that installs it.

    Parameters
    ----------
    name : {"cli", "compile", "dask", "demo", "dicom", "files", "ndimage", "nn", "onnx", "plot", ...}
        The extra of this package that brings the modules imported inside the block.

    Raises
    ------
    MissingExtraError
        When a module imported inside the block is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as missing:
        raise MissingExtraError(
            f"{missing.name} is not installed: pip install 'separable[{name}]'"
        ) from missing
