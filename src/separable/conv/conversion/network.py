"""What a conversion asks of a network, whichever framework runs it, and what all of them do alike."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol, TypeAlias

from ..forms.layer import ConvLayer, Replacement
from ..scores.judge import Answers, Judge
from ..scores.records import Loss, Score
from .loss import HeldOut, OutputChange, Values

__all__ = ["CalibratedNetwork", "LayerCall", "Network", "Outputs", "Progress"]

# The outputs of one batch by name or place: the original's, and the changed network's; None where those were
# not computed.
Outputs: TypeAlias = tuple[Mapping[Hashable, Values], Mapping[Hashable, Values] | None]


class Network(Protocol):
    """What a conversion asks of the package that runs a network; batch norms are folded into the layers."""

    @property
    def layers(self) -> Sequence[ConvLayer]:
        """The convertible convolutions, in running order."""

    def samples(self, index: int, replaced: Mapping[int, Replacement]) -> Iterator[tuple[Values, ...]]:
        """Yield, for each batch of calibration inputs, what a layer reads now and what it should give.

        Parameters
        ----------
        index : int
            The layer. Where a pass calls it more than once, each call yields a pair.
        replaced : mapping of int to Replacement
            Layers that run in their new form; `index` is not one of them.

        Yields
        ------
        x : ndarray, shape ``(N, C_in, *sizes)``
            The layer's input in the network where `replaced` run in their new form. Of the inputs that are
            held out nothing is seen.
        y : ndarray, shape ``(N, C_out, *out_sizes)``
            The layer's output in the original network, bias included, before any activation. Where all that
            reads it is the sum with another branch: less by what that branch has grown, so that the sum
            comes out as in the original.
        floor : ndarray, shape ``(N, C_out, *out_sizes)``, optional
            Where the layer's `activation` has its zero, if it reads the sum with another branch: that
            branch, negated. Behind the layer itself it is 0, and not given.
        """

    def output_change(self, replaced: Mapping[int, Replacement]) -> float:
        """Return the mean squared change of the outputs over their variance, on inputs not fitted to.

        0 where no layer is replaced; NaN where it cannot be measured, infinite where outputs change that do
        not vary: neither is ever less than the change of another attempt.
        """

    @property
    def held_out(self) -> int:
        """How many inputs `samples` leaves out and `output_change` is measured on; 0: there are too few."""

    def milliseconds(self, index: int, replacement: Replacement | None) -> float:
        """Return the measured time of one layer in one form (None: as it is), all calls of one pass."""


class Progress(Protocol):
    """What is told how far a conversion is: called with the steps done, those to do, and the present one."""

    def __call__(self, done: int, total: int, step: str) -> None:
        """Take note."""


class LayerCall(NamedTuple):
    """One call of a layer on one batch, in the original network and in what it has become.

    Attributes
    ----------
    x : ndarray, shape ``(N, C_in, *sizes)``
        What it reads now.
    y : ndarray, shape ``(N, C_out, *out_sizes)``
        What it gave in the original.
    beside, beside_now : ndarray or None
        Where all that reads its output is the sum with another branch of the same shape: what that branch
        gave in the original, and what it gives now.
    activated : bool
        Whether an activation alone reads that sum: the layer's own.
    """

    x: Values
    y: Values
    beside: Values | None = None
    beside_now: Values | None = None
    activated: bool = False

    def sample(self) -> tuple[Values, ...]:
        """Return what it reads, what it should give, and where the activation of a sum has its zero.

        It should make up for what the other branch has grown by: the sum is to come out as in the original.
        """
        if self.beside is None or self.beside_now is None:
            return self.x, self.y
        wanted = self.y + (self.beside - self.beside_now)
        return (self.x, wanted, -self.beside_now) if self.activated else (self.x, wanted)


class CalibratedNetwork(ABC):
    """The part of a :class:`Network` that is the same in every framework: a base class.

    Parameters
    ----------
    layers : sequence of ConvLayer
        The convertible convolutions, in running order.
    batches : iterable of int
        Inputs in each batch of the calibration data.
    """

    def __init__(self, layers: Sequence[ConvLayer], batches: Iterable[int]) -> None:
        self._layers = tuple(layers)
        self._held_out = HeldOut(batches)

    @property
    def layers(self) -> Sequence[ConvLayer]:
        """The convertible convolutions, in running order; those that share their weights may be one."""
        return self._layers

    @property
    def held_out(self) -> int:
        """How many inputs no layer is fitted to."""
        return self._held_out.count

    def samples(self, index: int, replaced: Mapping[int, Replacement]) -> Iterator[tuple[Values, ...]]:
        """Yield what a layer reads now and what it should give, for each batch and each of its calls.

        Parameters
        ----------
        index : int
        replaced : mapping of int to Replacement

        Yields
        ------
        x : ndarray, shape ``(N, C_in, *sizes)``
        y : ndarray, shape ``(N, C_out, *out_sizes)``
        floor : ndarray, shape ``(N, C_out, *out_sizes)``, optional
            As for :class:`Network`.
        """
        for number, call in self.calls_of(index, replaced):
            rows = self._held_out.fitted(number, len(call.x))
            if len(rows):
                sample = call.sample()
                yield sample if len(rows) == len(call.x) else tuple(array[rows] for array in sample)

    def output_change(self, replaced: Mapping[int, Replacement]) -> float:
        """Return the mean squared change of the network's outputs over their variance, on held-out inputs.

        Parameters
        ----------
        replaced : mapping of int to Replacement

        Returns
        -------
        float
            The mean over the outputs, see `OutputChange`. NaN where none was measured.
        """
        return self.change_among(self.outputs_with(replaced)).change if replaced else 0.0

    def loss(self, replaced: Mapping[int, Replacement]) -> Loss:
        """Return the same with its interval, and the change of each output by itself."""
        return self.change_among(self.outputs_with(replaced)) if replaced else Loss(0.0)

    def change_among(self, batches: Iterable[Outputs]) -> Loss:
        """Return the loss of outputs that are already there, batch by batch."""
        change = OutputChange(self._held_out)
        for number, (before, after) in enumerate(batches):
            now = after if self._held_out.measures(number) else None
            for output, values in before.items():
                change.add(number, output, values, None if now is None else now[output])
        return change.loss

    def score(self, judge: Judge, replaced: Mapping[int, Replacement]) -> Score:
        """Return what a metric says of the original, and of the network where `replaced` run in new form.

        Parameters
        ----------
        judge : Judge
        replaced : mapping of int to Replacement

        Returns
        -------
        Score
            On all validation inputs, or on the calibration inputs that no layer is fitted to.
        """
        return judge.score(self.answers(replaced), self.validated or bool(self.held_out))

    @property
    def validated(self) -> bool:
        """Whether there are inputs that serve for nothing but scores."""
        return False

    def scored(self, number: int, inputs: int) -> Sequence[int]:
        """Return which inputs of a batch are scored."""
        return range(inputs) if self.validated else self._held_out.measured(number, inputs).tolist()

    @abstractmethod
    def answers(self, replaced: Mapping[int, Replacement]) -> Iterator[Answers]:
        """Yield all outputs of the batches that are scored, as `Judge` takes them."""

    @abstractmethod
    def calls_of(self, index: int, replaced: Mapping[int, Replacement]) -> Iterator[tuple[int, LayerCall]]:
        """Yield each call of a layer with the number of its batch, where `replaced` run in their new form."""

    @abstractmethod
    def outputs_with(self, replaced: Mapping[int, Replacement]) -> Iterator[Outputs]:
        """Yield the outputs of each batch: those with `replaced` at least where the loss is measured."""

    @abstractmethod
    def milliseconds(self, index: int, replacement: Replacement | None) -> float:
        """Return the measured time of one layer in one form (None: as it is), all calls of one pass."""
