"""Passes: each a function from graph to graph that does not change what the network means."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from ...onnx.model.names import ModelError
from ..graph.ir import Graph
from .activations import activations_applied, activations_recognised
from .borders import pads
from .channels import channel_orders
from .integers.contributed import contributed
from .integers.recognised import scaled_sums, sums_of_levels
from .layer_norms import layer_norms
from .norms import norms_after, norms_alone, norms_before
from .plain import dead, duplicates, layouts, nothing_done, pooled, products, sums
from .residuals import residuals
from .squeeze_excite import gate_sums, means, scales
from .transposed import transposed

__all__ = ["PASSES", "PassMemory", "simplified", "trace"]

# In order: levels are seen before anything is folded into what they stand for; a channel shuffle is seen
# before its reshapes are joined with others; then what has many forms is written in one; activations are
# recognised before a constant of theirs is folded into a convolution; what a convolution multiplies and adds
# comes before what it applies, and that before the sum and the mean of it. A transposed convolution has taken
# what it can before it is taken apart.
PASSES: Final[tuple[Callable[[Graph], Graph], ...]] = (
    dead,
    contributed,
    sums_of_levels,
    scaled_sums,
    nothing_done,
    duplicates,
    channel_orders,
    layouts,
    sums,
    products,
    layer_norms,
    activations_recognised,
    pads,
    norms_after,
    norms_before,
    norms_alone,
    activations_applied,
    residuals,
    pooled,
    means,
    gate_sums,
    scales,
    transposed,
)

# Rounds over all passes: what one uncovers, the next takes. Networks need two or three.
_MOST_ROUNDS: Final = 8


# Of graphs by what their nodes do, in order: the passes that changed them. A network is planned for many
# shapes, whose graphs differ in lengths alone: what found nothing in one finds nothing in the others, but for
# lengths of one.
PassMemory = dict[tuple[str, ...], tuple[Callable[[Graph], Graph], ...]]
_MOST_REMEMBERED: Final = 64


def simplified(graph: Graph, memory: PassMemory | None = None) -> Graph:
    """Return the graph after all passes, again and again until none finds anything.

    Parameters
    ----------
    graph : Graph
    memory : PassMemory, optional
        Of graphs of the same network: where one did the same, only the passes that changed it are taken. New
        ones are put in.

    Returns
    -------
    Graph
        Of the same inputs and outputs; the very one given where there is nothing to do.

    Raises
    ------
    ModelError
        If a node does not take what it is given.
    """
    if memory is None:
        *_, (_, last) = trace(graph)
        return last
    key = tuple([node.op for node in graph.nodes])
    helpful = memory.get(key)
    if helpful is None:
        found = list(_changes(graph))
        if len(memory) >= _MOST_REMEMBERED:
            memory.clear()
        memory[key] = tuple([rewrite for rewrite, _ in found])
        return found[-1][1] if found else graph
    for rewrite in helpful:
        graph = _rewritten(rewrite, graph)
    graph.notes.clear()
    return graph


def trace(graph: Graph) -> Iterator[tuple[str, Graph]]:
    """Yield the graph as given, and after each pass that changed it.

    Parameters
    ----------
    graph : Graph

    Yields
    ------
    name : str
        Of the pass; "given" at first.
    graph : Graph

    Raises
    ------
    ModelError
        If a node does not take what it is given.
    """
    yield "given", graph
    for rewrite, changed in _changes(graph):
        yield rewrite.__name__, changed


def _changes(graph: Graph) -> Iterator[tuple[Callable[[Graph], Graph], Graph]]:
    """Yield each pass that changed the graph, with what it made of it."""
    last: Callable[[Graph], Graph] | None = None  # the pass that changed it last
    for _ in range(_MOST_ROUNDS):
        for rewrite in PASSES:
            before, graph = graph, _rewritten(rewrite, graph)
            if graph is not before:
                last = rewrite
                yield rewrite, graph
            elif rewrite is last:
                graph.notes.clear()
                return  # those behind it have seen this very graph
        if last is None:
            graph.notes.clear()
            return


def _rewritten(rewrite: Callable[[Graph], Graph], graph: Graph) -> Graph:
    """Return what a pass makes of a graph: while lengths are open, nobody has checked all of its nodes."""
    try:
        return rewrite(graph)
    except (ArithmeticError, IndexError, KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"graph `{graph.name}` has a node that does not take what it is given: "
            f"{type(error).__name__}: {error} (in the pass {rewrite.__name__})."
        ) from error
