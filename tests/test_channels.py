"""`channel_axis`: each channel by itself. And `fwhm`, the other word for the width of a Gaussian."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import separable as sp

RNG = np.random.default_rng(7)
KERNEL = sp.families.gaussian((1.0, 0.7), order=(0, 1))
WEIGHTS = RNG.standard_normal((3, 5))

VERBS: dict[str, Callable[..., Any]] = {
    "gaussian": lambda x, **more: sp.gaussian(x, (1.5, 0.8), order=(1, 0), **more),
    "uniform": lambda x, **more: sp.uniform(x, (3, 4), **more),
    "correlate": lambda x, **more: sp.correlate(x, WEIGHTS, **more),
    "convolve": lambda x, **more: sp.convolve(x, KERNEL, **more),
    "complex weights": lambda x, **more: sp.correlate(x, WEIGHTS + 1j * WEIGHTS[::-1], **more),
    "plan": lambda x, **more: sp.plan(WEIGHTS, x.shape, x.dtype, **more)(x),
}


def one_by_one(verb: Callable[..., Any], x: Any, axis: int, **more: Any) -> Any:
    return np.stack([verb(each, **more) for each in np.moveaxis(x, axis, 0)], axis=axis)


@pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)
@settings(max_examples=25)
@given(st.sampled_from([1, 3, 4, 7]), st.integers(-3, 2), st.sampled_from(["u1", "f4", "f8", "c16"]))
def test_channels_are_filtered_one_by_one(verb: Any, channels: int, axis: int, dtype: str) -> None:
    x = np.moveaxis((100 * RNG.random((11, 12, channels))).astype(dtype), -1, axis)
    got = verb(x, channel_axis=axis, mode=("nearest", "wrap"))
    expected = one_by_one(verb, x, axis, mode=("nearest", "wrap"))
    assert got.dtype == expected.dtype
    # Sums go along the memory, which lies otherwise in one channel.
    single = expected.dtype.char in "fF"
    np.testing.assert_allclose(got, expected, rtol=0, atol=3e-4 if single else 1e-11)


@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1])
def test_with_axes_which_count_all_of_the_array(axis: int) -> None:
    x = RNG.random((6, 7, 8, 9))
    rest = [each for each in range(4) if each != axis % 4]
    wanted = (rest[2], rest[0])
    got = sp.gaussian(x, (1.0, 2.0), axes=wanted, channel_axis=axis)
    np.testing.assert_array_equal(got, sp.gaussian(x, (1.0, 2.0), axes=wanted))
    np.testing.assert_array_equal(
        sp.uniform(x, 3, axes=rest[1], channel_axis=axis), sp.uniform(x, 3, axes=rest[1])
    )


def test_masks_outputs_and_channels() -> None:
    x = (255 * RNG.random((10, 12, 3))).astype(np.uint8)
    mask = RNG.random((10, 12, 1)) > 0.2
    output = np.empty_like(x)
    assert sp.gaussian(x, 2, channel_axis=-1, mask=mask, output=output) is output
    for n in range(3):
        single = sp.gaussian(x[..., n], 2, mask=mask[..., 0], output=np.uint8)
        np.testing.assert_array_equal(output[..., n], single)


def test_plans_and_banks() -> None:
    x = RNG.random((20, 30, 3))
    kernels = [sp.families.gaussian(1.5, order=order) for order in ((0, 1), (1, 0))]
    bank = sp.plan(kernels, x.shape, x.dtype, channel_axis=-1)
    for found, kernel in zip(bank(x), kernels, strict=True):
        np.testing.assert_allclose(found, sp.correlate(x, kernel, channel_axis=-1), rtol=0, atol=1e-14)
    p = sp.plan(kernels[0], x.shape, x.dtype, channel_axis=2)
    assert p.axes == (0, 1)
    assert str(p).splitlines()[3] == "  axis 2  not filtered"
    assert str(pickle.loads(pickle.dumps(p))) == str(p)
    y = RNG.random(x.shape)
    assert np.vdot(p(x), y) == pytest.approx(np.vdot(x, p.adjoint()(y)))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: sp.gaussian(x, 1, channel_axis=3), ValueError, r"`channel_axis=3` does not exist in 3"),
        (lambda x: sp.gaussian(x, 1, channel_axis=-4), ValueError, r"`channel_axis=-4` does not exist"),
        (
            lambda x: sp.uniform(x, 3, channel_axis="c"),
            TypeError,
            r"`channel_axis='c'` is not a whole number",
        ),
        (lambda x: sp.uniform(x, 3, channel_axis=(0, 1)), TypeError, r"`channel_axis=\(0, 1\)` is not"),
        (
            lambda x: sp.correlate(x, WEIGHTS, axes=(0, -1), channel_axis=2),
            ValueError,
            r"`axes=\(0, -1\)` holds the axis of `channel_axis=2`",
        ),
        (lambda x: sp.gaussian(x[0, 0], 1, channel_axis=0), ValueError, r"leaves no axis to filter in 1 dim"),
        (
            lambda x: sp.gaussian(x, (1, 1, 1), channel_axis=-1),
            ValueError,
            r"3 entries for 2 filtered axes",
        ),
        (lambda x: sp.correlate(x, WEIGHTS), ValueError, r"pass channel_axis=-1 to filter each of the 3 col"),
        (lambda x: sp.plan(WEIGHTS, x.shape), ValueError, r"pass channel_axis=-1"),
        (lambda x: sp.plan(WEIGHTS, (9, 9, 9)), ValueError, r"pass a kernel with one axis for each, or name"),
        (lambda x: sp.plan(WEIGHTS, x.shape, channel_axis=5), ValueError, r"`channel_axis=5` does not exist"),
    ],
)
def test_what_does_not_fit_is_named(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(RNG.random((8, 9, 3)))


# -- fwhm -------------------------------------------------------------------------------------------------

PER_SIGMA = 2 * math.sqrt(2 * math.log(2))


@given(st.floats(0.1, 30), st.integers(0, 2))
def test_fwhm_is_a_width(fwhm: float, order: int) -> None:
    x = RNG.random((7, 40))
    got = sp.gaussian(x, fwhm=fwhm, order=order, axes=1)
    np.testing.assert_allclose(got, sp.gaussian(x, fwhm / PER_SIGMA, order=order, axes=1), rtol=1e-9)
    kernel = sp.families.gaussian(fwhm=fwhm, order=order, ndim=1)
    assert kernel == sp.families.gaussian(fwhm / PER_SIGMA, order=order, ndim=1)


def test_half_of_the_maximum_lies_half_the_width_away() -> None:
    (taps,) = sp.families.gaussian(fwhm=20, ndim=1).terms[0]
    centre = taps.size // 2
    assert taps[centre + 10] / taps[centre] == pytest.approx(0.5)


def test_fwhm_per_axis_and_in_millimetres() -> None:
    x = RNG.random((12, 13, 14))
    spacing = (3.0, 0.8, 1.0)
    got = sp.gaussian(x, fwhm=(6.0, 4.0, 0.0), spacing=spacing)
    expected = sp.gaussian(x, tuple(w / PER_SIGMA for w in (6.0, 4.0, 0.0)), spacing=spacing)
    np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(sp.gaussian(x, fwhm=[6.0, 4.0, 0.0], spacing=spacing), expected)
    assert sp.families.gaussian(fwhm=(6, 4, 2)).ndim == 3


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: sp.gaussian(x), TypeError, "takes one of `sigma` and `fwhm`; got neither"),
        (lambda x: sp.gaussian(x, 1, fwhm=2), TypeError, "got sigma=1 and fwhm=2"),
        (lambda x: sp.gaussian(x, fwhm=(1, 2, 3)), ValueError, "3 entries for 2 filtered axes"),
        (lambda x: sp.gaussian(x, fwhm=(1, -2)), ValueError, r"`fwhm\[1\]` is -2; expected a number >= 0"),
        (lambda x: sp.gaussian(x, fwhm=math.nan), ValueError, "`fwhm` is nan; expected a finite number"),
        (lambda x: sp.gaussian(x, fwhm="wide"), TypeError, "`fwhm` is 'wide'; expected a number"),
    ],
)
def test_one_width_and_a_right_one(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(RNG.random((8, 9)))
