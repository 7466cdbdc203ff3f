"""The speed-up that is realised, beside the one that is promised."""

from __future__ import annotations

import importlib
import statistics
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch.nn import functional as F

import separable as sp
from benchmarks import libraries
from benchmarks.timing import Effort, Stopwatch, interleave
from docs.drawings.ink import Ink, curves
from studies.study import Numbers, Progress, Study, Verdict, judged, table

MOBILENETS = "[MobileNets](https://arxiv.org/abs/1704.04861)"
SHAPES = (
    (32, 64, 3, 112), (64, 128, 3, 56), (128, 128, 3, 56), (256, 256, 3, 28), (512, 512, 3, 14),
    (512, 512, 3, 7), (64, 8, 3, 56), (64, 128, 5, 56), (64, 128, 7, 28),
)  # fmt: skip
SMALL = ((8, 16, 3, 14), (16, 8, 5, 10))
FILTERS = (3, 5, 9, 15, 31)
REALISED = 0.8  # of the promised speed-up
TORCH, RUNTIME, FUSED = "torch, two calls", "ONNX Runtime, two nodes", "fused (this package)"


def measure(small: bool, progress: Progress) -> Numbers:
    """Time dense layers and separable ones, and filters, on one thread."""
    effort = Effort(3, 0.1) if small else Effort(60, 4.0)
    with libraries.threads_restored():
        libraries.set_torch_threads(1)
        layers = []
        for shape in SMALL if small else SHAPES:
            progress(f"speedup: {shape}")
            layers.append(_layer(shape, effort))
        filters = []
        for k in FILTERS[:2] if small else FILTERS:
            progress(f"speedup: a filter of {k} x {k}")
            filters.append(_filter(k, 64 if small else 1024, effort))
    return {"layers": layers, "filters": filters}


def _seconds(calls: dict[str, Callable[[], object]], effort: Effort) -> dict[str, float]:
    """Return the least time of each call, of runs in turn: other work on a machine only adds to it."""
    watches = {name: Stopwatch(libraries.settle, call) for name, call in calls.items()}
    for watch in watches.values():
        watch.first()
    interleave(list(watches.values()), effort)
    return {name: min(watch.samples) for name, watch in watches.items()}


def _layer(shape: tuple[int, int, int, int], effort: Effort) -> Numbers:
    c_in, c_out, k, size = shape
    rng = np.random.default_rng(0)
    depthwise = rng.standard_normal((c_in, 1, k, k)).astype(np.float32)
    pointwise = rng.standard_normal((c_out, c_in)).astype(np.float32)
    dense = sp.conv.compose(depthwise, pointwise)
    image = rng.standard_normal((1, size, size, c_in)).astype(np.float32)
    fused, out = sp.conv.FusedConv(depthwise, pointwise, padding="same"), None
    out = fused(image, threads=1)
    x = torch.from_numpy(image).permute(0, 3, 1, 2)  # channels last in memory, as the fused operator has them
    d, p, w = (torch.from_numpy(array) for array in (depthwise, pointwise[:, :, None, None], dense))
    calls: dict[str, Callable[[], object]] = {
        "torch, dense": lambda: F.conv2d(x, w, padding="same"),
        TORCH: lambda: F.conv2d(F.conv2d(x, d, padding="same", groups=c_in), p),
        FUSED: lambda: fused(image, out=out, threads=1),
    }
    channels_first = np.ascontiguousarray(image.transpose(0, 3, 1, 2))
    calls |= _sessions(
        channels_first,
        {"dense": [(dense, 1)], "separable": [(depthwise, c_in), (pointwise[:, :, None, None], 1)]},
    )
    with torch.no_grad():
        seconds = _seconds(calls, effort)
    own_dense = min(seconds["torch, dense"], seconds["ONNX Runtime, dense"])
    return {
        "shape": f"{c_in}→{c_out} {k}x{k} at {size}x{size}",
        "promised": 1 / (1 / c_out + 1 / k**2),
        "seconds": seconds,
        "realised": {
            TORCH: seconds["torch, dense"] / seconds[TORCH],
            RUNTIME: seconds["ONNX Runtime, dense"] / seconds["ONNX Runtime, separable"],
            FUSED: own_dense / seconds[FUSED],
        },
    }


def _sessions(
    x: np.ndarray, forms: dict[str, list[tuple[np.ndarray, int]]]
) -> dict[str, Callable[[], object]]:
    """Return calls of ONNX Runtime for layers of some convolutions, each its weights and groups."""
    runtime, onnx = libraries.load("onnxruntime"), importlib.import_module("onnx")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    calls: dict[str, Callable[[], object]] = {}
    for form, convs in forms.items():
        model = _model(onnx, x.shape, convs)
        session = runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        calls[f"ONNX Runtime, {form}"] = lambda session=session: session.run(None, {"x": x})  # type: ignore[misc]
    return calls


def _model(onnx: Any, shape: tuple[int, ...], convs: list[tuple[np.ndarray, int]]) -> bytes:
    helper, last = onnx.helper, "x"
    nodes, weights = [], []
    for number, (kernel, groups) in enumerate(convs):
        weights.append(onnx.numpy_helper.from_array(kernel, f"w{number}"))
        pads = [kernel.shape[2] // 2] * 4
        nodes.append(helper.make_node("Conv", [last, f"w{number}"], [f"y{number}"], group=groups, pads=pads))
        last = f"y{number}"
    kinds = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, size)
        for name, size in (("x", shape), (last, (shape[0], len(convs[-1][0]), *shape[2:])))
    ]
    graph = helper.make_graph(nodes, "layer", kinds[:1], kinds[1:], weights)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(made.SerializeToString())


def _filter(k: int, size: int, effort: Effort) -> Numbers:
    rng = np.random.default_rng(0)
    x, lines = rng.random((size, size), dtype=np.float32), rng.random((2, k))
    weights = np.multiply.outer(*lines)
    ways = {
        method: sp.plan(weights, x.shape, np.float32, method=method, threads=1)
        for method in ("direct", "separable")
    }
    out = np.empty_like(x)
    seconds = _seconds({name: (lambda way=way: way(x, output=out)) for name, way in ways.items()}, effort)  # type: ignore[misc]
    return {
        "shape": f"{k}x{k}",
        "promised": k / 2,
        "seconds": seconds,
        "realised": {"separable": seconds["direct"] / seconds["separable"]},
    }


def judge(numbers: Numbers) -> list[Verdict]:
    """Judge how much of the promised speed-up each way of running realises."""
    rule = f"dense time over separable time is at least {REALISED:.0%} of the ratio of their operations."
    verdicts = []
    for way, words in (
        (TORCH, "in torch, as two convolutions (dense: torch)"),
        (RUNTIME, "in ONNX Runtime, as two nodes (dense: ONNX Runtime)"),
        (FUSED, "in the fused operator (dense: the faster of torch and ONNX Runtime)"),
    ):
        verdicts.append(
            judged(
                f"a separable layer is as many times faster as it has fewer operations, {words}",
                MOBILENETS + ", as it is read",
                _told(numbers["layers"], way),
                rule,
                {row["shape"]: _share(row, way) >= REALISED for row in numbers["layers"]},
            )
        )
    verdicts.append(
        judged(
            "a separable filter is k/2 times faster than the same kernel as a square",
            "textbooks of image processing",
            _told(numbers["filters"], "separable"),
            rule,
            {row["shape"]: _share(row, "separable") >= REALISED for row in numbers["filters"]},
        )
    )
    return verdicts


def _share(row: Numbers, way: str) -> float:
    return float(row["realised"][way] / row["promised"])


def _told(rows: list[Numbers], way: str) -> str:
    shares = [_share(row, way) for row in rows]
    times = [row["realised"][way] for row in rows]
    return (
        f"{min(times):.1f} to {max(times):.1f} times faster, {min(shares):.0%} to {max(shares):.0%} of "
        "what is promised "
        f"(median {statistics.median(shares):.0%})"
    )


def tables(numbers: Numbers) -> str:
    """Return promised and realised speed-ups by shape."""
    rows = [
        [
            row["shape"],
            f"{row['promised']:.1f}x",
            *(f"{row['realised'][way]:.1f}x" for way in (TORCH, RUNTIME, FUSED)),
            *(f"{1e3 * row['seconds'][name]:.2f}" for name in ("torch, dense", "ONNX Runtime, dense", FUSED)),
        ]
        for row in numbers["layers"]
    ]
    filters = [
        [
            row["shape"],
            f"{row['promised']:.1f}x",
            f"{row['realised']['separable']:.1f}x",
            *(f"{1e3 * row['seconds'][name]:.2f}" for name in ("direct", "separable")),
        ]
        for row in numbers["filters"]
    ]
    heads = ["layer", "promised", TORCH, RUNTIME, FUSED, "ms: torch, dense", "ONNX Runtime, dense", "fused"]
    return (
        table(heads, rows)
        + "\n\nFilters of an image, both by this package:\n\n"
        + table(["kernel", "promised", "realised", "ms: direct", "separable"], filters)
    )


def draw(ink: Ink, numbers: Numbers) -> Figure:
    """Draw realised over promised speed-ups."""
    figure = Figure(figsize=(5.6, 2.8), layout="constrained")
    axes = curves(figure, ink, "promised: times fewer operations", "realised: times faster")
    groups = [(way, numbers["layers"]) for way in (TORCH, RUNTIME, FUSED)] + [
        ("separable", numbers["filters"])
    ]
    for colour, marker, (way, rows) in zip(ink.others, "os^D", groups, strict=True):
        told, got = [row["promised"] for row in rows], [row["realised"][way] for row in rows]
        label = "filters (this package)" if way == "separable" else way
        axes.plot(told, got, marker, color=colour, label=label, markersize=5)
    ends = [1, 45]
    axes.plot(ends, ends, color=ink.text, linestyle=":", linewidth=1)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    marks = [1, 2, 4, 8, 16, 32]
    axes.set_xticks(marks, [str(n) for n in marks])
    axes.set_yticks(marks, [str(n) for n in marks])
    axes.legend(frameon=False, labelcolor=ink.text, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


STUDY = Study(
    "speedup",
    "Realised against promised speed-up",
    "expect eight times fewer operations to take an eighth of the time",
    "the least times of dense and separable layers of nine shapes, one image and one thread, in turn in "
    "one process, "
    "and of filters of 1024 x 1024 pixels.",
    measure,
    judge,
    tables,
    draw,
    "How many times faster layers and filters are, over how many times fewer operations they have; dotted: "
    "the same",
    timed=True,
)
