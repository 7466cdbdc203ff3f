"""Studies that measure no times, side by side: a process for each core, with one thread each.

Their networks are small, and gain little from a second thread.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import Final

from benchmarks import libraries
from studies import store
from studies.progress import ShownProgress
from studies.studies import STUDIES

ONE_THREAD: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def measured(name: str, small: bool) -> store.Run:
    """Measure one study."""
    watch = store.Watch.begun()
    progress = ShownProgress()
    run = store.run_of(STUDIES[name].measure(small, progress), watch, small)
    progress("")
    return run


def measured_together(names: Sequence[str], small: bool, processes: int) -> Iterator[tuple[str, store.Run]]:
    """Yield studies and what they measured, in this order, each as soon as it is there."""
    with _one_thread_each(), _pool(processes) as pool:
        runs = [(name, pool.submit(measured, name, small)) for name in names]
        for name, run in runs:
            yield name, run.result()


@contextmanager
def _pool(processes: int) -> Iterator[ProcessPoolExecutor]:
    pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), _begin)
    try:
        yield pool
    finally:  # also when one of them failed, or Ctrl-C was pressed
        pool.shutdown(cancel_futures=True)


def _begin() -> None:
    if libraries.load("torch"):
        libraries.set_torch_threads(1)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Tell the libraries of the processes that begin meanwhile."""
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ.update(dict.fromkeys(ONE_THREAD, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
