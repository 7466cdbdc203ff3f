"""Models read without the bytes of their large tensors are those that protobuf reads."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper, numpy_helper

from separable.onnx.model import files
from separable.onnx.model.tensor_places import BESIDE, SMALL, skimmed


def model_with(arrays, **more):
    """Return a model that passes on its input, and holds arrays."""
    names = [f"w{i}" for i in range(len(arrays))]
    tensors = [numpy_helper.from_array(array, name) for array, name in zip(arrays, names, strict=True)]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [x], [y], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], **more)


def whole(path):
    """Return what `skimmed` gives, with the bytes put back."""
    read = skimmed(path)
    if read is None:
        return None
    model, places = read
    data = path.read_bytes()
    for number, place in places.items():
        tensor = model.graph.initializer[number]
        assert not tensor.HasField("raw_data")
        tensor.raw_data = data[place.offset : place.offset + place.length]
    return model


TYPES = [*(dtype.newbyteorder("=") for dtype in BESIDE.values()), np.dtype(np.int64), np.dtype(np.bool_)]
SHAPES = [(SMALL,), (SMALL - 1,), (0, 5), (), (5, 1000)]
ARRAYS = [np.resize(np.arange(100), shape).astype(dtype) for dtype in TYPES for shape in SHAPES]


def test_what_is_not_held_lies_where_it_is_said_to(tmp_path):
    path = tmp_path / "m.onnx"
    model = model_with(ARRAYS, producer_name="tests", doc_string="d" * 3000)
    onnx.save(model, path)
    read = skimmed(path)
    assert read is not None
    large = [array.size >= SMALL and array.dtype in list(BESIDE.values()) for array in ARRAYS]
    assert sorted(read[1]) == [number for number, is_large in enumerate(large) if is_large]
    assert len(read[0].SerializeToString()) < path.stat().st_size / 2
    assert whole(path) == onnx.load(path)


def test_numbers_in_lists_and_odd_sizes_stay(tmp_path):
    path = tmp_path / "m.onnx"
    model = model_with([])
    model.graph.initializer.append(helper.make_tensor("list", TensorProto.FLOAT, [40, 40], np.ones(1600)))
    short = numpy_helper.from_array(np.ones((40, 40), np.float32), "short")
    short.raw_data = short.raw_data[:-4]
    model.graph.initializer.append(short)
    onnx.save(model, path)
    read = skimmed(path)
    assert read is not None
    assert read[1] == {}
    assert read[0] == model
    with pytest.raises(ValueError, match="damaged: tensor `short`"):
        files.read_model(path)


@pytest.mark.parametrize("seed", range(300))
def test_damaged_files_are_read_as_by_protobuf_or_left_to_it(tmp_path, seed):
    random = np.random.default_rng(seed)
    arrays = [random.standard_normal((int(random.integers(1, 30)), 20)).astype(np.float32) for _ in range(3)]
    data = bytearray(model_with(arrays, producer_name="tests").SerializeToString())
    for _ in range(random.integers(1, 4)):
        place = int(random.integers(len(data) if random.random() < 0.5 else min(200, len(data))))
        match random.integers(4):
            case 0:
                data[place] = int(random.integers(256))
            case 1:
                del data[place:]
            case 2:
                del data[place : place + int(random.integers(1, 5))]
            case _:
                data[place:place] = random.integers(0, 256, int(random.integers(1, 5)), np.uint8).tobytes()
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    try:
        expected = onnx.ModelProto.FromString(bytes(data))
    except DecodeError:
        expected = None
    model = whole(path)
    assert model is None or model == expected


def test_a_graph_in_two_parts_is_left_to_protobuf(tmp_path):
    """Which joins them, as the encoding says."""
    path = tmp_path / "m.onnx"
    first, second = model_with([np.ones((50, 50), np.float32)]), onnx.ModelProto()
    second.graph.doc_string = "joined"
    path.write_bytes(first.SerializeToString() + second.SerializeToString())
    assert skimmed(path) is None
    stored = files.read_model(path)
    assert stored.proto.graph.doc_string == "joined"
    assert stored.tensors["w0"].sum() == 2500


def test_a_file_that_shrinks_while_it_is_read_is_said(tmp_path, monkeypatch):
    path = tmp_path / "m.onnx"
    onnx.save(model_with([np.ones((50, 50), np.float32)]), path)

    def shrunk(path):
        read = skimmed(path)
        with path.open("r+b") as file:
            file.truncate(1000)
        return read

    monkeypatch.setattr(files, "skimmed", shrunk)
    with pytest.raises(files.FileError, match=r"m.onnx` has become shorter"):
        files.read_model(path)
