"""A network for inputs of one shape: its native part, or several with parts in ONNX Runtime between them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from typing import Any

import numpy as np

from ..._base.types import Array
from ...onnx.model.sizes import check_fits
from ..graph.ir import Graph, TensorType
from ..graph.static import is_known, static
from ..passes import PassMemory, simplified
from ..program.images import apart
from ..program.lower import may_be_native
from ..program.native_forms import in_native_form
from ..program.operations import Operation
from ..program.plan import UnsupportedOperationsError
from ..program.weights import WeightStore
from ..recorded.tape import Tape
from .division import with_arrays
from .parts import EmptyPart, NativePart, PlanPart

__all__ = ["NetworkPlan"]


class NetworkPlan:
    """What runs for inputs of one shape.

    Parameters
    ----------
    graph : Graph
        As simplified as it could be without its lengths.
    shapes : mapping of str to tuple of int
        Of the inputs.
    store : WeightStore
    fallback : bool
        Whether ONNX Runtime runs what the engine does not.
    threads : int
    settled : mapping of str to ndarray, optional
        The values of tensors that it is made for.
    memory : PassMemory, optional
        Of the other plans of the network.
    tape : Tape, optional
        Of the lengths, where it is noted how a plan of native steps alone is made.

    Attributes
    ----------
    inputs, outputs : dict of str to TensorType

    Raises
    ------
    ModelError
        If the shapes do not fit, or there are operations that nothing runs.
    """

    def __init__(
        self,
        graph: Graph,
        shapes: Mapping[str, tuple[int, ...]],
        store: WeightStore,
        *,
        fallback: bool = False,
        threads: int = 1,
        settled: Mapping[str, Array] | None = None,
        memory: PassMemory | None = None,
        tape: Tape | None = None,
    ) -> None:
        def make(lengths: Mapping[str, tuple[int, ...]]) -> Graph:
            return in_native_form(simplified(_static(valued, lengths, fallback), memory))

        valued = graph if not settled else _with_values(graph, settled)
        self._whole: Callable[[], NetworkPlan] | None = None
        made = make({name: shape for name, shape in shapes.items() if name in valued.inputs})
        self._graph: Graph | None = made
        self.inputs = {name: made.inputs.get(name, kind) for name, kind in graph.inputs.items()}
        self.outputs = {name: _type(made, name) for name in made.outputs}
        for name, kind in {**self.inputs, **self.outputs}.items():
            check_fits(f"tensor `{name}`", _lengths(kind), _bytes(kind))
        known = {name: made.constants[name] for name in self.outputs if name in made.constants}
        self._known = {name: array for name, array in known.items() if name not in self.inputs}
        self._passed = tuple(name for name in self.outputs if name in self.inputs)
        here = {*self._known, *self._passed}
        computed = tuple(name for name in self.outputs if name not in here)
        self._threads = threads
        alone = None if here else _images(made, make, store, tape)
        graph = made.with_(outputs=computed)
        self._parts: list[PlanPart] = (
            _parts(graph, store, fallback, threads, tape) if alone is None else [alone]
        )
        self._alone = self._parts[0] if len(self._parts) == 1 else None
        self._empty = {name: (_lengths(kind), kind.dtype) for name, kind in self.outputs.items()}
        order = list(self.inputs)
        self._places = [] if self._alone is None else [order.index(name) for name in self._alone.inputs]

    def without_lengths(self) -> NetworkPlan:
        """Return what plans of one native part share, whatever their lengths."""
        plan = copy(self)
        (part,) = self.native_parts()
        plan._alone = part.of(None)
        plan._parts, plan._graph, plan._empty = [], None, {}
        plan.inputs = {name: TensorType(kind.dtype, ()) for name, kind in self.inputs.items()}
        plan.outputs = {name: TensorType(kind.dtype, ()) for name, kind in self.outputs.items()}
        return plan

    def of(
        self,
        shapes: Sequence[tuple[int, ...]],
        outputs: Sequence[tuple[int, ...]],
        native: Any,
        whole: Callable[[], NetworkPlan],
    ) -> NetworkPlan:
        """Return the plan of some lengths, from what it shares with others.

        Parameters
        ----------
        shapes, outputs : sequence of tuple of int
            Shapes of the inputs, and of the outputs.
        native : Program
            As the core has it.
        whole : callable
            Makes the plan with all that is told of it.
        """
        plan = copy(self)
        assert isinstance(self._alone, NativePart)
        plan._alone = self._alone.of(native)
        plan._parts, plan._whole = [plan._alone], whole
        plan.inputs = _typed(self.inputs, shapes)
        plan.outputs = _typed(self.outputs, outputs)
        plan._empty = {name: (_lengths(kind), kind.dtype) for name, kind in plan.outputs.items()}
        return plan

    def native_parts(self) -> list[NativePart]:
        """Return its parts where all is native, and no output is known or an input; nothing else."""
        all_native = not self._known and not self._passed
        return [part for part in self._parts if all_native and isinstance(part, NativePart)]

    @property
    def told(self) -> NetworkPlan:
        """The plan with all that is told of it: itself, or the same made step by step."""
        if self._whole is None:
            return self
        plan = self._whole()
        self._whole = lambda: plan
        return plan

    @property
    def graph(self) -> Graph:
        """Static and simplified."""
        graph = self.told._graph
        assert graph is not None
        return graph

    @property
    def parts(self) -> list[PlanPart]:
        """What runs, in this order."""
        return self.told._parts

    @property
    def operations(self) -> list[Operation]:
        """What it does, part after part."""
        return [operation for part in self.parts for operation in part.operations]

    @property
    def memory_bytes(self) -> int:
        """Bytes of one call: arenas, scratch memory of all threads, and what lies between parts."""
        between = {name for part in self._parts for name in part.outputs if name not in self.outputs}
        held = sum(_bytes(self.graph.types[name]) for name in between)
        return held + sum(part.memory_bytes(self._threads) for part in self._parts)

    def places(self) -> dict[str, Array]:
        """Return new arrays for the outputs."""
        return {name: np.empty(*place) for name, place in self._empty.items()}

    def run(self, feeds: Sequence[Array], written: Mapping[str, Array], times: Array | None = None) -> None:
        """Run it.

        Parameters
        ----------
        feeds : sequence of ndarray
            The inputs, in order, as native steps take them.
        written : mapping of str to ndarray
            Where each output goes.
        times : ndarray, optional
            Takes the nanoseconds of each operation.
        """
        if self._alone is not None:
            outs = [written[name] for name in self._alone.outputs]
            self._alone.run([feeds[place] for place in self._places], outs, self._threads, times)
        elif self._parts:
            self._run_parts(dict(zip(self.inputs, feeds, strict=True)), written, times)
        for name, array in self._known.items():
            written[name][...] = array
        for name in self._passed:
            written[name][...] = feeds[list(self.inputs).index(name)]

    def _run_parts(
        self, known: dict[str, Array], written: Mapping[str, Array], times: Array | None = None
    ) -> None:
        last = {name: number for number, part in enumerate(self._parts) for name in part.inputs}
        first = 0
        for number, part in enumerate(self._parts):
            for name in part.outputs:
                kind = self.graph.types[name]
                known[name] = written[name] if name in written else np.empty(_lengths(kind), kind.dtype)
            end = first + len(part.operations)
            part.run(
                [known[name] for name in part.inputs],
                [known[name] for name in part.outputs],
                self._threads,
                None if times is None else times[first:end],
            )
            first = end
            for name in {*part.inputs, *part.outputs}:
                if last.get(name, -1) <= number:
                    del known[name]


def _with_values(graph: Graph, settled: Mapping[str, Array]) -> Graph:
    """Return a graph in which some tensors are constants."""
    inputs = {name: kind for name, kind in graph.inputs.items() if name not in settled}
    types = {name: kind for name, kind in graph.types.items() if name not in settled}
    nodes = tuple(node for node in graph.nodes if node.outputs[0] not in settled)
    constants = {**graph.constants, **settled}
    return graph.with_(inputs=inputs, nodes=nodes, constants=constants, types=types)


def _static(graph: Graph, shapes: Mapping[str, tuple[int, ...]], fallback: bool) -> Graph:
    """Return a static graph; what has operations of which nothing is known is an error that lists them."""
    foreign = [(node, node.op) for node in graph.nodes if not is_known(node.op)]
    if not foreign:
        return static(graph, shapes)
    if not fallback:
        others = [(node, node.op) for node in graph.nodes if is_known(node.op) and not may_be_native(node.op)]
        raise UnsupportedOperationsError([*foreign, *others])
    from .fallback import types_in_runtime

    return static(graph, shapes, types_in_runtime)


def _images(
    graph: Graph,
    make: Callable[[Mapping[str, tuple[int, ...]]], Graph],
    store: WeightStore,
    tape: Tape | None,
) -> NativePart | None:
    """Return what runs the images of a batch one by one; None where the batch is run whole."""
    images, one = apart(graph, make)
    if images == 1:
        return None
    try:
        return NativePart(one, store, images, tape)
    except UnsupportedOperationsError:
        return None


def _parts(
    graph: Graph, store: WeightStore, fallback: bool, threads: int, tape: Tape | None = None
) -> list[PlanPart]:
    """Return what computes the outputs of a static graph: nothing where all are known."""
    read = {name for node in graph.nodes for name in node.inputs}
    graph = graph.with_(inputs={name: kind for name, kind in graph.inputs.items() if name in read})
    if not graph.outputs:
        return []
    made = [graph.types[name] for node in graph.nodes for name in node.outputs if name]
    if any(0 in kind.shape for kind in (*graph.inputs.values(), *made)):
        return [EmptyPart(graph)]
    if tape is not None:
        return [NativePart(graph, store, tape=tape)]
    if fallback:
        from .fallback import parts

        return parts(graph, store, threads)
    return with_arrays(graph, store)


def _typed(kinds: Mapping[str, TensorType], shapes: Sequence[tuple[int, ...]]) -> dict[str, TensorType]:
    return {
        name: TensorType(kind.dtype, shape) for (name, kind), shape in zip(kinds.items(), shapes, strict=True)
    }


def _lengths(kind: TensorType) -> tuple[int, ...]:
    return kind.shape  # type: ignore[return-value]  # numbers all


def _bytes(kind: TensorType) -> int:
    return math.prod(_lengths(kind)) * kind.dtype.itemsize


def _type(graph: Graph, name: str) -> TensorType:
    if name in graph.inputs:
        return graph.inputs[name]
    if name in graph.constants:
        array = graph.constants[name]
        return TensorType(array.dtype, array.shape)
    return graph.types[name]
