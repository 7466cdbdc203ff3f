"""What models and parts of them take, measured here in the runtime that they are made for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, cached_property
from typing import Any, Final, Literal, Protocol, TypeAlias

import numpy as np
import onnx
from onnx.onnx_ml_pb2 import ModelProto

from ..._base.types import Array
from ...arrays import arguments
from ...conv.forms.layer import ConvLayer, Replacement
from ...conv.forms.table import UNCHANGED
from ...engine.graph.reader import graph_of
from ...engine.network.compiled import CompiledNetwork
from ...engine.passes import simplified
from ..model.files import Stored
from ..model.names import ModelError
from ..model.runtime import Session, TimedModel, interleaved_ms, layer_ms
from .nodes import ConvNode, Factor
from .rewrite import conv_nodes

__all__ = ["Clock", "LayerTimes", "Runtime", "clock_of", "signature_of"]

Runtime: TypeAlias = Literal["engine", "onnxruntime"]

# Runs of a layer by itself in the engine: as many as fit into so many milliseconds, from the fewest to the
# most.
_REPEATED_MS: Final = 60.0
_FEWEST, _MOST = 6, 30
_BOUTS: Final = 3
_PACE_SECONDS: Final = 0.004  # that runs of the reference take, between two bouts

# Weights of the convolution that tells the machine's pace, and the sizes that it reads: tenths of a
# millisecond, within the caches.
_REFERENCE: Final = (32, 32, 3, 3)
_SIZES: Final = (28, 28)


class Clock(Protocol):
    """Measures what models take in one runtime.

    A machine's speed may change threefold within seconds, and what is compared is not always timed in turn.
    So `alone` and `at_one_pace` time a small convolution beside everything, with its data in the caches, and
    give milliseconds at the pace that it had the first time.
    """

    @property
    def name(self) -> str:
        """The runtime's, as people write it."""

    def alone(self, part: Stored, feeds: Mapping[str, Array]) -> float:
        """Return the least milliseconds of a layer by itself, without what lays out its input and output."""

    def at_one_pace(
        self, models: Sequence[Stored], feeds: Mapping[str, Array], seconds: float | None = None
    ) -> list[float]:
        """Return the least milliseconds of several models, run in turn for so many seconds (0.3)."""

    def together(
        self, models: Sequence[Stored], feeds: Mapping[str, Array], seconds: float | None = None
    ) -> list[float]:
        """Return the same as they are at this moment."""


@cache
def clock_of(runtime: str, threads: int | None) -> Clock:
    """Return what measures times in a runtime; the same one each time."""
    return _EngineClock(threads) if runtime == "engine" else _RuntimeClock(threads)


class LayerTimes:
    """What layers take by themselves, whichever framework they come from; equal ones are timed once.

    Parameters
    ----------
    clock : Clock
    batch : int
        Inputs of a pass.
    """

    def __init__(self, clock: Clock, batch: int) -> None:
        self._clock, self._batch = clock, batch
        self._known: dict[tuple[object, ...], float] = {}

    def milliseconds(self, layer: ConvLayer, new: Replacement | None, linear: bool) -> float:
        """Return the least milliseconds of one call.

        Parameters
        ----------
        layer : ConvLayer
        new : Replacement or None
            What takes its place; None: the layer as it is.
        linear : bool
            Whether it is a product of matrices.

        Returns
        -------
        float
        """
        form = Replacement(UNCHANGED, 0, (layer,), 0.0) if new is None else new
        key = (layer.sizes, linear, *signature_of(form))
        if key not in self._known:
            node = _node_of(layer, linear)
            feeds = {"x": node.example(self._batch, layer)}
            self._known[key] = self._clock.alone(conv_nodes(form, node), feeds)
        return self._known[key]


def signature_of(form: Replacement) -> tuple[object, ...]:
    """Return what the time of a form depends on, beside the sizes that it reads."""
    return (
        form.channels is not None,
        *((c.weights.shape, c.bias is None, c.stride, c.padding, c.dilation, c.groups) for c in form.convs),
    )


def _node_of(layer: ConvLayer, linear: bool) -> ConvNode:
    """Return a layer as a node of float32."""
    operator = "MatMul" if linear else "ConvTranspose" if layer.transposed else "Conv"
    return ConvNode(
        name=layer.name,
        operator=operator,
        node=0,
        folded=(),
        reads="x",
        gives="y",
        weights=layer.weights,
        bias=layer.bias,
        dtype="float32",
        sources=(),
        stride=layer.stride,
        dilation=layer.dilation,
        pads=layer.padding,
        groups=layer.groups,
        factor=Factor() if linear else None,
    )


class _PacedClock(ABC):
    """A clock of some threads, and the small convolution that tells the machine's pace."""

    def __init__(self, threads: int | None) -> None:
        self._threads = threads
        self._first: float | None = None

    @abstractmethod
    def _ready(self, model: Stored, feeds: Mapping[str, Array]) -> TimedModel:
        """Return a model ready to run."""

    @abstractmethod
    def _alone(self, part: Stored, feeds: Mapping[str, Array]) -> Iterator[float]:
        """Yield the least milliseconds of a layer by itself, of one bout of runs after the other."""

    def alone(self, part: Stored, feeds: Mapping[str, Array]) -> float:
        paces, times = [self._now()], []
        for milliseconds in self._alone(part, feeds):
            times.append(milliseconds)
            paces.append(self._now())
        return min(times) * self._scale(min(paces))

    def at_one_pace(
        self, models: Sequence[Stored], feeds: Mapping[str, Array], seconds: float | None = None
    ) -> list[float]:
        ready = [self._ready(model, feeds) for model in models]
        # Twice: the first call finds the caches full of the models, which doubled its time (measured).
        _, pace, *times = interleaved_ms([self._reference, self._reference, *ready], feeds, seconds)
        return [self._scale(pace) * milliseconds for milliseconds in times]

    def together(
        self, models: Sequence[Stored], feeds: Mapping[str, Array], seconds: float | None = None
    ) -> list[float]:
        ready = [self._ready(model, feeds) for model in models]
        # Each twice, and the second call counts: the first finds the caches full of another model, and a
        # network is called again and again where it is used.
        return interleaved_ms([model for model in ready for _ in range(2)], feeds, seconds)[1::2]

    @cached_property
    def _reference(self) -> TimedModel:
        random = np.random.default_rng(0)
        weights = random.standard_normal(_REFERENCE) / 16
        layer = ConvLayer("reference", weights, padding=((1, 1), (1, 1)), sizes=_SIZES)
        form = Replacement(UNCHANGED, 0, (layer,), 0.0)
        feeds = {"x": random.standard_normal((1, layer.c_in, *_SIZES)).astype(np.float32)}
        return _Reference(self._ready(conv_nodes(form, _node_of(layer, False)), feeds), feeds)

    def _now(self) -> float:
        return interleaved_ms([self._reference], {}, _PACE_SECONDS)[0]

    def _scale(self, pace: float) -> float:
        """Return the first pace over that of now."""
        if self._first is None:
            self._first = pace
        return self._first / pace if pace else 1.0  # too short for the clock


class _Reference(TimedModel):
    """A model that reads its own inputs, whatever others are fed."""

    def __init__(self, ready: TimedModel, feeds: Mapping[str, Array]) -> None:
        self.threads = ready.threads
        self._ready, self._feeds = ready, feeds

    def __call__(self, feeds: Mapping[str, Array]) -> Any:
        return self._ready(self._feeds)


class _RuntimeClock(_PacedClock):
    """Times in ONNX Runtime."""

    name = "ONNX Runtime"

    def _ready(self, model: Stored, feeds: Mapping[str, Array]) -> TimedModel:
        return Session(model, self._threads)

    def _alone(self, part: Stored, feeds: Mapping[str, Array]) -> Iterator[float]:
        yield layer_ms(part, feeds, self._threads)


class _EngineClock(_PacedClock):
    """Times in the engine; what it does not run it leaves to ONNX Runtime."""

    name = "the engine"

    def __init__(self, threads: int | None) -> None:
        super().__init__(threads)
        self._engine_threads = arguments.thread_count(threads)

    def _ready(self, model: Stored, feeds: Mapping[str, Array]) -> TimedModel:
        return _EngineSession(model, feeds, self._engine_threads)

    def _alone(self, part: Stored, feeds: Mapping[str, Array]) -> Iterator[float]:
        network, given = _network(part, feeds, self._engine_threads), dict(feeds)
        once = network.measured(given, 1).total_ms
        runs = min(max(int(_REPEATED_MS / max(once, 1e-3)), _FEWEST), _MOST)
        for _ in range(_BOUTS):
            steps = network.measured(given, -(-runs // _BOUTS)).steps
            computing = [step for step in steps if step.macs]
            yield sum(step.measured_ms or 0.0 for step in computing or steps)


class _EngineSession(TimedModel):
    """A model in the engine, which writes its outputs to the same arrays each time."""

    def __init__(self, stored: Stored, feeds: Mapping[str, Array], threads: int) -> None:
        self.threads: int | None = threads
        self._program = _network(stored, feeds, threads)
        self._results: dict[str, Array] | None = None

    def __call__(self, feeds: Mapping[str, Array]) -> Any:
        given = {name: feeds[name] for name in self._program.inputs}
        results = self._program(given, out=self._results)
        if self._results is None:
            names = self._program.outputs
            self._results = results if isinstance(results, dict) else {names[0]: results}
        return results


def _network(stored: Stored, feeds: Mapping[str, Array], threads: int) -> CompiledNetwork:
    """Return what runs a model, or a part of one, whose inputs may not say their shapes."""
    model = ModelProto()
    model.CopyFrom(stored.proto)
    for entry in model.graph.input:
        array = feeds[entry.name]
        element = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
        entry.CopyFrom(onnx.helper.make_tensor_value_info(entry.name, element, array.shape))
    try:
        read = graph_of(Stored(model, stored.tensors))
        return CompiledNetwork(read, simplified(read), source=None, threads=threads, fallback=True)
    except ValueError as error:
        raise ModelError(f"the engine does not run it: {error}") from error
