"""Parts of a network, for inputs of one shape: what runs in one place, from arrays to arrays."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any, ClassVar, Protocol

import numpy as np

from ..._base.types import Array
from ...onnx.model.names import ModelError
from ..graph.ir import Graph
from ..program.carried import CarriedAs, carried
from ..program.operations import Operation
from ..program.plan import StaticPlan
from ..program.weights import WeightStore
from ..recorded.tape import Tape

__all__ = ["EmptyPart", "NativePart", "PlanPart", "WholePart"]


class PlanPart(Protocol):
    """Operations that run one after the other in one place.

    Attributes
    ----------
    inputs, outputs : tuple of str
        Tensors that it reads and makes.
    operations : sequence of Operation
        What it does, a line each.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    operations: Sequence[Operation]

    def run(
        self,
        inputs: Sequence[Array],
        outputs: Sequence[Array],
        threads: int,
        nanoseconds: Array | None = None,
    ) -> None:
        """Run it once; `nanoseconds` has one number for each operation."""

    def memory_bytes(self, threads: int) -> int:
        """Return the bytes of one call."""


class NativePart:
    """Native steps over one arena.

    Parameters
    ----------
    graph : Graph
        Static and simplified: what it reads and gives is computed, and float32 or what is carried as that.
    store : WeightStore
    images : int, optional
        Of a batch, which are run one by one; the graph is that of one image.
    tape : Tape, optional
        Of the lengths, where it is noted how the program is made.

    Attributes
    ----------
    native : Program
        As the core has it.
    """

    def __init__(self, graph: Graph, store: WeightStore, images: int = 1, tape: Tape | None = None) -> None:
        plan = StaticPlan(graph, None, store, images, tape)
        self.native, self._ends = plan.native, plan.ends
        self.inputs, self.outputs = tuple(graph.inputs), graph.outputs
        self.operations: Sequence[Operation] = plan.operations
        kinds = (*graph.inputs.values(), *plan.outputs.values())
        self._is_float = all(kind.dtype == np.float32 for kind in kinds)
        held = {} if self._is_float else carried(graph)
        self._whole = [held.get(name) is CarriedAs.whole for name in self.outputs]

    def run(
        self,
        inputs: Sequence[Array],
        outputs: Sequence[Array],
        threads: int,
        nanoseconds: Array | None = None,
    ) -> None:
        """Run it once; `nanoseconds` has one number for each operation."""
        if self._is_float:
            return self._run(inputs, outputs, threads, nanoseconds)
        made = [
            array if array.dtype == np.float32 else np.empty(array.shape, np.float32) for array in outputs
        ]
        self._run([array.astype(np.float32, copy=False) for array in inputs], made, threads, nanoseconds)
        for array, result, is_whole in zip(outputs, made, self._whole, strict=True):
            if result is not array:
                np.copyto(array, result.view(np.int32) if is_whole else result, casting="unsafe")

    def _run(
        self, inputs: Sequence[Array], outputs: Sequence[Array], threads: int, nanoseconds: Array | None
    ) -> None:
        if nanoseconds is None:
            self.native.run(list(inputs), list(outputs), threads, None)
            return
        ends = self._ends
        steps = np.zeros(ends[-1] if ends else 0, np.int64)
        self.native.run(list(inputs), list(outputs), threads, steps)
        for number, (start, end) in enumerate(zip([0, *ends], ends, strict=False)):
            nanoseconds[number] = steps[start:end].sum()

    def memory_bytes(self, threads: int) -> int:
        """Return the bytes of one call: the arena, and the scratch memory of every thread."""
        return int(self.native.memory_bytes(threads))

    def of(self, native: Any) -> NativePart:
        """Return the same for other lengths, with their program; nothing is told of its operations."""
        part = copy(self)
        part.native, part.operations = native, ()
        return part


class EmptyPart:
    """A network of which a tensor has no elements: most of it computes nothing."""

    operations: Sequence[Operation] = ()

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self.inputs, self.outputs = tuple(graph.inputs), graph.outputs

    def run(
        self,
        inputs: Sequence[Array],
        outputs: Sequence[Array],
        threads: int,
        nanoseconds: Array | None = None,
    ) -> None:
        """Fill the outputs that have elements, such as sums of nothing."""
        del threads, nanoseconds
        if not any(array.size for array in outputs):
            return
        from ..graph.reference import evaluate

        results = evaluate(self._graph, dict(zip(self.inputs, inputs, strict=True)), None)
        for array, name in zip(outputs, self.outputs, strict=True):
            array[...] = results[name]

    def memory_bytes(self, threads: int) -> int:
        """Return 0: nothing is computed."""
        del threads
        return 0


class WholePart(ABC):
    """A part that something else runs whole: one line, and one time, for all of its operations.

    Parameters
    ----------
    graph : Graph
        Static.
    """

    runner: ClassVar[str]
    """What runs it, as people write it."""

    def __init__(self, graph: Graph) -> None:
        self.inputs, self.outputs = tuple(graph.inputs), graph.outputs
        counts = Counter(node.op for node in graph.nodes)
        names = ", ".join(op if count == 1 else f"{count} {op}" for op, count in counts.items())
        label = self.outputs[0] if self.outputs else ""
        kind = graph.types.get(label)
        shape = () if kind is None else tuple(int(length) for length in kind.shape)
        line = Operation(f"{self.runner}: {names}", label, shape, [], [], _nothing)
        self.operations: Sequence[Operation] = (line,)

    @abstractmethod
    def results(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        """Return what it makes, the outputs among it, from its inputs by name."""

    def run(
        self,
        inputs: Sequence[Array],
        outputs: Sequence[Array],
        threads: int,
        nanoseconds: Array | None = None,
    ) -> None:
        """Run it once; `nanoseconds` has one number, for all of it."""
        del threads  # the runner has its own
        start = time.perf_counter_ns()
        made = self.results(dict(zip(self.inputs, inputs, strict=True)))
        for name, array in zip(self.outputs, outputs, strict=True):
            if made[name].shape != array.shape:
                raise ModelError(
                    f"tensor `{name}` has shape {made[name].shape}, and {array.shape} was planned: it "
                    "depends on what is computed. Only shapes that follow from those of the inputs are known."
                )
            array[...] = made[name]
        if nanoseconds is not None:
            nanoseconds[0] = time.perf_counter_ns() - start

    def memory_bytes(self, threads: int) -> int:
        """Return 0: the runner's own memory is not known, and what lies between parts is counted there."""
        del threads
        return 0


def _nothing(_: Any) -> None:
    """Add no native step."""
