"""The conversion of a network that is nothing but NumPy: no framework is needed for what it promises."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest

from separable.conv import ConvLayer, Moments, Replacement, convert, fit
from separable.conv.algebra.cholesky import Cholesky
from separable.conv.conversion.curves import Curves, _small, can_win
from separable.conv.conversion.fit import Fitter
from separable.conv.conversion.goal import goal_of
from separable.conv.conversion.network import DataParts
from separable.conv.conversion.run import ConversionRun
from separable.conv.forms.table import CHEAPER, FORMS
from separable.conv.scores.loss import HeldOut
from tests.conv_layers import inputs_of, layer_of

COUNT = 96


class Chain:
    """Convolutions one after the other, rectified in between; knows what it was asked."""

    def __init__(self, layers: list[ConvLayer], x: np.ndarray, batch: int = 24) -> None:
        self.layers = layers
        self.batches = [x[start : start + batch] for start in range(0, len(x), batch)]
        self._held = HeldOut(map(len, self.batches))
        self.held_out = self._held.count
        self.times: dict[str, float] = {}

    def walk(self, x, replaced):
        for index, layer in enumerate(self.layers):
            y = replaced.get(index, layer)(x)
            yield x, y
            x = np.maximum(y, 0)

    def samples(self, index, replaced):
        assert index not in replaced
        for number, x in enumerate(self.batches):
            now = next(itertools.islice(self.walk(x, replaced), index, None))[0]
            then = next(itertools.islice(self.walk(x, {}), index, None))[1]
            rows = self._held.fitted(number, len(x))
            yield now[rows], then[rows]

    def output(self, x, replaced):
        return list(self.walk(x, replaced))[-1][1]

    def output_change(self, replaced):
        x = np.concatenate([b[self._held.measured(n, len(b))] for n, b in enumerate(self.batches)])
        old = self.output(x, {})
        return float(np.square(self.output(x, replaced) - old).mean() / old.var(axis=0).mean())

    def milliseconds(self, index, replacement):
        layer = self.layers[index]
        form = "dense" if replacement is None else replacement.form
        return (layer.macs if replacement is None else replacement.macs) * self.times.get(form, 1.0) / 1e6


def chain(channels=(3, 8, 12, 12, 6), size=8, seed=0, **options) -> Chain:
    rng = np.random.default_rng(seed)
    layers = []
    for n, (c_in, c_out) in enumerate(itertools.pairwise(channels)):
        weights = rng.standard_normal((c_out, c_in, 3, 3)) * np.sqrt(2 / (9 * c_in))
        # Smooth kernels and few directions, as training leaves them.
        weights = weights + np.roll(weights, 1, 2) + np.roll(weights, 1, 3)
        bias = 0.1 * rng.standard_normal(c_out)
        activation = "relu" if n < len(channels) - 2 else None
        layers.append(
            ConvLayer(
                f"conv{n}", weights, bias, padding=((1, 1), (1, 1)), sizes=(size, size), activation=activation
            )
        )
    return Chain(layers, inputs_of(rng, layers[0], COUNT), **options)


@pytest.fixture(scope="module")
def net():
    return chain()


@pytest.mark.parametrize("by", ["macs", "params"])
@pytest.mark.parametrize("budget", [0.25, 0.5])
def test_the_budget_holds_and_the_report_adds_up(net, by, budget):
    done = convert(net, budget, by, rounds=1)
    report = done.report
    cost = {"macs": lambda c: c.macs, "params": lambda c: c.params}[by]
    before = sum(cost(layer) for layer in net.layers)
    after = sum(cost(done.replacements.get(i, layer)) for i, layer in enumerate(net.layers))
    assert after <= budget * before
    assert (getattr(report, f"{by}_before"), getattr(report, f"{by}_after")) == (before, after)
    assert report.output_change == pytest.approx(net.output_change(done.replacements), rel=1e-6)
    assert report.held_out == COUNT // 8
    for row, layer in zip(report.layers, net.layers, strict=True):
        assert row.name == layer.name
        assert bool(row.reason) == (row.form == "dense")
        assert row.options[0].form == "dense"
        assert row.options[0].cost == cost(layer)
        assert all(option.cost < row.options[0].cost for option in row.options[1:])
    fractions, effects = zip(*report.frontier, strict=True)
    assert list(fractions) == sorted(fractions)
    assert list(effects) == sorted(effects, reverse=True)
    assert "fewer MACs" in str(report)
    facts = json.loads(report.to_json())
    assert facts["macs_after"] == report.macs_after
    assert len(facts["layers"]) == len(net.layers)


def test_never_worse_than_one_rank_everywhere(net):
    for rank in (1, 2):
        even = convert(net, rank=rank, forms=("dw-pw",))
        budget = even.report.macs_after / even.report.macs_before
        done = convert(net, budget)
        assert done.report.macs_after <= even.report.macs_after
        assert done.report.output_change <= even.report.output_change * 1.02


def test_data_and_later_layers_make_up_for_what_is_lost(net):
    exact = convert(net, rank="full", forms=("dw-pw",)).replacements
    assert net.output_change(exact) < 1e-12
    alone = {n: fit(layer, None, "dw-pw", 1) for n, layer in enumerate(net.layers)}
    done = convert(net, rank=1, forms=("dw-pw",))
    assert {row.rank for row in done.report.layers} == {1}
    assert done.report.output_change < 0.5 * net.output_change(alone)


def test_choices_are_the_best_of_all_by_what_was_measured(net):
    done = convert(net, 0.3, rounds=0)
    curves = [row.options for row in done.report.layers]
    thinned = [curve[:: max(1, len(curve) // 12)] for curve in curves]
    allowed = 0.3 * done.report.macs_before
    best = min(
        sum(o.effect for o in picks)
        for picks in itertools.product(*thinned)
        if sum(o.cost for o in picks) <= allowed
    )
    chosen = [
        next(o for o in curve if (o.form, o.rank) == (row.form, row.rank))
        for curve, row in zip(curves, done.report.layers, strict=True)
    ]
    assert sum(o.cost for o in chosen) <= allowed
    assert sum(o.effect for o in chosen) <= best * (1 + 1e-9)


def test_by_latency_what_is_slow_is_not_taken():
    net = chain((3, 8, 8, 4))
    net.times = {"dw-pw": 20.0, "pw-dw": 20.0, "low-rank": 20.0, "spatial": 1.0}
    done = convert(net, 0.6, "latency", rounds=1)
    assert {row.form for row in done.report.layers} <= {"dense", "spatial"}
    assert sum(row.milliseconds_after for row in done.report.layers) <= 0.6 * sum(
        row.milliseconds_before for row in done.report.layers
    )
    net.times = dict.fromkeys(("dw-pw", "pw-dw", "low-rank", "spatial"), 50.0)
    done = convert(net, 1.0, "latency")
    assert done.replacements == {}
    assert {row.reason for row in done.report.layers} == {"no form is cheaper"}
    assert done.report.output_change == 0.0


def test_a_budget_of_everything_changes_nothing(net):
    done = convert(net, 1.0)
    assert done.report.output_change < 1e-6


def test_what_is_not_convertible_counts(net):
    macs = sum(layer.macs for layer in net.layers)
    done = convert(net, 0.6, other_macs=macs // 2, rounds=0)
    assert done.report.macs_before == macs + macs // 2
    assert done.report.macs_after <= 0.6 * done.report.macs_before
    with pytest.raises(ValueError, match="cannot be met: the cheapest forms leave"):
        convert(net, 0.3, other_macs=macs)


def test_inside_channels_are_scaled_and_nothing_else(net):
    plain = convert(net, rank=1, forms=("dw-pw",), equalise=False).replacements
    scaled = convert(net, rank=1, forms=("dw-pw",)).replacements
    x = net.batches[0]
    np.testing.assert_allclose(net.output(x, scaled), net.output(x, plain), atol=1e-9)
    ranges = []
    for each in (plain, scaled):
        inside = each[1].convs[0](next(itertools.islice(net.walk(x, {}), 1, None))[0])
        peaks = np.abs(inside).max(axis=(0, 2, 3))
        ranges.append(peaks.max() / peaks.min())
    assert ranges[1] < ranges[0]


def test_the_result_does_not_depend_on_the_batches():
    whole, parts = (chain((3, 6, 6, 4), batch=batch) for batch in (96, 7))
    one, two = (convert(net, 0.4, rounds=1).report for net in (whole, parts))
    assert [row.form for row in one.layers] == [row.form for row in two.layers]
    assert one.output_change == pytest.approx(two.output_change, rel=1e-6)


@pytest.mark.parametrize("budget", [0.4, 1.0])
def test_progress_is_told_to_the_end_of_the_total(net, budget):
    told = []
    convert(net, budget, progress=lambda done, total, step: told.append((done, total, step)), rounds=1)
    steps = [done for done, _, _ in told]
    assert steps == sorted(steps)
    assert (steps[0], steps[-1]) == (0, told[-1][1])
    assert len({total for _, total, _ in told}) == 1
    assert all(done < total for done, total, _ in told[:-1])
    stages = {"measuring", "fitting", "done"} | ({"comparing"} if budget < 1 else set())
    assert {step.split()[0] for _, _, step in told} == stages


def test_a_shared_layer_counts_each_call():
    layer = chain((6, 6)).layers[0]
    twice = ConvLayer("twice", layer.weights, layer.bias, padding=layer.padding, sizes=layer.sizes, calls=2)
    assert twice.macs == 2 * layer.macs
    new = convert(Chain([twice], inputs_of(np.random.default_rng(1), twice, 32)), 0.5).replacements[0]
    assert isinstance(new, Replacement)
    assert new.macs <= layer.macs


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"budget": 0.0}, ValueError, "is not a fraction of the cost"),
        ({"budget": 0.001}, ValueError, "cannot be met: the cheapest forms leave"),
    ],
)
def test_wrong_arguments_are_refused(net, options, error, message):
    with pytest.raises(error, match=message):
        convert(net, **options)


# -- what is fitted, and what bounds exclude ---------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_bounds_never_exclude_what_would_have_won(seed):
    """The error of a closed form may fall by descent, but not as far as the bound."""
    rng = np.random.default_rng(seed)
    layer = layer_of(rng, (int(rng.integers(4, 14)), int(rng.integers(3, 10)), 3, 3), (8, 8))
    moments = Moments(layer)
    x = inputs_of(rng, layer, 40)
    moments.add(x, layer(x))
    fitter = Fitter(layer, moments)
    known, closed = {}, {}
    for name in CHEAPER:
        ranks = list(range(1, min(FORMS[name].full_rank(layer), 6)))
        closed[name] = dict(zip(ranks, fitter.closed_errors(name, ranks), strict=True))
        for rank in ranks:
            cost = float(FORMS[name].cost(layer, rank).macs)
            known[name, rank] = (name, rank, cost, fitter.replacement(name, rank).error)
            assert known[name, rank][3] >= 0.1 * closed[name][rank]
    for name in CHEAPER:
        own = [(one[1], one[2]) for one in known.values() if one[0] == name]
        others = [one for one in known.values() if one[0] != name]
        best = [(one[2], one[3]) for one in others]
        if not can_win(own, [closed[name][rank] for rank, _ in own], best):
            assert all(
                any(other[2] <= cost and other[3] <= known[name, rank][3] for other in others)
                for rank, cost in own
            )


def test_what_cannot_win_is_not_fitted():
    pairs, errors = [(1, 10.0), (2, 20.0)], [0.5, 0.3]
    assert can_win(pairs, errors, [])
    assert can_win(pairs, errors, [(10.0, 0.04)])  # the second may still be better
    assert not can_win(pairs, errors, [(10.0, 0.02)])
    assert can_win(pairs, errors, [(15.0, 0.001)])  # dearer than the first


def test_factorizations_of_a_layer_do_not_grow_with_the_ranks(monkeypatch):
    """All ranks of all forms are measured with a few: for shrinkage, and for descent at two ranks a form."""
    made = []
    plain = Cholesky.__init__
    monkeypatch.setattr(Cholesky, "__init__", lambda self, m: (made.append(len(m)), plain(self, m))[1])
    counts = []
    for most in (4, 16):
        monkeypatch.setattr("separable.conv.conversion.curves._RANKS", most)
        network = chain((3, 16, 16))
        curves = Curves(network, "macs", CHEAPER, 8)
        for index, layer in enumerate(network.layers):
            curves.begin(index)
            cheaper = curves.cheaper(index)
            moments = Moments(layer)
            for sample in network.samples(index, {}):
                moments.add(*sample)
            made.clear()
            curves.weigh(index, curves.compared(index, cheaper, moments))
        counts.append((len(made), len(curves.options[1])))
    (few, short), (many, long) = counts
    assert long >= 2 * short
    assert many <= 1.3 * few


def test_the_cheapest_of_many_layers_stay_as_they_are():
    assert _small([1.0] * 16) == frozenset()
    assert _small([1000.0] * 20 + [1.0, 2.0]) == {20, 21}
    assert not _small([1.0] * 20)


def test_a_report_says_how_many_positions_were_looked_at(net):
    done = convert(net, rank=1, forms=("dw-pw",), positions=10)
    assert {row.patches for row in done.report.layers} == {10 * (COUNT - net.held_out)}


# -- parts of the data ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("divisible", [True, False])
@pytest.mark.parametrize("batches", [[64, 64, 5], [1] * 40, [100]])
def test_fewer_inputs_are_among_more_of_them_and_always_the_same(batches, divisible):
    parts = DataParts(batches, [divisible] * len(batches))
    assert parts.some(parts.fitted, None) == list(parts.fitted)
    before: list = []
    for inputs in (1, 8, 30, 10_000):
        some = parts.some(parts.fitted, inputs)
        assert set(before) <= set(some)
        assert some == sorted(some, key=parts.fitted.index) == parts.some(parts.fitted, inputs)
        total = sum(map(parts.count, parts.fitted))
        assert sum(map(parts.count, some)) >= min(inputs, total)
        before = some
    rows = [(part.number, row) for part in parts.fitted for row in part.rows or ()]
    measured = [(part.number, row) for part in parts.measured for row in part.rows or ()]
    if divisible:
        assert len(measured) == parts.held_out.count
        assert sorted([*rows, *measured]) == [
            (n, row) for n, count in enumerate(batches) for row in range(count)
        ]


# -- which inputs the loss is measured on ------------------------------------------------------------------


@pytest.mark.parametrize("batches", [[64, 64, 5], [1] * 40, [7, 7, 7], [8], [100]])
def test_each_eighth_input_is_held_out(batches):
    held = HeldOut(batches)
    masks = np.concatenate([held.mask(n) for n in range(len(batches))])
    assert held.count == masks.sum() == sum(batches) // 8
    assert (np.flatnonzero(masks) % 8 == 7).all()
    for n, count in enumerate(batches):
        fitted, measured = held.fitted(n, count), held.measured(n, count)
        assert sorted([*fitted, *measured]) == list(range(count))
        assert held.measures(n) == bool(len(measured))
        thrice = held.fitted(n, 3 * count)  # three rows of each input
        assert (thrice // 3 == np.repeat(fitted, 3)).all()


def test_too_few_inputs_serve_for_both():
    held = HeldOut([3, 4])
    assert held.count == 0
    assert held.measures(0)
    assert list(held.fitted(1, 4)) == list(held.measured(1, 4)) == [0, 1, 2, 3]


def test_what_cannot_save_a_tenth_is_not_begun(net, monkeypatch):
    """All but a twentieth of the cost is elsewhere: no data are read, and the report says why."""
    monkeypatch.setattr(Chain, "samples", lambda *_: pytest.fail("the data were read"))
    macs = sum(layer.macs for layer in net.layers)
    done = convert(net, by="macs", other_macs=19 * macs)
    assert not done.replacements
    assert all("leave 0.9" in row.reason and "of the macs" in row.reason for row in done.report.layers)


@pytest.fixture(scope="module")
def hopeless():
    hopeless = chain((3, 16, 16, 16))
    rng = np.random.default_rng(0)
    hopeless.layers = [  # weights of white noise, which no form fits
        replace(layer, weights=rng.standard_normal(layer.weights.shape)) for layer in hopeless.layers
    ]
    hopeless.batches = [rng.standard_normal(batch.shape) for batch in hopeless.batches]
    return hopeless


def test_what_loses_far_more_than_is_allowed_is_not_begun(hopeless, monkeypatch):
    monkeypatch.setattr(ConversionRun, "_fitted", lambda *_: pytest.fail("layers were fitted"))
    done = convert(hopeless, by="macs", max_loss=1e-5)
    assert not done.replacements
    assert all("to save 10% of the macs" in row.reason for row in done.report.layers)


def test_what_is_hopeless_at_the_highest_rate_is_not_timed(hopeless, monkeypatch):
    plain = Chain.milliseconds
    monkeypatch.setattr(
        Chain,
        "milliseconds",
        lambda net, index, new: plain(net, index, new) if new is None else pytest.fail("a form was timed"),
    )
    done = convert(hopeless, by="time", max_loss=1e-5)
    assert not done.replacements
    assert not done.report.frontier
    for row in done.report.layers:
        assert "to save 10% of the time, at the rate of the fastest layer," in row.reason
        assert len(row.options) == 1  # what was not measured is not shown
        assert row.milliseconds_before == row.milliseconds_after > 0


def test_a_goal_after_one_that_was_hopeless_is_timed(hopeless):
    with ConversionRun(hopeless, [goal_of(None, "time", 1e-5), goal_of(0.5, "time")]) as run:
        assert not run.reach(goal_of(None, "time", 1e-5)).replacements
        done = run.reach(goal_of(0.5, "time"))
    after = sum(row.milliseconds_after for row in done.report.layers)
    assert after <= 0.5 * sum(row.milliseconds_before for row in done.report.layers)
    assert all(len(options) == len({(o.form, o.rank) for o in options}) for options in run.curves.options)


def test_what_loses_little_at_the_highest_rate_is_timed(net, monkeypatch):
    """Spatial forms take twice what their MACs say: they stand with that, or not at all."""
    monkeypatch.setattr(net, "times", {"spatial": 2.0})
    done = convert(net, by="time", max_loss=0.05)
    assert done.replacements
    assert done.report.output_change <= 0.05
    seen = set()
    for index, (layer, row) in enumerate(zip(net.layers, done.report.layers, strict=True)):
        dense, *others = row.options
        assert dense.cost == net.milliseconds(index, None)
        for option in others:
            seen.add(option.form)
            times = 2.0 if option.form == "spatial" else 1.0
            assert option.cost == pytest.approx(
                times * FORMS[option.form].cost(layer, option.rank).macs / 1e6, rel=1e-6
            )
            assert option.cost < dense.cost
            assert option.effect <= 30 * 0.05
    assert len(seen) > 1


def test_descent_of_many_groups_is_told_by_some_of_them(monkeypatch):
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((96, 1, 5, 5)).cumsum(2)
    layer = ConvLayer("conv", weights, padding=((2, 2), (2, 2)), sizes=(9, 9), groups=96)
    moments = Moments(layer)
    x = rng.standard_normal((32, 96, 9, 9)).cumsum(2)
    moments.add(x, layer(x))
    fitter = Fitter(layer, moments)
    solved, plain = [], Fitter._solved
    monkeypatch.setattr(Fitter, "_solved", lambda *given: (solved.append(1), plain(*given))[1])
    some = fitter.errors("spatial", [1, 2])
    assert 0 < len(solved) <= 32
    monkeypatch.setattr("separable.conv.conversion.fit._GROUPS", 96)
    everything = fitter.errors("spatial", [1, 2])
    assert len(solved) >= 96
    assert some == pytest.approx(everything, rel=0.2)


def test_ranks_of_many_channels_fill_registers():
    wide = chain((64, 256, 256), size=4)
    curves = Curves(wide, "macs", ["spatial", "low-rank"], 8)
    for index in range(2):
        curves.begin(index)
        for some in curves.cheaper(index).values():
            ranks = [rank for rank, _ in some]
            assert len(ranks) == len(set(ranks)) > 5
            # The last one may be the most that is cheaper than the layer.
            assert all(rank <= 4 or rank % (4 if rank < 24 else 8) == 0 for rank in ranks[:-1])


def test_a_goal_after_one_that_was_not_begun_is_measured_all_the_same(net):
    macs = sum(layer.macs for layer in net.layers)
    goals = [goal_of(None, "macs"), goal_of(0.99, "macs")]
    with ConversionRun(net, goals, other_macs=19 * macs) as run:
        refused, reached = (run.reach(goal) for goal in goals)
    assert not refused.replacements
    assert reached.replacements
    assert not any("leave" in row.reason for row in reached.report.layers)
