"""What a conversion did, as people read it: printed, shown in a notebook, and written as a page."""

from __future__ import annotations

from dataclasses import dataclass, fields

from ..conv.conversion.records import ConversionReport
from .paged import Paged
from .text.conversions import notebook, table

__all__ = ["SeparationReport"]


@dataclass(frozen=True)
class SeparationReport(ConversionReport, Paged):
    """What a conversion did. Print it, or write it with `to_html` or `to_json`.

    Attributes
    ----------
    by : {"time", "macs", "params"}
    budget : float or None
        The fraction of the original's cost that was allowed; None where a rank was asked for.
    layers : tuple of ConvertedLayer
        In running order.
    output_change : float
        Mean squared change of the network's outputs over their variance, on `held_out` calibration inputs; of
        outputs of whole numbers, that are chosen by nothing known, the fraction of elements that change.
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
    notes : tuple of str
        What else became of the model, a sentence each.
    interval : tuple of (float, float) or None
        Where `output_change` on other inputs like these lies, at 95 % (Student's t over the inputs).
    outputs : tuple of OutputLoss
        The change of each output by itself: its `name`, `unit`, `change`, and the `reason` if not measured.
    score : Score or None
        What the user's metric says `before` and `after`, and its `drop`.
    model : str
        The name of the network.
    milliseconds_before, milliseconds_after : float or None
        Measured time of the whole network, on `batch` inputs.
    runtime : str
        What it was timed in.
    max_loss : float or None
        The change of the outputs, or the drop of the metric, that was allowed.
    batch : int
        Inputs that times are of.
    """

    @classmethod
    def of(cls, report: ConversionReport) -> SeparationReport:
        """Return the same report with everything that is here."""
        return cls(**{entry.name: getattr(report, entry.name) for entry in fields(ConversionReport)})

    def __str__(self) -> str:
        return table(self)

    def _repr_html_(self) -> str:
        return notebook(self)

    def _page(self) -> str:
        from .pages.conversion import page

        return page(self)
