"""Lengths that a model leaves open: what they are called, and what a user says of them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import onnx_models as models  # noqa: E402 (needs onnx and onnxruntime)
from onnx import ModelProto, TensorProto, ValueInfoProto, helper  # noqa: E402

import separable as sp  # noqa: E402
from separable.onnx.model.files import read_model, whole_model  # noqa: E402
from separable.onnx.model.lengths import declared_shape, input_shapes, open_lengths  # noqa: E402


def info(name: str, *shape: int | str | None) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


IMAGE = info("image", "batch", 3, "height", "width")
MASK = info("mask:0", "batch", 1, "height", "width")
STATE = info("state", 2, "batch", None)


# --- what they are called -----------------------------------------------------------------------------


def test_a_length_is_a_number_or_has_a_name() -> None:
    assert declared_shape(IMAGE) == ("batch", 3, "height", "width")
    assert declared_shape(info("x", None, 3, "?", "?")) == ("x.0", 3, "x.2", "x.3")
    assert declared_shape(info("x", -1, 0, "None", "")) == ("x.0", "x.1", "x.2", "x.3")
    assert declared_shape(info("number")) == ()
    assert declared_shape(helper.make_tensor_value_info("x", TensorProto.FLOAT, None)) is None
    assert open_lengths([IMAGE, STATE]) == {
        "batch": ("image", 0),
        "height": ("image", 2),
        "width": ("image", 3),
        "state.2": ("state", 2),
    }


def paddle() -> ModelProto:
    """As PaddlePaddle exported its classifiers of text: a batch of -1, which runs as any number."""
    model = models.vgg(11)
    for end in (model.graph.input[0], model.graph.output[0]):
        end.type.tensor_type.shape.dim[0].dim_value = -1
    for axis in (2, 3):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = "?"
    inner = helper.make_tensor_value_info("conv0_out", TensorProto.FLOAT, [-1, 8, 0, 12])
    model.graph.value_info.append(inner)
    return model


def test_a_length_below_one_is_open(tmp_path: Path) -> None:
    onnx.save(paddle(), tmp_path / "m.onnx")
    for source in (paddle(), tmp_path / "m.onnx"):
        graph = read_model(source).proto.graph
        assert declared_shape(graph.input[0]) == ("image.0", 3, "image.2", "image.3")
        assert [declared_shape(end) for end in graph.output] == [(f"{graph.output[0].name}.0", 5)]
        assert declared_shape(graph.value_info[-1]) == ("conv0_out.0", 8, "conv0_out.2", 12)
        for dim in (
            graph.input[0].type.tensor_type.shape.dim[0],
            *graph.value_info[-1].type.tensor_type.shape.dim,
        ):
            assert not dim.HasField("dim_value") or dim.dim_value > 0
    assert paddle().graph.input[0].type.tensor_type.shape.dim[0].dim_value == -1  # what is given stays


def test_an_open_length_can_be_said_counted_and_converted() -> None:
    fixed = sp.onnx.audit(models.vgg())
    with pytest.raises(ValueError, match=r"open lengths, \(image\.0, 3, image\.2, image\.3\); say which"):
        sp.onnx.audit(paddle())
    assert sp.onnx.audit(paddle(), "image.2=12,image.3=12").macs == fixed.macs
    assert sp.onnx.audit(paddle(), (2, 3, 12, 12)).macs == 2 * fixed.macs
    x = np.random.default_rng(0).standard_normal((16, 3, 12, 12)).astype(np.float32)
    done = sp.onnx.separate(paddle(), x, rank=9, threads=1)
    (got,) = models.run(done.model, {"image": x[:3]})
    assert np.allclose(got, models.run(paddle(), {"image": x[:3]})[0], atol=1e-4)
    assert sp.onnx.separate(paddle(), [x[:8, :, :9], x[8:, :, :9]], rank=9, threads=1).report.layers


# --- outputs that say nothing -------------------------------------------------------------------------


@pytest.mark.parametrize("keep", ["nothing", "the type", "the shape"])
def test_outputs_without_type_or_shape_are_inferred(keep: str) -> None:
    model = models.vgg()
    (output,) = model.graph.output
    if keep == "nothing":
        output.ClearField("type")
    elif keep == "the type":
        output.type.tensor_type.ClearField("shape")
    else:
        output.type.tensor_type.ClearField("elem_type")
    assert whole_model(read_model(model)) == models.vgg()
    assert sp.onnx.audit(model).macs == sp.onnx.audit(models.vgg()).macs


def test_an_output_that_cannot_be_told_stays_as_it_is() -> None:
    """How many axes there are is a matter of values."""
    net = models.Net()
    x = net.input("x", ["N", 8])
    net.inputs.append(helper.make_tensor_value_info("lengths", TensorProto.INT64, ["axes"]))
    net.nodes.append(helper.make_node("Reshape", [x, "lengths"], ["y"]))
    graph = helper.make_graph(net.nodes, "net", net.inputs, [ValueInfoProto(name="y")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    (output,) = read_model(model).proto.graph.output
    assert declared_shape(output) is None
    assert output.type.tensor_type.elem_type == TensorProto.FLOAT


def test_an_input_without_a_shape_takes_any() -> None:
    model = models.vgg()
    model.graph.input[0].type.tensor_type.ClearField("shape")
    with pytest.raises(ValueError, match="input `image` has no shape; say which they are: shapes='image=1,3"):
        sp.onnx.audit(model)
    assert sp.onnx.audit(model, (1, 3, 12, 12)).macs == sp.onnx.audit(models.vgg()).macs


# --- what a user says ---------------------------------------------------------------------------------

SAID: dict[str, Any] = {
    "by name": "batch=2,height=48,width=320",
    "several texts": ["batch=2", " height = 48 , width=320"],
    "a mapping": {"batch": 2, "height": 48, "width": 320},
    "a whole shape": "image:2,3,48,320",
    "a shape of the other": {"mask:0": (2, 1, 48, 320)},
    "as typed": ["mask:0=2,1,48,320"],
    "both": "image:2,3,48,320,mask:0:2,1,48,320",
    "a shape and lengths": {"image": np.array([2, 3, 48, 320]), "width": np.int64(320)},
}


@pytest.mark.parametrize("case", SAID)
def test_hints_fix_all_inputs_at_once(case: str) -> None:
    assert input_shapes([IMAGE, MASK], SAID[case]) == {"image": (2, 3, 48, 320), "mask:0": (2, 1, 48, 320)}


def test_lengths_without_a_name_go_by_their_place() -> None:
    inputs = [info("x", None, 3, "?", "?")]
    assert input_shapes(inputs, "x.2=48,x.3=320") == {"x": (1, 3, 48, 320)}
    assert input_shapes(inputs, [4, 3, 48, 320]) == {"x": (4, 3, 48, 320)}
    assert input_shapes([info("n", "n")], "n=7") == {"n": (7,)}
    assert input_shapes([info("number")]) == {"number": ()}
    assert input_shapes([info("lengths", "axes")], {"lengths": [4]}) == {"lengths": (4,)}


def test_the_batch_is_one_unless_it_is_said() -> None:
    assert input_shapes([STATE], "state.2=5,batch=3") == {"state": (2, 3, 5)}
    assert input_shapes([IMAGE, STATE], "height=4,width=5,state.2=6") == {
        "image": (1, 3, 4, 5),
        "state": (2, 1, 6),
    }
    with pytest.raises(ValueError, match=r"shapes='batch=224,height=224,width=224', or shapes='image=224,3"):
        input_shapes([IMAGE], batch=None)


WRONG: dict[str, tuple[Any, type[Exception], str]] = {
    "an unknown name": (
        "depth=3",
        ValueError,
        "`shapes` names 'depth'; the model has inputs 'image', 'state' and open lengths 'batch', 'height', "
        "'width', 'state.2'.",
    ),
    "an unknown input": (
        {"x": (1, 2)},
        ValueError,
        "`shapes` names 'x'; the model has inputs 'image', 'state'",
    ),
    "another number": (
        "image:1,4,8,8",
        ValueError,
        r"`shapes` gives input `image` \(1, 4, 8, 8\); the model takes \(batch, 3, height, width\)",
    ),
    "too few axes": ({"image": (1, 3)}, ValueError, r"`image` \(1, 3\); the model takes"),
    "two inputs that differ": (
        "image:1,3,8,8,state:2,4,5",
        ValueError,
        r"length 'batch' is 1 by input `image`, \(1, 3, 8, 8\) and 4 by input `state`, \(2, 4, 5\)",
    ),
    "a length and a shape": (
        {"image": (1, 3, 8, 8), "width": 9},
        ValueError,
        r"length 'width' is 8 by input `image`, \(1, 3, 8, 8\) and 9 by `width=9`",
    ),
    "a shape of no input": (
        (1, 3, 8, 8),
        ValueError,
        "is one shape, but the model has inputs 'image', 'state'",
    ),
    "some that stay open": (
        "height=8",
        ValueError,
        r"input `image` has open lengths, \(batch, 3, height, width\); input `state` has open lengths, "
        r"\(2, batch, state\.2\); say which they are: shapes='width=224,state\.2=224', or "
        "shapes='image=1,3,8,224'",
    ),
    "twice": ("height=8,height=9", ValueError, "says 'height' twice"),
    "no number": (
        "height=tall",
        ValueError,
        "'height=tall' is no length; expected such as 'batch=1,height=48'",
    ),
    "no length": ("height=-3", ValueError, r"`shapes\['height'\]=-3` is too small"),
    "a fraction": ({"height": 1.5}, TypeError, r"`shapes\['height'\]=1\.5` is not a whole number"),
    "a number": (3, TypeError, "`shapes=3` is no shape"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_with_a_hint_is_said(case: str) -> None:
    hints, kind, message = WRONG[case]
    with pytest.raises(kind, match=message):
        input_shapes([IMAGE, STATE], hints)


def test_an_audit_takes_lengths_by_name() -> None:
    net = models.Net()
    x, y = net.input("x", ["N", 3, "H", "W"]), net.input("y", ["N", 3, "H", "W"])
    both = net.node("Add", [net.conv(x, 3, 3, (3, 3), "a", pads=[1] * 4), y])
    model = net.model(net.conv(both, 3, 4, (1, 1), "b"))
    a = sp.onnx.audit(model, "H=10,W=12")
    assert a.macs == math.prod((3, 3, 9, 120)) + 3 * 4 * 120
    assert a.example == "x (1, 3, 10, 12) float32, y (1, 3, 10, 12) float32"
    assert sp.onnx.audit(model, {"y": (2, 3, 10, 12)}).macs == 2 * a.macs
