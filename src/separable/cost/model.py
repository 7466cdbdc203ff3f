"""Predicted time of each method of filtering on this machine, in nanoseconds.

A method is described by a few counts (passes, taps, weights, samples transformed), a machine by one rate for
each count: the predicted time is their scalar product. ``separable calibrate`` (`separable.calibrate`)
measures the rates once and keeps them in the user's cache directory; without it, the rates of a reference
machine with the same instruction set are used. Only ratios of times decide which method is chosen.
"""

from __future__ import annotations

import functools
import json
import math
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from .._core import core_info

Counts = Mapping[str, float]

# Work in nanoseconds that pays for waking one more thread.
THREAD_GRAIN: Final = 20_000

# The rates, measured for float32 and for float64: nanoseconds on one thread, per unit of each count.
RATES: Final = (
    "call",  # one call, whatever the method
    "setup",  # per pass and call of a sum of terms
    "sample",  # per sample: reading and writing it once, for all passes of a sum of terms
    "distant",  # per sample, for passes and dense sweeps whose arrays exceed the L3 cache
    "volume",  # extra per sample and pass in arrays of more than two axes
    "edge",  # per sample and pass
    "along",  # per multiplication along the contiguous axis; (anti)symmetric taps take one per pair
    "down",  # per multiplication along the second last axis
    "deep",  # per multiplication along the axes before it
    "few",  # extra per sample and pass of fewer than `_FEW_TAPS` taps along the contiguous axis
    "pair",  # per addition of the two samples that share an (anti)symmetric tap
    "sweep",  # per weight and call of a dense sweep
    "dense",  # per sample of a dense sweep
    "weight",  # per sample and weight of a dense sweep
    "folded",  # per sample and weight of a dense sweep whose columns of weights are (anti)symmetric
    "running",  # factor on the nanoseconds that running sums and oscillators state for themselves
    "hauled",  # per sample and pass of these, times the share of the sums that exceeds the caches
    "pages",  # per sample of the array between two filters: page faults of memory new in every call
    "block",  # per FFT block, forward and inverse
    "axis",  # per sample of a block and transformed axis
    "level",  # per sample of a block, times log2 of the transform's size
    "stack",  # extra per sample of a block where more than two axes are transformed
    "spilled",  # extra per sample of a block, times the squared share that exceeds the caches
)

# Taps along the contiguous axis below which the core loads shifted vectors one by one, which is slower.
_FEW_TAPS: Final = 5

# Parallel efficiency of the second and further threads: of arithmetic, memory traffic, a single FFT block.
_SHARE: Final = 0.9
_SHARE_OF_MEMORY: Final = 0.3
_SHARE_OF_ONE_BLOCK: Final = 0.5
_SMALL_BLOCK: Final = 2e7  # nanoseconds of a single FFT block below which more threads gain nothing

SCHEMA: Final = 1

_PAGES: Final = (
    0.8  # "pages" over "running" in files that lack the former: nanoseconds, with "running" about 1
)

# Rates of a reference machine by instruction set, for machines not calibrated; and the set for unknown ones.
_BUNDLED: Final = Path(__file__).with_name("rates.json")
_NEAREST: Final = "v3"


class Rates(NamedTuple):
    """The rates of one dtype on one machine, its cache sizes, and the source of the rates."""

    values: Mapping[str, float]
    l2: float  # bytes
    l3: float
    source: str

    def cost(self, counts: Mapping[str, Any]) -> Any:
        """Return the nanoseconds of `counts` (numbers or arrays): their scalar product with the rates."""
        return sum(count * self.values[name] for name, count in counts.items())


@dataclass(frozen=True, eq=False, slots=True)
class MachineRates:
    """The rates of one machine, by which methods are chosen; plans keep them."""

    float32: Rates
    float64: Rates

    def rates(self, dtype: np.dtype[Any]) -> Rates:
        """Return the rates for arrays of the working dtype `dtype`."""
        return self.float32 if dtype.char in "fF" else self.float64


class PredictedCost(NamedTuple):
    """The counts of one call, and its predicted time."""

    counts: Counts
    rates: Rates
    blocks: int | None = None  # largest number of parallel tasks; None: no limit

    @property
    def nanoseconds(self) -> float:
        """Predicted nanoseconds of one call on one thread."""
        return float(self.rates.cost(self.counts))

    @property
    def busy_threads(self) -> int:
        """Number of threads that the work keeps busy."""
        return max(1, int(self.nanoseconds - self._of("call")) // THREAD_GRAIN)

    def seconds(self, threads: int) -> float:
        """Return the predicted time of one call on `threads` threads."""
        count = max(1, min(threads, self.busy_threads))
        parallel = 1 + _SHARE * (count - 1)
        if self.blocks == 1:
            parallel = 1 + _SHARE_OF_ONE_BLOCK * (count - 1) * (self.nanoseconds > _SMALL_BLOCK)
        elif self.blocks is not None:
            parallel = min(parallel, self.blocks / math.ceil(self.blocks / count))
        alone, distant = self._of("call"), self._of("distant") + self._of("hauled")
        shared = self.nanoseconds - alone - distant
        return 1e-9 * (alone + distant / (1 + _SHARE_OF_MEMORY * (count - 1)) + shared / parallel)

    def _of(self, name: str) -> float:
        return float(self.counts.get(name, 0.0) * self.rates.values[name])


class Pass(NamedTuple):
    """One pass of a sum of terms: its axis, counted from the last (0), and its taps."""

    place: int
    taps: npt.NDArray[Any]


def of_passes(passes: Iterable[Pass]) -> dict[str, float]:
    """Return the counts per sample of `passes`."""
    counts = {
        "sample": 1.0,
        "edge": 0.0,
        "along": 0.0,
        "down": 0.0,
        "deep": 0.0,
        "pair": 0.0,
        "few": 0.0,
    }
    for place, taps in passes:
        n = taps.size
        if n == 1:
            continue
        folds = np.array_equal(taps, taps[::-1]) or np.array_equal(taps, -taps[::-1])
        multiplications = (n + 1) // 2 if folds else n
        counts["edge"] += 1
        counts[("along", "down", "deep")[min(place, 2)]] += multiplications
        counts["pair"] += n - multiplications
        counts["few"] += place == 0 and n < _FEW_TAPS
    return counts


def of_weights(weights: int, folded: bool) -> dict[str, float]:
    """Return the counts per sample of a dense sweep."""
    return {"dense": 1.0, "folded" if folded else "weight": float(weights)}


def of_running(nanoseconds: float, passes: int, samples: int, rates: Rates) -> dict[str, float]:
    """Return the counts per sample of running sums and oscillators over `samples` samples.

    Their sums are float64; the share of them that misses the caches rises with the logarithm of the size,
    from 0 at half of the L2 cache to 1 at the L3.
    """
    beyond = math.log(max(16 * samples / rates.l2, 1.0)) / math.log(2 * rates.l3 / rates.l2)
    return {"running": nanoseconds, "hauled": passes * min(beyond, 1.0)}


def of_block(
    samples: npt.NDArray[Any], transformed: npt.NDArray[Any], axes: int, item: int, rates: Rates
) -> dict[str, npt.NDArray[Any]]:
    """Return the counts of each FFT block, forward and inverse.

    Parameters
    ----------
    samples, transformed : ndarray
        Number of samples of each staged block, and of one of its transforms.
    axes : int
        Number of transformed axes.
    item : int
        Bytes of a sample.
    rates : Rates
        Give the sizes of the caches.
    """
    # The working set: staged samples, spectrum, its copy and the result. The share that misses the caches
    # rises with the logarithm of its size, from 0 at the L2 cache to 1 at the L3.
    size = 4.0 * item * samples
    spilled = np.clip(np.log(size / rates.l2) / math.log(4 * rates.l3 / rates.l2), 0, 1)
    return {
        "block": np.ones(samples.shape),
        "axis": axes * samples,
        "stack": samples * float(axes > 2),
        "level": samples * np.log2(np.maximum(transformed, 2)),
        "spilled": samples * spilled**2,
    }


def of_sweep(per_sample: Counts, samples: int, volume: bool, distant: bool, rates: Rates) -> PredictedCost:
    """Return the cost of passes or of a dense sweep whose counts per sample are `per_sample`.

    Parameters
    ----------
    per_sample : mapping
        From `of_passes` or `of_weights`.
    samples : int
        Number of samples of the array.
    volume, distant : bool
        Whether the array has more than two axes; whether it exceeds the caches.
    rates : Rates
    """
    # A dense sweep reads a volume as three passes do.
    volumes = per_sample.get("edge", 3.0) * volume
    counts = {**per_sample, "volume": volumes, "distant": float(distant)}
    weights = counts.get("weight", 0.0) + counts.get("folded", 0.0)
    return of_call(counts, samples, rates, {"setup": counts.get("edge", 0.0), "sweep": weights})


def of_call(
    per_sample: Counts, samples: int, rates: Rates, once: Counts = MappingProxyType({})
) -> PredictedCost:
    """Return the cost of one call: `per_sample` times `samples`, plus the counts `once` a call."""
    counts = {name: samples * count for name, count in per_sample.items()}
    return PredictedCost({"call": 1.0, **once, **counts}, rates)


def machine() -> MachineRates:
    """Return the rates of this machine."""
    return _rates(core_info()["target"], os.environ.get("SEPARABLE_CACHE_DIR", ""))


@functools.lru_cache(maxsize=16)
def _rates(target: str, folder: str) -> MachineRates:
    file = cache_file()  # in `folder`, where that is not empty
    caches = core_info()["caches"]
    l2, l3 = float(caches["l2"]), float(caches["l3"] or 4 * caches["l2"])
    entry = load(file).get(target)
    source = f"measured on this machine, kept in {file}"
    if entry is None:
        bundled = load(_BUNDLED, anywhere=True)
        near = target if target in bundled else _NEAREST
        entry = bundled[near]
        source = f"of another machine ({near}): `separable calibrate` measures this one"
    return MachineRates(Rates(entry["float32"], l2, l3, source), Rates(entry["float64"], l2, l3, source))


def cache_file() -> Path:
    """Return the path of this machine's rates, in SEPARABLE_CACHE_DIR or the user's cache directory."""
    chosen = os.environ.get("SEPARABLE_CACHE_DIR", "")
    if chosen:
        return Path(chosen) / "costs.json"
    if sys.platform == "win32":
        folder = Path(os.environ.get("LOCALAPPDATA", "") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        folder = Path.home() / "Library" / "Caches"
    else:
        folder = Path(os.environ.get("XDG_CACHE_HOME", "") or Path.home() / ".cache")
    return folder / "separable" / "costs.json"


def load(file: Path, anywhere: bool = False) -> dict[str, dict[str, dict[str, float]]]:
    """Return the rates in a file by instruction set and dtype.

    Empty where the file is missing, incomplete or, unless `anywhere`, of another machine.
    """
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        return {}
    if not anywhere and data.get("machine") != fingerprint():
        return {}
    rates = data.get("rates")
    if isinstance(rates, dict):
        rates = {target: _completed(entry) for target, entry in rates.items()}
        if all(map(_whole, rates.values())):
            return rates
    return {}


def _completed(entry: Any) -> Any:
    """Return an entry of a file of an earlier version with the rates that it lacks."""
    if not isinstance(entry, dict):
        return entry
    return {dtype: completed(rates) if isinstance(rates, dict) else rates for dtype, rates in entry.items()}


def completed(rates: Mapping[str, float]) -> Mapping[str, float]:
    """Return `rates` with one for page faults, which earlier versions derived from "running"."""
    running = rates.get("running")
    if "pages" in rates or not isinstance(running, (int, float)):
        return rates
    return {**rates, "pages": _PAGES * running}


def _whole(entry: Any) -> bool:
    """Return whether `entry` holds all rates of both dtypes, finite and >= 0."""
    return isinstance(entry, dict) and all(
        isinstance(entry.get(dtype), dict)
        and set(entry[dtype]) == set(RATES)
        and all(isinstance(value, (int, float)) and 0 <= value < math.inf for value in entry[dtype].values())
        for dtype in ("float32", "float64")
    )


def save(file: Path, rates: Mapping[str, Mapping[str, Mapping[str, float]]]) -> None:
    """Write measured rates to `file`, atomically."""
    from .._base.atomic import replacing  # slower to import than all of this package

    file.parent.mkdir(parents=True, exist_ok=True)
    data = {"schema": SCHEMA, "machine": fingerprint(), "rates": rates}
    with replacing(file) as draft:
        draft.write_text(json.dumps(data, indent=1), encoding="utf-8")
    _rates.cache_clear()


def fingerprint() -> dict[str, Any]:
    """Return the properties that invalidate measured rates when they change: processor, compiler, FFT."""
    import importlib.util

    info = core_info()
    return {
        "caches": dict(info["caches"]),
        "targets": list(info["targets"]),
        "compiler": info["compiler"],
        "scipy": importlib.util.find_spec("scipy") is not None,
    }


def fit(counts: Sequence[Counts], nanoseconds: Sequence[float], names: Sequence[str]) -> dict[str, float]:
    """Return rates >= 0 for `names` that predict `nanoseconds` with least squares of relative errors.

    Cyclic coordinate descent on the normal equations: for some twenty rates it takes milliseconds.
    """
    table = np.array([[row.get(name, 0.0) for name in names] for row in counts])
    table /= np.asarray(nanoseconds, float)[:, None]
    scale = np.sqrt(np.square(table).sum(axis=0))
    scale[scale == 0] = 1.0
    table /= scale
    gram, target = table.T @ table, table.sum(axis=0)
    rates = np.zeros(len(names))
    for _ in range(5000):
        for n in np.flatnonzero(np.diag(gram)):
            rates[n] = max(0.0, rates[n] + (target[n] - gram[n] @ rates) / gram[n, n])
    return dict(zip(names, map(float, rates / scale), strict=True))
