"""``separable factor``: kernels by name, the tables and the picture of --plot."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import Run

import separable as sp
from separable import files

pytest.importorskip("typer")
image = pytest.importorskip("PIL.Image")
pytest.importorskip("matplotlib")


@pytest.fixture
def run(command: Run) -> Run:
    """Run `separable factor` in an empty directory, in a terminal of 80 columns."""
    return lambda *arguments: command(["factor", *(str(argument) for argument in arguments)])


# -- kernels by name ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "weights"),
    [
        ("disk(6)", sp.families.disk(6)),
        (" disk( radius=6.5 , antialias=True)", sp.families.disk(6.5, antialias=True)),
        ("sobel(0, ndim=3)", sp.families.sobel(0, ndim=3).dense()),
        ("gabor(0.1, -pi/6 + 2*pi)", sp.families.gabor(0.1, 2 * math.pi - math.pi / 6).dense()),
        (
            "rotated_gaussian([3, 1], 0.3, order=(0, 1))",
            sp.families.rotated_gaussian((3, 1), 0.3, order=(0, 1)),
        ),
    ],
)
def test_a_kernel_can_be_named(run: Run, call: str, weights: np.ndarray) -> None:
    facts = json.loads(run(call, "--json").out)
    assert tuple(facts["shape"]) == weights.shape
    found = sp.factor(weights)
    assert (facts["rank"], facts["relative_l1"]) == (
        found.rank,
        pytest.approx(found.error.relative_l1, abs=1e-13),
    )


def test_a_file_wins_over_a_name(run: Run) -> None:
    with Path("disk(3)").open("wb") as file:
        np.save(file, np.ones((2, 2)))
    done = run("disk(3)")  # a name without a suffix that tells the format
    assert done.code == 2
    assert "disk(3)" in done.err


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("disc(3)", "`disc(3)`: no such kernel; expected a file, or one of airy, binomial,"),
        ("disk(-1)", "`disk(-1)`: `radius` is -1; expected a number >= 0."),
        ("gaussian(2, order=-1)", "`order` is -1; expected an integer"),
        ("disk(3", "disk(3"),
        ("disk(3))", "is not written as a call"),
        ("disk()", "missing 1 required positional argument: 'radius'"),
        ("disk(**3)", "write NAME=VALUE"),
        ("disk(open('x'))", "`open('x')` is not a number"),
        ("disk(1/0)", "division by zero"),
        ("gabor_pair(0.1)", "gives several kernels"),
        ("steerable(1)", "gives several kernels"),
    ],
)
def test_a_wrong_name_is_refused_with_a_reason(run: Run, call: str, message: str) -> None:
    done = run(call)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("separable: ")
    assert message in done.err


# -- --tol noise -------------------------------------------------------------------------------------


def test_a_measured_kernel_is_factored_to_its_noise(run: Run) -> None:
    true = sp.families.rotated_gaussian((4.0, 2.0), 0.5)
    noisy = true + np.random.default_rng(0).normal(0, 2e-4 * true.max(), true.shape)
    np.save("k.npy", noisy)
    facts = json.loads(run("k.npy", "--tol", "noise", "--json").out)
    level = np.abs(noisy - true).sum() / np.abs(noisy).sum()
    assert facts["noise"] == pytest.approx(level, rel=0.3)
    assert facts["rank"] < json.loads(run("k.npy", "--json").out)["rank"]
    assert "of the kernel in l1, estimated" in run("k.npy", "--tol", "noise").out
    assert json.loads(run("k.npy", "--tol", "0.1", "--json").out)["noise"] is None
    done = run("k.npy", "--tol", "much")
    assert (done.code, done.err) == (2, "separable: `--tol` is 'much'; expected a number, or noise.\n")


# -- --plot ------------------------------------------------------------------------------------------

KERNELS = {
    "line": np.array([1.0, 2.0, 4.0, 2.0]),
    "sobel": np.outer([1, 2, 1], [-1, 0, 1]),
    "disk": sp.families.disk(8.0) * 1e-30,
    "volume": np.random.default_rng(0).normal(size=(5, 7, 6)),
    "four": np.random.default_rng(0).normal(size=(2, 2, 3, 2)),
}


@pytest.mark.parametrize("columns", [50, 60, 100])
@pytest.mark.parametrize("kernel", KERNELS)
def test_tables_fit_the_terminal(
    run: Run, monkeypatch: pytest.MonkeyPatch, columns: int, kernel: str
) -> None:
    np.save(f"{kernel}.npy", KERNELS[kernel])
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    done = run(f"{kernel}.npy", "--plot")
    assert done.code == 0
    assert "Singular values, over the largest" in done.out
    assert "What an error costs" in done.out
    assert max(map(len, done.out.splitlines())) <= columns
    assert "…" not in done.out
    assert done.err == "no picture: matplotlib is not installed: pip install 'separable[plot]'\n"
    assert [path.name for path in Path.cwd().iterdir()] == [f"{kernel}.npy"]


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_picture_of_any_kernel(run: Run, kernel: str) -> None:
    np.save(f"{kernel}.npy", KERNELS[kernel])
    done = run(f"{kernel}.npy", "--tol", 0.1, "--plot")
    assert (done.code, done.err) == (0, "")
    assert done.out.endswith(f"wrote {kernel}-factors.png\n")
    pixels = np.asarray(image.open(f"{kernel}-factors.png").convert("L"))
    assert pixels.shape[1] > 1000
    for half in np.array_split(pixels, 2):  # something in each of the six panels
        for panel in np.array_split(half, 3, axis=1):
            assert np.count_nonzero(panel < 128) > 200


def test_spectrum_and_curve_are_what_they_say(run: Run) -> None:
    weights = sp.families.rotated_gaussian((4.0, 1.5), 0.5)
    np.save("k.npy", weights)
    facts = json.loads(run("k.npy", "--plot", "--json").out)
    values = np.linalg.svd(weights, compute_uv=False)
    np.testing.assert_allclose(facts["singular_values"][0], values / values[0], atol=1e-14)
    assert facts["picture"] == "k-factors.png"
    errors = [point["relative_l1"] for point in facts["curve"]]
    costs = [point["macs"] for point in facts["curve"]]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] <= 1e-6
    assert costs == sorted(costs)


def test_spectra_of_a_volume_are_those_of_its_unfoldings(run: Run) -> None:
    np.save("k.npy", KERNELS["volume"])
    facts = json.loads(run("k.npy", "--tol", 0.3, "--plot", "--json").out)
    assert len(facts["singular_values"]) == 3
    for axis, found in enumerate(facts["singular_values"]):
        unfolded = np.moveaxis(KERNELS["volume"], axis, 0).reshape(KERNELS["volume"].shape[axis], -1)
        values = np.linalg.svd(unfolded, compute_uv=False)
        np.testing.assert_allclose(found, values / values[0], atol=1e-14)


def test_out_names_the_picture(run: Run) -> None:
    done = run("disk(5)", "--out", "d.svg", "-o", "d.npz")
    assert done.out.endswith("wrote d.npz\nwrote d.svg\n")
    assert files.read_terms(Path("d.npz")) == sp.factor(sp.families.disk(5))
    assert Path("d.svg").read_text(encoding="utf-8").startswith("<?xml")
    assert run("disk(5)", "--plot").code == 0
    assert Path("disk-factors.png").exists()


def test_a_picture_that_cannot_be_is_refused_before_any_work(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save("k.npy", np.ones((3, 3)))
    for out, message in (
        ("k.gif", "ends with .npz, .png, .svg, .pdf"),
        ("nowhere/k.png", "the directory"),
        ("nowhere/k.npz", "the directory"),
    ):
        done = run("k.npy", "--out", out)
        assert (done.code, done.out) == (2, "")
        assert message in done.err
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    done = run("k.npy", "--out", "k.png")
    assert (done.code, done.out) == (1, "")
    assert "pip install 'separable[plot]'" in done.err
    assert sorted(path.name for path in Path.cwd().iterdir()) == ["k.npy"]


def test_zero_kernels_are_taken_apart_too(run: Run) -> None:
    np.save("zero.npy", np.zeros((3, 4)))
    done = run("zero.npy", "--plot")
    assert (done.code, done.err) == (0, "")
