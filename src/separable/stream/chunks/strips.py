"""Samples that the next column needs too, kept on the disk: no chunk is decoded twice."""

from __future__ import annotations

import itertools
import math
import tempfile
from collections.abc import Hashable, Sequence
from pathlib import Path
from threading import Lock

import numpy as np

from ..._base.types import Array
from ...arrays.boundaries import Interval
from ..system.offsets import fill_from, write_at


class Strips:
    """Ends of decoded chunks, in a file without a name, which goes with the process.

    Where the disk has no room nothing is kept: chunks are decoded again, then.

    Parameters
    ----------
    reads : sequence of (int, int)
        What each column reads of the axis that columns are cut along, one after the other.
    slot : int
        Bytes of a chunk at most.
    folder : Path
        Where the file lies.
    """

    def __init__(self, reads: Sequence[Interval], slot: int, folder: Path) -> None:
        self._following = dict(itertools.pairwise(reads))
        self._slot, self._lock = slot, Lock()
        self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115
        self._places = dict[Hashable, "tuple[int, int]"]()  # where it is, and its first index
        self._coming = set[Hashable]()
        self._free, self._slots = list[int](), 0

    def first_needed(self, columns: Interval, chunk: Interval) -> int | None:
        """Return from which index on the column after this one needs a chunk; None where it does not."""
        following = self._following.get(columns)
        if following is None or chunk[1] <= following[0] or chunk[0] >= following[1]:
            return None
        return max(following[0], chunk[0])

    def expect(self, key: Hashable) -> None:
        """Know that `keep` is called for a chunk, when it is decoded: nobody need read it ahead."""
        with self._lock:
            self._coming.add(key)

    def holds(self, key: Hashable) -> bool:
        """Return whether samples of a chunk are kept, or will be."""
        with self._lock:
            return key in self._places or key in self._coming

    def keep(self, key: Hashable, samples: Array, first: int) -> None:
        """Keep samples of a chunk, which begin at an index of it."""
        data = np.ascontiguousarray(samples).reshape(-1).view(np.uint8)
        with self._lock:
            self._coming.discard(key)
            if key in self._places:
                return
            slot = self._free.pop() if self._free else self._slots
            self._slots = max(self._slots, slot + 1)
        try:
            write_at(self._file.fileno(), memoryview(data), slot * self._slot)  # type: ignore[arg-type, unused-ignore]
        except OSError:
            with self._lock:
                self._free.append(slot)
            return
        with self._lock:
            self._places[key] = slot, first

    def take(self, key: Hashable, chunk: Array, axis: int, last: bool) -> tuple[Array, int] | None:
        """Return kept samples and the index in their chunk at which they begin; None where there are none.

        Parameters
        ----------
        key : hashable
        chunk : ndarray
            Memory for the whole chunk, which is used.
        axis : int
            That columns are cut along.
        last : bool
            Whether no other column needs them.
        """
        with self._lock:  # while it is read nobody else gets its place
            if key not in self._places:
                return None
            slot, first = self._places[key]
            shape = list(chunk.shape)
            shape[axis] -= first
            count = math.prod(shape) * chunk.itemsize
            flat = chunk.reshape(-1, order="A").view(np.uint8)[:count]
            if fill_from(self._file.fileno(), memoryview(flat), slot * self._slot) < count:  # type: ignore[arg-type, unused-ignore]
                return None
            if last:
                del self._places[key]
                self._free.append(slot)
        return flat.view(chunk.dtype).reshape(shape), first

    def close(self) -> None:
        """Remove the file."""
        self._file.close()
