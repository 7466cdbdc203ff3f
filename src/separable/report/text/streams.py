"""Streams of the engine as plain text: what a hop computes of a window."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..._base.words.printable import printable
from ..._base.words.quantities import by, in_bytes, plural
from .columns import aligned

if TYPE_CHECKING:
    from ...engine.columns.stream import ColumnStream

__all__ = ["stream_table"]


def stream_table(stream: ColumnStream) -> str:
    """Return what a stream computes with each call: a line for each layer that is computed column by column.

    Parameters
    ----------
    stream : ColumnStream

    Returns
    -------
    str
    """
    plan = stream.plan
    share = 100 * stream.macs / max(stream.window_macs, 1)
    lines = [
        f"{printable(stream.network.name) or 'network'}: {plural(stream.hop, 'new column')} with each call, "
        f"of a window of {stream.window} along axis {stream.axis}; "
        f"{printable(plan.source)} is {by(plan.shape)}",
        f"  {stream.macs:,} of {stream.window_macs:,} MACs ({share:.0f} %); {in_bytes(stream.nbytes)} kept",
        f"  {_equality(stream)}",
        *(f"  {text}" for text in _whole(stream)),
    ]
    rows = [
        [printable(layer.op), printable(layer.name), *map(str, (layer.columns, layer.new, layer.ends))]
        for layer in stream.layers
    ]
    headings = ["layer", "makes", "columns", "new", "near the ends"]
    return "\n".join([*lines, "", *aligned(headings, rows, [False, False, True, True, True])])


def _equality(stream: ColumnStream) -> str:
    if not stream.difference:
        return "results are those of whole windows, bit for bit (measured on noise)"
    why = "; 3 x 3 convolutions are computed in tiles" if stream.plan.by_tiles else ""
    off = f"{stream.difference:.1g} of the largest (measured on noise)"
    return f"results differ from those of whole windows by {off}{why}"


def _whole(stream: ColumnStream) -> list[str]:
    """Return what is computed of whole windows, and why; and whether all this pays."""
    lines = []
    for stop in stream.plan.stops:
        name = f"{printable(stop.node.outputs[0])} ({printable(stop.node.op)})"
        lines.append(f"whole from {name} on: {printable(stop.reason)}")
        if stop.stride:
            lines[-1] += "; a multiple of it would let that layer slide too"
    ends = sum(layer.ends * stream.window // layer.columns for layer in stream.layers)
    total = sum(stream.window for _ in stream.layers)
    if stream.macs >= stream.window_macs:
        lines.append("it saves no multiplications: call the program with whole windows")
    elif 4 * ends > total:
        lines.append(
            f"{100 * ends / total:.0f} % of the columns are near the ends of the window and read padding: "
            "a network without it would save more"
        )
    return lines
