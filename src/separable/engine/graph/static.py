"""A graph for inputs of given lengths: all types known, and what depends on lengths alone computed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, Final

import numpy as np

from ..._base.types import Array
from ...files.guard import human_bytes
from ...onnx.model.names import ModelError
from ...onnx.model.sizes import check_fits
from ..recorded.arrays import TapeArray, of_elements, whole_numbers
from ..recorded.numbers import TapeNumber
from ..recorded.tape import applied
from .ir import Graph, Node, TensorType, free
from .shapes.operands import UnknownError
from .shapes.table import KNOWN, named, output_types, with_attributes
from .shapes.usual import USUAL
from .values import VALUES

__all__ = ["Unknown", "computed", "is_known", "static"]

# Operations without a rule of their own, whose outputs are hardly larger than their inputs, and of a shape
# that no values decide: they are tried on zeros.
_TRIED: Final = frozenset(
    """
    Attention CumProd Det EyeLike GridSample NegativeLogLikelihoodLoss RMSNormalization ReverseSequence
    RotaryEmbedding SoftmaxCrossEntropyLoss SwiGLU
    """.split()  # noqa: SIM905
)

# Of these the types of the inputs say the values.
_OF_TYPES: Final = ("Shape", "Size")
# What is computed here is no larger than what a file of ONNX can hold; and what only the reference computes,
# element by element for some operations, takes no more than a second.
_MOST_FOLDED: Final = 2**31  # bytes, all together
_ANYWHERE: Final = 2**20  # bytes that every machine has
_MOST_BY_REFERENCE: Final = 2**16  # elements

# What is computed of a few numbers at once where it was before: its results are as few, and NumPy checks what
# the rule of the operation would.
_SMALL: Final = frozenset(
    ("Add", "Sub", "Mul", "Div", "Cast", "Gather", "Unsqueeze", "Squeeze", "Concat", "Slice", "Split")
)
_FEW: Final = 64  # numbers
_size: Final = attrgetter("size")

# What does to each number alone what it does to those of an array: moves it, adds to it or multiplies it.
_BY_NUMBER: Final = frozenset(
    ("Add", "Sub", "Mul", "Gather", "Unsqueeze", "Squeeze", "Concat", "Slice", "Identity")
)

_LOOPS: Final = ("Loop", "Scan")
_RANDOM: Final = ("Dropout",)


# Returns the types of what an operation makes that is not known here, from the types of its inputs, and the
# values of the constants among them.
Unknown = Callable[[Node, Sequence["TensorType | None"], Sequence["Array | None"]], "tuple[TensorType, ...]"]


def is_known(op: str) -> bool:
    """Return whether the types of what an operation makes are known here, once its inputs are."""
    return op in KNOWN or op in _TRIED or op == "If"


def static(
    graph: Graph, shapes: Mapping[str, tuple[int, ...]] | None = None, unknown: Unknown | None = None
) -> Graph:
    """Return a graph whose shapes are all known.

    Parameters
    ----------
    graph : Graph
    shapes : mapping of str to tuple of int, optional
        Shapes of inputs; those whose lengths are all numbers need none.
    unknown : callable, optional
        Tells the types of what operations make that are not known here, loops included: by default they are
        an error. It takes a node, the types of its inputs, and the values of those that are constant.

    Returns
    -------
    Graph
        What depends on constants and shapes alone is a constant, and what nobody reads is gone. An If whose
        condition is constant is its branch. The inputs are those of `graph`, in its order.

    Raises
    ------
    ModelError
        If a shape does not match an input, a node does not take what it is given, the shape of a tensor
        depends on what is computed when the model runs, or a constant would not fit into memory.
    """
    needed, kinds = _kept(graph)
    types = {**_with_lengths(graph, shapes or {}), **kinds}
    known = _StaticGraph(dict(graph.constants), types, names=graph.names, unknown=unknown)
    with np.errstate(all="ignore"):
        for node in needed:
            known.add(node)
    return known.graph(graph)


def _with_lengths(graph: Graph, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, TensorType]:
    unknown = [name for name in shapes if name not in graph.inputs]
    if unknown:
        raise ModelError(
            f"it has no input `{unknown[0]}`; expected {', '.join(f'`{name}`' for name in graph.inputs)}."
        )
    named_lengths: dict[str, tuple[int, str]] = {}
    types = {}
    for name, declared in graph.inputs.items():
        shape = tuple(map(_number, shapes[name])) if name in shapes else declared.shape
        fits = len(shape) == len(declared.shape) and all(
            isinstance(want, str) or want == got for want, got in zip(declared.shape, shape, strict=True)
        )
        if not fits:
            raise ModelError(f"input `{name}` has shape {declared.shape}; got {shape}.")
        for want, got in zip(declared.shape, shape, strict=True):
            if isinstance(got, str):
                raise ModelError(f"input `{name}` has the open length `{got}`; give its shape.")
            if got < 0:
                raise ModelError(f"input `{name}` has a negative length: {shape}.")
            if isinstance(want, str):
                first, where = named_lengths.setdefault(want, (got, name))
                if first != got:
                    raise ModelError(f"length `{want}` is {first} in `{where}` and {got} in `{name}`.")
        types[name] = TensorType(declared.dtype, shape)
    return types


def _number(length: Any) -> Any:
    return length if type(length) is TapeNumber else int(length)


def _kept(graph: Graph) -> tuple[list[Node], Mapping[str, TensorType]]:
    """Return the nodes that the outputs depend on, and the types of the constants: found once for a graph."""
    if "static" not in graph.notes:
        graph.notes["static"] = _read(graph.nodes, graph.outputs), _kinds(graph.constants)
    kept: tuple[list[Node], Mapping[str, TensorType]] = graph.notes["static"]
    return kept


def _kinds(constants: Mapping[str, Array]) -> Mapping[str, TensorType]:
    return {name: TensorType(array.dtype, array.shape) for name, array in constants.items()}


def _read(nodes: Sequence[Node], outputs: Iterable[str]) -> list[Node]:
    """Return the nodes that some tensors depend on."""
    wanted = set(outputs)
    kept = []
    for node in reversed(nodes):
        if not wanted.isdisjoint(node.outputs):
            kept.append(node)
            wanted.update(node.inputs)
    return kept[::-1]


@dataclass
class _StaticGraph:
    """What is known of a graph, node by node."""

    constants: dict[str, Array]
    types: dict[str, TensorType]
    nodes: list[Node] = field(default_factory=list)
    same: dict[str, str] = field(default_factory=dict)
    names: Callable[[], Iterable[str]] = tuple  # of the graph itself
    folded: int = 0  # bytes of the constants made here
    unknown: Unknown | None = None
    _names: frozenset[str] | None = None

    def add(self, node: Node) -> None:
        """Add a node, or what it comes to."""
        if self.same and not self.same.keys().isdisjoint(node.inputs):
            node = node.with_(inputs=tuple(self.same.get(name, name) for name in node.inputs))
        values = [self.constants.get(name) for name in node.inputs]
        given = [self.types.get(name) for name in node.inputs]
        if self._is_usual(node, given, values):
            return
        if node.op == "If":
            self._add_if(node, values[0])
            return
        if not all(given):  # absent, or made by nobody
            for name, kind in zip(node.inputs, given, strict=True):
                if name and kind is None:
                    raise ModelError(f"{named(node)} reads `{name}`, which nothing makes.")
        if self.unknown is not None and not is_known(node.op):
            found = self.unknown(node, given, values)
            self.types.update(pair for pair in zip(node.outputs, found, strict=True) if pair[0])
            self.nodes.append(node)
            return
        if node.op in _LOOPS:
            raise ModelError(f"{named(node)}: loops are not known here; export the model without them.")
        if node.op not in KNOWN:
            found = self._tried(node, given)
        else:
            node = with_attributes(node, given, values)
            if "beyond" in node.attributes:
                node = self._padded(node)
                given, values = [self.types[node.inputs[0]]], [self.constants.get(node.inputs[0])]
            found = self._inferred(node, given, values)
            if self._is_constant(node, values) and _is_quick(node, given, found):
                self._fold(node, values, found)
                return
        self._keep(node, found)

    def _is_usual(
        self, node: Node, given: Sequence[TensorType | None], values: Sequence[Array | None]
    ) -> bool:
        """Add a node of which nothing has to be looked up, if it is one; return whether it is."""
        if node.op in USUAL and values and values[0] is None:  # nothing to fold
            if None in given and any(node.inputs[n] for n, kind in enumerate(given) if kind is None):
                return False
            made = USUAL[node.op](node, given)
            if made is not None:
                self._keep(node, made)
            return made is not None
        first = given[0] if given else None
        if node.op == "Shape" and not node.attributes and first is not None and node.outputs[0]:
            lengths = whole_numbers(*first.shape)
            self.constants[node.outputs[0]] = lengths
            self.types[node.outputs[0]] = TensorType(lengths.dtype, lengths.shape)
            return True
        folded = node.notes.get("folded")
        if folded is None:
            return False
        known = [array for array in values if array is not None]
        if len(known) != len(values) or sum(map(_size, known)) > _FEW:
            return False
        if folded[0] != [array.dtype for array in known]:
            return False
        results = _values(node, values)
        if [array.dtype for array in results] != folded[1]:
            return False
        for name, array in zip(node.outputs, results, strict=True):
            self.constants[name], self.types[name] = array, TensorType(array.dtype, array.shape)
        return True

    def _keep(self, node: Node, made: Sequence[TensorType]) -> None:
        for name, kind in zip(node.outputs, made, strict=True):
            if name:
                self.types[name] = kind
        self.nodes.append(node)

    def _inferred(
        self, node: Node, given: Sequence[TensorType | None], values: Sequence[Array | None]
    ) -> tuple[TensorType, ...]:
        try:
            found = output_types(node, given, values)
        except UnknownError as error:
            raise ModelError(
                f"{named(node)} has no shape before the model runs: {error}. Export the model with fixed "
                "lengths."
            ) from error
        for kind in found:
            if any(length < 0 for length in _lengths(kind)):
                raise ModelError(f"{named(node)} would have shape {kind.shape}.")
        return found

    def _tried(self, node: Node, given: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """Return the types of what an operation without a rule of its own makes of zeros."""
        if node.op not in _TRIED:
            raise ModelError(f"{named(node)}: this operation is not known here.")
        from .reference import run_node

        for name, kind in zip(node.inputs, given, strict=True):
            if kind is not None:
                check_fits(f"tensor `{name}`", _lengths(kind), _bytes(kind))
        zeros = [None if kind is None else np.zeros(_lengths(kind), kind.dtype) for kind in given]
        inputs = [
            zero if self.constants.get(name) is None else self.constants[name]
            for name, zero in zip(node.inputs, zeros, strict=True)
        ]
        return tuple(TensorType(array.dtype, array.shape) for array in run_node(node, inputs))

    @staticmethod
    def _is_constant(node: Node, values: Sequence[Array | None]) -> bool:
        if node.op in _OF_TYPES:
            return True
        if node.op in _RANDOM:
            return False
        return not any(value is None and name for name, value in zip(node.inputs, values, strict=True))

    def _fold(self, node: Node, values: list[Array | None], types: tuple[TensorType, ...]) -> None:
        if node.op in _OF_TYPES:
            shape: Any = self.types[node.inputs[0]].shape
            if node.op == "Shape":
                shape = shape[node.attributes.get("start", 0) : node.attributes.get("end")]
            lengths = whole_numbers(*shape)
            results = [lengths if node.op == "Shape" else applied(_product, lengths)]
        else:
            self.folded += sum(map(_bytes, types))
            if self.folded > _ANYWHERE:
                check_fits(f"tensor `{node.outputs[0]}`", _lengths(types[0]), self.folded)
            if self.folded > _MOST_FOLDED:
                raise ModelError(
                    f"tensor `{node.outputs[0]}` of shape {types[0].shape} would make constants of "
                    f"{human_bytes(self.folded)}; expected at most {human_bytes(_MOST_FOLDED)}."
                )
            results = computed(node, values)
        for name, array, kind in zip(node.outputs, results, types, strict=False):
            if not name:
                continue
            if array.shape != kind.shape or array.dtype != kind.dtype:
                raise ModelError(
                    f"{named(node)} comes to {TensorType(array.dtype, array.shape)}; expected {kind}."
                )
            self.constants[name], self.types[name] = array, kind
        if node.op in _SMALL and all(node.outputs) and "activation" not in node.attributes:
            read = [None if array is None else array.dtype for array in values]
            node.notes["folded"] = read, [array.dtype for array in results]

    def _padded(self, node: Node) -> Node:
        """Return an average that counts its own padding, but not what `ceil_mode` adds, after a Pad."""
        rank = len(node.attributes["kernel_shape"])
        own, beyond = node.attributes["pads"], node.attributes["beyond"]
        pads, padded = (free(f"{node.outputs[0]}.{what}", self._taken()) for what in ("pads", "padded"))
        self.constants[pads] = np.array([0, 0, *own[:rank], 0, 0, *own[rank:]], np.int64)
        self.types[pads] = TensorType(np.dtype(np.int64), (2 * rank + 4,))
        self.add(Node("Pad", (node.inputs[0], pads), (padded,)))
        dropped = ("beyond", "ceil_mode", "count_include_pad")
        written = {name: value for name, value in node.attributes.items() if name not in dropped}
        more = tuple(there - here for there, here in zip(beyond, own, strict=True))
        return node.with_(inputs=(padded,), attributes={**written, "pads": more})

    # -- If ------------------------------------------------------------------------------------------

    def _add_if(self, node: Node, condition: Array | None) -> None:
        if condition is not None:
            if condition.size != 1:
                raise ModelError(f"{named(node)} has a condition of shape {condition.shape}; expected one.")
            self._splice(node, node.attributes["then_branch" if condition.item() else "else_branch"])
            return
        branches = {name: self._branch(node, name) for name in ("then_branch", "else_branch")}
        found = [[branch.types[name] for name in branch.outputs] for branch in branches.values()]
        if found[0] != found[1] or len(found[0]) != len(node.outputs):
            raise ModelError(
                f"{named(node)} has branches of different shapes, and its condition is computed when the "
                f"model runs: {[kind.shape for kind in found[0]]} and {[kind.shape for kind in found[1]]}."
            )
        self.types.update(zip(node.outputs, found[0], strict=True))
        self.nodes.append(node.and_attributes(**branches))

    def _branch(self, node: Node, which: str) -> Graph:
        """Return a branch as a static graph of its own; what it captures stays captured."""
        branch: Graph = node.attributes[which]
        captured = node.attributes["captured"]
        outside = dict(zip(captured, node.inputs[len(node.inputs) - len(captured) :], strict=True))
        values = {name: self.constants[far] for name, far in outside.items() if far in self.constants}
        types = {name: self.types[far] for name, far in outside.items()}
        names = (*branch.names(), *outside)
        held = {**values, **branch.constants}
        types |= _kinds(held)
        inner = _StaticGraph(held, types, names=lambda: names, unknown=self.unknown)
        for needed in _read(branch.nodes, branch.outputs):
            inner.add(needed)
        return inner.graph(branch)

    def _splice(self, node: Node, branch: Graph) -> None:
        """Add the nodes of a branch in place of the If that holds it."""
        captured: tuple[str, ...] = node.attributes["captured"]
        names = dict(zip(captured, node.inputs[len(node.inputs) - len(captured) :], strict=True))
        if len(branch.outputs) != len(node.outputs):
            raise ModelError(f"{named(node)} has a branch of {len(branch.outputs)} outputs.")
        for name in branch.names():
            names[name] = free(f"{node.outputs[0]}.{name}", self._taken())
        for name, array in branch.constants.items():
            self.constants[names[name]] = array
            self.types[names[name]] = TensorType(array.dtype, array.shape)
        for inner in _read(branch.nodes, branch.outputs):
            self.add(
                inner.with_(
                    inputs=tuple(names.get(name, name) for name in inner.inputs),
                    outputs=tuple(names.get(name, name) for name in inner.outputs),
                )
            )
        for output, name in zip(node.outputs, branch.outputs, strict=True):
            source = names.get(name, name)
            self.same[output] = self.same.get(source, source)

    def _taken(self) -> frozenset[str]:
        """Return the names of the graph itself; few graphs are asked for them."""
        if self._names is None:
            self._names = frozenset(self.names())
        return self._names

    # -- out -----------------------------------------------------------------------------------------

    def graph(self, graph: Graph) -> Graph:
        """Return what is left of a graph."""
        for output in graph.outputs:
            source = self.same.get(output)
            if source is None:
                continue
            if source in self.constants:
                self.constants[output] = self.constants[source]
            else:
                self.nodes.append(Node("Identity", (source,), (output,)))
            self.types[output] = self.types[source]
        nodes = _read(self.nodes, graph.outputs)
        read = {*graph.outputs, *(name for node in nodes for name in node.inputs)}
        constants = {name: array for name, array in self.constants.items() if name in read}
        inputs = {name: self.types[name] for name in graph.inputs}
        made = {name for node in nodes for name in node.outputs}
        types = {
            name: kind
            for name, kind in self.types.items()
            if name in inputs or name in constants or name in made or name in read
        }
        return graph.with_(inputs=inputs, nodes=tuple(nodes), constants=constants, types=types)


def _is_quick(node: Node, given: Sequence[TensorType | None], found: Sequence[TensorType]) -> bool:
    """Whether a node can be computed here, where time and memory are those of a file's word."""
    if node.op in _OF_TYPES or (node.op in VALUES and "activation" not in node.attributes):
        return True
    count = sum(math.prod(_lengths(kind)) for kind in (*given, *found) if kind is not None)
    pads = node.attributes.get("pads", ())
    most = max(map(abs, pads), default=0) + max((max(_lengths(kind), default=0) for kind in found), default=0)
    taps = math.prod(node.attributes.get("kernel_shape", ()))
    return bool(max(count, count * taps, most) <= _MOST_BY_REFERENCE)


def computed(node: Node, values: Sequence[Any]) -> list[Array]:
    """Return what a node makes of known values.

    Raises
    ------
    ModelError
        If it does not take them.
    """
    fold = VALUES.get(node.op)
    if fold is None or "activation" in node.attributes:
        return list(applied(_run, node, *values))
    return _values(node, values)


def _values(node: Node, values: Sequence[Any]) -> list[Array]:
    """Return what a node of `VALUES` makes: of lengths on a tape number by number, as far as that goes."""
    if node.op in _BY_NUMBER and TapeArray in map(type, values):
        made = of_elements(lambda held: VALUES[node.op](node, held), values)
        if made is not None:
            return [made]
    results: list[Array] = list(applied(_folded, node, *values))
    return results


def _run(node: Node, *values: Any) -> list[Array]:
    from .reference import run_node

    return list(run_node(node, values))


def _folded(node: Node, *values: Any) -> list[Array]:
    try:
        with np.errstate(all="ignore"):
            made = VALUES[node.op](node, values)
    except (ArithmeticError, IndexError, TypeError, ValueError) as error:
        raise ModelError(f"{named(node)} cannot be computed: {type(error).__name__}: {error}") from error
    return made if isinstance(made, list) else [made]


def _product(lengths: Array) -> Array:
    return np.array(lengths.prod(), np.int64)


def _lengths(kind: TensorType) -> tuple[int, ...]:
    return tuple(length for length in kind.shape if isinstance(length, int))


def _bytes(kind: TensorType) -> int:
    return math.prod(_lengths(kind)) * kind.dtype.itemsize
