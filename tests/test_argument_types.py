"""Which types an argument takes: one rule for each, whatever was called before."""

from __future__ import annotations

import functools
import gc
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import separable as sp
import separable.ndimage as ndi

X = np.random.default_rng(0).random((9, 8)).astype(np.float32)
TAPS = np.ones((5, 5))
Call = Callable[[Any], Any]

WHOLE: dict[str, Call] = {
    "gaussian order": lambda v: sp.gaussian(X, 1.5, order=v),
    "gaussian radius": lambda v: sp.gaussian(X, 1.5, radius=v),
    "gaussian axes": lambda v: sp.gaussian(X, 1.5, axes=v),
    "gaussian threads": lambda v: sp.gaussian(X, 1.5, threads=v),
    "uniform size": lambda v: sp.uniform(X, v),
    "uniform origin": lambda v: sp.uniform(X, 5, origin=v),
    "correlate origin": lambda v: sp.correlate(X, TAPS, origin=v),
    "convolve axes": lambda v: sp.convolve(X, TAPS[0], axes=v),
    "plan origin": lambda v: sp.plan(TAPS, X.shape, origin=v),
    "plan axes": lambda v: sp.plan(TAPS[0], X.shape, axes=v),
    "plan shape": lambda v: sp.plan(TAPS[0], v, axes=0),
    "plan threads": lambda v: sp.plan(TAPS, X.shape, threads=v),
    "families order": lambda v: sp.families.gaussian(1.5, order=v),
    "families ndim": lambda v: sp.families.gaussian(1.5, ndim=v),
    "families size": lambda v: sp.families.box(v),
    "factor rank": lambda v: sp.factor(TAPS, rank=v),
}
REAL: dict[str, Call] = {
    "gaussian sigma": lambda v: sp.gaussian(X, v),
    "gaussian truncate": lambda v: sp.gaussian(X, 1.5, truncate=v),
    "gaussian spacing": lambda v: sp.gaussian(X, 1.5, spacing=v),
    "gaussian tol": lambda v: sp.gaussian(X, 1.5, tol=v),
    "gaussian cval": lambda v: sp.gaussian(X, 1.5, mode="constant", cval=v),
    "correlate cval": lambda v: sp.correlate(X, TAPS, mode="constant", cval=v),
    "correlate tol": lambda v: sp.correlate(X, TAPS, tol=v),
    "plan cval": lambda v: sp.plan(TAPS, X.shape, mode="constant", cval=v),
    "plan tol": lambda v: sp.plan(TAPS, X.shape, tol=v),
    "families sigma": lambda v: sp.families.gaussian(v),
    "families truncate": lambda v: sp.families.gaussian(1.5, truncate=v),
    "families radius": lambda v: sp.families.disk(v),
    "factor tol": lambda v: sp.factor(TAPS, tol=v),
}
ORDINAL: dict[str, Call] = {  # SciPy's rule for whole numbers takes bool
    "size": lambda v: ndi.uniform_filter1d(X, v),
    "axis": lambda v: ndi.sobel(X, axis=v),
    "origin": lambda v: ndi.correlate1d(X, TAPS[0], origin=v),
}
DROP_IN: dict[str, Call] = {
    **{f"ndimage {name}": call for name, call in ORDINAL.items()},
    "ndimage sigma": lambda v: ndi.gaussian_filter(X, v),
    "ndimage order": lambda v: ndi.gaussian_filter(X, 1.5, order=v),
    "ndimage radius": lambda v: ndi.gaussian_filter(X, 1.5, radius=v),
    "ndimage origins": lambda v: ndi.uniform_filter(X, 5, origin=v),
    "ndimage sizes": lambda v: ndi.uniform_filter(X, v),
    "ndimage axes": lambda v: ndi.gaussian_filter(X, 1.5, axes=v),
    "ndimage cval": lambda v: ndi.gaussian_filter(X, 1.5, mode="constant", cval=v),
    "ndimage weights": lambda v: ndi.correlate1d(X, (v, 1)),
    "ndimage kernel": lambda v: ndi.correlate(X, [[v, 1]], mode="constant"),
}
OF_AXES = ("order", "radius", "axes", "size", "origin", "sigma", "spacing")

INTS = [1, np.int64(1), np.uint8(1), np.array(1), np.array(1, np.int16)]
FLOATS = [1.0, np.float64(1), np.float32(1), np.array(1.0), Fraction(1), Decimal(1)]
NEITHER = [True, np.True_, np.array(True), 1 + 0j, np.complex64(1), np.array(1j), "1", b"1", "11", object()]


@functools.cache
def caches() -> list[Any]:
    """Return every cache of the package, those within closures too."""
    for call in CALLS.values():  # whatever is loaded on first use
        outcome(call, 1)
    return [
        each
        for each in gc.get_objects()
        if type(each) is functools._lru_cache_wrapper and each.__module__.startswith("separable.")
    ]


def fresh() -> None:
    """Forget all that was remembered, as a new process would."""
    sp.clear_caches()
    for each in caches():
        each.cache_clear()


def outcome(call: Call, value: Any) -> str:
    try:
        found = call(value)
    except (TypeError, ValueError, RuntimeError) as error:  # the last from SciPy
        return type(error).__name__
    return found.dtype.name if isinstance(found, np.ndarray) else "accepted"


@pytest.mark.parametrize("name", WHOLE)
def test_whole_numbers(name: str) -> None:
    call = WHOLE[name]
    for value in INTS:
        call(value)
    for value in FLOATS + NEITHER:
        with pytest.raises(TypeError, match=f"{name.split()[1]}.*(whole number|integer)"):
            call(value)


@pytest.mark.parametrize("name", REAL)
def test_real_numbers(name: str) -> None:
    call = REAL[name]
    for value in INTS + FLOATS:
        call(value)
    for value in NEITHER:
        with pytest.raises(TypeError, match=f"{name.split()[1]}.*(number|complex)"):
            call(value)


@pytest.mark.parametrize(
    "name",
    [name for name in {**WHOLE, **REAL} if name.split()[1] in OF_AXES and name != "families radius"],
)
def test_the_same_within_sequences(name: str) -> None:
    call = {**WHOLE, **REAL}[name]
    number = 1 if "axes" in name else 2
    one = [0] if number == 1 else [1]
    for value in INTS if name in WHOLE else INTS + FLOATS:
        call([value] if number == 1 else (value, *one))
    for value in (FLOATS if name in WHOLE else []) + NEITHER:
        with pytest.raises((TypeError, ValueError), match=name.split()[1]):
            call([value] if number == 1 else (value, *one))


@pytest.mark.parametrize(("name", "fix"), [("uniform size", "pass 3"), ("families size", "pass 3")])
def test_a_whole_float_is_told_the_int(name: str, fix: str) -> None:
    with pytest.raises(TypeError, match=fix):
        WHOLE[name](3.0)
    with pytest.raises(TypeError, match=r"pass \(3, 5\)" if "uniform" in name else fix):
        WHOLE[name]((3.0, 5.0))


CALLS = {**WHOLE, **REAL, **DROP_IN}
# Equal to each other, all of them, alone and within a sequence.
ONES = [*INTS[:2], *FLOATS[:3], True, 1 + 0j, np.array(1), np.array(1.0), Fraction(1), "1"]
VALUES: list[Any] = [*ONES, *[(one, 1) for one in ONES]]


ALONE: dict[tuple[str, int], str] = {}  # what calls did that were the first of a process


@settings(max_examples=15, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(sorted(CALLS)), st.permutations(range(len(VALUES)))), min_size=1, max_size=3
    )
)
def test_what_was_called_before_does_not_matter(turns: list[tuple[str, list[int]]]) -> None:
    """Each call does what it does in a fresh process, whatever equal values came before."""
    wanted = {}
    for name, order in turns:
        for number in order:
            if (name, number) not in ALONE:
                fresh()
                ALONE[name, number] = outcome(CALLS[name], VALUES[number])
            wanted[name, number] = ALONE[name, number]
    fresh()
    for _ in range(2):
        for name, order in turns:
            for number in order:
                assert outcome(CALLS[name], VALUES[number]) == wanted[name, number], (name, VALUES[number])


@pytest.mark.parametrize("name", DROP_IN)
def test_the_drop_in_takes_what_scipy_takes(name: str) -> None:
    scipy = pytest.importorskip("scipy.ndimage")
    theirs: dict[str, Call] = {
        "size": lambda v: scipy.uniform_filter1d(X, v),
        "axis": lambda v: scipy.sobel(X, axis=v),
        "origin": lambda v: scipy.correlate1d(X, TAPS[0], origin=v),
        "sigma": lambda v: scipy.gaussian_filter(X, v),
        "order": lambda v: scipy.gaussian_filter(X, 1.5, order=v),
        "radius": lambda v: scipy.gaussian_filter(X, 1.5, radius=v),
        "origins": lambda v: scipy.uniform_filter(X, 5, origin=v),
        "sizes": lambda v: scipy.uniform_filter(X, v),
        "axes": lambda v: scipy.gaussian_filter(X, 1.5, axes=v),
        "cval": lambda v: scipy.gaussian_filter(X, 1.5, mode="constant", cval=v),
    }
    call = theirs.get(name.split()[1])
    if call is None:
        return
    sizes: list[Any] = [2, 2.0, 2.5, np.float32(2.5), np.array(2), np.array(2.5), True, 2j, "2", 0.0]
    sizes.append((2, 2.5))
    more = "axes" in name or name.split()[1] in ("radius", "order")
    for value in sizes:
        if more and isinstance(value, (bool, np.ndarray)):
            continue  # arrays without axes, and bool as an order, are taken here and not there
        with np.errstate(all="ignore"):
            taken = outcome(call, value) in ("float32", "complex64")
        assert (outcome(DROP_IN[name], value) in ("float32", "complex64")) == taken, value


def test_equal_values_of_other_types_give_the_same_result() -> None:
    for sigma in (2, np.float32(2), np.array(2), Fraction(2), (2, 2.0), [np.array(2), 2]):
        np.testing.assert_array_equal(sp.gaussian(X, sigma), sp.gaussian(X, 2.0))
        if not isinstance(sigma, list):
            np.testing.assert_array_equal(ndi.gaussian_filter(X, sigma), ndi.gaussian_filter(X, 2.0))
    for cval in (1, np.float32(1), np.array(1), np.array(1.0)):
        np.testing.assert_array_equal(
            sp.uniform(X, 3, mode="constant", cval=cval), sp.uniform(X, 3, mode="constant", cval=1.0)
        )
    z = X + 1j * X
    wanted = sp.uniform(z, 3, mode="constant", cval=1 + 2j)
    np.testing.assert_array_equal(sp.uniform(z, 3, mode="constant", cval=np.array(1 + 2j)), wanted)


def test_objects_that_change_are_read_each_time() -> None:
    class Scalar:
        """As a tensor without axes: equal to itself alone, and it changes."""

        shape = ()

        def __init__(self, value: float) -> None:
            self.value = value

        def __float__(self) -> float:
            return self.value

    sigma = Scalar(1.0)
    for function in (ndi.gaussian_filter, sp.gaussian):
        for value in (1.0, 2.0, 1.0, 2.0):
            sigma.value = value
            np.testing.assert_array_equal(function(X, sigma), function(X, value))


def test_weights_and_masks_of_another_library_are_read_each_time() -> None:
    class Weights:
        def __init__(self, values: list[float]) -> None:
            self.values = values

        def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray[Any, Any]:
            return np.array(self.values, dtype)

    taps, x = Weights([1.0, 2.0, 4.0]), np.arange(9.0)
    mask = Weights([])
    for values in ([1.0, 2.0, 4.0], [4.0, 2.0, 1.0], [1.0, 2.0, 4.0]):
        taps.values = values
        np.testing.assert_array_equal(ndi.correlate1d(x, taps), ndi.correlate1d(x, values))
        np.testing.assert_array_equal(ndi.correlate1d(x, weights=taps), ndi.correlate1d(x, values))
    for known in ([True] * 9, [True] * 4 + [False] * 5):
        mask.values = known
        np.testing.assert_array_equal(
            ndi.uniform_filter1d(x, 3, mask=mask), ndi.uniform_filter1d(x, 3, mask=np.array(known))
        )
