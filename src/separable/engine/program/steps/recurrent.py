"""Recurrent layers as native steps: one product of all inputs, then one step that goes through the times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from .... import _core
from ...._base.types import Array
from ...graph.ir import Node
from ...graph.shapes.reductions import GATES
from ..builder import Builder, UnsupportedError
from ..memory import Buffer, Plain
from .recorded import append_step

__all__ = ["recurrent"]

_DEFAULT: Final = {"LSTM": ("sigmoid", "tanh", "tanh"), "GRU": ("sigmoid", "tanh")}
_DIRECTIONS: Final = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}


@dataclass(frozen=True, slots=True)
class _Direction:
    """One direction: its packed weights, and what lies where for it."""

    backwards: bool
    weights: list[Any]  # one, or two where a gate is applied between them
    gates: Plain
    dst: Plain  # (times, sequences, width)
    first: tuple[Plain | None, Plain | None]  # state and cell, (sequences, width)
    last: tuple[Plain | None, Plain | None]

    @property
    def reads(self) -> list[Plain]:
        return [self.gates, *(held for held in self.first if held is not None)]

    @property
    def writes(self) -> list[Plain]:
        return [self.dst, *(held for held in self.last if held is not None)]

    def told(self) -> tuple[Any, ...]:
        """Return it as the core takes it, once all has its place."""

        def place(held: Plain | None) -> tuple[int, int] | None:
            return None if held is None else held.address

        gates = self.gates.strides[0], self.gates.strides[1]
        return (
            self.backwards,
            self.weights,
            (self.gates.address, gates),
            (self.dst.address, self.dst.strides[:2]),
            (place(self.first[0]), place(self.first[1])),
            (place(self.last[0]), place(self.last[1])),
        )


def recurrent(builder: Builder, node: Node) -> None:
    """Append an LSTM or a GRU of one or two directions."""
    _check(builder, node)
    times, count, _ = builder.shape(node.inputs[0])
    width = builder.shape(node.inputs[2])[2]
    label = next(name for name in node.outputs if name)
    y = _all_times(builder, node, (times, count, width))
    lasts = [_last(builder, node, number) for number in (1, 2)]
    directions = []
    for number, backwards in enumerate(_DIRECTIONS[str(node.attributes.get("direction", "forward"))]):
        gates, weights = _of_input(builder, node, number, label)
        directions.append(
            _Direction(
                backwards,
                weights,
                gates,
                Plain(y.buffer, (times, count, width), (*y.strides[:2], 1), y.offset + number * y.strides[2]),
                (_first(builder, node, 5, number), _first(builder, node, 6, number)),
                (_slice(lasts[0], number), _slice(lasts[1], number)),
            )
        )

    kind = "gru_before" if _resets_before(node) else node.op.lower()

    def add(program: Any) -> None:
        append_step(
            program,
            _core.add_recurrent,
            kind,
            times,
            count,
            width,
            [direction.told() for direction in directions],
        )

    builder.add(
        f"{node.op}{' both ways' if len(directions) > 1 else ''}",
        label,
        [held for direction in directions for held in direction.reads],
        list({held.buffer: held for direction in directions for held in direction.writes}.values()),
        add,
        macs=len(directions) * times * count * GATES[node.op] * width * width,
        weights=sum(packed.nbytes for direction in directions for packed in direction.weights),
    )


def _check(builder: Builder, node: Node) -> None:
    """Refuse what no step computes."""
    written = node.attributes
    ways = _DIRECTIONS[str(written.get("direction", "forward"))]
    names = [str(name).lower() for name in written.get("activations", ())]
    if names and names != list(_DEFAULT[node.op]) * len(ways):
        raise UnsupportedError(f"activations {', '.join(names)}")
    if written.get("layout") or written.get("input_forget") or "clip" in written:
        raise UnsupportedError("layout, clip or input_forget")
    if any(len(node.inputs) > place and node.inputs[place] for place in (4, 7)):
        raise UnsupportedError("sequences of different lengths, or peepholes")
    if any(not builder.is_constant(name) for name in node.inputs[1:4] if name):
        raise UnsupportedError("weights that are computed")


def _resets_before(node: Node) -> bool:
    """Whether a GRU scales the state before it is multiplied, as Cho et al. wrote it (arXiv:1406.1078)."""
    return node.op == "GRU" and not node.attributes.get("linear_before_reset")


def _of_input(builder: Builder, node: Node, number: int, label: str) -> tuple[Plain, list[Any]]:
    """Append the product of the inputs of all times; return it, and the packed weights of the state."""
    times, count, length = builder.shape(node.inputs[0])
    weights, own = (builder.constant(node.inputs[place])[number] for place in (1, 2))
    gates = weights.shape[0]
    width = gates // GATES[node.op]
    store = builder.store
    bias: Array | None = None
    later: Array | None = None
    if len(node.inputs) > 3 and node.inputs[3]:
        both = builder.constant(node.inputs[3])[number]
        apart = node.op == "GRU" and not _resets_before(node)
        kind = "gates of the product" if apart else "gates"
        bias, later = store.derived(
            kind, (both,), lambda: _biases(both, 2 * width if apart else both.size // 2)
        )
    parts = (2 * width, gates) if _resets_before(node) else (gates,)
    turned = store.derived(f"turned {len(parts)}", (own,), lambda: _turned(own, parts))
    packed = store.full(weights, bias, True)
    x = _rows(builder, node.inputs[0])
    made = builder.scratch((times, count, gates))

    def add(program: Any) -> None:
        append_step(
            program, _core.add_full, packed, times * count, x.address, x.strides, made.address, gates, None
        )

    macs = times * count * length * gates
    builder.add("fully connected", label, [x], [made], add, macs=macs, weights=packed.nbytes)
    later = later if node.op == "GRU" and len(parts) == 1 else None
    return made, [store.full(part, later, False) for part in turned]


def _turned(own: Array, ends: tuple[int, ...]) -> tuple[Array, ...]:
    """Return the weights of the state, of some gates after the others, a column each."""
    return tuple(np.ascontiguousarray(part.T) for part in np.split(own, ends[:-1]))


def _biases(both: Array, apart: int) -> tuple[Array, Array]:
    """Return what is added to the inputs' product, and to that of the state: from gate `apart` on."""
    gates = both.size // 2
    inputs, state = both[:gates].copy(), both[gates:].copy()
    inputs[:apart] += state[:apart]
    state[:apart] = 0
    return inputs, state


def _rows(builder: Builder, name: str) -> Plain:
    """Return the inputs of all times and sequences as one matrix."""
    x = builder.plain(name)
    times, count, length = x.shape
    if times > 1 and count > 1 and x.strides[0] != count * x.strides[1]:
        x = builder.plain(name, contiguous=True)
    row = x.strides[1] if count > 1 else x.strides[0]
    return Plain(x.buffer, (times * count, length), (row, x.strides[2]), x.offset)


def _all_times(builder: Builder, node: Node, shape: tuple[int, int, int]) -> Plain:
    """Return where results go, as (times, sequences, directions, width): that is how they are mostly read."""
    times, count, width = shape
    ways = builder.shape(node.inputs[2])[0]
    made = Plain.contiguous(Buffer(times * count * ways * width), (times, count, ways, width))
    if node.outputs[0]:
        strides = (made.strides[0], made.strides[2], made.strides[1], 1)
        builder.hold(node.outputs[0], Plain(made.buffer, (times, ways, count, width), strides))
    return made


def _last(builder: Builder, node: Node, number: int) -> Plain | None:
    name = node.outputs[number] if len(node.outputs) > number else ""
    return builder.plain_result(name) if name else None


def _first(builder: Builder, node: Node, place: int, number: int) -> Plain | None:
    name = node.inputs[place] if len(node.inputs) > place else ""
    if not name or (builder.is_constant(name) and not builder.constant(name).any()):
        return None
    return _slice(builder.plain(name, contiguous=True), number)


def _slice(held: Plain | None, number: int) -> Plain | None:
    """Return the part of one direction."""
    if held is None:
        return None
    return Plain(held.buffer, held.shape[1:], held.strides[1:], held.offset + number * held.strides[0])
