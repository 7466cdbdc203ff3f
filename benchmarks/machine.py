"""Facts about this machine and the software on it, and its peak speeds."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path
from typing import Any

from benchmarks.libraries import versions


def facts() -> dict[str, Any]:
    """Return what a reader needs to judge a run: processor, caches, peak speeds, load, system, versions."""
    import separable

    core = separable.core_info()
    peaks = {target: fma_gflop_s(target) for target in core["targets"]}
    return {
        "date": time.strftime("%Y-%m-%d %H:%M %z"),
        "cpu": cpu_model(),
        "cores": usable_cores(),
        "caches": caches(),
        "load": load(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "target": core["target"],
        "compiler": core["compiler"],
        "fma_gflop_s": peaks,
        "stream_gb_s": stream_gb_s(),
        "versions": versions(),
    }


def usable_cores() -> int:
    """Return how many cores this process may run on."""
    from separable.arrays import arguments

    return arguments.usable_cores()


def cpu_model() -> str:
    """Return the processor's name; family and model number tell hypervisors' generic names apart."""
    from separable.conv.audits.machine import processor

    return processor()


def has_vnni() -> bool:
    """Return whether the processor sums four products of bytes at once; True where the system cannot say."""
    try:
        return "vnni" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return True


def caches() -> dict[str, str]:
    """Return the first core's data caches as the kernel names them, such as ``{"L1d": "32K"}``."""
    found = {}
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind, size = ((index / name).read_text().strip() for name in ("level", "type", "size"))
        if kind != "Instruction":
            found[f"L{level}" + ("d" if kind == "Data" else "")] = size
    return found


def load() -> str:
    """Return the load average of the last minute: other work on the machine spoils a run."""
    return f"{os.getloadavg()[0]:.2f}" if hasattr(os, "getloadavg") else "unknown"


def stream_gb_s() -> float:
    """Measure the core's non-temporal copy on one core, in GB/s read plus written."""
    from separable import _core

    return float(_core.measure("stream"))


def fma_gflop_s(target: str | None) -> float:
    """Measure the float32 FMA peak of one core under an instruction set (None: the best), in GFLOP/s."""
    from separable import _core

    _core.force(target)
    try:
        return float(_core.measure("fma"))
    finally:
        _core.force(None)
