"""A pytest plugin that puts `separable.ndimage` into SciPy before SciPy's own tests are imported.

Loaded with ``-p ndimage_seams`` in a process of its own; two environment variables say how:

SEPARABLE_SEAM
    ``public``: the functions in `scipy.ndimage` are replaced by those of the same name here.
    ``private``: the three compiled functions under SciPy's Python code are.
    ``installed``: the tests run inside `separable.ndimage.installed()`.
    ``none``: nothing is replaced.
SEPARABLE_SEAM_REPORT
    Where the JSON report goes: the outcome of every case, and the cases that called a linear filter.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import scipy.ndimage

import separable.ndimage as ndi

NAMES = [name for name in ndi.__all__ if name != "installed"]
MODES = ("nearest", "wrap", "reflect", "mirror", "constant", "grid-wrap", "grid-constant")  # SciPy's codes

outcomes: dict[str, str] = {}
linear: set[str] = set()
running = ""
clean_up = ExitStack()


def recording(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function, made to note which case called it."""

    @functools.wraps(function)
    def noted(*args: Any, **kwargs: Any) -> Any:
        linear.add(running)
        return function(*args, **kwargs)

    return noted


def replace_public() -> None:
    # SciPy's tests look up by function what each can do with other array libraries.
    from scipy._lib import _array_api

    capabilities = getattr(_array_api, "xp_capabilities_table", None)
    for name in NAMES:
        original, ours = getattr(scipy.ndimage, name), recording(getattr(ndi, name))
        setattr(scipy.ndimage, name, ours)
        if capabilities is not None:
            capabilities[ours] = capabilities[original]


def correlate1d(x: Any, weights: Any, axis: int, output: Any, mode: int, cval: float, origin: int) -> None:
    ndi.correlate1d(x, weights, axis, output, MODES[mode], cval, origin)


def correlate(x: Any, weights: Any, output: Any, mode: int, cval: float, origins: Any) -> None:
    ndi.correlate(x, weights, output, MODES[mode], cval, origins)


def uniform_filter1d(x: Any, size: int, axis: int, output: Any, mode: int, cval: float, origin: int) -> None:
    ndi.uniform_filter1d(x, size, axis, output, MODES[mode], cval, origin)


def replace_private() -> None:
    from scipy.ndimage import _filters

    for function in (correlate1d, correlate, uniform_filter1d):
        setattr(_filters._nd_image, function.__name__, recording(function))


def pytest_configure() -> None:
    seam = os.environ["SEPARABLE_SEAM"]
    if seam == "public":
        replace_public()
    elif seam == "private":
        replace_private()
    elif seam == "installed":
        clean_up.enter_context(ndi.installed())
        for name in NAMES:
            setattr(scipy.ndimage, name, recording(getattr(scipy.ndimage, name)))


def pytest_unconfigure() -> None:
    clean_up.close()


def pytest_runtest_logstart(nodeid: str) -> None:
    global running
    running = case(nodeid)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    name = case(report.nodeid)
    if report.failed:
        outcomes[name] = f"failed: {report.longreprtext.splitlines()[-1]}"
    elif report.when == "call" or report.skipped:
        outcomes.setdefault(name, report.outcome)


def pytest_sessionfinish() -> None:
    report = {"outcomes": outcomes, "linear": sorted(linear)}
    Path(os.environ["SEPARABLE_SEAM_REPORT"]).write_text(json.dumps(report), encoding="utf-8")


def case(nodeid: str) -> str:
    """Return a case's id without the folder of the installation and the name of the array library."""
    name, _, parameters = nodeid.partition("[")
    kept = [part for part in parameters.rstrip("]").split("-") if part != "numpy"]
    return name.rpartition("/")[2] + (f"[{'-'.join(kept)}]" if any(kept) else "")
