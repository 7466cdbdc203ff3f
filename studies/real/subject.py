"""A network with the inputs it is calibrated on, and those that judge it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from onnx import ModelProto

from benchmarks import libraries, machine

BATCH: Final = 8  # inputs run at a time, where a model takes several

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Subject:
    """A trained network and its pictures.

    Attributes
    ----------
    name : str
    source : str
        Where the network and its pictures come from.
    score : str
        What `scores` holds, as a heading.
    model : ModelProto
        Of one input, and one output that is judged: its first.
    calibration, held_out : ndarray, shape ``(N, ...)``
        Pictures, as the model takes them. None is among both.
    scores : callable
        Of the outputs for `held_out`; returns a number from 0 to 1 for each of these.
    budgets : tuple of float
        Of the time that the original takes.
    """

    name: str
    source: str
    score: str
    model: ModelProto
    calibration: Array
    held_out: Array
    scores: Callable[[Array], Array]
    budgets: tuple[float, ...]

    @property
    def input(self) -> str:
        """The name of the input."""
        return input_of(self.model)

    def scored(self, model: ModelProto) -> Array:
        """Return the scores of a network in place of the original, run by ONNX Runtime."""
        return np.asarray(self.scores(outputs(model, self.held_out)), float)


def input_of(model: ModelProto) -> str:
    """Return the name of a model's input."""
    return str(model.graph.input[0].name)


def outputs(model: ModelProto, pictures: Array) -> Array:
    """Return a model's first output for all pictures, run by ONNX Runtime on all threads."""
    run = session(model, machine.usable_cores())
    size = 1 if model.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 1 else BATCH
    parts = [
        run({input_of(model): pictures[start : start + size]})[0] for start in range(0, len(pictures), size)
    ]
    return np.concatenate(parts)


def session(model: ModelProto, threads: int = 1) -> Callable[[dict[str, Array]], Sequence[Array]]:
    """Return a model as ONNX Runtime runs it."""
    runtime = libraries.load("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    made = runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def run(feeds: dict[str, Array]) -> Sequence[Array]:
        return list(made.run(None, feeds))

    return run
