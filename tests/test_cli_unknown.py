"""Samples that are unknown on the command line: --mask, --nan omit, no-data values, and opacity with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import Run
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import separable as sp
from separable import files
from separable.files.image import Image, unnamed

pytest.importorskip("typer")
PIL = pytest.importorskip("PIL.Image")

Array = np.ndarray[Any, Any]


@pytest.fixture
def run(command: Run) -> Run:
    """Run `separable filter` in an empty directory, in a terminal of 80 columns."""
    return lambda *arguments: command(["filter", *(str(argument) for argument in arguments)])


def normalised(x: Array, known: Array, weights: Array) -> Array:
    """Return the mean of what is known, weighted, by its definition; NaN where nothing is known."""
    reach = [n // 2 for n in weights.shape]
    pad = [(n, n) for n in reach]
    values = np.pad(np.where(known, x, 0).astype(np.float64), pad, mode="symmetric")
    there = np.pad(known.astype(np.float64), pad, mode="symmetric")
    windows = np.lib.stride_tricks.sliding_window_view
    total = np.einsum("ijkl,kl->ij", windows(values, weights.shape), weights)
    share = np.einsum("ijkl,kl->ij", windows(there, weights.shape), weights)
    return np.divide(total, share, out=np.full(x.shape, np.nan), where=share > 0) * weights.sum()


DISK = sp.families.disk(2.0)


@given(
    data=st.data(),
    dtype=st.sampled_from(["u1", "i2", "u2", "f4", "f8"]),
    how=st.sampled_from(["mask", "nodata", "nan", "mask and nodata"]),
)
def test_what_is_unknown_is_left_out(data: st.DataObject, dtype: str, how: str) -> None:
    shape = data.draw(hnp.array_shapes(min_dims=2, max_dims=2, min_side=3, max_side=14))
    x = data.draw(hnp.arrays(dtype, shape, elements=st.integers(0, 99)))
    known = data.draw(hnp.arrays(bool, shape))
    hole = 100.0
    image = unnamed(x.copy())
    mask = None
    if "mask" in how:
        mask = known
    if "nodata" in how:
        other = data.draw(hnp.arrays(bool, shape)) if mask is not None else known
        image.data[~other] = hole
        image = files.Image(image.data, image.axes, image.spacing, nodata=hole)
        known = known & other
    if how == "nan" and image.data.dtype.kind == "f":
        image.data[~known] = np.nan
    elif how == "nan":
        known = np.ones(shape, bool)
    setting = files.FilterOptions(axes=(0, 1), mask=mask, nan="omit" if how == "nan" else "propagate")
    result, plan = files.filtered(image, DISK, setting)
    expected = normalised(x, known, DISK)
    empty = np.isnan(expected)
    assert known.all() or plan.method == "direct"  # as it ran: what is known is divided by
    if x.dtype.kind in "iu":
        assert np.array_equal(result.data[empty], np.full(empty.sum(), 100 if image.nodata else 0))
        assert np.abs(result.data[~empty] - expected[~empty]).max(initial=0) <= 0.5 + 1e-4
    else:
        fill = result.data[empty]
        assert np.isnan(fill).all() if image.nodata is None else (fill == hole).all()
        assert np.allclose(result.data[~empty], expected[~empty], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("axes", ["TYX", "YXS"])
def test_a_mask_is_that_of_space_or_of_all_samples(run: Run, axes: str) -> None:
    shape = (4, 9, 10) if axes == "TYX" else (9, 10, 3)
    x = np.random.default_rng(0).integers(0, 200, shape).astype("f4")
    known = np.random.default_rng(1).random((9, 10)) < 0.7
    image = Image(x, axes, (None,) * 3, "RGB" if axes == "YXS" else "")
    whole = np.broadcast_to(known if axes == "TYX" else known[..., None], shape)
    results = []
    for mask in (known, whole):
        fitted = files.fitted_mask(mask, image, "m.npy", "x.npy")
        setting = files.FilterOptions(axes=image.spatial, mask=fitted)
        results.append(files.filtered(image, sp.families.box((3, 3)), setting)[0].data)
    assert np.array_equal(*results, equal_nan=True)
    expected = sp.uniform(x, 3, axes=image.spatial, mask=whole)
    assert np.array_equal(results[0], expected, equal_nan=True)


def test_options_of_the_command_line_are_the_library_s(run: Run) -> None:
    x = np.random.default_rng(0).random((20, 30)).astype("f4")
    known = np.random.default_rng(1).random((20, 30)) < 0.6
    x[3, 4], x[10:18, 5:20] = np.nan, -9999
    np.save("x.npy", x)
    PIL.fromarray((known * 255).astype("u1")).save("known.png")
    assert run("x.npy", "a.npy", "--box", 3, "--mask", "known.png", "--nan", "omit").code == 0
    assert np.array_equal(np.load("a.npy"), sp.uniform(x, 3, mask=known, nan="omit"), equal_nan=True)
    done = run("x.npy", "b.npy", "--box", 3, "--nodata", "-9999", "--nan", "omit", "--json")
    b, holes = np.load("b.npy"), x == -9999
    expected = sp.uniform(x, 3, mask=~holes, nan="omit")
    assert np.array_equal(b, np.where(np.isnan(expected), np.float32(-9999), expected))
    facts = json.loads(done.out)
    assert (facts["nodata"], facts["notes"]) == (-9999, [])


def test_integers_where_nothing_is_known_are_the_no_data_value_or_0_with_a_note(run: Run) -> None:
    x = np.full((9, 30), 60, "u1")
    x[:, 10:20] = 255
    np.save("x.npy", x)
    np.save("known.npy", x != 255)
    facts = json.loads(run("x.npy", "y.npy", "--gaussian", 0.5, "--nodata", 255, "--json").out)
    y = np.load("y.npy")
    assert set(np.unique(y)) == {60, 255}
    assert (y[:, 13:17] == 255).all()
    assert facts["notes"] == []
    done = run("x.npy", "y.npy", "--gaussian", 0.5, "--mask", "known.npy", "--json")
    y = np.load("y.npy")
    assert set(np.unique(y)) == {0, 60}
    assert json.loads(done.out)["notes"] == [
        f"{(y == 0).sum()} results have nothing known in reach, and are 0; --nodata V marks them."
    ]


def test_a_result_that_is_the_no_data_value_by_chance_is_told(run: Run) -> None:
    np.save("x.npy", np.array([[1, 3, 3, 1, 9, 9, 9]], "u1"))
    facts = json.loads(run("x.npy", "y.npy", "--box", "1,3", "--nodata", 2, "--json").out)
    assert np.load("y.npy").tolist() == [[2, 2, 2, 4, 6, 9, 9]]
    assert facts["notes"] == ["3 results have the no-data value 2 by chance, and will be read as unknown."]


def test_what_a_nan_spoils_is_not_called_unknown() -> None:
    x = np.ones((1, 12))
    x[0, 2], x[0, 6:] = np.nan, -1.0
    image = files.Image(x, "YX", (None, None), nodata=-1.0)
    result, _ = files.filtered(image, sp.families.box((1, 3)), files.FilterOptions(axes=(0, 1)))
    assert np.array_equal(
        result.data[0], [1, np.nan, np.nan, np.nan, 1, 1, 1, -1, -1, -1, -1, -1], equal_nan=True
    )


def test_derivatives_pass_where_all_is_known_and_are_refused_with_the_way_out_where_not(run: Run) -> None:
    x = np.random.default_rng(0).random((8, 9))
    np.save("x.npy", x)
    assert run("x.npy", "y.npy", "--sobel", 0, "--nodata", -1, "--nan", "omit").code == 0
    assert np.array_equal(np.load("y.npy"), sp.correlate(x, sp.families.sobel(0)))
    x[2, 2] = -1
    np.save("x.npy", x)
    Path("y.npy").unlink()
    done = run("x.npy", "y.npy", "--sobel", 0, "--nodata", -1)
    assert done.code == 2
    assert "no-data value -1 (--nodata none takes all samples as they are)" in done.err
    assert done.err.count("\n") == 1
    assert not Path("y.npy").exists()
    assert run("x.npy", "y.npy", "--sobel", 0, "--nodata", "none").code == 0


def test_a_dtype_that_cannot_hold_the_no_data_value_is_refused(run: Run) -> None:
    np.save("x.npy", np.array([[1.0, -9999.0, 2.0]]))
    done = run("x.npy", "y.npy", "--box", "1,3", "--nodata", -9999, "--dtype", "uint8")
    assert (done.code, done.out) == (2, "")
    assert "`--dtype uint8` has no value -9999" in done.err


def test_a_mask_of_another_shape_is_named_with_both_shapes(run: Run) -> None:
    np.save("x.npy", np.ones((8, 9)))
    np.save("m.npy", np.ones((9, 8), bool))
    done = run("x.npy", "y.npy", "--box", 3, "--mask", "m.npy")
    assert done.code == 2
    assert "`--mask m.npy` has 9 x 8 samples, and `x.npy` has 8 x 9; expected 8 x 9" in done.err


@pytest.mark.parametrize("dtype", ["u1", "f4"])
@pytest.mark.parametrize("how", ["mask", "nodata"])
def test_with_opacity_a_pixel_is_known_or_not(dtype: str, how: str) -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(1, 200, (12, 13, 4)).astype(dtype)
    full = 255 if dtype == "u1" else 1
    x[..., 3] = rng.integers(0, 2, (12, 13)) * full
    known = rng.random((12, 13)) < 0.5
    known[:5, :6] = False
    nodata = None
    if how == "nodata":
        x[~known, :3], nodata = 0, 0.0
    image = files.Image(x, "YXS", (None,) * 3, "RGBA", nodata=nodata)
    mask = known[..., None] if how == "mask" else None
    box = np.full((3, 3), 1 / 9)
    result, _ = files.filtered(image, sp.families.box((3, 3)), files.FilterOptions(axes=(0, 1), mask=mask))
    opacity = normalised(x[..., 3], known, box)
    nothing = np.isnan(opacity)
    got = result.data.astype(np.float64)
    assert np.allclose(got[..., 3], np.where(nothing, 0, opacity), atol=0.51 if dtype == "u1" else 1e-5)
    for colour in range(3):
        weighted = normalised(x[..., colour] * x[..., 3].astype(np.float64), known, box)
        seen = opacity > 1e-6
        assert np.allclose(
            got[..., colour][seen], weighted[seen] / opacity[seen], atol=0.51 if dtype == "u1" else 1e-3
        )
        empty = 0 if nodata is not None or dtype == "u1" else np.nan
        assert np.array_equal(got[..., colour][nothing], np.full(nothing.sum(), empty), equal_nan=True)
