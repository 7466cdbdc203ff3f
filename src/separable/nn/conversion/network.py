"""A torch network as the conversion sees it: its layers, what they read and gave, what changes do."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from functools import cached_property
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ...conv.conversion.network import CalibratedNetwork, LayerCall, Outputs
from ...conv.forms.layer import ConvLayer, Replacement
from ...conv.scores.judge import Answers, Judge
from ...conv.scores.records import Loss, Score
from ..model.outcomes import CHOSEN_BY, named_outputs, outcomes
from ..model.run import Call, inputs_of, tensors_of
from .calibration import TorchCalibration
from .kinds import channels_second, geometry_of, shape_of
from .rewrite import module_for
from .trace import Trace, Traced, is_plain_sum, is_same

Seen = npt.NDArray[Any]

_SUMS: Final = (torch.ops.aten.add, torch.ops.aten.add_)

# Timed runs, after one warm-up run, whose median is reported.
_RUNS: Final = 15


class _Call(NamedTuple):
    """What a layer read and gave in one call, and what was added to that."""

    x: Seen
    y: Seen
    other: Seen | None


class _Stop(BaseException):
    """All that was wanted of a pass is there; no model's own `except` catches it."""


class _ForwardPass(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """One pass of the network: what runs in which form, and what is kept of it.

    Parameters
    ----------
    replaced : mapping of int to Replacement
    wanted : mapping of int to int
        How often each layer is called that is looked at.
    summed : set of int
        Those of them whose output is added to another branch, which is kept as well.
    inputs_only : bool
        What other layers give is no matter.
    number : int or None
        Of the batch, where outputs may be remembered.
    """

    supports_higher_order_operators = True

    def __init__(
        self,
        replaced: Mapping[int, Replacement],
        wanted: Mapping[int, int],
        summed: Set[int],
        inputs_only: bool,
        number: int | None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.replaced, self.number = replaced, number
        self.halved = False  # whether all convolutions give half of what they give
        self.place = 0  # calls of convolutions so far
        self.calls: dict[int, list[_Call]] = {index: [] for index in wanted}
        self._summed, self._inputs_only = summed, inputs_only
        self._pending: list[
            tuple[int, int, Tensor]
        ] = []  # layer, its call, the output that is yet to be added
        self._left = sum(wanted.values())

    def enter(self, index: int, x: Tensor) -> None:
        """Note what a layer reads, before anything can write to it."""
        if index in self.calls:
            self.calls[index].append(_Call(_copied(x), np.empty(0), None))
            if self._inputs_only and index not in self._summed:
                self._finish()

    def leave(self, index: int, y: Tensor) -> None:
        """Note what it gives."""
        if index not in self.calls or (self._inputs_only and index not in self._summed):
            return
        seen = self.calls[index]
        if not self._inputs_only:
            seen[-1] = seen[-1]._replace(y=_copied(y))
        if index in self._summed:
            self._pending.append((index, len(seen) - 1, y))
        else:
            self._finish()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run one operator, and note what is added to the output of a layer."""
        if self._pending and getattr(func, "overloadpacket", None) in _SUMS and is_plain_sum(args, kwargs):
            for term, other in (args, args[::-1]):
                for waiting in [pending for pending in self._pending if is_same(pending[2], term)]:
                    index, call, _ = waiting
                    self.calls[index][call] = self.calls[index][call]._replace(other=_copied(other))
                    self._pending.remove(waiting)
                    self._finish()
        return func(*args, **(kwargs or {}))

    def _finish(self) -> None:
        self._left -= 1
        if not self._left:
            raise _Stop


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
    """

    def __init__(
        self,
        model: nn.Module,
        trace: Trace,
        calibration: TorchCalibration,
        limit: int,
        validation: TorchCalibration | None = None,
    ) -> None:
        self._model, self._trace, self._calibration, self._limit = model, trace, calibration, limit
        self._validation = validation
        layers = [_layer_of(conv, trace.samples) for conv in trace.convs]
        super().__init__(layers, map(inputs_of, calibration))
        self._order = dict(enumerate(trace.order))
        places = range(len(trace.order))
        self._calls = [trace.order.count(index) for index in range(len(self._layers))]
        self._first = [min(p for p in places if trace.order[p] == i) for i in range(len(self._layers))]
        self._last = [max(p for p in places if trace.order[p] == i) for i in range(len(self._layers))]
        self._modules: dict[int, tuple[Replacement, nn.Module]] = {}
        self._originals: dict[int, list[list[_Call]]] = {}
        self._remembered: dict[tuple[int, int], tuple[tuple[Any, ...], Tensor]] = {}
        self._room = limit // 2
        self._answers: list[dict[str, Tensor]] | None = None

    # -- what the layers read and gave ---------------------------------------------------------------

    def calls_of(self, index: int, replaced: Mapping[int, Replacement]) -> Iterator[tuple[int, LayerCall]]:
        """Yield each call of a layer with the number of its batch.

        Parameters
        ----------
        index : int
        replaced : mapping of int to Replacement

        Yields
        ------
        number : int
        call : LayerCall
        """
        changed = any(self._first[other] < self._last[index] for other in replaced)
        stored = self._stored(index, inputs=not changed)
        traced = self._trace.convs[index]
        activated = traced.is_summed and traced.activation is not None
        for number, call in enumerate(self._calibration):
            before = stored[number] if stored else self._run(call, {}, [index])[index]
            now = before
            if changed:
                now = self._run(call, replaced, [index], inputs_only=True, number=number)[index]
            for new, old in zip(now, before, strict=True):
                x, y = (channels_second(traced.module, seen) for seen in (new.x, old.y))
                beside, beside_now = (
                    None if other is None else channels_second(traced.module, other)
                    for other in (old.other, new.other)
                )
                yield number, LayerCall(x, y, beside, beside_now, activated)

    def _stored(self, index: int, inputs: bool) -> list[list[_Call]] | None:
        """Return what a layer read and gave in the original, of every batch; None if that is too much.

        Layers that run after it are kept with it, as many as there is room for.
        """
        if not self._calibration.repeats:
            return None
        held = self._originals.get(index)
        if held is not None and (not inputs or held[0][0].x.size):
            return held
        block = self._block(index, inputs)
        if not block:
            return None
        self._originals = {member: [] for member in block}
        for call in self._calibration:
            for member, calls in self._run(call, {}, block).items():
                kept = calls if inputs else [seen._replace(x=seen.x[:0]) for seen in calls]
                self._originals[member].append(kept)
        return self._originals[index]

    def _block(self, index: int, inputs: bool) -> list[int]:
        room, block = self._limit // 2, []
        samples = sum(len(tensors_of(call)[0]) for call in self._calibration)
        for member in range(index, len(self._layers)):
            room -= self._bytes(member, inputs) * samples // self._trace.samples
            if room < 0:
                break
            block.append(member)
        return block

    def _bytes(self, index: int, inputs: bool) -> int:
        """Return the bytes of what a layer reads and gives for the sample that was traced."""
        layer, conv = self._layers[index], self._trace.convs[index]
        total = 0
        for batch, _, *sizes in (shape_of(conv.module, shape) for shape in conv.inputs):
            grown = layer.c_out * math.prod(layer.sizes_for(sizes))
            read = layer.c_in * math.prod(sizes) if inputs else 0
            total += batch * (read + grown * (2 if conv.is_summed else 1))
        return total * int(conv.module.weight.element_size())

    # -- running -------------------------------------------------------------------------------------

    def _run(
        self,
        call: Call,
        replaced: Mapping[int, Replacement],
        wanted: Sequence[int],
        inputs_only: bool = False,
        number: int | None = None,
    ) -> dict[int, list[_Call]]:
        """Run the network until all wanted layers were called, and return what they read and gave."""
        summed = {index for index in wanted if self._trace.convs[index].is_summed}
        run = _ForwardPass(
            replaced, {index: self._calls[index] for index in wanted}, summed, inputs_only, number
        )
        with self._watched(run), torch.no_grad(), suppress(_Stop), run if summed else nullcontext():
            self._model(*call[0], **call[1])
        return run.calls

    @contextmanager
    def _watched(self, run: _ForwardPass) -> Iterator[None]:
        """Put this network's forward in place of that of each convolution."""

        def forward_of(index: int) -> Any:
            return lambda x: self._forward(run, index, x)

        try:
            for index, conv in enumerate(self._trace.convs):
                conv.module.forward = forward_of(index)
            yield
        finally:
            for conv in self._trace.convs:
                vars(conv.module).pop("forward", None)

    def _forward(self, run: _ForwardPass, index: int, x: Tensor) -> Tensor:
        place, run.place = run.place, run.place + 1
        run.enter(index, x)
        y: Tensor
        key = None
        state: tuple[Any, ...] = ()
        if run.number is not None and self._calibration.repeats and self._order.get(place) == index:
            key = (run.number, place)
            earlier = sorted(i for i in run.replaced if self._first[i] <= place)
            state = tuple((i, id(run.replaced[i])) for i in earlier)
            known = self._remembered.get(key)
            if known is not None and known[0] == state:
                y = known[1].clone()
                run.leave(index, y)
                return y
        conv = self._trace.convs[index].module
        new = run.replaced.get(index)
        y = type(conv).forward(conv, x) if new is None else self._module(index, new)(x)
        y = y / 2 if run.halved else y
        if key is not None:
            self._remember(key, state, y)
        run.leave(index, y)
        return y

    def _remember(self, key: tuple[int, int], state: tuple[Any, ...], y: Tensor) -> None:
        old = self._remembered.pop(key, None)
        self._room += 0 if old is None else old[1].nbytes
        if y.nbytes <= self._room:
            self._remembered[key] = (state, y.clone())
            self._room -= y.nbytes

    def _module(self, index: int, replacement: Replacement) -> nn.Module:
        held = self._modules.get(id(replacement))
        if held is None:  # the replacement is held as well, so that its id stays its own
            held = replacement, module_for(replacement, self._trace.convs[index].module)
            self._modules[id(replacement)] = held
        return held[1]

    # -- what a change does --------------------------------------------------------------------------

    def outputs_with(self, replaced: Mapping[int, Replacement]) -> Iterator[Outputs]:
        """Yield the outputs of each batch: the original's, and those with some layers in their new form.

        For outputs that hold whole numbers, such as labels, stands what they are chosen by; those that no
        convolution changes are left out.

        Parameters
        ----------
        replaced : mapping of int to Replacement

        Yields
        ------
        before, after : dict of str to ndarray
            By name; `after` is None where the loss is not measured.
        """
        return self._compared(lambda number, call: self._outputs(call, replaced, number))

    @property
    def measured(self) -> tuple[str, ...]:
        """The same, in the order of the outputs."""
        return tuple(name for name in self._judged if name.startswith(CHOSEN_BY))

    @torch.no_grad()
    def loss_of(self, model: nn.Module) -> Loss:
        """Return the change of the outputs with another model in place of the network."""
        return self.change_among(
            self._compared(lambda _, call: outcomes(lambda: model(*call[0], **call[1]), self._whole_numbers))
        )

    @property
    def validated(self) -> bool:
        """Whether there are inputs that serve for nothing but scores."""
        return self._validation is not None

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
            with self._watched(_ForwardPass(replaced, {}, set(), False, None)):
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

    def _compared(self, changed: Callable[[int, Call], dict[str, Tensor]]) -> Iterator[Outputs]:
        for number, call in enumerate(self._calibration):
            answer = self._answer(number, call)
            before: dict[Hashable, Seen] = {
                name: _numbers(answer[name]) for name in self._judged if name in answer
            }
            after: dict[Hashable, Seen] | None = None
            if self._held_out.measures(number):
                made = changed(number, call)
                # What another model does not give has no shape to be compared.
                after = {name: _numbers(made[str(name)]) if name in made else np.empty(0) for name in before}
            yield before, after

    def _answer(self, number: int, call: Call) -> dict[str, Tensor]:
        """Return the original's outputs, kept after the first time."""
        if not self._calibration.repeats:
            return self._outputs(call, {}, None)
        if self._answers is None:
            self._answers = [self._outputs(batch, {}, None) for batch in self._calibration]
        return self._answers[number]

    def _outputs(
        self, call: Call, replaced: Mapping[int, Replacement], number: int | None, halved: bool = False
    ) -> dict[str, Tensor]:
        run = _ForwardPass(replaced, {}, set(), False, number)
        run.halved = halved
        with self._watched(run), torch.no_grad():
            return outcomes(lambda: self._model(*call[0], **call[1]), self._whole_numbers)

    @cached_property
    def _whole_numbers(self) -> bool:
        """Whether some outputs hold whole numbers or truth values, cast to floating point perhaps."""
        arguments, options = self._calibration.first
        with torch.no_grad():
            judged = outcomes(lambda: self._model(*arguments, **options), True)
        return any(name.startswith(CHOSEN_BY) or not y.is_floating_point() for name, y in judged.items())

    @cached_property
    def _judged(self) -> tuple[str, ...]:
        """The names of what changes with the convolutions: of floating-point numbers, if these give half."""
        first = self._calibration.first
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


def _copied(tensor: Tensor) -> Seen:
    return np.array(tensor.detach().cpu().numpy())


def _seconds(module: nn.Module, x: Tensor) -> float:
    def run() -> float:
        start = time.perf_counter()
        module(x)
        if x.is_cuda:
            torch.cuda.synchronize(x.device)
        return time.perf_counter() - start

    run()
    return statistics.median(run() for _ in range(_RUNS))
