"""Which values shapes and branches follow from, of those that are known before anything is planned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ..._base.types import Array
from .ir import Graph, Node, TensorType
from .static import computed, is_known
from .values import VALUES

__all__ = ["Decisions", "decisions"]

# Of these operations the operands whose values say how much is made, and those that steps have to know.
_NEEDED: Final[Mapping[str, tuple[int, ...]]] = {
    **dict.fromkeys(("Reshape", "Expand", "Tile", "Squeeze", "Unsqueeze", "Split", "TopK", "CumSum"), (1,)),
    **dict.fromkeys(("OneHot", "Upsample"), (1,)),
    **dict.fromkeys(("ConstantOfShape", "EyeLike"), (0,)),
    **dict.fromkeys(("Pad", "Resize"), (1, 2, 3)),
    "Slice": (1, 2, 3, 4),
    "Range": (0, 1, 2),
    **dict.fromkeys(("Conv", "ConvTranspose", "Gemm"), (1, 2)),
    "BatchNormalization": (1, 2, 3, 4),
    **dict.fromkeys(("InstanceNormalization", "GroupNormalization"), (1, 2)),
    **dict.fromkeys(("LSTM", "GRU", "RNN"), (1, 2, 3, 4)),
}
_OF_SHAPES: Final = ("Shape", "Size")  # of what they read the values do not matter


@dataclass(frozen=True, eq=False)
class Decisions:
    """The values that plans are made for.

    Attributes
    ----------
    inputs : tuple of str
        That they are computed from: whole numbers.
    tensors : tuple of str
        Those on which shapes and branches depend, inputs themselves among them.
    nodes : tuple of Node
        Make the others, in running order.
    constants : mapping of str to ndarray
        That these nodes read.
    """

    inputs: tuple[str, ...]
    tensors: tuple[str, ...]
    nodes: tuple[Node, ...]
    constants: Mapping[str, Array]

    def values(self, given: Mapping[str, Array]) -> dict[str, Array]:
        """Return the tensors of one call, from its inputs."""
        held = {name: given[name] for name in self.inputs}
        for node in self.nodes:
            read = [held.get(name, self.constants.get(name)) for name in node.inputs]
            held[node.outputs[0]] = computed(node, read)[0]
        return {name: held[name] for name in self.tensors}


def decisions(graph: Graph) -> Decisions:
    """Return what has to be known of a call before it is planned: as little as that can be.

    Parameters
    ----------
    graph : Graph

    Returns
    -------
    Decisions
        Of inputs that are whole numbers of no or one axis. Where such a value is compared first, as in the
        condition of an If, the plan depends on what came of that; where it is only added, chosen by or
        multiplied, on nothing.
    """
    made = {name: None for name, kind in graph.inputs.items() if _is_few(kind)}
    makers: dict[str, Node] = {}
    if not made:
        return Decisions((), (), (), {})
    for node in graph.nodes:
        read = [name for name in node.inputs if name and name not in graph.constants]
        known = node.op in VALUES and len(node.outputs) == 1 and "activation" not in node.attributes
        if known and read and all(name in made or name in makers for name in read):
            makers[node.outputs[0]] = node
    wanted = _wanted(graph, makers, ())
    tensors = tuple(name for name in (*made, *makers) if name in wanted)
    nodes, inputs = _behind(tensors, makers, graph)
    constants = {
        name: graph.constants[name] for node in nodes for name in node.inputs if name in graph.constants
    }
    return Decisions(tuple(name for name in made if name in inputs), tensors, nodes, constants)


def _is_few(kind: TensorType) -> bool:
    return kind.dtype.kind in "iub" and (len(kind.shape) < 2 or all(length == 1 for length in kind.shape))


def _wanted(graph: Graph, makers: Mapping[str, Node], outputs: Sequence[str]) -> set[str]:
    """Return the tensors whose values something depends on that has to be known; what makes them is left out.

    The values of some outputs may be wanted too.
    """
    wanted = set(outputs)
    for node in reversed(graph.nodes):
        if node.op in _OF_SHAPES or not node.inputs:
            continue
        if any(isinstance(value, Graph) for value in node.attributes.values()):
            wanted.update(_by_branches(node, wanted))
        elif not is_known(node.op) or (node.outputs[0] not in makers and not wanted.isdisjoint(node.outputs)):
            wanted.update(node.inputs)
        else:
            places = _NEEDED.get(node.op, (1,) if node.op.startswith("Reduce") else ())
            wanted.update(node.inputs[place] for place in places if place < len(node.inputs))
    wanted.discard("")
    return wanted


def _by_branches(node: Node, wanted: set[str]) -> Iterator[str]:
    """Yield the inputs of a node with graphs whose values are wanted."""
    if node.op != "If":
        yield from node.inputs
        return
    yield node.inputs[0]
    captured = node.attributes["captured"]
    outside = dict(zip(captured, node.inputs[len(node.inputs) - len(captured) :], strict=True))
    for which in ("then_branch", "else_branch"):
        branch: Graph = node.attributes[which]
        asked = [
            name for out, name in zip(node.outputs, branch.outputs, strict=False) if out and out in wanted
        ]
        yield from (outside[name] for name in _wanted(branch, {}, asked) if name in outside)


def _behind(
    tensors: Sequence[str], makers: Mapping[str, Node], graph: Graph
) -> tuple[tuple[Node, ...], set[str]]:
    """Return the nodes that make some tensors, in order, and the inputs that they read."""
    ahead, seen, inputs = list(tensors), set(), set()
    while ahead:
        name = ahead.pop()
        if name in makers and name not in seen:
            seen.add(name)
            ahead += makers[name].inputs
        elif name in graph.inputs:
            inputs.add(name)
    return tuple(node for name, node in makers.items() if name in seen), inputs
