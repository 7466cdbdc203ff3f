"""Dask arrays: one task a chunk, the bits of the verb in memory, whatever the chunks."""

from __future__ import annotations

import inspect
import os
import pickle
import subprocess
import sys
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import separable as sp
from separable._base.schedulers import in_task
from separable.arrays.boundaries import CANONICAL, Line, sources
from separable.dask.tasks import BlockFilter
from separable.dask.windows import ChunkWindow, stretches
from separable.stream.parted import plan_in_parts, request_of

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")

Array = np.ndarray[Any, Any]

# A few dozen here; SEPARABLE_EXAMPLES=1000 by hand.
EXAMPLES = int(os.environ.get("SEPARABLE_EXAMPLES", "60"))
pytestmark = pytest.mark.filterwarnings("ignore::dask.array.core.PerformanceWarning")


@pytest.fixture(autouse=True)
def in_this_thread() -> Any:
    """Compute in this thread, so that a test waits for no pool."""
    with dask.config.set(scheduler="synchronous"):
        yield


def chosen(x: Array, kernel: Any, output: Any = None, **asked: Any) -> str:
    """Return the method that a verb chooses for chunks of an array."""
    rest = {"mode": "reflect", "cval": 0.0, "origin": 0, "axes": None, "tol": None, "method": "auto"} | asked
    mask, nan = rest.pop("mask", None), rest.pop("nan", "propagate")
    _, request = request_of(x.shape, x.dtype, output, tuple(rest.values()), mask, nan, "nearest")
    return plan_in_parts(kernel, request, None)[0].method


@st.composite
def chunked(draw: st.DrawFn, n: int) -> tuple[int, ...]:
    """Draw lengths of chunks, of which some may be 0."""
    cuts = sorted(draw(st.lists(st.integers(0, n), max_size=4)))
    if n < 20 and draw(st.integers(0, 9)) == 0:
        return (1,) * n
    return tuple(int(n) for n in np.diff([0, *cuts, n]))


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    ndim = draw(st.integers(1, 3))
    most = {1: 150, 2: 40, 3: 10}[ndim]
    shape = tuple(draw(st.integers(1, most)) for _ in range(ndim))
    dtype = np.dtype(draw(st.sampled_from(["f4", "f8", "u1", "i2", "c8", "f2", ">f4", "?"])))
    x = np.abs(rng.standard_normal(shape) * 50).astype(dtype)
    axes = tuple(sorted(draw(st.sets(st.integers(0, ndim - 1), min_size=1))))
    sizes = [draw(st.integers(1, 9)) for _ in axes]
    kernels = {
        "gaussian": sp.families.gaussian([n / 3 for n in sizes]),
        "box": sp.families.box([3 * n for n in sizes]),
        "dense": rng.random([min(n, 4) for n in sizes]) + 0.01,
        "integers": rng.integers(0, 3, [min(n, 5) for n in sizes]) + 1.0,
    }
    mask, mask_chunks = None, None
    if dtype.kind != "c" and draw(st.booleans()):
        lengths = tuple(n if draw(st.booleans()) else 1 for n in shape)[draw(st.integers(0, ndim - 1)) :]
        mask = rng.random(lengths) < draw(st.sampled_from([0.05, 0.7, 1.0]))
        mask_chunks = tuple(draw(chunked(n)) for n in lengths)
    return {
        "x": x,
        "chunks": tuple(draw(chunked(n)) for n in shape),
        "kernel": kernels[draw(st.sampled_from(sorted(kernels)))],
        "mode": tuple(draw(st.sampled_from(CANONICAL)) for _ in axes),
        "cval": draw(st.sampled_from([0.0, 3.5])),
        "axes": axes,
        "mask": mask,
        "mask_chunks": mask_chunks if draw(st.booleans()) else None,
        "output": draw(st.sampled_from([None, "u1", "u2", "f8", "i8"])) if dtype.kind != "c" else None,
        "threads": draw(st.sampled_from([None, 1, 2])),
        "nan": draw(st.sampled_from(["propagate", "omit"])) if mask is not None else "propagate",
    }


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(cases())
def test_chunks_have_the_bits_of_the_verb(case: dict[str, Any]) -> None:
    x, mask, output = case["x"], case["mask"], case["output"]
    if case["nan"] == "omit" and x.dtype.kind == "f":
        x.reshape(-1)[:: max(x.size // 5, 1)] = np.nan
    asked = {name: case[name] for name in ("mode", "cval", "axes", "nan")}
    method = chosen(x, case["kernel"], output, mask=mask, **asked)
    expected = sp.correlate(x, case["kernel"], output=output, mask=mask, method=method, **asked)
    given = mask if case["mask_chunks"] is None else da.from_array(mask, chunks=case["mask_chunks"])
    source = da.from_array(x, chunks=case["chunks"])
    result = sp.dask.correlate(
        source, case["kernel"], output=output, mask=given, threads=case["threads"], **asked
    )
    assert (result.chunks, result.dtype) == (source.chunks, expected.dtype)
    computed = result.compute()
    assert computed.dtype == expected.dtype
    np.testing.assert_array_equal(computed, expected)
    assert computed.tobytes() == np.ascontiguousarray(expected).tobytes() or np.isnan(expected).any()


VERBS: dict[str, Any] = {
    "correlate": ([[1.0, 2.0, 0.5]],),
    "convolve": (np.arange(12.0).reshape(3, 4),),
    "gaussian": (1.5,),
    "uniform": (5,),
}


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_is_that_of_arrays_in_memory(verb: str) -> None:
    x = np.random.default_rng(1).random((30, 41))
    kernel = VERBS[verb]
    for more in ({"mode": "wrap"}, {"mode": "mirror", "method": "direct"}, {"output": "f4"}):
        result = getattr(sp.dask, verb)(da.from_array(x, chunks=(7, 9)), *kernel, **more)
        whole = {"method": "separable", **more} if verb == "gaussian" else more
        np.testing.assert_array_equal(result.compute(), getattr(sp, verb)(x, *kernel, **whole))
        assert result.name.startswith(f"separable-{verb}-")


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_has_the_arguments_of_that_in_memory(verb: str) -> None:
    ours, whole = (inspect.signature(getattr(home, verb)).parameters for home in (sp.dask, sp))
    assert list(ours) == list(whole)
    for name in ours:
        assert (ours[name].default, ours[name].kind) == (whole[name].default, whole[name].kind), name


def test_arguments_of_gaussians() -> None:
    x = np.random.default_rng(2).random((20, 24, 3))
    source = da.from_array(x, chunks=(8, 7, 2))
    for asked in (
        {"sigma": (1.0, 2.0), "axes": (0, 1), "order": (1, 0), "spacing": (0.5, 2.0)},
        {"fwhm": 3.0, "channel_axis": -1},
        {"sigma": 1, "radius": 2, "axes": 1},
        {"sigma": 1.2, "truncate": 3, "mode": ("wrap", "nearest", "reflect")},
    ):
        expected = sp.gaussian(x, method="separable", **asked)
        np.testing.assert_array_equal(sp.dask.gaussian(source, **asked).compute(), expected)


def test_two_tasks_a_chunk_at_most() -> None:
    x = da.ones((60, 60, 60), chunks=10, dtype="f4")
    result = sp.dask.gaussian(x, 2.0)
    own = {key for key in result.__dask_graph__() if "separable" in str(key)}
    assert len(own) == 6**3
    stored = sp.dask.correlate(x.astype("f8"), np.full((3, 3, 3), 1 / 27), output="i8")
    own = {key for key in stored.__dask_graph__() if "separable" in str(key)}
    assert len(own) == 2 * 6**3 + 5  # the extent of all samples comes first: 216 parts, 4 of 64, and all
    np.testing.assert_array_equal(stored.compute(), 1)


def test_one_chunk_of_the_result_reads_its_neighbours_alone() -> None:
    x = da.ones((100, 100), chunks=10)
    part = sp.dask.gaussian(x, 2.0)[:10, :10]
    (culled,) = dask.optimize(part)
    assert len([key for key in culled.__dask_graph__() if "ones" in str(key)]) <= 4


@pytest.mark.parametrize("mode", CANONICAL)
def test_halos_reach_over_many_chunks_and_around(mode: str) -> None:
    x = np.random.default_rng(3).random(23)
    kernel = np.random.default_rng(4).random(61)  # more than twice around
    for chunks in (1, 2, (5, 0, 7, 1, 10)):
        result = sp.dask.correlate(
            da.from_array(x, chunks=chunks), kernel, mode=mode, cval=3.5, method="direct"
        )
        expected = sp.correlate(x, kernel, mode=mode, cval=3.5, method="direct")
        np.testing.assert_array_equal(result.compute(), expected)


@given(st.integers(1, 30), st.integers(1, 40), st.data())
def test_stretches_are_what_lies_there(n: int, taps: int, data: st.DataObject) -> None:
    line = Line(n, taps, data.draw(st.integers(0, taps - 1)), data.draw(st.sampled_from(CANONICAL)))
    chunks = data.draw(chunked(n))
    samples = np.arange(n)
    blocks = np.split(samples, np.cumsum(chunks)[:-1])
    for stretch in stretches(line, chunks):
        window = ChunkWindow((stretch,))
        taken = window.assembled([blocks[chunk] for (chunk,) in window.chunks()], samples.dtype)
        np.testing.assert_array_equal(taken, samples[sources(np.arange(*stretch.read), n, "wrap")])
        assert len(taken[window.written]) == stretch.written[1] - stretch.written[0]


def test_short_chunks_are_kept_and_warned_of() -> None:
    x = da.ones((40, 40, 40), chunks=2, dtype="f4")
    with pytest.warns(da.PerformanceWarning, match=r"times the samples.*x\.rechunk\(\(40, 40, 40\)\)"):
        result = sp.dask.gaussian(x, 2.0)
    assert result.chunks == x.chunks


def test_an_array_in_fortran_order() -> None:
    x = np.asfortranarray(np.random.default_rng(5).random((30, 20, 10)).astype("f4"))
    source = da.from_array(np.ascontiguousarray(x.T), chunks=(4, 20, 30)).T  # each block in Fortran order
    result = sp.dask.gaussian(source, 1.0).compute()
    np.testing.assert_array_equal(result, sp.gaussian(np.ascontiguousarray(x), 1.0, method="separable"))
    single = da.from_array(np.ascontiguousarray(x.T), chunks=-1).T
    expected = sp.gaussian(single.compute(), 1.0, method="separable")
    np.testing.assert_array_equal(sp.dask.gaussian(single, 1.0).compute(), expected)


def test_no_samples() -> None:
    for shape in ((0,), (0, 5), (5, 0)):
        result = sp.dask.gaussian(da.zeros(shape, dtype="f4"), 1.0)
        assert result.compute().shape == shape


def test_methods_whose_chunks_would_differ_are_refused() -> None:
    x = da.ones((64, 64), chunks=16, dtype="f4")
    for method in ("fft", "recursive"):
        with pytest.raises(ValueError, match=f"method='{method}'.*parts of an array would not"):
            sp.dask.gaussian(x, 4.0, method=method, tol=1e-3)


def test_what_is_no_dask_array_is_refused() -> None:
    with pytest.raises(TypeError, match=r"`x` is a .*ndarray; expected a Dask array.*sp\.uniform\("):
        sp.dask.uniform(np.ones(4), 3)


def test_unknown_lengths_of_chunks_are_refused() -> None:
    x = da.ones(20, chunks=5)
    with pytest.raises(ValueError, match=r"unknown lengths along axis 0.*compute_chunk_sizes"):
        sp.dask.gaussian(x[x > 0], 1)
    with pytest.raises(ValueError, match=r"`mask` has chunks of unknown lengths"):
        sp.dask.gaussian(x, 1, mask=(x > 0)[x > 0])


def test_blocks_of_other_kinds_are_refused() -> None:
    masked = da.ma.masked_array(da.ones(8, chunks=4), mask=False)
    with pytest.raises(TypeError, match=r"masked arrays.*da.*getdata"):
        sp.dask.gaussian(masked, 1)

    class Other:
        shape, ndim, dtype = (0,), 1, np.dtype("f4")

    x = da.ones(8, chunks=4)
    x._meta = Other()
    with pytest.raises(TypeError, match=r"blocks of .*Other.*map_blocks"):
        sp.dask.gaussian(x, 1)


def test_blocks_that_are_not_as_said() -> None:
    x = da.ones(8, chunks=4).map_blocks(lambda block: block.astype("f4"), dtype="f8")
    with pytest.raises(ValueError, match=r"block of `x` has .*float32, where its Dask array says .*float64"):
        sp.dask.gaussian(x, 1).compute()


@pytest.mark.parametrize(
    ("asked", "error", "words"),
    [
        ({"output": np.zeros(8)}, TypeError, r"result\.store"),
        ({"output": "O"}, TypeError, "`output` has dtype object"),
        ({"mode": "reflekt"}, ValueError, "reflect"),
        ({"rounding": "up"}, ValueError, "rounding"),
        ({"nan": "skip"}, ValueError, "`nan='skip'`"),
        ({"threads": 0}, ValueError, "too few"),
        ({"mask": np.ones(8)}, TypeError, "`mask` has dtype float64"),
        ({"mask": np.ones(7, bool)}, ValueError, r"`mask` has shape \(7,\)"),
        ({"axis": 0}, TypeError, "no keyword `axis`.*axes"),
    ],
)
def test_wrong_arguments_are_refused_at_once(asked: Any, error: Any, words: str) -> None:
    with pytest.raises(error, match=words):
        sp.dask.gaussian(da.ones(8, chunks=4), 1, **asked)


@pytest.mark.parametrize("output", ["u2", np.uint16, np.dtype("u2"), int, np.float64])
def test_dtypes_of_results_are_named_in_any_way(output: Any) -> None:
    x = np.arange(40, dtype="u2")
    result = sp.dask.gaussian(da.from_array(x, chunks=16), 1, output=output)
    assert result.dtype == np.dtype(output)
    np.testing.assert_array_equal(result.compute(), sp.gaussian(x, 1, output=output, method="separable"))


def test_complex_weights_and_results() -> None:
    x = da.ones(8, chunks=4)
    with pytest.raises(ValueError, match=r"complex.*real and its imaginary part"):
        sp.dask.correlate(x, [1, 2j])
    with pytest.raises(TypeError, match="result is complex128"):
        sp.dask.gaussian(x * 1j, 1, output="f8")


def test_tokens_are_of_what_decides_the_result() -> None:
    from dask.base import tokenize

    def kernel() -> Any:
        return sp.families.gaussian([1.0, 2.0])

    def bank(sigma: float) -> Any:
        return sp.plan([kernel(), sp.families.gaussian([sigma, 1.0], radius=(4, 8))], (30, 30))

    for same, other in (
        (kernel, sp.families.gaussian([1.0, 2.1], radius=(4, 8))),
        (lambda: sp.plan(kernel(), (30, 30)), sp.plan(kernel(), (30, 30), mode="wrap")),
        (lambda: bank(1.0), bank(1.5)),
    ):
        assert tokenize(same()) == tokenize(same()) == tokenize(pickle.loads(pickle.dumps(same())))
        assert tokenize(same()) != tokenize(other)
    with dask.config.set({"tokenize.ensure-deterministic": True}):
        tokenize(kernel(), sp.plan(kernel(), (30, 30)), bank(1.0))
    x = da.ones((30, 30), chunks=8)
    assert sp.dask.gaussian(x, 2).name == sp.dask.gaussian(x, 2).name
    names = {
        sp.dask.gaussian(x, 2, **more).name for more in ({}, {"mode": "wrap"}, {"output": "u1"}, {"order": 1})
    }
    assert len(names) == 4


def test_large_kernels_are_one_value_of_the_graph() -> None:
    x = np.random.default_rng(6).random((90, 90))
    kernel = np.random.default_rng(7).random((80, 80))
    result = sp.dask.correlate(da.from_array(x, chunks=45), kernel, method="direct")
    held = [key for key in result.__dask_graph__() if str(key).startswith("separable-filter-")]
    assert len(held) == 1
    np.testing.assert_array_equal(result.compute(), sp.correlate(x, kernel, method="direct"))


def test_filters_are_prepared_once_in_a_process() -> None:
    x = da.ones((30, 30), chunks=10)
    graph = dict(sp.dask.gaussian(x, 2).__dask_graph__())
    (task,) = {value for value in graph.values() if isinstance(value, BlockFilter)} or {_filter_in(graph)}
    sent = pickle.dumps(task)
    assert pickle.loads(sent) is pickle.loads(sent)


def _filter_in(graph: dict[Any, Any]) -> BlockFilter:
    listed = [
        part for value in graph.values() for part in (value if isinstance(value, tuple) else value.args)
    ]
    return next(part for part in listed if isinstance(part, BlockFilter))


def seen(block: Array, seen: list[Any]) -> Array:
    seen.append((in_task(), sp.plan(np.ones(3), (1 << 22,)).threads))
    return block


def test_verbs_take_one_thread_in_tasks_beside_others(monkeypatch: pytest.MonkeyPatch) -> None:
    from separable.arrays import arguments

    monkeypatch.setattr(arguments, "default_threads", lambda: 8)
    monkeypatch.setattr(arguments, "_wanted_threads", lambda: None)
    x, told = da.ones(8, chunks=4), list[Any]()
    looked = x.map_blocks(seen, seen=told, meta=np.ones(0))
    looked.compute(scheduler="threads")
    assert told == [(True, 1)] * 2
    told.clear()
    looked.compute(scheduler="synchronous")  # one after the other, with all cores
    assert {inside for inside, _ in told} == {False}
    assert min(threads for _, threads in told) > 1
    assert not in_task()
    monkeypatch.setattr(arguments, "_wanted_threads", lambda: 8)
    told.clear()
    looked.compute(scheduler="threads")
    assert min(threads for _, threads in told) > 1


def test_plans_made_elsewhere_take_one_thread_in_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    from separable.arrays import arguments

    monkeypatch.setattr(arguments, "default_threads", lambda: 8)
    x = np.ones((400, 400), np.float32)
    free, bound = (sp.plan(sp.families.gaussian(2.0), x.shape, threads=threads) for threads in (None, 3))
    assert free.threads > 1
    inside = list[int]()
    da.ones(2, chunks=1).map_blocks(
        lambda block: inside.extend([free._count(None), bound._count(None), free._count(2)]) or block,
        meta=np.ones(0),
    ).compute(scheduler="threads")
    assert inside == [1, bound.threads, 2] * 2


def test_several_threads_give_the_same_result() -> None:
    x = np.random.default_rng(8).random((64, 64))
    result = sp.dask.gaussian(da.from_array(x, chunks=16), 2.0, mode="wrap")
    for scheduler in ("threads", "synchronous"):
        expected = sp.gaussian(x, 2.0, mode="wrap", method="separable")
        np.testing.assert_array_equal(result.compute(scheduler=scheduler), expected)
    assert threading.active_count() < 100


def test_arrays_that_dask_writes_as_expressions() -> None:
    code = (
        "import dask; dask.config.set({'array.query-planning': True})\n"
        "import dask.array as da, numpy as np, separable as sp\n"
        "x = np.random.default_rng(0).random((20, 30)); y = da.from_array(x, chunks=7) + 1\n"
        "z = sp.dask.gaussian(y, 1.0, mask=y > 0)\n"
        "expected = sp.gaussian(x + 1, 1.0, mask=x > -1, method='separable')\n"
        "assert (z.compute(scheduler='synchronous') == expected).all() and z.chunks == y.chunks\n"
        "assert ((z + 1).sum().compute(scheduler='synchronous') - (expected + 1).sum()) < 1e-9\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
