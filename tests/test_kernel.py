"""SeparableKernel: a frozen value; and the certificate of its error, against exact rational arithmetic."""

from __future__ import annotations

import copy
import itertools
import math
import pickle
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from separable.kernel import ErrorBounds, SeparableKernel
from separable.kernel.bounds import certified_error

SOBEL = [[[1, 2, 1], [-1, 0, 1]]]

moderate = st.floats(-1e3, 1e3, allow_subnormal=False)


@st.composite
def term_lists(draw, elements=moderate):
    shape = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    rank = draw(st.integers(1, 3))
    return [[draw(hnp.arrays(np.float64, n, elements=elements)) for n in shape] for _ in range(rank)]


def exact_dense(terms):
    """The sum of outer products as a dict from index to Fraction."""
    shape = [len(taps) for taps in terms[0]]
    return {
        index: sum(
            math.prod(Fraction(float(taps[i])) for taps, i in zip(term, index, strict=True)) for term in terms
        )
        for index in itertools.product(*map(range, shape))
    }


# -- the value ---------------------------------------------------------------------------------------


def test_attributes():
    k = SeparableKernel([[[1, 2, 1], [-1, 0, 1], [3]], [[0, 1, 0], [0, 1, 0], [1]]])
    assert (k.shape, k.ndim, k.rank, k.size) == ((3, 3, 1), 3, 2, 9)
    assert k.macs == 2 * (3 + 3)  # the single tap costs nothing
    assert k.error == ErrorBounds(0.0, 0.0, 0.0)
    assert all(taps.dtype == np.float64 for term in k.terms for taps in term)
    assert SeparableKernel([[[2.0], [3.0]]]).macs == 1


def test_single_tap_scales():
    k = SeparableKernel([[[1, 2], [3]]])
    np.testing.assert_array_equal(k.dense(), [[3], [6]])


@given(term_lists())
def test_dense_is_the_sum_of_outer_products(terms):
    k = SeparableKernel(terms)
    dense = k.dense()
    assert dense.shape == k.shape
    assert dense.dtype == np.float64
    for index, value in exact_dense(terms).items():
        scale = sum(math.prod(abs(taps[i]) for taps, i in zip(t, index, strict=True)) for t in terms)
        error = abs(Fraction(float(dense[index])) - value)
        assert error <= Fraction(scale) * Fraction(2.0**-51) + Fraction(1e-300)  # or it underflows


@given(term_lists())
def test_adjoint_flips_every_axis(terms):
    k = SeparableKernel(terms, error=ErrorBounds(1.0, 0.5, 0.25))
    np.testing.assert_array_equal(k.adjoint().dense(), np.flip(k.dense()))
    assert k.adjoint().adjoint() == k
    assert k.adjoint().error == k.error


@given(term_lists())
def test_norm_l1(terms):
    k = SeparableKernel(terms)
    expected = np.abs(k.dense()).sum()
    assert k.norm_l1 == pytest.approx(expected, rel=1e-13)
    assert k.norm_l1 == k.norm_l1


def test_dense_and_norm_do_not_overflow_or_vanish_on_the_way():
    k = SeparableKernel([[[1e200, 2e200], [1e200], [1e-300], [1e-100]]])
    np.testing.assert_allclose(k.dense().ravel(), [1.0, 2.0], rtol=1e-15)
    assert k.norm_l1 == pytest.approx(3.0, rel=1e-15)


def test_frozen():
    source = np.array([1.0, 2.0, 1.0])
    k = SeparableKernel([[source, source]])
    source[:] = 7
    np.testing.assert_array_equal(k.terms[0][0], [1, 2, 1])
    for name in ("terms", "rank", "error", "_hash", "new"):
        with pytest.raises(AttributeError, match="frozen"):
            setattr(k, name, 1)
    with pytest.raises(AttributeError, match="frozen"):
        del k.terms
    with pytest.raises(ValueError, match="read-only"):
        k.terms[0][0][0] = 5
    with pytest.raises(ValueError, match="WRITEABLE"):
        k.terms[0][0].flags.writeable = True
    with pytest.raises(AttributeError):
        k.error.l1 = 3.0


def test_equality_and_hash_by_value():
    a, b = SeparableKernel(SOBEL), SeparableKernel([[np.array([1.0, 2, 1]), (-1, -0.0, 1)]])
    assert a == b
    assert hash(a) == hash(b)
    assert len({a, b}) == 1
    different = [
        SeparableKernel([[[1, 2, 1], [-1, 0, 2]]]),
        SeparableKernel(SOBEL, error=ErrorBounds(1.0, 1.0, 1.0)),
        SeparableKernel(SOBEL * 2),
        SeparableKernel([[[1, 2, 1, -1], [0, 1]]]),  # the same bytes in another shape
    ]
    assert all(a != other for other in different)
    assert a != "kernel"


@pytest.mark.parametrize("clone", [copy.copy, copy.deepcopy, lambda k: pickle.loads(pickle.dumps(k))])
def test_copies_survive(clone):
    k = SeparableKernel(SOBEL, error=ErrorBounds(0.5, 0.25, 0.125))
    other = clone(k)
    assert other == k
    assert hash(other) == hash(k)
    assert other.error == k.error
    assert not other.terms[0][0].flags.writeable


def test_repr_reads_well():
    k = SeparableKernel(SOBEL, error=ErrorBounds(0.5, 0.00125, 0.1))
    assert repr(k) == "SeparableKernel(shape=(3, 3), rank=1, macs=6, relative_l1=0.00125)"


@pytest.mark.parametrize(
    ("terms", "error", "message"),
    [
        (3, TypeError, r"`terms` is int; expected a sequence of terms"),
        ([1, 2, 1], TypeError, r"`terms\[0\]` is 1; expected a term"),
        ([[1, 2, 1], [1, 0, -1]], ValueError, r"`terms\[0\]\[0\]` has 0 dimensions.*\[\[taps0, taps1\]\]"),
        ([[np.ones((3, 3))]], ValueError, r"has 2 dimensions.*separable\.factor"),
        ([], ValueError, r"`terms` is empty"),
        ([[]], ValueError, r"taps for 0 axes; expected 1 to 8"),
        ([[[1]] * 9], ValueError, r"taps for 9 axes; expected 1 to 8"),
        ([[[1, 2], []]], ValueError, r"`terms\[0\]\[1\]` is empty"),
        ([[[1, 2], [1, np.nan]]], ValueError, r"`terms\[0\]\[1\]\[1\]` is nan; expected finite"),
        ([[[1, -np.inf]]], ValueError, r"`terms\[0\]\[0\]\[1\]` is -inf"),
        ([[[1, 2j]]], TypeError, r"dtype complex128; expected real"),
        ([[["a", "b"]]], TypeError, r"expected real"),
        ([[[None, 1]]], TypeError, r"dtype object; expected real"),
        ([[[1, 2], [3]], [[1, 2], [3, 4]]], ValueError, r"`terms\[1\]` has tap counts \(2, 2\).*\(2, 1\)"),
        ([[[1, 2], [3]], [[1, 2]]], ValueError, r"`terms\[1\]` has tap counts \(2,\)"),
        ([[[1e200], [1e200]]], ValueError, r"`terms\[0\]` overflows"),
        (SeparableKernel(SOBEL), TypeError, r"`terms` is SeparableKernel; expected a sequence"),
    ],
)
def test_bad_terms_are_named(terms, error, message):
    with pytest.raises(error, match=message):
        SeparableKernel(terms)


def test_bad_error_is_named():
    with pytest.raises(TypeError, match="`error` is float; expected ErrorBounds"):
        SeparableKernel(SOBEL, error=0.5)


def test_needs_numpy_only():
    code = (
        "import sys; from separable.kernel import SeparableKernel;"
        "import separable.factor, separable.families;"
        "print(sorted({'scipy', 'torch', 'onnx'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# -- the certificate ---------------------------------------------------------------------------------


def exact_distance(weights, terms):
    """||k - k^||_1, ||k||_1, and the squares of the l2 norms, as Fractions."""
    approximation = exact_dense(terms)
    kernel = {index: Fraction(float(weights[index])) for index in np.ndindex(weights.shape)}
    residual = [kernel[index] - approximation[index] for index in kernel]
    return (
        sum(map(abs, residual)),
        sum(map(abs, kernel.values())),
        sum(r * r for r in residual),
        sum(v * v for v in kernel.values()),
    )


def assert_certified(weights, terms, error):
    l1, norm_l1, l2, norm_l2 = exact_distance(weights, terms)
    assert l1 <= Fraction(error.l1)
    assert l1 <= Fraction(error.relative_l1) * norm_l1
    assert l2 <= Fraction(error.relative_l2) ** 2 * norm_l2


@st.composite
def near_kernels(draw):
    """A sum of terms, and weights that are that sum rounded, off by noise, or unrelated; at any scale."""
    terms = draw(term_lists(elements=st.floats(-1, 1, width=32)))
    noise = draw(st.sampled_from([0.0, 1e-17, 1e-9, 1.0]))
    weights = SeparableKernel(terms).dense()
    weights = weights + noise * draw(hnp.arrays(np.float64, weights.shape, elements=moderate))
    exponent = draw(st.integers(-1070, 1000))
    half = exponent // 2
    if len(terms[0]) == 1:
        scaled = [[np.ldexp(term[0], exponent)] for term in terms]
    else:
        scaled = [[np.ldexp(term[0], half), np.ldexp(term[1], exponent - half), *term[2:]] for term in terms]
    return np.ldexp(weights, exponent), scaled


@given(near_kernels())
@settings(max_examples=300)
def test_certificate_is_never_below_the_truth(case):
    weights, terms = case
    terms = SeparableKernel(terms).terms
    error = certified_error(weights, terms)
    if not weights.any():
        exact_zero = all(any(not taps.any() for taps in term) for term in terms)
        assert error.l1 == (0.0 if exact_zero else math.inf)
        return
    assert_certified(weights, terms, error)


def test_certificate_is_tight():
    rng = np.random.default_rng(3)
    weights = rng.standard_normal((5, 4, 3))
    terms = [[rng.standard_normal(n) for n in weights.shape] for _ in range(2)]
    error = certified_error(weights, terms)
    l1, norm_l1, l2, norm_l2 = exact_distance(weights, terms)
    assert Fraction(error.l1) <= l1 * Fraction(1 + 1e-12)
    assert Fraction(error.relative_l1) <= l1 / norm_l1 * Fraction(1 + 1e-12)
    assert Fraction(error.relative_l2) ** 2 <= l2 / norm_l2 * Fraction(1 + 1e-12)


def test_certificate_in_slabs_is_the_certificate(monkeypatch):
    rng = np.random.default_rng(4)
    weights = rng.standard_normal((7, 5))
    terms = [[rng.standard_normal(7), rng.standard_normal(5)]]
    whole = certified_error(weights, terms)
    monkeypatch.setattr("separable.kernel.bounds._SLAB_ELEMENTS", 10)
    parts = certified_error(weights, terms)
    assert parts.l1 == pytest.approx(whole.l1, rel=1e-15)
    assert parts.relative_l2 == pytest.approx(whole.relative_l2, rel=1e-15)


def test_certificate_of_huge_kernels_is_infinite_not_wrong():
    weights = np.full((40, 40), 1.7e308)
    error = certified_error(weights, [[np.zeros(40), np.zeros(40)]])
    assert error.l1 == math.inf
    assert error.relative_l1 == pytest.approx(1.0, rel=1e-12)
    assert error.relative_l1 >= 1.0


# -- rounding, and the transfer function -------------------------------------------------------------


@given(near_kernels(), st.sampled_from(["float32", "float16"]))
@settings(max_examples=60)
def test_the_certificate_holds_after_rounding(case, dtype):
    weights, terms = case
    kernel = SeparableKernel(terms)
    k = SeparableKernel(terms, error=certified_error(weights, kernel.terms))
    if max(np.abs(taps).max() for term in k.terms for taps in term) > 0.999 * np.finfo(dtype).max:
        return
    rounded = k.rounded(dtype)
    for term, before in zip(rounded.terms, k.terms, strict=True):
        for taps, own in zip(term, before, strict=True):
            np.testing.assert_array_equal(taps, own.astype(dtype))
    if weights.any() and not math.isinf(rounded.error.relative_l1):
        assert_certified(weights, rounded.terms, rounded.error)
    elif not weights.any():
        assert rounded.error.l1 >= k.error.l1


def test_rounding_adds_what_it_costs_and_no_more():
    rng = np.random.default_rng(0)
    k = SeparableKernel([[rng.standard_normal(9), rng.standard_normal(7)] for _ in range(2)])
    rounded = k.rounded("float32")
    l1 = exact_distance(k.dense(), rounded.terms)[0]
    assert l1 <= Fraction(rounded.error.l1) <= l1 * Fraction(1 + 1e-6)
    assert 0 < rounded.error.relative_l1 < 2.0**-22
    assert k.rounded("float64") == k
    again = rounded.rounded("float32")
    assert again is rounded


def test_shared_taps_stay_shared_after_rounding():
    shared = np.random.default_rng(1).standard_normal(5)
    k = SeparableKernel([[shared, [1, 2, 3], [0.1, 1]], [shared, [2, 0, 1], [1, 0.3]]])
    assert k.rounded("float32").macs == k.macs == 5 + 2 * 3 + 2 * 2


@pytest.mark.parametrize(
    ("dtype", "error", "message"),
    [("int16", TypeError, "floating-point"), ("complex64", TypeError, "floating-point")],
)
def test_taps_are_rounded_to_real_dtypes_only(dtype, error, message):
    with pytest.raises(error, match=message):
        SeparableKernel(SOBEL).rounded(dtype)


def test_taps_beyond_a_dtype_are_refused():
    with pytest.raises(ValueError, match="overflow in float32"):
        SeparableKernel([[[1e200], [1e-200]]]).rounded("float32")


@given(
    hnp.arrays(np.float64, hnp.array_shapes(max_dims=3, max_side=6), elements=moderate),
    st.integers(-900, 900),
)
@settings(max_examples=60)
def test_no_frequency_is_off_by_more_than_the_spectral_bound(weights, exponent):
    scaled = np.ldexp(weights, exponent)
    assume(np.array_equal(np.ldexp(scaled, -exponent), weights))  # nothing was lost at the end of the range
    assume(float(np.abs(scaled).max()) == 0 or float(np.abs(scaled).max()) > 1e-290)
    terms = [[np.zeros(n) for n in weights.shape]]  # the residual is the kernel itself
    error = certified_error(scaled, SeparableKernel(terms).terms)
    fine = [7 * n + 5 for n in weights.shape]
    gains = np.abs(np.fft.fftn(weights, fine, axes=range(weights.ndim)))
    bound = math.ldexp(error.spectral, -exponent)
    assert gains.max() <= bound * (1 + 1e-12)
    assert error.spectral <= error.l1
    assert bound <= gains.max() * 1.1**weights.ndim + 1e-300


def test_the_spectral_bound_of_large_kernels_is_the_l1_norm():
    weights = np.ones((1100, 1000))
    weights[::2] = -1
    error = certified_error(weights, SeparableKernel([[np.zeros(1100), np.zeros(1000)]]).terms)
    assert error.spectral == error.l1
    assert ErrorBounds(0.5, 0.1, 0.1).spectral == 0.5
