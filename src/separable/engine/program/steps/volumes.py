"""Volumes: their slices are images, and what goes from slice to slice is a step of its own."""

from __future__ import annotations

from typing import Any, Final

from .... import _core
from ...graph.ir import Graph, Node, TensorType, free
from ..builder import Builder, UnsupportedError
from ..memory import Blocked, Plain
from .recorded import append_step, core_value

__all__ = ["global_pool", "image", "one_by_one", "pool"]

_OF_MAPS: Final = frozenset(
    {"Conv", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "Resize"}
)


def image(program: Any, held: Blocked) -> Any:
    """Return feature maps as the core takes them."""
    return core_value(
        program, _core.Image, *held.address, held.shape, held.lanes, (*held.pitches, held.lanes), held.around
    )


# -- several of them ---------------------------------------------------------------------------------


def one_by_one(graph: Graph) -> Graph:
    """Return a static graph in which convolutions and pools of several volumes work on each by itself."""
    several = {
        id(node)
        for node in graph.nodes
        if node.op in _OF_MAPS and len(out := graph.types[node.outputs[0]].shape) == 5 and out[0] != 1
    }
    if not several:
        return graph
    shape = graph.shapes()
    nodes: list[Node] = []
    types = dict(graph.types)
    taken = set(graph.names())
    for node in graph.nodes:
        if id(node) not in several:
            nodes.append(node)
            continue
        count = shape(node.outputs[0])[0]

        def part(name: str, number: int) -> str:
            made = free(f"{name}/{number}", taken)
            taken.add(made)
            types[made] = TensorType(graph.types[name].dtype, (1, *shape(name)[1:]))
            return made

        parts: dict[str, list[str]] = {}
        for name in dict.fromkeys(node.inputs):
            if name and name not in graph.constants and shape(name)[:1] == (count,):
                parts[name] = [part(name, number) for number in range(count)]
                nodes.append(Node("Split", (name,), tuple(parts[name]), {"axis": 0, "num_outputs": count}))
        made = {name: [part(name, number) for number in range(count)] for name in node.outputs if name}
        for number in range(count):
            inputs = tuple(parts[name][number] if name in parts else name for name in node.inputs)
            outputs = tuple(made[name][number] if name else "" for name in node.outputs)
            nodes.append(node.with_(inputs=inputs, outputs=outputs))
        nodes += [Node("Concat", tuple(names), (name,), {"axis": 0}) for name, names in made.items()]
    return graph.with_(nodes=tuple(nodes), types=types)


# -- pools -------------------------------------------------------------------------------------------


def pool(builder: Builder, node: Node) -> None:
    """Append a maximum or an average over windows: within slices, then from slice to slice."""
    attributes, out = node.attributes, node.outputs[0]
    source, target = builder.blocked(node.inputs[0]), builder.result(out)
    builder.clear_around(out, target)
    kernel, stride = attributes["kernel_shape"], attributes["strides"]
    dilation, pads = attributes.get("dilations", (1, 1, 1)), attributes["pads"]
    high = [max(pad, 0) for pad in pads[3:]]  # fewer windows than fit: the result is that small
    if len([name for name in node.outputs if name]) > 1:
        raise UnsupportedError("indices of the maxima")
    kind = "max" if node.op == "MaxPool" else "average"
    counted = bool(attributes.get("count_include_pad", 0))
    label = f"{kind} pool {' x '.join(map(str, kernel))}"
    flat = kernel[0] == stride[0] == 1 and not pads[0] and not pads[3]
    between = Blocked.fresh((source.shape[0], *target.shape[1:]), builder.lanes, rank=5)
    made = target if flat else between

    def within(program: Any) -> None:
        around = (*pads[1:3], *high[1:])
        ways = kernel[1:], stride[1:], dilation[1:], around
        append_step(
            program, _core.add_pool, kind, image(program, source), image(program, made), *ways, counted
        )

    builder.add(label, out, [source], [made], within)
    if flat:
        return

    def across(program: Any) -> None:
        ways = (kernel[0], 1), (stride[0], 1), (dilation[0], 1), (pads[0], 0, high[0], 0)
        append_step(
            program, _core.add_pool, kind, _rows(program, between), _rows(program, target), *ways, counted
        )

    builder.add(f"{kind} pool of {kernel[0]} slices", out, [between], [target], across)


def _rows(program: Any, held: Blocked) -> Any:
    """Return a volume turned: its rows are images, whose rows are slices."""
    count, channels, height, width = held.shape
    slice_, block, row = held.pitches
    shape, pitches = (height, channels, count, width), (row, block, slice_, held.lanes)
    return core_value(program, _core.Image, *held.address, shape, held.lanes, pitches, (0, 0, 0, 0))


def global_pool(builder: Builder, node: Node, source: Blocked, reduction: str) -> None:
    """Append the mean, or the maximum, of each channel: of each slice, then of all slices."""
    count, wide = source.shape[0], source.blocks * source.lanes
    parts = builder.scratch((count, wide))

    def of_slices(program: Any) -> None:
        append_step(program, _core.add_mean, image(program, source), parts.address, (wide, 1), reduction)

    builder.add(f"{reduction} of slices", node.outputs[0], [source], [parts], of_slices)

    def write(target: Blocked) -> None:
        channels = source.shape[1]

        def add(program: Any) -> None:
            lengths, to = (count, channels), Plain.contiguous(target.buffer, (1, channels)).strides
            append_step(
                program,
                _core.add_reduce,
                reduction,
                lengths,
                [0],
                parts.address,
                parts.strides,
                target.address,
                to,
            )

        builder.add(f"{reduction} of maps", node.outputs[0], [parts], [target], add)

    builder.row_result(node.outputs[0], write)
