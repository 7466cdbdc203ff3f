"""From a trained network to its separable form: which layer in which form, and all of them fitted in turn."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Protocol

from .forms import Array
from .layer import ConvLayer, Replacement

__all__ = ["Conversion", "ConversionReport", "ConvertedLayer", "Network", "Progress"]


class Network(Protocol):
    """What a conversion asks of a framework's face; batch norms are folded into the layers."""

    @property
    def layers(self) -> Sequence[ConvLayer]:
        """The convertible convolutions, in running order."""

    def samples(self, index: int, replaced: Mapping[int, Replacement]) -> Iterator[tuple[Array, Array]]:
        """Yield, for each batch of calibration inputs, what a layer reads now and what it gave once.

        Parameters
        ----------
        index : int
            The layer. Where a pass calls it more than once, each call yields a pair.
        replaced : mapping of int to Replacement
            Layers that run in their new form; `index` is not one of them.

        Yields
        ------
        x : ndarray, shape ``(N, C_in, *sizes)``
            The layer's input in the network where `replaced` run in their new form.
        y : ndarray, shape ``(N, C_out, *out_sizes)``
            The layer's output in the original network, bias included, before any activation.
        """

    def output_change(self, replaced: Mapping[int, Replacement]) -> float:
        """Return the mean squared change of the network's outputs on the calibration data over their variance."""

    def milliseconds(self, index: int, replacement: Replacement | None) -> float:
        """Return the measured time of one layer in one form (None: as it is), all calls of one pass."""


class Progress(Protocol):
    """What is told how far a conversion is: called with the steps done, those to do, and the present one."""

    def __call__(self, done: int, total: int, step: str) -> None:
        """Take note."""


@dataclass(frozen=True)
class ConvertedLayer:
    """One row of a report.

    Attributes
    ----------
    name : str
    form : str
        As in :class:`Replacement`.
    rank : int or tuple of int
    macs_before, macs_after, params_before, params_after : int
        MACs for one input sample, all calls.
    error : float
        Mean squared error of the layer's output, in the converted network, over the output's variance.
    reason : str
        Why it stayed dense; empty where it did not.
    milliseconds_before, milliseconds_after : float or None
        Measured, where the budget was one of latency.
    """

    name: str
    form: str
    rank: int | tuple[int, ...]
    macs_before: int
    macs_after: int
    params_before: int
    params_after: int
    error: float
    reason: str = ""
    milliseconds_before: float | None = None
    milliseconds_after: float | None = None


@dataclass(frozen=True)
class ConversionReport:
    """What a conversion did; ``print(report)`` is a table.

    Attributes
    ----------
    by : {"macs", "params", "latency"}
    budget : float
        The fraction of the original's cost that was allowed.
    layers : tuple of ConvertedLayer
        In running order.
    output_change : float
        Mean squared change of the network's outputs on the calibration data over their variance.
    other_macs, other_params : int
        Of the convolutions that cannot be converted.
    """

    by: str
    budget: float
    layers: tuple[ConvertedLayer, ...]
    output_change: float
    other_macs: int = 0
    other_params: int = 0

    @property
    def macs_before(self) -> int:
        """MACs of all convolutions of the original, for one input sample."""
        return self.other_macs + sum(layer.macs_before for layer in self.layers)

    @property
    def macs_after(self) -> int:
        """MACs of all convolutions of the converted network, for one input sample."""
        return self.other_macs + sum(layer.macs_after for layer in self.layers)

    @property
    def params_before(self) -> int:
        """Parameters of all convolutions of the original."""
        return self.other_params + sum(layer.params_before for layer in self.layers)

    @property
    def params_after(self) -> int:
        """Parameters of all convolutions of the converted network."""
        return self.other_params + sum(layer.params_after for layer in self.layers)

    def to_json(self) -> str:
        """Return everything as JSON text.

        Returns
        -------
        str
        """
        totals = {
            name: getattr(self, name)
            for name in ("macs_before", "macs_after", "params_before", "params_after")
        }
        return json.dumps({**asdict(self), **totals}, indent=2)


@dataclass(frozen=True, eq=False)
class Conversion:
    """A finished conversion.

    Attributes
    ----------
    replacements : dict of int to Replacement
        For each layer of the network that changes; one that stays as it is has no entry.
    report : ConversionReport
    """

    replacements: dict[int, Replacement]
    report: ConversionReport
