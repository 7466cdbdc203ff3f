"""Frontiers without any framework: budgets, what dominates what, and the search from one measuring pass."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from separable.conv import Conversion, ConversionReport, ConvertedLayer, Score, convert
from separable.conv.conversion import run as running
from separable.conv.conversion.allowance import UnmetBudgetError
from separable.conv.conversion.goal import goal_of
from separable.conv.conversion.run import ConversionRun
from separable.conv.frontiers.budgets import BUDGETS, budgets_of
from separable.conv.frontiers.records import FrontierRecord, LeftOut, PointRecord, dominated
from separable.conv.frontiers.search import search
from tests.test_conv_convert import chain

BUDGET = {"by": "macs", "forms": ("dw-pw", "pw-dw")}


def silent(done: int, total: int, step: str) -> None:
    pass


# -- budgets ---------------------------------------------------------------------------------------


def test_budgets_come_the_largest_first():
    assert budgets_of() == BUDGETS == tuple(sorted(BUDGETS, reverse=True))
    assert budgets_of([0.25, 1, np.float32(0.5)]) == (1.0, 0.5, 0.25)
    assert budgets_of(budget / 10 for budget in (2, 4)) == (0.4, 0.2)


@pytest.mark.parametrize(
    ("budgets", "error", "message"),
    [
        ([], ValueError, "`budgets` is empty"),
        ("0.5", TypeError, "`budgets='0.5'` is no sequence"),
        (0.5, TypeError, "`budgets=0.5` is no sequence"),
        (np.array(0.5), TypeError, "is no sequence"),
        ([0.5, 50], ValueError, r"`budgets\[1\]=50` is not a fraction.* 50 percent is 0.5"),
        ([0.5, 0.0], ValueError, r"`budgets\[1\]=0.0` is not a fraction"),
        ([math.nan], ValueError, r"`budgets\[0\]=nan` is not a fraction"),
        ([0.5, "a"], TypeError, r"`budgets\[1\]='a'` is not a number"),
        ([True], TypeError, r"`budgets\[0\]=True` is not a number"),
        ([0.5, 0.25, 0.5], ValueError, "`budgets` holds 0.5 twice"),
    ],
)
def test_what_is_no_budget_is_refused(budgets, error, message):
    with pytest.raises(error, match=message):
        budgets_of(budgets)


# -- one run, several goals ------------------------------------------------------------------------


def test_several_goals_of_one_run_are_what_each_is_alone():
    net, steps = chain(), []
    goals = [goal_of(budget, **BUDGET) for budget in (0.6, 0.3)]
    measured = []
    with ConversionRun(net, goals, rounds=1, threads=1, progress=lambda *step: steps.append(step)) as run:
        weigh = run.curves.weigh
        run.curves.weigh = lambda *given: (measured.append(given[0]), weigh(*given))
        together = [run.reach(goal) for goal in goals]
        run.end()
    assert measured == [0, 1, 2, 3]  # each layer once
    for goal, done in zip(goals, together, strict=True):
        alone = convert(chain(), goal.budget, "macs", forms=goal.forms, rounds=1, threads=1)
        assert done.report == replace(alone.report, layers=done.report.layers)
        for index, new in alone.replacements.items():
            for conv, other in zip(new.convs, done.replacements[index].convs, strict=True):
                np.testing.assert_array_equal(conv.weights, other.weights)
    done, totals, _ = zip(*steps, strict=True)
    assert list(done) == sorted(done)
    assert len(set(totals)) == 1  # known from the first step on
    assert max(done[:-1]) < totals[0]
    assert steps[-1][:2] == (totals[0], totals[0])


def test_fitted_layers_are_shared_and_take_a_bounded_amount_of_memory(monkeypatch):
    fitted, fit = [], ConversionRun._fit
    monkeypatch.setattr(ConversionRun, "_fit", lambda *given: (fitted.append(given[1]), fit(*given))[1])
    goals = goals_of(0.6, 0.6, 0.3)
    with ConversionRun(chain(), goals, rounds=1, threads=1) as run:
        first = run.reach(goals[0])
        count = len(fitted)
        again = run.reach(goals[1])
        assert len(fitted) == count > 0  # nothing was fitted a second time
        assert again.report == first.report
        monkeypatch.setattr(running, "_REMEMBERED", 0)
        run.reach(goals[2])
        assert sum(map(running._bytes, run._known.values())) == 0
        count = len(fitted)
        forgotten = run.reach(goals[0])
        assert len(fitted) > count
        assert forgotten.report.output_change == first.report.output_change


def test_a_budget_that_cannot_be_met_says_what_can(capsys):
    net = chain()
    with ConversionRun(net, [goal_of(0.01, **BUDGET)], threads=1) as run:
        with pytest.raises(UnmetBudgetError, match=r"`budget=0.01` of the macs cannot be met") as caught:
            run.reach(goal_of(0.01, **BUDGET))
        assert run.reach(goal_of(caught.value.least, **BUDGET)).report.macs_after > 0
        unchanged = run.unchanged(goal_of(0.01, **BUDGET))
    assert unchanged.replacements == {}
    assert unchanged.report.macs_after == unchanged.report.macs_before
    assert not unchanged.report.changed


# -- points ----------------------------------------------------------------------------------------


def report_of(cost: float, loss: float, timed: bool = True, score: Score | None = None) -> ConversionReport:
    row = ConvertedLayer("conv", "dw-pw", 1, 1000, int(1000 * cost), 90, int(90 * cost), 0.1)
    if cost == 1:
        row = replace(row, form="dense", rank=0, error=0.0, reason="as it was")
    report = ConversionReport("time" if timed else "macs", cost, (row,), loss, held_out=16, model="net")
    times = {"milliseconds_before": 2.0, "milliseconds_after": 2.0 * cost, "runtime": "the engine"}
    return replace(report, score=score, **(times if timed else {}))


def frontier_of(pairs: list[tuple[float, float]], **options: Any) -> FrontierRecord[PointRecord]:
    reports = [report_of(1.0, 0.0, **options), *(report_of(*pair, **options) for pair in pairs)]
    marks = dominated(reports)
    points = [
        PointRecord(report.budget, *rest) for report, *rest in zip(reports, reports, marks, strict=True)
    ]
    return FrontierRecord(points[0], tuple(points[1:]), (LeftOut(0.1, "the cheapest forms leave 0.2"),))


@pytest.mark.parametrize("timed", [True, False])
def test_what_costs_no_less_and_loses_more_is_dominated(timed):
    f = frontier_of([(0.7, 0.02), (0.5, 0.01), (0.5, 0.01), (0.4, math.nan), (0.3, math.inf)], timed=timed)
    assert not f.original.dominated
    assert [point.dominated for point in f.points] == [True, False, False, False, False]
    better = frontier_of([(0.5, 0.0)], timed=timed)
    assert better.original.dominated


def test_the_best_point_for_a_loss_or_a_time():
    f = frontier_of([(0.7, 0.004), (0.5, 0.02), (0.4, math.nan), (0.3, 0.2)])
    assert f.best() is f.points[0]
    assert f.best(0.02) is f.points[1]
    assert f.best(1.0) is f.points[3]
    assert f.best(0.001) is f.original
    assert f.best(max_milliseconds=1.0) is f.points[1]
    assert f.best(max_milliseconds=0.9) is f.points[3]
    assert f.best(0.01, max_milliseconds=1.5) is f.points[0]
    assert f.points[1].speedup == 2.0
    for options, message in [
        ({"max_milliseconds": 0.1}, "cannot be met: the fastest takes 0.6"),
        ({"max_loss": 0.01, "max_milliseconds": 1.1}, "cannot be met together"),
        ({"max_loss": -1}, "`max_loss=-1` allows nothing"),
        ({"max_loss": math.nan}, "allows nothing"),
    ]:
        with pytest.raises(ValueError, match=message):
            f.best(**options)
    with pytest.raises(TypeError, match="`max_loss='a'` is not a number"):
        f.best("a")
    with pytest.raises(ValueError, match="no time was measured"):
        frontier_of([(0.5, 0.1)], timed=False).best(max_milliseconds=1)


def test_the_loss_is_the_drop_of_the_metric_where_there_is_one():
    score = Score("accuracy", 0.9, 0.88, inputs=40, drop_interval=(-0.01, 0.05))
    point = PointRecord(0.5, report_of(0.5, 0.3, score=score))
    assert (point.loss, point.interval) == (pytest.approx(0.02), (-0.01, 0.05))
    point = PointRecord(0.5, replace(report_of(0.5, 0.3), interval=(0.2, 0.4)))
    assert (point.loss, point.interval) == (0.3, (0.2, 0.4))


def test_json_holds_everything_and_no_number_that_was_not_measured():
    f = frontier_of([(0.7, 0.02), (0.5, 0.01), (0.4, math.nan)])
    told = json.loads(f.to_json())
    assert [point["budget"] for point in told["points"]] == [0.7, 0.5, 0.4]
    assert [point["loss"] for point in told["points"]] == [0.02, 0.01, None]
    assert [point["dominated"] for point in told["points"]] == [True, False, False]
    assert told["original"]["milliseconds"] == 2.0
    assert told["left_out"] == [{"budget": 0.1, "reason": "the cheapest forms leave 0.2"}]
    assert told["points"][0]["layers"][0]["form"] == "dw-pw"
    assert "options" not in told["points"][0]["layers"][0]


# -- the search ------------------------------------------------------------------------------------


class Subject:
    """A network whose times are told, not measured."""

    runtime = "a stopwatch"

    def __init__(self, never_slower: bool = True, faster: float = 1.0, fails: bool = False) -> None:
        self.never_slower, self.faster, self.fails = never_slower, faster, fails
        self.network = chain()
        self.groups: list[int] = []

    def conversions(self, goals, progress):
        return ConversionRun(
            self.network, goals, rounds=1, threads=1, whole_ms=self.whole_ms, progress=progress
        )

    def whole_ms(self, replaced):
        layers = dict(enumerate(self.network.layers))
        before, *after = (sum(layer.macs for layer in {**layers, **new}.values()) for new in ({}, *replaced))
        return [before / 1e6, *(self.faster * macs / 1e6 for macs in after)]

    def report(self, done: Conversion) -> ConversionReport:
        return replace(done.report, model="chain")

    def whole_milliseconds(self, conversions):
        self.groups.append(len(conversions))
        if self.fails:
            return None
        before = conversions[0].report.macs_before if conversions else 1e6
        return [before / 1e6, *(self.faster * done.report.macs_after / 1e6 for done in conversions)]


def goals_of(*budgets: float):
    return [goal_of(budget, **BUDGET) for budget in budgets]


def test_each_budget_has_a_network_or_a_reason():
    steps = []
    reached, left_out = search(Subject(), goals_of(0.6, 0.3, 0.02), lambda *step: steps.append(step))
    assert [one.budget for one in reached] == [1.0, 0.6, 0.3]
    assert reached[0].conversion.replacements == {}
    for one in reached[1:]:
        assert one.report.macs_after <= one.budget * one.report.macs_before
        assert one.report.milliseconds_after == one.report.macs_after / 1e6
        assert (one.report.runtime, one.report.model) == ("a stopwatch", "chain")
    (left,) = left_out
    assert left.budget == 0.02
    assert left.reason.startswith("the cheapest forms leave 0.")
    assert left.reason.endswith("of the MACs")
    stages = list(dict.fromkeys(text.partition(" ")[0] for *_, text in steps))
    assert stages == ["measuring", "budget=0.6:", "budget=0.3:", "done", "timing", "scoring"]


def test_where_a_budget_cannot_be_met_the_least_one_is():
    reached, left_out = search(Subject(), goals_of(0.6, 0.05, 0.02), silent, by_default=True)
    least = reached[-1].budget
    assert 0.05 < least < 0.6
    assert [left.budget for left in left_out] == [0.05, 0.02]
    assert f"leave {least:g} of" in left_out[0].reason
    close = search(Subject(), goals_of(least + 0.001, 0.05), silent, by_default=True)[0]
    assert [one.budget for one in close] == [1.0, least + 0.001]  # it would be next to the same network


def test_what_is_slower_as_a_whole_is_left_out_unless_that_does_not_matter():
    reached, left_out = search(Subject(faster=4.0), goals_of(0.6, 0.3), silent)
    assert [one.budget for one in reached] == [1.0]
    assert [left.budget for left in left_out] == [0.6, 0.3]
    assert all(left.reason.startswith("as a whole it is slower (") for left in left_out)
    reached, left_out = search(Subject(False, faster=4.0), goals_of(0.6, 0.3), silent)
    assert [one.budget for one in reached] == [1.0, 0.6, 0.3]
    assert [one.dominated for one in reached] == [False, True, True]
    assert not left_out


def test_by_time_what_is_slower_is_known_before_it_is_fitted(monkeypatch):
    fitted, fit = [], ConversionRun._fit
    monkeypatch.setattr(ConversionRun, "_fit", lambda *given: (fitted.append(given[1]), fit(*given))[1])
    goals = [goal_of(budget, "time", forms=("dw-pw", "pw-dw")) for budget in (0.7, 0.5, 0.01)]
    reached, left_out = search(Subject(faster=10.0), goals, silent)
    assert not fitted
    assert [one.budget for one in reached] == [1.0]
    assert len(left_out) == 3
    assert all(left.reason.startswith("as a whole it is slower: the cheapest") for left in left_out)
    assert [one.budget for one in search(Subject(), goals[:2], silent)[0]] == [1.0, 0.7, 0.5]
    assert fitted


def test_where_most_is_lost_smaller_budgets_are_not_tried(monkeypatch):
    monkeypatch.setattr("separable.conv.frontiers.search._HOPELESS", 0.0)
    reached, left_out = search(Subject(), goals_of(0.6, 0.4, 0.3), silent, by_default=True)
    assert [one.budget for one in reached] == [1.0, 0.6]
    reason = "not tried: with 0.6 most of the outputs' variance is lost already"
    assert left_out == [LeftOut(0.4, reason), LeftOut(0.3, reason)]
    assert len(search(Subject(), goals_of(0.6, 0.4), silent)[0]) == 3  # as they were asked for


def test_equal_networks_are_one_point():
    reached, left_out = search(Subject(), goals_of(0.6, 0.5999), silent)
    assert [one.budget for one in reached] == [1.0, 0.6]
    assert [(left.budget, left.reason) for left in left_out] == [(0.5999, "the same network as for 0.6")]
    assert search(Subject(), goals_of(1.0), silent)[1] == [LeftOut(1.0, "no layer changes")]


def test_times_that_cannot_be_measured_are_none():
    reached, _ = search(Subject(fails=True), goals_of(0.6, 0.3), silent)
    assert [one.report.milliseconds_after for one in reached] == [None] * 3
    assert [one.dominated for one in reached] == [False] * 3


def test_large_networks_are_timed_in_groups(monkeypatch):
    subject = Subject()
    params = sum(layer.params for layer in subject.network.layers)
    monkeypatch.setattr("separable.conv.frontiers.search._TOGETHER", 4 * params)
    search(subject, goals_of(0.8, 0.6, 0.4, 0.3), silent)
    assert sum(subject.groups) == 4
    assert len(subject.groups) > 1
