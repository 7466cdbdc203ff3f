"""Tables for the terminal; each function returns what rich prints, at any width."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from ..._base.words.printable import printable
from ..._base.words.quantities import by, in_seconds, percent, plural, times
from ...kernel.value import ErrorBounds, SeparableKernel
from ..values import Comparison, Study

_TAPS_SHOWN = 9  # taps along an axis that are worth printing
_WIDE = 74  # characters that a row of times needs


def facts(rows: Iterable[tuple[str, str | Text]]) -> Table:
    """Return labels and what they stand for, in two columns; text is shown as it is, and is no markup."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for label, value in rows:
        grid.add_row(label, Text(printable(value)) if isinstance(value, str) else value)
    return grid


def factorisation(study: Study) -> Group:
    """Return a kernel's factors, their cost and error, and what other ranks would give."""
    kernel = study.found
    rows: list[tuple[str, str | Text]] = [
        ("kernel", f"{study.name}, {by(kernel.shape)} {study.weights.dtype.name}"),
        ("separates", _verdict(study)),
        ("rank", f"{plural(kernel.rank, 'term')}"),
        ("taps", " + ".join(map(str, kernel.shape)) + _per_term(kernel)),
        ("cost", saving(kernel.macs, kernel.size)),
        *_error_rows(kernel.error),
    ]
    if kernel.noise is not None:
        rows.append(
            ("noise", f"{percent(kernel.noise)} of the kernel in l1, estimated; terms below it left out")
        )
    if kernel.rank == 1 and max(kernel.shape) <= _TAPS_SHOWN:
        rows += [(f"axis {axis}", _taps(taps.tolist())) for axis, taps in enumerate(kernel.terms[0])]
    if not study.offers:
        return Group(facts(rows))
    return Group(facts(rows), Text(), low_rank(study))


def _per_term(kernel: SeparableKernel) -> str:
    if kernel.rank == 1:
        return ""
    alone = kernel.rank * sum(n for n in kernel.shape if n > 1)
    return " per term; equal ones run once" if kernel.macs < alone else " per term"


def _error_rows(error: ErrorBounds) -> list[tuple[str, str | Text]]:
    if error.l1 == 0.0:
        return [("error", "none, the terms are the kernel exactly")]
    relative = f"at most {percent(error.relative_l1)} of the kernel in l1, {percent(error.relative_l2)} in l2"
    return [("error", relative), ("", f"so at most {error.l1:.2g} x max|input| in any sample")]


def _verdict(study: Study) -> Text:
    if study.separates:
        return Text("yes, one term is enough", style="green")
    distance = percent(study.single.error.relative_l1)
    return Text(f"no, the best single term is {distance} away (relative l1)", style="yellow")


def low_rank(study: Study) -> Table:
    """Return what a kernel costs, and how far it is, with each number of terms; its own is marked."""
    table = Table(
        box=box.SIMPLE_HEAD, pad_edge=False, title="What a sum of terms gives", title_justify="left"
    )
    for heading in ("terms", "MACs", "vs dense", "rel. l1", "rel. l2"):
        table.add_column(heading, justify="right", no_wrap=True)
    for kernel in study.offers:
        table.add_row(
            str(kernel.rank),
            str(kernel.macs),
            times(kernel.size / kernel.macs),
            percent(kernel.error.relative_l1),
            percent(kernel.error.relative_l2),
            style="bold" if kernel.rank == study.found.rank else None,
        )
    return table


def comparison(comparisons: Sequence[Comparison], reference: str, own: str, width: int) -> Table:
    """Return times side by side, or below each other where the terminal is narrow.

    Parameters
    ----------
    comparisons : sequence of Comparison
    reference : str
        The library the results are compared with.
    own : str
        The library whose time the others' are divided by.
    width : int
        Of the terminal, in characters.
    """
    peers = list(dict.fromkeys(name for row in comparisons for name in row.seconds if name != own))
    lay_out = _wide_comparison if width >= _WIDE else _narrow_comparison
    return lay_out(comparisons, reference, own, peers)


def _wide_comparison(
    comparisons: Sequence[Comparison], reference: str, own: str, peers: Sequence[str]
) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("work", overflow="fold", ratio=1)
    for name in (own, *peers, f"vs {reference}"):
        table.add_column(name, justify="right", no_wrap=True)
    for timed in comparisons:
        mine = timed.seconds[own]
        others = [Text("\n").join(_against(timed.seconds.get(name), mine)) for name in peers]
        table.add_row(timed.work, in_seconds(mine), *others, f"{timed.difference:.0e}", end_section=True)
    return table


def _narrow_comparison(
    comparisons: Sequence[Comparison], reference: str, own: str, peers: Sequence[str]
) -> Table:
    table = Table.grid(padding=(0, 1))
    table.add_column(overflow="fold")
    for timed in comparisons:
        mine = timed.seconds[own]
        lines = Table.grid(padding=(0, 2))
        lines.add_row(f"  {own}", in_seconds(mine), f"{timed.difference:.0e} off {reference}")
        for name in peers:
            lines.add_row(f"  {name}", *_against(timed.seconds.get(name), mine))
        table.add_row(Text(timed.work, style="bold"))
        table.add_row(lines)
    return table


def _against(seconds: float | None, own: float) -> tuple[Text, Text]:
    """Return a peer's time, and how many times ours it is."""
    if seconds is None:
        return Text("2-D only", style="dim"), Text()
    ratio = seconds / own
    return Text(in_seconds(seconds)), Text(times(ratio), style="green" if ratio >= 1 else "yellow")


def saving(macs: int, dense_macs: int) -> str:
    """Return a cost against the dense kernel's, in words."""
    if macs < dense_macs:
        return f"{macs} MACs per sample, not {dense_macs}: {times(dense_macs / macs)} fewer"
    return f"{macs} MACs per sample, {dense_macs} as it is: nothing saved"


def _taps(taps: Sequence[float]) -> str:
    return "  ".join(f"{tap:.4g}" for tap in taps)
