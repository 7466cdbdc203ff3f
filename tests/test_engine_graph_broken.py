"""Files with anything in them: a graph, or one kind of error that names the node; never a wrong type."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import onnx_models as models  # noqa: E402 (needs onnx and onnxruntime)
from onnx import helper, numpy_helper  # noqa: E402
from onnx.onnx_ml_pb2 import AttributeProto, ModelProto, NodeProto, TensorProto  # noqa: E402

from separable.engine.graph.ir import TensorType  # noqa: E402
from separable.engine.graph.reader import graph_of  # noqa: E402
from separable.engine.graph.reference import evaluate  # noqa: E402
from separable.engine.graph.static import static  # noqa: E402
from separable.onnx.model.files import Stored  # noqa: E402
from separable.onnx.model.names import ModelError  # noqa: E402

ODD = (0, 1, -1, 2, 3, 7, -5, 2**31 - 1, -(2**31), 2**40, 2**62, -(2**63))


def everything() -> ModelProto:
    """Return a network of one operation of each kind whose inputs and attributes say lengths."""
    net = models.Net(18)

    def ints(name: str, *values: int) -> str:
        return net.constant(name, np.array(values, np.int64))

    x = net.input("image", [1, 4, 6, 6])
    shape = net.node("Shape", [x])
    half = net.node("Div", [net.node("Gather", [shape, ints("one", 1)], axis=0), ints("two", 2)])
    lengths = net.node("Concat", [ints("ab", 1, 2), half, ints("cd", 6, 6)], axis=0)
    x = net.node("Transpose", [net.node("Reshape", [x, lengths])], perm=[0, 2, 1, 3, 4])
    x = net.node(
        "Resize", [net.node("Reshape", [x, shape]), "", "", ints("sizes", 1, 4, 12, 12)], mode="nearest"
    )
    x = net.conv(x, 4, 4, (3, 3), "conv", group=2, auto_pad="SAME_UPPER", strides=[1, 1])
    x = net.node("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
    more = {"pads": [1] * 4, "count_include_pad": 1}
    x = net.node("AveragePool", [x], kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1, **more)
    x = net.node("Pad", [x, ints("pads", 0, 0, 1, 1, 0, 0, 1, 1)])
    net.constant("up", net.normal(4, 2, 3, 3))
    x = net.node("ConvTranspose", [x, "up"], strides=[2, 2], group=2, output_padding=[1, 1])
    x = net.norm(x, 4, "norm")
    x = net.node("Slice", [x, ints("from", 0), ints("to", 3), ints("axis", 2), ints("step", 2)])
    net.nodes.append(helper.make_node("Split", [x, ints("parts", 1, 3)], ["p", "q"], axis=1))
    x = net.node("Softmax", [net.node("Concat", ["q", "p"], axis=1)], axis=-1)
    x = net.node("ReduceMean", [x, ints("over", 2, 3)], keepdims=0)
    x = net.node("Expand", [net.node("Tile", [x, ints("times", 1, 2)]), ints("wide", 3, 1)])
    ends = [net.constant(name, np.array(each)) for name, each in (("start", 0), ("limit", 3), ("delta", 1))]
    x = net.node("Flatten", [net.node("Gather", [x, net.node("Range", ends)], axis=0)])
    net.constant("gemm.w", net.normal(8, 5))
    x = net.node("Unsqueeze", [net.node("Gemm", [x, "gemm.w"]), ints("new", 0)])
    x = net.node("TopK", [net.node("Squeeze", [x, ints("old", 0)]), ints("k", 2)])
    net.nodes[-1].output.append("places")
    x = net.node("DepthToSpace", [net.node("Reshape", [x, ints("last", 1, -1, 1, 1)])], blocksize=1)
    end = helper.make_tensor_value_info(x, TensorProto.FLOAT, [None])
    graph = helper.make_graph(net.nodes, "everything", net.inputs, [end], net.weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = models.IR_VERSION
    return model


def change_attribute(node: NodeProto, rng: np.random.Generator) -> None:
    if not node.attribute:
        return
    number = int(rng.integers(len(node.attribute)))
    attribute = node.attribute[number]
    if rng.random() < 0.3:
        del node.attribute[number]
    elif attribute.type == AttributeProto.INT:
        attribute.i = int(rng.choice(ODD))
    elif attribute.type == AttributeProto.INTS and attribute.ints:
        attribute.ints[int(rng.integers(len(attribute.ints)))] = int(rng.choice(ODD))
    elif attribute.type == AttributeProto.STRING:
        attribute.s = b"\xffodd"


def change_numbers(model: ModelProto, rng: np.random.Generator) -> None:
    whole = [each for each in model.graph.initializer if each.data_type == TensorProto.INT64]
    tensor = whole[int(rng.integers(len(whole)))]
    values = numpy_helper.to_array(tensor).copy()
    values.reshape(-1)[int(rng.integers(values.size))] = int(rng.choice(ODD))
    if rng.random() < 0.2:
        values = np.append(values, 1)
    if rng.random() < 0.1:
        values = values.astype(np.float32)
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def change_inputs(model: ModelProto, node: NodeProto, rng: np.random.Generator) -> None:
    if not node.input:
        return
    number = int(rng.integers(len(node.input)))
    if rng.random() < 0.5:
        del node.input[number]
    else:
        node.input[number] = str(rng.choice([each.name for each in model.graph.initializer] + [""]))


def broken(model: ModelProto, rng: np.random.Generator) -> ModelProto:
    changed = ModelProto()
    changed.CopyFrom(model)
    for _ in range(int(rng.integers(1, 3))):
        node = changed.graph.node[int(rng.integers(len(changed.graph.node)))]
        kind = rng.integers(4)
        if kind == 0:
            change_attribute(node, rng)
        elif kind == 1:
            change_numbers(changed, rng)
        elif kind == 2:
            change_inputs(changed, node, rng)
        else:
            dims = changed.graph.input[0].type.tensor_type.shape.dim
            dims[int(rng.integers(4))].dim_value = int(rng.choice([0, 1, 5, 2**40]))
    return changed


def small(kinds: Any) -> bool:
    return all(np.prod([float(length) for length in kind.shape]) < 1e6 for kind in kinds)


def test_the_whole_one_runs() -> None:
    fixed = static(graph_of(Stored(everything(), {})))
    assert not any(kind.is_open for kind in fixed.types.values())
    got = evaluate(fixed, {"image": np.ones((1, 4, 6, 6))}, all_tensors=True)
    assert {name: each.shape for name, each in got.items()} == {
        name: kind.shape for name, kind in fixed.types.items()
    }


@pytest.mark.parametrize("seed", range(4))
def test_broken_models_are_refused_or_mean_what_their_types_say(seed: int) -> None:
    """Nothing is checked before the graph here: what a reader refuses comes through as well."""
    rng, model = np.random.default_rng(seed), everything()
    ends: Counter[str] = Counter()
    said = []
    for _ in range(120):
        try:
            fixed = static(graph_of(Stored(broken(model, rng), {})))
            str(fixed)
        except ModelError as error:
            said.append(str(error))
            ends["refused"] += 1
            continue
        ends["read"] += 1
        if not small(fixed.types.values()):
            continue
        feeds = {name: np.ones(kind.shape, kind.dtype) for name, kind in fixed.inputs.items()}
        try:
            got = evaluate(fixed, feeds, None, all_tensors=True)
        except ModelError:
            continue
        ends["ran"] += 1
        for name, values in got.items():
            assert fixed.types.get(name, TensorType(values.dtype, values.shape)) == TensorType(
                values.dtype, values.shape
            )
    assert min(ends["refused"], ends["read"], ends["ran"]) > 5
    assert [each for each in said if not re.search("(node|tensor|attribute|input) `", each)] == []
