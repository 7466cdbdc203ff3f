"""Whether a model as it was read gives what ONNX Runtime makes of the original, on one random batch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx.onnx_ml_pb2 import ModelProto

from ..._base.types import Array
from .files import Stored
from .graph import GraphIndex
from .lengths import Hints, input_shapes
from .names import ModelError
from .runtime import Session
from .sizes import check_fits

__all__ = ["differences", "random_inputs"]


def random_inputs(stored: Stored, hints: Hints | None = None, seed: int = 0) -> dict[str, Array]:
    """Return a random batch of inputs: normal numbers, small whole numbers, truth values.

    Parameters
    ----------
    stored : Stored
    hints : str, sequence, or mapping, optional
        Open lengths, as :func:`input_shapes` takes them.
    seed : int, optional

    Returns
    -------
    dict of str to ndarray
    """
    numbers = np.random.default_rng(seed)
    inputs = GraphIndex(stored).given()
    batch: dict[str, Array] = {}
    for info, shape in zip(inputs, input_shapes(inputs, hints).values(), strict=True):
        element = info.type.tensor_type.elem_type
        try:
            dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(element))
        except KeyError:
            raise ModelError(f"input `{info.name}` is no tensor of numbers.") from None
        check_fits(f"input `{info.name}`", shape, int(np.prod(shape, dtype=object)) * dtype.itemsize)
        values = numbers.integers(0, 2, shape) if dtype.kind in "biu" else numbers.standard_normal(shape)
        batch[info.name] = np.asarray(values).astype(dtype)
    return batch


def differences(
    original: str | os.PathLike[str] | ModelProto, stored: Stored, feeds: Mapping[str, Array]
) -> dict[str, float]:
    """Return by how much each output differs from what ONNX Runtime makes of the original, nothing fused.

    Parameters
    ----------
    original : path-like or ModelProto
        What `stored` was read from, of an older operator set perhaps.
    stored : Stored
    feeds : mapping of str to ndarray

    Returns
    -------
    dict of str to float
        The largest difference of each output: 0 where all bits are alike, infinity where shapes, types or
        NaNs are not.
    """
    model = original if isinstance(original, ModelProto) else onnx.load(Path(original))
    before = Session(Stored(model, {}), 1, optimised=False)(feeds)
    after = Session(stored, 1, optimised=False)(feeds)
    return {name: _difference(before[name], after[name]) for name in before}


def _difference(before: Array, after: Array) -> float:
    before, after = np.asarray(before), np.asarray(after)
    if before.shape != after.shape or before.dtype != after.dtype:
        return float("inf")
    if before.tobytes() == after.tobytes():
        return 0.0
    with np.errstate(invalid="ignore"):
        apart = np.abs(np.asarray(after, np.float64) - np.asarray(before, np.float64))
    return float("inf") if np.isnan(apart).any() else float(apart.max())
