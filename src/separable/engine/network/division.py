"""A network as parts in turn: native ones, and between them what has no native steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from ..._base.types import Array
from ...onnx.model.names import ModelError
from ..graph.ir import Graph, Node
from ..graph.static import computed
from ..graph.values import VALUES
from ..program.plan import UnsupportedOperationsError
from ..program.weights import WeightStore
from .parts import NativePart, PlanPart, WholePart

__all__ = ["ArrayPart", "divided", "with_arrays"]


def divided(
    graph: Graph,
    store: WeightStore,
    missing: Sequence[tuple[Node, str]],
    foreign: Callable[[Graph], PlanPart],
    apart: Callable[[Graph, set[str]], Graph] | None = None,
) -> list[PlanPart]:
    """Return a graph as parts in running order: native as far as there are native steps.

    Parameters
    ----------
    graph : Graph
        Static and simplified; it reads and gives what is computed.
    store : WeightStore
    missing : sequence of (Node, str)
        What has no native steps, as far as that is known.
    foreign : callable
        Makes a part of such nodes.
    apart : callable, optional
        Writes some nodes, told by their first outputs, in ONNX's own.

    Returns
    -------
    list of PlanPart

    Raises
    ------
    ModelError
        If something runs in no part.
    """
    bad: set[str] = set()
    new = {node.outputs[0] for node, _ in missing}
    while True:
        bad |= new
        graph = graph if apart is None else apart(graph, bad)
        parts: list[PlanPart] = []
        new = set()
        refused: list[tuple[Node, str]] = []
        for nodes, is_native in min((list(_runs(graph, bad, first)) for first in (True, False)), key=len):
            part = _cut(graph, nodes)
            try:
                parts.append(NativePart(part, store) if is_native else foreign(part))
            except UnsupportedOperationsError as error:  # which the borders of parts may bring to light
                new |= {node.outputs[0] for node, _ in error.missing}
                refused += error.missing if not is_native else []
        if refused:
            raise UnsupportedOperationsError(refused)
        if not new:
            return parts
        if new <= bad:
            raise ModelError("it cannot be divided into parts that run; please report it.")


def _runs(graph: Graph, bad: set[str], is_native: bool) -> Iterator[tuple[list[Node], bool]]:
    """Yield nodes that run together, and whether they are native: as many as are ready, in turn."""
    ready = {"", *graph.inputs, *graph.constants}
    left = list(graph.nodes)
    while left:
        taken, later = [], []
        for node in left:
            if (node.outputs[0] not in bad) == is_native and ready.issuperset(node.inputs):
                taken.append(node)
                ready.update(node.outputs)
            else:
                later.append(node)
        if taken:
            yield taken, is_native
        left, is_native = later, not is_native


def _cut(graph: Graph, nodes: list[Node]) -> Graph:
    """Return some nodes as a graph of their own."""
    made = {name for node in nodes for name in node.outputs if name}
    read = dict.fromkeys(name for node in nodes for name in node.inputs if name)
    inside = {id(node) for node in nodes}
    elsewhere = {name for node in graph.nodes if id(node) not in inside for name in node.inputs}
    types = {**graph.inputs, **graph.types}
    return Graph(
        graph.name,
        {name: types[name] for name in read if name not in made and name not in graph.constants},
        tuple(
            name
            for name in dict.fromkeys(n for node in nodes for n in node.outputs)
            if name and (name in elsewhere or name in graph.outputs)
        ),
        tuple(nodes),
        {name: graph.constants[name] for name in read if name in graph.constants},
        types,
    )


# -- whole numbers -----------------------------------------------------------------------------------


def with_arrays(graph: Graph, store: WeightStore) -> list[PlanPart]:
    """Return a graph as parts in which NumPy computes what is done to whole numbers.

    Raises
    ------
    UnsupportedOperationsError
        If something else has no native steps.
    """
    try:
        return [NativePart(graph, store)]
    except UnsupportedOperationsError as error:
        # Others may only lack what these make.
        counted = [pair for pair in error.missing if _is_counted(pair[0], graph)]
        if not counted:
            raise
    return divided(graph, store, counted, ArrayPart)


def _is_counted(node: Node, graph: Graph) -> bool:
    """Whether a node makes whole numbers, or chooses by them: as quickly in NumPy as anywhere."""
    if node.op not in VALUES or "activation" in node.attributes:
        return False
    kinds = [graph.types[name].dtype.kind for name in node.outputs if name]
    return node.op == "Gather" or all(kind in "iub" for kind in kinds)


class ArrayPart(WholePart):
    """Operations on whole numbers, and choices by them, which NumPy computes.

    Parameters
    ----------
    graph : Graph
        Static.

    Raises
    ------
    UnsupportedOperationsError
        If there are others.
    """

    runner = "NumPy"

    def __init__(self, graph: Graph) -> None:
        others = [(node, node.op) for node in graph.nodes if not _is_counted(node, graph)]
        if others:
            raise UnsupportedOperationsError(others)
        super().__init__(graph)
        self._graph = graph

    def results(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        """Return all that is computed, the inputs among it."""
        held: dict[str, Array] = {**self._graph.constants, **inputs}
        for node in self._graph.nodes:
            made = computed(node, [held.get(name) for name in node.inputs])
            held.update(zip(node.outputs, made, strict=False))
        return held
