"""Enumerations of the core: the source, the members in Python and the tables of names agree."""

from __future__ import annotations

import enum
import re
from pathlib import Path

import numpy as np
import pytest

from separable import _core
from separable.arrays import boundaries, output
from separable.conv.layers import arguments as fused
from separable.engine.program.steps import convolutions as engine

CPP = Path(__file__).resolve().parents[1] / "cpp"
DECLARED = {
    "Mode": "base/boundary.h",
    "Rounding": "io/casts.h",
    "Overflow": "io/casts.h",
    "Activation": "layers/kernels/layers.h",
}


def members(name: str) -> dict[str, int]:
    return {member.name: member.value for member in getattr(_core, name)}


@pytest.mark.parametrize("name", DECLARED)
def test_members_are_those_of_the_source(name):
    text = (CPP / DECLARED[name]).read_text(encoding="utf-8")
    names = (
        re.search(rf"enum class {name} : int {{([^}}]*)}}", text)[1]
        .replace(" ", "")
        .replace("\n", "")
        .split(",")
    )
    assert members(name) == {member: code for code, member in enumerate(names)}
    assert issubclass(getattr(_core, name), enum.IntEnum)


def test_members_are_those_of_the_tables():
    assert members("Mode") == {name: code for code, name in enumerate(boundaries.CANONICAL)}
    assert members("Rounding") == {name: code for code, name in enumerate(output.ROUNDINGS)}
    assert members("Overflow") == {name: code for code, name in enumerate(output.OVERFLOWS)}
    assert members("Activation") == {name: code for code, name in enumerate(engine.ACTIVATIONS)}
    assert list(members("Activation"))[: len(fused.ACTIVATIONS)] == [
        name or "none" for name in fused.ACTIVATIONS
    ]
    assert set(boundaries.PADDING_MODES.values()) < set(boundaries.CANONICAL)


@pytest.mark.parametrize("mode", _core.Mode)
def test_jobs_take_modes_and_their_codes(mode):
    x, taps, weights = np.arange(6, dtype=np.float32), np.arange(1.0, 4.0), np.arange(1.0, 4.0)
    results = []
    for given in (mode, int(mode)):
        passes = [(0, 1, given, [taps])]
        jobs = [
            _core.TermsJob((6,), "float32", passes, [(0, 0)], 2.0),
            _core.DirectJob((6,), "float32", weights, (1,), (given,), 2.0),
            _core.BoxAndCosinesJob((6,), [(0, 3, 1, given, False, [], [])], 2.0, 1.0, 1.0),
            _core.DifferencesJob((6,), np.ones(3), 0, (1,), (given,), 2.0, 1.0),
        ]
        results.append([np.empty_like(x) for _ in jobs])
        for made, result in zip(jobs, results[-1], strict=True):
            made.run(x, result, 1)
    for member, code in zip(*results, strict=True):
        np.testing.assert_array_equal(member, code)
    np.testing.assert_array_equal(results[0][0], results[0][1])
    np.testing.assert_array_equal(results[0][2], results[0][3])


@pytest.mark.parametrize("rounding", _core.Rounding)
@pytest.mark.parametrize("overflow", _core.Overflow)
def test_runs_take_roundings_and_overflows_and_their_codes(rounding, overflow):
    x = np.array([0.75, 254.5, 256.75, -3.25], np.float32)
    made = _core.TermsJob((4,), "float32", [(0, 0, 0, [np.ones(1)])], [(0, 0)], 0.0)
    by_member, by_code = np.empty(4, np.uint8), np.empty(4, np.uint8)
    made.run(x, by_member, 1, rounding, overflow)
    made.run(x, by_code, 1, int(rounding), int(overflow))
    whole = np.rint(x) if rounding is _core.Rounding.nearest else np.trunc(x)
    wanted = whole % 256 if overflow is _core.Overflow.wrap else whole.clip(0, 255)
    np.testing.assert_array_equal(by_member, wanted)
    np.testing.assert_array_equal(by_code, wanted)


@pytest.mark.parametrize("activation", list(_core.Activation)[: len(fused.ACTIVATIONS)])
def test_layers_take_activations_and_their_codes(activation):
    results = []
    for given, mode in ((activation, _core.Mode.constant), (int(activation), int(_core.Mode.constant))):
        one = np.ones((1, 1), np.float32)
        made = _core.FusedJob32(False, 1, (1,), (1,), (1,), mode, given, given, one, one, None, None)
        x, y = np.linspace(-8, 8, 9, dtype=np.float32).reshape(1, 9, 1), np.empty((1, 9, 1), np.float32)
        made.run(x, y, None, (0,), 1)
        results.append(y)
    np.testing.assert_array_equal(*results)
    assert (results[0] == x).all() == (activation is _core.Activation.none)
