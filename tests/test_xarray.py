"""The accessor of xarray: dimensions by name, widths in units, labels kept, Dask lazy."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import separable as sp
from separable.xarray.coordinates import step_of

xr = pytest.importorskip("xarray")
pytest.importorskip("dask.array")
import separable.xarray  # noqa: E402

Array = np.ndarray[Any, Any]
VALUES = np.random.default_rng(0).random((12, 20, 24)).astype("f4")


def scan(**coords: Any) -> Any:
    own = {"z": 3.0 * np.arange(12), "y": 10 + 0.5 * np.arange(20), "x": 0.5 * np.arange(24)} | coords
    coordinates = {dim: places for dim, places in own.items() if places is not None}
    return xr.DataArray(VALUES, coordinates, ("z", "y", "x"), "density", {"units": "g"})


def test_widths_are_in_the_units_of_the_coordinates() -> None:
    smooth = scan().separable.gaussian(1.5)
    np.testing.assert_array_equal(smooth.values, sp.gaussian(VALUES, (0.5, 3.0, 3.0)))
    assert (smooth.dims, smooth.name, smooth.attrs) == (("z", "y", "x"), "density", {"units": "g"})
    assert smooth.coords.equals(scan().coords)
    wide = scan().separable.gaussian(fwhm={"x": 2.0, "z": 9.0})
    np.testing.assert_array_equal(wide.values, sp.gaussian(VALUES, fwhm=(4.0, 3.0), axes=(2, 0)))


def test_dimensions_go_by_name() -> None:
    turned = scan().transpose("x", "z", "y")
    smooth = turned.separable.gaussian((1.0, 2.0), dims=("y", "x"), mode={"x": "wrap", "y": "nearest"})
    expected = sp.gaussian(VALUES, (2.0, 4.0), axes=(1, 2), mode=("nearest", "wrap"))
    np.testing.assert_allclose(smooth.transpose("z", "y", "x").values, expected, rtol=1e-6)
    box = scan().separable.uniform({"y": 5, "z": 3})
    np.testing.assert_array_equal(box.values, sp.uniform(VALUES, (5, 3), axes=(1, 0)))
    kernel = np.arange(6.0).reshape(2, 3)
    for verb in ("correlate", "convolve"):
        result = getattr(scan().separable, verb)(kernel, dims=["x", "z"], origin={"x": 0, "z": 1})
        expected = getattr(sp, verb)(VALUES, kernel, axes=(2, 0), origin=(0, 1))
        np.testing.assert_array_equal(result.values, expected)


def test_derivatives_are_by_the_coordinate_also_where_it_descends() -> None:
    latitude = np.linspace(60.0, 30.0, 121)
    field = xr.DataArray(latitude**2, {"lat": latitude}, ("lat",))
    slope = field.separable.gaussian(1.0, order=1)
    np.testing.assert_allclose(slope.values[20:-20], 2 * latitude[20:-20], rtol=1e-6)
    curve = field.separable.gaussian(1.0, order={"lat": 2})
    np.testing.assert_allclose(curve.values[20:-20], 2.0, rtol=1e-6)


def test_dimensions_without_coordinates_are_in_samples() -> None:
    np.testing.assert_array_equal(
        scan(z=None).separable.gaussian(1.0).values, sp.gaussian(VALUES, (1.0, 2.0, 2.0))
    )
    single = xr.DataArray(np.ones(1), {"x": [5.0]}, ("x",))
    assert single.separable.gaussian(2.0).item() == 1.0


def test_times_take_durations() -> None:
    hours = np.datetime64("2020-01-01", "ns") + np.arange(12) * np.timedelta64(3, "h")
    series = scan(z=hours).rename(z="time")
    expected = sp.gaussian(VALUES, 2.0, axes=0)
    for width in ("6h", np.timedelta64(6, "h"), dt.timedelta(hours=6)):
        np.testing.assert_array_equal(series.separable.gaussian({"time": width}).values, expected)
    both = series.separable.gaussian({"time": "6h", "x": 1.0})
    np.testing.assert_array_equal(both.values, sp.gaussian(VALUES, (2.0, 2.0), axes=(0, 2)))
    with pytest.raises(TypeError, match=r"`sigma=6` for 'time'.*holds times: pass a duration such as '3h'"):
        series.separable.gaussian({"time": 6})
    with pytest.raises(TypeError, match=r"`sigma=.*for 'x'.*holds no times: pass a number"):
        series.separable.gaussian("6h", dims="x")


def test_coordinates_that_are_not_even_are_refused() -> None:
    with pytest.raises(ValueError, match=r"'z' is not even: its steps are from 1 to 2.*drop_vars\('z'\)"):
        scan(z=np.cumsum([1, 2] * 6)).separable.gaussian(1.0)
    for places in (list("abcdefghijkl"), np.zeros(12), np.r_[np.nan, np.arange(11.0)]):
        with pytest.raises(ValueError, match="coordinate 'z'"):
            scan(z=places).separable.gaussian(1.0)
    months = np.arange("2020-01", "2021-01", dtype="M8[M]").astype("M8[ns]")
    with pytest.raises(ValueError, match=r"not even: .* seconds"):
        scan(z=months).separable.gaussian({"z": "90D"})
    scan(z=list("abcdefghijkl")).separable.gaussian({"x": 1.0})  # which is not filtered
    assert step_of(scan(x=np.linspace(0, 1, 24, dtype="f4")), "x").length == pytest.approx(1 / 23)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda a: a.separable.gaussian(1.0, dims="t"), r"no dimension 't'; it has \('z', 'y', 'x'\)"),
        (lambda a: a.separable.gaussian(1.0, dims=("x", "x")), "names one twice"),
        (lambda a: a.separable.gaussian(1.0, dims=()), "names none"),
        (lambda a: a.separable.gaussian({"x": 1.0}, dims=("x", "y")), "pass an entry for each"),
        (
            lambda a: a.separable.gaussian({"x": 1.0}, order={"y": 1}),
            r"`order=.*filtered dimensions are \('x',\)",
        ),
        (
            lambda a: a.separable.gaussian(1.0, mask=xr.DataArray([True], dims="t")),
            "`mask` has the dimension 't'",
        ),
    ],
)
def test_wrong_names_are_refused(call: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call(scan())


def test_masks_by_name() -> None:
    mask = np.random.default_rng(1).random((24, 20)) < 0.7
    named = xr.DataArray(mask, {"x": 0.5 * np.arange(24)}, ("x", "y"))
    whole = np.broadcast_to(mask.T, VALUES.shape)
    for array in (scan(), scan().chunk(z=4, x=7)):
        result = array.separable.gaussian({"x": 1.0, "y": 1.0}, mask=named, method="separable")
        expected = sp.gaussian(VALUES, 2.0, axes=(2, 1), mask=whole, method="separable")
        np.testing.assert_array_equal(result.values, expected)
    with pytest.raises(ValueError, match=r"cannot align|join"):
        scan().separable.gaussian(1.0, mask=named.assign_coords(x=np.arange(24)))


def test_arrays_of_dask_stay_lazy() -> None:
    lazy = scan().chunk(z=5, y=7, x=24)
    smooth = lazy.separable.gaussian(1.5, output="f8")
    assert (smooth.chunks, smooth.dtype, smooth.attrs) == (lazy.chunks, np.float64, {"units": "g"})
    assert smooth.coords.equals(lazy.coords)
    expected = sp.gaussian(VALUES, (0.5, 3.0, 3.0), output="f8", method="separable")
    np.testing.assert_array_equal(smooth.compute(scheduler="synchronous").values, expected)
    box = lazy.separable.uniform(3, dims="x").compute(scheduler="synchronous")
    np.testing.assert_array_equal(box.values, sp.uniform(VALUES, 3, axes=2))


def test_the_accessor_comes_with_the_import_alone() -> None:
    code = (
        "import separable, sys, xarray as xr\n"
        "assert 'separable.xarray' not in sys.modules and not hasattr(xr.DataArray, 'separable')\n"
        "import separable.xarray\n"
        "assert xr.DataArray.separable is not None and 'dask' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert isinstance(scan().separable, separable.xarray.SeparableAccessor)
