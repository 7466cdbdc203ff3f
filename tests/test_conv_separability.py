"""How near weights are to each form: the same errors as the algebra's, and what a budget does to them."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from separable.conv import compose, decompose, fit, slice_spectrum
from separable.conv.audits.separability import Separability, frontier, separability
from separable.conv.forms.layer import ConvLayer
from separable.conv.forms.table import FORMS

LAYERS = [
    # C_out, C_in, kernel, groups
    (6, 5, (3, 3), 1),
    (4, 8, (5,), 1),
    (8, 1, (3, 3), 1),
    (1, 4, (3, 3), 1),
    (8, 6, (3, 2), 2),
    (5, 4, (3, 1), 1),
    (7, 6, (1, 1), 1),
    (4, 3, (2, 3, 2), 1),
]


def layer_of(c_out: int, c_in: int, kernel: tuple[int, ...], groups: int = 1, seed: int = 0) -> ConvLayer:
    weights = np.random.default_rng(seed).standard_normal((c_out, c_in // groups, *kernel))
    sizes = (7,) * len(kernel)
    return ConvLayer("layer", weights, groups=groups, sizes=sizes, padding=((1, 1),) * len(kernel))


def judged(layer: ConvLayer) -> Separability:
    found = separability(layer)
    assert found is not None
    return found


@pytest.mark.parametrize(("c_out", "c_in", "kernel", "groups"), LAYERS)
def test_errors_and_costs_are_those_of_the_nearest_weights(
    c_out: int, c_in: int, kernel: tuple[int, ...], groups: int
) -> None:
    layer = layer_of(c_out, c_in, kernel, groups)
    found = judged(layer)
    forms = ("dw-pw", "pw-dw", "spatial", "low-rank")
    assert set(found.ranks) == {form for form in forms if FORMS[form].full_rank(layer)}
    for form, rank, macs, error in found.options():
        assert macs == FORMS[form].cost(layer, rank).macs
        nearest = math.sqrt(fit(layer, form=form, rank=rank).error)
        if form == "spatial" and len([k for k in kernel if k > 1]) > 2:
            # The error bounds that of the very nearest, which `fit` only comes near to.
            assert nearest <= 1.05 * error + 1e-6
        else:
            assert error == pytest.approx(nearest, rel=1e-6, abs=2e-7)
    for form, ranks in found.ranks.items():
        assert ranks[0] == 1
        assert ranks[-1] == FORMS[form].full_rank(layer)
        assert found.errors[form][-1] == 0.0
        assert list(found.errors[form]) == sorted(found.errors[form], reverse=True)


@pytest.mark.parametrize("order", ["dw-pw", "pw-dw"])
def test_spectra_are_those_of_the_slices(order: str) -> None:
    layer = layer_of(6, 5, (3, 3))
    found = judged(layer)
    wanted = np.sqrt(np.square(slice_spectrum(layer.weights, order)).sum(axis=0))
    np.testing.assert_allclose(found.spectra[order], wanted / np.linalg.norm(layer.weights), rtol=1e-9)
    for rank, error in enumerate(found.errors[order], 1):
        assert error == pytest.approx(decompose(layer.weights, rank, order)[2].relative_l2, abs=2e-7)


@pytest.mark.parametrize("scale", [1.0, 1e-160, 1e160])
def test_weights_that_have_a_form_are_found_out(scale: float) -> None:
    rng = np.random.default_rng(0)
    depthwise, pointwise = rng.standard_normal((10, 1, 3, 3)), rng.standard_normal((12, 10))
    weights = scale * compose(depthwise, pointwise, rank=2)
    found = judged(ConvLayer("two", weights, sizes=(9, 9)))
    assert found.errors["dw-pw"][1] < 1e-6 < 0.1 < found.errors["dw-pw"][0]
    assert found.best == "dw-pw"
    assert found.best_error < 1e-6


def test_the_best_form_has_the_least_error_at_half_the_cost() -> None:
    for seed in range(4):
        found = judged(layer_of(16, 12, (3, 3), seed=seed))
        cheap = {
            form: error for form, _, macs, error in found.options() if macs <= found.macs / 2
        }  # of each form the last one, which is the best
        assert found.best == min(cheap, key=lambda form: cheap[form])
        assert found.best_error == cheap[found.best]
    tiny = judged(layer_of(2, 2, (1, 1)))
    assert (tiny.best, tiny.best_error) == ("low-rank", tiny.errors["low-rank"][0]) or tiny.best == "dense"


def test_what_cannot_be_judged() -> None:
    assert separability(ConvLayer("layer", np.zeros((4, 3, 3, 3)), sizes=(5, 5))) is None
    depthwise = np.ones((4, 1, 3, 3))
    assert separability(ConvLayer("depthwise", depthwise, groups=4, sizes=(5, 5))) is None


def test_a_form_whose_matrix_is_too_large_is_left_out() -> None:
    weights = np.zeros((700, 700, 3, 3))
    weights[..., 1, 1] = np.eye(700)
    found = judged(ConvLayer("wide", weights, sizes=(3, 3)))
    assert set(found.ranks) == {"dw-pw", "pw-dw", "low-rank"}  # "spatial" would need 2100 rows
    assert found.errors["dw-pw"][0] == 0.0


def test_the_frontier_is_the_best_of_all_choices() -> None:
    found = [judged(layer_of(4, 3, (3, 1), seed=0)), judged(layer_of(3, 4, (1, 3), seed=1))]
    rest = 100
    points = frontier(found, rest)
    choices = [
        [(each.macs, 0.0), *((macs, error**2) for _, _, macs, error in each.options())] for each in found
    ]
    everything = [
        (rest + sum(macs for macs, _ in picks), math.sqrt(sum(square for _, square in picks) / 2))
        for picks in itertools.product(*choices)
    ]
    assert points[-1] == (rest + sum(each.macs for each in found), 0.0)
    assert points[0][0] == rest + sum(min(macs for macs, _ in layer) for layer in choices)
    for macs, error in points:
        assert error == pytest.approx(min(e for m, e in everything if m <= macs), abs=1e-9)
    costs, errors = zip(*points, strict=True)
    assert list(costs) == sorted(set(costs))
    assert list(errors) == sorted(errors, reverse=True)
    assert frontier([], rest) == ()


def test_fractions_of_the_whole_are_met() -> None:
    found = [judged(layer_of(16, 16, (3, 3), seed=seed)) for seed in range(3)]
    rest = sum(each.macs for each in found) // 20
    whole = rest + sum(each.macs for each in found)
    points = frontier(found, rest)
    for part in (2, 4, 8):
        macs = max((macs for macs, _ in points if macs <= whole / part), default=0)
        assert 0.95 * whole / part < macs or macs == points[0][0]
