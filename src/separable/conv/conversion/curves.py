"""The options of each layer of a network: their costs, their effects, and which of them to combine."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final, NamedTuple, TypeAlias

import numpy as np

from ..._base.workers import Workers
from ..algebra.allocate import Choice, allocate
from ..forms.dense import DENSE
from ..forms.form import LayerForm
from ..forms.layer import ConvLayer, Replacement
from ..forms.table import BASELINE, FORMS, UNCHANGED, is_dense
from .fit import Fitter
from .moments import Moments
from .network import Network, milliseconds_of, output_change
from .records import Option

__all__ = ["Candidates", "Compared", "Curves", "can_win"]

# By form: ranks, ascending, and their costs.
Candidates: TypeAlias = dict[str, list[tuple[int, float]]]

# Descent never leaves less than this fraction of a closed form's error: the least seen on layers of trained
# networks and on random ones is 0.2.
_LEFT: Final = 0.1

# Maximum number of ranks tried per form; fewer where they are timed.
_RANKS: Final = 16
_RANKS_TIMED: Final = 8

# Forms compute at no more than so many times the rate of the layer, as it is, that computes fastest.
_FASTER: Final = 1.25

# Layers of a network of which every single one matters; and the fraction of the MACs of all others that do
# not.
_FEW_LAYERS: Final = 16
_NEXT_TO_NOTHING: Final = 0.01

# Halvings in the search for the budget of an effect.
_BISECTIONS: Final = 12

# Budgets in the frontier of a report.
_BUDGETS: Final = 12

# A layer's effect among converted ones may change by this factor, either way, relative to the other layers'.
_TRUST: Final = 8.0


class _LayerChoice(NamedTuple):
    """What a form and a rank of a layer cost, and their error: after descent, and of the closed form."""

    form: str
    rank: int
    cost: float
    error: float
    closed: float


class Compared(NamedTuple):
    """The candidates of a layer, and some closed forms of it to be tried out in the network.

    Attributes
    ----------
    tried : list of _LayerChoice
    probes : list of (float, Replacement)
        With their errors as candidates are compared by: where data are few, those that are left on them are
        smaller.
    """

    tried: list[_LayerChoice]
    probes: list[tuple[float, Replacement]]


class Curves:
    """For each layer all ways to write it that may pay off, and choices among them.

    Parameters
    ----------
    network : Network
    by : {"time", "macs", "params"}
    forms : sequence of str

    Attributes
    ----------
    options : list of list of Option
        For each layer that was measured: as it is, then all that are cheaper.
    forms : list of str
        Those that may be used, but "dense".
    small : frozenset of int
        Layers that stay as they are because they are a hundredth of the MACs all together; none of a network
        of few layers.
    """

    def __init__(
        self, network: Network, by: str, forms: Sequence[str], probes: int, workers: Workers | None = None
    ) -> None:
        self.by = by
        self.forms = [form for form in forms if not is_dense(form)]
        self.options: list[list[Option]] = []
        self.small = _small([layer.macs for layer in network.layers])
        self._network, self._probes = network, probes
        self._workers = workers or Workers()

    # -- what each way of writing a layer costs, and what it does ---------------------------------------

    def begin(self, index: int) -> None:
        """Put down what a layer costs as it is; the layers in running order."""
        if index < len(self.options):
            return
        layer = self._network.layers[index]
        timed = self.by == "time"
        dense = self._network.milliseconds(index, None) if timed else self._counted(DENSE, layer, 1)
        self.options.append([Option(UNCHANGED, 0, dense, 0.0, 0.0)])

    def cheaper(self, index: int) -> Candidates:
        """Return by form the ranks and costs of a layer that are less than its own."""
        if index in self.small:
            return {}
        layer = self._network.layers[index]
        ranks = {form: self._ranks(layer, FORMS[form]) for form in self.forms}
        if self.by == "time":
            return self._below(index, self._milliseconds(index, ranks))
        costs = {
            form: [(rank, self._counted(FORMS[form], layer, rank)) for rank in some]
            for form, some in ranks.items()
        }
        return self._below(index, costs)

    def rated(self) -> list[Candidates]:
        """Return the same of all layers, by the time that forms take at the highest rate of any, or more."""
        layers = dict(enumerate(self._network.layers))
        large = [index for index in layers if index not in self.small]
        costs = {index: self.options[index][0].cost for index in large}
        rates = [layers[index].macs / cost for index, cost in costs.items() if cost > 0]
        fastest = _FASTER * max(rates, default=math.inf)

        def at_that_rate(layer: ConvLayer, form: LayerForm) -> list[tuple[int, float]]:
            return [(rank, form.cost(layer, rank).macs / fastest) for rank in self._ranks(layer, form)]

        return [
            self._below(index, {form: at_that_rate(layer, FORMS[form]) for form in self.forms})
            if index in costs
            else {}
            for index, layer in layers.items()
        ]

    def _below(self, index: int, costs: Mapping[str, list[tuple[int, float]]]) -> Candidates:
        dense = self.options[index][0].cost
        cheaper = {form: [pair for pair in pairs if pair[1] < dense] for form, pairs in costs.items()}
        return {form: pairs for form, pairs in cheaper.items() if pairs}

    def price(self, index: int, most: float) -> None:
        """Time the options of a layer that are known by a rate; drop those that do not pay, or lose more.

        Parameters
        ----------
        index : int
        most : float
            The effect on the outputs that is not worth timing.
        """
        dense, *others = self.options[index]
        options: dict[str, dict[int, Option]] = {}
        for option in others:
            if option.effect <= most:
                options.setdefault(option.form, {})[option.rank] = option
        timed = self._milliseconds(index, {form: list(some) for form, some in options.items()})
        self.options[index] = [
            dense,
            *(
                replace(options[form][rank], cost=cost)
                for form, costs in timed.items()
                for rank, cost in costs
                if cost < dense.cost
            ),
        ]

    def forget(self) -> None:
        """Forget all options but the layers as they are: those that are known by their rate alone."""
        self.options = [options[:1] for options in self.options]

    def _milliseconds(
        self, index: int, ranks: Mapping[str, Sequence[int]]
    ) -> dict[str, list[tuple[int, float]]]:
        """Return the times of ranks of forms: of three of each measured, between these in step with the work.

        None are returned of a form whose least rank takes longer than the layer as it is. Ranks ascend.
        """
        least = self._timed(index, ranks, {form: [0] for form, some in ranks.items() if some})
        dense = self.options[index][0].cost
        faster = [form for form, times in least.items() if times[0] < dense]
        places = {form: {len(ranks[form]) - 1, len(ranks[form]) // 2} - {0} for form in faster}
        others = self._timed(index, ranks, places)
        return {
            form: self._between(index, FORMS[form], ranks[form], least[form] | others[form])
            for form in faster
        }

    def _timed(
        self, index: int, ranks: Mapping[str, Sequence[int]], places: Mapping[str, Iterable[int]]
    ) -> dict[str, dict[int, float]]:
        """Return the times of forms at some places among their ranks, by form and place."""
        layer = self._network.layers[index]
        wanted = [(form, place) for form, some in places.items() for place in some]
        outlines = [FORMS[form].outline(layer, ranks[form][place]) for form, place in wanted]
        times: dict[str, dict[int, float]] = {form: {} for form in places}
        for (form, place), time in zip(wanted, milliseconds_of(self._network, index, outlines), strict=True):
            times[form][place] = time
        return times

    def _between(
        self, index: int, form: LayerForm, ranks: Sequence[int], known: Mapping[int, float]
    ) -> list[tuple[int, float]]:
        work = [form.cost(self._network.layers[index], rank).macs for rank in ranks]
        places = sorted(known)
        times = np.interp(work, [work[place] for place in places], [known[place] for place in places])
        return list(zip(ranks, times.tolist(), strict=True))

    def _counted(self, form: LayerForm, layer: ConvLayer, rank: int) -> float:
        cost = form.cost(layer, rank)
        return float({"macs": cost.macs, "params": cost.params}[self.by])

    def compared(self, index: int, cheaper: Candidates, moments: Moments) -> Compared:
        """Return the errors of the cheaper ways to write a layer, given the moments of what it reads.

        Layers may be compared in any order, and at the same time.
        """
        fitter = Fitter(self._network.layers[index], moments, workers=self._workers, last=True)
        tried = self._tried(fitter, cheaper)
        by_error = sorted(tried, key=lambda candidate: candidate.error)
        probed = [by_error[len(by_error) // 2], by_error[-1]]
        # Of many layers each is tried out once: how its effect bends with the error matters less.
        probed = probed[: 2 if len(self._network.layers) <= _FEW_LAYERS else 1]
        return Compared(tried, [(one.closed, fitter.closed(one.form, one.rank)) for one in probed])

    def weigh(self, index: int, compared: Compared) -> None:
        """Find what the errors of a layer do to the network, and note all its options."""
        weight = self._weight(index, compared.probes)
        self.options[index] += [
            Option(one.form, one.rank, one.cost, one.error, one.error * weight(one.error))
            for one in compared.tried
        ]

    def _tried(self, fitter: Fitter, cheaper: Candidates) -> list[_LayerChoice]:
        """Return the error of each candidate: of the closed form, less what descent gains where it matters.

        Forms come the best first. One whose candidates would all be beaten by another's that cost no more,
        even if descent left but a small part of their errors, is not fitted.
        """
        ranks = {form: [rank for rank, _ in pairs] for form, pairs in cheaper.items()}
        errors_of = self._workers.map(lambda form: fitter.closed_errors(form, ranks[form]), cheaper)
        closed = dict(zip(cheaper, errors_of, strict=True))
        tried: dict[str, list[_LayerChoice]] = {}
        for form in sorted(cheaper, key=lambda form: (not FORMS[form].settled, form != BASELINE)):
            best = [(one.cost, one.error) for others in tried.values() for one in others]
            if not can_win(cheaper[form], closed[form], best):
                errors = closed[form]
            else:
                errors = fitter.errors(form, ranks[form], closed[form])
            tried[form] = [
                _LayerChoice(form, rank, cost, error, bound)
                for (rank, cost), error, bound in zip(cheaper[form], errors, closed[form], strict=True)
            ]
        return [one for form in cheaper for one in tried[form]]

    def _ranks(self, layer: ConvLayer, form: LayerForm) -> list[int]:
        """Return the ranks to try: all where they are few, else some that grow evenly."""
        most = form.full_rank(layer)
        # By MACs and parameters alike a form is dearer than the dense one from some rank on.
        macs, params = layer.macs, layer.params
        while most > 0 and (cost := form.cost(layer, most)).macs >= macs and cost.params >= params:
            most = most * 7 // 8 if most > _RANKS else most - 1
        if self.by == "time" and not form.multiplies:
            return _ranks_timed(most)
        if most <= _RANKS:
            return list(range(1, most + 1))
        ranks = {max(1, round(most ** (n / _RANKS))) for n in range(1, _RANKS + 1)}
        return sorted(ranks if form.multiplies else {min(_even(rank), most) for rank in ranks})

    def _weight(self, index: int, probes: Sequence[tuple[float, Replacement]]) -> Callable[[float], float]:
        """Return how much an error of a layer changes the network's outputs, as one or two forms show."""
        known: list[tuple[float, float]] = []
        for error, probe in probes:
            change = output_change(self._network, {index: probe}, self._probes)
            if error > 0 and change > 0 and math.isfinite(change):
                known.append((math.log(error), math.log(change / error)))
        known.sort()
        places, weights = [place for place, _ in known], [weight for _, weight in known]

        def weight(error: float) -> float:
            if not known or error <= 0:
                return 1.0
            return math.exp(float(np.interp(math.log(error), places, weights)))

        return weight

    # -- choices ----------------------------------------------------------------------------------------

    @property
    def least(self) -> float:
        """The cost of the cheapest options together."""
        return sum(min(option.cost for option in options) for options in self.options)

    def least_of(self, cheaper: Sequence[Candidates]) -> float:
        """Return the same of layers that are yet to be measured, given their cheaper forms."""
        return math.fsum(
            min((cost for pairs in forms.values() for _, cost in pairs), default=options[0].cost)
            for forms, options in zip(cheaper, self.options, strict=True)
        )

    @property
    def dense(self) -> float:
        """The cost of all layers as they are."""
        return sum(options[0].cost for options in self.options)

    def cost_of(self, effect: float) -> float:
        """Return the least budget under which effects are expected to add up to no more than a number."""
        low, high = self.least, self.dense
        if sum(option.effect for option in self.chosen(low)) <= effect:
            return low
        for _ in range(_BISECTIONS):
            middle = math.sqrt(low * high) if low > 0 else high / 2
            if sum(option.effect for option in self.chosen(middle)) <= effect:
                high = middle
            else:
                low = middle
        return high

    def chosen(self, allowed: float) -> list[Option]:
        """Return the option of each layer so that the sum of the effects is least under a budget."""
        return _allocated(self.options, allowed)

    def even(self, allowed: float) -> list[Option] | None:
        """Return what is nowhere worse than one rank of the baseline for all; None if none is affordable."""
        ranks = {o.rank for options in self.options for o in options if o.form == BASELINE}
        for rank in sorted(ranks, reverse=True):
            alike = [
                next((o for o in options if (o.form, o.rank) == (BASELINE, rank)), options[0])
                for options in self.options
            ]
            if sum(option.cost for option in alike) <= allowed:
                no_worse = [
                    [option for option in options if option.error <= same.error]
                    for options, same in zip(self.options, alike, strict=True)
                ]
                return _allocated(no_worse, allowed)
        return None

    def informed(
        self, allowed: float, picks: Sequence[Option], effects: Mapping[int, float], trust: float
    ) -> list[Option]:
        """Return what is best if effects are what they turned out to be among the other layers.

        Parameters
        ----------
        allowed : float
            The budget.
        picks : sequence of Option
            What the network was converted to.
        effects : mapping of int to float
            By how much each layer changed the outputs in it.
        trust : float
            From 0, effects are as they were of each layer alone, to 1, as they turned out.
        """
        changes = {
            index: trust * math.log(effect / picks[index].effect)
            for index, effect in effects.items()
            if effect > 0 and picks[index].effect > 0
        }
        if not changes:
            return self.chosen(allowed)
        # A factor common to all layers does not change the choice; layers left as they are get that one.
        common = float(np.mean(list(changes.values())))
        limit = math.log(_TRUST)
        scales = [
            math.exp(float(np.clip(changes.get(index, common) - common, -limit, limit)))
            for index in range(len(self.options))
        ]
        scaled = [
            [replace(option, effect=scale * option.effect) for option in options]
            for options, scale in zip(self.options, scales, strict=True)
        ]
        places = [
            options.index(pick) for options, pick in zip(scaled, _allocated(scaled, allowed), strict=True)
        ]
        return [options[place] for options, place in zip(self.options, places, strict=True)]

    def of_rank(self, rank: int | str) -> list[Option]:
        """Return one rank for every layer, each in the first form that it has."""
        picks = []
        for layer in self._network.layers:
            form = FORMS[next((form for form in self.forms if FORMS[form].applies(layer)), UNCHANGED)]
            most = form.full_rank(layer)
            count = 0 if not form.ranked else most if isinstance(rank, str) else min(int(rank), most)
            picks.append(Option(form.name, count, math.nan, math.nan, math.nan))
        return picks

    def frontier(self, other: float) -> tuple[tuple[float, float], ...]:
        """Return fractions of the whole cost that could be left, and the effects that would go with them."""
        dense, least = self.dense, self.least
        if not 0 < least < dense:
            return ()
        points = set()
        for budget in np.geomspace(least, dense, _BUDGETS):
            picks = self.chosen(max(least, float(budget)))
            fraction = (sum(option.cost for option in picks) + other) / (dense + other)
            points.add((fraction, sum(option.effect for option in picks)))
        return tuple(sorted(points))


def _small(costs: Sequence[float]) -> frozenset[int]:
    """Return the cheapest of many layers, as many as cost next to nothing together."""
    order = np.argsort(costs, kind="stable")
    if len(order) <= _FEW_LAYERS:
        return frozenset()
    return frozenset(order[np.cumsum(np.array(costs)[order]) <= _NEXT_TO_NOTHING * sum(costs)].tolist())


def can_win(
    pairs: Sequence[tuple[int, float]], errors: Sequence[float], best: Sequence[tuple[float, float]]
) -> bool:
    """Return whether a form may err less than others somewhere, at no more cost, by bounds on its errors.

    Parameters
    ----------
    pairs : sequence of (rank, cost)
    errors : sequence of float
        Of the closed forms.
    best : sequence of (cost, error)
        Of others.
    """
    return any(
        not any(price <= cost and left <= _LEFT * error for price, left in best)
        for (_, cost), error in zip(pairs, errors, strict=True)
    )


def _even(rank: int) -> int:
    """Return the nearest number of channels that registers are filled by: 4, 8, 12, ... 24, 32, 40, ..."""
    step = 8 if rank >= 24 else 4
    return rank if rank <= 4 else step * round(rank / step)


def _ranks_timed(most: int) -> list[int]:
    """Return ranks that runtimes have whole blocks of channels for: 4, 8, and a few multiples of 16.

    Others take as long as the next multiple, or longer: a rank of 22 is outside of ONNX Runtime's blocked
    kernels and takes twice as long as one of 24 (measured, AVX-512).
    """
    wide = most // 16
    multiples = {16 * round(wide ** (n / _RANKS_TIMED)) for n in range(_RANKS_TIMED + 1)} if wide else set()
    return sorted(multiples | {rank for rank in (4, 8) if rank <= most}) or list(range(1, most + 1))


def _allocated(curves: Sequence[Sequence[Option]], allowed: float) -> list[Option]:
    choices = [[Choice(option.cost, option.effect) for option in curve] for curve in curves]
    return [curve[place] for curve, place in zip(curves, allocate(choices, allowed), strict=True)]
