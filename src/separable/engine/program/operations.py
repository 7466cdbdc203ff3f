"""The operations of a program before they are native steps: what they read, write, cost and are called."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .memory import Buffer

__all__ = ["Operation"]


@dataclass(eq=False, slots=True)
class Operation:
    """One native step.

    Attributes
    ----------
    kind : str
        What it does, in a word or two: "conv 3x3 /2", "depthwise 3x3", "pointwise > depthwise".
    label : str
        The tensor that it makes.
    shape : tuple of int
        Of that tensor.
    reads, writes : list of Buffer
    add : callable
        Adds the step to a native program, once all buffers have their places.
    macs : int
        Multiply-adds.
    notes : list of str
        What was fused into it.
    weights : int
        Bytes of weights that it reads.
    rate : float
        Multiply-adds that it does in the time of one in float32, at best.
    """

    kind: str
    label: str
    shape: tuple[int, ...]
    reads: list[Buffer]
    writes: list[Buffer]
    add: Callable[[Any], None]
    macs: int = 0
    notes: list[str] = field(default_factory=list)
    weights: int = 0
    rate: float = 1.0

    @property
    def bytes(self) -> int:
        """Bytes that it reads and writes, each once."""
        return 4 * sum(buffer.size for buffer in {*self.reads, *self.writes}) + self.weights
