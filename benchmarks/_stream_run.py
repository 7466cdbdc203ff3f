"""Child process of :mod:`benchmarks.streams`: one job on a volume of zarr; prints what it took."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

THREADS = 2
_DRAWN = 256  # indices along the second and the third axis for which counts are drawn; then they repeat


def main(job: dict[str, Any]) -> None:
    """Do `job`, and print CPU seconds, peak memory in bytes, and what else is of interest."""
    if job["what"] in ("make", "stream", "dask-image"):
        shutil.rmtree(job["target"], ignore_errors=True)
    shutil.rmtree(job["floor"], ignore_errors=True)
    jobs: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
        "make": _make,
        "stream": _stream,
        "decode": _decode,
        "encode": _encode,
        "dask-image": _dask_image,
    }
    print(json.dumps({**jobs[job["what"]](job), "peak": _peak()}))


def _make(job: dict[str, Any]) -> dict[str, Any]:
    """Write counts of photons on a smooth ground: they compress to about 0.3, what is filtered to 0.8."""
    import zarr

    shape, chunk = tuple(job["shape"]), job["chunk"]
    codecs: Any = "auto" if job["codec"] == "zstd" else None
    made = zarr.create_array(
        job["source"], shape=shape, dtype="f4", chunks=(chunk,) * 3, compressors=codecs, overwrite=True
    )
    rng = np.random.default_rng(2024)
    z, y, x = np.ogrid[:chunk, : min(shape[1], _DRAWN), : min(shape[2], _DRAWN)]
    block = rng.poisson(100 + 60 * np.sin(z / 31) * np.cos(y / 47) * np.sin(x / 29)).astype(np.float32)
    times = (1, *(-(-n // _DRAWN) for n in shape[1:]))
    layer = np.tile(block, times)[:, : shape[1], : shape[2]]
    for begin in range(0, shape[0], chunk):  # the same counts, elsewhere: drawing them takes longest
        moved = np.roll(layer, tuple(rng.integers(0, shape[1:])), axis=(1, 2))
        made[begin : begin + chunk] = moved[: shape[0] - begin]
    return {}


def _stream(job: dict[str, Any]) -> dict[str, Any]:
    """Filter from file to file, and count what is read of the source."""
    import zarr  # noqa: F401  # importing it counts for nobody

    import separable as sp
    import separable.stream.ome.target
    from separable.stream.chunks import reader as module

    reader: Any = module
    read, fill = 0, reader.fill_from

    def counted(handle: int, into: memoryview, place: int) -> int:
        nonlocal read
        count: int = fill(handle, into, place)
        read += count
        return count

    reader.fill_from = counted
    kernel = sp.families.gaussian([2.0, 2.0, 2.0])
    small = np.ones((8, 8, 8), np.float32)
    sp.stream.filter(
        small, np.empty_like(small), kernel, memory="4GiB"
    )  # loads modules: that counts for nobody
    before = _cpu()
    asked: dict[str, Any] = {"memory": f"{job['memory']}MiB", "threads": THREADS}
    if "pyramid" in job:
        asked["pyramid"] = job["pyramid"]
    plan = sp.stream.plan(job["source"], kernel, target=job["target"], **asked)
    plan.run()
    cpu = _cpu() - before
    cuts = [line for line in str(plan).splitlines() if line.startswith(("slabs", "columns", "parts"))]
    stored = sum(os.stat(path).st_size for path in _chunks(job["source"]))
    return {
        "cpu": cpu,
        "read": read,
        "stored": stored,
        "cut": "; ".join(" ".join(cut.split()) for cut in cuts),
    }


def _decode(job: dict[str, Any]) -> dict[str, Any]:
    """Decode all chunks, one after the other, on one thread."""
    import zarr

    array: Any = zarr.open(job["source"], mode="r")
    if job["by"] == "zarr":
        before = _cpu()
        for box in _boxes(array):
            array[box]
        return {"cpu": _cpu() - before}
    codecs, into = _codecs(array), np.empty(array.chunks, array.dtype)
    flat, data = into.reshape(-1).view(np.uint8), bytearray(2 * into.nbytes)
    before = _cpu()
    for path in _chunks(job["source"]):
        with open(path, "rb", buffering=0) as file:
            size = file.readinto(data)
        view = memoryview(data)[:size]
        if codecs:
            codecs[0].decode(view, flat)
        else:
            flat[...] = np.frombuffer(view, np.uint8)
    return {"cpu": _cpu() - before}


def _encode(job: dict[str, Any]) -> dict[str, Any]:
    """Encode and write all chunks of the result, one after the other, on one thread."""
    import zarr

    array: Any = zarr.open(job["target"], mode="r")
    into = zarr.create_array(
        job["floor"], shape=array.shape, dtype=array.dtype, chunks=array.chunks, compressors=array.compressors
    )
    codecs, cpu = _codecs(array), 0.0
    for box in _boxes(array):
        chunk = array[box]
        before = _cpu()
        if job["by"] == "zarr":
            into[box] = chunk
        else:
            place = Path(
                job["floor"], "c", *(str(s.start // c) for s, c in zip(box, array.chunks, strict=True))
            )
            place.parent.mkdir(parents=True, exist_ok=True)
            full = chunk if chunk.shape == array.chunks else np.resize(chunk, array.chunks)
            data: Any = codecs[0].encode(full) if codecs else full
            with open(place, "wb", buffering=0) as file:
                file.write(data)
        cpu += _cpu() - before
    return {"cpu": cpu}


def _dask_image(job: dict[str, Any]) -> dict[str, Any]:
    import dask
    import dask.array
    import zarr
    from dask_image.ndfilters import gaussian_filter

    source: Any = zarr.open(job["source"], mode="r")
    target = zarr.create_array(
        job["target"], shape=source.shape, dtype="f4", chunks=source.chunks, compressors=source.compressors
    )
    da: Any = dask.array
    before = _cpu()
    with dask.config.set(scheduler="threads", num_workers=THREADS):
        da.store(gaussian_filter(da.from_array(source, chunks=source.chunks), 2.0), target, lock=False)
    return {"cpu": _cpu() - before}


def _codecs(array: Any) -> list[Any]:
    import numcodecs

    return [numcodecs.Zstd(level=codec.level) for codec in array.compressors]


def _boxes(array: Any) -> Iterator[tuple[slice, ...]]:
    ranges = (range(0, n, chunk) for n, chunk in zip(array.shape, array.chunks, strict=True))
    for first in itertools.product(*ranges):
        ends = (min(i + c, n) for i, c, n in zip(first, array.chunks, array.shape, strict=True))
        yield tuple(slice(i, end) for i, end in zip(first, ends, strict=True))


def _chunks(folder: str) -> list[Path]:
    return sorted(path for path in Path(folder, "c").rglob("*") if path.is_file())


def _cpu() -> float:
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _peak() -> int:
    """Return the most memory that this process has held, in bytes; not its parent's, as ru_maxrss would."""
    with open("/proc/self/status", encoding="ascii") as lines:
        values = dict(line.split(":", 1) for line in lines)
    return int(values["VmHWM"].split()[0]) * 1024


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
