"""The benchmark of plans: what regret is, and what is summed up of it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks import nonseparable, regret
from benchmarks.regret import Cell
from separable.families._pupil import bessel


def test_regret_is_the_time_of_the_choice_over_the_least():
    cell = Cell("disk", 9, (64, 64), 1, {"direct": 2e-3, "fft": 1.6e-3}, "direct")
    assert cell.regret == pytest.approx(25.0)
    assert cell.label == "disk of 9 taps on 64 x 64, 1 thr.: direct, fft is best"
    assert Cell("disk", 9, (64, 64), 1, {"direct": 2e-3}, "direct").regret == 0.0


def test_medians_and_the_worst_are_promised():
    cells = [
        Cell("noise", n, (64, 64), 1, {"direct": 1.0 + n / 100, "fft": 1.0}, "direct") for n in (0, 4, 50)
    ]
    found = {q.label: q for q in regret._quantities(cells, quick=False)}
    assert found["median of all"].value == pytest.approx(4.0)
    assert found["median of all"].met
    assert found["worst"].value == pytest.approx(50.0)
    assert not found["worst"].met
    assert "noise of 50 taps" in found["worst"].note
    assert found["median, noise"].note == "chosen: direct 3"
    assert all(q.bound is None for q in regret._quantities(cells, quick=True))


@pytest.mark.parametrize("kind", regret.KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("ndim", [2, 3])
def test_every_kind_has_a_kernel_of_the_size_asked_for(kind, ndim):
    kernel = kind.weights(5, ndim)
    assert kernel.shape == (5,) * ndim
    assert not regret._fits(kind, 2 * 64, (64,) * ndim)
    assert regret._fits(kind, 5, (64,) * ndim)


def test_kernels_that_do_not_factor_do_not():
    for work in nonseparable.works():
        assert np.abs(work.weights).sum() == pytest.approx(1.0)
        values = np.linalg.svd(work.weights.reshape(len(work.weights), -1), compute_uv=False)
        assert values[1] > 0.05 * values[0]
        assert {target.variant for target in work.targets} == {"auto"}


def test_the_point_spread_function_is_even_and_brightest_in_focus():
    psf = nonseparable.psf()
    np.testing.assert_allclose(psf, psf[:, ::-1, ::-1], rtol=1e-12)
    np.testing.assert_allclose(psf, psf[::-1], rtol=1e-9)
    assert np.unravel_index(int(psf.argmax()), psf.shape) == (12, 10, 10)
    grid = np.linspace(0, 20, 7)
    series = [sum((-1) ** k * (x / 2) ** (2 * k) / math.factorial(k) ** 2 for k in range(60)) for x in grid]
    np.testing.assert_allclose(bessel(grid), series, atol=1e-7)
