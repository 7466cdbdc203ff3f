"""Shards of zarr's format 3: chunks one after the other in a file, and an index of their places."""

from __future__ import annotations

import math
import os
from collections import OrderedDict
from collections.abc import Callable, Iterable
from threading import Lock
from typing import Any, Final, NamedTuple

import numpy as np

from ..._base.types import Array
from ..system.offsets import fill_from
from .grid import Index

_ABSENT: Final = 2**64 - 1
_REMEMBERED: Final = 1 << 22  # bytes of indices


class ShardLayout(NamedTuple):
    """How a shard holds its chunks: how many, whether the index has a check sum, and is in front."""

    counts: tuple[int, ...]
    checked: bool
    in_front: bool

    @property
    def index_bytes(self) -> int:
        """Bytes of the index in the file."""
        return 16 * math.prod(self.counts) + 4 * self.checked

    def read_index(self, handle: int) -> Array:
        """Return place and length of each chunk in an open file; ValueError where they are damaged."""
        size = os.fstat(handle).st_size
        data = bytearray(self.index_bytes)
        place = 0 if self.in_front else size - len(data)
        if place < 0 or fill_from(handle, memoryview(data), place) < len(data):
            raise ValueError(f"a shard has {size} bytes, and its index {len(data)}")
        body = bytes(data[: len(data) - 4 * self.checked])
        if self.checked and _sum(body) != data[-4:]:
            raise ValueError("the index of a shard has another check sum")
        return np.frombuffer(body, "<u8").reshape(*self.counts, 2)

    def assembled(self, chunks: Iterable[tuple[Index, Any]]) -> list[Any] | None:
        """Return what is written to a shard's file, one after the other; None where all chunks are empty."""
        index = np.full((*self.counts, 2), _ABSENT, "<u8")
        parts, place = [], self.index_bytes if self.in_front else 0
        for number, data in chunks:
            if data is not None:
                size = memoryview(data).nbytes
                index[number] = place, size
                parts.append(data)
                place += size
        if not parts:
            return None
        body = index.tobytes()
        body += _sum(body) if self.checked else b""
        return [body, *parts] if self.in_front else [*parts, body]


def layout_of(shards: dict[str, Any], counts: tuple[int, ...]) -> ShardLayout | None:
    """Return the layout that `sharding_indexed` is configured for; None for one that is not known here."""
    codecs = [codec if isinstance(codec, dict) else codec.to_dict() for codec in shards["index_codecs"]]
    names = [codec["name"] for codec in codecs]
    little = bool(codecs) and (codecs[0].get("configuration") or {}).get("endian", "little") == "little"
    location = getattr(shards.get("index_location", "end"), "value", shards.get("index_location", "end"))
    if names not in (["bytes"], ["bytes", "crc32c"]) or not little or location not in ("start", "end"):
        return None
    return ShardLayout(counts, len(names) == 2, location == "start")


class ShardIndices:
    """The indices of the shards that were read last.

    Parameters
    ----------
    layout : ShardLayout
    open_ : callable
        Given a shard, returns its open file; FileNotFoundError where there is none.
    """

    def __init__(self, layout: ShardLayout, open_: Callable[[Index], int]) -> None:
        self._layout, self._open = layout, open_
        self._most = max(16, _REMEMBERED // layout.index_bytes)
        self._kept = OrderedDict[Index, "Array | None"]()
        self._lock = Lock()

    def place_of(self, index: Index) -> tuple[Index, int, int] | None:
        """Return the shard of a chunk, and place and length in its file; None where it is not stored."""
        counts = self._layout.counts
        shard = tuple(i // n for i, n in zip(index, counts, strict=True))
        with self._lock:
            known, places = shard in self._kept, self._kept.get(shard)
        if not known:
            places = self._read(shard)
        if places is None:
            return None
        place, size = map(int, places[tuple(i % n for i, n in zip(index, counts, strict=True))])
        return None if place == _ABSENT else (shard, place, size)

    def _read(self, shard: Index) -> Array | None:
        places = None
        try:
            handle = self._open(shard)
        except FileNotFoundError:
            pass
        else:
            try:
                places = self._layout.read_index(handle)
            finally:
                os.close(handle)
        with self._lock:
            self._kept[shard] = places
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
        return places


def _sum(data: bytes) -> bytes:
    from numcodecs.checksum32 import CRC32C

    return int(CRC32C.checksum(data)).to_bytes(4, "little")
