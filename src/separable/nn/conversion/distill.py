"""Training a converted network to answer as the original does, on inputs without labels."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor, nn

from ...conv.conversion.network import Progress
from ...conv.scores.loss import HeldOut
from ..model.outcomes import floats_of
from ..model.run import Call, inputs_of
from ..model.untouched import map_tensors
from .calibration import BATCH

# Adam's step at the start; it falls to zero along half a cosine. The weights come from a least-squares fit,
# so that they need small changes: on digits, faces and textures 3e-4 to 3e-3 end within their own spread.
RATE: Final = 1e-3

# This share of each batch is mixed from two inputs (mixup, Zhang et al., ICLR 2018): the teacher answers to
# those as well, and the student learns more of it than the inputs at hand can show.
_MIXED: Final = 0.5

# Minimum number of inputs that are shuffled into new batches; fewer keep the batches they came in.
_FEW: Final = 32


@dataclass(frozen=True)
class Course:
    """How long a training may take, and where it is kept.

    Attributes
    ----------
    epochs : int
        Passes over the data.
    seconds : float, optional
        End after this many, if that is earlier; the step falls to zero by then.
    saved : mapping, optional
        What `save` was given last, by a training that was cut short: it is gone on with.
    save : callable, optional
        Given, at the start and after each pass, all that it takes to go on from there.
    """

    epochs: int
    seconds: float | None = None
    saved: Mapping[str, Any] | None = None
    save: Callable[[Mapping[str, Any]], None] | None = None

    def done(self, epochs: float, seconds: float) -> float:
        """Return which part of it lies behind."""
        return max(epochs / self.epochs, 0.0 if self.seconds is None else seconds / self.seconds)


def distilled(
    student: nn.Module,
    teacher: nn.Module,
    points: Mapping[str, str],
    layers: Iterable[nn.Module],
    calls: Sequence[Call],
    course: Course,
    show: Progress,
) -> None:
    """Train `student` in place to give what `teacher` gives: its outputs, and those of inner modules.

    Both run in inference mode, so that norms use and keep their statistics. One input in eight is held out,
    and the weights that answer best on those are kept: those of the start, if none are better. Ctrl-C ends
    the training and keeps the best so far.

    Parameters
    ----------
    student, teacher : Module
    points : mapping of str to str
        Modules of the student whose outputs are matched, and which of the teacher's they should equal.
    layers : iterable of Module
        Modules of the student that are trained even if they are frozen: they are new.
    calls : sequence of arguments
    course : Course
    show : callable
        Is told the batches done, those to do, and the held-out error.

    Raises
    ------
    ValueError
        If no weight of the model has a gradient.
    """
    trained, held_out = _parts(calls)
    with _thawed(student, layers) as parameters:
        goal = _DistillationTarget(student, teacher, points)
        training = None
        try:
            training = _Training(student, parameters, goal, held_out, course.saved)
            if course.save is not None and course.saved is None:
                course.save(training.state())
            while course.done(training.epoch, training.seconds) < 1:
                training.run(trained, course, show)
                if course.save is not None:
                    course.save(training.state())
        except KeyboardInterrupt:
            pass
        finally:
            if training is not None:
                training.take_the_best()


@contextmanager
def _thawed(student: nn.Module, layers: Iterable[nn.Module]) -> Iterator[list[nn.Parameter]]:
    """Give what is trained gradients for as long as that takes."""
    new = {parameter for layer in layers for parameter in layer.parameters()}
    frozen = [p for p in student.parameters() if not p.requires_grad]
    try:
        for parameter in new:
            parameter.requires_grad_(True)
        yield [p for p in student.parameters() if p.requires_grad]
    finally:
        student.zero_grad()
        for parameter in frozen:
            parameter.requires_grad_(False)


class _Training:
    """A training between two passes over the data.

    Parameters
    ----------
    student : Module
    parameters : list of Parameter
    goal : _DistillationTarget
    held_out : sequence of arguments
    saved : mapping, optional
        As :meth:`state` returned it.

    Attributes
    ----------
    epoch : int
        Passes done.
    seconds : float
        Time they took.
    """

    def __init__(
        self,
        student: nn.Module,
        parameters: list[nn.Parameter],
        goal: _DistillationTarget,
        held_out: Sequence[Call],
        saved: Mapping[str, Any] | None,
    ) -> None:
        self._student, self._goal, self._held_out = student, goal, held_out
        self._optimiser = torch.optim.Adam(parameters, lr=RATE)
        self._numbers = torch.Generator().manual_seed(0)
        self.epoch, self.seconds = 0, 0.0
        if saved is None:
            self._least, self._best = goal.error(held_out), _tensors(student)
            return
        self.epoch, self.seconds = saved["epoch"], saved["seconds"]
        self._least, self._best = saved["least"], saved["best"]
        _put(student, saved["now"])
        self._optimiser.load_state_dict(saved["optimiser"])
        self._numbers.set_state(saved["numbers"])

    def state(self) -> dict[str, Any]:
        """Return all that it takes to go on from here, as plain values and tensors."""
        return {
            "epoch": self.epoch,
            "seconds": self.seconds,
            "least": self._least,
            "best": self._best,
            "now": _tensors(self._student),
            "optimiser": self._optimiser.state_dict(),
            "numbers": self._numbers.get_state(),
        }

    def take_the_best(self) -> None:
        """Leave the student with the weights that answered best."""
        _put(self._student, self._best)

    def run(self, trained: Sequence[Call], course: Course, show: Progress) -> None:
        """Do one pass, and note whether it came nearer."""
        start = time.monotonic() - self.seconds
        batches = _shuffled(trained, self._numbers)
        for number, batch in enumerate(batches):
            done = course.done(self.epoch + number / len(batches), time.monotonic() - start)
            if done >= 1:
                break
            steps = course.epochs * len(batches)
            show(int(done * steps), steps, f"distilling: {self._least:.2e} of the outputs' variance is left")
            for group in self._optimiser.param_groups:
                group["lr"] = RATE * (1 + math.cos(math.pi * done)) / 2
            self._optimiser.zero_grad()
            self._goal.loss(batch).backward()  # type: ignore[no-untyped-call]
            self._optimiser.step()
        error = self._goal.error(self._held_out)
        if error < self._least:
            self._least, self._best = error, _tensors(self._student)
        self.epoch, self.seconds = self.epoch + 1, time.monotonic() - start


class _DistillationTarget:
    """How far the student's answers are from the teacher's, over the variance of the teacher's."""

    def __init__(self, student: nn.Module, teacher: nn.Module, points: Mapping[str, str]) -> None:
        self._student, self._teacher = student, teacher
        self._names = list(points), list(points.values())

    def loss(self, call: Call) -> Tensor:
        """Return the mean over the outputs of inner modules, plus that over the model's outputs."""
        with torch.no_grad():
            wanted, inner = _answers(self._teacher, self._names[1], call)
        got, within = _answers(self._student, self._names[0], call)
        total = torch.stack([_apart(a, b) for a, b in zip(got, wanted, strict=True)]).mean()
        if within:
            total = total + torch.stack([_apart(a, b) for a, b in zip(within, inner, strict=True)]).mean()
        if not total.requires_grad:
            raise ValueError(
                "`distill` trains by gradients, and `model` gives outputs without any (a forward under "
                "torch.no_grad?); leave `distill` out."
            )
        return total

    @torch.no_grad()
    def error(self, calls: Sequence[Call]) -> float:
        """Return the mean over batches of the distance of the model's outputs."""
        distances = []
        for call in calls:
            wanted, got = _answers(self._teacher, [], call)[0], _answers(self._student, [], call)[0]
            distances += [float(_apart(a, b)) for a, b in zip(got, wanted, strict=True)]
        return sum(distances) / len(distances)


def _apart(got: Tensor, wanted: Tensor) -> Tensor:
    spread = (wanted - wanted.mean(dim=0, keepdim=True)).square().mean()
    return (got - wanted).square().mean() / spread.clamp_min(torch.finfo(wanted.dtype).tiny)


def _answers(model: nn.Module, names: Sequence[str], call: Call) -> tuple[list[Tensor], list[Tensor]]:
    """Return the outputs of a model, and those of some of its modules at all their calls."""
    inner: dict[str, list[Tensor]] = {name: [] for name in names}
    with _listening(model, inner):
        output = model(*call[0], **call[1])
    return floats_of(output), [tensor for name in names for tensor in inner[name]]


@contextmanager
def _listening(model: nn.Module, inner: dict[str, list[Tensor]]) -> Iterator[None]:
    handles = []

    def keep_in(kept: list[Tensor]) -> Any:
        # A copy, because what follows may write to the output.
        return lambda module, inputs, output: kept.append(output.clone())

    try:
        for name, kept in inner.items():
            handles.append(model.get_submodule(name).register_forward_hook(keep_in(kept)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return copies of all parameters and buffers."""
    return {name: tensor.detach().clone() for name, tensor in _named(model)}


@torch.no_grad()
def _put(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    for name, tensor in _named(model):
        if not torch.equal(tensor.cpu(), tensors[name].cpu()):  # some buffers cannot be written to
            tensor.copy_(tensors[name])


def _named(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from model.named_parameters()
    yield from model.named_buffers()


def _parts(calls: Sequence[Call]) -> tuple[Sequence[Call], Sequence[Call]]:
    """Return the inputs to train on and those held out: both all of them if there are too few."""
    held_out = HeldOut(map(inputs_of, calls))
    if not held_out.count:
        return calls, calls
    parts: tuple[list[Call], list[Call]] = ([], [])
    for number, call in enumerate(calls):
        mask = held_out.mask(number)
        for part, rows in zip(parts, (~mask, mask), strict=True):
            if rows.any():
                part.append(map_tensors(call, partial(_rows_of, torch.from_numpy(rows))))
    return parts


def _rows_of(rows: Tensor, tensor: Tensor) -> Tensor:
    """Return some inputs of a tensor of a batch; all of what has no axis for them."""
    return tensor[rows] if tensor.dim() and len(tensor) == len(rows) else tensor


def _joined(calls: Sequence[Call]) -> Tensor | None:
    """Return all inputs as one tensor, if the model takes one tensor and all are of one shape."""
    inputs = [call[0][0] for call in calls if len(call[0]) == 1 and not call[1]]
    alike = len(inputs) == len(calls) and all(isinstance(x, Tensor) and x.dim() for x in inputs)
    if not alike or len({x.shape[1:] for x in inputs}) != 1:
        return None
    together = torch.cat(inputs)
    return together if len(together) >= _FEW else None


def _shuffled(calls: Sequence[Call], numbers: torch.Generator) -> list[Call]:
    """Return the batches in random order; single samples, where they can be told apart."""
    joined = _joined(calls)
    if joined is None:
        return [calls[place] for place in torch.randperm(len(calls), generator=numbers).tolist()]
    order = torch.randperm(len(joined), generator=numbers)
    parts = torch.split(order, min(BATCH, max(1, len(joined) // 4)))
    return [((_partly_mixed(joined[part], joined, numbers),), {}) for part in parts]


def _partly_mixed(batch: Tensor, joined: Tensor, numbers: torch.Generator) -> Tensor:
    """Return a batch in which some inputs are mixed with others, by random shares; whole numbers stay."""
    count = int(_MIXED * len(batch))
    if not batch.is_floating_point() or not count:
        return batch
    others = joined[torch.randint(len(joined), (count,), generator=numbers).to(joined.device)]
    shares = torch.rand(count, *[1] * (batch.dim() - 1), generator=numbers).to(batch)
    return torch.cat([torch.lerp(others, batch[:count], shares), batch[count:]])
