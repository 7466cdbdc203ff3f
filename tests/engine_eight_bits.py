"""Networks in eight bits for tests: models written by hand, quantised by ONNX Runtime, and exact sums."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

Array = np.ndarray


def model_of(
    nodes: Sequence[tuple[str, Sequence[str], Sequence[str], Mapping[str, Any]]],
    inputs: Mapping[str, Array],
    constants: Mapping[str, Any],
    outputs: Sequence[str] = ("y",),
    opset: int = 21,
) -> Any:
    """Return a model of nodes (operation, inputs, outputs, attributes)."""
    made = []
    for op, read, written, attributes in nodes:
        domain, _, name = op.rpartition("::")
        made.append(helper.make_node(name, read, written, domain=domain, **attributes))
    given = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in inputs.items()
    ]
    ends = [helper.make_empty_tensor_value_info(name) for name in outputs]
    held = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    graph = helper.make_graph(made, "net", given, ends, held)
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=imports)
    model.ir_version = 10
    return onnx.shape_inference.infer_shapes(model)


def int_conv(
    x: Array, x_zero: Any, w: Array, w_zero: Any, stride: int, pad: int, dilation: int, groups: int
) -> Array:
    """Return the sums of a convolution of two axes in 64 bits."""
    less = np.pad(x.astype(np.int64) - int(x_zero), ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    kernel = w.astype(np.int64) - int(w_zero)
    size = (kernel.shape[2] - 1) * dilation + 1
    windows = np.lib.stride_tricks.sliding_window_view(less, (size, size), (2, 3))
    windows = windows[:, :, ::stride, ::stride, ::dilation, ::dilation]
    read, made = x.shape[1] // groups, len(w) // groups
    parts = [
        np.einsum(
            "nchwij,ocij->nohw",
            windows[:, g * read : (g + 1) * read],
            kernel[g * made : (g + 1) * made],
        )
        for g in range(groups)
    ]
    return np.concatenate(parts, 1)


def rounded(y: Array, zero: Any) -> Array:
    """Return the levels of numbers in units of their scale."""
    info = np.iinfo(np.asarray(zero).dtype)
    return np.clip(np.round(y.astype(np.float64)) + int(zero), info.min, info.max).astype(info.dtype)


class LayerNet:
    """A model as it grows, of random weights."""

    def __init__(self, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[Any] = []
        self.constants: dict[str, Array] = {}

    def constant(self, values: Any) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(values, np.float32)
        return name

    def node(self, op: str, *inputs: str, **attributes: Any) -> str:
        name = f"{op.lower()}{len(self.nodes)}"
        self.nodes.append((op, inputs, (name,), attributes))
        return name

    def conv(self, x: str, c_in: int, c_out: int, kernel: int, **more: Any) -> str:
        group, act = more.get("group", 1), more.get("act", "")
        shape = (c_out, c_in // group, kernel, kernel)
        weights = self.random.standard_normal(shape) * np.sqrt(2 / (c_in // group * kernel**2))
        y = self.node(
            *("Conv", x, self.constant(weights), self.constant(0.1 * self.random.standard_normal(c_out))),
            strides=[more.get("stride", 1)] * 2,
            pads=[kernel // 2] * 4,
            kernel_shape=[kernel] * 2,
            group=group,
        )
        if act == "Clip":
            return self.node("Clip", y, self.constant(0), self.constant(6))
        return self.node(act, y) if act else y

    def network(self) -> Any:
        """Return a residual of pointwise and depthwise convolutions, a pool, groups, and a classifier."""
        x = self.conv("x", 3, 16, 3, stride=2, act="Clip")
        y = self.conv(x, 16, 32, 1, act="Clip")
        y = self.conv(y, 32, 32, 3, group=32, act="Clip")
        x = self.node("Add", x, self.conv(y, 32, 16, 1))
        y = self.conv(x, 16, 24, 3, stride=2, act="Relu")
        y = self.node("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2])
        y = self.conv(y, 24, 24, 3, group=3, act="Relu")
        y = self.node("Flatten", self.node("GlobalAveragePool", y))
        weights = self.constant(self.random.standard_normal((24, 10)))
        y = self.node("Gemm", y, weights, self.constant(self.random.standard_normal(10)))
        image = np.zeros((1, 3, 32, 32), np.float32)
        return model_of(self.nodes, {"x": image}, self.constants, (y,), opset=17)


def images(count: int, seed: int = 0) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.standard_normal((1, 3, 32, 32)).astype(np.float32) for _ in range(count)]


def apart(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def squeezed() -> Any:
    """Return a block with squeeze-excite: a mean, a gate, and what the gate scales."""
    net = LayerNet(6)
    x = net.conv("x", 3, 16, 3, stride=2, act="Relu")
    y = net.conv(x, 16, 16, 3, group=16, act="Relu")
    gate = net.node("GlobalAveragePool", y)
    gate = net.node("Sigmoid", net.conv(net.conv(gate, 16, 8, 1, act="Relu"), 8, 16, 1))
    y = net.conv(net.node("Mul", y, gate), 16, 12, 1)
    y = net.node("Mul", y, net.node("Sigmoid", y))
    return model_of(net.nodes, {"x": images(1)[0]}, net.constants, (y,), opset=17)


def quantised(model: Any, path: Path, form: str, **settings: Any) -> Path:
    """Return the file of a model that ONNX Runtime quantised."""
    pytest.importorskip("onnxruntime")
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_dynamic,
        quantize_static,
    )

    source = path.with_suffix(".float.onnx")
    onnx.save(model, source)
    types = {
        f"{what}_type": getattr(QuantType, settings.pop(f"{what}s"))
        for what in ("weight", "activation")
        if f"{what}s" in settings
    }
    if form == "dynamic":
        settings.pop("reduce_range", None)
        quantize_dynamic(source, path, **types, **settings)
        return path

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            random = np.random.default_rng(5)
            shape = [entry.dim_value for entry in model.graph.input[0].type.tensor_type.shape.dim]
            self.left = [{"x": random.standard_normal(shape).astype(np.float32)} for _ in range(3)]

        def get_next(self) -> Any:
            return self.left.pop() if self.left else None

    quantize_static(source, path, Reader(), quant_format=getattr(QuantFormat, form), **types, **settings)
    return path


__all__ = ["LayerNet", "apart", "images", "int_conv", "model_of", "quantised", "rounded", "squeezed"]
