"""Whether this thread runs a task of Dask, whose scheduler has given the other cores to other tasks."""

from __future__ import annotations

import sys
import threading
from types import FrameType

_LOCAL = "dask.local"  # runs the tasks of the schedulers of threads and of processes


def in_task() -> bool:
    """Return whether this thread runs a task of Dask beside others.

    A worker of `distributed` is asked. Dask's own schedulers say nothing to their tasks: there the calls that
    led here are looked at. The scheduler "synchronous" runs one task at a time, in the thread that computes.
    """
    if "dask" not in sys.modules:
        return False
    if threading.current_thread() is threading.main_thread() and not _is_child():
        return False
    return _has_worker() or _called_by_pool(sys._getframe(1))


def _is_child() -> bool:
    """Return whether this process was started by `multiprocessing`, whose pools run tasks in main threads."""
    processes = sys.modules.get("multiprocessing")
    return processes is not None and processes.parent_process() is not None


def _has_worker() -> bool:
    """Return whether a worker of `distributed` runs this thread's task."""
    distributed = sys.modules.get("distributed.worker")
    if distributed is None:
        return False
    try:
        distributed.get_worker()
    except (AttributeError, ValueError):  # still being imported; no worker
        return False
    return True


def _called_by_pool(frame: FrameType | None) -> bool:
    """Return whether a pool of Dask called, and not the loop that computes everything in one thread."""
    called = False
    while frame is not None:
        if frame.f_globals.get("__name__") == _LOCAL:
            if frame.f_code.co_name == "get_async":
                return False
            called = True
        frame = frame.f_back
    return called
