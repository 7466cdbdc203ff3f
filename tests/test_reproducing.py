"""What a filter gives depends on no number of threads, no environment, and no process that loads a pickle."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import separable as sp
from separable import _core
from separable.cost import model as costs
from separable.filters.pickles import packed, unpacked
from separable.filters.plan import build, build_bank
from separable.filters.request import Request
from separable.methods import cascade

ROWS, COLUMNS = np.mgrid[-12:13, -12:13]
NOISE = np.random.default_rng(0).standard_normal((25, 25))
JET = [sp.families.gaussian(1.5, order=order) for order in ((0, 0), (1, 0), (0, 1), (2, 0))]
THREADS = (1, 2, 3, 8, 64)

# Plans of every method: kernel, dtype, and what else is asked.
PLANS: dict[str, tuple[Any, str, dict[str, Any]]] = {
    "separable": (sp.families.gaussian(2.0, ndim=2), "f4", {}),
    "terms": (NOISE[:9, :8], "f8", {"method": "separable"}),
    "direct": (NOISE[:5, :5], "f4", {"mode": ["wrap", "mirror"], "origin": (1, -2)}),
    "box": (sp.families.box((21, 15)), "f4", {}),
    "shape": ((ROWS**2 + COLUMNS**2 < 140) / 437, "f4", {"tol": 1e-5}),
    "whole": ((ROWS**2 + COLUMNS**2 < 140) * 1.0, "u1", {}),
    "recursive": (sp.families.gaussian(12.0, ndim=2), "f8", {"tol": 1e-3, "method": "recursive"}),
    "cascade": (
        sp.families.rotated_gaussian((3, 1.6), 0.5, radius=10),
        "f4",
        {"tol": 1e-2, "method": "cascade"},
    ),
    "fft": (np.random.default_rng(1).standard_normal((41, 41)), "f4", {}),
    "far from 1": (NOISE[:7, :7] * 1e-60, "c8", {}),
}
SHAPE = (190, 203)


def made(name: str, threads: int | None = None) -> sp.Plan:
    kernel, dtype, how = PLANS[name]
    return sp.plan(kernel, SHAPE, dtype, threads=threads, **how)


def bank() -> sp.Bank:
    return sp.plan([*JET, NOISE, NOISE[:9, :9]], SHAPE, "f4")


def samples(dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    x = np.random.default_rng(2).uniform(-1, 1, SHAPE)
    if dtype.kind == "u":
        return (100 * np.abs(x)).astype(dtype)
    return (x * 1e30 if dtype.kind == "c" else x).astype(dtype)


# ---------------------------------------------------------------- threads


def test_the_choice_that_once_followed_the_threads() -> None:
    plans = [sp.plan(NOISE, (256, 256), threads=threads) for threads in THREADS]
    assert len({p.method for p in plans}) == 1


@settings(max_examples=40)
@given(
    st.sampled_from(["noise", "gaussian", "box", "disk"]),
    st.sampled_from([3, 9, 25, 41]),
    st.sampled_from([(64, 64), (256, 256), (1024, 1024), (64, 64, 64)]),
    st.sampled_from(["f4", "f8", "u1"]),
)
def test_threads_choose_nothing(kind: str, n: int, shape: tuple[int, ...], dtype: str) -> None:
    n = min(n, 13) if len(shape) > 2 else n
    axes = np.ogrid[(slice(-(n // 2), n // 2 + 1),) * len(shape)]
    kernel = {
        "noise": lambda: np.random.default_rng(n).standard_normal((n,) * len(shape)),
        "gaussian": lambda: sp.families.gaussian(n / 8, ndim=len(shape), radius=n // 2),
        "box": lambda: sp.families.box(n, ndim=len(shape)),
        "disk": lambda: (sum(a**2 for a in axes) <= (n // 2) ** 2) * 1.0,
    }[kind]()
    plans = [sp.plan(kernel, shape, dtype, threads=threads) for threads in THREADS]
    assert len({(p.method, p.terms, p.macs, p.error) for p in plans}) == 1
    ways = [p.explain() for p in plans]
    assert len({tuple((c.method, c.reason, c.compared) for c in way.candidates) for way in ways}) == 1
    for p, way in zip(plans, ways, strict=True):
        compared = [c.compared for c in way.candidates if c.compared is not None]
        assert way.candidates[0].method == p.method
        assert compared == sorted(compared)
        assert way.candidates[0].seconds == p.cost.seconds(p.threads)


@pytest.mark.parametrize("name", PLANS)
def test_threads_change_no_bit(name: str) -> None:
    plans = [made(name, threads) for threads in (1, 3)]
    x = samples(plans[0].dtype)
    one = plans[0](x)
    np.testing.assert_array_equal(plans[1](x), one)
    np.testing.assert_array_equal(plans[1](x, threads=2), one)


def test_banks_are_put_together_alike() -> None:
    banks = [sp.plan([*JET, NOISE], SHAPE, threads=threads) for threads in THREADS]
    assert len({b.together for b in banks}) == 1


# ---------------------------------------------------------------- pickles


def forbidden(*args: Any, **more: Any) -> Any:
    raise AssertionError("searched or chosen again")


@pytest.mark.parametrize("name", [*PLANS, "bank"])
def test_nothing_is_searched_where_a_pickle_is_loaded(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plan: Any = bank() if name == "bank" else made(name)
    given = [plan] if name == "bank" else [plan, plan.adjoint()]
    x = samples(np.dtype("u1") if name == "whole" else plan.dtype)
    wanted = [each(x) for each in given]
    data = pickle.dumps(given)
    for module, names in {
        "filters.plan": ("choose", "checked", "terms_within"),
        "methods.cascade": ("find_cascade",),
        "methods.cosines": ("_fit", "recursive_form"),
        "methods.fft": ("best_geometry",),
        "methods.method": ("factored", "terms_within"),
    }.items():
        for each in names:
            monkeypatch.setattr(sys.modules[f"separable.{module}"], each, forbidden)
    for again, result in zip(pickle.loads(data), wanted, strict=True):
        np.testing.assert_array_equal(again(x), result)
    loaded = pickle.loads(data)[0]
    assert str(loaded) == str(plan)
    if name != "bank":
        assert (loaded.method, loaded.error, loaded.cost.counts) == (
            plan.method,
            plan.error,
            plan.cost.counts,
        )
        assert loaded.cost.rates == plan.cost.rates
    if name == "cascade":  # the form that was found serves its adjoint and its explanation
        monkeypatch.undo()
        monkeypatch.setattr(cascade, "find_cascade", forbidden)
        np.testing.assert_array_equal(loaded.adjoint()(x), wanted[1])
        assert loaded.explain().method == "cascade"


LOAD = """
import pickle, sys
import numpy as np
import separable as sp
source, target = sys.argv[1:]
with open(source, "rb") as file:
    filters, floats = pickle.load(file)
results = [(repr(f), f(x)) for f, x in filters]
results += [(f.explain().candidates[0].method, f(x)) for f, x in floats]
results += [(repr(f.adjoint()), f.adjoint()(x)) for f, x in floats]
fresh = sp.plan(floats[0][0]._task.kernel, floats[0][0].shape)
results.append((fresh.cost.rates.source, np.zeros(1)))
with open(target, "wb") as file:
    pickle.dump(results, file)
"""


def skewed(rates: dict[str, Any], cheap: float) -> dict[str, Any]:
    """Return rates of a machine on which transforms cost nothing, or everything."""
    transforms = dict.fromkeys(("block", "axis", "level", "stack", "spilled"), cheap)
    return {t: {d: {**values, **transforms} for d, values in entry.items()} for t, entry in rates.items()}


@pytest.mark.parametrize(("threads", "cheap"), [("1", 0.0), ("7", 1e9)])
def test_other_processes_give_the_same_bits(threads: str, cheap: float, tmp_path: Path) -> None:
    plans = [made(name) for name in PLANS]
    filters: list[Any] = [*plans, *(plan.adjoint() for plan in plans), bank()]
    given = [(each, samples(each.dtype)) for each in filters]
    # Plans for whole numbers choose once more where floats come, and adjoints are made of them.
    floats = [(plan, samples(plan.dtype)) for plan in plans]
    source, target, rates = tmp_path / "filters", tmp_path / "results", tmp_path / "costs.json"
    source.write_bytes(pickle.dumps((given, floats)))
    costs.save(rates, skewed(costs.load(costs._BUNDLED, anywhere=True), cheap))
    environment = {**os.environ, "SEPARABLE_NUM_THREADS": threads, "SEPARABLE_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", LOAD, str(source), str(target)]
    subprocess.run(command, env=environment, check=True)
    *found, (origin, _) = pickle.loads(target.read_bytes())
    assert origin.startswith("measured on this machine")  # what is planned there follows the rates there
    expected = [(repr(f), f(x)) for f, x in given]
    expected += [(f.explain().candidates[0].method, f(x)) for f, x in floats]
    expected += [(repr(f.adjoint()), f.adjoint()(x)) for f, x in floats]
    for (says, result), (said, wanted) in zip(found, expected, strict=True):
        assert says == said
        np.testing.assert_array_equal(result, wanted)


@pytest.mark.parametrize("name", PLANS)
def test_every_instruction_set_runs_what_was_chosen(name: str) -> None:
    plan = made(name)
    data, x = pickle.dumps((plan, plan.adjoint())), samples(plan.dtype)
    now, best = _core.core_info()["target"], _core.core_info()["targets"][-1]
    try:
        for target in _core.core_info()["targets"]:
            _core.force(target)
            again, back = pickle.loads(data)
            assert (again.method, again.terms, again.macs) == (plan.method, plan.terms, plan.macs)
            assert again.cost.rates.source == plan.cost.rates.source
            close = {"rtol": 1e-4, "atol": 1e-5 * float(np.abs(plan(x)).max())}
            np.testing.assert_allclose(again(x), plan(x), **close)
            np.testing.assert_allclose(back(x), plan.adjoint()(x), **close)
    finally:
        _core.force(None if now == best else now)


class Older:
    """A pickle of an older version: a function by name, and what was asked."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.reduced = function, arguments

    def __reduce__(self) -> Any:
        return self.reduced


def test_pickles_of_older_versions_load() -> None:
    request = Request((20, 30), np.dtype("f8"), "wrap", 0.0, 0, None, None, "auto", False, False, True)
    x = np.random.default_rng(3).random((20, 30))
    for kernel in (NOISE[:5, :5], JET[0]):
        data = pickle.dumps(Older(build, kernel, request, None))
        assert b"separable.plan" in data
        assert b"build" in data
        np.testing.assert_array_equal(pickle.loads(data)(x), sp.plan(kernel, x.shape, "f8", mode="wrap")(x))
    again = pickle.loads(pickle.dumps(Older(build_bank, tuple(JET), request, 2)))
    np.testing.assert_array_equal(again(x), sp.plan(JET, x.shape, "f8", mode="wrap")(x))
    assert b"_restore" in pickle.dumps(JET[0])
    assert pickle.loads(pickle.dumps(JET[0])) == JET[0]


def test_what_is_packed_is_found_again() -> None:
    for name in PLANS:
        choice = made(name)._choice
        again = unpacked(pickle.loads(pickle.dumps(packed(choice))))
        assert type(again.kernel) is type(choice.kernel)
        assert again._replace(kernel=None) == choice._replace(kernel=None)
