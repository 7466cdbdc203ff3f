"""What a model is called where something is wrong with it, and names within it that people can read."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from onnx.onnx_ml_pb2 import ModelProto, TensorProto, ValueInfoProto

from ..._base.extras import MissingExtraError
from ...files.guard import FileError

__all__ = ["ModelError", "in_short", "legible", "name_of", "naming"]

# How ONNX Runtime begins what it says: [ONNXRuntimeError] : 10 : INVALID_GRAPH : ...
_PREAMBLE: Final = re.compile(r"^\[ONNXRuntimeError\] : \d+ : ([A-Z_]+) : ")

_LONGEST: Final = 600  # characters of what a library says: some print the whole graph


class ModelError(ValueError):
    """What is wrong with a model; whoever knows which one it is says so (see `naming`)."""


def name_of(source: object, graph: str) -> str:
    """Return what people call a model: its file's name, or its graph's where it comes from no file.

    Parameters
    ----------
    source : path-like or ModelProto
    graph : str
        The graph's name, which exporters fill with words of their own.

    Returns
    -------
    str
    """
    named = Path(source).stem if isinstance(source, (str, os.PathLike)) else graph
    return named or "ONNX model"


@contextmanager
def naming(source: object, doing: str | None = None) -> Iterator[None]:
    """Name the model in what goes wrong with it in the block.

    Parameters
    ----------
    source : path-like or ModelProto
    doing : str, optional
        What becomes of the model in a block that looks at nothing else, such as "counted". A model may say
        anything: whatever is raised there is an error of the model, with its cause. By default only what is
        known to be wrong with the model is named so.

    Raises
    ------
    FileError
        If the model came from a file.
    ValueError
        If it did not.
    """
    try:
        yield
    except (FileError, MissingExtraError, MemoryError):
        raise
    except ModelError as error:
        raise _of(source, f"{error}") from error
    except Exception as error:
        if doing is None:
            raise
        reason = f"{type(error).__name__}: {in_short(error)}"
        raise _of(
            source,
            f"it cannot be {doing} ({reason}); onnx.checker.check_model(..., full_check=True) may tell why.",
        ) from error


def _of(source: object, message: str) -> ValueError:
    if isinstance(source, (str, os.PathLike)):
        return FileError(f"`{os.fspath(source)}`: {message}")
    return ValueError(f"`path_or_model`: {message}")


def in_short(error: BaseException) -> str:
    """Return what a library says, on one line, without its own preamble."""
    said = _PREAMBLE.sub(r"\1: ", " ".join(str(error).split()))
    return said if len(said) <= _LONGEST else f"{said[:_LONGEST]} ..."


def legible(model: ModelProto) -> ModelProto:
    r"""Return a model whose text is text: what is not UTF-8 is written with escapes, such as ``conv\xff``.

    The format asks for UTF-8, and files do not always hold it; protobuf gives such fields as bytes. Names
    that differ go on to differ.

    Parameters
    ----------
    model : ModelProto
        It is not changed.

    Returns
    -------
    ModelProto
        `model` itself where there is nothing to do.
    """
    if _is_legible(model):
        return model
    changed = ModelProto()
    changed.CopyFrom(model)
    texts = list(_texts(changed))
    taken = {value for _, _, value in texts if isinstance(value, str)}
    escaped: dict[bytes, str] = {}
    for holder, place, value in texts:
        if isinstance(value, str):
            continue
        if value not in escaped:
            text = value.decode("utf-8", "backslashreplace")
            while text in taken:
                text += "'"
            taken.add(text)
            escaped[value] = text
        if isinstance(place, str):
            setattr(holder, place, escaped[value])
        else:
            holder[place] = escaped[value]
    return changed


def _is_legible(message: Any) -> bool:
    """Whether all texts in a message are text: the same as by `_texts`, in less time."""
    if isinstance(message, TensorProto):  # whose list of fields would hold a copy of its data
        own: tuple[object, ...] = (message.name, message.doc_string)
        return all(isinstance(text, str) for text in own) and all(
            map(_is_legible, (*message.external_data, *message.metadata_props))
        )
    if isinstance(message, ValueInfoProto):  # of which exporters write hundreds
        shape = message.type.tensor_type.shape.dim
        plain = (message.name, message.doc_string, message.type.denotation)
        if not all(isinstance(text, str) for dim in shape for text in (dim.dim_param, dim.denotation)):
            return False
        if message.type.HasField("tensor_type") and not message.metadata_props:
            return all(isinstance(text, str) for text in plain)
    for entry, value in message.ListFields():
        if isinstance(value, (str, int, float)):
            continue
        if isinstance(value, Message):
            legible_within = _is_legible(value)
        elif entry.type == FieldDescriptor.TYPE_MESSAGE:
            legible_within = all(map(_is_legible, value))
        elif entry.type == FieldDescriptor.TYPE_STRING:
            legible_within = not isinstance(value, bytes) and all(isinstance(text, str) for text in value)
        else:
            continue
        if not legible_within:
            return False
    return True


def _texts(message: Any) -> Iterator[tuple[Any, str | int, str | bytes]]:
    """Yield every text in a message: what holds it, under which name or number, and what it is."""
    texts, messages = _fields(message.DESCRIPTOR)
    for name in texts:
        value = getattr(message, name)
        if isinstance(value, (str, bytes)):
            yield message, name, value
        else:
            yield from ((value, place, text) for place, text in enumerate(value))
    for name in messages:
        value = getattr(message, name)
        if not hasattr(value, "DESCRIPTOR"):
            for text in value:
                yield from _texts(text)
        elif message.HasField(name):
            yield from _texts(value)


@functools.cache
def _fields(kind: Descriptor) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the fields of a kind of message that hold text, and those that hold messages."""
    return (
        tuple(entry.name for entry in kind.fields if entry.type == FieldDescriptor.TYPE_STRING),
        tuple(entry.name for entry in kind.fields if entry.type == FieldDescriptor.TYPE_MESSAGE),
    )
