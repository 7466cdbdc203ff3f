"""Layers as values, their moments, and the fits of every form, against plain NumPy and torch."""

from __future__ import annotations

import itertools
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from separable.conv import ConvLayer, Moments, fit
from separable.conv.algebra.descent import (
    Quadratic,
    alternate_outputs,
    descend_inputs,
    leading_filters,
    whitened_filters,
    whitened_outputs,
)
from separable.conv.conversion.fit import Fitter
from separable.conv.forms.table import CHEAPER, FORMS
from tests.conv_layers import inputs_of, layer_of, layers

SPLIT = CHEAPER

NUMPY_MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def moments_of(layer, x, y=None, batches=1, **options):
    moments = Moments(layer, **options)
    wanted = layer(x) if y is None else y
    for some in np.array_split(np.arange(len(x)), batches):
        moments.add(x[some], wanted[some])
    return moments


def relative_error(replacement, x, y):
    return np.square(replacement(x) - y).mean(axis=0).sum() / np.var(y, axis=0).sum()


def error_of(replacement, x, y):
    """What `Replacement.error` means: pooled over positions, each channel about its own mean."""
    axes = (0, *range(2, y.ndim))
    return np.square(replacement(x) - y).mean(axis=axes).sum() / y.var(axis=axes).sum()


# -- the layer -------------------------------------------------------------------------------------------


@given(layer=layers())
@settings(max_examples=60, deadline=None)
def test_a_layer_is_what_torch_runs(layer):
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).standard_normal((2, layer.c_in, *layer.sizes))
    ndim = len(layer.kernel)
    widths = [side for sides in reversed(layer.padding) for side in sides]
    mode = {"zeros": "constant"}.get(layer.padding_mode, layer.padding_mode)
    legal = mode == "constant" or all(
        side < n if mode == "reflect" else side <= n
        for sides, n in zip(layer.padding, layer.sizes, strict=True)
        for side in sides
    )
    assert legal  # sizes are drawn so
    tensor = torch.from_numpy(spread(layer, x))
    filled = torch.nn.functional.pad(tensor, widths, mode=mode) if any(widths) else tensor
    conv = getattr(torch.nn.functional, f"conv{ndim}d")
    weights, bias = (None if a is None else torch.from_numpy(a.copy()) for a in (layer.weights, layer.bias))
    expected = conv(filled, weights, bias, layer.stride, 0, layer.dilation, layer.groups)
    np.testing.assert_allclose(layer(x), expected.numpy(), atol=1e-12)
    assert expected.shape[2:] == layer.out_sizes
    assert layer.macs == layer.weights.size * np.prod(layer.sizes if layer.transposed else layer.out_sizes)


def spread(layer, x):
    """Return the input with zeros between its samples, as a transposed layer reads it."""
    sizes = [(n - 1) * step + 1 for n, step in zip(x.shape[2:], layer.input_dilation, strict=True)]
    spread = np.zeros((*x.shape[:2], *sizes))
    spread[(..., *(slice(None, None, step) for step in layer.input_dilation))] = x
    return spread


def test_a_layer_keeps_its_own_weights():
    weights = np.ones((2, 3, 3))
    layer = ConvLayer("a", weights, sizes=(5,))
    weights[:] = 7
    assert layer.weights.max() == 1
    with pytest.raises(ValueError, match="read-only"):
        layer.weights[0] = 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"groups": 4}, "does not divide 6 output"),
        ({"padding_mode": "same"}, "expected one of 'zeros', 'reflect'"),
        ({"bias": np.ones(5)}, r"expected \(6,\), one per output"),
        ({"activation": "swish"}, "is unknown; expected one of 'relu'"),
        ({"calls": 0}, "calls"),
        ({"sizes": (2, 2)}, "pad at least"),
        ({"weights": np.full((6, 5, 3, 3), np.nan)}, "weights"),
    ],
)
def test_a_layer_that_is_none_is_refused(change, message):
    given = {"weights": np.ones((6, 5, 3, 3)), "sizes": (9, 8), **change}
    with pytest.raises(ValueError, match=message):
        ConvLayer("wrong", **given)


# -- moments -----------------------------------------------------------------------------------------------


def patches_of(layer, x):
    """Every patch that a layer reads, one by one, (samples * positions, groups, channels * taps)."""
    mode = NUMPY_MODES[layer.padding_mode]
    x = spread(layer, x)
    for axis, sides in enumerate(layer.padding, 2):
        widths = [(0, 0)] * x.ndim
        widths[axis] = sides
        x = np.pad(x, widths, mode=mode)
    rows = []
    for sample in x:
        for place in np.ndindex(layer.out_sizes):
            window = tuple(
                slice(p * s, p * s + d * (k - 1) + 1, d)
                for p, s, d, k in zip(place, layer.stride, layer.dilation, layer.kernel, strict=True)
            )
            rows.append(sample[(slice(None), *window)].reshape(layer.groups, -1))
    return np.array(rows)


@given(layer=layers(), batches=st.integers(1, 3), offset=st.sampled_from((0.0, 1e6)))
@settings(max_examples=40, deadline=None)
def test_moments_are_those_of_the_patches(layer, batches, offset):
    rng = np.random.default_rng(1)
    x = rng.standard_normal((3, layer.c_in, *layer.sizes)) + (offset if layer.padding_mode != "zeros" else 0)
    y = rng.standard_normal((3, layer.c_out, *layer.out_sizes)) + offset
    moments = moments_of(layer, x, y, batches)
    rows = patches_of(layer, x)
    wants = np.moveaxis(y, 1, -1).reshape(len(rows), layer.groups, -1)
    assert (moments.count, moments.samples) == (len(rows), 3)
    np.testing.assert_allclose(moments.total.mean_x, rows.mean(axis=0).reshape(-1), atol=1e-12, rtol=1e-12)
    np.testing.assert_allclose(moments.total.mean_y, wants.mean(axis=0).reshape(-1), atol=1e-12, rtol=1e-12)
    tolerance = 1e-12 if not offset else 1e-8  # of numbers about 1, what 1e6 leaves of 16 digits
    np.testing.assert_allclose(moments.total.variance_y, wants.var(axis=0).reshape(-1), atol=tolerance)
    for g in range(layer.groups):
        a, b = rows[:, g] - rows[:, g].mean(axis=0), wants[:, g] - wants[:, g].mean(axis=0)
        np.testing.assert_allclose(moments.total.covariance[g], a.T @ a / len(a), atol=tolerance)
        np.testing.assert_allclose(moments.total.cross[g], a.T @ b / len(a), atol=tolerance)


def test_memory_does_not_grow_with_the_inputs():
    rng = np.random.default_rng(0)
    layer = layer_of(rng, (8, 8, 3, 3), (12, 12))
    moments = Moments(layer, keep=1 << 18)
    x = rng.standard_normal((16, 8, 12, 12))
    y = layer(x)
    tracemalloc.start()
    try:
        for _ in range(4):
            moments.add(x, y)
        few = tracemalloc.get_traced_memory()[0]
        for _ in range(60):
            moments.add(x, y)
        assert tracemalloc.get_traced_memory()[0] < few + (1 << 19)
    finally:
        tracemalloc.stop()


def test_some_positions_and_an_excerpt():
    rng = np.random.default_rng(0)
    layer = layer_of(rng, (4, 3, 3, 3), (10, 10), activation="relu")
    x = rng.standard_normal((40, 3, 10, 10))
    moments = moments_of(layer, x, batches=5, positions=7, keep=20_000)
    assert moments.count == 40 * 7
    excerpt = moments.excerpt
    assert 0 < excerpt.nbytes <= 20_000
    assert len(excerpt.x) % 7 == 0
    whole = {row.tobytes() for row in patches_of(layer, x)[:, 0].astype(np.float32)}
    assert all(row.tobytes() in whole for row in excerpt.x)
    again = moments_of(layer, x, batches=2, positions=7, keep=20_000)
    np.testing.assert_allclose(again.total.covariance[0], moments.total.covariance[0], atol=1e-12)


def test_data_that_do_not_fit_are_refused():
    rng = np.random.default_rng(0)
    layer = layer_of(rng)
    x = inputs_of(rng, layer)
    moments = Moments(layer)
    with pytest.raises(ValueError, match="has seen no data"):
        moments.total  # noqa: B018
    with pytest.raises(ValueError, match=r"expected \(N, 5, \*sizes\)"):
        moments.add(x[:, :4], layer(x))
    with pytest.raises(ValueError, match=r"expected \(6, 6, 9, 8\), the output of layer"):
        moments.add(x, layer(x)[:, :, :-1])
    x[0, 0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="NaN or infinity around layer 'layer'"):
        moments.add(x, layer(np.zeros_like(x)))
    with pytest.raises(ValueError, match="leaves nothing to look at"):
        Moments(layer, positions=0)


# -- forms -------------------------------------------------------------------------------------------------


@given(layer=layers(), form=st.sampled_from(tuple(FORMS)))
@settings(max_examples=120, deadline=None)
def test_full_rank_says_the_same_with_data_and_without(layer, form):
    most = FORMS[form].full_rank(layer)
    if not most:
        with pytest.raises(ValueError, match="has no form"):
            fit(layer, None, form, 1)
        return
    x = np.random.default_rng(2).standard_normal((3, layer.c_in, *layer.sizes))
    y = layer(x)
    for moments in (None, moments_of(layer, x, y)):
        new = fit(layer, moments, form, most)
        np.testing.assert_allclose(new(x), y, atol=1e-7 * np.abs(y).max())
        # Not only on what it has seen.
        other = np.random.default_rng(3).standard_normal(x.shape)
        np.testing.assert_allclose(new(other), layer(other), atol=1e-6 * np.abs(y).max())
        assert all(conv.bias is None for conv in new.convs[:-1])
        if form != "dense":
            cost = FORMS[form].cost(layer, most)
            assert new.macs == cost.macs
            assert sum(conv.weights.size for conv in new.convs) == cost.params - layer.c_out


@pytest.mark.parametrize("form", SPLIT)
@pytest.mark.parametrize("groups", [1, 2])
def test_a_layer_that_has_the_form_is_found_again(form, groups):
    rng = np.random.default_rng(5)
    layer = layer_of(rng, (6, 4, 3, 3), (8, 8), groups=groups)
    plain = fit(layer, None, form, 2)
    dense = Fitter(layer).replacement("dense")
    weights = sum_of(plain, layer)
    made = ConvLayer("made", weights, layer.bias, padding=layer.padding, groups=groups, sizes=layer.sizes)
    x = inputs_of(rng, made, 40)
    new = fit(made, moments_of(made, x), form, 2)
    assert new.error < 1e-7
    np.testing.assert_allclose(new(x), made(x), atol=1e-3 * np.abs(made(x)).max())
    assert dense.form == "dense"


def sum_of(replacement, layer):
    """The dense weights of a replacement, by running it on impulses."""
    groups, inputs = layer.groups, layer.weights.shape[1]
    weights = np.zeros(layer.weights.shape)
    outputs = layer.c_out // groups
    size = tuple(2 * k + 1 for k in layer.kernel)
    centre = tuple(k for k in layer.kernel)
    zero = replacement(np.zeros((1, layer.c_in, *size)))
    for channel in range(layer.c_in):
        x = np.zeros((1, layer.c_in, *size))
        x[(0, channel, *centre)] = 1
        y = (replacement(x) - zero)[0]
        group = channel // inputs
        for tap in np.ndindex(layer.kernel):
            place = tuple(c + p[0] - t for c, p, t in zip(centre, layer.padding, tap, strict=True))
            rows = slice(group * outputs, (group + 1) * outputs)
            weights[(rows, channel % inputs, *tap)] = y[(rows, *place)]
    return weights


@given(layer=layers(), form=st.sampled_from(SPLIT), rank=st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_the_error_is_what_the_data_show_and_no_more_than_without_them(layer, form, rank):
    if not FORMS[form].full_rank(layer) or np.prod(layer.out_sizes) < 2:
        return
    rng = np.random.default_rng(4)
    x = inputs_of(rng, layer, 12)
    y = layer(x)
    axes = (0, *range(2, y.ndim))
    if y.var(axis=axes).sum() < 1e-9:
        return
    blind, seeing = fit(layer, None, form, rank), fit(layer, moments_of(layer, x, y), form, rank)
    measured = error_of(seeing, x, y)
    assert seeing.error == pytest.approx(measured, abs=1e-5, rel=1e-3)
    assert measured <= error_of(blind, x, y) * (1 + 1e-6) + 1e-5
    np.testing.assert_allclose(seeing(x).mean(axis=axes), y.mean(axis=axes), atol=1e-6)  # the bias sees to it


@pytest.mark.parametrize(
    ("shape", "seed"), [((1, 1, 2, 2, 2), 28), ((1, 1, 3, 3, 3), 59), ((1, 2, 5, 5, 5), 17)]
)
def test_data_do_no_harm_where_the_axes_are_split_off_one_by_one(shape, seed):
    """The first axis is fitted as if the others could be anything: here the weights alone do better."""
    rng = np.random.default_rng(seed)
    layer = layer_of(rng, shape, tuple(k + 2 for k in shape[2:]))
    x = inputs_of(rng, layer, 12)
    y = layer(x)
    blind, seeing = fit(layer, None, "spatial", 1), fit(layer, moments_of(layer, x, y), "spatial", 1)
    assert error_of(seeing, x, y) <= error_of(blind, x, y) * (1 + 1e-6)
    assert seeing.error == pytest.approx(error_of(seeing, x, y), rel=1e-3)


def test_more_rank_is_less_error():
    rng = np.random.default_rng(8)
    layer = layer_of(rng, (12, 8, 3, 3), (8, 8))
    x = inputs_of(rng, layer, 60)
    fitter = Fitter(layer, moments_of(layer, x))
    for form in SPLIT:
        ranks = range(1, min(FORMS[form].full_rank(layer), 9) + 1)
        errors = [fitter.replacement(form, rank).error for rank in ranks]
        assert all(b <= a * 1.001 + 1e-9 for a, b in itertools.pairwise(errors)), form


def test_a_rank_for_each_channel():
    rng = np.random.default_rng(6)
    layer = layer_of(rng, (6, 4, 3, 3), (8, 8))
    x = inputs_of(rng, layer, 30)
    new = fit(layer, moments_of(layer, x), "dw-pw", (0, 1, 2, 9))
    assert new.rank == (0, 1, 2, 6)  # six outputs: more say no more
    assert new.channels == (1, 2, 2, 3, 3, 3, 3, 3, 3)
    assert new.error == pytest.approx(error_of(new, x, layer(x)), rel=1e-3)
    with pytest.raises(ValueError, match="needs form 'dw-pw' and one group"):
        fit(layer, None, "pw-dw", (1, 1, 1, 1, 1, 1))


def test_few_inputs_leave_the_rest_to_the_weights():
    """Where the covariance is singular, nothing may be made up for inputs that were not seen."""
    rng = np.random.default_rng(7)
    layer = layer_of(rng, (8, 16, 3, 3), (5, 5))
    few, many = inputs_of(rng, layer, 1), inputs_of(np.random.default_rng(7), layer, 64)[8:]
    moments = moments_of(layer, few)
    assert np.linalg.matrix_rank(moments.total.covariance[0]) < 144
    new = fit(layer, moments, "dw-pw", 2)
    blind = fit(layer, None, "dw-pw", 2)
    assert np.isfinite(new(many)).all()
    assert error_of(new, many, layer(many)) < 3 * error_of(blind, many, layer(many))
    assert error_of(fit(layer, moments, "dense"), many, layer(many)) < 1e-9


def test_inputs_that_have_changed_are_made_up_for():
    rng = np.random.default_rng(9)
    layer = layer_of(rng, (6, 5, 3, 3), (8, 8))
    x = inputs_of(rng, layer, 60)
    y = layer(x)
    seen = x * 0.8 + 0.1 * np.roll(x, 1, 1) + 0.3
    moments = Moments(layer)
    moments.add(seen, y)
    new = fit(layer, moments, "dense")
    assert error_of(new, seen, y) < 0.05 * error_of(layer, seen, y)


@pytest.mark.parametrize("shape", [(24, 60, 1), (16, 30, 1, 1)])
def test_a_layer_of_one_tap_is_not_fitted_to_few_data_alone(shape, monkeypatch):
    """Fewer samples than channels: what they do not show is told by the weights."""
    rng = np.random.default_rng(5)
    layer = layer_of(rng, shape, (1,) * (len(shape) - 2))
    spread = np.geomspace(1, 0.1, shape[1]).reshape(-1, *(1,) * (len(shape) - 2))
    seen, unseen = (
        spread * rng.standard_normal((count, shape[1], *(1,) * (len(shape) - 2))) for count in (20, 2000)
    )
    moments = moments_of(layer, seen, batches=2)

    def left():
        new = fit(layer, moments, "low-rank", layer.c_out * 3 // 4)
        return np.square(new(unseen) - layer(unseen)).mean()

    shrunk = left()
    monkeypatch.setattr("separable.conv.conversion.regularise._PLENTY_ONE_TAP", 0)
    assert shrunk < 0.8 * left()


@pytest.mark.parametrize(("many", "left"), [(8, 0.9), (0, 0.98)])
def test_what_a_rectifier_cuts_off_does_not_matter(many, left, monkeypatch):
    """Nor where sweeps take so long that the rounds fit what mixes the filters, and not the filters."""
    monkeypatch.setattr("separable.conv.conversion.fit._MANY_SYSTEMS", many)
    rng = np.random.default_rng(10)
    layer = layer_of(rng, (12, 8, 3, 3), (8, 8), activation="relu")
    x = inputs_of(rng, layer, 160)
    y = np.maximum(layer(x), 0)
    moments = moments_of(layer, x, keep=1 << 26)

    def behind(rounds):
        return np.square(np.maximum(fit(layer, moments, "dw-pw", 1, rounds=rounds)(x), 0) - y).mean()

    assert behind(12) < left * behind(0)


def test_sweeps_over_many_systems_are_counted():
    layer = layer_of(np.random.default_rng(0), (512, 512, 3, 3), (8, 8))
    systems = {form: FORMS[form].systems(layer, 2) for form in SPLIT}
    assert systems.pop("dw-pw") == 9  # 9,216 taps, 1,024 at a time
    assert set(systems.values()) == {1}


def test_sweeps_that_are_too_much_work_are_left_out(monkeypatch):
    rng = np.random.default_rng(3)
    layer = layer_of(rng, (12, 10, 3, 3), (8, 8))
    fitter = Fitter(layer, moments_of(layer, inputs_of(rng, layer, 60)))
    all_of_them, none = (fitter.replacement("dw-pw", 2, sweeps=sweeps) for sweeps in (5, 0))
    assert all_of_them.error < none.error
    monkeypatch.setattr("separable.conv.conversion.fit._SWEEPS_WORK", 1.0)
    assert fitter.replacement("dw-pw", 2, sweeps=5).error == none.error
    assert fitter.replacement("dw-pw", 9).error < 1e-9  # of full rank: nothing to be swept


def test_of_512_channels_in_eight_terms_each_none_is_swept():
    """One sweep factors 37 systems of 4096 equations each."""
    layer = ConvLayer(
        "deep", np.zeros((512, 512, 3, 3), np.float32), padding=((1, 1), (1, 1)), sizes=(14, 14)
    )
    affordable = [Fitter(layer, None)._affordable(FORMS["dw-pw"], rank) for rank in (1, 4, 8)]
    assert affordable[0] > 40
    assert affordable[1] >= 8
    assert affordable[2] == 0


@pytest.mark.parametrize("form", SPLIT)
@pytest.mark.parametrize("silent", ["weights", "inputs", "an input", "an output", "both"])
def test_what_says_nothing_is_no_obstacle(form, silent):
    """A norm that starts at zero, as the last of a residual block does, leaves weights of zero."""
    rng = np.random.default_rng(13)
    layer = layer_of(rng, (6, 5, 3, 3), (8, 8))
    weights, x = layer.weights.copy(), inputs_of(rng, layer, 20)
    weights[{"weights": slice(None), "an output": 1}.get(silent, []), :] = 0
    x[:, {"inputs": slice(None), "an input": 2, "both": 2}.get(silent, [])] = 0
    weights[:, [2] if silent == "both" else []] = 0
    layer = ConvLayer("silent", weights, layer.bias, padding=layer.padding, sizes=layer.sizes)
    fitter = Fitter(layer, moments_of(layer, x))
    for rank in (1, FORMS[form].full_rank(layer)):
        new = fitter.replacement(form, rank)
        assert np.isfinite(new(x)).all()
    np.testing.assert_allclose(new(x), layer(x), atol=1e-6)
    assert np.isfinite(fitter.errors(form, [1, 2])).all()


def test_scale_does_not_matter():
    rng = np.random.default_rng(11)
    layer = layer_of(rng, (6, 5, 3, 3), (8, 8))
    x = inputs_of(rng, layer, 20)
    for form in SPLIT:
        expected = fit(layer, moments_of(layer, x), form, 2).error
        for weight, data in ((1e-20, 1.0), (1e20, 1.0), (1.0, 1e-12), (1.0, 1e12)):
            scaled = ConvLayer("scaled", weight * layer.weights, padding=layer.padding, sizes=layer.sizes)
            found = fit(scaled, moments_of(scaled, data * x), form, 2)
            assert found.error == pytest.approx(expected, rel=1e-3), (form, weight, data)


def test_a_kronecker_covariance_has_a_closed_form():
    """FACTS: with C = C_chan (x) C_spat the truncated SVD between both roots is the optimum of "pw-dw"."""
    rng = np.random.default_rng(12)
    channels, taps, outputs = 6, 9, 4
    a, b = (m @ m.T + np.eye(len(m)) for m in (rng.standard_normal((n, n)) for n in (channels, taps)))
    gram, weights = np.kron(a, b), rng.standard_normal((channels * taps, outputs))
    problem = Quadratic(gram, gram @ weights, np.einsum("io,ij,jo->o", weights, gram, weights), taps)
    for rank in (1, 2, 3):
        left, right = np.linalg.cholesky(a), np.linalg.cholesky(b)
        values = np.linalg.svd(left.T @ weights.T.reshape(outputs, channels, taps) @ right, compute_uv=False)
        least = np.square(values[:, rank:]).sum()
        assert problem.loss(whitened_outputs(problem, rank)) == pytest.approx(least, rel=1e-9)
        filters = leading_filters(problem, weights, rank)
        assert alternate_outputs(problem, filters, 20, 1e-9)[2] == pytest.approx(least, rel=1e-6)


def test_uncorrelated_channels_have_a_closed_form():
    rng = np.random.default_rng(13)
    channels, taps, outputs = 5, 9, 7
    blocks = [m @ m.T + np.eye(taps) for m in rng.standard_normal((channels, taps, taps))]
    gram = np.zeros((channels, taps, channels, taps))
    for c, block in enumerate(blocks):
        gram[c, :, c] = block
    gram = gram.reshape(channels * taps, -1)
    weights = rng.standard_normal((channels * taps, outputs))
    problem = Quadratic(gram, gram @ weights, np.einsum("io,ij,jo->o", weights, gram, weights), taps)
    least = 0.0
    for c, block in enumerate(blocks):
        values = np.linalg.svd(
            np.linalg.cholesky(block).T @ weights[c * taps : (c + 1) * taps], compute_uv=False
        )
        least += np.square(values[2:]).sum()
    ranks = [2] * channels
    filters = whitened_filters(problem, ranks)
    for sweeps in (0, 5):
        found = descend_inputs(problem, ranks, filters, sweeps, 1e-9)[2]
        assert found == pytest.approx(least, abs=2e-4 * problem.energy)


def test_rounding_that_makes_a_step_indefinite_is_damped():
    """Fewer patches than unknowns, and sums in single precision that are off by a ten thousandth."""
    rng = np.random.default_rng(0)
    channels, taps, outputs, patches = 24, 9, 16, 20
    x = rng.standard_normal((patches, channels * taps))
    y = x @ rng.standard_normal((channels * taps, outputs))
    off = rng.standard_normal((channels * taps, channels * taps))
    gram = x.T @ x / patches + 1e-4 * (off + off.T) / 2
    pull, energies = x.T @ y / patches, np.square(y).mean(0)
    problem = Quadratic(gram.astype(np.float32), pull.astype(np.float32), energies, taps)
    filters = rng.standard_normal((channels, taps)).astype(np.float32)
    losses = [descend_inputs(problem, [1] * channels, filters, sweeps, 1e-9)[2] for sweeps in (0, 5)]
    assert losses[1] < 0.5 * losses[0]


def test_estimated_errors_are_near_the_fitted_ones():
    rng = np.random.default_rng(14)
    layer = layer_of(rng, (12, 10, 3, 3), (8, 8))
    fitter = Fitter(layer, moments_of(layer, inputs_of(rng, layer, 60)))
    for form in SPLIT:
        ranks = [rank for rank in (1, 2, 4, 7) if rank < FORMS[form].full_rank(layer)]
        for rank, error in zip(ranks, fitter.errors(form, ranks), strict=True):
            fitted = fitter.replacement(form, rank).error
            assert fitted * 0.95 <= error <= 1.6 * fitted, (form, rank)


def test_wrong_arguments_are_refused():
    rng = np.random.default_rng(0)
    layer, other = layer_of(rng), layer_of(rng, (6, 4, 3, 3))
    with pytest.raises(ValueError, match="`form='cp'` is unknown"):
        fit(layer, None, "cp", 1)
    with pytest.raises(ValueError, match=r"expected \(6, 5, 3, 3\), as 'layer' has"):
        fit(layer, moments_of(other, inputs_of(rng, other)))
    with pytest.raises(ValueError, match="is not a fraction of the variance"):
        fit(layer, None, ridge=0.0)
    with pytest.raises((TypeError, ValueError), match="rank"):
        fit(layer, None, "dw-pw", 0)
    dots = layer_of(rng, (6, 5, 1, 1))
    with pytest.raises(ValueError, match="has no form 'dw-pw'; leave it out"):
        fit(dots, None, "dw-pw", 1)


def test_channels_that_few_inputs_wake_are_not_fitted_to_those() -> None:
    """What one input of many shows of a channel is noise; on others that channel may be as loud as any."""
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((64, 64, 3, 3)) / 24
    layer = ConvLayer("layer", weights, padding=((1, 1), (1, 1)), sizes=(2, 2), activation="relu")

    def inputs(count: int, wake: float, loud: float) -> np.ndarray:
        x = rng.standard_normal((count, 16, 2, 2)).repeat(4, axis=1) + 0.1 * rng.standard_normal(
            (count, 64, 2, 2)
        )
        x[:, ::4] *= (rng.random((count, 16, 1, 1)) < wake) * loud
        return np.maximum(x, 0)

    seen, others = inputs(48, 0.02, 0.003), inputs(400, 0.3, 1.0)
    moments = Moments(layer, keep=1 << 24)
    moments.add(seen, layer(seen))
    errors = {
        form: error_of(fit(layer, moments, form, rank), others, layer(others))
        for form, rank in (("spatial", 12), ("dw-pw", 1))
    }
    assert max(errors.values()) < 1, errors


@pytest.mark.parametrize(("form", "rank"), [("dw-pw", 2), ("pw-dw", 2), ("spatial", 4), ("low-rank", 4)])
def test_a_closed_form_errs_as_is_said_and_takes_no_turn(form, rank, monkeypatch):
    rng = np.random.default_rng(0)
    layer = layer_of(rng, (16, 12, 3, 3), (9, 9))
    x = inputs_of(rng, layer, 60)
    fitter = Fitter(layer, moments_of(layer, x))
    descended = fitter.replacement(form, rank).error
    monkeypatch.setattr("separable.conv.algebra.descent._moved", None)  # what a sweep would call
    monkeypatch.setattr("separable.conv.algebra.descent._alternated", None)
    new = fitter.closed(form, rank)
    assert (new.form, new.rank) == (form, rank)
    assert new.error == pytest.approx(fitter.closed_errors(form, [rank])[0], rel=0.02)
    assert new.error == pytest.approx(error_of(new, x, layer(x)), rel=1e-6)
    assert new.error >= descended * (1 - 1e-9)


def test_moments_that_serve_one_fit_alone_are_free_afterwards():
    rng = np.random.default_rng(0)
    layer = ConvLayer("c", rng.standard_normal((8, 64, 3, 3)), padding=((1, 1), (1, 1)), sizes=(6, 6))
    x = inputs_of(rng, layer, 30)
    kept, taken = (moments_of(layer, x, keep=1 << 20) for _ in range(2))
    fits = [
        Fitter(layer, moments, last=moments is taken).replacement("dw-pw", 2) for moments in (kept, taken)
    ]
    assert (kept.count, taken.count, taken.excerpt) == (30 * 36, 0, None)
    for one, other in zip(fits[0].convs, fits[1].convs, strict=True):
        np.testing.assert_array_equal(one.weights, other.weights)
