"""What a model says about its own size, checked before it is believed: no memory is taken on its word."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import onnx
from onnx.onnx_ml_pb2 import SparseTensorProto, TensorProto, ValueInfoProto

from ...files.guard import FileError, human_bytes, physical_memory
from .names import ModelError

__all__ = ["bytes_of", "check_declared", "check_fits", "check_list", "check_sparse"]

# Elements that one entry of a list of numbers holds, or the part of one that it holds, by type.
_PACKED: Final[Mapping[int, float]] = {
    **{getattr(TensorProto, name): 0.5 for name in ("COMPLEX64", "COMPLEX128")},
    **{getattr(TensorProto, name, -1): 2 for name in ("INT4", "UINT4", "FLOAT4E2M1")},
    **{getattr(TensorProto, name, -1): 4 for name in ("INT2", "UINT2")},
}

# NumPy has arrays of no more axes than that, the oldest version that is supported.
_MOST_AXES: Final = 32


def bytes_of(tensor: TensorProto, name: str) -> int:
    """Return the bytes that a tensor's shape and type ask for; 0 for strings, which have no fixed size.

    Parameters
    ----------
    tensor : TensorProto
    name : str
        The model's, for errors.

    Returns
    -------
    int

    Raises
    ------
    FileError
        If the shape or the type is none.
    """
    return -(-_elements(tensor, name) * _bits(tensor, name) // 8)


def _elements(tensor: TensorProto, name: str) -> int:
    if any(length < 0 for length in tensor.dims):
        raise FileError(
            f"{name} is damaged: tensor `{tensor.name}` has a negative length, {tuple(tensor.dims)}."
        )
    if len(tensor.dims) > _MOST_AXES:
        raise FileError(
            f"{name} is damaged: tensor `{tensor.name}` has {len(tensor.dims)} axes; expected at most "
            f"{_MOST_AXES}."
        )
    return math.prod(tensor.dims)


def _bits(tensor: TensorProto, name: str) -> int:
    try:
        kind = TensorProto.DataType.Name(tensor.data_type)
    except ValueError:
        kind = "UNDEFINED"
    if kind == "UNDEFINED":
        raise FileError(
            f"{name} is damaged: tensor `{tensor.name}` is of no known type ({tensor.data_type})."
        )
    if kind == "STRING":
        return 0
    if "INT4" in kind or "FLOAT4" in kind:
        return 4
    if "INT2" in kind:
        return 2
    return 8 * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize


def check_list(tensor: TensorProto, name: str) -> bytes | None:
    """Refuse a tensor whose data are not as many as its shape says.

    Parameters
    ----------
    tensor : TensorProto
        Its data within the model: bytes, or a list of numbers.
    name : str
        The model's, for errors.

    Returns
    -------
    bytes or None
        Its data, which protobuf copies each time that it is asked; None where they are a list.

    Raises
    ------
    FileError
    """
    wanted, count = bytes_of(tensor, name), _elements(tensor, name)
    raw = tensor.raw_data if tensor.HasField("raw_data") else None
    if raw is not None:
        held, expected, unit = len(raw), wanted, "bytes"
        if tensor.data_type == TensorProto.STRING:
            return raw  # the checker says that strings have no bytes
    else:
        held = len(getattr(tensor, onnx.helper.tensor_dtype_to_field(tensor.data_type)))
        expected, unit = math.ceil(count / _PACKED.get(tensor.data_type, 1)), "numbers"
    if held != expected:
        shown = (human_bytes(expected), human_bytes(held))
        if unit == "numbers":
            shown = (f"{expected} {unit}", str(held))
        raise FileError(
            f"{name} is damaged: tensor `{tensor.name}` of shape {tuple(tensor.dims)} takes {shown[0]}, but "
            f"holds {shown[1]}."
        )
    return raw


def check_sparse(sparse: SparseTensorProto, name: str) -> None:
    """Refuse a sparse tensor that would not fit into memory once it is written out, as runtimes do.

    Parameters
    ----------
    sparse : SparseTensorProto
    name : str
        The model's, for errors.

    Raises
    ------
    FileError
        If its shape or its type is none.
    ModelError
        If it is too large.
    """
    whole = TensorProto(
        name=sparse.values.name or "(sparse)", dims=sparse.dims, data_type=sparse.values.data_type
    )
    check_fits(f"sparse tensor `{whole.name}`", tuple(sparse.dims), bytes_of(whole, name))


_ELEMENT_TYPES: Final = frozenset(TensorProto.DataType.values())


def check_declared(info: ValueInfoProto, name: str) -> None:
    """Refuse an input or output of no known type.

    Parameters
    ----------
    info : ValueInfoProto
    name : str
        The model's, for errors.

    Raises
    ------
    FileError
    """
    kind = info.type.tensor_type
    if kind.elem_type not in _ELEMENT_TYPES:
        raise FileError(f"{name} is damaged: `{info.name}` is of no known type ({kind.elem_type}).")


def check_fits(what: str, shape: tuple[int, ...], count: int) -> None:
    """Refuse what this machine cannot hold.

    Parameters
    ----------
    what : str
        What asks for it, for errors.
    shape : tuple of int
    count : int
        Bytes.

    Raises
    ------
    ModelError
    """
    memory = physical_memory()
    if memory is not None and count > memory:
        raise ModelError(
            f"{what} of shape {shape} takes {human_bytes(count)}, but this machine has {human_bytes(memory)} "
            "of memory."
        )
