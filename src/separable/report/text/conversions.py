"""What a conversion did, as people read it: plain text, and a page."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Final

from ..._base import html as _html
from ..._base.extras import extra
from ..._base.text import printable
from ...conv.conversion.records import ConversionReport, ConvertedLayer
from .audits import aligned

__all__ = ["SeparationReport", "change", "count", "fewer", "loss", "rank_of", "reasons"]

_WIDE: Final = 79  # characters; a table that is wider has a line for each name


@dataclass(frozen=True)
class SeparationReport(ConversionReport):
    """What a conversion did. Print it, or write it with `to_html` or `to_json`.

    Attributes
    ----------
    by : {"macs", "params", "latency"}
    budget : float or None
        The fraction of the original's cost that was allowed; None where a rank was asked for.
    layers : tuple of ConvertedLayer
        In running order.
    output_change : float
        Mean squared change of the network's outputs over their variance, on `held_out` calibration inputs.
        NaN where it was not measured, infinite where outputs change that did not vary; both are ``null`` in
        JSON, and `unmeasured` says which.
    other_macs, other_params : int
        Of what is not in `layers`.
    frontier : tuple of (float, float)
        What other budgets would come to: the fraction of the convolutions' cost that is left, and the change
        of the outputs that is expected.
    held_out : int
        Calibration inputs that were left out of the fit to measure `output_change` on.
    measured : tuple of str
        The tensors that `output_change` is of, where that is not the outputs.
    """

    @classmethod
    def of(cls, report: ConversionReport) -> SeparationReport:
        """Return the same report with everything that is here."""
        return cls(**{each.name: getattr(report, each.name) for each in fields(ConversionReport)})

    def __str__(self) -> str:
        lines = aligned(["", "", "", ""], [row[:4] for row in self._sums()], [False, True, False, True])[2:]
        lines = [f"{line}  {ratio}" for line, (*_, ratio) in zip(lines, self._sums(), strict=True)]
        lines += [f"  {remark}" if remark.startswith("(") else remark for remark in self._remarks()]
        changed = [layer for layer in self.layers if layer.form != "dense"]
        lines += ["", *_table(changed)] if changed else []
        for reason, names in reasons(self.layers).items():
            lines += ["", f"stayed dense: {reason}", *(f"  {name}" for name in names)]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        parts = [
            _html.table(["", "before", "", "after", ""], self._sums(), [False, True, False, True, False]),
            _html.lines(self._remarks()),
        ]
        changed = [layer for layer in self.layers if layer.form != "dense"]
        if changed:
            parts.append(_html.table(*_rows(changed)))
        dense = (
            (f"stayed dense: {reason}", ", ".join(names)) for reason, names in reasons(self.layers).items()
        )
        return _html.block("Conversion to separable form", *parts, _html.facts(dense))

    def _sums(self) -> list[list[str]]:
        """Return what MACs and parameters were and are, in words."""
        counts = {
            "MACs": (self.macs_before, self.macs_after),
            "parameters": (self.params_before, self.params_after),
        }
        return [
            [name, f"{before:,}", "->", f"{after:,}", fewer(before, after)]
            for name, (before, after) in counts.items()
        ]

    def _remarks(self) -> list[str]:
        """Return the loss and what it was measured on, or why it was not, and what was asked for."""
        said = [f"outputs: {self.unmeasured}"] if self.unmeasured else [loss(self), f"({self.measured_on})"]
        return [*said, self.aim] if self.aim else said

    def to_html(self, path: str | os.PathLike[str]) -> None:
        """Write one HTML page that opens offline: before and after, the frontier, every layer's options.

        It needs ``pip install 'separable[report]'``.

        Parameters
        ----------
        path : path-like
            The file appears there when it is complete.

        Raises
        ------
        FileError
            If it cannot be written.
        MissingExtraError
            If Altair, vl-convert or Jinja2 is not installed.
        """
        with extra("report"):
            from ..pages.conversion import page
            from ..pages.page import write

        write(page(self), path)


def reasons(layers: Sequence[ConvertedLayer]) -> dict[str, list[str]]:
    """Return why layers stayed dense, and the names of those that each reason is for."""
    found: dict[str, list[str]] = {}
    for layer in layers:
        if layer.form == "dense":
            found.setdefault(printable(layer.reason), []).append(printable(layer.name))
    return found


def rank_of(layer: ConvertedLayer) -> str:
    """Return a layer's rank in words: ``2``, or ``0..3`` where channels have ranks of their own."""
    if layer.form == "dense":
        return ""
    if isinstance(layer.rank, int):
        return str(layer.rank)
    least, most = min(layer.rank), max(layer.rank)
    return str(least) if least == most else f"{least}..{most}"


def loss(report: ConversionReport) -> str:
    """Return by how much the outputs change, in words, where that was measured."""
    return f"outputs change by {change(report.output_change)} of their variance"


def change(error: float) -> str:
    """Return a mean squared change over a variance: ``1.3 %``; nothing where it was not measured."""
    if math.isnan(error):
        return ""
    return "0" if error == 0 else f"{100 * error:.2g} %" if 1e-4 <= error < 10 else f"{error:.1e}"


def fewer(before: float, after: float) -> str:
    """Return a saving in words: ``8.0x fewer``."""
    return f"{before / after:.1f}x fewer" if 0 < after < before else "no fewer"


def count(number: float) -> str:
    """Return a count with three digits: ``73.7k``."""
    for scale, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= 0.9995 * scale:
            return f"{number / scale:.3g}{unit}"
    return f"{number:.3g}"


def _table(layers: Sequence[ConvertedLayer]) -> list[str]:
    """Return a line for each layer, or two where a line would be long."""
    headings, rows, numbers = _rows(layers)
    lines = aligned(headings, rows, numbers)
    if max(map(len, lines)) <= _WIDE:
        return lines
    lines = aligned(headings[1:], [row[1:] for row in rows], numbers[1:])
    named = [text for row, line in zip(rows, lines[2:], strict=True) for text in (row[0], f"  {line}")]
    return [f"  {lines[0]}", f"  {lines[1]}", *named]


def _rows(layers: Sequence[ConvertedLayer]) -> tuple[list[str], list[list[str]], list[bool]]:
    """Return headings, a row for each layer, and which columns are numbers."""
    timed = any(layer.milliseconds_after is not None for layer in layers)
    headings = ["layer", "form", "rank", "MACs", "now", *(["ms", "now"] if timed else []), "error"]
    rows = [
        [
            printable(layer.name),
            layer.form,
            rank_of(layer),
            count(layer.macs_before),
            count(layer.macs_after),
            *([_ms(layer.milliseconds_before), _ms(layer.milliseconds_after)] if timed else []),
            change(layer.error),
        ]
        for layer in layers
    ]
    numbers = [False, False, *[True] * (len(headings) - 2)]
    return headings, rows, numbers


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"
