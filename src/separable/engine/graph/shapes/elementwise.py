"""Output types of operations that work on each element alone, after broadcasting."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from ..elements import DTYPES
from .operands import Kind, Lengths, Operands, ShapeError, axis_of, broadcast, one_dtype

__all__ = ["BROADCAST", "RULES", "SAME"]


def _same(given: Operands) -> list[Kind]:
    return [(given.dtype(), given.shape())]


def _question(given: Operands) -> list[Kind]:
    return [(np.dtype(bool), given.shape())]


def _together(given: Operands) -> list[Kind]:
    shapes = [given.shape(number) for number in range(len(given.types))]
    return [(one_dtype(given.types), broadcast(shapes))]


def _power(given: Operands) -> list[Kind]:
    return [(given.dtype(), broadcast([given.shape(), given.shape(1)]))]


def _comparison(given: Operands) -> list[Kind]:
    one_dtype(given.types)
    return [(np.dtype(bool), broadcast([given.shape(), given.shape(1)]))]


def _where(given: Operands) -> list[Kind]:
    return [(one_dtype(given.types[1:]), broadcast([given.shape(0), given.shape(1), given.shape(2)]))]


def _prelu(given: Operands) -> list[Kind]:
    one_dtype(given.types)
    _check_onto(given.shape(1), given.shape(), "slopes")
    return _same(given)


def _check_onto(shape: Lengths, onto: Lengths, what: str) -> None:
    """Refuse what does not broadcast to another shape without making it larger."""
    together = broadcast([onto, shape])
    pairs = zip(together, onto, strict=False)
    if len(together) > len(onto) or any(isinstance(one, int) and one != other for one, other in pairs):
        raise ShapeError(f"{what} of shape {shape} do not broadcast to {onto}")


def _cast(given: Operands) -> list[Kind]:
    number = given.attribute("to")
    if number not in DTYPES:
        raise ShapeError(f"element type {number} is not known here")
    return [(DTYPES[number], given.shape())]


def _cast_like(given: Operands) -> list[Kind]:
    return [(given.dtype(1), given.shape())]


def _dequantized(given: Operands) -> list[Kind]:
    """Whole numbers times a scale: of its type, unless the attribute tells another."""
    number = given.attribute("output_dtype", 0)
    if number and number not in DTYPES:
        raise ShapeError(f"element type {number} is not known here")
    return [(DTYPES[number] if number else given.dtype(1), given.shape())]


def _dropout(given: Operands) -> list[Kind]:
    return [(given.dtype(), given.shape()), (np.dtype(bool), given.shape())]


def _batch_norm(given: Operands) -> list[Kind]:
    shape = given.shape()
    channels = shape[1] if len(shape) > 1 else 1
    for number in range(1, 5):
        lengths = given.shape(number)
        if len(lengths) != 1 or (
            isinstance(lengths[0], int) and isinstance(channels, int) and lengths[0] != channels
        ):
            raise ShapeError(f"input {number} of shape {lengths} for an input of shape {shape}")
    return [(given.dtype(), shape)]


def _layer_norm(given: Operands) -> list[Kind]:
    shape = given.shape()
    axis = axis_of(given.attribute("axis", -1), len(shape))
    small = shape[:axis] + (1,) * (len(shape) - axis)
    _check_onto(given.shape(1), shape, "scales")
    statistics = DTYPES.get(given.attribute("stash_type", 1), given.dtype())
    return [(given.dtype(), shape), (statistics, small), (statistics, small)]


def _normalised(given: Operands) -> list[Kind]:
    axis_of(given.attribute("axis", -1), max(len(given.shape()), 1))
    return _same(given)


# Of these the first output has the type of the first input.
SAME: Final = tuple(
    """
    Relu LeakyRelu ThresholdedRelu Elu Selu Celu Clip Sigmoid HardSigmoid HardSwish Softplus Softsign Mish
    Tanh Erf Gelu Swish Reciprocal Floor Ceil Round Sqrt Exp Log Abs Neg Sign Sin Cos Tan Asin Acos Atan
    Sinh Cosh Asinh Acosh Atanh Shrink Identity InstanceNormalization GroupNormalization LpNormalization LRN
    MeanVarianceNormalization CumSum Trilu BitwiseNot ScatterElements ScatterND
    """.split()  # noqa: SIM905
)

BROADCAST: Final = tuple(
    "Add Sub Mul Div Mod Min Max Sum Mean And Or Xor BitwiseAnd BitwiseOr BitwiseXor".split()  # noqa: SIM905
)
_COMPARISONS: Final = "Equal Greater Less GreaterOrEqual LessOrEqual"

RULES: Final[Mapping[str, Callable[[Operands], list[Kind]]]] = {
    **dict.fromkeys(SAME, _same),
    **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax"), _normalised),
    **dict.fromkeys(("Not", "IsNaN", "IsInf"), _question),
    **dict.fromkeys(BROADCAST, _together),
    **dict.fromkeys(_COMPARISONS.split(), _comparison),
    "Pow": _power,
    "BitShift": _power,
    "Where": _where,
    "PRelu": _prelu,
    "Cast": _cast,
    "CastLike": _cast_like,
    "DequantizeLinear": _dequantized,
    "Dropout": _dropout,
    "BatchNormalization": _batch_norm,
    "LayerNormalization": _layer_norm,
}
