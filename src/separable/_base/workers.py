"""Threads and memory for linear algebra: a few threads side by side, each with BLAS that works alone.

BLAS splits every product and every factorization over threads that spin while they wait for each other. For
matrices of a few hundred rows that gains nothing, and where the cores have other work to do it costs many
times what one thread takes: factoring 1,152 rows took 0.028 s on one thread and 2 s on two beside one busy
process. Independent problems side by side wait for nobody.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeVar

__all__ = ["Workers", "blas_alone", "return_memory"]

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

# What the builds of OpenBLAS, and MKL and BLIS, call the functions that ask for the threads and set them.
_NAMES: Final = (
    *(
        (f"{prefix}openblas_get_num_threads{suffix}", f"{prefix}openblas_set_num_threads{suffix}")
        for prefix in ("scipy_", "")
        for suffix in ("64_", "")
    ),
    ("MKL_Get_Max_Threads", "MKL_Set_Num_Threads"),
    ("bli_thread_get_num_threads", "bli_thread_set_num_threads"),
)
_LIBRARIES: Final = ("openblas", "mkl_rt", "libblis")
_MAPS: Final = Path("/proc/self/maps")

_lock = threading.Lock()
_local = threading.local()  # `inside`: whether a thread is one of a pool
_inside = 0
_before: list[tuple[Any, int]] = []


@cache
def _controls() -> tuple[tuple[Any, Any], ...]:
    """Return the pairs of functions of the BLAS libraries in this process; none where it cannot be seen."""
    try:
        lines = _MAPS.read_text().splitlines()
    except OSError:  # no Linux: BLAS keeps the threads that its environment variable gives it
        return ()
    paths = {line.split(maxsplit=5)[5] for line in lines if any(name in line for name in _LIBRARIES)}
    pairs = []
    for path in sorted(paths):
        try:
            library = ctypes.CDLL(path)
        except OSError:
            continue
        for getter, setter in _NAMES:
            if hasattr(library, getter) and hasattr(library, setter):
                pairs.append((getattr(library, getter), getattr(library, setter)))
                break
    return tuple(pairs)


@contextmanager
def blas_alone() -> Iterator[None]:
    """Let each call of BLAS run on the thread that makes it, and put back afterwards what was set.

    It is a setting of the process: while any such block runs, it holds for all. Where the library is not
    known, nothing changes.
    """
    global _inside
    with _lock:
        _inside += 1
        if _inside == 1:
            for getter, setter in _controls():
                _before.append((setter, int(getter())))
                setter(1)
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside:
                while _before:
                    setter, threads = _before.pop()
                    setter(threads)


def _begin() -> None:
    _local.inside = True


def return_memory() -> None:
    """Return memory that nobody uses to the system, where the C library is glibc.

    Arrays of up to 32 MiB come from heaps, which shrink from their end alone: after passes of a network
    through torch they held 400 to 700 MiB of nothing (measured, ResNet-18 at 224 x 224).
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform.startswith("linux") else None
    if trim is not None:
        trim(0)


class Workers:
    """So many threads that independent problems are dealt out to.

    Parameters
    ----------
    threads : int
        1: everything runs in the caller's.
    """

    def __init__(self, threads: int = 1) -> None:
        self.threads = threads
        self._pool = ThreadPoolExecutor(threads, initializer=_begin) if threads > 1 else None

    def map(self, solve: Callable[[_Item], _Result], items: Iterable[_Item]) -> list[_Result]:
        """Return the results in order; they do not depend on how many threads there are."""
        return list(self.each(solve, items))

    def each(self, solve: Callable[[_Item], _Result], items: Iterable[_Item]) -> Iterator[_Result]:
        """Yield the same, as they come. What is dealt out already is not dealt out any further."""
        listed = list(items)
        if self._pool is None or len(listed) < 2 or getattr(_local, "inside", False):
            return map(solve, listed)
        return self._pool.map(solve, listed)

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
