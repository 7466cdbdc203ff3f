"""What a network loses over what it costs, as people read it: printed, in a notebook, and as a page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from ..conv.frontiers.records import FrontierRecord, PointRecord
from .paged import Paged
from .text.frontiers import notebook, table

__all__ = ["Frontier"]

_Point = TypeVar("_Point", bound=PointRecord)


@dataclass(frozen=True, eq=False, repr=False)
class Frontier(FrontierRecord[_Point], Paged):
    """How much a network loses at several costs. Print it, or write it with `to_html` or `to_json`.

    Attributes
    ----------
    original : FrontierPoint
        The network as it was given.
    points : tuple of FrontierPoint
        A network for each budget, the largest first: its `milliseconds`, `macs`, `params`, `loss` with its
        `interval`, the `score` of a metric, its `report`, whether it is `dominated` by another one, and its
        `model`.
    left_out : tuple of LeftOut
        Budgets that have no point: each with its `budget` and the `reason`.
    notes : tuple of str
        What else became of the model, a sentence each.
    model, by, runtime, batch, metric
        The network's name, what budgets are of, where times were measured and of how many inputs, and the
        name of the metric whose drop is the loss; empty where the loss is the change of the outputs.

    Examples
    --------
    >>> import torch
    >>> import separable as sp
    >>> convs = torch.nn.Conv2d(3, 16, 3), torch.nn.Conv2d(16, 16, 3)
    >>> net = torch.nn.Sequential(convs[0], torch.nn.ReLU(), convs[1]).eval()
    >>> options = {"by": "macs", "runtime": "torch", "progress": False}
    >>> found = sp.nn.frontier(net, torch.randn(32, 3, 12, 12), [0.5, 0.02], **options)
    >>> len(found.points), found.left_out[0].budget  # which nothing can meet
    (1, 0.02)
    >>> found.best(max_loss=0.0) is found.original
    True
    """

    def __str__(self) -> str:
        return table(self)

    def __repr__(self) -> str:
        budgets = ", ".join(f"{point.budget:g}" for point in self.points) or "none"
        return f"<Frontier of {self.model or 'a network'}: budgets {budgets}>"

    def _repr_html_(self) -> str:
        return notebook(self)

    def _page(self) -> str:
        from .pages.frontier import page

        return page(self)
