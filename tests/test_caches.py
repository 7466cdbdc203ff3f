"""What calls leave behind: bounded by bytes, what was used longest ago goes first, all of it on request."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import separable as sp
import separable.ndimage as ndi
from separable._base import caches as _caches
from separable._base.caches import LIMIT, Budget, budget, kept, size_of

ROOT = Path(__file__).resolve().parents[1]
RNG = np.random.default_rng(5)


@pytest.fixture(autouse=True)
def nothing_remembered():
    sp.clear_caches()
    yield
    sp.clear_caches()


def accounted(within=budget):
    return (
        sum(entry.size for entries in within._caches for entry in entries.values()) + within._shortcut_bytes
    )


@given(
    st.lists(
        st.tuples(st.sampled_from(["put", "get", "drop", "clear"]), st.integers(0, 1), st.integers(0, 7)),
        max_size=60,
    )
)
def test_the_budget_is_an_lru_over_all_its_caches(steps):
    shared, model = Budget(5000), {}  # the model: least recently used first
    caches = [shared.cache(), shared.cache()]
    for what, which, key in steps:
        place = which, key
        if what == "put" and place not in model:
            caches[which].put(key, object(), 600 + 100 * key)
            model[place] = 600 + 100 * key + _caches._ENTRY
            while sum(model.values()) > 5000:
                model.pop(next(iter(model)))
        elif what == "get":
            assert (caches[which].get(key) is None) == (place not in model)
            if place in model:
                model[place] = model.pop(place)
        elif what == "drop":
            caches[which].drop(key)
            model.pop(place, None)
        elif what == "clear" and key == 0:
            caches[which].clear()
            model = {there: size for there, size in model.items() if there[0] != which}
        assert {(n, k) for n, cache in enumerate(caches) for k in cache._entries} == set(model)
        assert shared.bytes == sum(model.values()) == accounted(shared)


def test_what_is_too_large_is_not_kept_and_pushes_nothing_out():
    shared = Budget(5000)
    cache = shared.cache()
    cache.put("small", 1, 100)
    assert cache.put("large", 2, 6000) == 2
    assert (len(cache), cache.get("small")) == (1, 1)


def test_notes_of_what_was_dropped_do_not_pile_up():
    shared = Budget(5000)
    cache = shared.cache()
    for _ in range(5000):
        cache.put("packed", 1, 10)
        cache.drop("packed")
    assert len(shared._notes) < 2 * _caches._STALE
    assert shared.bytes == 0


def test_what_a_function_raises_is_not_kept():
    calls = []

    @kept
    def inverse(x):
        calls.append(x)
        return 1 / x

    try:
        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                inverse(0)
            assert inverse(4) == 0.25
        assert calls == [0, 4, 0]
        inverse.cache_clear()
        assert inverse(4) == 0.25
        assert calls == [0, 4, 0, 4]
    finally:
        inverse.cache_clear()


def test_sizes_are_those_of_arrays_keys_and_jobs():
    weights = RNG.random((101, 101))
    assert size_of(weights, (weights, weights)) < weights.nbytes + 1000  # counted once
    assert size_of(b"x" * 5000) > 5000
    by_transforms = sp.plan(weights, (400, 400), method="fft")
    (job,) = by_transforms._jobs
    assert size_of(by_transforms) > job._spectrum.nbytes + 2 * weights.nbytes
    long = sp.plan(sp.families.gaussian((1e4, 1e4)), (50, 50))
    assert size_of(long) > 2 * 2 * 8 * 80_001  # taps, and those of the compiled job


def test_everything_is_counted_and_forgotten():
    x = RNG.random((40, 50)).astype(np.float32)
    assert budget.bytes == 0
    sp.gaussian(x, 2.0, tol=1e-3)
    sp.uniform(x, 9)
    sp.correlate(x, RNG.random((5, 5)))
    sp.correlate(x, RNG.random((3, 3)) + 1j)
    for _ in range(2):
        ndi.gaussian_filter(x, 1.0)
        ndi.convolve(x.astype(np.uint8), np.ones((3, 3)))
    assert sum(map(len, budget._caches)) > 6
    assert 0 < budget.bytes == accounted() < LIMIT
    sp.clear_caches()
    assert budget.bytes == accounted() == 0


def test_a_quick_way_does_not_outlive_its_plan(monkeypatch):
    monkeypatch.setattr(budget, "limit", 200_000)
    x = RNG.random((60, 70))
    want = ndi.gaussian_filter(x, 1.5)
    for sigma in np.linspace(1, 9, 60):
        sp.gaussian(x, float(sigma))
        assert budget.bytes == accounted() <= 200_000
        np.testing.assert_array_equal(ndi.gaussian_filter(x, 1.5), want)


def test_many_threads_share_the_budget(monkeypatch):
    monkeypatch.setattr(budget, "limit", 300_000)
    arrays = [RNG.random((20 + n, 30)) for n in range(8)]
    wants = [(ndi.gaussian_filter(x, 2.0), sp.gaussian(x, 1.0)) for x in arrays]
    wrong = []

    def work(first):
        for n in range(60):
            x, (one, other) = arrays[(first + n) % 8], wants[(first + n) % 8]
            if not np.array_equal(ndi.gaussian_filter(x, 2.0), one) or not np.array_equal(
                sp.gaussian(x, 1.0), other
            ):
                wrong.append(n)
            sp.uniform(x, 3, mode="constant", cval=float(n + 100 * first))
            if n % 20 == first:
                sp.clear_caches()

    threads = [threading.Thread(target=work, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert budget.bytes == accounted() <= 300_000


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_calls_leave_little_memory_behind():
    """A small part of `make leaks`, in a process of its own."""
    program = Path(__file__).with_name("leaks.py")
    run = subprocess.run(
        [sys.executable, program, "--small", "20000", "--large", "150"],
        capture_output=True, text=True, check=False, timeout=600,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
