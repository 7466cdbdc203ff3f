"""Budgets of time: what layers may cost, by what the network takes as a whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from test_conv_convert import Chain, chain

from separable.conv import convert
from separable.conv.conversion.allowance import UnmetBudgetError
from separable.conv.forms.layer import Replacement

Replaced = Mapping[int, Replacement]


class Wholes:
    """Times of a network as a whole, by a rule of what is left of its layers'; and what was asked for."""

    def __init__(self, net: Chain, rule: Callable[[float], float]) -> None:
        self._net, self._rule = net, rule
        self.asked: list[Replaced] = []

    def __call__(self, replaced: Sequence[Replaced]) -> list[float]:
        self.asked += replaced
        return [self._rule(self._layers(new) / self.dense) for new in ({}, *replaced)]

    @property
    def dense(self) -> float:
        return self._layers({})

    def _layers(self, replaced: Replaced) -> float:
        return sum(self._net.milliseconds(i, replaced.get(i)) for i in range(len(self._net.layers)))


@pytest.fixture
def net() -> Any:
    return chain((8, 16, 16, 8))


TIME = {"by": "time", "rounds": 1}


@pytest.mark.parametrize("budget", [0.4, 0.6, 0.8])
@pytest.mark.parametrize(
    "rule",
    [lambda t: t, lambda t: t + 0.2, lambda t: t**1.3, lambda t: t**0.8],
    ids=["the sum", "more beside them", "savings that grow", "savings that shrink"],
)
def test_the_whole_keeps_to_the_budget_and_uses_it(
    net: Chain, rule: Callable[[float], float], budget: float
) -> None:
    wholes = Wholes(net, rule)
    done = convert(net, budget, whole_ms=wholes, **TIME)
    before, after = wholes([done.replacements])
    assert after <= 1.011 * budget * before
    assert after >= 0.85 * budget * before  # its ranks have steps
    assert len(wholes.asked) <= 5  # no more measurements than tries, and the one here


def test_a_sum_of_layers_refuses_nothing_that_the_whole_keeps_to(net: Chain) -> None:
    wrong = {"other_ms": 2 * Wholes(net, float).dense}  # twice what the layers take; it is a tenth
    with pytest.raises(UnmetBudgetError, match=r"`budget=0\.6` of the time cannot be met: .* leave 0\.72"):
        convert(net, 0.6, **TIME, **wrong)
    with pytest.raises(UnmetBudgetError, match=r"leave 0\.72"):  # nobody can measure it
        convert(net, 0.6, whole_ms=lambda replaced: None, **TIME, **wrong)
    wholes = Wholes(net, lambda t: t + 0.1)
    done = convert(net, 0.6, whole_ms=wholes, **TIME, **wrong)
    before, after = wholes([done.replacements])
    assert 0.5 * before < after <= 0.606 * before


def test_what_the_whole_does_not_keep_to_is_refused(net: Chain) -> None:
    wholes = Wholes(net, lambda t: t + 2.5)
    with pytest.raises(UnmetBudgetError, match=r"leave 0\.76") as caught:
        convert(net, 0.6, whole_ms=wholes, **TIME)
    assert 0.76 < caught.value.least < 0.77
    assert convert(net, caught.value.least, whole_ms=wholes, **TIME).replacements


def test_where_the_whole_gets_no_faster_no_budget_would_do(net: Chain) -> None:
    wholes = Wholes(net, lambda t: 2 - t)
    with pytest.raises(UnmetBudgetError, match=r"leave 1\.8.*; as a whole the network gets no faster\."):
        convert(net, 0.6, whole_ms=wholes, **TIME)


def test_counts_add_up_and_nothing_is_measured(net: Chain) -> None:
    wholes = Wholes(net, float)
    convert(net, 0.6, by="macs", rounds=0, whole_ms=wholes)
    assert not wholes.asked
