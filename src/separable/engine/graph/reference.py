"""What a graph means: each node in NumPy, by ONNX's own reference operators, in float64."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx.reference import ReferenceEvaluator

from ..._base.types import Array
from ...onnx.model.names import ModelError, in_short
from .elements import FLOAT_TYPES, is_float
from .ir import Graph, Node, TensorType, is_bfloat
from .reference_quantised import QUANTISED
from .reference_windows import WINDOWS
from .shapes.table import named, with_attributes

__all__ = ["evaluate", "run_node"]

# Attributes that passes write for an activation, unless ONNX's operation has one of that name.
_OURS: Final = ("activation", "add", "low", "high", "alpha", "operands")


def evaluate(
    graph: Graph,
    inputs: Mapping[str, Array],
    dtype: npt.DTypeLike | None = np.float64,
    *,
    all_tensors: bool = False,
) -> dict[str, Array]:
    """Return what a graph makes of its inputs.

    Parameters
    ----------
    graph : Graph
        Open or static, before or after any passes.
    inputs : mapping of str to ndarray
    dtype : dtype, optional
        Floating tensors, those in the graph too, are turned into this type; None leaves them as they are.
    all_tensors : bool, optional
        Return every tensor, not the outputs alone.

    Returns
    -------
    dict of str to ndarray

    Raises
    ------
    ModelError
        If a node cannot be computed.
    ValueError
        If an input is missing.
    """
    precision = np.dtype(dtype) if dtype is not None else None
    missing = [name for name in graph.inputs if name not in inputs]
    if missing:
        raise ValueError(f"input `{missing[0]}` is missing; got {', '.join(f'`{name}`' for name in inputs)}.")
    known = {name: _raised(np.asarray(array), precision) for name, array in graph.constants.items()}
    known.update((name, _raised(np.asarray(inputs[name]), precision)) for name in graph.inputs)
    for node in graph.nodes:
        given = [known[name] if name else None for name in node.inputs]
        results = run_node(node, given, precision)
        known.update((name, array) for name, array in zip(node.outputs, results, strict=False) if name)
    return known if all_tensors else {name: known[name] for name in graph.outputs}


def _raised(array: Array, precision: np.dtype[Any] | None) -> Array:
    return array.astype(precision) if precision is not None and is_float(array.dtype) else array


def run_node(
    node: Node, inputs: Sequence[Array | None], precision: np.dtype[Any] | None = None
) -> list[Array]:
    """Return the outputs of one node.

    Parameters
    ----------
    node : Node
    inputs : sequence of ndarray or None
        None for one that is absent.
    precision : dtype, optional
        What floating constants in attributes are turned into, and casts to a floating type go to.

    Returns
    -------
    list of ndarray

    Raises
    ------
    ModelError
    """
    try:
        with np.errstate(all="ignore"):
            if node.op == "If":
                return _branch(node, inputs, precision)
            if node.op == "Loop":
                return _loop(node, inputs, precision)
            return _operation(node, inputs, precision)
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(
            f"{named(node)} cannot be computed: {type(error).__name__}: {in_short(error)}"
        ) from error


def _operation(node: Node, inputs: Sequence[Array | None], precision: np.dtype[Any] | None) -> list[Array]:
    weights = inputs[3] if node.op == "QLinearMatMul" else None
    if node.op in QUANTISED and (weights is None or weights.ndim == 2):
        types = [None if array is None else TensorType(array.dtype, array.shape) for array in inputs]
        return QUANTISED[node.op](with_attributes(node, types, inputs), inputs, _activated)
    if node.op in WINDOWS:
        types = [None if array is None else TensorType(array.dtype, array.shape) for array in inputs]
        node = with_attributes(node, types, inputs)
    if node.op == "Conv":
        return _convolution(node, inputs)
    written = node.attributes
    if is_bfloat(node):
        inputs = [*map(_rounded, inputs[:2]), *inputs[2:]]
    results = WINDOWS[node.op](node, inputs) if node.op in WINDOWS else _by_onnx(node, inputs, precision)
    if "activation" in written:
        results[0] = _activated(results[0], written)
    return results


def _by_onnx(node: Node, inputs: Sequence[Array | None], precision: np.dtype[Any] | None) -> list[Array]:
    if "::" in node.op:
        raise ModelError(f"{named(node)} is not an operation of ONNX, and not known here.")
    theirs = onnx.defs.get_schema(node.op).attributes
    written = {name: value for name, value in node.attributes.items() if name in theirs or name not in _OURS}
    if node.op in ("Cast", "ConstantOfShape") and precision is not None:
        written = _in_precision(node.op, written, precision)
    given = {f"x{number}": array for number, array in enumerate(inputs) if array is not None}
    proto = onnx.helper.make_node(
        node.op,
        ["" if array is None else f"x{number}" for number, array in enumerate(inputs)],
        [f"y{number}" if name else "" for number, name in enumerate(node.outputs)],
        **{name: _attribute(value) for name, value in written.items()},
    )
    ends = [onnx.helper.make_empty_tensor_value_info(name) for name in proto.output if name]
    graph = onnx.helper.make_graph([proto], "", [_declared(*pair) for pair in given.items()], ends)
    newest = onnx.defs.onnx_opset_version()
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", newest)])
    results = iter(ReferenceEvaluator(model).run(None, given))
    return [np.asarray(next(results)) if name else np.zeros(0) for name in node.outputs]


def _declared(name: str, array: Array) -> onnx.ValueInfoProto:
    kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
    return onnx.helper.make_tensor_value_info(name, kind, array.shape)


def _attribute(value: Any) -> Any:
    return onnx.numpy_helper.from_array(value) if isinstance(value, np.ndarray) else value


def _in_precision(op: str, written: dict[str, Any], precision: np.dtype[Any]) -> dict[str, Any]:
    if op == "Cast" and written["to"] in FLOAT_TYPES:
        return {**written, "to": int(onnx.helper.np_dtype_to_tensor_dtype(precision))}
    if op == "ConstantOfShape":
        value = written.get("value", np.zeros(1, np.float32))
        return {**written, "value": _raised(value, precision)}
    return written


# -- what passes write -------------------------------------------------------------------------------


def _rounded(x: Any) -> Array:
    """Return the nearest numbers of bfloat16, of ties the even ones; denormal ones become zero."""
    single = np.asarray(x, np.float32)
    bits = single.view(np.uint32)
    kept = (bits + 0x7FFF + (bits >> 16 & 1)) & np.uint32(0xFFFF0000)
    numbers = np.where(np.abs(single) < np.finfo(np.float32).tiny, 0 * single, kept.view(np.float32))
    return np.where(np.isnan(single), single, numbers).astype(np.asarray(x).dtype)


def _convolution(node: Node, inputs: Sequence[Any]) -> list[Array]:
    x, weights, bias, residual, scale = [*inputs, None, None, None][:5]
    written = node.attributes
    x = x if scale is None else x * scale
    if is_bfloat(node):
        x, weights = _rounded(x), _rounded(weights)
    y = WINDOWS["Conv"](node, (x, weights, bias))[0]
    if residual is not None and written.get("add", "before") == "before":
        y = y + residual
    y = _activated(y, written)
    if residual is not None and written.get("add", "before") == "after":
        y = y + residual
    spatial = tuple(range(2, y.ndim))
    return [y, y.mean(spatial, keepdims=True)] if len(node.outputs) > 1 else [y]


def _activated(x: Array, written: Mapping[str, Any]) -> Array:
    """Return an array after the activation that a node's attributes name."""
    name = written.get("activation", "none")
    if name in ("none", None):
        return x
    if name == "clip":
        return np.clip(x, written["low"], written["high"])
    if name == "leaky_relu":
        return np.where(x < 0, written["alpha"] * x, x)
    if name not in _ACTIVATIONS:
        raise ModelError(f"activation {name!r} is not known; expected one of {', '.join(_ACTIVATIONS)}.")
    y: Array = _ACTIVATIONS[name](x)
    return y


def _sigmoid(x: Array) -> Array:
    return np.asarray(0.5 + 0.5 * np.tanh(0.5 * x))  # which no exponential overflows


def _hard_sigmoid(x: Array) -> Array:
    return np.asarray(np.clip(x / 6 + 0.5, 0, 1))


def _gelu(x: Array) -> Array:
    erf: Array = np.vectorize(math.erf, otypes=[x.dtype])(x / math.sqrt(2))
    return np.asarray(0.5 * x * (1 + erf))


def _gelu_tanh(x: Array) -> Array:
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
    return np.asarray(0.5 * x * (1 + np.tanh(inner)))


_ACTIVATIONS: Final[Mapping[str, Any]] = {
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "sigmoid": _sigmoid,
    "hard_sigmoid": _hard_sigmoid,
    "silu": lambda x: x * _sigmoid(x),
    "hard_swish": lambda x: x * _hard_sigmoid(x),
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "tanh": np.tanh,
}


# -- graphs within nodes -----------------------------------------------------------------------------


def _inner(graph: Graph, known: Mapping[str, Any], precision: np.dtype[Any] | None) -> list[Array]:
    """Return the outputs of a graph that a node holds; `known` is what it reads from outside."""
    inside = {**known, **{name: _raised(array, precision) for name, array in graph.constants.items()}}
    for node in graph.nodes:
        given = [inside[name] if name else None for name in node.inputs]
        results = run_node(node, given, precision)
        inside.update(zip(node.outputs, results, strict=False))
    return [inside[name] for name in graph.outputs]


def _captured(node: Node, inputs: Sequence[Any]) -> tuple[list[Any], dict[str, Any]]:
    """Return a node's own inputs, and what its graphs read from outside."""
    names = node.attributes["captured"]
    own = len(inputs) - len(names)
    return list(inputs[:own]), dict(zip(names, inputs[own:], strict=True))


def _branch(node: Node, inputs: Sequence[Any], precision: np.dtype[Any] | None) -> list[Array]:
    (condition, *_), outside = _captured(node, inputs)
    which = "then_branch" if condition.item() else "else_branch"
    return _inner(node.attributes[which], outside, precision)


def _loop(node: Node, inputs: Sequence[Any], precision: np.dtype[Any] | None) -> list[Array]:
    (most, condition, *carried), outside = _captured(node, inputs)
    body: Graph = node.attributes["body"]
    names = list(body.inputs)
    going = condition is None or bool(condition.item())
    scanned: list[list[Array]] = [[] for _ in body.outputs[1 + len(carried) :]]
    turn = 0
    while going and (most is None or turn < most.item()):
        given = dict(zip(names, (np.array(turn), np.array(going), *carried), strict=True))
        go, *results = _inner(body, {**outside, **given}, precision)
        going, turn = bool(go.item()), turn + 1
        carried = results[: len(carried)]
        for rows, row in zip(scanned, results[len(carried) :], strict=True):
            rows.append(row)
    return [*carried, *(np.stack(rows) if rows else np.zeros(0) for rows in scanned)]
