"""Transposed convolutions, products of matrices and activations in ONNX models: found, fitted, written."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Sequence

import numpy as np
import onnx
import onnx_models as models
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from onnx.onnx_ml_pb2 import ModelProto
from onnx_models import Array, Net

import separable as sp
from separable.conv import Activation, fit
from separable.onnx.conversion.calibration import OnnxCalibration
from separable.onnx.conversion.folds import with_folds
from separable.onnx.conversion.network import OnnxNetwork
from separable.onnx.conversion.nodes import CONVOLUTIONS, ConvNode
from separable.onnx.conversion.operators import READ
from separable.onnx.conversion.trace import find_layers
from separable.onnx.model.activations import activation_behind
from separable.onnx.model.files import read_model, whole_model
from separable.onnx.model.graph import GraphIndex


def numbers(*shape: int, seed: int = 1) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def network(model: ModelProto, x: Array) -> OnnxNetwork:
    stored = read_model(model)
    graph = GraphIndex(stored)
    return OnnxNetwork(stored, OnnxCalibration({graph.inputs[0].name: x}, graph.given(), 4), 1)


def up(shape: Sequence[int], sizes: Sequence[int | str], norm: int = 0, **attributes: object) -> ModelProto:
    net = Net()
    x = net.input("x", ["N", shape[0], *sizes])
    net.constant("w", net.normal(*shape))
    outputs = shape[1] * int(attributes.get("group", 1))  # type: ignore[call-overload]
    net.constant("b", net.normal(outputs))
    y = net.node("ConvTranspose", [x, "w", "b"], "up", **attributes)
    return net.model(net.norm(y, outputs, "norm") if norm else y)


TRANSPOSED: dict[str, tuple[ModelProto, tuple[int, ...]]] = {
    "no overlap": (up((6, 4, 2, 2), (5, 6), strides=[2, 2]), (6, 6, 5, 6)),
    "overlap": (up((6, 4, 4, 3), (5, 6), strides=[2, 2], pads=[1, 0, 1, 0]), (6, 6, 5, 6)),
    "more behind": (up((6, 4, 3, 3), (5, 6), strides=[2, 3], output_padding=[1, 2]), (6, 6, 5, 6)),
    "uneven": (up((6, 4, 4, 4), (5, 6), strides=[2, 2], pads=[0, 2, 1, 1]), (6, 6, 5, 6)),
    "grouped, dilated": (
        up((6, 4, 3, 3), (5, 6), strides=[2, 2], dilations=[2, 1], group=2, pads=[1] * 4),
        (6, 6, 5, 6),
    ),
    "SAME_UPPER": (up((6, 4, 5, 4), (5, 6), strides=[2, 2], auto_pad="SAME_UPPER"), (6, 6, 5, 6)),
    "SAME_LOWER": (up((6, 4, 5, 4), (5, 6), strides=[2, 2], auto_pad="SAME_LOWER"), (6, 6, 5, 6)),
    "a shape": (up((6, 4, 5, 4), (5, 6), strides=[2, 2], output_shape=[10, 11]), (6, 6, 5, 6)),
    "norm": (up((6, 4, 2, 2), (5, 6), 1, strides=[2, 2], group=2), (6, 6, 5, 6)),
    "stride of one": (up((6, 4, 3, 3), (5, 6), pads=[1] * 4), (6, 6, 5, 6)),
    "1-D": (up((6, 4, 4), (9,), strides=[2], pads=[1, 1]), (6, 6, 9)),
    "3-D": (up((4, 3, 2, 2, 2), (3, 4, 3), strides=[2, 2, 2]), (6, 4, 3, 4, 3)),
}


@pytest.mark.parametrize("form", ["dw-pw", "pw-dw", "spatial", "low-rank"])
@pytest.mark.parametrize("case", TRANSPOSED)
def test_a_transposed_layer_at_full_rank_is_the_original(case: str, form: str) -> None:
    model, shape = TRANSPOSED[case]
    x = numbers(*shape)
    result = sp.onnx.separate(model, x, rank="full", forms=[form], threads=1)
    models.check(result.model)
    (row,) = result.report.layers
    (got,), (wanted,) = (models.run(each, {"x": x}) for each in (result.model, model))
    assert np.abs(got - wanted).max() < 2e-5 * np.abs(wanted).max()
    operators = [node.op_type for node in result.model.graph.node]
    if row.form != "dense":
        assert "ConvTranspose" in operators
        assert "BatchNormalization" not in operators
    assert result.report.macs_before == sp.onnx.audit(model, {"x": (1, *shape[1:])}).macs
    assert result.report.macs_after == sp.onnx.audit(result.model, {"x": (1, *shape[1:])}).macs


@pytest.mark.parametrize("case", TRANSPOSED)
def test_a_transposed_layer_reads_and_gives_what_the_model_does(case: str) -> None:
    model, shape = TRANSPOSED[case]
    net = network(model, numbers(*shape))
    for x, y, *_ in net.samples(0, {}):
        np.testing.assert_allclose(net.layers[0](x), y, atol=1e-4)
    assert net.milliseconds(0, fit(net.layers[0], None, "low-rank", 2)) > 0


@st.composite
def transposed_models(draw: st.DrawFn) -> tuple[ModelProto, tuple[int, ...]]:
    """Draw a ConvTranspose of one or two axes, with every attribute that it can have."""
    ndim, groups = draw(st.integers(1, 2)), draw(st.sampled_from((1, 1, 2)))
    kernel, dilation, stride = ([draw(st.integers(1, most)) for _ in range(ndim)] for most in (4, 2, 3))
    spans = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    attributes: dict[str, object] = {"strides": stride, "dilations": dilation, "group": groups}
    how = draw(st.sampled_from(("pads", "pads", "SAME_UPPER", "SAME_LOWER", "shape")))
    sizes = tuple(draw(st.integers(3, 6)) for _ in range(ndim))
    if how == "pads":
        before = [draw(st.integers(0, span)) for span in spans]
        # Something is left: ONNX Runtime refuses outputs without elements.
        rest = [(n - 1) * s + w + 1 - b for n, s, w, b in zip(sizes, stride, spans, before, strict=True)]
        after = [draw(st.integers(0, min(span, left - 1))) for span, left in zip(spans, rest, strict=True)]
        attributes["pads"] = [*before, *after]
        attributes["output_padding"] = [draw(st.integers(0, step - 1)) for step in stride]
    elif how == "shape":
        whole = [(n - 1) * s + span + 1 for n, s, span in zip(sizes, stride, spans, strict=True)]
        attributes["output_shape"] = [
            w - draw(st.integers(0, span)) for w, span in zip(whole, spans, strict=True)
        ]
    elif all(span + 1 >= step for span, step in zip(spans, stride, strict=True)):
        attributes["auto_pad"] = how
    channels = groups * draw(st.integers(1, 3)), draw(st.integers(1, 3))
    return up((*channels, *kernel), sizes, **attributes), (4, channels[0], *sizes)


@given(case=transposed_models(), form=st.sampled_from(("dw-pw", "pw-dw", "spatial", "low-rank")))
@settings(max_examples=60, deadline=None)
def test_any_transposed_layer_is_read_and_written(
    case: tuple[ModelProto, tuple[int, ...]], form: str
) -> None:
    model, shape = case
    x = numbers(*shape)
    (wanted,) = models.run(model, {"x": x})
    if not wanted.size or not find_layers(read_model(model))[0]:
        return
    net = network(model, x)
    np.testing.assert_allclose(net.layers[0](x), wanted, atol=1e-4)
    result = sp.onnx.separate(model, x, rank="full", forms=[form], threads=1)
    models.check(result.model)
    np.testing.assert_allclose(models.run(result.model, {"x": x})[0], wanted, atol=1e-4)


def product(
    operator: str, shape: tuple[int, ...], left: bool = False, bias: tuple[int, ...] | None = None
) -> Callable[[Sequence[int | str]], ModelProto]:
    def build(given: Sequence[int | str]) -> ModelProto:
        net = Net()
        x = net.input("x", list(given))
        net.constant("w", net.normal(*shape))
        y = net.node(operator, ["w", x] if left else [x, "w"], "layer")
        if bias is not None:
            net.constant("b", net.normal(*bias))
            y = net.node("Add", ["b", y], "bias")
        return net.model(y)

    return build


def gemm(added: tuple[int, ...] | None = None, **attributes: object) -> ModelProto:
    net = Net()
    turned = bool(attributes.get("transA"))
    x = net.input("x", [7, "N"] if turned else ["N", 7])
    net.constant("w", net.normal(*((5, 7) if attributes.get("transB") else (7, 5))))
    inputs = [x, "w"]
    if added is not None:
        inputs.append(net.constant("c", net.normal(*added) if added else np.float32(0.3)))
    return net.model(net.node("Gemm", inputs, "layer", **attributes))


PRODUCTS: dict[str, tuple[ModelProto, tuple[int, ...]]] = {
    "matrix": (product("MatMul", (7, 5))(["N", 7]), (6, 7)),
    "with a bias": (product("MatMul", (7, 5), bias=(5,))(["N", 7]), (6, 7)),
    "tokens": (product("MatMul", (7, 5), bias=(5,))(["N", 3, 7]), (6, 3, 7)),
    "heads": (product("MatMul", (7, 5), bias=(5,))(["N", 2, 3, 7]), (6, 2, 3, 7)),
    "left": (product("MatMul", (5, 7), left=True, bias=(5, 1))(["N", 7, 4]), (6, 7, 4)),
    "left, two axes before": (product("MatMul", (5, 7), left=True)(["N", 2, 7, 4]), (6, 2, 7, 4)),
    "a bias of another axis": (product("MatMul", (5, 7), left=True, bias=(4,))(["N", 7, 4]), (6, 7, 4)),
    "gemm": (gemm((5,)), (6, 7)),
    "gemm, turned": (gemm((1, 5), transB=1), (6, 7)),
    "gemm, scaled": (gemm((5,), transB=1, alpha=0.5, beta=2.0), (6, 7)),
    "gemm, one number": (gemm(()), (6, 7)),
    "gemm, no bias": (gemm(), (6, 7)),
    "gemm, beta of none": (gemm((5,), beta=0.0), (6, 7)),
}


@pytest.mark.parametrize("case", PRODUCTS)
def test_a_product_at_full_rank_is_the_original(case: str) -> None:
    model, shape = PRODUCTS[case]
    x = numbers(*shape)
    result = sp.onnx.separate(model, x, rank="full", forms=["low-rank"], threads=1)
    models.check(result.model)
    assert [row.form for row in result.report.layers] == ["low-rank"]
    (got,), (wanted,) = (models.run(each, {"x": x}) for each in (result.model, model))
    assert np.abs(got - wanted).max() < 2e-5 * np.abs(wanted).max()
    assert result.report.macs_before == sp.onnx.audit(model, {"x": (1, *shape[1:])}).macs
    assert result.report.macs_after == sp.onnx.audit(result.model, {"x": (1, *shape[1:])}).macs
    net = network(model, x)
    for read, gave, *_ in net.samples(0, {}):
        np.testing.assert_allclose(net.layers[0](read), gave, atol=1e-5)
    assert net.milliseconds(0, fit(net.layers[0], None, "low-rank", 2)) > 0


def test_a_gemm_that_turns_what_it_reads() -> None:
    model = gemm((5,), transA=1)
    x = numbers(7, 6)
    stored = read_model(model)
    net = OnnxNetwork(stored, OnnxCalibration([{"x": x}], GraphIndex(stored).given(), 6), 1)
    for read, gave, *_ in net.samples(0, {}):
        np.testing.assert_allclose(net.layers[0](read), gave, atol=1e-5)
    new = whole_model(net.converted({0: fit(net.layers[0], None, "low-rank", 5)}))
    models.check(new)
    np.testing.assert_allclose(models.run(new, {"x": x})[0], models.run(model, {"x": x})[0], atol=1e-5)
    assert net.milliseconds(0, fit(net.layers[0], None, "low-rank", 2)) > 0


def test_rows_that_all_lie_along_the_first_axis_count_for_their_input() -> None:
    net = Net()
    x = net.input("x", ["N", 3, 7])
    net.constant("flat", np.array([-1, 7]))
    net.constant("w", net.normal(7, 5))
    model = net.model(net.node("MatMul", [net.node("Reshape", [x, "flat"], "rows"), "w"], "layer"))
    found = network(model, numbers(8, 3, 7))
    assert found.layers[0].macs == 3 * 7 * 5 == sp.onnx.audit(model, {"x": (1, 3, 7)}).macs
    (first, second) = found.samples(0, {})
    assert len(first[0]) == 12
    assert len(second[0]) == 9  # one input of eight is held out


def test_a_low_rank_fit_sees_what_a_product_reads() -> None:
    rng = np.random.default_rng(0)
    basis = rng.standard_normal((24, 4))
    x = (rng.standard_normal((64, 6, 4)) @ basis.T + 0.05 * rng.standard_normal((64, 6, 24))).astype(
        np.float32
    )
    model = product("MatMul", (24, 20), bias=(20,))(["N", 6, 24])
    result = sp.onnx.separate(model, x, 0.4, by="macs", threads=1, never_slower=False)
    assert [row.form for row in result.report.layers] == ["low-rank"]
    assert result.report.output_change < 0.01
    values = np.linalg.svd(numpy_helper.to_array(model.graph.initializer[0]), compute_uv=False)
    assert np.square(values[4:]).sum() / np.square(values).sum() > 0.3  # what weights alone would lose
    assert [node.name for node in result.model.graph.node] == [
        "layer/reduce",
        "layer/expand",
        "layer/expand/bias",
    ]


def test_one_rank_for_all_spares_products() -> None:
    x = numbers(16, 3, 12, 12)
    spared = sp.onnx.separate(models.vgg(), x, rank=1, threads=1).report
    (head,) = [row for row in spared.layers if row.name == "head"]
    assert (head.form, "depth multiplier" in head.reason) == ("dense", True)
    reduced = sp.onnx.separate(models.vgg(), x, rank=2, forms=["low-rank"], threads=1).report
    assert {row.name: row.form for row in reduced.layers}["head"] == "low-rank"


def test_products_that_stay_are_named() -> None:
    net = Net()
    x = net.input("x", ["N", 4, 4])
    net.constant("w", net.normal(4, 4))
    net.constant("stack", net.normal(2, 4, 4))
    net.constant("vector", net.normal(4))
    net.constant("column", net.normal(4, 1))
    net.constant("q", np.ones((4, 4), np.int8))
    net.constant("scale", np.float32(0.1))
    flat = net.node("Reshape", [x, net.constant("shape", np.array([-1, 4]))], "flat")
    square = net.node("Reshape", [x, net.constant("square", np.array([4, 4]))], "square")
    wide = net.node("Unsqueeze", [x, net.constant("one", np.array([1]))], "wide")
    parts = [
        net.node("MatMul", [x, "w"], "fine"),
        net.node("MatMul", [x, x], "both computed"),
        net.node("MatMul", [flat, net.node("DequantizeLinear", ["q", "scale"], "dq")], "quantized"),
        net.node("MatMul", [wide, "stack"], "stacked"),
        net.node("MatMul", [x, "vector"], "by a vector"),
        net.node("Gemm", ["w", square], "first"),
        net.node("Gemm", [flat, "w", square], "biased"),
        net.node("Gemm", [square, "w", "column"], "added"),
    ]
    found, refused = find_layers(read_model(net.model(*parts)))
    assert [node.name for node in found] == ["fine"]
    said = {refusal.name: refusal.reason for refusal in refused}
    assert said == {
        "quantized": "its weights come out of DequantizeLinear `dq`: quantized; convert the model before it "
        "is quantized",
        "stacked": "its weights are of shape (2, 4, 4); expected a matrix",
        "by a vector": "its weights are a vector; expected a matrix",
        "first": "its first factor is a constant, not its second",
        "biased": "its bias is computed, or an input of the model: fold constants first",
        "added": "what it adds has shape (4, 1); expected one number for each output",
    }


# --- what is folded, what is shared, what is made of constants --------------------------------------------


def test_factors_and_addends_of_channels_are_folded() -> None:
    net = Net()
    x = net.input("x", ["N", 4, 6, 6])
    y = net.conv(x, 4, 5, (3, 3), "conv")
    for number, (operator, shape) in enumerate(
        [("Mul", (1, 5, 1, 1)), ("Add", (5, 1, 1)), ("Sub", ()), ("Div", (1,))]
    ):
        net.constant(f"c{number}", np.asarray(net.rng.uniform(0.5, 2, shape), np.float32))
        y = net.node(operator, [y, f"c{number}"], f"step{number}")
    model = net.model(net.node("Relu", [y], "relu"))
    stored = read_model(model)
    (found,) = find_layers(stored)[0]
    assert isinstance(found, ConvNode)
    assert found.operator in CONVOLUTIONS
    assert (found.folded, found.activation) == ((1, 2, 3, 4), Activation("relu"))
    plain = READ["Conv"](GraphIndex(stored), 0, "conv")
    assert with_folds(GraphIndex(stored), plain).gives == "step3_out"
    data = numbers(8, 4, 6, 6)
    result = sp.onnx.separate(model, data, rank="full", forms=["dw-pw"], threads=1)
    assert not {"Mul", "Sub", "Div"} & {node.op_type for node in result.model.graph.node}
    (got,), (wanted,) = (models.run(each, {"x": data}) for each in (result.model, model))
    np.testing.assert_allclose(got, wanted, atol=1e-5)
    names = {each.name for each in result.model.graph.initializer}
    assert not names & {"c0", "c1", "c2", "c3"}


def test_what_is_no_step_of_channels_stays() -> None:
    net = Net()
    x = net.input("x", ["N", 5, 5, 5])
    ends = []
    for name, operator, values, first in (
        ("width", "Add", net.normal(5), True),  # of the last axis, though there are as many channels
        ("reversed", "Sub", net.normal(1), False),
        ("zero", "Div", np.zeros(1, np.float32), True),
    ):
        net.constant(name, values)
        y = net.conv(x, 5, 5, (1, 1), f"{name} conv")
        ends.append(net.node(operator, [y, name] if first else [name, y], f"{name} step"))
    assert [node.folded for node in find_layers(read_model(net.model(*ends)))[0]] == [()] * 3


def test_a_matrix_that_several_nodes_turn_is_one_layer() -> None:
    """Exporters write a Transpose for each call of a module."""
    net = Net()
    x = net.input("x", ["N", 16])
    net.constant("w", net.normal(16, 16))
    for number in range(3):
        turned = net.node("Transpose", ["w"], f"turn{number}", perm=[1, 0])
        x = net.node("Tanh", [net.node("MatMul", [x, turned], f"call{number}")], f"tanh{number}")
    model = net.model(x)
    found = network(model, numbers(32, 16))
    assert [(layer.name, layer.calls) for layer in found.layers] == [("call0", 3)]
    assert len(list(found.samples(0, {}))) == 3 * 8
    result = sp.onnx.separate(model, numbers(32, 16), 0.6, by="macs", threads=1, never_slower=False)
    assert result.report.macs_after == sp.onnx.audit(result.model, {"x": (1, 16)}).macs
    assert len(result.model.graph.initializer) == 3  # both factors and a bias, once
    assert not [node for node in result.model.graph.node if node.op_type == "Transpose"]


def test_a_weight_norm_is_a_constant() -> None:
    net = Net()
    x = net.input("x", ["N", 6, 20])
    net.constant("v", net.normal(8, 6, 3))
    net.constant("g", np.abs(net.normal(8, 1, 1)) + 1)
    length = net.node("ReduceL2", ["v"], "length", axes=[1, 2], keepdims=1)
    squares = net.node("Mul", ["v", "v"], "squares")
    total = net.node("ReduceSum", [squares, net.constant("axes", np.array([1, 2]))], "sum", keepdims=1)
    by_hand = net.node("Sqrt", [total], "root")
    ends = []
    for number, norm in enumerate((length, by_hand)):
        weights = net.node("Mul", ["g", net.node("Div", ["v", norm], f"unit{number}")], f"w{number}")
        ends.append(net.node("Conv", [x, weights], f"conv{number}"))
    model = net.model(*ends)
    data = numbers(8, 6, 20)
    result = sp.onnx.separate(model, data, rank="full", forms=["dw-pw"], threads=1)
    assert {row.form for row in result.report.layers} == {"dw-pw"}
    for got, wanted in zip(*(models.run(each, {"x": data}) for each in (result.model, model)), strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-5)
    assert {node.op_type for node in result.model.graph.node} <= {"Conv", "Add"}


# --- what reads a layer ------------------------------------------------------------------------------------

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402


class Called(nn.Module):
    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


def prelu(count: int) -> nn.Module:
    layer = nn.PReLU(count)
    nn.init.uniform_(layer.weight, 0.1, 0.3)
    return layer


EXPORTED: dict[str, tuple[nn.Module, str | None]] = {
    "relu": (nn.ReLU(), "relu"),
    "relu6": (nn.ReLU6(), "clip"),
    "hardtanh": (nn.Hardtanh(-2, 1), "clip"),
    "from below": (Called(lambda x: x.clamp(min=-0.5)), "clip"),
    "leaky": (nn.LeakyReLU(0.2), "leaky_relu"),
    "prelu": (prelu(1), "leaky_relu"),
    "prelu of channels": (prelu(6), "leaky_relu"),
    "elu": (nn.ELU(0.5), "elu"),
    "silu": (nn.SiLU(), "silu"),
    "hard swish": (nn.Hardswish(), "hard_swish"),
    "by hand": (Called(lambda x: x * F.relu6(x + 3) / 6), "hard_swish"),
    "by hand, in turn": (Called(lambda x: F.relu6(x + 3) / 6 * x), "hard_swish"),
    "gelu": (nn.GELU(), "gelu"),
    "gelu tanh": (nn.GELU("tanh"), "gelu_tanh"),
    "gelu by hand": (
        Called(lambda x: 0.5 * x * (1 + torch.tanh(0.7978845608 * (x + 0.044715 * x**3)))),
        "gelu_tanh",
    ),
    "sigmoid": (nn.Sigmoid(), "sigmoid"),
    "hard sigmoid": (nn.Hardsigmoid(), "hard_sigmoid"),
    "hard sigmoid by hand": (Called(lambda x: (x + 3).clamp(0, 6) / 6), "clip"),
    "tanh": (nn.Tanh(), "tanh"),
    "softplus": (nn.Softplus(), None),
    "mish": (nn.Mish(), None),
    "two uses": (Called(lambda x: F.silu(x) + x.mean()), None),
}


def exported(model: nn.Module, x: torch.Tensor, opset: int) -> ModelProto:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model.eval(), (x,), buffer, dynamo=False, opset_version=opset)
    return onnx.load_from_string(buffer.getvalue())


@pytest.mark.parametrize("opset", [13, 20])
@pytest.mark.parametrize("name", EXPORTED)
def test_activations_are_known_however_they_are_written(name: str, opset: int) -> None:
    module, expected = EXPORTED[name]
    x = torch.randn(2, 3, 8, 8)
    stored = read_model(exported(nn.Sequential(nn.Conv2d(3, 6, 3), module), x, opset))
    (found,) = find_layers(stored)[0]
    assert (found.activation and found.activation.name) == expected
    assert bool(found.read_by) == (expected is None)
    z = np.linspace(-7, 7, 6 * 50).reshape(50, 6).astype(np.float32)
    if found.activation is not None and name != "hard sigmoid by hand":  # whose first step is folded
        wanted = module(torch.tensor(z).reshape(50, 6, 1, 1)).detach().numpy().reshape(50, 6)
        np.testing.assert_allclose(found.activation(z), wanted, atol=2e-4)


@pytest.mark.parametrize("name", ["gelu", "silu", "prelu of channels"])
def test_activations_behind_linear_layers_and_sums(name: str) -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.act = nn.Linear(6, 6), nn.Linear(6, 6), EXPORTED[name][0]

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.act(self.first(x))
            return self.act(self.second(y) + x)

    stored = read_model(exported(Block(), torch.randn(4, 6), 17))
    found = find_layers(stored)[0]
    assert [node.activation is not None for node in found] == [True, True]
    assert [node.beside is not None for node in found] == [False, True]
    rows = sp.onnx.separate(
        exported(Block(), torch.randn(4, 6), 17), numbers(32, 6), rank=2, forms=["low-rank"], threads=1
    ).report.layers
    assert [row.activation for row in rows] == [EXPORTED[name][1]] * 2


def test_a_tensor_that_is_an_output_is_read_by_more_than_an_activation() -> None:
    net = Net()
    y = net.conv(net.input("x", ["N", 4, 6, 6]), 4, 5, (3, 3), "conv")
    graph = GraphIndex(read_model(net.model(y, net.node("Relu", [y], "relu"))))
    assert activation_behind(graph, y, (5, 1, 1)) == (None, "Relu")
    assert activation_behind(graph, "relu_out", (5, 1, 1)) == (None, "")
    twice = Net()
    y = twice.node("Relu", [twice.node("Neg", [twice.input("x", ["N", 4])], "neg")], "relu")
    model = twice.model(y)
    model.graph.node[0].attribute.append(helper.make_attribute("unknown", 1))
    assert activation_behind(GraphIndex(read_model(twice.model(y))), "x", (4,)) == (None, "Neg")
