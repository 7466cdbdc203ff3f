"""Conversion by latency: the time is the one that was predicted, and never more than before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import separable as sp
from benchmarks import libraries
from benchmarks.results import Quantity, QuantityRecord

OFF = 15.0  # percent that the prediction may be away from the measured time
BUDGETS = (0.4, 0.7)


@dataclass(frozen=True)
class Network:
    """A network of 3 x 3 convolutions with random weights: its time does not depend on them."""

    kind: str  # "VGG" or "ResNet"
    size: int
    layers: tuple[tuple[int, int], ...]  # channels and stride: of a convolution, then of others or of blocks

    def label(self) -> str:
        """Say the network in words."""
        return f"{self.kind}-like, {self.size} x {self.size}"


NETWORKS = (
    Network("VGG", 32, ((32, 1), (32, 2), (64, 1), (64, 2), (128, 1))),
    Network("ResNet", 32, ((32, 1), (32, 1), (64, 2), (128, 2))),
    Network("VGG", 112, ((16, 2), (32, 2), (64, 1), (64, 2), (128, 1))),
    Network("ResNet", 112, ((32, 2), (32, 1), (64, 2), (128, 2))),
)
QUICK = Network("VGG", 16, ((32, 1), (32, 1)))


def measure(
    run: str,
    quick: bool,
    progress: Callable[[str], None] = lambda text: None,
) -> QuantityRecord:
    """Convert each network under each budget on one thread; compare prediction, result and original."""
    quantities = []
    if libraries.load("onnxruntime") is not None:
        for network in (QUICK,) if quick else NETWORKS:
            for budget in (0.9,) if quick else BUDGETS:
                progress(f"convert-latency: {network.label()}, budget {budget}")
                quantities += _converted(network, budget)
    title = "Converted to a fraction of the time of all convolutions, in ONNX Runtime on one thread"
    return QuantityRecord("convert-latency", "Conversion", title, run, quick, quantities)


def _converted(network: Network, budget: float) -> list[Quantity]:
    images = np.random.default_rng(1).standard_normal((4, 3, network.size, network.size)).astype(np.float32)
    label = f"{network.label()}, budget {budget}"
    result = sp.onnx.separate(model(network), images, budget, "latency", threads=1, progress=False)
    predicted, after, before = (
        result.milliseconds_predicted,
        result.milliseconds_after,
        result.milliseconds_before,
    )
    assert predicted is not None
    assert after is not None
    assert before is not None
    off = 100 * abs(predicted / after - 1)
    note = f"predicted {predicted:.3f} ms, measured {after:.3f} ms, original {before:.3f} ms"
    share = 100 * after / before
    back = sum(row.reason.startswith("put back") for row in result.report.layers)
    return [
        Quantity(f"{label}: prediction off by", off, off, off, "%", OFF, note),
        Quantity(f"{label}: time left", share, share, share, "%", 101.0, f"{back} layers put back"),
    ]


# -- networks ----------------------------------------------------------------------------------------------


@dataclass
class _Graph:
    """A graph in the making."""

    rng: np.random.Generator
    nodes: list[Any] = field(default_factory=list)
    weights: list[Any] = field(default_factory=list)

    def node(self, operator: str, inputs: Sequence[str], **attributes: Any) -> str:
        from onnx import helper

        name = f"{operator.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [f"{name}_out"], name=name, **attributes))
        return f"{name}_out"

    def conv(self, x: str, inputs: int, outputs: int, taps: int, stride: int = 1) -> str:
        from onnx import numpy_helper

        shape = (outputs, inputs, taps, taps)
        values = self.rng.standard_normal(shape) / np.sqrt(inputs * taps * taps)
        names = [f"w{len(self.weights)}", f"b{len(self.weights)}"]
        for name, array in zip(names, (values, np.zeros(outputs)), strict=True):
            self.weights.append(numpy_helper.from_array(array.astype(np.float32), name))
        return self.node("Conv", [x, *names], pads=[taps // 2] * 4, strides=[stride] * 2)


def model(network: Network) -> Any:
    """Return a network as an ONNX model; its input is called "image".

    Parameters
    ----------
    network : Network

    Returns
    -------
    ModelProto
    """
    from onnx import TensorProto, helper

    graph = _Graph(np.random.default_rng(0))
    (first, stride), *others = network.layers
    x, inputs = graph.node("Relu", [graph.conv("image", 3, first, 3, stride)]), first
    for outputs, stride in others:
        if network.kind == "ResNet":
            x = _block(graph, x, inputs, outputs, stride)
        else:
            x = graph.node("Relu", [graph.conv(x, inputs, outputs, 3, stride)])
        inputs = outputs
    x = graph.node("GlobalAveragePool", [x])
    sizes: dict[str, list[str | int]] = {
        "image": ["N", 3, network.size, network.size],
        x: ["N", inputs, 1, 1],
    }
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in sizes.items()]
    made = helper.make_graph(graph.nodes, network.label(), ends[:1], ends[1:], graph.weights)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _block(graph: _Graph, x: str, inputs: int, outputs: int, stride: int) -> str:
    y = graph.conv(graph.node("Relu", [graph.conv(x, inputs, outputs, 3, stride)]), outputs, outputs, 3)
    if stride > 1 or inputs != outputs:
        x = graph.conv(x, inputs, outputs, 1, stride)
    return graph.node("Relu", [graph.node("Add", [x, y])])
