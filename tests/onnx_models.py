"""ONNX models built by hand: small, seeded, with every way to write a convolution that exporters use."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import helper, numpy_helper
from onnx.onnx_ml_pb2 import ModelProto

Array = npt.NDArray[Any]

# The version of the file format that goes with operator set 13, which every runtime reads.
IR_VERSION = 8


class Net:
    """A graph in the making: each method adds a node, and returns what it gives."""

    def __init__(self, opset: int = 13, seed: int = 0, dtype: str = "float32") -> None:
        self.opset, self.dtype = opset, np.dtype(dtype)
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []

    def input(self, name: str, shape: Sequence[int | str | None]) -> str:
        element = helper.np_dtype_to_tensor_dtype(self.dtype)
        self.inputs.append(helper.make_tensor_value_info(name, element, list(shape)))
        return name

    def constant(self, name: str, values: Array) -> str:
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def normal(self, *shape: int) -> Array:
        scale = np.sqrt(np.prod(shape[1:]) or 1)
        return (self.rng.standard_normal(shape) / scale).astype(self.dtype)

    def node(self, operator: str, inputs: Sequence[str], name: str | None = None, **attributes: Any) -> str:
        label = name if name is not None else f"{operator.lower()}{len(self.nodes)}"
        output = f"{label or operator.lower() + str(len(self.nodes))}_out"
        self.nodes.append(helper.make_node(operator, list(inputs), [output], name=label, **attributes))
        return output

    def conv(
        self,
        x: str,
        c_in: int,
        c_out: int,
        kernel: Sequence[int],
        name: str,
        *,
        bias: bool = True,
        group: int = 1,
        **attributes: Any,
    ) -> str:
        """Add a convolution with weights `<name>.w`, or those that are already there."""
        known = {each.name for each in self.weights}
        if f"{name}.w" not in known:
            self.constant(f"{name}.w", self.normal(c_out, c_in // group, *kernel))
        inputs = [x, f"{name}.w"]
        if bias:
            inputs.append(self.constant(f"{name}.b", self.normal(c_out)))
        return self.node("Conv", inputs, name, group=group, **attributes)

    def norm(self, x: str, channels: int, name: str, **attributes: Any) -> str:
        parts = {
            "scale": self.rng.uniform(0.5, 1.5, channels),
            "shift": self.rng.normal(size=channels),
            "mean": self.rng.normal(size=channels),
            "variance": self.rng.uniform(0.5, 2.0, channels),
        }
        names = [self.constant(f"{name}.{key}", value.astype(self.dtype)) for key, value in parts.items()]
        return self.node("BatchNormalization", [x, *names], name, **attributes)

    def model(self, *outputs: str, name: str = "net") -> ModelProto:
        element = helper.np_dtype_to_tensor_dtype(self.dtype)
        ends = [helper.make_tensor_value_info(each, element, None) for each in outputs]
        graph = helper.make_graph(self.nodes, name, self.inputs, ends, self.weights)
        model = helper.make_model(
            graph, producer_name="by hand", opset_imports=[helper.make_opsetid("", self.opset)]
        )
        model.ir_version = IR_VERSION
        inferred = onnx.shape_inference.infer_shapes(model)
        for end, found in zip(model.graph.output, inferred.graph.output, strict=True):
            end.CopyFrom(found)
        onnx.checker.check_model(model, full_check=True)
        return model


def vgg(opset: int = 13, batch: int | str = "N", width: int = 8) -> ModelProto:
    net = Net(opset)
    x = net.input("image", [batch, 3, 12, 12])
    channels = 3
    for number, wide in enumerate((width, width, 2 * width)):
        x = net.conv(x, channels, wide, (3, 3), f"conv{number}", bias=number == 1, pads=[1, 1, 1, 1])
        x = net.norm(x, wide, f"norm{number}")
        x = net.node("Relu", [x])
        channels = wide
    x = net.node("GlobalAveragePool", [x])
    x = net.node("Flatten", [x])
    net.constant("head.w", net.normal(5, channels))
    net.constant("head.b", net.normal(5))
    return net.model(net.node("Gemm", [x, "head.w", "head.b"], "head", transB=1))


def resnet(opset: int = 13, width: int = 8) -> ModelProto:
    """Two residual blocks, the second with a stride and a projection."""
    net = Net(opset)
    x = net.input("image", ["N", 3, 12, 12])
    x = net.conv(x, 3, width, (3, 3), "stem", pads=[1, 1, 1, 1])
    for number, (wide, stride) in enumerate(((width, 1), (2 * width, 2))):
        channels = width
        y = net.conv(
            x, channels, wide, (3, 3), f"block{number}.a", bias=False, pads=[1] * 4, strides=[stride] * 2
        )
        y = net.node("Relu", [net.norm(y, wide, f"block{number}.na")])
        y = net.norm(
            net.conv(y, wide, wide, (3, 3), f"block{number}.b", bias=False, pads=[1] * 4),
            wide,
            f"block{number}.nb",
        )
        if stride > 1:
            x = net.conv(x, channels, wide, (1, 1), f"block{number}.skip", strides=[stride] * 2)
        x = net.node("Relu", [net.node("Add", [x, y])])
    return net.model(net.node("GlobalAveragePool", [x], "pool"))


def run(model: ModelProto | str, feeds: Mapping[str, Array]) -> list[Array]:
    """Run a model in ONNX Runtime."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    source = model if isinstance(model, str) else model.SerializeToString()
    session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    return session.run(None, dict(feeds))


@functools.cache
def newest_opset() -> int:
    """Return the newest operator set that both onnx and ONNX Runtime know."""
    for opset in range(onnx.defs.onnx_opset_version(), 13, -1):
        with contextlib.suppress(Exception):
            run(vgg(opset, 1), {"image": np.zeros((1, 3, 12, 12), np.float32)})
            return opset
    raise AssertionError("onnx and ONNX Runtime have no operator set in common")


def check(model: ModelProto) -> None:
    """Check a model as strictly as onnx can, and that all shapes can be inferred."""
    onnx.checker.check_model(model, full_check=True)
    onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
