"""Any function, any array, any arguments: `separable.ndimage` against `scipy.ndimage`."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import separable.ndimage as ndi
from separable.families._gaussians import sampled_taps

scipy_ndimage = pytest.importorskip("scipy.ndimage")

MODES = ["reflect", "mirror", "nearest", "wrap", "constant", "grid-mirror", "grid-wrap", "grid-constant"]
LAYOUTS = ["C", "F", "sliced", "reversed", "swapped"]
FLOATS = [np.float32, np.float64, np.complex64, np.complex128]
INTEGERS = [np.uint8, np.int8, np.uint16, np.int16, np.int32]


class Case(NamedTuple):
    """A call, and what bounds its rounding errors."""

    name: str
    x: Any
    arguments: dict[str, Any]
    gain: float  # sum over terms of the products of the taps' l1 norms
    chain: int  # roundings on the way of one sample, at most
    passes: int = 1
    weights: int = 0  # of the dense kernel, where that is small enough to run

    def ours(self, **changes: Any) -> Any:
        return getattr(ndi, self.name)(self.x, **self.arguments | changes)

    def theirs(self, x: Any = None, **changes: Any) -> Any:
        return getattr(scipy_ndimage, self.name)(self.x if x is None else x, **self.arguments | changes)

    def scale(self) -> float:
        return self.gain * max(float(np.abs(self.x).max(initial=0)), abs(self.arguments["cval"]))


def laid_out(x: Any, layout: str) -> Any:
    """Return an array of the same values with another memory layout."""
    if layout == "F":
        return np.asfortranarray(x)
    if layout == "sliced":
        return np.repeat(x, 2, axis=-1)[..., ::2]
    if layout == "reversed":
        return x[::-1].copy()[::-1]
    return x.astype(x.dtype.newbyteorder()) if layout == "swapped" else x


@st.composite
def arrays(draw: st.DrawFn, dtypes: list[Any]) -> Any:
    shape = tuple(draw(st.lists(st.integers(1, 9), min_size=1, max_size=3)))
    if draw(st.integers(0, 40)) == 0:
        shape = (0, *shape[1:])
    dtype = np.dtype(draw(st.sampled_from(dtypes)))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        x = rng.integers(max(info.min, -(2**20)), min(info.max, 2**20), shape, dtype=dtype, endpoint=True)
    else:
        x = rng.standard_normal(shape).astype(dtype)
        if dtype.kind == "c":
            x.imag = rng.standard_normal(shape)
    return laid_out(x, draw(st.sampled_from(LAYOUTS)))


def each_axis(draw: st.DrawFn, values: st.SearchStrategy[Any], count: int) -> Any:
    """Draw one value, or one for each of the axes."""
    return draw(st.one_of(values, st.lists(values, min_size=count, max_size=count)))


def several(value: Any, count: int) -> list[Any]:
    return list(value) if isinstance(value, list) else [value] * count


@st.composite
def given_kernels(draw: st.DrawFn, dtypes: list[Any], *, whole: bool = False) -> Case:
    """A correlation or convolution with weights, along all axes, some or one."""
    x = draw(arrays(dtypes))
    name = draw(st.sampled_from(["correlate", "convolve", "correlate1d", "convolve1d"]))
    common = {"mode": draw(st.sampled_from(MODES)), "cval": draw(st.integers(-3, 3))}
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    ndim = x.ndim
    if name.endswith("1d"):
        shape: tuple[int, ...] = (draw(st.integers(1, 12)),)
        common["axis"] = draw(st.integers(-ndim, ndim - 1))
        common["origin"] = draw(st.integers(-(shape[0] // 2), (shape[0] - 1) // 2))
    else:
        axes = sorted(draw(st.sets(st.integers(0, ndim - 1), min_size=1)))
        shape = tuple(draw(st.integers(1, 4)) for _ in axes)
        common["axes"] = tuple(axis - ndim * draw(st.booleans()) for axis in axes)
        common["origin"] = [draw(st.integers(-(n // 2), (n - 1) // 2)) for n in shape]
    weights = rng.integers(-9, 10, shape) if whole else rng.standard_normal(shape)
    if not whole and draw(st.booleans()):
        weights = weights + 1j * rng.standard_normal(shape)
    gain = 2 * float(np.abs(weights).sum())
    return Case(name, x, {"weights": weights, **common}, gain, weights.size + 1)


@st.composite
def smoothers(draw: st.DrawFn, dtypes: list[Any]) -> Case:
    """A box or a Gaussian along some axes, or a sum of derivatives of Gaussians along all."""
    x = draw(arrays(dtypes))
    names = ["uniform_filter", "gaussian_filter", "gaussian_laplace"]
    # The root of a sum of complex squares has no bounded error.
    names += ["gaussian_gradient_magnitude"] * (x.dtype.kind != "c")
    name = draw(st.sampled_from(names))
    axes = tuple(range(x.ndim))
    common: dict[str, Any] = {"cval": draw(st.integers(-3, 3))}
    if name in ("uniform_filter", "gaussian_filter"):
        axes = tuple(draw(st.permutations(axes)))[: draw(st.integers(0, x.ndim))]
        common["axes"] = axes
    count = len(axes)
    common["mode"] = each_axis(draw, st.sampled_from(MODES), count)
    if name == "uniform_filter":
        common["size"] = each_axis(draw, st.integers(0, 12), count)
        low = min(several(common["size"], count), default=1)
        common["origin"] = draw(st.integers(-(max(low, 1) // 2), (max(low, 1) - 1) // 2))
        sums = sum(several(common["size"], count)) + sum(x.shape)  # SciPy's running sums drift
        return Case(name, x, common, 1.0, sums + count, max(count, 1))
    common["sigma"] = each_axis(draw, st.sampled_from([0.0, 0.3, 0.8, 1.5, 4.0]), count)
    sigmas = several(common["sigma"], count)
    common["truncate"] = draw(st.sampled_from([2.0, 4.0]))
    if name == "gaussian_filter":
        common["order"] = each_axis(draw, st.integers(0, 3), count)
        orders = [several(common["order"], count)]
    else:
        degree = 2 if name == "gaussian_laplace" else 1
        orders = [[degree * (axis == other) for other in axes] for axis in axes]
    # Where every pass is padded with `cval`, later passes may see more of it than earlier ones left of `x`.
    padded = common["cval"] != 0 and any("constant" in mode for mode in several(common["mode"], count))
    gain, chain = 0.0, 1
    for term in orders:
        norms = 1.0
        for sigma, order in zip(sigmas, term, strict=True):
            if sigma > 0:
                taps = sampled_taps(sigma, order, int(common["truncate"] * sigma + 0.5))
                norm = float(np.abs(taps).sum())
                norms *= max(norm, 1.0) if padded else norm
                chain = max(chain, taps.size)
        gain += norms
    radii = [int(common["truncate"] * sigma + 0.5) for sigma in sigmas]
    weights = math.prod(2 * radius + 1 for radius in radii)
    weights *= name == "gaussian_laplace" and weights < 150
    return Case(
        name, x, common, gain, chain + count * len(orders), max(count, 1), weights if weights < 150 else 0
    )


@st.composite
def differences(draw: st.DrawFn, dtypes: list[Any]) -> Case:
    """Sobel, Prewitt or Laplace."""
    x = draw(arrays(dtypes))
    name = draw(st.sampled_from(["sobel", "prewitt", "laplace"]))
    common: dict[str, Any] = {"cval": draw(st.integers(-3, 3))}
    if name == "laplace":
        axes = tuple(draw(st.permutations(range(x.ndim))))[: draw(st.integers(1, x.ndim))]
        common |= {"axes": axes, "mode": each_axis(draw, st.sampled_from(MODES), len(axes))}
        return Case(name, x, common, 4.0 * len(axes), 3 * len(axes))
    common |= {"axis": draw(st.integers(-x.ndim, x.ndim - 1))}
    common |= {"mode": each_axis(draw, st.sampled_from(MODES), x.ndim)}
    return Case(name, x, common, 2 * (4.0 if name == "sobel" else 3.0) ** (x.ndim - 1), 3 + x.ndim, x.ndim)


def check_floats(case: Case, output: Any) -> None:
    ours, theirs = case.ours(output=output), case.theirs(output=output)
    assert ours.dtype == theirs.dtype
    assert ours.shape == theirs.shape
    # Both sides' bounds to first order (docs/filters/accuracy.md); SciPy sums in double and rounds what is
    # between two axes to the dtype of the output.
    computed = 2.0**-24 if np.result_type(case.x.dtype, ours.dtype).char in "fF" else 2.0**-53
    # ... and, of complex input and weights, products to the dtype of the input.
    narrow = ours.dtype.char in "fF" or (case.x.dtype.char == "F" and "weights" in case.arguments)
    stored = 2.0**-24 if narrow else 2.0**-53
    bound = ((case.chain + case.passes) * (computed + 2.0**-53) + (case.passes + 1) * stored) * case.scale()
    difference = np.abs(ours.astype(np.complex128) - theirs)
    assert difference.max(initial=0.0) <= 1.01 * bound, (difference.max(), bound)


def float_output(data: st.DataObject, case: Case) -> Any:
    is_complex = case.x.dtype.kind == "c" or np.iscomplexobj(case.arguments.get("weights", 0))
    allowed = (
        [np.complex64, np.complex128, "complex128"] if is_complex else [np.float32, np.float64, "float32"]
    )
    return data.draw(st.sampled_from([None, *allowed]))


@settings(max_examples=250)
@given(given_kernels(FLOATS), st.data())
def test_weights_on_floats(case: Case, data: st.DataObject) -> None:
    check_floats(case, float_output(data, case))


@settings(max_examples=250)
@given(st.one_of(smoothers(FLOATS), differences(FLOATS)), st.data())
def test_filters_on_floats(case: Case, data: st.DataObject) -> None:
    check_floats(case, float_output(data, case))


@settings(max_examples=250)
@given(st.one_of(given_kernels(INTEGERS, whole=True), differences(INTEGERS)), st.data())
def test_whole_weights_on_integers_are_exact(case: Case, data: st.DataObject) -> None:
    output = data.draw(st.sampled_from([None, *INTEGERS, "int16", np.int64]))
    np.testing.assert_array_equal(case.ours(output=output), case.theirs(output=output))


@settings(max_examples=250)
@given(smoothers(INTEGERS))
def test_filters_on_integers_round_once(case: Case) -> None:
    exact = case.theirs(case.x.astype(np.float64))
    # Within the rounding error of an integer the value may have come out on either side of it.
    computed = 2.0 ** (-24 if case.x.dtype.itemsize <= 2 else -50)
    slack = (max(case.chain, case.weights) + case.passes + 4) * case.scale() * computed
    # What may keep a value from a whole number is bounded for all passes together, by up to three times that.
    near = np.abs(exact - np.rint(exact)) <= 3 * slack
    expected = np.trunc(exact).astype(np.int64)
    wrapped = case.ours().astype(np.int64)
    half = 2 ** (8 * case.x.dtype.itemsize - 1)
    apart = (wrapped - expected + half) % (2 * half) - half
    assert (np.abs(apart[near]) <= 1 + slack).all()
    assert not apart[~near].any()
    clipped = case.ours(rounding="nearest", overflow="saturate")
    info = np.iinfo(case.x.dtype)
    assert (np.abs(clipped - np.clip(exact, info.min, info.max)) <= 0.5 + slack).all()


@settings(max_examples=60)
@given(given_kernels([np.float64]))
def test_a_line_at_a_time_is_the_whole_array(case: Case) -> None:
    """A filter along some axes filters each slice along the others alone."""
    if "axis" in case.arguments:
        axes = {case.arguments["axis"] % case.x.ndim}
    else:
        axes = {axis % case.x.ndim for axis in case.arguments["axes"]}
    others = sorted(set(range(case.x.ndim)) - axes)
    if not others or math.prod(case.x.shape) == 0:
        return
    place = others[0]
    whole = case.ours().take([0], axis=place)
    part = case._replace(x=case.x.take([0], axis=place)).ours()
    np.testing.assert_allclose(whole, part, rtol=0, atol=1e-14 * (1 + case.scale()))
