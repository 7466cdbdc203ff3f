"""Data that other packages bring."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from .._base.extras import MissingExtraError


def bundled(package: str, path: str) -> Path:
    """Return a file that another package brings, without importing that package.

    Parameters
    ----------
    package, path : str

    Returns
    -------
    Path

    Raises
    ------
    MissingExtraError
        If the package is not installed.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise MissingExtraError(f"{package} is not installed: pip install 'separable[demo]'")
    return Path(spec.origin).parent / path
