"""Constants that a model computes from others: exporters turn weights round, scale, norm or cast them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from onnx import helper
from onnx.onnx_ml_pb2 import NodeProto, ValueInfoProto

from ..._base.types import Array

__all__ = ["FOLDED", "value_of"]

# Operators that weights are found behind. DequantizeLinear is none of them: such weights are to stay small.
# A weight norm is exported as the lengths of rows, by which they are divided, and a scale.
_OF_TWO: Final = frozenset({"Add", "Div", "Mul", "Pow", "Sub"})
FOLDED: Final = _OF_TWO | frozenset(
    [
        *("Abs", "Cast", "Flatten", "Identity", "Neg", "ReduceL2", "ReduceSum", "ReduceSumSquare", "Reshape"),
        *("Sqrt", "Squeeze", "Transpose", "Unsqueeze"),
    ]
)


def value_of(node: NodeProto, inputs: Sequence[Array], opset: int) -> Array | None:
    """Return what a node gives for constants, by onnx's own reference of the operator.

    Parameters
    ----------
    node : NodeProto
        Of an operator in `FOLDED`, all its inputs there.
    inputs : sequence of ndarray
    opset : int

    Returns
    -------
    ndarray, or None
        None where it cannot be told, or is larger than each of the inputs: no memory is taken for it.
    """
    from onnx.reference import ReferenceEvaluator

    names = [f"i{place}" for place in range(len(inputs))]
    alone = NodeProto(op_type=node.op_type, attribute=node.attribute, input=names, output=["y"])
    graph = helper.make_graph([alone], "alone", [*map(_any, names)], [_any("y")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    try:
        if node.op_type in _OF_TWO:
            made = math.prod(np.broadcast_shapes(*(array.shape for array in inputs)))
            if made > max(array.size for array in inputs):
                return None
        with np.errstate(all="ignore"):
            (value,) = ReferenceEvaluator(model).run(None, dict(zip(names, inputs, strict=True)))
    except Exception:  # what is wrong with a node, a runtime says where it matters
        return None
    array = np.asarray(value)
    return array if array.dtype.kind in "biuf" else None


def _any(name: str) -> ValueInfoProto:
    return ValueInfoProto(name=name)
