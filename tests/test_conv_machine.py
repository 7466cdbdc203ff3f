"""The speeds of a machine: measured once, kept, and never beaten by what was measured of a network."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from separable.conv.audits import machine as machines
from separable.conv.audits.machine import Machine, this_machine
from separable.conv.audits.records import Layer, with_rooflines


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SEPARABLE_CACHE_DIR", str(tmp_path))
    this_machine.cache_clear()
    yield tmp_path
    this_machine.cache_clear()


def test_speeds_are_measured_once_a_machine(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = this_machine(2)
    kept = json.loads((folder / "speeds.json").read_text(encoding="utf-8"))
    assert kept["speeds"]["copy 2"] == first.bandwidth
    assert 2 * kept["speeds"]["fma"] == first.peak_flops
    this_machine.cache_clear()  # as in another process
    monkeypatch.setattr(machines, "measure", lambda what: pytest.fail(f"{what} is measured again"))
    assert this_machine(2) == first


@pytest.mark.parametrize("text", ["", "[]", '{"machine": 1}', '{"speeds": {"fma": "fast"}}'])
def test_files_that_are_damaged_or_of_another_machine_are_measured_anew(folder: Path, text: str) -> None:
    file = folder / "speeds.json"
    file.write_text(text, encoding="utf-8")
    assert this_machine(1).peak_flops > 1e8
    kept = json.loads(file.read_text(encoding="utf-8"))
    other = {**kept, "machine": {"target": "another"}, "speeds": {"fma": 1.0, "copy 1": 1.0}}
    file.write_text(json.dumps(other), encoding="utf-8")
    this_machine.cache_clear()
    assert this_machine(1).peak_flops > 1e8


def layer(name: str, macs: int, size: int, ms: float | None, dtype: str = "float32") -> Layer:
    return Layer(
        name,
        "conv",
        "Conv",
        (),
        (3,),
        (1,),
        (1,),
        1,
        dtype,
        ((1,),),
        (1,),
        1,
        macs,
        2 * macs,
        0,
        size,
        None,
        ms,
    )


def test_no_roofline_is_above_what_was_measured() -> None:
    slow = Machine(1, peak_flops=1e9, bandwidth=1e9)
    layers = [
        layer("computes", 10**6, 10, 1.0),  # 2 ms at the peak
        layer("moves", 10, 10**6, 0.5),  # 1 ms
        layer("doubles", 10**6, 10, 1.5, "float64"),
        layer("neither", 10**5, 10**5, None),
        layer("halves", 10**5, 10**5, 1.0, "float16"),
    ]
    judged, reached = with_rooflines(layers, slow)
    assert reached is not None
    assert (reached.peak_flops, reached.bandwidth, reached.measured) == (pytest.approx(4e9 / 1.5), 2e9, slow)
    for one in judged:
        if one.roofline_ms is not None and one.measured_ms is not None:
            assert one.roofline_ms <= one.measured_ms * (1 + 1e-12)
    assert [one.roofline_ms is None for one in judged] == [False, False, False, False, True]
    whole = 0.7
    judged, reached = with_rooflines(layers, slow, whole)
    assert sum(one.roofline_ms or 0.0 for one in judged) == pytest.approx(whole)
    assert reached is not None
    assert reached.measured == slow
    quick = Machine(1, peak_flops=1e12, bandwidth=1e12)
    assert with_rooflines(layers, quick)[1] is quick
    assert [one.roofline_ms for one in with_rooflines(layers, None)[0]] == [None] * 5


def test_audits_say_that_a_layer_was_faster() -> None:
    pytest.importorskip("rich")
    from separable.report.audits import Audit

    slow = Machine(1, peak_flops=1e9, bandwidth=1e9)
    layers, reached = with_rooflines([layer("conv", 10**7, 10, 1.0)], slow)
    audit = Audit("net", "x", layers, 0, 1.0, reached, (), "by hand")
    assert "20 GFLOP/s, 1 GB/s, raised to what layers reached" in str(audit)
    assert "by itself 1 GFLOP/s, 1 GB/s" in str(audit)
