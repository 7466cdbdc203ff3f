"""What a conversion did: a row for each layer, what it could have been, and the sums."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from ..._base.words.printable import printable
from ..forms.layer import Replacement
from ..forms.table import UNCHANGED, is_dense
from ..scores.records import Loss, OutputLoss, Score

__all__ = ["Conversion", "ConversionReport", "ConvertedLayer", "Option", "json_text"]

# Of the table that is printed: what each column holds, which of them are text, and what stands above them.
_COLUMNS: Final = ("name", "form", "rank", "MACs", "MACs now", "params", "params now", "error", "reason")
_TEXTS: Final = ("name", "form", "reason")
_HEADINGS: Final = ("layer", "form", "rank", "MACs", "", "params", "", "error", "")


@dataclass(frozen=True)
class Option:
    """One way to write a layer.

    Attributes
    ----------
    form : str
        As in :class:`Replacement`.
    rank : int
    cost : float
        In the unit of the budget: MACs for one input sample, parameters, or milliseconds.
    error : float
        Mean squared error of the layer's output over the output's variance.
    effect : float
        The change of the network's outputs that is expected of it: mean squared, over their variance.

    Examples
    --------
    >>> from separable.conv import Option
    >>> options = [Option("dense", 0, 46080, 0.0, 0.0), Option("dw-pw", 1, 14336, 0.04, 0.01)]
    >>> min(options, key=lambda option: option.cost).form
    'dw-pw'
    """

    form: str
    rank: int
    cost: float
    error: float
    effect: float


@dataclass(frozen=True)
class ConvertedLayer:
    """One row of a report.

    Attributes
    ----------
    name : str
    form : str
        As in :class:`Replacement`.
    rank : int or tuple of int
    macs_before, macs_after, params_before, params_after : int
        MACs for one input sample, all calls.
    error : float
        Mean squared error of the layer's output, in the converted network, over the output's variance. Of one
        that stayed as it is behind others that changed it was not measured: NaN, and ``null`` in JSON.
    reason : str
        Why it stayed dense; empty where it did not.
    milliseconds_before, milliseconds_after : float or None
        Measured, where the cost was the time.
    activation : str
        By its name, the activation that the fit took into account; or what reads the output instead,
        "none:" and its name. Empty where nothing does.
    options : tuple of Option
        All that was tried: the layer as it is, then what is cheaper.
    patches : int
        Output positions that it was fitted to, of all inputs together: a sample of them, where there are many
        more than it has weights to tell apart. 0: it was not fitted.

    Examples
    --------
    >>> from separable.conv import ConvertedLayer
    >>> row = ConvertedLayer("conv", "dw-pw", 1, 46080, 14336, 720, 224, error=0.002)
    >>> row.form, row.macs_before / row.macs_after
    ('dw-pw', 3.2142857142857144)
    """

    name: str
    form: str
    rank: int | tuple[int, ...]
    macs_before: int
    macs_after: int
    params_before: int
    params_after: int
    error: float
    reason: str = ""
    milliseconds_before: float | None = None
    milliseconds_after: float | None = None
    activation: str = ""
    options: tuple[Option, ...] = ()
    patches: int = 0


@dataclass(frozen=True)
class ConversionReport:
    """What a conversion did; ``print(report)`` is a table.

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
        Of what else multiplies.
    held_out : int
        Calibration inputs that were left out of the fit to measure `output_change` on; 0 if there were too
        few, and it was measured on those fitted to, which is less than it will be.
    frontier : tuple of (float, float)
        What other budgets would come to, by the sum of the layers' effects: the fraction of the original's
        cost that is left, and the change of the outputs that is expected.
    measured : tuple of str
        The tensors that `output_change` is of, where that is not the outputs: these hold whole numbers, such
        as labels, and are computed from those.
    notes : tuple of str
        What else became of the model, a sentence each.
    interval : tuple of (float, float) or None
        Where `output_change` on other inputs like these lies, at 95 %; None where that cannot be told.
    outputs : tuple of OutputLoss
        The change of each output by itself; `output_change` is their mean, in which each counts alike.
    score : Score or None
        What the user's metric says of the original and of the result.
    model : str
        The name of the network.
    milliseconds_before, milliseconds_after : float or None
        Measured time of the whole network, on `batch` inputs.
    runtime : str
        What it was timed in.
    max_loss : float or None
        The change of the outputs, or the drop of the metric, that was allowed; None where a budget or a rank
        was asked for.
    batch : int
        Inputs that times are of, where the network takes any number.

    Examples
    --------
    >>> from separable.conv import ConversionReport, ConvertedLayer
    >>> row = ConvertedLayer("conv", "dw-pw", 1, 46080, 14336, 720, 224, error=0.002)
    >>> report = ConversionReport("macs", 0.35, (row,), output_change=0.003, held_out=16)
    >>> report.macs_after / report.macs_before
    0.3111111111111111
    >>> "conv" in str(report)
    True
    """

    by: str
    budget: float | None
    layers: tuple[ConvertedLayer, ...]
    output_change: float
    other_macs: int = 0
    other_params: int = 0
    frontier: tuple[tuple[float, float], ...] = ()
    held_out: int = 0
    measured: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    interval: tuple[float, float] | None = None
    outputs: tuple[OutputLoss, ...] = ()
    score: Score | None = None
    model: str = ""
    milliseconds_before: float | None = None
    milliseconds_after: float | None = None
    runtime: str = ""
    max_loss: float | None = None
    batch: int = 1

    def with_loss(
        self, loss: Loss, measured: Sequence[str] = (), score: Score | None = None
    ) -> ConversionReport:
        """Return the same report with what was measured of the result as it is.

        Parameters
        ----------
        loss : Loss
        measured : sequence of str, optional
            As the attribute.
        score : Score, optional

        Returns
        -------
        ConversionReport
        """
        return replace(
            self,
            output_change=loss.change,
            interval=loss.interval,
            outputs=loss.outputs,
            measured=tuple(measured) if loss.outputs else (),
            score=score,
        )

    @property
    def macs_before(self) -> int:
        """MACs of all layers of the original, for one input sample."""
        return self.other_macs + sum(layer.macs_before for layer in self.layers)

    @property
    def macs_after(self) -> int:
        """MACs of all layers of the converted network, for one input sample."""
        return self.other_macs + sum(layer.macs_after for layer in self.layers)

    @property
    def params_before(self) -> int:
        """Parameters of all layers of the original."""
        return self.other_params + sum(layer.params_before for layer in self.layers)

    @property
    def params_after(self) -> int:
        """Parameters of all layers of the converted network."""
        return self.other_params + sum(layer.params_after for layer in self.layers)

    @property
    def changed(self) -> bool:
        """Whether any layer is another one than before; if not, the outputs are those of the original."""
        return any(
            not is_dense(layer.form) or layer.macs_after != layer.macs_before or layer.error > 0
            for layer in self.layers
        )

    @property
    def measured_on(self) -> str:
        """Which inputs `output_change` is of, in words."""
        where = "calibration inputs, which it was fitted to"
        if self.held_out:
            where = f"{self.held_out} calibration input{'s' if self.held_out > 1 else ''} left out of the fit"
        if self.measured:
            where += f"; of {', '.join(map(printable, self.measured))}, which the outputs are chosen by"
        return where

    @property
    def unmeasured(self) -> str:
        """Why `output_change` is no number, in words; empty where it is one."""
        if math.isnan(self.output_change):
            why = [f"{printable(output.name)}: {output.reason}" for output in self.outputs if output.reason]
            return f"not measured: {'; '.join(why) or 'no output varies with the calibration inputs'}"
        if math.isinf(self.output_change):
            return (
                "outputs change that do not vary with the calibration inputs: no fraction of their variance"
            )
        return ""

    @property
    def aim(self) -> str:
        """What was asked for, in words; empty where that was a rank."""
        if self.max_loss is not None:
            return f"least {self.by} for a loss of at most {self.max_loss:g}"
        return "" if self.budget is None else f"budget {self.budget:g} of {self.by}"

    def __str__(self) -> str:
        saved = self.macs_before / self.macs_after if self.macs_after else math.inf
        fewer = self.params_before / self.params_after if self.params_after else math.inf
        ratios = f"{saved:.2f}x fewer MACs, {fewer:.2f}x fewer parameters"
        table = _aligned([_HEADINGS, *map(_row, self.layers), self._sums()])
        return "\n".join([*table, f"{'; '.join(filter(None, (ratios, self.aim)))}."])

    def _sums(self) -> tuple[str, ...]:
        """Return the last row of the table."""
        totals = (self.macs_before, self.macs_after, self.params_before, self.params_after)
        change = _error(self.output_change) if self.changed else "-"
        said = self.unmeasured or ("of the output" if self.changed else "outputs as before")
        if self.changed and self.interval is not None:
            said += f", {_error(self.interval[0])} to {_error(self.interval[1])}"
        return ("all", "", "", *(f"{n:,}" for n in totals), change, said)

    def to_json(self) -> str:
        """Return everything as JSON text; numbers that were not measured, or are infinite, are ``null``.

        Returns
        -------
        str
        """
        totals = {
            name: getattr(self, name)
            for name in ("macs_before", "macs_after", "params_before", "params_after")
        }
        score = None if self.score is None else {**asdict(self.score), "drop": self.score.drop}
        said = {"unmeasured": self.unmeasured, "score": score}
        return json_text({**asdict(self), **totals, **said}, indent=2)


def json_text(values: Mapping[str, Any], indent: int | None = None) -> str:
    """Return values as JSON, which has no word for NaN and infinity: ``null`` stands for them.

    Parameters
    ----------
    values : mapping
        Of nested mappings, sequences, text and numbers.
    indent : int, optional
        As in `json.dumps`.

    Returns
    -------
    str
    """
    return json.dumps(_finite(values), indent=indent, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(entry) for key, entry in value.items()}
    return [_finite(entry) for entry in value] if isinstance(value, (list, tuple)) else value


def _row(layer: ConvertedLayer) -> tuple[str, ...]:
    """Return a layer's row of the table; a rank of each channel is shown as their sum."""
    rank = layer.rank if isinstance(layer.rank, int) else sum(layer.rank)
    counts = (layer.macs_before, layer.macs_after, layer.params_before, layer.params_after)
    return (
        printable(layer.name),
        layer.form,
        str(rank or "-"),
        *(f"{n:,}" for n in counts),
        _error(layer.error),
        printable(layer.reason),
    )


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of the table; columns of text are set to the left, those of numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            text.ljust(width) if heading in _TEXTS else text.rjust(width)
            for heading, text, width in zip(_COLUMNS, row, widths, strict=True)
        ).rstrip()
        for row in rows
    ]


def _error(error: float) -> str:
    return "-" if math.isnan(error) else f"{error:.1e}" if error else "0"


@dataclass(frozen=True, eq=False)
class Conversion:
    """A finished conversion.

    Attributes
    ----------
    replacements : dict of int to Replacement
        For each layer of the network that changes; one that stays as it is has no entry.
    report : ConversionReport

    Examples
    --------
    >>> import numpy as np
    >>> import separable as sp
    >>> layer = sp.conv.ConvLayer("conv", np.ones((4, 2, 3, 3)), padding=((1, 1), (1, 1)), sizes=(8, 8))
    >>> pair = sp.conv.fit(layer, form="dw-pw", rank=1)
    >>> report = sp.conv.ConversionReport("macs", 0.5, (), output_change=0.0)
    >>> done = sp.conv.Conversion({0: pair}, report)
    >>> [conv.weights.shape for conv in done.replacements[0].convs]
    [(2, 1, 3, 3), (4, 2, 1, 1)]
    """

    replacements: dict[int, Replacement]
    report: ConversionReport

    def put_back(self, reason: str) -> Conversion:
        """Return one that leaves every layer as it was, and says why."""
        rows = [
            layer
            if is_dense(layer.form)
            else replace(
                layer,
                form=UNCHANGED,
                rank=0,
                macs_after=layer.macs_before,
                params_after=layer.params_before,
                error=math.nan,
                reason=reason,
                milliseconds_after=layer.milliseconds_before,
            )
            for layer in self.report.layers
        ]
        return Conversion({}, replace(self.report, layers=tuple(rows)))
