"""Transposed layers as convolutions of spread inputs: against torch in float64, in every form, with data."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from separable.conv import ConvLayer, Moments, fit
from separable.conv.forms.table import CHEAPER, FORMS
from separable.conv.forms.transposed import crop_of, padding_of, turned
from tests.conv_layers import inputs_of

torch = pytest.importorskip("torch")
F = torch.nn.functional
RUN = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def transposed(weights, bias, stride, padding, more, dilation, groups, sizes) -> ConvLayer:
    """Return the layer of torch's transposed convolution, whose weights are (C_in, C_out/groups, *k)."""
    return ConvLayer(
        "up",
        turned(weights, groups),
        bias,
        padding=padding_of(weights.shape[2:], dilation, tuple(zip(padding, padding, strict=True)), more),
        dilation=dilation,
        groups=groups,
        sizes=sizes,
        input_dilation=stride,
        transposed=True,
    )


@st.composite
def cases(draw):
    ndim = draw(st.sampled_from((1, 2, 2, 3)))
    groups = draw(st.sampled_from((1, 1, 2)))
    kernel = tuple(draw(st.integers(1, 4 if ndim < 3 else 3)) for _ in range(ndim))
    dilation = tuple(draw(st.integers(1, 2)) for _ in range(ndim))
    stride = tuple(draw(st.integers(1, 3)) for _ in range(ndim))
    padding = tuple(draw(st.integers(0, d * (k - 1))) for d, k in zip(dilation, kernel, strict=True))
    more = tuple(draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation, strict=True))
    sizes = tuple(draw(st.integers(3, 5)) for _ in range(ndim))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    weights = rng.standard_normal((groups * draw(st.integers(1, 4)), draw(st.integers(1, 4)), *kernel))
    bias = rng.standard_normal(groups * weights.shape[1]) if draw(st.booleans()) else None
    return weights, bias, stride, padding, more, dilation, groups, sizes


@given(case=cases(), form=st.sampled_from(CHEAPER))
@settings(max_examples=120, deadline=None)
def test_a_layer_is_torchs_and_every_form_is_exact_at_full_rank(case, form):
    weights, bias, stride, padding, more, dilation, groups, sizes = case
    try:
        layer = transposed(*case)
    except ValueError:  # nothing comes out
        return
    x = np.random.default_rng(0).standard_normal((2, layer.c_in, *sizes))
    want = RUN[len(sizes)](
        torch.tensor(x),
        torch.tensor(weights),
        None if bias is None else torch.tensor(bias),
        stride,
        padding,
        more,
        groups,
        dilation,
    ).numpy()
    np.testing.assert_allclose(layer(x), want, atol=1e-11)
    assert layer.macs == weights.size * np.prod(sizes)
    np.testing.assert_array_equal(turned(layer.weights, groups), weights)
    crop, less = crop_of(layer)
    assert padding_of(layer.kernel, dilation, crop, less) == layer.padding
    assert all(m <= n for m, n in zip(less, more, strict=True))
    most = FORMS[form].full_rank(layer)
    if most:
        np.testing.assert_allclose(fit(layer, None, form, most)(x), want, atol=1e-9)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [((2, 2), (2, 2), (0, 0)), ((4, 4), (2, 2), (1, 1)), ((3,), (2,), (1,))]
)
@pytest.mark.parametrize("form", CHEAPER)
def test_a_fit_sees_the_data(form, kernel, stride, padding):
    rng = np.random.default_rng(1)
    ndim = len(kernel)
    weights = rng.standard_normal((10, 6, *kernel)) / 5
    layer = transposed(
        weights, rng.standard_normal(6), stride, padding, (0,) * ndim, (1,) * ndim, 1, (9, 7)[:ndim]
    )
    if not FORMS[form].applies(layer):
        return
    mixing = rng.standard_normal((10, 3)) @ rng.standard_normal((3, 10)) + 0.2 * np.eye(10)
    x = np.einsum("oi,ni...->no...", mixing, inputs_of(rng, layer, 60))
    moments = Moments(layer)
    moments.add(x, layer(x))
    rank = 3 if form in ("low-rank", "spatial") else 1
    blind, seeing = (fit(layer, known, form, rank) for known in (None, moments))
    errors = [
        float(np.square(new(x) - layer(x)).mean() / np.var(layer(x), (0, *range(2, x.ndim))).mean())
        for new in (blind, seeing)
    ]
    assert errors[1] < 0.8 * errors[0]
    assert seeing.error == pytest.approx(errors[1], rel=1e-3, abs=1e-9)
    assert seeing.macs == FORMS[form].cost(layer, rank).macs


def test_low_rank_narrows_where_the_samples_are_few():
    rng = np.random.default_rng(2)
    layer = transposed(rng.standard_normal((16, 8, 2, 2)), None, (2, 2), (0, 0), (0, 0), (1, 1), 1, (5, 5))
    reduce, expand = fit(layer, None, "low-rank", 4).convs
    assert (reduce.weights.shape, reduce.transposed) == ((4, 16, 1, 1), False)
    assert (expand.weights.shape, expand.transposed, expand.input_dilation) == ((8, 4, 2, 2), True, (2, 2))
    assert reduce.macs + expand.macs == 25 * (16 * 4 + 4 * 8 * 4)


def test_without_overlap_the_reduction_is_the_best_there_is():
    """Taps as many as steps: every input is seen by itself, and reduced-rank regression is exact."""
    rng = np.random.default_rng(3)
    layer = transposed(rng.standard_normal((6, 3, 2)), np.zeros(3), (2,), (0,), (0,), (1,), 1, (8,))
    x = inputs_of(rng, layer, 400)
    x -= x.mean((0, 2), keepdims=True)
    moments = Moments(layer)
    moments.add(x, layer(x))
    got = fit(layer, moments, "low-rank", 2, ridge=1e-12).error
    rows = x.swapaxes(1, 2).reshape(-1, 6)
    outputs = layer(x).reshape(len(x), 3, 8, 2).transpose(0, 2, 1, 3).reshape(len(rows), 6)
    values = np.linalg.svd(outputs, compute_uv=False)
    means = layer(x).mean((0, 2))
    least = np.square(values[2:]).sum() / (np.square(outputs).sum() - 2 * len(rows) * np.square(means).sum())
    assert got == pytest.approx(least, rel=1e-2)


def test_what_no_framework_runs_is_refused():
    weights = np.ones((2, 2, 3))
    with pytest.raises(ValueError, match=r"cuts off \(3, 0\) samples, more than its taps reach over \(2\)"):
        padding_of((3,), (1,), ((3, 0),), (0,))
    with pytest.raises(ValueError, match="pass transposed=True"):
        ConvLayer("c", weights, input_dilation=(2,), sizes=(4,))
    with pytest.raises(ValueError, match="has `stride` 1 and zeros as padding"):
        ConvLayer("c", weights, stride=(2,), transposed=True, sizes=(4,))
    with pytest.raises(ValueError, match="has `stride` 1 and zeros as padding"):
        ConvLayer("c", weights, padding_mode="reflect", transposed=True, sizes=(4,))
