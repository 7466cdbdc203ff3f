"""What a conversion asks of a network, whichever framework runs it, and what all of them do alike."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence, Set
from functools import cached_property
from typing import Final, NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from ..forms.layer import ConvLayer, Replacement
from ..scores.judge import Answers, Judge
from ..scores.loss import HeldOut, OutputChange, Values
from ..scores.records import Loss, Score

__all__ = [
    "CalibratedNetwork",
    "DataPart",
    "DataParts",
    "LayerCall",
    "Network",
    "NetworkTimes",
    "Outputs",
    "Progress",
    "is_slower",
    "milliseconds_of",
    "output_change",
    "samples",
    "visit",
]

# Inputs that run together: of those that layers are fitted to, and of those that are held out.
_FITTED: Final = 16
_MEASURED: Final = 8

# Multiply-accumulates of a pass that takes less than a second.
_CHEAP_PASS: Final = 2e10

# The least times of interleaved runs differ by this fraction between a model and itself.
_NOISE: Final = 0.01

# The outputs of one part by name or place: the original's, and the changed network's; None where those were
# not computed.
Outputs: TypeAlias = tuple[Mapping[Hashable, Values], Mapping[Hashable, Values] | None]

# Milliseconds of a network and of it with each of some sets of layers in their new form, all as wholes; None
# where they are not known.
NetworkTimes: TypeAlias = Callable[[Sequence[Mapping[int, Replacement]]], Sequence[float] | None]


class Network(Protocol):
    """What a conversion asks of the package that runs a network; batch norms are folded into the layers.

    Examples
    --------
    >>> import numpy as np
    >>> import separable as sp
    >>> class OneLayer:  # a network of one convolution, with its calibration inputs
    ...     def __init__(self, layer, x):
    ...         self.layers, self.x, self.held_out = [layer], x, len(x) // 8
    ...
    ...     def samples(self, index, replaced):
    ...         x = self.x[self.held_out :]
    ...         yield x, self.layers[0](x)
    ...
    ...     def output_change(self, replaced):
    ...         x, y = self.x[: self.held_out], self.layers[0](self.x[: self.held_out])
    ...         for conv in replaced[0].convs if replaced else self.layers:
    ...             x = conv(x)
    ...         return float(np.mean((x - y) ** 2) / np.var(y))
    ...
    ...     def milliseconds(self, index, replacement):
    ...         raise NotImplementedError("no budget of time")
    >>> rng = np.random.default_rng(0)
    >>> weights = rng.standard_normal((8, 4, 3, 3))
    >>> layer = sp.conv.ConvLayer("conv", weights, padding=((1, 1), (1, 1)), sizes=(8, 8))
    >>> network = OneLayer(layer, rng.standard_normal((64, 4, 8, 8)))
    >>> exact = sp.conv.convert(network, rank="full", forms=["dw-pw"])
    >>> exact.report.output_change < 1e-20
    True
    """

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
    """What is told how far a conversion is: called with the steps done, those in all, and the present one.

    The steps in all stay the same. How often all layers are fitted shows on the way: steps that turn out not
    to be needed are skipped, and where more are needed than was expected, the present one takes longer.

    Examples
    --------
    >>> def show(done, total, step):
    ...     print(f"{done} of {total}: {step}")
    >>> show(3, 12, "conv3")  # separate(..., progress=show)
    3 of 12: conv3
    """

    def __call__(self, done: int, total: int, step: str) -> None:
        """Take note."""


def is_slower(before: float, after: float) -> bool:
    """Return whether the least of interleaved times got longer, noise aside."""
    return after > (1 + _NOISE) * before


def samples(
    network: Network, index: int, replaced: Mapping[int, Replacement], inputs: int
) -> Iterator[tuple[Values, ...]]:
    """Yield what :meth:`Network.samples` does, of so many inputs if the network can choose among them."""
    if isinstance(network, CalibratedNetwork):
        return network.samples(index, replaced, inputs)
    return network.samples(index, replaced)


def milliseconds_of(network: Network, index: int, replacements: Sequence[Replacement]) -> list[float]:
    """Return :meth:`Network.milliseconds` of several forms of a layer, run in turn where the network can."""
    if isinstance(network, CalibratedNetwork):
        return network.milliseconds_of(index, replacements)
    return [network.milliseconds(index, replacement) for replacement in replacements]


def visit(
    network: Network, wanted: Mapping[int, int], tell: Callable[[int, tuple[Values, ...]], None]
) -> None:
    """Tell the same of several layers of the original network: in one pass, if the network can do that."""
    if isinstance(network, CalibratedNetwork):
        network.visit(wanted, tell)
        return
    for index in wanted:
        for sample in network.samples(index, {}):
            tell(index, sample)


def output_change(network: Network, replaced: Mapping[int, Replacement], inputs: int) -> float:
    """Return :meth:`Network.output_change`, on so many inputs if the network can choose among them."""
    if isinstance(network, CalibratedNetwork):
        return network.output_change(replaced, inputs)
    return network.output_change(replaced)


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


class DataPart(NamedTuple):
    """Some inputs of one batch of the calibration data, that a network runs on together.

    Attributes
    ----------
    number : int
        Of the batch.
    rows : tuple of int, or None
        Which of its inputs; None: all of a batch that cannot be cut.
    """

    number: int
    rows: tuple[int, ...] | None


class DataParts:
    """The calibration data cut into inputs that layers are fitted to and inputs that the loss is measured on.

    Parameters
    ----------
    batches : iterable of int
        Inputs in each batch.
    divisible : sequence of bool, optional
        Whether each batch can be cut: an input gives the same whatever others run with it. One that cannot
        runs as a whole, and of what comes out the rows are taken.

    Attributes
    ----------
    fitted, measured : tuple of DataPart
    """

    def __init__(self, batches: Iterable[int], divisible: Sequence[bool] | None = None) -> None:
        counts = list(batches)
        self.held_out = HeldOut(counts)
        fitted: list[DataPart] = []
        measured: list[DataPart] = []
        for number, count in enumerate(counts):
            if divisible is None or divisible[number]:
                fitted += _cut(number, self.held_out.fitted(number, count), _FITTED)
                measured += _cut(number, self.held_out.measured(number, count), _MEASURED)
                continue
            fitted += [DataPart(number, None)] if len(self.held_out.fitted(number, count)) else []
            measured += [DataPart(number, None)] if self.held_out.measures(number) else []
        self.fitted, self.measured = tuple(fitted), tuple(measured)
        self._is_measured = frozenset(measured)
        self._counts = counts

    def some(self, parts: Sequence[DataPart], inputs: int | None) -> list[DataPart]:
        """Return some parts with at least so many inputs, in order; those for fewer are among those for more.

        They are drawn at random with a fixed seed: neighbours in the data may be alike.
        """
        if inputs is None:
            return list(parts)
        chosen: list[int] = []
        for place in np.random.default_rng(0).permutation(len(parts)):
            if inputs <= 0:
                break
            chosen.append(int(place))
            inputs -= self.count(parts[place])
        return [parts[place] for place in sorted(chosen)]

    def count(self, part: DataPart) -> int:
        """Return how many inputs a part runs on."""
        return self._counts[part.number] if part.rows is None else len(part.rows)

    def rows_fitted(self, part: DataPart, rows: int) -> npt.NDArray[np.intp]:
        """Return which rows of an array that a part has made may be fitted to."""
        return np.arange(rows) if part.rows is not None else self.held_out.fitted(part.number, rows)

    def measures(self, part: DataPart) -> bool:
        """Return whether the loss is measured on a part."""
        return part in self._is_measured

    def rows_measured(self, part: DataPart, rows: int) -> npt.NDArray[np.intp]:
        """Return which rows of an array that a part has made the loss is measured on."""
        return np.arange(rows) if part.rows is not None else self.held_out.measured(part.number, rows)


def _cut(number: int, rows: npt.NDArray[np.intp], size: int) -> list[DataPart]:
    starts = range(0, len(rows), size)
    return [DataPart(number, tuple(rows[start : start + size].tolist())) for start in starts]


class _Measured:
    """Which rows of the outputs of some parts the loss is measured on."""

    def __init__(self, parts: DataParts, run: Sequence[DataPart]) -> None:
        self._parts, self._run = parts, run

    def measured(self, number: int, rows: int) -> npt.NDArray[np.intp]:
        return self._parts.rows_measured(self._run[number], rows)

    def size(self, number: int) -> int:
        return self._parts.count(self._run[number])


class CalibratedNetwork(ABC):
    """The part of a :class:`Network` that is the same in every framework: a base class.

    Parameters
    ----------
    layers : sequence of ConvLayer
        The convertible convolutions, in running order.
    parts : DataParts
        Of the calibration data.
    validated : bool, optional
        Whether there are inputs that serve for nothing but scores.
    """

    def __init__(self, layers: Sequence[ConvLayer], parts: DataParts, validated: bool = False) -> None:
        self._layers = tuple(layers)
        self._parts = parts
        self.validated = validated

    @property
    def layers(self) -> Sequence[ConvLayer]:
        """The convertible convolutions, in running order; those that share their weights may be one."""
        return self._layers

    @property
    def held_out(self) -> int:
        """How many inputs no layer is fitted to."""
        return self._parts.held_out.count

    @property
    def fitted_inputs(self) -> int:
        """How many inputs layers may be fitted to."""
        return sum(map(self._parts.count, self._parts.fitted))

    def samples(
        self, index: int, replaced: Mapping[int, Replacement], inputs: int | None = None
    ) -> Iterator[tuple[Values, ...]]:
        """Yield what a layer reads now and what it should give, for each part of the data and each call.

        Parameters
        ----------
        index : int
        replaced : mapping of int to Replacement
        inputs : int, optional
            So many calibration inputs are enough: always the same ones, spread over all.

        Yields
        ------
        x : ndarray, shape ``(N, C_in, *sizes)``
        y : ndarray, shape ``(N, C_out, *out_sizes)``
        floor : ndarray, shape ``(N, C_out, *out_sizes)``, optional
            As for :class:`Network`.
        """
        for part, call in self.calls_of(index, replaced, self._parts.some(self._parts.fitted, inputs)):
            yield self._sample(part, call)

    def visit(self, wanted: Mapping[int, int], tell: Callable[[int, tuple[Values, ...]], None]) -> None:
        """Tell the same of several layers of the original network, in one pass over the data.

        Parameters
        ----------
        wanted : mapping of int to int
            How many inputs are enough for each layer.
        tell : callable
            Called with a layer and what :meth:`samples` yields; arrays hold it only as long as that takes.
        """
        parts = {index: self._parts.some(self._parts.fitted, inputs) for index, inputs in wanted.items()}
        self.visit_calls(parts, lambda part, index, call: tell(index, self._sample(part, call)))

    def _sample(self, part: DataPart, call: LayerCall) -> tuple[Values, ...]:
        rows = self._parts.rows_fitted(part, len(call.x))
        sample = call.sample()
        return sample if len(rows) == len(call.x) else tuple(array[rows] for array in sample)

    def output_change(self, replaced: Mapping[int, Replacement], inputs: int | None = None) -> float:
        """Return the mean squared change of the network's outputs over their variance, on held-out inputs.

        Parameters
        ----------
        replaced : mapping of int to Replacement
        inputs : int, optional
            So many of the held-out inputs are enough.

        Returns
        -------
        float
            The mean over the outputs, see `OutputChange`. NaN where none was measured. The variance is that
            of all inputs; of a large network, of those held out and some others.
        """
        return self._loss(replaced, inputs).change

    def loss(self, replaced: Mapping[int, Replacement]) -> Loss:
        """Return the same with its interval, and the change of each output by itself."""
        return self._loss(replaced)

    def _loss(self, replaced: Mapping[int, Replacement], inputs: int | None = None) -> Loss:
        if not replaced:
            return Loss(0.0)
        measured = self._parts.some(self._parts.measured, inputs)
        parts = self._judged(measured)
        return self.change_among(self.outputs_with(replaced, parts, frozenset(measured)), parts)

    def change_among(self, batches: Iterable[Outputs], parts: Sequence[DataPart]) -> Loss:
        """Return the loss of outputs that are already there, part by part."""
        change = OutputChange(_Measured(self._parts, parts))
        for number, (before, after) in enumerate(batches):
            for output, values in before.items():
                change.add(number, output, values, None if after is None else after[output])
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

    def scored(self, number: int, inputs: int) -> Sequence[int]:
        """Return which inputs of a batch are scored."""
        return range(inputs) if self.validated else self._parts.held_out.measured(number, inputs).tolist()

    @abstractmethod
    def answers(self, replaced: Mapping[int, Replacement]) -> Iterator[Answers]:
        """Yield all outputs of the batches that are scored, as `Judge` takes them."""

    def _judged(self, measured: Sequence[DataPart]) -> list[DataPart]:
        """Return some parts that the change is measured on, and those that the variance is of as well."""
        others = [part for part in self._spread if part not in measured]
        return sorted([*measured, *others], key=lambda part: part.number)

    @cached_property
    def _spread(self) -> list[DataPart]:
        if not self.held_out:
            return list(self._parts.measured)
        macs = sum(layer.macs for layer in self._layers)
        enough = int(_CHEAP_PASS / max(macs, 1))
        return [*self._parts.some(self._parts.fitted, enough), *self._parts.measured]

    @abstractmethod
    def calls_of(
        self, index: int, replaced: Mapping[int, Replacement], parts: Sequence[DataPart]
    ) -> Iterator[tuple[DataPart, LayerCall]]:
        """Yield each call of a layer on some parts of the data, where `replaced` run in their new form."""

    @abstractmethod
    def visit_calls(
        self, wanted: Mapping[int, Sequence[DataPart]], tell: Callable[[DataPart, int, LayerCall], None]
    ) -> None:
        """Tell each call of some layers of the original, each on its parts of the data, in one pass."""

    @abstractmethod
    def outputs_with(
        self, replaced: Mapping[int, Replacement], parts: Sequence[DataPart], measured: Set[DataPart]
    ) -> Iterator[Outputs]:
        """Yield the outputs on each part: those with `replaced` only on those that are measured."""

    def milliseconds_of(self, index: int, replacements: Sequence[Replacement]) -> list[float]:
        """Return what :meth:`milliseconds` does of several forms of a layer."""
        return [self.milliseconds(index, replacement) for replacement in replacements]

    def saved_milliseconds(self, index: int, new: Replacement) -> float:
        """Return by how much less time a layer takes in its new form."""
        return self.milliseconds(index, None) - self.milliseconds(index, new)

    @abstractmethod
    def milliseconds(self, index: int, replacement: Replacement | None) -> float:
        """Return the measured time of one layer in one form (None: as it is), all calls of one pass."""
