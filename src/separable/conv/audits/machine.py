"""How fast this machine computes and copies: what a roofline is made of."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from ..._core import measure
from ...arrays import arguments
from ..cost import Cost

__all__ = ["Machine", "fma_peak", "this_machine"]

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
    """

    threads: int
    peak_flops: float
    bandwidth: float

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


@functools.cache
def this_machine(threads: int = 1) -> Machine:
    """Measure this machine, once per process and number of threads; that takes a fraction of a second.

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
    with ThreadPoolExecutor(copiers) as pool:
        bandwidth = 1e9 * sum(pool.map(measure, ["stream"] * copiers))
    return Machine(count, fma_peak(count), bandwidth)


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
