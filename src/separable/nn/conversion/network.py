"""A torch network as the conversion sees it: its layers, what they read and gave, what changes do."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from ...conv.conversion.network import CalibratedNetwork, DataPart, DataParts, LayerCall, Outputs
from ...conv.forms.layer import ConvLayer, Replacement
from ...conv.scores.judge import Answers, Judge
from ...conv.scores.records import Loss, Score
from ..model.outcomes import CHOSEN_BY, floats_of, named_outputs, outcomes
from ..model.run import Call, inputs_of, seconds_of, tensors_of
from ..model.untouched import map_tensors
from .calibration import TorchCalibration
from .kinds import channels_second, geometry_of, is_linear, shape_of
from .passes import Demands, ForwardPass, Seen, SeenCall, Stop, SumWatch, blank_output, find_demands
from .rewrite import module_for
from .trace import Trace, Traced

if TYPE_CHECKING:
    from ...onnx.conversion.times import LayerTimes

_State: TypeAlias = tuple[tuple[int, int], ...]
_Key: TypeAlias = tuple[bool, DataPart, int]

# Timed runs, after one warm-up run, whose median is reported.
_RUNS: Final = 15

# Inputs that tell which outputs change with the convolutions, and whether they are whole numbers.
_FEW_INPUTS: Final = 8

# Multiply-accumulates of a pass of all inputs, below which what nobody needs is zeros: before torch does
# anything without numbers (on the meta device) it reads half of its compiler, 1 to 3 s (measured).
_CHEAP: Final = 2e11


class TorchNetwork(CalibratedNetwork):
    """A model in inference mode, its batch norms folded, with the inputs that it is calibrated on.

    Parameters
    ----------
    model : Module
        Run, and otherwise left alone.
    trace : Trace
        Of a run of it on one sample.
    calibration : TorchCalibration
    limit : int
        Bytes of activations that may be kept to save running the network again.
    validation : TorchCalibration, optional
        Inputs that scores are of; by default the calibration inputs that are held out.
    times : LayerTimes, optional
        Measures layers where the network is to run; by default that is torch.
    """

    def __init__(
        self,
        model: nn.Module,
        trace: Trace,
        calibration: TorchCalibration,
        limit: int,
        validation: TorchCalibration | None = None,
        times: LayerTimes | None = None,
    ) -> None:
        self._times = times
        self._model, self._trace, self._calibration = model, trace, calibration
        self._validation = validation
        self._rows_are_apart: bool | None = None
        layers = [_layer_of(conv, trace.samples) for conv in trace.convs]
        batches = [(inputs_of(call), self._is_divisible(call)) for call in calibration]
        super().__init__(layers, DataParts(*zip(*batches, strict=True)), validation is not None)
        self._order = dict(enumerate(trace.order))
        places = range(len(trace.order))
        self._calls = [trace.order.count(index) for index in range(len(self._layers))]
        self._first = [min(p for p in places if trace.order[p] == i) for i in range(len(self._layers))]
        self._last = [max(p for p in places if trace.order[p] == i) for i in range(len(self._layers))]
        self._modules: dict[int, tuple[Replacement, nn.Module]] = {}
        self._answers: dict[DataPart, dict[str, Tensor]] = {}
        # Outputs of convolutions, by whether the network has changed, the part of the data and their place.
        self._remembered: dict[_Key, tuple[_State, Tensor]] = {}
        self._room = limit
        # Whose outputs are worth remembering, of parts that the loss is measured on and of others.
        self._kept: dict[bool, frozenset[int]] = {}

    @property
    def model(self) -> nn.Module:
        """The network as it was given."""
        return self._model

    # -- what the layers read and gave ---------------------------------------------------------------

    def calls_of(
        self, index: int, replaced: Mapping[int, Replacement], parts: Sequence[DataPart]
    ) -> Iterator[tuple[DataPart, LayerCall]]:
        """Yield each call of a layer with the part of the data.

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
        changed = any(self._first[other] < self._last[index] for other in replaced)
        self._keep(parts, self._first[index], self._last[index] + 1)
        for part, call in self._read(parts):
            before = self._collected(part, call, {}, index)
            now = self._collected(part, call, replaced, index, inputs_only=True) if changed else before
            self._forget(part)
            for new, old in zip(now, before, strict=True):
                yield part, self._call_of(index, new, old)

    def _call_of(self, index: int, new: SeenCall, old: SeenCall) -> LayerCall:
        """Return one call of a layer, given what was seen of it now and in the original."""
        traced = self._trace.convs[index]
        x, y = (channels_second(traced.module, seen) for seen in (new.x, old.y))
        beside, beside_now = (
            None if other is None else channels_second(traced.module, other)
            for other in (old.other, new.other)
        )
        activated = traced.is_summed and traced.activation is not None
        return LayerCall(x, y, beside, beside_now, activated)

    def _collected(
        self,
        part: DataPart,
        call: Call,
        replaced: Mapping[int, Replacement],
        index: int,
        inputs_only: bool = False,
    ) -> list[SeenCall]:
        calls: list[SeenCall] = []
        self._run(part, call, replaced, [index], lambda _, seen: calls.append(_own(seen)), inputs_only)
        return calls

    def visit_calls(
        self, wanted: Mapping[int, Sequence[DataPart]], tell: Callable[[DataPart, int, LayerCall], None]
    ) -> None:
        """Tell each call of some layers of the original, each on its parts of the data, in one pass.

        Parameters
        ----------
        wanted : mapping of int to sequence of DataPart
        tell : callable
        """
        first = min(self._first[index] for index in wanted)
        self._keep(self._parts.fitted, first, max(self._last[index] for index in wanted) + 1)
        of_part = {index: set(parts) for index, parts in wanted.items()}
        every = set().union(*of_part.values())
        for part, call in self._read([part for part in self._parts.fitted if part in every]):

            def told(index: int, seen: SeenCall, part: DataPart = part) -> None:
                tell(part, index, self._call_of(index, seen, seen))

            self._run(part, call, {}, [index for index in wanted if part in of_part[index]], told)
            self._forget(part)

    def _read(self, parts: Sequence[DataPart]) -> Iterator[tuple[DataPart, Call]]:
        """Yield some parts of the data with what the model is called with, in the order of the data."""
        of_batch: dict[int, list[DataPart]] = {}
        for part in parts:
            of_batch.setdefault(part.number, []).append(part)
        for number, call in enumerate(self._calibration):
            for part in of_batch.get(number, ()):
                yield part, call if part.rows is None else _rows_of(call, part.rows)

    def _is_divisible(self, call: Call) -> bool:
        """Return whether an input gives the same whatever others run with it: two of them do."""
        lengths = {len(tensor) if tensor.dim() else 0 for tensor in tensors_of(call)}
        if len(lengths) != 1 or not lengths.pop():
            return False
        if self._rows_are_apart is None:
            self._rows_are_apart = self._trace.samples == 1 and self._is_apart(call)
        return self._rows_are_apart

    @torch.no_grad()
    def _is_apart(self, call: Call) -> bool:
        try:
            both, one = (
                floats_of(self._model(*some[0], **some[1]))
                for some in (_rows_of(call, (0, -1)), _rows_of(call, (-1,)))
            )
        # Whatever a model raises for so few inputs.
        except Exception:
            return False
        return all(_is_last_half(a, b) for a, b in zip(both, one, strict=True))

    # -- running -------------------------------------------------------------------------------------

    def _run(
        self,
        part: DataPart,
        call: Call,
        replaced: Mapping[int, Replacement],
        wanted: Iterable[int],
        tell: Callable[[int, SeenCall], None],
        inputs_only: bool = False,
    ) -> None:
        """Run the network until all wanted layers were called, and tell what they read and gave."""
        counts = {index: self._calls[index] for index in wanted}
        summed = {index for index in counts if self._trace.convs[index].is_summed}
        run = ForwardPass(replaced, counts, summed, inputs_only, tell)
        places = [place for place, index in self._order.items() if index in counts]
        needed = self._needed(part, replaced, places, inputs_only)
        mode = run if self._is_blanked(run, needed) or summed else nullcontext()
        with self._watched(run, part, needed), torch.no_grad(), suppress(Stop), mode:
            self._model(*call[0], **call[1])
        run.close()

    def _needed(
        self, part: DataPart, replaced: Mapping[int, Replacement], places: Sequence[int], inputs_only: bool
    ) -> set[int] | None:
        """Return the places that must give what they give for some others to read it; None: all."""
        if self._demands is None:
            return None
        goals = set().union(*(sources[place] for place in places for sources in self._demands[:2]))
        return self._required(part, replaced, goals if inputs_only else goals | set(places))

    def _required(
        self, part: DataPart, replaced: Mapping[int, Replacement], goals: Iterable[int]
    ) -> set[int]:
        assert self._demands is not None
        return self._demands.required(goals, lambda place: self._known(part, place, replaced) is not None)

    @cached_property
    def _demands(self) -> Demands | None:
        """What depends on what; None where that cannot be found out."""
        outputs: dict[int, Tensor] = {}
        call, whole_numbers = self._inputs(1), self._whole_numbers

        def run(
            source: int | None, read: Callable[[int, Tensor], None], added: Callable[[int, Tensor], None]
        ) -> Any:
            place, watch = 0, SumWatch(added)

            def forward(index: int, x: Tensor) -> Tensor:
                nonlocal place
                here, place = place, place + 1
                if self._order.get(here) != index:
                    raise ValueError("the model runs its convolutions in another order.")
                read(here, x)
                if here not in outputs:
                    outputs[here] = self._computed(index, None, x)
                y = outputs[here].clone()
                if here == source:
                    y.fill_(math.nan)
                if self._trace.convs[index].is_summed:
                    watch.waiting.append((here, y))
                return y

            with self._replaced_forwards(forward), torch.no_grad(), watch:
                return outcomes(lambda: self._model(*call[0], **call[1]), whole_numbers)

        return find_demands(run, len(self._order))

    def _inputs(self, most: int) -> Call:
        """Return a few inputs, or the first batch where the model does not run on less."""
        call = self._calibration.first
        return _rows_of(call, range(min(most, inputs_of(call)))) if self._is_divisible(call) else call

    def _keep(self, parts: Sequence[DataPart], *places: int) -> None:
        """Of some parts remember from now on what passes from these places on still need."""
        if self._demands is not None:
            kept = frozenset().union(*map(self._demands.crossing, places))
            self._kept[self._parts.measures(parts[0])] = kept

    def _forget(self, part: DataPart) -> None:
        """Forget of a part what later passes do not need: only now that others were computed from it."""
        kept = self._kept.get(self._parts.measures(part))
        if kept is not None:
            for key in [key for key in self._remembered if key[1] == part and key[2] not in kept]:
                self._room += self._remembered.pop(key)[1].nbytes

    def _known(self, part: DataPart, place: int, replaced: Mapping[int, Replacement]) -> Tensor | None:
        known = self._remembered.get((bool(replaced), part, place))
        return known[1] if known is not None and known[0] == self._state(place, replaced) else None

    def _state(self, place: int, replaced: Mapping[int, Replacement]) -> _State:
        """Return what the output of a place depends on."""
        earlier = sorted(index for index in replaced if self._first[index] <= place)
        return tuple((index, id(replaced[index])) for index in earlier)

    @contextmanager
    def _watched(self, run: ForwardPass, part: DataPart | None, needed: Set[int] | None) -> Iterator[None]:
        """Put this network's forward in place of that of each convolution."""
        with self._replaced_forwards(lambda index, x: self._forward(run, part, needed, index, x)):
            yield

    @contextmanager
    def _replaced_forwards(self, forward: Callable[[int, Tensor], Tensor]) -> Iterator[None]:
        try:
            for index, conv in enumerate(self._trace.convs):
                conv.module.forward = partial(forward, index)
            yield
        finally:
            for conv in self._trace.convs:
                vars(conv.module).pop("forward", None)

    def _forward(
        self, run: ForwardPass, part: DataPart | None, needed: Set[int] | None, index: int, x: Tensor
    ) -> Tensor:
        place, run.place = run.place, run.place + 1
        run.enter(index, x)
        y = self._output(run.replaced, part, needed, place, index, x)
        y = y / 2 if run.halved else y
        run.leave(index, y)
        return y

    def _output(
        self,
        replaced: Mapping[int, Replacement],
        part: DataPart | None,
        needed: Set[int] | None,
        place: int,
        index: int,
        x: Tensor,
    ) -> Tensor:
        """Return what a convolution gives: remembered, computed, or zeros where nobody needs it."""
        new = replaced.get(index)
        usual = self._order.get(place) == index
        if usual and needed is not None and place not in needed:
            return blank_output(self._layers[index], self._trace.convs[index].module, x, self._blanks)
        if part is None or not usual or not self._calibration.repeats:
            return self._computed(index, new, x)
        known = self._known(part, place, replaced)
        if known is not None:
            return known.clone()
        y = self._computed(index, new, x)
        self._remember((bool(replaced), part, place), self._state(place, replaced), y)
        return y

    def _computed(self, index: int, new: Replacement | None, x: Tensor) -> Tensor:
        conv = self._trace.convs[index].module
        y: Tensor = type(conv).forward(conv, x) if new is None else self._module(index, new)(x)
        return y

    def _remember(self, key: _Key, state: _State, y: Tensor) -> None:
        old = self._remembered.pop(key, None)
        self._room += 0 if old is None else old[1].nbytes
        kept = self._kept.get(self._parts.measures(key[1]))
        if y.nbytes <= self._room and (kept is None or key[2] in kept):
            self._remembered[key] = (state, y.clone())
            self._room -= y.nbytes

    def _module(self, index: int, replacement: Replacement) -> nn.Module:
        held = self._modules.get(id(replacement))
        if held is None:  # the replacement is held as well, so that its id stays its own
            held = replacement, module_for(replacement, self._trace.convs[index].module)
            self._modules[id(replacement)] = held
        return held[1]

    # -- what a change does --------------------------------------------------------------------------

    def outputs_with(
        self, replaced: Mapping[int, Replacement], parts: Sequence[DataPart], measured: Set[DataPart]
    ) -> Iterator[Outputs]:
        """Yield the outputs on each part: the original's, and those with some layers in their new form.

        For outputs that hold whole numbers, such as labels, stands what they are chosen by; those that no
        convolution changes are left out.

        Parameters
        ----------
        replaced : mapping of int to Replacement
        parts : sequence of DataPart
        measured : set of DataPart
            Those that the loss is measured on.

        Yields
        ------
        before, after : dict of str to ndarray
            By name; `after` is None where the loss is not measured.
        """
        first = min((self._first[index] for index in replaced), default=0)
        self._keep(self._parts.measured, first)
        return self._compared(parts, measured, lambda part, call: self._outputs(call, replaced, part))

    @property
    def measured(self) -> tuple[str, ...]:
        """The same, in the order of the outputs."""
        return tuple(name for name in self._judged_outputs if name.startswith(CHOSEN_BY))

    @torch.no_grad()
    def loss_of(self, model: nn.Module) -> Loss:
        """Return the change of the outputs with another model in place of the network."""
        parts = self._judged(self._parts.measured)
        changed = self._compared(
            parts,
            frozenset(self._parts.measured),
            lambda _, call: outcomes(lambda: model(*call[0], **call[1]), self._whole_numbers),
        )
        return self.change_among(changed, parts)

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

        def changed(call: Call) -> Any:
            with self._watched(ForwardPass(replaced, {}, set()), None, None):
                return self._model(*call[0], **call[1])

        return self._answers_of(changed)

    def score_of(self, judge: Judge, model: nn.Module) -> Score:
        """Return what a metric says of the original, and of another model in its place."""
        answers = self._answers_of(lambda call: model(*call[0], **call[1]))
        return judge.score(answers, self.validated or bool(self.held_out))

    @torch.no_grad()
    def _answers_of(self, changed: Callable[[Call], Any]) -> Iterator[Answers]:
        for number, call in enumerate(self._validation or self._calibration):
            inputs = inputs_of(call)
            rows = self.scored(number, inputs)
            old, new = (
                {name: _numbers(tensor) for name, tensor in named_outputs(run(call)).items()} if rows else {}
                for run in (lambda call: self._model(*call[0], **call[1]), changed)
            )
            yield inputs, rows, old, new

    def _compared(
        self,
        parts: Sequence[DataPart],
        measured: Set[DataPart],
        changed: Callable[[DataPart, Call], dict[str, Tensor]],
    ) -> Iterator[Outputs]:
        for part, call in self._read(parts):
            answer = self._answer(part, call)
            before: dict[Hashable, Seen] = {
                name: _numbers(answer[name]) for name in self._judged_outputs if name in answer
            }
            after: dict[Hashable, Seen] | None = None
            if part in measured:
                made = changed(part, call)
                # What another model does not give has no shape to be compared.
                after = {name: _numbers(made[str(name)]) if name in made else np.empty(0) for name in before}
            self._forget(part)
            yield before, after

    def _answer(self, part: DataPart, call: Call) -> dict[str, Tensor]:
        """Return the original's outputs, kept after the first time."""
        if not self._calibration.repeats:
            return self._outputs(call, {}, None)
        if part not in self._answers:
            self._answers[part] = self._outputs(call, {}, part)
        return self._answers[part]

    def _outputs(
        self, call: Call, replaced: Mapping[int, Replacement], part: DataPart | None, halved: bool = False
    ) -> dict[str, Tensor]:
        run = ForwardPass(replaced, {}, set())
        run.halved = halved
        needed = None
        if part is not None and self._demands is not None:
            needed = self._required(part, replaced, self._demands.outputs)
        mode = run if self._is_blanked(run, needed) else nullcontext()
        with self._watched(run, part, needed), torch.no_grad(), mode:
            return outcomes(lambda: self._model(*call[0], **call[1]), self._whole_numbers)

    def _is_blanked(self, run: ForwardPass, needed: Set[int] | None) -> bool:
        """Return whether some outputs will be left blank, without numbers, and tell the pass."""
        run.blanked = needed is not None and len(needed) < len(self._order) and self._blanks
        return run.blanked

    @cached_property
    def _blanks(self) -> bool:
        """Whether the model runs where outputs hold no numbers: what is made of those costs nothing."""
        if sum(layer.macs for layer in self._layers) * self.fitted_inputs < _CHEAP:
            return False
        call = self._inputs(1)
        run = ForwardPass({}, {}, set())
        run.blanked = True

        def blank(index: int, x: Tensor) -> Tensor:
            return blank_output(self._layers[index], self._trace.convs[index].module, x, True)

        # Whatever a model raises that looks at numbers.
        with suppress(Exception), self._replaced_forwards(blank), torch.no_grad(), run:
            self._model(*call[0], **call[1])
            return True
        return False

    @cached_property
    def _whole_numbers(self) -> bool:
        """Whether some outputs hold whole numbers or truth values, cast to floating point perhaps."""
        arguments, options = self._inputs(_FEW_INPUTS)
        with torch.no_grad():
            judged = outcomes(lambda: self._model(*arguments, **options), True)
        return any(name.startswith(CHOSEN_BY) or not y.is_floating_point() for name, y in judged.items())

    @cached_property
    def _judged_outputs(self) -> tuple[str, ...]:
        """The names of what changes with the convolutions: of floating-point numbers, if these give half."""
        first = self._inputs(_FEW_INPUTS)
        plain = self._outputs(first, {}, None)
        try:
            halved = self._outputs(first, {}, None, halved=True)
        # Whatever a model raises on numbers that it never sees: nothing is known to stay as it is.
        except Exception:
            return tuple(plain)
        moved = [
            name
            for name, tensor in plain.items()
            if not tensor.is_floating_point() or name not in halved or not _alike(tensor, halved[name])
        ]
        return tuple(moved or plain)

    # -- what a form takes ---------------------------------------------------------------------------

    def milliseconds(self, index: int, replacement: Replacement | None) -> float:
        """Return the measured time of one layer in one form, for one input sample, all calls of one pass.

        Parameters
        ----------
        index : int
        replacement : Replacement or None
            None: as it is.

        Returns
        -------
        float
        """
        conv = self._trace.convs[index]
        if self._times is not None:
            shapes = [shape_of(conv.module, shape)[2:] for shape in conv.inputs]
            sized = [replace(self._layers[index], sizes=sizes) for sizes in shapes]
            times, linear = self._times, is_linear(conv.module)
            return sum(times.milliseconds(layer, replacement, linear) for layer in sized)
        module = conv.module if replacement is None else module_for(replacement, conv.module)
        weight = conv.module.weight
        numbers = torch.Generator().manual_seed(0)
        inputs = [torch.randn(shape, generator=numbers).to(weight) for shape in conv.inputs]
        with torch.no_grad():
            return 1e3 * sum(_seconds(module, x) for x in inputs)


def _numbers(tensor: Tensor) -> Seen:
    values = tensor.detach().cpu()
    if values.is_complex():
        values = torch.view_as_real(values)
    return (values.double() if values.is_floating_point() else values).numpy()


def _alike(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and bool(torch.equal(one.nan_to_num(), other.nan_to_num()))


def _layer_of(conv: Traced, samples: int) -> ConvLayer:
    """Return a layer as values. Where it runs on several sizes, so many calls of the smallest."""
    shapes = [shape_of(conv.module, shape) for shape in conv.inputs]
    smallest = min((shape[2:] for shape in shapes), key=math.prod)
    one = ConvLayer(
        name=conv.name,
        sizes=smallest,
        activation=conv.activation,
        summed=conv.is_summed,
        read_by=conv.read_by,
        **geometry_of(conv.module),
    )
    macs = sum(shape[0] * replace(one, sizes=shape[2:]).macs for shape in shapes)
    return replace(one, calls=max(1, round(macs / (one.macs * samples))))


def _is_last_half(both: Tensor, one: Tensor) -> bool:
    near = 1e-5 * (1 + float(one.abs().max()))
    return both.shape == (2 * len(one), *one.shape[1:]) and torch.allclose(
        both[len(one) :], one, rtol=1e-3, atol=near, equal_nan=True
    )


def _own(seen: SeenCall) -> SeenCall:
    return SeenCall(seen.x.copy(), seen.y.copy(), None if seen.other is None else seen.other.copy())


def _rows_of(call: Call, rows: Sequence[int]) -> Call:
    picked: Call = map_tensors(call, lambda tensor: tensor[list(rows)])
    return picked


def _seconds(module: nn.Module, x: Tensor) -> float:
    call: Call = ((x,), {})
    seconds_of(module, call)
    return statistics.median(seconds_of(module, call) for _ in range(_RUNS))
