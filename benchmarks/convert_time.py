"""What a conversion takes: seconds, processor seconds and memory, each network in a process of its own."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

import separable as sp
from benchmarks import engine_networks, libraries
from benchmarks.results import Quantity, QuantityRecord
from separable.report.progress import Pace

NAME = "convert-time"
BUDGET = 0.25  # of the MACs
INPUTS: Mapping[str, int] = {"four convolutions": 128, "resnet-18": 256}
BOUNDS: Mapping[str, float] = {"four convolutions": 4.0, "resnet-18": 60.0}  # seconds
PHOTOS = ("astronaut", "coffee", "chelsea", "rocket", "camera", "coins", "brick", "grass", "gravel")


def measure(run: str, quick: bool, progress: Callable[[str], None] = lambda text: None) -> QuantityRecord:
    """Convert networks to a quarter of their MACs with all threads, and tell what that took."""
    quantities = []
    missing = not all(map(libraries.load, ("torch", "skimage")))
    for name in () if missing else list(INPUTS)[: 1 if quick else None]:
        inputs = 16 if quick else INPUTS[name]
        progress(f"{NAME}: {name}, {inputs} inputs")
        child = [sys.executable, "-m", "benchmarks.convert_time", name, str(inputs)]
        took = json.loads(subprocess.run(child, check=True, capture_output=True, text=True).stdout)
        least, most = took["remaining"]
        note = (
            f"{took['cpu']:.0f} s of processor time, peak {took['peak_mib']} MiB; one pass of the inputs "
            f"takes {took['one_pass']:.1f} s; outputs change by {took['change']:.2g} of their variance; "
            f"the time that was said to remain was {least:.2g} to {most:.2g} of what did, from a tenth to "
            f"nine tenths of the way"
        )
        bound = None if quick else BOUNDS[name]
        seconds = took["seconds"]
        quantities.append(Quantity(f"{name}, {inputs} inputs", seconds, seconds, seconds, "s", bound, note))
    title = f"Time of a conversion to {BUDGET:g} of the MACs, random weights, photographs, all threads"
    return QuantityRecord(NAME, "Conversion", title, run, quick, quantities)


def network(name: str) -> tuple[Any, int]:
    """Return a network with smooth random kernels, and the length of its pictures."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    if name == "four convolutions":
        widths = (3, 64, 64, 128, 128)
        layers: list[nn.Module] = []
        for c_in, c_out in itertools.pairwise(widths):
            layers += [nn.Conv2d(c_in, c_out, 3, padding=1), nn.ReLU()]
        model, size = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10)), 32
    else:
        of = engine_networks.named(name)
        model, size = engine_networks.module(of, "folded"), of.shape[1]
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, nn.Conv2d) and layer.kernel_size != (1, 1):
                weight = torch.randn_like(layer.weight)
                weight = weight + weight.roll(1, 2) + weight.roll(1, 3)
                layer.weight.copy_(weight * (2 / (3 * weight[0].numel())) ** 0.5)
    return model.eval(), size


def photographs(count: int, size: int, seed: int = 0) -> np.ndarray[Any, Any]:
    """Return squares cut at random from the pictures that scikit-image brings, float32, about -2 to 2."""
    from skimage import data

    rng = np.random.default_rng(seed)
    photos = [np.atleast_3d(getattr(data, name)())[..., :3] / np.float32(255) for name in PHOTOS]
    squares = np.empty((count, 3, size, size), np.float32)
    for square in squares:
        photo = photos[rng.integers(len(photos))]
        y, x = (rng.integers(length - size + 1) for length in photo.shape[:2])
        square[:] = photo[y : y + size, x : x + size].transpose(2, 0, 1)
    return (squares - 0.45) / 0.25


class Remaining:
    """Compares the time that is said to remain, as a bar says it, with what did remain."""

    def __init__(self) -> None:
        self._seen: list[tuple[float, float | None]] = []
        self._pace = Pace()
        self._start = time.perf_counter()

    def __call__(self, done: int, total: int, step: str) -> None:
        """Note one report of progress."""
        now = time.perf_counter() - self._start
        self._pace.note(now, done, total)
        self._seen.append((now, self._pace.remaining))

    def ratios(self) -> tuple[float, float]:
        """Return the least and the largest ratio, from a tenth to nine tenths of the whole time."""
        end = time.perf_counter() - self._start
        ratios = [
            said / (end - now)
            for now, said in self._seen
            if 0.1 * end <= now <= 0.9 * end and said is not None
        ]
        return min(ratios, default=np.nan), max(ratios, default=np.nan)


def main(arguments: Sequence[str]) -> None:
    """Convert one network and print what that took as JSON."""
    import resource

    import torch

    name, inputs = arguments[0], int(arguments[1])
    model, size = network(name)
    x = torch.from_numpy(photographs(inputs, size))
    with torch.no_grad():
        model(x[:16])
        start = time.perf_counter()
        for batch in torch.split(x, 16):
            model(batch)
        one_pass = time.perf_counter() - start
    remaining = Remaining()
    start, cpu = time.perf_counter(), time.process_time()
    done = sp.nn.separate(model, x, BUDGET, by="macs", progress=remaining)
    print(
        json.dumps(
            {
                "seconds": time.perf_counter() - start,
                "cpu": time.process_time() - cpu,
                "one_pass": one_pass,
                "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
                "change": done.report.output_change,
                "remaining": remaining.ratios(),
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1:])
