"""An ONNX model as the conversion sees it: its layers, what they read and give, what they cost in time."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence, Set
from typing import Final, TypeAlias

import numpy as np

from ..._base.types import Array
from ...conv.audits.records import Refused
from ...conv.conversion.network import CalibratedNetwork, DataPart, DataParts, LayerCall, Outputs
from ...conv.forms.layer import ConvLayer, Replacement
from ...conv.forms.table import UNCHANGED
from ...conv.scores.judge import Answers
from ..costs.rules import count
from ..model.files import Stored
from ..model.graph import GraphIndex
from ..model.names import ModelError
from ..model.runtime import Session, giving, shapes_of
from .calibration import OnnxCalibration
from .nodes import ConvNode
from .outcomes import judged_by
from .replay import Walk
from .rewrite import Change, changed, conv_nodes
from .surroundings import around, holding, lengths_among, signature
from .times import Clock, clock_of, signature_of
from .trace import find_layers

__all__ = ["OnnxNetwork"]

Values: TypeAlias = Mapping[str, Array]
Sample: TypeAlias = tuple[Array, ...]

# Seconds that a part of the model is timed in each form, and the machine's pace twice, all in turn.
_RUN_SECONDS: Final = 0.015

# Seconds for each of several whole models, in turn.
_WHOLE_SECONDS: Final = 0.15

# No form takes less than this fraction of what its multiply-accumulates take at the layer's rate: a time that
# is left of two others' difference, and is less, is the clock's noise.
_LEAST: Final = 0.4

# Milliseconds from which on a layer is timed by itself in every form: what its neighbours gain or lose by
# them is small beside that, and takes long to find.
_LONG: Final = 5.0


class OnnxNetwork(CalibratedNetwork):
    """A model and its calibration inputs, for `separable.conv.convert`.

    Parameters
    ----------
    stored : Stored
    calibration : OnnxCalibration
    threads : int, optional
        Of ONNX Runtime.
    memory : int, optional
        Bytes of tensors that may be kept to save running the model again.
    skipped : callable, optional
        Whether the node of a name is to stay as it is.
    spared : str, optional
        Why products of matrices stay as they are; empty: they do not.
    validation : OnnxCalibration, optional
        Inputs that scores are of; by default the calibration inputs that are held out.
    clock : Clock, optional
        Measures times. By default in the engine.
    batch : int, optional
        Inputs that a timed pass is of, where the model leaves that open.

    Attributes
    ----------
    refused : list of Refused
        The layers that stay as they are, whatever the budget.
    """

    def __init__(
        self,
        stored: Stored,
        calibration: OnnxCalibration,
        threads: int | None = None,
        memory: int = 1 << 30,
        skipped: Callable[[str], bool] = lambda name: False,
        spared: str = "",
        validation: OnnxCalibration | None = None,
        clock: Clock | None = None,
        batch: int = 1,
    ) -> None:
        self._stored = stored
        self._graph = GraphIndex(stored)
        # Two models are walked at a time, the original and what it has become; each holds its state twice
        # while it is made anew.
        self._walked = [Walk(memory // 4, threads) for _ in range(2)]
        self._calibration, self._validation = calibration, validation
        self._threads = threads
        self._rows_are_apart: bool | None = None
        everything, self.refused = find_layers(stored)
        kept = [(node, spared if node.factor is not None else "") for node in everything]
        kept = [(node, "to be skipped" if skipped(node.name) else reason) for node, reason in kept]
        nodes = [node for node, reason in kept if not reason]
        self.refused += [Refused(node.name, node.operator, reason) for node, reason in kept if reason]
        sizes = self._sizes(nodes)
        self._groups = _groups(nodes, sizes)
        layers = [
            max((node.layer(sizes[node.name], len(group)) for node in group), key=lambda layer: layer.macs)
            for group in self._groups
        ]
        inputs = [_inputs_of(batch) for batch in calibration]
        parts = DataParts(inputs, [self._is_divisible(batch) for batch in calibration])
        super().__init__(layers, parts, validation is not None)
        self._padding = {node.name: node.padding(sizes[node.name]) for node in nodes}
        self._memory = memory
        self._answers: dict[DataPart, Values] = {}
        self._answer_room = memory // 4
        self._clock = clock_of("engine", threads) if clock is None else clock
        self._batch = batch
        self._outputs = judged_by(stored, self._graph, [node.gives for node in nodes], self._seen)
        self._times: dict[tuple[object, ...], float] = {}
        self._parts_times: dict[tuple[object, ...], float] = {}
        self._ratios: dict[tuple[object, object], float] = {}
        self._timed: tuple[int, list[str], dict[str, Array]] | None = None

    @property
    def measured(self) -> tuple[str, ...]:
        """The tensors that `output_change` is of, where they are not outputs of the model."""
        return tuple(name for name in self._outputs if name not in self._graph.outputs)

    def calls_of(
        self, index: int, replaced: Mapping[int, Replacement], parts: Sequence[DataPart]
    ) -> Iterator[tuple[DataPart, LayerCall]]:
        """Yield each call of a layer, one for each of its nodes, with the part of the data.

        Parameters
        ----------
        index : int
        replaced : mapping of int to Replacement
        parts : sequence of DataPart

        Yields
        ------
        part : DataPart
        call : LayerCall
        """
        group = self._groups[index]
        beside = [node.beside for node in group if node.beside]
        before = [*(node.reads for node in group), *beside]
        after = [*(node.gives for node in group), *beside]
        place = group[0].node
        stop = self._stored.proto.graph.node[place].output[0]
        original, current = self._walked
        pairs: Iterable[tuple[tuple[DataPart, Values], tuple[DataPart, Values]]]
        if replaced:
            changed, places = self.converted(replaced), self._places(replaced)
            pairs = zip(
                original.tensors(self._stored, after, stop, place, self._read(parts)),
                current.tensors(changed, before, stop, place, self._read(parts), places),
                strict=True,
            )
        else:
            walk = original.tensors(self._stored, [*before, *after], stop, place, self._read(parts))
            pairs = ((entry, entry) for entry in walk)
        for (part, old), (_, new) in pairs:
            for node in group:
                self._check_padding(node, new[node.reads].shape[2:])
                yield part, _call_of(node, old, new)

    def visit_calls(
        self, wanted: Mapping[int, Sequence[DataPart]], tell: Callable[[DataPart, int, LayerCall], None]
    ) -> None:
        """Tell each call of some layers of the original, each on its parts of the data, in one pass.

        Parameters
        ----------
        wanted : mapping of int to sequence of DataPart
        tell : callable
        """
        graph = self._stored.proto.graph
        for layers in self._runs(sorted(wanted, key=lambda index: self._groups[index][0].node), wanted):
            nodes = [node for index in layers for node in self._groups[index]]
            names = [name for node in nodes for name in (node.reads, node.gives, node.beside) if name]
            # Where the last of them stands: the next layers are behind it.
            place = self._groups[layers[-1]][0].node
            of_part = {index: set(wanted[index]) for index in layers}
            parts = [part for part in self._parts.fitted if any(part in some for some in of_part.values())]
            walk = self._walked[0].tensors(
                self._stored, names, graph.node[place].output[0], place, self._read(parts)
            )
            for part, values in walk:
                for index in layers:
                    for node in self._groups[index] if part in of_part[index] else ():
                        self._check_padding(node, values[node.reads].shape[2:])
                        tell(part, index, _call_of(node, values, values))

    def _runs(self, layers: Sequence[int], wanted: Mapping[int, Sequence[DataPart]]) -> list[list[int]]:
        """Return the layers in runs whose tensors fit into memory together, of one part of the data."""
        inputs = max(self._parts.count(part) for parts in wanted.values() for part in parts)
        runs: list[list[int]] = []
        room = 0
        for index in layers:
            layer = self._layers[index]
            read, given = layer.c_in * math.prod(layer.sizes), layer.c_out * math.prod(layer.out_sizes)
            needed = 4 * inputs * layer.calls * (read + 2 * given)
            if not runs or needed > room:
                runs.append([])
                room = self._memory // 4
            runs[-1].append(index)
            room -= needed
        return runs

    def _read(self, parts: Sequence[DataPart]) -> Iterator[tuple[DataPart, Values]]:
        """Yield some parts of the data with what the model is given, in the order of the data."""
        of_batch: dict[int, list[DataPart]] = {}
        for part in parts:
            of_batch.setdefault(part.number, []).append(part)
        for number, batch in enumerate(self._calibration):
            for part in of_batch.get(number, ()):
                yield part, batch if part.rows is None else _rows_of(batch, part.rows)

    def _is_divisible(self, batch: Values) -> bool:
        """Return whether an input gives the same whatever others run with it: two of them do."""
        if self._calibration.fixed or len({len(array) if array.ndim else 0 for array in batch.values()}) > 1:
            return False
        if self._rows_are_apart is None:
            names = self._graph.outputs
            session = Session(giving(self._stored, sorted(names)), self._threads)
            try:
                both, one = (session(_rows_of(batch, rows)) for rows in ((0, -1), (-1,)))
            except (ModelError, TypeError, ValueError):  # it does not run on fewer, or gives no tensors
                return False
            self._rows_are_apart = all(
                np.shape(both[name])[:1] == (2 * len(one[name]),)
                and bool(np.allclose(both[name][len(one[name]) :], one[name], rtol=1e-3, atol=1e-5))
                for name in names
            )
        return self._rows_are_apart

    def _check_padding(self, node: ConvNode, sizes: tuple[int, ...]) -> None:
        if node.pads is None and node.padding(sizes) != self._padding[node.name]:
            raise ValueError(
                f"{node.operator} `{node.name}` pads by the size of its input "
                f"(auto_pad={node.auto_pad}), and "
                "`calibration` has inputs of different sizes; pass inputs of one size."
            )

    def _places(self, replaced: Mapping[int, Replacement]) -> dict[int, Replacement]:
        """Return where in the original each change begins."""
        return {self._groups[index][0].node: new for index, new in replaced.items()}

    def outputs_with(
        self, replaced: Mapping[int, Replacement], parts: Sequence[DataPart], measured: Set[DataPart]
    ) -> Iterator[Outputs]:
        """Yield the outputs on each part: the original's, and those with some layers in their new form.

        For outputs that hold whole numbers, such as labels, stands what they are chosen by.

        Parameters
        ----------
        replaced : mapping of int to Replacement
        parts : sequence of DataPart
        measured : set of DataPart
            Those that the loss is measured on.

        Yields
        ------
        before, after : dict of str to ndarray
            `after` is None where the loss is not measured.
        """
        names = self._outputs
        converted, places = self.converted(replaced), self._places(replaced)
        # What runs before the first change is the same as in the original.
        walk = next(
            (walk for walk in self._walked if any(walk.stands(part, places) for part in parts)),
            self._walked[0],
        )
        changed = walk.outputs(
            converted, names, self._read([part for part in parts if part in measured]), places
        )
        originals = self._original_outputs(names, parts)
        for part, old in zip(sorted(parts, key=lambda part: part.number), originals, strict=True):
            before: dict[Hashable, Array] = {name: np.asarray(old[name]) for name in names}
            now = next(changed) if part in measured else None
            yield before, None if now is None else {name: np.asarray(now[name]) for name in names}

    def answers(self, replaced: Mapping[int, Replacement]) -> Iterator[Answers]:
        """Yield all outputs of the batches that are scored.

        Parameters
        ----------
        replaced : mapping of int to Replacement

        Yields
        ------
        inputs : int
        rows : sequence of int
            Which of them are scored.
        before, after : dict of str to ndarray
        """
        models = [Session(stored, self._threads) for stored in (self._stored, self.converted(replaced))]
        for number, feeds in enumerate(self._validation or self._calibration):
            inputs = _inputs_of(feeds)
            rows = self.scored(number, inputs)
            before, after = (model(feeds) if rows else {} for model in models)
            yield inputs, rows, before, after

    def _original_outputs(self, names: Sequence[str], parts: Sequence[DataPart]) -> Iterator[Values]:
        """Yield the original's outputs, kept from the first time on as long as they are small enough."""
        unknown = [part for part in parts if part not in self._answers]
        made = self._walked[0].outputs(self._stored, names, self._read(unknown), {})
        for part in sorted(parts, key=lambda part: part.number):
            values = self._answers.get(part)
            if values is None:
                values = {name: v for name, v in next(made).items() if name in names}
                size = sum(np.asarray(value).nbytes for value in values.values())
                if size <= self._answer_room:
                    self._answers[part] = values
                    self._answer_room -= size
            yield values

    def milliseconds(self, index: int, replacement: Replacement | None) -> float:
        """Return the time of a layer in one form in the chosen runtime, all calls of one pass.

        As it is: the least of runs by itself, and in any form where that is long. Else in another form: that,
        and the difference which the form makes to the part of the model from the convolutions before it to
        those behind it, because fusion and the order of channels between nodes are matters of both sides.

        Parameters
        ----------
        index : int
        replacement : Replacement or None
            None: the layer as it is.

        Returns
        -------
        float
        """
        if replacement is not None:
            return self.milliseconds_of(index, [replacement])[0]
        layer = self._layers[index]
        return self._milliseconds_alone(layer, self._groups[index][0]) * layer.calls

    def milliseconds_of(self, index: int, replacements: Sequence[Replacement]) -> list[float]:
        """Return the same of several forms of a layer, run in turn: what it is compared with runs once."""
        layer, node = self._layers[index], self._groups[index][0]
        dense = self._milliseconds_alone(layer, node)
        if not replacements or dense >= _LONG:
            return [self._milliseconds_alone(layer, node, new) * layer.calls for new in replacements]
        whole, ratios = self._timed_within(index, replacements)
        # By their ratio, in which a moment when all was slow does not show as it does in their difference.
        return [
            max(dense + whole * (ratio - 1), _LEAST * min(new.macs / layer.macs, 1.0) * dense) * layer.calls
            for new, ratio in zip(replacements, ratios, strict=True)
        ]

    def _timed_within(self, index: int, replacements: Sequence[Replacement]) -> tuple[float, list[float]]:
        """Return the time of the part of the model around a layer, and by what its forms multiply it."""
        if self._timed is None or self._timed[0] != index:  # the forms of a layer are timed in a row
            inputs, ends = around(self._graph, self._groups[index][0])
            self._timed = index, ends, self._seen(inputs)
        _, outputs, seen = self._timed
        lengths = lengths_among(self._graph, seen)
        feeds = {name: values for name, values in seen.items() if name not in lengths}

        def part(stored: Stored) -> Stored:
            return holding(giving(stored, outputs, seen), lengths)

        before = part(self._stored)
        key = signature(before, feeds)
        parts = [part(self.converted({index: new})) for new in replacements]
        keys = [(key, signature(after, feeds)) for after in parts]
        unknown = {pair: after for pair, after in zip(keys, parts, strict=True) if pair not in self._ratios}
        if key not in self._parts_times:
            (self._parts_times[key],) = self._clock.at_one_pace([before], feeds, _RUN_SECONDS * 3)
        if unknown:
            models = [before, *unknown.values()]
            now, *then = self._clock.at_one_pace(models, feeds, _RUN_SECONDS * (2 + len(models)))
            for pair, milliseconds in zip(unknown, then, strict=True):
                self._ratios[pair] = milliseconds / now if now else 1.0  # too short for the clock
            self._parts_times[key] = min(self._parts_times[key], now)
        return self._parts_times[key], [self._ratios[pair] for pair in keys]

    def _milliseconds_alone(self, layer: ConvLayer, node: ConvNode, new: Replacement | None = None) -> float:
        form = Replacement(UNCHANGED, 0, (layer,), 0.0) if new is None else new
        key = (node.dtype, layer.sizes, *signature_of(form))
        if key not in self._times:
            batch = len(next(iter(self._timed_inputs().values())))
            part = conv_nodes(form, node)
            self._times[key] = self._clock.alone(part, {"x": node.example(batch, layer)})
        return self._times[key]

    def _seen(self, names: Sequence[str]) -> dict[str, Array]:
        """Return what tensors hold when the original runs on the inputs that times are of."""
        feeds = self._timed_inputs()
        inner = [name for name in names if name not in feeds]
        known = {name: feeds[name] for name in names if name in feeds}
        if inner:
            known |= Session(giving(self._stored, inner), self._threads)(feeds)
        return known

    def whole_milliseconds(self, *replaced: Mapping[int, Replacement]) -> list[float]:
        """Return the least times of the original, and of the model with each of these; runs interleaved."""
        models = [self._stored, *map(self.converted, replaced)]
        return self._clock.together(models, self._timed_inputs(), _WHOLE_SECONDS * len(models))

    @property
    def clock(self) -> Clock:
        """What measures times."""
        return self._clock

    def other_milliseconds(self) -> float:
        """Return what the original takes beside its layers."""
        (whole,) = self._clock.at_one_pace([self._stored], self._timed_inputs())
        return max(whole - sum(self.milliseconds(index, None) for index in range(len(self._layers))), 0.0)

    def _timed_inputs(self) -> dict[str, Array]:
        """Return one calibration input, as often as the timed batch asks for and the model allows."""
        return self._calibration.repeated(self._batch)

    def converted(self, replaced: Mapping[int, Replacement]) -> Stored:
        """Return the model with some layers in their new form."""
        changes: list[Change] = [(self._groups[index], new) for index, new in sorted(replaced.items())]
        return changed(self._stored, changes) if changes else self._stored

    def _sizes(self, nodes: Sequence[ConvNode]) -> dict[str, tuple[int, ...]]:
        """Return the spatial sizes that each layer reads, of the first calibration input.

        Of a product of matrices it is the rows for each input: these may all lie along the first axis.
        """
        feeds = self._calibration.one()
        shapes = {name: array.shape for name, array in feeds.items()}
        inner = list(dict.fromkeys(node.reads for node in nodes if node.reads not in shapes))
        if inner:
            shapes.update(shapes_of(self._stored, inner, feeds, self._threads))
        batch = max(len(next(iter(feeds.values()))), 1) if feeds else 1
        return {node.name: _sizes_of(node, tuple(shapes[node.reads]), batch) for node in nodes}

    def other_costs(self) -> dict[str, tuple[int, int]]:
        """Return MACs, for one input sample, and parameters of the layers that cannot be converted."""
        names = {refused.name for refused in self.refused}
        feeds = self._calibration.one()
        batch = max(len(next(iter(feeds.values()))), 1)
        return {
            layer.name: (layer.macs // batch, layer.params)
            for layer in count(self._stored, feeds, self._threads).layers
            if layer.name in names
        }


def _inputs_of(batch: Values) -> int:
    return next((len(array) for array in batch.values() if array.ndim), 0)


def _call_of(node: ConvNode, old: Values, new: Values) -> LayerCall:
    """Return one call of a node, given what tensors held in the original and what they hold now."""
    given, x = old[node.gives], node.channels_second(new[node.reads], True)
    y = node.channels_second(given, False)
    if node.beside is None or old[node.beside].shape != given.shape:
        return LayerCall(x, y)
    beside, now = (node.channels_second(values[node.beside], False) for values in (old, new))
    return LayerCall(x, y, beside, now, node.activation is not None)


def _sizes_of(node: ConvNode, shape: tuple[int, ...], batch: int) -> tuple[int, ...]:
    count, _, *sizes = node.shape_of(shape)
    return tuple(sizes) if node.factor is None else (max(count * sizes[0] // batch, 1),)


def _rows_of(batch: Values, rows: Sequence[int]) -> dict[str, Array]:
    return {name: array[list(rows)] for name, array in batch.items()}


def _groups(nodes: Sequence[ConvNode], sizes: Mapping[str, tuple[int, ...]]) -> list[list[ConvNode]]:
    """Return the nodes that run the same weights in the same way, each group where its first node runs.

    Each has its own copy of the nodes that make weights of one constant, such as a Transpose: constants that
    are written are compared by name, and what comes of them by value.
    """
    groups: dict[tuple[object, ...], list[list[ConvNode]]] = {}
    for node in nodes:
        way = (node.stride, node.dilation, node.padding(sizes[node.name]), node.groups, node.dtype)
        kind = (node.operator, node.factor, node.sources, node.weights.shape, *way)
        alike = groups.setdefault(kind, [])
        same = next((group for group in alike if _same_values(group[0], node)), None)
        if same is None:
            alike.append([node])
        else:
            same.append(node)
    return sorted((group for alike in groups.values() for group in alike), key=lambda group: group[0].node)


def _same_values(one: ConvNode, other: ConvNode) -> bool:
    if (one.bias is None) != (other.bias is None):
        return False
    bias = one.bias is None or other.bias is None or np.array_equal(one.bias, other.bias)
    return bias and np.array_equal(one.weights, other.weights)
