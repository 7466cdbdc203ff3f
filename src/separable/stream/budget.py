"""The threads of a run: decoding, filtering and encoding share one number of them."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from .parts import Chore


class Batch:
    """Tasks that were started together."""

    def __init__(self, futures: list[Future[None]]) -> None:
        self._futures = futures

    def wait(self) -> None:
        """Return when all are done; raise what the first that failed raised, when no other runs any more."""
        try:
            for future in self._futures:
                future.result()
        except BaseException:
            self.cancel()
            raise

    def cancel(self) -> None:
        """Drop the tasks that were not begun, and wait for the others."""
        left = [future for future in self._futures if not future.cancel()]
        for future in left:
            future.exception()


class ThreadBudget:
    """So many threads that work at a time: those of tasks, and those that a filter takes.

    Threads that wait for a disk are not counted. A filter takes all that are free, one at the least; while it
    waits for one, no other task begins.

    Parameters
    ----------
    threads : int
    """

    def __init__(self, threads: int) -> None:
        self.threads = self._free = threads
        self._filters = 0  # that wait
        self._changed = threading.Condition()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="separable-stream")

    def start(self, tasks: Iterable[Chore]) -> Batch:
        """Begin tasks, in their order."""
        return Batch([self._pool.submit(self._run, task) for task in tasks])

    def _run(self, task: Chore) -> None:
        data = task.wait()
        with self._changed:
            self._changed.wait_for(lambda: self._free > 0 and not self._filters)
            self._free -= 1
        try:
            task.work(data)
        finally:
            self._give_back(1)

    @contextmanager
    def most(self) -> Iterator[int]:
        """Yield how many threads may be taken: all that are free, one at the least."""
        with self._changed:
            self._filters += 1
            try:
                self._changed.wait_for(lambda: self._free > 0)
            finally:
                self._filters -= 1
            count, self._free = self._free, 0
        try:
            yield count
        finally:
            self._give_back(count)

    def _give_back(self, count: int) -> None:
        with self._changed:
            self._free += count
            self._changed.notify_all()

    def close(self) -> None:
        """Drop what was not begun, and end the threads."""
        self._pool.shutdown(wait=True, cancel_futures=True)
