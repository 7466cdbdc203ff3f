"""Batches whose images are run one by one: which networks allow it, and that results are the same."""

from __future__ import annotations

import numpy as np
import pytest

from separable.engine.graph.ir import Graph, Node, TensorType
from separable.engine.graph.reference import evaluate
from separable.engine.graph.static import static
from separable.engine.program.images import images_apart
from separable.engine.program.plan import StaticPlan
from separable.engine.program.weights import WeightStore

F32 = np.dtype(np.float32)


def conv(name: str, channels: int, kernel: int) -> Node:
    return Node(
        "Conv",
        (name, f"{name}.w", ""),
        (f"{name}.y",),
        {
            "kernel_shape": (kernel, kernel),
            "strides": (1, 1),
            "dilations": (1, 1),
            "pads": (kernel // 2,) * 4,
            "group": 1,
        },
    )


def network(*more: Node, outputs=("x.y",), shape=("n", 16, 40, 40)) -> Graph:
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((16, 16, 3, 3)).astype(np.float32)
    return Graph(
        "net",
        {"x": TensorType(F32, shape)},
        outputs,
        (conv("x", 16, 3), *more),
        {"x.w": weights, "one": np.array([1], np.int64), "zero": np.array([0], np.int64)},
    )


@pytest.mark.parametrize("count", [2, 3, 8])
def test_a_convolution_takes_images_apart_and_gives_the_same(count):
    graph = network()
    plan = StaticPlan(graph, {"x": (count, 16, 40, 40)}, WeightStore())
    assert plan.images == count
    x = np.random.default_rng(1).standard_normal((count, 16, 40, 40)).astype(np.float32)
    wanted = evaluate(static(graph, {"x": x.shape}), {"x": x})["x.y"]
    found = []
    for threads in (1, 2, 3):
        (out,) = plan.empty()
        plan.run([x], [out], threads)
        found.append(out)
    np.testing.assert_allclose(found[0], wanted, rtol=1e-4, atol=1e-4)
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])


def test_nanoseconds_are_those_of_all_images():
    plan = StaticPlan(network(), {"x": (4, 16, 40, 40)}, WeightStore())
    x, times = np.zeros((4, 16, 40, 40), np.float32), np.zeros(plan.ends[-1], np.int64)
    plan.run([x], plan.empty(), 2, times)
    assert (times > 0).all()
    assert plan.memory_bytes(2) == 2 * plan.memory_bytes(1)
    assert plan.memory_bytes(8) == 4 * plan.memory_bytes(1)


@pytest.mark.parametrize(
    "node",
    [
        Node("ReduceMean", ("x.y", "zero"), ("z",), {"keepdims": 1}),
        Node("Softmax", ("x.y",), ("z",), {"axis": 0}),
        Node("Transpose", ("x.y",), ("z",), {"perm": (1, 0, 2, 3)}),
        Node("Concat", ("x.y", "x.y"), ("z",), {"axis": 0}),
        Node("MatMul", ("x.y", "x.y"), ("z",)),
        Node("Gather", ("x.y", "zero"), ("z",), {"axis": 0}),
    ],
)
def test_what_may_mix_images_is_run_whole(node):
    graph = static(network(node, outputs=("z",)), {"x": (4, 16, 40, 40)})
    assert images_apart(graph) == 1


def test_one_image_and_large_weights_are_run_whole():
    assert images_apart(static(network(), {"x": (1, 16, 40, 40)})) == 1
    assert images_apart(static(network(shape=("n", 16, 1, 1)), {"x": (8, 16, 1, 1)})) == 1
    assert images_apart(static(network(), {"x": (8, 16, 40, 40)})) == 8
