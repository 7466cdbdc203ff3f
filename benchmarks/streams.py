"""Volumes larger than memory: CPU time, memory and bytes of a stream from zarr to zarr.

Each run is a process of its own: CPU seconds are user and system of all its threads between the opening
of the source and the end of the result, and memory is its peak from its start. Beside it stand what decoding
the source and encoding the result take alone: by the codecs themselves on files (numcodecs), and
by zarr-python; and dask-image's `gaussian_filter`, on a volume that may be smaller.

`SEPARABLE_STREAM_SHAPE=1536x1024x1024` says the size (6 GiB), `SEPARABLE_STREAM_PEER_SHAPE` that for
dask-image, `SEPARABLE_STREAM_FOLDER` where volumes lie meanwhile: three times their size.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from benchmarks import libraries
from benchmarks.memory import MIB
from benchmarks.results import Quantity, QuantityRecord

NAME: Final = "stream"
CHILD: Final = Path(__file__).with_name("_stream_run.py")
PROMISES: Final = (300, 1024)  # MiB
ROUNDS: Final = 3
FLOOR: Final = 1.25  # times decoding the source and encoding the result
READ: Final = 1.02  # times the bytes that the source has
LEVELS: Final = 5  # of a pyramid, with the whole picture
PYRAMID: Final = 1.25  # times the CPU of the same filter without smaller levels
PEER: Final = {"zstd": 3.0, "none": 5.0}  # times less than dask-image
QUICK: Final = (32, 40, 48)


class Size(NamedTuple):
    """What is filtered, and in which chunks."""

    shape: tuple[int, ...]
    chunk: int

    @property
    def words(self) -> str:
        """The shape in words."""
        return " x ".join(map(str, self.shape))


def measure(
    run: str,
    quick: bool,
    rounds: int = ROUNDS,
    only: tuple[str, ...] = (),
    progress: Callable[[str], None] = lambda text: None,
) -> QuantityRecord:
    """Return what streams take, compressed and not; nothing where zarr is missing."""
    size = Size(QUICK, 16) if quick else Size(_shape("SHAPE", "256x1024x1024"), 64)
    peer = Size(QUICK, 16) if quick else Size(_shape("PEER_SHAPE", "384x384x384"), 64)
    quantities: list[Quantity] = []
    if libraries.load("zarr") is not None:
        within = os.environ.get("SEPARABLE_STREAM_FOLDER")
        with tempfile.TemporaryDirectory(dir=within, prefix="separable-stream-") as folder:
            for codec in PEER:
                progress(f"stream: {codec}")
                bench = _Bench(Path(folder), codec, min(rounds, ROUNDS), not quick)
                with bench.volume(size):
                    quantities += bench.beside_codecs()
                    quantities += bench.with_levels()
                if libraries.load("dask_image") is not None and libraries.chosen("dask-image", only):
                    with bench.volume(peer):
                        quantities += bench.beside_dask_image(peer)
    words = f"{size.words} float32, chunks of {size.chunk} cubed"
    title = f"Gaussian of sigma 2 from zarr to zarr, {words}, 2 threads"
    return QuantityRecord(NAME, "Volumes larger than memory", title, run, quick, quantities)


def _shape(name: str, otherwise: str) -> tuple[int, ...]:
    return tuple(map(int, os.environ.get(f"SEPARABLE_STREAM_{name}", otherwise).split("x")))


class _Bench:
    """Runs beside each other on a volume in one codec."""

    def __init__(self, folder: Path, codec: str, rounds: int, bounded: bool) -> None:
        self._folder, self._codec, self._rounds, self._bounded = folder, codec, rounds, bounded

    @contextlib.contextmanager
    def volume(self, size: Size) -> Iterator[None]:
        """Have a volume to filter; nothing of it or of what is made of it is left behind."""
        self._run("make", shape=size.shape, chunk=size.chunk, codec=self._codec)
        yield
        for path in self._folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def beside_codecs(self) -> list[Quantity]:
        """Return CPU, memory and bytes read of streams, beside decoding and encoding alone."""
        streams: dict[int, list[dict[str, Any]]] = {promise: [] for promise in PROMISES}
        floors: dict[str, list[float]] = {"codecs": [], "zarr": []}
        for _ in range(self._rounds):
            for promise, results in streams.items():
                results.append(self._run("stream", memory=promise))
            for by, seconds in floors.items():
                decode = self._run("decode", by=by)["cpu"]
                seconds.append(decode + self._run("encode", by=by)["cpu"])
        quantities = []
        for promise, results in streams.items():
            quantities += self._of_stream(promise, results, floors)
        quantities += [
            self._quantity(f"decode and encode alone, by {_names(by)}", seconds, "s", None)
            for by, seconds in floors.items()
        ]
        for made in ("y.zarr", "z.zarr"):
            shutil.rmtree(self._folder / made)
        return quantities

    def _of_stream(
        self, promise: int, results: list[dict[str, Any]], floors: dict[str, list[float]]
    ) -> list[Quantity]:
        label, cut = f"within {promise} MiB", results[0]["cut"]
        seconds = [float(result["cpu"]) for result in results]
        quantities = [self._quantity(f"{label}: CPU time", seconds, "s", None, cut)]
        for by, floor in floors.items():
            ratios = [own / other for own, other in zip(seconds, floor, strict=True)]
            bound = FLOOR if by == "codecs" else None
            name = f"{label}: CPU time over decoding and encoding alone, by {_names(by)}"
            quantities.append(self._quantity(name, ratios, "x", bound))
        peaks = [result["peak"] / MIB for result in results]
        read = [result["read"] / result["stored"] for result in results]
        return [
            *quantities,
            self._quantity(f"{label}: peak memory, with the interpreter", peaks, "MiB", float(promise)),
            self._quantity(f"{label}: bytes read over those of the source", read, "x", READ),
        ]

    def with_levels(self) -> list[Quantity]:
        """Return the CPU time of a stream to an OME-Zarr picture with smaller levels, over one without."""
        quantities: list[Quantity] = []
        for promise in PROMISES:
            runs = [
                [self._picture(promise, smaller) for smaller in (0, LEVELS - 1)] for _ in range(self._rounds)
            ]
            label = f"{LEVELS} levels within {promise} MiB"
            cut = runs[0][1]["cut"]
            seconds, peaks = [run["cpu"] for _, run in runs], [run["peak"] / MIB for _, run in runs]
            ratios = [levels["cpu"] / alone["cpu"] for alone, levels in runs]
            quantities += [
                self._quantity(f"{label}: CPU time", seconds, "s", None, cut),
                self._quantity(f"{label}: CPU time over that without smaller ones", ratios, "x", PYRAMID),
                self._quantity(f"{label}: peak memory, with the interpreter", peaks, "MiB", float(promise)),
            ]
        return quantities

    def _picture(self, promise: int, smaller: int) -> dict[str, Any]:
        """Filter into a picture with so many smaller levels."""
        return self._run("stream", memory=promise, pyramid=smaller, target=str(self._folder / "y.ome.zarr"))

    def beside_dask_image(self, size: Size) -> list[Quantity]:
        """Return the CPU time of a stream over dask-image's, on the same volume."""
        ours, theirs = [], []
        for _ in range(self._rounds):
            ours.append(float(self._run("stream", memory=PROMISES[0])["cpu"]))
            theirs.append(float(self._run("dask-image")["cpu"]))
        ratios = [own / other for own, other in zip(ours, theirs, strict=True)]
        label = f"{size.words}: CPU time within {PROMISES[0]} MiB"
        return [
            self._quantity(label, ours, "s", None),
            self._quantity(f"{size.words}: CPU time of dask-image", theirs, "s", None),
            self._quantity(f"{label} over dask-image's", ratios, "x", 1 / PEER[self._codec]),
        ]

    def _quantity(
        self, label: str, values: list[float], unit: str, bound: float | None, note: str = ""
    ) -> Quantity:
        figures = statistics.median(values), min(values), max(values)
        return Quantity(f"{self._codec}, {label}", *figures, unit, bound if self._bounded else None, note)

    def _run(self, what: str, **how: Any) -> dict[str, Any]:
        """Do one thing in a process of its own; return what it prints."""
        paths = {"source": str(self._folder / "x.zarr"), "target": str(self._folder / "y.zarr")}
        job = json.dumps({"what": what, "floor": str(self._folder / "z.zarr"), **paths, **how})
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        done = subprocess.run(
            [sys.executable, str(CHILD), job], capture_output=True, text=True, env=environment, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{what}: {done.stderr}")
        result: dict[str, Any] = json.loads(done.stdout)
        return result


def _names(by: str) -> str:
    return {"codecs": "the codecs and files", "zarr": "zarr-python"}[by]
