"""Bytes of chunks, read from the disk before they are asked for."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock
from typing import Any, Final, NamedTuple

import numpy as np

from ..._base.types import Array

_READERS: Final = 4  # threads that wait for the disk
_DEPTHS: Final = (3, 8)  # the fewest and the most chunks ahead
_BYTES: Final = 16 << 20  # ahead, where that is more than the fewest chunks


def depth_for(chunk: int) -> int:
    """Return how many chunks of so many bytes are read ahead."""
    return min(max(_BYTES // max(chunk, 1), _DEPTHS[0]), _DEPTHS[1])


class LentBytes(NamedTuple):
    """Bytes in memory that is lent: `give_back` it."""

    memory: Array
    size: int

    @property
    def data(self) -> memoryview:
        """The bytes."""
        return memoryview(self.memory[: self.size])  # type: ignore[arg-type, unused-ignore]


class Buffers:
    """Memory for encoded chunks, used again and again: fresh pages cost as much as reading them.

    Parameters
    ----------
    usual : int
        Bytes that most need at most.
    """

    def __init__(self, usual: int) -> None:
        self._usual, self._free, self._lock = usual, list[Array](), Lock()

    def take(self, size: int) -> LentBytes:
        """Return memory for so many bytes."""
        with self._lock:
            memory = self._free.pop() if self._free else None
        if memory is None or len(memory) < size:
            memory = np.empty(max(size, self._usual), np.uint8)
        return LentBytes(memory, size)

    def give_back(self, held: LentBytes) -> None:
        """Take memory back."""
        with self._lock:
            self._free.append(held.memory)


class ReadAhead:
    """What `read` returns for keys, called before they are asked for, by threads that only wait.

    Parameters
    ----------
    read : callable
    depth : int
        Results that wait at most.
    """

    def __init__(self, read: Callable[[Any], Any], depth: int) -> None:
        self._read, self._depth = read, depth
        self._expected, self._known = deque[Hashable](), set[Hashable]()
        self._coming = dict[Hashable, "Future[Any]"]()
        self._lock = Lock()
        self._pool: ThreadPoolExecutor | None = None

    def expect(self, keys: Iterable[Hashable]) -> None:
        """Read these next, after those that are expected already."""
        with self._lock:
            for key in keys:
                if key not in self._known:
                    self._known.add(key)
                    self._expected.append(key)
            self._begin()

    def _begin(self) -> None:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(_READERS, thread_name_prefix="separable-read-ahead")
        while self._expected and len(self._coming) < self._depth:
            key = self._expected.popleft()
            if key in self._known:
                self._coming[key] = self._pool.submit(self._read, key)

    def expects(self, key: Hashable) -> bool:
        """Return whether a key is expected."""
        with self._lock:
            return key in self._known

    def get(self, key: Hashable) -> Any:
        """Return what was read, when it is there; read it now, where its turn has not come."""
        with self._lock:
            self._known.discard(key)
            future = self._coming.pop(key, None)
            self._begin()
        return self._read(key) if future is None else future.result()

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None
