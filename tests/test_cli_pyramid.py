"""``separable pyramid``, and lengths with units: results, tables and refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import Run

import separable as sp
from separable import files
from separable.cli.lengths import lengths, steps

pytest.importorskip("typer")
zarr = pytest.importorskip("zarr")

Array = np.ndarray[Any, Any]


def volume() -> Array:
    return np.random.default_rng(5).integers(0, 900, (40, 24, 20)).astype("u2")


def picture(unit: str = "micrometer") -> None:
    """Write an OME-Zarr picture of one level, x.ome.zarr."""
    axes = [{"name": name, "type": "space", "unit": unit} for name in "zyx"]
    level = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [2.0, 0.5, 0.5]}]}
    ome = {"ome": {"version": "0.5", "multiscales": [{"axes": axes, "datasets": [level]}]}}
    group = zarr.open_group("x.ome.zarr", mode="w", attributes=ome)
    group.create_array("0", shape=(40, 24, 20), dtype="u2", chunks=(8, 24, 20))[:] = volume()


def opened(name: str) -> Array:
    whole: Array = zarr.open(name, mode="r")[:]
    return whole


def test_a_picture_with_levels(run: Run) -> None:
    picture()
    done = run("pyramid", "x.ome.zarr", "y.ome.zarr", "--gaussian", "2um", "--levels", 3, "--mode", "nearest")
    assert (done.code, done.err) == (0, "")
    kernel = sp.families.gaussian([1.0, 4.0, 4.0])
    np.testing.assert_array_equal(
        opened("y.ome.zarr/0"), sp.correlate(volume(), kernel, mode="nearest", output="u2")
    )
    assert opened("y.ome.zarr/2").shape == (10, 6, 5)
    for words in ("sigma 2 x 2 x 2 um = 1 x 4 x 4 samples", "40x24x20, 20x12x10, 10x6x5", "mode nearest"):
        assert words in done.out
    assert max(map(len, done.out.splitlines())) <= 80


def test_samples_as_they_are_and_in_json(run: Run) -> None:
    picture()
    facts = json.loads(run("pyramid", "x.ome.zarr", "y.zarr", "--isotropic", "--levels", 3, "--json").out)
    assert facts["levels"] == [[40, 24, 20], [40, 12, 10], [40, 6, 5]]
    assert facts["kernel"] == "none: samples stay as they are"
    assert facts["output_dtype"] == "uint16"
    np.testing.assert_array_equal(opened("y.zarr/0"), volume())
    done = run("pyramid", "x.ome.zarr", "z.zarr", "--reduction", "sample", "--dtype", "float32")
    assert "none: samples stay as they are" in done.out
    assert "method" not in done.out
    np.testing.assert_array_equal(opened("z.zarr/0"), volume().astype("f4"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("x.ome.zarr", "expected IN OUT.ome.zarr; got 1 paths"),
        ("x.ome.zarr y.ome.zarr --levels 1", "`--levels 1` is no number of levels; expected 2 or more"),
        ("x.ome.zarr y.ome.zarr --levels 40", "`--levels 40` is more than there are: 7"),
        ("x.ome.zarr y.npy", "`y.npy`: smaller levels go into OME-Zarr"),
        ("x.npy y.ome.zarr --isotropic", "`--isotropic` goes by the distance of neighbouring samples"),
        ("x.npy y.ome.zarr --gaussian 2um", "`--gaussian 2um` needs a voxel size, and `x.npy` states none"),
        ("x.ome.zarr y.ome.zarr --gaussian 2 --box 3", "expected one of --gaussian"),
        ("x.ome.zarr y.ome.zarr --normalise", "expected one of --gaussian"),
        ("x.ome.zarr y.ome.zarr --nan omit", "go with a kernel, and there is none"),
    ],
)
def test_what_is_refused_names_the_option_and_the_fix(run: Run, arguments: str, message: str) -> None:
    picture()
    np.save("x.npy", volume())
    before = sorted(Path.cwd().iterdir())
    done = run("pyramid", *arguments.split())
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert done.err.count("\n") == 1
    assert sorted(Path.cwd().iterdir()) == before


def test_a_width_in_micrometres_of_a_plain_tiff(run: Run) -> None:
    tifffile = pytest.importorskip("tifffile")
    x = volume()[0]
    said: dict[str, Any] = {"resolution": (20000, 10000), "resolutionunit": "CENTIMETER"}  # x 0.5 um, y 1 um
    tifffile.imwrite("x.tif", x, metadata=None, **said)
    done = run("filter", "x.tif", "y.tif", "--gaussian", "2um")
    assert (done.code, done.err) == (0, "")
    kernel = sp.families.gaussian([2.0, 4.0])
    np.testing.assert_array_equal(tifffile.imread("y.tif"), sp.correlate(x, kernel, output="u2"))
    tifffile.imwrite("z.tif", x, metadata=None)
    refused = run("filter", "z.tif", "w.tif", "--gaussian", "2um")
    assert refused.code
    assert "needs a voxel size, and `z.tif` states none for axis 0" in refused.err


@pytest.mark.parametrize(
    "typed", ["2um", "2000nm", "0.002mm", "2 µm", "2μm", "2e-6m", "2micron", "0.0002 cm"]
)
def test_units_are_converted_to_that_of_the_axes(run: Run, typed: str) -> None:
    picture()
    facts = json.loads(run("filter", "x.ome.zarr", "y.zarr", "--gaussian", typed, "--json").out)
    np.testing.assert_allclose(facts["sigma_px"], [1.0, 4.0, 4.0], rtol=1e-12)


def test_a_length_for_each_axis_and_units_that_clash() -> None:
    assert lengths("--gaussian", "4,1,1um") == ((4.0, 1.0, 1.0), "um")
    assert lengths("--gaussian", "1mm,500um") == ((1000.0, 500.0), "um")
    assert lengths("--gaussian", "2", "mm", 3) == ((2.0,) * 3, "mm")
    assert lengths("--gaussian", "2um", "um").unit == "um"
    assert lengths("--gaussian", "3px") == ((3.0,), "px")
    for text, unit in (("2um", "mm"), ("1mm,2um,3", "px"), ("2px,3um", "px"), ("2px", "mm")):
        with pytest.raises(ValueError, match=r"say several units"):
            lengths("--gaussian", text, unit)
    for text in ("2parsec", "1um,2ft"):
        with pytest.raises(
            ValueError, match=r"is no unit of length; expected one of nm, um, mm, cm, m, or none"
        ):
            lengths("--gaussian", text)
    for text in ("um", "", "1,,2", "2um um", "1e", "--3"):
        with pytest.raises(ValueError, match=r"is not a number|no unit"):
            lengths("--gaussian", text)
    for text in ("-1um", "nan", "inf"):
        with pytest.raises(ValueError, match=r"a width is a number >= 0"):
            lengths("--fwhm", text)


def test_steps_in_units() -> None:
    image = files.Image(np.zeros((2, 3)), "YX", (0.5, None))
    assert steps("--gaussian 2um", "um", image, (0,), Path("x.tif")) == (500.0,)
    with pytest.raises(
        ValueError, match=r"`--gaussian 2um` needs a voxel size, and `x.tif` states none for axis 1"
    ):
        steps("--gaussian 2um", "um", image, (0, 1), Path("x.tif"))


@pytest.mark.parametrize("option", ["--fwhm", "--log", "--unsharp"])
def test_other_kernels_take_units_too(run: Run, option: str) -> None:
    nib = pytest.importorskip("nibabel")
    nib.save(nib.Nifti1Image(volume().astype("f4"), np.diag([2.0, 2.0, 4.0, 1.0])), "x.nii")
    assert run("filter", "x.nii", "y.nii", option, "8mm", "-q").code == 0
    assert run("filter", "x.nii", "z.nii", option, 8, "--unit", "mm", "-q").code == 0
    assert Path("y.nii").read_bytes() == Path("z.nii").read_bytes()
    done = run("filter", "x.nii", "w.nii", "--fwhm", "8mm")
    assert "(FWHM 8 mm)" in done.out
