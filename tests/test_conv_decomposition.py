"""Decomposition is optimal, on data it descends, and the witness proves that nothing does better."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import dense_conv

from separable import conv

ORDERS = ("dw-pw", "pw-dw")


def weights_of(c_out=6, c_in=4, kernel=(3, 2), seed=0):
    return np.random.default_rng(seed).standard_normal((c_out, c_in, *kernel))


def patches(channels, taps, count, seed=0):
    """Samples (count, channels*taps), correlated as rectified, smooth, mixed channels are."""
    rng = np.random.default_rng(seed)
    raw = rng.standard_normal((count, channels, taps + 4))
    smooth = sum(raw[:, :, shift : shift + taps] for shift in range(5))
    mixed = np.maximum(np.einsum("ij,njk->nik", rng.standard_normal((channels, channels)), smooth), 0)
    return mixed.reshape(count, -1) + 0.1 * rng.standard_normal((count, channels * taps))


def covariance_of(samples):
    centred = samples - samples.mean(axis=0)
    return centred.T @ centred / len(samples)


def output_error(dense, depthwise, pointwise, order, rank, covariance, groups=1):
    """Standard deviation of the output's error over that of the output, from its definition."""
    got = conv.compose(depthwise, pointwise, order, rank=rank, groups=groups)
    size = dense[0].size
    variances = [0.0, 0.0]
    for o in range(len(dense)):
        g = o // (len(dense) // groups)
        block = covariance[g * size : (g + 1) * size, g * size : (g + 1) * size]
        for n, row in enumerate(((dense - got)[o].ravel(), dense[o].ravel())):
            variances[n] += row @ block @ row
    return np.sqrt(variances[0] / variances[1])


# -- without data ------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("kernel", [(5,), (3, 2), (2, 1, 3)])
def test_shapes_dtype_and_the_error_that_eckart_and_young_allow(order, groups, kernel):
    dense = weights_of(6, 4 // groups, kernel)
    spectrum = conv.slice_spectrum(dense, order, groups)
    for rank in (1, 2):
        depthwise, pointwise, error = conv.decompose(dense, rank, order, groups=groups)
        if order == "dw-pw":
            assert depthwise.shape == (4 * rank, 1, *kernel)
            assert pointwise.shape == (6, 4 * rank // groups)
        else:
            assert depthwise.shape == (6, rank, *kernel)
            assert pointwise.shape == (6 * rank, 4 // groups)
        left = np.linalg.norm(spectrum[:, rank:], axis=1)
        assert error.relative_l2 == pytest.approx(np.linalg.norm(left) / np.linalg.norm(dense), rel=1e-12)
        assert error.channels == pytest.approx(left / np.linalg.norm(spectrum, axis=1), rel=1e-12)
        assert float(error) == error.relative_l2
        assert error.relative_output is None
        got = conv.compose(depthwise, pointwise, order, rank=rank, groups=groups)
        distance = np.linalg.norm(got - dense) / np.linalg.norm(dense)
        assert error.relative_l2 == pytest.approx(distance, rel=1e-12)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("groups", [1, 2])
def test_full_rank_is_exact_and_more_is_zeros(order, groups):
    dense = weights_of(6, 4 // groups)
    full = min(6, (6 if order == "dw-pw" else 4) // groups)
    exact = conv.decompose(dense, full, order, groups=groups)
    assert exact[2].relative_l2 < 1e-14
    depthwise, pointwise, error = conv.decompose(dense, full + 2, order, groups=groups)
    got = conv.compose(depthwise, pointwise, order, rank=full + 2, groups=groups)
    np.testing.assert_allclose(got, dense, atol=1e-14)
    assert error.relative_l2 < 1e-14
    assert np.count_nonzero(depthwise) == np.count_nonzero(exact[0])


@pytest.mark.parametrize("order", ORDERS)
def test_a_separable_layer_comes_back_in_its_canonical_form(order):
    dense = weights_of()
    ours = conv.decompose(dense, 2, order)[:2]
    again = conv.decompose(conv.compose(*ours, order, rank=2), 2, order)
    assert again[2].relative_l2 < 1e-14
    for mine, theirs in zip(ours, again[:2], strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-13)
    for mine, theirs in zip(ours, conv.canonical(*ours, order, rank=2), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-13)


@pytest.mark.parametrize(("dtype", "expected"), [("f4", "f4"), ("f8", "f8"), ("f2", "f2"), ("i2", "f8")])
def test_results_come_back_in_the_dtype_of_the_weights(dtype, expected):
    dense = np.round(8 * weights_of()).astype(dtype)
    depthwise, pointwise, error = conv.decompose(dense, 6)
    assert depthwise.dtype == pointwise.dtype == np.dtype(expected)
    assert error.relative_l2 < 8 * np.finfo(expected).eps  # the rounding of what is returned counts


@pytest.mark.parametrize("scale", [1e-300, 1e300])
def test_scale_does_not_matter(scale):
    depthwise, pointwise, error = conv.decompose(scale * weights_of(), 1)
    assert error.relative_l2 == pytest.approx(conv.decompose(weights_of(), 1)[2].relative_l2)
    assert np.linalg.norm(depthwise) == pytest.approx(np.linalg.norm(pointwise))
    covariance = covariance_of(patches(4, 6, 100))
    for order in ORDERS:
        aware = conv.decompose(weights_of(), 1, order, covariance)[2]
        scaled = conv.decompose(scale * weights_of(), 1, order, covariance / scale)[2]
        assert float(scaled) == pytest.approx(float(aware), rel=1e-6)


def test_zero_weights_have_no_error():
    depthwise, pointwise, error = conv.decompose(np.zeros((3, 2, 3, 3)), 1)
    assert not depthwise.any()
    assert not pointwise.any()
    assert error.relative_l2 == 0.0
    assert error.channels == (0.0, 0.0)


def test_the_input_is_not_touched():
    dense, covariance = weights_of(), covariance_of(patches(4, 6, 50))
    copies = dense.copy(), covariance.copy()
    dense.flags.writeable = covariance.flags.writeable = False
    for order in ORDERS:
        conv.decompose(dense, 1, order, covariance)
    np.testing.assert_array_equal(dense, copies[0])
    np.testing.assert_array_equal(covariance, copies[1])


# -- a rank for each channel -------------------------------------------------------------------------


@pytest.mark.parametrize("order", ORDERS)
def test_uneven_ranks_run_as_two_convolutions(order):
    dense = weights_of(5, 5)
    ranks = (2, 0, 1, 3, 1)
    depthwise, pointwise, error = conv.decompose(dense, ranks, order)
    assert depthwise.shape == (7, 1, 3, 2)
    owner = np.repeat(np.arange(5), ranks)
    x = np.random.default_rng(1).standard_normal((2, 5, 6, 7))
    dot = pointwise[:, :, None, None]
    if order == "dw-pw":
        y = dense_conv(dense_conv(x[:, owner], depthwise, groups=7), dot)
    else:
        hidden = dense_conv(dense_conv(x, dot), depthwise, groups=7)
        y = np.zeros((2, 5, *hidden.shape[2:]))
        np.add.at(y, (slice(None), owner), hidden)
    composed = conv.compose(depthwise, pointwise, order, rank=ranks)
    np.testing.assert_allclose(y, dense_conv(x, composed), atol=1e-12)
    spectrum = conv.slice_spectrum(dense, order)
    left = [np.linalg.norm(values[rank:]) for values, rank in zip(spectrum, ranks, strict=True)]
    assert error.relative_l2 == pytest.approx(np.linalg.norm(left) / np.linalg.norm(dense))
    assert error.channels[1] == 1.0


@given(seed=st.integers(0, 10**6), total=st.integers(1, 20), order=st.sampled_from(ORDERS))
def test_allocated_ranks_beat_every_other_way_to_spend_as_much(seed, total, order):
    rng = np.random.default_rng(seed)
    dense = weights_of(4, 4, (3,), seed) * rng.uniform(0.1, 3, (4, 4, 1))
    ranks = conv.allocate_ranks(dense, total, order)
    assert sum(ranks) == min(total, 12)
    best = conv.decompose(dense, ranks, order)[2].relative_l2
    for _ in range(5):
        other = rng.permutation(np.repeat(np.arange(4), 3))[: sum(ranks)]
        other_ranks = np.bincount(other, minlength=4)
        assert best <= conv.decompose(dense, other_ranks, order)[2].relative_l2 + 1e-12


def test_allocation_spends_where_the_weights_are_richer():
    dense = np.zeros((8, 3, 3, 3))
    dense[:, 0] = np.multiply.outer(np.arange(1, 9), np.ones((3, 3)))  # rank 1, large
    dense[:, 1] = 0.1 * weights_of(8, 1, (3, 3))[:, 0]
    assert conv.allocate_ranks(dense, 1) == (1, 0, 0)
    assert conv.allocate_ranks(dense, 5) == (1, 4, 0)
    assert conv.allocate_ranks(dense, 1000) == (8, 8, 8)
    uniform = conv.decompose(dense, 2)[2]
    allocated = conv.decompose(dense, conv.allocate_ranks(dense, 6))[2]
    assert allocated.relative_l2 < uniform.relative_l2


# -- with data ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("rank", [1, 2])
def test_data_lower_the_error_of_the_output(order, groups, rank):
    dense = weights_of(6, 8 // groups)
    covariance = covariance_of(patches(8, 6, 2000))
    free = conv.decompose(dense, rank, order, groups=groups)
    aware = conv.decompose(dense, rank, order, covariance, groups=groups)
    assert aware[0].shape == free[0].shape
    assert aware[1].shape == free[1].shape
    before, after = (output_error(dense, d, p, order, rank, covariance, groups) for d, p, _ in (free, aware))
    assert after < 0.8 * before
    assert float(aware[2]) == aware[2].relative_output == pytest.approx(after, rel=1e-9)
    assert aware[2].relative_l2 >= free[2].relative_l2


@pytest.mark.parametrize("order", ORDERS)
def test_the_output_error_is_what_the_data_show(order):
    samples = patches(4, 6, 500)
    dense = weights_of()
    depthwise, pointwise, error = conv.decompose(dense, 1, order, covariance_of(samples))
    centred = samples - samples.mean(axis=0)
    wanted = centred @ dense.reshape(6, -1).T
    got = centred @ conv.compose(depthwise, pointwise, order).reshape(6, -1).T
    assert float(error) == pytest.approx(np.linalg.norm(got - wanted) / np.linalg.norm(wanted), rel=1e-9)


def stationary(dense, depthwise, pointwise, order, covariance):
    """Return the gradients of the squared output error with respect to both kernels, each relative."""
    size = dense[0].size
    left = (conv.compose(depthwise, pointwise, order) - dense).reshape(len(dense), size)
    pull = (left @ covariance).reshape(dense.shape)
    scale = np.linalg.norm(dense.reshape(len(dense), size) @ covariance)
    if order == "dw-pw":
        by_filter = np.einsum("oi...,oi->i...", pull, pointwise) / np.linalg.norm(pointwise)
        by_mixing = np.einsum("oikl,ikl->oi", pull, depthwise[:, 0]) / np.linalg.norm(depthwise)
    else:
        by_filter = np.einsum("oi...,oi->o...", pull, pointwise) / np.linalg.norm(pointwise)
        by_mixing = np.einsum("oikl,okl->oi", pull, depthwise[:, 0]) / np.linalg.norm(depthwise)
    return np.linalg.norm(by_filter) / scale, np.linalg.norm(by_mixing) / scale


@pytest.mark.parametrize("order", ORDERS)
def test_descent_ends_where_no_kernel_can_be_improved_alone(order):
    dense, covariance = weights_of(), covariance_of(patches(4, 6, 2000))
    free = conv.decompose(dense, 1, order)
    aware = conv.decompose(dense, 1, order, covariance)
    assert max(stationary(dense, *aware[:2], order, covariance)) < 2e-3
    assert max(stationary(dense, *free[:2], order, covariance)) > 2e-2


@pytest.mark.parametrize("order", ORDERS)
def test_descent_is_no_worse_than_random_restarts_of_its_own_steps(order):
    # Alternating least squares by hand for rank 1, from many starts: the best of them is not better.
    dense, covariance = weights_of(3, 3, (3,)), covariance_of(patches(3, 3, 400))
    found = float(conv.decompose(dense, 1, order, covariance)[2])
    best = min(alternated(dense, order, covariance, seed) for seed in range(12))
    assert found <= best * 1.02


def alternated(dense, order, covariance, seed):
    depthwise = np.random.default_rng(seed).standard_normal((3, 1, 3))
    root = np.linalg.cholesky(covariance)
    target = (dense.reshape(3, -1) @ root).ravel()

    def design(of_kernels):
        """Return the matrix of a map that is linear in one kernel of 9 numbers."""
        return np.array([(of_kernels(unit).reshape(3, -1) @ root).ravel() for unit in np.eye(9)]).T

    for _ in range(60):
        matrix = design(lambda u, d=depthwise: conv.compose(d, u.reshape(3, 3), order))
        pointwise = np.linalg.lstsq(matrix, target, rcond=None)[0].reshape(3, 3)
        matrix = design(lambda u, p=pointwise: conv.compose(u.reshape(3, 1, 3), p, order))
        solution = np.linalg.lstsq(matrix, target, rcond=None)[0]
        depthwise = solution.reshape(3, 1, 3)
    return np.linalg.norm(matrix @ solution - target) / np.linalg.norm(target)


def test_white_data_change_nothing():
    dense = weights_of()
    for order in ORDERS:
        free, white = conv.decompose(dense, 2, order), conv.decompose(dense, 2, order, np.eye(24) * 7)
        assert float(white[2]) == pytest.approx(float(free[2]), rel=1e-12)
        for mine, theirs in zip(free[:2], white[:2], strict=True):
            np.testing.assert_allclose(mine, theirs, atol=1e-7)


def test_a_kronecker_covariance_has_a_closed_form_when_the_pointwise_comes_first():
    dense = weights_of(5, 4, (2, 3))
    channel, tap = covariance_of(patches(4, 1, 300)), covariance_of(patches(1, 6, 300, seed=1))
    roots = [np.linalg.cholesky(c) for c in (channel, tap)]
    white = roots[0].T @ dense.reshape(5, 4, 6) @ roots[1]
    values = np.linalg.svd(white, compute_uv=False)
    for rank in (1, 2, 3):
        error = conv.decompose(dense, rank, "pw-dw", np.kron(channel, tap))[2]
        best = np.linalg.norm(values[:, rank:]) / np.linalg.norm(values)
        assert best * (1 - 1e-9) <= float(error) <= best * (1 + 1e-3)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("groups", [1, 2])
def test_blocks_of_single_channels_are_a_covariance_without_the_rest(order, groups):
    dense = weights_of(6, 4 // groups)
    full = covariance_of(patches(4, 6, 500))
    blocks = np.stack([full[i : i + 6, i : i + 6] for i in range(0, 24, 6)])
    diagonal = np.zeros((24, 24))
    for i in range(4):
        diagonal[6 * i : 6 * i + 6, 6 * i : 6 * i + 6] = blocks[i]
    short = conv.decompose(dense, 1, order, blocks, groups=groups)
    long = conv.decompose(dense, 1, order, diagonal, groups=groups)
    assert float(short[2]) == pytest.approx(float(long[2]), rel=1e-6)
    for mine, theirs in zip(short[:2], long[:2], strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-3)


def test_blocks_give_the_optimum_that_whitening_proves():
    dense = weights_of()
    full = covariance_of(patches(4, 6, 500))
    blocks = np.stack([full[i : i + 6, i : i + 6] for i in range(0, 24, 6)])
    error = conv.decompose(dense, 2, covariance=blocks)[2]
    tails, norms = [], []
    for i in range(4):
        values = np.linalg.svd(dense[:, i].reshape(6, 6) @ np.linalg.cholesky(blocks[i]), compute_uv=False)
        tails.append(np.linalg.norm(values[2:]))
        norms.append(np.linalg.norm(values))
    assert float(error) == pytest.approx(np.linalg.norm(tails) / np.linalg.norm(norms), rel=1e-5)


@pytest.mark.parametrize("order", ORDERS)
def test_few_samples_give_a_covariance_without_full_rank(order):
    dense = weights_of()
    covariance = covariance_of(patches(4, 6, 9))
    assert np.linalg.matrix_rank(covariance) < 9
    depthwise, pointwise, error = conv.decompose(dense, 2, order, covariance)
    assert np.isfinite(depthwise).all()
    assert np.isfinite(pointwise).all()
    assert float(error) < 0.05
    # What the data never show stays near the weights: far off the noise that a pseudo-inverse would make.
    assert error.relative_l2 < 3


@pytest.mark.parametrize("order", ORDERS)
def test_channels_without_variance_are_left_to_the_weights(order):
    dense = weights_of()
    samples = patches(4, 6, 300)
    samples[:, 6:12] = 3.0
    depthwise, pointwise, error = conv.decompose(dense, 1, order, covariance_of(samples))
    assert np.isfinite(depthwise).all()
    assert np.isfinite(pointwise).all()
    if order == "dw-pw":
        assert error.channels[1] == pytest.approx(conv.decompose(dense, 1)[2].channels[1], rel=0.2)


@pytest.mark.parametrize("order", ORDERS)
def test_full_rank_is_exact_on_data_too(order):
    covariance = covariance_of(patches(4, 6, 300))
    assert float(conv.decompose(weights_of(), 6, order, covariance)[2]) < 1e-13
    # Where some channels are exact the others still end no worse than alone.
    ranks = (6, 6, 6, 1) if order == "dw-pw" else (4, 4, 4, 4, 4, 1)
    error = conv.decompose(weights_of(), ranks, order, covariance)[2]
    free = conv.decompose(weights_of(), ranks, order)
    assert float(error) < output_error(weights_of(), *free[:2], order, ranks, covariance)


@pytest.mark.parametrize("order", ORDERS)
def test_uneven_ranks_on_data(order):
    dense, covariance = weights_of(4, 4), covariance_of(patches(4, 6, 500))
    ranks = (2, 0, 1, 3)
    aware, free = conv.decompose(dense, ranks, order, covariance), conv.decompose(dense, ranks, order)
    assert aware[0].shape == (6, 1, 3, 2)
    assert float(aware[2]) < output_error(dense, *free[:2], order, ranks, covariance)


# -- the witness -------------------------------------------------------------------------------------


def run(x, depthwise, pointwise, order, groups=1):
    """Both convolutions on one input without a batch axis, by the reference."""
    dot = pointwise.reshape(*pointwise.shape, *(1,) * (x.ndim - 1))
    if order == "dw-pw":
        return dense_conv(dense_conv(x[None], depthwise, groups=len(x)), dot, groups=groups)[0]
    return dense_conv(dense_conv(x[None], dot, groups=groups), depthwise, groups=len(depthwise))[0]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("kernel", [(5,), (3, 2), (2, 1, 3)])
@pytest.mark.parametrize("rank", [1, 2])
def test_no_layer_answers_the_witness_better_than_its_bound(order, groups, kernel, rank):
    dense = weights_of(6, 8 // groups, kernel)
    proof = conv.witness(dense, rank, order, groups=groups)
    expected = dense_conv(proof.input[None], dense, groups=groups)[0]
    np.testing.assert_allclose(proof.output, expected, atol=1e-14)
    rng = np.random.default_rng(1)
    best = conv.decompose(dense, rank, order, groups=groups)[:2]
    sizes = (0.0, 1e-3, 0.1, 1.0)  # the best, near it, and anywhere
    layers = [tuple(w + size * rng.standard_normal(w.shape) for w in best) for size in sizes]
    errors = []
    for depthwise, pointwise in layers:
        answer = run(proof.input, depthwise, pointwise, order, groups)
        errors.append(np.linalg.norm(answer - expected))
        assert proof.error(depthwise, pointwise) == pytest.approx(errors[-1], rel=1e-12)
    assert min(errors) >= proof.bound > 0
    assert errors[0] == pytest.approx(proof.bound, rel=1e-9)  # and the bound is attained
    assert np.linalg.norm(proof.slice_bounds) == pytest.approx(proof.bound)
    assert proof.relative_bound == pytest.approx(proof.bound / np.linalg.norm(dense))


@pytest.mark.parametrize("order", ORDERS)
def test_a_layer_fitted_to_the_witness_itself_does_not_pass_the_bound(order):
    dense = weights_of(3, 3, (3,))
    proof = conv.witness(dense, 1, order)
    samples = np.lib.stride_tricks.sliding_window_view(proof.input, 3, axis=1)
    flat = samples.swapaxes(0, 1).reshape(-1, 9)
    for seed in range(5):  # alternating least squares on the very input, from random starts
        found = alternated(dense, order, flat.T @ flat, seed) * np.linalg.norm(proof.output)
        assert found >= proof.bound
        assert found == pytest.approx(proof.bound, rel=0.5)


@pytest.mark.parametrize("order", ORDERS)
def test_a_separable_layer_has_no_witness(order):
    depthwise, pointwise, _ = conv.decompose(weights_of(), 2, order)
    dense = conv.compose(depthwise, pointwise, order, rank=2)
    assert conv.witness(dense, 1, order).bound > 0
    proof = conv.witness(dense, 2, order)
    assert proof.bound == 0.0
    assert proof.error(depthwise, pointwise) < 1e-13
    assert str(proof) == f"A {order} layer of rank 2 can answer exactly as the dense layer does."


def test_a_higher_rank_may_pass_the_bound():
    dense = weights_of()
    for order in ORDERS:
        proof = conv.witness(dense, 1, order)
        assert proof.error(*conv.decompose(dense, 6, order)[:2]) < 1e-13 < proof.bound


def test_a_witness_is_frozen_and_says_what_it_proves():
    dense = np.zeros((2, 2, 1, 3))
    dense[0, 1, 0, 0] = dense[1, 1, 0, 2] = 3.0
    proof = conv.witness(dense, 1)
    assert proof.input.shape == (2, 2, 5)
    assert not proof.input.flags.writeable
    assert not proof.output.flags.writeable
    with pytest.raises(AttributeError):
        proof.bound = 0.0
    assert str(proof) == (
        "On this input every dw-pw layer of rank 1 is off by at least 3 (70.7% of the answer), most of all "
        "because of input channel 1 (3)."
    )


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_the_bound_scales_with_the_weights(scale):
    dense = weights_of()
    proof, scaled = conv.witness(dense, 1), conv.witness(dense * scale, 1)
    assert scaled.bound / scale == pytest.approx(proof.bound)
    assert scaled.relative_bound == pytest.approx(proof.relative_bound)


# -- errors ------------------------------------------------------------------------------------------

W = weights_of()
EYE = np.eye(24)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: conv.decompose(W, 0), ValueError, "`rank=0` is too small; expected at least 1"),
        (lambda: conv.decompose(W, (1, 2)), ValueError, "`rank` has 2 entries for 4 channels"),
        (lambda: conv.decompose(W, (0, 0, 0, 0)), ValueError, "`rank` is 0 in every channel"),
        (lambda: conv.decompose(W, (1, 2, -1, 0)), ValueError, "`rank[2]=-1` is too small"),
        (lambda: conv.decompose(W, 1, "depthwise"), ValueError, "`order='depthwise'` is unknown"),
        (
            lambda: conv.decompose(W, 1, groups=4),
            ValueError,
            "`groups=4` does not divide 16 input and 6 output",
        ),
        (
            lambda: conv.decompose(W, (1, 2, 1, 1, 1, 1, 1, 1), groups=2),
            ValueError,
            "`rank` differs between channels, which needs groups=1",
        ),
        (
            lambda: conv.decompose(W, (1, 2, 1, 1, 1, 1), "pw-dw", groups=2),
            ValueError,
            "`rank` differs between channels, which needs groups=1",
        ),
        (lambda: conv.decompose(W[0, 0], 1), ValueError, "`weights` has shape (3, 2)"),
        (lambda: conv.decompose(W + np.inf, 1), ValueError, "`weights` holds NaN or infinity"),
        (
            lambda: conv.decompose(W, 1, covariance=np.eye(6)),
            ValueError,
            "`covariance` has shape (6, 6); expected (24, 24), the 4 input channels' 6 taps each",
        ),
        (lambda: conv.decompose(W, 1, covariance=EYE + np.eye(24, k=1)), ValueError, "is not symmetric"),
        (lambda: conv.decompose(W, 1, covariance=-EYE), ValueError, "`covariance` has a negative variance"),
        (
            lambda: conv.decompose(W, 1, covariance=0 * EYE),
            ValueError,
            "`covariance` has a negative variance",
        ),
        (
            lambda: conv.decompose(W, 1, covariance=2 - EYE),
            ValueError,
            "negative eigenvalue",
        ),
        (lambda: conv.decompose(W, 1, covariance=EYE, ridge=0), ValueError, "`ridge=0` is not a fraction"),
        (lambda: conv.allocate_ranks(W, 0), ValueError, "`total=0` is too small"),
        (lambda: conv.witness(W, 0), ValueError, "`rank=0` is too small"),
        (
            lambda: conv.witness(W, 1).error(np.ones((4, 1, 3, 3)), np.ones((6, 4))),
            ValueError,
            "the kernels make a layer of weights (6, 4, 3, 3) (C_out, C_in, *k); expected (6, 4, 3, 2)",
        ),
        (
            lambda: conv.witness(W, 1, "pw-dw").error(np.ones((6, 1, 3, 2)), np.ones((6, 5))),
            ValueError,
            "the kernels make a layer of weights (6, 5, 3, 2) (C_out, C_in, *k); expected (6, 4, 3, 2)",
        ),
    ],
)
def test_errors_name_argument_value_and_fix(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()
