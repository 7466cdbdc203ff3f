"""The memory that this process has."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

_STATM: Final = Path("/proc/self/statm")
_ASSUMED: Final = 160 << 20  # an interpreter with NumPy and zarr, where no system says more


def resident() -> int:
    """Return the bytes of memory that this process has now; it may be the most that it had."""
    try:
        pages = int(_STATM.read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return _windows() if sys.platform == "win32" else _highest()
    import mmap

    return pages * mmap.PAGESIZE


def _highest() -> int:
    try:
        import resource
    except ModuleNotFoundError:
        return _ASSUMED
    most = int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    return most if sys.platform == "darwin" else most * 1024


def _windows() -> int:
    """Return the working set, by the system's own call."""
    import ctypes

    fields = ("peak_set", "set", "a", "b", "c", "d", "page_file", "peak_page_file")
    types = [("size", ctypes.c_uint32), ("faults", ctypes.c_uint32)]
    counters = type(
        "Counters", (ctypes.Structure,), {"_fields_": [*types, *((n, ctypes.c_size_t) for n in fields)]}
    )()
    counters.size = ctypes.sizeof(counters)
    try:
        kernel: object = ctypes.WinDLL("kernel32")  # type: ignore[attr-defined, unused-ignore]
        kernel.GetCurrentProcess.restype = ctypes.c_void_p  # type: ignore[attr-defined]
        process = ctypes.c_void_p(kernel.GetCurrentProcess())  # type: ignore[attr-defined]
        done = kernel.K32GetProcessMemoryInfo(process, ctypes.byref(counters), counters.size)  # type: ignore[attr-defined]
    except (AttributeError, OSError):
        return _ASSUMED
    return int(counters.set) if done else _ASSUMED
