"""Activations: recognised in the arithmetic that exporters write, and applied where a result is stored."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from ..graph.ir import Graph, Node
from .draft import Draft
from .known import activation_of, is_bare, real_constant, scalar
from .patterns import Polynomial, chain, close, factors, is_sixth, polynomial, slope_and_offset

__all__ = ["activations_applied", "activations_recognised"]

# A node of ONNX: its name and its attributes.
_Found = tuple[str, dict[str, Any]]


def activations_recognised(graph: Graph) -> Graph:
    """Write each activation as one node, by the name that ONNX has for it.

    Swish, HardSwish, HardSigmoid, Gelu (by erf and by tanh) and Mish in all orders of their operands and
    constants; Relu and Clip from Min, Max and each other; LeakyRelu from a PRelu of one slope. What lies
    inside a pattern is read by nothing else.
    """
    draft = Draft.of(graph)
    for node in draft:
        if not is_bare(node):
            continue
        if node.op in ("Mul", "Div"):
            better = _product(draft, node)
        elif node.op in ("Clip", "Max", "Min", "Relu"):
            better = _clip(draft, node) or _gate_alone(draft, node)
        elif node.op == "PRelu":
            better = _leaky(draft, node)
        else:
            continue
        if better is not None:
            draft.replace(node, better)
            draft.drop(draft.unread(node.inputs))
    return draft.finished()


def activations_applied(graph: Graph) -> Graph:
    """Let the node that makes a tensor apply the activation that alone reads it.

    Conv, ConvTranspose, Gemm, MatMul, Add, Mul and BatchNormalization do, with an attribute `activation`. A
    minimum, maximum, slope or NaN stays what ONNX says of it.
    """
    draft = Draft.of(graph)
    for node in draft:
        found = _attribute(draft, node) if is_bare(node) else None
        host = None if found is None else draft.maker(node.inputs[0])
        if found is None or host is None or draft.only_reader(node.inputs[0]) is not node:
            continue
        if not _takes(draft, host, found):
            continue
        before = {"add": "before"} if host.op == "Conv" and len(host.inputs) > 3 and host.inputs[3] else {}
        draft.replace(node)
        draft.replace(host, host.with_(outputs=node.outputs).and_attributes(**found, **before))
    return draft.finished()


_HOSTS: Final = frozenset({"Add", "BatchNormalization", "Conv", "ConvTranspose", "Gemm", "MatMul", "Mul"})


def _takes(draft: Draft, host: Node, found: dict[str, Any]) -> bool:
    """Return whether a node may apply an activation: it applies none yet; only convolutions know slopes."""
    kind = draft.type_of(host.outputs[0])
    real = kind is None or np.issubdtype(kind.dtype, np.floating)
    plain = len(host.outputs) == 1 and activation_of(host) == "none"
    # A Gemm has an `alpha` of its own.
    told = "alpha" not in found or host.op in ("Conv", "ConvTranspose")
    return host.op in _HOSTS and real and plain and told


def _attribute(draft: Draft, node: Node) -> dict[str, Any] | None:
    """Return an activation as the attributes that tell it; None for what is none, or has no name there."""
    attributes = node.attributes
    if node.op in _NAMES:
        return {"activation": _NAMES[node.op]}
    if node.op == "Clip":
        bounds = _bounds(draft, node)
        if bounds is None or not bounds[0] <= bounds[1]:
            return None
        if bounds in ((0.0, 6.0), (0.0, math.inf)):
            return {"activation": "relu6" if bounds[1] == 6 else "relu"}
        return {"activation": "clip", "low": bounds[0], "high": bounds[1]}
    if node.op == "Swish" and attributes.get("alpha", 1.0) == 1.0:
        return {"activation": "silu"}
    if node.op == "Gelu":
        return {"activation": "gelu_tanh" if attributes.get("approximate", "none") == "tanh" else "gelu"}
    if node.op == "LeakyRelu":
        return {"activation": "leaky_relu", "alpha": float(attributes.get("alpha", 0.01))}
    if node.op == "HardSigmoid" and is_sixth(*slope_and_offset(node)):
        return {"activation": "hard_sigmoid"}
    return None


_NAMES: Final = {"HardSwish": "hard_swish", "Relu": "relu", "Sigmoid": "sigmoid"}


def _bounds(draft: Draft, node: Node) -> tuple[float, float] | None:
    """Return the constants between which a Clip, Relu, Min or Max keeps its first operand."""
    if node.op == "Relu":
        return 0.0, math.inf
    found = [-math.inf, math.inf]
    first = 1 if node.op in ("Clip", "Max") else 2
    names = node.inputs[1:] if node.op == "Clip" else ("",) * (first - 1) + node.inputs[1:2]
    for place, name in enumerate(names):
        value = scalar(draft, name, node.inputs[0]) if name else found[place]
        if value is None or math.isnan(value):
            return None
        found[place] = value
    return found[0], found[1]


def _clip(draft: Draft, node: Node) -> Node | None:
    """Return Min, Max, Relu and Clip, one or two of them in sequence, as one Relu or Clip."""
    if node.op in ("Max", "Min"):
        if len(node.inputs) != 2:
            return None
        if draft.constant(node.inputs[0]) is not None:
            node = node.with_(inputs=node.inputs[::-1])
    bounds = _bounds(draft, node)
    if bounds is None or not bounds[0] <= bounds[1] or draft.constant(node.inputs[0]) is not None:
        return None
    x, earlier = node.inputs[0], draft.maker(node.inputs[0])
    if earlier is not None and earlier.op in ("Clip", "Relu") and is_bare(earlier) and draft.only_reader(x):
        inner = _bounds(draft, earlier)
        if inner is not None and inner[0] <= inner[1]:
            x = earlier.inputs[0]
            bounds = (_between(inner[0], *bounds), _between(inner[1], *bounds))
    if bounds == (0.0, math.inf):
        return None if node.op == "Relu" and x == node.inputs[0] else Node("Relu", (x,), node.outputs)
    if node.op == "Clip" and x == node.inputs[0]:
        return None
    kind = draft.type_of(node.outputs[0])
    names = (*node.inputs[1:], *(earlier.inputs[1:] if earlier else ()))
    dtypes = [values.dtype for name in names if (values := real_constant(draft, name)) is not None]
    dtype = (dtypes or [np.dtype(np.float32) if kind is None else kind.dtype])[0]
    ends = [
        draft.add_constant(f"{node.outputs[0]}/{end}", np.array(bound, dtype)) if math.isfinite(bound) else ""
        for end, bound in zip(("low", "high"), bounds, strict=True)
    ]
    return Node("Clip", (x, *ends), node.outputs)


def _between(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)


def _leaky(draft: Draft, node: Node) -> Node | None:
    """Return a PRelu whose slopes are all the same as LeakyRelu."""
    slopes = real_constant(draft, node.inputs[1])
    if slopes is None or not slopes.size or np.any(slopes != slopes.flat[0]):
        return None
    return Node("LeakyRelu", node.inputs[:1], node.outputs, {"alpha": float(slopes.flat[0])})


def _product(draft: Draft, node: Node) -> Node | None:
    """Return the activation that a product is, or None."""
    number, names = factors(draft, node.outputs[0])
    if len(names) == 1:
        return _gate_alone(draft, node)
    if len(names) != 2:
        return None
    for x, gate in (names, reversed(names)):
        maker = draft.maker(gate)
        if x == gate or maker is None or not draft.only_reader(gate) or not is_bare(maker):
            continue
        for match in _MATCHES:
            found = match(draft, x, gate, number)
            if found is not None:
                return Node(found[0], (x,), node.outputs, found[1])
    return None


def _gate_alone(draft: Draft, node: Node) -> Node | None:
    """Return the HardSigmoid that a multiple of a Clip of a line is; a bare Clip of a tensor is none."""
    number, names = factors(draft, node.outputs[0])
    found = _hard_sigmoid(draft, names[0], number, outermost=names[0] == node.outputs[0])
    if found is None or (found[1:] == (1.0, 0.0)):
        return None
    return Node("HardSigmoid", (found[0],), node.outputs, {"alpha": found[1], "beta": found[2]})


def _hard_sigmoid(
    draft: Draft, name: str, number: float, outermost: bool = False
) -> tuple[str, float, float] | None:
    """Return x, alpha and beta for which `number` times a tensor is their HardSigmoid."""
    node = draft.maker(name)
    if node is None or not is_bare(node) or not (outermost or draft.only_reader(name)):
        return None
    if node.op == "HardSigmoid" and close(number, 1.0):
        alpha, beta = slope_and_offset(node)
    elif node.op == "Clip" and number > 0:
        bounds = _bounds(draft, node)
        if bounds is None or bounds[0] != 0 or not close(bounds[1] * number, 1.0):
            return None
        alpha, beta = number, 0.0
    else:
        return None
    x, scale, shift = chain(draft, node.inputs[0])
    return x, alpha * scale, beta + alpha * shift


def _swish(draft: Draft, x: str, gate: str, number: float) -> _Found | None:
    node = draft.maker(gate)
    if node is None or node.op != "Sigmoid" or not close(number, 1.0):
        return None
    line = polynomial(draft, node.inputs[0], x)
    alpha = None if line is None or not _matches(line, {1: line.get(1, 0.0)}) else line.get(1, 0.0)
    return ("Swish", {"alpha": alpha}) if alpha else None


def _hard_swish(draft: Draft, x: str, gate: str, number: float) -> _Found | None:
    found = _hard_sigmoid(draft, gate, number)
    return ("HardSwish", {}) if found is not None and found[0] == x and is_sixth(*found[1:]) else None


def _gelu(draft: Draft, x: str, gate: str, number: float) -> _Found | None:
    curve, scale, shift = chain(draft, gate)
    node = draft.maker(curve)
    if node is None or node.op not in _GELU or not draft.only_reader(curve) or not is_bare(node):
        return None
    inner = polynomial(draft, node.inputs[0], x)
    approximate, wanted = _GELU[node.op]
    halves = close(number * scale, 0.5) and close(number * shift, 0.5)
    if inner is None or not halves or not _matches(inner, wanted):
        return None
    return "Gelu", {"approximate": approximate}


# Hendrycks and Gimpel, arXiv:1606.08415.
_GELU: Final[dict[str, tuple[str, Polynomial]]] = {
    "Erf": ("none", {1: math.sqrt(0.5)}),
    "Tanh": ("tanh", {1: math.sqrt(2 / math.pi), 3: 0.044715 * math.sqrt(2 / math.pi)}),
}


def _mish(draft: Draft, x: str, gate: str, number: float) -> _Found | None:
    node = draft.maker(gate)
    inner = draft.maker(node.inputs[0]) if node is not None and node.op == "Tanh" else None
    if node is None or inner is None or inner.op != "Softplus" or not close(number, 1.0):
        return None
    return ("Mish", {}) if inner.inputs[0] == x and draft.only_reader(node.inputs[0]) else None


_MATCHES: Final[tuple[Callable[[Draft, str, str, float], _Found | None], ...]] = (
    _swish,
    _hard_swish,
    _gelu,
    _mish,
)


def _matches(found: Polynomial, wanted: Polynomial) -> bool:
    """Return whether two polynomials are the same but for roundings."""
    return all(close(found.get(power, 0.0), wanted.get(power, 0.0)) for power in found.keys() | wanted.keys())
