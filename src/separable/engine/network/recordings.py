"""Plans made again for other lengths: what making one does is noted once, and done again for the others."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from ..graph.ir import Graph
from ..passes import PassMemory
from ..program.lower import target
from ..program.steps.recorded import RecordedProgram
from ..program.weights import WeightStore
from ..recorded.collection import no_collection
from ..recorded.tape import DifferentError, Tape
from .plan import NetworkPlan

__all__ = ["Recordings"]

_Shapes = tuple[tuple[int, ...], ...]  # of the inputs, in order
_Make = Callable[[Mapping[str, tuple[int, ...]]], NetworkPlan]

_MOST: Final = 16  # recordings of a network: thresholds and remainders of lengths have their own each
# Noting takes three times as long as the plan alone, which three plans that are made from it save. So many
# more may be made than that: where all lengths go ways of their own, noting is given up.
_SAVED_BY: Final = 3
_FREE: Final = 8
_NEAR: Final = 4  # plans of a recording that lengths are compared with


class Recordings:
    """What making plans of a network did, to be done again for other lengths.

    Parameters
    ----------
    graph : Graph
        As simplified as it could be without its lengths.
    store : WeightStore
    threads : int
    memory : PassMemory
    make : callable
        Returns a plan step by step.
    most : int, optional
        Plans that are kept, and recordings at most.

    Attributes
    ----------
    made : int
        Recordings that were made.
    used : int
        Plans that were made from one.
    """

    def __init__(
        self,
        graph: Graph,
        store: WeightStore,
        threads: int,
        memory: PassMemory,
        make: _Make,
        most: int = _MOST,
    ) -> None:
        self._graph, self._store, self._threads = graph, store, threads
        self._memory, self._make, self._most = memory, make, min(most, _MOST)
        self._kept: list[_Recording] = []
        self._first: _Shapes | None = None
        self._open: set[tuple[int, int]] = set()
        self._branches = any(
            isinstance(value, Graph) for node in graph.nodes for value in node.attributes.values()
        )
        self._tried = 0
        self.made = self.used = 0

    def plan(self, shapes: _Shapes) -> NetworkPlan | None:
        """Return the plan of some shapes; None where it has to be made step by step.

        Parameters
        ----------
        shapes : tuple of tuple of int
            Of the inputs, in order.
        """
        fitting = [recording for recording in self._kept if recording.is_of(shapes)]
        for recording in sorted(fitting, key=lambda recording: recording.distance(shapes)):
            if not self._store.ask(recording.weights):
                self._kept.remove(recording)  # its weights were given back
                continue
            plan = recording.plan(shapes)
            if plan is not None:
                self._kept.remove(recording)
                self._kept.insert(0, recording)
                self.used += 1
                return plan
        if self._first is None or self._branches:
            self._first = shapes  # most networks are asked for no other
            return None
        self._open |= {
            (number, axis)
            for number, (one, other) in enumerate(zip(self._first, shapes, strict=True))
            for axis, (length, new) in enumerate(zip(one, other, strict=True))
            if length != new
        }
        return self._noted(shapes) if self._tried < _FREE + self.used // _SAVED_BY else None

    def _noted(self, shapes: _Shapes) -> NetworkPlan | None:
        """Make a plan and note how; return None where that cannot be noted."""
        self._tried += 1
        before = self._store.asked()
        try:
            with no_collection():  # it took 170 of 200 ms (measured), and nothing of a tape is garbage
                recording = _Recording(self, shapes)
            recording.weights = self._store.asked()
            plan = recording.plan(shapes)
        except Exception:  # whatever is wrong with these lengths, the plan step by step tells it
            self._store.asked()
            plan = None
        if plan is None:
            self._store.ask(before)
            return None
        self._store.ask(before | recording.weights)
        self.made += 1
        self._kept.insert(0, recording)
        del self._kept[self._most :]
        return plan

    # -- what a recording asks for -----------------------------------------------------------------------

    def network_plan(self, shapes: Sequence[Sequence[Any]], tape: Tape) -> NetworkPlan:
        """Return a plan with a tape; nothing of it is left in what other plans share."""
        graph = self._graph.with_(nodes=tuple([node.with_() for node in self._graph.nodes]))
        given = {name: tuple(shape) for name, shape in zip(graph.inputs, shapes, strict=True)}
        return NetworkPlan(graph, given, self._store, threads=self._threads, memory=self._memory, tape=tape)

    @property
    def open(self) -> frozenset[tuple[int, int]]:
        """Inputs and axes of the lengths that were seen to differ."""
        return frozenset(self._open)

    def named(self, shapes: _Shapes) -> dict[str, tuple[int, ...]]:
        """Return shapes by the names of the inputs."""
        return dict(zip(self._graph.inputs, shapes, strict=True))

    def whole(self, shapes: _Shapes) -> NetworkPlan:
        """Return a plan that was made step by step."""
        return self._make(self.named(shapes))


class _Recording:
    """What making one plan did.

    Attributes
    ----------
    weights : frozenset
        What it found its weights by.
    """

    weights: frozenset[tuple[object, ...]] = frozenset()

    def __init__(self, owner: Recordings, shapes: _Shapes) -> None:
        self._owner, self._target = owner, target()
        self._open = sorted(owner.open)
        self._fixed = self._without(shapes)
        self._seen = deque([self._lengths(shapes)], _NEAR)
        tape = Tape()
        lengths: list[list[Any]] = [list(shape) for shape in shapes]
        for number, axis in self._open:
            lengths[number][axis] = tape.length(shapes[number][axis])
        plan = owner.network_plan(lengths, tape)
        (part,) = plan.native_parts()
        assert isinstance(part.native, RecordedProgram)
        outputs = tuple([kind.shape for kind in plan.outputs.values()])
        self._again = tape.again((part.native.entry, outputs))
        self._plan = plan.without_lengths()

    def _without(self, shapes: _Shapes) -> tuple[int, ...]:
        """Return the lengths that have to be the same."""
        return tuple(
            [
                length
                for number, shape in enumerate(shapes)
                for axis, length in enumerate(shape)
                if (number, axis) not in self._open
            ]
        )

    def is_of(self, shapes: _Shapes) -> bool:
        """Whether shapes differ from those of the recording in what may differ alone."""
        return self._target == target() and self._without(shapes) == self._fixed

    def distance(self, shapes: _Shapes) -> int:
        """Return how far lengths are from those of plans that it made: near ones mostly go the same way."""
        lengths = self._lengths(shapes)
        return min(
            [sum([abs(one - other) for one, other in zip(lengths, seen, strict=True)]) for seen in self._seen]
        )

    def _lengths(self, shapes: _Shapes) -> tuple[int, ...]:
        return tuple([shapes[number][axis] for number, axis in self._open])

    def plan(self, shapes: _Shapes) -> NetworkPlan | None:
        """Return the plan of other lengths; None where it would be made in another way."""
        lengths = self._lengths(shapes)
        try:
            native, outputs = self._again(lengths)
        except DifferentError:
            return None
        except Exception:  # what was noted comes to nothing for them; the plan step by step tells why
            return None
        owner = self._owner
        self._seen.appendleft(lengths)
        return self._plan.of(shapes, outputs, native, lambda: owner.whole(shapes))
