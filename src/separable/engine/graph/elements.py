"""ONNX's element types as NumPy's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

__all__ = ["DTYPES", "FLOAT_TYPES", "is_float"]

# Numbers of TensorProto.DataType; strings are objects.
DTYPES: Final[Mapping[int, np.dtype[Any]]] = {
    number: np.dtype(name)
    for number, name in {
        1: "float32",
        2: "uint8",
        3: "int8",
        4: "uint16",
        5: "int16",
        6: "int32",
        7: "int64",
        8: "object",
        9: "bool",
        10: "float16",
        11: "float64",
        12: "uint32",
        13: "uint64",
        14: "complex64",
        15: "complex128",
    }.items()
}

# Those numbers that a computation in another precision replaces.
FLOAT_TYPES: Final = (1, 10, 11)


def is_float(dtype: np.dtype[Any]) -> bool:
    """Whether a type is one of NumPy's floating types."""
    return dtype.kind == "f"
