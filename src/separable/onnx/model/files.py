"""Models in and out of files, which may be anything: sizes are checked before memory is taken.

A model is kept with its large tensors beside it, so that taking it apart, checking it and rebuilding it moves
no weights, and so that nothing depends on protobuf's limit of 2 GiB.
"""

from __future__ import annotations

import itertools
import math
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import numpy_helper
from onnx.onnx_ml_pb2 import (
    FunctionProto,
    GraphProto,
    ModelProto,
    SparseTensorProto,
    TensorProto,
    ValueInfoProto,
)

from ..._base.types import Array
from ...files.guard import FileError, check_promise, check_readable, human_bytes, reading
from ...files.target import check_target, replacing
from .lengths import name_open_lengths
from .names import ModelError, in_short, legible, naming
from .opsets import KNOWN_OPSET, OLDEST_OPSET, opset_of, upgraded
from .sizes import bytes_of, check_declared, check_list, check_sparse
from .tensor_places import BESIDE, DESCRIPTION, SMALL, ByteRange, skimmed

__all__ = [
    "Array",
    "Stored",
    "data_beside",
    "keep",
    "read_model",
    "whole_model",
    "with_open_weights",
    "write_model",
]


# Protobuf refuses messages from 2 GiB on; what a model has beside its tensors needs far less than 16 MiB.
_LARGEST_FILE: Final = 2**31 - 2**24

_LONGEST_NAME: Final = 255  # bytes of a file's name, on most systems

_EXTERNAL: Final = TensorProto.EXTERNAL
_FREE_INITIALIZERS: Final = 4  # the version of the format from which on they need not be inputs too
_ELSEWHERE: Final = "beside"  # where a placeholder says its data lie; no file of that name is ever opened


@dataclass(frozen=True)
class Stored:
    """A model with its large tensors beside it.

    Attributes
    ----------
    proto : ModelProto
        Its large initializers hold a type and a shape, and no data.
    tensors : mapping of str to ndarray
        The large initializers by name.
    external : bool
        Whether the file that it came from kept tensors in files of their own.
    older_opset : int or None
        The operator set that it was written for, where that is older than what is known here.
    """

    proto: ModelProto
    tensors: Mapping[str, Array]
    external: bool = False
    older_opset: int | None = None


# -- in ----------------------------------------------------------------------------------------------


def read_model(source: str | os.PathLike[str] | ModelProto, *, as_it_is: bool = True) -> Stored:
    """Return a model that is whole, consistent, and of an operator set that is known here.

    Operator sets 7 to 12 are rewritten as 13. A length that is declared as 0 or less is open, and gets a
    name. Outputs that do not say their type and shape get those that follow from the model.

    Parameters
    ----------
    source : path-like or ModelProto
        A file, with external data nowhere but in its own folder; or a model that holds all its data. It is
        not changed.
    as_it_is : bool, optional
        False: large tensors of Constant nodes become initializers, which checks and rewriting pass by. A
        model that is to be written again keeps them where they are.

    Returns
    -------
    Stored

    Raises
    ------
    FileError
        If the file cannot be read, is damaged, or points to data outside of its folder.
    ValueError
        If the model breaks the rules of ONNX, or its operator set is too old or too new.
    TypeError
        If `source` is neither.
    """
    if isinstance(source, ModelProto):
        with naming(source, "read"):
            return _checked(legible(source), {}, None, "`path_or_model`", as_it_is)
    try:
        path = Path(source)
    except TypeError:
        raise TypeError(
            f"`path_or_model` is a {type(source).__name__}; expected the path of an .onnx file, or a "
            "ModelProto."
        ) from None
    with naming(path, "read"):
        model, places = _parsed(path)
        return _checked(legible(model), places, path, f"`{path}`", as_it_is)


def _parsed(path: Path) -> tuple[ModelProto, Mapping[int, ByteRange]]:
    """Return a model, and where in its file the initializers lie that it does not hold, by their numbers."""
    if path.exists() and not path.is_file():
        raise FileError(f"`{path}` is not a regular file; pass the .onnx file itself.")
    check_readable(path)
    size = path.stat().st_size
    if size > _LARGEST_FILE:
        raise FileError(
            f"`{path}` has {human_bytes(size)}, and an ONNX file ends at 2 GiB (protobuf's limit); "
            "keep its tensors in external data: onnx.save(model, path, save_as_external_data=True)."
        )
    with reading(path, "ONNX"):
        model, places = skimmed(path) or (ModelProto.FromString(path.read_bytes()), {})
        if not model.ir_version or not model.HasField("graph"):
            raise FileError(f"`{path}` is not a readable ONNX file: it holds no graph.")
    return model, places


def _checked(
    model: ModelProto, places: Mapping[int, ByteRange], path: Path | None, name: str, as_it_is: bool
) -> Stored:
    _check_opsets(model)
    external = False
    total = 0
    for info in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        check_declared(info, name)
    for sparse in _sparse(model.graph):
        check_sparse(sparse, name)
    data: list[bytes | ByteRange | None] = []  # of the tensors, of which the initializers are the first
    for number, tensor in enumerate(_tensors(model)):
        data.append(places.get(number))
        if number in places:
            continue
        if tensor.data_location == _EXTERNAL:
            external = True
            if path is None:
                raise ModelError(
                    f"it keeps tensor `{tensor.name}` in another file; pass the path of the model, or load "
                    "it with onnx.load(path), which reads external data."
                )
            total += _external_place(tensor, path)[2]
        else:
            data[-1] = check_list(tensor, name)
    if path is not None:
        check_promise(path, (total,), np.dtype(np.uint8), ratio=None)
    lifted = {} if as_it_is else _large_constants(model)
    return _in_order(_taken_apart(model, path, external, data, lifted))


def _in_order(stored: Stored) -> Stored:
    """Return a model that onnx's checker has nothing against, of an operator set that is known here."""
    name_open_lengths(stored.proto.graph)
    _complete_outputs(stored)
    _check_rules(stored)
    version = opset_of(stored.proto)
    if version is None or version >= KNOWN_OPSET:
        return stored
    stored = replace(stored, proto=upgraded(stored.proto, with_open_weights(stored)), older_opset=version)
    _check_rules(stored)
    return stored


def _complete_outputs(stored: Stored) -> None:
    """Give outputs without type or shape those that follow from the rest, as far as that can be told."""
    outputs = stored.proto.graph.output
    if all(_is_typed(output) for output in outputs):
        return
    # Where inference stops at what it cannot tell, nothing is known.
    with suppress(onnx.shape_inference.InferenceError):
        model = onnx.shape_inference.infer_shapes(with_open_weights(stored), data_prop=True)
        for output, found in zip(outputs, model.graph.output, strict=True):
            if not _is_typed(output):
                output.type.CopyFrom(found.type)


def _is_typed(info: ValueInfoProto) -> bool:
    kind = info.type.WhichOneof("value")
    tensor = info.type.tensor_type
    return kind is not None and (
        kind != "tensor_type" or (tensor.HasField("shape") and tensor.elem_type != TensorProto.UNDEFINED)
    )


def _check_opsets(model: ModelProto) -> None:
    version = opset_of(model)
    if version is None:
        raise ModelError(
            "it names no operator set of ONNX (opset_import), and cannot be read; export it again."
        )
    if version < OLDEST_OPSET:
        raise ModelError(
            f"it uses operator set {version}, and those before {OLDEST_OPSET} are not read: operators had "
            f"other meanings. Export it again with a newer exporter (opset_version={KNOWN_OPSET} or newer)."
        )
    newest = onnx.defs.onnx_opset_version()
    if version > newest:
        raise ModelError(
            f"it uses operator set {version}, and onnx {onnx.__version__} knows those up to {newest}; "
            "install a newer onnx, or convert the model."
        )


def _tensors(model: ModelProto) -> Iterator[TensorProto]:
    """Return all tensors of a model, those in attributes and in subgraphs included."""
    yield from _tensors_of_graph(model.graph)
    for function in model.functions:
        yield from _tensors_of_nodes(function)


def _tensors_of_graph(graph: GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _tensors_of_nodes(graph)


def _tensors_of_nodes(holder: GraphProto | FunctionProto) -> Iterator[TensorProto]:
    for node in holder.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            one = [attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []
            for sparse in (*one, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)
            if attribute.HasField("g"):
                yield from _tensors_of_graph(attribute.g)
            for graph in attribute.graphs:
                yield from _tensors_of_graph(graph)


def _external_place(tensor: TensorProto, path: Path) -> tuple[Path, int, int]:
    """Return file, offset and length of external data, which must lie in the model's folder.

    A model that is itself a symbolic link may have its data beside what the link points to.
    """
    where = {entry.key: entry.value for entry in tensor.external_data}
    location = where.get("location", "")
    shown = location if len(location) <= _LONGEST_NAME else f"{location[:_LONGEST_NAME]}..."
    said = f"`{path}` keeps tensor `{tensor.name}` in {shown!r}"
    if not location or os.path.isabs(location) or "\0" in location:
        raise FileError(f"{said}; expected a path relative to the model's folder.")
    file = Path(os.path.realpath(path.parent / location))
    if not any(
        file.is_relative_to(folder)
        for folder in (os.path.realpath(path.parent), Path(os.path.realpath(path)).parent)
    ):
        raise FileError(f"{said}, outside of the model's folder; only files in that folder are read.")
    if not os.path.isfile(file):  # which no name is too long for
        raise FileError(f"{said}, which is not a file there; put it beside the model.")
    size = file.stat().st_size
    wanted = bytes_of(tensor, f"`{path}`")
    try:
        offset = int(where.get("offset", 0))
        length = int(where.get("length", wanted))
    except ValueError:
        raise FileError(f"{said}, but its offset or length is no number.") from None
    if offset < 0 or length != wanted or offset + length > size:
        raise FileError(
            f"{said}, bytes {offset} to {offset + length} for shape {tuple(tensor.dims)} "
            f"({human_bytes(wanted)}), but that file has {human_bytes(size)}; it is damaged or cut short."
        )
    return file, offset, length


def _sparse(graph: GraphProto) -> Iterator[SparseTensorProto]:
    """Return the sparse tensors of a graph, those in its nodes and their subgraphs included."""
    yield from graph.sparse_initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("sparse_tensor"):
                yield attribute.sparse_tensor
            yield from attribute.sparse_tensors
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _sparse(inner)


def _large_constants(model: ModelProto) -> dict[int, TensorProto]:
    """Return the tensors of Constant nodes that could as well be initializers, by the places of the nodes."""
    if model.ir_version < _FREE_INITIALIZERS:
        return {}
    graph = model.graph
    taken = {"", *(one.name for one in (*graph.input, *graph.output, *graph.initializer))}
    found: dict[int, TensorProto] = {}
    for number, node in enumerate(graph.node):
        if node.op_type == "Constant" and not node.domain and len(node.attribute) == len(node.output) == 1:
            tensor, name = node.attribute[0].t, node.output[0]
            large = tensor.data_type in BESIDE and math.prod(tensor.dims) >= SMALL
            if large and tensor.data_location != _EXTERNAL and name not in taken:
                found[number] = tensor
                taken.add(name)
    return found


def _taken_apart(
    model: ModelProto,
    path: Path | None,
    external: bool,
    data: Sequence[bytes | ByteRange | None],
    lifted: Mapping[int, TensorProto],
) -> Stored:
    """Return the model with its large initializers beside it, and all other data inside."""
    shell = ModelProto()
    for field, value in model.ListFields():
        if field.name != "graph":
            _copy_field(shell, field.name, value)
    for field, value in model.graph.ListFields():
        if field.name == "node" and lifted:
            shell.graph.node.extend(node for number, node in enumerate(value) if number not in lifted)
        elif field.name != "initializer":
            _copy_field(shell.graph, field.name, value)
    _bring_in(shell, path)
    tensors: dict[str, Array] = {}
    for number, tensor in lifted.items():
        name = model.graph.node[number].output[0]
        tensors[name] = numpy_helper.to_array(tensor)
        shell.graph.initializer.append(_placeholder(tensor))
        shell.graph.initializer[-1].name = name
    for tensor, raw in zip(model.graph.initializer, data, strict=False):
        if tensor.data_type in BESIDE and math.prod(tensor.dims) >= SMALL:
            tensors[tensor.name] = _data(tensor, path, raw)
            shell.graph.initializer.append(_placeholder(tensor))
        else:
            shell.graph.initializer.add().CopyFrom(tensor)
            _fill(shell.graph.initializer[-1], path)
    return Stored(shell, tensors, external)


def keep(model: ModelProto, tensors: dict[str, Array], name: str, values: Array) -> None:
    """Add an initializer to a model that is being built: a large one beside it, a small one inside.

    Parameters
    ----------
    model : ModelProto
    tensors : dict of str to ndarray
        What lies beside it.
    name : str
    values : ndarray
    """
    array = np.asarray(values, order="C")  # which a scalar stays one in
    tensor = numpy_helper.from_array(array, name)
    if tensor.data_type in BESIDE and values.size >= SMALL:
        tensors[name] = array
        tensor = _placeholder(tensor)
    model.graph.initializer.append(tensor)


def _copy_field(message: Any, name: str, value: Any) -> None:
    if hasattr(value, "CopyFrom"):
        getattr(message, name).CopyFrom(value)
    elif isinstance(value, (str, bytes, int, float)):
        setattr(message, name, value)
    else:
        getattr(message, name).extend(value)


def _placeholder(tensor: TensorProto) -> TensorProto:
    empty = TensorProto()
    for field, value in tensor.ListFields():
        if field.name in DESCRIPTION:
            _copy_field(empty, field.name, value)
    empty.data_location = _EXTERNAL
    empty.external_data.add(key="location", value=_ELSEWHERE)
    return empty


def _data(tensor: TensorProto, path: Path | None, held: bytes | ByteRange | None) -> Array:
    """Return a tensor's data: bytes that are at hand, or those that lie in the model's or another file."""
    if held is None and (path is None or tensor.data_location != _EXTERNAL):
        return numpy_helper.to_array(tensor)
    dtype, count = BESIDE[tensor.data_type], math.prod(tensor.dims)
    if isinstance(held, bytes):
        values = np.frombuffer(held, dtype)
    else:
        assert path is not None
        file, offset = (path, held.offset) if held else _external_place(tensor, path)[:2]
        values = np.fromfile(file, dtype, count=count, offset=offset)
        if len(values) != count:
            raise FileError(f"`{file}` has become shorter while it was read; read it again.")
    array: Array = values.reshape(tuple(tensor.dims)).astype(dtype.newbyteorder("="), copy=False)
    return array


def _bring_in(model: ModelProto, path: Path | None) -> None:
    for tensor in _tensors(model):
        _fill(tensor, path)


def _fill(tensor: TensorProto, path: Path | None) -> None:
    if path is None or tensor.data_location != _EXTERNAL:
        return
    file, offset, length = _external_place(tensor, path)
    with file.open("rb") as stream:
        stream.seek(offset)
        tensor.raw_data = stream.read(length)
    tensor.ClearField("data_location")
    del tensor.external_data[:]


# -- what the checker sees ---------------------------------------------------------------------------


def with_open_weights(stored: Stored) -> ModelProto:
    """Return the model with its large tensors as inputs: what checks and shape inference need of them.

    Parameters
    ----------
    stored : Stored

    Returns
    -------
    ModelProto
    """
    model = ModelProto()
    model.CopyFrom(stored.proto)
    declared = {value.name for value in model.graph.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name not in stored.tensors]
    for tensor in model.graph.initializer:
        if tensor.name in stored.tensors and tensor.name not in declared:
            model.graph.input.append(
                onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            )
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    return model


def _check_rules(stored: Stored) -> None:
    """Refuse a model that onnx's checker says something against."""
    model = with_open_weights(stored)
    for info in (*model.graph.input, *model.graph.output):
        if not _is_typed(info):  # the checker asks for a shape, and looks at the rest without it
            kind = info.type.tensor_type
            kind.elem_type = kind.elem_type or TensorProto.FLOAT
            kind.shape.SetInParent()
    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, ValueError) as error:
        raise ModelError(f"it breaks the rules of ONNX: {in_short(error)}") from error


# -- out ---------------------------------------------------------------------------------------------


def whole_model(stored: Stored) -> ModelProto:
    """Return the model with all its data inside.

    Parameters
    ----------
    stored : Stored

    Returns
    -------
    ModelProto
        It may be larger than what protobuf can write; :func:`write_model` can.
    """
    model = ModelProto()
    model.CopyFrom(stored.proto)
    for tensor in model.graph.initializer:
        if tensor.name in stored.tensors:
            tensor.raw_data = _bytes(stored.tensors[tensor.name])
            tensor.ClearField("data_location")
            del tensor.external_data[:]
    return model


def write_model(stored: Stored, path: Path) -> None:
    """Write a model; the file appears under its name once it is whole.

    Large tensors, if there are any, go to ``<name>.data`` beside it if the model came with external data, or
    would be larger than what protobuf can write. Where a file is called so, it is left alone, and they go to
    ``<name>.2.data``: whenever the writing stops, the model under its name has the data that belong to it.
    The data of the model that was there before are removed at the end.

    Parameters
    ----------
    stored : Stored
    path : Path

    Raises
    ------
    FileError
        If it cannot be written.
    """
    check_target(path)
    size = sum(array.nbytes for array in stored.tensors.values())
    if not stored.tensors or (not stored.external and size < _LARGEST_FILE):
        _exchange(path, whole_model(stored))
        return
    model = ModelProto()
    model.CopyFrom(stored.proto)
    old = _own_data(path)
    with _new_data(path, old) as data:
        with replacing(data) as beside, beside.open("wb") as stream:
            for tensor in model.graph.initializer:
                if tensor.name in stored.tensors:
                    _write_tensor(stream, tensor, stored.tensors[tensor.name], data.name)
        _exchange(path, model)


def _exchange(path: Path, model: ModelProto) -> None:
    """Put a model in the place of another, then remove the data that only that one read."""
    old = _own_data(path)
    with replacing(path) as beside:
        beside.write_bytes(model.SerializeToString(deterministic=True))
    for data in old:
        with suppress(OSError):  # the model is in its place: a file too many is no reason to fail
            data.unlink()


def data_beside(path: Path) -> list[Path]:
    """Return the files that lie beside a model and are called as :func:`write_model` calls its data.

    Parameters
    ----------
    path : Path

    Returns
    -------
    list of Path
    """
    named = re.compile(rf"{re.escape(path.name)}(\.\d+)?\.data")
    return sorted(file for file in path.parent.iterdir() if named.fullmatch(file.name))


def _own_data(path: Path) -> list[Path]:
    """Return those of them that the model which is at the path now reads."""
    beside = data_beside(path)
    if not beside:
        return []
    try:
        model = ModelProto.FromString(path.read_bytes())
    except (OSError, DecodeError):
        return []
    entries = (entry for tensor in _tensors(model) for entry in tensor.external_data)
    places = {entry.value for entry in entries if entry.key == "location"}
    return [file for file in beside if file.name in places]


@contextmanager
def _new_data(path: Path, old: Sequence[Path]) -> Iterator[Path]:
    """Give the block a file of data that nobody has, with the mode of the old one; remove it if it fails.

    Whatever comes once the model that reads it is in its place, it stays.
    """
    for number in itertools.count(1):
        data = path.with_name(f"{path.name}.{number}.data" if number > 1 else f"{path.name}.data")
        try:
            os.close(os.open(data, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        except FileExistsError:
            continue
        except OSError as error:
            raise FileError(f"`{data}` cannot be written: {error.strerror or error}.") from error
        break
    try:
        for earlier in old[:1]:
            with suppress(OSError):
                shutil.copymode(earlier, data)
        yield data
    except BaseException:
        if data not in _own_data(path):
            with suppress(OSError):
                data.unlink()
        raise


def _write_tensor(stream: Any, tensor: TensorProto, array: Array, location: str) -> None:
    # Readers that map the file want tensors at multiples of a page.
    stream.write(b"\0" * (-stream.tell() % 4096))
    offset = stream.tell()
    stream.write(_bytes(array))
    del tensor.external_data[:]
    for key, value in (("location", location), ("offset", str(offset)), ("length", str(array.nbytes))):
        tensor.external_data.add(key=key, value=value)


def _bytes(array: Array) -> bytes:
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
