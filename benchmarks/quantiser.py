"""Static quantisation of ONNX files by ONNX Runtime: QDQ, scales from calibration inputs."""

from __future__ import annotations

import importlib
import logging
import warnings
from pathlib import Path
from typing import Any, Final

import numpy.typing as npt

from benchmarks import libraries

BATCH: Final = 64

Array = npt.NDArray[Any]


def quantise(
    path: Path,
    target: Path,
    inputs: Array,
    *,
    per_channel: bool,
    reduce_range: bool = False,
    batch: int = BATCH,
) -> None:
    """Write a model of one input in eight bits beside another, with scales from calibration inputs.

    Parameters
    ----------
    per_channel
        Weights have a scale for each output channel.
    reduce_range
        Weights take seven bits, as ONNX Runtime advises for processors without VNNI.
    """
    level = logging.root.level
    logging.root.setLevel(logging.ERROR)  # it asks for what is done already
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            quantization = importlib.import_module("onnxruntime.quantization")
            shapes = importlib.import_module("onnxruntime.quantization.shape_inference")
            ready = path.with_name("ready.onnx")
            shapes.quant_pre_process(path, ready, skip_symbolic_shape=True)
            name = libraries.load("onnx").load(ready).graph.input[0].name
            quantization.quantize_static(
                ready,
                target,
                _Reader(name, inputs, batch),
                quant_format=quantization.QuantFormat.QDQ,
                per_channel=per_channel,
                reduce_range=reduce_range,
            )
    finally:
        logging.root.setLevel(level)


class _Reader:
    """Batches for the quantiser, by the name of the model's input."""

    def __init__(self, name: str, x: Array, batch: int) -> None:
        self._batches = iter([{name: x[start : start + batch]} for start in range(0, len(x), batch)])

    def get_next(self) -> dict[str, Array] | None:
        """Return the next batch; None at the end."""
        return next(self._batches, None)
