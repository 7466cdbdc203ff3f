"""ONNX files and calibration data: whole, damaged, hostile, in every place where tensors may lie."""

from __future__ import annotations

import contextlib
import io
import os
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_models as models
import pytest
from google.protobuf.message import DecodeError
from hypothesis import example, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, external_data_helper, helper, numpy_helper
from onnx.onnx_ml_pb2 import ModelProto

from separable.files.guard import FileError
from separable.onnx.conversion.calibration import OnnxCalibration
from separable.onnx.conversion.trace import find_layers
from separable.onnx.costs.rules import count
from separable.onnx.model.files import Stored, read_model, whole_model, write_model
from separable.onnx.model.graph import GraphIndex
from separable.onnx.model.runtime import Session, runnable

VGG = models.vgg().SerializeToString(deterministic=True)


def vgg() -> ModelProto:
    return ModelProto.FromString(VGG)


def image(*shape: int) -> models.Array:
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


def save_external(model: ModelProto, path: Path) -> None:
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)


def with_external(path: Path, **fields: str) -> None:
    """Write a model whose first tensor says that its data are elsewhere."""
    model = vgg()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in fields.items():
        tensor.external_data.add(key=key, value=value)
    path.write_bytes(model.SerializeToString())


# --- whole --------------------------------------------------------------------------------------------


def test_a_model_is_the_same_from_a_file_from_memory_and_back(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(VGG)
    for source in (path, str(path), vgg()):
        stored = read_model(source)
        assert not stored.external
        assert whole_model(stored) == vgg()
        write_model(stored, tmp_path / "again.onnx")
        assert onnx.load(tmp_path / "again.onnx") == vgg()


@pytest.mark.parametrize("one_file", [True, False])
def test_external_data_come_in_and_go_out(tmp_path: Path, one_file: bool) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(vgg(), path, save_as_external_data=True, all_tensors_to_one_file=one_file, size_threshold=100)
    assert len(list(tmp_path.iterdir())) > 1
    stored = read_model(path)
    assert stored.external
    assert numbers(whole_model(stored)) == numbers(vgg())
    out = tmp_path / "out"
    out.mkdir()
    write_model(stored, out / "new.onnx")
    assert sorted(each.name for each in out.iterdir()) == ["new.onnx", "new.onnx.data"]
    x = image(2, 3, 12, 12)
    onnx.checker.check_model(out / "new.onnx", full_check=True)
    assert np.array_equal(
        models.run(str(out / "new.onnx"), {"image": x})[0], models.run(vgg(), {"image": x})[0]
    )
    # What was written has no tie to what was read.
    write_model(read_model(out / "new.onnx"), path)
    assert numbers(onnx.load(path)) == numbers(vgg())


def numbers(model: ModelProto) -> dict[str, bytes]:
    return {each.name: numpy_helper.to_array(each).tobytes() for each in model.graph.initializer}


def test_external_data_in_constants_and_small_tensors(tmp_path: Path) -> None:
    model = vgg()
    values = numpy_helper.from_array(np.arange(6, dtype=np.float32), "arange")
    model.graph.node.insert(0, helper.make_node("Constant", [], ["unread"], name="unread", value=values))
    x = image(1, 3, 12, 12)
    wanted = models.run(model, {"image": x})[0]
    onnx.save(
        model,
        tmp_path / "model.onnx",
        save_as_external_data=True,
        location="w",
        size_threshold=0,
        convert_attribute=True,
    )
    assert external_data_helper.uses_external_data(
        onnx.load(tmp_path / "model.onnx", load_external_data=False).graph.node[0].attribute[0].t
    )
    stored = read_model(tmp_path / "model.onnx")
    assert np.array_equal(GraphIndex(stored).constant("unread"), np.arange(6))
    assert np.allclose(next(iter(Session(stored, 1)({"image": x}).values())), wanted)


def test_a_model_behind_a_link_finds_its_data(tmp_path: Path) -> None:
    """As downloads are cached: names that are links into a store."""
    store = tmp_path / "store"
    names = tmp_path / "names"
    store.mkdir()
    names.mkdir()
    save_external(vgg(), store / "model.onnx")
    for file in store.iterdir():
        (names / file.name).symlink_to(file)
    assert numbers(whole_model(read_model(names / "model.onnx"))) == numbers(vgg())


def test_large_models_need_no_large_messages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Protobuf's limit holds for what is in one message; tensors beside the model are never in one."""
    monkeypatch.setattr("separable.onnx.model.files._LARGEST_FILE", 4096)
    stored = read_model(vgg())
    assert not stored.external
    write_model(stored, tmp_path / "model.onnx")
    assert (tmp_path / "model.onnx.data").exists()
    assert numbers(onnx.load(tmp_path / "model.onnx")) == numbers(vgg())
    (tmp_path / "huge.onnx").write_bytes(VGG)
    with pytest.raises(FileError, match=r"ends at 2 GiB .* save_as_external_data=True"):
        read_model(tmp_path / "huge.onnx")


def test_a_format_that_is_too_new_is_declared_an_older_one() -> None:
    model = vgg()
    model.ir_version = 10_000
    stored = read_model_unchecked(model)
    older = runnable(stored, 1)
    assert older.proto.ir_version == helper.find_min_ir_version_for(list(model.opset_import))
    assert stored.proto.ir_version == 10_000


def read_model_unchecked(model: ModelProto) -> Stored:
    """The checker of this onnx knows no format that ONNX Runtime does not: take its turn later."""
    return Stored(model, {})


# --- damaged ------------------------------------------------------------------------------------------


def _cut(path: Path) -> None:
    path.write_bytes(VGG[: len(VGG) // 2])


def _text(path: Path) -> None:
    path.write_text("this is no model")


def _negative(path: Path) -> None:
    model = vgg()
    model.graph.initializer[0].dims[0] = -1
    path.write_bytes(model.SerializeToString())


def _promising(path: Path) -> None:
    model = vgg()
    model.graph.initializer[0].dims[0] = 1 << 60
    path.write_bytes(model.SerializeToString())


def _strange(path: Path) -> None:
    model = vgg()
    model.graph.initializer[0].data_type = 999
    path.write_bytes(model.SerializeToString())


def _graphless(path: Path) -> None:
    path.write_bytes(ModelProto(ir_version=8, producer_name="nobody").SerializeToString())


def _short_external(path: Path) -> None:
    save_external(vgg(), path)
    data = path.parent / "weights.bin"
    data.write_bytes(data.read_bytes()[:100])


DAMAGED: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: None, "does not exist"),
    "empty": (lambda path: path.write_bytes(b""), "is empty"),
    "a folder": (lambda path: path.mkdir(), "is not a regular file"),
    "cut": (_cut, "is not a readable ONNX file"),
    "text": (_text, "is not a readable ONNX file"),
    "no graph": (_graphless, "holds no graph"),
    "negative length": (_negative, "has a negative length"),
    "promising": (_promising, "is damaged: tensor .* takes .* EiB, but holds 864 bytes"),
    "strange type": (_strange, "is of no known type"),
    "short external": (_short_external, "it is damaged or cut short"),
    "above": (lambda path: with_external(path, location="../secret"), "outside of the model's folder"),
    "absolute": (lambda path: with_external(path, location="/etc/passwd"), "expected a path relative to"),
    "no location": (lambda path: with_external(path), "expected a path relative to"),
    "not there": (lambda path: with_external(path, location="nowhere"), "which is not a file there"),
    "itself a folder": (lambda path: with_external(path, location="."), "which is not a file there"),
    "no number": (lambda path: with_external(path, location="m.onnx", offset="x"), "is no number"),
    "before": (lambda path: with_external(path, location="m.onnx", offset="-8"), "damaged or cut short"),
    "beyond": (lambda path: with_external(path, location="m.onnx", offset=str(1 << 70)), "cut short"),
    "longer": (lambda path: with_external(path, location="m.onnx", length="1000"), "damaged or cut short"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_what_is_damaged_is_said(case: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(10_000))
    folder = tmp_path / "folder"
    folder.mkdir()
    path = folder / "m.onnx"
    make, message = DAMAGED[case]
    make(path)
    with pytest.raises(FileError, match=message) as caught:
        read_model(path)
    assert str(path) in str(caught.value)


def test_links_do_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(10_000))
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "inside").symlink_to(tmp_path / "secret")
    with_external(folder / "m.onnx", location="inside")
    with pytest.raises(FileError, match="outside of the model's folder"):
        read_model(folder / "m.onnx")


def test_memory_is_asked_for_before_it_is_taken(tmp_path: Path) -> None:
    """Many tensors may point at the same bytes of a file that is small, or sparse."""
    path = tmp_path / "m.onnx"
    with (tmp_path / "sparse").open("wb") as file:
        try:
            os.truncate(file.fileno(), 1 << 42)
        except OSError:
            pytest.skip("this file system has no sparse files of that size")
    model = vgg()
    for tensor in model.graph.initializer:
        tensor.ClearField("raw_data")
        tensor.dims[0] = 1 << 36
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="sparse")
        del tensor.dims[1:]
    path.write_bytes(model.SerializeToString())
    with pytest.raises(FileError, match=r"does not fit: .* but this machine has"):
        read_model(path)


@settings(max_examples=60)
@given(st.integers(0, len(VGG) - 1), st.integers(0, 255), st.booleans())
@example(0, 0, True)
def test_any_byte_may_be_wrong(place: int, value: int, cut: bool) -> None:
    """A damaged model is refused by name, or is one that can be counted."""
    damaged = VGG[:place] if cut else VGG[:place] + bytes([value]) + VGG[place + 1 :]
    with contextlib.suppress(ValueError, DecodeError):
        stored = read_model(ModelProto.FromString(damaged))
        find_layers(stored)
        count(stored, {"image": image(1, 3, 12, 12)}, 1)


def test_operator_sets_that_are_not_known() -> None:
    for version, message in (
        (6, "uses operator set 6, and those before 7 are not read: .* Export it again"),
        (1000, r"uses operator set 1000, and onnx [\d.]+ knows those up to \d+; install a newer onnx"),
    ):
        model = vgg()
        model.opset_import[0].version = version
        with pytest.raises(ValueError, match=message):
            read_model(model)
    del model.opset_import[:]
    with pytest.raises(ValueError, match="names no operator set"):
        read_model(model)


def test_rules_that_are_broken_are_named() -> None:
    model = vgg()
    model.graph.node[0].input[0] = "nowhere"
    with pytest.raises(ValueError, match=r"`path_or_model`: it breaks the rules of ONNX: .*nowhere"):
        read_model(model)
    with pytest.raises(TypeError, match="`path_or_model` is a int; expected the path"):
        read_model(3)  # type: ignore[arg-type]


def test_a_model_in_memory_must_hold_its_data(tmp_path: Path) -> None:
    save_external(vgg(), tmp_path / "m.onnx")
    model = onnx.load(tmp_path / "m.onnx", load_external_data=False)
    with pytest.raises(ValueError, match=r"it keeps tensor .* in another file; pass the path"):
        read_model(model)


# --- calibration --------------------------------------------------------------------------------------


def batches(data: object, model: ModelProto | None = None, size: int = 4) -> list[dict[str, models.Array]]:
    return list(OnnxCalibration(data, list((model or vgg()).graph.input), size))


def two_inputs() -> ModelProto:
    net = models.Net()
    left, right = net.input("left", ["N", 4]), net.input("right", ["N", 4])
    return net.model(net.node("Add", [left, right], "sum"))


def test_every_way_to_give_one_input(tmp_path: Path) -> None:
    x = image(10, 3, 12, 12)
    np.savez(tmp_path / "one.npz", x)
    np.savez_compressed(tmp_path / "named.npz", image=x)
    np.save(tmp_path / "one.npy", x)
    samples, chunks = tmp_path / "samples", tmp_path / "chunks"
    samples.mkdir()
    chunks.mkdir()
    for number, sample in enumerate(x):
        np.save(samples / f"{number:02}.npy", sample)
    for number, chunk in enumerate(np.split(x, [3, 5])):
        np.save(chunks / f"{number}.npy", chunk)
    (chunks / "readme.txt").write_text("not a sample")
    ways = [
        x,
        {"image": x},
        tmp_path / "one.npz",
        str(tmp_path / "named.npz"),
        tmp_path / "one.npy",
        samples,
        chunks,
        [x[:4], x[4:8], x[8:]],
        [{"image": x[:4]}, {"image": x[4:]}],
        (each for each in (x[:5], x[5:])),
        x.astype(np.float64),
    ]
    for way in ways:
        found = OnnxCalibration(way, list(vgg().graph.input), 4)
        for _ in range(2):  # as often as asked for
            got = [batch["image"] for batch in found]
            assert all(each.dtype == np.float32 and each.flags.c_contiguous for each in got)
            assert np.array_equal(np.concatenate(got), x)
        assert found.one()["image"].shape == (1, 3, 12, 12)
    assert [len(batch["image"]) for batch in batches(x)] == [4, 4, 2]


def test_a_model_that_takes_so_many_at_a_time() -> None:
    model = models.vgg(batch=4)
    found = OnnxCalibration(image(10, 3, 12, 12), list(model.graph.input), 64)
    assert [len(batch["image"]) for batch in found] == [4, 4]
    assert len(found.one()["image"]) == 4
    with pytest.raises(ValueError, match="has 3 samples, and the model takes 4 at a time; pass more"):
        batches(image(3, 3, 12, 12), model)


def test_several_inputs(tmp_path: Path) -> None:
    arrays = {"left": image(6, 4), "right": image(6, 4)}
    np.savez(tmp_path / "both.npz", **arrays)
    for way in (arrays, tmp_path / "both.npz", [{name: each[:4] for name, each in arrays.items()}]):
        assert sorted(batches(way, two_inputs())[0]) == ["left", "right"]
    (tmp_path / "folder").mkdir()
    np.save(tmp_path / "folder" / "0.npy", image(4))
    for wrong, message in (
        (image(6, 4), "is an array, but the model has 2 inputs; pass a mapping or a .npz file with 'left'"),
        ({"left": image(6, 4)}, "has 'left'; the model takes 'left', 'right'"),
        ({"left": image(6, 4), "right": image(5, 4)}, r"arrays of \[5, 6\] samples along axis 0"),
        (tmp_path / "folder", "is a folder of .npy files, but the model has 2 inputs"),
    ):
        with pytest.raises(ValueError, match=message):
            batches(wrong, two_inputs())


def test_what_is_no_calibration(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.txt").write_text("1 2 3")
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04 and no more")
    np.save(tmp_path / "objects.npy", np.array([{}], object), allow_pickle=True)
    np.savez(tmp_path / "objects.npz", np.array([{}], object))
    hole = image(4, 3, 12, 12)
    hole[2, 1] = np.nan
    cases: list[tuple[object, type[Exception], str]] = [
        (3, TypeError, "`calibration` is a int; expected an array"),
        ([], ValueError, "holds no batch"),
        (image(0, 3, 12, 12), ValueError, "holds no batch"),
        (image(4, 1, 12, 12), ValueError, r"the shape \(4, 1, 12, 12\); the model takes \(any, 3, 12, 12\)"),
        (image(3, 12, 12), ValueError, "the model takes"),
        (np.zeros((4, 3, 12, 12), complex), TypeError, r"as complex128, .* array.astype\('float32'\)"),
        (hole, ValueError, "`image` NaN or infinity, in batch 0"),
        (tmp_path / "missing.npz", FileError, "does not exist"),
        (tmp_path / "empty", FileError, "which holds no .npy file"),
        (tmp_path / "x.txt", FileError, "expected an array"),
        (tmp_path / "cut.npz", FileError, "is not a readable NumPy .npz file"),
        (tmp_path / "objects.npy", FileError, "not numbers"),
        (tmp_path / "objects.npz", FileError, "objects.npz"),
    ]
    for wrong, kind, message in cases:
        with pytest.raises(kind, match=message):
            batches(wrong)
    with pytest.raises(ValueError, match=re.escape("`batch_size=0` is too small")):
        batches(image(4, 3, 12, 12), size=0)


def test_a_promise_of_a_compressed_file_is_not_believed(tmp_path: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f4", "fortran_order": False, "shape": (1 << 40,)}
    )
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w") as archive:
        archive.writestr("image.npy", header.getvalue())
    with pytest.raises(FileError, match="damaged or cut short"):
        batches(tmp_path / "bomb.npz")


def test_large_constants_of_nodes_become_initializers_where_nothing_is_written_again() -> None:
    def constant(name: str, *shape: int) -> onnx.NodeProto:
        values = np.random.default_rng(len(name)).standard_normal(shape).astype(np.float32)
        return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(values))

    nodes = [
        constant("weights", 32, 16, 1, 1),
        constant("bias", 32),
        constant("given", 300),
        helper.make_node("Conv", ["x", "weights", "bias"], ["y"]),
    ]
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", ["n", 16, 5, 5]), ("y", ["n", 32, 5, 5]), ("given", [300]))
    ]
    graph = helper.make_graph(nodes, "net", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    before = model.SerializeToString()
    read = read_model(model, as_it_is=False)
    assert [node.output[0] for node in read.proto.graph.node] == ["bias", "given", "y"]
    assert set(read.tensors) == {"weights"}
    assert [node.output[0] for node in read_model(model).proto.graph.node] == [
        "weights",
        "bias",
        "given",
        "y",
    ]
    assert model.SerializeToString() == before
    again = whole_model(read)
    onnx.checker.check_model(again, full_check=True)
    model.ir_version = 3  # whose initializers are inputs
    assert len(read_model(model, as_it_is=False).proto.graph.node) == 4
    model.ir_version = 8
    model.graph.node.append(constant("weights", 32, 16, 1, 1))
    with pytest.raises(ValueError, match="rules of ONNX"):
        read_model(model, as_it_is=False)
