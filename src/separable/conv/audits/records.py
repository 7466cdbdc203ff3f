"""What a model costs, layer by layer: the records of a count, whichever framework ran it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias

from ..._base.words.printable import printable
from ..conversion.records import json_text
from .separability import Separability, frontier

if TYPE_CHECKING:
    from .machine import Machine

__all__ = ["AuditRecord", "Layer", "Refused", "Shape", "with_rooflines"]

Shape: TypeAlias = tuple[int, ...]


@dataclass(frozen=True)
class Layer:
    """One layer of a model: the same module doing the same work, in one call or several.

    Attributes
    ----------
    name : str
        Of the torch module that made the call ("" is the model itself), or of the ONNX node.
    kind : str
        "conv", "depthwise", "pointwise", "grouped", "transposed", "separable" (the fused operator of this
        package), "linear", "recurrent"; "matmul" and "attention" are products of two activations.
    operator : str
        As torch or ONNX calls it.
    weights : tuple of str
        Qualified names of the tensors of the model that it multiplied or added.
    kernel, stride, dilation : tuple of int
        One entry for each spatial axis; empty where there is none.
    groups : int
    dtype : str
        Of the result.
    inputs : tuple of tuple of int
        Shapes of the activations read, of one call.
    output : tuple of int
        Shape of the result of one call.
    calls : int
        How often it ran. `macs`, `flops`, `bytes` and the times are those of all calls together.
    macs : int
        Multiply-accumulates, for the whole batch.
    flops : int
        ``2 * macs``, and one for each addition of a bias.
    params : int
        Elements of the model's parameters that it is the first to use: no parameter counts twice.
    bytes : int
        Memory traffic if nothing stays in a cache between layers: activations in and out, weights.
    roofline_ms : float or None
        The time below which no implementation gets, by this machine's arithmetic and memory speed, or by the
        speeds that a measured layer reached where those are higher.
    measured_ms : float or None
        Median time; None if nothing was measured.

    Examples
    --------
    >>> import torch
    >>> import separable as sp
    >>> layer = sp.nn.audit(torch.nn.Conv2d(64, 64, 3, groups=64), (1, 64, 30, 30)).layers[0]
    >>> layer.kind, layer.kernel, layer.output, layer.macs
    ('depthwise', (3, 3), (1, 64, 28, 28), 451584)
    """

    name: str
    kind: str
    operator: str
    weights: tuple[str, ...]
    kernel: Shape
    stride: Shape
    dilation: Shape
    groups: int
    dtype: str
    inputs: tuple[Shape, ...]
    output: Shape
    calls: int
    macs: int
    flops: int
    params: int
    bytes: int
    roofline_ms: float | None
    measured_ms: float | None


def with_rooflines(
    layers: Sequence[Layer], machine: Machine | None, whole_ms: float | None = None
) -> tuple[tuple[Layer, ...], Machine | None]:
    """Return layers with the times below which nothing gets, none of them above what was measured.

    Parameters
    ----------
    layers : sequence of Layer
    machine : Machine or None
        None: nothing is known.
    whole_ms : float, optional
        Measured milliseconds of the whole model.

    Returns
    -------
    layers : tuple of Layer
    machine : Machine or None
        At the speeds that layers reached, where these are above its own.
    """
    if machine is None:
        return tuple(replace(layer, roofline_ms=None) for layer in layers), None
    runs = [(layer.macs, layer.bytes, layer.dtype, layer.measured_ms) for layer in layers]
    reached = machine.reached(runs, whole_ms)
    return tuple(
        replace(layer, roofline_ms=reached.roofline_ms(layer.macs, layer.bytes, layer.dtype))
        for layer in layers
    ), reached


@dataclass(frozen=True)
class Refused:
    """A convolution that cannot be converted.

    Attributes
    ----------
    name : str
    operator : str
        As torch or ONNX calls it.
    reason : str
    """

    name: str
    operator: str
    reason: str


@dataclass(frozen=True)
class AuditRecord:
    """What a model costs and how separable it is, layer by layer: plain data, and its sums.

    Attributes
    ----------
    model, example, remark : str
        What was counted, what it was run on, and how.
    layers : tuple of Layer
        In the order of their first call.
    params : int
        All parameters of the model.
    measured_ms : float or None
        Median time of the whole model.
    machine : Machine or None
        The speeds behind `roofline_ms`.
    uncounted : tuple of str
        Operators that may have multiplied, and that no rule covers.
    separability : tuple of Separability
    refused : tuple of Refused
    """

    model: str
    example: str
    layers: tuple[Layer, ...]
    params: int
    measured_ms: float | None
    machine: Machine | None
    uncounted: tuple[str, ...]
    remark: str
    separability: tuple[Separability, ...] = ()
    refused: tuple[Refused, ...] = ()

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all layers, for the whole batch of the example."""
        return sum(layer.macs for layer in self.layers)

    @property
    def flops(self) -> int:
        """Twice the MACs, and one for each addition of a bias."""
        return sum(layer.flops for layer in self.layers)

    @property
    def bytes(self) -> int:
        """Memory traffic of all layers if nothing stays in a cache between them."""
        return sum(layer.bytes for layer in self.layers)

    @property
    def macs_by_kind(self) -> dict[str, int]:
        """The MACs of each kind of layer, the largest first."""
        sums: dict[str, int] = {}
        for layer in self.layers:
            sums[layer.kind] = sums.get(layer.kind, 0) + layer.macs
        return dict(sorted(sums.items(), key=lambda item: -item[1]))

    @cached_property
    def frontier(self) -> tuple[tuple[int, float], ...]:
        """What fewer MACs cost, by the weights alone: pairs of the whole model's MACs and an error.

        The error is the root mean square over the layers of `separability` of the relative l2 error of their
        weights. Forms and ranks are allocated exactly; from the cheapest forms to the model as it is.
        """
        rest = self.macs - sum(layer.macs for layer in self.separability)
        return frontier(self.separability, rest)

    def __repr__(self) -> str:
        macs = f"{self.macs} MACs" if self.macs or not self.uncounted else "MACs not counted"
        costs = f"{macs}, {self.params} parameters"
        return f"<Audit of {printable(self.model)}: {costs}, {len(self.layers)} layers>"

    def to_json(self) -> str:
        """Return everything as JSON: the attributes, the sums, the frontier, and a list of layers.

        Returns
        -------
        str
        """
        sums = {"macs": self.macs, "flops": self.flops, "bytes": self.bytes}
        more = {"macs_by_kind": self.macs_by_kind, "frontier": self.frontier}
        return json_text({**asdict(self), **sums, **more}, indent=1)
