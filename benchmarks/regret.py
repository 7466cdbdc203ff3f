"""How much slower the way that a plan chooses is than the best of all ways it could have chosen.

For each kernel and array every way is timed that runs the kernel within the same tolerance. The plan's own
choice is one of them: regret is its time over the least, less one.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from benchmarks import machine
from benchmarks.results import Quantity, QuantityRecord
from benchmarks.timing import Effort, Stopwatch, interleave
from benchmarks.works import Array, aligned

SIZES = (3, 5, 9, 15, 25, 41, 65, 101)
IMAGES = tuple((n, n) for n in (64, 256, 1024, 4096))
VOLUMES = tuple((n, n, n) for n in (64, 128, 256, 384))
QUICK_SIZES = (3, 15)
THREADS = (1, 2)

# Where the choice looks bad it is timed again, longer: the worst of hundreds is what noise made of one.
AGAIN = Effort(rounds=40, seconds=0.6, min_rounds=8)

# Hundreds of cells: a few rounds of each; ways that are predicted to take so many times the least are left
# out, and calls that turn out to take `SLOWER` times the least are timed once.
EFFORT = Effort(rounds=5, seconds=0.06, min_rounds=1)
HOPELESS = 6.0
SLOWER = 2.0

MEDIAN, WORST = 5.0, 30.0  # per cent, promised


@dataclass(frozen=True)
class Kind:
    """A kind of kernel: its weights, for so many taps along each of so many axes, and the error allowed."""

    name: str
    weights: Callable[[int, int], Any]
    tol: float | None = None
    largest: int = 101  # taps along an axis of a volume


@dataclass(frozen=True)
class Cell:
    """Seconds of each way to run one kernel on one array, and which of them the plan takes."""

    kind: str
    taps: int
    shape: tuple[int, ...]
    threads: int
    seconds: dict[str, float]
    chosen: str

    @property
    def regret(self) -> float:
        """Per cent."""
        return 100 * (self.seconds[self.chosen] / min(self.seconds.values()) - 1)

    @property
    def label(self) -> str:
        """The cell in words."""
        best = min(self.seconds, key=lambda method: self.seconds[method])
        shape = " x ".join(map(str, self.shape))
        return (
            f"{self.kind} of {self.taps} taps on {shape}, {self.threads} thr.: {self.chosen}, {best} is best"
        )


def measure(
    run: str, quick: bool = False, progress: Callable[[str], None] = lambda text: None
) -> QuantityRecord:
    """Time every cell of the grid and summarise the regrets."""
    found: list[Cell] = []
    shapes = ((64, 64), (24, 24, 24)) if quick else (*IMAGES, *VOLUMES)
    for shape in shapes:
        x = np.random.default_rng(5).random(shape, np.float32)
        out = aligned(shape, "float32")
        for kind, taps in itertools.product(KINDS, QUICK_SIZES if quick else SIZES):
            if _fits(kind, taps, shape):
                progress(f"regret: {kind.name} of {taps} taps on {shape}")
                found += _cells(kind, taps, x, out, quick)
    title = "Time of the chosen way over that of the best, less one"
    return QuantityRecord("regret", "Plans", title, run, quick, list(_quantities(found, quick)))


def _fits(kind: Kind, taps: int, shape: Sequence[int]) -> bool:
    return taps < 2 * min(shape) and (len(shape) == 2 or taps <= kind.largest)


def _cells(kind: Kind, taps: int, x: Array, out: Array, quick: bool) -> Iterator[Cell]:
    kernel = kind.weights(taps, x.ndim)
    for threads in (n for n in THREADS if n <= machine.usable_cores()):
        yield _cell(kind, taps, kernel, x, out, threads, quick)


def _cell(kind: Kind, taps: int, kernel: Any, x: Array, out: Array, threads: int, quick: bool) -> Cell:
    import separable

    chosen = separable.plan(kernel, x.shape, x.dtype, tol=kind.tol, threads=threads)
    predicted = {c.method: c.seconds for c in chosen.explain().candidates if c.seconds is not None}
    limit = HOPELESS * min(predicted.values())
    plans = {
        way: separable.plan(kernel, x.shape, x.dtype, tol=kind.tol, method=cast(Any, way), threads=threads)
        for way, seconds in predicted.items()
        if seconds <= limit
    }
    calls = [functools.partial(plan, x, out, threads) for plan in plans.values()]
    watches = [Stopwatch(_nothing, call) for call in calls]
    for watch in watches:
        watch.first()
    quickest = min(watch.estimate for watch in watches)
    close = [watch for watch in watches if watch.estimate <= SLOWER * quickest]
    for watch in watches:
        if watch not in close:
            watch.samples.append(watch.estimate)
    interleave(close, Effort(1, 0.0, 1) if quick else EFFORT)
    cell = Cell(kind.name, taps, x.shape, threads, _seconds(plans, watches), chosen.method)
    if cell.regret <= WORST / 2 or quick:
        return cell
    interleave(close, AGAIN)
    return dataclasses.replace(cell, seconds=_seconds(plans, watches))


def _seconds(plans: Mapping[str, Any], watches: Sequence[Stopwatch]) -> dict[str, float]:
    return {way: watch.timing().median for way, watch in zip(plans, watches, strict=True)}


def _quantities(cells: Sequence[Cell], quick: bool) -> Iterator[Quantity]:
    worst = max(cells, key=lambda cell: cell.regret)
    yield _of("median of all", [c.regret for c in cells], None if quick else MEDIAN, f"{len(cells)} cells")
    yield Quantity(
        "worst", worst.regret, worst.regret, worst.regret, "%", None if quick else WORST, worst.label
    )
    for name in dict.fromkeys(cell.kind for cell in cells):
        own = [cell for cell in cells if cell.kind == name]
        taken = Counter(cell.chosen for cell in own)
        ways = ", ".join(f"{way} {count}" for way, count in taken.most_common())
        yield _of(f"median, {name}", [cell.regret for cell in own], None, f"chosen: {ways}")
    for cell in sorted(cells, key=lambda cell: -cell.regret)[1:8]:
        if cell.regret > WORST / 2:
            yield Quantity("also", cell.regret, cell.regret, cell.regret, "%", None, cell.label)


def _of(label: str, regrets: Sequence[float], bound: float | None, note: str) -> Quantity:
    low, middle, high = (float(value) for value in np.percentile(regrets, (25, 50, 75)))
    return Quantity(label, middle, low, high, "%", bound, note)


def _nothing() -> None:
    """Prepare nothing."""


# ---------------------------------------------------------------- kernels


def _gaussian(taps: int, ndim: int) -> Any:
    import separable

    return separable.families.gaussian(taps / 8, ndim=ndim, radius=taps // 2)


def _laplacian(taps: int, ndim: int) -> Any:
    import separable

    return separable.families.laplacian_of_gaussian(taps / 8, ndim=ndim, radius=max(taps // 2, 2))


def _box(taps: int, ndim: int) -> Any:
    import separable

    return separable.families.box(taps, ndim=ndim)


def _noise(taps: int, ndim: int) -> Array:
    return np.asarray(np.random.default_rng(taps).standard_normal((taps,) * ndim))


def _disk(taps: int, ndim: int) -> Array:
    squares = sum(axis**2 for axis in _grid(taps, ndim))
    inside = (np.asarray(squares) <= (taps // 2) ** 2).astype(float)
    return np.asarray(inside / inside.sum())


def _tilted(taps: int, ndim: int) -> Array:
    """Return a Gaussian of 5:2, its long axis at 30 degrees in the last two axes."""
    *others, y, x = _grid(taps, ndim)
    along = math.cos(math.pi / 6) * x + math.sin(math.pi / 6) * y
    across = math.cos(math.pi / 6) * y - math.sin(math.pi / 6) * x
    width = taps / 8
    squares = (along / width) ** 2 + (across / (0.4 * width)) ** 2 + sum((z / width) ** 2 for z in others)
    values = np.exp(-0.5 * np.asarray(squares))
    return np.asarray(values / values.sum())


def _grid(taps: int, ndim: int) -> list[Array]:
    return list(np.meshgrid(*[np.arange(taps) - taps // 2] * ndim, indexing="ij"))


KINDS = (
    Kind("Gaussian", _gaussian),
    Kind("Gaussian, tol 1e-3", _gaussian, 1e-3),
    Kind("Laplacian of Gaussian", _laplacian),
    Kind("box", _box),
    Kind("disk", _disk, largest=15),
    Kind("tilted Gaussian, tol 1e-3", _tilted, 1e-3, largest=15),
    Kind("noise", _noise, largest=15),
)
