"""By which tensors a converted model is judged: its outputs, or what they are chosen by."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from ..model.files import Stored
from ..model.graph import GraphIndex, reads
from ..model.rules import dtypes_of

__all__ = ["judged_by"]

_FLOATS = ("float16", "float32", "float64")


def judged_by(stored: Stored, graph: GraphIndex, changing: Iterable[str]) -> tuple[str, ...]:
    """Return the tensors in which a conversion shows.

    Whole numbers say too little: a label stays the same until it is another one. Where no output of
    floating-point numbers depends on what is converted, it is the last such tensors before the outputs: what
    an ArgMax chooses by, say.

    Parameters
    ----------
    stored : Stored
    graph : GraphIndex
        Of the same model.
    changing : iterable of str
        What the layers give that may be converted.

    Returns
    -------
    tuple of str
        In the order of the outputs; empty if there are none.
    """
    outputs = [output.name for output in stored.proto.graph.output]
    reached = _behind(graph, changing)
    dtypes: Mapping[str, str] = dtypes_of(stored)
    if any(name in reached and dtypes.get(name) in _FLOATS for name in outputs):
        return tuple(outputs)
    before = [
        floats
        for name in outputs
        if name in reached and dtypes.get(name) not in _FLOATS
        for floats in _floats_before(graph, name, reached, dtypes)
    ]
    return tuple(dict.fromkeys(before))


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
