"""Complex weights: both parts in one sweep where they are an outer product, and the same results."""

from __future__ import annotations

import numpy as np
import pytest
from reference import correlate_dense

import separable as sp
from separable.factor import complex_parts
from separable.kernel.passes import shared


def wave(*shape: int) -> np.ndarray:
    places = np.indices(shape) - np.array([n // 2 for n in shape]).reshape(-1, *[1] * len(shape))
    phase = sum(0.3 * (axis + 1) * p for axis, p in enumerate(places))
    return np.exp(-(places**2).sum(axis=0) / 12 + 1j * phase)


@pytest.mark.parametrize(
    ("shape", "terms", "macs"), [((9, 11), 2, 2 * 11 + 4 * 9), ((5, 7, 9), 4, 18 + 28 + 20)]
)
def test_parts_share_their_passes(shape, terms, macs):
    weights = wave(*shape) * 1e-30
    real, imaginary = complex_parts(weights)
    assert (real.rank, imaginary.rank) == (terms, terms)
    assert shared([real.terms, imaginary.terms]).macs == macs
    assert np.abs(real.dense() + 1j * imaginary.dense() - weights).max() <= 1e-15 * np.abs(weights).max()
    assert max(real.error.relative_l1, imaginary.error.relative_l1) < 1e-14


def test_what_is_no_outer_product_has_none():
    rng = np.random.default_rng(0)
    for weights in (
        rng.standard_normal((5, 5)) + 1j * rng.standard_normal((5, 5)),
        np.ones((5, 5)) + 0j,
        np.outer([1, 2, 3], [1j, 2j]),
        np.array([1, 1j, 2]),
        np.full((3, 3), np.nan + 1j),
    ):
        assert complex_parts(weights) is None


def by_parts(x: np.ndarray, weights: np.ndarray, mode: str) -> np.ndarray:
    return correlate_dense(x, weights.real, mode, 2.0) + 1j * correlate_dense(x, weights.imag, mode, 2.0)


@pytest.mark.parametrize("shape", [(9, 11), (5, 7, 9)])
@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64", "complex64", "complex128"])
@pytest.mark.parametrize("mode", ["reflect", "constant"])
def test_results(shape, dtype, mode):
    weights = wave(*shape)
    x = np.random.default_rng(1).uniform(0, 100, (14,) * len(shape))
    x = (x * (1 + 0.5j) if dtype[0] == "c" else x).astype(dtype)
    found = sp.correlate(x, weights, mode=mode, cval=2.0)
    wanted = by_parts(x, weights.conj(), mode)
    assert np.abs(found - wanted).max() <= (2e-4 if found.dtype == np.complex64 else 1e-10)
    flipped = sp.convolve(x, weights, mode=mode, cval=2.0, output="complex128")
    wanted = by_parts(x, np.flip(weights), mode)
    assert np.abs(flipped - wanted).max() <= 1e-10
