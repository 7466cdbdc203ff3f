"""Convolutions found in a graph, taken out and put back in another form: nothing about them is lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_models as models
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.onnx_ml_pb2 import ModelProto
from onnx_models import Array, Net

from separable.conv import decompose, fit
from separable.conv.forms.layer import ConvLayer, Replacement
from separable.onnx.conversion.calibration import OnnxCalibration
from separable.onnx.conversion.network import OnnxNetwork
from separable.onnx.conversion.separate import separate
from separable.onnx.conversion.trace import find_layers
from separable.onnx.model.files import read_model, whole_model, write_model
from separable.onnx.model.graph import GraphIndex
from separable.onnx.model.runtime import Session, giving, runnable


def full_rank(layer: ConvLayer, order: str = "dw-pw", most: int | None = None) -> Replacement:
    """Return the layer in a separable form that loses nothing, or that has so many terms at most."""
    if layer.kernel == (1,):
        return fit(layer, None, "low-rank", most or layer.c_in)
    others = layer.c_out // layer.groups if order == "dw-pw" else layer.c_in // layer.groups
    rank = min(others, layer.taps, most or layer.taps)
    depthwise, pointwise, _ = decompose(layer.weights, rank, order, groups=layer.groups)
    mixing = pointwise.reshape(*pointwise.shape, *(1,) * len(layer.kernel))
    way = {"stride": layer.stride, "padding": layer.padding, "dilation": layer.dilation}
    if order == "dw-pw":
        first = ConvLayer("dw", depthwise, None, groups=layer.c_in, sizes=layer.sizes, **way)
        second = ConvLayer("pw", mixing, layer.bias, groups=layer.groups, sizes=first.out_sizes)
    else:
        first = ConvLayer("pw", mixing, None, groups=layer.groups, sizes=layer.sizes)
        second = ConvLayer("dw", depthwise, layer.bias, groups=layer.c_out, sizes=layer.sizes, **way)
    return Replacement(order, rank, (first, second), 0.0)


def network(model: ModelProto, *inputs: Array) -> OnnxNetwork:
    stored = read_model(model)
    graph = GraphIndex(stored)
    arrays = {each.name: x for each, x in zip(graph.inputs, inputs, strict=False)}
    return OnnxNetwork(stored, OnnxCalibration(arrays, graph.inputs[: len(inputs)], 4), 1)


def image(*shape: int, dtype: str = "float32") -> Array:
    return np.random.default_rng(1).standard_normal(shape).astype(dtype)


def one_conv(
    *c: int, kernel: tuple[int, ...], sizes: tuple[int | str, ...], **attributes: object
) -> ModelProto:
    net = Net()
    x = net.input("x", ["N", c[0], *sizes])
    return net.model(net.conv(x, c[0], c[1], kernel, "conv", **attributes))


def explicit_pad(mode: str) -> ModelProto:
    net = Net()
    net.constant("pads", np.array([0, 0, 1, 2, 0, 0, 1, 2]))
    x = net.node("Pad", [net.input("x", ["N", 4, 9, 8]), "pads"], "pad", mode=mode)
    return net.model(net.conv(x, 4, 6, (3, 5), "conv"))


def constants() -> ModelProto:
    """Weights and bias in Constant nodes; behind an Identity, as exporters share them; no kernel_shape."""
    net = Net()
    x = net.input("x", ["N", 4, 8, 8])
    for name, values in (("weights", net.normal(8, 4, 3, 3)), ("bias", net.normal(8))):
        net.nodes.append(
            helper.make_node("Constant", [], [name], name=name, value=numpy_helper.from_array(values))
        )
    net.nodes.append(helper.make_node("Identity", ["weights"], ["same"], name="same"))
    return net.model(net.node("Conv", [x, "same", "bias"], "conv", pads=[1, 1, 1, 1]))


def shared() -> ModelProto:
    """One layer on two levels of a pyramid, and a third node with the same weights and another stride."""
    net = Net()
    x = net.input("x", ["N", 4, 12, 12])
    net.constant("w", net.normal(4, 4, 3, 3))
    small = net.node("MaxPool", [x], "pool", kernel_shape=[2, 2], strides=[2, 2])
    fine = net.node("Conv", [x, "w"], "fine", pads=[1] * 4)
    coarse = net.node("Conv", [small, "w"], "coarse", pads=[1] * 4)
    strided = net.node("Conv", [x, "w"], "strided", pads=[1] * 4, strides=[2, 2])
    return net.model(fine, net.node("Add", [coarse, strided], "sum"))


def nameless() -> ModelProto:
    net = Net()
    x = net.input("x", ["N", 4, 8, 8])
    for _ in range(2):
        weights = net.constant(f"w{len(net.nodes)}", net.normal(4, 4, 3, 3))
        net.nodes.append(helper.make_node("Conv", [x, weights], [f"y{len(net.nodes)}"]))
        x = net.nodes[-1].output[0]
    return net.model(x)


def norm_kept() -> ModelProto:
    """A batch norm that cannot be folded: the convolution's own result is an output too."""
    net = Net()
    y = net.conv(net.input("x", ["N", 4, 8, 8]), 4, 8, (3, 3), "conv")
    return net.model(net.norm(y, 8, "norm"), y)


def defaults() -> ModelProto:
    """Weights that are inputs with a default, as old exporters wrote them."""
    net = Net()
    y = net.conv(net.input("x", ["N", 4, 8, 8]), 4, 8, (3, 3), "conv")
    net.inputs += [
        helper.make_tensor_value_info(t.name, TensorProto.FLOAT, list(t.dims)) for t in net.weights
    ]
    return net.model(y)


CASES: dict[str, tuple[Callable[[], ModelProto], tuple[int, ...]]] = {
    "vgg": (models.vgg, (5, 3, 12, 12)),
    "vgg, newest operators": (lambda: models.vgg(models.newest_opset()), (5, 3, 12, 12)),
    "vgg, batch of 3": (lambda: models.vgg(batch=3), (6, 3, 12, 12)),
    "resnet": (models.resnet, (5, 3, 12, 12)),
    "no bias": (lambda: one_conv(4, 6, kernel=(3, 3), sizes=(9, 8), bias=False), (2, 4, 9, 8)),
    "grouped": (lambda: one_conv(8, 6, kernel=(3, 3), sizes=(9, 8), group=2), (2, 8, 9, 8)),
    "depthwise": (lambda: one_conv(6, 12, kernel=(3, 3), sizes=(9, 8), group=6), (2, 6, 9, 8)),
    "pointwise": (lambda: one_conv(6, 12, kernel=(1, 1), sizes=(9, 8), strides=[2, 1]), (2, 6, 9, 8)),
    "dilated, strided": (
        lambda: one_conv(4, 6, kernel=(3, 2), sizes=(11, 12), dilations=[2, 3], strides=[3, 2]),
        (2, 4, 11, 12),
    ),
    "asymmetric pads": (lambda: one_conv(4, 6, kernel=(3, 4), sizes=(7, 8), pads=[0, 3, 2, 1]), (2, 4, 7, 8)),
    "SAME_UPPER": (
        lambda: one_conv(4, 6, kernel=(3, 4), sizes=(8, 9), auto_pad="SAME_UPPER", strides=[2, 3]),
        (2, 4, 8, 9),
    ),
    "SAME_LOWER": (
        lambda: one_conv(4, 6, kernel=(2, 4), sizes=(8, 9), auto_pad="SAME_LOWER", strides=[1, 2]),
        (2, 4, 8, 9),
    ),
    "SAME_UPPER, open sizes": (
        lambda: one_conv(4, 6, kernel=(4, 4), sizes=("h", "w"), auto_pad="SAME_UPPER", strides=[2, 2]),
        (2, 4, 9, 8),
    ),
    "VALID": (lambda: one_conv(4, 6, kernel=(3, 3), sizes=(8, 9), auto_pad="VALID"), (2, 4, 8, 9)),
    "1-D": (lambda: one_conv(4, 6, kernel=(5,), sizes=(20,), strides=[2], pads=[1, 3]), (2, 4, 20)),
    "3-D": (
        lambda: one_conv(3, 4, kernel=(2, 3, 3), sizes=(5, 6, 7), pads=[0, 1, 1, 1, 1, 0]),
        (2, 3, 5, 6, 7),
    ),
    "reflecting pad": (lambda: explicit_pad("reflect"), (2, 4, 9, 8)),
    "edge pad": (lambda: explicit_pad("edge"), (2, 4, 9, 8)),
    "constants": (constants, (2, 4, 8, 8)),
    "shared": (shared, (2, 4, 12, 12)),
    "nameless": (nameless, (2, 4, 8, 8)),
    "norm kept": (norm_kept, (2, 4, 8, 8)),
    "defaults": (defaults, (2, 4, 8, 8)),
}


def relative(got: Array, wanted: Array) -> float:
    return float(np.abs(got - wanted).max() / np.abs(wanted).max())


@pytest.mark.parametrize("order", ["dw-pw", "pw-dw"])
@pytest.mark.parametrize("case", CASES)
def test_full_rank_is_the_original(case: str, order: str) -> None:
    build, shape = CASES[case]
    model, x = build(), image(*shape)
    before = model.SerializeToString(deterministic=True)
    net = network(model, x)
    changes = {index: full_rank(layer, order) for index, layer in enumerate(net.layers)}
    new = whole_model(net.converted(changes))
    assert model.SerializeToString(deterministic=True) == before
    models.check(new)
    assert new.opset_import == model.opset_import
    assert (new.producer_name, new.ir_version) == (model.producer_name, model.ir_version)
    step = 3 if case == "vgg, batch of 3" else len(x)
    for start in range(0, len(x), step):
        feeds = {
            "image" if "image" in [each.name for each in model.graph.input] else "x": x[start : start + step]
        }
        for got, wanted in zip(models.run(new, feeds), models.run(model, feeds), strict=True):
            assert relative(got, wanted) < 1e-4
    assert net.output_change(changes) < 1e-8


@pytest.mark.parametrize("case", CASES)
def test_layers_read_and_give_what_the_model_does(case: str) -> None:
    build, shape = CASES[case]
    net = network(build(), image(*shape))
    kept = {}
    for index, layer in enumerate(net.layers):
        pairs = list(net.samples(index, {}))
        assert len(pairs) == layer.calls * -(-shape[0] // (3 if case == "vgg, batch of 3" else 4))
        for x, y, *_ in pairs:
            assert relative(layer(x), y) < 1e-5
        for before, now in zip(pairs, net.samples(index, kept), strict=True):
            assert all(relative(b, a) < 1e-4 for a, b in zip(before, now, strict=True))
        kept[index] = full_rank(layer)


def test_samples_see_what_was_replaced_before_and_nothing_else() -> None:
    """Walking goes on where it stopped only while nothing behind it changed."""
    net = network(models.resnet(), image(6, 3, 12, 12))
    fresh = lambda: network(models.resnet(), image(6, 3, 12, 12))  # noqa: E731
    zero, half = ({0: scaled(net.layers[0], factor)} for factor in (0.0, 0.5))
    for replaced in (zero, half, {}, half):
        for index in (2, 4, 3):
            for got, wanted in zip(
                net.samples(index, replaced), fresh().samples(index, replaced), strict=True
            ):
                assert all(np.allclose(a, b, atol=1e-6) for a, b in zip(got, wanted, strict=True))
            change = net.output_change({**replaced, index: scaled(net.layers[index], 0.9)})
            assert change == pytest.approx(
                fresh().output_change({**replaced, index: scaled(net.layers[index], 0.9)}), rel=1e-4
            )


def test_a_branch_beside_makes_up_for_what_the_other_one_lost() -> None:
    """Behind a sum and a Relu, the target is the original sum less what the other branch gives now."""
    model, x = models.resnet(), image(4, 3, 12, 12)
    net = network(model, x)
    names = [layer.name for layer in net.layers]
    last, stem = names.index("block0.b"), names.index("stem")
    replaced = {stem: scaled(net.layers[stem], 0.5)}
    stored = read_model(model)
    wanted = ["block0.nb_out", "stem_out"]
    old = Session(giving(stored, wanted), 1)({"image": x})
    new = Session(giving(net.converted(replaced), wanted), 1)({"image": x})
    ((_, y, floor),) = net.samples(last, replaced)
    assert np.allclose(y + new["stem_out"], old["block0.nb_out"] + old["stem_out"], atol=1e-5)
    assert np.allclose(floor, -new["stem_out"])
    ((_, y, floor),) = net.samples(last, {})
    assert np.allclose(y, old["block0.nb_out"], atol=1e-5)
    assert np.allclose(floor, -old["stem_out"])
    assert len(next(net.samples(names.index("block0.a"), {}))) == 2


def scaled(layer: ConvLayer, factor: float) -> Replacement:
    conv = ConvLayer(
        layer.name,
        layer.weights * factor,
        layer.bias,
        layer.stride,
        layer.padding,
        layer.dilation,
        layer.groups,
        sizes=layer.sizes,
    )
    return Replacement("dense", 0, (conv,), 0.0)


def test_a_walk_with_no_room_gives_the_same() -> None:
    stored = read_model(models.resnet())
    data = OnnxCalibration(image(6, 3, 12, 12), GraphIndex(stored).inputs, 4)
    nets = OnnxNetwork(stored, data, 1), OnnxNetwork(stored, data, 1, 0)
    for index in range(len(nets[0].layers)):
        for roomy, tight in zip(*(net.samples(index, {}) for net in nets), strict=True):
            assert all(np.allclose(a, b, atol=1e-6) for a, b in zip(roomy, tight, strict=True))


def test_names_and_what_is_left() -> None:
    net = network(models.vgg(), image(4, 3, 12, 12))
    new = whole_model(net.converted({1: full_rank(net.layers[1], most=1)}))
    assert [node.name for node in new.graph.node if node.op_type == "Conv"] == [
        "conv0",
        "conv1/dw",
        "conv1/pw",
        "conv2",
    ]
    names = {each.name for each in new.graph.initializer}
    assert {"conv1/dw.weight", "conv1/pw.weight", "conv1/pw.bias", "conv0.w", "norm0.mean"} <= names
    assert not {name for name in names if name.startswith(("conv1.", "norm1."))}
    assert not any(node.name == "norm1" for node in new.graph.node)


def test_terms_run_as_convolutions_of_one_filter_for_each_channel_and_are_summed() -> None:
    net = network(models.vgg(), image(4, 3, 12, 12))
    for order, parts in (("dw-pw", ("dw", "pw")), ("pw-dw", ("pw", "dw"))):
        new = whole_model(net.converted({1: full_rank(net.layers[1], order, most=3)}))
        models.check(new)
        made = {node.name: node for node in new.graph.node if node.name.startswith("conv1/")}
        names = [[f"conv1/{part}{term}" for part in parts] for term in range(3)]
        assert list(made) == [*names[0], *names[1], "conv1/sum1", *names[2], "conv1/sum2"]
        shapes = {each.name: tuple(each.dims) for each in new.graph.initializer}
        for term in range(3):
            depthwise, pointwise = made[f"conv1/dw{term}"], made[f"conv1/pw{term}"]
            assert shapes[depthwise.input[1]] == (8, 1, 3, 3)
            assert shapes[pointwise.input[1]] == (8, 8, 1, 1)
            biased = [len(node.input) == 3 for node in (pointwise, depthwise)]
            assert biased == [term == 0 and order == "dw-pw", term == 0 and order == "pw-dw"]


def test_constant_nodes_go_with_what_read_them() -> None:
    net = network(constants(), image(2, 4, 8, 8))
    new = whole_model(net.converted({0: full_rank(net.layers[0], most=1)}))
    assert [node.op_type for node in new.graph.node] == ["Conv", "Conv"]


def test_shared_weights_are_one_layer_and_stay_shared() -> None:
    net = network(shared(), image(2, 4, 12, 12))
    assert [(layer.name, layer.calls, layer.sizes) for layer in net.layers] == [
        ("fine", 2, (12, 12)),
        ("strided", 1, (12, 12)),
    ]
    new = whole_model(net.converted({0: full_rank(net.layers[0], most=1)}))
    by_name = {node.name: node for node in new.graph.node}
    assert by_name["fine/dw"].input[1] == by_name["coarse/dw"].input[1] == "fine/dw.weight"
    assert "w" in {each.name for each in new.graph.initializer}  # the strided node still reads it
    assert len(new.graph.initializer) == 3


def test_padding_by_size_stays_so_where_sizes_are_open() -> None:
    build, shape = CASES["SAME_UPPER, open sizes"]
    model = build()
    net = network(model, image(*shape))
    for order in ("dw-pw", "pw-dw"):
        new = whole_model(net.converted({0: full_rank(net.layers[0], order)}))
        for sizes in ((9, 8), (12, 7), (6, 11)):
            feeds = {"x": image(2, 4, *sizes)}
            assert relative(models.run(new, feeds)[0], models.run(model, feeds)[0]) < 1e-4
    varied = OnnxCalibration([image(1, 4, 9, 8), image(1, 4, 8, 8)], GraphIndex(read_model(model)).inputs)
    with pytest.raises(ValueError, match="`calibration` has inputs of different sizes"):
        list(OnnxNetwork(read_model(model), varied, 1).samples(0, {}))


def test_channels_that_repeat_are_gathered() -> None:
    net = network(one_conv(3, 4, kernel=(3, 3), sizes=(8, 8), bias=False), image(2, 3, 8, 8))
    layer = net.layers[0]
    ranks = (3, 1, 4)
    depthwise, pointwise, _ = decompose(layer.weights, ranks)
    first = ConvLayer("dw", depthwise, groups=8, sizes=layer.sizes)
    second = ConvLayer("pw", pointwise[:, :, None, None], sizes=first.out_sizes)
    replacement = Replacement(
        "dw-pw", ranks, (first, second), 0.0, tuple(np.repeat(np.arange(3), ranks).tolist())
    )
    new = whole_model(net.converted({0: replacement}))
    models.check(new)
    assert [node.name for node in new.graph.node] == ["conv/channels", "conv/dw", "conv/pw"]
    x = image(2, 3, 8, 8)
    assert np.allclose(models.run(new, {"x": x})[0], replacement(x), atol=1e-5)
    assert net.milliseconds(0, replacement) > 0


def test_half_precision_stays_so() -> None:
    net = Net(dtype="float16")
    model = net.model(net.conv(net.input("x", ["N", 4, 8, 8]), 4, 6, (3, 3), "conv"))
    x = image(2, 4, 8, 8, dtype="float16")
    found = network(model, x)
    new = whole_model(found.converted({0: full_rank(found.layers[0])}))
    models.check(new)
    assert {each.data_type for each in new.graph.initializer} == {TensorProto.FLOAT16}
    assert relative(models.run(new, {"x": x})[0], models.run(model, {"x": x})[0]) < 1e-2


def test_a_type_that_the_runtime_lacks_is_said_to_be_its() -> None:
    net = Net(dtype="float64")
    y = net.conv(net.input("x", ["N", 4, 8, 8]), 4, 6, (3, 3), "conv")
    with pytest.raises(ValueError, match=r"ONNX Runtime .* refuses it: .*Conv"):
        runnable(read_model(net.model(y)))


# --- what is refused ----------------------------------------------------------------------------------


def refusing() -> ModelProto:
    """Everything that convolves and cannot be converted, beside one convolution that can."""
    net = Net()
    x = net.input("x", ["N", 4, 8, 8])
    given = net.input("given", [4, 4, 3, 3])
    fine = net.conv(x, 4, 4, (3, 3), "fine", pads=[1] * 4)
    parts = [fine]
    net.constant("wt", net.normal(4, 4, 3, 3))
    net.constant("wide", net.normal(4, 4, 1, 1))
    parts.append(
        net.node(
            "ConvTranspose",
            [x, "wide"],
            "up",
            pads=[1, 1, 0, 0],
            output_padding=[1, 1],
            strides=[1, 1],
            dilations=[2, 2],
        )
    )
    parts.append(net.node("Conv", [x, given], "from outside", pads=[1] * 4))
    net.constant("q", np.ones((4, 4, 3, 3), np.int8))
    net.constant("scale", np.float32(0.1))
    parts.append(
        net.node("Conv", [x, net.node("DequantizeLinear", ["q", "scale"], "dq")], "quant", pads=[1] * 4)
    )
    twice = net.node("Exp", ["wt"], "twice")
    parts.append(net.node("Conv", [x, twice], "computed", pads=[1] * 4))
    net.constant("bad", np.full((4, 4, 3, 3), np.nan, np.float32))
    parts.append(net.node("Conv", [x, "bad"], "nan", pads=[1] * 4))
    net.constant("flag", np.array(True))
    branch = helper.make_graph(
        [helper.make_node("Conv", [x, "wt"], ["inner"], name="inside", pads=[1] * 4)],
        "branch",
        [],
        [helper.make_tensor_value_info("inner", TensorProto.FLOAT, ["N", 4, 8, 8])],
    )
    parts.append(net.node("If", ["flag"], "if", then_branch=branch, else_branch=branch))
    return net.model(net.node("Sum", parts, "sum"))


REASONS = {
    "up": "it cuts off (1, 0) samples, more than its taps reach over (0)",
    "from outside": "its weights are an input of the model",
    "quant": "its weights come out of DequantizeLinear `dq`: quantized",
    "computed": "its weights are computed by Exp `twice`: fold constants first",
    "nan": "its weights hold NaN or infinity",
    "inside": "within a subgraph of If `if`",
}


def test_what_is_refused_is_named_with_the_reason() -> None:
    found, refused = find_layers(read_model(refusing()))
    assert [each.name for each in found] == ["fine"]
    reasons = {each.name: each.reason for each in refused}
    assert reasons.keys() == REASONS.keys()
    for name, reason in REASONS.items():
        assert reason in reasons[name]


def test_the_cost_of_what_is_refused_is_known() -> None:
    stored = read_model(refusing())
    feeds = [{"x": image(2, 4, 8, 8), "given": image(4, 4, 3, 3)}]
    costs = OnnxNetwork(stored, OnnxCalibration(feeds, GraphIndex(stored).inputs), 1).other_costs()
    assert costs["up"] == (4 * 4 * 64, 16)
    assert costs["quant"][0] == costs["computed"][0] == 4 * 4 * 9 * 64


def test_quantized_operators_are_refused() -> None:
    net = Net()
    x = net.input("x", ["N", 4, 8, 8])
    net.constant("s", np.float32(0.1))
    net.constant("z", np.int8(0))
    net.constant("w", np.ones((4, 4, 3, 3), np.int8))
    q = net.node("QuantizeLinear", [x, "s", "z"], "q")
    y = net.node("QLinearConv", [q, "s", "z", "w", "s", "z", "s", "z"], "conv")
    model = net.model(net.node("DequantizeLinear", [y, "s", "z"], "dq"))
    found, refused = find_layers(read_model(model))
    assert not found
    assert [(each.name, each.operator) for each in refused] == [("conv", "QLinearConv")]
    assert "before it is quantized" in refused[0].reason


def test_a_graph_without_nodes_and_one_with_nothing_to_convert_are_refused() -> None:
    ends = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3])]
    empty = helper.make_model(
        helper.make_graph([], "empty", ends, ends), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    with pytest.raises(ValueError, match="has no layer that can be converted"):
        separate(empty, np.zeros((1, 3), np.float32))


def test_a_layer_beside_a_subgraph_is_timed() -> None:
    """What a subgraph makes is not what it reads from outside."""
    net = Net()
    x = net.conv(net.input("x", ["N", 8, 9, 9]), 8, 16, (3, 3), "conv")
    branches = {}
    for branch, operator in (("then_branch", "Relu"), ("else_branch", "Neg")):
        end = helper.make_tensor_value_info(branch, TensorProto.FLOAT, None)
        branches[branch] = helper.make_graph([helper.make_node(operator, [x], [branch])], branch, [], [end])
    model = net.model(net.node("If", [net.constant("condition", np.array(True))], "if", **branches))
    found = network(model, image(2, 8, 9, 9))
    assert found.milliseconds(0, full_rank(found.layers[0], most=1)) > 0


def test_functions_are_refused_with_the_way_out() -> None:
    model = one_conv(4, 6, kernel=(3, 3), sizes=(8, 8))
    function = helper.make_function(
        "local",
        "twice",
        ["a", "w"],
        ["b"],
        [helper.make_node("Conv", ["a", "w"], ["b"], name="inner")],
        model.opset_import,
    )
    model.functions.append(function)
    model.opset_import.append(helper.make_opsetid("local", 1))
    model.ir_version = 8
    refused = find_layers(read_model(model))[1]
    assert [(each.name, "inline_local_functions" in each.reason) for each in refused] == [("inner", True)]


# --- files --------------------------------------------------------------------------------------------


def test_a_replaced_file_is_never_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.onnx"
    stored = read_model(models.vgg())
    write_model(stored, path)
    before = path.read_bytes()

    def broken(*_: object, **__: object) -> bytes:
        raise OSError("no space left")

    monkeypatch.setattr("separable.onnx.model.files.whole_model", broken)
    with pytest.raises(OSError, match="no space left"):
        write_model(stored, path)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["model.onnx"]
