"""The algebra of separable forms: composed weights act as the two convolutions, and have one normal form."""

from __future__ import annotations

import math
import re
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from reference import dense_conv

from separable import conv

ORDERS = ("dw-pw", "pw-dw")
KERNELS = {1: (4,), 2: (3, 2), 3: (2, 1, 3)}


def layer(order, rank, c_in=4, c_out=6, kernel=(3, 2), groups=1, seed=0, dtype=np.float64):
    """Random kernels of a separable layer."""
    rng = np.random.default_rng(seed)
    if order == "dw-pw":
        shapes = (c_in * rank, 1, *kernel), (c_out, c_in * rank // groups)
    else:
        shapes = (c_out, rank, *kernel), (c_out * rank, c_in // groups)
    return tuple(rng.standard_normal(shape).astype(dtype) for shape in shapes)


def in_sequence(x, depthwise, pointwise, order, groups=1, stride=1, padding=0, dilation=1):
    """Run the two convolutions one after the other."""
    dot = np.asarray(pointwise).reshape(*np.shape(pointwise)[:2], *(1,) * (x.ndim - 2))
    options = {"stride": stride, "padding": padding, "dilation": dilation}
    if order == "dw-pw":
        return dense_conv(dense_conv(x, depthwise, groups=x.shape[1], **options), dot, groups=groups)
    return dense_conv(dense_conv(x, dot, groups=groups), depthwise, groups=len(depthwise), **options)


# -- compose -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_composed_weights_do_in_one_convolution_what_the_two_do_in_sequence(order, rank, groups, ndim):
    depthwise, pointwise = layer(order, rank, kernel=KERNELS[ndim], groups=groups)
    x = np.random.default_rng(1).standard_normal((2, 4, 7, 6, 5)[: ndim + 2])
    dense = conv.compose(depthwise, pointwise, order, rank=rank, groups=groups)
    assert dense.shape == (6, 4 // groups, *KERNELS[ndim])
    for options in ({}, {"stride": 2, "padding": 1}, {"dilation": 2, "padding": ((2, 1),) * ndim}):
        expected = in_sequence(x, depthwise, pointwise, order, groups, **options)
        np.testing.assert_allclose(
            dense_conv(x, dense, groups=groups, **options), expected, rtol=0, atol=1e-12
        )


def test_compose_is_the_formula_of_its_docstring():
    depthwise, pointwise = layer("dw-pw", 2)
    dense = conv.compose(depthwise, pointwise, rank=2)
    for o, i in np.ndindex(6, 4):
        expected = sum(pointwise[o, i * 2 + t] * depthwise[i * 2 + t, 0] for t in range(2))
        np.testing.assert_allclose(dense[o, i], expected, atol=1e-14)
    depthwise, pointwise = layer("pw-dw", 2)
    dense = conv.compose(depthwise, pointwise, "pw-dw")
    for o, i in np.ndindex(6, 4):
        expected = sum(pointwise[o * 2 + t, i] * depthwise[o, t] for t in range(2))
        np.testing.assert_allclose(dense[o, i], expected, atol=1e-14)


@pytest.mark.parametrize("order", ORDERS)
def test_a_rank_for_each_channel_leaves_out_terms(order):
    ranks = (2, 0, 1, 3)  # of 4 input channels in one order, of 4 output channels in the other
    depthwise, pointwise = layer(order, 3, c_in=4, c_out=4)
    kept = np.concatenate([3 * c + np.arange(rank) for c, rank in enumerate(ranks)])
    filters = depthwise.reshape(12, 1, 3, 2)
    few = pointwise[:, kept] if order == "dw-pw" else pointwise[kept]
    got = conv.compose(filters[kept], few, order, rank=ranks)
    dropped = np.setdiff1d(np.arange(12), kept)
    filters[dropped] = 0
    expected = conv.compose(filters.reshape(depthwise.shape), pointwise, order, rank=3)
    np.testing.assert_allclose(got, expected, atol=1e-14)


def test_pointwise_may_have_its_axes_of_length_one():
    depthwise, pointwise = layer("dw-pw", 1)
    expected = conv.compose(depthwise, pointwise)
    np.testing.assert_array_equal(conv.compose(depthwise, pointwise[:, :, None, None]), expected)


@pytest.mark.parametrize(
    ("dtypes", "expected"),
    [
        (("f4", "f4"), "f4"),
        (("f4", "f8"), "f8"),
        (("f2", "f2"), "f2"),
        (("i4", "i2"), "f8"),
        (("f4", "i8"), "f4"),
        ((">f4", ">f4"), "f4"),
    ],
)
def test_results_come_back_in_the_floating_dtype(dtypes, expected):
    depthwise, pointwise = (w.astype(d) for w, d in zip(layer("dw-pw", 1), dtypes, strict=True))
    for result in (
        conv.compose(depthwise, pointwise),
        conv.khatri_rao(depthwise, pointwise),
        *conv.canonical(depthwise, pointwise),
    ):
        assert result.dtype == np.dtype(expected)
        assert result.dtype.isnative


# -- Khatri-Rao and the spectrum ---------------------------------------------------------------------


def test_khatri_rao_columns_are_kronecker_products():
    depthwise, pointwise = layer("dw-pw", 2)
    product = conv.khatri_rao(depthwise, pointwise)
    assert product.shape == (6 * 6, 4 * 2)
    for r in range(8):
        expected = np.kron(pointwise[:, r], depthwise[r].ravel())
        np.testing.assert_allclose(product[:, r], expected, atol=1e-15)


@pytest.mark.parametrize("rank", [1, 3])
def test_khatri_rao_summed_over_terms_is_the_flat_dense_kernel(rank):
    depthwise, pointwise = layer("dw-pw", rank)
    dense = conv.compose(depthwise, pointwise, rank=rank)
    flat = np.moveaxis(dense, 1, -1).reshape(-1, 4)
    product = conv.khatri_rao(depthwise, pointwise)
    np.testing.assert_allclose(product.reshape(-1, 4, rank).sum(2), flat, atol=1e-14)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("groups", [1, 2])
def test_spectrum_is_that_of_each_channels_slice(order, groups):
    dense = np.random.default_rng(0).standard_normal((6, 4 // groups, 3, 2))
    spectrum = conv.slice_spectrum(dense, order, groups)
    if order == "pw-dw":
        slices = [dense[o].reshape(-1, 6) for o in range(6)]
    else:
        per_group = 6 // groups
        slices = [
            dense[g * per_group : (g + 1) * per_group, i].reshape(-1, 6)
            for g in range(groups)
            for i in range(4 // groups)
        ]
    expected = np.array([np.linalg.svd(s, compute_uv=False) for s in slices])
    np.testing.assert_allclose(spectrum, expected, atol=1e-14)


# -- canonical ---------------------------------------------------------------------------------------


def turned(depthwise, pointwise, order, rank, rng):
    """Other kernels of the same layer: an invertible matrix A per channel, its inverse on the other side."""
    kernel = depthwise.shape[2:]
    channels = depthwise.size // math.prod(kernel) // rank
    change = rng.standard_normal((channels, rank, rank)) + 2 * np.eye(rank)
    back = np.linalg.inv(change).swapaxes(1, 2)
    filters = change @ depthwise.reshape(channels, rank, -1)
    if order == "pw-dw":
        mixing = back @ pointwise.reshape(channels, rank, -1)
        return filters.reshape(depthwise.shape), mixing.reshape(pointwise.shape)
    columns = pointwise.T.reshape(channels, rank, -1)
    return filters.reshape(depthwise.shape), (back @ columns).reshape(-1, len(pointwise)).T


@given(order=st.sampled_from(ORDERS), rank=st.integers(1, 3), seed=st.integers(0, 10**6))
def test_canonical_is_the_same_for_all_kernels_of_a_layer(order, rank, seed):
    rng = np.random.default_rng(seed)
    depthwise, pointwise = layer(order, rank, seed=seed)
    others = turned(depthwise, pointwise, order, rank, rng)
    dense = conv.compose(depthwise, pointwise, order, rank=rank)
    np.testing.assert_allclose(conv.compose(*others, order, rank=rank), dense, atol=1e-9)
    gaps = -np.diff(conv.slice_spectrum(dense, order), axis=1)[:, : rank - 1]
    assume(rank == 1 or gaps.min() > 1e-3)  # equal singular values do not determine the form
    ours = conv.canonical(depthwise, pointwise, order, rank=rank)
    for mine, theirs in zip(ours, conv.canonical(*others, order, rank=rank), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-7)
    np.testing.assert_allclose(conv.compose(*ours, order, rank=rank), dense, atol=1e-12)


@pytest.mark.parametrize("order", ORDERS)
def test_canonical_is_balanced_sorted_orthogonal_and_signed(order):
    depthwise, pointwise = conv.canonical(*layer(order, 3), order, rank=3)
    filters = depthwise.reshape(-1, 3, 6)
    mixing = (pointwise.T if order == "dw-pw" else pointwise).reshape(len(filters), 3, -1)
    norms = np.linalg.norm(filters, axis=2)
    np.testing.assert_allclose(norms, np.linalg.norm(mixing, axis=2), rtol=1e-12)
    assert np.all(np.diff(norms, axis=1) < 0)
    for lines in (filters, mixing):
        gram = lines @ lines.swapaxes(1, 2)
        diagonal = np.einsum("ctt->ct", gram)[:, :, None] * np.eye(3)
        np.testing.assert_allclose(gram, diagonal, atol=1e-12)
    peaks = np.take_along_axis(filters, np.abs(filters).argmax(2)[:, :, None], 2)
    assert np.all(peaks > 0)


def test_signs_of_antisymmetric_filters_do_not_hang_on_rounding():
    edge = np.array([[[[1.0, 0.0, -1.0]]]])
    for noise in (-1e-7, 0.0, 1e-7):
        for sign in (1, -1):
            depthwise, _ = conv.canonical(sign * (edge + noise), [[2.0]])
            assert depthwise[0, 0, 0, 0] > 0


def test_canonical_keeps_ranks_per_channel_and_fills_missing_terms_with_zeros():
    depthwise, pointwise = layer("dw-pw", 1, c_in=5)
    ranks = (3, 0, 2)
    same = conv.canonical(depthwise, pointwise, rank=ranks)
    assert same[0].shape == (5, 1, 3, 2)
    expected = conv.compose(depthwise, pointwise, rank=ranks)
    np.testing.assert_allclose(conv.compose(*same, rank=ranks), expected, atol=1e-13)
    twice = conv.canonical(np.repeat(depthwise, 2, 0), np.repeat(pointwise, 2, 1), rank=2)
    np.testing.assert_array_equal(twice[0][1::2], 0)
    np.testing.assert_array_equal(twice[1][:, 1::2], 0)


@pytest.mark.parametrize("scale", [1e-290, 1e290])
def test_canonical_does_not_depend_on_the_scale_of_the_weights(scale):
    depthwise, pointwise = layer("dw-pw", 1)
    ours, theirs = conv.canonical(depthwise, pointwise), conv.canonical(depthwise, pointwise * scale)
    for mine, scaled in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(scaled / math.sqrt(scale), mine, rtol=1e-9)


# -- degrees of freedom ------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("rank", [1, 2, 3, 4])
@pytest.mark.parametrize("groups", [1, 2])
def test_degrees_of_freedom_are_the_rank_of_the_jacobian(order, rank, groups):
    c_in, c_out, kernel = 4, 6, (3,)
    kernels = layer(order, rank, c_in, c_out, kernel, groups)
    flat = np.concatenate([w.ravel() for w in kernels])

    def dense(parameters):
        depthwise, pointwise = np.split(parameters, [kernels[0].size])
        shaped = depthwise.reshape(kernels[0].shape), pointwise.reshape(kernels[1].shape)
        return conv.compose(*shaped, order, rank=rank, groups=groups).ravel()

    # `compose` is linear in each kernel, so central differences are exact but for rounding.
    columns = [(dense(flat + step) - dense(flat - step)) / 2 for step in np.eye(flat.size)]
    found = np.linalg.matrix_rank(np.array(columns), tol=1e-9)
    assert conv.degrees_of_freedom(c_in, c_out, kernel, rank, order, groups=groups) == found


def test_degrees_of_freedom_at_rank_one_and_at_full_rank():
    assert conv.degrees_of_freedom(192, 384, 3) == 9 * 192 + 192 * 384 - 192
    assert conv.degrees_of_freedom(8, 16, 3, rank=9) == 8 * 16 * 9
    assert conv.degrees_of_freedom(8, 16, 3, rank=99, order="pw-dw") == 8 * 16 * 9
    assert conv.degrees_of_freedom(8, 16, 3, ndim=3) == 8 * (16 + 27 - 1)
    assert conv.degrees_of_freedom(8, 16, np.array([3, 5, 1])) == 8 * (16 + 15 - 1)


# -- errors ------------------------------------------------------------------------------------------

D, P = layer("dw-pw", 2)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: conv.compose(D, P, "dwpw"), ValueError, "`order='dwpw'` is unknown; expected 'dw-pw'"),
        (
            lambda: conv.compose(D[:, 0, 0, 0], P),
            ValueError,
            "`depthwise` has shape (8,); expected (channels,",
        ),
        (lambda: conv.compose(D[:7], P, rank=2), ValueError, "`depthwise` holds 7 filters; expected C_in*T"),
        (lambda: conv.compose(D, P[:, :7]), ValueError, "`pointwise` has shape (6, 7); expected (6, 8)"),
        (lambda: conv.compose(D, P, rank=0), ValueError, "`rank=0` is too small; expected at least 1"),
        (lambda: conv.compose(D, P, rank=1.5), TypeError, "`rank=1.5` is not a whole number"),
        (lambda: conv.compose(D, P, rank=(2, 5)), ValueError, "`rank` sums to 7, but `depthwise` holds 8"),
        (lambda: conv.compose(D, P, rank=(0, 0)), ValueError, "`rank` is 0 in every channel"),
        (lambda: conv.compose(D, P, groups=5), ValueError, "`groups=5` does not divide 8 input and 6 output"),
        (
            lambda: conv.compose(D, P[:, :4], groups=2, rank=(1, 3, 2, 2)),
            ValueError,
            "`rank` differs between channels, which needs groups=1",
        ),
        (lambda: conv.compose(D.reshape(4, 2, 3, 2), P), ValueError, "expected 1 on axis 1: (C_in*T, 1, *k)"),
        (
            lambda: conv.compose(*layer("pw-dw", 2), "pw-dw", rank=3),
            ValueError,
            "`rank=3`, but `depthwise` of shape (6, 2, 3, 2) is (C_out, T, *k) with T = 2; leave rank out",
        ),
        (lambda: conv.compose(D, P[:, :, None] + [0, 1]), ValueError, "`pointwise` has shape (6, 8, 2);"),
        (lambda: conv.compose(D * np.nan, P), ValueError, "`depthwise` holds NaN or infinity"),
        (
            lambda: conv.compose(D, P * 1j),
            TypeError,
            "`pointwise` has dtype complex128; expected real numbers",
        ),
        (lambda: conv.compose(D, P.astype("g")), TypeError, "expected real numbers no wider than float64"),
        (lambda: conv.slice_spectrum(np.ones((2, 3))), ValueError, "`weights` has shape (2, 3); expected"),
        (
            lambda: conv.slice_spectrum(np.ones((2, 0, 3))),
            ValueError,
            "`weights` has shape (2, 0, 3); expected",
        ),
        (
            lambda: conv.degrees_of_freedom(4, 6, 3, groups=3),
            ValueError,
            "`groups=3` does not divide 4 input",
        ),
        (lambda: conv.degrees_of_freedom(4, 6, 3, rank=0), ValueError, "`rank=0` is too small"),
    ],
)
def test_errors_name_argument_value_and_fix(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()


def test_what_conv_exports():
    assert sorted(conv.__all__) == conv.__all__ == dir(conv)
    for name in conv.__all__:
        value = getattr(conv, name)
        assert value.__doc__, name
    with pytest.raises(AttributeError, match="has no attribute 'decompse'"):
        conv.decompse  # noqa: B018


def test_the_algebra_loads_neither_the_compiled_core_nor_anything_but_numpy():
    code = (
        "import sys, separable.conv as c; c.compose, c.cost; "
        "print([m for m in ('separable._core', 'torch', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
