"""The errors of all ranks from one factorization, against each rank's own closed form."""

from __future__ import annotations

from copy import copy

import numpy as np
import pytest

from separable.conv.algebra import descent, spectra
from separable.conv.algebra.cholesky import Cholesky
from separable.conv.algebra.descent import Quadratic, _reached, descend_reduction, whitened_filters
from separable.conv.forms.table import CHEAPER, FORMS
from tests.conv_layers import layer_of


def problem_of(layer, seed: int = 0) -> Quadratic:
    rng = np.random.default_rng(seed)
    size = layer.c_in * layer.taps
    rows = rng.standard_normal((4 * size, size)) @ rng.standard_normal((size, size))
    weights = layer.weights.reshape(layer.c_out, -1).T
    gram = rows.T @ rows / len(rows) + 1e-3 * np.eye(size)
    pull = gram @ weights
    return Quadratic(gram, pull, np.sum(weights * pull, axis=0), layer.taps)


@pytest.mark.parametrize("form", CHEAPER)
@pytest.mark.parametrize("kernel", [(3, 3), (5,), (2, 3, 2)])
def test_losses_are_those_of_the_closed_forms(form: str, kernel: tuple[int, ...]) -> None:
    layer = layer_of(np.random.default_rng(3), (7, 5, *kernel), tuple(k + 4 for k in kernel))
    asked, problem = FORMS[form], problem_of(layer)
    full = asked.full_rank(layer)
    if not full:
        return
    ranks = sorted({1, 2, max(1, full - 1), full})
    losses = asked.losses(layer, problem, ranks)
    for rank, loss in zip(ranks, losses, strict=True):
        flat = problem.optimum if rank == full else asked.closed(layer, problem, rank)
        assert loss == pytest.approx(problem.loss(flat), rel=2e-3, abs=2e-4 * problem.energy)


@pytest.mark.parametrize("form", CHEAPER)
def test_all_ranks_take_no_more_factorizations_than_one(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    plain = Cholesky.__init__
    monkeypatch.setattr(Cholesky, "__init__", lambda self, m: (made.append(1), plain(self, m))[1])
    layer = layer_of(np.random.default_rng(3), (7, 6, 3, 3), (8, 8))
    counts = []
    for ranks in ([1], [1, 2, 3, 4]):
        made.clear()
        FORMS[form].losses(layer, problem_of(layer), ranks)
        counts.append(len(made))
    assert counts[0] == counts[1] <= 2


def test_some_outputs_stand_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = layer_of(np.random.default_rng(3), (64, 4, 3, 3), (8, 8))
    problem = problem_of(layer)
    whole = spectra.output_losses(problem, 3)
    monkeypatch.setattr(spectra, "_COLUMNS", 96)
    np.testing.assert_allclose(spectra.output_losses(problem, 3), whole, rtol=0.2)


def test_directions_of_many_outputs_are_those_of_all() -> None:
    """As many as there are inputs: the (O, O) matrix of 6,625 classes took minutes."""
    layer = layer_of(np.random.default_rng(3), (40, 7, 1), (5,))
    problem = problem_of(layer)
    directions, gains = problem.reduction
    assert directions.shape == (40, 7)
    np.testing.assert_allclose(directions.T @ directions, np.eye(7), atol=1e-10)
    explained = problem.pull.T @ problem.optimum
    values = np.linalg.eigvalsh((explained + explained.T) / 2)[::-1]
    np.testing.assert_allclose(gains, values[:7], rtol=1e-6)
    np.testing.assert_allclose(directions.T @ explained @ directions, np.diag(gains), atol=1e-6 * gains[0])


def test_steps_that_are_too_far_for_single_precision_are_not_taken():
    """A few patches leave most directions open, in which a step may end anywhere."""
    rng = np.random.default_rng(0)
    patches = (rng.standard_normal((12, 96)) * np.geomspace(1, 1e-12, 96)).astype(np.float32)
    gram = patches.T @ patches / 12
    gram[np.diag_indices_from(gram)] += 1e-30
    weights = rng.standard_normal((96, 8)).astype(np.float32)
    pull = gram @ weights
    problem = Quadratic(gram, pull, np.sum(weights * pull, axis=0, dtype=np.float64), 3)
    start = rng.standard_normal((4, 32)).astype(np.float32)
    rows, _, loss = descend_reduction(problem, start, 10, 0.0)
    assert np.isfinite(rows).all()
    assert loss <= problem.energy * (1 + 1e-5)
    # What overflows fails in some of LAPACK's kernels; in others it comes to no weights at all.
    far = _reached(problem, np.full((4, 32), 1e30, np.float32))
    assert far is None or far.loss >= problem.energy * (1 - 1e-5)


@pytest.mark.parametrize(("dtype", "sweeps"), [(np.float32, 1), (np.float64, 30)])
def test_descent_ends_where_gains_are_roundings(monkeypatch, dtype, sweeps):
    """A layer of 64 channels and 65 taps went on for minutes, for differences of its energy's last bits."""
    rng = np.random.default_rng(5)
    patches = rng.standard_normal((900, 12 * 65)).astype(dtype)
    gram = patches.T @ patches
    weights = rng.standard_normal((12 * 65, 8)).astype(dtype)
    pull = gram @ weights
    problem = Quadratic(gram, pull, np.sum(weights * pull, axis=0, dtype=np.float64), 65)
    made = []

    def moved(state, ranks, channels, terms, damping):
        made.append(damping)
        # Of the energy, a twentieth of a rounding in single precision: many roundings in double precision.
        better = copy(state)
        better.loss = state.loss - 5e-9 * problem.energy
        return better, damping

    monkeypatch.setattr(descent, "_moved", moved)
    ranks = [15] * 12
    filters = whitened_filters(problem, ranks)
    descent.descend_inputs(problem, ranks, filters, 30, 0.0)
    blocks = len(descent._blocks(ranks, 65))
    assert blocks > 10
    assert len(made) == sweeps * blocks
