"""factor and is_separable: the fewest terms, exact where exact is possible, certified everywhere."""

from __future__ import annotations

import importlib
import itertools
import math
import pickle
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.special import j1

from separable._base.errors import NotSeparableError
from separable.factor import factor, is_separable
from separable.factor.algorithms.staged import svd_bytes
from separable.kernel.value import ErrorBounds, SeparableKernel

# The module: the package's attribute of that name is the verb.
FACTOR = importlib.import_module("separable.factor.search")

ROWS, COLUMNS = np.meshgrid(np.arange(-15.0, 16), np.arange(-15.0, 16), indexing="ij")
SQUARES = ROWS**2 + COLUMNS**2
# What a factorisation in float64 leaves of a kernel of a few hundred elements.
ROUNDING = 1e-13


def rotated_gaussian(degrees):
    angle = math.radians(degrees)
    u = COLUMNS * math.cos(angle) + ROWS * math.sin(angle)
    v = ROWS * math.cos(angle) - COLUMNS * math.sin(angle)
    return np.exp(-(u**2) / 50 - v**2 / 8)


def airy():
    q = np.sqrt(SQUARES) * 3.8317 / 6  # first dark ring at 6 pixels
    amplitude = np.divide(2 * j1(q), q, out=np.ones_like(q), where=q > 0)
    return amplitude**2


def exact_l1(weights, kernel):
    total = Fraction(0)
    for index in np.ndindex(weights.shape):
        value = Fraction(float(weights[index]))
        for term in kernel.terms:
            value -= math.prod(Fraction(float(taps[i])) for taps, i in zip(term, index, strict=True))
        total += abs(value)
    return total


def random_kernel(shape, rank, seed=0):
    rng = np.random.default_rng(seed)
    return SeparableKernel([[rng.standard_normal(n) for n in shape] for _ in range(rank)]).dense()


# -- the terms that known kernels need ---------------------------------------------------------------

TOLERANCES = (3e-2, 1e-2, 1e-3, 1e-6)
TABLE = {
    "gaussian": (np.exp(-SQUARES / 18), (1, 1, 1, 1)),
    "laplacian of gaussian": ((SQUARES - 32) * np.exp(-SQUARES / 32), (2, 2, 2, 2)),
    "gabor at 30 degrees": (
        np.exp(-SQUARES / 32) * np.cos(0.8 * (COLUMNS * math.cos(math.pi / 6) + ROWS / 2)),
        (2, 2, 2, 2),
    ),
    "airy": (airy(), (3, 4, 6, 8)),
    "5:2 gaussian at 45 degrees": (rotated_gaussian(45), (5, 7, 10, 17)),
    "disk r = 12": ((SQUARES < 144).astype(float), (6, 7, 7, 7)),
}


@pytest.mark.parametrize("name", TABLE)
def test_terms_needed_at_each_tolerance(name):
    weights, expected = TABLE[name]
    weights = weights / np.abs(weights).sum()
    for tol, most in zip(TOLERANCES, expected, strict=True):
        k = factor(weights, tol=tol)
        assert k.rank <= most
        assert k.error.relative_l1 <= tol
        assert np.abs(k.dense() - weights).sum() <= tol * (1 + 1e-12)
        if k.rank > 1:  # and one term fewer is not enough
            assert factor(weights, rank=k.rank - 1).error.relative_l1 > tol


def test_disk_is_exact_at_seven_terms():
    k = factor(SQUARES < 144)
    assert k.rank == 7
    assert k.error.relative_l1 < ROUNDING


def test_noise_needs_a_noise_floor():
    gaussian = np.exp(-SQUARES / 18)
    noise = np.random.default_rng(0).standard_normal(gaussian.shape)
    weights = gaussian / gaussian.sum() + 0.1 * noise / np.abs(noise).sum()
    assert factor(weights, tol=0.2).rank == 1
    assert factor(weights, tol=1e-2).rank > 20


# -- rank one ----------------------------------------------------------------------------------------


def test_default_tolerance_is_one_in_a_million():
    weights = np.outer([1.0, 2, 1], [1.0, 3, 1])
    bump = np.zeros_like(weights)
    bump[0, 2] = np.abs(weights).sum()
    assert factor(weights + 0.3e-6 * bump).rank == 1
    assert factor(weights + 30e-6 * bump).rank == 2
    assert is_separable(weights + 0.3e-6 * bump)
    assert not is_separable(weights + 30e-6 * bump)
    assert is_separable(weights + 30e-6 * bump, tol=1e-4)


def test_sobel_gives_integer_taps():
    k = factor([[1, 0, -1], [2, 0, -2], [1, 0, -1]])
    np.testing.assert_array_equal(k.terms[0][0], [1, 2, 1])
    np.testing.assert_array_equal(k.terms[0][1], [1, 0, -1])
    assert k.error == ErrorBounds(0.0, 0.0, 0.0)


@given(
    st.lists(hnp.arrays(np.int64, st.integers(1, 5), elements=st.integers(-40, 40)), min_size=2, max_size=5),
    st.integers(-1074, 900),
)
def test_integer_kernels_are_exact_at_every_scale(taps, exponent):
    integers = SeparableKernel([taps]).dense()
    weights = np.ldexp(integers, exponent)  # a power of two that underflows makes subnormals: exact too
    k = factor(weights, tol=0, rank=1)
    assert k.error == ErrorBounds(0.0, 0.0, 0.0)
    assert exact_l1(weights, k) == 0
    if exponent == 0:
        assert all(np.array_equal(line, np.round(line)) for line in k.terms[0])


@pytest.mark.parametrize("size", [3, 5, 7])
def test_means_are_exact(size):
    weights = np.full((size,) * 3, 1 / size**3)
    k = factor(weights, tol=0, rank=1)
    assert k.error.l1 == 0.0
    np.testing.assert_array_equal(k.dense(), weights)


def test_taps_that_only_look_like_integers_stay_in_the_range_of_float32():
    # float64's 1/3 is an integer times a power of two as well, one near 2**53.
    k = factor(np.outer([1.0, 2.0, 1.0], [1.0, 1 / 3, 1.0]), tol=0, rank=1)
    assert k.error.l1 == 0.0
    assert all(1e-3 < np.abs(taps).max() < 1e3 for taps in k.terms[0])


@given(st.data(), st.integers(2, 5), st.integers(0, 2**32))
def test_outer_products_are_recognised(data, ndim, seed):
    shape = data.draw(st.tuples(*[st.integers(1, 5)] * ndim))
    weights = random_kernel(shape, 1, seed)
    k = factor(weights)
    assert k.rank == 1
    assert k.shape == shape
    assert k.error.relative_l1 <= 16 * ndim * np.finfo(float).eps
    np.testing.assert_allclose(k.dense(), weights, rtol=1e-14)
    assert is_separable(weights, tol=1e-14)


@pytest.mark.parametrize("scale", [1e-300, 1e-150, 1e-20, 1.0, 1e20, 1e150, 1e300])
@pytest.mark.parametrize("name", TABLE)
def test_scale_does_not_matter(name, scale):
    weights, _ = TABLE[name]
    weights = weights / np.abs(weights).sum()
    tol = 1e-3
    plain, scaled = factor(weights, tol=tol), factor(weights * scale, tol=tol)
    assert scaled.rank == plain.rank
    assert scaled.error.relative_l1 == pytest.approx(plain.error.relative_l1, rel=1e-6, abs=1e-14)
    assert scaled.error.l1 == pytest.approx(plain.error.l1 * scale, rel=1e-6, abs=1e-14 * scale)
    np.testing.assert_allclose(scaled.dense() / scale, plain.dense(), rtol=0, atol=1e-14)
    assert is_separable(weights * scale) is is_separable(weights)


def test_subnormal_kernels():
    sobel = np.array([[1, 0, -1], [2, 0, -2], [1, 0, -1]]) * 5e-324
    assert factor(sobel, tol=0, rank=1).error.l1 == 0.0
    saddle = np.array([[2.0, 1, 0], [1, 0, 1], [0, 1, 2]]) * 5e-324
    k = factor(saddle, rank=1)
    assert not is_separable(saddle)
    assert k.error.l1 >= exact_l1(saddle, k) > 0


def test_the_largest_magnitudes_of_float64():
    weights = np.array([[1.7e308, -1.7e308], [1.7e308, 1.7e308]])
    k = factor(weights)
    assert k.rank == 2
    np.testing.assert_allclose(k.dense(), weights, rtol=1e-15)


# -- degenerate shapes -------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(5,), (5, 1), (1, 5), (1, 1, 4, 1), (1,), (1, 1, 1)])
def test_a_single_line_is_itself(shape):
    weights = np.random.default_rng(0).standard_normal(shape)
    k = factor(weights, tol=0, rank=1)
    assert (k.rank, k.shape, k.error.l1) == (1, shape, 0.0)
    np.testing.assert_array_equal(k.dense(), weights)
    assert k.macs == max(weights.size, 1)
    assert is_separable(weights, tol=0)


def test_axes_of_length_one_do_not_count():
    weights = random_kernel((4, 1, 5), 2)
    k = factor(weights)
    assert (k.rank, k.shape) == (2, (4, 1, 5))
    np.testing.assert_array_equal(k.terms[0][1], [1.0])
    np.testing.assert_allclose(k.dense(), weights, rtol=0, atol=1e-14)


@pytest.mark.parametrize("shape", [(3,), (3, 4), (2, 3, 4)])
def test_zero_kernel(shape):
    k = factor(np.zeros(shape), tol=0, rank=1)
    assert (k.rank, k.shape, k.error) == (1, shape, ErrorBounds(0.0, 0.0, 0.0))
    assert not k.dense().any()
    assert is_separable(np.zeros(shape))


def test_a_single_sample_is_exact():
    weights = np.zeros((3, 4, 2))
    weights[2, 1, 0] = -0.1
    k = factor(weights, tol=0, rank=1)
    np.testing.assert_array_equal(k.dense(), weights)


# -- low rank ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "rank"), [((6, 9), 1), ((6, 9), 3), ((9, 6), 6), ((3, 40), 2)])
def test_two_dimensions_are_the_svd(shape, rank):
    weights = random_kernel(shape, min(shape), 3)
    k = factor(weights, rank=rank)
    tail = np.linalg.svd(weights, compute_uv=False)[rank:]
    assert k.rank == rank
    expected = np.linalg.norm(tail) / np.linalg.norm(weights)
    assert k.error.relative_l2 == pytest.approx(expected, rel=1e-9, abs=1e-14)


def test_scale_and_sign_are_shared_out():
    # A kernel beyond float32's range has taps within it, and signs are where they are looked for.
    weights = random_kernel((5, 6), 3, 4) * 1e-60
    for rows, columns in factor(weights).terms:
        assert 1e-38 < np.abs(rows).max() < 1e-22
        assert 1e-38 < np.abs(columns).max() < 1e-22
        assert columns[np.argmax(np.abs(columns))] > 0


def test_rank_beyond_the_kernels_own_adds_no_noise():
    weights = random_kernel((8, 9), 3, 1)
    k = factor(weights, rank=100)
    assert k.rank == 3
    assert k.error.relative_l1 < ROUNDING
    assert factor(np.outer([1, 2, 3], [1, 1, 4]), rank=2).rank == 1


def test_zero_tolerance_stops_at_rounding():
    weights = random_kernel((8, 9), 3, 1)
    k = factor(weights, tol=0)
    assert k.rank == 3
    assert k.error.relative_l1 < ROUNDING
    full = random_kernel((6, 6), 6, 2)
    assert factor(full, tol=1e-18).rank == 6


@pytest.mark.parametrize("shape", [(4, 5, 6), (7, 2, 3), (3, 2, 4, 3), (2, 3, 2, 2, 3)])
def test_more_dimensions_at_full_rank_are_exact(shape):
    weights = np.random.default_rng(1).standard_normal(shape)
    k = factor(weights, tol=0)
    assert k.error.relative_l1 < ROUNDING
    assert k.rank <= math.prod(sorted(shape)[:-1])
    np.testing.assert_allclose(k.dense(), weights, rtol=0, atol=1e-12)


def test_three_dimensions_split_in_the_cheapest_order():
    # Rank 1 across axis 1, rank 3 in the plane of the others: only a split that starts there, or
    # keeps to the plane, finds 3 terms.
    for axis in range(3):
        plane = random_kernel((6, 7), 3, axis)
        weights = np.moveaxis(np.multiply.outer(plane, np.array([1.0, 2.0, 0.5])), -1, axis)
        assert factor(weights).rank == 3


@pytest.mark.parametrize("shape", [(3, 4, 5), (2, 3, 4, 3)])
def test_the_order_of_the_axes_does_not_matter(shape):
    weights = random_kernel(shape, 2, 5)
    ranks = {factor(np.transpose(weights, order)).rank for order in itertools.permutations(range(len(shape)))}
    assert len(ranks) == 1
    assert ranks.pop() <= 2 ** (len(shape) - 1)


def test_more_terms_are_never_worse_in_three_dimensions():
    weights = np.random.default_rng(2).standard_normal((4, 5, 3))
    errors = [factor(weights, rank=r).error.relative_l2 for r in (1, 2, 4, 8, 12)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < ROUNDING


def test_rank_one_in_three_dimensions_is_refined():
    # The least-squares fit to noisy weights beats the lines through their largest element by far.
    rng = np.random.default_rng(7)
    clean = SeparableKernel([[1 + rng.random(n) for n in (5, 6, 7)]]).dense()
    weights = clean + 0.1 * rng.standard_normal(clean.shape)
    k = factor(weights, rank=1)
    noise = np.linalg.norm(weights - clean) / np.linalg.norm(weights)
    assert k.error.relative_l2 < noise
    pivot = np.unravel_index(np.argmax(weights), weights.shape)
    lines = [weights[(*pivot[:a], slice(None), *pivot[a + 1 :])] for a in range(3)]
    crossed = SeparableKernel([lines]).dense() / weights[pivot] ** 2
    assert k.error.relative_l2 < 0.8 * np.linalg.norm(weights - crossed) / np.linalg.norm(weights)
    # At a least-squares optimum, each axis's taps are the weights seen through the others.
    for axis, letters in enumerate(("j,k->i", "i,k->j", "i,j->k")):
        others = [taps / np.linalg.norm(taps) for a, taps in enumerate(k.terms[0]) if a != axis]
        seen = np.einsum(f"ijk,{letters}", weights, *others)
        taps = k.terms[0][axis]
        along = abs(seen @ taps) / np.linalg.norm(seen) / np.linalg.norm(taps)
        assert along == pytest.approx(1.0, abs=1e-12)


# -- parity: what the filters fold -------------------------------------------------------------------


def parity(taps):
    return 1 if np.array_equal(taps, taps[::-1]) else -1 if np.array_equal(taps, -taps[::-1]) else 0


@pytest.mark.parametrize("name", ["airy", "5:2 gaussian at 45 degrees", "gabor at 30 degrees", "disk r = 12"])
def test_symmetric_kernels_get_symmetric_taps(name):
    weights, _ = TABLE[name]
    for tol in (1e-2, 1e-6):
        for rows, columns in factor(weights, tol=tol).terms:
            assert parity(rows) * parity(columns) == 1  # even through the centre


def test_parity_survives_equal_singular_values():
    # Singular values 1 and 1, one vector even and one odd: an SVD may return any mixture.
    even, odd = np.array([1, 0, 1]) / math.sqrt(2), np.array([1, 0, -1]) / math.sqrt(2)
    k = factor(np.outer(even, even) + np.outer(odd, odd))
    assert sorted(parity(rows) for rows, _ in k.terms) == [-1, 1]


@pytest.mark.parametrize("signs", list(itertools.product([1, -1], repeat=3)))
def test_parity_along_each_axis_in_three_dimensions(signs):
    weights = np.random.default_rng(1).standard_normal((5, 4, 6))
    for axis, sign in enumerate(signs):
        weights = weights + sign * np.flip(weights, axis)
    for term in factor(weights).terms:
        assert tuple(parity(taps) for taps in term) == signs


def test_parity_through_the_centre_in_three_dimensions():
    weights = np.random.default_rng(1).standard_normal((4, 5, 3))
    weights = weights - np.flip(weights)
    k = factor(weights)
    assert {math.prod(parity(taps) for taps in term) for term in k.terms} == {-1}
    assert k.error.relative_l1 < ROUNDING
    (term,) = factor(weights, rank=1).terms
    assert math.prod(parity(taps) for taps in term) == -1
    assert factor(weights, rank=1).error.relative_l2 < 1


# -- the certificate ---------------------------------------------------------------------------------


@st.composite
def kernels(draw):
    shape = draw(st.lists(st.integers(1, 5), min_size=1, max_size=3))
    elements = draw(st.sampled_from([st.integers(-9, 9), st.floats(-1, 1, width=16), st.floats(-1, 1)]))
    weights = np.array([draw(elements) for _ in range(math.prod(shape))], np.float64).reshape(shape)
    return np.ldexp(weights, draw(st.sampled_from([0, -1000, 900, -1060])))


@given(kernels(), st.integers(1, 4))
@settings(max_examples=80)
def test_error_is_never_below_the_truth(weights, rank):
    k = factor(weights, rank=rank)
    l1 = exact_l1(weights, k)
    norm = sum(abs(Fraction(float(w))) for w in weights.flat)
    assert l1 <= Fraction(k.error.l1)
    assert l1 <= Fraction(k.error.relative_l1) * norm
    assert k.rank <= rank


@given(st.integers(0, 2**32), st.integers(1, 3))
def test_no_output_is_further_off_than_l1_times_the_largest_input(seed, rank):
    rng = np.random.default_rng(seed)
    weights = rng.standard_normal((5, 7))
    k = factor(weights, rank=rank)
    residual = (weights - k.dense()).astype(np.longdouble)
    for signs in rng.choice([-1.0, 1.0], (20, *weights.shape)):
        assert abs((residual * signs).sum()) <= k.error.l1
    worst = np.sign(residual)  # this input reaches the bound
    assert (residual * worst).sum() == pytest.approx(k.error.l1, rel=1e-9)


@given(kernels(), st.sampled_from([0.5, 1e-1, 1e-3, 1e-9]))
@settings(max_examples=50)
def test_tolerance_is_kept(weights, tol):
    k = factor(weights, tol=tol)
    assert k.error.relative_l1 <= tol
    if k.rank == 1:
        assert is_separable(weights, tol=tol)


# -- asking for both ---------------------------------------------------------------------------------


def test_both_arguments_raise_with_numbers_and_the_fix():
    weights = random_kernel((7, 7), 3, 2)
    assert factor(weights, tol=1e-6, rank=5).rank == 3
    best = factor(weights, rank=2).error.relative_l1
    with pytest.raises(NotSeparableError) as caught:
        factor(weights, tol=1e-6, rank=2)
    problem = caught.value
    assert isinstance(problem, ValueError)
    assert (problem.relative_l1, problem.tol, problem.rank) == (best, 1e-6, 2)
    assert str(problem) == (
        f"kernel (7, 7) is not rank 2: relative l1 error {best:.3g} > tol 1e-06. Pass rank=3 or raise tol."
    )
    copied = pickle.loads(pickle.dumps(problem))
    assert str(copied) == str(problem)
    assert (copied.relative_l1, copied.tol, copied.rank) == (best, 1e-6, 2)


def test_a_tolerance_below_rounding_is_said_to_be_out_of_reach():
    weights = np.outer([0.1, 0.7], [0.3, 0.9, 0.123])
    with pytest.raises(NotSeparableError, match="No rank reaches it in float64; raise tol to "):
        factor(weights, tol=1e-20, rank=1)


# -- bad input ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weights", "error", "message"),
    [
        ([[1.0, np.nan]], ValueError, r"`weights\[0, 1\]` is nan; expected finite"),
        ([1.0, -np.inf, 2], ValueError, r"`weights\[1\]` is -inf"),
        (3.0, ValueError, r"0 dimensions; expected 1 to 8"),
        (np.ones((1,) * 9), ValueError, r"9 dimensions; expected 1 to 8"),
        (np.ones((3, 0)), ValueError, r"shape \(3, 0\) is empty"),
        ([[1, 2j]], TypeError, r"complex128; expected real numbers: factor weights\.real"),
        (np.array([[1, None]]), TypeError, r"dtype object"),
        ([["a", "b"]], TypeError, r"dtype <U1"),
        (np.array(["2020-01-01"], "M8[D]"), TypeError, r"dtype datetime64"),
        (np.ma.masked_array([[1.0, 2.0]], [[True, False]]), TypeError, r"masked array"),
        ([[2**53 + 1, 1]], ValueError, r"integers beyond 2\*\*53"),
        (SeparableKernel([[[1], [1]]]), TypeError, r"pass kernel\.dense\(\)"),
        pytest.param(
            np.ones((2, 2), np.longdouble),
            TypeError,
            r"expected at most float64",
            marks=pytest.mark.skipif(np.longdouble(1).itemsize == 8, reason="long double is float64 here"),
        ),
    ],
)
def test_bad_weights_are_named(weights, error, message):
    with pytest.raises(error, match=message):
        factor(weights)
    with pytest.raises(error, match=message):
        is_separable(weights)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"tol": -1e-6}, ValueError, r"`tol` is -1e-06; expected a finite number >= 0"),
        ({"tol": math.nan}, ValueError, r"`tol` is nan"),
        ({"tol": math.inf}, ValueError, r"`tol` is inf"),
        ({"tol": "small"}, TypeError, r"`tol` is 'small'; expected a number"),
        ({"rank": 0}, ValueError, r"`rank` is 0; expected at least 1"),
        ({"rank": 1.5}, TypeError, r"`rank` is 1.5; expected an integer"),
    ],
)
def test_bad_arguments_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        factor(np.ones((2, 2)), **arguments)


@pytest.mark.parametrize("dtype", ["?", "i1", "u2", ">i4", "f2", ">f4", "f8", "i8"])
def test_real_dtypes_are_taken(dtype):
    weights = np.array([[1, 0, 1], [1, 0, 1]]).astype(dtype)
    np.testing.assert_array_equal(factor(weights).dense(), weights.astype(float))


def test_input_is_not_changed():
    weights = random_kernel((4, 5), 2)
    weights.flags.writeable = False
    before = weights.copy()
    factor(weights[::-1, ::2])
    np.testing.assert_array_equal(weights, before)


def test_an_svd_beyond_the_memory_limit_is_refused(monkeypatch):
    monkeypatch.setattr(FACTOR, "SVD_BYTES", 1000)
    monkeypatch.setattr(np.linalg, "svd", None)
    weights = random_kernel((9, 9), 2)
    with pytest.raises(ValueError, match=r"shape \(9, 9\) needs .* GiB for its SVD.*rank=1"):
        factor(weights)
    assert factor(random_kernel((9, 9), 1)).rank == 1  # no SVD needed
    assert factor(weights, tol=10.0).rank == 1
    assert not is_separable(weights)
    with pytest.raises(NotSeparableError, match="too large to say which rank is"):
        factor(weights, tol=1e-6, rank=1)
    # Rank one comes from alternating least squares then, which finds the SVD's leading term.
    expected = np.sqrt(1 - np.linalg.norm(weights, 2) ** 2 / np.linalg.norm(weights) ** 2)
    monkeypatch.undo()
    monkeypatch.setattr(FACTOR, "SVD_BYTES", 1000)
    assert factor(weights, rank=1).error.relative_l2 == pytest.approx(expected, rel=1e-6)


def test_large_kernels_are_refused_before_memory_is_taken():
    assert svd_bytes([31, 31]) < 1 << 20
    assert svd_bytes([8000, 8000]) > 2 << 30
    assert svd_bytes([64, 64, 64]) < 1 << 26


def test_rank_one_of_a_kernel_that_its_own_lines_are_orthogonal_to(monkeypatch):
    # Without an SVD to start from: the lines through [0, 0, 0, 0] give no step of the refinement.
    monkeypatch.setattr(FACTOR, "SVD_BYTES", 0)
    weights = np.zeros((2, 4, 4, 4))
    for index in itertools.product(range(4), repeat=3):
        weights[(0, *index)] = 1 if sum(i // 2 for i in index) < 2 else -1
    assert 0 < factor(weights, rank=1).error.relative_l1 < math.inf
