"""``separable filter`` slab by slab: results, tables, refusals, and what Ctrl-C leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import Run

import separable as sp
from separable.cli.terminal import pace

pytest.importorskip("typer")
zarr = pytest.importorskip("zarr")
h5py = pytest.importorskip("h5py")

Array = np.ndarray[Any, Any]


def volume(dtype: str = "f4") -> Array:
    return np.random.default_rng(5).integers(0, 900, (60, 24, 20)).astype(dtype)


def stored(x: Array, name: str = "x.zarr", chunks: Any = (8, 24, 20), **more: Any) -> str:
    zarr.create_array(name, data=x, chunks=chunks, **more)
    return name


def opened(name: str) -> Array:
    whole: Array = zarr.open(name, mode="r")[:]
    return whole


def picture(spacing: list[float], unit: str = "micrometer", version: str = "0.5") -> None:
    """Write an OME-Zarr picture of one level, x.zarr/0."""
    axes = [{"name": name, "type": "space", "unit": unit} for name in "zyx"]
    level = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": spacing}]}
    scales = [{"axes": axes, "datasets": [level]}]
    new = version == "0.5"
    ome: Any = {"ome": {"version": "0.5", "multiscales": scales}} if new else {"multiscales": scales}
    group = zarr.open_group("x.zarr", mode="w", zarr_format=3 if new else 2, attributes=ome)
    group.create_array("0", shape=(60, 24, 20), dtype="f4", chunks=(8, 24, 20))[:] = volume()


def test_a_volume_of_zarr(run: Run) -> None:
    x = volume("u2")
    stored(x, dimension_names=("z", "y", "x"))
    done = run("filter", "x.zarr", "y.zarr", "--gaussian", "2,1,1", "--memory", "1GiB", "--mode", "mirror")
    assert (done.code, done.err) == (0, "")
    kernel = sp.families.gaussian([2.0, 1.0, 1.0])
    result = opened("y.zarr")
    assert result.dtype == np.uint16  # as in memory: integers stay
    np.testing.assert_array_equal(result, sp.correlate(x, kernel, mode="mirror", output="u2"))
    assert zarr.open("y.zarr", mode="r").metadata.dimension_names == ("z", "y", "x")
    for words in ("0 (z), 1 (y), 2 (x); mode mirror", "separable", "of 60, with 8 before and 8 behind",
                  "MB/s", " of 1 GiB", "x.zarr, 60 x 24 x 20 uint16"):  # fmt: skip
        assert words in done.out
    assert max(map(len, done.out.splitlines())) <= 80


def test_json_has_slabs_and_memory(run: Run) -> None:
    stored(volume())
    words = ("--box", 3, "--dtype", "uint16", "--threads", 1, "--axes", "1,2", "--json")
    facts = json.loads(run("filter", "x.zarr", "y.h5/a/b", *words).out)
    assert (facts["slabs"], facts["slabs_filtered"], facts["slab"]) == (1, 1, 60)
    assert facts["memory_bytes"] <= facts["memory_limit_bytes"] == 1 << 30
    assert facts["bytes_read"] == 2 * facts["bytes_written"] == 60 * 24 * 20 * 4
    assert (facts["filtered_axes"], facts["threads"]) == ([1, 2], 1)
    with h5py.File("y.h5") as file:
        how = {"axes": (1, 2), "method": facts["method"]}
        expected = sp.correlate(volume(), sp.families.box([3, 3]), output="u2", **how)
        np.testing.assert_array_equal(file["a/b"][:], expected)


def test_npy_in_slabs_when_memory_is_said(run: Run) -> None:
    np.save("x.npy", volume())
    assert run("filter", "x.npy", "y.npy", "--gaussian", 1, "--memory", "300MiB", "-q").out == ""
    assert run("filter", "x.npy", "z.npy", "--gaussian", 1, "-q").code == 0
    assert Path("y.npy").read_bytes()[128:] == Path("z.npy").read_bytes()[128:]


@pytest.mark.parametrize(("version", "unit"), [("0.5", "micrometer"), ("0.4", "micrometer")])
def test_sigma_in_units_of_an_ome_picture(run: Run, version: str, unit: str) -> None:
    picture([2.0, 0.5, 0.5], unit, version)
    done = run("filter", "x.zarr/0", "y.zarr", "--gaussian", 1, "--unit", "um", "--json")
    facts = json.loads(done.out)
    assert facts["axes"] == "ZYX"
    np.testing.assert_allclose(facts["spacing_mm"], [2e-3, 5e-4, 5e-4])
    np.testing.assert_allclose(facts["sigma_px"], [0.5, 2.0, 2.0])
    np.testing.assert_array_equal(opened("y.zarr"), sp.correlate(volume(), sp.families.gaussian([0.5, 2, 2])))


def test_sigma_in_units_of_an_hdf5_file(run: Run) -> None:
    with h5py.File("x.h5", "w") as file:
        file["raw"] = volume()
        file["raw"].attrs["element_size_um"] = [2.0, 1.0, 1.0]
    facts = json.loads(run("filter", "x.h5", "y.h5", "--fwhm", 3, "--unit", "um", "--json").out)
    assert facts["spacing_mm"] == [0.002, 0.001, 0.001]


def test_a_unit_is_refused_where_the_source_knows_no_spacing(run: Run) -> None:
    stored(volume())
    done = run("filter", "x.zarr", "y.zarr", "--gaussian", 1, "--unit", "um")
    assert (done.code, done.out) == (2, "")
    assert "`--unit um` needs a voxel size, and `x.zarr` states none for axis 0" in done.err
    assert "OME-Zarr" in done.err
    picture([1.0, 1.0, 1.0], "furlong")
    assert "states none for axis 0" in run("filter", "x.zarr/0", "y", "--gaussian", 1, "--unit", "um").err


def test_metadata_that_are_damaged_say_nothing(run: Run) -> None:
    picture([1.0, 1.0, 1.0])
    path = Path("x.zarr/zarr.json")
    for damage in ('"scale": [1, 2]', '"scale": "lots"', '"scale": [-1, null, true]', '"no": 3'):
        text = json.loads(path.read_text())
        level = text["attributes"]["ome"]["multiscales"][0]["datasets"][0]
        level["coordinateTransformations"] = [json.loads(f'{{"type": "scale", {damage}}}')]
        path.write_text(json.dumps(text))
        facts = json.loads(run("filter", "x.zarr/0", "y.zarr", "--box", 3, "--json", "--resume", "never").out)
        assert facts["spacing_mm"] == [None, None, None]
        assert facts["axes"] == "ZYX"
        subprocess.run(["rm", "-r", "y.zarr"], check=True)


def test_masks_and_nan(run: Run) -> None:
    x = volume()
    x[3, 4, 5] = np.nan
    known = np.random.default_rng(0).random(x.shape) < 0.8
    stored(x)
    stored(known.astype("u1") * 255, "known.zarr")
    words = ("--gaussian", 1.5, "--mask", "known.zarr", "--nan", "omit", "--origin", "1,0,0")
    done = run("filter", "x.zarr", "y.zarr", *words)
    assert (done.code, done.err) == (0, "")
    kernel = sp.families.gaussian([1.5] * 3)
    expected = sp.correlate(x, kernel, mask=known, nan="omit", origin=(1, 0, 0), method="separable")
    np.testing.assert_array_equal(opened("y.zarr"), expected)
    stored(known[:5], "few.zarr")
    assert (
        "`--mask` has shape (5, 24, 20)"
        in run("filter", "x.zarr", "z.zarr", "--box", 3, "--mask", "few.zarr").err
    )


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("x.zarr", 2, "one volume is filtered at a time; pass IN OUT"),
        ("x.zarr x.npy -o there", 2, "one volume is filtered at a time; pass IN OUT"),
        ("x.zarr x.zarr", 2, "`x.zarr` is the input"),
        ("none.zarr y.zarr", 2, "`none.zarr`: there is no such file"),
        ("x.zarr no/y.zarr", 2, "`no/y.zarr`: there is no such folder; make it first"),
        ("x.zarr y.png", 2, "`y.png` has no ending that is known"),
        ("x.zarr y.zarr --memory lots", 2, "`--memory lots` is no size"),
        ("x.zarr y.zarr --memory 1MiB", 2, "`--memory 1MiB` is too small"),
        ("x.zarr y.zarr --nodata 3", 2, "`--nodata` does not go with slabs"),
        ("x.npy y.npy --resume never", 2, "`--resume` goes with --memory, or with a .zarr or .h5"),
        ("x.zarr y.zarr --axes 7", 2, "`--axes 7`: `x.zarr` has 3 axes"),
        ("x.zarr y.zarr --dtype float7", 2, "`--dtype float7` is no dtype"),
        ("x.zarr old.zarr", 1, "`old.zarr` is there already"),
        ("bad.zarr y.zarr", 2, "`bad.zarr` is not a readable zarr file"),
        ("bad.h5 y.zarr", 2, "`bad.h5` is not a readable HDF5 file"),
        ("x.zarr y.zarr --resume later", 2, "--resume"),
    ],
)  # fmt: skip
def test_what_is_refused_names_the_option_and_the_fix(
    run: Run, arguments: str, code: int, message: str
) -> None:
    stored(volume())
    np.save("x.npy", volume())
    Path("old.zarr").mkdir()
    Path("bad.zarr").mkdir()
    Path("bad.zarr/zarr.json").write_text("{")
    Path("bad.h5").write_bytes(b"\x89HDF\r\n\x1a\nand no more")
    before = sorted(Path.cwd().iterdir())
    done = run("filter", *arguments.split(), "--box", 3)
    assert (done.code, done.out) == (code, "")
    assert message in " ".join(done.err.split())
    assert done.err.count("\n") == 1
    assert sorted(Path.cwd().iterdir()) == before


def test_a_damaged_chunk_names_its_file(run: Run) -> None:
    stored(volume())
    Path("x.zarr/c/3/0/0").write_bytes(b"no zstd")
    done = run("filter", "x.zarr", "y.zarr", "--box", 3)
    assert done.code == 2
    assert "`x.zarr` is not a readable zarr file" in done.err


def test_volumes_of_nifti_and_stacks_as_in_memory(run: Run) -> None:
    """The very file that the verb in memory writes, where both run by one method."""
    nib, tifffile = pytest.importorskip("nibabel"), pytest.importorskip("tifffile")
    nib.save(nib.Nifti1Image(volume("i2"), np.diag([2.0, 2.0, 3.0, 1.0]), dtype="i2"), "x.nii")
    words = ("--fwhm", 6, "--unit", "mm")
    facts = json.loads(run("filter", "x.nii", "y.nii", *words, "--memory", "1GiB", "--json").out)
    assert (facts["slab_axis"], facts["axes"], facts["spacing_mm"]) == (2, "XYZ", [2.0, 2.0, 3.0])
    told = json.loads(run("filter", "x.nii", "z.nii", *words, "--json").out)
    assert facts["method"] == told["method"]
    assert Path("y.nii").read_bytes() == Path("z.nii").read_bytes()
    tifffile.imwrite("x.tif", volume("u1"), photometric="minisblack", compression="zlib")
    done = run("filter", "x.tif", "y.tif", "--gaussian", 1, "--memory", "1GiB")
    assert "note    its samples are not compressed" in done.out
    assert run("filter", "x.tif", "z.tif", "--gaussian", 1).code == 0
    np.testing.assert_array_equal(tifffile.imread("y.tif"), tifffile.imread("z.tif"))


def test_opacity_and_values_of_no_data_are_for_images_in_memory(run: Run) -> None:
    tifffile = pytest.importorskip("tifffile")
    colours = np.ones((6, 20, 30, 4), np.uint8)
    tifffile.imwrite("rgba.tif", colours, photometric="rgb", extrasamples=["unassalpha"])
    done = run("filter", "rgba.tif", "y.tif", "--box", 3, "--memory", "1GiB")
    assert (done.code, done.out) == (2, "")
    assert "`rgba.tif` has opacity" in done.err
    assert "leave out --memory" in done.err
    tag = (42113, "s", 0, b"-9999", True)
    tifffile.imwrite("geo.tif", volume()[0], photometric="minisblack", extratags=[tag])
    done = run("filter", "geo.tif", "y.tif", "--box", 3, "--memory", "1GiB")
    assert "`geo.tif` has a no-data value, -9999" in done.err
    assert run("filter", "geo.tif", "y.tif", "--box", 3, "--memory", "1GiB", "--nodata", "none").code == 0


def test_help_has_an_example(run: Run) -> None:
    text = " ".join(run("filter", "--help").out.split())
    assert "filter scan.zarr smooth.zarr --gaussian 2 --memory 1GiB --dtype uint16" in text
    assert "--resume" in text


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_ctrl_c_leaves_the_journal_and_says_how_to_go_on(tmp_path: Path) -> None:
    """In a process of its own, whose slabs take their time."""
    x = np.random.default_rng(1).random((240, 64, 64), np.float32)
    zarr.create_array(str(tmp_path / "x.zarr"), data=x, chunks=(8, 64, 64))
    slowly = (
        "import sys, time\n"
        "from separable.stream.places.zarrs import ZarrTarget\n"
        "from separable.stream import slabs\n"
        "slabs._SLAB_BYTES = 1 << 18\n"
        "write = ZarrTarget.write\n"
        "ZarrTarget.write = lambda self, *what: (time.sleep(0.1), write(self, *what))[1]\n"
        "from separable.cli.app import command\n"
        "sys.exit(command(sys.argv[1:]))\n"
    )
    words = [sys.executable, "-c", slowly, "filter", "x.zarr", "y.zarr", "--gaussian", "0.5,0,0"]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": tmp_path}
    running: Any = subprocess.Popen(words, **options)  # type: ignore[call-overload]
    journal = tmp_path / "y.zarr.journal"
    end = time.monotonic() + 30
    while time.monotonic() < end and (not journal.exists() or b"unit\x00" not in journal.read_bytes()):
        time.sleep(0.02)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=60)
    assert (running.returncode, out) == (130, "")
    assert "interrupted after" in err
    assert "run the same again to go on from there (y.zarr.journal" in err
    assert journal.exists()
    again = subprocess.run([*words, "--json"], capture_output=True, text=True, cwd=tmp_path, check=True)
    facts = json.loads(again.stdout)
    assert 0 < facts["slabs_filtered"] < facts["slabs"]
    result = zarr.open(str(tmp_path / "y.zarr"), mode="r")[:]
    np.testing.assert_array_equal(result, sp.correlate(x, sp.families.gaussian([0.5, 0, 0])))
    assert sorted(os.listdir(tmp_path)) == ["x.zarr", "y.zarr"]


def test_another_kernel_is_refused_with_the_option(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    stored(volume())

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("separable.stream.places.zarrs.ZarrTarget.finish", stop)
        done = run("filter", "x.zarr", "y.zarr", "--gaussian", 2)
    assert (done.code, done.out) == (130, "")
    assert "interrupted after 1 of 1 slab; run the same again" in done.err
    done = run("filter", "x.zarr", "y.zarr", "--gaussian", 3)
    assert done.code == 1
    assert "was begun with another kernel" in done.err
    assert "pass --resume never to begin anew" in done.err
    assert run("filter", "x.zarr", "y.zarr", "--gaussian", 3, "--resume", "never").code == 0


def test_a_pace_is_told() -> None:
    assert pace(1e6, 0, 9, 1.0) == ""
    assert pace(2e6, 3, 6, 2.0) == ", 3 MB/s, 0:04 left"
    assert pace(2e9, 10, 90, 1000.0) == ", 20 MB/s, 2:30:00 left"
