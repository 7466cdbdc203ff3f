"""What is said of separable convolution everywhere, claim by claim, with its numbers.

Outputs are compared with a dense convolution computed slowly and obviously; impossibility is shown by the
bound of `conv.witness`, which holds for every separable layer of the rank.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from reference import convolve_dense, dense_conv

import separable as sp
from separable import conv
from separable.conv import cost

RNG = np.random.default_rng(2024)


# -- spatially separable -----------------------------------------------------------------------------


def test_an_outer_product_costs_k_plus_k_instead_of_k_times_k():
    a, b = RNG.standard_normal((2, 7))
    kernel = sp.factor(np.multiply.outer(a, b))
    assert kernel.rank == 1
    assert kernel.macs == cost.spatially_separable(1, 1, 7).macs == 14
    assert kernel.size == cost.standard(1, 1, 7).macs == 49
    x = RNG.standard_normal((20, 30))
    rows_then_columns = convolve_dense(convolve_dense(x, a[:, None]), b[None, :])
    np.testing.assert_allclose(rows_then_columns, convolve_dense(x, np.multiply.outer(a, b)), atol=1e-12)
    np.testing.assert_allclose(sp.convolve(x, kernel), rows_then_columns, atol=1e-12)


@pytest.mark.parametrize("k", [3, 5, 10])
def test_in_three_dimensions_the_saving_is_k_squared_over_three(k):
    dense, separable = cost.standard(1, 1, k, ndim=3), cost.spatially_separable(1, 1, k, ndim=3)
    assert Fraction(dense.macs, separable.macs) == Fraction(k * k, 3)
    if k == 10:
        assert round(dense.macs / separable.macs, 1) == 33.3
        assert sp.factor(np.ones((10, 10, 10))).macs == separable.macs == 30


def test_not_every_kernel_is_separable_and_the_low_rank_sum_is_offered():
    rows, columns = np.mgrid[-3:4, -3:4]
    disk = (rows**2 + columns**2 <= 9).astype(float)
    assert not sp.is_separable(disk)
    with pytest.raises(sp.NotSeparableError, match="not rank 1: relative l1 error 0") as caught:
        sp.factor(disk, rank=1, tol=1e-6)
    assert 0.1 < caught.value.relative_l1 < 1  # the distance
    full = sp.factor(disk)  # and the sum
    assert 1 < full.rank < 7
    np.testing.assert_allclose(full.dense(), disk, atol=1e-6)
    distances = [sp.factor(disk, rank=r).error.relative_l2 for r in range(1, full.rank + 1)]
    assert distances == sorted(distances, reverse=True)
    values = np.linalg.svd(disk, compute_uv=False)
    assert distances[0] == pytest.approx(np.linalg.norm(values[1:]) / np.linalg.norm(values))


# -- what a layer costs ------------------------------------------------------------------------------


def test_standard_convolution_costs_k_squared_times_both_channels():
    assert cost.standard(64, 128, 3).macs == 73_728  # per pixel
    found = cost.standard(64, 128, 3, (56, 48))
    assert found.params == 9 * 64 * 128
    assert found.flops == 2 * 56 * 48 * 9 * 64 * 128


def test_depthwise_separable_convolution_costs_their_sum():
    found = cost.depthwise_separable(64, 128, 3, (56, 48))
    assert found.params == 9 * 64 + 64 * 128
    assert found.flops == 2 * 56 * 48 * (9 * 64 + 64 * 128)


def test_the_ratio_is_one_over_c_out_plus_one_over_k_squared_whatever_the_image_and_the_input_channels():
    for c_in, sizes in ((1, (7, 7)), (3, (224, 160)), (512, (14, 15))):
        separable, dense = (form(c_in, 384, 3, sizes) for form in (cost.depthwise_separable, cost.standard))
        assert Fraction(separable.macs, dense.macs) == Fraction(1, 384) + Fraction(1, 9)
        assert Fraction(separable.params, dense.params) == Fraction(1, 384) + Fraction(1, 9)
    assert cost.ratio(384, 3) == float(Fraction(1, 384) + Fraction(1, 9))


def test_192_to_384_channels_save_88_6_percent():
    assert round(cost.ratio(384, 3), 4) == 0.1137
    assert round(cost.savings(384, 3), 3) == 0.886
    separable, dense = cost.depthwise_separable(192, 384, 3), cost.standard(192, 384, 3)
    assert round(1 - separable.macs / dense.macs, 3) == 0.886


def test_more_than_ten_times_exactly_when_the_ratio_is_below_a_tenth():
    assert not any(cost.more_than(10, c_out, 3) for c_out in (1, 64, 1024, 10**9))  # never for 3x3
    for k in (4, 5, 7):
        for c_out in range(1, 400):
            assert cost.more_than(10, c_out, k) == (Fraction(1, c_out) + Fraction(1, k * k) < Fraction(1, 10))
    assert (cost.more_than(10, 16, 5), cost.more_than(10, 17, 5)) == (False, True)
    # 1/20 + 1/20 is a tenth exactly, and not below it.
    assert (cost.more_than(10, 20, (4, 5)), cost.more_than(10, 21, (4, 5))) == (False, True)


def test_the_speed_up_is_typically_eight_to_nine_times():
    for c_out in (128, 192, 256, 384, 512, 768, 1024):
        assert cost.speedup(c_out, 3) == pytest.approx(c_out * 9 / (9 + c_out), rel=1e-15)
        assert 8 < cost.speedup(c_out, 3) < 9
    assert cost.speedup(64, 3) == pytest.approx(7.89, abs=0.005)  # fewer channels, less


# -- what a layer is ---------------------------------------------------------------------------------


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_a_depthwise_separable_layer_is_the_dense_layer_of_its_products(ndim):
    kernel, sizes = (3, 2, 3)[:ndim], (9, 8, 7)[:ndim]
    depthwise, pointwise = RNG.standard_normal((5, 1, *kernel)), RNG.standard_normal((7, 5))
    dense = np.empty((7, 5, *kernel))
    for o, i in np.ndindex(7, 5):
        dense[o, i] = pointwise[o, i] * depthwise[i, 0]
    np.testing.assert_allclose(conv.compose(depthwise, pointwise), dense, atol=1e-15)
    x = RNG.standard_normal((2, 5, *sizes))
    options = {"stride": 2, "padding": 1, "dilation": 2}
    filtered = dense_conv(x, depthwise, groups=5, **options)
    mixed = dense_conv(filtered, pointwise.reshape(7, 5, *(1,) * ndim))
    np.testing.assert_allclose(dense_conv(x, dense, **options), mixed, atol=1e-12)


def test_each_input_channels_slice_has_rank_one_at_most():
    dense = conv.compose(RNG.standard_normal((6, 1, 3, 3)), RNG.standard_normal((8, 6)))
    for i in range(6):
        assert np.linalg.matrix_rank(dense[:, i].reshape(8, 9)) == 1
    spectrum = conv.slice_spectrum(dense)
    assert np.all(spectrum[:, 1:] < 1e-14 * spectrum[:, :1])


def test_flat_weights_are_the_khatri_rao_product_of_pointwise_and_depthwise():
    depthwise, pointwise = RNG.standard_normal((6, 1, 3, 3)), RNG.standard_normal((8, 6))
    dense = conv.compose(depthwise, pointwise)
    flat = np.moveaxis(dense, 1, -1).reshape(8 * 9, 6)
    columns = [np.kron(pointwise[:, i], depthwise[i].ravel()) for i in range(6)]
    np.testing.assert_allclose(flat, np.stack(columns, axis=1), atol=1e-14)
    np.testing.assert_allclose(conv.khatri_rao(depthwise, pointwise), flat, atol=1e-14)


def test_one_scale_per_input_channel_is_ambiguous_and_nothing_else():
    depthwise, pointwise = RNG.standard_normal((6, 1, 3, 3)), RNG.standard_normal((8, 6))
    scale = np.array([0.01, -3.0, 1.0, 100.0, -0.5, 7.0])
    scaled, divided = depthwise * scale[:, None, None, None], pointwise / scale
    np.testing.assert_allclose(conv.compose(scaled, divided), conv.compose(depthwise, pointwise), rtol=1e-13)
    for ours, theirs in zip(
        conv.canonical(depthwise, pointwise), conv.canonical(scaled, divided), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-10)
    # Kernels of the same layer differ by such scales alone: they return from the canonical ones.
    filters, mixing = conv.canonical(depthwise, pointwise)
    ratios = (depthwise / filters).reshape(6, 9)
    np.testing.assert_allclose(ratios, ratios[:, :1] * np.ones(9), rtol=1e-10)
    np.testing.assert_allclose(pointwise * ratios[:, 0], mixing, rtol=1e-10)


def test_degrees_of_freedom_are_the_parameters_less_the_input_channels():
    c_in, c_out, k = 3, 4, 2
    kernels = RNG.standard_normal((c_in, 1, k, k)), RNG.standard_normal((c_out, c_in))
    flat = np.concatenate([w.ravel() for w in kernels])

    def dense(parameters):
        depthwise, pointwise = np.split(parameters, [c_in * k * k])
        return conv.compose(depthwise.reshape(kernels[0].shape), pointwise.reshape(c_out, c_in)).ravel()

    jacobian = np.array([(dense(flat + step) - dense(flat - step)) / 2 for step in np.eye(flat.size)])
    expected = cost.depthwise_separable(c_in, c_out, k).params - c_in
    assert np.linalg.matrix_rank(jacobian, tol=1e-9) == expected
    assert conv.degrees_of_freedom(c_in, c_out, k) == expected


# -- what a layer cannot be --------------------------------------------------------------------------

VERTICAL = np.array([[-1.0, 2, -1], [-1, 2, -1], [-1, 2, -1]])  # answers to a vertical line
HORIZONTAL = VERTICAL.T
EDGE_ACROSS = np.array([[1.0, 2, 1], [0, 0, 0], [-1, -2, -1]])  # answers to a horizontal edge


def impossible(dense, order, seeds=5):
    """Return the relative bound, after putting it to the test with fitted and random layers."""
    proof = conv.witness(dense, 1, order)
    expected = dense_conv(proof.input[None], dense)[0]  # the dense layer does it
    np.testing.assert_allclose(proof.output, expected, atol=1e-13)
    best = conv.decompose(dense, 1, order)[:2]
    assert proof.error(*best) == pytest.approx(proof.bound, rel=1e-9)
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        random = [w + rng.standard_normal(w.shape) for w in best]
        assert proof.error(*random) >= proof.bound
    return proof.relative_bound


def test_horizontal_and_vertical_edges_of_one_channel_are_impossible():
    dense = np.stack([EDGE_ACROSS, EDGE_ACROSS.T])[:, None]
    # Two orthogonal filters of equal norm: half of the energy is out of reach.
    assert impossible(dense, "dw-pw") == pytest.approx(math.sqrt(1 / 2))
    step = np.repeat([0.0, 1.0], 4)
    horizontal, vertical = np.meshgrid(step, step, indexing="ij")
    x = np.stack([horizontal, vertical])[:, None]

    def firing(weights):
        """Return the largest answer of each output (columns) to each picture (rows)."""
        return np.abs(dense_conv(x, weights)).max(axis=(2, 3))

    np.testing.assert_array_equal(firing(dense), 4 * np.eye(2))  # dense: each to its own edge
    for seed in range(20):  # separable: both outputs see the same map, so their answers are proportional
        rng = np.random.default_rng(seed)
        separable = conv.compose(rng.standard_normal((1, 1, 3, 3)), rng.standard_normal((2, 1)))
        assert abs(np.linalg.det(firing(separable))) < 1e-12
    assert conv.decompose(dense, 2)[2].relative_l2 < 1e-14  # two filters per channel are enough


def test_two_different_shifts_of_one_channel_are_impossible():
    dense = np.zeros((2, 1, 3, 3))
    dense[0, 0, 0, 1] = dense[1, 0, 2, 1] = 1.0
    x = RNG.standard_normal((1, 1, 6, 6))
    y = dense_conv(x, dense)
    np.testing.assert_array_equal(y[0, 0], x[0, 0, :-2, 1:-1])
    np.testing.assert_array_equal(y[0, 1], x[0, 0, 2:, 1:-1])
    assert impossible(dense, "dw-pw") == pytest.approx(math.sqrt(1 / 2))
    same = dense[[0, 0]]  # one and the same shift is no obstacle
    assert conv.witness(same, 1).bound == 0.0


def crossing(vertical_colour, horizontal_colour):
    """Return weights (3, 3, 3) that answer to a vertical line across a horizontal one of another colour."""
    weights = np.zeros((3, 3, 3))
    weights[vertical_colour] += VERTICAL
    weights[horizontal_colour] += HORIZONTAL
    return weights


def test_a_red_vertical_crossing_a_blue_horizontal_line_is_impossible():
    red, blue = 0, 2
    pictures = np.zeros((3, 3, 7, 7))
    pictures[0, red, :, 3] = pictures[0, blue, 3] = 1  # the crossing
    pictures[1, blue, :, 3] = pictures[1, red, 3] = 1  # colours swapped
    pictures[2, red, :, 3] = 1  # one line alone
    both = np.stack([crossing(red, blue), crossing(blue, red)])
    answers = dense_conv(pictures, both)[:, :, 2, 2]  # at the place of the crossing
    np.testing.assert_array_equal(answers, [[12, 0], [0, 12], [6, 0]])  # dense: each to its own crossing

    # Pointwise first: the one detector mixes its colours once and filters the mixture once.
    assert impossible(both[:1], "pw-dw") == pytest.approx(math.sqrt(1 / 2))
    # Depthwise first it is the pair, which wants two filters of each colour.
    assert impossible(both, "dw-pw") == pytest.approx(math.sqrt(1 / 2))
    # A single output is within reach of depthwise first: it needs one filter per colour.
    assert conv.witness(both[:1], 1, "dw-pw").bound == 0.0


def test_what_one_order_cannot_the_other_can():
    edges = np.stack([EDGE_ACROSS, EDGE_ACROSS.T])[:, None]
    assert conv.witness(edges, 1, "dw-pw").bound > 1
    assert conv.witness(edges, 1, "pw-dw").bound == 0.0
    detector = crossing(0, 2)[None]
    assert conv.witness(detector, 1, "dw-pw").bound == 0.0
    assert conv.witness(detector, 1, "pw-dw").bound > 1


# -- what a layer learns -----------------------------------------------------------------------------


def patterns():
    """Return six patterns (6, 1, 7, 7), one per channel: gratings at three angles, rings of three widths."""
    rows, columns = np.mgrid[-3:4, -3:4]
    gratings = [np.cos(np.pi / 2 * (math.cos(t) * columns + math.sin(t) * rows)) for t in (0.0, 1.0, 2.0)]
    rings = [np.cos(2 * np.pi * np.hypot(rows, columns) / width) for width in (3.5, 5.5, 7.5)]
    each = np.stack([*gratings, *rings])[:, None]
    return each / np.linalg.norm(each, axis=(2, 3), keepdims=True)


def learned(truth, count, seed):
    """Return the relative errors of a dense and of a separable layer learned from noisy examples."""
    rng = np.random.default_rng(seed)
    outputs, size = len(truth), truth[0].size
    x = rng.standard_normal((count, size))
    noise = 0.1 * np.linalg.norm(truth) / math.sqrt(outputs) * rng.standard_normal((count, outputs))
    y = x @ truth.reshape(outputs, -1).T + noise
    dense = np.linalg.lstsq(x, y, rcond=None)[0].T.reshape(truth.shape)
    depthwise, pointwise, _ = conv.decompose(dense, 1, covariance=x.T @ x / count)
    found = (dense, conv.compose(depthwise, pointwise))
    return tuple(np.linalg.norm(w - truth) / np.linalg.norm(truth) for w in found)


@pytest.mark.parametrize("seed", range(3))
def test_where_labels_combine_patterns_of_single_channels_separable_layers_need_fewer_samples(seed):
    mixing = np.random.default_rng(100 + seed).standard_normal((8, 6))
    truth = conv.compose(patterns(), mixing)
    assert truth[0].size == 294  # unknowns of each dense output
    dense, separable = learned(truth, 120, seed)
    assert separable < 0.15 < 0.6 < dense
    # With five times as many the dense layer comes to where the separable one was.
    dense_later, _ = learned(truth, 600, seed)
    assert separable < dense_later * 1.2 < 0.15


def test_where_they_do_not_dense_layers_win_in_the_end():
    truth = np.random.default_rng(0).standard_normal((8, 6, 7, 7))
    dense, separable = learned(truth, 1200, 0)
    assert dense < 0.1
    assert separable > conv.witness(truth, 1).relative_bound > 0.7
