"""Calls of `separable.ndimage` that repeat take a short way, to the same result."""

from __future__ import annotations

import functools
import warnings
from typing import Any

import numpy as np
import pytest

import separable as sp
import separable.ndimage as ndi
from separable.ndimage._repeated import repeated

REPEATED = [
    ("correlate1d", ([1.0, 2.0, 5.0],), {"axis": 0}),
    ("convolve", (np.arange(6.0).reshape(2, 3),), {"mode": "wrap"}),
    ("gaussian_filter", (1.3,), {}),
    ("uniform_filter", (3,), {"origin": 1}),
    ("uniform_filter1d", (4,), {}),
    ("sobel", (), {"axis": 0}),
    ("laplace", (), {}),
    ("gaussian_laplace", (1.2,), {}),
    ("gaussian_gradient_magnitude", (1.2,), {}),
]


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8", "int16", "complex64"])
@pytest.mark.parametrize(("name", "args", "kwargs"), REPEATED, ids=[case[0] for case in REPEATED])
def test_a_call_that_repeats_gives_what_it_gave(
    name: str, args: tuple[Any, ...], kwargs: dict[str, Any], dtype: str
) -> None:
    if name == "gaussian_gradient_magnitude" and dtype == "complex64":
        return
    rng = np.random.default_rng(3)
    function = getattr(ndi, name)
    plain = getattr(function, "__wrapped__", function)
    args = tuple(np.array(arg) if isinstance(arg, list) else arg for arg in args)
    for x in [(100 * rng.random((11, 13))).astype(dtype) for _ in range(3)]:
        wide = np.empty(x.shape, np.promote_types(x.dtype, np.float64))
        for layout in (x, x[::-1, ::2], np.asfortranarray(x), x.T):
            np.testing.assert_array_equal(function(layout, *args, **kwargs), plain(layout, *args, **kwargs))
        for out in (np.empty_like(x), wide, np.empty_like(wide, order="F")):
            wanted = plain(x, *args, output=out, **kwargs).copy()
            for _ in range(2):
                out[...] = 7
                assert function(x, *args, output=out, **kwargs) is out
                np.testing.assert_array_equal(out, wanted)
        again = x.copy()
        function(again, *args, output=again, **kwargs)  # an output that is the input
        np.testing.assert_array_equal(again, plain(x, *args, **kwargs))


def test_a_call_is_the_same_only_if_all_of_it_is() -> None:
    x, weights = np.arange(20.0), np.array([1.0, 2.0, 5.0])
    first = ndi.correlate1d(x, weights)
    weights[0] = 0
    assert not np.array_equal(ndi.correlate1d(x, weights), first)
    for _ in range(2):
        np.testing.assert_array_equal(ndi.correlate1d(x, [1, 2, 5]), first)
        np.testing.assert_array_equal(ndi.correlate(x[None], [[1, 2, 5]])[0], first)
    for taps in ([1, 2, 5], [1 + 0j, 2, 5], [1, 2, 5]):
        found = ndi.correlate1d(x, taps)
        assert found.dtype == np.result_type(x, *taps)
    assert ndi.sobel(x).ctypes.data % 64 == ndi.sobel(x).ctypes.data % 64 == 0
    ndi.uniform_filter1d(x, 3)
    for _ in range(2):
        with pytest.raises(TypeError):
            ndi.uniform_filter1d(x, 3.5)
    out = np.empty_like(x)
    ndi.sobel(x, output=out)
    out.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        ndi.sobel(x, output=out)
    narrow = np.empty((2, 10))
    with pytest.raises(RuntimeError, match="shape"):
        ndi.sobel(x, output=narrow)
    for value in range(300):  # more kinds of calls than are kept
        ndi.gaussian_filter1d(x, 1.0, cval=float(value))
    np.testing.assert_array_equal(ndi.gaussian_filter1d(x, 1.0, cval=3.0), ndi.gaussian_filter1d(x, 1.0))


def _unaligned(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    raw = np.empty(values.nbytes + 1, np.uint8)
    found = raw[1:].view(values.dtype).reshape(values.shape)
    found[...] = values
    return found


def test_the_short_way_is_taken() -> None:
    sp.clear_caches()  # where what is remembered has no room, calls go the long way twice
    long_way = []
    plain = ndi.uniform_filter1d.__wrapped__  # type: ignore[attr-defined]

    @repeated
    @functools.wraps(plain)
    def filtered(*args: Any, **keywords: Any) -> Any:
        long_way.append(keywords)
        return plain(*args, **keywords)

    x, out = np.arange(20.0), np.empty(20)
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
        ((), {}),
        ((), {"output": out}),
        ((), {"output": np.float64}),
        ((), {"output": np.dtype(np.float64)}),
        ((-1, out, "wrap"), {}),
        ((-1, None, "wrap"), {"cval": 1.0}),
        ((), {"threads": 1, "output": "float64"}),
    ]
    for number, (args, keywords) in enumerate(calls, 1):
        for _ in range(3):
            np.testing.assert_array_equal(filtered(x, 3, *args, **keywords), plain(x, 3, *args, **keywords))
        assert len(long_way) == number
    assert filtered(x, 3, output=out) is out
    filtered(x.astype(np.float32), 3)
    assert len(long_way) == len(calls) + 1


def test_types_of_arguments_count() -> None:
    x = np.arange(20.0)
    ndi.uniform_filter1d(x, 1)
    ndi.uniform_filter1d(x, 1)
    with pytest.raises(TypeError):
        ndi.uniform_filter1d(x, 1.0)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="dtype"):
        ndi.uniform_filter1d(x, 1, dtype=float)  # type: ignore[call-arg]


def test_memory_that_is_not_aligned_takes_the_long_way() -> None:
    x = np.arange(20.0)
    expected = ndi.sobel(x)
    out = _unaligned(np.zeros(20))
    for _ in range(2):
        np.testing.assert_array_equal(ndi.sobel(_unaligned(x)), expected)
        assert ndi.sobel(x, output=out) is out
        np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("offset", [0, 1, 20])
def test_views_of_the_same_memory(offset: int) -> None:
    expected = ndi.sobel(np.arange(20.0))
    for _ in range(2):
        memory = np.arange(40.0)
        assert np.array_equal(ndi.sobel(memory[:20], output=memory[offset : offset + 20]), expected)


def test_a_first_call_warns_its_caller() -> None:
    x = np.ones(5, np.complex64)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ndi.sobel(x, output=np.complex128)
        ndi.correlate1d(x, [1.0, 2.0], output=np.float64)
    assert [warning.filename for warning in caught] == [__file__]
