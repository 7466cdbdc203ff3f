"""The bytes of one chunk, made and read by numcodecs as the metadata of an array of zarr say."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np

from ..._base.types import Array

_SHUFFLES: Final = {"noshuffle": 0, "shuffle": 1, "bitshuffle": 2}
_NATIVE: Final = "<" if sys.byteorder == "little" else ">"
_ENDIAN: Final = {"little": "<", "big": ">"}


@dataclass(frozen=True)
class ChunkCodec:
    """How the samples of a chunk are stored.

    Attributes
    ----------
    shape : tuple of int
        Of a chunk; one at the end of an axis is as large.
    stored : dtype
        Of the samples, with their byte order.
    order : {"C", "F"}
        In which they follow each other.
    stages : tuple of codecs
        Of numcodecs, in the order of encoding.
    fill : bytes
        The sample of chunks that are not stored.
    """

    shape: tuple[int, ...]
    stored: np.dtype[Any]
    order: Literal["C", "F"]
    stages: tuple[Any, ...]
    fill: bytes

    @property
    def nbytes(self) -> int:
        """Bytes of a decoded chunk."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.stored.itemsize

    def empty(self) -> Array:
        """Return memory for a chunk."""
        return np.empty(self.shape, self.stored, self.order)

    def filled(self) -> Array:
        """Return one sample of those that are not stored."""
        return np.frombuffer(self.fill, self.stored)[0]  # type: ignore[no-any-return]

    def decode(self, data: Any, into: Array) -> None:
        """Fill a chunk's memory; ValueError where there are too few bytes, or too many."""
        flat = into.reshape(-1, order=self.order).view(np.uint8)
        for number in range(len(self.stages) - 1, -1, -1):
            if number:
                data = self.stages[number].decode(data)
            else:
                made = self.stages[0].decode(data, flat)
                if made is not None and np.size(made) != flat.size:
                    raise ValueError(f"a chunk has {np.size(made)} bytes instead of {flat.size}")
        if not self.stages:
            samples = np.frombuffer(data, np.uint8)
            if samples.size != flat.size:
                raise ValueError(f"a chunk has {samples.size} bytes instead of {flat.size}")
            flat[...] = samples

    def encode(self, chunk: Array) -> Any:
        """Return the bytes of a chunk, in its memory where none is compressed; None where all is `fill`."""
        flat = chunk.reshape(-1, order=self.order)
        if self._is_fill(flat):
            return None
        data: Any = flat
        for stage in self.stages:
            data = stage.encode(data)
        return flat.view(np.uint8).data if data is flat else data

    def _is_fill(self, samples: Array) -> bool:
        if samples[:1].tobytes() != self.fill or samples[-1:].tobytes() != self.fill:
            return False
        pattern = np.frombuffer(self.fill, np.uint8)
        return bool((samples.view(np.uint8).reshape(-1, len(pattern)) == pattern).all())


def codec_of(array: Any) -> tuple[ChunkCodec, dict[str, Any] | None] | None:
    """Return how chunks of an array of zarr are stored, and how shards hold them; None where we do not know.

    What we do not know zarr itself reads and writes: codecs of other packages, say.
    """
    content = array.metadata.to_dict()
    if content["zarr_format"] == 2:
        return _of_format_2(array, content)
    codecs = [_named(codec) for codec in content["codecs"]]
    shards = None
    if len(codecs) == 1 and codecs[0][0] == "sharding_indexed":
        shards = codecs[0][1]
        codecs = [_named(codec) for codec in shards["codecs"]]
    regular = _named(content["chunk_grid"])[0] == "regular"
    if not codecs or codecs[0][0] != "bytes" or not regular or content.get("storage_transformers"):
        return None
    stored = np.dtype(array.dtype).newbyteorder(_ENDIAN.get(codecs[0][1].get("endian", ""), _NATIVE))
    stages = [_stage(name, how, stored.itemsize) for name, how in codecs[1:]]
    if None in stages:
        return None
    return ChunkCodec(_lengths(array), stored, "C", tuple(stages), _fill(array, stored)), shards


def _of_format_2(array: Any, content: dict[str, Any]) -> tuple[ChunkCodec, None] | None:
    import numcodecs

    stored = np.dtype(array.dtype)
    stages = []
    for config in [*(content.get("filters") or ()), content.get("compressor")]:
        if config is None:
            continue
        if not isinstance(config, dict) or config.get("id") not in ("blosc", "zstd", "gzip", "zlib", "lz4"):
            return None
        stages.append(numcodecs.get_codec(dict(config)))
    order: Literal["C", "F"] = "F" if content.get("order") == "F" else "C"
    return ChunkCodec(_lengths(array), stored, order, tuple(stages), _fill(array, stored)), None


def _stage(name: str, how: dict[str, Any], itemsize: int) -> Any:
    """Return the codec of numcodecs for one of zarr's format 3; None for one that is not known here."""
    import numcodecs
    from numcodecs.checksum32 import CRC32C

    if name == "zstd":
        return numcodecs.Zstd(level=how.get("level", 0), checksum=how.get("checksum", False))
    if name == "gzip":
        return numcodecs.GZip(level=how.get("level", 5))
    if name == "crc32c":
        return CRC32C(location="end")
    if name == "blosc" and how.get("shuffle", "noshuffle") in _SHUFFLES:
        config = {key: how[key] for key in ("cname", "clevel", "blocksize") if key in how}
        return numcodecs.Blosc(**config, shuffle=_SHUFFLES[how.get("shuffle", "noshuffle")])
    return None


def _named(codec: Any) -> tuple[str, dict[str, Any]]:
    content = codec if isinstance(codec, dict) else codec.to_dict()
    return str(content["name"]), dict(content.get("configuration") or {})


def _lengths(array: Any) -> tuple[int, ...]:
    return tuple(int(n) for n in array.chunks)


def _fill(array: Any, stored: np.dtype[Any]) -> bytes:
    value = array.fill_value
    return np.asarray(0 if value is None else value).astype(stored).tobytes()
