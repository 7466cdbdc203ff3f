"""How fast this machine computes and copies: what a roofline is made of."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..._core import core_info, measure
from ...arrays import arguments
from ...cost import model as costs
from ..cost import Cost

__all__ = ["Machine", "copy_speed", "fma_peak", "kernel_target", "processor", "this_machine"]

# Threads that copy at once while the memory's speed is measured: more than these seldom add any, and each
# takes 128 MiB.
_COPIERS = 4

# Time of arithmetic in a type, relative to float32. The core knows no peak of other types.
_ARITHMETIC = {"float32": 1.0, "float64": 2.0}


@dataclass(frozen=True)
class Machine:
    """Peak speeds of some threads of a machine, as measured.

    Attributes
    ----------
    threads : int
    peak_flops : float
        Of fused multiply-adds of float32 in registers, FLOPs per second (one multiply-add is two).
    bandwidth : float
        Of copying memory that no cache holds, bytes read and written per second.
    measured : Machine or None
        Its own speeds, where layers ran faster than these: see `reached`.
    """

    threads: int
    peak_flops: float
    bandwidth: float
    measured: Machine | None = None

    def roofline_ms(self, macs: int, bytes: int, dtype: str = "float32") -> float | None:
        """Return the time of the arithmetic, or of the memory traffic, whichever is longer.

        Parameters
        ----------
        macs, bytes : int
            What is computed, and what is read and written.
        dtype : str, optional
            Name of the arithmetic's type.

        Returns
        -------
        float or None
            Milliseconds, as `Cost.seconds` has them; None for a type whose peak is not known.
        """
        if dtype not in _ARITHMETIC:
            return None
        peak = self.peak_flops / _ARITHMETIC[dtype]
        return 1e3 * Cost(params=0, macs=macs, bytes=bytes).seconds(peak, self.bandwidth)

    def reached(
        self, runs: Iterable[tuple[int, int, str, float | None]], whole_ms: float | None = None
    ) -> Machine:
        """Return the machine at the speeds that runs reached, where these are above its own.

        A layer whose data lie in a cache moves them faster than memory does, and clocks change: a time below
        which nothing gets must not be longer than what was measured.

        Parameters
        ----------
        runs : iterable of (int, int, str, float or None)
            MACs, bytes, dtype and measured milliseconds of each layer; None: not measured.
        whole_ms : float, optional
            Measured milliseconds of all layers in one go: their rooflines do not add up to more.

        Returns
        -------
        Machine
        """
        peak, bandwidth, total = self.peak_flops, self.bandwidth, 0.0
        known = [run for run in runs if run[2] in _ARITHMETIC]
        for macs, size, dtype, ms in known:
            if ms:
                peak = max(peak, 2e3 * macs * _ARITHMETIC[dtype] / ms)
                bandwidth = max(bandwidth, 1e3 * size / ms)
        faster = replace(self, peak_flops=peak, bandwidth=bandwidth)
        total = sum(faster.roofline_ms(macs, size, dtype) or 0.0 for macs, size, dtype, _ in known)
        if whole_ms and total > whole_ms:
            scale = total / whole_ms
            faster = replace(faster, peak_flops=scale * peak, bandwidth=scale * bandwidth)
        unlike = faster.peak_flops > self.peak_flops or faster.bandwidth > self.bandwidth
        return replace(faster, measured=self.measured or self) if unlike else self


@functools.cache
def this_machine(threads: int = 1) -> Machine:
    """Return the speeds of this machine, measured once and kept beside its rates (`cost.model.cache_file`).

    Measuring takes a fraction of a second. It is done again where the processor is another one, the compiler
    of the core, or the number of threads that copy; in each process where the file cannot be written.

    Parameters
    ----------
    threads : int, optional
        Scales the arithmetic of one thread; memory is copied by as many at once, up to four.

    Returns
    -------
    Machine
    """
    from concurrent.futures import ThreadPoolExecutor  # which is rarely needed

    count = arguments.thread_count(threads)
    copiers = min(count, _COPIERS)
    speeds = _kept()
    if f"copy {copiers}" not in speeds or "fma" not in speeds:
        with ThreadPoolExecutor(copiers) as pool:
            speeds[f"copy {copiers}"] = 1e9 * sum(pool.map(measure, ["stream"] * copiers))
        speeds["fma"] = max(fma_peak(), speeds.get("fma", 0.0))
        with suppress(OSError):
            _keep(speeds)
    return Machine(count, count * speeds["fma"], speeds[f"copy {copiers}"])


def _file() -> Path:
    return costs.cache_file().with_name("speeds.json")


def _kept() -> dict[str, float]:
    """Return the speeds in the file; none where it is missing, damaged, or of another machine."""
    try:
        data = json.loads(_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    speeds = data.get("speeds") if isinstance(data, dict) and data.get("machine") == _owner() else None
    if not isinstance(speeds, dict):
        return {}
    return {
        str(name): float(speed)
        for name, speed in speeds.items()
        if isinstance(speed, (int, float)) and 0 < speed < math.inf
    }


def _keep(speeds: Mapping[str, float]) -> None:
    from ..._base.atomic import replacing

    file = _file()
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as draft:
        draft.write_text(json.dumps({"machine": _owner(), "speeds": speeds}, indent=1), encoding="utf-8")


def _owner() -> dict[str, Any]:
    """Return what makes speeds those of another machine when it changes."""
    return {**costs.fingerprint(), "target": core_info()["target"]}


def fma_peak(threads: int = 1) -> float:
    """Return the FLOPs per second of fused multiply-adds of float32 in registers, as measured now.

    A shared machine changes its speed: a share of the peak is of the peak of the same minute.

    Parameters
    ----------
    threads : int, optional
        Scales what one thread does.

    Returns
    -------
    float
    """
    return 1e9 * threads * measure("fma")


def copy_speed() -> float:
    """Return the bytes per second that one thread reads and writes as it copies, as measured now.

    No cache holds what is copied.

    Returns
    -------
    float
    """
    return 1e9 * measure("stream")


def processor() -> str:
    """Return the processor's name; family and model number tell hypervisors' generic names apart.

    Returns
    -------
    str
    """
    import platform  # which is rarely needed

    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n", 1)[0].splitlines()
    except (OSError, ValueError):
        return platform.processor() or platform.machine()
    entries = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    name = entries.get("model name", platform.machine())
    if "cpu family" in entries and "model" in entries:
        name += f" (family {entries['cpu family']}, model {entries['model']})"
    return name


def kernel_target() -> str:
    """Return the instruction set that the kernels run in, such as "x86-64-v4".

    Returns
    -------
    str
    """
    return str(core_info()["target"])
