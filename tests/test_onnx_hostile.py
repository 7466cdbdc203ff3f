"""Models that promise what they do not hold: refused by name and number before memory is taken for them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import onnx_models as models  # noqa: E402 (needs onnx and onnxruntime)
from onnx import ModelProto, TensorProto, helper, numpy_helper  # noqa: E402

import separable as sp  # noqa: E402
from separable.files import FileError  # noqa: E402
from separable.onnx.model.files import read_model  # noqa: E402

X = np.zeros((4, 3, 12, 12), np.float32)


def vgg() -> ModelProto:
    return models.vgg(width=4)


def as_list(model: ModelProto, count: int, length: int) -> None:
    """Give the first tensor a list of numbers for data."""
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.float_data.extend([0.5] * count)
    tensor.dims[0] = length


def declared(model: ModelProto, length: int) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = length


def sparse(model: ModelProto) -> None:
    values = numpy_helper.from_array(np.ones(1, np.float32), "conv0.w")
    indices = numpy_helper.from_array(np.zeros(1, np.int64), "at")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [2**20] * 3 + [3]))
    del model.graph.initializer[0]


def filled(model: ModelProto, kind: str = "ConstantOfShape") -> None:
    """Add a small image to a huge one that is made of its lengths alone."""
    graph = model.graph
    graph.initializer.append(numpy_helper.from_array(np.array([1, 1, 2**21, 2**21]), "lengths"))
    inputs = ["lengths"] if kind == "ConstantOfShape" else ["image", "lengths"]
    graph.node.insert(0, helper.make_node(kind, inputs, ["huge"]))
    graph.node.insert(1, helper.make_node("GlobalAveragePool", ["huge"], ["mean"]))
    graph.node.insert(2, helper.make_node("Add", ["image", "mean"], ["sum"]))
    graph.node[3].input[0] = "sum"


def strange(model: ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = 999


REFUSED: dict[str, tuple[Callable[[ModelProto], object], str]] = {
    "a list that is too short": (lambda m: as_list(m, 3, 4), r"\(4, 3, 3, 3\) takes 108 numbers, but holds"),
    "a list that is too long": (lambda m: as_list(m, 500, 4), "takes 108 numbers, but holds 500"),
    "a list of no length": (lambda m: as_list(m, 0, 4), "takes 108 numbers, but holds 0"),
    "a negative length of a list": (lambda m: as_list(m, 3, -4), "has a negative length"),
    "2^62 elements": (lambda m: as_list(m, 3, 2**62), "takes 124515522497539473408 numbers, but holds 3"),
    "too many axes": (lambda m: m.graph.initializer[0].dims.extend([1] * 70), "has 74 axes; expected at"),
    "an input of no type": (strange, r"`image` is of no known type \(999\)"),
    "a sparse tensor": (sparse, r"sparse tensor `conv0.w` of shape .* takes 12 EiB, but this machine has"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_promised_and_not_held_is_refused(case: str, tmp_path: Path) -> None:
    make, message = REFUSED[case]
    model, path = vgg(), tmp_path / "model.onnx"
    make(model)
    path.write_bytes(model.SerializeToString())
    for verb in (sp.onnx.audit, read_model, lambda path: sp.onnx.separate(path, X)):
        with pytest.raises(FileError, match=message) as caught:
            verb(path)
        assert f"`{path}`" in str(caught.value)
    with pytest.raises(ValueError, match=message):
        read_model(model)


def test_what_would_not_fit_is_refused_before_it_is_made(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    for edit, verb, message in (
        (
            lambda m: declared(m, 2**40),
            sp.onnx.audit,
            r"input `image` of shape \(1, 3, 1099511627776, 12\) takes",
        ),
        (
            filled,
            lambda path: sp.onnx.separate(path, X),
            r"tensor `huge` of shape \(1, 1, 2097152, 2097152\)",
        ),
        (lambda m: filled(m, "Tile"), lambda path: sp.onnx.separate(path, X), "tensor `huge` of shape"),
        (filled, lambda path: sp.onnx.audit(path, measure=True), "tensor `huge` of shape"),
    ):
        model = vgg()
        edit(model)
        path.write_bytes(model.SerializeToString())
        with pytest.raises(FileError, match=rf"^`{re.escape(str(path))}`: {message}.*this machine has"):
            verb(path)
    assert sp.onnx.audit(path).macs > 0  # to count it takes no memory


def test_lists_that_hold_what_they_promise_are_read() -> None:
    """Every type that has a list of its own, and those that share one."""
    model = vgg()
    values = np.arange(12)
    kinds = "FLOAT DOUBLE INT32 INT64 UINT8 FLOAT16 BFLOAT16 BOOL UINT64 COMPLEX64 INT4"
    for kind in kinds.split():
        data = values % 8 if kind == "INT4" else values
        model.graph.initializer.append(helper.make_tensor(kind, getattr(TensorProto, kind), (3, 4), data))
        assert not model.graph.initializer[-1].HasField("raw_data")
    model.opset_import[0].version = 21
    model.ir_version = 10
    assert sp.onnx.audit(model).macs == sp.onnx.audit(vgg()).macs


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "x" * 5000, "a\0b"])
def test_data_elsewhere(location: str, tmp_path: Path) -> None:
    model, path = vgg(), tmp_path / "model.onnx"
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(FileError, match=r"keeps tensor `conv0\.w` in") as caught:
        sp.onnx.audit(path)
    assert len(str(caught.value)) < 600


def unknown(model: ModelProto) -> None:
    model.graph.node[0].op_type, model.graph.node[0].domain = "Odd", "my.own"
    model.opset_import.add(domain="my.own", version=1)


def unrunnable(model: ModelProto) -> None:
    model.graph.node[0].attribute.append(helper.make_attribute("strides", [0, 0]))


@pytest.mark.parametrize(("edit", "words"), [(unknown, "Odd"), (unrunnable, "stride")])
def test_what_a_runtime_says_comes_with_the_file_and_a_fix(
    edit: Callable[[ModelProto], None], words: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model, path = vgg(), tmp_path / "model.onnx"
    edit(model)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(FileError, match=words) as caught:
        sp.onnx.separate(path, X, threads=1)
    said = str(caught.value)
    assert said.startswith(f"`{path}`: ")
    assert "[ONNXRuntimeError]" not in said
    assert "\n" not in said
    assert re.search(r"export it again|export the model|Give larger", said)
    assert capfd.readouterr() == ("", "")  # nor does it say it a second time by itself


def test_a_model_in_memory_is_named_as_the_argument() -> None:
    model = vgg()
    unknown(model)
    with pytest.raises(ValueError, match=r"^`path_or_model`: ONNX Runtime .* refuses it"):
        sp.onnx.separate(model, X, threads=1)


def test_layers_that_reach_beyond_their_input_are_named(tmp_path: Path) -> None:
    net = models.Net()
    x: Any = net.input("x", ["N", 3, "H", "W"])
    onnx.save(net.model(net.conv(x, 3, 4, (5, 5), "wide")), tmp_path / "m.onnx")
    with pytest.raises(FileError, match=r"m\.onnx`: .*(wide|too small)"):
        sp.onnx.audit(tmp_path / "m.onnx", (1, 3, 2, 2))
