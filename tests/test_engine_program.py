"""Programs: what they take and give, the plans that they keep, and what they say of themselves."""

from __future__ import annotations

import json
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

onnx = pytest.importorskip("onnx")

from engine_nets import GraphNet  # noqa: E402 (needs onnx)
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

import separable as sp  # noqa: E402
from separable.engine.graph.ir import TensorType  # noqa: E402
from separable.engine.graph.reference import evaluate  # noqa: E402
from separable.engine.network import plan_cache  # noqa: E402
from separable.engine.network.arrays import Targets, feeds_of, lengths_of, shown  # noqa: E402
from separable.engine.network.compiled import CompiledNetwork  # noqa: E402
from separable.engine.network.parts import NativePart  # noqa: E402
from separable.engine.network.plan import NetworkPlan  # noqa: E402
from separable.engine.network.records import step_records  # noqa: E402
from separable.engine.passes import simplified  # noqa: E402
from separable.engine.program.weights import WeightStore  # noqa: E402
from separable.files.guard import FileError  # noqa: E402
from separable.report.programs import Profile, Program  # noqa: E402

Array = npt.NDArray[Any]
RNG = np.random.default_rng(0)


def normal(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def two_outputs() -> GraphNet:
    """Two inputs of one batch; two outputs: feature maps and classes."""
    net = GraphNet(0, np.float32)
    a, b = net.input("n", 3, "h", "w", name="a"), net.input("n", 8, 1, 1, name="b")
    maps = net.node("Mul", net.node("Relu", net.conv(a, 3, 8)), b)
    row = net.node("Flatten", net.node("GlobalAveragePool", net.conv(maps, 8, 16)), axis=1)
    net.outputs = (maps, row)  # type: ignore[attr-defined]
    return net


@pytest.fixture(scope="module")
def program() -> Program:
    net = two_outputs()
    graph = net.graph(*net.outputs, typed=False)  # type: ignore[attr-defined]
    return Program(graph, simplified(graph), threads=2)


@pytest.fixture
def feeds() -> dict[str, Array]:
    return {"a": normal(2, 3, 12, 10), "b": normal(2, 8, 1, 1)}


def model_of(nodes: list[Any], inputs: dict[str, Any], outputs: list[str], **weights: Array) -> Any:
    """Return an ONNX model; inputs are float32 shapes, or (element, shape)."""
    ends = [
        helper.make_tensor_value_info(name, *(kind if isinstance(kind, tuple) else (TensorProto.FLOAT, kind)))
        for name, kind in inputs.items()
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        ends,
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 8
    return model


def small_model() -> Any:
    conv = helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1])
    relu = helper.make_node("Relu", ["c"], ["y"])
    return model_of([conv, relu], {"x": ["n", 3, 8, 8]}, ["y"], w=normal(4, 3, 3, 3))


# -- in ----------------------------------------------------------------------------------------------


def test_arrays_are_taken_where_nothing_is_lost(program: Program, feeds: dict[str, Array]) -> None:
    wanted = program(feeds)
    exact = {name: array.astype(np.float16) for name, array in feeds.items()}
    halves = program({name: array.astype(np.float32) for name, array in exact.items()})
    for name, values in program(exact).items():
        np.testing.assert_array_equal(values, halves[name])
    others: list[Any] = [
        {name: array.astype(">f4") for name, array in feeds.items()},
        {name: np.asfortranarray(array) for name, array in feeds.items()},
        {name: np.repeat(array, 2, 2)[:, :, ::2] for name, array in feeds.items()},
        {name: memoryview(array) for name, array in feeds.items()},
    ]
    unaligned = {}
    for name, array in feeds.items():
        raw = np.zeros(array.nbytes + 1, np.uint8)
        unaligned[name] = raw[1:].view(np.float32).reshape(array.shape)
        unaligned[name][...] = array
    frozen = {name: array.copy() for name, array in feeds.items()}
    for array in frozen.values():
        array.flags.writeable = False
    for given in (*others, unaligned, frozen):
        for name, values in program(given).items():
            np.testing.assert_array_equal(values, wanted[name])


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"a": np.zeros((2, 3, 12, 10))}, TypeError, r"input `a` is of float64; expected float32.*astype"),
        ({"a": np.zeros((2, 3, 12, 10), np.uint8)}, TypeError, "input `a` is of uint8"),
        ({"a": np.zeros((2, 4, 12, 10), "f")}, ValueError, r"input `a` has shape \(2, 4, .*\(n, 3, h, w\)"),
        ({"a": np.zeros((2, 3, 12), "f")}, ValueError, r"input `a` has 3 axes"),
        ({"b": np.zeros((3, 8, 1, 1), "f")}, ValueError, r"length `n` = 3, and input `a` has 2"),
        ({"c": np.zeros(1, "f")}, ValueError, "names `c`; the network has inputs `a`, `b`"),
        ({"a": "image.png"}, TypeError, "expected an array of numbers"),
        ({"a": None}, TypeError, "is None"),
    ],
)
def test_what_is_wrong_with_inputs_is_said(
    program: Program, feeds: dict[str, Array], change: Any, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        program({**feeds, **change})


def test_one_array_is_enough_for_one_input_only(program: Program, feeds: dict[str, Array]) -> None:
    with pytest.raises(TypeError, match=r"has 2 inputs; pass a dict: \{'a': ..., 'b': ...\}"):
        program(feeds["a"])
    with pytest.raises(ValueError, match="lacks `b`"):
        program({"a": feeds["a"]})
    single = sp.engine.load(small_model())
    x = normal(1, 3, 8, 8)
    np.testing.assert_array_equal(single(x), single({"x": x}))


def test_numbers_without_a_value_pass_through() -> None:
    single = sp.engine.load(small_model())
    x = normal(1, 3, 8, 8)
    x[0, 1, 4, 4] = np.nan
    y = single(x)
    assert np.isnan(y[0, :, 4, 4]).all()
    assert np.isfinite(y[0, :, 0, 0]).all()


def test_an_empty_batch_gives_empty_results(program: Program) -> None:
    found = program({"a": np.zeros((0, 3, 12, 10), np.float32), "b": np.zeros((0, 8, 1, 1), np.float32)})
    assert [array.shape for array in found.values()] == [(0, 8, 12, 10), (0, 16)]
    net = GraphNet(0, np.float32)
    x = net.input("n", 3)
    graph = net.graph(net.node("ReduceSum", x, net.integers(0), keepdims=0), typed=False)
    np.testing.assert_array_equal(CompiledNetwork(graph, graph)(np.zeros((0, 3), np.float32)), np.zeros(3))


# -- out ---------------------------------------------------------------------------------------------


def test_results_go_where_they_are_wanted(program: Program, feeds: dict[str, Array]) -> None:
    wanted = program(feeds)
    (maps, row) = wanted
    shapes = [array.shape for array in wanted.values()]
    given = [np.full(shape, 9, np.float32) for shape in shapes]
    found = program(feeds, out=given)
    assert all(found[name] is array for name, array in zip(wanted, given, strict=True))
    odd = {
        maps: np.full(shapes[0][::-1], 9, np.float32).T,
        row: np.full((*shapes[1], 2), 9, ">f4")[..., 0],
    }
    program(feeds, out=odd)
    only = np.empty(shapes[1], np.float32)
    part = program(feeds, out={row: only})
    assert part[row] is only
    for name, values in wanted.items():
        np.testing.assert_array_equal(found[name], values)
        np.testing.assert_array_equal(odd[name], values)
        np.testing.assert_array_equal(part[name], values)


def test_results_may_overlap_what_they_are_made_from() -> None:
    net = GraphNet(0, np.float32)
    x = net.input("n", 8, 8, 8)
    graph = net.graph(net.conv(net.node("Relu", net.conv(x, 8, 8)), 8, 8), typed=False)
    program = CompiledNetwork(graph, simplified(graph))
    data = normal(1, 8, 8, 8)
    wanted = program(data)
    program(data, out=data)
    np.testing.assert_array_equal(data, wanted)


def test_what_is_wrong_with_places_for_results_is_said(program: Program, feeds: dict[str, Array]) -> None:
    maps, row = program(feeds)
    good = np.empty((2, 16), np.float32)
    frozen = good.copy()
    frozen.flags.writeable = False
    whole = np.empty((2, 8, 12, 10), np.float32)
    cases: list[tuple[Any, type[Exception], str]] = [
        ({row: np.empty((2, 15), np.float32)}, ValueError, r"has shape \(2, 15\); expected \(2, 16\)"),
        ({row: np.empty((2, 16))}, TypeError, "is of float64; expected float32"),
        ({row: frozen}, ValueError, "read-only"),
        ({row: [0.0]}, TypeError, "is a list; expected an ndarray"),
        ({"other": good}, ValueError, "names `other`; the network has outputs"),
        ([good], ValueError, "holds 1 arrays, and the network has 2 outputs"),
        ({maps: whole, row: whole.ravel()[:32].reshape(2, 16)}, ValueError, "is the same memory"),
    ]
    for out, error, said in cases:
        with pytest.raises(error, match=said):
            program(feeds, out=out)


def test_results_that_nothing_computes() -> None:
    """Constants of any type, an input itself, and one tensor twice."""
    shape = helper.make_node("Shape", ["x"], ["s"])
    kept = helper.make_node("Identity", ["x"], ["same"])
    model = model_of(
        [shape, kept, helper.make_node("Relu", ["x"], ["y"])],
        {"x": [2, 3]},
        ["s", "same", "y", "k"],
        k=normal(2),
    )
    program = sp.engine.load(model)
    x = normal(2, 3)
    found = program(x)
    np.testing.assert_array_equal(found["s"], [2, 3])
    assert found["s"].dtype == np.int64
    np.testing.assert_array_equal(found["same"], x)
    assert found["same"] is not x
    np.testing.assert_array_equal(found["y"], np.maximum(x, 0))
    found["k"][:] = 0
    assert program(x)["k"].any(), "constants are copied"
    direct = model_of([], {"x": [2, 3]}, ["x"])
    np.testing.assert_array_equal(sp.engine.load(direct)(x), x)


# -- plans -------------------------------------------------------------------------------------------


def test_plans_share_weights_and_the_latest_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    true = CompiledNetwork._planned

    def counted(self: CompiledNetwork, given: Any, values: Any) -> NetworkPlan:
        made.append(given)
        return true(self, given, values)

    monkeypatch.setattr(CompiledNetwork, "_planned", counted)
    net = two_outputs()
    graph = net.graph(*net.outputs, typed=False)  # type: ignore[attr-defined]
    program = CompiledNetwork(graph, simplified(graph))

    def run(height: int) -> None:
        program({"a": normal(1, 3, height, 9), "b": normal(1, 8, 1, 1)})

    run(8)
    size = program.weights_bytes
    for height in (9, 8, 10):
        run(height)
    assert len(made) == 3
    assert program.weights_bytes == size
    for height in range(20, 20 + plan_cache.MOST_PLANS):
        run(height)
    count = len(made)
    run(8)
    assert len(made) == count + 1
    assert program.weights_bytes == size
    monkeypatch.setattr(plan_cache, "MOST_BYTES", 1)
    run(60)
    run(61)
    count = len(made)
    run(61)
    assert len(made) == count
    run(60)
    assert len(made) == count + 1


def test_weights_of_plans_that_are_gone_go_too() -> None:
    """Gemm behind a Reshape to what the batch gives: its weights are folded anew in every plan."""
    store = WeightStore()
    cache = plan_cache.PlanCache(lambda shapes, _: _plan_with_weights(store, shapes[0][0]), store)
    for count in range(1, plan_cache.MOST_PLANS + 9):
        cache.get(((count,),))
    assert len(cache) == plan_cache.MOST_PLANS == len(store)


def _plan_with_weights(store: WeightStore, rows: int) -> NetworkPlan:
    net = GraphNet(rows, np.float32)
    graph = net.graph(net.conv(net.input(rows, 4, 6, 6), 4, 4))
    return NetworkPlan(graph, {"x": (rows, 4, 6, 6)}, store)


def test_many_threads_may_call_one_program(program: Program) -> None:
    sizes = [(1 + k % 3, 3, 8 + k % 5, 9) for k in range(40)]
    inputs = [{"a": normal(*size), "b": normal(size[0], 8, 1, 1)} for size in sizes]
    wanted = [program(each) for each in inputs]
    net = two_outputs()
    graph = net.graph(*net.outputs, typed=False)  # type: ignore[attr-defined]
    fresh = Program(graph, simplified(graph), threads=2)
    gate = threading.Barrier(4)

    def work(part: int) -> list[Any]:
        gate.wait()
        return [fresh(each) for each in inputs[part::4]]

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(work, range(4)))
    for part, results in enumerate(found):
        for one, other in zip(results, wanted[part::4], strict=True):
            assert all(np.array_equal(one[name], other[name]) for name in other)


def test_numbers_below_the_normal_ones_count_as_before_a_call() -> None:
    tiny = np.float32(1e-39)
    single = sp.engine.load(small_model(), threads=2)
    for _ in range(3):
        single(np.full((1, 3, 8, 8), tiny))
        assert tiny * np.float32(1) == tiny
        assert np.all(np.full(64, tiny) + np.full(64, tiny) > 0)


def test_memory_is_what_is_allocated(program: Program) -> None:
    plan = program.plan({"a": (8, 3, 64, 64), "b": (8, 8, 1, 1)})
    assert program.memory({"a": (8, 3, 64, 64), "b": (8, 8, 1, 1)}) == plan.memory_bytes
    (part,) = plan.parts
    assert isinstance(part, NativePart)
    assert plan.memory_bytes == part.memory_bytes(2)
    resource = pytest.importorskip("resource")
    net = GraphNet(0, np.float32)
    graph = net.graph(
        net.conv(net.node("Relu", net.conv(net.input("n", 32, 512, 512), 32, 32)), 32, 1), typed=False
    )
    large = CompiledNetwork(graph, simplified(graph), threads=1)
    x, out = np.ones((1, 32, 512, 512), np.float32), np.ones((1, 1, 512, 512), np.float32)
    promised = large.memory((1, 32, 512, 512))
    assert promised > 2**24
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    large(x, out=out)
    grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    assert grown <= promised + 2**23


# -- what programs say -------------------------------------------------------------------------------


def test_a_program_prints_its_steps(program: Program, feeds: dict[str, Array]) -> None:
    program(feeds)
    text = str(program)
    assert "conv 3 x 3" in text
    assert "relu" in text
    assert "predicted ms" in text
    assert "input a: float32 2 x 3 x 12 x 10" in text
    assert repr(program).startswith("<Program net: a, b -> ")
    profile = program.profile(feeds, repeat=3)
    assert isinstance(profile, Profile)
    assert "GFLOP/s" in str(profile)
    assert "% " in str(profile)
    assert profile.total_ms <= profile.median_ms
    assert [step.kind for step in profile.steps] == [step.kind for step in program.steps()]
    assert all(step.measured_ms is not None for step in program.steps())
    assert step_records(program.plan(), 2)[0].measured_ms is None
    assert sum(step.macs for step in profile.steps) == profile.macs > 0


@pytest.mark.parametrize(("threads", "clean"), [(1, 1), (2, 4)])
def test_undisturbed_runs_count_on_a_busy_machine(
    threads: int, clean: int, feeds: dict[str, Array], monkeypatch: pytest.MonkeyPatch
) -> None:
    net = two_outputs()
    graph = net.graph(*net.outputs, typed=False)  # type: ignore[attr-defined]
    busy = Program(graph, simplified(graph), threads=threads)
    taken = [13e6] * (10 - clean) + [1e6] * clean

    def run(_plan: NetworkPlan, _feeds: Any, _written: Any, times: Array | None = None) -> None:
        if times is not None:
            times[:] = taken.pop()

    busy(feeds)
    monkeypatch.setattr(NetworkPlan, "run", run)
    assert {step.measured_ms for step in busy.profile(feeds, repeat=10).steps} == {1.0}


def test_a_program_of_open_lengths_prints_what_is_known() -> None:
    net = two_outputs()
    graph = net.graph(*net.outputs, typed=False)  # type: ignore[attr-defined]
    fresh = Program(graph, simplified(graph))
    assert "planned at the first call" in str(fresh)
    with pytest.raises(ValueError, match=r"`a` \(n, 3, h, w\)"):
        fresh.memory()


def test_passes_can_be_looked_at(program: Program, feeds: dict[str, Array]) -> None:
    program(feeds)
    steps = list(program.trace())
    names = [name for name, _ in steps]
    assert names[0] == "given"
    assert "activations_applied" in names
    assert "static" in names
    assert "n x 3 x h x w" in str(steps[0][1])
    assert "2 x 3 x 12 x 10" in str(steps[-1][1])
    for name, values in evaluate(steps[-1][1], feeds).items():
        np.testing.assert_allclose(program(feeds)[name], values, rtol=0, atol=1e-5)


# -- load --------------------------------------------------------------------------------------------


def test_files_are_loaded_with_or_without_their_lengths(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    onnx.save(small_model(), path)
    x = normal(4, 3, 8, 8)
    wanted = sp.engine.load(onnx.load(path))(x)
    for shapes in (None, "n=4", {"n": 4}, (4, 3, 8, 8), {"x": (4, 3, 8, 8)}):
        loaded = sp.engine.load(path, shapes, threads=1)
        assert loaded.memory() > 0
        assert loaded.threads == 1
        np.testing.assert_array_equal(loaded(x), wanted)
    with pytest.raises(ValueError, match="names 'm'"):
        sp.engine.load(path, "m=4")
    path.write_bytes(path.read_bytes()[:90])
    with pytest.raises(FileError, match=r"net\.onnx"):
        sp.engine.load(path)
    with pytest.raises(ValueError, match="`fallback='torch'`; expected one of 'onnxruntime'"):
        sp.engine.load(path, fallback="torch")  # type: ignore[arg-type]


def test_shapes_that_do_not_fit_are_named(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    model = model_of(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], {"x": ["n", "k"]}, ["y"], w=normal(4, 4)
    )
    onnx.save(model, path)
    loaded = sp.engine.load(path)
    with pytest.raises(ValueError, match=r"net\.onnx.*shapes \(2, 3\) and \(4, 4\)"):
        loaded(normal(2, 3))
    assert loaded(normal(2, 4)).shape == (2, 4)


@pytest.mark.parametrize("maker", ["pointwise", "mean", "maximum"])
def test_filters_read_zeros_around_one_pixel_of_many_channels(maker: str) -> None:
    net = GraphNet(0, np.float32)
    x = net.input("n", 40, 3, 3)
    if maker == "pointwise":
        pixel = net.conv(net.node("MaxPool", x, kernel_shape=(3, 3)), 40, 40, 1)
    else:
        pixel = net.node("GlobalAveragePool" if maker == "mean" else "GlobalMaxPool", x)
    filtered = net.conv(pixel, 40, 40, group=40)
    graph = net.graph(filtered, net.node("Mul", net.conv(x, 40, 40), pixel), typed=False)
    data = normal(2, 40, 3, 3)
    found = CompiledNetwork(graph, simplified(graph))(data)
    for name, values in evaluate(graph, {"x": data.astype(np.float64)}).items():
        np.testing.assert_allclose(found[name], values, rtol=0, atol=1e-5 * np.abs(values).max())


def test_what_checks_arrays() -> None:
    assert shown((3,)) == "(3,)"
    assert shown(("n", 3)) == "(n, 3)"
    net = GraphNet(0, np.float32)
    net.input("n", 3)
    assert lengths_of(net.inputs, [(7, 3)]) == {"n": 7}
    x = normal(2, 3)
    assert feeds_of(net.inputs, x)[0] is x
    targets = Targets({"y": TensorType(np.dtype(np.float32), (2, 3))}, [x], [x])
    assert targets.written["y"] is not x
    targets.written["y"][...] = 1
    assert targets.finish()["y"] is x
    assert (x == 1).all()


def test_the_page_of_a_program_needs_nothing_else(
    program: Program, feeds: dict[str, Array], tmp_path: Path
) -> None:
    for needed in ("altair", "jinja2", "vl_convert"):
        pytest.importorskip(needed)
    program(feeds)
    program.profile(feeds, repeat=2)
    path = tmp_path / "program.html"
    program.to_html(path)
    text = path.read_text(encoding="utf-8")
    assert "default-src 'none'" in unescape(text)
    assert not re.findall(r"(?:src|href)=[\"']?http", text)
    steps = program.steps()
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)[1])  # type: ignore[index]
    rows = data["datasets"]["layers"]
    assert [row["MACs"] for row in rows] == [step.macs for step in steps]
    assert all(row["measured us"] > 0 for row in rows)
    assert max(row["memory"] for row in rows) > 0
    assert {row["kind"] for row in rows} >= {"conv", "attention"}
    assert text.count("<details") == len(list(program.trace()))
    assert "activations applied" in text


@pytest.mark.parametrize("kernel", [(1, 2), (3, 3)])
def test_filters_of_a_part_of_one_pixel(kernel: tuple[int, int]) -> None:
    net = GraphNet(0, np.float32)
    x = net.input("n", 24, 1, 1)
    part = net.node("Slice", net.conv(x, 24, 48, 1), *(net.integers(n) for n in (1, 6, 1)))
    more = {"kernel_shape": kernel, "strides": (1, 1), "dilations": (1, 1), "group": 1}
    pads = (kernel[0] // 2, 0, kernel[0] // 2, kernel[1] - 1)
    graph = net.graph(net.node("Conv", part, net.normal(16, 5, *kernel), **more, pads=pads), typed=False)
    data = normal(2, 24, 1, 1)
    (wanted,) = evaluate(graph, {"x": data.astype(np.float64)}).values()
    found = CompiledNetwork(graph, simplified(graph))(data)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize(("width", "used"), [(4, 1), (128, 2)])
def test_small_networks_run_on_one_thread(width: int, used: int) -> None:
    """Threads that wait for each other after a few microseconds of work are slower than one."""
    rng = np.random.default_rng(0)
    nodes, constants = [], []
    for n in range(4):
        weights = rng.standard_normal((width, width, 3, 3)).astype(np.float32) / width
        constants.append(numpy_helper.from_array(weights, f"w{n}"))
        nodes.append(helper.make_node("Conv", [f"t{n}", f"w{n}"], [f"t{n + 1}"], pads=[1, 1, 1, 1]))
    ends = [helper.make_tensor_value_info(name, 1, [1, width, 24, 24]) for name in ("t0", "t4")]
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    program = sp.engine.load(model, threads=2)
    (part,) = program.plan().parts
    assert [part.native.threads_for(threads) for threads in (1, 2)] == [1, used]
