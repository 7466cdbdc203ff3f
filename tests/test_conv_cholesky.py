"""Symmetric systems that are factored once, by blocks, against NumPy's general solver."""

from __future__ import annotations

import numpy as np
import pytest

from separable.conv.algebra.cholesky import Cholesky
from separable.conv.algebra.descent import Quadratic


def positive(n: int, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((n, n + 3))
    return rows @ rows.T + 0.1 * np.eye(n)


@pytest.mark.parametrize("n", [1, 2, 127, 128, 129, 300])
def test_solves_what_numpy_solves(n: int) -> None:
    matrix, right = positive(n), np.random.default_rng(1).standard_normal((n, 3))
    factor = Cholesky(np.tril(matrix))  # only the lower half is read
    np.testing.assert_allclose(factor.solve(right), np.linalg.solve(matrix, right), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(factor.solve(right[:, 0]), np.linalg.solve(matrix, right[:, 0]), rtol=1e-6)
    lower = np.linalg.cholesky(matrix)
    np.testing.assert_allclose(factor.forward(right), np.linalg.solve(lower, right), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(factor.backward(right), np.linalg.solve(lower.T, right), rtol=1e-6, atol=1e-9)


def test_leading_rows_depend_on_leading_rows_alone() -> None:
    matrix, right = positive(300), np.random.default_rng(1).standard_normal((300, 2))
    whole, part = Cholesky(matrix).forward(right), Cholesky(matrix[:150, :150]).forward(right[:150])
    np.testing.assert_allclose(whole[:150], part, rtol=1e-9, atol=1e-12)


def test_rounding_below_zero_is_no_obstacle_and_more_than_that_is() -> None:
    rows = np.random.default_rng(0).standard_normal((200, 20))
    singular = rows @ rows.T
    right = singular @ np.ones(200)
    np.testing.assert_allclose(
        singular @ Cholesky(singular).solve(right), right, atol=1e-4 * abs(right).max()
    )
    with pytest.raises(np.linalg.LinAlgError, match="not positive definite"):
        Cholesky(-np.eye(3))


def test_one_factor_serves_all_that_is_wanted_of_the_same_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    plain = Cholesky.__init__
    monkeypatch.setattr(Cholesky, "__init__", lambda self, m: (made.append(len(m)), plain(self, m))[1])
    gram, rng = positive(36), np.random.default_rng(2)
    problem = Quadratic(gram, rng.standard_normal((36, 5)), np.full(5, 100.0), 9)
    wanted = [
        problem.optimum,
        problem.of_outputs(slice(2)).optimum,
        problem.aimed(2 * problem.pull, problem.energies).optimum,
    ]
    assert made == [36]
    np.testing.assert_allclose(wanted[1], wanted[0][:, :2])
    np.testing.assert_allclose(wanted[2], 2 * wanted[0])
    assert problem.least == pytest.approx(problem.loss(problem.optimum))


def test_few_patches_of_a_wide_layer_are_no_obstacle_in_single_precision() -> None:
    """As of 256 channels at 2 x 2, of 3 x 3 taps: far fewer patches than rows, all much alike."""
    rng = np.random.default_rng(0)
    rows = np.maximum(np.multiply.outer(rng.standard_normal(170), rng.standard_normal(2304)), 0)
    rows -= rows.mean(0)
    gram = (rows.T @ rows / len(rows)).astype(np.float32)
    gram[np.diag_indices_from(gram)] += 1e-5 * np.trace(gram) / len(gram)
    right = gram[:, :3] / np.float32(np.trace(gram))
    solved = Cholesky(gram).solve(right)
    assert np.abs(gram @ solved - right).max() <= 0.05 * np.abs(right).max()
    assert solved.dtype == np.float32
