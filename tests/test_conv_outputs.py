"""Wide layers of one tap, fitted to what they give: nearly as good as a fit to what they read, and small."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from separable.conv import ConvLayer, Moments, fit
from separable.conv.forms import outputs
from separable.conv.forms.outputs import of_inputs, of_outputs, outputs_of


def wide(rng: np.random.Generator, inputs: int, given: int, groups: int = 1, **options: object) -> ConvLayer:
    weights = rng.standard_normal((given, inputs // groups, 1)) / np.sqrt(inputs)
    return ConvLayer("wide", weights, rng.standard_normal(given), groups=groups, sizes=(5,), **options)


@pytest.mark.parametrize("options", [{}, {"stride": (2,), "padding": ((1, 0),)}, {"groups": 2}])
def test_a_layer_of_outputs_reads_what_the_layer_gives(options, monkeypatch):
    monkeypatch.setattr(outputs, "_WIDEST", 8)
    rng = np.random.default_rng(0)
    layer = wide(rng, 40, 6, **options)
    inner = of_outputs(layer)
    x = rng.standard_normal((3, 40, 5))
    np.testing.assert_allclose(inner(outputs_of(layer, x)), layer(x), atol=1e-12)
    for form, rank in (("dense", 1), ("low-rank", 6), ("low-rank", 2)):
        mixed = fit(inner, None, form, rank)
        np.testing.assert_allclose(of_inputs(mixed, layer)(x), mixed(outputs_of(layer, x)), atol=1e-10)
    assert of_outputs(wide(rng, 8, 4)) is None
    assert of_outputs(wide(rng, 40, 48)) is None
    assert of_outputs(replace(layer, weights=np.ones((6, 40 // layer.groups, 3)), sizes=(9,))) is None


@pytest.mark.parametrize("groups", [1, 2])
def test_it_errs_little_more_than_a_fit_to_the_inputs(groups, monkeypatch):
    rng = np.random.default_rng(1)
    layer = wide(rng, 60, 12, groups, activation="relu")
    basis = rng.standard_normal((60, 9))
    x = np.einsum("ir,nrs->nis", basis, rng.standard_normal((200, 9, 5)))
    x += 0.1 * rng.standard_normal(x.shape)
    seen = 0.9 * x + 0.05 * np.roll(x, 1, 1)  # behind layers that were converted
    known = []
    for widest in (4096, 8):
        monkeypatch.setattr(outputs, "_WIDEST", widest)
        moments = Moments(layer, keep=1 << 24)
        moments.add(seen, layer(x))
        known.append(moments)
        for rank in (2, 4, 6):
            new = fit(layer, moments, "low-rank", rank)
            assert [conv.weights.shape[1] for conv in new.convs] == [60 // groups, rank]
            left = np.square(new(seen) - layer(x)).mean() / np.var(layer(x), (0, 2)).mean()
            if rank < 12 // groups:
                assert new.error <= 1.5 * left + 1e-6
        known.append(
            np.square(
                np.maximum(fit(layer, moments, "low-rank", 4)(seen), 0) - np.maximum(layer(x), 0)
            ).mean()
        )
    assert known[2].fitted is not known[2].layer
    assert known[0].fitted is known[0].layer
    assert known[3] < 1.3 * known[1]


def test_tens_of_thousands_of_inputs_take_no_room():
    rng = np.random.default_rng(2)
    layer = wide(rng, 30_000, 16)
    x = rng.standard_normal((40, 30_000, 1))
    moments = Moments(layer)
    moments.add(x, layer(x))
    assert moments.total.covariance[0].shape == (16, 16)
    new = fit(layer, moments, "low-rank", 16)
    np.testing.assert_allclose(new(x), layer(x), atol=1e-9)
    half = fit(layer, moments, "low-rank", 8)
    assert half.params == 8 * 30_000 + 16 * 8 + 16
    assert 0 < half.error < 0.6
    with pytest.raises(ValueError, match="are those of layer"):
        fit(wide(rng, 20_000, 16), moments, "low-rank", 8)
