"""The steps of a conversion, and what several conversions of one network share."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from types import TracebackType
from typing import Final

import numpy as np

from ..._base.workers import Workers, blas_alone, return_memory
from ...arrays import arguments
from ..forms.activation import activation_of
from ..forms.equalise import EqualisedOn
from ..forms.layer import ConvLayer, Replacement
from ..forms.table import FORMS, UNCHANGED, is_dense
from ..scores.loss import Values
from .allowance import Allowance
from .curves import Candidates, Curves
from .effort import MEASURING, TIMING, ConversionEffort, Steps, about
from .fit import Fitter
from .goal import ConversionGoal, count
from .moments import Moments
from .network import Network, NetworkTimes, Progress, samples, visit
from .records import Conversion, ConversionReport, ConvertedLayer, Option

__all__ = ["ConversionRun"]

# Output positions of each input that the moments are made from, and times that a choice is made anew.
POSITIONS: Final = 256
ROUNDS: Final = 4

# Attempts of which none is spent on what is nowhere worse than one rank for all: of a large network that is
# seldom the best (YOLOv8n: 0.139 for 0.074).
_FEW_ATTEMPTS: Final = 2

# How far the effects that layers had among converted ones are trusted: first, and if that was no better.
_TRUST: Final = (1.0, 0.5)

# Costs that differ by less than this fraction are not told apart, where the cheapest conversion is searched
# for; attempts at that; and by how much the loss that is aimed at may change from one to the next.
_FINE: Final = 0.03
_SEARCHES: Final = 4
_STEP: Final = 4.0

# A conversion to a loss is not begun if it cannot save this fraction of the whole cost, or if to save that is
# expected to lose so many times what is allowed: layers that are fitted one after the other lose less than
# they are expected to, but not so much less.
_WORTH: Final = 0.1
_HOPELESS: Final = 30.0

# A change of the outputs below which no better conversion is looked for.
_ENOUGH: Final = 1e-3

# Weights that change by less than this fraction are left as they are.
_SAME: Final = 1e-6

# Share of the memory that there is for a fit from which on what is free is returned before its parts.
_MUCH: Final = 0.25

# Bytes of fitted layers that are remembered from one goal to the next.
_REMEMBERED: Final = 1 << 28


@dataclass(frozen=True, eq=False)
class _Attempt:
    """Choices, the layers fitted to them, and how much the outputs change."""

    picks: list[Option]
    replaced: dict[int, Replacement]
    change: float
    refusal: str = ""  # why nothing was tried


class ConversionRun:
    """Conversions of one network to one goal or several: what these have in common is done once.

    That is the forms and ranks of each layer, with what they cost and do, and layers that are fitted behind
    the same others. It is a context: its threads end with it.

    Parameters
    ----------
    network : Network
    goals : sequence of ConversionGoal
        Of one cost, and the same forms.
    other_macs, other_params, other_ms, positions, rounds, equalise, threads : as in `convert`
    loss_of, put_back, whole_ms, progress : as in `convert`
    """

    def __init__(
        self,
        network: Network,
        goals: Sequence[ConversionGoal],
        *,
        other_macs: int = 0,
        other_params: int = 0,
        other_ms: float = 0.0,
        positions: int = POSITIONS,
        rounds: int = ROUNDS,
        equalise: bool = True,
        threads: int | None = None,
        loss_of: Callable[[Mapping[int, Replacement]], float] | None = None,
        put_back: Callable[[Mapping[int, Replacement]], Mapping[int, str]] | None = None,
        whole_ms: NetworkTimes | None = None,
        progress: Progress | None = None,
    ) -> None:
        goal = goals[0]
        count(positions, "positions")
        tries = count(rounds, "rounds", 0)
        self._other_macs = count(other_macs, "other_macs", 0)
        self._other_params = count(other_params, "other_params", 0)
        self._other = {"macs": other_macs, "params": other_params, "time": other_ms}[goal.by]
        self._loss_of, self._put_back, self._equalise = loss_of, put_back, equalise
        self._whole_ms = whole_ms if goal.by == "time" else None
        self.network = network
        self.layers = tuple(network.layers)
        self._effort = ConversionEffort(self.layers, positions, getattr(network, "fitted_inputs", None))
        self._attempts = 1
        if tries and goal.rank is None:
            least = 1 if goal.max_loss is None else _FEW_ATTEMPTS  # one that loses too much gives nothing
            self._attempts = max(min(self._effort.attempts, 2 + tries), least)
        self._measured = False
        self._goals = len(goals)  # not reached yet
        # What all layers take before anything is fitted, for one of fitting them all.
        self._first = MEASURING + (TIMING if goal.by == "time" else 0) if goal.rank is None else 0
        self._steps = Steps(self._effort.work, self._effort.seen(), self._ahead, progress)
        # Layers fitted so far, by the choices up to them: attempts that begin alike share those.
        self._known: dict[tuple[tuple[str, int], ...], Replacement | None] = {}
        self._patches: dict[int, int] = {}
        self._workers = Workers(arguments.thread_count(threads))
        self.curves = Curves(network, goal.by, goal.forms, self._effort.probes, self._workers)

    def __enter__(self) -> ConversionRun:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._workers.close()

    # -- one goal after the other -----------------------------------------------------------------------

    def reach(self, goal: ConversionGoal) -> Conversion:
        """Return the conversion that a goal asks for.

        Raises
        ------
        UnmetBudgetError
            If the cheapest forms leave more than its budget.
        """
        self._goals -= 1
        self._expect(1, self._attempts)
        with blas_alone():
            try:
                best = self._reached(goal)
                reasons = {} if self._put_back is None else dict(self._put_back(best.replaced))
                if reasons:
                    best = self._without(best, reasons)
            finally:
                self._expect(0, 0)
                self._forget()
        return Conversion(best.replaced, self._report(goal, best, reasons))

    def leave_out(self) -> None:
        """Say that a goal is not tried."""
        self._goals -= 1
        self._expect(0, 0)

    def unchanged(self, goal: ConversionGoal) -> Conversion:
        """Return what leaves every layer as it is."""
        return Conversion({}, self._report(goal, _Attempt(self._dense(), {}, 0.0), {}))

    def end(self) -> None:
        """Say that nothing is left to do."""
        self._steps.end()

    def _expect(self, least: int, most: int) -> None:
        """Say how many attempts are still made at the present goal."""
        self._steps.expect(about(least, most) + self._ahead)

    @property
    def _ahead(self) -> float:
        """How often all layers are fitted for other goals, and what comes before that."""
        return self._goals * about(1, self._attempts) + (0 if self._measured else self._first)

    def _forget(self) -> None:
        """Forget layers that were fitted first, until what is remembered is small enough."""
        size = sum(map(_bytes, self._known.values()))
        for way in list(self._known):
            if size <= _REMEMBERED:
                break
            size -= _bytes(self._known.pop(way))

    # -- the steps --------------------------------------------------------------------------------------

    def measure(self) -> None:
        """Find the ways to write each layer, once: all that matters of some layers in one pass."""
        if not self._measured:
            self._measure_all(self._cheaper)

    def _measure_all(self, cheaper: Sequence[Candidates]) -> None:
        self._measured = True
        with blas_alone():
            for block in self._effort.blocks():
                self._measure(block, cheaper)

    @cached_property
    def _cheaper(self) -> list[Candidates]:
        """The forms and ranks of each layer that cost less than it."""
        costs = []
        for index in self._timing():
            self.curves.begin(index)
            costs.append(self.curves.cheaper(index))
            self._timed()
        return costs

    def _timing(self) -> Iterator[int]:
        """Yield each layer, and tell that it is timed."""
        for index, layer in enumerate(self.layers):
            if self.curves.by == "time":  # the others are counted in no time
                self._steps.say("timing", layer)
            yield index

    def _timed(self) -> None:
        if self.curves.by == "time":
            self._steps.timed()

    @property
    def _worth(self) -> float:
        """What all layers may cost at most for something worth having to be saved."""
        return self.curves.dense - _WORTH * (self.curves.dense + self._other)

    def _measure(self, block: Sequence[int], cheaper: Sequence[Candidates]) -> None:
        moments = {
            index: self._empty(index, self._effort.measured_positions(index))
            for index in block
            if cheaper[index]
        }
        wanted = {index: self._effort.measured_inputs(index) for index in moments}
        if wanted:
            self._steps.say("measuring", self.layers[block[0]])
            visit(self.network, wanted, partial(self._add, moments))
        large = any(map(self._effort.fills_memory, wanted))
        if large:
            return_memory()
        compared = {}
        forms = (map if large else self._workers.each)(
            lambda index: self.curves.compared(index, cheaper[index], moments.pop(index)), wanted
        )
        for index in block:
            self._steps.say("measuring", self.layers[index])
            if index in wanted:
                compared[index] = next(forms)
            self._steps.did(index, MEASURING)
        for index, known in compared.items():  # when all threads are free for the network
            self._steps.say("measuring", self.layers[index])
            self.curves.weigh(index, known)

    def _add(self, moments: Mapping[int, Moments], index: int, sample: tuple[Values, ...]) -> None:
        self._steps.say("measuring", self.layers[index])
        moments[index].add(*sample)
        self._steps.did_pass(index, len(sample[0]))

    def _reached(self, goal: ConversionGoal) -> _Attempt:
        if goal.rank is not None:
            picks = self.curves.of_rank(goal.rank)
            replaced = self._exact(picks) if goal.rank == "full" else self._fitted(picks)
            return _Attempt(picks, replaced, self.network.output_change(replaced))
        if goal.max_loss is None:
            assert goal.budget is not None
            self.measure()
            return self._best(self._allowance.under(goal.budget))
        refusal = self._refusal(goal.max_loss)
        return _Attempt(self._dense(), {}, 0.0, refusal) if refusal else self._cheapest(goal.max_loss)

    @cached_property
    def _allowance(self) -> Allowance:
        return Allowance(self.curves, self._other, None if self._whole_ms is None else self._time_left)

    def _time_left(self, picks: Sequence[Option]) -> float | None:
        """Return what is left of the network's time, as a whole, with some choices."""
        assert self._whole_ms is not None
        times = self._whole_ms([self._outlines(picks)])
        return None if times is None else times[1] / times[0]

    def _outlines(self, picks: Sequence[Option]) -> dict[int, Replacement]:
        """Return the layers that change in their new form, not fitted."""
        return {
            index: FORMS[pick.form].outline(layer, pick.rank)
            for index, (layer, pick) in enumerate(zip(self.layers, picks, strict=True))
            if not is_dense(pick.form)
        }

    def _cheapest(self, max_loss: float) -> _Attempt:
        """Return the cheapest conversion found that loses no more than is allowed.

        Effects of layers tell how much their choices are expected to lose together. How far that is off
        shows with each attempt, and corrects the next one, which lies between the cheapest one that was good
        enough and the dearest one that was not.
        """
        best, aim = _Attempt(self._dense(), {}, 0.0), max_loss
        seen: list[list[Option]] = []
        low, high = self.curves.least, self.curves.dense
        most = min(self._attempts, _SEARCHES)
        for tries in range(most):
            self._expect(1, most - tries)
            allowed = self.curves.cost_of(aim)
            if not low <= allowed < high * (1 - _FINE):
                near = allowed >= high * (1 - _FINE) and high == self.curves.dense and self._loss_of is None
                allowed = math.sqrt(max(low, 1e-3 * high) * high)
                if near:  # what is fitted in turn may lose less than is expected: the least worth having
                    allowed = max(allowed, self._worth)
            picks = self.curves.chosen(max(allowed, low))
            if picks in seen:
                break
            seen.append(picks)
            attempt = self._attempt(picks)
            loss = attempt.change if self._loss_of is None else self._loss_of(attempt.replaced)
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

    def _refusal(self, max_loss: float) -> str:
        """Return in words why no conversion to a loss is begun; else all layers are measured."""
        if not self._measured:
            if self.curves.by == "time" and self._loss_of is None:
                refusal = self._refusal_by_rate(max_loss)
            else:
                refusal = self._least_cost(self.curves.least_of(self._cheaper))
            if refusal:
                return refusal
        self.measure()
        return self._least_cost(self.curves.least) or self._expected_loss(max_loss)

    def _refusal_by_rate(self, max_loss: float) -> str:
        """Return the same of costs as low as the fastest of all layers makes them; else all are timed.

        To time all forms takes longer than to see what they lose. So that is seen first, and only what may be
        taken is timed.
        """
        for index in self._timing():
            self.curves.begin(index)
        cheaper = self.curves.rated()
        refusal = self._least_cost(self.curves.least_of(cheaper))
        if not refusal:
            self._measure_all(cheaper)
            refusal = self._expected_loss(max_loss, ", at the rate of the fastest layer,")
        if refusal:
            self.curves.forget()
            self._measured = False  # another goal asks for what was forgotten
            return refusal
        for index in self._timing():
            self.curves.price(index, _HOPELESS * max_loss)
            self._timed()
        return ""

    def _least_cost(self, least: float) -> str:
        """Return in words what the cheapest forms leave, if they save nothing worth having."""
        if least <= self._worth:
            return ""
        left = (least + self._other) / (self.curves.dense + self._other)
        return f"the cheapest forms of all layers leave {left:.2g} of the {self.curves.by}"

    def _expected_loss(self, max_loss: float, how: str = "") -> str:
        """Return in words what the least saving worth having loses, if that is far too much."""
        if self._loss_of is not None or self._worth < self.curves.least:
            return ""
        effect = math.fsum(option.effect for option in self.curves.chosen(self._worth))
        if effect <= _HOPELESS * max_loss:
            return ""
        return (
            f"to save {_WORTH:.0%} of the {self.curves.by}{how} is expected to change the outputs by "
            f"{effect:.2g} of their variance, and {max_loss:g} is allowed"
        )

    def _dense(self) -> list[Option]:
        """Return each layer as it is."""
        if self.curves.options:
            return [options[0] for options in self.curves.options]
        return [Option(UNCHANGED, 0, math.nan, math.nan, math.nan)] * len(self.layers)

    def _without(self, attempt: _Attempt, reasons: Mapping[int, str]) -> _Attempt:
        """Return the same with some layers as they were, those behind them fitted once more."""
        dense = self._dense()
        picks = [dense[n] if n in reasons else pick for n, pick in enumerate(attempt.picks)]
        if all(is_dense(pick.form) for pick in picks):
            return _Attempt(picks, {}, 0.0)
        return self._attempt(picks)

    def _best(self, allowed: float) -> _Attempt:
        """Return the conversion that changes the outputs least, of some under a budget."""
        picks = self.curves.chosen(allowed)
        will_do = math.fsum(pick.effect for pick in picks) < _ENOUGH
        self._expect(1, 1 if will_do else self._attempts)
        best = self._attempt(picks)
        tries = 1
        if best.change < _ENOUGH:
            return best
        even = self.curves.even(allowed) if self._attempts > _FEW_ATTEMPTS else None
        seen, trust = [best.picks, even], 0
        if even is not None and even != best.picks:
            self._expect(2, self._attempts - tries)
            best, tries = min(best, self._attempt(even), key=lambda tried: tried.change), tries + 1
        while tries < self._attempts and best.change >= _ENOUGH:
            effects = self._effects(best)
            picks = self.curves.informed(allowed, best.picks, effects, _TRUST[trust])
            self._expect(1, self._attempts - tries)
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

    def _attempt(self, picks: list[Option]) -> _Attempt:
        replaced = self._fitted(picks)
        return _Attempt(picks, replaced, self.network.output_change(replaced))

    def _effects(self, attempt: _Attempt) -> dict[int, float]:
        """Return by how much the outputs would change less if each layer by itself were put back."""
        effects: dict[int, float] = {}
        for index in attempt.replaced if math.isfinite(attempt.change) else ():
            self._steps.say("comparing", self.layers[index])
            rest = {other: new for other, new in attempt.replaced.items() if other != index}
            gain = attempt.change - self.network.output_change(rest)
            # Layers behind it were fitted to make up for its error: putting it back may even be worse.
            effects[index] = max(gain, attempt.change / 100)
        return effects

    def _exact(self, picks: Sequence[Option]) -> dict[int, Replacement]:
        """Write each layer as it is in its form."""
        replaced: dict[int, Replacement] = {}
        for index, (layer, pick) in enumerate(zip(self.layers, picks, strict=True)):
            if not is_dense(pick.form):
                new, seen = Fitter(layer).replacement(pick.form, pick.rank), EqualisedOn(layer)
                if self._equalise and len(new.convs) > 1:
                    for x, *_ in samples(self.network, index, replaced, seen.inputs):
                        seen.add(x)
                replaced[index] = seen.equalised(new)
        return replaced

    def _fitted(self, picks: Sequence[Option]) -> dict[int, Replacement]:
        """Fit each layer to what it reads behind those before it."""
        replaced: dict[int, Replacement] = {}
        ways = [(pick.form, pick.rank) for pick in picks]
        for index, layer in enumerate(self.layers):
            self._steps.say("fitting", layer)
            way = tuple(ways[: index + 1])
            if way not in self._known:
                self._known[way] = self._fit(index, picks[index], replaced)
            new = self._known[way]
            if new is not None:
                replaced[index] = new
            self._steps.did(index)
        return replaced

    def _fit(self, index: int, pick: Option, replaced: Mapping[int, Replacement]) -> Replacement | None:
        """Return what takes a layer's place; None if it stays as it is."""
        layer = self.layers[index]
        if is_dense(pick.form) and (not replaced or layer.bias is None or index in self.curves.small):
            return None
        fills = self._effort.fills_memory(index, _MUCH)
        if fills:
            return_memory()
        moments, seen = self._moments(index, replaced, self._equalise and not is_dense(pick.form))
        if fills:
            return_memory()
        fitter = Fitter(layer, moments, workers=self._workers, last=True)
        new = fitter.replacement(pick.form, max(pick.rank, 1))
        if is_dense(pick.form):
            return None if _same(new.convs[0].weights, layer.weights) else new
        return seen.equalised(new)

    def _moments(
        self, index: int, replaced: Mapping[int, Replacement], equalise: bool
    ) -> tuple[Moments, EqualisedOn]:
        """Return the moments of what a layer reads now, and some of it if its form will be equalised."""
        keep = self._effort.excerpt(index) if replaced else 0
        inputs = self._effort.inputs(index)
        moments = self._empty(index, self._effort.positions(index), keep)
        seen = EqualisedOn(self.layers[index])
        for x, y, *floor in samples(self.network, index, replaced, inputs):
            moments.add(x, y, *floor)
            if equalise:
                seen.add(x, min(inputs, self._effort.available))
        self._patches[index] = moments.count
        return moments, seen

    def _empty(self, index: int, positions: int, keep: int = 0) -> Moments:
        layer = self.layers[index]
        return Moments(layer, positions=positions // layer.calls, keep=keep, workers=self._workers)

    # -- the report -------------------------------------------------------------------------------------

    def _report(self, goal: ConversionGoal, done: _Attempt, reasons: Mapping[int, str]) -> ConversionReport:
        return ConversionReport(
            goal.by,
            goal.budget,
            self._rows(done, reasons),
            done.change,
            self._other_macs,
            self._other_params,
            () if goal.rank is not None or not self.curves.options else self.curves.frontier(self._other),
            self.network.held_out,
            max_loss=goal.max_loss,
        )

    def _rows(self, done: _Attempt, reasons: Mapping[int, str]) -> tuple[ConvertedLayer, ...]:
        """Return the rows of the report."""
        first = min(done.replaced, default=len(done.picks))
        return tuple(
            # An unchanged layer behind a changed one has other outputs as well; by how much was not measured.
            self._row(
                index,
                pick,
                done.replaced.get(index),
                0.0 if index < first else math.nan,
                reasons.get(index, ""),
                done.refusal,
            )
            for index, pick in enumerate(done.picks)
        )

    def _row(
        self,
        index: int,
        pick: Option,
        new: Replacement | None,
        unchanged: float,
        reason: str,
        refusal: str,
    ) -> ConvertedLayer:
        layer, options = self.layers[index], self.curves.options[index] if self.curves.options else []
        timed = self.curves.by == "time" and bool(options)
        if not is_dense(pick.form):
            reason = ""
        elif not reason:
            reason = self._why_unchanged(index, refusal)
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

    def _why_unchanged(self, index: int, refusal: str) -> str:
        options = self.curves.options[index] if self.curves.options else []
        if not options:
            return "it has none of the forms"
        if index in self.curves.small:
            return "it costs next to nothing"
        if refusal:
            return refusal
        return "no form is cheaper" if len(options) == 1 else "its error is worth more than what a form saves"


def _bytes(new: Replacement | None) -> int:
    return 0 if new is None else sum(conv.weights.nbytes for conv in new.convs)


def _cost_of(picks: Sequence[Option]) -> float:
    return math.fsum(option.cost for option in picks)


def _activation_of(layer: ConvLayer) -> str:
    """Return what is known of what reads a layer's output, in words."""
    known = activation_of(layer.activation)
    if known is not None:
        return known.name
    return f"none: {layer.read_by}" if layer.read_by else ""


def _same(new: Values, old: Values) -> bool:
    return float(np.abs(new - old).max()) <= _SAME * float(np.abs(old).max())
