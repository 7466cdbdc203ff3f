"""A model without the bytes of its large tensors, and where in its file these lie.

Protobuf would hold all of them at once, and copy each that it is asked for. What is skipped here is written
as protobuf's encoding says (protobuf.dev, "Encoding"): fields of a tag (number and kind), and a length where
the kind is 2. A file that says something unusual, or is damaged, is left to protobuf, which says what is
wrong with it.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

import numpy as np
from google.protobuf.message import DecodeError
from onnx.onnx_ml_pb2 import GraphProto, ModelProto, TensorProto

__all__ = ["BESIDE", "DESCRIPTION", "SMALL", "ByteRange", "skimmed"]

# Tensors of fewer elements stay in the model: shape inference reads some of them.
SMALL: Final = 256

# What is kept beside the model: types that NumPy and ONNX Runtime hold alike.
BESIDE: Final[Mapping[int, np.dtype[Any]]] = {
    TensorProto.FLOAT: np.dtype("<f4"),
    TensorProto.DOUBLE: np.dtype("<f8"),
    TensorProto.FLOAT16: np.dtype("<f2"),
    TensorProto.INT8: np.dtype("i1"),
    TensorProto.UINT8: np.dtype("u1"),
    TensorProto.INT32: np.dtype("<i4"),
}

# What a tensor has beside its data.
DESCRIPTION: Final = ("name", "data_type", "dims", "doc_string", "metadata_props")

_GRAPH: Final = ModelProto.GRAPH_FIELD_NUMBER
_INITIALIZER: Final = GraphProto.INITIALIZER_FIELD_NUMBER
_RAW_DATA: Final = TensorProto.RAW_DATA_FIELD_NUMBER

_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5  # the kinds of fields
_FIXED: Final = {_EIGHT_BYTES: 8, _FOUR_BYTES: 4}
_LONGEST: Final = 10  # bytes of a number
_HEAD: Final = 2 * _LONGEST  # of a field: its tag and its length


class ByteRange(NamedTuple):
    """Where a tensor's bytes lie in a file."""

    offset: int
    length: int


@dataclass(frozen=True)
class _WireField:
    """A field of a message: its bytes are [start, end), those of its value [value, end)."""

    number: int
    kind: int
    start: int
    value: int
    end: int


class _UnusualError(Exception):
    """The file is none that this reader knows."""


def skimmed(path: Path) -> tuple[ModelProto, dict[int, ByteRange]] | None:
    """Return a model, and the places of those of its initializers that it does not hold.

    Parameters
    ----------
    path : Path
        An .onnx file.

    Returns
    -------
    model : ModelProto
        All but the bytes of large tensors of the types in `BESIDE`.
    places : dict of int to ByteRange
        By the initializer's number; as many bytes as its shape and type take.

    None where protobuf should read the file.
    """
    with path.open("rb") as stream:
        try:
            return _skimmed(stream, os.fstat(stream.fileno()).st_size)
        except (_UnusualError, DecodeError):
            return None


def _skimmed(stream: BinaryIO, size: int) -> tuple[ModelProto, dict[int, ByteRange]]:
    shell = io.BytesIO()  # the fields of the model but its graph
    graph = b""
    places: dict[int, ByteRange] = {}
    graphs = 0
    for field in _fields(stream, 0, size):
        if field.number != _GRAPH:
            shell.write(_bytes(stream, field.start, field.end))
            continue
        graphs += 1
        if field.kind != _BYTES or graphs > 1:
            raise _UnusualError
        graph = _read_graph(stream, field, places)
    if graphs == 0:
        raise _UnusualError
    model = ModelProto.FromString(shell.getvalue())
    model.graph.ParseFromString(graph)
    return model, places


def _read_graph(stream: BinaryIO, field: _WireField, places: dict[int, ByteRange]) -> bytes:
    """Return a graph's bytes without those of its large tensors, whose places are noted."""
    kept = io.BytesIO()
    number = 0
    start = field.value  # of what is kept as it is, and read at once
    for part in _fields(stream, field.value, field.end):
        if part.number == _INITIALIZER and part.kind == _BYTES:
            number += 1
            apart = _read_tensor(stream, part)
            if apart is not None:
                tensor, places[number - 1] = apart
                kept.write(_bytes(stream, start, part.start))
                kept.write(_varint(_INITIALIZER << 3 | _BYTES) + _varint(len(tensor)) + tensor)
                start = part.end
    kept.write(_bytes(stream, start, field.end))
    return kept.getvalue()


def _read_tensor(stream: BinaryIO, field: _WireField) -> tuple[bytes, ByteRange] | None:
    """Return a tensor's bytes without its data, and where these lie; None if it has to keep them."""
    if field.end - field.value < SMALL:
        return None
    kept = io.BytesIO()
    place = None
    for part in _fields(stream, field.value, field.end):
        if part.number != _RAW_DATA:
            if part.end - part.start >= SMALL * 8:
                return None  # numbers in a list
            kept.write(_bytes(stream, part.start, part.end))
        elif place is not None or part.kind != _BYTES:
            raise _UnusualError
        else:
            place = ByteRange(part.value, part.end - part.value)
    if place is None:
        return None
    tensor = TensorProto.FromString(kept.getvalue())
    dtype = BESIDE.get(tensor.data_type)
    count = math.prod(tensor.dims)
    if dtype is None or count < SMALL or place.length != count * dtype.itemsize:
        return None
    if min(tensor.dims) < 0 or any(part.name not in DESCRIPTION for part, _ in tensor.ListFields()):
        return None
    return kept.getvalue(), place


def _fields(stream: BinaryIO, start: int, end: int) -> Iterator[_WireField]:
    """Return the fields of the message in bytes [start, end)."""
    while start < end:
        stream.seek(start)
        head = stream.read(_HEAD)
        tag, used = _read_varint(head, 0)
        kind, value = tag & 7, start + used
        if kind == _VARINT:
            stop = start + _read_varint(head, used)[1]
        elif kind == _BYTES:
            length, used = _read_varint(head, used)
            value = start + used
            stop = value + length
        elif kind in _FIXED:
            stop = value + _FIXED[kind]
        else:
            raise _UnusualError
        if stop > end:
            raise _UnusualError
        yield _WireField(tag >> 3, kind, start, value, stop)
        start = stop


def _read_varint(head: bytes, place: int) -> tuple[int, int]:
    """Return the number that starts at a byte, and the place behind it."""
    number = 0
    for i, byte in enumerate(head[place : place + _LONGEST]):
        number |= (byte & 0x7F) << 7 * i
        if byte < 0x80:
            return number, place + i + 1
    raise _UnusualError


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number >= 0x80:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _bytes(stream: BinaryIO, start: int, end: int) -> bytes:
    stream.seek(start)
    data = stream.read(end - start)
    if len(data) != end - start:
        raise _UnusualError
    return data
