"""Padding and output sizes of convolution layers, against counting the places by hand."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from separable.conv.algebra.geometry import output_shape, per_axis, reach, resolve_padding

lengths = st.integers(1, 40)
small = st.integers(1, 7)


@given(n=lengths, k=small, s=small, d=st.integers(1, 4), before=st.integers(0, 9), after=st.integers(0, 9))
def test_output_shape_counts_the_places_where_the_kernel_fits(n, k, s, d, before, after):
    starts = [o for o in range(0, n + before + after, s) if o + (k - 1) * d < n + before + after]
    if starts:
        assert output_shape((n,), (k,), (s,), (d,), ((before, after),)) == (len(starts),)
    else:
        with pytest.raises(ValueError, match="pad at least") as caught:
            output_shape((n,), (k,), (s,), (d,), ((before, after),))
        missing = int(re.search(r"at least (\d+) more", str(caught.value)).group(1))
        assert output_shape((n,), (k,), (s,), (d,), ((before, after + missing),)) == (1,)


@given(n=lengths, k=small, s=small, d=st.integers(1, 4))
def test_same_padding_is_the_least_that_gives_every_stride_an_output(n, k, s, d):
    ((before, after),) = padding = resolve_padding("same", (k,), (s,), (d,), (n,))
    assert output_shape((n,), (k,), (s,), (d,), padding) == (-(-n // s),)
    assert after - before in (0, 1)  # the odd sample comes last
    if before + after:  # one sample less, and the last output is gone
        last = (-(-n // s) - 1) * s + (k - 1) * d + 1
        assert last == n + before + after


@given(k=small, d=st.integers(1, 4), n=lengths)
def test_same_padding_at_stride_one_is_what_torch_pads(k, d, n):
    total = d * (k - 1)  # torch.nn.modules.conv: left = total // 2, the rest right
    assert resolve_padding("same", (k,), (1,), (d,), (n,)) == ((total // 2, total - total // 2),)


def test_paddings_of_every_kind():
    def resolved(padding):
        return resolve_padding(padding, (3, 5), (1, 2), (2, 1), (8, 9))

    assert resolved("valid") == ((0, 0), (0, 0))
    assert resolved("same") == ((2, 2), (2, 2))
    assert resolved(1) == resolved((1, 1)) == resolved([[1, 1], [1, 1]]) == ((1, 1), (1, 1))
    assert resolved((0, (1, 2))) == ((0, 0), (1, 2))
    assert resolved(np.int64(2)) == resolved(np.array([2, 2])) == ((2, 2), (2, 2))


def test_per_axis():
    assert per_axis(3, 2, "kernel") == per_axis((3, 3), 2, "kernel") == (3, 3)
    assert per_axis(np.array([1, 2, 3]), 3, "stride") == (1, 2, 3)
    assert per_axis(0, 1, "padding", least=0) == (0,)
    assert all(type(n) is int for n in per_axis(np.array([1, 2]), 2, "stride"))


def test_reach():
    assert reach((3, 5, 1), (1, 2, 7)) == (3, 9, 1)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: per_axis((1, 2), 3, "stride"),
            ValueError,
            "`stride=(1, 2)` has 2 entries for 3 spatial axes",
        ),
        (lambda: per_axis(1.5, 2, "stride"), TypeError, "`stride=1.5` is not a whole number"),
        (lambda: per_axis("12", 2, "stride"), TypeError, "`stride[0]='1'` is not a whole number"),
        (
            lambda: per_axis((1, 0), 2, "stride"),
            ValueError,
            "`stride[1]=0` is too small; expected at least 1",
        ),
        (
            lambda: resolve_padding("full", (3,), (1,), (1,), (8,)),
            ValueError,
            "`padding='full'` is unknown; expected 'same', 'valid'",
        ),
        (
            lambda: resolve_padding(((1, 2, 3),), (3,), (1,), (1,), (8,)),
            ValueError,
            "`padding[0]` has 3 entries; expected a number, or (before, after)",
        ),
        (
            lambda: resolve_padding(((1, -2),), (3,), (1,), (1,), (8,)),
            ValueError,
            "`padding[0][1]=-2` is too small; expected at least 0",
        ),
        (
            lambda: output_shape((8, 3), (3, 5), (1, 1), (1, 2), ((0, 0), (1, 1))),
            ValueError,
            "axis 1 has 3 samples and padding (1, 1), but 5 taps with dilation 2 reach over 9; pad at",
        ),
    ],
)
def test_errors_name_argument_value_and_fix(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()
