"""Streams: what comes of new columns is what comes of whole windows, and only new columns are computed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from importlib.resources import files
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("onnx")

from engine_nets import GraphNet
from engine_random import random_graph
from onnx import TensorProto, helper

import separable as sp
from separable.engine.columns.body import body_of, means_apart
from separable.engine.columns.extents import Extent, Reach
from separable.engine.columns.local import View, local_rule
from separable.engine.columns.pieces import hop_graph, ring_order
from separable.engine.columns.plan import HopPlan
from separable.engine.columns.rings import Rings
from separable.engine.columns.stream import ColumnStream
from separable.engine.graph.ir import Graph, TensorType
from separable.engine.network.compiled import CompiledNetwork
from separable.engine.passes import simplified
from separable.report.text.streams import stream_table

Array = npt.NDArray[Any]
Build = Callable[[GraphNet], str]

TEXTURES = str(files("separable") / "demo" / "textures.onnx")


def compiled(graph: Graph, threads: int = 1) -> CompiledNetwork:
    return CompiledNetwork(graph, simplified(graph), threads=threads)


def network(build: Build, *shape: int | str, threads: int = 1) -> CompiledNetwork:
    net = GraphNet(3, np.float32)
    net.input(*shape)
    return compiled(net.graph(build(net), typed=False), threads)


def windows(plan: HopPlan, count: int, seed: int = 0) -> Iterator[tuple[Array | None, Array]]:
    """Yield the new columns and the whole window, of a signal that goes on; at first no columns."""
    random, axis = np.random.default_rng(seed), plan.axis
    shape = list(plan.shape)
    shape[axis] += count * plan.hop
    signal = random.standard_normal(shape).astype(np.float32)
    for number in range(count + 1):
        first = number * plan.hop
        window = np.take(signal, range(first, first + plan.window), axis)
        yield (np.take(window, range(-plan.hop, 0), axis) if number else None), window


def named(made: Any) -> dict[str, Array]:
    return made if isinstance(made, dict) else {"": made}


def difference(stream: ColumnStream, count: int, every: int = 1) -> float:
    """Return the largest difference from whole windows, over the largest number; 0.0 if all bits agree."""
    worst = 0.0
    for number, (frames, window) in enumerate(windows(stream.plan, count)):
        made = stream.start(window) if frames is None else stream(frames)
        if number % every and number < count - 1:
            continue
        for one, other in zip(named(made).values(), named(stream.network(window)).values(), strict=True):
            assert one.shape == other.shape
            if one.tobytes() != other.tobytes():
                worst = max(worst, float(np.abs(one - other).max()) / (float(np.abs(other).max()) or 1.0))
    return worst


# -- networks ----------------------------------------------------------------------------------------


def conv1(
    net: GraphNet, x: str, c_in: int, c_out: int, taps: int, pads: tuple[int, int] = (0, 0), **more: Any
) -> str:
    stride, dilation, group = (more.get(name, 1) for name in ("stride", "dilation", "group"))
    weights = net.constant(net.random.standard_normal((c_out, c_in // group, taps)) / taps)
    return str(
        net.node(
            *("Conv", x, weights),
            kernel_shape=(taps,),
            strides=(stride,),
            dilations=(dilation,),
            pads=pads,
            group=group,
        )
    )


def unpadded(net: GraphNet) -> str:
    x = net.node("Relu", conv1(net, "x", 5, 16, 5))
    x = net.node("Relu", conv1(net, x, 16, 16, 3, group=16, dilation=3))
    return str(conv1(net, x, 16, 24, 1))


def same(net: GraphNet) -> str:
    x = net.node("Relu", conv1(net, "x", 5, 16, 5, (2, 2)))
    x = net.node("Relu", conv1(net, x, 16, 16, 3, (2, 2), group=16, dilation=2))
    return head(net, conv1(net, x, 16, 24, 1), 24)


def causal(net: GraphNet) -> str:
    """Return residual blocks, dilated and padded before what came first."""
    x = conv1(net, "x", 5, 16, 3, (2, 0))
    for dilation in (1, 2, 4):
        y = net.node("Relu", conv1(net, x, 16, 16, 3, (2 * dilation, 0), dilation=dilation, group=16))
        x = net.node("Add", x, net.node("Relu", conv1(net, y, 16, 16, 1)))
    return head(net, x, 16)


def cut_causal(net: GraphNet) -> str:
    """Return causal convolutions as those write them who pad both ends and cut one off."""
    x = "x"
    for number, dilation in enumerate((1, 2, 4)):
        x = conv1(net, x, 16 if number else 5, 16, 3, (2 * dilation,) * 2, dilation=dilation)
        ends = net.integers(-2 * dilation)
        x = net.node("Relu", net.node("Slice", x, net.integers(0), ends, net.integers(2)))
    return x


def strided(net: GraphNet) -> str:
    x = net.node("Relu", conv1(net, "x", 5, 16, 8, (3, 3), stride=2))
    x = net.node("Relu", conv1(net, x, 16, 32, 9, (4, 4), stride=2))
    return head(net, net.node("Relu", conv1(net, x, 32, 32, 3, (1, 1), group=32)), 32)


def branches(net: GraphNet) -> str:
    """Return an inception of three reaches, put together as channels, then pooled."""
    x = net.node("Relu", conv1(net, "x", 5, 16, 3, (1, 1)))
    parts = [conv1(net, x, 16, 8, taps, (taps // 2, taps // 2)) for taps in (1, 5, 9)]
    pool = net.node("MaxPool", x, kernel_shape=(3,), strides=(1,), pads=(1, 1))
    x = net.node("Concat", *parts, pool, axis=1)
    x = net.node("AveragePool", x, kernel_shape=(3,), strides=(2,), pads=(1, 1), count_include_pad=0)
    return head(net, x, 40)


def padded(net: GraphNet) -> str:
    """Return layers whose padding is a node of its own, of another number than zero."""
    x = net.node("Pad", "x", net.integers(0, 0, 3, 0, 0, 1), net.constant(0.5))
    y = net.node("Abs", conv1(net, x, 5, 8, 3))
    return str(net.node("Concat", net.node("Abs", conv1(net, x, 5, 8, 3, dilation=1)), y, axis=1))


def excited(net: GraphNet) -> str:
    """Return a layer, and squeeze-excite behind it: its gate mixes all columns."""
    x = net.node("Relu", conv1(net, "x", 5, 16, 3, (1, 1)))
    gate = net.node("Sigmoid", conv1(net, net.node("GlobalAveragePool", x), 16, 16, 1))
    return head(net, conv1(net, net.node("Mul", x, gate), 16, 16, 3, (1, 1)), 16)


def turned(net: GraphNet) -> str:
    """Return a layer, and products and norms of each column behind it, as transformers have them."""
    x = net.node("Transpose", conv1(net, "x", 5, 16, 3, (1, 1)), perm=(0, 2, 1))
    x = net.node("LayerNormalization", x, net.normal(16), net.normal(16), axis=-1)
    x = net.node("Gelu", net.node("MatMul", x, net.normal(16, 24)))
    return head(net, net.node("Transpose", x, perm=(0, 2, 1)), 24)


def head(net: GraphNet, x: str, channels: int) -> str:
    flat = net.node("Flatten", net.node("GlobalAveragePool", x), axis=1)
    return str(net.node("Gemm", flat, net.normal(7, channels), transB=1))


SIGNALS: list[tuple[Build, int]] = [
    (unpadded, 1),
    (unpadded, 7),
    (same, 1),
    (same, 5),
    (causal, 1),
    (causal, 8),
    (cut_causal, 3),
    (strided, 4),
    (strided, 12),
    (branches, 2),
    (branches, 6),
    (padded, 2),
    (excited, 3),
]


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(("build", "hop"), SIGNALS)
def test_signals_are_those_of_whole_windows_bit_for_bit(build: Build, hop: int, batch: int) -> None:
    stream = ColumnStream(HopPlan(network(build, batch, 5, 90), hop))
    assert difference(stream, 140, every=9) == 0.0  # what is kept has moved to the front several times
    assert stream.macs < stream.window_macs
    assert stream.difference == 0.0


def test_columns_that_are_multiplied_by_a_matrix() -> None:
    stream = ColumnStream(HopPlan(network(turned, 2, 5, 90), 4))
    assert [layer.op for layer in stream.layers].count("MatMul") == 1
    assert difference(stream, 30) < 1e-6


def pictures(net: GraphNet) -> str:
    x = net.node("Relu", net.conv("x", 1, 16, 3, stride=2))
    for _ in range(2):
        x = net.node("Relu", net.conv(x, 16, 16, 3, group=16))
        x = net.node("Relu", net.conv(x, 16, 16, 1))
    return head(net, x, 16)


@pytest.mark.parametrize(("axis", "hop", "shape"), [(2, 2, (60, 12)), (3, 6, (12, 61)), (-1, 2, (7, 80))])
def test_pictures_slide_along_either_axis(axis: int, hop: int, shape: tuple[int, int]) -> None:
    stream = ColumnStream(HopPlan(network(pictures, 1, 1, *shape), hop, axis))
    assert difference(stream, 80, every=7) == 0.0
    assert stream.axis == axis % 4


def test_dense_convolutions_in_tiles_are_nearly_those_of_whole_windows() -> None:
    """Roundings depend on where a column lies in a tile, which is elsewhere in each whole window."""
    program = sp.engine.load(TEXTURES)
    stream = program.stream(2, axis=3)
    assert 0 < difference(stream, 30) < 1e-5
    assert "tiles" in str(stream)


@pytest.mark.parametrize("part", range(4))
def test_random_networks_are_those_of_whole_windows(part: int) -> None:
    tried = 0
    for seed in range(part, 48, 4):
        random, graph = np.random.default_rng([seed, 1]), random_graph(seed)
        ((name, kind),) = graph.inputs.items()
        shape = list(kind.shape)
        axis = int(random.integers(2, len(shape)))
        shape[0], shape[axis] = int(random.choice([1, 2])), "time"
        opened = graph.with_(inputs={name: TensorType(kind.dtype, tuple(shape))})
        hop, window = int(random.choice([1, 2, 4, 8])), int(random.choice([48, 65]))
        try:
            plan = HopPlan(compiled(opened), hop, axis, window)
        except ValueError:  # its first layer mixes all columns, or the window is too short for it
            continue
        assert difference(ColumnStream(plan, 0.0), 6) < 1e-5, seed
        tried += 1
    assert tried > 3


def test_several_outputs_and_a_tensor_of_every_column() -> None:
    net = GraphNet(0, np.float32)
    net.input(1, 5, 64)
    body = conv1(net, "x", 5, 8, 3, (1, 1))
    net_outputs = (body, head(net, body, 8), net.node("Relu", net.node("MaxPool", body, kernel_shape=(2,))))
    stream = ColumnStream(HopPlan(compiled(net.graph(*net_outputs, typed=False)), 4))
    assert difference(stream, 40) == 0.0
    made = stream(np.zeros(stream.frames_shape, np.float32))
    assert made.keys() == set(stream.network.outputs)


# -- only new columns --------------------------------------------------------------------------------


def test_without_padding_only_new_columns_are_computed() -> None:
    stream = ColumnStream(HopPlan(network(unpadded, 1, 5, 90), 3))
    assert [(layer.new, layer.ends) for layer in stream.layers] == [(3, 0)] * 3
    per_column = (5 * 5 * 16) + 3 * 16 + 16 * 24
    assert stream.macs == 3 * per_column


def test_columns_near_the_ends_are_those_that_read_padding() -> None:
    plan = HopPlan(network(same, 1, 5, 90), 4)
    assert [(layer.columns, layer.new, layer.ends) for layer in plan.layers] == [
        (90, 4, 4),
        (90, 4, 8),
        (90, 4, 8),
    ]
    plan = HopPlan(network(causal, 1, 5, 90), 4)
    assert [layer.ends for layer in plan.layers if layer.op == "Conv"] == [2, 4, 4, 8, 8, 16, 16]


def test_layers_whose_stride_does_not_divide_the_hop_are_computed_whole() -> None:
    plan = HopPlan(network(strided, 1, 5, 90), 6)
    assert [layer.columns for layer in plan.layers] == [45]
    (stop,) = plan.stops
    assert stop.stride == 4
    stream = ColumnStream(plan)
    assert difference(stream, 20) == 0.0
    assert "no multiple of its stride, 4" in stream_table(stream)


def test_what_saves_nothing_says_so() -> None:
    net = network(lambda net: head(net, conv1(net, "x", 5, 8, 21, (10, 10)), 8), 1, 5, 24)
    with pytest.raises(ValueError, match="24 columns are new or near an end"):
        HopPlan(net, 4)
    program = network(same, 1, 5, 24)
    stream = ColumnStream(HopPlan(program, 8))
    assert difference(stream, 20) == 0.0
    assert "near the ends of the window" in stream_table(stream)


def test_extents_follow_windows() -> None:
    x = Extent(2, 50, 1, 0, 50)
    made = x.after(Reach(span=10, step=2, before=5), 2, 26)
    assert (made.stride, made.low, made.high, made.fresh(4), made.known(4)) == (2, 3, 23, 2, 21)
    assert made.computed(4) == 3 + 5
    assert Reach(10, 2, 5).columns(0, 3) == (-5, 9)
    assert x.after(Reach(before=3), 2, 53).low == 4  # the columns before it read one column at least
    assert ring_order(2, 4) == (2, 0, 3, 1)
    assert ring_order(1, 2) == (1, 0)


def test_the_graph_of_a_hop_reads_what_is_kept() -> None:
    plan = HopPlan(network(same, 1, 5, 90), 4)
    graph = means_apart(plan.whole.graph)
    body = body_of(graph, 2, 4)
    hop = hop_graph(body)
    assert [kept.name for kept in hop.reads].count("x") == 2  # both ends of the window
    assert all(kept.end <= body.known(kept.name) for kept in hop.reads if kept.name != "x")
    assert Rings(body, hop).nbytes > 0
    view = View(graph, graph.shapes(), dict(body.view.extents))
    assert local_rule(view, graph.nodes[0]).reads["x"] == Reach(5, 1, 2)


# -- use ---------------------------------------------------------------------------------------------


def test_a_stream_of_a_program() -> None:
    program = sp.engine.load(TEXTURES)
    picture = np.random.default_rng(0).random((1, 1, 20, 60), np.float32)
    untouched = picture.copy()
    stream = program.stream(hop=4, axis=3)
    assert isinstance(stream, sp.engine.Stream)
    np.testing.assert_array_equal(stream.start(picture[..., :20]), program(picture[..., :20]))
    for end in range(24, 60, 4):
        scores = stream(picture[..., end - 4 : end])  # not contiguous
        np.testing.assert_allclose(scores, program(picture[..., end - 20 : end]), atol=1e-5)
    np.testing.assert_array_equal(picture, untouched)
    assert repr(stream) == "<Stream textures: 4 of 20 columns along axis 3>"
    lines = str(stream).splitlines()
    assert lines[0].startswith("textures: 4 new columns with each call, of a window of 20 along axis 3")
    assert len(lines) > 6
    assert stream.nbytes > 0


def test_results_are_the_callers() -> None:
    stream = ColumnStream(HopPlan(network(same, 1, 5, 90), 4))
    pairs = list(windows(stream.plan, 3))
    first = stream.start(pairs[0][1])
    kept = [stream(frames) for frames, _ in pairs[1:]]
    copies = [first.copy(), *(array.copy() for array in kept)]
    for array in (first, *kept):
        array[...] = np.nan  # the stream keeps no part of it
    again = [stream.start(pairs[0][1]), *(stream(frames) for frames, _ in pairs[1:])]
    for one, other in zip(again, copies, strict=True):
        np.testing.assert_array_equal(one, other)
    out = np.empty((1, 7), np.float32)
    assert stream.start(pairs[0][1], out=out) is out
    assert stream(pairs[1][0], out=out) is out
    np.testing.assert_array_equal(out, copies[1])


def test_a_caller_may_write_into_what_he_gave() -> None:
    stream = ColumnStream(HopPlan(network(same, 1, 5, 90), 4))
    buffer = np.empty(stream.frames_shape, np.float32)
    for frames, window in windows(stream.plan, 30):
        if frames is None:
            given = window.copy()
            stream.start(given)
            given[...] = np.nan
            continue
        buffer[...] = frames
        np.testing.assert_array_equal(stream(buffer), stream.network(window))
        buffer[...] = np.nan


def test_a_stream_begins_with_a_window() -> None:
    stream = ColumnStream(HopPlan(network(same, 1, 5, 90), 4))
    frames = np.ones(stream.frames_shape, np.float32)
    with pytest.raises(RuntimeError, match=r"call `start\(window\)`"):
        stream(frames)
    np.testing.assert_array_equal(stream.start(), stream.network(np.zeros((1, 5, 90), np.float32)))
    window = np.zeros((1, 5, 90), np.float32)
    window[..., -4:] = 1
    np.testing.assert_array_equal(stream(frames), stream.network(window))
    stream.reset()
    with pytest.raises(RuntimeError, match="no window yet"):
        stream(frames)
    assert difference(stream, 5) == 0.0


def test_wrong_columns_leave_a_stream_as_it_was() -> None:
    stream = ColumnStream(HopPlan(network(same, 1, 5, 90), 4))
    pairs = list(windows(stream.plan, 2))
    stream.start(pairs[0][1])
    for wrong, message in (
        (np.zeros((1, 5, 3), np.float32), r"`frames` has shape \(1, 5, 3\); expected \(1, 5, 4\)"),
        (np.zeros((5, 4), np.float32), "expected"),
        (np.zeros((1, 5, 4)), "float64; expected float32"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            stream(wrong)
    with pytest.raises(ValueError, match="`out`"):
        stream(pairs[1][0], out=np.empty(3, np.float32))
    np.testing.assert_array_equal(stream(pairs[1][0]), stream.network(pairs[1][1]))
    with pytest.raises(ValueError, match=r"`window` has shape \(1, 5, 89\); expected \(1, 5, 90\)"):
        stream.start(np.zeros((1, 5, 89), np.float32))
    np.testing.assert_array_equal(stream(pairs[2][0]), stream.network(pairs[2][1]))


def test_halves_are_widened() -> None:
    stream = ColumnStream(HopPlan(network(same, 1, 5, 90), 4))
    (_, window), (frames, _) = windows(stream.plan, 1)
    stream.start(window)
    wanted = stream(frames.astype(np.float16).astype(np.float32))
    stream.start(window)
    np.testing.assert_array_equal(stream(frames.astype(np.float16)), wanted)


def test_several_streams_run_at_once() -> None:
    first = ColumnStream(HopPlan(network(causal, 1, 5, 90, threads=2), 4))
    streams = [first, *(first.another() for _ in range(3))]
    assert all(stream.plan is first.plan for stream in streams)
    wrong: list[int] = []

    def listen(number: int) -> None:
        for frames, window in windows(first.plan, 40, seed=number):
            made = streams[number].start(window) if frames is None else streams[number](frames)
            if made.tobytes() != first.network(window).tobytes():
                wrong.append(number)

    threads = [threading.Thread(target=listen, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_open_lengths_take_a_window() -> None:
    program = network(same, "n", 5, "time")
    with pytest.raises(ValueError, match="`window` is missing"):
        HopPlan(program, 4)
    stream = ColumnStream(HopPlan(program, 4, window=60))
    assert (stream.window, stream.frames_shape) == (60, (1, 5, 4))
    assert difference(stream, 20) == 0.0
    with pytest.raises(ValueError, match="open lengths besides time"):
        HopPlan(network(same, 1, "channels", 60), 4)


# -- what is refused ---------------------------------------------------------------------------------


def model(*nodes: Any, inputs: tuple[str, ...] = ("x",), kind: int = TensorProto.FLOAT) -> Any:
    given = [helper.make_tensor_value_info(name, kind, (1, 4, 40)) for name in inputs]
    weights = helper.make_tensor("w", TensorProto.FLOAT, (4, 4, 3), np.ones(48, np.float32))
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    graph = helper.make_graph(list(nodes), "net", given, outputs, [weights])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


CONV = helper.make_node("Conv", ["x", "w"], ["y"], strides=[2])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"hop": 3},
            r"`hop=3` is no multiple of 2, the stride of `y` \(Conv\) .* is 2, the next to this one 4",
        ),
        ({"hop": 40}, "`hop=40` leaves nothing of a window of 40 columns"),
        ({"hop": 0}, "`hop=0` is too small"),
        ({"hop": 2.5}, "`hop=2.5` is not a whole number"),
        ({"hop": 2, "axis": 3}, "`axis=3` is none of input `x`"),
        ({"hop": 2, "axis": "time"}, "`axis='time'` is not a whole number"),
        ({"hop": 2, "axis": 1}, "mixes all columns of axis 1"),
        ({"hop": 2, "window": 30}, "`window=30`, but input `x` .* has 40 columns"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        sp.engine.load(model(CONV)).stream(**arguments)


def test_pictures_name_their_axis() -> None:
    with pytest.raises(ValueError, match=r"`axis` is missing: .* axis=2 to axis=3"):
        sp.engine.load(TEXTURES).stream(2)


def test_programs_that_do_not_slide_are_refused() -> None:
    add = helper.make_node("Add", ["x", "z"], ["y"])
    with pytest.raises(ValueError, match="2 inputs, `x`, `z`; a stream takes one"):
        sp.engine.load(model(add, inputs=("x", "z"))).stream(2)
    pool = helper.make_node("GlobalAveragePool", ["x"], ["y"])
    with pytest.raises(ValueError, match=r"its first layer `y` \(GlobalAveragePool\) is computed whole"):
        sp.engine.load(model(pool)).stream(2)
    calls = [np.ones((1, 4, 40), np.float32)]
    with pytest.raises(ValueError, match="precision='int8'; a stream runs in float32"):
        sp.engine.load(model(CONV), precision="int8", calibration=calls).stream(2)
    cast = helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)
    with pytest.raises(ValueError, match="input `x` is of int32; a stream takes float32"):
        sp.engine.load(model(cast, kind=TensorProto.INT32)).stream(2)


def test_parts_in_another_runtime_are_refused() -> None:
    pytest.importorskip("onnxruntime")
    hard = helper.make_node("Hardmax", ["a"], ["y"], axis=1)
    conv = helper.make_node("Conv", ["x", "w"], ["a"])
    program = sp.engine.load(model(conv, hard), fallback="onnxruntime")
    with pytest.raises(ValueError, match=r"run outside of the engine .*Hardmax"):
        program.stream(2)


def test_recurrent_layers_are_computed_of_the_whole_window() -> None:
    def build(net: GraphNet) -> str:
        x = net.node("Relu", conv1(net, "x", 5, 8, 3, (1, 1)))
        x = net.node("Transpose", x, perm=(2, 0, 1))
        weights = (net.normal(1, 18, 8), net.normal(1, 18, 6), net.normal(1, 36))
        return str(net.node("GRU", x, *weights, hidden_size=6, linear_before_reset=1, outputs=2)[1])

    stream = ColumnStream(HopPlan(network(build, 1, 5, 50), 2))
    assert [stop.node.op for stop in stream.plan.stops] == ["GRU"]
    assert difference(stream, 20) == 0.0
