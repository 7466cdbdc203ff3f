"""Passes over a model that go on where the last one stopped, instead of from the inputs each time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from ..._base.types import Array
from ..model.files import Stored
from ..model.graph import GraphIndex, reads
from ..model.runtime import Session, giving
from .calibration import OnnxCalibration

__all__ = ["Walk"]

_State = list[
    dict[str, Array]
]  # of each batch: the tensors that cross from one part of the model to the next


class Walk:
    """Runs a model part by part, from front to back, on all batches.

    The tensors that cross from the nodes that ran to those that did not are kept for each batch, so that
    walking from convolution to convolution costs as much as one pass. Nodes that did not run yet may change
    meanwhile.

    Parameters
    ----------
    calibration : OnnxCalibration
    limit : int
        Bytes of tensors that may be kept; where more cross, more is run again.
    threads : int, optional
        Of ONNX Runtime.
    """

    def __init__(self, calibration: OnnxCalibration, limit: int, threads: int | None = None) -> None:
        self._calibration = calibration
        self._limit = limit
        self._threads = threads
        self._state: _State | None = None
        self._place = 0
        self._changes: dict[int, object] = {}  # before that place

    def tensors(
        self,
        stored: Stored,
        names: Sequence[str],
        stop: str,
        place: int,
        changes: Mapping[int, object] = MappingProxyType({}),
    ) -> Iterator[dict[str, Array]]:
        """Yield some tensors of each batch, and keep what the model holds where it stops.

        Parameters
        ----------
        stored : Stored
        names : sequence of str
            What is asked for: inputs of the model, or what its nodes make.
        stop : str
            A tensor that a node makes: the state is kept as it is before that node.
        place : int
            Where that node stands in the unchanged model.
        changes : mapping of int to object
            Where the model was changed, in terms of the unchanged one, and how.

        Yields
        ------
        dict of str to ndarray
            With `names`, and more.
        """
        graph = GraphIndex(stored)
        crossing = _crossing(graph, graph.maker[stop])
        kept: _State | None = []
        room = self._limit
        usable = place >= self._place and self.stands(changes)
        for feeds, values in self._run(stored, [*names, *crossing], usable):
            yield values
            if kept is not None:
                crossed = {name: values[name] for name in crossing if name not in feeds}
                room -= sum(np.asarray(value).nbytes for value in crossed.values())
                kept = [*kept, crossed] if room >= 0 and _are_arrays(crossed) else None
        if kept is not None:
            self._state, self._place = kept, place
            self._changes = {where: how for where, how in changes.items() if where < place}

    def outputs(
        self, stored: Stored, names: Sequence[str], changes: Mapping[int, object]
    ) -> Iterator[dict[str, Array]]:
        """Yield some tensors of each batch, from where the walk stopped if it can; it stays there.

        Parameters
        ----------
        stored, names, changes
            As for `tensors`.

        Yields
        ------
        dict of str to ndarray
        """
        for _, values in self._run(stored, names, self.stands(changes)):
            yield values

    def stands(self, changes: Mapping[int, object]) -> bool:
        """Whether there is a state, and the nodes that it stands for are the same with these changes."""
        now = {where: how for where, how in changes.items() if where < self._place}
        same = now.keys() == self._changes.keys() and all(now[w] is self._changes[w] for w in now)
        return self._state is not None and same

    def _run(
        self, stored: Stored, names: Sequence[str], from_state: bool
    ) -> Iterator[tuple[dict[str, Array], dict[str, Array]]]:
        """Yield the inputs of each batch, and all that is known of it afterwards."""
        start = self._state if from_state else None
        session: Session | None = None
        for number, feeds in enumerate(self._calibration):
            known = {**feeds, **(start[number] if start is not None else {})}
            if number == 0:
                made = [name for name in dict.fromkeys(names) if name not in known]
                session = Session(giving(stored, made, known), self._threads) if made else None
            yield feeds, {**known, **(session(known) if session else {})}


def _crossing(graph: GraphIndex, place: int) -> list[str]:
    """Return what the nodes before a place make (or the model is given) and those from there on read."""
    made = {name for node in graph.nodes[:place] for name in node.output if name}
    later = {name for node in graph.nodes[place:] for name in reads(node)} | graph.outputs
    return sorted(name for name in made & later if not graph.is_constant(name))


def _are_arrays(values: Mapping[str, Array]) -> bool:
    """Whether all values are tensors; a model may pass sequences on, which cannot be fed back."""
    return all(isinstance(value, np.ndarray) for value in values.values())
