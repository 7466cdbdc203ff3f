"""Arrays in parts: results of a part have the bits of those of the whole array, whatever the cuts."""

from __future__ import annotations

import itertools
import os
import pickle
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import separable as sp
from separable._core import extent as core_extent
from separable.arrays import arguments
from separable.arrays import masks as masking
from separable.arrays.boundaries import CANONICAL, sources
from separable.filters.plan import Plan, build
from separable.filters.request import Request

# A few dozen here; SEPARABLE_EXAMPLES=1000 by hand.
EXAMPLES = int(os.environ.get("SEPARABLE_EXAMPLES", "60"))


def whole_plan(kernel: Any, x: np.ndarray, output: np.dtype[Any] | None, **asked: Any) -> Plan:
    """Return the plan of the verb for `x`, by a method for arrays in parts."""
    dtype = arguments.working_dtype(x.dtype)
    if output is not None:
        dtype = arguments.stored_in(dtype, output)
    request = Request(
        *(x.shape, dtype, asked["mode"], 0.5, 0, asked["axes"], None, asked.get("method", "auto"), False),
        whole=x.dtype.kind in "biu",
        masked=asked["masked"],
        integers=None if output is None or output.kind not in "biu" else (x.dtype, output, "nearest"),
    )
    return build(kernel, request, parted=True)


def in_parts(plan: Plan, x: np.ndarray, axis: int, cuts: list[int], **how: Any) -> np.ndarray:
    """Filter `x` part by part: true ends clipped, never padded; wrap by index."""
    line = plan._setting.lines(x.ndim)[axis]
    output, mask, extent = how.pop("output"), how.pop("mask"), how.pop("extent", None)
    parts = []
    for begin, end in itertools.pairwise([0, *cuts, x.shape[axis]]):
        first, last = line.read_for((begin, end))
        places = sources(np.arange(first, last), x.shape[axis], line.mode)
        taken = x.take(places, axis)
        starts = tuple(first if n == axis else 0 for n in range(x.ndim))
        part = pickle.loads(pickle.dumps(plan.part(taken.shape, starts, extent)))
        known = None if mask is None else mask.take(places, axis)
        result = part(taken, output, mask=known, **how)
        parts.append(result.take(np.arange(begin - first, end - first), axis))
    return np.concatenate(parts, axis)


@st.composite
def kernels(draw: st.DrawFn, ndim: int, rng: np.random.Generator, positive: bool) -> Any:
    kind = draw(st.sampled_from(["gaussian", "box", "dense", "mirrored", "terms", "whole"]))
    sizes = draw(st.lists(st.integers(1, 11), min_size=ndim, max_size=ndim))
    if kind == "gaussian":
        return sp.families.gaussian([n / 4 for n in sizes])
    if kind == "box":
        return sp.families.box([draw(st.integers(1, 40)) for _ in sizes])
    sizes = [min(n, 5) for n in sizes]
    if kind == "whole":
        return rng.integers(0 if positive else -2, 4, sizes).astype(float) + 1
    weights = rng.random(sizes) + 0.01 if positive else rng.standard_normal(sizes)
    if kind == "terms" and ndim > 1 and not positive:
        return sp.SeparableKernel([[rng.standard_normal(n) for n in sizes] for _ in range(2)])
    return weights + np.flip(weights) if kind == "mirrored" else weights


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    ndim = draw(st.integers(1, 4))
    lengths = st.integers(1, 12) if ndim > 2 else st.integers(1, 70)
    shape = draw(st.lists(lengths, min_size=ndim, max_size=ndim))
    axis = draw(st.integers(0, ndim - 1))
    shape[axis] = draw(st.integers(1, 120 if ndim < 4 else 40))
    axes = tuple(sorted(draw(st.sets(st.integers(0, ndim - 1), min_size=1, max_size=3))))
    dtype = np.dtype(draw(st.sampled_from(["f4", "f8", "u1", "i2", "c8", "f2"])))
    values = rng.standard_normal(shape) * 100
    x = (np.abs(values) if dtype.kind == "u" else values).astype(dtype)
    masked = dtype.kind != "c" and draw(st.booleans())
    mask = None
    if masked:
        mask = rng.random(shape) < draw(st.sampled_from([0.05, 0.5, 0.97, 1.0]))
        if draw(st.booleans()):  # a region that is unknown
            mask[tuple(slice(0, n // 2 + 1) for n in shape)] = False
    cuts = sorted(draw(st.sets(st.integers(1, max(shape[axis] - 1, 1)), max_size=5)) - {shape[axis]})
    wanted = draw(st.sampled_from([None, "u1", "u2", "f8"])) if dtype.kind != "c" else None
    return {
        "x": x,
        "mask": mask,
        "axis": axis,
        "cuts": cuts,
        "axes": axes,
        "kernel": draw(kernels(len(axes), rng, masked)),
        "mode": tuple(draw(st.sampled_from(CANONICAL)) for _ in axes),
        "output": None if wanted is None else np.dtype(wanted),
        "threads": draw(st.integers(1, 3)),
        "nan": draw(st.sampled_from(["propagate", "omit"])) if masked else "propagate",
    }


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(cases())
def test_parts_have_the_bits_of_the_whole(case: dict[str, Any]) -> None:
    x, output, mask = case["x"], case["output"], case["mask"]
    if case["nan"] == "omit" and x.dtype.kind == "f":
        x.reshape(-1)[:: max(x.size // 5, 1)] = np.nan
    masked = mask is not None
    plan = whole_plan(case["kernel"], x, output, mode=case["mode"], axes=case["axes"], masked=masked)
    expected = sp.correlate(
        *(x, case["kernel"]),
        mode=case["mode"],
        cval=0.5,
        axes=case["axes"],
        output=output,
        mask=mask,
        nan=case["nan"],
        method=plan.method,
    )
    how = {"threads": case["threads"], "nan": case["nan"], "output": output, "mask": mask}
    if output is not None and plan.clips((x.dtype, output, "nearest"), masked):
        known = None if mask is None else masking.known_of(x, mask, case["nan"], None).of(x)
        how["extent"] = core_extent(x.shape, x, 1, known)
    result = in_parts(plan, x, case["axis"], case["cuts"], **how)
    np.testing.assert_array_equal(result, expected)
    assert result.tobytes() == np.ascontiguousarray(expected).tobytes() or np.isnan(expected).any()
