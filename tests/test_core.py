"""The compiled core by itself: every line kernel against plain sums, and a binding that refuses."""

from __future__ import annotations

import ast
import concurrent.futures
import ctypes
import functools
import itertools
import math
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import MODES, OUTSIDE, continued

from separable import _core

ROOT = Path(__file__).resolve().parents[1]
TARGETS = _core.core_info()["targets"]
CACHES = _core.core_info()["caches"]
DTYPES = ("float32", "float64")
FORMS = ("none", "symmetric", "antisymmetric")
CONSTANT = MODES.index("constant")
UNTOUCHED = 7.0  # what lies around a result
GUARD = 67  # elements before and after: more than a vector, and an odd number of them

Pass = tuple[int, np.ndarray, int, int]  # axis, taps, shift, mode
CVAL = -1.25


@pytest.fixture(autouse=True)
def machine_as_it_is_afterwards() -> Iterator[None]:
    yield
    _core.force(None)
    _core.assume_caches(**CACHES)


# ---------------------------------------------------------------- the oracle, and what it is asked


@functools.cache
def table(n: int, taps: int, shift: int, mode: int) -> tuple[int, ...]:
    return tuple(continued(i - shift, n, MODES[mode]) for i in range(n + taps - 1))


def plain_sums(x: np.ndarray, terms: Sequence[Sequence[Pass]]) -> np.ndarray:
    """Run each pass of each term as the definition says, one sample and one tap at a time, in long double."""
    total = np.zeros(x.shape, np.longdouble)
    if x.size == 0:
        return total
    for term in terms:
        y, cval = x.astype(np.longdouble), np.longdouble(CVAL)
        for axis, taps, shift, mode in term:
            places = np.array(table(x.shape[axis], len(taps), shift, mode), int)
            padded = np.moveaxis(y.take(places, axis), axis, -1)
            padded[..., places == OUTSIDE] = cval
            n = x.shape[axis]
            y = np.moveaxis(sum(w * padded[..., k : k + n] for k, w in enumerate(taps)), -1, axis)
            cval *= taps.sum()
        total += y
    return total


def bound(dtype: str, terms: Sequence[Sequence[Pass]], x: np.ndarray) -> float:
    """Bound the rounding error as `reference.tolerance` does, term by term."""
    unit, tiny = float(np.finfo(dtype).eps) / 2, float(np.finfo(dtype).tiny)
    total, steps = 0.0, 0
    for term in terms:
        size = float(np.abs(x).max(initial=abs(CVAL)))
        for _, taps, *_ in term:
            size *= float(np.abs(taps).sum())
        total += size
        steps = max(steps, sum(len(taps) + 3 for _, taps, *_ in term) + len(terms) + 4)
    return steps * unit / (1 - steps * unit) * total + steps * tiny


@functools.cache
def taps_of(count: int, form: str, seed: int = 0) -> np.ndarray:
    taps = np.random.default_rng([count, seed]).uniform(-1, 1, count) / count
    return {"none": taps, "symmetric": taps + taps[::-1], "antisymmetric": taps - taps[::-1]}[form]


def terms_of(
    passes: Sequence[tuple[int, int, int]], form: str = "none", terms: int = 1, seed: int = 0
) -> list[list[Pass]]:
    """Make terms of the passes (axis, taps, mode).

    Each pass has a shift of its own.
    """
    return [
        [
            (axis, taps_of(count, form, 10 * t + axis), (seed + count // 2) % count, mode)
            for axis, count, mode in passes
        ]
        for t in range(terms)
    ]


def job_of(shape: Sequence[int], dtype: str, terms: Sequence[Sequence[Pass]]) -> _core.TermsJob:
    """Make the job of these terms, all along the same axes. Terms of one pass are added up: they are one."""
    if len(terms[0]) == 1:
        (axis, _, shift, mode), *_ = terms[0]
        terms = [[(axis, sum(taps for ((_, taps, *_),) in terms), shift, mode)]]
    passes = [
        (axis, shift, mode, [term[p][1] for term in terms])
        for p, (axis, _, shift, mode) in enumerate(terms[0])
    ]
    return _core.TermsJob(
        tuple(shape), dtype, passes, [(0, *[t] * len(passes)) for t in range(len(terms))], CVAL
    )


@functools.cache
def noise(*shape: int) -> np.ndarray:
    """Return noise that float32 holds exactly, so that one oracle serves both precisions."""
    x = np.random.default_rng(shape).standard_normal(shape).astype(np.float32).astype(np.float64)
    x.flags.writeable = False
    return x


def guarded(shape: tuple[int, ...], dtype: str, fill: float, gap: int) -> tuple[np.ndarray, np.ndarray]:
    """Return an array with `gap` elements between rows, and the memory around it, full of `fill`."""
    pitch = shape[-1] + gap
    room = np.full(math.prod(shape[:-1]) * pitch + 2 * GUARD, fill, dtype)
    inside = room[GUARD : room.size - GUARD].reshape(*shape[:-1], pitch)
    return inside[..., : shape[-1]], room


def check(x: np.ndarray, terms: list[list[Pass]], dtypes: Sequence[str] = DTYPES, gap: int = 0) -> None:
    """Run `terms` over `x` on every instruction set, and compare; nothing around `x` counts or is written."""
    wanted = plain_sums(x, terms)
    label = f"{x.shape} {[(axis, len(taps), shift, mode) for axis, taps, shift, mode in terms[0]]}"
    for dtype in dtypes:
        job = job_of(x.shape, dtype, terms)
        limit = bound(dtype, terms, x)
        src, _ = guarded(x.shape, dtype, np.nan, gap)
        src[...] = x
        for target in TARGETS:
            _core.force(target)
            dst, room = guarded(x.shape, dtype, UNTOUCHED, gap)
            job.run(src, dst, 1)
            assert np.abs(dst - wanted).max(initial=0.0) <= limit, f"{target} {dtype} {label}"
            dst[...] = UNTOUCHED
            assert (room == UNTOUCHED).all(), f"{target} {dtype} {label} wrote outside"


# ---------------------------------------------------------------- line kernels


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("axes", [(1,), (0,), (1, 0)])
def test_every_width_past_three_vectors_and_every_count_of_rows(axes, form, dtype):
    lanes = 64 // np.dtype(dtype).itemsize
    for width, rows in itertools.product(range(3 * lanes + 2), range(1, 21)):
        turn = width + 3 * rows
        passes = [(axis, 1 + (5 * turn + 11 * axis) % 40, (turn + axis) % 5) for axis in axes]
        terms = terms_of(passes, form, terms=1 + turn % 7 // 5, seed=turn)
        check(noise(rows, width), terms, [dtype], gap=turn % 2 * 3)


@pytest.mark.parametrize("mode", range(5))
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("axis", [0, 1])
def test_every_number_of_taps(axis, form, mode):
    for count in range(1, 41):
        check(noise(17, 75), terms_of([(axis, count, mode)], form, seed=count // 3))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("count", [2, 3, 5, 8, 9, 12, 13, 14, 32, 40])
def test_long_rows(count, form):
    """A lone row is split into parts; transposed blocks take short rows and those with many taps."""
    for n in (255, 256, 257, 263, 511, 1023, 1024, 1100, 2049, 5003):
        check(noise(n), terms_of([(0, count, n % 5)], form, 1 + n % 2, seed=n))
    for rows, n in itertools.product((1, 3, 8, 9, 17), (300, 1025)):
        terms = terms_of([(1, count, (rows + n) % 5)], form, 1 + rows % 2, seed=rows // 3)
        check(noise(rows, n), terms, gap=rows % 3)
    check(noise(70_001), terms_of([(0, count, count % 5)], form))


@pytest.mark.parametrize("terms", [1, 2, 5])
@pytest.mark.parametrize("axes", [(1,), (0,), (1, 0)])
def test_an_unfiltered_inner_extent(axes, terms):
    for inner in (*range(1, 71), 200, 1030):
        passes = [(axis, 2 + (inner + 4 * axis) % 9, (inner + axis) % 5) for axis in axes]
        check(noise(5, 11, inner), terms_of(passes, FORMS[inner % 3], terms), gap=inner % 2)
    check(noise(5, 19, 4099), terms_of([(axis, 7, axis) for axis in axes], "none", terms))


@pytest.mark.parametrize("mode", range(5))
def test_kernels_longer_than_the_axis(mode):
    for shape in ((1,), (5,), (3, 2), (1, 40), (2, 3, 4), (3, 1, 2)):
        for seed, form in itertools.product((0, 7), FORMS):
            passes = [(axis, 40 - axis, mode) for axis in reversed(range(len(shape)))]
            check(noise(*shape), terms_of(passes, form, terms=2, seed=seed))


@pytest.mark.parametrize("shape", [(3, 4, 5, 37), (2, 3, 2, 3, 19), (2, 1, 3, 2, 2, 9), (30, 2, 2, 3)])
@pytest.mark.parametrize("terms", [1, 3])
def test_more_than_three_filtered_axes(terms, shape):
    for mode, skipped in itertools.product(range(5), (None, 1)):
        axes = [axis for axis in reversed(range(len(shape))) if axis != skipped]
        check(noise(*shape), terms_of([(axis, 3 + axis, mode) for axis in axes], "none", terms), gap=mode)


@pytest.mark.parametrize("axes", [(2, 1, 0), (2, 0), (1, 0), (2, 1)])
def test_volumes_past_the_tiles(axes):
    for terms, form in ((1, "symmetric"), (1, "antisymmetric"), (2, "none")):
        check(noise(37, 45, 150), terms_of([(axis, 9 + axis, axis + 1) for axis in axes], form, terms))
    check(noise(3, 90, 2500), terms_of([(axis, 9 + axis, axis) for axis in axes]))


@st.composite
def strided(draw) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[list[Pass]]]:
    """Draw an input, a source of any strides that equals it, a destination of any, and terms."""
    shape = tuple(draw(st.lists(st.integers(0, 40), min_size=1, max_size=4)))
    if math.prod(shape) > 4000:
        shape = tuple(min(n, 7) for n in shape)
    x = noise(*shape)
    steps = st.tuples(*[st.sampled_from([-2, -1, 1, 3]) for _ in shape])
    orders = st.permutations(range(len(shape)))
    views = []
    for fill in (np.nan, UNTOUCHED):
        step, order = draw(steps), draw(orders)
        room = np.full([shape[axis] * abs(step[axis]) for axis in order], fill, np.float32)
        whole = room.transpose(np.argsort(order))
        views.append(whole[tuple(slice(None, None, s) for s in step)])
    src, dst = views
    src[...] = x
    axes = sorted(draw(st.sets(st.sampled_from(range(len(shape))), min_size=1)), reverse=True)
    passes = [(axis, draw(st.integers(1, 9)), draw(st.integers(0, 4))) for axis in axes]
    terms = terms_of(passes, draw(st.sampled_from(FORMS)), draw(st.integers(1, 3)), draw(st.integers(0, 8)))
    return x, src, dst, terms


@given(strided(), st.sampled_from(TARGETS), st.integers(1, 3))
def test_any_strides(case, target, threads):
    x, src, dst, terms = case
    _core.force(target)
    job_of(x.shape, "float32", terms).run(src, dst, threads)
    assert np.abs(dst - plain_sums(x, terms)).max(initial=0.0) <= bound("float32", terms, x)


# ---------------------------------------------------------------- what leaves the caches


LAST_CACHE = 1 << 20  # bytes, as the core is told: what is larger than half of it is stored around the caches


@pytest.fixture
def small_caches() -> None:
    _core.assume_caches(32 << 10, 256 << 10, LAST_CACHE)


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("columns", [2100, 2099])
@pytest.mark.parametrize("dtype", DTYPES)
def test_stores_that_go_around_the_caches(small_caches, dtype, columns, offset):
    rows = LAST_CACHE // 2 // np.dtype(dtype).itemsize // columns + 5
    x = np.resize(noise(1, 10_007)[0], (rows, columns))
    src = x.astype(dtype)
    dst = _core.empty((rows * columns + offset,), dtype)[offset:].reshape(rows, columns)
    halo = 9
    for axes, count in (((1, 0), 9), ((0,), 5), ((1,), 13)):
        terms = terms_of([(axis, count, axis + 2) for axis in axes], "symmetric")
        job = job_of(src.shape, dtype, terms)
        for target in TARGETS:
            _core.force(target)
            dst[...] = np.nan
            job.run(src, dst, 2)
            assert not np.isnan(dst).any()
            for first, last in ((0, 2), (rows // 2, rows // 2 + 2), (rows - 2, rows)):
                low, high = max(first - halo, 0), min(last + halo, rows)
                wanted = plain_sums(x[low:high], terms)[first - low : last - low]
                assert np.abs(dst[first:last] - wanted).max() <= bound(dtype, terms, x), (target, axes, first)


def test_a_volume_that_goes_around_the_caches(small_caches):
    slices = 20
    x = np.resize(noise(1, 10_007)[0], (slices, 250, 203))
    src, dst = x.astype(np.float32), _core.empty(x.shape, "float32")
    terms = terms_of([(axis, 7, 2) for axis in (2, 1, 0)], "symmetric")
    for target in TARGETS:
        _core.force(target)
        dst[...] = np.nan
        job_of(x.shape, "float32", terms).run(src, dst, 2)
        middle = slices // 2
        wanted = plain_sums(x[middle - 4 : middle + 5], terms)[4]
        assert np.abs(dst[middle] - wanted).max() <= bound("float32", terms, x), target
        assert not np.isnan(dst).any()


# ---------------------------------------------------------------- passes in common


@st.composite
def banks(
    draw,
) -> tuple[tuple[int, ...], list[tuple[int, int, int, list[np.ndarray]]], list[tuple[int, ...]]]:
    """Return a shape, passes with a few lists of taps each, and terms of up to three outputs of these."""
    shape = tuple(draw(st.lists(st.integers(1, 24), min_size=2, max_size=4)))
    axes = sorted(draw(st.sets(st.sampled_from(range(len(shape))), min_size=1, max_size=3)), reverse=True)
    passes = []
    for axis in axes:
        count, lists = draw(st.integers(1, 7)), draw(st.integers(1, 3))
        taps = [taps_of(count, draw(st.sampled_from(FORMS)), 10 * n + axis) for n in range(lists)]
        passes.append((axis, draw(st.integers(0, count - 1)), draw(st.integers(0, 4)), taps))
    outputs = draw(st.integers(1, 3))
    terms = []
    for output in range(outputs):
        own = draw(st.integers(1, 6)) if len(axes) > 1 else 1
        terms += [(output, *(draw(st.integers(0, len(p[3]) - 1)) for p in passes)) for _ in range(own)]
    return shape, passes, terms


@given(banks(), st.sampled_from(DTYPES), st.sampled_from(TARGETS), st.integers(1, 3), st.sampled_from("CF"))
def test_passes_in_common_change_no_result(bank, dtype, target, threads, order):
    shape, passes, terms = bank
    x = noise(*shape)
    _core.force(target)
    made = _core.TermsJob(shape, dtype, passes, terms, CVAL)
    outputs = 1 + max(term[0] for term in terms)
    found = np.full((outputs, *shape), np.nan, dtype, order=order)
    if outputs == 1:
        found = found[0]
    made.run(x.astype(dtype), found, threads)
    for output, result in enumerate(found.reshape(outputs, *shape)):
        own = [
            [
                (axis, taps[n], shift, mode)
                for (axis, shift, mode, taps), n in zip(passes, places, strict=True)
            ]
            for number, *places in terms
            if number == output
        ]
        assert np.abs(result - plain_sums(x, own)).max() <= bound(dtype, own, x)


def test_what_terms_have_in_common_runs_once():
    # Two lists of taps along z, three along x, and every pair of them: y mixes.
    pairs = [(0, x, 3 * z + x, z) for z in range(2) for x in range(3)]
    rows, planes, slices = _core.shared_passes(pairs, 3)
    assert (len(rows), len(planes), len(slices)) == (3, 2, 1)
    assert [len(node) for node in (*rows, *planes, *slices)] == [1, 1, 1, 3, 3, 2]
    # Kernels with a common part filter it once; the same kernel twice is stored twice.
    rows, planes, slices = _core.shared_passes([(0, 0, 0, 0), (1, 0, 0, 1), (2, 0, 0, 1)], 3)
    assert (rows, planes) == ([[(0, 0)]], [[(0, 0)]])
    assert slices == [[(0, 0)], [(0, 1)], [(0, 1)]]


# ---------------------------------------------------------------- NaN and infinity


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", [(61,), (600,), (30, 70), (9, 20, 41), (12, 30, 3), (4, 5, 6, 33)])
def test_a_bad_sample_reaches_no_further_than_the_taps(shape, form, bad):
    terms = terms_of([(axis, 6 + axis, 2) for axis in reversed(range(len(shape)))], form)
    x = noise(*shape).astype(np.float32)
    place = tuple(n // 2 for n in shape)
    near = tuple(
        slice(place[axis] + shift - len(taps) + 1, place[axis] + shift + 1)
        for axis, taps, shift, *_ in reversed(terms[0])
    )
    near = tuple(slice(max(each.start, 0), each.stop) for each in near)
    job = job_of(shape, "float32", terms)
    far = np.ones(shape, bool)
    far[near] = False
    for target in TARGETS:
        _core.force(target)
        clean, spoilt = (_core.empty(shape, "float32") for _ in range(2))
        job.run(x, clean, 1)
        hurt = x.copy()
        hurt[place] = bad
        job.run(hurt, spoilt, 1)
        np.testing.assert_array_equal(spoilt[far], clean[far], err_msg=target)
        if form == "none":
            assert not np.isfinite(spoilt[near]).any()


# ---------------------------------------------------------------- threads

WORKS: list[tuple[tuple[int, ...], list[tuple[int, int, int]], int]] = [
    ((400_003,), [(0, 13, 0)], 1),
    ((300, 401), [(1, 9, 1), (0, 8, 2)], 2),
    ((3, 40_001), [(1, 9, 1)], 1),
    ((2000, 61), [(0, 17, 3)], 1),
    ((40, 50, 61), [(2, 5, 0), (1, 4, 1), (0, 9, 4)], 1),
    ((60, 70, 3), [(1, 25, 0), (0, 25, 3)], 1),
    ((30, 40, 333), [(0, 7, 2)], 1),
    ((9, 10, 11, 120), [(3, 5, 0), (2, 5, 1), (1, 4, 2), (0, 5, 4)], 2),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "passes", "terms"), WORKS)
def test_threads_change_no_bit(shape, passes, terms, dtype):
    x = noise(*shape).astype(dtype)
    job = job_of(shape, dtype, terms_of(passes, "none", terms))
    one = _core.empty(shape, dtype)
    job.run(x, one, 1)
    for threads in range(2, 9):
        more = _core.empty(shape, dtype)
        more[...] = np.nan
        job.run(x, more, threads)
        np.testing.assert_array_equal(more, one, err_msg=str(threads))


def test_many_python_threads_run_jobs_at_once():
    works = []
    for shape, passes, terms in WORKS:
        x, job = (
            noise(*shape).astype(np.float32),
            job_of(shape, "float32", terms_of(passes, "none", terms)),
        )
        wanted = _core.empty(shape, "float32")
        job.run(x, wanted, 1)
        works.append((x, job, wanted))

    def same(n: int) -> bool:
        x, job, wanted = works[n % len(works)]
        found = _core.empty(x.shape, "float32")
        job.run(x, found, 1 + n % 3)
        return bool(np.array_equal(found, wanted))

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert all(pool.map(same, range(10 * len(works))))


def test_python_runs_on_meanwhile():
    """The interpreter is free while the core works: without that, not one step is counted."""
    shape = (1500, 1500)
    job = job_of(shape, "float64", terms_of([(1, 61, 0), (0, 61, 0)], "none", terms=3))
    x, y = noise(*shape), _core.empty(shape, "float64")
    steps, finished = 0, threading.Event()
    during = []

    def work() -> None:
        before = steps
        job.run(x, y, 1)
        during.append(steps - before)
        finished.set()

    worker = threading.Thread(target=work)
    worker.start()
    while not finished.is_set():
        steps += 1
    worker.join()
    assert during[0] > 100


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_fork_in_the_middle_of_a_run():
    """The pool's threads do not live in the child, and its locks may be held there for ever."""
    code = """
import os, threading, warnings
import numpy as np
from separable import _core
warnings.simplefilter("ignore")  # newer Pythons warn of every fork beside a thread
shape = (700, 800)
job = _core.TermsJob(shape, "float32", [(1, 4, 0, [np.ones(9)]), (0, 4, 0, [np.ones(9)])], [(0, 0, 0)], 0.0)
x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
wanted = np.empty_like(x)
job.run(x, wanted, 3)
stop = threading.Event()
def busy():
    y = np.empty_like(x)
    while not stop.is_set():
        job.run(x, y, 3)
worker = threading.Thread(target=busy)
worker.start()
children = []
for _ in range(8):
    child = os.fork()
    if child == 0:
        y = np.empty_like(x)
        for _ in range(3):
            job.run(x, y, 3)
        os._exit(0 if np.array_equal(y, wanted) else 1)
    children.append(child)
ends = [os.waitpid(child, 0)[1] for child in children]
stop.set()
worker.join()
assert ends == [0] * 8, ends
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# ---------------------------------------------------------------- refusals

ONE = np.ones(3)
NINE = np.ones((3, 3))
GOOD = (0, 1, 0, [ONE])  # a pass as jobs take it: axis, shift, mode, lists of taps


def job(
    shape: Any = (4, 5), dtype: Any = "float32", passes: Any = (GOOD,), terms: Any = ((0, 0),)
) -> _core.TermsJob:
    return _core.TermsJob(shape, dtype, list(passes), list(terms), 0.0)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"shape": (-1, 5)}, OverflowError),
        ({"shape": (2**40, 2**40)}, OverflowError),
        ({"shape": (0, 2**40, 2**40)}, OverflowError),
        ({"shape": (2**63,)}, TypeError),
        ({"shape": (2**61,)}, OverflowError),
        ({"shape": (2**59,), "terms": [(0, 0), (1, 0), (2, 0), (3, 0)]}, OverflowError),
        ({"shape": 5}, TypeError),
        ({"shape": ()}, ValueError),
        ({"shape": (4.5, 5)}, TypeError),
        ({"dtype": "float16"}, ValueError),
        ({"dtype": ""}, ValueError),
        ({"dtype": np.float32}, TypeError),
        ({"passes": []}, ValueError),
        ({"passes": [(0, 1, 0)]}, ValueError),
        ({"passes": [(0, 1, 0, [])]}, ValueError),
        ({"passes": [(0, 0, 0, [np.ones(0)])]}, ValueError),
        ({"passes": [(0, 1, 0, [np.ones((3, 1))])]}, ValueError),
        ({"passes": [(0, 1, 0, [ONE, np.ones(4)])]}, ValueError),
        ({"passes": [(0, 3, 0, [ONE])]}, ValueError),
        ({"passes": [(0, -1, 0, [ONE])]}, ValueError),
        ({"passes": [(0, 1, 5, [ONE])]}, ValueError),
        ({"passes": [(0, 1, -1, [ONE])]}, ValueError),
        ({"passes": [(2, 1, 0, [ONE])]}, ValueError),
        ({"passes": [(-1, 1, 0, [ONE])]}, ValueError),
        ({"passes": [GOOD, (1, 1, 0, [ONE])], "terms": [(0, 0, 0)]}, ValueError),
        ({"passes": [GOOD, GOOD], "terms": [(0, 0, 0)]}, ValueError),
        ({"terms": []}, ValueError),
        ({"terms": [()]}, ValueError),
        ({"terms": [(0,)]}, ValueError),
        ({"terms": [(0, 0, 0)]}, ValueError),
        ({"terms": [(0, 1)]}, ValueError),
        ({"terms": [(0, -1)]}, ValueError),
        ({"terms": [(1, 0)]}, ValueError),
        ({"terms": [(-1, 0)]}, ValueError),
        ({"terms": [(0, 0), (2**31 - 1, 0)]}, ValueError),
        ({"terms": [(0, 0), (0, 0)]}, ValueError),
        (
            {
                "shape": (4,) * 4,
                "passes": [(n, 1, 0, [ONE]) for n in (3, 2, 1, 0)],
                "terms": [(0,) * 5, (1,) * 5],
            },
            ValueError,
        ),
    ],
)
def test_a_job_that_cannot_be_is_refused(arguments, error):
    with pytest.raises(error):
        job(**arguments)


@pytest.mark.parametrize(
    "passes", [[list(GOOD)], [None], [(0, 1, 0, "taps")], [("0", 1, 0, [ONE])], [(0, 1, 0, ["taps"])], [7]]
)
def test_passes_of_another_kind_are_refused(passes):
    with pytest.raises((TypeError, ValueError, RuntimeError)):
        job(passes=passes)


def direct(
    shape: Any = (4, 5),
    dtype: Any = "float32",
    weights: Any = NINE,
    shifts: Any = (1, 1),
    modes: Any = (0, 0),
    cval: Any = 0.0,
) -> _core.DirectJob:
    return _core.DirectJob(shape, dtype, weights, shifts, modes, cval)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"shape": ()}, ValueError),
        ({"shape": (4,)}, ValueError),
        ({"shape": (4, -5)}, OverflowError),
        ({"shape": (2**40, 2**40)}, OverflowError),
        ({"dtype": "int32"}, ValueError),
        ({"weights": ONE}, ValueError),
        ({"weights": np.ones((3, 0))}, ValueError),
        ({"weights": None}, TypeError),
        ({"shifts": (1,)}, ValueError),
        ({"shifts": (1, 3)}, ValueError),
        ({"shifts": (-1, 0)}, ValueError),
        ({"modes": (0,)}, ValueError),
        ({"modes": (0, 5)}, ValueError),
        ({"modes": (-1, 0)}, ValueError),
        ({"cval": "0"}, TypeError),
    ],
)
def test_a_direct_job_that_cannot_be_is_refused(arguments, error):
    with pytest.raises(error):
        direct(**arguments)


def misaligned(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    item = np.dtype(dtype).itemsize
    room = np.zeros(math.prod(shape) * item + 1, np.uint8)
    return room[1:].view(dtype).reshape(shape)


def odd_strides(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    record = np.zeros(shape, np.dtype([("pad", np.uint8), ("value", dtype)]))
    return record["value"]


def read_only(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    x = np.zeros(shape, dtype)
    x.flags.writeable = False
    return x


@pytest.mark.parametrize("make", [job, direct])
@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((4, 5), np.float64),
        np.zeros((4, 5), np.int32),
        np.zeros((4, 5), ">f4"),
        np.zeros((4, 5), np.complex64),
        np.zeros((4, 5), object),
        np.zeros((4, 5), [("value", np.float32)]),
        np.zeros((5, 4), np.float32),
        np.zeros((4, 5, 1), np.float32),
        np.zeros(20, np.float32),
        np.zeros((), np.float32),
        np.zeros((4, 0), np.float32),
        misaligned((4, 5), "float32"),
        odd_strides((4, 5), "float32"),
        ((ctypes.c_float * 5) * 4)(),  # its buffer has no strides
        [[0.0] * 5] * 4,
        None,
        b"",
    ],
    ids=lambda wrong: f"{getattr(wrong, 'dtype', type(wrong).__name__)}-{np.shape(wrong)}",
)
def test_a_run_over_other_arrays_is_refused(make, wrong):
    good = np.zeros((4, 5), np.float32)
    for src, dst in ((wrong, good), (good, wrong)):
        with pytest.raises((TypeError, BufferError)):
            make().run(src, dst, 1)
    with pytest.raises((TypeError, BufferError, ValueError)):
        make().run(good, read_only((4, 5), "float32"), 1)
    assert (good == 0).all()


@pytest.mark.parametrize("make", [job, direct])
def test_threads_out_of_range(make):
    x, found, wanted = np.float32(noise(4, 5)), np.zeros((4, 5), np.float32), np.zeros((4, 5), np.float32)
    make().run(x, wanted, 1)
    for threads in (-1, 0, 2**31 - 1):
        make().run(x, found, threads)
        np.testing.assert_array_equal(found, wanted)
        assert make().scratch_bytes(threads) > 0
    for threads in (2**31, -(2**31) - 1, 1.5, None):
        with pytest.raises(TypeError):
            make().run(x, found, threads)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are counted as Linux shows them")
def test_no_more_threads_than_a_machine_could_have():
    code = """
import os
import numpy as np
from separable import _core
x = np.ones((5000, 20, 30), np.float32)
job = _core.TermsJob(x.shape, "float32", [(1, 1, 0, [np.ones(3)])], [(0, 0)], 0.0)
job.run(x, np.empty_like(x), 2**31 - 1)
print(len(os.listdir("/proc/self/task")))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60
    )
    assert int(done.stdout) < 1100


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_read_only_source_and_a_spelt_byte_order_are_welcome(dtype):
    order, item = "<" if sys.byteorder == "little" else ">", np.dtype(dtype).itemsize
    spelt = memoryview(bytearray(np.arange(6, dtype=dtype).tobytes())).cast("@f" if item == 4 else "@d")
    sources = [np.arange(6, dtype=f"{order}f{item}"), spelt, np.arange(6, dtype=dtype)]
    sources[-1].flags.writeable = False
    terms = [[(0, ONE, 1, 0)]]
    job, wanted = job_of((6,), dtype, terms), plain_sums(np.arange(6.0), terms)
    for src in sources:
        dst = np.empty(6, f"{order}f{item}")
        job.run(src, dst, 1)
        np.testing.assert_array_equal(dst, wanted)


@pytest.mark.parametrize("shape", [(0,), (0, 5), (5, 0), (3, 0, 4), (0, 2**40)])
def test_nothing_is_filtered_to_nothing(shape):
    none = (0,) * len(shape)
    dense = _core.DirectJob(shape, "float32", np.ones((1,) * len(shape)), none, none, 0.0)
    for made in (job(shape), dense):
        made.run(np.zeros(shape, np.float32), np.zeros(shape, np.float32), 2)
        assert made.scratch_bytes(2) >= 0


# ---------------------------------------------------------------- the rest of the module


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "shape", [(), (0,), (3, 0), (1,), (7,), (1000,), (333, 777), (1 << 20, 1), (1025, 1025), (3, 5, 7, 11)]
)
def test_empty_is_aligned_and_contiguous(shape, dtype):
    arrays = [_core.empty(shape, dtype) for _ in range(3)]
    for x in arrays:
        assert x.shape == shape
        assert x.dtype == dtype
        assert x.ctypes.data % 64 == 0
        assert x.flags.c_contiguous
        assert x.flags.writeable
        x[...] = 1.0
    assert not any(np.shares_memory(a, b) for a, b in itertools.combinations(arrays, 2))


@pytest.mark.parametrize(
    ("shape", "dtype", "error"),
    [
        ((-1,), "float32", OverflowError),
        ((2**61,), "float32", OverflowError),
        ((2**32, 2**32), "float64", OverflowError),
        ((2**55,), "float32", MemoryError),
        ((4,), "int8", ValueError),
        ("4", "float32", TypeError),
    ],
)
def test_empty_of_what_cannot_be(shape, dtype, error):
    with pytest.raises(error):
        _core.empty(shape, dtype)


def test_force_chooses_among_the_targets_of_this_machine():
    bits = {"v2": 128, "v3": 256, "v4": 512, "neon": 128, "base": 128}
    for name in TARGETS:
        _core.force(name)
        info = _core.core_info()
        assert info["target"] == name
        assert info["vector_bits"] == bits[name]
    _core.force(None)
    assert _core.core_info()["target"] == TARGETS[-1]
    for wrong in ("v9", "V3"):
        with pytest.raises(ValueError, match="core_info"):
            _core.force(wrong)
    with pytest.raises((TypeError, RuntimeError)):
        _core.force(3)
    assert _core.core_info()["target"] == TARGETS[-1]


def test_core_info_describes_core_and_machine():
    info = _core.core_info()
    assert set(info) == {"target", "targets", "vector_bits", "compiler", "caches", "cores"}
    assert re.fullmatch(r"(GNU|Clang|AppleClang) [\d.]+", info["compiler"])
    assert info["caches"]["l1d"] >= 1024
    assert info["caches"]["l2"] >= 1024
    assert info["caches"]["l3"] >= 0
    if hasattr(os, "sched_getaffinity"):
        assert info["cores"] == len(os.sched_getaffinity(0))


def test_caches_are_those_of_the_machine_until_it_is_told_of_others():
    _core.assume_caches(1 << 15, 1 << 20, 0)
    assert _core.core_info()["caches"] == {"l1d": 1 << 15, "l2": 1 << 20, "l3": 0}
    for wrong in ((1 << 48, 0, 0), (0, 1 << 48, 0), (0, 0, 1 << 63)):
        with pytest.raises(ValueError, match="assume_caches"):
            _core.assume_caches(*wrong)
    for wrong in ((-1, 0, 0), (0, 1.5, 0)):
        with pytest.raises(TypeError):
            _core.assume_caches(*wrong)
    _core.assume_caches(**CACHES)
    assert _core.core_info()["caches"] == CACHES


def test_peaks_are_measured():
    assert _core.measure("fma") > 0
    assert _core.measure("stream") > 0
    with pytest.raises(ValueError, match="stream"):
        _core.measure("copy")


def test_describe_says_how_each_pass_runs():
    passes = [
        (2, 1, 0, [taps_of(4, "none")]),
        (0, 2, 0, [taps_of(5, form) for form in ("symmetric", "none")]),
    ]
    assert _core.TermsJob((4, 5, 6), "float32", passes, [(0, 0, 0), (0, 0, 1)], 0.0).describe() == [
        {"axis": 2, "taps": 4, "folds": ["none"], "nodes": [[(0, 0)]]},
        {"axis": 0, "taps": 5, "folds": ["symmetric", "none"], "nodes": [[(0, 0), (0, 1)]]},
    ]


def test_the_stub_names_what_there_is():
    def public(names) -> set[str]:
        return {name for name in names if not name.startswith("_")}

    stub = ast.parse((ROOT / "src" / "separable" / "_core.pyi").read_text(encoding="utf-8"))
    said = {node.name: node for node in stub.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    aliases = {ast.unparse(node.targets[0]): node for node in stub.body if isinstance(node, ast.Assign)}
    assert public([*said, *aliases]) == public(vars(_core))
    for alias, node in aliases.items():
        assert getattr(_core, alias) is getattr(_core, ast.unparse(node.value)), alias
    for name in public(said):
        node = said[name]
        if isinstance(node, ast.ClassDef):
            bases = [said[base.id] for base in node.bases if isinstance(base, ast.Name) and base.id in said]
            body = [item for part in (node, *bases) for item in part.body]
            members = [item.name for item in body if isinstance(item, ast.FunctionDef)]
            members += [ast.unparse(item.targets[0]) for item in body if isinstance(item, ast.Assign)]
            assert public(members) == public(vars(getattr(_core, name))), name


# ---------------------------------------------------------------- objects


# Each unit of kernels, and the one table that it gives out.
UNITS = {
    "base/target": "target_",
    "io/casts": "casts_",
    "filters/kernels/box_and_cosines": "box_and_cosines_",
    "filters/kernels/differences": "differences_",
    "filters/kernels/lines": "lines_",
    "layers/kernels/layers": "layers_",
    "layers/kernels/blocks": "blocks_",
    "engine/kernels/plain": "plain_",
}


@pytest.fixture(scope="module", params=UNITS)
def kernel_objects(request, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[Path]]:
    """A kernel unit's name and objects: those of the last build here, or one compiled for the purpose."""
    if shutil.which("nm") is None:
        pytest.skip("nm is not installed")
    unit = request.param
    builds = [[*build.glob(f"CMakeFiles/kernels_*.dir/cpp/{unit}.cpp.o")] for build in ROOT.glob("build/*")]
    if any(builds):
        return unit, max(filter(None, builds), key=lambda paths: max(path.stat().st_mtime for path in paths))
    compiler = next(filter(None, map(shutil.which, (os.environ.get("CXX", "c++"), "g++", "clang++"))), None)
    if compiler is None:
        pytest.skip("nothing is built here, and no compiler is installed")
    target, flags = ("v3", ["-march=x86-64-v3"]) if "v3" in TARGETS else (TARGETS[0], [])
    made = tmp_path_factory.mktemp("objects") / f"{Path(unit).name}.o"
    options = [
        "-std=gnu++20",
        "-O1",
        "-fno-exceptions",
        "-fno-rtti",
        "-fPIC",
        f"-DSEP_TARGET={target}",
        f"-I{ROOT / 'cpp'}",
        *flags,
    ]
    subprocess.run([compiler, *options, "-c", ROOT / "cpp" / f"{unit}.cpp", "-o", made], check=True)
    return unit, [made]


def test_kernel_units_share_no_symbol(kernel_objects):
    """A weak symbol may be taken from any object: AVX-512 code of one would run on machines without it."""
    unit, objects = kernel_objects
    for path in objects:
        said = subprocess.run(["nm", "-P", "-g", path], check=True, capture_output=True, text=True).stdout
        symbols = [line.split()[:2] for line in said.splitlines()]
        given_out = [name for name, kind in symbols if kind not in "UwW"]
        assert len(given_out) == 1, f"{path}: {given_out}"
        assert UNITS[unit] in given_out[0]
        assert [name for name, kind in symbols if kind in "WwVvu"] == [], path
