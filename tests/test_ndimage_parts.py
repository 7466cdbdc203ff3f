"""Sums and lengths of derivatives: put together block by block, in the caller's array where that can be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import separable.ndimage as ndi
from separable.ndimage import _parts

scipy_ndimage = pytest.importorskip("scipy.ndimage")


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several blocks, the last of them shorter, in small arrays."""
    monkeypatch.setattr(_parts, "_BLOCK", 24)


def _image(shape: tuple[int, ...], dtype: Any = np.float64) -> Any:
    return (200 * np.random.default_rng(5).random(shape)).astype(dtype)


LAYOUTS: dict[str, Callable[[Any], Any]] = {
    "in order": lambda x: x,
    "Fortran": np.asfortranarray,
    "turned": lambda x: x[::-1, ::2],
    "repeated": lambda x: np.broadcast_to(x[:1], x.shape),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(7, 9), (5, 6, 7), (50,), (4, 4)])
def test_length_of_the_gradient(shape: tuple[int, ...], dtype: Any) -> None:
    x = _image(shape, dtype)
    parts = [
        scipy_ndimage.gaussian_filter(x.astype(float), 1.3, order=[int(n == axis) for n in range(x.ndim)])
        for axis in range(x.ndim)
    ]
    exact = np.sqrt(sum(part**2 for part in parts))
    found = ndi.gaussian_gradient_magnitude(x, 1.3, output=float)
    np.testing.assert_allclose(found, exact, rtol=1e-13)
    np.testing.assert_allclose(
        ndi.generic_gradient_magnitude(x, _smooth_derivative, float), exact, rtol=1e-13
    )
    stored = ndi.gaussian_gradient_magnitude(x, 1.3)
    assert stored.dtype == x.dtype
    np.testing.assert_allclose(stored, exact, rtol=1e-5, atol=1 if x.dtype.kind == "u" else 1e-4)


def _smooth_derivative(x: Any, axis: int, output: Any, mode: str, cval: float) -> Any:
    orders = [int(n == axis) for n in range(x.ndim)]
    return ndi.gaussian_filter(x, 1.3, orders, output, mode, cval)


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts_of_input_and_output(name: str) -> None:
    x = LAYOUTS[name](_image((8, 10)))
    for function, first in (
        (ndi.gaussian_gradient_magnitude, 1.5),
        (ndi.generic_gradient_magnitude, ndi.sobel),
    ):
        expected = function(np.ascontiguousarray(x), first)
        np.testing.assert_allclose(function(x, first), expected, rtol=1e-13)
        wide = np.full((16, 10, 2), 7.0)
        for out in (
            np.empty(x.shape),
            np.empty(x.shape, order="F"),
            wide[::2, : x.shape[1], 1][::-1][: len(x)],
        ):
            assert function(x, first, output=out) is out
            np.testing.assert_allclose(out, expected, rtol=1e-13)
        assert (wide[1::2] == 7).all()
        assert (wide[..., 0] == 7).all()


@pytest.mark.parametrize("offset", [0, 3])
def test_an_output_that_shares_memory_with_the_input(offset: int) -> None:
    expected = ndi.gaussian_gradient_magnitude(_image((9, 9)), 1.0)
    memory = np.zeros((12, 9))
    memory[:9] = _image((9, 9))
    np.testing.assert_array_equal(
        ndi.gaussian_gradient_magnitude(memory[:9], 1.0, output=memory[offset : offset + 9]), expected
    )


def test_what_a_callable_returns_is_left_alone() -> None:
    x = _image((8, 10))
    x.flags.writeable = False
    ones = np.ones(x.shape, np.int32)
    returned = iter([None, x, ones])

    def derivative(x: Any, axis: int, output: Any, *rest: Any) -> Any:
        if isinstance(output, np.ndarray):
            output.fill(3)
        return next(returned)

    found = ndi.generic_gradient_magnitude(x, derivative, axes=(0, 1))
    np.testing.assert_allclose(found, np.sqrt(9 + x**2), rtol=1e-15)
    assert (ones == 1).all()


def test_one_part_and_none() -> None:
    line = _image((30,))
    expected = np.abs(ndi.gaussian_filter1d(line, 1.0, order=1))
    np.testing.assert_allclose(ndi.gaussian_gradient_magnitude(line, 1.0), expected, rtol=1e-15)
    x = _image((5, 6), np.uint8)
    np.testing.assert_array_equal(ndi.gaussian_gradient_magnitude(x, 1.0, axes=()), x)
    no_sigma = ndi.gaussian_gradient_magnitude(x, 0.0, output=float)  # derives along no axis, as SciPy
    np.testing.assert_allclose(no_sigma, scipy_ndimage.gaussian_gradient_magnitude(x.astype(float), 0.0))
    assert ndi.gaussian_gradient_magnitude(np.empty((0, 4)), 1.0).shape == (0, 4)


@pytest.mark.parametrize("mode", ["wrap", "constant", ["nearest", "mirror"]])
def test_modes_and_cval(mode: Any) -> None:
    x = _image((11, 8))
    for name in ("gaussian_gradient_magnitude", "gaussian_laplace"):
        ours = getattr(ndi, name)(x, 1.2, mode=mode, cval=40.0)
        theirs = getattr(scipy_ndimage, name)(x, 1.2, mode=mode, cval=40.0)
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-10)


@pytest.mark.parametrize(("dtype", "known"), [(np.complex64, np.complex128), (np.longdouble, np.float64)])
def test_wide_and_complex(dtype: Any, known: Any) -> None:
    x = _image((7, 9)).astype(dtype)
    ours = ndi.gaussian_gradient_magnitude(x, 1.2)
    theirs = scipy_ndimage.gaussian_gradient_magnitude(x.astype(known), 1.2)
    assert ours.dtype == dtype
    np.testing.assert_allclose(ours.astype(theirs.dtype), theirs, rtol=1e-4)
