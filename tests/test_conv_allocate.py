"""Exact allocation, against trying everything."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from separable.conv import Choice, allocate

small = st.integers(0, 12).map(float)
wide = st.tuples(st.floats(0, 1), st.integers(-6, 6)).map(lambda pair: pair[0] * 10.0 ** pair[1])
curves = st.one_of(
    st.lists(st.lists(st.builds(Choice, number, number), min_size=1, max_size=5), max_size=5)
    for number in (small, wide)
)


def brute_force(choices, budget):
    return min(
        (
            math.fsum(c.error for c in picks)
            for picks in itertools.product(*choices)
            if math.fsum(c.cost for c in picks) <= budget
        ),
        default=math.inf,
    )


@given(choices=curves, place=st.floats(0, 1))
@example(choices=[[Choice(0.0, 0.0)], [Choice(0.0, 1.0), Choice(2.2e-311, 0.0)]], place=0.0)
@settings(max_examples=300, deadline=None)
def test_it_is_what_trying_everything_finds(choices, place):
    least = math.fsum(min(c.cost for c in layer) for layer in choices)
    most = math.fsum(max(c.cost for c in layer) for layer in choices)
    budget = least + place * (most - least)
    found = allocate(choices, budget)
    assert len(found) == len(choices)
    picks = [layer[place] for layer, place in zip(choices, found, strict=True)]
    assert math.fsum(c.cost for c in picks) <= budget + 3e-12 * max(budget, most)
    error, best = math.fsum(c.error for c in picks), brute_force(choices, budget)
    assert error <= best + 1e-9 * best


def test_of_equal_errors_the_cheaper_one():
    layer = [Choice(5.0, 1.0), Choice(3.0, 1.0), Choice(4.0, 0.5), Choice(9.0, 0.5)]
    assert allocate([layer, layer], 100.0) == (2, 2)
    assert allocate([layer, layer], 7.0) in {(1, 2), (2, 1)}


def test_never_worse_than_the_same_choice_everywhere():
    rng = np.random.default_rng(0)
    for _ in range(20):
        costs, falls = rng.uniform(1, 100, 30), rng.uniform(0.3, 3, 30)
        weights = rng.lognormal(0, 2, 30)
        layers = [
            [Choice(cost * t / 9, weight * math.exp(-fall * t)) for t in range(1, 10)]
            for cost, fall, weight in zip(costs, falls, weights, strict=True)
        ]
        for t in (1, 2, 4):
            budget = sum(layer[t - 1].cost for layer in layers)
            found = allocate(layers, budget)
            assert sum(layer[p].error for layer, p in zip(layers, found, strict=True)) <= sum(
                layer[t - 1].error for layer in layers
            )


def test_large_networks_are_no_trouble():
    rng = np.random.default_rng(1)
    layers = []
    for _ in range(150):
        costs, errors = np.sort(rng.uniform(0, 1e9, 40)), np.sort(rng.lognormal(-5, 3, 40))[::-1]
        layers.append([Choice(float(c), float(e)) for c, e in zip(costs, errors, strict=True)])
    budget = 0.3 * sum(layer[-1].cost for layer in layers)
    found = allocate(layers, budget)
    assert sum(layer[p].cost for layer, p in zip(layers, found, strict=True)) <= budget


@pytest.mark.parametrize(
    ("choices", "budget", "message"),
    [
        ([[Choice(2.0, 0.0)], [Choice(3.0, 0.0)]], 4.9, "less than the cheapest choices cost together, 5.0"),
        ([[Choice(1.0, 0.0)], []], 5.0, r"`choices\[1\]` is empty"),
        ([[Choice(math.nan, 0.0)]], 5.0, r"`choices\[0\]` holds NaN"),
        ([[Choice(1.0, math.inf)]], 5.0, r"`choices\[0\]` holds NaN or infinity"),
        ([[Choice(1.0, 0.0)]], math.nan, "less than the cheapest"),
    ],
)
def test_what_cannot_be_is_refused(choices, budget, message):
    with pytest.raises(ValueError, match=message):
        allocate(choices, budget)


def test_nothing_to_choose():
    assert allocate([], 0.0) == ()
