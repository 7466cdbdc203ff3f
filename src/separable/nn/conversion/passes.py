"""Passes over a torch network that compute no more than what is asked of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Set
from contextlib import suppress
from functools import partial
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ...conv.forms.layer import ConvLayer, Replacement
from ..model.interception import Interception
from ..model.run import tensors_of
from ..model.untouched import map_tensors
from .kinds import is_linear
from .trace import is_plain_sum, is_same

__all__ = ["Demands", "ForwardPass", "Seen", "SeenCall", "Stop", "SumWatch", "blank_output", "find_demands"]

Seen = npt.NDArray[Any]

_SUMS: Final = (torch.ops.aten.add, torch.ops.aten.add_)


class SeenCall(NamedTuple):
    """What a layer read and gave in one call, and what was added to that."""

    x: Seen
    y: Seen
    other: Seen | None


class Stop(BaseException):
    """All that was wanted of a pass is there; no model's own `except` catches it."""


class ForwardPass(Interception):
    """One pass of the network: what runs in which form, and who is told of it.

    Parameters
    ----------
    replaced : mapping of int to Replacement
    wanted : mapping of int to int
        How often each layer is called that is looked at.
    summed : set of int
        Those of them whose output is added to another branch, which is looked at as well.
    inputs_only : bool
        What other layers give is no matter.
    tell : callable
        Called with a layer and what it read and gave, as soon as that is known. Arrays may be views of what
        the network goes on to overwrite.
    """

    def __init__(
        self,
        replaced: Mapping[int, Replacement],
        wanted: Mapping[int, int],
        summed: Set[int],
        inputs_only: bool = False,
        tell: Callable[[int, SeenCall], None] = lambda index, call: None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.replaced = replaced
        self.blanked = False  # whether some outputs are blank: what is made of them is not computed
        self.halved = False  # whether all convolutions give half of what they give
        self.place = 0  # calls of convolutions so far
        self._wanted, self._summed, self._inputs_only, self._tell = wanted, summed, inputs_only, tell
        self._read: Seen = np.empty(0)
        # A layer, what it read and gave, and the output that is yet to be added.
        self._pending: list[tuple[int, SeenCall, Tensor]] = []
        self._left = sum(wanted.values())

    def enter(self, index: int, x: Tensor) -> None:
        """Note what a layer reads, before anything can write to it."""
        if index not in self._wanted:
            return
        self._read = _copied(x) if index in self._summed else _array(x)
        if self._inputs_only and index not in self._summed:
            self._finish(index, SeenCall(self._read, np.empty(0), None))

    def leave(self, index: int, y: Tensor) -> None:
        """Note what it gives."""
        if index not in self._wanted or (self._inputs_only and index not in self._summed):
            return
        if index in self._summed:
            given = np.empty(0) if self._inputs_only else _copied(y)
            self._pending.append((index, SeenCall(self._read, given, None), y))
        else:
            self._finish(index, SeenCall(self._read, _array(y), None))

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run one operator, and note what is added to the output of a layer."""
        if self._pending and getattr(func, "overloadpacket", None) in _SUMS and is_plain_sum(args, kwargs):
            for term, other in (args, args[::-1]):
                for waiting in [pending for pending in self._pending if is_same(pending[2], term)]:
                    self._pending.remove(waiting)
                    self._finish(waiting[0], waiting[1]._replace(other=_array(other)))
        if self.blanked and any(tensor.is_meta for tensor in tensors_of((args, kwargs))):
            args, kwargs = map_tensors((args, kwargs), lambda tensor: tensor.to("meta"))
        return func(*args, **(kwargs or {}))

    def close(self) -> None:
        """Tell of what was never added: its sum did not run."""
        for index, call, _ in self._pending:
            self._tell(index, call)
        self._pending = []

    def _finish(self, index: int, call: SeenCall) -> None:
        self._tell(index, call)
        self._left -= 1
        if not self._left:
            raise Stop


def _array(tensor: Tensor) -> Seen:
    return np.asarray(tensor.detach().cpu().numpy())


def _copied(tensor: Tensor) -> Seen:
    return np.array(tensor.detach().cpu().numpy())


# -- what depends on what ------------------------------------------------------------------------------------


class Demands(NamedTuple):
    """Whose outputs reach a convolution's input without passing through another convolution.

    Calls of convolutions are counted from 0, as they run: their places.

    Attributes
    ----------
    reads : tuple of frozenset of int
        For each place the earlier ones that its input is made of.
    beside : tuple of frozenset of int
        For each place those that what its output is added to is made of; some may run later.
    outputs : frozenset of int
        Those that the outputs of the model are made of.
    """

    reads: tuple[frozenset[int], ...]
    beside: tuple[frozenset[int], ...]
    outputs: frozenset[int]

    def required(self, goals: Iterable[int], known: Callable[[int], bool]) -> set[int]:
        """Return the places whose outputs are needed for some others, back to those that are known."""
        needed: set[int] = set()
        waiting = list(goals)
        while waiting:
            place = waiting.pop()
            if place not in needed:
                needed.add(place)
                if not known(place):
                    waiting += self.reads[place]
        return needed

    def crossing(self, place: int) -> set[int]:
        """Return the places before one whose outputs are read there or later: all that later passes need."""
        later = set(self.outputs).union(*self.reads[place:], *self.beside[place:])
        return {other for other in later if other < place}


class SumWatch(Interception):
    """Tells what is added to some tensors, and refuses numbers that leave torch: they may steer the model."""

    def __init__(self, tell: Callable[[int, Tensor], None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._tell = tell
        self.waiting: list[tuple[int, Tensor]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run one operator."""
        packet = getattr(func, "overloadpacket", None)
        if packet is torch.ops.aten._local_scalar_dense:
            raise ValueError("the model looks at a number, and may do something else for another one.")
        if self.waiting and packet in _SUMS and is_plain_sum(args, kwargs):
            for term, other in (args, args[::-1]):
                for waiting in [entry for entry in self.waiting if is_same(entry[1], term)]:
                    self.waiting.remove(waiting)
                    self._tell(waiting[0], other)
        return func(*args, **(kwargs or {}))


class _PoisonedRun(Protocol):
    """Runs a network with the output of one place set to NaN (None: of none), all others as they were."""

    def __call__(
        self, source: int | None, read: Callable[[int, Tensor], None], added: Callable[[int, Tensor], None]
    ) -> Any:
        """Tell what each place reads, and what is added to what it gives; return the outputs."""


def find_demands(run: _PoisonedRun, count: int) -> Demands | None:
    """Find what depends on what, by runs in which one output is not a number.

    Parameters
    ----------
    run : callable
    count : int
        Places.

    Returns
    -------
    Demands, or None
        If the network does not run on NaN, makes some of its own, gives labels, or takes its way by what it
        computes.

    Notes
    -----
    Whatever differs from a run without NaN was made from it: what a comparison makes is a number again.
    """
    reads: list[set[int]] = [set() for _ in range(count)]
    beside: list[set[int]] = [set() for _ in range(count)]
    outputs: set[int] = set()
    plain: tuple[dict[int, Tensor], dict[int, Tensor]] = ({}, {})
    # Whatever a model raises on numbers that are none.
    with suppress(Exception):
        made = tensors_of(run(None, *(partial(_note, seen) for seen in plain)))
        if not all(tensor.is_floating_point() for tensor in made):
            return None  # labels are numbers whatever they are made of
        if any(map(_is_no_number, (*made, *plain[0].values(), *plain[1].values()))):
            return None
        for source in range(count):
            touched: tuple[dict[int, Tensor], dict[int, Tensor]] = ({}, {})
            changed = tensors_of(run(source, *(partial(_note, seen) for seen in touched)))
            for places, before, now in zip((reads, beside), plain, touched, strict=True):
                for place in now.keys() | before.keys():
                    if _differs(before.get(place), now.get(place)):
                        places[place].add(source)
            if any(_differs(before, now) for before, now in zip(made, changed, strict=True)):
                outputs.add(source)
        if all(place > source for place, sources in enumerate(reads) for source in sources):
            return Demands(tuple(map(frozenset, reads)), tuple(map(frozenset, beside)), frozenset(outputs))
    return None


def _note(seen: dict[int, Tensor], place: int, tensor: Tensor) -> None:
    seen[place] = tensor.detach().clone()


def _is_no_number(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and bool(tensor.isnan().any().numpy())


def _differs(before: Tensor | None, now: Tensor | None) -> bool:
    """Return whether a tensor is another one: not a number, or made from such by a comparison."""
    return before is None or now is None or before.shape != now.shape or not torch.equal(before, now)


def blank_output(layer: ConvLayer, module: Any, x: Tensor, meta: bool) -> Tensor:
    """Return what has the shape that a layer would give: zeros, or on the meta device no numbers at all."""
    linear = is_linear(module)
    shape = x.shape[:-1] if linear else (len(x), layer.c_out, *layer.sizes_for(x.shape[2:]))
    shape = (*shape, layer.c_out) if linear else shape
    return torch.zeros(shape, dtype=x.dtype, device="meta" if meta else x.device)
