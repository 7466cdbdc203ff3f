"""A network divided: its body, which is computed column by column, and its head, which sees whole windows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..graph.ir import Graph, Node
from .extents import Extent, NotLocalError, Reach
from .local import LocalRule, View, local_rule

__all__ = ["BodyEnd", "LocalBody", "LocalNode", "Need", "body_of", "means_apart"]


@dataclass(frozen=True, slots=True)
class BodyEnd:
    """Where the body ends.

    Attributes
    ----------
    node : Node
        The first of the head on its way.
    reason : str
        Why it is not in the body.
    stride : int
        Of its results; 0 unless that is the reason: the hop is no multiple of it.
    """

    node: Node
    reason: str
    stride: int = 0


@dataclass(slots=True)
class Need:
    """What is needed of a tensor of the body, in columns of the window.

    Attributes
    ----------
    left : int
        Columns at the low end that are computed anew for each window.
    right : int
        The end of what is computed at the high end, from the first new column on.
    kept : set of (int, int)
        What was computed before and is read again.
    whole : bool
        Whether the head, or a caller, gets it.
    """

    left: int = 0
    right: int = 0
    kept: set[tuple[int, int]] = field(default_factory=set)
    whole: bool = False

    def keep(self, first: int, end: int) -> None:
        """Note that columns that were computed before are read."""
        if first < end:
            self.kept.add((first, end))


@dataclass(frozen=True, slots=True)
class LocalNode:
    """A node of the body.

    Attributes
    ----------
    node : Node
    rule : LocalRule
    """

    node: Node
    rule: LocalRule


@dataclass(frozen=True, eq=False)
class LocalBody:
    """A network as a window slides over its input.

    Attributes
    ----------
    view : View
        The graph, and the extents of all tensors of the body.
    source : str
        The input.
    hop : int
        Columns of the input that are new with each window.
    nodes : list of LocalNode
        Of the body, in running order; those of which nothing is needed are left out.
    head : list of Node
        All others.
    needs : mapping of str to Need
        Of the tensors of the body.
    stops : list of BodyEnd
    """

    view: View
    source: str
    hop: int
    nodes: list[LocalNode]
    head: list[Node]
    needs: Mapping[str, Need]
    stops: list[BodyEnd]

    def known(self, name: str) -> int:
        """Return the end of those columns of a tensor that were computed before."""
        return self.view.extents[name].known(self.hop)


def means_apart(graph: Graph) -> Graph:
    """Return a graph in which a mean is a node of its own, but where it is summed up as a layer is stored."""
    nodes: list[Node] = []
    for node in graph.nodes:
        if node.op != "Conv" or len(node.outputs) < 2 or not node.outputs[1] or _sums_in_store(graph, node):
            nodes.append(node)
            continue
        nodes.append(node.with_(outputs=node.outputs[:1]))
        nodes.append(Node("GlobalAveragePool", node.outputs[:1], node.outputs[1:]))
    return graph if len(nodes) == len(graph.nodes) else graph.with_(nodes=tuple(nodes))


def _sums_in_store(graph: Graph, node: Node) -> bool:
    """Whether a convolution filters each channel by itself: such a one sums up in an order of its own."""
    weights = graph.constants.get(node.inputs[1])
    if weights is None:
        return True
    return bool(int(node.attributes["group"]) == weights.shape[0] > 1 and weights.shape[1] == 1)


def body_of(graph: Graph, axis: int, hop: int) -> LocalBody:
    """Divide a network.

    Parameters
    ----------
    graph : Graph
        Static and simplified, of one input.
    axis : int
        Of time, in the input.
    hop : int

    Returns
    -------
    LocalBody
    """
    (source,) = graph.inputs
    shape = graph.shapes()
    length = shape(source)[axis]
    view = View(graph, shape, {source: Extent(axis, length, 1, 0, length)})
    nodes: list[LocalNode] = []
    head: list[Node] = []
    stops: list[BodyEnd] = []
    for node in graph.nodes:
        if any(name and name not in view.extents and name not in graph.constants for name in node.inputs):
            head.append(node)
            continue
        try:
            rule = local_rule(view, node)
            view.extents.update(_extents(view, node, rule, hop))
            nodes.append(LocalNode(node, rule))
        except NotLocalError as error:
            stops.append(BodyEnd(node, str(error), error.stride))
            head.append(node)
    needs = _needs(view, source, hop, nodes, head)
    kept = [entry for entry in nodes if any(_wanted(needs.get(name)) for name in entry.node.outputs)]
    return LocalBody(view, source, hop, kept, head, needs, stops)


def _extents(view: View, node: Node, rule: LocalRule, hop: int) -> dict[str, Extent]:
    """Return the extents of what a node makes; an error where no column would stay."""
    length = int(view.shape(node.outputs[0])[rule.axis])
    made = [view.extents[name].after(reach, rule.axis, length) for name, reach in rule.reads.items()]
    strides = {extent.stride for extent in made}
    if len(strides) > 1:
        raise NotLocalError(f"its operands have strides of {' and '.join(map(str, sorted(strides)))} columns")
    (stride,) = strides
    if hop % stride:
        raise NotLocalError(f"the hop is no multiple of its stride, {stride}", stride)
    whole = Extent(
        rule.axis, length, stride, max(extent.low for extent in made), min(extent.high for extent in made)
    )
    if whole.known(hop) <= whole.low or whole.computed(hop) >= length:
        raise NotLocalError(f"all of its {length} columns are new or near an end of the window")
    for name, reach in rule.reads.items():
        if whole.low and reach.columns(0, whole.low)[1] > view.extents[name].known(hop):
            raise NotLocalError("what is near the one end of the window reads what is new at the other")
    return dict.fromkeys(filter(None, node.outputs), whole)


def _needs(view: View, source: str, hop: int, nodes: list[LocalNode], head: list[Node]) -> dict[str, Need]:
    """Return what is needed of each tensor of the body, from the outputs back to the input."""
    needs: dict[str, Need] = {}
    wanted = {name for node in head for name in node.inputs} | set(view.graph.outputs)
    for name in filter(wanted.__contains__, view.extents):
        extent = view.extents[name]
        need = needs[name] = Need(extent.low, extent.length, whole=True)
        need.keep(extent.low, extent.known(hop))
    for entry in reversed(nodes):
        made = [needs[name] for name in entry.node.outputs if _wanted(needs.get(name))]
        if not made:
            continue
        extent = view.extents[entry.node.outputs[0]]
        left = max(need.left for need in made)
        right = max(extent.high, *(need.right for need in made))
        for name in entry.node.outputs:  # parts of one whole are made together
            needs.setdefault(name, Need())
            needs[name].left, needs[name].right = left, right
        for name, reach in entry.rule.reads.items():
            _read(needs.setdefault(name, Need()), view.extents[name], reach, hop, (left, right, extent))
    needs.setdefault(source, Need())
    return needs


def _wanted(need: Need | None) -> bool:
    return need is not None and bool(need.left or need.right or need.kept)


def _read(need: Need, own: Extent, reach: Reach, hop: int, made: tuple[int, int, Extent]) -> None:
    """Note what is read of a tensor, so that the columns of another can be made."""
    left, right, extent = made
    if left:
        end = min(reach.columns(0, left)[1], own.length)
        need.left = own.low
        need.keep(own.low, end)
    first, end = reach.columns(extent.known(hop), right)
    need.right = max(need.right, min(end, own.length))
    need.keep(first, min(end, own.known(hop)))
