"""Models of operator sets 7 to 12: rewritten, with the same results in ONNX Runtime to the last bit."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import fuzz_models  # noqa: E402
import onnx_models as models  # noqa: E402 (needs onnx and onnxruntime)
from onnx import ModelProto, TensorProto, ValueInfoProto, helper, numpy_helper  # noqa: E402

import separable as sp  # noqa: E402
from separable.onnx.model.agreement import differences, random_inputs  # noqa: E402
from separable.onnx.model.files import read_model, whole_model  # noqa: E402
from separable.onnx.model.opsets import KNOWN_OPSET, opset_of  # noqa: E402

Array = models.Array


def one_node(
    operator: str,
    opset: int,
    *constants: Any,
    shape: tuple[int, ...] = (2, 4, 6, 8),
    outputs: tuple[str, ...] = ("y",),
    element: int = TensorProto.FLOAT,
    **attributes: Any,
) -> ModelProto:
    """A model of one node, which reads `x` and constants."""
    names = ["x", *("" if value is None else f"c{place}" for place, value in enumerate(constants))]
    tensors = [
        numpy_helper.from_array(np.asarray(value), f"c{place}")
        for place, value in enumerate(constants)
        if value is not None
    ]
    graph = helper.make_graph(
        [helper.make_node(operator, names, list(outputs), name="the node", **attributes)],
        "one node",
        [helper.make_tensor_value_info("x", element, shape)],
        [ValueInfoProto(name=name) for name in outputs],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = 6
    return model


def assert_alike(model: ModelProto | Path, hints: str | None = None) -> ModelProto:
    """Check that a model as it is read gives what ONNX Runtime makes of the original; return it."""
    stored = read_model(model)
    found = differences(model, stored, random_inputs(stored, hints))
    assert found
    assert not any(found.values()), found
    assert (opset_of(stored.proto) or 0) >= KNOWN_OPSET
    onnx.checker.check_model(whole_model(stored), full_check=True)
    return stored.proto


def f32(*values: float) -> Array:
    return np.array(values, np.float32)


def i64(*values: int) -> Array:
    return np.array(values, np.int64)


# --- whole models -----------------------------------------------------------------------------------


def ocr(opset: int, ir_version: int = 6) -> ModelProto:
    """Such as text recognisers were exported: hard-swish by Clip, squeeze-excite, upsampling, a head."""
    net = models.Net(opset)
    x = net.input("x", ["N", 3, 16, 24])
    x = net.norm(net.conv(x, 3, 8, (3, 3), "stem", bias=False, pads=[1] * 4, strides=[2, 2]), 8, "norm")
    three, six = net.constant("three", f32(3)), net.constant("six", f32(6))
    gate = net.node("Clip", [net.node("Add", [x, three])], "clip", min=0.0, max=6.0) if opset < 11 else None
    if gate is None:
        bounds = [net.constant("low", np.float32(0)), net.constant("high", np.float32(6))]
        gate = net.node("Clip", [net.node("Add", [x, three]), *bounds], "clip")
    x = net.node("Div", [net.node("Mul", [x, gate]), six])
    mean = net.node("ReduceMean", [x], "mean", axes=[2, 3], keepdims=0)
    mean = net.node("Unsqueeze", [mean], "spread", axes=[2, 3])
    x = net.node("Mul", [x, net.node("HardSigmoid", [net.conv(mean, 8, 8, (1, 1), "se")], alpha=0.2)])
    if opset < 9:
        up = net.node("Upsample", [x], "up", mode="nearest", scales=[1.0, 1.0, 2.0, 2.0])
    elif opset == 9:
        up = net.node("Upsample", [x, net.constant("s", f32(1, 1, 2, 2))], "up", mode="nearest")
    elif opset == 10:
        up = net.node("Resize", [x, net.constant("s", f32(1, 1, 2, 2))], "up", mode="linear")
    else:
        scales = [net.constant("roi", f32()), net.constant("s", f32(1, 1, 2, 2))]
        up = net.node("Resize", [x, *scales], "up", mode="linear")
    if opset < 10:
        x = net.node("Slice", [up], "cut", starts=[1], ends=[2**31 - 1], axes=[2])
    else:
        x = net.node("Slice", [up, *(net.constant(f"i{n}", i64(n)) for n in (1, 15, 2))], "cut")
    if opset < 11:
        x = net.node("Pad", [x], "pad", pads=[0, 0, 1, 0, 0, 0, 0, 2], value=0.5)
    else:
        pads = [net.constant("p", i64(0, 0, 1, 0, 0, 0, 0, 2)), net.constant("fill", np.float32(0.5))]
        x = net.node("Pad", [x, *pads], "pad")
    x = net.node("AveragePool", [net.node("Dropout", [x], "drop")], kernel_shape=[2, 2], strides=[2, 2])
    x = net.node("Softmax", [net.conv(x, 8, 4, (1, 1), "head")], "soft", axis=1)
    x = net.node("Squeeze", [net.node("ReduceSum", [x], "sum", axes=[3])], "flat", axes=[3])
    graph = helper.make_graph(net.nodes, "ocr", net.inputs, [ValueInfoProto(name=x)], net.weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = ir_version
    if ir_version < 4:  # where initializers had to be inputs
        for tensor in net.weights:
            info = helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            model.graph.input.append(info)
    return model


@pytest.mark.parametrize("opset", range(7, 13))
def test_a_whole_model_gives_the_same(opset: int) -> None:
    model = assert_alike(ocr(opset))
    assert opset_of(model) == KNOWN_OPSET
    assert [node.name for node in model.graph.node if node.name] == [
        node.name for node in ocr(opset).graph.node
    ]
    tensors = {name for node in model.graph.node for name in node.output}
    assert tensors > {name for node in ocr(opset).graph.node for name in node.output}


def test_a_newer_model_stays_as_it_is() -> None:
    stored = read_model(models.vgg(13))
    assert stored.older_opset is None
    assert whole_model(stored) == models.vgg(13)


def test_the_oldest_format_lists_weights_among_the_inputs() -> None:
    """They are none that a caller could give, and do not become such."""
    model = ocr(7, ir_version=3)
    assert len(model.graph.input) > 10
    assert [info.name for info in assert_alike(model).graph.input] == ["x"]


def test_names_of_the_model_do_not_clash_with_new_ones() -> None:
    """PyTorch calls tensors by numbers; onnx's converter calls its own _v_4 and the like."""
    model = ocr(9)
    names = {name for node in model.graph.node for name in node.output} - {"flat_out"}
    new = {name: f"_v_{number}" for number, name in enumerate(sorted(names))}
    new |= {f"_v_{number}": f"flat_out/constant{number}" for number in range(3)}
    for node in model.graph.node:
        node.input[:] = [new.get(name, name) for name in node.input]
        node.output[:] = [new.get(name, name) for name in node.output]
    assert_alike(model)


def test_weights_do_not_pass_through_the_converter(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    convert = onnx.version_converter.convert_version

    def watched(model: ModelProto, version: int) -> ModelProto:
        sizes.append(model.ByteSize())
        return convert(model, version)

    monkeypatch.setattr(onnx.version_converter, "convert_version", watched)
    for width in (8, 256):
        stored = read_model(models.vgg(11, width=width))
        assert stored.older_opset == 11
    assert len(stored.tensors["conv2.w"]) == 512
    assert sizes[0] == pytest.approx(sizes[1], abs=200)  # lengths take more digits


def test_inner_graphs_are_rewritten_too() -> None:
    squeeze = helper.make_node("Squeeze", ["x"], ["inner"], name="inside", axes=[0])
    keep = helper.make_node("Softmax", ["x"], ["soft"], axis=1)
    cut = helper.make_node("Squeeze", ["soft"], ["other"], axes=[0])
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("inner", "other")]
    model = one_node("Relu", 11, shape=(1, 3, 4))
    for truth in (True, False):
        given = numpy_helper.from_array(np.array(truth), "flag")
        del model.graph.initializer[:]
        model.graph.initializer.append(given)
        del model.graph.node[:]
        model.graph.node.append(
            helper.make_node(
                "If",
                ["flag"],
                ["y"],
                then_branch=helper.make_graph([squeeze], "then", [], ends[:1]),
                else_branch=helper.make_graph([keep, cut], "else", [], ends[1:]),
            )
        )
        assert_alike(model)


@pytest.mark.parametrize("name", ["shufflenet", "squeezenet", "densenet121"])
def test_models_that_come_with_onnx(name: str) -> None:
    folder = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
    assert_alike(folder / f"light_{name}.onnx")


REAL = {
    "common.onnx": "image_width=160",
    "common_det.onnx": "",
    "common_old.onnx": "image_width=160",
    "ch_PP-OCRv4_det_infer.onnx": "x:1,3,320,320",
    "ch_PP-OCRv4_rec_infer.onnx": "x:1,3,48,320",
    "ch_ppocr_mobile_v2.0_cls_infer.onnx": "x.0=2,x.2=48,x.3=192",
}


@pytest.mark.parametrize("name", REAL)
def test_published_files(name: str) -> None:
    """From the wheels of rapidocr-onnxruntime and ddddocr, unpacked in a folder of that name."""
    folder = Path(os.environ.get("SEPARABLE_ONNX_FILES", "missing"))
    found = sorted(folder.rglob(name))
    if not found:
        pytest.skip(f"{name} is not below $SEPARABLE_ONNX_FILES")
    assert_alike(found[0], REAL[name] or None)


# --- operators --------------------------------------------------------------------------------------


NORM = [np.linspace(0.5, 1.5, 4, dtype=np.float32)] * 4
CASES: dict[str, Callable[[], ModelProto]] = {
    "clip without a low end": lambda: one_node("Clip", 7, max=0.5),
    "clip without ends": lambda: one_node("Clip", 7),
    "clip in float16": lambda: one_node("Clip", 7, element=TensorProto.FLOAT16, max=0.5),
    "clip, a node for both": lambda: one_node("Clip", 11, np.float32(-0.5)),
    "pad with a constant": lambda: one_node("Pad", 7, pads=[0, 0, 1, 2, 0, 0, 3, 1], value=0.3),
    "pad in float64": lambda: one_node(
        "Pad", 7, element=TensorProto.DOUBLE, pads=[0, 0, 1, 2, 0, 0, 3, 1], value=0.3
    ),
    "pad by reflection": lambda: one_node("Pad", 10, pads=[0, 0, 1, 2, 0, 0, 3, 1], mode="reflect"),
    "upsample": lambda: one_node("Upsample", 7, mode="nearest", scales=[1.0, 1.0, 2.0, 3.0]),
    "upsample by a fraction": lambda: one_node("Upsample", 9, f32(1, 1, 1.5, 2.5), mode="nearest"),
    "upsample, linear": lambda: one_node("Upsample", 9, f32(1, 1, 2, 2.5), mode="linear"),
    "resize to more": lambda: one_node("Resize", 10, f32(1, 1, 1.5, 2), mode="nearest"),
    "resize to fewer": lambda: one_node("Resize", 10, f32(1, 1, 0.4, 0.7), mode="nearest"),
    "resize, linear": lambda: one_node("Resize", 10, f32(1, 1, 0.7, 2.5), mode="linear"),
    "resize by sizes": lambda: one_node("Resize", 11, f32(), f32(), i64(2, 4, 9, 5), mode="cubic"),
    "softmax of a plane": lambda: one_node("Softmax", 11, axis=2),
    "softmax by default": lambda: one_node("Softmax", 7),
    "softmax of a row": lambda: one_node("Softmax", 12, axis=-1),
    "logarithm of softmax": lambda: one_node("LogSoftmax", 11, axis=1),
    "hardmax by default": lambda: one_node("Hardmax", 11),
    "squeeze all": lambda: one_node("Squeeze", 11, shape=(1, 4, 1, 3)),
    "unsqueeze": lambda: one_node("Unsqueeze", 11, axes=[-1, 0]),
    "sum of all": lambda: one_node("ReduceSum", 7),
    "mean": lambda: one_node("ReduceMean", 7, axes=[2, 3]),
    "dropout": lambda: one_node("Dropout", 7, ratio=0.4),
    "slice": lambda: one_node("Slice", 7, starts=[1, -3], ends=[3, 2**31], axes=[1, 3]),
    "split": lambda: one_node("Split", 7, outputs=("a", "b"), axis=1, split=[1, 3]),
    "the two largest": lambda: one_node("TopK", 7, outputs=("a", "b"), k=2),
    "batch norm": lambda: one_node("BatchNormalization", 7, *NORM, epsilon=1e-3),
    "pool with ceil": lambda: one_node("AveragePool", 10, kernel_shape=[3, 3], ceil_mode=1, strides=[2, 2]),
    "largest place": lambda: one_node("ArgMax", 11, axis=1),
    "scatter": lambda: one_node("Scatter", 9, np.zeros((1, 4, 6, 8), np.int64), np.ones((1, 4, 6, 8), "f")),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_an_operator_means_the_same(case: str) -> None:
    assert_alike(CASES[case]())


REFUSED = {
    "a norm of each place": (
        lambda: one_node("BatchNormalization", 7, *[np.ones((4, 6, 8), np.float32)] * 4, spatial=0),
        r"BatchNormalization `the node` of operator set 7 cannot be rewritten for set 13: .*spatial",
    ),
    "both smaller and larger": (
        lambda: one_node("Resize", 10, f32(1, 1, 0.5, 3), mode="nearest"),
        "Resize `the node` of operator set 10 .* some axes longer and others shorter",
    ),
    "an older set": (lambda: one_node("Relu", 6), "it uses operator set 6, and those before 7 are not read"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_rewritten_is_named(case: str) -> None:
    make, message = REFUSED[case]
    with pytest.raises(ValueError, match=f"`path_or_model`: {message}"):
        read_model(make())


def test_the_node_that_fails_is_found_among_others() -> None:
    model = ocr(8)
    tensors = [numpy_helper.from_array(np.ones((8, 8, 12), np.float32), f"w{n}") for n in range(4)]
    model.graph.initializer.extend(tensors)
    model.graph.node[1].attribute.append(helper.make_attribute("spatial", 0))
    with pytest.raises(ValueError, match="BatchNormalization `norm` of operator set 8"):
        read_model(model)


def test_external_data_stay_beside_an_older_model(tmp_path: Path) -> None:
    onnx.save(models.vgg(11), tmp_path / "m.onnx", save_as_external_data=True, location="w", size_threshold=0)
    stored = read_model(tmp_path / "m.onnx")
    assert (stored.external, stored.older_opset) == (True, 11)
    assert "conv2.w" in stored.tensors
    assert_alike(tmp_path / "m.onnx")


@pytest.mark.parametrize("opset", [7, 9, 11])
def test_damaged_models_come_to_a_result_or_an_error_that_names_the_file(opset: int, tmp_path: Path) -> None:
    """onnx's converter is C++ that takes much for granted."""
    wrong = []
    for number in range(20):
        kind, _, found = fuzz_models.run(number, opset, [ocr(opset)], tmp_path)
        wrong += [f"{number} ({kind}) {text}" for text in found]
    assert not wrong, "\n".join(wrong)


def test_functions_have_to_be_inlined_first() -> None:
    model = one_node("Relu", 12)
    model.ir_version = 8
    model.opset_import.append(helper.make_opsetid("own", 1))
    model.functions.append(
        helper.make_function(
            "own", "Twice", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])],
            [helper.make_opsetid("", 12)],
        )
    )  # fmt: skip
    with pytest.raises(ValueError, match="functions of its own and uses operator set 12; inline them"):
        read_model(model)


def test_differences_are_seen() -> None:
    model = one_node("Relu", 12)
    stored = read_model(model)
    feeds = random_inputs(stored)
    assert differences(model, stored, feeds) == {"y": 0.0}
    stored.proto.graph.node[0].op_type = "Tanh"
    assert differences(model, stored, feeds)["y"] > 0.1
    stored.proto.graph.node[0].op_type = "Shape"
    stored.proto.graph.output[0].ClearField("type")
    assert differences(model, stored, feeds) == {"y": np.inf}


# --- what is made of them ---------------------------------------------------------------------------


def test_an_older_model_is_converted_and_written_in_the_later_set(tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((24, 3, 12, 12)).astype(np.float32)
    path = tmp_path / "old.onnx"
    onnx.save(models.vgg(11), path)
    before = path.read_bytes()
    done = sp.onnx.separate(path, x, rank=9, threads=1)
    assert path.read_bytes() == before
    done.save(tmp_path / "new.onnx")
    new = onnx.load(tmp_path / "new.onnx")
    assert opset_of(new) == KNOWN_OPSET
    said = "written for operator set 11, rewritten for 13"
    assert said in str(done.report)
    assert said in done.report._repr_html_()
    assert said not in str(sp.onnx.separate(models.vgg(13), x, rank=9, threads=1).report)
    assert np.allclose(
        models.run(new, {"image": x})[0], models.run(models.vgg(11), {"image": x})[0], atol=1e-4
    )


def test_an_older_model_is_counted_as_its_newer_self() -> None:
    old, new = sp.onnx.audit(models.vgg(11)), sp.onnx.audit(models.vgg(13))
    assert (old.macs, old.params) == (new.macs, new.params)
    assert "written for operator set 11" in old.remark
    assert "operator set" not in new.remark
