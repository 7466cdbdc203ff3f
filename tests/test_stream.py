"""Arrays larger than memory: slab by slab, the bits of the verb in memory, in the memory promised."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import separable as sp
from separable.arrays.boundaries import CANONICAL
from separable.stream.verbs import size_of

EXAMPLES = int(os.environ.get("SEPARABLE_EXAMPLES", "40"))


class Sliced:
    """An array of a library that only slices; counts what is read."""

    def __init__(self, array: np.ndarray, rows: int) -> None:
        self.array, self.chunks = array, (rows, *array.shape[1:])
        self.shape, self.dtype = array.shape, array.dtype
        self.read = np.zeros(array.shape[0], int)

    def __getitem__(self, key: slice) -> np.ndarray:
        self.read[key] += 1
        return self.array[key]

    def __setitem__(self, key: slice, values: np.ndarray) -> None:
        assert key.start % self.chunks[0] == 0
        self.array[key] = values


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    ndim = draw(st.integers(1, 3))
    shape = [draw(st.integers(1, 90)), *(draw(st.integers(1, 20)) for _ in range(ndim - 1))]
    dtype = np.dtype(draw(st.sampled_from(["f4", "f8", "u1", "i2", "c8", "f2"])))
    x = np.abs(rng.standard_normal(shape) * 50).astype(dtype)
    axes = tuple(sorted(draw(st.sets(st.integers(0, ndim - 1), min_size=1))))
    kernel = draw(st.sampled_from(["gaussian", "box", "dense"]))
    sizes = [draw(st.integers(1, 9)) for _ in axes]
    kernels = {
        "gaussian": sp.families.gaussian([n / 3 for n in sizes]),
        "box": sp.families.box([3 * n for n in sizes]),
        "dense": rng.random([min(n, 4) for n in sizes]),
    }
    masked = dtype.kind != "c" and draw(st.booleans())
    return {
        "x": x,
        "kernel": kernels[kernel],
        "mode": tuple(draw(st.sampled_from(CANONICAL)) for _ in axes),
        "axes": axes,
        "mask": rng.random(shape) < 0.7 if masked else None,
        "dtype": draw(st.sampled_from([None, "u1", "u2", "f8"])) if dtype.kind != "c" else None,
        "rows": draw(st.integers(1, 40)),
        "target_rows": draw(st.integers(1, 20)),
        "threads": draw(st.integers(1, 3)),
        "memory": draw(st.sampled_from(["least", "4GiB"])),
    }


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(cases())
def test_slabs_have_the_bits_of_the_verb(case: dict[str, Any]) -> None:
    x = case["x"]
    asked = {name: case[name] for name in ("mode", "axes", "mask")}
    source = Sliced(x, case["rows"])
    plan = sp.stream.plan(source, case["kernel"], memory="4GiB", dtype=case["dtype"], **asked)
    expected = sp.correlate(x, case["kernel"], output=case["dtype"], method=plan.method, **asked)
    target = Sliced(np.zeros(x.shape, plan.dtype), case["target_rows"])
    memory: Any = "4GiB"
    if case["memory"] == "least":
        wider = sp.stream.plan(
            source, case["kernel"], target=target, memory="4GiB", dtype=case["dtype"], **asked
        )
        memory = wider.least_memory + (8 << 20)
    plan = sp.stream.plan(
        source,
        case["kernel"],
        target=target,
        memory=memory,
        dtype=case["dtype"],
        threads=case["threads"],
        **asked,
    )
    plan.run()
    np.testing.assert_array_equal(target.array, expected)
    if "wrap" not in case["mode"] and plan.bytes_read == x.nbytes:
        assert source.read.max() == 1  # halos are kept, chunks never decoded twice


def test_a_plan_prints_what_it_takes() -> None:
    x = np.zeros((64, 32, 32), np.float32)
    plan = sp.stream.plan(x, sp.families.gaussian([2.0, 2.0, 2.0]), memory="4GiB")
    text = str(plan)
    assert f"{plan.units} of {plan.unit} of 64, with 8 before and 8 behind" in text
    for words in ("reads 256 KiB", "writes 256 KiB", "at the least"):
        assert words in text
    assert plan.least_memory <= plan.memory <= plan.memory_limit == 4 << 30


@pytest.mark.parametrize(
    ("memory", "size"), [("1GiB", 1 << 30), ("300 MiB", 300 << 20), (12345, 12345), ("1.5G", 3 << 29)]
)
def test_sizes(memory: Any, size: int) -> None:
    assert size_of(memory) == size


@pytest.mark.parametrize("memory", ["lots", 0, -1, 1.5, None])
def test_what_is_no_size_is_refused(memory: Any) -> None:
    with pytest.raises(ValueError, match="is no size"):
        size_of(memory)


def test_too_little_memory_is_refused_with_the_least_that_serves() -> None:
    x = np.zeros((64, 32, 32), np.float32)
    with pytest.raises(ValueError, match=r"memory=1 MiB.*is too small.*at the least"):
        sp.stream.plan(x, np.ones((3, 3, 3)), memory="1MiB")


def test_methods_whose_parts_differ_are_named() -> None:
    x = np.zeros((64, 64), np.float32)
    kernel = sp.families.gaussian([4.0, 4.0])
    for method in ("fft", "recursive"):
        with pytest.raises(ValueError, match=f"method='{method}'.*parts of an array would not"):
            sp.stream.plan(x, kernel, method=method)
    with pytest.raises(ValueError, match=r"method='box'.*sums floats"):
        sp.stream.plan(x, sp.families.disk(9.0), method="box")
    dense = np.random.default_rng(0).standard_normal((41, 41))
    plan = sp.stream.plan(np.zeros((512, 512), np.float32), dense, memory="4GiB")
    assert plan.passed_over is not None
    assert plan.passed_over.startswith("not fft")
    assert plan.passed_over in str(plan)


def test_sources_and_targets_that_are_none_are_refused(tmp_path: Path) -> None:
    kernel = np.ones(3)
    with pytest.raises(FileNotFoundError, match="no such file"):
        sp.stream.plan(tmp_path / "none.npy", kernel)
    with pytest.raises(TypeError, match="`source` is of type int"):
        sp.stream.plan(3, kernel)
    (tmp_path / "a.txt").touch()
    with pytest.raises(ValueError, match="no ending that is known"):
        sp.stream.plan(tmp_path / "a.txt", kernel)
    x = np.zeros(9, np.float32)
    with pytest.raises(ValueError, match="`target` has shape"):
        sp.stream.plan(x, kernel, target=np.zeros(8, np.float32))
    with pytest.raises(FileNotFoundError, match="no such folder"):
        sp.stream.plan(x, kernel, target=tmp_path / "no" / "a.npy")
    with pytest.raises(ValueError, match="`mask` has shape"):
        sp.stream.plan(x, kernel, mask=np.ones(8, bool))
    with pytest.raises(ValueError, match="there is no target"):
        sp.stream.plan(x, kernel).run()


def test_npy_files(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    x = rng.random((50, 20, 20), np.float32)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "f.npy", np.asfortranarray(x))
    kernel = sp.families.gaussian([1.0, 2.0, 1.0])
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    sources = (tmp_path / "x.npy", str(tmp_path / "f.npy"), mapped, mapped[:])
    for number, source in enumerate(sources):
        path = tmp_path / f"y{number}.npy"
        sp.stream.filter(source, path, kernel)
        array = np.load(source) if isinstance(source, (str, Path)) else x
        np.testing.assert_array_equal(np.load(path), sp.correlate(array, kernel))
        assert np.load(path).flags.f_contiguous == (number == 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "f.npy",
        "x.npy",
        *(f"y{n}.npy" for n in range(4)),
    ]
    with pytest.raises(FileExistsError, match="is there already"):
        sp.stream.filter(x, tmp_path / "y0.npy", kernel)


def test_clipping_bounds_are_those_of_the_whole_array(tmp_path: Path) -> None:
    x = np.linspace(0, 255, 40 * 8 * 8).reshape(40, 8, 8)
    kernel = sp.families.gaussian([1.0, 1.0, 1.0])
    plan = sp.stream.plan(x, kernel, dtype="int64", memory="4GiB")
    expected = sp.correlate(x, kernel, output="int64", method=plan.method)
    target = np.zeros(x.shape, np.int64)
    plan.run(target)
    np.testing.assert_array_equal(target, expected)


_PEAK = """
import sys
from pathlib import Path
import separable as sp
kernel = sp.families.gaussian([2.0, 2.0, 2.0])
plan = sp.stream.plan(sys.argv[1], kernel, target=sys.argv[2], memory=sys.argv[3])
plan.run()
# Not ru_maxrss, which is the parent's as well.
most = Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]
print(int(most) * 1024, plan.memory, plan.memory_limit)
"""


def peak(source: Path, target: Path, memory: str) -> tuple[int, int, int]:
    words = [sys.executable, "-c", _PEAK, str(source), str(target), memory]
    out = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    most, predicted, limit = map(int, out.split())
    return most, predicted, limit


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells the peak")
@pytest.mark.parametrize("memory", ["150MiB", "400MiB"])
def test_memory_is_kept_to(tmp_path: Path, memory: str) -> None:
    shape = (300, 512, 512)
    x = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.float32, shape)
    for n in range(0, shape[0], 50):
        x[n : n + 50] = np.random.default_rng(n).random((50, *shape[1:]), np.float32)
    del x
    most, predicted, limit = peak(tmp_path / "x.npy", tmp_path / "y.npy", memory)
    assert most <= limit
    assert predicted <= limit
    assert most > predicted // 2  # not promised away
