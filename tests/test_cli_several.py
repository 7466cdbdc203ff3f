"""Several files in one call of `separable filter`, kernels in terms files and by name, lengths, units."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import Run
from hypothesis import given
from hypothesis import strategies as st

import separable as sp
from separable import files

pytest.importorskip("typer")

Array = np.ndarray[Any, Any]


def names(folder: str = ".") -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


def three() -> list[Array]:
    arrays = [np.random.default_rng(seed).random((8 + seed, 9)).astype("f4") for seed in range(3)]
    for name, array in zip("abc", arrays, strict=True):
        np.save(f"{name}.npy", array)
    return arrays


# -- several files -----------------------------------------------------------------------------------


def test_each_file_goes_under_its_name_into_the_directory(run: Run) -> None:
    arrays = three()
    done = run("filter", "a.npy", "b.npy", "c.npy", "-o", "new/out", "--box", 3)
    assert (done.code, done.err) == (0, "")
    assert names("new/out") == ["a.npy", "b.npy", "c.npy"]
    for name, array in zip("abc", arrays, strict=True):
        assert np.array_equal(np.load(f"new/out/{name}.npy"), sp.uniform(array, 3))
        assert f"new/out/{name}.npy, {len(array)} x 9 float32" in done.out
    facts = json.loads(run("filter", "a.npy", "-o", "new/out", "--box", 3, "--json").out)
    assert facts["output"] == "new/out"
    assert [each["output"] for each in facts["files"]] == ["new/out/a.npy"]
    assert run("filter", "a.npy", "-o", "one.npy", "--box", 3, "-q") == (0, "", "")
    assert np.array_equal(np.load("one.npy"), np.load("new/out/a.npy"))


def test_one_failure_is_named_and_the_others_go_on(run: Run) -> None:
    three()
    np.save("cube.npy", np.ones((3, 3, 3)))
    Path("b.npy").write_bytes(Path("b.npy").read_bytes()[:150])
    line = ["a.npy", "b.npy", "gone.npy", "cube.npy", "c.npy", "-o", "out", "--kernel", "disk(1)"]
    done = run("filter", *line)
    assert done.code == 1
    assert names("out") == ["a.npy", "c.npy"]
    errors = done.err.splitlines()
    assert [error.split("`")[1] for error in errors] == ["b.npy", "gone.npy", "cube.npy"]
    assert all(error.startswith("separable: ") for error in errors)
    facts = json.loads(run("filter", *line, "--json").out)["files"]
    assert [each["input"] for each in facts if "error" in each] == ["b.npy", "gone.npy", "cube.npy"]
    assert [each["output"] for each in facts if "error" not in each] == ["out/a.npy", "out/c.npy"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("a.npy b.npy c.npy", "3 files without -o"),
        ("a.npy", "OUT is missing"),
        ("a.npy d/a.npy -o out", "`a.npy` and `d/a.npy` would both be written as `out/a.npy`"),
        ("a.npy d/A.npy -o out", "would both be written"),
        ("a.npy b.npy -o .", "`a.npy` is an input and would be overwritten"),
        ("b.npy d/a.npy -o link", "`b.npy` is an input and would be overwritten"),
        ("a.npy b.npy -o c.npy", "`--out c.npy` is no directory"),
        ("a.npy b.txt -o out", "`out/b.txt` has no suffix of a known format"),
        ("a.npy b.npy -o full", "`full/b.npy` cannot be written: it is a directory"),
        ("a.npy b.npy -o c.npy/out", "`--out c.npy/out` cannot be made"),
        ("a.npy b.npy -o out --mask no.npy", "`no.npy` does not exist"),
        ("a.npy b.npy -o out --threads 0", "`--threads 0` is too few"),
        ("a.npy b.npy -o out --mode reflekt", "Did you mean 'reflect'?"),
        ("a.npy b.npy -o out --dtype uint7", "`--dtype uint7` is no dtype"),
        ("a.npy b.npy -o out --gaussian 2", "got --gaussian and --box"),
    ],
)
def test_what_is_wrong_for_all_is_refused_before_any_work(run: Run, arguments: str, message: str) -> None:
    three()
    for folder in ("d", "full/b.npy"):
        Path(folder).mkdir(parents=True)
    for name in ("a", "A"):
        np.save(f"d/{name}.npy", np.ones((3, 3)))
    Path("link").symlink_to(".")
    before = names()
    done = run("filter", *arguments.split(), "--box", 3)
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert done.err.count("\n") == 1
    assert names() == before


def test_an_interrupt_ends_all(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    three()
    read = files.read

    def stopped(path: Path) -> files.Image:
        if path.name == "b.npy":
            raise KeyboardInterrupt
        return read(path)

    monkeypatch.setattr(files, "read", stopped)
    done = run("filter", "a.npy", "b.npy", "c.npy", "-o", "out", "--box", 3)
    assert (done.code, done.err) == (130, "separable: interrupted.\n")
    assert names("out") == ["a.npy"]


# -- kernels -----------------------------------------------------------------------------------------


def test_terms_go_through_a_file_with_their_error(run: Run) -> None:
    disk, x = sp.families.disk(3.0), np.random.default_rng(0).random((60, 70))
    np.save("disk.npy", disk)
    np.save("x.npy", x)
    done = run("factor", "disk.npy", "--tol", 0.1, "-o", "terms.npz")
    assert done.code == 0
    assert done.out.endswith("wrote terms.npz\n")
    found = sp.factor(disk, tol=0.1)
    kept = files.read_terms(Path("terms.npz"))
    assert kept == found
    assert kept.error == found.error
    facts = json.loads(run("filter", "x.npy", "y.npy", "--kernel", "terms.npz", "--json").out)
    assert np.array_equal(np.load("y.npy"), sp.correlate(x, found))
    assert facts["relative_l1"] == pytest.approx(found.error.relative_l1, rel=0.01)
    assert "terms.npz, 7 x 7 taps" in facts["kernel"]
    again = json.loads(run("factor", "terms.npz", "--json").out)
    assert (again["shape"], again["terms_file"]) == ([7, 7], None)


@given(
    rank=st.integers(1, 3),
    lengths=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    seed=st.integers(0, 99),
    noise=st.none() | st.floats(0, 1),
)
def test_terms_files_keep_every_kernel(
    tmp_path_factory: pytest.TempPathFactory, rank: int, lengths: list[int], seed: int, noise: float | None
) -> None:
    rng = np.random.default_rng(seed)
    error = sp.ErrorBounds(0.5, 0.25, 0.125, 0.5 if seed % 2 else 0.25)
    terms = [[rng.normal(size=length) for length in lengths] for _ in range(rank)]
    kernel = sp.SeparableKernel(terms, error=error, noise=noise)
    path = tmp_path_factory.mktemp("terms") / "t.npz"
    files.write_terms(path, kernel)
    assert files.read_terms(path) == kernel


def rewritten(changes: dict[str, Any]) -> None:
    with np.load("terms.npz") as file:
        members = dict(file)
    members.update(changes)
    np.savez("terms.npz", **{name: value for name, value in members.items() if value is not None})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": np.array("separable terms 9")}, "holds no terms"),
        ({"format": None}, "holds no terms"),
        ({"format": np.array(["a", 1], object)}, "not what terms are stored as"),
        ({"taps0": np.array([[None]], object)}, "not what terms are stored as"),
        ({"taps0": np.ones((2, 3), "f4")}, "not what terms are stored as"),
        ({"taps0": np.ones((2, 3))}, "expected (terms, taps) for each axis"),
        ({"taps0": np.ones(3)}, "expected (terms, taps) for each axis"),
        ({"taps0": None}, "taps0"),
        ({"taps0": np.array([[1.0, np.nan, 2.0]])}, "nan"),
        ({"taps0": None, "taps1": None}, "no taps"),
        ({"error": np.array([-1.0, 0, 0, 0])}, "states no error"),
        ({"error": np.array([np.nan, 0, 0, 0])}, "states no error"),
        ({"error": None}, "error"),
        ({"noise": np.array(-1.0)}, "states no error"),
        ({"noise": np.ones(3)}, "noise"),
    ],
)
def test_a_terms_file_is_not_believed(run: Run, changes: dict[str, Any], message: str) -> None:
    np.save("x.npy", np.ones((8, 9)))
    files.write_terms(Path("terms.npz"), sp.families.box((3, 3)))
    rewritten(changes)
    done = run("filter", "x.npy", "y.npy", "--kernel", "terms.npz")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("separable: `terms.npz`")
    assert done.err.count("\n") == 1
    assert message in done.err


def test_a_terms_file_that_promises_much_takes_no_memory(run: Run) -> None:
    np.save("x.npy", np.ones((8, 9)))
    files.write_terms(Path("terms.npz"), sp.families.box((3, 3)))
    with np.load("terms.npz") as file:
        members = dict(file)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f8", "fortran_order": False, "shape": (1, 1 << 50)}
    )
    with zipfile.ZipFile("terms.npz", "w") as archive:
        archive.writestr("taps0.npy", header.getvalue())
        for name in ("taps1", "error", "noise", "format"):
            member = io.BytesIO()
            np.save(member, members[name])
            archive.writestr(f"{name}.npy", member.getvalue())
    done = run("filter", "x.npy", "y.npy", "--kernel", "terms.npz")
    assert done.code == 2
    assert "not what terms are stored as" in done.err


@given(data=st.data())
def test_damaged_terms_files_are_named(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("terms") / "t.npz"
    files.write_terms(path, sp.families.laplacian_of_gaussian((1.0, 1.0)))
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(raw[: data.draw(st.integers(1, len(raw)))]))
    kernel, message = None, ""
    try:
        kernel = files.read_terms(path)
    except files.FileError as error:
        message = str(error)
    assert "t.npz" in message if kernel is None else np.isfinite(kernel.dense()).all()


def test_a_kernel_by_name(run: Run) -> None:
    x = np.random.default_rng(0).random((20, 30))
    np.save("x.npy", x)
    assert run("filter", "x.npy", "y.npy", "--kernel", "disk(2)").code == 0
    assert np.allclose(np.load("y.npy"), sp.correlate(x, sp.families.disk(2)), atol=1e-12)
    done = run("filter", "x.npy", "y.npy", "--kernel", "gaussian((2, 1))")
    assert "gaussian((2, 1)), 17 x 9 taps, 1 term" in done.out
    assert np.array_equal(np.load("y.npy"), sp.correlate(x, sp.families.gaussian((2, 1))))
    done = run("filter", "x.npy", "z.npy", "--kernel", "disc(2)")
    assert (done.code, done.out) == (2, "")
    assert "`disc(2)`: no such kernel" in done.err


@pytest.mark.parametrize("scale", [1e-30, 7.0, -3.0])
@pytest.mark.parametrize("terms", [False, True])
def test_normalise_keeps_constants(run: Run, scale: float, terms: bool) -> None:
    np.save("x.npy", np.full((20, 30), 5.0))
    np.save("k.npy", sp.families.disk(3.0) * scale)
    kernel = "k.npy"
    if terms:
        assert run("factor", "k.npy", "--tol", 0.05, "-o", "k.npz").code == 0
        kernel = "k.npz"
    assert run("filter", "x.npy", "y.npy", "--kernel", kernel, "--normalise").code == 0
    assert np.allclose(np.load("y.npy"), 5.0, rtol=1e-9)
    assert run("filter", "x.npy", "z.npy", "--kernel", kernel, "--normalize").code == 0


def test_normalise_refuses_what_sums_to_nothing(run: Run) -> None:
    np.save("x.npy", np.ones((8, 9)))
    np.save("k.npy", np.outer([1, 2, 1], [-1, 0, 1]))
    done = run("filter", "x.npy", "y.npy", "--kernel", "k.npy", "--normalise")
    assert (done.code, done.out) == (2, "")
    assert "`k.npy`: the weights sum to 0" in done.err
    assert "leave out --normalise" in done.err


# -- lengths -----------------------------------------------------------------------------------------


def test_fwhm_is_a_gaussian_of_that_width(run: Run) -> None:
    x = np.zeros((1, 201))
    x[0, 100] = 1
    np.save("x.npy", x)
    done = run("filter", "x.npy", "y.npy", "--fwhm", "0,20")
    assert "(FWHM 0,20 px)" in done.out
    y = np.load("y.npy")[0]
    assert y[90] == pytest.approx(y[100] / 2, rel=1e-3)
    facts = json.loads(run("filter", "x.npy", "y.npy", "--fwhm", "0,20", "--json").out)
    assert facts["sigma_px"] == pytest.approx([0, 20 / 2.3548200450309493])


@pytest.mark.parametrize("option", ["--gaussian", "--fwhm", "--log", "--unsharp"])
def test_units_are_the_same_length(run: Run, option: str) -> None:
    nib = pytest.importorskip("nibabel")
    x = np.random.default_rng(0).random((12, 13, 14)).astype("f4")
    nib.save(nib.Nifti1Image(x, np.diag([0.5, 0.25, 1.0, 1.0])), "x.nii")
    scale = {"mm": 1.0, "um": 1e3, "nm": 1e6}
    results = {}
    for unit, per_mm in scale.items():
        line = ["x.nii", f"{unit}.nii", option, 0.75 * per_mm, "--unit", unit]
        assert run("filter", *line, "-q").code == 0
        results[unit] = nib.load(f"{unit}.nii").get_fdata() * (per_mm**2 if option == "--log" else 1)
    voxels = [1.5, 3.0, 0.75]
    pixels = ",".join(str(value) for value in voxels)
    for unit in ("um", "nm"):
        assert np.allclose(results[unit], results["mm"], rtol=1e-5, atol=1e-5)
    if option != "--log":
        assert run("filter", "x.nii", "px.nii", option, pixels, "-q").code == 0
        assert np.allclose(results["mm"], nib.load("px.nii").get_fdata(), atol=1e-6)
