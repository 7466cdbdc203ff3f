"""The peers as libraries: loading what is installed, versions, thread counts."""

from __future__ import annotations

import contextlib
import functools
import importlib
import platform
import warnings
from collections.abc import Iterator
from typing import Any


@functools.cache
def load(name: str) -> Any:
    """Import the module `name`; None where it is not installed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # SimpleITK's wrapper types warn on some Python versions
            return importlib.import_module(name)
    except ModuleNotFoundError:
        return None


def versions() -> dict[str, str]:
    """Return the versions of Python, this package and each peer."""
    names = {"separable": "separable", "NumPy": "numpy", "SciPy": "scipy", "OpenCV": "cv2", "torch": "torch"}
    found = {"Python": platform.python_version()}
    for title, name in names.items():
        module = load(name)
        found[title] = "not installed" if module is None else str(module.__version__)
    itk = load("SimpleITK")
    found["SimpleITK"] = "not installed" if itk is None else itk.Version_VersionString()
    return found


def chosen(title: str, only: tuple[str, ...]) -> bool:
    """Whether the peer `title` begins with one of the names in `only`, or `only` is empty."""
    return not only or title.lower().startswith(tuple(name.lower() for name in only))


def set_opencv_threads(count: int) -> None:
    """Let OpenCV use `count` threads."""
    load("cv2").setNumThreads(count)


def set_simpleitk_threads(count: int) -> None:
    """Let SimpleITK's filters use `count` threads."""
    load("SimpleITK").ProcessObject.SetGlobalDefaultNumberOfThreads(count)


def set_torch_threads(count: int) -> None:
    """Let torch's operators use `count` threads."""
    load("torch").set_num_threads(count)


@contextlib.contextmanager
def threads_restored() -> Iterator[None]:
    """Put every library's thread count back as it was."""
    cv2, itk, torch = load("cv2"), load("SimpleITK"), load("torch")
    before = (
        cv2 and cv2.getNumThreads(),
        itk and itk.ProcessObject.GetGlobalDefaultNumberOfThreads(),
        torch and torch.get_num_threads(),
    )
    try:
        yield
    finally:
        if cv2:
            cv2.setNumThreads(before[0])
        if itk:
            itk.ProcessObject.SetGlobalDefaultNumberOfThreads(before[1])
        if torch:
            torch.set_num_threads(before[2])
