"""From a trained network to its separable form: a form for each layer, and all of them fitted in turn."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np

from ..._base.workers import Workers, blas_alone
from ...arrays import arguments
from ..forms.activation import activation_of
from ..forms.layer import ConvLayer, Replacement
from ..forms.table import CHEAPER, FORMS, UNCHANGED, is_dense
from .curves import Curves
from .effort import ConversionEffort, Steps
from .equalise import equalised
from .fit import Fitter
from .goal import COSTS, ConversionGoal, count, goal_of
from .loss import Values
from .moments import Moments
from .network import Network, Progress, samples, visit
from .records import Conversion, ConversionReport, ConvertedLayer, Option

__all__ = ["COSTS", "Conversion", "ConversionReport", "ConvertedLayer", "Network", "Progress", "convert"]

# Output positions of each input that the moments are made from.
_POSITIONS: Final = 256

# Inputs from which equalisation takes the ranges of channels: at least, at most, and in between as many as
# take so many multiply-accumulates.
_INPUTS: Final = 8
_INPUTS_MOST: Final = 128
_EQUALISED: Final = 1e9

# How far the effects that layers had among converted ones are trusted: first, and if that was no better.
_TRUST: Final = (1.0, 0.5)

# Costs that differ by less than this fraction are not told apart, where the cheapest conversion is searched
# for; attempts at that; and by how much the loss that is aimed at may change from one to the next.
_FINE: Final = 0.03
_SEARCHES: Final = 4
_STEP: Final = 4.0

# A change of the outputs below which no better conversion is looked for.
_ENOUGH: Final = 1e-3

# Weights that change by less than this fraction are left as they are.
_SAME: Final = 1e-6


def convert(
    network: Network,
    budget: float | None = None,
    by: str = "macs",
    *,
    max_loss: float | None = None,
    forms: Sequence[str] = tuple(FORMS),
    rank: int | str | None = None,
    other_macs: int = 0,
    other_params: int = 0,
    other_ms: float = 0.0,
    positions: int = _POSITIONS,
    rounds: int = 4,
    equalise: bool = True,
    threads: int | None = None,
    loss_of: Callable[[Mapping[int, Replacement]], float] | None = None,
    put_back: Callable[[Mapping[int, Replacement]], Mapping[int, str]] | None = None,
    progress: Progress | None = None,
) -> Conversion:
    """Choose a form for each layer under a budget or a loss, and fit them one after the other.

    Parameters
    ----------
    network : Network
    budget : float, optional
        What may be left of the original's cost, as a fraction: above 0, at most 1.
    by : {"macs", "params", "time"}, optional
        The cost. "time" is that of the network's layers, as it measures them.
    max_loss : float, optional
        Instead of a budget: the cheapest that is found which loses no more. By default 0.005 where there is
        no budget and no rank.
    forms : sequence of str, optional
        Which forms may be used; "dense" always may.
    rank : int or "full", optional
        Instead of a budget: this rank for every layer, in the first of `forms` that it has, dearer or not.
        "full" says the same as the original, in that form.
    other_macs, other_params : int, optional
        Cost of the convolutions that cannot be converted; part of the original's.
    other_ms : float, optional
        What the network takes beside its layers, in milliseconds.
    positions : int, optional
        Output positions of each sample that are looked at, at most.
    rounds : int, optional
        Times that the choice is made anew with what it did to the outputs, and the network converted again.
    equalise : bool, optional
        Scale the channels between the convolutions of each form for eight bits, which changes nothing else.
    threads : int, optional
        That fits run on. Each call of BLAS runs on one of them. Default: one for each core.
    loss_of : callable, optional
        Returns what `max_loss` is of, given the layers in their new form. By default the change of the
        outputs.
    put_back : callable, optional
        Returns layers that shall stay as they are after all, and why, given all in their new form: those
        that do not pay where they run. What stands behind them is fitted once more.
    progress : callable, optional
        Called with the steps done, those to do, and the present one.

    Returns
    -------
    Conversion

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described, or the budget cannot be met.

    Notes
    -----
    1. For each layer, all forms and ranks that are cheaper than it are fitted to what it sees in the original
       network. Two of them are put into the network by themselves: how much they change its outputs
       tells what an error of this layer is worth.
    2. The choices whose errors, so weighted, add up to the least under the budget are found exactly.
    3. Layer by layer in running order: fit the form chosen to give the original's outputs for what the
       layer reads behind the layers already converted, so that errors do not pile up.
    4. The same with choices that are nowhere worse than one rank for all layers. Then weights are taken anew
       from the better of both, where each layer by itself is put back, and the network converted once more,
       as long as that changes the outputs less.

    Examples
    --------
    >>> import numpy as np
    >>> import separable as sp
    >>> class OneLayer:  # a network of one convolution, with its calibration inputs
    ...     def __init__(self, layer, x):
    ...         self.layers, self.x, self.held_out = [layer], x, len(x) // 8
    ...
    ...     def samples(self, index, replaced):
    ...         x = self.x[self.held_out :]
    ...         yield x, self.layers[0](x)
    ...
    ...     def output_change(self, replaced):
    ...         x, y = self.x[: self.held_out], self.layers[0](self.x[: self.held_out])
    ...         for conv in replaced[0].convs if replaced else self.layers:
    ...             x = conv(x)
    ...         return float(np.mean((x - y) ** 2) / np.var(y))
    ...
    ...     def milliseconds(self, index, replacement):
    ...         raise NotImplementedError("no budget of time")
    >>> rng = np.random.default_rng(0)
    >>> weights = rng.standard_normal((8, 4, 3, 3))
    >>> layer = sp.conv.ConvLayer("conv", weights, padding=((1, 1), (1, 1)), sizes=(8, 8))
    >>> network = OneLayer(layer, rng.standard_normal((64, 4, 8, 8)))
    >>> done = sp.conv.convert(network, budget=0.5)
    >>> done.report.macs_after <= 0.5 * done.report.macs_before, 0 < done.report.output_change < 1
    (True, True)
    >>> done.replacements[0].form == done.report.layers[0].form
    True
    """
    goal = goal_of(budget, by, max_loss, forms, rank)
    count(positions, "positions")
    count(rounds, "rounds", 0)
    for cost, name in ((other_macs, "other_macs"), (other_params, "other_params")):
        count(cost, name, 0)
    workers = Workers(arguments.thread_count(threads))
    try:
        with blas_alone():
            tries = rounds if rank is None else 0
            run = _ConversionRun(network, goal.by, goal.forms, positions, tries, progress, workers)
            other = {"macs": other_macs, "params": other_params, "time": other_ms}[goal.by]
            best = run.reached(goal, other, loss_of)
            reasons = {} if put_back is None else dict(put_back(best.replaced))
            if reasons:
                best = run.without(best, reasons)
            done = run.equalised(best.replaced) if equalise else best.replaced
    finally:
        workers.close()
    report = ConversionReport(
        goal.by,
        goal.budget,
        run.rows(best.picks, best.replaced, reasons),
        best.change,
        other_macs,
        other_params,
        () if rank is not None else run.curves.frontier(other),
        network.held_out,
        max_loss=goal.max_loss,
    )
    run.end()
    return Conversion(done, report)


def _allowed(curves: Curves, budget: float, other: float) -> float:
    """Return what the layers may cost together."""
    original, least = curves.dense + other, curves.least + other
    if least > budget * original:
        raise ValueError(
            f"`budget={budget}` of the {curves.by} cannot be met: the cheapest forms leave "
            f"{math.ceil(1e4 * least / original) / 1e4}; raise the budget"
            + (" or allow more forms." if len(curves.forms) < len(CHEAPER) else ".")
        )
    return budget * original - other


@dataclass(frozen=True, eq=False)
class _Attempt:
    """Choices, the layers fitted to them, and how much the outputs change."""

    picks: list[Option]
    replaced: dict[int, Replacement]
    change: float


class _ConversionRun:
    """The steps of a conversion, with what they share."""

    def __init__(
        self,
        network: Network,
        by: str,
        forms: Sequence[str],
        positions: int,
        rounds: int,
        progress: Progress | None,
        workers: Workers,
    ) -> None:
        self.network = network
        self.layers = tuple(network.layers)
        self._effort = ConversionEffort(self.layers, positions, getattr(network, "fitted_inputs", None))
        self.curves = Curves(network, by, forms, self._effort.probes, workers)
        self._workers = workers
        self._attempts = min(self._effort.attempts, 2 + rounds) if rounds else 1
        self._steps = Steps(self._effort.work, self._attempts, progress)
        # Layers fitted so far, by the choices up to them: attempts that begin alike share those.
        self._known: dict[tuple[tuple[str, int], ...], Replacement | None] = {}
        self._patches: dict[int, int] = {}

    def measure(self) -> None:
        """Find the ways to write each layer: all that matters of some layers in one pass."""
        self._steps.measures()
        for block in self._effort.blocks():
            cheaper = {index: self.curves.cheaper(index) for index in block}
            moments = {
                index: self._empty(index, self._effort.measured_positions(index))
                for index in block
                if cheaper[index]
            }
            wanted = {index: self._effort.measured_inputs(index) for index in moments}
            if wanted:
                self._steps.say("measuring", self.layers[block[0]])
                visit(self.network, wanted, partial(_add, moments))
            for index in block:
                self._steps.say("measuring", self.layers[index])
                if index in moments:
                    self.curves.measure(index, cheaper[index], moments.pop(index))
                self._steps.did(index)

    def reached(
        self,
        goal: ConversionGoal,
        other: float,
        loss_of: Callable[[Mapping[int, Replacement]], float] | None,
    ) -> _Attempt:
        """Return the conversion that was asked for, given what the network costs beside its layers."""
        if goal.rank is not None:
            picks = self.curves.of_rank(goal.rank)
            replaced = self.exact(picks) if goal.rank == "full" else self.fitted(picks)
            return _Attempt(picks, replaced, self.network.output_change(replaced))
        self.measure()
        if goal.max_loss is None:
            assert goal.budget is not None
            return self.best(_allowed(self.curves, goal.budget, other))
        return self.cheapest(goal.max_loss, loss_of)

    def cheapest(
        self, max_loss: float, loss_of: Callable[[Mapping[int, Replacement]], float] | None
    ) -> _Attempt:
        """Return the cheapest conversion found that loses no more than is allowed.

        Effects of layers tell how much their choices are expected to lose together. How far that is off
        shows with each attempt, and corrects the next one, which lies between the cheapest one that was good
        enough and the dearest one that was not.
        """
        unchanged = [options[0] for options in self.curves.options]
        best, aim = _Attempt(unchanged, {}, 0.0), max_loss
        seen: list[list[Option]] = []
        low, high = self.curves.least, self.curves.dense
        for _ in range(min(self._attempts, _SEARCHES)):
            allowed = self.curves.cost_of(aim)
            if not low <= allowed < high * (1 - _FINE):
                allowed = math.sqrt(max(low, 1e-3 * high) * high)
            picks = self.curves.chosen(max(allowed, low))
            if picks in seen:
                break
            seen.append(picks)
            attempt = self._attempt(picks)
            loss = attempt.change if loss_of is None else loss_of(attempt.replaced)
            cost = _cost_of(attempt.picks)
            if loss <= max_loss:
                high = min(high, cost)
                if cost < _cost_of(best.picks):
                    best = attempt
            else:
                low = max(low, cost * (1 + _FINE))
            aim *= min(max(max_loss / loss if loss > 0 else _STEP, 1 / _STEP), _STEP)
            if low >= high * (1 - _FINE):
                break
        return best

    def without(self, attempt: _Attempt, reasons: Mapping[int, str]) -> _Attempt:
        """Return the same with some layers as they were, those behind them fitted once more."""
        dense = [options[0] for options in self.curves.options] if self.curves.options else None
        if dense is None:
            dense = [Option(UNCHANGED, 0, math.nan, math.nan, math.nan)] * len(self.layers)
        picks = [dense[n] if n in reasons else pick for n, pick in enumerate(attempt.picks)]
        if all(is_dense(pick.form) for pick in picks):
            return _Attempt(picks, {}, 0.0)
        return self._attempt(picks)

    def best(self, allowed: float) -> _Attempt:
        """Return the conversion that changes the outputs least, of some under a budget."""
        best = self._attempt(self.curves.chosen(allowed))
        tries = 1
        if best.change < _ENOUGH:
            return best
        even = self.curves.even(allowed) if self._attempts > 1 else None
        seen, trust = [best.picks, even], 0
        if even is not None and even != best.picks:
            best, tries = min(best, self._attempt(even), key=lambda tried: tried.change), tries + 1
        while tries < self._attempts and best.change >= _ENOUGH:
            effects = self._effects(best)
            picks = self.curves.informed(allowed, best.picks, effects, _TRUST[trust])
            attempt = best if picks in seen else self._attempt(picks)
            seen.append(picks)
            tries += 1
            if attempt.change < best.change:
                best, trust = attempt, 0
            elif trust + 1 < len(_TRUST):
                trust += 1
            else:
                break
        return best

    def end(self) -> None:
        """Say that nothing is left to do."""
        self._steps.end()

    def _attempt(self, picks: list[Option]) -> _Attempt:
        replaced = self.fitted(picks)
        return _Attempt(picks, replaced, self.network.output_change(replaced))

    def _effects(self, attempt: _Attempt) -> dict[int, float]:
        """Return by how much the outputs would change less if each layer by itself were put back."""
        effects: dict[int, float] = {}
        for index in attempt.replaced if math.isfinite(attempt.change) else ():
            rest = {other: new for other, new in attempt.replaced.items() if other != index}
            gain = attempt.change - self.network.output_change(rest)
            # Layers behind it were fitted to make up for its error: putting it back may even be worse.
            effects[index] = max(gain, attempt.change / 100)
        return effects

    def exact(self, picks: Sequence[Option]) -> dict[int, Replacement]:
        """Write each layer as it is in its form."""
        return {
            index: Fitter(layer).replacement(pick.form, pick.rank)
            for index, (layer, pick) in enumerate(zip(self.layers, picks, strict=True))
            if not is_dense(pick.form)
        }

    def fitted(self, picks: Sequence[Option]) -> dict[int, Replacement]:
        """Fit each layer to what it reads behind those before it."""
        replaced: dict[int, Replacement] = {}
        ways = [(pick.form, pick.rank) for pick in picks]
        for index, layer in enumerate(self.layers):
            self._steps.say("fitting", layer)
            way = tuple(ways[: index + 1])
            if way not in self._known:
                self._known[way] = self._fitted(index, picks[index], replaced)
            new = self._known[way]
            if new is not None:
                replaced[index] = new
            self._steps.did(index)
        return replaced

    def _fitted(self, index: int, pick: Option, replaced: Mapping[int, Replacement]) -> Replacement | None:
        """Return what takes a layer's place; None if it stays as it is."""
        layer = self.layers[index]
        if is_dense(pick.form) and (not replaced or layer.bias is None or index in self.curves.small):
            return None
        fitter = Fitter(layer, self._moments(index, replaced), workers=self._workers)
        new = fitter.replacement(pick.form, max(pick.rank, 1))
        return None if is_dense(pick.form) and _same(new.convs[0].weights, layer.weights) else new

    def equalised(self, replaced: Mapping[int, Replacement]) -> dict[int, Replacement]:
        """Return the same functions, the channels between their convolutions scaled for eight bits."""
        scaled: dict[int, Replacement] = {}
        for index, new in sorted(replaced.items()):
            if len(new.convs) > 1:
                inputs = max(_INPUTS, min(_INPUTS_MOST, int(_EQUALISED / self.layers[index].macs)))
                seen = [x for x, *_ in samples(self.network, index, dict(scaled), inputs)]
                alike = np.concatenate([x for x in seen if x.shape[1:] == seen[0].shape[1:]])
                new = equalised(new, alike[:: -(-len(alike) // inputs)])
            scaled[index] = new
        return scaled

    def _moments(self, index: int, replaced: Mapping[int, Replacement]) -> Moments:
        keep = self._effort.excerpt(index) if replaced else 0
        moments = self._empty(index, self._effort.positions(index), keep)
        for x, y, *floor in samples(self.network, index, replaced, self._effort.inputs(index)):
            moments.add(x, y, *floor)
        self._patches[index] = moments.count
        return moments

    def _empty(self, index: int, positions: int, keep: int = 0) -> Moments:
        layer = self.layers[index]
        return Moments(layer, positions=positions // layer.calls, keep=keep, workers=self._workers)

    # -- the report -------------------------------------------------------------------------------------

    def rows(
        self, picks: Sequence[Option], replaced: Mapping[int, Replacement], reasons: Mapping[int, str]
    ) -> tuple[ConvertedLayer, ...]:
        """Return the rows of the report."""
        first = min(replaced, default=len(picks))
        return tuple(
            # An unchanged layer behind a changed one has other outputs as well; by how much was not measured.
            self._row(index, pick, replaced.get(index), 0.0 if index < first else math.nan, reasons)
            for index, pick in enumerate(picks)
        )

    def _row(
        self,
        index: int,
        pick: Option,
        new: Replacement | None,
        unchanged: float,
        reasons: Mapping[int, str],
    ) -> ConvertedLayer:
        layer, options = self.layers[index], self.curves.options[index] if self.curves.options else []
        timed = self.curves.by == "time" and bool(options)
        reason = ""
        if is_dense(pick.form):
            reason = "its error is worth more than what a form saves"
            if not options:
                reason = "it has none of the forms"
            elif index in self.curves.small:
                reason = "it costs next to nothing"
            elif len(options) == 1:
                reason = "no form is cheaper"
            reason = reasons.get(index, reason)
        return ConvertedLayer(
            name=layer.name,
            form=pick.form,
            rank=pick.rank,
            macs_before=layer.macs,
            macs_after=layer.macs if new is None else new.macs,
            params_before=layer.params,
            params_after=layer.params if new is None else new.params,
            error=unchanged if new is None else new.error,
            reason=reason,
            milliseconds_before=options[0].cost if timed else None,
            milliseconds_after=pick.cost if timed else None,
            activation=_activation_of(layer),
            options=tuple(options),
            patches=0 if new is None else self._patches.get(index, 0),
        )


def _cost_of(picks: Sequence[Option]) -> float:
    return math.fsum(option.cost for option in picks)


def _activation_of(layer: ConvLayer) -> str:
    """Return what is known of what reads a layer's output, in words."""
    known = activation_of(layer.activation)
    if known is not None:
        return known.name
    return f"none: {layer.read_by}" if layer.read_by else ""


def _add(moments: Mapping[int, Moments], index: int, sample: tuple[Values, ...]) -> None:
    moments[index].add(*sample)


def _same(new: Values, old: Values) -> bool:
    return float(np.abs(new - old).max()) <= _SAME * float(np.abs(old).max())
