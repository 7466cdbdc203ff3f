"""The peers as libraries: loading what is installed, versions, thread counts, threads that do not rest."""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.metadata
import os
import platform
import shutil
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Idle threads of a peer may poll for work: ONNX Runtime's for 40 ms, libgomp's (torch) for 9 ms, TBB's
# (OpenVINO) for 1 ms, measured after calls on two threads.
SETTLE_STEP = 10e-3  # seconds; the kernel brings a running thread's clock up to date only at each tick
SETTLE_SHARE = 0.2  # of a core: less than a polling thread, more than what the waiting itself takes
SETTLE_LIMIT = 0.5

MODULES = {
    "separable": "separable",
    "NumPy": "numpy",
    "SciPy": "scipy",
    "OpenCV": "cv2",
    "torch": "torch",
    "ONNX": "onnx",
    "ONNX Runtime": "onnxruntime",
    "OpenVINO": "openvino",
}
DISTRIBUTIONS = {"LiteRT": "ai-edge-litert", "ncnn": "ncnn"}  # too large to be imported for a number


@functools.cache
def load(name: str) -> Any:
    """Import the module `name`; None where it is not installed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # SimpleITK's wrapper types warn on some Python versions
            return importlib.import_module(name)
    except ModuleNotFoundError:
        return None


def example(name: str) -> Any:
    """Return a module of examples/train, where networks are trained and converted."""
    folder = str(Path(__file__).resolve().parents[1] / "examples" / "train")
    sys.path.insert(0, folder)
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(folder)


def versions() -> dict[str, str]:
    """Return the versions of Python, this package and each peer."""
    found = {"Python": platform.python_version()}
    for title, name in MODULES.items():
        module = load(name)
        found[title] = "not installed" if module is None else str(module.__version__)
    for title, name in DISTRIBUTIONS.items():
        try:
            found[title] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[title] = "not installed"
    itk = load("SimpleITK")
    found["SimpleITK"] = "not installed" if itk is None else itk.Version_VersionString()
    found["C++ compiler for torch.compile"] = cpp_compiler() or "none"
    return found


def cpp_compiler() -> str | None:
    """Return the compiler that torch.compile would use for loops of its own; None where there is none."""
    return next((name for name in (os.environ.get("CXX", ""), "g++", "clang++") if shutil.which(name)), None)


def settle() -> None:
    """Wait until no thread of this process is busy: one peer's idle threads must not slow another peer."""
    end = time.perf_counter() + SETTLE_LIMIT
    while time.perf_counter() < end:
        processor, start = time.process_time(), time.perf_counter()
        time.sleep(SETTLE_STEP)
        if time.process_time() - processor < SETTLE_SHARE * (time.perf_counter() - start):
            return


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
