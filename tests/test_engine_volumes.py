"""Networks over three spatial axes, as one native program, beside ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402 (needs onnx)

import separable as sp  # noqa: E402
from separable.engine.graph.ir import Graph, Node, TensorType  # noqa: E402
from separable.engine.program.steps.volumes import one_by_one  # noqa: E402

Array = npt.NDArray[Any]
OFF = 3e-6  # of the largest number of an output


class Net:
    """A model of volumes as it grows."""

    def __init__(self, *shape: int | str, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[Any] = []
        self.held: list[Any] = []
        self.inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]

    def constant(self, values: Any, dtype: npt.DTypeLike = np.float32) -> str:
        name = f"c{len(self.held)}"
        self.held.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def normal(self, *shape: int) -> str:
        scale = float(np.prod(shape[1:])) ** -0.5
        return self.constant(scale * self.random.standard_normal(shape))

    def node(self, op: str, *inputs: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, [f"t{len(self.nodes)}"], **attributes))
        return f"t{len(self.nodes) - 1}"

    def conv(self, x: str, c_in: int, c_out: int, kernel: Sequence[int] = (3, 3, 3), **more: Any) -> str:
        weights = self.normal(c_out, c_in // more.get("group", 1), *kernel)
        more.setdefault("pads", [n // 2 for n in kernel] * 2)
        return self.node("Conv", x, weights, self.normal(c_out), **more)

    def model(self, *outputs: str) -> Any:
        ends = [onnx.ValueInfoProto(name=name) for name in outputs]
        graph = helper.make_graph(self.nodes, "net", self.inputs, ends, self.held)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def agree(model: Any, *shapes: Sequence[int], off: float = OFF) -> Any:
    """Return the program of a model, which runs whole and gives what ONNX Runtime gives."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    program, three = (sp.engine.load(model, threads=threads) for threads in (1, 3))
    for shape in shapes:
        x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
        made, again = program(x), three(x)
        for number, wanted in enumerate(session.run(None, {"x": x})):
            result, other = (
                list(results.values())[number] if isinstance(results, dict) else results
                for results in (made, again)
            )
            np.testing.assert_allclose(result, wanted, atol=off * max(1e-3, np.abs(wanted).max()), rtol=0)
            np.testing.assert_array_equal(result, other)
    return program


CONVOLUTIONS = {
    "dense": {"c_in": 8, "c_out": 12},
    "of one channel": {"c_in": 1, "c_out": 16},
    "of few channels": {"c_in": 3, "c_out": 10},
    "of tiles": {"c_in": 16, "c_out": 24},
    "of tiles, padded at one side": {"c_in": 32, "c_out": 16, "pads": [0, 1, 1, 2, 1, 1]},
    "of odd channels": {"c_in": 13, "c_out": 19},
    "in groups": {"c_in": 12, "c_out": 8, "group": 4},
    "stride 2": {"c_in": 16, "c_out": 16, "strides": [2, 2, 2]},
    "strides apart": {"c_in": 5, "c_out": 9, "strides": [1, 2, 3]},
    "dilations apart": {"c_in": 16, "c_out": 8, "dilations": [2, 1, 3], "pads": [2, 1, 3, 2, 1, 3]},
    "without padding": {"c_in": 9, "c_out": 9, "pads": [0] * 6},
    "much padding": {"c_in": 4, "c_out": 4, "pads": [3, 1, 2, 0, 4, 1]},
    "pointwise": {"c_in": 20, "c_out": 12, "kernel": (1, 1, 1)},
    "pointwise, stride 2": {"c_in": 20, "c_out": 12, "kernel": (1, 1, 1), "strides": [2, 2, 2]},
    "slices alone": {"c_in": 16, "c_out": 16, "kernel": (3, 1, 1)},
    "within slices": {"c_in": 16, "c_out": 16, "kernel": (1, 3, 3)},
    "even kernel": {"c_in": 6, "c_out": 7, "kernel": (2, 4, 2), "pads": [0, 1, 1, 1, 2, 0]},
    "5 x 5 x 5": {"c_in": 8, "c_out": 8, "kernel": (5, 5, 5)},
    "depthwise": {"c_in": 19, "c_out": 19, "group": 19},
    "depthwise, stride 2": {"c_in": 16, "c_out": 16, "group": 16, "strides": [2, 2, 2]},
    "depthwise, dilated": {
        "c_in": 16,
        "c_out": 16,
        "group": 16,
        "dilations": [3, 2, 1],
        "pads": [3, 2, 1] * 2,
    },
    "depthwise 5 x 5 x 5": {"c_in": 8, "c_out": 8, "kernel": (5, 5, 5), "group": 8},
    "depthwise 1 x 7 x 7": {"c_in": 8, "c_out": 8, "kernel": (1, 7, 7), "group": 8},
    "depthwise, two a channel": {"c_in": 8, "c_out": 16, "group": 8},
}


@pytest.mark.usefixtures("target")
@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_convolutions(kind: str) -> None:
    asked: dict[str, Any] = dict(CONVOLUTIONS[kind])
    net = Net("n", asked["c_in"], "d", "h", "w")
    y = net.node("Relu", net.conv("x", **asked))
    agree(net.model(y), (1, asked["c_in"], 9, 10, 13), (2, asked["c_in"], 6, 12, 7))


@pytest.mark.usefixtures("target")
def test_what_lies_behind_the_last_channel_is_not_read() -> None:
    net = Net(1, 13, 5, 6, 7)
    y = net.conv("x", 13, 11, (1, 1, 1))
    y = net.node("Log", net.node("Abs", y))  # of zero it is infinite
    y = net.conv(y, 11, 11, group=11)
    agree(net.model(net.conv(y, 11, 9)), (1, 13, 5, 6, 7), off=2e-5)


def separable(net: Net, x: str, c_in: int, c_out: int, **more: Any) -> str:
    y = net.node("Relu", net.conv(x, c_in, c_in, group=c_in, **more))
    return net.node("Relu", net.conv(y, c_in, c_out, (1, 1, 1)))


@pytest.mark.usefixtures("target")
def test_depthwise_and_pointwise_run_as_one_step_where_they_are_large() -> None:
    net = Net(1, 16, 20, 40, 40)
    program = agree(net.model(separable(net, "x", 16, 24)), (1, 16, 20, 40, 40))
    assert any("depthwise 3 x 3 x 3 > pointwise" in step.kind for step in program.steps())


def test_a_residual_and_a_sum() -> None:
    net = Net(1, 16, 6, 7, 8)
    y = net.node("Relu", net.conv("x", 16, 16))
    y = net.node("Relu", net.node("Add", net.conv(y, 16, 16), "x"))
    agree(net.model(net.node("Add", y, net.node("Sigmoid", y))), (1, 16, 6, 7, 8))


POOLS = {
    "max 2": ("MaxPool", {"kernel_shape": [2] * 3, "strides": [2] * 3}),
    "max 3, padded": ("MaxPool", {"kernel_shape": [3] * 3, "strides": [2] * 3, "pads": [1] * 6}),
    "max, dilated": ("MaxPool", {"kernel_shape": [2, 3, 2], "dilations": [2, 1, 3]}),
    "max, rounded up": ("MaxPool", {"kernel_shape": [2] * 3, "strides": [2] * 3, "ceil_mode": 1}),
    "within slices": ("MaxPool", {"kernel_shape": [1, 2, 2], "strides": [1, 2, 2]}),
    "average": ("AveragePool", {"kernel_shape": [3] * 3, "strides": [1, 2, 2], "pads": [1] * 6}),
    "average, padding counts": (
        "AveragePool",
        {"kernel_shape": [2, 3, 3], "pads": [1, 1, 1, 0, 1, 1], "count_include_pad": 1},
    ),
    "mean": ("GlobalAveragePool", {}),
    "maximum": ("GlobalMaxPool", {}),
}


@pytest.mark.usefixtures("target")
@pytest.mark.parametrize("kind", POOLS)
def test_pools(kind: str) -> None:
    op, written = POOLS[kind]
    net = Net("n", 11, "d", "h", "w")
    y = net.node(op, net.conv("x", 11, 11, (1, 1, 1)), **written)
    y = net.node("Flatten", net.conv(y, 11, 5, (1, 1, 1))) if op.startswith("Global") else net.conv(y, 11, 5)
    agree(net.model(y), (1, 11, 7, 9, 8), (3, 11, 6, 8, 9))


RESIZED = {
    "trilinear": {"mode": "linear"},
    "corners": {"mode": "linear", "coordinate_transformation_mode": "align_corners"},
    "nearest": {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
    "half pixels": {"mode": "nearest", "nearest_mode": "round_prefer_ceil"},
}


@pytest.mark.usefixtures("target")
@pytest.mark.parametrize("kind", RESIZED)
@pytest.mark.parametrize("factors", [(2.0, 2.0, 2.0), (1.0, 2.0, 1.5), (2.0, 1.0, 1.0)])
def test_resizing(kind: str, factors: Sequence[float]) -> None:
    net = Net("n", 9, "d", "h", "w")
    scales = net.constant([1, 1, *factors])
    y = net.node("Resize", net.conv("x", 9, 9, (1, 1, 1)), "", scales, **RESIZED[kind])
    agree(net.model(net.conv(y, 9, 4)), (1, 9, 4, 6, 6), (2, 9, 5, 4, 4))


@pytest.mark.usefixtures("target")
@pytest.mark.parametrize(
    ("kernel", "strides", "pads"),
    [((2, 2, 2), (2, 2, 2), [0] * 6), ((3, 3, 3), (2, 2, 2), [1] * 6), ((3, 2, 4), (1, 2, 3), [1, 0, 1] * 2)],
)
def test_transposed_convolutions(kernel: Sequence[int], strides: Sequence[int], pads: Sequence[int]) -> None:
    net = Net("n", 12, "d", "h", "w")
    x = net.conv("x", 12, 12, (1, 1, 1))
    weights = net.constant(0.2 * net.random.standard_normal((12, 9, *kernel)))
    y = net.node("ConvTranspose", x, weights, net.normal(9), strides=strides, pads=pads, kernel_shape=kernel)
    y = net.node("Concat", y, net.node("Relu", y), axis=1)
    agree(net.model(net.conv(y, 18, 5)), (1, 12, 4, 5, 6), (2, 12, 3, 4, 5))


@pytest.mark.usefixtures("target")
def test_norms_gates_slices_and_joints() -> None:
    net = Net("n", 16, 8, 10, 12)
    ones = [net.constant(net.random.uniform(0.5, 2, 16)) for _ in range(5)]
    y = net.node("BatchNormalization", net.conv("x", 16, 16), *ones[:4])
    y = net.node("InstanceNormalization", y, *ones[:2])
    y = net.node("Mul", y, net.constant(net.random.standard_normal((1, 16, 1, 1, 1))))
    gate = net.node("Sigmoid", net.conv(net.node("GlobalAveragePool", y), 16, 16, (1, 1, 1)))
    y = net.conv(net.node("Mul", y, gate), 16, 16)
    cut = [net.constant(n, np.int64) for n in ([1, 2, 0], [7, 9, 12], [2, 3, 4])]
    z = net.conv(net.node("Slice", y, *cut), 16, 16)
    z = net.node("Concat", z, net.node("Tanh", z), axis=1)
    planes = net.node("Slice", z, *(net.constant([n], np.int64) for n in (8, 24, 1)))
    padded = net.node("Pad", planes, net.constant([0, 0, 1, 0, 2, 0, 0, 0, 1, 0], np.int64))
    agree(
        net.model(net.node("Softmax", net.conv(padded, 16, 3), axis=1)),
        (1, 16, 8, 10, 12),
        (2, 16, 8, 10, 12),
    )


def test_a_volume_of_one_slice_and_one_of_one_line() -> None:
    net = Net(1, 8, "d", "h", "w")
    y = net.node("Relu", net.conv(net.conv("x", 8, 8), 8, 8, group=8))
    agree(
        net.model(net.node("MaxPool", y, kernel_shape=[1, 1, 1])),
        (1, 8, 1, 9, 9),
        (1, 8, 9, 1, 1),
        (1, 8, 1, 1, 9),
    )


def test_several_volumes_are_split_and_joined() -> None:
    kind = TensorType(np.dtype(np.float32), (3, 8, 4, 4, 4))
    weights = np.zeros((8, 8, 1, 1, 1), np.float32)
    nodes = (Node("Conv", ("x", "w"), ("y",)), Node("Relu", ("y",), ("z",)))
    graph = Graph("g", {"x": kind}, ("z",), nodes, {"w": weights}, {"x": kind, "y": kind, "z": kind})
    assert [node.op for node in one_by_one(graph).nodes] == ["Split", *["Conv"] * 3, "Concat", "Relu"]
    one = {name: TensorType(kind.dtype, (1, *kind.shape[1:])) for name in "xyz"}
    alone = graph.with_(inputs={"x": one["x"]}, types=one)
    assert one_by_one(alone) is alone


def test_a_network_that_reads_a_whole_batch_runs_whole() -> None:
    net = Net("n", 8, 5, 6, 7)
    y = net.conv("x", 8, 8)
    y = net.node("Sub", y, net.node("ReduceMean", y, net.constant([0], np.int64)))
    agree(net.model(net.conv(y, 8, 4)), (3, 8, 5, 6, 7))


def test_a_small_u_net() -> None:
    net = Net("n", 2, "d", "h", "w")
    first = separable(net, net.node("Relu", net.conv("x", 2, 16)), 16, 16)
    down = net.node("MaxPool", first, kernel_shape=[2] * 3, strides=[2] * 3)
    deep = separable(net, separable(net, down, 16, 32), 32, 32)
    wide = net.constant(0.2 * net.random.standard_normal((32, 16, 2, 2, 2)))
    up = net.node("ConvTranspose", deep, wide, strides=[2] * 3, kernel_shape=[2] * 3)
    y = separable(net, net.node("Concat", up, first, axis=1), 32, 16)
    y = net.node("ArgMax", net.conv(y, 16, 4, (1, 1, 1)), axis=1, keepdims=0)
    program = sp.engine.load(net.model(y), threads=1)
    x = np.random.default_rng(1).standard_normal((1, 2, 12, 16, 20)).astype(np.float32)
    session = onnxruntime.InferenceSession(net.model(y).SerializeToString())
    assert np.mean(program(x) == session.run(None, {"x": x})[0]) > 0.999
