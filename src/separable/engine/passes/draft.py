"""A graph while a pass rewrites it: what makes and what reads each tensor is known at every moment."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from ..._base.types import Array
from ..graph.ir import Graph, Node, TensorType

__all__ = ["Draft"]


class Draft:
    """A copy of a graph that a pass may change; the graph itself stays as it is.

    Going through a draft yields the nodes in running order, those that were put in on the way included where
    they lie ahead.

    Parameters
    ----------
    graph : Graph
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._changed = self._added = False
        self._constants = dict(graph.constants)
        self._types = dict(graph.types)
        self._outputs = frozenset(graph.outputs)
        self._makers: dict[str, Node] = {}
        self._readers: dict[str, list[Node]] = {}
        self._slots: list[list[Node]] = [[node] for node in graph.nodes]
        self._places: dict[Node, int] = {}
        self._names: set[str] = set()
        for place, node in enumerate(graph.nodes):
            self._enter(node, place)

    @classmethod
    def of(cls, graph: Graph) -> Draft:
        """Return a draft of a graph: the last one again, where nothing was written into it."""
        return graph.notes.pop("draft", None) or cls(graph)

    def __iter__(self) -> Iterator[Node]:
        for slot in self._slots:
            if len(slot) == 1:  # as nearly all have
                yield slot[0]
            else:
                yield from (node for node in tuple(slot) if node in self._places)

    def __reversed__(self) -> Iterator[Node]:
        for slot in reversed(self._slots):
            yield from (node for node in tuple(reversed(slot)) if node in self._places)

    def maker(self, name: str) -> Node | None:
        """Return the node that makes a tensor; None for inputs and constants."""
        return self._makers.get(name)

    def readers(self, name: str) -> Sequence[Node]:
        """Return the nodes that read a tensor, one entry for each time."""
        return self._readers.get(name, ())

    def is_output(self, name: str) -> bool:
        """Return whether callers get this tensor."""
        return name in self._outputs

    def only_reader(self, name: str) -> Node | None:
        """Return the node that alone reads a tensor, once; None also where callers get the tensor."""
        readers = self._readers.get(name, ())
        return readers[0] if len(readers) == 1 and name not in self._outputs else None

    def constant(self, name: str) -> Array | None:
        """Return the values of a constant, or None."""
        return self._constants.get(name)

    def type_of(self, name: str) -> TensorType | None:
        """Return what is known of a tensor, or None."""
        found = self._types.get(name) or self._graph.inputs.get(name)
        values = self._constants.get(name) if found is None else None
        return found if values is None else TensorType(values.dtype, values.shape)

    def place(self, node: Node) -> int:
        """Return where a node runs: lower numbers first."""
        return self._places[node]

    def new_name(self, wanted: str) -> str:
        """Return a name that no tensor has: the wanted one, with a number where it is taken."""
        self._added = True
        if not self._names:
            self._names.update(self._graph.names())
        name, number = wanted, 1
        while name in self._names:
            number += 1
            name = f"{wanted}_{number}"
        self._names.add(name)
        return name

    def add_constant(self, wanted: str, values: Array) -> str:
        """Add a constant and return its name."""
        name = self.new_name(wanted)
        self._constants[name] = values
        self._types[name] = TensorType(values.dtype, values.shape)
        return name

    def set_type(self, name: str, kind: TensorType | None) -> None:
        """Say what is known of a new tensor."""
        if kind is not None:
            self._added = True
            self._types[name] = kind

    def replace(self, old: Node, *new: Node, at: Node | None = None) -> None:
        """Put nodes in the place of one; they run where it did, or just before another one."""
        anchor = old if at is None else at
        place = self._places[anchor]
        slot = self._slots[place]
        index = slot.index(anchor)
        slot[index:index] = new
        self._leave(old)
        for node in new:
            self._enter(node, place)

    def drop(self, nodes: Iterable[Node]) -> None:
        """Take nodes out, and what only they needed."""
        ahead = list(nodes)
        while ahead:
            node = ahead.pop()
            if node in self._places:
                self._leave(node)
                ahead += self.unread(node.inputs)

    def unread(self, names: Iterable[str]) -> list[Node]:
        """Return the makers of these tensors of which nothing is read."""
        makers = {self._makers[name]: None for name in names if name in self._makers}
        return [node for node in makers if not any(map(self._is_read, node.outputs))]

    def redirect(self, name: str, to: str) -> None:
        """Let all readers of a tensor read another one."""
        for node in dict.fromkeys(self.readers(name)):
            inputs = tuple(to if operand == name else operand for operand in node.inputs)
            self.replace(node, node.with_(inputs=inputs))

    def finished(self) -> Graph:
        """Return the rewritten graph; the very one that was given where nothing changed."""
        if not self._changed:
            if not self._added:
                self._graph.notes["draft"] = self
            return self._graph
        nodes = tuple(self)
        read = {name for node in nodes for name in node.inputs} | self._outputs
        constants = {name: values for name, values in self._constants.items() if name in read}
        known = (
            {name for node in nodes for name in node.outputs} | constants.keys() | self._graph.inputs.keys()
        )
        types = {name: kind for name, kind in self._types.items() if name in known}
        return self._graph.with_(nodes=nodes, constants=constants, types=types)

    def _is_read(self, name: str) -> bool:
        return bool(self._readers.get(name)) or name in self._outputs

    def _enter(self, node: Node, place: int) -> None:
        self._places[node] = place
        for name in node.inputs:
            if name:
                self._readers.setdefault(name, []).append(node)
        for name in node.outputs:
            if name:
                self._makers[name] = node

    def _leave(self, node: Node) -> None:
        self._changed = True
        self._slots[self._places.pop(node)].remove(node)
        for name in node.inputs:
            if name:
                self._readers[name].remove(node)
        for name in node.outputs:
            if self._makers.get(name) is node:
                del self._makers[name]
