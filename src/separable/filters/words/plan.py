"""The description of a plan, as text and for notebooks."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from ..._base.words import html
from ..._base.words.quantities import by, in_bytes, plural
from ..._core import core_info
from ...kernel.value import ErrorBounds
from ..core import Jobs, folds


class Described(Protocol):
    """The part of a plan that is described."""

    @property
    def shape(self) -> tuple[int, ...]: ...  # noqa: D102
    @property
    def dtype(self) -> np.dtype[Any]: ...  # noqa: D102
    @property
    def method(self) -> str: ...  # noqa: D102
    @property
    def axes(self) -> tuple[int, ...]: ...  # noqa: D102
    @property
    def taps(self) -> tuple[int, ...]: ...  # noqa: D102
    @property
    def modes(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def terms(self) -> int: ...  # noqa: D102
    @property
    def macs(self) -> int: ...  # noqa: D102
    @property
    def dense_macs(self) -> int: ...  # noqa: D102
    @property
    def error(self) -> ErrorBounds: ...  # noqa: D102
    @property
    def threads(self) -> int: ...  # noqa: D102
    @property
    def scratch_bytes(self) -> int: ...  # noqa: D102
    @property
    def _jobs(self) -> Jobs: ...


def text(plan: Described) -> str:
    """Return the description of a plan as text."""
    rows = (
        f"  axis {axis}  {taps:7s}  {mode:8s}  {folded}".rstrip() for axis, taps, mode, folded in _rows(plan)
    )
    return "\n".join([_title(plan), *rows, *(f"  {remark}" for remark in _remarks(plan))])


def notebook(plan: Described) -> str:
    """Return the description of a plan as HTML."""
    rows = [(str(axis), *row) for axis, *row in _rows(plan)]
    table = html.table(("axis", "taps", "mode", ""), rows, (True, False, False, False))
    return html.block(_title(plan), table, html.lines(_remarks(plan)))


def _title(plan: Described) -> str:
    kernel = by(plan.taps, "x")
    how = f"{plan.method}, {plural(plan.terms, 'term')}" if plan.terms else plan.method
    return f"{kernel} kernel on {plan.shape} {plan.dtype.name}: {how}"


def _rows(plan: Described) -> list[tuple[int, str, str, str]]:
    """Return axis, taps, boundary mode and folding of each axis, the filtered ones first."""
    folded = folds(plan._jobs)
    filtered = sorted(zip(plan.axes, plan.taps, plan.modes, strict=True), reverse=True)
    others = sorted(set(range(len(plan.shape))) - set(plan.axes), reverse=True)
    return [
        *((axis, plural(taps, "tap"), mode, folded.get(axis, "")) for axis, taps, mode in filtered),
        *((axis, "not filtered", "", "") for axis in others),
    ]


def _remarks(plan: Described) -> list[str]:
    fewer = f", {plan.dense_macs / plan.macs:.3g}x fewer" if plan.macs < plan.dense_macs else ""
    target = core_info()["target"]
    return [
        f"{plan.macs} MACs per sample, dense {plan.dense_macs}{fewer}",
        f"kernel's relative l1 error at most {plan.error.relative_l1:.2g}",
        f"{plural(plan.threads, 'thread')}, scratch {in_bytes(plan.scratch_bytes)}, {target}",
    ]
