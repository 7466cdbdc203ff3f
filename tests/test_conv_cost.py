"""Costs are counted, exactly: against counting by hand, and one form against another."""

from __future__ import annotations

import itertools
import math
import re
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from separable import conv
from separable.conv import cost
from separable.conv.cost import Cost

few = st.integers(1, 3)


def counted(sizes, kernel, stride, padding, dilation):
    """Return how many taps meet how many places, by visiting all of them."""
    places = [
        sum(1 for p in range(0, n + 2 * pad, s) if p + (k - 1) * d < n + 2 * pad)
        for n, k, s, pad, d in zip(sizes, kernel, stride, padding, dilation, strict=True)
    ]
    return math.prod(places), math.prod(kernel)


@given(
    ndim=few,
    k=st.integers(1, 4),
    n=st.integers(7, 12),
    s=few,
    pad=st.integers(0, 3),
    d=st.integers(1, 2),
    groups=few,
)
def test_standard_counts_every_product_of_a_call(ndim, k, n, s, pad, d, groups):
    c_in, c_out, batch = 2 * groups, 3 * groups, 2
    axes = [(v,) * ndim for v in (n, k, s, pad, d)]
    places, taps = counted(*axes)
    found = cost.standard(
        c_in, c_out, axes[1], n, stride=s, padding=pad, dilation=d, groups=groups, bias=True, batch=batch
    )
    weights = taps * c_out * c_in // groups
    assert found.params == weights + c_out
    assert found.macs == weights * places * batch
    assert found.flops == 2 * found.macs
    numbers = found.params + batch * (c_in * n**ndim + c_out * places)
    assert found.bytes == 4 * numbers
    assert found.intensity == found.flops / found.bytes


@pytest.mark.parametrize("order", ["dw-pw", "pw-dw"])
@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("multiplier", [1, 3])
@pytest.mark.parametrize("groups", [1, 2])
def test_a_separable_layer_costs_what_its_kernels_hold(order, ndim, multiplier, groups):
    dense = np.random.default_rng(0).standard_normal((6, 4 // groups, *(3,) * ndim))
    depthwise, pointwise, _ = conv.decompose(dense, multiplier, order, groups=groups)
    options = {"multiplier": multiplier, "order": order, "groups": groups}
    found = cost.depthwise_separable(4, 6, 3, (8,) * ndim, **options)
    assert found.params == depthwise.size + pointwise.size
    assert found.macs == found.params * 8**ndim
    between = multiplier * (4 if order == "dw-pw" else 6) * 8**ndim
    assert found.bytes == 4 * (found.params + (4 + 6) * 8**ndim + 2 * between)
    fused = cost.depthwise_separable(4, 6, 3, (8,) * ndim, fused=True, **options)
    assert (fused.params, fused.macs, fused.bytes) == (found.params, found.macs, found.bytes - 8 * between)
    per_sample = cost.depthwise_separable(4, 6, 3, ndim=ndim, **options)
    assert per_sample == Cost(found.params, found.params)


def test_a_separable_layer_is_its_two_convolutions_in_sequence():
    options = {"stride": 2, "bias": True, "batch": 3, "itemsize": 2}
    whole = cost.depthwise_separable(32, 64, 3, (15, 20), multiplier=2, **options)
    first = cost.depthwise(32, 3, (15, 20), multiplier=2, **options)
    assert whole == first + cost.pointwise(64, 64, (8, 10), **{**options, "stride": 1})
    assert first == cost.standard(32, 64, 3, (15, 20), groups=32, **options)
    other = cost.depthwise_separable(32, 64, 3, (15, 20), multiplier=2, order="pw-dw", **options)
    first = cost.pointwise(32, 128, (15, 20), **{**options, "stride": 1})
    assert other == first + cost.standard(128, 64, 3, (15, 20), groups=64, **options)


def test_stride_makes_the_pointwise_first_order_dearer():
    # Stride 2: four times the pointwise work, and the depthwise work of either order.
    for order, expected in (("dw-pw", 9 * 64 + 64 * 128), ("pw-dw", 4 * 64 * 128 + 9 * 128)):
        assert cost.depthwise_separable(64, 128, 3, order=order, stride=2).macs == expected
        sizes = cost.depthwise_separable(64, 128, 3, (56, 56), order=order, stride=2)
        assert sizes.macs == 28 * 28 * expected


def test_pointwise_is_a_convolution_of_one_tap():
    assert cost.pointwise(8, 16, (5, 7), stride=(2, 3), groups=4) == cost.standard(
        8, 16, (1, 1), (5, 7), stride=(2, 3), groups=4
    )
    assert cost.pointwise(8, 16, (5, 7), stride=(2, 3)).macs == 8 * 16 * 3 * 3


def test_spatially_separable_goes_along_one_axis_after_the_other():
    found = cost.spatially_separable(
        3,
        8,
        (3, 5),
        (20, 30),
        hidden=4,
        stride=(2, 3),
        padding=((0, 1), 2),
        dilation=(2, 1),
        bias=True,
        batch=2,
    )
    rows = cost.standard(
        3, 4, (3, 1), (20, 30), stride=(2, 1), padding=((0, 1), 0), dilation=(2, 1), bias=True, batch=2
    )
    columns = cost.standard(4, 8, (1, 5), (9, 30), stride=(1, 3), padding=(0, 2), bias=True, batch=2)
    assert found == rows + columns
    assert cost.spatially_separable(3, 8, 3, ndim=3).params == 3 * (3 * 8 + 8 * 8 + 8 * 8)
    assert cost.spatially_separable(6, 6, 3, (9, 9), padding=1, groups=6).macs == 81 * 6 * 6
    assert cost.spatially_separable(1, 1, 3, stride=2).macs == 2 * 3 + 3  # rows still have all columns


def test_low_rank_is_a_narrow_convolution_and_a_pointwise_one():
    found = cost.low_rank(64, 128, 3, 16, (30, 30), stride=2)
    assert found == cost.standard(64, 16, 3, (30, 30), stride=2) + cost.pointwise(16, 128, (15, 15))
    assert cost.low_rank(64, 128, 3, 16).macs == 9 * 64 * 16 + 16 * 128


def test_counts_are_exact_however_large():
    found = cost.standard(10**6, 10**6, 31, (10**6, 10**6, 10**6), batch=10**6)
    assert found.macs == 31**3 * 10**36
    assert isinstance(cost.standard(np.int32(2**20), np.int32(2**20), np.int32(3)).macs, int)
    assert cost.standard(np.int32(2**20), np.int32(2**20), np.int32(3)).macs == 9 * 2**40


# -- roofline ----------------------------------------------------------------------------------------


def test_roofline_is_the_slower_of_computing_and_moving():
    found = Cost(params=10, macs=500, bytes=100)  # 10 FLOPs per byte
    assert found.intensity == 10.0
    assert found.seconds(peak_flops=1000, bandwidth=1000) == 1.0
    assert found.limit(peak_flops=1000, bandwidth=1000) == "compute"
    assert found.seconds(peak_flops=1e6, bandwidth=10) == 10.0
    assert found.limit(peak_flops=1e6, bandwidth=10) == "memory"
    assert found.limit(peak_flops=1000, bandwidth=100) == "compute"  # on the ridge


def test_fusing_lifts_a_separable_layer_over_the_ridge():
    apart = cost.depthwise_separable(128, 128, 3, (56, 56))
    fused = cost.depthwise_separable(128, 128, 3, (56, 56), fused=True)
    peak, bandwidth = 100e9, 5e9  # 20 FLOPs per byte
    assert apart.intensity < 20 < fused.intensity
    assert apart.limit(peak, bandwidth) == "memory"
    assert fused.limit(peak, bandwidth) == "compute"


def test_costs_add():
    assert Cost(1, 2, 3) + Cost(10, 20, 30) == Cost(11, 22, 33)
    assert Cost(1, 2) + Cost(10, 20, 30) == Cost(11, 22)
    with pytest.raises(TypeError):
        Cost(1, 2) + 3


# -- ratio, savings, break-even ----------------------------------------------------------------------


@given(c_in=st.integers(1, 50), c_out=st.integers(1, 600), k=st.integers(1, 9), ndim=few, multiplier=few)
def test_ratio_is_that_of_the_counts(c_in, c_out, k, ndim, multiplier):
    separable = cost.depthwise_separable(c_in, c_out, k, multiplier=multiplier, ndim=ndim)
    dense = cost.standard(c_in, c_out, k, ndim=ndim)
    exact = Fraction(separable.macs, dense.macs)
    options = {"multiplier": multiplier, "ndim": ndim}
    assert cost.ratio(c_out, k, **options) == float(exact)
    assert cost.savings(c_out, k, **options) == float(1 - exact)
    assert cost.speedup(c_out, k, **options) == float(1 / exact)
    assert exact == Fraction(separable.params, dense.params)
    for times in (1, 2.5, 8, 10, 1 / exact):
        assert cost.more_than(times, c_out, k, **options) == (times * separable.macs < dense.macs)


@given(
    c_in=st.integers(1, 8),
    c_out=st.integers(1, 8),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    order=st.sampled_from(["dw-pw", "pw-dw"]),
    stride=st.integers(1, 2),
    groups=few,
)
def test_break_even_rank_is_the_last_that_pays(c_in, c_out, kernel, order, stride, groups):
    channels = c_in * groups, c_out * groups
    found = cost.break_even_rank(*channels, kernel, order, stride=stride, groups=groups)
    dense = cost.standard(*channels, kernel, stride=stride, groups=groups).macs
    paying = [
        rank
        for rank in range(1, 40)
        if cost.depthwise_separable(
            *channels, kernel, order=order, stride=stride, groups=groups, multiplier=rank
        ).macs
        < dense
    ]
    assert found == max(paying, default=0)
    assert paying == list(range(1, found + 1))


def test_break_even_at_stride_one_is_the_formula():
    for c_out, k in itertools.product((8, 64, 128, 512), (3, 5, 7)):
        limit = Fraction(c_out * k * k, k * k + c_out)  # T < O K / (K + O)
        assert cost.break_even_rank(96, c_out, k) == math.ceil(limit) - 1


# -- errors ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: cost.standard(3, 8, 0), ValueError, "`kernel=0` is too small; expected at least 1"),
        (lambda: cost.standard(3, 8, (3, 3), (5, 5, 5)), ValueError, "`sizes=(5, 5, 5)` has 3 entries for 2"),
        (
            lambda: cost.standard(3, 8, 3, groups=2),
            ValueError,
            "`groups=2` does not divide 3 input and 8 output",
        ),
        (lambda: cost.standard(3, 8, 3, padding="full"), ValueError, "`padding='full'` is unknown"),
        (lambda: cost.standard(3, 8, 3, (2, 9), padding=0), ValueError, "axis 0 has 2 samples and padding"),
        (lambda: cost.standard(3.5, 8, 3), TypeError, "`c_in=3.5` is not a whole number"),
        (lambda: cost.standard(3, 8, 3).intensity, ValueError, "pass sizes=(height, width)"),
        (lambda: cost.standard(3, 8, 3).seconds(1e9, 1e9), ValueError, "pass sizes=(height, width)"),
        (lambda: Cost(1, 2, 3).seconds(0, 1e9), ValueError, "`peak_flops=0` is no rate per second"),
        (lambda: Cost(1, 2, 3).limit(1e9, -1), ValueError, "`bandwidth=-1` is no rate per second"),
        (lambda: cost.depthwise_separable(3, 8, 3, order="dw"), ValueError, "`order='dw'` is unknown"),
        (lambda: cost.depthwise_separable(3, 8, 3, multiplier=0), ValueError, "`multiplier=0` is too small"),
        (lambda: cost.ratio(0, 3), ValueError, "`c_out=0` is too small"),
        (lambda: cost.low_rank(3, 8, 3, 0), ValueError, "`rank=0` is too small"),
    ],
)
def test_errors_name_argument_value_and_fix(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()
