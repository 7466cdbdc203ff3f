"""Counting ONNX models: the integers that the same layers have in torch, and how separable they are."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_models as models
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.onnx_ml_pb2 import ModelProto
from onnx_models import Net
from torch import nn

import separable as sp
from separable.conv import decompose, slice_spectrum

# torch's module, the shape of its input, the same as an ONNX node.
MODULES: list[tuple[nn.Module, tuple[int, ...], str, dict[str, Any]]] = [
    (nn.Conv2d(64, 128, 3, padding=1, bias=False), (1, 64, 5, 7), "Conv", {"pads": [1] * 4}),
    (nn.Conv1d(8, 6, 5, 2, groups=2), (3, 8, 21), "Conv", {"strides": [2], "group": 2}),
    (nn.Conv1d(8, 16, 3, dilation=2, groups=8), (1, 8, 20), "Conv", {"dilations": [2], "group": 8}),
    (nn.Conv1d(16, 8, 3, groups=8), (1, 16, 20), "Conv", {"group": 8}),
    (nn.Conv3d(4, 6, (1, 2, 3)), (2, 4, 3, 4, 5), "Conv", {}),
    (nn.Conv3d(4, 6, 1), (2, 4, 3, 4, 5), "Conv", {}),
    (nn.Conv2d(4, 6, 2, padding="same"), (1, 4, 5, 5), "Conv", {"auto_pad": "SAME_UPPER"}),
    (nn.ConvTranspose1d(4, 6, 3, 2), (2, 4, 7), "ConvTranspose", {"strides": [2]}),
    (
        nn.ConvTranspose2d(4, 6, 3, 2, 1, 1, groups=2),
        (1, 4, 5, 5),
        "ConvTranspose",
        {"strides": [2, 2], "pads": [1] * 4, "output_padding": [1, 1], "group": 2},
    ),
    (nn.ConvTranspose3d(4, 4, 2, bias=False), (1, 4, 3, 3, 3), "ConvTranspose", {}),
    (nn.Linear(5, 7), (3, 5), "Gemm", {"transB": 1}),
    (nn.Linear(5, 7, bias=False), (2, 3, 5), "MatMul", {}),
    (nn.Linear(5, 7), (2, 3, 5), "MatMul", {}),
]


def as_onnx(
    module: nn.Module, shape: tuple[int, ...], operator: str, attributes: dict[str, Any]
) -> ModelProto:
    net = Net()
    inputs = [net.input("x", ["N", *shape[1:]])]
    parameters = {name: each.detach().numpy() for name, each in module.named_parameters()}
    if operator == "MatMul":
        inputs.append(net.constant("weight", parameters["weight"].T.copy()))
        y = net.node(operator, inputs, "layer")
        if "bias" in parameters:
            y = net.node("Add", [y, net.constant("bias", parameters["bias"])], "bias added")
        return net.model(y)
    inputs += [net.constant(name, values) for name, values in parameters.items()]
    return net.model(net.node(operator, inputs, "layer", **attributes))


@pytest.mark.parametrize(
    ("module", "shape", "operator", "attributes"),
    MODULES,
    ids=[f"{number}-{row[2]}" for number, row in enumerate(MODULES)],
)
def test_the_same_integers_as_in_torch(
    module: nn.Module, shape: tuple[int, ...], operator: str, attributes: dict[str, Any]
) -> None:
    (wanted,) = sp.nn.audit(module, shape).layers
    a = sp.onnx.audit(as_onnx(module, shape, operator, attributes), shape)
    (layer,) = a.layers
    for name in ("kind", "kernel", "stride", "dilation", "groups", "inputs", "output", "dtype"):
        assert getattr(layer, name) == getattr(wanted, name), name
    for name in ("macs", "flops", "params", "bytes"):
        assert getattr(layer, name) == getattr(wanted, name) == getattr(a, name), name
    assert (layer.name, layer.operator, layer.calls) == ("layer", operator, 1)
    assert layer.weights == tuple(dict(module.named_parameters()))
    assert (a.uncounted, a.measured_ms) == ((), None)
    assert a.remark == "counted on shapes alone, nothing was computed"
    assert layer.roofline_ms is not None
    assert layer.roofline_ms > 0


def test_a_whole_network() -> None:
    wide, channels = (8, 8, 16), (3, 8, 8)
    parts: list[nn.Module] = []
    for c_in, c_out, bias in zip(channels, wide, (False, True, False), strict=True):
        parts += [nn.Conv2d(c_in, c_out, 3, padding=1, bias=bias), nn.BatchNorm2d(c_out), nn.ReLU()]
    module = nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5))
    wanted = sp.nn.audit(module, (1, 3, 12, 12))
    a = sp.onnx.audit(models.vgg())
    assert (a.macs, a.flops, a.params, a.bytes) == (wanted.macs, wanted.flops, wanted.params, wanted.bytes)
    assert a.macs_by_kind == wanted.macs_by_kind
    assert a.example == "image (1, 3, 12, 12) float32"  # of an open batch, one is counted
    assert sp.onnx.audit(models.vgg(), (7, 3, 12, 12)).macs == 7 * a.macs
    assert sp.onnx.audit(models.vgg(batch=3)).macs == 3 * a.macs


def test_products_of_activations_and_shared_weights() -> None:
    net = Net()
    x = net.input("x", ["N", 6, 8])
    net.constant("w", net.normal(8, 8))
    query, key = net.node("MatMul", [x, "w"], "query"), net.node("MatMul", [x, "w"], "key")
    turned = net.node("Transpose", [key], "turn", perm=[0, 2, 1])
    a = sp.onnx.audit(net.model(net.node("MatMul", [query, turned], "scores")))
    assert [(layer.name, layer.kind, layer.macs, layer.params) for layer in a.layers] == [
        ("query", "linear", 6 * 8 * 8, 64),
        ("key", "linear", 6 * 8 * 8, 0),
        ("scores", "matmul", 6 * 6 * 8, 0),
    ]
    assert a.params == 64


def test_what_no_rule_covers_is_said() -> None:
    net = Net()
    x = net.input("x", [3, 2, 4])
    model = net.model(net.node("Identity", [x], "mine"))
    model.graph.node[0].op_type, model.graph.node[0].domain = "GridConv", "my.own"
    model.opset_import.append(helper.make_opsetid("my.own", 1))
    a = sp.onnx.audit(model)
    assert a.uncounted == ("GridConv",)
    assert "NOT counted, and may multiply: GridConv" in str(a)
    assert "not counted MACs" in str(a)  # a model that computes has no 0 in its headline
    assert "0 MACs" not in str(a)


CELLS = {"LSTM": (nn.LSTM, 4), "GRU": (nn.GRU, 3), "RNN": (nn.RNN, 1)}


@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("operator", CELLS)
def test_recurrent_layers_have_the_integers_of_torch(operator: str, directions: int) -> None:
    steps, batch, width, hidden = 7, 3, 5, 6
    cell, gates = CELLS[operator]
    net = Net()
    x = net.input("x", [steps, batch, width])
    names = [
        net.constant("w", net.normal(directions, gates * hidden, width)),
        net.constant("r", net.normal(directions, gates * hidden, hidden)),
        net.constant("b", net.normal(directions, 2 * gates * hidden)),
    ]
    way = "bidirectional" if directions == 2 else "forward"
    y = net.node(operator, [x, *names], "cell", hidden_size=hidden, direction=way)
    a = sp.onnx.audit(net.model(y), measure=True)
    wanted = sp.nn.audit(cell(width, hidden, bidirectional=directions == 2), (steps, batch, width))
    assert a.macs == steps * batch * directions * gates * hidden * (width + hidden)
    assert (a.macs, a.flops, a.params) == (wanted.macs, wanted.flops, wanted.params)
    assert (a.layers[0].kind, a.uncounted) == ("recurrent", ())
    assert a.layers[0].measured_ms is not None


def unchecked(net: Net, *outputs: tuple[str, int]) -> ModelProto:
    """A model whose outputs are of other types, or that no checker takes."""
    ends = [helper.make_tensor_value_info(name, element, None) for name, element in outputs]
    graph = helper.make_graph(net.nodes, "net", net.inputs, ends, net.weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", net.opset)])
    model.ir_version = models.IR_VERSION
    return model


def branch(name: str, nodes: list[Any], shape: list[int], *constants: Any) -> Any:
    output = helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, shape)
    return helper.make_graph(nodes, name, [], [output], list(constants))


def test_of_an_if_the_larger_branch_counts() -> None:
    net = Net()
    x = net.input("x", ["N", 3, 8])
    flag = net.node("Greater", [net.node("ReduceMax", [x], "most", keepdims=0), "zero"], "flag")
    net.constant("zero", np.float32(0))
    net.constant("around", net.normal(4, 3, 1))
    own = numpy_helper.from_array(net.normal(4, 3, 3), "own")
    small = branch("then", [helper.make_node("Conv", [x, "around"], ["z1"], name="small")], [1, 4, 8])
    inner = branch(
        "inner", [helper.make_node("Conv", [x, "own"], ["z3"], name="large", pads=[1, 1])], [1, 4, 8]
    )
    nested = [helper.make_node("If", [flag], ["z2"], name="deeper", then_branch=inner, else_branch=small)]
    large = branch("else", nested, [1, 4, 8], own)
    z = net.node("If", [flag], "if", then_branch=small, else_branch=large)
    a = sp.onnx.audit(net.model(z), measure=True)
    assert a.macs == 4 * 3 * 3 * 8  # whichever branch zeros take
    assert a.params == 4 * 3 + 4 * 3 * 3  # all of them
    assert a.uncounted == ()
    assert [layer.name for layer in a.layers] == ["if/deeper/large"]
    assert "If `if`: the larger branch counts, else_branch (288 MACs; then_branch has 96)" in a.remark
    assert "not convertible: Conv `small`: within a subgraph of If `if`" in str(a)


def test_a_branch_that_does_not_run_on_this_input_leaves_the_other() -> None:
    net = Net()
    x = net.input("x", [1, 3, 8])
    net.constant("flag", np.array(True))
    fits = numpy_helper.from_array(net.normal(4, 3, 3), "w")
    not_fits = numpy_helper.from_array(net.normal(400, 3, 12), "w")
    one, two = (
        branch(name, [helper.make_node("Conv", [x, "w"], ["z"], name=name)], [1, 4, 6], weights)
        for name, weights in (("one", fits), ("two", not_fits))
    )
    z = net.node("If", ["flag"], "if", then_branch=one, else_branch=two)
    a = sp.onnx.audit(unchecked(net, (z, TensorProto.FLOAT)))
    assert a.macs == 4 * 3 * 3 * 6
    assert "else_branch does not run on this input" in a.remark


def test_inputs_may_be_given_where_the_model_branches_on_them() -> None:
    net = Net()
    x = net.input("x", ["N", 3, 8])
    net.inputs.append(helper.make_tensor_value_info("rate", TensorProto.INT64, []))
    net.inputs.append(helper.make_tensor_value_info("state", TensorProto.FLOAT, [2, None, 4]))
    net.constant("fast", np.array(16000))
    flag = net.node("Equal", ["rate", "fast"], "flag")
    one, two = (
        branch(
            name,
            [helper.make_node("Conv", [x, "w"], ["z"], name=name)],
            [1, 4, 8],
            numpy_helper.from_array(net.normal(4, channels, 1), "w"),
        )
        for name, channels in (("one", 3), ("two", 5))  # the second runs on no input
    )
    z = net.node("If", [flag], "if", then_branch=one, else_branch=two)
    model = unchecked(net, (z, TensorProto.FLOAT), (net.node("Relu", ["state"]), TensorProto.FLOAT))
    with pytest.raises(ValueError, match="cannot run it"):
        sp.onnx.audit(model, measure=True)
    a = sp.onnx.audit(model, measure=True, inputs={"rate": 16000})
    assert "rate () int64 as given, state (2, 1, 4) float32" in a.example  # as many states as samples
    assert a.measured_ms is not None
    for inputs, message in (
        ({"rat": 1}, "`inputs` names 'rat'; the model has inputs 'x', 'rate', 'state'"),
        ({"rate": [1, 2]}, r"`inputs\['rate'\]` holds int64 \(2,\); the model takes int64 \(\)"),
        ({"rate": 1.5}, "holds float64"),
    ):
        with pytest.raises(ValueError, match=message):
            sp.onnx.audit(model, inputs=inputs)


def test_loops_and_scans_count_each_turn() -> None:
    net = Net()
    x = net.input("x", [5, 2, 4])
    net.constant("w", net.normal(4, 4))
    net.constant("turns", np.array(3))
    net.constant("go", np.array(True))
    state = net.node("ReduceSum", [x, net.constant("axes", np.array([0]))], "sum", keepdims=0)

    def infos(*entries: tuple[str, int, list[int]]) -> list[Any]:
        return [helper.make_tensor_value_info(*entry) for entry in entries]

    step = [
        helper.make_node("MatMul", ["s", "w"], ["s_next"], name="turn"),
        helper.make_node("Identity", ["c"], ["c_next"]),
    ]
    loop = helper.make_graph(
        step,
        "loop",
        infos(("i", TensorProto.INT64, []), ("c", TensorProto.BOOL, []), ("s", TensorProto.FLOAT, [2, 4])),
        infos(("c_next", TensorProto.BOOL, []), ("s_next", TensorProto.FLOAT, [2, 4])),
    )
    looped = net.node("Loop", ["turns", "go", state], "loop", body=loop)
    rows = [helper.make_node("MatMul", ["row", "w"], ["made"], name="row")]
    scan = helper.make_graph(
        [*rows, helper.make_node("Identity", ["t"], ["t_next"])],
        "scan",
        infos(("t", TensorProto.FLOAT, [2, 4]), ("row", TensorProto.FLOAT, [2, 4])),
        infos(("t_next", TensorProto.FLOAT, [2, 4]), ("made", TensorProto.FLOAT, [2, 4])),
    )
    node = helper.make_node("Scan", [state, x], ["last", "rows"], name="scan", body=scan, num_scan_inputs=1)
    net.nodes.append(node)
    a = sp.onnx.audit(unchecked(net, (looped, TensorProto.FLOAT), ("rows", TensorProto.FLOAT)))
    layers = {layer.name: (layer.calls, layer.macs) for layer in a.layers}
    assert layers == {"loop/turn": (3, 3 * 2 * 4 * 4), "scan/row": (5, 5 * 2 * 4 * 4)}
    assert "Loop `loop`: its body counts 3 times" in a.remark
    assert "Scan `scan`: its body counts 5 times" in a.remark
    assert a.params == 16


def test_products_in_eight_bits_and_by_indices() -> None:
    net = Net()
    x = net.input("x", [2, 3, 8])
    floats = sp.onnx.audit(net.model(net.conv(x, 3, 4, (3,), "conv")))
    quantized = Net()
    x = quantized.input("x", [2, 3, 8])
    q = quantized.node("Cast", [x], "cast", to=TensorProto.UINT8)
    quantized.constant("w", np.ones((4, 3, 3), np.uint8))
    y = quantized.node("ConvInteger", [q, "w"], "conv")
    integers = sp.onnx.audit(unchecked(quantized, (y, TensorProto.INT32)))
    assert integers.macs == floats.macs > 0
    net = Net()
    x, w = net.input("x", [2, 3, 8]), net.constant("w", net.normal(8, 5))
    by_index = sp.onnx.audit(net.model(net.node("Einsum", [x, w], "einsum", equation="...c, cd -> ...d")))
    assert (by_index.macs, by_index.params) == (2 * 3 * 8 * 5, 40)


def test_shapes_that_only_running_tells() -> None:
    """How many samples NonZero finds depends on values: the model is run."""
    net = Net()
    x = net.input("x", ["N", 3, 8, 8])
    ones = net.node("Add", [x, net.constant("one", np.ones((1, 1, 1, 1), np.float32))], "ones")
    rows = net.node("Transpose", [net.node("NonZero", [ones], "where")], "rows", perm=[1, 0])
    net.constant("w", net.normal(4, 5))
    y = net.node("MatMul", [net.node("Cast", [rows], "cast", to=TensorProto.FLOAT), "w"], "layer")
    a = sp.onnx.audit(net.model(y))
    assert a.remark == "run on zeros, for the shapes"
    assert a.macs == 3 * 64 * 4 * 5


def test_shapes_have_to_be_known() -> None:
    net = Net()
    model = net.model(net.conv(net.input("x", ["N", 4, "h", "w"]), 4, 6, (3, 3), "conv"))
    with pytest.raises(ValueError, match=r"input `x` has open lengths, \(N, 4, h, w\); say which they are"):
        sp.onnx.audit(model)
    assert sp.onnx.audit(model, (1, 4, 10, 12)).macs == sp.onnx.audit(model, {"x": [1, 4, 10, 12]}).macs
    for wrong, message in (
        ((1, 3, 10, 12), r"gives input `x` \(1, 3, 10, 12\); the model takes \(N, 4, h, w\)"),
        ((1, 4, 10), r"the model takes \(N, 4, h, w\)"),
        ((1, 4, 10, -2), r"`shapes\['x'\]\[3\]=-2` is too small"),
        ({"y": (1, 4, 10, 12)}, "`shapes` names 'y'; the model has inputs 'x'"),
    ):
        with pytest.raises(ValueError, match=message):
            sp.onnx.audit(model, wrong)


def test_how_separable_the_layers_are() -> None:
    """The first layer is of rank 2 in one order; its numbers are those of the algebra."""
    net = Net()
    x = net.input("x", ["N", 8, 10, 10])
    depthwise, pointwise = net.normal(16, 1, 3, 3), net.normal(16, 16)
    net.constant("two.w", sp.conv.compose(depthwise, pointwise, rank=2))
    x = net.conv(x, 8, 16, (3, 3), "two", bias=False)
    x = net.conv(x, 16, 4, (3, 3), "any", strides=[2, 2])
    x = net.conv(x, 4, 8, (1, 1), "dot")
    a = sp.onnx.audit(net.model(net.conv(x, 8, 8, (3, 3), "dw", group=8)))
    two, other, dot = a.separability
    assert (two.name, two.best, other.name, dot.name) == ("two", "dw-pw", "any", "dot")
    assert (set(other.ranks), set(dot.ranks)) == ({"dw-pw", "pw-dw", "spatial", "low-rank"}, {"low-rank"})
    assert two.macs == a.layers[0].macs
    assert two.errors["dw-pw"][1] < 1e-6 < two.errors["dw-pw"][0]
    weights = onnx.numpy_helper.to_array(next(each for each in net.weights if each.name == "any.w"))
    for order in ("dw-pw", "pw-dw"):
        spectrum = slice_spectrum(weights, order)
        assert len(other.errors[order]) == len(other.form_macs[order]) == spectrum.shape[1]
        for rank in range(1, spectrum.shape[1] + 1):
            error = decompose(weights, rank, order)[2].relative_l2
            assert math.isclose(other.errors[order][rank - 1], error, rel_tol=1e-6, abs_tol=1e-7)
        assert math.isclose(sum(each**2 for each in other.spectra[order]), 1.0)
        assert other.errors[order][-1] == 0.0
    assert a.frontier[-1] == (a.macs, 0.0)
    lines = str(a).splitlines()
    row = next(line.split() for line in lines if line.startswith("two ") and "dw-pw" in line)
    assert row[:6] == ["two", "dw-pw", "0.0", "%", f"{100 * two.errors['dw-pw'][0]:.1f}", "%"]
    assert any("of the MACs are in layers with cheaper forms" in line for line in lines)


def test_a_batch_counts_in_all_of_it() -> None:
    one, seven = sp.onnx.audit(models.vgg()), sp.onnx.audit(models.vgg(), (7, 3, 12, 12))
    assert [each.macs for each in seven.separability] == [layer.macs for layer in seven.layers[:3]]
    for few, many in zip(one.separability, seven.separability, strict=True):
        assert (many.macs, many.errors, many.best) == (7 * few.macs, few.errors, few.best)
        assert all(many.form_macs[form] == tuple(7 * m for m in few.form_macs[form]) for form in few.ranks)


def test_table_json_and_page(tmp_path: Path) -> None:
    a = sp.onnx.audit(models.resnet(), measure=True, threads=1)
    assert "6 layers" in repr(a)
    assert a.measured_ms is not None
    assert all(layer.measured_ms is not None and layer.measured_ms > 0 for layer in a.layers)
    assert f"{a.macs:,} MACs" in str(a)
    found = json.loads(a.to_json())
    assert found["macs"] == a.macs
    assert [each["name"] for each in found["separability"]] == [each.name for each in a.separability]
    a.to_html(tmp_path / "audit.html")
    text = (tmp_path / "audit.html").read_text(encoding="utf-8")
    assert f"{a.macs:,}" in text
    assert '"measured ms":' in text


def test_a_file_is_left_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(models.vgg().SerializeToString())
    before = path.read_bytes()
    assert sp.onnx.audit(path).macs == sp.onnx.audit(models.vgg()).macs
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["model.onnx"]
