"""A network of torch in the engine and in ONNX Runtime, and the times of several runs that take turns."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
from onnx import ModelProto
from torch import Tensor, nn

import separable as sp

Floats = npt.NDArray[np.float32]
Run = Callable[[Floats], Floats]
K = TypeVar("K", bound=Hashable)


def exported(net: nn.Module, example: Tensor) -> ModelProto:
    """Return a network as an ONNX model that takes any number of inputs of the example's size."""
    logging.disable(logging.WARNING)  # the exporter says which packages it misses
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what the exporter itself is built of
            made = torch.onnx.export(
                net.eval(),
                (torch.cat([example[:1]] * 2),),
                input_names=["x"],
                output_names=["scores"],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                dynamo=True,
                verbose=False,
            )
    finally:
        logging.disable(logging.NOTSET)
    return made.model_proto


def runtimes(model: ModelProto, shape: tuple[int, ...], threads: int = 1) -> dict[str, Run]:
    """Return a model as it runs in the engine, planned for inputs of that shape, and in ONNX Runtime."""
    program = sp.engine.load(model, {"x": shape}, threads=threads)
    return {"engine": program, "ONNX Runtime": in_onnx_runtime(model, threads)}


def in_onnx_runtime(model: ModelProto, threads: int = 1) -> Run:
    """Return a model as it runs in ONNX Runtime."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name
    return lambda x: session.run(None, {name: x})[0]


def least_times(runs: Mapping[K, Callable[[], Any]], rounds: int) -> dict[K, float]:
    """Return the least seconds that each run took, over some rounds in which they take turns.

    They are those of the thread that calls: neither what else the machine does is counted, nor what other
    threads do for a run.
    """
    least = dict.fromkeys(runs, float("inf"))
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.thread_time()
            run()
            least[name] = min(least[name], time.thread_time() - start)
    return least
