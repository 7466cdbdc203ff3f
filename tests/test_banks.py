"""Banks: each result is that of its kernel alone, whatever runs together."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import MODES

import separable as sp

JET = [sp.families.gaussian(1.5, order=(i, j)) for i in range(3) for j in range(3 - i)]


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(shape).uniform(-1, 1, shape)


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "uint8", "int16"])
@pytest.mark.parametrize("mode", MODES)
def test_results_are_those_of_each_kernel_alone(mode, dtype):
    x = (noise(41, 37) * 100 + 128).astype(dtype)
    bank = sp.plan(JET, x.shape, dtype, mode=mode, cval=3.0)
    assert bank.together == (tuple(range(len(JET))),)
    found = bank(x)
    assert found.shape == (6, 41, 37)
    for kernel, result in zip(JET, found, strict=True):
        wanted = sp.correlate(x, kernel, mode=mode, cval=3.0, method="separable")
        np.testing.assert_array_equal(result, wanted)


def test_common_passes_run_once():
    bank = sp.plan(JET, (500, 500))
    alone = sum(plan.macs for plan in bank.plans)
    assert alone == 6 * 26
    assert bank.macs == 3 * 13 + 6 * 13  # three lists of taps along the rows, then each kernel's own
    assert "1 sweep" in str(bank)
    assert f"{bank.macs} MACs" in repr(bank)


def test_a_volume_shares_two_axes():
    kernels = [sp.families.gaussian(1.0, order=(n, 0, 0)) for n in range(3)]
    bank = sp.plan(kernels, (40, 50, 60))
    assert bank.macs == 9 + 9 + 3 * 9
    x = noise(40, 50, 60).astype(np.float32)
    for kernel, result in zip(kernels, bank(x), strict=True):
        np.testing.assert_allclose(result, sp.correlate(x, kernel), atol=1e-6)


@given(
    st.lists(st.sampled_from([(3, 3), (5, 5), (9, 9), (1, 7)]), min_size=1, max_size=5),
    st.sampled_from(MODES),
    st.integers(0, 3),
)
def test_any_kernels(shapes, mode, seed):
    rng = np.random.default_rng(seed)
    kernels = [rng.integers(-3, 4, shape) * 1.0 for shape in shapes]
    x = noise(30, 26)
    found = sp.plan(kernels, x.shape, "float64", mode=mode)(x)
    for kernel, result in zip(kernels, found, strict=True):
        wanted = sp.correlate(x, kernel, mode=mode, method="direct")
        assert np.abs(result - wanted).max() <= 1e-5 * np.abs(kernel).sum()


def test_arrays_with_an_axis_for_each_filtered_axis_are_kernels_and_rows_are_not():
    weights = [np.array([1.0, 2.0, 1.0]), np.array([2.0, 4.0, 2.0])]
    assert sp.plan(weights, (20, 20)).taps == (2, 3)
    assert len(sp.plan(weights, (20,))) == 2
    assert len(sp.plan(weights, (20, 20), axes=1)) == 2
    assert len(sp.plan([JET[0], np.ones((3, 3))], (20, 20))) == 2


def test_outputs():
    x = noise(30, 40).astype(np.float32)
    bank = sp.plan(JET[:3], x.shape)
    wanted = bank(x)
    for output in (np.empty((3, 30, 40), np.float32), np.empty((3, 30, 80), np.float64)[..., ::2]):
        assert bank(x, output) is output
        np.testing.assert_allclose(output, wanted, rtol=1e-6)
    assert bank(x, "float64").dtype == np.float64
    whole = bank((x * 1000).astype(np.int16), "int16", rounding="truncate", overflow="wrap")
    apart = [
        sp.correlate(
            (x * 1000).astype(np.int16),
            k,
            output="int16",
            rounding="truncate",
            overflow="wrap",
            method="separable",
        )
        for k in JET[:3]
    ]
    np.testing.assert_array_equal(whole, apart)
    with pytest.raises(ValueError, match="shape"):
        bank(x, np.empty((30, 40), np.float32))
    with pytest.raises(ValueError, match="shape"):
        bank(x[:-1])
    with pytest.raises(TypeError, match="float64"):
        bank(x.astype(np.float64))


def test_kernels_that_run_another_way_run_apart():
    kernels = [JET[0], sp.families.disk(12), JET[1], sp.families.box(51)]
    bank = sp.plan(kernels, (300, 300), "uint8")
    assert bank.together == ((0, 2),)
    x = np.random.default_rng(1).integers(0, 256, (300, 300)).astype(np.uint8)
    found = bank(x)
    for kernel, result in zip(kernels, found, strict=True):
        np.testing.assert_allclose(result, sp.correlate(x, kernel), atol=2e-4)


def test_values_that_last():
    bank = sp.plan(JET, (64, 64))
    x = noise(64, 64).astype(np.float32)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(bank))(x), bank(x))
    assert copy.copy(bank) is bank
    assert copy.deepcopy(bank) is bank
    with pytest.raises(AttributeError):
        bank.macs = 3  # type: ignore[misc]


def test_threads_change_no_bit():
    bank, x = sp.plan(JET, (700, 300)), noise(700, 300).astype(np.float32)
    np.testing.assert_array_equal(bank(x, threads=1), bank(x, threads=3))


def test_directions_of_one_derivative_share_their_basis():
    family = sp.families.steerable(2.0, 2)
    kernels = [family.at(angle) for angle in np.linspace(0, np.pi, 8, endpoint=False)]
    bank = sp.plan(kernels, (200, 200))
    assert bank.macs < 0.6 * sum(plan.macs for plan in bank.plans)
