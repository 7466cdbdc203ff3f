"""How far a conversion is: a bar where somebody looks, a line for each stage elsewhere, no time made up."""

from __future__ import annotations

import re
from typing import Any

import pytest

from separable.report.progress import Pace, shown

Capture = pytest.CaptureFixture[str]


def steps(show: Any) -> None:
    show(0, 0, "reading")
    for done in range(6):
        show(done, 6, f"{'measuring' if done < 3 else 'fitting'} conv{done % 3}")
    for done in range(6, 9):
        show(done, 9, f"fitting conv{done % 3}")
    for done in range(5):
        show(done, 100, f"distilling: {done:.2e} of the outputs' variance is left")
    show(0, 0, "writing")


def on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rich")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")


def plain(capsys: Capture) -> str:
    """Return what was shown, without colours and moves of the cursor."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().err)


def test_one_line_a_stage_where_nobody_looks(capsys: Capture) -> None:
    with shown(True) as show:
        steps(show)
    assert capsys.readouterr() == (
        "",
        "reading\n"
        "measuring, step 1 of 6\n"
        "fitting, step 4 of 6\n"
        "fitting, step 7 of 9\n"
        "distilling, step 1 of 100\n"
        "writing\n",
    )


def test_the_same_without_rich(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "rich.console", None)
    with shown(True) as show:
        steps(show)
    assert capsys.readouterr().err.splitlines()[1:3] == ["measuring, step 1 of 6", "fitting, step 4 of 6"]


def test_nobody_asked(capsys: Capture) -> None:
    for wanted in (None, False):
        with shown(wanted) as show:
            steps(show)
    assert capsys.readouterr() == ("", "")


def test_a_long_run_says_what_it_does_in_a_log(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    with shown(None) as show:
        show(0, 9, "measuring conv0")
        now = 2.5
        show(1, 9, "measuring conv1")
        show(4, 9, "fitting conv0")
    assert capsys.readouterr() == ("", "measuring, step 2 of 9\nfitting, step 5 of 9\n")


def test_no_time_where_it_is_not_known(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    on_a_terminal(monkeypatch)
    with shown(True) as show:
        show(0, 0, "reading")
        show(0, 6, "measuring conv0")
    seen = plain(capsys)
    assert "-:--" not in seen
    assert "None" not in seen
    assert re.search(r"0/6 +measuring conv0", seen)


def test_the_time_that_remains_is_that_of_the_steps_so_far() -> None:
    pace = Pace()
    assert pace.remaining is None
    for now, done, total, remaining in (
        (100.0, 0, 6, None),
        (102.0, 2, 6, 4.0),
        (103.0, 2, 6, 6.0),
        (103.0, 3, 9, None),  # another kind of step
        (106.0, 4, 9, 15.0),
        (107.0, 0, 9, None),  # from the beginning
        (109.0, 8, 9, 0.25),
        (110.0, 0, 0, None),  # nobody knows how many
    ):
        pace.note(now, done, total)
        assert pace.remaining == remaining


def test_a_bar_tells_the_time_that_remains(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    on_a_terminal(monkeypatch)
    now = 0.0
    monkeypatch.setattr("separable.report.progress.time.monotonic", lambda: now)
    with shown(True) as show:
        show(0, 6, "measuring conv0")
        now = 200.0
        show(2, 6, "measuring conv2")
    seen = plain(capsys)
    assert re.search(r"2/6 0:06:40 measuring conv2", seen)
