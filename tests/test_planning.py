"""Choosing by cost: what is considered, what is not and why, what it is predicted to take, and the rates."""

from __future__ import annotations

import dataclasses
import json
import math
import pickle

import numpy as np
import pytest
from reference import MODES

import separable as sp
from separable import _core
from separable import calibrate as measuring
from separable.cost import model as costs
from separable.methods import METHODS
from separable.methods.method import Ask, Setting, Way

RNG = np.random.default_rng(4)
NOISE = RNG.standard_normal((41, 41))
SIGMA = sp.families.gaussian(12.0)


def names(explanation, possible=True):
    return [c.method for c in explanation.candidates if (c.seconds is not None) is possible]


def test_explain_lists_every_way_in_the_order_of_choice():
    p = sp.plan(NOISE, (512, 512), threads=1)
    found = p.explain()
    assert set(names(found)) == {"fft", "direct", "separable"}
    assert {c.method for c in found.candidates} == set(METHODS)
    assert found.method == p.method == names(found)[0]
    compared = [c.compared for c in found.candidates if c.compared is not None]
    assert compared == sorted(compared)
    assert found.candidates[0].seconds == p.cost.seconds(1)
    by_name = {c.method: c for c in found.candidates}
    assert by_name["separable"].terms == 41
    assert 0 < by_name["direct"].error.relative_l1 < 6e-8 < by_name["separable"].error.relative_l1
    assert by_name["fft"].scratch_bytes == sp.plan(NOISE, (512, 512), method="fft", threads=1).scratch_bytes
    assert by_name["recursive"].reason == "approximates: only where `tol` is given"
    assert "equal taps" in by_name["box"].reason
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.threads = 3


def test_what_was_asked_for_is_marked_though_it_would_not_be_chosen():
    p = sp.plan(SIGMA, (300, 300), method="fft", threads=1)
    found = p.explain()
    assert found.method == "fft"
    assert names(found)[0] != "fft"
    marked = [line for line in str(found).splitlines() if line.startswith("  *")]
    assert [line.split()[1] for line in marked] == ["fft"]


def test_explain_prints_a_table():
    text = repr(sp.plan(NOISE, (512, 512), threads=1).explain())
    lines = text.splitlines()
    assert lines[0] == "41x41 kernel on (512, 512) float32, 1 thread"
    assert lines[1].split() == ["method", "predicted", "compared", "error", "memory"]
    assert len(lines) == 4 + len(METHODS)
    assert lines[-2].startswith("  compared: ")
    assert "41 terms, 3362 MACs per sample" in text
    assert lines[-1].startswith("  rates of another machine (")
    assert max(map(len, lines[:5])) <= 90


def test_explain_an_empty_array():
    found = sp.plan(NOISE, (0, 40)).explain()
    assert {c.method: c.reason for c in found.candidates}["fft"] == "needs an array with samples"


def test_an_approximation_needs_leave():
    assert sp.plan(SIGMA, (2000, 2000)).method == "separable"
    assert "recursive" in names(sp.plan(SIGMA, (2000, 2000), tol=1e-2).explain())


def test_whole_numbers_stay_exact_where_they_can():
    x = RNG.integers(0, 200, (300, 300), np.uint8)
    ring = (RNG.random((61, 61)) > 0.3).astype(float)
    assert sp.plan(ring, x.shape).method == "fft"
    exact = sp.correlate(x.astype(np.int64), ring, output=np.int64, method="direct")
    np.testing.assert_array_equal(sp.correlate(x, ring, output=np.int32), exact)


def test_dense_terms_cost_no_more_than_their_kernel_has_weights():
    many = sp.SeparableKernel([[RNG.random(7), RNG.random(7)] for _ in range(9)])
    p = sp.plan(many, (400, 400))
    assert (p.method, p.macs) == ("direct", 49)


def test_every_cost_is_counted_in_rates_that_exist():
    for shape, kernel in (
        ((64, 64), NOISE),
        ((2000, 2000), sp.families.box(15)),
        ((20, 30, 40), np.ones((3, 4, 5))),
    ):
        setting = Setting(
            shape,
            np.dtype("f4"),
            tuple(range(len(shape))),
            kernel.shape,
            (0,) * len(shape),
            ("wrap",) * len(shape),
            0.0,
        )
        ask = Ask(kernel, None, setting)
        for method in METHODS.values():
            if isinstance(choice := method.offer(ask), Way):
                assert set(choice.cost.counts) <= set(costs.RATES)
                assert choice.cost.nanoseconds > 0


def test_threads_are_predicted_to_help_and_not_to_harm():
    for method in ("direct", "fft"):
        cost = sp.plan(NOISE, (2000, 2000), method=method).cost
        assert cost.seconds(1) == pytest.approx(cost.nanoseconds * 1e-9)
        assert 0.4 < cost.seconds(2) / cost.seconds(1) < 0.8
        assert cost.seconds(8) < cost.seconds(2)
    small = sp.plan([1.0, 2.0, 1.0], (50,)).cost
    assert small.seconds(8) == small.seconds(1)


# ---------------------------------------------------------------- rates


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SEPARABLE_CACHE_DIR", str(tmp_path))
    yield tmp_path / "costs.json"
    costs._rates.cache_clear()


def bundled():
    return costs.load(costs._BUNDLED, anywhere=True)


def test_rates_come_with_the_package():
    rates = bundled()
    assert {"v2", "v3", "v4"} <= set(rates)
    for entry in rates.values():
        assert set(entry["float32"]) == set(entry["float64"]) == set(costs.RATES)


def test_rates_of_this_machine_count_where_they_were_measured(cache):
    target = _core.core_info()["target"]
    kernel = RNG.random((31, 31))
    before = sp.plan(kernel, (500, 500))
    assert before.cost.rates.source.startswith("of another machine")
    rates = bundled()
    # On such a machine transforms are for nothing, and weights dear.
    for entry in rates.values():
        for values in entry.values():
            values |= {"block": 0.0, "axis": 0.0, "level": 0.0, "stack": 0.0, "spilled": 0.0}
    costs.save(cache, rates)
    assert sp.plan(kernel, (500, 500)).cost.rates.source.startswith("measured on this machine")
    assert sp.plan(kernel, (500, 500)).method == "fft"
    assert set(costs.load(cache)) >= {target}
    assert [path.name for path in cache.parent.iterdir()] == ["costs.json"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data.update(schema=0),
        lambda data: data["machine"].update(scipy="another"),
        lambda data: data["rates"]["v2"].pop("float64"),
        lambda data: data["rates"]["v2"]["float32"].pop("edge"),
        lambda data: data["rates"]["v2"]["float32"].update(edge=-1.0),
        lambda data: data["rates"]["v2"]["float32"].update(edge="fast"),
        lambda data: data.update(rates=[]),
        lambda data: data.clear(),
    ],
)
def test_rates_that_do_not_belong_here_are_left_alone(cache, spoil):
    costs.save(cache, bundled())
    data = json.loads(cache.read_text(encoding="utf-8"))
    spoil(data)
    cache.write_text(json.dumps(data), encoding="utf-8")
    costs._rates.cache_clear()
    assert sp.plan(NOISE, (30, 30)).cost.rates.source.startswith("of another machine")
    cache.write_text("{", encoding="utf-8")
    assert costs.load(cache) == {}


def test_a_failed_write_leaves_the_old_rates(cache, monkeypatch):
    costs.save(cache, bundled())
    before = cache.read_text(encoding="utf-8")

    def refuse(*_):
        raise OSError("no space")

    monkeypatch.setattr("os.replace", refuse)
    with pytest.raises(OSError, match="no space"):
        costs.save(cache, bundled())
    assert cache.read_text(encoding="utf-8") == before
    assert [path.name for path in cache.parent.iterdir()] == ["costs.json"]


def test_the_cache_lies_where_the_system_keeps_such_things(monkeypatch, tmp_path):
    monkeypatch.delenv("SEPARABLE_CACHE_DIR")
    for platform, variable in (("linux", "XDG_CACHE_HOME"), ("win32", "LOCALAPPDATA")):
        monkeypatch.setattr("sys.platform", platform)
        monkeypatch.setenv(variable, str(tmp_path))
        assert costs.cache_file() == tmp_path / "separable" / "costs.json"
        monkeypatch.delenv(variable)
        assert costs.cache_file().name == "costs.json"
    monkeypatch.setattr("sys.platform", "darwin")
    assert "Caches" in costs.cache_file().parts


def test_a_fit_finds_the_rates_that_made_the_times():
    rates = {"call": 3000.0, "edge": 0.05, "along": 0.0, "weight": 0.02}
    rows = [
        {"call": 1.0, "edge": n * 2.0, "along": n * 5.0, "weight": m * n * 1.0}
        for n in (1e3, 1e5, 1e6)
        for m in (0, 9, 25)
    ]
    times = [sum(row[name] * rates[name] for name in rates) for row in rows]
    found = costs.fit(rows, times, list(rates))
    predicted = [sum(row[name] * found[name] for name in rates) for row in rows]
    np.testing.assert_allclose(predicted, times, rtol=1e-3)
    assert min(found.values()) >= 0


def test_a_machine_is_measured(cache, monkeypatch):
    few = [case for case in measuring.cases() if math.prod(case.shape) < 70_000][::4]
    monkeypatch.setattr(measuring, "cases", lambda: few)
    monkeypatch.setattr(measuring, "ROUNDS", 1)
    monkeypatch.setattr(measuring, "_LEAST", 1e-4)
    seen = []
    fits = measuring.calibrate(progress=lambda done, of: seen.append((done, of)))
    assert seen[-1] == (2 * len(few), 2 * len(few)) == (len(seen), len(seen))
    assert list(fits) == [_core.core_info()["target"]]
    for fit in fits[_core.core_info()["target"]].values():
        assert len(fit.errors) == len(few)
        assert np.median(np.abs(fit.errors)) < 0.5
    assert sp.plan(NOISE, (30, 30)).cost.rates.source.startswith("measured on this machine")


def test_all_ways_are_among_what_is_measured():
    found = measuring.cases()
    assert {case.method for case in found} == {"separable", "direct", "box", "cascade", "fft"}
    assert {len(case.shape) for case in found} == {2, 3}
    assert len(found) > 100


# ---------------------------------------------------------------- adjoint


def inner(a, b):
    return np.vdot(a.astype(np.clongdouble), b.astype(np.clongdouble))


def assert_adjoint(p, seed=0):
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((2, *p.shape))
    if p.dtype.kind == "c":
        x, y = x + 1j * rng.standard_normal(p.shape), y - 1j * rng.standard_normal(p.shape)
    x, y = x.astype(p.dtype), y.astype(p.dtype)
    there, back = p(x), p.adjoint()(y)
    assert back.dtype == p.dtype
    assert back.shape == p.shape
    scale = np.linalg.norm(there) * np.linalg.norm(y) + np.linalg.norm(x) * np.linalg.norm(back)
    eps = float(np.finfo(p.dtype).eps)
    assert abs(inner(there, y) - inner(x, back)) <= 32 * eps * scale


@pytest.mark.parametrize("dtype", ["f4", "f8", "c8", "c16", "u1", "i4"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("method", ["separable", "direct", "fft", "auto"])
def test_adjoint_of_every_mode_and_dtype(method, mode, dtype):
    weights = RNG.standard_normal((6, 5))
    for shape, origin in (((40, 33), (0, 0)), ((40, 33), (-3, 2)), ((3, 2), (2, -2))):
        assert_adjoint(sp.plan(weights, shape, dtype, mode=mode, origin=origin, method=method))


def test_adjoint_of_random_filters():
    for seed in range(60):
        rng = np.random.default_rng(seed)
        ndim = int(rng.integers(1, 5))
        shape = tuple(map(int, rng.integers(1, 12 if ndim < 4 else 6, ndim)))
        axes = tuple(map(int, rng.permutation(ndim)[: rng.integers(1, ndim + 1)]))
        taps = tuple(map(int, rng.integers(1, 9, len(axes))))
        origin = tuple(int(rng.integers(-(n // 2), (n - 1) // 2 + 1)) for n in taps)
        modes = tuple(map(str, rng.choice(MODES, len(axes))))
        assert_adjoint(
            sp.plan(rng.standard_normal(taps), shape, "f8", mode=modes, origin=origin, axes=axes), seed
        )


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("kernel", "method"),
    [
        (np.hypot(*np.mgrid[-6:7, -6:7]) < 6, "box"),
        (sp.families.box((9, 14)), "box"),
        (sp.families.gaussian(5.0, ndim=2), "recursive"),
    ],
)
def test_adjoint_of_forms(kernel, method, mode):
    assert_adjoint(sp.plan(kernel, (60, 70), "f8", mode=mode, method=method, tol=1e-2))


def test_adjoint_is_linear_where_the_filter_is_affine_and_of_convolutions_too():
    weights = RNG.standard_normal((4, 3))
    p = sp.plan(weights, (20, 21), "f8", mode="constant", cval=5)
    x, y = RNG.standard_normal((2, 20, 21))
    linear = p(x) - p(np.zeros_like(x))
    assert inner(linear, y) == pytest.approx(inner(x, p.adjoint()(y)))
    # Between zeros the adjoint of correlation is convolution, the origin mirrored.
    between = sp.plan(np.ones((3, 3)) * [[1, 2, 3]], (20, 21), "f8", mode="constant").adjoint()(y)
    np.testing.assert_allclose(between, sp.convolve(y, np.ones((3, 3)) * [[1, 2, 3]], mode="constant"))


def test_adjoint_works_near_the_borders_only():
    p = sp.plan(RNG.standard_normal((5, 7)), (300, 400), "f8")
    back = p.adjoint()
    sizes = [math.prod(filter_.shape) for _, filter_ in back._parts]
    assert back._main.shape == p.shape
    assert len(sizes) == 4
    assert sum(sizes) < 0.1 * 300 * 400
    assert back.adjoint() is p
    assert repr(back) == f"<Adjoint of {p!r}>"
    assert sp.plan(NOISE, (0, 4)).adjoint()(np.zeros((0, 4))).shape == (0, 4)


def test_adjoint_stores_where_it_is_told_to():
    p = sp.plan(RNG.random((5, 7)), (30, 40), "f4", threads=2)
    y = RNG.random((30, 40)).astype(np.float32)
    before, expected = y.copy(), p.adjoint()(y)
    out = np.empty((30, 40), np.float32)
    assert p.adjoint()(y, out, 1) is out
    np.testing.assert_array_equal(out, expected)
    whole = p.adjoint()(y, "uint8")
    np.testing.assert_array_equal(whole, np.rint(expected))
    assert whole.dtype == np.uint8
    np.testing.assert_array_equal(y, before)
    with pytest.raises(ValueError, match=r"`y` has shape \(40, 30\), but the plan is for \(30, 40\)"):
        p.adjoint()(y.T)
    with pytest.raises(ValueError, match="shares memory"):
        p.adjoint()(y, y)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(p)).adjoint()(y), expected)
