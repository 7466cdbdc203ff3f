"""Child process of :mod:`benchmarks.memory`: run one call and print [output bytes, extra peak bytes]."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np


def main(call: dict[str, Any]) -> None:
    """Measure `call` and print the result as JSON."""
    correlate = _scipy(call) if call["who"] == "SciPy" else _separable(call)
    correlate(np.ones((8,) * len(call["shape"]), call["dtype"]))  # loads modules, starts threads
    x = _volume(call)
    before = _resident()
    result = correlate(x)
    print(json.dumps([result.nbytes, _peak() - before]))


def _volume(call: dict[str, Any]) -> np.ndarray[Any, Any]:
    transposed = call["layout"] == "transposed"
    x = np.ones(call["shape"][::-1] if transposed else call["shape"], call["dtype"])
    return x.T if transposed else x


def _separable(call: dict[str, Any]) -> Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]:
    import separable

    taps = _taps(call)
    kernel = separable.SeparableKernel([[taps] * len(call["shape"])])
    return lambda x: np.asarray(separable.correlate(x, kernel, threads=call["threads"]))


def _scipy(call: dict[str, Any]) -> Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]:
    from scipy import ndimage

    def correlate(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        out = ndimage.correlate1d(x, _taps(call), axis=0)
        for axis in range(1, x.ndim):
            ndimage.correlate1d(out, _taps(call), axis=axis, output=out)
        return np.asarray(out)

    return correlate


def _taps(call: dict[str, Any]) -> np.ndarray[Any, Any]:
    return np.full(call["taps"], 1.0 / call["taps"])


def _resident() -> int:
    """Return the memory this process holds now, in bytes."""
    return _status("VmRSS") or _highest()


def _peak() -> int:
    """Return the most this process has held, in bytes."""
    return _status("VmHWM") or _highest()


def _status(entry: str) -> int:
    # Linux: ru_maxrss survives exec, so a large parent would hide everything this process does;
    # VmHWM starts anew.
    try:
        with open("/proc/self/status", encoding="ascii") as lines:
            values = dict(line.split(":", 1) for line in lines)
    except OSError:
        return 0
    return int(values[entry].split()[0]) * 1024


def _highest() -> int:
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
