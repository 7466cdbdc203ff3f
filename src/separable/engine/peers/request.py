"""What is measured of every model in every runtime, as it was asked for: checked before anything is read."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from onnx.onnx_ml_pb2 import ModelProto

from ..._base.words.messages import kind, meant, shown
from ...arrays import arguments
from ...onnx.model.lengths import Hints
from .runtimes import RUNTIMES, Runtime, engine_runtime

__all__ = ["BenchRequest", "chosen", "sources_of", "thread_counts"]


@dataclass(frozen=True)
class BenchRequest:
    """What is measured of every model."""

    shapes: Hints | None
    batch: int
    threads: tuple[int, ...]
    runtimes: tuple[Runtime, ...]
    rounds: int
    fallback: Literal["onnxruntime"] | None
    rest: float
    times_only: bool


def sources_of(models: Any) -> list[Any]:
    """Return the models that are asked for, of which there must be one."""
    if isinstance(models, (str, os.PathLike, ModelProto)):
        return [models]
    try:
        sources = list(models)
    except TypeError:
        raise TypeError(
            f"`models` is {kind(models)}; expected a path, a ModelProto, or a sequence of these."
        ) from None
    if not sources:
        raise ValueError("`models` is empty; expected at least one.")
    return sources


def thread_counts(threads: Any) -> tuple[int, ...]:
    """Return the numbers of threads that are asked for, each once; None takes all cores."""
    if isinstance(threads, str) or not isinstance(threads, (Sequence, np.ndarray)):
        alone: Any = threads
        return (arguments.thread_count(alone),)
    if not len(threads):
        raise ValueError("`threads` is empty; expected at least one number.")
    return tuple(dict.fromkeys(map(arguments.thread_count, threads)))


def chosen(
    names: Sequence[str] | None, fallback: Literal["onnxruntime"] | None
) -> tuple[tuple[Runtime, ...], tuple[str, ...]]:
    """Return the runtimes that are asked for and installed, and the names of those that are not installed."""
    if fallback not in (None, "onnxruntime"):
        raise ValueError(f"`fallback={fallback!r}`; expected 'onnxruntime'.")
    known = {runtime.key: runtime for runtime in (engine_runtime(fallback), *RUNTIMES)}
    if isinstance(names, str) or (names is not None and not isinstance(names, Sequence)):
        raise TypeError(
            f"`runtimes={shown(names)}` is no sequence of names; expected one of {_listed(known)}."
        )
    wrong = [name for name in names or () if name not in known]
    if wrong:
        hint = meant(wrong[0], known)
        raise ValueError(f"`runtimes={wrong[0]!r}`; expected some of {_listed(known)}.{hint}")
    if names is not None and not names:
        raise ValueError(f"`runtimes` is empty; expected some of {_listed(known)}.")
    asked = [known[name] for name in dict.fromkeys(names or known)]
    installed = tuple(runtime for runtime in asked if runtime.installed)
    missing = tuple(runtime.name for runtime in asked if not runtime.installed)
    if not installed:
        raise ValueError(f"`runtimes={asked[0].key!r}`: {', '.join(missing)} is not installed.")
    return installed, missing


def _listed(known: Mapping[str, Runtime]) -> str:
    return ", ".join(map(repr, known))
