"""What the exercises about networks work with: a small trained network, and inputs for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .._base.extras import extra
from .._base.types import Array
from ..demo.network import SQUARE, trained_bytes
from ..filters.verbs import gaussian

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["network", "reference", "squares"]


def network() -> ModelProto:
    """Return the network of the demo, which tells brick, grass and gravel apart, as an ONNX model.

    Raises
    ------
    MissingExtraError
        If onnx or onnxruntime is not installed.
    """
    with extra("onnx"):
        import onnx
        import onnxruntime  # noqa: F401

    return onnx.load_from_string(trained_bytes())


def squares(count: int, seed: int) -> Array:
    """Return textures such as the network reads, of three grains, one of them with a direction.

    Returns
    -------
    ndarray, shape ``(count, 1, 20, 20)``, float32, about -0.5 to 0.5
    """
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((count, SQUARE, SQUARE))
    grains = ((0.0, 0.7, 0.7), (0.0, 1.5, 0.5), (0.0, 1.2, 2.5))
    parts = [gaussian(noise[n::3], sigma=grain) for n, grain in enumerate(grains)]
    x = np.empty((count, 1, SQUARE, SQUARE), np.float32)
    for n, part in enumerate(parts):
        spread = part.std(axis=(1, 2), keepdims=True)
        x[n::3, 0] = 0.15 * part / spread + rng.uniform(-0.15, 0.15, (len(part), 1, 1))
    return x


def reference(model: ModelProto, x: Array) -> Array:
    """Return what ONNX Runtime gives for a model of one input and one output, on one thread."""
    with extra("onnx"):
        import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return np.asarray(session.run(None, {session.get_inputs()[0].name: x})[0])
