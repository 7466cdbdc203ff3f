"""Random volumes in random files, cut at random: what a stream writes equals what the verb gives in memory.

``python -m tests.stream_cases 300 0``: how many, and the number of the first. A number is a case, the same
everywhere. The verb runs by the method that the stream chose, on another number of threads.
"""

from __future__ import annotations

import dataclasses
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import nibabel as nib
import numpy as np
import zarr
from zarr.codecs import BloscCodec, GzipCodec, ZstdCodec

import separable as sp
from separable.arrays.boundaries import CANONICAL
from separable.stream.slabs import Traits
from separable.stream.stream_plan import opened_places
from separable.stream.window import aligned

Rng = np.random.Generator

DTYPES = ("f4", "f4", "f8", "u1", "i2", "f2", "c8", "u2")
SOURCES = ("zarr", "zarr", "zarr", "shards", "zarr2", "npy", "fortran", "nii", "h5", "array", "wide")
TARGETS = ("zarr", "zarr", "shards", "npy", "array", "like")
CODECS = (None, ZstdCodec(level=1), GzipCodec(level=1), BloscCodec(cname="lz4"))


class Case(NamedTuple):
    """A filter of an array in a file, and how it is cut."""

    number: int
    source: str
    target: str
    x: np.ndarray
    kernel: Any
    asked: dict[str, Any]
    dtype: str | None
    mask: np.ndarray | None
    chunks: tuple[int, ...]
    target_chunks: tuple[int, ...]
    unit: int  # in chunks of the target
    width: int  # the same; 0: slabs
    overlapped: bool
    threads: tuple[int, int]

    def __str__(self) -> str:
        asked = " ".join(f"{name}={value}" for name, value in self.asked.items())
        cut = f"unit {self.unit}, width {self.width}, overlapped {self.overlapped}, threads {self.threads}"
        masked = "" if self.mask is None else f" mask of {self.mask.dtype}"
        chunks = f"chunks {self.chunks} and {self.target_chunks}"
        return (
            f"case {self.number}: {self.x.shape} {self.x.dtype} from {self.source} to {self.target} "
            f"{self.dtype}, {chunks}, {asked}{masked}; {cut}"
        )


def case(number: int) -> Case:
    """Return the case of a number."""
    rng = np.random.default_rng(number)
    ndim = int(rng.choice([1, 2, 3, 3, 3, 4]))
    shape = tuple(int(rng.integers(1, (90, 60, 24, 10)[axis])) for axis in range(ndim))
    dtype = np.dtype(rng.choice(DTYPES))
    x = np.abs(rng.standard_normal(shape) * 50).astype(dtype)
    axes = tuple(axis for axis in range(ndim) if rng.random() < 0.8) or (0,)
    nan, mask = "propagate", None
    if dtype.kind != "c" and rng.random() < 0.3:
        mask = rng.random(shape) < 0.7
        mask = mask.astype(np.uint8) * 3 if rng.random() < 0.5 else mask
    elif dtype.kind == "f" and rng.random() < 0.15:
        x[rng.random(shape) < 0.1] = np.nan
        nan = "omit"
    source = str(rng.choice(SOURCES))
    if (source == "nii" and dtype in ("f2", "c8")) or (source == "wide" and ndim == 1):
        source = "zarr"
    stored = rng.choice(["", "", "u1", "i2", "f8"]) if dtype.kind != "c" else ""
    return Case(
        *(number, source, str(rng.choice(TARGETS)), x, _kernel(rng, len(axes))),
        {"mode": tuple(str(rng.choice(CANONICAL)) for _ in axes), "axes": axes, "nan": nan},
        str(stored) or None,
        mask,
        *(tuple(int(rng.integers(1, 24)) for _ in shape) for _ in range(2)),
        int(rng.integers(1, 4)),
        int(rng.integers(0, 4)),
        bool(rng.random() < 0.5),
        (int(rng.integers(1, 4)), int(rng.integers(1, 4))),
    )


def _kernel(rng: Rng, count: int) -> Any:
    sizes = [int(rng.integers(1, 9)) for _ in range(count)]
    kind = rng.choice(["gaussian", "gaussian", "box", "dense"])
    if kind == "gaussian":
        return sp.families.gaussian([n / 3 for n in sizes])
    if kind == "box":
        return sp.families.box([3 * n for n in sizes])
    return rng.random([min(n, 4) for n in sizes])


def wrong(case: Case, folder: Path) -> str | None:
    """Filter a case from file to file; return what differs from the verb in memory, if anything."""
    source, x = _source(case, folder)
    mask: Any = case.mask
    if mask is not None and case.number % 2:
        mask = zarr.create_array(
            str(folder / "m.zarr"), data=mask, chunks=tuple(map(min, case.chunks, mask.shape))
        )
    target = _target(case, folder)
    threads, others = case.threads
    plan = sp.stream.plan(
        source,
        case.kernel,
        target=target,
        memory="64GiB",
        mask=mask,
        dtype=case.dtype,
        threads=threads,
        **case.asked,
    )
    plan = cut(plan, case)
    plan.run(target)
    result = _result(target)
    order: Any = "F" if plan.axis else "C"
    known = None if case.mask is None else np.asarray(case.mask != 0, order=order)
    output = np.empty(x.shape, plan.dtype, order)
    expected = sp.correlate(
        x, case.kernel, output=output, method=plan.method, mask=known, threads=others, **case.asked
    )
    try:
        np.testing.assert_array_equal(result, expected)
    except AssertionError as error:
        return f"{case}\n{plan}\n{error}"
    return None


def cut(plan: Any, case: Case) -> Any:
    """Return the plan with the cut of the case, as far as what is read and written allows it."""
    with opened_places(plan._source, plan._target, plan._storage, None) as places:
        traits = Traits.of(plan.filter_plan, places, plan.dtype)
    unit = aligned(traits.thinnest, traits.target_rows) * case.unit
    plan = dataclasses.replace(plan, unit=unit, overlapped=case.overlapped)
    if traits.second is None or not case.width:
        return plan
    width = aligned(traits.thinnest, traits.target_columns) * case.width
    return dataclasses.replace(plan, width=width, strip_bytes=1)


def _source(case: Case, folder: Path) -> tuple[Any, np.ndarray]:
    """Write the samples; return what names them, and the array in the memory order of the file."""
    x, rng = case.x, np.random.default_rng(case.number)
    codec = CODECS[int(rng.integers(len(CODECS)))]
    chunks: tuple[int, ...] = tuple(min(c, n) for c, n in zip(case.chunks, x.shape, strict=True))
    path = folder / "x.zarr"
    if case.source in ("zarr", "shards"):
        shards = tuple(c * int(rng.integers(1, 4)) for c in chunks) if case.source == "shards" else None
        made = zarr.create_array(
            str(path), shape=x.shape, dtype=x.dtype, chunks=chunks, shards=shards, compressors=codec
        )
        made[...] = x
        return path, x
    if case.source == "zarr2":
        order: Any = "F" if rng.random() < 0.5 else "C"
        made = zarr.create_array(
            str(path), shape=x.shape, dtype=x.dtype, chunks=chunks, zarr_format=2, order=order
        )
        made[...] = x
        return path, x
    if case.source == "wide":  # chunks wider than columns
        chunks = (chunks[0], x.shape[1], *chunks[2:])
        zarr.create_array(str(path), data=x, chunks=chunks, compressors=codec)
        return path, x
    if case.source in ("npy", "fortran"):
        x = np.asfortranarray(x) if case.source == "fortran" else x
        np.save(folder / "x.npy", x)
        return folder / "x.npy", x
    if case.source == "nii":
        nib.Nifti1Image(x, np.eye(4), dtype=x.dtype).to_filename(folder / "x.nii")  # type: ignore[no-untyped-call]
        return folder / "x.nii", np.asfortranarray(x)
    if case.source == "h5":
        with h5py.File(folder / "x.h5", "w") as file:
            file.create_dataset("a", data=x, chunks=chunks, compression="gzip", compression_opts=1)
        return folder / "x.h5", x
    return x, x


def _target(case: Case, folder: Path) -> Any:
    dtype = case.dtype or sp.plan(case.kernel, case.x.shape, case.x.dtype, axes=case.asked["axes"]).dtype
    if case.target == "array" or (case.target == "npy" and case.source == "nii"):
        return np.empty(case.x.shape, dtype)
    if case.target == "npy":
        return folder / "y.npy"
    if case.target == "like":
        return folder / "y.zarr"
    chunks = tuple(min(c, n) for c, n in zip(case.target_chunks, case.x.shape, strict=True))
    shards = tuple(2 * c for c in chunks) if case.target == "shards" else None
    made = zarr.create_array(
        str(folder / "y.zarr"), shape=case.x.shape, dtype=dtype, chunks=chunks, shards=shards
    )
    return made


def _result(target: Any) -> np.ndarray:
    if isinstance(target, Path):
        return (
            np.load(target) if target.suffix == ".npy" else np.asarray(zarr.open(str(target), mode="r")[...])
        )
    return np.asarray(target[...])


def run(count: int, first: int) -> list[str]:
    """Return what is wrong in so many cases."""
    said = []
    for number in range(first, first + count):
        with tempfile.TemporaryDirectory() as folder:
            try:
                text = wrong(case(number), Path(folder))
            except Exception:
                text = f"{case(number)}\n{traceback.format_exc()}"
        if text:
            said.append(text)
    return said


def main() -> int:
    """Run the cases that the command line names; 1 if one is wrong."""
    count, first = [*map(int, sys.argv[1:]), *(300, 0)[len(sys.argv) - 1 :]]
    said = run(count, first)
    print("\n\n".join(said))
    print(f"{count} cases from {first} on: {count - len(said)} equal")
    return 1 if said else 0


if __name__ == "__main__":
    sys.exit(main())
