"""A network that is read, simplified and ready to run: what `Program` is, without its tables and pages."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from ..._base.types import Array
from ...files.guard import FileError
from ...onnx.model.names import ModelError, naming
from ..graph.decisions import decisions
from ..graph.ir import Graph, TensorType
from ..graph.static import static
from ..passes import PassMemory, trace
from ..program.plan import UnsupportedOperationsError
from ..program.weights import WeightStore
from .arrays import Targets, feeds_of, lengths_of, shown
from .plan import NetworkPlan
from .plan_cache import MOST_PLANS, PlanCache, Shapes, Values
from .recordings import Recordings
from .records import PrecisionRecord, ProfileRecord, StepRecord, step_records

__all__ = ["CompiledNetwork"]

_WARM_UP: Final = 2
_SEED: Final = 0


class CompiledNetwork:
    """A network as one native program for each shape of its inputs.

    Parameters
    ----------
    read : Graph
        As it was read.
    graph : Graph
        The same, simplified.
    source : path-like or None
        The file, for messages; None for a model in memory.
    threads : int
    fallback : bool
        Whether ONNX Runtime runs what the engine does not.
    shapes : mapping of str to tuple of int, optional
        Of the inputs: what is planned at once, and what is printed.
    plans : int, optional
        That are kept.
    precision : PrecisionRecord, optional
        What `graph` lost in fewer bits; by default it is in float32.
    """

    def __init__(
        self,
        read: Graph,
        graph: Graph,
        *,
        source: Any = None,
        threads: int = 1,
        fallback: bool = False,
        shapes: Mapping[str, tuple[int, ...]] | None = None,
        plans: int = MOST_PLANS,
        precision: PrecisionRecord | None = None,
    ) -> None:
        self._precision = precision
        self._read, self._graph, self._source = read, graph, source
        self._threads, self._fallback = threads, fallback
        self._shapes = shapes
        self._decisions = decisions(graph)
        # Of the latest call: what its plan was made for, and the inputs that this came from.
        self._values: Values | None = None if self._decisions.tensors else ()
        self._deciding: dict[str, Array] = {}
        self._store = WeightStore()
        self._memory: PassMemory = {}
        self._recordings = Recordings(graph, self._store, threads, self._memory, self._made, plans)
        self._plans = PlanCache(self._planned, self._store, plans)
        self._times: dict[NetworkPlan, Array] = {}

    @property
    def name(self) -> str:
        """Name of the network, as the model has it."""
        return self._graph.name

    @property
    def inputs(self) -> Mapping[str, TensorType]:
        """What a call takes, by name: dtype and shape, in which open lengths have names."""
        return MappingProxyType(self._graph.inputs)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of what a call gives."""
        return tuple(dict.fromkeys(self._graph.outputs))

    @property
    def nodes_read(self) -> int:
        """Nodes of the network as it was read."""
        return len(self._read.nodes)

    @property
    def precision(self) -> PrecisionRecord | None:
        """What was asked for instead of float32, with its error; None where the model runs as it is."""
        return self._precision

    @property
    def depends_on_values(self) -> bool:
        """Whether values of inputs decide what runs, by shapes or an If: nothing is planned before a call."""
        return bool(self._decisions.tensors)

    @property
    def threads(self) -> int:
        """Threads that a call may use."""
        return self._threads

    @property
    def weights_bytes(self) -> int:
        """Bytes of the packed weights, which all plans share."""
        return self._store.nbytes

    # -- running -----------------------------------------------------------------------------------------

    def __call__(self, x: Any = None, *, out: Any = None) -> Any:
        """Run the network.

        Parameters
        ----------
        x : array_like, or mapping of str to array_like
            The input, or all inputs by name. Float32; half precision is widened, nothing else is cast.
            Arrays that are not C-contiguous are copied; none is changed.
        out : ndarray, or sequence or mapping of ndarray, optional
            Where the outputs go, of their dtype and shape. An array that overlaps an input, or is not
            C-contiguous, is written at the end.

        Returns
        -------
        ndarray or dict of str to ndarray
            The output; all of them by name where there are several.

        Raises
        ------
        TypeError, ValueError
            If an array is not what the network takes or gives.

        Notes
        -----
        Several threads may call one program at once. The results are the same, bit for bit, for any number of
        threads. What is planned for each shape of the inputs is kept: the last 16 plans (`plans` of
        `separable.engine.load`), or 1 GiB of them.
        """
        feeds = feeds_of(self._graph.inputs, {} if x is None and not self._graph.inputs else x)
        plan = self._plan_of(feeds)
        targets = None if out is None else Targets(plan.outputs, out, feeds)
        results = plan.places() if targets is None else targets.written
        try:
            plan.run(feeds, results)
        except ModelError:
            with naming(self._source):
                raise
        if targets is not None:
            results = targets.finish()
        return next(iter(results.values())) if len(results) == 1 else results

    def _plan_of(self, feeds: list[Array]) -> NetworkPlan:
        values: Values = ()
        if self._decisions.tensors:
            values = self._decided(dict(zip(self._graph.inputs, feeds, strict=True)))
        return self._plans.get(tuple([array.shape for array in feeds]), values)

    def _decided(self, given: Mapping[str, Array]) -> Values:
        """Return the values that a call's plan is made for."""
        try:
            made = self._decisions.values(given)
        except ModelError:
            with naming(self._source):
                raise
        values = tuple(
            [(name, array.dtype.str, array.shape, array.tobytes()) for name, array in made.items()]
        )
        self._values = values
        self._deciding = {name: given[name].copy() for name in self._decisions.inputs}
        return values

    def _planned(self, given: Shapes, values: Values) -> NetworkPlan:
        lengths_of(self._graph.inputs, given)
        shapes = dict(zip(self._graph.inputs, given, strict=True))
        settled = {name: np.frombuffer(data, kind).reshape(shape) for name, kind, shape, data in values}
        if not values and not self._fallback:
            plan = self._recordings.plan(given)
            if plan is not None:
                return plan
        try:
            with naming(self._source):
                return self._made(shapes, settled)
        except (FileError, ValueError) as error:
            if isinstance(error.__cause__, UnsupportedOperationsError):
                model = "`path_or_model`" if self._source is None else f"`{os.fspath(self._source)}`"
                raise error.__cause__.of(model) from None
            raise

    def _made(
        self, shapes: Mapping[str, tuple[int, ...]], settled: Mapping[str, Array] | None = None
    ) -> NetworkPlan:
        return NetworkPlan(
            self._graph,
            shapes,
            self._store,
            fallback=self._fallback,
            threads=self._threads,
            settled=settled,
            memory=self._memory,
        )

    def forget_shapes(self) -> None:
        """Plan for the shapes of the first call, not for those that were assumed."""
        self._shapes = None

    # -- what it costs -----------------------------------------------------------------------------------

    def plan(self, shapes: Mapping[str, tuple[int, ...]] | None = None) -> NetworkPlan:
        """Return what runs for inputs of some shapes.

        Parameters
        ----------
        shapes : mapping of str to tuple of int, optional
            By default those used last, or those of when it was loaded.

        Returns
        -------
        NetworkPlan

        Raises
        ------
        ValueError
            If lengths are open and nothing says them.
        """
        if shapes is None:
            latest = self._plans.latest()
            if latest is not None:
                return latest
            shapes = self._shapes
        if shapes is None:
            said = "; ".join(f"`{name}` {shown(kind.shape)}" for name, kind in self._graph.inputs.items())
            raise ValueError(f"`shapes` is missing: the inputs have open lengths, {said}; give their shapes.")
        if shapes.keys() != self._graph.inputs.keys():
            names = _quoted(self._graph.inputs)
            raise ValueError(f"`shapes` has to name each input once; these are {names}.")
        if self._values is None:
            raise ValueError(
                f"what runs depends on the values of {_quoted(self._decisions.inputs)}; "
                "call the program once."
            )
        return self._plans.get(tuple(tuple(shapes[name]) for name in self._graph.inputs), self._values)

    def plan_for(self, shapes: Any = None) -> NetworkPlan:
        """Return the same, where there may be one shape for the only input."""
        return self.plan(self._named(shapes))

    def memory(self, shapes: Any = None) -> int:
        """Return the bytes of one call, before the first one: arena, and scratch memory of all threads.

        Parameters
        ----------
        shapes : mapping of str to tuple of int, or tuple of int, optional
            Of the inputs, or of the only one. By default those used last, or those of when it was loaded.

        Returns
        -------
        int
            Without inputs and outputs, and without the weights (`weights_bytes`).
        """
        return self.plan_for(shapes).memory_bytes

    def _named(self, shapes: Any) -> Mapping[str, tuple[int, ...]] | None:
        if shapes is None or isinstance(shapes, Mapping):
            return shapes
        return {next(iter(self._graph.inputs)): tuple(shapes)}

    def steps(self, shapes: Any = None) -> tuple[StepRecord, ...]:
        """Return what runs, step by step: what was fused, shapes, costs, predicted and measured times.

        Parameters
        ----------
        shapes : mapping of str to tuple of int, or tuple of int, optional
            As for `memory`.

        Returns
        -------
        tuple of StepRecord
        """
        plan = self.plan_for(shapes)
        return step_records(plan, self._threads, self._times.get(plan))

    def trace(self, shapes: Any = None) -> Iterator[tuple[str, Graph]]:
        """Yield the network as it was read, and after each pass that changed it; print them.

        Parameters
        ----------
        shapes : mapping of str to tuple of int, or tuple of int, optional
            As for `memory`. Where nothing says them, passes end while lengths are open.

        Yields
        ------
        name : str
            Of the pass; "given" at first, "static" once all shapes are known.
        graph : Graph
        """
        with naming(self._source):
            for name, graph in trace(self._read):
                yield name, graph
            try:
                plan = self.plan_for(shapes)
            except (ModelError, ValueError):
                return
            known = static(graph, {name: _lengths(kind) for name, kind in plan.inputs.items()})
            for name, state in trace(known):
                yield ("static" if name == "given" else name), state

    def measured(self, x: Any = None, repeat: int = 20) -> ProfileRecord:
        """Time each step, and return what came of it; see `Program.profile`."""
        if repeat < 1:
            raise ValueError(f"`repeat={repeat}` is too few; expected at least 1.")
        feeds = self._random_feeds(self.plan()) if x is None else feeds_of(self._graph.inputs, x)
        plan = self._plan_of(feeds)
        written = plan.places()
        for _ in range(_WARM_UP):
            plan.run(feeds, written)
        times = np.zeros((repeat, len(plan.operations)), np.int64)
        whole = []
        for row in times:
            start = time.perf_counter()
            plan.run(feeds, written, row)
            whole.append(1e3 * (time.perf_counter() - start))
        best = times.min(axis=0) if self._threads == 1 else _least(times)
        self._times = {plan: best}
        from ...conv.audits.machine import this_machine

        return ProfileRecord(
            self.name,
            tuple((name, _lengths(kind)) for name, kind in plan.inputs.items()),
            step_records(plan, self._threads, best),
            min(whole),
            float(np.median(whole)),
            repeat,
            self._threads,
            this_machine(self._threads).peak_flops / 1e9,
            plan.memory_bytes,
        )

    def _random_feeds(self, plan: NetworkPlan) -> list[Array]:
        random = np.random.default_rng(_SEED)
        given = self._deciding
        return [
            given[name]
            if name in given
            else random.standard_normal(_lengths(kind)).astype(kind.dtype)
            if kind.dtype.kind == "f"
            else np.zeros(_lengths(kind), kind.dtype)
            for name, kind in plan.inputs.items()
        ]


def _least(times: Array) -> Array:
    """Return the least of the times of each step, but for those that are far below the others.

    The clock is that of one thread: where that slept, others may have done the step meanwhile.
    """
    usual = np.quantile(times, 0.25, axis=0)  # on a busy machine most runs are interrupted
    return np.asarray(np.where(times < usual / 4, np.iinfo(np.int64).max, times).min(axis=0))


def _lengths(kind: TensorType) -> tuple[int, ...]:
    return tuple(int(length) for length in kind.shape)


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
