"""What a network in fewer bits lost, as a record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["PrecisionRecord"]


@dataclass(frozen=True)
class PrecisionRecord:
    """The precision that a program was asked for, and how far its results are from those in float32.

    Attributes
    ----------
    precision : str
        "int8".
    layers : int
        Convolutions and products that run in it.
    others : tuple of str
        Those that stayed float32, by the tensors that they make.
    inputs : int
        Calls that the ranges come from, and that the error was measured on.
    error : mapping of str to float
        Of each output: the root of the mean square of the difference, over that of the results in float32.
    largest : mapping of str to float
        Of each output: the largest difference, over the largest result in float32.
    ranges : str
        How the ranges were chosen: "all" of what was met, or with the "least error" of single numbers.
    """

    precision: str
    layers: int
    others: tuple[str, ...]
    inputs: int
    error: Mapping[str, float]
    largest: Mapping[str, float]
    ranges: str
