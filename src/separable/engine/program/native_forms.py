"""Operations without native steps, written in those that have them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from ..._base.types import Array
from ..graph.ir import Graph, Node, TensorType, free
from ..graph.shapes.operands import broadcast
from ..recorded.arrays import whole_numbers

__all__ = ["FORMS", "in_native_form"]

_Form = Callable[["_Rewrite", Node], bool]

_APPLIED: Final = ("activation", "low", "high")
_FLOAT: Final = np.dtype(np.float32)


def in_native_form(graph: Graph) -> Graph:
    """Return a static graph in which norms and other compounds are arithmetic.

    Parameters
    ----------
    graph : Graph
        Static and simplified: no pass recognises what is taken apart here.

    Returns
    -------
    Graph
        The very one given where there is nothing to do.
    """
    rewrite = _Rewrite(graph)
    changed = False
    for node in graph.nodes:
        form = FORMS.get(node.op)
        if form is None or graph.types[node.outputs[0]].dtype != _FLOAT or not form(rewrite, node):
            rewrite.nodes.append(node)
        else:
            changed = True
    if not changed:
        return graph
    return graph.with_(nodes=tuple(rewrite.nodes), constants=rewrite.constants, types=rewrite.types)


class _Rewrite:
    """A graph that is being written anew: nodes are appended, each with the type of what it makes."""

    def __init__(self, graph: Graph) -> None:
        self.nodes: list[Node] = []
        self.constants = dict(graph.constants)
        self.types = dict(graph.types)
        self._graph = graph
        self._taken: set[str] = set()

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor."""
        if name in self.constants:
            return self.constants[name].shape
        return self.types[name].shape  # type: ignore[return-value]  # numbers all

    def number(self, value: Any, near: str) -> str:
        """Return the name of a new constant of float32."""
        return self._constant(np.asarray(value, np.float32), near)

    def integers(self, values: Sequence[int], near: str) -> str:
        """Return the name of a new constant of whole numbers."""
        return self._constant(whole_numbers(*values), near)

    def _constant(self, array: Array, near: str) -> str:
        name = self._name(f"{near}/constant")
        self.constants[name] = array
        self.types[name] = TensorType(array.dtype, array.shape)
        return name

    def _name(self, wanted: str) -> str:
        if not self._taken:  # few graphs ask for new names
            self._taken = set(self._graph.names())
        name = free(wanted, self._taken)
        self._taken.add(name)
        return name

    def add(
        self, op: str, inputs: Sequence[str], shape: tuple[int, ...], near: str, **attributes: Any
    ) -> str:
        """Append a node; return the name of what it makes."""
        name = self._name(f"{near}/{op.lower()}")
        self.nodes.append(Node(op, tuple(inputs), (name,), attributes))
        self.types[name] = TensorType(_FLOAT, shape)
        return name

    def pair(self, op: str, a: str, b: str, near: str) -> str:
        """Append an operation on two tensors with broadcasting."""
        one, other = self.shape(a), self.shape(b)
        shape = one if other in ((), one[-1:], one) else broadcast((one, other))
        return self.add(op, (a, b), shape, near)  # type: ignore[arg-type]  # numbers all

    def one(self, op: str, x: str, near: str, **attributes: Any) -> str:
        """Append an operation on each element."""
        return self.add(op, (x,), self.shape(x), near, **attributes)

    def finish(self, node: Node) -> bool:
        """Let the last node make what `node` makes; the activation goes to the last arithmetic."""
        own = {name: node.attributes[name] for name in _APPLIED if name in node.attributes}
        place = len(self.nodes) - 1
        last = self.nodes[place]
        self.nodes[place] = last.with_(outputs=node.outputs[:1])
        if "activation" in own:
            while self.nodes[place].op == "Reshape":
                place -= 1
            self.nodes[place] = self.nodes[place].and_attributes(**own)
        return True


# -- norms -------------------------------------------------------------------------------------------


def _mean(rewrite: _Rewrite, x: str, axes: tuple[int, ...], near: str) -> str:
    shape = rewrite.shape(x)
    kept = tuple(1 if axis in axes else length for axis, length in enumerate(shape))
    if len(shape) in (3, 4, 5) and axes == tuple(range(2, len(shape))):
        return rewrite.add("GlobalAveragePool", (x,), kept, near)
    return rewrite.add("ReduceMean", (x, rewrite.integers(axes, near)), kept, near, keepdims=1)


def _normalised(rewrite: _Rewrite, x: str, axes: tuple[int, ...], epsilon: float, near: str) -> str:
    """Append (x - mean) / sqrt(variance + epsilon) over some axes."""
    centred = rewrite.pair("Sub", x, _mean(rewrite, x, axes, near), near)
    variance = _mean(rewrite, rewrite.pair("Mul", centred, centred, near), axes, near)
    small = rewrite.pair("Add", variance, rewrite.number(epsilon, near), near)
    return rewrite.pair("Div", centred, rewrite.one("Sqrt", small, near), near)


def _channels(rewrite: _Rewrite, name: str, rank: int, near: str) -> str:
    """Return numbers of channels with as many axes as what they scale."""
    return rewrite.number(rewrite.constants[name].reshape(1, -1, *(1 for _ in range(rank - 2))), near)


def _instance_norm(rewrite: _Rewrite, node: Node) -> bool:
    x, *others = node.inputs
    rank, out = len(rewrite.shape(x)), node.outputs[0]
    if rank < 3 or not rewrite.constants.keys() >= set(others):
        return False
    gain, shift = (_channels(rewrite, name, rank, out) for name in others)
    y = _normalised(rewrite, x, tuple(range(2, rank)), float(node.attributes.get("epsilon", 1e-5)), out)
    rewrite.pair("Add", rewrite.pair("Mul", y, gain, out), shift, out)
    return rewrite.finish(node)


def _group_norm(rewrite: _Rewrite, node: Node) -> bool:
    x, *others = node.inputs
    shape, out, groups = rewrite.shape(x), node.outputs[0], int(node.attributes["num_groups"])
    if not rewrite.constants.keys() >= set(others) or node.attributes.get("stash_type", 1) != 1:
        return False
    gain, shift = (_channels(rewrite, name, len(shape), out) for name in others)
    flat = (shape[0], groups, math.prod(shape[1:]) // groups)
    grouped = rewrite.add("Reshape", (x, rewrite.integers(flat, out)), flat, out)
    y = _normalised(rewrite, grouped, (2,), float(node.attributes.get("epsilon", 1e-5)), out)
    y = rewrite.add("Reshape", (y, rewrite.integers(shape, out)), shape, out)
    rewrite.pair("Add", rewrite.pair("Mul", y, gain, out), shift, out)
    return rewrite.finish(node)


def _layer_norm(rewrite: _Rewrite, node: Node) -> bool:
    x, gain, *bias = node.inputs
    rank, out = len(rewrite.shape(x)), node.outputs[0]
    if len([name for name in node.outputs if name]) > 1 or node.attributes.get("stash_type", 1) != 1:
        return False
    first = int(node.attributes.get("axis", -1)) % rank
    y = _normalised(rewrite, x, tuple(range(first, rank)), float(node.attributes.get("epsilon", 1e-5)), out)
    y = rewrite.pair("Mul", y, gain, out)
    if bias and bias[0]:
        rewrite.pair("Add", y, bias[0], out)
    return rewrite.finish(node)


def _mean_variance(rewrite: _Rewrite, node: Node) -> bool:
    rank = len(rewrite.shape(node.inputs[0]))
    axes = tuple(sorted(int(axis) % rank for axis in node.attributes.get("axes", (0, 2, 3))))
    _normalised(rewrite, node.inputs[0], axes, 1e-9, node.outputs[0])
    return rewrite.finish(node)


def _across_channels(rewrite: _Rewrite, node: Node) -> bool:
    """Write LRN: squares are summed over neighbouring channels by a pointwise convolution of ones."""
    x, out, written = node.inputs[0], node.outputs[0], node.attributes
    shape, size = rewrite.shape(x), int(written["size"])
    if len(shape) not in (3, 4):
        return False
    alpha, beta = float(written.get("alpha", 1e-4)), float(written.get("beta", 0.75))
    channel = np.arange(shape[1])
    apart = channel[None, :] - channel[:, None]  # of what is read from what is made
    near = (apart >= -((size - 1) // 2)) & (apart <= size // 2)
    ones, axes = (1,) * (len(shape) - 2), len(shape) - 2
    weights = rewrite.number((near * (alpha / size)).reshape(*near.shape, *ones), out)
    bias = rewrite.number(np.full(shape[1], float(written.get("bias", 1.0))), out)
    squares = rewrite.pair("Mul", x, x, out)
    total = rewrite.add(
        "Conv",
        (squares, weights, bias),
        shape,
        out,
        kernel_shape=ones,
        strides=ones,
        dilations=ones,
        pads=(0,) * (2 * axes),
        group=1,
    )
    rewrite.pair("Div", x, rewrite.pair("Pow", total, rewrite.number(beta, out), out), out)
    return rewrite.finish(node)


# -- convolutions ------------------------------------------------------------------------------------


def _upright(rewrite: _Rewrite, node: Node) -> bool:
    """Write a convolution of columns one pixel wide as one of rows: pixels are neighbours there."""
    x, weights, out, written = node.inputs[0], node.inputs[1], node.outputs[0], node.attributes
    if x in rewrite.types and rewrite.types[x].shape[-1] != 1:
        return False
    shape, made = rewrite.shape(x), rewrite.shape(out)
    alone = len([name for name in (*node.inputs[3:], *node.outputs[1:]) if name]) == 0
    if len(shape) != 4 or weights not in rewrite.constants or not alone or shape[2] == 1:
        return False
    high, wide = written["kernel_shape"]
    if shape[3] != 1 or made[3] != 1 or wide != 1 or any(written["pads"][1::2]):
        return False
    kernel = rewrite.constants[weights]
    turned = rewrite.number(kernel.reshape(*kernel.shape[:2], 1, high), out)
    row = (*shape[:2], 1, shape[2])
    x = rewrite.add("Reshape", (x, rewrite.integers(row, out)), row, out)
    low, before, end, behind = written["pads"]
    attributes = {
        **{name: tuple(written[name])[::-1] for name in ("kernel_shape", "strides", "dilations")},
        **{name: written[name] for name in (*_APPLIED, "alpha", "group", "operands") if name in written},
        "pads": (before, low, behind, end),
    }
    line = (*made[:2], 1, made[2])
    y = rewrite.add("Conv", (x, turned, *node.inputs[2:3]), line, out, **attributes)
    rewrite.add("Reshape", (y, rewrite.integers(made, out)), made, out)
    rewrite.nodes[-1] = rewrite.nodes[-1].with_(outputs=node.outputs)
    return True


# -- elementwise -------------------------------------------------------------------------------------


def _many(op: str) -> _Form:
    def form(rewrite: _Rewrite, node: Node) -> bool:
        out, names = node.outputs[0], node.inputs
        if len(names) == 2 and op == node.op:
            return False
        total = names[0]
        for name in names[1:]:
            total = rewrite.pair(op, total, name, out)
        if node.op == "Mean":
            total = rewrite.pair("Mul", total, rewrite.number(1 / len(names), out), out)
        elif len(names) == 1:
            total = rewrite.one("Identity", total, out)
        return rewrite.finish(node)

    return form


def _celu(rewrite: _Rewrite, node: Node) -> bool:
    out, alpha = node.outputs[0], float(node.attributes.get("alpha", 1.0))
    inner = rewrite.pair("Mul", node.inputs[0], rewrite.number(1 / alpha, out), out)
    rewrite.pair("Mul", rewrite.one("Elu", inner, out, alpha=1.0), rewrite.number(alpha, out), out)
    return rewrite.finish(node)


def _swish(rewrite: _Rewrite, node: Node) -> bool:
    x, out, alpha = node.inputs[0], node.outputs[0], float(node.attributes.get("alpha", 1.0))
    if alpha == 1.0:
        return False
    gate = rewrite.one("Sigmoid", rewrite.pair("Mul", x, rewrite.number(alpha, out), out), out)
    rewrite.pair("Mul", x, gate, out)
    return rewrite.finish(node)


def _clip(rewrite: _Rewrite, node: Node) -> bool:
    """Write a Clip between bounds that are computed."""
    ends = [*node.inputs[1:], "", ""][:2]
    if all(not name or name in rewrite.constants for name in ends):
        return False
    x, out = node.inputs[0], node.outputs[0]
    for op, name in zip(("Max", "Min"), ends, strict=True):
        if name:
            x = rewrite.pair(op, x, name, out)
    return rewrite.finish(node)


# -- reductions, products, copies --------------------------------------------------------------------


def _log_of(op: str, exponential: bool) -> _Form:
    """Write the logarithm of a sum; that of exponentials from their largest on, which none overflows."""

    def form(rewrite: _Rewrite, node: Node) -> bool:
        x, out, written = node.inputs[0], node.outputs[0], dict(node.attributes)
        others, shape = node.inputs[1:], rewrite.shape(node.outputs[0])
        if not exponential:
            rewrite.one("Log", rewrite.add(op, (x, *others), shape, out, **written), out)
            return rewrite.finish(node)
        if len(others) != 1 or others[0] not in rewrite.constants:
            return False
        rank = len(rewrite.shape(x))
        axes = {int(axis) % rank for axis in rewrite.constants[others[0]].ravel()}
        kept = tuple(1 if axis in axes else n for axis, n in enumerate(rewrite.shape(x)))
        if not axes or math.prod(kept) != math.prod(shape):
            return False
        largest = rewrite.add("ReduceMax", (x, *others), kept, out, keepdims=1)
        powers = rewrite.one("Exp", rewrite.pair("Sub", x, largest, out), out)
        total = rewrite.add("ReduceSum", (powers, *others), kept, out, keepdims=1)
        y = rewrite.pair("Add", rewrite.one("Log", total, out), largest, out)
        rewrite.add("Reshape", (y, rewrite.integers(shape, out)), shape, out)
        return rewrite.finish(node)

    return form


def _matmul(rewrite: _Rewrite, node: Node) -> bool:
    """Write a product with a vector as one of matrices."""
    names, out = list(node.inputs[:2]), node.outputs[0]
    shapes = [rewrite.shape(name) for name in names]
    if min(map(len, shapes)) > 1:
        return False
    wide = [shapes[0] if len(shapes[0]) > 1 else (1, *shapes[0])]
    wide.append(shapes[1] if len(shapes[1]) > 1 else (*shapes[1], 1))
    for place, (name, shape) in enumerate(zip(names, wide, strict=True)):
        if rewrite.shape(name) != shape:
            names[place] = rewrite.add("Reshape", (name, rewrite.integers(shape, out)), shape, out)
    batch: Any = broadcast((wide[0][:-2], wide[1][:-2]))
    y = rewrite.add("MatMul", names, (*batch, wide[0][-2], wide[1][-1]), out)
    rewrite.add("Reshape", (y, rewrite.integers(rewrite.shape(out), out)), rewrite.shape(out), out)
    return rewrite.finish(node)


def _gemm(rewrite: _Rewrite, node: Node) -> bool:
    """Write a product of matrices that are not weights and a bias of columns as MatMul, Mul and Add."""
    (a, b, *bias), out, written = node.inputs, node.outputs[0], node.attributes
    columns = rewrite.shape(out)[-1]
    c = bias[0] if bias else ""
    plain = not c or (
        c in rewrite.constants and rewrite.constants[c].shape in ((columns,), (1, columns), (1,), ())
    )
    if b in rewrite.constants and plain and not written.get("transA"):
        return False
    names = [a, b]
    for place, which in enumerate(("transA", "transB")):
        if written.get(which):
            turned = rewrite.shape(names[place])[::-1]
            names[place] = rewrite.add("Transpose", (names[place],), turned, out, perm=(1, 0))
    y = rewrite.add("MatMul", names, rewrite.shape(out), out)
    if float(written.get("alpha", 1.0)) != 1.0:
        y = rewrite.pair("Mul", y, rewrite.number(float(written["alpha"]), out), out)
    if c:
        if float(written.get("beta", 1.0)) != 1.0:
            c = rewrite.pair("Mul", c, rewrite.number(float(written["beta"]), out), out)
        rewrite.pair("Add", y, c, out)
    return rewrite.finish(node)


def _tile(rewrite: _Rewrite, node: Node) -> bool:
    """Write a Tile as copies along axes of their own."""
    x, repeats, out = *node.inputs, node.outputs[0]
    if repeats not in rewrite.constants:
        return False
    shape, counts = rewrite.shape(x), [int(n) for n in rewrite.constants[repeats]]
    apart = tuple(length for n in shape for length in (1, n))
    wide = tuple(length for n, count in zip(shape, counts, strict=True) for length in (count, n))
    y = rewrite.add("Reshape", (x, rewrite.integers(apart, out)), apart, out)
    y = rewrite.add("Expand", (y, rewrite.integers(wide, out)), wide, out)
    rewrite.add("Reshape", (y, rewrite.integers(rewrite.shape(out), out)), rewrite.shape(out), out)
    return rewrite.finish(node)


# What is rewritten, by ONNX's name. A form appends nodes, or returns False where there is nothing to do.
FORMS: Final[Mapping[str, _Form]] = {
    "Conv": _upright,
    "InstanceNormalization": _instance_norm,
    "GroupNormalization": _group_norm,
    "LayerNormalization": _layer_norm,
    "MeanVarianceNormalization": _mean_variance,
    "LRN": _across_channels,
    "Sum": _many("Add"),
    "Mean": _many("Add"),
    "Min": _many("Min"),
    "Max": _many("Max"),
    "Celu": _celu,
    "Swish": _swish,
    "Clip": _clip,
    "ReduceLogSum": _log_of("ReduceSum", exponential=False),
    "ReduceLogSumExp": _log_of("ReduceSum", exponential=True),
    "MatMul": _matmul,
    "Gemm": _gemm,
    "Tile": _tile,
}
