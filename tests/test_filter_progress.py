"""How far a filter has come is counted where it works, in every method, and ends when it does."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from command_line import Run

import separable as sp
from separable import _core
from separable._base.progress import following

METHODS = {
    "separable": np.outer(np.hanning(41), np.hanning(41)),
    "direct": np.random.default_rng(0).random((13, 13)),
    "box": np.full((301, 301), 1 / 301**2),
    "recursive": sp.families.gaussian(100),
    "cascade": sp.families.rotated_gaussian((5, 2), 0.5),
    "fft": np.random.default_rng(0).random((61, 61)),
}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("method", METHODS)
def test_a_filter_of_one_array_is_counted_while_it_runs(
    method: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("separable._base.progress._EVERY", 0.002)
    tol = 1e-2 if method in ("cascade", "recursive") else None
    rows = 3000 if method != "direct" else 1500
    x = np.ones((rows, 3000), np.float32)
    run = sp.plan(METHODS[method], x.shape, method=method, tol=tol, threads=threads)
    for _ in range(50):  # on a busy machine it may end before anybody looks
        told: list[float] = []
        with following(told.append):
            run(x)
        if len(told) >= 3:
            break
    assert len(told) >= 3
    assert told == sorted(set(told))
    assert 0 < told[0] < 0.7
    assert told[-1] <= 1
    assert _core.fraction_done() == 0


def test_several_filters_share_one_count(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[float] = []
    with following(told.append) as count:
        for done in range(5):
            count(done, 4)
    assert told == [0.25, 0.5, 0.75, 1.0]


def test_sweeps_within_sweeps_and_beside_them_are_left_out() -> None:
    with _core.Sweeps(4) as outer:
        outer.step()
        with _core.Sweeps(2) as inner:
            inner.step()
            assert _core.fraction_done() == 0.25
        assert _core.fraction_done() == 0.25
    assert _core.fraction_done() == 0
    outer.step()
    assert _core.fraction_done() == 0


def fail(*_: object) -> None:
    with _core.Sweeps(3) as sweeps:
        sweeps.step()
        raise ZeroDivisionError


def test_a_filter_that_fails_ends_its_count() -> None:
    before = threading.active_count()
    with pytest.raises(ZeroDivisionError), following(lambda _: None):
        fail()
    assert (threading.active_count(), _core.fraction_done()) == (before, 0)


def test_a_single_image_is_counted_in_per_cent(command: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("typer")
    np.save("x.npy", np.ones((3000, 3000), "f4"))
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr("separable._base.progress._EVERY", 0.002)
    from separable.cli import terminal

    seen: list[float] = []

    class Watched(terminal.Progress):
        def update(self, task_id: Any, **fields: Any) -> None:
            super().update(task_id, **fields)
            if self.tasks[0].description == "filtering" and self.tasks[0].total:
                seen.append(self.tasks[0].percentage)

    monkeypatch.setattr(terminal, "Progress", Watched)
    for _ in range(50):
        seen.clear()
        done = command(["filter", "x.npy", "y.npy", "--gaussian", "3", "--threads", "1"])
        assert done.code == 0, done.err
        if len(seen) >= 3:
            break
    assert len(seen) >= 3
    assert 0 < seen[0] < 70
