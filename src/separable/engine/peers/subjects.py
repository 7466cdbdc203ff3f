"""Models to be measured: read, with inputs and the outputs that are expected, in groups that memory holds."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from onnx.onnx_ml_pb2 import ModelProto

from ..._base.types import Array
from ...conv.conversion.network import Progress
from ...files.guard import physical_memory
from ...onnx.model.agreement import random_inputs
from ...onnx.model.files import read_model
from ...onnx.model.graph import GraphIndex
from ...onnx.model.lengths import input_shapes
from ...onnx.model.names import ModelError, name_of, naming
from .request import BenchRequest
from .runtimes import ReadyModel, reference_outputs

__all__ = ["Subject", "groups_of", "reason_of", "subjects_of"]

_COPIES: Final = 3  # of its weights that a runtime may hold at once
_SHARE: Final = 0.25  # of the machine's memory that models may take which are timed together


@dataclass
class Subject:
    """A model that could be read, and what became of it so far."""

    source: Any
    name: str
    feeds: dict[str, Array]
    size: int
    wanted: list[Array] | None
    notes: tuple[str, ...] = ()
    macs: int | None = None
    ready: dict[tuple[int, str], ReadyModel] = field(default_factory=dict)
    left_out: dict[str, None] = field(default_factory=dict)


def subjects_of(
    sources: Sequence[Any], setting: BenchRequest, failed: dict[int, tuple[str, Exception]], show: Progress
) -> dict[int, Subject]:
    """Return the models that can be read, by place; say of the others why not."""
    subjects = {}
    for place, source in enumerate(sources):
        name = _name(source)
        show(place, len(sources), f"reading {name}")
        try:
            subjects[place] = _subject(source, name, setting)
        except (ValueError, TypeError, OSError, MemoryError) as error:
            failed[place] = name, error
    return subjects


def _name(source: Any) -> str:
    """Return a file's path as it was given, or the name of a model."""
    if isinstance(source, (str, os.PathLike)):
        return str(os.fspath(source))
    return name_of(source, str(source.graph.name) if isinstance(source, ModelProto) else "")


def _subject(source: Any, name: str, setting: BenchRequest) -> Subject:
    with naming(source):
        stored = read_model(source)
        lengths = input_shapes(GraphIndex(stored).given(), setting.shapes, batch=setting.batch)
        if setting.batch != 1 and not any(shape[:1] == (setting.batch,) for shape in lengths.values()):
            raise ValueError(
                f"`batch={setting.batch}`, but no input of the model has a first axis of that length to give."
            )
        feeds = random_inputs(stored, lengths)
    size = stored.proto.ByteSize() + sum(array.nbytes for array in stored.tensors.values())
    try:
        wanted = list(reference_outputs(source, feeds).values())
    except ModelError as error:
        return Subject(source, name, feeds, size, None, (f"error not measured: {error}",))
    return Subject(source, name, feeds, size, wanted)


def groups_of(subjects: Mapping[int, Subject], setting: BenchRequest) -> list[dict[int, Subject]]:
    """Return models that are timed together: all of them, or as many as the memory holds."""
    limit = _SHARE * (physical_memory() or float("inf"))
    rows = _COPIES * len(setting.runtimes) * len(setting.threads)
    groups: list[dict[int, Subject]] = []
    for place, subject in subjects.items():
        taken = sum(other.size for other in groups[-1].values()) if groups else 0
        if not groups or rows * (taken + subject.size) > limit:
            groups.append({})
        groups[-1][place] = subject
    return groups


def reason_of(name: str, error: Exception) -> str:
    """Return what is wrong with a model; it names the model."""
    said = str(error).rstrip(".") or type(error).__name__
    return said if name in said else f"`{name}`: {said}"
