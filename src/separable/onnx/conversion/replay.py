"""Passes over a model that go on where the last one stopped, instead of from the inputs each time."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, TypeVar

import numpy as np

from ..._base.types import Array
from ..model.files import Stored
from ..model.graph import GraphIndex, reads
from ..model.runtime import Session, giving

__all__ = ["Walk"]

_Part = TypeVar("_Part", bound=Hashable)


class _Held(NamedTuple):
    """What crosses, on one part of the data, from the nodes before a place to those from there on."""

    place: int
    changes: Mapping[int, object]  # before that place
    tensors: Mapping[str, Array]

    @property
    def nbytes(self) -> int:
        return sum(np.asarray(value).nbytes for value in self.tensors.values())

    def stands(self, changes: Mapping[int, object]) -> bool:
        """Whether the nodes that it stands for are the same with these changes."""
        now = {where: how for where, how in changes.items() if where < self.place}
        return now.keys() == self.changes.keys() and all(now[w] is self.changes[w] for w in now)


class Walk:
    """Runs a model part by part, from front to back, on parts of the calibration data.

    The tensors that cross from the nodes that ran to those that did not are kept for each part of the data,
    so that walking from convolution to convolution costs as much as one pass. Nodes that did not run yet may
    change meanwhile.

    Parameters
    ----------
    limit : int
        Bytes of tensors that may be kept; where more cross, more is run again.
    threads : int, optional
        Of ONNX Runtime.
    """

    def __init__(self, limit: int, threads: int | None = None) -> None:
        self._room, self._threads = limit, threads
        self._held: dict[Hashable, _Held] = {}

    def tensors(
        self,
        stored: Stored,
        names: Sequence[str],
        stop: str,
        place: int,
        parts: Iterable[tuple[_Part, Mapping[str, Array]]],
        changes: Mapping[int, object] = MappingProxyType({}),
    ) -> Iterator[tuple[_Part, dict[str, Array]]]:
        """Yield some tensors of each part of the data, and keep what the model holds where it stops.

        Parameters
        ----------
        stored : Stored
        names : sequence of str
            What is asked for: inputs of the model, or what its nodes make.
        stop : str
            A tensor that a node makes: the state is kept as it is before that node.
        place : int
            Where that node stands in the unchanged model.
        parts : iterable of (hashable, mapping of str to ndarray)
            Of the data, with the inputs that the model is given.
        changes : mapping of int to object
            Where the model was changed, in terms of the unchanged one, and how.

        Yields
        ------
        part : hashable
        dict of str to ndarray
            With `names`, and more.
        """
        graph = GraphIndex(stored)
        crossing = _crossing(graph, graph.maker[stop])
        behind = {where: how for where, how in changes.items() if where < place}
        for part, feeds, values in self._run(stored, [*names, *crossing], parts, changes, place):
            yield part, values
            crossed = {name: values[name] for name in crossing if name not in feeds}
            self._keep(part, _Held(place, behind, crossed))

    def outputs(
        self,
        stored: Stored,
        names: Sequence[str],
        parts: Iterable[tuple[_Part, Mapping[str, Array]]],
        changes: Mapping[int, object],
    ) -> Iterator[dict[str, Array]]:
        """Yield some tensors of each part of the data, from where the walk stopped if it can; it stays there.

        Parameters
        ----------
        stored, names, parts, changes
            As for `tensors`.

        Yields
        ------
        dict of str to ndarray
        """
        for _, _, values in self._run(stored, names, parts, changes, None):
            yield values

    def stands(self, part: Hashable, changes: Mapping[int, object]) -> bool:
        """Whether there is a state of a part, and the nodes that it stands for are the same."""
        held = self._held.get(part)
        return held is not None and held.stands(changes)

    def _keep(self, part: Hashable, held: _Held) -> None:
        old = self._held.pop(part, None)
        self._room += 0 if old is None else old.nbytes
        if held.nbytes <= self._room and _are_arrays(held.tensors):
            self._held[part] = held
            self._room -= held.nbytes

    def _run(
        self,
        stored: Stored,
        names: Sequence[str],
        parts: Iterable[tuple[_Part, Mapping[str, Array]]],
        changes: Mapping[int, object],
        place: int | None,
    ) -> Iterator[tuple[_Part, Mapping[str, Array], dict[str, Array]]]:
        """Yield each part, its inputs, and all that is known of it afterwards."""
        sessions: dict[tuple[str, ...], Session | None] = {}
        for part, feeds in parts:
            known = dict(feeds)
            held = self._held.get(part)
            if held is not None and (place is None or held.place <= place) and held.stands(changes):
                known |= held.tensors
            start = tuple(sorted(known))
            if start not in sessions:
                made = [name for name in dict.fromkeys(names) if name not in known]
                ahead = giving(stored, made, known) if made else None
                sessions[start] = Session(ahead, self._threads, arena=False) if ahead else None
            session = sessions[start]
            yield part, feeds, {**known, **(session(known) if session else {})}


def _crossing(graph: GraphIndex, place: int) -> list[str]:
    """Return what the nodes before a place make (or the model is given) and those from there on read."""
    made = {name for node in graph.nodes[:place] for name in node.output if name}
    later = {name for node in graph.nodes[place:] for name in reads(node)} | graph.outputs
    return sorted(name for name in made & later if not graph.is_constant(name))


def _are_arrays(values: Mapping[str, Array]) -> bool:
    """Whether all values are tensors; a model may pass sequences on, which cannot be fed back."""
    return all(isinstance(value, np.ndarray) for value in values.values())
