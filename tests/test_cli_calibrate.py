"""``separable calibrate``: rates that plans choose by, kept where they are told to."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from separable import _core
from separable import calibrate as measuring
from separable.cli import main
from separable.cost import model as costs


@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
    """Run the command in an empty directory, on a few small filters."""
    few = [case for case in measuring.cases() if math.prod(case.shape) < 5000][::5]
    monkeypatch.setattr(measuring, "cases", lambda: few)
    monkeypatch.setattr(measuring, "ROUNDS", 1)
    monkeypatch.setattr(measuring, "_LEAST", 1e-5)
    monkeypatch.setenv("SEPARABLE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        with pytest.raises(SystemExit) as left:
            main(["calibrate", *arguments])
        return int(left.value.code or 0), *capsys.readouterr()

    yield call
    costs._rates.cache_clear()


def test_rates_go_to_the_cache(run):
    code, out, _ = run()
    assert code == 0
    assert "predicted within" in out
    assert costs.cache_file() == Path("cache").resolve() / "costs.json"
    assert set(costs.load(costs.cache_file())) == {_core.core_info()["target"]}


def test_rates_go_where_they_are_told_to(run):
    code, out, _ = run("--out", "mine.json", "--every", "--json")
    facts = json.loads(out)
    assert (code, facts["file"]) == (0, "mine.json")
    assert set(facts["rates"]) == set(costs.load(Path("mine.json"))) == set(_core.core_info()["targets"])
    assert _core.core_info()["target"] == _core.core_info()["targets"][-1]
    assert not costs.cache_file().exists()
    for entry in facts["rates"].values():
        assert set(entry["float32"]["rates"]) == set(costs.RATES)


def test_a_place_that_cannot_be_written_is_refused_before_the_work(run):
    code, _, err = run("--out", "missing/mine.json")
    assert code == 2
    assert "missing" in err
