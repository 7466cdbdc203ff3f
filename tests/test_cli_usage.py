"""What the command line says: one line per error, names that are no markup, phases, percentages."""

from __future__ import annotations

import json
import re
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import Run

import separable as sp
from separable import files

pytest.importorskip("typer")
PIL = pytest.importorskip("PIL.Image")

Array = np.ndarray[Any, Any]
CLI = Path(sp.__file__).parent / "cli"


# -- usage errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "filter x.npy y.npy --gausian 2",
            "`--gausian` is no option of separable filter. Did you mean --gau",
        ),
        ("filter x.npy y.npy --box", "`--box` needs a value. See separable filter --help"),
        ("filter x.npy y.npy --box 3 --quiet=3", "`--quiet` takes no value."),
        ("filter x.npy y.npy --box 3 --threads two", "`--threads two` is not a whole number, such as 4."),
        ("filter x.npy y.npy --box 3 --threads=2.5", "`--threads 2.5` is not a whole number"),
        ("filter x.npy y.npy --gaussian 1 --truncate x", "`--truncate x` is not a number, such as 1.5."),
        (
            "filter x.npy y.npy --gaussian 1 --unit foot",
            "`--unit foot`: expected one of px, m, cm, mm, um, nm.",
        ),
        ("filter x.npy y.npy --box 3 --nan omitt", "expected one of propagate, omit. Did you mean omit?"),
        ("filter x.npy y.npy --box 3 --nodata x", "`--nodata x` is no number; expected one, nan, or none"),
        ("filter x.npy y.npy --box 3 --axes 7", "`--axes 7`: `x.npy` has 2 axes, 0 to 1."),
        ("filter x.npy y.npy --fwhm -1", "`--fwhm -1`: a width is a number >= 0"),
        ("filter x.npy y.npy --fwhm 1e9", "`--fwhm 1e9` is a standard deviation of 4.24661e+08 samples"),
        ("filter x.npy y.npy --gaussian 1 --normalise", "`--normalise` goes with --kernel, not with --gau"),
        ("filter", "FILES is missing. See separable filter --help"),
        ("factor", "KERNEL is missing. See separable factor --help"),
        ("factor a b", "`b` is more than separable factor takes."),
        ("filtre", "`filtre` is no verb; expected one of demo, factor, filter"),
        ("--foo", "`--foo` is no option of separable."),
    ],
)
def test_wrong_usage_is_one_line_in_our_words(run: Run, line: str, message: str) -> None:
    np.save("x.npy", np.ones((8, 9)))
    done = run(*line.split())
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("separable: ")
    assert done.err.count("\n") == 1
    assert message in done.err
    assert not re.search("Input should|Value error|Invalid|Usage|[╭│]", done.err)


def test_without_arguments_the_help_is_shown(run: Run) -> None:
    done = run()
    assert done.code == 2
    assert "separable VERB" in done.out or "COMMAND" in done.out


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.array([[1.0, np.inf]]), "inf"),
        (np.array(3.0), "0 dimensions|shape \\(\\)"),
        (np.zeros((0, 3)), "empty|no taps"),
        (np.ones((1,) * 9), "9"),
        (np.ones((2, 2), complex), "complex"),
    ],
)
@pytest.mark.parametrize("options", [[], ["--rank", "1"], ["--normalise"]])
def test_errors_of_a_kernel_s_file_name_the_file(
    run: Run, weights: Array, message: str, options: list[str]
) -> None:
    np.save("x.npy", np.ones((8, 9)))
    np.save("odd.npy", weights)
    done = run("filter", "x.npy", "y.npy", "--kernel", "odd.npy", *options)
    assert (done.code, done.out) == (2, "")
    assert done.err.count("\n") == 1
    assert "odd.npy`" in done.err
    assert re.search(message, done.err)


# -- names from outside ------------------------------------------------------------------------------

ODD = ["scan[a]", "o[red]", "[bold]", "[/]", ":smile:", "a\x1b[2Jb", "new\nline"]


@pytest.mark.parametrize("name", ODD)
def test_names_are_shown_as_they_are(run: Run, name: str) -> None:
    name = name.replace("/", "")
    shown = name.replace("\x1b", "\\x1b").replace("\n", "\\n")
    np.save(f"{name}.npy", np.ones((5, 6)))
    done = run("filter", f"{name}.npy", f"out{name}.npy", "--kernel", f"{name}.npy", "--mode", "wrap")
    assert (done.code, done.err) == (0, "")
    for line, text in zip(done.out.splitlines(), (f"{shown}.npy,", f"out{shown}.npy,"), strict=False):
        assert text in line
    factored = run("factor", f"{name}.npy", "-o", f"{name}.npz")
    assert f"{shown}.npy," in factored.out
    assert f"wrote {shown}.npz" in factored.out
    missing = run("filter", f"no{name}.npy", "y.npy", "--box", 3)
    folded = shown.replace("\\n", "; ")  # an error of several lines is one
    assert missing.err == f"separable: `no{folded}.npy` does not exist.\n"
    usage = run("filter", f"--{name}")
    assert usage.err.count("\n") == 1
    assert "\x1b" not in usage.err + missing.err + done.out + factored.out


def test_a_path_that_closes_markup_is_written_and_told(run: Run) -> None:
    Path("d[").mkdir()
    np.save("d[/x].npy", np.ones((5, 6)))
    done = run("filter", "d[/x].npy", "d[/y].npy", "--box", 3)
    assert done.code == 0
    assert "d[/y].npy, float64" in done.out
    assert Path("d[/y].npy").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes, as Linux has them")
def test_a_name_that_is_not_utf_8(run: Run) -> None:
    name = b"x\xff.npy".decode(errors="surrogateescape")
    np.save(name, np.ones((5, 6)))
    done = run("filter", name, "y.npy", "--box", 3)
    assert done.code == 0
    assert "x\\udcff.npy" in done.out


def test_one_place_makes_consoles() -> None:
    makers = [path.name for path in CLI.glob("*.py") if re.search(r"\bConsole\(", path.read_text("utf-8"))]
    assert makers == ["terminal.py"]


def test_a_kernel_shows_how_its_plan_runs(run: Run) -> None:
    np.save("x.npy", np.random.default_rng(0).random((300, 320)).astype("f4"))
    np.save("k.npy", np.random.default_rng(1).normal(size=(41, 41)))
    for options in ([], ["--nan", "omit"]):
        done = run("filter", "x.npy", "y.npy", "--kernel", "k.npy", *options)
        method = json.loads(run("filter", "x.npy", "y.npy", "--kernel", "k.npy", *options, "--json").out)[
            "method"
        ]
        assert method == sp.plan(np.load("k.npy"), (300, 320), "f4").method
        assert re.search(rf"^how +{method}, ", done.out, flags=re.MULTILINE)


def test_axes_without_names_have_none_in_json(run: Run) -> None:
    np.save("x.npy", np.ones((5, 6)))
    facts = json.loads(run("filter", "x.npy", "y.npy", "--box", 3, "--json").out)
    assert facts["axes"] is None
    PIL.fromarray(np.ones((5, 6, 3), "u1")).save("x.png")
    assert json.loads(run("filter", "x.png", "y.png", "--box", 3, "--json").out)["axes"] == "YXS"


# -- phases and percentages --------------------------------------------------------------------------


def test_a_long_run_says_its_phases_where_no_terminal_shows_them(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save("x.npy", np.ones((5, 6)))
    read, long = files.read, threading.Event()

    def slow(path: Path) -> files.Image:
        assert long.wait(10)
        return read(path)

    class Timer:
        daemon = False

        def __init__(self, seconds: float, call: Any) -> None:
            self.call = call

        def start(self) -> None:
            long.set()
            self.call()

        def cancel(self) -> None:
            pass

    monkeypatch.setattr(files, "read", slow)
    monkeypatch.setattr(threading, "Timer", Timer)
    assert run("filter", "x.npy", "y.npy", "--box", 3).err == "reading\nfiltering\nwriting\n"
    long.clear()
    assert run("filter", "x.npy", "-o", "out", "--box", 3).err == (
        "reading x.npy, 1 of 1\nfiltering x.npy, 1 of 1\nwriting x.npy, 1 of 1\n"
    )


def test_frames_are_counted_in_per_cent(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite("x.tif", np.ones((8, 20, 30), "f4"), imagej=True, metadata={"axes": "TYX"})
    monkeypatch.setenv("FORCE_COLOR", "1")
    from separable.cli import terminal

    seen: list[tuple[str, float | None]] = []

    class Watched(terminal.Progress):
        def update(self, task_id: Any, **fields: Any) -> None:
            super().update(task_id, **fields)
            task = self.tasks[0]
            seen.append((task.description, task.percentage if task.total else None))

    monkeypatch.setattr(terminal, "Progress", Watched)
    assert run("filter", "x.tif", "y.tif", "--box", 3).code == 0
    assert seen[0] == ("reading", None)
    assert [share for phase, share in seen if phase == "filtering"] == [
        None,
        *(pytest.approx(100 * frame / 8, abs=0.1) for frame in range(1, 9)),
    ]
    assert seen[-1] == ("writing", None)


# -- arrays without names that are written as pictures ------------------------------------------------


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
@pytest.mark.parametrize("colours", [3, 4])
def test_the_last_axis_of_an_array_is_colour_where_a_picture_is_written(
    run: Run, suffix: str, colours: int
) -> None:
    if suffix == "jpg" and colours == 4:
        pytest.skip("a JPEG holds no opacity")
    pytest.importorskip("tifffile")
    x = np.zeros((20, 30, colours), "u1")
    x[...] = (240, 0, 0, 255)[:colours]
    np.save("x.npy", x)
    done = run("filter", "x.npy", f"y.{suffix}", "--gaussian", 2)
    assert done.code == 0
    assert f"of length {colours}, is colour in a .{suffix}" in done.err
    y = files.read(Path(f"y.{suffix}"))
    assert y.axes == "YXS"
    assert np.abs(y.data.astype(int) - x).max() <= (2 if suffix == "jpg" else 0)
    facts = json.loads(run("filter", "x.npy", f"y.{suffix}", "--gaussian", 2, "--json").out)
    assert (facts["axes"], facts["filtered_axes"]) == ("YXS", [0, 1])
    assert len(facts["notes"]) == 1
    quiet = run("filter", "x.npy", f"y.{suffix}", "--gaussian", 2, "--axes", "0,1")
    assert quiet.err == ""
    if colours == 3:
        assert run("filter", "x.npy", f"z.{suffix}", "--gaussian", 2, "--axes", "0,1,2").code == 0
        z = files.read(Path(f"z.{suffix}"))
        assert z.axes == ("ZYX" if suffix == "tif" else "YXS") or set(z.axes) <= set("QIYX")
        expected = sp.gaussian(x, 2, output="u1")
        assert np.abs(z.data.astype(int) - expected).max() <= (3 if suffix == "jpg" else 0)


def test_an_array_that_is_written_as_an_array_has_no_colours(run: Run) -> None:
    x = np.random.default_rng(0).random((7, 8, 3))
    np.save("x.npy", x)
    assert run("filter", "x.npy", "y.npy", "--gaussian", 1)[2] == ""
    assert np.array_equal(np.load("y.npy"), sp.gaussian(x, 1))
