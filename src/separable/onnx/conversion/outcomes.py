"""By which tensors a converted model is judged: its outputs, or what they are chosen by."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

import numpy as np

from ..._base.types import Array
from ..costs.rules import dtypes_of
from ..model.files import Stored
from ..model.graph import GraphIndex, reads

__all__ = ["judged_by"]

_FLOATS: Final = ("float16", "float32", "float64", "bfloat16")

# Operators whose outputs are as long as what they read says.
_SELECTIONS: Final = ("NonMaxSuppression", "NonZero", "Compress", "Unique")

# Operators that only cast or arrange what they read first: labels stay labels.
_ARRANGED: Final = (
    *("Cast", "CastLike", "Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose"),
    *("Slice", "Gather", "Split", "Expand", "Concat"),
)

# Operators that leave the numbers as they are, and one behind the other.
_LAID_OUT: Final = ("Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose")

# Times the variance of others in one output, from which on these do not show beside it.
_LOUDER: Final = 10.0


def judged_by(
    stored: Stored,
    graph: GraphIndex,
    changing: Iterable[str],
    seen: Callable[[Sequence[str]], Mapping[str, Array]] | None = None,
) -> tuple[str, ...]:
    """Return the tensors in which a conversion shows.

    Whole numbers say too little: a label stays the same until it is another one. For each output of such,
    also where it is cast to floating point, stand the last floating-point tensors that it is computed from:
    what an ArgMax chooses by, a TopK sorts, or a Greater compares. For an output whose length depends on
    values, as that of a NonMaxSuppression, stand the tensors that say which of them are taken. An output that
    has no such tensor is judged itself. One that nothing changing reaches is left out. Where an output joins
    numbers of which some are so large that the others do not show beside them, as boxes in pixels and scores
    from 0 to 1, stand the parts that it is joined of.

    Parameters
    ----------
    stored : Stored
    graph : GraphIndex
        Of the same model.
    changing : iterable of str
        What the layers give that may be converted.
    seen : callable, optional
        Returns what some tensors hold on an input. Without it no output is taken apart.

    Returns
    -------
    tuple of str
        In the order of the outputs; empty if none is reached.
    """
    reached = _behind(graph, changing)
    dtypes: Mapping[str, str] = dtypes_of(stored)
    judged: list[str] = []
    for output in stored.proto.graph.output:
        if output.name in reached:
            judged += list(_standing_for(graph, output.name, reached, dtypes)) or [output.name]
    if seen is not None:
        judged = _apart(graph, judged, reached, seen)
    return tuple(dict.fromkeys(judged))


def _apart(
    graph: GraphIndex,
    names: Sequence[str],
    reached: set[str],
    seen: Callable[[Sequence[str]], Mapping[str, Array]],
) -> list[str]:
    """Return the same tensors, those whose parts are unlike exchanged for these."""
    joined: dict[str, list[str]] = {}
    ahead = list(names)
    while ahead:
        name = ahead.pop()
        joined[name] = _joined(graph, name, reached)
        ahead += [part for part in joined[name] if part not in joined]
    parts = sorted({part for pieces in joined.values() for part in pieces})
    variances = {name: float(np.var(np.asarray(values, np.float64))) for name, values in seen(parts).items()}

    def taken_apart(name: str) -> Iterator[str]:
        known = [variances[part] for part in joined[name]]
        if known and max(known) >= _LOUDER * min(known):
            for part in joined[name]:
                yield from taken_apart(part)
        else:
            yield name

    return [part for name in names for part in taken_apart(name)]


def _joined(graph: GraphIndex, name: str, reached: set[str]) -> list[str]:
    """Return the tensors that a Concat joins to one, as far as the conversion reaches them."""
    while name in graph.maker and graph.nodes[graph.maker[name]].op_type in _LAID_OUT:
        name = graph.nodes[graph.maker[name]].input[0]
    if name not in graph.maker or graph.nodes[graph.maker[name]].op_type != "Concat":
        return []
    return [part for part in graph.nodes[graph.maker[name]].input if part in reached]


def _standing_for(
    graph: GraphIndex, output: str, reached: set[str], dtypes: Mapping[str, str]
) -> Iterator[str]:
    """Yield what an output is judged by: itself, or what it is chosen by; nothing where that is not known."""
    numbers = sorted(_ahead_of(graph, [output], reached))
    selections = [number for number in numbers if graph.nodes[number].op_type in _SELECTIONS]
    if selections:
        for node in (graph.nodes[number] for number in selections):
            given = [name for name in reads(node) if name in reached]
            if not _ahead_of(graph, given, reached).isdisjoint(selections):
                continue  # what it selects from has no length of its own either
            for name in given:
                floats = dtypes.get(name) in _FLOATS
                yield from [name] if floats else _floats_before(graph, name, reached, dtypes)
    elif _holds_whole_numbers(graph, output, dtypes):
        yield from _floats_before(graph, output, reached, dtypes)
    else:
        yield output


def _holds_whole_numbers(graph: GraphIndex, name: str, dtypes: Mapping[str, str]) -> bool:
    """Return whether a tensor holds whole numbers or truth values, of their own type or cast to another."""
    while dtypes.get(name) in _FLOATS:
        if name not in graph.maker or graph.nodes[graph.maker[name]].op_type not in _ARRANGED:
            return False
        name = graph.nodes[graph.maker[name]].input[0]
    return name in dtypes


def _ahead_of(graph: GraphIndex, names: Iterable[str], reached: set[str]) -> set[int]:
    """Return the nodes, of those that the conversion reaches, that tensors are computed by."""
    nodes: set[int] = set()
    ahead = list(names)
    while ahead:
        maker = graph.maker.get(ahead.pop())
        if maker is not None and maker not in nodes:
            nodes.add(maker)
            ahead += [given for given in reads(graph.nodes[maker]) if given in reached]
    return nodes


def _behind(graph: GraphIndex, names: Iterable[str]) -> set[str]:
    """Return some tensors and all that is computed from them."""
    behind, ahead = set(names), list(names)
    while ahead:
        for number in graph.readers.get(ahead.pop(), []):
            new = {name for name in graph.nodes[number].output if name} - behind
            behind |= new
            ahead += new
    return behind


def _floats_before(
    graph: GraphIndex, name: str, reached: set[str], dtypes: Mapping[str, str]
) -> Iterator[str]:
    """Yield the nearest floating-point tensors, of those reached, that a tensor is computed from."""
    seen, ahead = {name}, [name]
    while ahead:
        for tensor in reads(graph.nodes[graph.maker[ahead.pop(0)]]):
            if tensor in seen or tensor not in reached or tensor not in graph.maker:
                continue
            seen.add(tensor)
            if dtypes.get(tensor) in _FLOATS:
                yield tensor
            else:
                ahead.append(tensor)
