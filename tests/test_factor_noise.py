"""tol="noise": how strong it is, where the terms stop, and that they say so."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

from benchmarks.factoring_kernels import flat_kernels, widefield
from separable.factor import DEFAULT_TOL, factor
from separable.factor.noise import _median, noise_of

CASES = {case.name.split(",")[0]: case.weights for case in flat_kernels()[:-1]}


def noisy(weights, share, seed=0):
    noise = share * np.abs(weights).max() * np.random.default_rng(seed).standard_normal(weights.shape)
    return weights + noise, noise


@pytest.mark.parametrize("share", [1e-3, 1e-2, 5e-2])
@pytest.mark.parametrize(("name", "rank"), [("Gaussian", 1), ("Gabor at 30 degrees", 2), ("disk", 7)])
def test_terms_stop_at_the_noise(name, rank, share):
    for seed in range(3):
        weights, noise = noisy(CASES[name], share, seed)
        k = factor(weights, tol="noise")
        true = np.abs(noise).sum() / np.abs(weights).sum()
        assert k.noise == pytest.approx(true, rel=0.15)
        assert k.rank == rank
        # nearer to the kernel behind the noise than the weights are
        assert np.linalg.norm(k.dense() - CASES[name]) < 0.7 * np.linalg.norm(noise)


def test_noise_in_three_dimensions():
    psf = widefield((13, 11, 11))
    weights, noise = noisy(psf, 1e-3)
    k = factor(weights, tol="noise")
    assert k.noise == pytest.approx(np.abs(noise).sum() / np.abs(weights).sum(), rel=0.15)
    assert np.linalg.norm(k.dense() - psf) < 0.7 * np.linalg.norm(noise)


def test_noise_of_a_symmetric_average():
    # Averaged over its symmetries, as measured kernels often are: repeated noise is not taken for structure.
    weights, noise = noisy(CASES["Airy"], 1e-2)
    weights, noise = ((each + each[::-1] + each[:, ::-1] + each[::-1, ::-1]) / 4 for each in (weights, noise))
    found = noise_of(weights)
    assert found.level == pytest.approx(np.abs(noise).sum() / np.abs(weights).sum(), rel=0.2)
    assert found.floor < found.level


def test_where_there_is_no_noise_the_default_holds():
    k = factor(CASES["Airy"], tol="noise")
    assert k.noise < 1e-12
    assert k.rank == factor(CASES["Airy"]).rank
    assert k.error.relative_l1 <= DEFAULT_TOL
    zero = factor(np.zeros((8, 8)), tol="noise")
    assert (zero.rank, zero.noise) == (1, 0.0)


@pytest.mark.parametrize("scale", [1e-300, 1e300])
def test_the_scale_does_not_matter(scale):
    weights, _ = noisy(CASES["disk"], 1e-2)
    plain, scaled = factor(weights, tol="noise"), factor(weights * scale, tol="noise")
    assert plain.rank == scaled.rank
    assert scaled.noise == pytest.approx(plain.noise, rel=1e-9)


def test_the_kernel_says_that_it_stopped_there():
    k = factor(noisy(CASES["Gaussian"], 1e-2)[0], tol="noise")
    assert f"noise={k.noise:.3g}" in repr(k)
    assert k.adjoint().noise == k.rounded("float32").noise == k.noise
    for clone in (copy.deepcopy(k), pickle.loads(pickle.dumps(k))):
        assert (clone, clone.noise) == (k, k.noise)
    assert factor(CASES["Gaussian"]).noise is None
    assert k != factor(noisy(CASES["Gaussian"], 1e-2)[0], tol=1.0, rank=1)


@pytest.mark.parametrize("shape", [(3, 40), (7,), (5, 1, 5)])
def test_kernels_too_small_to_tell_are_refused(shape):
    with pytest.raises(ValueError, match=r"`tol='noise'` needs 6 or more.*give `tol` as a number"):
        factor(np.random.default_rng(0).standard_normal(shape), tol="noise")


@pytest.mark.parametrize("ratio", [1.0, 0.5, 0.05])
def test_the_median_of_the_law(ratio):
    n = 600
    values = np.linalg.svd(np.random.default_rng(0).standard_normal((int(ratio * n), n)), compute_uv=False)
    assert _median(ratio) == pytest.approx(float(np.median(values)) ** 2 / n, rel=0.03)
