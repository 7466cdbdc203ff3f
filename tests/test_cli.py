"""The command line: results, exit codes, messages, and that nothing is left half-done."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import Run

import separable as sp

pytest.importorskip("typer")
nib = pytest.importorskip("nibabel")
PIL = pytest.importorskip("PIL.Image")
tifffile = pytest.importorskip("tifffile")

Array = np.ndarray[Any, Any]

BRAIN = Path(nib.__file__).parent / "tests" / "data"


def names(folder: Path | None = None) -> list[str]:
    return sorted(path.name for path in (folder or Path.cwd()).iterdir())


def samples(shape: tuple[int, ...], dtype: str = "u1", seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(0, 200, shape).astype(dtype)


# -- the command itself ------------------------------------------------------------------------------


def test_help_has_every_verb_and_examples_for_each(run: Run) -> None:
    done = run("--help")
    assert done.code == 0
    for verb in ("audit", "bench", "calibrate", "demo", "factor", "filter", "run", "separate"):
        assert verb in done.out
        each = run(verb, "--help")
        assert each.code == 0
        assert f"separable {verb}" in each.out.split("Examples")[1]
        assert "--json" in each.out
        assert max(map(len, each.out.splitlines())) <= 80
    assert run("filter", "-h").out == run("filter", "--help").out


def test_version_and_no_arguments(run: Run) -> None:
    assert run("--version") == (0, f"separable {sp.__version__}\n", "")
    assert run().code == 2


def test_python_dash_m_runs_it(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", samples((9, 9), "f4"))
    command = [sys.executable, "-m", "separable", "filter", "x.npy", "y.npy", "--box", "3"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert np.array_equal(np.load(tmp_path / "y.npy"), sp.uniform(samples((9, 9), "f4"), 3))


def test_without_typer_it_says_what_to_install(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("separable.cli.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("separable.cli.app", raising=False)
    monkeypatch.setitem(sys.modules, "typer", None)
    done = run("--help")
    assert (done.code, done.out) == (1, "")
    assert done.err == "separable: typer is not installed: pip install 'separable[cli]'\n"


def test_without_nibabel_it_says_what_to_install(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nibabel", None)
    done = run("filter", BRAIN / "anatomical.nii", "out.nii", "--gaussian", 1)
    assert done.code == 1
    assert done.err == "separable: nibabel is not installed: pip install 'separable[files]'\n"
    assert names() == []


# -- factor ------------------------------------------------------------------------------------------


def test_factor_of_a_kernel_that_separates(run: Run) -> None:
    np.save("sobel.npy", np.outer([1, 2, 1], [-1, 0, 1]))
    done = run("factor", "sobel.npy")
    assert done.code == 0
    assert "yes, one term is enough" in done.out
    assert "6 MACs per sample, not 9: 1.5x fewer" in done.out
    assert "none, the terms are the kernel exactly" in done.out
    facts = json.loads(run("factor", "sobel.npy", "--json").out)
    assert facts["separable"] is True
    assert (facts["rank"], facts["macs"], facts["dense_macs"], facts["relative_l1"]) == (1, 6, 9, 0.0)
    assert np.array_equal(np.outer(*facts["terms"][0]), np.load("sobel.npy"))


def test_factor_of_a_kernel_that_does_not(run: Run) -> None:
    disk = sp.families.disk(8.0)
    np.save("disk.npy", disk)
    done = run("factor", "disk.npy")
    assert done.code == 0
    assert "no, the best single term is 24.6 % away (relative l1)" in done.out
    facts = json.loads(run("factor", "disk.npy", "--json").out)
    assert facts["separable"] is False
    ranks = [offer["rank"] for offer in facts["offers"]]
    assert ranks == [1, 2, 3, 4, 6]
    errors = [offer["relative_l1"] for offer in facts["offers"]]
    assert errors == sorted(errors, reverse=True)
    for rank, error in zip(ranks, errors, strict=True):
        away = np.abs(disk - sp.factor(disk, rank=rank).dense()).sum() / np.abs(disk).sum()
        assert error == pytest.approx(away, abs=1e-12)
        assert f"{rank * 34:d}" in done.out  # MACs: 17 + 17 taps per term


def test_factor_options(run: Run) -> None:
    np.save("disk.npy", sp.families.disk(8.0))
    assert json.loads(run("factor", "disk.npy", "--rank", 2, "--json").out)["rank"] == 2
    loose = json.loads(run("factor", "disk.npy", "--tol", 0.2, "--json").out)
    assert loose["relative_l1"] <= 0.2
    assert loose["rank"] <= 2
    strict = run("factor", "disk.npy", "--rank", 2, "--tol", 1e-3)
    assert (strict.code, strict.out) == (1, "")
    assert "not rank 2: relative l1 error 0.18 > tol 0.001. Pass --rank 6 or raise --tol." in strict.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("nan.npy", "`nan.npy`: `weights[0, 1]` is nan"),
        ("ones.npy --rank 0", "`--rank` is 0; expected at least 1."),
        ("ones.npy --tol -1", "`--tol` is -1.0;"),
        ("a-rank=3-of-tol=2.npy", "`a-rank=3-of-tol=2.npy`: `weights[0, 1]` is nan"),
    ],
)
def test_factor_says_which_option_or_file_is_wrong(run: Run, arguments: str, message: str) -> None:
    np.save("ones.npy", np.ones((3, 3)))
    for name in ("nan.npy", "a-rank=3-of-tol=2.npy"):
        np.save(name, [[1.0, np.nan]])
    done = run("factor", *arguments.split())
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"separable: {message}")


def test_factor_beyond_the_dense_cost_says_so(run: Run) -> None:
    np.save("noise.npy", np.random.default_rng(0).normal(size=(5, 5)))
    assert "50 MACs per sample, 25 as it is: nothing saved" in run("factor", "noise.npy").out


@pytest.mark.parametrize("columns", [50, 80])
@pytest.mark.parametrize("kernel", ["sobel", "disk", "noise"])
def test_tables_fit_the_terminal(
    run: Run, monkeypatch: pytest.MonkeyPatch, columns: int, kernel: str
) -> None:
    made = {
        "sobel": np.outer([1, 2, 1], [-1, 0, 1]),
        "disk": sp.families.disk(12.0),
        "noise": np.random.default_rng(0).normal(size=(31, 31)),
    }
    np.save(f"{kernel}.npy", made[kernel])
    monkeypatch.setenv("COLUMNS", str(columns))
    out = run("factor", f"{kernel}.npy").out
    assert max(map(len, out.splitlines())) <= columns
    assert "…" not in out


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array([[1.0, np.nan]]), "is nan"),
        (np.array([1, None]), "not numbers"),
        (np.ones((2, 2), complex), "complex128"),
        (np.zeros((0, 3)), "empty"),
        (np.float64(1), "0 dimensions"),
        (np.ones((1,) * 9), "9"),
    ],
)
def test_factor_refuses_with_a_reason(run: Run, array: Array, message: str) -> None:
    np.save("k.npy", array)
    done = run("factor", "k.npy")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("separable: ")
    assert done.err.count("\n") == 1
    assert message in done.err


# -- filter: results ---------------------------------------------------------------------------------


def test_photograph(run: Run) -> None:
    data = samples((30, 40, 3))
    PIL.fromarray(data).save("a.png")
    done = run("filter", "a.png", "b.png", "--gaussian", "2,1", "--mode", "nearest,wrap")
    assert (done.code, done.err) == (0, "")
    assert "Gaussian, sigma 2 x 1 samples" in done.out
    expected = sp.gaussian(data, (2, 1), mode=("nearest", "wrap"), axes=(0, 1), output="u1")
    assert np.array_equal(np.array(PIL.open("b.png")), expected)


def test_volume_in_millimetres(run: Run) -> None:
    before = nib.load(BRAIN / "example4d.nii.gz")
    done = run("filter", BRAIN / "example4d.nii.gz", "s.nii.gz", "--gaussian", 3, "--unit", "mm", "--json")
    facts = json.loads(done.out)
    after = nib.load("s.nii.gz")
    voxels = nib.affines.voxel_sizes(before.affine)
    assert facts["sigma_px"] == pytest.approx(3 / voxels)
    assert (facts["filtered_axes"], facts["axes"]) == ([0, 1, 2], "XYZT")
    data = np.asanyarray(before.dataobj)
    # In the file's order of memory, in which sums are taken: another rounds one voxel in 70,000 another way.
    expected = sp.gaussian(data, tuple(3 / voxels), axes=(0, 1, 2), output=np.empty_like(data))
    assert np.array_equal(np.asanyarray(after.dataobj), expected)
    assert np.array_equal(after.affine, before.affine)
    assert after.header.get_zooms() == before.header.get_zooms()


def test_stack_of_pages(run: Run) -> None:
    data = samples((6, 20, 30), "u2")
    tifffile.imwrite("a.tif", data, photometric="minisblack", metadata=None)
    assert run("filter", "a.tif", "b.tif", "--box", "3,5,5", "-q") == (0, "", "")
    assert np.array_equal(tifffile.imread("b.tif"), sp.uniform(data, (3, 5, 5), output="u2"))
    assert run("filter", "a.tif", "c.tif", "--box", 5, "--axes", "1,-1", "-q").code == 0
    assert np.array_equal(tifffile.imread("c.tif"), sp.uniform(data, 5, axes=(1, 2), output="u2"))


@pytest.mark.parametrize(
    ("options", "kernel"),
    [
        (["--gaussian", "1.5", "--order", "0,1"], sp.families.gaussian((1.5, 1.5), order=(0, 1))),
        (["--gaussian", "1.5", "--truncate", "2"], sp.families.gaussian((1.5, 1.5), truncate=2)),
        (["--box", "4,3"], sp.families.box((4, 3))),
        (["--sobel", "0"], sp.families.sobel(0)),
        (["--sobel", "1"], sp.families.sobel(1)),
        (["--log", "1.2,2"], sp.families.laplacian_of_gaussian((1.2, 2.0))),
        (["--kernel", "k.npy"], sp.families.disk(2.0)),
        (["--kernel", "k.npy", "--rank", "1"], sp.factor(sp.families.disk(2.0), rank=1)),
    ],
)
def test_each_kernel_is_the_library_s(run: Run, options: list[str], kernel: Any) -> None:
    np.save("x.npy", samples((20, 25), "f8"))
    np.save("k.npy", sp.families.disk(2.0))
    place = ["--mode", "constant", "--cval", "7", "--origin", "1,0", "--threads", "1"]
    done = run("filter", "x.npy", "y.npy", *options, *place)
    assert (done.code, done.err) == (0, "")
    expected = sp.correlate(samples((20, 25), "f8"), kernel, mode="constant", cval=7, origin=(1, 0))
    assert np.allclose(np.load("y.npy"), expected, rtol=0, atol=1e-9)


def test_unsharp_adds_what_the_gaussian_takes_away(run: Run) -> None:
    x = samples((20, 25), "f8")
    np.save("x.npy", x)
    run("filter", "x.npy", "y.npy", "--unsharp", 1.5, "--amount", 0.7)
    assert np.allclose(np.load("y.npy"), x + 0.7 * (x - sp.gaussian(x, 1.5)), rtol=0, atol=1e-9)


@pytest.mark.parametrize("option", ["--gaussian", "--log"])
def test_derivatives_in_millimetres_are_per_millimetre(run: Run, option: str) -> None:
    steps = (0.5, 2.0, 1.0)  # a quadratic in millimetres, on voxels of three lengths
    grid = np.meshgrid(*((np.arange(41) - 20) * step for step in steps), indexing="ij")
    ramp = 3.0 * grid[0] if option == "--gaussian" else grid[0] ** 2 + 2 * grid[1] ** 2 + 3 * grid[2] ** 2
    nib.save(nib.Nifti1Image(ramp, np.diag([*steps, 1.0])), "x.nii")
    order = ["--order", "1,0,0"] if option == "--gaussian" else []
    assert run("filter", "x.nii", "y.nii", option, 2, "--unit", "mm", *order).code == 0
    inside = nib.load("y.nii").get_fdata()[20, 20, 20]
    # The sampled, truncated derivatives have the right gain to some per cent.
    assert inside == pytest.approx(3.0 if option == "--gaussian" else 2 + 4 + 6, rel=0.03)


def test_tol_of_a_dense_kernel_is_the_plan_s(run: Run) -> None:
    np.save("x.npy", samples((64, 64), "f4"))
    np.save("k.npy", sp.families.disk(12.0))
    loose = json.loads(run("filter", "x.npy", "y.npy", "--kernel", "k.npy", "--tol", 0.3, "--json").out)
    assert 0.01 < loose["relative_l1"] <= 0.3
    assert loose["macs"] < loose["dense_macs"]


def test_integers_round_and_saturate_and_a_dtype_can_be_asked_for(run: Run) -> None:
    data = np.zeros((5, 12), "u1")
    data[:, 6:] = 200
    np.save("x.npy", data)
    done = run("filter", "x.npy", "y.npy", "--sobel", 1)
    assert "note" in done.out
    assert "below 0" in done.out
    assert set(np.unique(np.load("y.npy"))) == {0, 255}
    run("filter", "x.npy", "y.npy", "--sobel", 1, "--dtype", "int16")
    assert set(np.unique(np.load("y.npy"))) == {0, 800}
    plain = run("filter", "x.npy", "y.npy", "--sobel", 1, "--dtype", "float32")
    assert "note" not in plain.out
    assert np.load("y.npy").dtype == np.float32
    assert "note" not in run("filter", "x.npy", "y.npy", "--box", 3).out


def test_out_may_be_in(run: Run) -> None:
    data = samples((20, 30), "f4")
    np.save("x.npy", data)
    nib.save(nib.Nifti1Image(samples((5, 6, 7), "i2"), np.eye(4)), "x.nii")
    assert run("filter", "x.npy", "x.npy", "--gaussian", 2).code == 0
    assert np.array_equal(np.load("x.npy"), sp.gaussian(data, 2))
    assert run("filter", "x.nii", "x.nii", "--box", 3).code == 0
    assert names() == ["x.nii", "x.npy"]


def test_json_says_what_was_done(run: Run) -> None:
    np.save("x.npy", samples((20, 30), "f4"))
    facts = json.loads(run("filter", "x.npy", "y.npy", "--gaussian", 1, "--threads", 1, "--json").out)
    assert set(facts["seconds"]) == {"read", "filter", "write"}
    assert facts["input"] == "x.npy"
    assert facts["output"] == "y.npy"
    assert (facts["shape"], facts["kernel_shape"], facts["terms"]) == ([20, 30], [9, 9], 1)
    assert (facts["method"], facts["macs"], facts["dense_macs"]) == ("separable", 18, 81)
    assert facts["threads"] == 1


# -- filter: refusals --------------------------------------------------------------------------------


def prepared() -> list[str]:
    np.save("x.npy", samples((20, 30), "f4"))
    np.save("nan.npy", np.array([[1.0, np.nan]]))
    np.save("cube.npy", np.ones((3, 3, 3)))
    np.save("object.npy", np.array([1, None]))
    PIL.fromarray(samples((8, 9, 3))).save("rgb.png")
    whole = (BRAIN / "anatomical.nii").read_bytes()
    Path("cut.nii").write_bytes(whole[: len(whole) // 2])
    Path("cut.png").write_bytes(Path("rgb.png").read_bytes()[:90])
    Path("cut.npy").write_bytes(Path("x.npy").read_bytes()[:500])
    Path("folder.npy").mkdir()
    return names()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("x.npy y.npy", "expected one of --gaussian, --fwhm, --box"),
        ("x.npy y.npy --box 3 --gaussian 2", "got --gaussian and --box"),
        ("x.npy y.npy --box 3 --order 1", "`--order` goes with --gaussian or --fwhm, not with --box"),
        ("x.npy y.npy --box 3 --unit mm", "`--unit mm` goes with --gaussian or --fwhm or --log"),
        ("x.npy y.npy --box 3 --rank 2", "`--rank` goes with --kernel"),
        ("x.npy y.npy --gaussian two", "`--gaussian two` is not a number"),
        ("x.npy y.npy --gaussian 1,2,3", "has 3 numbers for 2 filtered axes; pass 1 or 2"),
        ("x.npy y.npy --gaussian -1", "a standard deviation is a number >= 0"),
        ("x.npy y.npy --gaussian nan", "a standard deviation is a number >= 0"),
        ("x.npy y.npy --gaussian 1e9", "`--gaussian 1e9` is a standard deviation of 1e+09 samples"),
        ("x.npy y.npy --gaussian 2 --unit mm", "`x.npy` states none for axis 0"),
        ("x.npy y.npy --box 2.5", "not a whole number"),
        ("x.npy y.npy --box 0", "`--box` is 0; expected an integer from 1"),
        ("x.npy y.npy --sobel 2", "not one of the filtered axes (0, 1)"),
        ("rgb.png y.png --sobel 2", "not one of the filtered axes (0, 1)"),
        ("x.npy y.npy --kernel nan.npy", "`nan.npy`: kernel weights hold NaN"),
        ("x.npy y.npy --kernel nan.npy --rank 2", "`nan.npy`: `weights["),
        ("x.npy y.npy --kernel cube.npy --axes 0,1,1", "names an axis twice"),
        ("x.npy y.npy --gaussian 2 --order -1", "`--order` is -1;"),
        ("x.npy y.npy --kernel object.npy", "not numbers"),
        ("x.npy y.npy --kernel cube.npy", "has 3 axes, 3 x 3 x 3, and 2 are filtered"),
        ("x.npy y.npy --kernel no.npy", "`no.npy` does not exist"),
        ("x.npy y.npy --box 3 --mode reflekt", "Did you mean 'reflect'?"),
        (
            "x.npy y.npy --box 3 --mode wrap,wrap,wrap",
            "`--mode wrap,wrap,wrap` has 3 entries for 2 filtered axes",
        ),
        ("x.npy y.npy --box 3 --origin 0,2", "`--origin 2` lies outside axis 1's 3 taps (allowed -1..1)"),
        ("x.npy y.npy --box 3 --axes 2", "has 2 axes, 0 to 1"),
        ("x.npy y.npy --box 3 --axes 0,0", "`--axes 0,0` names an axis twice"),
        ("x.npy y.npy --box 3 --dtype uint7", "`--dtype uint7` is no dtype"),
        ("x.npy y.npy --box 3 --dtype object", "dtype object"),
        ("x.npy y.npy --box 3 --threads 0", "`--threads 0` is too few"),
        ("x.npy y.npy --box 3 --threads two", "--threads"),
        ("x.npy y.npy --box 3 --colour red", "--colour"),
        ("x.npy y.png --box 3", "pass --dtype uint8"),
        ("x.npy y.gif --box 3", "no suffix of a known format"),
        ("x.npy no/y.npy --box 3", "does not exist"),
        ("x.npy folder.npy --box 3", "it is a directory"),
        ("no.npy y.npy --box 3", "`no.npy` does not exist"),
        ("folder.npy y.npy --box 3", "cannot be read"),
        ("cut.npy y.npy --box 3", "damaged or cut short"),
        ("cut.nii y.nii --box 3", "damaged or cut short"),
        ("cut.png y.png --box 3", "not a readable PNG"),
        ("rgb.png y.nii --box 3", "with a colour axis"),
        ("x.npy", "OUT"),
    ],
)
def test_wrong_usage_and_bad_input(run: Run, arguments: str, message: str) -> None:
    before = prepared()
    done = run("filter", *arguments.split())
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert "Traceback" not in done.err
    assert names() == before


def test_an_existing_target_survives_a_refusal(run: Run) -> None:
    prepared()
    Path("y.npy").write_bytes(b"precious")
    assert run("filter", "cut.npy", "y.npy", "--box", 3).code == 2
    assert run("filter", "x.npy", "y.npy", "--box", 3, "--origin", 5).code == 2
    assert Path("y.npy").read_bytes() == b"precious"


@pytest.mark.parametrize(
    ("failure", "code", "message"),
    [
        (OSError(28, "No space left on device"), 1, "No space left on device"),
        (MemoryError("Unable to allocate 9 TiB"), 1, "not enough memory. Unable to allocate 9 TiB"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_failing_half_way_leaves_the_target_as_it_was(
    run: Run, monkeypatch: pytest.MonkeyPatch, failure: BaseException, code: int, message: str
) -> None:
    np.save("x.npy", samples((20, 30), "f4"))
    Path("y.npy").write_bytes(b"precious")

    def write_half(file: Any, *_: object, **__: object) -> None:
        file.write(b"half")
        raise failure

    monkeypatch.setattr(np.lib.format, "write_array", write_half)
    done = run("filter", "x.npy", "y.npy", "--box", 3)
    assert (done.code, done.out) == (code, "")
    assert message in done.err
    assert Path("y.npy").read_bytes() == b"precious"
    assert names() == ["x.npy", "y.npy"]


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_leave_nothing_behind(
    run: Run, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, code: int
) -> None:
    np.save("x.npy", samples((20, 30), "f4"))

    def stopped(file: Any, *_: object, **__: object) -> None:
        file.write(b"half")
        os.kill(os.getpid(), number)

    monkeypatch.setattr(np.lib.format, "write_array", stopped)
    assert run("filter", "x.npy", "y.npy", "--box", 3).code == code
    assert names() == ["x.npy"]


def test_output_that_nobody_reads_is_no_traceback(tmp_path: Path) -> None:
    np.save(tmp_path / "k.npy", np.random.default_rng(0).normal(size=(31, 31)))
    command = f"{sys.executable} -m separable factor k.npy --json | head -c 1"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("{", "")


def test_the_bar_is_drawn_on_a_terminal_only(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save("x.npy", samples((20, 30), "f4"))
    assert run("filter", "x.npy", "y.npy", "--box", 3).err == ""
    monkeypatch.setenv("FORCE_COLOR", "1")
    seen = run("filter", "x.npy", "y.npy", "--box", 3)
    assert "writing" in seen.err
    assert "writing" not in seen.out
    assert run("filter", "x.npy", "y.npy", "--box", 3, "--quiet") == (0, "", "")
